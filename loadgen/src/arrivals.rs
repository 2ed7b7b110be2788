//! The arrival process: when each request is due, as nanoseconds after the start.
//!
//! Architecture invariant: offsets depend on the rate, the process and the seed alone. No clock is read here and no
//! completion is known here, so a slow server cannot thin out what is offered to it.

use std::fmt;
use std::str::FromStr;

use clap::ValueEnum;
use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{Rng, SeedableRng};

/// How arrivals follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Process {
    /// Equal gaps; arrival k is due at exactly k / rate.
    Constant,
    /// Independent exponential gaps: many users who know nothing of each other.
    Poisson,
}

/// Arrivals a second, held in millionths so that the constant plan is exact integer arithmetic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rate {
    micro_per_s: u64,
}

impl Rate {
    /// The highest rate: one arrival every hundred nanoseconds, more than a core can send.
    pub const PER_S_MAX: f64 = 1e7;

    pub fn per_s(self) -> f64 {
        // At most 1e13 millionths: exact in an f64.
        self.micro_per_s as f64 / 1e6
    }
}

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "`{text}` is no rate: write arrivals a second above 0 and up to {}, such as 5000 or 0.5",
                Self::PER_S_MAX
            )
        };
        let per_s: f64 = text.parse().map_err(|_| wrong())?;
        if !(per_s > 0.0 && per_s <= Self::PER_S_MAX) {
            return Err(wrong());
        }
        // The bounds were checked: a positive number below 2^53.
        let micro_per_s = (per_s * 1e6).round() as u64;
        if micro_per_s == 0 { Err(wrong()) } else { Ok(Self { micro_per_s }) }
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}", self.per_s())
    }
}

/// An endless series of offsets, never decreasing.
#[derive(Clone, Debug)]
pub enum Arrivals {
    Constant(ConstantGaps),
    Poisson(PoissonGaps),
}

impl Arrivals {
    /// The same arguments give the same series on every machine.
    pub fn new(process: Process, rate: Rate, seed: u64) -> Self {
        match process {
            Process::Constant => Self::Constant(ConstantGaps::new(rate)),
            Process::Poisson => Self::Poisson(PoissonGaps::new(rate, seed)),
        }
    }

    /// Nanoseconds after the start at which the next request is due.
    pub fn next_offset_ns(&mut self) -> u64 {
        match self {
            Self::Constant(gaps) => gaps.next_offset_ns(),
            Self::Poisson(gaps) => gaps.next_offset_ns(),
        }
    }
}

/// Micro-arrivals a second times nanoseconds: one arrival is due each time this many have passed.
const MICRO_NS_PER_S: u64 = 1_000_000_000_000_000;

/// Offsets `k * 1e9 / rate`, rounded down, without drift: the remainder is carried as an integer.
#[derive(Clone, Debug)]
pub struct ConstantGaps {
    offset_ns: u64,
    remainder: u64,
    gap_ns: u64,
    gap_remainder: u64,
    micro_per_s: u64,
}

impl ConstantGaps {
    fn new(rate: Rate) -> Self {
        let micro_per_s = rate.micro_per_s;
        Self {
            offset_ns: 0,
            remainder: 0,
            gap_ns: MICRO_NS_PER_S / micro_per_s,
            gap_remainder: MICRO_NS_PER_S % micro_per_s,
            micro_per_s,
        }
    }

    fn next_offset_ns(&mut self) -> u64 {
        let due_ns = self.offset_ns;
        self.offset_ns += self.gap_ns;
        self.remainder += self.gap_remainder;
        if self.remainder >= self.micro_per_s {
            self.remainder -= self.micro_per_s;
            self.offset_ns += 1;
        }
        due_ns
    }
}

/// Offsets of a Poisson process. The whole nanoseconds are an integer and only the fraction is a float, so precision
/// does not fade in long runs.
#[derive(Clone, Debug)]
pub struct PoissonGaps {
    offset_ns: u64,
    fraction_ns: f64,
    gap_mean_ns: f64,
    random: Xoshiro256PlusPlus,
}

impl PoissonGaps {
    fn new(rate: Rate, seed: u64) -> Self {
        Self {
            offset_ns: 0,
            fraction_ns: 0.0,
            gap_mean_ns: 1e9 / rate.per_s(),
            random: Xoshiro256PlusPlus::seed_from_u64(seed),
        }
    }

    fn next_offset_ns(&mut self) -> u64 {
        let gap_ns = exponential(&mut self.random) * self.gap_mean_ns + self.fraction_ns;
        let whole_ns = gap_ns.floor();
        self.fraction_ns = gap_ns - whole_ns;
        // At most 37 mean gaps of 1e15 ns each: far below 2^63.
        self.offset_ns += whole_ns as u64;
        self.offset_ns
    }
}

/// An exponential variate of mean 1.
pub fn exponential(random: &mut Xoshiro256PlusPlus) -> f64 {
    -unit(random).ln()
}

/// A uniform variate in (0, 1].
pub fn unit(random: &mut Xoshiro256PlusPlus) -> f64 {
    // 53 random bits are exact in an f64; the +1 keeps the logarithm finite.
    ((random.next_u64() >> 11) + 1) as f64 / (1_u64 << 53) as f64
}

/// A uniform number below `bound`, which is not 0.
pub fn below(random: &mut Xoshiro256PlusPlus, bound: u64) -> u64 {
    // The high half of the product lies below `bound`.
    u64::try_from((u128::from(random.next_u64()) * u128::from(bound)) >> 64).expect("invariant: below the bound")
}

/// A uniform index below `count`, which is not 0.
pub fn index_below(random: &mut Xoshiro256PlusPlus, count: usize) -> usize {
    let bound = u64::try_from(count).expect("invariant: a usize fits");
    usize::try_from(below(random, bound)).expect("invariant: below a usize")
}

#[cfg(test)]
mod tests {
    use super::{Arrivals, Process, Rate};

    fn offsets(process: Process, rate: &str, seed: u64, count: usize) -> Vec<u64> {
        let mut arrivals = Arrivals::new(process, rate.parse().unwrap(), seed);
        (0..count).map(|_| arrivals.next_offset_ns()).collect()
    }

    #[test]
    fn constant_offsets_are_exact_and_do_not_drift() {
        for rate in ["1000", "3", "0.7", "1234.567891", "9999999"] {
            let micro: u128 = format!("{:.6}", rate.parse::<f64>().unwrap()).replace('.', "").parse().unwrap();
            for (k, offset) in offsets(Process::Constant, rate, 1, 200_000).into_iter().enumerate() {
                assert_eq!(u128::from(offset), k as u128 * 1_000_000_000_000_000 / micro, "rate {rate}, arrival {k}");
            }
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_plan_and_another_seed_another() {
        let plan = |seed| offsets(Process::Poisson, "5000", seed, 10_000);
        assert_eq!(plan(7), plan(7));
        assert_ne!(plan(7), plan(8));
        assert!(plan(7).windows(2).all(|pair| pair[0] <= pair[1]));
    }

    #[test]
    fn poisson_gaps_have_the_right_mean_and_dispersion() {
        const COUNT: usize = 40_000;
        for seed in 0..20 {
            let plan = offsets(Process::Poisson, "4000", seed, COUNT);
            let mean_ns = *plan.last().unwrap() as f64 / COUNT as f64;
            let sigma_ns = 250_000.0 / (COUNT as f64).sqrt();
            assert!((mean_ns - 250_000.0).abs() < 4.0 * sigma_ns, "seed {seed}: mean gap {mean_ns}");
            // Variance over mean of the counts in 10 ms bins is 1 with a deviation of sqrt(2 / bins).
            let bins = usize::try_from(plan.last().unwrap() / 10_000_000).unwrap();
            let mut counts = vec![0.0_f64; bins];
            for offset in &plan {
                if let Some(count) = counts.get_mut(usize::try_from(offset / 10_000_000).unwrap()) {
                    *count += 1.0;
                }
            }
            let mean = counts.iter().sum::<f64>() / bins as f64;
            let variance = counts.iter().map(|count| (count - mean).powi(2)).sum::<f64>() / (bins - 1) as f64;
            let deviation = (2.0 / bins as f64).sqrt();
            assert!((variance / mean - 1.0).abs() < 4.0 * deviation, "seed {seed}: dispersion {}", variance / mean);
        }
    }

    /// Kolmogorov-Smirnov against the exponential distribution: with 100 seeds at the 1 % level, at least 95 pass.
    #[test]
    fn poisson_gaps_are_exponential() {
        const COUNT: usize = 5_000;
        let critical = 1.628 / (COUNT as f64).sqrt();
        let passed = (0..100)
            .filter(|&seed| {
                let plan = offsets(Process::Poisson, "1000", seed, COUNT);
                let mut gaps: Vec<u64> =
                    std::iter::once(plan[0]).chain(plan.windows(2).map(|pair| pair[1] - pair[0])).collect();
                gaps.sort_unstable();
                let distance = gaps.iter().enumerate().fold(0.0_f64, |worst, (rank, &gap)| {
                    let expected = 1.0 - (-(gap as f64) / 1e6).exp();
                    let (below, above) = (rank as f64 / COUNT as f64, (rank + 1) as f64 / COUNT as f64);
                    worst.max((expected - below).abs()).max((above - expected).abs())
                });
                distance < critical
            })
            .count();
        assert!(passed >= 95, "only {passed} of 100 seeds look exponential");
    }

    #[test]
    fn rates_that_make_no_sense_are_refused() {
        for text in ["0", "-1", "nan", "inf", "1e8", "fast", "", "0.0000001"] {
            assert!(text.parse::<Rate>().is_err(), "{text}");
        }
    }
}
