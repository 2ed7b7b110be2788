//! `GET /metrics`: Prometheus text (exposition format 0.0.4) of everything that is counted.
//!
//! One rule instead of a list of names: whatever number a status report holds is exported. Keys are joined by `_` to a
//! name; counters end in `_total`, durations become seconds; what a list's elements are called becomes a label.
//! `help.rs` says which numbers may fall, and explains those whose name does not.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::Value;

use crate::front::latency::{Histogram, Latency};
use crate::worker::WorkerStatus;

use super::help::{GAUGES, help};

/// What a family's numbers may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Counter,
    Gauge,
    Histogram,
}

impl Kind {
    fn word(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// Label names and values, outermost first.
type Labels = Vec<(String, String)>;

/// Samples by family, each already a line of text.
#[derive(Debug, Default)]
struct Exposition {
    families: BTreeMap<String, (Kind, String, Vec<String>)>,
}

impl Exposition {
    fn add(&mut self, name: &str, kind: Kind, base: &str, sample: String) {
        let family = self.families.entry(name.into()).or_insert_with(|| (kind, help(base), Vec::new()));
        family.2.push(sample);
    }

    /// One number by its key: the unit in the key's end becomes the name's, in Prometheus' base units.
    fn number(&mut self, base: &str, labels: &Labels, number: &serde_json::Number) {
        let kind = if GAUGES.contains(&base) { Kind::Gauge } else { Kind::Counter };
        let (stem, divisor) = [("_ns", 1e9), ("_us", 1e6), ("_ms", 1e3)]
            .iter()
            .find_map(|(unit, divisor)| Some((base.strip_suffix(unit)?, Some(*divisor))))
            .unwrap_or((base, None));
        let seconds = if divisor.is_some() { "_seconds" } else { "" };
        let total = if kind == Kind::Counter { "_total" } else { "" };
        let name = format!("twintier_{stem}{seconds}{total}");
        let value = match (divisor, number.as_f64()) {
            (Some(divisor), Some(value)) => (value / divisor).to_string(),
            (Some(_) | None, _) => number.to_string(),
        };
        let sample = format!("{name}{} {value}", label_text(labels));
        self.add(&name, kind, base, sample);
    }

    fn gauge(&mut self, base: &str, labels: &Labels, value: u64) {
        let name = format!("twintier_{base}");
        let sample = format!("{name}{} {value}", label_text(labels));
        self.add(&name, Kind::Gauge, base, sample);
    }

    /// `buckets` are bounds and cumulative counts; the one without a bound is added.
    fn histogram(
        &mut self,
        base: &str,
        labels: &Labels,
        buckets: impl Iterator<Item = (String, u64)>,
        count: u64,
        sum: &str,
    ) {
        let name = format!("twintier_{base}");
        let mut text = String::new();
        for (bound, below) in buckets.chain([("+Inf".to_string(), count)]) {
            let mut with_bound = labels.clone();
            with_bound.push(("le".into(), bound));
            let _ = writeln!(text, "{name}_bucket{} {below}", label_text(&with_bound));
        }
        let label = label_text(labels);
        let _ = write!(text, "{name}_sum{label} {sum}\n{name}_count{label} {count}");
        self.add(&name, Kind::Histogram, base, text);
    }

    fn latency(&mut self, labels: &Labels, latency: &Latency) {
        let Latency { total, first_byte, queue } = latency;
        for (base, histogram) in
            [("front_request_seconds", total), ("front_first_byte_seconds", first_byte), ("front_queue_seconds", queue)]
        {
            let buckets = histogram.cumulative().map(|(bound_ns, below)| (seconds(bound_ns), below));
            self.histogram(base, labels, buckets, histogram.count(), &sum_seconds(histogram));
        }
    }

    /// Enters by the completions that they brought: entry n counts those with 2^(n-1) up to 2^n - 1, the last one all
    /// beyond.
    fn enters(&mut self, labels: &Labels, enters: &[Value], completions: &Value) {
        let counts: Vec<u64> = enters.iter().filter_map(Value::as_u64).collect();
        let mut below = 0;
        let buckets = counts.iter().enumerate().take(counts.len().saturating_sub(1)).map(|(entry, count)| {
            below += count;
            (((1_u64 << entry) - 1).to_string(), below)
        });
        let (count, sum) = (counts.iter().sum(), completions.to_string());
        self.histogram("engine_completions_per_enter", labels, buckets, count, &sum);
    }

    fn render(&self) -> String {
        let mut out = String::new();
        for (name, (kind, help, samples)) in &self.families {
            let help = help.replace('\\', "\\\\").replace('\n', "\\n");
            let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {}", kind.word());
            for sample in samples {
                out.push_str(sample);
                out.push('\n');
            }
        }
        out
    }
}

fn seconds(ns: u64) -> String {
    // Bounds are powers of two below 2^53: exact.
    (ns as f64 / 1e9).to_string()
}

fn sum_seconds(histogram: &Histogram) -> String {
    (histogram.sum_ns() as f64 / 1e9).to_string()
}

/// Renders a status report; `workers` are the same reports with what JSON does not show of them.
pub fn render(status: &Value, workers: &[WorkerStatus]) -> String {
    let mut out = Exposition::default();
    let text = |key: &str| status[key].as_str().unwrap_or_default().to_string();
    let info = ["version", "engine", "name"].map(|key| (key.to_string(), text(key))).to_vec();
    out.gauge("info", &info, 1);
    for (key, value) in status.as_object().into_iter().flatten().filter(|(key, _)| *key != "workers") {
        collect(&mut out, key, &mut Vec::new(), value);
    }
    for worker in status["workers"].as_array().into_iter().flatten() {
        let label = |key: &str, of: &Value| vec![(key.to_string(), of[key].to_string())];
        for (key, value) in worker.as_object().into_iter().flatten() {
            match key.as_str() {
                "worker" => {}
                "front" => collect(&mut out, "front", &mut label("front", value), value),
                "replica" => collect(&mut out, "replica", &mut label("replica", value), value),
                "engine" | "mesh" => {
                    collect(&mut out, key, &mut label("worker", worker), value);
                    if let Some(enters) = value["completions_per_enter"].as_array() {
                        out.enters(&label("worker", worker), enters, &value["completions"]);
                    }
                }
                _ => collect(&mut out, &format!("worker_{key}"), &mut label("worker", worker), value),
            }
        }
    }
    for front in workers.iter().filter_map(|worker| worker.front.as_ref()) {
        out.latency(&vec![("front".to_string(), front.front.to_string())], &front.latency);
    }
    out.render()
}

/// Keys whose numbers are exported in another form: as histograms, as the label that they are, or under another key.
fn is_elsewhere(base: &str) -> bool {
    matches!(
        base,
        "latency"
            | "front_latency"
            | "engine_completions_per_enter"
            | "front_front"
            | "replica_replica"
            | "front_dispatched_local"
            | "front_dispatched_remote"
            | "front_dispatched_after_wait"
    )
}

/// What the elements of a list of numbers are called.
fn element_of(base: &str) -> &'static str {
    match base {
        "front_outstanding" => "replica",
        "replica_applied" => "origin",
        _ => "index",
    }
}

fn collect(out: &mut Exposition, base: &str, labels: &mut Labels, value: &Value) {
    if is_elsewhere(base) {
        return;
    }
    match value {
        Value::Number(number) => out.number(base, labels, number),
        Value::Bool(flag) => out.gauge(base, labels, u64::from(*flag)),
        Value::String(text) => {
            // Of texts only states are of use to a monitor.
            if base.ends_with("_state") {
                labels.push(("state".into(), text.clone()));
                out.gauge(base, labels, 1);
                labels.pop();
            }
        }
        Value::Object(object) if base == "books" => {
            for (of, off) in object {
                labels.push(("of".into(), of.clone()));
                collect(out, base, labels, off);
                labels.pop();
            }
        }
        Value::Object(object) => {
            for (key, value) in object {
                match key.as_str() {
                    "counters" => collect(out, base, labels, value),
                    "endings" => {
                        for (reason, count) in value.as_object().into_iter().flatten() {
                            labels.push(("reason".into(), reason.clone()));
                            collect(out, &format!("{base}_endings"), labels, count);
                            labels.pop();
                        }
                    }
                    _ => collect(out, &format!("{base}_{}", metric_word(key)), labels, value),
                }
            }
        }
        Value::Array(items) => list(out, base, labels, items),
        Value::Null => {}
    }
}

/// A list of objects is labelled by what names them, a list of numbers by position.
fn list(out: &mut Exposition, base: &str, labels: &mut Labels, items: &[Value]) {
    let singular = base.strip_suffix('s').unwrap_or(base);
    for (index, item) in items.iter().enumerate() {
        match item {
            Value::Object(object) => {
                let word = singular.rsplit('_').next().unwrap_or("item");
                let known = [word, "name", "address", "pattern"];
                let key = known.iter().find(|key| object.get(**key).is_some_and(|value| !value.is_object()));
                let name = key.and_then(|key| object.get(*key)).map_or_else(
                    || index.to_string(),
                    |value| value.as_str().map_or_else(|| value.to_string(), Into::into),
                );
                labels.push((word.to_string(), name));
                for (field, value) in object.iter().filter(|(field, _)| key != Some(&field.as_str())) {
                    collect(out, &format!("{singular}_{}", metric_word(field)), labels, value);
                }
                labels.pop();
            }
            Value::Number(_) | Value::Bool(_) => {
                labels.push((element_of(base).to_string(), index.to_string()));
                collect(out, base, labels, item);
                labels.pop();
            }
            Value::String(_) | Value::Array(_) | Value::Null => {}
        }
    }
}

fn metric_word(key: &str) -> String {
    key.chars().map(|letter| if letter.is_ascii_alphanumeric() { letter } else { '_' }).collect()
}

fn label_text(labels: &Labels) -> String {
    if labels.is_empty() {
        return String::new();
    }
    let escape = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    let parts: Vec<String> = labels.iter().map(|(name, value)| format!("{name}=\"{}\"", escape(value))).collect();
    format!("{{{}}}", parts.join(","))
}

#[cfg(test)]
#[path = "metrics_tests.rs"]
mod tests;
