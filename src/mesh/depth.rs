//! The board on which each worker publishes how much work it holds.
//!
//! Architecture invariant: one writer per entry. Readers get a number that was true a moment ago; a dispatcher takes
//! one snapshot per turn and counts its own dispatches on top, so that it does not follow the herd.

use std::sync::atomic::{AtomicU32, Ordering};

use crossbeam_utils::CachePadded;

/// One depth per worker, each on a cache line of its own.
#[derive(Debug)]
pub struct DepthBoard {
    depths: Box<[CachePadded<AtomicU32>]>,
}

impl DepthBoard {
    /// A board of idle workers.
    pub fn new(workers: usize) -> Self {
        Self { depths: (0..workers).map(|_| CachePadded::new(AtomicU32::new(0))).collect() }
    }

    pub fn workers(&self) -> usize {
        self.depths.len()
    }

    /// Publishes the depth of `worker`; to be called by that worker only. Costs no line transfer if nothing changed.
    ///
    /// # Panics
    /// If there is no such worker.
    #[inline]
    pub fn publish(&self, worker: usize, depth: u32) {
        let entry = &self.depths[worker];
        // ORDERING: Relaxed, pairs with nothing: a depth is a hint that carries no other data, and the writer is one.
        if entry.load(Ordering::Relaxed) != depth {
            entry.store(depth, Ordering::Relaxed);
        }
    }

    /// The depth that `worker` published last.
    ///
    /// # Panics
    /// If there is no such worker.
    #[inline]
    pub fn read(&self, worker: usize) -> u32 {
        // ORDERING: Relaxed, pairs with nothing: see `publish`.
        self.depths[worker].load(Ordering::Relaxed)
    }

    /// Copies the depths of all workers, or of the first ones if `into` is shorter.
    pub fn snapshot(&self, into: &mut [u32]) {
        for (copy, entry) in into.iter_mut().zip(&self.depths) {
            // ORDERING: Relaxed, pairs with nothing: see `publish`. The entries need not be of one moment.
            *copy = entry.load(Ordering::Relaxed);
        }
    }
}
