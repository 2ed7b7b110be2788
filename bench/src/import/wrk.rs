//! wrk and wrk2, which prints the same and more.

use super::unit::{bytes, count_before, duration_ns, duration_whole_ns};
use crate::load::Load;

const WRK: &str = "sending to last byte, of a closed loop; responses later than --timeout are counted and left out";
const WRK2: &str = "planned start by the connection's own schedule to last byte (recorded latency); every wait is rounded up to \
    whole milliseconds, timeouts are left out";

/// `None` if it is of neither.
pub fn read(text: &str) -> Option<Load> {
    let mut lines = text.lines();
    let url =
        lines.find_map(|line| line.strip_prefix("Running ")?.split_once(" test @ ")).map(|(_, url)| url.trim())?;
    let stats = text.lines().find_map(|line| line.trim().strip_prefix("Latency "))?;
    let planned_schedule = text.contains("Thread calibration:") || text.contains("(HdrHistogram");
    let mut load = Load {
        tool: if planned_schedule { "wrk2" } else { "wrk" }.to_owned(),
        latency_counted: if planned_schedule { WRK2 } else { WRK }.to_owned(),
        mode: Some(if planned_schedule { "open" } else { "closed" }.to_owned()),
        url: Some(url.to_owned()),
        ..Load::default()
    };
    // Average, deviation, maximum, share within the deviation.
    let stats: Vec<&str> = stats.split_whitespace().collect();
    load.mean_ns = duration_ns(stats.first()?);
    load.max_ns = duration_whole_ns(stats.get(2)?);
    load.quantiles = distribution(text);
    let (mut responses, mut refused, mut broken) = (None, 0, 0);
    for line in text.lines().map(str::trim) {
        if line.ends_with(" connections") {
            load.connections = count_before(line, "connections");
        } else if let Some((count, rest)) = line.split_once(" requests in ") {
            responses = count.parse::<u64>().ok();
            let (duration, read) = rest.split_once(", ")?;
            load.duration_s = duration_ns(duration).map(|ns| ns / 1e9);
            load.received_bytes = bytes(read.trim_end_matches(" read"));
        } else if let Some(count) = line.strip_prefix("Non-2xx or 3xx responses: ") {
            refused = count.parse().ok()?;
        } else if let Some(kinds) = line.strip_prefix("Socket errors: ") {
            broken = kinds.split(", ").filter_map(|kind| kind.split_once(' ')?.1.parse::<u64>().ok()).sum();
        } else if let Some(rate) = line.strip_prefix("Requests/sec:") {
            load.throughput_per_s = rate.trim().parse().ok();
        }
    }
    load.completed = responses.map(|responses| responses.saturating_sub(refused));
    load.failed = responses.map(|_| refused + broken);
    Some(load)
}

/// The lines below the first heading of a distribution; a second one of wrk2 is its uncorrected latency.
fn distribution(text: &str) -> Vec<(f64, u64)> {
    let rows = text.lines().skip_while(|line| !line.contains("Latency Distribution")).skip(1);
    let row = |line: &str| {
        let (percent, value) = line.trim().split_once('%')?;
        Some((percent.parse::<f64>().ok()? / 100.0, duration_whole_ns(value)?))
    };
    rows.map_while(row).filter(|(quantile, _)| *quantile < 1.0).collect()
}
