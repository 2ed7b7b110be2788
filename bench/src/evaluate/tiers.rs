//! Where the time of a request went, by what the system itself says in `Server-Timing`, and what the slow ones are made
//! of. A part's p99 is not a part of the p99: the generator sums the parts of the requests from the p99 on.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::case::Case;
use crate::failure::Failure;
use crate::latency::Quantiles;
use crate::record::read_json;
use crate::table::{Table, duration_text, quantile_text};
use crate::trial::Trial;

/// The slowest requests that are kept.
const EXEMPLARS_MAX: usize = 20;

/// The parts of one system's response time in trials of their own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Tiers {
    pub system: String,
    #[serde(flatten)]
    pub case: Case,
    pub blocks: u32,
    /// Of all requests, by part: the median of the blocks' quantiles, because no histogram of a part is kept.
    pub service_by_tier_ns: BTreeMap<String, Quantiles>,
    /// What the requests from each block's p99 on are made of.
    pub slow: SlowRequests,
    /// The slowest requests of all blocks, slowest first.
    pub exemplars: Vec<Exemplar>,
}

/// The mean of the slow requests and of their parts, as `summary.json` has it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SlowRequests {
    /// The least response time among them.
    pub from_ns: u64,
    pub requests: u64,
    pub response_ns: u64,
    pub parts_ns: BTreeMap<String, u64>,
}

/// One slow request, as `summary.json` has it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Exemplar {
    pub planned_s: f64,
    pub connection: u64,
    pub status: u64,
    pub response_ns: u64,
    pub client_queue_ns: u64,
    pub generator_lag_ns: u64,
    pub service_ns: u64,
    pub first_byte_ns: u64,
    pub by_tier_ns: BTreeMap<String, u64>,
}

/// What is read of the generator's summary.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Summary {
    service_by_tier_ns: BTreeMap<String, Quantiles>,
    slow: Option<SlowRequests>,
    exemplars: Vec<Exemplar>,
}

impl Tiers {
    /// From the summaries of the trials; `None` where the system said nothing.
    ///
    /// # Errors
    /// A summary cannot be read.
    pub fn of(folder: &Path, system: &str, case: &Case, trials: &[&Trial]) -> Result<Option<Self>, Failure> {
        let mut quantiles: BTreeMap<String, Vec<Quantiles>> = BTreeMap::new();
        let (mut slow, mut exemplars) = (Vec::new(), Vec::new());
        for trial in trials.iter().filter(|trial| trial.window_s > 0.0) {
            let summary: Summary = read_json(&folder.join(&trial.folder).join("summary.json"))?;
            for (name, found) in summary.service_by_tier_ns {
                quantiles.entry(name).or_default().push(found);
            }
            slow.extend(summary.slow);
            exemplars.extend(summary.exemplars);
        }
        if quantiles.is_empty() {
            return Ok(None);
        }
        exemplars.sort_by_key(|exemplar| std::cmp::Reverse(exemplar.response_ns));
        exemplars.truncate(EXEMPLARS_MAX);
        Ok(Some(Self {
            system: system.to_owned(),
            case: *case,
            blocks: u32::try_from(trials.len()).unwrap_or(u32::MAX),
            service_by_tier_ns: quantiles.iter().map(|(name, found)| (name.clone(), middle(found))).collect(),
            slow: together(&slow),
            exemplars,
        }))
    }

    /// Where the slow ones spend their time. Parts of the response time that are not the system's have no quantiles here.
    pub fn table(&self) -> Table {
        let mean = format!("of the {} from {} on, mean", self.slow.requests, duration_text(self.slow.from_ns));
        let mut table = Table::new(&["part", "p50", "p99", "p99.9", &mean, "share"]);
        let share = |ns: u64| format!("{:.0} %", ns as f64 / self.slow.response_ns.max(1) as f64 * 100.0);
        for (name, &ns) in &self.slow.parts_ns {
            let quantiles = self.service_by_tier_ns.get(name).copied();
            let of = |part: fn(&Quantiles) -> Option<u64>| {
                quantiles.map_or_else(String::new, |quantiles| quantile_text(part(&quantiles)))
            };
            table.push(vec![
                name.clone(),
                of(|one| one.p50),
                of(|one| one.p99),
                of(|one| one.p999),
                duration_text(ns),
                share(ns),
            ]);
        }
        let response = self.slow.response_ns;
        let empty = String::new;
        table.push(vec!["response".to_owned(), empty(), empty(), empty(), duration_text(response), share(response)]);
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

/// The slow requests of all blocks as one: means weigh by their requests.
fn together(blocks: &[SlowRequests]) -> SlowRequests {
    let requests: u64 = blocks.iter().map(|block| block.requests).sum();
    let mean = |of: &dyn Fn(&SlowRequests) -> u64| {
        // Nanoseconds of some thousand requests: far below 2^53.
        let sum: f64 = blocks.iter().map(|block| of(block) as f64 * block.requests as f64).sum();
        (sum / requests.max(1) as f64).round() as u64
    };
    let names = blocks.iter().flat_map(|block| block.parts_ns.keys());
    let part = |name: &String| (name.clone(), mean(&|block| block.parts_ns.get(name).copied().unwrap_or(0)));
    SlowRequests {
        from_ns: blocks.iter().map(|block| block.from_ns).min().unwrap_or(0),
        requests,
        response_ns: mean(&|block| block.response_ns),
        parts_ns: names.map(part).collect(),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::Tiers;
    use crate::case::{Case, Work};
    use crate::report::fixture::trial;

    /// Two blocks, the second with three times as many slow requests: its means weigh three times as much.
    #[test]
    fn slow_requests_are_taken_apart() {
        let folder = std::env::temp_dir().join(format!("bench-tiers-{}", std::process::id()));
        let case = Case::keep_alive(Work::App, 64, 128);
        let trials = [trial("a", case, 0), trial("a", case, 1)];
        let summaries = [
            r#"{"mode": "closed", "service_by_tier_ns": {"queue": {"p50": 10, "p90": 11, "p99": 900, "p999": null, "max": 950, "count": 100}},
                "slow": {"from_ns": 800, "requests": 1, "response_ns": 1000, "parts_ns": {"queue": 900, "rest of service": 100}},
                "exemplars": [{"response_ns": 1000, "service_ns": 990, "by_tier_ns": {"queue": 900}}]}"#,
            r#"{"mode": "closed", "service_by_tier_ns": {"queue": {"p50": 30, "p90": 31, "p99": 100, "p999": null, "max": 100, "count": 100}},
                "slow": {"from_ns": 500, "requests": 3, "response_ns": 600, "parts_ns": {"queue": 100, "rest of service": 500}},
                "exemplars": [{"response_ns": 1200, "service_ns": 1100, "by_tier_ns": {"queue": 50}}]}"#,
        ];
        for (trial, text) in trials.iter().zip(summaries) {
            let place = folder.join(&trial.folder);
            fs::create_dir_all(&place).unwrap();
            fs::write(place.join("summary.json"), text).unwrap();
        }
        let tiers = Tiers::of(&folder, "a", &case, &[&trials[0], &trials[1]]).unwrap().unwrap();
        let queue = tiers.service_by_tier_ns["queue"];
        assert_eq!((queue.p50, queue.max, queue.count), (Some(30), Some(950), 200));
        assert_eq!(tiers.exemplars.iter().map(|one| one.response_ns).collect::<Vec<_>>(), [1200, 1000]);
        assert_eq!((tiers.slow.from_ns, tiers.slow.requests, tiers.slow.response_ns), (500, 4, 700));
        assert_eq!((tiers.slow.parts_ns["queue"], tiers.slow.parts_ns["rest of service"]), (300, 400));
        let table = tiers.table().text();
        assert!(table.contains("rest of service") && table.contains("43 %") && table.contains("57 %"), "{table}");
        fs::write(folder.join(&trials[0].folder).join("summary.json"), "{}").unwrap();
        assert_eq!(Tiers::of(&folder, "a", &case, &[&trials[0]]).unwrap(), None, "it said nothing");
        fs::remove_dir_all(folder).unwrap();
    }
}
