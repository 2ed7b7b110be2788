//! What an engine promises to the machines above it.
//!
//! ```text
//!   machines ──orders──▶ Engine ──one io_uring_enter a turn──▶ kernel
//!            ◀─events──         ◀───────completions──────────
//! ```
//! A caller owns the loop: it calls [`Engine::turn`], which submits everything ordered since the last turn, waits,
//! and appends what happened to `events`. Nothing nests: an order given while events are handled takes effect in the
//! next turn. Every connection's life ends with exactly one [`Event::Closed`]; after it the slot may be used again
//! with a new generation, and orders for an old generation are ignored.

use std::net::SocketAddr;
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::{fmt, io};

use super::{Lease, Waker};

/// One connection of one engine: the slot may be recycled, the generation tells its lives apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Conn {
    /// Index below [`Config::connections_max`]: callers keep their own state in a vector by slot.
    pub slot: u32,
    /// Counts the lives of the slot.
    pub generation: u32,
}

/// One listener of one engine, in the order of [`Engine::listen`] calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ListenerId(pub u32);

/// Where a listener listens or an upstream server is found: `127.0.0.1:80`, `[::1]:80` or `unix:/path`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Address {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("unix:") {
            if path.is_empty() {
                return Err("`unix:` needs a path behind it, as in unix:/run/app.sock".into());
            }
            return Ok(Self::Unix(path.into()));
        }
        text.parse()
            .map(Self::Tcp)
            .map_err(|_| format!("`{text}` is no address: write 127.0.0.1:8080, [::1]:8080 or unix:/run/app.sock"))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(out, "{address}"),
            Self::Unix(path) => write!(out, "unix:{}", path.display()),
        }
    }
}

/// What happened. `Data` leases its bytes from the engine's pool: dropping the lease gives the buffer back.
#[derive(Debug)]
pub enum Event {
    /// A new connection; it receives nothing until [`Engine::receive`] is called with `true`.
    Accepted { listener: ListenerId, conn: Conn },
    /// The outcome of [`Engine::connect`]; after an error, `Closed` follows.
    Connected { conn: Conn, result: io::Result<()> },
    /// Bytes from the peer, never empty.
    Data { conn: Conn, bytes: Lease },
    /// The peer sends no more; sending to it may still work.
    Eof { conn: Conn },
    /// The connection's send queue became empty: all that was ordered has been taken by the kernel.
    Sent { conn: Conn },
    /// The connection is gone: its last event. Its slot is given out again from the next turn on, so that no new
    /// connection meets what a caller still keeps of an old one whose `Closed` comes later in the same batch.
    Closed { conn: Conn, reason: CloseReason },
    /// A timer of [`Engine::timer`] came due.
    Timer { token: u64 },
    /// Another thread called the engine's [`Waker`].
    Woken,
}

/// Why a connection is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseReason {
    /// We ordered it with [`Engine::close`] or [`Engine::detach`].
    Ordered,
    /// The peer reset it, or it failed with this `errno`.
    Failed(i32),
}

/// How to close.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Close {
    /// Send what is queued, then FIN; input that still arrives is read and dropped for at most
    /// [`Config::linger_ms`], so that the peer sees the answer and no reset (RFC 9112 section 9.6).
    Flush,
    /// At once: queued bytes are dropped and the peer gets a reset.
    Reset,
}

/// Bytes on their way out.
#[derive(Debug)]
pub enum Chunk {
    /// A pool buffer, often the very one that the kernel filled: forwarding copies nothing.
    Lease(Lease),
    /// A part of bytes that live elsewhere, such as a static object.
    Shared(Arc<[u8]>, Range<usize>),
    /// Constant bytes.
    Static(&'static [u8]),
}

impl Chunk {
    /// The bytes still to send.
    pub fn as_slice(&self) -> &[u8] {
        match self {
            Self::Lease(lease) => lease,
            Self::Shared(bytes, range) => &bytes[range.clone()],
            Self::Static(bytes) => bytes,
        }
    }
}

/// Sizes of one engine. All memory is taken at start.
#[derive(Clone, Debug)]
pub struct Config {
    /// Connections at the same time, accepted and connected together.
    pub connections_max: u32,
    /// Buffers that the kernel fills (a power of two, at most 32768).
    pub receive_buffers: u16,
    /// Bytes of each of them.
    pub receive_buffer_bytes: u32,
    /// Buffers that machines fill ([`Engine::lease`]).
    pub send_buffers: u32,
    /// Bytes of each of them.
    pub send_buffer_bytes: u32,
    /// Submission queue entries (a power of two).
    pub submission_entries: u32,
    /// Completion queue entries (a power of two, several times the former).
    pub completion_entries: u32,
    /// See [`Close::Flush`].
    pub linger_ms: u32,
    /// Events that one turn may hand over.
    pub events_max: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            connections_max: 4096,
            receive_buffers: 1024,
            receive_buffer_bytes: 8192,
            send_buffers: 1024,
            send_buffer_bytes: 16384,
            submission_entries: 512,
            completion_entries: 8192,
            linger_ms: 1000,
            events_max: 1024,
        }
    }
}

/// Counters of one engine since its start. Written by its own thread only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "appliance", derive(serde::Serialize))]
pub struct Statistics {
    pub turns: u64,
    pub enters: u64,
    pub submissions: u64,
    pub completions: u64,
    pub accepted: u64,
    pub connected: u64,
    pub closed: u64,
    pub received_bytes: u64,
    pub sent_bytes: u64,
    /// Receives armed again after they ended, for want of a buffer or because they had been paused.
    pub rearms: u64,
    /// Receives that found no free buffer.
    pub exhaustions: u64,
    /// Enters that found completions waiting in the kernel because the completion queue was full.
    pub overflows: u64,
    /// Accepted sockets closed at once because every slot was taken.
    pub refused: u64,
    /// Accepts that failed for want of descriptors or memory: the listener rests for a moment after each.
    pub accept_failures: u64,
    pub wakes: u64,
    /// Enters by the completions that were reaped before the next one: the first counts those without any, entry `n`
    /// those with 2^(n-1) up to 2^n - 1, and the last one all beyond. The last enter is not in it yet.
    pub completions_per_enter: [u64; COMPLETION_BUCKETS],
}

/// Entries of [`Statistics::completions_per_enter`].
pub const COMPLETION_BUCKETS: usize = 16;

impl Statistics {
    /// Counts an enter that is about to begin. `entered_at` remembers [`Self::completions`] from one to the next.
    pub(super) fn count_enter(&mut self, entered_at: &mut u64) {
        if self.enters > 0 {
            let reaped = self.completions - *entered_at;
            let bits = usize::try_from(u64::BITS - reaped.leading_zeros()).unwrap_or(usize::MAX);
            self.completions_per_enter[bits.min(COMPLETION_BUCKETS - 1)] += 1;
        }
        *entered_at = self.completions;
        self.enters += 1;
    }
}

/// An engine, owned by the thread that made it. All times are [`clock_monotonic_ns`](super::clock_monotonic_ns).
pub trait Engine: Sized {
    /// The name that the `ready` line shows.
    const NAME: &'static str;

    /// Makes the engine on the calling thread; `waker` is how other threads reach it.
    ///
    /// # Errors
    /// What the kernel refused, as one sentence with the cure (io_uring blocked, memlock limit, descriptors).
    fn new(config: &Config, waker: Waker) -> io::Result<Self>;

    /// Starts to accept on a listening socket (see [`socket::listen`](super::socket::listen)).
    fn listen(&mut self, socket: OwnedFd) -> io::Result<ListenerId>;

    /// Stops accepting on every listener and closes them: the first step of a drain.
    fn stop_listening(&mut self);

    /// Opens a connection; [`Event::Connected`] tells the outcome.
    ///
    /// # Errors
    /// No free slot, or no socket.
    fn connect(&mut self, to: &Address) -> io::Result<Conn>;

    /// Takes over a connected socket that another worker handed off.
    fn adopt(&mut self, socket: OwnedFd) -> io::Result<Conn>;

    /// Gives a quiet connection away: before its first [`Engine::receive`], or after receiving was paused and the pause
    /// has taken effect, which is asked for again in later turns. The slot is free at once and no further event comes;
    /// what the peer sent and no event has shown waits in the socket. `None` if operations are in flight, bytes are
    /// queued, or events of the connection are still to be handed over.
    fn detach(&mut self, conn: Conn) -> Option<OwnedFd>;

    /// Starts or pauses receiving (level, not edge). While paused the peer is held by TCP's window: back-pressure.
    /// Data that the kernel had delivered before the pause still arrives as events.
    fn receive(&mut self, conn: Conn, on: bool);

    /// Appends to the connection's send queue. Ignored (and dropped) for a connection that is closing or gone.
    fn send(&mut self, conn: Conn, chunk: Chunk);

    /// Takes the last chunk of the send queue back if it is a lease with room for `bytes` more and the kernel has not
    /// begun with it: what is written next can go on in it, which makes one chunk to send instead of two. An engine
    /// that cannot tell gives nothing.
    fn reclaim(&mut self, _conn: Conn, _bytes: usize) -> Option<Lease> {
        None
    }

    /// Bytes in the send queue that the kernel has not taken.
    fn queued_bytes(&self, conn: Conn) -> usize;

    /// Sends FIN once the queue is empty; receiving goes on.
    fn shutdown_send(&mut self, conn: Conn);

    /// Closes; see [`Close`]. [`Event::Closed`] follows in a later turn and is the only further event. Idempotent; a
    /// reset overtakes a flush. A flush lasts as long as the peer takes bytes slowly: bound it with a timer and a reset.
    fn close(&mut self, conn: Conn, how: Close);

    /// An empty buffer to fill and send; `None` when all are in use.
    fn lease(&mut self) -> Option<Lease>;

    /// One [`Event::Timer`] at `at_ns` or up to a millisecond later. Timers are not cancelled: a machine that no
    /// longer wants one checks its own deadline when it fires.
    fn timer(&mut self, at_ns: u64, token: u64);

    /// The time read once per turn.
    fn now_ns(&self) -> u64;

    /// The peer's address; `None` for Unix sockets and connections that are gone.
    fn peer(&self, conn: Conn) -> Option<SocketAddr>;

    /// Submits what was ordered, waits until something happened or `until_ns` is reached (a time in the past: does
    /// not wait), and appends at most [`Config::events_max`] events.
    fn turn(&mut self, until_ns: u64, events: &mut Vec<Event>) -> io::Result<()>;

    fn statistics(&self) -> Statistics;
}

#[cfg(test)]
mod tests {
    use super::{COMPLETION_BUCKETS, Statistics};

    #[test]
    fn enters_are_sorted_by_the_completions_they_brought() {
        let (mut statistics, mut entered_at) = (Statistics::default(), 0);
        for reaped in [0, 1, 2, 3, 4, 1 << 13, 1 << 14, 1 << 40] {
            statistics.count_enter(&mut entered_at);
            statistics.completions += reaped;
        }
        assert_eq!(statistics.completions_per_enter.iter().sum::<u64>(), statistics.enters - 1, "the last is open");
        statistics.count_enter(&mut entered_at);
        let mut expected = [0; COMPLETION_BUCKETS];
        for (bucket, enters) in [(0, 1), (1, 1), (2, 2), (3, 1), (14, 1), (15, 2)] {
            expected[bucket] = enters;
        }
        assert_eq!(statistics.completions_per_enter, expected);
    }
}
