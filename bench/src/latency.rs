//! Quantiles over several runs: histograms are added, percentiles never averaged.

use std::fs;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::Deserializer;
use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};
use serde::{Deserialize, Serialize};

use crate::failure::Failure;

/// Quantiles in nanoseconds; `None` where the samples cannot support one at 95 % (`n >= ln 0.05 / ln q`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quantiles {
    pub p50: Option<u64>,
    pub p90: Option<u64>,
    pub p99: Option<u64>,
    pub p999: Option<u64>,
    pub max: Option<u64>,
    pub count: u64,
}

impl Quantiles {
    pub fn of(histogram: &Histogram<u64>) -> Self {
        let count = histogram.len();
        let at = |quantile: f64| {
            (count as f64 >= 0.05_f64.ln() / quantile.ln()).then(|| histogram.value_at_quantile(quantile))
        };
        Self {
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            max: (count > 0).then(|| histogram.max()),
            count,
        }
    }
}

/// One line of a histogram log.
#[derive(Debug)]
pub struct LogLine {
    pub tag: Option<String>,
    pub start_s: f64,
    pub length_s: f64,
    pub histogram: Histogram<u64>,
    /// The same as it is in the file: V2, compressed, in base64.
    pub payload: String,
}

/// Reads a whole histogram log.
///
/// # Errors
/// The file cannot be read or is no histogram log.
pub fn read_log(path: &Path) -> Result<Vec<LogLine>, Failure> {
    let bytes = fs::read(path).map_err(|error| Failure::file(path, &error))?;
    let wrong = |what: String| Failure::Failed(format!("{} is no histogram log: {what}", path.display()));
    let mut deserializer = Deserializer::new();
    let mut lines = Vec::new();
    for entry in IntervalLogIterator::new(&bytes) {
        let entry = entry.map_err(|error| wrong(format!("{error:?}")))?;
        let LogEntry::Interval(interval) = entry else { continue };
        let payload = interval.encoded_histogram();
        let encoded = STANDARD.decode(payload).map_err(|error| wrong(error.to_string()))?;
        let histogram = deserializer.deserialize(&mut encoded.as_slice()).map_err(|error| wrong(error.to_string()))?;
        lines.push(LogLine {
            tag: interval.tag().map(|tag| tag.as_str().to_owned()),
            start_s: interval.start_timestamp().as_secs_f64(),
            length_s: interval.duration().as_secs_f64(),
            histogram,
            payload: payload.to_owned(),
        });
    }
    Ok(lines)
}

/// Adds all untagged histograms of a histogram log to `sum`.
///
/// # Errors
/// The file cannot be read or is no histogram log.
pub fn add_log(sum: &mut Histogram<u64>, path: &Path) -> Result<(), Failure> {
    for line in read_log(path)?.into_iter().filter(|line| line.tag.is_none()) {
        sum.add(&line.histogram)
            .map_err(|error| Failure::Failed(format!("{} is no log of ours: {error}", path.display())))?;
    }
    Ok(())
}

/// An empty histogram that holds whatever the generator records.
pub fn histogram() -> Histogram<u64> {
    let mut histogram = Histogram::new(3).expect("invariant: three digits are allowed");
    histogram.auto(true);
    histogram
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use hdrhistogram::serialization::V2DeflateSerializer;
    use hdrhistogram::serialization::interval_log::{IntervalLogWriterBuilder, Tag};

    use super::{Quantiles, add_log, histogram};

    #[test]
    fn logs_add_up_without_their_tags() {
        let mut first = histogram();
        first.record_n(1000, 300).unwrap();
        let mut second = histogram();
        second.record_n(5000, 10).unwrap();
        let mut bytes = Vec::new();
        let mut serializer = V2DeflateSerializer::new();
        let mut log = IntervalLogWriterBuilder::new().begin_log_with(&mut bytes, &mut serializer).unwrap();
        log.write_histogram(&first, Duration::ZERO, Duration::from_secs(1), None).unwrap();
        log.write_histogram(&second, Duration::from_secs(1), Duration::from_secs(1), None).unwrap();
        log.write_histogram(&second, Duration::from_secs(1), Duration::from_secs(1), Tag::new("x")).unwrap();
        let path = std::env::temp_dir().join(format!("bench-latency-{}.hlog", std::process::id()));
        std::fs::write(&path, bytes).unwrap();
        let mut sum = histogram();
        add_log(&mut sum, &path).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert_eq!((sum.len(), sum.value_at_quantile(0.5)), (310, 1000));
        assert!(sum.max() >= 5000);
    }

    #[test]
    fn quantiles_need_samples() {
        let mut histogram = histogram();
        histogram.record_n(7, 298).unwrap();
        let quantiles = Quantiles::of(&histogram);
        assert_eq!((quantiles.p90, quantiles.p99, quantiles.count), (Some(7), None, 298));
        histogram.record(7).unwrap();
        assert_eq!(Quantiles::of(&histogram).p99, Some(7));
    }
}
