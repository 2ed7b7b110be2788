//! One request of a browser, with what it may rely on.

use std::fmt;

use crate::front::authorize::COOKIE;

use super::ledger::{Ledger, Level};

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Write a note that nobody else writes.
    Put(Level),
    /// Write it, and be shown the row by the same answer.
    Show,
    /// Read it.
    Get(Level),
    /// Delete it.
    Remove,
    /// Increment a counter that all increment.
    Count,
    /// Write a note that everybody writes.
    Share(Level),
    /// Order something, which an agent posts.
    Order,
    /// The page that the role table opens to users of even or odd versions.
    Gate,
    /// Write a note by a role that is given and taken.
    Guarded,
    /// Give or take that role.
    Grant(bool),
}

/// A request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    pub kind: Kind,
    /// Of the row; the user of a [`Kind::Grant`].
    pub key: String,
    pub value: String,
    /// The deploy that had returned when it was sent.
    pub version_min: u64,
    /// Whether the sender had the role for certain, and how often that had changed.
    pub granted: Option<bool>,
    pub role_changes: u64,
    /// How often the process had been killed.
    pub kills: u64,
}

impl Operation {
    pub fn new(kind: Kind, key: String, value: String) -> Self {
        Self { kind, key, value, version_min: 0, granted: None, role_changes: 0, kills: 0 }
    }

    /// Notes what holds at the moment in which it is sent.
    #[must_use]
    pub fn sent(mut self, ledger: &mut Ledger, user: &str) -> Self {
        self.version_min = ledger.deployed;
        self.kills = ledger.kills;
        if let Kind::Grant(_) = self.kind {
            let role = ledger.role(&self.key);
            role.granted = None;
            role.changes += 1;
            self.role_changes = role.changes;
        } else {
            let role = ledger.role(user);
            self.granted = role.granted;
            self.role_changes = role.changes;
        }
        self
    }

    /// Whether it changes anything.
    pub fn is_write(&self) -> bool {
        match self.kind {
            Kind::Get(_) | Kind::Gate => false,
            Kind::Put(_)
            | Kind::Show
            | Kind::Remove
            | Kind::Count
            | Kind::Share(_)
            | Kind::Order
            | Kind::Guarded
            | Kind::Grant(_) => true,
        }
    }

    fn path(&self) -> String {
        let key = &self.key;
        match self.kind {
            Kind::Put(level) | Kind::Share(level) => format!("/sim/{}/{key}", level.word()),
            Kind::Show => format!("/sim/shown/{key}"),
            Kind::Count => format!("/sim/durable/{key}"),
            Kind::Get(_) => format!("/sim/notes/{key}"),
            Kind::Remove => format!("/sim/remove/{key}"),
            Kind::Order => format!("/sim/orders/{key}"),
            Kind::Gate => "/sim/gate".to_owned(),
            Kind::Guarded => format!("/sim/guarded/{key}"),
            Kind::Grant(_) => format!("/sim/grant/{key}"),
        }
    }

    /// The request as bytes.
    pub fn encode(&self, cookie: &str, csrf: &str) -> Vec<u8> {
        let path = self.path();
        if !self.is_write() {
            let format = if self.kind == Kind::Gate { "" } else { "?format=json" };
            return format!("GET {path}{format} HTTP/1.1\r\nHost: sim\r\nCookie: {COOKIE}={cookie}\r\n\r\n")
                .into_bytes();
        }
        let body = format!("text={}", self.value.replace(' ', "+"));
        let format = if self.kind == Kind::Show { "" } else { "?format=json" };
        format!(
            "POST {path}{format} HTTP/1.1\r\nHost: sim\r\nCookie: {COOKIE}={cookie}\r\nX-CSRF-Token: {csrf}\r\n\
             Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
        .into_bytes()
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let method = if self.is_write() { "POST" } else { "GET" };
        write!(out, "{method} {} {:?}", self.path(), self.value)
    }
}
