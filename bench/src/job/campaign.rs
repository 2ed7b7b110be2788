//! The frame of every job: the run directory, the plan before it begins, the table at its end.

use std::path::{Path, PathBuf};

use super::CompareArgs;
use crate::compare::{self, Plan, PlannedCase};
use crate::evaluate::{equal_work_text, null_text};
use crate::failure::Failure;
use crate::machine::Jiffies;
use crate::opponent::{Kind, Programs};
use crate::process::Interrupt;
use crate::record::{Absent, RunRecord, make_folder};
use crate::trial::{Lab, Stage, System};
use crate::{build, clock, quick, report, soak, store};

/// A run that has a directory.
pub struct Campaign {
    pub lab: Lab,
    /// The folder of the source.
    pub root: PathBuf,
    record: RunRecord,
    jiffies: Option<Jiffies>,
}

impl Campaign {
    /// Finds the programs and makes the run directory.
    ///
    /// # Errors
    /// The source or a program is missing, or the directory holds a run.
    pub fn begin(args: &CompareArgs, interrupt: &Interrupt) -> Result<Self, Failure> {
        let root = build::source_root()?;
        let programs = Programs::find(&build::sibling_folder(&root, interrupt)?)?;
        let folder = make_folder("compare", args.out.clone())?;
        let record = RunRecord::begin("compare", &root);
        let lab = Lab { programs, interrupt: interrupt.clone(), cores: record.cores, folder };
        Ok(Self { lab, root, record, jiffies: Jiffies::read(Path::new("/")) })
    }

    /// The systems that were asked for, or the job's own; those that this machine does not have are recorded as absent.
    pub fn select(&mut self, args: &CompareArgs, own: &[Kind]) -> Vec<System> {
        let wanted = if args.systems.is_empty() { own } else { &args.systems };
        let (systems, absent) = compare::select(&self.lab, wanted);
        self.record.absent.extend(absent);
        systems
    }

    /// Says what will be done, does it, and shows it.
    ///
    /// # Errors
    /// A system fails or does other work than the others, a signal arrives, or the run is invalid.
    pub fn conduct(mut self, args: &CompareArgs, stage: &dyn Stage, mut plan: Plan) -> Result<(), Failure> {
        quick::say(&plan.text());
        quick::say(&format!("  {}", self.lab.cores.text()));
        if let Err(reason) = &self.lab.programs.counters {
            quick::say(&format!("  {reason}"));
        }
        for Absent { name, reason } in &self.record.absent {
            quick::say(&format!("  {name} is absent: {reason}"));
        }
        compare::survey(&self.lab, stage, &mut plan, &mut self.record)?;
        let comparison = compare::perform(&self.lab, stage, &plan, &self.record)?;
        self.record.finish(self.jiffies);
        let folder = &self.lab.folder;
        self.record.write(folder)?;
        store::add_run(&args.store, folder, &self.record, &compare::read_trials(folder)?, &comparison)?;
        for line in null_text(&comparison.null) {
            println!("{line}");
        }
        for floor in &comparison.floor {
            println!("{}", floor.text());
        }
        for line in equal_work_text(&comparison.equal_work) {
            println!("equal work: {line}");
        }
        for row in comparison.ratios.iter().filter(|row| row.intervals_disagree()) {
            println!("{}", row.disagreement_text());
        }
        println!("{}", report::terminal(&self.record, &comparison, None));
        for tiers in &comparison.tiers {
            println!("{}, {}: where the slow ones spend their time\n", tiers.system, tiers.case.title());
            println!("{}", tiers.table().text());
        }
        println!("run directory: {}", folder.display());
        println!("report:        {}", report::write_page(folder)?.display());
        report::refuse_invalid(&comparison)
    }
}

/// The plan of a job from what was asked for.
pub fn plan(
    args: &CompareArgs,
    job: &'static str,
    systems: Vec<System>,
    cases: Vec<PlannedCase>,
    soak: Option<soak::Order>,
) -> Plan {
    Plan {
        job,
        systems,
        cases,
        blocks: args.blocks,
        duration_s: args.duration_s(),
        warmup_s: args.warmup,
        seed: args.seed.unwrap_or_else(clock::unix_ns),
        soak,
    }
    .with_controls()
}

/// Options that only the proxy job has are refused elsewhere: nothing that was asked for is left out in silence.
///
/// # Errors
/// One of them was given.
pub fn refuse_proxy_options(args: &CompareArgs) -> Result<(), Failure> {
    let given = [
        ("--new-connections", args.new_connections),
        ("--idle-connections", args.idle_connections.is_some()),
        ("--rate-share", args.rate_share.is_some()),
        ("--soak-requests", args.soak_requests.is_some()),
    ];
    match given.iter().find(|(_, given)| *given) {
        Some((name, _)) => Err(Failure::Usage(format!("{name} is for --job proxy; leave it out"))),
        None => Ok(()),
    }
}

/// The number of connections that stands for all where only one is measured: 64, or else the first.
pub fn reference_connections(args: &CompareArgs) -> u32 {
    const USUAL: u32 = 64;
    if args.connections().contains(&USUAL) { USUAL } else { args.connections().first().copied().unwrap_or(USUAL) }
}
