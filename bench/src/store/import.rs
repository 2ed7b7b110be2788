//! `bench import`: what was measured elsewhere or before becomes rows, as if it had been measured now.

use std::fs;
use std::path::{Path, PathBuf};

use super::{add_dispatch, add_figures, add_run, failed, loads, open};
use crate::compare::read_trials;
use crate::evaluate::evaluate;
use crate::failure::Failure;
use crate::figures;
use crate::import;
use crate::job::dispatch;
use crate::record::RunRecord;

/// Adds whatever `path` is, or replaces what was stored under the same path; says what it was.
///
/// # Errors
/// It is nothing that is known here, or it cannot be read.
pub fn add(store: &Path, path: &Path) -> Result<String, Failure> {
    // The same run under one name, however the path was written.
    let path: PathBuf = path.components().collect();
    if path.join("run.json").is_file() {
        return add_bench_run(store, &path);
    }
    if path.is_dir() {
        return add_loadgen_run(store, &path);
    }
    let bytes = fs::read(&path).map_err(|error| Failure::Usage(format!("{}: {error}", path.display())))?;
    let text = String::from_utf8_lossy(&bytes);
    let load = import::read(&text).map_err(|error| Failure::Usage(format!("{}: {error}", path.display())))?;
    let mut connection = open(store)?;
    let transaction = connection.transaction().map_err(failed(store))?;
    loads::replace_output(&transaction, &path.to_string_lossy(), &load, &text)?;
    transaction.commit().map_err(failed(store))?;
    Ok(format!("a run of {}", load.tool))
}

fn add_bench_run(store: &Path, folder: &Path) -> Result<String, Failure> {
    let record = RunRecord::read(folder)?;
    if let Some(outcome) = dispatch::Outcome::read(folder, &record)? {
        add_dispatch(store, folder, &record, &outcome)?;
    } else if let Some(outcome) = figures::Outcome::read(folder, &record)? {
        add_figures(store, folder, &record, &outcome)?;
    } else {
        let trials = read_trials(folder)?;
        // As the report does it: the ratios are computed again from the trials.
        let comparison = evaluate(folder, &record, &trials)?;
        add_run(store, folder, &record, &trials, &comparison)?;
    }
    Ok(format!("a run of bench {}", record.kind))
}

fn add_loadgen_run(store: &Path, folder: &Path) -> Result<String, Failure> {
    if !["summary.json", "max.json"].iter().any(|name| folder.join(name).is_file()) {
        return Err(Failure::Usage(format!(
            "{} is no run directory: it has neither run.json (of bench) nor summary.json or max.json (of loadgen)",
            folder.display()
        )));
    }
    let mut connection = open(store)?;
    let transaction = connection.transaction().map_err(failed(store))?;
    loads::replace(&transaction, &folder.to_string_lossy(), folder)?;
    transaction.commit().map_err(failed(store))?;
    Ok("a run of loadgen".to_owned())
}
