//! `max.json`, and the same for people.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use super::Ask;
use crate::search::{Answer, Phase};
use crate::summary::{Summary, duration_text};
use crate::verdict::Verdict;

/// How a search ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// Not yet: the search is under way, or was killed.
    Searching,
    Found,
    /// The lowest rate missed an objective.
    Below,
    /// The highest rate met them all.
    Above,
    GeneratorLimited,
    /// A signal ended it.
    Stopped,
}

/// One run of the search.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Probe {
    /// Requests a second that were planned on.
    pub rate: f64,
    /// Responses completed within the window, a second of it.
    pub achieved: f64,
    pub p50_ns: Option<u64>,
    pub p99_ns: Option<u64>,
    /// Errors, timeouts and shed requests of those planned.
    pub failed_share: f64,
    /// Whether every objective was met; `null` where the probe says nothing about the system.
    pub kept: Option<bool>,
    /// Of the run.
    pub verdict: Verdict,
    pub phase: String,
    pub duration_s: f64,
    pub seed: u64,
    /// The run directory, below that of `max.json`, if runs were kept.
    pub directory: Option<String>,
}

impl Probe {
    pub fn of(summary: &Summary, ask: &Ask, phase: Phase, answer: Answer, name: &str) -> Self {
        let failed = summary.errors + summary.timed_out + summary.shed;
        Self {
            rate: ask.rate,
            achieved: summary.achieved_rate,
            p50_ns: summary.response_ns.p50,
            p99_ns: summary.response_ns.p99,
            failed_share: failed as f64 / summary.planned.max(1) as f64,
            kept: match answer {
                Answer::Passed => Some(true),
                Answer::Failed => Some(false),
                Answer::GeneratorLimited | Answer::Stopped => None,
            },
            verdict: summary.verdict,
            phase: phase.name().to_owned(),
            duration_s: summary.duration_s,
            seed: ask.seed,
            directory: ask.out.is_some().then(|| name.to_owned()),
        }
    }
}

/// Everything that a search has to say.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MaxReport {
    pub outcome: Outcome,
    /// The rate at which a trial meets the objectives as often as not; `null` unless found.
    pub capacity_per_s: Option<f64>,
    /// The central 95 % of what the trials leave possible for it.
    pub ci_low: Option<f64>,
    pub ci_high: Option<f64>,
    /// Where a search ended that found no capacity.
    pub limit_per_s: Option<f64>,
    pub slo: String,
    pub url: String,
    pub arrivals: String,
    pub connections: u64,
    pub trial_s: f64,
    pub warmup_s: f64,
    pub timeout_s: f64,
    pub seed: u64,
    pub started_unix_ms: u64,
    pub version: String,
    pub argv: Vec<String>,
    pub definition: String,
    /// In their order; by `rate` they are the latency-against-load curve.
    pub probes: Vec<Probe>,
}

/// What `capacity_per_s` means, in words.
pub const DEFINITION: &str = "the rate at which a trial of this length meets every objective as often as not, with the \
    central 95 % of its posterior after all trials of phase replicate";

impl MaxReport {
    /// The report for people.
    pub fn text(&self) -> String {
        let mut out = String::new();
        let limit = self.limit_per_s.unwrap_or(0.0);
        let _ = match (self.outcome, self.capacity_per_s, self.ci_low, self.ci_high) {
            (Outcome::Found, Some(middle), Some(low), Some(high)) => writeln!(
                out,
                "capacity   {middle:.1}/s, 95 % interval {low:.1}/s to {high:.1}/s, for {} at {}",
                self.slo, self.url
            ),
            (Outcome::Below, ..) => {
                writeln!(out, "no capacity: even {limit:.1}/s, the lowest rate, misses {} at {}", self.slo, self.url)
            }
            (Outcome::Above, ..) => writeln!(
                out,
                "capacity above {limit:.1}/s: even the highest rate meets {} at {}; raise --rate-max",
                self.slo, self.url
            ),
            (Outcome::GeneratorLimited, ..) => writeln!(
                out,
                "no capacity: the generator is the limit at {limit:.1}/s; give it a core of its own (--core), or several \
                 generators"
            ),
            (Outcome::Stopped | Outcome::Searching | Outcome::Found, ..) => {
                writeln!(out, "no capacity: the search was stopped")
            }
        };
        let trials = || self.probes.iter().filter(|probe| probe.phase == Phase::Replicate.name());
        if trials().count() > 0 {
            let met = trials().filter(|probe| probe.kept == Some(true)).count();
            let _ = writeln!(out, "trials     {} of {} s, {met} met the objectives", trials().count(), self.trial_s);
        }
        let _ = writeln!(out, "\n      rate/s  achieved/s       p50       p99  failed  objectives");
        let mut probes: Vec<&Probe> = self.probes.iter().collect();
        probes.sort_by(|one, two| one.rate.total_cmp(&two.rate));
        for probe in probes {
            let quantile = |value: Option<u64>| value.map_or("n/a".to_owned(), duration_text);
            let kept = match probe.kept {
                Some(true) => "met",
                Some(false) => "missed",
                None => "unknown: invalid",
            };
            let _ = writeln!(
                out,
                "{:>12.1}  {:>10.1}  {:>8}  {:>8}  {:>4.1} %  {kept} ({})",
                probe.rate,
                probe.achieved,
                quantile(probe.p50_ns),
                quantile(probe.p99_ns),
                probe.failed_share * 100.0,
                probe.phase
            );
        }
        out
    }
}
