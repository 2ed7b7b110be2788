//! View code tables: pages and the same as JSON.

use std::ops::Range;

use serde::Deserialize;
use toml::Spanned;

use crate::error::Fault;
use crate::limits;
use crate::tables::{DocumentShape, TableId};

use super::names::{Column, Names};
use super::pattern::{Expression, Pattern, Scope};
use super::router::RoutePath;
use super::source::{Source, choose, is_identifier, present, refuse};
use super::template::CONTEXT;

/// Rows of a page of a list that says nothing.
const PAGE_SIZE_DEFAULT: usize = 25;

/// What a `GET` of a path shows.
#[derive(Clone, Debug)]
pub struct View {
    /// Such as `views/browse`.
    pub name: Box<str>,
    pub path: RoutePath,
    pub kind: ViewKind,
    /// Without one the view is JSON only.
    pub template: Option<Box<str>>,
    pub title: Box<str>,
    pub related: Vec<Related>,
    /// Seconds after which the page should be asked for again.
    pub refresh_s: Option<u32>,
}

#[derive(Clone, Debug)]
pub enum ViewKind {
    /// One row by its key; 404 if it is missing or the guard says no.
    Row {
        table: TableId,
        key: Pattern,
        guard: Option<Expression>,
    },
    List(Box<List>),
    /// A template without a row of its own.
    Page,
}

/// Rows of a table, a page of them at a time.
#[derive(Clone, Debug)]
pub struct List {
    pub table: TableId,
    pub filters: Vec<Filter>,
    /// The query parameter whose words are searched.
    pub search: Option<Box<str>>,
    pub descending: bool,
    /// A search shows what fits best first.
    pub ranked: bool,
    pub page_size: usize,
    pub guard: Option<Expression>,
    /// Indexed fields whose values are counted.
    pub facets: Vec<usize>,
}

/// Only rows whose field has a value; an absent or empty query parameter filters nothing.
#[derive(Clone, Debug)]
pub struct Filter {
    pub field: usize,
    pub by: FilterBy,
}

#[derive(Clone, Debug)]
pub enum FilterBy {
    /// The query parameter with this name.
    Parameter(Box<str>),
    /// Always: text with path parameters or `user.name`.
    Value(Pattern),
}

/// Rows that a view shows beside its own.
#[derive(Clone, Debug)]
pub struct Related {
    pub name: Box<str>,
    pub table: TableId,
    pub by: Column,
    pub value: Pattern,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    path: Spanned<String>,
    kind: Spanned<RawKind>,
    #[serde(default)]
    title: String,
    table: Option<Spanned<String>>,
    template: Option<Spanned<String>>,
    key: Option<Spanned<String>>,
    #[serde(rename = "where")]
    guard: Option<Spanned<String>>,
    filter: Option<Spanned<Vec<RawFilter>>>,
    search: Option<Spanned<String>>,
    order: Option<Spanned<String>>,
    page_size: Option<Spanned<i64>>,
    facets: Option<Spanned<Vec<Spanned<String>>>>,
    #[serde(default)]
    related: Vec<RawRelated>,
    refresh_s: Option<Spanned<u32>>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum RawKind {
    Row,
    List,
    Page,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFilter {
    field: Spanned<String>,
    parameter: Option<Spanned<String>>,
    value: Option<Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRelated {
    name: Spanned<String>,
    table: Spanned<String>,
    field: Spanned<String>,
    value: Spanned<String>,
}

/// Names of related rows, wanted by the templates' check before views are compiled.
pub(super) fn related_names(source: &Source) -> Vec<String> {
    #[derive(Deserialize)]
    struct Part {
        #[serde(default)]
        related: Vec<Name>,
    }
    #[derive(Deserialize)]
    struct Name {
        name: String,
    }
    let part: Option<Part> = toml::from_str(&source.text).ok();
    part.map_or_else(Vec::new, |part| part.related.into_iter().map(|related| related.name).collect())
}

pub(super) fn compile(source: &Source, names: &Names<'_>, faults: &mut Vec<Fault>) -> Option<View> {
    let raw: Raw = source.parse().map_err(|fault| faults.push(fault)).ok()?;
    let path = RoutePath::compile(source, &raw.path, faults);
    let template = raw.template.as_ref().map(|template| names.template(source, template, faults));
    let parameters: Vec<&str> = path.parameters().collect();
    let keys = [
        ("table", present(&raw.table)),
        ("key", present(&raw.key)),
        ("where", present(&raw.guard)),
        ("filter", present(&raw.filter)),
        ("search", present(&raw.search)),
        ("order", present(&raw.order)),
        ("page_size", present(&raw.page_size)),
        ("facets", present(&raw.facets)),
    ];
    let at = raw.kind.span();
    let table = raw.table.as_ref().and_then(|table| names.table(source, table, faults));
    let shape = table.map(|table| names.shapes.get(table));
    let guard = match (&raw.guard, shape) {
        (Some(guard), Some(shape)) => Expression::compile(source, guard, &scope(names, shape, &parameters), faults),
        (Some(_), None) | (None, _) => None,
    };
    let missing =
        |key: &str, kind: &str| source.fault(&at, format!("a {kind} view needs `{key}`"), format!("add {key} = \"…\""));
    let kind = match raw.kind.get_ref() {
        RawKind::Page => {
            refuse(source, "a page view", &keys, &[], faults);
            if raw.template.is_none() {
                faults.push(missing("template", "page"));
            }
            Some(ViewKind::Page)
        }
        RawKind::Row => {
            refuse(source, "a row view", &keys, &["table", "key", "where"], faults);
            if raw.table.is_none() {
                faults.push(missing("table", "row"));
            }
            let key = raw.key.as_ref().map(|key| Pattern::compile(source, key, with_user(&parameters), faults));
            if key.is_none() {
                faults.push(missing("key", "row"));
            }
            table.zip(key).map(|(table, key)| ViewKind::Row { table, key, guard })
        }
        RawKind::List => {
            refuse(
                source,
                "a list view",
                &keys,
                &["table", "where", "filter", "search", "order", "page_size", "facets"],
                faults,
            );
            if raw.table.is_none() {
                faults.push(missing("table", "list"));
            }
            table.map(|table| ViewKind::List(Box::new(list(source, &raw, table, guard, names, &parameters, faults))))
        }
    };
    let related = compile_related(source, &raw, shape.map(|shape| &**shape), names, &parameters, faults);
    Some(View {
        name: format!("views/{}", source.stem()).into(),
        kind: kind?,
        template,
        title: raw.title.into(),
        related,
        refresh_s: raw.refresh_s.map(Spanned::into_inner),
        path,
    })
}

fn list(
    source: &Source,
    raw: &Raw,
    table: TableId,
    guard: Option<Expression>,
    names: &Names<'_>,
    parameters: &[&str],
    faults: &mut Vec<Fault>,
) -> List {
    let shape = names.shapes.get(table);
    let mut filters = Vec::new();
    for filter in raw.filter.iter().flat_map(|filter| filter.get_ref()) {
        let field = names.indexed(source, shape, &filter.field, faults);
        let by = match (&filter.parameter, &filter.value) {
            (Some(parameter), None) => Some(FilterBy::Parameter(query_name(source, parameter, faults))),
            (None, Some(value)) => {
                Some(FilterBy::Value(Pattern::compile(source, value, with_user(parameters), faults)))
            }
            (Some(_), Some(_)) | (None, None) => {
                let cure = "give it either parameter = \"QUERY NAME\" or value = \"{user.name}\"";
                faults.push(source.fault(&filter.field.span(), "a filter has one source", cure));
                None
            }
        };
        filters.extend(field.zip(by).map(|(field, by)| Filter { field, by }));
    }
    if let Some(search) = &raw.search
        && !shape.fields.iter().any(|field| field.words)
    {
        let wrong = format!("no field of `{}` is marked words", shape.table);
        faults.push(source.fault(&search.span(), wrong, "add words = true to a text field of the document"));
    }
    let order = raw.order.as_ref().map_or("key", |order| order.get_ref());
    if let Some(at) = present(&raw.order) {
        let cure = "write \"key\", \"-key\" for the greatest first, or \"relevance\"";
        if !matches!(order, "key" | "-key" | "relevance") {
            faults.push(source.fault(&at, format!("rows cannot be ordered by `{order}`"), cure));
        }
        if order == "relevance" && raw.search.is_none() {
            let wrong = "without `search` nothing is more relevant than anything";
            faults.push(source.fault(&at, wrong, "add search = \"words\", or order by \"key\""));
        }
        if let Some(guard) = raw.guard.as_ref().filter(|_| order == "relevance") {
            let cure = "remove one of them: a list with `where` is in the order of its keys";
            faults.push(source.fault(&guard.span(), "`where` and the order `relevance` do not go together", cure));
        }
    }
    let page_size = raw.page_size.as_ref().map_or(PAGE_SIZE_DEFAULT, |size| {
        let valid = usize::try_from(*size.get_ref()).ok().filter(|size| (1..=limits::PAGE_SIZE_MAX).contains(size));
        valid.unwrap_or_else(|| {
            let cure = format!("write a number from 1 to {}", limits::PAGE_SIZE_MAX);
            faults.push(source.fault(&size.span(), "this page size cannot be", cure));
            PAGE_SIZE_DEFAULT
        })
    });
    let facets = raw.facets.iter().flat_map(|facets| facets.get_ref());
    List {
        table,
        filters,
        search: raw.search.as_ref().map(|search| query_name(source, search, faults)),
        descending: order == "-key",
        ranked: order == "relevance",
        page_size,
        guard,
        facets: facets.filter_map(|facet| names.indexed(source, shape, facet, faults)).collect(),
    }
}

fn query_name(source: &Source, name: &Spanned<String>, faults: &mut Vec<Fault>) -> Box<str> {
    if !is_identifier(name.get_ref()) || matches!(name.get_ref().as_str(), "page" | "format") {
        let wrong = format!("`{}` is no name for a query parameter", name.get_ref());
        faults.push(source.fault(&name.span(), wrong, "use lower-case letters, digits and _; not `page` or `format`"));
    }
    name.get_ref().as_str().into()
}

fn compile_related(
    source: &Source,
    raw: &Raw,
    shape: Option<&DocumentShape>,
    names: &Names<'_>,
    parameters: &[&str],
    faults: &mut Vec<Fault>,
) -> Vec<Related> {
    let mut known = with_user(parameters);
    if let (RawKind::Row, Some(shape)) = (raw.kind.get_ref(), shape) {
        known.push("key");
        known.push(&shape.key);
        known.extend(shape.fields.iter().filter(|field| !field.secret).map(|field| &*field.name));
    }
    let mut related = Vec::new();
    for (index, one) in raw.related.iter().enumerate() {
        let name = one.name.get_ref().as_str();
        let twice = raw.related[..index].iter().any(|other| other.name.get_ref() == name);
        if !is_identifier(name) || CONTEXT.contains(&name) || twice {
            let wrong = format!("related rows cannot be called `{name}`");
            let cure = "choose a name of lower-case letters that templates do not have yet";
            faults.push(source.fault(&one.name.span(), wrong, cure));
        }
        let value = Pattern::compile(source, &one.value, known.iter().copied(), faults);
        let Some(table) = names.table(source, &one.table, faults) else { continue };
        let Some(by) = names.column(source, table, &one.field, faults) else { continue };
        related.push(Related { name: name.into(), table, by, value });
    }
    related
}

fn with_user<'a>(parameters: &[&'a str]) -> Vec<&'a str> {
    let mut known = parameters.to_vec();
    known.push("user.name");
    known
}

/// What a guard of a view or form may name.
pub(super) fn scope<'a>(names: &Names<'a>, shape: &'a DocumentShape, parameters: &[&'a str]) -> Scope<'a> {
    Scope {
        roles: names.roles,
        variables: vec![
            ("row", Some(super::names::attributes(shape))),
            ("user", Some(super::names::USER_ATTRIBUTES.to_vec())),
            ("now", None),
            ("key", None),
            ("parameters", Some(parameters.to_vec())),
        ],
    }
}

/// A fault for a name that two code tables of an application claim.
pub(super) fn path_taken(source: &Source, at: &Range<usize>, path: &str, other: &str) -> Fault {
    source.fault(at, format!("the path `{path}` is taken by {other}"), "give one of them another path")
}

/// Names a template that is missing.
pub(super) fn no_template<'a>(
    source: &Source,
    template: &Spanned<String>,
    known: impl IntoIterator<Item = &'a str>,
) -> Fault {
    let wrong = format!("there is no template `{}`", template.get_ref());
    source.fault(&template.span(), wrong, choose(template.get_ref(), known))
}
