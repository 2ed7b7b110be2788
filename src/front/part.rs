//! Partings on the upstream side: connections that end, browsers that leave, requests that are sent again.

use crate::engine::{Close, Engine};
use crate::http1::head::Framing;

use super::connection::Downstream;
use super::relay::DROP_BYTES_MAX;
use super::server::FrontServer;
use super::upstream::health::Outcome;
use super::upstream::retry::{Loss, Next};
use super::upstream::{UpstreamConnection, UpstreamState};

/// What a browser is told when its server failed.
const NO_ANSWER: &str = "the upstream server gave no answer";
/// How long a browser that does not read may hold up the riders behind it, in nanoseconds.
const STALL_NS_MAX: u64 = 200_000_000;

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

impl FrontServer {
    /// The upstream connection ended, failed or timed out.
    pub(super) fn on_upstream_end<E: Engine>(&mut self, engine: &mut E, mut up: Box<UpstreamConnection>, end: End) {
        let state = up.state;
        if state == UpstreamState::Tunnel {
            return self.on_tunnel_end(engine, up, end);
        }
        up.state = UpstreamState::Closing;
        match state {
            UpstreamState::Idle => self.pools.server(up.server).forget(up.conn),
            UpstreamState::Closing | UpstreamState::Tunnel => {}
            UpstreamState::Connecting | UpstreamState::Exchanging => {
                if let Some(mut down) = up.downstream().and_then(|conn| self.take_downstream(conn)) {
                    if end == End::Orderly && up.head_done && up.head.framing == Framing::UntilClose {
                        self.finish_relay(engine, &mut down, &mut up);
                    } else if up.head_done {
                        self.cut_relay(engine, &mut down, &mut up);
                    } else {
                        self.retry_relay(engine, &mut down, &mut up, state, end);
                    }
                    self.advance(engine, &mut down);
                    self.put_downstream(down);
                }
                self.send_riders_elsewhere(engine, &mut up);
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

    /// Closes an upstream connection that must not be used again. Its riders are the caller's to look after.
    pub(super) fn close_upstream<E: Engine>(&mut self, engine: &mut E, up: &mut UpstreamConnection) {
        up.state = UpstreamState::Closing;
        up.input.clear();
        engine.close(up.conn, Close::Reset);
    }

    /// No whole head of an answer has come: the request is sent again, or answered with the reason.
    fn retry_relay<E: Engine>(
        &mut self,
        engine: &mut E,
        down: &mut Downstream,
        up: &mut UpstreamConnection,
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
        let course = &mut down.exchange.course;
        let probe = up.rides.front().is_some_and(|ride| ride.grant.probe);
        let mut outcome = Outcome::Unknown;
        if !loss.is_race() {
            outcome = Outcome::Failed;
            self.counters.upstream_failures += 1;
            course.tried.add(up.server);
        }
        self.leave_server(up, outcome, now);
        // A retry that failed is over; the next one asks the budget again.
        course.retry = None;
        let Some(group) = course.group.clone() else { return self.refuse(engine, down, 502, NO_ANSWER) };
        let retries_left = group.borrow().retries_max.saturating_sub(course.tried.count().saturating_sub(1));
        let status = match loss.next(retries_left, course.renewed) {
            Next::Renew => {
                course.renewed = true;
                self.counters.upstream_retries += 1;
                return self.find_server(engine, down);
            }
            Next::Retry(status) => {
                // A probe was the front's own idea: the request that it was tried with does not pay for it.
                course.retry = if probe { None } else { group.borrow_mut().budget.begin(now) };
                if probe || course.retry.is_some() {
                    self.counters.upstream_retries += 1;
                    return self.find_server(engine, down);
                }
                status
            }
            Next::Answer(status) => status,
        };
        let reason = if loss.overdue { "the upstream server did not answer in time" } else { NO_ANSWER };
        self.refuse(engine, down, status, reason);
    }

    /// Ends the first ride: its place at the server goes back, with what was found out about the server.
    pub(super) fn leave_server(&mut self, up: &mut UpstreamConnection, outcome: Outcome, now_ns: u64) {
        if let Some(ride) = up.rides.pop_front() {
            self.pools.release(ride.grant, outcome, now_ns);
        }
    }

    /// Ends the upstream connection of an exchange by the server's fault.
    fn part<E: Engine>(&mut self, engine: &mut E, down: &mut Downstream, up: &mut UpstreamConnection) {
        self.close_upstream(engine, up);
        down.exchange.upstream = None;
        self.counters.upstream_failures += 1;
        self.leave_server(up, Outcome::Failed, engine.now_ns());
        self.send_riders_elsewhere(engine, up);
    }

    /// The upstream server's answer cannot be used, and nothing of it has been sent.
    pub(super) fn fail_relay<E: Engine>(
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
    pub(super) fn cut_relay<E: Engine>(&mut self, engine: &mut E, down: &mut Downstream, up: &mut UpstreamConnection) {
        self.part(engine, down, up);
        self.abort(engine, down);
    }

    /// The connection carries nobody any further: those who waited on it for their turn are sent again, each on a
    /// connection of its own (RFC 9112 section 9.3.2). Only safe requests without a body ride behind another.
    pub(super) fn send_riders_elsewhere<E: Engine>(&mut self, engine: &mut E, up: &mut UpstreamConnection) {
        debug_assert!(up.state == UpstreamState::Closing, "a connection that goes on keeps its riders");
        while let Some(ride) = up.rides.pop_front() {
            self.pools.release(ride.grant, Outcome::Unknown, engine.now_ns());
            if ride.abandoned {
                continue;
            }
            let Some(mut down) = self.take_downstream(ride.down) else { continue };
            self.send_again(engine, &mut down);
            self.put_downstream(down);
        }
    }

    fn send_again<E: Engine>(&mut self, engine: &mut E, down: &mut Downstream) {
        down.exchange.upstream = None;
        self.counters.upstream_retries += 1;
        self.find_server(engine, down);
        self.advance(engine, down);
    }

    /// The browser wants no answer any more. A connection that carries nobody else is closed; otherwise the response
    /// is read and dropped when it comes, unless it is too long for that.
    pub(super) fn drop_upstream<E: Engine>(&mut self, engine: &mut E, down: &mut Downstream) {
        let Some(mut up) = down.exchange.upstream.take().and_then(|conn| self.take_upstream(conn)) else { return };
        let first = up.downstream() == Some(down.conn);
        for ride in &mut up.rides {
            ride.abandoned |= ride.down == down.conn;
        }
        let long = first
            && up.head_done
            && !up.body.is_done()
            && !matches!(up.head.framing, Framing::Length(bytes) if bytes <= DROP_BYTES_MAX);
        if long || up.rides.iter().all(|ride| ride.abandoned) {
            self.close_upstream(engine, &mut up);
            self.send_riders_elsewhere(engine, &mut up);
        } else if first {
            self.read_on(engine, &mut up);
        }
        self.put_upstream(up);
    }

    /// Lets no browser that reads slowly hold up others for long: the riders behind it are sent another way. Their
    /// responses on this connection will be dropped.
    pub(super) fn free_stalled_riders<E: Engine>(&mut self, engine: &mut E, up: &mut UpstreamConnection) {
        if !up.paused || up.rides.len() < 2 || engine.now_ns() < up.paused_ns + STALL_NS_MAX {
            return;
        }
        for index in 1..up.rides.len() {
            let ride = up.rides[index];
            if ride.abandoned {
                continue;
            }
            up.rides[index].abandoned = true;
            if let Some(mut down) = self.take_downstream(ride.down) {
                self.send_again(engine, &mut down);
                self.put_downstream(down);
            }
        }
    }
}
