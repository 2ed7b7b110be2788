//! The second opinion on an interval: Efron's bias-corrected and accelerated bootstrap (BCa), which assumes no
//! distribution. With ten blocks it is a little too narrow, where Student's t is right if the logarithms are normal:
//! where the two disagree about 1, a ratio is not to be relied on.

use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{Rng, SeedableRng};

/// Samples drawn with replacement.
const RESAMPLES: u32 = 10_000;
/// Fewer values than this say nothing about their distribution.
const VALUES_MIN: usize = 5;
/// The same values always give the same interval.
const SEED: u64 = 0x7477_696e_7469_6572;

/// The interval of the mean of `values` that holds `confidence`; `None` with too few of them.
pub fn bca_mean(values: &[f64], confidence: f64) -> Option<(f64, f64)> {
    if values.len() < VALUES_MIN {
        return None;
    }
    let mean = mean_of(values.iter().copied());
    let mut random = Xoshiro256PlusPlus::seed_from_u64(SEED);
    let mut means: Vec<f64> =
        (0..RESAMPLES).map(|_| mean_of((0..values.len()).map(|_| pick(values, &mut random)))).collect();
    means.sort_by(f64::total_cmp);
    let (bias, acceleration) = (bias(&means, mean), acceleration(values));
    let tail = f64::midpoint(1.0, -confidence);
    let at = |probability: f64| {
        let shifted = bias + normal_quantile(probability);
        quantile(&means, normal_cdf(bias + shifted / (1.0 - acceleration * shifted)))
    };
    Some((at(tail), at(1.0 - tail)))
}

fn mean_of(values: impl ExactSizeIterator<Item = f64>) -> f64 {
    let count = values.len() as f64;
    values.sum::<f64>() / count
}

fn pick(values: &[f64], random: &mut Xoshiro256PlusPlus) -> f64 {
    let bound = u64::try_from(values.len()).expect("invariant: a length fits in 64 bits");
    values[usize::try_from(random.next_u64() % bound).expect("invariant: smaller than a length")]
}

/// How far the middle of the resampled means lies from the mean, in standard deviations of a normal variate.
fn bias(sorted: &[f64], mean: f64) -> f64 {
    let below = sorted.partition_point(|value| *value < mean) as f64;
    let up_to = sorted.partition_point(|value| *value <= mean) as f64;
    let count = sorted.len() as f64;
    let share = f64::midpoint(below, up_to) / count;
    normal_quantile(share.clamp(1.0 / (count + 1.0), count / (count + 1.0)))
}

/// How the spread of the mean changes with its value, from the means without one value each.
fn acceleration(values: &[f64]) -> f64 {
    let count = values.len() as f64;
    let total: f64 = values.iter().sum();
    let without: Vec<f64> = values.iter().map(|value| (total - value) / (count - 1.0)).collect();
    let middle = mean_of(without.iter().copied());
    let power = |exponent: i32| without.iter().map(|value| (middle - value).powi(exponent)).sum::<f64>();
    let spread = power(2);
    if spread > 0.0 { power(3) / (6.0 * spread.powf(1.5)) } else { 0.0 }
}

/// Between the two nearest ranks.
fn quantile(sorted: &[f64], probability: f64) -> f64 {
    let place = probability.clamp(0.0, 1.0) * (sorted.len() - 1) as f64;
    // A rank of some thousand values.
    let below = (place.floor() as usize).min(sorted.len() - 1);
    let above = (below + 1).min(sorted.len() - 1);
    sorted[below] + (place - place.floor()) * (sorted[above] - sorted[below])
}

/// Φ(x) by Abramowitz and Stegun 26.2.17: within 7.5e-8.
pub fn normal_cdf(x: f64) -> f64 {
    let t = 1.0 / (1.0 + 0.231_641_9 * x.abs());
    let sum =
        t * (0.319_381_530 + t * (-0.356_563_782 + t * (1.781_477_937 + t * (-1.821_255_978 + t * 1.330_274_429))));
    let upper = (-0.5 * x * x).exp() / (2.0 * std::f64::consts::PI).sqrt() * sum;
    if x >= 0.0 { 1.0 - upper } else { upper }
}

/// The x of which Φ(x) is `probability`, by bisection.
pub fn normal_quantile(probability: f64) -> f64 {
    let (mut low, mut high) = (-9.0, 9.0);
    for _ in 0..80 {
        let middle = f64::midpoint(low, high);
        if normal_cdf(middle) < probability {
            low = middle;
        } else {
            high = middle;
        }
    }
    f64::midpoint(low, high)
}

#[cfg(test)]
mod tests {
    use super::{acceleration, bca_mean, normal_cdf, normal_quantile};

    #[test]
    fn the_normal_distribution_is_that_of_the_tables() {
        for (x, expected) in [(0.0, 0.5), (1.0, 0.841_344_7), (-1.959_964, 0.025), (2.326_348, 0.99)] {
            assert!((normal_cdf(x) - expected).abs() < 2e-7, "Φ({x}) = {}", normal_cdf(x));
        }
        assert!((normal_quantile(0.975) - 1.959_964).abs() < 1e-5);
        assert!((normal_quantile(0.8) - 0.841_621).abs() < 1e-5);
    }

    /// The interval of skewed data as an implementation in another language finds it with 200,000 resamples: 1.34 to 5.14,
    /// where the percentiles alone, without bias and acceleration, would be 1.28 to 3.73. A symmetric sample has an
    /// interval of the bootstrap's width: the deviation with n in place of n - 1, over √n, times 1.96.
    #[test]
    fn intervals_follow_the_data() {
        let symmetric: Vec<f64> = (-10..=10).map(f64::from).collect();
        let (low, high) = bca_mean(&symmetric, 0.95).unwrap();
        let width = 1.96 * (110.0_f64 / 3.0 / 21.0).sqrt();
        assert!((low + high).abs() < 0.35 && (high - low - 2.0 * width).abs() < 0.5, "{low} {high}, not ±{width}");
        let skewed = [1.0, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6, 1.7, 1.8, 9.0];
        let (low, high) = bca_mean(&skewed, 0.95).unwrap();
        assert!((low - 1.34).abs() < 0.03 && (high - 5.14).abs() < 0.4, "{low} to {high}");
        assert!((acceleration(&skewed) - 0.137_549).abs() < 1e-6 && acceleration(&symmetric).abs() < 1e-12);
    }

    #[test]
    fn the_same_values_give_the_same_interval() {
        let values = [0.1, 0.2, 0.15, 0.3, 0.12, 0.22];
        assert_eq!(bca_mean(&values, 0.95), bca_mean(&values, 0.95));
        assert_eq!(bca_mean(&values[..4], 0.95), None);
        assert_eq!(bca_mean(&[2.0; 6], 0.95), Some((2.0, 2.0)));
    }
}
