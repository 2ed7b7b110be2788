//! The way to the database server: a queue that is bounded by requests and by bytes, so that a database that is slow
//! costs bounded memory. Whoever finds it full is told at once and keeps the request.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crossbeam::channel::{Receiver, Sender, bounded};

use super::contract::{Change, Follow, FollowSink, LoadSink, Loaded, Outcome, Reply, ReplySink, Request, StoreResult};
use crate::clock;
use crate::limits;
use crate::tables::{Record, TableId, Update, Value};

/// What the queue holds at most.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// At least 1.
    pub requests_max: usize,
    /// A single request may be larger; then it is alone in the queue.
    pub bytes_max: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { requests_max: limits::DATABASE_QUEUE_MAX, bytes_max: limits::DATABASE_QUEUE_BYTES_MAX }
    }
}

/// A request with its price and the time when it came.
pub(super) struct Queued {
    pub request: Request,
    bytes: u64,
    /// Monotonic nanoseconds.
    pub at_ns: u64,
}

#[derive(Debug)]
struct Gauge {
    bytes_max: u64,
    bytes: AtomicU64,
    refused: AtomicU64,
}

/// The way to the server, for every thread that wants one.
#[derive(Clone)]
pub struct Client {
    queue: Sender<Queued>,
    gauge: Arc<Gauge>,
}

/// The server's end.
pub(super) struct Requests {
    queue: Receiver<Queued>,
    gauge: Arc<Gauge>,
}

pub(super) fn queue(limits: Limits) -> (Client, Requests) {
    let (sender, receiver) = bounded(limits.requests_max.max(1));
    let gauge = Arc::new(Gauge { bytes_max: limits.bytes_max, bytes: AtomicU64::new(0), refused: AtomicU64::new(0) });
    (Client { queue: sender, gauge: Arc::clone(&gauge) }, Requests { queue: receiver, gauge })
}

impl Client {
    /// Queues a request without waiting. `now_ns` is the monotonic clock's.
    ///
    /// # Errors
    /// The queue is full, by requests or by bytes, or the server has ended: the request comes back.
    pub fn try_send(&self, request: Request, now_ns: u64) -> Result<(), Request> {
        let bytes = bytes_of(&request);
        // ORDERING: a sum for a bound, no other memory hangs on it; the channel publishes the request itself.
        let before = self.gauge.bytes.fetch_add(bytes, Ordering::Relaxed);
        let refused = if before > 0 && before.saturating_add(bytes) > self.gauge.bytes_max {
            Some(request)
        } else {
            let sent = self.queue.try_send(Queued { request, bytes, at_ns: now_ns });
            sent.err().map(|error| error.into_inner().request)
        };
        let Some(request) = refused else { return Ok(()) };
        self.gauge.bytes.fetch_sub(bytes, Ordering::Relaxed);
        self.gauge.refused.fetch_add(1, Ordering::Relaxed);
        Err(request)
    }

    /// Waits for a place; for threads that may block.
    pub(super) fn send(&self, request: Request) -> StoreResult<()> {
        let bytes = bytes_of(&request);
        self.gauge.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.queue.send(Queued { request, bytes, at_ns: clock::monotonic_ns() }).map_err(|_| {
            self.gauge.bytes.fetch_sub(bytes, Ordering::Relaxed);
            ENDED.to_owned()
        })
    }

    /// Asks and waits, for threads that may block; `make` builds the request around the reply.
    ///
    /// # Errors
    /// The server has ended, or did not answer within `patience`: then nobody knows yet what becomes of a write. One
    /// sentence.
    pub fn ask(&self, patience: Duration, make: impl FnOnce(ReplySink) -> Request) -> StoreResult<Outcome> {
        let (sender, replies) = bounded(1);
        let reply: ReplySink = Arc::new(move |reply: Reply| drop(sender.try_send(reply.outcome)));
        self.send(make(reply))?;
        replies.recv_timeout(patience).map_err(|_| {
            format!(
                "the database server did not answer within {} s; whether it was done is unknown, look before you repeat it",
                patience.as_secs()
            )
        })
    }

    /// All rows and stubs of a table; waits.
    ///
    /// # Errors
    /// The store's, or the server has ended; one sentence.
    pub fn load(&self, table: TableId) -> StoreResult<Loaded> {
        let (sender, loaded) = bounded(1);
        let reply: LoadSink = Box::new(move |outcome| drop(sender.try_send(outcome)));
        self.send(Request::Load { table, reply })?;
        loaded.recv().map_err(|_| ENDED.to_owned())?
    }

    /// Has the server publish what other appliances committed; waits.
    ///
    /// # Errors
    /// The store's, or the server has ended; one sentence.
    pub fn follow(&self, updates_max: usize, members: bool) -> StoreResult<Follow> {
        let (sender, followed) = bounded(1);
        let reply: FollowSink = Box::new(move |outcome| drop(sender.try_send(outcome)));
        self.send(Request::Follow { updates_max, members, reply })?;
        followed.recv().map_err(|_| ENDED.to_owned())?
    }

    /// Requests that wait now.
    pub fn waiting(&self) -> usize {
        self.queue.len()
    }

    /// Bytes of the requests that wait now.
    pub fn waiting_bytes(&self) -> u64 {
        self.gauge.bytes.load(Ordering::Relaxed)
    }

    /// Requests that found the queue full, since the start. Agents try again, so that one request may count often.
    pub fn refused(&self) -> u64 {
        self.gauge.refused.load(Ordering::Relaxed)
    }
}

impl Requests {
    /// Waits for the next request, at most so long (`None`: for ever).
    pub fn wait(&self, patience: Option<Duration>) -> Waited {
        let received = match patience {
            None => self.queue.recv().map_err(|_| true),
            Some(patience) => self.queue.recv_timeout(patience).map_err(|error| error.is_disconnected()),
        };
        match received {
            Ok(queued) => Waited::Request(self.take(queued)),
            Err(true) => Waited::Nobody,
            Err(false) => Waited::Nothing,
        }
    }

    pub fn next(&self) -> Option<Queued> {
        self.queue.try_recv().ok().map(|queued| self.take(queued))
    }

    fn take(&self, queued: Queued) -> Queued {
        self.gauge.bytes.fetch_sub(queued.bytes, Ordering::Relaxed);
        queued
    }
}

pub(super) enum Waited {
    Request(Queued),
    /// The time is over.
    Nothing,
    /// Every client is gone.
    Nobody,
}

const ENDED: &str = "the database server has ended; see its last message, and restart the program";

/// What a request costs while it waits: its texts, and a flat price for each part.
fn bytes_of(request: &Request) -> u64 {
    const PART_BYTES: usize = 64;
    let bytes = PART_BYTES
        + match request {
            Request::Commit { updates, .. } => updates.iter().map(|update| PART_BYTES + update_bytes(update)).sum(),
            Request::Mutate { mutations, .. } => mutations
                .iter()
                .map(|mutation| {
                    let change = match &mutation.change {
                        Change::Put(record) => record_bytes(record),
                        Change::Set(values) => values.iter().map(|(_, value)| value_bytes(value)).sum(),
                        Change::Delete => 0,
                    };
                    PART_BYTES + mutation.key.len() + change
                })
                .sum(),
            Request::Deploy { sources, .. } => {
                sources.iter().map(|(path, text)| PART_BYTES + path.len() + text.len()).sum()
            }
            Request::Read { key, .. } => key.len(),
            Request::Number { name, .. } => name.len(),
            Request::Reshape { .. }
            | Request::Withdraw { .. }
            | Request::Load { .. }
            | Request::Follow { .. }
            | Request::TakeOver { .. }
            | Request::Stop => 0,
        };
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

fn update_bytes(update: &Update) -> usize {
    update.key.len() + update.record.as_ref().map_or(0, record_bytes)
}

fn record_bytes(record: &Record) -> usize {
    record.0.iter().map(value_bytes).sum()
}

fn value_bytes(value: &Value) -> usize {
    const PLAIN_BYTES: usize = 16;
    match value {
        Value::Text(text) => PLAIN_BYTES + text.len(),
        Value::Null | Value::Integer(_) | Value::Boolean(_) => PLAIN_BYTES,
    }
}
