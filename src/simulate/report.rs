//! Many seeds on all cores, and what they came to.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, Once, PoisonError};

use super::plan::{Combination, Fault};
use super::stage::{Outcome, Stage};

/// Steps of a seed that nobody says otherwise for.
pub const STEPS_DEFAULT: u64 = 2_500;
/// Failing seeds after which no further one is begun.
const FAILURES_MAX: u64 = 20;

/// What to run.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// The first seed.
    pub first: u64,
    pub seeds: u64,
    pub steps: u64,
    pub threads: usize,
}

/// What all seeds came to.
#[derive(Debug, Default)]
pub struct Summary {
    pub seeds: u64,
    pub steps: u64,
    pub virtual_ns: u64,
    pub answers: u64,
    pub acknowledged: u64,
    pub refused: u64,
    pub unknown: u64,
    pub local_lost: u64,
    pub unseen: u64,
    pub deploys: u64,
    pub effects: u64,
    pub kills: u64,
    covered: BTreeMap<Combination, u64>,
    /// Failing seeds with what was violated, in order.
    pub failures: Vec<(u64, Combination, String)>,
}

impl Summary {
    fn add(&mut self, outcome: Outcome) {
        self.seeds += 1;
        self.steps += outcome.steps;
        self.virtual_ns += outcome.virtual_ns;
        self.answers += outcome.ledger.answers;
        self.acknowledged += outcome.ledger.acknowledged;
        self.refused += outcome.ledger.refused;
        self.unknown += outcome.ledger.unknown;
        self.local_lost += outcome.ledger.local_lost;
        self.unseen += outcome.ledger.unseen;
        self.kills += outcome.ledger.kills;
        self.deploys += outcome.deploys;
        self.effects += outcome.effects;
        *self.covered.entry(outcome.combination).or_default() += 1;
        if let Some(violation) = outcome.violation {
            self.failures.push((outcome.seed, outcome.combination, violation));
        }
    }

    fn merge(&mut self, other: Self) {
        self.seeds += other.seeds;
        self.steps += other.steps;
        self.virtual_ns += other.virtual_ns;
        self.answers += other.answers;
        self.acknowledged += other.acknowledged;
        self.refused += other.refused;
        self.unknown += other.unknown;
        self.local_lost += other.local_lost;
        self.unseen += other.unseen;
        self.kills += other.kills;
        self.deploys += other.deploys;
        self.effects += other.effects;
        for (combination, count) in other.covered {
            *self.covered.entry(combination).or_default() += count;
        }
        self.failures.extend(other.failures);
    }

    /// Faults that some seed had alone, and pairs that some seed had.
    pub fn coverage(&self) -> (usize, usize) {
        let singles = self.covered.keys().filter(|one| one.first.is_some() && one.second.is_none()).count();
        let pairs = self.covered.keys().filter(|one| one.second.is_some()).count();
        (singles, pairs)
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (singles, pairs) = self.coverage();
        let faults = Fault::ALL.len();
        let least = self.covered.values().min().unwrap_or(&0);
        writeln!(
            out,
            "{} seeds, {} steps, {} s of virtual time, {} answers ({} writes acknowledged, {} refused, {} unknown)",
            self.seeds,
            self.steps,
            self.virtual_ns / 1_000_000_000,
            self.answers,
            self.acknowledged,
            self.refused,
            self.unknown
        )?;
        writeln!(
            out,
            "{} kills, {} deploys, {} orders taken by the back-end; {} acknowledged writes lost that were not durable, \
             {} rows that only the database had",
            self.kills, self.deploys, self.effects, self.local_lost, self.unseen
        )?;
        writeln!(
            out,
            "coverage: {singles} of {faults} faults alone, {pairs} of {} pairs, each by {least} seeds or more",
            faults * (faults - 1) / 2
        )?;
        for (seed, combination, violation) in &self.failures {
            writeln!(out, "FAILED seed {seed} ({combination}): {violation}")?;
        }
        if let Some((seed, ..)) = self.failures.first() {
            writeln!(out, "replay with: twintier simulate --seed {seed}")?;
        }
        Ok(())
    }
}

/// What happened, and what was violated.
impl fmt::Display for Outcome {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.trace {
            writeln!(out, "{line}")?;
        }
        match &self.violation {
            Some(violation) => writeln!(out, "FAILED seed {} ({}): {violation}", self.seed, self.combination),
            None => writeln!(out, "seed {} ({}): nothing was violated", self.seed, self.combination),
        }
    }
}

/// Runs seeds on so many threads; each seed is one thread's.
pub fn run(options: Options) -> Summary {
    let next = AtomicU64::new(options.first);
    let end = options.first.saturating_add(options.seeds);
    let failed = AtomicU64::new(0);
    let total = Mutex::new(Summary::default());
    quiet(|| {
        std::thread::scope(|scope| {
            for _ in 0..options.threads.max(1) {
                scope.spawn(|| {
                    let mut summary = Summary::default();
                    while failed.load(Ordering::Relaxed) < FAILURES_MAX {
                        let seed = next.fetch_add(1, Ordering::Relaxed);
                        if seed >= end {
                            break;
                        }
                        let outcome = play(seed, options.steps, false);
                        failed.fetch_add(u64::from(outcome.violation.is_some()), Ordering::Relaxed);
                        summary.add(outcome);
                    }
                    total.lock().unwrap_or_else(PoisonError::into_inner).merge(summary);
                });
            }
        });
    });
    let mut total = total.into_inner().unwrap_or_else(PoisonError::into_inner);
    total.failures.sort();
    total
}

/// Runs one seed and keeps what happened, line by line.
pub fn replay(seed: u64, steps: u64) -> Outcome {
    quiet(|| play(seed, steps, true))
}

fn play(seed: u64, steps: u64, traced: bool) -> Outcome {
    // One that cannot begin is no simulation: its panic is shown.
    let mut stage = match Stage::new(seed, steps, traced) {
        Ok(stage) => stage,
        Err(wrong) => panic!("seed {seed} cannot begin: {wrong}"),
    };
    SILENT.set(true);
    let outcome = catch_unwind(AssertUnwindSafe(|| stage.play(steps)));
    let violation = match outcome {
        Ok(Ok(())) => None,
        Ok(Err(wrong)) => Some(wrong),
        Err(payload) => {
            let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
            let text = text.or_else(|| payload.downcast_ref::<String>().cloned()).unwrap_or_default();
            Some(format!("panic: {text}"))
        }
    };
    SILENT.set(false);
    stage.outcome(violation)
}

thread_local! {
    static SILENT: Cell<bool> = const { Cell::new(false) };
}

/// Panics are part of the simulation: they are caught, counted as violations or answered 500, and not printed.
fn quiet<R>(run: impl FnOnce() -> R) -> R {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if !SILENT.get() {
                before(panic);
            }
        }));
    });
    run()
}
