//! A store in plain memory: for tests and simulations of everything that needs a database server and no database, with
//! failures on order.
//!
//! What is committed is on a [`Disk`], which outlives the store: dropping a store and making a new one over the same
//! disk is a kill and a restart. Several stores that [`MemoryStore::join`] one disk are several appliances on one database.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crossbeam::queue::SegQueue;

use super::contract::{ABSENT, Compared, Deployed, Followed, Member, Place, Store, StoreResult, Uncommitted};
use super::health::State;
use crate::tables::stamp::SLOTS;
use crate::tables::{Record, ShapeSet, Stamp, TableId, Update};

/// What a [`MemoryStore`] is told to do wrong, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mischief {
    /// The next commit fails with this sentence.
    FailCommit(String),
    /// The next commit breaks off with this sentence: nobody is told whether it is on disk, and it is if `kept`.
    LoseTrack { kept: bool, sentence: String },
    /// The next commit takes so long. For servers in a thread of their own: a simulation lets its server wait.
    Stall(Duration),
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
    /// What appliances that share the disk committed, each line with its appliance; the first line's position is
    /// `trimmed + 1`.
    log: VecDeque<(u64, Update)>,
    trimmed: u64,
    members: Vec<Member>,
}

impl Content {
    fn head(&self) -> u64 {
        self.trimmed + u64::try_from(self.log.len()).unwrap_or(u64::MAX)
    }
}

/// What is committed, and how the medium behaves: shared by the store and whoever plays fate.
#[derive(Debug, Default)]
pub struct Disk {
    content: Mutex<Content>,
    state: Mutex<State>,
    mischief: SegQueue<Mischief>,
}

impl Disk {
    /// From now on: [`State::Full`] refuses what writes, [`State::Locked`] and [`State::Down`] refuse everything;
    /// [`State::Up`] and [`State::Slow`] refuse nothing (how slow, [`Mischief::Stall`] or the simulation says).
    pub fn set_state(&self, state: State) {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = state;
    }

    pub fn state(&self) -> State {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Orders one mischief behind those that are not done yet.
    pub fn order(&self, mischief: Mischief) {
        self.mischief.push(mischief);
    }

    /// Takes back a mischief that is not done yet.
    pub fn recall(&self) -> Option<Mischief> {
        self.mischief.pop()
    }

    /// Committed rows and stubs of every table, by table and key.
    pub fn rows(&self) -> Vec<Update> {
        self.content().rows.values().cloned().collect()
    }

    /// Losers kept so far.
    pub fn conflicts(&self) -> Vec<Update> {
        self.content().conflicts.clone()
    }

    /// Forgets the lines of the change log up to now, read or not.
    pub fn trim(&self) {
        let mut content = self.content();
        content.trimmed = content.head();
        content.log.clear();
    }

    /// The database does not see an appliance's connection any more, or sees it again.
    pub fn set_alive(&self, appliance: u64, alive: bool) {
        for member in self.content().members.iter_mut().filter(|member| member.appliance == appliance) {
            member.alive = alive;
        }
    }

    fn content(&self) -> MutexGuard<'_, Content> {
        self.content.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Rows in a map; a transaction is what is laid over it at its commit.
#[derive(Default)]
pub struct MemoryStore {
    shapes: Arc<ShapeSet>,
    disk: Arc<Disk>,
    open: Content,
    next: Option<Mischief>,
    trouble: State,
    place: Option<Place>,
    /// The last line of the change log that was read, and the last deploy that was handed out.
    position: u64,
    version: u64,
}

impl MemoryStore {
    pub fn new(shapes: Arc<ShapeSet>) -> Self {
        Self::on(shapes, Arc::default())
    }

    /// Over a disk that may hold something.
    pub fn on(shapes: Arc<ShapeSet>, disk: Arc<Disk>) -> Self {
        Self { shapes, disk, ..Self::default() }
    }

    /// One of several appliances over the same disk.
    pub fn join(shapes: Arc<ShapeSet>, disk: Arc<Disk>, name: &str) -> Self {
        let mut content = disk.content();
        let appliance = u64::try_from(content.members.len()).unwrap_or(u64::MAX) + 1;
        let slot = u16::try_from(appliance % u64::from(SLOTS)).unwrap_or(0);
        let position = content.head();
        content.members.push(Member { appliance, name: name.to_owned(), started_ms: 0, alive: true, position });
        let version = content.deployed.iter().map(|deployed| deployed.version).max().unwrap_or(0);
        drop(content);
        Self { place: Some(Place { appliance, slot }), position, version, ..Self::on(shapes, disk) }
    }

    /// What is committed, and the way to play fate.
    pub fn disk(&self) -> &Arc<Disk> {
        &self.disk
    }

    fn find(&self, table: TableId, key: &str) -> Option<Update> {
        let row = (table, Box::from(key));
        self.open.rows.get(&row).cloned().or_else(|| self.disk.content().rows.get(&row).cloned())
    }

    fn mischief(&mut self) -> Option<Mischief> {
        if self.next.is_none() {
            self.next = self.disk.recall();
        }
        self.next.take()
    }

    fn mischief_of(&mut self, key: &str) -> StoreResult<()> {
        match self.mischief() {
            Some(Mischief::FailWrite(wanted, sentence)) if &*wanted == key => Err(sentence),
            Some(Mischief::Panic(wanted)) if &*wanted == key => panic!("told to panic at `{key}`"),
            other => {
                self.next = other;
                Ok(())
            }
        }
    }

    /// Whether the disk takes this, with its sentence.
    fn ask(&mut self, writes: bool) -> StoreResult<()> {
        let state = self.disk.state();
        let refused = match state {
            State::Up | State::Slow => false,
            State::Full => writes,
            State::Locked | State::Down => true,
        };
        self.trouble = if refused { state } else { State::Up };
        if refused { Err(format!("the memory store plays a database that is {}", state.name())) } else { Ok(()) }
    }

    fn wrote(&self) -> bool {
        let Content { rows, conflicts, deployed, settings, .. } = &self.open;
        !(rows.is_empty() && conflicts.is_empty() && deployed.is_empty() && settings.is_empty())
    }

    fn keep(&mut self) {
        let Content { rows, conflicts, deployed, settings, .. } = std::mem::take(&mut self.open);
        let mut content = self.disk.content();
        if let Some(place) = self.place {
            content.log.extend(rows.values().map(|row| (place.appliance, row.clone())));
            let latest = deployed.iter().map(|deployed| deployed.version).max();
            self.version = self.version.max(latest.unwrap_or(0));
        }
        content.rows.extend(rows);
        content.conflicts.extend(conflicts);
        for one in deployed {
            content.deployed.retain(|other| other.application != one.application);
            content.deployed.push(one);
        }
        content.settings.extend(settings);
    }
}

impl Store for MemoryStore {
    fn shapes(&self) -> &Arc<ShapeSet> {
        &self.shapes
    }

    fn reshape(&mut self, shapes: Arc<ShapeSet>) -> StoreResult<()> {
        self.ask(true)?;
        self.shapes = shapes;
        Ok(())
    }

    fn withdraw(&mut self, shapes: Arc<ShapeSet>) -> StoreResult<()> {
        self.shapes = shapes;
        Ok(())
    }

    fn begin(&mut self) -> StoreResult<()> {
        self.ask(false)
    }

    fn commit(&mut self) -> Result<(), Uncommitted> {
        self.ask(self.wrote()).map_err(Uncommitted::Undone)?;
        match self.mischief() {
            Some(Mischief::FailCommit(sentence)) => return Err(Uncommitted::Undone(sentence)),
            Some(Mischief::LoseTrack { kept, sentence }) => {
                if kept {
                    self.keep();
                }
                return Err(Uncommitted::Unknown(sentence));
            }
            // This plays a slow disk.
            Some(Mischief::Stall(time)) => std::thread::sleep(time),
            other @ (Some(Mischief::FailWrite(..) | Mischief::Panic(_)) | None) => self.next = other,
        }
        self.keep();
        Ok(())
    }

    fn rollback(&mut self) {
        self.open = Content::default();
    }

    fn torn_bytes(&self) -> u64 {
        0
    }

    fn trouble(&self) -> State {
        self.trouble
    }

    fn stamps_of(&mut self, rows: &[(TableId, &str)]) -> StoreResult<Vec<Stamp>> {
        Ok(rows.iter().map(|(table, key)| self.find(*table, key).map_or(ABSENT, |row| row.stamp)).collect())
    }

    fn row(&mut self, table: TableId, key: &str) -> StoreResult<Option<Update>> {
        Ok(self.find(table, key))
    }

    fn upsert(&mut self, updates: &[Update]) -> StoreResult<()> {
        for update in updates {
            self.mischief_of(&update.key)?;
            self.open.rows.insert((update.table, update.key.clone()), Update { base: ABSENT, ..update.clone() });
        }
        Ok(())
    }

    fn compare_bulk(&mut self, table: TableId, records: &[(&str, &Record)]) -> StoreResult<Vec<Compared>> {
        let compare = |(key, record): &(&str, &Record)| match self.find(table, key) {
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
        self.open.conflicts.push(loser.clone());
        Ok(())
    }

    fn load_all(&mut self, table: TableId, each: &mut dyn FnMut(Update)) -> StoreResult<()> {
        self.ask(false)?;
        self.disk.content().rows.values().filter(|row| row.table == table).cloned().for_each(each);
        Ok(())
    }

    fn deploy(&mut self, deployed: &Deployed, _now_ms: u64) -> StoreResult<()> {
        self.open.deployed.push(deployed.clone());
        Ok(())
    }

    fn deployed(&mut self) -> StoreResult<Vec<Deployed>> {
        Ok(self.disk.content().deployed.clone())
    }

    fn setting(&mut self, name: &str) -> StoreResult<Option<String>> {
        let drafted = self.open.settings.get(name).cloned();
        Ok(drafted.or_else(|| self.disk.content().settings.get(name).cloned()))
    }

    fn set_setting(&mut self, name: &str, value: &str) -> StoreResult<()> {
        self.open.settings.insert(name.to_owned(), value.to_owned());
        Ok(())
    }

    fn extent(&self) -> (u64, u64) {
        let content = self.disk.content();
        let rows = &content.rows;
        (u64::try_from(rows.len()).unwrap_or(u64::MAX), rows.values().map(|row| row.stamp.time).max().unwrap_or(0))
    }

    fn place(&self) -> Option<Place> {
        self.place
    }

    fn follow(&mut self, updates_max: usize) -> StoreResult<Followed> {
        self.ask(false)?;
        let Some(place) = self.place else { return Ok(Followed::default()) };
        let mut content = self.disk.content();
        let head = content.head();
        let mut deployed = content.deployed.clone();
        deployed.retain(|deployed| deployed.version > self.version);
        if let Some(latest) = deployed.iter().map(|deployed| deployed.version).max() {
            self.version = latest;
            return Ok(Followed { deployed, more: true, position: self.position, head, ..Followed::default() });
        }
        if self.position < content.trimmed {
            self.position = head;
            return Ok(Followed { missed: true, position: head, head, ..Followed::default() });
        }
        let mut updates = Vec::new();
        let skip = usize::try_from(self.position - content.trimmed).unwrap_or(usize::MAX);
        for (writer, update) in content.log.iter().skip(skip) {
            if updates.len() >= updates_max {
                break;
            }
            self.position += 1;
            if *writer != place.appliance {
                updates.push(update.clone());
            }
        }
        let position = self.position;
        for member in content.members.iter_mut().filter(|member| member.appliance == place.appliance) {
            member.position = position;
        }
        Ok(Followed { updates, more: position < head, position, head, ..Followed::default() })
    }

    fn members(&mut self) -> StoreResult<Vec<Member>> {
        Ok(self.disk.content().members.clone())
    }

    fn maintain(&mut self, _idle: Duration) -> StoreResult<Option<Duration>> {
        Ok(None)
    }

    fn close(&mut self) -> StoreResult<()> {
        Ok(())
    }
}
