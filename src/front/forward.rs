//! Relaying an exchange between a browser and an upstream server, without copying bodies.

use std::rc::Rc;

use crate::engine::{Chunk, Close, Conn, Engine};
use crate::http1::body::BodyReader;
use crate::http1::encode::Sink as _;
use crate::http1::head::Framing;
use crate::http1::parse::{self, Progress};

use super::connection::{Downstream, Piece};
use super::exchange::State;
use super::respond::{self, Context, Writer};
use super::server::FrontServer;
use super::upstream::affinity;
use super::upstream::group::SharedGroup;
use super::upstream::health::Outcome;
use super::upstream::pool::Choice;
use super::upstream::retry::{Loss, Next};
use super::upstream::server::Grant;
use super::upstream::{UpstreamConnection, UpstreamState};

/// Bodies up to this size are copied behind their head: one buffer to send is cheaper than two.
const COPY_BYTES_MAX: usize = 4096;
/// What a browser is told when its server failed.
const NO_ANSWER: &str = "the upstream server gave no answer";

/// How an upstream connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// The server sent its end; the connection still stands in the other direction.
    Orderly,
    /// A deadline of its own has passed.
    Overdue,
    /// The engine has closed it: its slot may belong to another connection already.
    Closed,
}

fn chunk_of(piece: Piece) -> Option<Chunk> {
    match piece {
        Piece::Empty => None,
        Piece::Lease(lease) => Some(Chunk::Lease(lease)),
        Piece::Heap(bytes) => {
            let end = bytes.len();
            Some(Chunk::Shared(bytes.into(), 0..end))
        }
    }
}

impl FrontServer {
    /// Sends the exchange's request to a server of its statement, at once or when one has room.
    pub(super) fn begin_relay<E: Engine>(&mut self, engine: &mut E, down: &mut Downstream) {
        down.exchange.state = State::Relay;
        self.counters.to_upstreams += 1;
        let Some(group) = self.pools.group(down.exchange.route) else {
            return self.refuse(engine, down, 502, "the statement names no upstream server");
        };
        group.borrow_mut().budget.request(engine.now_ns());
        down.exchange.course.group = Some(Rc::clone(&group));
        self.find_server(engine, down, &group);
    }

    /// Chooses a server for a new request, or for one that is sent again.
    fn find_server<E: Engine>(&mut self, engine: &mut E, down: &mut Downstream, group: &SharedGroup) {
        match self.choose_server(group, down, false, engine.now_ns()) {
            Choice::Server(grant) => self.ask_server(engine, down, group, grant),
            Choice::Wait => self.wait_for_server(engine, down, group),
            Choice::Nobody => self.refuse(engine, down, 503, "every upstream server drains"),
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
        let opened = self.upstream_connection(engine, grant.server, down.exchange.course.renewed);
        let taken = opened.and_then(|(conn, reused)| Some((self.take_upstream(conn)?, reused)));
        let Some((mut up, reused)) = taken else {
            // No slot or socket of our own is no fault of the server.
            self.pools.release(&grant, Outcome::Unknown, now);
            return self.refuse(engine, down, 503, "no connection to an upstream server could be opened");
        };
        down.exchange.course.grant = Some(grant);
        let peer = engine.peer(down.conn).map(|address| address.ip());
        let conn = up.conn;
        up.downstream = Some(down.conn);
        up.reused = reused;
        up.head.clear();
        up.head_done = false;
        up.unchunk = false;
        let connect_ns = {
            let group = group.borrow();
            up.first_byte_ns = group.first_byte_ns;
            up.idle_ns = group.idle_ns;
            group.connect_ns
        };
        down.exchange.upstream = Some(conn);
        if reused {
            up.state = UpstreamState::Exchanging;
            up.deadline_ns = now + up.first_byte_ns;
            let mut out = Writer::new(engine, conn);
            respond::upstream_request(&mut out, &down.exchange.head, down.exchange.head_bytes.as_slice(), peer);
            out.finish();
            self.relay_request_body(engine, down, &mut up);
        } else {
            up.deadline_ns = now + connect_ns;
        }
        self.put_upstream(up);
    }

    /// An idle connection of the pool, or a new one; `fresh` asks for a new one.
    fn upstream_connection<E: Engine>(&mut self, engine: &mut E, server: usize, fresh: bool) -> Option<(Conn, bool)> {
        while !fresh && let Some(conn) = self.pools.server(server).take_idle() {
            if self.has_upstream(conn) {
                self.counters.upstream_reuses += 1;
                return Some((conn, true));
            }
        }
        let conn = engine.connect(&self.pools.server(server).address).ok()?;
        self.counters.upstream_connects += 1;
        self.pools.server(server).opened();
        self.put_upstream(Box::new(UpstreamConnection::new(conn, server)));
        Some((conn, false))
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
        let Some(mut down) = up.downstream.and_then(|conn| self.take_downstream(conn)) else {
            engine.close(conn, Close::Reset);
            self.put_upstream(up);
            return;
        };
        up.state = UpstreamState::Exchanging;
        up.deadline_ns = engine.now_ns() + up.first_byte_ns;
        let peer = engine.peer(down.conn).map(|address| address.ip());
        let mut out = Writer::new(engine, conn);
        respond::upstream_request(&mut out, &down.exchange.head, down.exchange.head_bytes.as_slice(), peer);
        out.finish();
        self.put_upstream(up);
        self.advance(engine, &mut down);
        self.put_downstream(down);
    }

    /// Passes on what has arrived of the request's body, validated but with its framing untouched.
    pub(super) fn relay_request_body<E: Engine>(
        &mut self,
        engine: &mut E,
        down: &mut Downstream,
        up: &mut UpstreamConnection,
    ) {
        while !down.exchange.body_done && !down.input.is_empty() && up.state == UpstreamState::Exchanging {
            match down.exchange.body.relay(down.input.front()) {
                Ok(step) => {
                    down.exchange.body_done = step.done;
                    up.deadline_ns = engine.now_ns() + up.first_byte_ns;
                    if let Some(chunk) = chunk_of(down.input.take(step.pass)) {
                        engine.send(up.conn, chunk);
                    }
                }
                Err(reject) => {
                    up.state = UpstreamState::Closing;
                    engine.close(up.conn, Close::Reset);
                    self.release_server(down, Outcome::Unknown, engine.now_ns());
                    up.downstream = None;
                    down.exchange.upstream = None;
                    self.reject(engine, down, &reject);
                    return;
                }
            }
        }
        let ahead = engine.queued_bytes(up.conn) > self.settings.buffer_bytes_max;
        if ahead && !down.paused {
            down.paused = true;
            engine.receive(down.conn, false);
        }
    }

    /// Bytes from an upstream server.
    pub(super) fn on_upstream_data<E: Engine>(&mut self, engine: &mut E, mut up: Box<UpstreamConnection>) {
        match up.state {
            UpstreamState::Idle => {
                // Nothing was asked: the connection cannot be trusted with another request.
                up.state = UpstreamState::Closing;
                up.input.clear();
                self.pools.server(up.server).forget(up.conn);
                engine.close(up.conn, Close::Reset);
            }
            UpstreamState::Closing | UpstreamState::Connecting => up.input.clear(),
            UpstreamState::Exchanging => {
                // Each piece of an answer earns the upstream server as much time again.
                up.deadline_ns = engine.now_ns() + up.first_byte_ns;
                if let Some(mut down) = up.downstream.and_then(|conn| self.take_downstream(conn)) {
                    self.relay_response(engine, &mut down, &mut up);
                    self.advance(engine, &mut down);
                    self.put_downstream(down);
                } else {
                    up.input.clear();
                }
            }
        }
        self.put_upstream(up);
    }

    fn relay_response<E: Engine>(&mut self, engine: &mut E, down: &mut Downstream, up: &mut UpstreamConnection) {
        while !up.head_done {
            match parse::parse_response(up.input.front(), down.exchange.head.method, &self.settings.parse, &mut up.head)
            {
                Ok(Progress::Incomplete) => {
                    if !up.input.gather() {
                        return;
                    }
                }
                Ok(Progress::Complete) if up.head.status == 101 => {
                    return self.fail_relay(engine, down, up, "the upstream server switched protocols unasked");
                }
                Ok(Progress::Complete) if up.head.is_interim() => {
                    // The front has answered `Expect` itself; other interim responses are passed on to HTTP/1.1.
                    let head = up.input.take(up.head.head_bytes);
                    if up.head.status != 100
                        && !down.exchange.is_http10()
                        && let Some(chunk) = chunk_of(head)
                    {
                        engine.send(down.conn, chunk);
                    }
                }
                Ok(Progress::Complete) => self.relay_head(engine, down, up),
                Err(reject) => return self.fail_relay(engine, down, up, reject.reason),
            }
        }
        // The time between two pieces is bounded, not that of a long body.
        up.deadline_ns = engine.now_ns() + up.first_byte_ns;
        self.relay_body(engine, down, up);
    }

    /// Sends the response's head, and with it as much of a small body as is there.
    fn relay_head<E: Engine>(&mut self, engine: &mut E, down: &mut Downstream, up: &mut UpstreamConnection) {
        up.head_done = true;
        up.deadline_ns = engine.now_ns() + up.first_byte_ns;
        let draining = self.admission.is_draining();
        let exchange = &mut down.exchange;
        let framing = up.head.framing;
        up.unchunk = exchange.is_http10() && framing == Framing::Chunked;
        // A body that ends with the connection, or a request that was not read to its end, ends the connection;
        // so does a drain that began meanwhile.
        if framing == Framing::UntilClose || up.unchunk || !exchange.body_done || draining {
            exchange.keep_alive = false;
        }
        exchange.answered = true;
        up.body = BodyReader::new(framing, u64::MAX);
        let context = Context::of(&exchange.head, exchange.keep_alive);
        self.counters.status(up.head.status);
        let head = up.input.take(up.head.head_bytes);
        let set_cookie = self.affinity_cookie(down);
        let mut out = Writer::new(engine, down.conn);
        respond::upstream_response(&mut out, context, &up.head, head.as_slice(), up.unchunk, &set_cookie);
        drop(head);
        let front = up.input.front();
        if !up.unchunk && !front.is_empty() && front.len() <= COPY_BYTES_MAX.min(out.room()) {
            let before = up.body.clone();
            match up.body.relay(front) {
                Ok(step) if step.done && step.pass == front.len() => {
                    out.put(front);
                    out.finish();
                    up.input.skip(step.pass);
                    return;
                }
                Ok(_) | Err(_) => up.body = before,
            }
        }
        out.finish();
    }

    fn relay_body<E: Engine>(&mut self, engine: &mut E, down: &mut Downstream, up: &mut UpstreamConnection) {
        while !up.body.is_done() && !up.input.is_empty() {
            let step = if up.unchunk {
                up.body.read(up.input.front()).map(|step| (step.consumed, step.data))
            } else {
                up.body.relay(up.input.front()).map(|step| (step.pass, 0..step.pass))
            };
            match step {
                Ok((0, _)) => break,
                Ok((consumed, data)) => {
                    let mut piece = up.input.take(consumed);
                    if let Piece::Lease(lease) = &mut piece {
                        lease.truncate(data.end);
                        lease.advance(data.start);
                    } else if let Piece::Heap(bytes) = &mut piece {
                        bytes.truncate(data.end);
                        bytes.drain(..data.start);
                    }
                    if !data.is_empty()
                        && let Some(chunk) = chunk_of(piece)
                    {
                        engine.send(down.conn, chunk);
                    }
                }
                Err(_) => return self.cut_relay(engine, down, up),
            }
        }
        if up.body.is_done() {
            self.finish_relay(engine, down, up);
        } else if engine.queued_bytes(down.conn) > self.settings.buffer_bytes_max && !up.paused {
            up.paused = true;
            engine.receive(up.conn, false);
        }
    }

    /// The response was read to its end: the connection goes back to the pool if nothing speaks against it.
    fn finish_relay<E: Engine>(&mut self, engine: &mut E, down: &mut Downstream, up: &mut UpstreamConnection) {
        let clean = up.head.keep_alive
            && up.head.framing != Framing::UntilClose
            && up.input.is_empty()
            && down.exchange.body_done;
        up.downstream = None;
        down.exchange.upstream = None;
        let group = down.exchange.course.group.as_ref();
        let failed = group.is_some_and(|group| group.borrow().is_failure(up.head.status));
        let outcome = if failed { Outcome::Failed } else { Outcome::Served };
        self.release_server(down, outcome, engine.now_ns());
        if up.paused {
            up.paused = false;
            engine.receive(up.conn, true);
        }
        if clean && self.pools.server(up.server).give_back(up.conn) {
            up.state = UpstreamState::Idle;
            up.deadline_ns = engine.now_ns() + up.idle_ns;
        } else {
            up.state = UpstreamState::Closing;
            engine.close(up.conn, Close::Reset);
        }
        self.counters.requests_answered += 1;
        self.finish_exchange(engine, down);
    }

    /// Gives the exchange's place at its server back, with what was found out about the server.
    pub(super) fn release_server(&mut self, down: &mut Downstream, outcome: Outcome, now_ns: u64) {
        if let Some(grant) = down.exchange.course.grant.take() {
            self.pools.release(&grant, outcome, now_ns);
        }
    }

    /// What to set so that the browser stays with its server; empty if it has it, or the statement has no affinity.
    fn affinity_cookie(&self, down: &Downstream) -> Box<str> {
        let exchange = &down.exchange;
        let (Some(group), Some(grant)) = (&exchange.course.group, &exchange.course.grant) else {
            return Box::default();
        };
        let group = group.borrow();
        let Some(cookie) = group.affinity.as_deref() else { return Box::default() };
        let sent = affinity::sent(&exchange.head, exchange.head_bytes.as_slice(), cookie);
        if sent.is_some_and(|sent| self.pools.servers()[grant.server].name == *sent) {
            return Box::default();
        }
        group.set_cookie(grant.server).into()
    }

    /// The upstream connection ended, failed or timed out.
    pub(super) fn on_upstream_end<E: Engine>(&mut self, engine: &mut E, mut up: Box<UpstreamConnection>, end: End) {
        let state = up.state;
        up.state = UpstreamState::Closing;
        match state {
            UpstreamState::Idle => self.pools.server(up.server).forget(up.conn),
            UpstreamState::Closing => {}
            UpstreamState::Connecting | UpstreamState::Exchanging => {
                if let Some(mut down) = up.downstream.take().and_then(|conn| self.take_downstream(conn)) {
                    if end == End::Orderly && up.head_done && up.head.framing == Framing::UntilClose {
                        self.finish_relay(engine, &mut down, &mut up);
                    } else if up.head_done {
                        self.cut_relay(engine, &mut down, &mut up);
                    } else {
                        self.retry_relay(engine, &mut down, &up, state, end);
                    }
                    self.advance(engine, &mut down);
                    self.put_downstream(down);
                }
            }
        }
        if end == End::Closed {
            self.pools.server(up.server).closed();
        }
        // What the engine has closed leaves its slot, in which a retry's connection may be by now.
        if end != End::Closed {
            engine.close(up.conn, Close::Reset);
            self.put_upstream(up);
        }
    }

    /// No whole head of an answer has come: the request is sent again, or answered with the reason.
    fn retry_relay<E: Engine>(
        &mut self,
        engine: &mut E,
        down: &mut Downstream,
        up: &UpstreamConnection,
        state: UpstreamState,
        end: End,
    ) {
        let now = engine.now_ns();
        let loss = Loss {
            sent: state != UpstreamState::Connecting,
            reused: up.reused,
            began: !up.input.is_empty(),
            overdue: end == End::Overdue,
            repeatable: down.exchange.head.method.is_idempotent() && !down.exchange.head.framing.has_body(),
        };
        down.exchange.upstream = None;
        let outcome = if loss.is_race() { Outcome::Unknown } else { Outcome::Failed };
        self.release_server(down, outcome, now);
        let course = &mut down.exchange.course;
        if outcome == Outcome::Failed {
            self.counters.upstream_failures += 1;
            course.tried.add(up.server);
        }
        // A retry that failed is over; the next one asks the budget again.
        course.retry = None;
        let Some(group) = course.group.clone() else { return self.refuse(engine, down, 502, NO_ANSWER) };
        let retries_left = group.borrow().retries_max.saturating_sub(course.tried.count().saturating_sub(1));
        let status = match loss.next(retries_left, course.renewed) {
            Next::Renew => {
                course.renewed = true;
                self.counters.upstream_retries += 1;
                return self.find_server(engine, down, &group);
            }
            Next::Retry(status) => {
                course.retry = group.borrow_mut().budget.begin(now);
                if course.retry.is_some() {
                    self.counters.upstream_retries += 1;
                    return self.find_server(engine, down, &group);
                }
                status
            }
            Next::Answer(status) => status,
        };
        let reason = if loss.overdue { "the upstream server did not answer in time" } else { NO_ANSWER };
        self.refuse(engine, down, status, reason);
    }

    /// Ends the upstream connection of an exchange by the server's fault.
    fn part<E: Engine>(&mut self, engine: &mut E, down: &mut Downstream, up: &mut UpstreamConnection) {
        up.state = UpstreamState::Closing;
        up.downstream = None;
        down.exchange.upstream = None;
        self.release_server(down, Outcome::Failed, engine.now_ns());
        self.counters.upstream_failures += 1;
        engine.close(up.conn, Close::Reset);
    }

    /// The upstream server's answer cannot be used, and nothing of it has been sent.
    fn fail_relay<E: Engine>(
        &mut self,
        engine: &mut E,
        down: &mut Downstream,
        up: &mut UpstreamConnection,
        reason: &str,
    ) {
        self.part(engine, down, up);
        self.refuse(engine, down, 502, reason);
    }

    /// The answer broke off after its head was sent: the browser must see that it is not whole.
    fn cut_relay<E: Engine>(&mut self, engine: &mut E, down: &mut Downstream, up: &mut UpstreamConnection) {
        self.part(engine, down, up);
        self.abort(engine, down);
    }

    /// The upstream server took all that was queued: reads on where its slowness had stopped the browser.
    pub(super) fn on_upstream_sent<E: Engine>(&mut self, engine: &mut E, up: &UpstreamConnection) {
        let Some(mut down) = up.downstream.and_then(|conn| self.take_downstream(conn)) else { return };
        if down.paused {
            down.paused = false;
            engine.receive(down.conn, true);
        }
        self.put_downstream(down);
    }
}
