//! Paired ratios with an interval, and what may be said of them.
//!
//! Systems are compared within blocks: each block measures every system once, in random order, so that the drift of a
//! shared machine falls on all of them. The ratio of two systems is taken block by block; its logarithms are averaged
//! and get a 95 % interval from Student's t-distribution, with that of [`bootstrap`] beside it.

mod bootstrap;

use serde::{Deserialize, Serialize};

/// A ratio whose whole interval lies within 1/1.05 and 1.05 is no difference worth naming.
pub const EQUIVALENCE_FACTOR: f64 = 1.05;
/// The probability mass of an interval.
const CONFIDENCE: f64 = 0.95;
/// The share of runs in which the stated number of blocks decides.
pub const POWER: f64 = 0.8;
/// Past this many blocks the search for the number that would decide gives up.
const BLOCKS_SEARCH_MAX: u32 = 10_000;

/// The geometric mean of per-block ratios with its 95 % interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ratio {
    pub ratio: f64,
    pub ci_low: f64,
    pub ci_high: f64,
    /// Standard deviation of the logarithms of the per-block ratios.
    pub log_deviation: f64,
    pub blocks: u32,
}

/// Which way a metric is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Better {
    Higher,
    Lower,
}

/// What a ratio says about the first system against the second.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// The interval excludes 1 in the better direction.
    Faster,
    /// The interval excludes 1 in the worse direction.
    Slower,
    /// The whole interval lies within [`EQUIVALENCE_FACTOR`] of 1.
    Equivalent,
    /// The interval is too wide for any of these.
    Underpowered,
}

impl Verdict {
    pub fn name(self) -> &'static str {
        match self {
            Self::Faster => "faster",
            Self::Slower => "slower",
            Self::Equivalent => "equivalent",
            Self::Underpowered => "underpowered",
        }
    }
}

/// The ratio of the first to the second value of each block. `None` with fewer than two blocks or a value that is not
/// above zero: there is no interval then.
pub fn paired_ratio(pairs: &[(f64, f64)]) -> Option<Ratio> {
    let usable = |value: f64| value.is_finite() && value > 0.0;
    if pairs.len() < 2 || !pairs.iter().all(|&(a, b)| usable(a) && usable(b)) {
        return None;
    }
    let blocks = u32::try_from(pairs.len()).ok()?;
    let count = f64::from(blocks);
    let logs: Vec<f64> = pairs.iter().map(|(a, b)| (a / b).ln()).collect();
    let mean = logs.iter().sum::<f64>() / count;
    let variance = logs.iter().map(|log| (log - mean).powi(2)).sum::<f64>() / (count - 1.0);
    let log_deviation = variance.sqrt();
    let half = half_width(log_deviation, blocks);
    Some(Ratio { ratio: mean.exp(), ci_low: (mean - half).exp(), ci_high: (mean + half).exp(), log_deviation, blocks })
}

/// The interval of the same ratio by [`bootstrap`]; `None` with fewer than five blocks, or where there is no ratio.
pub fn bootstrap_interval(pairs: &[(f64, f64)]) -> Option<(f64, f64)> {
    paired_ratio(pairs)?;
    let logs: Vec<f64> = pairs.iter().map(|(a, b)| (a / b).ln()).collect();
    bootstrap::bca_mean(&logs, CONFIDENCE).map(|(low, high)| (low.exp(), high.exp()))
}

/// Half the width of the interval of a mean of `blocks` logarithms.
fn half_width(log_deviation: f64, blocks: u32) -> f64 {
    student_t(0.5 + CONFIDENCE / 2.0, f64::from(blocks - 1)) * log_deviation / f64::from(blocks).sqrt()
}

impl Ratio {
    /// What may be said, `better` being the good direction of the metric.
    ///
    /// A difference that is certain but within the margin of equivalence is called equivalent.
    pub fn verdict(&self, better: Better) -> Verdict {
        if self.ci_low > 1.0 / EQUIVALENCE_FACTOR && self.ci_high < EQUIVALENCE_FACTOR {
            return Verdict::Equivalent;
        }
        let (above, below) = match better {
            Better::Higher => (Verdict::Faster, Verdict::Slower),
            Better::Lower => (Verdict::Slower, Verdict::Faster),
        };
        if self.ci_low > 1.0 {
            above
        } else if self.ci_high < 1.0 {
            below
        } else {
            Verdict::Underpowered
        }
    }

    /// The number of blocks at which this ratio with this scatter would get a verdict in [`POWER`] of the runs; `None`
    /// if it decides already or no reasonable number does.
    pub fn blocks_to_decide(&self) -> Option<u32> {
        if self.verdict(Better::Higher) != Verdict::Underpowered {
            return None;
        }
        let (distance, margin) = (self.ratio.ln().abs(), EQUIVALENCE_FACTOR.ln());
        (self.blocks..=BLOCKS_SEARCH_MAX).find(|&blocks| {
            sees(distance, self.log_deviation, blocks) || {
                // The mean must stay on this side of two bounds, so each may be missed half as often.
                let stays = f64::midpoint(1.0, POWER);
                let error = student_t(stays, f64::from(blocks - 1)) * self.log_deviation / f64::from(blocks).sqrt();
                distance + half_width(self.log_deviation, blocks) + error < margin
            }
        })
    }
}

/// Whether so many blocks see a difference of the logarithms in [`POWER`] of the runs: the interval then excludes 1 also
/// where the mean comes out as far below the true difference as it does in 1 − [`POWER`] of them.
fn sees(distance: f64, log_deviation: f64, blocks: u32) -> bool {
    let error = student_t(POWER, f64::from(blocks - 1)) * log_deviation / f64::from(blocks).sqrt();
    half_width(log_deviation, blocks) + error < distance
}

/// The number of blocks that see a ratio in [`POWER`] of the runs under a scatter; `None` if no reasonable number does.
pub fn blocks_to_see(ratio: f64, log_deviation: f64) -> Option<u32> {
    (2..=BLOCKS_SEARCH_MAX).find(|&blocks| sees(ratio.ln().abs(), log_deviation, blocks))
}

/// A mean with its 95 % interval; `None` with fewer than two values.
pub fn mean_interval(values: &[f64]) -> Option<(f64, f64, f64)> {
    let count = u32::try_from(values.len()).ok().filter(|&count| count >= 2)?;
    let mean = values.iter().sum::<f64>() / f64::from(count);
    let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / f64::from(count - 1);
    let half = half_width(variance.sqrt(), count);
    Some((mean, mean - half, mean + half))
}

/// The middle value; `None` of nothing.
pub fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let (low, high) = (sorted.get(sorted.len().checked_sub(1)? / 2)?, sorted.get(sorted.len() / 2)?);
    Some(f64::midpoint(*low, *high))
}

/// The slope of the straight line through points by least squares, with its 95 % interval; `None` with fewer than three
/// points or without extent.
pub fn slope(points: &[(f64, f64)]) -> Option<(f64, f64, f64)> {
    let count = u32::try_from(points.len()).ok().filter(|&count| count >= 3)?;
    let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / f64::from(count);
    let (mean_x, mean_y) = (mean(|point| point.0), mean(|point| point.1));
    let extent: f64 = points.iter().map(|(x, _)| (x - mean_x).powi(2)).sum();
    if extent <= 0.0 {
        return None;
    }
    let slope = points.iter().map(|(x, y)| (x - mean_x) * (y - mean_y)).sum::<f64>() / extent;
    let rest: f64 = points.iter().map(|(x, y)| (y - mean_y - slope * (x - mean_x)).powi(2)).sum();
    let freedom = f64::from(count - 2);
    let half = student_t(0.5 + CONFIDENCE / 2.0, freedom) * (rest / freedom / extent).sqrt();
    Some((slope, slope - half, slope + half))
}

/// The quantile of Student's t-distribution with `freedom` degrees of freedom; `0.5 <= probability < 1`.
pub fn student_t(probability: f64, freedom: f64) -> f64 {
    assert!(
        (0.5..1.0).contains(&probability) && freedom >= 1.0,
        "invariant: an upper quantile with a degree of freedom"
    );
    let (mut low, mut high) = (0.0, 1.0);
    while student_cdf(high, freedom) < probability {
        high *= 2.0;
    }
    // Each step halves the bracket; 100 of them are below the resolution of an f64.
    for _ in 0..100 {
        let middle = f64::midpoint(low, high);
        if student_cdf(middle, freedom) < probability {
            low = middle;
        } else {
            high = middle;
        }
    }
    f64::midpoint(low, high)
}

/// P(T <= t) for `t >= 0`, from the regularised incomplete beta function.
fn student_cdf(t: f64, freedom: f64) -> f64 {
    1.0 - 0.5 * incomplete_beta(freedom / 2.0, 0.5, freedom / (freedom + t * t))
}

/// The regularised incomplete beta function I_x(a, b) by its continued fraction (Abramowitz and Stegun 26.5.8),
/// evaluated from the side on which it converges fast.
fn incomplete_beta(a: f64, b: f64, x: f64) -> f64 {
    if x <= 0.0 {
        return 0.0;
    }
    if x >= 1.0 {
        return 1.0;
    }
    let front = (log_gamma(a + b) - log_gamma(a) - log_gamma(b) + a * x.ln() + b * (1.0 - x).ln()).exp();
    if x < (a + 1.0) / (a + b + 2.0) {
        front * beta_fraction(a, b, x) / a
    } else {
        1.0 - front * beta_fraction(b, a, 1.0 - x) / b
    }
}

/// The continued fraction of the incomplete beta function by Lentz's method.
fn beta_fraction(a: f64, b: f64, x: f64) -> f64 {
    const TINY: f64 = 1e-300;
    let guard = |value: f64| if value.abs() < TINY { TINY } else { value };
    let mut c = 1.0;
    let mut d = 1.0 / guard(1.0 - (a + b) * x / (a + 1.0));
    let mut fraction = d;
    for step in 1..=500_u32 {
        let m = f64::from(step);
        let even = m * (b - m) * x / ((a + 2.0 * m - 1.0) * (a + 2.0 * m));
        d = 1.0 / guard(1.0 + even * d);
        c = guard(1.0 + even / c);
        fraction *= d * c;
        let odd = -(a + m) * (a + b + m) * x / ((a + 2.0 * m) * (a + 2.0 * m + 1.0));
        d = 1.0 / guard(1.0 + odd * d);
        c = guard(1.0 + odd / c);
        fraction *= d * c;
        if (d * c - 1.0).abs() < 1e-15 {
            break;
        }
    }
    fraction
}

/// ln Γ(x) for `x > 0`: Stirling's series after shifting the argument to 15 and above.
fn log_gamma(x: f64) -> f64 {
    let (mut shifted, mut correction) = (x, 0.0);
    while shifted < 15.0 {
        correction -= shifted.ln();
        shifted += 1.0;
    }
    let inverse = 1.0 / shifted;
    let square = inverse * inverse;
    let series = inverse * (1.0 / 12.0 - square * (1.0 / 360.0 - square * (1.0 / 1260.0 - square / 1680.0)));
    correction + (shifted - 0.5) * shifted.ln() - shifted + 0.5 * (2.0 * std::f64::consts::PI).ln() + series
}

#[cfg(test)]
mod tests {
    use rand_xoshiro::Xoshiro256PlusPlus;
    use rand_xoshiro::rand_core::{Rng, SeedableRng};

    use super::{
        Better, Verdict, blocks_to_see, bootstrap_interval, mean_interval, median, paired_ratio, slope, student_t,
    };

    /// Two-sided 95 % and 99 % points of the printed tables.
    #[test]
    fn quantiles_are_those_of_the_tables() {
        let table = [
            (0.975, 1.0, 12.706_205),
            (0.975, 2.0, 4.302_653),
            (0.975, 4.0, 2.776_445),
            (0.975, 9.0, 2.262_157),
            (0.975, 29.0, 2.045_230),
            (0.975, 1000.0, 1.962_339),
            (0.995, 5.0, 4.032_143),
            (0.9, 3.0, 1.637_744),
            (0.5, 7.0, 0.0),
        ];
        for (probability, freedom, expected) in table {
            let found = student_t(probability, freedom);
            assert!(
                (found - expected).abs() < 2e-6,
                "t({probability}, {freedom}) = {found}, the table says {expected}"
            );
        }
    }

    /// Logs 0.1, 0.2, 0.3: mean 0.2, deviation 0.1, half width 4.302653 · 0.1 / √3.
    #[test]
    fn the_interval_is_the_textbook_one() {
        let pairs: Vec<(f64, f64)> = [0.1_f64, 0.2, 0.3].iter().map(|log| (log.exp(), 1.0)).collect();
        let ratio = paired_ratio(&pairs).unwrap();
        let half = 4.302_653 * 0.1 / 3.0_f64.sqrt();
        assert!((ratio.ratio.ln() - 0.2).abs() < 1e-12);
        assert!((ratio.ci_low.ln() - (0.2 - half)).abs() < 1e-6);
        assert!((ratio.ci_high.ln() - (0.2 + half)).abs() < 1e-6);
        assert_eq!(ratio.verdict(Better::Higher), Verdict::Underpowered);
        let needed = ratio.blocks_to_decide().unwrap();
        assert!((4..=5).contains(&needed), "{needed}");
    }

    #[test]
    fn verdicts_follow_the_direction_of_the_metric() {
        let twice = paired_ratio(&[(2.0, 1.0), (2.02, 1.0), (1.98, 1.0)]).unwrap();
        assert_eq!(twice.verdict(Better::Higher), Verdict::Faster);
        assert_eq!(twice.verdict(Better::Lower), Verdict::Slower);
        assert_eq!(twice.blocks_to_decide(), None);
        let same = paired_ratio(&[(1.0, 1.0), (1.001, 1.0), (0.999, 1.0)]).unwrap();
        assert_eq!(same.verdict(Better::Lower), Verdict::Equivalent);
    }

    /// Values 1, 2, 3: mean 2, deviation 1, half width 4.302653 / √3. Points (0, 1), (1, 3), (2, 4), (3, 8): slope 2.2,
    /// residual sum 1.8, half width 4.302653 · √(0.9 / 5).
    #[test]
    fn means_and_slopes_are_the_textbook_ones() {
        let (mean, low, high) = mean_interval(&[1.0, 2.0, 3.0]).unwrap();
        let half = 4.302_653 / 3.0_f64.sqrt();
        assert!((mean - 2.0).abs() < 1e-12 && (high - mean - half).abs() < 1e-5 && (mean - low - half).abs() < 1e-5);
        let (found, low, high) = slope(&[(0.0, 1.0), (1.0, 3.0), (2.0, 4.0), (3.0, 8.0)]).unwrap();
        let half = 4.302_653 * 0.18_f64.sqrt();
        assert!((found - 2.2).abs() < 1e-12, "{found}");
        assert!((high - found - half).abs() < 1e-5 && (found - low - half).abs() < 1e-5, "{low} {high}");
        assert_eq!(mean_interval(&[1.0]), None);
        assert_eq!(
            [&[][..], &[3.0], &[4.0, 1.0], &[9.0, 1.0, 2.0]].map(median),
            [None, Some(3.0), Some(2.5), Some(2.0)]
        );
        assert_eq!(slope(&[(1.0, 1.0), (1.0, 2.0), (1.0, 3.0)]), None);
    }

    #[test]
    fn there_is_no_interval_without_two_sound_blocks() {
        assert_eq!(paired_ratio(&[(1.0, 1.0)]), None);
        assert_eq!(paired_ratio(&[(1.0, 1.0), (0.0, 1.0)]), None);
        assert_eq!(paired_ratio(&[(1.0, 1.0), (1.0, f64::NAN)]), None);
    }

    /// A standard normal variate by Box and Muller.
    fn normal(random: &mut Xoshiro256PlusPlus) -> f64 {
        let uniform =
            |random: &mut Xoshiro256PlusPlus| (f64::from(random.next_u32()) + 0.5) / (f64::from(u32::MAX) + 1.0);
        let (a, b) = (uniform(random), uniform(random));
        (-2.0 * a.ln()).sqrt() * (2.0 * std::f64::consts::PI * b).cos()
    }

    /// One block: a drift that both systems share and an error of its own for each.
    fn block(random: &mut Xoshiro256PlusPlus, slowdown: f64) -> (f64, f64) {
        let drift = 0.3 * normal(random);
        let (a, b) = (0.03 * normal(random), 0.03 * normal(random));
        ((drift + a).exp() * slowdown, (drift + b).exp())
    }

    /// Experiments out of `experiments` for which `holds` is true; the seed gives the same ones again.
    fn count(seed: u64, experiments: u32, blocks: u32, slowdown: f64, holds: impl Fn(&super::Ratio) -> bool) -> u32 {
        let mut random = Xoshiro256PlusPlus::seed_from_u64(seed);
        let experiment = |_: &u32| {
            let pairs: Vec<(f64, f64)> = (0..blocks).map(|_| block(&mut random, slowdown)).collect();
            holds(&paired_ratio(&pairs).unwrap())
        };
        u32::try_from((0..experiments).filter(experiment).count()).unwrap()
    }

    fn excludes_one(ratio: &super::Ratio) -> bool {
        ratio.ci_low > 1.0 || ratio.ci_high < 1.0
    }

    /// Equal systems under a drift of 30 %: the interval may exclude 1 in about 5 of 100 experiments, however many
    /// blocks each has.
    #[test]
    fn the_same_system_twice_rarely_differs() {
        for (seed, blocks) in [(20_261_123, 10), (1, 5), (2, 3), (3, 20)] {
            let excluded = count(seed, 1000, blocks, 1.0, excludes_one);
            assert!((30..=70).contains(&excluded), "{excluded} of 1000 exclude 1 with {blocks} blocks, seed {seed}");
        }
    }

    /// The same as the issue counts it, and as `bench null` measures it: 100 experiments, of which 1 to 10 exclude 1.
    #[test]
    fn of_a_hundred_comparisons_of_a_system_with_itself_one_to_ten_exclude_one() {
        for seed in 1..=10 {
            let excluded = count(seed, 100, 10, 1.0, excludes_one);
            assert!((1..=10).contains(&excluded), "{excluded} of 100 exclude 1, seed {seed}");
        }
    }

    /// The bootstrap excludes 1 more often than it should with ten blocks, which is why it is the second opinion; it
    /// seldom contradicts the first.
    #[test]
    fn the_bootstrap_is_a_second_opinion() {
        let mut random = Xoshiro256PlusPlus::seed_from_u64(4);
        let (mut excluded, mut contradicted) = (0, 0);
        for _ in 0..200 {
            let pairs: Vec<(f64, f64)> = (0..10).map(|_| block(&mut random, 1.0)).collect();
            let (low, high) = bootstrap_interval(&pairs).unwrap();
            let excludes = low > 1.0 || high < 1.0;
            excluded += u32::from(excludes);
            contradicted += u32::from(excludes != excludes_one(&paired_ratio(&pairs).unwrap()));
        }
        assert!((6..=30).contains(&excluded) && contradicted <= 16, "{excluded} and {contradicted} of 200");
    }

    /// A slowdown of 5 % under the same drift is seen in at least 80 of 100 experiments of ten blocks.
    #[test]
    fn a_slowdown_of_five_percent_is_seen() {
        for seed in 5..10 {
            let seen = count(seed, 100, 10, 1.05, |ratio| ratio.ci_low > 1.0);
            assert!(seen >= 80, "{seen} of 100, seed {seed}");
        }
    }

    /// The stated number of blocks sees the difference in about four of five runs: neither half of them nor all.
    #[test]
    fn the_stated_number_of_blocks_decides_in_four_of_five_runs() {
        // Two independent errors of 3 %: the logarithms of the ratios scatter by 3 % · √2.
        let scatter = 0.03 * 2.0_f64.sqrt();
        for slowdown in [1.03, 1.05, 1.08] {
            let blocks = blocks_to_see(slowdown, scatter).unwrap();
            let seen = count(11, 1000, blocks, slowdown, |ratio| ratio.ci_low > 1.0);
            assert!((760..=880).contains(&seen), "{slowdown}: {seen} of 1000 with {blocks} blocks");
        }
        assert_eq!(blocks_to_see(1.0, 0.03), None);
        // As bench/README.md says of the default number of blocks.
        assert_eq!(blocks_to_see(1.05, 0.048), Some(10));
        // Equal systems are called equivalent by the number that is stated for them.
        let open = super::Ratio { ratio: 1.0, ci_low: 0.9, ci_high: 1.1, log_deviation: scatter, blocks: 2 };
        let blocks = open.blocks_to_decide().unwrap();
        let equivalent = count(12, 1000, blocks, 1.0, |ratio| ratio.verdict(Better::Lower) == Verdict::Equivalent);
        assert!((760..=900).contains(&equivalent), "{equivalent} of 1000 with {blocks} blocks");
    }
}
