//! Child processes of the tests: started so that they cannot outlive the run, waited for with a deadline, and
//! stopped by their own pid only.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

/// A command that the kernel terminates when the thread that started it ends, so that an aborted test run leaves no
/// server behind. `setpriv` sets this before the exec; doing it here would take unsafe code between fork and exec.
/// It leads a process group of its own, because Apache stops its workers by a signal to its whole group.
pub fn tied(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "TERM", "--"]).arg(program).stdin(Stdio::null()).process_group(0);
    command
}

/// Polls `ready` until it holds.
pub fn wait_until(what: &str, limit: Duration, mut ready: impl FnMut() -> bool) -> Result<()> {
    let start = Instant::now();
    loop {
        if ready() {
            return Ok(());
        }
        if start.elapsed() > limit {
            bail!("{what} did not happen within {limit:?}");
        }
        thread::sleep(Duration::from_millis(5));
    }
}

/// Waits for an exit, at most `limit`.
pub fn wait_exit(child: &mut Child, limit: Duration) -> Result<ExitStatus> {
    let mut status = None;
    wait_until("the exit of a child", limit, || {
        status = child.try_wait().ok().flatten();
        status.is_some()
    })?;
    status.context("the child has no status")
}

/// Runs to the end and demands success; the error carries what the command wrote.
pub fn run(command: &mut Command) -> Result<String> {
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("could not start {command:?}"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        bail!("{command:?} ended with {}: {text}{}", output.status, String::from_utf8_lossy(&output.stderr));
    }
    Ok(text)
}

pub fn signal(pid: u32, signal: Signal) -> Result<()> {
    let pid = Pid::from_raw(i32::try_from(pid)?).context("pid 0 cannot be signalled")?;
    kill_process(pid, signal).with_context(|| format!("could not send {signal:?} to {pid:?}"))
}

/// The children of a process, through the one file that lists them without a race on a scan of /proc.
pub fn children(pid: u32) -> Vec<u32> {
    let list = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    list.split_whitespace().filter_map(|word| word.parse().ok()).collect()
}

/// A server that is stopped when it goes out of scope.
#[derive(Debug)]
pub struct Server {
    child: Child,
    stop_with: Signal,
    name: &'static str,
}

impl Server {
    /// Starts `command` with both outputs appended to `log`.
    pub fn start(name: &'static str, command: &mut Command, log: &Path, stop_with: Signal) -> Result<Self> {
        let out = fs::OpenOptions::new().create(true).append(true).open(log)?;
        let child =
            command.stdout(out.try_clone()?).stderr(out).spawn().with_context(|| format!("could not start {name}"))?;
        Ok(Self { child, stop_with, name })
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until `ready`, or says how the server ended instead.
    pub fn wait_ready(&mut self, limit: Duration, log: &Path, mut ready: impl FnMut() -> bool) -> Result<()> {
        let start = Instant::now();
        while !ready() {
            if let Some(status) = self.child.try_wait()? {
                bail!("{} ended at start with {status}: {}", self.name, fs::read_to_string(log).unwrap_or_default());
            }
            if start.elapsed() > limit {
                bail!("{} does not answer: {}", self.name, fs::read_to_string(log).unwrap_or_default());
            }
            thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    pub fn signal(&self, number: Signal) -> Result<()> {
        signal(self.pid(), number)
    }

    /// Stops it and waits; kills it only when it does not listen.
    pub fn stop(&mut self) -> Result<ExitStatus> {
        if let Some(status) = self.child.try_wait()? {
            return Ok(status);
        }
        self.signal(self.stop_with)?;
        if let Ok(status) = wait_exit(&mut self.child, Duration::from_secs(10)) {
            return Ok(status);
        }
        self.child.kill()?;
        Ok(self.child.wait()?)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Err(error) = self.stop() {
            eprintln!("could not stop {}: {error:#}", self.name);
        }
    }
}
