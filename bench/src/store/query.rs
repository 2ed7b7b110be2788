//! Questions to the store, which is opened for reading only.

use std::path::Path;

use duckdb::types::{Value, ValueRef};
use duckdb::{AccessMode, Config, Connection};

use super::failed;
use crate::clock::utc_text;
use crate::failure::Failure;
use crate::table::Table;

/// Files that an answer can be written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileFormat {
    Csv,
    Json,
    Parquet,
}

impl FileFormat {
    fn options(self) -> &'static str {
        match self {
            Self::Csv => "FORMAT csv, HEADER",
            Self::Json => "FORMAT json, ARRAY true",
            Self::Parquet => "FORMAT parquet",
        }
    }
}

/// What there is to ask for.
const CONTENTS: &str = "
    SELECT 'table' AS kind, table_name AS name, comment AS meaning FROM duckdb_tables() WHERE NOT internal AND NOT temporary
    UNION ALL SELECT 'view', view_name, comment FROM duckdb_views() WHERE NOT internal
    UNION ALL SELECT 'macro', function_name || '(' || array_to_string(parameters, ', ') || ')', comment
        FROM duckdb_functions() WHERE function_type = 'macro' AND NOT internal
    ORDER BY kind DESC, name";

pub(super) fn open_for_reading(store: &Path) -> Result<Connection, Failure> {
    if !store.is_file() {
        return Err(Failure::Usage(format!(
            "{} does not exist; `bench quick`, `bench compare` and `bench import` fill it",
            store.display()
        )));
    }
    let config = Config::default().access_mode(AccessMode::ReadOnly).map_err(failed(store))?;
    Connection::open_with_flags(store, config).map_err(failed(store))
}

fn refused(error: duckdb::Error) -> Failure {
    Failure::Usage(error.to_string())
}

/// Answers a question in SQL.
///
/// # Errors
/// There is no store, or the database refuses the question.
pub fn query(store: &Path, sql: &str) -> Result<Table, Failure> {
    ask(&open_for_reading(store)?, sql)
}

pub(super) fn ask(connection: &Connection, sql: &str) -> Result<Table, Failure> {
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

/// Tables, views and macros, each with what it is.
///
/// # Errors
/// As [`query`].
pub fn contents(store: &Path) -> Result<Table, Failure> {
    query(store, CONTENTS)
}

/// Writes an answer to a file.
///
/// # Errors
/// As [`query`]; the file cannot be written.
pub fn write(store: &Path, sql: &str, format: FileFormat, path: &Path) -> Result<(), Failure> {
    let connection = open_for_reading(store)?;
    let question = sql.trim().trim_end_matches(';');
    let name = path.to_string_lossy().replace('\'', "''");
    connection.execute_batch(&format!("COPY ({question}) TO '{name}' ({})", format.options())).map_err(refused)
}

/// The tables and views that an export has a file of each. Views that only help to ask are left out.
const EXPORTED: [&str; 15] = [
    "run",
    "system",
    "trial",
    "ratio",
    "bound",
    "dispatch_system",
    "dispatch_ratio",
    "dispatch_trial",
    "figure",
    "figure_ratio",
    "load",
    "interval",
    "histogram",
    "bucket",
    "file",
];

/// Writes every table as a Parquet file to `folder`, of all runs or of some; the files with their numbers of rows.
///
/// # Errors
/// As [`write`]; a run that is not stored.
pub fn export(store: &Path, folder: &Path, runs: &[String]) -> Result<Table, Failure> {
    std::fs::create_dir_all(folder).map_err(|error| Failure::file(folder, &error))?;
    let quoted: Vec<String> = runs.iter().map(|run| format!("'{}'", run.replace('\'', "''"))).collect();
    for (run, quoted) in runs.iter().zip(&quoted) {
        let known = query(
            store,
            &format!("SELECT 1 FROM run WHERE run = {quoted} UNION ALL SELECT 1 FROM load WHERE run = {quoted}"),
        )?;
        if known.is_empty() {
            return Err(Failure::Usage(format!(
                "{run} is not in {}: `bench query \"SELECT DISTINCT run FROM load\"` lists what is, `bench import` adds it",
                store.display()
            )));
        }
    }
    let which = if runs.is_empty() { String::new() } else { format!(" WHERE run IN ({})", quoted.join(", ")) };
    let mut files = Table::new(&["file", "rows"]);
    for name in EXPORTED {
        let path = folder.join(format!("{name}.parquet"));
        let sql = format!("SELECT * FROM {name}{which}");
        write(store, &sql, FileFormat::Parquet, &path)?;
        let count = query(store, &format!("SELECT count(*) FROM ({sql})"))?;
        files.push(vec![path.display().to_string(), count.cells().next().unwrap_or_default().to_owned()]);
    }
    Ok(files)
}

/// A value as text; lists and structs as DuckDB writes them.
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
        other => value_text(&other.to_owned()),
    }
}

fn value_text(value: &Value) -> String {
    match value {
        Value::Null => "NULL".to_owned(),
        Value::UBigInt(value) => value.to_string(),
        Value::BigInt(value) => value.to_string(),
        Value::Double(value) => value.to_string(),
        Value::Text(text) => format!("'{text}'"),
        Value::List(values) => format!("[{}]", values.iter().map(value_text).collect::<Vec<_>>().join(", ")),
        Value::Struct(fields) => {
            let fields: Vec<String> =
                fields.iter().map(|(name, value)| format!("'{name}': {}", value_text(value))).collect();
            format!("{{{}}}", fields.join(", "))
        }
        // The rarer types are shown as the driver shows them; a cast to VARCHAR in the question gives DuckDB's own form.
        other => format!("{other:?}"),
    }
}
