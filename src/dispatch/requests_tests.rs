//! What the second dispatcher promises, example by example and then for any sequence of events.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::{Just, Strategy, any, prop_oneof};
use proptest::{prop_assert, prop_assert_eq, proptest};

use super::{Full, Pick, PolicyName, ReplicaId, RequestDispatcher, Settings};
use crate::dispatch::policy::Reason;

fn settings(replicas: usize, credit: u32) -> Settings {
    Settings { replicas, policy: PolicyName::Jbsq, credit, outstanding_max: 8, queue_max: 4, seed: 7 }
}

fn dispatcher(replicas: usize, credit: u32) -> RequestDispatcher<u32> {
    RequestDispatcher::new(&settings(replicas, credit))
}

#[test]
fn local_first_then_the_most_credit_then_wait() {
    let mut dispatcher = dispatcher(2, 2);
    let picks: Vec<Pick> = (0..5).map(|_| dispatcher.pick(0, Some(1))).collect();
    let (local, remote) = (Pick::Replica(1, Reason::Local), Pick::Replica(0, Reason::MostCredit));
    assert_eq!(picks, [local, local, remote, remote, Pick::Wait]);
    let counters = dispatcher.counters();
    assert_eq!((counters.picked_local, counters.picked_remote), (2, 2));
    let last = dispatcher.decisions().iter().last().unwrap();
    assert_eq!((last.replica, last.outstanding, last.depth, last.waited_ns), (0, 2, 2, None));
}

#[test]
fn nobody_overtakes_a_waiting_request() {
    let mut dispatcher = dispatcher(1, 1);
    assert!(matches!(dispatcher.pick(0, None), Pick::Replica(0, _)));
    dispatcher.enqueue(10, 0, 100).unwrap();
    dispatcher.returned(0);
    assert_eq!(dispatcher.pick(0, None), Pick::Wait, "10 came first");
    dispatcher.enqueue(11, 0, 100).unwrap();
    assert_eq!(dispatcher.next_ready(5, None), Some((10, 0)));
    assert_eq!(dispatcher.next_ready(5, None), None, "no credit");
    dispatcher.returned(0);
    assert_eq!(dispatcher.next_ready(5, None), Some((11, 0)));
    assert_eq!(dispatcher.decisions().iter().last().unwrap().waited_ns, Some(5));
}

#[test]
fn expired_requests_are_not_served_and_block_nobody() {
    let mut dispatcher = dispatcher(1, 1);
    dispatcher.pick(0, None);
    for (ticket, deadline_ns) in [(1, 50), (2, 10), (3, 90)] {
        dispatcher.enqueue(ticket, 0, deadline_ns).unwrap();
    }
    assert_eq!(dispatcher.next_deadline_ns(), Some(10));
    assert_eq!(dispatcher.expired(9), None);
    assert_eq!((dispatcher.expired(10), dispatcher.expired(10)), (Some(2), None));
    assert_eq!(dispatcher.next_deadline_ns(), Some(50));
    dispatcher.returned(0);
    assert_eq!(dispatcher.next_ready(50, None), Some((3, 0)), "1 expired at 50");
    assert_eq!((dispatcher.expired(50), dispatcher.expired(50)), (Some(1), None));
    assert_eq!((dispatcher.waiting(), dispatcher.next_deadline_ns()), (0, None));
    assert_eq!(dispatcher.counters().expired, 2);
}

#[test]
fn a_full_queue_refuses_and_a_client_that_left_makes_room() {
    let mut dispatcher = dispatcher(1, 1);
    dispatcher.pick(0, None);
    for ticket in 0..4 {
        dispatcher.enqueue(ticket, 0, 100).unwrap();
    }
    assert_eq!(dispatcher.enqueue(4, 0, 100), Err(Full));
    assert!(dispatcher.remove(1));
    assert!(!dispatcher.remove(1));
    dispatcher.enqueue(5, 0, 100).unwrap();
    let counters = dispatcher.counters();
    assert_eq!((counters.waited, counters.refused, counters.abandoned), (5, 1, 1));
}

#[test]
fn a_stopped_replica_gets_nothing_until_it_is_back() {
    let mut dispatcher = dispatcher(2, 1);
    dispatcher.set_available(0, false);
    assert!(matches!(dispatcher.pick(0, Some(0)), Pick::Replica(1, Reason::MostCredit)));
    assert_eq!(dispatcher.pick(0, Some(0)), Pick::Wait);
    dispatcher.enqueue(1, 0, 100).unwrap();
    dispatcher.set_available(0, true);
    assert_eq!(dispatcher.next_ready(0, Some(0)), Some((1, 0)));
}

#[test]
fn published_depths_break_ties_and_own_dispatches_are_added() {
    let mut dispatcher = dispatcher(3, 4);
    dispatcher.observe(&[5, 1, 3]);
    let mut next = || match dispatcher.pick(0, None) {
        Pick::Replica(replica, _) => replica,
        Pick::Wait => panic!("there is credit"),
    };
    assert_eq!([next(), next(), next()], [1, 2, 0]);
    assert_eq!(dispatcher.replicas()[1].depth, 2);
}

#[test]
#[should_panic(expected = "was not outstanding")]
fn a_request_that_returns_twice_is_a_bug() {
    dispatcher(1, 1).returned(0);
}

#[test]
fn no_memory_is_taken_after_the_start() {
    let mut dispatcher = dispatcher(1, 1);
    let capacity = dispatcher.waiting.capacity();
    for ticket in 0..100 {
        let _ = dispatcher.enqueue(ticket, 0, 1);
    }
    assert_eq!(dispatcher.waiting.capacity(), capacity);
}

/// What may happen to a front server.
#[derive(Clone, Debug)]
enum Step {
    Arrive { local: Option<ReplicaId>, patience: u64 },
    Return { which: usize },
    Pass { time: u64 },
    Leave { which: usize },
    Switch { replica: usize, available: bool },
    Observe { depths: Vec<u32> },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (proptest::option::of(0..4u8), 0..40u64).prop_map(|(local, patience)| Step::Arrive { local, patience }),
        3 => any::<usize>().prop_map(|which| Step::Return { which }),
        1 => (0..20u64).prop_map(|time| Step::Pass { time }),
        1 => any::<usize>().prop_map(|which| Step::Leave { which }),
        1 => (any::<usize>(), any::<bool>()).prop_map(|(replica, available)| Step::Switch { replica, available }),
        1 => proptest::collection::vec(0..9u32, 0..5).prop_map(|depths| Step::Observe { depths }),
    ]
}

fn policies() -> impl Strategy<Value = PolicyName> {
    prop_oneof![3 => Just(PolicyName::Jbsq), 6 => proptest::sample::select(&PolicyName::ALL[1..])]
}

/// The outside of a dispatcher: where each ticket is, by what was returned and nothing else.
#[derive(Default)]
struct Front {
    now_ns: u64,
    tickets: u32,
    at_replica: Vec<(u32, ReplicaId)>,
    /// Waiting tickets with their deadlines, in the order of arrival because tickets count up.
    waiting: BTreeMap<u32, u64>,
    ended: BTreeSet<u32>,
}

proptest! {
    /// Whatever happens: the cap holds, waiting requests are served in order and before later ones, a request with
    /// credit and nobody before it does not wait, and every ticket ends exactly once.
    #[test]
    fn any_sequence_keeps_the_promises(
        policy in policies(), replicas in 1..5usize, cap in 1..4u32, queue_max in 0..6usize, seed: u64,
        steps in proptest::collection::vec(step(), 1..120),
    ) {
        let settings = Settings { replicas, policy, credit: cap, outstanding_max: cap, queue_max, seed };
        let mut dispatcher = RequestDispatcher::<u32>::new(&settings);
        let mut front = Front::default();
        let mut available = vec![true; replicas];
        // The last rounds bring every replica back and every request home.
        let home = (0..replicas).map(|replica| Step::Switch { replica, available: true });
        let returns = std::iter::repeat_n(Step::Return { which: 0 }, 40);
        for step in steps.into_iter().chain(home).chain(returns) {
            match step {
                Step::Arrive { local, patience } => {
                    let (ticket, deadline_ns) = (front.tickets, front.now_ns + patience);
                    front.tickets += 1;
                    let open = dispatcher.replicas().iter().any(|r| r.available && r.outstanding < cap);
                    match dispatcher.pick(front.now_ns, local) {
                        Pick::Replica(replica, _) => {
                            prop_assert!(front.waiting.is_empty(), "{ticket} overtook {:?}", front.waiting);
                            prop_assert!(available[usize::from(replica)]);
                            front.at_replica.push((ticket, replica));
                        }
                        Pick::Wait => {
                            prop_assert!(!open || !front.waiting.is_empty(), "{ticket} waits for nothing");
                            match dispatcher.enqueue(ticket, front.now_ns, deadline_ns) {
                                Ok(()) => prop_assert!(front.waiting.insert(ticket, deadline_ns).is_none()),
                                Err(Full) => {
                                    prop_assert_eq!(front.waiting.len(), queue_max);
                                    prop_assert!(front.ended.insert(ticket));
                                }
                            }
                        }
                    }
                }
                Step::Return { which } => {
                    if !front.at_replica.is_empty() {
                        let (ticket, replica) = front.at_replica.remove(which % front.at_replica.len());
                        dispatcher.returned(replica);
                        prop_assert!(front.ended.insert(ticket), "{ticket} ended twice");
                    }
                }
                Step::Pass { time } => front.now_ns += time,
                Step::Leave { which } => {
                    let leaver = front.waiting.keys().nth(which % front.waiting.len().max(1)).copied();
                    if let Some(ticket) = leaver {
                        prop_assert!(dispatcher.remove(ticket));
                        front.waiting.remove(&ticket);
                        prop_assert!(front.ended.insert(ticket));
                    }
                    prop_assert!(!dispatcher.remove(u32::MAX));
                }
                Step::Switch { replica, available: on } => {
                    let replica = replica % replicas;
                    available[replica] = on;
                    dispatcher.set_available(ReplicaId::try_from(replica).unwrap(), on);
                }
                Step::Observe { depths } => dispatcher.observe(&depths),
            }
            // Half of the turns serve before they expire, so that both orders are seen.
            for round in 0..2 {
                if (round == 0) == front.tickets.is_multiple_of(2) {
                    while let Some(ticket) = dispatcher.expired(front.now_ns) {
                        let deadline_ns = front.waiting.remove(&ticket);
                        prop_assert!(deadline_ns.is_some_and(|deadline_ns| deadline_ns <= front.now_ns));
                        prop_assert!(front.ended.insert(ticket));
                    }
                } else {
                    while let Some((ticket, replica)) = dispatcher.next_ready(front.now_ns, None) {
                        let first = front.waiting.iter().find(|(_, deadline_ns)| **deadline_ns > front.now_ns);
                        prop_assert_eq!(first.map(|(first, _)| *first), Some(ticket), "not first come, first served");
                        prop_assert!(available[usize::from(replica)]);
                        front.waiting.remove(&ticket);
                        front.at_replica.push((ticket, replica));
                    }
                }
            }
            for (index, replica) in dispatcher.replicas().iter().enumerate() {
                let sent = front.at_replica.iter().filter(|(_, at)| usize::from(*at) == index).count();
                prop_assert_eq!(usize::try_from(replica.outstanding).unwrap(), sent);
                prop_assert!(replica.outstanding <= cap);
            }
            prop_assert_eq!(dispatcher.waiting(), front.waiting.len());
            prop_assert!(dispatcher.next_deadline_ns().is_none_or(|at| front.waiting.values().all(|d| *d >= at)));
        }
        prop_assert_eq!(front.ended.len(), usize::try_from(front.tickets).unwrap(), "a ticket was lost");
        let counters = dispatcher.counters();
        let served = counters.picked_local + counters.picked_remote;
        let ends = served + counters.expired + counters.refused + counters.abandoned;
        prop_assert_eq!(ends, u64::from(front.tickets));
    }
}
