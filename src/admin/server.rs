//! The admin interface's HTTP server: few connections, one task each, on a monoio runtime of its own.

use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use monoio::io::{AsyncReadRent, AsyncWriteRentExt};
use monoio::net::{TcpListener, TcpStream};
use monoio::{FusionDriver, LegacyDriver, RuntimeBuilder};

use crate::http1::body::BodyReader;
use crate::http1::encode;
use crate::http1::head::{Known, Method, RequestHead};
use crate::http1::parse::{ParseLimits, Progress, parse_request};

use super::Cluster;
use super::api;

/// Bytes of a request to the admin interface at most: a deploy carries all sources of an application.
const REQUEST_BYTES_MAX: usize = 32 * 1024 * 1024;
const LIMITS: ParseLimits = ParseLimits { head_bytes_max: 16 * 1024, header_count_max: 100 };
/// How often the thread looks whether it should end. Also the guard against a wake that another thread's message
/// might lose in the runtime.
const TICK: Duration = Duration::from_millis(10);

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
        let token: Rc<str> = token.into();
        // The accept is never given up half-way: a connection that the kernel had already taken would be lost with it.
        monoio::spawn(async move {
            loop {
                match listener.accept().await {
                    Ok((stream, _)) => drop(monoio::spawn(serve(stream, Arc::clone(&cluster), Rc::clone(&token)))),
                    // Descriptors are exhausted: look again a moment later.
                    Err(_) => monoio::time::sleep(TICK).await,
                }
            }
        });
        while !stop.load(Ordering::Acquire) {
            monoio::time::sleep(TICK).await;
        }
        Ok(())
    })
}

async fn serve(mut stream: TcpStream, cluster: Arc<Cluster>, token: Rc<str>) {
    let mut bytes = Vec::new();
    loop {
        let outcome = read_request(&mut stream, &mut bytes).await;
        let (reply, keep_alive) = match outcome {
            Ok(Some((asked, keep_alive, authorized))) => {
                if token.is_empty() || authorized.as_deref() == Some(&*token) {
                    (api::answer(&cluster, asked).await, keep_alive)
                } else {
                    (
                        Reply::text(
                            401,
                            "the admin interface needs `Authorization: Bearer TOKEN` (listen.admin_token)",
                        ),
                        false,
                    )
                }
            }
            Ok(None) => return,
            Err(reply) => (reply, false),
        };
        let mut out = Vec::with_capacity(reply.body.len() + 256);
        encode::status_line(&mut out, reply.status);
        encode::header(&mut out, b"content-type", reply.content_type.as_bytes());
        encode::header(&mut out, b"cache-control", b"no-store");
        encode::content_length(&mut out, reply.body.len() as u64);
        if !keep_alive {
            encode::header(&mut out, b"connection", b"close");
        }
        encode::end(&mut out);
        out.extend_from_slice(&reply.body);
        let (sent, _) = stream.write_all(out).await;
        if sent.is_err() || !keep_alive {
            return;
        }
    }
}

type Incoming = (Asked, bool, Option<String>);

/// The next request; `None` when the peer has gone.
async fn read_request(stream: &mut TcpStream, bytes: &mut Vec<u8>) -> Result<Option<Incoming>, Reply> {
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
    let authorized = head
        .value(bytes, Known::Authorization)
        .map(text)
        .and_then(|value| value.strip_prefix("Bearer ").map(Into::into));
    let (method, keep_alive) = (head.method, head.keep_alive);
    bytes.drain(..head.head_bytes);
    let mut reader = BodyReader::new(head.framing, REQUEST_BYTES_MAX as u64);
    let mut body = Vec::new();
    while !reader.is_done() {
        let step = reader.read(bytes).map_err(|reject| Reply::text(reject.status, reject.reason))?;
        body.extend_from_slice(&bytes[step.data]);
        bytes.drain(..step.consumed);
        if !step.done && bytes.is_empty() && !more(stream, bytes).await {
            return Ok(None);
        }
    }
    Ok(Some((Asked { method, path, query, body }, keep_alive, authorized)))
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
