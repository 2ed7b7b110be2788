//! How the database does, and the books of its writes: written by the server's thread, read by the admin thread.
//!
//! ```text
//!             a commit or upkeep succeeds
//!        ┌─────────────────────────────────────┐
//!        ▼                                     │
//!       up ◀──────▶ slow      full  locked  down
//!        │  what waits longest waited     ▲
//!        │  SLOW_AFTER                    │ the store refused, and says why
//!        └────────────────────────────────┘
//! ```

use std::sync::{Mutex, MutexGuard, PoisonError};

/// A request that has waited for so long makes a database slow.
pub const SLOW_AFTER_NS: u64 = 1_000_000_000;

/// What the database can do just now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum State {
    /// Takes reads and writes.
    #[default]
    Up,
    /// The same, and what waits has waited for more than [`SLOW_AFTER_NS`].
    Slow,
    /// No room: disk, quota, or file size limit. Writes are refused and tried again at intervals.
    Full,
    /// Another process holds the file.
    Locked,
    /// It refuses for any other reason.
    Down,
}

impl State {
    pub const ALL: [Self; 5] = [Self::Up, Self::Slow, Self::Full, Self::Locked, Self::Down];

    pub fn name(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Slow => "slow",
            Self::Full => "full",
            Self::Locked => "locked",
            Self::Down => "down",
        }
    }
}

/// Write orders (commits, mutations, deploys) since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Writes {
    /// Taken from the queue.
    pub taken: u64,
    pub committed: u64,
    /// Refused because of a newer row, or a row that is missing.
    pub conflicted: u64,
    /// Answered that they are not written: wrong, too late, or the store refused.
    pub failed: u64,
    /// Answered that nobody knows.
    pub unknown: u64,
    /// In the server's hands. Counted by what holds them, so that an order that is lost shows.
    pub waiting: u64,
}

impl Writes {
    /// Taken, less answered, less in hand: 0, or a write got lost.
    pub fn books(&self) -> i64 {
        let signed = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        signed(self.taken)
            - signed(self.committed)
            - signed(self.conflicted)
            - signed(self.failed)
            - signed(self.unknown)
            - signed(self.waiting)
    }
}

/// How a write order ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Committed,
    Conflicted,
    Failed,
    Unknown,
}

/// One look at the board.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Health {
    pub state: State,
    /// Unix milliseconds; 0: since the start.
    pub since_ms: u64,
    /// Nanoseconds that the request which is served now has waited, with its service; 0 if none is.
    pub oldest_waiting_ns: u64,
    /// The latest failure and when it came, in Unix milliseconds.
    pub last_error: Option<(String, u64)>,
    /// Writes refused without asking the store, because it had refused a moment before.
    pub refused_early: u64,
    /// Bytes of a half-written transaction that were found at the end of the store's log and dropped.
    pub torn_bytes: u64,
    pub writes: Writes,
}

#[derive(Debug, Default)]
struct Noted {
    health: Health,
    /// When the oldest request of the group that is served came, in monotonic nanoseconds; 0: the server is idle.
    oldest_ns: u64,
}

/// Shared by the server's thread and those that report. Never held while the store works.
#[derive(Debug, Default)]
pub struct Board(Mutex<Noted>);

impl Board {
    fn noted(&self) -> MutexGuard<'_, Noted> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The state as of now; `now_ns` is the monotonic clock's.
    pub fn read(&self, now_ns: u64) -> Health {
        let noted = self.noted();
        let mut health = noted.health.clone();
        if noted.oldest_ns > 0 {
            health.oldest_waiting_ns = now_ns.saturating_sub(noted.oldest_ns);
            if health.state == State::Up && health.oldest_waiting_ns > SLOW_AFTER_NS {
                health.state = State::Slow;
            }
        }
        health
    }

    pub(super) fn serving(&self, oldest_ns: u64) {
        self.noted().oldest_ns = oldest_ns;
    }

    pub(super) fn idle(&self) {
        self.noted().oldest_ns = 0;
    }

    pub(super) fn state(&self, state: State, now_ms: u64) {
        let mut noted = self.noted();
        if noted.health.state != state {
            noted.health.state = state;
            noted.health.since_ms = now_ms;
        }
    }

    pub(super) fn error(&self, sentence: &str, now_ms: u64) {
        self.noted().health.last_error = Some((sentence.to_owned(), now_ms));
    }

    pub(super) fn torn(&self, bytes: u64) {
        self.noted().health.torn_bytes = bytes;
    }

    pub(super) fn refused_early(&self) {
        self.noted().health.refused_early += 1;
    }

    pub(super) fn take(&self) {
        let writes = &mut self.noted().health.writes;
        writes.taken += 1;
        writes.waiting += 1;
    }

    pub(super) fn settle(&self, end: End) {
        let writes = &mut self.noted().health.writes;
        writes.waiting -= 1;
        *match end {
            End::Committed => &mut writes.committed,
            End::Conflicted => &mut writes.conflicted,
            End::Failed => &mut writes.failed,
            End::Unknown => &mut writes.unknown,
        } += 1;
    }

    /// An order was dropped without an answer: from now on the books do not balance.
    pub(super) fn lose(&self) {
        self.noted().health.writes.waiting -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::{Board, End, SLOW_AFTER_NS, State};

    #[test]
    fn what_waits_long_makes_a_database_slow() {
        let board = Board::default();
        board.serving(1_000);
        assert_eq!(board.read(1_000 + SLOW_AFTER_NS).state, State::Up);
        let health = board.read(1_001 + SLOW_AFTER_NS);
        assert_eq!((health.state, health.oldest_waiting_ns), (State::Slow, SLOW_AFTER_NS + 1));
        board.state(State::Full, 7);
        assert_eq!((board.read(u64::MAX).state, board.read(0).since_ms), (State::Full, 7), "the worse state is told");
        board.state(State::Full, 8);
        assert_eq!(board.read(0).since_ms, 7, "since it began");
        board.idle();
        board.state(State::Up, 9);
        assert_eq!((board.read(u64::MAX).state, board.read(u64::MAX).oldest_waiting_ns), (State::Up, 0));
    }

    #[test]
    fn an_order_that_is_lost_shows_in_the_books() {
        let board = Board::default();
        for end in [End::Committed, End::Conflicted, End::Failed, End::Unknown] {
            board.take();
            assert_eq!(board.read(0).writes.books(), 0);
            board.settle(end);
            assert_eq!(board.read(0).writes.books(), 0);
        }
        board.take();
        board.lose();
        assert_eq!(board.read(0).writes.books(), 1);
    }
}
