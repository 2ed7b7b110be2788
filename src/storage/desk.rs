//! The storage thread's desk: takes orders and replies out of the inbox and runs agents, so many at a time.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet, VecDeque};
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;

use super::books::Entries;
use super::bridge::within;
use super::executor::{self, Queue, Task, Timer, shared_waker, spawn};
use super::files::Watch;
use super::unit::{AgentRun, GivenUp, ImportRun, Order};
use super::watch::{self, Notify};
use super::work::{Counters, End, Shared, count};
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

/// Work for an agent that posts, or that no agent can do.
enum Piece {
    Run(AgentRun),
    GiveUp(GivenUp),
}

impl Piece {
    fn work(&self) -> &str {
        match self {
            Self::Run(run) => &run.work,
            Self::GiveUp(given_up) => &given_up.work,
        }
    }
}

/// Takes orders, hands out replies, starts agents.
pub(super) struct Desk {
    shared: Rc<Shared>,
    limits: Limits,
    /// Work that waits for a free place, oldest first.
    waiting_pieces: VecDeque<Piece>,
    waiting_imports: VecDeque<ImportRun>,
    /// Keys of `waiting_pieces`.
    waiting_works: HashSet<Box<str>>,
    /// Agents by the key of their work.
    running: HashMap<Box<str>, Task>,
    /// The running import's work.
    importing: Option<Box<str>>,
    watches: Vec<Task>,
    /// Work that ended since the last turn.
    finished: Rc<RefCell<Vec<(Box<str>, End)>>>,
    /// Set when the unit stops.
    deadline: Option<Timer>,
}

impl Desk {
    pub fn new(shared: Rc<Shared>, limits: Limits) -> Self {
        Self {
            shared,
            limits,
            waiting_pieces: VecDeque::new(),
            waiting_imports: VecDeque::new(),
            waiting_works: HashSet::new(),
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
        for task in std::mem::take(&mut self.running).into_values().chain(std::mem::take(&mut self.watches)) {
            task.cancel().await;
        }
        // Nobody pushes any more: whoever orders looks at the stop sign under the books' lock.
        let shared = Rc::clone(&self.shared);
        let mut books = shared.books.open();
        while shared.inbox.next_order().is_some() {}
        let left = books.in_inbox + books.at_desk + books.running + books.waiting;
        *books = Entries { in_inbox: 0, at_desk: 0, running: 0, waiting: 0, left: books.left + left, ..*books };
    }

    /// One turn; ready when the unit has stopped.
    fn turn(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let shared = Rc::clone(&self.shared);
        shared.inbox.listen(&shared_waker(context));
        while let Some(reply) = shared.inbox.next_reply() {
            shared.bridge.deliver(reply);
        }
        {
            // Until the lock is released work is in two places or none.
            let mut books = shared.books.open();
            self.take_finished(&mut books);
            self.take_orders(&mut books);
            self.start_waiting();
            self.enter(&mut books);
        }
        observe_queues(&shared.counters);
        if shared.inbox.is_stopping() { self.drain(context) } else { Poll::Pending }
    }

    fn take_finished(&mut self, books: &mut Entries) {
        for (work, end) in self.finished.take() {
            self.running.remove(&work);
            if self.importing.as_ref() == Some(&work) {
                self.importing = None;
            }
            if end == End::Left && !self.shared.inbox.is_stopping() {
                // ORDERING: Relaxed, pairs with `Orders::has_left_behind`.
                self.shared.left_behind.store(true, Ordering::Relaxed);
            }
            books.end(&end);
        }
    }

    fn take_orders(&mut self, books: &mut Entries) {
        while self.waiting() < self.limits.waiting_max
            && let Some(order) = self.shared.inbox.next_order()
        {
            match order {
                Order::RunAgent(run) => self.take_piece(Piece::Run(run), books),
                Order::GiveUp(given_up) => self.take_piece(Piece::GiveUp(given_up), books),
                Order::Import(run) => {
                    books.in_inbox -= 1;
                    self.waiting_imports.push_back(run);
                }
                Order::WatchFiles { paths, interval_ms, notify } => self.start_watch(paths, interval_ms, notify),
            }
        }
    }

    /// A piece that waits already need not wait twice: it looks at its row when it begins.
    fn take_piece(&mut self, piece: Piece, books: &mut Entries) {
        books.in_inbox -= 1;
        if self.waiting_works.insert(piece.work().into()) {
            self.waiting_pieces.push_back(piece);
        } else {
            books.repeated += 1;
        }
    }

    /// Writes down what is here.
    fn enter(&self, books: &mut Entries) {
        let count = |items: usize| u64::try_from(items).unwrap_or(u64::MAX);
        books.at_desk = count(self.waiting());
        books.waiting = count(self.shared.resting.borrow().len());
        books.running = count(self.running.len()).saturating_sub(books.waiting);
    }

    fn waiting(&self) -> usize {
        self.waiting_pieces.len() + self.waiting_imports.len()
    }

    /// Ready when nothing runs any more or the drain limit is over.
    fn drain(&mut self, context: &mut Context<'_>) -> Poll<()> {
        self.watches.clear();
        // These lose nothing; whoever wants to rest from here on ends instead.
        for work in self.shared.resting.take() {
            if self.running.remove(&work).is_some() {
                let mut books = self.shared.books.open();
                books.end(&End::Left);
                self.enter(&mut books);
            }
        }
        if self.running.is_empty() && self.waiting() == 0 && self.shared.inbox.orders_waiting() == 0 {
            return Poll::Ready(());
        }
        let limit = self.limits.drain;
        Pin::new(self.deadline.get_or_insert_with(|| Timer::new(limit))).poll(context).map(drop)
    }

    /// Starts what has a free place, oldest first. Work that is ordered again while it runs waits until its first run
    /// has ended, and then finds itself finished.
    fn start_waiting(&mut self) {
        if self.importing.is_none()
            && let Some(run) = take_first(&mut self.waiting_imports, |run| !self.running.contains_key(&run.work))
        {
            self.start_import(run);
        }
        while self.running.len() - usize::from(self.importing.is_some()) < self.limits.agents_max
            && let Some(piece) = take_first(&mut self.waiting_pieces, |piece| !self.running.contains_key(piece.work()))
        {
            self.waiting_works.remove(piece.work());
            match piece {
                Piece::Run(run) => self.start_run(run),
                Piece::GiveUp(given_up) => self.start_give_up(given_up),
            }
        }
    }

    fn start_run(&mut self, run: AgentRun) {
        let shared = Rc::clone(&self.shared);
        let limit = self.limits.agent;
        self.start_agent(run.work.clone(), async move {
            match guarded(limit, submit::run(&shared, &run)).await {
                Ok(end) => end,
                Err(reason) => {
                    shared.note_rest(&run.work, false);
                    guarded(GIVE_UP_LIMIT, submit::give_up(&shared, &run, &reason)).await.unwrap_or(End::Left)
                }
            }
        });
    }

    fn start_give_up(&mut self, given_up: GivenUp) {
        let shared = Rc::clone(&self.shared);
        self.start_agent(given_up.work.clone(), async move {
            let failing = async { shared.fail(&given_up).await.unwrap_or(End::Left) };
            guarded(GIVE_UP_LIMIT, failing).await.unwrap_or(End::Left)
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
                    guarded(GIVE_UP_LIMIT, import::close(&shared, &run, Err(reason))).await.unwrap_or(End::Left)
                }
            }
        });
    }

    fn start_watch(&mut self, paths: Vec<PathBuf>, interval_ms: u64, notify: Notify) {
        let shared = Rc::clone(&self.shared);
        let files = Watch::new(paths);
        count(&self.shared.counters.files_watched);
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
            let end = agent.await;
            finished.borrow_mut().push((key, end));
            shared.inbox.ring();
        };
        self.running.insert(work, spawn(Queue::Agents, task));
    }
}

/// Notes what the executor says of its queues.
fn observe_queues(counters: &Counters) {
    for (queue, shares, cpu_us) in [
        (Queue::Files, &counters.files_shares, &counters.files_cpu_us),
        (Queue::Agents, &counters.agents_shares, &counters.agents_cpu_us),
    ] {
        let (now, ran) = executor::observe(queue);
        shares.store(now, Ordering::Relaxed);
        cpu_us.fetch_add(u64::try_from(ran.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
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
