//! Rows on their way into PostgreSQL and out of it.
//!
//! PostgreSQL's text cannot hold a zero byte, and ours can: it is written as a noncharacter and a digit, and so is the
//! noncharacter itself, so that every text comes back as it was.

use std::borrow::Cow;
use std::fmt::Write as _;

use postgres::Row;
use postgres::types::ToSql;

use crate::database::contract::ABSENT;
use crate::database::revisions::{versions_of, versions_text};
use crate::tables::{DocumentShape, FieldKind, Stamp, TableId, Update, Value};

/// A code point that Unicode has set aside and no text means.
const ESCAPE: char = '\u{fdd0}';

/// Text as PostgreSQL can hold it.
pub fn stored(text: &str) -> Cow<'_, str> {
    if !text.contains(['\0', ESCAPE]) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 8);
    for one in text.chars() {
        match one {
            '\0' => out.extend([ESCAPE, '0']),
            ESCAPE => out.extend([ESCAPE, '1']),
            other => out.push(other),
        }
    }
    Cow::Owned(out)
}

/// The inverse of [`stored`]; `None` for what it never makes.
pub fn original(text: &str) -> Option<Cow<'_, str>> {
    if !text.contains(ESCAPE) {
        return Some(Cow::Borrowed(text));
    }
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(one) = chars.next() {
        out.push(match (one, one == ESCAPE) {
            (one, false) => one,
            (_, true) => match chars.next()? {
                '0' => '\0',
                '1' => ESCAPE,
                _ => return None,
            },
        });
    }
    Some(Cow::Owned(out))
}

/// A hybrid time or a count of milliseconds in a BIGINT; beyond the year 6400 it is none, and saturating keeps the order.
pub fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// A column of many rows, bound as one array.
pub type Column<'a> = Box<dyn ToSql + Sync + 'a>;

/// Key, fields and stamps of rows with distinct keys, one array a column.
pub fn columns<'a>(updates: &[&'a Update], shape: &DocumentShape) -> Vec<Column<'a>> {
    let mut columns: Vec<Column<'a>> = Vec::with_capacity(6 + shape.fields.len());
    columns.push(Box::new(updates.iter().map(|update| stored(&update.key)).collect::<Vec<_>>()));
    for (index, field) in shape.fields.iter().enumerate() {
        let value = move |update: &&'a Update| update.record.as_ref().map(|record| record.get(index));
        columns.push(match field.kind {
            FieldKind::Text => Box::new(updates.iter().map(|update| text(value(update))).collect::<Vec<_>>()),
            FieldKind::Integer | FieldKind::Money | FieldKind::Time => {
                Box::new(updates.iter().map(|update| integer(value(update))).collect::<Vec<_>>())
            }
            FieldKind::Boolean => Box::new(updates.iter().map(|update| boolean(value(update))).collect::<Vec<_>>()),
        });
    }
    columns.push(Box::new(updates.iter().map(|update| i64::from(update.stamp.sequence)).collect::<Vec<_>>()));
    columns.push(Box::new(updates.iter().map(|update| signed(update.stamp.time)).collect::<Vec<_>>()));
    columns.push(Box::new(updates.iter().map(|update| i16::from(update.stamp.server)).collect::<Vec<_>>()));
    columns.push(Box::new(updates.iter().map(|update| versions_text(&update.versions)).collect::<Vec<_>>()));
    columns.push(Box::new(updates.iter().map(|update| update.record.is_none()).collect::<Vec<_>>()));
    columns
}

fn text(value: Option<&Value>) -> Option<Cow<'_, str>> {
    match value {
        Some(Value::Text(text)) => Some(stored(text)),
        None | Some(Value::Null | Value::Integer(_) | Value::Boolean(_)) => None,
    }
}

fn integer(value: Option<&Value>) -> Option<i64> {
    match value {
        Some(Value::Integer(number)) => Some(*number),
        None | Some(Value::Null | Value::Text(_) | Value::Boolean(_)) => None,
    }
}

fn boolean(value: Option<&Value>) -> Option<bool> {
    match value {
        Some(Value::Boolean(truth)) => Some(*truth),
        None | Some(Value::Null | Value::Text(_) | Value::Integer(_)) => None,
    }
}

/// Adds a row to the text of a COPY, in the order of [`columns`].
pub fn copy_row(out: &mut String, update: &Update, shape: &DocumentShape) {
    copy_text(out, &update.key);
    for index in 0..shape.fields.len() {
        out.push('\t');
        match update.record.as_ref().map(|record| record.get(index)) {
            None | Some(Value::Null) => out.push_str("\\N"),
            Some(Value::Text(text)) => copy_text(out, text),
            Some(Value::Integer(number)) => write!(out, "{number}").expect("invariant: strings grow"),
            Some(Value::Boolean(truth)) => out.push(if *truth { 't' } else { 'f' }),
        }
    }
    out.push('\t');
    copy_stamp(out, update);
    out.push('\n');
}

/// Adds a change log line without a copy of its record to the text of a COPY, in the order of `LOG_COLUMNS`.
pub fn copy_line(out: &mut String, update: &Update, table: &str, appliance: &str) {
    for text in [appliance, table, &update.key] {
        copy_text(out, text);
        out.push('\t');
    }
    copy_stamp(out, update);
    out.push_str("\tt\t\\N\n");
}

fn copy_stamp(out: &mut String, update: &Update) {
    let deleted = if update.record.is_none() { 't' } else { 'f' };
    let (stamp, versions) = (update.stamp, versions_text(&update.versions));
    write!(out, "{}\t{}\t{}\t{versions}\t{deleted}", stamp.sequence, signed(stamp.time), stamp.server)
        .expect("invariant: strings grow");
}

/// Text between the tabs of a COPY.
fn copy_text(out: &mut String, text: &str) {
    for one in stored(text).chars() {
        match one {
            '\\' => out.push_str("\\\\"),
            '\t' => out.push_str("\\t"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            other => out.push(other),
        }
    }
}

/// Text of a column; `None` if it is no text of ours.
pub fn text_at(row: &Row, column: usize) -> Option<Box<str>> {
    let text: &str = row.try_get(column).ok()?;
    Some(match original(text)? {
        Cow::Borrowed(text) => text.into(),
        Cow::Owned(text) => text.into(),
    })
}

pub fn stamp_at(row: &Row, first: usize) -> Option<Stamp> {
    Some(Stamp {
        sequence: row.try_get::<_, i64>(first).ok()?.try_into().ok()?,
        time: row.try_get::<_, i64>(first + 1).ok()?.try_into().ok()?,
        server: row.try_get::<_, i16>(first + 2).ok()?.try_into().ok()?,
    })
}

pub fn versions_at(row: &Row, column: usize) -> Option<crate::tables::VersionVector> {
    versions_of(row.try_get(column).ok()?)
}

/// A row in the order of [`columns`]; `None` if it is none of ours.
pub fn update_of(row: &Row, table: TableId, shape: &DocumentShape) -> Option<Update> {
    let stamps = 1 + shape.fields.len();
    let deleted: bool = row.try_get(stamps + 4).ok()?;
    let record = if deleted {
        None
    } else {
        let values = shape.fields.iter().enumerate().map(|(index, field)| value_at(row, 1 + index, field.kind));
        Some(crate::tables::Record(values.collect::<Option<_>>()?))
    };
    Some(Update {
        table,
        key: text_at(row, 0)?,
        stamp: stamp_at(row, stamps)?,
        versions: versions_at(row, stamps + 3)?,
        base: ABSENT,
        record,
    })
}

fn value_at(row: &Row, column: usize, kind: FieldKind) -> Option<Value> {
    Some(match kind {
        FieldKind::Text => match row.try_get::<_, Option<&str>>(column).ok()? {
            Some(text) => Value::text(&original(text)?),
            None => Value::Null,
        },
        FieldKind::Integer | FieldKind::Money | FieldKind::Time => {
            row.try_get::<_, Option<i64>>(column).ok()?.map_or(Value::Null, Value::Integer)
        }
        FieldKind::Boolean => row.try_get::<_, Option<bool>>(column).ok()?.map_or(Value::Null, Value::Boolean),
    })
}

#[cfg(test)]
mod tests {
    use super::{copy_text, original, stored};

    #[test]
    fn every_text_comes_back() {
        for text in ["", "plain", "\0", "a\0b\u{fdd0}c\u{fdd0}0", "\u{fdd0}", "\u{1F600}\t\\\r\n"] {
            let there = stored(text);
            assert!(!there.contains('\0'), "{there:?}");
            assert_eq!(original(&there).as_deref(), Some(text));
        }
        assert_eq!([original("\u{fdd0}"), original("\u{fdd0}2")], [None, None]);
    }

    #[test]
    fn copied_text_has_no_bare_separators() {
        let mut out = String::new();
        copy_text(&mut out, "a\tb\nc\rd\\N\0");
        assert_eq!(out, "a\\tb\\nc\\rd\\\\N\u{fdd0}0");
    }
}
