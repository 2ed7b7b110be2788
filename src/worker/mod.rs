//! A worker: one pinned thread, one engine, and the roles that the profile gives it.
//!
//! Architecture invariant: workers share nothing but the mesh, its slips, their inboxes and the boards.

pub mod accepted;
pub mod access_log;
pub mod complaints;
pub mod event_loop;
pub mod front_role;
pub mod load_board;
pub mod movers;
pub mod placement;
mod replica_life;
pub mod replica_role;
pub mod solo;
pub mod status;
pub mod watch;

use std::os::fd::OwnedFd;
use std::sync::Arc;

use crossbeam::channel;

use crate::database::contract::{Loaded, Reply};
use crate::engine::Waker;
use crate::mesh::slip::Slip;
use crate::mesh::{grid, inbox};
use crate::replica::job::Job;
use crate::replication::{self, Unapplied};
use crate::storage::site::Site;
use crate::tables::code::CodeVersion;
use crate::tables::{Batch, ServerId};

pub use event_loop::Worker;
pub use status::{FrontRejects, WorkerStatus};

/// What travels between workers.
pub enum Message {
    /// A dispatched request, on a slip from which the front may take it back.
    Job { replica: ServerId, slip: Arc<Slip<Job>> },
    /// Its answer.
    Reply(Box<Job>),
    /// The replica takes no jobs and did not begin this one: it goes to another one.
    Unclaimed(Box<Job>),
    /// The slip of this flight was empty: the front had taken the job back.
    Withdrawn(u32),
    /// A connection that the first dispatcher moved: a new one, or an idle one.
    Connection(OwnedFd),
    /// From one replica to another: the sender's incarnation, and the receiver's as the sender knows it.
    Replication { from: ServerId, incarnation: u16, to: u16, message: replication::Message },
    /// New code tables, from one replica to another.
    Code { from: ServerId, code: Arc<CodeVersion> },
}

/// What threads that are no workers say to a worker.
pub enum Control {
    Database(Reply),
    Password {
        token: u64,
        right: bool,
    },
    /// Changes that agents committed.
    Published {
        batch: Arc<Batch>,
        unapplied: Unapplied,
    },
    /// New statements.
    Site(Arc<Site>),
    /// New code tables, for the replica of this worker, which passes them on to the others.
    Deploy(Arc<CodeVersion>),
    /// Asks for a status report.
    Status(channel::Sender<WorkerStatus>),
    /// Asks the front of this worker, if there is one, for its rejected requests.
    Rejects(channel::Sender<FrontRejects>),
    /// Stops the replica of this worker: it finishes what it began, and then holds nothing.
    StopReplica,
    /// Starts it again, with this code or a later one.
    StartReplica(Arc<CodeVersion>),
    /// The rows of one table, which the replica asked for in this incarnation.
    Loaded {
        incarnation: u16,
        loaded: Result<Loaded, String>,
    },
    /// A drill: something goes wrong with the next job of the replica.
    Drill(Drill),
    /// A drill: the worker does nothing at all for a while.
    Hang {
        ms: u64,
    },
    /// Starts or ends a drain of the front of this worker.
    Drain {
        on: bool,
    },
    /// Closes the listeners: the first step of the end.
    StopListening,
    /// Ends the worker's loop.
    Stop,
}

/// What goes wrong with a job on purpose, to see what becomes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drill {
    /// Its worker stands still for so long when it has begun it.
    Hang { ms: u64 },
    /// Its handler panics.
    Panic,
    /// The replica panics outside its handlers.
    Crash,
}

/// The worker's end of the mesh.
pub type Port = grid::Port<Message, Waker>;
/// How other threads reach a worker.
pub type ControlSender = inbox::Sender<Control, Waker>;

/// Which worker carries which server. The same for all workers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Layout {
    /// By replica number.
    pub replica_workers: Vec<usize>,
    /// By front number.
    pub front_workers: Vec<usize>,
}

// A ring has a thousand of them, and there is one for each pair of workers.
const _: () = assert!(size_of::<Message>() <= 40);

/// Gives a message to a worker from another thread. A full inbox means that the worker is behind: the sender waits,
/// which is the back-pressure; a worker that has ended takes nothing.
pub fn deliver(sender: &ControlSender, mut control: Control) {
    while let Err(back) = sender.send(control) {
        if sender.is_closed() {
            return;
        }
        control = back;
        std::thread::yield_now();
    }
}
