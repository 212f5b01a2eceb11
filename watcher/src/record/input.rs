//! Everything that enters the pipeline. A recording is a sequence of these, so a replay needs nothing of the host
//! that it runs on: what the sensor looked up there at the time is part of the stream.

use serde::{Deserialize, Serialize};
use watcher_ebpf::event::FoldKey;

use super::{
    event::{ProcessKey, Record},
    names::{Arch, Sapi},
};

#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    /// The sensor is attached.
    Started(Started),
    Record(Record),
    /// A record that could not be taken apart.
    Undecodable,
    /// What the host says about a process, asked when its first record came.
    Process(ProcessKey, ProcessInfo),
    /// Keys that grew, from the kernel's own table.
    Sweep(Vec<Growth>),
    Counters(Counters),
    /// The wall clock was set.
    Clock {
        boot_to_wall_ns: i64,
    },
    /// A deadline passed.
    Tick,
    Shutdown,
}

/// The host and how it is watched.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Started {
    pub kernel: String,
    pub rung: String,
    #[serde(default)]
    pub arch: Arch,
    pub watched_processes: u64,
    pub boot_to_wall_ns: i64,
    /// What is worse than it could be: rungs that this host refused, in words.
    #[serde(default)]
    pub reasons: Vec<String>,
}

/// A process as /proc shows it. Unknown is `None`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessInfo {
    #[serde(default, skip_serializing_if = "Option::is_none", with = "bytes")]
    pub executable: Option<Vec<u8>>,
    #[serde(default, skip_serializing_if = "Option::is_none", with = "bytes")]
    pub cgroup: Option<Vec<u8>>,
}

/// Cumulative count of one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Growth {
    pub key: FoldKey,
    pub count: u64,
    /// The key left the kernel's table with this count: it starts from 1 when it comes again.
    pub evicted: bool,
}

/// The kernel side's counters, cumulative since it was loaded.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// What was lost, by reason; reasons without a loss may be left out.
    pub lost: Vec<(String, u64)>,
    /// Failing opens by kind of program and errno: exact, whatever was lost.
    pub totals: Vec<Total>,
    pub watched_processes: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Total {
    /// Number of a [`Sapi`].
    pub sapi: u32,
    pub errno: u32,
    pub count: u64,
}

impl Total {
    pub fn sapi(&self) -> Sapi {
        Sapi::from_raw(self.sapi)
    }
}

/// Bytes as JSON: text where they are UTF-8, else an object with their base64.
mod bytes {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

    #[derive(Serialize, Deserialize)]
    #[serde(untagged)]
    enum Form {
        Text(String),
        Bytes { base64: String },
    }

    pub fn serialize<S: Serializer>(bytes: &Option<Vec<u8>>, to: S) -> Result<S::Ok, S::Error> {
        let form = bytes.as_ref().map(|bytes| match std::str::from_utf8(bytes) {
            Ok(text) => Form::Text(text.to_owned()),
            Err(_) => Form::Bytes { base64: STANDARD.encode(bytes) },
        });
        form.serialize(to)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Vec<u8>>, D::Error> {
        Ok(match Option::<Form>::deserialize(from)? {
            None => None,
            Some(Form::Text(text)) => Some(text.into_bytes()),
            Some(Form::Bytes { base64 }) => Some(STANDARD.decode(base64).map_err(D::Error::custom)?),
        })
    }
}
