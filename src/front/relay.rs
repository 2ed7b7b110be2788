//! The way down: responses of an upstream server to the browsers that wait for them, in the order of the requests.

use crate::engine::{Engine, Lease};
use crate::http1::body::BodyReader;
use crate::http1::encode::Sink as _;
use crate::http1::head::Framing;
use crate::http1::parse::{self, Progress};

use super::connection::{Downstream, Piece};
use super::respond::{self, Context, Timing, Writer};
use super::server::FrontServer;
use super::upstream::affinity;
use super::upstream::health::Outcome;
use super::upstream::{UpstreamConnection, UpstreamState};

/// Bodies up to this size are copied behind their head: one buffer to send is cheaper than two.
const COPY_BYTES_MAX: usize = 4096;
/// Payload of a response that nobody wants any more, beyond which its connection is given up.
pub(super) const DROP_BYTES_MAX: u64 = 64 * 1024;

/// How far dropping an unwanted response got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Drop {
    Incomplete,
    Complete,
    /// It has no end worth waiting for, or is malformed.
    Hopeless,
}

impl FrontServer {
    /// Bytes from an upstream server.
    pub(super) fn on_upstream_data<E: Engine>(
        &mut self,
        engine: &mut E,
        mut up: Box<UpstreamConnection>,
        bytes: Lease,
    ) {
        match up.state {
            UpstreamState::Closing | UpstreamState::Connecting => {}
            UpstreamState::Idle => {
                // Nothing was asked: the connection cannot be trusted with another request.
                self.pools.server(up.server).forget(up.conn);
                self.close_upstream(engine, &mut up);
            }
            UpstreamState::Exchanging => {
                up.input.push(bytes);
                return self.relay_responses(engine, up);
            }
            UpstreamState::Tunnel => {
                up.input.push(bytes);
                if let Some(mut down) = up.downstream().and_then(|conn| self.take_downstream(conn)) {
                    self.tunnel_down(engine, &mut down, &mut up);
                    self.put_downstream(down);
                }
            }
        }
        self.put_upstream(up);
    }

    /// As many responses as have arrived, each to its own browser.
    fn relay_responses<E: Engine>(&mut self, engine: &mut E, mut up: Box<UpstreamConnection>) {
        let conn = up.conn;
        while up.state == UpstreamState::Exchanging && !up.input.is_empty() {
            let responses = up.responses;
            if let Some(mut down) = up.downstream().and_then(|conn| self.take_downstream(conn)) {
                self.relay_response(engine, &mut down, &mut up);
                // Back in its slot before the browser's next request looks for a connection.
                self.put_upstream(up);
                self.advance(engine, &mut down);
                self.put_downstream(down);
                let Some(again) = self.take_upstream(conn) else { return };
                up = again;
                if up.responses == responses {
                    break;
                }
            } else {
                match self.drop_response(&mut up) {
                    Drop::Incomplete => break,
                    Drop::Complete => {
                        let clean = up.head.keep_alive && up.head.framing != Framing::UntilClose;
                        self.end_ride(engine, &mut up, clean, Outcome::Served);
                    }
                    Drop::Hopeless => {
                        self.close_upstream(engine, &mut up);
                        self.send_riders_elsewhere(engine, &mut up);
                    }
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
                    if let Err(reason) = self.begin_tunnel(engine, down, up) {
                        self.fail_relay(engine, down, up, reason);
                    }
                    return;
                }
                Ok(Progress::Complete) if up.head.is_interim() => {
                    if let Err(reason) = self.relay_interim(engine, down, up) {
                        return self.fail_relay(engine, down, up, reason);
                    }
                }
                Ok(Progress::Complete) => self.relay_head(engine, down, up),
                Err(reject) => return self.fail_relay(engine, down, up, reject.reason),
            }
        }
        self.relay_body(engine, down, up);
    }

    /// Sends the response's head, and with it as much of a small body as is there.
    fn relay_head<E: Engine>(&mut self, engine: &mut E, down: &mut Downstream, up: &mut UpstreamConnection) {
        up.head_done = true;
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
        let set_cookie = self.affinity_cookie(down, up.server);
        let exchange = &down.exchange;
        let date = *self.now.date();
        let now_ns = engine.now_ns();
        let timing = self
            .settings
            .forwarding
            .server_timing
            .then(|| Timing::between(exchange.taken_ns, exchange.picked_ns, exchange.sent_ns, now_ns));
        let mut out = Writer::new(engine, down.conn);
        respond::upstream_response(
            &mut out,
            context,
            &up.head,
            head.as_slice(),
            up.unchunk,
            &set_cookie,
            timing,
            &date,
        );
        drop(head);
        let front = up.input.front();
        if !up.unchunk && !front.is_empty() {
            let length = match framing {
                // The bytes behind it belong to the next response.
                Framing::Length(bytes) => usize::try_from(bytes).unwrap_or(usize::MAX),
                Framing::None | Framing::Chunked | Framing::UntilClose => front.len(),
            };
            if length <= front.len().min(COPY_BYTES_MAX).min(out.room()) {
                let before = up.body.clone();
                match up.body.relay(&front[..length]) {
                    Ok(step) if step.done && step.pass == length => {
                        out.put(&front[..length]);
                        let bytes = out.finish();
                        up.input.skip(length);
                        return self.given(engine, down, bytes);
                    }
                    Ok(_) | Err(_) => up.body = before,
                }
            }
        }
        let bytes = out.finish();
        self.given(engine, down, bytes);
    }

    fn relay_body<E: Engine>(&mut self, engine: &mut E, down: &mut Downstream, up: &mut UpstreamConnection) {
        while !up.body.is_done() && !up.input.is_empty() {
            let step = if up.unchunk {
                up.body.read(up.input.front()).map(|step| (step.consumed, step.data, 0))
            } else {
                up.body.relay(up.input.front()).map(|step| (step.pass, 0..step.pass, step.skip))
            };
            match step {
                Ok((0, _, 0)) => break,
                Ok((consumed, data, skip)) => {
                    let mut piece = up.input.take(consumed);
                    if let Piece::Lease(lease) = &mut piece {
                        lease.truncate(data.end);
                        lease.advance(data.start);
                    } else if let Piece::Heap(bytes) = &mut piece {
                        bytes.truncate(data.end);
                        bytes.drain(..data.start);
                    }
                    self.pass_down(engine, down, piece);
                    up.input.skip(skip);
                }
                Err(_) => return self.cut_relay(engine, down, up),
            }
        }
        if up.body.is_done() {
            return self.finish_relay(engine, down, up);
        }
        up.deadline_ns = self.answer_deadline_ns(engine.now_ns(), &down.exchange, up);
        if !up.paused && self.is_full(engine, down.conn, down.queue) {
            up.paused = true;
            up.paused_ns = engine.now_ns();
            // Now it is the browser that must move: its pace is watched.
            up.deadline_ns = u64::MAX;
            engine.receive(up.conn, false);
        }
    }

    /// The response was read to its end.
    pub(super) fn finish_relay<E: Engine>(
        &mut self,
        engine: &mut E,
        down: &mut Downstream,
        up: &mut UpstreamConnection,
    ) {
        let clean = up.head.keep_alive && up.head.framing != Framing::UntilClose && down.exchange.body_done;
        down.exchange.upstream = None;
        let group = down.exchange.course.group.as_ref();
        let failed = group.is_some_and(|group| group.borrow().is_failure(up.head.status));
        self.end_ride(engine, up, clean, if failed { Outcome::Failed } else { Outcome::Served });
        self.counters.requests_answered += 1;
        self.finish_exchange(engine, down);
    }

    /// The first response was dealt with. The connection goes on with the next one, or back to the pool if nothing
    /// speaks against it.
    fn end_ride<E: Engine>(&mut self, engine: &mut E, up: &mut UpstreamConnection, clean: bool, outcome: Outcome) {
        self.leave_server(up, outcome, engine.now_ns());
        up.end_response();
        self.read_on(engine, up);
        // Bytes that nobody asked for: the connection cannot be trusted.
        let usable = clean && up.state == UpstreamState::Exchanging && (up.input.is_empty() || !up.rides.is_empty());
        if !usable {
            self.close_upstream(engine, up);
            self.send_riders_elsewhere(engine, up);
        } else if up.rides.is_empty() {
            if self.pools.server(up.server).give_back(up.conn) {
                up.state = UpstreamState::Idle;
                up.deadline_ns = engine.now_ns() + up.idle_ns;
            } else {
                self.close_upstream(engine, up);
            }
        } else {
            up.deadline_ns = engine.now_ns() + up.first_byte_ns;
            self.offer(up);
        }
    }

    /// What to set so that the browser stays with its server; empty if it has it, or the statement has no affinity.
    fn affinity_cookie(&self, down: &Downstream, server: usize) -> Box<str> {
        let exchange = &down.exchange;
        let Some(group) = &exchange.course.group else { return Box::default() };
        let group = group.borrow();
        let Some(cookie) = group.affinity.as_deref() else { return Box::default() };
        let sent = affinity::sent(&exchange.head, exchange.head_bytes.as_slice(), cookie);
        if sent.is_some_and(|sent| self.pools.servers()[server].name == *sent) {
            return Box::default();
        }
        group.set_cookie(server).into()
    }

    /// Takes back a pause of the upstream side.
    pub(super) fn read_on<E: Engine>(&mut self, engine: &mut E, up: &mut UpstreamConnection) {
        if up.paused {
            up.paused = false;
            up.deadline_ns = engine.now_ns() + up.first_byte_ns;
            engine.receive(up.conn, true);
        }
    }

    /// Reads a response that nobody wants any more.
    fn drop_response(&mut self, up: &mut UpstreamConnection) -> Drop {
        let Some(method) = up.rides.front().map(|ride| ride.method) else { return Drop::Hopeless };
        while !up.head_done {
            match parse::parse_response(up.input.front(), method, &self.settings.parse, &mut up.head) {
                Ok(Progress::Incomplete) => {
                    if !up.input.gather() {
                        return Drop::Incomplete;
                    }
                }
                Ok(Progress::Complete) if up.head.status == 101 => return Drop::Hopeless,
                Ok(Progress::Complete) => {
                    up.input.skip(up.head.head_bytes);
                    if !up.head.is_interim() {
                        up.head_done = true;
                        up.body = BodyReader::new(up.head.framing, DROP_BYTES_MAX);
                    }
                }
                Err(_) => return Drop::Hopeless,
            }
        }
        while !up.body.is_done() && !up.input.is_empty() {
            match up.body.read(up.input.front()) {
                Ok(step) if step.consumed > 0 => up.input.skip(step.consumed),
                Ok(_) => break,
                Err(_) => return Drop::Hopeless,
            }
        }
        match (up.body.is_done(), up.head.framing) {
            (true, _) => Drop::Complete,
            (false, Framing::UntilClose) => Drop::Hopeless,
            (false, Framing::None | Framing::Length(_) | Framing::Chunked) => Drop::Incomplete,
        }
    }
}
