//! The front server of a worker, with the first network dispatcher before it.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::clock;
use crate::dispatch::connections::{self, ConnectionDispatcher, Load};
use crate::dispatch::requests;
use crate::engine::{Conn, Engine, Event};
use crate::front::FrontServer;
use crate::front::reason::Reason;
use crate::mesh::depth::DepthBoard;

use super::status::{FrontRejects, FrontStatus, UpstreamStatus};
use super::{Layout, Message, Port};

/// A front server in a worker.
pub struct FrontRole {
    pub front: u16,
    pub server: FrontServer,
    pub listen: String,
    placer: ConnectionDispatcher,
    threshold: u32,
    /// Work of every front, by front number; [`DRAINING`] for one that takes no more.
    board: Arc<DepthBoard>,
    loads: Vec<Load>,
    /// Whether `loads` is of this turn.
    fresh: bool,
    published: u32,
    next_tick_ns: u64,
}

/// The work that a draining front publishes.
const DRAINING: u32 = u32::MAX;

impl FrontRole {
    pub fn new(front: u16, server: FrontServer, listen: String, threshold: u32, board: Arc<DepthBoard>) -> Self {
        let loads = vec![Load::default(); board.workers()];
        let placer = ConnectionDispatcher::new();
        Self { front, server, listen, placer, threshold, board, loads, fresh: false, published: 0, next_tick_ns: 0 }
    }

    /// An event of the engine. New connections go through the first dispatcher.
    pub fn on_event<E: Engine>(&mut self, engine: &mut E, port: &mut Port, layout: &Layout, event: Event) {
        if let Event::Accepted { conn, .. } = event {
            self.on_accepted(engine, port, layout, conn);
        } else {
            self.server.on_event(engine, event);
        }
    }

    /// Places a new connection on the front with the least work.
    fn on_accepted<E: Engine>(&mut self, engine: &mut E, port: &mut Port, layout: &Layout, conn: Conn) {
        let own = usize::from(self.front);
        if !self.fresh {
            self.fresh = true;
            for (front, load) in self.loads.iter_mut().enumerate() {
                let work = if front == own { self.server.load() } else { self.board.read(front) };
                *load = Load { connections: work, exchanges: 0, draining: work == DRAINING };
            }
            self.loads[own].draining = self.server.is_draining();
        }
        let front = self.placer.place(own, &mut self.loads, self.threshold);
        if front != own
            && let Some(socket) = engine.detach(conn)
        {
            match port.send(layout.front_workers[front], Message::Connection(socket)) {
                Ok(()) => return self.server.handed_off(),
                Err(Message::Connection(socket)) => self.adopt(engine, socket, false),
                Err(_) => {}
            }
            return;
        }
        self.server.begin_connection(engine, conn, false);
    }

    /// Takes in a connection that another front accepted.
    pub fn adopt<E: Engine>(&mut self, engine: &mut E, socket: std::os::fd::OwnedFd, adopted: bool) {
        // A socket that the engine cannot take is closed by its drop, as a shed connection is.
        if let Ok(conn) = engine.adopt(socket) {
            self.server.begin_connection(engine, conn, adopted);
        }
    }

    /// Ends a turn: what was taken and answered within it has taken until now.
    pub fn settle_notes(&mut self) {
        if self.server.has_ended() {
            self.server.settle_notes(clock::monotonic_ns());
        }
    }

    /// Ends a turn: tells the other fronts how much work is here.
    pub fn publish_load(&mut self) {
        self.fresh = false;
        let load = if self.server.is_draining() { DRAINING } else { self.server.load() };
        if load != self.published {
            self.published = load;
            self.board.publish(usize::from(self.front), load);
        }
    }

    /// Deadlines of connections; returns when to come again.
    pub fn tick<E: Engine>(&mut self, engine: &mut E) -> u64 {
        let now = engine.now_ns();
        if now >= self.next_tick_ns {
            self.server.tick(engine);
            self.next_tick_ns = now + crate::front::server::TICK_NS;
        }
        if self.server.dispatcher().waiting() > 0 { self.next_tick_ns.min(now + 1_000_000) } else { self.next_tick_ns }
    }

    pub fn drain<E: Engine>(&mut self, engine: &mut E, on: bool) {
        self.server.drain(engine, on);
    }

    pub fn rejects(&self) -> FrontRejects {
        FrontRejects { front: self.front, rejects: self.server.notes().rejects.clone() }
    }

    pub fn status(&self) -> FrontStatus {
        let dispatcher = self.server.dispatcher();
        let counters = dispatcher.counters();
        FrontStatus {
            front: self.front,
            listen: self.listen.clone(),
            load: self.server.load(),
            open_connections: self.server.open_connections(),
            requests_in_progress: self.server.counters().requests_in_progress(),
            draining: self.server.is_draining(),
            site_version: self.server.site_version(),
            counters: *self.server.counters(),
            endings: endings(&self.server),
            books: self.server.books(),
            latency: self.server.notes().latency.clone(),
            rejected: self.server.notes().rejects.total(),
            log_lines: self.server.notes().log().map_or(0, |log| log.pushed),
            log_dropped: self.server.notes().log().map_or(0, |log| log.dropped),
            dispatch: counters,
            placement: self.placer.counters(),
            outstanding: dispatcher.replicas().iter().map(|replica| replica.outstanding).collect(),
            waiting: dispatcher.waiting(),
            dispatched_local: counters.picked_local,
            dispatched_remote: counters.picked_remote,
            dispatched_after_wait: counters.waited,
            request_decisions: dispatcher.decisions().iter().map(request_decision).collect(),
            connection_decisions: self.placer.decisions().iter().map(connection_decision).collect(),
            upstreams: self
                .server
                .upstreams()
                .servers()
                .iter()
                .map(|server| UpstreamStatus {
                    address: server.address.to_string(),
                    outstanding: server.outstanding,
                    idle_connections: server.idle_count(),
                    requests: server.requests,
                    failures: server.failures,
                })
                .collect(),
        }
    }
}

fn endings(server: &FrontServer) -> BTreeMap<&'static str, u64> {
    let counts = Reason::ALL.iter().zip(server.notes().endings);
    counts.filter(|(_, count)| *count > 0).map(|(reason, count)| (reason.word(), count)).collect()
}

fn request_decision(decision: &requests::Decision) -> String {
    let waited =
        decision.waited_ns.map_or_else(String::new, |waited| format!(", after {} µs in the queue", waited / 1000));
    format!("replica {}: {}, {} outstanding{waited}", decision.replica, decision.reason.as_str(), decision.outstanding)
}

fn connection_decision(decision: &connections::Decision) -> String {
    let connections::Decision { from, to, reason, work_from, work_to } = decision;
    format!("front {from} → front {to}: {}, work {work_from} and {work_to}", reason.as_str())
}
