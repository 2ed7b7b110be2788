//! The storage thread: an executor with a desk that takes orders and runs agents.
//!
//! ```text
//!  workers, admin, supervisor ─► orders ─┐                    ┌─► files queue   (600 shares): watches
//!                                        ├─ inbox ─► desk ────┤
//!  database server ──────────► replies ──┘   waiting: FIFO    └─► agents queue  (100 shares): submissions, imports
//! ```
//! Orders are bounded twice, in the inbox and at the desk; an order that finds no room goes back to its sender, and its
//! work row in the database keeps it until a replica orders it again. One agent runs per piece of work, and one import at a time.

use std::cell::RefCell;
use std::collections::{HashSet, VecDeque};
use std::io;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

pub use super::bridge::Database;
pub use super::executor::ExecutorKind;
pub use super::executor::simulated::Executor;
pub use super::report::ImportProgress;
pub use super::watch::Notify;
pub use super::work::Counters;

use super::agents::{ImportAgent, PostAgent, WorkTable};
use super::backend::Backend;
use super::books::{Books, Entries};
use super::bridge::Bridge;
use super::desk::{Desk, Limits};
use super::executor;
use super::inbox::Inbox;
use super::numbers::Numbers;
use super::random::SplitMix;
use super::work::{Shared, count};
use crate::database::contract::Place;
use crate::engine::sim::World;
use crate::replication::Backlog;

/// Reports of imports that are kept for the status.
const REPORTS_KEPT_MAX: usize = 16;

/// What the unit needs to know at start.
pub struct Settings {
    /// The system table in which work is recorded.
    pub work: WorkTable,
    /// Back-end servers of the profile.
    pub backends: Vec<Backend>,
    /// What the replicas have not applied yet, and how many they are.
    pub backlog: Backlog,
    pub replicas: usize,
    /// How long a batch of an import waits for replicas that are behind.
    pub pace_limit: Duration,
    /// The numbers given out so far.
    pub numbers: Arc<Numbers>,
    /// Which one this is of several appliances on one database.
    pub place: Option<Place>,
    /// Submissions that run at a time; more wait.
    pub agents_max: usize,
    /// Orders that the inbox holds, and as many that wait at the desk.
    pub orders_max: usize,
    /// Time that one submission may take, all attempts and pauses together.
    pub agent_limit: Duration,
    /// Time that one import may take.
    pub import_limit: Duration,
    /// Time that running agents get when the unit stops.
    pub drain_limit: Duration,
    /// Seed of the jitter between attempts.
    pub seed: u64,
    /// What the thread runs on.
    pub executor: ExecutorKind,
    /// Runs first on the new thread: name, niceness, placement.
    pub prepare: Option<Box<dyn FnOnce() + Send>>,
}

impl Settings {
    /// The usual values.
    pub fn new(work: WorkTable, backends: Vec<Backend>) -> Self {
        Self {
            work,
            backends,
            backlog: Backlog::default(),
            replicas: 1,
            pace_limit: Duration::from_secs(2),
            numbers: Arc::default(),
            place: None,
            agents_max: 16,
            orders_max: 4096,
            agent_limit: Duration::from_secs(120),
            import_limit: Duration::from_secs(3600),
            drain_limit: Duration::from_secs(5),
            seed: 1,
            executor: ExecutorKind::Glommio,
            prepare: None,
        }
    }
}

/// A piece of work for a `post` agent.
#[derive(Clone, Debug)]
pub struct AgentRun {
    /// Key of the work row, and the idempotency key that the back-end server sees.
    pub work: Box<str>,
    pub agent: Arc<PostAgent>,
    pub subject_key: Box<str>,
    pub requested_by: Box<str>,
}

/// A piece of work for an `import` agent.
#[derive(Clone, Debug)]
pub struct ImportRun {
    /// Key of the work row; a row of this key is replaced.
    pub work: Box<str>,
    pub agent: Arc<ImportAgent>,
    pub file: PathBuf,
    pub requested_by: Box<str>,
    /// Where the import reports how far it is; the sender keeps the other end.
    pub progress: Arc<ImportProgress>,
}

/// A piece of work that nobody can do.
#[derive(Clone, Debug)]
pub struct GivenUp {
    /// Key of the work row.
    pub work: Box<str>,
    pub reason: String,
}

/// What the storage thread can be asked to do.
pub enum Order {
    RunAgent(AgentRun),
    Import(ImportRun),
    /// Records that the work failed.
    GiveUp(GivenUp),
    /// Announces changes of these files since the order was taken, until the unit stops. Who wants to miss none
    /// orders the watch first and reads the files then.
    WatchFiles {
        paths: Vec<PathBuf>,
        interval_ms: u64,
        notify: Notify,
    },
}

/// Sends orders; clone one for each thread that does.
#[derive(Clone)]
pub struct Orders {
    inbox: Arc<Inbox>,
    counters: Arc<Counters>,
    books: Arc<Books>,
    left_behind: Arc<AtomicBool>,
    reports: Arc<Mutex<VecDeque<Arc<ImportProgress>>>>,
    executor: ExecutorKind,
}

impl Orders {
    fn new(settings: &Settings) -> Self {
        Self {
            inbox: Arc::new(Inbox::new(settings.orders_max)),
            counters: Arc::default(),
            books: Arc::default(),
            left_behind: Arc::default(),
            reports: Arc::default(),
            executor: settings.executor,
        }
    }

    /// What the storage thread runs on.
    pub fn executor(&self) -> ExecutorKind {
        self.executor
    }

    /// Gives the order back if the queue is full or the unit stops; for work that has its row in the database nothing
    /// is lost then: a replica orders it again later ([`Self::has_left_behind`]), or the next start does.
    pub fn try_send(&self, order: Order) -> Result<(), Order> {
        let (is_work, report) = match &order {
            Order::Import(run) => (true, Some(Arc::clone(&run.progress))),
            Order::RunAgent(_) | Order::GiveUp(_) => (true, None),
            Order::WatchFiles { .. } => (false, None),
        };
        let sent = {
            let mut books = self.books.open();
            let sent = self.inbox.push(order);
            if is_work && sent.is_ok() {
                books.accepted += 1;
                books.in_inbox += 1;
            }
            sent
        };
        if sent.is_ok() {
            self.inbox.ring();
        } else if is_work {
            self.leave_behind();
        }
        match (&sent, report) {
            (Ok(()), Some(report)) => {
                let mut reports = self.reports.lock().unwrap_or_else(PoisonError::into_inner);
                if reports.len() == REPORTS_KEPT_MAX {
                    reports.pop_front();
                }
                reports.push_back(report);
            }
            (Ok(()), None) => {}
            (Err(_), _) => count(&self.counters.orders_refused),
        }
        sent
    }

    /// Whether work is unfinished in the database that nobody here knows of, while there is room for orders.
    pub fn has_left_behind(&self) -> bool {
        // ORDERING: Relaxed, pairs with the stores of `leave_behind`: what is left behind is looked up in the tables.
        self.left_behind.load(Ordering::Relaxed) && self.inbox.orders_waiting() == 0
    }

    /// Whoever orders what was left behind says so before.
    pub fn take_left_behind(&self) -> bool {
        // ORDERING: Relaxed, as in `has_left_behind`.
        self.left_behind.swap(false, Ordering::Relaxed)
    }

    /// Work is unfinished in the database that nobody here knows of.
    pub fn leave_behind(&self) {
        // ORDERING: Relaxed, pairs with `has_left_behind`.
        self.left_behind.store(true, Ordering::Relaxed);
    }

    /// Where accepted work is.
    pub fn books(&self) -> Entries {
        self.books.entries()
    }

    /// Whether an import waits or runs.
    pub fn is_importing(&self) -> bool {
        self.imports().iter().any(|import| import.outcome().is_none())
    }

    /// Counters and books, as the admin interface shows them.
    pub fn agents_json(&self) -> serde_json::Value {
        let mut shown = self.books.entries().to_json();
        if let (Some(shown), serde_json::Value::Object(counters)) = (shown.as_object_mut(), self.counters.to_json()) {
            shown.extend(counters);
        }
        shown
    }

    /// Orders that the desk has not taken yet.
    pub fn waiting(&self) -> usize {
        self.inbox.orders_waiting()
    }

    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Reports of the last imports, oldest first.
    pub fn imports(&self) -> Vec<Arc<ImportProgress>> {
        self.reports.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }
}

/// The running unit. Dropping it without [`Self::stop`] leaves the thread running.
pub struct Handle {
    orders: Orders,
    thread: JoinHandle<()>,
}

impl Handle {
    pub fn orders(&self) -> &Orders {
        &self.orders
    }

    /// The thread lives; `false` after a panic.
    pub fn is_running(&self) -> bool {
        !self.thread.is_finished()
    }

    /// Refuses new orders, lets running agents finish within the drain limit, and ends the thread. Agents in a pause
    /// between attempts are left as they are: their rows say `waiting`.
    pub fn stop(self) -> io::Result<()> {
        self.orders.inbox.stop();
        self.thread.join().map_err(|_| io::Error::other("the storage thread ended by a panic"))
    }
}

/// Starts the storage thread; returns when its executor runs. The error is one sentence with the cure.
pub fn spawn(settings: Settings, database: Database) -> io::Result<Handle> {
    let executor = settings.executor;
    let orders = Orders::new(&settings);
    let (ready, started) = mpsc::sync_channel(1);
    let on_thread = orders.clone();
    let thread = std::thread::Builder::new().name("storage".to_owned()).spawn(move || {
        let mut settings = settings;
        if let Some(prepare) = settings.prepare.take() {
            prepare();
        }
        let started = ready.clone();
        // The receiver waits for one message, the first.
        let outcome = executor::run(
            executor,
            move || drop(started.try_send(Ok(()))),
            move || serve(settings, database, on_thread),
        );
        if let Err(error) = outcome {
            drop(ready.try_send(Err(error)));
        }
    })?;
    match started.recv() {
        Ok(Ok(())) => Ok(Handle { orders, thread }),
        Ok(Err(error)) => Err(error),
        // glommio asserts that the kernel answers its probe.
        Err(_) => {
            let cure = "allow io_uring, or raise the memlock limit (`ulimit -l`) to 4 MiB";
            Err(io::Error::other(format!("the storage thread ended before its executor ran; {cure}")))
        }
    }
}

/// The unit without a thread, for a simulation that owns the executor.
pub fn simulated(mut settings: Settings, database: Database, world: &World) -> (Orders, Executor) {
    settings.executor = ExecutorKind::Simulated;
    let orders = Orders::new(&settings);
    let executor = Executor::new(world, serve(settings, database, orders.clone()));
    (orders, executor)
}

async fn serve(settings: Settings, database: Database, orders: Orders) {
    let inbox = orders.inbox;
    let shared = Rc::new(Shared {
        bridge: Bridge::new(database, &inbox),
        inbox: Arc::clone(&inbox),
        work: settings.work,
        backends: settings.backends.into_iter().map(|backend| (backend.name.clone(), backend)).collect(),
        backlog: settings.backlog,
        replicas: settings.replicas,
        pace_limit: settings.pace_limit,
        numbers: settings.numbers,
        place: settings.place,
        counters: orders.counters,
        books: orders.books,
        left_behind: orders.left_behind,
        random: RefCell::new(SplitMix::new(settings.seed)),
        resting: RefCell::new(HashSet::new()),
    });
    let limits = Limits {
        agents_max: settings.agents_max.max(1),
        waiting_max: settings.orders_max.max(1),
        agent: settings.agent_limit,
        import: settings.import_limit,
        drain: settings.drain_limit,
    };
    Desk::new(shared, limits).run().await;
    inbox.close();
}
