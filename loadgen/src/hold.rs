//! `loadgen hold`: connections that are held open beside a load. It measures nothing.
//!
//! ```text
//!   idle:  connect ─▶ one request, its whole answer ─▶ nothing more
//!   slow:  connect ─▶ the beginning of a head ─▶ a byte ─▶ a byte ─▶ …      (closed by the server: connects again)
//! ```
//! Plain blocking and non-blocking sockets, looked at in turn: a look at a few thousand connections a second costs a
//! hundredth of a core, and the load beside it has an engine of its own.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, connect, socket_with};
use twintier::engine::thread::{pin_to_core, raise_descriptor_limit};

use crate::response::ResponseReader;
use crate::target::write_request;

/// What one connection may take to be opened and answered.
const ANSWER_DEADLINE: Duration = Duration::from_secs(10);
/// Between two looks at idle connections.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long a signal may wait to be noticed.
const NAP: Duration = Duration::from_millis(50);
/// A round over all connections is cut into so many slices, so that their bytes do not come at once.
const SLICES: usize = 20;
/// Connections that may fail one after the other before it gives up.
const FAILURES_IN_A_ROW_MAX: u32 = 50;

/// What is held.
#[derive(Clone, Debug)]
pub struct Order {
    pub address: SocketAddr,
    pub authority: String,
    pub path: String,
    pub connections: u32,
    /// Time between two bytes of a slow head; `None` holds idle connections.
    pub drip: Option<Duration>,
    pub source_addresses: u8,
    pub duration: Duration,
    pub core: Option<usize>,
}

/// What became of the connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Tally {
    /// Closed by the server while they were held.
    closed: u64,
    /// Opened again afterwards.
    reopened: u64,
    /// Could not be opened again.
    refused: u64,
}

/// Opens the connections, prints `ready held=N`, holds them until the duration is over or a signal arrives, and prints
/// `ended held=N closed=N reopened=N refused=N`.
///
/// # Errors
/// Too many connections in a row fail, or there are too few descriptors.
pub fn perform(order: &Order) -> io::Result<()> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register_conditional_shutdown(signal, 1, Arc::clone(&stop))?;
        signal_hook::flag::register(signal, Arc::clone(&stop))?;
    }
    if order.source_addresses > 1 && !order.address.ip().is_loopback() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "--source-addresses takes addresses of 127.0.0.0/8, which reach loopback only; leave it out",
        ));
    }
    if let Some(core) = order.core {
        pin_to_core(core)?;
    }
    raise_descriptor_limit();
    let end = Instant::now() + order.duration;
    let mut held = Held { order, streams: Vec::new(), tally: Tally::default() };
    held.open_all(&stop)?;
    println!("ready held={}", held.count());
    held.hold(end, &stop);
    let Tally { closed, reopened, refused } = held.tally;
    println!("ended held={} closed={closed} reopened={reopened} refused={refused}", held.count());
    Ok(())
}

struct Held<'a> {
    order: &'a Order,
    /// `None` is a connection that the server closed.
    streams: Vec<Option<TcpStream>>,
    tally: Tally,
}

impl Held<'_> {
    fn count(&self) -> usize {
        self.streams.iter().flatten().count()
    }

    fn open_all(&mut self, stop: &AtomicBool) -> io::Result<()> {
        let mut failures_in_a_row = 0;
        for number in 0..self.order.connections {
            if stop.load(Ordering::Relaxed) {
                return Ok(());
            }
            match open(self.order, number) {
                Ok(stream) => {
                    failures_in_a_row = 0;
                    self.streams.push(Some(stream));
                }
                Err(error) => {
                    failures_in_a_row += 1;
                    self.streams.push(None);
                    self.tally.refused += 1;
                    if failures_in_a_row == FAILURES_IN_A_ROW_MAX || error.raw_os_error() == Some(EMFILE) {
                        return Err(io::Error::new(
                            error.kind(),
                            format!(
                                "connection {} of {} to {} cannot be held: {error}; raise `ulimit -n` or the server's limit of connections",
                                number + 1,
                                self.order.connections,
                                self.order.address
                            ),
                        ));
                    }
                }
            }
        }
        Ok(())
    }

    /// Round after round, a slice at a time.
    fn hold(&mut self, end: Instant, stop: &AtomicBool) {
        let round = self.order.drip.unwrap_or(LOOK_EVERY);
        let pause = round / u32::try_from(SLICES).expect("invariant: a small constant");
        let slice_connections = self.streams.len().div_ceil(SLICES).max(1);
        loop {
            for first in (0..self.streams.len()).step_by(slice_connections) {
                if stop.load(Ordering::Relaxed) || Instant::now() >= end {
                    return;
                }
                let last = (first + slice_connections).min(self.streams.len());
                for index in first..last {
                    self.look(index);
                }
                wait(pause, end, stop);
            }
        }
    }

    /// Reads what came, and sends the next byte of a slow head.
    fn look(&mut self, index: usize) {
        let slow = self.order.drip.is_some();
        if let Some(stream) = &mut self.streams[index] {
            if !is_open(stream) || (slow && stream.write(b"x").is_err_and(|error| !would_block(&error))) {
                self.streams[index] = None;
                self.tally.closed += 1;
            }
        } else if slow {
            let number = u32::try_from(index).expect("invariant: there are at most 60000 connections");
            match open(self.order, number) {
                Ok(stream) => {
                    self.streams[index] = Some(stream);
                    self.tally.reopened += 1;
                }
                Err(_) => self.tally.refused += 1,
            }
        }
    }
}

/// Sleeps in naps, because a signal interrupts no sleep of the standard library.
fn wait(pause: Duration, end: Instant, stop: &AtomicBool) {
    let until = (Instant::now() + pause).min(end);
    while !stop.load(Ordering::Relaxed) {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        thread::sleep(left.min(NAP));
    }
}

/// `EMFILE` of Linux: no descriptor is left.
const EMFILE: i32 = 24;

fn would_block(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock
}

/// Takes whatever the server sent; false once it closed.
fn is_open(stream: &mut TcpStream) -> bool {
    let mut bytes = [0; 4096];
    loop {
        match stream.read(&mut bytes) {
            Ok(0) => return false,
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return would_block(&error),
        }
    }
}

/// The address that a connection comes from.
fn source(order: &Order, number: u32) -> Option<SocketAddr> {
    let IpAddr::V4(_) = order.address.ip() else { return None };
    if order.source_addresses <= 1 {
        return None;
    }
    let last = 1 + number % u32::from(order.source_addresses);
    let last = u8::try_from(last).expect("invariant: at most 250");
    Some(SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, 0, 1, last)), 0))
}

/// Connects, and asks once (idle) or begins to ask (slow).
fn open(order: &Order, number: u32) -> io::Result<TcpStream> {
    let family = if order.address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    if let Some(source) = source(order, number) {
        bind(&socket, &source)?;
    }
    connect(&socket, &order.address)?;
    let mut stream = TcpStream::from(socket);
    stream.set_nodelay(true)?;
    if order.drip.is_some() {
        // In one piece: formatting into the socket would send many.
        let head = format!("GET {} HTTP/1.1\r\nHost: {}\r\nX-Slow: ", order.path, order.authority);
        stream.write_all(head.as_bytes())?;
    } else {
        stream.set_read_timeout(Some(ANSWER_DEADLINE))?;
        ask(order, &mut stream)?;
    }
    stream.set_nonblocking(true)?;
    Ok(stream)
}

/// One request and its whole answer.
fn ask(order: &Order, stream: &mut TcpStream) -> io::Result<()> {
    let mut request = Vec::new();
    write_request(&mut request, "GET", &order.path, &order.authority, std::iter::empty(), &[]);
    stream.write_all(&request)?;
    let mut reader = ResponseReader::new();
    reader.expect(false);
    let mut bytes = [0; 16 * 1024];
    loop {
        let count = stream.read(&mut bytes)?;
        if count == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the answer ended early"));
        }
        if reader.feed(&bytes[..count], &mut ()).map_err(|_| io::Error::other("the answer is no HTTP/1.1"))? {
            break;
        }
    }
    match reader.status() {
        Some(status) if status < 400 && reader.keep_alive() => Ok(()),
        Some(status) => Err(io::Error::other(format!("answered with status {status}, or closed behind it"))),
        None => Err(io::Error::other("the answer has no status")),
    }
}
