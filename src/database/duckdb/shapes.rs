//! The tables of the file, and those that the code wants: which it has, which it gets.

use std::sync::Arc;

use super::DuckStore;
use super::cells::is_stamp;
use crate::database::contract::{Store, StoreResult};
use crate::database::dialect::{self, HOUSE, SCHEMA_VERSION, SCHEMA_VERSION_UNNAMED, TableSql, column_type};
use crate::tables::{DocumentShape, Field, ShapeSet};

impl DuckStore {
    /// A table created by another schema version is not touched.
    pub(super) fn check_version(&mut self) -> StoreResult<()> {
        let count = "SELECT count(*) FROM duckdb_tables() WHERE NOT temporary";
        let tables: i64 = self.connection.query_row(count, [], |row| row.get(0)).map_err(|error| self.say(&error))?;
        let has = "SELECT count(*) FROM duckdb_tables() WHERE table_name = 'setting'";
        let settings: i64 = self.connection.query_row(has, [], |row| row.get(0)).map_err(|error| self.say(&error))?;
        let version = if settings > 0 { self.setting("schema_version")? } else { None };
        match version {
            Some(version) if version == SCHEMA_VERSION => Ok(()),
            // Its lines are told by their form; programs of that version cannot read those that come now.
            Some(version) if version == SCHEMA_VERSION_UNNAMED => {
                self.set_setting("schema_version", SCHEMA_VERSION)?;
                self.end()
            }
            Some(version) => Err(format!(
                "{} has schema version {version} and this program needs {SCHEMA_VERSION}; start the program that wrote it, or name another file",
                self.settings.path.display()
            )),
            None if tables > 0 => {
                Err(format!("{} is a DuckDB file of another program; name another file", self.settings.path.display()))
            }
            None => {
                let create = format!("BEGIN; {}; COMMIT", HOUSE.join(";"));
                self.connection.execute_batch(&create).map_err(|error| self.say(&error))?;
                self.set_setting("schema_version", SCHEMA_VERSION)?;
                self.set_setting("folded", "0")?;
                self.end()
            }
        }
    }

    /// Creates tables and appends columns.
    pub(super) fn adopt(&mut self, shapes: Arc<ShapeSet>) -> StoreResult<()> {
        dialect::refuse_all(&shapes, &self.shapes)?;
        let tables: Vec<TableSql> = shapes.shapes.iter().map(|shape| TableSql::new(shape)).collect();
        let mut altered = false;
        for (shape, sql) in shapes.shapes.iter().zip(&tables) {
            altered |= self.adopt_table(shape, sql)?;
        }
        if altered {
            // A schema change in the write-ahead log would be replayed before the rows that use it; on disk it is safe.
            self.connection.execute_batch("CHECKPOINT").map_err(|error| self.say(&error))?;
        }
        self.connection.flush_prepared_statement_cache();
        self.revisions.grow(tables.len());
        self.tables = tables;
        self.shapes = shapes;
        Ok(())
    }

    fn adopt_table(&mut self, shape: &DocumentShape, sql: &TableSql) -> StoreResult<bool> {
        let found = self.columns_of(&shape.table)?;
        if found.is_empty() {
            self.connection.execute_batch(&sql.create).map_err(|error| self.say(&error))?;
            return Ok(true);
        }
        if !found.iter().any(|(name, _)| name.eq_ignore_ascii_case(&shape.key)) {
            return Err(format!(
                "table `{}` of {} has no key column `{}`; keys cannot be renamed, use the old name",
                shape.table,
                self.settings.path.display(),
                shape.key
            ));
        }
        let mut altered = false;
        for field in &shape.fields {
            let wanted = column_type(field.kind);
            match found.iter().find(|(name, _)| name.eq_ignore_ascii_case(&field.name)) {
                Some((_, kind)) if kind == wanted => {}
                Some((_, kind)) => {
                    return Err(format!(
                        "column `{}` of table `{}` is {kind} in {} and the code now wants {wanted}; give the new field a new name",
                        field.name,
                        shape.table,
                        self.settings.path.display()
                    ));
                }
                None => {
                    let name = dialect::quoted(&shape.table);
                    let alter = format!("ALTER TABLE {name} ADD COLUMN {} {wanted}", dialect::quoted(&field.name));
                    self.connection.execute_batch(&alter).map_err(|error| self.say(&error))?;
                    altered = true;
                }
            }
        }
        Ok(altered)
    }

    pub(super) fn columns_of(&self, table: &str) -> StoreResult<Vec<(String, String)>> {
        let sql = "SELECT column_name, data_type FROM duckdb_columns() WHERE lower(table_name) = lower(?) AND NOT internal \
             ORDER BY column_index";
        let mut statement = self.connection.prepare(sql).map_err(|error| self.say(&error))?;
        let found =
            statement.query_map([table], |row| Ok((row.get(0)?, row.get(1)?))).map_err(|error| self.say(&error))?;
        found.collect::<Result<_, _>>().map_err(|error| self.say(&error))
    }

    /// A data table as the file has it.
    pub(super) fn shape_of(&self, table: &str) -> StoreResult<DocumentShape> {
        let mut columns = self.columns_of(table)?.into_iter().filter(|(name, _)| !is_stamp(name));
        let (key, _) = columns.next().ok_or_else(|| self.damaged("change_log"))?;
        let fields = columns.map(|(name, kind)| {
            let kind = dialect::kind_of(&kind).ok_or_else(|| self.damaged(table))?;
            Ok(Field::new(name, kind, 0))
        });
        let fields = fields.collect::<StoreResult<_>>()?;
        Ok(DocumentShape { table: table.into(), application: "".into(), key: key.into(), fields })
    }

    /// The tables with stamps, as the file has them.
    pub(super) fn found_shapes(&self) -> StoreResult<ShapeSet> {
        let asked = "SELECT table_name FROM duckdb_columns() WHERE column_name = '_versions' AND NOT internal \
                     ORDER BY table_oid";
        let read = || -> duckdb::Result<Vec<String>> {
            let mut statement = self.connection.prepare(asked)?;
            let names = statement.query_map([], |row| row.get(0))?;
            names.collect()
        };
        let mut shapes = ShapeSet::default();
        for table in read().map_err(|error| self.say(&error))? {
            shapes.shapes.push(Arc::new(self.shape_of(&table)?));
        }
        Ok(shapes)
    }
}
