//! The two clocks. Machines take times as arguments; only loops and threads read these.

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
