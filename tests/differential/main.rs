//! What `twintier proxy` passes on means the same to everybody: thousands of generated requests, sound and mutated, go
//! through it, and every byte that comes out is read by node's llhttp, Python's h11 and nginx. All must see the same
//! method, target, fields and body.
//!
//! `DIFFERENTIAL_REQUESTS=N` and `DIFFERENTIAL_SEED=N` choose how many and which. An absent program is named and left
//! out; `.ci/run` installs all three.
#![cfg(feature = "appliance")]

mod capture;
mod foreign;
mod generator;
#[allow(dead_code)] // The conformance vectors use all of it.
#[path = "../conformance/message.rs"]
mod message;
#[allow(dead_code)] // The black-box tests use all of it.
#[path = "../black_box/support/program.rs"]
mod program;
mod seen;

use std::time::{Duration, Instant};

use twintier::engine::sim::Random;

use capture::Capture;
use seen::Seen;

/// How long anything may take. Generous: the machine may be busy.
const PATIENCE: Duration = Duration::from_secs(30);
/// Requests of `make test`.
const REQUESTS: u64 = 3000;

/// Asks again and again until there is an answer or [`PATIENCE`] is over.
#[track_caller]
fn eventually<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < deadline, "waited {PATIENCE:?} for this in vain: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |text| text.parse().unwrap())
}

#[test]
fn what_is_passed_on_has_one_reading() {
    let (requests, seed) = (number("DIFFERENTIAL_REQUESTS", REQUESTS), number("DIFFERENTIAL_SEED", 1));
    let mut capture = Capture::of(&mut Random(seed), requests);
    let passed = capture.passed.len();
    println!("{requests} requests, {passed} passed on, {} refused; DIFFERENTIAL_SEED={seed}", capture.refused);
    // A generator that makes only sound or only unsound requests would test nothing.
    assert!(passed as u64 > requests / 4 && capture.refused > requests / 20, "{passed} passed on of {requests}");
    // Readers refuse methods that they do not know and fields twice that make sense once, which is no misreading.
    capture.passed.retain(|bytes| {
        let request = seen::of(bytes);
        let twice = |name: &&str| message::values(&request.fields, name).len() > 1;
        generator::METHODS.contains(&request.method.as_str()) && !generator::SINGLE.iter().any(twice)
    });
    let passed = capture.passed.len();
    let ours: Vec<Seen> = capture.passed.iter().map(|bytes| seen::of(bytes)).collect();
    for reader in foreign::READERS {
        let theirs = match (reader.read)(&capture.passed) {
            Ok(theirs) => theirs,
            Err(why) => {
                println!("{} is left out: {why}", reader.name);
                continue;
            }
        };
        assert_eq!(theirs.len(), ours.len(), "{} read another number of requests", reader.name);
        let mut faults = Vec::new();
        for ((bytes, ours), theirs) in capture.passed.iter().zip(&ours).zip(&theirs) {
            match theirs {
                Ok(theirs) if theirs == ours => {}
                Ok(theirs) => faults.push(format!("{}\n  we see {ours:?}\n  it sees {theirs:?}", bytes.escape_ascii())),
                Err(wrong) => faults.push(format!("{}\n  it says: {wrong}", bytes.escape_ascii())),
            }
        }
        assert!(
            faults.is_empty(),
            "{} disagrees about {} of {passed} requests, DIFFERENTIAL_SEED={seed}:\n{}",
            reader.name,
            faults.len(),
            faults[..faults.len().min(5)].join("\n")
        );
        println!("{} agrees about {passed} requests", reader.name);
    }
}
