//! What n of JBSQ(n) should be, by hand-off time, and how long the queue should be: small studies of their own.

use serde::{Deserialize, Serialize};
use twintier::dispatch::PolicyName;

use super::ideal::central_queue;
use super::simulation::{Cluster, simulate};
use super::study::quantile;
use super::trace::{MEAN_SERVICE_NS, Service, Trace};

/// Hand-off times one way, in mean service times: from a mesh message between idle cores (a twentieth) to a worker's
/// turn with sixteen requests in it, in the middle of which a message arrives.
const HANDOFFS: [f64; 8] = [0.0, 0.05, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0];
/// The n that are tried.
const CREDITS: [u32; 10] = [1, 2, 3, 4, 6, 8, 12, 16, 24, 32];
/// Servers, load and service of these studies.
const SERVERS: usize = 4;
const LOAD: f64 = 0.8;
const SERVICE: Service = Service::Bimodal;
/// A best n within this of the least 99th percentile is as good; of those the smallest is recommended.
const AS_GOOD: f64 = 1.03;
/// Overload, and the patience of a waiting request in mean service times.
const OVERLOAD: f64 = 1.2;
const PATIENCE_MEANS: f64 = 500.0;
const QUEUES: [usize; 6] = [16, 64, 256, 512, 1024, 4096];

/// One hand-off time with every n.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CreditRow {
    pub handoff_ns: u64,
    /// The smallest n whose 99th percentile is within 3 % of the least one.
    pub recommended: u32,
    /// n with the mean and the 99th percentile, both ÷ those of the ideal queue.
    pub by_credit: Vec<(u32, f64, f64)>,
}

/// One length of the queue under overload.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct QueueRow {
    pub queue_max: usize,
    /// Parts of the requests that were served, refused at the full queue, and expired in it.
    pub served: f64,
    pub refused: f64,
    pub expired: f64,
    /// The 99th percentile of the served ones, in nanoseconds.
    pub p99_ns: u64,
}

/// Both tables.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Sizing {
    pub credits: Vec<CreditRow>,
    pub queues: Vec<QueueRow>,
}

fn cluster(credit: u32, handoff_ns: u64, seed: u64) -> Cluster {
    Cluster {
        fronts: SERVERS,
        replicas: SERVERS,
        policy: PolicyName::Jbsq,
        credit,
        outstanding_max: 1,
        handoff_ns,
        turn_ns: MEAN_SERVICE_NS as u64,
        queue_max: 1 << 17,
        patience_ns: u64::MAX,
        seed,
    }
}

/// Mean and 99th percentile without the first tenth.
fn figures(mut responses_ns: Vec<u64>) -> (f64, f64) {
    responses_ns.drain(..responses_ns.len() / 10);
    responses_ns.sort_unstable();
    let mean = responses_ns.iter().sum::<u64>() as f64 / responses_ns.len().max(1) as f64;
    (mean, quantile(&responses_ns, 0.99) as f64)
}

/// Both studies, on one trace of `requests`.
pub fn perform(requests: usize, seed: u64) -> Sizing {
    let trace = Trace::draw(SERVICE, requests, seed);
    let arrivals = trace.at(LOAD, SERVERS, SERVERS);
    let ideal = figures(central_queue(&arrivals, SERVERS));
    let credits = HANDOFFS.map(|means| {
        let handoff_ns = (means * MEAN_SERVICE_NS) as u64;
        let by_credit: Vec<(u32, f64, f64)> = CREDITS
            .map(|credit| {
                let outcome = simulate(&cluster(credit, handoff_ns, seed), &arrivals);
                let (mean, p99) = figures(outcome.responses_ns.into_iter().flatten().collect());
                (credit, mean / ideal.0, p99 / ideal.1)
            })
            .to_vec();
        let least = by_credit.iter().map(|(_, _, p99)| *p99).fold(f64::INFINITY, f64::min);
        let recommended =
            by_credit.iter().find(|(_, _, p99)| *p99 <= least * AS_GOOD).map_or(1, |(credit, ..)| *credit);
        CreditRow { handoff_ns, recommended, by_credit }
    });
    let overload = trace.at(OVERLOAD, SERVERS, SERVERS);
    let queues = QUEUES.map(|queue_max| {
        let patience_ns = (PATIENCE_MEANS * MEAN_SERVICE_NS) as u64;
        let cluster = Cluster { queue_max, patience_ns, ..cluster(2, MEAN_SERVICE_NS as u64 / 20, seed) };
        let outcome = simulate(&cluster, &overload);
        let part = |count: u64| count as f64 / requests.max(1) as f64;
        let served: Vec<u64> = outcome.responses_ns.into_iter().flatten().collect();
        QueueRow {
            queue_max,
            served: part(u64::try_from(served.len()).unwrap_or(u64::MAX)),
            refused: part(outcome.refused),
            expired: part(outcome.expired),
            p99_ns: figures(served).1 as u64,
        }
    });
    Sizing { credits: credits.to_vec(), queues: queues.to_vec() }
}

#[cfg(test)]
mod tests {
    use super::perform;

    /// A longer hand-off wants a larger n, and a longer queue makes served requests wait longer and serves hardly
    /// more: what it holds when the trace ends.
    #[test]
    fn sizes_follow_hand_off_and_patience() {
        let sizing = perform(40_000, 31);
        let recommended: Vec<u32> = sizing.credits.iter().map(|row| row.recommended).collect();
        assert!(recommended.first() <= recommended.last(), "{recommended:?}, seed 31");
        assert!(recommended[0] <= 3, "without a hand-off nothing is to be hidden: {recommended:?}, seed 31");
        let (short, long) = (&sizing.queues[0], &sizing.queues[5]);
        assert!(short.p99_ns < long.p99_ns && short.refused > 0.0 && short.expired == 0.0, "{sizing:?}, seed 31");
        assert!(long.expired > 0.0 && (short.served - long.served).abs() < 0.1, "{sizing:?}, seed 31");
    }
}
