//! Lanes: a proxy with a server of its own behind it, so that all that arrives there belongs to one vector.

use std::net::SocketAddr;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use twintier::engine::sim::Random;

use super::client::Cut;
use super::origin::Origin;
use super::play;
use super::program::{Program, twintier};
use super::vector::{self, Vector};

/// Vectors that are played at the same time, on one engine.
const LANES: usize = 3;
/// Places where each vector is cut in two.
const CUTS: usize = 5;
/// Plays after one that left a part of a request, in which that part may still be on its way.
const LATE_PLAYS: usize = 10;
/// Bytes of a vector that is sent byte by byte, at most.
const BYTES_MAX: usize = 600;

/// How the vectors are cut.
#[derive(Clone, Copy, Debug)]
pub enum Cuts {
    Whole,
    /// At [`CUTS`] places, by seed.
    InTwo,
    Bytes,
}

/// A vector to play, and how.
type Play<'v> = (&'v Vector, Cut);

/// Plays all vectors on an engine with options of the proxy; `VECTOR=text` picks those whose name or place has the text, `VECTOR_SEED=N` another
/// order and other cuts.
///
/// # Panics
/// With every vector that was not as it should be, or if a proxy ended.
pub fn run(engine: &str, options: &[&str], cuts: Cuts) {
    let seed = std::env::var("VECTOR_SEED").map_or(1, |seed| seed.parse().unwrap());
    let only = std::env::var("VECTOR").unwrap_or_default();
    let vectors = vector::all();
    let chosen = vectors.iter().filter(|vector| vector.name.contains(&only) || vector.place.contains(&only));
    let plays = plays(chosen, cuts, seed);
    let next = AtomicUsize::new(0);
    let faults = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..LANES {
            scope.spawn(|| lane(engine, options, &plays, &next, &faults));
        }
    });
    let faults = faults.into_inner().unwrap();
    assert!(
        faults.is_empty(),
        "\n{}\n{} of {} plays on {engine}; VECTOR_SEED={seed}\n",
        faults.join("\n"),
        faults.len(),
        plays.len()
    );
}

fn start(engine: &str, options: &[&str], to: &str) -> Program {
    let usual = ["proxy", "--listen", "127.0.0.1:0", "--to", to, "--engine", engine];
    Program::start(twintier().args(usual).args(options))
}

fn plays<'v>(vectors: impl Iterator<Item = &'v Vector>, cuts: Cuts, seed: u64) -> Vec<Play<'v>> {
    let mut random = Random(seed);
    let mut plays = Vec::new();
    for vector in vectors {
        let bytes = vector.sent();
        match cuts {
            Cuts::Whole => plays.push((vector, Cut::Whole)),
            Cuts::InTwo => plays.extend((0..CUTS).map(|_| (vector, Cut::At(1 + random.size(bytes - 1))))),
            Cuts::Bytes if bytes <= BYTES_MAX => plays.push((vector, Cut::Bytes)),
            Cuts::Bytes => {}
        }
    }
    // Another neighbour for each vector in each run: one that disturbs the next does not always meet the same.
    for at in (1..plays.len()).rev() {
        plays.swap(at, random.size(at + 1));
    }
    plays
}

fn lane(engine: &str, options: &[&str], plays: &[Play<'_>], next: &AtomicUsize, faults: &Mutex<Vec<String>>) {
    let origin = Origin::start();
    let to = origin.address.to_string();
    let mut proxy = start(engine, options, &to);
    let address: SocketAddr = proxy.ready("proxy").parse().unwrap();
    assert_eq!(proxy.ready("engine"), engine);
    let mut since_partial = LATE_PLAYS;
    while let Some((vector, cut)) = plays.get(next.fetch_add(1, Ordering::Relaxed)) {
        let outcome = panic::catch_unwind(AssertUnwindSafe(|| {
            play::play(address, &origin, vector, *cut, since_partial < LATE_PLAYS)
        }));
        let wrong = match outcome {
            Ok(Ok(())) => None,
            Ok(Err(wrong)) => Some(wrong),
            Err(_) => Some("the test itself panicked, see above".to_owned()),
        };
        since_partial = if vector.partial || wrong.is_some() { 0 } else { since_partial + 1 };
        if let Some(wrong) = wrong {
            faults.lock().unwrap().push(format!("{}: {}; {cut:?}: {wrong}", vector.place, vector.name));
        }
        if !proxy.is_running() {
            faults.lock().unwrap().push(format!("{}: the proxy has ended: {}", vector.place, proxy.stderr()));
            return;
        }
    }
    proxy.signal("TERM");
    let ended = proxy.status();
    if ended.code() != Some(0) || proxy.stderr().contains("panicked") {
        faults.lock().unwrap().push(format!("the proxy ended with {ended}: {}", proxy.stderr()));
    }
}
