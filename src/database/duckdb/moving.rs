//! The whole content, row by row: what `twintier db migrate` reads and writes.

use duckdb::params_from_iter;

use super::DuckStore;
use super::cells::{Cell, value_at};
use crate::database::contract::StoreResult;
use crate::database::migrate::{House, Movable};
use crate::tables::{TableId, Update, Value};

impl Movable for DuckStore {
    fn house_rows(&mut self, house: House, each: &mut dyn FnMut(Vec<Value>)) -> StoreResult<()> {
        let sql = format!("SELECT {} FROM {}", house.list(), house.table());
        let mut read = || -> duckdb::Result<bool> {
            let mut statement = self.connection.prepare(&sql)?;
            let mut rows = statement.query([])?;
            while let Some(row) = rows.next()? {
                let values = house.columns().iter().enumerate().map(|(index, (_, kind))| value_at(row, index, *kind));
                match values.collect() {
                    Some(values) => each(values),
                    None => return Ok(false),
                }
            }
            Ok(true)
        };
        if read().map_err(|error| self.say(&error))? { Ok(()) } else { Err(self.damaged(house.table())) }
    }

    fn put_house(&mut self, house: House, rows: &[Vec<Value>]) -> StoreResult<()> {
        self.ensure_begun()?;
        let marks = vec!["?"; house.columns().len()].join(", ");
        let sql = format!("INSERT INTO {} ({}) VALUES ({marks})", house.table(), house.list());
        let write = || -> duckdb::Result<()> {
            let mut insert = self.connection.prepare(&sql)?;
            for row in rows {
                insert.execute(params_from_iter(row.iter().map(|value| match value {
                    Value::Null => Cell::Null,
                    Value::Text(text) => Cell::Text(text),
                    Value::Integer(number) => Cell::Integer(*number),
                    Value::Boolean(truth) => Cell::Boolean(*truth),
                })))?;
            }
            Ok(())
        };
        write().map_err(|error| self.say(&error))
    }

    fn put_rows(&mut self, table: TableId, updates: &[Update]) -> StoreResult<()> {
        self.ensure_begun()?;
        self.append_rows(usize::from(table.0), &updates.iter().collect::<Vec<_>>())
    }
}
