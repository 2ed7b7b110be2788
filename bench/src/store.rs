//! `results.duckdb`: all runs in one database, for questions that no report foresaw.
//!
//! Architecture invariant: the run directories are the truth. The store is made from them and may be deleted.

pub mod command;
mod dispatch;
mod figures;
mod import;
mod loads;
mod query;

use std::fs;
use std::path::Path;

use duckdb::{Connection, params};

use crate::case::Case;
use crate::clock::utc_text;
use crate::evaluate::Comparison;
use crate::failure::Failure;
use crate::record::RunRecord;
use crate::target::Holds;
use crate::trial::Trial;

pub use dispatch::add_dispatch;
pub use figures::add_figures;

/// Tables of runs, tables of loads, macros, views: in this order, and as often as one likes.
const SCHEMA: [&str; 4] = [
    include_str!("store.sql"),
    include_str!("store/loads.sql"),
    include_str!("store/macros.sql"),
    include_str!("store/views.sql"),
];

/// Opens the store for writing; makes what it lacks.
fn open(store: &Path) -> Result<Connection, Failure> {
    if let Some(parent) = store.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        fs::create_dir_all(parent).map_err(|error| Failure::file(parent, &error))?;
    }
    let connection = Connection::open(store).map_err(failed(store))?;
    // In one transaction: the disk is waited for once.
    connection.execute_batch(&format!("BEGIN;{}COMMIT;", SCHEMA.concat())).map_err(failed(store))?;
    Ok(connection)
}

fn failed(path: &Path) -> impl Fn(duckdb::Error) -> Failure + '_ {
    move |error| Failure::Failed(format!("{}: {error}", path.display()))
}

/// Adds a run, or replaces what was stored under the same run directory.
///
/// # Errors
/// The database cannot be opened (another process may have it open) or written.
pub fn add_run(
    store: &Path,
    folder: &Path,
    record: &RunRecord,
    trials: &[Trial],
    comparison: &Comparison,
) -> Result<(), Failure> {
    let failed = failed(store);
    let mut connection = open(store)?;
    let transaction = connection.transaction().map_err(&failed)?;
    let run = folder.to_string_lossy().into_owned();
    for table in ["run", "system", "trial", "ratio", "bound"] {
        // The names are the constants of the line above.
        transaction.execute(&format!("DELETE FROM {table} WHERE run = ?"), params![run]).map_err(&failed)?;
    }
    let json = |value: serde_json::Result<String>| value.map_err(|error| Failure::Failed(error.to_string()));
    transaction
        .execute(
            "INSERT INTO run VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            params![
                run,
                record.kind,
                utc_text(record.started_unix_s).trim_end_matches(" UTC"),
                record.argv.join(" "),
                record.commit,
                record.plan.as_ref().map(|plan| plan.seed.to_string()),
                json(serde_json::to_string(&record.machine))?,
                json(serde_json::to_string(&record.cores))?,
            ],
        )
        .map_err(&failed)?;
    for system in &comparison.systems {
        let insert = "INSERT INTO system VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";
        let row = params![
            run,
            system.name,
            system.version,
            system.case.connections,
            system.blocks,
            system.requests,
            system.failed,
            system.throughput_per_s,
            system.cpu_us_per_request,
            system.p50_ns,
            system.p99_ns,
            system.p999_ns,
            system.verdict,
            work(&system.case),
            load(&system.case),
            system.case.body_bytes,
            system.case.idle_connections,
            system.user_bytes_per_connection
        ];
        transaction.execute(insert, row).map_err(&failed)?;
    }
    for trial in trials {
        let insert = "INSERT INTO trial VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";
        let row = params![
            run,
            trial.system,
            trial.case.connections,
            trial.block,
            trial.turn,
            trial.requests,
            trial.failed,
            trial.window_s,
            trial.throughput_per_s,
            trial.cpu_us_per_request,
            trial.latency_ns.p50,
            trial.latency_ns.p99,
            trial.latency_ns.p999,
            trial.generator_cpu_us_per_request,
            trial.verdict,
            work(&trial.case),
            load(&trial.case),
            trial.case.body_bytes,
            trial.case.idle_connections,
            trial.rate_per_s
        ];
        transaction.execute(insert, row).map_err(&failed)?;
    }
    for ratio in &comparison.ratios {
        let insert = "INSERT INTO ratio VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";
        let row = params![
            run,
            ratio.a,
            ratio.b,
            ratio.metric,
            ratio.case.connections,
            ratio.ratio,
            ratio.ci_low,
            ratio.ci_high,
            ratio.blocks,
            ratio.verdict.name(),
            work(&ratio.case),
            load(&ratio.case),
            ratio.case.body_bytes,
            ratio.case.idle_connections,
            ratio.target.map(|target| target.limit),
            ratio.holds.map(Holds::name)
        ];
        transaction.execute(insert, row).map_err(&failed)?;
    }
    for bound in &comparison.bounds {
        let insert = "INSERT INTO bound VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)";
        let row = params![
            run,
            bound.system,
            bound.metric,
            bound.of,
            bound.value,
            bound.ci_low,
            bound.ci_high,
            bound.target.limit,
            bound.holds.name()
        ];
        transaction.execute(insert, row).map_err(&failed)?;
    }
    loads::replace(&transaction, &run, folder)?;
    transaction.commit().map_err(&failed)
}

fn work(case: &Case) -> &'static str {
    case.work.name()
}

fn load(case: &Case) -> &'static str {
    case.load.name()
}

#[cfg(test)]
mod tests;
