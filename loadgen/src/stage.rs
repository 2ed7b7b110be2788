//! What every kind of run shares: the timing thread, the reporter beside it, the judgement and the files.
//!
//! ```text
//!   main thread                           timing thread (pinned with --core)
//!   perform ── spawn ───────────────────▶ makes the engine, connects
//!        ◀── window, intervals' channel ── Ready::begin
//!   collect ◀──── an interval a second ── the loop
//!        ◀── Finished ─────────────────── accounts for every request
//!   judge, write
//! ```

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::{io, thread};

use crossbeam::channel::{Receiver, Sender, bounded};
use twintier::clock::{monotonic_ns, unix_ms};
use twintier::engine::thread::{pin_to_core, raise_descriptor_limit};

use crate::arrivals::Plan;
use crate::ceiling;
use crate::hiccup::HiccupMeter;
use crate::live::Live;
use crate::meter::Cost;
use crate::page_slo::PageSlo;
use crate::recorder::{Counts, Exchange, Recorder};
use crate::report::{RunDirectory, Totals, collect};
use crate::schedule::Window;
use crate::slo::Slo;
use crate::start::{self, StartAt};
use crate::summary::{
    BrowseSummary, CheckSummary, Quantiles, Shares, Summary, TagSummary, definitions, failures_by_name,
    statuses_by_name,
};
use crate::tiers::TierReport;
use crate::verdict::{Evidence, judge};

/// Time between the last preparation and the first planned arrival.
const LEAD_NS: u64 = 5_000_000;
/// Descriptors beside those of connections: files, the ring, standard streams.
const DESCRIPTORS_OWN: u64 = 64;

/// How a run is performed, whatever it sends.
#[derive(Clone, Debug, Default)]
pub struct Stage {
    pub url: String,
    /// Arrivals of an open loop; `None` is a closed loop.
    pub plan: Option<Plan>,
    /// When the warm-up begins; without it as soon as everything is ready.
    pub start_at: Option<StartAt>,
    pub seed: u64,
    pub connections: u32,
    pub duration_ns: u64,
    pub warmup_ns: u64,
    pub timeout_ns: u64,
    /// The core of the timing thread.
    pub core: Option<usize>,
    /// For how long before a planned arrival the thread polls instead of sleeping.
    pub spin_ns: u64,
    pub out: Option<PathBuf>,
    pub quiet: bool,
    /// Measure what the machine does to a thread that only wants to run.
    pub hiccup_meter: bool,
    /// Measure first what the generator can do at most here.
    pub calibrate: bool,
    pub argv: Vec<String>,
    pub slo: Option<Slo>,
    pub page_slo: Option<PageSlo>,
    /// Names of the tags of the recorder, by index.
    pub tag_names: Vec<String>,
}

/// The timing thread's way to say that it is ready.
pub struct Ready {
    warmup_ns: u64,
    duration_ns: u64,
    tag_count: usize,
    /// When the window begins, if that was ordered.
    start_ns: Option<u64>,
    start: Sender<(Window, Exchange)>,
    stop: Arc<AtomicBool>,
}

impl Ready {
    /// For a run on this stage, which starts at `start_ns` or as soon as it can, with the reporter's end.
    pub fn new(stage: &Stage, start_ns: Option<u64>) -> (Self, Receiver<(Window, Exchange)>) {
        let (start, started) = bounded(1);
        let ready = Self {
            warmup_ns: stage.warmup_ns,
            duration_ns: stage.duration_ns,
            tag_count: stage.tag_names.len(),
            start_ns,
            start,
            stop: Arc::default(),
        };
        (ready, started)
    }

    /// Fixes the window, which starts in a moment or when it was ordered to, and lets the reporter go.
    ///
    /// # Errors
    /// The ordered start has passed.
    pub fn begin(&self, ready_ns: u64) -> io::Result<(Window, Recorder)> {
        let start_ns = self.start_ns.unwrap_or(ready_ns + LEAD_NS);
        if start_ns < ready_ns {
            let late_s = (ready_ns - start_ns) as f64 / 1e9;
            let message = format!("ready only {late_s:.1} s after --start-at: name a later time");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        let window = Window::new(start_ns, self.warmup_ns, self.duration_ns);
        let (recorder, exchange) = Recorder::new(window, self.tag_count);
        // The main thread waits for this; if it is gone, so is the process.
        let _ = self.start.send((window, exchange));
        Ok((window, recorder))
    }

    /// Whether a signal asked the run to end.
    pub fn stopping(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

/// What the timing thread knows at its end.
#[derive(Debug, Default)]
pub struct Finished {
    /// The measured cohort and the warm-up's; each balances.
    pub counts: Counts,
    pub warm_up: Counts,
    /// Requests of the measured cohort that were submitted before the window's end.
    pub submitted: u64,
    pub cost: Cost,
    /// Length of the measured window, or of the part of it before a signal.
    pub measured_ns: u64,
    pub late_intervals: u64,
    pub interrupted: bool,
    pub connections_opened: u64,
    pub requests_per_connection: [u64; 2],
    /// How far the connections were from carrying the same number of requests, where they should.
    pub connection_imbalance: Option<f64>,
    /// Times that a connection brought bytes without a request to answer.
    pub unasked: u64,
    pub browse: Option<BrowseSummary>,
    pub checks: Option<CheckSummary>,
    pub tiers: Option<TierReport>,
    /// Requests for a second of the generator's processor against a null server, measured before the run.
    pub ceiling_rate: Option<f64>,
}

/// Runs `body` on the timing thread, reports it, and writes the run directory.
///
/// # Errors
/// No engine, no thread, no such core; or the run directory could not be written, after the run was reported.
pub fn perform(stage: &Stage, body: impl FnOnce(&Ready) -> io::Result<Finished> + Send) -> io::Result<Summary> {
    let descriptors = raise_descriptor_limit();
    if descriptors < u64::from(stage.connections) + DESCRIPTORS_OWN {
        let message = format!(
            "{} connections need more than the {descriptors} descriptors allowed: raise `ulimit -n`",
            stage.connections
        );
        return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
    }
    let ceiling_rate = stage.calibrate.then(|| ceiling::measure(stage.core)).transpose()?;
    let start_ns = stage.start_at.map(|at| at.monotonic_ns(unix_ms(), monotonic_ns())).transpose()?;
    let (ready, started) = Ready::new(stage, start_ns);
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        // The first signal ends the run in order; a second one ends the process.
        signal_hook::flag::register_conditional_shutdown(signal, 1, Arc::clone(&ready.stop))?;
        signal_hook::flag::register(signal, Arc::clone(&ready.stop))?;
    }
    thread::scope(|scope| {
        let timing = thread::Builder::new().name("timing".into()).spawn_scoped(scope, move || {
            if let Some(core) = stage.core {
                pin_to_core(core)?;
            }
            if let Some(start_ns) = ready.start_ns {
                start::wait_for(start_ns, monotonic_ns, || ready.stopping());
            }
            // Dropping `ready` on every path ends the wait below.
            body(&ready)
        })?;
        let join = |timing: thread::ScopedJoinHandle<'_, io::Result<Finished>>| match timing.join() {
            Ok(finished) => finished,
            Err(panic) => std::panic::resume_unwind(panic),
        };
        let Ok((window, exchange)) = started.recv() else {
            join(timing)?;
            return Err(io::Error::other("the timing thread ended before it began"));
        };
        let started_unix_ms = unix_ms() + (window.start_ns.saturating_sub(monotonic_ns())) / 1_000_000;
        let (mut directory, mut failure) = match stage
            .out
            .as_deref()
            .map(|path| RunDirectory::create(path, started_unix_ms + stage.warmup_ns / 1_000_000))
        {
            None => (None, None),
            Some(Ok(directory)) => (Some(directory), None),
            Some(Err(error)) => (None, Some(error)),
        };
        // In a closed loop the timing thread keeps its own core busy: a meter there would measure that.
        let meter_core = stage.core.filter(|_| stage.plan.is_some());
        let meter = stage.hiccup_meter.then(|| HiccupMeter::start(window, meter_core));
        let mut live = Live::new(&window, stage.quiet, stage.plan.is_some(), stage.connections);
        let (totals, write_failure) = collect(&exchange, &window, &stage.tag_names, directory.as_mut(), &mut live);
        failure = failure.or(write_failure);
        let finished = Finished { ceiling_rate, ..join(timing)? };
        let mut summary = summarize(stage, &totals, finished, started_unix_ms);
        summary.hiccup_ns = meter.map(|meter| Quantiles::of(&meter.finish()));
        if let Some(directory) = &mut directory
            && let Err(error) = directory.finish(&summary, &totals.histograms.response)
        {
            failure.get_or_insert(error);
        }
        match failure {
            None => Ok(summary),
            Some(error) => {
                print!("{}", summary.text());
                Err(io::Error::new(error.kind(), format!("the run directory is incomplete: {error}")))
            }
        }
    })
}

fn summarize(stage: &Stage, totals: &Totals, mut finished: Finished, started_unix_ms: u64) -> Summary {
    let tiers = finished.tiers.take().unwrap_or_default();
    let Finished { counts, warm_up, submitted, cost, .. } = finished;
    assert_eq!(counts, totals.counts, "invariant: the intervals add up to what the timing thread counted");
    let lag_p99_ns = totals.histograms.lag.value_at_quantile(0.99);
    let response_p99_ns = totals.histograms.response.value_at_quantile(0.99);
    // A plan that moves moves the system.
    let whole_ns = stage.warmup_ns + stage.duration_ns;
    let steady = stage.plan.as_ref().is_none_or(|plan| plan.is_steady(stage.warmup_ns, whole_ns));
    let stationary = steady.then(|| totals.stationarity());
    let (verdict, reasons) = judge(&Evidence {
        open_loop: stage.plan.is_some(),
        connections: u64::from(stage.connections),
        planned: counts.planned,
        completed: counts.completed,
        failed: counts.errors + counts.timed_out + counts.shed,
        in_flight_at_end: counts.in_flight_at_end,
        submitted,
        lag_p99_ns,
        response_p99_ns,
        cpu_share: cost.share(cost.cpu_ns),
        wait_share: cost.share(cost.wait_ns),
        late_intervals: finished.late_intervals,
        overflow: counts.overflow,
        interrupted: finished.interrupted,
        stationary: stationary.unwrap_or_default(),
        connection_imbalance: finished.connection_imbalance,
        unasked: finished.unasked,
        achieved_per_s: totals.completed_in_window as f64 * 1e9 / finished.measured_ns.max(1) as f64,
        ceiling_rate: finished.ceiling_rate,
        sessions_completed: finished.browse.as_ref().map_or(0, |browse| browse.sessions_completed),
        sessions_failed: finished.browse.as_ref().map_or(0, |browse| browse.sessions_failed),
        sessions_started: finished.browse.as_ref().map_or(0, |browse| browse.sessions_started),
        sessions_shed: finished.browse.as_ref().map_or(0, |browse| browse.sessions_shed),
    });
    let duration_s = finished.measured_ns.max(1) as f64 / 1e9;
    let ended = totals.completed_in_window + counts.errors;
    let mut summary = Summary {
        mode: if stage.plan.is_some() { "open" } else { "closed" }.to_owned(),
        verdict,
        reasons,
        planned: 0,
        completed: 0,
        errors: 0,
        timed_out: 0,
        shed: 0,
        in_flight_at_end: 0,
        censored: 0,
        overflow: 0,
        offered_rate: stage.plan.as_ref().map(|_| counts.planned as f64 / duration_s),
        achieved_rate: totals.completed_in_window as f64 / duration_s,
        response_ns: Quantiles::default(),
        service_ns: Quantiles::default(),
        generator_lag_ns: Quantiles::default(),
        client_queue_ns: Quantiles::default(),
        first_byte_ns: Quantiles::default(),
        failed_ns: Quantiles::default(),
        errors_by_kind: failures_by_name(&totals.failures),
        status_counts: statuses_by_name(&totals.statuses),
        body_bytes: 0,
        received_bytes: cost.received_bytes,
        sent_bytes: cost.sent_bytes,
        generator_cpu_us_per_request: (ended > 0).then(|| cost.cpu_ns as f64 / 1e3 / ended as f64),
        generator_cpu_share: cost.share(cost.cpu_ns),
        generator_wait_share: cost.share(cost.wait_ns),
        generator_spin_share: cost.share(cost.spin_ns),
        connections: u64::from(stage.connections),
        connections_opened: finished.connections_opened,
        requests_per_connection: finished.requests_per_connection,
        core: stage.core.and_then(|core| u64::try_from(core).ok()),
        arrivals: stage.plan.as_ref().map(Plan::to_string),
        seed: stage.seed,
        url: stage.url.clone(),
        duration_s,
        warmup_s: stage.warmup_ns as f64 / 1e9,
        warmup_requests: warm_up.planned,
        timeout_s: stage.timeout_ns as f64 / 1e9,
        started_unix_ms,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        argv: stage.argv.clone(),
        definitions: definitions(stage.plan.is_some()),
        tags: tag_summaries(stage, totals),
        slo: Vec::new(),
        browse: None,
        merged: None,
        share: stage.plan.as_ref().and_then(|plan| Shares::of(plan.share())),
        checks: finished.checks,
        hiccup_ns: None,
        stationary,
        connection_imbalance: finished.connection_imbalance,
        unasked: finished.unasked,
        ceiling_rate: finished.ceiling_rate,
        service_by_tier_ns: tiers.service_by_tier_ns,
        slow: tiers.slow,
        exemplars: tiers.exemplars,
        response_p99_ci_ns: totals.response_p99_ci_ns(),
    };
    summary.set_counts(&counts);
    summary.set_quantiles(&totals.histograms);
    summary.slo = stage.slo.as_ref().map_or_else(Vec::new, |slo| slo.check(&summary));
    summary.browse = finished.browse.map(|mut browse| {
        browse.set_page_loads(|step| {
            let tag = format!("{step}.page");
            totals.tags[stage.tag_names.iter().position(|name| *name == tag)?].as_ref()
        });
        summary.slo.extend(stage.page_slo.and_then(|slo| slo.check(&browse)));
        browse
    });
    summary
}

#[cfg(test)]
mod tests;

fn tag_summaries(stage: &Stage, totals: &Totals) -> BTreeMap<String, TagSummary> {
    let named = stage.tag_names.iter().zip(&totals.tags);
    let present = named
        .filter_map(|(name, histogram)| Some((name, histogram.as_ref().filter(|histogram| !histogram.is_empty())?)));
    present
        .map(|(name, histogram)| (crate::hlog::clean_tag(name), TagSummary { response_ns: Quantiles::of(histogram) }))
        .collect()
}
