//! What this host offers: each rung with its verdict, what the kernel has, privileges, and the servers to watch.
//! Whatever cannot be seen without privileges is said to be unseen, never guessed.

use crate::{
    sensor::{RungVerdict, Sensor, Verdict},
    system::{self, Servers, System, kernel},
};

/// The examination's result.
#[derive(Clone, Debug)]
pub struct Report {
    pub watcher: &'static str,
    pub kernel: String,
    pub arch: &'static str,
    /// One per rung, or why none could be tried.
    pub rungs: Result<Vec<RungVerdict>, String>,
    pub checks: Vec<Check>,
    pub servers: Servers,
}

/// One thing that the sensor needs or profits from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    pub name: &'static str,
    pub state: CheckState,
    pub detail: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckState {
    Fine,
    /// Works, but less well.
    Limited,
    Missing,
    /// Cannot be seen from here.
    Unseen,
}

impl CheckState {
    pub fn name(self) -> &'static str {
        match self {
            Self::Fine => "fine",
            Self::Limited => "limited",
            Self::Missing => "missing",
            Self::Unseen => "unseen",
        }
    }
}

impl Report {
    /// Whether the sensor can run here.
    pub fn can_run(&self) -> bool {
        let works = |verdict: &RungVerdict| matches!(verdict.verdict, Verdict::Used | Verdict::Available);
        self.rungs.as_ref().is_ok_and(|rungs| rungs.iter().any(works))
    }
}

/// Examines the host. Tries each rung and takes it back; must run within a tokio runtime.
pub fn examine(system: &System) -> Report {
    Report {
        watcher: env!("CARGO_PKG_VERSION"),
        kernel: system::kernel_release(),
        arch: std::env::consts::ARCH,
        rungs: Sensor::probe().map_err(|error| error.to_string()),
        checks: vec![privileges(system), kernel_types(system), tracefs(system), lockdown()],
        servers: system.servers(),
    }
}

/// Capabilities by bit (linux/capability.h), and what each is for.
const CAPABILITIES: [(u32, &str, &str); 4] = [
    (39, "CAP_BPF", "to load kernel programs"),
    (38, "CAP_PERFMON", "to attach them"),
    (19, "CAP_SYS_PTRACE", "to see the executables of other users' processes"),
    (2, "CAP_DAC_READ_SEARCH", "to look at paths as other users see them"),
];
/// Stands for the first two on kernels before 5.8, and mounts tracefs.
const CAP_SYS_ADMIN: u32 = 21;

fn privileges(system: &System) -> Check {
    let check = |state, detail| Check { name: "privileges", state, detail };
    let Some(held) = system.capabilities() else {
        return check(CheckState::Unseen, "the capabilities of this process cannot be read".to_owned());
    };
    let has = |bit: u32| held & (1 << bit) != 0;
    let covered = |bit: u32| has(bit) || (has(CAP_SYS_ADMIN) && bit >= 38);
    let missing: Vec<_> = CAPABILITIES
        .iter()
        .filter(|(bit, ..)| !covered(*bit))
        .map(|(_, name, purpose)| format!("{name} {purpose}"))
        .collect();
    let user = system::user();
    if missing.is_empty() {
        check(CheckState::Fine, format!("user {user} has the capabilities that are needed"))
    } else {
        let state = if covered(39) && covered(38) { CheckState::Limited } else { CheckState::Missing };
        check(state, format!("user {user} lacks {}; run as root", missing.join(", ")))
    }
}

fn kernel_types(system: &System) -> Check {
    let (state, detail) = match system.kernel_types_bytes() {
        Ok(bytes) => (CheckState::Fine, format!("{} KiB in /sys/kernel/btf/vmlinux", bytes / 1_024)),
        Err(error) => {
            (CheckState::Missing, format!("/sys/kernel/btf/vmlinux: {error}; the kernel needs CONFIG_DEBUG_INFO_BTF"))
        }
    };
    Check { name: "btf", state, detail }
}

fn tracefs(system: &System) -> Check {
    let (state, detail) = match system.tracefs() {
        Some(path) => (CheckState::Fine, format!("mounted at {}", path.display())),
        None if system::user() != 0 => (CheckState::Unseen, "only root can look into it".to_owned()),
        None => (CheckState::Limited, "not mounted; the sensor mounts it if the tracepoint rung is needed".to_owned()),
    };
    Check { name: "tracefs", state, detail }
}

fn lockdown() -> Check {
    let (state, detail) = match kernel::lockdown().as_deref() {
        None => (CheckState::Fine, "the kernel has none, or securityfs is not mounted".to_owned()),
        Some("confidentiality") => (CheckState::Missing, "confidentiality: kernel memory cannot be read".to_owned()),
        Some(mode) => (CheckState::Fine, mode.to_owned()),
    };
    Check { name: "lockdown", state, detail }
}
