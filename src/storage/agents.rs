//! The application server's agents: their definitions, resolved against the shapes of a code version, and the row in
//! which each piece of work records how far it has come.
//!
//! ```text
//!  queued ──► running ──► done
//!               │  ▲ └──► failed
//!               ▼  │
//!             waiting            (the back-end server did not take it; tried again after a pause)
//! ```
//! An agent may be run again at any time from the row alone: what it has done is in the database before it goes on,
//! and a back-end server sees the same idempotency key every time.

use std::sync::Arc;

use serde_json::{Map, Value as Json};

use crate::tables::{DocumentShape, FieldKind, Record, ShapeSet, TableId, Value};

/// What the code table of a `post` agent says, by name.
#[derive(Clone, Debug, Default)]
pub struct PostSource<'a> {
    pub application: &'a str,
    pub name: &'a str,
    pub table: &'a str,
    /// The back-end server's name in the profile.
    pub backend: &'a str,
    pub path: &'a str,
    pub attempts: u32,
    pub backoff_ms: u64,
    pub number_field: Option<&'a str>,
    pub number_prefix: &'a str,
    pub outcome_field: Option<&'a str>,
    pub fields: &'a [&'a str],
}

/// The field that gets the next number, such as `REQ-000123`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NumberField {
    pub field: usize,
    pub prefix: Box<str>,
}

/// A field that is sent to the back-end server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SentField {
    pub name: Arc<str>,
    pub field: usize,
    pub kind: FieldKind,
}

/// An agent that numbers a row, posts it to a back-end server and records the outcome.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PostAgent {
    pub application: Arc<str>,
    pub name: Arc<str>,
    pub table: TableId,
    pub table_name: Arc<str>,
    /// The name of the row's key in the JSON that is sent.
    pub key: Arc<str>,
    pub backend: Box<str>,
    pub path: Box<str>,
    /// At least 1.
    pub attempts: u32,
    /// Milliseconds before the second attempt; doubles with each one.
    pub backoff_ms: u64,
    pub number: Option<NumberField>,
    /// Gets `posting`, then `posted` or `failed`.
    pub outcome: Option<usize>,
    pub fields: Vec<SentField>,
}

impl PostAgent {
    /// Finds the fields. The error says in one sentence what is wrong.
    pub fn resolve(source: &PostSource<'_>, shapes: &ShapeSet) -> Result<Self, String> {
        let (table, shape) = shape_of(source.table, shapes)?;
        let number = match source.number_field {
            Some(name) => {
                let field = text_field(shape, name)?;
                if source.number_prefix.is_empty() {
                    return Err("number_field needs a number_prefix, such as `REQ-`".to_owned());
                }
                Some(NumberField { field, prefix: source.number_prefix.into() })
            }
            None => None,
        };
        let outcome = source.outcome_field.map(|name| text_field(shape, name)).transpose()?;
        if !source.path.starts_with('/') || source.path.bytes().any(|byte| !byte.is_ascii_graphic()) {
            return Err(format!("path {:?} must begin with `/` and hold visible ASCII only", source.path));
        }
        if source.attempts == 0 {
            return Err("attempts must be at least 1".to_owned());
        }
        let mut fields = Vec::with_capacity(source.fields.len());
        for name in source.fields {
            let field = field_of(shape, name)?;
            if shape.fields[field].secret {
                return Err(format!("field `{name}` is secret and cannot be sent"));
            }
            fields.push(SentField { name: (*name).into(), field, kind: shape.fields[field].kind });
        }
        Ok(Self {
            application: source.application.into(),
            name: source.name.into(),
            table,
            table_name: Arc::clone(&shape.table),
            key: Arc::clone(&shape.key),
            backend: source.backend.into(),
            path: source.path.into(),
            attempts: source.attempts,
            backoff_ms: source.backoff_ms,
            number,
            outcome,
            fields,
        })
    }

    /// The JSON object that is posted: the key, the number and the fields, sorted by name. Money is a
    /// decimal string so that no receiver rounds it, times are Unix milliseconds.
    pub fn body(&self, key: &str, number: Option<&str>, record: &Record) -> Vec<u8> {
        let mut object = Map::new();
        object.insert(self.key.to_string(), Json::from(key));
        if let Some(number) = number {
            object.insert("number".to_owned(), Json::from(number));
        }
        for sent in &self.fields {
            object.insert(sent.name.to_string(), json_of(record.get(sent.field), sent.kind));
        }
        Json::Object(object).to_string().into_bytes()
    }
}

/// What the code table of an `import` agent says, by name.
#[derive(Clone, Debug, Default)]
pub struct ImportSource<'a> {
    pub application: &'a str,
    pub name: &'a str,
    pub table: &'a str,
    /// `rfc822` is the one format.
    pub format: &'a str,
    /// The supplier's field and the table's field or key that it goes to.
    pub map: &'a [(&'a str, &'a str)],
    /// Supplier's fields (or the fields they go to) without which a record is rejected, besides the key and those
    /// that the table requires.
    pub required: &'a [&'a str],
}

/// Where a supplier's field goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// The row's key.
    Key,
    /// The field of this number.
    Field { field: usize, kind: FieldKind, bytes_max: usize },
}

/// One line of an import agent's map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapped {
    /// The supplier's name of the field, compared without case.
    pub from: Box<str>,
    pub to: Target,
    /// A record without it is rejected.
    pub required: bool,
}

/// An agent that loads a supplier's file into a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImportAgent {
    pub application: Arc<str>,
    pub name: Arc<str>,
    pub table: TableId,
    pub table_name: Arc<str>,
    pub map: Vec<Mapped>,
    /// Fields of the table's records.
    pub width: usize,
}

impl ImportAgent {
    /// Finds the fields. The error says in one sentence what is wrong.
    pub fn resolve(source: &ImportSource<'_>, shapes: &ShapeSet) -> Result<Self, String> {
        let (table, shape) = shape_of(source.table, shapes)?;
        if source.format != "rfc822" {
            return Err(format!("format {:?} is unknown; `rfc822` is the one there is", source.format));
        }
        let mut map: Vec<Mapped> = Vec::with_capacity(source.map.len());
        for (from, to) in source.map {
            let (target, needed) = if *to == &*shape.key {
                (Target::Key, true)
            } else {
                let field = field_of(shape, to)?;
                let Some(kind) = shape.fields.get(field) else { continue };
                (Target::Field { field, kind: kind.kind, bytes_max: kind.length_max }, kind.required)
            };
            if map.iter().any(|line| line.to == target) {
                return Err(format!("two lines of the map go to `{to}`"));
            }
            let required = needed || source.required.iter().any(|name| name.eq_ignore_ascii_case(from) || name == to);
            map.push(Mapped { from: (*from).into(), to: target, required });
        }
        if !map.iter().any(|line| line.to == Target::Key) {
            return Err(format!("no line of the map goes to the key `{}`", shape.key));
        }
        for name in source.required {
            if !source.map.iter().any(|(from, to)| name.eq_ignore_ascii_case(from) || name == to) {
                return Err(format!("required field `{name}` is not in the map"));
            }
        }
        for field in &shape.fields {
            if field.required && !source.map.iter().any(|(_, to)| *to == &*field.name) {
                return Err(format!("the table requires `{}`, but no line of the map goes to it", field.name));
            }
        }
        Ok(Self {
            application: source.application.into(),
            name: source.name.into(),
            table,
            table_name: Arc::clone(&shape.table),
            map,
            width: shape.fields.len(),
        })
    }
}

/// The states of a piece of work, as its row has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WorkState {
    /// Ordered, not begun.
    Queued,
    /// An attempt is under way, or was when the process ended.
    Running,
    /// An attempt failed; another follows.
    Waiting,
    /// Finished.
    Done,
    /// Given up; the row's reason says why.
    Failed,
}

impl WorkState {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Waiting => "waiting",
            Self::Done => "done",
            Self::Failed => "failed",
        }
    }

    /// Whether the row with this state needs no agent any more.
    pub fn is_finished(text: &str) -> bool {
        text == Self::Done.as_str() || text == Self::Failed.as_str()
    }
}

/// The field numbers of the system table `agent_work`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkTable {
    pub table: TableId,
    pub agent: usize,
    pub subject_table: usize,
    pub subject_key: usize,
    pub state: usize,
    pub attempts: usize,
    pub reason: usize,
    pub requested_by: usize,
    pub updated: usize,
    pub result: usize,
    /// Fields of a record.
    pub width: usize,
    /// Bytes that `reason` and `result` hold.
    pub reason_bytes_max: usize,
    pub result_bytes_max: usize,
}

impl WorkTable {
    /// Finds the fields of `agent_work`, a system table whose shape no code version changes.
    pub fn resolve(shapes: &ShapeSet) -> Result<Self, String> {
        let (table, shape) = shape_of("agent_work", shapes)?;
        let reason = field_of(shape, "reason")?;
        let result = field_of(shape, "result")?;
        Ok(Self {
            table,
            agent: field_of(shape, "agent")?,
            subject_table: field_of(shape, "subject_table")?,
            subject_key: field_of(shape, "subject_key")?,
            state: field_of(shape, "state")?,
            attempts: field_of(shape, "attempts")?,
            reason,
            requested_by: field_of(shape, "requested_by")?,
            updated: field_of(shape, "updated")?,
            result,
            width: shape.fields.len(),
            reason_bytes_max: shape.fields[reason].length_max,
            result_bytes_max: shape.fields[result].length_max,
        })
    }
}

/// The text without the bytes that its field has no room for.
pub(super) fn clip(text: &str, bytes_max: usize) -> &str {
    let mut end = bytes_max.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

fn json_of(value: &Value, kind: FieldKind) -> Json {
    match (value, kind) {
        (Value::Null, _) => Json::Null,
        (Value::Text(text), _) => Json::from(&**text),
        (Value::Boolean(truth), _) => Json::from(*truth),
        (Value::Integer(cents), FieldKind::Money) => {
            let sign = if *cents < 0 { "-" } else { "" };
            let cents = cents.unsigned_abs();
            Json::from(format!("{sign}{}.{:02}", cents / 100, cents % 100))
        }
        (Value::Integer(number), FieldKind::Text | FieldKind::Integer | FieldKind::Boolean | FieldKind::Time) => {
            Json::from(*number)
        }
    }
}

fn shape_of<'a>(table: &str, shapes: &'a ShapeSet) -> Result<(TableId, &'a Arc<DocumentShape>), String> {
    let id = shapes.id(table).ok_or_else(|| format!("there is no table `{table}`"))?;
    Ok((id, shapes.get(id)))
}

fn field_of(shape: &DocumentShape, name: &str) -> Result<usize, String> {
    shape.field(name).ok_or_else(|| format!("table `{}` has no field `{name}`", shape.table))
}

fn text_field(shape: &DocumentShape, name: &str) -> Result<usize, String> {
    let field = field_of(shape, name)?;
    if shape.fields[field].kind != FieldKind::Text {
        return Err(format!("field `{name}` of table `{}` must be text", shape.table));
    }
    Ok(field)
}

#[cfg(test)]
mod tests {
    use super::{ImportAgent, ImportSource, PostAgent, PostSource, WorkTable};
    use crate::storage::fixture;
    use crate::tables::{Record, Value};

    #[test]
    fn the_body_has_key_number_and_fields() {
        let agent = fixture::post_agent(&fixture::shapes());
        let body = agent.body("R7", Some("REQ-000001"), &fixture::requisition(Some("REQ-000001")));
        assert_eq!(
            String::from_utf8(body).expect("text"),
            r#"{"item":"0ad","number":"REQ-000001","price":"12.05","quantity":3,"requisition":"R7"}"#
        );
        let negative = Record(Box::new([Value::Null, Value::Null, Value::Integer(-5)]));
        assert!(String::from_utf8(agent.body("R", None, &negative)).expect("text").contains(r#""price":"-0.05""#));
    }

    #[test]
    fn wrong_definitions_are_named() {
        let shapes = fixture::shapes();
        let post = |change: fn(&mut PostSource<'static>)| {
            let mut source = fixture::post_source();
            change(&mut source);
            PostAgent::resolve(&source, &shapes).expect_err("wrong")
        };
        assert_eq!(post(|source| source.table = "none"), "there is no table `none`");
        assert_eq!(post(|source| source.fields = &["nope"]), "table `requisition` has no field `nope`");
        assert_eq!(
            post(|source| source.number_field = Some("quantity")),
            "field `quantity` of table `requisition` must be text"
        );
        assert_eq!(post(|source| source.attempts = 0), "attempts must be at least 1");
        assert!(post(|source| source.path = "/a b").contains("visible ASCII"));
        let import = |map: &[(&str, &str)], required: &[&str]| {
            let source = ImportSource { table: "item", format: "rfc822", map, required, ..ImportSource::default() };
            ImportAgent::resolve(&source, &shapes).expect_err("wrong")
        };
        assert_eq!(import(&[("Version", "version")], &[]), "no line of the map goes to the key `item`");
        assert_eq!(import(&[("A", "item"), ("B", "item")], &[]), "two lines of the map go to `item`");
        assert_eq!(
            import(&[("Package", "item")], &[]),
            "the table requires `version`, but no line of the map goes to it"
        );
        assert_eq!(
            import(&[("Package", "item"), ("Version", "version")], &["Size"]),
            "required field `Size` is not in the map"
        );
    }

    #[test]
    fn the_work_table_is_found_by_name() {
        let work = WorkTable::resolve(&fixture::shapes()).expect("system table");
        assert_eq!((work.table.0, work.agent, work.state, work.result, work.width), (2, 0, 3, 8, 9));
    }
}
