//! The revision order of rows: most edits win, then the latest, then the server number; deletions included.
//!
//! The rule is Domino's, written as one lexicographic maximum. Max over a total order is commutative, associative and
//! idempotent, so replicas converge whatever the order, duplication or batching of updates.

/// Servers that may write: replicas count from 0, the application server comes after the last replica.
pub type ServerId = u8;

/// Origins in a version vector; with 4-byte counters the vector fills one cache line.
pub const SERVERS_MAX: usize = 16;

/// One revision of one row. The derived order is the rule: sequence, then hybrid time, then server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Stamp {
    /// Edits so far; a writer sets it to one more than the revision it saw.
    pub sequence: u32,
    /// Hybrid logical time in milliseconds << 16 | counter; never goes backwards on a server.
    pub time: u64,
    /// The origin; makes ties deterministic.
    pub server: ServerId,
}

/// Edits of one row that each origin has made, as known to a revision: detects conflicts exactly.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct VersionVector(pub [u32; SERVERS_MAX]);

impl VersionVector {
    /// Whether every edit known to `other` is known here.
    pub fn covers(&self, other: &Self) -> bool {
        self.0.iter().zip(&other.0).all(|(mine, theirs)| mine >= theirs)
    }

    /// The same with one more edit of `server`.
    #[must_use]
    pub fn edited_by(mut self, server: ServerId) -> Self {
        self.0[usize::from(server)] += 1;
        self
    }

    /// The least vector that covers both.
    #[must_use]
    pub fn merged(mut self, other: &Self) -> Self {
        for (mine, theirs) in self.0.iter_mut().zip(&other.0) {
            *mine = (*mine).max(*theirs);
        }
        self
    }
}

/// A hybrid logical clock: follows the wall clock, never goes backwards, and passes every time it has seen
/// (Kulkarni et al., "Logical Physical Clocks", 2014).
#[derive(Clone, Copy, Debug, Default)]
pub struct HybridClock {
    last: u64,
}

impl HybridClock {
    /// A time later than all that were given out or seen.
    pub fn tick(&mut self, unix_ms: u64) -> u64 {
        self.last = (self.last + 1).max(unix_ms << 16);
        self.last
    }

    /// Takes note of a time from another server.
    pub fn see(&mut self, time: u64) {
        self.last = self.last.max(time);
    }
}
