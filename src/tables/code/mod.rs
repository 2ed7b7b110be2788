//! Code tables: versioned application code, which replicas execute and a deploy replaces while they run.
//!
//! ```text
//!   folder or deploy ──texts──▶ load ──▶ authority  documents  views  forms  actions  agents  templates
//!                                 │          each file compiled to one type, every mistake a Fault
//!                                 ▼
//!                            CodeVersion ── pinned by each job for its life
//! ```
//! Architecture invariant: a code version never changes once it is loaded.

mod action;
mod agent;
mod authority;
pub mod civil;
mod cycle;
mod document;
mod folder;
mod form;
mod further;
mod load;
mod names;
mod pattern;
mod router;
mod scan;
mod source;
mod template;
#[cfg(test)]
mod tests;
mod view;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::authority::table::{AuthorityTable, Verb, roles_of};
use crate::error::Fault;

use super::record::{DocumentShape, ShapeSet, TableId};

pub use action::{Acknowledge, Action, ActionKind, INPUTS_MAX, Input, KeySource, Reference};
pub use agent::{Agent, AgentKind, Format, Import, ImportTarget, Mapping, Post};
pub use document::{FIELDS_MAX, TEXT_BYTES_DEFAULT, TEXT_BYTES_MAX, system_shapes};
pub use form::Form;
pub use further::Further;
pub use load::Texts;
pub use names::{Column, USER_ATTRIBUTES};
pub use pattern::{Expression, Part, Pattern};
pub use router::{Found, Page, Route, RoutePath, Router};
pub use template::{Templates, percent_encode};
pub use view::{Filter, FilterBy, List, Related, View, ViewKind};

/// Users, their roles and password hashes.
pub const USER_PROFILE: TableId = TableId(0);
/// Sessions that ended before their time.
pub const SESSION_ENDED: TableId = TableId(1);
/// Work of agents and its outcome.
pub const AGENT_WORK: TableId = TableId(2);

/// Fields of [`USER_PROFILE`] by number.
pub mod user_profile {
    pub const NAME: usize = 0;
    pub const DEPARTMENT: usize = 1;
    pub const EMAIL: usize = 2;
    pub const ROLES: usize = 3;
    pub const ACTIVE: usize = 4;
    pub const PASSWORD_HASH: usize = 5;
}

/// Fields of [`SESSION_ENDED`] by number.
pub mod session_ended {
    pub const EXPIRES: usize = 0;
}

/// Fields of [`AGENT_WORK`] by number.
pub mod agent_work {
    pub const AGENT: usize = 0;
    pub const SUBJECT_TABLE: usize = 1;
    pub const SUBJECT_KEY: usize = 2;
    pub const STATE: usize = 3;
    pub const ATTEMPTS: usize = 4;
    pub const REASON: usize = 5;
    pub const REQUESTED_BY: usize = 6;
    pub const UPDATED: usize = 7;
    pub const RESULT: usize = 8;
    /// The appliance whose agent does it, where several share a database; else null.
    pub const APPLIANCE: usize = 9;

    /// Whether work in this state needs no agent any more.
    pub fn is_finished(state: &str) -> bool {
        state == "done" || state == "failed"
    }
}

/// What a code table is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum CodeKind {
    Application,
    Authority,
    Document,
    View,
    Form,
    Action,
    Agent,
    Template,
}

impl CodeKind {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Application => "application",
            Self::Authority => "authority",
            Self::Document => "document",
            Self::View => "view",
            Self::Form => "form",
            Self::Action => "action",
            Self::Agent => "agent",
            Self::Template => "template",
        }
    }
}

impl fmt::Display for CodeKind {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.as_str())
    }
}

/// One code table: a file of an application's code folder.
#[derive(Clone, Debug)]
pub struct CodeTable {
    /// Such as `views/browse`, `authority` or `templates/item.html`.
    pub name: Box<str>,
    pub kind: CodeKind,
    /// Of the name and the text: equal digests, equal code.
    pub digest: u128,
}

/// The text of one code table, as a deploy sends it and the database keeps it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct CodeSource {
    pub application: Arc<str>,
    /// Below the code folder, such as `views/browse.toml`.
    pub path: Arc<str>,
    pub text: Arc<str>,
}

/// One enterprise application of a code version.
#[derive(Debug)]
pub struct Application {
    pub name: Arc<str>,
    pub title: Box<str>,
    /// Full path of the page where visitors sign in.
    pub sign_in: Box<str>,
    pub authority: AuthorityTable,
    pub views: Vec<View>,
    pub forms: Vec<Form>,
    pub actions: Vec<Action>,
    pub agents: Vec<Agent>,
    pub templates: Templates,
    pub router: Router,
    /// Every code table by name.
    pub code_tables: Vec<CodeTable>,
}

impl Application {
    pub fn agent(&self, name: &str) -> Option<&Agent> {
        self.agents.iter().find(|agent| &*agent.name == name)
    }

    /// Whether a path below the mount is a page that visitors may see.
    pub fn is_open_to_visitors(&self, path: &str) -> bool {
        let (name, verb) = match self.router.find(path).and_then(|found| found.route.get) {
            Some(Page::View(index)) => (&self.views[index].name, Verb::Read),
            Some(Page::Form(index)) => (&self.forms[index].name, Verb::Open),
            None => return false,
        };
        self.authority.decide(roles_of(None), name, verb).is_allow()
    }
}

/// All applications of a cluster as of one deploy.
#[derive(Debug)]
pub struct CodeVersion {
    pub version: u64,
    /// By name.
    pub applications: Vec<Application>,
    pub shapes: Arc<ShapeSet>,
    /// By application and path.
    pub sources: Vec<CodeSource>,
    /// Of all sources; the version number is no part of it.
    pub digest: u128,
}

impl CodeVersion {
    pub fn application(&self, name: &str) -> Option<&Application> {
        self.applications.iter().find(|application| &*application.name == name)
    }

    /// A mistake in a source that compiles by itself, at the first line that begins with `key`; `file` is what the source
    /// is called.
    pub fn fault_in(&self, application: &str, path: &str, key: &str, file: &Path, said: (String, String)) -> Fault {
        let source = self.sources.iter().find(|source| &*source.application == application && &*source.path == path);
        let text = source.map_or("", |source| &*source.text);
        let lines = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1));
        let at = lines.into_iter().find(|at| text[*at..].starts_with(key)).unwrap_or(0);
        Fault::at(file, text, at, said.0, said.1)
    }

    /// What keeps this version from replacing `previous` under a running cluster: data tables and fields may be
    /// added, the fields at the end; none may go, move or change its kind.
    pub fn compatible_with(&self, previous: &Self) -> Vec<Fault> {
        let mut faults = Vec::new();
        for shape in &previous.shapes.shapes {
            let file = document_file(shape);
            let fault = |wrong: String, cure: &str| Fault::new(&file, 1, 1, wrong, cure);
            let Some(id) = self.shapes.id(&shape.table) else {
                faults.push(table_gone(shape));
                continue;
            };
            if previous.shapes.id(&shape.table) != Some(id) {
                faults.push(fault(
                    format!("the data table `{}` has moved", shape.table),
                    "load this version after the previous one",
                ));
            }
            faults.extend(changed(shape, self.shapes.get(id)).into_iter().map(|(wrong, cure)| fault(wrong, cure)));
        }
        faults
    }
}

/// Where a deployed document's mistakes are reported.
fn document_file(shape: &DocumentShape) -> PathBuf {
    Path::new(&*shape.application).join(format!("documents/{}.toml", shape.table))
}

fn table_gone(shape: &DocumentShape) -> Fault {
    let wrong = format!("the data table `{}` is gone", shape.table);
    Fault::new(&document_file(shape), 1, 1, wrong, "keep its document: a running cluster holds its rows")
}

/// What changed in a document that must not.
fn changed(before: &DocumentShape, after: &DocumentShape) -> Vec<(String, &'static str)> {
    let mut changes = Vec::new();
    if before.application != after.application {
        changes.push((format!("`{}` belonged to `{}`", before.table, before.application), "keep the document there"));
    }
    if before.key != after.key {
        changes.push((format!("the key was called `{}`", before.key), "keep the key's name"));
    }
    for (index, field) in before.fields.iter().enumerate() {
        match after.fields.get(index) {
            Some(now) if now.name == field.name && now.kind == field.kind => {}
            Some(now) if now.name == field.name => {
                changes.push((
                    format!("the field `{}` changed its kind", field.name),
                    "keep the kind, or add another field at the end",
                ));
            }
            Some(_) | None => {
                changes.push((
                    format!("field {} was `{}`", index + 1, field.name),
                    "keep it there, and add fields at the end",
                ));
            }
        }
    }
    changes
}
