//! The comparison: every system in every block, in random order, and the ratios that follow.

use std::fs;
use std::path::Path;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{Rng, SeedableRng};
use serde::{Deserialize, Serialize};

use crate::failure::Failure;
use crate::latency::{Quantiles, add_log, histogram};
use crate::opponent::{self, Kind, Running};
use crate::process::{Process, ask, find_program};
use crate::record::{Absent, PlanRecord, RunRecord, Surveyed, read_json};
use crate::statistics::{Better, Verdict, paired_ratio};
use crate::trial::{self, Lab, System, Task, Trial};

/// What is compared, and how long.
#[derive(Clone, Debug)]
pub struct Plan {
    pub systems: Vec<System>,
    pub connections: Vec<u32>,
    pub blocks: u32,
    pub duration_s: f64,
    pub warmup_s: f64,
    pub body_bytes: usize,
    pub seed: u64,
}

/// `compare.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// One entry for each system and number of connections.
    pub systems: Vec<Measured>,
    /// The first system (`twintier` where it takes part) against each other one.
    pub ratios: Vec<RatioRow>,
}

/// A system at one number of connections, over all blocks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    pub name: String,
    pub version: String,
    pub connections: u32,
    pub blocks: u32,
    pub requests: u64,
    pub failed: u64,
    /// Requests of all windows ÷ their length.
    pub throughput_per_s: f64,
    /// Run time of the system in all windows ÷ their requests.
    pub cpu_us_per_request: f64,
    /// Quantiles of the merged histograms; `null` where the samples do not support one.
    pub p50_ns: Option<u64>,
    pub p99_ns: Option<u64>,
    pub p999_ns: Option<u64>,
    pub max_ns: Option<u64>,
    /// The worst verdict of the generator, and all reasons.
    pub verdict: String,
    pub reasons: Vec<String>,
}

/// `a` ÷ `b` of one metric.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RatioRow {
    pub a: String,
    pub b: String,
    pub metric: String,
    pub connections: u32,
    /// `null` together with the interval where fewer than two blocks are complete.
    pub ratio: Option<f64>,
    pub ci_low: Option<f64>,
    pub ci_high: Option<f64>,
    pub blocks: u32,
    pub verdict: Verdict,
    /// For `underpowered`: blocks that would decide, if the scatter stays as it is.
    pub blocks_to_decide: Option<u32>,
}

/// A metric of a trial and its good direction.
struct Metric {
    name: &'static str,
    better: Better,
    of: fn(&Trial) -> f64,
}

/// Absent quantiles become 0, of which no ratio is taken.
fn quantile(value: Option<u64>) -> f64 {
    value.map_or(0.0, |ns| ns as f64)
}

const METRICS: [Metric; 4] = [
    Metric { name: "cpu_us_per_request", better: Better::Lower, of: |trial| trial.cpu_us_per_request },
    Metric { name: "throughput_per_s", better: Better::Higher, of: |trial| trial.throughput_per_s },
    Metric { name: "p50_ns", better: Better::Lower, of: |trial| quantile(trial.latency_ns.p50) },
    Metric { name: "p99_ns", better: Better::Lower, of: |trial| quantile(trial.latency_ns.p99) },
];

/// Splits wanted systems into those that can run here and those that cannot.
pub fn select(lab: &Lab, wanted: &[Kind]) -> (Vec<System>, Vec<Absent>) {
    let mut systems: Vec<System> = Vec::new();
    let mut absent = Vec::new();
    for &kind in wanted {
        if lab.programs.of(kind).is_none() {
            absent.push(Absent {
                name: kind.name().to_owned(),
                install: kind.install_command().unwrap_or_default().to_owned(),
            });
            continue;
        }
        // The same system twice is an A/A comparison; the second one gets a name of its own.
        let times = systems.iter().filter(|system| system.kind == kind).count();
        let label = if times == 0 { kind.name().to_owned() } else { format!("{}-{}", kind.name(), times + 1) };
        systems.push(System { label, kind });
    }
    (systems, absent)
}

/// Surveys the systems, performs all trials, and evaluates them. `record` gains the plan and the survey on the way.
///
/// # Errors
/// A system fails or does other work than the origin; a signal arrives.
pub fn perform(lab: &Lab, plan: &Plan, record: &mut RunRecord) -> Result<Comparison, Failure> {
    record.generator =
        ask(&lab.programs.loadgen, &["--version"]).map(|text| text.trim().to_owned()).unwrap_or_default();
    record.plan = Some(PlanRecord {
        job: "proxy".to_owned(),
        connections: plan.connections.clone(),
        blocks: plan.blocks,
        duration_s: plan.duration_s,
        warmup_s: plan.warmup_s,
        body_bytes: plan.body_bytes,
        seed: plan.seed,
    });
    let (origin, address) = opponent::start_origin(
        &lab.programs,
        "origin",
        Some(lab.cores.origin),
        plan.body_bytes,
        &lab.folder.join("origin"),
        &lab.interrupt,
    )?;
    record.systems = survey(lab, &plan.systems, &address, origin.id())?;
    record.write(&lab.folder)?;

    let steps = order(plan);
    let bar = progress(steps.len());
    let mut trials = Vec::with_capacity(steps.len());
    for step in &steps {
        let system = &plan.systems[step.system];
        bar.set_message(format!(
            "block {}/{}  {} connections  {}",
            step.block + 1,
            plan.blocks,
            step.connections,
            system.label
        ));
        let task = Task {
            system,
            connections: step.connections,
            block: step.block,
            turn: step.turn,
            warmup_s: plan.warmup_s,
            duration_s: plan.duration_s,
            seed: plan.seed.wrapping_add(u64::from(step.block)),
            origin: &address,
            origin_id: origin.id(),
        };
        trials.push(trial::perform(lab, &task)?);
        bar.inc(1);
    }
    bar.finish_and_clear();
    origin.stop()?;
    evaluate(&lab.folder, record, &trials)
}

/// A trial to come.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Step {
    block: u32,
    connections: u32,
    turn: u32,
    /// Index into the plan's systems.
    system: usize,
}

/// All trials: block after block, in each every number of connections, in each all systems in random order.
fn order(plan: &Plan) -> Vec<Step> {
    let mut random = Xoshiro256PlusPlus::seed_from_u64(plan.seed);
    let mut steps = Vec::new();
    for block in 0..plan.blocks {
        for &connections in &plan.connections {
            let mut systems: Vec<usize> = (0..plan.systems.len()).collect();
            shuffle(&mut systems, &mut random);
            steps.extend((0..).zip(systems).map(|(turn, system)| Step { block, connections, turn, system }));
        }
    }
    steps
}

/// Fisher and Yates' shuffle.
fn shuffle(items: &mut [usize], random: &mut Xoshiro256PlusPlus) {
    for last in (1..items.len()).rev() {
        let bound = u64::try_from(last + 1).expect("invariant: a length fits in 64 bits");
        // The bias of the remainder is below 2^-50 for any list of systems.
        let chosen = usize::try_from(random.next_u64() % bound).expect("invariant: smaller than a length");
        items.swap(last, chosen);
    }
}

fn progress(steps: usize) -> ProgressBar {
    let style = ProgressStyle::with_template("  {bar:24} {pos:>3}/{len} trials  {msg}")
        .expect("invariant: a constant template");
    let bar = ProgressBar::new(u64::try_from(steps).unwrap_or(u64::MAX)).with_style(style);
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

/// Starts each system once, looks at its answer and asks for its version. Equal work is the condition of a comparison.
fn survey(lab: &Lab, systems: &[System], origin: &str, origin_id: u32) -> Result<Vec<Surveyed>, Failure> {
    let expected = opponent::sample_answer(origin)?;
    let mut surveyed = Vec::with_capacity(systems.len());
    for system in systems {
        let folder = lab.folder.join("survey").join(&system.label);
        let Running { address, process } =
            opponent::start(system.kind, &lab.programs, origin, lab.cores.system, &folder, &lab.interrupt)?;
        let answer = opponent::sample_answer(&address)?;
        if answer.body != expected.body {
            let (found, wanted) = (answer.body.len(), expected.body.len());
            return Err(Failure::Failed(format!(
                "{} does other work than the origin: {found} bytes of body instead of {wanted}, or others",
                system.label
            )));
        }
        let id = process.as_ref().map_or(origin_id, Process::id);
        surveyed.push(Surveyed {
            name: system.label.clone(),
            description: system.kind.description().to_owned(),
            version: opponent::version(system.kind, id),
            program_sha256: sha256(id),
            answer_head_bytes: answer.head.len(),
            answer_body_bytes: answer.body.len(),
            answer_fields: answer.field_names(),
        });
        if let Some(process) = process {
            process.stop()?;
        }
    }
    Ok(surveyed)
}

fn sha256(id: u32) -> String {
    let answer = find_program("sha256sum").and_then(|program| ask(&program, &[&format!("/proc/{id}/exe")]));
    answer.and_then(|text| text.split_whitespace().next().map(str::to_owned)).unwrap_or_default()
}

/// Reads the trials of a run directory, in the order of blocks and turns.
///
/// # Errors
/// A file cannot be read.
pub fn read_trials(folder: &Path) -> Result<Vec<Trial>, Failure> {
    let trials = folder.join("trials");
    let entries = match fs::read_dir(&trials) {
        Ok(entries) => entries
            .flatten()
            .map(|entry| entry.path().join("trial.json"))
            .filter(|path| path.is_file())
            .collect::<Vec<_>>(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(Failure::file(&trials, &error)),
    };
    let mut found: Vec<Trial> = entries.iter().map(|path| read_json(path)).collect::<Result<_, _>>()?;
    found.sort_by_key(|trial| (trial.block, trial.connections, trial.turn));
    Ok(found)
}

/// What the trials come to. The same for a run that just ended and for its directory years later.
///
/// # Errors
/// A histogram log cannot be read.
pub fn evaluate(folder: &Path, record: &RunRecord, trials: &[Trial]) -> Result<Comparison, Failure> {
    let mut systems = Vec::new();
    let mut ratios = Vec::new();
    let connections = record.plan.as_ref().map(|plan| plan.connections.clone()).unwrap_or_default();
    for &connections in &connections {
        let of = |name: &str| {
            trials.iter().filter(|trial| trial.connections == connections && trial.system == name).collect::<Vec<_>>()
        };
        for surveyed in &record.systems {
            let own = of(&surveyed.name);
            if !own.is_empty() {
                systems.push(measure(folder, surveyed, connections, &own)?);
            }
        }
        let Some(first) = protagonist(record) else { continue };
        for other in record.systems.iter().filter(|other| other.name != first.name) {
            ratios.extend(METRICS.iter().map(|metric| {
                compare(metric, connections, (&first.name, &of(&first.name)), (&other.name, &of(&other.name)))
            }));
        }
    }
    Ok(Comparison { systems, ratios })
}

/// The system that the others are references for.
fn protagonist(record: &RunRecord) -> Option<&Surveyed> {
    record.systems.iter().find(|system| system.name == Kind::Twintier.name()).or(record.systems.first())
}

fn measure(folder: &Path, surveyed: &Surveyed, connections: u32, trials: &[&Trial]) -> Result<Measured, Failure> {
    let mut merged = histogram();
    for trial in trials {
        add_log(&mut merged, &folder.join(&trial.folder).join("latency.hlog"))?;
    }
    let latency = Quantiles::of(&merged);
    let requests: u64 = trials.iter().map(|trial| trial.requests).sum();
    let window_s: f64 = trials.iter().map(|trial| trial.window_s).sum();
    let cpu_ns: u64 = trials.iter().map(|trial| trial.cpu_ns).sum();
    let mut reasons: Vec<String> = trials
        .iter()
        .flat_map(|trial| trial.reasons.iter().map(|reason| format!("block {}: {reason}", trial.block + 1)))
        .collect();
    reasons.dedup();
    Ok(Measured {
        name: surveyed.name.clone(),
        version: surveyed.version.clone(),
        connections,
        blocks: u32::try_from(trials.len()).unwrap_or(u32::MAX),
        requests,
        failed: trials.iter().map(|trial| trial.failed).sum(),
        throughput_per_s: requests as f64 / window_s,
        cpu_us_per_request: cpu_ns as f64 / 1e3 / requests.max(1) as f64,
        p50_ns: latency.p50,
        p99_ns: latency.p99,
        p999_ns: latency.p999,
        max_ns: latency.max,
        verdict: worst_verdict(trials).to_owned(),
        reasons,
    })
}

fn worst_verdict(trials: &[&Trial]) -> &'static str {
    ["invalid", "suspect"]
        .into_iter()
        .find(|&verdict| trials.iter().any(|trial| trial.verdict == verdict))
        .unwrap_or("valid")
}

/// One ratio, over the blocks that have both systems with a run that may be quoted.
fn compare(
    metric: &Metric,
    connections: u32,
    (a, a_trials): (&str, &[&Trial]),
    (b, b_trials): (&str, &[&Trial]),
) -> RatioRow {
    let sound = |trial: &&&Trial| trial.verdict != "invalid";
    let pairs: Vec<(f64, f64)> = a_trials
        .iter()
        .filter(sound)
        .filter_map(|first| {
            let second = b_trials.iter().filter(sound).find(|second| second.block == first.block)?;
            Some(((metric.of)(first), (metric.of)(second)))
        })
        .collect();
    let ratio = paired_ratio(&pairs);
    RatioRow {
        a: a.to_owned(),
        b: b.to_owned(),
        metric: metric.name.to_owned(),
        connections,
        ratio: ratio.map(|ratio| ratio.ratio),
        ci_low: ratio.map(|ratio| ratio.ci_low),
        ci_high: ratio.map(|ratio| ratio.ci_high),
        blocks: u32::try_from(pairs.len()).unwrap_or(u32::MAX),
        verdict: ratio.map_or(Verdict::Underpowered, |ratio| ratio.verdict(metric.better)),
        blocks_to_decide: ratio.and_then(|ratio| ratio.blocks_to_decide()),
    }
}

#[cfg(test)]
mod tests {
    use super::{Plan, order, select};
    use crate::machine::CoreMap;
    use crate::opponent::{Kind, Programs};
    use crate::process::Interrupt;
    use crate::record::Absent;
    use crate::trial::{Lab, System};

    fn plan(seed: u64) -> Plan {
        let systems = Kind::ALL.map(|kind| System { label: kind.name().into(), kind }).to_vec();
        Plan { systems, connections: vec![8, 64], blocks: 20, duration_s: 1.0, warmup_s: 0.0, body_bytes: 128, seed }
    }

    /// What is not installed is named with its cure, and a system that is named twice gets a second name.
    #[test]
    fn systems_are_chosen_from_what_is_there() {
        let programs = Programs {
            twintier: "twintier".into(),
            loadgen: "loadgen".into(),
            nginx: None,
            haproxy: Some("haproxy".into()),
        };
        let cores = CoreMap { system: 0, origin: 1, generator: 1 };
        let lab = Lab { programs, interrupt: Interrupt::default(), cores, folder: "run".into() };
        let (systems, absent) = select(&lab, &[Kind::Twintier, Kind::Nginx, Kind::Haproxy, Kind::Twintier]);
        assert_eq!(
            systems.iter().map(|system| system.label.as_str()).collect::<Vec<_>>(),
            ["twintier", "haproxy", "twintier-2"]
        );
        assert_eq!(absent, [Absent { name: "nginx".into(), install: "apt-get install nginx".into() }]);
    }

    /// Each block has each system once at each number of connections, and the order is not always the same.
    #[test]
    fn blocks_are_complete_and_shuffled() {
        let steps = order(&plan(7));
        assert_eq!(steps.len(), 20 * 2 * 5);
        for group in steps.chunks(5) {
            let mut systems: Vec<usize> = group.iter().map(|step| step.system).collect();
            assert!(group.iter().all(|step| step.block == group[0].block && step.connections == group[0].connections));
            systems.sort_unstable();
            assert_eq!(systems, [0, 1, 2, 3, 4]);
        }
        let firsts: std::collections::BTreeSet<usize> = steps.chunks(5).map(|group| group[0].system).collect();
        assert_eq!(firsts.len(), 5, "in 40 groups every system comes first at least once");
        assert_eq!(steps, order(&plan(7)), "the same seed gives the same order");
        assert_ne!(steps, order(&plan(8)));
    }
}
