//! `--job database`: what each step past one machine costs.
//!
//! | step | system |
//! |---|---|
//! | the database in the process | `duckdb` |
//! | a database server on the same machine | `postgres` |
//! | a second appliance on that server | `postgres-2` |
//! | a balancer in front of an appliance | `haproxy-tcp`, `twintier-forward`, `twintier` against `direct` |
//!
//! Each system is started afresh in each block, on a copy of the same rows ([`site`]); then it is written to and read from
//! ([`measure`]), and two appliances are asked how long one takes to see what the other wrote ([`feed`]).

mod balancer;
mod feed;
mod measure;
mod postgres;
mod site;

use std::path::Path;

use rand_xoshiro::rand_core::Rng;

use super::CompareArgs;
use super::study::{Study, shuffled};
use crate::build;
use crate::failure::Failure;
use crate::figures::{Named, Pairing, Sample};
use crate::machine::CoreMap;
use crate::opponent::{Kind, Programs};
use crate::process::Interrupt;
use crate::trial::Lab;
use balancer::HOPS;
use measure::{Figures, Loads};
use site::{System, Templates};

/// Connections of the reads.
const READERS: u32 = 64;
const READS: &str = "reads: the item page";
const FEED: &str = "from a write's answer on one appliance to the first answer of the other that shows it";
const BALANCER: &str = "a balancer in front of one appliance";

/// What is measured in one block, each in a turn of its own.
#[derive(Clone, Copy, Debug)]
enum Part {
    System(System),
    Balancer,
}

/// # Errors
/// An appliance, a server or a generator fails, or a signal arrives; the run is invalid where books are not 0 or replicas
/// do not agree.
pub fn perform(args: &CompareArgs, interrupt: &Interrupt) -> Result<(), Failure> {
    if !args.systems.is_empty() {
        return Err(Failure::Usage(
            "--job database takes no --systems: it measures every step that this machine can make; leave it out".into(),
        ));
    }
    let root = build::source_root()?;
    let programs = Programs::find(&build::sibling_folder(&root, interrupt)?)?;
    let server = postgres::Programs::find();
    let systems = System::ALL.into_iter().filter(|system| server.is_ok() || !system.has_server());
    let mut parts: Vec<Part> = systems.map(Part::System).collect();
    parts.push(Part::Balancer);
    let (hops, absent): (Vec<Kind>, Vec<Kind>) = HOPS.into_iter().partition(|hop| programs.of(*hop).is_some());
    let mut study = Study::begin(args, "database", parts.len())?;
    let lab = Lab { programs, interrupt: interrupt.clone(), cores: study.record.cores, folder: study.folder.clone() };
    study.outcome.systems = named(&lab, server.as_ref().ok(), &hops);
    study.outcome.notes = notes(args, lab.cores);
    study
        .outcome
        .notes
        .extend(server.as_ref().err().map(|why| format!("`postgres` and `postgres-2` are absent: {why}")));
    let cures = absent.iter().filter_map(|hop| Some((hop.name(), hop.install_command()?)));
    study.outcome.notes.extend(cures.map(|(name, cure)| format!("`{name}` is absent; install it: {cure}")));
    let templates = Templates::make(&lab, &root, server.as_ref().ok(), args.rows)?;
    let pairings = pairings(args, server.is_ok(), &hops);
    for block in 0..args.blocks {
        let seed = study.random.next_u64();
        let loads = Loads { lab: &lab, duration_s: args.duration_s(), seed };
        for (turn, part) in (0..).zip(shuffled(&parts, &mut study.random)) {
            interrupt.check()?;
            let name = match part {
                Part::System(system) => system.name(),
                Part::Balancer => "balancer",
            };
            let mut block = Block { args, loads, study: &mut study, templates: &templates, at: (block, turn) };
            let folder = lab.folder.join(format!("blocks/b{:02}-{name}", block.at.0));
            match part {
                Part::System(system) => block.system(system, &folder)?,
                Part::Balancer => block.balancer(&hops, &folder)?,
            }
            study.step();
        }
        // Whatever was measured first: the report has the steps in their order.
        study.outcome.samples.sort_by_key(|sample| (place(args, &sample.case), sample.block));
        study.keep(&pairings)?;
    }
    drop(templates);
    study.end(args, &pairings)
}

/// One turn of one block.
struct Block<'a> {
    args: &'a CompareArgs,
    loads: Loads<'a>,
    study: &'a mut Study,
    templates: &'a Templates<'a>,
    at: (u32, u32),
}

impl Block<'_> {
    fn system(&mut self, system: System, folder: &Path) -> Result<(), Failure> {
        let lab = self.loads.lab;
        let mut site = self.templates.start(system, folder)?;
        let start_ns = site.appliances[0].start.as_secs_f64() * 1e9;
        self.add(system.name(), &start_case(self.args), vec![("start_ns", start_ns)]);
        site.warm()?;
        for users in shuffled(self.args.connections(), &mut self.study.random) {
            let loaded = self.loads.writes(&mut site, users, folder)?;
            if loaded.wrong.is_empty() {
                self.add(system.name(), &writes_case(users), loaded.figures);
                self.add(system.name(), &writes_cpu_case(users), loaded.cpu);
            }
            self.refuse(system.name(), loaded.wrong);
        }
        let loaded = self.loads.reads(&mut site, READERS, folder)?;
        if loaded.wrong.is_empty() {
            self.add(system.name(), READS, loaded.figures);
            self.add(system.name(), READS, loaded.cpu);
        }
        self.refuse(system.name(), loaded.wrong);
        if let [first, second, ..] = site.appliances.as_slice() {
            let name = format!("probe-{}", self.at.0);
            match feed::measure(&lab.interrupt, &first.http, &second.http, &name, self.args.duration_s()) {
                Ok(figures) => self.add(system.name(), FEED, figures),
                Err(Failure::Interrupted) => return Err(Failure::Interrupted),
                // The other figures are shown all the same, with this reason not to quote them.
                Err(failure) => self.study.outcome.invalid.push(format!("the feed: {failure}")),
            }
        }
        let wrong = site.wrong(lab)?;
        self.refuse(system.name(), wrong);
        site.stop()
    }

    fn balancer(&mut self, hops: &[Kind], folder: &Path) -> Result<(), Failure> {
        let mut site = self.templates.start(System::Duckdb, folder)?;
        site.warm()?;
        let mut found = Vec::new();
        for hop in shuffled(hops, &mut self.study.random) {
            let (figures, wrong) = balancer::measure(&self.loads, &mut site, hop, &folder.join(hop.name()))?;
            // A load that is invalid has no figures.
            if wrong.is_empty() {
                found.push((hop, figures));
            }
            self.refuse(&hop.name(), wrong);
        }
        let direct = found.iter().find(|(hop, _)| *hop == Kind::Direct).map(|(_, figures)| figures.clone());
        for (hop, mut figures) in found {
            let added = direct.as_ref().filter(|_| hop != Kind::Direct);
            figures
                .extend(added.and_then(|direct| Some(("added_alone_p50_ns", balancer::added_ns(&figures, direct)?))));
            self.add(&hop.name(), BALANCER, figures);
        }
        let wrong = site.wrong(self.loads.lab)?;
        self.refuse("balancer", wrong);
        site.stop()
    }

    /// Why the run may not be quoted.
    fn refuse(&mut self, system: &str, wrong: Vec<String>) {
        let block = self.at.0;
        self.study.outcome.invalid.extend(wrong.into_iter().map(|wrong| format!("{system}, block {block}: {wrong}")));
    }

    fn add(&mut self, system: &str, case: &str, figures: Figures) {
        let (block, turn) = self.at;
        for (metric, value) in figures {
            let (system, case, metric) = (system.to_owned(), case.to_owned(), metric.to_owned());
            self.study.add(Sample { system, case, metric, block, turn, value });
        }
    }
}

fn start_case(args: &CompareArgs) -> String {
    format!("start with {} articles", args.rows)
}

fn writes_case(users: u32) -> String {
    match users {
        1 => "durable writes, 1 connection".to_owned(),
        users => format!("durable writes, {users} connections"),
    }
}

fn writes_cpu_case(users: u32) -> String {
    format!("processor time of {}", writes_case(users).replacen("durable writes", "a durable write", 1))
}

/// Where a case stands in the report.
fn place(args: &CompareArgs, case: &str) -> usize {
    let writes = args.connections().iter().flat_map(|&users| [writes_case(users), writes_cpu_case(users)]);
    let last = [READS.to_owned(), start_case(args), FEED.to_owned(), BALANCER.to_owned()];
    writes.chain(last).position(|known| known == case).unwrap_or(usize::MAX)
}

/// The embedded database against each step after it, and no balancer against each.
fn pairings(args: &CompareArgs, has_server: bool, hops: &[Kind]) -> Vec<Pairing> {
    let mut cases: Vec<(String, &str)> = Vec::new();
    for &users in args.connections() {
        cases.push((writes_case(users), "writes_per_s"));
        cases.push((writes_case(users), "response_p50_ns"));
        cases.push((writes_case(users), "response_p99_ns"));
        cases.push((writes_cpu_case(users), "cpu_ns"));
    }
    cases.push((READS.to_owned(), "requests_per_s"));
    cases.push((READS.to_owned(), "cpu_ns"));
    cases.push((start_case(args), "start_ns"));
    let pairing = |a: &str, b: &str, case: &str, metric: &str| Pairing {
        a: a.to_owned(),
        b: b.to_owned(),
        case: case.to_owned(),
        metric: metric.to_owned(),
        target: None,
    };
    let steps = System::ALL.into_iter().filter(|system| has_server && system.has_server());
    let mut pairings: Vec<Pairing> = cases
        .iter()
        .flat_map(|(case, metric)| steps.clone().map(|step| pairing(System::Duckdb.name(), step.name(), case, metric)))
        .collect();
    let others = hops.iter().filter(|hop| **hop != Kind::Direct);
    pairings.extend(others.map(|hop| pairing(&Kind::Direct.name(), &hop.name(), BALANCER, "response_alone_p50_ns")));
    pairings
}

fn named(lab: &Lab, server: Option<&postgres::Programs>, hops: &[Kind]) -> Vec<Named> {
    let own = format!("twintier {}", env!("CARGO_PKG_VERSION"));
    let mut all = vec![Named {
        name: System::Duckdb.name().to_owned(),
        version: own.clone(),
        description: "one appliance, the database in its process".to_owned(),
    }];
    if let Some(server) = server {
        let version = format!("{own}, {}", server.version());
        let steps = [
            (System::Postgres, "one appliance on a PostgreSQL server of this machine"),
            (System::PostgresTwo, "two appliances on one such server, the load split over both"),
        ];
        all.extend(steps.map(|(system, what)| Named {
            name: system.name().to_owned(),
            version: version.clone(),
            description: what.to_owned(),
        }));
    }
    all.extend(hops.iter().map(|&hop| Named {
        name: hop.name(),
        version: lab.programs.foreign_version(hop).unwrap_or_else(|| own.clone()),
        description: match hop {
            Kind::Direct => "no balancer".to_owned(),
            other => other.description(),
        },
    }));
    all
}

fn notes(args: &CompareArgs, cores: CoreMap) -> Vec<String> {
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    vec![
        format!(
            "a system is all of its processes on core {}: appliances, and the database server where there is one; generators on \
             core {}; so two appliances do not write more than one here, they show what the second one costs",
            cores.system, cores.generator
        ),
        format!(
            "every start is on a copy of the same database with {} articles, in the folder for temporary files: {}",
            args.rows,
            file_system(&mounts, &std::env::temp_dir())
        ),
        "start: from the process to its `ready` line, with all rows in all replicas; looked at every 10 ms".to_owned(),
        "writes: browsers post a form in a closed loop at level `durable` and read the page that comes back; processor time \
         is that of all threads of all processes of the system in the window, ÷ writes, the sessions' first page included; \
         `postgres` in it is the server with all of its processes"
            .to_owned(),
        format!("reads: {READERS} connections in a closed loop ask for an item's page as JSON"),
        "the feed: the lab writes and looks, one request at a time; `one look` is what a look takes, so that nothing shorter \
         can be seen"
            .to_owned(),
        format!(
            "a balancer: on core {}, before one appliance with an embedded database; processor time and requests at 64 \
             connections, response times at one; `added` is the difference to `direct` in the same block",
            cores.origin
        ),
    ]
}

/// The file system of a folder, by the kernel's table of mounts: `tmpfs` would not wait for any disk.
fn file_system(mounts: &str, folder: &Path) -> String {
    let rows = mounts.lines().filter_map(|line| {
        let mut words = line.split(' ').skip(1);
        Some((words.next()?, words.next()?))
    });
    let around = rows.filter(|(at, _)| folder.starts_with(at));
    // The longest path is the nearest mount; of two on one path the later one lies above.
    match around.max_by_key(|(at, _)| at.len()) {
        Some((_, "tmpfs" | "ramfs")) => "**tmpfs, which waits for no disk: set TMPDIR to a folder on one**".to_owned(),
        Some((_, name)) => name.to_owned(),
        None => "of an unknown file system".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::{BALANCER, FEED, HOPS, READS, file_system, pairings, place, start_case, writes_case, writes_cpu_case};
    use crate::job::CompareArgs;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: CompareArgs,
    }

    fn args(words: &[&str]) -> CompareArgs {
        Line::parse_from(["bench", "--job", "database"].iter().chain(words)).args
    }

    #[test]
    fn each_step_is_compared_with_what_comes_before_any() {
        let args = args(&[]);
        assert_eq!((args.connections(), args.duration_s()), ([1, 8, 64].as_slice(), 2.0));
        let all = pairings(&args, true, &HOPS);
        let of = |case: &str| -> Vec<(&str, &str)> {
            let own = all.iter().filter(|pairing| pairing.case == case && pairing.metric.ends_with("_ns"));
            own.map(|pairing| (&*pairing.a, &*pairing.b)).collect()
        };
        assert_eq!(of(&start_case(&args)), [("duckdb", "postgres"), ("duckdb", "postgres-2")]);
        assert_eq!(of(&writes_cpu_case(8)).len(), 2);
        let hops = of(BALANCER);
        assert_eq!(hops, [("direct", "haproxy-tcp"), ("direct", "twintier-forward"), ("direct", "twintier")]);
        assert_eq!(pairings(&args, false, &HOPS).len(), 3, "without a server only the balancers are compared");
    }

    #[test]
    fn other_connections_make_other_cases() {
        let args = args(&["--connections", "1,16", "--rows", "5000"]);
        let all = pairings(&args, true, &[]);
        let has = |case: &str| all.iter().any(|pairing| pairing.case == case);
        assert!(has("durable writes, 1 connection") && has("processor time of a durable write, 16 connections"));
        assert!(has("start with 5000 articles") && !has("durable writes, 64 connections"));
    }
    #[test]
    fn the_report_has_the_steps_in_their_order() {
        let args = args(&[]);
        let cases = [writes_case(1), writes_cpu_case(1), writes_case(64), READS.into(), start_case(&args), FEED.into()];
        let places: Vec<usize> = cases.iter().map(|case| place(&args, case)).collect();
        assert!(places.is_sorted() && places[5] < place(&args, BALANCER), "{places:?}");
    }

    #[test]
    fn a_folder_without_a_disk_is_told() {
        let mounts = "/dev/vda / ext4 rw 0 0\ntmpfs /tmp tmpfs rw 0 0\n/dev/vdb /tmp/disk xfs rw 0 0\n";
        assert_eq!(file_system(mounts, "/srv/run".as_ref()), "ext4");
        assert_eq!(file_system(mounts, "/tmp/disk/run".as_ref()), "xfs");
        assert!(file_system(mounts, "/tmp/run".as_ref()).contains("set TMPDIR"));
        assert!(file_system("", "/tmp".as_ref()).contains("unknown"));
    }
}
