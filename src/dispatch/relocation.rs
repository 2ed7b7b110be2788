//! The second half of the first network dispatcher: idle keep-alive connections move when load shifts.
//!
//! Placement alone leaves what bursts, thresholds and closed connections leave behind. Each front server looks at the
//! published loads now and then and asks, connection by connection, whether one of its own should be elsewhere:
//!
//! - *Relief*: its core is busy and another's is not, twice in a row. It gives connections away until one is left:
//!   the heavy one, which keeps the core to itself.
//! - *Evenness*: it has more connections than its share, and some other front server has less.
//!
//! Neither undoes the other: evenness never moves anything to a core that is much busier. The fixed point of evenness
//! is that no two front servers differ by more than one connection.

use super::connections::{BUSY_GAP_PERMILLE, Load};

/// Connections that one look may move: enough to even out hundreds within a second, few enough that a wrong guess is
/// cheap (a move costs some ten microseconds of both cores).
pub const MOVES_MAX: usize = 16;
/// The share of its connections that a busy front server gives away at one look, at least one.
const RELIEF_DIVISOR: u32 = 4;
/// After so many looks at a busy core that has nothing quiet to give, one that sends all the time may go, too.
const STUCK_LOOKS_MIN: u32 = 8;
/// Looks in a row that must find the core busy: one may be an accident.
const BUSY_LOOKS_MIN: u32 = 2;

/// Why a connection moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The core is busy and the other one is not.
    Relief,
    /// The other front server has fewer connections.
    Evenness,
}

impl Reason {
    /// For the claim chart.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Relief => "relief of a busy core",
            Self::Evenness => "evenness",
        }
    }
}

/// One connection to be moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Move {
    pub to: usize,
    pub reason: Reason,
}

/// Decides for one front server what moves.
#[derive(Clone, Debug, Default)]
pub struct Relocator {
    /// Looks in a row at which the core was busy beside another one.
    busy_looks: u32,
    /// What relief may still give away at this look.
    relief_left: u32,
}

impl Relocator {
    /// Begins a look at fresh loads.
    pub fn look(&mut self, own: usize, loads: &[Load]) {
        let mine = loads[own];
        let relieved = idlest(own, loads).is_some_and(|other| mine.is_overloaded_beside(loads[other]));
        self.busy_looks = if relieved { self.busy_looks.saturating_add(1) } else { 0 };
        self.relief_left =
            if self.busy_looks >= BUSY_LOOKS_MIN { mine.connections.div_ceil(RELIEF_DIVISOR) } else { 0 };
    }

    /// The next connection to move, at this look; it is moved in the copy in `loads`. Ask at most [`MOVES_MAX`] times.
    pub fn next(&mut self, own: usize, loads: &mut [Load]) -> Option<Move> {
        if loads[own].draining {
            return None;
        }
        let next = if self.busy_looks > 0 { self.relief(own, loads) } else { evenness(own, loads) }?;
        loads[own].connections -= 1;
        loads[next.to].connections = loads[next.to].connections.saturating_add(1);
        Some(next)
    }

    /// Whether what moves may be any connection between two requests. Relief looks for quiet ones: if the one that
    /// makes the core busy moved instead, its load would come along.
    pub fn may_take_any(&self) -> bool {
        self.busy_looks == 0 || self.busy_looks >= STUCK_LOOKS_MIN
    }

    fn relief(&mut self, own: usize, loads: &[Load]) -> Option<Move> {
        if self.relief_left == 0 || loads[own].connections < 2 {
            return None;
        }
        self.relief_left -= 1;
        idlest(own, loads).map(|to| Move { to, reason: Reason::Relief })
    }
}

/// The other front server with the most time left; of equal ones that with the fewest connections.
fn idlest(own: usize, loads: &[Load]) -> Option<usize> {
    others(own, loads).min_by_key(|&front| (loads[front].busy_permille, loads[front].connections))
}

/// The other front servers that take connections, beginning behind the own one, so that several that give do not all
/// choose the same.
fn others(own: usize, loads: &[Load]) -> impl Iterator<Item = usize> + '_ {
    (1..loads.len()).map(move |offset| (own + offset) % loads.len()).filter(|&front| !loads[front].draining)
}

fn evenness(own: usize, loads: &[Load]) -> Option<Move> {
    let mine = loads[own];
    let to = others(own, loads)
        .filter(|&front| loads[front].busy_permille <= mine.busy_permille.saturating_add(BUSY_GAP_PERMILLE))
        .min_by_key(|&front| loads[front].connections)?;
    if mine.connections < loads[to].connections.saturating_add(2) {
        return None;
    }
    let (mut sum, mut count, mut first_of_most) = (0_u64, 0_u64, true);
    for (front, load) in loads.iter().enumerate().filter(|(_, load)| !load.draining) {
        sum += u64::from(load.connections);
        count += 1;
        first_of_most &= load.connections < mine.connections || front >= own;
    }
    // Whoever has just its share rounded up is one of many; if all of them gave, the other would have too much.
    let share = sum.div_ceil(count);
    let gives = u64::from(mine.connections) > share || first_of_most;
    gives.then_some(Move { to, reason: Reason::Evenness })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::any;
    use proptest::{prop_assert, proptest};

    use super::{MOVES_MAX, Move, Reason, Relocator};
    use crate::dispatch::connections::Load;

    fn loads(connections: &[u32], busy: &[u32]) -> Vec<Load> {
        let load = |(&connections, &busy_permille)| Load { connections, busy_permille, ..Load::default() };
        connections.iter().zip(busy).map(load).collect()
    }

    fn moves(relocator: &mut Relocator, own: usize, loads: &[Load]) -> Vec<Move> {
        let mut copy = loads.to_vec();
        relocator.look(own, &copy);
        std::iter::from_fn(|| relocator.next(own, &mut copy)).take(MOVES_MAX).collect()
    }

    /// One look of every front server at the same loads, and all their moves carried out.
    fn round(relocators: &mut [Relocator], loads: &mut [Load]) -> usize {
        let seen = loads.to_vec();
        let mut count = 0;
        for (own, relocator) in relocators.iter_mut().enumerate() {
            for next in moves(relocator, own, &seen) {
                assert_ne!(next.to, own);
                loads[own].connections -= 1;
                loads[next.to].connections += 1;
                count += 1;
            }
        }
        count
    }

    #[test]
    fn connections_are_evened_out_to_within_one() {
        let mut relocator = Relocator::default();
        let even = moves(&mut relocator, 0, &loads(&[40, 24], &[0, 0]));
        assert_eq!(even, [Move { to: 1, reason: Reason::Evenness }; 8]);
        assert_eq!(moves(&mut relocator, 1, &loads(&[40, 24], &[0, 0])), []);
        assert_eq!(moves(&mut relocator, 0, &loads(&[33, 32], &[0, 0])), []);
        assert_eq!(moves(&mut relocator, 0, &loads(&[33, 31], &[0, 0])).len(), 1);
    }

    #[test]
    fn a_busy_core_keeps_its_heavy_connection_and_gives_the_others_away() {
        let mut relocators = vec![Relocator::default(); 2];
        let mut all = loads(&[32, 32], &[1000, 100]);
        assert_eq!(round(&mut relocators, &mut all), 0, "once may be an accident");
        for _ in 0..20 {
            round(&mut relocators, &mut all);
        }
        assert_eq!((all[0].connections, all[1].connections), (1, 63));
        // The heavy one ends: now both are even again.
        all[0].busy_permille = 0;
        for _ in 0..4 {
            round(&mut relocators, &mut all);
        }
        assert_eq!((all[0].connections, all[1].connections), (32, 32));
    }

    #[test]
    fn two_busy_cores_are_evened_by_count() {
        let mut relocator = Relocator::default();
        for _ in 0..3 {
            assert_eq!(moves(&mut relocator, 0, &loads(&[34, 30], &[1000, 900])).len(), 2);
        }
    }

    #[test]
    fn draining_front_servers_neither_give_nor_take() {
        let mut all = loads(&[20, 0, 10], &[0, 0, 0]);
        all[1].draining = true;
        let mut relocator = Relocator::default();
        assert_eq!(moves(&mut relocator, 0, &all), [Move { to: 2, reason: Reason::Evenness }; 5]);
        all[0].draining = true;
        assert_eq!(moves(&mut relocator, 0, &all), []);
    }

    proptest! {
        /// From any distribution, all looking at once, a second of looks or two ends within one of even, and stays.
        #[test]
        fn any_distribution_becomes_even(counts in proptest::collection::vec(0..60_u32, 2..9), drains: u8) {
            let mut all = loads(&counts, &vec![0; counts.len()]);
            for (front, load) in all.iter_mut().enumerate().skip(2) {
                load.draining = drains & (1 << front) != 0;
            }
            let mut relocators = vec![Relocator::default(); counts.len()];
            for _ in 0..40 {
                round(&mut relocators, &mut all);
            }
            let open = || all.iter().filter(|load| !load.draining).map(|load| load.connections);
            prop_assert!(open().max().unwrap() - open().min().unwrap() <= 1, "{all:?}");
            prop_assert!(all.iter().map(|load| load.connections).sum::<u32>() == counts.iter().sum::<u32>());
            let before = all.clone();
            prop_assert!(round(&mut relocators, &mut all) == 0, "{before:?} is even and yet moves");
        }

        /// Whatever the loads: nothing goes to a draining front server, to itself, or to a much busier core.
        #[test]
        fn no_move_makes_it_worse(
            counts in proptest::collection::vec((0..60_u32, 0..1001_u32, any::<bool>()), 1..9), looks in 1..4_usize,
        ) {
            let all: Vec<Load> = counts.iter()
                .map(|&(connections, busy_permille, draining)| Load { connections, busy_permille, draining, ..Load::default() })
                .collect();
            for own in 0..all.len() {
                let mut relocator = Relocator::default();
                for _ in 0..looks {
                    let next = moves(&mut relocator, own, &all);
                    prop_assert!(next.len() <= usize::try_from(all[own].connections).unwrap());
                    for step in next {
                        prop_assert!(step.to != own && !all[step.to].draining && !all[own].draining);
                        prop_assert!(all[step.to].busy_permille <= all[own].busy_permille + 250);
                    }
                }
            }
        }
    }
}
