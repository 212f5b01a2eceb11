//! The sensor's own life: what it says of itself, how it ends, and that nothing stays behind.

use std::{
    fs,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use libc::O_RDONLY;

use crate::{
    child::Child,
    sensor::{Sensor, patience},
    suite::{self, Context, Test, no_child},
    sys::{self, BpfKind},
};

pub const TESTS: &[Test] = &[
    Test::new("life::status", status, no_child),
    Test::new("life::duration", duration, no_child),
    Test::new("life::sigkill", sigkill, plain),
    Test::new("life::two_sensors", two_sensors, plain),
];

fn plain(child: &Child) -> anyhow::Result<()> {
    let word = child.arguments.first().map_or("plain", |word| word);
    child.each_call(|call| Ok((child.path(&format!("{word}-{call}")), O_RDONLY)))
}

fn status(context: &Context<'_>) -> anyhow::Result<()> {
    let sensor = context.rung.sensor.borrow();
    let status = &sensor.watching;
    ensure!(status["rung"] == context.rung.name, "the status names rung {}", status["rung"]);
    let release = crate::guest::release();
    ensure!(status["kernel"] == release.as_str(), "the status names kernel {}, not {release}", status["kernel"]);
    ensure!(status["watched.processes"].is_u64(), "the status has no watched.processes: {status}");
    ensure!(sensor.log_tail().contains("watching") || status["state"] == "watching", "no word of watching");
    Ok(())
}

fn duration(context: &Context<'_>) -> anyhow::Result<()> {
    let started = Instant::now();
    let log = context.dir.join("sensor.log");
    let ended = Sensor::run_to_end(context.rung.name, &log, &["--duration", "1"])?;
    ensure!(ended.status.code() == Some(0), "--duration ended with {}: {}", ended.status, ended.log);
    ensure!(started.elapsed() >= Duration::from_secs(1), "it ended before its time");
    ensure!(ended.lines.iter().any(|line| line["state"] == "watching"), "it never said that it watches");
    Ok(())
}

/// BPF programs and links that a process holds, from the kernel's own description of its descriptors.
fn held(pid: u32) -> anyhow::Result<Vec<(BpfKind, u32)>> {
    let mut held = Vec::new();
    for entry in fs::read_dir(format!("/proc/{pid}/fdinfo"))?.flatten() {
        // A descriptor may be gone by now.
        let text = fs::read_to_string(entry.path()).unwrap_or_default();
        let number = |key: &str| text.lines().find_map(|line| line.strip_prefix(key)?.trim().parse().ok());
        // A link's description names its program as well.
        held.extend(number("link_id:").map(|id| (BpfKind::Link, id)));
        held.extend(number("prog_id:").map(|id| (BpfKind::Program, id)));
    }
    Ok(held)
}

fn all_gone(held: &[(BpfKind, u32)]) -> anyhow::Result<()> {
    let deadline = Instant::now() + patience();
    // The kernel frees programs after a grace period.
    while let Some((kind, id)) = held.iter().find(|(kind, id)| sys::bpf_exists(*kind, *id)) {
        ensure!(Instant::now() < deadline, "{kind:?} {id} is still there");
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

fn sigkill(context: &Context<'_>) -> anyhow::Result<()> {
    let arguments = ["--comm", context.rung.watched.as_str()];
    for _ in 0..2 {
        let mut sensor = context.own_sensor(&arguments)?;
        let attempts = context.opener(&[&format!("before{}", sensor.pid())])?.finish()?;
        suite::check(&mut sensor, &attempts)?;
        let held = held(sensor.pid())?;
        ensure!(held.iter().any(|(kind, _)| *kind == BpfKind::Program), "the sensor holds no program: {held:?}");
        sensor.kill()?;
        all_gone(&held).context("after SIGKILL")?;
    }
    // And a stop leaves no more than a kill.
    let sensor = context.own_sensor(&arguments)?;
    let held = held(sensor.pid())?;
    sensor.stop()?;
    all_gone(&held).context("after SIGTERM")
}

/// A second sensor neither takes from the first nor disturbs it, also when it goes.
fn two_sensors(context: &Context<'_>) -> anyhow::Result<()> {
    let mut second = context.own_sensor(&["--comm", &context.rung.watched])?;
    let attempts = context.opener(&["both"])?.finish()?;
    suite::check(&mut second, &attempts).context("the second sensor")?;
    context.check(&attempts).context("the first sensor")?;
    second.stop()?;
    let attempts = context.opener(&["one"])?.finish()?;
    context.check(&attempts).context("the first sensor, alone again")
}
