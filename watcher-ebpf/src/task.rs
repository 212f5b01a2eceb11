//! The current task: kernel and user memory, the registers it entered the system call with, who it is.

use aya_ebpf::helpers::{self, generated};
use watcher_ebpf::event::{OpenRecord, syscall};

use crate::settings::setting;

/// Reads kernel memory.
#[inline(always)]
pub fn kernel<T: Copy>(address: u64) -> Option<T> {
    // SAFETY: the helper checks the address; T is plain data in every caller.
    unsafe { helpers::bpf_probe_read_kernel(address as *const T) }.ok()
}

/// Reads the current process's memory.
#[inline(always)]
pub fn user<T: Copy>(address: u64) -> Option<T> {
    // SAFETY: the helper checks the address; T is plain data in every caller.
    unsafe { helpers::bpf_probe_read_user(address as *const T) }.ok()
}

/// Address of the current `task_struct`.
#[inline(always)]
pub fn current() -> u64 {
    // SAFETY: the helper has no precondition.
    unsafe { helpers::bpf_get_current_task() }
}

/// `CLOCK_BOOTTIME`: goes on while the host is suspended, as wall time does.
#[inline(always)]
pub fn now_ns() -> u64 {
    // SAFETY: the helper has no precondition.
    unsafe { generated::bpf_ktime_get_boot_ns() }
}

/// Where the registers are that the current task entered the kernel with.
#[inline(always)]
pub fn user_registers() -> Option<u64> {
    if setting!(has_task_pt_regs) != 0 {
        // SAFETY: the task that the helper returns is the current one and lives as long as the program runs.
        let regs = unsafe { generated::bpf_task_pt_regs(generated::bpf_get_current_task_btf()) };
        return Some(regs as u64);
    }
    // They stand at the top of the kernel stack (task_pt_regs, arch/x86/include/asm/processor.h). Kernels without the
    // helper are older than the padding that newer x86 kernels put there; the self-check at attach proves it.
    let stack: u64 = kernel(current() + u64::from(setting!(offsets.task_stack)))?;
    Some(stack + u64::from(setting!(thread_size_bytes)) - u64::from(setting!(offsets.pt_regs_size)))
}

/// What an open was asked.
pub struct Arguments {
    pub dirfd: i32,
    /// User address of the name.
    pub name: u64,
    pub open_flags: u64,
}

/// The open's arguments from the registers at `regs`. `CALL` is one of [`syscall`].
#[inline(always)]
pub fn arguments<const CALL: u32>(regs: u64) -> Option<Arguments> {
    let [a, b, c] = first_three(regs)?;
    Some(match CALL {
        syscall::OPEN => Arguments { dirfd: AT_FDCWD, name: a, open_flags: b },
        syscall::CREAT => Arguments { dirfd: AT_FDCWD, name: a, open_flags: CREAT_FLAGS },
        // struct open_how starts with the flags (linux/openat2.h); one that cannot be read is the EFAULT itself.
        syscall::OPENAT2 => Arguments { dirfd: a as i32, name: b, open_flags: user(c).unwrap_or(0) },
        _ => Arguments { dirfd: a as i32, name: b, open_flags: c as u32 as u64 },
    })
}

/// `AT_FDCWD` of linux/fcntl.h.
pub const AT_FDCWD: i32 = -100;
/// `O_CREAT | O_WRONLY | O_TRUNC`, which creat(2) stands for.
const CREAT_FLAGS: u64 = 0o100 | 0o1 | 0o1000;

/// First three system-call arguments. x86-64: `di`, `si`, `dx` at 112, 104, 96 of `pt_regs`
/// (arch/x86/include/asm/ptrace.h, an interface that ptrace exposes).
#[cfg(bpf_target_arch = "x86_64")]
#[inline(always)]
fn first_three(regs: u64) -> Option<[u64; 3]> {
    let [dx, si, di] = kernel::<[u64; 3]>(regs + 96)?;
    Some([di, si, dx])
}

/// First three system-call arguments. arm64: `regs[1..3]`, and `orig_x0` at 272 because x0 takes the result
/// (arch/arm64/include/asm/ptrace.h).
#[cfg(bpf_target_arch = "aarch64")]
#[inline(always)]
fn first_three(regs: u64) -> Option<[u64; 3]> {
    let [x1, x2] = kernel::<[u64; 2]>(regs + 8)?;
    Some([kernel(regs + 272)?, x1, x2])
}

/// Writes who the current task is into a record. What cannot be read stays 0.
///
/// # Safety
///
/// `record` is valid for writes.
#[inline(always)]
pub unsafe fn write_identity(record: *mut OpenRecord) {
    let task = current();
    let pid_tgid = helpers::bpf_get_current_pid_tgid();
    let leader: u64 = kernel(task + u64::from(setting!(offsets.task_group_leader))).unwrap_or(0);
    let cred: u64 = kernel(task + u64::from(setting!(offsets.task_cred))).unwrap_or(0);
    // SAFETY: the caller vouches for `record`; the helpers have no precondition.
    unsafe {
        (&raw mut (*record).pid).write((pid_tgid >> 32) as u32);
        (&raw mut (*record).tid).write(pid_tgid as u32);
        (&raw mut (*record).ppid).write(parent(task));
        (&raw mut (*record).start_time_ns)
            .write(kernel(leader + u64::from(setting!(offsets.task_start_boottime))).unwrap_or(0));
        (&raw mut (*record).uid).write(kernel(cred + u64::from(setting!(offsets.cred_uid))).unwrap_or(0));
        (&raw mut (*record).fsuid).write(kernel(cred + u64::from(setting!(offsets.cred_fsuid))).unwrap_or(0));
        (&raw mut (*record).fsgid).write(kernel(cred + u64::from(setting!(offsets.cred_fsgid))).unwrap_or(0));
        (&raw mut (*record).cgroup_id).write(generated::bpf_get_current_cgroup_id());
        (&raw mut (*record).comm).write(helpers::bpf_get_current_comm().unwrap_or([0; 16]));
    }
}

/// Thread-group id of the parent process of `task`.
#[inline(always)]
pub fn parent(task: u64) -> u32 {
    kernel::<u64>(task + u64::from(setting!(offsets.task_real_parent)))
        .and_then(|parent| kernel(parent + u64::from(setting!(offsets.task_tgid))))
        .unwrap_or(0)
}
