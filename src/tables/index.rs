//! Secondary indexes of one table: rows by a field's value, and rows by the words of their texts.
//!
//! Each value and each word keeps its rows as a [`KeyList`], so that a page of a filtered list costs its position and
//! nothing more. An edit touches only the values and words that changed.

use std::collections::BTreeMap;
use std::ops::Bound;

use super::order::KeyList;
use super::record::{DocumentShape, Record, Value};
use super::row::{Row, Rows};

/// Bytes of a word; longer ones are cut, in texts and in queries alike.
pub const WORD_BYTES_MAX: usize = 64;

/// Which fields of a shape are indexed, and their lists.
#[derive(Debug, Default)]
pub struct TableIndex {
    by_value: Vec<ValueIndex>,
    word_fields: Vec<usize>,
    words: BTreeMap<Box<str>, KeyList>,
}

#[derive(Debug)]
struct ValueIndex {
    field: usize,
    rows: BTreeMap<Value, KeyList>,
}

impl TableIndex {
    pub fn new(shape: &DocumentShape) -> Self {
        let fields = || shape.fields.iter().enumerate();
        Self {
            by_value: fields()
                .filter(|(_, field)| field.index)
                .map(|(field, _)| ValueIndex { field, rows: BTreeMap::new() })
                .collect(),
            word_fields: fields().filter(|(_, field)| field.words).map(|(field, _)| field).collect(),
            words: BTreeMap::new(),
        }
    }

    /// Whether the shape asks for exactly the indexes that are here.
    pub fn fits(&self, shape: &DocumentShape) -> bool {
        let fields = || shape.fields.iter().enumerate();
        fields()
            .filter(|(_, field)| field.index)
            .map(|(field, _)| field)
            .eq(self.by_value.iter().map(|index| index.field))
            && fields().filter(|(_, field)| field.words).map(|(field, _)| field).eq(self.word_fields.iter().copied())
    }

    /// Moves a slot from the values and words of its old record to those of the new one.
    pub fn replace(&mut self, rows: &Rows, slot: u32, old: Option<&Record>, new: Option<&Record>) {
        for index in &mut self.by_value {
            let value = |record: Option<&Record>| record.map_or(Value::Null, |record| record.get(index.field).clone());
            let (before, after) = (value(old), value(new));
            if before == after {
                continue;
            }
            if before != Value::Null {
                remove(&mut index.rows, rows, slot, &before);
            }
            if after != Value::Null {
                index.rows.entry(after).or_default().insert(rows, slot);
            }
        }
        let same_texts = |field: &usize| match (old, new) {
            (Some(old), Some(new)) => old.get(*field) == new.get(*field),
            (None, _) | (_, None) => false,
        };
        if self.word_fields.iter().all(same_texts) {
            return;
        }
        let key = &rows.get(slot).key;
        let (before, after) = (self.words_of(key, old), self.words_of(key, new));
        for word in before.iter().filter(|word| after.binary_search(word).is_err()) {
            remove(&mut self.words, rows, slot, word);
        }
        for word in after.into_iter().filter(|word| before.binary_search(word).is_err()) {
            self.words.entry(word).or_default().insert(rows, slot);
        }
    }

    /// The rows with a value: `None` if the field has no index.
    pub fn by_value(&self, field: usize, value: &Value) -> Option<&KeyList> {
        const NONE: &KeyList = &KeyList::new();
        let index = self.by_value.iter().find(|index| index.field == field)?;
        Some(index.rows.get(value).unwrap_or(NONE))
    }

    /// Values of an indexed field in order, each with the number of its rows. Null is not counted.
    pub fn facets(&self, field: usize) -> impl Iterator<Item = (&Value, usize)> {
        let index = self.by_value.iter().find(|index| index.field == field);
        index.into_iter().flat_map(|index| index.rows.iter().map(|(value, rows)| (value, rows.len())))
    }

    /// The rows with exactly this word, lower case.
    pub fn by_word(&self, word: &str) -> Option<&KeyList> {
        self.words.get(word)
    }

    /// The rows of each word that begins so.
    pub fn by_prefix<'a>(&'a self, prefix: &str) -> impl Iterator<Item = &'a KeyList> {
        let from = (Bound::Included(prefix), Bound::Unbounded);
        self.words.range::<str, _>(from).take_while(move |(word, _)| word.starts_with(prefix)).map(|(_, rows)| rows)
    }

    /// Whether a word of the row begins so, found by reading its key and texts.
    pub fn has_word_begun(&self, row: &Row, prefix: &str) -> bool {
        let mut found = false;
        let texts = self.word_fields.iter().filter_map(|field| row.get(*field).as_text());
        for text in std::iter::once(&*row.key).chain(texts) {
            each_word(text, |word| found |= word.starts_with(prefix));
        }
        found
    }

    /// The first field that is searched by words.
    pub fn first_word_field(&self) -> Option<usize> {
        self.word_fields.first().copied()
    }

    /// Bytes on the heap, without allocator overhead.
    pub fn bytes(&self) -> usize {
        let entry = |own: usize, list: &KeyList| own + size_of::<KeyList>() + list.bytes();
        let values = self.by_value.iter().flat_map(|index| &index.rows);
        values.map(|(value, list)| entry(size_of::<Value>() + value.as_text().map_or(0, str::len), list)).sum::<usize>()
            + self.words.iter().map(|(word, list)| entry(size_of::<Box<str>>() + word.len(), list)).sum::<usize>()
    }

    /// The different words of a row's key and texts, sorted: who looks for a thing types its name first.
    fn words_of(&self, key: &str, record: Option<&Record>) -> Vec<Box<str>> {
        let Some(record) = record else { return Vec::new() };
        let texts = self.word_fields.iter().filter_map(|field| record.get(*field).as_text());
        let mut words: Vec<Box<str>> = Vec::new();
        for text in std::iter::once(key).chain(texts) {
            each_word(text, |word| words.push(word.into()));
        }
        words.sort_unstable();
        words.dedup();
        words
    }
}

fn remove<K: Ord + std::borrow::Borrow<Q>, Q: Ord + ?Sized>(
    lists: &mut BTreeMap<K, KeyList>,
    rows: &Rows,
    slot: u32,
    entry: &Q,
) {
    if let Some(list) = lists.get_mut(entry) {
        list.remove(rows, slot);
        if list.is_empty() {
            lists.remove(entry);
        }
    }
}

/// Hands out the words of a text: runs of letters and digits, in lower case.
pub fn each_word(text: &str, mut take: impl FnMut(&str)) {
    let mut word = String::with_capacity(WORD_BYTES_MAX);
    for character in text.chars().chain([' ']) {
        if character.is_ascii_alphanumeric() {
            if word.len() < WORD_BYTES_MAX {
                word.push(character.to_ascii_lowercase());
            }
        } else if !character.is_ascii() && character.is_alphanumeric() {
            for lower in character.to_lowercase() {
                if word.len() + lower.len_utf8() <= WORD_BYTES_MAX {
                    word.push(lower);
                }
            }
        } else if !word.is_empty() {
            take(&word);
            word.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{WORD_BYTES_MAX, each_word};

    fn words(text: &str) -> Vec<String> {
        let mut words = Vec::new();
        each_word(text, |word| words.push(word.to_owned()));
        words
    }

    #[test]
    fn words_are_runs_of_letters_and_digits_in_lower_case() {
        assert_eq!(words("GNU C++ compiler, g++-12 (Übung)"), ["gnu", "c", "compiler", "g", "12", "übung"]);
        assert!(words(" -- ").is_empty());
        assert_eq!(words(&"x".repeat(100)), ["x".repeat(WORD_BYTES_MAX)]);
        assert!(words(&"İ".repeat(100))[0].len() <= WORD_BYTES_MAX);
    }
}
