//! What a replica server is told and what it tells the worker around it.

use std::sync::Arc;

use crate::database::contract::{CommitMode, Place};
use crate::replication;
use crate::tables::{ServerId, Update};

use super::handlers::AgentRun;
use super::job::Job;

/// How a replica server works.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Jobs that may wait at the same time; more are answered 503.
    pub parked_max: usize,
    /// Times that a write is executed again because the database had a newer revision; then it is answered 409.
    pub conflicts_max: u32,
    /// A password hash with the costs of real ones that no password has: checked where a user is unknown, so that
    /// the time of the answer does not tell who exists.
    pub decoy_hash: Box<str>,
    /// Which one this is of several appliances on one database. Writes are acknowledged when the database has committed
    /// them then, whatever their level: it is the only arbiter that all appliances share.
    pub place: Option<Place>,
}

impl Default for Settings {
    fn default() -> Self {
        Self { parked_max: 4096, conflicts_max: 5, decoy_hash: "".into(), place: None }
    }
}

/// What the worker is to do.
#[derive(Debug)]
pub enum Output {
    /// The job's response is complete.
    Finished(Box<Job>),
    /// To the database server; its reply comes back by [`super::server::ReplicaServer::committed`].
    /// After `deadline_ns` (monotonic; 0: never) nobody waits for it any more.
    Commit { token: u64, updates: Vec<Update>, mode: CommitMode, deadline_ns: u64 },
    /// To the password thread; its answer comes back by [`super::server::ReplicaServer::password_verified`].
    VerifyPassword { token: u64, user: Box<str>, hash: Box<str>, password: Box<str> },
    /// To the application server: there is work.
    RunAgent(AgentRun),
    /// A handler failed: one line for the log.
    Fault { message: &'static str, error: String },
}

/// Since the replica was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Counters {
    pub executed: u64,
    pub finished: u64,
    /// Jobs that had to wait for anything.
    pub parked: u64,
    /// Writes that waited behind another one of the same row.
    pub waited: u64,
    /// Commits ordered from the database server.
    pub commits_ordered: u64,
    pub committed: u64,
    /// Commits that the database sent back because of a newer row.
    pub commits_conflicted: u64,
    /// Commits that the database did not take: disk full, locked.
    pub commits_failed: u64,
    /// Commits of which nobody knows whether the database has them.
    pub commits_unknown: u64,
    /// Commits of levels `local` and `all` ordered again, because the database had refused them.
    pub commits_repeated: u64,
    /// Acknowledged updates that the database will not get, because too many were refused.
    pub updates_given_up: u64,
    /// Writes executed again on newer rows.
    pub conflicts_retried: u64,
    /// Writes that gave up doing so.
    pub conflicts_lost: u64,
    /// Jobs answered 503, or 504 if their commit was on its way, because their time was over.
    pub expired: u64,
    /// Jobs answered 503 because too many were parked.
    pub shed: u64,
    /// Handlers that panicked.
    pub panicked: u64,
    /// Templates or expressions that failed.
    pub faults: u64,
}

impl Counters {
    /// Adds those of an earlier life.
    pub fn add(&mut self, other: &Self) {
        let Self {
            executed,
            finished,
            parked,
            waited,
            commits_ordered,
            committed,
            commits_conflicted,
            commits_failed,
            commits_unknown,
            commits_repeated,
            updates_given_up,
            conflicts_retried,
            conflicts_lost,
            expired,
            shed,
            panicked,
            faults,
        } = other;
        self.executed += executed;
        self.finished += finished;
        self.parked += parked;
        self.waited += waited;
        self.commits_ordered += commits_ordered;
        self.committed += committed;
        self.commits_conflicted += commits_conflicted;
        self.commits_unknown += commits_unknown;
        self.commits_repeated += commits_repeated;
        self.updates_given_up += updates_given_up;
        self.commits_failed += commits_failed;
        self.conflicts_retried += conflicts_retried;
        self.conflicts_lost += conflicts_lost;
        self.expired += expired;
        self.shed += shed;
        self.panicked += panicked;
        self.faults += faults;
    }
}

/// For `GET /replication` and the claim chart.
#[derive(Clone, Debug)]
pub struct Status {
    pub id: ServerId,
    pub code_version: u64,
    pub code_digest: u128,
    /// By table number.
    pub tables: Vec<TableStatus>,
    pub parked: usize,
    /// Updates acknowledged before the database had committed them, and not committed yet.
    pub unconfirmed: u64,
    /// Rows with a commit on its way.
    pub rows_writing: usize,
    /// Commits on their way.
    pub commits_waiting: usize,
    /// Commits ordered, less answered, less on their way: 0, or one got lost.
    pub books: i64,
    pub counters: Counters,
    pub replication: replication::Report,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableStatus {
    pub table: Arc<str>,
    pub application: Arc<str>,
    pub rows: usize,
    pub stubs: usize,
    /// Losers of conflicts that are kept.
    pub losers: usize,
    pub digest: u128,
}

/// Both clocks, as the worker read them for this turn.
#[derive(Clone, Copy, Debug, Default)]
pub struct Now {
    /// Monotonic nanoseconds.
    pub monotonic_ns: u64,
    pub unix_ms: u64,
}
