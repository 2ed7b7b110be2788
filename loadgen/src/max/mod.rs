//! `loadgen max`: the highest rate that keeps the objectives, with a 95 % interval and every probe on the way.
//!
//! The search is [`crate::search`]; here a probe is a run, with arrivals of its own seed, and its verdict is read: a run
//! that its generator could not offer says nothing about the system and is never an answer.

mod report;

use std::io;
use std::path::{Path, PathBuf};

pub use self::report::{DEFINITION, MaxReport, Outcome, Probe};
use crate::search::{Answer, Bounds, Ending, Phase, search};
use crate::slo::Slo;
use crate::summary::{Summary, duration_text};
use crate::verdict::{Verdict, generator_limited};

/// More requests than an objective's quantile needs, because a Poisson process may bring fewer than expected.
const SAMPLES_SPARE: f64 = 1.25;

/// What is searched, and how.
#[derive(Clone, Debug)]
pub struct Order {
    pub slo: Slo,
    pub bounds: Bounds,
    pub trial_ns: u64,
    /// Probe n has this seed plus n.
    pub seed: u64,
    pub out: Option<PathBuf>,
    pub quiet: bool,
}

/// One probe as the search orders it.
#[derive(Clone, Debug)]
pub struct Ask {
    pub rate: f64,
    pub duration_ns: u64,
    pub seed: u64,
    pub out: Option<PathBuf>,
}

impl Order {
    /// The order with its lowest rate raised to where a trial has the requests that its quantiles need.
    ///
    /// # Errors
    /// Objectives that a search for a rate cannot have, or no rate is left.
    pub fn prepared(mut self) -> Result<Self, String> {
        if self.slo.wants_rate() {
            return Err("--slo names a rate, which is what is searched for: leave `rate>…` out".into());
        }
        let needed_per_s = self.samples() / (self.trial_ns as f64 / 1e9);
        self.bounds.rate_per_s_min = self.bounds.rate_per_s_min.max(needed_per_s);
        if self.bounds.rate_per_s_min >= self.bounds.rate_per_s_max {
            return Err(format!(
                "no rate from {:.1}/s to {:.1}/s is left: a trial of {} s needs {:.0} requests for its quantiles; write a \
                 longer --trial or a higher --rate-max",
                self.bounds.rate_per_s_min,
                self.bounds.rate_per_s_max,
                self.trial_ns as f64 / 1e9,
                self.samples()
            ));
        }
        Ok(self)
    }

    fn samples(&self) -> f64 {
        self.slo.samples_min() as f64 * SAMPLES_SPARE
    }

    /// How long a probe has to be: its phase's share of a trial, longer if its quantiles need it.
    fn duration_ns(&self, rate: f64, phase: Phase) -> u64 {
        let share_ns = self.trial_ns as f64 * phase.share();
        let needed_ns = self.samples() / rate * 1e9;
        // At most the trial's length, which is below 2^53.
        share_ns.max(needed_ns).min(self.trial_ns as f64) as u64
    }
}

/// Searches with `run` as the probe; `stopping` tells whether a signal came. The report is written after every probe.
///
/// # Errors
/// A probe could not be run, or the report could not be written.
pub fn perform(
    order: &Order,
    mut report: MaxReport,
    run: &mut dyn FnMut(&Ask) -> io::Result<Summary>,
    stopping: &dyn Fn() -> bool,
) -> io::Result<MaxReport> {
    let ending = search(&order.bounds, &mut |rate, phase| {
        let number = u64::try_from(report.probes.len()).expect("invariant: a usize fits");
        let name = format!("probe-{number:03}-{}", phase.name());
        let ask = Ask {
            rate,
            duration_ns: order.duration_ns(rate, phase),
            seed: order.seed + number,
            out: order.out.as_ref().map(|out| out.join(&name)),
        };
        let summary = run(&ask)?;
        let answer = answer(&summary, stopping());
        report.probes.push(Probe::of(&summary, &ask, phase, answer, &name));
        if !order.quiet {
            eprintln!("{}", probe_line(rate, phase, &summary, answer));
        }
        write(&report, order.out.as_deref())?;
        Ok(answer)
    })?;
    report.conclude(&ending);
    write(&report, order.out.as_deref())?;
    Ok(report)
}

/// What a run says about its rate. One that is invalid because the system did not keep up is a miss.
fn answer(summary: &Summary, stopped: bool) -> Answer {
    if stopped {
        Answer::Stopped
    } else if summary.verdict == Verdict::Invalid && generator_limited(summary) {
        Answer::GeneratorLimited
    } else if summary.verdict != Verdict::Invalid && summary.slo.iter().all(|finding| finding.met) {
        Answer::Passed
    } else {
        Answer::Failed
    }
}

fn probe_line(rate: f64, phase: Phase, summary: &Summary, answer: Answer) -> String {
    let told = match answer {
        Answer::Passed => "met",
        Answer::Failed => "missed",
        Answer::GeneratorLimited => "the generator is late",
        Answer::Stopped => "stopped",
    };
    let quantile = |value: Option<u64>| value.map_or("n/a".to_owned(), duration_text);
    format!(
        "{:<9} {rate:>10.1}/s  p50 {:>8}  p99 {:>8}  {:>5} failed  {told}",
        phase.name(),
        quantile(summary.response_ns.p50),
        quantile(summary.response_ns.p99),
        summary.errors + summary.timed_out + summary.shed
    )
}

fn write(report: &MaxReport, out: Option<&Path>) -> io::Result<()> {
    let Some(out) = out else { return Ok(()) };
    let named = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", out.display()));
    std::fs::create_dir_all(out).map_err(named)?;
    let mut text = serde_json::to_string_pretty(report)?;
    text.push('\n');
    // Written beside and renamed: whoever sees the file sees all of it.
    let partial = out.join("max.json.partial");
    std::fs::write(&partial, text).map_err(named)?;
    std::fs::rename(partial, out.join("max.json")).map_err(named)
}

impl MaxReport {
    fn conclude(&mut self, ending: &Ending) {
        (self.outcome, self.limit_per_s) = match *ending {
            Ending::Found(interval) => {
                self.capacity_per_s = Some(interval.middle);
                (self.ci_low, self.ci_high) = (Some(interval.low), Some(interval.high));
                (Outcome::Found, None)
            }
            Ending::Below(rate) => (Outcome::Below, Some(rate)),
            Ending::Above(rate) => (Outcome::Above, Some(rate)),
            Ending::GeneratorLimited(rate) => (Outcome::GeneratorLimited, Some(rate)),
            Ending::Stopped => (Outcome::Stopped, None),
        };
    }
}
