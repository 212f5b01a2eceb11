//! What crosses the boundary between the kernel programs and the daemon: record layouts, the ABI version, map and
//! program names, and the pure decisions that both sides share and the host can test.
//!
//! Reading order: [`event`] (what arrives through the ring), [`config`] (what the daemon tells the programs),
//! [`stats`] (what is counted), [`filter`] (pure predicates), [`names`] (maps and programs by name).
#![cfg_attr(not(any(test, feature = "user")), no_std)]

pub mod config;
pub mod event;
pub mod filter;
pub mod names;
pub mod stats;

/// Version of every layout in this crate. It stands in each record and each recording: the daemon refuses others.
pub const ABI_VERSION: u16 = 1;
