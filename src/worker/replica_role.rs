//! The replica server of a worker: carries its orders to the database server, the passwords thread, the storage unit
//! and the other replicas, and their answers back to it.

use std::sync::Arc;

use crate::database;
use crate::database::contract::{Outcome, ReplySink, Request};
use crate::mesh::depth::DepthBoard;
use crate::replica::job::Job;
use crate::replica::server::{Now, Output, ReplicaServer};
use crate::replication;
use crate::storage::agents::WorkState;
use crate::storage::orders;
use crate::storage::passwords::{Passwords, VerdictSink};
use crate::storage::unit::{self, Order};
use crate::tables::code::{AGENT_WORK, CodeVersion, agent_work};
use crate::tables::{ServerId, Value};

use super::accepted::Accepted;
use super::status::ReplicaStatus;
use super::{Control, Layout, Message, Port};

/// How often a replica looks for agents' work that was left behind.
const LEFT_BEHIND_LOOK_NS: u64 = 500_000_000;
/// Pieces of work in one state that one look orders again.
const LEFT_BEHIND_MAX: usize = 256;

/// Threads that a replica gives orders to.
#[derive(Clone)]
pub struct Services {
    pub database: database::server::Client,
    pub passwords: Passwords,
    pub storage: unit::Orders,
    /// Brings the database server's replies back to this worker.
    pub database_reply: ReplySink,
    /// Brings the outcome of a password check back to this worker.
    pub password_reply: VerdictSink,
}

/// A replica server in a worker.
pub struct ReplicaRole {
    pub replica: ServerId,
    pub server: ReplicaServer,
    services: Services,
    running: bool,
    accepted: Accepted,
    /// Where the depth of every replica is published, by replica number.
    depths: Arc<DepthBoard>,
    /// When to look for agents' work that was left behind, and whether the last look found some. What the last look
    /// saw has reached every replica by the next one.
    next_look_ns: u64,
    saw_left_behind: bool,
    /// Messages to other replicas that are no replication state: new code versions.
    code_for: Vec<ServerId>,
}

impl ReplicaRole {
    pub fn new(
        replica: ServerId,
        server: ReplicaServer,
        services: Services,
        accepted: Accepted,
        depths: Arc<DepthBoard>,
    ) -> Self {
        Self {
            replica,
            server,
            services,
            running: true,
            accepted,
            depths,
            next_look_ns: 0,
            saw_left_behind: false,
            code_for: Vec::new(),
        }
    }

    /// Ends a turn: tells the dispatchers how much work is here.
    pub fn publish_depth(&self) {
        self.depths.publish(usize::from(self.replica), self.accepted.total());
    }

    /// Stops or starts executing jobs. What was begun is finished; what comes now goes back unclaimed.
    pub fn set_running(&mut self, running: bool) {
        self.running = running;
    }

    /// Executes a job; gives it back when the replica is stopped.
    pub fn execute(&mut self, mut job: Box<Job>, now: Now) -> Option<Box<Job>> {
        if !self.running {
            return Some(job);
        }
        self.accepted.add(job.origin.worker);
        job.response.replica = self.replica;
        self.server.execute(job, now);
        None
    }

    /// A message from another replica.
    pub fn on_replication(&mut self, from: ServerId, message: replication::Message, now: Now) {
        self.server.receive_replication(from, message, now);
    }

    /// A code version, from the admin thread (`from` is none) or from another replica. It goes on to the others from
    /// the replica that was given it first; one that misses it is told by the next sweep.
    pub fn on_code(&mut self, code: Arc<CodeVersion>, from: Option<ServerId>, layout: &Layout) {
        if self.server.set_code(code) && from.is_none() {
            let peers = 0..layout.replica_workers.len();
            self.code_for
                .extend(peers.filter_map(|peer| ServerId::try_from(peer).ok()).filter(|peer| *peer != self.replica));
        }
    }

    /// An answer from another thread; what is not for a replica is ignored.
    pub fn on_control(&mut self, control: Control, now: Now) {
        match control {
            Control::Database(reply) => self.server.committed(reply.token, reply.outcome, now),
            Control::Password { token, right } => self.server.password_verified(token, right, now),
            Control::Published { batch, unapplied } => self.server.receive_published(batch, unapplied),
            Control::Deploy(_)
            | Control::Site(_)
            | Control::Status(_)
            | Control::Rejects(_)
            | Control::Replica { .. }
            | Control::Available { .. }
            | Control::Drain { .. }
            | Control::StopListening
            | Control::Stop => {}
        }
    }

    /// Deadlines and the periodic sweep; returns when to come again.
    pub fn tick(&mut self, now: Now) -> u64 {
        self.server.tick(now);
        if now.monotonic_ns >= self.next_look_ns {
            self.next_look_ns = now.monotonic_ns.saturating_add(LEFT_BEHIND_LOOK_NS);
            self.look_for_left_behind();
        }
        self.server.next_tick_ns()
    }

    /// Orders agents' work again that is unfinished in its table and that the storage unit has lost sight of: its
    /// queue was full, or the database could not record the end.
    fn look_for_left_behind(&mut self) {
        let storage = &self.services.storage;
        let saw = std::mem::replace(&mut self.saw_left_behind, storage.has_left_behind());
        if !(saw && self.saw_left_behind && self.running && self.server.is_ready() && storage.take_left_behind()) {
            return;
        }
        self.saw_left_behind = false;
        for state in [WorkState::Queued, WorkState::Running, WorkState::Waiting] {
            let state = Value::text(state.as_str());
            let found = self.server.tables().by_index(AGENT_WORK, agent_work::STATE, &state, 0, LEFT_BEHIND_MAX);
            if found.total > found.rows.len() {
                storage.leave_behind();
            }
            for (row, record) in found.rows.iter().filter_map(|row| Some((row, row.record.as_ref()?))) {
                let order = orders::order_of(self.server.code(), &row.key, record);
                let imports = matches!(order, Order::Import(_)) && storage.is_importing();
                if !imports && storage.try_send(order).is_err() {
                    return;
                }
            }
        }
    }

    /// Carries out what the replica ordered; jobs that are finished go to `finished`.
    #[allow(clippy::vec_box)]
    pub fn settle(&mut self, port: &mut Port, layout: &Layout, now: Now, finished: &mut Vec<Box<Job>>) {
        while let Some(output) = self.server.output() {
            self.carry_out(output, now, finished);
        }
        while let Some(event) = self.server.replication_event() {
            match event {
                replication::Event::CodeWanted { peer, .. } => self.code_for.push(peer),
                // Conflicts are kept by the tables and counted by the replicator; a replica that is behind is sent
                // the code; a joining one says that it is ready by its status.
                replication::Event::Conflict(_) | replication::Event::CodeBehind { .. } | replication::Event::Ready => {
                }
            }
        }
        for peer in std::mem::take(&mut self.code_for) {
            let message = Message::Code { from: self.replica, code: Arc::clone(self.server.code()) };
            // A full ring loses nothing: the next sweep finds the peer behind.
            drop(port.send(layout.replica_workers[usize::from(peer)], message));
        }
        while let Some((peer, message)) = self.server.drain_replication() {
            let worker = layout.replica_workers[usize::from(peer)];
            if let Err(Message::Replication { message, .. }) =
                port.send(worker, Message::Replication { from: self.replica, message })
            {
                self.server.undelivered(peer, &message);
            }
        }
    }

    #[allow(clippy::vec_box)]
    fn carry_out(&mut self, output: Output, now: Now, finished: &mut Vec<Box<Job>>) {
        match output {
            Output::Finished(job) => {
                self.accepted.remove(job.origin.worker);
                finished.push(job);
            }
            Output::Commit { token, updates, mode, deadline_ns } => {
                let reply = Arc::clone(&self.services.database_reply);
                let request = Request::Commit { token, updates, mode, deadline_ns, reply };
                if self.services.database.try_send(request, now.monotonic_ns).is_err() {
                    self.server.committed(token, Outcome::Failed("the database server's queue is full".into()), now);
                }
            }
            Output::VerifyPassword { token, hash, password, .. } => {
                let reply = Arc::clone(&self.services.password_reply);
                let known = (!hash.is_empty()).then_some(&*hash);
                if self.services.passwords.try_verify(token, known, &password, reply).is_err() {
                    self.server.password_refused(token);
                }
            }
            Output::RunAgent(run) => {
                let row = self.server.tables().get(AGENT_WORK, &run.work);
                let record = row.and_then(|row| row.record.as_ref());
                let text = |field: usize| record.and_then(|record| record.get(field).as_text()).unwrap_or("");
                let code = self.server.code();
                let order = orders::run_of(
                    code,
                    &run.work,
                    &run.agent,
                    text(agent_work::SUBJECT_KEY),
                    text(agent_work::REQUESTED_BY),
                );
                if let Some(order) = order {
                    // What finds no room is ordered again from its row.
                    drop(self.services.storage.try_send(Order::RunAgent(order)));
                }
            }
            Output::Fault(line) => eprintln!("replica {}: {line}", self.replica),
        }
    }

    pub fn status(&self) -> ReplicaStatus {
        ReplicaStatus::new(self.running, &self.server)
    }
}
