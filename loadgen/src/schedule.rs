//! The plan of a run: an absolute window on the monotonic clock, and the planned time of every arrival in it.
//!
//! ```text
//!   start ──── warm-up ──── measure ───────────── end ── drain ──▶
//!     │ arrivals are planned on [start, end) whatever comes back │ no arrivals; what is outstanding ends
//! ```
//! Which side of `measure` a request belongs to is decided by its planned time, never by its completion.

use crate::arrivals::{Arrival, Arrivals};

/// The window of a run, in monotonic nanoseconds: `start <= measure <= end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    pub start_ns: u64,
    /// End of the warm-up: requests planned from here on count.
    pub measure_ns: u64,
    /// No request is planned at or after this time.
    pub end_ns: u64,
}

impl Window {
    /// `duration_ns` counts without the warm-up before it.
    pub fn new(start_ns: u64, warmup_ns: u64, duration_ns: u64) -> Self {
        let measure_ns = start_ns + warmup_ns;
        Self { start_ns, measure_ns, end_ns: measure_ns + duration_ns }
    }

    /// Whether a request planned at this time belongs to the result.
    pub fn measures(&self, planned_ns: u64) -> bool {
        planned_ns >= self.measure_ns
    }
}

/// Planned arrivals in a window, taken one by one as they come due.
#[derive(Clone, Debug)]
pub struct Schedule {
    arrivals: Arrivals,
    window: Window,
    /// The next arrival, if there is one before the end.
    next: Option<Due>,
}

/// An arrival with its place on the monotonic clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Due {
    pub planned_ns: u64,
    /// Its number in the whole plan, of which this generator may have a share.
    pub number: u64,
    /// Which of the plan's requests it is.
    pub request: u32,
}

impl Schedule {
    pub fn new(arrivals: Arrivals, window: Window) -> Self {
        let mut schedule = Self { arrivals, window, next: None };
        schedule.advance();
        schedule
    }

    /// When the next arrival is due; `None` after the last.
    pub fn next_ns(&self) -> Option<u64> {
        self.next.map(|due| due.planned_ns)
    }

    /// The next arrival if it is due at `now_ns`. Arrivals that were missed come one by one, each with its own planned
    /// time: nothing is skipped and nothing is moved.
    pub fn take_due(&mut self, now_ns: u64) -> Option<Due> {
        let due = self.next.filter(|due| due.planned_ns <= now_ns)?;
        self.advance();
        Some(due)
    }

    fn advance(&mut self) {
        let next = self.arrivals.next_arrival().map(|Arrival { offset_ns, number, request }| Due {
            planned_ns: self.window.start_ns + offset_ns,
            number,
            request,
        });
        self.next = next.filter(|due| due.planned_ns < self.window.end_ns);
    }
}

#[cfg(test)]
mod tests {
    use super::{Schedule, Window};
    use crate::arrivals::{Plan, Process};

    fn schedule(rate: &str) -> Schedule {
        let window = Window::new(1_000, 500_000_000, 2_000_000_000);
        Schedule::new(Plan::steady(Process::Constant, rate.parse().unwrap(), 1).arrivals(), window)
    }

    #[test]
    fn a_late_caller_gets_every_arrival_with_its_own_time() {
        let mut plan = schedule("1000");
        assert_eq!(plan.take_due(999), None);
        assert_eq!(plan.take_due(1_000).map(|due| (due.planned_ns, due.number)), Some((1_000, 0)));
        assert_eq!(plan.take_due(1_000_999), None);
        let missed: Vec<u64> = std::iter::from_fn(|| plan.take_due(10_001_000)).map(|due| due.planned_ns).collect();
        assert_eq!(missed, (1..=10).map(|k| 1_000 + k * 1_000_000).collect::<Vec<_>>());
    }

    #[test]
    fn the_window_holds_exactly_rate_times_length() {
        let mut plan = schedule("1000");
        let all: Vec<u64> = std::iter::from_fn(|| plan.take_due(u64::MAX)).map(|due| due.planned_ns).collect();
        assert_eq!(all.len(), 2_500);
        assert_eq!(plan.next_ns(), None);
        let window = Window::new(1_000, 500_000_000, 2_000_000_000);
        assert_eq!(all.iter().filter(|&&planned| window.measures(planned)).count(), 2_000);
    }
}
