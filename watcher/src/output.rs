//! What the pipeline puts out: owned values that a sink can write without asking back.

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    enrich::Event,
    finding::{Category, Change, Finding},
    noise::Quiet,
    time::Wall,
};

#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    Status(Status),
    Finding(FindingChange),
    Event(EventLine),
    Summary(Summary),
}

/// A finding as it stands after a change.
#[derive(Clone, Debug, PartialEq)]
pub struct FindingChange {
    pub time: Wall,
    pub change: Change,
    pub rung: Arc<str>,
    pub finding: Finding,
}

/// One failing open, or the repeats of one that arrived together.
#[derive(Clone, Debug, PartialEq)]
pub struct EventLine {
    /// Of the latest open.
    pub time: Wall,
    /// Opens that this line stands for.
    pub count: u64,
    pub rung: Arc<str>,
    pub quiet: Option<Quiet>,
    pub event: Arc<Event>,
}

/// How the sensor fares.
#[derive(Clone, Debug, PartialEq)]
pub struct Status {
    pub time: Wall,
    pub state: State,
    pub rung: Arc<str>,
    pub kernel: String,
    pub watched_processes: u64,
    /// Counters by reason; only those above 0.
    pub lost: BTreeMap<String, u64>,
    /// Failing opens by errno, exact whatever was lost.
    pub failed_opens: BTreeMap<String, u64>,
    /// Opens that were counted and not shown, by reason.
    pub quiet: BTreeMap<&'static str, u64>,
    pub reasons: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Watching,
    Degraded,
    Stopping,
}

impl State {
    pub fn name(self) -> &'static str {
        match self {
            Self::Watching => "watching",
            Self::Degraded => "degraded",
            Self::Stopping => "stopping",
        }
    }
}

/// What repeated since the last summary.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    pub time: Option<Wall>,
    pub open_findings: u64,
    /// Growth by category.
    pub grown: BTreeMap<Category, u64>,
    /// Opens not shown since the last summary.
    pub quiet: u64,
}
