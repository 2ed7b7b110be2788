//! The delta log of one origin: its updates with dense numbers from 1, in sealed batches that all peers share.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::limits::BATCH_UPDATES_MAX;
use crate::tables::{Batch, ServerId, Update};

/// Updates that some peer may still need. Bounded: a peer that falls behind the log is repaired by a sweep.
#[derive(Debug)]
pub struct DeltaLog {
    origin: ServerId,
    /// The first number of this life of the log: no update has one below it.
    begins: u64,
    /// Sealed batches, dense: each begins where the one before ends.
    batches: VecDeque<Arc<Batch>>,
    /// Appended since the last seal.
    open: Vec<Update>,
    /// The number of the first update in `open`, or of the next update.
    open_first: u64,
    /// Updates in `batches`.
    held: usize,
    held_max: usize,
}

impl DeltaLog {
    /// An empty log that keeps at most `held_max` sealed updates (the youngest batch always stays).
    pub fn new(origin: ServerId, held_max: usize) -> Self {
        Self { origin, begins: 1, batches: VecDeque::new(), open: Vec::new(), open_first: 1, held: 0, held_max }
    }

    /// Empties the log; the next update gets the number `next`.
    pub fn restart_at(&mut self, next: u64) {
        self.batches.clear();
        self.open.clear();
        self.begins = next;
        self.open_first = next;
        self.held = 0;
    }

    /// Numbers an update.
    pub fn append(&mut self, update: Update) -> u64 {
        self.open.push(update);
        self.head()
    }

    /// Makes batches of what was appended since; one, as a rule.
    pub fn seal(&mut self) {
        let mut updates = std::mem::take(&mut self.open);
        while !updates.is_empty() {
            let rest = updates.split_off(updates.len().min(BATCH_UPDATES_MAX));
            self.push(Arc::new(Batch { origin: self.origin, first: self.open_first, updates }));
            updates = rest;
        }
    }

    /// Takes a batch that was numbered elsewhere. Nothing may be open. A batch that does not continue the log
    /// restarts it: what is held is always dense.
    pub fn push(&mut self, batch: Arc<Batch>) {
        if batch.first != self.open_first {
            self.restart_at(batch.first);
        }
        self.open_first = batch.first + count(batch.updates.len());
        self.held += batch.updates.len();
        self.batches.push_back(batch);
        while self.held > self.held_max && self.batches.len() > 1 {
            self.drop_oldest();
        }
    }

    /// Drops the batches that every live peer has acknowledged.
    pub fn truncate(&mut self, acknowledged: u64) {
        while self.batches.front().is_some_and(|batch| batch.first + count(batch.updates.len()) <= acknowledged + 1) {
            self.drop_oldest();
        }
    }

    /// The sealed batch that holds update `id + 1`. `None` if nothing later is sealed, or if it is gone.
    pub fn batch_after(&self, id: u64) -> Option<&Arc<Batch>> {
        if !self.holds_after(id) {
            return None;
        }
        let later = self.batches.partition_point(|batch| batch.first <= id.saturating_add(1));
        let batch = self.batches.get(later.checked_sub(1)?)?;
        (batch.first + count(batch.updates.len()) > id.saturating_add(1)).then_some(batch)
    }

    /// Copies of all updates after `id` that are held, sealed or not.
    pub fn updates_after(&self, id: u64) -> Vec<Update> {
        let sealed = self.batches.iter().flat_map(|batch| (batch.first..).zip(&batch.updates));
        let open = (self.open_first..).zip(&self.open);
        sealed.chain(open).filter(|(number, _)| *number > id).map(|(_, update)| update.clone()).collect()
    }

    /// Whether no update after `id` has been dropped.
    pub fn holds_after(&self, id: u64) -> bool {
        id.saturating_add(1) >= self.oldest()
    }

    /// Number of the oldest update that is held, or of the next one.
    pub fn oldest(&self) -> u64 {
        self.batches.front().map_or(self.open_first, |batch| batch.first)
    }

    /// Number of the last update; 0 before the first.
    pub fn head(&self) -> u64 {
        self.open_first + count(self.open.len()) - 1
    }

    /// Updates that somebody lacks who holds those up to `id`. Between two lives of a log numbers are left out.
    pub fn beyond(&self, id: u64) -> u64 {
        self.head().saturating_sub(id.max(self.begins.saturating_sub(1)))
    }

    /// Number of the last update in a sealed batch or dropped.
    pub fn sealed(&self) -> u64 {
        self.open_first - 1
    }

    /// Updates held in sealed batches.
    pub fn held(&self) -> usize {
        self.held
    }

    fn drop_oldest(&mut self) {
        if let Some(batch) = self.batches.pop_front() {
            self.held -= batch.updates.len();
        }
    }
}

/// A number of updates as an id offset.
pub(super) fn count(updates: usize) -> u64 {
    u64::try_from(updates).expect("invariant: addresses have 64 bits")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tables::{Stamp, TableId, VersionVector};

    fn update(key: u64) -> Update {
        Update {
            table: TableId(0),
            key: key.to_string().into(),
            stamp: Stamp::default(),
            versions: VersionVector::default(),
            base: Stamp::default(),
            record: None,
        }
    }

    fn log(held_max: usize, turns: &[u64]) -> DeltaLog {
        let mut log = DeltaLog::new(3, held_max);
        let mut next = 1;
        for updates in turns {
            for _ in 0..*updates {
                assert_eq!(log.append(update(next)), next);
                next += 1;
            }
            log.seal();
        }
        log
    }

    #[test]
    fn numbers_that_were_left_out_between_two_lives_are_nobody_s_lag() {
        let mut log = log(100, &[2]);
        assert_eq!((log.beyond(0), log.beyond(1), log.beyond(2), log.beyond(9)), (2, 1, 0, 0));
        log.restart_at(1_000_000);
        assert_eq!((log.beyond(2), log.beyond(0)), (0, 0));
        log.append(update(1));
        log.seal();
        assert_eq!((log.beyond(2), log.beyond(999_999), log.beyond(1_000_000)), (1, 1, 0));
        log.truncate(1_000_000);
        assert_eq!(log.beyond(2), 1, "what was dropped still lacks to whom a sweep has to repair");
    }

    #[test]
    fn numbers_are_dense_and_turns_become_batches() {
        let log = log(100, &[2, 0, 3]);
        assert_eq!((log.head(), log.sealed(), log.oldest(), log.held()), (5, 5, 1, 5));
        let first_of = |id| log.batch_after(id).map(|batch| (batch.origin, batch.first, batch.updates.len()));
        assert_eq!(first_of(0), Some((3, 1, 2)));
        assert_eq!(first_of(1), Some((3, 1, 2)));
        assert_eq!(first_of(2), Some((3, 3, 3)));
        assert_eq!(first_of(4), Some((3, 3, 3)));
        assert_eq!(first_of(5), None);
        assert_eq!(first_of(u64::MAX), None);
    }

    #[test]
    fn an_update_is_sent_only_when_sealed() {
        let mut log = log(100, &[1]);
        log.append(update(2));
        assert_eq!((log.head(), log.sealed()), (2, 1));
        assert!(log.batch_after(1).is_none());
        log.seal();
        assert!(log.batch_after(1).is_some());
    }

    #[test]
    fn what_is_not_acknowledged_can_be_copied() {
        let mut log = log(100, &[2, 3]);
        log.append(update(6));
        let keys = |id| log.updates_after(id).iter().map(|update| update.key.to_string()).collect::<Vec<_>>();
        assert_eq!(keys(3), ["4", "5", "6"]);
        assert_eq!((keys(0).len(), keys(5).len(), keys(6).len()), (6, 1, 0));
    }

    #[test]
    fn a_long_turn_becomes_several_batches() {
        let log = log(10_000, &[2_500]);
        let (mut at, mut sizes) = (0, Vec::new());
        while let Some(batch) = log.batch_after(at) {
            at = batch.first + count(batch.updates.len()) - 1;
            sizes.push(batch.updates.len());
        }
        assert_eq!((at, sizes), (2_500, vec![1024, 1024, 452]));
    }

    #[test]
    fn acknowledged_batches_go_and_the_limit_holds() {
        let mut log = log(100, &[2, 3, 4]);
        log.truncate(4);
        assert_eq!(log.oldest(), 3, "a batch goes as a whole");
        assert!(!log.holds_after(1) && log.holds_after(2));
        log.truncate(9);
        assert_eq!((log.oldest(), log.held(), log.head()), (10, 0, 9));
        let log = self::log(5, &[2, 3, 4]);
        assert_eq!((log.oldest(), log.held()), (6, 4));
        assert!(log.batch_after(4).is_none() && log.batch_after(5).is_some());
    }

    #[test]
    fn foreign_batches_stay_dense() {
        let mut log = DeltaLog::new(3, 100);
        let batch = |first: u64| Arc::new(Batch { origin: 3, first, updates: vec![update(first)] });
        log.push(batch(1));
        log.push(batch(2));
        log.push(batch(7));
        assert_eq!((log.oldest(), log.head(), log.held()), (7, 7, 1));
    }
}
