//! What the trials come to: a line for each system and case, ratios, and figures with a target of their own.

mod control;
mod equal;
mod tiers;

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::case::{Case, Load};
use crate::control::twin_of;
use crate::failure::Failure;
use crate::latency::{Quantiles, add_log, histogram};
use crate::memory::Soak;
use crate::record::{RunRecord, Surveyed, read_json};
use crate::statistics::{Better, Verdict, bootstrap_interval, mean_interval, paired_ratio};
use crate::table::count_text;
use crate::target::{self, BEST, Holds, Target};
use crate::threads::{CpuUse, Switches};
use crate::trial::{Role, Trial};

pub use control::{Floor, null_text};
pub use equal::{EqualWork, equal_work_text};
pub use tiers::Tiers;
#[cfg(test)]
pub use tiers::{Exemplar, SlowRequests};

/// `compare.json`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// One entry for each system and case.
    pub systems: Vec<Measured>,
    /// Ours against each other one, and against the best of the references.
    pub ratios: Vec<RatioRow>,
    /// Figures that are compared with a bound instead of with another system.
    pub bounds: Vec<Bound>,
    /// The first own system against itself, a row for each metric: the comparison must be able to say "no difference".
    #[serde(default)]
    pub null: Vec<RatioRow>,
    /// What the generator measures against the null server, by case.
    #[serde(default)]
    pub floor: Vec<Floor>,
    /// Where the time of requests went, by the systems that say so.
    #[serde(default)]
    pub tiers: Vec<Tiers>,
    /// Where the work of the systems differs.
    #[serde(default)]
    pub equal_work: Vec<EqualWork>,
}

/// A system in one case, over all blocks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    pub name: String,
    pub version: String,
    #[serde(flatten)]
    pub case: Case,
    pub blocks: u32,
    pub requests: u64,
    pub failed: u64,
    /// Requests of all windows ÷ their length.
    pub throughput_per_s: f64,
    /// Run time of the system in all windows ÷ their requests.
    pub cpu_us_per_request: f64,
    /// Quantiles of the merged histograms; `null` where the samples do not support one.
    pub p50_ns: Option<u64>,
    pub p99_ns: Option<u64>,
    pub p999_ns: Option<u64>,
    pub max_ns: Option<u64>,
    /// Mean of the blocks' rates in an open loop.
    pub rate_per_s: Option<f64>,
    /// User memory for each held connection, mean of the blocks.
    pub user_bytes_per_connection: Option<f64>,
    /// The worst verdict of the generator, and all reasons.
    pub verdict: String,
    pub reasons: Vec<String>,
    /// What `cpu_us_per_request` is made of.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub cpu_by_group: BTreeMap<String, CpuUse>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub switches: Option<Switches>,
    /// Hardware counters by perf's names, for each request.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub counters: BTreeMap<String, f64>,
}

#[cfg(test)]
impl Measured {
    /// A system of which nothing is known.
    pub fn none(case: Case) -> Self {
        Self {
            name: String::new(),
            version: String::new(),
            case,
            blocks: 0,
            requests: 0,
            failed: 0,
            throughput_per_s: 0.0,
            cpu_us_per_request: 0.0,
            p50_ns: None,
            p99_ns: None,
            p999_ns: None,
            max_ns: None,
            rate_per_s: None,
            user_bytes_per_connection: None,
            verdict: "invalid".to_owned(),
            reasons: Vec::new(),
            cpu_by_group: BTreeMap::new(),
            switches: None,
            counters: BTreeMap::new(),
        }
    }
}

/// `a` ÷ `b` of one metric in one case.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RatioRow {
    pub a: String,
    pub b: String,
    pub metric: String,
    #[serde(flatten)]
    pub case: Case,
    /// `null` together with the interval where fewer than two blocks are complete.
    pub ratio: Option<f64>,
    pub ci_low: Option<f64>,
    pub ci_high: Option<f64>,
    /// The same by BCa bootstrap; `null` with fewer than five blocks.
    #[serde(default)]
    pub bca_low: Option<f64>,
    #[serde(default)]
    pub bca_high: Option<f64>,
    pub blocks: u32,
    pub verdict: Verdict,
    /// For `underpowered`: blocks that would decide, if the scatter stays as it is.
    pub blocks_to_decide: Option<u32>,
    pub target: Option<Target>,
    pub holds: Option<Holds>,
}

impl RatioRow {
    /// Whether the interval says that there is a difference.
    pub fn excludes_one(&self) -> bool {
        excludes(self.ci_low, self.ci_high)
    }

    /// Whether the bootstrap says another thing about 1 than Student's t does.
    pub fn intervals_disagree(&self) -> bool {
        self.bca_low.is_some() && excludes(self.bca_low, self.bca_high) != self.excludes_one()
    }

    /// Both intervals, for people who must not lean on one of them.
    pub fn disagreement_text(&self) -> String {
        let bca = |value: Option<f64>| value.map_or_else(|| "n/a".to_owned(), |value| format!("{value:.3}"));
        format!(
            "{} ÷ {}, {}, {}: Student's t says {}, the bootstrap [{}, {}]: near the edge, repeat with more blocks",
            self.a,
            self.b,
            metric_words(&self.metric),
            self.case.title(),
            self.interval_text(),
            bca(self.bca_low),
            bca(self.bca_high)
        )
    }

    /// `0.712 [0.680, 0.750]`
    pub fn interval_text(&self) -> String {
        match (self.ratio, self.ci_low, self.ci_high) {
            (Some(ratio), Some(low), Some(high)) => format!("{ratio:.3} [{low:.3}, {high:.3}]"),
            _ => "n/a".to_owned(),
        }
    }
}

fn excludes(low: Option<f64>, high: Option<f64>) -> bool {
    low.is_some_and(|low| low > 1.0) || high.is_some_and(|high| high < 1.0)
}

/// A metric in words.
pub fn metric_words(metric: &str) -> &str {
    match metric {
        "cpu_us_per_request" => "CPU per request",
        "throughput_per_s" => "requests per second",
        "p50_ns" => "p50",
        "p99_ns" => "p99",
        "p999_ns" => "p99.9",
        "user_bytes_per_idle_connection" => "user memory of an idle connection, B",
        "rss_growth_bytes_per_million_requests" => "growth of RSS, B per million requests",
        other => other,
    }
}

/// A figure of one system with its bound.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Bound {
    pub system: String,
    pub metric: String,
    /// What it was measured in, in words.
    pub of: String,
    pub value: Option<f64>,
    pub ci_low: Option<f64>,
    pub ci_high: Option<f64>,
    pub target: Target,
    pub holds: Holds,
}

/// A metric of a trial and its good direction.
struct Metric {
    name: &'static str,
    better: Better,
    of: fn(&Trial) -> f64,
}

/// Absent quantiles become 0, of which no ratio is taken.
fn quantile(value: Option<u64>) -> f64 {
    value.map_or(0.0, |ns| ns as f64)
}

const METRICS: [Metric; 5] = [
    Metric { name: "cpu_us_per_request", better: Better::Lower, of: |trial| trial.cpu_us_per_request },
    Metric { name: "throughput_per_s", better: Better::Higher, of: |trial| trial.throughput_per_s },
    Metric { name: "p50_ns", better: Better::Lower, of: |trial| quantile(trial.latency_ns.p50) },
    Metric { name: "p99_ns", better: Better::Lower, of: |trial| quantile(trial.latency_ns.p99) },
    Metric { name: "p999_ns", better: Better::Lower, of: |trial| quantile(trial.latency_ns.p999) },
];

/// Systems of ours that are compared with everybody, where they take part.
const PROTAGONISTS: [&str; 2] = ["twintier", "twintier-pipeline"];
/// Where it takes part, everybody else is there for it.
const APPLIANCE: &str = "twintier-appliance";
const REFERENCES: [&str; 2] = ["nginx", "haproxy"];

/// What the trials come to. The same for a run that just ended and for its directory years later.
///
/// # Errors
/// A histogram log cannot be read.
pub fn evaluate(folder: &Path, record: &RunRecord, trials: &[Trial]) -> Result<Comparison, Failure> {
    let mut comparison = Comparison::default();
    let Some(plan) = &record.plan else { return Ok(comparison) };
    comparison.equal_work = EqualWork::of(&record.systems, trials);
    let mut floors = Vec::new();
    for case in &plan.cases {
        let of_case: Vec<&Trial> = trials.iter().filter(|trial| trial.case == *case).collect();
        let mut names: Vec<&str> = Vec::new();
        for surveyed in &record.systems {
            let own: Vec<&Trial> = of_case.iter().filter(|trial| trial.system == surveyed.name).copied().collect();
            if own.is_empty() {
                continue;
            }
            match surveyed.role {
                Role::Measured => {
                    names.push(&surveyed.name);
                    comparison.systems.push(measure(folder, surveyed, case, &own)?);
                    comparison.bounds.extend(idle_bound(&surveyed.name, case, &own));
                }
                Role::Null => {
                    let twin = twin_of(&surveyed.name);
                    let rows = METRICS.iter().filter(|metric| concerns(case, metric));
                    let rows = rows.map(|metric| compare(metric, &plan.job, case, &of_case, twin, &surveyed.name));
                    comparison.null.extend(rows.map(|row| RatioRow { target: None, holds: None, ..row }));
                }
                Role::Floor => {
                    let generator = mean(own.iter().filter_map(|trial| trial.generator_cpu_us_per_request));
                    floors.push((measure(folder, surveyed, case, &own)?, generator));
                }
                Role::Tiers => comparison.tiers.extend(Tiers::of(folder, twin_of(&surveyed.name), case, &own)?),
            }
        }
        for (a, b) in pairs(&plan.job, &names) {
            let rows = METRICS.iter().filter(|metric| concerns(case, metric));
            comparison.ratios.extend(rows.map(|metric| compare(metric, &plan.job, case, &of_case, &a, &b)));
        }
    }
    let beside = |(measured, generator)| Floor::beside(measured, generator, &comparison.systems);
    comparison.floor = floors.into_iter().map(beside).collect();
    for surveyed in &record.systems {
        let path = folder.join("soak").join(&surveyed.name).join("soak.json");
        if path.is_file() {
            comparison.bounds.push(soak_bound(&read_json(&path)?));
        }
    }
    Ok(comparison)
}

/// In an open loop the rate is given, and is nobody's merit.
fn concerns(case: &Case, metric: &Metric) -> bool {
    case.load != Load::Rate || metric.name != "throughput_per_s"
}

/// Who is compared with whom, in a case in which `names` took part.
fn pairs(job: &str, names: &[&str]) -> Vec<(String, String)> {
    let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
    if job == "slow" {
        let slow = names.iter().filter_map(|name| Some((*name, name.strip_suffix("+slow")?)));
        return slow.filter(|(_, plain)| names.contains(plain)).map(|(slow, plain)| pair(slow, plain)).collect();
    }
    let ours: Vec<&str> = if names.contains(&APPLIANCE) {
        vec![APPLIANCE]
    } else {
        PROTAGONISTS.into_iter().filter(|name| names.contains(name)).collect()
    };
    let ours = if ours.is_empty() { names.iter().take(1).copied().collect() } else { ours };
    let has_references = REFERENCES.iter().any(|name| names.contains(name));
    let mut pairs = Vec::new();
    for a in &ours {
        // Ours among themselves once: the later ones against the first.
        let others = names.iter().filter(|b| *b != a && !ours.iter().skip(1).any(|own| own == *b));
        pairs.extend(others.map(|b| pair(a, b)));
        if has_references && !REFERENCES.contains(a) {
            pairs.push(pair(a, BEST));
        }
    }
    pairs
}

fn measure(folder: &Path, surveyed: &Surveyed, case: &Case, trials: &[&Trial]) -> Result<Measured, Failure> {
    let mut merged = histogram();
    // A trial without a window has no histogram either.
    for trial in trials.iter().filter(|trial| trial.window_s > 0.0) {
        add_log(&mut merged, &folder.join(&trial.folder).join("latency.hlog"))?;
    }
    let latency = Quantiles::of(&merged);
    let requests: u64 = trials.iter().map(|trial| trial.requests).sum();
    let window_s: f64 = trials.iter().map(|trial| trial.window_s).sum();
    let cpu_ns: u64 = trials.iter().map(|trial| trial.cpu_ns).sum();
    let mut reasons: Vec<String> = trials
        .iter()
        .flat_map(|trial| trial.reasons.iter().map(|reason| format!("block {}: {reason}", trial.block + 1)))
        .collect();
    reasons.dedup();
    Ok(Measured {
        name: surveyed.name.clone(),
        version: surveyed.version.clone(),
        case: *case,
        blocks: u32::try_from(trials.len()).unwrap_or(u32::MAX),
        requests,
        failed: trials.iter().map(|trial| trial.failed).sum(),
        throughput_per_s: if window_s > 0.0 { requests as f64 / window_s } else { 0.0 },
        cpu_us_per_request: cpu_ns as f64 / 1e3 / requests.max(1) as f64,
        p50_ns: latency.p50,
        p99_ns: latency.p99,
        p999_ns: latency.p999,
        max_ns: latency.max,
        rate_per_s: mean(trials.iter().filter_map(|trial| trial.rate_per_s)),
        user_bytes_per_connection: mean(idle_bytes(trials)),
        verdict: worst_verdict(trials).to_owned(),
        reasons,
        cpu_by_group: cpu_by_group(trials),
        switches: switches(trials),
        counters: counters(trials),
    })
}

/// Mean over the trials, weighted by their requests.
fn cpu_by_group(trials: &[&Trial]) -> BTreeMap<String, CpuUse> {
    let mut sums: BTreeMap<String, CpuUse> = BTreeMap::new();
    let known = || trials.iter().filter(|trial| !trial.cpu_by_group.is_empty());
    let requests = known().map(|trial| trial.requests).sum::<u64>().max(1) as f64;
    for trial in known() {
        let weight = trial.requests as f64 / requests;
        for (name, used) in &trial.cpu_by_group {
            let sum = sums.entry(name.clone()).or_default();
            sum.user_us += used.user_us * weight;
            sum.system_us += used.system_us * weight;
        }
    }
    sums
}

/// Mean over the trials that have them, weighted by their requests.
fn counters(trials: &[&Trial]) -> BTreeMap<String, f64> {
    let known: Vec<(f64, &BTreeMap<String, f64>)> =
        trials.iter().filter_map(|trial| Some((trial.requests as f64, trial.counters.as_ref()?))).collect();
    let requests = known.iter().map(|pair| pair.0).sum::<f64>().max(1.0);
    let mut sums: BTreeMap<String, f64> = BTreeMap::new();
    for (weight, counted) in known {
        for (name, count) in counted {
            *sums.entry(name.clone()).or_default() += count * weight / requests;
        }
    }
    sums
}

fn switches(trials: &[&Trial]) -> Option<Switches> {
    let known: Vec<(f64, Switches)> =
        trials.iter().filter_map(|trial| Some((trial.requests as f64, trial.switches?))).collect();
    let requests = known.iter().map(|pair| pair.0).sum::<f64>().max(1.0);
    let weighted =
        |of: fn(&Switches) -> f64| known.iter().map(|(weight, one)| weight * of(one)).sum::<f64>() / requests;
    (!known.is_empty())
        .then(|| Switches { voluntary: weighted(|one| one.voluntary), involuntary: weighted(|one| one.involuntary) })
}

fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let values: Vec<f64> = values.collect();
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

fn idle_bytes<'a>(trials: &'a [&Trial]) -> impl Iterator<Item = f64> + 'a {
    trials.iter().filter_map(|trial| Some(trial.held?.user_bytes_per_connection()))
}

fn worst_verdict(trials: &[&Trial]) -> &'static str {
    ["invalid", "suspect"]
        .into_iter()
        .find(|&verdict| trials.iter().any(|trial| trial.verdict == verdict))
        .unwrap_or("valid")
}

/// The promise about idle connections, for systems of ours.
fn idle_bound(name: &str, case: &Case, trials: &[&Trial]) -> Option<Bound> {
    if case.load != Load::Idle || !PROTAGONISTS.contains(&name) {
        return None;
    }
    let values: Vec<f64> = idle_bytes(trials).collect();
    let interval = mean_interval(&values);
    let target = Target::at_most(target::IDLE_BYTES_MAX);
    Some(Bound {
        system: name.to_owned(),
        metric: "user_bytes_per_idle_connection".to_owned(),
        of: case.title(),
        value: mean(values.iter().copied()),
        ci_low: interval.map(|interval| interval.1),
        ci_high: interval.map(|interval| interval.2),
        target,
        holds: target.judge(interval.map(|(_, low, high)| (low, high))),
    })
}

/// The promise about long runs.
fn soak_bound(soak: &Soak) -> Bound {
    let growth = soak.growth_bytes_per_million();
    let target = Target::at_most(target::SOAK_GROWTH_BYTES_MAX / (target::SOAK_REQUESTS / 1e6));
    let complete = soak.requests >= soak.requests_wanted && soak.verdict != "invalid";
    let mut of = format!(
        "{} requests (at least {} wanted), {} connections, {} failed",
        count_text(soak.requests),
        count_text(soak.requests_wanted),
        soak.connections,
        count_text(soak.failed)
    );
    if let (Some(first), Some(last)) = (soak.samples.first(), soak.samples.last()) {
        let mib = |bytes: u64| bytes as f64 / 1_048_576.0;
        of += &format!(", RSS {:.1} to {:.1} MiB", mib(first.memory.rss_bytes), mib(last.memory.rss_bytes));
    }
    Bound {
        system: soak.system.clone(),
        metric: "rss_growth_bytes_per_million_requests".to_owned(),
        of,
        value: growth.map(|growth| growth.0),
        ci_low: growth.map(|growth| growth.1),
        ci_high: growth.map(|growth| growth.2),
        target,
        holds: if complete { target.judge(growth.map(|(_, low, high)| (low, high))) } else { Holds::Undecided },
    }
}

/// One ratio, over the blocks in which both systems have a run that may be quoted.
fn compare(metric: &Metric, job: &str, case: &Case, trials: &[&Trial], a: &str, b: &str) -> RatioRow {
    let own = trials.iter().filter(|trial| trial.system == a && trial.verdict != "invalid");
    let pairs: Vec<(f64, f64)> = own
        .filter_map(|first| {
            let same_block: Vec<&Trial> = trials.iter().filter(|trial| trial.block == first.block).copied().collect();
            Some(((metric.of)(first), other_value(metric, trials, &same_block, b)?))
        })
        .collect();
    let (ratio, bca) = (paired_ratio(&pairs), bootstrap_interval(&pairs));
    let target = target::of_ratio(job, case, a, b, metric.name);
    RatioRow {
        a: a.to_owned(),
        b: b.to_owned(),
        metric: metric.name.to_owned(),
        case: *case,
        ratio: ratio.map(|ratio| ratio.ratio),
        ci_low: ratio.map(|ratio| ratio.ci_low),
        ci_high: ratio.map(|ratio| ratio.ci_high),
        bca_low: bca.map(|interval| interval.0),
        bca_high: bca.map(|interval| interval.1),
        blocks: u32::try_from(pairs.len()).unwrap_or(u32::MAX),
        verdict: ratio.map_or(Verdict::Underpowered, |ratio| ratio.verdict(metric.better)),
        blocks_to_decide: ratio.and_then(|ratio| ratio.blocks_to_decide()),
        target,
        holds: target.map(|target| target.judge(ratio.map(|ratio| (ratio.ci_low, ratio.ci_high)))),
    }
}

/// The other side of a pair in one block. The best of the references needs all of them that take part in the run: with
/// one missing, the better one may be the one that is not there.
fn other_value(metric: &Metric, trials: &[&Trial], block: &[&Trial], b: &str) -> Option<f64> {
    let value = |name: &str| {
        let found = block.iter().find(|trial| trial.system == name && trial.verdict != "invalid")?;
        Some((metric.of)(found))
    };
    if b != BEST {
        return value(b);
    }
    let present = REFERENCES.iter().filter(|name| trials.iter().any(|trial| trial.system == **name));
    let values: Vec<f64> = present.map(|name| value(name)).collect::<Option<_>>()?;
    let better = match metric.better {
        Better::Lower => f64::min,
        Better::Higher => f64::max,
    };
    values.into_iter().reduce(better)
}

#[cfg(test)]
mod tests {
    use super::{BEST, Holds, METRICS, compare, idle_bound, pairs, soak_bound};
    use crate::case::{Case, Load, Work};
    use crate::memory::{Held, Memory, Sample, Soak};
    use crate::report::fixture::trial;

    fn texts(pairs: Vec<(String, String)>) -> Vec<String> {
        pairs.into_iter().map(|(a, b)| format!("{a} ÷ {b}")).collect()
    }

    #[test]
    fn ours_are_compared_with_everybody() {
        assert_eq!(
            texts(pairs("proxy", &["direct", "twintier", "twintier-pipeline", "nginx"])),
            [
                "twintier ÷ direct".to_owned(),
                "twintier ÷ nginx".to_owned(),
                format!("twintier ÷ {BEST}"),
                "twintier-pipeline ÷ direct".to_owned(),
                "twintier-pipeline ÷ twintier".to_owned(),
                "twintier-pipeline ÷ nginx".to_owned(),
                format!("twintier-pipeline ÷ {BEST}"),
            ]
        );
        assert_eq!(
            texts(pairs("app", &["direct", "twintier", "twintier-appliance"])),
            ["twintier-appliance ÷ direct", "twintier-appliance ÷ twintier"]
        );
        assert_eq!(texts(pairs("proxy", &["twintier", "twintier-2"])), ["twintier ÷ twintier-2"]);
        assert_eq!(
            texts(pairs("engine", &["twintier-uring", "twintier-monoio"])),
            ["twintier-uring ÷ twintier-monoio"]
        );
        assert_eq!(
            texts(pairs("slow", &["twintier", "twintier+slow", "nginx", "nginx+slow"])),
            ["twintier+slow ÷ twintier", "nginx+slow ÷ nginx"]
        );
    }

    fn case() -> Case {
        Case::keep_alive(Work::Proxy, 64, 128)
    }

    /// In one block nginx is the better one, in the other HAProxy; a third has no HAProxy and does not count.
    #[test]
    fn the_best_is_chosen_block_by_block() {
        let with = |system: &str, block: u32, cpu: f64| {
            let mut trial = trial(system, case(), block);
            trial.cpu_us_per_request = cpu;
            trial
        };
        let trials = [
            with("twintier", 0, 7.0),
            with("nginx", 0, 10.0),
            with("haproxy", 0, 14.0),
            with("twintier", 1, 7.0),
            with("nginx", 1, 20.0),
            with("haproxy", 1, 10.0),
            with("twintier", 2, 7.0),
            with("nginx", 2, 1.0),
        ];
        let trials: Vec<_> = trials.iter().collect();
        let row = compare(&METRICS[0], "proxy", &case(), &trials, "twintier", BEST);
        assert_eq!((row.blocks, row.holds), (2, Some(Holds::Yes)));
        assert!((row.ratio.unwrap() - 0.7).abs() < 1e-12);
        assert_eq!(row.target.unwrap().text(), "≤ 0.75");
        let throughput = compare(&METRICS[1], "proxy", &case(), &trials, "twintier", BEST);
        assert_eq!((throughput.target, throughput.holds), (None, None));
    }

    #[test]
    fn idle_memory_has_a_bound() {
        let case = Case { load: Load::Idle, idle_connections: 1000, ..case() };
        let memory = |anonymous_bytes| Memory { rss_bytes: 0, anonymous_bytes };
        let with = |block: u32, each: u64| {
            let mut trial = trial("twintier", case, block);
            trial.held = Some(Held {
                held: 1000,
                closed: 0,
                reopened: 0,
                before: memory(500_000),
                after: memory(500_000 + each * 1000),
                loaded: memory(0),
            });
            trial
        };
        let trials = [with(0, 3000), with(1, 3100), with(2, 2900)];
        let trials: Vec<_> = trials.iter().collect();
        let bound = idle_bound("twintier", &case, &trials).unwrap();
        assert_eq!((bound.value, bound.holds), (Some(3000.0), Holds::Yes));
        assert_eq!(idle_bound("nginx", &case, &trials), None);
        assert_eq!(idle_bound("twintier", &self::case(), &trials), None);
    }

    #[test]
    fn a_long_run_that_was_too_short_decides_nothing() {
        let sample = |at_s: f64| Sample { at_s, memory: Memory { rss_bytes: 50 << 20, anonymous_bytes: 0 } };
        let soak = Soak {
            system: "twintier".into(),
            connections: 64,
            body_bytes: 128,
            requests_wanted: 10_000_000,
            requests: 10_000_000,
            failed: 0,
            window_s: 100.0,
            verdict: "valid".into(),
            reasons: vec![],
            samples: (0..=200).map(|half| sample(f64::from(half) / 2.0)).collect(),
        };
        assert_eq!(soak_bound(&soak).holds, Holds::Yes);
        assert_eq!(soak_bound(&Soak { requests: 9_000_000, ..soak }).holds, Holds::Undecided);
    }
}
