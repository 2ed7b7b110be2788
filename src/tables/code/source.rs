//! The text of a code table and the mistakes found in it.

use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use toml::Spanned;

use crate::error::Fault;

/// One file of an application's code folder.
#[derive(Clone, Debug)]
pub(super) struct Source {
    /// Shown in faults.
    pub file: PathBuf,
    /// Below the code folder, with `/`, such as `views/browse.toml`.
    pub path: Arc<str>,
    pub text: Arc<str>,
}

impl Source {
    pub fn fault(&self, at: &Range<usize>, wrong: impl Into<String>, cure: impl Into<String>) -> Fault {
        Fault::at(&self.file, &self.text, at.start, wrong, cure)
    }

    /// A mistake of the file as a whole.
    pub fn whole(&self, wrong: impl Into<String>, cure: impl Into<String>) -> Fault {
        Fault::new(&self.file, 1, 1, wrong, cure)
    }

    /// Where the content of a string begins whose value with its quotes is at `at`.
    pub fn content(&self, at: &Range<usize>) -> usize {
        let text = &self.text[at.clone()];
        let quotes = if text.starts_with("\"\"\"") || text.starts_with("'''") { 3 } else { 1 };
        // A line break right behind three quotes is no part of the string.
        let rest = text.get(quotes..).unwrap_or("");
        let line_break = if quotes == 3 {
            rest.len() - rest.strip_prefix("\r\n").or(rest.strip_prefix('\n')).unwrap_or(rest).len()
        } else {
            0
        };
        at.start + quotes + line_break
    }

    /// Parses TOML with the keys of `T`; the first syntax error, unknown key or wrong type is the fault.
    pub fn parse<T: DeserializeOwned>(&self) -> Result<T, Fault> {
        toml::from_str(&self.text).map_err(|error| Fault {
            cure: "profiles/CODE_TABLES.md lists every key".to_owned(),
            ..Fault::toml(&self.file, &self.text, &error)
        })
    }

    /// The file's name without folder and `.toml`, such as `browse`.
    pub fn stem(&self) -> &str {
        let name = self.path.rsplit('/').next().unwrap_or(&self.path);
        name.strip_suffix(".toml").unwrap_or(name)
    }
}

/// What would be right in place of `name`: the nearest of `known`, or all of them.
pub(super) fn choose<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    let mut known: Vec<&str> = known.into_iter().collect();
    known.sort_unstable();
    known.dedup();
    if known.is_empty() {
        return "there is none yet".to_owned();
    }
    let nearest = known.iter().map(|candidate| (distance(name, candidate), *candidate)).min();
    if let Some((distance, candidate)) = nearest
        && distance <= (name.chars().count() / 3).max(2)
    {
        return format!("did you mean `{candidate}`?");
    }
    let shown: Vec<String> = known.iter().take(12).map(|candidate| format!("`{candidate}`")).collect();
    let more = if known.len() > shown.len() { ", …" } else { "" };
    format!("there is {}{more}", shown.join(", "))
}

/// Edits (insert, delete, replace) between two names: Levenshtein's distance.
fn distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (index, from) in left.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = index + 1;
        for (column, to) in right.iter().enumerate() {
            let replaced = diagonal + usize::from(from != *to);
            diagonal = row[column + 1];
            row[column + 1] = replaced.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[right.len()]
}

/// Whether a table or field may be named so: it becomes a column of the database and a name in JSON and templates.
pub(super) fn is_identifier(name: &str) -> bool {
    name.len() <= 63
        && name.starts_with(|first: char| first.is_ascii_lowercase())
        && name.chars().all(|char| char.is_ascii_lowercase() || char.is_ascii_digit() || char == '_')
}

/// A value of a code table that was there, or nothing.
pub(super) fn present<T>(value: &Option<Spanned<T>>) -> Option<Range<usize>> {
    value.as_ref().map(Spanned::span)
}

/// Refuses keys that belong to another kind of the same code table.
pub(super) fn refuse(
    source: &Source,
    kind: &str,
    keys: &[(&str, Option<Range<usize>>)],
    allowed: &[&str],
    faults: &mut Vec<Fault>,
) {
    for (key, at) in keys {
        if let Some(at) = at
            && !allowed.contains(key)
        {
            let cure = match allowed {
                [] => format!("remove it: {kind} has no key of its own"),
                allowed => format!("remove it: {kind} has {}", list(allowed)),
            };
            faults.push(source.fault(at, format!("`{key}` has no meaning in {kind}"), cure));
        }
    }
}

/// `a`, `b` and `c` as a sentence's part.
pub(super) fn list(names: &[&str]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::{choose, distance, is_identifier};

    #[test]
    fn distances() {
        for (left, right, edits) in
            [("", "", 0), ("item", "item", 0), ("itm", "item", 1), ("tiem", "item", 2), ("", "ab", 2)]
        {
            assert_eq!(distance(left, right), edits, "{left} {right}");
        }
    }

    #[test]
    fn suggestions() {
        assert_eq!(choose("itme", ["item", "supplier"]), "did you mean `item`?");
        assert_eq!(choose("zzzzzz", ["item", "supplier"]), "there is `item`, `supplier`");
        assert_eq!(choose("x", []), "there is none yet");
    }

    #[test]
    fn identifiers() {
        assert!(is_identifier("posting_state2"));
        for wrong in ["", "_x", "2x", "Name", "a-b", "a b", "é"] {
            assert!(!is_identifier(wrong), "{wrong}");
        }
    }
}
