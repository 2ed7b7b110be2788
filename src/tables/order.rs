//! Lists of rows in key order, with counts and positions: the building block of scans, indexes and digest buckets.
//!
//! A list is cut into chunks of at most 512 slots. Finding a key costs two binary searches, inserting moves at most
//! 2 KiB, the length is stored, and jumping to a position adds up chunk lengths (some 3,000 for a million rows).
//! Rows that arrive in ascending key order are appended without a search, which is how a table is loaded.

use std::cmp::Ordering;

use super::row::{Rows, key_head};

const CHUNK_MAX: usize = 512;

/// Slots sorted by the keys of their rows. Every method must be given the same [`Rows`].
#[derive(Clone, Debug, Default)]
pub struct KeyList {
    /// The first chunk lives in the list itself, because most lists are short (a rare word). Empty only if the whole
    /// list is empty.
    first: Vec<u32>,
    /// Never holds an empty chunk.
    rest: Vec<Vec<u32>>,
    len: usize,
}

impl KeyList {
    pub const fn new() -> Self {
        Self { first: Vec::new(), rest: Vec::new(), len: 0 }
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Puts the slot in its place; false if a slot with that key is there already.
    pub fn insert(&mut self, rows: &Rows, slot: u32) -> bool {
        let (chunk, Err(place)) = self.locate(rows, rows.key(slot)) else { return false };
        self.len += 1;
        let is_last = chunk == self.rest.len();
        let slots = self.chunk_mut(chunk);
        if slots.len() < CHUNK_MAX {
            slots.insert(place, slot);
        } else if place == CHUNK_MAX && is_last {
            // Ascending keys leave full chunks behind instead of halves.
            self.rest.push(vec![slot]);
        } else {
            let mut upper = slots.split_off(CHUNK_MAX / 2);
            match place.checked_sub(CHUNK_MAX / 2) {
                Some(above) => upper.insert(above, slot),
                None => slots.insert(place, slot),
            }
            self.rest.insert(chunk, upper);
        }
        true
    }

    /// Takes the slot out; false if it was not there.
    pub fn remove(&mut self, rows: &Rows, slot: u32) -> bool {
        let (chunk, Ok(place)) = self.locate(rows, rows.key(slot)) else { return false };
        self.len -= 1;
        let slots = self.chunk_mut(chunk);
        slots.remove(place);
        if slots.is_empty() {
            if chunk > 0 {
                self.rest.remove(chunk - 1);
            } else if !self.rest.is_empty() {
                self.first = self.rest.remove(0);
            }
        }
        true
    }

    pub fn contains(&self, rows: &Rows, slot: u32) -> bool {
        self.locate(rows, rows.key(slot)).1.is_ok()
    }

    /// All slots in key order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = u32> + '_ {
        self.first.iter().chain(self.rest.iter().flatten()).copied()
    }

    /// All slots in key order, in pieces.
    pub fn chunks(&self) -> impl Iterator<Item = &[u32]> {
        std::iter::once(&self.first).chain(&self.rest).map(Vec::as_slice)
    }

    /// Slots in key order beginning at a position.
    pub fn from_position(&self, position: usize) -> impl Iterator<Item = u32> + '_ {
        let (chunk, place) = self.find_position(position);
        self.rest_from(chunk, place)
    }

    /// Slots in descending key order, leaving out the last `skip`.
    pub fn descending(&self, skip: usize) -> impl Iterator<Item = u32> + '_ {
        let (chunk, place) = self.find_position(self.len.saturating_sub(skip));
        let below = (0..chunk).rev().flat_map(|chunk| self.chunk(chunk).iter().rev());
        self.chunk(chunk)[..place].iter().rev().chain(below).copied()
    }

    /// Slots whose keys are greater than `key`; all of them for `None`.
    pub fn after(&self, rows: &Rows, key: Option<&str>) -> impl Iterator<Item = u32> + '_ {
        let (chunk, place) = match key.map(|key| self.locate(rows, key)) {
            None => (0, 0),
            Some((chunk, Ok(place))) => (chunk, place + 1),
            Some((chunk, Err(place))) => (chunk, place),
        };
        self.rest_from(chunk, place)
    }

    /// Slots whose keys are `key` or greater.
    pub fn from_key(&self, rows: &Rows, key: &str) -> impl Iterator<Item = u32> + '_ {
        let (chunk, Ok(place) | Err(place)) = self.locate(rows, key);
        self.rest_from(chunk, place)
    }

    /// Bytes on the heap.
    pub fn bytes(&self) -> usize {
        let rest = self.rest.iter().map(|chunk| chunk.capacity() * 4).sum::<usize>();
        self.first.capacity() * 4 + self.rest.capacity() * size_of::<Vec<u32>>() + rest
    }

    fn rest_from(&self, chunk: usize, place: usize) -> impl Iterator<Item = u32> + '_ {
        let above = self.rest[chunk.min(self.rest.len())..].iter().flatten();
        self.chunk(chunk)[place..].iter().chain(above).copied()
    }

    /// Chunk and place of a position; the end of the last chunk if it is beyond the list.
    fn find_position(&self, position: usize) -> (usize, usize) {
        let mut left = position;
        for chunk in 0..=self.rest.len() {
            let len = self.chunk(chunk).len();
            if left < len {
                return (chunk, left);
            }
            left -= len;
        }
        (self.rest.len(), self.chunk(self.rest.len()).len())
    }

    /// The chunk that holds the key or should, and the key's place in it or where it belongs.
    fn locate(&self, rows: &Rows, key: &str) -> (usize, Result<usize, usize>) {
        let last = self.rest.len();
        let head = key_head(key);
        let below = |slot: u32| rows.compare(slot, key, head) == Ordering::Less;
        match self.chunk(last).last() {
            None => return (0, Err(0)),
            Some(&slot) if below(slot) => return (last, Err(self.chunk(last).len())),
            Some(_) => {}
        }
        let ends_below = |slots: &Vec<u32>| slots.last().is_some_and(|&slot| below(slot));
        let chunk = if ends_below(&self.first) { 1 + self.rest.partition_point(ends_below) } else { 0 };
        (chunk, self.chunk(chunk).binary_search_by(|&slot| rows.compare(slot, key, head)))
    }

    fn chunk(&self, chunk: usize) -> &Vec<u32> {
        if chunk == 0 { &self.first } else { &self.rest[chunk - 1] }
    }

    fn chunk_mut(&mut self, chunk: usize) -> &mut Vec<u32> {
        if chunk == 0 { &mut self.first } else { &mut self.rest[chunk - 1] }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tables::row::Row;
    use proptest::prelude::{ProptestConfig, any, prop};
    use proptest::{prop_assert, prop_assert_eq, proptest};
    use std::collections::BTreeMap;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        /// The list behaves as a sorted map, across chunk splits and removals.
        #[test]
        fn behaves_as_a_sorted_map(operations in prop::collection::vec((any::<bool>(), 0u16..3000), 0..4000), position in 0usize..3000) {
            let mut rows = Rows::default();
            let slots: Vec<u32> = (0..3000u16).map(|key| rows.insert(Row { key: format!("{key:04}").into(), ..Row::default() })).collect();
            let mut list = KeyList::default();
            let mut model = BTreeMap::new();
            for (insert, key) in operations {
                let slot = slots[usize::from(key)];
                if insert || key % 3 == 0 {
                    prop_assert_eq!(list.insert(&rows, slot), model.insert(key, slot).is_none());
                } else {
                    prop_assert_eq!(list.remove(&rows, slot), model.remove(&key).is_some());
                }
            }
            let expected: Vec<u32> = model.values().copied().collect();
            prop_assert_eq!(list.len(), expected.len());
            prop_assert_eq!(list.iter().collect::<Vec<_>>(), expected.clone());
            let cut = position.min(expected.len());
            prop_assert_eq!(list.from_position(position).collect::<Vec<_>>(), expected[cut..].to_vec());
            let reversed: Vec<u32> = expected[..expected.len() - cut].iter().rev().copied().collect();
            prop_assert_eq!(list.descending(position).collect::<Vec<_>>(), reversed);
            let key = format!("{position:04}");
            let after: Vec<u32> = model.iter().filter(|(other, _)| usize::from(**other) > position).map(|(_, slot)| *slot).collect();
            prop_assert_eq!(list.after(&rows, Some(&key)).collect::<Vec<_>>(), after);
            for (key, slot) in slots.iter().enumerate() {
                prop_assert!(list.contains(&rows, *slot) == model.contains_key(&u16::try_from(key).unwrap()));
            }
        }
    }

    #[test]
    fn ascending_keys_fill_their_chunks() {
        let mut rows = Rows::default();
        let mut list = KeyList::default();
        for key in 0..2000 {
            let slot = rows.insert(Row { key: format!("{key:05}").into(), ..Row::default() });
            assert!(list.insert(&rows, slot));
        }
        assert_eq!((list.first.len(), list.rest[0].len(), list.rest.len()), (CHUNK_MAX, CHUNK_MAX, 3));
    }
}
