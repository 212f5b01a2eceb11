//! The vocabulary of results: a finding is one cause, however often it strikes, with its evidence and its history.

mod fingerprint;

use std::sync::Arc;

pub use fingerprint::Fingerprint;

use crate::{enrich::Event, time::Wall};

/// One cause.
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    pub fingerprint: Fingerprint,
    pub category: Category,
    pub severity: Severity,
    pub confidence: Confidence,
    /// One sentence, printable.
    pub summary: String,
    /// Opens, exact and cumulative.
    pub count: u64,
    /// Distinct requests hit, where requests are known.
    pub requests: Option<u64>,
    pub first_seen: Wall,
    pub last_seen: Wall,
    /// Its latest event.
    pub evidence: Arc<Event>,
    pub suggestion: Option<Suggestion>,
}

/// The file that was probably meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suggestion {
    pub path: Vec<u8>,
    pub reason: String,
}

/// What happened to a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    Opened,
    Updated,
    Resolved,
    Reopened,
}

impl Change {
    pub fn name(self) -> &'static str {
        match self {
            Self::Opened => "opened",
            Self::Updated => "updated",
            Self::Resolved => "resolved",
            Self::Reopened => "reopened",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Category {
    MissingInclude,
    PermissionDenied,
    /// Shown on request only.
    Harmless,
}

impl Category {
    pub const ALL: [Self; 3] = [Self::MissingInclude, Self::PermissionDenied, Self::Harmless];

    pub fn name(self) -> &'static str {
        match self {
            Self::MissingInclude => "missing_include",
            Self::PermissionDenied => "permission_denied",
            Self::Harmless => "harmless",
        }
    }

    /// For a person.
    pub fn title(self) -> &'static str {
        match self {
            Self::MissingInclude => "missing include",
            Self::PermissionDenied => "permission denied",
            Self::Harmless => "harmless",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    Info,
    Warning,
    Critical,
}

impl Severity {
    pub fn name(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}

/// How sure a detector is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Confidence {
    /// From what the kernel sees alone.
    Likely,
    /// From PHP's own state.
    Certain,
}

impl Confidence {
    pub fn name(self) -> &'static str {
        match self {
            Self::Likely => "likely",
            Self::Certain => "certain",
        }
    }
}
