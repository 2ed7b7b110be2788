//! Views: a row, a list of rows, or a page, as HTML or JSON.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use minijinja::Value as Shown;

use crate::http1::form;
use crate::limits;
use crate::replica::job::{Accept, Job};
use crate::tables::code::{Column, FilterBy, List, Related, View, ViewKind};
use crate::tables::record::Value;
use crate::tables::{DocumentShape, Query, Row, Selection, TableId};

use super::render::Context;
use super::{Call, Refusal, input, json, page, render, version};

/// Pages beyond this one are empty anyhow.
const PAGE_NUMBER_MAX: usize = 1_000_000;
/// Rows of which a list's `where` is asked for one page: some hundred milliseconds.
const GUARDED_ROWS_MAX: usize = 100_000;
/// Rows of a search whose values are counted for its facets: about a millisecond.
const COUNTED_ROWS_MAX: usize = 10_000;
/// Values of one facet that are shown.
const FACET_VALUES_MAX: usize = 200;

/// Related rows with their names.
type Beside<'c> = Vec<(&'c Related, Vec<&'c Row>)>;

/// A row and the losers of concurrent edits that its reader may see.
struct Versions<'v> {
    table: TableId,
    row: &'v Row,
    conflicts: &'v [Row],
}

/// Shows a view with a status: 200, or 202 behind an action.
pub fn show<'a>(call: &Call<'a>, view: &'a View, path: &str, status: u16, job: &mut Job) -> Result<(), Refusal> {
    job.response.cache_control = "private, no-cache";
    match &view.kind {
        ViewKind::Page => {
            let beside = related(call, view, None);
            finish(call, view, path, None, &beside, status, job)
        }
        ViewKind::Row { table, key, guard } => {
            let key = call.fill(key, &view.path, |_| None).ok_or_else(Refusal::missing)?;
            let row = call.scene.tables.get(*table, &key).ok_or_else(Refusal::missing)?;
            if let Some(guard) = guard
                && !call.guard(guard, &view.path, *table, row)?
            {
                return Err(Refusal::missing());
            }
            let conflicts = version::conflicts(call, *table, &key, guard.as_ref(), &view.path)?;
            let beside = related(call, view, Some((*table, row)));
            if status == 200 && unchanged(call, row, &conflicts, &beside, job) {
                return Ok(());
            }
            let versions = Versions { table: *table, row, conflicts: &conflicts };
            finish(call, view, path, Some(versions), &beside, status, job)
        }
        ViewKind::List(list) => show_list(call, view, list, path, status, job),
    }
}

impl Call<'_> {
    /// Whether a guard keeps a row.
    pub fn guard(
        &self,
        guard: &crate::tables::code::Expression,
        path: &crate::tables::code::RoutePath,
        table: TableId,
        row: &Row,
    ) -> Result<bool, Refusal> {
        let shape = self.scene.tables.shapes().get(table);
        let context = Context::default()
            .with("row", render::row(shape, row))
            .with("user", self.who.shown())
            .with("now", self.scene.unix_ms)
            .with("key", &*row.key)
            .with("parameters", self.parameters(path));
        Ok(guard.eval(&context.into())?.is_true())
    }
}

fn show_list(call: &Call<'_>, view: &View, list: &List, path: &str, status: u16, job: &mut Job) -> Result<(), Refusal> {
    let number = form::find(&job.query, "page").and_then(|page| page.parse::<usize>().ok());
    let number = number.unwrap_or(1).clamp(1, PAGE_NUMBER_MAX);
    let selection = select(call, view, list, number, &job.query)?;
    let shape = call.scene.tables.shapes().get(list.table);
    let Some(template) = view.template.as_deref().filter(|_| job.accept == Accept::Html) else {
        let body = begin_json(view, status, job);
        json::name("total", body);
        json::number(selection.total, body);
        json::name("page", body);
        json::number(number, body);
        json::name("size", body);
        json::number(list.page_size, body);
        json::name("rows", body);
        json::rows(shape, selection.rows, body);
        for (related, rows) in related(call, view, None) {
            json::name(&related.name, body);
            json::rows(call.scene.tables.shapes().get(related.table), rows, body);
        }
        body.push(b'}');
        return Ok(());
    };
    let pages = selection.total.div_ceil(list.page_size);
    let shown_page = Shown::from_pairs([
        ("number", Shown::from(number)),
        ("size", Shown::from(list.page_size)),
        ("total", Shown::from(selection.total)),
        ("pages", Shown::from(pages)),
        ("next", if number < pages { Shown::from(number + 1) } else { Shown::from(()) }),
        ("previous", if number > 1 { Shown::from(number - 1) } else { Shown::from(()) }),
    ]);
    let rows: Vec<Shown> = selection.rows.iter().map(|row| render::row(shape, row)).collect();
    let mut facets = Vec::with_capacity(list.facets.len());
    for facet in &list.facets {
        facets.push((shape.fields[*facet].name.to_string(), counted(call, view, list, *facet, &job.query)));
    }
    let facets = Shown::from_pairs(facets);
    let beside = related(call, view, None);
    let context =
        context(call, view, path, &beside, job).with("rows", rows).with("page", shown_page).with("facets", facets);
    call.html(template, context, status, job)
}

/// Values of a field, each with how many rows have it of those that the other filters and the words find.
fn counted(call: &Call<'_>, view: &View, list: &List, facet: usize, query: &str) -> Shown {
    let tables = call.scene.tables;
    let shown = |value: &Value, count: Shown| Shown::from_pairs([("value", render::shown(value)), ("count", count)]);
    let mut wanted = wanted(call, view, list, query).unwrap_or_default();
    wanted.retain(|(field, _)| *field != facet);
    let equal: Vec<(usize, &Value)> = wanted.iter().map(|(field, value)| (*field, value)).collect();
    let words = words(list, query);
    let narrowed = !equal.is_empty() || !words.trim().is_empty();
    let asked = Query { equal: &equal, words: &words, ..Query::default() };
    let values: Vec<Shown> = if !narrowed {
        let values = tables.facets(list.table, facet).take(FACET_VALUES_MAX);
        values.map(|(value, count)| shown(value, Shown::from(count))).collect()
    } else if let Some(counts) = tables.count_values(list.table, facet, &asked, COUNTED_ROWS_MAX) {
        let values = counts.into_iter().take(FACET_VALUES_MAX);
        values.map(|(value, count)| shown(value, Shown::from(count))).collect()
    } else {
        // Too many to be counted for one page.
        let values = tables.facets(list.table, facet).take(FACET_VALUES_MAX);
        values.map(|(value, _)| shown(value, Shown::from(()))).collect()
    };
    Shown::from(values)
}

fn words<'q>(list: &List, query: &'q str) -> Cow<'q, str> {
    list.search.as_ref().and_then(|name| form::find(query, name)).unwrap_or_default()
}

/// The values that rows must have; `None` if no row can have them.
fn wanted(call: &Call<'_>, view: &View, list: &List, query: &str) -> Option<Vec<(usize, Value)>> {
    let shape = call.scene.tables.shapes().get(list.table);
    let mut wanted: Vec<(usize, Value)> = Vec::with_capacity(list.filters.len());
    for filter in &list.filters {
        let text = match &filter.by {
            FilterBy::Parameter(name) => match form::find(query, name) {
                Some(text) if !text.is_empty() => text,
                Some(_) | None => continue,
            },
            FilterBy::Value(pattern) => call.fill(pattern, &view.path, |_| None)?,
        };
        // No row can have a value that the field's kind does not have.
        wanted.push((filter.field, input::typed(shape.fields[filter.field].kind, &text)?));
    }
    Some(wanted)
}

/// The rows of one page of a list.
fn select<'c>(
    call: &'c Call<'_>,
    view: &View,
    list: &List,
    number: usize,
    query: &str,
) -> Result<Selection<'c>, Refusal> {
    let Some(wanted) = wanted(call, view, list, query) else { return Ok(Selection::default()) };
    let equal: Vec<(usize, &Value)> = wanted.iter().map(|(field, value)| (*field, value)).collect();
    let words = words(list, query);
    let query = Query {
        equal: &equal,
        words: &words,
        descending: list.descending,
        ranked: list.ranked,
        offset: (number - 1) * list.page_size,
        limit: list.page_size,
    };
    let Some(guard) = &list.guard else { return Ok(call.scene.tables.select(list.table, &query)) };
    let (mut failed, mut asked) = (None, 0usize);
    let selection = call.scene.tables.select_where(list.table, &query, &mut |row| {
        asked += 1;
        if asked == GUARDED_ROWS_MAX && failed.is_none() {
            let fault = format!("{}: `where` was asked of {GUARDED_ROWS_MAX} rows; add a filter", view.name);
            failed =
                Some(Refusal { fault: Some(fault), ..Refusal::new(500, "The list is too long to be looked through.") });
        }
        failed.is_none()
            && call.guard(guard, &view.path, list.table, row).unwrap_or_else(|refusal| {
                failed = Some(refusal);
                false
            })
    });
    failed.map_or(Ok(selection), Err)
}

fn related<'c>(call: &'c Call<'_>, view: &'c View, row: Option<(TableId, &Row)>) -> Beside<'c> {
    let tables = call.scene.tables;
    let find = |related: &'c Related| {
        let value = call.fill(&related.value, &view.path, |name| {
            let (table, row) = row?;
            let shape = tables.shapes().get(table);
            if name == "key" || name == &*shape.key {
                return Some(Cow::Owned(row.key.to_string()));
            }
            let field = shape.field(name)?;
            Some(Cow::Owned(input::spelled(shape.fields[field].kind, row.get(field))))
        });
        let Some(value) = value.filter(|value| !value.is_empty()) else { return Vec::new() };
        match related.by {
            Column::Key => tables.get(related.table, &value).into_iter().collect(),
            Column::Field(field) => {
                let kind = tables.shapes().get(related.table).fields[field].kind;
                let value = input::typed(kind, &value);
                value.map_or_else(Vec::new, |value| {
                    tables.by_index(related.table, field, &value, 0, limits::PAGE_SIZE_MAX).rows
                })
            }
        }
    };
    view.related.iter().map(|related| (related, find(related))).collect()
}

/// A page of at most one row.
fn finish(
    call: &Call<'_>,
    view: &View,
    path: &str,
    versions: Option<Versions<'_>>,
    beside: &Beside<'_>,
    status: u16,
    job: &mut Job,
) -> Result<(), Refusal> {
    let shapes = call.scene.tables.shapes();
    let Some(template) = view.template.as_deref().filter(|_| job.accept == Accept::Html) else {
        let body = begin_json(view, status, job);
        if let Some(Versions { table, row, conflicts }) = versions {
            json::name("row", body);
            json::row(shapes.get(table), row, body);
            if !conflicts.is_empty() {
                json::name("version", body);
                json::text(&version::name(row.stamp), body);
                json::name("conflicts", body);
                json_conflicts(shapes.get(table), conflicts, body);
            }
        }
        for (related, rows) in beside {
            json::name(&related.name, body);
            json::rows(shapes.get(related.table), rows.iter().copied(), body);
        }
        body.push(b'}');
        return Ok(());
    };
    let mut context = context(call, view, path, beside, job);
    if let Some(Versions { table, row, conflicts }) = versions {
        let shape = shapes.get(table);
        context.push("key", &*row.key);
        context.push("row", render::row(shape, row));
        if !conflicts.is_empty() {
            let shown = |row: &Row| {
                let record = if row.is_live() { render::row(shape, row) } else { Shown::from(()) };
                Shown::from_pairs([("version", Shown::from(version::name(row.stamp))), ("row", record)])
            };
            context.push("version", version::name(row.stamp));
            context.push("conflicts", conflicts.iter().map(shown).collect::<Vec<_>>());
        }
    }
    call.html(template, context, status, job)
}

fn json_conflicts(shape: &DocumentShape, conflicts: &[Row], body: &mut Vec<u8>) {
    body.push(b'[');
    for (index, conflict) in conflicts.iter().enumerate() {
        body.extend_from_slice(if index == 0 { b"{" } else { b",{" });
        json::name("version", body);
        json::text(&version::name(conflict.stamp), body);
        json::name("row", body);
        if conflict.is_live() {
            json::row(shape, conflict, body);
        } else {
            body.extend_from_slice(b"null");
        }
        body.push(b'}');
    }
    body.push(b']');
}

fn begin_json<'j>(view: &View, status: u16, job: &'j mut Job) -> &'j mut Vec<u8> {
    job.response.status = status;
    job.response.content_type = page::JSON;
    let body = &mut job.response.body;
    body.clear();
    body.push(b'{');
    json::name("view", body);
    json::text(&view.name, body);
    body
}

fn context(call: &Call<'_>, view: &View, path: &str, beside: &Beside<'_>, job: &Job) -> Context {
    let mut context = call
        .context(path, job)
        .with("view", &*view.name)
        .with("title", &*view.title)
        .with("parameters", call.parameters(&view.path))
        .with("refresh_s", view.refresh_s.map_or_else(|| Shown::from(()), Shown::from));
    for (related, rows) in beside {
        let shape = call.scene.tables.shapes().get(related.table);
        context.push(&related.name, rows.iter().map(|row| render::row(shape, row)).collect::<Vec<_>>());
    }
    context
}

/// Sets the entity tag of a row's page, and answers 304 if the browser has it (RFC 9110 section 13.1.2).
///
/// The tag covers all that the page is made of: the code, who sees it in which session, and every row on it. It is
/// weak because it does not look at the bytes.
fn unchanged(call: &Call<'_>, row: &Row, conflicts: &[Row], beside: &Beside<'_>, job: &mut Job) -> bool {
    // No secret and no defence: two states of one page shall not look alike by accident. SipHash is enough for that.
    let mut hasher = DefaultHasher::new();
    let mut add_row = |key: &str, stamp: crate::tables::Stamp| {
        (key, stamp.sequence, stamp.time, stamp.server).hash(&mut hasher);
    };
    add_row(&row.key, row.stamp);
    conflicts.iter().for_each(|conflict| add_row("conflict", conflict.stamp));
    add_row(call.who.name(), call.who.stamp());
    for (related, rows) in beside {
        add_row(&related.name, Default::default());
        rows.iter().for_each(|row| add_row(&row.key, row.stamp));
    }
    let code = call.scene.code;
    (&job.identity.csrf, code.digest, code.version, job.accept == Accept::Json).hash(&mut hasher);
    let etag = &mut job.response.etag;
    etag.clear();
    write!(etag, "W/\"{:016x}\"", hasher.finish()).expect("invariant: writing to a string cannot fail");
    let known = matches_tag(&job.if_none_match, &job.response.etag);
    if known {
        job.response.status = 304;
        job.response.body.clear();
    }
    known
}

/// Whether `If-None-Match` names the tag, by the weak comparison.
fn matches_tag(header: &str, tag: &str) -> bool {
    fn opaque(tag: &str) -> &str {
        tag.trim().trim_start_matches("W/")
    }
    header.trim() == "*" || (!header.is_empty() && header.split(',').any(|each| opaque(each) == opaque(tag)))
}
