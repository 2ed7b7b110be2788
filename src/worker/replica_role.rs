//! The replica server of a worker: carries its orders to the database server, the passwords thread, the storage unit
//! and the other replicas, and their answers back to it.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use crate::database;
use crate::database::contract::{Loaded, Outcome, ReplySink, Request};
use crate::mesh::depth::DepthBoard;
use crate::mesh::lives::Standing;
use crate::replica;
use crate::replica::job::Job;
use crate::replica::server::{Now, Output, ReplicaServer};
use crate::replication;
use crate::storage::agents::WorkState;
use crate::storage::orders;
use crate::storage::passwords::{Passwords, VerdictSink};
use crate::storage::unit::{self, Order};
use crate::tables::code::{AGENT_WORK, CodeVersion, agent_work};
use crate::tables::{ServerId, Update, Value};

use super::accepted::Accepted;
use super::replica_life::{LifeCounters, Phase};
use super::status::ReplicaStatus;
use super::watch::Vitals;
use super::{Control, Drill, Layout, Message, Port};

/// Brings a table's rows back to the worker that asked for them in this incarnation of its replica.
pub type LoadedSink = Arc<dyn Fn(u16, Result<Loaded, String>) + Send + Sync>;

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
    /// Brings the rows of the database back to this worker.
    pub loaded: LoadedSink,
}

/// What every life of a replica begins with.
#[derive(Clone, Debug)]
pub struct Rebirth {
    pub server: replica::server::Settings,
    pub replication: replication::Settings,
    /// How long a replica that is stopped may take to finish what it began.
    pub stop_ns: u64,
}

/// Boards on which a replica publishes how it fares.
pub struct ReplicaBoards {
    /// Work, by replica number.
    pub depths: Arc<DepthBoard>,
    pub vitals: Arc<Vitals>,
}

/// A replica server in a worker.
pub struct ReplicaRole {
    pub replica: ServerId,
    /// None while the replica is stopped, or waits for the database's rows.
    pub server: Option<ReplicaServer>,
    pub(super) services: Services,
    pub(super) rebirth: Rebirth,
    /// The latest code that this worker has seen: what the next life begins with.
    pub(super) code: Arc<CodeVersion>,
    pub(super) phase: Phase,
    /// What the board says of this replica, as far as it knows.
    pub(super) standing: Standing,
    pub(super) vitals: Arc<Vitals>,
    /// The incarnations of the other replicas that count, by replica number.
    pub(super) peers: Vec<Option<u16>>,
    pub(super) accepted: Accepted,
    /// Answers to jobs that were lost.
    #[allow(clippy::vec_box)]
    pub(super) answers: Vec<Box<Job>>,
    /// Updates of an earlier life that not every other replica held.
    pub(super) carried: Vec<Update>,
    pub(super) counters: LifeCounters,
    /// Counters of earlier lives.
    pub(super) past: replica::contract::Counters,
    pub(super) past_replication: replication::Counters,
    /// Messages that replicators of earlier lives made.
    pub(super) past_messages: u64,
    /// Where the depth of every replica is published, by replica number.
    depths: Arc<DepthBoard>,
    /// When to look for agents' work that was left behind, and whether the last look found some. What the last look
    /// saw has reached every replica by the next one.
    next_look_ns: u64,
    saw_left_behind: bool,
    /// Messages to other replicas that are no replication state: new code versions.
    code_for: Vec<ServerId>,
    /// What shall happen to the next jobs.
    drills: VecDeque<Drill>,
}

impl ReplicaRole {
    /// A replica that starts together with all others.
    pub fn new(
        replica: ServerId,
        server: ReplicaServer,
        services: Services,
        accepted: Accepted,
        boards: ReplicaBoards,
        rebirth: Rebirth,
    ) -> Self {
        let ReplicaBoards { depths, vitals } = boards;
        let standing = vitals.lives.read(usize::from(replica));
        let peers = (0..vitals.lives.replicas()).map(|peer| {
            let standing = vitals.lives.read(peer);
            (peer != usize::from(replica) && standing.life.is_live()).then_some(standing.incarnation)
        });
        Self {
            replica,
            code: Arc::clone(server.code()),
            server: Some(server),
            services,
            rebirth,
            phase: Phase::Running,
            standing,
            peers: peers.collect(),
            vitals,
            accepted,
            answers: Vec::new(),
            carried: Vec::new(),
            counters: LifeCounters::default(),
            past: replica::contract::Counters::default(),
            past_replication: replication::Counters::default(),
            past_messages: 0,
            depths,
            next_look_ns: 0,
            saw_left_behind: false,
            code_for: Vec::new(),
            drills: VecDeque::new(),
        }
    }

    /// Ends a turn: tells the dispatchers how much work is here.
    pub fn publish_depth(&self) {
        self.depths.publish(usize::from(self.replica), self.accepted.total());
    }

    /// Executes a job; gives it back when the replica takes none.
    pub fn execute(&mut self, mut job: Box<Job>, now: Now) -> Option<Box<Job>> {
        let runs = matches!(self.phase, Phase::Running) && self.server.is_some();
        // Whoever was declared dead begins nothing, though it may not have had time to find out.
        if !runs || self.vitals.lives.read(usize::from(self.replica)) != self.standing {
            return Some(job);
        }
        self.accepted.add(job.origin);
        self.counters.jobs_taken += 1;
        job.response.replica = self.replica;
        let drill = self.drills.pop_front();
        self.with_server(now, |server| {
            match drill {
                None => {}
                Some(Drill::Hang { ms }) => std::thread::sleep(Duration::from_millis(ms)),
                Some(Drill::Panic) => server.panic_next(),
                Some(Drill::Crash) => panic!("a drill that the administrator ordered"),
            }
            server.execute(job, now);
        });
        None
    }

    /// Something shall go wrong with the next job.
    pub fn drill(&mut self, drill: Drill) {
        self.drills.push_back(drill);
    }

    /// A message from another replica: `from` and its incarnation, and the incarnation of this one that it is for.
    pub fn on_replication(&mut self, from: (ServerId, u16), to: u16, message: replication::Message, now: Now) {
        let (from, incarnation) = from;
        if self.peers.get(usize::from(from)).is_none_or(|known| *known != Some(incarnation)) {
            // It may have begun a new life since the board was looked at.
            let standing = self.vitals.lives.read(usize::from(from));
            self.observe_peer(from, standing, now);
        }
        self.counters.messages_received += 1;
        if to != self.standing.incarnation || self.peers[usize::from(from)] != Some(incarnation) {
            self.counters.messages_stale += 1;
            return;
        }
        self.with_server(now, |server| server.receive_replication(from, message, now));
    }

    /// A code version, from the admin thread (`from` is none) or from another replica. It goes on to the others from
    /// the replica that was given it first; one that misses it is told by the next sweep.
    pub fn on_code(&mut self, code: Arc<CodeVersion>, from: Option<ServerId>, layout: &Layout, now: Now) {
        if code.version < self.code.version {
            return;
        }
        self.code = Arc::clone(&code);
        self.with_server(now, |server| server.set_code(code));
        if from.is_none() {
            let peers = 0..layout.replica_workers.len();
            self.code_for
                .extend(peers.filter_map(|peer| ServerId::try_from(peer).ok()).filter(|peer| *peer != self.replica));
        }
    }

    /// An answer from another thread; what is not for a replica is ignored.
    pub fn on_control(&mut self, control: Control, now: Now) {
        match control {
            Control::Database(reply) => {
                self.with_server(now, |server| server.committed(reply.token, reply.outcome, now));
            }
            Control::Password { token, right } => {
                self.with_server(now, |server| server.password_verified(token, right, now));
            }
            Control::Published { batch, unapplied } => self.on_published(batch, unapplied, now),
            Control::Loaded { incarnation, loaded } => self.on_loaded(incarnation, loaded),
            Control::StopReplica => self.stop(now),
            Control::StartReplica(code) => self.start(code, now),
            Control::Drill(drill) => self.drill(drill),
            Control::Deploy(_)
            | Control::Site(_)
            | Control::Status(_)
            | Control::Rejects(_)
            | Control::Hang { .. }
            | Control::Drain { .. }
            | Control::StopListening
            | Control::Stop => {}
        }
    }

    /// Lets the server do something, if there is one. If it panics it has crashed, and the replica joins again.
    pub(super) fn with_server<R>(&mut self, now: Now, act: impl FnOnce(&mut ReplicaServer) -> R) -> Option<R> {
        let server = self.server.as_mut()?;
        match catch_unwind(AssertUnwindSafe(|| act(server))) {
            Ok(result) => Some(result),
            Err(payload) => {
                let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
                let text = text.or_else(|| payload.downcast_ref::<String>().cloned()).unwrap_or_default();
                self.crash(&text, now);
                None
            }
        }
    }

    /// Deadlines and the periodic sweep; returns when to come again.
    pub fn tick(&mut self, now: Now) -> u64 {
        self.check_fence(now);
        let life_ns = self.tick_life(now);
        let server_ns = self.with_server(now, |server| {
            server.tick(now);
            server.next_tick_ns()
        });
        if now.monotonic_ns >= self.next_look_ns {
            self.next_look_ns = now.monotonic_ns.saturating_add(LEFT_BEHIND_LOOK_NS);
            self.look_for_left_behind();
        }
        life_ns.unwrap_or(u64::MAX).min(server_ns.unwrap_or(u64::MAX))
    }

    /// Orders agents' work again that is unfinished in its table and that the storage unit has lost sight of: its
    /// queue was full, or the database could not record the end.
    fn look_for_left_behind(&mut self) {
        let storage = &self.services.storage;
        let saw = std::mem::replace(&mut self.saw_left_behind, storage.has_left_behind());
        let Some(server) = self.server.as_ref().filter(|_| matches!(self.phase, Phase::Running)) else { return };
        if !(saw && self.saw_left_behind && storage.take_left_behind()) {
            return;
        }
        self.saw_left_behind = false;
        let place = self.rebirth.server.place;
        let owner = place.map(|place| Value::Integer(place.appliance.cast_signed()));
        for state in [WorkState::Queued, WorkState::Running, WorkState::Waiting] {
            let state = Value::text(state.as_str());
            let found = server.tables().by_index(AGENT_WORK, agent_work::STATE, &state, 0, LEFT_BEHIND_MAX);
            if found.total > found.rows.len() {
                storage.leave_behind();
            }
            for (row, record) in found.rows.iter().filter_map(|row| Some((row, row.record.as_ref()?))) {
                // What another appliance has taken on is its own; if it dies, its work is taken over in the database.
                if owner.as_ref().is_some_and(|owner| record.get(agent_work::APPLIANCE) != owner) {
                    continue;
                }
                let order = orders::order_of(server.code(), &row.key, record);
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
        while let Some(output) = self.server.as_mut().and_then(ReplicaServer::output) {
            self.carry_out(output, now, finished);
        }
        while let Some(event) = self.server.as_mut().and_then(ReplicaServer::replication_event) {
            match event {
                replication::Event::CodeWanted { peer, .. } => self.code_for.push(peer),
                // Conflicts are kept by the tables and counted by the replicator; a replica that is behind is sent
                // the code; whether a joining one is ready is looked at each turn.
                replication::Event::Conflict(_) | replication::Event::CodeBehind { .. } | replication::Event::Ready => {
                }
            }
        }
        finished.append(&mut self.answers);
        for peer in std::mem::take(&mut self.code_for) {
            let message = Message::Code { from: self.replica, code: Arc::clone(&self.code) };
            // A full ring loses nothing: the next sweep finds the peer behind.
            drop(port.send(layout.replica_workers[usize::from(peer)], message));
        }
        while let Some((peer, message)) = self.server.as_mut().and_then(ReplicaServer::drain_replication) {
            if let Some(message) = self.send(port, layout, peer, message) {
                self.with_server(now, |server| server.undelivered(peer, &message));
            }
        }
    }

    /// Hands a message to the ring of another replica; gives it back if that is full.
    fn send(
        &mut self,
        port: &mut Port,
        layout: &Layout,
        peer: ServerId,
        message: replication::Message,
    ) -> Option<replication::Message> {
        let Some(to) = self.peers.get(usize::from(peer)).copied().flatten() else {
            // One that has no life to speak of hears nothing.
            self.counters.messages_dropped += 1;
            return None;
        };
        self.counters.messages_handed += 1;
        let worker = layout.replica_workers[usize::from(peer)];
        let message = Message::Replication { from: self.replica, incarnation: self.standing.incarnation, to, message };
        match port.send(worker, message) {
            Err(Message::Replication { message, .. }) => {
                self.counters.messages_undelivered += 1;
                Some(message)
            }
            Ok(()) | Err(_) => None,
        }
    }

    #[allow(clippy::vec_box)]
    fn carry_out(&mut self, output: Output, now: Now, finished: &mut Vec<Box<Job>>) {
        match output {
            Output::Finished(job) => {
                self.accepted.remove(job.origin);
                self.counters.jobs_answered += 1;
                finished.push(job);
            }
            Output::Commit { token, updates, mode, deadline_ns } => {
                let reply = Arc::clone(&self.services.database_reply);
                let request = Request::Commit { token, updates, mode, deadline_ns, reply };
                if self.services.database.try_send(request, now.monotonic_ns).is_err() {
                    let full = Outcome::Failed("the database server's queue is full".into());
                    self.with_server(now, |server| server.committed(token, full, now));
                }
            }
            Output::VerifyPassword { token, hash, password, .. } => {
                let reply = Arc::clone(&self.services.password_reply);
                let known = (!hash.is_empty()).then_some(&*hash);
                if self.services.passwords.try_verify(token, known, &password, reply).is_err() {
                    self.with_server(now, |server| server.password_refused(token));
                }
            }
            Output::RunAgent(run) => {
                let Some(server) = &self.server else { return };
                let row = server.tables().get(AGENT_WORK, &run.work);
                let record = row.and_then(|row| row.record.as_ref());
                let text = |field: usize| record.and_then(|record| record.get(field).as_text()).unwrap_or("");
                let code = server.code();
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
            Output::Fault { message, error } => {
                log::error!(replica = self.replica, error = error.as_str(); "{message}");
            }
        }
    }

    pub fn status(&self) -> ReplicaStatus {
        ReplicaStatus::new(self)
    }

    /// Jobs begun, less those answered, less those in progress: 0, or the accounting is wrong.
    pub fn books(&self) -> i64 {
        let LifeCounters { jobs_taken, jobs_answered, jobs_lost, .. } = self.counters;
        let ended = jobs_answered + jobs_lost + u64::from(self.accepted.total());
        jobs_taken.cast_signed() - ended.cast_signed()
    }

    /// Commits ordered, less those answered, those that nobody waits for any more and those on their way: 0, or one got
    /// lost.
    pub fn write_books(&self) -> i64 {
        let (counters, _) = self.totals();
        let answered =
            counters.committed + counters.commits_conflicted + counters.commits_failed + counters.commits_unknown;
        let waiting = self.server.as_ref().map_or(0, ReplicaServer::commits_waiting);
        let accounted = answered + self.counters.commits_forgotten + waiting;
        counters.commits_ordered.cast_signed() - accounted.cast_signed()
    }

    /// Messages made for other replicas, less those offered to rings and dropped, less those that wait: 0, or one got
    /// lost. What was offered is received, given back or in a ring.
    pub fn message_books(&self) -> i64 {
        let (made, waiting) = self.server.as_ref().map_or((0, 0), |server| server.replicator().messages());
        let accounted = self.counters.messages_handed + self.counters.messages_dropped + waiting;
        (self.past_messages + made).cast_signed() - accounted.cast_signed()
    }

    /// What all lives together have counted.
    pub(super) fn totals(&self) -> (replica::contract::Counters, replication::Counters) {
        let (mut server, mut replication) = (self.past, self.past_replication);
        if let Some(live) = &self.server {
            server.add(live.counters());
            replication.add(&live.replicator().report().counters);
        }
        (server, replication)
    }
}
