//! One upstream server as this front sees it: its cap, its idle connections, its health.

use crate::authority::session::SessionKey;
use crate::engine::{Address, Conn};

use super::affinity::ServerName;
use super::check::Checks;
use super::health::{Breaker, Outcome, Readiness, Watch};

/// The right to have one request under way at a server. It goes back through [`super::Pools::release`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grant {
    /// The server's index.
    pub server: usize,
    /// The browser's cookie names the server.
    pub affinity: bool,
    /// The request decides whether the server may be asked again.
    pub probe: bool,
}

/// What is known of a server; it outlives the statements that name it.
#[derive(Debug)]
pub struct UpstreamServer {
    pub address: Address,
    pub name: ServerName,
    pub breaker: Breaker,
    pub watch: Watch,
    pub checks: Checks,
    /// Some statement in force names it.
    pub named: bool,
    outstanding: u32,
    /// This front's share of the server's cap.
    outstanding_max: u32,
    idle: Vec<Conn>,
    /// Connections in all states, those of checks not included.
    connections: u32,
    requests: u64,
    failed: u64,
}

impl UpstreamServer {
    pub fn new(address: &Address, key: &SessionKey) -> Self {
        Self {
            address: address.clone(),
            name: ServerName::of(address, key),
            breaker: Breaker::new(1),
            watch: Watch::new(1, 1),
            checks: Checks::default(),
            named: true,
            outstanding: 0,
            outstanding_max: 0,
            idle: Vec::new(),
            connections: 0,
            requests: 0,
            failed: 0,
        }
    }

    /// Sets this front's share of the cap; requests under way beyond it end in peace.
    pub fn set_outstanding_max(&mut self, outstanding_max: u32) {
        self.outstanding_max = outstanding_max;
    }

    /// Whether it may be asked, by what checks and requests have found.
    pub fn readiness(&self, now_ns: u64) -> Readiness {
        if self.watch.is_up() { self.breaker.readiness(now_ns) } else { Readiness::Out }
    }

    /// One more request may be under way.
    pub fn has_room(&self) -> bool {
        self.outstanding < self.outstanding_max
    }

    /// Takes a place for a request; true if it is the probe.
    ///
    /// # Panics
    /// If the cap is reached: nobody may ask a server that has no room.
    pub fn acquire(&mut self, now_ns: u64) -> bool {
        assert!(self.outstanding < self.outstanding_max, "{}: the cap is never exceeded", self.address);
        self.outstanding += 1;
        self.requests += 1;
        self.breaker.begin(now_ns)
    }

    /// Gives a place back.
    ///
    /// # Panics
    /// If none is taken.
    pub fn release(&mut self, now_ns: u64, probe: bool, outcome: Outcome) {
        assert!(self.outstanding > 0, "{}: a place is given back once", self.address);
        self.outstanding -= 1;
        self.failed += u64::from(outcome == Outcome::Failed);
        let (before, ejections) = (self.breaker.readiness(now_ns), self.breaker.ejections());
        self.breaker.settle(now_ns, probe, outcome);
        let address = &self.address;
        if self.breaker.ejections() > ejections {
            log::warn!(address:%, ejections = ejections + 1; "the upstream server is ejected: requests to it fail");
        } else if before != Readiness::Ready && self.breaker.readiness(now_ns) == Readiness::Ready {
            log::info!(address:%; "the upstream server serves again");
        }
    }

    /// The connection that was used last: it is the least likely to be closed by the server.
    pub fn take_idle(&mut self) -> Option<Conn> {
        self.idle.pop()
    }

    /// Keeps a connection for the next request; false if there are enough, or nobody will ask.
    pub fn give_back(&mut self, conn: Conn) -> bool {
        let keeps = self.named && self.idle.len() < self.outstanding_max as usize;
        if keeps {
            self.idle.push(conn);
        }
        keeps
    }

    /// Forgets an idle connection that closed.
    pub fn forget(&mut self, conn: Conn) {
        self.idle.retain(|idle| *idle != conn);
    }

    /// A connection was opened.
    pub fn opened(&mut self) {
        self.connections += 1;
    }

    /// A connection is gone.
    pub fn closed(&mut self) {
        self.connections = self.connections.saturating_sub(1);
    }

    /// Nothing refers to it any more: its index may be given to another server.
    pub fn is_forgotten(&self) -> bool {
        !self.named && self.outstanding == 0 && self.connections == 0 && !self.checks.is_running()
    }

    pub fn outstanding(&self) -> u32 {
        self.outstanding
    }

    pub fn outstanding_max(&self) -> u32 {
        self.outstanding_max
    }

    pub fn idle_count(&self) -> usize {
        self.idle.len()
    }

    pub fn connections(&self) -> u32 {
        self.connections
    }

    /// Requests since the start.
    pub fn requests(&self) -> u64 {
        self.requests
    }

    /// Those of them that failed by its fault.
    pub fn failed(&self) -> u64 {
        self.failed
    }

    /// One word for the console.
    pub fn state(&self, now_ns: u64) -> &'static str {
        match (self.named, self.watch.is_up(), self.breaker.readiness(now_ns)) {
            (false, _, _) => "leaving",
            (true, false, _) => "down",
            (true, true, Readiness::Ready) => "up",
            (true, true, Readiness::Probe | Readiness::Out) => "ejected",
        }
    }
}
