//! The comparison lab: starts systems, loads them, compares and reports.
//!
//! In the order of a comparison: [`job`] says what is done, [`build`] finds the programs, [`opponent`] starts a system, [`machine`] says on what
//! and reads its processor time, [`trial`] measures it once in one [`case`], [`compare`] measures all of them in blocks,
//! [`evaluate`] makes ratios of that and holds them against each [`target`], [`record`] and [`store`] keep it, [`report`] shows it. [`quick`] does all of it in a minute.
//!
//! Architecture invariants: the lab sends no load itself; every number in a report comes from the files of a run
//! directory; no child outlives the lab.

mod agreement;
mod books;
mod build;
mod case;
mod clock;
mod compare;
mod control;
mod counters;
mod doctor;
mod evaluate;
mod experiments;
mod failure;
mod faults;
mod figures;
mod hold;
mod html;
mod http;
mod import;
mod job;
mod latency;
mod load;
mod machine;
mod markup;
mod memory;
mod opponent;
mod plot;
mod process;
mod quick;
mod record;
mod report;
mod soak;
mod statistics;
mod store;
mod table;
mod target;
mod threads;
mod trial;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, CommandFactory as _, Parser, Subcommand};
use twintier::manual::{self, Shell};

use crate::failure::Failure;
use crate::job::{CompareArgs, parse_seconds};
use crate::machine::Machine;
use crate::process::Interrupt;
use crate::store::command::{ExportArgs, ImportArgs, QueryArgs};

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
#[expect(clippy::large_enum_variant, reason = "there is one, at the start")]
enum Command {
    /// Run the main job in about a minute: appliance, browser load, and the proxies found on this machine.
    Quick(QuickArgs),
    /// Compare systems in interleaved, randomised blocks.
    Compare(CompareArgs),
    /// Compare a system with itself many times: the comparison must be able to say "no difference".
    Null(experiments::NullArgs),
    /// Compare an origin with a handicapped one many times: the comparison must see a difference of known size.
    Power(experiments::PowerArgs),
    /// Deploy code and kill replicas while a load generator asks: no safe request may fail.
    Faults(FaultsArgs),
    /// Write the page of each run directory, and RESULTS.md with its plots.
    Report(ReportArgs),
    /// Ask the store of all runs a question in SQL.
    Query(QueryArgs),
    /// Add run directories, and what other load generators printed, to the store of all runs.
    Import(ImportArgs),
    /// Write the tables of the store as Parquet files.
    Export(ExportArgs),
    /// Say what is wrong with this machine for measuring, each finding with its cure.
    Doctor,
    /// Print completions of this command line for a shell.
    Completions {
        /// The shell.
        shell: Shell,
    },
    /// Write manual pages, one for each command.
    Man {
        /// Directory for the pages, such as /usr/local/share/man/man1.
        dir: PathBuf,
    },
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
struct FaultsArgs {
    /// Run directory; results/faults-TIME by default.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Deploys of new code tables, evenly over the load.
    #[arg(long, value_name = "N", default_value = "100", value_parser = clap::value_parser!(u32).range(0..=100_000))]
    deploys: u32,
    /// Replicas stopped and started again, evenly over the load.
    #[arg(long, value_name = "N", default_value = "20", value_parser = clap::value_parser!(u32).range(0..=100_000))]
    kills: u32,
    /// Seconds of load, at half of what a closed loop had answered before.
    #[arg(long, value_name = "S", default_value = "40", value_parser = parse_seconds)]
    duration: f64,
    /// Seed of everything random; from the clock by default.
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
}

#[derive(Args)]
struct ReportArgs {
    /// Run directories of bench, or of loadgen: those have a page alone.
    #[arg(required = true)]
    directories: Vec<PathBuf>,
    /// Where the report goes.
    #[arg(long, value_name = "FILE", default_value = "RESULTS.md")]
    out: PathBuf,
    /// Keep the sections of other runs that the file has already.
    #[arg(long)]
    keep: bool,
    /// Where the page of a single run goes; report.html in its directory by default.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Folder of the plots, relative to the report's.
    #[arg(long, value_name = "DIR", default_value = "bench/plots")]
    plots: String,
}

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
        Command::Compare(args) => job::perform(&args, &Interrupt::register()?),
        Command::Null(args) => experiments::null(&args, &Interrupt::register()?),
        Command::Power(args) => experiments::power(&args, &Interrupt::register()?),
        Command::Faults(args) => faults::perform(
            &faults::Options {
                out: args.out,
                deploys: args.deploys,
                kills: args.kills,
                duration_s: args.duration,
                seed: args.seed.unwrap_or_else(clock::unix_ns),
            },
            &Interrupt::register()?,
        ),
        Command::Report(args) => {
            let ReportArgs { directories, out, keep, html, plots } = args;
            report::write(&directories, &report::Options { out, keep, html, plots })
        }
        Command::Query(args) => store::command::ask(&args),
        Command::Import(args) => store::command::import(&args),
        Command::Export(args) => store::command::export(&args),
        Command::Doctor => {
            doctor();
            Ok(())
        }
        Command::Completions { shell } => {
            print!("{}", String::from_utf8_lossy(&manual::completions(shell, "bench", Cli::command())));
            Ok(())
        }
        Command::Man { dir } => manual::pages(Cli::command(), &dir).map_err(Failure::Failed),
    }
}

fn doctor() {
    let machine = Machine::watch(Path::new("/"));
    println!("{} · {} · {} cores", machine.cpu_model, machine.kernel, machine.cores.len());
    println!("{}", machine.core_map().text());
    print!("{}", doctor::text(&doctor::Checkup::of(doctor::examine(&machine))));
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::{Cli, Shell, manual};

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn completions_and_manual_pages_know_every_command() {
        let text = String::from_utf8(manual::completions(Shell::Bash, "bench", Cli::command())).unwrap();
        let folder = std::env::temp_dir().join(format!("bench-manual-{}", std::process::id()));
        manual::pages(Cli::command(), &folder).unwrap();
        for command in Cli::command().get_subcommands().map(clap::Command::get_name) {
            assert!(text.contains(command) && folder.join(format!("bench-{command}.1")).is_file(), "{command}");
        }
        std::fs::remove_dir_all(folder).unwrap();
    }
}
