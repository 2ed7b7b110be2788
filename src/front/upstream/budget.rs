//! How many requests of a statement may be sent again: a share of those that came lately, so that a failing server is
//! never met with a storm.

use std::cell::Cell;
use std::rc::Rc;

/// Seconds that the window reaches back.
pub const WINDOW_S: usize = 10;
/// Retries that every window has, however few requests came.
pub const RETRIES_LEAST: u32 = 3;

const SECOND_NS: u64 = 1_000_000_000;

#[derive(Clone, Copy, Debug, Default)]
struct Second {
    requests: u32,
    retries: u32,
}

/// The budget of one statement at one front.
#[derive(Debug)]
pub struct RetryBudget {
    /// Retries for a hundred requests.
    pub percent: u32,
    seconds: [Second; WINDOW_S],
    /// Sums over `seconds`.
    sum: Second,
    /// The second that is being filled, since the start of the clock.
    at_s: u64,
    under_way: Rc<Cell<u32>>,
    begun: u64,
    denied: u64,
}

/// A retry that waits or is under way; its end is its drop.
#[derive(Debug)]
pub struct Retry(Rc<Cell<u32>>);

impl Drop for Retry {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

impl RetryBudget {
    pub fn new(percent: u32) -> Self {
        Self {
            percent,
            seconds: [Second::default(); WINDOW_S],
            sum: Second::default(),
            at_s: 0,
            under_way: Rc::default(),
            begun: 0,
            denied: 0,
        }
    }

    /// A request came.
    pub fn request(&mut self, now_ns: u64) {
        let second = self.second(now_ns);
        second.requests = second.requests.saturating_add(1);
        self.sum.requests = self.sum.requests.saturating_add(1);
    }

    /// Begins a retry, if the budget has one left.
    pub fn begin(&mut self, now_ns: u64) -> Option<Retry> {
        if self.left(now_ns) == 0 {
            self.denied += 1;
            return None;
        }
        self.second(now_ns).retries += 1;
        self.sum.retries += 1;
        self.begun += 1;
        self.under_way.set(self.under_way.get() + 1);
        Some(Retry(Rc::clone(&self.under_way)))
    }

    /// Retries that may begin now. Those that wait or are under way count for as long as they do, also when they began
    /// before the window.
    pub fn left(&mut self, now_ns: u64) -> u32 {
        self.second(now_ns);
        let share = u64::from(self.sum.requests) * u64::from(self.percent) / 100;
        let allowed = u32::try_from(share).unwrap_or(u32::MAX).max(RETRIES_LEAST);
        allowed.saturating_sub(self.sum.retries.max(self.under_way.get()))
    }

    /// Retries since the start.
    pub fn begun(&self) -> u64 {
        self.begun
    }

    /// Retries that the budget did not have.
    pub fn denied(&self) -> u64 {
        self.denied
    }

    /// The second in hand; those that the window has left behind are emptied.
    fn second(&mut self, now_ns: u64) -> &mut Second {
        let now_s = now_ns / SECOND_NS;
        if now_s > self.at_s {
            let passed = usize::try_from(now_s - self.at_s).unwrap_or(WINDOW_S).min(WINDOW_S);
            for step in 0..passed {
                let old = std::mem::take(&mut self.seconds[place(now_s - step as u64)]);
                self.sum.requests = self.sum.requests.saturating_sub(old.requests);
                self.sum.retries = self.sum.retries.saturating_sub(old.retries);
            }
            self.at_s = now_s;
        }
        &mut self.seconds[place(self.at_s)]
    }
}

fn place(second: u64) -> usize {
    usize::try_from(second % WINDOW_S as u64).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{prop, proptest};

    use super::{RETRIES_LEAST, RetryBudget, SECOND_NS, WINDOW_S};

    #[test]
    fn a_share_of_the_window_and_three_at_least() {
        let mut budget = RetryBudget::new(20);
        let retries: Vec<_> = (0..5).map(|_| budget.begin(0)).collect();
        assert_eq!(retries.iter().flatten().count(), 3);
        assert_eq!((budget.begun(), budget.denied()), (3, 2));
        for _ in 0..100 {
            budget.request(SECOND_NS);
        }
        assert_eq!(budget.left(SECOND_NS), 17);
        drop(retries);
        assert_eq!(budget.left(SECOND_NS), 17, "what was spent in the window stays spent");
        assert_eq!(budget.left(WINDOW_S as u64 * SECOND_NS), 20);
        assert_eq!(budget.left(u64::MAX), RETRIES_LEAST);
    }

    #[test]
    fn a_retry_that_lasts_counts_on() {
        let mut budget = RetryBudget::new(0);
        let long = [budget.begin(0), budget.begin(0), budget.begin(0)];
        let later = 100 * SECOND_NS;
        assert!(budget.begin(later).is_none());
        drop(long);
        assert!(budget.begin(later).is_some());
    }

    proptest! {
        /// Against counting every event again at each step.
        #[test]
        fn never_more_than_the_share(steps in prop::collection::vec((0_u8..3, 0_u64..3_000_000_000), 1..300), percent in 0_u32..=100) {
            let mut budget = RetryBudget::new(percent);
            let (mut now_ns, mut requests, mut retries, mut held) = (0, Vec::new(), Vec::new(), Vec::new());
            for (step, later_ns) in steps {
                now_ns += later_ns / 7;
                match step {
                    0 => { budget.request(now_ns); requests.push(now_ns / SECOND_NS) }
                    1 => {
                        let inside = |second: &&u64| **second + WINDOW_S as u64 > now_ns / SECOND_NS;
                        let came = requests.iter().filter(inside).count() as u64;
                        let spent = retries.iter().filter(inside).count().max(held.len()) as u64;
                        let allowed = (came * u64::from(percent) / 100).max(u64::from(RETRIES_LEAST));
                        let retry = budget.begin(now_ns);
                        assert_eq!(retry.is_some(), spent < allowed);
                        if let Some(retry) = retry { held.push(retry); retries.push(now_ns / SECOND_NS) }
                    }
                    _ => drop(held.pop()),
                }
            }
        }
    }
}
