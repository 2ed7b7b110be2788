//! Tools that print JSON: oha, k6, vegeta.

use serde_json::Value;

use super::unit::whole;
use super::vegeta;
use crate::load::{Load, counts};

const OHA: &str = "start of the request, or with --latency-correction its dispatch, to the end of the response";
const K6: &str = "http_req_duration: sending, waiting and receiving, without connect and TLS handshake";

/// `None` if it is of none of them.
pub fn read(text: &str) -> Option<Load> {
    let value: Value = serde_json::from_str(text).ok()?;
    if value["summary"]["requestsPerSec"].is_number() && value["latencyPercentiles"].is_object() {
        Some(oha(&value))
    } else if value["metrics"]["http_reqs"].is_object() {
        Some(k6(&value))
    } else if value["latencies"].is_object() && value["bytes_in"].is_object() {
        Some(vegeta::of_json(&value))
    } else {
        None
    }
}

/// Times are seconds. Every response counts as a success there; here those below 400 do, as with the other tools.
fn oha(value: &Value) -> Load {
    let summary = &value["summary"];
    let ns = |value: &Value| value.as_f64().map(|seconds| seconds * 1e9);
    let statuses = counts(&value["statusCodeDistribution"]);
    let good = |status: &str| status.parse::<u16>().is_ok_and(|status| status < 400);
    let completed = statuses.iter().filter(|(status, _)| good(status)).map(|(_, count)| *count).sum();
    let responses: u64 = statuses.values().sum();
    let broken: u64 = counts(&value["errorDistribution"]).values().sum();
    let percentiles = value["latencyPercentiles"].as_object().into_iter().flatten();
    let mut quantiles: Vec<(f64, u64)> = percentiles
        .filter_map(|(name, value)| Some((name.strip_prefix('p')?.parse::<f64>().ok()? / 100.0, whole(ns(value)?))))
        .collect();
    quantiles.sort_by(|one, two| one.0.total_cmp(&two.0));
    Load {
        tool: "oha".to_owned(),
        latency_counted: OHA.to_owned(),
        duration_s: summary["total"].as_f64(),
        throughput_per_s: summary["requestsPerSec"].as_f64(),
        completed: Some(completed),
        failed: Some(responses - completed + broken),
        received_bytes: summary["totalData"].as_u64(),
        mean_ns: ns(&summary["average"]),
        min_ns: ns(&summary["fastest"]).map(whole),
        max_ns: ns(&summary["slowest"]).map(whole),
        quantiles,
        status_counts: statuses,
        ..Load::default()
    }
}

/// Times are milliseconds; handleSummary's data has the figures of a metric one level deeper than --summary-export's.
fn k6(value: &Value) -> Load {
    let metric = |name: &str| {
        let metric = &value["metrics"][name];
        if metric["values"].is_object() { &metric["values"] } else { metric }
    };
    let (requests, duration) = (metric("http_reqs"), metric("http_req_duration"));
    let ns = |name: &str| duration[name].as_f64().map(|ms| ms * 1e6);
    let percentile = |name: &str| match name {
        "med" => Some(0.5),
        _ => Some(name.strip_prefix("p(")?.strip_suffix(')')?.parse::<f64>().ok()? / 100.0),
    };
    let names = duration.as_object().into_iter().flatten().map(|(name, _)| name.as_str());
    let mut quantiles: Vec<(f64, u64)> = names.filter_map(|name| Some((percentile(name)?, whole(ns(name)?)))).collect();
    quantiles.sort_by(|one, two| one.0.total_cmp(&two.0));
    // A rate's `passes` are the requests for which it held: those that failed.
    let (count, failed) = (requests["count"].as_u64(), metric("http_req_failed")["passes"].as_u64());
    let rate = requests["rate"].as_f64();
    let told_s = value["state"]["testRunDurationMs"].as_f64().map(|ms| ms / 1e3);
    Load {
        tool: "k6".to_owned(),
        latency_counted: K6.to_owned(),
        duration_s: told_s,
        throughput_per_s: rate,
        completed: count.zip(failed).map(|(count, failed)| count.saturating_sub(failed)),
        failed,
        received_bytes: metric("data_received")["count"].as_u64(),
        mean_ns: ns("avg"),
        min_ns: ns("min").map(whole),
        max_ns: ns("max").map(whole),
        quantiles,
        ..Load::default()
    }
}
