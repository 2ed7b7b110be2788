//! A run directory without `summary.json`: its generator was killed. What it wrote down until then counts; what only the
//! end of a run knows (kinds of failures, costs, bytes on the wire) is absent.

use std::time::Duration;

use super::{COUNTERS, Row};
use crate::hlog::Log;
use crate::recorder::Counts;
use crate::summary::{BrowseSummary, Summary};
use crate::verdict::Verdict;

/// Failures whose kinds went down with the generator.
const UNRECORDED: &str = "unrecorded";

/// The part of a file that was written whole.
pub fn whole_lines(bytes: &[u8]) -> &[u8] {
    let end = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
    &bytes[..end]
}

/// Cuts the files back to the intervals that are in all of them.
pub fn align(rows: &mut Vec<Row>, latency: &mut Log, tags: &mut Log, parts: &mut Log) {
    let parts_per_interval = crate::recorder::Histograms::new().parts().len();
    let count = rows.len().min(latency.lines.len()).min(parts.lines.len() / parts_per_interval);
    rows.truncate(count);
    let end = latency.lines.get(count).map_or(Duration::MAX, |line| line.start);
    latency.lines.truncate(count);
    parts.lines.truncate(count * parts_per_interval);
    tags.lines.retain(|line| line.start < end && count > 0);
}

/// A summary of what is there, in the form of a run that ended.
pub fn summary(like: &Summary, rows: &[Row], tags: &Log) -> Summary {
    let mut counts = Counts::default();
    for row in rows {
        let [planned, completed, errors, timed_out, shed, in_flight_at_end, body_bytes] = row.counts;
        counts.add(&Counts {
            planned,
            completed,
            errors,
            timed_out,
            shed,
            in_flight_at_end,
            censored: timed_out + in_flight_at_end,
            overflow: 0,
            body_bytes,
        });
    }
    // What was on its way when the generator was killed never came to an end.
    let ended = counts.completed + counts.errors + counts.timed_out + counts.shed + counts.in_flight_at_end;
    let unended = counts.planned.saturating_sub(ended);
    counts.in_flight_at_end += unended;
    let seconds = rows.last().map_or(0, |row| row.second + 1);
    let failed = counts.errors + counts.timed_out + counts.shed;
    let mut partial = like.clone();
    partial.set_counts(&counts);
    partial.verdict = Verdict::Suspect;
    partial.reasons = vec![format!(
        "the run did not end: it has no summary.json, and only what its logs hold of the first {seconds} s counts{}",
        if unended > 0 { format!("; {unended} requests were on their way") } else { String::new() }
    )];
    partial.errors_by_kind = (failed > 0).then(|| (UNRECORDED.to_owned(), failed)).into_iter().collect();
    partial.status_counts.clear();
    for line in &tags.lines {
        if let Some(status) = line.tag.as_deref().and_then(|tag| tag.strip_prefix("status_")) {
            *partial.status_counts.entry(status.to_owned()).or_default() += line.histogram.len();
        }
    }
    partial.duration_s = seconds as f64;
    let per_s = |count: u64| count as f64 / (seconds.max(1)) as f64;
    partial.offered_rate = like.offered_rate.map(|_| per_s(counts.planned));
    partial.achieved_rate = per_s(counts.completed);
    (partial.received_bytes, partial.sent_bytes) = (0, 0);
    (partial.connections, partial.connections_opened, partial.warmup_requests) = (0, 0, 0);
    partial.generator_cpu_us_per_request = None;
    (partial.generator_cpu_share, partial.generator_wait_share, partial.generator_spin_share) = (0.0, 0.0, 0.0);
    partial.requests_per_connection = like.requests_per_connection;
    partial.browse = like
        .browse
        .as_ref()
        .map(|browse| BrowseSummary { scenario: browse.scenario.clone(), ..BrowseSummary::default() });
    partial.checks = None;
    partial.share = None;
    partial
}

const _: () = assert!(COUNTERS.len() == 7);
