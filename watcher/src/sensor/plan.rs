//! The ladder as data: which rungs there are, what each hooks and costs, and what became of it on this host. The
//! doctor, the log, the status and the metrics all read it from here.

use std::fmt;

/// A way to see failing opens, best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rung {
    Fexit,
    Kprobe,
    Tracepoint,
}

impl Rung {
    /// All rungs in the order in which they are tried.
    pub const LADDER: [Rung; 3] = [Rung::Fexit, Rung::Kprobe, Rung::Tracepoint];

    pub fn name(self) -> &'static str {
        match self {
            Rung::Fexit => "fexit",
            Rung::Kprobe => "kprobe",
            Rung::Tracepoint => "tracepoint",
        }
    }

    /// What it costs beyond a failing open, for the doctor and the status.
    pub fn cost(self) -> &'static str {
        match self {
            Rung::Fexit => "one trampoline per open, nothing on other system calls",
            Rung::Kprobe => "one return probe per open, nothing on other system calls",
            Rung::Tracepoint => {
                "every system call of every process takes the slow path (about 100 ns each) while the sensor runs"
            }
        }
    }
}

impl fmt::Display for Rung {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Which rung the operator wants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RungChoice {
    /// The best that works.
    #[default]
    Auto,
    /// This one or none.
    Only(Rung),
}

impl RungChoice {
    pub(super) fn rungs(self) -> Vec<Rung> {
        match self {
            RungChoice::Auto => Rung::LADDER.to_vec(),
            RungChoice::Only(rung) => vec![rung],
        }
    }
}

/// What became of a rung.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The sensor runs on it.
    Used,
    /// It works here (the doctor tried it) and is not in use.
    Available,
    /// It does not work here.
    Unavailable,
    /// A better one worked, or another was asked for.
    NotTried,
}

impl Verdict {
    pub fn name(self) -> &'static str {
        match self {
            Verdict::Used => "used",
            Verdict::Available => "available",
            Verdict::Unavailable => "unavailable",
            Verdict::NotTried => "not_tried",
        }
    }
}

/// One line of the ladder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RungVerdict {
    pub rung: Rung,
    pub verdict: Verdict,
    /// Why: for a refusal, the kernel's own words.
    pub reason: String,
}
