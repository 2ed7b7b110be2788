//! Rows in numbered slots. A slot keeps its number as long as its row exists, stub or not, so that every list of
//! rows is a list of 4-byte slots.

use std::cmp::Ordering;
use std::sync::Arc;

use super::record::{Record, TableId, Update, Value};
use super::stamp::{Stamp, VersionVector};

/// One row of a data table, live or deleted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Row {
    pub key: Arc<str>,
    pub stamp: Stamp,
    /// What the writer of this revision knew.
    pub versions: VersionVector,
    /// `None`: a stub, which remembers the deletion until every live replica has acknowledged it.
    pub record: Option<Record>,
}

impl Row {
    pub fn is_live(&self) -> bool {
        self.record.is_some()
    }

    /// The value of a field; null in a stub and beyond the record's end.
    pub fn get(&self, field: usize) -> &Value {
        const NULL: Value = Value::Null;
        self.record.as_ref().map_or(&NULL, |record| record.get(field))
    }

    /// The row as it travels. The base is unknown here and all zero.
    pub fn to_update(&self, table: TableId) -> Update {
        Update {
            table,
            key: self.key.as_ref().into(),
            stamp: self.stamp,
            versions: self.versions,
            base: Stamp::default(),
            record: self.record.clone(),
        }
    }
}

/// Rows of one page: pages are never moved, so that a growing table never copies its rows.
const PAGE_ROWS: usize = 4096;

/// All rows of one table by slot.
#[derive(Debug, Default)]
pub struct Rows {
    pages: Vec<Vec<Row>>,
    /// The first bytes of each key as a number: lists that are searched by key seldom have to read the key itself,
    /// which lies somewhere else for every row.
    heads: Vec<u128>,
    free: Vec<u32>,
    next: u32,
}

impl Rows {
    /// Puts the row into a free slot.
    pub fn insert(&mut self, row: Row) -> u32 {
        let head = key_head(&row.key);
        if let Some(slot) = self.free.pop() {
            self.heads[slot_index(slot)] = head;
            *self.get_mut(slot) = row;
            return slot;
        }
        let slot = self.next;
        self.next = self.next.checked_add(1).expect("invariant: a table has fewer than 2^32 rows");
        let page = index(slot).0;
        if page == self.pages.len() {
            self.pages.push(Vec::with_capacity(if page == 0 { 16 } else { PAGE_ROWS }));
        }
        self.pages[page].push(row);
        self.heads.push(head);
        slot
    }

    /// Frees the slot. No list may name it any more.
    pub fn remove(&mut self, slot: u32) {
        *self.get_mut(slot) = Row::default();
        self.free.push(slot);
    }

    pub fn get(&self, slot: u32) -> &Row {
        let (page, place) = index(slot);
        &self.pages[page][place]
    }

    pub fn get_mut(&mut self, slot: u32) -> &mut Row {
        let (page, place) = index(slot);
        &mut self.pages[page][place]
    }

    pub fn key(&self, slot: u32) -> &str {
        &self.get(slot).key
    }

    /// How a row's key compares with another key, given the other's head.
    pub fn compare(&self, slot: u32, key: &str, head: u128) -> Ordering {
        self.heads[slot_index(slot)].cmp(&head).then_with(|| self.key(slot).cmp(key))
    }

    /// Slots ever used: the size of a set of slots.
    pub fn slot_count(&self) -> usize {
        slot_index(self.next)
    }

    /// Bytes of the pages, without what records own.
    pub fn bytes(&self) -> usize {
        self.pages.iter().map(|page| page.capacity() * size_of::<Row>()).sum::<usize>()
            + self.free.capacity() * 4
            + self.heads.capacity() * size_of::<u128>()
    }
}

/// The first 16 bytes of a key as a number, in the order of keys as far as they go.
pub fn key_head(key: &str) -> u128 {
    let mut head = [0; 16];
    let bytes = &key.as_bytes()[..key.len().min(16)];
    head[..bytes.len()].copy_from_slice(bytes);
    u128::from_be_bytes(head)
}

/// A slot as an index.
pub fn slot_index(slot: u32) -> usize {
    usize::try_from(slot).expect("invariant: addresses have 64 bits")
}

fn index(slot: u32) -> (usize, usize) {
    let slot = slot_index(slot);
    (slot / PAGE_ROWS, slot % PAGE_ROWS)
}
