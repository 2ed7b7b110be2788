//! Which of a statement's servers gets a request: the one with the fewest requests under way for its weight. Servers
//! that are even take turns by weight.

/// How far a turn moves a server of weight 1 behind the others.
const STRIDE: u64 = 1 << 16;

/// Who is next among servers that are even: start-time fair queueing over their weights.
#[derive(Clone, Debug, Default)]
pub struct Turns {
    clock: u64,
    /// By the server's place in the statement.
    next: Vec<u64>,
}

/// A server that may get the request.
#[derive(Clone, Copy, Debug)]
pub struct Candidate {
    /// In the statement.
    pub place: usize,
    pub outstanding: u32,
    /// At least 1.
    pub weight: u32,
}

impl Turns {
    /// Of a statement with so many servers.
    pub fn new(servers: usize) -> Self {
        Self { clock: 0, next: vec![0; servers] }
    }

    /// The place of the server to ask; `None` if there is none.
    pub fn pick(&mut self, candidates: impl Iterator<Item = Candidate>) -> Option<usize> {
        // A server that was away for a while does not catch up on what it missed.
        let turn = |place: usize| self.next[place].max(self.clock);
        let busy = |one: &Candidate, other: &Candidate| u64::from(one.outstanding) * u64::from(other.weight);
        let best = candidates.reduce(|best, other| {
            let order = busy(&other, &best).cmp(&busy(&best, &other));
            if order.then_with(|| turn(other.place).cmp(&turn(best.place))).is_lt() { other } else { best }
        })?;
        self.clock = turn(best.place);
        self.next[best.place] = self.clock + STRIDE / u64::from(best.weight);
        Some(best.place)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{prop, proptest};

    use super::{Candidate, Turns};

    fn candidates<'a>(weights: &'a [u32], outstanding: &'a [u32]) -> impl Iterator<Item = Candidate> + 'a {
        weights.iter().zip(outstanding).enumerate().map(|(place, (weight, outstanding))| Candidate {
            place,
            outstanding: *outstanding,
            weight: *weight,
        })
    }

    #[test]
    fn the_least_busy_for_its_weight() {
        let mut turns = Turns::new(3);
        assert_eq!(turns.pick(candidates(&[1, 1, 1], &[2, 1, 2])), Some(1));
        assert_eq!(turns.pick(candidates(&[1, 3, 1], &[2, 4, 2])), Some(1), "4 of 3 is less than 2 of 1");
        assert_eq!(turns.pick([].into_iter()), None);
    }

    proptest! {
        /// One request after the other: each server's share is its weight's, to within one turn.
        #[test]
        fn idle_servers_take_turns_by_weight(weights in prop::collection::vec(1_u32..=16, 1..6)) {
            let mut turns = Turns::new(weights.len());
            let idle = vec![0; weights.len()];
            let sum: u32 = weights.iter().sum();
            let mut served = vec![0; weights.len()];
            for _ in 0..sum * 10 {
                served[turns.pick(candidates(&weights, &idle)).unwrap()] += 1;
            }
            for (served, weight) in served.iter().zip(&weights) {
                let share: u32 = weight * 10;
                assert!(share.abs_diff(*served) <= 2, "{served} of {share}: weights {weights:?}");
            }
        }

        /// Many at a time: nobody has more for its weight than any other, but for one request.
        #[test]
        fn busy_servers_are_even(weights in prop::collection::vec(1_u32..=16, 1..6), ends in prop::collection::vec(0_usize..64, 0..300)) {
            let mut turns = Turns::new(weights.len());
            let mut outstanding = vec![0_u32; weights.len()];
            for _ in 0..40 {
                let picked = turns.pick(candidates(&weights, &outstanding)).unwrap();
                outstanding[picked] += 1;
            }
            for (one, weight) in outstanding.iter().zip(&weights) {
                for (other, other_weight) in outstanding.iter().zip(&weights) {
                    let before = one.saturating_sub(1);
                    assert!(before * other_weight <= other * weight, "{outstanding:?} of {weights:?}");
                }
            }
            for end in ends {
                let place = end % weights.len();
                outstanding[place] = outstanding[place].saturating_sub(1);
                let least = (0..weights.len()).min_by(|a, b| (outstanding[*a] * weights[*b]).cmp(&(outstanding[*b] * weights[*a]))).unwrap();
                let picked = turns.pick(candidates(&weights, &outstanding)).unwrap();
                assert_eq!(outstanding[picked] * weights[least], outstanding[least] * weights[picked]);
                outstanding[picked] += 1;
            }
        }
    }

    #[test]
    fn a_server_that_comes_back_does_not_catch_up() {
        let mut turns = Turns::new(2);
        for _ in 0..100 {
            turns.pick(candidates(&[1, 1], &[0, 0]).take(1));
        }
        let picked: Vec<_> = (0..6).map(|_| turns.pick(candidates(&[1, 1], &[0, 0])).unwrap()).collect();
        assert_eq!(picked.iter().filter(|place| **place == 1).count(), 3, "{picked:?}");
    }
}
