//! An upgraded connection: when an upstream server has agreed to another protocol, bytes pass in both directions until
//! both sides have ended (RFC 9110 section 7.8).
//!
//! ```text
//!   request with Upgrade ──▶ Relay ──┬─ 101, a protocol that was offered ──▶ Tunnel ──▶ both ended, idle, or failed
//!                                    ├─ 101 otherwise ──▶ 502
//!                                    └─ any other status ──▶ an exchange like others
//! ```
//! Architecture invariant: not a byte that a browser sent behind its request goes upstream before the server's 101.

use crate::engine::{Close, Engine};
use crate::http1::head::{Known, RequestHead, ResponseHead, list};

use super::FrontServer;
use super::connection::Downstream;
use super::exchange::State;
use super::part::End;
use super::respond::{self, Writer};
use super::upstream::health::Outcome;
use super::upstream::{UpstreamConnection, UpstreamState};

/// Protocols that carry requests: in a tunnel no statement would see these.
const NOT_PASSED: [&[u8]; 3] = [b"h2c", b"http", b"tls"];

/// Whether a request's offer to change the protocol is passed on. Without it the request is one like others, which a
/// server is free to answer so. A request with a body is: its body would have to be told from the tunnel's bytes.
pub(super) fn is_offered(head: &RequestHead, bytes: &[u8]) -> bool {
    if !head.upgrade || head.framing.has_body() {
        return false;
    }
    let mut fields = head.headers.iter().filter(|header| header.known == Known::Upgrade);
    let (Some(field), None) = (fields.next(), fields.next()) else { return false };
    list(field.value.of(bytes)).all(|protocol| {
        let name = protocol.split(|byte| *byte == b'/').next().unwrap_or(protocol);
        !NOT_PASSED.iter().any(|refused| name.eq_ignore_ascii_case(refused))
    })
}

/// Whether a 101 names a protocol that was offered, and nothing else (RFC 9110 section 7.8).
fn is_agreed(offer: &[u8], head: &ResponseHead, bytes: &[u8]) -> bool {
    let mut fields = head.headers.iter().filter(|header| header.known == Known::Upgrade);
    let (Some(field), None) = (fields.next(), fields.next()) else { return false };
    let says_so = head
        .headers
        .iter()
        .filter(|header| header.known == Known::Connection)
        .any(|header| list(header.value.of(bytes)).any(|option| option.eq_ignore_ascii_case(b"upgrade")));
    let mut chosen = list(field.value.of(bytes)).peekable();
    says_so
        && chosen.peek().is_some()
        && chosen.all(|chosen| list(offer).any(|offered| offered.eq_ignore_ascii_case(chosen)))
}

impl FrontServer {
    /// The head in `up` is a 101: passes it on and opens the tunnel.
    ///
    /// # Errors
    /// Why the answer cannot be used; nothing of it has been sent.
    pub(super) fn begin_tunnel<E: Engine>(
        &mut self,
        engine: &mut E,
        down: &mut Downstream,
        up: &mut UpstreamConnection,
    ) -> Result<(), &'static str> {
        if !down.exchange.upgrade {
            return Err("the upstream server switched protocols unasked");
        }
        let head = up.input.take(up.head.head_bytes);
        let offer = down.exchange.head.value(&down.exchange.head_bytes, Known::Upgrade).unwrap_or(b"");
        if !is_agreed(offer, &up.head, head.as_slice()) {
            return Err("the upstream server switched to a protocol that was not offered");
        }
        let mut out = Writer::new(engine, down.conn);
        respond::switching(&mut out, &up.head, head.as_slice());
        let bytes = out.finish();
        self.given(engine, down, bytes);
        up.head_done = true;
        up.state = UpstreamState::Tunnel;
        // The browser's side keeps the time for both.
        up.deadline_ns = u64::MAX;
        down.exchange.answered = true;
        down.exchange.keep_alive = false;
        down.exchange.state = State::Tunnel;
        self.counters.tunnels_opened += 1;
        self.tunnel_down(engine, down, up);
        self.tunnel_up(engine, down, up);
        Ok(())
    }

    /// Passes on what the browser has sent, also its end.
    pub(super) fn tunnel_up<E: Engine>(&mut self, engine: &mut E, down: &mut Downstream, up: &mut UpstreamConnection) {
        while !down.input.is_empty() {
            let piece = down.input.take(down.input.front().len());
            self.pass_up(engine, up, piece);
            down.deadline_ns = engine.now_ns() + self.settings.tunnel_idle_ns;
        }
        if !down.paused && self.is_full(engine, up.conn, up.queue) {
            down.paused = true;
            engine.receive(down.conn, false);
        }
        if down.eof && !up.told_end {
            up.told_end = true;
            engine.shutdown_send(up.conn);
        }
        if down.eof && up.eof {
            self.end_tunnel(engine, down, up, Close::Flush);
        }
    }

    /// Passes on what the upstream server has sent.
    pub(super) fn tunnel_down<E: Engine>(
        &mut self,
        engine: &mut E,
        down: &mut Downstream,
        up: &mut UpstreamConnection,
    ) {
        down.deadline_ns = engine.now_ns() + self.settings.tunnel_idle_ns;
        while !up.input.is_empty() {
            let piece = up.input.take(up.input.front().len());
            self.pass_down(engine, down, piece);
        }
        if !up.paused && self.is_full(engine, down.conn, down.queue) {
            up.paused = true;
            up.paused_ns = engine.now_ns();
            engine.receive(up.conn, false);
        }
    }

    /// The upstream server sends no more, and the browser may go on; or its connection is gone.
    pub(super) fn on_tunnel_end<E: Engine>(&mut self, engine: &mut E, mut up: Box<UpstreamConnection>, end: End) {
        let Some(mut down) = up.downstream().and_then(|conn| self.take_downstream(conn)) else {
            // Its browser is being dealt with: only an engine that has closed the connection leaves its slot.
            if end == End::Closed {
                return self.pools.server(up.server).closed();
            }
            engine.close(up.conn, Close::Reset);
            return self.put_upstream(up);
        };
        match end {
            End::Orderly => {
                up.eof = true;
                engine.shutdown_send(down.conn);
                if down.eof {
                    self.end_tunnel(engine, &mut down, &mut up, Close::Flush);
                }
            }
            End::Overdue | End::Closed => {
                let how = if up.eof { Close::Flush } else { Close::Reset };
                self.end_tunnel(engine, &mut down, &mut up, how);
            }
        }
        self.put_downstream(down);
        // What the engine has closed leaves its slot.
        if end == End::Closed {
            self.pools.server(up.server).closed();
        } else {
            self.put_upstream(up);
        }
    }

    /// Closes both sides: after both ends with what is queued, after a failure or an idle time at once.
    pub(super) fn end_tunnel<E: Engine>(
        &mut self,
        engine: &mut E,
        down: &mut Downstream,
        up: &mut UpstreamConnection,
        how: Close,
    ) {
        let until_ns = engine.now_ns() + self.settings.idle_ns;
        up.state = UpstreamState::Closing;
        self.leave_server(up, Outcome::Served, engine.now_ns());
        up.deadline_ns = until_ns;
        engine.close(up.conn, how);
        down.exchange.upstream = None;
        down.exchange.state = State::Closing;
        down.deadline_ns = until_ns;
        engine.close(down.conn, how);
        self.counters.tunnels_closed += 1;
        self.counters.requests_answered += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::{is_agreed, is_offered};
    use crate::http1::head::{Method, RequestHead, ResponseHead};
    use crate::http1::parse::{ParseLimits, Progress, parse_request, parse_response};

    #[test]
    fn offers_that_are_passed_on() {
        let offered = |fields: &str| {
            let text = format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
            let mut head = RequestHead::default();
            let found = parse_request(text.as_bytes(), &ParseLimits::default(), &mut head);
            assert_eq!(found, Ok(Progress::Complete), "{text}");
            is_offered(&head, text.as_bytes())
        };
        assert!(offered("Connection: Upgrade\r\nUpgrade: websocket\r\n"));
        assert!(offered("Connection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 0\r\n"));
        assert!(offered("Connection: x, upgrade\r\nUpgrade: foo/2, websocket\r\n"));
        assert!(!offered("Upgrade: websocket\r\n"), "Connection does not say so");
        assert!(!offered("Connection: Upgrade\r\nUpgrade: h2c\r\n"));
        assert!(!offered("Connection: Upgrade\r\nUpgrade: websocket, H2C\r\n"));
        assert!(!offered("Connection: Upgrade\r\nUpgrade: HTTP/2.0\r\n"));
        assert!(!offered("Connection: Upgrade\r\nUpgrade: TLS/1.0\r\n"));
        assert!(!offered("Connection: Upgrade\r\nUpgrade: websocket\r\nUpgrade: foo\r\n"));
        assert!(!offered("Connection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 3\r\n"));
    }

    #[test]
    fn a_101_must_choose_among_the_offers() {
        let agreed = |fields: &str| {
            let text = format!("HTTP/1.1 101 Switching Protocols\r\n{fields}\r\n");
            let mut head = ResponseHead::default();
            let found = parse_response(text.as_bytes(), Method::Get, &ParseLimits::default(), &mut head);
            assert_eq!(found, Ok(Progress::Complete), "{text}");
            is_agreed(b"foo, websocket", &head, text.as_bytes())
        };
        assert!(agreed("Connection: upgrade\r\nUpgrade: WebSocket\r\n"));
        assert!(agreed("Connection: keep-alive, Upgrade\r\nUpgrade: foo\r\n"));
        assert!(!agreed("Upgrade: websocket\r\n"));
        assert!(!agreed("Connection: upgrade\r\n"));
        assert!(!agreed("Connection: upgrade\r\nUpgrade: \r\n"));
        assert!(!agreed("Connection: upgrade\r\nUpgrade: websocket, bar\r\n"));
        assert!(!agreed("Connection: upgrade\r\nUpgrade: h2c\r\n"));
        assert!(!agreed("Connection: upgrade\r\nUpgrade: websocket\r\nUpgrade: websocket\r\n"));
    }
}
