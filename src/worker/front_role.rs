//! The front server of a worker, with the first network dispatcher before it.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::clock::Clocks;
use crate::dispatch::connections::{self, ConnectionDispatcher, Load};
use crate::dispatch::relocation::{MOVES_MAX, Relocator};
use crate::dispatch::requests;
use crate::engine::{Conn, Engine, Event};
use crate::front::FrontServer;
use crate::front::reason::Reason;
use crate::front::server::TICK_NS;
use crate::front::upstream::group::SharedGroup;
use crate::front::upstream::server::UpstreamServer;
use crate::mesh::depth::DepthBoard;

use super::complaints::Complaints;
use super::load_board::LoadBoard;
use super::movers::Movers;
use super::status::{FrontRejects, FrontStatus, UpstreamGroupStatus, UpstreamStatus};
use super::watch::Watch;
use super::{Layout, Message, Port};

/// A connection that took no request for so long is given away first: whoever sends all the time is what makes a core
/// busy, and better stays alone on it than moves.
const QUIET_BEFORE_NS: u64 = 5_000_000;

/// Where front servers and replica servers publish how much work they have.
pub struct Boards {
    /// By front number.
    pub loads: Arc<LoadBoard>,
    /// By replica number.
    pub depths: Arc<DepthBoard>,
}

/// A front server in a worker.
pub struct FrontRole {
    pub front: u16,
    pub server: FrontServer,
    pub listen: String,
    placer: ConnectionDispatcher,
    relocator: Relocator,
    movers: Movers,
    /// Whether a connection may be taken to move at any moment between two requests, not only a quiet one.
    movers_any: bool,
    threshold: u32,
    boards: Boards,
    /// The last copy of `boards.depths`.
    depths: Vec<u32>,
    loads: Vec<Load>,
    /// Whether `loads` is of this turn.
    fresh: bool,
    /// How much of the last tick this thread was running, in thousandths.
    busy_permille: u32,
    /// When the last tick was, and the thread's processor time then.
    ticked_ns: u64,
    cpu_ns: u64,
    next_tick_ns: u64,
    complaints: Complaints,
    /// Where the next search for idle connections begins.
    search_from: usize,
}

impl FrontRole {
    pub fn new(front: u16, server: FrontServer, listen: String, threshold: u32, boards: Boards) -> Self {
        let loads = vec![Load::default(); boards.loads.fronts()];
        let depths = vec![0; boards.depths.workers()];
        Self {
            front,
            server,
            listen,
            placer: ConnectionDispatcher::new(),
            relocator: Relocator::default(),
            movers: Movers::default(),
            movers_any: false,
            threshold,
            boards,
            depths,
            loads,
            fresh: false,
            busy_permille: 0,
            ticked_ns: 0,
            cpu_ns: 0,
            next_tick_ns: 0,
            complaints: Complaints::default(),
            search_from: 0,
        }
    }

    /// Begins a turn: takes the published depths, if the policy goes by them.
    pub fn observe_depths(&mut self) {
        if self.server.dispatcher().reads_depths() {
            self.boards.depths.snapshot(&mut self.depths);
            self.server.dispatcher_mut().observe(&self.depths);
        }
    }

    /// Takes in which replicas may be given jobs, and moves what is out at those that hang.
    pub fn observe_replicas<E: Engine>(&mut self, engine: &mut E, watch: &Watch) {
        for replica in watch.replicas() {
            self.server.dispatcher_mut().set_available(replica, watch.is_open(replica));
        }
        for replica in watch.replicas().filter(|replica| watch.is_hung(*replica)) {
            self.server.take_out(engine, replica);
        }
        // What waited may be served by one that is back.
        self.server.pump(engine);
    }

    /// An event of the engine. New connections go through the first dispatcher.
    pub fn on_event<E: Engine>(&mut self, engine: &mut E, port: &mut Port, layout: &Layout, event: Event) {
        match event {
            Event::Accepted { conn, .. } => self.on_accepted(engine, port, layout, conn),
            Event::Data { conn, .. } | Event::Eof { conn } | Event::Sent { conn } => {
                let waits = matches!(event, Event::Data { .. } | Event::Eof { .. });
                if waits && self.movers.take_back(conn) {
                    self.server.stay(engine, conn);
                }
                self.server.on_event(engine, event);
                // Between an answer and the next request even a busy connection is idle for a moment.
                if self.movers_any && self.movers.wants() && self.server.may_leave(conn) {
                    self.begin_leaving(engine, conn);
                }
            }
            Event::Connected { .. } | Event::Closed { .. } | Event::Timer { .. } | Event::Woken => {
                self.server.on_event(engine, event);
            }
        }
    }

    /// Places a new connection on the front with the least work.
    fn on_accepted<E: Engine>(&mut self, engine: &mut E, port: &mut Port, layout: &Layout, conn: Conn) {
        let own = usize::from(self.front);
        if !self.fresh {
            self.read_loads();
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

    fn read_loads(&mut self) {
        self.fresh = true;
        for (front, load) in self.loads.iter_mut().enumerate() {
            *load = self.boards.loads.read(front);
        }
        self.loads[usize::from(self.front)] = self.load();
    }

    fn load(&self) -> Load {
        let connections = self.server.open_connections();
        Load {
            connections,
            exchanges: self.server.load().saturating_sub(connections),
            busy_permille: self.busy_permille,
            draining: self.server.is_draining(),
        }
    }

    /// Looks whether idle connections should be elsewhere, and begins to move them.
    fn relocate<E: Engine>(&mut self, engine: &mut E, now_ns: u64) {
        if self.movers.leaving() > 0 {
            return;
        }
        let own = usize::from(self.front);
        self.read_loads();
        self.movers.forget_wanted();
        self.relocator.look(own, &self.loads);
        for _ in 0..MOVES_MAX {
            let Some(next) = self.relocator.next(own, &mut self.loads) else { break };
            self.movers.want(next.to);
        }
        self.movers_any = self.relocator.may_take_any();
        // The copy counts moves that may not come about.
        self.fresh = false;
        while self.movers.wants()
            && let Some(conn) = self.server.idle_connection(self.search_from, now_ns.saturating_sub(QUIET_BEFORE_NS))
        {
            self.search_from = conn.slot as usize + 1;
            self.begin_leaving(engine, conn);
        }
    }

    fn begin_leaving<E: Engine>(&mut self, engine: &mut E, conn: Conn) {
        self.server.begin_leaving(engine, conn);
        self.movers.begin(conn, engine.now_ns());
    }

    /// Ends a turn: connections that have become quiet go to their new front servers.
    pub fn hand_over<E: Engine>(&mut self, engine: &mut E, port: &mut Port, layout: &Layout) {
        let mut index = 0;
        while let Some(mover) = self.movers.get(index) {
            if let Some(socket) = self.server.leave_with(engine, mover.conn) {
                self.movers.take_back(mover.conn);
                if let Err(Message::Connection(socket)) =
                    port.send(layout.front_workers[mover.to], Message::Connection(socket))
                {
                    self.adopt(engine, socket, true);
                }
            } else if engine.now_ns() >= mover.until_ns || !self.server.is_idle(mover.conn) {
                self.movers.take_back(mover.conn);
                self.server.stay(engine, mover.conn);
            } else {
                index += 1;
            }
        }
    }

    /// Takes in a connection that another front accepted.
    pub fn adopt<E: Engine>(&mut self, engine: &mut E, socket: std::os::fd::OwnedFd, adopted: bool) {
        // A socket that the engine cannot take is closed by its drop, as a shed connection is.
        if let Ok(conn) = engine.adopt(socket) {
            self.server.begin_connection(engine, conn, adopted);
        }
    }

    /// Ends a turn: what was taken and answered within it has taken until now.
    pub fn settle_notes<C: Clocks>(&mut self, clocks: &C) {
        if self.server.has_ended() {
            self.server.settle_notes(clocks.monotonic_ns());
        }
    }

    /// Ends a turn: tells the other fronts how much work is here.
    pub fn publish_load(&mut self) {
        self.fresh = false;
        self.boards.loads.publish(usize::from(self.front), &self.load());
    }

    /// Deadlines of connections; returns when to come again.
    pub fn tick<E: Engine, C: Clocks>(&mut self, engine: &mut E, clocks: &C) -> u64 {
        let now = engine.now_ns();
        if now >= self.next_tick_ns {
            self.measure(now, clocks.cpu_ns());
            self.server.tick(engine);
            let log_dropped = self.server.notes().log().map_or(0, |log| log.dropped);
            self.complaints.look(now, self.front, &engine.statistics(), log_dropped);
            self.relocate(engine, now);
            self.next_tick_ns = now + TICK_NS;
        }
        let soon = self.server.dispatcher().waiting() > 0 || self.movers.leaving() > 0;
        if soon { self.next_tick_ns.min(now + 1_000_000) } else { self.next_tick_ns }
    }

    /// How busy the core was since the last tick.
    fn measure(&mut self, now_ns: u64, cpu_ns: u64) {
        let (ran_ns, passed_ns) = (cpu_ns - self.cpu_ns.min(cpu_ns), now_ns - self.ticked_ns.min(now_ns));
        if self.ticked_ns > 0 && passed_ns > 0 {
            self.busy_permille = u32::try_from(ran_ns.saturating_mul(1000) / passed_ns).unwrap_or(1000).min(1000);
        }
        (self.cpu_ns, self.ticked_ns) = (cpu_ns, now_ns);
    }

    pub fn drain<E: Engine>(&mut self, engine: &mut E, on: bool) {
        self.server.drain(engine, on);
    }

    pub fn rejects(&self) -> FrontRejects {
        FrontRejects { front: self.front, rejects: self.server.notes().rejects.clone() }
    }

    pub fn status(&self, now_ns: u64) -> FrontStatus {
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
            flights: self.server.flights().counters,
            flights_books: self.server.flights().books(),
            outstanding: dispatcher.replicas().iter().map(|replica| replica.outstanding).collect(),
            waiting: dispatcher.waiting(),
            dispatched_local: counters.picked_local,
            dispatched_remote: counters.picked_remote,
            dispatched_after_wait: counters.waited,
            request_decisions: dispatcher.decisions().iter().map(request_decision).collect(),
            connection_decisions: self.placer.decisions().iter().map(connection_decision).collect(),
            upstreams: self.server.upstreams().servers().iter().map(|server| upstream(server, now_ns)).collect(),
            upstream_groups: self
                .server
                .upstreams()
                .groups()
                .iter()
                .map(|group| upstream_group(group, now_ns))
                .collect(),
        }
    }
}

fn upstream(server: &UpstreamServer, now_ns: u64) -> UpstreamStatus {
    UpstreamStatus {
        address: server.address.to_string(),
        state: server.state(now_ns),
        outstanding: server.outstanding(),
        outstanding_max: server.outstanding_max(),
        connections: server.connections(),
        idle_connections: server.idle_count(),
        requests: server.requests(),
        failures: server.breaker.failures(),
        requests_failed: server.failed(),
        ejections: server.breaker.ejections(),
        ejected_for_ms: server.breaker.ejected_for_ns(now_ns).unwrap_or(0) / 1_000_000,
        checks_passed: server.watch.passed(),
        checks_failed: server.watch.failed(),
        last_check: server.checks.last(),
    }
}

fn upstream_group(group: &SharedGroup, now_ns: u64) -> UpstreamGroupStatus {
    let mut group = group.borrow_mut();
    UpstreamGroupStatus {
        pattern: group.pattern.to_string(),
        waiting: group.queue.waiting(),
        waited: group.queue.waited(),
        queue_refused: group.queue.refused(),
        queue_expired: group.queue.expired(),
        retries: group.budget.begun(),
        retries_denied: group.budget.denied(),
        retries_left: group.budget.left(now_ns),
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
