//! A worker's turn, in five steps: reap completions, drain the mesh and the inbox, look at timers, run the machines,
//! and (at the beginning of the next turn) submit with the one system call that also waits.

use std::sync::Arc;

use crate::clock::{Clocks, SystemClocks};
use crate::engine::{Engine, Event};
use crate::limits;
use crate::mesh::inbox::Inbox;
use crate::replica::job::Job;
use crate::replica::server::Now;

use super::front_role::FrontRole;
use super::replica_role::ReplicaRole;
use super::status::WorkerStatus;
use super::{Control, Layout, Message, Port};

/// Rounds of jobs and answers in one turn: a pipelining browser gets its next turn, too.
const ROUNDS_MAX: usize = 16;
/// How long a worker sleeps at most, so that a sweep is never far.
const SLEEP_NS_MAX: u64 = 100_000_000;

/// One worker with its roles. Jobs stay in their boxes all the way: a box is what travels and is used again.
#[allow(clippy::vec_box)]
pub struct Worker<E: Engine> {
    pub index: usize,
    pub core: usize,
    pub engine: E,
    pub port: Port,
    pub inbox: Inbox<Control>,
    pub layout: Arc<Layout>,
    pub front: Option<FrontRole>,
    pub replica: Option<ReplicaRole>,
    events: Vec<Event>,
    finished: Vec<Box<Job>>,
    stopping: bool,
}

impl<E: Engine> Worker<E> {
    #[allow(clippy::too_many_arguments)]
    pub fn new(
        index: usize,
        core: usize,
        engine: E,
        port: Port,
        inbox: Inbox<Control>,
        layout: Arc<Layout>,
        front: Option<FrontRole>,
        replica: Option<ReplicaRole>,
    ) -> Self {
        Self {
            index,
            core,
            engine,
            port,
            inbox,
            layout,
            front,
            replica,
            events: Vec::new(),
            finished: Vec::new(),
            stopping: false,
        }
    }

    /// Turns until told to stop.
    ///
    /// # Errors
    /// What the engine could not recover from.
    pub fn run(mut self) -> std::io::Result<()> {
        let mut until_ns = 0;
        while !self.stopping {
            until_ns = self.turn(until_ns, &SystemClocks)?;
        }
        Ok(())
    }

    /// One turn, which waits until `until_ns` at most if nothing is to be done; returns that of the next one. Both are
    /// the engine's monotonic nanoseconds, and 0 does not wait.
    ///
    /// # Errors
    /// What the engine could not recover from.
    pub fn turn<C: Clocks>(&mut self, until_ns: u64, clocks: &C) -> std::io::Result<u64> {
        self.reap(until_ns)?;
        let now = Now { monotonic_ns: self.engine.now_ns(), unix_ms: clocks.unix_ms() };
        if let Some(front) = &mut self.front {
            front.server.set_unix_ms(now.unix_ms);
            front.observe_depths();
        }
        self.on_events();
        self.drain_mesh(now);
        self.drain_inbox(now, clocks);
        let next_ns = self.timers(now, clocks);
        let idle = self.settle(now);
        if let Some(front) = &mut self.front {
            front.settle_notes(clocks);
            front.hand_over(&mut self.engine, &mut self.port, &self.layout);
            front.publish_load();
        }
        if let Some(role) = &self.replica {
            role.publish_depth();
        }
        self.port.flush();
        Ok(if idle { next_ns } else { 0 })
    }

    /// Whether [`Control::Stop`] has come: there is no further turn.
    pub fn is_stopping(&self) -> bool {
        self.stopping
    }

    /// Submits, waits (unless work is known to be there) and reaps.
    fn reap(&mut self, until_ns: u64) -> std::io::Result<()> {
        let mut until_ns = until_ns;
        if until_ns > 0 && !(self.port.prepare_sleep() && self.inbox.is_empty()) {
            until_ns = 0;
        }
        let outcome = self.engine.turn(until_ns, &mut self.events);
        self.port.awake();
        outcome
    }

    fn on_events(&mut self) {
        let Some(front) = &mut self.front else {
            self.events.clear();
            return;
        };
        for event in self.events.drain(..) {
            front.on_event(&mut self.engine, &mut self.port, &self.layout, event);
        }
    }

    fn drain_mesh(&mut self, now: Now) {
        let Self { port, engine, front, replica, finished, layout, .. } = self;
        let mut unclaimed = Vec::new();
        port.receive(limits::MESH_BATCH_MAX, |_, message| match message {
            Message::Job { replica: number, job } => {
                let back = match replica {
                    Some(role) if role.replica == number => role.execute(job, now),
                    Some(_) | None => Some(job),
                };
                if let Some(job) = back {
                    unclaimed.push((number, job));
                }
            }
            Message::Reply(job) => {
                if let Some(front) = front {
                    front.server.on_reply(engine, job);
                }
            }
            Message::Unclaimed { replica, job } => {
                if let Some(front) = front {
                    front.server.on_unclaimed(engine, replica, job);
                }
            }
            Message::Connection(socket) => {
                if let Some(front) = front {
                    front.adopt(engine, socket, true);
                }
            }
            Message::Replication { from, message } => {
                if let Some(role) = replica {
                    role.on_replication(from, message, now);
                }
            }
            Message::Code { from, code } => {
                if let Some(role) = replica {
                    role.on_code(code, Some(from), layout);
                }
            }
        });
        for (replica, mut job) in unclaimed {
            let to = usize::from(job.origin.worker);
            job.response.clear();
            if let Err(Message::Unclaimed { job, .. }) = port.send(to, Message::Unclaimed { replica, job }) {
                finished.push(refused(job, replica));
            }
        }
    }

    fn drain_inbox<C: Clocks>(&mut self, now: Now, clocks: &C) {
        let mut controls = Vec::new();
        self.inbox.receive(limits::MESH_BATCH_MAX, |control| controls.push(control));
        for control in controls {
            self.on_control(control, now, clocks);
        }
    }

    fn on_control<C: Clocks>(&mut self, control: Control, now: Now, clocks: &C) {
        match control {
            Control::Stop => self.stopping = true,
            Control::StopListening => self.engine.stop_listening(),
            Control::Status(sender) => {
                // The asker may have given up; its loss is no concern of ours.
                let _ = sender.try_send(self.status(clocks));
            }
            Control::Rejects(sender) => {
                if let Some(front) = &self.front {
                    let _ = sender.try_send(front.rejects());
                }
            }
            Control::Site(site) => {
                if let Some(front) = &mut self.front {
                    front.server.publish(site);
                }
            }
            Control::Drain { on } => {
                if let Some(front) = &mut self.front {
                    front.drain(&mut self.engine, on);
                }
            }
            Control::Available { replica, available } => {
                if let Some(front) = &mut self.front {
                    front.server.dispatcher_mut().set_available(replica, available);
                }
            }
            Control::Replica { running } => {
                if let Some(role) = &mut self.replica {
                    role.set_running(running);
                }
            }
            Control::Deploy(code) => {
                if let Some(role) = &mut self.replica {
                    role.on_code(code, None, &self.layout);
                }
            }
            Control::Database(_) | Control::Password { .. } | Control::Published { .. } => {
                if let Some(role) = &mut self.replica {
                    role.on_control(control, now);
                }
            }
        }
    }

    /// Looks at deadlines; returns when to come again, in monotonic nanoseconds.
    fn timers<C: Clocks>(&mut self, now: Now, clocks: &C) -> u64 {
        let mut next = now.monotonic_ns + SLEEP_NS_MAX;
        if let Some(front) = &mut self.front {
            next = next.min(front.tick(&mut self.engine, clocks));
        }
        if let Some(role) = &mut self.replica {
            next = next.min(role.tick(now));
        }
        next
    }

    /// Runs the machines until nothing moves: jobs from the front to replicas, answers back. False if rounds ran out.
    fn settle(&mut self, now: Now) -> bool {
        for _ in 0..ROUNDS_MAX {
            self.send_jobs(now);
            if let Some(role) = &mut self.replica {
                role.settle(&mut self.port, &self.layout, now, &mut self.finished);
            }
            if self.finished.is_empty() {
                if let Some(front) = &mut self.front {
                    front.server.pump(&mut self.engine);
                    if !front.server.has_outbox() {
                        return true;
                    }
                } else {
                    return true;
                }
            }
            self.send_replies();
        }
        false
    }

    fn send_jobs(&mut self, now: Now) {
        let Self { front: Some(front), replica, port, layout, engine, index, .. } = self else { return };
        let mut outbox = std::mem::take(front.server.outbox_mut());
        for (number, job) in outbox.drain(..) {
            let worker = layout.replica_workers[usize::from(number)];
            if worker == *index {
                let back = match replica {
                    Some(role) => role.execute(job, now),
                    None => Some(job),
                };
                if let Some(job) = back {
                    front.server.on_unclaimed(engine, number, job);
                }
            } else if let Err(Message::Job { job, .. }) = port.send(worker, Message::Job { replica: number, job }) {
                front.server.on_undelivered(engine, number, job);
            }
        }
        front.server.return_outbox(outbox);
    }

    fn send_replies(&mut self) {
        let mut finished = std::mem::take(&mut self.finished);
        for job in finished.drain(..) {
            let to = usize::from(job.origin.worker);
            if to == self.index {
                if let Some(front) = &mut self.front {
                    front.server.on_reply(&mut self.engine, job);
                }
            } else if let Err(Message::Reply(job)) = self.port.send(to, Message::Reply(job)) {
                // The ring to that front is full: the answer waits for the next turn.
                self.finished.push(job);
            }
        }
        if self.finished.is_empty() {
            self.finished = finished;
        }
    }

    fn status<C: Clocks>(&self, clocks: &C) -> WorkerStatus {
        WorkerStatus {
            worker: self.index,
            core: self.core,
            cpu_ns: clocks.cpu_ns(),
            engine: self.engine.statistics(),
            mesh: self.port.counters().into(),
            front: self.front.as_ref().map(|front| front.status(self.engine.now_ns())),
            replica: self.replica.as_ref().map(ReplicaRole::status),
        }
    }
}

fn refused(mut job: Box<Job>, replica: u8) -> Box<Job> {
    job.response.status = 503;
    job.response.replica = replica;
    job.response.retry_after_s = 1;
    job.response.content_type = "text/plain; charset=utf-8";
    job.response.body.extend_from_slice(b"the replica is stopped");
    job
}
