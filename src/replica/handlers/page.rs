//! Whole answers: HTML through templates, JSON objects, and refusals as either.

use std::borrow::Cow;
use std::io::Write as _;

use minijinja::Value as Shown;

use crate::http1::form;
use crate::replica::job::{Accept, Job};
use crate::tables::code::{Pattern, RoutePath};

use super::render::Context;
use super::{Call, Refusal, json};

pub const HTML: &str = "text/html; charset=utf-8";
pub const JSON: &str = "application/json";
/// Shown in place of the built-in page, if the application has it.
const ERROR_TEMPLATE: &str = "error.html";
/// Seconds after which a shed request may be sent again.
pub const RETRY_AFTER_S: u32 = 1;

impl Call<'_> {
    /// What every template is given.
    pub fn context(&self, path: &str, job: &Job) -> Context {
        let application = Shown::from_pairs([
            ("name", Shown::from(&*self.application.name)),
            ("title", Shown::from(&*self.application.title)),
            ("sign_in", Shown::from(&*self.application.sign_in)),
        ]);
        let query: Vec<(String, Shown)> =
            form::pairs(&job.query).map(|(name, value)| (name.into_owned(), Shown::from(&*value))).collect();
        Context::default()
            .with("application", application)
            .with("mount", job.mount.as_str())
            .with("path", path)
            .with("query", Shown::from_pairs(query))
            .with("user", self.who.shown())
            .with("csrf", job.identity.csrf.as_str())
            .with("code_version", self.scene.code.version)
            .with("replica", self.scene.replica)
    }

    /// Path parameters by name, for templates and expressions.
    pub fn parameters(&self, path: &RoutePath) -> Shown {
        Shown::from_pairs(path.parameters().zip(self.values.iter().map(|value| Shown::from(*value))))
    }

    /// Fills a pattern from path parameters, the user's name and `more`.
    pub fn fill<'v>(
        &'v self,
        pattern: &Pattern,
        path: &RoutePath,
        more: impl Fn(&str) -> Option<Cow<'v, str>>,
    ) -> Option<Cow<'v, str>> {
        pattern.fill(|name| match name {
            "user.name" => Some(Cow::Borrowed(self.who.name())),
            name => self.parameter(path, name).map(Cow::Borrowed).or_else(|| more(name)),
        })
    }

    /// Renders a template into the response.
    pub fn html(&self, template: &str, context: Context, status: u16, job: &mut Job) -> Result<(), Refusal> {
        let response = &mut job.response;
        response.body.clear();
        self.application.templates.render_to(template, context.into(), &mut response.body)?;
        response.status = status;
        response.content_type = HTML;
        Ok(())
    }
}

/// Answers with a reason in place of a page.
pub fn refuse(call: Option<&Call<'_>>, path: &str, job: &mut Job, refusal: &Refusal) {
    let response = &mut job.response;
    response.status = refusal.status;
    response.location.clear();
    response.etag.clear();
    response.body.clear();
    response.cache_control = "no-store";
    if refusal.status == 503 {
        response.retry_after_s = RETRY_AFTER_S;
    }
    if job.accept == Accept::Json {
        let body = &mut response.body;
        response.content_type = JSON;
        body.push(b'{');
        json::name("status", body);
        json::number(refusal.status, body);
        json::name("error", body);
        json::text(&refusal.reason, body);
        body.push(b'}');
        return;
    }
    if let Some(call) = call.filter(|call| call.application.templates.contains(ERROR_TEMPLATE)) {
        let context = call
            .context(path, job)
            .with("status", refusal.status)
            .with("error", refusal.reason.as_str())
            .with("title", title(refusal.status));
        // A broken error page must not hide the error: then the built-in one is shown.
        if call.html(ERROR_TEMPLATE, context, refusal.status, job).is_ok() {
            return;
        }
        job.response.body.clear();
    }
    plain(job, title(refusal.status), &refusal.reason);
}

/// The built-in page of a reason.
pub fn plain(job: &mut Job, title: &str, reason: &str) {
    job.response.content_type = HTML;
    let reason = reason.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let page = format!(
        "<!doctype html>\n<html lang=\"en\"><title>{title}</title>\n<h1>{title}</h1>\n<p>{reason}</p>\n</html>\n"
    );
    job.response.body.write_all(page.as_bytes()).expect("invariant: writing to a vector cannot fail");
}

/// Answers without an application's pages: for jobs that never reached their handler.
pub fn refuse_plainly(job: &mut Job, status: u16, reason: &str) {
    job.response.session = Default::default();
    refuse(None, "", job, &Refusal::new(status, reason));
}

fn title(status: u16) -> &'static str {
    match status {
        202 => "Accepted",
        400 => "Bad request",
        401 => "Not signed in",
        403 => "Not allowed",
        404 => "Not found",
        405 => "Wrong method",
        409 => "Conflict",
        415 => "Unknown media type",
        422 => "Wrong input",
        500 => "Error in the application",
        503 => "Busy",
        _ => "Error",
    }
}
