//! The receiving end: which updates of a batch are new.

use std::ops::Range;

use super::Positions;
use super::log::count;
use crate::tables::{Batch, ServerId};

/// What to do with a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Apply these updates of the batch; the position has moved behind them.
    Apply(Range<usize>),
    /// Everything in it has been applied before.
    Duplicate,
    /// Updates between the position and the batch are missing.
    Gap { have: u64 },
}

/// Positions of what has been applied here, by origin.
#[derive(Clone, Copy, Debug, Default)]
pub struct Receiver {
    applied: Positions,
}

impl Receiver {
    /// Judges a batch and moves the position if it is to be applied, which the caller then does at once.
    pub fn accept(&mut self, batch: &Batch) -> Verdict {
        let have = self.applied.get(batch.origin);
        let end = batch.first.saturating_add(count(batch.updates.len()));
        if batch.first > have.saturating_add(1) {
            return Verdict::Gap { have };
        }
        if end <= have.saturating_add(1) {
            return Verdict::Duplicate;
        }
        self.applied.raise(batch.origin, end - 1);
        let known = usize::try_from(have + 1 - batch.first).expect("invariant: less than the batch's length");
        Verdict::Apply(known..batch.updates.len())
    }

    /// Takes over positions whose effects have come by another way.
    pub fn adopt(&mut self, origin: ServerId, position: u64) {
        self.applied.raise(origin, position);
    }

    pub fn applied(&self) -> &Positions {
        &self.applied
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tables::{Stamp, TableId, Update, VersionVector};

    fn batch(first: u64, updates: usize) -> Batch {
        let update = Update {
            table: TableId(0),
            key: "k".into(),
            stamp: Stamp::default(),
            versions: VersionVector::default(),
            base: Stamp::default(),
            record: None,
        };
        Batch { origin: 2, first, updates: vec![update; updates] }
    }

    #[test]
    fn applies_once_and_in_order() {
        let mut receiver = Receiver::default();
        assert_eq!(receiver.accept(&batch(2, 1)), Verdict::Gap { have: 0 });
        assert_eq!(receiver.accept(&batch(1, 3)), Verdict::Apply(0..3));
        assert_eq!(receiver.accept(&batch(1, 3)), Verdict::Duplicate);
        assert_eq!(receiver.accept(&batch(2, 4)), Verdict::Apply(2..4));
        assert_eq!(receiver.accept(&batch(7, 1)), Verdict::Gap { have: 5 });
        assert_eq!(receiver.accept(&batch(6, 0)), Verdict::Duplicate);
        receiver.adopt(2, 9);
        receiver.adopt(2, 8);
        assert_eq!(receiver.accept(&batch(8, 3)), Verdict::Apply(2..3));
        assert_eq!(receiver.applied().get(2), 10);
        assert_eq!(receiver.applied().get(1), 0);
    }

    #[test]
    fn absurd_numbers_do_no_harm() {
        let mut receiver = Receiver::default();
        assert_eq!(receiver.accept(&batch(u64::MAX, 2)), Verdict::Gap { have: 0 });
        assert_eq!(receiver.accept(&batch(0, 1)), Verdict::Duplicate);
        let stranger = Batch { origin: 200, ..batch(1, 1) };
        assert_eq!(receiver.accept(&stranger), Verdict::Apply(0..1), "the rule makes applying it again harmless");
        assert_eq!(receiver.applied(), &Positions::default());
    }
}
