//! `loadgen max`: its options, and a run as a probe.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::Args;
use twintier::clock::{SystemClocks, unix_ms};
use twintier::engine::{Address, Uring};

use super::expect::ExpectOptions;
use super::{SPIN_US, parse_seconds, parse_seconds_or_zero};
use crate::arrivals::{Curve, Pattern, Plan, Rate, Share};
use crate::max::{self, Ask, DEFINITION, MaxReport, Order, Outcome};
use crate::run::{self, Request, Variant};
use crate::search::Bounds;
use crate::slo::Slo;
use crate::stage::{self, Stage};
use crate::summary::Summary;
use crate::target::{Field, Target, write_request};

#[derive(Args, Clone, Debug)]
pub struct MaxOptions {
    /// What to request, as in http://127.0.0.1:8080/path
    url: Target,
    /// Objectives that are to be kept, as in p99<5ms,errors<0.1%
    #[arg(long, value_name = "SLO")]
    slo: Slo,
    /// Measured seconds of a full trial; scouts are a quarter of it.
    #[arg(long, value_name = "S", default_value = "10", value_parser = parse_seconds)]
    trial: u64,
    /// Full trials at the knee: four times as many make the interval half as long.
    #[arg(long, value_name = "N", default_value = "32", value_parser = clap::value_parser!(u32).range(4..=1000))]
    trials: u32,
    /// Seconds before each probe that are not counted.
    #[arg(long, value_name = "S", default_value = "1", value_parser = parse_seconds_or_zero)]
    warmup: u64,
    /// The rate of the first scout.
    #[arg(long, value_name = "R", default_value = "100")]
    rate_first: Rate,
    /// The lowest rate that is tried.
    #[arg(long, value_name = "R", default_value = "1")]
    rate_min: Rate,
    /// The highest rate that is tried.
    #[arg(long, value_name = "R", default_value = "1000000")]
    rate_max: Rate,
    /// How arrivals follow each other: constant or poisson.
    #[arg(long, value_name = "PROCESS", default_value = "poisson")]
    arrivals: Pattern,
    /// Seed of the first probe; each one has the next.
    #[arg(long, value_name = "N", default_value = "1")]
    seed: u64,
    /// Connections.
    #[arg(long, value_name = "N", default_value = "256", value_parser = clap::value_parser!(u32).range(1..=60_000))]
    connections: u32,
    /// Seconds after its planned time at which a request has failed.
    #[arg(long, value_name = "S", default_value = "10", value_parser = parse_seconds)]
    timeout: u64,
    /// A field of the request; may be given again.
    #[arg(long, value_name = "NAME: VALUE")]
    header: Vec<Field>,
    #[command(flatten)]
    expect: ExpectOptions,
    /// Pin the timing thread to this core, which it then keeps busy while an arrival is near.
    #[arg(long, value_name = "N")]
    core: Option<usize>,
    /// Microseconds of polling before each arrival; 50 with --core, otherwise 0.
    #[arg(long, value_name = "US")]
    spin_us: Option<u64>,
    /// Directory for max.json and the run directory of each probe.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// No line a probe on stderr.
    #[arg(long)]
    quiet: bool,
}

/// Searches.
///
/// # Errors
/// Options that contradict each other, or a probe that could not be run.
pub fn perform(options: &MaxOptions) -> io::Result<MaxReport> {
    let invalid = |message: String| io::Error::new(io::ErrorKind::InvalidInput, message);
    if !options.arrivals.is_flat() {
        return Err(invalid("a search offers steady rates: write --arrivals constant or poisson".into()));
    }
    let order = Order {
        slo: options.slo.clone(),
        bounds: Bounds {
            first_per_s: options.rate_first.per_s(),
            rate_per_s_min: options.rate_min.per_s(),
            rate_per_s_max: options.rate_max.per_s(),
            trials: options.trials,
        },
        trial_ns: options.trial,
        seed: options.seed,
        out: options.out.clone(),
        quiet: options.quiet,
    };
    let order = order.prepared().map_err(invalid)?;
    let request = request(options).map_err(invalid)?;
    let stopped = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&stopped))?;
    }
    let mut run = |ask: &Ask| -> io::Result<Summary> {
        let stage = stage(options, ask);
        stage::perform(&stage, |ready| run::run::<Uring>(&stage, &request, ready, &SystemClocks))
    };
    max::perform(&order, report(options), &mut run, &|| stopped.load(Ordering::Relaxed))
}

fn url(options: &MaxOptions) -> String {
    format!("http://{}{}", options.url.authority, options.url.path)
}

fn request(options: &MaxOptions) -> Result<Request, String> {
    let mut bytes = Vec::new();
    let fields = options.header.iter().map(|field| (field.name.as_str(), field.value.as_str()));
    write_request(&mut bytes, "GET", &options.url.path, &options.url.authority, fields, &[]);
    // Sent for as long as the process lives.
    let bytes: &'static [u8] = Vec::leak(bytes);
    Ok(Request {
        address: Address::Tcp(options.url.address),
        variants: vec![Variant { bytes, closing_bytes: bytes, head: false }],
        connection_requests_max: u32::MAX,
        expected: options.expect.expect_status.clone(),
        checks: options.expect.checks()?,
        check_every: options.expect.check_every,
        server_timing: false,
    })
}

fn stage(options: &MaxOptions, ask: &Ask) -> Stage {
    let process = options.arrivals.process();
    let rate = Rate::of(ask.rate).unwrap_or(options.rate_max);
    let text = format!("{} at {rate}/s", process.name());
    let spin_us = options.spin_us.unwrap_or(if options.core.is_some() { SPIN_US } else { 0 });
    Stage {
        url: url(options),
        plan: Some(Plan::of_curve(process, Curve::ending(Vec::new(), rate), ask.seed, Share::WHOLE, text)),
        start_at: None,
        seed: ask.seed,
        connections: options.connections,
        duration_ns: ask.duration_ns,
        warmup_ns: options.warmup,
        timeout_ns: options.timeout,
        core: options.core,
        spin_ns: spin_us * 1000,
        out: ask.out.clone(),
        quiet: true,
        hiccup_meter: false,
        calibrate: false,
        argv: std::env::args().collect(),
        slo: Some(options.slo.clone()),
        page_slo: None,
        tag_names: run::tag_names(),
    }
}

fn report(options: &MaxOptions) -> MaxReport {
    MaxReport {
        outcome: Outcome::Searching,
        capacity_per_s: None,
        ci_low: None,
        ci_high: None,
        limit_per_s: None,
        slo: options.slo.to_string(),
        url: url(options),
        arrivals: options.arrivals.to_string(),
        connections: u64::from(options.connections),
        trial_s: options.trial as f64 / 1e9,
        warmup_s: options.warmup as f64 / 1e9,
        timeout_s: options.timeout as f64 / 1e9,
        seed: options.seed,
        started_unix_ms: unix_ms(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        argv: std::env::args().collect(),
        definition: DEFINITION.to_owned(),
        probes: Vec::new(),
    }
}
