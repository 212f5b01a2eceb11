//! The watched set: fork hands an entry on, exec adds or removes one, exit removes it.
//!
//! Raw tracepoints, the same on every kernel from 5.10 to 7.3 (include/trace/events/sched.h):
//! - `sched_process_fork(struct task_struct *parent, struct task_struct *child)`
//! - `sched_process_exec(struct task_struct *p, pid_t old_pid, struct linux_binprm *bprm)`
//! - `sched_process_exit(struct task_struct *p)`; newer kernels pass a second argument, which is not read.
//!
//! They need neither tracefs nor BTF, run only at these three moments, and have no fallback: without them the sensor
//! refuses to start.

use aya_ebpf::{helpers, macros::raw_tracepoint, programs::RawTracePointContext};
use watcher_ebpf::{
    config::{NAMES_MAX, Watched, watched},
    event::{ProcessRecord, change, kind},
    filter::{name_matches, words},
    stats::Counter,
};

use crate::{
    emit::{self, count},
    maps::WATCHED,
    settings::{self, setting},
    task::{self, field},
};

#[raw_tracepoint(tracepoint = "sched_process_fork")]
pub fn process_fork(ctx: RawTracePointContext) -> i32 {
    let parent = (helpers::bpf_get_current_pid_tgid() >> 32) as u32;
    // SAFETY: the entry is copied out at once; the daemon only replaces entries whole.
    let Some(entry) = (unsafe { WATCHED.get(parent) }) else { return 0 };
    let inherited = Watched { flags: entry.flags & !(watched::MAIN | watched::BY_PID), ..*entry };
    let child: u64 = ctx.arg(1);
    let child: u32 = field!(child, task_tgid);
    // A thread: its process has an entry.
    if child != parent && WATCHED.insert(child, inherited, 0).is_err() {
        count(Counter::WatchedFull);
    }
    0
}

#[raw_tracepoint(tracepoint = "sched_process_exec")]
pub fn process_exec(_ctx: RawTracePointContext) -> i32 {
    let pid = (helpers::bpf_get_current_pid_tgid() >> 32) as u32;
    let comm = helpers::bpf_get_current_comm().unwrap_or([0; 16]);
    // SAFETY: the entry is only read here; the daemon only replaces entries whole.
    let before = unsafe { WATCHED.get(pid) };
    let by_pid = before.map_or(0, |entry| entry.flags & watched::BY_PID);
    match sapi_of(words(comm)) {
        Some(sapi) => {
            let entry = Watched { flags: watched::MAIN | by_pid, sapi };
            if WATCHED.insert(pid, entry, 0).is_err() {
                count(Counter::WatchedFull);
                return 0;
            }
            emit::process(&record(change::EXEC, pid, 0, sapi));
        }
        None if by_pid != 0 => {}
        None if before.is_some() => {
            let _ = WATCHED.remove(pid);
        }
        None => {}
    }
    0
}

#[raw_tracepoint(tracepoint = "sched_process_exit")]
pub fn process_exit(ctx: RawTracePointContext) -> i32 {
    let pid = (helpers::bpf_get_current_pid_tgid() >> 32) as u32;
    // SAFETY: the entry is copied out at once; the daemon only replaces entries whole.
    let Some(entry) = (unsafe { WATCHED.get(pid) }) else { return 0 };
    let Watched { flags, sapi } = *entry;
    let task: u64 = ctx.arg(0);
    // The tracepoint runs for each thread, after `signal->live` has gone down (kernel/exit.c): 0 for the last one.
    let signal: u64 = field!(task, task_signal);
    let live: i32 = field!(signal, signal_live);
    if live > 0 {
        return 0;
    }
    let _ = WATCHED.remove(pid);
    if flags & watched::MAIN != 0 {
        let status = field!(task, task_exit_code);
        emit::process(&record(change::EXIT, pid, status, sapi));
    }
    0
}

/// The kind of program of this name, if it is in scope.
#[inline(always)]
fn sapi_of(comm: [u64; 2]) -> Option<u32> {
    for i in 0..NAMES_MAX {
        if i as u32 >= setting!(names_len) {
            break;
        }
        let pattern = settings::name(i);
        if name_matches(comm, &pattern) {
            return Some(pattern.sapi as u32);
        }
    }
    None
}

#[inline(always)]
fn record(change: u32, pid: u32, exit_status: u32, sapi: u32) -> ProcessRecord {
    ProcessRecord {
        header: emit::header::<ProcessRecord>(kind::PROCESS),
        time_ns: task::now_ns(),
        change,
        pid,
        ppid: task::parent(task::current()),
        exit_status,
        comm: helpers::bpf_get_current_comm().unwrap_or([0; 16]),
        sapi,
        reserved: 0,
    }
}
