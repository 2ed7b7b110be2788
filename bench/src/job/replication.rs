//! `--job replication`: what it costs that every replica holds everything.
//!
//! | part | measured in | what |
//! |---|---|---|
//! | [`levels`] | the appliance under browser load | writes a second at each acknowledgement level, lag at half load |
//! | [`lag`] | the library's replicators over the mesh, a replica a core | lag at half load, without anything else |
//! | [`cost`] | the library's replicators on one thread | messages, bytes and CPU of a write, from 2 replicas to 15 |
//! | [`memory`] | the library's tables | bytes of a row |

mod cost;
mod lag;
mod levels;
mod memory;
mod rows;

use std::time::Duration;

use twintier::engine::thread::allowed_cores;

use super::CompareArgs;
use super::study::{Study, shuffled};
use crate::build;
use crate::failure::Failure;
use crate::figures::{Named, Pairing, Sample};
use crate::opponent::Programs;
use crate::process::Interrupt;
use crate::trial::Lab;
use levels::{LEVELS, Levels};
use rows::Catalog;

/// Replicas of the cost of a write. A version vector has room for 16 origins, one of which is the application server.
const REPLICAS: [u8; 4] = [2, 4, 8, 15];
/// Writes that each replica makes in a turn.
const WRITES_PER_TURN: [u64; 2] = [1, 16];
const REPLICA: &str = "a replica";
const APPLIANCE: &str = "appliance";

/// What is measured in one block, each in a turn of its own.
#[derive(Clone, Copy, Debug)]
enum Part {
    Cost { replicas: u8, writes_per_turn: u64 },
    Lag,
    Levels,
}

/// # Errors
/// The appliance or a generator fails, replicas do not agree, the books are not 0, or a signal arrives.
pub fn perform(args: &CompareArgs, interrupt: &Interrupt) -> Result<(), Failure> {
    let root = build::source_root()?;
    let catalog = Catalog::read(&root)?;
    let cores = allowed_cores();
    let mut parts: Vec<Part> = REPLICAS
        .into_iter()
        .flat_map(|replicas| WRITES_PER_TURN.map(|writes_per_turn| Part::Cost { replicas, writes_per_turn }))
        .collect();
    parts.extend([Part::Lag, Part::Levels]);
    let mut study = Study::begin(args, "replication", parts.len())?;
    // First of all: memory that was taken and given back is used again without the kernel noticing.
    let per_row = memory::measure(&catalog)?;
    for (metric, value) in [("rss_bytes", per_row.rss_bytes), ("estimate_bytes", per_row.estimate_bytes)] {
        study.add(sample(REPLICA, "memory of a row", metric, (0, 0), value));
    }
    let programs = Programs::find(&build::sibling_folder(&root, interrupt)?)?;
    let folder = study.folder.clone();
    let lab = Lab { programs, interrupt: interrupt.clone(), cores: study.record.cores, folder };
    let levels = Levels { lab: &lab, root: &root, duration_s: args.duration_s(), seed: study.outcome.seed };
    study.outcome.systems = systems(&cores);
    study.outcome.notes = notes(&cores);
    let pairings = LEVELS[1..].iter().map(|level| Pairing {
        a: LEVELS[0].to_owned(),
        b: (*level).to_owned(),
        case: levels::CASE.to_owned(),
        metric: "writes_per_s".to_owned(),
        target: None,
    });
    let pairings: Vec<Pairing> = pairings.collect();
    let duration = Duration::from_secs_f64(args.duration_s());
    for block in 0..args.blocks {
        for (turn, part) in (0..).zip(shuffled(&parts, &mut study.random)) {
            interrupt.check()?;
            let at = (block, turn);
            match part {
                Part::Cost { replicas, writes_per_turn } => {
                    let cost = cost::measure(&catalog, replicas, writes_per_turn)?;
                    let (system, case) = (replica_count(usize::from(replicas)), cost_case(writes_per_turn));
                    for (metric, value) in [("messages", cost.messages), ("bytes", cost.bytes), ("cpu_ns", cost.cpu_ns)]
                    {
                        study.add(sample(&system, &case, metric, at, value));
                    }
                }
                Part::Lag => {
                    let system = replica_count(cores.len());
                    let capacity = lag::measure(&catalog, &cores, None, duration / 2)?.writes_per_s;
                    study.add(sample(&system, "lag over the mesh", "capacity_writes_per_s", at, capacity));
                    let lag = lag::measure(&catalog, &cores, Some(capacity / 2.0), duration)?;
                    for (metric, value) in [
                        ("offered_writes_per_s", lag.writes_per_s),
                        ("lag_p50_ns", lag.p50_ns),
                        ("lag_p99_ns", lag.p99_ns),
                    ] {
                        study.add(sample(&system, "lag over the mesh", metric, at, value));
                    }
                }
                Part::Levels => {
                    let order = shuffled(&LEVELS, &mut study.random);
                    let found = levels.measure(block, &order)?;
                    for (level, metric, value) in found.writes {
                        study.add(sample(level, levels::CASE, metric, at, value));
                    }
                    for (metric, value) in found.lag {
                        study.add(sample(APPLIANCE, "lag in the appliance", metric, at, value));
                    }
                    study.outcome.invalid.extend(found.wrong);
                }
            }
            study.step();
        }
        study.keep(&pairings)?;
    }
    study.end(args, &pairings)
}

fn sample(system: &str, case: &str, metric: &str, (block, turn): (u32, u32), value: f64) -> Sample {
    Sample { system: system.to_owned(), case: case.to_owned(), metric: metric.to_owned(), block, turn, value }
}

fn replica_count(replicas: usize) -> String {
    format!("{replicas} replicas")
}

fn cost_case(writes_per_turn: u64) -> String {
    match writes_per_turn {
        1 => "cost of a write, each replica one a turn".to_owned(),
        writes => format!("cost of a write, each replica {writes} a turn"),
    }
}

fn systems(cores: &[usize]) -> Vec<Named> {
    let version = format!("twintier {}", env!("CARGO_PKG_VERSION"));
    let named = |name: &str, description: &str| Named {
        name: name.to_owned(),
        version: version.clone(),
        description: description.to_owned(),
    };
    let mut counts: Vec<usize> = REPLICAS.map(usize::from).to_vec();
    counts.push(cores.len());
    counts.sort_unstable();
    counts.dedup();
    let mut systems: Vec<Named> =
        counts.into_iter().map(|count| named(&replica_count(count), "the library's replicators and tables")).collect();
    systems.push(named(REPLICA, "the library's tables"));
    systems.push(named(LEVELS[0], "the answer leaves when the own replica has applied the write"));
    systems.push(named(LEVELS[1], "when every live replica has applied it"));
    systems.push(named(LEVELS[2], "when the database has committed it, and every live replica has applied it"));
    systems.push(named(APPLIANCE, "`twintier serve` with profiles/bench-writes.toml"));
    systems
}

fn notes(cores: &[usize]) -> Vec<String> {
    vec![
        format!(
            "cost of a write: all replicas on one thread, so messages and bytes are exact counts of the protocol, and CPU is \
             that of all replicas together, without threads; this machine has {} cores",
            cores.len()
        ),
        "bytes are estimated from the contents of messages: they travel as pointers, nothing is encoded; acknowledgements \
         count, sweeps are off"
            .to_owned(),
        "lag over the mesh: from an edit until another replica has applied it, one pinned thread a replica that never \
         sleeps, half of the writes a second that all of them can make"
            .to_owned(),
        "lag in the appliance: from an edit until its replica knows that every other one has applied it, the way back \
         included; the worst replica's quantiles; browsers write at level `local`, at about half of what they did in a \
         closed loop"
            .to_owned(),
        "writes through the appliance: browsers post a form and read the page that comes back, on as many cores as there \
         are, generator and database included"
            .to_owned(),
        "memory of a row: rows of the catalog's shape, slope over 0 to 100,000 rows, measured once a run; RSS is the \
         kernel's, the estimate the tables' own"
            .to_owned(),
    ]
}
