//! The storage thread: a glommio executor with a desk that takes orders and runs agents.
//!
//! ```text
//!  workers, admin, supervisor ─► orders ─┐                    ┌─► files queue   (600 shares): watches
//!                                        ├─ inbox ─► desk ────┤
//!  database server ──────────► replies ──┘   waiting: FIFO    └─► agents queue  (100 shares): submissions, imports
//! ```
//! Orders are bounded twice, in the inbox and at the desk; an order that finds no room goes back to its sender, whose
//! work row in the database keeps it. One agent runs per piece of work, and one import at a time.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet, VecDeque};
use std::future::Future;
use std::io;
use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::thread::JoinHandle;
use std::time::Duration;

use glommio::timer::Timer;
use glommio::{Latency, LocalExecutorBuilder, Placement, PoolPlacement, Shares, Task, TaskQueueHandle};

pub use super::bridge::Database;
pub use super::report::ImportProgress;
pub use super::watch::Notify;
pub use super::work::Counters;

use super::agents::{ImportAgent, Numbers, PostAgent, WorkTable};
use super::backend::Backend;
use super::bridge::{Bridge, within};
use super::inbox::Inbox;
use super::random::SplitMix;
use super::watch::{self, Watched};
use super::work::{End, Shared, count};
use super::{import, submit};

/// CPU shares of the two task queues, and how soon file work must get its turn.
const FILES_SHARES: usize = 600;
const AGENTS_SHARES: usize = 100;
const FILES_LATENCY: Duration = Duration::from_millis(2);
/// Memory that glommio registers with each of its three rings: counted against the memlock limit three times. The
/// agents' buffered reads do not come from it.
const IO_MEMORY_BYTES: usize = 1 << 20;
/// Time to record that an agent was given up.
const GIVE_UP_LIMIT: Duration = Duration::from_secs(10);
/// Reports of imports that are kept for the status.
const REPORTS_KEPT_MAX: usize = 16;

/// What the unit needs to know at start.
pub struct Settings {
    /// The system table in which work is recorded.
    pub work: WorkTable,
    /// Back-end servers of the profile.
    pub backends: Vec<Backend>,
    /// The numbers given out so far.
    pub numbers: Arc<Numbers>,
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
    /// Runs first on the new thread: name, niceness, placement.
    pub prepare: Option<Box<dyn FnOnce() + Send>>,
}

impl Settings {
    /// The usual values.
    pub fn new(work: WorkTable, backends: Vec<Backend>) -> Self {
        Self {
            work,
            backends,
            numbers: Arc::default(),
            agents_max: 16,
            orders_max: 4096,
            agent_limit: Duration::from_secs(120),
            import_limit: Duration::from_secs(3600),
            drain_limit: Duration::from_secs(5),
            seed: 1,
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

/// What the storage thread can be asked to do.
pub enum Order {
    RunAgent(AgentRun),
    Import(ImportRun),
    /// Announces changes of these files from now on, until the unit stops.
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
    reports: Arc<Mutex<VecDeque<Arc<ImportProgress>>>>,
}

impl Orders {
    /// Never blocks. Gives the order back if the queue is full or the unit stops; for work that has its row in the
    /// database nothing is lost then, since unfinished rows are ordered again at the next start.
    // The order goes back as it came, without a box: both ways are rare.
    #[allow(clippy::result_large_err)]
    pub fn try_send(&self, order: Order) -> Result<(), Order> {
        let report = match &order {
            Order::Import(run) => Some(Arc::clone(&run.progress)),
            Order::RunAgent(_) | Order::WatchFiles { .. } => None,
        };
        let sent = self.inbox.send(order);
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

    /// Refuses new orders, lets running agents finish within the drain limit, and ends the thread. Agents in a pause
    /// between attempts are left as they are: their rows say `waiting`.
    pub fn stop(self) -> io::Result<()> {
        self.orders.inbox.stop();
        self.thread.join().map_err(|_| io::Error::other("the storage thread ended by a panic"))
    }
}

/// Starts the storage thread; returns when its executor runs. The error is one sentence with the cure.
pub fn spawn(settings: Settings, database: Database) -> io::Result<Handle> {
    let orders =
        Orders { inbox: Arc::new(Inbox::new(settings.orders_max)), counters: Arc::default(), reports: Arc::default() };
    let (ready, started) = mpsc::sync_channel(1);
    let on_thread = orders.clone();
    let thread = std::thread::Builder::new().name("storage".to_owned()).spawn(move || {
        let mut settings = settings;
        if let Some(prepare) = settings.prepare.take() {
            prepare();
        }
        let executor = LocalExecutorBuilder::new(Placement::Unbound)
            .name("storage")
            .io_memory(IO_MEMORY_BYTES)
            .preempt_timer(FILES_LATENCY)
            .blocking_thread_pool_placement(PoolPlacement::Unbound(1))
            .make();
        match executor {
            Ok(executor) => {
                // The receiver waits for exactly this message.
                let _ = ready.send(Ok(()));
                executor.run(serve(settings, database, on_thread));
            }
            Err(error) => {
                let _ = ready.send(Err(cannot_start(&io::Error::from(error))));
            }
        }
    })?;
    match started.recv() {
        Ok(Ok(())) => Ok(Handle { orders, thread }),
        Ok(Err(error)) => Err(error),
        Err(_) => Err(io::Error::other("the storage thread ended before its executor ran")),
    }
}

fn cannot_start(error: &io::Error) -> io::Error {
    let cure = match error.raw_os_error() {
        Some(12) => "raise the memlock limit (`ulimit -l`), it needs 4 MiB",
        Some(1 | 38) => "allow io_uring (`sysctl kernel.io_uring_disabled=0`, or the container's seccomp profile)",
        Some(_) | None => "it needs io_uring and a memlock limit of 4 MiB",
    };
    io::Error::new(error.kind(), format!("the storage thread's executor cannot start: {error}; {cure}"))
}

async fn serve(settings: Settings, database: Database, orders: Orders) {
    let executor = glommio::executor();
    let files = executor.create_task_queue(Shares::Static(FILES_SHARES), Latency::Matters(FILES_LATENCY), "files");
    let agents = executor.create_task_queue(Shares::Static(AGENTS_SHARES), Latency::NotImportant, "agents");
    let inbox = orders.inbox;
    let shared = Rc::new(Shared {
        bridge: Bridge::new(database, &inbox),
        inbox: Arc::clone(&inbox),
        work: settings.work,
        backends: settings.backends.into_iter().map(|backend| (backend.name.clone(), backend)).collect(),
        numbers: settings.numbers,
        counters: orders.counters,
        random: RefCell::new(SplitMix::new(settings.seed)),
        resting: RefCell::new(HashSet::new()),
    });
    let mut desk = Desk {
        shared,
        files,
        agents,
        agents_max: settings.agents_max.max(1),
        waiting_max: settings.orders_max.max(1),
        agent_limit: settings.agent_limit,
        import_limit: settings.import_limit,
        drain_limit: settings.drain_limit,
        waiting_runs: VecDeque::new(),
        waiting_imports: VecDeque::new(),
        running: HashMap::new(),
        importing: None,
        watches: Vec::new(),
        finished: Rc::default(),
        deadline: None,
    };
    std::future::poll_fn(|context| desk.turn(context)).await;
    for (_, task) in desk.running.drain() {
        count(&desk.shared.counters.agents_left);
        task.cancel().await;
    }
    for task in desk.watches {
        task.cancel().await;
    }
    inbox.close();
}

/// Takes orders, hands out replies, starts agents.
struct Desk {
    shared: Rc<Shared>,
    files: TaskQueueHandle,
    agents: TaskQueueHandle,
    agents_max: usize,
    waiting_max: usize,
    agent_limit: Duration,
    import_limit: Duration,
    drain_limit: Duration,
    /// Work that waits for a free place, oldest first.
    waiting_runs: VecDeque<AgentRun>,
    waiting_imports: VecDeque<ImportRun>,
    /// Agents by the key of their work.
    running: HashMap<Box<str>, Task<()>>,
    /// The running import's work.
    importing: Option<Box<str>>,
    watches: Vec<Task<()>>,
    /// Work that ended since the last turn.
    finished: Rc<RefCell<Vec<Box<str>>>>,
    /// Set when the unit stops.
    deadline: Option<Timer>,
}

impl Desk {
    /// One turn; ready when the unit has stopped.
    fn turn(&mut self, context: &mut Context<'_>) -> Poll<()> {
        self.shared.inbox.listen(context.waker());
        while let Some(reply) = self.shared.inbox.next_reply() {
            self.shared.bridge.deliver(reply);
        }
        for work in self.finished.take() {
            self.running.remove(&work);
            if self.importing.as_ref() == Some(&work) {
                self.importing = None;
            }
        }
        while self.waiting() < self.waiting_max
            && let Some(order) = self.shared.inbox.next_order()
        {
            count(&self.shared.counters.orders_taken);
            match order {
                Order::RunAgent(run) => self.waiting_runs.push_back(run),
                Order::Import(run) => self.waiting_imports.push_back(run),
                Order::WatchFiles { paths, interval_ms, notify } => self.start_watch(paths, interval_ms, notify),
            }
        }
        self.start_waiting();
        let counters = &self.shared.counters;
        counters.agents_running.store(u64::try_from(self.running.len()).unwrap_or(u64::MAX), Ordering::Relaxed);
        counters.agents_waiting.store(u64::try_from(self.waiting()).unwrap_or(u64::MAX), Ordering::Relaxed);
        if self.shared.inbox.is_stopping() { self.drain(context) } else { Poll::Pending }
    }

    fn waiting(&self) -> usize {
        self.waiting_runs.len() + self.waiting_imports.len()
    }

    /// Ready when nothing runs any more or the drain limit is over.
    fn drain(&mut self, context: &mut Context<'_>) -> Poll<()> {
        self.watches.clear();
        // These lose nothing; whoever wants to rest from here on ends instead.
        for work in self.shared.resting.take() {
            if self.running.remove(&work).is_some() {
                count(&self.shared.counters.agents_left);
            }
        }
        if self.running.is_empty() && self.waiting() == 0 && self.shared.inbox.orders_waiting() == 0 {
            return Poll::Ready(());
        }
        let limit = self.drain_limit;
        Pin::new(self.deadline.get_or_insert_with(|| Timer::new(limit))).poll(context).map(drop)
    }

    /// Starts what has a free place, oldest first. Work that is ordered twice waits until its first run has ended,
    /// and then finds itself finished.
    fn start_waiting(&mut self) {
        if self.importing.is_none()
            && let Some(run) = take_first(&mut self.waiting_imports, |run| !self.running.contains_key(&run.work))
        {
            self.start_import(run);
        }
        while self.running.len() - usize::from(self.importing.is_some()) < self.agents_max
            && let Some(run) = take_first(&mut self.waiting_runs, |run| !self.running.contains_key(&run.work))
        {
            self.start_run(run);
        }
    }

    fn start_run(&mut self, run: AgentRun) {
        let shared = Rc::clone(&self.shared);
        let limit = self.agent_limit;
        self.start_agent(run.work.clone(), async move {
            match guarded(limit, submit::run(&shared, &run)).await {
                Ok(end) => end,
                Err(reason) => {
                    shared.resting.borrow_mut().remove(&run.work);
                    within(GIVE_UP_LIMIT, submit::give_up(&shared, &run, &reason)).await.unwrap_or(End::Left)
                }
            }
        });
    }

    fn start_import(&mut self, run: ImportRun) {
        let shared = Rc::clone(&self.shared);
        let limit = self.import_limit;
        self.importing = Some(run.work.clone());
        self.start_agent(run.work.clone(), async move {
            match guarded(limit, import::run(&shared, &run)).await {
                Ok(end) => end,
                Err(reason) => {
                    within(GIVE_UP_LIMIT, import::close(&shared, &run, Err(reason))).await.unwrap_or(End::Left)
                }
            }
        });
    }

    fn start_watch(&mut self, paths: Vec<PathBuf>, interval_ms: u64, notify: Notify) {
        let shared = Rc::clone(&self.shared);
        let files = paths.into_iter().map(Watched::new).collect();
        let interval = Duration::from_millis(interval_ms.max(1));
        let task = async move { watch::run(&shared, files, interval, notify).await };
        self.watches.push(spawn_into(task, self.files));
    }

    /// Runs an agent and notes at its end how it ended.
    fn start_agent(&mut self, work: Box<str>, agent: impl Future<Output = End> + 'static) {
        let shared = Rc::clone(&self.shared);
        let finished = Rc::clone(&self.finished);
        let key = work.clone();
        let task = async move {
            count(match agent.await {
                End::Done => &shared.counters.agents_done,
                End::Failed => &shared.counters.agents_failed,
                End::Left => &shared.counters.agents_left,
            });
            finished.borrow_mut().push(key);
            shared.inbox.ring();
        };
        self.running.insert(work, spawn_into(task, self.agents));
    }
}

/// Takes the first item that may start.
fn take_first<T>(queue: &mut VecDeque<T>, may_start: impl Fn(&T) -> bool) -> Option<T> {
    let index = queue.iter().position(may_start)?;
    queue.remove(index)
}

fn spawn_into(task: impl Future<Output = ()> + 'static, queue: TaskQueueHandle) -> Task<()> {
    glommio::spawn_local_into(task, queue).expect("invariant: the unit never removes its task queues")
}

/// The agent's end, or why it must be given up. A panic in one agent costs that agent only.
async fn guarded(limit: Duration, agent: impl Future<Output = End>) -> Result<End, String> {
    let mut agent = std::pin::pin!(agent);
    let polled = std::future::poll_fn(|context| {
        match std::panic::catch_unwind(AssertUnwindSafe(|| agent.as_mut().poll(context))) {
            Ok(poll) => poll.map(Ok),
            Err(_) => Poll::Ready(Err("the agent panicked, see the log".to_owned())),
        }
    });
    match within(limit, polled).await {
        Some(end) => end,
        None => Err(format!("took longer than {limit:?}")),
    }
}
