//! How well a row fits a search: what is called so comes before what only tells of it.

use super::index::each_word;
use super::record::Value;
use super::row::Row;

/// Rows that are read to be put in order: about a millisecond. Of searches that find more, only the rows whose keys begin
/// with what was typed go first.
pub const RANKED_MAX: usize = 2_000;

/// From the best to the least.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fit {
    /// The key is what was typed.
    Key,
    /// The key begins with it.
    KeyBegins,
    /// All words are in the key.
    KeyWords,
    /// All words are in the first text that is searched.
    FirstText,
    /// The words are somewhere in the row.
    Somewhere,
}

/// What somebody looks for.
pub struct Wish<'q> {
    /// As it was typed, in lower case; blanks are hyphens, as in keys.
    typed: String,
    words: &'q [Box<str>],
    first_text: Option<usize>,
}

impl<'q> Wish<'q> {
    pub fn new(typed: &str, words: &'q [Box<str>], first_text: Option<usize>) -> Self {
        let typed: Vec<&str> = typed.split_whitespace().collect();
        Self { typed: typed.join("-").to_lowercase(), words, first_text }
    }

    /// The least key that begins with what was typed.
    pub fn begin(&self) -> &str {
        &self.typed
    }

    pub fn begins(&self, key: &str) -> bool {
        key.get(..self.typed.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(&self.typed))
    }

    pub fn fit(&self, row: &Row) -> Fit {
        if self.begins(&row.key) {
            return if row.key.len() == self.typed.len() { Fit::Key } else { Fit::KeyBegins };
        }
        if self.all_in(&row.key) {
            return Fit::KeyWords;
        }
        let text = self.first_text.map(|field| row.get(field)).and_then(Value::as_text);
        if text.is_some_and(|text| self.all_in(text)) { Fit::FirstText } else { Fit::Somewhere }
    }

    /// Whether all words are in a text, the last of them perhaps only begun.
    fn all_in(&self, text: &str) -> bool {
        let Some((begun, whole)) = self.words.split_last() else { return true };
        if whole.is_empty() {
            let mut found = false;
            each_word(text, |word| found |= word.starts_with(&**begun));
            return found;
        }
        let mut found = vec![false; self.words.len()];
        each_word(text, |word| {
            for (known, found) in whole.iter().zip(&mut found) {
                *found |= word == &**known;
            }
            found[whole.len()] |= word.starts_with(&**begun);
        });
        found.into_iter().all(|found| found)
    }
}
