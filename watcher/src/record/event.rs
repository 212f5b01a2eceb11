//! What a record says once its bytes are taken apart: owned, complete, and with the path put together.

use std::fmt;

use watcher_ebpf::event::{FoldKey, flag};

use super::names::Sapi;
use crate::time::Time;

/// One record of the ring.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    Open(Box<OpenEvent>),
    Count(CountUpdate),
    Process(ProcessChange),
}

/// First sighting of a failing open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenEvent {
    pub key: FoldKey,
    pub time: Time,
    /// Opens of this key so far, this one included.
    pub count: u64,
    pub errno: u32,
    /// As the system call got them, in the numbering of the recording host.
    pub raw_flags: u64,
    pub pid: u32,
    pub tid: u32,
    pub ppid: u32,
    pub uid: u32,
    pub fsuid: u32,
    pub fsgid: u32,
    pub dirfd: i32,
    pub cgroup_id: u64,
    /// Start of the process: with the pid, its identity.
    pub start_time: Time,
    pub comm: Comm,
    pub sapi: Sapi,
    pub resolution: Resolution,
    /// Bits of [`flag`].
    pub marks: u32,
    /// The name as the program passed it; empty where it could not be read.
    pub requested: Vec<u8>,
    /// The absolute path as the process saw it, where base and name are known.
    pub path: Option<Vec<u8>>,
}

impl OpenEvent {
    /// Whether repeats of this key come as further opens, each for itself.
    pub fn unfolded(&self) -> bool {
        self.marks & flag::UNFOLDED != 0
    }

    /// The best name there is: absolute, else as requested.
    pub fn best_path(&self) -> &[u8] {
        self.path.as_deref().unwrap_or(&self.requested)
    }

    pub fn process(&self) -> ProcessKey {
        ProcessKey { pid: self.pid, start_time: self.start_time }
    }
}

/// Growth of a known key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CountUpdate {
    pub key: FoldKey,
    /// Of the latest open.
    pub time: Time,
    /// Opens of this key so far.
    pub count: u64,
}

/// A main process started or ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProcessChange {
    pub time: Time,
    pub change: Change,
    pub pid: u32,
    pub ppid: u32,
    pub comm: Comm,
    pub sapi: Sapi,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    Exec,
    /// With the status as `wait(2)` returns it.
    Exit(u32),
}

/// How an absolute path came about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resolution {
    Unresolved,
    Absolute,
    Cwd,
    Dirfd,
}

impl Resolution {
    /// The value of `file.path_resolution`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Unresolved => "unresolved",
            Self::Absolute => "absolute",
            Self::Cwd => "cwd",
            Self::Dirfd => "dirfd",
        }
    }
}

/// A process, told apart from later owners of its pid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ProcessKey {
    pub pid: u32,
    pub start_time: Time,
}

/// Name of a thread: at most 15 bytes of anything but NUL.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Comm([u8; 16]);

impl Comm {
    pub fn new(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    pub fn bytes(&self) -> &[u8] {
        let len = self.0.iter().position(|&byte| byte == 0).unwrap_or(self.0.len());
        &self.0[..len]
    }
}

impl fmt::Debug for Comm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.bytes().escape_ascii())
    }
}
