//! The servers of one statement at one front: who they are, who is next, who waits, what may be sent again.

use std::cell::RefCell;
use std::rc::Rc;

use crate::front::server::Ticket;
use crate::front::settings::UpstreamSettings;
use crate::statements::table::Route;
use crate::statements::upstream::{Observe, Options};

use super::budget::RetryBudget;
use super::pick::Turns;
use super::queue::WaitQueue;

/// A group and those of its exchanges that are under way: it lives as long as any of them.
pub type SharedGroup = Rc<RefCell<Group>>;

/// A server in a statement.
#[derive(Clone, Debug)]
pub struct Member {
    /// Its index in the pools.
    pub server: usize,
    pub weight: u32,
    pub drain: bool,
    /// The value of `Set-Cookie` for its affinity; empty without.
    pub set_cookie: Box<str>,
}

/// One statement's servers. Times are nanoseconds.
#[derive(Debug)]
pub struct Group {
    /// Host and pattern: what it is known by when the statements change.
    host: Option<Box<str>>,
    pub pattern: Box<str>,
    pub(super) members: Vec<Member>,
    pub(super) turns: Turns,
    pub queue: WaitQueue<Ticket>,
    pub budget: RetryBudget,
    pub connect_ns: u64,
    pub first_byte_ns: u64,
    pub idle_ns: u64,
    pub wait_ns: u64,
    /// Times that a request may be sent again.
    pub retries_max: u32,
    pub observe: Observe,
    /// Name of the affinity cookie.
    pub affinity: Option<Box<str>>,
}

impl Group {
    pub(super) fn new(route: &Route) -> Self {
        Self {
            host: route.host.clone(),
            pattern: route.pattern.clone(),
            members: Vec::new(),
            turns: Turns::default(),
            queue: WaitQueue::new(0),
            budget: RetryBudget::new(0),
            connect_ns: 0,
            first_byte_ns: 0,
            idle_ns: 0,
            wait_ns: 0,
            retries_max: 0,
            observe: Observe::default(),
            affinity: None,
        }
    }

    /// Whether it is this statement's.
    pub(super) fn is_of(&self, route: &Route) -> bool {
        self.host == route.host && self.pattern == route.pattern
    }

    /// Takes over what the statement says now; who waits and what was spent stays.
    pub(super) fn update(&mut self, members: Vec<Member>, options: &Options, defaults: &UpstreamSettings) {
        let ns = |ms: Option<u64>, default_ns: u64| ms.map_or(default_ns, |ms| ms * 1_000_000);
        self.turns = Turns::new(members.len());
        self.members = members;
        self.queue.places_max = options.queue.unwrap_or(defaults.queue_max) as usize;
        self.budget.percent = options.budget_percent.unwrap_or(defaults.retry_percent);
        self.connect_ns = ns(options.connect_ms, defaults.connect_ns);
        self.first_byte_ns = ns(options.first_byte_ms, defaults.first_byte_ns);
        self.idle_ns = ns(options.idle_ms, defaults.idle_ns);
        self.wait_ns = ns(options.wait_ms, defaults.wait_ns);
        self.retries_max = options.retries.unwrap_or(defaults.retries_max);
        self.observe = options.observe;
        self.affinity = options.affinity.clone();
    }

    /// Whether an answer with this status counts as the server's failure.
    pub fn is_failure(&self, status: u16) -> bool {
        self.observe == Observe::Answers && matches!(status, 500 | 502..=504)
    }

    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// What to set so that a browser stays with a server.
    pub fn set_cookie(&self, server: usize) -> &str {
        self.members.iter().find(|member| member.server == server).map_or("", |member| &*member.set_cookie)
    }
}
