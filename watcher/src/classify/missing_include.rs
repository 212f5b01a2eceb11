//! # What it detects
//! An `include` or `require` of a file that is not there.
//!
//! # Why it matters
//! A failed `require` ends the request with a fatal error; a failed `include` goes on without the code, and answers
//! 200 with a broken page.
//!
//! # Signals
//! ENOENT of an open in the form that PHP's file wrapper has when it reads: by a program that runs PHP, read-only and
//! without O_CLOEXEC, O_DIRECTORY or O_CREAT (main/streams/plain_wrapper.c). PHP opens a missing include exactly once
//! per evaluation, at the last place where it looked.
//!
//! # False positives
//! `fopen`, `file_get_contents` and a silenced `@include` make the same system call. Without PHP's own state they
//! cannot be told apart, so the finding is marked as likely.
//!
//! # Fix
//! Put the file where it is looked for, or correct the name in the script that asks for it.

use super::{Diagnosis, has_the_form_of_an_include, is_named_as_code};
use crate::{
    enrich::Event,
    finding::{Category, Confidence, Severity},
    record::names::ENOENT,
    text::visible,
};

pub fn detect(event: &Event) -> Option<Diagnosis> {
    (event.open.errno == ENOENT && has_the_form_of_an_include(event)).then_some(Diagnosis {
        category: Category::MissingInclude,
        // Code that is missing ends the request more often than not; of other files nothing is known.
        severity: if is_named_as_code(event) { Severity::Critical } else { Severity::Warning },
        confidence: Confidence::Likely,
        summary,
    })
}

fn summary(event: &Event) -> String {
    format!("PHP cannot read {}: there is no such file", visible(event.open.best_path()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        classify::test::{check, event, event_of},
        record::{names::OpenFlags, sample::OpenSample},
    };
    use watcher_ebpf::config::sapi;

    const TYPO: &str = "/var/www/html/wp-includes/class-wp-locale.phpp";

    #[test]
    fn a_plain_read_of_nothing_is_one() {
        let sentence = "PHP cannot read /var/www/html/wp-includes/class-wp-locale.phpp: there is no such file";
        for kind in [sapi::APACHE, sapi::FPM, sapi::CGI, sapi::CLI] {
            let event = event_of(OpenSample::new(TYPO).sapi(kind));
            check(&event, Some((Category::MissingInclude, sentence)));
        }
        check(&event(TYPO, ENOENT, OpenFlags::LARGEFILE), Some((Category::MissingInclude, sentence)));
    }

    #[test]
    fn other_forms_are_none() {
        check(&event(TYPO, ENOENT, OpenFlags::CLOEXEC), None);
        check(&event(TYPO, ENOENT, OpenFlags::CREAT | OpenFlags::RDWR), None);
        check(&event(TYPO, ENOENT, OpenFlags::DIRECTORY), None);
        check(&event("/var/www/html/.htaccess", ENOENT, 0), None);
        check(&event_of(OpenSample::new(TYPO).sapi(sapi::OTHER)), None);
    }
}
