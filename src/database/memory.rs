//! A store in plain memory: for tests of everything that needs a database server and no database, with failures on
//! order.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use crossbeam::queue::SegQueue;

use super::contract::{ABSENT, Compared, Deployed, Store, StoreResult};
use crate::tables::{Record, ShapeSet, Stamp, TableId, Update};

/// What a [`MemoryStore`] is told to do wrong, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mischief {
    /// The next commit fails with this sentence.
    FailCommit(String),
    /// The next write of this key fails with this sentence.
    FailWrite(Box<str>, String),
    /// The next write of this key panics.
    Panic(Box<str>),
}

#[derive(Clone, Debug, Default)]
struct Content {
    rows: BTreeMap<(TableId, Box<str>), Update>,
    conflicts: Vec<Update>,
    deployed: Vec<Deployed>,
    settings: HashMap<String, String>,
}

/// Rows in a map; a transaction is a copy that replaces it.
#[derive(Default)]
pub struct MemoryStore {
    shapes: Arc<ShapeSet>,
    committed: Content,
    open: Option<Content>,
    mischief: Arc<SegQueue<Mischief>>,
    next: Option<Mischief>,
}

impl MemoryStore {
    pub fn new(shapes: Arc<ShapeSet>) -> Self {
        Self { shapes, ..Self::default() }
    }

    /// The same, taking orders to fail from a queue.
    pub fn with_mischief(shapes: Arc<ShapeSet>, mischief: Arc<SegQueue<Mischief>>) -> Self {
        Self { shapes, mischief, ..Self::default() }
    }

    /// Losers kept so far.
    pub fn conflicts(&self) -> &[Update] {
        &self.committed.conflicts
    }

    fn content(&self) -> &Content {
        self.open.as_ref().unwrap_or(&self.committed)
    }

    fn open(&mut self) -> &mut Content {
        self.open.get_or_insert_with(|| self.committed.clone())
    }

    fn mischief_of(&mut self, key: &str) -> StoreResult<()> {
        if self.next.is_none() {
            self.next = self.mischief.pop();
        }
        match self.next.take() {
            Some(Mischief::FailWrite(wanted, sentence)) if &*wanted == key => Err(sentence),
            Some(Mischief::Panic(wanted)) if &*wanted == key => panic!("told to panic at `{key}`"),
            other => {
                self.next = other;
                Ok(())
            }
        }
    }
}

impl Store for MemoryStore {
    fn shapes(&self) -> &Arc<ShapeSet> {
        &self.shapes
    }

    fn reshape(&mut self, shapes: Arc<ShapeSet>) -> StoreResult<()> {
        self.shapes = shapes;
        Ok(())
    }

    fn begin(&mut self) -> StoreResult<()> {
        Ok(())
    }

    fn commit(&mut self) -> StoreResult<()> {
        if self.next.is_none() {
            self.next = self.mischief.pop();
        }
        if let Some(Mischief::FailCommit(sentence)) = self.next.take_if(|next| matches!(next, Mischief::FailCommit(_)))
        {
            return Err(sentence);
        }
        if let Some(content) = self.open.take() {
            self.committed = content;
        }
        Ok(())
    }

    fn rollback(&mut self) {
        self.open = None;
    }

    fn stamps_of(&mut self, rows: &[(TableId, &str)]) -> StoreResult<Vec<Stamp>> {
        let stamp = |(table, key): &(TableId, &str)| {
            self.content().rows.get(&(*table, (*key).into())).map_or(ABSENT, |row| row.stamp)
        };
        Ok(rows.iter().map(stamp).collect())
    }

    fn row(&mut self, table: TableId, key: &str) -> StoreResult<Option<Update>> {
        Ok(self.content().rows.get(&(table, key.into())).cloned())
    }

    fn upsert(&mut self, updates: &[Update]) -> StoreResult<()> {
        for update in updates {
            self.mischief_of(&update.key)?;
            self.open().rows.insert((update.table, update.key.clone()), Update { base: ABSENT, ..update.clone() });
        }
        Ok(())
    }

    fn compare_bulk(&mut self, table: TableId, records: &[(&str, &Record)]) -> StoreResult<Vec<Compared>> {
        let compare = |(key, record): &(&str, &Record)| match self.content().rows.get(&(table, (*key).into())) {
            None => Compared::New,
            Some(row) if row.record.as_ref() == Some(*record) => Compared::Equal,
            Some(row) => Compared::Differs { stamp: row.stamp, versions: row.versions },
        };
        Ok(records.iter().map(compare).collect())
    }

    fn put_bulk(&mut self, _table: TableId, updates: &[Update]) -> StoreResult<()> {
        self.upsert(updates)
    }

    fn keep_conflict(&mut self, loser: &Update, _found_ms: u64) -> StoreResult<()> {
        self.open().conflicts.push(loser.clone());
        Ok(())
    }

    fn load_all(&mut self, table: TableId, each: &mut dyn FnMut(Update)) -> StoreResult<()> {
        self.content().rows.values().filter(|row| row.table == table).cloned().for_each(each);
        Ok(())
    }

    fn deploy(&mut self, deployed: &Deployed, _now_ms: u64) -> StoreResult<()> {
        let content = self.open();
        content.deployed.retain(|other| other.application != deployed.application);
        content.deployed.push(deployed.clone());
        Ok(())
    }

    fn deployed(&mut self) -> StoreResult<Vec<Deployed>> {
        Ok(self.content().deployed.clone())
    }

    fn setting(&mut self, name: &str) -> StoreResult<Option<String>> {
        Ok(self.content().settings.get(name).cloned())
    }

    fn set_setting(&mut self, name: &str, value: &str) -> StoreResult<()> {
        self.open().settings.insert(name.to_owned(), value.to_owned());
        Ok(())
    }

    fn extent(&self) -> (u64, u64) {
        let rows = &self.committed.rows;
        (u64::try_from(rows.len()).unwrap_or(u64::MAX), rows.values().map(|row| row.stamp.time).max().unwrap_or(0))
    }

    fn maintain(&mut self, _idle: Duration) -> StoreResult<Option<Duration>> {
        Ok(None)
    }

    fn close(&mut self) -> StoreResult<()> {
        Ok(())
    }
}
