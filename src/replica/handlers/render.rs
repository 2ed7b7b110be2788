//! Rows and contexts as templates and expressions see them.

use std::sync::Arc;

use minijinja::Value as Shown;
use minijinja::value::{Enumerator, Object};

use crate::tables::record::Value;
use crate::tables::{DocumentShape, Record, Row};

/// A row: the key under its name and every field that is not secret, converted only when asked for.
#[derive(Debug)]
struct ShownRow {
    shape: Arc<DocumentShape>,
    key: Arc<str>,
    record: Record,
}

impl Object for ShownRow {
    fn get_value(self: &Arc<Self>, key: &Shown) -> Option<Shown> {
        self.get_value_by_str(key.as_str()?)
    }

    fn get_value_by_str(self: &Arc<Self>, name: &str) -> Option<Shown> {
        if name == &*self.shape.key {
            return Some(Shown::from(&*self.key));
        }
        let index = self.shape.field(name)?;
        (!self.shape.fields[index].secret).then(|| shown(self.record.get(index)))
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        let fields = self.shape.fields.iter().filter(|field| !field.secret).map(|field| Shown::from(&*field.name));
        Enumerator::Values(std::iter::once(Shown::from(&*self.shape.key)).chain(fields).collect())
    }
}

/// A row as templates see it.
pub fn row(shape: &Arc<DocumentShape>, row: &Row) -> Shown {
    let record = row.record.clone().unwrap_or_default();
    Shown::from_object(ShownRow { shape: shape.clone(), key: row.key.clone(), record })
}

/// A field's value as templates see it: cents and milliseconds are numbers, null is none.
pub fn shown(value: &Value) -> Shown {
    match value {
        Value::Null => Shown::from(()),
        Value::Text(text) => Shown::from(&**text),
        Value::Integer(number) => Shown::from(*number),
        Value::Boolean(boolean) => Shown::from(*boolean),
    }
}

/// Names and values for a template or expression; the first of a name counts.
#[derive(Debug, Default)]
pub struct Context(Vec<(Box<str>, Shown)>);

impl Context {
    pub fn with(mut self, name: &str, value: impl Into<Shown>) -> Self {
        self.0.push((name.into(), value.into()));
        self
    }

    pub fn push(&mut self, name: &str, value: impl Into<Shown>) {
        self.0.push((name.into(), value.into()));
    }
}

impl Object for Context {
    fn get_value(self: &Arc<Self>, key: &Shown) -> Option<Shown> {
        self.get_value_by_str(key.as_str()?)
    }

    fn get_value_by_str(self: &Arc<Self>, name: &str) -> Option<Shown> {
        self.0.iter().find(|(known, _)| &**known == name).map(|(_, value)| value.clone())
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Values(self.0.iter().map(|(name, _)| Shown::from(&**name)).collect())
    }
}

impl From<Context> for Shown {
    fn from(context: Context) -> Self {
        Self::from_object(context)
    }
}
