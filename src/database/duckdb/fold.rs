//! The fold: from the change log, where a commit leaves its rows, to their data tables.

use std::collections::HashMap;
use std::sync::Arc;

use super::DuckStore;
use super::cells::{append_update, is_stamp, logged_line, stamp_at, text_at};
use crate::database::contract::{Store, StoreResult};
use crate::database::dialect::STAGE;
use crate::database::logged::{self, Line, table_id};
use crate::database::revisions::Revisions;
use crate::tables::{ShapeSet, Update};

impl DuckStore {
    pub(super) fn load_revisions(&mut self) -> StoreResult<()> {
        let mut found = Vec::new();
        for (index, sql) in self.tables.iter().enumerate() {
            let table = table_id(index);
            let mut statement = self.connection.prepare(&sql.select_stamps).map_err(|error| self.say(&error))?;
            let mut rows = statement.query([]).map_err(|error| self.say(&error))?;
            while let Some(row) = rows.next().map_err(|error| self.say(&error))? {
                let key = text_at(row, 0).ok_or_else(|| self.damaged(&sql.name))?;
                let stamp = stamp_at(row, 1).ok_or_else(|| self.damaged(&sql.name))?;
                found.push((table, Box::from(key), stamp));
            }
        }
        for (table, key, stamp) in found {
            self.revisions.found(table, key, stamp);
        }
        Ok(())
    }

    /// The change log lines whose rows had not reached their data tables when the process ended, in order.
    pub(super) fn unfolded(&mut self) -> StoreResult<Vec<Line>> {
        let last = "SELECT coalesce(max(number), 0) FROM change_log";
        let last: i64 = self.connection.query_row(last, [], |row| row.get(0)).map_err(|error| self.say(&error))?;
        let folded =
            self.setting("folded")?.and_then(|text| text.parse::<i64>().ok()).ok_or_else(|| self.damaged("setting"))?;
        // The lines before `folded` may have been trimmed.
        self.number = last.max(folded);
        self.number_committed = self.number;
        let sql = "SELECT key, sequence, time, server, versions, deleted, record, table_name FROM change_log \
                   WHERE number > ? AND NOT stored ORDER BY number";
        let mut statement = self.connection.prepare(sql).map_err(|error| self.say(&error))?;
        let mut rows = statement.query([folded]).map_err(|error| self.say(&error))?;
        let mut left = Vec::new();
        while let Some(row) = rows.next().map_err(|error| self.say(&error))? {
            left.push(logged_line(row).ok_or_else(|| self.damaged("change_log"))?);
        }
        Ok(left)
    }

    /// The lines in these shapes, or `None` if they name what the shapes do not have.
    pub(super) fn place(&self, lines: &[Line], shapes: &ShapeSet) -> StoreResult<Option<Vec<Update>>> {
        // A record without names can be read in a shape's order only if that is the order of the file, which is the
        // order of the code that made the table.
        let mut same_order = HashMap::new();
        for shape in &shapes.shapes {
            let columns = self.columns_of(&shape.table)?;
            let fields = columns.iter().map(|(name, _)| name).filter(|name| !is_stamp(name)).skip(1);
            let same = fields.zip(&*shape.fields).all(|(name, field)| name.eq_ignore_ascii_case(&field.name));
            same_order.insert(shape.table.clone(), same);
        }
        Ok(logged::place(lines, shapes, &|shape| same_order.get(&shape.table).copied().unwrap_or(false)))
    }

    /// Folds lines by the columns that the file has, where the code no longer has all of them: what a field held stays
    /// in its column, which nobody reads until the code has the field again.
    pub(super) fn fold_as_written(&mut self, lines: &[Line]) -> StoreResult<()> {
        let mut shapes = ShapeSet::default();
        for line in lines {
            if shapes.id(&line.table).is_none() {
                shapes.shapes.push(Arc::new(self.shape_of(&line.table)?));
            }
        }
        let Some(updates) = logged::place(lines, &shapes, &|_| false) else {
            return Err(format!(
                "{} holds changes without the names of their fields, and the code has other fields than when they were written; start once with the code as it was, stop it with SIGTERM, then start with the code as it is",
                self.settings.path.display()
            ));
        };
        self.adopt(Arc::new(shapes))?;
        self.load_revisions()?;
        for update in updates {
            self.revisions.committed(update);
        }
        self.fold()?;
        (self.shapes, self.tables, self.revisions) = (Arc::default(), Vec::new(), Revisions::default());
        Ok(())
    }

    /// Brings pending rows to their data tables, in a transaction of its own.
    pub(super) fn fold(&mut self) -> StoreResult<()> {
        if self.revisions.pending_count() == 0 {
            return Ok(());
        }
        self.begin()?;
        self.ensure_begun()?;
        let outcome = self
            .fold_tables()
            .and_then(|()| self.set_setting("folded", &self.number.to_string()))
            .and_then(|()| self.end());
        match outcome {
            Ok(()) => self.revisions.folded(),
            Err(_) => self.undo(),
        }
        outcome
    }

    fn fold_tables(&self) -> StoreResult<()> {
        for index in 0..self.tables.len() {
            let (new, replacing) = self.revisions.pending(table_id(index));
            self.append_rows(index, &new)?;
            self.replace_rows(index, &replacing)?;
        }
        Ok(())
    }

    /// Appends rows whose keys the data table does not have.
    pub(super) fn append_rows(&self, index: usize, updates: &[&Update]) -> StoreResult<()> {
        if updates.is_empty() {
            return Ok(());
        }
        let sql = &self.tables[index];
        let columns: Vec<&str> = sql.columns.iter().map(String::as_str).collect();
        let fields = self.shapes.shapes[index].fields.len();
        let write = || {
            let mut appender = self.connection.appender_with_columns(&sql.name, &columns)?;
            for update in updates {
                append_update(&mut appender, update, fields)?;
            }
            appender.flush()
        };
        write().map_err(|error| self.say(&error))
    }

    /// Replaces rows whose keys the data table has.
    pub(super) fn replace_rows(&self, index: usize, updates: &[&Update]) -> StoreResult<()> {
        if updates.is_empty() {
            return Ok(());
        }
        let sql = &self.tables[index];
        let fields = self.shapes.shapes[index].fields.len();
        let write = || {
            self.connection.execute_batch(&sql.stage)?;
            {
                let mut appender = self.connection.appender_to_catalog_and_db(STAGE, "temp", "main")?;
                for update in updates {
                    append_update(&mut appender, update, fields)?;
                }
                appender.flush()?;
            }
            // The cache would keep a plan of the stage before it was replaced.
            self.connection.prepare(&sql.update_from_stage)?.execute([])
        };
        let replaced = write().map_err(|error| self.say(&error))?;
        if replaced != updates.len() {
            return Err(self.damaged(&sql.name));
        }
        Ok(())
    }
}
