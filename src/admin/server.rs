//! The admin interface's HTTP server: few connections, one task each, on a monoio runtime of its own.

use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use monoio::io::AsyncWriteRentExt;
use monoio::net::{TcpListener, TcpStream};
use monoio::{FusionDriver, LegacyDriver, RuntimeBuilder};

use crate::clock;
use crate::engine::socket;
use crate::http1::encode;
use crate::http1::head::Method;

use super::feed::{self, Feed};
use super::history::History;
use super::incoming::{CONNECTIONS_MAX, Incoming, PATIENCE, Place, Places, Reader};
use super::sample::Sampler;
use super::{Cluster, api};

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
    reader: Reader,
    feed: Rc<Feed>,
    history: History,
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
        let reader = Reader::new(&token, PATIENCE);
        let served = Rc::new(Served { cluster, reader, feed: Rc::clone(&feed), history: History::default() });
        monoio::spawn(beat(Rc::clone(&served)));
        let places = Places::new(CONNECTIONS_MAX);
        // The accept is never given up half-way: a connection that the kernel had already taken would be lost with it.
        monoio::spawn(async move {
            loop {
                match listener.accept().await {
                    Ok((stream, _)) => match places.take() {
                        Some(place) => drop(monoio::spawn(serve(stream, Rc::clone(&served), place))),
                        None => refuse(stream).await,
                    },
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

async fn serve(mut stream: TcpStream, served: Rc<Served>, _place: Place) {
    let mut bytes = Vec::new();
    let mut is_first = true;
    loop {
        let (reply, keep_alive, method) = match served.reader.next(&mut stream, &mut bytes, is_first).await {
            Ok(Some(Incoming { asked, keep_alive, refused: None })) => {
                if asked.method == Method::Get && asked.path == "/events" {
                    if events(&mut stream, &served).await {
                        return;
                    }
                    let full = format!("{} consoles listen already; close one, or try again", feed::LISTENERS_MAX);
                    (Reply::text(503, full), keep_alive, asked.method)
                } else {
                    let method = asked.method;
                    (api::answer(&served.cluster, &served.history, asked).await, keep_alive, method)
                }
            }
            Ok(Some(Incoming { asked, refused: Some(reply), .. })) => (reply, false, asked.method),
            Ok(None) => return,
            Err(reply) => (reply, false, Method::Get),
        };
        is_first = false;
        let out = written(reply, keep_alive, method);
        let sent = monoio::time::timeout(served.reader.patience.take_max, stream.write_all(out)).await;
        if !matches!(sent, Ok((Ok(_), _))) || !keep_alive {
            return;
        }
    }
}

/// Says why there is no place for a connection. It fits into what the kernel holds for a fresh one.
async fn refuse(mut stream: TcpStream) {
    let full = Reply::text(503, format!("there are {CONNECTIONS_MAX} connections already; close one, or try again"));
    // Whoever has gone meanwhile needs no answer.
    let _ = monoio::time::timeout(TICK, stream.write_all(written(full, false, Method::Get))).await;
}

/// An answer as it goes over the connection.
fn written(reply: Reply, keep_alive: bool, method: Method) -> Vec<u8> {
    let mut out = head(reply.status, reply.content_type);
    encode::content_length(&mut out, reply.body.len() as u64);
    if !keep_alive {
        encode::header(&mut out, b"connection", b"close");
    }
    encode::end(&mut out);
    if method != Method::Head {
        out.extend_from_slice(&reply.body);
    }
    out
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
    served.feed.serve(stream, out, feed::SLOW_AFTER).await
}

/// Makes an event a second, for the consoles and for the history.
async fn beat(served: Rc<Served>) {
    let mut sampler = Sampler::default();
    let mut due = Instant::now();
    loop {
        let workers = served.cluster.statuses_within(EVENT_REPORT_NS).await;
        let event = sampler.take(&served.cluster, workers, clock::monotonic_ns());
        served.history.note(&event);
        served.feed.publish(&event.to_string());
        // Beats that were missed are not made up for.
        due = (due + feed::BEAT).max(Instant::now());
        monoio::time::sleep(due.saturating_duration_since(Instant::now())).await;
    }
}
