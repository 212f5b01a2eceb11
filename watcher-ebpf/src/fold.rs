//! Folding: the key of a failing open, and the table of those already reported.

use core::mem::MaybeUninit;

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
    let mut len = 0u64;
    let mut unreadable = false;
    for chunk in 0..CHUNKS {
        // Not zeroed: the helper fills it as far as the name goes, and the last word is masked.
        let mut words = MaybeUninit::<[u64; CHUNK / 8]>::uninit();
        // SAFETY: the buffer has CHUNK bytes; the helper checks the user address.
        let n = unsafe {
            generated::bpf_probe_read_user_str(words.as_mut_ptr().cast(), CHUNK as u32, (address + len) as *const _)
        };
        if n < 1 || n > CHUNK as i64 {
            unreadable = true;
            break;
        }
        // SAFETY: to the verifier the helper has written all of it.
        let words = unsafe { words.assume_init_ref() };
        if chunk == 0 {
            first = words[0] as u8;
        }
        let whole = forget(n as u64 >> 3, state[0]);
        for (i, word) in words.iter().enumerate() {
            if i as u64 >= whole {
                // The bytes of the name in this word; none where it ends at a word's end.
                let rest = (n as u64 & 7) * 8;
                state = mix(state, word & ((1 << rest) - 1));
                break;
            }
            state = mix(state, *word);
        }
        len = forget(len + n as u64 - 1, state[0]);
        if n < CHUNK as i64 {
            break;
        }
    }
    let len = if len > PATH_MAX as u64 { PATH_MAX as u32 } else { len as u32 };
    Name { first, len, unreadable, state }
}

/// The same value, of which the verifier knows nothing any more. It would follow every length that a loop can end
/// with through the whole rest of the program, and give up at a million instructions.
#[inline(always)]
pub fn forget(value: u64, other: u64) -> u64 {
    let mut out = value;
    // SAFETY: two exclusive ors with the same register leave the value as it was.
    unsafe {
        core::arch::asm!("{out} ^= {other}", "{out} ^= {other}", out = inout(reg) out, other = in(reg) other, options(nomem, nostack, pure));
    }
    out
}

/// What is to be done about a failing open.
pub enum Sighting {
    /// Emit the whole record, with this count; on success [`mark`] the key if it has a place.
    New { count: u64, folded: bool },
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
            Sighting::New { count: 1, folded: false }
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
            return Sighting::New { count: so_far, folded: true };
        }
        count(Counter::Folded);
        if now_ns.wrapping_sub((&raw const (*fold).reported_ns).read_volatile()) < REPORT_EVERY_NS {
            return Sighting::Folded;
        }
        (&raw mut (*fold).reported_ns).write_volatile(now_ns);
        Sighting::Grown { count: so_far }
    }
}

/// Marks a key as reported. Looks it up again: holding the pointer over the emission would double what the verifier
/// has to follow there, and this happens once for each key.
#[inline(always)]
pub fn mark(key: &FoldKey, now_ns: u64) {
    if let Some(fold) = FOLDS.get_ptr_mut(key) {
        // SAFETY: the pointer comes from the map and is valid while the program runs; races as in `fold_into`.
        unsafe {
            (&raw mut (*fold).reported_ns).write_volatile(now_ns);
            (&raw mut (*fold).reported).write_volatile(1);
        }
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
