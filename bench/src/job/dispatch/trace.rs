//! What arrives: one trace for all policies, with the same arrivals and the same work.

use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{Rng, SeedableRng};
use serde::{Deserialize, Serialize};

/// The mean of every distribution, in nanoseconds: about what a page from a code table costs.
pub const MEAN_SERVICE_NS: f64 = 20_000.0;

/// How long a replica works on a request. Each has the mean [`MEAN_SERVICE_NS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Service {
    /// Always the same.
    Deterministic,
    /// The textbook's.
    Exponential,
    /// One in twenty is a slow handler, which takes ten times as long as the others.
    Bimodal,
    /// Bounded Pareto with index 1.5, from the least to a thousand times as long.
    HeavyTailed,
}

/// The slow handlers' part, and how much longer they take.
const SLOW_SHARE: f64 = 0.05;
const SLOW_FACTOR: f64 = 10.0;
/// The bounded Pareto's index and the longest in units of the shortest.
const PARETO_INDEX: f64 = 1.5;
const PARETO_SPAN: f64 = 1000.0;

impl Service {
    pub const ALL: [Self; 4] = [Self::Deterministic, Self::Exponential, Self::Bimodal, Self::HeavyTailed];

    pub fn name(self) -> &'static str {
        match self {
            Self::Deterministic => "deterministic",
            Self::Exponential => "exponential",
            Self::Bimodal => "bimodal",
            Self::HeavyTailed => "heavy-tailed",
        }
    }

    fn draw(self, random: &mut Xoshiro256PlusPlus) -> f64 {
        let lot = unit(random);
        let multiple = match self {
            Self::Deterministic => 1.0,
            Self::Exponential => -lot.ln(),
            Self::Bimodal => {
                let fast = 1.0 / (1.0 - SLOW_SHARE + SLOW_SHARE * SLOW_FACTOR);
                if lot < SLOW_SHARE { fast * SLOW_FACTOR } else { fast }
            }
            Self::HeavyTailed => {
                let tail = PARETO_SPAN.powf(-PARETO_INDEX);
                let mean =
                    PARETO_INDEX / (PARETO_INDEX - 1.0) * (1.0 - PARETO_SPAN.powf(1.0 - PARETO_INDEX)) / (1.0 - tail);
                (1.0 - (1.0 - lot) * (1.0 - tail)).powf(-1.0 / PARETO_INDEX) / mean
            }
        };
        multiple * MEAN_SERVICE_NS
    }
}

/// Above 0 and at most 1.
fn unit(random: &mut Xoshiro256PlusPlus) -> f64 {
    // 53 bits fill the mantissa.
    ((random.next_u64() >> 11) + 1) as f64 / (1_u64 << 53) as f64
}

/// One request of a trace that is laid out for a load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    pub at_ns: u64,
    pub service_ns: u64,
    pub front: usize,
}

/// Requests before they are laid out in time: the same draws at every load.
#[derive(Clone, Debug)]
pub struct Trace {
    /// Gaps of a Poisson process of rate 1, added up.
    moments: Vec<f64>,
    services_ns: Vec<u64>,
    /// A number that picks the front server, whatever their number.
    lots: Vec<u64>,
}

impl Trace {
    pub fn draw(service: Service, requests: usize, seed: u64) -> Self {
        let mut random = Xoshiro256PlusPlus::seed_from_u64(seed);
        let mut moment = 0.0;
        let (mut moments, mut services_ns, mut lots) =
            (Vec::with_capacity(requests), Vec::with_capacity(requests), Vec::with_capacity(requests));
        for _ in 0..requests {
            moment -= unit(&mut random).ln();
            moments.push(moment);
            // A request takes a nanosecond at least.
            services_ns.push(service.draw(&mut random).max(1.0) as u64);
            lots.push(random.next_u64());
        }
        Self { moments, services_ns, lots }
    }

    /// The trace at `load` of `replicas` servers, its requests spread over `fronts` by lot.
    pub fn at(&self, load: f64, fronts: usize, replicas: usize) -> Vec<Arrival> {
        let gap_ns = MEAN_SERVICE_NS / (load * replicas as f64);
        let fronts = u64::try_from(fronts).expect("invariant: a length fits in 64 bits");
        let arrival = |((&moment, &service_ns), &lot): ((&f64, &u64), &u64)| Arrival {
            at_ns: (moment * gap_ns) as u64,
            service_ns,
            front: usize::try_from(lot % fronts).expect("invariant: smaller than a length"),
        };
        self.moments.iter().zip(&self.services_ns).zip(&self.lots).map(arrival).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::{MEAN_SERVICE_NS, Service, Trace};

    #[test]
    fn every_distribution_has_the_mean() {
        for service in Service::ALL {
            let trace = Trace::draw(service, 400_000, 11);
            let mean = trace.services_ns.iter().sum::<u64>() as f64 / 400_000.0;
            assert!((mean / MEAN_SERVICE_NS - 1.0).abs() < 0.03, "{}: {mean} ns, seed 11", service.name());
        }
    }

    #[test]
    fn a_load_only_stretches_the_time() {
        let trace = Trace::draw(Service::Exponential, 50_000, 3);
        let (half, full) = (trace.at(0.5, 4, 4), trace.at(1.0, 4, 4));
        assert!(half.iter().zip(&full).all(|(a, b)| a.service_ns == b.service_ns && a.front == b.front));
        let last = half.last().unwrap().at_ns as f64;
        assert!((last / full.last().unwrap().at_ns as f64 - 2.0).abs() < 1e-6);
        // 50000 requests of 20 µs at half the capacity of four servers.
        assert!((last / (50_000.0 * MEAN_SERVICE_NS / 2.0) - 1.0).abs() < 0.03, "seed 3");
        let fronts: Vec<usize> = (0..4).map(|front| full.iter().filter(|a| a.front == front).count()).collect();
        assert!(fronts.iter().all(|count| (11_900..13_100).contains(count)), "{fronts:?}, seed 3");
    }
}
