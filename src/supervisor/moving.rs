//! `twintier db migrate`: from one kind of database to the other.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::database::contract::Store;
use crate::database::duckdb::{self, DuckStore};
use crate::database::migrate::{Counted, Movable, copy, count, occupied};
use crate::database::postgres::{self, PostgresStore};

/// A database by the name that people give it.
enum Place {
    File(PathBuf),
    Server(Box<postgres::Settings>),
}

impl Place {
    fn of(text: &str, schema: &str) -> Result<Self, String> {
        let is_server = ["postgres://", "postgresql://"].iter().any(|scheme| text.starts_with(scheme))
            || (text.contains('=') && !Path::new(text).exists());
        if !is_server {
            return Ok(Self::File(text.into()));
        }
        let settings = postgres::Settings::parse(text, std::env::var("PGPASSWORD").ok())?;
        Ok(Self::Server(Box::new(settings.with_schema(schema)?.with_appliance("twintier db migrate").alone())))
    }
}

/// Moves everything; gives the table of what was moved.
///
/// # Errors
/// One sentence with the cure; then the target is as empty as it was.
pub fn run(from: &str, to: &str, schema: &str) -> Result<String, String> {
    let (from, to) = (Place::of(from, schema)?, Place::of(to, schema)?);
    match (from, to) {
        (Place::File(from), Place::Server(to)) => {
            let mut source = open_file(&from)?;
            let counted = into_server(&mut source, &to)?;
            Ok(table(&counted, &from.display().to_string(), &to.place()))
        }
        (Place::Server(from), Place::File(to)) => {
            let mut source = PostgresStore::open_as_it_is(&from)?;
            let counted = into_file(&mut source, &to)?;
            Ok(table(&counted, &from.place(), &to.display().to_string()))
        }
        (Place::File(_), Place::File(_)) => {
            Err("both are DuckDB files; copy the file with its .wal while no appliance has it open".into())
        }
        (Place::Server(_), Place::Server(_)) => Err("both are PostgreSQL; use pg_dump and pg_restore".into()),
    }
}

fn open_file(path: &Path) -> Result<DuckStore, String> {
    if !path.is_file() {
        return Err(format!("there is no DuckDB file {}; name the one of database.path", path.display()));
    }
    DuckStore::open_as_it_is(&duckdb::Settings::new(path))
}

fn into_server<S: Movable>(source: &mut S, to: &postgres::Settings) -> Result<Vec<Counted>, String> {
    let shapes = Arc::clone(source.shapes());
    // Whatever it has is looked at, also what this source does not have.
    if let Some(wrong) = occupied(&count(&mut PostgresStore::open_as_it_is(to)?)?) {
        return Err(format!(
            "schema `{}` of {} is not empty: {wrong}; name another schema, or drop it",
            to.schema,
            to.place()
        ));
    }
    copy(source, &mut PostgresStore::open(to, shapes)?)
}

/// Under another name first: a file that is there is whole.
fn into_file<S: Movable>(source: &mut S, to: &Path) -> Result<Vec<Counted>, String> {
    if to.exists() || to == Path::new(":memory:") {
        return Err(format!("{} exists already; name a new file", to.display()));
    }
    let mut half = to.as_os_str().to_owned();
    half.push(".migrating");
    let (half, failed) = (PathBuf::from(half), |error: std::io::Error| format!("{}: {error}", to.display()));
    let remove = || -> std::io::Result<()> {
        for ending in ["", ".wal"] {
            let mut path = half.clone().into_os_string();
            path.push(ending);
            match fs::remove_file(path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
                Ok(()) | Err(_) => {}
            }
        }
        Ok(())
    };
    // Of an attempt that was killed.
    remove().map_err(failed)?;
    let mut fill = || {
        let mut target = DuckStore::open(&duckdb::Settings::new(&half), Arc::clone(source.shapes()))?;
        let counted = copy(source, &mut target)?;
        target.close()?;
        Ok(counted)
    };
    let outcome: Result<Vec<Counted>, String> = fill();
    let folder = to.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    match outcome {
        Ok(counted) => {
            fs::rename(&half, to).and_then(|()| fs::File::open(folder)?.sync_all()).map_err(failed)?;
            Ok(counted)
        }
        Err(sentence) => {
            remove().map_err(failed)?;
            Err(sentence)
        }
    }
}

fn table(counted: &[Counted], from: &str, to: &str) -> String {
    let mut out = format!("{:<28} {:>10}  {}\n", "table", "rows", "digest, the same on both sides");
    for Counted { table, rows, digest } in counted {
        out += &format!("{table:<28} {rows:>10}  {digest:032x}\n");
    }
    out + &format!("moved from {from} to {to}; the source is as it was\n")
}
