//! What a worker says about trouble that it only counts: connections that could not be taken, lines that were dropped.
//! Once a second at most, and only if there is more of it than a second ago.

use crate::engine::Statistics;

/// Between two complaints.
const PAUSE_NS: u64 = 1_000_000_000;

/// What is complained about, counted since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Troubles {
    /// Accepts that failed for want of descriptors or memory.
    pub accept_failures: u64,
    /// Connections closed at once because every slot was taken.
    pub refused: u64,
    /// Lines that the access log's queue had no room for.
    pub log_dropped: u64,
}

/// What was said last.
#[derive(Debug, Default)]
pub struct Complaints {
    told: Troubles,
    next_ns: u64,
}

impl Complaints {
    /// Looks whether there is more trouble now, and logs it.
    pub fn look(&mut self, now_ns: u64, front: u16, statistics: &Statistics, log_dropped: u64) {
        let Statistics { accept_failures, refused, .. } = *statistics;
        let Some(more) = self.more(now_ns, Troubles { accept_failures, refused, log_dropped }) else { return };
        if more.accept_failures > 0 {
            log::error!(
                front, failures = more.accept_failures, cure = "raise `ulimit -n`, or LimitNOFILE= of the unit";
                "connections could not be accepted for want of descriptors or memory"
            );
        }
        if more.refused > 0 {
            log::warn!(
                front, connections = more.refused, cure = "raise engine.connections_max";
                "connections were closed at once: every slot is taken"
            );
        }
        if more.log_dropped > 0 {
            log::warn!(front, lines = more.log_dropped; "access log lines were dropped: the disk is behind");
        }
    }

    fn more(&mut self, now_ns: u64, troubles: Troubles) -> Option<Troubles> {
        if now_ns < self.next_ns || troubles == self.told {
            return None;
        }
        let before = std::mem::replace(&mut self.told, troubles);
        self.next_ns = now_ns.saturating_add(PAUSE_NS);
        Some(Troubles {
            accept_failures: troubles.accept_failures - before.accept_failures,
            refused: troubles.refused - before.refused,
            log_dropped: troubles.log_dropped - before.log_dropped,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{Complaints, PAUSE_NS, Troubles};

    #[test]
    fn more_trouble_is_told_once_a_second() {
        let mut complaints = Complaints::default();
        let troubles = |refused| Troubles { refused, ..Troubles::default() };
        assert_eq!(complaints.more(1, troubles(0)), None, "there is none");
        assert_eq!(complaints.more(1, troubles(3)), Some(troubles(3)));
        assert_eq!(complaints.more(PAUSE_NS, troubles(9)), None, "a moment ago");
        assert_eq!(complaints.more(PAUSE_NS + 1, troubles(9)), Some(troubles(6)), "what came since");
        assert_eq!(complaints.more(9 * PAUSE_NS, troubles(9)), None, "nothing new");
    }
}
