//! How fast the other side must be: what moves slower for too long is ended, however patiently it goes on.
//!
//! ```text
//!   bytes wait ──▶ window ──┬─ queue empty ─────────────▶ no window
//!                           ├─ enough bytes taken ──────▶ next window
//!                           └─ too few bytes taken ─────▶ too slow
//! ```
//! Time is an argument, nothing here looks at a clock.

const NS_PER_S: u64 = 1_000_000_000;

/// How long something may take whose bytes count: `base_ns`, and beyond it a second for every `bytes_per_s_min` bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allowance {
    pub base_ns: u64,
    /// At least 1.
    pub bytes_per_s_min: u64,
}

impl Allowance {
    /// Nanoseconds that `bytes` may take from their beginning on.
    pub fn ns(self, bytes: u64) -> u64 {
        let earned = u128::from(bytes) * u128::from(NS_PER_S) / u128::from(self.bytes_per_s_min.max(1));
        self.base_ns.saturating_add(u64::try_from(earned).unwrap_or(u64::MAX))
    }
}

/// How fast a peer takes what is queued for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// When the window ends, in monotonic nanoseconds; `u64::MAX` while nothing is measured.
    due_ns: u64,
    /// Bytes that the peer had taken when the window began.
    taken_bytes: u64,
}

impl Default for Pace {
    fn default() -> Self {
        Self { due_ns: u64::MAX, taken_bytes: 0 }
    }
}

impl Pace {
    /// Bytes are queued: a window begins, unless one is open.
    pub fn begin(&mut self, now_ns: u64, taken_bytes: u64, window_ns: u64) {
        if self.due_ns == u64::MAX {
            *self = Self { due_ns: now_ns.saturating_add(window_ns), taken_bytes };
        }
    }

    /// The window is over: [`Pace::is_too_slow`] has something to say.
    pub fn is_due(&self, now_ns: u64) -> bool {
        self.due_ns <= now_ns
    }

    /// Judges the window that is over, and begins the next one if bytes still wait. A peer that has taken everything is
    /// never too slow.
    pub fn is_too_slow(&mut self, now_ns: u64, taken_bytes: u64, queued_bytes: u64, demand: Allowance) -> bool {
        let began_taken_bytes = self.taken_bytes;
        *self = Self::default();
        if queued_bytes == 0 {
            return false;
        }
        self.begin(now_ns, taken_bytes, demand.base_ns);
        let window_bytes = u128::from(demand.bytes_per_s_min) * u128::from(demand.base_ns) / u128::from(NS_PER_S);
        u128::from(taken_bytes.saturating_sub(began_taken_bytes)) < window_bytes
    }
}

#[cfg(test)]
mod tests {
    use super::{Allowance, NS_PER_S, Pace};

    const DEMAND: Allowance = Allowance { base_ns: 10 * NS_PER_S, bytes_per_s_min: 100 };

    #[test]
    fn every_byte_earns_time() {
        assert_eq!(DEMAND.ns(0), 10 * NS_PER_S);
        assert_eq!(DEMAND.ns(100), 11 * NS_PER_S);
        assert_eq!(DEMAND.ns(u64::MAX), u64::MAX);
    }

    #[test]
    fn a_peer_that_takes_a_byte_now_and_then_is_too_slow() {
        let mut pace = Pace::default();
        assert!(!pace.is_due(u64::MAX - 1), "nothing waits");
        pace.begin(0, 0, DEMAND.base_ns);
        pace.begin(5 * NS_PER_S, 3, DEMAND.base_ns);
        assert!(!pace.is_due(10 * NS_PER_S - 1) && pace.is_due(10 * NS_PER_S), "the first window stands");
        assert!(!pace.is_too_slow(10 * NS_PER_S, 1000, 5, DEMAND), "just enough");
        assert!(pace.is_due(20 * NS_PER_S));
        assert!(pace.is_too_slow(20 * NS_PER_S, 1999, 5, DEMAND), "one byte short in the second window");
    }

    #[test]
    fn a_peer_that_has_taken_all_is_fast_enough() {
        let mut pace = Pace::default();
        pace.begin(0, 7, DEMAND.base_ns);
        assert!(!pace.is_too_slow(10 * NS_PER_S, 8, 0, DEMAND));
        assert_eq!(pace, Pace::default());
    }
}
