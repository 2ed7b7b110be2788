//! How long own updates take until every live replica is known to hold them.

use std::collections::VecDeque;

use hdrhistogram::Histogram;

/// Turns with own updates that wait for their acknowledgement and are timed; those beyond are not.
const OPEN_MAX: usize = 4096;
/// Lags beyond a minute are counted as a minute.
const LAG_NS_MAX: u64 = 60_000_000_000;

/// Lags of own updates, a turn at a time: from the turn that sealed them until the turn that knew them acknowledged.
#[derive(Debug)]
pub(super) struct Lag {
    /// Last own update of a turn, and when that turn was.
    open: VecDeque<(u64, u64)>,
    /// The last own update of any turn.
    sealed: u64,
    times: Histogram<u32>,
}

/// For `GET /status`, in nanoseconds; the way of the acknowledgement is part of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LagReport {
    /// Turns that were timed.
    pub count: u64,
    pub p50_ns: u64,
    pub p99_ns: u64,
    pub max_ns: u64,
}

impl Default for Lag {
    fn default() -> Self {
        let times = Histogram::new_with_bounds(1000, LAG_NS_MAX, 2).expect("invariant: constant bounds");
        Self { open: VecDeque::with_capacity(OPEN_MAX), sealed: 0, times }
    }
}

impl Lag {
    /// A turn has sealed own updates up to this number.
    pub fn sealed(&mut self, position: u64, now_ns: u64) {
        if position > self.sealed && self.open.len() < OPEN_MAX {
            self.open.push_back((position, now_ns));
        }
        self.sealed = position;
    }

    /// Every live replica holds own updates up to this number.
    pub fn acknowledged(&mut self, position: u64, now_ns: u64) {
        while let Some(&(_, since_ns)) = self.open.front().filter(|(sealed, _)| *sealed <= position) {
            self.open.pop_front();
            self.times.saturating_record(now_ns.saturating_sub(since_ns).max(1));
        }
    }

    pub fn report(&self) -> LagReport {
        let at = |share: f64| self.times.value_at_quantile(share);
        LagReport { count: self.times.len(), p50_ns: at(0.5), p99_ns: at(0.99), max_ns: self.times.max() }
    }
}

#[cfg(test)]
mod tests {
    use super::{Lag, LagReport, OPEN_MAX};

    #[test]
    fn turns_are_timed_until_their_last_update_is_acknowledged() {
        let mut lag = Lag::default();
        assert_eq!(lag.report(), LagReport::default());
        lag.sealed(0, 5);
        lag.acknowledged(0, 5);
        assert_eq!(lag.report().count, 0, "nothing was written");
        lag.sealed(3, 1_000_000);
        lag.sealed(3, 2_000_000);
        lag.sealed(7, 3_000_000);
        lag.acknowledged(2, 4_000_000);
        assert_eq!(lag.report().count, 0, "half of a turn");
        lag.acknowledged(6, 5_000_000);
        assert_eq!(lag.report().count, 1);
        let max_ns = lag.report().max_ns;
        assert!((4_000_000..4_100_000).contains(&max_ns), "to a hundredth: {max_ns}");
        lag.acknowledged(7, 4_000_000);
        assert_eq!(lag.report().count, 2);
        for turn in 0..2 * u64::try_from(OPEN_MAX).unwrap() {
            lag.sealed(100 + turn, turn);
        }
        assert_eq!(lag.open.len(), OPEN_MAX);
    }
}
