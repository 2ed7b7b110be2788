//! Values on their way into the database and out of it.

use duckdb::types::{ToSql, ToSqlOutput, ValueRef};
use duckdb::{Appender, Row, appender_params_from_iter};

use crate::database::contract::ABSENT;
use crate::database::dialect;
use crate::database::logged::{Line, values_of};
use crate::database::revisions::{versions_of, versions_text};
use crate::tables::{DocumentShape, FieldKind, Record, Stamp, TableId, Update, Value};

/// A value on its way into the database, borrowed.
#[derive(Clone, Copy)]
pub(super) enum Cell<'a> {
    Null,
    Text(&'a str),
    Integer(i64),
    Small(i16),
    /// An unsigned number in a BIGINT column: hybrid times, milliseconds, versions.
    Time(u64),
    Boolean(bool),
}

impl ToSql for Cell<'_> {
    fn to_sql(&self) -> duckdb::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Self::Null => ValueRef::Null,
            Self::Text(text) => ValueRef::Text(text.as_bytes()),
            Self::Integer(number) => ValueRef::BigInt(*number),
            Self::Small(number) => ValueRef::SmallInt(*number),
            // Times beyond the year 6400 are no times; saturating keeps the order.
            Self::Time(time) => ValueRef::BigInt(i64::try_from(*time).unwrap_or(i64::MAX)),
            Self::Boolean(truth) => ValueRef::Boolean(*truth),
        }))
    }
}

pub(super) fn record_cells<'a>(
    key: &'a str,
    record: Option<&'a Record>,
    fields: usize,
) -> impl Iterator<Item = Cell<'a>> {
    let values = (0..fields).map(move |field| match record.map(|record| record.get(field)) {
        None | Some(Value::Null) => Cell::Null,
        Some(Value::Text(text)) => Cell::Text(text),
        Some(Value::Integer(number)) => Cell::Integer(*number),
        Some(Value::Boolean(truth)) => Cell::Boolean(*truth),
    });
    std::iter::once(Cell::Text(key)).chain(values)
}

pub(super) fn append_update(appender: &mut Appender<'_>, update: &Update, fields: usize) -> duckdb::Result<()> {
    let versions = versions_text(&update.versions);
    let stamps = [
        Cell::Integer(update.stamp.sequence.into()),
        Cell::Time(update.stamp.time),
        Cell::Small(update.stamp.server.into()),
        Cell::Text(&versions),
        Cell::Boolean(update.record.is_none()),
    ];
    appender
        .append_row(appender_params_from_iter(record_cells(&update.key, update.record.as_ref(), fields).chain(stamps)))
}

pub(super) fn text_at<'a>(row: &'a Row<'_>, column: usize) -> Option<&'a str> {
    row.get_ref(column).ok()?.as_str().ok()
}

pub(super) fn stamp_at(row: &Row<'_>, first: usize) -> Option<Stamp> {
    let number = |column: usize| row.get::<_, i64>(first + column).ok();
    Some(Stamp {
        sequence: number(0)?.try_into().ok()?,
        time: number(1)?.try_into().ok()?,
        server: number(2)?.try_into().ok()?,
    })
}

pub(super) fn versions_at(row: &Row<'_>, column: usize) -> Option<crate::tables::VersionVector> {
    versions_of(text_at(row, column)?)
}

/// A row in the order of [`TableSql::columns`].
pub(super) fn table_update(row: &Row<'_>, table: TableId, shape: &DocumentShape) -> Option<Update> {
    let stamps = 1 + shape.fields.len();
    let record = if row.get(stamps + 4).ok()? {
        None
    } else {
        let values = shape.fields.iter().enumerate().map(|(index, field)| value_at(row, 1 + index, field.kind));
        Some(Record(values.collect::<Option<_>>()?))
    };
    Some(Update {
        table,
        key: text_at(row, 0)?.into(),
        stamp: stamp_at(row, stamps)?,
        versions: versions_at(row, stamps + 3)?,
        base: ABSENT,
        record,
    })
}

/// A change log line in the order of the query in `unfolded`.
pub(super) fn logged_line(row: &Row<'_>) -> Option<Line> {
    let record = if row.get(5).ok()? { None } else { Some(values_of(text_at(row, 6)?)?) };
    Some(Line {
        table: text_at(row, 7)?.into(),
        key: text_at(row, 0)?.into(),
        stamp: stamp_at(row, 1)?,
        versions: versions_at(row, 4)?,
        record,
    })
}

pub(super) fn is_stamp(column: &str) -> bool {
    dialect::STAMP_COLUMNS.iter().any(|(name, _)| *name == column)
}

pub(super) fn value_at(row: &Row<'_>, column: usize, kind: FieldKind) -> Option<Value> {
    let value = row.get_ref(column).ok()?;
    if value == ValueRef::Null {
        return Some(Value::Null);
    }
    match kind {
        FieldKind::Text => value.as_str().ok().map(Value::text),
        FieldKind::Integer | FieldKind::Money | FieldKind::Time => row.get(column).ok().map(Value::Integer),
        FieldKind::Boolean => row.get(column).ok().map(Value::Boolean),
    }
}
