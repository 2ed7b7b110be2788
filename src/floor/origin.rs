//! `twintier origin`: answers every request with the same bytes.
//!
//! It plays the back-end of proxy comparisons and tells what the engine alone can do. The answer carries no `Date`, so
//! that every answer of every run is the same.

use std::collections::VecDeque;
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use std::{fs, io};

use super::request::{Persistence, Unclear, head};
use super::{engine_for, position, start};
use crate::engine::{
    Address, Chunk, Close, Conn, Engine, EngineChoice, EngineKind, Event, Glommio, MonoioEpoll, MonoioUring, Uring,
    Waker,
};

/// What `twintier origin` was told.
#[derive(Clone, Debug)]
pub struct OriginOptions {
    /// Where to listen; port 0 lets the kernel choose.
    pub listen: Address,
    /// The core to run on; the scheduler's choice without it.
    pub core: Option<usize>,
    /// The engine to run on.
    pub engine: EngineChoice,
    /// Bytes of the answer's body, where no file gives it.
    pub body_bytes: usize,
    /// The file that is the answer's body.
    pub body_file: Option<PathBuf>,
    /// The answer's `Content-Type`.
    pub content_type: String,
    /// Further fields of the answer, `Name: value`.
    pub fields: Vec<String>,
    /// How long an answer waits after its request is complete, in microseconds.
    pub delay_us: u64,
    /// Processor time that is burnt before each answer, in nanoseconds: a handicap of known size, to see whether a
    /// comparison notices it.
    pub burn_ns: u64,
    /// Set to end [`run`]; wake `waker` afterwards.
    pub stop: Arc<AtomicBool>,
    /// The engine's doorbell.
    pub waker: Waker,
}

/// Prints `ready origin=ADDRESS engine=NAME` and answers on the calling thread until `stop` is set; then prints
/// `ended origin requests=N`, all that it answered.
///
/// # Errors
/// The core, the address, the body's file or io_uring is not to be had, or a field is none: one sentence with the cure.
pub fn run(options: OriginOptions) -> io::Result<()> {
    let kind = engine_for(options.engine)?;
    match kind {
        EngineKind::Uring => run_on::<Uring>(options),
        EngineKind::Monoio => run_on::<MonoioUring>(options),
        EngineKind::MonoioEpoll => run_on::<MonoioEpoll>(options),
        EngineKind::Glommio => run_on::<Glommio>(options),
    }
}

fn run_on<E: Engine>(options: OriginOptions) -> io::Result<()> {
    let mut origin = Origin::new(&body(&options)?, &fields(&options)?, &options);
    let mut engine: E = start("origin", &options.listen, options.core, options.waker)?;
    let mut events = Vec::with_capacity(super::config().events_max);
    while !options.stop.load(Ordering::Acquire) {
        engine.turn(origin.deadline_ns(), &mut events)?;
        origin.answer_due(&mut engine);
        for event in events.drain(..) {
            origin.handle(&mut engine, event);
        }
    }
    writeln!(io::stdout(), "ended origin requests={}", origin.answered)
}

fn body(options: &OriginOptions) -> io::Result<Vec<u8>> {
    match &options.body_file {
        None => Ok(b"twintier origin\n".iter().copied().cycle().take(options.body_bytes).collect()),
        Some(path) => fs::read(path).map_err(|error| {
            io::Error::new(error.kind(), format!("--body-file {}: {error}; name a file to answer with", path.display()))
        }),
    }
}

/// The lines of the answer's head that every answer has, but for its length.
fn fields(options: &OriginOptions) -> io::Result<String> {
    let mut lines = format!("Content-Type: {}\r\n", options.content_type);
    for field in &options.fields {
        // RFC 9110 section 5: a name, a colon, a value without line breaks.
        let sound = field.split_once(':').is_some_and(|(name, _)| !name.is_empty() && !name.contains(' '));
        if !sound || field.contains(['\r', '\n']) {
            let message = format!("`{field}` is no field; write it as \"Name: value\"");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        lines.push_str(field);
        lines.push_str("\r\n");
    }
    Ok(lines)
}

/// Longest head; more is answered with 431.
const HEAD_BYTES_MAX: usize = 32 * 1024;

/// Queued answers beyond which a connection's requests wait.
const QUEUED_BYTES_MAX: usize = 1 << 20;

const TOO_LARGE: &[u8] =
    b"HTTP/1.1 431 Request Header Fields Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
const MALFORMED: &[u8] = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
const LENGTH_REQUIRED: &[u8] = b"HTTP/1.1 411 Length Required\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";

/// One connection's place in its byte stream.
#[derive(Default)]
struct Exchange {
    /// The start of a head that came in parts; empty as long as heads come whole.
    part: Vec<u8>,
    /// Bytes of the current request's body that are still to come.
    body_left: u64,
    /// The request whose body is coming.
    current: Option<Answer>,
    /// Answers that wait for their time.
    waiting: u32,
    /// No further request is read.
    last: bool,
    paused: bool,
}

/// One answer: which variant, and whether it has a body.
#[derive(Clone, Copy, Debug)]
struct Answer {
    persistence: Persistence,
    head_only: bool,
}

/// A whole answer, with the length of its head.
struct Prepared {
    bytes: Arc<[u8]>,
    head_bytes: usize,
}

impl Prepared {
    fn new(fields: &str, line: &str, body: &[u8]) -> Self {
        let head = format!("HTTP/1.1 200 OK\r\n{fields}Content-Length: {}\r\n{line}\r\n", body.len());
        Self { bytes: [head.as_bytes(), body].concat().into(), head_bytes: head.len() }
    }

    fn chunk(&self, head_only: bool) -> Chunk {
        let end = if head_only { self.head_bytes } else { self.bytes.len() };
        Chunk::Shared(Arc::clone(&self.bytes), 0..end)
    }
}

/// Keeps the core busy.
fn burn(time: Duration) {
    if time.is_zero() {
        return;
    }
    let begun = Instant::now();
    while begun.elapsed() < time {
        std::hint::spin_loop();
    }
}

struct Origin {
    stay: Prepared,
    stay_confirmed: Prepared,
    close: Prepared,
    delay_ns: u64,
    burn: Duration,
    answered: u64,
    /// Answers that wait; the delay is the same for all, so the first is due first.
    waiting: VecDeque<(u64, Conn, Answer)>,
    exchanges: Vec<Exchange>,
}

impl Origin {
    fn new(body: &[u8], fields: &str, options: &OriginOptions) -> Self {
        Self {
            stay: Prepared::new(fields, "", body),
            stay_confirmed: Prepared::new(fields, "Connection: keep-alive\r\n", body),
            close: Prepared::new(fields, "Connection: close\r\n", body),
            delay_ns: options.delay_us.saturating_mul(1_000),
            burn: Duration::from_nanos(options.burn_ns),
            answered: 0,
            waiting: VecDeque::with_capacity(1024),
            exchanges: (0..super::config().connections_max).map(|_| Exchange::default()).collect(),
        }
    }

    fn deadline_ns(&self) -> u64 {
        self.waiting.front().map_or(u64::MAX, |&(due_ns, _, _)| due_ns)
    }

    fn answer_due(&mut self, engine: &mut impl Engine) {
        while let Some(&(due_ns, conn, answer)) = self.waiting.front()
            && due_ns <= engine.now_ns()
        {
            self.waiting.pop_front();
            self.send(engine, conn, answer);
        }
    }

    fn handle(&mut self, engine: &mut impl Engine, event: Event) {
        match event {
            Event::Accepted { conn, .. } => {
                self.exchanges[position(conn.slot)] = Exchange::default();
                engine.receive(conn, true);
            }
            Event::Data { conn, bytes } => self.read(engine, conn, &bytes),
            Event::Eof { conn } => {
                let exchange = &mut self.exchanges[position(conn.slot)];
                exchange.last = true;
                if exchange.waiting == 0 {
                    engine.close(conn, Close::Flush);
                }
            }
            Event::Sent { conn } => {
                let exchange = &mut self.exchanges[position(conn.slot)];
                if std::mem::take(&mut exchange.paused) {
                    engine.receive(conn, true);
                }
            }
            Event::Closed { conn, .. } => {
                self.waiting.retain(|&(_, which, _)| which != conn);
                self.exchanges[position(conn.slot)] = Exchange::default();
            }
            Event::Connected { .. } | Event::Timer { .. } | Event::Woken => {}
        }
    }

    /// Answers every request that `bytes` completes.
    fn read(&mut self, engine: &mut impl Engine, conn: Conn, bytes: &[u8]) {
        let mut part = std::mem::take(&mut self.exchanges[position(conn.slot)].part);
        let mut rest = bytes;
        if !part.is_empty() {
            part.extend_from_slice(bytes);
            rest = &part;
        }
        while !rest.is_empty() && !self.exchanges[position(conn.slot)].last {
            let exchange = &mut self.exchanges[position(conn.slot)];
            if let Some(answer) = exchange.current {
                let taken = usize::try_from(exchange.body_left).unwrap_or(usize::MAX).min(rest.len());
                rest = &rest[taken..];
                exchange.body_left -= u64::try_from(taken).unwrap_or(exchange.body_left);
                if exchange.body_left == 0 {
                    exchange.current = None;
                    self.answer(engine, conn, answer);
                }
                continue;
            }
            match head(rest) {
                Ok(Some(head)) => {
                    rest = &rest[head.bytes..];
                    let answer = Answer { persistence: head.persistence, head_only: head.head_only };
                    if head.body_bytes == 0 {
                        self.answer(engine, conn, answer);
                    } else {
                        exchange.current = Some(answer);
                        exchange.body_left = head.body_bytes;
                    }
                }
                Ok(None) if rest.len() > HEAD_BYTES_MAX => self.refuse(engine, conn, TOO_LARGE),
                Ok(None) => {
                    exchange.part = rest.to_vec();
                    break;
                }
                Err(Unclear::Malformed) => self.refuse(engine, conn, MALFORMED),
                Err(Unclear::Coding) => self.refuse(engine, conn, LENGTH_REQUIRED),
            }
        }
        if engine.queued_bytes(conn) > QUEUED_BYTES_MAX {
            self.exchanges[position(conn.slot)].paused = true;
            engine.receive(conn, false);
        }
    }

    /// Sends an answer now or after the delay.
    fn answer(&mut self, engine: &mut impl Engine, conn: Conn, answer: Answer) {
        let exchange = &mut self.exchanges[position(conn.slot)];
        exchange.last = answer.persistence == Persistence::Close;
        exchange.waiting += 1;
        if self.delay_ns == 0 {
            self.send(engine, conn, answer);
        } else {
            self.waiting.push_back((engine.now_ns().saturating_add(self.delay_ns), conn, answer));
        }
    }

    fn send(&mut self, engine: &mut impl Engine, conn: Conn, answer: Answer) {
        let prepared = match answer.persistence {
            Persistence::Stay => &self.stay,
            Persistence::StayConfirmed => &self.stay_confirmed,
            Persistence::Close => &self.close,
        };
        burn(self.burn);
        engine.send(conn, prepared.chunk(answer.head_only));
        self.answered += 1;
        let exchange = &mut self.exchanges[position(conn.slot)];
        exchange.waiting -= 1;
        if exchange.last && exchange.waiting == 0 {
            engine.close(conn, Close::Flush);
        }
    }

    fn refuse(&mut self, engine: &mut impl Engine, conn: Conn, answer: &'static [u8]) {
        self.exchanges[position(conn.slot)].last = true;
        engine.send(conn, Chunk::Static(answer));
        engine.close(conn, Close::Flush);
    }
}
