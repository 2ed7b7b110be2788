//! What every piece of work shares while it runs, and the row in which it records how far it has come.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::agents::{WorkState, WorkTable, clip};
use super::backend::Backend;
use super::bridge::{Bridge, Mutated};
use super::executor;
use super::inbox::Inbox;
use super::numbers::Numbers;
use super::random::SplitMix;
use crate::database::contract::{Change, Mutation};
use crate::tables::{Record, Update, Value};

/// Counters of the unit, for admin and status. The storage thread is the single writer of all but the refusals.
#[derive(Debug, Default)]
pub struct Counters {
    /// Orders taken out of the queue.
    pub orders_taken: AtomicU64,
    /// Orders given back because the queue was full or the unit stopped.
    pub orders_refused: AtomicU64,
    /// Pieces of work running now, and waiting for their turn.
    pub agents_running: AtomicU64,
    pub agents_waiting: AtomicU64,
    /// Pieces of work by their end; `left` ones stay in the database and are ordered again at the next start.
    pub agents_done: AtomicU64,
    pub agents_failed: AtomicU64,
    pub agents_left: AtomicU64,
    /// Requests to back-end servers, and those among them that repeat one.
    pub backend_requests: AtomicU64,
    pub backend_retries: AtomicU64,
    /// Changed files that were announced.
    pub files_changed: AtomicU64,
}

impl Counters {
    /// All of them, as the admin interface shows them.
    pub fn to_json(&self) -> serde_json::Value {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        serde_json::json!({
            "orders_taken": of(&self.orders_taken),
            "orders_refused": of(&self.orders_refused),
            "agents_running": of(&self.agents_running),
            "agents_waiting": of(&self.agents_waiting),
            "agents_done": of(&self.agents_done),
            "agents_failed": of(&self.agents_failed),
            "agents_left": of(&self.agents_left),
            "backend_requests": of(&self.backend_requests),
            "backend_retries": of(&self.backend_retries),
            "files_changed": of(&self.files_changed),
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
    pub counters: Arc<Counters>,
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
    /// is ordered again at the next start.
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
            executor::sleep(std::time::Duration::from_millis(100 << tries)).await;
            tries += 1;
        }
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
