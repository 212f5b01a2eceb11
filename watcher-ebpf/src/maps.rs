//! Every map, with the reason for its size. All are preallocated: an update in the middle of a system call must not
//! allocate.

use aya_ebpf::{
    macros::map,
    maps::{HashMap, PerCpuArray, ProgramArray, RingBuf},
};
use watcher_ebpf::{
    config::Watched,
    event::{Fold, FoldKey},
    stats::{COUNTERS_LEN, TOTALS_LEN},
};

/// 1 MiB: a burst of 2,500 first sightings of ordinary length while the daemon is not scheduled. Its pages count
/// twice in the daemon's resident size, which is the reason not to take more; a sighting that finds no place is
/// tried again at its next repeat. The daemon may set another size at load.
#[map]
pub static RING: RingBuf = RingBuf::with_byte_size(1 << 20, 0);

/// 32,768 processes: above the 20,000 of the largest host that is tested, 56 bytes each (1.8 MB).
#[map]
pub static WATCHED: HashMap<u32, Watched> = HashMap::with_max_entries(32_768, 0);

/// 16,384 causes at a time: the daemon evicts those that rest, so this bounds distinct failing files per half minute
/// (1.5 MB). A flood of ever new names fills it; then records go out one by one until the ring is full, and totals
/// stay exact.
#[map]
pub static FOLDS: HashMap<FoldKey, Fold> = HashMap::with_max_entries(16_384, 0);

/// One slot per counter, per CPU: no contention on a hot path.
#[map]
pub static COUNTERS: PerCpuArray<u64> = PerCpuArray::with_max_entries(COUNTERS_LEN, 0);

/// One slot per sapi and errno, per CPU: the exact totals, whatever else is lost.
#[map]
pub static TOTALS: PerCpuArray<u64> = PerCpuArray::with_max_entries(TOTALS_LEN, 0);

/// The program that the fexit entries tail-call.
#[map]
pub static HANDLERS: ProgramArray = ProgramArray::with_max_entries(1, 0);
