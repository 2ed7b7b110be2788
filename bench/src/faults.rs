//! `bench faults`: deploys and replica kills while a load generator asks at half of what the appliance can do.
//!
//! ```text
//!   appliance up ─▶ closed loop: what it can do ─▶ open loop at half of that ───────────────────▶ summary.json
//!                                                    ├─ deploy, deploy, … evenly over the window ─┤
//!                                                    └─ stop and start a replica, … ──────────────┘
//! ```
//! A page is a safe request: none may fail, whatever happens to code and replicas meanwhile.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::failure::Failure;
use crate::http::{get_json, get_repeatedly, post};
use crate::latency::Quantiles;
use crate::machine::Jiffies;
use crate::opponent::Programs;
use crate::process::{Interrupt, Order, Process};
use crate::record::{RunRecord, make_folder, write_json};
use crate::table::{Table, count_text, quantile_text, rate_text};
use crate::trial::{GeneratorOrder, Lab};
use crate::{agreement, books, build, job, report};

const START_DEADLINE: Duration = Duration::from_secs(60);
/// For one deploy, and for a replica to stop or to take traffic again.
const FAULT_DEADLINE: Duration = Duration::from_secs(20);
const CALIBRATION_S: f64 = 3.0;
const WARMUP_S: f64 = 1.0;
/// Of the closed loop, and of the open one.
const CONNECTIONS: u32 = 32;
/// The last fault ends so long before the load does.
const TAIL_S: f64 = 1.5;
const PATH: &str = "/reqcat/items/article-1000";

/// What can be changed.
#[derive(Clone, Debug)]
pub struct Options {
    pub out: Option<PathBuf>,
    pub deploys: u32,
    pub kills: u32,
    pub duration_s: f64,
    pub seed: u64,
}

/// `faults.json`: what happened, and what browsers saw of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Faults {
    pub version: String,
    pub deploys: u32,
    pub kills: u32,
    pub replicas: u64,
    /// Requests a second that the closed loop had answered, and that were offered.
    pub capacity_per_s: f64,
    pub offered_per_s: f64,
    pub planned: u64,
    pub completed: u64,
    pub failed: u64,
    pub in_flight_at_end: u64,
    pub response_ns: Quantiles,
    /// From the order until every replica had the code; from the order to start until the replica took traffic.
    pub deploy_ms: Spread,
    pub rejoin_ms: Spread,
    /// Every entry of the books at the end; each must be 0.
    pub books: Vec<(String, i64)>,
    pub digests_equal: bool,
    pub verdict: String,
    pub reasons: Vec<String>,
}

/// Of some durations in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    pub p50: f64,
    pub max: f64,
}

impl Spread {
    fn of(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        let middle = values.get(values.len() / 2).copied().unwrap_or_default();
        Self { p50: middle, max: values.last().copied().unwrap_or_default() }
    }
}

/// Runs the campaign, prints its table and writes its files.
///
/// # Errors
/// A part does not start or misses its deadline; a request failed or the books do not balance (exit code 1); the
/// generator could not keep its plan (exit code 4).
pub fn perform(options: &Options, interrupt: &Interrupt) -> Result<(), Failure> {
    let root = build::source_root()?;
    let programs = Programs::find(&build::sibling_folder(&root, interrupt)?)?;
    let folder = make_folder("faults", options.out.clone())?;
    let mut record = RunRecord::begin("faults", &root);
    record.write(&folder)?;
    let jiffies = Jiffies::read(Path::new("/"));
    let lab = Lab { programs, interrupt: interrupt.clone(), cores: record.cores, folder: folder.clone() };
    let faults = campaign(&lab, &root, options)?;
    write_json(&folder.join("faults.json"), &faults)?;
    record.finish(jiffies);
    record.write(&folder)?;
    print!("{}", faults.table().text());
    println!("run directory: {}", folder.display());
    println!("report:        {}", report::write_page(&folder)?.display());
    faults.refuse()
}

impl Faults {
    /// What browsers saw.
    pub fn table(&self) -> Table {
        let mut table = Table::new(&["figure", "value"]);
        let mut row = |name: &str, value: String| table.push(vec![name.to_owned(), value]);
        row("version, replicas", format!("{}, {}", self.version, self.replicas));
        row("deploys / replicas stopped and started", format!("{} / {}", self.deploys, self.kills));
        row(
            "requests/s offered, of a capacity of",
            format!("{}, {}", rate_text(self.offered_per_s), rate_text(self.capacity_per_s)),
        );
        row(
            "requests planned / completed / failed",
            [self.planned, self.completed, self.failed].map(count_text).join(" / "),
        );
        if self.verdict != "invalid" {
            let latency = &self.response_ns;
            row("response p50 / p99 / p99.9", [latency.p50, latency.p99, latency.p999].map(quantile_text).join(" / "));
        }
        row(
            "deploy command, until every replica has it: p50 / longest",
            format!("{:.0} ms / {:.0} ms", self.deploy_ms.p50, self.deploy_ms.max),
        );
        row(
            "replica, from its start until it takes traffic: p50 / longest",
            format!("{:.0} ms / {:.0} ms", self.rejoin_ms.p50, self.rejoin_ms.max),
        );
        let books = self.books.iter().map(|(name, off)| format!("{name} {off}")).collect::<Vec<_>>().join(", ");
        row("books at the end", books);
        row("replicas' digests at the end", if self.digests_equal { "equal" } else { "differ" }.to_owned());
        table
    }

    /// # Errors
    /// What must not have happened did.
    fn refuse(&self) -> Result<(), Failure> {
        if self.failed > 0 {
            return Err(Failure::Failed(format!("{} of {} requests failed", self.failed, self.planned)));
        }
        if let Some((name, off)) = self.books.iter().find(|(_, off)| *off != 0) {
            return Err(Failure::Failed(format!("the books of {name} are off by {off}")));
        }
        if !self.digests_equal {
            return Err(Failure::Failed("the replicas do not agree at the end".to_owned()));
        }
        if self.verdict == "invalid" {
            return Err(Failure::Invalid(format!("the load is invalid: {}", self.reasons.join("; "))));
        }
        Ok(())
    }
}

fn campaign(lab: &Lab, root: &Path, options: &Options) -> Result<Faults, Failure> {
    let folder = lab.folder.join("appliance");
    let editions = editions(root, &folder)?;
    let (appliance, http, admin) = appliance(lab, root, &folder)?;
    let url = format!("http://{http}{PATH}");
    let load = |folder, rate, duration_s| GeneratorOrder {
        url: &url,
        rate,
        connections: CONNECTIONS,
        new_connections: false,
        warmup_s: WARMUP_S,
        duration_s,
        seed: options.seed,
        folder,
        server_timing: false,
    };
    let (calibration, loaded) = (lab.folder.join("calibration"), lab.folder.join("load"));
    let capacity_per_s = lab.generate(&load(&calibration, None, CALIBRATION_S), |_| Ok(()))?.achieved_rate;
    let offered_per_s = capacity_per_s / 2.0;

    let load = load(&loaded, Some(offered_per_s), options.duration_s);
    let generator = load.start(lab)?;
    let plan = Plan::new(options, replicas(&admin)?);
    let done = plan.carry_out(lab, &editions, &admin)?;
    let summary = lab.await_generator(generator, load.folder, load.length_s(), |_| Ok(()))?;
    let (books, digests_equal) = (books::read(&admin)?, agreement::wrong(&lab.interrupt, &[&admin])?.is_none());
    let status = get_json(&admin, "/status")?;
    write_json(&folder.join("status.json"), &status)?;
    let ended = appliance.stop()?;
    if !ended.success() {
        return Err(Failure::Failed(format!("the appliance did not end in order after SIGTERM: {ended}")));
    }
    let mut reasons = summary.reasons;
    let mut verdict = summary.verdict;
    if done.ended_s > WARMUP_S + options.duration_s {
        verdict = "invalid".to_owned();
        reasons.push(format!("the faults took {:.1} s, longer than the load; use a longer --duration", done.ended_s));
    }
    Ok(Faults {
        version: format!("twintier {}", status["version"].as_str().unwrap_or("unknown")),
        deploys: options.deploys,
        kills: options.kills,
        replicas: plan.replicas,
        capacity_per_s,
        offered_per_s,
        planned: summary.planned,
        completed: summary.completed,
        failed: summary.errors + summary.timed_out + summary.shed,
        in_flight_at_end: summary.in_flight_at_end,
        response_ns: summary.response_ns,
        deploy_ms: Spread::of(done.deploys_ms),
        rejoin_ms: Spread::of(done.rejoins_ms),
        books,
        digests_equal,
        verdict,
        reasons,
    })
}

/// Two sets of code tables that differ in a template.
fn editions(root: &Path, folder: &Path) -> Result<[PathBuf; 2], Failure> {
    let mut made = Vec::new();
    for name in ["one", "other"] {
        let to = folder.join("editions").join(name);
        copy(&root.join("profiles/reqcat/code"), &to)?;
        let layout = to.join("templates/layout.html");
        let text = fs::read_to_string(&layout).map_err(|error| Failure::file(&layout, &error))?;
        let text = text.replace("<footer>", &format!("<footer>Edition {name}. "));
        fs::write(&layout, text).map_err(|error| Failure::file(&layout, &error))?;
        made.push(to);
    }
    made.try_into().map_err(|_| Failure::Failed("two editions were wanted".to_owned()))
}

fn copy(from: &Path, to: &Path) -> Result<(), Failure> {
    fs::create_dir_all(to).map_err(|error| Failure::file(to, &error))?;
    for entry in fs::read_dir(from).map_err(|error| Failure::file(from, &error))? {
        let path = entry.map_err(|error| Failure::file(from, &error))?.path();
        let Some(name) = path.file_name() else { continue };
        let target = to.join(name);
        if path.is_dir() {
            copy(&path, &target)?;
        } else {
            fs::copy(&path, &target).map_err(|error| Failure::file(&path, &error))?;
        }
    }
    Ok(())
}

/// Starts the shipped appliance on a fresh database with a small catalog, and waits for the page.
fn appliance(lab: &Lab, root: &Path, folder: &Path) -> Result<(Process, String, String), Failure> {
    let supplier = folder.join("supplier.txt");
    fs::write(&supplier, job::app::catalog(job::app::ARTICLES)).map_err(|error| Failure::file(&supplier, &error))?;
    let supplier = std::path::absolute(&supplier).map_err(|error| Failure::file(&supplier, &error))?;
    let profile = root.join("profiles/quickstart.toml").to_string_lossy().into_owned();
    let settings = [
        "listen.http=127.0.0.1:0".to_owned(),
        "listen.admin=127.0.0.1:0".to_owned(),
        format!("database.path={}", folder.join("appliance.duckdb").display()),
        format!("storage.import.source={}", supplier.display()),
    ];
    let mut arguments = vec!["serve", "--profile", &profile];
    for setting in &settings {
        arguments.extend(["--set", setting]);
    }
    let mut process = Process::start(&Order::new("twintier", &lab.programs.twintier, &arguments, folder))?;
    let line = process.ready(&lab.interrupt, START_DEADLINE)?;
    let (http, admin) = (line.address("http")?, line.address("admin")?);
    let found = lab.interrupt.wait_for(START_DEADLINE, || {
        process.still_running()?;
        let answer = get_repeatedly(&http, PATH, 1)?.remove(0);
        Ok((answer.status == 200).then_some(()))
    })?;
    found.ok_or_else(|| Failure::Failed(format!("http://{http}{PATH} was not there in time{}", process.quote())))?;
    Ok((process, http, admin))
}

/// What is done to the appliance, and when, in seconds from the start of the load.
struct Plan {
    faults: Vec<(f64, Fault)>,
    replicas: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// Of one of the two editions.
    Deploy(usize),
    /// Of a replica, by number.
    Kill(u64),
}

/// What was done.
#[derive(Debug, Default)]
struct Done {
    deploys_ms: Vec<f64>,
    rejoins_ms: Vec<f64>,
    ended_s: f64,
}

impl Plan {
    /// Deploys and kills, each evenly over the window.
    fn new(options: &Options, replicas: u64) -> Self {
        let window_s = (options.duration_s - TAIL_S).max(1.0);
        let evenly =
            |count: u32| (0..count).map(move |number| WARMUP_S + window_s * f64::from(number) / f64::from(count));
        let deploys = evenly(options.deploys).zip([0, 1].into_iter().cycle().map(Fault::Deploy));
        let kills = evenly(options.kills).zip((0..replicas).cycle().map(Fault::Kill));
        let mut faults: Vec<(f64, Fault)> = deploys.chain(kills).collect();
        faults.sort_by(|one, other| one.0.total_cmp(&other.0));
        Self { faults, replicas }
    }

    fn carry_out(&self, lab: &Lab, editions: &[PathBuf; 2], admin: &str) -> Result<Done, Failure> {
        let began = Instant::now();
        let mut done = Done::default();
        for (at_s, fault) in &self.faults {
            let wait = Duration::from_secs_f64(*at_s).saturating_sub(began.elapsed());
            lab.interrupt.wait_for(wait, || Ok(None::<()>))?;
            match fault {
                Fault::Deploy(edition) => done.deploys_ms.push(deploy(lab, &editions[*edition], admin)?),
                Fault::Kill(replica) => done.rejoins_ms.push(kill(lab, *replica, admin)?),
            }
        }
        done.ended_s = began.elapsed().as_secs_f64();
        Ok(done)
    }
}

/// Milliseconds until every replica had it.
fn deploy(lab: &Lab, edition: &Path, admin: &str) -> Result<f64, Failure> {
    let folder = edition.to_string_lossy().into_owned();
    let arguments = ["deploy", "--admin", admin, &folder];
    let began = Instant::now();
    let mut process = Process::start(&Order::new("deploy", &lab.programs.twintier, &arguments, &lab.folder))?;
    match lab.interrupt.wait_for(FAULT_DEADLINE, || process.ended())? {
        Some(status) if status.success() => Ok(began.elapsed().as_secs_f64() * 1e3),
        Some(_) | None => Err(Failure::Failed(format!("a deploy failed{}", process.quote()))),
    }
}

/// Stops a replica and starts it again; milliseconds from the second order until it took traffic.
fn kill(lab: &Lab, replica: u64, admin: &str) -> Result<f64, Failure> {
    post(admin, &format!("/servers/replica/{replica}/stop"))?;
    until_state(lab, admin, replica, false)?;
    let began = Instant::now();
    post(admin, &format!("/servers/replica/{replica}/start"))?;
    until_state(lab, admin, replica, true)?;
    Ok(began.elapsed().as_secs_f64() * 1e3)
}

fn until_state(lab: &Lab, admin: &str, replica: u64, running: bool) -> Result<(), Failure> {
    let found = lab.interrupt.wait_for(FAULT_DEADLINE, || {
        let status = get_json(admin, "/status")?;
        let runs = replica_reports(&status).any(|report| report["replica"] == replica && report["running"] == true);
        Ok((runs == running).then_some(()))
    })?;
    let wanted = if running { "running" } else { "stopped" };
    found.ok_or_else(|| {
        Failure::Failed(format!("replica {replica} was not {wanted} in time; see http://{admin}/status"))
    })
}

fn replicas(admin: &str) -> Result<u64, Failure> {
    let status = get_json(admin, "/status")?;
    let count = replica_reports(&status).count();
    u64::try_from(count).map_err(|_| Failure::Failed("too many replicas".to_owned()))
}

fn replica_reports(status: &Value) -> impl Iterator<Item = &Value> {
    let workers = status["workers"].as_array().map(Vec::as_slice).unwrap_or_default();
    workers.iter().map(|worker| &worker["replica"]).filter(|replica| replica.is_object())
}

#[cfg(test)]
mod tests {
    use super::{Fault, Options, Plan, Spread, TAIL_S, WARMUP_S};

    #[test]
    fn faults_are_spread_evenly_and_end_before_the_load() {
        let options = Options { out: None, deploys: 100, kills: 20, duration_s: 40.0, seed: 1 };
        let plan = Plan::new(&options, 2);
        let kills: Vec<Fault> =
            plan.faults.iter().map(|(_, fault)| *fault).filter(|fault| matches!(fault, Fault::Kill(_))).collect();
        assert_eq!((plan.faults.len(), kills.len()), (120, 20));
        assert_eq!(kills[..3], [Fault::Kill(0), Fault::Kill(1), Fault::Kill(0)]);
        assert!(plan.faults.is_sorted_by(|one, other| one.0 <= other.0));
        assert!(plan.faults.iter().all(|(at_s, _)| *at_s >= WARMUP_S && *at_s < WARMUP_S + 40.0 - TAIL_S));
    }

    #[test]
    fn a_spread_is_middle_and_end() {
        assert_eq!(Spread::of(vec![3.0, 1.0, 2.0]), Spread { p50: 2.0, max: 3.0 });
        assert_eq!(Spread::of(Vec::new()), Spread::default());
    }
}
