//! Points in time without a clock. [`Time`] counts since boot, as the kernel stamps its records: it never jumps. The
//! wall clock is that plus an offset, which is part of a recording, so a replay prints the times of the original.

use std::fmt;

use serde::{Deserialize, Serialize};

pub const SECOND: u64 = 1_000_000_000;

/// `CLOCK_BOOTTIME`, nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Time(pub u64);

impl Time {
    pub const fn plus(self, ns: u64) -> Self {
        Self(self.0.saturating_add(ns))
    }

    /// Nanoseconds from `earlier` to here, 0 where it is later.
    pub const fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// On the wall clock, given what lies between the two clocks.
    pub const fn wall(self, boot_to_wall_ns: i64) -> Wall {
        Wall((self.0 as i64).saturating_add(boot_to_wall_ns))
    }
}

/// Nanoseconds since 1970 in UTC. Displays as RFC 3339 with nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Wall(pub i64);

impl Wall {
    /// Year, month, day, after Howard Hinnant's `civil_from_days` (days of the proleptic Gregorian calendar).
    fn date(self) -> (i64, u32, u32) {
        let days = self.0.div_euclid(86_400 * SECOND as i64) + 719_468;
        let era = days.div_euclid(146_097);
        let day_of_era = days.rem_euclid(146_097);
        let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let shifted_month = (5 * day_of_year + 2) / 153;
        let day = (day_of_year - (153 * shifted_month + 2) / 5 + 1) as u32;
        let month = (if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 }) as u32;
        (year_of_era + era * 400 + i64::from(month <= 2), month, day)
    }

    fn time_of_day(self) -> (u32, u32, u32, u32) {
        let ns = self.0.rem_euclid(86_400 * SECOND as i64) as u64;
        let seconds = (ns / SECOND) as u32;
        (seconds / 3_600, seconds / 60 % 60, seconds % 60, (ns % SECOND) as u32)
    }

    /// For a person, to the second: `2026-03-10 02:00:07`.
    pub fn to_the_second(self) -> String {
        let ((year, month, day), (hour, minute, second, _)) = (self.date(), self.time_of_day());
        format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}")
    }

    /// For a person who knows the day: `02:00:07`.
    pub fn clock(self) -> String {
        let (hour, minute, second, _) = self.time_of_day();
        format!("{hour:02}:{minute:02}:{second:02}")
    }
}

impl fmt::Display for Wall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ((year, month, day), (hour, minute, second, ns)) = (self.date(), self.time_of_day());
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{ns:09}Z")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wall_times_read_as_rfc_3339() {
        let check = |seconds: i64, ns: i64, expect: &str| {
            assert_eq!(Wall(seconds * SECOND as i64 + ns).to_string(), expect);
        };
        check(0, 0, "1970-01-01T00:00:00.000000000Z");
        check(951_782_400, 1, "2000-02-29T00:00:00.000000001Z");
        check(1_773_108_007, 999_999_999, "2026-03-10T02:00:07.999999999Z");
        check(4_107_542_399, 0, "2100-02-28T23:59:59.000000000Z");
        check(-1, 0, "1969-12-31T23:59:59.000000000Z");
    }

    #[test]
    fn a_person_reads_seconds() {
        let time = Time(7 * SECOND).wall(1_773_108_000 * SECOND as i64);
        assert_eq!(time.to_the_second(), "2026-03-10 02:00:07");
        assert_eq!(time.clock(), "02:00:07");
    }

    #[test]
    fn arithmetic_saturates() {
        assert_eq!(Time(5).since(Time(7)), 0);
        assert_eq!(Time(u64::MAX).plus(1), Time(u64::MAX));
    }
}
