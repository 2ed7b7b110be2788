//! The embedded database: DuckDB as a [`Store`]. This file and its room are the only ones that name it.
//!
//! DuckDB is columnar: an upsert through its primary key costs milliseconds, an append of a thousand rows hardly more
//! than of one. So a commit appends to `change_log` only; `fold` brings the rows to their data tables in batches
//! (append what is new, one joined `UPDATE` for the rest), and `open` folds what a crash left behind, by the names that
//! the log gives to fields. `ON CONFLICT` and delete-and-insert of a key within a transaction, DuckDB's known weak spots,
//! are never used.

mod cells;
mod connect;
mod fold;
mod moving;
mod shapes;

use std::cell::Cell as Slot;
use std::collections::HashMap;
use std::fs;
use std::sync::Arc;
use std::time::Duration;

use duckdb::{Connection, Error, appender_params_from_iter, params, params_from_iter};

pub use self::connect::Settings;

use self::cells::{Cell, record_cells, stamp_at, table_update, text_at, versions_at};
use self::connect::{connect, say};
use super::contract::{ABSENT, Compared, Deployed, Store, StoreResult, Uncommitted};
use super::dialect::{self, STAGE, TableSql};
use super::health::State;
use super::logged::record_text;
use super::revisions::{Revisions, versions_text};
use crate::tables::{Record, ShapeSet, Stamp, TableId, Update};

/// Pending rows at which a fold does not wait for an idle moment: bounds memory, the work of a restart, and the
/// pause that the fold is for the commits behind it.
pub const PENDING_MAX: usize = 2048;
/// Idle time after which pending rows are folded.
pub const FOLD_IDLE: Duration = Duration::from_millis(200);
/// Idle time after which the write-ahead log is emptied, if it has grown past [`CHECKPOINT_IDLE_BYTES`].
pub const CHECKPOINT_IDLE: Duration = Duration::from_secs(2);
/// Bytes of write-ahead log worth an idle checkpoint.
pub const CHECKPOINT_IDLE_BYTES: u64 = 16 << 20;
/// Change log lines that a file keeps when it is closed: enough to look into the past, bounded.
pub const CHANGE_LOG_LINES_MAX: u64 = 1_000_000;
/// An open database.
pub struct DuckStore {
    connection: Connection,
    settings: Settings,
    shapes: Arc<ShapeSet>,
    tables: Vec<TableSql>,
    revisions: Revisions,
    /// The last change log line, with the open transaction's; and the last one committed.
    number: i64,
    number_committed: i64,
    /// Whether `BEGIN` has been sent: transactions that write nothing cost nothing.
    begun: bool,
    /// The connection cannot be used until the file has been opened again.
    broken: bool,
    /// What the last failure says about the database.
    trouble: Slot<State>,
    torn_bytes: u64,
}

impl DuckStore {
    /// Opens or creates the file, brings its tables to the shapes and folds in what a crash left in the change log.
    ///
    /// # Errors
    /// Locked by another process, other version, no database, corrupt, disk full, a column whose kind changed: one
    /// sentence with the cure.
    pub fn open(settings: &Settings, shapes: Arc<ShapeSet>) -> Result<Self, String> {
        Self::open_with(settings, |_| Ok(shapes))
    }

    /// The same where the shapes depend on the code that was deployed.
    ///
    /// # Errors
    /// As [`Self::open`], and what `shapes_of` says.
    pub fn open_with(
        settings: &Settings,
        shapes_of: impl FnOnce(&[Deployed]) -> Result<Arc<ShapeSet>, String>,
    ) -> Result<Self, String> {
        Self::folded(settings, |store| shapes_of(&store.deployed()?))
    }

    /// Opens a file with the data tables that it has.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_as_it_is(settings: &Settings) -> Result<Self, String> {
        Self::folded(settings, |store| store.found_shapes().map(Arc::new))
    }

    fn folded(
        settings: &Settings,
        shapes_of: impl FnOnce(&mut Self) -> Result<Arc<ShapeSet>, String>,
    ) -> Result<Self, String> {
        let mut store = Self::assemble(settings, shapes_of)?;
        match store.fold() {
            Ok(()) => Ok(store),
            Err(_) if store.trouble() == State::Full => {
                // The rows stay in the change log and in memory; reads go on, and writes when there is room again.
                let (shapes, torn_bytes) = (store.shapes.clone(), store.torn_bytes);
                // Two handles in one process would each believe to be alone.
                drop(store);
                let mut store = Self::assemble(settings, |_| Ok(shapes))?;
                store.trouble.set(State::Full);
                store.torn_bytes += torn_bytes;
                Ok(store)
            }
            Err(sentence) => Err(sentence),
        }
    }

    /// Everything but the fold of what is in the change log.
    fn assemble(
        settings: &Settings,
        shapes_of: impl FnOnce(&mut Self) -> Result<Arc<ShapeSet>, String>,
    ) -> Result<Self, String> {
        let (connection, torn_bytes) = connect(settings)?;
        let mut store = Self {
            connection,
            settings: settings.clone(),
            shapes: Arc::default(),
            tables: Vec::new(),
            revisions: Revisions::default(),
            number: 0,
            number_committed: 0,
            begun: false,
            broken: false,
            trouble: Slot::default(),
            torn_bytes,
        };
        store.check_version()?;
        let shapes = shapes_of(&mut store)?;
        let left = store.unfolded()?;
        let placed = store.place(&left, &shapes)?;
        if placed.is_none() {
            store.fold_as_written(&left)?;
        }
        store.adopt(shapes)?;
        store.load_revisions()?;
        for update in placed.into_iter().flatten() {
            store.revisions.committed(update);
        }
        Ok(store)
    }

    /// Writes change log lines within the open transaction.
    fn append_log(&mut self, updates: &[Update], stored: bool) -> StoreResult<()> {
        let mut number = self.number;
        let mut write = || -> duckdb::Result<i64> {
            let mut appender = self.connection.appender("change_log")?;
            for update in updates {
                number += 1;
                let shape = self.shapes.get(update.table);
                let table = &*shape.table;
                let record = update.record.as_ref().filter(|_| !stored).map(|record| record_text(record, shape));
                appender.append_row(appender_params_from_iter([
                    Cell::Integer(number),
                    Cell::Text(table),
                    Cell::Text(&update.key),
                    Cell::Integer(i64::from(update.stamp.sequence)),
                    Cell::Time(update.stamp.time),
                    Cell::Small(update.stamp.server.into()),
                    Cell::Text(&versions_text(&update.versions)),
                    Cell::Boolean(update.record.is_none()),
                    Cell::Boolean(stored),
                    record.as_deref().map_or(Cell::Null, Cell::Text),
                ]))?;
            }
            appender.flush()?;
            Ok(number)
        };
        self.number = write().map_err(|error| self.say(&error))?;
        Ok(())
    }

    fn ensure_begun(&mut self) -> StoreResult<()> {
        if !self.begun {
            self.connection.execute_batch("BEGIN").map_err(|error| self.note(&error))?;
            self.begun = true;
        }
        Ok(())
    }

    fn end(&mut self) -> StoreResult<()> {
        if self.begun {
            self.begun = false;
            self.connection.execute_batch("COMMIT").map_err(|error| self.note(&error))?;
        }
        self.number_committed = self.number;
        Ok(())
    }

    fn undo(&mut self) {
        self.number = self.number_committed;
        if self.begun || !self.connection.is_autocommit() {
            self.begun = false;
            if let Err(error) = self.connection.execute_batch("ROLLBACK") {
                let _sentence = self.note(&error);
            }
        }
    }

    /// DuckDB refuses everything after an error that left it unsure (a write to a full disk): the file is opened again,
    /// which is also what makes it certain what was committed.
    fn reopen(&mut self) -> StoreResult<()> {
        if self.settings.in_memory() {
            return Err("the database in memory is lost after an internal error; restart the program".into());
        }
        // Two handles in one process would each believe to be alone.
        self.connection = Connection::open_in_memory().map_err(|error| self.say(&error))?;
        let (settings, shapes, torn_bytes) = (self.settings.clone(), self.shapes.clone(), self.torn_bytes);
        *self = Self::open(&settings, shapes)?;
        self.torn_bytes += torn_bytes;
        Ok(())
    }

    /// `COMMIT` broke off: opens the file again, which finishes or undoes the transaction, and looks whether its last
    /// line is there.
    fn settle(&mut self, sentence: String) -> Result<(), Uncommitted> {
        let (wanted, before, trouble) = (self.number, self.number_committed, self.trouble.get());
        if wanted == before {
            // No line tells (a deploy).
            return Err(Uncommitted::Unknown(sentence));
        }
        match self.reopen() {
            // It is in the log's file. That the kernel has brought it to the disk must be heard from it once more, and
            // after an `fsync` that failed it cannot be.
            Ok(()) if self.number >= wanted => {
                let synced = !dialect::unsynced(&sentence)
                    && fs::File::open(self.settings.log_path()).and_then(|log| log.sync_all()).is_ok();
                if synced {
                    return Ok(());
                }
                self.trouble.set(State::Down);
                Err(Uncommitted::Unknown(sentence))
            }
            Ok(()) => {
                self.trouble.set(trouble);
                Err(Uncommitted::Undone(sentence))
            }
            Err(_) => Err(Uncommitted::Unknown(sentence)),
        }
    }

    fn note(&mut self, error: &Error) -> String {
        self.broken |= dialect::breaks(&error.to_string());
        self.say(error)
    }

    fn say(&self, error: &Error) -> String {
        self.trouble.set(dialect::trouble(&error.to_string()));
        say(error, &self.settings.path)
    }

    fn damaged(&self, table: &str) -> String {
        format!(
            "table `{table}` of {} holds what this program never writes; restore the file from a backup",
            self.settings.path.display()
        )
    }

    fn wal_bytes(&self) -> u64 {
        fs::metadata(self.settings.log_path()).map_or(0, |metadata| metadata.len())
    }
}

impl Store for DuckStore {
    fn shapes(&self) -> &Arc<ShapeSet> {
        &self.shapes
    }

    fn reshape(&mut self, shapes: Arc<ShapeSet>) -> StoreResult<()> {
        self.fold()?;
        self.adopt(shapes)
    }

    fn withdraw(&mut self, shapes: Arc<ShapeSet>) -> StoreResult<()> {
        self.fold()?;
        self.connection.flush_prepared_statement_cache();
        self.tables = shapes.shapes.iter().map(|shape| TableSql::new(shape)).collect();
        self.shapes = shapes;
        Ok(())
    }

    /// The only place where a broken connection is replaced: what a transaction has drafted would be forgotten with it.
    fn begin(&mut self) -> StoreResult<()> {
        self.trouble.set(State::Up);
        if self.broken { self.reopen() } else { Ok(()) }
    }

    /// `COMMIT` returns after DuckDB has appended the transaction to its write-ahead log and `fsync` has returned:
    /// `WriteAheadLog::Flush` (`write_ahead_log.cpp`) ends in `writer->Sync()`, which is `fsync` of the log file
    /// (`LocalFileSystem::FileSync`), and `DuckTransactionManager::CommitTransaction` waits for it. A test watches the
    /// system calls: `tests/black_box/crash.rs`.
    fn commit(&mut self) -> Result<(), Uncommitted> {
        if !self.revisions.drafted().is_empty() {
            let drafted = self.revisions.drafted().to_vec();
            self.ensure_begun().and_then(|()| self.append_log(&drafted, false)).map_err(Uncommitted::Undone)?;
        }
        match self.end() {
            Ok(()) => {
                self.revisions.commit();
                Ok(())
            }
            Err(sentence) if self.broken => self.settle(sentence),
            // DuckDB cut its log back to where it was before.
            Err(sentence) => Err(Uncommitted::Undone(sentence)),
        }
    }

    fn rollback(&mut self) {
        self.undo();
        self.revisions.rollback();
    }

    fn torn_bytes(&self) -> u64 {
        self.torn_bytes
    }

    fn trouble(&self) -> State {
        self.trouble.get()
    }

    fn stamps_of(&mut self, rows: &[(TableId, &str)]) -> StoreResult<Vec<Stamp>> {
        Ok(rows.iter().map(|(table, key)| self.revisions.stamp(*table, key).unwrap_or(ABSENT)).collect())
    }

    fn row(&mut self, table: TableId, key: &str) -> StoreResult<Option<Update>> {
        if let Some(update) = self.revisions.unfolded(table, key) {
            return Ok(Some(Update { base: ABSENT, ..update.clone() }));
        }
        if !self.revisions.in_table(table, key) {
            return Ok(None);
        }
        let index = usize::from(table.0);
        let sql = &self.tables[index];
        let read = || -> duckdb::Result<Option<Option<Update>>> {
            let mut statement = self.connection.prepare_cached(&sql.select_row)?;
            let mut rows = statement.query([key])?;
            Ok(rows.next()?.map(|row| table_update(row, table, &self.shapes.shapes[index])))
        };
        match read().map_err(|error| self.say(&error))? {
            Some(Some(update)) => Ok(Some(update)),
            Some(None) | None => Err(self.damaged(&sql.name)),
        }
    }

    fn upsert(&mut self, updates: &[Update]) -> StoreResult<()> {
        for update in updates {
            self.revisions.draft(update);
        }
        Ok(())
    }

    fn compare_bulk(&mut self, table: TableId, records: &[(&str, &Record)]) -> StoreResult<Vec<Compared>> {
        self.begin()?;
        self.fold()?;
        let index = usize::from(table.0);
        let sql = &self.tables[index];
        let fields = self.shapes.shapes[index].fields.len();
        let mut compared = vec![Compared::New; records.len()];
        let known: HashMap<&str, usize> = (0..records.len())
            .filter(|position| self.revisions.in_table(table, records[*position].0))
            .map(|position| (records[position].0, position))
            .collect();
        if known.is_empty() {
            return Ok(compared);
        }
        let mut read = || -> duckdb::Result<usize> {
            self.connection.execute_batch(&sql.stage)?;
            {
                let mut appender = self.connection.appender_to_catalog_and_db(STAGE, "temp", "main")?;
                for position in known.values() {
                    let (key, record) = records[*position];
                    let stamps = dialect::STAMP_COLUMNS.map(|_| Cell::Null);
                    appender
                        .append_row(appender_params_from_iter(record_cells(key, Some(record), fields).chain(stamps)))?;
                }
                appender.flush()?;
            }
            let mut statement = self.connection.prepare(&sql.compare)?;
            let mut rows = statement.query([])?;
            let mut matched = 0;
            while let Some(row) = rows.next()? {
                let position = text_at(row, 0).and_then(|key| known.get(key));
                let (Some(position), Some(stamp), Some(versions)) = (position, stamp_at(row, 2), versions_at(row, 5))
                else {
                    continue;
                };
                matched += 1;
                compared[*position] = if row.get(1)? { Compared::Equal } else { Compared::Differs { stamp, versions } };
            }
            Ok(matched)
        };
        let matched = read().map_err(|error| self.say(&error))?;
        if matched != known.len() {
            return Err(self.damaged(&sql.name));
        }
        Ok(compared)
    }

    fn put_bulk(&mut self, table: TableId, updates: &[Update]) -> StoreResult<()> {
        self.ensure_begun()?;
        let (replacing, new) =
            updates.iter().partition::<Vec<_>, _>(|update| self.revisions.in_table(table, &update.key));
        let index = usize::from(table.0);
        self.append_rows(index, &new)?;
        self.replace_rows(index, &replacing)?;
        self.append_log(updates, true)?;
        for update in updates {
            self.revisions.draft_bulk(update);
        }
        Ok(())
    }

    fn keep_conflict(&mut self, loser: &Update, found_ms: u64) -> StoreResult<()> {
        self.ensure_begun()?;
        let insert = "INSERT INTO conflict VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)";
        let record = loser.record.as_ref().map(|record| record_text(record, self.shapes.get(loser.table)));
        let values = [
            Cell::Text(&self.shapes.get(loser.table).table),
            Cell::Text(&loser.key),
            Cell::Integer(loser.stamp.sequence.into()),
            Cell::Time(loser.stamp.time),
            Cell::Small(loser.stamp.server.into()),
            Cell::Text(&versions_text(&loser.versions)),
            Cell::Boolean(loser.record.is_none()),
            record.as_deref().map_or(Cell::Null, Cell::Text),
            Cell::Time(found_ms),
        ];
        let write = || self.connection.prepare_cached(insert)?.execute(params_from_iter(values));
        write().map(|_| ()).map_err(|error| self.say(&error))
    }

    /// Reads only: it works on a full disk.
    fn load_all(&mut self, table: TableId, each: &mut dyn FnMut(Update)) -> StoreResult<()> {
        let (new, replacing) = self.revisions.pending(table);
        new.into_iter().chain(replacing).for_each(|update| each(Update { base: ABSENT, ..update.clone() }));
        let index = usize::from(table.0);
        let sql = &self.tables[index];
        let mut read = || -> duckdb::Result<bool> {
            let mut statement = self.connection.prepare(&sql.select_all)?;
            let mut rows = statement.query([])?;
            while let Some(row) = rows.next()? {
                let Some(update) = table_update(row, table, &self.shapes.shapes[index]) else {
                    return Ok(false);
                };
                if !self.revisions.is_pending(table, &update.key) {
                    each(update);
                }
            }
            Ok(true)
        };
        if read().map_err(|error| self.say(&error))? { Ok(()) } else { Err(self.damaged(&sql.name)) }
    }

    fn deploy(&mut self, deployed: &Deployed, now_ms: u64) -> StoreResult<()> {
        self.ensure_begun()?;
        let write = || -> duckdb::Result<()> {
            let (version, application) = (Cell::Time(deployed.version), Cell::Text(&deployed.application));
            let values = [version, application, Cell::Text(&deployed.base_digest), Cell::Time(now_ms)];
            self.connection
                .prepare_cached("INSERT INTO deployment VALUES (?, ?, ?, ?)")?
                .execute(params_from_iter(values))?;
            // Only the latest sources are ever run again; the line in `deployment` stays.
            self.connection
                .prepare_cached("DELETE FROM code_table WHERE application = ?")?
                .execute([&*deployed.application])?;
            let mut insert = self.connection.prepare_cached("INSERT INTO code_table VALUES (?, ?, ?, ?)")?;
            for (path, source) in &deployed.sources {
                insert.execute(params_from_iter([version, application, Cell::Text(path), Cell::Text(source)]))?;
            }
            Ok(())
        };
        write().map_err(|error| self.say(&error))
    }

    fn deployed(&mut self) -> StoreResult<Vec<Deployed>> {
        let read = || -> duckdb::Result<Vec<Deployed>> {
            let latest = "SELECT version, application, base_digest FROM deployment \
                          QUALIFY row_number() OVER (PARTITION BY application ORDER BY version DESC, deployed DESC) = 1 \
                          ORDER BY application";
            let mut statement = self.connection.prepare(latest)?;
            let found = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
            let found: Vec<(i64, String, String)> = found.collect::<Result<_, _>>()?;
            let sources = "SELECT path, source FROM code_table WHERE version = ? AND application = ? ORDER BY path";
            let mut statement = self.connection.prepare(sources)?;
            let mut deployed = Vec::new();
            for (version, application, base_digest) in found {
                let sources =
                    statement.query_map(params![version, application], |row| Ok((row.get(0)?, row.get(1)?)))?;
                deployed.push(Deployed {
                    version: u64::try_from(version).unwrap_or(0),
                    application: application.clone().into(),
                    base_digest: base_digest.into(),
                    sources: sources.collect::<Result<_, _>>()?,
                });
            }
            Ok(deployed)
        };
        read().map_err(|error| self.say(&error))
    }

    fn setting(&mut self, name: &str) -> StoreResult<Option<String>> {
        let value = self.connection.query_row("SELECT value FROM setting WHERE name = ?", [name], |row| row.get(0));
        match value {
            Ok(value) => Ok(Some(value)),
            Err(Error::QueryReturnedNoRows) => Ok(None),
            Err(error) => Err(self.say(&error)),
        }
    }

    fn set_setting(&mut self, name: &str, value: &str) -> StoreResult<()> {
        self.ensure_begun()?;
        let write = || -> duckdb::Result<()> {
            let updated = self
                .connection
                .prepare_cached("UPDATE setting SET value = ? WHERE name = ?")?
                .execute([value, name])?;
            if updated == 0 {
                self.connection.prepare_cached("INSERT INTO setting VALUES (?, ?)")?.execute([name, value])?;
            }
            Ok(())
        };
        write().map_err(|error| self.say(&error))
    }

    fn extent(&self) -> (u64, u64) {
        self.revisions.extent()
    }

    fn maintain(&mut self, idle: Duration) -> StoreResult<Option<Duration>> {
        let pending = self.revisions.pending_count();
        if pending >= PENDING_MAX || (pending > 0 && idle >= FOLD_IDLE) {
            self.fold()?;
        } else if pending > 0 {
            return Ok(Some(FOLD_IDLE.saturating_sub(idle)));
        }
        if self.settings.in_memory() || self.wal_bytes() < CHECKPOINT_IDLE_BYTES {
            return Ok(None);
        }
        if idle < CHECKPOINT_IDLE {
            return Ok(Some(CHECKPOINT_IDLE.saturating_sub(idle)));
        }
        self.connection.execute_batch("CHECKPOINT").map_err(|error| self.note(&error))?;
        Ok(None)
    }

    fn close(&mut self) -> StoreResult<()> {
        self.begin()?;
        self.fold()?;
        if self.settings.in_memory() {
            return Ok(());
        }
        let kept = i64::try_from(CHANGE_LOG_LINES_MAX).unwrap_or(i64::MAX);
        let trim = || -> duckdb::Result<()> {
            self.connection.execute("DELETE FROM change_log WHERE number <= ?", [self.number.saturating_sub(kept)])?;
            self.connection.execute_batch("CHECKPOINT")
        };
        trim().map_err(|error| self.say(&error))
    }
}
