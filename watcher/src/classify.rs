//! What a failing open means. One detector a file, each a pure function of the event; the first that recognises it
//! decides. What none recognises is counted, never shown.

mod missing_include;
mod permission_denied;

use crate::{
    enrich::Event,
    finding::{Category, Confidence, Severity},
    noise::{self, Quiet},
    record::names::OpenFlags,
};

/// What becomes of an event.
#[derive(Clone, Copy, Debug)]
pub enum Verdict {
    Finding(Diagnosis),
    Quiet(Quiet),
}

/// What a detector says.
#[derive(Clone, Copy, Debug)]
pub struct Diagnosis {
    pub category: Category,
    pub severity: Severity,
    pub confidence: Confidence,
    /// Writes the one sentence. A function, since repeats of a known cause need none.
    pub summary: fn(&Event) -> String,
}

type Detector = fn(&Event) -> Option<Diagnosis>;

/// In the order in which they are asked.
const DETECTORS: [Detector; 2] = [missing_include::detect, permission_denied::detect];

/// Judges one event.
pub fn classify(event: &Event) -> Verdict {
    match noise::quiet(event) {
        Some(reason) => Verdict::Quiet(reason),
        None => {
            DETECTORS.iter().find_map(|detect| detect(event)).map_or(Verdict::Quiet(Quiet::Other), Verdict::Finding)
        }
    }
}

/// The finding that stands for harmless opens where a person asks to see them.
pub fn harmless(_: Quiet) -> Diagnosis {
    Diagnosis {
        category: Category::Harmless,
        severity: Severity::Info,
        confidence: Confidence::Likely,
        summary: |event| {
            let reason = noise::quiet(event).unwrap_or(Quiet::Other);
            format!("counted as harmless ({})", reason.name())
        },
    }
}

/// Whether the name is that of PHP code.
fn is_named_as_code(event: &Event) -> bool {
    let path = event.open.best_path();
    let name = path.rsplit(|&byte| byte == b'/').next().unwrap_or(path).to_ascii_lowercase();
    let extension = name.iter().rposition(|&byte| byte == b'.').map_or(&[][..], |at| &name[at + 1..]);
    extension.starts_with(b"php") || extension.starts_with(b"inc") || extension == b"phtml"
}

/// Whether this open has the form of PHP's file wrapper reading: by a program that runs PHP, read-only, and without
/// the flags that Apache, the dynamic linker, libc and opendir set.
fn has_the_form_of_an_include(event: &Event) -> bool {
    const OTHERS: u64 =
        OpenFlags::CLOEXEC | OpenFlags::DIRECTORY | OpenFlags::CREAT | OpenFlags::NOFOLLOW | OpenFlags::DIRECT;
    event.open.sapi.runs_php() && event.flags.read_only() && !event.flags.any(OTHERS)
}

#[cfg(test)]
pub(crate) mod test {
    use super::*;
    use crate::{
        enrich::Enricher,
        record::{Record, decode, names::Arch, sample::OpenSample},
    };

    /// An event as an Apache worker makes it.
    pub fn event(path: &str, errno: u32, flags: u64) -> Event {
        event_of(OpenSample::new(path).errno(errno).open_flags(flags))
    }

    pub fn event_of(sample: OpenSample) -> Event {
        let Ok(Record::Open(open)) = decode(&sample.bytes()) else { panic!("a sample decodes to an open") };
        Enricher::new(1).join(*open, Arch::X86_64)
    }

    /// Asks all detectors, so that each fixture also proves the others silent.
    pub fn check(event: &Event, expect: Option<(Category, &str)>) {
        match (classify(event), expect) {
            (Verdict::Quiet(_), None) => {}
            (Verdict::Finding(found), Some((category, summary))) => {
                assert_eq!((found.category, (found.summary)(event).as_str()), (category, summary));
            }
            (verdict, expect) => panic!("{verdict:?}, expected {expect:?}"),
        }
    }
}
