//! The host's clocks.

use rustix::time::{ClockId, clock_gettime};

use crate::time::Time;

/// The kernel's clocks; a value so that who needs time has to be given it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Clock;

impl Clock {
    /// `CLOCK_BOOTTIME`: the clock of the records.
    pub fn now(self) -> Time {
        Time(nanoseconds(ClockId::Boottime) as u64)
    }

    /// What has to be added to [`Clock::now`] for the wall clock.
    pub fn boot_to_wall_ns(self) -> i64 {
        nanoseconds(ClockId::Realtime) - nanoseconds(ClockId::Boottime)
    }
}

fn nanoseconds(clock: ClockId) -> i64 {
    let time = clock_gettime(clock);
    time.tv_sec.saturating_mul(1_000_000_000).saturating_add(time.tv_nsec)
}
