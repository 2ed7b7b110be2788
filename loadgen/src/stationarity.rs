//! Whether a run measured one state of the system or two: a cache that warms, a leak, a neighbour that came.
//!
//! Each second of the measured window is a block with a mean response time. The window is cut in two where its parts
//! differ most, by the pooled t-statistic of the logarithms of the blocks' means; the same again with each block's p99.
//! A run is not stationary if the 99.99 % interval of either ratio excludes 1 by more than a tenth. The interval is that
//! wide because the best of many cuts was chosen and because neighbouring seconds are not independent; the tenth keeps
//! a very quiet machine from crying over nothing. A single slow second is no second state.

use std::fmt;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// Blocks at least, for an interval to mean anything.
const BLOCKS_MIN: usize = 8;
/// Blocks that are kept; when there are more, neighbours become one.
const BLOCKS_MAX: usize = 1024;
/// Samples of a block at least, for its p99 to be one.
const SAMPLES_MIN: u64 = 100;
/// Blocks of a part at least.
const PART_BLOCKS_MIN: usize = 3;
/// By how much the parts must differ beyond doubt.
const FACTOR: f64 = 1.1;
/// The quantile of the normal distribution behind a 99.99 % interval.
const Z: f64 = 3.890_592;

/// What the comparison says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Finding {
    Stationary,
    NotStationary,
    /// Fewer than eight seconds with responses.
    #[default]
    TooShort,
}

/// The comparison of the window's parts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Stationarity {
    pub finding: Finding,
    /// Blocks that were compared.
    pub blocks: u64,
    /// Of the blocks' means.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub mean: Option<Change>,
    /// Of their p99; absent if blocks have fewer than a hundred responses.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub p99: Option<Change>,
}

/// The cut at which the two parts of a window differ most.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Change {
    /// Blocks before the cut, as a share of all.
    pub at_share: f64,
    /// Behind the cut to before it, with a 99.99 % interval.
    pub ratio: f64,
    pub ci_low: f64,
    pub ci_high: f64,
}

impl Change {
    /// Whether the interval lies beyond what may be.
    pub fn is_certain(&self) -> bool {
        self.ci_low > FACTOR || self.ci_high < 1.0 / FACTOR
    }
}

impl fmt::Display for Change {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { at_share, ratio, ci_low, ci_high } = self;
        let percent = at_share * 100.0;
        write!(out, "is {ratio:.2} ({ci_low:.2} to {ci_high:.2}) times as long behind {percent:.0} % of the window")
    }
}

/// A second of the window, or some.
#[derive(Clone, Copy, Debug)]
struct Block {
    mean_ns: f64,
    p99_ns: f64,
    samples: u64,
}

/// The blocks of a run, in a bounded number.
#[derive(Debug)]
pub struct Blocks {
    blocks: Vec<Block>,
    /// The block that is being made of `per_block` seconds.
    open: Option<(Block, u64)>,
    per_block: u64,
}

impl Blocks {
    pub fn new() -> Self {
        Self { blocks: Vec::new(), open: None, per_block: 1 }
    }

    /// Adds a second of the measured window. One without responses is none: a stall shows in the next.
    pub fn add(&mut self, response: &Histogram<u64>) {
        if response.is_empty() {
            return;
        }
        let second = Block {
            mean_ns: response.mean().max(1.0),
            p99_ns: response.value_at_quantile(0.99).max(1) as f64,
            samples: response.len(),
        };
        let (block, seconds) = match self.open.take() {
            None => (second, 1),
            Some((block, seconds)) => (block.with(second), seconds + 1),
        };
        if seconds < self.per_block {
            self.open = Some((block, seconds));
            return;
        }
        self.blocks.push(block);
        if self.blocks.len() == BLOCKS_MAX {
            self.blocks = self.blocks.chunks(2).map(|pair| pair[0].with(pair[pair.len() - 1])).collect();
            self.per_block *= 2;
        }
    }

    /// Compares what lies before and behind the sharpest cut.
    pub fn compare(&self) -> Stationarity {
        let blocks = u64::try_from(self.blocks.len()).unwrap_or(u64::MAX);
        if self.blocks.len() < BLOCKS_MIN {
            return Stationarity { blocks, ..Stationarity::default() };
        }
        let change =
            |of: fn(&Block) -> f64| sharpest(&self.blocks.iter().map(|block| of(block).ln()).collect::<Vec<_>>());
        let mean = change(|block| block.mean_ns);
        let supported = self.blocks.iter().all(|block| block.samples >= SAMPLES_MIN);
        let p99 = supported.then(|| change(|block| block.p99_ns)).flatten();
        let finding = match mean.iter().chain(&p99).any(Change::is_certain) {
            true => Finding::NotStationary,
            false => Finding::Stationary,
        };
        Stationarity { finding, blocks, mean, p99 }
    }
}

impl Block {
    fn with(self, other: Self) -> Self {
        let samples = self.samples + other.samples;
        let share = other.samples as f64 / samples.max(1) as f64;
        let between = |one: f64, two: f64| one + (two - one) * share;
        Self { mean_ns: between(self.mean_ns, other.mean_ns), p99_ns: between(self.p99_ns, other.p99_ns), samples }
    }
}

/// The cut with the greatest t-statistic; of logarithms, so that differences are ratios.
fn sharpest(logs: &[f64]) -> Option<Change> {
    let count = logs.len() as f64;
    let (sum, squares) = logs.iter().fold((0.0, 0.0), |(sum, squares), log| (sum + log, squares + log * log));
    let critical = student_t(count - 2.0);
    let (mut before, mut best): (f64, Option<(f64, Change)>) = (0.0, None);
    for (place, log) in (1..=logs.len() - PART_BLOCKS_MIN).zip(logs) {
        before += log;
        if place < PART_BLOCKS_MIN {
            continue;
        }
        let (first, second) = (place as f64, count - place as f64);
        let (mean_1, mean_2) = (before / first, (sum - before) / second);
        let within = (squares - first * mean_1 * mean_1 - second * mean_2 * mean_2).max(0.0);
        let error = (within / (count - 2.0) * (1.0 / first + 1.0 / second)).sqrt();
        let difference = mean_2 - mean_1;
        // The smallest error keeps the order of cuts defined when the blocks of each part are all alike.
        let statistic = difference.abs() / error.max(1e-12);
        if best.is_none_or(|(known, _)| statistic > known) {
            let half = critical * error;
            let change = Change {
                at_share: first / count,
                ratio: difference.exp(),
                ci_low: (difference - half).exp(),
                ci_high: (difference + half).exp(),
            };
            best = Some((statistic, change));
        }
    }
    best.map(|(_, change)| change)
}

/// The 99.995 % quantile of Student's distribution, by the Cornish-Fisher expansion around the normal one (Abramowitz
/// and Stegun 26.7.5): within 1 % from six degrees of freedom on.
fn student_t(freedom: f64) -> f64 {
    let [z3, z5, z7, z9] = [3, 5, 7, 9].map(|power| Z.powi(power));
    let terms = [
        (z3 + Z) / 4.0,
        (5.0 * z5 + 16.0 * z3 + 3.0 * Z) / 96.0,
        (3.0 * z7 + 19.0 * z5 + 17.0 * z3 - 15.0 * Z) / 384.0,
        (79.0 * z9 + 776.0 * z7 + 1482.0 * z5 - 1920.0 * z3 - 945.0 * Z) / 92_160.0,
    ];
    terms.iter().rev().fold(0.0, |sum, term| (sum + term) / freedom) + Z
}

#[cfg(test)]
mod tests {
    use rand_xoshiro::Xoshiro256PlusPlus;
    use rand_xoshiro::rand_core::{Rng, SeedableRng};

    use super::{Block, Blocks, Finding, student_t};
    use crate::recorder::histogram;

    fn blocks(seconds: impl Iterator<Item = f64>) -> Blocks {
        let mut blocks = Blocks::new();
        blocks.blocks = seconds.map(|mean_ns| Block { mean_ns, p99_ns: mean_ns * 3.0, samples: 1000 }).collect();
        blocks
    }

    /// About normal: the sum of twelve uniform numbers less six.
    fn normal(random: &mut Xoshiro256PlusPlus) -> f64 {
        (0..12).map(|_| (random.next_u64() >> 11) as f64 / (1_u64 << 53) as f64).sum::<f64>() - 6.0
    }

    #[test]
    fn a_steady_system_is_rarely_suspected_even_if_its_seconds_hang_together() {
        let mut random = Xoshiro256PlusPlus::seed_from_u64(1);
        for (correlation, length, flagged_max) in [(0.0, 10, 10), (0.0, 60, 10), (0.5, 30, 30), (0.5, 120, 30)] {
            let mut flagged = 0;
            for _ in 0..1000 {
                let mut state = 0.0;
                let seconds = (0..length).map(|_| {
                    state = correlation * state + normal(&mut random) * 0.1;
                    1e6 * f64::exp(state)
                });
                flagged += i32::from(blocks(seconds).compare().finding == Finding::NotStationary);
            }
            assert!(flagged <= flagged_max, "{flagged} of 1000 with {length} seconds, correlation {correlation}");
        }
    }

    #[test]
    fn a_drift_a_step_and_a_slow_start_are_found() {
        let mut random = Xoshiro256PlusPlus::seed_from_u64(2);
        let mut found = |shape: fn(i32) -> f64| {
            let seconds = (0..30).map(|second| 1e6 * shape(second) * f64::exp(normal(&mut random) * 0.05));
            blocks(seconds).compare().finding
        };
        assert_eq!(found(|_| 1.0), Finding::Stationary);
        assert_eq!(found(|second| 1.0 + 0.03 * f64::from(second)), Finding::NotStationary);
        assert_eq!(found(|second| if second < 15 { 1.0 } else { 1.4 }), Finding::NotStationary);
        assert_eq!(found(|second| 1.0 + 3.0 * f64::exp(-f64::from(second) / 6.0)), Finding::NotStationary);
        assert_eq!(found(|second| if second < 3 { 30.0 } else { 1.0 }), Finding::NotStationary);
        assert_eq!(found(|second| if second == 13 { 30.0 } else { 1.0 }), Finding::Stationary);
    }

    #[test]
    fn what_is_too_short_is_not_judged_and_what_is_long_takes_no_more_room() {
        assert_eq!(blocks((0..7).map(|_| 1e6)).compare().finding, Finding::TooShort);
        let mut long = Blocks::new();
        let mut second = histogram();
        second.record_n(1_000_000, 500).unwrap();
        for _ in 0..10_000 {
            long.add(&second);
        }
        assert!(long.blocks.len() < super::BLOCKS_MAX);
        assert!(long.blocks.iter().all(|block| (block.mean_ns / 1e6 - 1.0).abs() < 0.01));
        let found = long.compare();
        assert_eq!((found.finding, found.p99.is_some()), (Finding::Stationary, true));
    }

    #[test]
    fn the_quantiles_are_those_of_the_tables() {
        for (freedom, expected) in [(6.0, 9.082), (10.0, 6.211), (30.0, 4.482), (120.0, 4.025)] {
            assert!((student_t(freedom) / expected - 1.0).abs() < 0.01, "{freedom}: {}", student_t(freedom));
        }
    }
}
