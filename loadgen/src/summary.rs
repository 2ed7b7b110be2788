//! `summary.json`: the figures of one run, each beside its definition.

mod browse;

use std::collections::BTreeMap;
use std::fmt::Write as _;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

pub use self::browse::{BrowseSummary, StepFailure, StepSummary};
use crate::arrivals::Share;
use crate::failure::Failure;
use crate::quantile::samples_min;
use crate::recorder::{Counts, Histograms, STATUS_MIN};
use crate::slo::Finding;
use crate::stationarity::Stationarity;
use crate::tiers::{Exemplar, SlowRequests};
use crate::verdict::Verdict;

/// Quantiles of one histogram in nanoseconds; `None` (JSON `null`) where the samples do not support one at 95 %.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quantiles {
    pub p50: Option<u64>,
    pub p90: Option<u64>,
    pub p99: Option<u64>,
    pub p999: Option<u64>,
    pub max: Option<u64>,
    pub count: u64,
}

impl Quantiles {
    pub fn of(histogram: &Histogram<u64>) -> Self {
        let count = histogram.len();
        let at = |quantile: f64| (count >= samples_min(quantile)).then(|| histogram.value_at_quantile(quantile));
        Self {
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            max: (count > 0).then(|| histogram.max()),
            count,
        }
    }
}

/// Figures of one tag of `latency-tags.hlog`: a status, a step, or the load time of a step's page.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TagSummary {
    pub response_ns: Quantiles,
}

/// Everything that a run has to say.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// `open` or `closed`.
    pub mode: String,
    pub verdict: Verdict,
    pub reasons: Vec<String>,
    pub planned: u64,
    pub completed: u64,
    pub errors: u64,
    pub timed_out: u64,
    pub shed: u64,
    pub in_flight_at_end: u64,
    /// Samples of `response_ns` that are lower bounds.
    pub censored: u64,
    pub overflow: u64,
    /// Planned requests a second; `null` in a closed loop.
    pub offered_rate: Option<f64>,
    /// Responses that were completed within the window, a second of it.
    pub achieved_rate: f64,
    pub response_ns: Quantiles,
    pub service_ns: Quantiles,
    pub generator_lag_ns: Quantiles,
    pub client_queue_ns: Quantiles,
    pub first_byte_ns: Quantiles,
    /// Response times of errors, which are in none of the histograms above.
    pub failed_ns: Quantiles,
    pub errors_by_kind: BTreeMap<String, u64>,
    pub status_counts: BTreeMap<String, u64>,
    pub body_bytes: u64,
    pub received_bytes: u64,
    pub sent_bytes: u64,
    /// Processor time of the timing thread, without spinning, a completed or failed request.
    pub generator_cpu_us_per_request: Option<f64>,
    pub generator_cpu_share: f64,
    /// Time in which the timing thread was runnable without a core, as a share of the window.
    pub generator_wait_share: f64,
    pub generator_spin_share: f64,
    pub connections: u64,
    pub connections_opened: u64,
    /// Fewest and most requests that a connection slot carried.
    pub requests_per_connection: [u64; 2],
    pub core: Option<u64>,
    pub arrivals: Option<String>,
    pub seed: u64,
    pub url: String,
    pub duration_s: f64,
    pub warmup_s: f64,
    pub warmup_requests: u64,
    pub timeout_s: f64,
    pub started_unix_ms: u64,
    pub version: String,
    pub argv: Vec<String>,
    /// What each figure means, in words.
    pub definitions: BTreeMap<String, String>,
    pub tags: BTreeMap<String, TagSummary>,
    /// What came of the objectives of `--slo`.
    #[serde(default)]
    pub slo: Vec<Finding>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub browse: Option<BrowseSummary>,
    /// The number of runs that were merged into this one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub merged: Option<u64>,
    /// Which parts of the plan these are, if generators shared it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub share: Option<Shares>,
    /// What came of `--expect-header`, `--expect-body` and their like.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub checks: Option<CheckSummary>,
    /// How late the machine let threads run that only looked at the clock.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub hiccup_ns: Option<Quantiles>,
    /// Whether the window shows one state of the system.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub stationary: Option<Stationarity>,
    /// The greatest distance of a connection's requests from the mean of all, as a share of it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub connection_imbalance: Option<f64>,
    /// Times that a connection brought bytes without a request to answer; it was given up.
    #[serde(default)]
    pub unasked: u64,
    /// Requests for a second of the timing thread's processor against a null server, before the run.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub ceiling_rate: Option<f64>,
    /// Durations that answers had in `Server-Timing`, by name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", default)]
    pub service_by_tier_ns: BTreeMap<String, Quantiles>,
    /// What the requests from the p99 on are made of, in the mean.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub slow: Option<SlowRequests>,
    /// The slowest requests, slowest first.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub exemplars: Vec<Exemplar>,
    /// The values between which the 99th percentile of `response_ns` lies at 95 %; `None` if there are too few samples or
    /// seconds to say.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub response_p99_ci_ns: Option<[u64; 2]>,
}

/// Checked responses, and what they lacked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckSummary {
    /// One response in so many was checked.
    pub every: u64,
    /// Complete responses with an expected status that were checked.
    pub responses: u64,
    /// Those that failed, by the first check that they did not meet; they are the `validation` errors of a run.
    pub failed: BTreeMap<String, u64>,
}

/// Parts of one plan: `numbers` of `count`, from 1.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shares {
    pub count: u64,
    pub numbers: Vec<u64>,
}

impl Shares {
    /// `None` for a whole plan.
    pub fn of(share: Share) -> Option<Self> {
        (share != Share::WHOLE).then(|| Self { count: share.count(), numbers: vec![share.number()] })
    }

    fn text(&self) -> String {
        let numbers: Vec<String> = self.numbers.iter().map(u64::to_string).collect();
        format!("{} of {}", numbers.join(", "), self.count)
    }
}

/// The meaning of the histograms in one mode.
pub fn definitions(open_loop: bool) -> BTreeMap<String, String> {
    let response = if open_loop {
        "t5 − t0, planned time to last byte; timeouts and requests in flight at the end are included as lower bounds (censored)"
    } else {
        "t5 − t0 of a closed loop: service time plus generator lag only, not comparable with open-loop percentiles and not corrected"
    };
    [
        ("response_ns", response),
        ("service_ns", "t5 − t3, submission to last byte; a connect that the request needed is part of it"),
        (
            "generator_lag_ns",
            "(t1 − t0) + (t3 − t2), planned time to notice, plus free connection to submission: the generator's own delay",
        ),
        ("client_queue_ns", "t2 − t1, noticed to free connection: the pool was busy"),
        ("first_byte_ns", "t4 − t3, submission to first byte of the response"),
        ("failed_ns", "t5 − t0, planned time to the end of a request that failed"),
        (
            "hiccup_ns",
            "t1 − t0 of threads that only look at the clock, due each millisecond, less the timer's own lateness",
        ),
        ("accounting", "planned = completed + errors + timed_out + shed + in_flight_at_end, exactly"),
        ("achieved_rate", "responses completed within the measured window, a second of it"),
    ]
    .into_iter()
    .map(|(name, words)| (name.to_owned(), words.to_owned()))
    .collect()
}

/// Counters of failures by name; kinds that did not occur are left out.
pub fn failures_by_name(failures: &[u64; Failure::ALL.len()]) -> BTreeMap<String, u64> {
    Failure::ALL
        .iter()
        .map(|kind| (kind.name().to_owned(), failures[kind.index()]))
        .filter(|(_, count)| *count > 0)
        .collect()
}

/// Counters by status; statuses that did not occur are left out.
pub fn statuses_by_name(statuses: &[u64]) -> BTreeMap<String, u64> {
    (usize::from(STATUS_MIN)..)
        .zip(statuses)
        .filter(|(_, count)| **count > 0)
        .map(|(status, count)| (status.to_string(), *count))
        .collect()
}

impl Summary {
    /// Sets the six sets of quantiles.
    pub fn set_quantiles(&mut self, histograms: &Histograms) {
        self.response_ns = Quantiles::of(&histograms.response);
        self.service_ns = Quantiles::of(&histograms.service);
        self.generator_lag_ns = Quantiles::of(&histograms.lag);
        self.client_queue_ns = Quantiles::of(&histograms.queue);
        self.first_byte_ns = Quantiles::of(&histograms.first_byte);
        self.failed_ns = Quantiles::of(&histograms.failed);
    }

    /// Sets the terms of the accounting identity.
    pub fn set_counts(&mut self, counts: &Counts) {
        self.planned = counts.planned;
        self.completed = counts.completed;
        self.errors = counts.errors;
        self.timed_out = counts.timed_out;
        self.shed = counts.shed;
        self.in_flight_at_end = counts.in_flight_at_end;
        self.censored = counts.censored;
        self.overflow = counts.overflow;
        self.body_bytes = counts.body_bytes;
    }

    /// The report for people. An invalid run has no headline.
    pub fn text(&self) -> String {
        let mut out = String::new();
        let _ = writeln!(out, "{}  {}", self.verdict.name(), self.url);
        for reason in &self.reasons {
            let _ = writeln!(out, "  - {reason}");
        }
        let _ = writeln!(
            out,
            "requests   {} planned = {} completed + {} errors + {} timed out + {} shed + {} in flight at the end",
            self.planned, self.completed, self.errors, self.timed_out, self.shed, self.in_flight_at_end
        );
        if !self.errors_by_kind.is_empty() {
            let kinds: Vec<String> =
                self.errors_by_kind.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
            let _ = writeln!(out, "failures   {}", kinds.join(", "));
        }
        if let Some(checks) = &self.checks {
            let every = if checks.every > 1 { format!(", one in {}", checks.every) } else { String::new() };
            let _ = writeln!(out, "checks     {} responses checked{every}", checks.responses);
            for (check, count) in checks.failed.iter().filter(|(_, count)| **count > 0) {
                let _ = writeln!(out, "           {count} without {check}");
            }
        }
        if let Some(browse) = &self.browse {
            out.push_str(&browse.failures_text());
        }
        if self.verdict == Verdict::Invalid {
            let _ = writeln!(out, "no headline: the run is invalid; what was measured is in its files, with --out DIR");
            return out;
        }
        let offered = self.offered_rate.map_or(String::new(), |rate| format!(" of {rate:.1}/s offered"));
        let _ = writeln!(out, "rate       {:.1}/s{offered}", self.achieved_rate);
        if let Some(arrivals) = &self.arrivals {
            let share = self.share.as_ref().map_or(String::new(), |share| format!(", share {}", share.text()));
            let _ = writeln!(out, "arrivals   {arrivals}{share}, seed {}", self.seed);
        }
        if self.mode == "closed" {
            let _ =
                writeln!(out, "           closed loop, service time only: not comparable with open-loop percentiles");
            let _ = writeln!(out, "service    {}", quantiles_text(&self.service_ns));
        } else {
            let _ = writeln!(out, "response   {}", quantiles_text(&self.response_ns));
            if let Some([low, high]) = self.response_p99_ci_ns.map(|ends| ends.map(duration_text)) {
                let _ = writeln!(out, "           p99 lies between {low} and {high} at 95 %");
            }
            let _ = writeln!(out, "service    {}", quantiles_text(&self.service_ns));
            let _ = writeln!(out, "queue      {}", quantiles_text(&self.client_queue_ns));
        }
        let _ = writeln!(out, "lag        {}", quantiles_text(&self.generator_lag_ns));
        for (tier, quantiles) in &self.service_by_tier_ns {
            let _ = writeln!(out, "{tier:<10} {}", quantiles_text(quantiles));
        }
        if let Some(slow) = &self.slow {
            let mut parts: Vec<(&String, &u64)> = slow.parts_ns.iter().filter(|(_, ns)| **ns > 0).collect();
            parts.sort_by_key(|(_, ns)| std::cmp::Reverse(**ns));
            let share = |ns: u64| ns as f64 * 100.0 / slow.response_ns.max(1) as f64;
            let parts: Vec<String> = parts.iter().map(|(name, ns)| format!("{name} {:.0} %", share(**ns))).collect();
            let _ = writeln!(
                out,
                "slow       {} requests from {} on: {}",
                slow.requests,
                duration_text(slow.from_ns),
                parts.join(", ")
            );
        }
        if let Some(ceiling) = self.ceiling_rate {
            let _ = writeln!(
                out,
                "ceiling    {ceiling:.0} requests for a second of the generator's core, against a null server"
            );
        }
        if let Some(hiccups) = &self.hiccup_ns {
            let _ = writeln!(out, "hiccups    {}", quantiles_text(hiccups));
        }
        let _ = writeln!(out, "{CLOCKS}");
        if let Some(browse) = &self.browse {
            out.push_str(&browse.text());
        }
        for finding in &self.slo {
            let verdict = if finding.met { "met" } else { "MISSED" };
            let _ = writeln!(out, "objective  {}  {verdict}: {}", finding.objective, finding.found);
        }
        let cpu = self.generator_cpu_us_per_request.map_or("unknown".to_owned(), |us| format!("{us:.2} µs/request"));
        let _ = writeln!(
            out,
            "generator  {cpu}, {:.1} % of its core, {:.1} % spinning",
            self.generator_cpu_share * 100.0,
            self.generator_spin_share * 100.0
        );
        out
    }
}

/// Which stamps the lines above lie between.
const CLOCKS: &str = "           response is t5−t0 (planned to last byte), service t5−t3 (sent to last byte), queue t2−t1, lag (t1−t0)+(t3−t2)";

/// Quantiles for people; one that the samples do not support is `n/a`.
fn quantiles_text(quantiles: &Quantiles) -> String {
    let shown = |value: Option<u64>| value.map_or_else(|| "n/a".to_owned(), duration_text);
    format!(
        "p50 {:>9}  p90 {:>9}  p99 {:>9}  p99.9 {:>9}  max {:>9}  of {}",
        shown(quantiles.p50),
        shown(quantiles.p90),
        shown(quantiles.p99),
        shown(quantiles.p999),
        shown(quantiles.max),
        quantiles.count
    )
}

/// A duration with three digits and its unit.
pub fn duration_text(ns: u64) -> String {
    if ns == 0 {
        return "0".to_owned();
    }
    let value = ns as f64;
    let (scaled, unit) = match ns {
        0..1_000 => (value, "ns"),
        1_000..1_000_000 => (value / 1e3, "µs"),
        1_000_000..1_000_000_000 => (value / 1e6, "ms"),
        1_000_000_000.. => (value / 1e9, "s"),
    };
    let digits = if scaled < 10.0 { 2 } else { usize::from(scaled < 100.0) };
    format!("{scaled:.digits$} {unit}")
}

#[cfg(test)]
mod fidelity_tests;

#[cfg(test)]
mod tests {
    use super::{Quantiles, duration_text, quantiles_text};
    use crate::recorder::histogram;

    #[test]
    fn no_samples_are_no_number() {
        let none = Quantiles::of(&histogram());
        assert_eq!(none, Quantiles::default());
        assert_eq!(serde_json::to_value(none).unwrap()["p99"], serde_json::Value::Null);
    }

    #[test]
    fn quantiles_are_shown_when_the_samples_support_them() {
        let mut histogram = histogram();
        histogram.record_n(2_000_000, 298).unwrap();
        assert!(quantiles_text(&Quantiles::of(&histogram)).contains("p99       n/a"));
        assert_eq!(Quantiles::of(&histogram).p99, None);
        assert!(Quantiles::of(&histogram).p90.is_some() && Quantiles::of(&histogram).max.is_some());
        histogram.record(2_000_000).unwrap();
        assert!(
            quantiles_text(&Quantiles::of(&histogram)).contains("p99   2.00 ms"),
            "{}",
            quantiles_text(&Quantiles::of(&histogram))
        );
    }

    #[test]
    fn durations_have_three_digits() {
        let texts = [7, 1_234, 56_789, 999_000, 12_345_678, 3_000_000_000].map(duration_text);
        assert_eq!(texts, ["7.00 ns", "1.23 µs", "56.8 µs", "999 µs", "12.3 ms", "3.00 s"]);
    }
}
