//! From the agents of a code version to orders for the storage unit.

use std::sync::Arc;

use crate::tables::ShapeSet;
use crate::tables::code::{Agent, AgentKind, Application, CodeVersion, ImportTarget};

use super::agents::{ImportAgent, Mapped, NumberField, PostAgent, SentField, Target};
use super::unit::AgentRun;

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

/// The order for a work row `<subject table>/<subject key>/<agent>`; `None` if the code has no such `post` agent.
pub fn run_of(code: &CodeVersion, work: &str, agent: &str, subject_key: &str, requested_by: &str) -> Option<AgentRun> {
    let table = work.split('/').next().unwrap_or("");
    let (application, found) = code.applications.iter().find_map(|application| {
        let found = application.agent(agent).filter(|found| &*code.shapes.get(found.table).table == table);
        found.map(|found| (application, found))
    })?;
    Some(AgentRun {
        work: work.into(),
        agent: Arc::new(post_of(application, found, &code.shapes)?),
        subject_key: subject_key.into(),
        requested_by: requested_by.into(),
    })
}
