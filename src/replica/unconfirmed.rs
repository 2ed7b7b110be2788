//! Updates that were acknowledged before the database had committed them (levels `local` and `all`), until it has: what
//! the end of the process would lose. A commit that the database refuses is kept and ordered again, because its answer
//! is out: a disk that was full for a while shall not cost rows that every replica shows.

use std::collections::{HashMap, VecDeque};

use crate::tables::Update;

/// Time after which a refused commit is ordered again.
const AGAIN_NS: u64 = 1_000_000_000;
/// Updates that are kept at most; those beyond are counted as dropped.
const UPDATES_MAX: u64 = 65_536;

/// Commits on their way by token, and those that wait to be ordered again.
#[derive(Debug, Default)]
pub struct Unconfirmed {
    commits: HashMap<u64, Commit>,
    refused: VecDeque<(u64, Commit)>,
    updates: u64,
}

/// Updates of one commit.
#[derive(Debug)]
pub struct Commit {
    /// The number of the last update in this replica's log.
    pub position: u64,
    pub updates: Vec<Update>,
}

impl Commit {
    fn count(&self) -> u64 {
        u64::try_from(self.updates.len()).unwrap_or(u64::MAX)
    }
}

impl Unconfirmed {
    pub fn begin(&mut self, token: u64, commit: Commit) {
        self.updates += commit.count();
        self.commits.insert(token, commit);
    }

    /// The database has committed it.
    pub fn end(&mut self, token: u64) {
        if let Some(commit) = self.commits.remove(&token) {
            self.updates -= commit.count();
        }
    }

    /// The database has refused it, or nobody knows: it is to be ordered again. Merged commits may be repeated. Gives
    /// the number of updates that are given up, because too many are kept.
    pub fn refuse(&mut self, token: u64, now_ns: u64) -> u64 {
        let Some(commit) = self.commits.remove(&token) else { return 0 };
        if self.updates > UPDATES_MAX {
            self.updates -= commit.count();
            return commit.count();
        }
        self.refused.push_back((now_ns.saturating_add(AGAIN_NS), commit));
        0
    }

    /// The next one to order again, under a token of its own.
    pub fn again(&mut self, now_ns: u64) -> Option<Commit> {
        if self.refused.front()?.0 > now_ns {
            return None;
        }
        let (_, commit) = self.refused.pop_front()?;
        self.updates -= commit.count();
        Some(commit)
    }

    /// When [`Self::again`] has something, in monotonic nanoseconds.
    pub fn next_ns(&self) -> Option<u64> {
        self.refused.front().map(|(at_ns, _)| *at_ns)
    }

    /// Updates whose commit is on its way or is to be ordered again.
    pub fn updates(&self) -> u64 {
        self.updates
    }

    /// Those of them that no other replica holds either, if the others hold this replica's updates up to `held`.
    pub fn beyond(&self, held: u64) -> u64 {
        let commits = self.commits.values().chain(self.refused.iter().map(|(_, commit)| commit));
        commits.filter(|commit| commit.position > held).map(Commit::count).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::{AGAIN_NS, Commit, UPDATES_MAX, Unconfirmed};
    use crate::tables::{Stamp, TableId, Update, VersionVector};

    fn commit(position: u64, updates: usize) -> Commit {
        let update = Update {
            table: TableId(0),
            key: "k".into(),
            stamp: Stamp::default(),
            versions: VersionVector::default(),
            base: Stamp::default(),
            record: None,
        };
        Commit { position, updates: vec![update; updates] }
    }

    #[test]
    fn what_can_be_lost_is_known() {
        let mut unconfirmed = Unconfirmed::default();
        for (token, position, updates) in [(1, 3, 3), (2, 4, 1), (5, 9, 5)] {
            unconfirmed.begin(token, commit(position, updates));
        }
        assert_eq!(unconfirmed.updates(), 9);
        assert_eq!([unconfirmed.beyond(0), unconfirmed.beyond(3), unconfirmed.beyond(9)], [9, 6, 0]);
        unconfirmed.end(2);
        unconfirmed.end(2);
        unconfirmed.end(7);
        assert_eq!((unconfirmed.updates(), unconfirmed.beyond(3)), (8, 5));
    }

    #[test]
    fn what_was_refused_is_kept_and_ordered_again() {
        let mut unconfirmed = Unconfirmed::default();
        unconfirmed.begin(1, commit(3, 3));
        assert_eq!(unconfirmed.refuse(1, 50), 0);
        assert_eq!((unconfirmed.updates(), unconfirmed.beyond(2), unconfirmed.next_ns()), (3, 3, Some(50 + AGAIN_NS)));
        assert!(unconfirmed.again(49 + AGAIN_NS).is_none());
        let again = unconfirmed.again(50 + AGAIN_NS).expect("due");
        assert_eq!((again.position, again.updates.len(), unconfirmed.updates()), (3, 3, 0));
        unconfirmed.begin(2, again);
        unconfirmed.end(2);
        assert_eq!((unconfirmed.updates(), unconfirmed.next_ns()), (0, None));
        // Beyond the bound it is given up and counted.
        let many = usize::try_from(UPDATES_MAX).expect("small");
        unconfirmed.begin(3, commit(9, many));
        unconfirmed.begin(4, commit(10, 1));
        assert_eq!((unconfirmed.refuse(3, 0), unconfirmed.updates()), (UPDATES_MAX, 1));
        assert_eq!((unconfirmed.refuse(4, 0), unconfirmed.updates()), (0, 1));
    }
}
