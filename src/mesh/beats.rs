//! The board on which each worker publishes its beat: when its turn began, or since when it sleeps.
//!
//! ```text
//!   worker        turn begins ──▶ Beat { at_ns, asleep: false }      a line of its own, one writer
//!                 goes to sleep ─▶ Beat { at_ns, asleep: true }
//!   others        every few milliseconds, while they care: read, and judge
//! ```
//! A worker that runs beats at least once a turn. One that sleeps has promised to wake after [`SLEEP_NS_MAX`].
//!
//! Architecture invariant: one writer per entry; nobody waits for anybody.

use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam_utils::CachePadded;

/// How long a worker sleeps at most, so that a sweep is never far and its beat never old.
pub const SLEEP_NS_MAX: u64 = 100_000_000;

/// The last sign of life of a worker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Beat {
    /// Monotonic nanoseconds; 0 if the worker has not begun.
    pub at_ns: u64,
    pub asleep: bool,
}

impl Beat {
    /// When the next one has to come at the latest: after a turn, or after the longest sleep.
    pub fn due_ns(self, turn_ns_max: u64) -> u64 {
        let sleep_ns = if self.asleep { SLEEP_NS_MAX } else { 0 };
        self.at_ns.saturating_add(turn_ns_max).saturating_add(sleep_ns)
    }
}

/// One beat per worker, each on a cache line of its own.
#[derive(Debug)]
pub struct BeatBoard {
    beats: Box<[CachePadded<AtomicU64>]>,
}

impl BeatBoard {
    /// A board of workers that have not begun.
    pub fn new(workers: usize) -> Self {
        Self { beats: (0..workers).map(|_| CachePadded::new(AtomicU64::new(0))).collect() }
    }

    pub fn workers(&self) -> usize {
        self.beats.len()
    }

    /// Publishes the beat of `worker`; to be called by that worker only.
    ///
    /// # Panics
    /// If there is no such worker.
    #[inline]
    pub fn publish(&self, worker: usize, beat: Beat) {
        // ORDERING: Relaxed, pairs with nothing: a beat carries no other data, and the writer is one.
        self.beats[worker].store(beat.at_ns << 1 | u64::from(beat.asleep), Ordering::Relaxed);
    }

    /// The beat that `worker` published last.
    ///
    /// # Panics
    /// If there is no such worker.
    #[inline]
    pub fn read(&self, worker: usize) -> Beat {
        // ORDERING: Relaxed, pairs with nothing: see `publish`. An old beat only makes for a later judgement.
        let word = self.beats[worker].load(Ordering::Relaxed);
        Beat { at_ns: word >> 1, asleep: word & 1 == 1 }
    }
}

#[cfg(test)]
mod tests {
    use super::{Beat, BeatBoard, SLEEP_NS_MAX};

    #[test]
    fn beats_come_back_as_published() {
        let board = BeatBoard::new(2);
        assert_eq!(board.read(1), Beat::default());
        for beat in [Beat { at_ns: 7, asleep: true }, Beat { at_ns: u64::MAX >> 1, asleep: false }] {
            board.publish(1, beat);
            assert_eq!((board.read(0), board.read(1)), (Beat::default(), beat));
        }
    }

    #[test]
    fn a_sleeper_has_the_longest_sleep_more() {
        assert_eq!(Beat { at_ns: 5, asleep: false }.due_ns(10), 15);
        assert_eq!(Beat { at_ns: 5, asleep: true }.due_ns(10), 15 + SLEEP_NS_MAX);
    }
}
