//! Rows of the catalog, made up: the shape is that of the shipped application, the text is as long as suppliers write.

use std::path::Path;
use std::sync::Arc;

use twintier::tables::code::CodeVersion;
use twintier::tables::{DataTables, Record, ShapeSet, TableId, Value};

use crate::failure::Failure;

/// The field of the catalog's items that holds a number: here the moment of the edit.
pub const MADE_FIELD: &str = "size";

/// The catalog's table and how to write to it.
#[derive(Clone, Debug)]
pub struct Catalog {
    shapes: Arc<ShapeSet>,
    pub table: TableId,
    made: usize,
}

impl Catalog {
    /// Reads the shape from the shipped code tables.
    ///
    /// # Errors
    /// They are missing or not sound.
    pub fn read(root: &Path) -> Result<Self, Failure> {
        let folders = ["profiles/reqcat/code", "profiles/directory/code"].map(|folder| root.join(folder));
        let code = CodeVersion::load(&folders, 1)
            .map_err(|faults| Failure::Failed(faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")))?;
        let shapes = Arc::clone(&code.shapes);
        let table = shapes.id("item").ok_or_else(|| Failure::Failed("the catalog has no table `item`".to_owned()))?;
        let made = shapes.get(table).field(MADE_FIELD);
        let made = made.ok_or_else(|| Failure::Failed(format!("an item has no field `{MADE_FIELD}`")))?;
        Ok(Self { shapes, table, made })
    }

    /// Empty tables.
    pub fn tables(&self) -> DataTables {
        DataTables::new(Arc::clone(&self.shapes))
    }

    /// An item's values; `made_ns` goes into its number.
    pub fn record(&self, number: u64, made_ns: u64) -> Record {
        let values = self.shapes.get(self.table).fields.iter().enumerate().map(|(place, field)| match &*field.name {
            _ if place == self.made => Value::Integer(i64::try_from(made_ns).unwrap_or(i64::MAX)),
            "summary" => Value::text(&format!("article {number} of the catalog, useful library for tools and tests")),
            "section" => {
                Value::text(["libs", "devel", "net", "admin", "utils"][usize::from(number.to_le_bytes()[0] % 5)])
            }
            "version" => Value::text(&format!("1.{number}-1")),
            "supplier" => Value::text("Example Team <team@example.com>"),
            "homepage" => Value::text(&format!("https://example.com/articles/{number}")),
            _ => Value::Null,
        });
        Record(values.collect())
    }

    /// When an item was made, as [`Self::record`] noted it.
    pub fn made_ns(&self, record: &Record) -> Option<u64> {
        match record.get(self.made) {
            Value::Integer(made_ns) => u64::try_from(*made_ns).ok(),
            Value::Null | Value::Text(_) | Value::Boolean(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Catalog;
    use crate::build::source_root;

    #[test]
    fn items_have_the_shipped_shape_and_tell_when_they_were_made() {
        let catalog = Catalog::read(&source_root().unwrap()).unwrap();
        let record = catalog.record(7, 1234);
        assert_eq!(catalog.made_ns(&record), Some(1234));
        assert!(
            record.0.len() >= 6 && record.0.iter().all(|value| *value != twintier::tables::Value::Null),
            "{record:?}"
        );
    }
}
