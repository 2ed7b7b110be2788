//! Updates that were acknowledged before the database had committed them (levels `local` and `all`), until it has: what
//! the end of the process would lose.

use std::collections::HashMap;

/// Commits on their way, by token.
#[derive(Debug, Default)]
pub struct Unconfirmed {
    commits: HashMap<u64, Commit>,
    updates: u64,
}

#[derive(Clone, Copy, Debug)]
struct Commit {
    /// The number of its last update in this replica's log.
    position: u64,
    updates: u64,
}

impl Unconfirmed {
    pub fn begin(&mut self, token: u64, position: u64, updates: usize) {
        let updates = u64::try_from(updates).unwrap_or(u64::MAX);
        self.commits.insert(token, Commit { position, updates });
        self.updates += updates;
    }

    /// The database has answered, whatever it said; a refusal is counted elsewhere.
    pub fn end(&mut self, token: u64) {
        if let Some(commit) = self.commits.remove(&token) {
            self.updates -= commit.updates;
        }
    }

    /// Updates whose commit is on its way.
    pub fn updates(&self) -> u64 {
        self.updates
    }

    /// Those of them that no other replica holds either, if the others hold this replica's updates up to `held`.
    pub fn beyond(&self, held: u64) -> u64 {
        self.commits.values().filter(|commit| commit.position > held).map(|commit| commit.updates).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::Unconfirmed;

    #[test]
    fn what_can_be_lost_is_known() {
        let mut unconfirmed = Unconfirmed::default();
        for (token, position, updates) in [(1, 3, 3), (2, 4, 1), (5, 9, 5)] {
            unconfirmed.begin(token, position, updates);
        }
        assert_eq!(unconfirmed.updates(), 9);
        assert_eq!([unconfirmed.beyond(0), unconfirmed.beyond(3), unconfirmed.beyond(9)], [9, 6, 0]);
        unconfirmed.end(2);
        unconfirmed.end(2);
        unconfirmed.end(7);
        assert_eq!((unconfirmed.updates(), unconfirmed.beyond(3)), (8, 5));
    }
}
