//! The board on which the lives of the replica servers stand: which incarnation it is, and how it fares.
//!
//! ```text
//!   Running ──stop──▶ Stopping ──done──▶ Stopped ──start──▶ Joining(+1) ──ready──▶ Running
//!      │ │                                                    │   ▲
//!      │ └──────────── crashed (it noticed itself) ───────────┼───┤
//!      └──────▶ Fenced ◀──── hung for too long: others ───────┘   │
//!                 └────── wakes, drops what it held ──────────────┘
//! ```
//! A replica moves its own entry; others may move it to [`Life::Fenced`] only. Both by compare and exchange of the
//! whole standing, so that a replica that was declared dead finds out before it says anything else, and a declaration
//! hits the incarnation that it was meant for or nobody.

use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam_utils::CachePadded;

/// How a replica server fares. That it is hung shows by its beats and stands nowhere.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Life {
    /// Takes jobs.
    #[default]
    Running,
    /// Takes no more jobs; finishes those that it began.
    Stopping,
    /// Holds nothing.
    Stopped,
    /// Comes back: copies what the others hold, and takes no jobs before it has it.
    Joining,
    /// Others have declared it dead. It does not know yet; when it does, it drops what it held and joins again.
    Fenced,
}

impl Life {
    pub const ALL: [Self; 5] = [Self::Running, Self::Stopping, Self::Stopped, Self::Joining, Self::Fenced];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Stopping => "stopping",
            Self::Stopped => "stopped",
            Self::Joining => "joining",
            Self::Fenced => "fenced",
        }
    }

    /// Whether the other replicas count on it: send it changes, and wait for its acknowledgements.
    pub fn is_live(self) -> bool {
        match self {
            Self::Running | Self::Stopping | Self::Joining => true,
            Self::Stopped | Self::Fenced => false,
        }
    }

    fn code(self) -> u64 {
        match self {
            Self::Running => 0,
            Self::Stopping => 1,
            Self::Stopped => 2,
            Self::Joining => 3,
            Self::Fenced => 4,
        }
    }
}

/// One entry of the board.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// Counts the lives of a replica: what it said in an earlier one is not heard any more.
    pub incarnation: u16,
    pub life: Life,
}

impl Standing {
    /// The same incarnation in another state.
    pub fn to(self, life: Life) -> Self {
        Self { life, ..self }
    }

    /// A new life, with nothing of the last one.
    pub fn reborn(self) -> Self {
        Self { incarnation: self.incarnation.wrapping_add(1), life: Life::Joining }
    }

    fn word(self) -> u64 {
        u64::from(self.incarnation) << 8 | self.life.code()
    }

    fn of_word(word: u64) -> Self {
        let incarnation = u16::try_from(word >> 8 & 0xFFFF).unwrap_or(0);
        let life = Life::ALL.into_iter().find(|life| life.code() == word & 0xFF).unwrap_or_default();
        Self { incarnation, life }
    }
}

/// One standing per replica, each on a cache line of its own, and a count of all changes that costs one shared line
/// to look at.
#[derive(Debug)]
pub struct LifeBoard {
    standings: Box<[CachePadded<AtomicU64>]>,
    changes: CachePadded<AtomicU64>,
}

impl LifeBoard {
    /// A board of replicas that all run.
    pub fn new(replicas: usize) -> Self {
        let entry = || CachePadded::new(AtomicU64::new(Standing::default().word()));
        Self { standings: (0..replicas).map(|_| entry()).collect(), changes: CachePadded::new(AtomicU64::new(0)) }
    }

    pub fn replicas(&self) -> usize {
        self.standings.len()
    }

    /// Grows with every change of an entry.
    #[inline]
    pub fn changes(&self) -> u64 {
        // ORDERING: Acquire, pairs with the addition in `advance`: whoever sees the count sees the change.
        self.changes.load(Ordering::Acquire)
    }

    /// # Panics
    /// If there is no such replica.
    #[inline]
    pub fn read(&self, replica: usize) -> Standing {
        // ORDERING: Acquire, pairs with the exchange in `advance`: what a replica did before it changed its standing
        // happened before.
        Standing::of_word(self.standings[replica].load(Ordering::Acquire))
    }

    /// Moves an entry from one standing to another.
    ///
    /// # Errors
    /// Where it stands, if that is not `from`; then nothing has changed.
    ///
    /// # Panics
    /// If there is no such replica.
    pub fn advance(&self, replica: usize, from: Standing, to: Standing) -> Result<(), Standing> {
        let (old, new) = (from.word(), to.word());
        // ORDERING: AcqRel, pairs with the loads in `read` and with other exchanges: of two movers one wins, and sees
        // or is seen by the other.
        match self.standings[replica].compare_exchange(old, new, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => {
                // ORDERING: Release, pairs with the load in `changes`.
                self.changes.fetch_add(1, Ordering::Release);
                Ok(())
            }
            Err(word) => Err(Standing::of_word(word)),
        }
    }

    /// Declares an incarnation dead; true if it was live and this call did it.
    ///
    /// # Panics
    /// If there is no such replica.
    pub fn fence(&self, replica: usize, seen: Standing) -> bool {
        seen.life.is_live() && self.advance(replica, seen, seen.to(Life::Fenced)).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::{Life, LifeBoard, Standing};

    #[test]
    fn standings_come_back_as_they_were() {
        let board = LifeBoard::new(2);
        assert_eq!(board.read(1), Standing { incarnation: 0, life: Life::Running });
        let mut at = board.read(1);
        for life in Life::ALL {
            for incarnation in [0, 1, u16::MAX] {
                let next = Standing { incarnation, life };
                assert_eq!(board.advance(1, at, next), Ok(()));
                at = next;
                assert_eq!(board.read(1), at);
            }
        }
        assert_eq!(board.read(0), Standing::default());
        assert_eq!(board.changes(), 15);
        assert_eq!(Standing { incarnation: u16::MAX, life: Life::Fenced }.reborn().incarnation, 0);
    }

    #[test]
    fn a_declaration_hits_the_life_that_it_was_meant_for_or_nobody() {
        let board = LifeBoard::new(1);
        let seen = board.read(0);
        let reborn = seen.reborn();
        board.advance(0, seen, reborn).unwrap();
        assert!(!board.fence(0, seen), "that life is over");
        assert_eq!(board.read(0), reborn);
        assert!(board.fence(0, reborn));
        assert!(!board.fence(0, board.read(0)), "it is fenced already");
        // The replica finds out: its own next step fails and tells why.
        assert_eq!(board.advance(0, reborn, reborn.to(Life::Running)), Err(reborn.to(Life::Fenced)));
    }

    #[test]
    fn of_many_that_declare_one_does() {
        let board = LifeBoard::new(1);
        let seen = board.read(0);
        let declared: usize = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(|| usize::from(board.fence(0, seen)))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!((declared, board.changes()), (1, 1));
    }
}
