//! What a person and a script are promised: at once, exact, bounded, and the same again in a replay.

use super::*;
use crate::{
    finding,
    record::{
        Body, Header, ProcessInfo, Reader, Total, Writer, decode,
        sample::{self, Dice, OpenSample},
    },
};
use watcher_ebpf::event::flag;

const TYPO: &str = "/var/www/html/wp-includes/class-wp-locale.phpp";
const MS: u64 = 1_000_000;

/// A pipeline with its clock.
struct Bench {
    pipeline: Pipeline,
    now: Time,
    out: Vec<Output>,
}

impl Bench {
    fn new(config: PipelineConfig) -> Self {
        Self { pipeline: Pipeline::new(config), now: Time(100 * SECOND), out: Vec::new() }
    }

    fn input(&mut self, input: Input) -> &mut Self {
        self.pipeline.handle(input, self.now, &mut self.out);
        self
    }

    fn raw(&mut self, bytes: &[u8]) -> &mut Self {
        self.input(decode(bytes).map_or(Input::Undecodable, Input::Record))
    }

    fn open(&mut self, sample: OpenSample) -> &mut Self {
        let time = self.now.0;
        self.raw(&sample.time(time).bytes())
    }

    fn count(&mut self, name: &str, count: u64) -> &mut Self {
        let time = self.now.0;
        self.raw(&sample::count(sample::key(name.as_bytes()), time, count))
    }

    fn sweep(&mut self, name: &str, count: u64, evicted: bool) -> &mut Self {
        self.input(Input::Sweep(vec![Growth { key: sample::key(name.as_bytes()), count, evicted }]))
    }

    fn wait(&mut self, ns: u64) -> &mut Self {
        self.now = self.now.plus(ns);
        self.input(Input::Tick)
    }

    /// Findings' changes with their counts, since last asked.
    fn changes(&mut self) -> Vec<(finding::Change, u64)> {
        let changes = self.out.iter().filter_map(|output| match output {
            Output::Finding(change) => Some((change.change, change.finding.count)),
            _ => None,
        });
        let changes = changes.collect();
        self.out.clear();
        changes
    }

    fn last_status(&self) -> &Status {
        let mut statuses = self.out.iter().rev().filter_map(|output| match output {
            Output::Status(status) => Some(status),
            _ => None,
        });
        statuses.next().expect("a status")
    }
}

fn typo() -> OpenSample {
    OpenSample::new(TYPO)
}

use finding::Change::{Opened, Updated};

#[test]
fn a_cause_is_told_at_once_and_repeats_in_time() {
    let mut bench = Bench::new(PipelineConfig::default());
    assert_eq!(bench.open(typo()).changes(), [(Opened, 1)]);
    assert_eq!(bench.wait(MS).count(TYPO, 4).changes(), []);
    assert_eq!(bench.wait(5 * SECOND).changes(), [(Updated, 4)]);
    assert_eq!(bench.wait(SECOND).count(TYPO, 39).changes(), [], "not yet tenfold");
    assert_eq!(bench.count(TYPO, 40).changes(), [(Updated, 40)], "tenfold");
    assert_eq!(bench.sweep(TYPO, 41, false).changes(), []);
    assert_eq!(bench.input(Input::Shutdown).changes(), [(Updated, 41)]);
}

#[test]
fn nothing_is_due_when_nothing_grows() {
    let mut bench = Bench::new(PipelineConfig::default());
    assert_eq!(bench.pipeline.next_deadline(), None);
    bench.open(typo()).wait(MS).count(TYPO, 2);
    assert_eq!(bench.pipeline.next_deadline(), Some(bench.now.plus(5 * SECOND)));
    bench.wait(70 * SECOND);
    assert_eq!(bench.pipeline.next_deadline(), None);
    let open = bench.out.iter().filter(|output| matches!(output, Output::Summary(_))).count();
    assert_eq!(open, 1);
    bench.open(OpenSample::new("/var/www/.htaccess"));
    assert_eq!(bench.pipeline.next_deadline(), None, "harmless opens wake nobody");
}

#[test]
fn counts_that_come_before_their_sighting_are_not_lost() {
    let mut bench = Bench::new(PipelineConfig::default());
    // The ring was full: the sweep knows of the key first.
    bench.sweep(TYPO, 30, false);
    assert_eq!(bench.pipeline.losses().get("opens_without_detail"), Some(&30));
    assert_eq!(bench.wait(MS).open(typo().count(31)).changes(), [(Opened, 31)]);
    assert_eq!(bench.pipeline.losses(), BTreeMap::new());
}

#[test]
fn sightings_under_way_together_count_once() {
    let mut bench = Bench::new(PipelineConfig::default());
    bench.open(typo().count(2)).open(typo().count(1)).open(typo().count(3));
    assert_eq!(bench.input(Input::Shutdown).changes(), [(Opened, 2), (Updated, 3)]);
}

#[test]
fn an_evicted_key_starts_anew() {
    let mut bench = Bench::new(PipelineConfig::default());
    bench.open(typo()).wait(MS).sweep(TYPO, 5, true);
    // Still in the ring when the key was evicted: part of the five.
    let settled = bench.now.0;
    bench.wait(MS).raw(&sample::count(sample::key(TYPO.as_bytes()), settled, 4));
    bench.wait(MS).open(typo()).wait(MS).count(TYPO, 2);
    assert_eq!(bench.input(Input::Shutdown).changes(), [(Opened, 1), (Updated, 7)]);
}

#[test]
fn unfolded_opens_count_each() {
    let mut bench = Bench::new(PipelineConfig::default());
    for _ in 0..3 {
        bench.open(typo().marks(flag::UNFOLDED));
    }
    assert_eq!(bench.input(Input::Shutdown).changes(), [(Opened, 1), (Updated, 3)]);
}

#[test]
fn users_and_flags_of_one_cause_are_one_finding() {
    let mut bench = Bench::new(PipelineConfig::default());
    let mut other = typo().open_flags(0o100_000);
    other.record.key.lo ^= 1;
    bench.open(typo()).open(other);
    assert_eq!(bench.input(Input::Shutdown).changes(), [(Opened, 1), (Updated, 2)]);
}

#[test]
fn harmless_opens_are_counted_and_shown_on_request() {
    let htaccess = || OpenSample::new("/var/www/.htaccess").open_flags(0o2_000_000);
    let mut bench = Bench::new(PipelineConfig::default());
    bench.open(htaccess()).wait(MS).count("/var/www/.htaccess", 9).input(Input::Shutdown);
    assert_eq!(bench.last_status().quiet, [("htaccess", 9)].into());
    assert_eq!(bench.changes(), []);
    let mut bench = Bench::new(PipelineConfig { all: true, ..PipelineConfig::default() });
    assert_eq!(bench.open(htaccess()).changes(), [(Opened, 1)]);
}

#[test]
fn event_lines_stand_for_every_open() {
    let mut bench = Bench::new(PipelineConfig { events: true, ..PipelineConfig::default() });
    bench.open(typo()).wait(MS).count(TYPO, 5).sweep(TYPO, 5, false).wait(MS).sweep(TYPO, 8, false);
    let lines = bench.out.iter().filter_map(|output| match output {
        Output::Event(line) => Some(line.count),
        _ => None,
    });
    assert_eq!(lines.collect::<Vec<_>>(), [1, 4, 3]);
}

#[test]
fn losses_are_told_but_not_again_and_again() {
    let mut bench = Bench::new(PipelineConfig::default());
    let lost = |count| Counters {
        lost: vec![("ring_full".to_owned(), count)],
        totals: vec![Total { sapi: 1, errno: 2, count: 7 }, Total { sapi: 2, errno: 2, count: 1 }],
        watched_processes: 3,
    };
    bench.input(Input::Counters(lost(1)));
    assert_eq!((bench.last_status().state, bench.last_status().lost["ring_full"]), (State::Degraded, 1));
    assert_eq!(bench.last_status().failed_opens, [("ENOENT".to_owned(), 8)].into());
    bench.out.clear();
    bench.wait(SECOND).input(Input::Counters(lost(5)));
    assert!(bench.out.is_empty());
    bench.wait(60 * SECOND).input(Input::Counters(lost(5)));
    assert_eq!(bench.last_status().lost["ring_full"], 5);
    bench.raw(b"nonsense").input(Input::Shutdown);
    assert_eq!(bench.last_status().lost["undecodable"], 1);
}

#[test]
fn memory_is_bounded_and_what_is_forgotten_is_counted() {
    let limits = Limits { keys_max: 50, findings_max: 20, ..Limits::default() };
    let mut bench = Bench::new(PipelineConfig { limits, processes_max: 5, ..PipelineConfig::default() });
    for n in 0..1_000u32 {
        let mut sample = OpenSample::new(format!("/srv/{n}.php"));
        sample.record.pid = n;
        let record = decode(&sample.bytes()).expect("whole");
        let key = bench.pipeline.wants(&record).expect("a new process");
        bench.input(Input::Process(key, ProcessInfo::default())).open(sample);
    }
    bench.count("/srv/999.php", 3).count("/srv/0.php", 3).input(Input::Shutdown);
    let lost = bench.last_status().lost.clone();
    assert_eq!((lost["keys_evicted"], lost["findings_evicted"]), (951, 980));
    assert_eq!(lost["opens_without_detail"], 3);
    let opened = bench.changes();
    assert_eq!(opened.iter().filter(|(change, _)| *change == Opened).count(), 1_000);
    assert_eq!(opened.last(), Some(&(Updated, 3)));
}

/// Inputs as a busy host makes them, with the times at which they arrive.
fn stream(seed: u64) -> Vec<(Time, Body)> {
    let mut dice = Dice::new(seed);
    let mut now = 100 * SECOND;
    let mut counts = [0u64; 40];
    let started = Started { kernel: "6.1".into(), rung: "fexit".into(), ..Started::default() };
    let mut stream = vec![(Time(now), Body::Other(Input::Started(started)))];
    for _ in 0..3_000 {
        now += dice.below(400) as u64 * MS;
        let at = dice.below(counts.len());
        let names = ["php", "inc", "ini", "pid", "txt"];
        let name = format!("/srv/{at}.{}", names[at % names.len()]);
        counts[at] += 1 + dice.below(20) as u64;
        let key = sample::key(name.as_bytes());
        stream.push((
            Time(now),
            match dice.below(10) {
                0..4 => Body::Raw(OpenSample::new(&name).time(now).count(counts[at]).bytes()),
                4..7 => Body::Raw(sample::count(key, now, counts[at])),
                7 => Body::Other(Input::Sweep(vec![Growth { key, count: counts[at], evicted: dice.below(9) == 0 }])),
                8 => Body::Raw(vec![dice.below(256) as u8; dice.below(300)]),
                _ => Body::Other(Input::Counters(Counters { watched_processes: now, ..Counters::default() })),
            },
        ));
    }
    stream.push((Time(now + SECOND), Body::Other(Input::Shutdown)));
    stream
}

fn run(stream: impl IntoIterator<Item = (Time, Body)>, late: u64) -> Vec<Output> {
    let config = PipelineConfig { events: true, ..PipelineConfig::default() };
    let (mut pipeline, mut out) = (Pipeline::new(config), Vec::new());
    for (now, body) in stream {
        // Somebody wakes for the deadlines, more or less late; a replay nobody.
        while let Some(due) = pipeline.next_deadline().map(|due| due.plus(late)).filter(|due| late > 0 && *due < now) {
            pipeline.handle(Input::Tick, due, &mut out);
        }
        pipeline.handle(body.into_input(), now, &mut out);
    }
    out
}

#[test]
fn a_replay_prints_what_the_original_printed() {
    for seed in 1..6 {
        let live = run(stream(seed), 3 * MS);
        assert!(live.len() > 1_000);
        assert_eq!(run(stream(seed), 0), live, "deadlines act at their own time");
        let directory = tempfile::tempdir().expect("a scratch directory");
        let path = directory.path().join("a.watch");
        let mut writer = Writer::create(&path, &Header::default()).expect("a new file");
        for (now, body) in stream(seed) {
            match body {
                Body::Raw(bytes) => writer.raw(now, &bytes),
                Body::Other(input) => writer.input(now, &input),
            }
            .expect("written");
        }
        writer.flush().expect("flushed");
        let mut reader = Reader::open(&path).expect("readable");
        let frames = std::iter::from_fn(|| reader.next_frame().expect("whole").map(|frame| (frame.time, frame.body)));
        assert_eq!(run(frames, 0), live);
    }
}
