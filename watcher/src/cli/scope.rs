//! Options that `run` and `record` share: who is watched, and how.

use std::path::PathBuf;

use crate::config::Flags;

#[derive(clap::Args)]
pub struct ScopeArgs {
    /// Configuration file (TOML)
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Stop cleanly after this many seconds
    #[arg(long, value_name = "SECONDS")]
    duration: Option<u64>,
    /// Hook to use: auto, fexit, kprobe or tracepoint
    #[arg(long)]
    rung: Option<String>,
    /// Watch processes of this name instead of the usual servers; a closing * takes any ending
    #[arg(long, value_name = "NAME")]
    comm: Vec<String>,
    /// Watch this process and its forks
    #[arg(long)]
    pid: Vec<u32>,
    /// Watch only below this cgroup v2
    #[arg(long, value_name = "PATH")]
    cgroup: Vec<PathBuf>,
    /// Size of the kernel's ring of records
    #[arg(long, value_name = "BYTES", hide = true)]
    ring_bytes: Option<u32>,
}

impl ScopeArgs {
    pub fn into_flags(self, verbosity: u8) -> Flags {
        let Self { config, duration, rung, comm, pid, cgroup, ring_bytes } = self;
        Flags { config, duration, rung, comm, pid, cgroup, ring_bytes, verbosity, ..Flags::default() }
    }
}
