//! `bench quick`: the main job in about a minute.
//!
//! ```text
//!   appliance up ─▶ catalog imported ─▶ browsers for 15 s ─▶ appliance down ─▶ proxy job ─▶ table
//! ```

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::books;
use crate::case::{Case, Work};
use crate::compare::{self, Plan, PlannedCase};
use crate::failure::Failure;
use crate::http::get_json;
use crate::job::ProxyStage;
use crate::latency::Quantiles;
use crate::machine::{Jiffies, ProcessGroup};
use crate::opponent::{Answer, Engine, Kind, OriginOrder, Programs, start_origin};
use crate::process::{Interrupt, Order, Process};
use crate::record::{RunRecord, make_folder, write_json};
use crate::trial::{BrowseSummary, Lab, Summary};
use crate::{build, report, store};

/// For the appliance to open its database and listen.
const START_DEADLINE: Duration = Duration::from_secs(60);
/// For 60,000 records to be imported, many times over.
const IMPORT_DEADLINE: Duration = Duration::from_secs(180);
/// For the import to be listed at all.
const IMPORT_LISTED_DEADLINE: Duration = Duration::from_secs(15);
/// What the browser load may take beyond its duration.
const BROWSE_SLACK: Duration = Duration::from_secs(60);
/// Bytes of the body in the proxy job.
const BODY_BYTES: usize = 128;
const CONNECTIONS: u32 = 64;
const WARMUP_S: f64 = 0.3;

/// What can be changed about the minute.
#[derive(Clone, Debug)]
pub struct Options {
    pub out: Option<PathBuf>,
    pub store: PathBuf,
    pub users: u32,
    pub browse_s: f64,
    pub blocks: u32,
    pub duration_s: f64,
    pub seed: u64,
}

/// `quick.json`: what the appliance did.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Appliance {
    /// Asked of the running program.
    pub version: String,
    pub engine: String,
    pub workers: u64,
    pub import: Import,
    pub browse: Browse,
    /// Elements of the claim chart after the load, and those that hold; `None` where it could not be asked for.
    pub claim: Option<Claim>,
}

/// The import's own report.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Import {
    pub file: String,
    pub state: String,
    pub read: u64,
    pub taken: u64,
    pub unchanged: u64,
    pub duplicate: u64,
    pub rejected: u64,
    pub elapsed_ms: u64,
    pub records_per_s: u64,
}

/// The browser load and what it cost the appliance.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Browse {
    pub users: u32,
    pub duration_s: f64,
    pub planned: u64,
    pub completed: u64,
    pub failed: u64,
    pub in_flight_at_end: u64,
    pub requests_per_s: f64,
    pub response_ns: Quantiles,
    pub browsers: Option<BrowseSummary>,
    /// Taken by the front servers while the load ran.
    pub requests_taken: u64,
    /// Run time of the workers, and of all threads of the process (a sign-in costs a password hash), ÷ requests taken.
    pub worker_cpu_us_per_request: Option<f64>,
    pub process_cpu_us_per_request: Option<f64>,
    /// The generator's, with its reasons.
    pub verdict: String,
    pub reasons: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    pub elements: u64,
    pub holding: u64,
}

/// Runs the minute and prints its table.
///
/// # Errors
/// A part does not start, fails, or misses its deadline; a signal arrives; a run is invalid.
pub fn perform(options: &Options, interrupt: &Interrupt) -> Result<(), Failure> {
    let root = build::source_root()?;
    let programs = Programs::find(&build::sibling_folder(&root, interrupt)?)?;
    let folder = make_folder("quick", options.out.clone())?;
    let started = Instant::now();
    let mut record = RunRecord::begin("quick", &root);
    record.write(&folder)?;
    let jiffies = Jiffies::read(Path::new("/"));
    let lab = Lab { programs, interrupt: interrupt.clone(), cores: record.cores, folder: folder.clone() };

    let appliance = appliance_job(&lab, &root, options)?;
    write_json(&folder.join("quick.json"), &appliance)?;

    let (systems, absent) = compare::select(&lab, &Kind::QUICK);
    let case = Case::keep_alive(Work::Proxy, CONNECTIONS, BODY_BYTES);
    let mut plan = Plan {
        job: "proxy",
        cases: vec![PlannedCase { case, systems: (0..systems.len()).collect() }],
        systems,
        blocks: options.blocks,
        duration_s: options.duration_s,
        warmup_s: WARMUP_S,
        seed: options.seed,
        soak: None,
    }
    .with_floor_only();
    record.absent = absent;
    say(&format!(
        "proxy job: {CONNECTIONS} connections, {BODY_BYTES} B, {} blocks of {} s in random order, seed {}",
        plan.blocks, plan.duration_s, plan.seed
    ));
    say(&format!("  {}", lab.cores.text()));
    for absent in &record.absent {
        say(&format!("  {} is absent: {}", absent.name, absent.reason));
    }
    let stage = ProxyStage::start(&lab, &[BODY_BYTES])?;
    compare::survey(&lab, &stage, &mut plan, &mut record)?;
    let comparison = compare::perform(&lab, &stage, &plan, &record)?;
    record.finish(jiffies);
    record.write(&folder)?;
    store::add_run(&options.store, &folder, &record, &compare::read_trials(&folder)?, &comparison)?;

    println!("\n{}", report::terminal(&record, &comparison, Some(&appliance)));
    println!("run directory: {}  ({:.0} s)", folder.display(), started.elapsed().as_secs_f64());
    println!("report:        {}", report::write_page(&folder)?.display());
    if appliance.browse.verdict == "invalid" {
        return Err(Failure::Invalid(format!("the browser load is invalid: {}", appliance.browse.reasons.join("; "))));
    }
    report::refuse_invalid(&comparison)
}

/// Progress in words, on standard error; results go to standard output.
pub fn say(line: &str) {
    eprintln!("{line}");
}

/// Starts the appliance, waits for its catalog, loads it with browsers, and stops it.
fn appliance_job(lab: &Lab, root: &Path, options: &Options) -> Result<Appliance, Failure> {
    let folder = lab.folder.join("appliance");
    let suppliers = OriginOrder {
        name: "suppliers",
        core: None,
        engine: Engine::Auto,
        answer: Answer::Bytes(BODY_BYTES),
        folder: &folder,
        env_padding_bytes: 0,
        burn_ns: 0,
    };
    let (suppliers, suppliers_address) = start_origin(&lab.programs, &lab.interrupt, &suppliers)?;
    say("appliance: profiles/quickstart.toml, a fresh database");
    let (mut appliance, addresses) = start_appliance(lab, root, &folder, &suppliers_address)?;
    say(&format!(
        "  ready: http://{}/  admin http://{}/  engine {}, {} workers",
        addresses.http, addresses.admin, addresses.engine, addresses.workers
    ));

    let import = wait_for_import(lab, &mut appliance, &addresses.admin)?;
    say(&format!(
        "  catalog: {} records read, {} taken, {} rejected in {:.1} s ({} records/s)",
        import.read,
        import.taken,
        import.rejected,
        import.elapsed_ms as f64 / 1e3,
        import.records_per_s
    ));

    say(&format!("browsers: {} users for {} s", options.users, options.browse_s));
    let before = Cost::read(&addresses.admin, &appliance)?;
    let summary = browse(lab, root, &mut appliance, &addresses.http, options)?;
    refuse_failed_sessions(&summary)?;
    let after = Cost::read(&addresses.admin, &appliance)?;
    write_json(&folder.join("status.json"), &after.status)?;
    let claim = claim(lab, &folder, &addresses.admin);
    let wrong = books::wrong(&addresses.admin)?;
    let version = after.status["version"].as_str().unwrap_or("unknown").to_owned();

    for (process, name) in [(appliance, "the appliance"), (suppliers, "the suppliers' origin")] {
        let status = process.stop()?;
        if !status.success() {
            return Err(Failure::Failed(format!(
                "{name} did not end in order after SIGTERM: {status}; see {}",
                folder.display()
            )));
        }
    }
    Ok(Appliance {
        version: format!("twintier {version}"),
        engine: addresses.engine,
        workers: addresses.workers,
        import,
        browse: with_books(browse_figures(options, summary, &before, &after), wrong),
        claim,
    })
}

struct Addresses {
    http: String,
    admin: String,
    engine: String,
    workers: u64,
}

fn start_appliance(lab: &Lab, root: &Path, folder: &Path, suppliers: &str) -> Result<(Process, Addresses), Failure> {
    let profile = root.join("profiles/quickstart.toml").to_string_lossy().into_owned();
    let database = format!("database.path={}", folder.join("appliance.duckdb").display());
    let backend = format!("backends.suppliers={suppliers}");
    let arguments = [
        "serve",
        "--profile",
        &profile,
        "--set",
        "listen.http=127.0.0.1:0",
        "--set",
        "listen.admin=127.0.0.1:0",
        "--set",
        &database,
        "--set",
        &backend,
    ];
    let mut process = Process::start(&Order::new("twintier", &lab.programs.twintier, &arguments, folder))?;
    let line = process.ready(&lab.interrupt, START_DEADLINE)?;
    let addresses = Addresses {
        http: line.address("http")?,
        admin: line.address("admin")?,
        engine: line.get("engine").unwrap_or("unknown").to_owned(),
        workers: line.get("workers").and_then(|word| word.parse().ok()).unwrap_or(0),
    };
    Ok((process, addresses))
}

fn wait_for_import(lab: &Lab, appliance: &mut Process, admin: &str) -> Result<Import, Failure> {
    let style = ProgressStyle::with_template("  import {bar:24} {percent:>3} %  {msg}")
        .expect("invariant: a constant template");
    let bar = ProgressBar::new(1).with_style(style);
    let started = Instant::now();
    let import = lab.interrupt.wait_for(IMPORT_DEADLINE, || {
        appliance.still_running()?;
        // Ten looks a second: the progress is for people, and the import is what is being timed.
        std::thread::sleep(Duration::from_millis(100));
        let status = get_json(admin, "/status")?;
        let Some(report) = status["storage"]["imports"].get(0) else {
            return if started.elapsed() < IMPORT_LISTED_DEADLINE {
                Ok(None)
            } else {
                Err(Failure::Failed(format!(
                    "the appliance lists no import of its catalog; see http://{admin}/status and {}",
                    lab.folder.display()
                )))
            };
        };
        let number = |key: &str| report[key].as_u64().unwrap_or(0);
        bar.set_length(number("bytes_total").max(1));
        bar.set_position(number("bytes"));
        bar.set_message(format!(
            "{} read, {} taken, {} records/s",
            number("read"),
            number("taken"),
            number("records_per_s")
        ));
        let import: Import = serde_json::from_value(report.clone())
            .map_err(|error| Failure::Failed(format!("the import's report: {error}")))?;
        match import.state.as_str() {
            "done" => Ok(Some(import)),
            "failed" => Err(Failure::Failed(format!(
                "the import of {} failed; see the agent's work at http://{admin}/status",
                import.file
            ))),
            _ => Ok(None),
        }
    });
    bar.finish_and_clear();
    import?
        .ok_or_else(|| Failure::Failed(format!("the catalog was not imported within {} s", IMPORT_DEADLINE.as_secs())))
}

fn browse(lab: &Lab, root: &Path, appliance: &mut Process, http: &str, options: &Options) -> Result<Summary, Failure> {
    let scenario = root.join("profiles/reqcat/browse.toml").to_string_lossy().into_owned();
    let folder = lab.folder.join("browse");
    let out = folder.to_string_lossy().into_owned();
    let (url, users) = (format!("http://{http}"), options.users.to_string());
    let (duration, seed) = (options.browse_s.to_string(), options.seed.to_string());
    let arguments =
        ["browse", &scenario, &url, "--users", &users, "--duration", &duration, "--seed", &seed, "--out", &out];
    let mut order = Order::new("loadgen", &lab.programs.loadgen, &arguments, &folder);
    order.show_errors = true;
    let mut process = Process::start(&order)?;
    let deadline = Duration::from_secs_f64(options.browse_s) + BROWSE_SLACK;
    let status = lab.interrupt.wait_for(deadline, || {
        // First the appliance: once it is gone, the generator only counts refused connections.
        appliance.still_running()?;
        process.ended()
    })?;
    match status.map(|status| status.code()) {
        // 4: the run is invalid, for the reasons in its summary.
        Some(Some(0 | 4)) => Summary::read(&folder),
        Some(_) => Err(Failure::Failed(format!("loadgen browse failed{}", process.quote()))),
        None => Err(Failure::Failed(format!("loadgen browse did not end within {} s", deadline.as_secs()))),
    }
}

/// A load under which no user came to the end of a session has not done the job, however fast it was.
fn refuse_failed_sessions(summary: &Summary) -> Result<(), Failure> {
    match &summary.browse {
        Some(browse) if browse.sessions_completed == 0 && browse.sessions_failed > 0 => {
            let steps: Vec<String> =
                browse.failed_steps.iter().map(|(step, count)| format!("{step} ({count} times)")).collect();
            Err(Failure::Failed(format!(
                "no browser session came to its end, all {} failed, in the steps: {}",
                browse.sessions_failed,
                steps.join(", ")
            )))
        }
        Some(_) | None => Ok(()),
    }
}

/// What the appliance had taken and used at a moment.
struct Cost {
    status: Value,
    requests: u64,
    worker_ns: u64,
    process_ns: u64,
}

impl Cost {
    fn read(admin: &str, appliance: &Process) -> Result<Self, Failure> {
        let status = get_json(admin, "/status")?;
        let workers = status["workers"].as_array().cloned().unwrap_or_default();
        let sum = |of: &dyn Fn(&Value) -> Option<u64>| workers.iter().filter_map(of).sum();
        Ok(Self {
            requests: sum(&|worker| worker["front"]["counters"]["requests_taken"].as_u64()),
            worker_ns: sum(&|worker| worker["cpu_ns"].as_u64()),
            process_ns: ProcessGroup::find(Path::new("/proc"), &[appliance.id()]).cpu_ns(),
            status,
        })
    }
}

/// A load after which the books do not balance has no figures.
fn with_books(mut browse: Browse, wrong: Option<String>) -> Browse {
    if let Some(wrong) = wrong {
        "invalid".clone_into(&mut browse.verdict);
        browse.reasons.insert(0, wrong);
    }
    browse
}

fn browse_figures(options: &Options, summary: Summary, before: &Cost, after: &Cost) -> Browse {
    let requests_taken = after.requests.saturating_sub(before.requests);
    let per_request = |ns: u64| (requests_taken > 0 && ns > 0).then(|| ns as f64 / 1e3 / requests_taken as f64);
    Browse {
        users: options.users,
        duration_s: summary.duration_s,
        planned: summary.planned,
        completed: summary.completed,
        failed: summary.errors + summary.timed_out + summary.shed,
        in_flight_at_end: summary.in_flight_at_end,
        requests_per_s: summary.achieved_rate,
        response_ns: summary.response_ns,
        browsers: summary.browse,
        requests_taken,
        worker_cpu_us_per_request: per_request(after.worker_ns.saturating_sub(before.worker_ns)),
        process_cpu_us_per_request: per_request(after.process_ns.saturating_sub(before.process_ns)),
        verdict: summary.verdict,
        reasons: summary.reasons,
    }
}

/// Asks for the claim chart and keeps it beside the run. It is evidence, not a part of the measurement: where it
/// cannot be had, the run goes on.
fn claim(lab: &Lab, folder: &Path, admin: &str) -> Option<Claim> {
    let chart = get_json(admin, "/claim").ok()?;
    write_json(&folder.join("claim.json"), &chart).ok()?;
    let elements = chart["elements"].as_array()?;
    let holding = elements.iter().filter(|element| element["holds"].as_bool() == Some(true)).count();
    lab.interrupt.check().ok()?;
    Some(Claim { elements: u64::try_from(elements.len()).ok()?, holding: u64::try_from(holding).ok()? })
}
