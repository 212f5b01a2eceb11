//! The exit of the open system calls, on each rung.
//!
//! Hooks and prototypes, oldest (5.10) to newest (7.3) kernel alike:
//! - fexit and kretprobe on `long __x64_sys_openat(const struct pt_regs *regs)` and its siblings (`__arm64_…`). The
//!   system-call table points at these functions, so they are never inlined; each call runs exactly one of them; and
//!   they see every errno, also those that fail before `do_filp_open` (EMFILE, ENAMETOOLONG, EFAULT, EINVAL).
//!   `do_sys_openat2` would be one attachment instead of four but is static, so a compiler may inline a caller's copy.
//! - tracepoint `syscalls:sys_exit_openat` and its siblings: `long ret` at offset 16 of the record.
//!
//! Only the exit is hooked. The arguments stand in the registers that the task entered the kernel with, which the
//! wrapper gets as its argument and `task_pt_regs` finds elsewhere, and the name is in memory that the kernel has just
//! read. So a successful open costs one comparison on every rung, and nothing has to be kept between entry and exit.
//!
//! An fexit program is bound to its function at load, so four of them exist; each only looks at the result and
//! tail-calls the one that does the work, which the verifier then reads once and not four times.
//!
//! Not seen: opens through io_uring, and 32-bit system calls on a 64-bit kernel. Neither Apache nor PHP does either.

use aya_ebpf::{
    EbpfContext,
    helpers::{self, generated},
    macros::{fexit, kretprobe, tracepoint},
    programs::{FExitContext, RetProbeContext, TracePointContext},
};
use aya_log_ebpf::debug;
use watcher_ebpf::{
    config::{CGROUPS_MAX, sapi, scope},
    event::{FoldKey, PATH_MAX, flag},
    filter::{failed_errno, mix, restarts},
    stats::Counter,
};

use crate::{
    emit::{self, count, count_total},
    fold::{self, Sighting, forget},
    maps::{HANDLERS, WATCHED},
    path,
    settings::setting,
    task,
};

/// An entry of the fexit rung. The result follows the only argument; bpf_get_func_ret would need 5.17.
macro_rules! fexit_entry {
    ($name:ident) => {
        #[fexit]
        pub fn $name(ctx: FExitContext) -> i32 {
            if failed_errno(ctx.arg(1)).is_some() {
                // SAFETY: the context is handed on as it came; the array holds programs of the same type.
                let _ = unsafe { HANDLERS.tail_call(&ctx, 0) };
                count(Counter::HandlerMissing);
            }
            0
        }
    };
}

fexit_entry!(fexit_openat);
fexit_entry!(fexit_open);
fexit_entry!(fexit_openat2);
fexit_entry!(fexit_creat);

/// What the entries call; never attached itself.
#[fexit]
pub fn fexit_failed(ctx: FExitContext) -> i32 {
    failed(&ctx, ctx.arg(1), || Some(ctx.arg(0)))
}

#[kretprobe]
pub fn kretprobe_failed(ctx: RetProbeContext) -> i32 {
    failed(&ctx, ctx.ret(), task::user_registers)
}

#[tracepoint]
pub fn tracepoint_failed(ctx: TracePointContext) -> i32 {
    // SAFETY: offset 16 is the result in every sys_exit record (events/syscalls/*/format).
    let ret = unsafe { ctx.as_ptr().cast::<u64>().add(2).read() };
    failed(&ctx, ret, task::user_registers)
}

/// Why a failing open in scope became no record.
enum Loss {
    /// Its arguments could not be found.
    Arguments,
}

/// Takes a finished open: did it fail, is it in scope; then hands on. Always 0: nothing looks at the result.
#[inline(always)]
fn failed(ctx: &impl EbpfContext, ret: u64, registers: impl FnOnce() -> Option<u64>) -> i32 {
    let Some(errno) = failed_errno(ret).filter(|&errno| !restarts(errno)) else { return 0 };
    let Some(sapi) = sapi_in_scope() else { return 0 };
    count(Counter::Seen);
    count_total(u32::from(sapi), errno);
    match try_failed(ctx, errno, sapi, registers) {
        Ok(()) => {}
        Err(Loss::Arguments) => {
            count(Counter::RegsUnreadable);
            debug!(ctx, "arguments of a failed open not found, errno {}", errno);
        }
    }
    0
}

#[inline(always)]
fn try_failed(
    ctx: &impl EbpfContext,
    errno: u32,
    sapi: u8,
    registers: impl FnOnce() -> Option<u64>,
) -> Result<(), Loss> {
    let arguments = registers().and_then(task::arguments).ok_or(Loss::Arguments)?;
    let time_ns = task::now_ns();
    let name = fold::hash_name(arguments.name, fold::seed());
    let mut flags = 0;
    if name.unreadable {
        count(Counter::NameUnreadable);
        flags |= flag::NAME_UNREADABLE;
    } else if name.len >= PATH_MAX as u32 {
        count(Counter::NameTruncated);
        flags |= flag::NAME_TRUNCATED;
    }
    let root = path::root();
    let (resolution, base) = path::base(arguments.dirfd, name.first);
    if root.dentry != setting!(own_root_dentry) {
        flags |= flag::OTHER_ROOT;
    }

    // Each is one of few constants, which the verifier would follow one by one.
    flags = forget(flags.into(), time_ns) as u32;
    let resolution = forget(resolution.into(), time_ns) as u8;
    let root = root.forget(time_ns);
    let base = base.forget(time_ns);

    let uid = helpers::bpf_get_current_uid_gid() as u32;
    // SAFETY: the helper has no precondition.
    let cgroup = unsafe { generated::bpf_get_current_cgroup_id() };
    let mut state = mix(name.state, u64::from(errno) << 40 | u64::from(sapi) << 32 | u64::from(uid));
    state = mix(state, arguments.open_flags);
    state = mix(state, cgroup);
    state = mix(state, root.dentry);
    state = mix(state, base.dentry ^ base.mount.rotate_left(7));
    let key = FoldKey { lo: state[0], hi: state[1] };

    match fold::sight(&key, time_ns) {
        Sighting::Folded => {}
        Sighting::Grown { count } => emit::growth(time_ns, key, count),
        Sighting::New { count, folded } => {
            let flags = if folded { flags } else { flags | flag::UNFOLDED };
            let open = emit::Open {
                time_ns,
                key,
                count: forget(count, time_ns),
                errno,
                flags: forget(flags.into(), time_ns) as u32,
                arguments,
                name_len: name.len,
                resolution,
                sapi,
                base,
                root,
            };
            if emit::open(&open) {
                fold::mark(&key, time_ns);
                debug!(ctx, "first sighting, errno {}", errno);
            }
        }
    }
    Ok(())
}

/// Whether the current process is in scope, and as what.
#[inline(always)]
fn sapi_in_scope() -> Option<u8> {
    let pid = (helpers::bpf_get_current_pid_tgid() >> 32) as u32;
    // SAFETY: the entry is copied out at once; the daemon only replaces entries whole.
    let watched = unsafe { WATCHED.get(pid) };
    let sapi = match watched {
        Some(watched) => watched.sapi as u8,
        None if setting!(scope) & scope::ALL != 0 && pid != setting!(own_pid) => sapi::OTHER,
        None => return None,
    };
    if setting!(scope) & scope::CGROUPS != 0 && pid != setting!(own_pid) && !in_cgroups() {
        return None;
    }
    Some(sapi)
}

#[inline(always)]
fn in_cgroups() -> bool {
    for i in 0..CGROUPS_MAX {
        if i as u32 >= setting!(cgroups_len) {
            break;
        }
        // SAFETY: the helper has no precondition; a level below the process's own answers 0.
        let ancestor = unsafe { generated::bpf_get_current_ancestor_cgroup_id(setting!(cgroups[i].level) as i32) };
        if ancestor == setting!(cgroups[i].id) {
            return true;
        }
    }
    false
}
