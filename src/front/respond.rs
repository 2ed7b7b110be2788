//! Answers on their way to the browser: heads encoded into send buffers, bodies copied or shared.

use std::io::Write as _;
use std::sync::Arc;

use crate::engine::{Chunk, Conn, Engine, Lease};
use crate::http1::encode::{self, DateCache, Sink};
use crate::http1::head::{Known, Method, RequestHead, ResponseHead, Version};
use crate::replica::job::{Response, SessionChange};
use crate::storage::files::{Object, Plan};

/// What the `Server` header says.
pub const SERVER: &str = "twintier";

/// Room behind what is queued already that makes it worth going on there.
const ROOM_BYTES_MIN: usize = 2048;

/// Collects encoded bytes in send buffers of the engine and hands them over in order. When every buffer is in use it
/// goes on with heap memory, so that an answer is never cut.
pub struct Writer<'a, E: Engine> {
    engine: &'a mut E,
    conn: Conn,
    lease: Option<Lease>,
    heap: Vec<u8>,
}

impl<'a, E: Engine> Writer<'a, E> {
    pub fn new(engine: &'a mut E, conn: Conn) -> Self {
        let lease = engine.reclaim(conn, ROOM_BYTES_MIN).or_else(|| engine.lease());
        Self { engine, conn, lease, heap: Vec::new() }
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
        self.engine.send(self.conn, chunk);
    }

    /// Sends what was written.
    pub fn finish(mut self) {
        self.hand_over();
    }
}

impl<E: Engine> Sink for Writer<'_, E> {
    fn put(&mut self, mut bytes: &[u8]) {
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
}

impl Now {
    fn date(&mut self) -> &[u8] {
        self.cache.at(self.unix_ms)
    }
}

fn begin<S: Sink>(out: &mut S, context: Context, status: u16, date: &[u8]) {
    encode::status_line(out, status);
    encode::header(out, b"server", SERVER.as_bytes());
    encode::header(out, b"date", date);
    encode::connection(out, context.version, context.keep_alive);
}

fn body<S: Sink>(out: &mut S, context: Context, status: u16, bytes: &[u8]) {
    if status == 204 || status == 304 {
        out.put(b"\r\n");
        return;
    }
    encode::content_length(out, bytes.len() as u64);
    out.put(b"\r\n");
    if !context.head_only {
        out.put(bytes);
    }
}

/// A short answer of the front's own: an error, or a redirect with its location.
pub fn short<E: Engine>(
    engine: &mut E,
    conn: Conn,
    context: Context,
    status: u16,
    extra: &[(&[u8], &[u8])],
    text: &str,
    now: &mut Now,
) {
    let mut out = Writer::new(engine, conn);
    begin(&mut out, context, status, now.date());
    for (name, value) in extra {
        encode::header(&mut out, name, value);
    }
    encode::header(&mut out, b"content-type", b"text/plain; charset=utf-8");
    body(&mut out, context, status, text.as_bytes());
    out.finish();
}

/// A replica's answer; `cookie` is the value of `Set-Cookie`, if the session changes.
pub fn from_replica<E: Engine>(
    engine: &mut E,
    conn: Conn,
    context: Context,
    response: &Response,
    cookie: &str,
    now: &mut Now,
) {
    let mut out = Writer::new(engine, conn);
    begin(&mut out, context, response.status, now.date());
    let mut header = |name: &[u8], value: &str| {
        if !value.is_empty() {
            encode::header(&mut out, name, value.as_bytes());
        }
    };
    header(b"content-type", response.content_type);
    header(b"location", &response.location);
    header(b"etag", &response.etag);
    header(b"allow", response.allow);
    header(b"cache-control", response.cache_control);
    header(b"set-cookie", cookie);
    if response.retry_after_s > 0 {
        encode::header(&mut out, b"retry-after", response.retry_after_s.to_string().as_bytes());
    }
    if response.session != SessionChange::None || !response.etag.is_empty() {
        encode::header(&mut out, b"vary", b"cookie, accept");
    }
    body(&mut out, context, response.status, &response.body);
    out.finish();
}

/// A static object, or the part of it that was asked for (RFC 9110 sections 13 and 14).
pub fn object<E: Engine>(engine: &mut E, conn: Conn, context: Context, object: &Object, plan: &Plan, now: &mut Now) {
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
    if context.head_only || range.is_empty() {
        out.finish();
    } else if range.len() <= out.room() {
        out.put(&object.bytes[range]);
        out.finish();
    } else {
        out.chunk(Chunk::Shared(Arc::clone(&object.bytes), range));
        out.finish();
    }
}

/// The request as it goes upstream: hop-by-hop fields taken out (RFC 9110 section 7.6.1), ours put in.
pub fn upstream_request<S: Sink>(out: &mut S, head: &RequestHead, bytes: &[u8], peer: Option<std::net::IpAddr>) {
    encode::request_line(out, head.method_text.of(bytes), head.path.of(bytes), head.query.of(bytes));
    if head.find(Known::Host).is_none() {
        encode::header(out, b"host", b"upstream");
    }
    let mut forwarded_for: &[u8] = b"";
    for header in &head.headers {
        if header.known == Known::XForwardedFor {
            forwarded_for = header.value.of(bytes);
        } else if header.known == Known::TransferEncoding
            || (header.known != Known::Expect && !head.is_hop_by_hop(bytes, header))
        {
            encode::header(out, header.name.of(bytes), header.value.of(bytes));
        }
    }
    if let Some(peer) = peer {
        out.put(b"x-forwarded-for: ");
        if !forwarded_for.is_empty() {
            out.put(forwarded_for);
            out.put(b", ");
        }
        let mut text = [0; 48];
        out.put(display(&mut text, peer));
        out.put(b"\r\n");
    }
    encode::header(out, b"via", b"1.1 twintier");
    out.put(b"\r\n");
}

/// An address as text, without allocating.
fn display(text: &mut [u8; 48], address: std::net::IpAddr) -> &[u8] {
    let mut rest = &mut text[..];
    // 48 bytes hold every IPv6 address with an embedded IPv4 one.
    let _ = write!(rest, "{address}");
    let left = rest.len();
    &text[..48 - left]
}

/// The head of an upstream server's response as it goes to the browser. `chunked_away` takes the chunked coding out:
/// the body will end with the connection.
pub fn upstream_response<S: Sink>(
    out: &mut S,
    context: Context,
    head: &ResponseHead,
    bytes: &[u8],
    chunked_away: bool,
) {
    encode::status_line_with(out, head.status, head.reason.of(bytes));
    for header in &head.headers {
        let framing = header.known == Known::TransferEncoding;
        if (framing && !chunked_away) || (!framing && !head.is_hop_by_hop(bytes, header)) {
            encode::header(out, header.name.of(bytes), header.value.of(bytes));
        }
    }
    encode::header(out, b"via", b"1.1 twintier");
    encode::connection(out, context.version, context.keep_alive);
    out.put(b"\r\n");
}
