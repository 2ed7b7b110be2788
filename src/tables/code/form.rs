//! Form code tables: pages that ask for the input of an action.

use serde::Deserialize;
use toml::Spanned;

use crate::error::Fault;
use crate::tables::TableId;

use super::names::Names;
use super::pattern::{Expression, Pattern};
use super::router::RoutePath;
use super::source::{Source, present};
use super::view;

/// A page with a form; its template gets the action's path, the CSRF token, values and errors.
#[derive(Clone, Debug)]
pub struct Form {
    /// Such as `forms/sign-in`.
    pub name: Box<str>,
    pub path: RoutePath,
    pub template: Box<str>,
    pub title: Box<str>,
    /// Number in [`super::Application::actions`], set when actions are compiled.
    pub action: usize,
    /// The row that is edited: 404 if it is missing.
    pub row: Option<(TableId, Pattern)>,
    /// 404 if it says no.
    pub guard: Option<Expression>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    path: Spanned<String>,
    template: Spanned<String>,
    action: Spanned<String>,
    #[serde(default)]
    title: String,
    table: Option<Spanned<String>>,
    key: Option<Spanned<String>>,
    #[serde(rename = "where")]
    guard: Option<Spanned<String>>,
}

pub(super) fn compile(source: &Source, names: &Names<'_>, faults: &mut Vec<Fault>) -> Option<Form> {
    let raw: Raw = source.parse().map_err(|fault| faults.push(fault)).ok()?;
    let path = RoutePath::compile(source, &raw.path, faults);
    let parameters: Vec<&str> = path.parameters().collect();
    let template = names.template(source, &raw.template, faults);
    let action = names.code(source, "action", &names.actions, &raw.action, faults);
    let table = raw.table.as_ref().and_then(|table| names.table(source, table, faults));
    let mut known = parameters.clone();
    known.push("user.name");
    let key = raw.key.as_ref().map(|key| Pattern::compile(source, key, known, faults));
    if raw.table.is_some() != raw.key.is_some() {
        let at = present(&raw.table).or(present(&raw.key)).unwrap_or(0..0);
        faults.push(source.fault(
            &at,
            "`table` and `key` go together",
            "name both for the row that the form edits, or neither",
        ));
    }
    let guard = raw.guard.as_ref().and_then(|guard| {
        let Some(table) = table else {
            faults.push(source.fault(&guard.span(), "`where` needs a row to look at", "add table and key"));
            return None;
        };
        Expression::compile(source, guard, &view::scope(names, names.shapes.get(table), &parameters), faults)
    });
    let index = names.actions.iter().position(|known| **known == *action);
    Some(Form {
        name: format!("forms/{}", source.stem()).into(),
        template,
        title: raw.title.into(),
        action: index?,
        row: table.zip(key),
        guard,
        path,
    })
}
