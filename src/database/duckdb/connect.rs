//! The way to the file: with what resources, and what is done about a log that cannot be read.

use std::fs;
use std::path::{Path, PathBuf};

use duckdb::{Config, Connection, Error};

use crate::database::contract::StoreResult;
use crate::database::dialect;
use crate::database::health::State;
use crate::database::log_tail::{self, Tail};

/// Prepared statements kept: two for each data table, and the constant ones.
const STATEMENTS_MAX: usize = 256;

/// Where and with what resources the database runs.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The file, or `:memory:`.
    pub path: PathBuf,
    /// What DuckDB may use for its buffers.
    pub memory_bytes: u64,
    /// Bytes of write-ahead log at which a commit also checkpoints.
    pub checkpoint_bytes: u64,
    /// A log that is damaged is cut before the damage, with a copy kept, instead of refused.
    pub cut_damaged_log: bool,
}

impl Settings {
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), memory_bytes: 1 << 30, checkpoint_bytes: 256 << 20, cut_damaged_log: false }
    }

    /// DuckDB's write-ahead log beside the file.
    pub(super) fn log_path(&self) -> PathBuf {
        self.beside(".wal")
    }

    fn beside(&self, ending: &str) -> PathBuf {
        let mut path = self.path.clone().into_os_string();
        path.push(ending);
        path.into()
    }

    pub(super) fn in_memory(&self) -> bool {
        self.path == Path::new(":memory:")
    }
}

/// Opens the file, after a look at its write-ahead log: DuckDB itself would drop what it cannot read without a word.
/// Gives also the bytes of a torn tail that was dropped.
pub(super) fn connect(settings: &Settings) -> StoreResult<(Connection, u64)> {
    let (path, log) = (settings.path.display(), settings.log_path());
    if settings.in_memory() {
        return Ok((connect_as_it_is(settings)?, 0));
    }
    let tail = log_tail::inspect(&log)
        .map_err(|error| format!("the log {} of the database cannot be read: {error}", log.display()))?;
    if !settings.path.exists() && fs::metadata(&log).is_ok_and(|found| found.len() > 0) {
        return Err(format!(
            "the database file {path} is missing and its log {} is there; put the file back, or move the log away to begin with an empty database",
            log.display()
        ));
    }
    match tail {
        Tail::Whole => match try_connect(settings) {
            Ok(connection) => Ok((connection, 0)),
            // Its entries are whole, and DuckDB cannot use them: the log of another file, or a wrong header.
            Err(refused) if refused.by_log && settings.cut_damaged_log => cut(settings, &log, 0),
            Err(refused) => Err(refused.sentence),
        },
        Tail::Torn { torn_bytes, .. } => {
            let connection = connect_as_it_is(settings)?;
            ::log::warn!(
                file:% = log.display(), dropped_bytes = torn_bytes;
                "the database's log ended in the middle of a transaction that nobody was told of"
            );
            Ok((connection, torn_bytes))
        }
        Tail::Damaged { at_byte, whole_behind, .. } if !settings.cut_damaged_log => Err(format!(
            "the log {} of the database is damaged at byte {at_byte}, and {whole_behind} ends of transactions stand behind that; restore {path} and the log from a backup, or start once with --set database.damaged_log=cut, which keeps what is before the damage and leaves the rest in a copy of the log",
            log.display()
        )),
        Tail::Damaged { kept_bytes, .. } => cut(settings, &log, kept_bytes),
    }
}

/// Opens the file with what is before the damage in its log. Nothing is cut before it is certain that no other process
/// has the file: DuckDB looks for its lock before it looks into the log.
fn cut(settings: &Settings, log: &Path, kept_bytes: u64) -> StoreResult<(Connection, u64)> {
    let copy = settings.beside(".wal.damaged");
    let wrong = |error: std::io::Error| format!("the damaged log {} cannot be cut: {error}", log.display());
    let whole_bytes = fs::copy(log, &copy).map_err(wrong)?;
    let connection = match try_connect(settings) {
        // It drops the rest by itself.
        Ok(connection) => connection,
        Err(refused) if refused.trouble == State::Locked => return Err(refused.sentence),
        Err(_) => {
            fs::OpenOptions::new().write(true).open(log).and_then(|file| file.set_len(kept_bytes)).map_err(wrong)?;
            connect_as_it_is(settings)?
        }
    };
    let cut_bytes = whole_bytes - kept_bytes;
    ::log::warn!(
        file:% = log.display(), dropped_bytes = cut_bytes, copy:% = copy.display();
        "the database's damaged log is cut, as database.damaged_log says"
    );
    Ok((connection, cut_bytes))
}

fn connect_as_it_is(settings: &Settings) -> StoreResult<Connection> {
    try_connect(settings).map_err(|refused| refused.sentence)
}

/// Why DuckDB does not open the file.
struct Refused {
    sentence: String,
    trouble: State,
    /// Because of what is in its write-ahead log.
    by_log: bool,
}

fn try_connect(settings: &Settings) -> Result<Connection, Refused> {
    let config = || -> duckdb::Result<Config> {
        let memory = format!("{}MiB", (settings.memory_bytes >> 20).max(64));
        let checkpoint = format!("{}MiB", (settings.checkpoint_bytes >> 20).max(1));
        // One thread: the machine's cores belong to the workers. Nothing is fetched from outside at run time.
        Config::default()
            .threads(1)?
            .max_memory(&memory)?
            .enable_autoload_extension(false)?
            .with("checkpoint_threshold", checkpoint)
    };
    let open = || {
        if settings.in_memory() {
            Connection::open_in_memory_with_flags(config()?)
        } else {
            Connection::open_with_flags(&settings.path, config()?)
        }
    };
    let refused = |error: Error| {
        let text = error.to_string();
        Refused {
            sentence: say(&error, &settings.path),
            trouble: dialect::trouble(&text),
            by_log: dialect::is_about_log(&text),
        }
    };
    let connection = open().map_err(refused)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
    Ok(connection)
}

pub(super) fn say(error: &Error, path: &Path) -> String {
    match error {
        Error::DuckDBFailure(_, Some(text)) => dialect::sentence(text, path),
        other => dialect::sentence(&other.to_string(), path),
    }
}
