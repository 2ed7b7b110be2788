//! The digest sweep as questions and answers over tables. No state: the rounds that tie them are in `rounds`.
//!
//! The sender of a summary is asked, the receiver asks. For each table whose digest differs it sends its bucket
//! digests, gets the keys and stamps in the buckets that differ, asks for the rows that are newer there, and sends
//! the rows that are newer here: one round converges both, if nothing is written meanwhile.

use super::Positions;
use crate::tables::digest::BUCKETS;
use crate::tables::{DataTables, Row, Stamp, TableId, Update};

/// Keys in one answer.
pub const KEYS_MAX: usize = 1024;
/// Rows asked for or sent in one message.
pub const ROWS_MAX: usize = 256;

/// The state of a replica in brief.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    pub code_version: u64,
    /// What the tables held when the digests were taken.
    pub positions: Positions,
    /// The receiver misses updates that can no longer be sent: stubs are compared too, and when the round is over
    /// the receiver takes over the positions.
    pub repair: bool,
    /// By table number.
    pub digests: Vec<u128>,
}

/// Asks for the keys in the buckets whose digests differ from these.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Buckets {
    /// Comes back in the answer.
    pub ask: u32,
    pub table: TableId,
    pub with_stubs: bool,
    pub digests: [u128; BUCKETS],
    pub from: Place,
}

/// Where an answer begins: a bucket, and the key in it after which to go on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    pub bucket: u8,
    pub after: Option<Box<str>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keys {
    pub ask: u32,
    pub table: TableId,
    pub with_stubs: bool,
    pub buckets: Vec<BucketKeys>,
    /// Where to go on; `None` if this was all.
    pub next: Option<Place>,
}

/// All rows of a bucket with keys in a range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BucketKeys {
    pub place: Place,
    /// The last key of the range; `None` for the bucket's end.
    pub to: Option<Box<str>>,
    pub rows: Vec<RowState>,
}

/// Which revision of a row a replica holds, and which losers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowState {
    pub key: Box<str>,
    pub stamp: Stamp,
    pub live: bool,
    pub losers: Vec<Stamp>,
}

/// Asks for rows with their losers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    pub ask: u32,
    pub table: TableId,
    pub keys: Vec<Box<str>>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SweptRows {
    /// The question; 0 if nobody asked.
    pub ask: u32,
    pub rows: Vec<Update>,
    pub losers: Vec<Update>,
}

impl Summary {
    pub fn of(tables: &DataTables, code_version: u64, positions: Positions, repair: bool) -> Self {
        let digest = |table| if repair { tables.digest_with_stubs(table) } else { tables.digest(table) };
        Self {
            code_version,
            positions,
            repair,
            digests: (0..tables.table_count()).map(|table| digest(TableId(table))).collect(),
        }
    }

    /// Tables that differ here.
    pub fn differing<'a>(&'a self, tables: &'a DataTables) -> impl Iterator<Item = TableId> + 'a {
        let theirs = |table: TableId| self.digests.get(usize::from(table.0)).copied().unwrap_or(0);
        let mine = |table| if self.repair { tables.digest_with_stubs(table) } else { tables.digest(table) };
        let count = u16::try_from(self.digests.len()).unwrap_or(u16::MAX).max(tables.table_count());
        (0..count).map(TableId).filter(move |table| mine(*table) != theirs(*table))
    }
}

impl Buckets {
    pub fn of(tables: &DataTables, table: TableId, with_stubs: bool, ask: u32, from: Place) -> Self {
        let mut digests = [0; BUCKETS];
        for (bucket, digest) in (0..=u8::MAX).zip(&mut digests) {
            *digest = tables.bucket_digest(table, bucket, with_stubs);
        }
        Self { ask, table, with_stubs, digests, from }
    }

    /// The answer: keys in the buckets that differ here, [`KEYS_MAX`] at most.
    pub fn answer(&self, tables: &DataTables) -> Keys {
        let mut keys =
            Keys { ask: self.ask, table: self.table, with_stubs: self.with_stubs, buckets: Vec::new(), next: None };
        let mut left = KEYS_MAX;
        for bucket in self.from.bucket..=u8::MAX {
            if tables.bucket_digest(self.table, bucket, self.with_stubs) == self.digests[usize::from(bucket)] {
                continue;
            }
            let after = self.from.after.clone().filter(|_| bucket == self.from.bucket);
            if left == 0 {
                keys.next = Some(Place { bucket, after: None });
                break;
            }
            let mut rows = tables.rows_in_bucket(self.table, bucket, after.as_deref());
            let listed: Vec<RowState> =
                rows.by_ref().take(left).map(|row| RowState::of(tables, self.table, row)).collect();
            left -= listed.len();
            let to = rows.next().and(listed.last()).map(|last| last.key.clone());
            keys.next = to.clone().map(|key| Place { bucket, after: Some(key) });
            drop(rows);
            keys.buckets.push(BucketKeys { place: Place { bucket, after }, to, rows: listed });
            if keys.next.is_some() {
                break;
            }
        }
        keys
    }
}

impl RowState {
    fn of(tables: &DataTables, table: TableId, row: &Row) -> Self {
        let losers = tables.losers(table, &row.key).map(|loser| loser.stamp).collect();
        Self { key: row.key.as_ref().into(), stamp: row.stamp, live: row.is_live(), losers }
    }

    /// Whether this side has a revision that the other lacks. A bare stub of a key that the other does not know is
    /// none: it has been purged there, or comes by the log. Only a repair, in which the log has a hole, asks for it.
    /// One that the other has settled is offered as well: stamps do not tell, and it does no harm.
    fn adds_to(&self, other: Option<&Self>, with_stubs: bool) -> bool {
        match other {
            None => self.live || with_stubs || !self.losers.is_empty(),
            Some(other) => {
                let lacks = |stamp: &Stamp| *stamp != other.stamp && !other.losers.contains(stamp);
                lacks(&self.stamp) || self.losers.iter().any(lacks)
            }
        }
    }
}

/// What the comparison of keys found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Comparison {
    /// Keys whose rows the answering side must send.
    pub wanted: Vec<Box<str>>,
    /// Keys whose rows this side must send.
    pub lacking: Vec<Box<str>>,
}

impl Keys {
    /// Compares an answer with what is here.
    pub fn compare(&self, tables: &DataTables) -> Comparison {
        let mut comparison = Comparison::default();
        for bucket in &self.buckets {
            let mine = tables.rows_in_bucket(self.table, bucket.place.bucket, bucket.place.after.as_deref());
            let in_range = |row: &&Row| bucket.to.as_deref().is_none_or(|to| *row.key <= *to);
            let mut mine = mine.take_while(in_range).map(|row| RowState::of(tables, self.table, row)).peekable();
            for theirs in &bucket.rows {
                while let Some(only_mine) = mine.next_if(|row| row.key < theirs.key) {
                    if only_mine.adds_to(None, false) {
                        comparison.lacking.push(only_mine.key);
                    }
                }
                let both = mine.next_if(|row| row.key == theirs.key);
                if theirs.adds_to(both.as_ref(), self.with_stubs) {
                    comparison.wanted.push(theirs.key.clone());
                }
                if let Some(both) = both.filter(|both| both.adds_to(Some(theirs), false)) {
                    comparison.lacking.push(both.key);
                }
            }
            comparison.lacking.extend(mine.filter(|row| row.adds_to(None, false)).map(|row| row.key));
        }
        comparison
    }
}

impl SweptRows {
    /// Rows with their losers, as far as they are still here.
    pub fn of(tables: &DataTables, table: TableId, keys: &[Box<str>], ask: u32) -> Self {
        let mut swept = Self { ask, ..Self::default() };
        for key in keys {
            swept.rows.extend(tables.get_any(table, key).map(|row| row.to_update(table)));
            swept.losers.extend(tables.losers(table, key).cloned());
        }
        swept
    }
}
