//! Folds events into findings. A key of the kernel side leads straight to what its first sighting was judged to be,
//! so a repeat costs one look-up and no allocation; counts are cumulative and exact as long as a key is remembered,
//! and what has to be forgotten is counted.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use watcher_ebpf::event::FoldKey;

use crate::{
    classify::Diagnosis,
    enrich::Event,
    finding::{Category, Change, Finding, Fingerprint},
    lru::Lru,
    noise::Quiet,
    time::{SECOND, Time, Wall},
};

/// Sizes and intervals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Keys remembered: twice the kernel's fold table, so that no key it still holds is forgotten here.
    pub keys_max: usize,
    /// Findings remembered, some 1.5 KiB each.
    pub findings_max: usize,
    /// Longest time from a repeat to its `updated`.
    pub update_interval_ns: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { keys_max: 32_768, findings_max: 4_096, update_interval_ns: 5 * SECOND }
    }
}

/// Growth from one count to ten times as much is told at once.
const TENFOLD: u64 = 10;

/// What a key stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// Only its counts have come so far.
    Unknown,
    Quiet(Quiet),
    Finding(Fingerprint),
}

/// What is remembered of a key.
#[derive(Clone, Debug)]
pub struct Known {
    pub target: Target,
    /// The event that introduced it, where repeats are to be shown as lines.
    pub event: Option<Arc<Event>>,
    count: u64,
    /// Records of opens up to here are part of a count that was told with an eviction.
    settled: Time,
}

impl Known {
    fn new() -> Self {
        Self { target: Target::Unknown, event: None, count: 0, settled: Time(0) }
    }

    /// Takes a cumulative count; returns what is new about it.
    fn advance(&mut self, count: u64) -> u64 {
        let delta = count.saturating_sub(self.count);
        self.count = self.count.max(count);
        delta
    }
}

/// A finding and what its readers know of it.
struct Tracked {
    finding: Finding,
    told: u64,
    /// An update is due in the queue.
    due: bool,
}

/// What a step changed, in order.
pub type Changes = Vec<(Change, Finding)>;

pub struct Aggregate {
    limits: Limits,
    keys: Lru<FoldKey, Known>,
    findings: Lru<Fingerprint, Tracked>,
    /// Updates to come, by time: the interval is the same for all, so the order of arrival is the order in time.
    due: VecDeque<(Time, Fingerprint)>,
    /// Opens by reason for which they are not shown.
    quiet: BTreeMap<Quiet, u64>,
    /// Opens whose details never came.
    without_detail: u64,
    keys_evicted: u64,
    findings_evicted: u64,
}

impl Aggregate {
    pub fn new(limits: Limits) -> Self {
        Self {
            keys: Lru::new(limits.keys_max),
            findings: Lru::new(limits.findings_max),
            limits,
            due: VecDeque::new(),
            quiet: BTreeMap::new(),
            without_detail: 0,
            keys_evicted: 0,
            findings_evicted: 0,
        }
    }

    /// What an open adds to the counts, and what its key stands for so far. Several sightings of one key can be under
    /// way at once (the kernel side tries again while the ring is full), so counts are merged, never added up.
    pub fn sight(&mut self, event: &crate::record::OpenEvent) -> (u64, Target) {
        let unfolded = event.unfolded();
        let known = self.known(event.key);
        if unfolded {
            return (event.count, known.target);
        }
        if event.time <= known.settled {
            return (0, known.target);
        }
        let pending = if known.target == Target::Unknown { known.count } else { 0 };
        let delta = pending + known.advance(event.count);
        let target = known.target;
        self.without_detail = self.without_detail.saturating_sub(pending);
        (delta, target)
    }

    /// Growth of a key: what it adds, and what the key stands for.
    pub fn grow(&mut self, key: FoldKey, count: u64, time: Time) -> (u64, &Known) {
        let known = self.known(key);
        let delta = if time <= known.settled { 0 } else { known.advance(count) };
        if known.target == Target::Unknown {
            self.without_detail += delta;
        }
        (delta, self.keys.peek(&key).expect("the key was just used"))
    }

    /// The key left the kernel's table after its last growth was told: it starts anew.
    pub fn settle(&mut self, key: FoldKey, now: Time) {
        let known = self.known(key);
        (known.count, known.settled) = (0, now);
    }

    fn known(&mut self, key: FoldKey) -> &mut Known {
        if self.keys.peek(&key).is_none() && self.keys.insert(key, Known::new()).is_some() {
            self.keys_evicted += 1;
        }
        self.keys.get(&key).expect("the key was just inserted")
    }

    /// Remembers what a key was judged to be.
    pub fn judge(&mut self, key: FoldKey, target: Target, event: Option<Arc<Event>>) {
        let known = self.known(key);
        (known.target, known.event) = (target, event);
    }

    pub fn count_quiet(&mut self, reason: Quiet, delta: u64) {
        *self.quiet.entry(reason).or_default() += delta;
    }

    /// An open with its event: opens a finding or becomes its latest evidence.
    pub fn strike(
        &mut self,
        diagnosis: &Diagnosis,
        event: Arc<Event>,
        delta: u64,
        at: Wall,
        now: Time,
        changes: &mut Changes,
    ) -> Fingerprint {
        let fingerprint = Fingerprint::of(diagnosis.category, &event);
        if self.evidence(fingerprint, event.clone(), delta, at, now, changes) {
            return fingerprint;
        }
        let finding = Finding {
            fingerprint,
            category: diagnosis.category,
            severity: diagnosis.severity,
            confidence: diagnosis.confidence,
            summary: (diagnosis.summary)(&event),
            count: delta,
            requests: None,
            first_seen: at,
            last_seen: at,
            evidence: event,
            suggestion: None,
        };
        changes.push((Change::Opened, finding.clone()));
        let tracked = Tracked { finding, told: delta, due: false };
        if let Some((_, gone)) = self.findings.insert(fingerprint, tracked) {
            self.findings_evicted += 1;
            if gone.told != gone.finding.count {
                changes.push((Change::Updated, gone.finding));
            }
        }
        fingerprint
    }

    /// New evidence of a finding; false where it is not remembered.
    pub fn evidence(
        &mut self,
        fingerprint: Fingerprint,
        event: Arc<Event>,
        delta: u64,
        at: Wall,
        now: Time,
        changes: &mut Changes,
    ) -> bool {
        let Some(tracked) = self.findings.get(&fingerprint) else { return false };
        tracked.finding.evidence = event;
        self.repeat(fingerprint, delta, at, now, changes);
        true
    }

    /// Repeats of a known finding. One that is no longer remembered counts as without detail.
    pub fn repeat(&mut self, fingerprint: Fingerprint, delta: u64, at: Wall, now: Time, changes: &mut Changes) {
        let Some(tracked) = self.findings.get(&fingerprint) else {
            self.without_detail += delta;
            return;
        };
        let finding = &mut tracked.finding;
        finding.count += delta;
        finding.first_seen = finding.first_seen.min(at);
        finding.last_seen = finding.last_seen.max(at);
        if finding.count == tracked.told {
            return;
        }
        if finding.count >= tracked.told.saturating_mul(TENFOLD) {
            tracked.told = finding.count;
            changes.push((Change::Updated, finding.clone()));
        } else if !tracked.due {
            tracked.due = true;
            self.due.push_back((now.plus(self.limits.update_interval_ns), fingerprint));
        }
    }

    pub fn next_deadline(&self) -> Option<Time> {
        self.due.front().map(|(time, _)| *time)
    }

    /// The updates that are due by `now`.
    pub fn advance(&mut self, now: Time, changes: &mut Changes) {
        while let Some(&(_, fingerprint)) = self.due.front().filter(|(time, _)| *time <= now) {
            self.due.pop_front();
            self.tell(fingerprint, changes);
        }
    }

    /// Tells everything that is not told yet.
    pub fn flush(&mut self, changes: &mut Changes) {
        while let Some((_, fingerprint)) = self.due.pop_front() {
            self.tell(fingerprint, changes);
        }
    }

    fn tell(&mut self, fingerprint: Fingerprint, changes: &mut Changes) {
        // Told already where the finding was evicted.
        let Some(tracked) = self.findings.get(&fingerprint) else { return };
        tracked.due = false;
        if tracked.told != tracked.finding.count {
            tracked.told = tracked.finding.count;
            changes.push((Change::Updated, tracked.finding.clone()));
        }
    }

    pub fn category(&self, fingerprint: Fingerprint) -> Option<Category> {
        self.findings.peek(&fingerprint).map(|tracked| tracked.finding.category)
    }

    pub fn open_findings(&self) -> u64 {
        self.findings.len() as u64
    }

    pub fn quiet(&self) -> &BTreeMap<Quiet, u64> {
        &self.quiet
    }

    /// What this side lost, by reason.
    pub fn losses(&self) -> [(&'static str, u64); 3] {
        [
            ("opens_without_detail", self.without_detail),
            ("keys_evicted", self.keys_evicted),
            ("findings_evicted", self.findings_evicted),
        ]
    }
}
