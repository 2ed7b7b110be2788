//! Agent code tables: work that the application server does apart from requests.

use serde::Deserialize;
use toml::Spanned;

use crate::error::Fault;
use crate::tables::TableId;

use super::names::Names;
use super::source::{Source, present, refuse};

/// Attempts of a post whose table says nothing.
const ATTEMPTS_DEFAULT: u32 = 5;
const ATTEMPTS_MAX: u32 = 100;
/// First pause between attempts of a post whose table says nothing; it doubles each time.
const BACKOFF_MS_DEFAULT: u64 = 200;
const BACKOFF_MS_MAX: u64 = 60_000;

/// What an agent does.
#[derive(Clone, Debug)]
pub struct Agent {
    /// Without folder, such as `catalog-import`.
    pub name: Box<str>,
    pub table: TableId,
    pub kind: AgentKind,
}

#[derive(Clone, Debug)]
pub enum AgentKind {
    Import(Import),
    Post(Post),
}

/// Loads a supplier's flat file into the table.
#[derive(Clone, Debug)]
pub struct Import {
    pub format: Format,
    pub map: Vec<Mapping>,
    /// Fields of the file without which a record is rejected.
    pub required: Vec<Box<str>>,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// `Name: value` lines, continued by white space, records apart by empty lines.
    Rfc822,
}

#[derive(Clone, Debug)]
pub struct Mapping {
    /// Field of the file.
    pub from: Box<str>,
    pub to: ImportTarget,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImportTarget {
    Key,
    /// Number of a field.
    Field(usize),
}

/// Posts the subject row as JSON to a back-end server and records the outcome.
#[derive(Clone, Debug)]
pub struct Post {
    /// Name in the run profile.
    pub backend: Box<str>,
    pub path: Box<str>,
    pub attempts: u32,
    pub backoff_ms: u64,
    /// Text field that gets the number, with its prefix, if any.
    pub number: Option<(usize, Box<str>)>,
    /// Text field that gets the outcome.
    pub outcome: Option<usize>,
    /// Numbers of the fields that are sent; the key is always sent.
    pub fields: Vec<usize>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    kind: Spanned<RawKind>,
    table: Spanned<String>,
    format: Option<Spanned<Format>>,
    map: Option<Spanned<Vec<RawMapping>>>,
    required: Option<Spanned<Vec<Spanned<String>>>>,
    backend: Option<Spanned<String>>,
    path: Option<Spanned<String>>,
    attempts: Option<Spanned<i64>>,
    backoff_ms: Option<Spanned<i64>>,
    number_field: Option<Spanned<String>>,
    number_prefix: Option<Spanned<String>>,
    outcome_field: Option<Spanned<String>>,
    fields: Option<Spanned<Vec<Spanned<String>>>>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum RawKind {
    Import,
    Post,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawMapping {
    from: Spanned<String>,
    to: Spanned<String>,
}

pub(super) fn compile(source: &Source, names: &Names<'_>, faults: &mut Vec<Fault>) -> Option<Agent> {
    let raw: Raw = source.parse().map_err(|fault| faults.push(fault)).ok()?;
    let keys = [
        ("format", present(&raw.format)),
        ("map", present(&raw.map)),
        ("required", present(&raw.required)),
        ("backend", present(&raw.backend)),
        ("path", present(&raw.path)),
        ("attempts", present(&raw.attempts)),
        ("backoff_ms", present(&raw.backoff_ms)),
        ("number_field", present(&raw.number_field)),
        ("number_prefix", present(&raw.number_prefix)),
        ("outcome_field", present(&raw.outcome_field)),
        ("fields", present(&raw.fields)),
    ];
    let table = names.table(source, &raw.table, faults);
    let kind = match raw.kind.get_ref() {
        RawKind::Import => {
            refuse(source, "an import agent", &keys, &["format", "map", "required"], faults);
            AgentKind::Import(import(source, &raw, table?, names, faults)?)
        }
        RawKind::Post => {
            let allowed = &keys.each_ref().map(|(key, _)| *key)[3..];
            refuse(source, "a post agent", &keys, allowed, faults);
            AgentKind::Post(post(source, &raw, table?, names, faults)?)
        }
    };
    Some(Agent { name: source.stem().into(), table: table?, kind })
}

fn import(source: &Source, raw: &Raw, table: TableId, names: &Names<'_>, faults: &mut Vec<Fault>) -> Option<Import> {
    let shape = names.shapes.get(table);
    let mut map: Vec<Mapping> = Vec::new();
    for mapping in raw.map.iter().flat_map(|map| map.get_ref()) {
        let to = if **mapping.to.get_ref() == *shape.key {
            Some(ImportTarget::Key)
        } else {
            names.field(source, shape, &mapping.to, faults).map(ImportTarget::Field)
        };
        if to.is_some_and(|to| map.iter().any(|known| known.to == to)) {
            let wrong = format!("`{}` is filled twice", mapping.to.get_ref());
            faults.push(source.fault(&mapping.to.span(), wrong, "map one field of the file to it"));
        }
        map.extend(to.map(|to| Mapping { from: mapping.from.get_ref().as_str().into(), to }));
    }
    if !map.iter().any(|mapping| mapping.to == ImportTarget::Key) {
        let wrong = format!("nothing is mapped to the key `{}`", shape.key);
        let at = present(&raw.map).unwrap_or(raw.kind.span());
        faults.push(source.fault(&at, wrong, format!("add [[map]] with to = \"{}\"", shape.key)));
    }
    let mut required = Vec::new();
    for name in raw.required.iter().flat_map(|required| required.get_ref()) {
        if !map.iter().any(|mapping| *mapping.from == **name.get_ref()) {
            let wrong = format!("the required field `{}` is not mapped", name.get_ref());
            let known = map.iter().map(|mapping| &*mapping.from);
            faults.push(source.fault(&name.span(), wrong, super::source::choose(name.get_ref(), known)));
        }
        required.push(name.get_ref().as_str().into());
    }
    for field in shape.fields.iter().enumerate().filter(|(_, field)| field.required) {
        if !map.iter().any(|mapping| mapping.to == ImportTarget::Field(field.0)) {
            let wrong = format!("`{}` requires `{}`, and nothing is mapped to it", shape.table, field.1.name);
            let at = present(&raw.map).unwrap_or(raw.kind.span());
            faults.push(source.fault(&at, wrong, format!("add [[map]] with to = \"{}\"", field.1.name)));
        }
    }
    let Some(format) = &raw.format else {
        faults.push(source.fault(&raw.kind.span(), "an import agent needs `format`", "write format = \"rfc822\""));
        return None;
    };
    Some(Import { format: *format.get_ref(), map, required })
}

fn post(source: &Source, raw: &Raw, table: TableId, names: &Names<'_>, faults: &mut Vec<Fault>) -> Option<Post> {
    let shape = names.shapes.get(table);
    let text_field = |name: &Option<Spanned<String>>, faults: &mut Vec<Fault>| {
        let name = name.as_ref()?;
        let field = names.field(source, shape, name, faults)?;
        if shape.fields[field].kind != crate::tables::FieldKind::Text {
            let wrong = format!("the field `{}` holds no text", name.get_ref());
            faults.push(source.fault(&name.span(), wrong, "name a field of kind text"));
        }
        Some(field)
    };
    let number = text_field(&raw.number_field, faults);
    let outcome = text_field(&raw.outcome_field, faults);
    if let (Some(prefix), None) = (&raw.number_prefix, &raw.number_field) {
        faults.push(source.fault(
            &prefix.span(),
            "`number_prefix` needs `number_field`",
            "name the field that gets the number",
        ));
    }
    let fields = raw.fields.iter().flat_map(|fields| fields.get_ref());
    let fields = fields.filter_map(|field| names.field(source, shape, field, faults)).collect();
    let attempts = within(source, &raw.attempts, ATTEMPTS_DEFAULT, ATTEMPTS_MAX, faults);
    let backoff_ms = within(source, &raw.backoff_ms, BACKOFF_MS_DEFAULT, BACKOFF_MS_MAX, faults);
    for (key, value) in [("backend", &raw.backend), ("path", &raw.path)] {
        if value.is_none() {
            let cure = format!("add {key} = \"…\": the server's name in the run profile, and the path on it");
            faults.push(source.fault(&raw.kind.span(), format!("a post agent needs `{key}`"), cure));
        }
    }
    if let Some(path) = &raw.path
        && (!path.get_ref().starts_with('/') || !path.get_ref().bytes().all(|byte| byte.is_ascii_graphic()))
    {
        let wrong = format!("`{}` is no path of a request", path.get_ref());
        faults.push(source.fault(&path.span(), wrong, "begin it with `/`, without spaces"));
    }
    Some(Post {
        backend: raw.backend.as_ref()?.get_ref().as_str().into(),
        path: raw.path.as_ref()?.get_ref().as_str().into(),
        attempts,
        backoff_ms,
        number: number.map(|field| (field, raw.number_prefix.as_ref().map_or("", |prefix| prefix.get_ref()).into())),
        outcome,
        fields,
    })
}

fn within<N: TryFrom<i64> + PartialOrd + From<u8> + Copy + std::fmt::Display>(
    source: &Source,
    value: &Option<Spanned<i64>>,
    default: N,
    max: N,
    faults: &mut Vec<Fault>,
) -> N {
    let Some(value) = value else { return default };
    let valid = N::try_from(*value.get_ref()).ok().filter(|number| *number >= N::from(1) && *number <= max);
    valid.unwrap_or_else(|| {
        faults.push(source.fault(&value.span(), "this number cannot be", format!("write one from 1 to {max}")));
        default
    })
}
