//! Actions: from input to the rows that are to be written, and the answer once they are.

use std::borrow::Cow;

use minijinja::Value as Shown;

use crate::replica::job::{Accept, Job, SessionChange};
use crate::tables::code::{
    AGENT_WORK, Acknowledge, Action, ActionKind, Expression, Further, KeySource, Page, SESSION_ENDED, agent_work,
    percent_encode, session_ended,
};
use crate::tables::record::{Field, FieldKind, Record, Value};
use crate::tables::{DocumentShape, Row, TableId};

use super::input::{Errors, Sent, shown_inputs};
use super::render::Context;
use super::who::recognize;
use super::{
    After, AgentRun, Call, Edit, Refusal, Scene, Step, Write, form, json, page, render, sign_in, version, view,
};

/// Bytes of a key.
const KEY_BYTES_MAX: usize = 512;

/// Runs the action of a `POST` whose sender is authorized and whose CSRF token is right.
pub fn run(
    call: &Call<'_>,
    index: usize,
    action: &Action,
    sent: &Sent,
    path: &str,
    job: &mut Job,
) -> Result<Step, Refusal> {
    job.response.cache_control = "no-store";
    let outcome = match &action.kind {
        ActionKind::SignIn => sign_in::begin(call, action, sent),
        ActionKind::SignOut => return Ok(sign_out(call, index, action, sent, job)),
        ActionKind::Write { table, key, set } => write(call, index, action, *table, key, set, sent),
        ActionKind::Delete { table, key } => delete(call, index, action, *table, key, sent),
    };
    match outcome {
        Ok(step) => Ok(step),
        Err(Wrong::Refused(refusal)) if refusal.status == 409 => {
            form::again(call, action, sent, &Errors::new(), refusal, path, job).map(|()| Step::Finished)
        }
        Err(Wrong::Refused(refusal)) => Err(refusal),
        Err(Wrong::Input(errors)) => {
            let refusal = Refusal::new(422, "Some of the input is wrong.");
            form::again(call, action, sent, &errors, refusal, path, job).map(|()| Step::Finished)
        }
    }
}

/// Why an action does nothing.
pub enum Wrong {
    Refused(Refusal),
    Input(Errors),
}

impl From<Refusal> for Wrong {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<minijinja::Error> for Wrong {
    fn from(error: minijinja::Error) -> Self {
        Self::Refused(error.into())
    }
}

impl From<Errors> for Wrong {
    fn from(errors: Errors) -> Self {
        Self::Input(errors)
    }
}

fn write(
    call: &Call<'_>,
    index: usize,
    action: &Action,
    table: TableId,
    source: &KeySource,
    set: &[(usize, Expression)],
    sent: &Sent,
) -> Result<Step, Wrong> {
    let values = sent.check(&action.inputs)?;
    let input = |name: &str| sent.text(name).map(|text| Cow::Owned(text.trim().to_owned()));
    let key = match source {
        KeySource::Fresh { prefix } => fresh_key(prefix, call.scene.fresh, call.scene.replica),
        KeySource::Given { key, .. } => call.fill(key, &action.path, input).ok_or_else(Refusal::missing)?.into_owned(),
    };
    check_key(&key)?;
    let row = call.scene.tables.get(table, &key);
    match source {
        KeySource::Given { creates: false, .. } if row.is_none() => return Err(Refusal::missing().into()),
        KeySource::Given { .. } | KeySource::Fresh { .. } => {}
    }
    let shape = call.scene.tables.shapes().get(table);
    let chosen = match action.chosen.map(|input| &values[input]) {
        Some(named) => Some(chosen(call, table, &key, named)?),
        None => None,
    };
    let context = context(call, action, (table, row), chosen.as_ref(), &key, &values)?;
    check_when(action, &context)?;
    let mut errors = Errors::new();
    let record = record(action, shape, row, set, &context, &mut errors)?;
    let mut edits = vec![Edit { table, key: key.as_str().into(), record: Some(record) }];
    for further in &action.further {
        let edit = further_edit(call, action, further, sent, &key, &context, &mut errors)?;
        if edits.iter().any(|known| (known.table, &known.key) == (edit.table, &edit.key)) {
            let fault = format!("{}: two edits of the row `{}`", action.name, edit.key);
            return Err(Refusal { fault: Some(fault), ..Refusal::new(500, "The row could not be made.") }.into());
        }
        edits.push(edit);
    }
    if !errors.is_empty() {
        return Err(errors.into());
    }
    let agent = action.agent.as_ref().map(|agent| {
        let work = work(call, agent, shape, &key);
        let run = AgentRun { application: call.application.name.clone(), agent: agent.clone(), work: work.key.clone() };
        edits.push(work);
        run
    });
    let after = After { created: row.is_none(), agent, ..after(call, index, action, sent, &key) };
    Ok(Step::Write(Write { edits, acknowledge: action.acknowledge, after }))
}

/// The record of a row after `set`; what is wrong with it goes to `errors`.
fn record(
    action: &Action,
    shape: &DocumentShape,
    row: Option<&Row>,
    set: &[(usize, Expression)],
    context: &Shown,
    errors: &mut Errors,
) -> Result<Record, Wrong> {
    let mut record: Vec<Value> =
        row.and_then(|row| row.record.as_ref()).map_or_else(Vec::new, |record| record.0.to_vec());
    record.resize(shape.fields.len().max(record.len()), Value::Null);
    for (field, expression) in set {
        let shown = expression.eval(context)?;
        match converted(&shape.fields[*field], &shown) {
            Ok(value) => record[*field] = value,
            Err(Converted::Long(message)) => errors.push((shape.fields[*field].name.as_ref().into(), message)),
            Err(Converted::Kind) => {
                let fault =
                    format!("{}: `{}` gives {shown}, which the field cannot hold", action.name, expression.text());
                return Err(Refusal { fault: Some(fault), ..Refusal::new(500, "The row could not be made.") }.into());
            }
        }
    }
    for (field, value) in shape.fields.iter().zip(&record) {
        if field.required && *value == Value::Null && !errors.iter().any(|(name, _)| **name == *field.name) {
            errors.push((field.name.as_ref().into(), "This is needed.".to_owned()));
        }
    }
    Ok(Record(record.into()))
}

/// The edit of a further row. Its key may name the action's own row as `key`.
fn further_edit(
    call: &Call<'_>,
    action: &Action,
    further: &Further,
    sent: &Sent,
    own: &str,
    context: &Shown,
    errors: &mut Errors,
) -> Result<Edit, Wrong> {
    let key = match &further.key {
        KeySource::Fresh { prefix } => fresh_key(prefix, call.scene.fresh, call.scene.replica),
        KeySource::Given { key, .. } => {
            let more = |name: &str| match name {
                "key" => Some(Cow::Owned(own.to_owned())),
                name => Some(Cow::Owned(sent.text(name).unwrap_or("").trim().to_owned())),
            };
            call.fill(key, &action.path, more).ok_or_else(Refusal::missing)?.into_owned()
        }
    };
    check_key(&key)?;
    let row = call.scene.tables.get(further.table, &key);
    let record = match &further.set {
        Some(set) => {
            let shape = call.scene.tables.shapes().get(further.table);
            Some(record(action, shape, row, set, context, errors)?)
        }
        None => None,
    };
    Ok(Edit { table: further.table, key: key.into(), record })
}

fn check_key(key: &str) -> Result<(), Wrong> {
    if key.is_empty() || key.len() > KEY_BYTES_MAX || key.chars().any(char::is_control) {
        return Err(Refusal::new(400, "This is no key of a row.").into());
    }
    Ok(())
}

/// The version of the row that the sender chose.
fn chosen(call: &Call<'_>, table: TableId, key: &str, named: &Value) -> Result<Row, Wrong> {
    let found = version::find(call.scene.tables, table, key, named.as_text().unwrap_or(""));
    let gone = "This version is not there any more. Look at the page again: somebody has chosen meanwhile.";
    found.ok_or_else(|| Refusal::new(409, gone).into())
}

fn delete(
    call: &Call<'_>,
    index: usize,
    action: &Action,
    table: TableId,
    key: &crate::tables::code::Pattern,
    sent: &Sent,
) -> Result<Step, Wrong> {
    let values = sent.check(&action.inputs)?;
    let key = call.fill(key, &action.path, |_| None).ok_or_else(Refusal::missing)?;
    let row = call.scene.tables.get(table, &key).ok_or_else(Refusal::missing)?;
    check_when(action, &context(call, action, (table, Some(row)), None, &key, &values)?)?;
    let edits = vec![Edit { table, key: (&*key).into(), record: None }];
    Ok(Step::Write(Write { edits, acknowledge: action.acknowledge, after: after(call, index, action, sent, &key) }))
}

/// Ends the session: everywhere and for good, so that the old cookie is refused by every replica.
fn sign_out(call: &Call<'_>, index: usize, action: &Action, sent: &Sent, job: &mut Job) -> Step {
    let session = job.identity.session.clone();
    let after = After { session: SessionChange::End, ..after(call, index, action, sent, &session) };
    let mut record = vec![Value::Null; session_ended::EXPIRES + 1];
    record[session_ended::EXPIRES] = Value::Integer(i64::try_from(job.identity.expires_ms).unwrap_or(i64::MAX));
    let edit = Edit { table: SESSION_ENDED, key: session.into(), record: Some(Record(record.into())) };
    Step::Write(Write { edits: vec![edit], acknowledge: Acknowledge::Durable, after })
}

fn check_when(action: &Action, context: &Shown) -> Result<(), Wrong> {
    match &action.when {
        Some(when) if !when.eval(context)?.is_true() => Err(Refusal::new(409, &*action.otherwise).into()),
        Some(_) | None => Ok(()),
    }
}

/// What expressions of an action see; fails if an input names a row that is missing.
fn context(
    call: &Call<'_>,
    action: &Action,
    (table, row): (TableId, Option<&Row>),
    chosen: Option<&Row>,
    key: &str,
    values: &[Value],
) -> Result<Shown, Wrong> {
    let shapes = call.scene.tables.shapes();
    let mut errors = Errors::new();
    let mut references = Vec::with_capacity(action.references.len());
    for reference in &action.references {
        let input = &action.inputs[reference.input];
        let Some(named) = values[reference.input].as_text() else {
            references.push((input.name.to_string(), Shown::from(())));
            continue;
        };
        match call.scene.tables.get(reference.table, named) {
            Some(row) => references.push((input.name.to_string(), render::row(shapes.get(reference.table), row))),
            None => errors.push((input.name.clone(), format!("There is no `{named}`."))),
        }
    }
    if !errors.is_empty() {
        return Err(errors.into());
    }
    let mut context = Context::default()
        .with("input", shown_inputs(&action.inputs, values))
        .with("row", row.map_or_else(|| Shown::from(()), |row| render::row(shapes.get(table), row)))
        .with("reference", Shown::from_pairs(references))
        .with("user", call.who.shown())
        .with("now", call.scene.unix_ms)
        .with("key", key)
        .with("parameters", call.parameters(&action.path));
    if let Some(chosen) = chosen {
        context.push("chosen", render::row(shapes.get(table), chosen));
    }
    Ok(context.into())
}

enum Converted {
    Long(String),
    Kind,
}

/// The value of an expression as a field holds it.
fn converted(field: &Field, shown: &Shown) -> Result<Value, Converted> {
    if shown.is_none() || shown.is_undefined() {
        return Ok(Value::Null);
    }
    match field.kind {
        FieldKind::Text => {
            let text = shown.to_string();
            if text.len() > field.length_max {
                return Err(Converted::Long(format!("At most {} bytes, please.", field.length_max)));
            }
            Ok(if text.is_empty() { Value::Null } else { Value::Text(text.into()) })
        }
        FieldKind::Integer | FieldKind::Money | FieldKind::Time => {
            shown.as_i64().map(Value::Integer).ok_or(Converted::Kind)
        }
        FieldKind::Boolean => Ok(Value::Boolean(shown.is_true())),
    }
}

/// A key that no other row has: prefix, hybrid time and replica in base 32, so that keys ascend with time.
fn fresh_key(prefix: &str, time: u64, replica: u8) -> String {
    const DIGITS: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
    let digit = |value: u64| char::from(DIGITS[usize::try_from(value & 31).unwrap_or(0)]);
    let mut key = prefix.to_owned();
    // 60 bits hold Unix milliseconds << 16 until the year 2527.
    key.extend((0..12).rev().map(|place| digit(time >> (5 * place))));
    key.push(digit(u64::from(replica)));
    key
}

/// The row that tells an agent what to do, written in the same commit as its subject.
fn work(call: &Call<'_>, agent: &str, shape: &DocumentShape, key: &str) -> Edit {
    let mut record = vec![Value::Null; agent_work::APPLIANCE + 1];
    record[agent_work::AGENT] = Value::text(agent);
    record[agent_work::SUBJECT_TABLE] = Value::text(&shape.table);
    record[agent_work::SUBJECT_KEY] = Value::text(key);
    record[agent_work::STATE] = Value::text("queued");
    record[agent_work::ATTEMPTS] = Value::Integer(0);
    record[agent_work::REQUESTED_BY] = Value::text(call.who.name());
    record[agent_work::APPLIANCE] =
        call.scene.appliance.map_or(Value::Null, |appliance| Value::Integer(appliance.cast_signed()));
    record[agent_work::UPDATED] = Value::Integer(i64::try_from(call.scene.unix_ms).unwrap_or(i64::MAX));
    let work = format!("{}/{key}/{agent}", shape.table);
    Edit { table: AGENT_WORK, key: work.into(), record: Some(Record(record.into())) }
}

/// Where the answer points, with the rest left empty.
fn after(call: &Call<'_>, index: usize, action: &Action, sent: &Sent, key: &str) -> After {
    let value = |name: &str| -> String {
        match name {
            "key" => key.to_owned(),
            "user.name" => call.who.name().to_owned(),
            name => call.parameter(&action.path, name).or_else(|| sent.text(name)).unwrap_or("").to_owned(),
        }
    };
    let encoded = |name: &str| {
        let mut text = String::new();
        percent_encode(&value(name), &mut text);
        Some(Cow::Owned(text))
    };
    After {
        action: index,
        key: key.into(),
        created: false,
        location: action.location.fill(encoded).unwrap_or_default().into_owned(),
        target: action.location.fill(|name| Some(Cow::Owned(value(name)))).unwrap_or_default().into_owned(),
        session: SessionChange::None,
        agent: None,
    }
}

/// Completes the response of a job whose rows are written. Returns the code's fault if there is one.
pub fn written(scene: Scene<'_>, after: &After, job: &mut Job) -> Option<String> {
    let application = scene.code.application(&job.application)?;
    let action = &application.actions[after.action];
    let who = recognize(scene, &mut job.identity);
    job.response.session = after.session.clone();
    job.response.cache_control = "no-store";
    job.response.location = format!("{}{}", job.mount, after.location);
    if job.accept == Accept::Json {
        job.response.status = if action.accepted {
            202
        } else if after.created {
            201
        } else {
            200
        };
        json_outcome(scene, action, after, job);
        return None;
    }
    if !action.accepted {
        job.response.status = 303;
        return None;
    }
    // The page of the location is the body, so that the browser shows the state without asking once more.
    let target = after.target.split('?').next().unwrap_or("/");
    let query = std::mem::take(&mut job.query);
    let shown = application.router.find(target).and_then(|found| match found.route.get {
        Some(Page::View(index)) => {
            let call = Call { scene, application, who, values: found.values };
            let view = &application.views[index];
            let allowed = application.authority.decide(who.roles(), &view.name, crate::authority::table::Verb::Read);
            allowed.is_allow().then(|| view::show(&call, view, target, 202, job))
        }
        Some(Page::Form(_)) | None => None,
    });
    job.query = query;
    let fault = match shown {
        Some(Ok(())) => return None,
        Some(Err(refusal)) => refusal.fault,
        None => None,
    };
    // What was asked for is done, whatever its page says.
    job.response.status = 202;
    job.response.body.clear();
    page::plain(job, "Accepted", "The request has been taken and is being worked on.");
    fault
}

fn json_outcome(scene: Scene<'_>, action: &Action, after: &After, job: &mut Job) {
    job.response.content_type = page::JSON;
    let location = job.response.location.clone();
    let body = &mut job.response.body;
    body.clear();
    body.push(b'{');
    json::name("action", body);
    json::text(&action.name, body);
    json::name("location", body);
    json::text(&location, body);
    if let ActionKind::Write { table, .. } | ActionKind::Delete { table, .. } = &action.kind {
        json::name("key", body);
        json::text(&after.key, body);
        if let Some(row) = scene.tables.get(*table, &after.key) {
            json::name("row", body);
            json::row(scene.tables.shapes().get(*table), row, body);
        }
    }
    body.push(b'}');
}

#[cfg(test)]
mod tests {
    use super::fresh_key;

    #[test]
    fn fresh_keys_ascend_and_differ() {
        let keys: Vec<String> = [(1 << 40, 0), (1 << 40, 1), ((1 << 40) + 1, 0), (1_795_440_180_000 << 16, 3)]
            .iter()
            .map(|(time, replica)| fresh_key("R", *time, *replica))
            .collect();
        assert!(keys.is_sorted());
        assert!(keys.iter().all(|key| key.len() == 14 && key.starts_with('R')));
        assert_eq!(keys.iter().collect::<std::collections::HashSet<_>>().len(), 4);
    }
}
