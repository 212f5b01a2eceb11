//! Which processes are watched: from a scan at the start, and through fork, exec and exit from then on.

use std::{os::unix::process::CommandExt as _, process::Command};

use anyhow::{Context as _, ensure};
use libc::O_RDONLY;
use serde_json::json;

use crate::{
    child::{AT_FDCWD, Call, Child, c_string, hex},
    event::Attempt,
    suite::{self, Context, Test},
    sys,
};

pub const TESTS: &[Test] = &[
    Test::opens("processes::started_after", plain),
    Test::new("processes::started_before", started_before, forks_when_told),
    Test::opens("processes::forks", forks),
    Test::opens("processes::threads", threads),
    Test::new("processes::identity", identity, waits_then_misses),
    Test::new("processes::exec_away", exec_away, execs),
    Test::new("processes::exec_into", exec_into, execs),
    Test::new("processes::unwatched", unwatched, plain),
    Test::new("processes::success", success, succeeds),
    Test::new("processes::pid_reuse", pid_reuse, reuses_pid),
    Test::opens("processes::pid_namespace", pid_namespace),
    Test::new("processes::short_lived", short_lived, storm),
    Test::new("processes::gone_is_forgotten", gone_is_forgotten, storm),
];

fn plain(child: &Child) -> anyhow::Result<()> {
    child.each_call(|call| Ok((child.path(call), O_RDONLY)))
}

/// Runs a part of an opener in a fork and demands that it went well.
fn in_fork(part: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<i32> {
    let pid = sys::fork(|| exit_code(part()))?;
    let code = sys::wait(pid)?;
    ensure!(code == 0, "the fork ended with {code}");
    Ok(pid)
}

fn exit_code(result: anyhow::Result<()>) -> i32 {
    match result {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("fork: {error:#}");
            1
        }
    }
}

fn forks(child: &Child) -> anyhow::Result<()> {
    in_fork(|| {
        child.miss("child")?;
        in_fork(|| {
            child.miss("grandchild")?;
            in_fork(|| child.miss("great-grandchild")).map(drop)
        })
        .map(drop)
    })?;
    child.miss("parent")
}

fn threads(child: &Child) -> anyhow::Result<()> {
    std::thread::scope(|scope| {
        let handles: Vec<_> =
            (0..4).map(|number| scope.spawn(move || child.miss(&format!("thread{number}")))).collect();
        handles.into_iter().try_for_each(|handle| handle.join().map_err(|_| anyhow::anyhow!("a thread panicked"))?)
    })?;
    child.miss("main-thread")
}

fn forks_when_told(child: &Child) -> anyhow::Result<()> {
    let pid = sys::fork(|| {
        // Ends when the opener does, whatever becomes of the test.
        let fork = Child { dir: child.dir.clone(), arguments: Vec::new() };
        std::thread::sleep(std::time::Duration::from_millis(1));
        exit_code(fork.wait_for_go().and_then(|()| fork.miss("fork-from-before")))
    })?;
    child.say(&json!({ "ready": true }))?;
    ensure!(sys::wait(pid)? == 0, "the fork failed");
    child.miss("parent-from-before")?;
    in_fork(|| child.miss("fork-after")).map(drop)
}

/// The sensor finds a process, and the fork it made before, by its scan.
fn started_before(context: &Context<'_>) -> anyhow::Result<()> {
    let name = format!("kb{}", std::process::id());
    let mut opener = context.opener_as(&name, &[])?;
    opener.line()?;
    let mut sensor = context.own_sensor(&["--comm", &name])?;
    ensure!(sensor.watching["watched.processes"].as_u64() >= Some(2), "scan missed: {}", sensor.watching);
    opener.go()?;
    suite::check(&mut sensor, &opener.finish()?)?;
    sensor.stop().map(drop)
}

fn waits_then_misses(child: &Child) -> anyhow::Result<()> {
    child.miss("first")?;
    child.wait_for_go()
}

/// What the sensor says about the process itself.
fn identity(context: &Context<'_>) -> anyhow::Result<()> {
    let mut opener = context.opener(&[])?;
    let attempt = Attempt::parse(&opener.line()?)?;
    let event = context.rung.sensor.borrow_mut().wait_for("the event of a process that still runs", |line| {
        line["schema"] == "watcher.event.v1" && attempt.is_meant_by(line)
    })?;
    let program = context.program(&context.rung.watched)?;
    let expected = [
        ("process.comm", json!(context.rung.watched)),
        ("process.executable.name", json!(context.rung.watched)),
        ("process.executable.path", json!(program)),
        ("process.user.id", json!(0)),
        ("process.parent.pid", json!(std::process::id())),
        ("rung", json!(context.rung.name)),
    ];
    for (key, value) in expected {
        ensure!(event[key] == value, "{key} is {}, expected {value}", event[key]);
    }
    let time = event["time"].as_str().context("the event has no time")?;
    ensure!(time.ends_with('Z') && time.as_bytes().get(10) == Some(&b'T'), "not RFC 3339 in UTC: {time}");
    opener.go()?;
    opener.finish().map(drop)
}

/// Arguments: the program to become, and what it opens then.
fn execs(child: &Child) -> anyhow::Result<()> {
    match child.arguments.as_slice() {
        [program, last] => {
            child.miss("before-exec")?;
            let test = if last == "away" { "processes::exec_away" } else { "processes::exec_into" };
            Err(Command::new(program).args(["--opener", test]).arg(&child.dir).exec().into())
        }
        _ => child.miss("after-exec"),
    }
}

/// (attempts before, attempts after) an exec.
fn split(attempts: Vec<Attempt>) -> (Vec<Attempt>, Vec<Attempt>) {
    attempts
        .into_iter()
        .partition(|attempt| attempt.requested.as_ref().is_some_and(|path| path.ends_with(b"before-exec")))
}

fn exec_away(context: &Context<'_>) -> anyhow::Result<()> {
    let other = context.program("other")?.display().to_string();
    let (before, after) = split(context.opener(&[&other, "away"])?.finish()?);
    ensure!(before.len() == 1 && after.len() == 1, "the opener did not run through");
    context.check(&before)?;
    context.nothing_else(|event| before[0].is_meant_by(event))
}

fn exec_into(context: &Context<'_>) -> anyhow::Result<()> {
    let watched = context.program(&context.rung.watched)?.display().to_string();
    let (before, after) = split(context.opener_as("other", &[&watched, "into"])?.finish()?);
    ensure!(before.len() == 1 && after.len() == 1, "the opener did not run through");
    context.check(&after)?;
    context.nothing_else(|event| after[0].is_meant_by(event))
}

fn unwatched(context: &Context<'_>) -> anyhow::Result<()> {
    context.opener_as("other", &[])?.finish()?;
    context.nothing_else(|_| false)
}

fn succeeds(child: &Child) -> anyhow::Result<()> {
    for number in 0..50 {
        let path = child.path(&format!("file{number}"));
        for call in [
            Call::Openat(AT_FDCWD, &path, libc::O_CREAT | libc::O_RDWR),
            Call::Openat(AT_FDCWD, &path, O_RDONLY),
            Call::Openat2(AT_FDCWD, &path, crate::child::how(O_RDONLY)),
            #[cfg(target_arch = "x86_64")]
            Call::Open(&path, O_RDONLY),
            #[cfg(target_arch = "x86_64")]
            Call::Creat(&path),
        ] {
            call.run()?;
        }
    }
    Ok(())
}

fn success(context: &Context<'_>) -> anyhow::Result<()> {
    context.opener(&[])?.finish()?;
    context.nothing_else(|_| false)
}

/// A watched process ends, and its number goes to one that is not watched.
fn reuses_pid(child: &Child) -> anyhow::Result<()> {
    match child.arguments.as_slice() {
        [watched] => {
            // This opener is unwatched; the program it starts under the watched name is a fork that execs.
            let pid = sys::fork(|| {
                let error = Command::new(watched).args(["--opener", "processes::pid_reuse"]).arg(&child.dir).exec();
                eprintln!("exec of {watched}: {error}");
                1
            })?;
            ensure!(sys::wait(pid)? == 0, "the watched process failed");
            let again = sys::fork_as(pid, || exit_code(child.miss("second-owner")))?;
            ensure!(again == pid && sys::wait(again)? == 0, "the second process failed");
            Ok(())
        }
        _ => child.miss("first-owner"),
    }
}

fn pid_reuse(context: &Context<'_>) -> anyhow::Result<()> {
    let watched = context.program(&context.rung.watched)?.display().to_string();
    let attempts = context.opener_as("other", &[&watched])?.finish()?;
    ensure!(attempts.len() == 2 && attempts[0].pid == attempts[1].pid, "no number was used again: {attempts:?}");
    context.check(&attempts[..1])?;
    context.nothing_else(|event| attempts[0].is_meant_by(event))
}

/// Forks that live for one open: none is missed, although each is gone before anyone could look it up.
fn storm(child: &Child) -> anyhow::Result<()> {
    for number in 0..100 {
        in_fork(|| child.miss(&format!("short{number}")))?;
    }
    Ok(())
}

fn short_lived(context: &Context<'_>) -> anyhow::Result<()> {
    let attempts = context.opener(&[])?.finish()?;
    ensure!(attempts.len() == 100, "{} of 100 forks reported", attempts.len());
    context.check(&attempts)
}

/// Inside, the process is number 1; the sensor reports the number that the host knows it by.
fn pid_namespace(child: &Child) -> anyhow::Result<()> {
    sys::unshare_pids()?;
    let path = child.path("inside");
    let name = c_string(&path)?;
    let pid = sys::fork(|| {
        let first = std::process::id() == 1;
        i32::from(!first || sys::openat(AT_FDCWD, &name, O_RDONLY).is_ok())
    })?;
    ensure!(sys::wait(pid)? == 0, "the fork is not the first process of a namespace");
    child.say(&json!({
        "errno": libc::ENOENT, "flags": O_RDONLY, "requested": hex(&path), "absolute": hex(&path),
        "resolution": "absolute", "pid": pid, "tid": pid, "ppid": std::process::id(),
    }))
}

/// Those that ended are not counted as watched any more, or the set would fill up on a busy server.
fn gone_is_forgotten(context: &Context<'_>) -> anyhow::Result<()> {
    let name = format!("kg{}", std::process::id());
    let mut sensor = context.own_sensor(&["--comm", &name])?;
    ensure!(sensor.watching["watched.processes"] == 0, "watches before anything ran: {}", sensor.watching);
    let attempts = context.opener_as(&name, &[])?.finish()?;
    suite::check(&mut sensor, &attempts)?;
    let lines = sensor.stop()?;
    let last = lines.iter().rev().find(|line| line["schema"] == "watcher.status.v1").context("no last status")?;
    ensure!(last["state"] == "stopping", "the last status is {last}");
    ensure!(last["watched.processes"] == 0, "still watches processes that are gone: {last}");
    Ok(())
}
