//! The way up: an exchange's request to an upstream server, without copying bodies.

use crate::engine::{Close, Conn, Engine};

use super::connection::Downstream;
use super::exchange::{Exchange, State};
use super::forwarding::Asked;
use super::reason::Reason;
use super::respond::Writer;
use super::server::FrontServer;
use super::trace::Served;
use super::upstream::group::SharedGroup;
use super::upstream::health::Outcome;
use super::upstream::pool::Choice;
use super::upstream::server::Grant;
use super::upstream::{Ride, UpstreamConnection, UpstreamState};

impl FrontServer {
    /// Sends the exchange's request to a server of its statement, at once or when one has room.
    pub(super) fn begin_relay<E: Engine>(&mut self, engine: &mut E, down: &mut Downstream) {
        self.counters.to_upstreams += 1;
        let Some(group) = self.pools.group(down.exchange.route) else {
            return self.refuse(engine, down, Reason::UpstreamNone, "the statement names no upstream server");
        };
        group.borrow_mut().budget.request(engine.now_ns());
        down.exchange.course.group = Some(group);
        self.find_server(engine, down);
    }

    /// Chooses a server for a new request, or for one that is sent again.
    pub(super) fn find_server<E: Engine>(&mut self, engine: &mut E, down: &mut Downstream) {
        down.exchange.state = State::Relay;
        let Some(group) = down.exchange.course.group.clone() else {
            return self.refuse(engine, down, Reason::UpstreamNone, "the statement names no upstream server");
        };
        match self.choose_server(&group, down, false, engine.now_ns()) {
            Choice::Server(grant) => self.ask_server(engine, down, &group, grant),
            Choice::Wait => self.wait_for_server(engine, down, &group),
            Choice::Nobody => self.refuse(engine, down, Reason::UpstreamDrains, "every upstream server drains"),
        }
    }

    /// Sends the request to the server that has a place for it.
    pub(super) fn ask_server<E: Engine>(
        &mut self,
        engine: &mut E,
        down: &mut Downstream,
        group: &SharedGroup,
        grant: Grant,
    ) {
        let now = engine.now_ns();
        down.exchange.attempts += 1;
        down.exchange.picked_ns = now;
        let shared = self.may_ride_together(down);
        let Some(mut up) = self.upstream_connection(engine, grant.server, shared, down.exchange.course.renewed) else {
            // No slot or socket of our own is no fault of the server.
            self.pools.release(grant, Outcome::Unknown, now);
            let text = "no connection to an upstream server could be opened";
            return self.refuse(engine, down, Reason::UpstreamSlots, text);
        };
        let reason = Reason::of_grant(grant, down.exchange.attempts, down.exchange.course.waited);
        down.exchange.trace.placed(Served::Upstream(grant.server), reason, now);
        up.rides.push_back(Ride { down: down.conn, method: down.exchange.head.method, grant, abandoned: false });
        down.exchange.upstream = Some(up.conn);
        if up.rides.len() == 1 {
            up.shared = shared;
            let group = group.borrow();
            up.first_byte_ns = group.first_byte_ns;
            up.idle_ns = group.idle_ns;
            up.deadline_ns = match up.state {
                UpstreamState::Connecting => now + group.connect_ns,
                UpstreamState::Idle | UpstreamState::Exchanging | UpstreamState::Tunnel | UpstreamState::Closing => {
                    now + up.first_byte_ns
                }
            };
        }
        if up.state != UpstreamState::Connecting {
            up.state = UpstreamState::Exchanging;
            self.send_request(engine, down, &mut up);
        }
        self.offer(&mut up);
        self.put_upstream(up);
    }

    /// Whether this request may share an upstream connection: a safe one without a body (RFC 9112 section 9.3.2), sent
    /// for the first time. What has failed once goes alone.
    fn may_ride_together(&self, down: &Downstream) -> bool {
        let exchange = &down.exchange;
        self.settings.pipeline_max > 1
            && exchange.attempts == 1
            && exchange.head.method.is_safe()
            && !exchange.head.framing.has_body()
            && !exchange.head.upgrade
    }

    /// Puts a connection among those that take more riders, if it may have more.
    pub(super) fn offer(&mut self, up: &mut UpstreamConnection) {
        if !up.offered && up.takes_more(self.settings.pipeline_max) {
            up.offered = true;
            self.offers.add(up.server, up.conn);
        }
    }

    /// A connection that carries others of its kind, an idle one of the pool, or a new one; `fresh` asks for a new
    /// one. It is out of its slot.
    fn upstream_connection<E: Engine>(
        &mut self,
        engine: &mut E,
        server: usize,
        shared: bool,
        fresh: bool,
    ) -> Option<Box<UpstreamConnection>> {
        while shared && let Some(conn) = self.offers.last(server) {
            if let Some(mut up) = self.take_upstream(conn) {
                if up.takes_more(self.settings.pipeline_max) {
                    self.counters.upstream_reuses += 1;
                    return Some(up);
                }
                up.offered = false;
                self.put_upstream(up);
            }
            self.offers.remove_last(server);
        }
        while !fresh && let Some(conn) = self.pools.server(server).take_idle() {
            if let Some(up) = self.take_upstream(conn) {
                self.counters.upstream_reuses += 1;
                return Some(up);
            }
        }
        let conn = engine.connect(&self.pools.server(server).address).ok()?;
        self.counters.upstream_connects += 1;
        self.pools.server(server).opened();
        Some(Box::new(UpstreamConnection::new(conn, server)))
    }

    /// The connection stands: sends the request that waited for it.
    pub(super) fn on_connected<E: Engine>(&mut self, engine: &mut E, conn: Conn, result: std::io::Result<()>) {
        let Some(mut up) = self.take_upstream(conn) else { return };
        if result.is_err() {
            // `Closed` follows, finds the exchange and notes the failure.
            self.put_upstream(up);
            return;
        }
        engine.receive(conn, true);
        // Nothing rides together before the server has shown that its connections persist: there is one ride.
        let Some(mut down) = up.downstream().and_then(|conn| self.take_downstream(conn)) else {
            engine.close(conn, Close::Reset);
            self.put_upstream(up);
            return;
        };
        down.exchange.trace.connected_ns = engine.now_ns();
        up.state = UpstreamState::Exchanging;
        up.deadline_ns = engine.now_ns() + up.first_byte_ns;
        self.send_request(engine, &mut down, &mut up);
        self.put_upstream(up);
        self.advance(engine, &mut down);
        self.put_downstream(down);
    }

    fn send_request<E: Engine>(&mut self, engine: &mut E, down: &mut Downstream, up: &mut UpstreamConnection) {
        let exchange = &mut down.exchange;
        exchange.sent_ns = engine.now_ns();
        let asked = Asked {
            head: &exchange.head,
            bytes: &exchange.head_bytes,
            peer: engine.peer(down.conn).map(|address| address.ip()),
            upgrade: exchange.upgrade,
        };
        let mut out = Writer::new(engine, up.conn);
        asked.encode(&mut out, &self.settings.forwarding);
        out.finish();
        self.relay_request_body(engine, down, up);
    }

    /// Until when the next piece of an answer must come: the time between two pieces is bounded, and so is the whole.
    pub(super) fn answer_deadline_ns(&self, now_ns: u64, exchange: &Exchange, up: &UpstreamConnection) -> u64 {
        let whole_ns = exchange.sent_ns.saturating_add(self.settings.answer.ns(up.body.payload_bytes()));
        whole_ns.min(now_ns + up.first_byte_ns)
    }

    /// Passes on what has arrived of the request's body, validated but with its framing untouched.
    pub(super) fn relay_request_body<E: Engine>(
        &mut self,
        engine: &mut E,
        down: &mut Downstream,
        up: &mut UpstreamConnection,
    ) {
        if down.exchange.body_done {
            return;
        }
        if up.state == UpstreamState::Exchanging {
            self.expect_continue(engine, down);
        }
        while !down.exchange.body_done && !down.input.is_empty() && up.state == UpstreamState::Exchanging {
            match down.exchange.body.relay(down.input.front()) {
                Ok(step) => {
                    down.exchange.body_done = step.done;
                    up.deadline_ns = engine.now_ns() + up.first_byte_ns;
                    let piece = down.input.take(step.pass);
                    self.pass_up(engine, up, piece);
                    down.input.skip(step.skip);
                }
                Err(reject) => {
                    self.close_upstream(engine, up);
                    if let Some(ride) = up.rides.pop_front() {
                        self.pools.release(ride.grant, Outcome::Unknown, engine.now_ns());
                    }
                    down.exchange.upstream = None;
                    self.reject(engine, down, &reject);
                    return;
                }
            }
        }
        if !down.paused && self.is_full(engine, up.conn, up.queue) {
            down.paused = true;
            engine.receive(down.conn, false);
        }
    }

    /// The upstream server took all that was queued: reads on where its slowness had stopped the browser.
    pub(super) fn on_upstream_sent<E: Engine>(&mut self, engine: &mut E, up: &UpstreamConnection) {
        let Some(mut down) = up.downstream().and_then(|conn| self.take_downstream(conn)) else { return };
        if down.paused {
            down.paused = false;
            engine.receive(down.conn, true);
        }
        self.put_downstream(down);
    }
}
