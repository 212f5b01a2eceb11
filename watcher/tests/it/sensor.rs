//! The built sensor under test: started with scratch state, read line by line with the time of arrival.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::process;

/// The binary under test.
pub const BINARY: &str = env!("CARGO_BIN_EXE_watcher");

/// How long a line that is due may take on a busy two-core machine; the tests of latency have their own limits.
pub const SOON: Duration = Duration::from_secs(10);

/// Why no sensor runs here, in its own words; asked once, before the trials.
pub fn unable() -> Option<String> {
    let output = Command::new(BINARY)
        .args(["run", "--format", "json", "--no-store", "--duration", "0", "--comm", "watcher-it-none"])
        .stdin(Stdio::null())
        .output();
    match output {
        Err(error) => Some(format!("needs {BINARY}: {error}")),
        // Only "this host cannot" is a reason to skip: any other failure is a bug that the trials must show.
        Ok(output) if output.status.code() == Some(3) => {
            let text = String::from_utf8_lossy(&output.stderr);
            Some(format!("needs a host that runs the sensor: {}", text.lines().last().unwrap_or_default()))
        }
        Ok(_) => None,
    }
}

#[derive(Clone, Debug)]
pub struct Line {
    pub at: Instant,
    pub json: Value,
}

impl Line {
    pub fn schema(&self) -> &str {
        self.text("schema")
    }

    /// A string value, or nothing.
    pub fn text(&self, key: &str) -> &str {
        self.json[key].as_str().unwrap_or_default()
    }

    pub fn number(&self, key: &str) -> Option<u64> {
        self.json[key].as_u64()
    }

    pub fn is_finding(&self) -> bool {
        self.schema() == "watcher.finding.v1"
    }

    pub fn is_event(&self) -> bool {
        self.schema() == "watcher.event.v1"
    }
}

#[derive(Debug, Default)]
struct Output {
    lines: Vec<Line>,
    /// Standard output lines that are no JSON object with a schema: each breaks the contract.
    wrong: Vec<String>,
    closed: bool,
}

type Shared = Arc<(Mutex<Output>, Condvar)>;

/// A running sensor; killed when dropped.
#[derive(Debug)]
pub struct Watcher {
    child: Child,
    output: Shared,
    stderr: Arc<Mutex<String>>,
    readers: Vec<JoinHandle<()>>,
    _state: TempDir,
}

/// How a sensor ended and all it wrote.
#[derive(Debug)]
pub struct Ended {
    pub status: ExitStatus,
    pub lines: Vec<Line>,
    pub stderr: String,
}

impl Watcher {
    /// Starts `watcher run` with events on and waits until it watches.
    pub fn start<S: AsRef<OsStr>>(args: &[S]) -> Result<Self> {
        let watcher = Self::launch(args)?;
        watcher.wait_for("the status `watching`", Duration::from_secs(20), |line| {
            line.schema() == "watcher.status.v1" && line.text("state") == "watching"
        })?;
        Ok(watcher)
    }

    /// A sensor for the descendants of these processes.
    pub fn on(pids: &[u32]) -> Result<Self> {
        let pids: Vec<String> = pids.iter().map(u32::to_string).collect();
        let args: Vec<&str> = pids.iter().flat_map(|pid| ["--pid", pid.as_str()]).collect();
        Self::start(&args)
    }

    fn launch<S: AsRef<OsStr>>(args: &[S]) -> Result<Self> {
        let state = crate::servers::scratch("watcher-it-state-")?;
        let mut child = process::tied(BINARY)
            .args(["run", "--format", "json", "--events", "--state-dir"])
            .arg(state.path())
            .args(args)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("could not start {BINARY}"))?;
        let output = Shared::default();
        let stderr = Arc::new(Mutex::new(String::new()));
        let (out, err) = (child.stdout.take().context("no stdout")?, child.stderr.take().context("no stderr")?);
        let readers = vec![read_lines(out, Arc::clone(&output)), read_log(err, Arc::clone(&stderr))];
        Ok(Self { child, output, stderr, readers, _state: state })
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn stderr(&self) -> String {
        lock(&self.stderr).clone()
    }

    pub fn lines(&self) -> Vec<Line> {
        lock(&self.output.0).lines.clone()
    }

    pub fn findings(&self) -> Vec<Line> {
        self.lines().into_iter().filter(Line::is_finding).collect()
    }

    /// The first line, past or coming, that `wanted` accepts.
    pub fn wait_for(&self, what: &str, limit: Duration, mut wanted: impl FnMut(&Line) -> bool) -> Result<Line> {
        let (mutex, changed) = &*self.output;
        let end = Instant::now() + limit;
        let mut output = lock(mutex);
        let mut seen = 0;
        loop {
            if let Some(line) = output.lines[seen..].iter().find(|line| wanted(line)) {
                return Ok(line.clone());
            }
            seen = output.lines.len();
            let left = end.saturating_duration_since(Instant::now());
            if output.closed || left.is_zero() {
                let state = if output.closed { "the sensor ended" } else { "it did not come in time" };
                let all: String = output.lines.iter().map(|line| format!("\n  {}", line.json)).collect();
                drop(output);
                bail!("no line with {what}: {state}; lines:{all}\nlog:\n{}", self.stderr());
            }
            output = changed.wait_timeout(output, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    pub fn terminate(self) -> Result<Ended> {
        self.end_with(Signal::TERM)
    }

    /// Sends the signal, waits, and hands over everything that was written. Every line of standard output must have
    /// been one JSON object with a schema.
    pub fn end_with(mut self, number: Signal) -> Result<Ended> {
        process::signal(self.pid(), number)?;
        self.collect()
    }

    fn collect(&mut self) -> Result<Ended> {
        let status = process::wait_exit(&mut self.child, Duration::from_secs(10)).context(self.stderr())?;
        for reader in self.readers.drain(..) {
            // A reader that panicked has printed why.
            let _ = reader.join();
        }
        let output = lock(&self.output.0);
        if let Some(wrong) = output.wrong.first() {
            bail!("stdout carries something else than JSON with a schema: {wrong}");
        }
        Ok(Ended { status, lines: output.lines.clone(), stderr: self.stderr() })
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        // It may have ended already; then there is nothing to kill.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn read_lines(stream: impl Read + Send + 'static, shared: Shared) -> JoinHandle<()> {
    thread::spawn(move || {
        for line in BufReader::new(stream).lines() {
            let at = Instant::now();
            let Ok(line) = line else { break };
            let mut output = lock(&shared.0);
            match serde_json::from_str::<Value>(&line) {
                Ok(json) if json["schema"].is_string() => output.lines.push(Line { at, json }),
                _ => output.wrong.push(line),
            }
            shared.1.notify_all();
        }
        lock(&shared.0).closed = true;
        shared.1.notify_all();
    })
}

fn read_log(stream: impl Read + Send + 'static, text: Arc<Mutex<String>>) -> JoinHandle<()> {
    thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            let mut text = lock(&text);
            text.push_str(&line);
            text.push('\n');
        }
    })
}
