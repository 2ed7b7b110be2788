//! `intervals.csv`: what happened in each second of a run.

use std::fs;
use std::path::Path;

use crate::failure::Failure;

/// One row. Quantiles are `None` where nothing was answered.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Interval {
    /// From the start of the measured window, so warm-up is negative.
    pub start_s: f64,
    pub length_s: f64,
    /// `warm-up`, `measure` or `drain`.
    pub phase: String,
    pub completed_per_s: f64,
    /// Errors, timeouts and shed requests a second.
    pub failed_per_s: f64,
    pub p50_ns: Option<f64>,
    pub p99_ns: Option<f64>,
    pub service_p99_ns: Option<f64>,
}

/// Shorter intervals hold too little to be drawn.
const LENGTH_S_MIN: f64 = 0.05;

/// Reads a file; one that is not there has no intervals.
///
/// # Errors
/// It cannot be read, or lacks a column.
pub fn read(path: &Path) -> Result<Vec<Interval>, Failure> {
    if !path.is_file() {
        return Ok(Vec::new());
    }
    let text = fs::read_to_string(path).map_err(|error| Failure::file(path, &error))?;
    parse(&text).map_err(|what| Failure::Failed(format!("{}: {what}", path.display())))
}

fn parse(text: &str) -> Result<Vec<Interval>, String> {
    let mut lines = text.lines();
    let header: Vec<&str> = lines.next().unwrap_or_default().split(',').collect();
    let place = |name: &str| header.iter().position(|column| *column == name);
    let needed = |name: &str| place(name).ok_or_else(|| format!("no column {name}"));
    let (start, length, phase) = (needed("start_s")?, needed("length_s")?, needed("phase")?);
    let rate = needed("completed_per_s")?;
    let failed = ["errors", "timed_out", "shed"].map(place);
    let (p50, p99) = (needed("response_p50_ns")?, needed("response_p99_ns")?);
    let service = place("service_p99_ns");
    let mut intervals = Vec::new();
    for (line, number) in lines.zip(2..) {
        let cells: Vec<&str> = line.split(',').collect();
        let cell = |column: usize| cells.get(column).copied().unwrap_or_default();
        let value = |column: usize| cell(column).parse::<f64>().ok();
        let figure =
            |column: usize| value(column).ok_or_else(|| format!("line {number}: no number in column {}", column + 1));
        let length_s = figure(length)?;
        if length_s < LENGTH_S_MIN {
            continue;
        }
        let failed: f64 = failed.iter().flatten().filter_map(|column| value(*column)).sum();
        intervals.push(Interval {
            start_s: figure(start)?,
            length_s,
            phase: cell(phase).to_owned(),
            completed_per_s: figure(rate)?,
            failed_per_s: failed / length_s,
            p50_ns: value(p50),
            p99_ns: value(p99),
            service_p99_ns: service.and_then(value),
        });
    }
    Ok(intervals)
}

#[cfg(test)]
mod tests {
    use super::parse;

    const HEADER: &str = "start_s,length_s,phase,planned,completed,errors,timed_out,shed,completed_per_s,response_p50_ns,response_p99_ns";

    #[test]
    fn columns_are_found_by_their_names() {
        let text = format!(
            "{HEADER}\n-1.000,1.000,warm-up,9,9,0,0,0,9.0,100,200\n0.000,0.500,measure,9,8,1,1,0,16.0,,\n1.0,0.01,drain,0,0,0,0,0,0.0,,\n"
        );
        let found = parse(&text).unwrap();
        assert_eq!(found.len(), 2);
        assert_eq!((found[0].phase.as_str(), found[0].p99_ns, found[0].start_s), ("warm-up", Some(200.0), -1.0));
        assert_eq!((found[1].failed_per_s, found[1].p50_ns), (4.0, None));
        assert!(parse("start_s,length_s\n").unwrap_err().contains("phase"));
        assert!(parse(&format!("{HEADER}\nx,1\n")).unwrap_err().contains("line 2"));
    }
}
