//! h2load of nghttp2.

use super::unit::{count_before, duration_ns, whole};
use crate::load::Load;

const COUNTED: &str =
    "sending to the end of the response; quantiles, where there are any, of at most 1,000,000 sampled values";

/// `None` if it is no output of h2load.
pub fn read(text: &str) -> Option<Load> {
    let finished = text.lines().find_map(|line| line.strip_prefix("finished in "))?;
    let times = text.lines().find_map(|line| line.strip_prefix("time for request:"))?;
    let requests = text.lines().find_map(|line| line.strip_prefix("requests: "))?;
    let mut load = Load { tool: "h2load".to_owned(), latency_counted: COUNTED.to_owned(), ..Load::default() };
    let mut parts = finished.split(", ");
    load.duration_s = duration_ns(parts.next()?).map(|ns| ns / 1e9);
    load.throughput_per_s = parts.next()?.strip_suffix(" req/s")?.parse().ok();
    load.planned = count_before(requests, "total");
    load.completed = count_before(requests, "succeeded");
    load.failed = count_before(requests, "failed");
    // Above the times stand the names of their columns, which later versions have more of.
    let names = text.lines().find(|line| line.trim_start().starts_with("min ") && line.contains("mean"))?;
    for (name, value) in names.split_whitespace().zip(times.split_whitespace()) {
        let value = duration_ns(value);
        match name {
            "min" => load.min_ns = value.map(whole),
            "max" => load.max_ns = value.map(whole),
            "mean" => load.mean_ns = value,
            "median" => load.quantiles.extend(value.map(|ns| (0.5, whole(ns)))),
            "p95" => load.quantiles.extend(value.map(|ns| (0.95, whole(ns)))),
            "p99" => load.quantiles.extend(value.map(|ns| (0.99, whole(ns)))),
            // Two words for the deviation and the share within it; what later versions add besides.
            _ => {}
        }
    }
    let classes = text.lines().find_map(|line| line.strip_prefix("status codes: "));
    for (count, class) in classes.into_iter().flat_map(|line| line.split(", ")).filter_map(|part| part.split_once(' '))
    {
        load.status_counts.insert(class.to_owned(), count.parse().ok()?);
    }
    // `traffic: 94.41KB (96680) total, …`: the exact number is in brackets.
    let traffic = text.lines().find_map(|line| line.strip_prefix("traffic: "));
    load.received_bytes = traffic.and_then(|line| line.split_once('(')?.1.split_once(')')?.0.parse().ok());
    let clients = text.lines().filter(|line| line.starts_with("spawning thread"));
    let clients: Vec<u64> = clients.filter_map(|line| count_before(line.split_once(": ")?.1, "total")).collect();
    load.connections = (!clients.is_empty()).then(|| clients.iter().sum());
    Some(load)
}
