//! The books of agent work: whatever was accepted is waiting for its turn, running, or has ended in one way.
//!
//! ```text
//!   accepted = queued + running + waiting + done + failed + left + repeated
//! ```
//! Ends are counted as they happen; `queued` and `running` at the desk are looked up in what it holds. So work that is
//! lost between two places shows as a difference, at any instant: every change of place is made under the one lock.

use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::{Value as Json, json};

use super::work::End;

/// Where accepted work is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Entries {
    /// Pieces of work that the unit took, since the start.
    pub accepted: u64,
    /// Of these, in the inbox.
    pub in_inbox: u64,
    /// At the desk, without a place yet.
    pub at_desk: u64,
    /// Running, those in a pause between two attempts left out.
    pub running: u64,
    /// In a pause between two attempts.
    pub waiting: u64,
    pub done: u64,
    pub failed: u64,
    /// Not finished: the row says so, and the work is ordered again later.
    pub left: u64,
    /// Ordered once more while the same work waited for its turn.
    pub repeated: u64,
}

impl Entries {
    /// What was accepted and is nowhere; 0, or the accounting is wrong.
    pub fn books(&self) -> i64 {
        let ended = self.done + self.failed + self.left + self.repeated;
        let there = self.in_inbox + self.at_desk + self.running + self.waiting;
        let known = i64::try_from(ended + there).unwrap_or(i64::MAX);
        i64::try_from(self.accepted).unwrap_or(i64::MAX) - known
    }

    pub(super) fn end(&mut self, end: &End) {
        match end {
            End::Done => self.done += 1,
            End::Failed => self.failed += 1,
            End::Left => self.left += 1,
        }
    }

    /// As the admin interface shows them.
    pub fn to_json(&self) -> Json {
        json!({
            "accepted": self.accepted,
            "queued": self.in_inbox + self.at_desk,
            "running": self.running,
            "waiting": self.waiting,
            "done": self.done,
            "failed": self.failed,
            "left": self.left,
            "repeated": self.repeated,
            "books": self.books(),
        })
    }
}

/// The entries, to be changed by the storage thread and by those who order.
#[derive(Debug, Default)]
pub struct Books(Mutex<Entries>);

impl Books {
    pub fn entries(&self) -> Entries {
        *self.open()
    }

    /// To change several entries as one.
    pub(super) fn open(&self) -> MutexGuard<'_, Entries> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::Entries;

    #[test]
    fn lost_work_shows() {
        let entries = Entries {
            accepted: 9,
            in_inbox: 1,
            at_desk: 1,
            running: 1,
            waiting: 1,
            done: 2,
            failed: 1,
            left: 1,
            repeated: 1,
        };
        assert_eq!(entries.books(), 0);
        assert_eq!(Entries { running: 0, ..entries }.books(), 1);
        assert_eq!(Entries { done: 3, ..entries }.books(), -1);
        assert_eq!(entries.to_json()["queued"], 2);
    }
}
