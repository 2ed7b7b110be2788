//! What the pictures of a comparison are drawn from, read once from its run directory.

use std::path::Path;

use super::histograms::Latencies;
use super::intervals::{self, Interval};
use crate::case::Case;
use crate::failure::Failure;
use crate::plot::STYLES;
use crate::record::RunRecord;
use crate::trial::{Role, Trial};

/// Grey and dotted.
const FLOOR_STYLE: usize = 5;

/// One trial's raw files.
#[derive(Clone, Debug)]
pub struct TrialFiles {
    pub trial: Trial,
    pub latencies: Latencies,
    pub intervals: Vec<Interval>,
}

/// Everything, in the order of blocks, cases and turns.
#[derive(Clone, Debug)]
pub struct Material {
    pub trials: Vec<TrialFiles>,
    /// Names of the systems in the order of the report: a system has the same style in every picture. The floor is
    /// among them, for scale; a system's second name is not.
    pub systems: Vec<String>,
    /// The floor's name, where the run has one.
    pub floor: Option<String>,
}

impl Material {
    /// # Errors
    /// A file is there and cannot be read.
    pub fn read(folder: &Path, record: &RunRecord, trials: Vec<Trial>) -> Result<Self, Failure> {
        let read = |trial: Trial| -> Result<TrialFiles, Failure> {
            let own = folder.join(&trial.folder);
            Ok(TrialFiles {
                latencies: Latencies::read(&own)?,
                intervals: intervals::read(&own.join("intervals.csv"))?,
                trial,
            })
        };
        let named = |of: &dyn Fn(Role) -> bool| -> Vec<String> {
            record.systems.iter().filter(|system| of(system.role)).map(|system| system.name.clone()).collect()
        };
        Ok(Self {
            trials: trials.into_iter().map(read).collect::<Result<_, _>>()?,
            systems: named(&|role| matches!(role, Role::Measured | Role::Floor)),
            floor: named(&|role| role == Role::Floor).into_iter().next(),
        })
    }

    pub fn style(&self, system: &str) -> usize {
        if self.floor.as_deref() == Some(system) {
            return FLOOR_STYLE;
        }
        // The floor's style is nobody else's.
        let place = self.systems.iter().position(|name| name == system).unwrap_or_default();
        place + usize::from(place % STYLES >= FLOOR_STYLE)
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
