//! Document code tables: the shapes of data tables.

use std::sync::Arc;

use serde::Deserialize;
use toml::Spanned;

use crate::error::Fault;
use crate::tables::{DocumentShape, Field, FieldKind, ShapeSet};

use super::source::{Source, is_identifier};

/// Bytes of a text field whose document says nothing.
pub const TEXT_BYTES_DEFAULT: usize = 4_000;
/// Bytes that a document may allow to a text field.
pub const TEXT_BYTES_MAX: usize = 65_536;
/// Fields of one document.
pub const FIELDS_MAX: usize = 64;

/// Names that the database uses for itself.
const RESERVED: [&str; 5] = ["change_log", "code_table", "conflict", "deployment", "setting"];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    key: Spanned<String>,
    #[serde(default)]
    fields: Vec<RawField>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawField {
    name: Spanned<String>,
    kind: Spanned<Kind>,
    #[serde(default)]
    required: bool,
    length_max: Option<Spanned<i64>>,
    #[serde(default)]
    secret: bool,
    #[serde(default)]
    index: bool,
    words: Option<Spanned<bool>>,
}

/// Names of field kinds, shared by documents and the inputs of actions.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(super) enum Kind {
    Text,
    Integer,
    Boolean,
    Money,
    Time,
}

impl From<Kind> for FieldKind {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Text => Self::Text,
            Kind::Integer => Self::Integer,
            Kind::Boolean => Self::Boolean,
            Kind::Money => Self::Money,
            Kind::Time => Self::Time,
        }
    }
}

/// The shape of `documents/TABLE.toml`.
pub(super) fn compile(application: &str, source: &Source, faults: &mut Vec<Fault>) -> Option<DocumentShape> {
    let raw: Raw = source.parse().map_err(|fault| faults.push(fault)).ok()?;
    let table = source.stem();
    let identifier_cure = "use lower-case letters, digits and _, a letter first, at most 63 characters";
    if !is_identifier(table) {
        faults.push(source.whole(format!("`{table}` is no name for a data table"), identifier_cure));
    }
    if RESERVED.contains(&table) || system_shapes().id(table).is_some() {
        faults.push(
            source.whole(format!("the data table `{table}` belongs to the system"), "give the file another name"),
        );
    }
    if !is_identifier(raw.key.get_ref()) {
        let wrong = format!("`{}` is no name for a key", raw.key.get_ref());
        faults.push(source.fault(&raw.key.span(), wrong, identifier_cure));
    }
    if raw.fields.len() > FIELDS_MAX {
        let wrong = format!("the document has {} fields", raw.fields.len());
        faults.push(source.whole(wrong, format!("{FIELDS_MAX} are possible")));
    }
    let mut fields: Vec<Field> = Vec::new();
    for field in raw.fields {
        let at = field.name.span();
        let name = field.name.into_inner();
        if !is_identifier(&name) {
            faults.push(source.fault(&at, format!("`{name}` is no name for a field"), identifier_cure));
        }
        if &name == raw.key.get_ref() || fields.iter().any(|known| *known.name == *name) {
            faults.push(source.fault(
                &at,
                format!("`{name}` is there twice"),
                "give each field and the key a name of its own",
            ));
        }
        let kind = FieldKind::from(*field.kind.get_ref());
        let words = field.words.as_ref().is_some_and(|words| *words.get_ref());
        let length_max = field.length_max.as_ref().map_or(Ok(TEXT_BYTES_DEFAULT), |length| {
            usize::try_from(*length.get_ref())
                .ok()
                .filter(|bytes| (1..=TEXT_BYTES_MAX).contains(bytes))
                .ok_or(length.span())
        });
        let length_max = length_max.unwrap_or_else(|at| {
            let cure = format!("write a number of bytes from 1 to {TEXT_BYTES_MAX}");
            faults.push(source.fault(&at, "this length cannot be", cure));
            TEXT_BYTES_DEFAULT
        });
        if kind != FieldKind::Text {
            let keys = [
                ("length_max", super::source::present(&field.length_max)),
                ("words", super::source::present(&field.words)),
            ];
            for (key, at) in keys {
                if let Some(at) = at {
                    faults.push(source.fault(
                        &at,
                        format!("`{key}` is for text"),
                        "remove it, or make the kind \"text\"",
                    ));
                }
            }
        }
        fields.push(Field {
            name: name.into(),
            kind,
            required: field.required,
            length_max,
            secret: field.secret,
            index: field.index,
            words,
        });
    }
    Some(DocumentShape {
        table: table.into(),
        application: application.into(),
        key: raw.key.into_inner().into(),
        fields: fields.into(),
    })
}

/// The system's data tables, in the order of [`super::USER_PROFILE`], [`super::SESSION_ENDED`], [`super::AGENT_WORK`].
pub fn system_shapes() -> ShapeSet {
    let shape = |table: &str, key: &str, fields: Vec<Field>| {
        Arc::new(DocumentShape {
            table: table.into(),
            application: "system".into(),
            key: key.into(),
            fields: fields.into(),
        })
    };
    let field = |name: &str, kind: FieldKind| Field::new(name, kind, TEXT_BYTES_DEFAULT);
    let text = |name: &str| field(name, FieldKind::Text);
    let indexed = |name: &str| Field { index: true, ..text(name) };
    ShapeSet {
        shapes: vec![
            shape(
                "user_profile",
                "user",
                vec![
                    Field { required: true, words: true, ..text("name") },
                    indexed("department"),
                    text("email"),
                    text("roles"),
                    field("active", FieldKind::Boolean),
                    Field { secret: true, ..text("password_hash") },
                ],
            ),
            shape("session_ended", "session", vec![field("expires", FieldKind::Time)]),
            shape(
                "agent_work",
                "work",
                vec![
                    indexed("agent"),
                    text("subject_table"),
                    indexed("subject_key"),
                    indexed("state"),
                    field("attempts", FieldKind::Integer),
                    text("reason"),
                    text("requested_by"),
                    field("updated", FieldKind::Time),
                    text("result"),
                    field("appliance", FieldKind::Integer),
                ],
            ),
        ],
    }
}
