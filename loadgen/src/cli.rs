//! The command line. Everything that can be checked without sending a byte is checked here.

mod archive;
mod expect;
mod max;
mod pages;
mod plan;

use std::fs;
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, CommandFactory as _, Parser, Subcommand};
use twintier::clock::SystemClocks;
use twintier::engine::{Address, Uring};
use twintier::manual::{self, Shell};

use self::archive::{ArchiveOptions, ScenarioOptions};
use self::expect::ExpectOptions;
use self::max::MaxOptions;
use self::pages::PageOptions;
use self::plan::{PlanOptions, PrintOptions, StartOptions};
use crate::arrivals::{Plan, Rate};
use crate::browse::{self, Site};
use crate::hold;
use crate::max::Outcome;
use crate::merge::merge;
use crate::replay::Trace;
use crate::run::{self, Request, Variant};
use crate::scenario::Scenario;
use crate::schema;
use crate::slo::Slo;
use crate::stage::{Stage, perform};
use crate::summary::Summary;
use crate::target::{Field, Target, write_request};
use crate::verdict::Verdict;

/// Exit codes that other programs rely on.
const EXIT_FAILED: u8 = 1;
const EXIT_USAGE: u8 = 2;
const EXIT_SLO_MISSED: u8 = 3;
const EXIT_INVALID: u8 = 4;

/// For how long the timing thread polls before an arrival when it was given a core. Without polling the kernel's timer
/// and the wake-up behind it make it 40 µs late in the median, with it 1 µs, for 2 % of the core at 2000 arrivals a
/// second (`--rate 2000 --core 0 --spin-us 0` against `--spin-us 50`). Without `--core` it does not poll: on a machine of
/// few cores it would take the time from the system under test.
const SPIN_US: u64 = 50;

/// Users of a closed browser run without --users.
const USERS: u32 = 10;

#[derive(Parser)]
#[command(
    name = "loadgen",
    version,
    about = "Open-loop HTTP load generator that plays the browser",
    disable_help_subcommand = true
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Send one request over and over: at a rate (open loop) or back to back (closed loop).
    Run(Box<RunOptions>),
    /// Play users who open pages with their assets, sign in and send forms.
    Browse(Box<BrowseOptions>),
    /// Search the highest rate that keeps objectives, with a 95 % interval.
    Max(Box<MaxOptions>),
    /// Hold connections open beside a load: idle ones, or slow ones that never finish a request's head.
    Hold(HoldOptions),
    /// Add the runs of several generators to one report.
    Merge(MergeOptions),
    /// Check a scenario file, or make one out of a session that a browser recorded.
    Scenario(ScenarioOptions),
    /// Print the arrivals that a run with the same options would plan, and send nothing.
    Plan(PrintOptions),
    /// Print the JSON schema of summary.json: every field with its definition, every number with its unit.
    Schema,
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

/// What every kind of run takes.
#[derive(Args, Clone, Debug)]
pub struct CommonOptions {
    /// Measured seconds.
    #[arg(long, value_name = "S", default_value = "10", value_parser = parse_seconds)]
    pub duration: u64,
    /// Seconds before them that are not counted.
    #[arg(long, value_name = "S", default_value = "0", value_parser = parse_seconds_or_zero)]
    pub warmup: u64,
    /// Seconds after its planned time at which a request has failed.
    #[arg(long, value_name = "S", default_value = "10", value_parser = parse_seconds)]
    pub timeout: u64,
    #[command(flatten)]
    pub plan: PlanOptions,
    #[command(flatten)]
    pub start: StartOptions,
    /// Pin the timing thread to this core, which it then keeps busy while an arrival is near.
    #[arg(long, value_name = "N")]
    pub core: Option<usize>,
    /// Microseconds of polling before each arrival; 50 with --core, otherwise 0.
    #[arg(long, value_name = "US")]
    pub spin_us: Option<u64>,
    /// Directory for summary.json, latency.hlog and the other files of the run.
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Objectives, as in p99<5ms,errors<0.1%: exit code 3 if one is missed.
    #[arg(long, value_name = "SLO")]
    pub slo: Option<Slo>,
    /// First measure for a second what this generator can do here at most, against a server of its own that does next to
    /// nothing: a run above half of that is suspect.
    #[arg(long)]
    pub calibrate: bool,
    /// Do not measure how late the machine lets threads run that only look at the clock.
    #[arg(long)]
    pub no_hiccup_meter: bool,
    /// No line a second on stderr.
    #[arg(long)]
    pub quiet: bool,
}

#[derive(Args, Clone, Debug)]
struct RunOptions {
    /// What to request, as in http://127.0.0.1:8080/path
    url: Target,
    /// Arrivals a second: an open loop, as are --arrivals with rates of their own.
    #[arg(long, value_name = "R", conflicts_with = "closed")]
    rate: Option<Rate>,
    /// A closed loop: each connection sends its next request when the last response is complete.
    #[arg(long, conflicts_with = "arrivals")]
    closed: bool,
    /// Connections.
    #[arg(long, value_name = "N", default_value = "64", value_parser = clap::value_parser!(u32).range(1..=60_000))]
    connections: u32,
    /// Requests on one connection: the last one asks to close, and the next needs a new connection. Without it
    /// connections stay.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    connection_requests: Option<u32>,
    #[command(flatten)]
    common: CommonOptions,
    /// The method.
    #[arg(long, default_value = "GET", value_parser = parse_method)]
    method: String,
    /// A field of the request; may be given again.
    #[arg(long, value_name = "NAME: VALUE")]
    header: Vec<Field>,
    /// A file that is sent as the body.
    #[arg(long, value_name = "FILE")]
    body_file: Option<PathBuf>,
    #[command(flatten)]
    expect: ExpectOptions,
    /// Read `Server-Timing` of the answers: what the slow ones are made of.
    #[arg(long)]
    server_timing: bool,
}

#[derive(Args, Clone, Debug)]
struct BrowseOptions {
    /// A scenario file.
    scenario: PathBuf,
    /// The system under test, as in http://127.0.0.1:8080
    url: Target,
    /// Sessions a second: they arrive by plan, whatever becomes of them; --arrivals may have rates of their own.
    #[arg(long, value_name = "R", conflicts_with = "users")]
    rate: Option<Rate>,
    /// Users, each of whom starts a session when the last one has ended; 10 without --rate.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    users: Option<u32>,
    /// With --rate: sessions at the same time; more are shed.
    #[arg(long, value_name = "N", default_value = "1000", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    sessions_max: u32,
    #[command(flatten)]
    pages: PageOptions,
    #[command(flatten)]
    archive: ArchiveOptions,
    #[command(flatten)]
    common: CommonOptions,
}

#[derive(Args, Clone, Debug)]
struct HoldOptions {
    /// Where to, as in http://127.0.0.1:8080/path
    url: Target,
    /// Connections that are held.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=60_000))]
    connections: u32,
    /// Send heads that never end, a byte every so many milliseconds, instead of one whole request a connection.
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(u64).range(10..=600_000))]
    drip_ms: Option<u64>,
    /// Source addresses, from 127.0.1.1 on, that the connections come from in turn; only to a loopback address.
    #[arg(long, value_name = "N", default_value = "1", value_parser = clap::value_parser!(u8).range(1..=250))]
    source_addresses: u8,
    /// Seconds after which it ends by itself; a signal ends it before.
    #[arg(long, value_name = "S", default_value = "3600", value_parser = parse_seconds)]
    duration: u64,
    /// Pin the thread to this core.
    #[arg(long, value_name = "N")]
    core: Option<usize>,
}

#[derive(Args, Clone, Debug)]
struct MergeOptions {
    /// Run directories.
    #[arg(required = true)]
    directories: Vec<PathBuf>,
    /// Where the merged run goes.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

/// Parses, performs, and returns the exit code: 0 fine, 1 failed, 2 bad usage, 3 an objective was missed, 4 the run is invalid.
pub fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Run(options) => perform_run(*options),
        Command::Browse(options) => perform_browse(*options),
        Command::Hold(options) => return perform_hold(&options),
        Command::Max(options) => return perform_max(&options),
        Command::Plan(options) => return perform_plan(&options),
        Command::Scenario(options) => return perform_scenario(&options),
        Command::Schema => {
            print!("{}", schema::SUMMARY);
            return ExitCode::SUCCESS;
        }
        Command::Completions { shell } => {
            let text = manual::completions(shell, "loadgen", Cli::command());
            print!("{}", String::from_utf8_lossy(&text));
            return ExitCode::SUCCESS;
        }
        Command::Man { dir } => {
            return match manual::pages(Cli::command(), &dir) {
                Ok(()) => ExitCode::SUCCESS,
                Err(wrong) => complain(&io::Error::other(wrong), EXIT_FAILED),
            };
        }
        Command::Merge(options) => merge(&options.directories, &options.out, std::env::args().collect()),
    };
    match outcome {
        Ok(summary) => conclude(&summary),
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => complain(&error, EXIT_USAGE),
        Err(error) => complain(&error, EXIT_FAILED),
    }
}

fn perform_hold(options: &HoldOptions) -> ExitCode {
    let order = hold::Order {
        address: options.url.address,
        authority: options.url.authority.clone(),
        path: options.url.path.clone(),
        connections: options.connections,
        drip: options.drip_ms.map(Duration::from_millis),
        source_addresses: options.source_addresses,
        duration: Duration::from_nanos(options.duration),
        core: options.core,
    };
    match hold::perform(&order) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => complain(&error, EXIT_USAGE),
        Err(error) => complain(&error, EXIT_FAILED),
    }
}

fn perform_max(options: &MaxOptions) -> ExitCode {
    match max::perform(options) {
        Ok(report) => {
            print!("{}", report.text());
            match report.outcome {
                Outcome::Found | Outcome::Above => ExitCode::SUCCESS,
                Outcome::Below => ExitCode::from(EXIT_SLO_MISSED),
                Outcome::GeneratorLimited | Outcome::Stopped | Outcome::Searching => ExitCode::from(EXIT_INVALID),
            }
        }
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => complain(&error, EXIT_USAGE),
        Err(error) => complain(&error, EXIT_FAILED),
    }
}

fn perform_scenario(options: &ScenarioOptions) -> ExitCode {
    match archive::perform(options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => complain(&error, EXIT_USAGE),
        Err(error) => complain(&error, EXIT_FAILED),
    }
}

fn perform_plan(options: &PrintOptions) -> ExitCode {
    match plan::print(options, &mut io::stdout().lock()) {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever reads has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => complain(&error, EXIT_USAGE),
        Err(error) => complain(&error, EXIT_FAILED),
    }
}

fn conclude(summary: &Summary) -> ExitCode {
    print!("{}", summary.text());
    match summary.verdict {
        Verdict::Valid | Verdict::Suspect if summary.slo.iter().all(|finding| finding.met) => ExitCode::SUCCESS,
        Verdict::Valid | Verdict::Suspect => ExitCode::from(EXIT_SLO_MISSED),
        Verdict::Invalid => ExitCode::from(EXIT_INVALID),
    }
}

fn complain(error: &io::Error, code: u8) -> ExitCode {
    eprintln!("loadgen: {error}");
    ExitCode::from(code)
}

fn perform_run(options: RunOptions) -> io::Result<Summary> {
    let common = &options.common;
    let plan = common.plan.plan(options.rate, common.warmup, common.duration)?;
    if plan.is_none() && !options.closed {
        let message = "say how much is to be sent: --rate R, --arrivals with rates of their own, or --closed";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
    }
    let variants = match plan.as_ref().and_then(Plan::trace) {
        None => vec![variant(&options, &options.method, &options.url.path, &read_body(&options)?)],
        Some(trace) => replayed(&options, trace)?,
    };
    let request = Request {
        address: Address::Tcp(options.url.address),
        variants,
        connection_requests_max: options.connection_requests.unwrap_or(u32::MAX),
        expected: options.expect.expect_status.clone(),
        checks: options.expect.checks().map_err(|message| io::Error::new(io::ErrorKind::InvalidInput, message))?,
        check_every: options.expect.check_every,
        server_timing: options.server_timing,
    };
    let url = format!("http://{}{}", options.url.authority, options.url.path);
    let stage = stage(url, plan, options.connections, common, run::tag_names());
    perform(&stage, |ready| run::run::<Uring>(&stage, &request, ready, &SystemClocks))
}

fn read_body(options: &RunOptions) -> io::Result<Vec<u8>> {
    options.body_file.as_ref().map_or(Ok(Vec::new()), |path| {
        fs::read(path)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, format!("{}: {error}", path.display())))
    })
}

/// The different requests of a log, each made once.
fn replayed(options: &RunOptions, trace: &Trace) -> io::Result<Vec<Variant>> {
    let wrong = |message: &str| Err(io::Error::new(io::ErrorKind::InvalidInput, message));
    if options.url.path != "/" {
        return wrong("a replay takes its paths from the log: write the URL without one");
    }
    if options.method != "GET" || options.body_file.is_some() {
        return wrong("a replay takes its methods from the log and has no bodies: leave --method and --body-file out");
    }
    if !options.common.quiet {
        eprint!("{}", trace.text());
    }
    Ok(trace.distinct.iter().map(|(method, path)| variant(options, method, path, &[])).collect())
}

/// A request as it will be sent for as long as the process lives.
fn variant(options: &RunOptions, method: &str, path: &str, body: &[u8]) -> Variant {
    let bytes = |closing: &[Field]| -> &'static [u8] {
        let mut bytes = Vec::new();
        let fields = options.header.iter().chain(closing).map(|field| (field.name.as_str(), field.value.as_str()));
        write_request(&mut bytes, method, path, &options.url.authority, fields, body);
        Vec::leak(bytes)
    };
    let close = Field { name: "Connection".to_owned(), value: "close".to_owned() };
    let open_bytes = bytes(&[]);
    // Without a limit no request is known to be a connection's last.
    let closing_bytes = if options.connection_requests.is_some() { bytes(&[close]) } else { open_bytes };
    Variant { bytes: open_bytes, closing_bytes, head: method == "HEAD" }
}

fn perform_browse(options: BrowseOptions) -> io::Result<Summary> {
    let file = options.scenario.display().to_string();
    let invalid = |message: String| io::Error::new(io::ErrorKind::InvalidInput, message);
    let text = fs::read_to_string(&options.scenario).map_err(|error| invalid(format!("{file}: {error}")))?;
    let scenario = Scenario::parse(&file, &text).map_err(invalid)?;
    let common = &options.common;
    let plan = common.plan.plan(options.rate, common.warmup, common.duration)?;
    if plan.is_some() && options.users.is_some() {
        return Err(invalid("--users are a closed loop, which has no plan: leave --arrivals or --users out".into()));
    }
    let users = if plan.is_some() { options.sessions_max } else { options.users.unwrap_or(USERS) };
    let site = Site {
        address: Address::Tcp(options.url.address),
        authority: options.url.authority.clone(),
        users,
        recorded_sessions: options.archive.recorded_sessions(),
    };
    let url = format!("http://{}", options.url.authority);
    let connections = users * browse::LINES_PER_USER;
    let mut stage = stage(url, plan, connections, common, browse::tag_names(&scenario));
    stage.page_slo = options.pages.page_slo.or(scenario.page_slo);
    let mut archive = None;
    let summary = perform(&stage, |ready| {
        let (finished, recorded) = browse::run::<Uring>(&stage, &site, &scenario, ready)?;
        archive = recorded;
        Ok(finished)
    });
    options.archive.write(archive.as_ref())?;
    summary
}

fn stage(url: String, plan: Option<Plan>, connections: u32, common: &CommonOptions, tag_names: Vec<String>) -> Stage {
    let spin_us = common.spin_us.unwrap_or(if common.core.is_some() { SPIN_US } else { 0 });
    Stage {
        url,
        plan,
        start_at: common.start.start_at,
        seed: common.plan.seed,
        connections,
        duration_ns: common.duration,
        warmup_ns: common.warmup,
        timeout_ns: common.timeout,
        core: common.core,
        spin_ns: spin_us * 1000,
        out: common.out.clone(),
        quiet: common.quiet,
        hiccup_meter: !common.no_hiccup_meter,
        calibrate: common.calibrate,
        argv: std::env::args().collect(),
        slo: common.slo.clone(),
        page_slo: None,
        tag_names,
    }
}

/// Seconds above zero as nanoseconds.
fn parse_seconds(text: &str) -> Result<u64, String> {
    match parse_seconds_or_zero(text)? {
        0 => Err("must be above 0".into()),
        ns => Ok(ns),
    }
}

fn parse_seconds_or_zero(text: &str) -> Result<u64, String> {
    let seconds: f64 = text.parse().map_err(|_| "write seconds, such as 10 or 0.5".to_owned())?;
    if !(0.0..=1e7).contains(&seconds) {
        return Err("write seconds from 0 to 10000000".into());
    }
    // The bounds were checked: below 2^53.
    Ok((seconds * 1e9).round() as u64)
}

fn parse_method(text: &str) -> Result<String, String> {
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_uppercase()) {
        Ok(text.to_owned())
    } else {
        Err("write a method in capitals, such as GET or POST".into())
    }
}
