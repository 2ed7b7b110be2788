//! A dispatched request and its answer, in one box that travels to the replica and back and is used again.

use std::sync::Arc;

use crate::authority::session::Identity;
use crate::http1::Method;

/// Where a reply must go: the worker and the exchange on it that wait for the job.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    pub worker: u16,
    pub slot: u32,
    pub generation: u32,
    /// Counts the exchanges of the connection, so that a late reply cannot answer a later request.
    pub exchange: u32,
    /// The front's number for this one of the job's ways to a replica: a reply that comes by an earlier one is late.
    pub flight: u32,
}

/// What the browser prefers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Accept {
    #[default]
    Html,
    Json,
}

/// A request as a replica needs it. All buffers keep their capacity from use to use.
#[derive(Debug, Default)]
pub struct Job {
    pub origin: Origin,
    /// The application that the statement named.
    pub application: Arc<str>,
    pub method: Method,
    /// Path below the application's mount point, beginning with `/`, percent-decoded.
    pub path: String,
    /// The mount point, such as `/reqcat`: templates put it before their links.
    pub mount: String,
    /// Query as received, without `?`.
    pub query: String,
    pub accept: Accept,
    pub identity: Identity,
    /// `If-None-Match` as received; empty if absent.
    pub if_none_match: String,
    /// Media type of the body, lower case, without parameters; empty if absent.
    pub content_type: String,
    /// `X-CSRF-Token`, for requests that send no form.
    pub csrf_header: String,
    pub body: Vec<u8>,
    /// Monotonic nanoseconds: when the front took the request, and when it stops being worth serving.
    pub taken_ns: u64,
    pub deadline_ns: u64,
    /// When the front chose a replica, and when the replica began, for `Server-Timing`.
    pub dispatched_ns: u64,
    pub started_ns: u64,
    pub response: Response,
}

/// The session cookie that an answer sets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum SessionChange {
    #[default]
    None,
    /// A session for this user (empty: a visitor, who needs one for the CSRF token of the sign-in form). The front
    /// signs it and sets the cookie.
    Begin { user: String },
    /// Clears the cookie.
    End,
}

/// The answer. The front adds framing, `Date`, `Server` and connection headers.
#[derive(Debug, Default)]
pub struct Response {
    pub status: u16,
    pub content_type: &'static str,
    pub location: String,
    pub etag: String,
    /// Methods for a 405.
    pub allow: &'static str,
    pub cache_control: &'static str,
    pub retry_after_s: u32,
    pub session: SessionChange,
    pub body: Vec<u8>,
    /// The code version that produced it.
    pub code_version: u64,
    /// The replica that produced it.
    pub replica: u8,
}

impl Job {
    /// Makes the box ready for its next request without giving memory back.
    pub fn clear(&mut self) {
        self.path.clear();
        self.mount.clear();
        self.query.clear();
        self.identity.user.clear();
        self.identity.session.clear();
        self.identity.csrf.clear();
        self.identity.expires_ms = 0;
        self.if_none_match.clear();
        self.content_type.clear();
        self.csrf_header.clear();
        self.body.clear();
        self.response.clear();
    }
}

impl Response {
    pub fn clear(&mut self) {
        self.status = 0;
        self.content_type = "";
        self.location.clear();
        self.etag.clear();
        self.allow = "";
        self.cache_control = "";
        self.retry_after_s = 0;
        self.session = SessionChange::None;
        self.body.clear();
        self.code_version = 0;
    }
}
