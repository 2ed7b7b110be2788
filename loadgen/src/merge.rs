//! `loadgen merge`: one report out of the run directories of several generators. Histograms add; nothing is averaged.
//!
//! Intervals are laid over each other by wall time: the logs of all runs begin at the earliest start, and what two
//! runs measured in the same second becomes one line.

mod partial;
mod shares;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::hlog;
use crate::recorder::{INTERVAL_NS, Interval, Phase, STATUS_COUNT, histogram};
use crate::report::{RunDirectory, Totals};
use crate::schedule::Window;
use crate::summary::{Quantiles, Summary, TagSummary};
use crate::verdict::Verdict;

/// A run directory that was read.
struct Run {
    path: PathBuf,
    /// `None` until a complete run says what a partial one would have been.
    summary: Option<Summary>,
    latency: hlog::Log,
    tags: hlog::Log,
    parts: hlog::Log,
    intervals: Vec<Row>,
}

/// The counters of a row of `intervals.csv`.
struct Row {
    second: u64,
    counts: [u64; 7],
}

/// The columns that [`Row::counts`] holds, in its order.
const COUNTERS: [&str; 7] = ["planned", "completed", "errors", "timed_out", "shed", "in_flight_at_end", "body_bytes"];

/// Reads the runs, adds them, and writes the sum to `out`.
///
/// # Errors
/// A directory that is no run, runs that do not belong together, or `out` cannot be written.
pub fn merge(directories: &[PathBuf], out: &Path, argv: Vec<String>) -> io::Result<Summary> {
    let runs = directories.iter().map(|path| Run::read(path)).collect::<io::Result<Vec<Run>>>()?;
    let ended: Vec<(String, &Summary)> =
        runs.iter().filter_map(|run| Some((run.path.display().to_string(), run.summary.as_ref()?))).collect();
    let Some((first_name, first)) = ended.first() else {
        return Err(invalid(format!(
            "{} has no summary.json: none of these runs ended, and nothing says what they were",
            directories.first().map_or_else(String::new, |path| path.display().to_string())
        )));
    };
    if let Some((name, other)) = ended.iter().find(|(_, summary)| summary.mode != first.mode) {
        return Err(invalid(format!(
            "{first_name} is an {} loop and {name} is {}: their figures mean different things",
            first.mode, other.mode
        )));
    }
    let together = shares::together(&ended).map_err(invalid)?;
    let summaries: Vec<Summary> = runs
        .iter()
        .map(|run| run.summary.clone().unwrap_or_else(|| partial::summary(first, &run.intervals, &run.tags)))
        .collect();
    let start_unix_ms = runs.iter().map(|run| run.latency.start_unix_ms).min().unwrap_or(0);
    let mut tag_names: Vec<String> = Vec::new();
    let mut intervals: BTreeMap<u64, Interval> = BTreeMap::new();
    for run in &runs {
        run.lay(start_unix_ms, &mut tag_names, &mut intervals)?;
    }
    let mut totals = Totals::new(tag_names.len(), STATUS_COUNT);
    let mut directory = RunDirectory::create(out, start_unix_ms)?;
    let end_ns = intervals.last_key_value().map_or(0, |(_, last)| last.start_ns + last.length_ns);
    let window = Window { start_ns: 0, measure_ns: 0, end_ns };
    for interval in intervals.values() {
        directory.write(interval, &window, &tag_names)?;
        totals.add(interval);
    }
    let mut summary = sum(&runs, &summaries, &totals, &tag_names, argv);
    if !together.doubts.is_empty() {
        summary.verdict = summary.verdict.max(Verdict::Suspect);
    }
    summary.reasons.extend(together.doubts);
    summary.share = together.shares;
    directory.finish(&summary, &totals.histograms.response)?;
    Ok(summary)
}

impl Run {
    fn read(path: &Path) -> io::Result<Self> {
        let bytes = |name: &str| {
            let file = path.join(name);
            fs::read(&file).map_err(|error| {
                invalid(format!("{}: {error}; a run directory of loadgen has this file", file.display()))
            })
        };
        let named = |name: &str, error: String| invalid(format!("{}: {error}", path.join(name).display()));
        let whole = |name: &str| bytes(name).map(|bytes| partial::whole_lines(&bytes).to_vec());
        let log = |name: &str| hlog::parse(&whole(name)?).map_err(|error| named(name, error));
        // A run that was killed has logs and no summary.
        let ended = path.join("summary.json").exists();
        let summary = match ended || !path.join("intervals.csv").exists() {
            true => Some(
                serde_json::from_slice(&bytes("summary.json")?)
                    .map_err(|error| named("summary.json", error.to_string()))?,
            ),
            false => None,
        };
        let table =
            String::from_utf8(whole("intervals.csv")?).map_err(|error| named("intervals.csv", error.to_string()))?;
        let mut intervals =
            rows(&table).ok_or_else(|| named("intervals.csv", "not the columns that loadgen writes".into()))?;
        let (mut latency, mut tags, mut parts) =
            (log("latency.hlog")?, log("latency-tags.hlog")?, log("latency-parts.hlog")?);
        if summary.is_none() {
            partial::align(&mut intervals, &mut latency, &mut tags, &mut parts);
        }
        Ok(Self { path: path.to_owned(), summary, latency, tags, parts, intervals })
    }

    /// Adds this run's seconds to those of the others.
    fn lay(
        &self,
        start_unix_ms: u64,
        tag_names: &mut Vec<String>,
        intervals: &mut BTreeMap<u64, Interval>,
    ) -> io::Result<()> {
        let offset_ms = self.latency.start_unix_ms.saturating_sub(start_unix_ms);
        let second_of = |start_ms: u64| (start_ms + offset_ms + 500) / 1000;
        let misfit = |_| invalid(format!("{}: a histogram with other bounds than loadgen's", self.path.display()));
        for row in &self.intervals {
            let counts = &mut interval_at(intervals, second_of(row.second * 1000)).counts;
            for (sum, count) in [
                &mut counts.planned,
                &mut counts.completed,
                &mut counts.errors,
                &mut counts.timed_out,
                &mut counts.shed,
                &mut counts.in_flight_at_end,
                &mut counts.body_bytes,
            ]
            .into_iter()
            .zip(row.counts)
            {
                *sum += count;
            }
        }
        for line in self.latency.lines.iter().chain(&self.parts.lines) {
            let interval = interval_at(intervals, second_of(milliseconds(line.start)));
            if let Some(part) = interval.histograms.part_mut(line.tag.as_deref()) {
                part.add(&line.histogram).map_err(misfit)?;
            }
        }
        for line in &self.tags.lines {
            let name = line.tag.clone().unwrap_or_default();
            let tag = tag_names.iter().position(|known| *known == name).unwrap_or_else(|| {
                tag_names.push(name);
                tag_names.len() - 1
            });
            let tags = &mut interval_at(intervals, second_of(milliseconds(line.start))).tags;
            if tags.len() <= tag {
                tags.resize_with(tag + 1, || None);
            }
            tags[tag].get_or_insert_with(histogram).add(&line.histogram).map_err(misfit)?;
        }
        Ok(())
    }
}

fn interval_at(intervals: &mut BTreeMap<u64, Interval>, second: u64) -> &mut Interval {
    intervals.entry(second).or_insert_with(|| {
        let mut interval = Interval::new(0);
        interval.start_ns = second * INTERVAL_NS;
        interval.length_ns = INTERVAL_NS;
        interval.phase = Phase::Measure;
        interval
    })
}

fn milliseconds(time: std::time::Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX / 4)
}

/// The rows of `intervals.csv` without the warm-up; `None` if a column is missing.
fn rows(table: &str) -> Option<Vec<Row>> {
    let mut lines = table.lines();
    let header: Vec<&str> = lines.next()?.split(',').collect();
    let column = |name: &str| header.iter().position(|known| *known == name);
    let (phase, start) = (column("phase")?, column("start_s")?);
    let mut places = [0; COUNTERS.len()];
    for (place, name) in places.iter_mut().zip(COUNTERS) {
        *place = column(name)?;
    }
    let mut rows = Vec::new();
    for line in lines {
        let cells: Vec<&str> = line.split(',').collect();
        if *cells.get(phase)? == Phase::WarmUp.name() {
            continue;
        }
        let mut counts = [0; COUNTERS.len()];
        for (count, place) in counts.iter_mut().zip(places) {
            *count = cells.get(place)?.parse().ok()?;
        }
        let start_s: f64 = cells.get(start)?.parse().ok()?;
        // Not negative outside the warm-up, and far below 2^53.
        rows.push(Row { second: start_s.max(0.0).round() as u64, counts });
    }
    Some(rows)
}

fn sum(runs: &[Run], summaries: &[Summary], totals: &Totals, tag_names: &[String], argv: Vec<String>) -> Summary {
    let mut merged = summaries[0].clone();
    for summary in &summaries[1..] {
        add(&mut merged, summary);
    }
    let named = runs.iter().zip(summaries);
    merged.reasons = named
        .flat_map(|(run, summary)| summary.reasons.iter().map(|reason| format!("{}: {reason}", run.path.display())))
        .collect();
    merged.argv = argv;
    merged.merged = u64::try_from(runs.len()).ok();
    merged.core = None;
    // Objectives were set for one generator's share; they say nothing about the sum.
    merged.slo = Vec::new();
    merged.set_quantiles(&totals.histograms);
    merged.response_p99_ci_ns = totals.response_p99_ci_ns();
    let present = tag_names.iter().zip(&totals.tags).filter_map(|(name, histogram)| Some((name, histogram.as_ref()?)));
    merged.tags = present
        .clone()
        .map(|(name, histogram)| (name.clone(), TagSummary { response_ns: Quantiles::of(histogram) }))
        .collect();
    if let Some(browse) = &mut merged.browse {
        browse.set_page_loads(|step| {
            let tag = hlog::clean_tag(&format!("{step}.page"));
            totals.tags[tag_names.iter().position(|name| *name == tag)?].as_ref()
        });
    }
    merged
}

/// Adds what can be added; the quantiles are set from the histograms afterwards.
fn add(sum: &mut Summary, other: &Summary) {
    let ended = |summary: &Summary| (summary.completed + summary.errors) as f64;
    let cpu_us = |summary: &Summary| summary.generator_cpu_us_per_request.unwrap_or(0.0) * ended(summary);
    let cpu_sum_us = cpu_us(sum) + cpu_us(other);
    sum.verdict = sum.verdict.max(other.verdict);
    for (total, part) in [
        (&mut sum.planned, other.planned),
        (&mut sum.completed, other.completed),
        (&mut sum.errors, other.errors),
        (&mut sum.timed_out, other.timed_out),
        (&mut sum.shed, other.shed),
        (&mut sum.in_flight_at_end, other.in_flight_at_end),
        (&mut sum.censored, other.censored),
        (&mut sum.overflow, other.overflow),
        (&mut sum.body_bytes, other.body_bytes),
        (&mut sum.received_bytes, other.received_bytes),
        (&mut sum.sent_bytes, other.sent_bytes),
        (&mut sum.connections, other.connections),
        (&mut sum.connections_opened, other.connections_opened),
        (&mut sum.warmup_requests, other.warmup_requests),
    ] {
        *total += part;
    }
    sum.generator_cpu_us_per_request = (ended(sum) > 0.0).then(|| cpu_sum_us / ended(sum));
    sum.offered_rate = sum.offered_rate.zip(other.offered_rate).map(|(one, two)| one + two);
    sum.achieved_rate += other.achieved_rate;
    // What cannot be added: the worst of all.
    sum.connection_imbalance = sum.connection_imbalance.into_iter().chain(other.connection_imbalance).reduce(f64::max);
    sum.unasked += other.unasked;
    sum.hiccup_ns = None;
    sum.ceiling_rate = None;
    sum.service_by_tier_ns.clear();
    sum.slow = None;
    sum.exemplars.clear();
    sum.stationary = None;
    // Shares are of a core each: the busiest generator is the one to look at.
    sum.generator_cpu_share = sum.generator_cpu_share.max(other.generator_cpu_share);
    sum.generator_wait_share = sum.generator_wait_share.max(other.generator_wait_share);
    sum.generator_spin_share = sum.generator_spin_share.max(other.generator_spin_share);
    sum.duration_s = sum.duration_s.max(other.duration_s);
    sum.started_unix_ms = sum.started_unix_ms.min(other.started_unix_ms);
    let [least, most] = sum.requests_per_connection;
    sum.requests_per_connection =
        [least.min(other.requests_per_connection[0]), most.max(other.requests_per_connection[1])];
    add_map(&mut sum.errors_by_kind, &other.errors_by_kind);
    add_map(&mut sum.status_counts, &other.status_counts);
    sum.checks = match (sum.checks.take(), &other.checks) {
        (Some(mut one), Some(two)) => {
            one.responses += two.responses;
            add_map(&mut one.failed, &two.failed);
            Some(one)
        }
        (one, two) => one.or_else(|| two.clone()),
    };
    sum.browse = match (sum.browse.take(), &other.browse) {
        (Some(mut one), Some(two)) => {
            one.add(two);
            Some(one)
        }
        (one, two) => one.or_else(|| two.clone()),
    };
}

fn add_map(sum: &mut BTreeMap<String, u64>, other: &BTreeMap<String, u64>) {
    for (name, count) in other {
        *sum.entry(name.clone()).or_default() += count;
    }
}

fn invalid(message: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, message)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::PathBuf;
    use std::time::Duration;

    use super::{Run, rows};
    use crate::hlog::{Line, Log};
    use crate::recorder::{STATUS_COUNT, histogram};
    use crate::report::{INTERVALS_HEADER, Totals};

    #[test]
    fn rows_are_found_by_the_names_of_their_columns() {
        let table = format!(
            "{INTERVALS_HEADER}\n-1.000,1.000,warm-up,9,9,0,0,0,0,9.0,,,,,,,,,9\n2.000,1.000,measure,5,3,1,1,0,0,3.0,1,1,1,1,1,1,1,1,77\n"
        );
        let rows = rows(&table).unwrap();
        assert_eq!(rows.len(), 1);
        assert_eq!((rows[0].second, rows[0].counts), (2, [5, 3, 1, 1, 0, 0, 77]));
        assert!(super::rows("a,b\n1,2\n").is_none());
    }

    /// Rule 12. The mean of the two medians, or of the two 99th percentiles, is a value that nobody measured.
    #[test]
    fn disjoint_distributions_merge_to_the_sort_of_their_union() {
        let fast: Vec<u64> = (0..9_000).map(|k| 100_000 + k * 17).collect();
        let slow: Vec<u64> = (0..1_000).map(|k| 700_000_000 + k * 90_001).collect();
        let run = |values: &[u64], start_unix_ms: u64| {
            let lines = values.chunks(500).zip(0..).map(|(chunk, second)| {
                let mut histogram = histogram();
                chunk.iter().for_each(|value| histogram.record(*value).unwrap());
                Line { tag: None, start: Duration::from_secs(second), histogram }
            });
            let latency = Log { start_unix_ms, lines: lines.collect() };
            let (tags, parts) = (Log::default(), Log::default());
            Run { path: PathBuf::new(), summary: None, latency, tags, parts, intervals: Vec::new() }
        };
        let (mut names, mut intervals) = (Vec::new(), BTreeMap::new());
        run(&fast, 1_000_000).lay(1_000_000, &mut names, &mut intervals).unwrap();
        // A second and a half later: seconds are laid over each other, nothing else changes.
        run(&slow, 1_001_500).lay(1_000_000, &mut names, &mut intervals).unwrap();
        let mut totals = Totals::new(0, STATUS_COUNT);
        intervals.values().for_each(|interval| totals.add(interval));
        let mut union = [fast, slow].concat();
        union.sort_unstable();
        assert_eq!(totals.histograms.response.len(), 10_000);
        for (quantile, rank) in
            [(0.01, 100), (0.5, 5_000), (0.89, 8_900), (0.9, 9_000), (0.901, 9_010), (0.99, 9_900), (1.0, 10_000)]
        {
            let (found, exact) = (totals.histograms.response.value_at_quantile(quantile), union[rank - 1]);
            assert!(found.abs_diff(exact) <= exact / 1000, "quantile {quantile}: {found}, sorted {exact}");
        }
    }
}
