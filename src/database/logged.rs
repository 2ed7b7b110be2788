//! Records as the change log holds them: with the names of their fields, so that a line reaches the right columns
//! whatever became of the code since it was written.

use serde_json::Value as Json;

use crate::tables::{DocumentShape, FieldKind, Record, ShapeSet, Stamp, TableId, Update, Value, VersionVector};

use super::contract::ABSENT;

/// A change log line whose row has not reached its data table.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    pub table: Box<str>,
    pub key: Box<str>,
    pub stamp: Stamp,
    pub versions: VersionVector,
    /// `None`: a deletion.
    pub record: Option<Values>,
}

/// The values of a logged record.
#[derive(Clone, Debug, PartialEq)]
pub enum Values {
    /// What is not named is null.
    Named(Vec<(Box<str>, Value)>),
    /// In the order of the shape that was in force: files of schema version 1.
    Ordered(Vec<Value>),
}

/// A record as a JSON object by field name; nulls are left out.
pub fn record_text(record: &Record, shape: &DocumentShape) -> String {
    let named = shape.fields.iter().zip(&record.0).filter_map(|(field, value)| {
        let value = match value {
            Value::Null => return None,
            Value::Text(text) => Json::from(&**text),
            Value::Integer(number) => Json::from(*number),
            Value::Boolean(truth) => Json::from(*truth),
        };
        Some((field.name.to_string(), value))
    });
    Json::Object(named.collect()).to_string()
}

/// The inverse of [`record_text`], also of the text of schema version 1, a JSON array; `None` for other text.
pub fn values_of(text: &str) -> Option<Values> {
    let value = |json: Json| match json {
        Json::Null => Some(Value::Null),
        Json::String(text) => Some(Value::Text(text.into())),
        Json::Number(number) => number.as_i64().map(Value::Integer),
        Json::Bool(truth) => Some(Value::Boolean(truth)),
        Json::Array(_) | Json::Object(_) => None,
    };
    match serde_json::from_str(text).ok()? {
        Json::Object(named) => {
            let named = named.into_iter().map(|(name, json)| Some((name.into(), value(json)?)));
            named.collect::<Option<_>>().map(Values::Named)
        }
        Json::Array(ordered) => ordered.into_iter().map(value).collect::<Option<_>>().map(Values::Ordered),
        Json::Null | Json::Bool(_) | Json::Number(_) | Json::String(_) => None,
    }
}

/// Whether a field of this kind holds this value.
pub fn fits(kind: FieldKind, value: &Value) -> bool {
    match (kind, value) {
        (_, Value::Null)
        | (FieldKind::Text, Value::Text(_))
        | (FieldKind::Integer | FieldKind::Money | FieldKind::Time, Value::Integer(_))
        | (FieldKind::Boolean, Value::Boolean(_)) => true,
        (FieldKind::Text, Value::Integer(_) | Value::Boolean(_))
        | (FieldKind::Integer | FieldKind::Money | FieldKind::Time, Value::Text(_) | Value::Boolean(_))
        | (FieldKind::Boolean, Value::Text(_) | Value::Integer(_)) => false,
    }
}

/// The lines as updates of these shapes; `None` if one of them has a table, a field or a kind that the shapes have not.
/// `ordered` says whether records without names may be read in a shape's order.
pub fn place(lines: &[Line], shapes: &ShapeSet, ordered: &dyn Fn(&DocumentShape) -> bool) -> Option<Vec<Update>> {
    let place = |line: &Line| {
        let table = shapes.id(&line.table)?;
        let record = match &line.record {
            Some(values) => Some(record_of(values, shapes.get(table), ordered)?),
            None => None,
        };
        let Line { key, stamp, versions, .. } = line;
        Some(Update { table, key: key.clone(), stamp: *stamp, versions: *versions, base: ABSENT, record })
    };
    lines.iter().map(place).collect()
}

fn record_of(values: &Values, shape: &DocumentShape, ordered: &dyn Fn(&DocumentShape) -> bool) -> Option<Record> {
    let mut record = vec![Value::Null; shape.fields.len()];
    match values {
        Values::Named(named) => {
            for (name, value) in named {
                // Names are compared as SQL does.
                let index = shape.fields.iter().position(|field| field.name.eq_ignore_ascii_case(name))?;
                record[index].clone_from(value);
            }
        }
        Values::Ordered(values) if values.len() <= record.len() && ordered(shape) => {
            record[..values.len()].clone_from_slice(values);
        }
        Values::Ordered(_) => return None,
    }
    let whole = shape.fields.iter().zip(&record).all(|(field, value)| fits(field.kind, value));
    whole.then(|| Record(record.into()))
}

/// The number of a table in shapes of as many tables.
pub fn table_id(index: usize) -> TableId {
    TableId(u16::try_from(index).expect("invariant: table numbers have 16 bits"))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{Line, Values, place, record_text, values_of};
    use crate::tables::{DocumentShape, Field, FieldKind, Record, ShapeSet, Stamp, Value, VersionVector};

    fn shape(fields: &[(&str, FieldKind)]) -> DocumentShape {
        let field = |(name, kind): &(&str, FieldKind)| Field::new(*name, *kind, 100);
        let fields = fields.iter().map(field).collect();
        DocumentShape { table: "t".into(), application: "test".into(), key: "key".into(), fields }
    }

    const BEFORE: [(&str, FieldKind); 4] =
        [("a", FieldKind::Text), ("b", FieldKind::Integer), ("c", FieldKind::Integer), ("d", FieldKind::Boolean)];

    fn placed(values: Values, fields: &[(&str, FieldKind)], ordered: bool) -> Option<Vec<Value>> {
        let shapes = ShapeSet { shapes: vec![Arc::new(shape(fields))] };
        let (stamp, versions) = (Stamp::default(), VersionVector::default());
        let line = Line { table: "t".into(), key: "k".into(), stamp, versions, record: Some(values) };
        let updates = place(&[line], &shapes, &|_| ordered)?;
        Some(updates[0].record.clone().expect("a record").0.into_vec())
    }

    #[test]
    fn text_forms_return_what_went_in() {
        let record = Record(Box::new([
            Value::text("a \"quoted\" \u{1F600}\0 'line'\n"),
            Value::Integer(i64::MIN),
            Value::Integer(i64::MAX),
            Value::Boolean(true),
        ]));
        let text = record_text(&record, &shape(&BEFORE));
        assert_eq!(placed(values_of(&text).expect("ours"), &BEFORE, false), Some(record.0.into_vec()));
        let short = record_text(&Record(Box::new([Value::Null, Value::Integer(1)])), &shape(&BEFORE));
        assert_eq!(short, r#"{"b":1}"#);
        assert_eq!([values_of("1"), values_of(r#"{"a":{}}"#), values_of("[1.5]"), values_of("")], [const { None }; 4]);
    }

    #[test]
    fn fields_are_found_by_name_wherever_they_are_now() {
        let values = || Values::Named(vec![("b".into(), Value::Integer(2)), ("A".into(), Value::text("x"))]);
        let moved =
            [("c", FieldKind::Integer), ("new", FieldKind::Text), ("b", FieldKind::Money), ("a", FieldKind::Text)];
        let expected = vec![Value::Null, Value::Null, Value::Integer(2), Value::text("x")];
        assert_eq!(placed(values(), &moved, false), Some(expected));
        assert_eq!(placed(values(), &moved[..3], false), None, "`a` is gone");
        assert_eq!(placed(values(), &[("a", FieldKind::Text), ("b", FieldKind::Text)], false), None, "another kind");
    }

    #[test]
    fn records_without_names_need_an_order_that_is_known() {
        let values = || values_of(r#"["x",2]"#).expect("version 1");
        let expected = vec![Value::text("x"), Value::Integer(2), Value::Null, Value::Null];
        assert_eq!(placed(values(), &BEFORE, true), Some(expected));
        assert_eq!(placed(values(), &BEFORE, false), None);
        assert_eq!(placed(values(), &BEFORE[..1], true), None, "too few fields");
    }
}
