//! Active checks of upstream servers: their connections and what comes of them.

use crate::engine::{Chunk, Close, Conn, Engine, Event};

use super::FrontServer;
use super::upstream::check::Verdict;

impl FrontServer {
    /// Begins the checks that are due and ends those that take too long.
    pub(super) fn check_upstreams<E: Engine>(&mut self, engine: &mut E) {
        let now = engine.now_ns();
        for index in 0..self.pools.servers().len() {
            let server = self.pools.server(index);
            if server.checks.is_overdue(now) {
                self.end_check(engine, index, Verdict::LATE);
            } else if server.checks.is_due(now) && !self.admission.is_draining() {
                let conn = engine.connect(&server.address).ok();
                server.checks.begin(conn, now);
                if conn.is_none() {
                    // No socket of our own is no fault of the server: the next check is as good.
                    continue;
                }
                self.checks_running += 1;
            }
        }
    }

    /// Ends all checks under way without a verdict: the front stops.
    pub(super) fn abandon_checks<E: Engine>(&mut self, engine: &mut E) {
        for index in 0..self.pools.servers().len() {
            if let Some(conn) = self.pools.server(index).checks.conn() {
                engine.close(conn, Close::Reset);
                self.pools.server(index).checks.end(None);
                self.checks_running -= 1;
            }
        }
    }

    /// Takes an event of a check's connection; gives every other event back.
    pub(super) fn on_check_event<E: Engine>(&mut self, engine: &mut E, event: Event) -> Option<Event> {
        if self.checks_running == 0 {
            return Some(event);
        }
        let conn = match &event {
            Event::Connected { conn, .. }
            | Event::Data { conn, .. }
            | Event::Eof { conn }
            | Event::Sent { conn }
            | Event::Closed { conn, .. } => *conn,
            Event::Accepted { .. } | Event::Timer { .. } | Event::Woken => return Some(event),
        };
        let Some(index) = self.pools.checked_by(conn) else { return Some(event) };
        match event {
            Event::Connected { result: Ok(()), .. } => self.on_check_connected(engine, index, conn),
            Event::Connected { result: Err(_), .. } => self.end_check(engine, index, Verdict::REFUSED),
            Event::Data { bytes, .. } => {
                if let Some(verdict) = self.pools.server(index).checks.read(bytes, &self.settings.parse) {
                    self.end_check(engine, index, verdict);
                }
            }
            Event::Eof { .. } | Event::Closed { .. } => self.end_check(engine, index, Verdict::CUT),
            Event::Sent { .. } | Event::Accepted { .. } | Event::Timer { .. } | Event::Woken => {}
        }
        None
    }

    fn on_check_connected<E: Engine>(&mut self, engine: &mut E, index: usize, conn: Conn) {
        let server = self.pools.server(index);
        match server.checks.connected(&server.address.to_string()) {
            Ok(request) => {
                engine.receive(conn, true);
                let end = request.len();
                engine.send(conn, Chunk::Shared(request.into(), 0..end));
            }
            Err(verdict) => self.end_check(engine, index, verdict),
        }
    }

    fn end_check<E: Engine>(&mut self, engine: &mut E, index: usize, verdict: Verdict) {
        let now = engine.now_ns();
        let server = self.pools.server(index);
        if let Some(conn) = server.checks.conn() {
            engine.close(conn, Close::Reset);
            self.checks_running -= 1;
        }
        server.checks.end(Some(verdict));
        // A server that is no longer checked has no verdict.
        if server.checks.plan().is_none() {
            return;
        }
        // Each front checks for itself; one of them tells.
        if server.watch.note(verdict.passed) && self.settings.upstream.front == 0 {
            let (address, reason) = (&server.address, verdict.reason);
            if verdict.passed {
                ::log::info!(address:%, reason; "the upstream server is up");
            } else {
                ::log::warn!(address:%, reason; "the upstream server is down");
            }
        }
        if verdict.passed {
            server.breaker.hasten(now);
        }
    }
}
