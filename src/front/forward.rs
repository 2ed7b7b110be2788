//! Relaying an exchange between a browser and an upstream server, without copying bodies.

use crate::engine::{Chunk, Close, Conn, Engine};
use crate::http1::body::BodyReader;
use crate::http1::encode::Sink as _;
use crate::http1::head::Framing;
use crate::http1::parse::{self, Progress};

use super::connection::{Downstream, Piece};
use super::exchange::State;
use super::reason::Reason;
use super::respond::{self, Context, Writer};
use super::server::FrontServer;
use super::trace::{Ending, Served};
use super::upstream::{UpstreamConnection, UpstreamState};
use crate::storage::site::Target;

/// Bodies up to this size are copied behind their head: one buffer to send is cheaper than two.
const COPY_BYTES_MAX: usize = 4096;
/// Times a request is sent upstream, the first included.
const ATTEMPTS_MAX: u32 = 3;

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
    /// Sends the exchange's request to an upstream server; on no server or no connection answers 502 or 503.
    pub(super) fn begin_relay<E: Engine>(&mut self, engine: &mut E, down: &mut Downstream) {
        down.exchange.state = State::Relay;
        down.exchange.attempts += 1;
        self.counters.to_upstreams += 1;
        let now = engine.now_ns();
        let Some(candidates) = self.upstream_indexes.get(down.exchange.route) else {
            return self.refuse(engine, down, Reason::UpstreamNone, "the statement names no upstream server");
        };
        let Some(server) = self.pools.pick(candidates, now) else {
            return self.refuse(engine, down, Reason::UpstreamNone, "the statement names no upstream server");
        };
        let peer = engine.peer(down.conn).map(|address| address.ip());
        let Some((conn, reused)) = self.upstream_connection(engine, server) else {
            self.pools.server(server).failed(now);
            return self.refuse(engine, down, Reason::UpstreamSlots, "no connection to an upstream server could be opened");
        };
        down.exchange.trace.placed(Served::Upstream(server), Reason::of_attempt(down.exchange.attempts), now);
        self.pools.server(server).outstanding += 1;
        self.pools.server(server).requests += 1;
        let Some(mut up) = self.take_upstream(conn) else { return };
        up.downstream = Some(down.conn);
        up.reused = reused;
        up.head.clear();
        up.head_done = false;
        up.unchunk = false;
        down.exchange.upstream = Some(conn);
        if reused {
            up.state = UpstreamState::Exchanging;
            up.deadline_ns = now + self.settings.upstream_first_byte_ns;
            let mut out = Writer::new(engine, conn);
            respond::upstream_request(&mut out, &down.exchange.head, down.exchange.head_bytes.as_slice(), peer);
            out.finish();
            self.relay_request_body(engine, down, &mut up);
        } else {
            up.deadline_ns = now + self.settings.upstream_connect_ns;
        }
        self.put_upstream(up);
    }

    /// An idle connection of the pool, or a new one.
    fn upstream_connection<E: Engine>(&mut self, engine: &mut E, server: usize) -> Option<(Conn, bool)> {
        while let Some(conn) = self.pools.server(server).take_idle() {
            if self.has_upstream(conn) {
                self.counters.upstream_reuses += 1;
                return Some((conn, true));
            }
        }
        let conn = engine.connect(&self.pools.server(server).address).ok()?;
        self.counters.upstream_connects += 1;
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
        down.exchange.trace.connected_ns = engine.now_ns();
        up.state = UpstreamState::Exchanging;
        up.deadline_ns = engine.now_ns() + self.settings.upstream_first_byte_ns;
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
                    up.deadline_ns = engine.now_ns() + self.settings.upstream_first_byte_ns;
                    if let Some(chunk) = chunk_of(down.input.take(step.pass)) {
                        engine.send(up.conn, chunk);
                    }
                }
                Err(reject) => {
                    up.state = UpstreamState::Closing;
                    engine.close(up.conn, Close::Reset);
                    self.release_server(up.server);
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
                up.deadline_ns = engine.now_ns() + self.settings.upstream_first_byte_ns;
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
        up.deadline_ns = engine.now_ns() + self.settings.upstream_first_byte_ns;
        self.relay_body(engine, down, up);
    }

    /// Sends the response's head, and with it as much of a small body as is there.
    fn relay_head<E: Engine>(&mut self, engine: &mut E, down: &mut Downstream, up: &mut UpstreamConnection) {
        up.head_done = true;
        up.deadline_ns = engine.now_ns() + self.settings.upstream_first_byte_ns;
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
        self.note_status(engine, down, up.head.status);
        let head = up.input.take(up.head.head_bytes);
        let mut out = Writer::new(engine, down.conn);
        respond::upstream_response(&mut out, context, &up.head, head.as_slice(), up.unchunk);
        drop(head);
        let front = up.input.front();
        if !up.unchunk && !front.is_empty() && front.len() <= COPY_BYTES_MAX.min(out.room()) {
            let before = up.body.clone();
            match up.body.relay(front) {
                Ok(step) if step.done && step.pass == front.len() => {
                    down.exchange.trace.body_bytes += front.len() as u64;
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
                    down.exchange.trace.body_bytes += data.len() as u64;
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
        self.pools.server(up.server).succeeded();
        self.release_server(up.server);
        if up.paused {
            up.paused = false;
            engine.receive(up.conn, true);
        }
        if clean {
            up.state = UpstreamState::Idle;
            up.deadline_ns = engine.now_ns() + self.settings.upstream_idle_ns;
            self.pools.server(up.server).give_back(up.conn);
        } else {
            up.state = UpstreamState::Closing;
            engine.close(up.conn, Close::Reset);
        }
        self.note_end(engine, down, Ending::Answered);
        self.finish_exchange(engine, down);
    }

    pub(super) fn release_server(&mut self, server: usize) {
        let server = self.pools.server(server);
        server.outstanding = server.outstanding.saturating_sub(1);
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
                        let reason = Reason::of_upstream_end(state == UpstreamState::Connecting, end == End::Overdue);
                        self.retry_relay(engine, &mut down, &up, reason);
                    }
                    self.advance(engine, &mut down);
                    self.put_downstream(down);
                }
            }
        }
        // What the engine has closed leaves its slot, in which a retry's connection may be by now.
        if end != End::Closed {
            engine.close(up.conn, Close::Reset);
            self.put_upstream(up);
        }
    }

    /// No byte of an answer has come. A safe request without a body is sent again: at once if the connection had
    /// served before (RFC 9112 section 9.3.1), else to another server.
    fn retry_relay<E: Engine>(&mut self, engine: &mut E, down: &mut Downstream, up: &UpstreamConnection, reason: Reason) {
        self.release_server(up.server);
        down.exchange.upstream = None;
        if !up.reused {
            self.counters.upstream_failures += 1;
            self.pools.server(up.server).failed(engine.now_ns());
        }
        let repeatable = down.exchange.head.method.is_idempotent() && !down.exchange.head.framing.has_body();
        if repeatable && down.exchange.attempts < ATTEMPTS_MAX {
            self.counters.upstream_retries += 1;
            self.begin_relay(engine, down);
        } else {
            self.refuse(engine, down, reason, "the upstream server gave no answer");
        }
    }

    /// Ends the upstream connection of an exchange by the server's fault.
    fn part<E: Engine>(&mut self, engine: &mut E, down: &mut Downstream, up: &mut UpstreamConnection) {
        up.state = UpstreamState::Closing;
        up.downstream = None;
        down.exchange.upstream = None;
        self.release_server(up.server);
        self.counters.upstream_failures += 1;
        self.pools.server(up.server).failed(engine.now_ns());
        engine.close(up.conn, Close::Reset);
    }

    /// The upstream server's answer cannot be used, and nothing of it has been sent.
    fn fail_relay<E: Engine>(
        &mut self,
        engine: &mut E,
        down: &mut Downstream,
        up: &mut UpstreamConnection,
        words: &'static str,
    ) {
        self.part(engine, down, up);
        self.refuse_with(engine, down, Reason::UpstreamBad, words, words);
    }

    /// The answer broke off after its head was sent: the browser must see that it is not whole.
    fn cut_relay<E: Engine>(&mut self, engine: &mut E, down: &mut Downstream, up: &mut UpstreamConnection) {
        self.part(engine, down, up);
        down.exchange.trace.blame(Reason::UpstreamCut, "");
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

    /// Whether the matched statement leads to upstream servers.
    pub(super) fn indexes_of(&mut self, target: &Target) -> Vec<usize> {
        match target {
            Target::Upstream { servers } => servers.iter().map(|address| self.pools.resolve(address)).collect(),
            Target::Cluster { .. } | Target::Files { .. } | Target::Fail { .. } | Target::Redirect { .. } => Vec::new(),
        }
    }
}
