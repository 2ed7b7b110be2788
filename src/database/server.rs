//! The database server: one thread, the only owner of a store. Everything that was queued when it looks becomes one
//! transaction (group commit); a reply leaves only after that transaction is on disk.
//!
//! ```text
//!   replicas, agents ──bounded queue──▶ take all ▶ begin ▶ execute each ▶ commit ▶ publish ▶ reply
//! ```
//! An order that is refused (conflict, wrong value) spoils nobody else's. If the store fails in the middle, the group
//! is undone and each order is tried alone, so that only the guilty one fails. A store that refuses everybody (full,
//! locked, down) is asked again at growing intervals; in between writes are refused at once, and reads go on elsewhere:
//! from the replicas.
//!
//! [`Server`] itself has no thread and no clock: [`spawn`] gives it both, a simulation calls
//! [`Server::serve_waiting`].

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam::channel::bounded;

use super::contract::{
    CommitMode, Deployed, FollowSink, LoadSink, Loaded, Mutation, Outcome, Place, Publisher, Reply, ReplySink, Request,
    Store, StoreResult, Uncommitted,
};
use super::follow::Follower;
use super::health::{Board, End, State};
use super::orders::{self, Author};
pub use super::queue::{Client, Limits};
use super::queue::{Queued, Requests, Waited, queue};
use super::seed::{self, SeedUser};
use crate::clock;
use crate::limits::PUBLISHED_UPDATES_MAX;
use crate::tables::stamp::HybridClock;
use crate::tables::{Batch, ServerId, ShapeSet, TableId, Update};

/// Orders in one group: bounds the wait of its first one.
pub const GROUP_ORDERS_MAX: usize = 512;
/// The number of the first update that the application server's agents commit after a start.
pub const FIRST_NUMBER: u64 = 1;
/// After this a store that refused everybody is asked again; twice as long after each further refusal, up to
/// [`RETRY_MAX_NS`].
pub const RETRY_NS: u64 = 100_000_000;
/// Updates of unknown end that are looked up later; the next start finds all of them.
const UNRESOLVED_MAX: usize = 4096;
/// The longest of these pauses.
pub const RETRY_MAX_NS: u64 = 1_600_000_000;

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
    /// Which one this is, if several appliances may share the database.
    pub place: Option<Place>,
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
    /// Updates of other appliances that were published here.
    pub followed: AtomicU64,
    /// State, last error and books.
    pub board: Board,
}

/// Both clocks, as the server's loop read them.
#[derive(Clone, Copy, Debug, Default)]
pub struct Now {
    /// Monotonic nanoseconds.
    pub monotonic_ns: u64,
    pub unix_ms: u64,
}

impl Now {
    fn read() -> Self {
        Self { monotonic_ns: clock::monotonic_ns(), unix_ms: clock::unix_ms() }
    }
}

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
        drop(self.client.send(Request::Stop));
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
    limits: Limits,
    publisher: Publisher,
) -> StoreResult<(Handle, Opened)> {
    let (opened_sender, opened) = bounded(1);
    let body = move || {
        let server = store().and_then(|store| Server::without_thread(settings, store, limits, publisher, Now::read()));
        match server {
            Ok((server, client, opened)) => {
                drop(opened_sender.send(Ok((client, Arc::clone(server.statistics()), opened))));
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
    let (client, statistics, opened) =
        opened.recv().unwrap_or_else(|_| Err("the database server panicked while it opened the database".into()))?;
    Ok((Handle { client, thread, statistics }, opened))
}

/// An order of a group, with the way to answer it.
struct Asked {
    token: u64,
    reply: ReplySink,
    order: Order,
    /// For writes: their place in the books.
    write: Option<Held>,
}

/// A write in the server's hands.
struct Held {
    statistics: Arc<Statistics>,
    settled: bool,
}

impl Held {
    fn take(statistics: &Arc<Statistics>) -> Self {
        statistics.board.take();
        Self { statistics: Arc::clone(statistics), settled: false }
    }

    fn settle(mut self, end: End) {
        self.settled = true;
        self.statistics.board.settle(end);
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if !self.settled {
            self.statistics.board.lose();
        }
    }
}

enum Order {
    Commit { updates: Vec<Update>, mode: CommitMode },
    Mutate(Vec<Mutation>),
    Bulk(Vec<Mutation>),
    Read { table: TableId, key: Box<str> },
    Deploy { version: u64, application: Box<str>, sources: Vec<(String, String)> },
    Reshape(Arc<ShapeSet>),
    Withdraw(Arc<ShapeSet>),
    Number { name: Box<str>, above: u64 },
    TakeOver,
}

impl Order {
    fn writes(&self) -> bool {
        match self {
            Self::Commit { .. }
            | Self::Mutate(_)
            | Self::Bulk(_)
            | Self::Deploy { .. }
            | Self::Number { .. }
            | Self::TakeOver => true,
            Self::Read { .. } | Self::Reshape(_) | Self::Withdraw(_) => false,
        }
    }

    /// Whether it begins its transaction itself, and shares it with nobody.
    fn is_alone(&self) -> bool {
        match self {
            Self::Bulk(_) | Self::Reshape(_) | Self::Withdraw(_) | Self::TakeOver => true,
            Self::Commit { .. } | Self::Mutate(_) | Self::Deploy { .. } | Self::Read { .. } | Self::Number { .. } => {
                false
            }
        }
    }
}

/// Why a group was not committed.
enum Failure {
    /// Before `COMMIT`: nothing happened, each order may be tried alone.
    Before(String),
    /// By `COMMIT`.
    Commit(Uncommitted),
}

/// A store that refused everybody is not asked before `at_ns`.
struct Refusal {
    sentence: String,
    at_ns: u64,
    pause_ns: u64,
}

/// The server without its thread and clock: whoever owns it calls [`Self::serve_waiting`].
pub struct Server<S> {
    store: S,
    author: Author,
    code_digests: Vec<(Box<str>, Box<str>)>,
    requests: Requests,
    publisher: Publisher,
    next_number: u64,
    statistics: Arc<Statistics>,
    refusal: Option<Refusal>,
    /// Updates of commits that ended unknown: published once the store can be asked and has them.
    unresolved: Vec<Update>,
    follower: Follower,
}

impl<S: Store> Server<S> {
    /// A server for a caller that has no thread for it: a simulation. What it serves, and when, is the caller's.
    ///
    /// # Errors
    /// The store's, or the seeding's; one sentence with the cure.
    pub fn without_thread(
        settings: Settings,
        mut store: S,
        limits: Limits,
        publisher: Publisher,
        now: Now,
    ) -> StoreResult<(Self, Client, Opened)> {
        let (_, latest) = store.extent();
        let place = store.place();
        let mut clock = place.map_or_else(HybridClock::default, |place| HybridClock::of_slot(place.slot));
        clock.see(latest);
        let mut author = Author { server: settings.server, clock };
        let session_key = seed::session_key(&mut store)?;
        let users_seeded = seed::seed_users(&mut store, &mut author, &settings.users, now.unix_ms)?;
        let opened = Opened { session_key, deployed: store.deployed()?, rows: store.extent().0, users_seeded, place };
        let code_digests = settings.code_digests;
        let (client, requests) = queue(limits);
        let statistics = Arc::new(Statistics::default());
        statistics.board.torn(store.torn_bytes());
        statistics.board.state(store.trouble(), now.unix_ms);
        let server = Self {
            store,
            author,
            code_digests,
            requests,
            publisher,
            next_number: FIRST_NUMBER,
            statistics,
            refusal: None,
            unresolved: Vec::new(),
            follower: Follower::default(),
        };
        Ok((server, client, opened))
    }

    /// Serves everything that is queued now, without waiting; true if [`Request::Stop`] was among it.
    pub fn serve_waiting(&mut self, now: Now) -> bool {
        let mut stopping = false;
        while let Some(queued) = self.requests.next() {
            stopping |= self.serve_queued(queued, now);
        }
        stopping
    }

    pub fn statistics(&self) -> &Arc<Statistics> {
        &self.statistics
    }

    pub fn store(&self) -> &S {
        &self.store
    }

    /// Ends the server as a crash does: what is queued is lost, and the store is given back as it is.
    pub fn into_store(self) -> S {
        self.store
    }

    fn serve(mut self) -> StoreResult<()> {
        let mut idle_since = Instant::now();
        let mut wake: Option<Duration> = None;
        loop {
            let stopping = match self.requests.wait(wake) {
                Waited::Request(queued) => {
                    let stopping = self.serve_queued(queued, Now::read());
                    idle_since = Instant::now();
                    stopping
                }
                Waited::Nothing => false,
                Waited::Nobody => true,
            };
            if stopping {
                break;
            }
            wake = self.maintain(idle_since.elapsed(), Now::read());
        }
        self.store.close()
    }

    /// What can wait. A failure loses nothing: it is tried again, and comes back with the next commit.
    fn maintain(&mut self, idle: Duration, now: Now) -> Option<Duration> {
        const AGAIN: Duration = Duration::from_secs(1);
        match catch_unwind(AssertUnwindSafe(|| self.store.maintain(idle))) {
            Ok(Ok(wake)) => wake,
            Ok(Err(sentence)) => {
                self.refused(&sentence, now);
                Some(AGAIN)
            }
            Err(_) => {
                self.store.rollback();
                Some(AGAIN)
            }
        }
    }

    /// The store failed: notes it, and if it would fail everybody, spares it for a while.
    fn refused(&mut self, sentence: &str, now: Now) {
        self.statistics.board.error(sentence, now.unix_ms);
        self.statistics.board.torn(self.store.torn_bytes());
        let state = self.store.trouble();
        if matches!(state, State::Up | State::Slow) {
            return;
        }
        self.statistics.board.state(state, now.unix_ms);
        if self.refusal.as_ref().is_some_and(|refusal| now.monotonic_ns < refusal.at_ns) {
            // Another order of the same group.
            return;
        }
        let pause_ns = self.refusal.as_ref().map_or(RETRY_NS, |refusal| (2 * refusal.pause_ns).min(RETRY_MAX_NS));
        let at_ns = now.monotonic_ns.saturating_add(pause_ns);
        self.refusal = Some(Refusal { sentence: sentence.to_owned(), at_ns, pause_ns });
    }

    /// Serves a request and what is queued behind it; true if the thread shall end.
    fn serve_queued(&mut self, first: Queued, now: Now) -> bool {
        self.statistics.board.serving(first.at_ns);
        let mut group = Vec::new();
        let mut stopping = false;
        let mut next = Some(first);
        while let Some(queued) = next {
            stopping |= self.sort_in(queued.request, &mut group, now);
            // After `Stop` everything that was queued is still served.
            if group.len() >= GROUP_ORDERS_MAX {
                if !stopping {
                    break;
                }
                self.run_group(std::mem::take(&mut group), now);
            }
            next = self.requests.next();
        }
        self.run_group(group, now);
        self.statistics.board.idle();
        stopping
    }

    /// Adds an order to the group; what cannot share a transaction runs alone, after those before it.
    fn sort_in(&mut self, request: Request, group: &mut Vec<Asked>, now: Now) -> bool {
        let (token, reply, order, deadline_ns) = match request {
            Request::Commit { token, updates, mode, deadline_ns, reply } => {
                (token, reply, Order::Commit { updates, mode }, deadline_ns)
            }
            Request::Mutate { token, mutations, reply } if orders::is_bulk(&mutations) => {
                (token, reply, Order::Bulk(mutations), 0)
            }
            Request::Mutate { token, mutations, reply } => (token, reply, Order::Mutate(mutations), 0),
            Request::Read { token, table, key, reply } => (token, reply, Order::Read { table, key }, 0),
            Request::Deploy { token, version, application, sources, reply } => {
                (token, reply, Order::Deploy { version, application, sources }, 0)
            }
            Request::Reshape { token, shapes, reply } => (token, reply, Order::Reshape(shapes), 0),
            Request::Withdraw { token, shapes, reply } => (token, reply, Order::Withdraw(shapes), 0),
            Request::Number { token, name, above, reply } => (token, reply, Order::Number { name, above }, 0),
            Request::TakeOver { token, reply } => (token, reply, Order::TakeOver, 0),
            Request::Follow { updates_max, members, reply } => {
                self.run_group(std::mem::take(group), now);
                self.follow(updates_max, members, reply, now);
                return false;
            }
            Request::Load { table, reply } => {
                self.run_group(std::mem::take(group), now);
                self.load(table, reply);
                return false;
            }
            Request::Stop => return true,
        };
        let write = order.writes().then(|| Held::take(&self.statistics));
        let asked = Asked { token, reply, order, write };
        if deadline_ns > 0 && now.monotonic_ns >= deadline_ns {
            self.answer(asked, Outcome::Failed(TOO_LATE.into()));
        } else if let Some(sentence) = self.refuses(&asked, now) {
            self.statistics.board.refused_early();
            self.answer(asked, Outcome::Failed(sentence));
        } else if asked.order.is_alone() {
            self.run_group(std::mem::take(group), now);
            self.run_group(vec![asked], now);
        } else {
            group.push(asked);
        }
        false
    }

    /// Why the store is not even asked, if it refused everybody a moment ago.
    fn refuses(&self, asked: &Asked, now: Now) -> Option<String> {
        let refusal = self.refusal.as_ref().filter(|refusal| now.monotonic_ns < refusal.at_ns)?;
        asked.write.is_some().then(|| refusal.sentence.clone())
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
        let published = self.next_number - 1;
        reply(outcome.map(|()| Loaded { table, rows, published }));
    }

    /// Publishes what other appliances committed.
    fn follow(&mut self, updates_max: usize, members: bool, reply: FollowSink, now: Now) {
        if !self.unresolved.is_empty() {
            self.resolve();
        }
        let next = catch_unwind(AssertUnwindSafe(|| self.follower.next(&mut self.store, updates_max, members)));
        let told = next.unwrap_or_else(|_| Err(PANICKED.into())).map(|(updates, told)| {
            // What is written here next is later than what is known here now.
            updates.iter().for_each(|update| self.author.clock.see(update.stamp.time));
            self.statistics.followed.fetch_add(count(updates.len()), Ordering::Relaxed);
            self.publish(&updates);
            told
        });
        if let Err(sentence) = &told {
            self.refused(sentence, now);
        }
        drop(catch_unwind(AssertUnwindSafe(move || reply(told))));
    }

    /// One transaction.
    fn run_group(&mut self, group: Vec<Asked>, now: Now) {
        if group.is_empty() {
            return;
        }
        let began = Instant::now();
        let attempt = catch_unwind(AssertUnwindSafe(|| self.attempt(&group, now)))
            .unwrap_or_else(|_| Err(Failure::Before(PANICKED.into())));
        let outcomes = match attempt {
            Ok(outcomes) => outcomes,
            Err(failure) => {
                self.store.rollback();
                return self.recover_group(group, failure, now);
            }
        };
        let statistics = &self.statistics;
        let orders = count(group.len());
        statistics.groups.fetch_add(1, Ordering::Relaxed);
        statistics.orders.fetch_add(orders, Ordering::Relaxed);
        statistics.group_max.fetch_max(orders, Ordering::Relaxed);
        statistics.group_ns.fetch_add(u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
        if group.iter().any(|asked| asked.write.is_some()) {
            self.refusal = None;
            statistics.board.state(State::Up, now.unix_ms);
            if !self.unresolved.is_empty() {
                self.resolve();
            }
        }
        for (asked, outcome) in group.into_iter().zip(outcomes) {
            self.answer(asked, outcome);
        }
    }

    fn recover_group(&mut self, group: Vec<Asked>, failure: Failure, now: Now) {
        let (outcome, sentence): (fn(String) -> Outcome, String) = match failure {
            Failure::Before(_) if group.len() > 1 => {
                for asked in group {
                    // Once it has refused one of them for a reason that hits all, the others are not tried.
                    if let Some(sentence) = self.refuses(&asked, now) {
                        self.statistics.board.refused_early();
                        self.answer(asked, Outcome::Failed(sentence));
                    } else {
                        self.run_group(vec![asked], now);
                    }
                }
                return;
            }
            Failure::Before(sentence) | Failure::Commit(Uncommitted::Undone(sentence)) => (Outcome::Failed, sentence),
            Failure::Commit(Uncommitted::Unknown(sentence)) => (Outcome::Unknown, sentence),
        };
        self.refused(&sentence, now);
        for asked in group {
            let outcome = outcome(sentence.clone());
            if let (Order::Commit { updates, .. }, Outcome::Unknown(_)) = (&asked.order, &outcome) {
                let room = UNRESOLVED_MAX.saturating_sub(self.unresolved.len());
                self.unresolved.extend(updates.iter().take(room).cloned());
            }
            self.answer(asked, outcome);
        }
    }

    /// The store works again: what it has of the commits that ended unknown goes to the replicas, which were told of
    /// none of them.
    fn resolve(&mut self) {
        let unresolved = std::mem::take(&mut self.unresolved);
        let rows: Vec<(TableId, &str)> = unresolved.iter().map(|update| (update.table, &*update.key)).collect();
        let Ok(stamps) = self.store.stamps_of(&rows) else {
            // It broke again: they are looked up when it works the next time.
            self.unresolved = unresolved;
            return;
        };
        let there = unresolved.iter().zip(stamps).filter(|(update, stamp)| update.stamp == *stamp);
        let there: Vec<Update> = there.map(|(update, _)| update.clone()).collect();
        self.publish(&there);
    }

    fn attempt(&mut self, group: &[Asked], now: Now) -> Result<Vec<Outcome>, Failure> {
        if !group.iter().any(|asked| asked.order.is_alone()) {
            self.store.begin().map_err(Failure::Before)?;
        }
        self.expect(group).map_err(Failure::Before)?;
        let mut outcomes = Vec::with_capacity(group.len());
        for asked in group {
            outcomes.push(self.execute(&asked.order, now.unix_ms).map_err(Failure::Before)?);
        }
        self.store.commit().map_err(Failure::Commit)?;
        Ok(outcomes)
    }

    /// Tells the store which rows a group of several orders is going to compare: one by one each would be a way of its
    /// own.
    fn expect(&mut self, group: &[Asked]) -> StoreResult<()> {
        let tables = self.store.shapes().shapes.len();
        let mut rows: Vec<(TableId, &str)> = Vec::new();
        for asked in group {
            match &asked.order {
                Order::Commit { updates, .. } => rows.extend(
                    // Of a table that nobody knows: its order is refused when its turn comes.
                    updates
                        .iter()
                        .filter(|update| usize::from(update.table.0) < tables)
                        .map(|one| (one.table, &*one.key)),
                ),
                Order::Mutate(_)
                | Order::Bulk(_)
                | Order::Read { .. }
                | Order::Deploy { .. }
                | Order::Number { .. }
                | Order::TakeOver
                | Order::Withdraw(_)
                | Order::Reshape(_) => {}
            }
        }
        if group.len() < 2 || rows.is_empty() { Ok(()) } else { self.store.expect(&rows) }
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
            Order::Number { name, above } => orders::number(store, name, *above),
            Order::TakeOver => orders::take_over(store, author, now_ms),
            Order::Deploy { version, application, sources } => {
                if let Some(wrong) = orders::overtaken(store, *version)? {
                    return Ok(Outcome::Failed(wrong));
                }
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
            Order::Withdraw(shapes) => {
                store.withdraw(shapes.clone()).map(|()| Outcome::Committed { updates: Vec::new() })
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
                    | Order::Number { .. }
                    | Order::TakeOver
                    | Order::Withdraw(_)
                    | Order::Reshape(_) => updates.len(),
                };
                self.statistics.updates.fetch_add(count(written), Ordering::Relaxed);
                self.publish(updates);
            }
            Outcome::Conflict { .. } => drop(self.statistics.conflicts.fetch_add(1, Ordering::Relaxed)),
            Outcome::Failed(_) | Outcome::Unknown(_) => {
                let _ = self.statistics.failures.fetch_add(1, Ordering::Relaxed);
            }
            Outcome::Row(_) | Outcome::Number(_) => {}
        }
        let Asked { token, reply, write, .. } = asked;
        if let Some(write) = write {
            write.settle(match &outcome {
                Outcome::Committed { .. } | Outcome::Row(_) | Outcome::Number(_) => End::Committed,
                Outcome::Conflict { .. } => End::Conflicted,
                Outcome::Failed(_) => End::Failed,
                Outcome::Unknown(_) => End::Unknown,
            });
        }
        drop(catch_unwind(AssertUnwindSafe(move || reply(Reply { token, outcome }))));
    }

    fn publish(&mut self, updates: &[Update]) {
        for part in updates.chunks(PUBLISHED_UPDATES_MAX) {
            let batch = Arc::new(Batch { origin: self.author.server, first: self.next_number, updates: part.to_vec() });
            self.next_number += count(part.len());
            let publisher = &self.publisher;
            drop(catch_unwind(AssertUnwindSafe(|| publisher(batch))));
        }
    }
}

const TOO_LATE: &str = "the order waited in the database server's queue until its time was over; nothing was written";
const PANICKED: &str = "the database server stumbled over this request; it is undone, and the message above says where";

fn count(items: usize) -> u64 {
    u64::try_from(items).unwrap_or(u64::MAX)
}
