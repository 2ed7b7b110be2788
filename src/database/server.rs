//! The database server: one thread, the only owner of a store. Everything that was queued when it looks becomes one
//! transaction (group commit); a reply leaves only after that transaction is on disk.
//!
//! ```text
//!   replicas, agents ──bounded queue──▶ take all ▶ begin ▶ execute each ▶ commit ▶ publish ▶ reply
//! ```
//! An order that is refused (conflict, wrong value) spoils nobody else's. If the store fails in the middle, the group
//! is undone and each order is tried alone, so that only the guilty one fails.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, RecvTimeoutError, Sender, bounded};

use super::contract::{
    CommitMode, Deployed, LoadSink, Loaded, Mutation, Outcome, Publisher, Reply, ReplySink, Request, Store, StoreResult,
};
use super::orders::{self, Author};
use super::seed::{self, SeedUser};
use crate::clock::unix_ms;
use crate::limits::BATCH_UPDATES_MAX;
use crate::tables::stamp::HybridClock;
use crate::tables::{Batch, ServerId, ShapeSet, TableId, Update};

/// Orders in one group: bounds the wait of its first one.
pub const GROUP_ORDERS_MAX: usize = 512;
/// The number of the first update that the application server's agents commit after a start.
pub const FIRST_NUMBER: u64 = 1;

/// What the server needs to know beside its store.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The application server's id: the origin and stamp of mutations.
    pub server: ServerId,
    /// Users to insert where absent, before the first request.
    pub users: Vec<SeedUser>,
    /// Application and digest of its code in the profile, noted with each deploy ([`Deployed::base_digest`]).
    pub code_digests: Vec<(Box<str>, Box<str>)>,
}

/// What the database held when it was opened.
#[derive(Clone, Debug)]
pub struct Opened {
    /// Signs session cookies; the same after every restart.
    pub session_key: [u8; 32],
    /// The latest deploy of each application.
    pub deployed: Vec<Deployed>,
    /// Rows and stubs.
    pub rows: u64,
    /// Users of the profile that were inserted.
    pub users_seeded: usize,
}

/// Counters since start, written by the server's thread only.
#[derive(Debug, Default)]
pub struct Statistics {
    /// Transactions committed.
    pub groups: AtomicU64,
    /// Orders (commits, mutations) in them.
    pub orders: AtomicU64,
    /// Updates in them.
    pub updates: AtomicU64,
    /// Orders refused because of a newer row.
    pub conflicts: AtomicU64,
    /// Orders that failed.
    pub failures: AtomicU64,
    /// Orders of the largest group.
    pub group_max: AtomicU64,
    /// Nanoseconds from taking a group to its commit, summed.
    pub group_ns: AtomicU64,
}

/// The way to the server, for every thread that wants one.
#[derive(Clone)]
pub struct Client {
    queue: Sender<Request>,
}

impl Client {
    /// Queues a request without waiting.
    ///
    /// # Errors
    /// The queue is full or the server has ended: the request comes back.
    pub fn try_send(&self, request: Request) -> Result<(), Request> {
        self.queue.try_send(request).map_err(crossbeam::channel::TrySendError::into_inner)
    }

    /// Asks and waits, for threads that may block; `make` builds the request around the reply.
    ///
    /// # Errors
    /// The server has ended, or did not answer within `patience`; one sentence.
    pub fn ask(&self, patience: Duration, make: impl FnOnce(ReplySink) -> Request) -> StoreResult<Outcome> {
        let (sender, replies) = bounded(1);
        let reply: ReplySink = Arc::new(move |reply: Reply| drop(sender.try_send(reply.outcome)));
        self.queue.send(make(reply)).map_err(|_| ENDED.to_owned())?;
        replies
            .recv_timeout(patience)
            .map_err(|_| format!("the database server did not answer within {} s", patience.as_secs()))
    }

    /// All rows and stubs of a table; waits.
    ///
    /// # Errors
    /// The store's, or the server has ended; one sentence.
    pub fn load(&self, table: TableId) -> StoreResult<Loaded> {
        let (sender, loaded) = bounded(1);
        let reply: LoadSink = Box::new(move |outcome| drop(sender.try_send(outcome)));
        self.queue.send(Request::Load { table, reply }).map_err(|_| ENDED.to_owned())?;
        loaded.recv().map_err(|_| ENDED.to_owned())?
    }

    /// Requests that wait now.
    pub fn waiting(&self) -> usize {
        self.queue.len()
    }
}

/// The wall clock that dates transactions, in Unix milliseconds.
pub type WallClock = Box<dyn Fn() -> u64 + Send>;

const ENDED: &str = "the database server has ended; see its last message, and restart the program";

/// The running server.
pub struct Handle {
    client: Client,
    thread: JoinHandle<StoreResult<()>>,
    statistics: Arc<Statistics>,
}

impl Handle {
    pub fn client(&self) -> &Client {
        &self.client
    }

    pub fn statistics(&self) -> &Arc<Statistics> {
        &self.statistics
    }

    /// Commits what is queued, closes the store and ends the thread.
    ///
    /// # Errors
    /// What the store said when it was closed; everything that was answered is on disk all the same.
    pub fn stop(self) -> StoreResult<()> {
        // An error means that the thread has ended already; joining tells why.
        drop(self.client.queue.send(Request::Stop));
        self.thread.join().unwrap_or_else(|_| Err("the database server panicked".into()))
    }
}

/// Starts the thread, opens the store on it, seeds it, and returns when the first request may come.
///
/// # Errors
/// What `store` said (locked, other version, no database, disk full …), or the seeding; one sentence with the cure.
pub fn spawn<S: Store + 'static>(
    settings: Settings,
    store: impl FnOnce() -> StoreResult<S> + Send + 'static,
    queue_max: usize,
    publisher: Publisher,
) -> StoreResult<(Handle, Opened)> {
    let (queue, requests) = bounded(queue_max.max(1));
    let (opened_sender, opened) = bounded(1);
    let statistics = Arc::new(Statistics::default());
    let counters = statistics.clone();
    let body = move || {
        let clock: WallClock = Box::new(unix_ms);
        let server = store().and_then(|store| Server::open(settings, store, requests, publisher, counters, clock));
        match server {
            Ok((server, opened)) => {
                drop(opened_sender.send(Ok(opened)));
                server.serve()
            }
            Err(wrong) => {
                drop(opened_sender.send(Err(wrong.clone())));
                Err(wrong)
            }
        }
    };
    let thread = std::thread::Builder::new().name("database".into()).spawn(body).map_err(|error| {
        format!("the thread `database` could not be started: {error}; raise the limit of processes (ulimit -u)")
    })?;
    let opened =
        opened.recv().unwrap_or_else(|_| Err("the database server panicked while it opened the database".into()))?;
    Ok((Handle { client: Client { queue }, thread, statistics }, opened))
}

/// An order of a group, with the way to answer it.
struct Asked {
    token: u64,
    reply: ReplySink,
    order: Order,
}

enum Order {
    Commit { updates: Vec<Update>, mode: CommitMode },
    Mutate(Vec<Mutation>),
    Bulk(Vec<Mutation>),
    Read { table: TableId, key: Box<str> },
    Deploy { version: u64, application: Box<str>, sources: Vec<(String, String)> },
    Reshape(Arc<ShapeSet>),
}

/// Why a group was not committed.
enum Failure {
    /// Before `COMMIT`: nothing happened, each order may be tried alone.
    Before(String),
    /// By `COMMIT`.
    Commit(String),
}

/// The server without its thread: whoever owns it calls [`Self::serve_waiting`].
pub struct Server<S> {
    store: S,
    author: Author,
    code_digests: Vec<(Box<str>, Box<str>)>,
    requests: Receiver<Request>,
    publisher: Publisher,
    next_number: u64,
    statistics: Arc<Statistics>,
    clock: WallClock,
}

impl<S: Store> Server<S> {
    /// A server for a caller that has no thread for it: a simulation. What it serves, and when, is the caller's.
    ///
    /// # Errors
    /// The store's, or the seeding; one sentence.
    pub fn without_thread(
        settings: Settings,
        store: S,
        queue_max: usize,
        publisher: Publisher,
        clock: WallClock,
    ) -> StoreResult<(Self, Client, Opened)> {
        let (queue, requests) = bounded(queue_max.max(1));
        let (server, opened) = Self::open(settings, store, requests, publisher, Arc::default(), clock)?;
        Ok((server, Client { queue }, opened))
    }

    /// Serves what is queued now.
    pub fn serve_waiting(&mut self) {
        if let Ok(request) = self.requests.try_recv() {
            self.serve_queued(request);
        }
    }

    /// Ends the server as a crash does: what is queued is lost, and the store is given back as it is.
    pub fn into_store(self) -> S {
        self.store
    }

    pub fn store(&self) -> &S {
        &self.store
    }

    pub fn store_mut(&mut self) -> &mut S {
        &mut self.store
    }

    fn open(
        settings: Settings,
        mut store: S,
        requests: Receiver<Request>,
        publisher: Publisher,
        statistics: Arc<Statistics>,
        wall: WallClock,
    ) -> StoreResult<(Self, Opened)> {
        let (_, latest) = store.extent();
        let mut clock = HybridClock::default();
        clock.see(latest);
        let mut author = Author { server: settings.server, clock };
        let session_key = seed::session_key(&mut store)?;
        let users_seeded = seed::seed_users(&mut store, &mut author, &settings.users, wall())?;
        let opened = Opened { session_key, deployed: store.deployed()?, rows: store.extent().0, users_seeded };
        let code_digests = settings.code_digests;
        let next_number = FIRST_NUMBER;
        Ok((Self { store, author, code_digests, requests, publisher, next_number, statistics, clock: wall }, opened))
    }

    fn serve(mut self) -> StoreResult<()> {
        let mut idle_since = Instant::now();
        let mut wake: Option<Duration> = None;
        loop {
            let first = match wake {
                None => self.requests.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(wait) => self.requests.recv_timeout(wait),
            };
            let stopping = match first {
                Ok(request) => {
                    let stopping = self.serve_queued(request);
                    idle_since = Instant::now();
                    stopping
                }
                Err(RecvTimeoutError::Timeout) => false,
                Err(RecvTimeoutError::Disconnected) => true,
            };
            if stopping {
                break;
            }
            wake = self.maintain(idle_since.elapsed());
        }
        self.store.close()
    }

    /// What can wait: a failure is not lost, it comes back with the next commit.
    fn maintain(&mut self, idle: Duration) -> Option<Duration> {
        const AGAIN: Duration = Duration::from_secs(1);
        match catch_unwind(AssertUnwindSafe(|| self.store.maintain(idle))) {
            Ok(Ok(wake)) => wake,
            Ok(Err(_)) => Some(AGAIN),
            Err(_) => {
                self.store.rollback();
                Some(AGAIN)
            }
        }
    }

    /// Serves a request and what is queued behind it; true if the thread shall end.
    fn serve_queued(&mut self, first: Request) -> bool {
        let mut group = Vec::new();
        let mut stopping = false;
        let mut next = Some(first);
        while let Some(request) = next {
            stopping |= self.sort_in(request, &mut group);
            // After `Stop` everything that was queued is still served.
            if group.len() >= GROUP_ORDERS_MAX {
                if !stopping {
                    break;
                }
                self.run_group(std::mem::take(&mut group));
            }
            next = self.requests.try_recv().ok();
        }
        self.run_group(group);
        stopping
    }

    /// Adds an order to the group; what cannot share a transaction runs alone, after those before it.
    fn sort_in(&mut self, request: Request, group: &mut Vec<Asked>) -> bool {
        let (asked, alone) = match request {
            Request::Commit { token, updates, mode, reply } => {
                (Asked { token, reply, order: Order::Commit { updates, mode } }, false)
            }
            Request::Mutate { token, mutations, reply } if orders::is_bulk(&mutations) => {
                (Asked { token, reply, order: Order::Bulk(mutations) }, true)
            }
            Request::Mutate { token, mutations, reply } => {
                (Asked { token, reply, order: Order::Mutate(mutations) }, false)
            }
            Request::Read { token, table, key, reply } => {
                (Asked { token, reply, order: Order::Read { table, key } }, false)
            }
            Request::Deploy { token, version, application, sources, reply } => {
                (Asked { token, reply, order: Order::Deploy { version, application, sources } }, false)
            }
            Request::Reshape { token, shapes, reply } => (Asked { token, reply, order: Order::Reshape(shapes) }, true),
            Request::Load { table, reply } => {
                self.run_group(std::mem::take(group));
                self.load(table, reply);
                return false;
            }
            Request::Stop => return true,
        };
        if alone {
            self.run_group(std::mem::take(group));
            self.run_group(vec![asked]);
        } else {
            group.push(asked);
        }
        false
    }

    fn load(&mut self, table: TableId, reply: LoadSink) {
        let mut rows = Vec::new();
        let known = usize::from(table.0) < self.store.shapes().shapes.len();
        let outcome = if known {
            catch_unwind(AssertUnwindSafe(|| self.store.load_all(table, &mut |update| rows.push(update))))
                .unwrap_or_else(|_| Err(PANICKED.into()))
        } else {
            Err(format!("there is no data table number {}", table.0))
        };
        reply(outcome.map(|()| Loaded { table, rows }));
    }

    /// One transaction.
    fn run_group(&mut self, group: Vec<Asked>) {
        if group.is_empty() {
            return;
        }
        let began = Instant::now();
        let attempt = catch_unwind(AssertUnwindSafe(|| self.attempt(&group)))
            .unwrap_or_else(|_| Err(Failure::Before(PANICKED.into())));
        let outcomes = match attempt {
            Ok(outcomes) => outcomes,
            Err(failure) => {
                self.store.rollback();
                return self.recover_group(group, failure);
            }
        };
        let statistics = &self.statistics;
        let orders = count(group.len());
        statistics.groups.fetch_add(1, Ordering::Relaxed);
        statistics.orders.fetch_add(orders, Ordering::Relaxed);
        statistics.group_max.fetch_max(orders, Ordering::Relaxed);
        statistics.group_ns.fetch_add(u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
        for (asked, outcome) in group.into_iter().zip(outcomes) {
            self.answer(asked, outcome);
        }
    }

    fn recover_group(&mut self, group: Vec<Asked>, failure: Failure) {
        match failure {
            Failure::Before(_) if group.len() > 1 => {
                for asked in group {
                    self.run_group(vec![asked]);
                }
            }
            Failure::Before(sentence) | Failure::Commit(sentence) => {
                for asked in group {
                    self.answer(asked, Outcome::Failed(sentence.clone()));
                }
            }
        }
    }

    fn attempt(&mut self, group: &[Asked]) -> Result<Vec<Outcome>, Failure> {
        let now_ms = (self.clock)();
        if !matches!(group, [Asked { order: Order::Bulk(_) | Order::Reshape(_), .. }]) {
            self.store.begin().map_err(Failure::Before)?;
        }
        let mut outcomes = Vec::with_capacity(group.len());
        for asked in group {
            outcomes.push(self.execute(&asked.order, now_ms).map_err(Failure::Before)?);
        }
        self.store.commit().map_err(Failure::Commit)?;
        Ok(outcomes)
    }

    fn execute(&mut self, order: &Order, now_ms: u64) -> StoreResult<Outcome> {
        let (store, author) = (&mut self.store, &mut self.author);
        match order {
            Order::Commit { updates, mode } => orders::commit(store, author, updates, *mode, now_ms),
            Order::Mutate(mutations) => orders::mutate(store, author, mutations, now_ms),
            Order::Bulk(mutations) => orders::mutate_bulk(store, author, mutations, now_ms),
            Order::Read { table, key } if usize::from(table.0) < store.shapes().shapes.len() => {
                store.row(*table, key).map(Outcome::Row)
            }
            Order::Read { .. } => Ok(Outcome::Row(None)),
            Order::Deploy { version, application, sources } => {
                let base_digest =
                    self.code_digests.iter().find(|(name, _)| name == application).map(|(_, digest)| digest.clone());
                let deployed = Deployed {
                    version: *version,
                    application: application.clone(),
                    base_digest: base_digest.unwrap_or_default(),
                    sources: sources.clone(),
                };
                store.deploy(&deployed, now_ms).map(|()| Outcome::Committed { updates: Vec::new() })
            }
            Order::Reshape(shapes) => {
                store.reshape(shapes.clone()).map(|()| Outcome::Committed { updates: Vec::new() })
            }
        }
    }

    /// Publishes what the application server committed, then replies; what a receiver does cannot stop the server.
    fn answer(&mut self, asked: Asked, outcome: Outcome) {
        match &outcome {
            Outcome::Committed { updates } => {
                let written = match &asked.order {
                    Order::Commit { updates, .. } => updates.len(),
                    Order::Mutate(_)
                    | Order::Bulk(_)
                    | Order::Read { .. }
                    | Order::Deploy { .. }
                    | Order::Reshape(_) => updates.len(),
                };
                self.statistics.updates.fetch_add(count(written), Ordering::Relaxed);
                self.publish(updates);
            }
            Outcome::Conflict { .. } => drop(self.statistics.conflicts.fetch_add(1, Ordering::Relaxed)),
            Outcome::Failed(_) => drop(self.statistics.failures.fetch_add(1, Ordering::Relaxed)),
            Outcome::Row(_) => {}
        }
        let Asked { token, reply, .. } = asked;
        drop(catch_unwind(AssertUnwindSafe(move || reply(Reply { token, outcome }))));
    }

    fn publish(&mut self, updates: &[Update]) {
        for part in updates.chunks(BATCH_UPDATES_MAX) {
            let batch = Arc::new(Batch { origin: self.author.server, first: self.next_number, updates: part.to_vec() });
            self.next_number += count(part.len());
            let publisher = &self.publisher;
            drop(catch_unwind(AssertUnwindSafe(|| publisher(batch))));
        }
    }
}

const PANICKED: &str = "the database server stumbled over this request; it is undone, and the message above says where";

fn count(items: usize) -> u64 {
    u64::try_from(items).unwrap_or(u64::MAX)
}
