//! Runs the built sensor as an operator would, and collects its JSON lines.

use std::{
    fs::{self, File},
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};
use serde_json::Value;

use crate::sys;

/// The built sensor: beside init in the guest, else where cargo put it.
pub fn binary() -> PathBuf {
    match std::env::var_os("WATCHER_TEST_BINARY") {
        Some(path) => PathBuf::from(path),
        None => PathBuf::from(env!("CARGO_BIN_EXE_watcher")),
    }
}

/// How long something may take that takes milliseconds on real hardware.
pub fn patience() -> Duration {
    // Emulated processors are some twenty times slower, and two guests share this machine.
    Duration::from_secs(if std::process::id() == 1 { 60 } else { 15 })
}

#[derive(Default)]
struct Lines {
    lines: Mutex<Vec<Value>>,
    more: Condvar,
}

impl Lines {
    fn lock(&self) -> MutexGuard<'_, Vec<Value>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub struct Sensor {
    process: Child,
    lines: Arc<Lines>,
    reader: Option<std::thread::JoinHandle<()>>,
    log: PathBuf,
    /// The status line with which the sensor said that it watches.
    pub watching: Value,
}

/// What became of a sensor that has ended.
pub struct Ended {
    pub status: ExitStatus,
    pub lines: Vec<Value>,
    pub log: String,
}

impl Sensor {
    /// Starts it on a rung and waits until it watches.
    pub fn start(rung: &str, log: &Path, arguments: &[&str]) -> anyhow::Result<Self> {
        let mut sensor = Self::spawn(rung, log, arguments)?;
        let watching = sensor.wait_for("the status line that says watching", |line| {
            line["schema"] == "watcher.status.v1" && line["state"] != "starting" && line["state"] != "stopping"
        });
        match watching {
            Ok(line) => sensor.watching = line,
            Err(error) => {
                if verbose() {
                    eprintln!("{}", fs::read_to_string(log).unwrap_or_default());
                }
                return Err(error.context(format!("the sensor did not start on rung {rung}")));
            }
        }
        Ok(sensor)
    }

    fn spawn(rung: &str, log: &Path, arguments: &[&str]) -> anyhow::Result<Self> {
        let mut process = Command::new(binary())
            .args(["run", "--rung", rung, "--format", "json", "--events", "--no-store"])
            .args(arguments)
            .args(verbose().then_some("-vv"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(File::create(log).with_context(|| format!("cannot create {}", log.display()))?)
            .spawn()
            .with_context(|| format!("cannot run {}", binary().display()))?;
        let out = process.stdout.take().context("the sensor has no stdout")?;
        let lines = Arc::new(Lines::default());
        let shared = Arc::clone(&lines);
        let reader = std::thread::spawn(move || {
            for line in BufReader::new(out).split(b'\n').map_while(Result::ok) {
                // A line that is no JSON breaks the contract; it is kept so that `ended` can say so.
                let value = serde_json::from_slice(&line)
                    .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&line).into_owned()));
                shared.lock().push(value);
                shared.more.notify_all();
            }
            shared.more.notify_all();
        });
        Ok(Self { process, lines, reader: Some(reader), log: log.to_owned(), watching: Value::Null })
    }

    /// Runs it to its end, for starts that are expected to fail.
    pub fn run_to_end(rung: &str, log: &Path, arguments: &[&str]) -> anyhow::Result<Ended> {
        let mut sensor = Self::spawn(rung, log, arguments)?;
        sensor.ended()
    }

    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// The first line, past or future, that the predicate accepts.
    pub fn wait_for(&mut self, what: &str, wanted: impl Fn(&Value) -> bool) -> anyhow::Result<Value> {
        let mut found = None;
        self.wait_until(what, |lines| {
            found = lines.iter().find(|line| wanted(line)).cloned();
            found.is_some()
        })?;
        found.context("the line is gone")
    }

    /// Waits until the predicate accepts all lines so far.
    pub fn wait_until(&mut self, what: &str, mut enough: impl FnMut(&[Value]) -> bool) -> anyhow::Result<()> {
        let deadline = Instant::now() + patience();
        let lines = Arc::clone(&self.lines);
        let mut guard = lines.lock();
        loop {
            if enough(&guard) {
                return Ok(());
            }
            if let Some(status) = self.process.try_wait()? {
                // The reader may still hold its last lines.
                drop(guard);
                if let Some(reader) = self.reader.take() {
                    let _ = reader.join();
                }
                if enough(&lines.lock()) {
                    return Ok(());
                }
                bail!("the sensor ended with {status} before {what}; it logged: {}", self.log_tail());
            }
            if Instant::now() > deadline {
                drop(guard);
                bail!("{what} did not come within {} s; the sensor logged: {}", patience().as_secs(), self.log_tail());
            }
            guard =
                lines.more.wait_timeout(guard, Duration::from_millis(100)).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// The events so far, whatever they are about.
    pub fn events(&self) -> Vec<Value> {
        let lines = self.lines.lock();
        lines.iter().filter(|line| line["schema"] == "watcher.event.v1").cloned().collect()
    }

    pub fn log_tail(&self) -> String {
        tail(&self.log)
    }

    /// SIGTERM, which drains; every line it wrote, and it must have ended well.
    pub fn stop(mut self) -> anyhow::Result<Vec<Value>> {
        sys::kill(self.process.id() as i32, libc::SIGTERM)?;
        let ended = self.ended()?;
        ensure!(ended.status.code() == Some(0), "SIGTERM ended the sensor with {}: {}", ended.status, ended.log);
        Ok(ended.lines)
    }

    pub fn kill(mut self) -> anyhow::Result<()> {
        self.process.kill()?;
        self.process.wait().map(drop).context("cannot wait for the killed sensor")
    }

    fn ended(&mut self) -> anyhow::Result<Ended> {
        let deadline = Instant::now() + patience();
        let status = loop {
            if let Some(status) = self.process.try_wait()? {
                break status;
            }
            ensure!(Instant::now() < deadline, "the sensor does not end; it logged: {}", self.log_tail());
            std::thread::sleep(Duration::from_millis(10));
        };
        if let Some(reader) = self.reader.take() {
            ensure!(reader.join().is_ok(), "the reader of the sensor's lines panicked");
        }
        let lines = std::mem::take(&mut *self.lines.lock());
        if let Some(line) = lines.iter().find(|line| line["schema"].as_str().is_none()) {
            bail!("a line on stdout is no JSON object with a schema: {line}");
        }
        Ok(Ended { status, lines, log: self.log_tail() })
    }
}

impl Drop for Sensor {
    fn drop(&mut self) {
        // A failed test must not leave its sensor running.
        if let Ok(None) = self.process.try_wait() {
            let _ = self.process.kill();
            let _ = self.process.wait();
        }
    }
}

/// For a person who looks into a rung that does not start: the sensor's whole log, the verifier's included.
fn verbose() -> bool {
    std::env::var_os("WATCHER_TEST_VERBOSE").is_some()
}

fn tail(log: &Path) -> String {
    let text = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(12)..].join(" | ")
}
