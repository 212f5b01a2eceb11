//! The core: input and time in, results out. No I/O, no clock, no threads: a replay runs exactly this, so it prints
//! what the original run printed.
//!
//! The order of a step: deadlines that have passed, then the input. Deadlines act at their own time and not at the
//! time when somebody noticed, so a busy or a sleeping host changes nothing in the output.

use std::{collections::BTreeMap, sync::Arc};

use watcher_ebpf::event::FoldKey;

use crate::{
    aggregate::{Aggregate, Changes, Limits, Target},
    classify::{self, Verdict},
    enrich::{Enricher, Event},
    output::{EventLine, FindingChange, Output, State, Status, Summary},
    record::{Change, Counters, Growth, Input, OpenEvent, ProcessKey, Record, Started, names::errno_name},
    time::{SECOND, Time, Wall},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PipelineConfig {
    /// One line for each failing open.
    pub events: bool,
    /// Harmless opens become findings.
    pub all: bool,
    pub limits: Limits,
    /// Between two summaries.
    pub summary_interval_ns: u64,
    /// Processes whose executable and cgroup are remembered, some 300 bytes each.
    pub processes_max: usize,
}

impl Default for PipelineConfig {
    fn default() -> Self {
        Self {
            events: false,
            all: false,
            limits: Limits::default(),
            summary_interval_ns: 60 * SECOND,
            processes_max: 4_096,
        }
    }
}

/// Losses are told at most this often: each tells of all before.
const DEGRADED_INTERVAL_NS: u64 = 60 * SECOND;

pub struct Pipeline {
    config: PipelineConfig,
    started: Started,
    rung: Arc<str>,
    enricher: Enricher,
    aggregate: Aggregate,
    counters: Counters,
    undecodable: u64,
    /// Growth since the last summary, and when the next is due.
    grown: BTreeMap<crate::finding::Category, u64>,
    quiet_grown: u64,
    summary_due: Option<Time>,
    /// Loss that was last told, and when.
    told_loss: u64,
    told_loss_at: Option<Time>,
    /// Reused from step to step.
    changes: Changes,
}

impl Pipeline {
    pub fn new(config: PipelineConfig) -> Self {
        Self {
            enricher: Enricher::new(config.processes_max),
            aggregate: Aggregate::new(config.limits),
            config,
            started: Started::default(),
            rung: Arc::from(""),
            counters: Counters::default(),
            undecodable: 0,
            grown: BTreeMap::new(),
            quiet_grown: 0,
            summary_due: None,
            told_loss: 0,
            told_loss_at: None,
            changes: Changes::new(),
        }
    }

    /// The process to ask the host about before this record goes in.
    pub fn wants(&self, record: &Record) -> Option<ProcessKey> {
        self.enricher.wants(record)
    }

    /// When the pipeline has to run again even if nothing comes in.
    pub fn next_deadline(&self) -> Option<Time> {
        [self.aggregate.next_deadline(), self.summary_due].into_iter().flatten().min()
    }

    /// One step.
    pub fn handle(&mut self, input: Input, now: Time, out: &mut Vec<Output>) {
        self.pass_deadlines(now, out);
        match input {
            Input::Started(started) => self.start(started, now, out),
            Input::Record(Record::Open(open)) => self.open(*open, now, out),
            Input::Record(Record::Count(update)) => self.count(update.key, update.count, update.time, now, out),
            Input::Record(Record::Process(change)) => {
                if change.change == Change::Exec {
                    self.enricher.forget(change.pid);
                }
            }
            Input::Undecodable => self.undecodable += 1,
            Input::Process(key, info) => self.enricher.learn(key, info),
            Input::Sweep(grown) => self.sweep(&grown, now, out),
            Input::Counters(counters) => self.count_losses(counters, now, out),
            Input::Clock { boot_to_wall_ns } => self.started.boot_to_wall_ns = boot_to_wall_ns,
            Input::Tick => {}
            Input::Shutdown => self.stop(now, out),
        }
    }

    fn wall(&self, time: Time) -> Wall {
        time.wall(self.started.boot_to_wall_ns)
    }

    fn start(&mut self, started: Started, now: Time, out: &mut Vec<Output>) {
        self.rung = started.rung.as_str().into();
        self.counters.watched_processes = started.watched_processes;
        self.started = started;
        out.push(Output::Status(self.status(State::Watching, self.started.reasons.clone(), now)));
    }

    fn open(&mut self, open: OpenEvent, now: Time, out: &mut Vec<Output>) {
        let (delta, target) = self.aggregate.sight(&open);
        if delta == 0 && target != Target::Unknown {
            return;
        }
        let (key, time) = (open.key, open.time);
        let event = Arc::new(self.enricher.join(open, self.started.arch));
        let at = self.wall(time);
        let target = match target {
            Target::Finding(fingerprint)
                if self.aggregate.evidence(fingerprint, event.clone(), delta, at, now, &mut self.changes) =>
            {
                target
            }
            Target::Quiet(reason) => {
                self.count_quiet(reason, delta);
                target
            }
            Target::Unknown | Target::Finding(_) => self.judge(key, &event, delta, at, now),
        };
        self.note_growth(target, delta, now);
        self.tell(at, out);
        if self.config.events && delta > 0 {
            out.push(self.line(event, target, delta, at));
        }
    }

    /// First sighting of a key.
    fn judge(&mut self, key: FoldKey, event: &Arc<Event>, delta: u64, at: Wall, now: Time) -> Target {
        let diagnosis = match classify::classify(event) {
            Verdict::Finding(diagnosis) => diagnosis,
            Verdict::Quiet(reason) if self.config.all => {
                self.count_quiet(reason, delta);
                classify::harmless(reason)
            }
            Verdict::Quiet(reason) => {
                self.count_quiet(reason, delta);
                let target = Target::Quiet(reason);
                self.aggregate.judge(key, target, self.config.events.then(|| event.clone()));
                return target;
            }
        };
        let fingerprint = self.aggregate.strike(&diagnosis, event.clone(), delta, at, now, &mut self.changes);
        let target = Target::Finding(fingerprint);
        self.aggregate.judge(key, target, self.config.events.then(|| event.clone()));
        target
    }

    fn count(&mut self, key: FoldKey, count: u64, time: Time, now: Time, out: &mut Vec<Output>) {
        let (delta, known) = self.aggregate.grow(key, count, time);
        if delta == 0 {
            return;
        }
        let (target, event) = (known.target, known.event.clone());
        let at = self.wall(time);
        match target {
            Target::Unknown => {}
            Target::Quiet(reason) => self.count_quiet(reason, delta),
            Target::Finding(fingerprint) => {
                self.aggregate.repeat(fingerprint, delta, at, now, &mut self.changes);
            }
        }
        self.note_growth(target, delta, now);
        self.tell(at, out);
        if let Some(event) = event {
            out.push(self.line(event, target, delta, at));
        }
    }

    fn sweep(&mut self, grown: &[Growth], now: Time, out: &mut Vec<Output>) {
        for growth in grown {
            self.count(growth.key, growth.count, now, now, out);
            if growth.evicted {
                self.aggregate.settle(growth.key, now);
            }
        }
    }

    fn count_quiet(&mut self, reason: crate::noise::Quiet, delta: u64) {
        self.aggregate.count_quiet(reason, delta);
        self.quiet_grown += delta;
    }

    fn line(&self, event: Arc<Event>, target: Target, count: u64, time: Wall) -> Output {
        let quiet = if let Target::Quiet(reason) = target { Some(reason) } else { None };
        Output::Event(EventLine { time, count, rung: self.rung.clone(), quiet, event })
    }

    /// Growth of a finding makes a summary due.
    fn note_growth(&mut self, target: Target, delta: u64, now: Time) {
        let Target::Finding(fingerprint) = target else { return };
        if let Some(category) = self.aggregate.category(fingerprint) {
            *self.grown.entry(category).or_default() += delta;
            self.summary_due.get_or_insert(now.plus(self.config.summary_interval_ns));
        }
    }

    /// Puts out what the aggregate changed.
    fn tell(&mut self, time: Wall, out: &mut Vec<Output>) {
        let rung = &self.rung;
        out.extend(
            self.changes
                .drain(..)
                .map(|(change, finding)| Output::Finding(FindingChange { time, change, rung: rung.clone(), finding })),
        );
    }

    fn pass_deadlines(&mut self, now: Time, out: &mut Vec<Output>) {
        while let Some(due) = self.next_deadline().filter(|due| *due <= now) {
            self.aggregate.advance(due, &mut self.changes);
            self.tell(self.wall(due), out);
            if self.summary_due.is_some_and(|summary| summary <= due) {
                self.summarize(due, out);
            }
        }
    }

    fn summarize(&mut self, now: Time, out: &mut Vec<Output>) {
        self.summary_due = None;
        out.push(Output::Summary(Summary {
            time: Some(self.wall(now)),
            open_findings: self.aggregate.open_findings(),
            grown: std::mem::take(&mut self.grown),
            quiet: std::mem::take(&mut self.quiet_grown),
        }));
    }

    fn count_losses(&mut self, counters: Counters, now: Time, out: &mut Vec<Output>) {
        self.counters = counters;
        let losses = self.losses();
        let loss = losses.values().sum();
        let rested = self.told_loss_at.is_none_or(|told| now.since(told) >= DEGRADED_INTERVAL_NS);
        if loss > self.told_loss && rested {
            (self.told_loss, self.told_loss_at) = (loss, Some(now));
            let reasons = losses.iter().map(|(reason, count)| format!("{reason}: {count} so far")).collect();
            out.push(Output::Status(self.status(State::Degraded, reasons, now)));
        }
    }

    fn stop(&mut self, now: Time, out: &mut Vec<Output>) {
        self.aggregate.flush(&mut self.changes);
        self.tell(self.wall(now), out);
        if self.summary_due.is_some() {
            self.summarize(now, out);
        }
        out.push(Output::Status(self.status(State::Stopping, Vec::new(), now)));
    }

    /// Every loss above 0, of the kernel side and of this one.
    fn losses(&self) -> BTreeMap<String, u64> {
        let kernel = self.counters.lost.iter().map(|(reason, count)| (reason.as_str(), *count));
        let own = self.aggregate.losses().into_iter().chain([("undecodable", self.undecodable)]);
        kernel.chain(own).filter(|(_, count)| *count > 0).map(|(reason, count)| (reason.to_owned(), count)).collect()
    }

    fn status(&self, state: State, reasons: Vec<String>, now: Time) -> Status {
        let mut failed_opens = BTreeMap::new();
        for total in &self.counters.totals {
            *failed_opens.entry(errno_name(total.errno).into_owned()).or_default() += total.count;
        }
        Status {
            time: self.wall(now),
            state,
            rung: self.rung.clone(),
            kernel: self.started.kernel.clone(),
            watched_processes: self.counters.watched_processes,
            lost: self.losses(),
            failed_opens,
            quiet: self.aggregate.quiet().iter().map(|(reason, count)| (reason.name(), *count)).collect(),
            reasons,
        }
    }
}

#[cfg(test)]
mod tests;
