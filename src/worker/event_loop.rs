//! A worker's turn, in five steps: reap completions, drain the mesh and the inbox, look at timers, run the machines,
//! and (at the beginning of the next turn) submit with the one system call that also waits.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::{Clocks, SystemClocks};
use crate::engine::{Engine, Event};
use crate::limits;
use crate::mesh::beats::{Beat, SLEEP_NS_MAX};
use crate::mesh::inbox::Inbox;
use crate::replica::job::Job;
use crate::replica::server::Now;

use super::front_role::FrontRole;
use super::replica_role::ReplicaRole;
use super::status::WorkerStatus;
use super::watch::Watch;
use super::{Control, Layout, Message, Port};

/// Rounds of jobs and answers in one turn: a pipelining browser gets its next turn, too.
const ROUNDS_MAX: usize = 16;

/// One worker with its roles. Jobs stay in their boxes all the way: a box is what travels and is used again.
#[allow(clippy::vec_box)]
pub struct Worker<E: Engine> {
    pub index: usize,
    pub core: usize,
    pub engine: E,
    pub port: Port,
    pub inbox: Inbox<Control>,
    pub layout: Arc<Layout>,
    pub watch: Watch,
    pub front: Option<FrontRole>,
    pub replica: Option<ReplicaRole>,
    events: Vec<Event>,
    finished: Vec<Box<Job>>,
    /// Jobs that the replica did not take and whose ring back was full.
    unclaimed: Vec<Box<Job>>,
    /// Empty slips that their fronts have to be told of: worker and flight.
    withdrawn: Vec<(usize, u32)>,
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
        watch: Watch,
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
            watch,
            front,
            replica,
            events: Vec::new(),
            finished: Vec::new(),
            unclaimed: Vec::new(),
            withdrawn: Vec::new(),
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
        self.beat(false);
        self.observe(now);
        self.on_events();
        self.send_back();
        self.drain_mesh(now);
        self.drain_inbox(now, clocks);
        if self.replica.as_ref().is_some_and(ReplicaRole::is_fenced) {
            // Its next life is not to be judged by the beat that the last one missed.
            let beat = Beat { at_ns: clocks.monotonic_ns(), asleep: false };
            self.watch.vitals().beats.publish(self.index, beat);
        }
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

    /// Announces that this worker is about to wait until `until_ns`; gives back until when it may, which is 0 if there
    /// is something to do. A turn does this first; whoever lets much time pass between two turns does it before.
    pub fn fall_asleep(&mut self, until_ns: u64) -> u64 {
        if until_ns == 0 || !(self.port.prepare_sleep() && self.inbox.is_empty()) {
            return 0;
        }
        self.beat(true);
        until_ns
    }

    /// Submits, waits (unless work is known to be there) and reaps.
    fn reap(&mut self, until_ns: u64) -> std::io::Result<()> {
        let until_ns = self.fall_asleep(until_ns);
        let outcome = self.engine.turn(until_ns, &mut self.events);
        self.port.awake();
        outcome
    }

    /// Tells the others that this worker lives: its turn begins, or it goes to sleep.
    fn beat(&self, asleep: bool) {
        self.watch.vitals().beats.publish(self.index, Beat { at_ns: self.engine.now_ns(), asleep });
    }

    /// Takes in how the others fare: which replicas may be given jobs, and what is out at those that hang.
    fn observe(&mut self, now: Now) {
        if !self.watch.look(now.monotonic_ns) {
            return;
        }
        let Self { watch, front, replica, engine, .. } = self;
        if let Some(front) = front {
            front.observe_replicas(engine, watch);
        }
        if let Some(role) = replica {
            role.observe_peers(|peer| watch.standing(peer), now);
        }
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
        let Self { port, engine, front, replica, unclaimed, withdrawn, layout, watch, .. } = self;
        port.receive(limits::MESH_BATCH_MAX, |from, message| match message {
            Message::Job { replica: number, slip } => {
                let Some(job) = slip.take() else { return withdrawn.push((from, slip.number())) };
                let back = match replica {
                    Some(role) if role.replica == number => role.execute(job, now),
                    Some(_) | None => Some(job),
                };
                unclaimed.extend(back);
            }
            Message::Reply(job) => {
                if let Some(front) = front {
                    front.server.on_reply(engine, job);
                }
            }
            Message::Unclaimed(job) => {
                if let Some(front) = front {
                    // The replica changed its standing before it gave the job back.
                    if watch.look(now.monotonic_ns) {
                        front.observe_replicas(engine, watch);
                        if let Some(role) = replica {
                            role.observe_peers(|peer| watch.standing(peer), now);
                        }
                    }
                    front.server.on_unclaimed(engine, job);
                }
            }
            Message::Withdrawn(flight) => {
                if let Some(front) = front {
                    front.server.on_withdrawn(engine, flight);
                }
            }
            Message::Connection(socket) => {
                if let Some(front) = front {
                    front.adopt(engine, socket, true);
                }
            }
            Message::Replication { from, incarnation, to, message } => {
                if let Some(role) = replica {
                    role.on_replication((from, incarnation), to, message, now);
                }
            }
            Message::Code { from, code } => {
                if let Some(role) = replica {
                    role.on_code(code, Some(from), layout, now);
                }
            }
        });
        self.send_back();
    }

    /// Tells fronts on other workers of jobs that were not begun here.
    fn send_back(&mut self) {
        for job in std::mem::take(&mut self.unclaimed) {
            let to = usize::from(job.origin.worker);
            if let Err(Message::Unclaimed(job)) = self.port.send(to, Message::Unclaimed(job)) {
                // The ring to that front is full: it is told in the next turn.
                self.unclaimed.push(job);
            }
        }
        let port = &mut self.port;
        self.withdrawn.retain(|(to, flight)| port.send(*to, Message::Withdrawn(*flight)).is_err());
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
            Control::Hang { ms } => std::thread::sleep(Duration::from_millis(ms)),
            Control::Deploy(code) => {
                if let Some(role) = &mut self.replica {
                    role.on_code(code, None, &self.layout, now);
                }
            }
            Control::Database(_)
            | Control::Password { .. }
            | Control::Published { .. }
            | Control::Loaded { .. }
            | Control::StopReplica
            | Control::StartReplica(_)
            | Control::Drill(_) => {
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
            // Whoever waits for another worker keeps an eye on it.
            if front.server.flights().count() > 0 {
                next = next.min(self.watch.next_look_ns());
            }
        }
        if !self.unclaimed.is_empty() || !self.withdrawn.is_empty() {
            next = now.monotonic_ns;
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
        let Self { front: Some(front), replica, port, layout, engine, index, watch, .. } = self else { return };
        let mut outbox = std::mem::take(front.server.outbox_mut());
        for (number, job) in outbox.drain(..) {
            let worker = layout.replica_workers[usize::from(number)];
            if worker == *index {
                let back = match replica {
                    Some(role) => role.execute(job, now),
                    None => Some(job),
                };
                if let Some(job) = back {
                    if watch.look(engine.now_ns()) {
                        front.observe_replicas(engine, watch);
                    }
                    front.server.on_unclaimed(engine, job);
                }
                continue;
            }
            let slip = Arc::clone(front.server.flights().slip(job.origin.flight));
            slip.put(job);
            if let Err(Message::Job { slip, .. }) = port.send(worker, Message::Job { replica: number, slip })
                && let Some(job) = slip.take()
            {
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
            watch: self.watch.counters,
            front: self.front.as_ref().map(|front| front.status(self.engine.now_ns())),
            replica: self.replica.as_ref().map(ReplicaRole::status),
        }
    }
}
