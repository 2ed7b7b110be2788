//! A whole front server in a simulated world, by seed: whatever browsers, upstream servers, replicas and the network
//! do, every accepted request is answered exactly once and in order, or its connection is closed.
//!
//! `SIM_SEED=17 cargo test …` replays one seed, `SIM_SEEDS=50000` runs so many, `SIM_FIRST=` says from where.

mod browser;
mod message;
mod replicas;
mod stage;
mod upstream;

use std::panic::{AssertUnwindSafe, catch_unwind};

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

fn run(seed: u64) -> Result<u64, String> {
    match catch_unwind(AssertUnwindSafe(|| stage::simulate(seed))) {
        Ok(outcome) => outcome,
        Err(panic) => {
            let text = panic.downcast_ref::<String>().cloned();
            Err(format!("panic: {}", text.unwrap_or_else(|| (*panic.downcast_ref::<&str>().unwrap_or(&"?")).into())))
        }
    }
}

#[test]
fn every_request_is_answered_once_or_its_connection_closes() {
    if let Some(seed) = number("SIM_SEED") {
        run(seed).unwrap();
        return;
    }
    let (first, count) = (number("SIM_FIRST").unwrap_or(1), number("SIM_SEEDS").unwrap_or(1000));
    let keep = number("SIM_KEEP").unwrap_or(1);
    let (mut failures, mut moved) = (Vec::new(), 0);
    for seed in first..first + count {
        match run(seed) {
            Ok(jobs) => moved += jobs,
            Err(wrong) => {
                println!("SIM_SEED={seed}: {wrong}");
                failures.push(seed);
                if failures.len() as u64 >= keep {
                    break;
                }
            }
        }
    }
    assert!(failures.is_empty(), "seeds {failures:?}: replay with SIM_SEED={}", failures[0]);
    assert!(moved > 0 || count < 100, "no job was moved away from a hung replica");
}
