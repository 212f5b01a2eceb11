//! The system calls that the tests make, as safe functions.
//!
//! They go to the kernel directly, not through the C library's open(), which adds flags and turns open into openat:
//! the tests compare flags bit by bit and want each of the four calls.

use std::{
    ffi::{CStr, CString},
    io,
    os::fd::{FromRawFd as _, OwnedFd, RawFd},
    path::Path,
    ptr,
};

use libc::{c_char, c_int, c_long};

/// `struct open_how` of openat2.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct OpenHow {
    pub flags: u64,
    pub mode: u64,
    pub resolve: u64,
}

pub const MODE: c_int = 0o600;

fn opened(result: c_long) -> io::Result<OwnedFd> {
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a non-negative result of an open call is a new descriptor that nothing else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(result as RawFd) })
}

fn done(result: c_int) -> io::Result<c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

#[cfg(target_arch = "x86_64")]
pub fn open(path: &CStr, flags: c_int) -> io::Result<OwnedFd> {
    // SAFETY: the kernel only reads the string, which is terminated and outlives the call.
    opened(unsafe { libc::syscall(libc::SYS_open, path.as_ptr(), flags, MODE) })
}

#[cfg(target_arch = "x86_64")]
pub fn creat(path: &CStr) -> io::Result<OwnedFd> {
    // SAFETY: as in `open`.
    opened(unsafe { libc::syscall(libc::SYS_creat, path.as_ptr(), MODE) })
}

pub fn openat(dirfd: RawFd, path: &CStr, flags: c_int) -> io::Result<OwnedFd> {
    openat_raw(dirfd, path.as_ptr(), flags)
}

/// openat with any address for a name, for the tests of unreadable ones.
pub fn openat_raw(dirfd: RawFd, path: *const c_char, flags: c_int) -> io::Result<OwnedFd> {
    // SAFETY: the kernel checks the address itself and answers EFAULT; it writes nothing there.
    opened(unsafe { libc::syscall(libc::SYS_openat, dirfd, path, flags, MODE) })
}

/// openat2 with any size, which the kernel checks.
pub fn openat2(dirfd: RawFd, path: &CStr, how: &OpenHow, size: usize) -> io::Result<OwnedFd> {
    // SAFETY: the kernel reads at most `size` bytes from `how`: it refuses sizes below the first version's with
    // EINVAL before reading, and no caller passes more than the structure has.
    opened(unsafe { libc::syscall(libc::SYS_openat2, dirfd, path.as_ptr(), how, size.min(size_of::<OpenHow>())) })
}

pub fn gettid() -> i32 {
    // SAFETY: takes no arguments and cannot fail.
    unsafe { libc::gettid() }
}

/// Runs `child` in a forked process and returns its pid. Only for processes with one thread.
pub fn fork(child: impl FnOnce() -> c_int) -> io::Result<i32> {
    // SAFETY: the openers are single-threaded when they fork, so no lock can be held by a thread that is not copied.
    match done(unsafe { libc::fork() })? {
        0 => {
            let code = child();
            // SAFETY: leaves without running the parent's exit handlers; nothing is left to be unwound.
            unsafe { libc::_exit(code) }
        }
        pid => Ok(pid),
    }
}

/// As `fork`, with a process id of the caller's choice, to make the kernel use one again.
pub fn fork_as(pid: i32, child: impl FnOnce() -> c_int) -> io::Result<i32> {
    let wanted = [pid];
    // struct clone_args up to set_tid_size: flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size,
    // tls, set_tid, set_tid_size.
    let arguments = [0, 0, 0, 0, libc::SIGCHLD as u64, 0, 0, 0, wanted.as_ptr() as u64, 1];
    // SAFETY: without CLONE_VM this is fork: the child runs on a copy of this stack. Kernel and array agree on the
    // size, the array and the pid list outlive the call, and the process has one thread as in `fork`.
    match unsafe { libc::syscall(libc::SYS_clone3, arguments.as_ptr(), size_of_val(&arguments)) } {
        0 => {
            let code = child();
            // SAFETY: as in `fork`.
            unsafe { libc::_exit(code) }
        }
        pid if pid > 0 => Ok(pid as i32),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Waits for a child and returns its exit code, or 128 + the signal.
pub fn wait(pid: i32) -> io::Result<i32> {
    let mut status = 0;
    // SAFETY: `status` is a valid place for the kernel to write to.
    done(unsafe { libc::waitpid(pid, &mut status, 0) })?;
    Ok(if libc::WIFEXITED(status) { libc::WEXITSTATUS(status) } else { 128 + libc::WTERMSIG(status) })
}

pub fn kill(pid: i32, signal: c_int) -> io::Result<()> {
    // SAFETY: touches no memory of this process.
    done(unsafe { libc::kill(pid, signal) }).map(drop)
}

pub fn unshare_mounts() -> io::Result<()> {
    // SAFETY: changes what paths mean, no memory.
    done(unsafe { libc::unshare(libc::CLONE_NEWNS) })?;
    // Mounts made from here on stay here.
    mount("none", Path::new("/"), "", libc::MS_REC | libc::MS_PRIVATE, "")
}

/// The caller's next forks are the first processes of a namespace of their own.
pub fn unshare_pids() -> io::Result<()> {
    // SAFETY: changes how processes are numbered, no memory.
    done(unsafe { libc::unshare(libc::CLONE_NEWPID) }).map(drop)
}

pub fn mount(source: &str, target: &Path, kind: &str, flags: libc::c_ulong, data: &str) -> io::Result<()> {
    let (source, target, kind, data) = (
        CString::new(source)?,
        CString::new(target.as_os_str().as_encoded_bytes())?,
        CString::new(kind)?,
        CString::new(data)?,
    );
    // SAFETY: four terminated strings that outlive the call, which only reads them.
    done(unsafe { libc::mount(source.as_ptr(), target.as_ptr(), kind.as_ptr(), flags, data.as_ptr().cast()) }).map(drop)
}

pub fn chroot(path: &Path) -> io::Result<()> {
    let path = CString::new(path.as_os_str().as_encoded_bytes())?;
    // SAFETY: a terminated string that outlives the call.
    done(unsafe { libc::chroot(path.as_ptr()) }).map(drop)
}

pub fn mkfifo(path: &Path) -> io::Result<()> {
    let path = CString::new(path.as_os_str().as_encoded_bytes())?;
    // SAFETY: a terminated string that outlives the call.
    done(unsafe { libc::mkfifo(path.as_ptr(), 0o600) }).map(drop)
}

pub fn mknod_char(path: &Path, major: u32, minor: u32) -> io::Result<()> {
    let path = CString::new(path.as_os_str().as_encoded_bytes())?;
    // SAFETY: a terminated string that outlives the call.
    done(unsafe { libc::mknod(path.as_ptr(), libc::S_IFCHR | 0o600, libc::makedev(major, minor)) }).map(drop)
}

/// Becomes user and group `id` for good.
pub fn become_user(id: u32) -> io::Result<()> {
    // SAFETY: an empty list of groups needs no memory; the others take numbers.
    unsafe {
        done(libc::setgroups(0, ptr::null()))?;
        done(libc::setresgid(id, id, id))?;
        done(libc::setresuid(id, id, id)).map(drop)
    }
}

pub fn limit_descriptors(limit: u64) -> io::Result<()> {
    let limit = libc::rlimit { rlim_cur: limit, rlim_max: limit };
    // SAFETY: a valid structure that outlives the call.
    done(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) }).map(drop)
}

/// Sends SIGALRM to this process in `microseconds`; its handler does nothing, so that a blocked call returns EINTR.
pub fn interrupt_after(microseconds: i64) -> io::Result<()> {
    extern "C" fn ignore(_: c_int) {}
    // SAFETY: a zeroed sigaction is a valid one; the handler touches nothing; both structures outlive the calls.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = ignore as extern "C" fn(c_int) as usize;
        done(libc::sigaction(libc::SIGALRM, &action, ptr::null_mut()))?;
        let mut timer: libc::itimerval = std::mem::zeroed();
        timer.it_value.tv_usec = microseconds;
        done(libc::setitimer(libc::ITIMER_REAL, &timer, ptr::null_mut())).map(drop)
    }
}

/// Whether a BPF object of this kind with this id still exists.
pub fn bpf_exists(kind: BpfKind, id: u32) -> bool {
    let command: c_long = match kind {
        BpfKind::Program => 13, // BPF_PROG_GET_FD_BY_ID
        BpfKind::Link => 30,    // BPF_LINK_GET_FD_BY_ID
    };
    let attributes = [id, 0, 0, 0];
    // SAFETY: union bpf_attr starts with the id for both commands; the array is as large as the size says.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, attributes.as_ptr(), size_of_val(&attributes)) };
    opened(result).is_ok()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BpfKind {
    Program,
    Link,
}

pub fn is_root() -> bool {
    // SAFETY: takes no arguments and cannot fail.
    unsafe { libc::geteuid() == 0 }
}

/// Makes the first loopback interface work: nothing does it for a bare guest.
pub fn raise_loopback() -> io::Result<()> {
    // SAFETY: a zeroed ifreq is valid; the name is terminated by the zeroes; the structure outlives both calls and
    // the descriptor is closed once, by OwnedFd.
    unsafe {
        let socket = opened(c_long::from(libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0)))?;
        let mut request: libc::ifreq = std::mem::zeroed();
        request.ifr_name[0] = b'l' as c_char;
        request.ifr_name[1] = b'o' as c_char;
        request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as i16;
        done(libc::ioctl(std::os::fd::AsRawFd::as_raw_fd(&socket), libc::SIOCSIFFLAGS as _, &request)).map(drop)
    }
}
