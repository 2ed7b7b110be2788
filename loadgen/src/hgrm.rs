//! The percentile text (`.hgrm`) in Java's form, in milliseconds, with five ticks per half distance.

use std::io::{self, Write};

use hdrhistogram::Histogram;

/// Nanoseconds in a millisecond, the unit of the file.
const UNIT_NS: f64 = 1e6;
const TICKS_PER_HALF_DISTANCE: u32 = 5;

/// Writes the whole file.
///
/// # Errors
/// What the file says.
pub fn write(out: &mut impl Write, histogram: &Histogram<u64>) -> io::Result<()> {
    writeln!(out, "{:>12} {:>14} {:>10} {:>14}\n", "Value", "Percentile", "TotalCount", "1/(1-Percentile)")?;
    let mut total = 0_u64;
    for step in histogram.iter_quantiles(TICKS_PER_HALF_DISTANCE) {
        total += step.count_since_last_iteration();
        let (value, quantile) = (step.value_iterated_to() as f64 / UNIT_NS, step.quantile_iterated_to());
        if quantile < 1.0 {
            writeln!(out, "{value:>12.3} {quantile:>14.12} {total:>10} {:>14.2}", 1.0 / (1.0 - quantile))?;
        } else {
            writeln!(out, "{value:>12.3} {quantile:>14.12} {total:>10}")?;
        }
    }
    let max = if histogram.is_empty() { 0.0 } else { histogram.max() as f64 / UNIT_NS };
    writeln!(
        out,
        "#[Mean    = {:>12.3}, StdDeviation   = {:>12.3}]",
        histogram.mean() / UNIT_NS,
        histogram.stdev() / UNIT_NS
    )?;
    writeln!(out, "#[Max     = {max:>12.3}, Total count    = {:>12}]", histogram.len())?;
    // A sub-bucket half of 1024 values carries three digits; every further bucket adds one half.
    writeln!(out, "#[Buckets = {:>12}, SubBuckets     = {:>12}]", histogram.buckets(), 2048)
}

#[cfg(test)]
mod tests {
    use crate::recorder::histogram;

    #[test]
    fn the_text_has_javas_columns() {
        let mut histogram = histogram();
        for value in 1..=1000_u64 {
            histogram.record(value * 1_000_000).unwrap();
        }
        let mut bytes = Vec::new();
        super::write(&mut bytes, &histogram).unwrap();
        let text = String::from_utf8(bytes).unwrap();
        let mut lines = text.lines();
        assert_eq!(lines.next(), Some("       Value     Percentile TotalCount 1/(1-Percentile)"));
        assert_eq!(lines.next(), Some(""));
        let rows: Vec<Vec<f64>> = lines
            .by_ref()
            .take_while(|line| !line.starts_with('#'))
            .map(|line| line.split_whitespace().map(|word| word.parse().unwrap()).collect())
            .collect();
        assert!(rows[..rows.len() - 1].iter().all(|row| row.len() == 4));
        let last = rows.last().unwrap();
        assert_eq!((last.len(), last[1], last[2]), (3, 1.0, 1000.0));
        let median = rows.iter().find(|row| row[1] >= 0.5).unwrap();
        assert!((median[0] - 500.0).abs() < 1.0, "{median:?}");
        assert!(text.contains("Total count    =         1000]"));
    }

    #[test]
    fn an_empty_histogram_is_no_error() {
        let mut bytes = Vec::new();
        super::write(&mut bytes, &histogram()).unwrap();
        assert!(String::from_utf8(bytes).unwrap().contains("Total count    =            0]"));
    }
}
