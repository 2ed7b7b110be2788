//! A start that several generators agree on: a wall time, turned into a place on the monotonic clock once.
//!
//! Whatever happens to the wall clock afterwards does not touch the run. The generators' clocks must agree: what one is
//! ahead of another (NTP: milliseconds) shifts its share of the plan by as much.

use std::io;
use std::str::FromStr;
use std::thread;
use std::time::Duration;

use chrono::DateTime;

/// Connections are opened so long before the start, not as soon as the order comes: an idle one may not live long.
const CONNECT_LEAD_NS: u64 = 3_000_000_000;
/// How often a waiting generator looks whether it was told to stop.
const LOOK_NS: u64 = 100_000_000;
/// The furthest start: a week.
const AHEAD_MS_MAX: u64 = 7 * 86_400_000;

/// A wall time in milliseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StartAt {
    unix_ms: u64,
}

impl FromStr for StartAt {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let seconds = text.parse().ok().filter(|seconds: &f64| (0.0..1e11).contains(seconds));
        // The bounds were checked: below 2^53.
        let plain = seconds.map(|seconds| (seconds * 1e3).round() as u64);
        let dated =
            || DateTime::parse_from_rfc3339(text).ok().and_then(|time| u64::try_from(time.timestamp_millis()).ok());
        plain.or_else(dated).map(|unix_ms| Self { unix_ms }).ok_or_else(|| {
            format!(
                "`{text}` is no time: write 2026-11-27T22:30:00Z or seconds since 1970, as from \
                 $(date -u -d '+30 seconds' +%s)"
            )
        })
    }
}

impl StartAt {
    /// The place on the monotonic clock, from one reading of both clocks.
    ///
    /// # Errors
    /// The time has passed, or is too far ahead to be meant.
    pub fn monotonic_ns(self, now_unix_ms: u64, now_ns: u64) -> io::Result<u64> {
        let invalid = |message| Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        match self.unix_ms.checked_sub(now_unix_ms) {
            None => invalid(format!(
                "--start-at was {:.1} s ago: name a time that leaves every generator long enough to start",
                (now_unix_ms - self.unix_ms) as f64 / 1e3
            )),
            Some(ahead_ms) if ahead_ms > AHEAD_MS_MAX => invalid(format!(
                "--start-at is {:.1} days ahead: at most 7 days are waited for",
                ahead_ms as f64 / 86_400e3
            )),
            Some(ahead_ms) => Ok(now_ns + ahead_ms * 1_000_000),
        }
    }
}

/// Sleeps until shortly before a start, or until `stopping`.
pub fn wait_for(start_ns: u64, now_ns: impl Fn() -> u64, stopping: impl Fn() -> bool) {
    while !stopping() {
        match start_ns.saturating_sub(CONNECT_LEAD_NS).checked_sub(now_ns()) {
            None | Some(0) => return,
            Some(rest_ns) => thread::sleep(Duration::from_nanos(rest_ns.min(LOOK_NS))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::StartAt;

    #[test]
    fn times_are_dates_or_seconds() {
        let ms = |text: &str| text.parse::<StartAt>().map(|time| time.unix_ms);
        assert_eq!(ms("2026-11-27T22:30:00Z"), Ok(1_795_818_600_000));
        assert_eq!(ms("2026-11-27T23:30:00.250+01:00"), Ok(1_795_818_600_250));
        assert_eq!(ms("1795818600.5"), Ok(1_795_818_600_500));
        for text in ["", "tomorrow", "-5", "2026-11-27", "22:30:00", "nan"] {
            assert!(text.parse::<StartAt>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_start_has_a_place_on_the_monotonic_clock_or_has_passed() {
        let start: StartAt = "1000".parse().unwrap();
        assert_eq!(start.monotonic_ns(999_250, 77).unwrap(), 750_000_077);
        assert_eq!(start.monotonic_ns(1_000_000, 77).unwrap(), 77);
        let late = start.monotonic_ns(1_003_210, 77).unwrap_err();
        assert!(late.to_string().contains("3.2 s ago"), "{late}");
        let far = "9999999999".parse::<StartAt>().unwrap().monotonic_ns(0, 0).unwrap_err();
        assert!(far.to_string().contains("days ahead"), "{far}");
    }
}
