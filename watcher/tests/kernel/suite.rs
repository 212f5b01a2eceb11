//! What a test is, what it gets, and how its openers are started and checked.

use std::{
    cell::{Cell, RefCell},
    fs,
    io::{BufRead as _, BufReader, Write as _},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Child as Process, ChildStdin, ChildStdout, Command, Stdio},
};

use anyhow::{Context as _, bail, ensure};
use serde_json::Value;

use crate::{
    child::Child,
    event::{Attempt, errno_name},
    sensor::Sensor,
};

#[derive(Clone, Copy)]
pub struct Test {
    /// `group::name`.
    pub name: &'static str,
    pub run: fn(&Context<'_>) -> anyhow::Result<()>,
    /// What the test's opener does.
    pub child: fn(&Child) -> anyhow::Result<()>,
}

impl Test {
    /// A test whose whole expectation is that each failing open of its child arrives, told right.
    pub const fn opens(name: &'static str, child: fn(&Child) -> anyhow::Result<()>) -> Self {
        Self { name, run: every_attempt_arrives, child }
    }

    pub const fn new(
        name: &'static str,
        run: fn(&Context<'_>) -> anyhow::Result<()>,
        child: fn(&Child) -> anyhow::Result<()>,
    ) -> Self {
        Self { name, run, child }
    }
}

/// For tests that start no opener of their own.
pub fn no_child(_: &Child) -> anyhow::Result<()> {
    bail!("this test has no opener")
}

/// What one rung's tests share.
pub struct Rung<'a> {
    pub name: &'a str,
    /// Of all tests of this run.
    pub scratch: PathBuf,
    /// The name that the shared sensor watches. Unique to this run, so that a second run, or real servers, on the
    /// same machine disturb nothing.
    pub watched: String,
    pub sensor: RefCell<Sensor>,
    pub openers: Cell<u32>,
}

pub struct Context<'a> {
    pub rung: &'a Rung<'a>,
    pub test: &'static str,
    /// This test's own directory.
    pub dir: PathBuf,
}

impl<'a> Rung<'a> {
    pub fn start(name: &'a str, scratch: PathBuf) -> anyhow::Result<Self> {
        fs::create_dir_all(&scratch)?;
        // Openers that become another user have to get here.
        fs::set_permissions(&scratch, fs::Permissions::from_mode(0o755))?;
        let watched = format!("ko{}", std::process::id());
        let sensor = Sensor::start(name, &scratch.join("sensor.log"), &["--comm", &watched])?;
        ensure!(
            sensor.watching["rung"] == name,
            "the sensor was told to use rung {name} and says {}",
            sensor.watching["rung"]
        );
        Ok(Self { name, scratch, watched, sensor: RefCell::new(sensor), openers: Cell::new(0) })
    }

    /// Runs that the kernel left out of this rung's sensor so far; 0 where it does not count them.
    pub fn missed_runs(&self) -> u64 {
        crate::folding::missed_runs(&self.sensor.borrow()).unwrap_or(0)
    }

    pub fn context(&'a self, test: &'static str) -> anyhow::Result<Context<'a>> {
        let dir = self.scratch.join(test.replace("::", "-"));
        fs::create_dir_all(&dir)?;
        Ok(Context { rung: self, test, dir })
    }
}

impl Context<'_> {
    /// A sensor of this test alone.
    pub fn own_sensor(&self, arguments: &[&str]) -> anyhow::Result<Sensor> {
        Sensor::start(self.rung.name, &self.dir.join("sensor.log"), arguments)
    }

    /// Starts this test's opener under the watched name.
    pub fn opener(&self, arguments: &[&str]) -> anyhow::Result<Opener> {
        self.opener_as(&self.rung.watched, arguments)
    }

    /// Starts it under another name.
    pub fn opener_as(&self, name: &str, arguments: &[&str]) -> anyhow::Result<Opener> {
        self.start(name, self.test, arguments)
    }

    fn start(&self, name: &str, test: &str, arguments: &[&str]) -> anyhow::Result<Opener> {
        let program = self.program(name)?;
        let mut process = Command::new(&program)
            .args(["--opener", test])
            .arg(&self.dir)
            .args(arguments)
            // cargo's library path makes the dynamic loader fail to open files of its own, which count.
            .env_remove("LD_LIBRARY_PATH")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot run {}", program.display()))?;
        let input = process.stdin.take();
        let output = process.stdout.take().context("the opener has no stdout")?;
        Ok(Opener { process, input, output: BufReader::new(output) })
    }

    /// This binary under another name: a link where the file system allows it, as it is large.
    pub fn program(&self, name: &str) -> anyhow::Result<PathBuf> {
        let directory = self.rung.scratch.join("bin");
        fs::create_dir_all(&directory)?;
        let program = directory.join(name);
        if !program.exists() {
            let own = std::env::current_exe()?;
            if fs::hard_link(&own, &program).is_err() {
                fs::copy(&own, &program).with_context(|| format!("cannot copy to {}", program.display()))?;
            }
        }
        Ok(program)
    }

    /// Each attempt has its event, and the event tells it right.
    pub fn check(&self, attempts: &[Attempt]) -> anyhow::Result<()> {
        ensure!(!attempts.is_empty(), "the opener reported no failing open");
        check(&mut self.rung.sensor.borrow_mut(), attempts)
    }

    /// Returns when everything that happened before has reached the shared sensor's output: records are in one ring,
    /// in order, so an event of now is behind them all.
    pub fn fence(&self) -> anyhow::Result<()> {
        self.fence_of(&mut self.rung.sensor.borrow_mut(), &self.rung.watched)
    }

    pub fn fence_of(&self, sensor: &mut Sensor, watched: &str) -> anyhow::Result<()> {
        let number = self.rung.openers.get();
        self.rung.openers.set(number + 1);
        let attempts = self.start(watched, FENCE, &[&number.to_string()])?.finish()?;
        check(sensor, &attempts).context("the open that marks the end of the test")
    }

    /// The shared sensor has nothing about paths in this test's directory except what the predicate allows.
    pub fn nothing_else(&self, allowed: impl Fn(&Value) -> bool) -> anyhow::Result<()> {
        self.fence()?;
        nothing_else(&self.rung.sensor.borrow(), &self.dir, allowed)
    }
}

pub fn nothing_else(sensor: &Sensor, dir: &Path, allowed: impl Fn(&Value) -> bool) -> anyhow::Result<()> {
    let dir = dir.to_string_lossy().into_owned();
    for event in sensor.events() {
        let about = |key: &str| event[key].as_str().is_some_and(|path| path.starts_with(&dir) && !path.contains(FENCE));
        if (about("file.path") || about("file.requested_path")) && !allowed(&event) {
            bail!("an event that must not be: {event}");
        }
    }
    Ok(())
}

/// The opener behind `Context::fence`.
pub const FENCE: &str = "suite::fence";

pub fn fence_child(child: &Child) -> anyhow::Result<()> {
    let number = child.arguments.first().context("the fence has no number")?;
    child.miss(&format!("{FENCE}-{number}"))
}

pub fn check(sensor: &mut Sensor, attempts: &[Attempt]) -> anyhow::Result<()> {
    for attempt in attempts {
        let what = format!(
            "an event for {} of {}",
            errno_name(attempt.errno),
            attempt.requested.as_ref().map_or("an unreadable name".into(), |path| short(path))
        );
        let event = sensor.wait_for(&what, |line| line["schema"] == "watcher.event.v1" && attempt.is_meant_by(line))?;
        let differences = attempt.differences(&event);
        ensure!(differences.is_empty(), "{what} is not right:\n{differences}");
    }
    Ok(())
}

fn short(path: &[u8]) -> String {
    let text = path.escape_ascii().to_string();
    if text.len() <= 120 { text } else { format!("…{} ({} bytes)", &text[text.len() - 60..], path.len()) }
}

fn every_attempt_arrives(context: &Context<'_>) -> anyhow::Result<()> {
    let attempts = context.opener(&[])?.finish()?;
    // A test named after an errno has to have provoked that one.
    let name = context.test.rsplit("::").next().unwrap_or_default();
    let errno = name.split('_').next().unwrap_or_default().to_uppercase();
    if context.test.starts_with("errnos::") {
        for attempt in &attempts {
            ensure!(errno_name(attempt.errno) == errno, "provoked {} instead", errno_name(attempt.errno));
        }
    }
    context.check(&attempts)
}

/// A running opener.
pub struct Opener {
    process: Process,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Opener {
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Lets an opener go on that waits for it.
    pub fn go(&mut self) -> anyhow::Result<()> {
        let input = self.input.as_mut().context("the opener's input is closed")?;
        input.write_all(b"go\n").context("the opener is gone")
    }

    /// Its next line.
    pub fn line(&mut self) -> anyhow::Result<Value> {
        let mut line = String::new();
        ensure!(self.output.read_line(&mut line)? > 0, "the opener said nothing more");
        serde_json::from_str(&line).with_context(|| format!("the opener said {line}"))
    }

    /// Its failing opens, when it and its forks have ended well.
    pub fn finish(mut self) -> anyhow::Result<Vec<Attempt>> {
        let mut attempts = Vec::new();
        for line in (&mut self.output).lines() {
            let line: Value = serde_json::from_str(&line?)?;
            if line["errno"].is_i64() {
                attempts.push(Attempt::parse(&line)?);
            }
        }
        let status = self.process.wait()?;
        ensure!(status.success(), "the opener ended with {status}; its reason stands above");
        Ok(attempts)
    }
}

impl Drop for Opener {
    fn drop(&mut self) {
        if let Ok(None) = self.process.try_wait() {
            let _ = self.process.kill();
            let _ = self.process.wait();
        }
    }
}
