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

#[derive(Debug, Default)]
struct Content {
    rows: BTreeMap<(TableId, Box<str>), Update>,
    conflicts: Vec<Update>,
    deployed: Vec<Deployed>,
    settings: HashMap<String, String>,
}

/// What the open transaction replaced.
#[derive(Debug, Default)]
struct Undo {
    /// Oldest first.
    rows: Vec<((TableId, Box<str>), Option<Update>)>,
    conflicts: usize,
    deployed: Vec<Deployed>,
    settings: Vec<(String, Option<String>)>,
}

/// Rows in a map, changed in place; a rollback puts back what was there.
#[derive(Default)]
pub struct MemoryStore {
    shapes: Arc<ShapeSet>,
    content: Content,
    open: Option<Undo>,
    mischief: Arc<SegQueue<Mischief>>,
    next: Option<Mischief>,
    refusal: Option<String>,
}

impl MemoryStore {
    pub fn new(shapes: Arc<ShapeSet>) -> Self {
        Self { shapes, ..Self::default() }
    }

    /// The same, taking orders to fail from a queue.
    pub fn with_mischief(shapes: Arc<ShapeSet>, mischief: Arc<SegQueue<Mischief>>) -> Self {
        Self { shapes, mischief, ..Self::default() }
    }

    /// Every write fails with this sentence from now on, as on a full disk; `None` ends it.
    pub fn refuse_writes(&mut self, sentence: Option<String>) {
        self.refusal = sentence;
    }

    /// What a crash leaves: the committed content, without the transaction that was open.
    #[must_use]
    pub fn crashed(mut self) -> Self {
        self.rollback();
        self.refusal = None;
        self
    }

    /// Losers kept so far.
    pub fn conflicts(&self) -> &[Update] {
        &self.content.conflicts
    }

    /// Every row and stub, by table and key.
    pub fn rows(&self) -> impl Iterator<Item = &Update> {
        self.content.rows.values()
    }

    fn undo(&mut self) -> &mut Undo {
        let (conflicts, deployed) = (self.content.conflicts.len(), &self.content.deployed);
        self.open.get_or_insert_with(|| Undo { conflicts, deployed: deployed.clone(), ..Undo::default() })
    }

    fn allow_write(&self) -> StoreResult<()> {
        self.refusal.clone().map_or(Ok(()), Err)
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
        if self.open.is_some() {
            self.allow_write()?;
        }
        self.open = None;
        Ok(())
    }

    fn rollback(&mut self) {
        let Some(undo) = self.open.take() else { return };
        for (row, before) in undo.rows.into_iter().rev() {
            match before {
                Some(before) => self.content.rows.insert(row, before),
                None => self.content.rows.remove(&row),
            };
        }
        self.content.conflicts.truncate(undo.conflicts);
        self.content.deployed = undo.deployed;
        for (name, before) in undo.settings.into_iter().rev() {
            match before {
                Some(before) => self.content.settings.insert(name, before),
                None => self.content.settings.remove(&name),
            };
        }
    }

    fn stamps_of(&mut self, rows: &[(TableId, &str)]) -> StoreResult<Vec<Stamp>> {
        let stamp = |(table, key): &(TableId, &str)| {
            self.content.rows.get(&(*table, (*key).into())).map_or(ABSENT, |row| row.stamp)
        };
        Ok(rows.iter().map(stamp).collect())
    }

    fn row(&mut self, table: TableId, key: &str) -> StoreResult<Option<Update>> {
        Ok(self.content.rows.get(&(table, key.into())).cloned())
    }

    fn upsert(&mut self, updates: &[Update]) -> StoreResult<()> {
        for update in updates {
            self.mischief_of(&update.key)?;
            self.allow_write()?;
            let row = (update.table, update.key.clone());
            let before = self.content.rows.insert(row.clone(), Update { base: ABSENT, ..update.clone() });
            self.undo().rows.push((row, before));
        }
        Ok(())
    }

    fn compare_bulk(&mut self, table: TableId, records: &[(&str, &Record)]) -> StoreResult<Vec<Compared>> {
        let compare = |(key, record): &(&str, &Record)| match self.content.rows.get(&(table, (*key).into())) {
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
        self.undo();
        self.content.conflicts.push(loser.clone());
        Ok(())
    }

    fn load_all(&mut self, table: TableId, each: &mut dyn FnMut(Update)) -> StoreResult<()> {
        self.content.rows.values().filter(|row| row.table == table).cloned().for_each(each);
        Ok(())
    }

    fn deploy(&mut self, deployed: &Deployed, _now_ms: u64) -> StoreResult<()> {
        self.undo();
        let content = &mut self.content;
        content.deployed.retain(|other| other.application != deployed.application);
        content.deployed.push(deployed.clone());
        Ok(())
    }

    fn deployed(&mut self) -> StoreResult<Vec<Deployed>> {
        Ok(self.content.deployed.clone())
    }

    fn setting(&mut self, name: &str) -> StoreResult<Option<String>> {
        Ok(self.content.settings.get(name).cloned())
    }

    fn set_setting(&mut self, name: &str, value: &str) -> StoreResult<()> {
        let before = self.content.settings.insert(name.to_owned(), value.to_owned());
        self.undo().settings.push((name.to_owned(), before));
        Ok(())
    }

    fn extent(&self) -> (u64, u64) {
        let rows = &self.content.rows;
        (u64::try_from(rows.len()).unwrap_or(u64::MAX), rows.values().map(|row| row.stamp.time).max().unwrap_or(0))
    }

    fn maintain(&mut self, _idle: Duration) -> StoreResult<Option<Duration>> {
        Ok(None)
    }

    fn close(&mut self) -> StoreResult<()> {
        Ok(())
    }
}
