//! Action code tables: what a `POST` does.

use serde::Deserialize;
use toml::Spanned;

use crate::error::Fault;
use crate::tables::{DocumentShape, FieldKind, TableId};

use super::document::Kind;
use super::further::{self, Further, RawFurther};
use super::names::{Names, USER_ATTRIBUTES, attributes};
use super::pattern::{Expression, Pattern, Scope};
use super::router::RoutePath;
use super::source::{Source, is_identifier, list, present, refuse};

/// Inputs of one action.
pub const INPUTS_MAX: usize = 64;

/// What a `POST` of a path does.
#[derive(Clone, Debug)]
pub struct Action {
    /// Such as `actions/submit`.
    pub name: Box<str>,
    pub path: RoutePath,
    pub kind: ActionKind,
    pub inputs: Vec<Input>,
    /// Rows that inputs name by key: they must exist, and expressions see them as `reference.INPUT`.
    pub references: Vec<Reference>,
    /// Number in [`Action::inputs`] of the text that names a version of the row; expressions see it as `chosen`.
    pub chosen: Option<usize>,
    /// Rows that a write writes or deletes in the same commit.
    pub further: Vec<Further>,
    pub when: Option<Expression>,
    /// Message of the 409 when `when` says no.
    pub otherwise: Box<str>,
    pub acknowledge: Acknowledge,
    /// Name of the agent that gets work in the same commit.
    pub agent: Option<Box<str>>,
    /// Answers 202 with the page of `location` in place of 303.
    pub accepted: bool,
    /// Path below the mount.
    pub location: Pattern,
    /// Number in [`super::Application::forms`]: shown again with errors.
    pub form: Option<usize>,
}

#[derive(Clone, Debug)]
pub enum ActionKind {
    Write { table: TableId, key: KeySource, set: Vec<(usize, Expression)> },
    Delete { table: TableId, key: Pattern },
    SignIn,
    SignOut,
}

/// Which row a write writes.
#[derive(Clone, Debug)]
pub enum KeySource {
    /// This one. A missing row is 404, unless the action creates rows.
    Given { key: Pattern, creates: bool },
    /// A new one with this prefix.
    Fresh { prefix: Box<str> },
}

/// When the answer to a write may be sent.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Acknowledge {
    /// The database has committed it.
    #[default]
    Durable,
    /// Every live replica has applied it.
    All,
    /// This replica has applied it.
    Local,
}

/// One input of an action.
#[derive(Clone, Debug)]
pub struct Input {
    pub name: Box<str>,
    pub kind: FieldKind,
    pub required: bool,
    /// Characters.
    pub length_max: Option<usize>,
    /// Least and greatest number, cents or Unix milliseconds.
    pub min: Option<i64>,
    pub max: Option<i64>,
    /// The only texts allowed, if any are named.
    pub choices: Vec<Box<str>>,
}

#[derive(Clone, Debug)]
pub struct Reference {
    /// Number in [`Action::inputs`].
    pub input: usize,
    pub table: TableId,
}

/// Expressions by field.
pub(super) type RawSet = std::collections::BTreeMap<Spanned<String>, Spanned<String>>;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    path: Spanned<String>,
    kind: Spanned<RawKind>,
    table: Option<Spanned<String>>,
    key: Option<Spanned<String>>,
    new: Option<Spanned<String>>,
    creates: Option<Spanned<bool>>,
    fields: Option<Spanned<Vec<RawInput>>>,
    references: Option<Spanned<Vec<RawReference>>>,
    chosen: Option<Spanned<String>>,
    also: Option<Spanned<Vec<RawFurther>>>,
    when: Option<Spanned<String>>,
    otherwise: Option<Spanned<String>>,
    set: Option<Spanned<RawSet>>,
    acknowledge: Option<Spanned<Acknowledge>>,
    agent: Option<Spanned<String>>,
    status: Option<Spanned<u16>>,
    location: Option<Spanned<String>>,
    form: Option<Spanned<String>>,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
enum RawKind {
    Write,
    Delete,
    SignIn,
    SignOut,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawInput {
    name: Spanned<String>,
    kind: Spanned<Kind>,
    #[serde(default)]
    required: bool,
    length_max: Option<Spanned<i64>>,
    min: Option<Spanned<i64>>,
    max: Option<Spanned<i64>>,
    choices: Option<Spanned<Vec<String>>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawReference {
    field: Spanned<String>,
    table: Spanned<String>,
}

impl RawKind {
    fn shown(self) -> &'static str {
        match self {
            Self::Write => "a write action",
            Self::Delete => "a delete action",
            Self::SignIn => "a sign-in action",
            Self::SignOut => "a sign-out action",
        }
    }
}

pub(super) fn compile(source: &Source, names: &Names<'_>, faults: &mut Vec<Fault>) -> Option<Action> {
    let raw: Raw = source.parse().map_err(|fault| faults.push(fault)).ok()?;
    let kind = *raw.kind.get_ref();
    let path = RoutePath::compile(source, &raw.path, faults);
    refuse_foreign_keys(source, &raw, faults);
    let inputs = match kind {
        RawKind::SignIn => sign_in_inputs(),
        RawKind::Write | RawKind::Delete | RawKind::SignOut => inputs(source, &raw, &path, faults),
    };
    let table = raw.table.as_ref().and_then(|table| names.table(source, table, faults));
    let shape = table.map(|table| &**names.shapes.get(table));
    if raw.table.is_none() && matches!(kind, RawKind::Write | RawKind::Delete) {
        let wrong = format!("{} needs `table`", kind.shown());
        faults.push(source.fault(&raw.kind.span(), wrong, "name the data table that it changes"));
    }
    let mut references = Vec::new();
    for reference in raw.references.iter().flat_map(|references| references.get_ref()) {
        let name = reference.field.get_ref();
        let input = inputs.iter().position(|input| *input.name == **name && input.kind == FieldKind::Text);
        if input.is_none() {
            let wrong = format!("no input of kind text is called `{name}`");
            let known = inputs.iter().map(|input| &*input.name);
            faults.push(source.fault(&reference.field.span(), wrong, super::source::choose(name, known)));
        }
        let table = names.table(source, &reference.table, faults);
        references.extend(input.zip(table).map(|(input, table)| Reference { input, table }));
    }
    let chosen = raw.chosen.as_ref().and_then(|chosen| chosen_input(source, &raw, chosen, &inputs, faults));
    let parameters: Vec<&str> = path.parameters().collect();
    let mut scope = scope(names, shape, &inputs, &references, &parameters);
    if raw.chosen.is_some() {
        scope.variables.push(("chosen", Some(shape.map(attributes).unwrap_or_default())));
    }
    let when = raw.when.as_ref().and_then(|when| Expression::compile(source, when, &scope, faults));
    let compiled = match kind {
        RawKind::SignIn => Some(ActionKind::SignIn),
        RawKind::SignOut => Some(ActionKind::SignOut),
        RawKind::Delete => {
            let mut known = parameters.clone();
            known.push("user.name");
            let key = raw.key.as_ref().map(|key| Pattern::compile(source, key, known, faults));
            if key.is_none() {
                faults.push(source.fault(
                    &raw.kind.span(),
                    "a delete action needs `key`",
                    "name the row, as in key = \"{item}\"",
                ));
            }
            table.zip(key).map(|(table, key)| ActionKind::Delete { table, key })
        }
        RawKind::Write => {
            let key = key_source(source, &raw, &inputs, &parameters, faults);
            let creates = raw.new.is_some() || raw.creates.as_ref().is_some_and(|creates| *creates.get_ref());
            let at = raw.set.as_ref().map_or(raw.kind.span(), Spanned::span);
            let asked = raw.set.as_ref().map(Spanned::get_ref);
            let set = shape.map(|shape| set(source, asked, (creates, at), shape, names, &scope, faults));
            table.zip(key).zip(set).map(|((table, key), set)| ActionKind::Write { table, key, set })
        }
    };
    let mut known = parameters.clone();
    known.extend(["key", "user.name"]);
    known.extend(inputs.iter().map(|input| &*input.name));
    let further = raw.also.iter().flat_map(|also| also.get_ref());
    let further = further.filter_map(|one| further::compile(source, one, names, &scope, &known, faults)).collect();
    let location = location(source, &raw, &inputs, &parameters, faults);
    let agent = raw.agent.as_ref().map(|agent| names.code(source, "agent", &names.agents, agent, faults));
    if let (Some(acknowledge), Some(_)) = (&raw.acknowledge, &raw.agent)
        && *acknowledge.get_ref() != Acknowledge::Durable
    {
        let cure = "write \"durable\": an agent finds its work in the database";
        faults.push(source.fault(&acknowledge.span(), "an action with an agent is durable", cure));
    }
    let form = raw.form.as_ref().and_then(|form| {
        let name = names.code(source, "form", &names.forms, form, faults);
        names.forms.iter().position(|known| **known == *name)
    });
    let accepted = raw.status.as_ref().is_some_and(|status| match status.get_ref() {
        202 => true,
        303 => false,
        other => {
            let cure = "write 303 (see the location), or 202 (accepted, an agent goes on)";
            faults.push(source.fault(&status.span(), format!("an action does not answer {other}"), cure));
            false
        }
    });
    Some(Action {
        name: format!("actions/{}", source.stem()).into(),
        kind: compiled?,
        references,
        chosen,
        further,
        when,
        otherwise: raw.otherwise.map_or("This cannot be done now.".into(), |text| text.into_inner().into()),
        acknowledge: raw.acknowledge.map(Spanned::into_inner).unwrap_or_default(),
        agent,
        accepted,
        location,
        form,
        inputs,
        path,
    })
}

fn refuse_foreign_keys(source: &Source, raw: &Raw, faults: &mut Vec<Fault>) {
    let keys = [
        ("table", present(&raw.table)),
        ("key", present(&raw.key)),
        ("new", present(&raw.new)),
        ("creates", present(&raw.creates)),
        ("fields", present(&raw.fields)),
        ("references", present(&raw.references)),
        ("chosen", present(&raw.chosen)),
        ("also", present(&raw.also)),
        ("when", present(&raw.when)),
        ("otherwise", present(&raw.otherwise)),
        ("set", present(&raw.set)),
        ("acknowledge", present(&raw.acknowledge)),
        ("agent", present(&raw.agent)),
        ("status", present(&raw.status)),
        ("location", present(&raw.location)),
        ("form", present(&raw.form)),
    ];
    let allowed: &[&str] = match raw.kind.get_ref() {
        RawKind::Write => {
            return refuse(source, "a write action", &keys, &keys.each_ref().map(|(key, _)| *key), faults);
        }
        RawKind::Delete => {
            &["table", "key", "fields", "references", "when", "otherwise", "acknowledge", "location", "form"]
        }
        RawKind::SignIn => &["location", "form"],
        RawKind::SignOut => &["location"],
    };
    refuse(source, raw.kind.get_ref().shown(), &keys, allowed, faults);
}

fn sign_in_inputs() -> Vec<Input> {
    let text = |name: &str, required: bool, length_max: usize| Input {
        name: name.into(),
        kind: FieldKind::Text,
        required,
        length_max: Some(length_max),
        min: None,
        max: None,
        choices: Vec::new(),
    };
    vec![text("user", true, 200), text("password", true, 1_000), text("next", false, 2_000)]
}

fn inputs(source: &Source, raw: &Raw, path: &RoutePath, faults: &mut Vec<Fault>) -> Vec<Input> {
    let mut inputs: Vec<Input> = Vec::new();
    let Some(fields) = &raw.fields else { return inputs };
    if fields.get_ref().len() > INPUTS_MAX {
        faults.push(source.fault(
            &fields.span(),
            "the action has too many inputs",
            format!("{INPUTS_MAX} are possible"),
        ));
    }
    for field in fields.get_ref() {
        let name = field.name.get_ref();
        let at = field.name.span();
        if !is_identifier(name) || name == "csrf" || name == "key" {
            let cure = "use lower-case letters, digits and _; not `csrf` or `key`";
            faults.push(source.fault(&at, format!("`{name}` is no name for an input"), cure));
        }
        if path.parameters().any(|known| known == name) || inputs.iter().any(|known| *known.name == **name) {
            faults.push(source.fault(
                &at,
                format!("`{name}` is there twice"),
                "name each input and path parameter once",
            ));
        }
        let kind = FieldKind::from(*field.kind.get_ref());
        let text = kind == FieldKind::Text;
        let keys = [
            ("length_max", present(&field.length_max)),
            ("choices", present(&field.choices)),
            ("min", present(&field.min)),
            ("max", present(&field.max)),
        ];
        let (shown, allowed): (&str, &[&str]) = match kind {
            FieldKind::Text => ("a text input", &["length_max", "choices"]),
            FieldKind::Integer | FieldKind::Money | FieldKind::Time => ("a number's input", &["min", "max"]),
            FieldKind::Boolean => ("a boolean input", &[]),
        };
        refuse(source, shown, &keys, allowed, faults);
        let length_max = field.length_max.as_ref().and_then(|length| {
            let valid = usize::try_from(*length.get_ref()).ok().filter(|length| *length > 0);
            if valid.is_none() {
                faults.push(source.fault(
                    &length.span(),
                    "this length cannot be",
                    "write a number of characters from 1",
                ));
            }
            valid
        });
        if let (Some(min), Some(max)) = (&field.min, &field.max)
            && min.get_ref() > max.get_ref()
        {
            faults.push(source.fault(&min.span(), "`min` is greater than `max`", "exchange them"));
        }
        inputs.push(Input {
            name: name.as_str().into(),
            kind,
            required: field.required,
            length_max: if text { length_max } else { None },
            min: field.min.as_ref().map(|min| *min.get_ref()),
            max: field.max.as_ref().map(|max| *max.get_ref()),
            choices: field
                .choices
                .iter()
                .flat_map(|choices| choices.get_ref())
                .map(|choice| choice.as_str().into())
                .collect(),
        });
    }
    inputs
}

fn key_source(
    source: &Source,
    raw: &Raw,
    inputs: &[Input],
    parameters: &[&str],
    faults: &mut Vec<Fault>,
) -> Option<KeySource> {
    match (&raw.key, &raw.new) {
        (Some(key), None) => {
            let creates = raw.creates.as_ref().is_some_and(|creates| *creates.get_ref());
            let mut known = parameters.to_vec();
            known.push("user.name");
            if creates {
                known.extend(inputs.iter().map(|input| &*input.name));
            }
            Some(KeySource::Given { key: Pattern::compile(source, key, known, faults), creates })
        }
        (None, Some(new)) => {
            let prefix = new_prefix(source, new, faults);
            if let Some(creates) = &raw.creates {
                faults.push(source.fault(&creates.span(), "`creates` says nothing beside `new`", "remove it"));
            }
            Some(KeySource::Fresh { prefix })
        }
        (None, None) | (Some(_), Some(_)) => {
            let cure = "write key = \"{…}\" for a row with a known key, or new = \"PREFIX\" for a new row";
            faults.push(source.fault(&raw.kind.span(), "a write action needs one of `key` and `new`", cure));
            None
        }
    }
}

/// What keys of new rows begin with.
pub(super) fn new_prefix(source: &Source, new: &Spanned<String>, faults: &mut Vec<Fault>) -> Box<str> {
    let prefix = new.get_ref().as_str();
    if prefix.is_empty() || prefix.len() > 8 || !prefix.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    {
        let wrong = format!("`{prefix}` is no prefix for new keys");
        faults.push(source.fault(&new.span(), wrong, "write 1 to 8 letters, digits or -"));
    }
    prefix.into()
}

/// The input that names a version of the row.
fn chosen_input(
    source: &Source,
    raw: &Raw,
    chosen: &Spanned<String>,
    inputs: &[Input],
    faults: &mut Vec<Fault>,
) -> Option<usize> {
    if raw.key.is_none() {
        let cure = "name the row with `key`: a new row has one version only";
        faults.push(source.fault(&chosen.span(), "`chosen` needs a row that is there", cure));
    }
    let name = chosen.get_ref();
    let input = inputs.iter().position(|input| *input.name == **name && input.kind == FieldKind::Text);
    if input.is_none() {
        let wrong = format!("no input of kind text is called `{name}`");
        let known = inputs.iter().map(|input| &*input.name);
        faults.push(source.fault(&chosen.span(), wrong, super::source::choose(name, known)));
    }
    input
}

/// The expressions of `set`; `creates` and its place: whether the row may be missing, which then needs every field that
/// the document requires.
pub(super) fn set(
    source: &Source,
    asked: Option<&RawSet>,
    (creates, at): (bool, std::ops::Range<usize>),
    shape: &DocumentShape,
    names: &Names<'_>,
    scope: &Scope<'_>,
    faults: &mut Vec<Fault>,
) -> Vec<(usize, Expression)> {
    let mut set = Vec::new();
    let mut named = Vec::new();
    for (name, text) in asked.into_iter().flatten() {
        named.push(name.get_ref().as_str());
        let field = names.field(source, shape, name, faults);
        let expression = Expression::compile(source, text, scope, faults);
        set.extend(field.zip(expression));
    }
    let missing: Vec<&str> = shape.fields.iter().filter(|field| field.required).map(|field| &*field.name).collect();
    let missing: Vec<&str> = missing.into_iter().filter(|name| !named.contains(name)).collect();
    if creates && !missing.is_empty() {
        let wrong = format!("new rows of `{}` would lack {}", shape.table, list(&missing));
        faults.push(source.fault(&at, wrong, "set every field that the document requires"));
    }
    set
}

fn location(source: &Source, raw: &Raw, inputs: &[Input], parameters: &[&str], faults: &mut Vec<Fault>) -> Pattern {
    let Some(location) = &raw.location else { return Pattern::split("/").unwrap_or_default() };
    if !location.get_ref().starts_with('/') || location.get_ref().starts_with("//") {
        let wrong = format!("the location `{}` is no path below the mount", location.get_ref());
        faults.push(source.fault(&location.span(), wrong, "begin it with one `/`, as in /requisitions/{key}"));
    }
    let mut known = parameters.to_vec();
    known.extend(["key", "user.name"]);
    known.extend(inputs.iter().map(|input| &*input.name));
    Pattern::compile(source, location, known, faults)
}

/// What expressions of an action may name.
fn scope<'a>(
    names: &Names<'a>,
    shape: Option<&'a DocumentShape>,
    inputs: &'a [Input],
    references: &[Reference],
    parameters: &[&'a str],
) -> Scope<'a> {
    let referenced = references.iter().map(|reference| &*inputs[reference.input].name).collect();
    Scope {
        roles: names.roles,
        variables: vec![
            ("input", Some(inputs.iter().map(|input| &*input.name).collect())),
            ("row", Some(shape.map(attributes).unwrap_or_default())),
            ("reference", Some(referenced)),
            ("user", Some(USER_ATTRIBUTES.to_vec())),
            ("now", None),
            ("key", None),
            ("parameters", Some(parameters.to_vec())),
        ],
    }
}
