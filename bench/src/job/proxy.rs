//! `--job proxy`: a closed loop of keep-alive requests through one proxy process to one fixed-response origin server.

use std::path::Path;

use super::CompareArgs;
use crate::compare::{self, Plan};
use crate::failure::Failure;
use crate::machine::Jiffies;
use crate::opponent::Programs;
use crate::process::Interrupt;
use crate::record::{RunRecord, make_folder, write_json};
use crate::trial::Lab;
use crate::{build, clock, quick, report, store};

/// # Errors
/// A system fails or does other work than the others, a signal arrives, or the run is invalid.
pub fn perform(args: &CompareArgs, interrupt: &Interrupt) -> Result<(), Failure> {
    let root = build::source_root()?;
    let programs = Programs::find(&build::sibling_folder(&root, interrupt)?)?;
    let folder = make_folder("compare", args.out.clone())?;
    let mut record = RunRecord::begin("compare", &root);
    let jiffies = Jiffies::read(Path::new("/"));
    let lab = Lab { programs, interrupt: interrupt.clone(), cores: record.cores, folder: folder.clone() };
    let (systems, absent) = compare::select(&lab, &args.systems);
    for absent in &absent {
        quick::say(&format!("{} is absent; install it with: {}", absent.name, absent.install));
    }
    record.absent = absent;
    let seed = args.seed.unwrap_or_else(clock::unix_ns);
    quick::say(&format!("{} · seed {seed}", lab.cores.text()));
    let plan = Plan {
        systems,
        connections: args.connections.clone(),
        blocks: args.blocks,
        duration_s: args.duration,
        warmup_s: args.warmup,
        body_bytes: args.body_bytes,
        seed,
    };
    let comparison = compare::perform(&lab, &plan, &mut record)?;
    write_json(&folder.join("compare.json"), &comparison)?;
    record.finish(jiffies);
    record.write(&folder)?;
    store::add_run(&args.store, &folder, &record, &compare::read_trials(&folder)?, &comparison)?;
    println!("{}", report::terminal(&record, &comparison, None));
    println!("run directory: {}", folder.display());
    report::refuse_invalid(&comparison)
}
