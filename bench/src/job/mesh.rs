//! `--job mesh`: the ring between two cores against the queues that one would take otherwise.
//!
//! ```text
//!   throughput   producer ── batches ──▶ queue ──▶ consumer      messages a second, as the consumer counts them
//!   round trip   ping ──▶ queue ──▶ pong ──▶ queue ──▶ ping      one message at a time
//! ```
//! Two pinned threads, on two cores and on one. Every system carries the same messages in the same way: [`link`] says
//! what a batch is for each of them, [`measure`] is the same code for all.

mod link;
mod measure;

use std::time::Duration;

use twintier::engine::thread::allowed_cores;

use super::CompareArgs;
use super::study::{Study, shuffled};
use crate::failure::Failure;
use crate::figures::{Named, Pairing, Sample};
use crate::process::Interrupt;
use crate::target::Target;
use link::{ArrayQueueLink, Carried, Link, OursLink, RtrbLink};

/// Messages of a batch in the throughput cases.
const BATCHES: [usize; 4] = [1, 16, 64, 256];
/// Bytes of the smaller message; the other one is as large as what workers send to each other.
const SMALL_BYTES: usize = 8;
const CARRIED_BYTES: usize = size_of::<Carried>();

const OURS: &str = "mesh::ring";
const RTRB: &str = "rtrb";
const ARRAY_QUEUE: &str = "ArrayQueue";

/// The systems, the first of which is compared with each other.
const SYSTEMS: [&str; 3] = [OURS, RTRB, ARRAY_QUEUE];

/// What two threads do, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Case {
    work: Work,
    bytes: usize,
    one_core: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Work {
    /// Messages one way, so many at a time.
    Throughput { batch: usize },
    /// One message there and back.
    RoundTrip,
}

impl Case {
    fn all(cores: usize) -> Vec<Self> {
        let placements: &[bool] = if cores > 1 { &[false, true] } else { &[true] };
        let mut cases = Vec::new();
        for &one_core in placements {
            for bytes in [CARRIED_BYTES, SMALL_BYTES] {
                cases.extend(BATCHES.map(|batch| Self { work: Work::Throughput { batch }, bytes, one_core }));
                cases.push(Self { work: Work::RoundTrip, bytes, one_core });
            }
        }
        cases
    }

    fn title(&self) -> String {
        let work = match self.work {
            Work::Throughput { batch: 1 } => "single messages".to_owned(),
            Work::Throughput { batch } => format!("batches of {batch}"),
            Work::RoundTrip => "round trip".to_owned(),
        };
        format!("{work}, {} B, {}", self.bytes, if self.one_core { "one core" } else { "two cores" })
    }

    /// What is compared, with what is promised of it: no worse than `rtrb`, and five times `ArrayQueue`'s throughput
    /// in batches between cores.
    fn pairings(&self) -> Vec<Pairing> {
        let pairing = |b: &str, metric: &str, target| Pairing {
            a: OURS.to_owned(),
            b: b.to_owned(),
            case: self.title(),
            metric: metric.to_owned(),
            target,
        };
        match self.work {
            Work::Throughput { batch } => {
                let five_times = (batch > 1 && !self.one_core).then_some(Target::at_least(5.0));
                vec![
                    pairing(RTRB, "messages_per_s", Some(Target::NO_FEWER)),
                    pairing(ARRAY_QUEUE, "messages_per_s", five_times),
                ]
            }
            Work::RoundTrip => {
                vec![pairing(RTRB, "mean_ns", Some(Target::NO_WORSE)), pairing(ARRAY_QUEUE, "mean_ns", None)]
            }
        }
    }

    fn measure(&self, system: &str, cores: &[usize], duration: Duration) -> Result<Vec<(&'static str, f64)>, Failure> {
        let cores = if self.one_core { [cores[0], cores[0]] } else { [cores[0], cores[1]] };
        match (system, self.bytes == SMALL_BYTES) {
            (OURS, true) => self.on::<OursLink, [u64; 1]>(cores, duration),
            (OURS, false) => self.on::<OursLink, Carried>(cores, duration),
            (RTRB, true) => self.on::<RtrbLink, [u64; 1]>(cores, duration),
            (RTRB, false) => self.on::<RtrbLink, Carried>(cores, duration),
            (_, true) => self.on::<ArrayQueueLink, [u64; 1]>(cores, duration),
            (_, false) => self.on::<ArrayQueueLink, Carried>(cores, duration),
        }
    }

    fn on<L: Link, M: link::Message>(
        &self,
        cores: [usize; 2],
        duration: Duration,
    ) -> Result<Vec<(&'static str, f64)>, Failure> {
        match self.work {
            Work::Throughput { batch } => {
                Ok(vec![("messages_per_s", measure::throughput::<L, M>(cores, batch, duration)?)])
            }
            Work::RoundTrip => {
                let measured = measure::round_trip::<L, M>(cores, duration)?;
                Ok(vec![("mean_ns", measured.mean_ns), ("p50_ns", measured.p50_ns), ("p99_ns", measured.p99_ns)])
            }
        }
    }
}

/// # Errors
/// A thread cannot be pinned, a queue loses or reorders a message, or a signal arrives.
pub fn perform(args: &CompareArgs, interrupt: &Interrupt) -> Result<(), Failure> {
    let cores = allowed_cores();
    let cases = Case::all(cores.len());
    let duration = Duration::from_secs_f64(args.duration_s());
    let mut study = Study::begin(args, "mesh", cases.len() * SYSTEMS.len())?;
    study.outcome.systems = systems();
    study.outcome.notes = notes(&cores);
    let pairings: Vec<Pairing> = cases.iter().flat_map(Case::pairings).collect();
    for block in 0..args.blocks {
        for case in &cases {
            for (turn, system) in (0..).zip(shuffled(&SYSTEMS, &mut study.random)) {
                interrupt.check()?;
                for (metric, value) in case.measure(system, &cores, duration)? {
                    let (system, metric) = (system.to_owned(), metric.to_owned());
                    study.add(Sample { system, case: case.title(), metric, block, turn, value });
                }
                study.step();
            }
        }
        study.keep(&pairings)?;
    }
    study.end(args, &pairings)
}

fn systems() -> Vec<Named> {
    let named = |name: &str, version: String, description: &str| Named {
        name: name.to_owned(),
        version,
        description: description.to_owned(),
    };
    vec![
        named(OURS, format!("twintier {}", env!("CARGO_PKG_VERSION")), "stage and publish, pop and release"),
        named(RTRB, locked_version("rtrb"), "push and pop; batches by write and read chunks"),
        named(
            ARRAY_QUEUE,
            format!("crossbeam-queue {}", locked_version("crossbeam-queue")),
            "push and pop: it has no batches, and takes any number of producers and consumers",
        ),
    ]
}

/// The version that this program was built with.
fn locked_version(package: &str) -> String {
    const LOCK: &str = include_str!("../../../Cargo.lock");
    let entry = format!("name = \"{package}\"\nversion = \"");
    let version = LOCK.split(&entry).nth(1).and_then(|rest| rest.split('"').next());
    version.unwrap_or("unknown").to_owned()
}

fn notes(cores: &[usize]) -> Vec<String> {
    let place = match cores {
        [one, other, ..] => format!("two cores: threads pinned to cores {one} and {other}; one core: both to {one}"),
        [one] => format!("both threads on core {one}: this machine gives no second one"),
        [] => "no core is known".to_owned(),
    };
    vec![
        place,
        format!(
            "{CARRIED_BYTES} B is the size of what workers send to each other; every queue has {} slots",
            link::SLOTS
        ),
        "a side that finds its queue full or empty looks again; every so many times it yields its core".to_owned(),
        "the consumer checks that every message came, in order".to_owned(),
    ]
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::link::{ArrayQueueLink, Carried, OursLink, RtrbLink};
    use super::{Case, SYSTEMS, locked_version, measure};
    use twintier::engine::thread::allowed_cores;

    /// Every system carries messages in every kind of work, also where both threads share a core.
    #[test]
    fn every_system_carries_every_message_in_order() {
        let core = allowed_cores()[0];
        let duration = Duration::from_millis(2);
        let rates = [
            measure::throughput::<OursLink, Carried>([core, core], 16, duration).unwrap(),
            measure::throughput::<RtrbLink, Carried>([core, core], 16, duration).unwrap(),
            measure::throughput::<ArrayQueueLink, Carried>([core, core], 16, duration).unwrap(),
            measure::throughput::<OursLink, [u64; 1]>([core, core], 1, duration).unwrap(),
            measure::throughput::<RtrbLink, [u64; 1]>([core, core], 1, duration).unwrap(),
        ];
        assert!(rates.iter().all(|rate| *rate > 0.0), "{rates:?}");
        let measured = measure::round_trip::<OursLink, Carried>([core, core], duration).unwrap();
        assert!(measured.mean_ns > 0.0 && measured.p50_ns <= measured.p99_ns, "{measured:?}");
    }

    #[test]
    fn the_cases_are_those_of_the_issue() {
        let cases = Case::all(2);
        assert_eq!(cases.len(), 2 * 2 * 5);
        assert_eq!(Case::all(1).len(), 2 * 5);
        let targets = cases.iter().flat_map(Case::pairings).filter(|pairing| pairing.target.is_some()).count();
        // rtrb in every case, ArrayQueue in three batches of two sizes between cores.
        assert_eq!(targets, cases.len() + 6);
        assert!(cases[0].title().starts_with("single messages, "), "{}", cases[0].title());
    }

    #[test]
    fn opponents_have_versions() {
        assert_eq!(SYSTEMS.len(), 3);
        for package in ["rtrb", "crossbeam-queue"] {
            assert!(locked_version(package).starts_with("0."), "{}", locked_version(package));
        }
        assert_eq!(locked_version("no-such-package"), "unknown");
    }
}
