//! The rows of a dispatch comparison.

use std::path::Path;

use duckdb::{Connection, params};

use super::{add_run, failed};
use crate::evaluate::Comparison;
use crate::failure::Failure;
use crate::job::dispatch::Outcome;
use crate::record::RunRecord;

/// Adds a dispatch comparison, or replaces what was stored under the same run directory.
///
/// # Errors
/// The database cannot be opened (another process may have it open) or written.
pub fn add_dispatch(store: &Path, folder: &Path, record: &RunRecord, outcome: &Outcome) -> Result<(), Failure> {
    add_run(store, folder, record, &[], &Comparison::default())?;
    let failed = failed(store);
    let mut connection = Connection::open(store).map_err(&failed)?;
    let transaction = connection.transaction().map_err(&failed)?;
    let run = folder.to_string_lossy().into_owned();
    for table in ["dispatch_system", "dispatch_ratio", "dispatch_trial"] {
        // The names are the constants of the line above.
        transaction.execute(&format!("DELETE FROM {table} WHERE run = ?"), params![run]).map_err(&failed)?;
    }
    for system in &outcome.study.systems {
        let row = params![
            run,
            system.name,
            system.service.name(),
            u64::try_from(system.servers).unwrap_or(u64::MAX),
            system.load_percent,
            system.requests,
            system.mean_ns,
            system.p50_ns,
            system.p99_ns,
            system.p999_ns,
            system.outstanding_seen
        ];
        let insert = "INSERT INTO dispatch_system VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";
        transaction.execute(insert, row).map_err(&failed)?;
    }
    let insert = "INSERT INTO dispatch_ratio VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";
    for ratio in &outcome.study.ratios {
        let row = params![
            run,
            ratio.a,
            ratio.b,
            ratio.metric,
            ratio.service.name(),
            u64::try_from(ratio.servers).unwrap_or(u64::MAX),
            f64::from(ratio.load_percent),
            ratio.ratio,
            ratio.ci_low,
            ratio.ci_high,
            ratio.verdict.name()
        ];
        transaction.execute(insert, row).map_err(&failed)?;
    }
    for capacity in &outcome.study.capacities {
        let row = params![
            run,
            capacity.name,
            "ideal",
            "capacity",
            capacity.service.name(),
            u64::try_from(capacity.servers).unwrap_or(u64::MAX),
            capacity.load_percent,
            capacity.share_of_ideal,
            capacity.ci_low,
            capacity.ci_high,
            None::<String>
        ];
        transaction.execute(insert, row).map_err(&failed)?;
    }
    for trial in outcome.live.iter().flat_map(|live| &live.trials) {
        let row = params![
            run,
            trial.policy,
            trial.block,
            trial.turn,
            trial.requests,
            trial.failed,
            trial.response_ns.p50,
            trial.response_ns.p99,
            trial.response_ns.p999,
            trial.slow_requests,
            trial.slow_response_ns.p50,
            trial.cpu_us_per_request,
            trial.verdict
        ];
        let insert = "INSERT INTO dispatch_trial VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";
        transaction.execute(insert, row).map_err(&failed)?;
    }
    transaction.commit().map_err(&failed)
}
