//! `results.duckdb`: all runs in one database, for questions that no report foresaw.
//!
//! Architecture invariant: the run directories are the truth. The store is made from them and may be deleted.

mod dispatch;
mod figures;

use std::fs;
use std::path::Path;

use duckdb::types::ValueRef;
use duckdb::{AccessMode, Config, Connection, params};

use crate::case::Case;
use crate::clock::utc_text;
use crate::evaluate::Comparison;
use crate::failure::Failure;
use crate::record::RunRecord;
use crate::table::Table;
use crate::target::Holds;
use crate::trial::Trial;

pub use dispatch::add_dispatch;
pub use figures::add_figures;

const SCHEMA: &str = include_str!("store.sql");

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
    if let Some(parent) = store.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        fs::create_dir_all(parent).map_err(|error| Failure::file(parent, &error))?;
    }
    let failed = failed(store);
    let mut connection = Connection::open(store).map_err(&failed)?;
    connection.execute_batch(SCHEMA).map_err(&failed)?;
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
    transaction.commit().map_err(&failed)
}

fn work(case: &Case) -> &'static str {
    case.work.name()
}

fn load(case: &Case) -> &'static str {
    case.load.name()
}

/// Answers a question in SQL. The store is opened for reading only.
///
/// # Errors
/// There is no store, or the database refuses the question.
pub fn query(store: &Path, sql: &str) -> Result<Table, Failure> {
    if !store.is_file() {
        return Err(Failure::Usage(format!(
            "{} does not exist; `bench quick` and `bench compare` fill it",
            store.display()
        )));
    }
    let config = Config::default().access_mode(AccessMode::ReadOnly).map_err(failed(store))?;
    let connection = Connection::open_with_flags(store, config).map_err(failed(store))?;
    let refused = |error: duckdb::Error| Failure::Usage(error.to_string());
    let mut statement = connection.prepare(sql).map_err(refused)?;
    let mut rows = statement.query([]).map_err(refused)?;
    let names = rows.as_ref().map(|statement| statement.column_names()).unwrap_or_default();
    let mut table = Table::new(&names.iter().map(String::as_str).collect::<Vec<_>>());
    while let Some(row) = rows.next().map_err(refused)? {
        let cells = (0..names.len()).map(|column| row.get_ref(column).map(cell_text).map_err(refused));
        table.push(cells.collect::<Result<_, _>>()?);
    }
    Ok(table)
}

/// A value as text. The rarer types are shown as the driver shows them; a cast to VARCHAR in the question gives
/// DuckDB's own form.
fn cell_text(value: ValueRef<'_>) -> String {
    match value {
        ValueRef::Null => String::new(),
        ValueRef::Boolean(value) => value.to_string(),
        ValueRef::TinyInt(value) => value.to_string(),
        ValueRef::SmallInt(value) => value.to_string(),
        ValueRef::Int(value) => value.to_string(),
        ValueRef::BigInt(value) => value.to_string(),
        ValueRef::HugeInt(value) => value.to_string(),
        ValueRef::UTinyInt(value) => value.to_string(),
        ValueRef::USmallInt(value) => value.to_string(),
        ValueRef::UInt(value) => value.to_string(),
        ValueRef::UBigInt(value) => value.to_string(),
        ValueRef::UHugeInt(value) => value.to_string(),
        ValueRef::Float(value) => value.to_string(),
        ValueRef::Double(value) => value.to_string(),
        ValueRef::Text(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        ValueRef::Timestamp(unit, value) => utc_text(u64::try_from(unit.to_micros(value) / 1_000_000).unwrap_or(0)),
        other => format!("{:?}", other.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::{SCHEMA, query};
    use duckdb::Connection;

    #[test]
    fn questions_are_answered_as_tables() {
        let store = std::env::temp_dir().join(format!("bench-store-{}.duckdb", std::process::id()));
        Connection::open(&store).unwrap().execute_batch(SCHEMA).unwrap();
        let sql = "SELECT 1 AS one, 'two' AS two, 2.5::DOUBLE AS half, NULL AS nothing, TIMESTAMP '2026-11-23 13:47:00' AS at";
        let text = query(&store, sql).unwrap().text();
        assert!(
            text.contains("one")
                && text.contains("two")
                && text.contains("2.5")
                && text.contains("2026-11-23 13:47:00"),
            "{text}"
        );
        assert!(query(&store, "DELETE FROM run").is_err(), "the store is read only");
        assert!(query(&store, "SELECT nonsense").unwrap_err().to_string().contains("nonsense"));
        std::fs::remove_file(&store).unwrap();
    }
}
