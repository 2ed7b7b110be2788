//! The jobs of `bench compare`: what the systems do, one module a job.
//!
//! A new job is a module below this one, a variant of [`Job`], and a line in [`perform`]. What several jobs share (the
//! blocks, the trials, the ratios) lies in [`crate::compare`] and [`crate::trial`].

pub mod dispatch;
pub mod proxy;

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::failure::Failure;
use crate::opponent::Kind;
use crate::process::Interrupt;

/// What the systems do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Job {
    /// A reverse proxy in front of a fixed-response origin server.
    Proxy,
    /// The policies of the second dispatcher, simulated and in the appliance; `--policies` in place of `--systems`.
    Dispatch,
}

#[derive(Args, Clone, Debug)]
pub struct CompareArgs {
    /// What the systems do.
    #[arg(long, value_enum)]
    pub job: Job,
    /// Systems, separated by commas: direct, twintier, twintier-forward, nginx, haproxy; one that is named twice is
    /// compared with itself.
    #[arg(long, value_name = "A,B,…", value_delimiter = ',', required_if_eq("job", "proxy"), value_parser = parse_system)]
    pub systems: Vec<Kind>,
    /// Connections of the generator, separated by commas.
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_value = "64", value_parser = clap::value_parser!(u32).range(1..=60_000))]
    pub connections: Vec<u32>,
    /// Blocks, each of which measures every system once.
    #[arg(long, value_name = "N", default_value = "10", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub blocks: u32,
    /// Measured seconds of each trial.
    #[arg(long, value_name = "S", default_value = "5", value_parser = parse_seconds)]
    pub duration: f64,
    /// Seconds before them that are not counted.
    #[arg(long, value_name = "S", default_value = "1", value_parser = parse_seconds)]
    pub warmup: f64,
    /// Bytes of the origin's body.
    #[arg(long, value_name = "N", default_value = "128")]
    pub body_bytes: usize,
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

/// Performs a job from its plan to its table.
///
/// # Errors
/// A system fails or does other work than the others, a signal arrives, or the run is invalid.
pub fn perform(args: &CompareArgs, interrupt: &Interrupt) -> Result<(), Failure> {
    match args.job {
        Job::Proxy => proxy::perform(args, interrupt),
        Job::Dispatch => dispatch::perform(args, interrupt),
    }
}

/// Seconds on the command line.
pub fn parse_seconds(text: &str) -> Result<f64, String> {
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
    use super::{parse_seconds, parse_system};

    #[test]
    fn wrong_words_say_what_would_be_right() {
        assert!(parse_system("apache").unwrap_err().contains("nginx"));
        assert!(parse_seconds("0").is_err() && parse_seconds("NaN").is_err());
        assert_eq!(parse_seconds("0.5"), Ok(0.5));
    }
}
