//! The clocks. Machines take times as arguments; only loops and threads read these.

use std::time::{SystemTime, UNIX_EPOCH};

/// Nanoseconds of the monotonic clock (`CLOCK_MONOTONIC`), the only clock of deadlines and latencies.
pub fn monotonic_ns() -> u64 {
    crate::engine::clock_monotonic_ns()
}

/// Milliseconds since the Unix epoch: for dates shown to people, session expiry and the hybrid clock's input.
pub fn unix_ms() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |elapsed| u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX))
}

/// What a worker's turn reads the time from: the system's clocks, or a simulation's.
pub trait Clocks {
    /// Like [`unix_ms`].
    fn unix_ms(&self) -> u64;

    /// Like [`monotonic_ns`]: this moment, also within a turn.
    fn monotonic_ns(&self) -> u64;

    /// Processor time of the calling thread, in nanoseconds.
    fn cpu_ns(&self) -> u64;
}

/// The clocks of the system.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClocks;

impl Clocks for SystemClocks {
    fn unix_ms(&self) -> u64 {
        unix_ms()
    }

    fn monotonic_ns(&self) -> u64 {
        monotonic_ns()
    }

    fn cpu_ns(&self) -> u64 {
        crate::engine::thread::thread_cpu_ns()
    }
}

/// `2026-11-27T16:30:13.123Z`, by the civil calendar (days since 0000-03-01 in eras of 400 years).
pub fn stamp(unix_ms: u64) -> [u8; 24] {
    let (seconds, milliseconds) = (unix_ms / 1000, unix_ms % 1000);
    let (days, of_day) = (seconds / 86_400 + 719_468, seconds % 86_400);
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let mut out = *b"0000-00-00T00:00:00.000Z";
    let mut put = |at: usize, digits: usize, mut value: u64| {
        for place in (at..at + digits).rev() {
            out[place] = b'0' + u8::try_from(value % 10).unwrap_or(0);
            value /= 10;
        }
    };
    put(0, 4, year);
    put(5, 2, month);
    put(8, 2, day);
    put(11, 2, of_day / 3600);
    put(14, 2, of_day / 60 % 60);
    put(17, 2, of_day % 60);
    put(20, 3, milliseconds);
    out
}

#[cfg(test)]
mod tests {
    #[cfg(feature = "appliance")]
    #[test]
    fn the_stamp_agrees_with_another_calendar() {
        use super::stamp;
        for unix_s in (0..4_000_000_000_u64).step_by(86_399 * 17) {
            let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(unix_s);
            let http = httpdate::fmt_http_date(time);
            let ours = String::from_utf8(stamp(unix_s * 1000 + 7).to_vec()).unwrap();
            // `Thu, 01 Jan 1970 00:00:00 GMT` beside `1970-01-01T00:00:00.007Z`.
            let months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
            let month = months.iter().position(|month| *month == &http[8..11]).unwrap() + 1;
            let theirs = format!("{}-{month:02}-{}T{}.007Z", &http[12..16], &http[5..7], &http[17..25]);
            assert_eq!(ours, theirs);
        }
    }
}
