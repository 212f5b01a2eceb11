//! Boots one kernel with one initramfs and brings back what the guest wrote.
//!
//! Emulation in software, because /dev/kvm opens on some machines that cannot run these kernels. The guest's
//! console is the first serial port, its results are the second, so that no kernel message can land in a result.
//! A panicking guest ends with status 0 under -no-reboot, and so does one that loses its init: only the status that
//! the guest sets on purpose together with the end marker in the results counts as an end.

use std::{
    fs::{self, File},
    path::PathBuf,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};

use crate::kernels::{Arch, Kernel};

/// What the guest's init writes to the isa-debug-exit port. qemu ends with status 2 * value + 1.
const EXIT_VALUE: i32 = 0x2a;
/// The last line of the results, followed by the number of lines before it.
const END_MARKER: &str = "END ";
const POLL: Duration = Duration::from_millis(50);

/// One guest. Everything but kernel and image has a default that suits the test matrix.
pub struct Machine<'a> {
    pub kernel: &'a Kernel,
    /// The initramfs; its /init is started as the first process.
    pub image: PathBuf,
    /// Where console and results are kept, for a person to read after a failure.
    pub log_dir: PathBuf,
    /// Further words of the kernel command line; KEY=value reaches init as an environment variable.
    pub command_line: Vec<String>,
    /// Further arguments of qemu, after (and so over) the ordinary ones: `["-icount", "shift=0"]`.
    pub qemu: Vec<String>,
    pub memory_mib: u32,
    pub cpus: u32,
    pub time_limit: Duration,
}

pub struct Outcome {
    /// The lines before the end marker.
    pub results: Vec<String>,
    /// Why the guest did not come to its end, with the console's last lines.
    pub failure: Option<String>,
    pub took: Duration,
}

impl<'a> Machine<'a> {
    pub fn new(kernel: &'a Kernel, image: PathBuf, log_dir: PathBuf) -> Self {
        Self {
            kernel,
            image,
            log_dir,
            command_line: Vec::new(),
            qemu: Vec::new(),
            memory_mib: 1024,
            cpus: 2,
            time_limit: Duration::from_secs(600),
        }
    }

    /// Runs the guest to its end, or to the time limit.
    pub fn boot(&self) -> anyhow::Result<Outcome> {
        fs::create_dir_all(&self.log_dir).with_context(|| format!("cannot create {}", self.log_dir.display()))?;
        let console = self.log_dir.join("console");
        let results = self.log_dir.join("results");
        let _ = fs::remove_file(&results);

        let started = Instant::now();
        let mut command = self.command();
        command.arg("-serial").arg(format!("file:{}", console.display()));
        command.arg("-serial").arg(format!("file:{}", results.display()));
        command.args(&self.qemu);
        let errors = self.log_dir.join("qemu");
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&errors)?)
            .spawn()
            .with_context(|| format!("cannot run {:?}; run `cargo xtask setup --tests`", command.get_program()))?;
        let status = loop {
            if let Some(status) = child.try_wait()? {
                break Some(status);
            }
            if started.elapsed() > self.time_limit {
                child.kill()?;
                child.wait()?;
                break None;
            }
            std::thread::sleep(POLL);
        };

        let text = String::from_utf8_lossy(&fs::read(&results).unwrap_or_default()).into_owned();
        let (lines, ended) = until_end(&text);
        let failure = match status.map(|status| status.code()) {
            None => Some(format!("the guest did not end within {} s", self.time_limit.as_secs())),
            Some(Some(code)) if code == self.expected_status() && ended => None,
            Some(code) => {
                Some(format!("the guest ended with status {code:?} and {} end marker", if ended { "an" } else { "no" }))
            }
        };
        let failure = failure.map(|reason| {
            let qemu = fs::read_to_string(&errors).unwrap_or_default();
            let console = String::from_utf8_lossy(&fs::read(&console).unwrap_or_default()).into_owned();
            format!("{reason}; the console ended with:\n{}{qemu}", last_lines(&console, 30))
        });
        Ok(Outcome { results: lines, failure, took: started.elapsed() })
    }

    fn command(&self) -> Command {
        let mut words = vec![self.console(), "panic=-1", "quiet"];
        words.extend(self.command_line.iter().map(String::as_str));
        let mut command = match self.kernel.arch {
            Arch::X86_64 => {
                let mut command = Command::new("qemu-system-x86_64");
                command.args(["-cpu", "max", "-device", "isa-debug-exit,iobase=0xf4,iosize=0x04"]);
                command
            }
            Arch::Aarch64 => {
                let mut command = Command::new("qemu-system-aarch64");
                // The virt machine has one serial port; the results get one on the PCI bus.
                command.args(["-M", "virt", "-cpu", "cortex-a72"]);
                command
            }
        };
        command
            .args(["-nodefaults", "-no-user-config", "-display", "none", "-monitor", "none", "-no-reboot"])
            .args(["-accel", "tcg,thread=multi"])
            .args(["-smp", &self.cpus.to_string(), "-m", &self.memory_mib.to_string()])
            .arg("-kernel")
            .arg(&self.kernel.image)
            .arg("-initrd")
            .arg(&self.image)
            .args(["-append", &words.join(" ")]);
        command
    }

    fn console(&self) -> &'static str {
        match self.kernel.arch {
            Arch::X86_64 => "console=ttyS0",
            Arch::Aarch64 => "console=ttyAMA0",
        }
    }

    fn expected_status(&self) -> i32 {
        match self.kernel.arch {
            Arch::X86_64 => 2 * EXIT_VALUE + 1,
            // No such port there: the guest powers off, and the end marker alone tells.
            Arch::Aarch64 => 0,
        }
    }
}

/// The lines before the end marker, and whether it is there and counts them right.
fn until_end(text: &str) -> (Vec<String>, bool) {
    let mut lines = Vec::new();
    for line in text.lines().map(str::trim_end) {
        if let Some(count) = line.strip_prefix(END_MARKER) {
            let complete = count.trim().parse() == Ok(lines.len());
            return (lines, complete);
        }
        if !line.is_empty() {
            lines.push(line.to_owned());
        }
    }
    (lines, false)
}

fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..].iter().map(|line| format!("    {}\n", line.trim_end())).collect()
}

/// qemu by architecture, or the one thing to do.
pub fn require_qemu(arch: Arch) -> anyhow::Result<()> {
    let program = format!("qemu-system-{}", arch.name());
    match Command::new(&program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status() {
        Ok(status) if status.success() => Ok(()),
        _ => bail!("{program} does not run; run `cargo xtask setup --tests`"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_without_their_end_are_no_end() {
        assert_eq!(until_end("a\r\nb\r\n"), (vec!["a".to_owned(), "b".to_owned()], false));
        assert!(!until_end("a\nEND 2\n").1, "a line was lost");
        assert_eq!(until_end("a\nEND 1\n"), (vec!["a".to_owned()], true));
    }
}
