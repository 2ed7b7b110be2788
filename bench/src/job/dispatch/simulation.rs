//! A cluster in virtual time: the library's own dispatchers before replicas that work on one request at a time.
//!
//! ```text
//!   trace ──▶ front: RequestDispatcher ──hand-off──▶ replica: first come first served ──hand-off──▶ front
//! ```
//! Front server i shares its core with replica i: a hand-off between them takes no time, any other takes
//! [`Cluster::handoff_ns`] each way. Depths are published at once and read once per [`Cluster::turn_ns`]. A dispatcher
//! itself takes no time, and a front server answers its messages also while its replica works: what is simulated is
//! the policy, not the event loop.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use twintier::dispatch::requests::{Pick, Settings};
use twintier::dispatch::{PolicyName, ReplicaId, RequestDispatcher};

use super::trace::Arrival;

/// What is simulated beside the trace.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cluster {
    pub fronts: usize,
    pub replicas: usize,
    pub policy: PolicyName,
    /// The n of JBSQ(n).
    pub credit: u32,
    /// The cap of the other policies.
    pub outstanding_max: u32,
    pub handoff_ns: u64,
    /// Between two looks at the published depths.
    pub turn_ns: u64,
    /// Requests that may wait at one front server, and for how long.
    pub queue_max: usize,
    pub patience_ns: u64,
    pub seed: u64,
}

/// What came of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Of every request in the order of arrival; `None` for one that was turned away.
    pub responses_ns: Vec<Option<u64>>,
    pub refused: u64,
    pub expired: u64,
    /// The most requests of one front server at one replica at a time, on the way or there.
    pub outstanding_seen: u32,
    /// The most requests at one replica at a time, of all front servers.
    pub depth_seen: u32,
    pub waited: u64,
    pub picked_local: u64,
    pub picked_remote: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    /// A request reaches its replica.
    Reached { request: usize, replica: usize },
    /// A replica is through with a request.
    Done { request: usize, replica: usize },
    /// The answer reaches the front server.
    Returned { request: usize, replica: usize },
}

struct Front {
    dispatcher: RequestDispatcher<usize>,
    looked_ns: Option<u64>,
    /// At each replica.
    outstanding: Vec<u32>,
}

#[derive(Default)]
struct Replica {
    line: VecDeque<usize>,
    /// In the line or in work.
    depth: u32,
}

struct Simulation<'a> {
    cluster: Cluster,
    cap: u32,
    arrivals: &'a [Arrival],
    fronts: Vec<Front>,
    replicas: Vec<Replica>,
    depths: Vec<u32>,
    /// By time, then by the order in which they were made.
    events: BinaryHeap<Reverse<(u64, u64, Event)>>,
    made: u64,
    outcome: Outcome,
}

/// Plays a trace to its end.
///
/// # Panics
/// If a dispatcher or a replica has more outstanding than the cap: the promise that the simulation checks.
pub fn simulate(cluster: &Cluster, arrivals: &[Arrival]) -> Outcome {
    let front = |number: usize| {
        let settings = Settings {
            replicas: cluster.replicas,
            policy: cluster.policy,
            credit: cluster.credit,
            outstanding_max: cluster.outstanding_max,
            queue_max: cluster.queue_max,
            seed: cluster.seed.wrapping_add(number as u64),
        };
        (
            settings.cap(),
            Front {
                dispatcher: RequestDispatcher::new(&settings),
                looked_ns: None,
                outstanding: vec![0; cluster.replicas],
            },
        )
    };
    let (caps, fronts): (Vec<u32>, Vec<Front>) = (0..cluster.fronts).map(front).unzip();
    let mut simulation = Simulation {
        cluster: *cluster,
        cap: caps.first().copied().unwrap_or(0),
        arrivals,
        fronts,
        replicas: (0..cluster.replicas).map(|_| Replica::default()).collect(),
        depths: vec![0; cluster.replicas],
        events: BinaryHeap::new(),
        made: 0,
        outcome: Outcome { responses_ns: vec![None; arrivals.len()], ..Outcome::default() },
    };
    simulation.play();
    for front in &simulation.fronts {
        let counters = front.dispatcher.counters();
        simulation.outcome.refused += counters.refused;
        simulation.outcome.expired += counters.expired;
        simulation.outcome.waited += counters.waited;
        simulation.outcome.picked_local += counters.picked_local;
        simulation.outcome.picked_remote += counters.picked_remote;
    }
    simulation.outcome
}

impl Simulation<'_> {
    fn play(&mut self) {
        let mut next = 0;
        loop {
            let arrives_ns = self.arrivals.get(next).map(|arrival| arrival.at_ns);
            let happens_ns = self.events.peek().map(|Reverse((at_ns, ..))| *at_ns);
            match (arrives_ns, happens_ns) {
                (None, None) => return,
                (Some(at_ns), happens_ns) if happens_ns.is_none_or(|happens_ns| at_ns < happens_ns) => {
                    self.arrive(next, at_ns);
                    next += 1;
                }
                _ => {
                    if let Some(Reverse((at_ns, _, event))) = self.events.pop() {
                        self.happen(at_ns, event);
                    }
                }
            }
        }
    }

    fn happen(&mut self, now_ns: u64, event: Event) {
        match event {
            Event::Reached { request, replica } => {
                let there = &mut self.replicas[replica];
                there.depth += 1;
                let most = self.cap * u32::try_from(self.fronts.len()).expect("invariant: few front servers");
                assert!(
                    there.depth <= most,
                    "replica {replica} has {} requests, its fronts' caps are {most}",
                    there.depth
                );
                self.outcome.depth_seen = self.outcome.depth_seen.max(there.depth);
                self.depths[replica] = there.depth;
                there.line.push_back(request);
                if there.line.len() == 1 {
                    self.begin(now_ns, request, replica);
                }
            }
            Event::Done { request, replica } => {
                let there = &mut self.replicas[replica];
                there.depth -= 1;
                self.depths[replica] = there.depth;
                there.line.pop_front();
                if let Some(&following) = there.line.front() {
                    self.begin(now_ns, following, replica);
                }
                let back_ns = now_ns + self.handoff_ns(self.arrivals[request].front, replica);
                self.add(back_ns, Event::Returned { request, replica });
            }
            Event::Returned { request, replica } => {
                let number = self.arrivals[request].front;
                self.outcome.responses_ns[request] = Some(now_ns - self.arrivals[request].at_ns);
                let front = &mut self.fronts[number];
                front.outstanding[replica] -= 1;
                front.dispatcher.returned(id(replica));
                self.pump(number, now_ns);
            }
        }
    }

    fn arrive(&mut self, request: usize, now_ns: u64) {
        let number = self.arrivals[request].front;
        let local = self.local(number);
        let front = &mut self.fronts[number];
        let due = front.looked_ns.is_none_or(|looked_ns| now_ns >= looked_ns + self.cluster.turn_ns);
        if due && front.dispatcher.reads_depths() {
            front.looked_ns = Some(now_ns);
            front.dispatcher.observe(&self.depths);
        }
        match front.dispatcher.pick(now_ns, local) {
            Pick::Replica(replica, _) => self.send(now_ns, request, usize::from(replica)),
            Pick::Wait => {
                let deadline_ns = now_ns.saturating_add(self.cluster.patience_ns);
                // A full queue is counted by the dispatcher; the request has no response.
                front.dispatcher.enqueue(request, now_ns, deadline_ns).ok();
                self.pump(number, now_ns);
            }
        }
    }

    fn pump(&mut self, number: usize, now_ns: u64) {
        let local = self.local(number);
        while self.fronts[number].dispatcher.expired(now_ns).is_some() {}
        while let Some((request, replica)) = self.fronts[number].dispatcher.next_ready(now_ns, local) {
            self.send(now_ns, request, usize::from(replica));
        }
    }

    fn send(&mut self, now_ns: u64, request: usize, replica: usize) {
        let number = self.arrivals[request].front;
        let outstanding = &mut self.fronts[number].outstanding[replica];
        *outstanding += 1;
        assert!(*outstanding <= self.cap, "front {number} has {outstanding} of {} requests at {replica}", self.cap);
        self.outcome.outstanding_seen = self.outcome.outstanding_seen.max(*outstanding);
        let there_ns = now_ns + self.handoff_ns(number, replica);
        self.add(there_ns, Event::Reached { request, replica });
    }

    fn begin(&mut self, now_ns: u64, request: usize, replica: usize) {
        self.add(now_ns + self.arrivals[request].service_ns, Event::Done { request, replica });
    }

    fn add(&mut self, at_ns: u64, event: Event) {
        self.made += 1;
        self.events.push(Reverse((at_ns, self.made, event)));
    }

    fn local(&self, front: usize) -> Option<ReplicaId> {
        (front < self.cluster.replicas).then(|| id(front))
    }

    fn handoff_ns(&self, front: usize, replica: usize) -> u64 {
        if front == replica { 0 } else { self.cluster.handoff_ns }
    }
}

fn id(replica: usize) -> ReplicaId {
    ReplicaId::try_from(replica).expect("invariant: at most REPLICAS_MAX replicas")
}

#[cfg(test)]
mod tests {
    use proptest::{prop_assert, prop_assert_eq, proptest};
    use twintier::dispatch::PolicyName;

    use super::{Cluster, simulate};
    use crate::job::dispatch::ideal::central_queue;
    use crate::job::dispatch::trace::{Arrival, Service, Trace};

    fn cluster(policy: PolicyName) -> Cluster {
        Cluster {
            fronts: 2,
            replicas: 2,
            policy,
            credit: 2,
            outstanding_max: 8,
            handoff_ns: 1_000,
            turn_ns: 20_000,
            queue_max: 100_000,
            patience_ns: u64::MAX,
            seed: 1,
        }
    }

    #[test]
    fn a_request_elsewhere_pays_two_hand_offs() {
        let at = |at_ns| Arrival { at_ns, service_ns: 10_000, front: 0 };
        let arrivals = [at(0), at(1), at(2), at(3), at(4)];
        let outcome = simulate(&cluster(PolicyName::Jbsq), &arrivals);
        let responses: Vec<u64> = outcome.responses_ns.iter().flatten().copied().collect();
        // Two on the own core one after the other, two on the other core, and the last takes the first free credit.
        assert_eq!(responses, [10_000, 19_999, 12_000, 21_999, 29_996]);
        assert_eq!((outcome.picked_local, outcome.picked_remote, outcome.waited), (3, 2, 1));
    }

    /// One front server, one replica, no hand-off: every policy is the central queue.
    #[test]
    fn with_one_server_there_is_nothing_to_choose() {
        let trace = Trace::draw(Service::HeavyTailed, 5_000, 5);
        let arrivals = trace.at(0.8, 1, 1);
        let expected = central_queue(&arrivals, 1);
        for policy in PolicyName::ALL {
            let cluster = Cluster { fronts: 1, replicas: 1, ..cluster(policy) };
            let found: Vec<u64> = simulate(&cluster, &arrivals).responses_ns.into_iter().flatten().collect();
            assert_eq!(found, expected, "{policy}");
        }
    }

    #[test]
    fn an_overloaded_queue_turns_requests_away_and_loses_none() {
        let trace = Trace::draw(Service::Exponential, 20_000, 9);
        let arrivals = trace.at(1.5, 2, 2);
        let cluster = Cluster { queue_max: 8, patience_ns: 100_000, ..cluster(PolicyName::Jbsq) };
        let outcome = simulate(&cluster, &arrivals);
        let served = outcome.responses_ns.iter().flatten().count();
        assert!(outcome.refused > 0 && outcome.expired > 0);
        assert_eq!(served + usize::try_from(outcome.refused + outcome.expired).unwrap(), 20_000);
    }

    proptest! {
        /// Any policy, cap and load: every request is answered once, none faster than its service, and the cap holds
        /// for each dispatcher and for each replica.
        #[test]
        fn the_cap_is_never_exceeded(
            policy in proptest::sample::select(&PolicyName::ALL[..]), fronts in 1..5_usize, replicas in 1..5_usize,
            cap in 1..5_u32, load in 0.2..1.3_f64, handoff_ns in 0..40_000_u64, seed: u64,
        ) {
            let arrivals = Trace::draw(Service::Bimodal, 600, seed).at(load, fronts, replicas);
            let cluster = Cluster {
                fronts, replicas, credit: cap, outstanding_max: cap, handoff_ns, seed, ..cluster(policy)
            };
            let outcome = simulate(&cluster, &arrivals);
            prop_assert!(outcome.outstanding_seen <= cap);
            prop_assert!(outcome.depth_seen <= cap * u32::try_from(fronts).unwrap());
            prop_assert_eq!((outcome.refused, outcome.expired), (0, 0));
            for (arrival, response) in arrivals.iter().zip(&outcome.responses_ns) {
                prop_assert!(response.is_some_and(|response| response >= arrival.service_ns), "{arrival:?}");
            }
        }
    }
}
