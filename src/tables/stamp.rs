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

/// What a revision knew: for each origin the sequence of its last edit of the row, itself included. An origin's sequences
/// of a row only rise, also when the row begins anew after its stub was forgotten, so the vectors detect conflicts exactly.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct VersionVector(pub [u32; SERVERS_MAX]);

impl VersionVector {
    /// Whether every edit known to `other` is known here.
    pub fn covers(&self, other: &Self) -> bool {
        self.0.iter().zip(&other.0).all(|(mine, theirs)| mine >= theirs)
    }

    /// The same with an edit of `server` that has this sequence.
    #[must_use]
    pub fn edited_by(mut self, server: ServerId, sequence: u32) -> Self {
        let last = &mut self.0[usize::from(server)];
        *last = sequence.max(last.saturating_add(1));
        self
    }

    /// Whether a revision that has this vector and a greater stamp leaves nothing of the other to be kept.
    pub fn settles(&self, stamp: Stamp, other: Stamp, other_versions: &Self) -> bool {
        stamp > other && self.covers(other_versions)
    }

    /// The least vector that covers both.
    #[must_use]
    pub fn merged(mut self, other: &Self) -> Self {
        for (mine, theirs) in self.0.iter_mut().zip(&other.0) {
            *mine = (*mine).max(*theirs);
        }
        self
    }

    /// Appends the vector as the database stores it: for each server that has edits one byte with its number, then
    /// the edits in LEB128 (7 bits a byte, lowest first). 2 bytes for the usual row.
    pub fn encode(&self, out: &mut Vec<u8>) {
        for (server, edits) in (0u8..).zip(self.0).filter(|(_, edits)| *edits > 0) {
            out.push(server);
            let mut left = edits;
            while left >= 0x80 {
                out.push(0x80 | left.to_le_bytes()[0] & 0x7f);
                left >>= 7;
            }
            out.push(left.to_le_bytes()[0]);
        }
    }

    /// Reads what [`Self::encode`] wrote; `None` if it did not.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let mut versions = Self::default();
        let mut bytes = bytes.iter().copied();
        let mut next_server = 0;
        while let Some(server) = bytes.next() {
            let slot = versions.0.get_mut(usize::from(server)).filter(|_| server >= next_server)?;
            next_server = server + 1;
            let mut edits = 0u64;
            for shift in (0..35).step_by(7) {
                let byte = bytes.next()?;
                edits |= u64::from(byte & 0x7f) << shift;
                if byte < 0x80 {
                    break;
                }
                if shift == 28 {
                    return None;
                }
            }
            *slot = u32::try_from(edits).ok().filter(|edits| *edits > 0)?;
        }
        Some(versions)
    }
}

/// A hybrid logical clock: follows the wall clock, never goes backwards, and passes every time it has seen
/// (Kulkarni et al., "Logical Physical Clocks", 2014).
#[derive(Clone, Copy, Debug, Default)]
pub struct HybridClock {
    last: u64,
    /// The remainder that its times have, among appliances that share a database.
    slot: Option<u16>,
}

/// Appliances that share a database have clocks whose times differ modulo this: two of them number their servers alike,
/// and stamps must not meet. It leaves 64 times in a millisecond before a clock runs ahead of the wall.
pub const SLOTS: u16 = 1024;

impl HybridClock {
    /// The clock of one of several appliances; `slot` is its own and below [`SLOTS`].
    pub fn of_slot(slot: u16) -> Self {
        Self { last: 0, slot: Some(slot % SLOTS) }
    }

    /// A time later than all that were given out or seen.
    pub fn tick(&mut self, unix_ms: u64) -> u64 {
        let next = (self.last + 1).max(unix_ms << 16);
        self.last = match self.slot {
            None => next,
            Some(slot) => {
                let slots = u64::from(SLOTS);
                let before = next - next % slots + u64::from(slot);
                if before < next { before + slots } else { before }
            }
        };
        self.last
    }

    /// Takes note of a time from another server.
    pub fn see(&mut self, time: u64) {
        self.last = self.last.max(time);
    }
}

#[cfg(test)]
mod tests {
    use super::{HybridClock, SERVERS_MAX, SLOTS, VersionVector};
    use proptest::prelude::any;
    use proptest::{prop_assert, prop_assert_eq, proptest};

    proptest! {
        #[test]
        fn vectors_come_back_from_bytes(edits in any::<[u32; SERVERS_MAX]>(), shift in any::<[u8; SERVERS_MAX]>()) {
            let mut versions = VersionVector(edits);
            for (edits, shift) in versions.0.iter_mut().zip(shift) {
                *edits = edits.checked_shr(u32::from(shift % 33)).unwrap_or(0);
            }
            let mut bytes = Vec::new();
            versions.encode(&mut bytes);
            prop_assert_eq!(VersionVector::decode(&bytes), Some(versions));
        }

        #[test]
        fn other_bytes_are_refused_or_mean_one_vector(bytes in any::<Vec<u8>>()) {
            if let Some(versions) = VersionVector::decode(&bytes) {
                let mut again = Vec::new();
                versions.encode(&mut again);
                prop_assert!(again.len() <= bytes.len());
                prop_assert_eq!(VersionVector::decode(&again), Some(versions));
            }
        }
    }

    #[test]
    fn wrong_bytes_are_refused() {
        for wrong in [
            &[0][..],
            &[16, 1],
            &[0, 0],
            &[1, 1, 0, 1],
            &[0, 1, 0, 1],
            &[0, 0xff, 0xff, 0xff, 0xff, 0x1f],
            &[0, 0x80, 0x80, 0x80, 0x80, 0x80, 1],
        ] {
            assert_eq!(VersionVector::decode(wrong), None, "{wrong:?}");
        }
        assert_eq!(VersionVector::decode(&[]), Some(VersionVector::default()));
    }

    #[test]
    fn clocks_of_other_slots_never_meet() {
        let (mut one, mut other) = (HybridClock::of_slot(3), HybridClock::of_slot(7));
        let mut last = 0;
        for unix_ms in [1_000, 1_000, 900, 1_001, 1_001, 1_001] {
            let (mine, theirs) = (one.tick(unix_ms), other.tick(unix_ms));
            assert_eq!((mine % u64::from(SLOTS), theirs % u64::from(SLOTS)), (3, 7));
            assert!(mine > last && mine >= unix_ms << 16, "{mine} after {last}");
            one.see(theirs);
            last = mine;
        }
    }

    #[test]
    fn the_clock_never_goes_back() {
        let mut clock = HybridClock::default();
        let first = clock.tick(1_000);
        assert_eq!(first, 1_000 << 16);
        assert_eq!(clock.tick(900), first + 1);
        clock.see(2_000 << 16);
        assert_eq!(clock.tick(1_500), (2_000 << 16) + 1);
        assert_eq!(clock.tick(3_000), 3_000 << 16);
    }
}
