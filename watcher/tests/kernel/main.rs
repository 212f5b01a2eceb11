//! The kernel test suite: what the kernel side must see, on each rung of the ladder, against the built sensor.
//!
//! One binary in three roles. Natively (`cargo test --test kernel [-- --rung R] [FILTER]`) it runs the suite on the
//! rungs that this machine has. As init of a virtual machine it does so on the rungs that `expect` lists for that
//! kernel. With `--opener` it is the process that fails to open files.
//!
//! `suite` has what tests are made of; each other module is one concern.
#![deny(clippy::undocumented_unsafe_blocks)]

mod btf;
mod child;
mod errnos;
mod event;
mod expect;
mod folding;
mod guest;
mod life;
mod paths;
mod processes;
mod scopes;
mod sensor;
mod suite;
mod sys;

use std::{
    path::PathBuf,
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};

use crate::{
    child::Child,
    expect::RUNGS,
    sensor::Sensor,
    suite::{Rung, Test},
};

/// The exit code of a host that cannot run the sensor, or not on the rung asked for.
const CANNOT_RUN_HERE: i32 = 3;

fn tests() -> impl Iterator<Item = &'static Test> {
    [errnos::TESTS, paths::TESTS, processes::TESTS, scopes::TESTS, folding::TESTS, life::TESTS].into_iter().flatten()
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let done = if arguments.first().is_some_and(|first| first == "--opener") {
        opener(&arguments[1..])
    } else if std::process::id() == 1 {
        in_guest()
    } else {
        natively(&arguments)
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{}: {error:#}", arguments.get(1).map_or("kernel tests", |test| test));
            ExitCode::FAILURE
        }
    }
}

fn opener(arguments: &[String]) -> anyhow::Result<()> {
    let [test, dir, rest @ ..] = arguments else { bail!("an opener needs a test and a directory") };
    let child = Child { dir: PathBuf::from(dir), arguments: rest.to_vec() };
    if test == suite::FENCE {
        return suite::fence_child(&child);
    }
    let test = tests().find(|known| known.name == test).with_context(|| format!("no test {test}"))?;
    (test.child)(&child)
}

/// One test's result, on its way to a person or to the other side of a serial port.
enum Outcome {
    Passed,
    Failed(String),
    Skipped(String),
}

/// Runs a test, and once more where it failed, which is said. On a preemptible kernel the kernel can leave out a run of
/// the sensor's programs; such an open is a loss that the sensor reports (`missed_runs`), not one that a test of a
/// single open can hold against it. Whatever fails twice in a row is a failure.
fn run(rung: &Rung<'_>, test: &'static Test) -> (Outcome, Duration) {
    let started = Instant::now();
    let attempt = || rung.context(test.name).and_then(|context| (test.run)(&context));
    let missed = rung.missed_runs();
    let outcome = attempt().or_else(|error| {
        let missed = rung.missed_runs() - missed;
        eprintln!("{} {}: {missed} runs left out, once more after: {error:#}", rung.name, test.name);
        attempt()
    });
    match outcome {
        Ok(()) => (Outcome::Passed, started.elapsed()),
        Err(error) => (Outcome::Failed(format!("{error:#}")), started.elapsed()),
    }
}

/// The kernel gives init the command line's KEY=value words as its environment.
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

fn in_guest() -> anyhow::Result<()> {
    // SAFETY: the process has one thread.
    unsafe { std::env::set_var("WATCHER_TEST_BINARY", "/watcher") };
    let mut results = guest::set_up()?;
    let release = guest::release();
    let series = variable("WATCHER_TEST_SERIES").unwrap_or_else(|| guest::series(&release));
    ensure!(guest::series(&release) == series, "this is kernel {release}, not one of {series}");
    let (filter, only) = (variable("WATCHER_TEST_FILTER"), variable("WATCHER_TEST_RUNG"));

    let started = Instant::now();
    let (word, text) = btf::prototypes().map_or_else(|error| ("failed", format!("{error:#}")), |()| ("ok", "".into()));
    results.line(&format!("kernel {} {word} {} {text}", btf::NAME, started.elapsed().as_millis()))?;

    for name in RUNGS.into_iter().filter(|name| only.as_deref().is_none_or(|only| only == *name)) {
        let mut report = |test: &str, outcome: Outcome, took: Duration| {
            let (word, text) = match &outcome {
                Outcome::Passed => ("ok", ""),
                Outcome::Failed(text) => ("failed", text.as_str()),
                Outcome::Skipped(text) => ("skipped", text.as_str()),
            };
            results.line(format!("{name} {test} {word} {} {text}", took.as_millis()).trim_end())
        };
        let started = Instant::now();
        if let expect::Rung::Absent(reason) = expect::rung(&series, name) {
            report("ladder::absent", refuses(name, reason), started.elapsed())?;
            continue;
        }
        let rung = match Rung::start(name, PathBuf::from("/tmp").join(name)) {
            Ok(rung) => rung,
            Err(error) => {
                report("ladder::start", Outcome::Failed(format!("{error:#}")), started.elapsed())?;
                continue;
            }
        };
        report("ladder::start", Outcome::Passed, started.elapsed())?;
        for test in tests().filter(|test| filter.as_ref().is_none_or(|filter| test.name.contains(filter))) {
            match expect::skip(&series, name, test.name) {
                Some(reason) => report(test.name, Outcome::Skipped(reason.to_owned()), Duration::ZERO)?,
                None => {
                    let (outcome, took) = run(&rung, test);
                    report(test.name, outcome, took)?;
                }
            }
        }
        let started = Instant::now();
        let outcome =
            rung.sensor.into_inner().stop().map_or_else(|e| Outcome::Failed(format!("{e:#}")), |_| Outcome::Passed);
        report("ladder::stop", outcome, started.elapsed())?;
    }
    results.end()
}

/// A rung that is declared absent has to say so itself.
fn refuses(rung: &str, reason: &str) -> Outcome {
    match Sensor::run_to_end(rung, &PathBuf::from("/tmp/absent.log"), &["--duration", "1"]) {
        Ok(ended) if ended.status.code() == Some(CANNOT_RUN_HERE) => Outcome::Passed,
        Ok(ended) => Outcome::Failed(format!("declared absent ({reason}), but it ended with {}", ended.status)),
        Err(error) => Outcome::Failed(format!("{error:#}")),
    }
}

/// On the machine of whoever runs the tests nothing is known beforehand: a rung that it does not offer is a skip
/// that says why, and no rung at all is a failure, because tests that nobody runs prove nothing.
fn natively(arguments: &[String]) -> anyhow::Result<()> {
    let (mut only, mut filter) = (None, None);
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        match word.as_str() {
            "--rung" => only = Some(words.next().context("--rung needs the name of a rung")?.as_str()),
            // What cargo and IDEs pass to every test binary.
            "--nocapture" | "--quiet" | "-q" | "--include-ignored" => {}
            word if word.starts_with('-') => bail!("unknown option {word}; use --rung NAME and a part of a name"),
            word => filter = Some(word),
        }
    }
    let selected: Vec<&Test> = tests().filter(|test| filter.is_none_or(|filter| test.name.contains(filter))).collect();
    let (mut passed, mut failed, mut skipped) = (0, 0, 0);
    let started = Instant::now();
    if !sys::is_root() {
        println!("test kernel ... ignored, needs root: the sensor loads BPF programs");
        skipped = selected.len();
    } else {
        match btf::prototypes() {
            Ok(()) => {
                passed += 1;
                println!("test kernel::{} ... ok", btf::NAME);
            }
            Err(error) => {
                failed += 1;
                println!("test kernel::{} ... FAILED: {error:#}", btf::NAME);
            }
        }
        let mut ran = false;
        for name in RUNGS.into_iter().filter(|name| only.is_none_or(|only| only == *name)) {
            let scratch = tempfile::Builder::new().prefix("watcher-kernel-").tempdir()?;
            let probe = Sensor::run_to_end(name, &scratch.path().join("probe.log"), &["--duration", "1"])?;
            if probe.status.code() == Some(CANNOT_RUN_HERE) && only.is_none() {
                println!("test {name} ... ignored, this kernel does not offer it: {}", probe.log);
                skipped += 1;
                continue;
            }
            let rung = Rung::start(name, scratch.path().to_owned())?;
            ran = true;
            for test in &selected {
                let (outcome, took) = run(&rung, test);
                let name = format!("{name}::{}", test.name);
                match outcome {
                    Outcome::Passed => {
                        passed += 1;
                        println!("test {name} ... ok <{} ms>", took.as_millis());
                    }
                    Outcome::Failed(text) => {
                        failed += 1;
                        println!("test {name} ... FAILED: {text}");
                    }
                    Outcome::Skipped(text) => {
                        skipped += 1;
                        println!("test {name} ... ignored, {text}");
                    }
                }
            }
            rung.sensor.into_inner().stop()?;
        }
        ensure!(ran, "this machine offers no rung; the reasons stand above");
    }
    let verdict = if failed == 0 { "ok" } else { "FAILED" };
    println!(
        "\ntest result: {verdict}. {passed} passed; {failed} failed; {skipped} ignored; 0 measured; \
         0 filtered out; finished in {:.2}s",
        started.elapsed().as_secs_f32()
    );
    ensure!(failed == 0, "{failed} tests failed");
    Ok(())
}
