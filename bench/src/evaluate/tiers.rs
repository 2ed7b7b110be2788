//! Where the time of a request went, by what the system itself says in `Server-Timing`, and what the slow ones are made
//! of. A part's p99 is not a part of the p99: so the slowest requests are taken apart one by one.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::case::Case;
use crate::failure::Failure;
use crate::latency::Quantiles;
use crate::record::read_json;
use crate::table::{Table, duration_text, quantile_text};
use crate::trial::Trial;

/// What is left of a request's service time when all parts are taken away: the network, the kernel, the generator's loop.
pub const REST: &str = "rest";
/// The slowest requests that are taken apart.
const SLOWEST_MAX: usize = 100;

/// The parts of one system's service time in a trial of their own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Tiers {
    pub system: String,
    #[serde(flatten)]
    pub case: Case,
    pub blocks: u32,
    /// Of all requests, by part; the median of the blocks' quantiles, for the generator keeps no histogram of a part.
    pub service_by_tier_ns: BTreeMap<String, Quantiles>,
    /// The slowest requests of all blocks, slowest first.
    pub exemplars: Vec<Exemplar>,
    /// What the mean of them is made of; [`REST`] is what no part accounts for.
    pub slowest_mean_ns: BTreeMap<String, f64>,
}

/// One slow request, as `summary.json` has it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Exemplar {
    pub service_ns: u64,
    pub response_ns: u64,
    /// By name in `Server-Timing`.
    pub parts: BTreeMap<String, u64>,
}

/// What is read of the generator's summary.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Summary {
    service_by_tier_ns: BTreeMap<String, Quantiles>,
    exemplars: Vec<Exemplar>,
}

impl Tiers {
    /// From the summaries of the trials; `None` where the system said nothing.
    ///
    /// # Errors
    /// A summary cannot be read.
    pub fn of(folder: &Path, system: &str, case: &Case, trials: &[&Trial]) -> Result<Option<Self>, Failure> {
        let mut quantiles: BTreeMap<String, Vec<Quantiles>> = BTreeMap::new();
        let mut exemplars = Vec::new();
        for trial in trials.iter().filter(|trial| trial.window_s > 0.0) {
            let summary: Summary = read_json(&folder.join(&trial.folder).join("summary.json"))?;
            for (name, found) in summary.service_by_tier_ns {
                quantiles.entry(name).or_default().push(found);
            }
            exemplars.extend(summary.exemplars);
        }
        if quantiles.is_empty() {
            return Ok(None);
        }
        exemplars.sort_by_key(|exemplar| std::cmp::Reverse(exemplar.service_ns));
        exemplars.truncate(SLOWEST_MAX);
        Ok(Some(Self {
            system: system.to_owned(),
            case: *case,
            blocks: u32::try_from(trials.len()).unwrap_or(u32::MAX),
            service_by_tier_ns: quantiles.iter().map(|(name, found)| (name.clone(), middle(found))).collect(),
            slowest_mean_ns: mean_parts(&exemplars),
            exemplars,
        }))
    }

    /// Where the slow ones spend their time.
    pub fn table(&self) -> Table {
        let slowest = format!("of the {} slowest, mean", self.exemplars.len());
        let mut table = Table::new(&["part", "p50", "p99", "p99.9", &slowest, "share"]);
        let all: f64 = self.slowest_mean_ns.values().sum();
        let names = self.service_by_tier_ns.keys().chain(self.slowest_mean_ns.keys().filter(|name| *name == REST));
        for name in names {
            let quantiles = self.service_by_tier_ns.get(name).copied().unwrap_or_default();
            let mean = self.slowest_mean_ns.get(name).copied();
            // Nanoseconds of a request.
            let mean_text = mean.map_or_else(String::new, |mean| duration_text(mean.round() as u64));
            let share =
                mean.filter(|_| all > 0.0).map_or_else(String::new, |mean| format!("{:.0} %", mean / all * 100.0));
            table.push(vec![
                name.clone(),
                quantile_text(quantiles.p50),
                quantile_text(quantiles.p99),
                quantile_text(quantiles.p999),
                mean_text,
                share,
            ]);
        }
        table
    }
}

/// Each quantile's median over the blocks.
fn middle(found: &[Quantiles]) -> Quantiles {
    let of = |part: fn(&Quantiles) -> Option<u64>| {
        let mut values: Vec<u64> = found.iter().filter_map(part).collect();
        values.sort_unstable();
        values.get(values.len() / 2).copied()
    };
    Quantiles {
        p50: of(|one| one.p50),
        p90: of(|one| one.p90),
        p99: of(|one| one.p99),
        p999: of(|one| one.p999),
        max: found.iter().filter_map(|one| one.max).max(),
        count: found.iter().map(|one| one.count).sum(),
    }
}

fn mean_parts(exemplars: &[Exemplar]) -> BTreeMap<String, f64> {
    let mut sums: BTreeMap<String, f64> = BTreeMap::new();
    let count = exemplars.len().max(1) as f64;
    for exemplar in exemplars {
        let told: u64 = exemplar.parts.values().sum();
        for (name, ns) in &exemplar.parts {
            *sums.entry(name.clone()).or_default() += *ns as f64 / count;
        }
        *sums.entry(REST.to_owned()).or_default() += exemplar.service_ns.saturating_sub(told) as f64 / count;
    }
    sums
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::{REST, Tiers};
    use crate::case::{Case, Work};
    use crate::report::fixture::trial;

    /// Two blocks: the slowest request spent most of its time in the queue, the other one somewhere that no part tells.
    #[test]
    fn slow_requests_are_taken_apart() {
        let folder = std::env::temp_dir().join(format!("bench-tiers-{}", std::process::id()));
        let case = Case::keep_alive(Work::App, 64, 128);
        let trials = [trial("a", case, 0), trial("a", case, 1)];
        let summaries = [
            r#"{"mode": "closed", "service_by_tier_ns": {"queue": {"p50": 10, "p90": 11, "p99": 900, "p999": null, "max": 950, "count": 100}},
                "exemplars": [{"service_ns": 1000, "response_ns": 1200, "parts": {"queue": 900, "service": 50}}]}"#,
            r#"{"mode": "closed", "service_by_tier_ns": {"queue": {"p50": 30, "p90": 31, "p99": 100, "p999": null, "max": 100, "count": 100}},
                "exemplars": [{"service_ns": 600, "response_ns": 700, "parts": {"queue": 0, "service": 50}}]}"#,
        ];
        for (trial, text) in trials.iter().zip(summaries) {
            let place = folder.join(&trial.folder);
            fs::create_dir_all(&place).unwrap();
            fs::write(place.join("summary.json"), text).unwrap();
        }
        let tiers = Tiers::of(&folder, "a", &case, &[&trials[0], &trials[1]]).unwrap().unwrap();
        let queue = tiers.service_by_tier_ns["queue"];
        assert_eq!((queue.p50, queue.max, queue.count), (Some(30), Some(950), 200));
        assert_eq!(tiers.exemplars.iter().map(|one| one.service_ns).collect::<Vec<_>>(), [1000, 600]);
        let mean = |name: &str| tiers.slowest_mean_ns[name];
        assert_eq!((mean("queue"), mean("service"), mean(REST)), (450.0, 50.0, 300.0));
        let table = tiers.table().text();
        assert!(table.contains("rest") && table.contains("56 %"), "{table}");
        fs::remove_dir_all(folder).unwrap();
    }
}
