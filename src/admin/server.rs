//! The admin interface's HTTP server: few connections, one task each, on a monoio runtime of its own.

use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use monoio::io::{AsyncReadRent, AsyncWriteRentExt};
use monoio::net::{TcpListener, TcpStream};
use monoio::{FusionDriver, LegacyDriver, RuntimeBuilder};

use crate::clock;
use crate::engine::socket;
use crate::http1::body::BodyReader;
use crate::http1::encode;
use crate::http1::head::{Known, Method, RequestHead};
use crate::http1::parse::{ParseLimits, Progress, parse_request};

use super::feed::{self, Feed};
use super::guard::{self, Asker};
use super::sample::Sampler;
use super::{Cluster, api, console};

/// Bytes of a request to the admin interface at most: a deploy carries all sources of an application.
const REQUEST_BYTES_MAX: usize = 32 * 1024 * 1024;
/// The same of one that is refused anyway: its body is read only so that the answer arrives.
const REFUSED_BYTES_MAX: usize = 64 * 1024;
const LIMITS: ParseLimits = ParseLimits { head_bytes_max: 16 * 1024, header_count_max: 100 };
/// How often the thread looks whether it should end. Also the guard against a wake that another thread's message
/// might lose in the runtime.
const TICK: Duration = Duration::from_millis(10);
/// How long a worker may take to report for an event of the console.
const EVENT_REPORT_NS: u64 = 800_000_000;
/// At the end, how long the consoles are given to be told.
const FAREWELL: Duration = Duration::from_secs(1);
/// What the console may do, and nothing else on this address: run and show its own files, ask this address.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
    img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// What the interface answers.
#[derive(Clone, Debug)]
pub struct Reply {
    pub status: u16,
    pub content_type: &'static str,
    pub body: Vec<u8>,
}

impl Reply {
    pub fn json(value: &serde_json::Value) -> Self {
        Self { status: 200, content_type: "application/json", body: format!("{value:#}\n").into_bytes() }
    }

    pub fn text(status: u16, text: impl Into<String>) -> Self {
        let mut text = text.into();
        text.push('\n');
        Self { status, content_type: "text/plain; charset=utf-8", body: text.into_bytes() }
    }
}

/// A request, as the interface sees it.
#[derive(Debug)]
pub struct Asked {
    pub method: Method,
    pub path: String,
    /// What follows the `?`.
    pub query: String,
    pub body: Vec<u8>,
}

/// What every connection works with.
struct Served {
    cluster: Arc<Cluster>,
    token: String,
    feed: Rc<Feed>,
}

/// Serves until `stop` is set. The listener is a standard one so that its port is known before the thread starts.
///
/// # Errors
/// The runtime or the listener could not be set up.
pub fn run(
    listener: std::net::TcpListener,
    cluster: Arc<Cluster>,
    token: String,
    stop: Arc<AtomicBool>,
) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    // On io_uring if that works here, else on epoll.
    let on_epoll = || RuntimeBuilder::<LegacyDriver>::new().enable_timer().with_entries(256).build();
    let fused = RuntimeBuilder::<FusionDriver>::new().enable_timer().with_entries(256).build();
    let mut runtime = fused.or_else(|_| on_epoll().map(Into::into))?;
    runtime.block_on(async move {
        let listener = TcpListener::from_std(listener)?;
        let feed = Rc::new(Feed::default());
        let served = Rc::new(Served { cluster, token, feed: Rc::clone(&feed) });
        // The accept is never given up half-way: a connection that the kernel had already taken would be lost with it.
        monoio::spawn(async move {
            loop {
                match listener.accept().await {
                    Ok((stream, _)) => drop(monoio::spawn(serve(stream, Rc::clone(&served)))),
                    // Descriptors are exhausted: look again a moment later.
                    Err(_) => monoio::time::sleep(TICK).await,
                }
            }
        });
        while !stop.load(Ordering::Acquire) {
            monoio::time::sleep(TICK).await;
        }
        feed.end();
        let until = Instant::now() + FAREWELL;
        while feed.listeners() > 0 && Instant::now() < until {
            monoio::time::sleep(TICK).await;
        }
        Ok(())
    })
}

async fn serve(mut stream: TcpStream, served: Rc<Served>) {
    let mut bytes = Vec::new();
    loop {
        let (reply, keep_alive, method) = match read_request(&mut stream, &mut bytes, &served.token).await {
            Ok(Some(Incoming { asked, keep_alive, refused: None })) => {
                if asked.method == Method::Get && asked.path == "/events" {
                    if events(&mut stream, &served).await {
                        return;
                    }
                    let full = format!("{} consoles listen already; close one, or try again", feed::LISTENERS_MAX);
                    (Reply::text(503, full), keep_alive, asked.method)
                } else {
                    let method = asked.method;
                    (api::answer(&served.cluster, asked).await, keep_alive, method)
                }
            }
            Ok(Some(Incoming { asked, refused: Some(reply), .. })) => (reply, false, asked.method),
            Ok(None) => return,
            Err(reply) => (reply, false, Method::Get),
        };
        let mut out = head(reply.status, reply.content_type);
        encode::content_length(&mut out, reply.body.len() as u64);
        if !keep_alive {
            encode::header(&mut out, b"connection", b"close");
        }
        encode::end(&mut out);
        if method != Method::Head {
            out.extend_from_slice(&reply.body);
        }
        let (sent, _) = stream.write_all(out).await;
        if sent.is_err() || !keep_alive {
            return;
        }
    }
}

/// The beginning of an answer's head: what every answer has.
fn head(status: u16, content_type: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(1024);
    encode::status_line(&mut out, status);
    encode::header(&mut out, b"content-type", content_type.as_bytes());
    encode::header(&mut out, b"cache-control", b"no-store");
    encode::header(&mut out, b"content-security-policy", CONTENT_SECURITY_POLICY.as_bytes());
    encode::header(&mut out, b"x-content-type-options", b"nosniff");
    encode::header(&mut out, b"referrer-policy", b"no-referrer");
    out
}

/// Sends events until the listener leaves; false, and nothing was sent, if there is no place for it. The end of the
/// connection is the end of the answer.
async fn events(stream: &mut TcpStream, served: &Rc<Served>) -> bool {
    // Without the limit a listener that takes nothing is noticed later, and no worse.
    let _ = socket::limit_send_buffer(stream, feed::SEND_BUFFER_BYTES);
    let mut out = head(200, "text/event-stream");
    encode::header(&mut out, b"connection", b"close");
    encode::end(&mut out);
    let begin = || {
        if served.feed.begin() {
            monoio::spawn(beat(Rc::clone(served)));
        }
    };
    served.feed.serve(stream, out, feed::SLOW_AFTER, begin).await
}

/// Makes an event a second as long as somebody listens.
async fn beat(served: Rc<Served>) {
    let mut sampler = Sampler::default();
    let mut due = Instant::now();
    loop {
        let workers = served.cluster.statuses_within(EVENT_REPORT_NS).await;
        let event = sampler.take(&served.cluster, workers, clock::monotonic_ns());
        served.feed.publish(&event.to_string());
        // Beats that were missed are not made up for.
        due = (due + feed::BEAT).max(Instant::now());
        monoio::time::sleep(due.saturating_duration_since(Instant::now())).await;
        if !served.feed.goes_on() {
            return;
        }
    }
}

struct Incoming {
    asked: Asked,
    keep_alive: bool,
    /// What is answered instead of what was asked for.
    refused: Option<Reply>,
}

/// The next request; `None` when the peer has gone.
async fn read_request(stream: &mut TcpStream, bytes: &mut Vec<u8>, token: &str) -> Result<Option<Incoming>, Reply> {
    let mut head = RequestHead::default();
    loop {
        match parse_request(bytes, &LIMITS, &mut head) {
            Ok(Progress::Complete) => break,
            Ok(Progress::Incomplete) => {
                if !more(stream, bytes).await {
                    return Ok(None);
                }
            }
            Err(reject) => return Err(Reply::text(reject.status, reject.reason)),
        }
    }
    let text = |part: &[u8]| String::from_utf8_lossy(part).into_owned();
    let path = text(head.path.of(bytes));
    let query = text(head.query.of(bytes));
    let refused = guard::check(token, &asker(&head, bytes, &path)).err();
    let (method, keep_alive) = (head.method, head.keep_alive);
    bytes.drain(..head.head_bytes);
    let bytes_max = if refused.is_some() { REFUSED_BYTES_MAX } else { REQUEST_BYTES_MAX };
    let mut reader = BodyReader::new(head.framing, bytes_max as u64);
    let mut body = Vec::new();
    while !reader.is_done() {
        let step = reader.read(bytes).map_err(|reject| Reply::text(reject.status, reject.reason))?;
        body.extend_from_slice(&bytes[step.data]);
        bytes.drain(..step.consumed);
        if !step.done && bytes.is_empty() && !more(stream, bytes).await {
            return Ok(None);
        }
    }
    Ok(Some(Incoming { asked: Asked { method, path, query, body }, keep_alive, refused }))
}

/// Who asks, by the head of the request.
fn asker(head: &RequestHead, bytes: &[u8], path: &str) -> Asker {
    let text = |part: &[u8]| String::from_utf8_lossy(part).into_owned();
    let field = |name: &[u8]| {
        let mut fields = head.headers.iter();
        let found = fields.find(|header| header.name.of(bytes).eq_ignore_ascii_case(name));
        found.map(|header| text(header.value.of(bytes)))
    };
    let is_order = !head.method.is_safe();
    Asker {
        is_order,
        is_console: !is_order && console::file(path).is_some(),
        host: Some(text(head.host.of(bytes))),
        origin: head.value(bytes, Known::Origin).map(text),
        fetch_site: field(b"sec-fetch-site"),
        fetch_mode: field(b"sec-fetch-mode"),
        fetch_dest: field(b"sec-fetch-dest"),
        bearer: field(b"authorization").and_then(|value| value.strip_prefix("Bearer ").map(Into::into)),
    }
}

/// Reads on; false at the end or on an error.
async fn more(stream: &mut TcpStream, bytes: &mut Vec<u8>) -> bool {
    let (outcome, buffer) = stream.read(vec![0; 16 * 1024]).await;
    match outcome {
        Ok(count) if count > 0 => {
            bytes.extend_from_slice(&buffer[..count]);
            true
        }
        Ok(_) | Err(_) => false,
    }
}
