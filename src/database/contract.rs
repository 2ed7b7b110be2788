//! What the database server is asked and what it answers.

use std::sync::Arc;

use crate::tables::{Record, Stamp, TableId, Update, Value};

/// Takes a reply to whoever asked: pushes into a worker's inbox or a channel. Never blocks.
pub type ReplySink = Arc<dyn Fn(Reply) + Send + Sync>;

/// A change that an agent asks for: the database server reads the row, sets fields, stamps and commits it, all in
/// one transaction, so that no concurrent edit is lost.
#[derive(Clone, Debug, PartialEq)]
pub struct Mutation {
    pub table: TableId,
    pub key: Box<str>,
    pub change: Change,
}

/// What a [`Mutation`] does to its row.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// Inserts or replaces the whole record; a row that is equal already is left alone.
    Put(Record),
    /// Sets fields by number on an existing row; a missing row is reported in [`Outcome::Conflict`].
    Set(Vec<(usize, Value)>),
    Delete,
}

/// How stored revisions are compared with a commit's updates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommitMode {
    /// Each update's base must be the stored revision, otherwise nothing is committed ([`Outcome::Conflict`]): the
    /// database is the arbiter of durable writes, so that they never conflict.
    Arbitrated,
    /// The greater stamp stays, the loser goes to the table of conflicts: for writes acknowledged before.
    Merged,
}

/// A question or order for the database server, from a bounded queue.
pub enum Request {
    /// Updates of one action: all are committed, or none.
    Commit { token: u64, updates: Vec<Update>, mode: CommitMode, reply: ReplySink },
    /// Changes by the application server, in one transaction. The committed updates (stamped by the server with the
    /// application server's id) come back in the reply and go to the replicas through [`Publisher`].
    Mutate { token: u64, mutations: Vec<Mutation>, reply: ReplySink },
    /// Reads one row.
    Read { token: u64, table: TableId, key: Box<str>, reply: ReplySink },
    /// Records a deploy: the sources of every code table by path, so that a restart runs the same code.
    Deploy { token: u64, version: u64, application: Box<str>, sources: Vec<(String, String)>, reply: ReplySink },
    /// Commits what is queued and ends the thread.
    Stop,
}

/// Answer to the request with the same token.
#[derive(Debug)]
pub struct Reply {
    pub token: u64,
    pub outcome: Outcome,
}

#[derive(Debug)]
pub enum Outcome {
    /// Committed: on disk when this is sent. `updates` of a `Mutate` that changed something.
    Committed { updates: Vec<Update> },
    /// An update's base was not the stored revision; the newer rows are handed back so that the action can be
    /// executed again on them.
    Conflict { current: Vec<Update> },
    Row(Option<Update>),
    /// The database refused: disk full, locked, corrupt. The text is one sentence.
    Failed(String),
}

/// Receives every batch of updates that the application server's agents committed, in commit order, before the reply
/// to the agent: the worker side feeds them to the replicas.
pub type Publisher = Arc<dyn Fn(Arc<crate::tables::Batch>) + Send + Sync>;

/// One table's rows as loaded at start.
pub struct Loaded {
    pub table: TableId,
    pub rows: Vec<Update>,
}

/// The stamp of a row that does not exist.
pub const ABSENT: Stamp = Stamp { sequence: 0, time: 0, server: 0 };
