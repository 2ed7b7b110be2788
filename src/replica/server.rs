//! The replica server: executes jobs on its full copy of code and data, and orders what they need.
//!
//! ```text
//!   execute ─▶ handler ─▶ Finished ──────────────────────────────────────────────▶ answer
//!                 ▲  │
//!                 │  ├─▶ Write, durable ─▶ row busy? wait ─▶ Commit ─▶ committed ─▶ apply, replicate
//!                 │  │                       │                 │                        └─▶ every live replica holds it ─▶ answer
//!                 │  │                       │                 └─▶ conflict: apply the newer rows ─┐
//!                 │  │                       │                                                     │
//!                 └──┼───────────────────────┴─────────────────────────────────────────────────────┘ again
//!                    ├─▶ Write, all ─▶ apply, replicate, Commit ─▶ every live replica holds it ─▶ answer
//!                    ├─▶ Write, local ─▶ apply, replicate, Commit ─▶ answer
//!                    └─▶ Verify ─▶ password checked ─▶ answer
//! ```
//! A durable write changes nothing here before the database has committed it: the database compares revisions, so two
//! replicas cannot both win. The other levels apply first and let the greater stamp win.

use std::collections::{HashSet, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use crate::database::contract::{CommitMode, Outcome};
use crate::replication::{self, Message, Replicator, Unapplied};
use crate::tables::code::{Acknowledge, CodeVersion};
use crate::tables::stamp::HybridClock;
use crate::tables::{Batch, DataTables, ServerId, Update};

pub use super::contract::{Counters, Now, Output, Settings, Status, TableStatus};
use super::handlers::{self, After, Scene, Step, Verify, Write};
use super::job::Job;
use super::parked::{Left, Parked, ParkedJobs, RowKey, Stage};
use super::unconfirmed::{self, Unconfirmed};

/// Turns without what agents committed for each one with some of it, by time: an import has a quarter of a worker.
const PUBLISHED_REST: u64 = 3;
/// What such a turn counts at most, should the thread have been kept from running in it.
const PUBLISHED_TURN_NS_MAX: u64 = 20_000_000;

/// One server of the second cluster.
#[derive(Debug)]
pub struct ReplicaServer {
    id: ServerId,
    settings: Settings,
    code: Arc<CodeVersion>,
    tables: DataTables,
    replicator: Replicator,
    clock: HybridClock,
    parked: ParkedJobs,
    /// What the application server's agents committed and is not applied yet, oldest first.
    published: VecDeque<(Arc<Batch>, Unapplied)>,
    /// When a batch of it was applied whose turn has not ended, and when the next one may be.
    published_at_ns: Option<u64>,
    published_next_ns: u64,
    /// Tokens of commits that the database server has not answered.
    committing: HashSet<u64>,
    /// Why the last commit failed, as it was told.
    commit_fault: Option<(&'static str, String)>,
    unconfirmed: Unconfirmed,
    /// The next handler panics: a drill.
    panic_next: bool,
    outputs: VecDeque<Output>,
    counters: Counters,
}

impl ReplicaServer {
    /// A replica with its tables loaded and its replicator ready or joining.
    pub fn new(
        id: ServerId,
        code: Arc<CodeVersion>,
        mut tables: DataTables,
        mut replicator: Replicator,
        settings: Settings,
    ) -> Self {
        tables.set_shapes(code.shapes.clone());
        replicator.set_code_version(code.version);
        let slot = settings.place.map(|place| place.slot);
        Self {
            id,
            settings,
            code,
            tables,
            replicator,
            clock: slot.map_or_else(HybridClock::default, HybridClock::of_slot),
            parked: ParkedJobs::default(),
            published: VecDeque::new(),
            published_at_ns: None,
            published_next_ns: 0,
            committing: HashSet::new(),
            commit_fault: None,
            unconfirmed: Unconfirmed::default(),
            panic_next: false,
            outputs: VecDeque::new(),
            counters: Counters::default(),
        }
    }

    /// Numbers its requests to other threads from here on: answers to those of an earlier life are not taken for its own.
    pub fn with_tokens_after(mut self, token: u64) -> Self {
        self.parked.number_after(token);
        self
    }

    /// Executes a job. It comes back as [`Output::Finished`], now or later.
    pub fn execute(&mut self, mut job: Box<Job>, now: Now) {
        self.counters.executed += 1;
        job.started_ns = now.monotonic_ns;
        if job.deadline_ns > 0 && now.monotonic_ns >= job.deadline_ns {
            return self.expire(job);
        }
        let code = self.code.clone();
        self.perform(job, code, 0, now);
    }

    /// The database's reply to [`Output::Commit`].
    pub fn committed(&mut self, token: u64, outcome: Outcome, now: Now) {
        match &outcome {
            Outcome::Failed(_) | Outcome::Unknown(_) => {
                self.counters.updates_given_up += self.unconfirmed.refuse(token, now.monotonic_ns);
            }
            Outcome::Committed { .. } | Outcome::Conflict { .. } | Outcome::Row(_) | Outcome::Number(_) => {
                self.unconfirmed.end(token);
            }
        }
        if self.committing.remove(&token) {
            self.count_commit(&outcome);
        }
        let Some(parked) = self.parked.take(token) else {
            // A merged commit, whose job was not made to wait for it.
            return;
        };
        let Parked { job, code, stage, conflicts } = parked;
        let Stage::Committing { updates, after } = stage else {
            // The reply to the merged commit of a job that waits for the replicas.
            return self.parked.park(token, Parked { job, code, stage, conflicts });
        };
        let waiting = self.parked.end(&updates);
        match outcome {
            Outcome::Committed { .. } => {
                // The answer waits until every live replica has it: a browser reads its own write wherever its next
                // request is dispatched, and a revoked role is revoked everywhere (design decision 6).
                let position = self.apply(&updates);
                self.run_agent(&after);
                if job.is_some() {
                    // It was parked a moment ago, so there is room for it.
                    let token = self.parked.token();
                    self.parked.park(token, Parked { job, code, stage: Stage::Replicating { after }, conflicts });
                    self.parked.await_replicas(position, token);
                    self.answer_replicated(now);
                }
            }
            Outcome::Conflict { current } => {
                for update in &current {
                    self.clock.see(update.stamp.time);
                    self.tables.apply(update);
                }
                match job {
                    Some(mut job) if conflicts >= self.settings.conflicts_max => {
                        self.counters.conflicts_lost += 1;
                        let reason = "Others changed this at the same time. Look at it again, then repeat.";
                        handlers::refuse_plainly(&mut job, 409, reason);
                        self.finish(job);
                    }
                    Some(job) => {
                        self.counters.conflicts_retried += 1;
                        self.perform(job, code, conflicts + 1, now);
                    }
                    None => {}
                }
            }
            Outcome::Failed(_) | Outcome::Row(_) | Outcome::Number(_) => {
                if let Some(mut job) = job {
                    handlers::refuse_plainly(&mut job, 503, REFUSED);
                    self.finish(job);
                }
            }
            Outcome::Unknown(_) => {
                if let Some(mut job) = job {
                    handlers::refuse_plainly(&mut job, 504, UNKNOWN);
                    self.finish(job);
                }
            }
        }
        self.resume(waiting, now);
    }

    /// The password thread's answer to [`Output::VerifyPassword`].
    pub fn password_verified(&mut self, token: u64, right: bool, now: Now) {
        let Some(Parked { job, code, stage, conflicts }) = self.parked.take(token) else { return };
        let Stage::Verifying { user, known } = stage else {
            return self.parked.park(token, Parked { job, code, stage, conflicts });
        };
        let Some(mut job) = job else { return };
        let fault = {
            let scene = self.scene(&code, now);
            guarded(&mut job, |job| handlers::verified(scene, &user, right && known, job))
        };
        self.note(fault);
        self.finish(job);
    }

    /// The password thread's queue is full: the job is answered 503.
    pub fn password_refused(&mut self, token: u64) {
        if let Some(Parked { job: Some(mut job), .. }) = self.parked.take(token) {
            handlers::refuse_plainly(&mut job, 503, "Too many people sign in at the moment. Try again.");
            self.finish(job);
        }
    }

    /// A message from another replica.
    pub fn receive_replication(&mut self, from: ServerId, message: Message, now: Now) {
        self.replicator.receive(from, message, &mut self.tables);
        self.answer_replicated(now);
    }

    /// Updates that the application server's agents committed. They are applied with the next turns, a few in each.
    pub fn receive_published(&mut self, batch: Arc<Batch>, unapplied: Unapplied) {
        self.published.push_back((batch, unapplied));
    }

    /// Applies a batch and then rests for [`PUBLISHED_REST`] times as long as the turn with it took.
    fn apply_published(&mut self, now_ns: u64) {
        if let Some(began_ns) = self.published_at_ns.take() {
            let turn_ns = now_ns.saturating_sub(began_ns).min(PUBLISHED_TURN_NS_MAX);
            self.published_next_ns = now_ns.saturating_add(turn_ns.saturating_mul(PUBLISHED_REST));
        }
        if now_ns >= self.published_next_ns
            && let Some((batch, unapplied)) = self.published.pop_front()
        {
            self.replicator.receive_external(&batch, &mut self.tables);
            drop(unapplied);
            self.published_at_ns = (!self.published.is_empty()).then_some(now_ns);
        }
        self.replicator.set_external_waits(!self.published.is_empty());
    }

    /// Ends a turn: sends what changed to the other replicas, and answers jobs whose time is over.
    pub fn tick(&mut self, now: Now) {
        self.apply_published(now.monotonic_ns);
        self.replicator.tick(now.monotonic_ns, &mut self.tables);
        self.answer_replicated(now);
        while let Some(commit) = self.unconfirmed.again(now.monotonic_ns) {
            self.counters.commits_repeated += 1;
            let token = self.parked.token();
            self.order_merged(token, commit);
        }
        while let Some((job, left)) = self.parked.expired(now.monotonic_ns) {
            match left {
                Left::Nothing => self.expire(job),
                Left::Committing => self.leave(job, UNKNOWN),
                Left::Written => self.leave(job, WRITTEN),
            }
        }
    }

    /// When [`Self::tick`] has something to do although nothing came in, in monotonic nanoseconds.
    pub fn next_tick_ns(&self) -> u64 {
        if self.published_at_ns.is_some() {
            return 0;
        }
        let published = (!self.published.is_empty()).then_some(self.published_next_ns);
        let others = [self.parked.next_deadline_ns(), self.unconfirmed.next_ns(), published];
        others.into_iter().flatten().fold(self.replicator.next_tick_ns(), u64::min)
    }

    /// What the worker is to do next.
    pub fn output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// The next message for another replica.
    pub fn drain_replication(&mut self) -> Option<(ServerId, Message)> {
        self.replicator.outgoing()
    }

    /// The ring to a peer was full: the message comes back.
    pub fn undelivered(&mut self, peer: ServerId, message: &Message) {
        self.replicator.undelivered(peer, message);
    }

    pub fn replication_event(&mut self) -> Option<replication::Event> {
        self.replicator.event()
    }

    pub fn peer_up(&mut self, peer: ServerId) {
        self.replicator.peer_up(peer);
    }

    pub fn peer_down(&mut self, peer: ServerId, now: Now) {
        self.replicator.peer_down(peer);
        self.answer_replicated(now);
    }

    /// Takes a new code version for the jobs that come from now on; an older one is refused.
    pub fn set_code(&mut self, code: Arc<CodeVersion>) -> bool {
        if code.version < self.code.version {
            return false;
        }
        self.tables.set_shapes(code.shapes.clone());
        self.replicator.set_code_version(code.version);
        self.code = code;
        true
    }

    pub fn id(&self) -> ServerId {
        self.id
    }

    pub fn code(&self) -> &Arc<CodeVersion> {
        &self.code
    }

    pub fn tables(&self) -> &DataTables {
        &self.tables
    }

    #[cfg(test)]
    pub(super) fn tables_mut(&mut self) -> &mut DataTables {
        &mut self.tables
    }

    pub fn replicator(&self) -> &Replicator {
        &self.replicator
    }

    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Jobs that wait.
    pub fn parked_count(&self) -> usize {
        self.parked.count()
    }

    /// Whether anything that it began is not finished: a job, a commit, an update that a live replica does not hold.
    pub fn is_busy(&self) -> bool {
        self.parked.count() > 0 || !self.committing.is_empty() || !self.replicator.is_heard()
    }

    /// Commits that the database server has not answered.
    pub fn commits_waiting(&self) -> u64 {
        u64::try_from(self.committing.len()).unwrap_or(u64::MAX)
    }

    /// Updates acknowledged before the database had committed them, and not committed yet.
    pub fn unconfirmed(&self) -> u64 {
        self.unconfirmed.updates()
    }

    /// Those of them that no other replica holds: what is lost if this one ends now and its commits fail.
    pub fn at_risk(&self) -> u64 {
        self.unconfirmed.beyond(self.replicator.held_by_another())
    }

    /// Updates of an earlier life of this replica that not every other one held when it ended: makes them known. Those
    /// whose row has been deleted since are left out; returns how many.
    pub fn take_over(&mut self, updates: &[Update]) -> u64 {
        let mut left_out = 0;
        for update in updates {
            let known = self.tables.get_any(update.table, &update.key).is_some();
            // A purged stub of this or a greater sequence may have been that row's.
            if known || update.stamp.sequence > self.tables.purged_sequence(update.table) {
                self.replicator.local_update(update.clone(), &mut self.tables);
            } else {
                left_out += 1;
            }
        }
        left_out
    }

    /// A drill: the handler of the next job panics.
    pub fn panic_next(&mut self) {
        self.panic_next = true;
    }

    /// Commits ordered, less answered, less on their way: 0, or one got lost.
    pub fn books(&self) -> i64 {
        let counters = &self.counters;
        let answered =
            counters.committed + counters.commits_conflicted + counters.commits_failed + counters.commits_unknown;
        let signed = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        let waiting = i64::try_from(self.committing.len()).unwrap_or(i64::MAX);
        signed(counters.commits_ordered) - signed(answered) - waiting
    }

    /// May take traffic: it holds all data.
    pub fn is_ready(&self) -> bool {
        self.replicator.is_ready()
    }

    pub fn status(&self) -> Status {
        let shapes =
            self.code.shapes.shapes.iter().filter_map(|shape| Some((shape, self.code.shapes.id(&shape.table)?)));
        let tables = shapes.map(|(shape, id)| TableStatus {
            table: shape.table.clone(),
            application: shape.application.clone(),
            rows: self.tables.live_count(id),
            stubs: self.tables.stub_count(id),
            losers: self.tables.loser_count(id),
            digest: self.tables.digest(id),
        });
        Status {
            id: self.id,
            code_version: self.code.version,
            code_digest: self.code.digest,
            tables: tables.collect(),
            parked: self.parked.count(),
            unconfirmed: self.unconfirmed.updates(),
            rows_writing: self.parked.rows_writing(),
            commits_waiting: self.committing.len(),
            books: self.books(),
            counters: self.counters,
            replication: self.replicator.report(),
        }
    }

    fn scene<'a>(&'a self, code: &'a CodeVersion, now: Now) -> Scene<'a> {
        Scene {
            code,
            tables: &self.tables,
            replica: self.id,
            unix_ms: now.unix_ms,
            fresh: 0,
            decoy_hash: &self.settings.decoy_hash,
            appliance: self.settings.place.map(|place| place.appliance),
        }
    }

    /// Runs the handler and does what it asks for.
    fn perform(&mut self, mut job: Box<Job>, code: Arc<CodeVersion>, conflicts: u32, now: Now) {
        self.clock.see(self.replicator.time_seen());
        let fresh = self.clock.tick(now.unix_ms);
        job.response.clear();
        let mut step = Step::Finished;
        let drill = std::mem::take(&mut self.panic_next);
        let fault = {
            let scene = Scene { fresh, ..self.scene(&code, now) };
            guarded(&mut job, |job| {
                assert!(!drill, "a drill that the administrator ordered");
                let (next, fault) = handlers::handle(scene, job);
                step = next;
                fault
            })
        };
        let failed = fault.is_some();
        self.note(fault);
        match step {
            Step::Write(write) if !failed => self.write(job, code, write, conflicts, now),
            Step::Verify(verify) if !failed => self.verify(job, code, verify),
            Step::Finished | Step::Write(_) | Step::Verify(_) => self.finish(job),
        }
    }

    fn write(&mut self, job: Box<Job>, code: Arc<CodeVersion>, write: Write, conflicts: u32, now: Now) {
        let Write { edits, acknowledge, after } = write;
        if let Some(row) = self.parked.busy(edits.iter().map(|edit| (edit.table, &*edit.key))) {
            let parked = Parked { job: Some(job), code, stage: Stage::Waiting, conflicts };
            if let Some(token) = self.park(parked) {
                self.counters.waited += 1;
                self.parked.wait_for(row, token);
            }
            return;
        }
        let mut updates = Vec::with_capacity(edits.len());
        for edit in edits {
            let time = self.clock.tick(now.unix_ms);
            updates.push(self.tables.edit(edit.table, &edit.key, edit.record, self.id, time));
        }
        let after = Box::new(after);
        let shared = self.settings.place.is_some();
        match if shared { Acknowledge::Durable } else { acknowledge } {
            Acknowledge::Durable => {
                let stage = Stage::Committing { updates: updates.clone(), after };
                let deadline_ns = job.deadline_ns;
                let Some(token) = self.park(Parked { job: Some(job), code, stage, conflicts }) else { return };
                self.parked.begin(&updates);
                self.order_commit(token, updates, CommitMode::Arbitrated, deadline_ns);
            }
            Acknowledge::All => {
                let stage = Stage::Replicating { after };
                let Some(token) = self.park(Parked { job: Some(job), code, stage, conflicts }) else { return };
                let position = self.apply(&updates);
                self.parked.await_replicas(position, token);
                self.order_merged(token, unconfirmed::Commit { position, updates });
            }
            Acknowledge::Local => {
                let position = self.apply(&updates);
                let token = self.parked.token();
                self.order_merged(token, unconfirmed::Commit { position, updates });
                self.answer_written(job, &code, &after, now);
            }
        }
    }

    /// Of updates whose answer does not wait for the database.
    fn order_merged(&mut self, token: u64, commit: unconfirmed::Commit) {
        let updates = commit.updates.clone();
        self.unconfirmed.begin(token, commit);
        self.order_commit(token, updates, CommitMode::Merged, 0);
    }

    fn order_commit(&mut self, token: u64, updates: Vec<Update>, mode: CommitMode, deadline_ns: u64) {
        self.counters.commits_ordered += 1;
        self.committing.insert(token);
        self.outputs.push_back(Output::Commit { token, updates, mode, deadline_ns });
    }

    /// Applies own updates and numbers them for the others; the number of the last one.
    fn apply(&mut self, updates: &[Update]) -> u64 {
        let mut position = 0;
        for update in updates {
            position = self.replicator.local_update(update.clone(), &mut self.tables).0;
        }
        position
    }

    fn verify(&mut self, job: Box<Job>, code: Arc<CodeVersion>, verify: Verify) {
        let Verify { user, hash, password, known } = verify;
        let stage = Stage::Verifying { user: user.clone(), known };
        if let Some(token) = self.park(Parked { job: Some(job), code, stage, conflicts: 0 }) {
            self.outputs.push_back(Output::VerifyPassword { token, user, hash, password });
        }
    }

    /// Parks a job, or answers 503 if too many are parked.
    fn park(&mut self, parked: Parked) -> Option<u64> {
        if self.parked.count() >= self.settings.parked_max {
            self.counters.shed += 1;
            if let Some(mut job) = parked.job {
                handlers::refuse_plainly(&mut job, 503, "Too much is waiting here. Try again.");
                self.finish(job);
            }
            return None;
        }
        self.counters.parked += 1;
        let token = self.parked.token();
        self.parked.park(token, parked);
        Some(token)
    }

    /// Executes jobs that waited for rows, in order, until one writes its row again.
    fn resume(&mut self, mut waiting: VecDeque<(RowKey, VecDeque<u64>)>, now: Now) {
        while let Some((row, queue)) = waiting.pop_front() {
            let Some((row, mut queue)) = self.parked.requeue(row, queue) else { continue };
            let Some(token) = queue.pop_front() else { continue };
            // A job that was answered meanwhile has left its token behind.
            if let Some(Parked { job: Some(job), code, conflicts, .. }) = self.parked.take(token) {
                self.perform(job, code, conflicts, now);
            }
            waiting.push_front((row, queue));
        }
    }

    fn answer_written(&mut self, mut job: Box<Job>, code: &CodeVersion, after: &After, now: Now) {
        let fault = {
            let scene = self.scene(code, now);
            guarded(&mut job, |job| handlers::written(scene, after, job))
        };
        self.note(fault);
        self.finish(job);
    }

    fn answer_replicated(&mut self, now: Now) {
        while let Some((_, parked)) = self.parked.replicated(self.replicator.acknowledged()) {
            let (Stage::Replicating { after }, Some(job)) = (parked.stage, parked.job) else { continue };
            self.answer_written(job, &parked.code, &after, now);
        }
    }

    fn run_agent(&mut self, after: &After) {
        if let Some(run) = &after.agent {
            self.outputs.push_back(Output::RunAgent(run.clone()));
        }
    }

    fn expire(&mut self, mut job: Box<Job>) {
        self.counters.expired += 1;
        handlers::refuse_plainly(&mut job, 503, "This took too long. Try again.");
        self.finish(job);
    }

    /// The job's time is over and its write goes on: the answer must not say that nothing was done.
    fn leave(&mut self, mut job: Box<Job>, reason: &str) {
        self.counters.expired += 1;
        handlers::refuse_plainly(&mut job, 504, reason);
        self.finish(job);
    }

    fn count_commit(&mut self, outcome: &Outcome) {
        let (counter, fault) = match outcome {
            Outcome::Committed { .. } => (&mut self.counters.committed, None),
            Outcome::Conflict { .. } => (&mut self.counters.commits_conflicted, None),
            Outcome::Failed(reason) => (&mut self.counters.commits_failed, Some(("a commit failed", reason))),
            Outcome::Unknown(reason) => (&mut self.counters.commits_unknown, Some(("a commit ended unknown", reason))),
            Outcome::Row(_) | Outcome::Number(_) => (&mut self.counters.commits_failed, None),
        };
        *counter += 1;
        let fault = fault.map(|(message, reason)| (message, reason.clone()));
        // A full disk fails every commit in the same way: told once, until one succeeds.
        if let Some((message, error)) = fault.clone().filter(|_| self.commit_fault != fault) {
            self.outputs.push_back(Output::Fault { message, error });
        }
        if fault.is_some() || matches!(outcome, Outcome::Committed { .. }) {
            self.commit_fault = fault;
        }
    }

    fn note(&mut self, fault: Option<Failure>) {
        let (message, error) = match fault {
            None => return,
            Some(Failure::Code(text)) => {
                self.counters.faults += 1;
                ("a code table failed, the answer is 500", text)
            }
            Some(Failure::Panic(text)) => {
                self.counters.panicked += 1;
                ("a handler panicked, the answer is 500", text)
            }
        };
        self.outputs.push_back(Output::Fault { message, error });
    }

    fn finish(&mut self, mut job: Box<Job>) {
        self.counters.finished += 1;
        job.response.replica = self.id;
        if job.response.code_version == 0 {
            job.response.code_version = self.code.version;
        }
        self.outputs.push_back(Output::Finished(job));
    }
}

const REFUSED: &str = "The database cannot take this now: nothing was written. Try again.";
const UNKNOWN: &str =
    "The database has not answered. It is not known whether this was written: look at it before you send it again.";
const WRITTEN: &str =
    "This is written, but not every server shows it yet. Do not send it again; look at it in a moment.";

/// Why a handler's answer is a 500.
enum Failure {
    /// A template or expression failed.
    Code(String),
    Panic(String),
}

/// Runs a handler; a panic in it answers 500 and harms no other job, since handlers only read what others share.
fn guarded(job: &mut Box<Job>, handler: impl FnOnce(&mut Job) -> Option<String>) -> Option<Failure> {
    match catch_unwind(AssertUnwindSafe(|| handler(job))) {
        Ok(fault) => fault.map(Failure::Code),
        Err(payload) => {
            let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
            let text = text.or_else(|| payload.downcast_ref::<String>().cloned()).unwrap_or_default();
            job.response.clear();
            handlers::refuse_plainly(job, 500, "The application failed.");
            Some(Failure::Panic(text))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Failure, guarded};
    use crate::replica::job::Job;

    #[test]
    fn a_panic_is_answered_500() {
        let mut job = Box::new(Job::default());
        let failure = guarded(&mut job, |job| {
            job.response.body.extend_from_slice(b"half a page");
            panic!("index out of bounds")
        });
        assert!(matches!(failure, Some(Failure::Panic(text)) if text.ends_with("index out of bounds")));
        assert_eq!(job.response.status, 500);
        assert!(!job.response.body.starts_with(b"half"));
    }
}
