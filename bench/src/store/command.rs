//! `bench query`, `bench import` and `bench export`.

use std::fs;
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};

use super::query::FileFormat;
use super::{import, query};
use crate::failure::Failure;

/// Longer cells of an answer are clipped on a terminal; a pipe gets all of them.
const TERMINAL_CELL_COLUMNS: usize = 60;

#[derive(Args)]
pub struct QueryArgs {
    /// The question, such as "FROM ratio"; without one the tables, views and macros are listed.
    sql: Option<String>,
    /// How the answer is written.
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
    /// Where to; needed for parquet.
    #[arg(long, value_name = "FILE", required_if_eq("format", "parquet"))]
    out: Option<PathBuf>,
    /// The store of all runs.
    #[arg(long, value_name = "FILE", default_value = "results/results.duckdb")]
    store: PathBuf,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Table,
    Csv,
    Json,
    Parquet,
}

#[derive(Args)]
pub struct ImportArgs {
    /// Run directories of bench or loadgen; files with the output of wrk, wrk2, h2load, oha, k6 or vegeta.
    #[arg(required = true)]
    paths: Vec<PathBuf>,
    /// The store of all runs.
    #[arg(long, value_name = "FILE", default_value = "results/results.duckdb")]
    store: PathBuf,
}

#[derive(Args)]
pub struct ExportArgs {
    /// Runs as the store names them; all without any.
    runs: Vec<String>,
    /// The folder that gets a Parquet file for each table.
    #[arg(long, value_name = "DIR")]
    parquet: PathBuf,
    /// The store of all runs.
    #[arg(long, value_name = "FILE", default_value = "results/results.duckdb")]
    store: PathBuf,
}

/// # Errors
/// No store, a question that the database refuses, or a file that cannot be written.
pub fn ask(args: &QueryArgs) -> Result<(), Failure> {
    let file_format = match (args.format, &args.sql) {
        (Format::Csv, Some(_)) => FileFormat::Csv,
        (Format::Json, Some(_)) => FileFormat::Json,
        (Format::Parquet, Some(_)) => FileFormat::Parquet,
        (Format::Table, _) | (_, None) => return show(args),
    };
    let sql = args.sql.as_deref().unwrap_or_default();
    if let Some(out) = &args.out {
        return query::write(&args.store, sql, file_format, out);
    }
    // The database writes files only.
    let path = std::env::temp_dir().join(format!("bench-answer-{}", std::process::id()));
    let answer = query::write(&args.store, sql, file_format, &path)
        .and_then(|()| fs::read(&path).map_err(|error| Failure::file(&path, &error)));
    let _ = fs::remove_file(&path);
    std::io::stdout().write_all(&answer?).map_err(|error| Failure::file(Path::new("standard output"), &error))
}

fn show(args: &QueryArgs) -> Result<(), Failure> {
    let mut table = match &args.sql {
        Some(sql) => query::query(&args.store, sql)?,
        None => query::contents(&args.store)?,
    };
    if let Some(out) = &args.out {
        return fs::write(out, table.text()).map_err(|error| Failure::file(out, &error));
    }
    if args.sql.is_some() && std::io::stdout().is_terminal() {
        table.clip(TERMINAL_CELL_COLUMNS);
    }
    print!("{}", table.text());
    Ok(())
}

/// # Errors
/// A path that is nothing that is known; those before it are stored.
pub fn import(args: &ImportArgs) -> Result<(), Failure> {
    for path in &args.paths {
        println!("{}: {}", path.display(), import::add(&args.store, path)?);
    }
    Ok(())
}

/// # Errors
/// No store, a run that it does not have, or a file that cannot be written.
pub fn export(args: &ExportArgs) -> Result<(), Failure> {
    print!("{}", query::export(&args.store, &args.parquet, &args.runs)?.text());
    Ok(())
}
