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
/// architecture has them. Each rung has a program of its own for each: `fexit_openat`, `kretprobe_open`, …
pub const SYSCALLS: [&str; 4] = ["openat", "open", "openat2", "creat"];
/// Prefix of the fexit rung's programs.
pub const FEXIT: &str = "fexit";
/// Prefix of the kprobe rung's programs.
pub const KRETPROBE: &str = "kretprobe";
/// Prefix of the tracepoint rung's programs.
pub const TRACEPOINT: &str = "tracepoint";
/// Raw tracepoints that keep the watched set: program and tracepoint.
pub const PROCESS: [(&str, &str); 3] = [
    ("process_fork", "sched_process_fork"),
    ("process_exec", "sched_process_exec"),
    ("process_exit", "sched_process_exit"),
];
