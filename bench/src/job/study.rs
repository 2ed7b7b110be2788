//! The frame of a job that measures inside the lab's own process: run directory, samples, evaluation, table.

use std::path::{Path, PathBuf};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{Rng, SeedableRng};

use super::CompareArgs;
use crate::failure::Failure;
use crate::figures::{Outcome, Pairing, Sample, text};
use crate::machine::Jiffies;
use crate::record::{PlanRecord, RunRecord, make_folder, write_json};
use crate::{build, clock, quick, report, store};

/// A run that has a directory.
pub struct Study {
    pub folder: PathBuf,
    pub record: RunRecord,
    pub outcome: Outcome,
    /// Of the order within blocks.
    pub random: Xoshiro256PlusPlus,
    jiffies: Option<Jiffies>,
    bar: ProgressBar,
}

impl Study {
    /// Makes the run directory and says what will be done: `trials` in each block.
    ///
    /// # Errors
    /// The source is missing, or the directory holds a run.
    pub fn begin(args: &CompareArgs, job: &'static str, trials: usize) -> Result<Self, Failure> {
        let root = build::source_root()?;
        let folder = make_folder("compare", args.out.clone())?;
        let mut record = RunRecord::begin("compare", &root);
        let seed = args.seed.unwrap_or_else(clock::unix_ns);
        let duration_s = args.duration_s();
        record.plan = Some(PlanRecord {
            job: job.to_owned(),
            cases: Vec::new(),
            blocks: args.blocks,
            duration_s,
            warmup_s: 0.0,
            seed,
        });
        record.write(&folder)?;
        let all = u64::try_from(trials).unwrap_or(u64::MAX).saturating_mul(u64::from(args.blocks));
        quick::say(&format!("{job} job: {all} trials ({} blocks), {duration_s} s each, seed {seed}", args.blocks));
        let style = ProgressStyle::with_template("  {bar:24} {pos:>3}/{len} trials  {eta} left  {msg}")
            .expect("invariant: a constant template");
        let bar = ProgressBar::new(all).with_style(style);
        bar.enable_steady_tick(Duration::from_millis(200));
        let outcome = Outcome { job: job.to_owned(), blocks: args.blocks, duration_s, seed, ..Outcome::default() };
        let random = Xoshiro256PlusPlus::seed_from_u64(seed);
        Ok(Self { folder, record, outcome, random, jiffies: Jiffies::read(Path::new("/")), bar })
    }

    pub fn add(&mut self, sample: Sample) {
        self.outcome.samples.push(sample);
    }

    /// One trial is done.
    pub fn step(&self) {
        self.bar.inc(1);
    }

    /// A block is complete: what was found so far is in the run directory, should the run be cut short.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn keep(&mut self, pairings: &[Pairing]) -> Result<(), Failure> {
        self.outcome.evaluate(pairings);
        write_json(&self.folder.join("compare.json"), &self.outcome)
    }

    /// Evaluates, writes and shows what was found.
    ///
    /// # Errors
    /// A file cannot be written, or the run is invalid.
    pub fn end(mut self, args: &CompareArgs, pairings: &[Pairing]) -> Result<(), Failure> {
        self.bar.finish_and_clear();
        self.keep(pairings)?;
        self.record.finish(self.jiffies);
        self.record.write(&self.folder)?;
        store::add_figures(&args.store, &self.folder, &self.record, &self.outcome)?;
        println!("{}", text::terminal(&self.outcome));
        println!("run directory: {}", self.folder.display());
        println!("report:        {}", report::write_page(&self.folder)?.display());
        self.outcome.refuse_invalid()
    }
}

/// Fisher and Yates' shuffle.
pub fn shuffled<T: Clone>(items: &[T], random: &mut Xoshiro256PlusPlus) -> Vec<T> {
    let mut order = items.to_vec();
    for last in (1..order.len()).rev() {
        let bound = u64::try_from(last + 1).expect("invariant: a length fits in 64 bits");
        order.swap(last, usize::try_from(random.next_u64() % bound).expect("invariant: smaller than a length"));
    }
    order
}
