//! Per-CPU counters: what was seen, what became of it, and every way in which something is lost.

/// Index into the `COUNTERS` map. The names are those of `lost` in the status and of the metrics' `reason`.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counter {
    /// Failing opens in scope.
    Seen,
    /// Records of a first sighting.
    Emitted,
    /// Opens folded into a known key.
    Folded,
    /// Records that found the ring full: detail is late or lost, counts are not.
    RingFull,
    /// First sightings that found the fold table full: reported one by one.
    FoldFull,
    /// Processes that found the watched table full: their opens are not seen.
    WatchedFull,
    /// Names that could not be read from the process's memory.
    NameUnreadable,
    /// Names longer than `PATH_MAX`.
    NameTruncated,
    /// Base directories deeper or longer than the walk follows.
    BaseTruncated,
    /// Base directories of which a pointer could not be read.
    BaseUnreadable,
    /// Process records that found the ring full.
    ProcessRingFull,
    /// System-call arguments that could not be found.
    RegsUnreadable,
    /// Failing opens that found no program to handle them.
    HandlerMissing,
}

impl Counter {
    /// All, in index order, with their names.
    pub const ALL: [(Counter, &'static str); 13] = [
        (Counter::Seen, "seen"),
        (Counter::Emitted, "emitted"),
        (Counter::Folded, "folded"),
        (Counter::RingFull, "ring_full"),
        (Counter::FoldFull, "fold_table_full"),
        (Counter::WatchedFull, "watched_table_full"),
        (Counter::NameUnreadable, "name_unreadable"),
        (Counter::NameTruncated, "name_truncated"),
        (Counter::BaseTruncated, "base_truncated"),
        (Counter::BaseUnreadable, "base_unreadable"),
        (Counter::ProcessRingFull, "process_ring_full"),
        (Counter::RegsUnreadable, "arguments_unreadable"),
        (Counter::HandlerMissing, "handler_missing"),
    ];
    /// Those that tell of a loss: everything but the three that tell of work done.
    pub fn is_loss(self) -> bool {
        !matches!(self, Counter::Seen | Counter::Emitted | Counter::Folded)
    }
}

/// Slots of the `COUNTERS` map.
pub const COUNTERS_LEN: u32 = Counter::ALL.len() as u32;

/// Errnos that the totals tell apart; larger ones share the last slot. Linux's largest is 133 (EHWPOISON).
pub const ERRNO_SLOTS: u32 = 136;
/// Slots of the `TOTALS` map.
pub const TOTALS_LEN: u32 = ERRNO_SLOTS * crate::config::sapi::COUNT as u32;

/// Slot of one sapi and errno in the `TOTALS` map: always below [`TOTALS_LEN`].
#[inline(always)]
pub fn total_index(sapi: u32, errno: u32) -> u32 {
    let last_sapi = crate::config::sapi::COUNT as u32 - 1;
    let sapi = if sapi > last_sapi { last_sapi } else { sapi };
    let errno = if errno >= ERRNO_SLOTS { ERRNO_SLOTS - 1 } else { errno };
    sapi * ERRNO_SLOTS + errno
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_stand_at_their_index() {
        for (i, (counter, _)) in Counter::ALL.iter().enumerate() {
            assert_eq!(*counter as usize, i);
        }
    }

    #[test]
    fn every_total_has_a_slot_of_its_own() {
        let mut seen = std::collections::HashSet::new();
        for sapi in 0..crate::config::sapi::COUNT as u32 {
            for errno in 0..ERRNO_SLOTS {
                let index = total_index(sapi, errno);
                assert!(index < TOTALS_LEN);
                assert!(seen.insert(index));
            }
        }
        assert!(total_index(u32::MAX, u32::MAX) < TOTALS_LEN);
    }
}
