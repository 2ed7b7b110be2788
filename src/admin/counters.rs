//! Counters as Prometheus text (exposition format 0.0.4).

use std::fmt::Write as _;

use serde_json::Value;

/// Renders every number of a status report as a metric: keys joined by `_`, servers as labels.
///
/// One rule instead of a list of names: whatever a server counts is exported.
pub fn render(status: &Value) -> String {
    let mut rows: Vec<(String, String, f64)> = Vec::new();
    collect(status, "twintier", &mut Vec::new(), &mut rows);
    rows.sort_by(|a, b| (&a.0, &a.1).cmp(&(&b.0, &b.1)));
    let mut out = String::new();
    let mut last = "";
    for (name, labels, value) in &rows {
        if name != last {
            let kind = if is_gauge(name) { "gauge" } else { "counter" };
            let _ = writeln!(out, "# TYPE {name} {kind}");
            last = name;
        }
        let _ = writeln!(out, "{name}{labels} {value}");
    }
    out
}

fn is_gauge(name: &str) -> bool {
    const GAUGES: [&str; 14] = [
        "load",
        "open",
        "progress",
        "waiting",
        "outstanding",
        "lag",
        "rows",
        "idle",
        "version",
        "core",
        "draining",
        "running",
        "bytes",
        "parked",
    ];
    name.rsplit('_').take(2).any(|word| GAUGES.contains(&word))
}

fn collect(value: &Value, name: &str, labels: &mut Vec<(String, String)>, rows: &mut Vec<(String, String, f64)>) {
    match value {
        Value::Number(number) => {
            if let Some(number) = number.as_f64() {
                rows.push((name.into(), label_text(labels), number));
            }
        }
        Value::Bool(flag) => rows.push((name.into(), label_text(labels), f64::from(u8::from(*flag)))),
        Value::Object(object) => {
            for (key, value) in object {
                collect(value, &format!("{name}_{}", metric_word(key)), labels, rows);
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                // A list of objects is labelled by what names them, a list of numbers by position.
                let of =
                    |key: &str| item.get(key).map(|value| value.as_str().map_or_else(|| value.to_string(), Into::into));
                let word = name.rsplit('_').next().unwrap_or("item").trim_end_matches('s').to_string();
                let label =
                    ["name", "table", "address", "worker", "front", "replica", "peer"].iter().find_map(|key| of(key));
                labels.push((word, label.unwrap_or_else(|| index.to_string())));
                if !item.is_string() {
                    collect(item, name, labels, rows);
                }
                labels.pop();
            }
        }
        Value::Null | Value::String(_) => {}
    }
}

fn metric_word(key: &str) -> String {
    key.chars().map(|letter| if letter.is_ascii_alphanumeric() { letter } else { '_' }).collect()
}

fn label_text(labels: &[(String, String)]) -> String {
    if labels.is_empty() {
        return String::new();
    }
    let escape = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    let parts: Vec<String> = labels.iter().map(|(name, value)| format!("{name}=\"{}\"", escape(value))).collect();
    format!("{{{}}}", parts.join(","))
}

#[cfg(test)]
mod tests {
    use super::render;

    #[test]
    fn numbers_become_metrics_with_labels() {
        let status =
            serde_json::json!({"workers": [{"worker": 0, "front": {"load": 2, "counters": {"requests_taken": 7}}}]});
        let text = render(&status);
        assert!(text.contains("# TYPE twintier_workers_front_counters_requests_taken counter\n"), "{text}");
        assert!(text.contains("twintier_workers_front_counters_requests_taken{worker=\"0\"} 7\n"), "{text}");
        assert!(text.contains("# TYPE twintier_workers_front_load gauge\n"), "{text}");
    }
}
