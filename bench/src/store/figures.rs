//! The rows of a job of figures.

use std::path::Path;

use duckdb::{Connection, params};

use super::{add_run, failed};
use crate::evaluate::Comparison;
use crate::failure::Failure;
use crate::figures::Outcome;
use crate::record::RunRecord;
use crate::target::Holds;

/// Adds a run, or replaces what was stored under the same run directory.
///
/// # Errors
/// The database cannot be opened (another process may have it open) or written.
pub fn add_figures(store: &Path, folder: &Path, record: &RunRecord, outcome: &Outcome) -> Result<(), Failure> {
    add_run(store, folder, record, &[], &Comparison::default())?;
    let failed = failed(store);
    let mut connection = Connection::open(store).map_err(&failed)?;
    let transaction = connection.transaction().map_err(&failed)?;
    let run = folder.to_string_lossy().into_owned();
    for table in ["figure", "figure_ratio"] {
        // The names are the constants of the line above.
        transaction.execute(&format!("DELETE FROM {table} WHERE run = ?"), params![run]).map_err(&failed)?;
    }
    for figure in &outcome.figures {
        let version = outcome.systems.iter().find(|system| system.name == figure.system);
        let row = params![
            run,
            outcome.job,
            figure.system,
            version.map(|system| system.version.clone()),
            figure.case,
            figure.metric,
            figure.blocks,
            figure.value,
            figure.ci_low,
            figure.ci_high
        ];
        transaction.execute("INSERT INTO figure VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", row).map_err(&failed)?;
    }
    for ratio in &outcome.ratios {
        let row = params![
            run,
            outcome.job,
            ratio.a,
            ratio.b,
            ratio.case,
            ratio.metric,
            ratio.ratio,
            ratio.ci_low,
            ratio.ci_high,
            ratio.blocks,
            ratio.verdict.name(),
            ratio.target.map(|target| target.limit),
            ratio.holds.map(Holds::name)
        ];
        let insert = "INSERT INTO figure_ratio VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";
        transaction.execute(insert, row).map_err(&failed)?;
    }
    transaction.commit().map_err(&failed)
}
