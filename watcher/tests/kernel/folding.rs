//! Repeats become counts, and the counts are exact: with many processes, with many files, with a full ring.

use std::collections::HashMap;

use anyhow::{Context as _, ensure};
use libc::O_RDONLY;
use serde_json::Value;

use crate::{
    child::{AT_FDCWD, Child, c_string},
    sensor::Sensor,
    suite::{Context, Test},
    sys,
};

pub const TESTS: &[Test] = &[
    Test::new("folding::one_file", one_file, burst),
    Test::new("folding::thousand_files", thousand_files, burst),
    Test::new("folding::errnos_apart", errnos_apart, two_errnos),
    Test::new("folding::ring_full", ring_full, burst),
];

const PROCESSES: usize = 4;
const OPENS: usize = 100_000;

/// Arguments: number of files. Each of four processes fails to open them in turn.
fn burst(child: &Child) -> anyhow::Result<()> {
    let files: usize = child.arguments.first().context("no number of files")?.parse()?;
    let paths: Vec<_> = (0..files)
        .map(|number| c_string(&child.path(&format!("missing-{number:05}.php"))))
        .collect::<anyhow::Result<_>>()?;
    let forks: Vec<i32> = (0..PROCESSES)
        .map(|_| {
            sys::fork(|| {
                let failed = paths.iter().cycle().take(OPENS / PROCESSES).filter(|path| {
                    sys::openat(AT_FDCWD, path, O_RDONLY).is_err_and(|error| error.raw_os_error() == Some(libc::ENOENT))
                });
                i32::from(failed.count() != OPENS / PROCESSES)
            })
        })
        .collect::<Result<_, _>>()?;
    for fork in forks {
        ensure!(sys::wait(fork)? == 0, "an open did not fail as it ought to");
    }
    Ok(())
}

/// Sum of counts by path.
fn counts(lines: &[Value]) -> HashMap<String, u64> {
    let mut counts = HashMap::new();
    for line in lines.iter().filter(|line| line["schema"] == "watcher.event.v1") {
        let (Some(path), Some(count)) = (line["file.path"].as_str(), line["count"].as_u64()) else { continue };
        if path.contains("missing-") {
            *counts.entry(path.to_owned()).or_default() += count;
        }
    }
    counts
}

/// Runs of the sensor's programs that the kernel itself left out. A program that is preempted keeps its own next run
/// on that processor from starting (`prog->active`, kernel/bpf/trampoline.c; `bpf_prog_active` on the other rungs),
/// which happens on preemptible kernels under a flood. The kernel counts them, so they are a known loss.
pub fn missed_runs(sensor: &Sensor) -> anyhow::Result<u64> {
    let mut missed = 0;
    for entry in std::fs::read_dir(format!("/proc/{}/fdinfo", sensor.pid()))?.flatten() {
        let text = std::fs::read_to_string(entry.path()).unwrap_or_default();
        let count = text.lines().find_map(|line| line.strip_prefix("recursion_misses:")?.trim().parse::<u64>().ok());
        missed += count.unwrap_or(0);
    }
    Ok(missed)
}

/// Exact, but for what the kernel says that it left out.
fn complete(total: u64, missed: u64) -> anyhow::Result<()> {
    let opens = OPENS as u64;
    ensure!(total <= opens, "{total} opens were counted, of {opens}");
    ensure!(
        total + missed >= opens,
        "{total} of {opens} opens were counted, and the kernel left out no more than {missed} runs"
    );
    Ok(())
}

/// A name of its own, so that the flood does not fall on the sensor that all tests share, nor on those of another run
/// on the same machine.
fn flooding() -> String {
    format!("kf{}", std::process::id())
}

fn exact(context: &Context<'_>, files: usize) -> anyhow::Result<()> {
    let sensor = context.own_sensor(&["--comm", &flooding()])?;
    context.opener_as(&flooding(), &[&files.to_string()])?.finish()?;
    let missed = missed_runs(&sensor)?;
    let lines = sensor.stop()?;
    let counts = counts(&lines);
    let total: u64 = counts.values().sum();
    ensure!(counts.len() == files, "{} of {files} paths were reported, with {total} opens", counts.len());
    complete(total, missed)?;
    for (path, count) in &counts {
        let expected = (OPENS / files) as u64;
        ensure!(*count <= expected, "{path} was counted {count} times, not {expected}");
        ensure!(*count == expected || missed > 0, "{path} was counted {count} times, not {expected}");
    }
    // Folded means that the lines are few: one sighting a path, and now and then a growing count.
    let events = lines.iter().filter(|line| line["schema"] == "watcher.event.v1").count();
    ensure!(events < OPENS / 2, "{events} lines for {OPENS} opens");
    Ok(())
}

fn one_file(context: &Context<'_>) -> anyhow::Result<()> {
    exact(context, 1)
}

fn thousand_files(context: &Context<'_>) -> anyhow::Result<()> {
    exact(context, 1000)
}

fn two_errnos(child: &Child) -> anyhow::Result<()> {
    let path = child.dir.join("changes");
    let name = c_string(&child.path("changes"))?;
    for number in 0..100 {
        if number % 2 == 0 {
            std::fs::create_dir_all(&path)?;
            ensure!(sys::openat(AT_FDCWD, &name, libc::O_WRONLY).is_err(), "a directory opened for writing");
            std::fs::remove_dir(&path)?;
        } else {
            ensure!(sys::openat(AT_FDCWD, &name, libc::O_WRONLY).is_err(), "a missing file opened");
        }
    }
    Ok(())
}

/// One path that fails in two ways keeps two counts.
fn errnos_apart(context: &Context<'_>) -> anyhow::Result<()> {
    let sensor = context.own_sensor(&["--comm", &context.rung.watched])?;
    context.opener(&[])?.finish()?;
    let lines = sensor.stop()?;
    for errno in ["EISDIR", "ENOENT"] {
        let sum: u64 = lines
            .iter()
            .filter(|line| line["error.type"] == errno)
            .filter(|line| line["file.path"].as_str().is_some_and(|path| path.ends_with("/changes")))
            .filter_map(|line| line["count"].as_u64())
            .sum();
        ensure!(sum == 50, "{errno} was counted {sum} times, not 50");
    }
    Ok(())
}

/// With a ring of a few pages, and a sensor that does not get to read it, sightings are lost; totals are not, and
/// what was lost is counted.
fn ring_full(context: &Context<'_>) -> anyhow::Result<()> {
    let config = context.dir.join("config.toml");
    std::fs::write(&config, "[sensor]\nring_bytes = 32768\n")?;
    let config = config.display().to_string();
    let sensor = context.own_sensor(&["--config", &config, "--comm", &flooding()])?;
    stopped(&sensor, libc::SIGSTOP)?;
    context.opener_as(&flooding(), &["1000"])?.finish()?;
    stopped(&sensor, libc::SIGCONT)?;
    let missed = missed_runs(&sensor)?;
    let lines = sensor.stop()?;
    let statuses: Vec<&Value> = lines.iter().filter(|line| line["schema"] == "watcher.status.v1").collect();
    let last = statuses.last().context("no status line")?;
    complete(last["failed_opens"]["ENOENT"].as_u64().context("the status has no total")?, missed)?;
    let lost = statuses
        .iter()
        .any(|status| status["lost"].as_object().into_iter().flatten().any(|(_, count)| count.as_u64() > Some(0)));
    ensure!(lost, "nothing is said to be lost in a ring of a few pages: {last}");
    Ok(())
}

/// A sensor that gets no processor is what fills a ring.
fn stopped(sensor: &Sensor, signal: i32) -> anyhow::Result<()> {
    sys::kill(sensor.pid() as i32, signal).context("cannot stop the sensor")
}
