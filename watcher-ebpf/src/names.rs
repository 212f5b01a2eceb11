//! Names of maps and programs, shared as constants so that a rename cannot pass the compiler on one side only.

/// Ring of records, kernel to daemon.
pub const RING: &str = "RING";
/// Watched processes by thread-group id.
pub const WATCHED: &str = "WATCHED";
/// Known failing opens by [`crate::event::FoldKey`].
pub const FOLDS: &str = "FOLDS";
/// Per-CPU counters, indexed by [`crate::stats::Counter`].
pub const COUNTERS: &str = "COUNTERS";
/// Per-CPU totals of failing opens by sapi and errno, see [`crate::stats::total_index`].
pub const TOTALS: &str = "TOTALS";
/// The read-only global that holds [`crate::config::Config`].
pub const CONFIG: &str = "CONFIG";

/// The system calls that every rung hooks, by the kernel's name: the first is required, the others exist where the
/// architecture has them.
pub const SYSCALLS: [&str; 4] = ["openat", "open", "openat2", "creat"];
/// Entries of the fexit rung, one for each of [`SYSCALLS`].
pub const FEXIT: [&str; 4] = ["fexit_openat", "fexit_open", "fexit_openat2", "fexit_creat"];
/// The program that they tail-call, and the array that it stands in.
pub const FEXIT_HANDLER: &str = "fexit_failed";
pub const HANDLERS: &str = "HANDLERS";
/// The program of the kprobe rung, attached to the return of each of [`SYSCALLS`].
pub const KRETPROBE: &str = "kretprobe_failed";
/// The program of the tracepoint rung, attached to the exit of each of [`SYSCALLS`].
pub const TRACEPOINT: &str = "tracepoint_failed";
/// Raw tracepoints that keep the watched set: program and tracepoint.
pub const PROCESS: [(&str, &str); 3] = [
    ("process_fork", "sched_process_fork"),
    ("process_exec", "sched_process_exec"),
    ("process_exit", "sched_process_exit"),
];
