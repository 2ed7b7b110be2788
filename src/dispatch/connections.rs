//! The first network dispatcher: places each new connection on the front server with the least work.
//!
//! A connection stays with the front server that accepted it unless another has less work by more than a threshold,
//! because handing a socket over costs both of them, or its core is busy while another's is not. Every front server
//! has a dispatcher of its own. What is placed already and idle moves when load shifts: [`super::relocation`].

use super::decisions::Decisions;

/// The work of one front server, as published by it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Open connections.
    pub connections: u32,
    /// Exchanges in progress on them.
    pub exchanges: u32,
    /// How much of the last measuring time its core was busy, in thousandths.
    pub busy_permille: u32,
    /// Takes no new connections.
    pub draining: bool,
}

impl Load {
    /// An open connection counts one, a busy one two: idle ones may wake, busy ones need the core now.
    pub fn work(self) -> u32 {
        self.connections.saturating_add(self.exchanges)
    }

    /// Whether this front server has hardly any time left while `other` has plenty: what one heavy connection does.
    pub fn is_overloaded_beside(self, other: Self) -> bool {
        self.busy_permille >= BUSY_PERMILLE
            && self.busy_permille - other.busy_permille.min(self.busy_permille) >= BUSY_GAP_PERMILLE
    }
}

/// From here on a core counts as busy: queues grow fast beyond it (at 80 % a random arrival finds four others).
pub const BUSY_PERMILLE: u32 = 800;
/// How much less busy another core must be: more than the scatter of a measuring time, less than an idle core.
pub const BUSY_GAP_PERMILLE: u32 = 250;

/// Why a connection was placed where it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// No other front server has less work.
    LeastWork,
    /// Another one has less work, but not by more than the threshold.
    WithinThreshold,
    /// Handed to the one with the least work.
    Imbalance,
    /// Handed off because the accepting front server's core is busy and another's is not.
    OwnBusy,
    /// Handed off because the accepting front server drains.
    OwnDrains,
    /// Kept because every front server drains.
    AllDrain,
}

impl Reason {
    /// For the claim chart.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::LeastWork => "least work",
            Self::WithinThreshold => "within threshold",
            Self::Imbalance => "imbalance",
            Self::OwnBusy => "own busy",
            Self::OwnDrains => "own drains",
            Self::AllDrain => "all drain",
        }
    }
}

/// One placement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    pub from: usize,
    pub to: usize,
    pub reason: Reason,
    /// Work of `from` and of `to` before the connection was added.
    pub work_from: u32,
    pub work_to: u32,
}

/// Counts since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Counters {
    pub kept: u64,
    pub handed_off: u64,
}

/// The first dispatcher of one front server.
#[derive(Clone, Debug, Default)]
pub struct ConnectionDispatcher {
    /// Where the search begins, so that ties rotate.
    start: usize,
    counters: Counters,
    decisions: Decisions<Decision>,
}

impl ConnectionDispatcher {
    pub fn new() -> Self {
        Self::default()
    }

    /// Chooses the front server for a connection that `own` accepted: another one only if it has less work by more
    /// than `threshold`. Adds the connection to the copy in `loads`, so that one snapshot serves all accepts of a
    /// turn without sending them all to the same place.
    ///
    /// # Panics
    /// If `own` is not in `loads`.
    pub fn place(&mut self, own: usize, loads: &mut [Load], threshold: u32) -> usize {
        let work_from = loads[own].work();
        let (to, reason) = match self.least(loads) {
            None => (own, Reason::AllDrain),
            Some(least) if loads[own].draining => (least, Reason::OwnDrains),
            Some(least) if loads[own].is_overloaded_beside(loads[least]) => (least, Reason::OwnBusy),
            Some(least) => match work_from - loads[least].work().min(work_from) {
                0 => (own, Reason::LeastWork),
                gap if gap <= threshold => (own, Reason::WithinThreshold),
                _ => (least, Reason::Imbalance),
            },
        };
        if to == own {
            self.counters.kept += 1;
        } else {
            self.counters.handed_off += 1;
            self.start = (to + 1) % loads.len();
        }
        let work_to = loads[to].work();
        self.decisions.record(Decision { from: own, to, reason, work_from, work_to });
        loads[to].connections = loads[to].connections.saturating_add(1);
        to
    }

    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// The last placements, for the claim chart.
    pub fn decisions(&self) -> &Decisions<Decision> {
        &self.decisions
    }

    /// The front server with the least work that neither drains nor has much less time left than another; of equal
    /// ones, the next in turn.
    fn least(&self, loads: &[Load]) -> Option<usize> {
        let idlest = loads.iter().filter(|load| !load.draining).min_by_key(|load| load.busy_permille).copied()?;
        (0..loads.len())
            .map(|offset| (self.start + offset) % loads.len())
            .filter(|&front| !loads[front].draining && !loads[front].is_overloaded_beside(idlest))
            .min_by_key(|&front| loads[front].work())
    }
}

#[cfg(test)]
mod tests {
    use super::{ConnectionDispatcher, Load, Reason};

    fn loads(connections: &[u32]) -> Vec<Load> {
        connections.iter().map(|&connections| Load { connections, ..Load::default() }).collect()
    }

    fn place(own: usize, loads: &mut [Load], threshold: u32) -> (usize, Reason) {
        let mut dispatcher = ConnectionDispatcher::new();
        let to = dispatcher.place(own, loads, threshold);
        (to, dispatcher.decisions().iter().last().unwrap().reason)
    }

    #[test]
    fn a_connection_is_handed_off_only_past_the_threshold() {
        assert_eq!(place(0, &mut loads(&[3, 3]), 2), (0, Reason::LeastWork));
        assert_eq!(place(0, &mut loads(&[2, 3]), 0), (0, Reason::LeastWork));
        assert_eq!(place(0, &mut loads(&[5, 3]), 2), (0, Reason::WithinThreshold));
        assert_eq!(place(0, &mut loads(&[6, 3]), 2), (1, Reason::Imbalance));
    }

    #[test]
    fn exchanges_count_as_work() {
        let mut loads = loads(&[4, 4]);
        loads[0].exchanges = 4;
        assert_eq!(place(0, &mut loads, 2), (1, Reason::Imbalance));
    }

    #[test]
    fn draining_front_servers_get_nothing_unless_all_drain() {
        let mut some = loads(&[9, 0, 5]);
        some[1].draining = true;
        assert_eq!(place(0, &mut some, 2), (2, Reason::Imbalance));
        let mut own = loads(&[0, 7]);
        own[0].draining = true;
        assert_eq!(place(0, &mut own, 2), (1, Reason::OwnDrains));
        let mut all = loads(&[9, 0]);
        all.iter_mut().for_each(|load| load.draining = true);
        assert_eq!(place(0, &mut all, 2), (0, Reason::AllDrain));
    }

    /// A front server with one connection that takes the whole core gets no company, however few connections it has.
    #[test]
    fn a_busy_core_gets_nothing_while_another_has_time() {
        let mut all = loads(&[1, 40]);
        all[0].busy_permille = 1000;
        all[1].busy_permille = 100;
        assert_eq!(place(0, &mut all, 8), (1, Reason::OwnBusy));
        assert_eq!(place(1, &mut all, 8), (1, Reason::LeastWork));
        all[1].busy_permille = 900;
        assert_eq!(place(1, &mut all, 8), (0, Reason::Imbalance), "both are busy: counts decide");
    }

    #[test]
    fn ties_rotate_and_one_snapshot_serves_a_burst() {
        let mut dispatcher = ConnectionDispatcher::new();
        let mut all = loads(&[100, 0, 0, 0]);
        let places: Vec<usize> = (0..9).map(|_| dispatcher.place(0, &mut all, 4)).collect();
        assert_eq!(places, [1, 2, 3, 1, 2, 3, 1, 2, 3]);
        let mut fresh = || dispatcher.place(0, &mut loads(&[100, 0, 0, 0]), 4);
        assert_eq!([fresh(), fresh(), fresh(), fresh()], [1, 2, 3, 1]);
        assert_eq!((dispatcher.counters().handed_off, dispatcher.counters().kept), (13, 0));
    }
}
