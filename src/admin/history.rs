//! `GET /history`: the last ten minutes, as the console's plots show them.
//!
//! A sample is kept every second, whether or not a console is open, so that one that opens shows what led to the moment.
//! The ring holds [`SAMPLES_MAX`] samples of a few numbers each; the page asks for it when its stream of events begins.

use std::cell::RefCell;
use std::collections::VecDeque;

use serde_json::{Value, json};

/// Samples that are kept: ten minutes of one a second.
pub const SAMPLES_MAX: usize = 600;

/// What a sample keeps of an event's `total`, by the names and in the units that it has there.
pub const SERIES: [&str; 7] =
    ["rate_per_s", "refused_per_s", "p50_us", "p99_us", "waiting", "in_progress", "lag_updates"];

/// One second. What was not known then is `None`.
#[derive(Clone, Copy, Debug)]
struct Sample {
    at_ms: u64,
    values: [Option<f64>; SERIES.len()],
}

/// The samples, the oldest first. It lives on one thread.
#[derive(Debug, Default)]
pub struct History(RefCell<VecDeque<Sample>>);

impl History {
    /// Keeps what an event says.
    pub fn note(&self, event: &Value) {
        let values = SERIES.map(|name| event["total"][name].as_f64());
        let mut samples = self.0.borrow_mut();
        if samples.len() == SAMPLES_MAX {
            samples.pop_front();
        }
        samples.push_back(Sample { at_ms: event["at_ms"].as_u64().unwrap_or_default(), values });
    }

    /// Names and rows: each row has its time (milliseconds since 1970) and the values in the order of the names.
    pub fn to_json(&self, started_ms: u64) -> Value {
        let samples = self.0.borrow();
        let rows: Vec<Value> = samples
            .iter()
            .map(|sample| {
                let values = sample.values.iter().map(|value| value.map_or(Value::Null, |value| json!(value)));
                Value::Array(std::iter::once(json!(sample.at_ms)).chain(values).collect())
            })
            .collect();
        json!({ "started_ms": started_ms, "series": SERIES, "rows": rows })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{History, SAMPLES_MAX, SERIES};

    #[test]
    fn it_holds_ten_minutes_however_long_it_runs() {
        let history = History::default();
        for second in 0..86_400_u64 {
            let total = json!({ "rate_per_s": second, "p50_us": null, "waiting": 3 });
            history.note(&json!({ "at_ms": second * 1000, "total": total }));
        }
        let kept = history.to_json(7);
        let rows = kept["rows"].as_array().unwrap();
        assert_eq!((rows.len(), &kept["started_ms"]), (SAMPLES_MAX, &json!(7)));
        assert_eq!(rows[0][0], (86_400 - 600) * 1000);
        assert_eq!(rows[599], json!([86_399_000, 86_399.0, null, null, null, 3.0, null, null]));
        assert_eq!(kept["series"].as_array().unwrap().len(), SERIES.len());
        assert!(history.0.borrow().capacity() < 2 * SAMPLES_MAX, "and no more room than that");
    }
}
