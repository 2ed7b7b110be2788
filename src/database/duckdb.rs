//! The embedded database: DuckDB as a [`Store`]. The only file that names it.
//!
//! DuckDB is columnar: an upsert through its primary key costs milliseconds, an append of a thousand rows hardly more
//! than of one. So a commit appends to `change_log` only; `fold` brings the rows to their data tables in batches
//! (append what is new, one joined `UPDATE` for the rest), and `open` folds what a crash left behind, by the names that
//! the log gives to fields. `ON CONFLICT` and delete-and-insert of a key within a transaction, DuckDB's known weak spots,
//! are never used.

use std::cell::Cell as Slot;
use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use duckdb::types::{ToSql, ToSqlOutput, ValueRef};
use duckdb::{Appender, Config, Connection, Error, Row, appender_params_from_iter, params, params_from_iter};

use super::contract::{ABSENT, Compared, Deployed, Store, StoreResult, Uncommitted};
use super::dialect::{self, HOUSE, SCHEMA_VERSION, SCHEMA_VERSION_UNNAMED, STAGE, TableSql, column_type};
use super::health::State;
use super::log_tail::{self, Tail};
use super::logged::{self, Line, record_text, table_id, values_of};
use super::migrate::{House, Movable};
use super::revisions::{Revisions, versions_of, versions_text};
use crate::tables::{DocumentShape, Field, FieldKind, Record, ShapeSet, Stamp, TableId, Update, Value};

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
    fn log_path(&self) -> PathBuf {
        self.beside(".wal")
    }

    fn beside(&self, ending: &str) -> PathBuf {
        let mut path = self.path.clone().into_os_string();
        path.push(ending);
        path.into()
    }

    fn in_memory(&self) -> bool {
        self.path == Path::new(":memory:")
    }
}

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

    /// A table created by another schema version is not touched.
    fn check_version(&mut self) -> StoreResult<()> {
        let count = "SELECT count(*) FROM duckdb_tables() WHERE NOT temporary";
        let tables: i64 = self.connection.query_row(count, [], |row| row.get(0)).map_err(|error| self.say(&error))?;
        let has = "SELECT count(*) FROM duckdb_tables() WHERE table_name = 'setting'";
        let settings: i64 = self.connection.query_row(has, [], |row| row.get(0)).map_err(|error| self.say(&error))?;
        let version = if settings > 0 { self.setting("schema_version")? } else { None };
        match version {
            Some(version) if version == SCHEMA_VERSION => Ok(()),
            // Its lines are told by their form; programs of that version cannot read those that come now.
            Some(version) if version == SCHEMA_VERSION_UNNAMED => {
                self.set_setting("schema_version", SCHEMA_VERSION)?;
                self.end()
            }
            Some(version) => Err(format!(
                "{} has schema version {version} and this program needs {SCHEMA_VERSION}; start the program that wrote it, or name another file",
                self.settings.path.display()
            )),
            None if tables > 0 => {
                Err(format!("{} is a DuckDB file of another program; name another file", self.settings.path.display()))
            }
            None => {
                let create = format!("BEGIN; {}; COMMIT", HOUSE.join(";"));
                self.connection.execute_batch(&create).map_err(|error| self.say(&error))?;
                self.set_setting("schema_version", SCHEMA_VERSION)?;
                self.set_setting("folded", "0")?;
                self.end()
            }
        }
    }

    /// Creates tables and appends columns.
    fn adopt(&mut self, shapes: Arc<ShapeSet>) -> StoreResult<()> {
        dialect::refuse_all(&shapes, &self.shapes)?;
        let tables: Vec<TableSql> = shapes.shapes.iter().map(|shape| TableSql::new(shape)).collect();
        let mut altered = false;
        for (shape, sql) in shapes.shapes.iter().zip(&tables) {
            altered |= self.adopt_table(shape, sql)?;
        }
        if altered {
            // A schema change in the write-ahead log would be replayed before the rows that use it; on disk it is safe.
            self.connection.execute_batch("CHECKPOINT").map_err(|error| self.say(&error))?;
        }
        self.connection.flush_prepared_statement_cache();
        self.revisions.grow(tables.len());
        self.tables = tables;
        self.shapes = shapes;
        Ok(())
    }

    fn adopt_table(&mut self, shape: &DocumentShape, sql: &TableSql) -> StoreResult<bool> {
        let found = self.columns_of(&shape.table)?;
        if found.is_empty() {
            self.connection.execute_batch(&sql.create).map_err(|error| self.say(&error))?;
            return Ok(true);
        }
        if !found.iter().any(|(name, _)| name.eq_ignore_ascii_case(&shape.key)) {
            return Err(format!(
                "table `{}` of {} has no key column `{}`; keys cannot be renamed, use the old name",
                shape.table,
                self.settings.path.display(),
                shape.key
            ));
        }
        let mut altered = false;
        for field in &shape.fields {
            let wanted = column_type(field.kind);
            match found.iter().find(|(name, _)| name.eq_ignore_ascii_case(&field.name)) {
                Some((_, kind)) if kind == wanted => {}
                Some((_, kind)) => {
                    return Err(format!(
                        "column `{}` of table `{}` is {kind} in {} and the code now wants {wanted}; give the new field a new name",
                        field.name,
                        shape.table,
                        self.settings.path.display()
                    ));
                }
                None => {
                    let name = dialect::quoted(&shape.table);
                    let alter = format!("ALTER TABLE {name} ADD COLUMN {} {wanted}", dialect::quoted(&field.name));
                    self.connection.execute_batch(&alter).map_err(|error| self.say(&error))?;
                    altered = true;
                }
            }
        }
        Ok(altered)
    }

    fn columns_of(&self, table: &str) -> StoreResult<Vec<(String, String)>> {
        let sql = "SELECT column_name, data_type FROM duckdb_columns() WHERE lower(table_name) = lower(?) AND NOT internal \
             ORDER BY column_index";
        let mut statement = self.connection.prepare(sql).map_err(|error| self.say(&error))?;
        let found =
            statement.query_map([table], |row| Ok((row.get(0)?, row.get(1)?))).map_err(|error| self.say(&error))?;
        found.collect::<Result<_, _>>().map_err(|error| self.say(&error))
    }

    fn load_revisions(&mut self) -> StoreResult<()> {
        let mut found = Vec::new();
        for (index, sql) in self.tables.iter().enumerate() {
            let table = table_id(index);
            let mut statement = self.connection.prepare(&sql.select_stamps).map_err(|error| self.say(&error))?;
            let mut rows = statement.query([]).map_err(|error| self.say(&error))?;
            while let Some(row) = rows.next().map_err(|error| self.say(&error))? {
                let key = text_at(row, 0).ok_or_else(|| self.damaged(&sql.name))?;
                let stamp = stamp_at(row, 1).ok_or_else(|| self.damaged(&sql.name))?;
                found.push((table, Box::from(key), stamp));
            }
        }
        for (table, key, stamp) in found {
            self.revisions.found(table, key, stamp);
        }
        Ok(())
    }

    /// The change log lines whose rows had not reached their data tables when the process ended, in order.
    fn unfolded(&mut self) -> StoreResult<Vec<Line>> {
        let last = "SELECT coalesce(max(number), 0) FROM change_log";
        let last: i64 = self.connection.query_row(last, [], |row| row.get(0)).map_err(|error| self.say(&error))?;
        let folded =
            self.setting("folded")?.and_then(|text| text.parse::<i64>().ok()).ok_or_else(|| self.damaged("setting"))?;
        // The lines before `folded` may have been trimmed.
        self.number = last.max(folded);
        self.number_committed = self.number;
        let sql = "SELECT key, sequence, time, server, versions, deleted, record, table_name FROM change_log \
                   WHERE number > ? AND NOT stored ORDER BY number";
        let mut statement = self.connection.prepare(sql).map_err(|error| self.say(&error))?;
        let mut rows = statement.query([folded]).map_err(|error| self.say(&error))?;
        let mut left = Vec::new();
        while let Some(row) = rows.next().map_err(|error| self.say(&error))? {
            left.push(logged_line(row).ok_or_else(|| self.damaged("change_log"))?);
        }
        Ok(left)
    }

    /// The lines in these shapes, or `None` if they name what the shapes do not have.
    fn place(&self, lines: &[Line], shapes: &ShapeSet) -> StoreResult<Option<Vec<Update>>> {
        // A record without names can be read in a shape's order only if that is the order of the file, which is the
        // order of the code that made the table.
        let mut same_order = HashMap::new();
        for shape in &shapes.shapes {
            let columns = self.columns_of(&shape.table)?;
            let fields = columns.iter().map(|(name, _)| name).filter(|name| !is_stamp(name)).skip(1);
            let same = fields.zip(&*shape.fields).all(|(name, field)| name.eq_ignore_ascii_case(&field.name));
            same_order.insert(shape.table.clone(), same);
        }
        Ok(logged::place(lines, shapes, &|shape| same_order.get(&shape.table).copied().unwrap_or(false)))
    }

    /// Folds lines by the columns that the file has, where the code no longer has all of them: what a field held stays
    /// in its column, which nobody reads until the code has the field again.
    fn fold_as_written(&mut self, lines: &[Line]) -> StoreResult<()> {
        let mut shapes = ShapeSet::default();
        for line in lines {
            if shapes.id(&line.table).is_none() {
                shapes.shapes.push(Arc::new(self.shape_of(&line.table)?));
            }
        }
        let Some(updates) = logged::place(lines, &shapes, &|_| false) else {
            return Err(format!(
                "{} holds changes without the names of their fields, and the code has other fields than when they were written; start once with the code as it was, stop it with SIGTERM, then start with the code as it is",
                self.settings.path.display()
            ));
        };
        self.adopt(Arc::new(shapes))?;
        self.load_revisions()?;
        for update in updates {
            self.revisions.committed(update);
        }
        self.fold()?;
        (self.shapes, self.tables, self.revisions) = (Arc::default(), Vec::new(), Revisions::default());
        Ok(())
    }

    /// A data table as the file has it.
    fn shape_of(&self, table: &str) -> StoreResult<DocumentShape> {
        let mut columns = self.columns_of(table)?.into_iter().filter(|(name, _)| !is_stamp(name));
        let (key, _) = columns.next().ok_or_else(|| self.damaged("change_log"))?;
        let fields = columns.map(|(name, kind)| {
            let kind = dialect::kind_of(&kind).ok_or_else(|| self.damaged(table))?;
            let name = name.into();
            Ok(Field { name, kind, required: false, length_max: 0, secret: false, index: false, words: false })
        });
        let fields = fields.collect::<StoreResult<_>>()?;
        Ok(DocumentShape { table: table.into(), application: "".into(), key: key.into(), fields })
    }

    /// The tables with stamps, as the file has them.
    fn found_shapes(&self) -> StoreResult<ShapeSet> {
        let asked = "SELECT table_name FROM duckdb_columns() WHERE column_name = '_versions' AND NOT internal \
                     ORDER BY table_oid";
        let read = || -> duckdb::Result<Vec<String>> {
            let mut statement = self.connection.prepare(asked)?;
            let names = statement.query_map([], |row| row.get(0))?;
            names.collect()
        };
        let mut shapes = ShapeSet::default();
        for table in read().map_err(|error| self.say(&error))? {
            shapes.shapes.push(Arc::new(self.shape_of(&table)?));
        }
        Ok(shapes)
    }

    /// Brings pending rows to their data tables, in a transaction of its own.
    fn fold(&mut self) -> StoreResult<()> {
        if self.revisions.pending_count() == 0 {
            return Ok(());
        }
        self.begin()?;
        self.ensure_begun()?;
        let outcome = self
            .fold_tables()
            .and_then(|()| self.set_setting("folded", &self.number.to_string()))
            .and_then(|()| self.end());
        match outcome {
            Ok(()) => self.revisions.folded(),
            Err(_) => self.undo(),
        }
        outcome
    }

    fn fold_tables(&self) -> StoreResult<()> {
        for index in 0..self.tables.len() {
            let (new, replacing) = self.revisions.pending(table_id(index));
            self.append_rows(index, &new)?;
            self.replace_rows(index, &replacing)?;
        }
        Ok(())
    }

    /// Appends rows whose keys the data table does not have.
    fn append_rows(&self, index: usize, updates: &[&Update]) -> StoreResult<()> {
        if updates.is_empty() {
            return Ok(());
        }
        let sql = &self.tables[index];
        let columns: Vec<&str> = sql.columns.iter().map(String::as_str).collect();
        let fields = self.shapes.shapes[index].fields.len();
        let write = || {
            let mut appender = self.connection.appender_with_columns(&sql.name, &columns)?;
            for update in updates {
                append_update(&mut appender, update, fields)?;
            }
            appender.flush()
        };
        write().map_err(|error| self.say(&error))
    }

    /// Replaces rows whose keys the data table has.
    fn replace_rows(&self, index: usize, updates: &[&Update]) -> StoreResult<()> {
        if updates.is_empty() {
            return Ok(());
        }
        let sql = &self.tables[index];
        let fields = self.shapes.shapes[index].fields.len();
        let write = || {
            self.connection.execute_batch(&sql.stage)?;
            {
                let mut appender = self.connection.appender_to_catalog_and_db(STAGE, "temp", "main")?;
                for update in updates {
                    append_update(&mut appender, update, fields)?;
                }
                appender.flush()?;
            }
            // The cache would keep a plan of the stage before it was replaced.
            self.connection.prepare(&sql.update_from_stage)?.execute([])
        };
        let replaced = write().map_err(|error| self.say(&error))?;
        if replaced != updates.len() {
            return Err(self.damaged(&sql.name));
        }
        Ok(())
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

impl Movable for DuckStore {
    fn house_rows(&mut self, house: House, each: &mut dyn FnMut(Vec<Value>)) -> StoreResult<()> {
        let sql = format!("SELECT {} FROM {}", house.list(), house.table());
        let mut read = || -> duckdb::Result<bool> {
            let mut statement = self.connection.prepare(&sql)?;
            let mut rows = statement.query([])?;
            while let Some(row) = rows.next()? {
                let values = house.columns().iter().enumerate().map(|(index, (_, kind))| value_at(row, index, *kind));
                match values.collect() {
                    Some(values) => each(values),
                    None => return Ok(false),
                }
            }
            Ok(true)
        };
        if read().map_err(|error| self.say(&error))? { Ok(()) } else { Err(self.damaged(house.table())) }
    }

    fn put_house(&mut self, house: House, rows: &[Vec<Value>]) -> StoreResult<()> {
        self.ensure_begun()?;
        let marks = vec!["?"; house.columns().len()].join(", ");
        let sql = format!("INSERT INTO {} ({}) VALUES ({marks})", house.table(), house.list());
        let write = || -> duckdb::Result<()> {
            let mut insert = self.connection.prepare(&sql)?;
            for row in rows {
                insert.execute(params_from_iter(row.iter().map(|value| match value {
                    Value::Null => Cell::Null,
                    Value::Text(text) => Cell::Text(text),
                    Value::Integer(number) => Cell::Integer(*number),
                    Value::Boolean(truth) => Cell::Boolean(*truth),
                })))?;
            }
            Ok(())
        };
        write().map_err(|error| self.say(&error))
    }

    fn put_rows(&mut self, table: TableId, updates: &[Update]) -> StoreResult<()> {
        self.ensure_begun()?;
        self.append_rows(usize::from(table.0), &updates.iter().collect::<Vec<_>>())
    }
}

/// A value on its way into the database, borrowed.
#[derive(Clone, Copy)]
enum Cell<'a> {
    Null,
    Text(&'a str),
    Integer(i64),
    Small(i16),
    /// An unsigned number in a BIGINT column: hybrid times, milliseconds, versions.
    Time(u64),
    Boolean(bool),
}

impl ToSql for Cell<'_> {
    fn to_sql(&self) -> duckdb::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Self::Null => ValueRef::Null,
            Self::Text(text) => ValueRef::Text(text.as_bytes()),
            Self::Integer(number) => ValueRef::BigInt(*number),
            Self::Small(number) => ValueRef::SmallInt(*number),
            // Times beyond the year 6400 are no times; saturating keeps the order.
            Self::Time(time) => ValueRef::BigInt(i64::try_from(*time).unwrap_or(i64::MAX)),
            Self::Boolean(truth) => ValueRef::Boolean(*truth),
        }))
    }
}

fn record_cells<'a>(key: &'a str, record: Option<&'a Record>, fields: usize) -> impl Iterator<Item = Cell<'a>> {
    let values = (0..fields).map(move |field| match record.map(|record| record.get(field)) {
        None | Some(Value::Null) => Cell::Null,
        Some(Value::Text(text)) => Cell::Text(text),
        Some(Value::Integer(number)) => Cell::Integer(*number),
        Some(Value::Boolean(truth)) => Cell::Boolean(*truth),
    });
    std::iter::once(Cell::Text(key)).chain(values)
}

fn append_update(appender: &mut Appender<'_>, update: &Update, fields: usize) -> duckdb::Result<()> {
    let versions = versions_text(&update.versions);
    let stamps = [
        Cell::Integer(update.stamp.sequence.into()),
        Cell::Time(update.stamp.time),
        Cell::Small(update.stamp.server.into()),
        Cell::Text(&versions),
        Cell::Boolean(update.record.is_none()),
    ];
    appender
        .append_row(appender_params_from_iter(record_cells(&update.key, update.record.as_ref(), fields).chain(stamps)))
}

fn text_at<'a>(row: &'a Row<'_>, column: usize) -> Option<&'a str> {
    row.get_ref(column).ok()?.as_str().ok()
}

fn stamp_at(row: &Row<'_>, first: usize) -> Option<Stamp> {
    let number = |column: usize| row.get::<_, i64>(first + column).ok();
    Some(Stamp {
        sequence: number(0)?.try_into().ok()?,
        time: number(1)?.try_into().ok()?,
        server: number(2)?.try_into().ok()?,
    })
}

fn versions_at(row: &Row<'_>, column: usize) -> Option<crate::tables::VersionVector> {
    versions_of(text_at(row, column)?)
}

/// A row in the order of [`TableSql::columns`].
fn table_update(row: &Row<'_>, table: TableId, shape: &DocumentShape) -> Option<Update> {
    let stamps = 1 + shape.fields.len();
    let record = if row.get(stamps + 4).ok()? {
        None
    } else {
        let values = shape.fields.iter().enumerate().map(|(index, field)| value_at(row, 1 + index, field.kind));
        Some(Record(values.collect::<Option<_>>()?))
    };
    Some(Update {
        table,
        key: text_at(row, 0)?.into(),
        stamp: stamp_at(row, stamps)?,
        versions: versions_at(row, stamps + 3)?,
        base: ABSENT,
        record,
    })
}

/// A change log line in the order of the query in `unfolded`.
fn logged_line(row: &Row<'_>) -> Option<Line> {
    let record = if row.get(5).ok()? { None } else { Some(values_of(text_at(row, 6)?)?) };
    Some(Line {
        table: text_at(row, 7)?.into(),
        key: text_at(row, 0)?.into(),
        stamp: stamp_at(row, 1)?,
        versions: versions_at(row, 4)?,
        record,
    })
}

fn is_stamp(column: &str) -> bool {
    dialect::STAMP_COLUMNS.iter().any(|(name, _)| *name == column)
}

fn value_at(row: &Row<'_>, column: usize, kind: FieldKind) -> Option<Value> {
    let value = row.get_ref(column).ok()?;
    if value == ValueRef::Null {
        return Some(Value::Null);
    }
    match kind {
        FieldKind::Text => value.as_str().ok().map(Value::text),
        FieldKind::Integer | FieldKind::Money | FieldKind::Time => row.get(column).ok().map(Value::Integer),
        FieldKind::Boolean => row.get(column).ok().map(Value::Boolean),
    }
}

/// Opens the file, after a look at its write-ahead log: DuckDB itself would drop what it cannot read without a word.
/// Gives also the bytes of a torn tail that was dropped.
fn connect(settings: &Settings) -> StoreResult<(Connection, u64)> {
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

fn say(error: &Error, path: &Path) -> String {
    match error {
        Error::DuckDBFailure(_, Some(text)) => dialect::sentence(text, path),
        other => dialect::sentence(&other.to_string(), path),
    }
}
