//! What a user keeps of a response while its bytes arrive.

use super::cache::Freshness;
use super::{Fetch, Role};
use crate::check::{Checker, Checks};
use crate::response::Sink;

/// Bytes of a document or style sheet that are kept; the rest is counted and dropped.
pub const DOCUMENT_BYTES_MAX: usize = 8 << 20;

/// A response, and what its step checks in it.
#[derive(Debug, Default)]
pub struct Incoming {
    pub location: Option<String>,
    pub content_type: String,
    pub cookies: Vec<String>,
    pub freshness: Freshness,
    pub body: Vec<u8>,
    keeps_body: bool,
    pub checker: Checker,
    /// All fields, for a session that is recorded.
    headers: Option<Vec<(String, String)>>,
}

impl Incoming {
    /// Makes room for the next response. Of assets only style sheets are kept.
    /// `recorded` keeps all fields.
    pub fn expect(&mut self, fetch: &Fetch, checks: Option<&Checks>, recorded: bool) {
        self.headers = recorded.then(Vec::new);
        self.location = None;
        self.content_type.clear();
        self.cookies.clear();
        self.freshness = Freshness::default();
        self.body.clear();
        self.keeps_body = match fetch.role {
            Role::Document | Role::Sheet => true,
            Role::Asset => false,
        };
        if let Some(checks) = checks {
            self.checker.begin(checks);
        }
    }

    /// All fields, if they were to be kept.
    pub fn headers(&self) -> &[(String, String)] {
        self.headers.as_deref().unwrap_or_default()
    }

    pub fn is_html(&self) -> bool {
        let kind = self.content_type.split(';').next().unwrap_or("").trim();
        kind.eq_ignore_ascii_case("text/html") || kind.eq_ignore_ascii_case("application/xhtml+xml")
    }

    fn header(&mut self, name: &[u8], value: &[u8]) {
        let text = || String::from_utf8_lossy(value).into_owned();
        if let Some(headers) = &mut self.headers {
            headers.push((String::from_utf8_lossy(name).into_owned(), text()));
        }
        if name.eq_ignore_ascii_case(b"location") {
            self.location = Some(text());
        } else if name.eq_ignore_ascii_case(b"set-cookie") {
            self.cookies.push(text());
        } else if name.eq_ignore_ascii_case(b"content-type") {
            self.content_type = text();
        } else {
            self.freshness.header(name, value);
        }
    }

    fn body(&mut self, bytes: &[u8]) {
        if self.keeps_body {
            let room = DOCUMENT_BYTES_MAX.saturating_sub(self.body.len());
            self.body.extend_from_slice(&bytes[..bytes.len().min(room)]);
        }
    }
}

/// The sink of a response: its user's eyes, and its step's checks.
pub struct Reading<'r> {
    pub incoming: &'r mut Incoming,
    pub checks: Option<&'r Checks>,
}

impl Sink for Reading<'_> {
    fn header(&mut self, name: &[u8], value: &[u8]) {
        self.incoming.header(name, value);
        if let Some(checks) = self.checks {
            self.incoming.checker.header(checks, name, value);
        }
    }

    fn body(&mut self, bytes: &[u8]) {
        self.incoming.body(bytes);
        if let Some(checks) = self.checks {
            self.incoming.checker.body(checks, bytes);
        }
    }
}
