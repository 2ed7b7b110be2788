//! The comparison lab: starts systems, loads them, compares and reports.
//!
//! In the order of a comparison: [`build`] finds the programs, [`opponent`] starts a system, [`machine`] says on what
//! and reads its processor time, [`trial`] measures it once, [`compare`] measures all of them in blocks, [`statistics`]
//! makes ratios of that, [`record`] and [`store`] keep it, [`report`] shows it. [`quick`] does all of it in a minute.
//!
//! Architecture invariants: the lab sends no load itself; every number in a report comes from the files of a run
//! directory; no child outlives the lab.

mod build;
mod clock;
mod compare;
mod doctor;
mod failure;
mod http;
mod latency;
mod machine;
mod opponent;
mod process;
mod quick;
mod record;
mod report;
mod statistics;
mod store;
mod table;
mod trial;

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::compare::Plan;
use crate::failure::Failure;
use crate::machine::{Jiffies, Machine};
use crate::opponent::{Kind, Programs};
use crate::process::Interrupt;
use crate::record::{RunRecord, make_folder, write_json};
use crate::trial::Lab;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Parser)]
#[command(
    name = "bench",
    version,
    about = "The comparison lab: starts systems, loads them, compares and reports",
    disable_help_subcommand = true
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the main job in about a minute: appliance, browser load, and the proxies found on this machine.
    Quick(QuickArgs),
    /// Compare systems in interleaved, randomised blocks.
    Compare(CompareArgs),
    /// Write RESULTS.md from run directories.
    Report(ReportArgs),
    /// Ask the store of all runs a question in SQL.
    Query(QueryArgs),
    /// Say what is wrong with this machine for measuring, each finding with its cure.
    Doctor,
}

#[derive(Args)]
struct QuickArgs {
    /// Run directory; results/quick-TIME by default.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// The store of all runs.
    #[arg(long, value_name = "FILE", default_value = "results/results.duckdb")]
    store: PathBuf,
    /// Browser users.
    #[arg(long, value_name = "N", default_value = "32", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    users: u32,
    /// Seconds of browser load.
    #[arg(long, value_name = "S", default_value = "15", value_parser = parse_seconds)]
    browse: f64,
    /// Blocks of the proxy job, each of which measures every system once.
    #[arg(long, value_name = "N", default_value = "3", value_parser = clap::value_parser!(u32).range(1..=1000))]
    blocks: u32,
    /// Measured seconds of each trial.
    #[arg(long, value_name = "S", default_value = "1.5", value_parser = parse_seconds)]
    duration: f64,
    /// Seed of everything random; from the clock by default.
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
}

#[derive(Args)]
struct CompareArgs {
    /// What the systems do.
    #[arg(long, value_enum)]
    job: Job,
    /// Systems, separated by commas: direct, twintier, twintier-forward, nginx, haproxy; one that is named twice is
    /// compared with itself.
    #[arg(long, value_name = "A,B,…", value_delimiter = ',', required = true, value_parser = parse_system)]
    systems: Vec<Kind>,
    /// Connections of the generator, separated by commas.
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_value = "64", value_parser = clap::value_parser!(u32).range(1..=60_000))]
    connections: Vec<u32>,
    /// Blocks, each of which measures every system once.
    #[arg(long, value_name = "N", default_value = "10", value_parser = clap::value_parser!(u32).range(1..=1000))]
    blocks: u32,
    /// Measured seconds of each trial.
    #[arg(long, value_name = "S", default_value = "5", value_parser = parse_seconds)]
    duration: f64,
    /// Seconds before them that are not counted.
    #[arg(long, value_name = "S", default_value = "1", value_parser = parse_seconds)]
    warmup: f64,
    /// Bytes of the origin's body.
    #[arg(long, value_name = "N", default_value = "128")]
    body_bytes: usize,
    /// Seed of everything random; from the clock by default.
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Run directory; results/compare-TIME by default.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// The store of all runs.
    #[arg(long, value_name = "FILE", default_value = "results/results.duckdb")]
    store: PathBuf,
}

#[derive(Clone, Copy, ValueEnum)]
enum Job {
    /// A reverse proxy in front of a fixed-response origin server.
    Proxy,
}

#[derive(Args)]
struct ReportArgs {
    /// Run directories.
    #[arg(required = true)]
    directories: Vec<PathBuf>,
    /// Where the report goes.
    #[arg(long, value_name = "FILE", default_value = "RESULTS.md")]
    out: PathBuf,
}

#[derive(Args)]
struct QueryArgs {
    /// The question, such as "FROM ratio"; tables: run, system, trial, ratio.
    sql: String,
    /// The store of all runs.
    #[arg(long, value_name = "FILE", default_value = "results/results.duckdb")]
    store: PathBuf,
}

/// Longer cells of an answer are clipped on a terminal; a pipe gets all of them.
const TERMINAL_CELL_COLUMNS: usize = 60;

fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("bench: {failure}");
            ExitCode::from(failure.code())
        }
    }
}

fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Quick(args) => quick::perform(
            &quick::Options {
                out: args.out,
                store: args.store,
                users: args.users,
                browse_s: args.browse,
                blocks: args.blocks,
                duration_s: args.duration,
                seed: args.seed.unwrap_or_else(clock::unix_ns),
            },
            &Interrupt::register()?,
        ),
        Command::Compare(args) => compare(args, &Interrupt::register()?),
        Command::Report(args) => report::write(&args.directories, &args.out),
        Command::Query(args) => {
            let mut table = store::query(&args.store, &args.sql)?;
            if std::io::stdout().is_terminal() {
                table.clip(TERMINAL_CELL_COLUMNS);
            }
            print!("{}", table.text());
            Ok(())
        }
        Command::Doctor => doctor(&Interrupt::register()?),
    }
}

fn compare(args: CompareArgs, interrupt: &Interrupt) -> Result<(), Failure> {
    let CompareArgs { job: Job::Proxy, systems, connections, blocks, duration, warmup, body_bytes, seed, out, store } =
        args;
    let root = build::source_root()?;
    let programs = Programs::find(&build::sibling_folder(&root, interrupt)?)?;
    let folder = make_folder("compare", out)?;
    let mut record = RunRecord::begin("compare", &root);
    let jiffies = Jiffies::read(Path::new("/"));
    let lab = Lab { programs, interrupt: interrupt.clone(), cores: record.cores, folder: folder.clone() };
    let (systems, absent) = compare::select(&lab, &systems);
    for absent in &absent {
        quick::say(&format!("{} is absent; install it with: {}", absent.name, absent.install));
    }
    record.absent = absent;
    let seed = seed.unwrap_or_else(clock::unix_ns);
    quick::say(&format!("{} · seed {seed}", lab.cores.text()));
    let plan = Plan { systems, connections, blocks, duration_s: duration, warmup_s: warmup, body_bytes, seed };
    let comparison = compare::perform(&lab, &plan, &mut record)?;
    write_json(&folder.join("compare.json"), &comparison)?;
    record.finish(jiffies);
    record.write(&folder)?;
    store::add_run(&store, &folder, &record, &compare::read_trials(&folder)?, &comparison)?;
    println!("{}", report::terminal(&record, &comparison, None));
    println!("run directory: {}", folder.display());
    report::refuse_invalid(&comparison)
}

fn doctor(interrupt: &Interrupt) -> Result<(), Failure> {
    let root = Path::new("/");
    let before = Jiffies::read(root);
    // Two seconds of watching: steal comes and goes.
    interrupt.wait_for(Duration::from_secs(2), || Ok(None::<()>))?;
    let steal_share = before.zip(Jiffies::read(root)).map_or(0.0, |(before, now)| now.steal_share_since(before));
    let machine = Machine::read(root);
    println!("{} · {} · {} cores", machine.cpu_model, machine.kernel, machine.cores.len());
    println!("{}", machine.core_map().text());
    print!("{}", doctor::text(&doctor::examine(&machine, steal_share)));
    Ok(())
}

fn parse_seconds(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(seconds) if seconds > 0.0 && seconds <= 86_400.0 => Ok(seconds),
        Ok(_) | Err(_) => Err("write seconds above 0 and up to 86400, such as 5 or 0.5".into()),
    }
}

fn parse_system(name: &str) -> Result<Kind, String> {
    Kind::parse(name).ok_or_else(|| format!("there are {}", Kind::ALL.map(Kind::name).join(", ")))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::{Cli, parse_seconds, parse_system};

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn wrong_words_say_what_would_be_right() {
        assert!(parse_system("apache").unwrap_err().contains("nginx"));
        assert!(parse_seconds("0").is_err() && parse_seconds("NaN").is_err());
        assert_eq!(parse_seconds("0.5"), Ok(0.5));
    }
}
