//! What is known of every row without asking the database, and the rows that have not reached their data table yet.
//!
//! ```text
//!   draft ──commit──▶ pending ──fold──▶ data table
//!     └──rollback──▶ forgotten
//! ```
//! Sound because the database server is the file's only writer. Pure: also the text form of versions.

use std::collections::HashMap;

use crate::tables::stamp::SERVERS_MAX;
use crate::tables::{Stamp, TableId, Update, VersionVector};

/// A row's stored revision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Known {
    pub stamp: Stamp,
    /// Whether the data table has a row with this key, possibly of an older revision.
    pub in_table: bool,
}

#[derive(Default)]
struct Table {
    known: HashMap<Box<str>, Known>,
    /// Committed, not in the data table.
    pending: HashMap<Box<str>, Update>,
    /// Of the open transaction.
    drafts: HashMap<Box<str>, Update>,
}

/// All tables' revisions.
#[derive(Default)]
pub struct Revisions {
    tables: Vec<Table>,
    /// The open transaction's updates in order, as the change log gets them.
    log: Vec<Update>,
    /// The open transaction's rows that were written to their data table directly.
    bulk: Vec<(TableId, Box<str>, Stamp)>,
    pending_count: usize,
    latest_time: u64,
}

impl Revisions {
    pub fn grow(&mut self, tables: usize) {
        self.tables.resize_with(tables.max(self.tables.len()), Table::default);
    }

    /// Notes a row that the data table holds.
    pub fn found(&mut self, table: TableId, key: Box<str>, stamp: Stamp) {
        self.latest_time = self.latest_time.max(stamp.time);
        self.tables[usize::from(table.0)].known.insert(key, Known { stamp, in_table: true });
    }

    /// Adds a committed update whose row has not reached its data table.
    pub fn committed(&mut self, update: Update) {
        self.latest_time = self.latest_time.max(update.stamp.time);
        let table = &mut self.tables[usize::from(update.table.0)];
        let known =
            Known { stamp: update.stamp, in_table: table.known.get(&update.key).is_some_and(|known| known.in_table) };
        table.known.insert(update.key.clone(), known);
        if table.pending.insert(update.key.clone(), update).is_none() {
            self.pending_count += 1;
        }
    }

    pub fn draft(&mut self, update: &Update) {
        self.tables[usize::from(update.table.0)].drafts.insert(update.key.clone(), update.clone());
        self.log.push(update.clone());
    }

    pub fn draft_bulk(&mut self, update: &Update) {
        self.bulk.push((update.table, update.key.clone(), update.stamp));
    }

    /// What the change log must get before the commit.
    pub fn drafted(&self) -> &[Update] {
        &self.log
    }

    /// Takes the number of drafted rows and makes them pending: the transaction is on disk.
    pub fn commit(&mut self) {
        for (table, key, stamp) in std::mem::take(&mut self.bulk) {
            self.found(table, key, stamp);
        }
        for update in std::mem::take(&mut self.log) {
            self.tables[usize::from(update.table.0)].drafts.clear();
            self.committed(update);
        }
    }

    pub fn rollback(&mut self) {
        self.bulk.clear();
        for update in self.log.drain(..) {
            self.tables[usize::from(update.table.0)].drafts.clear();
        }
    }

    /// The stored revision, with the open transaction's edits.
    pub fn stamp(&self, table: TableId, key: &str) -> Option<Stamp> {
        let table = &self.tables[usize::from(table.0)];
        table.drafts.get(key).map(|draft| draft.stamp).or_else(|| table.known.get(key).map(|known| known.stamp))
    }

    /// The row, if its latest revision is a draft or pending.
    pub fn unfolded(&self, table: TableId, key: &str) -> Option<&Update> {
        let table = &self.tables[usize::from(table.0)];
        table.drafts.get(key).or_else(|| table.pending.get(key))
    }

    /// Whether the row waits to be folded into its data table.
    pub fn is_pending(&self, table: TableId, key: &str) -> bool {
        self.tables[usize::from(table.0)].pending.contains_key(key)
    }

    /// Whether the data table has the key.
    pub fn in_table(&self, table: TableId, key: &str) -> bool {
        self.tables[usize::from(table.0)].known.get(key).is_some_and(|known| known.in_table)
    }

    /// Rows that wait to be folded into their data tables.
    pub fn pending_count(&self) -> usize {
        self.pending_count
    }

    /// The pending rows of a table: those that are new to it, and those that replace a row.
    pub fn pending(&self, table: TableId) -> (Vec<&Update>, Vec<&Update>) {
        let table = &self.tables[usize::from(table.0)];
        table.pending.values().partition(|update| !table.known.get(&update.key).is_some_and(|known| known.in_table))
    }

    /// The pending rows have reached their data tables.
    pub fn folded(&mut self) {
        for table in &mut self.tables {
            for (key, update) in table.pending.drain() {
                table.known.insert(key, Known { stamp: update.stamp, in_table: true });
            }
        }
        self.pending_count = 0;
    }

    /// Rows and stubs, and the greatest hybrid time.
    pub fn extent(&self) -> (u64, u64) {
        let rows = self.tables.iter().map(|table| table.known.len()).sum::<usize>();
        (u64::try_from(rows).unwrap_or(u64::MAX), self.latest_time)
    }
}

/// A version vector as a JSON array without its trailing zeros, such as `[0,3]`.
pub fn versions_text(versions: &VersionVector) -> String {
    let used = versions.0.iter().rposition(|count| *count != 0).map_or(0, |last| last + 1);
    let mut text = String::with_capacity(2 + 3 * used);
    text.push('[');
    for (index, count) in versions.0[..used].iter().enumerate() {
        if index > 0 {
            text.push(',');
        }
        text.push_str(&count.to_string());
    }
    text.push(']');
    text
}

/// The inverse of [`versions_text`]; `None` for other text.
pub fn versions_of(text: &str) -> Option<VersionVector> {
    let mut versions = VersionVector::default();
    let inner = text.strip_prefix('[')?.strip_suffix(']')?;
    if inner.is_empty() {
        return Some(versions);
    }
    for (index, count) in inner.split(',').enumerate() {
        if index >= SERVERS_MAX {
            return None;
        }
        versions.0[index] = count.trim().parse().ok()?;
    }
    Some(versions)
}

#[cfg(test)]
mod tests {
    use super::{Revisions, versions_of, versions_text};
    use crate::tables::{Record, Stamp, TableId, Update, Value, VersionVector};

    fn update(key: &str, sequence: u32) -> Update {
        let stamp = Stamp { sequence, time: u64::from(sequence) * 10, server: 1 };
        let record = Some(Record(Box::new([Value::text("x")])));
        Update {
            table: TableId(0),
            key: key.into(),
            stamp,
            versions: VersionVector::default(),
            base: Stamp::default(),
            record,
        }
    }

    #[test]
    fn a_row_goes_from_draft_to_pending_to_the_table() {
        let mut revisions = Revisions::default();
        revisions.grow(1);
        revisions.found(TableId(0), "old".into(), Stamp::default());
        revisions.draft(&update("new", 1));
        revisions.draft(&update("old", 2));
        revisions.draft(&update("old", 3));
        assert_eq!(revisions.drafted().len(), 3);
        assert_eq!(revisions.stamp(TableId(0), "old").unwrap().sequence, 3, "a transaction sees its own writes");
        revisions.commit();
        assert_eq!((revisions.pending_count(), revisions.extent()), (2, (2, 30)));
        let (new, replaced) = revisions.pending(TableId(0));
        assert_eq!((&*new[0].key, &*replaced[0].key, replaced[0].stamp.sequence), ("new", "old", 3));
        assert!(!revisions.in_table(TableId(0), "new"));
        revisions.folded();
        assert!(revisions.in_table(TableId(0), "new"));
        assert_eq!(revisions.pending_count(), 0);
    }

    #[test]
    fn a_rolled_back_draft_is_forgotten() {
        let mut revisions = Revisions::default();
        revisions.grow(1);
        revisions.draft(&update("a", 1));
        revisions.draft_bulk(&update("b", 1));
        revisions.rollback();
        revisions.commit();
        assert_eq!(revisions.stamp(TableId(0), "a"), None);
        assert_eq!(revisions.stamp(TableId(0), "b"), None);
        assert!(revisions.unfolded(TableId(0), "a").is_none());
    }

    #[test]
    fn text_forms_return_what_went_in() {
        let mut versions = VersionVector::default();
        assert_eq!(versions_text(&versions), "[]");
        versions.0[2] = 7;
        assert_eq!(versions_text(&versions), "[0,0,7]");
        assert_eq!(versions_of("[0,0,7]"), Some(versions));
        versions.0 = [u32::MAX; 16];
        assert_eq!(versions_of(&versions_text(&versions)), Some(versions));
        assert_eq!(versions_of("[1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17]"), None);
        assert_eq!(versions_of("{}"), None);
    }
}
