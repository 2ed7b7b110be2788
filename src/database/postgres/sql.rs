//! The SQL text for PostgreSQL. Names come from shapes and are always quoted; values are always bound or copied.
//!
//! Names are written in lower case: shapes are compared without case, as the embedded database does, and PostgreSQL's
//! quoted names are not.

use super::settings::NAME_BYTES_MAX;
use crate::database::dialect::STAMP_COLUMNS;
use crate::tables::{DocumentShape, FieldKind};

/// The schema's version: another one is refused.
pub const SCHEMA_VERSION: &str = "1";

/// The tables that do not depend on shapes.
pub const HOUSE: &str = include_str!("schema.sql");

/// Columns that a commit writes to the change log; `position` comes by itself.
pub const LOG_COLUMNS: &str = "appliance, table_name, key, sequence, time, server, versions, deleted, stored, record";

/// Writes change log lines, tells who listens, and gives the last position and the transaction's number:
/// `$1` appliance, `$2` to `$9` columns, `$10` channel.
pub const APPEND_LOG: &str = "WITH line AS (\
     INSERT INTO change_log (appliance, table_name, key, sequence, time, server, versions, deleted, stored, record) \
     SELECT $1, t, k, s, h, o, v, d, FALSE, r FROM unnest($2::text[], $3::text[], $4::bigint[], $5::bigint[], \
     $6::smallint[], $7::text[], $8::boolean[], $9::text[]) WITH ORDINALITY AS u (t, k, s, h, o, v, d, r, n) ORDER BY n \
     RETURNING position) \
     SELECT max(position), pg_current_xact_id()::text, pg_notify($10, $1) IS NULL FROM line";

/// The number of the open transaction, and the notification, where no line is written: `$1` channel, `$2` appliance.
pub const ANNOUNCE: &str =
    "SELECT (SELECT max(position) FROM change_log), pg_current_xact_id()::text, pg_notify($1, $2) IS NULL";

pub fn quoted(name: &str) -> String {
    crate::database::dialect::quoted(&name.to_lowercase())
}

pub fn column_type(kind: FieldKind) -> &'static str {
    match kind {
        FieldKind::Text => "text",
        FieldKind::Integer | FieldKind::Money | FieldKind::Time => "bigint",
        FieldKind::Boolean => "boolean",
    }
}

/// A name that PostgreSQL would cut.
pub fn refuse_long(shape: &DocumentShape) -> Result<(), String> {
    let names = [&shape.table, &shape.key].into_iter().chain(shape.fields.iter().map(|field| &field.name));
    for name in names {
        if name.to_lowercase().len() > NAME_BYTES_MAX {
            return Err(format!(
                "the name `{name}` in table `{}` is too long for PostgreSQL, which takes {NAME_BYTES_MAX} bytes; shorten it",
                shape.table
            ));
        }
    }
    Ok(())
}

/// The statements of one data table, made once.
#[derive(Debug)]
pub struct TableSql {
    /// Quoted.
    pub name: String,
    pub create: String,
    pub select_all: String,
    /// The rows of the keys in `$1`.
    pub select_rows: String,
    /// Key and stamp of the keys in `$1`.
    pub select_stamps: String,
    /// Rows and greatest hybrid time.
    pub extent: String,
    /// Inserts or replaces the rows in the arrays `$1`, `$2`, …, one a column; gives the number of new ones.
    pub upsert: String,
    /// Takes rows of keys that are new.
    pub copy: String,
}

impl TableSql {
    pub fn new(shape: &DocumentShape) -> Self {
        let name = quoted(&shape.table);
        let key = quoted(&shape.key);
        let fields: Vec<(String, &str)> =
            shape.fields.iter().map(|field| (quoted(&field.name), column_type(field.kind))).collect();
        let stamps = STAMP_COLUMNS.map(|(column, _)| quoted(column));
        let columns: Vec<(String, &str)> = std::iter::once((key.clone(), "text"))
            .chain(fields.iter().cloned())
            .chain(stamps.iter().cloned().zip(["bigint", "bigint", "smallint", "text", "boolean"]))
            .collect();
        let list = columns.iter().map(|(column, _)| column.as_str()).collect::<Vec<_>>().join(", ");
        let declared = fields.iter().map(|(column, kind)| format!("{column} {kind}"));
        let stamped = columns[1 + fields.len()..].iter().map(|(column, kind)| format!("{column} {kind} NOT NULL"));
        let declarations = declared.chain(stamped).collect::<Vec<_>>().join(", ");
        let arrays = columns
            .iter()
            .zip(1..)
            .map(|((_, kind), index)| format!("${index}::{kind}[]"))
            .collect::<Vec<_>>()
            .join(", ");
        let set = columns[1..].iter().map(|(column, _)| format!("{column} = EXCLUDED.{column}")).collect::<Vec<_>>();
        Self {
            // Bytes decide the order of keys, on every machine alike.
            create: format!("CREATE TABLE {name} ({key} text COLLATE \"C\" PRIMARY KEY, {declarations})"),
            select_all: format!("SELECT {list} FROM {name}"),
            select_rows: format!("SELECT {list} FROM {name} WHERE {key} = ANY($1)"),
            select_stamps: format!(
                "SELECT {key}, {}, {}, {} FROM {name} WHERE {key} = ANY($1)",
                stamps[0], stamps[1], stamps[2]
            ),
            extent: format!("SELECT count(*), coalesce(max({}), 0) FROM {name}", stamps[1]),
            upsert: format!(
                "WITH written AS (INSERT INTO {name} ({list}) SELECT * FROM unnest({arrays}) \
                 ON CONFLICT ({key}) DO UPDATE SET {} RETURNING xmax = 0 AS new) \
                 SELECT count(*) FILTER (WHERE new) FROM written",
                set.join(", ")
            ),
            copy: format!("COPY {name} ({list}) FROM STDIN"),
            name,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{TableSql, refuse_long};
    use crate::tables::{DocumentShape, Field, FieldKind};

    fn shape(table: &str, field: &str) -> DocumentShape {
        let field = Field::new(field, FieldKind::Text, 100);
        DocumentShape { table: table.into(), application: "t".into(), key: "Key".into(), fields: [field].into() }
    }

    #[test]
    fn names_are_quoted_and_lowered() {
        let sql = TableSql::new(&shape("Or\"der", "From"));
        assert_eq!(sql.name, "\"or\"\"der\"");
        assert!(
            sql.create
                .starts_with("CREATE TABLE \"or\"\"der\" (\"key\" text COLLATE \"C\" PRIMARY KEY, \"from\" text, ")
        );
        assert!(sql.upsert.contains("ON CONFLICT (\"key\") DO UPDATE SET \"from\" = EXCLUDED.\"from\", "));
        assert!(sql.upsert.contains(
            "unnest($1::text[], $2::text[], $3::bigint[], $4::bigint[], $5::smallint[], $6::text[], $7::boolean[])"
        ));
    }

    #[test]
    fn names_that_would_be_cut_are_refused() {
        assert_eq!(refuse_long(&shape(&"x".repeat(63), "y")), Ok(()));
        assert!(refuse_long(&shape(&"x".repeat(64), "y")).is_err());
        assert!(refuse_long(&shape("x", &"ä".repeat(32))).is_err());
    }
}
