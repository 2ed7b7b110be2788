//! What the pictures of a comparison are drawn from, read once from its run directory.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

use super::histograms::Latencies;
use super::intervals::{self, Interval};
use crate::case::Case;
use crate::failure::Failure;
use crate::record::{RunRecord, read_json};
use crate::trial::Trial;

/// One trial's raw files.
#[derive(Clone, Debug)]
pub struct TrialFiles {
    pub trial: Trial,
    pub latencies: Latencies,
    pub intervals: Vec<Interval>,
    /// `summary.json`; null where there is none.
    pub summary: Value,
    pub detail: Detail,
}

/// Fields of `trial.json` that trials of older runs do not have.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Detail {
    /// User and system time of each thread group, for one request.
    pub cpu_by_group: BTreeMap<String, CpuUse>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
pub struct CpuUse {
    pub user_us: f64,
    pub system_us: f64,
}

/// Everything, in the order of blocks, cases and turns.
#[derive(Clone, Debug)]
pub struct Material {
    pub trials: Vec<TrialFiles>,
    /// Names of the systems in the order of the report: a system has the same style in every picture.
    pub systems: Vec<String>,
}

impl Material {
    /// # Errors
    /// A file is there and cannot be read.
    pub fn read(folder: &Path, record: &RunRecord, trials: Vec<Trial>) -> Result<Self, Failure> {
        let read = |trial: Trial| -> Result<TrialFiles, Failure> {
            let own = folder.join(&trial.folder);
            let summary = own.join("summary.json");
            Ok(TrialFiles {
                latencies: Latencies::read(&own)?,
                intervals: intervals::read(&own.join("intervals.csv"))?,
                summary: if summary.is_file() { read_json(&summary)? } else { Value::Null },
                detail: read_json(&own.join("trial.json"))?,
                trial,
            })
        };
        Ok(Self {
            trials: trials.into_iter().map(read).collect::<Result<_, _>>()?,
            systems: record.systems.iter().map(|system| system.name.clone()).collect(),
        })
    }

    pub fn style(&self, system: &str) -> usize {
        self.systems.iter().position(|name| name == system).unwrap_or_default()
    }

    /// Trials of a system in a case that may be shown, in the order of blocks.
    pub fn of<'a>(&'a self, case: &'a Case, system: &'a str) -> impl Iterator<Item = &'a TrialFiles> + 'a {
        let shown = |files: &&TrialFiles| files.trial.window_s > 0.0;
        self.trials.iter().filter(move |files| files.trial.case == *case && files.trial.system == system).filter(shown)
    }

    /// Merged histograms of every system that has some in a case, with its style.
    pub fn merged(&self, case: &Case) -> Vec<(String, usize, Latencies)> {
        let of_system = |name: &String| {
            let mut sum = Latencies::new();
            self.of(case, name).for_each(|files| sum.add(&files.latencies));
            (!sum.response.is_empty()).then(|| (name.clone(), self.style(name), sum))
        };
        self.systems.iter().filter_map(of_system).collect()
    }
}
