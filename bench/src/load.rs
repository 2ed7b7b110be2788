//! One run of a load generator, ours or another's, in one shape: what the store keeps of it.

use std::collections::BTreeMap;

use serde_json::Value;

/// What a tool told about its run. `None` where it did not tell: nothing is made up, nothing is 0 for want of knowledge.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Load {
    pub tool: String,
    pub tool_version: Option<String>,
    /// Between which two points the tool takes latency, and what it leaves out.
    pub latency_counted: String,
    /// `open` or `closed`.
    pub mode: Option<String>,
    pub url: Option<String>,
    pub connections: Option<u64>,
    pub started_unix_s: Option<u64>,
    pub duration_s: Option<f64>,
    pub offered_per_s: Option<f64>,
    /// As the tool computes it.
    pub throughput_per_s: Option<f64>,
    pub planned: Option<u64>,
    /// Responses that the tool takes for good ones.
    pub completed: Option<u64>,
    /// Whatever did not become one: errors, timeouts, other statuses.
    pub failed: Option<u64>,
    pub received_bytes: Option<u64>,
    pub mean_ns: Option<f64>,
    pub min_ns: Option<u64>,
    pub max_ns: Option<u64>,
    /// Every quantile that the tool printed, in rising order, without the maximum.
    pub quantiles: Vec<(f64, u64)>,
    /// By status, or by class where the tool tells no more (`2xx`).
    pub status_counts: BTreeMap<String, u64>,
    pub verdict: Option<String>,
}

impl Load {
    /// A quantile that the tool printed.
    pub fn quantile(&self, quantile: f64) -> Option<u64> {
        let found = self.quantiles.iter().find(|(known, _)| (known - quantile).abs() < 1e-9);
        found.map(|(_, value_ns)| *value_ns)
    }

    /// What `summary.json` of loadgen says.
    pub fn of_summary(summary: &Value) -> Self {
        let count = |name: &str| summary[name].as_u64();
        let number = |name: &str| summary[name].as_f64();
        let text = |name: &str| summary[name].as_str().map(str::to_owned);
        let response = &summary["response_ns"];
        let quantiles = [(0.5, "p50"), (0.9, "p90"), (0.99, "p99"), (0.999, "p999")];
        Self {
            tool: "loadgen".to_owned(),
            tool_version: text("version"),
            latency_counted: summary["definitions"]["response_ns"]
                .as_str()
                .unwrap_or("planned time to last byte")
                .to_owned(),
            mode: text("mode"),
            url: text("url"),
            connections: count("connections"),
            started_unix_s: count("started_unix_ms").map(|ms| ms / 1000),
            duration_s: number("duration_s"),
            offered_per_s: number("offered_rate"),
            throughput_per_s: number("achieved_rate"),
            planned: count("planned"),
            completed: count("completed"),
            failed: ["errors", "timed_out", "shed"].into_iter().map(count).sum(),
            received_bytes: count("received_bytes"),
            mean_ns: None,
            min_ns: None,
            max_ns: response["max"].as_u64(),
            quantiles: quantiles
                .into_iter()
                .filter_map(|(quantile, name)| Some((quantile, response[name].as_u64()?)))
                .collect(),
            status_counts: counts(&summary["status_counts"]),
            verdict: text("verdict"),
        }
    }
}

/// The whole numbers of an object.
pub fn counts(object: &Value) -> BTreeMap<String, u64> {
    let entries = object.as_object().into_iter().flatten();
    entries.filter_map(|(name, count)| Some((name.clone(), count.as_u64()?))).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::Load;

    #[test]
    fn what_a_summary_does_not_tell_is_not_made_up() {
        let load = Load::of_summary(&json!({
            "mode": "open", "errors": 1, "timed_out": 2, "shed": 3, "offered_rate": 9.5, "started_unix_ms": 1_795_441_620_123_u64,
            "response_ns": {"p50": 5, "p90": 7, "p99": null, "p999": null, "max": 9, "count": 2}, "status_counts": {"200": 4},
        }));
        assert_eq!((load.failed, load.offered_per_s, load.started_unix_s), (Some(6), Some(9.5), Some(1_795_441_620)));
        assert_eq!((load.quantile(0.9), load.quantile(0.99), load.max_ns), (Some(7), None, Some(9)));
        assert_eq!(load.status_counts["200"], 4);
        let nothing = Load::of_summary(&json!({}));
        assert_eq!((nothing.failed, nothing.planned, nothing.url), (None, None, None));
    }
}
