//! What every piece of work shares while it runs, and the row in which it records how far it has come.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use super::agents::{NumberField, PostAgent, WorkState, WorkTable, clip};
use super::backend::Backend;
use super::books::Books;
use super::bridge::{Bridge, Mutated};
use super::executor;
use super::inbox::Inbox;
use super::numbers::Numbers;
use super::random::SplitMix;
use super::unit::GivenUp;
use crate::database::contract::{Change, Mutation, Place};
use crate::replication::Backlog;
use crate::tables::{Record, Update, Value};

/// Counters of the unit, for admin and status. The storage thread is the single writer of all but the refusals.
#[derive(Debug, Default)]
pub struct Counters {
    /// Orders given back because the queue was full or the unit stopped.
    pub orders_refused: AtomicU64,
    /// Requests to back-end servers, and those among them that repeat one.
    pub backend_requests: AtomicU64,
    pub backend_retries: AtomicU64,
    /// Watches of files that were begun, and changed files that were announced.
    pub files_watched: AtomicU64,
    pub files_changed: AtomicU64,
    /// What the executor says of its two queues: shares (0 where it has none), and the time that each has run.
    pub files_shares: AtomicU64,
    pub files_cpu_us: AtomicU64,
    pub agents_shares: AtomicU64,
    pub agents_cpu_us: AtomicU64,
}

impl Counters {
    /// All of them, as the admin interface shows them.
    pub fn to_json(&self) -> serde_json::Value {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        serde_json::json!({
            "orders_refused": of(&self.orders_refused),
            "backend_requests": of(&self.backend_requests),
            "backend_retries": of(&self.backend_retries),
            "files_watched": of(&self.files_watched),
            "files_changed": of(&self.files_changed),
            "files_shares": of(&self.files_shares),
            "files_cpu_us": of(&self.files_cpu_us),
            "agents_shares": of(&self.agents_shares),
            "agents_cpu_us": of(&self.agents_cpu_us),
        })
    }
}

/// Adds one; a single writer needs no read-modify-write, but refusals come from several threads.
pub(super) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// What the agents of a unit share.
pub(super) struct Shared {
    pub inbox: Arc<Inbox>,
    pub bridge: Rc<Bridge>,
    pub work: WorkTable,
    pub backends: HashMap<Box<str>, Backend>,
    pub numbers: Arc<Numbers>,
    /// Which one this is of several appliances on one database: the work is its, and the database numbers.
    pub place: Option<Place>,
    /// What the replicas have not applied yet, and how many they are.
    pub backlog: Backlog,
    pub replicas: usize,
    /// How long a batch of an import waits for replicas that are behind.
    pub pace_limit: Duration,
    pub counters: Arc<Counters>,
    pub books: Arc<Books>,
    /// Set when work is left unfinished in the database although the unit goes on.
    pub left_behind: Arc<AtomicBool>,
    pub random: RefCell<SplitMix>,
    /// Pieces of work in a pause between attempts: they lose nothing if the unit stops now.
    pub resting: RefCell<HashSet<Box<str>>>,
}

/// How a piece of work ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum End {
    Done,
    Failed,
    /// Not finished: the unit stops, or the database server could not record the end. Its row says so, and the work
    /// is ordered again: by a replica in a while, or at the next start.
    Left,
}

/// Who ordered what: the columns of the work row that never change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ticket<'a> {
    pub work: &'a str,
    pub agent: &'a str,
    pub subject_table: &'a str,
    pub subject_key: &'a str,
    pub requested_by: &'a str,
}

/// The columns of the work row that an agent writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Progress<'a> {
    pub state: WorkState,
    pub attempts: u32,
    pub reason: &'a str,
    pub result: &'a str,
}

impl Shared {
    /// Notes that a piece of work begins or ends a pause between attempts.
    pub fn note_rest(&self, work: &str, rests: bool) {
        let mut resting = self.resting.borrow_mut();
        let mut books = self.books.open();
        if rests && resting.insert(work.into()) {
            (books.running, books.waiting) = (books.running.saturating_sub(1), books.waiting + 1);
        } else if !rests && resting.remove(work) {
            (books.running, books.waiting) = (books.running + 1, books.waiting.saturating_sub(1));
        }
    }

    /// The work's row, made if it is missing: orders of the supervisor or admin come without one. Returns the attempts
    /// so far, or `None` if the work is finished already.
    pub async fn open(&self, ticket: &Ticket<'_>) -> Result<Option<u32>, String> {
        let row = self.bridge.read(self.work.table, ticket.work).await?;
        if let Some(Update { record: Some(record), .. }) = row {
            if record.get(self.work.state).as_text().is_some_and(WorkState::is_finished) {
                return Ok(None);
            }
            let attempts = match record.get(self.work.attempts) {
                Value::Integer(attempts) => u32::try_from(*attempts).unwrap_or(0),
                Value::Null | Value::Text(_) | Value::Boolean(_) => 0,
            };
            return Ok(Some(attempts));
        }
        self.put(ticket, &Progress { state: WorkState::Running, attempts: 0, reason: "", result: "" }).await?;
        Ok(Some(0))
    }

    /// Writes the whole row, whether it exists or not.
    pub async fn put(&self, ticket: &Ticket<'_>, progress: &Progress<'_>) -> Result<(), String> {
        let mut values = vec![Value::Null; self.work.width];
        let texts = [
            (self.work.agent, ticket.agent),
            (self.work.subject_table, ticket.subject_table),
            (self.work.subject_key, ticket.subject_key),
            (self.work.requested_by, ticket.requested_by),
        ];
        let fixed = texts.into_iter().map(|(field, text)| (field, Value::text(text)));
        for (field, value) in fixed.chain(self.values(progress)) {
            if let Some(place) = values.get_mut(field) {
                *place = value;
            }
        }
        if let (Some(owner), Some(place)) = (values.get_mut(self.work.appliance), self.place) {
            *owner = Value::Integer(place.appliance.cast_signed());
        }
        let change = Change::Put(Record(values.into()));
        let mutation = Mutation { table: self.work.table, key: ticket.work.into(), change };
        self.bridge.mutate(vec![mutation]).await.map(drop)
    }

    /// The change that records progress, to be committed with whatever else belongs to it.
    pub fn progress(&self, ticket: &Ticket<'_>, progress: &Progress<'_>) -> Mutation {
        Mutation { table: self.work.table, key: ticket.work.into(), change: Change::Set(self.values(progress)) }
    }

    /// Commits; the database server is asked again after a failure, which may be a full disk that somebody is
    /// clearing, until the agent's time is up.
    pub async fn commit(&self, mutations: Vec<Mutation>) -> Result<Mutated, String> {
        const TRIES: u32 = 4;
        let mut tries = 1;
        loop {
            match self.bridge.mutate(mutations.clone()).await {
                Ok(mutated) => return Ok(mutated),
                Err(reason) if tries == TRIES || self.inbox.is_stopping() => return Err(reason),
                Err(_) => {}
            }
            executor::sleep(Duration::from_millis(100 << tries)).await;
            tries += 1;
        }
    }

    /// The number that a row gets. Where several appliances give out numbers, the database keeps the last one.
    pub async fn number(&self, agent: &PostAgent, number: &NumberField) -> Result<String, String> {
        if self.place.is_none() {
            return Ok(self.numbers.next(agent.table, number));
        }
        let above = self.numbers.greatest(agent.table, number);
        let name = format!("{} {}", agent.table_name, number.prefix);
        self.bridge.number(&name, above).await.map(|next| number.text(next))
    }

    /// Records that nobody can do the work.
    pub async fn fail(&self, given_up: &GivenUp) -> Result<End, String> {
        let fields = vec![
            (self.work.state, Value::text(WorkState::Failed.as_str())),
            (self.work.reason, Value::text(clip(&given_up.reason, self.work.reason_bytes_max))),
            (self.work.updated, Value::Integer(executor::unix_ms())),
        ];
        let change = Change::Set(fields);
        self.commit(vec![Mutation { table: self.work.table, key: given_up.work.clone(), change }]).await?;
        Ok(End::Failed)
    }

    fn values(&self, progress: &Progress<'_>) -> Vec<(usize, Value)> {
        vec![
            (self.work.state, Value::text(progress.state.as_str())),
            (self.work.attempts, Value::Integer(i64::from(progress.attempts))),
            (self.work.reason, Value::text(clip(progress.reason, self.work.reason_bytes_max))),
            (self.work.updated, Value::Integer(executor::unix_ms())),
            (self.work.result, Value::text(clip(progress.result, self.work.result_bytes_max))),
        ]
    }
}
