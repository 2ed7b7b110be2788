//! The schema: made, looked at, and brought to the shapes of the code. All of it under the writers' lock, so that two
//! appliances may start at once.

use std::sync::Arc;

use super::PostgresStore;
use super::link::wrong_version;
use super::sql::{HOUSE, SCHEMA_VERSION, TableSql, column_type, quoted, refuse_long};
use crate::database::contract::{Store, StoreResult, Uncommitted};
use crate::database::dialect;
use crate::tables::{DocumentShape, ShapeSet};

impl PostgresStore {
    /// Makes the schema and its own tables at the first start. A schema of another version, or of another program, is
    /// not touched.
    pub(super) fn make_house(&mut self) -> StoreResult<()> {
        self.within(|store| {
            let schema = store.settings.schema.clone();
            let exists = !store.query("SELECT 1 FROM pg_namespace WHERE nspname = $1", &[&schema])?.is_empty();
            let found: Vec<String> = store
                .query("SELECT tablename FROM pg_tables WHERE schemaname = $1", &[&schema])?
                .iter()
                .map(|row| row.get(0))
                .collect();
            if found.iter().any(|table| table == "setting") {
                let version = store.setting("schema_version")?;
                return match version.as_deref() {
                    Some(SCHEMA_VERSION) => Ok(()),
                    other => Err(wrong_version(&store.settings, other.unwrap_or("none"))),
                };
            }
            if !found.is_empty() {
                return Err(format!(
                    "schema `{schema}` of {} holds tables of another program; name another one in database.schema",
                    store.place
                ));
            }
            if !exists {
                store.batch(&format!("CREATE SCHEMA {}", quoted(&schema)))?;
            }
            store.batch(HOUSE)?;
            store.set_setting("schema_version", SCHEMA_VERSION)
        })
    }

    /// Creates tables and appends columns.
    pub(super) fn adopt(&mut self, shapes: Arc<ShapeSet>) -> StoreResult<()> {
        dialect::refuse_all(&shapes, &self.shapes)?;
        shapes.shapes.iter().try_for_each(|shape| refuse_long(shape))?;
        let tables: Vec<TableSql> = shapes.shapes.iter().map(|shape| TableSql::new(shape)).collect();
        self.within(|store| {
            shapes.shapes.iter().zip(&tables).try_for_each(|(shape, sql)| store.adopt_table(shape, sql))
        })?;
        self.tables = tables;
        self.shapes = shapes;
        Ok(())
    }

    fn adopt_table(&mut self, shape: &DocumentShape, sql: &TableSql) -> StoreResult<()> {
        let (table, schema) = (shape.table.to_lowercase(), self.settings.schema.clone());
        let asked = "SELECT a.attname, format_type(a.atttypid, a.atttypmod) FROM pg_attribute a \
                     JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace \
                     WHERE n.nspname = $1 AND c.relname = $2 AND a.attnum > 0 AND NOT a.attisdropped";
        let found: Vec<(String, String)> =
            self.query(asked, &[&schema, &table])?.iter().map(|row| (row.get(0), row.get(1))).collect();
        if found.is_empty() {
            return self.batch(&sql.create);
        }
        if !found.iter().any(|(name, _)| *name == shape.key.to_lowercase()) {
            return Err(format!(
                "table `{}` of {} has no key column `{}`; keys cannot be renamed, use the old name",
                shape.table, self.place, shape.key
            ));
        }
        for field in &shape.fields {
            let wanted = column_type(field.kind);
            match found.iter().find(|(name, _)| *name == field.name.to_lowercase()) {
                Some((_, kind)) if kind == wanted => {}
                Some((_, kind)) => {
                    return Err(format!(
                        "column `{}` of table `{}` is {kind} in {} and the code now wants {wanted}; give the new field a new name",
                        field.name, shape.table, self.place
                    ));
                }
                None => self.batch(&format!("ALTER TABLE {} ADD COLUMN {} {wanted}", sql.name, quoted(&field.name)))?,
            }
        }
        Ok(())
    }

    /// Counts rows, and finds the greatest hybrid time and where the change log begins and ends.
    pub(super) fn measure(&mut self) -> StoreResult<()> {
        let log = "SELECT coalesce(max(position), 0), coalesce(min(position), 1) - 1 FROM change_log";
        if let Some(row) = self.query(log, &[])?.first() {
            (self.position, self.trimmed) = (row.get(0), row.get(1));
        }
        for index in 0..self.tables.len() {
            let sql = self.tables[index].extent.clone();
            if let Some(row) = self.query(&sql, &[])?.first() {
                let (rows, latest): (i64, i64) = (row.get(0), row.get(1));
                self.rows += u64::try_from(rows).unwrap_or(0);
                self.latest_time = self.latest_time.max(u64::try_from(latest).unwrap_or(0));
            }
        }
        Ok(())
    }

    /// Runs something in a transaction of its own.
    fn within(&mut self, run: impl FnOnce(&mut Self) -> StoreResult<()>) -> StoreResult<()> {
        self.begin()?;
        match run(self).and_then(|()| self.commit().map_err(Uncommitted::sentence)) {
            Ok(()) => Ok(()),
            Err(sentence) => {
                self.rollback();
                Err(sentence)
            }
        }
    }
}
