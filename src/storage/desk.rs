//! The storage thread's desk: takes orders and replies out of the inbox and runs agents, so many at a time.

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;

use super::bridge::within;
use super::executor::{Queue, Task, Timer, shared_waker, spawn};
use super::files::Watch;
use super::unit::{AgentRun, ImportRun, Order};
use super::watch::{self, Notify};
use super::work::{End, Shared, count};
use super::{import, submit};

/// Time to record that an agent was given up.
const GIVE_UP_LIMIT: Duration = Duration::from_secs(10);

/// The desk's part of the unit's settings.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Submissions that run at a time, at least 1.
    pub agents_max: usize,
    /// Orders that wait here, at least 1.
    pub waiting_max: usize,
    /// Time for one submission, for one import, and for what runs when the unit stops.
    pub agent: Duration,
    pub import: Duration,
    pub drain: Duration,
}

/// Takes orders, hands out replies, starts agents.
pub(super) struct Desk {
    shared: Rc<Shared>,
    limits: Limits,
    /// Work that waits for a free place, oldest first.
    waiting_runs: VecDeque<AgentRun>,
    waiting_imports: VecDeque<ImportRun>,
    /// Agents by the key of their work.
    running: HashMap<Box<str>, Task>,
    /// The running import's work.
    importing: Option<Box<str>>,
    watches: Vec<Task>,
    /// Work that ended since the last turn.
    finished: Rc<RefCell<Vec<Box<str>>>>,
    /// Set when the unit stops.
    deadline: Option<Timer>,
}

impl Desk {
    pub fn new(shared: Rc<Shared>, limits: Limits) -> Self {
        Self {
            shared,
            limits,
            waiting_runs: VecDeque::new(),
            waiting_imports: VecDeque::new(),
            running: HashMap::new(),
            importing: None,
            watches: Vec::new(),
            finished: Rc::default(),
            deadline: None,
        }
    }

    /// Works until the unit stops and its agents have ended or the drain limit is over.
    pub async fn run(mut self) {
        std::future::poll_fn(|context| self.turn(context)).await;
        // Awaited one by one, so that what they hold is dropped while the executor still runs.
        for (_, task) in self.running.drain() {
            count(&self.shared.counters.agents_left);
            task.cancel().await;
        }
        for task in self.watches {
            task.cancel().await;
        }
    }

    /// One turn; ready when the unit has stopped.
    fn turn(&mut self, context: &mut Context<'_>) -> Poll<()> {
        self.shared.inbox.listen(&shared_waker(context));
        while let Some(reply) = self.shared.inbox.next_reply() {
            self.shared.bridge.deliver(reply);
        }
        for work in self.finished.take() {
            self.running.remove(&work);
            if self.importing.as_ref() == Some(&work) {
                self.importing = None;
            }
        }
        while self.waiting() < self.limits.waiting_max
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
        let limit = self.limits.drain;
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
        while self.running.len() - usize::from(self.importing.is_some()) < self.limits.agents_max
            && let Some(run) = take_first(&mut self.waiting_runs, |run| !self.running.contains_key(&run.work))
        {
            self.start_run(run);
        }
    }

    fn start_run(&mut self, run: AgentRun) {
        let shared = Rc::clone(&self.shared);
        let limit = self.limits.agent;
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
        let limit = self.limits.import;
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
        let files = Watch::new(paths);
        let interval = Duration::from_millis(interval_ms.max(1));
        let task = async move { watch::run(&shared, files, interval, notify).await };
        self.watches.push(spawn(Queue::Files, task));
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
        self.running.insert(work, spawn(Queue::Agents, task));
    }
}

/// Takes the first item that may start.
fn take_first<T>(queue: &mut VecDeque<T>, may_start: impl Fn(&T) -> bool) -> Option<T> {
    let index = queue.iter().position(may_start)?;
    queue.remove(index)
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
