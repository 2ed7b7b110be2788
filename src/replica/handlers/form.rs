//! Forms: pages that ask, and ask again with what was wrong.

use minijinja::Value as Shown;

use crate::http1;
use crate::replica::job::{Accept, Job, SessionChange};
use crate::tables::code::{Action, Form};
use crate::tables::{Row, TableId};

use super::input::{Errors, Sent, shown_errors, spelled};
use super::{Call, Refusal, json, local_address, page, render};

/// Shows a form. A visitor without a session gets one first, because the form's CSRF token belongs to a session: the
/// browser is sent to the same page again with the new cookie.
pub fn show(call: &Call<'_>, form: &Form, path: &str, job: &mut Job) -> Result<(), Refusal> {
    if job.identity.csrf.is_empty() {
        let address = local_address(&job.mount, path, &job.query);
        job.response.status = 303;
        job.response.location.push_str(&address);
        job.response.session = SessionChange::Begin { user: String::new() };
        job.response.cache_control = "no-store";
        return Ok(());
    }
    let row = row(call, form)?;
    let action = &call.application.actions[form.action];
    let values = Shown::from_pairs(action.inputs.iter().map(|input| {
        let text = row.and_then(|(table, row)| {
            let shape = call.scene.tables.shapes().get(table);
            let field = shape.field(&input.name).filter(|field| !shape.fields[*field].secret)?;
            Some(spelled(shape.fields[field].kind, row.get(field)))
        });
        // A link may fill a form in: /requisitions/new?item=libc6.
        let text = text.or_else(|| http1::form::find(&job.query, &input.name).map(std::borrow::Cow::into_owned));
        (input.name.to_string(), Shown::from(text.unwrap_or_default()))
    }));
    let asked = Asked { form, row, values, errors: &Errors::new(), message: "", status: 200 };
    write(call, &asked, path, job)
}

/// Answers input that cannot be taken: the form again, or its errors as JSON.
pub fn again(
    call: &Call<'_>,
    action: &Action,
    sent: &Sent,
    errors: &Errors,
    refusal: Refusal,
    path: &str,
    job: &mut Job,
) -> Result<(), Refusal> {
    if job.accept == Accept::Json {
        json_errors(&refusal, errors, job);
        return Ok(());
    }
    let Some(form) = action.form.map(|form| &call.application.forms[form]) else {
        let listed: Vec<String> = errors.iter().map(|(name, message)| format!("{name}: {message}")).collect();
        return Err(if listed.is_empty() { refusal } else { Refusal::new(refusal.status, listed.join(" ")) });
    };
    let value = |name: &str| call.parameter(&action.path, name).or_else(|| sent.text(name)).unwrap_or("");
    let call = Call { values: form.path.parameters().map(value).collect(), who: call.who, ..*call };
    let asked = Asked {
        form,
        row: row(&call, form)?,
        values: sent.values(&action.inputs),
        errors,
        message: if errors.is_empty() { &refusal.reason } else { "" },
        status: refusal.status,
    };
    write(&call, &asked, path, job)
}

/// A form with what it shows.
struct Asked<'f> {
    form: &'f Form,
    row: Option<(TableId, &'f Row)>,
    values: Shown,
    errors: &'f Errors,
    message: &'f str,
    status: u16,
}

fn row<'c>(call: &Call<'c>, form: &Form) -> Result<Option<(TableId, &'c Row)>, Refusal> {
    let Some((table, key)) = &form.row else { return Ok(None) };
    let key = call.fill(key, &form.path, |_| None).ok_or_else(Refusal::missing)?;
    let row = call.scene.tables.get(*table, &key).ok_or_else(Refusal::missing)?;
    if let Some(guard) = &form.guard
        && !call.guard(guard, &form.path, *table, row)?
    {
        return Err(Refusal::missing());
    }
    Ok(Some((*table, row)))
}

fn write(call: &Call<'_>, asked: &Asked<'_>, path: &str, job: &mut Job) -> Result<(), Refusal> {
    job.response.cache_control = "no-store";
    let form = asked.form;
    let action = &call.application.actions[form.action];
    let below = action.path.fill(|name| call.parameter(&form.path, name)).unwrap_or_default();
    let address = format!("{}{below}", job.mount);
    if job.accept == Accept::Json {
        let body = &mut job.response.body;
        body.clear();
        body.push(b'{');
        for (name, value) in [("form", &*form.name), ("action", &address), ("csrf", &job.identity.csrf)] {
            json::name(name, body);
            json::text(value, body);
        }
        json::name("values", body);
        body.push(b'{');
        for input in &action.inputs {
            json::name(&input.name, body);
            let value = asked.values.get_attr(&input.name).unwrap_or_default();
            json::text(value.as_str().unwrap_or(""), body);
        }
        body.extend_from_slice(b"}}");
        job.response.status = asked.status;
        job.response.content_type = page::JSON;
        return Ok(());
    }
    let text = |name: &str| http1::form::find(&job.query, name).map(std::borrow::Cow::into_owned);
    let next = asked.values.get_attr("next").ok().and_then(|next| next.as_str().map(str::to_owned));
    let mut context = call
        .context(path, job)
        .with("view", &*form.name)
        .with("title", &*form.title)
        .with("parameters", call.parameters(&form.path))
        .with("action", address)
        .with("values", asked.values.clone())
        .with("errors", shown_errors(asked.errors))
        .with("message", asked.message)
        .with("next", next.filter(|next| !next.is_empty()).or_else(|| text("next")).unwrap_or_default());
    if let Some((table, row)) = asked.row {
        context.push("key", &*row.key);
        context.push("row", render::row(call.scene.tables.shapes().get(table), row));
    }
    call.html(&form.template, context, asked.status, job)
}

fn json_errors(refusal: &Refusal, errors: &Errors, job: &mut Job) {
    job.response.status = refusal.status;
    job.response.content_type = page::JSON;
    job.response.cache_control = "no-store";
    let body = &mut job.response.body;
    body.clear();
    body.push(b'{');
    json::name("status", body);
    json::number(refusal.status, body);
    json::name("error", body);
    json::text(&refusal.reason, body);
    json::name("errors", body);
    body.push(b'{');
    for (name, message) in errors {
        json::name(name, body);
        json::text(message, body);
    }
    body.extend_from_slice(b"}}");
}
