//! Everything that the report knows of a run.

use std::fs;
use std::path::Path;

use super::intervals::{self, Interval};
use super::material::Material;
use crate::compare::read_trials;
use crate::evaluate::{Comparison, evaluate};
use crate::experiments;
use crate::failure::Failure;
use crate::faults::Faults;
use crate::figures;
use crate::job::dispatch;
use crate::quick::Appliance;
use crate::record::{RunRecord, read_json};

/// A run directory that was read.
pub struct Run {
    pub name: String,
    pub record: RunRecord,
    pub comparison: Comparison,
    pub material: Material,
    pub appliance: Option<Appliance>,
    /// Of the browser load or of the load beside faults.
    pub intervals: Vec<Interval>,
    /// Of a dispatch comparison, which has no trials of its own kind.
    pub dispatch: Option<dispatch::Outcome>,
    /// Of a job of figures, which has none either.
    pub figures: Option<figures::Outcome>,
    pub faults: Option<Faults>,
    /// Of `bench null` or `bench power`.
    pub experiments: Option<experiments::Outcome>,
    pub configurations: Vec<Configuration>,
}

/// A file that a system was started with, as it was rendered for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Configuration {
    pub system: String,
    pub name: String,
    pub text: String,
}

/// Ends of the names of configurations; the generator's files and the lab's own end otherwise.
const CONFIGURATIONS: [&str; 6] = [".conf", ".cfg", ".yaml", ".vcl", ".toml", "Caddyfile"];
/// More of a file is not shown.
const CONFIGURATION_BYTES_MAX: usize = 64 * 1024;

impl Run {
    /// Reads a run directory and computes its ratios again from the trials.
    ///
    /// # Errors
    /// A file cannot be read, or there is nothing to report.
    pub fn read(folder: &Path) -> Result<Self, Failure> {
        let record = RunRecord::read(folder)?;
        let trials = read_trials(folder)?;
        let figures = figures::Outcome::read(folder, &record)?;
        let optional = |name: &str| {
            let path = folder.join(name);
            path.is_file().then_some(path)
        };
        let experiments = experiments::Outcome::read(folder)?;
        if !record.finished && trials.is_empty() && figures.is_none() && experiments.is_none() {
            return Err(Failure::Usage(format!(
                "{}: the run was cut short before its first trial; there is nothing to report",
                folder.display()
            )));
        }
        let comparison = evaluate(folder, &record, &trials)?;
        let appliance = optional("quick.json").map(|path| read_json(&path)).transpose()?;
        let faults: Option<Faults> = optional("faults.json").map(|path| read_json(&path)).transpose()?;
        let beside = if faults.is_some() { "load" } else { "browse" };
        let material = Material::read(folder, &record, trials)?;
        Ok(Self {
            name: run_name(folder),
            dispatch: dispatch::Outcome::read(folder, &record)?,
            intervals: intervals::read(&folder.join(beside).join("intervals.csv"))?,
            configurations: configurations(folder, &material)?,
            record,
            comparison,
            material,
            appliance,
            figures,
            faults,
            experiments,
        })
    }
}

/// The last part of the directory's path, wherever it is called from.
pub fn run_name(folder: &Path) -> String {
    let whole = fs::canonicalize(folder).unwrap_or_else(|_| folder.to_owned());
    whole.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

/// The configuration of each system in its first trial.
fn configurations(folder: &Path, material: &Material) -> Result<Vec<Configuration>, Failure> {
    let mut found = Vec::new();
    for system in &material.systems {
        let Some(first) = material.trials.iter().find(|files| files.trial.system == *system) else { continue };
        let own = folder.join(&first.trial.folder);
        let Ok(entries) = fs::read_dir(&own) else { continue };
        let mut names: Vec<String> =
            entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect();
        names.retain(|name| CONFIGURATIONS.iter().any(|end| name.ends_with(end)));
        names.sort();
        for name in names {
            let path = own.join(&name);
            let bytes = fs::read(&path).map_err(|error| Failure::file(&path, &error))?;
            let shown = &bytes[..bytes.len().min(CONFIGURATION_BYTES_MAX)];
            let text = String::from_utf8_lossy(shown).into_owned();
            found.push(Configuration { system: system.clone(), name, text });
        }
    }
    Ok(found)
}
