//! How far the quantiles of a histogram are from those of the samples themselves, sorted.

use hdrhistogram::Histogram;
use proptest::prelude::{Just, Strategy, proptest};
use proptest::{collection, prop_assert, prop_assert_eq, prop_oneof};

use super::Quantiles;
use crate::quantile::samples_min;
use crate::recorder::{VALUE_NS_MAX, histogram};

/// Three significant digits: a quantile is at most this share of itself above the exact one, and never below it.
const ERROR_SHARE_MAX: f64 = 0.001;

/// The sample that `per_mille` of 1000 of them do not exceed, by whole numbers.
fn exact(sorted: &[u64], per_mille: usize) -> u64 {
    sorted[(per_mille * sorted.len()).div_ceil(1000).max(1) - 1]
}

fn of(samples: &[u64]) -> Histogram<u64> {
    let mut histogram = histogram();
    for &sample in samples {
        histogram.record(sample).unwrap();
    }
    histogram
}

/// Samples of one kind of server each: even, spread over all decades, mostly fast with a few far out, all the same.
fn samples() -> impl Strategy<Value = Vec<u64>> {
    let even = collection::vec(1..=VALUE_NS_MAX, 1..400);
    let decades = collection::vec((0.0..28.8_f64).prop_map(|power| power.exp() as u64 + 1), 1..2000);
    let far_out =
        collection::vec(prop_oneof![99 => 40_000..90_000_u64, 1 => 2_000_000_000..3_000_000_000_u64], 1..3000);
    let same = (1..=VALUE_NS_MAX, 1..300_usize).prop_map(|(value, count)| vec![value; count]);
    // Lengths at which ranks are whole numbers: where a quantile that is rounded up is one sample off.
    let whole =
        (Just(1000_u64), 1..4_u64).prop_map(|(step, times)| (1..=times * step).map(|n| n * n * 1_000).collect());
    prop_oneof![even, decades, far_out, same, whole]
}

proptest! {
    #[test]
    fn quantiles_are_within_a_thousandth_of_an_exact_sort(samples in samples()) {
        let histogram = of(&samples);
        let quantiles = Quantiles::of(&histogram);
        let mut sorted = samples;
        sorted.sort_unstable();
        prop_assert_eq!(quantiles.count, u64::try_from(sorted.len()).unwrap());
        for (found, per_mille) in
            [(quantiles.p50, 500), (quantiles.p90, 900), (quantiles.p99, 990), (quantiles.p999, 999), (quantiles.max, 1000)]
        {
            let share = per_mille as f64 / 1000.0;
            // One that is not published for want of samples would be as faithful.
            prop_assert_eq!(found.is_some(), per_mille == 1000 || quantiles.count >= samples_min(share));
            let (found, exact) = (found.unwrap_or_else(|| histogram.value_at_quantile(share)), exact(&sorted, per_mille));
            let error = found as f64 / exact as f64 - 1.0;
            prop_assert!((0.0..=ERROR_SHARE_MAX).contains(&error), "{} per mille: {} for {}, {}", per_mille, found, exact, error);
        }
    }
}
