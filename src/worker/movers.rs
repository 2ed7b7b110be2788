//! The connections of one front server that are on their way to another one.

use crate::engine::Conn;

use crate::dispatch::relocation::MOVES_MAX;

/// How long a connection may take to become quiet before it stays: a pause takes effect within a turn or two.
pub const QUIET_NS_MAX: u64 = 20_000_000;

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mover {
    pub conn: Conn,
    /// The front server that it goes to.
    pub to: usize,
    pub until_ns: u64,
}

/// Moves that were decided, and those under way. Never more than [`MOVES_MAX`] of both together.
#[derive(Clone, Debug)]
pub struct Movers {
    /// Where connections are wanted, while none to take has been found.
    wanted: Vec<usize>,
    leaving: Vec<Mover>,
}

impl Default for Movers {
    fn default() -> Self {
        Self { wanted: Vec::with_capacity(MOVES_MAX), leaving: Vec::with_capacity(MOVES_MAX) }
    }
}

impl Movers {
    /// Nothing is wanted and nothing under way.
    pub fn is_empty(&self) -> bool {
        self.wanted.is_empty() && self.leaving.is_empty()
    }

    /// Moves under way.
    pub fn leaving(&self) -> usize {
        self.leaving.len()
    }

    /// Forgets what was wanted, for a new look.
    pub fn forget_wanted(&mut self) {
        self.wanted.clear();
    }

    /// A connection is wanted at front server `to`.
    pub fn want(&mut self, to: usize) {
        if self.wanted.len() + self.leaving.len() < MOVES_MAX {
            self.wanted.push(to);
        }
    }

    /// Whether a connection could be used now.
    pub fn wants(&self) -> bool {
        !self.wanted.is_empty()
    }

    /// `conn` leaves for the first place that wants one.
    pub fn begin(&mut self, conn: Conn, now_ns: u64) {
        if let Some(to) = self.wanted.pop() {
            self.leaving.push(Mover { conn, to, until_ns: now_ns + QUIET_NS_MAX });
        }
    }

    /// Forgets that `conn` leaves; false if it did not.
    pub fn take_back(&mut self, conn: Conn) -> bool {
        let Some(at) = self.leaving.iter().position(|mover| mover.conn == conn) else { return false };
        self.leaving.swap_remove(at);
        true
    }

    pub fn get(&self, index: usize) -> Option<Mover> {
        self.leaving.get(index).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::{MOVES_MAX, Mover, Movers, QUIET_NS_MAX};
    use crate::engine::Conn;

    fn conn(slot: u32) -> Conn {
        Conn { slot, generation: 1 }
    }

    #[test]
    fn a_connection_leaves_only_where_one_is_wanted() {
        let mut movers = Movers::default();
        movers.begin(conn(1), 5);
        assert!(movers.is_empty());
        movers.want(3);
        movers.begin(conn(1), 5);
        movers.begin(conn(2), 5);
        assert_eq!(movers.get(0), Some(Mover { conn: conn(1), to: 3, until_ns: 5 + QUIET_NS_MAX }));
        assert_eq!((movers.leaving(), movers.wants()), (1, false));
        assert!(!movers.take_back(conn(2)) && movers.take_back(conn(1)) && movers.is_empty());
    }

    #[test]
    fn no_more_than_the_limit_and_no_memory_after_the_start() {
        let mut movers = Movers::default();
        let capacity = (movers.wanted.capacity(), movers.leaving.capacity());
        for slot in 0..100 {
            movers.want(1);
            movers.begin(conn(slot), 0);
        }
        (0..100).for_each(|_| movers.want(2));
        assert_eq!((movers.leaving(), movers.wanted.len()), (MOVES_MAX, 0));
        assert_eq!((movers.wanted.capacity(), movers.leaving.capacity()), capacity);
    }
}
