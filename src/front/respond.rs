//! Answers on their way to the browser: heads encoded into send buffers, bodies copied or shared.

use std::sync::Arc;

use crate::engine::{Chunk, Conn, Engine, Lease};
use crate::http1::encode::{self, DateCache, Sink};
use crate::http1::head::{Header, Known, Method, RequestHead, ResponseHead, Version};
use crate::replica::job::{Response, SessionChange};
use crate::storage::files::{Object, Plan};

use super::notice::Notice;

/// The name of this server, and the next field up to its value.
const BEFORE_DATE: &[u8] = b"server: twintier\r\ndate: ";
/// What this front calls itself in `Via` (RFC 9110 section 7.6.3).
pub const VIA: &[u8] = b"twintier";

/// Room behind what is queued already that makes it worth going on there.
const ROOM_BYTES_MIN: usize = 2048;

/// Collects encoded bytes in send buffers of the engine and hands them over in order. When every buffer is in use it
/// goes on with heap memory, so that an answer is never cut.
pub struct Writer<'a, E: Engine> {
    engine: &'a mut E,
    conn: Conn,
    lease: Option<Lease>,
    heap: Vec<u8>,
    bytes: usize,
}

impl<'a, E: Engine> Writer<'a, E> {
    pub fn new(engine: &'a mut E, conn: Conn) -> Self {
        let lease = engine.reclaim(conn, ROOM_BYTES_MIN).or_else(|| engine.lease());
        Self { engine, conn, lease, heap: Vec::new(), bytes: 0 }
    }

    fn hand_over(&mut self) {
        if let Some(lease) = self.lease.take()
            && !lease.is_empty()
        {
            self.engine.send(self.conn, Chunk::Lease(lease));
        }
        if !self.heap.is_empty() {
            let bytes: Arc<[u8]> = std::mem::take(&mut self.heap).into();
            let range = 0..bytes.len();
            self.engine.send(self.conn, Chunk::Shared(bytes, range));
        }
    }

    /// Bytes that still fit the buffer in hand.
    pub fn room(&self) -> usize {
        self.lease.as_ref().map_or(0, Lease::capacity_left)
    }

    /// Sends what was written, then `chunk`.
    pub fn chunk(&mut self, chunk: Chunk) {
        self.hand_over();
        self.bytes += chunk.as_slice().len();
        self.engine.send(self.conn, chunk);
    }

    /// Sends what was written; returns how many bytes that were in all.
    pub fn finish(mut self) -> usize {
        self.hand_over();
        self.bytes
    }
}

impl<E: Engine> Sink for Writer<'_, E> {
    fn put(&mut self, mut bytes: &[u8]) {
        self.bytes += bytes.len();
        while !bytes.is_empty() {
            let Some(lease) = self.lease.as_mut() else {
                self.heap.extend_from_slice(bytes);
                return;
            };
            let taken = lease.extend_from_slice(bytes);
            bytes = &bytes[taken..];
            if !bytes.is_empty() {
                self.hand_over();
                self.lease = self.engine.lease();
            }
        }
    }
}

/// What every answer of an exchange shares.
#[derive(Clone, Copy, Debug)]
pub struct Context {
    pub head_only: bool,
    pub version: Version,
    pub keep_alive: bool,
}

/// Where the time of an exchange went, for `Server-Timing`. Nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timing {
    /// From the head until a server was chosen.
    pub queue_ns: u64,
    /// From then until the server had the request: the way to its core, or a new connection.
    pub dispatch_ns: u64,
    /// From then until the server's answer.
    pub service_ns: u64,
}

impl Timing {
    /// From the times of taking, choosing, handing over and answering.
    pub fn between(taken_ns: u64, picked_ns: u64, begun_ns: u64, now_ns: u64) -> Self {
        Self {
            queue_ns: picked_ns.saturating_sub(taken_ns),
            dispatch_ns: begun_ns.saturating_sub(picked_ns),
            service_ns: now_ns.saturating_sub(begun_ns),
        }
    }

    /// Milliseconds with three decimals (the field is W3C Server Timing's).
    fn encode<S: Sink>(self, out: &mut S) {
        let mut before: &[u8] = b"server-timing: ";
        for (name, ns) in
            [(&b"queue"[..], self.queue_ns), (b"dispatch", self.dispatch_ns), (b"service", self.service_ns)]
        {
            let us = ns / 1000;
            out.put(before);
            out.put(name);
            out.put(b";dur=");
            encode::integer(out, us / 1000);
            out.put(b".");
            for place in [100, 10, 1] {
                encode::integer(out, us % 1000 / place % 10);
            }
            before = b", ";
        }
        out.put(b"\r\n");
    }
}

impl Context {
    pub fn of(head: &RequestHead, keep_alive: bool) -> Self {
        Self { head_only: head.method == Method::Head, version: head.version, keep_alive }
    }
}

/// The clock of answers: formats `Date` once a second.
#[derive(Debug, Default)]
pub struct Now {
    pub unix_ms: u64,
    cache: DateCache,
    /// Where the head of a replica's answer is put together, because appending its many short pieces to a vector costs a
    /// third of what it costs in a buffer of the engine.
    head: Vec<u8>,
}

impl Now {
    pub fn date(&mut self) -> &[u8; encode::DATE_BYTES] {
        self.cache.at(self.unix_ms)
    }
}

fn begin<S: Sink>(out: &mut S, context: Context, status: u16, date: &[u8]) {
    encode::status_line(out, status);
    out.put(BEFORE_DATE);
    out.put(date);
    out.put(b"\r\n");
    encode::connection(out, context.version, context.keep_alive);
}

/// Whether an answer of this status may have a body (RFC 9110 sections 15.3.5 and 15.4.5).
fn may_have_body(status: u16) -> bool {
    status != 204 && status != 304
}

/// The end of a head before `bytes` of body.
fn length<S: Sink>(out: &mut S, status: u16, bytes: usize) {
    if may_have_body(status) {
        encode::content_length(out, bytes as u64);
    }
    out.put(b"\r\n");
}

fn body<S: Sink>(out: &mut S, context: Context, status: u16, bytes: &[u8]) {
    if may_have_body(status) && !context.head_only {
        out.put(bytes);
    }
}

/// A short answer of the front's own: an error, or a redirect with its location; `body_bytes` is what `notice` comes to.
pub fn short<E: Engine>(
    engine: &mut E,
    conn: Conn,
    context: Context,
    notice: &Notice,
    body_bytes: usize,
    extra: &[(&[u8], &[u8])],
    now: &mut Now,
) -> usize {
    let mut out = Writer::new(engine, conn);
    begin(&mut out, context, notice.status, now.date());
    for (name, value) in extra {
        encode::header(&mut out, name, value);
    }
    if notice.status >= 400 {
        // What it looks like depends on who asks.
        encode::header(&mut out, b"vary", b"accept");
    }
    encode::header(&mut out, b"content-type", notice.content_type());
    length(&mut out, notice.status, body_bytes);
    if may_have_body(notice.status) && !context.head_only {
        notice.encode(&mut out);
    }
    out.finish()
}

/// A replica's answer; `cookie` is the value of `Set-Cookie`, if the session changes.
pub fn from_replica<E: Engine>(
    engine: &mut E,
    conn: Conn,
    context: Context,
    response: &Response,
    cookie: &str,
    timing: Option<Timing>,
    now: &mut Now,
) -> usize {
    let mut head = std::mem::take(&mut now.head);
    head.clear();
    begin(&mut head, context, response.status, now.date());
    for (name, value) in [
        (&b"content-type"[..], response.content_type),
        (b"location", &response.location),
        (b"etag", &response.etag),
        (b"allow", response.allow),
        (b"cache-control", response.cache_control),
        (b"set-cookie", cookie),
    ] {
        if !value.is_empty() {
            encode::header(&mut head, name, value.as_bytes());
        }
    }
    if response.retry_after_s > 0 {
        encode::header_integer(&mut head, b"retry-after", response.retry_after_s.into());
    }
    if response.session != SessionChange::None || !response.etag.is_empty() {
        head.put(b"vary: cookie, accept\r\n");
    }
    if let Some(timing) = timing {
        timing.encode(&mut head);
    }
    length(&mut head, response.status, response.body.len());
    let mut out = Writer::new(engine, conn);
    out.put(&head);
    now.head = head;
    body(&mut out, context, response.status, &response.body);
    out.finish()
}

/// A static object, or the part of it that was asked for (RFC 9110 sections 13 and 14).
pub fn object<E: Engine>(
    engine: &mut E,
    conn: Conn,
    context: Context,
    object: &Object,
    plan: &Plan,
    now: &mut Now,
) -> usize {
    let mut out = Writer::new(engine, conn);
    begin(&mut out, context, plan.status(), now.date());
    encode::header(&mut out, b"etag", object.etag.as_bytes());
    encode::header(&mut out, b"last-modified", &object.last_modified);
    encode::header(&mut out, b"cache-control", b"public, max-age=60");
    encode::header(&mut out, b"accept-ranges", b"bytes");
    plan.content_range(object, &mut out);
    let range = plan.body(object);
    if *plan == Plan::NotModified {
        encode::end(&mut out);
        return out.finish();
    }
    encode::header(&mut out, b"content-type", object.content_type.as_bytes());
    encode::content_length(&mut out, range.len() as u64);
    encode::end(&mut out);
    if !context.head_only && !range.is_empty() {
        if range.len() <= out.room() {
            out.put(&object.bytes[range]);
        } else {
            out.chunk(Chunk::Shared(Arc::clone(&object.bytes), range));
        }
    }
    out.finish()
}

/// The head of an upstream server's response as it goes to the browser. `chunked_away` takes the chunked coding out:
/// the body will end with the connection. `set_cookie` is a cookie of our own, if not empty.
pub fn upstream_response<S: Sink>(
    out: &mut S,
    context: Context,
    head: &ResponseHead,
    bytes: &[u8],
    chunked_away: bool,
    set_cookie: &str,
    timing: Option<Timing>,
    date: &[u8],
) {
    encode::status_line_with(out, head.status, head.reason.of(bytes));
    let mut dated = false;
    for header in &head.headers {
        dated |= header.known == Known::Date;
        let passes = match header.known {
            // What answers to HEAD or 304 say of a body that is not there: nothing that HTTP/1.0 knows.
            Known::TransferEncoding | Known::Trailer => !chunked_away && context.version == Version::Http11,
            _ => is_passed(head, bytes, header),
        };
        if passes {
            encode::header(out, header.name.of(bytes), header.value.of(bytes));
        }
    }
    if !set_cookie.is_empty() {
        encode::header(out, b"set-cookie", set_cookie.as_bytes());
    }
    if !dated {
        // RFC 9110 section 6.6.1: who has a clock says when it came.
        encode::header(out, b"date", date);
    }
    via(out, head, bytes);
    if let Some(timing) = timing {
        timing.encode(out);
    }
    encode::connection(out, context.version, context.keep_alive);
    out.put(b"\r\n");
}

/// The head of an interim response (RFC 9110 section 15.2), which never has a body.
pub fn interim<S: Sink>(out: &mut S, head: &ResponseHead, bytes: &[u8]) {
    encode::status_line_with(out, head.status, head.reason.of(bytes));
    for header in &head.headers {
        if header.known != Known::TransferEncoding && is_passed(head, bytes, header) {
            encode::header(out, header.name.of(bytes), header.value.of(bytes));
        }
    }
    via(out, head, bytes);
    out.put(b"\r\n");
}

/// The head of a 101, which hands the connection to another protocol (RFC 9110 sections 7.8 and 15.2.2).
pub fn switching<S: Sink>(out: &mut S, head: &ResponseHead, bytes: &[u8]) {
    encode::status_line_with(out, head.status, head.reason.of(bytes));
    for header in &head.headers {
        if header.known != Known::TransferEncoding && is_passed(head, bytes, header) {
            encode::header(out, header.name.of(bytes), header.value.of(bytes));
        }
    }
    via(out, head, bytes);
    encode::header(out, b"connection", b"upgrade");
    encode::header(out, b"upgrade", head.value(bytes, Known::Upgrade).unwrap_or(b""));
    out.put(b"\r\n");
}

/// Whether a field goes on to the browser as it is.
fn is_passed(head: &ResponseHead, bytes: &[u8], header: &Header) -> bool {
    match header.known {
        // Written at the end.
        Known::Via => false,
        // RFC 9110 section 8.6: neither 1xx nor 204 has one, and a reader might wait for the bytes.
        Known::ContentLength if matches!(head.status, 100..=199 | 204) => false,
        _ => !head.is_hop_by_hop(bytes, header),
    }
}

/// `Via` with this hop behind those before it (RFC 9110 section 7.6.3).
fn via<S: Sink>(out: &mut S, head: &ResponseHead, bytes: &[u8]) {
    out.put(b"via: ");
    for header in head.headers.iter().filter(|header| header.known == Known::Via && !header.value.is_empty()) {
        out.put(header.value.of(bytes));
        out.put(b", ");
    }
    out.put(if head.version == Version::Http10 { b"1.0 " } else { b"1.1 " });
    out.put(VIA);
    out.put(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::{Context, Timing, interim, switching, upstream_response};
    use crate::http1::head::{Method, ResponseHead, Version};
    use crate::http1::parse::{ParseLimits, Progress, parse_response};

    fn parsed(text: &str) -> ResponseHead {
        let mut head = ResponseHead::default();
        let found = parse_response(text.as_bytes(), Method::Get, &ParseLimits::default(), &mut head);
        assert_eq!(found, Ok(Progress::Complete), "{text}");
        head
    }

    fn text(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn what_concerns_one_hop_stays_here() {
        let text_in = "HTTP/1.1 200 Fine\r\nConnection: X-Mine\r\nX-Mine: 1\r\nKeep-Alive: 5\r\nTransfer-Encoding: \
            chunked\r\nTrailer: t\r\nVia: 1.1 a\r\nX-Yours: 2\r\n\r\n";
        let head = parsed(text_in);
        let context = |version| Context { head_only: false, version, keep_alive: true };
        let (modern, old) = (context(Version::Http11), context(Version::Http10));
        assert_eq!(
            text(|out| upstream_response(out, modern, &head, text_in.as_bytes(), false, "", None, b"today")),
            "HTTP/1.1 200 Fine\r\nTransfer-Encoding: chunked\r\nTrailer: t\r\nX-Yours: 2\r\ndate: today\r\nvia: 1.1 a, 1.1 twintier\r\n\r\n"
        );
        let timing = Timing::between(1_000_000, 1_500_999, 1_501_999, 13_000_000);
        assert_eq!(
            text(|out| upstream_response(out, old, &head, text_in.as_bytes(), true, "", Some(timing), b"today")),
            "HTTP/1.1 200 Fine\r\nX-Yours: 2\r\ndate: today\r\nvia: 1.1 a, 1.1 twintier\r\n\
             server-timing: queue;dur=0.500, dispatch;dur=0.001, service;dur=11.498\r\nconnection: keep-alive\r\n\r\n"
        );
        let text_in = "HTTP/1.0 204 No Content\r\nContent-Length: 0\r\n\r\n";
        assert_eq!(
            text(|out| upstream_response(out, modern, &parsed(text_in), text_in.as_bytes(), false, "", None, b"today")),
            "HTTP/1.1 204 No Content\r\ndate: today\r\nvia: 1.0 twintier\r\n\r\n"
        );
    }

    #[test]
    fn interim_heads_are_cleaned() {
        let text_in = "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\nConnection: x\r\nX: 1\r\nContent-Length: 0\r\n\r\n";
        assert_eq!(
            text(|out| interim(out, &parsed(text_in), text_in.as_bytes())),
            "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\nvia: 1.1 twintier\r\n\r\n"
        );
        let text_in = "HTTP/1.1 101 Switching Protocols\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\
            Sec-WebSocket-Accept: k\r\n\r\n";
        assert_eq!(
            text(|out| switching(out, &parsed(text_in), text_in.as_bytes())),
            "HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: k\r\nvia: 1.1 twintier\r\n\
             connection: upgrade\r\nupgrade: websocket\r\n\r\n"
        );
    }
}
