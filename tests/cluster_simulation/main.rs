//! The whole cluster in virtual time, by seed: the same seeds and checks as `twintier simulate`.
//!
//! `SIM_SEED=17 cargo test …` replays one seed with its trace, `SIM_SEEDS=50000` runs so many, `SIM_FIRST=` says from
//! where. Seeds that once found a fault are tests of their own.

use twintier::simulate::plan::{Combination, Fault};
use twintier::simulate::{Options, STEPS_DEFAULT, replay, run};

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn every_fault_alone_and_in_pairs_violates_nothing() {
    if let Some(seed) = number("SIM_SEED") {
        let outcome = replay(seed, STEPS_DEFAULT);
        println!("{outcome}");
        assert_eq!(outcome.violation, None);
        return;
    }
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let (first, seeds) = (number("SIM_FIRST").unwrap_or(1), number("SIM_SEEDS").unwrap_or(1000));
    let summary = run(Options { first, seeds, steps: STEPS_DEFAULT, threads });
    println!("{summary}");
    assert!(summary.failures.is_empty(), "replay with `twintier simulate --seed {}`", summary.failures[0].0);
    if seeds >= Combination::COUNT {
        let faults = Fault::ALL.len();
        assert_eq!(summary.coverage(), (faults, faults * (faults - 1) / 2));
    }
    // The checks have had something to look at.
    assert!(summary.acknowledged > 20 * seeds && summary.deploys > seeds && summary.effects > seeds, "{summary}");
}

/// A seed that fails can be looked at: it does the same again, to the line.
#[test]
fn a_seed_does_the_same_every_time() {
    for seed in [1, 40, 77] {
        let (one, other) = (replay(seed, 1500), replay(seed, 1500));
        let differs = one.trace.iter().zip(&other.trace).position(|(one, other)| one != other);
        assert_eq!(differs, None, "seed {seed}: {:?}", differs.map(|line| (&one.trace[line], &other.trace[line])));
        assert_eq!(one.trace.len(), other.trace.len());
    }
}
