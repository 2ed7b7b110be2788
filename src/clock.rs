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
