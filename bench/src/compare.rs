//! The comparison: every system of every case in every block, in random order.

use std::fs;
use std::path::Path;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{Rng, SeedableRng};

use crate::case::{Case, Load};
use crate::evaluate::{Comparison, evaluate};
use crate::failure::Failure;
use crate::hold::Hold;
use crate::opponent::{self, Kind};
use crate::process::ask;
use crate::record::{Absent, PlanRecord, RunRecord, Surveyed, read_json, write_json};
use crate::trial::{self, Lab, Role, Setting, Stage, System, Task, Trial, sha256};
use crate::{quick, soak};

/// What a trial takes beside its window and warm-up: start, first answers, writing, stop.
const TRIAL_OVERHEAD_S: f64 = 0.8;
/// And what held connections add to it.
const HOLD_OVERHEAD_S: f64 = 6.0;

/// What is compared, and how long.
#[derive(Clone, Debug)]
pub struct Plan {
    pub job: &'static str,
    pub systems: Vec<System>,
    pub cases: Vec<PlannedCase>,
    pub blocks: u32,
    pub duration_s: f64,
    pub warmup_s: f64,
    pub seed: u64,
    /// Long runs after the last block.
    pub soak: Option<soak::Order>,
}

/// A case and those of the plan's systems that take part in it, by index.
#[derive(Clone, Debug, PartialEq)]
pub struct PlannedCase {
    pub case: Case,
    pub systems: Vec<usize>,
}

impl Plan {
    pub fn trial_count(&self) -> usize {
        let trials: usize = self.cases.iter().map(|planned| planned.systems.len()).sum();
        trials * usize::try_from(self.blocks).unwrap_or(usize::MAX)
    }

    /// Seconds that all of it will take, roughly.
    pub fn estimate_s(&self) -> f64 {
        let trial = self.duration_s + self.warmup_s + TRIAL_OVERHEAD_S;
        let of_case = |planned: &PlannedCase| {
            let held = |&&index: &&usize| planned.case.load == Load::Idle || self.systems[index].held.is_some();
            // A plan has far fewer than 2^32 systems.
            let (all, held) = (planned.systems.len() as f64, planned.systems.iter().filter(held).count() as f64);
            all * trial + held * HOLD_OVERHEAD_S
        };
        let soak = self.soak.as_ref().map_or(0.0, |order| order.estimate_s());
        f64::from(self.blocks) * self.cases.iter().map(of_case).sum::<f64>() + soak
    }

    /// One line for people, before it begins.
    pub fn text(&self) -> String {
        let soak = self.soak.as_ref().map_or_else(String::new, |order| format!(" and {}", order.text()));
        format!(
            "{} job: {} trials ({} blocks × {} cases, {} s each after {} s of warm-up){soak}: about {:.0} minutes, seed {}",
            self.job,
            self.trial_count(),
            self.blocks,
            self.cases.len(),
            self.duration_s,
            self.warmup_s,
            (self.estimate_s() / 60.0).ceil(),
            self.seed
        )
    }

    fn record(&self) -> PlanRecord {
        PlanRecord {
            job: self.job.to_owned(),
            cases: self.cases.iter().map(|planned| planned.case).collect(),
            blocks: self.blocks,
            duration_s: self.duration_s,
            warmup_s: self.warmup_s,
            seed: self.seed,
        }
    }
}

/// Splits wanted systems into those whose program is here and those whose is not.
pub fn select(lab: &Lab, wanted: &[Kind]) -> (Vec<System>, Vec<Absent>) {
    let mut systems: Vec<System> = Vec::new();
    let mut absent = Vec::new();
    for &kind in wanted {
        if lab.programs.of(kind).is_none() {
            let install = kind.install_command().unwrap_or_default();
            absent.push(Absent { name: kind.name(), reason: format!("install it: {install}") });
            continue;
        }
        // The same system twice is an A/A comparison; the second one gets a name of its own.
        let times = systems.iter().filter(|system| system.kind == kind).count();
        let label = if times == 0 { kind.name() } else { format!("{}-{}", kind.name(), times + 1) };
        systems.push(System { label, ..System::of(kind) });
    }
    (systems, absent)
}

/// The same system beside held connections, under a name of its own.
pub fn beside(system: &System, hold: Hold) -> System {
    System { label: format!("{}+slow", system.label), held: Some(hold), ..system.clone() }
}

/// Starts each system once for each kind of answer, looks at it and asks for its version: equal work is the condition of
/// a comparison. Optional systems that do not start leave the plan and are recorded as absent, with the reason.
///
/// # Errors
/// A system that must be there does not start, or one does other work than the others; a signal arrives.
pub fn survey(lab: &Lab, stage: &dyn Stage, plan: &mut Plan, record: &mut RunRecord) -> Result<(), Failure> {
    record.generator =
        ask(&lab.programs.loadgen, &["--version"]).map(|text| text.trim().to_owned()).unwrap_or_default();
    let mut gone = Vec::new();
    for (index, system) in plan.systems.iter().enumerate() {
        let mut looked: Vec<Case> = Vec::new();
        for planned in plan.cases.iter().filter(|planned| planned.systems.contains(&index)) {
            let case = planned.case;
            if looked.iter().any(|seen| seen.work == case.work && seen.body_bytes == case.body_bytes) {
                continue;
            }
            looked.push(case);
            match look(lab, stage, system, &case) {
                Ok(surveyed) if looked.len() == 1 => record.systems.push(surveyed),
                Ok(_) => {}
                Err(failure @ (Failure::Interrupted | Failure::Invalid(_))) => return Err(failure),
                Err(failure) if !system.kind.is_optional() => return Err(failure),
                Err(failure) => {
                    quick::say(&format!("{} is left out: {failure}", system.label));
                    let reason = failure.to_string().split_whitespace().collect::<Vec<_>>().join(" ");
                    record.absent.push(Absent { name: system.label.clone(), reason });
                    record.systems.retain(|surveyed| surveyed.name != system.label);
                    gone.push(index);
                    break;
                }
            }
        }
    }
    for planned in &mut plan.cases {
        planned.systems.retain(|index| !gone.contains(index));
    }
    record.plan = Some(plan.record());
    record.write(&lab.folder)
}

fn look(lab: &Lab, stage: &dyn Stage, system: &System, case: &Case) -> Result<Surveyed, Failure> {
    lab.interrupt.check()?;
    let folder = lab.folder.join("survey").join(format!("{}-{}", case.key(), system.label));
    let running = stage.start(system, case, &Setting::plain(&folder))?;
    let answer = opponent::sample_answer(&running.address, stage.path())?;
    let expected = stage.expected_body(case)?;
    if answer.body != expected {
        let (found, wanted) = (answer.body.len(), expected.len());
        return Err(Failure::Invalid(format!(
            "{} does other work than the origin: {found} bytes of body instead of {wanted}, or others",
            system.label
        )));
    }
    let id = running.groups.first().copied().unwrap_or_default();
    let surveyed = Surveyed {
        name: system.label.clone(),
        description: match (system.role, system.held) {
            (Role::Null, _) => format!("{} once more: the A/A comparison", system.kind.description()),
            (Role::Floor, _) => {
                "`twintier origin` in the system's place: what the generator itself measures".to_owned()
            }
            (Role::Tiers, _) => format!("{} with `Server-Timing`: latency by tier", system.kind.description()),
            (Role::Measured, None) => system.kind.description(),
            (Role::Measured, Some(hold)) => {
                format!("{}, beside {} slow connections", system.kind.description(), hold.connections)
            }
        },
        version: opponent::version(system.kind, id),
        program_sha256: sha256(id),
        answer_head_bytes: answer.head.len(),
        answer_body_bytes: answer.body.len(),
        answer_fields: answer.field_names(),
        role: system.role,
    };
    running.stop()?;
    Ok(surveyed)
}

/// Performs all trials of a surveyed plan and evaluates them. A signal ends it early: what is complete is evaluated and
/// written all the same.
///
/// # Errors
/// A signal arrives, or the run directory cannot be written.
pub fn perform(lab: &Lab, stage: &dyn Stage, plan: &Plan, record: &RunRecord) -> Result<Comparison, Failure> {
    let mut trials = Vec::with_capacity(plan.trial_count());
    let outcome = perform_trials(lab, stage, plan, &mut trials)
        .and_then(|()| plan.soak.as_ref().map_or(Ok(()), |order| soak::perform(lab, stage, plan, order, &trials)));
    let comparison = evaluate(&lab.folder, record, &trials)?;
    write_json(&lab.folder.join("compare.json"), &comparison)?;
    outcome.map(|()| comparison)
}

fn perform_trials(lab: &Lab, stage: &dyn Stage, plan: &Plan, trials: &mut Vec<Trial>) -> Result<(), Failure> {
    let steps = order(plan);
    let bar = progress(steps.len());
    for step in &steps {
        let system = &plan.systems[step.system];
        bar.set_message(format!("block {}/{}  {}  {}", step.block + 1, plan.blocks, step.case.key(), system.label));
        let rate_per_s = match step.case.load {
            Load::Rate => match rate(trials, step, &system.label) {
                Some(rate) => Some(rate),
                // It cannot keep up with the others' rate, or has no capacity in this block.
                None => {
                    bar.inc(1);
                    continue;
                }
            },
            Load::KeepAlive | Load::NewConnections | Load::Idle => None,
        };
        let task = Task {
            system,
            case: step.case,
            block: step.block,
            turn: step.turn,
            warmup_s: plan.warmup_s,
            duration_s: plan.duration_s,
            seed: plan.seed.wrapping_add(u64::from(step.block)),
            rate_per_s,
        };
        trials.push(trial::perform(lab, stage, &task)?);
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(())
}

/// Systems whose capacities set the common rate; where none of them takes part, all do.
const RATE_SETTERS: [&str; 3] = ["twintier", "nginx", "haproxy"];

/// The rate of an open loop: the share of the smallest capacity, in this block, of the systems that set it. One rate for
/// all, so that their latencies compare. A system that would be above its own share is left out of the block.
fn rate(trials: &[Trial], step: &Step, label: &str) -> Option<f64> {
    let wanted = step.case.capacity_case();
    let capacities: Vec<(&str, f64)> = trials
        .iter()
        .filter(|trial| trial.block == step.block && trial.case == wanted && trial.throughput_per_s > 0.0)
        .map(|trial| (trial.system.as_str(), trial.throughput_per_s))
        .collect();
    let own = capacities.iter().find(|(name, _)| *name == label)?.1;
    let smallest = |mut of: Box<dyn Iterator<Item = f64> + '_>| {
        let first = of.next()?;
        Some(of.fold(first, f64::min))
    };
    let setters = capacities.iter().filter(|(name, _)| RATE_SETTERS.contains(name)).map(|&(_, capacity)| capacity);
    let slowest = smallest(Box::new(setters)).or_else(|| smallest(Box::new(capacities.iter().map(|pair| pair.1))))?;
    (own >= slowest).then_some(slowest * step.case.rate_share?)
}

/// A trial to come.
#[derive(Clone, Debug, PartialEq)]
struct Step {
    block: u32,
    case: Case,
    turn: u32,
    /// Index into the plan's systems.
    system: usize,
}

/// All trials: block after block, in each every case, in each all its systems in random order.
fn order(plan: &Plan) -> Vec<Step> {
    let mut random = Xoshiro256PlusPlus::seed_from_u64(plan.seed);
    let mut steps = Vec::new();
    for block in 0..plan.blocks {
        for planned in &plan.cases {
            let mut systems = planned.systems.clone();
            shuffle(&mut systems, &mut random);
            let case = planned.case;
            steps.extend((0..).zip(systems).map(|(turn, system)| Step { block, case, turn, system }));
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

/// The bar of a run of so many steps.
pub fn progress(steps: usize) -> ProgressBar {
    let style = ProgressStyle::with_template("  {bar:24} {pos:>3}/{len} trials  {eta} left  {msg}")
        .expect("invariant: a constant template");
    let bar = ProgressBar::new(u64::try_from(steps).unwrap_or(u64::MAX)).with_style(style);
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
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
    found.sort_by_key(|trial| (trial.block, trial.case.key(), trial.turn));
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::{Plan, PlannedCase, Step, order, rate, select};
    use crate::case::{Case, Load, Work};
    use crate::hold::Hold;
    use crate::machine::CoreMap;
    use crate::opponent::{Engine, Foreign, Kind, Programs};
    use crate::process::Interrupt;
    use crate::record::Absent;
    use crate::report::fixture::trial;
    use crate::trial::{Lab, System};

    fn plan(seed: u64) -> Plan {
        let systems = Kind::QUICK.map(System::of).to_vec();
        let case = |connections| PlannedCase {
            case: Case::keep_alive(Work::Proxy, connections, 128),
            systems: (0..5).collect(),
        };
        Plan {
            job: "proxy",
            systems,
            cases: vec![case(8), case(64)],
            blocks: 20,
            duration_s: 1.0,
            warmup_s: 0.2,
            seed,
            soak: None,
        }
    }

    /// What is not installed is named with its cure, and a system that is named twice gets a second name.
    #[test]
    fn systems_are_chosen_from_what_is_there() {
        let programs = Programs {
            twintier: "twintier".into(),
            loadgen: "loadgen".into(),
            foreign: BTreeMap::from([(Foreign::Haproxy, "haproxy".into())]),
            counters: Err("none".into()),
        };
        let cores = CoreMap { system: 0, origin: 1, generator: 1 };
        let lab = Lab { programs, interrupt: Interrupt::default(), cores, folder: "run".into() };
        let twintier = Kind::Twintier(Engine::Auto);
        let wanted = [twintier, Kind::Foreign(Foreign::Nginx), Kind::Foreign(Foreign::Haproxy), twintier];
        let (systems, absent) = select(&lab, &wanted);
        assert_eq!(
            systems.iter().map(|system| system.label.as_str()).collect::<Vec<_>>(),
            ["twintier", "haproxy", "twintier-2"]
        );
        let reason = "install it: apt-get install nginx".into();
        assert_eq!(absent, [Absent { name: "nginx".into(), reason }]);
    }

    /// Each block has each system once in each case, and the order is not always the same.
    #[test]
    fn blocks_are_complete_and_shuffled() {
        let steps = order(&plan(7));
        assert_eq!(steps.len(), 20 * 2 * 5);
        for group in steps.chunks(5) {
            let mut systems: Vec<usize> = group.iter().map(|step| step.system).collect();
            assert!(group.iter().all(|step| step.block == group[0].block && step.case == group[0].case));
            systems.sort_unstable();
            assert_eq!(systems, [0, 1, 2, 3, 4]);
        }
        let firsts: BTreeSet<usize> = steps.chunks(5).map(|group| group[0].system).collect();
        assert_eq!(firsts.len(), 5, "in 40 groups every system comes first at least once");
        assert_eq!(steps, order(&plan(7)), "the same seed gives the same order");
        assert_ne!(steps, order(&plan(8)));
    }

    /// 200 trials of a second, 0.2 s of warm-up and 0.8 s around it; held connections take six more.
    #[test]
    fn the_length_of_a_run_is_known_before() {
        let mut plan = plan(7);
        assert_eq!(plan.trial_count(), 200);
        assert!((plan.estimate_s() - 400.0).abs() < 1e-9);
        plan.cases[0].case = Case { load: Load::Idle, idle_connections: 10, ..plan.cases[0].case };
        assert!((plan.estimate_s() - 1000.0).abs() < 1e-9);
        plan.systems[0].held = Some(Hold::slow(10));
        assert!((plan.estimate_s() - 1120.0).abs() < 1e-9);
        assert!(plan.text().contains("200 trials (20 blocks × 2 cases") && plan.text().contains("about 19 minutes"));
    }

    /// The rate is that of the slowest of ours, nginx and HAProxy in the block; slower ones stay out.
    #[test]
    fn the_rate_is_common_to_all_who_can_keep_it() {
        let plain = Case::keep_alive(Work::Proxy, 64, 128);
        let with = |system: &str, block: u32, throughput_per_s: f64| {
            let mut trial = trial(system, plain, block);
            trial.throughput_per_s = throughput_per_s;
            trial
        };
        let trials = [
            with("twintier", 0, 90_000.0),
            with("nginx", 0, 60_000.0),
            with("envoy", 0, 30_000.0),
            with("twintier-forward", 0, 95_000.0),
            with("nginx", 1, 10_000.0),
        ];
        let case = Case { load: Load::Rate, rate_share: Some(0.7), ..plain };
        let step = Step { block: 0, case, turn: 0, system: 0 };
        let found = ["twintier", "nginx", "twintier-forward"].map(|label| rate(&trials, &step, label).unwrap().round());
        assert_eq!(found, [42_000.0; 3]);
        assert_eq!(rate(&trials, &step, "envoy"), None, "half as fast as the slowest of the setters");
        assert_eq!(rate(&trials, &step, "caddy"), None, "no capacity");
    }
}
