//! `--job generators`: load generators against the same origin, by what a request costs the generator.
//!
//! ```text
//!   twintier origin (one core)  ◀── one generator at a time (one other core): loadgen, wrk, h2load, oha, hey
//! ```
//! Requests ÷ processor seconds of the generator's whole life, all its threads, user and system: a generator that is
//! cheaper can ask more of a system from the same core. `loadgen` takes part with all its stamps and histograms, in a
//! closed loop and in an open one at 0.85 of what its closed loop reached in the same block. A last case shows how late
//! its open loop is against its own plan at a rate that leaves the core idle: (t1 − t0) + (t3 − t2) of every request,
//! as `generator_lag_ns` has it; and beside it what the machine alone does to a bare loop there (`floor`).

mod floor;
mod tools;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use self::tools::{Found, Tool};
use super::CompareArgs;
use super::study::{Study, shuffled};
use crate::build;
use crate::failure::Failure;
use crate::figures::{Named, Pairing, Sample};
use crate::machine::{CoreMap, Machine};
use crate::opponent::{Answer, Engine, OriginOrder, Programs, start_origin};
use crate::process::{Interrupt, Order, Process};
use crate::target::Target;

/// The metric of the job: better higher.
const METRIC: &str = "requests_per_cpu_s";
/// The rate at which pacing is looked at.
const PACING_PER_S: u32 = 2000;
/// What is told of a distribution of lags: the metric, its name in a summary, and the quantile.
const LAGS: [(&str, &str, f64); 4] = [
    ("lag_p50_ns", "p50", 0.5),
    ("lag_p90_ns", "p90", 0.9),
    ("lag_p99_ns", "p99", 0.99),
    ("lag_p999_ns", "p999", 0.999),
];
/// The share of the closed loop's rate that the open loop is offered.
const OPEN_SHARE: f64 = 0.85;
/// What may pass behind a trial's end before its generator has hung.
const END_PATIENCE: Duration = Duration::from_secs(30);
/// Ticks of processor time in a second: fixed in the kernel's interface to programs.
const TICKS_PER_S: f64 = 100.0;

/// # Errors
/// The origin or a generator fails, or a signal arrives.
pub fn perform(args: &CompareArgs, interrupt: &Interrupt) -> Result<(), Failure> {
    if !args.systems.is_empty() {
        return Err(Failure::Failed(
            "--job generators takes no --systems: it runs every generator that it finds".into(),
        ));
    }
    let programs = Programs::find(&build::sibling_folder(&build::source_root()?, interrupt)?)?;
    let cores = Machine::read(Path::new("/")).core_map();
    let (found, absent) = tools::find(&programs.loadgen);
    let mut study = Study::begin(args, "generators", found.len() * args.connections().len() + 1)?;
    let folder = study.folder.clone();
    let origin_order = OriginOrder {
        name: "origin",
        engine: Engine::Auto,
        answer: Answer::Bytes(args.body_bytes.first().copied().unwrap_or(128)),
        core: Some(cores.origin),
        folder: &folder,
        env_padding_bytes: 0,
        burn_ns: 0,
    };
    let (mut origin, address) = start_origin(&programs, interrupt, &origin_order)?;
    study.outcome.systems = found.iter().map(Found::named).chain([bare_loop()]).collect();
    study.outcome.notes = notes(&cores, &absent);
    let place = Place { url: format!("http://{address}/"), core: cores.system, folder: folder.clone() };
    let pairings: Vec<Pairing> = args.connections().iter().flat_map(|&count| pairings(&found, count)).collect();
    for block in 0..args.blocks {
        for &connections in args.connections() {
            let mut closed_per_s = None;
            // The open loop's rate is a share of the closed one's: that one comes before it, the rest at random.
            let order = shuffled(&found, &mut study.random);
            let (open, others): (Vec<Found>, Vec<Found>) =
                order.into_iter().partition(|one| one.tool == Tool::LoadgenOpen);
            for (turn, tool) in (0..).zip(others.iter().chain(&open)) {
                interrupt.check()?;
                origin.still_running()?;
                let rate = closed_per_s.map(|rate: f64| rate * OPEN_SHARE);
                let spent = place.run(tool, args, connections, rate, interrupt)?;
                if tool.tool == Tool::Loadgen {
                    closed_per_s = Some(spent.requests / args.duration_s());
                }
                let (system, case) = (tool.tool.name().to_owned(), title(connections));
                let value = spent.requests / spent.cpu_s;
                study.add(Sample { system, case, metric: METRIC.to_owned(), block, turn, value });
                study.step();
            }
        }
        for (turn, paced) in (0..).zip(shuffled(&[true, false], &mut study.random)) {
            interrupt.check()?;
            let (system, lags) = if paced {
                (Tool::LoadgenOpen.name(), place.pacing(&programs.loadgen, args, interrupt)?)
            } else {
                (floor::NAME, place.floor(args)?)
            };
            for (metric, value) in lags {
                let case = format!("pacing of the open loop at {PACING_PER_S}/s, constant");
                study.add(Sample { system: system.to_owned(), case, metric: metric.to_owned(), block, turn, value });
            }
        }
        study.step();
        study.keep(&pairings)?;
    }
    origin.stop()?;
    study.end(args, &pairings)
}

fn title(connections: u32) -> String {
    format!("{connections} connections")
}

fn bare_loop() -> Named {
    Named {
        name: floor::NAME.to_owned(),
        version: "the lab's own".to_owned(),
        description: "no generator: how late a loop is that only reads the clock".to_owned(),
    }
}

/// What is promised: cheaper than wrk by 15 %, and the open loop at no less than 0.85 of the closed one.
fn pairings(found: &[Found], connections: u32) -> Vec<Pairing> {
    let pairing = |a: Tool, b: Tool, target| Pairing {
        a: a.name().to_owned(),
        b: b.name().to_owned(),
        case: title(connections),
        metric: METRIC.to_owned(),
        target,
    };
    let others = found.iter().map(|one| one.tool).filter(|tool| *tool != Tool::Loadgen);
    others
        .map(|tool| match tool {
            Tool::LoadgenOpen => pairing(Tool::LoadgenOpen, Tool::Loadgen, Some(Target::at_least(OPEN_SHARE))),
            Tool::Wrk => pairing(Tool::Loadgen, tool, Some(Target::at_least(1.15))),
            Tool::Loadgen | Tool::H2load | Tool::Oha | Tool::Hey => pairing(Tool::Loadgen, tool, None),
        })
        .collect()
}

fn notes(cores: &CoreMap, absent: &[String]) -> Vec<String> {
    let mut notes = vec![
        format!("the origin on core {}, each generator on core {}", cores.origin, cores.system),
        "a generator's processor time is that of its whole life, starting and reporting included".to_owned(),
        format!(
            "loadgen-open is offered {OPEN_SHARE} of the rate that loadgen's closed loop reached in the same block, and does not poll"
        ),
        "pacing: with --core, so that the timing thread polls before each arrival; only a quiet core shows it"
            .to_owned(),
        format!(
            "{}: the same planned times on the same core, waited for by a loop that only reads the clock: what it is late \
             is the machine's doing, and nothing that runs there can be expected to be earlier",
            floor::NAME
        ),
    ];
    if cores.origin == cores.system {
        notes.push("origin and generator share a core: each trial has both costs in its wall time".to_owned());
    }
    notes.extend(absent.iter().cloned());
    notes
}

/// Where and against what the generators run.
struct Place {
    url: String,
    core: usize,
    folder: PathBuf,
}

/// What a generator did, and what it took.
#[derive(Clone, Copy, Debug)]
struct Spent {
    requests: f64,
    cpu_s: f64,
}

impl Place {
    fn run(
        &self,
        found: &Found,
        args: &CompareArgs,
        connections: u32,
        rate: Option<f64>,
        interrupt: &Interrupt,
    ) -> Result<Spent, Failure> {
        let out = self.folder.join("loadgen");
        let arguments = found.tool.arguments(&self.url, connections, args.duration_s(), rate, &out);
        let before = children_cpu_s();
        let output = self.output(found.tool.name(), &found.program, &arguments, args, interrupt)?;
        let cpu_s = children_cpu_s() - before;
        let requests = found.tool.requests(&output, &out)?;
        if requests < 1.0 || cpu_s <= 0.0 {
            return Err(Failure::Failed(format!("{} made no requests:\n{output}", found.tool.name())));
        }
        Ok(Spent { requests, cpu_s })
    }

    /// Runs a generator to its end and returns what it printed.
    fn output(
        &self,
        name: &str,
        program: &Path,
        arguments: &[String],
        args: &CompareArgs,
        interrupt: &Interrupt,
    ) -> Result<String, Failure> {
        let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let order = Order::new(name, program, &words, &self.folder).on_core(Some(self.core));
        let mut process = Process::start(&order)?;
        let deadline = Duration::from_secs_f64(args.duration_s()) + END_PATIENCE;
        match interrupt.wait_for(deadline, || process.ended())? {
            // 4: a verdict of loadgen about its figures, which are not what is wanted here.
            Some(status) if status.success() || status.code() == Some(4) => Ok(process.output()),
            Some(status) => Err(Failure::Failed(format!("{name} ended with {status}{}", process.quote()))),
            None => Err(Failure::Failed(format!("{name} does not end"))),
        }
    }

    /// How late the open loop is against its plan.
    fn pacing(
        &self,
        loadgen: &Path,
        args: &CompareArgs,
        interrupt: &Interrupt,
    ) -> Result<[(&'static str, f64); LAGS.len()], Failure> {
        let out = self.folder.join("loadgen");
        let (core, rate) = (self.core.to_string(), PACING_PER_S.to_string());
        let duration = args.duration_s().to_string();
        let directory = out.to_string_lossy().into_owned();
        let words = [
            "run",
            &self.url,
            "--rate",
            &rate,
            "--core",
            &core,
            "--duration",
            &duration,
            "--quiet",
            "--out",
            &directory,
        ];
        self.output("loadgen-pacing", loadgen, &words.map(str::to_owned), args, interrupt)?;
        let mut lags = LAGS.map(|(metric, ..)| (metric, 0.0));
        for ((_, lag_ns), (_, name, _)) in lags.iter_mut().zip(LAGS) {
            *lag_ns = tools::summary_number(&out, &format!("/generator_lag_ns/{name}"))?;
        }
        Ok(lags)
    }

    /// How late the machine makes a bare loop against the same plan.
    fn floor(&self, args: &CompareArgs) -> Result<[(&'static str, f64); LAGS.len()], Failure> {
        let late = floor::measure(self.core, PACING_PER_S, Duration::from_secs_f64(args.duration_s()))?;
        // Nanoseconds of a lateness below a minute are exact in a double.
        Ok(LAGS.map(|(metric, _, quantile)| (metric, late.value_at_quantile(quantile) as f64)))
    }
}

/// Processor seconds of all children that have ended.
fn children_cpu_s() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // Behind the name in parentheses, which may have spaces: state is the third field, these are 16 and 17.
    let fields = stat.rsplit(')').next().unwrap_or_default().split_ascii_whitespace();
    fields.skip(13).take(2).filter_map(|word| word.parse::<f64>().ok()).sum::<f64>() / TICKS_PER_S
}

#[cfg(test)]
mod tests {
    use super::tools::{Found, Tool};
    use super::{children_cpu_s, pairings};

    #[test]
    fn each_other_generator_is_compared_with_ours() {
        let found: Vec<Found> = Tool::ALL.map(|tool| Found::of(tool, "/bin/true".as_ref())).to_vec();
        let pairings = pairings(&found, 64);
        let named = |a: &str, b: &str| pairings.iter().find(|pairing| pairing.a == a && pairing.b == b);
        assert_eq!(pairings.len(), Tool::ALL.len() - 1);
        assert_eq!(named("loadgen", "wrk").unwrap().target.unwrap().limit, 1.15);
        assert_eq!(named("loadgen-open", "loadgen").unwrap().target.unwrap().limit, 0.85);
        assert!(named("loadgen", "hey").unwrap().target.is_none());
    }

    #[test]
    fn the_processor_time_of_a_child_is_seen_when_it_has_ended() {
        let before = children_cpu_s();
        let burn = "i=0; while [ $i -lt 100000 ]; do i=$((i + 1)); done";
        assert!(std::process::Command::new("sh").args(["-c", burn]).status().unwrap().success());
        assert!(children_cpu_s() > before);
    }
}
