//! The live comparison: the appliance under every policy, with slow handlers mixed in.
//!
//! ```text
//!   block: every policy once, in random order
//!   start appliance ── loadgen: the cheap page ───────────────┐
//!                   ── loadgen: the expensive list at the same time ─┴─ stop appliance
//! ```
//! The cheap page is one item of the catalog, the expensive one a search of the whole catalog: the same code tables
//! that a browser uses. Both arrive in an open loop, so that a long answer does not hold back what comes after it.

use std::path::Path;
use std::time::Duration;

use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{Rng, SeedableRng};
use serde::{Deserialize, Serialize};
use twintier::dispatch::PolicyName;

use crate::books;
use crate::failure::Failure;
use crate::http::get_json;
use crate::latency::Quantiles;
use crate::process::{Order, Process};
use crate::record::write_json;
use crate::statistics::{Better, Verdict, paired_ratio};
use crate::trial::Lab;

/// The expensive page: a list that is filtered and counted over all rows.
const SLOW_PATH: &str = "/reqcat/?words=lib&format=json";
const START_DEADLINE: Duration = Duration::from_secs(60);
const IMPORT_DEADLINE: Duration = Duration::from_secs(300);

/// What to measure.
#[derive(Clone, Debug)]
pub struct Plan {
    pub policies: Vec<PolicyName>,
    pub blocks: u32,
    pub duration_s: f64,
    pub warmup_s: f64,
    pub connections: u32,
    /// Cheap and expensive requests a second.
    pub rate: f64,
    pub slow_rate: f64,
    pub seed: u64,
}

/// One policy measured once.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LiveTrial {
    pub policy: String,
    pub block: u32,
    pub turn: u32,
    /// Folder of the generators' files, relative to the run directory.
    pub folder: String,
    pub requests: u64,
    pub failed: u64,
    /// Response time of the cheap requests.
    pub response_ns: Quantiles,
    pub slow_requests: u64,
    pub slow_failed: u64,
    pub slow_response_ns: Quantiles,
    /// Run time of the appliance's workers ÷ requests of both kinds.
    pub cpu_us_per_request: f64,
    pub dispatched_local: u64,
    pub dispatched_remote: u64,
    pub dispatched_after_wait: u64,
    /// Of the generator of the cheap requests.
    pub verdict: String,
    pub reasons: Vec<String>,
}

/// One ratio of a policy to the first one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LiveRatio {
    pub a: String,
    pub b: String,
    pub metric: String,
    pub ratio: Option<f64>,
    pub ci_low: Option<f64>,
    pub ci_high: Option<f64>,
    pub blocks: u32,
    pub verdict: Verdict,
}

/// The live part of a comparison.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Live {
    pub version: String,
    pub workers: u64,
    pub cheap_path: String,
    pub slow_path: String,
    pub rate: f64,
    pub slow_rate: f64,
    pub trials: Vec<LiveTrial>,
    pub ratios: Vec<LiveRatio>,
}

/// A running appliance.
struct Appliance {
    process: Process,
    http: String,
    admin: String,
    workers: u64,
}

/// Measures every policy in every block.
///
/// # Errors
/// The appliance or a generator fails, a deadline passes, or a signal arrives.
pub fn perform(lab: &Lab, root: &Path, plan: &Plan, say: &dyn Fn(&str)) -> Result<Live, Failure> {
    let folder = lab.folder.join("live");
    // The first start fills the catalog; every later one finds it in the same database.
    say("live: the first start imports the catalog");
    let appliance = start(lab, root, &folder.join("import"), None)?;
    let cheap_path = first_item(lab, &appliance)?;
    let version = get_json(&appliance.admin, "/status")?["version"].as_str().unwrap_or("unknown").to_owned();
    let mut live = Live {
        version,
        workers: appliance.workers,
        cheap_path,
        slow_path: SLOW_PATH.to_owned(),
        rate: plan.rate,
        slow_rate: plan.slow_rate,
        ..Live::default()
    };
    stop(appliance)?;
    let mut random = Xoshiro256PlusPlus::seed_from_u64(plan.seed);
    for block in 0..plan.blocks {
        for (turn, policy) in (0..).zip(shuffled(&plan.policies, &mut random)) {
            say(&format!("live: block {}/{}, {policy}", block + 1, plan.blocks));
            live.trials.push(trial(lab, root, plan, &live.cheap_path, (block, turn, policy))?);
        }
    }
    // The database served its purpose; a run directory is kept for its numbers. Where it stays, only space is lost.
    std::fs::remove_file(folder.join("catalog.duckdb")).ok();
    if let Some(first) = plan.policies.first() {
        live.ratios = ratios(first.as_str(), &plan.policies, &live.trials);
    }
    Ok(live)
}

fn shuffled(policies: &[PolicyName], random: &mut Xoshiro256PlusPlus) -> Vec<PolicyName> {
    let mut order = policies.to_vec();
    for last in (1..order.len()).rev() {
        let bound = u64::try_from(last + 1).expect("invariant: a length fits in 64 bits");
        order.swap(last, usize::try_from(random.next_u64() % bound).expect("invariant: smaller than a length"));
    }
    order
}

fn start(lab: &Lab, root: &Path, folder: &Path, policy: Option<PolicyName>) -> Result<Appliance, Failure> {
    let profile = root.join("profiles/quickstart.toml").to_string_lossy().into_owned();
    let database = format!("database.path={}", lab.folder.join("live/catalog.duckdb").display());
    let policy = format!("dispatch.policy={}", policy.unwrap_or_default());
    let mut arguments = vec!["serve", "--profile", &profile];
    for setting in ["listen.http=127.0.0.1:0", "listen.admin=127.0.0.1:0", &database, &policy] {
        arguments.extend(["--set", setting]);
    }
    let mut process = Process::start(&Order::new("twintier", &lab.programs.twintier, &arguments, folder))?;
    let line = process.ready(&lab.interrupt, START_DEADLINE)?;
    let workers = line.get("workers").and_then(|word| word.parse().ok()).unwrap_or(0);
    Ok(Appliance { process, http: line.address("http")?, admin: line.address("admin")?, workers })
}

fn stop(appliance: Appliance) -> Result<(), Failure> {
    let status = appliance.process.stop()?;
    if status.success() {
        return Ok(());
    }
    Err(Failure::Failed(format!("the appliance did not end in order after SIGTERM: {status}")))
}

/// Waits for the import and returns the path of the catalog's first item.
fn first_item(lab: &Lab, appliance: &Appliance) -> Result<String, Failure> {
    let found = lab.interrupt.wait_for(IMPORT_DEADLINE, || {
        std::thread::sleep(Duration::from_millis(100));
        let status = get_json(&appliance.admin, "/status")?;
        match status["storage"]["imports"][0]["state"].as_str() {
            Some("done") => {
                let list = get_json(&appliance.http, "/reqcat/?format=json")?;
                Ok(list["rows"][0]["item"].as_str().map(str::to_owned))
            }
            Some("failed") => Err(Failure::Failed(format!("the import failed; see http://{}/status", appliance.admin))),
            Some(_) | None => Ok(None),
        }
    })?;
    let item = found.ok_or_else(|| Failure::Failed("the catalog has no items in time".to_owned()))?;
    Ok(format!("/reqcat/items/{item}?format=json"))
}

/// What the workers had used and the dispatchers done.
struct Before {
    cpu_ns: u64,
    local: u64,
    remote: u64,
    waited: u64,
}

impl Before {
    fn read(appliance: &Appliance) -> Result<Self, Failure> {
        let status = get_json(&appliance.admin, "/status")?;
        let workers = status["workers"].as_array().cloned().unwrap_or_default();
        let sum = |place: &str| workers.iter().filter_map(|worker| worker.pointer(place)?.as_u64()).sum();
        Ok(Self {
            cpu_ns: sum("/cpu_ns"),
            local: sum("/front/dispatched_local"),
            remote: sum("/front/dispatched_remote"),
            waited: sum("/front/dispatched_after_wait"),
        })
    }
}

fn trial(
    lab: &Lab,
    root: &Path,
    plan: &Plan,
    cheap_path: &str,
    (block, turn, policy): (u32, u32, PolicyName),
) -> Result<LiveTrial, Failure> {
    let name = format!("live/b{block:02}-{policy}");
    let folder = lab.folder.join(&name);
    let mut appliance = start(lab, root, &folder, Some(policy))?;
    let before = Before::read(&appliance)?;
    let seed = plan.seed.wrapping_add(u64::from(block));
    let slow_connections = plan.connections.div_ceil(8);
    let (cheap_folder, slow_folder) = (folder.join("cheap"), folder.join("slow"));
    let cheap =
        generator(lab, plan, (&appliance.http, cheap_path), (plan.rate, plan.connections), seed, &cheap_folder)?;
    let slow =
        generator(lab, plan, (&appliance.http, SLOW_PATH), (plan.slow_rate, slow_connections), seed, &slow_folder)?;
    let mut wait = |generator, folder: &Path| {
        lab.await_generator(generator, folder, plan.warmup_s + plan.duration_s, |_| appliance.process.still_running())
    };
    let (cheap, slow) = (wait(cheap, &cheap_folder)?, wait(slow, &slow_folder)?);
    let after = Before::read(&appliance)?;
    let wrong = books::wrong(&appliance.admin)?;
    stop(appliance)?;
    let requests = cheap.completed + slow.completed;
    let trial = LiveTrial {
        policy: policy.as_str().to_owned(),
        block,
        turn,
        folder: name,
        requests: cheap.completed,
        failed: cheap.errors + cheap.timed_out + cheap.shed,
        response_ns: cheap.response_ns,
        slow_requests: slow.completed,
        slow_failed: slow.errors + slow.timed_out + slow.shed,
        slow_response_ns: slow.response_ns,
        cpu_us_per_request: (after.cpu_ns - before.cpu_ns) as f64 / 1e3 / requests.max(1) as f64,
        dispatched_local: after.local - before.local,
        dispatched_remote: after.remote - before.remote,
        dispatched_after_wait: after.waited - before.waited,
        verdict: if wrong.is_some() { "invalid".to_owned() } else { cheap.verdict },
        reasons: cheap.reasons.into_iter().chain(wrong).collect(),
    };
    write_json(&folder.join("trial.json"), &trial)?;
    Ok(trial)
}

fn generator(
    lab: &Lab,
    plan: &Plan,
    (address, path): (&str, &str),
    (rate, connections): (f64, u32),
    seed: u64,
    folder: &Path,
) -> Result<Process, Failure> {
    let (url, rate, connections) = (format!("http://{address}{path}"), rate.to_string(), connections.to_string());
    let (duration, warmup, seed) = (plan.duration_s.to_string(), plan.warmup_s.to_string(), seed.to_string());
    let out = folder.to_string_lossy().into_owned();
    let arguments = [
        "run",
        &url,
        "--rate",
        &rate,
        "--connections",
        &connections,
        "--duration",
        &duration,
        "--warmup",
        &warmup,
        "--arrivals",
        "poisson",
        "--seed",
        &seed,
        "--out",
        &out,
        "--quiet",
    ];
    Process::start(&Order::new("loadgen", &lab.programs.loadgen, &arguments, folder))
}

/// A metric of a trial. Lower is better of each.
type Metric = (&'static str, fn(&LiveTrial) -> f64);

const METRICS: [Metric; 4] = [
    ("p50_ns", |trial| trial.response_ns.p50.unwrap_or(0) as f64),
    ("p99_ns", |trial| trial.response_ns.p99.unwrap_or(0) as f64),
    ("slow_p50_ns", |trial| trial.slow_response_ns.p50.unwrap_or(0) as f64),
    ("cpu_us_per_request", |trial| trial.cpu_us_per_request),
];

/// The first policy ÷ each other, over the blocks in which both may be quoted.
fn ratios(first: &str, policies: &[PolicyName], trials: &[LiveTrial]) -> Vec<LiveRatio> {
    let sound = |name: &str, block: u32| {
        trials.iter().find(|trial| trial.policy == name && trial.block == block && trial.verdict != "invalid")
    };
    let blocks = trials.iter().map(|trial| trial.block + 1).max().unwrap_or(0);
    let others = policies.iter().map(|policy| policy.as_str()).filter(|&name| name != first);
    let each = others.flat_map(|other| METRICS.iter().map(move |metric| (other, metric)));
    each.map(|(other, (metric, of))| {
        let pairs: Vec<(f64, f64)> =
            (0..blocks).filter_map(|block| Some((of(sound(first, block)?), of(sound(other, block)?)))).collect();
        let ratio = paired_ratio(&pairs);
        LiveRatio {
            a: first.to_owned(),
            b: other.to_owned(),
            metric: (*metric).to_owned(),
            ratio: ratio.map(|ratio| ratio.ratio),
            ci_low: ratio.map(|ratio| ratio.ci_low),
            ci_high: ratio.map(|ratio| ratio.ci_high),
            blocks: u32::try_from(pairs.len()).unwrap_or(u32::MAX),
            verdict: ratio.map_or(Verdict::Underpowered, |ratio| ratio.verdict(Better::Lower)),
        }
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use twintier::dispatch::PolicyName;

    use super::{LiveTrial, Quantiles, ratios};
    use crate::statistics::Verdict;

    fn trial(policy: &str, block: u32, p99: u64, verdict: &str) -> LiveTrial {
        LiveTrial {
            policy: policy.into(),
            block,
            turn: 0,
            folder: String::new(),
            requests: 100,
            failed: 0,
            response_ns: Quantiles { p50: Some(10), p99: Some(p99), ..Quantiles::default() },
            slow_requests: 1,
            slow_failed: 0,
            slow_response_ns: Quantiles::default(),
            cpu_us_per_request: 1.0,
            dispatched_local: 0,
            dispatched_remote: 0,
            dispatched_after_wait: 0,
            verdict: verdict.into(),
            reasons: Vec::new(),
        }
    }

    #[test]
    fn blocks_pair_and_invalid_ones_do_not_count() {
        let trials = [
            trial("jbsq", 0, 100, "valid"),
            trial("random", 0, 200, "valid"),
            trial("random", 1, 220, "suspect"),
            trial("jbsq", 1, 110, "valid"),
            trial("jbsq", 2, 1, "invalid"),
            trial("random", 2, 100, "valid"),
        ];
        let ratios = ratios("jbsq", &[PolicyName::Jbsq, PolicyName::Random], &trials);
        let p99 = ratios.iter().find(|ratio| ratio.metric == "p99_ns").unwrap();
        assert_eq!((p99.b.as_str(), p99.blocks, p99.verdict), ("random", 2, Verdict::Faster));
        assert!((p99.ratio.unwrap() - 0.5).abs() < 1e-9);
        let slow = ratios.iter().find(|ratio| ratio.metric == "slow_p50_ns").unwrap();
        assert_eq!((slow.ratio, slow.verdict), (None, Verdict::Underpowered), "no quantile, no ratio");
    }
}
