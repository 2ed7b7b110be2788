//! What the database server is asked and what it answers.

use std::sync::Arc;
use std::time::Duration;

use super::health::State;
use crate::tables::{Record, ShapeSet, Stamp, TableId, Update, Value, VersionVector};

/// Takes a reply to whoever asked: pushes into a worker's inbox or a channel. Never blocks.
pub type ReplySink = Arc<dyn Fn(Reply) + Send + Sync>;

/// Takes a loaded table to whoever asked.
pub type LoadSink = Box<dyn FnOnce(Result<Loaded, String>) + Send>;

/// Takes what [`Request::Follow`] came to.
pub type FollowSink = Box<dyn FnOnce(StoreResult<Follow>) + Send>;

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
    /// Updates of one action: all are committed, or none. `deadline_ns` is monotonic: if it passes before the server
    /// begins with the order, nothing is written and the answer is [`Outcome::Failed`]; 0: it may wait for ever.
    Commit { token: u64, updates: Vec<Update>, mode: CommitMode, deadline_ns: u64, reply: ReplySink },
    /// Changes by the application server, in one transaction. The committed updates (stamped by the server with the
    /// application server's id) come back in the reply and go to the replicas through [`Publisher`].
    Mutate { token: u64, mutations: Vec<Mutation>, reply: ReplySink },
    /// Reads one row.
    Read { token: u64, table: TableId, key: Box<str>, reply: ReplySink },
    /// Records a deploy: the sources of every code table by path, so that a restart runs the same code.
    Deploy { token: u64, version: u64, application: Box<str>, sources: Vec<(String, String)>, reply: ReplySink },
    /// Takes the shapes of a new code version before its first write: known tables keep their numbers and fields,
    /// both lists may grow at their ends. Answered with an empty [`Outcome::Committed`].
    Reshape { token: u64, shapes: Arc<ShapeSet>, reply: ReplySink },
    /// Takes a [`Request::Reshape`] back whose deploy was refused: these shapes, from before it, hold again. Answered
    /// with an empty [`Outcome::Committed`].
    Withdraw { token: u64, shapes: Arc<ShapeSet>, reply: ReplySink },
    /// Hands over all rows and stubs of a table, for replicas that start; see [`Loaded`].
    Load { table: TableId, reply: LoadSink },
    /// Publishes what other appliances committed, at most so many updates; see [`Follow`]. `members` asks for all
    /// appliances as well.
    Follow { updates_max: usize, members: bool, reply: FollowSink },
    /// The next number of this name, greater than `above` and than all that any appliance was given before. Answered
    /// with [`Outcome::Number`] when it is on disk that it is taken.
    Number { token: u64, name: Box<str>, above: u64, reply: ReplySink },
    /// Agents' work that is unfinished and belongs to no living appliance belongs to this one from here on. Answered
    /// like a [`Request::Mutate`], with the rows.
    TakeOver { token: u64, reply: ReplySink },
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
    Committed {
        updates: Vec<Update>,
    },
    /// An update's base was not the stored revision; the newer rows are handed back so that the action can be
    /// executed again on them.
    Conflict {
        current: Vec<Update>,
    },
    Row(Option<Update>),
    Number(u64),
    /// The database refused: disk full, locked, corrupt, or the order was wrong or too late. Nothing of it is written,
    /// now or later. The text is one sentence.
    Failed(String),
    /// The commit broke off and the database cannot be asked: it may be on disk or not. Never to be reported as a
    /// failure. The text is one sentence.
    Unknown(String),
}

/// Receives every batch of updates that the application server's agents committed, in commit order, before the reply
/// to the agent: the worker side feeds them to the replicas.
pub type Publisher = Arc<dyn Fn(Arc<crate::tables::Batch>) + Send + Sync>;

/// One table's rows as they were loaded. Their `base` is [`ABSENT`].
#[derive(Debug)]
pub struct Loaded {
    pub table: TableId,
    pub rows: Vec<Update>,
    /// The number of the application server's last update that was published before they were read.
    pub published: u64,
}

/// The stamp of a row that does not exist.
pub const ABSENT: Stamp = Stamp { sequence: 0, time: 0, server: 0 };

/// A deploy as it was recorded: the code that a restart runs, unless the profile's own code has changed since.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deployed {
    pub version: u64,
    pub application: Box<str>,
    /// Digest of the profile's code when the deploy came. A caller that finds another digest today takes the
    /// profile's code: somebody edited it after the deploy.
    pub base_digest: Box<str>,
    /// Path and text of every code table.
    pub sources: Vec<(String, String)>,
}

/// Which of the appliances that share a database this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Given to nobody else, also when this one has ended.
    pub appliance: u64,
    /// What its clocks are told from others' by: [`HybridClock::of_slot`](crate::tables::stamp::HybridClock::of_slot).
    pub slot: u16,
}

/// One of the appliances that share a database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    pub appliance: u64,
    /// The profile's `cluster.name`, for people.
    pub name: String,
    pub started_ms: u64,
    /// The database sees its connection; no clock is asked.
    pub alive: bool,
    /// The last line of the change log that it is known to have read.
    pub position: u64,
}

/// What a store found of other appliances' commits since it was asked before.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Followed {
    /// In commit order. Positions are in commit order as well, so that nothing comes in between later.
    pub updates: Vec<Update>,
    /// Deploys of others that this store has not handed out. Then there are no updates: some may need the new shapes.
    pub deployed: Vec<Deployed>,
    /// Ask again.
    pub more: bool,
    /// Lines are gone that were not read: the caller loads every table. What was committed before the load began is
    /// in it, and `position` is before that.
    pub missed: bool,
    /// The last line that was read, and the last there was.
    pub position: u64,
    pub head: u64,
}

/// What came of [`Request::Follow`].
#[derive(Clone, Debug, Default)]
pub struct Follow {
    /// Updates that went to the replicas.
    pub updates: usize,
    pub deployed: Vec<Deployed>,
    pub more: bool,
    /// Everything is being read again, because lines were gone.
    pub reloading: bool,
    pub position: u64,
    pub head: u64,
    /// All appliances, if they were asked for.
    pub members: Vec<Member>,
}

/// What a bulk write found for one of its records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compared {
    /// No such key.
    New,
    /// The stored record is the same.
    Equal,
    /// The stored revision, which differs (or is a stub).
    Differs { stamp: Stamp, versions: VersionVector },
}

/// What went wrong in a store: one sentence with the cure.
pub type StoreResult<T> = Result<T, String>;

/// Why [`Store::commit`] did not succeed: one sentence with the cure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Uncommitted {
    /// Nothing of the transaction is on disk, and nothing will be.
    Undone(String),
    /// It may be on disk or not, and the store could not find out.
    Unknown(String),
}

impl Uncommitted {
    pub fn sentence(self) -> String {
        match self {
            Self::Undone(sentence) | Self::Unknown(sentence) => sentence,
        }
    }
}

/// A relational database as the database server uses it; owned by the server's thread.
///
/// Writes happen between [`Store::begin`] and [`Store::commit`]; every read sees the transaction's own writes. Each
/// written update also leaves a line in the change log. The SQL dialect is the implementation's own matter.
pub trait Store {
    fn shapes(&self) -> &Arc<ShapeSet>;

    /// Takes the shapes of a new code version: creates tables, appends columns. Existing [`TableId`]s keep their
    /// meaning. Not inside a transaction.
    fn reshape(&mut self, shapes: Arc<ShapeSet>) -> StoreResult<()>;

    /// Takes a [`Store::reshape`] back that nothing was written with: the shapes from before it hold again, and other
    /// tables may get the numbers of those that it brought. What was made in the database stays there, empty.
    fn withdraw(&mut self, shapes: Arc<ShapeSet>) -> StoreResult<()>;

    fn begin(&mut self) -> StoreResult<()>;

    /// The rows whose stamps a group is going to ask for, within its transaction: a store that has a way to go may ask
    /// for all of them at once. They are not believed further than the transaction.
    fn expect(&mut self, _rows: &[(TableId, &str)]) -> StoreResult<()> {
        Ok(())
    }

    /// When it returns `Ok`, everything since [`Store::begin`] is on disk: the kernel was told to bring it there
    /// (`fsync`), and said that it has.
    ///
    /// # Errors
    /// [`Uncommitted::Undone`] only if nothing of it is there and never will be.
    fn commit(&mut self) -> Result<(), Uncommitted>;

    /// Forgets everything since [`Store::begin`]. Never fails: what cannot be rolled back is not visible either.
    fn rollback(&mut self);

    /// Bytes of a half-written transaction that were found at the end of the store's log and dropped, when it was
    /// opened and since.
    fn torn_bytes(&self) -> u64;

    /// What kept the last call from working: [`State::Up`] if nothing did, or the request itself.
    fn trouble(&self) -> State;

    /// The stored stamps in the order of `rows`, [`ABSENT`] where there is no row.
    fn stamps_of(&mut self, rows: &[(TableId, &str)]) -> StoreResult<Vec<Stamp>>;

    /// One row or stub. `base` of what comes back is [`ABSENT`]: it belongs to the way, not to the row.
    fn row(&mut self, table: TableId, key: &str) -> StoreResult<Option<Update>>;

    /// Inserts or replaces rows; a later update of a key replaces an earlier one.
    fn upsert(&mut self, updates: &[Update]) -> StoreResult<()>;

    /// Compares many records (distinct keys) of one table with the stored rows, in the order given.
    /// Called before [`Store::begin`].
    fn compare_bulk(&mut self, table: TableId, records: &[(&str, &Record)]) -> StoreResult<Vec<Compared>>;

    /// [`Store::upsert`] for many rows (distinct keys) of one table, after [`Store::compare_bulk`].
    fn put_bulk(&mut self, table: TableId, updates: &[Update]) -> StoreResult<()>;

    /// Keeps the loser of two conflicting edits.
    fn keep_conflict(&mut self, loser: &Update, found_ms: u64) -> StoreResult<()>;

    /// Hands over every row and stub of a table.
    fn load_all(&mut self, table: TableId, each: &mut dyn FnMut(Update)) -> StoreResult<()>;

    /// Records a deploy.
    fn deploy(&mut self, deployed: &Deployed, now_ms: u64) -> StoreResult<()>;

    /// The latest deploy of every application.
    fn deployed(&mut self) -> StoreResult<Vec<Deployed>>;

    fn setting(&mut self, name: &str) -> StoreResult<Option<String>>;

    fn set_setting(&mut self, name: &str, value: &str) -> StoreResult<()>;

    /// Rows and stubs, and the greatest hybrid time among them.
    fn extent(&self) -> (u64, u64);

    /// Which one this is of several appliances on one database; `None` for a store that has one appliance only.
    fn place(&self) -> Option<Place> {
        None
    }

    /// What *other* appliances committed since the last call, in commit order, at most so many updates. Not inside a
    /// transaction. The first call begins where the store was opened.
    fn follow(&mut self, _updates_max: usize) -> StoreResult<Followed> {
        Ok(Followed::default())
    }

    /// All appliances on this database that are alive, and some that were. Also within a transaction.
    fn members(&mut self) -> StoreResult<Vec<Member>> {
        Ok(Vec::new())
    }

    /// Work that commits put off. Called after each group, and with the idle time when there is nothing to do;
    /// returns when it wants to be called again if idle.
    fn maintain(&mut self, idle: Duration) -> StoreResult<Option<Duration>>;

    /// The last call: leaves a file that opens quickly.
    fn close(&mut self) -> StoreResult<()>;
}
