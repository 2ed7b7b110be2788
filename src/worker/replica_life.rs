//! The life of a replica server in its worker: stop, crash, being declared dead, and how it comes back.
//!
//! ```text
//!   stop:    Running ─▶ Stopping ─ all finished and heard by the others, or `timeouts.stop_ms` ─▶ Stopped
//!   start:   Stopped ─▶ join
//!   crash:   a panic outside a handler, or others declared it dead ─▶ its jobs are answered, its memory goes ─▶ join
//!   join:    another one runs ─▶ Joining: snapshot, missing changes, code ──────────────┐
//!            nobody runs, and no smaller number joins ─▶ Loading: what the database has ┴─▶ Running
//! ```
//! What it had written and not every other one held when it crashed is carried over to its next life.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use serde::Serialize;

use crate::database::contract::{Loaded, Request};
use crate::mesh::lives::{Life, Standing};
use crate::replica::job::{Job, Origin};
use crate::replica::server::{Now, ReplicaServer};
use crate::replication::{Replicator, Unapplied};
use crate::tables::code::CodeVersion;
use crate::tables::{Batch, DataTables, ServerId, TableId};

use super::replica_role::ReplicaRole;

/// How often a life that is changing is looked at.
const CHANGE_NS: u64 = 1_000_000;
/// After this long a question to another replica or to the database server is asked again.
const AGAIN_NS: u64 = 500_000_000;
/// Batches of the application server that are kept while the database's rows are loaded; with more the load begins
/// again.
const LOADING_BATCHES_MAX: usize = 4096;
/// Lives of one replica leave room for so many requests of each to other threads.
const TOKENS_PER_LIFE_BITS: u32 = 40;

/// What the replica does with its life at the moment.
#[derive(Debug)]
pub(super) enum Phase {
    Running,
    /// Finishes what it began, until a time; `again` says that it was started meanwhile.
    Stopping {
        until_ns: u64,
        again: bool,
    },
    Stopped,
    /// Waits for all rows of the database, because nobody can be copied from.
    Loading(Loading),
    /// Copies from another replica.
    Joining,
}

#[derive(Debug, Default)]
pub(super) struct Loading {
    asked_ns: u64,
    tables: Vec<Loaded>,
    failed: bool,
    /// What agents committed meanwhile.
    published: Vec<(Arc<Batch>, Unapplied)>,
}

/// Why a replica loses what it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Loss {
    /// The administrator stopped it, and something did not finish in time.
    Stopped,
    /// It panicked outside a handler.
    Crashed,
    /// The others declared it dead.
    Fenced,
}

/// Since the start of the worker, over all lives of its replica.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct LifeCounters {
    /// Jobs begun.
    pub jobs_taken: u64,
    /// Jobs finished by the replica server.
    pub jobs_answered: u64,
    /// Jobs that were begun and answered without it, because it had lost them.
    pub jobs_lost: u64,
    /// Commits whose answer came when the life that had ordered them was over.
    pub commits_forgotten: u64,
    pub stops: u64,
    pub crashes: u64,
    /// Times that it was declared dead.
    pub fenced: u64,
    /// Times that it came back and took jobs again, by a snapshot and from the database.
    pub rejoined: u64,
    pub reloaded: u64,
    /// Own updates carried over from a life that ended badly.
    pub carried_over: u64,
    /// Updates that were acknowledged with `local` or `all` and that nobody holds any more.
    pub local_lost: u64,
    /// Messages of the replication offered to rings, and given back by full ones.
    pub messages_handed: u64,
    pub messages_undelivered: u64,
    /// Messages for replicas that are not live any more, and those that a life left behind when it ended.
    pub messages_dropped: u64,
    /// Received; thrown away because they came from or were meant for an earlier life.
    pub messages_received: u64,
    pub messages_stale: u64,
}

impl ReplicaRole {
    /// Stops the replica: it takes no more jobs, finishes what it began, and then holds nothing any more.
    pub fn stop(&mut self, now: Now) {
        match &mut self.phase {
            Phase::Running => {
                if self.advance(self.standing.to(Life::Stopping)) {
                    let until_ns = now.monotonic_ns + self.rebirth.stop_ns;
                    self.phase = Phase::Stopping { until_ns, again: false };
                    self.counters.stops += 1;
                }
            }
            Phase::Stopping { again, .. } => *again = false,
            Phase::Stopped => {}
            Phase::Loading(_) | Phase::Joining => {
                self.counters.stops += 1;
                self.end_life(Loss::Stopped);
                self.rest();
            }
        }
    }

    /// Starts a stopped replica with this code, or a later one that the others have.
    pub fn start(&mut self, code: Arc<CodeVersion>, now: Now) {
        if code.version > self.code.version {
            self.code = code;
        }
        match &mut self.phase {
            Phase::Stopped => self.join(now),
            Phase::Stopping { again, .. } => *again = true,
            Phase::Running | Phase::Loading(_) | Phase::Joining => {}
        }
    }

    /// Whether others have declared this replica dead, and it has not drawn the consequences.
    pub fn is_fenced(&self) -> bool {
        self.vitals.lives.read(usize::from(self.replica)) != self.standing
    }

    /// Looks whether others have declared this replica dead; to be called after the answers of other threads were
    /// taken in, so that what the database has committed is known.
    pub fn check_fence(&mut self, now: Now) {
        let at = self.vitals.lives.read(usize::from(self.replica));
        if at != self.standing {
            self.standing = at;
            self.counters.fenced += 1;
            log::warn!(replica = self.replica; "the replica was declared dead after it hung, and joins again");
            self.lose(Loss::Fenced, now);
        }
    }

    /// The server panicked outside a handler: it is not to be trusted any more.
    pub(super) fn crash(&mut self, what: &str, now: Now) {
        self.counters.crashes += 1;
        log::error!(replica = self.replica, error = what; "the replica crashed, and joins again");
        self.lose(Loss::Crashed, now);
    }

    /// Takes in what the board says of the other replicas.
    pub fn observe_peers(&mut self, standing_of: impl Fn(ServerId) -> Standing, now: Now) {
        for peer in 0..self.rebirth.replication.replicas {
            if peer != self.replica {
                self.observe_peer(peer, standing_of(peer), now);
            }
        }
    }

    /// Rows of one table from the database server, or why there are none.
    pub fn on_loaded(&mut self, incarnation: u16, loaded: Result<Loaded, String>) {
        let Phase::Loading(loading) = &mut self.phase else { return };
        if incarnation != self.standing.incarnation {
            return;
        }
        match loaded {
            Ok(loaded) => loading.tables.push(loaded),
            Err(wrong) => {
                log::error!(replica = self.replica, error = wrong.as_str(); "the replica cannot load its rows, and tries again");
                loading.failed = true;
            }
        }
    }

    /// What agents committed.
    pub(super) fn on_published(&mut self, batch: Arc<Batch>, unapplied: Unapplied, now: Now) {
        if let Phase::Loading(loading) = &mut self.phase {
            loading.failed |= loading.published.len() >= LOADING_BATCHES_MAX;
            if !loading.failed {
                loading.published.push((batch, unapplied));
            }
            return;
        }
        self.with_server(now, |server| server.receive_published(batch, unapplied));
    }

    /// Goes on with a life that is changing; returns when to come again, if it is.
    pub(super) fn tick_life(&mut self, now: Now) -> Option<u64> {
        match &self.phase {
            Phase::Running | Phase::Stopped => return None,
            Phase::Stopping { until_ns, again } => {
                let (over, again) = (now.monotonic_ns >= *until_ns, *again);
                let busy = self.accepted.total() > 0 || self.server.as_ref().is_some_and(ReplicaServer::is_busy);
                if over || !busy {
                    self.end_life(Loss::Stopped);
                    self.rest();
                    if again {
                        self.join(now);
                    }
                }
            }
            Phase::Loading(loading) => self.go_on_loading(loading.asked_ns, now),
            Phase::Joining => {
                if self.server.as_ref().is_some_and(ReplicaServer::is_ready) {
                    self.run(now);
                } else if self.is_first_of_all_that_join() {
                    self.server = None;
                    self.load(now);
                }
            }
        }
        Some(now.monotonic_ns + CHANGE_NS)
    }

    /// Moves the own entry of the board; false if others have declared this life over.
    fn advance(&mut self, to: Standing) -> bool {
        let moved = self.vitals.lives.advance(usize::from(self.replica), self.standing, to).is_ok();
        if moved {
            self.standing = to;
        }
        moved
    }

    pub(super) fn observe_peer(&mut self, peer: ServerId, standing: Standing, now: Now) {
        let life = standing.life.is_live().then_some(standing.incarnation);
        let known = std::mem::replace(&mut self.peers[usize::from(peer)], life);
        if known == life {
            return;
        }
        self.with_server(now, |server| {
            if known.is_some() {
                server.peer_down(peer, now);
            }
            if life.is_some() {
                server.peer_up(peer);
            }
        });
    }

    fn lose(&mut self, loss: Loss, now: Now) {
        self.end_life(loss);
        self.join(now);
    }

    /// Answers the jobs that the replica has not finished, and drops all that it holds.
    fn end_life(&mut self, loss: Loss) {
        if let Some(server) = self.server.take() {
            self.bury(server, loss);
        }
        while let Some(origin) = self.accepted.pop() {
            self.counters.jobs_lost += 1;
            self.answers.push(last_answer(origin, self.replica, loss));
        }
    }

    /// Takes from a dead server what is of use. It may be broken: whatever it does now harms nobody.
    fn bury(&mut self, server: ReplicaServer, loss: Loss) {
        self.past.add(server.counters());
        self.counters.commits_forgotten += server.commits_waiting();
        let (made, waiting) = server.replicator().messages();
        self.past_messages += made;
        self.counters.messages_dropped += waiting;
        self.past_replication.add(&server.replicator().report().counters);
        let inherit = AssertUnwindSafe(|| match loss {
            Loss::Stopped => (Vec::new(), server.at_risk()),
            Loss::Crashed | Loss::Fenced => (server.replicator().unheard(), 0),
        });
        if let Ok((carried, lost)) = catch_unwind(inherit) {
            self.carried.extend(carried);
            self.counters.local_lost += lost;
        }
        // A destructor that panics, too, leaks what it held.
        drop(catch_unwind(AssertUnwindSafe(move || drop(server))));
    }

    fn rest(&mut self) {
        let at = self.vitals.lives.read(usize::from(self.replica));
        self.standing = at;
        self.advance(at.to(Life::Stopped));
        self.phase = Phase::Stopped;
        self.carried.clear();
    }

    /// Takes the code that was deployed last. Messages do not tell for certain: one may be left over from an earlier
    /// life, one may have found its ring full, and there may be nobody to send one.
    fn take_published_code(&mut self, now: Now) {
        let published = self.vitals.code().filter(|code| code.version > self.code.version);
        if let Some(code) = published {
            self.code = Arc::clone(&code);
            self.with_server(now, |server| server.set_code(code));
        }
    }

    /// Begins a new life.
    fn join(&mut self, now: Now) {
        self.take_published_code(now);
        // Others may declare the old life dead at the same moment; that is over anyhow.
        while !self.advance(self.standing.reborn()) {
            self.standing = self.vitals.lives.read(usize::from(self.replica));
        }
        let lives = Arc::clone(&self.vitals);
        self.observe_peers(|peer| lives.lives.read(usize::from(peer)), now);
        if self.is_first_of_all_that_join() {
            self.load(now);
        } else {
            let live: Vec<ServerId> = self.live_peers();
            let mut settings = self.rebirth.replication;
            settings.me = self.replica;
            let tables = DataTables::new(Arc::clone(&self.code.shapes));
            self.begin_life(tables, Replicator::joining(settings, &live));
            self.phase = Phase::Joining;
        }
    }

    /// Whether nobody can be copied from, and it is on this replica to ask the database.
    fn is_first_of_all_that_join(&self) -> bool {
        let joins = |peer: ServerId| self.vitals.lives.read(usize::from(peer)).life == Life::Joining;
        !self.somebody_runs() && !(0..self.replica).any(joins)
    }

    pub(super) fn somebody_runs(&self) -> bool {
        let runs = |peer: &ServerId| self.vitals.lives.read(usize::from(*peer)).life == Life::Running;
        (0..self.rebirth.replication.replicas).filter(|peer| *peer != self.replica).any(|peer| runs(&peer))
    }

    pub(super) fn live_peers(&self) -> Vec<ServerId> {
        let peers = (0..self.rebirth.replication.replicas).zip(&self.peers);
        peers.filter_map(|(peer, life)| life.map(|_| peer)).collect()
    }

    fn begin_life(&mut self, tables: DataTables, replicator: Replicator) {
        let server =
            ReplicaServer::new(self.replica, Arc::clone(&self.code), tables, replicator, self.rebirth.server.clone());
        self.server = Some(server.with_tokens_after(u64::from(self.standing.incarnation) << TOKENS_PER_LIFE_BITS));
    }

    fn load(&mut self, now: Now) {
        self.phase = Phase::Loading(Loading { asked_ns: now.monotonic_ns, ..Loading::default() });
        for table in self.shape_ids() {
            let (sink, incarnation) = (Arc::clone(&self.services.loaded), self.standing.incarnation);
            let reply = Box::new(move |loaded| sink(incarnation, loaded));
            if self.services.database.try_send(Request::Load { table, reply }, now.monotonic_ns).is_err()
                && let Phase::Loading(loading) = &mut self.phase
            {
                loading.failed = true;
            }
        }
    }

    fn shape_ids(&self) -> impl Iterator<Item = TableId> + use<> {
        (0..self.code.shapes.shapes.len()).filter_map(|index| u16::try_from(index).ok().map(TableId))
    }

    fn go_on_loading(&mut self, asked_ns: u64, now: Now) {
        let Phase::Loading(loading) = &mut self.phase else { return };
        if loading.failed {
            if now.monotonic_ns >= asked_ns.saturating_add(AGAIN_NS) {
                // As another life, so that the rest of the first answer is not taken for the second.
                self.join(now);
            }
            return;
        }
        if loading.tables.len() < self.code.shapes.shapes.len() {
            return;
        }
        let Loading { tables: loaded, published, .. } = std::mem::take(loading);
        if self.somebody_runs() {
            return self.join(now);
        }
        let mut tables = DataTables::new(Arc::clone(&self.code.shapes));
        for row in loaded.iter().flat_map(|loaded| &loaded.rows) {
            tables.apply(row);
        }
        let position = loaded.iter().map(|loaded| loaded.published).min().unwrap_or(0);
        let mut settings = self.rebirth.replication;
        settings.me = self.replica;
        let live = self.live_peers();
        self.begin_life(tables, Replicator::reloaded(settings, &live, position, now.monotonic_ns));
        self.with_server(now, |server| {
            published.into_iter().for_each(|(batch, unapplied)| server.receive_published(batch, unapplied));
        });
        self.counters.reloaded += 1;
        self.run(now);
    }

    /// Everything is here: takes jobs from now on.
    fn run(&mut self, now: Now) {
        self.take_published_code(now);
        let carried = std::mem::take(&mut self.carried);
        self.counters.carried_over += u64::try_from(carried.len()).unwrap_or(u64::MAX);
        let lost = self.with_server(now, |server| server.take_over(&carried));
        self.counters.local_lost += lost.unwrap_or(0);
        if self.server.is_some() && self.advance(self.standing.to(Life::Running)) {
            self.counters.rejoined += 1;
            self.phase = Phase::Running;
        }
    }
}

/// The answer to a job that went down with its replica.
fn last_answer(origin: Origin, replica: ServerId, loss: Loss) -> Box<Job> {
    let mut job = Box::new(Job { origin, ..Job::default() });
    let (status, text) = match loss {
        Loss::Crashed => {
            (500, "The server failed while it worked on this. Whether what you asked for was done is not known.")
        }
        Loss::Stopped | Loss::Fenced => {
            (504, "The server was taken out while it worked on this. Whether what you asked for was done is not known.")
        }
    };
    job.response.status = status;
    job.response.replica = replica;
    job.response.content_type = "text/plain; charset=utf-8";
    job.response.body.extend_from_slice(text.as_bytes());
    job
}
