//! Versions of a row: the row itself, and the losers of concurrent edits that are kept beside it until somebody settles them.

use std::sync::Arc;

use crate::tables::code::{Expression, RoutePath};
use crate::tables::{DataTables, Row, Stamp, TableId, Update};

use super::{Call, Refusal};

/// The name of a version, for forms: no two versions of a row have the same stamp.
pub fn name(stamp: Stamp) -> String {
    format!("{}-{}-{}", stamp.sequence, stamp.time, stamp.server)
}

/// The version of that name, unless it is settled or a deletion.
pub fn find(tables: &DataTables, table: TableId, key: &str, named: &str) -> Option<Row> {
    let row = tables.get(table, key).filter(|row| name(row.stamp) == named).cloned();
    let lost = || tables.losers(table, key).find(|loser| name(loser.stamp) == named).map(as_row);
    row.or_else(lost).filter(Row::is_live)
}

/// The kept losers of a row that a guard lets somebody see: they may say something else about whose they are.
pub fn conflicts(
    call: &Call<'_>,
    table: TableId,
    key: &str,
    guard: Option<&Expression>,
    path: &RoutePath,
) -> Result<Vec<Row>, Refusal> {
    let mut seen = Vec::new();
    for loser in call.scene.tables.losers(table, key) {
        let row = as_row(loser);
        let visible = match guard {
            Some(guard) => call.guard(guard, path, table, &row)?,
            None => true,
        };
        if visible {
            seen.push(row);
        }
    }
    Ok(seen)
}

fn as_row(update: &Update) -> Row {
    let key = Arc::from(&*update.key);
    Row { key, stamp: update.stamp, versions: update.versions, record: update.record.clone() }
}
