//! The suite as the first process of a virtual machine: what an init owes its tests, and the way out.

use std::{
    fs::{self, File, OpenOptions},
    io::Write as _,
    os::unix::fs::{OpenOptionsExt as _, symlink},
    path::Path,
};

use anyhow::Context as _;

use crate::sys;

/// What the boot code on the other side waits for; see xtask's `vm/boot.rs`.
#[cfg(target_arch = "x86_64")]
const EXIT_PORT: u16 = 0xf4;
#[cfg(target_arch = "x86_64")]
const EXIT_VALUE: u8 = 0x2a;

/// The second serial port, which carries nothing but results.
pub struct Results {
    port: File,
    lines: usize,
}

impl Results {
    pub fn line(&mut self, line: &str) -> anyhow::Result<()> {
        // One result is one line, whatever a message holds.
        let line = line.replace(['\n', '\r'], "; ");
        writeln!(self.port, "{line}").context("cannot write a result")?;
        self.lines += 1;
        Ok(())
    }

    /// Writes the end marker and ends the machine.
    pub fn end(mut self) -> anyhow::Result<()> {
        writeln!(self.port, "END {}", self.lines)?;
        // SAFETY: the descriptor is open; the call waits until the port has sent everything.
        unsafe { libc::tcdrain(std::os::fd::AsRawFd::as_raw_fd(&self.port)) };
        power_off();
        Ok(())
    }
}

/// Mounts what a Linux system has and opens the results' port.
pub fn set_up() -> anyhow::Result<Results> {
    let mounts = [
        ("proc", "/proc"),
        ("sysfs", "/sys"),
        ("devtmpfs", "/dev"),
        ("tracefs", "/sys/kernel/tracing"),
        ("cgroup2", "/sys/fs/cgroup"),
        ("tmpfs", "/tmp"),
        ("tmpfs", "/run"),
    ];
    for (kind, target) in mounts {
        sys::mount(kind, Path::new(target), kind, 0, "").with_context(|| format!("cannot mount {kind} on {target}"))?;
    }
    for (link, target) in [("/dev/fd", "/proc/self/fd"), ("/dev/stdin", "/proc/self/fd/0")] {
        let _ = symlink(target, link);
    }
    sys::raise_loopback().context("cannot raise the loopback interface")?;
    // Failing assertions of forked openers and the sensor's log go to the console.
    let port = OpenOptions::new()
        .write(true)
        .custom_flags(libc::O_NOCTTY | libc::O_CLOEXEC)
        .open(RESULTS)
        .with_context(|| format!("cannot open {RESULTS}"))?;
    Ok(Results { port, lines: 0 })
}

#[cfg(target_arch = "x86_64")]
const RESULTS: &str = "/dev/ttyS1";
#[cfg(not(target_arch = "x86_64"))]
const RESULTS: &str = "/dev/hvc0";

pub fn release() -> String {
    fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned()
}

/// The series that the host booted, which the kernel has to confirm.
pub fn series(release: &str) -> String {
    release.splitn(3, '.').take(2).collect::<Vec<_>>().join(".")
}

#[cfg(target_arch = "x86_64")]
fn power_off() {
    // SAFETY: gives this process the right to use one port; it changes no memory.
    if unsafe { libc::ioperm(EXIT_PORT.into(), 1, 1) } == 0 {
        // SAFETY: the port belongs to this process now, and the only device there ends the machine.
        unsafe {
            std::arch::asm!("out dx, al", in("dx") EXIT_PORT, in("al") EXIT_VALUE, options(nomem, nostack));
        }
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn power_off() {
    // SAFETY: ends the machine; everything that matters has been sent.
    unsafe { libc::reboot(libc::RB_POWER_OFF) };
}
