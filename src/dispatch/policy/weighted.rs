//! The historical rule: weighted turns, with weights that a manager computes again every two seconds.
//!
//! IBM's Network Dispatcher (eND 3.6 and Edge Server 2.0, "manager" in their manuals) mixed the active and the new
//! connections of each server half and half, recomputed at an interval of two seconds, changed weights only past a
//! sensitivity threshold of 5 %, and smoothed by an index of 1.5; weights run from 1 to 20. The manuals publish these
//! parameters and not the formula. Ours: a server whose share of the mix is the average gets weight 10, one without
//! load 20, one with twice the average or more 1; of the way there, each interval goes 1 / 1.5.

use super::{Reason, View};

/// Between two computations of the weights.
pub const INTERVAL_NS: u64 = 2_000_000_000;
/// A new set of weights is taken only if the changes add up to more than this part of the sum.
const SENSITIVITY_PERCENT: u64 = 5;
/// Weights in thousandths of the manuals' unit.
const WEIGHT_MIN: u64 = 1_000;
const WEIGHT_MEAN: u64 = 10_000;
const WEIGHT_MAX: u64 = 20_000;

#[derive(Clone, Copy, Debug)]
struct Server {
    weight: u64,
    /// The smooth weighted turn: how much it is owed.
    owed: i64,
    /// Requests sent since the weights were computed.
    fresh: u64,
}

#[derive(Clone, Debug)]
pub(in crate::dispatch) struct Weighted {
    servers: Box<[Server]>,
    /// When the weights are computed again; 0 before the first choice.
    next_ns: u64,
}

impl Weighted {
    pub fn new(replicas: usize) -> Self {
        Self { servers: vec![Server { weight: WEIGHT_MEAN, owed: 0, fresh: 0 }; replicas].into(), next_ns: 0 }
    }

    pub fn choose(&mut self, view: &View) -> Option<(usize, Reason)> {
        if view.now_ns >= self.next_ns {
            if self.next_ns > 0 {
                self.compute(view);
            }
            self.next_ns = view.now_ns + INTERVAL_NS;
        }
        // Smooth weighted round robin: each turn every open server is owed its weight, the one that is owed most is
        // chosen and pays the sum.
        let (mut sum, mut most) = (0, None);
        for index in view.open() {
            let server = &mut self.servers[index];
            let weight = i64::try_from(server.weight).expect("invariant: at most WEIGHT_MAX");
            server.owed += weight;
            sum += weight;
            if most.is_none_or(|most: usize| self.servers[most].owed < self.servers[index].owed) {
                most = Some(index);
            }
        }
        let most = most?;
        self.servers[most].owed -= sum;
        self.servers[most].fresh += 1;
        Some((most, Reason::Weight))
    }

    fn compute(&mut self, view: &View) {
        let count = u64::try_from(self.servers.len()).expect("invariant: at most SERVERS_MAX");
        let active: u64 = view.replicas.iter().map(|replica| u64::from(replica.outstanding)).sum();
        let fresh: u64 = self.servers.iter().map(|server| server.fresh).sum();
        // Half of the mean weight for each part of the mix that is just the average.
        let part = |own: u64, sum: u64| (WEIGHT_MEAN / 2 * own * count).checked_div(sum).unwrap_or(WEIGHT_MEAN / 2);
        let smoothed = |server: &Server, outstanding: u32| {
            let load = part(u64::from(outstanding), active) + part(server.fresh, fresh);
            let target = WEIGHT_MAX.saturating_sub(load).clamp(WEIGHT_MIN, WEIGHT_MAX);
            // The way divided by the smoothing index of 1.5.
            (server.weight + 2 * target) / 3
        };
        let each = || self.servers.iter().zip(view.replicas).map(|(server, replica)| (server, replica.outstanding));
        let change: u64 =
            each().map(|(server, outstanding)| server.weight.abs_diff(smoothed(server, outstanding))).sum();
        let sum: u64 = self.servers.iter().map(|server| server.weight).sum();
        let takes = change * 100 > sum * SENSITIVITY_PERCENT;
        for (server, replica) in self.servers.iter_mut().zip(view.replicas) {
            if takes {
                server.weight = smoothed(server, replica.outstanding);
            }
            server.fresh = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{INTERVAL_NS, WEIGHT_MAX, WEIGHT_MEAN, WEIGHT_MIN, Weighted};
    use crate::dispatch::policy::{Replica, View};

    fn view(outstanding: &[u32], replicas: &mut Vec<Replica>) {
        *replicas = outstanding.iter().map(|&outstanding| Replica { outstanding, depth: 0, available: true }).collect();
    }

    fn turns(rule: &mut Weighted, replicas: &[Replica], now_ns: u64, count: usize) -> Vec<usize> {
        let view = View { replicas, local: None, cap: 100, now_ns };
        (0..count).map(|_| rule.choose(&view).unwrap().0).collect()
    }

    fn weights(rule: &Weighted) -> Vec<u64> {
        rule.servers.iter().map(|server| server.weight).collect()
    }

    #[test]
    fn weights_change_every_two_seconds_and_not_between() {
        let mut replicas = Vec::new();
        let mut rule = Weighted::new(2);
        view(&[9, 1], &mut replicas);
        assert_eq!(turns(&mut rule, &replicas, 1, 4), [0, 1, 0, 1]);
        turns(&mut rule, &replicas, INTERVAL_NS, 2);
        assert_eq!(weights(&rule), [WEIGHT_MEAN; 2], "not yet");
        turns(&mut rule, &replicas, 1 + INTERVAL_NS, 1);
        // Active 9 to 1, new 3 to 3: loads 9000 + 5000 and 1000 + 5000; two thirds of the way from 10000.
        assert_eq!(weights(&rule), [(10_000 + 2 * 6_000) / 3, (10_000 + 2 * 14_000) / 3]);
    }

    #[test]
    fn turns_follow_the_weights_evenly() {
        let mut replicas = Vec::new();
        view(&[0, 0], &mut replicas);
        let mut rule = Weighted::new(2);
        rule.servers[0].weight = 15_000;
        rule.servers[1].weight = 5_000;
        assert_eq!(turns(&mut rule, &replicas, 0, 8), [0, 0, 1, 0, 0, 0, 1, 0]);
    }

    #[test]
    fn small_changes_are_below_the_sensitivity() {
        let mut replicas = Vec::new();
        view(&[10, 11], &mut replicas);
        let mut rule = Weighted::new(2);
        turns(&mut rule, &replicas, 1, 10);
        turns(&mut rule, &replicas, 1 + INTERVAL_NS, 1);
        assert_eq!(weights(&rule), [WEIGHT_MEAN; 2]);
    }

    #[test]
    fn weights_keep_within_their_bounds() {
        let mut replicas = Vec::new();
        view(&[100, 0, 0, 0], &mut replicas);
        let mut rule = Weighted::new(4);
        for interval in 0..50 {
            turns(&mut rule, &replicas, 1 + interval * INTERVAL_NS, 3);
        }
        assert!(weights(&rule).iter().all(|weight| (WEIGHT_MIN..=WEIGHT_MAX).contains(weight)), "{:?}", weights(&rule));
        // Within the sensitivity of the least: what is left to change adds up to less than 5 % of the sum.
        assert!(weights(&rule)[0] < 3 * WEIGHT_MIN, "{:?}", weights(&rule));
    }
}
