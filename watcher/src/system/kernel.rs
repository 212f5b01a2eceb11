//! What the sensor needs of the host's kernel interfaces: type information, tracefs, processes by name, cgroup ids.

use std::{
    fs, io,
    os::{fd::RawFd, unix::ffi::OsStrExt},
    path::{Path, PathBuf},
};

/// Largest type information that is read; the largest distribution kernels have about 20 MB.
const KERNEL_TYPES_MAX: u64 = 256 << 20;

/// Reads a BTF file of the kernel.
pub fn read_kernel_types(path: &Path) -> io::Result<Vec<u8>> {
    let len = fs::metadata(path)?.len();
    if len > KERNEL_TYPES_MAX {
        return Err(io::Error::other(format!("{len} bytes are more than the {KERNEL_TYPES_MAX} that are read")));
    }
    fs::read(path)
}

/// A process as the scan at start sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scanned {
    pub pid: u32,
    pub ppid: u32,
    /// Name of the main thread, at most 15 bytes.
    pub comm: Vec<u8>,
    /// Start in clock ticks after boot: with the pid, the process's identity.
    pub start_ticks: u64,
}

/// Every process of this pid namespace. Those that end meanwhile are left out.
pub fn processes() -> io::Result<Vec<Scanned>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        if let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) {
            found.extend(process(pid));
        }
    }
    Ok(found)
}

/// One process, `None` where it does not exist.
pub fn process(pid: u32) -> Option<Scanned> {
    parse_stat(&fs::read(format!("/proc/{pid}/stat")).ok()?)
}

/// `pid (comm) state ppid … starttime(22nd) …`; the name can hold anything, also `)`, so its end is the last one.
fn parse_stat(stat: &[u8]) -> Option<Scanned> {
    let open = stat.iter().position(|&byte| byte == b'(')?;
    let close = stat.iter().rposition(|&byte| byte == b')')?;
    let pid = std::str::from_utf8(&stat[..open]).ok()?.trim().parse().ok()?;
    let mut fields = std::str::from_utf8(stat.get(close + 1..)?).ok()?.split_ascii_whitespace();
    let ppid = fields.nth(1)?.parse().ok()?;
    let start_ticks = fields.nth(17)?.parse().ok()?;
    Some(Scanned { pid, ppid, comm: stat.get(open + 1..close)?.to_vec(), start_ticks })
}

/// Finds tracefs, and mounts it at its usual place where nobody has: the tracepoint rung reads event ids there.
pub fn tracefs() -> io::Result<PathBuf> {
    let usual = Path::new("/sys/kernel/tracing");
    for root in [usual, Path::new("/sys/kernel/debug/tracing")] {
        if root.join("events/syscalls").is_dir() {
            return Ok(root.to_owned());
        }
    }
    use rustix::mount::MountFlags;
    rustix::mount::mount(
        "tracefs",
        usual,
        "tracefs",
        MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC,
        None,
    )?;
    log::info!("mounted tracefs at {}", usual.display());
    if usual.join("events/syscalls").is_dir() {
        return Ok(usual.to_owned());
    }
    Err(io::Error::other("tracefs has no events/syscalls: the kernel needs CONFIG_FTRACE_SYSCALLS"))
}

/// Runs that the kernel left out of the program behind one of this process's descriptors; `None` where it does not
/// count them (before 5.12).
pub fn missed_runs(program: RawFd) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/self/fdinfo/{program}")).ok()?;
    text.lines().find_map(|line| line.strip_prefix("recursion_misses:")?.trim().parse().ok())
}

/// Whether the kernel takes kprobes through perf events.
pub fn has_kprobes() -> bool {
    Path::new("/sys/bus/event_source/devices/kprobe/type").exists()
}

/// Two random words from the kernel.
pub fn random_words() -> io::Result<[u64; 2]> {
    let mut bytes = [0u8; 16];
    rustix::rand::getrandom(&mut bytes[..], rustix::rand::GetRandomFlags::empty())?;
    let (low, high) = (u128::from_ne_bytes(bytes) as u64, (u128::from_ne_bytes(bytes) >> 64) as u64);
    Ok([low, high])
}

/// The mode of kernel lockdown, where the kernel has it: `none`, `integrity` or `confidentiality`.
pub fn lockdown() -> Option<String> {
    let text = fs::read_to_string("/sys/kernel/security/lockdown").ok()?;
    let (_, rest) = text.split_once('[')?;
    Some(rest.split_once(']')?.0.to_owned())
}

/// Identity of a cgroup v2 directory as the kernel helpers count it: the inode, and the depth below the mount.
pub fn cgroup_scope(path: &Path) -> io::Result<(u64, u64)> {
    use std::os::unix::fs::MetadataExt;
    let root = cgroup2_mount()?;
    let absolute = match path.strip_prefix(&root) {
        Ok(_) => path.to_owned(),
        // As /proc/PID/cgroup writes it: from the top of the hierarchy.
        Err(_) => root.join(path.strip_prefix("/").unwrap_or(path)),
    };
    let absolute = fs::canonicalize(absolute)?;
    let below = absolute.strip_prefix(&root).map_err(|_| io::Error::other("it is not below the cgroup v2 mount"))?;
    let metadata = fs::metadata(&absolute)?;
    if !metadata.is_dir() {
        return Err(io::Error::other("it is not a directory"));
    }
    Ok((metadata.ino(), below.components().count() as u64))
}

fn cgroup2_mount() -> io::Result<PathBuf> {
    let mounts = fs::read("/proc/self/mounts")?;
    mounts
        .split(|&byte| byte == b'\n')
        .find_map(|line| {
            let mut fields = line.split(|&byte| byte == b' ');
            let (path, kind) = (fields.nth(1)?, fields.next()?);
            (kind == b"cgroup2").then(|| PathBuf::from(std::ffi::OsStr::from_bytes(path)))
        })
        .ok_or_else(|| io::Error::other("no cgroup v2 hierarchy is mounted"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stat_line_is_read_whatever_the_name_holds() {
        let stat = b"77 (a) b) (c\n) S 5 77 77 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 12345 99 1 18446744073709551615";
        let found = parse_stat(stat).unwrap();
        assert_eq!((found.pid, found.ppid, found.start_ticks), (77, 5, 12345));
        assert_eq!(found.comm, b"a) b) (c\n");
        for len in 0..stat.len() {
            let _ = parse_stat(&stat[..len]);
        }
    }

    #[test]
    fn this_process_is_among_the_processes() {
        let own = std::process::id();
        let found = processes().unwrap().into_iter().find(|process| process.pid == own).unwrap();
        assert_eq!(Some(found), process(own));
    }
}
