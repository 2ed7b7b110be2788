//! The raw histograms of a run: merged for the report's curves, and embedded so that anybody can compute them again.

use std::fs;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};
use hdrhistogram::serialization::{Deserializer, Serializer, V2DeflateSerializer};

use crate::failure::Failure;
use crate::plot::text::percentile;
use crate::table::{Table, count_text, duration_text};

/// The tag of service times in `latency-parts.hlog`.
pub const SERVICE: &str = "service";
/// The generator's bounds: 1 ns to an hour, three digits.
const HIGH_NS: u64 = 3_600_000_000_000;
/// Points of a curve for each decade of its tail.
const POINTS_PER_DECADE: u32 = 24;
/// Decades of the tail that are looked at: beyond the samples of any run.
const DECADES_MAX: u32 = 9;
/// The quantiles of tables.
const QUANTILES: [f64; 5] = [0.5, 0.9, 0.99, 0.999, 0.9999];

/// Response and service times of one trial, or of several.
#[derive(Clone, Debug)]
pub struct Latencies {
    pub response: Histogram<u64>,
    /// Empty where the run kept no parts.
    pub service: Histogram<u64>,
}

impl Latencies {
    pub fn new() -> Self {
        Self { response: histogram(), service: histogram() }
    }

    /// Of the generator's files in a folder.
    ///
    /// # Errors
    /// A log is there and cannot be read.
    pub fn read(folder: &Path) -> Result<Self, Failure> {
        let optional = |name: &str, tag| {
            let path = folder.join(name);
            if path.is_file() { read_log(&path, tag) } else { Ok(histogram()) }
        };
        Ok(Self { response: optional("latency.hlog", None)?, service: optional("latency-parts.hlog", Some(SERVICE))? })
    }

    pub fn add(&mut self, other: &Self) {
        for (sum, part) in [(&mut self.response, &other.response), (&mut self.service, &other.service)] {
            sum.add(part).expect("invariant: a histogram that grows holds any other");
        }
    }
}

fn histogram() -> Histogram<u64> {
    let mut histogram = Histogram::new_with_bounds(1, HIGH_NS, 3).expect("invariant: bounds that are allowed");
    histogram.auto(true);
    histogram
}

/// The sum of the lines of a log that have this tag, or none.
///
/// # Errors
/// The file cannot be read or is no histogram log.
pub fn read_log(path: &Path, tag: Option<&str>) -> Result<Histogram<u64>, Failure> {
    let bytes = fs::read(path).map_err(|error| Failure::file(path, &error))?;
    let wrong = |what: String| Failure::Failed(format!("{} is no histogram log: {what}", path.display()));
    let mut sum = histogram();
    let mut deserializer = Deserializer::new();
    for entry in IntervalLogIterator::new(&bytes) {
        let LogEntry::Interval(interval) = entry.map_err(|error| wrong(format!("{error:?}")))? else { continue };
        if interval.tag().map(|tag| tag.as_str()) != tag {
            continue;
        }
        let encoded = STANDARD.decode(interval.encoded_histogram()).map_err(|error| wrong(error.to_string()))?;
        let part: Histogram<u64> =
            deserializer.deserialize(&mut encoded.as_slice()).map_err(|error| wrong(error.to_string()))?;
        sum.add(&part).map_err(|error| wrong(error.to_string()))?;
    }
    Ok(sum)
}

/// Names of all tags of a log, in their order.
///
/// # Errors
/// The file cannot be read or is no histogram log.
pub fn tags(path: &Path) -> Result<Vec<String>, Failure> {
    let bytes = fs::read(path).map_err(|error| Failure::file(path, &error))?;
    let mut names: Vec<String> = Vec::new();
    for entry in IntervalLogIterator::new(&bytes) {
        let entry =
            entry.map_err(|error| Failure::Failed(format!("{} is no histogram log: {error:?}", path.display())))?;
        let LogEntry::Interval(interval) = entry else { continue };
        if let Some(tag) = interval.tag().map(|tag| tag.as_str().to_owned())
            && !names.contains(&tag)
        {
            names.push(tag);
        }
    }
    names.sort();
    Ok(names)
}

/// A histogram in the V2 compressed format, in base64: what every HdrHistogram library decodes.
pub fn encode(histogram: &Histogram<u64>) -> String {
    let mut bytes = Vec::new();
    V2DeflateSerializer::new().serialize(histogram, &mut bytes).expect("invariant: a vector takes whatever is written");
    STANDARD.encode(bytes)
}

/// Whether the samples support a quantile at 95 %.
fn supported(histogram: &Histogram<u64>, quantile: f64) -> bool {
    !histogram.is_empty() && (quantile <= 0.0 || histogram.len() as f64 >= 0.05_f64.ln() / quantile.ln())
}

/// The curve of a histogram: `1 / (1 - quantile)` and the value there, as far as the samples support it.
pub fn tail(histogram: &Histogram<u64>) -> Vec<(f64, f64)> {
    let step = |index: u32| 10_f64.powf(f64::from(index) / f64::from(POINTS_PER_DECADE));
    (0..=DECADES_MAX * POINTS_PER_DECADE)
        .map(step)
        .map(|tail| (tail, 1.0 - 1.0 / tail))
        .take_while(|(_, quantile)| supported(histogram, *quantile))
        .map(|(tail, quantile)| (tail, histogram.value_at_quantile(quantile) as f64))
        .collect()
}

/// A row of quantiles for each histogram.
pub fn quantile_table<'a>(rows: impl IntoIterator<Item = (String, &'a Histogram<u64>)>) -> Table {
    let quantiles = QUANTILES.map(|quantile| format!("p{}", percentile(quantile).trim_end_matches(" %")));
    let header: Vec<&str> =
        std::iter::once("").chain(quantiles.iter().map(String::as_str)).chain(["longest", "samples"]).collect();
    let mut table = Table::new(&header);
    for (name, histogram) in rows {
        let at = |quantile: &f64| match supported(histogram, *quantile) {
            true => duration_text(histogram.value_at_quantile(*quantile)),
            false => "n/a".to_owned(),
        };
        let longest = if histogram.is_empty() { "n/a".to_owned() } else { duration_text(histogram.max()) };
        let cells = QUANTILES.iter().map(at).chain([longest, count_text(histogram.len())]);
        table.push(std::iter::once(name).chain(cells).collect());
    }
    table
}

#[cfg(test)]
mod tests {
    use hdrhistogram::Histogram;
    use hdrhistogram::serialization::Deserializer;

    use super::{STANDARD, encode, histogram, quantile_table, tail};
    use base64::Engine;

    #[test]
    fn what_is_embedded_is_what_was_recorded() {
        let mut recorded = histogram();
        for value in 1..5000_u64 {
            recorded.record(value * 977).unwrap();
        }
        let text = encode(&recorded);
        assert!(text.starts_with("HISTFAAA"), "{text}");
        let bytes = STANDARD.decode(text).unwrap();
        let decoded: Histogram<u64> = Deserializer::new().deserialize(&mut bytes.as_slice()).unwrap();
        assert_eq!(decoded, recorded);
    }

    /// 299 samples support p99 and nothing beyond.
    #[test]
    fn a_curve_ends_where_its_samples_do() {
        let mut recorded = histogram();
        recorded.record_n(1000, 299).unwrap();
        let end = tail(&recorded).last().unwrap().0;
        assert!((100.0..101.0).contains(&end), "{end}");
        assert_eq!(tail(&histogram()), []);
        let table = quantile_table([("a".to_owned(), &recorded)]);
        assert_eq!(table.header()[1..5], ["p50", "p90", "p99", "p99.9"]);
        assert_eq!(table.rows()[0][3..5], ["1.00 µs", "n/a"]);
    }
}
