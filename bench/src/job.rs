//! The jobs of `bench compare`: what the systems do, one module a job.
//!
//! A new job is a module below this one, a variant of [`Job`], and a line in [`perform`]. What several jobs share lies
//! in [`campaign`], [`crate::compare`] and [`crate::trial`]: a job says which systems, which cases, and how a system is
//! started.

pub mod app;
pub mod campaign;
mod database;
pub mod dispatch;
mod engine;
mod generators;
mod mesh;
mod proxy;
mod replication;
mod slow;
mod study;
mod writers;

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::failure::Failure;
use crate::opponent::Kind;
use crate::process::Interrupt;

pub use proxy::ProxyStage;

/// What the systems do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Job {
    /// A reverse proxy in front of a fixed-response origin server.
    Proxy,
    /// The catalog's item page as JSON: from replicas in the process, or from origins behind a proxy.
    App,
    /// The engines on the same work, as proxy and as origin.
    Engine,
    /// Good clients beside slow ones that never finish a request's head.
    Slow,
    /// The policies of the second dispatcher, simulated and in the appliance; `--policies` in place of `--systems`.
    Dispatch,
    /// The ring between cores against other queues: throughput and round trip.
    Mesh,
    /// What replication costs: lag, writes a second at each acknowledgement level, messages and bytes, memory.
    Replication,
    /// Load generators against the same origin, by what a request costs them: loadgen, wrk, h2load, oha, hey.
    Generators,
    /// What each step past one machine costs: DuckDB, PostgreSQL, two appliances on one PostgreSQL, a balancer.
    Database,
}

#[derive(Args, Clone, Debug)]
pub struct CompareArgs {
    /// What the systems do.
    #[arg(long, value_enum)]
    pub job: Job,
    /// Systems, separated by commas; each job has its own by default. One that is named twice is compared with itself.
    #[arg(long, value_name = "A,B,…", value_delimiter = ',', value_parser = parse_system)]
    pub systems: Vec<Kind>,
    /// Connections of the generator, separated by commas; 64 by default, 1, 8 and 64 in database.
    #[arg(long, value_name = "N,…", value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..=60_000))]
    pub connections: Vec<u32>,
    /// Blocks, each of which measures every system once in every case.
    #[arg(long, value_name = "N", default_value = "10", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub blocks: u32,
    /// Measured seconds of each trial; 5 by default, 0.2 in mesh, 1 in replication, 2 in database, 3 in generators.
    #[arg(long, value_name = "S", value_parser = parse_seconds)]
    pub duration: Option<f64>,
    /// Seconds before them that are not counted.
    #[arg(long, value_name = "S", default_value = "1", value_parser = parse_seconds)]
    pub warmup: f64,
    /// Bytes of the origin's body, separated by commas: every number of connections gets the first, one of them the
    /// others.
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_value = "128", value_parser = parse_body_bytes)]
    pub body_bytes: Vec<usize>,
    /// proxy: also with a new connection for each request.
    #[arg(long)]
    pub new_connections: bool,
    /// proxy: also beside N idle connections, with the memory that each of them takes.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=60_000))]
    pub idle_connections: Option<u32>,
    /// proxy: also in an open loop at this share of the slower one's capacity.
    #[arg(long, value_name = "SHARE", value_parser = parse_share)]
    pub rate_share: Option<f64>,
    /// proxy: at the end N requests through one process of ours, and whether its memory grows.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1000..=100_000_000_000))]
    pub soak_requests: Option<u64>,
    /// slow: connections that drip a head.
    #[arg(long, value_name = "N", default_value = "5000", value_parser = clap::value_parser!(u32).range(1..=60_000))]
    pub slow_connections: u32,
    /// database: articles of the catalog that an appliance has when it starts.
    #[arg(long, value_name = "N", default_value = "20000", value_parser = clap::value_parser!(u32).range(2000..=1_000_000))]
    pub rows: u32,
    /// Seed of everything random; from the clock by default.
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// Run directory; results/compare-TIME by default.
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// The store of all runs.
    #[arg(long, value_name = "FILE", default_value = "results/results.duckdb")]
    pub store: PathBuf,
    #[command(flatten)]
    pub dispatch: dispatch::Options,
}

impl CompareArgs {
    /// Measured seconds of each trial. What is measured inside the lab needs no more than a moment.
    pub fn duration_s(&self) -> f64 {
        let usual = match self.job {
            Job::Proxy | Job::App | Job::Engine | Job::Slow | Job::Dispatch => 5.0,
            Job::Mesh => 0.2,
            Job::Replication => 1.0,
            Job::Generators => 3.0,
            Job::Database => 2.0,
        };
        self.duration.unwrap_or(usual)
    }

    pub fn connections(&self) -> &[u32] {
        let usual: &[u32] = match self.job {
            Job::Proxy | Job::App | Job::Engine | Job::Slow => &[64],
            Job::Dispatch | Job::Mesh | Job::Replication | Job::Generators => &[64],
            Job::Database => &[1, 8, 64],
        };
        if self.connections.is_empty() { usual } else { &self.connections }
    }
}

/// Performs a job from its plan to its table.
///
/// # Errors
/// A system fails or does other work than the others, a signal arrives, or the run is invalid.
pub fn perform(args: &CompareArgs, interrupt: &Interrupt) -> Result<(), Failure> {
    match args.job {
        Job::Proxy => proxy::perform(args, interrupt),
        Job::App => app::perform(args, interrupt),
        Job::Engine => engine::perform(args, interrupt),
        Job::Slow => slow::perform(args, interrupt),
        Job::Dispatch => dispatch::perform(args, interrupt),
        Job::Mesh => mesh::perform(args, interrupt),
        Job::Replication => replication::perform(args, interrupt),
        Job::Generators => generators::perform(args, interrupt),
        Job::Database => database::perform(args, interrupt),
    }
}

/// Seconds on the command line.
pub fn parse_seconds(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(seconds) if seconds > 0.0 && seconds <= 86_400.0 => Ok(seconds),
        Ok(_) | Err(_) => Err("write seconds above 0 and up to 86400, such as 5 or 0.5".into()),
    }
}

/// A share on the command line.
pub fn parse_share(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(share) if share > 0.0 && share < 1.0 => Ok(share),
        Ok(_) | Err(_) => Err("write a share of capacity between 0 and 1, such as 0.7".into()),
    }
}

/// The lab itself reads one answer of each size.
fn parse_body_bytes(text: &str) -> Result<usize, String> {
    match text.parse::<usize>() {
        Ok(bytes) if bytes <= 8 << 20 => Ok(bytes),
        Ok(_) | Err(_) => Err("write bytes up to 8388608, such as 128 or 1048576".into()),
    }
}

/// The name of a system on the command line.
pub fn parse_system(name: &str) -> Result<Kind, String> {
    let names = || Kind::all().into_iter().map(Kind::name).collect::<Vec<_>>().join(", ");
    Kind::parse(name).ok_or_else(|| format!("there are {}", names()))
}

#[cfg(test)]
mod tests {
    use super::{parse_body_bytes, parse_seconds, parse_share, parse_system};

    #[test]
    fn wrong_words_say_what_would_be_right() {
        assert!(parse_system("apache").unwrap_err().contains("nginx"));
        assert!(parse_seconds("0").is_err() && parse_seconds("NaN").is_err());
        assert_eq!(parse_seconds("0.5"), Ok(0.5));
        assert!(["0", "1", "NaN", "70"].iter().all(|text| parse_share(text).is_err()));
        assert_eq!(parse_share("0.7"), Ok(0.7));
        assert!(parse_body_bytes("8388609").is_err());
    }
}
