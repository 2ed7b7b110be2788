//! How late the machine alone makes a thread that does nothing but look at the clock: the floor of every pacing figure.
//!
//! The loop waits for the same planned times as the generator does, on the same core, without a request, a ring or a
//! sleep. What it misses was taken by the host, by other processes or by interrupts, and no generator there is better.

use std::hint;
use std::thread;
use std::time::Duration;

use hdrhistogram::Histogram;
use twintier::clock::monotonic_ns;
use twintier::engine::thread::pin_to_core;

use crate::failure::Failure;

/// The name of the loop in tables.
pub const NAME: &str = "bare-loop";
/// Time between the start and the first planned time.
const LEAD_NS: u64 = 1_000_000;
/// The highest lateness that is kept; a later one is kept as this.
const LATE_NS_MAX: u64 = 60_000_000_000;

/// Nanoseconds behind each of the planned times of a steady plan, on a thread of its own that is pinned to `core`.
///
/// # Errors
/// There is no such core.
pub fn measure(core: usize, rate_per_s: u32, duration: Duration) -> Result<Histogram<u64>, Failure> {
    let gap_ns = 1_000_000_000 / u64::from(rate_per_s.max(1));
    let count = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX) / gap_ns.max(1);
    thread::scope(|scope| {
        let waiting = scope.spawn(|| {
            let pinned = pin_to_core(core);
            pinned.map(|()| lateness(monotonic_ns, monotonic_ns() + LEAD_NS, gap_ns, count))
        });
        waiting.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
    .map_err(|error| Failure::Failed(format!("the bare loop cannot be pinned to core {core}: {error}")))
}

/// Waits for `count` times that are `gap_ns` apart. Those that were missed come one by one, each with its own time.
fn lateness(mut clock_ns: impl FnMut() -> u64, start_ns: u64, gap_ns: u64, count: u64) -> Histogram<u64> {
    let mut found = Histogram::new_with_bounds(1, LATE_NS_MAX, 3).expect("invariant: constant bounds are valid");
    let mut now_ns = clock_ns();
    for due_ns in (0..count).map(|number| start_ns + number * gap_ns) {
        while now_ns < due_ns {
            hint::spin_loop();
            now_ns = clock_ns();
        }
        found.saturating_record(now_ns - due_ns);
    }
    found
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{lateness, measure};

    #[test]
    fn a_gap_in_the_clock_makes_every_time_in_it_late() {
        // The clock ticks every 100 ns, and once stands still for 2 ms: three times of a plan with one each 500 µs.
        let mut now_ns = 0;
        let clock = || {
            now_ns += if now_ns == 10_000_000 { 2_000_000 } else { 100 };
            now_ns
        };
        let found = lateness(clock, 1_000_000, 500_000, 100);
        assert_eq!(found.len(), 100);
        assert_eq!(found.count_between(0, 100), 97, "{found:?}");
        assert_eq!(found.count_between(499_000, 501_000), 1);
        assert_eq!(found.count_between(999_000, 1_001_000), 1);
        assert_eq!(found.count_between(1_499_000, 1_501_000), 1);
    }

    #[test]
    fn it_runs_on_a_core_that_exists_and_says_which_does_not() {
        let core = twintier::engine::thread::allowed_cores()[0];
        assert_eq!(measure(core, 2000, Duration::from_millis(10)).unwrap().len(), 20);
        let refused = measure(1 << 20, 2000, Duration::from_millis(10)).unwrap_err().to_string();
        assert!(refused.contains("core 1048576"), "{refused}");
    }
}
