//! The only reader of /proc, cgroups and the file system. Reads are bounded, and whatever a process shows about
//! itself is bytes. Rooted at a directory, so that a test can stand in a fixture for the host.

mod clock;
pub mod kernel;
pub mod memory;
mod servers;

use std::{
    fs::File,
    io::{self, Read as _},
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
};

pub use clock::Clock;
pub use servers::{RunningServer, Servers};

use crate::record::{ProcessInfo, ProcessKey};

/// Largest file of /proc that is read: a cgroup path has at most 4 KiB per hierarchy.
const PROC_FILE_MAX: u64 = 64 << 10;
/// Ticks of /proc's start times (`USER_HZ` is 100 on x86-64 and arm64).
const TICK_NS: u64 = 10_000_000;

/// The host, or a directory that looks like it.
#[derive(Clone, Debug)]
pub struct System {
    root: PathBuf,
}

impl Default for System {
    fn default() -> Self {
        Self::at("/")
    }
}

impl System {
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// What /proc shows about a process; nothing where it is gone, or its pid has another owner by now.
    pub fn process(&self, key: ProcessKey) -> ProcessInfo {
        let directory = self.root.join(format!("proc/{}", key.pid));
        let info = ProcessInfo {
            executable: std::fs::read_link(directory.join("exe")).ok().map(|path| executable(&path)),
            cgroup: read_some(&directory.join("cgroup")).ok().and_then(|text| cgroup_path(&text)),
        };
        // Asked last: if the process still has its pid now, it had it above.
        let start = read_some(&directory.join("stat")).ok().and_then(|stat| start_ticks(&stat));
        if start == Some(key.start_time.0 / TICK_NS) { info } else { ProcessInfo::default() }
    }

    /// Effective capabilities of this process, one bit each.
    pub fn capabilities(&self) -> Option<u64> {
        let status = read_some(&self.root.join("proc/self/status")).ok()?;
        let line = status.split(|&byte| byte == b'\n').find_map(|line| line.strip_prefix(b"CapEff:"))?;
        u64::from_str_radix(std::str::from_utf8(line).ok()?.trim(), 16).ok()
    }

    /// Size of the kernel's type information.
    pub fn kernel_types_bytes(&self) -> io::Result<u64> {
        Ok(std::fs::metadata(self.root.join("sys/kernel/btf/vmlinux"))?.len())
    }

    /// Where tracefs is mounted with the open calls' events in it. Looks only: the sensor mounts it when it needs to.
    pub fn tracefs(&self) -> Option<PathBuf> {
        ["sys/kernel/tracing", "sys/kernel/debug/tracing"]
            .map(|path| self.root.join(path))
            .into_iter()
            .find(|path| path.join("events/syscalls").is_dir())
    }
}

/// Release of the running kernel.
pub fn kernel_release() -> String {
    rustix::system::uname().release().to_string_lossy().into_owned()
}

/// Effective user of this process.
pub fn user() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// Reads at most [`PROC_FILE_MAX`] bytes.
fn read_some(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(PROC_FILE_MAX).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The kernel marks a program that was replaced on disk; the mark is no part of its path.
fn executable(path: &Path) -> Vec<u8> {
    let path = path.as_os_str().as_bytes();
    path.strip_suffix(b" (deleted)").unwrap_or(path).to_vec()
}

/// The unified hierarchy's path (`0::/path`); where that says nothing, the path of another hierarchy that does, since
/// on hosts with cgroup v1 only those tell of containers.
fn cgroup_path(text: &[u8]) -> Option<Vec<u8>> {
    let paths = text.split(|&byte| byte == b'\n').filter_map(|line| {
        let mut fields = line.splitn(3, |&byte| byte == b':');
        Some((fields.next()? == b"0", fields.nth(1)?))
    });
    let told = |path: &&[u8]| !path.is_empty() && *path != b"/";
    let unified = paths.clone().find(|(unified, _)| *unified).map(|(_, path)| path);
    let other = || paths.clone().map(|(_, path)| path).find(told);
    unified.filter(told).or_else(other).or(unified).map(<[u8]>::to_vec)
}

/// 22nd field of a stat line. The name in parentheses may hold anything, so fields are counted after its end.
fn start_ticks(stat: &[u8]) -> Option<u64> {
    let close = stat.iter().rposition(|&byte| byte == b')')?;
    std::str::from_utf8(stat.get(close + 1..)?).ok()?.split_ascii_whitespace().nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Time;
    use std::{fs, os::unix::fs::symlink};

    fn key(pid: u32, start_ticks: u64) -> ProcessKey {
        ProcessKey { pid, start_time: Time(start_ticks * TICK_NS + 1_234) }
    }

    #[test]
    fn a_fixture_stands_in_for_the_host() {
        let root = tempfile::tempdir().expect("a scratch directory");
        let process = root.path().join("proc/77");
        fs::create_dir_all(&process).expect("made");
        symlink("/usr/sbin/apache2 (deleted)", process.join("exe")).expect("linked");
        fs::write(process.join("cgroup"), "0::/system.slice/apache2.service\n").expect("written");
        let stat = "77 (a) b) S 5 77 77 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 12345 99 1";
        fs::write(process.join("stat"), stat).expect("written");
        let system = System::at(root.path());
        let info = system.process(key(77, 12_345));
        assert_eq!(info.executable.as_deref(), Some(&b"/usr/sbin/apache2"[..]));
        assert_eq!(info.cgroup.as_deref(), Some(&b"/system.slice/apache2.service"[..]));
        assert_eq!(system.process(key(77, 12_346)), ProcessInfo::default(), "another owner of the pid");
        assert_eq!(system.process(key(78, 1)), ProcessInfo::default(), "gone");
    }

    #[test]
    fn this_process_is_found() {
        let own = kernel::process(std::process::id()).expect("it runs");
        let info = System::default().process(key(own.pid, own.start_ticks));
        let executable = std::env::current_exe().expect("known");
        assert_eq!(info.executable.as_deref(), Some(executable.as_os_str().as_bytes()));
    }

    #[test]
    fn cgroups_of_both_versions() {
        let check = |text: &str, expect: Option<&str>| {
            assert_eq!(cgroup_path(text.as_bytes()).as_deref(), expect.map(str::as_bytes));
        };
        check("12:memory:/docker/ab\n0::/\n", Some("/docker/ab"));
        check("1:name=systemd:/\n0::/a:b\n", Some("/a:b"));
        check("0::/\n", Some("/"));
        check("nonsense", None);
    }
}
