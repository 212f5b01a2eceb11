//! watcher: an always-on sensor that sees every file an Apache or PHP process fails to open, and says what it means.
//!
//! In reading order, which is the way of one event:
//!
//! - [`sensor`]: kernel programs, loaded, attached and read; the only user of aya
//! - [`record`]: bytes of the ring to records, and streams of them in files
//! - [`enrich`]: joins an open with its process, container, PHP state and request
//! - [`noise`], [`classify`]: harmless opens told from failures; one detector a file
//! - [`finding`], [`aggregate`]: one finding for each cause, with exact counts
//! - [`pipeline`]: composes these: input and time in, [`output`] out
//! - [`sinks`]: writes outputs down, for people and for programs
//! - [`daemon`]: wires the sensor, the pipeline and the sinks together
//! - [`cli`], [`config`], [`doctor`]: what the operator touches
//! - [`system`]: the only reader of /proc, cgroups and the file system; [`telemetry`]: the log
//! - [`time`], [`text`], [`lru`]: small things that the others share
//!
//! Invariants: `pipeline` and what it composes have no clock, no I/O and no threads, so that a replay is production
//! minus the sensor; whatever comes from outside is bytes until it is shown, and everything that grows is bounded.
#![deny(clippy::undocumented_unsafe_blocks)]

pub mod aggregate;
pub mod classify;
pub mod cli;
pub mod config;
pub mod daemon;
pub mod doctor;
pub mod enrich;
pub mod finding;
pub mod lru;
pub mod noise;
pub mod output;
pub mod pipeline;
pub mod record;
pub mod sensor;
pub mod sinks;
pub mod system;
pub mod telemetry;
pub mod text;
pub mod time;
