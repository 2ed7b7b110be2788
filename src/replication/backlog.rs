//! How much of what the application server committed is still on its way into the replicas.
//!
//! Whoever commits in bulk looks here before the next batch: replicas apply a little in each turn, so that browsers
//! get theirs, and what they have not applied yet must not pile up in their memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Updates published and not applied, over all replicas.
#[derive(Clone, Debug, Default)]
pub struct Backlog(Arc<AtomicUsize>);

/// Some of a [`Backlog`]: it travels with a batch to one replica, and is settled when it is dropped, be it applied or
/// lost with its replica.
#[derive(Debug, Default)]
pub struct Unapplied {
    backlog: Backlog,
    updates: usize,
}

impl Backlog {
    /// Notes updates for one replica.
    pub fn add(&self, updates: usize) -> Unapplied {
        // ORDERING: Relaxed, pairs with the subtraction in `Unapplied::drop`: the number carries no data.
        self.0.fetch_add(updates, Ordering::Relaxed);
        Unapplied { backlog: self.clone(), updates }
    }

    /// Updates that are on their way now.
    pub fn updates(&self) -> usize {
        // ORDERING: Relaxed, as above: a look that is a moment old is as good.
        self.0.load(Ordering::Relaxed)
    }
}

impl Drop for Unapplied {
    fn drop(&mut self) {
        // ORDERING: Relaxed, pairs with the addition in `Backlog::add`.
        self.backlog.0.fetch_sub(self.updates, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::Backlog;

    #[test]
    fn what_is_dropped_is_settled() {
        let backlog = Backlog::default();
        let (one, other) = (backlog.add(3), backlog.add(4));
        assert_eq!(backlog.updates(), 7);
        drop(one);
        assert_eq!(backlog.updates(), 4);
        drop(other);
        assert_eq!(backlog.updates(), 0);
    }
}
