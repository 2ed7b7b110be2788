//! vegeta's reports, as JSON and as text.

use std::collections::BTreeMap;

use serde_json::Value;

use super::unit::{duration_ns, duration_whole_ns, whole};
use crate::load::{Load, counts};

const COUNTED: &str =
    "when a worker had taken the request to the end of its response; quantiles are estimates of a t-digest";

fn load() -> Load {
    Load { tool: "vegeta".to_owned(), latency_counted: COUNTED.to_owned(), ..Load::default() }
}

/// Statuses from 200 to 399 are successes, as vegeta counts them; 0 is no response at all.
fn completed(statuses: &BTreeMap<String, u64>) -> u64 {
    let good = |status: &str| status.parse::<u16>().is_ok_and(|status| (200..400).contains(&status));
    statuses.iter().filter(|(status, _)| good(status)).map(|(_, count)| *count).sum()
}

/// Of `vegeta report -type=json`: times are nanoseconds.
pub fn of_json(value: &Value) -> Load {
    let latencies = &value["latencies"];
    let (planned, status_counts) = (value["requests"].as_u64(), counts(&value["status_codes"]));
    let completed = completed(&status_counts);
    let quantiles = [(0.5, "50th"), (0.9, "90th"), (0.95, "95th"), (0.99, "99th")];
    Load {
        duration_s: value["duration"].as_f64().map(|ns| ns / 1e9),
        offered_per_s: value["rate"].as_f64(),
        throughput_per_s: value["throughput"].as_f64(),
        planned,
        completed: Some(completed),
        failed: planned.map(|planned| planned.saturating_sub(completed)),
        received_bytes: value["bytes_in"]["total"].as_u64(),
        mean_ns: latencies["mean"].as_f64(),
        min_ns: latencies["min"].as_u64(),
        max_ns: latencies["max"].as_u64(),
        quantiles: quantiles
            .into_iter()
            .filter_map(|(quantile, name)| Some((quantile, latencies[name].as_u64()?)))
            .collect(),
        status_counts,
        ..load()
    }
}

/// Of `vegeta report`: a name, the names of the figures in brackets, the figures. `None` if it is none.
pub fn read_text(text: &str) -> Option<Load> {
    let row = |name: &str| -> Option<BTreeMap<String, String>> {
        let line = text.lines().find(|line| line.starts_with(name))?;
        let (names, values) = line.split_once('[')?.1.split_once(']')?;
        let names = names.split(", ").map(str::to_owned);
        Some(names.zip(values.trim().split(", ").map(|value| value.trim().to_owned())).collect())
    };
    let (requests, latencies) = (row("Requests")?, row("Latencies")?);
    let codes = text.lines().find(|line| line.starts_with("Status Codes"))?.split_once(']')?.1;
    let status_counts: BTreeMap<String, u64> = codes
        .split_whitespace()
        .filter_map(|part| part.split_once(':'))
        .filter_map(|(status, count)| Some((status.to_owned(), count.parse().ok()?)))
        .collect();
    let (planned, completed) = (requests["total"].parse().ok(), completed(&status_counts));
    let latency = |name: &str| latencies.get(name).and_then(|text| duration_whole_ns(text));
    let duration = row("Duration").and_then(|row| duration_ns(row.get("attack")?));
    Some(Load {
        duration_s: duration.map(|ns| ns / 1e9),
        offered_per_s: requests.get("rate").and_then(|rate| rate.parse().ok()),
        throughput_per_s: requests.get("throughput").and_then(|rate| rate.parse().ok()),
        planned,
        completed: Some(completed),
        failed: planned.map(|planned: u64| planned.saturating_sub(completed)),
        received_bytes: row("Bytes In").and_then(|row| row.get("total")?.parse().ok().map(whole)),
        mean_ns: latencies.get("mean").and_then(|text| duration_ns(text)),
        min_ns: latency("min"),
        max_ns: latency("max"),
        quantiles: [(0.5, "50"), (0.9, "90"), (0.95, "95"), (0.99, "99")]
            .into_iter()
            .filter_map(|(quantile, name)| Some((quantile, latency(name)?)))
            .collect(),
        status_counts,
        ..load()
    })
}
