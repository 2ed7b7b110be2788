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

use crate::tables::code::agent_work;
use crate::tables::{DocumentShape, FieldKind, Record, ShapeSet, TableId, Value};

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
        agent_work::is_finished(text)
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
    pub appliance: usize,
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
            appliance: field_of(shape, "appliance")?,
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

#[cfg(test)]
mod tests {
    use super::WorkTable;
    use crate::storage::fixture;
    use crate::tables::{Record, Value};

    #[test]
    fn the_body_has_key_number_and_fields() {
        let agent = fixture::post_agent();
        let body = agent.body("R7", Some("REQ-000001"), &fixture::requisition(Some("REQ-000001")));
        assert_eq!(
            String::from_utf8(body).expect("text"),
            r#"{"item":"0ad","number":"REQ-000001","price":"12.05","quantity":3,"requisition":"R7"}"#
        );
        let negative = Record(Box::new([Value::Null, Value::Null, Value::Integer(-5)]));
        assert!(String::from_utf8(agent.body("R", None, &negative)).expect("text").contains(r#""price":"-0.05""#));
    }

    #[test]
    fn the_work_table_is_found_by_name() {
        let work = WorkTable::resolve(&fixture::shapes()).expect("system table");
        assert_eq!((work.table.0, work.agent, work.state, work.result, work.width), (2, 0, 3, 8, 10));
    }
}
