//! What a replica holds: code tables (versioned application code) and data tables (rows with stamps).
//!
//! Pure: no clock, no I/O. Loading code tables from a folder is the only reading of files, done before threads start
//! and by the admin thread for a deploy.

pub mod code;
pub mod data;
pub mod digest;
pub mod index;
pub mod order;
pub mod rank;
pub mod record;
pub mod row;
pub mod select;
pub mod stamp;

pub use data::{Applied, DataTables};
pub use record::{Batch, DocumentShape, Field, FieldKind, Record, ShapeSet, TableId, Update, Value};
pub use row::Row;
pub use select::{Query, Selection};
pub use stamp::{ServerId, Stamp, VersionVector};

#[cfg(test)]
mod rule_tests;
#[cfg(test)]
mod tests;
