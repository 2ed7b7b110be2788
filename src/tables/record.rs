//! Records, their shapes, and the updates that carry them between replicas and into the database.

use std::sync::Arc;

use super::stamp::{ServerId, Stamp, VersionVector};

/// A data table's number in the [`ShapeSet`]; never reused while the process lives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TableId(pub u16);

/// A field's value. Money is in cents, times in Unix milliseconds.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Value {
    #[default]
    Null,
    Text(Box<str>),
    Integer(i64),
    Boolean(bool),
}

impl Value {
    pub fn text(text: &str) -> Self {
        Self::Text(text.into())
    }

    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Null | Self::Integer(_) | Self::Boolean(_) => None,
        }
    }
}

/// The values of one row in the order of its shape's fields. A shape may grow at its end: missing values are null.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Record(pub Box<[Value]>);

impl Record {
    pub fn get(&self, field: usize) -> &Value {
        const NULL: Value = Value::Null;
        self.0.get(field).unwrap_or(&NULL)
    }
}

/// What a field holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldKind {
    Text,
    Integer,
    Boolean,
    /// Cents, shown as `12.34`.
    Money,
    /// Unix milliseconds, shown as a date and time.
    Time,
}

/// One column of a data table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    pub name: Arc<str>,
    pub kind: FieldKind,
    pub required: bool,
    /// Bytes of text at most.
    pub length_max: usize,
    /// Never shown to templates or JSON (a password hash).
    pub secret: bool,
    /// Rows can be found by this field's value.
    pub index: bool,
    /// Rows can be found by the words of this field.
    pub words: bool,
}

impl Field {
    /// A column of which nothing is asked but its kind, and of text `length_max` bytes at most.
    pub fn new(name: impl Into<Arc<str>>, kind: FieldKind, length_max: usize) -> Self {
        Self { name: name.into(), kind, required: false, length_max, secret: false, index: false, words: false }
    }
}

/// A data table's shape, from its document code table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DocumentShape {
    pub table: Arc<str>,
    /// The application whose code declares it.
    pub application: Arc<str>,
    /// The name under which the key is shown and stored, such as `item`.
    pub key: Arc<str>,
    pub fields: Box<[Field]>,
}

impl DocumentShape {
    pub fn field(&self, name: &str) -> Option<usize> {
        self.fields.iter().position(|field| &*field.name == name)
    }
}

/// All shapes of a code version, by [`TableId`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ShapeSet {
    pub shapes: Vec<Arc<DocumentShape>>,
}

impl ShapeSet {
    pub fn id(&self, table: &str) -> Option<TableId> {
        let index = self.shapes.iter().position(|shape| &*shape.table == table)?;
        u16::try_from(index).ok().map(TableId)
    }

    pub fn get(&self, table: TableId) -> &Arc<DocumentShape> {
        &self.shapes[usize::from(table.0)]
    }
}

/// One edit of one row, as it travels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Update {
    pub table: TableId,
    pub key: Box<str>,
    pub stamp: Stamp,
    pub versions: VersionVector,
    /// The revision that the writer saw; all zero for a new row. The database server refuses a durable update whose
    /// base is not the stored revision.
    pub base: Stamp,
    /// `None` deletes: the row stays as a stub with its stamp.
    pub record: Option<Record>,
}

/// Updates of one origin with dense numbers: `first`, `first + 1`, …
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    pub origin: ServerId,
    pub first: u64,
    pub updates: Vec<Update>,
}
