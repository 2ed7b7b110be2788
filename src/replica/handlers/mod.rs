//! What a request does: a pure function of the code version, the data tables and the request.
//!
//! ```text
//!   Job ──▶ application ─▶ who asks ─▶ route ─▶ authority ─▶ CSRF ─▶ view · form · action · sign-in
//!              │404          │ended,       │404 405   │401 303 403  │403          │
//!              ▼             ▼ inactive    ▼          ▼             ▼             ▼
//!                                                            Step: Finished, Write or Verify
//! ```
//! Architecture invariant: a handler changes nothing but its job's response; what is to be written leaves as a
//! [`Step`], because it happens only once the database has committed it.

mod action;
mod form;
mod input;
mod json;
mod page;
mod render;
mod sign_in;
mod version;
mod view;
mod who;

use std::fmt;
use std::sync::Arc;

use crate::authority::session;
use crate::authority::table::Verb;
use crate::http1::Method;
use crate::http1::form::find as form_field;
use crate::replica::job::{Accept, Job, SessionChange};
use crate::tables::code::{Acknowledge, Application, CodeVersion, Page, percent_encode};
use crate::tables::{DataTables, Record, TableId};

use input::Sent;
use who::Who;

pub use action::written;
pub use page::refuse_plainly;
pub use sign_in::verified;

/// What a handler looks at.
#[derive(Clone, Copy)]
pub struct Scene<'a> {
    pub code: &'a CodeVersion,
    pub tables: &'a DataTables,
    pub replica: u8,
    /// Now, for expressions and new rows.
    pub unix_ms: u64,
    /// A hybrid time of this replica that no other row's key was made of.
    pub fresh: u64,
    /// A password hash that nobody's password has: checked for unknown users, so that time does not tell them apart.
    pub decoy_hash: &'a str,
    /// Whose agents do the work that is ordered, where several appliances share a database.
    pub appliance: Option<u64>,
}

/// What follows.
#[derive(Debug)]
pub enum Step {
    /// The response is complete.
    Finished,
    /// Rows are to be written; then [`written`] completes the response.
    Write(Write),
    /// A password is to be checked; then [`verified`] completes the response.
    Verify(Verify),
}

/// One row to write or, without a record, to delete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edit {
    pub table: TableId,
    pub key: Box<str>,
    pub record: Option<Record>,
}

/// Rows that an action writes, all or none.
#[derive(Debug)]
pub struct Write {
    pub edits: Vec<Edit>,
    pub acknowledge: Acknowledge,
    pub after: After,
}

/// What the answer needs to know once the rows are written.
#[derive(Clone, Debug)]
pub struct After {
    /// Number of the action in its application.
    pub action: usize,
    /// Row that was written.
    pub key: Box<str>,
    pub created: bool,
    /// Path below the mount that shows the outcome, percent-encoded.
    pub location: String,
    /// The same, decoded.
    pub target: String,
    pub session: SessionChange,
    pub agent: Option<AgentRun>,
}

/// Work that an agent is to be told of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentRun {
    pub application: Arc<str>,
    /// Such as `requisition-submit`.
    pub agent: Box<str>,
    /// Key in `agent_work`.
    pub work: Box<str>,
}

/// A password to check.
#[derive(Debug)]
pub struct Verify {
    pub user: Box<str>,
    pub hash: Box<str>,
    pub password: Box<str>,
    /// The user exists and is active: otherwise the answer is no, whatever the check says.
    pub known: bool,
}

/// An answer that is not the page itself: its status and a reason for people.
#[derive(Debug)]
struct Refusal {
    status: u16,
    reason: String,
    /// The request was right and the code failed: counted, and the detail is logged, not shown.
    fault: Option<String>,
}

impl Refusal {
    fn new(status: u16, reason: impl Into<String>) -> Self {
        Self { status, reason: reason.into(), fault: None }
    }

    fn missing() -> Self {
        Self::new(404, "There is no such page.")
    }
}

impl From<minijinja::Error> for Refusal {
    fn from(error: minijinja::Error) -> Self {
        let fault = Some(format!("{error:#}"));
        Self { fault, ..Self::new(500, "The page could not be made.") }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} {}", self.status, self.reason)
    }
}

/// One request on its way through the handlers.
struct Call<'a> {
    scene: Scene<'a>,
    application: &'a Application,
    who: Who<'a>,
    /// Values of the path's parameters, in order.
    values: Vec<&'a str>,
}

/// Executes a job. Returns the step, and the code's fault if the answer is a 500.
pub fn handle(scene: Scene<'_>, job: &mut Job) -> (Step, Option<String>) {
    job.response.code_version = scene.code.version;
    job.response.replica = scene.replica;
    if job.accept != Accept::Json && form_field(&job.query, "format").is_some_and(|format| format == "json") {
        job.accept = Accept::Json;
    }
    // The path is borrowed while the response is written, so it leaves the job for that time.
    let path = std::mem::take(&mut job.path);
    let outcome = match scene.code.application(&job.application) {
        Some(application) => handle_in(scene, application, &path, job),
        None => {
            page::refuse(None, &path, job, &Refusal::missing());
            (Step::Finished, None)
        }
    };
    job.path = path;
    outcome
}

fn handle_in<'a>(
    scene: Scene<'a>,
    application: &'a Application,
    path: &'a str,
    job: &mut Job,
) -> (Step, Option<String>) {
    let who = who::recognize(scene, &mut job.identity);
    let mut call = Call { scene, application, who, values: Vec::new() };
    match call.run(path, job) {
        Ok(step) => (step, None),
        Err(refusal) => {
            page::refuse(Some(&call), path, job, &refusal);
            (Step::Finished, refusal.fault)
        }
    }
}

impl<'a> Call<'a> {
    fn run(&mut self, path: &'a str, job: &mut Job) -> Result<Step, Refusal> {
        let found = self.application.router.find(path).ok_or_else(Refusal::missing)?;
        self.values = found.values;
        let route = found.route;
        match job.method {
            Method::Get | Method::Head => match route.get {
                Some(Page::View(index)) => {
                    let view = &self.application.views[index];
                    if self.authorize(&view.name, Verb::Read, path, job)? {
                        view::show(self, view, path, 200, job)?;
                    }
                    Ok(Step::Finished)
                }
                Some(Page::Form(index)) => {
                    let form = &self.application.forms[index];
                    if self.authorize(&form.name, Verb::Open, path, job)? {
                        form::show(self, form, path, job)?;
                    }
                    Ok(Step::Finished)
                }
                None => Err(wrong_method("POST", job)),
            },
            Method::Post => {
                let Some(index) = route.post else { return Err(wrong_method("GET, HEAD", job)) };
                let action = &self.application.actions[index];
                if !self.authorize(&action.name, Verb::Run, path, job)? {
                    return Ok(Step::Finished);
                }
                let sent = Sent::parse(&job.content_type, &job.body)?;
                self.check_csrf(&sent, job)?;
                action::run(self, index, action, &sent, path, job)
            }
            Method::Put
            | Method::Delete
            | Method::Options
            | Method::Patch
            | Method::Trace
            | Method::Connect
            | Method::Other => {
                let allow = match (route.get.is_some(), route.post.is_some()) {
                    (true, true) => "GET, HEAD, POST",
                    (true, false) => "GET, HEAD",
                    (false, _) => "POST",
                };
                Err(wrong_method(allow, job))
            }
        }
    }

    /// Whether the authority table allows it; false if a visitor has been sent to sign in.
    fn authorize(&self, code: &str, verb: Verb, path: &str, job: &mut Job) -> Result<bool, Refusal> {
        if self.application.authority.decide(self.who.roles(), code, verb).is_allow() {
            return Ok(true);
        }
        if self.who.signed_in() {
            return Err(Refusal::new(403, format!("None of your roles may {} {code}.", verb.name())));
        }
        if job.accept == Accept::Json {
            return Err(Refusal::new(401, "Sign in first."));
        }
        // To be sent from the sign-in page to the sign-in page would never end.
        if self.application.sign_in.strip_prefix(job.mount.as_str()) == Some(path) {
            return Err(Refusal::new(
                403,
                format!("The page to sign in is closed: nobody may {} {code}.", verb.name()),
            ));
        }
        // After a form was sent, the page it came from is gone: the visitor begins at the application's first page.
        let next = match job.method {
            Method::Get | Method::Head => local_address(&job.mount, path, &job.query),
            Method::Post
            | Method::Put
            | Method::Delete
            | Method::Options
            | Method::Patch
            | Method::Trace
            | Method::Connect
            | Method::Other => local_address(&job.mount, "/", ""),
        };
        job.response.status = 303;
        job.response.location.push_str(&self.application.sign_in);
        job.response.location.push_str("?next=");
        percent_encode(&next, &mut job.response.location);
        job.response.cache_control = "no-store";
        Ok(false)
    }

    fn check_csrf(&self, sent: &Sent, job: &Job) -> Result<(), Refusal> {
        let token = sent.text("csrf").unwrap_or(&job.csrf_header);
        if session::csrf_matches(&job.identity, token) {
            return Ok(());
        }
        Err(Refusal::new(403, "The form is not from this session. Go back, load the page again and send it once more."))
    }

    /// The value of a path parameter.
    fn parameter(&self, names: &crate::tables::code::RoutePath, name: &str) -> Option<&'a str> {
        let index = names.parameters().position(|known| known == name)?;
        self.values.get(index).copied()
    }
}

fn wrong_method(allow: &'static str, job: &mut Job) -> Refusal {
    job.response.allow = allow;
    Refusal::new(405, format!("This page has {allow} only."))
}

/// A path on this site, percent-encoded, with its query.
fn local_address(mount: &str, path: &str, query: &str) -> String {
    let mut address = mount.to_owned();
    for segment in path.split('/').skip(1) {
        address.push('/');
        percent_encode(segment, &mut address);
    }
    if !query.is_empty() {
        address.push('?');
        address.push_str(query);
    }
    address
}
