//! One entry of a recording and the header before them all.
//!
//! A file is `MAGIC`, format version (u16), ABI version (u16), header length (u32), the header as JSON, then frames:
//! kind (u8), three zero bytes, length (u32), time (u64, `CLOCK_BOOTTIME` nanoseconds), that many bytes. All numbers
//! are little endian. Ring records stand in it as they came; what the host said stands beside them as JSON, so that
//! fields may be added without a new format version.

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use thiserror::Error;
use watcher_ebpf::event::FoldKey;

use super::{
    decode::decode,
    event::ProcessKey,
    input::{Counters, Growth, Input, ProcessInfo, Started},
};
use crate::time::Time;

/// First bytes of a recording. The last makes tools take it for what it is, binary.
pub const MAGIC: [u8; 8] = *b"WATCHER\0";
/// Version of the frames' layout.
pub const FORMAT_VERSION: u16 = 1;
/// Largest frame. A ring record has at most some 20 KiB; a sweep of a whole fold table 1.5 MiB.
pub const FRAME_MAX: usize = 4 << 20;
/// Bytes of a frame before its body.
pub const FRAME_HEAD: usize = 16;
/// Bytes of one key in a sweep.
const GROWTH_LEN: usize = 32;

/// Where and when a recording was made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// Version of the recorder.
    pub watcher: String,
    pub kernel: String,
    pub start: Time,
    pub boot_to_wall_ns: i64,
}

/// One entry.
#[derive(Clone, Debug, PartialEq)]
pub struct Frame {
    /// The pipeline's `now`.
    pub time: Time,
    pub body: Body,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Body {
    /// A ring record, as it came.
    Raw(Vec<u8>),
    Other(Input),
}

impl Body {
    /// What the pipeline takes.
    pub fn into_input(self) -> Input {
        match self {
            Self::Raw(bytes) => decode(&bytes).map_or(Input::Undecodable, Input::Record),
            Self::Other(input) => input,
        }
    }
}

mod kind {
    pub const RAW: u8 = 1;
    pub const STARTED: u8 = 2;
    pub const PROCESS: u8 = 3;
    pub const SWEEP: u8 = 4;
    pub const COUNTERS: u8 = 5;
    pub const CLOCK: u8 = 6;
    pub const SHUTDOWN: u8 = 7;
}

#[derive(Debug, Error)]
pub enum BodyError {
    #[error("frame of unknown kind {0}")]
    Kind(u8),
    #[error("frame of {0} bytes does not fit its kind")]
    Length(usize),
    #[error("frame does not read as JSON")]
    Json(#[from] serde_json::Error),
}

#[derive(Serialize, Deserialize)]
struct ProcessFrame {
    pid: u32,
    start_time: Time,
    #[serde(flatten)]
    info: ProcessInfo,
}

/// Kind and bytes of an input, or `None` for one that a recording does not hold: ring records are written raw, and
/// the deadlines of a replay follow from the times of its frames.
pub fn encode(input: &Input) -> Option<(u8, Vec<u8>)> {
    Some(match input {
        Input::Started(started) => (kind::STARTED, json(started)),
        Input::Process(ProcessKey { pid, start_time }, info) => {
            (kind::PROCESS, json(&ProcessFrame { pid: *pid, start_time: *start_time, info: info.clone() }))
        }
        Input::Sweep(grown) => (kind::SWEEP, grown.iter().flat_map(growth_bytes).collect()),
        Input::Counters(counters) => (kind::COUNTERS, json(counters)),
        Input::Clock { boot_to_wall_ns } => (kind::CLOCK, boot_to_wall_ns.to_le_bytes().to_vec()),
        Input::Shutdown => (kind::SHUTDOWN, Vec::new()),
        Input::Record(_) | Input::Undecodable | Input::Tick => return None,
    })
}

pub const RAW: u8 = kind::RAW;

pub fn parse(kind: u8, bytes: Vec<u8>) -> Result<Body, BodyError> {
    Ok(Body::Other(match kind {
        kind::RAW => return Ok(Body::Raw(bytes)),
        kind::STARTED => Input::Started(from_json::<Started>(&bytes)?),
        kind::PROCESS => {
            let ProcessFrame { pid, start_time, info } = from_json(&bytes)?;
            Input::Process(ProcessKey { pid, start_time }, info)
        }
        kind::SWEEP => {
            let (grown, []) = bytes.as_chunks::<GROWTH_LEN>() else {
                return Err(BodyError::Length(bytes.len()));
            };
            Input::Sweep(grown.iter().map(growth).collect())
        }
        kind::COUNTERS => Input::Counters(from_json::<Counters>(&bytes)?),
        kind::CLOCK => {
            let bytes = bytes.as_slice().try_into().map_err(|_| BodyError::Length(bytes.len()))?;
            Input::Clock { boot_to_wall_ns: i64::from_le_bytes(bytes) }
        }
        kind::SHUTDOWN => Input::Shutdown,
        other => return Err(BodyError::Kind(other)),
    }))
}

fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("structs with string keys always serialize")
}

fn from_json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, serde_json::Error> {
    serde_json::from_slice(bytes)
}

fn growth_bytes(growth: &Growth) -> [u8; GROWTH_LEN] {
    let mut bytes = [0; GROWTH_LEN];
    bytes[..8].copy_from_slice(&growth.key.lo.to_le_bytes());
    bytes[8..16].copy_from_slice(&growth.key.hi.to_le_bytes());
    bytes[16..24].copy_from_slice(&growth.count.to_le_bytes());
    bytes[24] = growth.evicted.into();
    bytes
}

fn growth(bytes: &[u8; GROWTH_LEN]) -> Growth {
    let word = |at: usize| {
        let mut word = [0; 8];
        word.copy_from_slice(&bytes[at..at + 8]);
        u64::from_le_bytes(word)
    };
    Growth { key: FoldKey { lo: word(0), hi: word(8) }, count: word(16), evicted: word(24) != 0 }
}
