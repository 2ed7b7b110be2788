//! Whether comparisons on this machine can be believed: many short ones of a known outcome.
//!
//! - `bench null`: a system against itself. Of 100 experiments 1 to 10 may exclude 1.00 for each metric.
//! - `bench power`: `twintier origin` against itself with a handicap of known size (`--burn-ns`, a share of its own
//!   processor time for a request, measured first). At least 80 % of the experiments must see it.
//!
//! An experiment is a comparison like any other: paired blocks, both sides restarted in each, in random order, with a
//! new length of environment, the same seed for both.

use std::fs;
use std::path::{Path, PathBuf};

use clap::Args;
use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{Rng, SeedableRng};
use serde::{Deserialize, Serialize};

use crate::case::{Case, Work};
use crate::compare::progress;
use crate::evaluate::metric_words;
use crate::failure::Failure;
use crate::job::{ProxyStage, parse_seconds, parse_system};
use crate::machine::{CoreMap, Jiffies};
use crate::opponent::{Answer, Engine, Kind, OriginOrder, Programs, Running, sample_answer, start_origin};
use crate::process::Interrupt;
use crate::record::{PlanRecord, RunRecord, make_folder, read_json, write_json};
use crate::report::document::{Block, Chapter};
use crate::statistics::{POWER, Ratio, blocks_to_see, median, paired_ratio};
use crate::table::Table;
use crate::trial::{self, Lab, Role, Setting, Stage, System, Task, Trial};
use crate::{build, clock, quick};

/// In the run directory.
const FILE: &str = "experiments.json";
/// Of the body.
const BODY_BYTES: usize = 128;
/// Trials that measure what a request costs before a handicap is made of it.
const CALIBRATION_TRIALS: u32 = 5;
/// How seldom a sound comparison may be called unsound: the count of exclusions lies outside the allowed ones with at
/// most this probability on each side, which for 100 experiments makes them 1 to 10.
const TAIL: f64 = 0.012;
/// The probability with which an interval excludes the truth.
const EXCLUSION: f64 = 0.05;

/// Options of both commands.
#[derive(Args, Clone, Debug)]
pub struct Common {
    /// Measured seconds of each trial.
    #[arg(long, value_name = "S", default_value = "0.25", value_parser = parse_seconds)]
    pub duration: f64,
    /// Seconds before them that are not counted.
    #[arg(long, value_name = "S", default_value = "0.05", value_parser = parse_seconds)]
    pub warmup: f64,
    /// Connections of the generator.
    #[arg(long, value_name = "N", default_value = "32", value_parser = clap::value_parser!(u32).range(1..=60_000))]
    pub connections: u32,
    /// Seed of everything random; from the clock by default.
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// Run directory; results/NAME-TIME by default.
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
}

#[derive(Args, Clone, Debug)]
pub struct NullArgs {
    /// Comparisons of the system with itself.
    #[arg(long, value_name = "N", default_value = "100", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub experiments: u32,
    /// Blocks of each.
    #[arg(long, value_name = "N", default_value = "4", value_parser = clap::value_parser!(u32).range(2..=1000))]
    pub blocks: u32,
    /// The system, a proxy.
    #[arg(long, value_name = "NAME", default_value = "twintier", value_parser = parse_system)]
    pub system: Kind,
    #[command(flatten)]
    pub common: Common,
}

#[derive(Args, Clone, Debug)]
pub struct PowerArgs {
    /// Comparisons with the handicapped one.
    #[arg(long, value_name = "N", default_value = "20", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub experiments: u32,
    /// Blocks of each.
    #[arg(long, value_name = "N", default_value = "10", value_parser = clap::value_parser!(u32).range(2..=1000))]
    pub blocks: u32,
    /// The handicap, as a share of the processor time for a request.
    #[arg(long, value_name = "SHARE", default_value = "0.05", value_parser = crate::job::parse_share)]
    pub slowdown: f64,
    #[command(flatten)]
    pub common: Common,
}

/// The metrics of an experiment, in the order of [`Sample`]'s values.
const METRICS: [&str; 4] = ["throughput_per_s", "cpu_us_per_request", "p50_ns", "p99_ns"];
/// The one that a handicap of processor time must show in.
const CPU: usize = 1;

/// Both sides of one block.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    pub experiment: u32,
    pub a: [f64; 4],
    pub b: [f64; 4],
}

/// `experiments.json`: all samples; everything that is said of them is computed from them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// `null` or `power`.
    pub job: String,
    pub system: String,
    pub experiments: u32,
    pub blocks: u32,
    /// Of the handicap; 0 in a null.
    pub slowdown: f64,
    pub burn_ns: u64,
    pub samples: Vec<Sample>,
    /// Trials that could not be quoted; their blocks do not count.
    pub invalid_trials: u32,
    pub last_reason: String,
}

impl Outcome {
    /// The ratio b ÷ a of one metric in each experiment that has one.
    fn ratios(&self, metric: usize) -> Vec<Ratio> {
        let pairs = |experiment: u32| {
            let own = self.samples.iter().filter(move |sample| sample.experiment == experiment);
            own.map(|sample| (sample.b[metric], sample.a[metric])).collect::<Vec<_>>()
        };
        (0..self.experiments).filter_map(|experiment| paired_ratio(&pairs(experiment))).collect()
    }

    /// Over all blocks of all experiments.
    fn overall(&self, metric: usize) -> Option<Ratio> {
        paired_ratio(&self.samples.iter().map(|sample| (sample.b[metric], sample.a[metric])).collect::<Vec<_>>())
    }

    /// What went wrong; empty if nothing did.
    pub fn faults(&self) -> Vec<String> {
        let complete = |ratios: &[Ratio]| u32::try_from(ratios.len()).unwrap_or(u32::MAX);
        let mut faults = Vec::new();
        if self.job == "null" {
            for (index, metric) in METRICS.iter().enumerate() {
                let ratios = self.ratios(index);
                let (low, high) = allowed(complete(&ratios));
                let excluding = excluding(&ratios);
                if excluding < low || excluding > high {
                    faults.push(format!(
                        "{}: {excluding} of {} exclude 1.00, {low} to {high} are right",
                        metric_words(metric),
                        ratios.len()
                    ));
                }
            }
        } else {
            let ratios = self.ratios(CPU);
            let seen = seen(&ratios);
            if f64::from(seen) < POWER * f64::from(complete(&ratios)) || ratios.is_empty() {
                faults.push(format!("only {seen} of {} experiments saw the handicap", ratios.len()));
            }
        }
        faults
    }

    /// What the samples in a run directory come to; `None` where there are none.
    ///
    /// # Errors
    /// The file is no outcome.
    pub fn read(folder: &Path) -> Result<Option<Self>, Failure> {
        let path = folder.join(FILE);
        path.is_file().then(|| read_json(&path)).transpose()
    }

    fn table(&self) -> Table {
        if self.job == "null" { self.null_table() } else { self.power_table() }
    }

    /// For the report.
    pub fn chapters(&self) -> Vec<Chapter> {
        let title = if self.job == "null" { "A system against itself" } else { "A handicap of known size" };
        vec![Chapter::of(title, [Block::Table(self.table()), Block::Notes(self.notes())])]
    }

    fn null_table(&self) -> Table {
        let mut table = Table::new(&[
            "metric",
            "experiments",
            "excluding 1.00",
            "right",
            "scatter of a block",
            "blocks to see 5 %",
        ]);
        for (index, metric) in METRICS.iter().enumerate() {
            let ratios = self.ratios(index);
            let (low, high) = allowed(u32::try_from(ratios.len()).unwrap_or(u32::MAX));
            let scatter = scatter(&ratios);
            table.push(vec![
                metric_words(metric).to_owned(),
                ratios.len().to_string(),
                excluding(&ratios).to_string(),
                format!("{low} to {high}"),
                format!("{:.1} %", scatter * 100.0),
                blocks_to_see(1.05, scatter).map_or_else(|| "n/a".to_owned(), |blocks| blocks.to_string()),
            ]);
        }
        table
    }

    fn power_table(&self) -> Table {
        let mut table = Table::new(&[
            "metric",
            "experiments",
            "seen",
            "ratio over all blocks",
            "scatter of a block",
            "blocks that see it",
        ]);
        for (index, metric) in METRICS.iter().enumerate() {
            let ratios = self.ratios(index);
            let worse = if *metric == "throughput_per_s" { seen_below(&ratios) } else { seen(&ratios) };
            let scatter = scatter(&ratios);
            let overall = self.overall(index);
            let text = |ratio: Ratio| format!("{:.3} [{:.3}, {:.3}]", ratio.ratio, ratio.ci_low, ratio.ci_high);
            table.push(vec![
                metric_words(metric).to_owned(),
                ratios.len().to_string(),
                worse.to_string(),
                overall.map_or_else(|| "n/a".to_owned(), text),
                format!("{:.1} %", scatter * 100.0),
                blocks_to_see(1.0 + self.slowdown, scatter)
                    .map_or_else(|| "n/a".to_owned(), |blocks| blocks.to_string()),
            ]);
        }
        table
    }

    fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        if self.job == "power" {
            notes.push(format!(
                "`{}` against itself with {} ns of processor time burnt for each answer: {:.0} % of what a request costs it; {} blocks an experiment. It must show in the CPU for a request; throughput shows it only where the handicapped core is the bottleneck",
                self.system,
                self.burn_ns,
                self.slowdown * 100.0,
                self.blocks
            ));
        } else {
            notes.push(format!("`{}` against itself, {} blocks an experiment", self.system, self.blocks));
        }
        notes.push(format!(
            "blocks that see a difference: in {:.0} % of the runs, by this scatter (root mean square over the experiments) and trials of this length",
            POWER * 100.0
        ));
        if self.invalid_trials > 0 {
            notes.push(format!(
                "{} trials could not be quoted, and their blocks do not count; the last one: {}",
                self.invalid_trials, self.last_reason
            ));
        }
        notes
    }

    /// # Errors
    /// [`Failure::Failed`] with what went wrong.
    fn judge(&self) -> Result<(), Failure> {
        let faults = self.faults();
        if faults.is_empty() { Ok(()) } else { Err(Failure::Failed(faults.join("; "))) }
    }
}

fn excluding(ratios: &[Ratio]) -> u32 {
    seen(ratios) + seen_below(ratios)
}

fn seen(ratios: &[Ratio]) -> u32 {
    u32::try_from(ratios.iter().filter(|ratio| ratio.ci_low > 1.0).count()).unwrap_or(u32::MAX)
}

fn seen_below(ratios: &[Ratio]) -> u32 {
    u32::try_from(ratios.iter().filter(|ratio| ratio.ci_high < 1.0).count()).unwrap_or(u32::MAX)
}

/// Root mean square of the deviations of a block's logarithm: what one experiment's would be with many blocks.
fn scatter(ratios: &[Ratio]) -> f64 {
    let squares: f64 = ratios.iter().map(|ratio| ratio.log_deviation.powi(2)).sum();
    // Some thousands of experiments.
    (squares / ratios.len().max(1) as f64).sqrt()
}

/// The counts of exclusions that a sound comparison has in so many experiments, but for [`TAIL`] on each side.
fn allowed(experiments: u32) -> (u32, u32) {
    // P(X = k) of the binomial distribution, each from the one before.
    let mut probability = (1.0 - EXCLUSION).powi(i32::try_from(experiments).unwrap_or(i32::MAX));
    let (mut below, mut low, mut high) = (0.0, None, experiments);
    for count in 0..=experiments {
        let up_to = below + probability;
        if low.is_none() && up_to > TAIL {
            low = Some(count);
        }
        if 1.0 - up_to <= TAIL {
            high = count;
            break;
        }
        below = up_to;
        probability *= f64::from(experiments - count) / f64::from(count + 1) * EXCLUSION / (1.0 - EXCLUSION);
    }
    (low.unwrap_or(0), high)
}

/// # Errors
/// A system does not start, a signal arrives, or the intervals exclude 1.00 too often or too seldom.
pub fn null(args: &NullArgs, interrupt: &Interrupt) -> Result<(), Failure> {
    let mut bench = Bench::begin("null", &args.common, args.blocks, interrupt)?;
    let own = System::of(args.system);
    let twin = System { label: format!("{}-null", own.label), role: Role::Null, ..own.clone() };
    let outcome = Outcome {
        job: "null".to_owned(),
        system: own.label.clone(),
        experiments: args.experiments,
        blocks: args.blocks,
        slowdown: 0.0,
        burn_ns: 0,
        samples: Vec::new(),
        invalid_trials: 0,
        last_reason: String::new(),
    };
    let lab = bench.lab.clone();
    let stage = ProxyStage::start(&lab, &[BODY_BYTES])?;
    bench.conduct(&stage, &own, &twin, outcome)
}

/// # Errors
/// The origin does not start, a signal arrives, or too few experiments see the handicap.
pub fn power(args: &PowerArgs, interrupt: &Interrupt) -> Result<(), Failure> {
    let mut bench = Bench::begin("power", &args.common, args.blocks, interrupt)?;
    let own = System::of(Kind::Origin(Engine::Auto));
    let handicapped = System { label: HANDICAPPED.to_owned(), ..own.clone() };
    let lab = bench.lab.clone();
    let plain = OriginStage { lab: &lab, burn_ns: 0 };
    let mut costs = Vec::new();
    for turn in 0..CALIBRATION_TRIALS {
        let trial = bench.trial(&plain, &own, u32::MAX, turn)?;
        costs.extend((trial.verdict != "invalid").then_some(trial.cpu_us_per_request));
    }
    let cost_us =
        median(&costs).ok_or_else(|| Failure::Invalid("no trial of the origin alone can be quoted".into()))?;
    // Some hundred nanoseconds.
    let burn_ns = (cost_us * 1e3 * args.slowdown).round() as u64;
    quick::say(&format!("{cost_us:.2} µs of CPU a request: the handicap is {burn_ns} ns"));
    let outcome = Outcome {
        job: "power".to_owned(),
        system: own.label.clone(),
        experiments: args.experiments,
        blocks: args.blocks,
        slowdown: args.slowdown,
        burn_ns,
        samples: Vec::new(),
        invalid_trials: 0,
        last_reason: String::new(),
    };
    let stage = OriginStage { lab: &lab, burn_ns };
    bench.conduct(&stage, &own, &handicapped, outcome)
}

/// The name of the origin that burns.
const HANDICAPPED: &str = "origin-handicapped";

/// `twintier origin` on the system's core, with a handicap or without.
struct OriginStage<'a> {
    lab: &'a Lab,
    burn_ns: u64,
}

impl Stage for OriginStage<'_> {
    fn start(&self, system: &System, case: &Case, setting: &Setting<'_>) -> Result<Running, Failure> {
        let order = OriginOrder {
            name: "origin",
            core: Some(self.lab.cores.system),
            engine: Engine::Auto,
            answer: Answer::Bytes(case.body_bytes),
            folder: setting.folder,
            env_padding_bytes: setting.env_padding_bytes,
            burn_ns: if system.label == HANDICAPPED { self.burn_ns } else { 0 },
        };
        let (process, address) = start_origin(&self.lab.programs, &self.lab.interrupt, &order)?;
        Ok(Running::of(address, process))
    }

    fn path(&self) -> &str {
        "/"
    }

    fn expected_body(&self, case: &Case) -> Result<Vec<u8>, Failure> {
        let folder = self.lab.folder.join("survey");
        let running = self.start(&System::of(Kind::Origin(Engine::Auto)), case, &Setting::plain(&folder))?;
        let body = sample_answer(&running.address, self.path())?.body;
        running.stop()?;
        Ok(body)
    }
}

/// A run of experiments.
struct Bench {
    lab: Lab,
    record: RunRecord,
    jiffies: Option<Jiffies>,
    case: Case,
    duration_s: f64,
    warmup_s: f64,
    seed: u64,
}

impl Bench {
    fn begin(job: &str, common: &Common, blocks: u32, interrupt: &Interrupt) -> Result<Self, Failure> {
        let root = build::source_root()?;
        let programs = Programs::find(&build::sibling_folder(&root, interrupt)?)?;
        let folder = make_folder(job, common.out.clone())?;
        let mut record = RunRecord::begin(job, &root);
        let work = if job == "power" { Work::Origin } else { Work::Proxy };
        let case = Case::keep_alive(work, common.connections, BODY_BYTES);
        let seed = common.seed.unwrap_or_else(clock::unix_ns);
        record.plan = Some(PlanRecord {
            job: job.to_owned(),
            cases: vec![case],
            blocks,
            duration_s: common.duration,
            warmup_s: common.warmup,
            seed,
        });
        record.write(&folder)?;
        let cores: CoreMap = record.cores;
        quick::say(&cores.text());
        Ok(Self {
            lab: Lab { programs, interrupt: interrupt.clone(), cores, folder },
            record,
            jiffies: Jiffies::read(Path::new("/")),
            case,
            duration_s: common.duration,
            warmup_s: common.warmup,
            seed,
        })
    }

    fn trial(&self, stage: &dyn Stage, system: &System, block: u32, turn: u32) -> Result<Trial, Failure> {
        let task = Task {
            system,
            case: self.case,
            block,
            turn,
            warmup_s: self.warmup_s,
            duration_s: self.duration_s,
            seed: self.seed.wrapping_add(u64::from(block)),
            rate_per_s: None,
        };
        trial::perform(&self.lab, stage, &task)
    }

    /// All experiments, the table, and the judgement.
    fn conduct(&mut self, stage: &dyn Stage, a: &System, b: &System, mut outcome: Outcome) -> Result<(), Failure> {
        let all = outcome.experiments.saturating_mul(outcome.blocks);
        quick::say(&format!(
            "{}: {} experiments of {} blocks, {} trials of {} s after {} s, seed {}",
            outcome.job,
            outcome.experiments,
            outcome.blocks,
            all.saturating_mul(2),
            self.duration_s,
            self.warmup_s,
            self.seed
        ));
        let bar = progress(usize::try_from(all).unwrap_or(usize::MAX));
        let mut random = Xoshiro256PlusPlus::seed_from_u64(self.seed);
        let performed = (0..all).try_for_each(|block| {
            let b_first = random.next_u64() >> 63 == 1;
            let order = if b_first { [b, a] } else { [a, b] };
            let first = self.trial(stage, order[0], block, 0)?;
            let second = self.trial(stage, order[1], block, 1)?;
            let [of_a, of_b] = if b_first { [second, first] } else { [first, second] };
            for trial in [&of_a, &of_b].into_iter().filter(|trial| trial.verdict == "invalid") {
                outcome.invalid_trials += 1;
                outcome.last_reason = trial.reasons.join("; ");
            }
            if of_a.verdict != "invalid" && of_b.verdict != "invalid" {
                let experiment = block / outcome.blocks;
                outcome.samples.push(Sample { experiment, a: values(&of_a), b: values(&of_b) });
            }
            for trial in [&of_a, &of_b] {
                // Thousands of them: what they say is in the samples.
                let _ = fs::remove_dir_all(self.lab.folder.join(&trial.folder));
            }
            bar.inc(1);
            Ok(())
        });
        bar.finish_and_clear();
        write_json(&self.lab.folder.join(FILE), &outcome)?;
        performed?;
        self.record.finish(self.jiffies);
        self.record.write(&self.lab.folder)?;
        println!("{}", outcome.table().text());
        for note in outcome.notes() {
            println!("· {note}");
        }
        println!("run directory: {}", self.lab.folder.display());
        outcome.judge()
    }
}

fn values(trial: &Trial) -> [f64; 4] {
    let quantile = |value: Option<u64>| value.map_or(0.0, |ns| ns as f64);
    [trial.throughput_per_s, trial.cpu_us_per_request, quantile(trial.latency_ns.p50), quantile(trial.latency_ns.p99)]
}

#[cfg(test)]
mod tests {
    use super::{METRICS, Outcome, Sample, allowed};
    use crate::failure::Failure;

    /// What the issue asks of 100 experiments is what the binomial distribution says.
    #[test]
    fn one_to_ten_of_a_hundred_may_exclude_one() {
        assert_eq!(allowed(100), (1, 10));
        assert_eq!(allowed(20), (0, 4));
        assert_eq!(allowed(1000), (35, 66));
    }

    /// Experiments of three blocks each, `off` of which differ by ten percent in every metric.
    fn outcome(job: &str, experiments: u32, off: u32) -> Outcome {
        let block = |experiment: u32, block: u32| {
            let factor = if experiment < off { 1.1 } else { 1.0 };
            let noise = [0.999, 1.0, 1.001][usize::try_from(block).unwrap()];
            Sample { experiment, a: [1000.0; 4], b: [1000.0 * factor * noise; 4] }
        };
        Outcome {
            job: job.into(),
            system: "twintier".into(),
            experiments,
            blocks: 3,
            slowdown: 0.05,
            burn_ns: 400,
            samples: (0..experiments).flat_map(|number| (0..3).map(move |index| block(number, index))).collect(),
            invalid_trials: 0,
            last_reason: String::new(),
        }
    }

    #[test]
    fn too_many_and_too_few_exclusions_are_faults() {
        assert!(outcome("null", 100, 5).judge().is_ok());
        for off in [0, 11] {
            let Err(Failure::Failed(text)) = outcome("null", 100, off).judge() else { panic!("{off} of 100 pass") };
            assert!(text.contains(&format!("p99: {off} of 100 exclude 1.00, 1 to 10 are right")), "{text}");
        }
        assert_eq!(outcome("null", 100, 5).null_table().markdown().lines().count(), 2 + METRICS.len());
    }

    #[test]
    fn a_handicap_must_be_seen_in_four_of_five() {
        assert!(outcome("power", 20, 16).judge().is_ok());
        assert!(outcome("power", 20, 15).judge().is_err());
        assert!(outcome("power", 20, 16).table().text().contains("CPU per request"));
        assert_eq!(outcome("power", 20, 16).chapters().len(), 1);
        assert!(outcome("power", 0, 0).judge().is_err());
    }

    /// A block of which one side cannot be quoted is in no experiment.
    #[test]
    fn experiments_need_two_blocks() {
        let mut few = outcome("null", 2, 0);
        few.samples.retain(|sample| sample.experiment == 0);
        assert_eq!(few.ratios(0).len(), 1);
    }
}
