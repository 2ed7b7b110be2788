//! Names that code tables use for each other, looked up while they are compiled.

use std::collections::{BTreeMap, BTreeSet};

use toml::Spanned;

use crate::error::Fault;
use crate::tables::{DocumentShape, ShapeSet, TableId};

use super::source::{Source, choose};

/// Attributes of `user` in templates and expressions.
pub const USER_ATTRIBUTES: [&str; 6] = ["name", "full_name", "roles", "signed_in", "department", "email"];

/// What can be named: the tables of all applications, and the other code tables of the same application.
pub(super) struct Names<'a> {
    pub shapes: &'a ShapeSet,
    /// Tables whose documents are wrong: not to know them is no further mistake.
    pub broken: &'a BTreeSet<String>,
    pub templates: &'a BTreeMap<String, Source>,
    pub forms: BTreeSet<&'a str>,
    pub actions: BTreeSet<&'a str>,
    pub agents: BTreeSet<&'a str>,
    /// Roles that the authority tables of all applications name, and those that everyone has; empty if that is not known.
    pub roles: &'a BTreeSet<String>,
}

/// A column by which rows are found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Column {
    Key,
    /// Number of an indexed field.
    Field(usize),
}

impl Names<'_> {
    pub fn template(&self, source: &Source, name: &Spanned<String>, faults: &mut Vec<Fault>) -> Box<str> {
        if !self.templates.contains_key(name.get_ref()) {
            faults.push(super::view::no_template(source, name, self.templates.keys().map(String::as_str)));
        }
        name.get_ref().as_str().into()
    }

    pub fn table(&self, source: &Source, name: &Spanned<String>, faults: &mut Vec<Fault>) -> Option<TableId> {
        let id = self.shapes.id(name.get_ref());
        if id.is_none() && !self.broken.contains(name.get_ref()) {
            let wrong = format!("there is no data table `{}`", name.get_ref());
            let known = self.shapes.shapes.iter().map(|shape| &*shape.table);
            faults.push(source.fault(&name.span(), wrong, choose(name.get_ref(), known)));
        }
        id
    }

    /// A field that is not secret.
    pub fn field(
        &self,
        source: &Source,
        shape: &DocumentShape,
        name: &Spanned<String>,
        faults: &mut Vec<Fault>,
    ) -> Option<usize> {
        let index = shape.field(name.get_ref());
        match index {
            None => {
                let wrong = format!("the data table `{}` has no field `{}`", shape.table, name.get_ref());
                let known = shape.fields.iter().filter(|field| !field.secret).map(|field| &*field.name);
                faults.push(source.fault(&name.span(), wrong, choose(name.get_ref(), known)));
            }
            Some(index) if shape.fields[index].secret => {
                let wrong = format!("the field `{}` is secret", name.get_ref());
                faults.push(source.fault(&name.span(), wrong, "secret fields are for the system alone"));
                return None;
            }
            Some(_) => {}
        }
        index
    }

    /// A field by which rows can be found.
    pub fn indexed(
        &self,
        source: &Source,
        shape: &DocumentShape,
        name: &Spanned<String>,
        faults: &mut Vec<Fault>,
    ) -> Option<usize> {
        let index = self.field(source, shape, name, faults)?;
        if !shape.fields[index].index {
            let wrong = format!("rows of `{}` cannot be found by `{}`", shape.table, name.get_ref());
            faults.push(source.fault(&name.span(), wrong, "add index = true to the field in its document"));
            return None;
        }
        Some(index)
    }

    /// The key or an indexed field.
    pub fn column(
        &self,
        source: &Source,
        table: TableId,
        name: &Spanned<String>,
        faults: &mut Vec<Fault>,
    ) -> Option<Column> {
        let shape = self.shapes.get(table);
        if *shape.key == **name.get_ref() {
            return Some(Column::Key);
        }
        self.indexed(source, shape, name, faults).map(Column::Field)
    }

    /// A code table of the same application.
    pub fn code(
        &self,
        source: &Source,
        kind: &str,
        known: &BTreeSet<&str>,
        name: &Spanned<String>,
        faults: &mut Vec<Fault>,
    ) -> Box<str> {
        if !known.contains(name.get_ref().as_str()) {
            let wrong = format!("there is no {kind} `{}`", name.get_ref());
            faults.push(source.fault(&name.span(), wrong, choose(name.get_ref(), known.iter().copied())));
        }
        name.get_ref().as_str().into()
    }
}

/// A role that no authority table names: nobody is ever given it by mistake, so it is one here.
pub(super) fn unknown_role(
    source: &Source,
    at: &std::ops::Range<usize>,
    role: &str,
    roles: &BTreeSet<String>,
) -> Option<Fault> {
    let wrong = || format!("no rule of an authority table names the role `{role}`");
    (!roles.is_empty() && !roles.contains(role))
        .then(|| source.fault(at, wrong(), choose(role, roles.iter().map(String::as_str))))
}

/// What `row` has: the key under its name, and every field that is not secret.
pub(super) fn attributes(shape: &DocumentShape) -> Vec<&str> {
    let fields = shape.fields.iter().filter(|field| !field.secret).map(|field| &*field.name);
    std::iter::once(&*shape.key).chain(fields).collect()
}
