//! A schema as `twintier db migrate` reads and fills it.

use std::sync::Arc;

use super::rows::{copy_row, stored, text_at};
use super::{PostgresStore, ROWS_MAX, Settings};
use crate::database::contract::{Store, StoreResult};
use crate::database::dialect;
use crate::database::migrate::{House, Movable};
use crate::tables::{DocumentShape, Field, FieldKind, ShapeSet, TableId, Update, Value};

impl PostgresStore {
    /// Opens a schema with the data tables that it has, and nobody beside.
    ///
    /// # Errors
    /// As [`Self::open`], or an appliance has it open.
    pub fn open_as_it_is(settings: &Settings) -> StoreResult<Self> {
        let mut store = Self::open(&settings.clone().alone(), Arc::default())?;
        let shapes = store.found_shapes()?;
        store.adopt(Arc::new(shapes))?;
        store.measure()?;
        Ok(store)
    }

    /// The tables with stamps, as they were made.
    fn found_shapes(&mut self) -> StoreResult<ShapeSet> {
        let asked = "SELECT c.relname, a.attname, format_type(a.atttypid, a.atttypmod) FROM pg_class c \
                     JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_attribute a ON a.attrelid = c.oid \
                     WHERE n.nspname = $1 AND c.relkind = 'r' AND a.attnum > 0 AND NOT a.attisdropped \
                     ORDER BY c.oid, a.attnum";
        let schema = self.settings.schema.clone();
        let mut tables: Vec<(String, Vec<(String, String)>)> = Vec::new();
        for row in self.query(asked, &[&schema])? {
            let table: String = row.get(0);
            if tables.last().is_none_or(|(last, _)| *last != table) {
                tables.push((table, Vec::new()));
            }
            if let Some((_, columns)) = tables.last_mut() {
                columns.push((row.get(1), row.get(2)));
            }
        }
        let stamped = |columns: &[(String, String)]| {
            dialect::STAMP_COLUMNS.iter().all(|(stamp, _)| columns.iter().any(|(name, _)| name == stamp))
        };
        let mut shapes = ShapeSet::default();
        for (table, columns) in tables.into_iter().filter(|(_, columns)| stamped(columns)) {
            let mut own =
                columns.iter().filter(|(name, _)| dialect::STAMP_COLUMNS.iter().all(|(stamp, _)| name != stamp));
            let (key, _) = own.next().ok_or_else(|| self.damaged(&table))?;
            let fields = own.map(|(name, kind)| {
                let kind = match kind.as_str() {
                    "text" => FieldKind::Text,
                    "bigint" => FieldKind::Integer,
                    "boolean" => FieldKind::Boolean,
                    _ => return Err(self.damaged(&table)),
                };
                Ok(Field::new(name.as_str(), kind, 0))
            });
            let fields = fields.collect::<StoreResult<_>>()?;
            let (table, application) = (table.as_str().into(), "".into());
            shapes.shapes.push(Arc::new(DocumentShape { table, application, key: key.as_str().into(), fields }));
        }
        Ok(shapes)
    }
}

impl Movable for PostgresStore {
    fn house_rows(&mut self, house: House, each: &mut dyn FnMut(Vec<Value>)) -> StoreResult<()> {
        let sql = format!("SELECT {} FROM {}", house.list(), house.table());
        let mut damaged = false;
        self.each_row(&sql, &mut |row| {
            let value = |(index, (_, kind)): (usize, &(&str, FieldKind))| match kind {
                FieldKind::Text => match row.try_get::<_, Option<&str>>(index) {
                    Ok(None) => Some(Value::Null),
                    Ok(Some(_)) => text_at(row, index).map(|text| Value::text(&text)),
                    Err(_) => None,
                },
                FieldKind::Boolean => row.try_get(index).ok().map(Value::Boolean),
                FieldKind::Integer | FieldKind::Money | FieldKind::Time => {
                    let small = || row.try_get::<_, i16>(index).map(i64::from);
                    row.try_get::<_, i64>(index).or_else(|_| small()).ok().map(Value::Integer)
                }
            };
            match house.columns().iter().enumerate().map(value).collect() {
                Some(values) => each(values),
                None => damaged = true,
            }
        })?;
        if damaged { Err(self.damaged(house.table())) } else { Ok(()) }
    }

    fn put_house(&mut self, house: House, rows: &[Vec<Value>]) -> StoreResult<()> {
        self.wrote = true;
        let marks: Vec<String> = house
            .columns()
            .iter()
            .zip(1..)
            .map(|((name, kind), index)| match kind {
                FieldKind::Text => format!("${index}::text"),
                FieldKind::Boolean => format!("${index}::boolean"),
                FieldKind::Integer | FieldKind::Money | FieldKind::Time if *name == "server" => {
                    format!("${index}::bigint::smallint")
                }
                FieldKind::Integer | FieldKind::Money | FieldKind::Time => format!("${index}::bigint"),
            })
            .collect();
        let sql = format!("INSERT INTO {} ({}) VALUES ({})", house.table(), house.list(), marks.join(", "));
        for row in rows {
            let bound: Vec<super::rows::Column<'_>> = row
                .iter()
                .map(|value| -> super::rows::Column<'_> {
                    match value {
                        Value::Null => Box::new(None::<&str>),
                        Value::Text(text) => Box::new(stored(text)),
                        Value::Integer(number) => Box::new(*number),
                        Value::Boolean(truth) => Box::new(*truth),
                    }
                })
                .collect();
            let parameters: Vec<_> = bound.iter().map(|value| &**value).collect();
            self.execute(&sql, &parameters)?;
        }
        Ok(())
    }

    fn put_rows(&mut self, table: TableId, updates: &[Update]) -> StoreResult<()> {
        self.wrote = true;
        let (sql, shape) = (self.tables[usize::from(table.0)].copy.clone(), self.shapes().get(table).clone());
        for part in updates.chunks(ROWS_MAX) {
            let mut text = String::new();
            part.iter().for_each(|update| copy_row(&mut text, update, &shape));
            self.copy(&sql, &text)?;
        }
        Ok(())
    }
}
