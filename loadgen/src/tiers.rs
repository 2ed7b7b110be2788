//! What the slow requests are made of, by the server's own account: `Server-Timing` of each answer beside our stamps.
//!
//! ```text
//!   response = client queue + generator lag + [ tier + tier + … + the rest: network, kernel, whatever has no name ]
//!                                             └──────────────── service ────────────────┘
//! ```
//! Quantiles of each part say nothing about the sum's: the p99 of a part comes from other requests than the p99 of the
//! whole. So the parts are summed by the response time that they belong to, in buckets of 4.4 %, and at the end those
//! from the bucket of the p99 on are what the slow requests had in the mean. Everything is of a size that is known at
//! the start.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::recorder::{Stamps, histogram};
use crate::summary::Quantiles;

/// Names that are told apart; durations under further ones are part of the rest.
pub const NAMES_MAX: usize = 8;
const NAME_BYTES_MAX: usize = 32;
/// Slowest requests that are kept.
const EXEMPLARS: usize = 20;
/// Buckets of a factor of two.
const STEPS: u64 = 16;
const BUCKETS: usize = 64 * 16;

/// The durations of one answer, by the index of their names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Durations([Option<u64>; NAMES_MAX]);

/// Names in the order in which they were first seen.
#[derive(Debug, Default)]
pub struct Names {
    names: Vec<String>,
    /// Durations under names beyond the bound.
    pub unnamed: u64,
}

impl Names {
    /// Takes a `Server-Timing` field; a name that comes again adds to its duration.
    pub fn read(&mut self, value: &[u8], durations: &mut Durations) {
        let Ok(value) = std::str::from_utf8(value) else { return };
        for metric in value.split(',') {
            let mut words = metric.split(';').map(str::trim);
            let name = words.next().unwrap_or_default();
            let duration = words.find_map(|word| word.strip_prefix("dur=")?.trim_matches('"').parse::<f64>().ok());
            // Milliseconds with a fraction, up to an hour; what is no such time is no part of an answer.
            let Some(ms) = duration.filter(|ms| (0.0..=3.6e6).contains(ms)) else { continue };
            match self.index(name) {
                Some(index) => *durations.0[index].get_or_insert(0) += (ms * 1e6).round() as u64,
                None => self.unnamed += 1,
            }
        }
    }

    fn index(&mut self, name: &str) -> Option<usize> {
        if let Some(index) = self.names.iter().position(|known| known == name) {
            return Some(index);
        }
        if self.names.len() == NAMES_MAX || name.is_empty() || name.len() > NAME_BYTES_MAX {
            return None;
        }
        // At most eight times a run.
        self.names.push(name.to_owned());
        Some(self.names.len() - 1)
    }
}

/// A request with its parts, in nanoseconds.
#[derive(Clone, Copy, Debug, Default)]
struct Slow {
    planned_ns: u64,
    connection: u32,
    status: u16,
    parts: Parts,
    first_byte_ns: u64,
    durations: Durations,
}

#[derive(Clone, Copy, Debug, Default)]
struct Parts {
    response_ns: u64,
    queue_ns: u64,
    lag_ns: u64,
    service_ns: u64,
}

/// Sums of the requests of one range of response times.
#[derive(Clone, Copy, Debug, Default)]
struct Bucket {
    requests: u64,
    parts: Parts,
    tiers_ns: [u64; NAMES_MAX],
}

/// What a run gathers.
#[derive(Debug)]
pub struct Tiers {
    pub names: Names,
    histograms: Vec<Histogram<u64>>,
    response: Histogram<u64>,
    buckets: Vec<Bucket>,
    /// Unordered; the fastest of them is replaced.
    slowest: Vec<Slow>,
    threshold_ns: u64,
}

impl Tiers {
    pub fn new() -> Self {
        Self {
            names: Names { names: Vec::with_capacity(NAMES_MAX), unnamed: 0 },
            histograms: (0..NAMES_MAX).map(|_| histogram()).collect(),
            response: histogram(),
            buckets: vec![Bucket::default(); BUCKETS],
            slowest: Vec::with_capacity(EXEMPLARS),
            threshold_ns: 0,
        }
    }

    /// A completed request of the measured cohort that ended at `end_ns`.
    pub fn record(&mut self, stamps: &Stamps, end_ns: u64, connection: u32, status: u16, durations: &Durations) {
        let Stamps { planned_ns, noticed_ns, free_ns, submitted_ns, first_byte_ns } = *stamps;
        let parts = Parts {
            response_ns: end_ns.saturating_sub(planned_ns),
            queue_ns: free_ns.saturating_sub(noticed_ns),
            lag_ns: noticed_ns.saturating_sub(planned_ns) + submitted_ns.saturating_sub(free_ns),
            service_ns: end_ns.saturating_sub(submitted_ns),
        };
        for (histogram, duration) in self.histograms.iter_mut().zip(durations.0) {
            if let Some(duration_ns) = duration {
                histogram.saturating_record(duration_ns);
            }
        }
        self.response.saturating_record(parts.response_ns);
        self.buckets[bucket_of(parts.response_ns)].add(&parts, durations);
        if parts.response_ns > self.threshold_ns {
            let first_byte_ns = first_byte_ns.saturating_sub(submitted_ns);
            self.keep(Slow { planned_ns, connection, status, parts, first_byte_ns, durations: *durations });
        }
    }

    fn keep(&mut self, slow: Slow) {
        if self.slowest.len() < EXEMPLARS {
            self.slowest.push(slow);
        } else if let Some(fastest) = self.slowest.iter_mut().min_by_key(|kept| kept.parts.response_ns) {
            *fastest = slow;
        }
        if self.slowest.len() == EXEMPLARS {
            self.threshold_ns = self.slowest.iter().map(|kept| kept.parts.response_ns).min().unwrap_or(0);
        }
    }

    /// What is told of it; planned times count from `measure_ns`.
    pub fn report(mut self, measure_ns: u64) -> TierReport {
        self.slowest.sort_by_key(|slow| std::cmp::Reverse(slow.parts.response_ns));
        let names = &self.names.names;
        let by_name = |durations: &Durations| {
            names.iter().zip(durations.0).filter_map(|(name, ns)| Some((name.clone(), ns?))).collect()
        };
        TierReport {
            service_by_tier_ns: names.iter().cloned().zip(self.histograms.iter().map(Quantiles::of)).collect(),
            slow: self.slow(),
            exemplars: self
                .slowest
                .iter()
                .map(|slow| Exemplar {
                    planned_s: slow.planned_ns.saturating_sub(measure_ns) as f64 / 1e9,
                    connection: u64::from(slow.connection),
                    status: u64::from(slow.status),
                    response_ns: slow.parts.response_ns,
                    client_queue_ns: slow.parts.queue_ns,
                    generator_lag_ns: slow.parts.lag_ns,
                    service_ns: slow.parts.service_ns,
                    first_byte_ns: slow.first_byte_ns,
                    by_tier_ns: by_name(&slow.durations),
                })
                .collect(),
        }
    }

    /// The requests from the bucket of the p99 on.
    fn slow(&self) -> Option<SlowRequests> {
        if self.response.is_empty() {
            return None;
        }
        let first = bucket_of(self.response.value_at_quantile(0.99));
        let mut sum = Bucket::default();
        for bucket in &self.buckets[first..] {
            sum.merge(bucket);
        }
        // Sums of nanoseconds of one run.
        let mean = |ns: u64| (ns as f64 / sum.requests.max(1) as f64).round() as u64;
        let tiers = sum.tiers_ns.map(mean);
        let mut parts_ns: BTreeMap<String, u64> = self.names.names.iter().cloned().zip(tiers).collect();
        let named: u64 = tiers.iter().sum();
        parts_ns.insert("client queue".into(), mean(sum.parts.queue_ns));
        parts_ns.insert("generator lag".into(), mean(sum.parts.lag_ns));
        parts_ns.insert("rest of service".into(), mean(sum.parts.service_ns).saturating_sub(named));
        let response_ns = mean(sum.parts.response_ns);
        Some(SlowRequests { from_ns: floor_of(first), requests: sum.requests, response_ns, parts_ns })
    }
}

impl Bucket {
    fn add(&mut self, parts: &Parts, durations: &Durations) {
        let tiers_ns = durations.0.map(|duration| duration.unwrap_or(0));
        self.merge(&Self { requests: 1, parts: *parts, tiers_ns });
    }

    fn merge(&mut self, other: &Self) {
        self.requests += other.requests;
        self.parts.response_ns += other.parts.response_ns;
        self.parts.queue_ns += other.parts.queue_ns;
        self.parts.lag_ns += other.parts.lag_ns;
        self.parts.service_ns += other.parts.service_ns;
        for (sum, ns) in self.tiers_ns.iter_mut().zip(other.tiers_ns) {
            *sum += ns;
        }
    }
}

/// Sixteen buckets for each power of two; below sixteen nanoseconds one a nanosecond.
fn bucket_of(ns: u64) -> usize {
    let power = u64::from(ns.max(STEPS).ilog2());
    let step = if ns < STEPS { ns } else { (ns >> (power - 4)) - STEPS };
    usize::try_from((power - 4) * STEPS + step + if ns < STEPS { 0 } else { STEPS }).unwrap_or(0).min(BUCKETS - 1)
}

/// The lowest value of a bucket.
fn floor_of(bucket: usize) -> u64 {
    let bucket = u64::try_from(bucket).expect("invariant: an index fits");
    match bucket.checked_sub(STEPS) {
        None => bucket,
        Some(above) => (STEPS + above % STEPS) << (above / STEPS),
    }
}

/// The three fields of a summary.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TierReport {
    pub service_by_tier_ns: BTreeMap<String, Quantiles>,
    pub slow: Option<SlowRequests>,
    pub exemplars: Vec<Exemplar>,
}

/// The mean of the slowest requests, and of what they are made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SlowRequests {
    /// Their least response time: the lower end of the p99's bucket.
    pub from_ns: u64,
    pub requests: u64,
    pub response_ns: u64,
    pub parts_ns: BTreeMap<String, u64>,
}

/// One of the slowest requests.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Exemplar {
    pub planned_s: f64,
    pub connection: u64,
    pub status: u64,
    pub response_ns: u64,
    pub client_queue_ns: u64,
    pub generator_lag_ns: u64,
    pub service_ns: u64,
    pub first_byte_ns: u64,
    pub by_tier_ns: BTreeMap<String, u64>,
}

#[cfg(test)]
mod tests {
    use super::{BUCKETS, Durations, EXEMPLARS, Names, Tiers, bucket_of, floor_of};
    use crate::recorder::Stamps;

    #[test]
    fn a_field_is_read_as_rfc_and_browsers_do() {
        let (mut names, mut durations) = (Names::default(), Durations::default());
        names.read(
            b"queue;dur=0.25, dispatch;desc=\"two\";dur=1.5 , service;dur=\"3\", cache, bad;dur=x",
            &mut durations,
        );
        names.read(b"queue;dur=0.05, service;dur=-1, service;dur=1e300, service;dur=NaN", &mut durations);
        assert_eq!(names.names, ["queue", "dispatch", "service"]);
        assert_eq!(&durations.0[..4], [Some(300_000), Some(1_500_000), Some(3_000_000), None]);
        for number in 0..20 {
            names.read(format!("n{number};dur=1").as_bytes(), &mut Durations::default());
        }
        assert_eq!((names.names.len(), names.unnamed), (8, 15), "a bounded number of names");
    }

    #[test]
    fn buckets_follow_each_other_and_are_narrow() {
        for power in 4..60 {
            for ns in [(1 << power) - 1, 1 << power, (1 << power) + 1, 3 << (power - 1)] {
                let bucket = bucket_of(ns);
                assert!(bucket < BUCKETS && floor_of(bucket) <= ns && ns < floor_of(bucket + 1), "{ns}: {bucket}");
                assert!(floor_of(bucket + 1) as f64 <= floor_of(bucket) as f64 * 1.0626 + 1.0, "{ns}");
            }
        }
    }

    /// Two percent of the requests are slow because of one tier, which is fast in the others.
    #[test]
    fn the_slow_requests_say_what_they_are_made_of() {
        let mut tiers = Tiers::new();
        let stamps = |planned_ns: u64| Stamps {
            planned_ns,
            noticed_ns: planned_ns + 10,
            free_ns: planned_ns + 30,
            submitted_ns: planned_ns + 40,
            first_byte_ns: planned_ns + 100,
        };
        for number in 0..10_000_u64 {
            let slow = number % 50 == 49;
            let (storage_ns, service_ns) = if slow { (9_000_000, 10_000_000) } else { (100_000, 1_000_000) };
            let mut durations = Durations::default();
            let field = format!("front;dur=0.5, storage;dur={}", storage_ns as f64 / 1e6);
            tiers.names.read(field.as_bytes(), &mut durations);
            let planned_ns = 1_000 + number;
            tiers.record(&stamps(planned_ns), planned_ns + 40 + service_ns + number, 3, 200, &durations);
        }
        let report = tiers.report(1_000);
        assert_eq!(report.service_by_tier_ns["storage"].count, 10_000);
        assert!(report.service_by_tier_ns["front"].p99.unwrap() < 600_000);
        let slow = report.slow.unwrap();
        assert_eq!(slow.requests, 200, "all of the two percent, from {} ns on", slow.from_ns);
        assert!(slow.from_ns <= 10_000_000 && slow.from_ns > 9_000_000);
        assert_eq!((slow.parts_ns["storage"], slow.parts_ns["front"]), (9_000_000, 500_000));
        assert_eq!((slow.parts_ns["client queue"], slow.parts_ns["generator lag"]), (20, 20));
        assert_eq!(slow.parts_ns.values().sum::<u64>(), slow.response_ns, "the parts are the whole");
        assert_eq!(report.exemplars.len(), EXEMPLARS);
        assert!(report.exemplars.windows(2).all(|pair| pair[0].response_ns >= pair[1].response_ns));
        let first = &report.exemplars[0];
        assert_eq!((first.response_ns, first.by_tier_ns["storage"]), (10_000_040 + 9_999, 9_000_000));
        assert_eq!((first.connection, first.status, first.planned_s), (3, 200, 9_999.0 / 1e9));
    }
}
