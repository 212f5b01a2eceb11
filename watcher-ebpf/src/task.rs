//! The current task: kernel and user memory, the registers it entered the system call with, who it is.

use core::mem::MaybeUninit;

use aya_ebpf::helpers::{self, generated};
use bytemuck::Pod;
use watcher_ebpf::event::{OpenRecord, syscall};

use crate::settings::setting;

/// Reads kernel memory; what cannot be read is zeroes, as the helper leaves it (bpf_probe_read_kernel_common,
/// kernel/trace/bpf_trace.c). No branch, so that chains of reads stay one path for the verifier: a null pointer at
/// their end tells of a failure anywhere along them.
#[inline(always)]
pub fn kernel<T: Pod>(address: u64) -> T {
    let mut value = MaybeUninit::<T>::uninit();
    // SAFETY: the helper checks the address and writes all of `value`, with zeroes where it fails; any bytes are a
    // value of a Pod.
    unsafe {
        generated::bpf_probe_read_kernel(value.as_mut_ptr().cast(), size_of::<T>() as u32, address as *const _);
        value.assume_init()
    }
}

/// Reads a field of kernel memory at an offset of the configuration.
macro_rules! field {
    ($base:expr, $offset:ident) => {
        $crate::task::kernel($base.wrapping_add(u64::from($crate::settings::setting!(offsets.$offset))))
    };
}
pub(crate) use field;

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
    let stack: u64 = field!(current(), task_stack);
    Some(stack + u64::from(setting!(thread_size_bytes)) - u64::from(setting!(offsets.pt_regs_size)))
}

/// What an open was asked.
pub struct Arguments {
    /// One of [`syscall`].
    pub syscall: u32,
    pub dirfd: i32,
    /// User address of the name.
    pub name: u64,
    pub open_flags: u64,
}

/// The open's arguments from the registers at `regs`; `None` where they are not those of an open.
#[inline(always)]
pub fn arguments(regs: u64) -> Option<Arguments> {
    let Registers { number, a, b, c } = registers(regs);
    Some(match number {
        number::OPENAT => {
            Arguments { syscall: syscall::OPENAT, dirfd: a as i32, name: b, open_flags: u64::from(c as u32) }
        }
        // struct open_how starts with the flags (linux/openat2.h); one that cannot be read is the EFAULT itself.
        number::OPENAT2 => {
            let open_flags = user(c).unwrap_or(0);
            Arguments { syscall: syscall::OPENAT2, dirfd: a as i32, name: b, open_flags }
        }
        #[cfg(bpf_target_arch = "x86_64")]
        number::OPEN => Arguments { syscall: syscall::OPEN, dirfd: AT_FDCWD, name: a, open_flags: u64::from(b as u32) },
        #[cfg(bpf_target_arch = "x86_64")]
        number::CREAT => Arguments { syscall: syscall::CREAT, dirfd: AT_FDCWD, name: a, open_flags: CREAT_FLAGS },
        _ => return None,
    })
}

/// `AT_FDCWD` of linux/fcntl.h.
pub const AT_FDCWD: i32 = -100;
/// `O_CREAT | O_WRONLY | O_TRUNC`, which creat(2) stands for.
#[cfg(bpf_target_arch = "x86_64")]
const CREAT_FLAGS: u64 = 0o100 | 0o1 | 0o1000;

/// A system call as the registers tell it.
struct Registers {
    number: u64,
    a: u64,
    b: u64,
    c: u64,
}

/// System-call numbers (arch/x86/entry/syscalls/syscall_64.tbl).
#[cfg(bpf_target_arch = "x86_64")]
mod number {
    pub const OPEN: u64 = 2;
    pub const CREAT: u64 = 85;
    pub const OPENAT: u64 = 257;
    pub const OPENAT2: u64 = 437;
}

/// System-call numbers (include/uapi/asm-generic/unistd.h).
#[cfg(bpf_target_arch = "aarch64")]
mod number {
    pub const OPENAT: u64 = 56;
    pub const OPENAT2: u64 = 437;
}

/// x86-64: `dx`, `si`, `di`, `orig_ax` at 96 to 120 of `pt_regs` (arch/x86/include/asm/ptrace.h, an interface that
/// ptrace exposes).
#[cfg(bpf_target_arch = "x86_64")]
#[inline(always)]
fn registers(regs: u64) -> Registers {
    let [dx, si, di, orig_ax]: [u64; 4] = kernel(regs.wrapping_add(96));
    Registers { number: orig_ax, a: di, b: si, c: dx }
}

/// arm64: `regs[1..3]`, `orig_x0` at 272 because x0 takes the result, `syscallno` at 280
/// (arch/arm64/include/asm/ptrace.h).
#[cfg(bpf_target_arch = "aarch64")]
#[inline(always)]
fn registers(regs: u64) -> Registers {
    let [x1, x2]: [u64; 2] = kernel(regs.wrapping_add(8));
    let number: u32 = kernel(regs.wrapping_add(280));
    Registers { number: number.into(), a: kernel(regs.wrapping_add(272)), b: x1, c: x2 }
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
    let leader: u64 = field!(task, task_group_leader);
    let cred: u64 = field!(task, task_cred);
    // SAFETY: the caller vouches for `record`; the helpers have no precondition.
    unsafe {
        (&raw mut (*record).pid).write((pid_tgid >> 32) as u32);
        (&raw mut (*record).tid).write(pid_tgid as u32);
        (&raw mut (*record).ppid).write(parent(task));
        (&raw mut (*record).start_time_ns).write(field!(leader, task_start_boottime));
        (&raw mut (*record).uid).write(field!(cred, cred_uid));
        (&raw mut (*record).fsuid).write(field!(cred, cred_fsuid));
        (&raw mut (*record).fsgid).write(field!(cred, cred_fsgid));
        (&raw mut (*record).cgroup_id).write(generated::bpf_get_current_cgroup_id());
        generated::bpf_get_current_comm((&raw mut (*record).comm).cast(), 16);
    }
}

/// Thread-group id of the parent process of `task`.
#[inline(always)]
pub fn parent(task: u64) -> u32 {
    let parent: u64 = field!(task, task_real_parent);
    field!(parent, task_tgid)
}
