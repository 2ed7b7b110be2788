//! The simulated comparison: all policies and the ideal queue on the same traces, block by block.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use serde::{Deserialize, Serialize};
use twintier::dispatch::PolicyName;

use super::ideal::{central_queue, erlang_response};
use super::simulation::{Cluster, simulate};
use super::trace::{Arrival, MEAN_SERVICE_NS, Service, Trace};
use crate::failure::Failure;
use crate::process::Interrupt;
use crate::statistics::{Better, Verdict, paired_ratio};

/// The name of the central queue in tables and files.
pub const IDEAL: &str = "ideal";
/// Requests at a trace's beginning that are not counted: the queues fill.
const WARM_UP_DIVISOR: usize = 10;
/// Requests that may wait at a simulated front server: none is turned away below full load.
const QUEUE_MAX: usize = 1 << 17;
/// The cap of the policies that hold nothing back.
const OUTSTANDING_MAX: u32 = 4096;
/// The service objective of a capacity, in mean service times at the 99th percentile.
pub const OBJECTIVE_MEANS: f64 = 10.0;
/// Halvings of the search for a capacity: a hundredth of the load.
const SEARCH_STEPS: u32 = 7;
/// The part of a trace that the search plays.
const SEARCH_DIVISOR: usize = 4;

/// What to simulate.
#[derive(Clone, Debug)]
pub struct Plan {
    pub policies: Vec<PolicyName>,
    pub sizes: Vec<usize>,
    pub loads_percent: Vec<u32>,
    pub blocks: u32,
    pub requests: usize,
    pub credit: u32,
    pub handoff_ns: u64,
    pub seed: u64,
}

/// One system under one condition, over all blocks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Simulated {
    /// A policy, or `ideal`.
    pub name: String,
    pub service: Service,
    /// Front servers, and as many replicas.
    pub servers: usize,
    pub load_percent: u32,
    pub requests: u64,
    pub mean_ns: f64,
    /// Of all blocks together.
    pub p50_ns: u64,
    pub p99_ns: u64,
    pub p999_ns: u64,
    /// The most requests that one front server had at one replica, and that one replica had in all.
    pub outstanding_seen: u32,
    pub depth_seen: u32,
}

/// `a` ÷ `b` of one metric under one condition.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SimulatedRatio {
    pub a: String,
    pub b: String,
    pub metric: String,
    pub service: Service,
    pub servers: usize,
    pub load_percent: u32,
    pub ratio: Option<f64>,
    pub ci_low: Option<f64>,
    pub ci_high: Option<f64>,
    pub blocks: u32,
    pub verdict: Verdict,
}

/// The largest load at which the 99th percentile keeps to [`OBJECTIVE_MEANS`] mean service times.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Capacity {
    pub name: String,
    pub service: Service,
    pub servers: usize,
    /// The mean over the blocks; 0 where even the smallest load misses.
    pub load_percent: f64,
    /// As a share of the ideal queue's, with its interval.
    pub share_of_ideal: Option<f64>,
    pub ci_low: Option<f64>,
    pub ci_high: Option<f64>,
}

/// The simulated part of a comparison.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Study {
    pub systems: Vec<Simulated>,
    pub ratios: Vec<SimulatedRatio>,
    pub capacities: Vec<Capacity>,
    /// The simulated ideal queue's mean response ÷ Erlang's formula, for exponential service: near 1 if the simulator
    /// is right.
    pub erlang_check: Vec<(usize, u32, f64)>,
}

/// One system on one trace at one load.
#[derive(Clone, Debug, Default)]
struct Measured {
    mean_ns: f64,
    p99_ns: u64,
    p999_ns: u64,
    /// Sorted, without the warm-up.
    responses_ns: Vec<u64>,
    outstanding_seen: u32,
    depth_seen: u32,
}

/// All systems on one block of one condition: the loads' measurements, and the capacity.
struct Block {
    /// By load, then by system.
    at_load: Vec<Vec<Measured>>,
    /// By system.
    capacities: Vec<f64>,
}

/// `None` is the ideal queue.
type System = Option<PolicyName>;

fn system_name(system: System) -> String {
    system.map_or_else(|| IDEAL.to_owned(), |policy| policy.as_str().to_owned())
}

fn cluster(plan: &Plan, policy: PolicyName, servers: usize, seed: u64) -> Cluster {
    Cluster {
        fronts: servers,
        replicas: servers,
        policy,
        credit: plan.credit,
        outstanding_max: OUTSTANDING_MAX,
        handoff_ns: plan.handoff_ns,
        turn_ns: MEAN_SERVICE_NS as u64,
        queue_max: QUEUE_MAX,
        patience_ns: u64::MAX,
        seed,
    }
}

/// The value below which `quantile` of the sorted values lie.
pub fn quantile(sorted: &[u64], quantile: f64) -> u64 {
    let rank = (sorted.len() as f64 * quantile).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or(0)
}

fn measure(plan: &Plan, system: System, arrivals: &[Arrival], servers: usize, seed: u64) -> Measured {
    let (mut responses_ns, outstanding_seen, depth_seen) = match system {
        None => (central_queue(arrivals, servers), 0, 0),
        Some(policy) => {
            let outcome = simulate(&cluster(plan, policy, servers, seed), arrivals);
            assert!(outcome.refused + outcome.expired == 0, "invariant: the queue has room for the whole trace");
            let responses = outcome.responses_ns.into_iter().flatten().collect();
            (responses, outcome.outstanding_seen, outcome.depth_seen)
        }
    };
    responses_ns.drain(..responses_ns.len() / WARM_UP_DIVISOR);
    responses_ns.sort_unstable();
    Measured {
        mean_ns: responses_ns.iter().sum::<u64>() as f64 / responses_ns.len().max(1) as f64,
        p99_ns: quantile(&responses_ns, 0.99),
        p999_ns: quantile(&responses_ns, 0.999),
        responses_ns,
        outstanding_seen,
        depth_seen,
    }
}

/// The largest load that keeps the objective, to a hundredth, by halving; the trace's draws are the same at each load.
fn capacity(plan: &Plan, system: System, trace: &Trace, servers: usize, seed: u64) -> f64 {
    let keeps = |load: f64| {
        let measured = measure(plan, system, &trace.at(load, servers, servers), servers, seed);
        measured.p99_ns as f64 <= OBJECTIVE_MEANS * MEAN_SERVICE_NS
    };
    let (mut low, mut high) = (0.0, 1.0);
    for _ in 0..SEARCH_STEPS {
        let middle = f64::midpoint(low, high);
        if keeps(middle) { low = middle } else { high = middle }
    }
    low
}

fn block(plan: &Plan, systems: &[System], service: Service, servers: usize, number: u32) -> Block {
    let seed = plan.seed.wrapping_add(u64::from(number));
    let trace = Trace::draw(service, plan.requests, seed);
    // The search looks at many loads: a shorter trace is enough for a percentile.
    let search = Trace::draw(service, plan.requests.div_ceil(SEARCH_DIVISOR), seed);
    let at = |percent: &u32| {
        let arrivals = trace.at(f64::from(*percent) / 100.0, servers, servers);
        systems.iter().map(|&system| measure(plan, system, &arrivals, servers, seed)).collect()
    };
    Block {
        at_load: plan.loads_percent.iter().map(at).collect(),
        capacities: systems.iter().map(|&system| capacity(plan, system, &search, servers, seed)).collect(),
    }
}

/// Simulates the whole plan on all cores; `progress` is called after each condition with the part that is done.
///
/// # Errors
/// A signal arrives.
pub fn perform(plan: &Plan, interrupt: &Interrupt, progress: &dyn Fn(usize, usize)) -> Result<Study, Failure> {
    let systems: Vec<System> = std::iter::once(None).chain(plan.policies.iter().copied().map(Some)).collect();
    let conditions: Vec<(Service, usize)> =
        Service::ALL.into_iter().flat_map(|service| plan.sizes.iter().map(move |&size| (service, size))).collect();
    let mut study = Study::default();
    for (done, &(service, servers)) in conditions.iter().enumerate() {
        interrupt.check()?;
        let blocks = in_parallel(plan.blocks, |number| block(plan, &systems, service, servers, number));
        for (index, &load_percent) in plan.loads_percent.iter().enumerate() {
            let at: Vec<&Vec<Measured>> = blocks.iter().map(|block| &block.at_load[index]).collect();
            study.add_load(&systems, service, servers, load_percent, &at);
        }
        study.add_capacities(&systems, service, servers, &blocks);
        progress(done + 1, conditions.len());
    }
    Ok(study)
}

/// Block after block on as many threads as there are cores, the results in the order of the blocks.
fn in_parallel<T: Send>(blocks: u32, work: impl Fn(u32) -> T + Sync) -> Vec<T> {
    let next = AtomicUsize::new(0);
    let count = usize::try_from(blocks).unwrap_or(usize::MAX);
    let results: Mutex<Vec<(usize, T)>> = Mutex::new(Vec::with_capacity(count));
    let cores = thread::available_parallelism().map_or(1, std::num::NonZero::get);
    thread::scope(|scope| {
        for _ in 0..cores.min(count) {
            scope.spawn(|| {
                loop {
                    // ORDERING: Relaxed: only the number itself counts, and every thread gets another one.
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= count {
                        return;
                    }
                    let result = work(u32::try_from(number).expect("invariant: below the number of blocks"));
                    results.lock().unwrap_or_else(PoisonError::into_inner).push((number, result));
                }
            });
        }
    });
    let mut results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
    results.sort_by_key(|(number, _)| *number);
    results.into_iter().map(|(_, result)| result).collect()
}

/// A metric of a measurement. Lower is better of each.
type Metric = (&'static str, fn(&Measured) -> f64);

const METRICS: [Metric; 3] = [
    ("mean_ns", |measured| measured.mean_ns),
    ("p99_ns", |measured| measured.p99_ns as f64),
    ("p999_ns", |measured| measured.p999_ns as f64),
];

impl Study {
    fn add_load(
        &mut self,
        systems: &[System],
        service: Service,
        servers: usize,
        load_percent: u32,
        blocks: &[&Vec<Measured>],
    ) {
        for (index, &system) in systems.iter().enumerate() {
            let own: Vec<&Measured> = blocks.iter().map(|block| &block[index]).collect();
            let mut all: Vec<u64> = own.iter().flat_map(|measured| measured.responses_ns.iter().copied()).collect();
            all.sort_unstable();
            let mean_ns = all.iter().sum::<u64>() as f64 / all.len().max(1) as f64;
            if system.is_none() && service == Service::Exponential {
                let count = u32::try_from(servers).unwrap_or(u32::MAX);
                let expected = erlang_response(count, f64::from(load_percent) / 100.0) * MEAN_SERVICE_NS;
                self.erlang_check.push((servers, load_percent, mean_ns / expected));
            }
            self.systems.push(Simulated {
                name: system_name(system),
                service,
                servers,
                load_percent,
                requests: u64::try_from(all.len()).unwrap_or(u64::MAX),
                mean_ns,
                p50_ns: quantile(&all, 0.5),
                p99_ns: quantile(&all, 0.99),
                p999_ns: quantile(&all, 0.999),
                outstanding_seen: own.iter().map(|measured| measured.outstanding_seen).max().unwrap_or(0),
                depth_seen: own.iter().map(|measured| measured.depth_seen).max().unwrap_or(0),
            });
        }
        // Every policy against the ideal, and the first policy against the others.
        let against_ideal = (1..systems.len()).map(|index| (index, 0));
        let against_first = (2..systems.len()).map(|index| (1, index));
        for (a, b) in against_ideal.chain(against_first) {
            for (metric, of) in METRICS {
                let pairs: Vec<(f64, f64)> = blocks.iter().map(|block| (of(&block[a]), of(&block[b]))).collect();
                let ratio = paired_ratio(&pairs);
                self.ratios.push(SimulatedRatio {
                    a: system_name(systems[a]),
                    b: system_name(systems[b]),
                    metric: metric.to_owned(),
                    service,
                    servers,
                    load_percent,
                    ratio: ratio.map(|ratio| ratio.ratio),
                    ci_low: ratio.map(|ratio| ratio.ci_low),
                    ci_high: ratio.map(|ratio| ratio.ci_high),
                    blocks: u32::try_from(pairs.len()).unwrap_or(u32::MAX),
                    verdict: ratio.map_or(Verdict::Underpowered, |ratio| ratio.verdict(Better::Lower)),
                });
            }
        }
    }

    fn add_capacities(&mut self, systems: &[System], service: Service, servers: usize, blocks: &[Block]) {
        for (index, &system) in systems.iter().enumerate() {
            let pairs: Vec<(f64, f64)> =
                blocks.iter().map(|block| (block.capacities[index], block.capacities[0])).collect();
            let ratio = paired_ratio(&pairs);
            self.capacities.push(Capacity {
                name: system_name(system),
                service,
                servers,
                load_percent: 100.0 * pairs.iter().map(|(own, _)| own).sum::<f64>() / pairs.len().max(1) as f64,
                share_of_ideal: ratio.map(|ratio| ratio.ratio),
                ci_low: ratio.map(|ratio| ratio.ci_low),
                ci_high: ratio.map(|ratio| ratio.ci_high),
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use twintier::dispatch::PolicyName;

    use super::{IDEAL, Plan, perform, quantile};
    use crate::process::Interrupt;

    #[test]
    fn quantiles_are_ranks() {
        let values: Vec<u64> = (1..=100).collect();
        assert_eq!([0.5, 0.99, 0.999, 1.0].map(|q| quantile(&values, q)), [50, 99, 100, 100]);
        assert_eq!(quantile(&[], 0.5), 0);
    }

    /// What queueing theory says must come out: nothing beats the ideal, JBSQ comes near it, and random is far off.
    #[test]
    fn a_small_study_says_what_theory_says() {
        let plan = Plan {
            policies: vec![PolicyName::Jbsq, PolicyName::Random],
            sizes: vec![4],
            loads_percent: vec![80],
            blocks: 3,
            requests: 8_000,
            credit: 2,
            handoff_ns: 0,
            seed: 23,
        };
        let study = perform(&plan, &Interrupt::default(), &|_, _| {}).unwrap();
        assert_eq!(study.systems.len(), 3 * 4);
        assert_eq!(study, perform(&plan, &Interrupt::default(), &|_, _| {}).unwrap(), "the seed decides");
        for ratio in study.ratios.iter().filter(|ratio| ratio.metric == "mean_ns") {
            let found = ratio.ratio.unwrap();
            match (ratio.a.as_str(), ratio.b.as_str()) {
                ("jbsq", IDEAL) => assert!((0.99..2.0).contains(&found), "{ratio:?}, seed 23"),
                ("random", IDEAL) => assert!(found > 1.6, "{ratio:?}, seed 23"),
                ("jbsq", "random") => assert!(found < 0.9, "{ratio:?}, seed 23"),
                other => panic!("{other:?}"),
            }
        }
        // A short trace scatters; `ideal` holds a long one to the formula.
        let (servers, load, check) = study.erlang_check[0];
        assert!((servers, load) == (4, 80) && (0.75..1.35).contains(&check), "{check}, seed 23");
        assert!(study.systems.iter().filter(|system| system.name == "jbsq").all(|system| system.outstanding_seen <= 2));
        let share = |name: &str| {
            let own = study.capacities.iter().filter(|capacity| capacity.name == name);
            own.map(|capacity| capacity.load_percent).sum::<f64>()
        };
        assert!(share(IDEAL) >= share("jbsq") && share("jbsq") > share("random"), "{:?}, seed 23", study.capacities);
    }
}
