//! The command line, as close to what was typed as possible. Long options only.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;

use crate::engine::{Address, EngineChoice};
use crate::simulate;

/// A two-tier web cluster on io_uring as a benchmark appliance.
#[derive(Debug, Parser)]
#[command(name = "twintier", version, about, long_about = None, disable_help_subcommand = true)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the appliance; SIGTERM or SIGINT drains it
    Serve(ProfileArgs),
    /// Validate a profile with its statements and code tables; print what is derived from it and what it costs
    Check(ProfileArgs),
    /// Print the claim chart of a running appliance: each element, its evidence, whether it holds
    Claim(ClaimArgs),
    /// Publish the code tables of a folder to a running appliance; returns when every replica has them
    Deploy(DeployArgs),
    /// Run a reverse proxy without a profile
    Proxy(ProxyArgs),
    /// Run a fixed-response origin server, for calibration
    Origin(OriginArgs),
    /// Run a byte forwarder on the same engine: the floor of a proxied hop
    Forward(ForwardArgs),
    /// Run the whole cluster in virtual time with faults drawn from seeds; print what was violated
    Simulate(SimulateArgs),
    /// Look after a database while no appliance has it open
    Db(DbArgs),
    /// Write a small commented site of your own into a directory, to begin with
    Init(InitArgs),
    /// Print completions of this command line for a shell
    Completions(CompletionsArgs),
    /// Write manual pages, one for each command
    Man(ManArgs),
}

#[derive(Debug, Args)]
pub struct ProfileArgs {
    /// The run profile, such as profiles/quickstart.toml
    #[arg(long, value_name = "FILE")]
    pub profile: PathBuf,
    /// Override one key of the profile; may be given again
    #[arg(long, value_name = "SECTION.KEY=VALUE")]
    pub set: Vec<String>,
}

#[derive(Debug, Args)]
pub struct ClaimArgs {
    /// Admin address of the running appliance
    #[arg(long, value_name = "ADDR")]
    pub admin: Address,
    /// Bearer token, where the profile sets one
    #[arg(long, value_name = "TOKEN")]
    pub token: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct DeployArgs {
    /// Admin address of the running appliance
    #[arg(long, value_name = "ADDR")]
    pub admin: Address,
    /// Bearer token, where the profile sets one
    #[arg(long, value_name = "TOKEN")]
    pub token: Option<String>,
    /// Folder of one application's code tables
    pub dir: PathBuf,
}

#[derive(Debug, Args)]
pub struct ProxyArgs {
    /// Address to listen on
    #[arg(long, value_name = "ADDR")]
    pub listen: Address,
    /// Upstream servers, separated by commas
    #[arg(long, value_name = "ADDR,…", value_delimiter = ',', required = true)]
    pub to: Vec<Address>,
    /// Core to run on
    #[arg(long, value_name = "N")]
    pub core: Option<usize>,
    /// Write a line for each request; `-` is standard output
    #[arg(long, value_name = "FILE")]
    pub access_log: Option<PathBuf>,
    /// Engine: auto, uring, monoio, monoio-epoll or glommio
    #[arg(long, value_name = "NAME", default_value_t)]
    pub engine: EngineChoice,
    /// Let up to N safe requests share an upstream connection; 0: each has one of its own
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub pipeline: usize,
    /// Connections at a time, half of them downstream
    #[arg(long, value_name = "N", default_value_t = 4096, value_parser = clap::value_parser!(u32).range(64..=65_536))]
    pub connections_max: u32,
    /// Requests that each upstream server may have under way; more wait
    #[arg(long, value_name = "N")]
    pub max: Option<u32>,
    /// Check the upstream servers: tcp, or http:/PATH
    #[arg(long, value_name = "CHECK")]
    pub check: Option<String>,
    /// Keep each browser with its server by a cookie of this name
    #[arg(long, value_name = "COOKIE")]
    pub affinity: Option<String>,
    /// Any other option of `proxy … upstream` (profiles/README.md), such as wait=500ms; may be given again
    #[arg(long, value_name = "KEY=VALUE")]
    pub option: Vec<String>,
}

impl ProxyArgs {
    /// The options as a statement has them, before its first server.
    pub fn upstream_options(&self) -> Vec<String> {
        let Self { max, check, affinity, option, .. } = self;
        let mut options = option.clone();
        options.extend(max.map(|max| format!("max={max}")));
        options.extend(check.as_ref().map(|check| format!("check={check}")));
        options.extend(affinity.as_ref().map(|affinity| format!("affinity={affinity}")));
        options
    }
}

#[derive(Debug, Args)]
pub struct OriginArgs {
    /// Address to listen on
    #[arg(long, value_name = "ADDR")]
    pub listen: Address,
    /// Core to run on
    #[arg(long, value_name = "N")]
    pub core: Option<usize>,
    /// Engine: auto, uring, monoio, monoio-epoll or glommio
    #[arg(long, value_name = "NAME", default_value_t)]
    pub engine: EngineChoice,
    /// Bytes of each answer's body
    #[arg(long, value_name = "N", default_value_t = 128)]
    pub body_bytes: usize,
    /// A file to answer with instead
    #[arg(long, value_name = "FILE", conflicts_with = "body_bytes")]
    pub body_file: Option<PathBuf>,
    /// Content-Type of each answer
    #[arg(long, value_name = "TYPE", default_value = "text/plain")]
    pub content_type: String,
    /// A further field of each answer; may be given again
    #[arg(long, value_name = "NAME: VALUE")]
    pub field: Vec<String>,
    /// Microseconds before each answer
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub delay_us: u64,
    /// Nanoseconds of processor time to burn before each answer, to see whether a comparison notices
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub burn_ns: u64,
}

#[derive(Debug, Args)]
pub struct ForwardArgs {
    /// Address to listen on
    #[arg(long, value_name = "ADDR")]
    pub listen: Address,
    /// Upstream server
    #[arg(long, value_name = "ADDR")]
    pub to: Address,
    /// Core to run on
    #[arg(long, value_name = "N")]
    pub core: Option<usize>,
    /// Engine: auto, uring, monoio, monoio-epoll or glommio
    #[arg(long, value_name = "NAME", default_value_t)]
    pub engine: EngineChoice,
}

#[derive(Debug, Args)]
pub struct SimulateArgs {
    /// Seeds to run
    #[arg(long, value_name = "N", default_value_t = 1000)]
    pub seeds: u64,
    /// The first of them
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub first: u64,
    /// Steps of each seed before its troubles end
    #[arg(long, value_name = "M", default_value_t = simulate::STEPS_DEFAULT, value_parser = clap::value_parser!(u64).range(100..=1_000_000))]
    pub steps: u64,
    /// Threads to run seeds on; without it one a core
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1024))]
    pub threads: Option<u64>,
    /// Run this seed only, and print what happened in it
    #[arg(long, value_name = "S", conflicts_with_all = ["seeds", "first", "threads"])]
    pub seed: Option<u64>,
}

#[derive(Debug, Args)]
pub struct DbArgs {
    #[command(subcommand)]
    pub command: DbCommand,
}

#[derive(Debug, Subcommand)]
pub enum DbCommand {
    /// Move everything from a DuckDB file to PostgreSQL, or back: all of it, or nothing
    Migrate(MigrateArgs),
}

#[derive(Debug, Args)]
pub struct MigrateArgs {
    /// A DuckDB file, or PostgreSQL as postgres://user@host/database or "host=… dbname=…"; stays as it is
    #[arg(long, value_name = "PLACE")]
    pub from: String,
    /// The same for the other one, which has to be empty
    #[arg(long, value_name = "PLACE")]
    pub to: String,
    /// Schema on PostgreSQL
    #[arg(long, value_name = "NAME", default_value = "twintier")]
    pub schema: String,
}

#[derive(Debug, Args)]
pub struct InitArgs {
    /// A directory that is new, or has no file of these names
    pub dir: PathBuf,
}

#[derive(Debug, Args)]
pub struct CompletionsArgs {
    /// The shell
    pub shell: Shell,
}

#[derive(Debug, Args)]
pub struct ManArgs {
    /// Directory for the pages, such as /usr/local/share/man/man1
    pub dir: PathBuf,
}
