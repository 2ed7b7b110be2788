//! Latency histograms of one front server: log-linear, of fixed size, written by one thread.

use serde::ser::{Serialize, SerializeStruct as _, Serializer};

/// Buckets to each power of two: a value is known to an eighth of itself.
const STEPS: u64 = 8;
const STEPS_BITS: u32 = STEPS.trailing_zeros();
/// The first power of two that has buckets of its own: 2^10 ns is about a microsecond.
const FIRST_BITS: u32 = 10;
/// Everything above is in the last bucket: 2^37 ns are more than two minutes.
const LAST_BITS: u32 = 37;
/// One bucket for all below a microsecond, then [`STEPS`] to each power of two, then one for all above.
const BUCKETS: usize = ((LAST_BITS - FIRST_BITS) as usize) * STEPS as usize + 2;

/// Counts of durations in nanoseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Histogram {
    buckets: Box<[u64; BUCKETS]>,
    count: u64,
    sum_ns: u64,
    max_ns: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { buckets: Box::new([0; BUCKETS]), count: 0, sum_ns: 0, max_ns: 0 }
    }
}

/// The bucket of a value.
fn bucket_of(value_ns: u64) -> usize {
    let Some(octave) = (u64::BITS - 1).checked_sub(value_ns.leading_zeros() + FIRST_BITS) else { return 0 };
    if octave >= LAST_BITS - FIRST_BITS {
        return BUCKETS - 1;
    }
    let step = (value_ns >> (octave + FIRST_BITS - STEPS_BITS)) & (STEPS - 1);
    usize::try_from(u64::from(octave) * STEPS + step).map_or(BUCKETS - 1, |index| index + 1)
}

/// The value that all in the bucket are below; `u64::MAX` for the last one.
fn bound_of(bucket: usize) -> u64 {
    if bucket >= BUCKETS - 1 {
        return u64::MAX;
    }
    let bucket = bucket as u64;
    let (octave, step) = (bucket / STEPS, bucket % STEPS);
    (STEPS + step) << (octave + u64::from(FIRST_BITS - STEPS_BITS))
}

impl Histogram {
    /// Counts one duration.
    #[inline]
    pub fn record(&mut self, value_ns: u64) {
        self.buckets[bucket_of(value_ns)] += 1;
        self.count += 1;
        self.sum_ns = self.sum_ns.saturating_add(value_ns);
        self.max_ns = self.max_ns.max(value_ns);
    }

    /// Adds the counts of another front server.
    pub fn merge(&mut self, other: &Self) {
        for (own, others) in self.buckets.iter_mut().zip(other.buckets.iter()) {
            *own += others;
        }
        self.count += other.count;
        self.sum_ns = self.sum_ns.saturating_add(other.sum_ns);
        self.max_ns = self.max_ns.max(other.max_ns);
    }

    /// What was counted after `before`, an earlier state of the same histogram. Its longest one is not known: the longest
    /// since the start stands for it.
    pub fn since(&self, before: &Self) -> Self {
        let mut between = self.clone();
        for (own, earlier) in between.buckets.iter_mut().zip(before.buckets.iter()) {
            *own = own.saturating_sub(*earlier);
        }
        between.count = between.count.saturating_sub(before.count);
        between.sum_ns = between.sum_ns.saturating_sub(before.sum_ns);
        between
    }

    pub fn count(&self) -> u64 {
        self.count
    }

    /// Nanoseconds, all together.
    pub fn sum_ns(&self) -> u64 {
        self.sum_ns
    }

    pub fn max_ns(&self) -> u64 {
        self.max_ns
    }

    /// A bound that at least `share` (0 to 1) of the durations do not exceed, at most an eighth too high; 0 if none
    /// was counted.
    pub fn quantile_ns(&self, share: f64) -> u64 {
        // Counts are far below 2^53.
        let wanted = ((self.count as f64 * share).ceil() as u64).max(1);
        let mut seen = 0;
        for (bucket, count) in self.buckets.iter().enumerate() {
            seen += count;
            if seen >= wanted {
                return bound_of(bucket).min(self.max_ns);
            }
        }
        0
    }

    /// Bound in nanoseconds and how many durations are below it, for each power of two from a microsecond to a minute:
    /// exact, because buckets do not straddle them.
    pub fn cumulative(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        let mut seen = 0;
        self.buckets.iter().enumerate().filter_map(move |(bucket, count)| {
            seen += count;
            let bound = bound_of(bucket);
            bound.is_power_of_two().then_some((bound, seen))
        })
    }
}

/// Quantiles are at most an eighth too high.
impl Serialize for Histogram {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut out = serializer.serialize_struct("Histogram", 7)?;
        out.serialize_field("count", &self.count)?;
        out.serialize_field("sum_ns", &self.sum_ns)?;
        for (name, share) in [("p50_ns", 0.5), ("p90_ns", 0.9), ("p99_ns", 0.99), ("p999_ns", 0.999)] {
            out.serialize_field(name, &self.quantile_ns(share))?;
        }
        out.serialize_field("max_ns", &self.max_ns)?;
        out.end()
    }
}

/// What a front server measures of the requests that it answered. Whole turns are the grain of relayed ones.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Latency {
    /// From the whole head to the answer's last byte in the engine's hands.
    pub total: Histogram,
    /// The same to the first byte.
    pub first_byte: Histogram,
    /// From the whole head until a server was found, for those that had to wait for one.
    pub queue: Histogram,
}

impl Latency {
    pub fn merge(&mut self, other: &Self) {
        self.total.merge(&other.total);
        self.first_byte.merge(&other.first_byte);
        self.queue.merge(&other.queue);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_is_below_its_bucket_s_bound_and_not_below_the_one_before() {
        let mut values: Vec<u64> = (0..64).flat_map(|bits| [1_u64 << bits, (1 << bits) - 1, (1 << bits) + 1]).collect();
        values.extend((0..200_000).map(|step| step * 977));
        values.push(u64::MAX);
        for value in values {
            let bucket = bucket_of(value);
            assert!(value < bound_of(bucket) || bucket == BUCKETS - 1, "{value} in {bucket}");
            assert!(bucket == 0 || value >= bound_of(bucket - 1), "{value} in {bucket}");
        }
        assert_eq!(bound_of(0), 1024);
        assert_eq!(bound_of(8), 2048);
    }

    #[test]
    fn quantiles_are_at_most_an_eighth_too_high() {
        let mut histogram = Histogram::default();
        assert_eq!(histogram.quantile_ns(0.5), 0);
        for value in 1..=10_000_u64 {
            histogram.record(value * 1000);
        }
        for (share, exact) in [(0.5, 5_000_000.0), (0.9, 9_000_000.0), (0.99, 9_900_000.0)] {
            let found = histogram.quantile_ns(share) as f64;
            assert!((exact..=exact * 1.126).contains(&found), "{share}: {found}");
        }
        assert_eq!(histogram.quantile_ns(1.0), 10_000_000);
        assert_eq!(histogram.max_ns(), 10_000_000);
    }

    #[test]
    fn merging_is_counting_together() {
        let (mut one, mut other, mut both) = (Histogram::default(), Histogram::default(), Histogram::default());
        for step in 0..1000_u64 {
            let value = step * step * 31;
            if step % 3 == 0 {
                one.record(value)
            } else {
                other.record(value)
            }
            both.record(value);
        }
        one.merge(&other);
        assert_eq!(one, both);
    }

    #[test]
    fn what_came_after_a_moment_is_told_from_what_was_before() {
        let mut histogram = Histogram::default();
        (0..1000).for_each(|_| histogram.record(5_000));
        let before = histogram.clone();
        (0..10).for_each(|_| histogram.record(2_000_000));
        let since = histogram.since(&before);
        assert_eq!((since.count(), since.sum_ns()), (10, 20_000_000));
        assert_eq!(since.quantile_ns(0.01), 2_000_000, "nothing of what was before");
        assert_eq!(histogram.since(&histogram).quantile_ns(0.5), 0);
    }

    #[test]
    fn powers_of_two_are_counted_exactly() {
        let mut histogram = Histogram::default();
        for value in [0, 1023, 1024, 2047, 2048, u64::MAX] {
            histogram.record(value);
        }
        let cumulative: Vec<_> = histogram.cumulative().take(3).collect();
        assert_eq!(cumulative, [(1024, 2), (2048, 4), (4096, 5)]);
        assert_eq!(histogram.cumulative().last(), Some((1 << LAST_BITS, 5)));
    }
}
