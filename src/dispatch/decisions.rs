//! What a dispatcher decided last, and why: evidence for the claim chart, in memory taken once.

use std::collections::VecDeque;

/// Decisions that a dispatcher remembers: enough to show a burst, too few to cost a page.
pub const DECISIONS_MAX: usize = 32;

/// The last [`DECISIONS_MAX`] decisions and the number of all.
#[derive(Clone, Debug)]
pub struct Decisions<D> {
    last: VecDeque<D>,
    total: u64,
}

impl<D> Default for Decisions<D> {
    fn default() -> Self {
        Self { last: VecDeque::with_capacity(DECISIONS_MAX), total: 0 }
    }
}

impl<D> Decisions<D> {
    /// Remembers a decision in place of the oldest one.
    pub fn record(&mut self, decision: D) {
        if self.last.len() == DECISIONS_MAX {
            self.last.pop_front();
        }
        self.last.push_back(decision);
        self.total += 1;
    }

    /// Decisions since the start, remembered or not.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// The remembered ones, oldest first.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &D> {
        self.last.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::{DECISIONS_MAX, Decisions};

    #[test]
    fn the_oldest_is_forgotten_first() {
        let mut decisions = Decisions::default();
        let capacity = decisions.last.capacity();
        for number in 0..DECISIONS_MAX + 3 {
            decisions.record(number);
        }
        assert_eq!(decisions.iter().next(), Some(&3));
        assert_eq!((decisions.iter().len(), decisions.total()), (DECISIONS_MAX, DECISIONS_MAX as u64 + 3));
        assert_eq!(decisions.last.capacity(), capacity, "no memory after the start");
    }
}
