//! From the agents of a code version to orders for the storage unit.

use std::path::PathBuf;
use std::sync::Arc;

use crate::error::Fault;
use crate::tables::code::{Agent, AgentKind, Application, CodeVersion, ImportTarget, agent_work};
use crate::tables::{Record, ShapeSet};

use super::agents::{ImportAgent, Mapped, NumberField, PostAgent, SentField, Target};
use super::unit::{AgentRun, GivenUp, ImportProgress, ImportRun, Order};

/// The `post` agent of a code table, with what it needs of its table's shape.
pub fn post_of(application: &Application, agent: &Agent, shapes: &ShapeSet) -> Option<PostAgent> {
    let AgentKind::Post(post) = &agent.kind else { return None };
    let shape = shapes.get(agent.table);
    let sent = |&field: &usize| SentField {
        name: Arc::clone(&shape.fields[field].name),
        field,
        kind: shape.fields[field].kind,
    };
    Some(PostAgent {
        application: Arc::clone(&application.name),
        name: Arc::from(&*agent.name),
        table: agent.table,
        table_name: Arc::clone(&shape.table),
        key: Arc::clone(&shape.key),
        backend: post.backend.clone(),
        path: post.path.clone(),
        attempts: post.attempts,
        backoff_ms: post.backoff_ms,
        number: post.number.as_ref().map(|(field, prefix)| NumberField { field: *field, prefix: prefix.clone() }),
        outcome: post.outcome,
        fields: post.fields.iter().map(sent).collect(),
    })
}

/// The `import` agent of a code table.
pub fn import_of(application: &Application, agent: &Agent, shapes: &ShapeSet) -> Option<ImportAgent> {
    let AgentKind::Import(import) = &agent.kind else { return None };
    let shape = shapes.get(agent.table);
    let map = import.map.iter().map(|mapping| {
        let (to, needed) = match mapping.to {
            ImportTarget::Key => (Target::Key, true),
            ImportTarget::Field(field) => {
                let column = &shape.fields[field];
                (Target::Field { field, kind: column.kind, bytes_max: column.length_max }, column.required)
            }
        };
        Mapped { from: mapping.from.clone(), to, required: needed || import.required.contains(&mapping.from) }
    });
    Some(ImportAgent {
        application: Arc::clone(&application.name),
        name: Arc::from(&*agent.name),
        table: agent.table,
        table_name: Arc::clone(&shape.table),
        map: map.collect(),
        width: shape.fields.len(),
    })
}

/// Agents that post to a back-end server which the profile does not name. `folder` is where the code of an application
/// is said to stand.
///
/// # Errors
/// A [`Fault`] for each.
pub fn check_backends(
    code: &CodeVersion,
    is_known: impl Fn(&str) -> bool,
    folder: impl Fn(&str) -> PathBuf,
) -> Result<(), Vec<Fault>> {
    let mut faults = Vec::new();
    for application in &code.applications {
        for agent in &application.agents {
            let Some(post) = post_of(application, agent, &code.shapes).filter(|post| !is_known(&post.backend)) else {
                continue;
            };
            let path = format!("agents/{}.toml", agent.name);
            let wrong = format!("the profile names no back-end server `{}`", post.backend);
            let cure = format!("add `{} = \"ADDRESS\"` to [backends] of the profile, or name another", post.backend);
            let file = folder(&application.name).join(&path);
            faults.push(code.fault_in(&application.name, &path, "backend", &file, (wrong, cure)));
        }
    }
    if faults.is_empty() { Ok(()) } else { Err(faults) }
}

/// The order for an unfinished work row: whoever has lost sight of the work begins it again from here.
pub fn order_of(code: &CodeVersion, work: &str, record: &Record) -> Order {
    let text = |field: usize| record.get(field).as_text().unwrap_or("");
    let (agent, subject, by) = (text(agent_work::AGENT), text(agent_work::SUBJECT_KEY), text(agent_work::REQUESTED_BY));
    if let Some(run) = run_of(code, work, agent, subject, by) {
        return Order::RunAgent(run);
    }
    let import = find(code, work, agent).and_then(|(application, agent)| import_of(application, agent, &code.shapes));
    if let Some(import) = import {
        let file = PathBuf::from(subject);
        let progress = Arc::new(ImportProgress::new(&file));
        let agent = Arc::new(import);
        return Order::Import(ImportRun { work: work.into(), agent, file, requested_by: by.into(), progress });
    }
    let reason = format!("the code has no agent `{agent}` for this table; deploy one, and submit again");
    Order::GiveUp(GivenUp { work: work.into(), reason })
}

/// The agent that works on the table which begins the key of a work row.
fn find<'c>(code: &'c CodeVersion, work: &str, agent: &str) -> Option<(&'c Application, &'c Agent)> {
    let table = work.split('/').next().unwrap_or("");
    code.applications.iter().find_map(|application| {
        let found = application.agent(agent).filter(|found| &*code.shapes.get(found.table).table == table);
        found.map(|found| (application, found))
    })
}

/// The order for a work row `<subject table>/<subject key>/<agent>`; `None` if the code has no such `post` agent.
pub fn run_of(code: &CodeVersion, work: &str, agent: &str, subject_key: &str, requested_by: &str) -> Option<AgentRun> {
    let (application, found) = find(code, work, agent)?;
    Some(AgentRun {
        work: work.into(),
        agent: Arc::new(post_of(application, found, &code.shapes)?),
        subject_key: subject_key.into(),
        requested_by: requested_by.into(),
    })
}
