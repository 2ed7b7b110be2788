//! The SQL text of the embedded database. Names come from shapes and are always quoted; values are always bound.

use std::path::Path;
use std::sync::Arc;

use super::health::State;
use crate::tables::{DocumentShape, FieldKind, ShapeSet};

/// The schema's version: a file with another one is refused.
pub const SCHEMA_VERSION: &str = "2";
/// The version before, which is read and brought to the present one: its change log does not name fields.
pub const SCHEMA_VERSION_UNNAMED: &str = "1";

/// Creates the tables that do not depend on shapes.
pub const HOUSE: &[&str] = &[
    include_str!("schema/setting.sql"),
    include_str!("schema/change_log.sql"),
    include_str!("schema/conflict.sql"),
    include_str!("schema/deployment.sql"),
];

/// Their names, which no data table may take.
const RESERVED: &[&str] = &["setting", "change_log", "conflict", "deployment", "code_table", "appliance", STAGE];

/// The temporary table of vectorised writes.
pub const STAGE: &str = "stage";

/// The columns behind a shape's own, in the order in which rows are written and read.
pub const STAMP_COLUMNS: [(&str, &str); 5] = [
    ("_sequence", "BIGINT"),
    ("_time", "BIGINT"),
    ("_server", "SMALLINT"),
    ("_versions", "VARCHAR"),
    ("_deleted", "BOOLEAN"),
];

pub fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// The kind of a column that [`column_type`] made. Money and times cannot be told from other integers, and need not be.
pub fn kind_of(column_type: &str) -> Option<FieldKind> {
    match column_type {
        "VARCHAR" => Some(FieldKind::Text),
        "BIGINT" => Some(FieldKind::Integer),
        "BOOLEAN" => Some(FieldKind::Boolean),
        _ => None,
    }
}

pub fn column_type(kind: FieldKind) -> &'static str {
    match kind {
        FieldKind::Text => "VARCHAR",
        FieldKind::Integer | FieldKind::Money | FieldKind::Time => "BIGINT",
        FieldKind::Boolean => "BOOLEAN",
    }
}

/// The statements of one data table, made once.
#[derive(Debug)]
pub struct TableSql {
    /// As it is, for the appender.
    pub name: String,
    /// Key, fields, stamp columns: the order of every write and read.
    pub columns: Vec<String>,
    pub create: String,
    pub select_all: String,
    pub select_row: String,
    pub select_stamps: String,
    /// An empty [`STAGE`] in this table's form.
    pub stage: String,
    /// Compares the records in the stage with the stored rows: key, equality, stamp, versions.
    pub compare: String,
    /// Replaces rows by those of the same key in the stage.
    pub update_from_stage: String,
}

impl TableSql {
    pub fn new(shape: &DocumentShape) -> Self {
        let fields = || shape.fields.iter().map(|field| field.name.to_string());
        let name = quoted(&shape.table);
        let key = quoted(&shape.key);
        let stamps = STAMP_COLUMNS.map(|(column, _)| quoted(column)).join(", ");
        let columns: Vec<String> = std::iter::once(shape.key.to_string())
            .chain(fields())
            .chain(STAMP_COLUMNS.map(|(column, _)| column.to_owned()))
            .collect();
        let list = columns.iter().map(|column| quoted(column)).collect::<Vec<_>>().join(", ");
        let declared = shape.fields.iter().map(|field| format!("{} {}", quoted(&field.name), column_type(field.kind)));
        let stamped = STAMP_COLUMNS.iter().map(|(column, kind)| format!("{} {kind} NOT NULL", quoted(column)));
        let declarations = declared.chain(stamped).collect::<Vec<_>>().join(", ");
        let same = fields()
            .map(|field| format!("t.{0} IS NOT DISTINCT FROM s.{0}", quoted(&field)))
            .chain(std::iter::once(r#"NOT t."_deleted""#.to_owned()))
            .collect::<Vec<_>>()
            .join(" AND ");
        let set =
            columns[1..].iter().map(|column| format!("{0} = s.{0}", quoted(column))).collect::<Vec<_>>().join(", ");
        Self {
            create: format!("CREATE TABLE IF NOT EXISTS {name} ({key} VARCHAR PRIMARY KEY, {declarations})"),
            select_all: format!("SELECT {list} FROM {name}"),
            select_row: format!("SELECT {list} FROM {name} WHERE {key} = ?"),
            select_stamps: format!("SELECT {key}, {stamps} FROM {name}"),
            stage: format!("CREATE OR REPLACE TEMP TABLE {STAGE} AS SELECT {list} FROM {name} LIMIT 0"),
            compare: format!(
                "SELECT s.{key}, {same}, {stamps} FROM (SELECT {key}, {fields} FROM {STAGE}) s JOIN {name} t ON t.{key} = s.{key}",
                fields = std::iter::once(key.clone())
                    .chain(fields().map(|field| quoted(&field)))
                    .skip(1)
                    .collect::<Vec<_>>()
                    .join(", ")
            ),
            update_from_stage: format!("UPDATE {name} SET {set} FROM {STAGE} s WHERE {name}.{key} = s.{key}"),
            name: shape.table.to_string(),
            columns,
        }
    }
}

/// Whether shapes can follow those that are known, and each can be a SQL table.
pub fn refuse_all(shapes: &ShapeSet, known: &ShapeSet) -> Result<(), String> {
    for (index, known) in known.shapes.iter().enumerate() {
        if shapes.shapes.get(index).is_none_or(|shape| shape.table != known.table) {
            return Err(format!(
                "the new code has no data table `{}` at its place; data tables are only ever added",
                known.table
            ));
        }
    }
    shapes.shapes.iter().try_for_each(|shape| refuse(shape, &shapes.shapes))
}

/// Whether a shape can be a SQL table: names are compared without case, as SQL does.
fn refuse(shape: &DocumentShape, others: &[Arc<DocumentShape>]) -> Result<(), String> {
    let table = shape.table.to_lowercase();
    if table.is_empty() || RESERVED.contains(&table.as_str()) {
        return Err(format!(
            "the data table name `{}` is taken by the database server; name it otherwise",
            shape.table
        ));
    }
    if others.iter().filter(|other| other.table.to_lowercase() == table).count() > 1 {
        return Err(format!("two data tables are called `{}` (case does not count); rename one", shape.table));
    }
    let mut seen: Vec<String> = STAMP_COLUMNS.map(|(column, _)| column.to_owned()).to_vec();
    for name in std::iter::once(&shape.key).chain(shape.fields.iter().map(|field| &field.name)) {
        let lower = name.to_lowercase();
        if lower.is_empty() || seen.contains(&lower) {
            return Err(format!(
                "table `{}`: the field name `{name}` is taken (case does not count); rename it",
                shape.table
            ));
        }
        seen.push(lower);
    }
    Ok(())
}

/// What an error says about the database. One that is about the request only counts as down until the next request
/// that works.
pub fn trouble(text: &str) -> State {
    const FULL: [&str; 3] = ["No space left on device", "File too large", "Disk quota exceeded"];
    if FULL.iter().any(|sign| text.contains(sign)) {
        State::Full
    } else if text.contains("Could not set lock on file") {
        State::Locked
    } else {
        State::Down
    }
}

/// Whether DuckDB refuses everything after this error, or may be unsure of what it holds.
pub fn breaks(text: &str) -> bool {
    text.contains("has been invalidated") || text.contains("FATAL") || trouble(text) == State::Full
}

/// Whether it is the write-ahead log that DuckDB cannot read or use.
pub fn is_about_log(text: &str) -> bool {
    text.contains("WAL")
}

/// Whether a sentence of [`sentence`] says that the disk did not confirm a write.
pub fn unsynced(sentence: &str) -> bool {
    sentence.contains("(fsync failed)")
}

/// What the database said, as one sentence with the cure.
pub fn sentence(text: &str, path: &Path) -> String {
    let file = path.display();
    if text.contains("Could not set lock on file") {
        let holder = text
            .split_once("PID ")
            .and_then(|(_, rest)| rest.split(|c: char| !c.is_ascii_digit()).next())
            .unwrap_or("");
        let holder = if holder.is_empty() { String::new() } else { format!(" (process {holder})") };
        return format!(
            "the database file {file} is in use by another process{holder}; stop that process, or name another file"
        );
    }
    if text.contains("not a valid DuckDB database file") {
        return format!("{file} is no DuckDB database; move it away, or name another file");
    }
    if text.contains("database file with version number") || text.contains("was created with a newer") {
        return format!(
            "{file} was written by another version of DuckDB; start the program that wrote it, or name another file"
        );
    }
    if text.contains("No space left on device") {
        return format!("the disk of {file} is full; free some space and try again");
    }
    if text.contains("Disk quota exceeded") {
        return format!("the quota for the disk of {file} is used up; free some space and try again");
    }
    if text.contains("File too large") {
        return format!(
            "{file} has reached the size that this process may write; raise the limit (ulimit -f) or use another disk"
        );
    }
    if text.contains("Permission denied") {
        return format!("no permission to use the database file {file}; change its owner or name another file");
    }
    if text.contains("No such file or directory") {
        return format!("the folder of the database file {file} does not exist; create it, or name another file");
    }
    if text.contains("fsync") {
        return format!(
            "the disk does not confirm what is written to {file} (fsync failed); look into the kernel's log, and move the database to another disk"
        );
    }
    if is_about_log(text) {
        return format!(
            "the log {file}.wal of the database is damaged or is not this file's; restore {file} and the log from a backup, or start once with --set database.damaged_log=cut, which goes on without the log and leaves it in a copy"
        );
    }
    if text.contains("Corrupt") || text.contains("checksum") || text.contains("Serialization Error") {
        return format!(
            "the database file {file} is damaged; restore it from a backup, or move it away to begin with an empty one"
        );
    }
    let first = text.lines().next().unwrap_or("no reason given");
    format!("the database refused ({file}): {first}")
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use super::{TableSql, refuse, sentence};
    use crate::tables::{DocumentShape, Field, FieldKind};

    fn shape(table: &str, key: &str, fields: &[&str]) -> Arc<DocumentShape> {
        let field = |name: &&str| Field::new(*name, FieldKind::Text, 100);
        let fields = fields.iter().map(field).collect();
        Arc::new(DocumentShape { table: table.into(), application: "test".into(), key: key.into(), fields })
    }

    #[test]
    fn names_are_quoted() {
        let sql = TableSql::new(&shape("or\"der", "select", &["from"]));
        assert!(sql.create.starts_with(
            "CREATE TABLE IF NOT EXISTS \"or\"\"der\" (\"select\" VARCHAR PRIMARY KEY, \"from\" VARCHAR,"
        ));
        assert!(sql.select_row.ends_with("WHERE \"select\" = ?"));
    }

    #[test]
    fn names_that_sql_cannot_tell_apart_are_refused() {
        let fine = shape("item", "key", &["name"]);
        assert_eq!(refuse(&fine, std::slice::from_ref(&fine)), Ok(()));
        for (table, key, fields) in [
            ("Setting", "key", vec!["name"]),
            ("", "key", vec!["name"]),
            ("item", "name", vec!["Name"]),
            ("item", "key", vec!["_time"]),
            ("item", "key", vec![""]),
        ] {
            let bad = shape(table, key, &fields);
            assert!(refuse(&bad, std::slice::from_ref(&bad)).is_err(), "{bad:?}");
        }
        assert!(refuse(&fine, &[fine.clone(), shape("ITEM", "key", &[])]).is_err());
    }

    #[test]
    fn errors_become_one_sentence_with_the_cure() {
        let path = Path::new("data.duckdb");
        let locked = "IO Error: Could not set lock on file \"data.duckdb\": Conflicting lock is held in twintier (PID 4711). See also";
        assert_eq!(
            sentence(locked, path),
            "the database file data.duckdb is in use by another process (process 4711); stop that process, or name another file"
        );
        for text in ["No space left on device", "IO Error: Corrupt database file", "x\ny", ""] {
            let said = sentence(text, path);
            assert!(said.contains("data.duckdb") && !said.contains('\n'), "{said}");
        }
    }
}
