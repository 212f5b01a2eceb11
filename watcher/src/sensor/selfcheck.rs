//! Proves a rung after attach: this process fails to open files in known ways, and every record must tell exactly
//! what it did. A hook that a kernel accepts but never calls, registers that are not where they should be, or an
//! offset that is wrong shows here, not as silence.

use std::{
    collections::VecDeque,
    ffi::CString,
    os::fd::OwnedFd,
    time::{Duration, Instant},
};

use rustix::fs::{CWD, Mode, OFlags};
use watcher_ebpf::event;

use super::health::SelfCheck;
use crate::record::{self, OpenEvent, Record, Resolution};

/// How long a record may take to arrive; the ring is in memory, so this is only for a host that is swamped.
const PATIENCE: Duration = Duration::from_secs(2);
/// A directory whose walk crosses a mount on every host: sysfs or what is mounted below it.
const BASE: &str = "/sys/kernel";

/// One known failure and what its record must say.
struct Check {
    name: String,
    syscall: u32,
    resolution: Resolution,
    open_flags: u64,
    path: String,
}

/// Runs the check. `next` takes the next record from the ring, if there is one; those of other processes go to
/// `backlog`. Returns what the check itself added to the counters.
pub(super) fn run(
    mut next: impl FnMut() -> Option<Vec<u8>>,
    backlog: &mut VecDeque<Vec<u8>>,
) -> Result<SelfCheck, String> {
    let mut own = SelfCheck::default();
    let base = rustix::fs::open(BASE, OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|error| format!("self-check cannot open {BASE}: {error}"))?;
    for check in checks() {
        fail_to_open(&check, &base);
        let deadline = Instant::now() + PATIENCE;
        let record = loop {
            match next().map(|bytes| (record::decode(&bytes), bytes)) {
                Some((Ok(Record::Open(open)), _)) if is_it(&open, &check) => break open,
                Some((Err(error), _)) => return Err(format!("self-check got a record that is none: {error}")),
                Some((_, bytes)) => backlog.push_back(bytes),
                None if Instant::now() > deadline => {
                    return Err(format!("self-check: a failing {} was not reported", call_name(check.syscall)));
                }
                None => std::thread::sleep(Duration::from_micros(200)),
            }
        };
        compare(&record, &check)?;
        own.opens += 1;
        own.errno = record.errno;
        own.keys.push(record.key);
    }
    Ok(own)
}

fn checks() -> Vec<Check> {
    let unique = format!("watcher-self-check-{}", std::process::id());
    let check = |syscall, open_flags: OFlags| {
        let path = format!("/proc/self/{unique}-{syscall}");
        Check {
            name: path.clone(),
            syscall,
            resolution: Resolution::Absolute,
            open_flags: open_flags.bits().into(),
            path,
        }
    };
    let mut checks = vec![
        check(event::syscall::OPENAT, OFlags::RDONLY),
        check(event::syscall::OPENAT2, OFlags::RDONLY | OFlags::CLOEXEC),
        Check {
            name: unique.clone(),
            syscall: event::syscall::OPENAT,
            resolution: Resolution::Dirfd,
            open_flags: OFlags::RDONLY.bits().into(),
            path: format!("{BASE}/{unique}"),
        },
    ];
    if cfg!(target_arch = "x86_64") {
        checks.push(check(event::syscall::OPEN, OFlags::WRONLY));
        checks.push(check(event::syscall::CREAT, OFlags::CREATE | OFlags::WRONLY | OFlags::TRUNC));
    }
    checks
}

fn fail_to_open(check: &Check, base: &OwnedFd) {
    let flags = OFlags::from_bits_retain(check.open_flags as u32);
    let name = check.name.as_str();
    // The results are failures by design; what matters is the record.
    match check.syscall {
        event::syscall::OPENAT if check.resolution == Resolution::Dirfd => {
            let _ = rustix::fs::openat(base, name, flags, Mode::empty());
        }
        event::syscall::OPENAT => raw_openat(name, flags),
        event::syscall::OPENAT2 => {
            let _ = rustix::fs::openat2(CWD, name, flags, Mode::empty(), rustix::fs::ResolveFlags::empty());
        }
        call => legacy_open(call, name, flags),
    }
}

fn raw_openat(name: &str, flags: OFlags) {
    let _ = rustix::fs::openat(CWD, name, flags, Mode::empty());
}

/// open(2) and creat(2) themselves: libraries turn both into openat.
#[cfg(target_arch = "x86_64")]
fn legacy_open(call: u32, name: &str, flags: OFlags) {
    let Ok(name) = CString::new(name) else { return };
    // SAFETY: both calls read a NUL-terminated name that outlives them; the files do not exist, so no descriptor
    // comes back.
    unsafe {
        match call {
            event::syscall::OPEN => libc::syscall(libc::SYS_open, name.as_ptr(), flags.bits() as libc::c_int, 0),
            _ => libc::syscall(libc::SYS_creat, name.as_ptr(), 0),
        };
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn legacy_open(_: u32, _: &str, _: OFlags) {}

fn is_it(open: &OpenEvent, check: &Check) -> bool {
    open.requested.as_slice() == check.name.as_bytes()
}

fn compare(open: &OpenEvent, check: &Check) -> Result<(), String> {
    let call = call_name(check.syscall);
    let wrong = |what: &str, found: String, expected: String| {
        Err(format!("self-check: {what} of a failing {call} read as {found}, it was {expected}"))
    };
    if open.pid != std::process::id() {
        return wrong("the process", open.pid.to_string(), std::process::id().to_string());
    }
    // rustix adds O_LARGEFILE to openat, as libraries do.
    let flags = open.raw_flags & !u64::from(OFlags::LARGEFILE.bits());
    if flags != check.open_flags {
        return wrong("the flags", format!("{flags:#o}"), format!("{:#o}", check.open_flags));
    }
    if open.resolution != check.resolution {
        return wrong("the resolution", open.resolution.name().to_owned(), check.resolution.name().to_owned());
    }
    // Under a sandbox that hides /proc/self the error may differ, so the errno is not compared.
    if open.path.as_deref() != Some(check.path.as_bytes()) {
        let found = open.path.as_deref().map(|path| String::from_utf8_lossy(path).into_owned());
        return wrong("the path", format!("{found:?}"), check.path.clone());
    }
    if open.ppid != std::os::unix::process::parent_id() {
        return wrong("the parent", open.ppid.to_string(), std::os::unix::process::parent_id().to_string());
    }
    Ok(())
}

fn call_name(syscall: u32) -> &'static str {
    match syscall {
        event::syscall::OPEN => "open",
        event::syscall::OPENAT2 => "openat2",
        event::syscall::CREAT => "creat",
        _ => "openat",
    }
}
