//! The percentile text (`.hgrm`) in Java's form, in milliseconds, with five ticks per half distance.

use std::io::{self, Write};

use hdrhistogram::Histogram;

/// Nanoseconds in a millisecond, the unit of the file.
const UNIT_NS: f64 = 1e6;
const TICKS_PER_HALF_DISTANCE: f64 = 5.0;

/// Writes the whole file.
///
/// # Errors
/// What the file says.
pub fn write(out: &mut impl Write, histogram: &Histogram<u64>) -> io::Result<()> {
    writeln!(out, "{:>12} {:>14} {:>10} {:>14}\n", "Value", "Percentile", "TotalCount", "1/(1-Percentile)")?;
    write_rows(out, histogram)?;
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

/// The rows, by Java's rule: a row for each level that the samples so far have reached, and one for all of them. The
/// crate's own iterator rounds levels up by one sample where a level meets a rank exactly.
fn write_rows(out: &mut impl Write, histogram: &Histogram<u64>) -> io::Result<()> {
    let total = histogram.len();
    let (mut seen, mut level_percent) = (0_u64, 0.0_f64);
    for bucket in histogram.iter_recorded() {
        seen += bucket.count_at_value();
        let value = bucket.value_iterated_to() as f64 / UNIT_NS;
        let reached_percent = 100.0 * seen as f64 / total as f64;
        while reached_percent >= level_percent {
            let quantile = level_percent / 100.0;
            writeln!(out, "{value:>12.3} {quantile:>14.12} {seen:>10} {:>14.2}", 1.0 / (1.0 - quantile))?;
            level_percent = next_level_percent(level_percent);
            // The last level that is reached ends the list, however many ticks lie between it and all samples.
            if seen == total {
                return writeln!(out, "{value:>12.3} {:>14.12} {seen:>10}", 1.0);
            }
        }
    }
    Ok(())
}

/// Ticks keep their distance until half of what was left is passed; then they come twice as close.
fn next_level_percent(level_percent: f64) -> f64 {
    let halves = ((100.0 / (100.0 - level_percent)).ln() / 2.0_f64.ln()).trunc();
    level_percent + 100.0 / (TICKS_PER_HALF_DISTANCE * 2.0_f64.powf(halves + 1.0))
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
    fn a_level_that_meets_a_rank_is_reached_by_it() {
        let mut histogram = histogram();
        for value in 1..=200_u64 {
            histogram.record(value * 1_000_000).unwrap();
        }
        let mut bytes = Vec::new();
        super::write(&mut bytes, &histogram).unwrap();
        let text = String::from_utf8(bytes).unwrap();
        // 60 of 200 samples are 0.3 of them.
        for row in ["0.300000000000         60           1.43", "0.900000000000        180          10.00"] {
            assert!(text.contains(row), "{row} is not in\n{text}");
        }
    }

    #[test]
    fn an_empty_histogram_is_no_error() {
        let mut bytes = Vec::new();
        super::write(&mut bytes, &histogram()).unwrap();
        assert!(String::from_utf8(bytes).unwrap().contains("Total count    =            0]"));
    }
}
