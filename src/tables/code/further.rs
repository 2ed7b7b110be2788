//! Further rows of an action: what a write writes or deletes in the same commit as its own row.

use serde::Deserialize;
use toml::Spanned;

use crate::error::Fault;
use crate::tables::TableId;

use super::action::{KeySource, RawSet, new_prefix, set};
use super::names::Names;
use super::pattern::{Expression, Pattern, Scope};
use super::source::{Source, present};

/// One further row.
#[derive(Clone, Debug)]
pub struct Further {
    pub table: TableId,
    /// A missing row is made.
    pub key: KeySource,
    /// `None` deletes the row, if it is there.
    pub set: Option<Vec<(usize, Expression)>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawFurther {
    table: Spanned<String>,
    key: Option<Spanned<String>>,
    new: Option<Spanned<String>>,
    set: Option<Spanned<RawSet>>,
    #[serde(default)]
    delete: Option<Spanned<bool>>,
}

/// `scope` is what the action's own expressions see, `known` what the key's pattern may name.
pub(super) fn compile(
    source: &Source,
    raw: &RawFurther,
    names: &Names<'_>,
    scope: &Scope<'_>,
    known: &[&str],
    faults: &mut Vec<Fault>,
) -> Option<Further> {
    let at = raw.table.span();
    let key = match (&raw.key, &raw.new) {
        (Some(key), None) => {
            Some(KeySource::Given { key: Pattern::compile(source, key, known.iter().copied(), faults), creates: true })
        }
        (None, Some(new)) => Some(KeySource::Fresh { prefix: new_prefix(source, new, faults) }),
        (None, None) | (Some(_), Some(_)) => {
            let cure = "write key = \"{…}\" for a row with a known key, or new = \"PREFIX\" for a new row";
            faults.push(source.fault(&at, "a further row needs one of `key` and `new`", cure));
            None
        }
    };
    let deletes = raw.delete.as_ref().is_some_and(|delete| *delete.get_ref());
    if deletes && let Some(at) = present(&raw.set).or(present(&raw.new)) {
        let cure = "name the row with `key` and nothing else, or leave `delete` out";
        faults.push(source.fault(&at, "a row that is deleted is neither new nor set", cure));
    }
    let table = names.table(source, &raw.table, faults)?;
    let shape = names.shapes.get(table);
    let asked = raw.set.as_ref();
    let place = asked.map_or(at, Spanned::span);
    let set = (!deletes).then(|| set(source, asked.map(Spanned::get_ref), (true, place), shape, names, scope, faults));
    Some(Further { table, key: key?, set })
}
