//! PostgreSQL as a [`Store`]: one that several appliances may share.
//!
//! ```text
//!   begin ▶ BEGIN, the writers' lock ▶ reads ▶ drafts in memory ▶ commit: rows, change log, NOTIFY ▶ COMMIT
//! ```
//! The lock is held from the first read to the commit, by one appliance at a time: what a transaction has read stays
//! true until it has written, and the change log is in the order of commits. Nothing is remembered between
//! transactions, because others write as well. A connection that breaks off in `COMMIT` is opened again and the server
//! asked what became of the transaction (`pg_xact_status`).

mod client;
mod follow;
mod house;
mod link;
pub mod listen;
mod moving;
mod rows;
pub mod settings;
mod sql;
mod words;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use postgres::Error;
use postgres::types::ToSql;

pub use self::settings::Settings;

use self::follow::Membership;
use self::link::Link;
use self::rows::{stored, text_at};
use self::sql::TableSql;
use super::contract::{ABSENT, Compared, Deployed, Followed, Member, Place, Store, StoreResult, Uncommitted};
use super::health::State;
use super::logged::{record_text, table_id};
use super::revisions::versions_text;
use crate::tables::{Record, ShapeSet, Stamp, TableId, Update};

/// How long the end of a commit that broke off is looked for before it is called unknown.
pub const SETTLE_MAX: Duration = Duration::from_secs(5);
/// Pause between two attempts of it.
const SETTLE_PAUSE: Duration = Duration::from_millis(100);
/// Rows of one statement, and of one part of a load: bounds memory on both sides.
const ROWS_MAX: usize = 4096;
/// Bytes of a key: an index entry of PostgreSQL must fit a third of a page.
pub const KEY_BYTES_MAX: usize = 2600;
/// Idle time after which the change log is trimmed.
const TRIM_IDLE: Duration = Duration::from_secs(2);
/// Lines that are trimmed at a time.
const TRIM_LINES_MAX: i64 = 20_000;
/// So many times the change log's bound are kept where an appliance that is alive has not read them.
pub const WAITING_FACTOR: i64 = 2;

/// An open database.
pub struct PostgresStore {
    settings: Settings,
    place: String,
    /// `None` after it broke: opened again when the next transaction begins.
    link: Option<Link>,
    shapes: Arc<ShapeSet>,
    tables: Vec<TableSql>,
    /// Rows of the open transaction that are not sent yet, by table and key; and in order, as the change log gets them.
    drafts: HashMap<(TableId, Box<str>), Update>,
    log: Vec<Update>,
    /// The version of the deploy in the open transaction.
    deploying: Option<u64>,
    /// Stamps that were asked for together, as they were when the open transaction began: [`ABSENT`] where no row is.
    expected: HashMap<(TableId, Box<str>), Stamp>,
    /// `BEGIN` has been sent.
    open: bool,
    /// The open transaction has sent writes.
    wrote: bool,
    /// The last change log position that is known to be committed.
    position: i64,
    /// Lines up to this one are trimmed.
    trimmed: i64,
    rows: u64,
    latest_time: u64,
    trouble: State,
    /// Statements that were sent since the store was opened: each is a way to the server and back.
    statements: u64,
    /// Where this one stands among several appliances, if it is one of them.
    membership: Option<Membership>,
}

impl PostgresStore {
    /// Connects, makes what is missing, and brings the tables to the shapes.
    ///
    /// # Errors
    /// No server, wrong password, no database, too old, another schema version, a column whose kind changed: one
    /// sentence with the cure.
    pub fn open(settings: &Settings, shapes: Arc<ShapeSet>) -> StoreResult<Self> {
        Self::open_with(settings, |_| Ok(shapes))
    }

    /// The same where the shapes depend on the code that was deployed.
    ///
    /// # Errors
    /// As [`Self::open`], and what `shapes_of` says.
    pub fn open_with(
        settings: &Settings,
        shapes_of: impl FnOnce(&[Deployed]) -> StoreResult<Arc<ShapeSet>>,
    ) -> StoreResult<Self> {
        let link = Link::open(settings).map_err(|said| said.sentence)?;
        let mut store = Self {
            settings: settings.clone(),
            place: settings.place(),
            link: Some(link),
            shapes: Arc::default(),
            tables: Vec::new(),
            drafts: HashMap::new(),
            log: Vec::new(),
            deploying: None,
            expected: HashMap::new(),
            statements: 0,
            open: false,
            wrote: false,
            position: 0,
            trimmed: 0,
            rows: 0,
            latest_time: 0,
            trouble: State::Up,
            membership: None,
        };
        store.make_house()?;
        if let Some(name) = settings.member.clone() {
            store.register(&name)?;
        }
        let deployed = store.deployed()?;
        store.adopt(shapes_of(&deployed)?)?;
        store.measure()?;
        Ok(store)
    }

    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The last change log position that this store knows to be committed. As it was when the store was opened, it is
    /// not behind any row that was loaded since.
    pub fn position(&self) -> i64 {
        self.position
    }

    /// Statements that were sent since the store was opened, without those that look whether a connection lives and
    /// those that load whole tables.
    pub fn statements(&self) -> u64 {
        self.statements
    }

    /// Takes note of an error: what it says about the database, and whether the connection can be used.
    fn note(&mut self, error: &Error) -> words::Said {
        let late = self.link.as_ref().and_then(|link| link.client.late());
        let said = late.map_or_else(|| words::say(error, &self.place), |waited| words::no_answer(&self.place, waited));
        self.trouble = said.state;
        if said.lost {
            self.link = None;
        }
        said
    }

    fn damaged(&self, table: &str) -> String {
        format!(
            "table `{table}` in schema `{}` of {} holds what this program never writes; restore it from a backup",
            self.settings.schema, self.place
        )
    }

    /// Runs a statement in the open transaction, or by itself where there is none.
    fn query(&mut self, sql: &str, parameters: &[&(dyn ToSql + Sync)]) -> StoreResult<Vec<postgres::Row>> {
        self.statements += 1;
        let outcome = self.link()?.query(sql, parameters);
        outcome.map_err(|error| self.note(&error).sentence)
    }

    fn execute(&mut self, sql: &str, parameters: &[&(dyn ToSql + Sync)]) -> StoreResult<u64> {
        self.statements += 1;
        let outcome = self.link()?.execute(sql, parameters);
        outcome.map_err(|error| self.note(&error).sentence)
    }

    fn batch(&mut self, sql: &str) -> StoreResult<()> {
        self.statements += 1;
        let outcome = self.link()?.client.batch_execute(sql);
        outcome.map_err(|error| self.note(&error).sentence)
    }

    /// The connection of the open transaction. Without one: a connection that answers, opened again if need be.
    fn link(&mut self) -> StoreResult<&mut Link> {
        if !self.open {
            if let Some(Err(error)) = self.link.as_mut().map(Link::ping) {
                let said = self.note(&error);
                if !said.lost {
                    return Err(said.sentence);
                }
            }
            self.connect()?;
        }
        let lost = || {
            format!("PostgreSQL ({}) ended the connection within a transaction; nothing of it is written", self.place)
        };
        self.link.as_mut().ok_or_else(lost)
    }

    /// Connects where the connection was lost.
    fn connect(&mut self) -> StoreResult<()> {
        if self.link.is_none() {
            match Link::open_again(&self.settings, self.position) {
                Ok(link) => {
                    self.link = Some(link);
                    if let Some(membership) = &mut self.membership {
                        membership.alive = false;
                    }
                }
                Err(said) => {
                    self.trouble = said.state;
                    return Err(said.sentence);
                }
            }
        }
        Ok(())
    }

    /// Sends what is drafted. Gives the change log's last position and the transaction's number.
    fn flush(&mut self) -> StoreResult<(i64, String)> {
        let drafts = std::mem::take(&mut self.drafts);
        let shapes = self.shapes.clone();
        let mut new_rows = 0;
        for (index, shape) in shapes.shapes.iter().enumerate() {
            let table = table_id(index);
            let of_table: Vec<&Update> = drafts.values().filter(|update| update.table == table).collect();
            for part in of_table.chunks(ROWS_MAX) {
                new_rows += self.upsert_part(index, part, shape)?;
            }
        }
        let log = std::mem::take(&mut self.log);
        let mut end = None;
        for part in log.chunks(ROWS_MAX) {
            end = Some(self.append_log(part, &shapes)?);
        }
        let end = match end {
            Some(end) => end,
            None => {
                let (channel, appliance) = (self.settings.channel().to_owned(), self.settings.appliance.clone());
                let rows = self.query(sql::ANNOUNCE, &[&channel, &appliance])?;
                self.end_of(&rows)?
            }
        };
        self.latest_time = log.iter().map(|update| update.stamp.time).fold(self.latest_time, u64::max);
        self.rows += new_rows;
        Ok(end)
    }

    /// Inserts or replaces rows with distinct keys; gives the number of new ones.
    fn upsert_part(
        &mut self,
        index: usize,
        updates: &[&Update],
        shape: &crate::tables::DocumentShape,
    ) -> StoreResult<u64> {
        let columns = rows::columns(updates, shape);
        let parameters: Vec<&(dyn ToSql + Sync)> = columns.iter().map(|column| &**column).collect();
        let sql = std::mem::take(&mut self.tables[index].upsert);
        let outcome = self.query(&sql, &parameters);
        self.tables[index].upsert = sql;
        let new: i64 = outcome?.first().map_or(0, |row| row.get(0));
        Ok(u64::try_from(new).unwrap_or(0))
    }

    fn append_log(&mut self, updates: &[Update], shapes: &ShapeSet) -> StoreResult<(i64, String)> {
        let shape = |update: &Update| shapes.get(update.table).clone();
        let tables: Vec<String> = updates.iter().map(|update| shape(update).table.to_string()).collect();
        let keys: Vec<_> = updates.iter().map(|update| stored(&update.key)).collect();
        let sequences: Vec<i64> = updates.iter().map(|update| update.stamp.sequence.into()).collect();
        let times: Vec<i64> = updates.iter().map(|update| rows::signed(update.stamp.time)).collect();
        let servers: Vec<i16> = updates.iter().map(|update| update.stamp.server.into()).collect();
        let versions: Vec<String> = updates.iter().map(|update| versions_text(&update.versions)).collect();
        let deleted: Vec<bool> = updates.iter().map(|update| update.record.is_none()).collect();
        // JSON escapes zero bytes by itself.
        let records: Vec<Option<String>> = updates
            .iter()
            .map(|update| update.record.as_ref().map(|record| record_text(record, &shape(update))))
            .collect();
        let (channel, appliance) = (self.settings.channel().to_owned(), self.settings.appliance.clone());
        let rows = self.query(
            sql::APPEND_LOG,
            &[&appliance, &tables, &keys, &sequences, &times, &servers, &versions, &deleted, &records, &channel],
        )?;
        self.end_of(&rows)
    }

    /// What the last statement before `COMMIT` says.
    fn end_of(&self, rows: &[postgres::Row]) -> StoreResult<(i64, String)> {
        let row = rows.first().ok_or_else(|| self.damaged("change_log"))?;
        let position: Option<i64> = row.get(0);
        Ok((position.unwrap_or(self.position), row.get(1)))
    }

    /// `COMMIT` broke off: asks the server, on a new connection, what became of the transaction.
    fn settle(&mut self, number: &str, sentence: String) -> Result<(), Uncommitted> {
        let deadline = Instant::now() + SETTLE_MAX;
        loop {
            match self.status_of(number).as_deref() {
                Some("committed") => {
                    self.trouble = State::Up;
                    return Ok(());
                }
                Some("aborted") => return Err(Uncommitted::Undone(sentence)),
                // Still under way in its old process, or nobody to ask yet.
                Some(_) | None => {}
            }
            if Instant::now() >= deadline {
                self.trouble = State::Down;
                return Err(Uncommitted::Unknown(sentence));
            }
            std::thread::sleep(SETTLE_PAUSE);
        }
    }

    fn status_of(&mut self, number: &str) -> Option<String> {
        let asked = "SELECT pg_xact_status($1::text::xid8)";
        let rows = self.query(asked, &[&number]).ok()?;
        rows.first()?.get(0)
    }

    fn forget(&mut self) {
        self.drafts.clear();
        self.log.clear();
        self.expected.clear();
        self.deploying = None;
        (self.open, self.wrote) = (false, false);
    }
}

impl Store for PostgresStore {
    fn shapes(&self) -> &Arc<ShapeSet> {
        &self.shapes
    }

    fn reshape(&mut self, shapes: Arc<ShapeSet>) -> StoreResult<()> {
        self.adopt(shapes)
    }

    fn withdraw(&mut self, shapes: Arc<ShapeSet>) -> StoreResult<()> {
        self.tables = shapes.shapes.iter().map(|shape| TableSql::new(shape)).collect();
        self.shapes = shapes;
        Ok(())
    }

    /// One question for each table, whatever the number of orders. The writers' lock keeps it true until the commit.
    fn expect(&mut self, rows: &[(TableId, &str)]) -> StoreResult<()> {
        let stamps = self.stamps_of(rows)?;
        self.expected.extend(rows.iter().zip(stamps).map(|((table, key), stamp)| ((*table, Box::from(*key)), stamp)));
        Ok(())
    }

    /// A connection that ended while nobody used it is replaced here, before anything depends on it.
    fn begin(&mut self) -> StoreResult<()> {
        self.trouble = State::Up;
        if self.open {
            // By `compare_bulk`.
            return Ok(());
        }
        let begin = format!(
            "BEGIN ISOLATION LEVEL READ COMMITTED; SELECT pg_advisory_xact_lock(hashtextextended('twintier.{}', 0))",
            self.settings.schema.replace('\'', "''")
        );
        for again in [true, false] {
            self.connect()?;
            let Some(link) = self.link.as_mut() else { continue };
            self.statements += 1;
            let Err(error) = link.client.batch_execute(&begin) else {
                self.open = true;
                return Ok(());
            };
            let said = self.note(&error);
            if !(said.lost && again) {
                // The lock was not to be had: the transaction has begun.
                self.open = !said.lost;
                return Err(said.sentence);
            }
        }
        Err(format!("PostgreSQL ({}) ends every connection; look into its log", self.place))
    }

    /// `COMMIT` returns after the server's write-ahead log is on its disk: `fsync` and `synchronous_commit` are looked
    /// at when the connection is opened.
    fn commit(&mut self) -> Result<(), Uncommitted> {
        if !self.open {
            return Ok(());
        }
        let writes = self.wrote || !self.log.is_empty();
        let rows_before = self.rows;
        let end = if writes { Some(self.flush().map_err(Uncommitted::Undone)?) } else { None };
        self.statements += 1;
        // Whatever happens to the answer, this transaction is over.
        let outcome = match self.link.as_mut().map(|link| link.client.batch_execute("COMMIT")) {
            Some(Ok(())) => Ok(()),
            Some(Err(error)) => {
                let said = self.note(&error);
                self.open = false;
                match (&end, said.lost) {
                    (Some((_, number)), true) => self.settle(number, said.sentence),
                    (None, _) | (_, false) => Err(Uncommitted::Undone(said.sentence)),
                }
            }
            None => Err(Uncommitted::Undone(format!(
                "PostgreSQL ({}) ended the connection; nothing is written",
                self.place
            ))),
        };
        // One that is not known to be recorded is handed out like another appliance's, if it is.
        if let (Ok(()), Some(version)) = (&outcome, self.deploying) {
            self.note_own_deploy(version);
        }
        self.forget();
        match (&outcome, end) {
            (Ok(()), Some((position, _))) => self.position = self.position.max(position),
            (Ok(()), None) => {}
            (Err(_), _) => self.rows = rows_before,
        }
        outcome
    }

    fn rollback(&mut self) {
        if self.open
            && let Some(link) = self.link.as_mut()
            && let Err(error) = link.client.batch_execute("ROLLBACK")
        {
            // The server undoes what a connection leaves behind. Why it broke was said before.
            let trouble = self.trouble;
            self.note(&error);
            (self.link, self.trouble) = (None, trouble);
        }
        self.forget();
    }

    fn torn_bytes(&self) -> u64 {
        // PostgreSQL repairs its own log.
        0
    }

    fn trouble(&self) -> State {
        self.trouble
    }

    fn stamps_of(&mut self, rows: &[(TableId, &str)]) -> StoreResult<Vec<Stamp>> {
        let mut stamps: HashMap<(TableId, Box<str>), Stamp> = HashMap::new();
        let mut asked: HashMap<TableId, Vec<&str>> = HashMap::new();
        for (table, key) in rows {
            let row = (*table, Box::from(*key));
            // What this transaction has written is newer than what it has found.
            match self.drafts.get(&row).map(|draft| draft.stamp).or_else(|| self.expected.get(&row).copied()) {
                Some(stamp) => drop(stamps.insert(row, stamp)),
                None => asked.entry(*table).or_default().push(key),
            }
        }
        for (table, keys) in asked {
            let index = usize::from(table.0);
            let sql = self.tables[index].select_stamps.clone();
            for part in keys.chunks(ROWS_MAX) {
                let keys: Vec<_> = part.iter().map(|key| stored(key)).collect();
                for row in self.query(&sql, &[&keys])? {
                    let (Some(key), Some(stamp)) = (text_at(&row, 0), rows::stamp_at(&row, 1)) else {
                        return Err(self.damaged(&self.tables[index].name));
                    };
                    stamps.insert((table, key), stamp);
                }
            }
        }
        Ok(rows.iter().map(|(table, key)| stamps.get(&(*table, Box::from(*key))).copied().unwrap_or(ABSENT)).collect())
    }

    fn row(&mut self, table: TableId, key: &str) -> StoreResult<Option<Update>> {
        if let Some(draft) = self.drafts.get(&(table, Box::from(key))) {
            return Ok(Some(Update { base: ABSENT, ..draft.clone() }));
        }
        let index = usize::from(table.0);
        let sql = self.tables[index].select_rows.clone();
        let found = self.query(&sql, &[&vec![stored(key)]])?;
        let Some(row) = found.first() else { return Ok(None) };
        let update = rows::update_of(row, table, &self.shapes.shapes[index]);
        update.map(Some).ok_or_else(|| self.damaged(&self.tables[index].name))
    }

    fn upsert(&mut self, updates: &[Update]) -> StoreResult<()> {
        // Whatever could be refused is refused here, where it fails its own order and not the whole group.
        if let Some(update) = updates.iter().find(|update| update.key.len() > KEY_BYTES_MAX) {
            return Err(format!(
                "a key of {} bytes is too long for PostgreSQL, which takes {KEY_BYTES_MAX}: `{}…`",
                update.key.len(),
                &update.key[..update.key.floor_char_boundary(40)]
            ));
        }
        for update in updates {
            self.drafts.insert((update.table, update.key.clone()), update.clone());
            self.log.push(update.clone());
        }
        Ok(())
    }

    fn compare_bulk(&mut self, table: TableId, records: &[(&str, &Record)]) -> StoreResult<Vec<Compared>> {
        // What is compared must still be true when it is written.
        self.begin()?;
        let index = usize::from(table.0);
        let sql = self.tables[index].select_rows.clone();
        let mut there: HashMap<Box<str>, Update> = HashMap::new();
        for part in records.chunks(ROWS_MAX) {
            let keys: Vec<_> = part.iter().map(|(key, _)| stored(key)).collect();
            for row in self.query(&sql, &[&keys])? {
                let update = rows::update_of(&row, table, &self.shapes.shapes[index])
                    .ok_or_else(|| self.damaged(&self.tables[index].name))?;
                there.insert(update.key.clone(), update);
            }
        }
        let same = |one: &Record, other: &Record| {
            (0..one.0.len().max(other.0.len())).all(|field| one.get(field) == other.get(field))
        };
        let compare = |(key, record): &(&str, &Record)| match there.get(*key) {
            None => Compared::New,
            Some(row) if row.record.as_ref().is_some_and(|stored| same(stored, record)) => Compared::Equal,
            Some(row) => Compared::Differs { stamp: row.stamp, versions: row.versions },
        };
        Ok(records.iter().map(compare).collect())
    }

    fn put_bulk(&mut self, table: TableId, updates: &[Update]) -> StoreResult<()> {
        let index = usize::from(table.0);
        let shape = self.shapes.shapes[index].clone();
        let (new, replacing) = updates.iter().partition::<Vec<_>, _>(|update| update.base == ABSENT);
        self.wrote = true;
        for part in new.chunks(ROWS_MAX) {
            let mut text = String::new();
            part.iter().for_each(|update| rows::copy_row(&mut text, update, &shape));
            let sql = self.tables[index].copy.clone();
            self.copy(&sql, &text)?;
        }
        self.rows += u64::try_from(new.len()).unwrap_or(0);
        for part in replacing.chunks(ROWS_MAX) {
            self.rows += self.upsert_part(index, part, &shape)?;
        }
        let copy = format!("COPY change_log ({}) FROM STDIN", sql::LOG_COLUMNS);
        let appliance = self.settings.appliance.clone();
        for part in updates.chunks(ROWS_MAX) {
            let mut text = String::new();
            part.iter().for_each(|update| rows::copy_line(&mut text, update, &shape.table, &appliance));
            self.copy(&copy, &text)?;
        }
        self.latest_time = updates.iter().map(|update| update.stamp.time).fold(self.latest_time, u64::max);
        Ok(())
    }

    fn keep_conflict(&mut self, loser: &Update, found_ms: u64) -> StoreResult<()> {
        let shape = self.shapes.get(loser.table).clone();
        let (sequence, time) = (i64::from(loser.stamp.sequence), rows::signed(loser.stamp.time));
        let (server, versions) = (i16::from(loser.stamp.server), versions_text(&loser.versions));
        let record = loser.record.as_ref().map(|record| stored(&record_text(record, &shape)).into_owned());
        self.wrote = true;
        self.execute(
            "INSERT INTO conflict VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
            &[
                &&*shape.table,
                &stored(&loser.key),
                &sequence,
                &time,
                &server,
                &versions,
                &loser.record.is_none(),
                &record,
                &rows::signed(found_ms),
            ],
        )?;
        Ok(())
    }

    fn load_all(&mut self, table: TableId, each: &mut dyn FnMut(Update)) -> StoreResult<()> {
        let (index, shape) = (usize::from(table.0), self.shapes.get(table).clone());
        let sql = self.tables[index].select_all.clone();
        let mut damaged = false;
        self.each_row(&sql, &mut |row| match rows::update_of(row, table, &shape) {
            Some(update) => each(update),
            None => damaged = true,
        })?;
        if damaged { Err(self.damaged(&self.tables[index].name)) } else { Ok(()) }
    }

    fn deploy(&mut self, deployed: &Deployed, now_ms: u64) -> StoreResult<()> {
        self.deploying = Some(deployed.version);
        self.wrote = true;
        let (version, application) = (rows::signed(deployed.version), &*deployed.application);
        self.execute(
            "INSERT INTO deployment VALUES ($1, $2, $3, $4)",
            &[&version, &application, &&*deployed.base_digest, &rows::signed(now_ms)],
        )?;
        // Only the latest sources are ever run again; the line in `deployment` stays.
        self.execute("DELETE FROM code_table WHERE application = $1", &[&application])?;
        for (path, source) in &deployed.sources {
            self.execute(
                "INSERT INTO code_table VALUES ($1, $2, $3, $4)",
                &[&version, &application, path, &stored(source)],
            )?;
        }
        Ok(())
    }

    fn deployed(&mut self) -> StoreResult<Vec<Deployed>> {
        let latest = "SELECT DISTINCT ON (application) version, application, base_digest FROM deployment \
                      ORDER BY application, version DESC, deployed DESC";
        let sources = "SELECT path, source FROM code_table WHERE version = $1 AND application = $2 ORDER BY path";
        let mut deployed = Vec::new();
        for row in self.query(latest, &[])? {
            let (version, application, base_digest): (i64, String, String) = (row.get(0), row.get(1), row.get(2));
            let mut texts = Vec::new();
            for row in self.query(sources, &[&version, &application])? {
                let source = text_at(&row, 1).ok_or_else(|| self.damaged("code_table"))?;
                texts.push((row.get(0), source.into()));
            }
            deployed.push(Deployed {
                version: u64::try_from(version).unwrap_or(0),
                application: application.into(),
                base_digest: base_digest.into(),
                sources: texts,
            });
        }
        Ok(deployed)
    }

    fn setting(&mut self, name: &str) -> StoreResult<Option<String>> {
        let found = self.query("SELECT value FROM setting WHERE name = $1", &[&name])?;
        Ok(found.first().map(|row| row.get(0)))
    }

    fn set_setting(&mut self, name: &str, value: &str) -> StoreResult<()> {
        self.wrote = true;
        let upsert = "INSERT INTO setting VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET value = EXCLUDED.value";
        self.execute(upsert, &[&name, &value])?;
        Ok(())
    }

    fn extent(&self) -> (u64, u64) {
        (self.rows, self.latest_time)
    }

    fn place(&self) -> Option<Place> {
        self.membership.as_ref().map(|membership| membership.place)
    }

    fn follow(&mut self, updates_max: usize) -> StoreResult<Followed> {
        self.read_on(updates_max)
    }

    fn members(&mut self) -> StoreResult<Vec<Member>> {
        self.read_members()
    }

    fn maintain(&mut self, idle: Duration) -> StoreResult<Option<Duration>> {
        let kept = i64::try_from(self.settings.change_log_lines_max).unwrap_or(i64::MAX);
        let wanted = self.position.saturating_sub(kept);
        if wanted <= self.trimmed {
            return Ok(None);
        }
        if idle < TRIM_IDLE {
            return Ok(Some(TRIM_IDLE.saturating_sub(idle)));
        }
        // Who is alive and slow is waited for, up to a second bound: else it would have to read every table again.
        let unread = self.slowest_position()?.map_or(wanted, |slowest| slowest.min(wanted));
        let trimmed = unread.max(wanted.saturating_sub(kept.saturating_mul(WAITING_FACTOR - 1)));
        let trimmed = trimmed.min(self.trimmed + TRIM_LINES_MAX);
        if trimmed <= self.trimmed {
            return Ok(Some(TRIM_IDLE));
        }
        self.execute("DELETE FROM change_log WHERE position <= $1", &[&trimmed])?;
        self.trimmed = trimmed;
        // The rest, if there is more, a little later: others wait for the disk as well.
        Ok(Some(Duration::from_millis(200)))
    }

    fn close(&mut self) -> StoreResult<()> {
        self.rollback();
        self.link = None;
        Ok(())
    }
}

impl PostgresStore {
    /// Reads through a cursor, in parts: in the open transaction, or in one of its own.
    fn each_row(&mut self, sql: &str, each: &mut dyn FnMut(&postgres::Row)) -> StoreResult<()> {
        let own = !self.open;
        let mut read = |link: &mut Link| -> Result<(), Error> {
            if own {
                link.client.batch_execute("BEGIN READ ONLY")?;
            }
            link.client.batch_execute(&format!("DECLARE loading NO SCROLL CURSOR FOR {sql}"))?;
            let fetch = link.client.prepare(&format!("FETCH {ROWS_MAX} FROM loading"))?;
            loop {
                let part = link.client.query(&fetch, &[])?;
                part.iter().for_each(&mut *each);
                if part.len() < ROWS_MAX {
                    break;
                }
            }
            link.client.batch_execute(if own { "COMMIT" } else { "CLOSE loading" })
        };
        let outcome = read(self.link()?);
        outcome.map_err(|error| {
            let said = self.note(&error);
            if own && self.link.as_mut().is_some_and(|link| link.client.batch_execute("ROLLBACK").is_err()) {
                self.link = None;
            }
            said.sentence
        })
    }

    fn copy(&mut self, sql: &str, text: &str) -> StoreResult<()> {
        let outcome = self.link()?.copy(sql, text);
        outcome.map(|_| ()).map_err(|error| self.note(&error).sentence)
    }
}
