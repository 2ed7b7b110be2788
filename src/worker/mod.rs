//! A worker: one pinned thread, one engine, and the roles that the profile gives it.
//!
//! Architecture invariant: workers share nothing but the mesh, their inboxes and the depth boards.

pub mod accepted;
pub mod access_log;
pub mod event_loop;
pub mod front_role;
pub mod load_board;
pub mod movers;
pub mod placement;
pub mod replica_role;
pub mod solo;
pub mod status;

use std::os::fd::OwnedFd;
use std::sync::Arc;

use crossbeam::channel;

use crate::database::contract::Reply;
use crate::engine::Waker;
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
    /// A dispatched request.
    Job { replica: ServerId, job: Box<Job> },
    /// Its answer.
    Reply(Box<Job>),
    /// The replica was stopped before it began the job: it goes to another one.
    Unclaimed { replica: ServerId, job: Box<Job> },
    /// A connection that the first dispatcher moved: a new one, or an idle one.
    Connection(OwnedFd),
    /// From one replica to another.
    Replication { from: ServerId, message: replication::Message },
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
    /// Stops or starts the replica of this worker.
    Replica {
        running: bool,
    },
    /// Tells every front whether a replica can be dispatched to.
    Available {
        replica: ServerId,
        available: bool,
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
