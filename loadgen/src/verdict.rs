//! Whether a run measured the system under test or the generator itself.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use crate::stationarity::{self, Change, Stationarity};
use crate::summary::{Summary, duration_text};

/// The share of planned requests that must have been submitted within the window.
const SENT_SHARE_MIN: f64 = 0.99;
/// Generator lag (p99) as a share of response time (p99) above which the figures carry a visible part of the tool...
const LAG_SHARE_SUSPECT: f64 = 0.05;
/// ... and above which they are mostly the tool.
const LAG_SHARE_INVALID: f64 = 0.50;
/// The share of its core that the timing thread may want (running, without spinning, or waiting for a core).
const CORE_SHARE_MAX: f64 = 0.80;
/// The share of the window without a core from which on a late generator names it as the cause.
const WAIT_SHARE_TOLD: f64 = 0.02;
/// The share of failed requests above which percentiles of the others describe a broken system.
const FAILED_SHARE_SUSPECT: f64 = 0.01;
/// The share of the mean by which a connection may carry more or fewer requests.
const IMBALANCE_MAX: f64 = 0.20;
/// How far the generator's ceiling must lie above what was achieved.
const CEILING_FACTOR_MIN: f64 = 2.0;

/// From best to worst.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    Valid,
    /// The figures hold, with the reasons in mind.
    Suspect,
    /// No headline number may be quoted.
    Invalid,
}

impl Verdict {
    pub fn name(self) -> &'static str {
        match self {
            Self::Valid => "valid",
            Self::Suspect => "suspect",
            Self::Invalid => "invalid",
        }
    }
}

/// What the verdict is based on. Times in nanoseconds, shares of 1.
#[derive(Clone, Debug, Default)]
pub struct Evidence {
    pub open_loop: bool,
    pub connections: u64,
    pub planned: u64,
    pub completed: u64,
    /// Errors, timeouts and shed requests.
    pub failed: u64,
    pub in_flight_at_end: u64,
    /// Submitted within the window, of those planned in it.
    pub submitted: u64,
    pub lag_p99_ns: u64,
    pub response_p99_ns: u64,
    /// Processor time of the timing thread over the window, without deliberate spinning.
    pub cpu_share: f64,
    /// Time for which the timing thread was runnable and got no core.
    pub wait_share: f64,
    pub late_intervals: u64,
    pub overflow: u64,
    /// Cut short by a signal.
    pub interrupted: bool,
    /// Users' sessions that went the whole way, and that a step ended; both 0 in a run without sessions.
    pub sessions_completed: u64,
    pub sessions_failed: u64,
    /// Sessions that began, and planned ones that found every slot taken.
    pub sessions_started: u64,
    pub sessions_shed: u64,
    pub stationary: Stationarity,
    pub connection_imbalance: Option<f64>,
    pub unasked: u64,
    pub achieved_per_s: f64,
    /// Requests for a second of the generator's core, if that was measured.
    pub ceiling_rate: Option<f64>,
}

/// The verdict and its reasons, worst first.
pub fn judge(evidence: &Evidence) -> (Verdict, Vec<String>) {
    let mut found: Vec<(Verdict, String)> = Vec::new();
    let percent = |share: f64| format!("{:.1} %", share * 100.0);
    if evidence.completed == 0 {
        found.push((Verdict::Invalid, "nothing completed".into()));
    }
    let sessions = evidence.sessions_completed + evidence.sessions_failed;
    if evidence.sessions_failed > 0 && evidence.sessions_completed == 0 {
        found.push((Verdict::Invalid, format!("each of the {sessions} sessions failed at one of its steps")));
    } else if evidence.sessions_failed as f64 > sessions as f64 * FAILED_SHARE_SUSPECT {
        found.push((
            Verdict::Suspect,
            format!("{} of {sessions} sessions failed at one of their steps", evidence.sessions_failed),
        ));
    }
    // With those that began in the warm-up, so that the share is rather too small.
    let planned_sessions = evidence.sessions_started + evidence.sessions_shed;
    let shed_share = evidence.sessions_shed as f64 / planned_sessions.max(1) as f64;
    if shed_share > 1.0 - SENT_SHARE_MIN {
        found.push((
            Verdict::Invalid,
            format!(
                "{} of the planned sessions found every slot taken and were not played: the system is past its capacity or --sessions-max too low",
                percent(shed_share)
            ),
        ));
    }
    let busy = evidence.cpu_share + evidence.wait_share;
    let saturated = busy > CORE_SHARE_MAX;
    if saturated {
        let verdict = if evidence.open_loop { Verdict::Invalid } else { Verdict::Suspect };
        found.push((
            verdict,
            format!(
                "generator-limited: its thread ran {} of the window and waited for a core {} of it; more than {} together says nothing about the system",
                percent(evidence.cpu_share),
                percent(evidence.wait_share),
                percent(CORE_SHARE_MAX)
            ),
        ));
    }
    if evidence.open_loop && evidence.planned > 0 {
        found.extend(judge_pace(evidence, saturated));
    }
    let failed_share = evidence.failed as f64 / (evidence.planned.max(1)) as f64;
    // Where nothing completed there are no others.
    if failed_share > FAILED_SHARE_SUSPECT && evidence.completed > 0 {
        found.push((
            Verdict::Suspect,
            format!("{} of the requests failed: the percentiles are those of the others", percent(failed_share)),
        ));
    }
    if evidence.late_intervals > 0 {
        let reason = format!(
            "{} intervals are longer than a second: the reporter was held up (slow disk or no free core)",
            evidence.late_intervals
        );
        found.push((Verdict::Suspect, reason));
    }
    if evidence.overflow > 0 {
        found
            .push((Verdict::Suspect, format!("{} values above one hour were recorded as one hour", evidence.overflow)));
    }
    if evidence.interrupted {
        found.push((
            Verdict::Suspect,
            format!("stopped by a signal with {} requests in flight", evidence.in_flight_at_end),
        ));
    }
    found.extend(judge_system(evidence));
    found.sort_by_key(|(verdict, _)| std::cmp::Reverse(*verdict));
    let worst = found.first().map_or(Verdict::Valid, |(verdict, _)| *verdict);
    (worst, found.into_iter().map(|(_, reason)| reason).collect())
}

/// Whether the generator kept an open loop from its rate, rather than the system: its thread had no time, or its own delay
/// is most of the response time.
pub fn generator_limited(summary: &Summary) -> bool {
    let busy = summary.generator_cpu_share + summary.generator_wait_share;
    let late = summary
        .generator_lag_ns
        .p99
        .zip(summary.response_ns.p99)
        .is_some_and(|(lag_ns, response_ns)| lag_ns as f64 > LAG_SHARE_INVALID * response_ns as f64);
    busy > CORE_SHARE_MAX || late
}

/// What the figures hide about the system: a change of its state, connections that were not alike, answers without a
/// request.
fn judge_system(evidence: &Evidence) -> Vec<(Verdict, String)> {
    let mut found = Vec::new();
    if evidence.stationary.finding == stationarity::Finding::NotStationary {
        let Stationarity { mean, p99, .. } = evidence.stationary;
        let changes = [("mean", mean), ("p99", p99)].into_iter().filter_map(|(name, change)| {
            change.filter(Change::is_certain).map(|change| format!("the {name} of a second {change}"))
        });
        let changes = changes.collect::<Vec<_>>().join(" and ");
        found.push((Verdict::Suspect, format!("not stationary: {changes}; a longer warm-up may help")));
    }
    if let Some(imbalance) = evidence.connection_imbalance.filter(|&imbalance| imbalance > IMBALANCE_MAX) {
        let percent = imbalance * 100.0;
        found.push((
            Verdict::Suspect,
            format!("a connection carried {percent:.0} % more or fewer requests than the mean of all"),
        ));
    }
    if let Some(ceiling) = evidence.ceiling_rate
        && ceiling < evidence.achieved_per_s * CEILING_FACTOR_MIN
    {
        let achieved = evidence.achieved_per_s;
        found.push((
            Verdict::Suspect,
            format!(
                "{achieved:.0} requests a second are more than half of what this generator can do here, {ceiling:.0}/s"
            ),
        ));
    }
    if evidence.unasked > 0 {
        let times = evidence.unasked;
        found.push((
            Verdict::Suspect,
            format!("{times} times a connection brought bytes that no request had asked for; it was closed"),
        ));
    }
    found
}

/// What only an open loop can be accused of: not having kept its own plan.
fn judge_pace(evidence: &Evidence, saturated: bool) -> Vec<(Verdict, String)> {
    let mut found = Vec::new();
    let sent_share = evidence.submitted as f64 / evidence.planned as f64;
    if sent_share < SENT_SHARE_MIN {
        let cause = if saturated {
            "the generator could not".to_owned()
        } else {
            format!(
                "all {} connections were busy: the system is past its capacity or the pool is too small",
                evidence.connections
            )
        };
        let share = sent_share * 100.0;
        found.push((Verdict::Invalid, format!("only {share:.1} % of the planned requests were sent in time; {cause}")));
    }
    let lag_share = evidence.lag_p99_ns as f64 / evidence.response_p99_ns.max(1) as f64;
    if lag_share > LAG_SHARE_SUSPECT && evidence.completed > 0 {
        let verdict = if lag_share > LAG_SHARE_INVALID { Verdict::Invalid } else { Verdict::Suspect };
        let mut reason = format!(
            "the generator was late: lag p99 {} is {:.0} % of response p99 {}",
            duration_text(evidence.lag_p99_ns),
            lag_share * 100.0,
            duration_text(evidence.response_p99_ns)
        );
        if evidence.wait_share > WAIT_SHARE_TOLD {
            let _ = write!(
                reason,
                "; something else kept its thread off the core for {:.1} % of the window",
                evidence.wait_share * 100.0
            );
        }
        found.push((verdict, reason));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::{Evidence, Verdict, judge};
    use crate::stationarity::{Change, Finding, Stationarity};

    fn sound() -> Evidence {
        Evidence {
            open_loop: true,
            connections: 64,
            planned: 10_000,
            completed: 10_000,
            submitted: 9_999,
            lag_p99_ns: 10_000,
            response_p99_ns: 1_000_000,
            cpu_share: 0.3,
            ..Evidence::default()
        }
    }

    fn verdict(change: impl FnOnce(&mut Evidence)) -> (Verdict, Vec<String>) {
        let mut evidence = sound();
        change(&mut evidence);
        judge(&evidence)
    }

    #[test]
    fn a_sound_run_is_valid() {
        assert_eq!(judge(&sound()), (Verdict::Valid, vec![]));
    }

    #[test]
    fn what_is_said_is_so() {
        assert_eq!(verdict(|e| (e.completed, e.failed) = (0, 10_000)).1, ["nothing completed"]);
        let (_, reasons) = verdict(|e| (e.lag_p99_ns, e.response_p99_ns) = (44_007_400, 446_693_400));
        assert_eq!(reasons, ["the generator was late: lag p99 44.0 ms is 10 % of response p99 447 ms"]);
    }

    fn drifted() -> Stationarity {
        let moved = Change { at_share: 0.5, ratio: 1.5, ci_low: 1.3, ci_high: 1.7 };
        let steady = Change { at_share: 0.3, ratio: 1.2, ci_low: 0.9, ci_high: 1.5 };
        Stationarity { finding: Finding::NotStationary, blocks: 30, mean: Some(moved), p99: Some(steady) }
    }

    #[test]
    fn connections_that_are_nearly_alike_are_alike() {
        assert_eq!(verdict(|e| e.connection_imbalance = Some(0.20)).0, Verdict::Valid);
    }

    /// The verdict that a change of a sound run must lead to, and words of its reason.
    type Case = (Verdict, &'static str, fn(&mut Evidence));

    #[test]
    fn each_rule_has_its_verdict_and_reason() {
        let cases: [Case; 15] = [
            (Verdict::Invalid, "nothing completed", |e| e.completed = 0),
            (Verdict::Invalid, "generator-limited", |e| e.cpu_share = 0.81),
            (Verdict::Invalid, "generator-limited", |e| e.wait_share = 0.6),
            (Verdict::Invalid, "64 connections were busy", |e| e.submitted = 9_899),
            (Verdict::Suspect, "the generator was late", |e| e.lag_p99_ns = 51_000),
            (Verdict::Invalid, "the generator was late", |e| e.lag_p99_ns = 510_000),
            (Verdict::Invalid, "2.0 % of the planned sessions found every slot taken", |e| {
                (e.sessions_completed, e.sessions_started, e.sessions_shed) = (90, 98, 2);
            }),
            (Verdict::Suspect, "failed", |e| e.failed = 101),
            (Verdict::Suspect, "longer than a second", |e| e.late_intervals = 1),
            (Verdict::Suspect, "above one hour", |e| e.overflow = 1),
            (Verdict::Suspect, "signal", |e| e.interrupted = true),
            (Verdict::Suspect, "not stationary: the mean of a second is 1.50 (1.30 to 1.70) times as long", |e| {
                e.stationary = drifted();
            }),
            (Verdict::Suspect, "21 % more or fewer", |e| e.connection_imbalance = Some(0.21)),
            (Verdict::Suspect, "no request had asked for", |e| e.unasked = 1),
            (Verdict::Suspect, "more than half of what this generator can do", |e| {
                (e.achieved_per_s, e.ceiling_rate) = (1000.0, Some(1999.0));
            }),
        ];
        for (expected, words, change) in cases {
            let (found, reasons) = verdict(change);
            assert_eq!(found, expected, "{reasons:?}");
            assert!(reasons.iter().any(|reason| reason.contains(words)), "{words}: {reasons:?}");
        }
    }

    #[test]
    fn the_worst_reason_comes_first_and_names_the_generator() {
        let (found, reasons) = verdict(|e| (e.cpu_share, e.submitted, e.failed) = (0.95, 5_000, 5_000));
        assert_eq!(found, Verdict::Invalid);
        assert!(reasons[0].contains("generator-limited"));
        assert!(reasons[1].contains("the generator could not"));
        assert!(reasons[2].contains("failed"));
    }

    #[test]
    fn a_closed_loop_may_use_its_core_but_says_so() {
        let (found, reasons) =
            verdict(|e| (e.open_loop, e.cpu_share, e.submitted, e.lag_p99_ns) = (false, 0.97, 0, 900_000));
        assert_eq!((found, reasons.len()), (Verdict::Suspect, 1));
    }
}
