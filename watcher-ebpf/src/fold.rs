//! Folding: the key of a failing open, and the table of those already reported.

use aya_ebpf::helpers::generated;
use watcher_ebpf::{
    event::{Fold, FoldKey, PATH_MAX},
    filter::mix,
    stats::Counter,
};

use crate::{emit::count, maps::FOLDS, settings::setting};

/// Bytes of the name that are hashed at a time; on the stack, which has 512 in all.
const CHUNK: usize = 256;
/// Chunks that a name of `PATH_MAX` takes; each loses one byte to the NUL that the helper writes.
const CHUNKS: usize = PATH_MAX.div_ceil(CHUNK - 1);

/// A requested name in the process's memory.
pub struct Name {
    /// First byte; 0 where empty or unreadable.
    pub first: u8,
    /// Bytes, NUL excluded, counted to at most `PATH_MAX`.
    pub len: u32,
    pub unreadable: bool,
    /// The hash, continued.
    pub state: [u64; 2],
}

/// Reads and hashes the name at `address`.
#[inline(always)]
pub fn hash_name(address: u64, mut state: [u64; 2]) -> Name {
    let mut first = 0u8;
    let mut len = 0u32;
    for chunk in 0..CHUNKS {
        let mut words = [0u64; CHUNK / 8];
        // SAFETY: the buffer has CHUNK bytes; the helper checks the user address.
        let n = unsafe {
            generated::bpf_probe_read_user_str(
                (&raw mut words).cast(),
                CHUNK as u32,
                (address + u64::from(len)) as *const _,
            )
        };
        if n < 1 || n > CHUNK as i64 {
            return Name { first, len, unreadable: true, state };
        }
        if chunk == 0 {
            first = words[0] as u8;
        }
        let used = (n as usize + 7) / 8;
        for (i, word) in words.iter().enumerate() {
            if i >= used {
                break;
            }
            state = mix(state, *word);
        }
        len += n as u32 - 1;
        if n < CHUNK as i64 {
            break;
        }
    }
    Name { first, len, unreadable: false, state }
}

/// What is to be done about a failing open.
pub enum Sighting {
    /// Emit the whole record, with this count; on success mark the fold.
    New { count: u64, fold: Option<*mut Fold> },
    /// Emit the growth.
    Grown { count: u64 },
    /// Nothing: it is counted.
    Folded,
}

/// A known key is reported at most this often.
const REPORT_EVERY_NS: u64 = 1_000_000_000;

/// Counts one open of `key`.
#[inline(always)]
pub fn sight(key: &FoldKey, now_ns: u64) -> Sighting {
    if let Some(fold) = FOLDS.get_ptr_mut(key) {
        return fold_into(fold, now_ns);
    }
    let fresh = Fold { count: 0, reported_ns: now_ns, reported: 0 };
    // BPF_NOEXIST: of two that see the key first at the same instant, one inserts and both count.
    let _ = FOLDS.insert(key, &fresh, 1);
    match FOLDS.get_ptr_mut(key) {
        Some(fold) => fold_into(fold, now_ns),
        None => {
            count(Counter::FoldFull);
            Sighting::New { count: 1, fold: None }
        }
    }
}

#[inline(always)]
fn fold_into(fold: *mut Fold, now_ns: u64) -> Sighting {
    // SAFETY: the pointer comes from the map and is valid while the program runs; the count is shared between CPUs,
    // hence the atomic add; the other fields only decide when to report, where a race costs a record too many.
    unsafe {
        atomic_add(&raw mut (*fold).count, 1);
        let so_far = (&raw const (*fold).count).read_volatile();
        if (&raw const (*fold).reported).read_volatile() == 0 {
            return Sighting::New { count: so_far, fold: Some(fold) };
        }
        count(Counter::Folded);
        if now_ns.wrapping_sub((&raw const (*fold).reported_ns).read_volatile()) < REPORT_EVERY_NS {
            return Sighting::Folded;
        }
        (&raw mut (*fold).reported_ns).write_volatile(now_ns);
        Sighting::Grown { count: so_far }
    }
}

/// Marks a fold as reported.
///
/// # Safety
///
/// `fold` comes from [`Sighting::New`] of this run.
#[inline(always)]
pub unsafe fn mark(fold: *mut Fold, now_ns: u64) {
    // SAFETY: as the caller says.
    unsafe {
        (&raw mut (*fold).reported_ns).write_volatile(now_ns);
        (&raw mut (*fold).reported).write_volatile(1);
    }
}

/// The BPF atomic add without fetch, which every kernel has (the library's `fetch_add` is not there for this target).
#[inline(always)]
unsafe fn atomic_add(at: *mut u64, n: u64) {
    // SAFETY: one instruction that adds to the eight bytes at `at`, which the caller vouches for.
    unsafe {
        core::arch::asm!("lock *(u64 *)({at} + 0) += {n}", at = in(reg) at, n = in(reg) n, options(nostack));
    }
}

/// The hash's start, keyed at load.
#[inline(always)]
pub fn seed() -> [u64; 2] {
    setting!(seed)
}
