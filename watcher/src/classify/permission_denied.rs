//! # What it detects
//! A file that PHP wants to read and may not.
//!
//! # Why it matters
//! The request fails as if the file were missing, but nobody who looks at it as root sees anything wrong.
//!
//! # Signals
//! EACCES of an open in the form that PHP's file wrapper has when it reads (see `missing_include`).
//!
//! # False positives
//! A script that tries a file which it may not read and copes. Without PHP's own state the finding is marked as
//! likely.
//!
//! # Fix
//! Give the worker's user the right to read the file and to walk through each directory above it.

use super::{Diagnosis, has_the_form_of_an_include};
use crate::{
    enrich::Event,
    finding::{Category, Confidence, Severity},
    record::names::EACCES,
    text::visible,
};

pub fn detect(event: &Event) -> Option<Diagnosis> {
    (event.open.errno == EACCES && has_the_form_of_an_include(event)).then_some(Diagnosis {
        category: Category::PermissionDenied,
        severity: Severity::Warning,
        confidence: Confidence::Likely,
        summary,
    })
}

fn summary(event: &Event) -> String {
    format!("PHP, as user {}, may not read {}", event.open.fsuid, visible(event.open.best_path()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        classify::test::{check, event},
        record::names::OpenFlags,
    };

    #[test]
    fn a_refused_read_is_one() {
        let sentence = "PHP, as user 33, may not read /srv/app/config.php";
        check(&event("/srv/app/config.php", EACCES, 0), Some((Category::PermissionDenied, sentence)));
    }

    #[test]
    fn other_forms_are_none() {
        check(&event("/srv/app/config.php", EACCES, OpenFlags::CLOEXEC), None);
        check(&event("/srv/app/log", EACCES, OpenFlags::WRONLY), None);
        check(&event("/srv/app/config.php", 5, 0), None);
    }
}
