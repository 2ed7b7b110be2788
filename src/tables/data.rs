//! The data tables of one replica: rows with stamps, kept losers, digests, indexes.
//!
//! Of the revisions of a row that have come, those stay that no other one settles: one with a greater stamp whose writer
//! knew them. The greatest stamp is the row (DESIGN.md §4.4), the others are losers, which are kept until an edit that
//! knew them comes: whoever edits a row here has seen what is kept here. What stays depends on the set of revisions alone,
//! so applying is commutative, associative and idempotent, losers included. No two that stay are of one origin, which
//! bounds the losers of a row ([`LOSERS_MAX`]).
//!
//! Costs, with n rows: find O(1), apply O(log n) per changed index entry, digest O(1). Only the growth of the hash
//! table of keys moves memory in proportion to n; [`DataTables::reserve`] avoids it while loading.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::digest::{BUCKETS, Digests, Entry, bucket_of};
use super::index::TableIndex;
use super::order::KeyList;
use super::record::{Record, ShapeSet, TableId, Update, Value};
use super::row::{Row, Rows};
use super::select::{self, Query, Selection};
use super::stamp::{SERVERS_MAX, ServerId, Stamp, VersionVector};

/// Losers of one row at most: the other origins' last edits, each made without knowing the others.
pub const LOSERS_MAX: usize = SERVERS_MAX - 1;

/// What an update did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Applied {
    /// The key was unknown.
    Inserted,
    /// The row now is this revision, which was made knowing the one it replaced.
    Replaced,
    /// The row or a kept loser is a later revision, made knowing this one.
    Obsolete,
    /// This very revision is here already, as the row or as a kept loser.
    Duplicate,
    /// Two revisions that did not know each other: the greater stamp is the row, and the other is kept. The loser is
    /// the update itself if its stamp is `loser.stamp`.
    Conflict { loser: Box<Update> },
}

/// One table.
#[derive(Debug)]
struct Table {
    id: TableId,
    rows: Rows,
    by_key: HashMap<Arc<str>, u32>,
    live: KeyList,
    /// All rows, stubs included, by the bucket of their keys.
    buckets: Vec<KeyList>,
    digests: Digests,
    index: TableIndex,
    /// By key, then by stamp. No entry is empty.
    losers: HashMap<Arc<str>, BTreeMap<Stamp, Update>>,
    loser_count: usize,
    record_bytes: usize,
    /// Greatest sequence of a purged stub. A row that begins anew goes on behind it, so that it wins wherever the
    /// deletion is remembered for longer, above all in the database.
    purged_sequence: u32,
}

/// All data tables of a replica.
#[derive(Debug)]
pub struct DataTables {
    shapes: Arc<ShapeSet>,
    /// At least one for each shape; more where updates came before their shape.
    tables: Vec<Table>,
}

impl DataTables {
    pub fn new(shapes: Arc<ShapeSet>) -> Self {
        let mut tables = Self { shapes: Arc::default(), tables: Vec::new() };
        tables.set_shapes(shapes);
        tables
    }

    /// Takes the shapes of a new code version: adds tables and rebuilds the indexes that changed. O(rows) for those.
    pub fn set_shapes(&mut self, shapes: Arc<ShapeSet>) {
        for (number, shape) in shapes.shapes.iter().enumerate() {
            let id = u16::try_from(number).expect("invariant: a shape set has fewer than 65,536 tables");
            let table = self.table_mut(TableId(id));
            if !table.index.fits(shape) {
                table.index = TableIndex::new(shape);
                for slot in table.live.iter() {
                    table.index.replace(&table.rows, slot, None, table.rows.get(slot).record.as_ref());
                }
            }
        }
        self.shapes = shapes;
    }

    pub fn shapes(&self) -> &Arc<ShapeSet> {
        &self.shapes
    }

    /// Makes room for this many further rows, before a load.
    pub fn reserve(&mut self, table: TableId, rows: usize) {
        self.table_mut(table).by_key.reserve(rows);
    }

    /// Applies one revision by the rule, whether it is the row or a kept loser where it comes from. Tables whose shape is not known yet keep the row and index it later.
    pub fn apply(&mut self, update: &Update) -> Applied {
        self.table_mut(update.table).apply(update)
    }

    /// Forgets a stub if it still is this revision and no losers hang on it.
    pub fn purge(&mut self, table: TableId, key: &str, stamp: Stamp) -> bool {
        self.tables.get_mut(usize::from(table.0)).is_some_and(|table| table.purge(key, stamp))
    }

    /// Greatest sequence of a stub that was purged from a table.
    pub fn purged_sequence(&self, table: TableId) -> u32 {
        self.table(table).map_or(0, |table| table.purged_sequence)
    }

    /// Learns of stubs that another replica purged before this one began.
    pub fn raise_purged_sequence(&mut self, table: TableId, sequence: u32) {
        let table = self.table_mut(table);
        table.purged_sequence = table.purged_sequence.max(sequence);
    }

    /// The edit that `server` makes on what it sees here now, at the hybrid `time`. `None` deletes. It settles the losers
    /// that are kept here.
    pub fn edit(&self, table: TableId, key: &str, record: Option<Record>, server: ServerId, time: u64) -> Update {
        let (seen, versions) = self.get_any(table, key).map_or_else(Default::default, |row| (row.stamp, row.versions));
        let versions = self.losers(table, key).fold(versions, |known, loser| known.merged(&loser.versions));
        let sequence = if seen == Stamp::default() { self.purged_sequence(table) } else { seen.sequence };
        let sequence = sequence.saturating_add(1);
        Update {
            table,
            key: key.into(),
            // The clock has seen every applied time; the maximum guards the rule should a caller forget.
            stamp: Stamp { sequence, time: time.max(seen.time.saturating_add(1)), server },
            versions: versions.edited_by(server, sequence),
            base: seen,
            record,
        }
    }

    /// A live row.
    pub fn get(&self, table: TableId, key: &str) -> Option<&Row> {
        self.get_any(table, key).filter(|row| row.is_live())
    }

    /// A row or stub.
    pub fn get_any(&self, table: TableId, key: &str) -> Option<&Row> {
        self.table(table)?.row(key)
    }

    /// Tables that may hold rows: the shapes, and those that updates named before.
    pub fn table_count(&self) -> u16 {
        u16::try_from(self.tables.len()).unwrap_or(u16::MAX)
    }

    /// Live rows of a table.
    pub fn live_count(&self, table: TableId) -> usize {
        self.table(table).map_or(0, |table| table.live.len())
    }

    /// Stubs of a table.
    pub fn stub_count(&self, table: TableId) -> usize {
        self.table(table).map_or(0, |table| table.by_key.len() - table.live.len())
    }

    /// Losers kept in a table.
    pub fn loser_count(&self, table: TableId) -> usize {
        self.table(table).map_or(0, |table| table.loser_count)
    }

    /// Losers of one row by stamp.
    pub fn losers(&self, table: TableId, key: &str) -> impl Iterator<Item = &Update> {
        let losers = self.table(table).and_then(|table| table.losers.get(key));
        losers.into_iter().flat_map(BTreeMap::values)
    }

    /// A page of live rows that match.
    pub fn select(&self, table: TableId, query: &Query<'_>) -> Selection<'_> {
        self.table(table).map_or_else(Selection::default, |table| {
            select::select(&table.rows, &table.live, &table.index, query, None)
        })
    }

    /// A page of live rows that match and that the predicate keeps; it is asked about every match, for the total.
    pub fn select_where(&self, table: TableId, query: &Query<'_>, keep: &mut dyn FnMut(&Row) -> bool) -> Selection<'_> {
        self.table(table).map_or_else(Selection::default, |table| {
            select::select(&table.rows, &table.live, &table.index, query, Some(keep))
        })
    }

    /// Values of a field in the rows that match, each with the number of its rows; `None` if more than `most` match.
    pub fn count_values(
        &self,
        table: TableId,
        field: usize,
        query: &Query<'_>,
        most: usize,
    ) -> Option<BTreeMap<&Value, usize>> {
        self.table(table).map_or_else(
            || Some(BTreeMap::new()),
            |table| select::count_values(&table.rows, &table.live, &table.index, query, field, most),
        )
    }

    /// Live rows in key order beginning at a position.
    pub fn scan(&self, table: TableId, offset: usize) -> impl Iterator<Item = &Row> {
        self.table(table)
            .into_iter()
            .flat_map(move |table| table.live.from_position(offset).map(|slot| table.rows.get(slot)))
    }

    /// Live rows with keys greater than `key`, in key order.
    pub fn scan_after(&self, table: TableId, key: Option<&str>) -> impl Iterator<Item = &Row> {
        self.table(table)
            .into_iter()
            .flat_map(move |table| table.live.after(&table.rows, key).map(|slot| table.rows.get(slot)))
    }

    /// The first rows of a value of an indexed field, and their number.
    pub fn by_index(&self, table: TableId, field: usize, value: &Value, offset: usize, limit: usize) -> Selection<'_> {
        self.select(table, &Query { equal: &[(field, value)], offset, limit, ..Query::default() })
    }

    /// Rows in which all words occur, the last of them perhaps only begun.
    pub fn search(&self, table: TableId, words: &str, offset: usize, limit: usize) -> Selection<'_> {
        self.select(table, &Query { words, offset, limit, ..Query::default() })
    }

    /// Values of an indexed field in order, each with the number of its live rows.
    pub fn facets(&self, table: TableId, field: usize) -> impl Iterator<Item = (&Value, usize)> {
        self.table(table).into_iter().flat_map(move |table| table.index.facets(field))
    }

    /// Digest of the live rows and kept losers: equal on replicas that hold the same.
    pub fn digest(&self, table: TableId) -> u128 {
        self.table(table).map_or(0, |table| table.digests.total(false))
    }

    /// The same with stubs.
    pub fn digest_with_stubs(&self, table: TableId) -> u128 {
        self.table(table).map_or(0, |table| table.digests.total(true))
    }

    /// The digest's buckets, without stubs.
    pub fn bucket_digests(&self, table: TableId) -> &[u128; BUCKETS] {
        const NONE: &[u128; BUCKETS] = &[0; BUCKETS];
        self.table(table).map_or(NONE, |table| table.digests.buckets())
    }

    /// Digest of one bucket.
    pub fn bucket_digest(&self, table: TableId, bucket: u8, with_stubs: bool) -> u128 {
        self.table(table).map_or(0, |table| table.digests.bucket(bucket, with_stubs))
    }

    /// Rows and stubs of a bucket with keys greater than `after`, in key order.
    pub fn rows_in_bucket(&self, table: TableId, bucket: u8, after: Option<&str>) -> impl Iterator<Item = &Row> {
        self.table(table).into_iter().flat_map(move |table| {
            table.buckets[usize::from(bucket)].after(&table.rows, after).map(|slot| table.rows.get(slot))
        })
    }

    /// Bytes that the tables occupy, without allocator overhead: an estimate that walks the indexes, not the rows.
    pub fn bytes_estimate(&self) -> usize {
        self.tables.iter().map(Table::bytes_estimate).sum()
    }

    fn table(&self, table: TableId) -> Option<&Table> {
        self.tables.get(usize::from(table.0))
    }

    fn table_mut(&mut self, table: TableId) -> &mut Table {
        let number = usize::from(table.0);
        while self.tables.len() <= number {
            let id = u16::try_from(self.tables.len()).expect("invariant: not above a table number");
            self.tables.push(Table::new(TableId(id)));
        }
        &mut self.tables[number]
    }
}

impl Table {
    fn new(id: TableId) -> Self {
        Self {
            id,
            rows: Rows::default(),
            by_key: HashMap::new(),
            live: KeyList::default(),
            buckets: vec![KeyList::default(); BUCKETS],
            digests: Digests::default(),
            index: TableIndex::default(),
            losers: HashMap::new(),
            loser_count: 0,
            record_bytes: 0,
            purged_sequence: 0,
        }
    }

    fn row(&self, key: &str) -> Option<&Row> {
        self.by_key.get(key).map(|slot| self.rows.get(*slot))
    }

    fn apply(&mut self, update: &Update) -> Applied {
        let Some(&slot) = self.by_key.get(&*update.key) else {
            self.insert(update);
            return Applied::Inserted;
        };
        let row = self.rows.get(slot);
        let losers = self.losers.get(&*update.key);
        if update.stamp == row.stamp || losers.is_some_and(|losers| losers.contains_key(&update.stamp)) {
            return Applied::Duplicate;
        }
        let settles = |stamp: Stamp, versions: &VersionVector| versions.settles(stamp, update.stamp, &update.versions);
        if settles(row.stamp, &row.versions)
            || losers.is_some_and(|losers| losers.values().any(|loser| settles(loser.stamp, &loser.versions)))
        {
            return Applied::Obsolete;
        }
        self.settle_losers(update);
        let row = self.rows.get(slot);
        if update.stamp < row.stamp {
            self.keep_loser(update.clone());
            return Applied::Conflict { loser: Box::new(update.clone()) };
        }
        let loser = (!update.versions.covers(&row.versions)).then(|| row.to_update(self.id));
        self.replace(slot, update);
        let Some(loser) = loser else { return Applied::Replaced };
        self.keep_loser(loser.clone());
        Applied::Conflict { loser: Box::new(loser) }
    }

    fn insert(&mut self, update: &Update) {
        let key: Arc<str> = update.key.as_ref().into();
        let row =
            Row { key: key.clone(), stamp: update.stamp, versions: update.versions, record: update.record.clone() };
        let slot = self.rows.insert(row);
        self.buckets[usize::from(bucket_of(&key))].insert(&self.rows, slot);
        self.by_key.insert(key, slot);
        self.entered(slot, None);
    }

    /// Makes the slot's row this revision, whose stamp is greater.
    fn replace(&mut self, slot: u32, update: &Update) {
        let row = self.rows.get_mut(slot);
        self.digests.toggle(self.id, &row.key, row.stamp, if row.is_live() { Entry::Live } else { Entry::Stub });
        row.stamp = update.stamp;
        row.versions = update.versions;
        let old = std::mem::replace(&mut row.record, update.record.clone());
        self.entered(slot, old.as_ref());
    }

    /// Brings lists, indexes, digests and counts up to a slot's new record.
    fn entered(&mut self, slot: u32, old: Option<&Record>) {
        let row = self.rows.get(slot);
        match (old.is_some(), row.is_live()) {
            (false, true) => self.live.insert(&self.rows, slot),
            (true, false) => self.live.remove(&self.rows, slot),
            (true, true) | (false, false) => true,
        };
        self.index.replace(&self.rows, slot, old, row.record.as_ref());
        self.digests.toggle(self.id, &row.key, row.stamp, if row.is_live() { Entry::Live } else { Entry::Stub });
        self.record_bytes += row.record.as_ref().map_or(0, record_bytes);
        self.record_bytes -= old.map_or(0, record_bytes);
    }

    /// Keeps a loser that is not there yet.
    fn keep_loser(&mut self, loser: Update) {
        let slot = *self.by_key.get(&*loser.key).expect("invariant: losers hang on a row");
        let key = &self.rows.get(slot).key;
        self.digests.toggle(self.id, key, loser.stamp, Entry::Conflict);
        self.record_bytes += loser.record.as_ref().map_or(0, record_bytes);
        self.loser_count += 1;
        self.losers.entry(key.clone()).or_default().insert(loser.stamp, loser);
    }

    /// Forgets the losers that the writer of an update knew.
    fn settle_losers(&mut self, update: &Update) {
        let Some(losers) = self.losers.get_mut(&*update.key) else { return };
        let settled =
            losers.extract_if(.., |stamp, loser| update.versions.settles(update.stamp, *stamp, &loser.versions));
        for (stamp, loser) in settled {
            self.digests.toggle(self.id, &update.key, stamp, Entry::Conflict);
            self.record_bytes -= loser.record.as_ref().map_or(0, record_bytes);
            self.loser_count -= 1;
        }
        if losers.is_empty() {
            self.losers.remove(&*update.key);
        }
    }

    fn purge(&mut self, key: &str, stamp: Stamp) -> bool {
        let Some(&slot) = self.by_key.get(key) else { return false };
        let row = self.rows.get(slot);
        if row.is_live() || row.stamp != stamp || self.losers.contains_key(key) {
            return false;
        }
        self.purged_sequence = self.purged_sequence.max(stamp.sequence);
        self.digests.toggle(self.id, key, stamp, Entry::Stub);
        self.buckets[usize::from(bucket_of(key))].remove(&self.rows, slot);
        self.by_key.remove(key);
        self.rows.remove(slot);
        true
    }

    fn bytes_estimate(&self) -> usize {
        let keys = self.by_key.capacity() * (size_of::<(Arc<str>, u32)>() + 1);
        let losers = self.loser_count * size_of::<(Stamp, Update)>();
        let lists =
            self.live.bytes() + self.buckets.iter().map(|list| size_of::<KeyList>() + list.bytes()).sum::<usize>();
        self.rows.bytes() + self.record_bytes + keys + losers + lists + self.index.bytes() + size_of::<Self>()
    }
}

/// Bytes of a record on the heap.
fn record_bytes(record: &Record) -> usize {
    record.0.iter().map(|value| size_of::<Value>() + value.as_text().map_or(0, str::len)).sum()
}
