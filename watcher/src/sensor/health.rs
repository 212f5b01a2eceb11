//! The kernel side's counters: exact totals, and every loss by its reason.

use aya::maps::{MapData, PerCpuArray};
use watcher_ebpf::{
    config::sapi,
    event::FoldKey,
    stats::{COUNTERS_LEN, Counter, ERRNO_SLOTS, TOTALS_LEN},
};

/// A reading of the counters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Failing opens in scope.
    pub seen: u64,
    /// First sightings that were sent.
    pub emitted: u64,
    /// Opens folded into a known key.
    pub folded: u64,
    /// What was lost, by reason; reasons without a loss included.
    pub lost: Vec<(&'static str, u64)>,
    /// Failing opens by sapi (see [`watcher_ebpf::config::sapi`]) and errno; only those above 0.
    pub totals: Vec<(u8, u32, u64)>,
}

/// What the self-check added; it is not the host's doing.
#[derive(Clone, Debug, Default)]
pub(super) struct SelfCheck {
    pub opens: u64,
    pub errno: u32,
    /// Its places in the fold table, which are given back.
    pub keys: Vec<FoldKey>,
}

pub(super) fn read(
    counters: &PerCpuArray<MapData, u64>,
    totals: &PerCpuArray<MapData, u64>,
    own: &SelfCheck,
) -> Counters {
    let mut out = Counters::default();
    for index in 0..COUNTERS_LEN {
        let (counter, name) = Counter::ALL[index as usize];
        let value = sum(counters, index);
        match counter {
            Counter::Seen => out.seen = value.saturating_sub(own.opens),
            Counter::Emitted => out.emitted = value.saturating_sub(own.opens),
            Counter::Folded => out.folded = value,
            _ => out.lost.push((name, value)),
        }
    }
    for index in 0..TOTALS_LEN {
        let (kind, errno) = ((index / ERRNO_SLOTS) as u8, index % ERRNO_SLOTS);
        let mut value = sum(totals, index);
        if kind == sapi::OTHER && errno == own.errno {
            value = value.saturating_sub(own.opens);
        }
        if value > 0 {
            out.totals.push((kind, errno, value));
        }
    }
    out
}

fn sum(array: &PerCpuArray<MapData, u64>, index: u32) -> u64 {
    array.get(&index, 0).map(|values| values.iter().sum()).unwrap_or(0)
}
