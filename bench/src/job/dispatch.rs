//! `--job dispatch`: the policies of the second dispatcher against each other and against the ideal queue.
//!
//! Two halves. The simulation ([`study`], [`sizing`]) plays one [`trace`] through the library's own dispatchers
//! ([`simulation`]) and through the queue that none can beat ([`ideal`]). The live half ([`live`]) runs the appliance
//! under each policy with slow handlers mixed in. [`text`] makes tables of both.

pub mod ideal;
pub mod live;
pub mod simulation;
pub mod sizing;
pub mod study;
pub mod text;
pub mod trace;

use std::path::Path;
use std::time::Duration;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde::{Deserialize, Serialize};
use twintier::dispatch::PolicyName;

use super::CompareArgs;
use crate::case::{Case, Work};
use crate::failure::Failure;
use crate::machine::Jiffies;
use crate::opponent::Programs;
use crate::process::Interrupt;
use crate::record::{PlanRecord, RunRecord, make_folder, read_json, write_json};
use crate::trial::Lab;
use crate::{build, clock, quick, report, store};

/// Options of this job alone.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Options of --job dispatch")]
pub struct Options {
    /// Policies; the first one is compared with each other. All by default.
    #[arg(long, value_name = "A,B,…", value_delimiter = ',')]
    pub policies: Vec<PolicyName>,
    /// Simulated sizes: so many front servers and as many replicas.
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_value = "2,4,8,16", value_parser = parse_size)]
    pub sizes: Vec<usize>,
    /// Simulated loads in per cent of the replicas' capacity.
    #[arg(long, value_name = "P,…", value_delimiter = ',', default_value = "50,70,80,90", value_parser = clap::value_parser!(u32).range(1..=99))]
    pub loads: Vec<u32>,
    /// Requests of each simulated trace.
    #[arg(long, value_name = "N", default_value = "100000", value_parser = clap::value_parser!(u32).range(1000..=100_000_000))]
    pub requests: u32,
    /// The n of JBSQ(n) in the simulation.
    #[arg(long, value_name = "N", default_value = "2", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub credit: u32,
    /// Simulated hand-off to another core, one way, in nanoseconds; the mean service time is 20000.
    #[arg(long, value_name = "NS", default_value = "1000")]
    pub handoff_ns: u64,
    /// Blocks of the live half; 0 leaves it out.
    #[arg(long, value_name = "N", default_value = "3", value_parser = clap::value_parser!(u32).range(0..=1000))]
    pub live_blocks: u32,
    /// Cheap requests a second in the live half.
    #[arg(long, value_name = "R", default_value = "2000")]
    pub rate: f64,
    /// Expensive requests a second in the live half.
    #[arg(long, value_name = "R", default_value = "20")]
    pub slow_rate: f64,
}

/// `compare.json` of this job.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    pub job: String,
    pub mean_service_ns: u64,
    pub handoff_ns: u64,
    pub credit: u32,
    pub blocks: u32,
    pub seed: u64,
    /// The simulation's `systems`, `ratios`, `capacities` and `erlang_check`.
    #[serde(flatten)]
    pub study: study::Study,
    pub sizing: sizing::Sizing,
    /// Absent where it was left out.
    pub live: Option<live::Live>,
}

impl Outcome {
    /// The outcome in a run directory, if the run was of this job.
    ///
    /// # Errors
    /// The file is missing or is no outcome.
    pub fn read(folder: &Path, record: &RunRecord) -> Result<Option<Self>, Failure> {
        match &record.plan {
            Some(plan) if plan.job == JOB => read_json(&folder.join("compare.json")).map(Some),
            Some(_) | None => Ok(None),
        }
    }
}

/// The name of the job in `run.json` and `compare.json`.
const JOB: &str = "dispatch";

/// # Errors
/// The appliance or a generator fails, a signal arrives, or no live trial of some policy may be quoted.
pub fn perform(args: &CompareArgs, interrupt: &Interrupt) -> Result<(), Failure> {
    let options = &args.dispatch;
    let policies = if options.policies.is_empty() { PolicyName::ALL.to_vec() } else { options.policies.clone() };
    let root = build::source_root()?;
    let folder = make_folder("compare", args.out.clone())?;
    let mut record = RunRecord::begin("compare", &root);
    let jiffies = Jiffies::read(Path::new("/"));
    let seed = args.seed.unwrap_or_else(clock::unix_ns);
    let connections = args.connections().first().copied().unwrap_or(64);
    record.plan = Some(PlanRecord {
        job: JOB.to_owned(),
        cases: vec![Case::keep_alive(Work::App, connections, 0)],
        blocks: args.blocks,
        duration_s: args.duration_s(),
        warmup_s: args.warmup,
        seed,
    });
    record.write(&folder)?;
    let mut outcome = Outcome {
        job: JOB.to_owned(),
        mean_service_ns: trace::MEAN_SERVICE_NS as u64,
        handoff_ns: options.handoff_ns,
        credit: options.credit,
        blocks: args.blocks,
        seed,
        ..Outcome::default()
    };

    let requests = usize::try_from(options.requests).unwrap_or(usize::MAX);
    let plan = study::Plan {
        policies: policies.clone(),
        sizes: options.sizes.clone(),
        loads_percent: options.loads.clone(),
        blocks: args.blocks,
        requests,
        credit: options.credit,
        handoff_ns: options.handoff_ns,
        seed,
    };
    quick::say(&format!(
        "simulation: {} policies and the ideal queue, {} blocks of {} requests, seed {seed}",
        policies.len(),
        plan.blocks,
        plan.requests
    ));
    outcome.study = simulated(&plan, interrupt)?;
    outcome.sizing = sizing::perform(requests, seed);
    write_json(&folder.join("compare.json"), &outcome)?;

    if options.live_blocks > 0 {
        let programs = Programs::find(&build::sibling_folder(&root, interrupt)?)?;
        let lab = Lab { programs, interrupt: interrupt.clone(), cores: record.cores, folder: folder.clone() };
        let plan = live::Plan {
            policies,
            blocks: options.live_blocks,
            duration_s: args.duration_s(),
            warmup_s: args.warmup,
            connections,
            rate: options.rate,
            slow_rate: options.slow_rate,
            seed,
        };
        outcome.live = Some(live::perform(&lab, &root, &plan, &quick::say)?);
        write_json(&folder.join("compare.json"), &outcome)?;
    }
    record.finish(jiffies);
    record.write(&folder)?;
    store::add_dispatch(&args.store, &folder, &record, &outcome)?;
    println!("{}", text::terminal(&outcome));
    println!("run directory: {}", folder.display());
    println!("report:        {}", report::write_page(&folder)?.display());
    refuse_invalid(&outcome)
}

fn simulated(plan: &study::Plan, interrupt: &Interrupt) -> Result<study::Study, Failure> {
    let style = ProgressStyle::with_template("  {bar:24} {pos:>3}/{len} conditions  {elapsed}")
        .expect("invariant: a constant template");
    let bar = ProgressBar::new(1).with_style(style);
    bar.enable_steady_tick(Duration::from_millis(200));
    let progress = |done: usize, all: usize| {
        bar.set_length(u64::try_from(all).unwrap_or(u64::MAX));
        bar.set_position(u64::try_from(done).unwrap_or(u64::MAX));
    };
    let study = study::perform(plan, interrupt, &progress);
    bar.finish_and_clear();
    study
}

/// A policy without a single live trial that may be quoted has no live numbers.
fn refuse_invalid(outcome: &Outcome) -> Result<(), Failure> {
    let Some(live) = &outcome.live else { return Ok(()) };
    let unquotable = |policy: &str| {
        let mut own = live.trials.iter().filter(|trial| trial.policy == policy).peekable();
        own.peek().is_some() && own.all(|trial| trial.verdict == "invalid")
    };
    let invalid: Vec<&str> =
        PolicyName::ALL.into_iter().map(PolicyName::as_str).filter(|policy| unquotable(policy)).collect();
    if invalid.is_empty() {
        return Ok(());
    }
    let reason = live.trials.iter().find(|trial| trial.verdict == "invalid").map(|trial| trial.reasons.join("; "));
    Err(Failure::Invalid(format!(
        "the live half has no valid trial of {}: {}",
        invalid.join(", "),
        reason.unwrap_or_default()
    )))
}

fn parse_size(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(size) if (1..=16).contains(&size) => Ok(size),
        Ok(_) | Err(_) => Err("write 1 to 16 servers: a dispatcher knows 16 replicas at most".into()),
    }
}
