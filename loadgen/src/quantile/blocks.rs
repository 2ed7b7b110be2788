//! The 95 % interval of a quantile, by order statistics.
//!
//! Of independent samples, the number above the true quantile q is binomial, and the samples at the ranks
//! `q n ± t sqrt(q (1 - q) n)` bracket it. Response times are not independent: a queue that is long for one request is long
//! for the next. How much less they say than independent ones is seen in blocks of whole seconds: the variance of the
//! blocks' counts above the quantile, over the binomial variance, is the factor by which the variance is larger
//! (never taken below 1). Blocks that are long against the system's memory are independent of each other.

use hdrhistogram::Histogram;

use crate::quantile::samples_min;
use crate::recorder::VALUE_NS_MAX;

/// Blocks in memory; when there would be more, two neighbours become one. 1.3 MB.
const BLOCKS_MAX: usize = 512;
/// With fewer blocks their variance says nothing.
const BLOCKS_MIN: usize = 8;

/// Coarse histograms of consecutive stretches of a run, all of the same number of seconds.
#[derive(Debug)]
pub struct Blocks {
    /// All memory that is ever needed, so that a long run takes no more than a short one.
    blocks: Vec<Histogram<u32>>,
    /// Blocks with samples, from the first on.
    used: usize,
    /// Intervals that a block holds, and those that the last one has.
    intervals_per_block: u64,
    intervals_in_last: u64,
}

impl Blocks {
    pub fn new() -> Self {
        let mut blocks: Vec<Histogram<u32>> = (0..BLOCKS_MAX).map(|_| coarse()).collect();
        // Touches every page now.
        blocks.iter_mut().for_each(Histogram::reset);
        Self { blocks, used: 0, intervals_per_block: 1, intervals_in_last: 1 }
    }

    /// Takes the next interval.
    pub fn add(&mut self, interval: &Histogram<u64>) {
        if self.intervals_in_last == self.intervals_per_block {
            if self.used == BLOCKS_MAX {
                self.halve();
            }
            self.used += 1;
            self.intervals_in_last = 0;
        }
        self.intervals_in_last += 1;
        let last = &mut self.blocks[self.used - 1];
        for step in interval.iter_recorded() {
            let count = u32::try_from(step.count_at_value()).unwrap_or(u32::MAX);
            last.saturating_record_n(step.value_iterated_to(), count);
        }
    }

    fn halve(&mut self) {
        for index in 0..BLOCKS_MAX / 2 {
            let (front, back) = self.blocks.split_at_mut(index * 2 + 1);
            let same = "invariant: all blocks have the same bounds";
            front[index * 2].add(&back[0]).expect(same);
            back[0].reset();
            self.blocks.swap(index, index * 2);
        }
        self.used = BLOCKS_MAX / 2;
        self.intervals_per_block *= 2;
        self.intervals_in_last = self.intervals_per_block;
    }

    fn used(&self) -> &[Histogram<u32>] {
        &self.blocks[..self.used]
    }

    /// The values between which the quantile lies at 95 %; `None` if there are too few samples or blocks to say.
    pub fn interval(&self, total: &Histogram<u64>, quantile: f64) -> Option<[u64; 2]> {
        if self.used < BLOCKS_MIN || total.len() < samples_min(quantile) {
            return None;
        }
        let count = total.len() as f64;
        let half =
            t_975(self.used - 1) * (self.inflation(total, quantile)? * quantile * (1.0 - quantile) / count).sqrt();
        let (low, high) = (quantile - half, quantile + half);
        // An upper end above the highest sample is not known.
        (high < 1.0 - 0.5 / count).then(|| [low.max(0.0), high].map(|at| total.value_at_quantile(at)))
    }

    /// The variance of the share of samples above the quantile, over that of independent samples.
    fn inflation(&self, total: &Histogram<u64>, quantile: f64) -> Option<f64> {
        let above = |from: u64| -> Vec<f64> {
            self.used().iter().map(|block| block.count_between(from, VALUE_NS_MAX) as f64).collect()
        };
        // The blocks are coarse: of the two borders beside the quantile the one whose share is nearer to what is wanted.
        let (value, block) = (total.value_at_quantile(quantile), self.used().first()?);
        let borders = [block.lowest_equivalent(value), block.highest_equivalent(value) + 1];
        let sizes: Vec<f64> = self.used().iter().map(|block| block.len() as f64).collect();
        let size: f64 = sizes.iter().sum();
        let candidates = borders.map(|border| {
            let counts = above(border);
            let share = counts.iter().sum::<f64>() / size;
            (counts, share)
        });
        let distance = |share: f64| (share.max(1e-12) / (1.0 - quantile)).ln().abs();
        let (counts, share) = candidates.into_iter().min_by(|one, two| distance(one.1).total_cmp(&distance(two.1)))?;
        if !(share > 0.0 && share < 1.0) {
            return None;
        }
        let blocks = self.used as f64;
        let squares: f64 = counts.iter().zip(&sizes).map(|(count, size)| (count - share * size).powi(2)).sum();
        Some((squares * blocks / (blocks - 1.0) / (size * share * (1.0 - share))).max(1.0))
    }
}

fn coarse() -> Histogram<u32> {
    Histogram::new_with_bounds(1, VALUE_NS_MAX, 1).expect("invariant: constant bounds are valid")
}

/// The 97.5 % quantile of Student's distribution (Abramowitz and Stegun 26.7.5), off by less than 0.1 % from 7 degrees on.
fn t_975(degrees: usize) -> f64 {
    const Z: f64 = 1.959_963_984_540_054;
    let n = degrees as f64;
    Z + (Z.powi(3) + Z) / (4.0 * n)
        + (5.0 * Z.powi(5) + 16.0 * Z.powi(3) + 3.0 * Z) / (96.0 * n * n)
        + (3.0 * Z.powi(7) + 19.0 * Z.powi(5) + 17.0 * Z.powi(3) - 15.0 * Z) / (384.0 * n.powi(3))
}

#[cfg(test)]
mod tests {
    use rand_xoshiro::Xoshiro256PlusPlus;
    use rand_xoshiro::rand_core::SeedableRng;

    use super::{BLOCKS_MAX, Blocks, t_975};
    use crate::arrivals::exponential;
    use crate::recorder::histogram;

    /// Of 100 runs, in how many the interval holds the 99th percentile of a mixture of exponential times whose mean
    /// changes from block to block by `spread`.
    fn coverage(spread: f64) -> usize {
        const MEANS: u32 = 21;
        let scale = |index: u32| (spread * (f64::from(index) / f64::from(MEANS - 1) - 0.5)).exp() * 1e6;
        let tail = |at: f64| (0..MEANS).map(|index| (-at / scale(index)).exp()).sum::<f64>() / f64::from(MEANS);
        let (mut low, mut high) = (0.0, 1e9);
        for _ in 0..100 {
            let middle = (low + high) / 2.0;
            if tail(middle) > 0.01 { low = middle } else { high = middle }
        }
        let truth = low;
        (0..100)
            .filter(|&seed| {
                let mut random = Xoshiro256PlusPlus::seed_from_u64(seed);
                let (mut blocks, mut total) = (Blocks::new(), histogram());
                for _ in 0..40 {
                    let level = scale(u32::try_from(crate::arrivals::below(&mut random, u64::from(MEANS))).unwrap());
                    let mut interval = histogram();
                    (0..200).for_each(|_| interval.record((exponential(&mut random) * level) as u64 + 1).unwrap());
                    blocks.add(&interval);
                    total.add(&interval).unwrap();
                }
                let [low, high] = blocks.interval(&total, 0.99).unwrap();
                assert!(low <= high);
                (low as f64) <= truth && truth <= high as f64 * 1.001
            })
            .count()
    }

    #[test]
    fn intervals_hold_the_quantile_whether_samples_hang_together_or_not() {
        for spread in [0.0, 1.0, 2.0] {
            let held = coverage(spread);
            assert!(held >= 87, "spread {spread}: only {held} of 100 intervals hold the quantile");
        }
    }

    #[test]
    fn too_few_samples_or_blocks_are_no_interval() {
        let (mut blocks, mut total) = (Blocks::new(), histogram());
        let mut interval = histogram();
        (1..=40).for_each(|value| interval.record(value * 1000).unwrap());
        for _ in 0..7 {
            blocks.add(&interval);
            total.add(&interval).unwrap();
        }
        assert_eq!(blocks.interval(&total, 0.5), None, "seven blocks");
        blocks.add(&interval);
        total.add(&interval).unwrap();
        assert!(blocks.interval(&total, 0.5).is_some());
        assert_eq!(blocks.interval(&total, 0.999), None, "320 samples");
    }

    #[test]
    fn a_day_of_seconds_fits() {
        let mut blocks = Blocks::new();
        let mut interval = histogram();
        interval.record(5).unwrap();
        for _ in 0..86_400 / 20 {
            blocks.add(&interval);
        }
        assert!((BLOCKS_MAX / 2..=BLOCKS_MAX).contains(&blocks.used) && blocks.blocks.len() == BLOCKS_MAX);
        assert_eq!(blocks.used().iter().map(hdrhistogram::Histogram::len).sum::<u64>(), 86_400 / 20);
        assert!((t_975(9) - 2.262).abs() < 0.003 && (t_975(100) - 1.984).abs() < 0.001);
    }
}
