//! One seed: a world with everything in it, one actor after another, and what must hold after each of them.
//!
//! ```text
//!   who has something to do now? ──none──▶ time jumps to the next one who has
//!        │ one of them, by lot
//!        ▼
//!   worker · ring · database · agents · browser · back-end · admin ──▶ checks
//! ```

use std::sync::Arc;

use crate::database::health::State;
use crate::database::memory::{Disk, Mischief};
use crate::engine::Address;
use crate::engine::sim::{Faults, Random, World};
use crate::tables::ServerId;
use crate::worker::{Control, Drill, Layout};

use super::admin::Admin;
use super::application;
use super::backend::Backend;
use super::browser::Browser;
use super::checks;
use super::ledger::Ledger;
use super::plan::{Combination, Fault, Trouble, troubles};
use super::process::{self, ADDRESS, Process, SWEEP_MS, Shape, Wall};
use super::trace::Trace;

const MS: u64 = 1_000_000;
/// Steps that the end of a seed may take at most.
const END_STEPS_MAX: u64 = 60_000;
/// How long the process is gone after a kill.
const DOWN_NS_MAX: u64 = 20 * MS;

/// What a seed did and found.
#[derive(Debug)]
pub struct Outcome {
    pub seed: u64,
    pub combination: Combination,
    /// What was violated first.
    pub violation: Option<String>,
    pub steps: u64,
    pub virtual_ns: u64,
    pub ledger: Ledger,
    pub deploys: u64,
    pub effects: u64,
    pub trace: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Actor {
    Worker(usize),
    Relay(usize),
    Database,
    Agents,
    Browser(usize),
    Backend,
    Admin,
    Restart,
}

/// What is wrong at the moment.
#[derive(Debug, Default)]
struct Wrong {
    paused: Vec<bool>,
    slow: Vec<bool>,
    /// By the number of the relay.
    stalled: Vec<bool>,
    rings_slow: bool,
    database_down: bool,
    database_slow: bool,
    stopped: Option<ServerId>,
    client_gone: bool,
}

/// Everything of one seed.
pub struct Stage {
    random: Random,
    world: World,
    wall: Wall,
    shape: Shape,
    address: Address,
    process: Option<Process>,
    /// What a killed process left, and when it starts again.
    left: Option<(Arc<Disk>, u64)>,
    lives: u64,
    browsers: Vec<Browser>,
    backend: Backend,
    admin: Admin,
    ledger: Ledger,
    combination: Combination,
    troubles: Vec<Trouble>,
    wrong: Wrong,
    /// When the messages that wait in a relay go on; by relay.
    relays_ns: Vec<Option<u64>>,
    database_ns: Option<u64>,
    next_deploy: u64,
    steps: u64,
    pub trace: Trace,
    due: Vec<(Actor, u64)>,
}

fn shape(seed: u64, combination: Combination, random: &mut Random) -> Shape {
    let separate = random.chance(300);
    let count = if separate { 4 } else { 2 + random.size(3) };
    let layout = if separate {
        Layout { replica_workers: vec![2, 3], front_workers: vec![0, 1] }
    } else {
        Layout { replica_workers: (0..count).collect(), front_workers: (0..count).collect() }
    };
    let full = combination.has(Fault::RingFull);
    Shape {
        layout,
        workers: count,
        ring_slots: if full { [1, 2, 4][random.size(3)] } else { 64 },
        database_queue_max: [8, 64, 512][random.size(3)],
        connections_max: 32,
        credit: [1, 2, 4][random.size(3)],
        queue_max: [2, 64][random.size(2)],
        log_updates_max: [8, 64, 4096][random.size(3)],
        seed,
    }
}

/// Whether commits may end without a replica that hears of it.
fn doubts(combination: Combination) -> bool {
    use Fault::{DatabaseDown, Pause, ReplicaCrash, ReplicaStop, Slow};
    [DatabaseDown, Pause, ReplicaCrash, ReplicaStop, Slow].into_iter().any(|fault| combination.has(fault))
}

fn faults(random: &mut Random) -> Faults {
    Faults {
        latency_ns_max: [20_000, 200_000][random.size(2)],
        late: [0, 100][random.size(2)],
        cut: [0, 100][random.size(2)],
        reset: if random.chance(150) { 1 } else { 0 },
        exhaust: [0, 20][random.size(2)],
        ..Faults::default()
    }
}

impl Stage {
    /// A seed's cluster, just started.
    pub fn new(seed: u64, steps: u64, traced: bool) -> Result<Self, String> {
        let mut random = Random(seed);
        let combination = Combination::of(seed);
        let troubles = troubles(combination, steps, &mut random);
        let shape = shape(seed, combination, &mut random);
        let world = World::new(random.next(), faults(&mut random));
        world.enter();
        // Nobody sleeps in an engine: time is this stage's.
        world.set_alarm(0);
        let wall = Wall::new(&world);
        let count = 3 + random.size(3);
        let pace_ns = [2 * MS, 20 * MS, 80 * MS][random.size(3)];
        let disk = process::new_disk(&shape, count);
        let process = Process::start(&shape, &world, &wall, disk, 0)?;
        let key = process::session_key();
        let users = (0..count).map(application::user).chain([application::CHIEF.to_owned()]);
        let browsers =
            users.enumerate().map(|(number, user)| Browser::new(number, user, &key, pace_ns, world.now_ns()));
        let wrong = Wrong {
            paused: vec![false; shape.workers],
            slow: vec![false; shape.workers],
            stalled: vec![false; process.relays.len()],
            ..Wrong::default()
        };
        Ok(Self {
            browsers: browsers.collect(),
            backend: Backend::new(&world),
            address: ADDRESS.parse()?,
            relays_ns: vec![None; process.relays.len()],
            process: Some(process),
            left: None,
            lives: 0,
            admin: Admin::new(),
            ledger: Ledger { deployed: 1, begun: 1, doubts: doubts(combination), ..Ledger::default() },
            combination,
            troubles,
            wrong,
            database_ns: None,
            next_deploy: steps / 8,
            steps: 0,
            trace: Trace::new(traced),
            due: Vec::new(),
            random,
            world,
            wall,
            shape,
        })
    }

    /// Plays the seed: so many steps with troubles, then the end, and what must hold then.
    pub fn play(&mut self, steps: u64) -> Result<(), String> {
        self.trace.line(|| format!("seed {}: {}; {:?}", self.shape.seed, self.combination, self.shape));
        while self.steps < steps {
            self.trouble()?;
            if self.steps >= self.next_deploy {
                self.next_deploy += steps / 20 + self.random.below(steps / 20 + 1);
                if let Some(process) = &self.process {
                    self.admin.begin_deploy(process, &mut self.ledger, self.world.now_ns(), &mut self.trace);
                }
            }
            self.step()?;
        }
        self.heal()?;
        self.finish()?;
        self.recover()
    }

    pub fn outcome(self, violation: Option<String>) -> Outcome {
        Outcome {
            seed: self.shape.seed,
            combination: self.combination,
            violation,
            steps: self.steps,
            virtual_ns: self.world.now_ns(),
            deploys: self.admin.deploys,
            effects: self.backend.effects.len() as u64,
            ledger: self.ledger,
            trace: self.trace.lines,
        }
    }

    /// Begins and ends troubles.
    fn trouble(&mut self) -> Result<(), String> {
        for index in 0..self.troubles.len() {
            let trouble = self.troubles[index];
            if trouble.begins == self.steps {
                self.trace.line(|| format!("trouble: {} begins", trouble.fault));
                self.begin(trouble)?;
            }
            if trouble.ends == self.steps {
                self.trace.line(|| format!("trouble: {} ends", trouble.fault));
                self.end(trouble.fault)?;
            }
        }
        Ok(())
    }

    fn begin(&mut self, trouble: Trouble) -> Result<(), String> {
        let mut lots = Random(trouble.lot);
        match trouble.fault {
            Fault::Kill => self.kill(),
            Fault::ReplicaStop => {
                let replica = ServerId::try_from(lots.size(self.shape.replicas())).unwrap_or(0);
                self.wrong.stopped = Some(replica);
                if let Some(process) = &self.process {
                    process.order(replica, Control::StopReplica);
                }
            }
            Fault::ReplicaCrash => {
                let replica = ServerId::try_from(lots.size(self.shape.replicas())).unwrap_or(0);
                self.ledger.crashes += 1;
                if let Some(process) = &self.process {
                    process.order(replica, Control::Drill(Drill::Crash));
                }
            }
            Fault::Pause => {
                let worker = lots.size(self.shape.workers);
                self.wrong.paused[worker] = true;
                // It stands still while it sleeps, or in the middle of a turn.
                if let Some(process) = self.process.as_ref().filter(|_| lots.chance(600)) {
                    process.workers[worker].stand_still(self.world.now_ns());
                }
            }
            Fault::Slow => self.wrong.slow[lots.size(self.shape.workers)] = true,
            Fault::RingFull => self.wrong.rings_slow = true,
            Fault::RingStalled => {
                let count = 1 + lots.size(3);
                for _ in 0..count {
                    let relay = lots.size(self.wrong.stalled.len());
                    self.wrong.stalled[relay] = true;
                }
            }
            Fault::ClockForward => self.wall.step(i64::try_from(lots.below(600_000)).unwrap_or(0)),
            Fault::ClockBack => self.wall.step(-i64::try_from(lots.below(600_000)).unwrap_or(0)),
            Fault::DatabaseDown => match lots.below(3) {
                0 => self.wrong.database_down = true,
                1 => self.disk_is(State::Down),
                _ => {
                    let kept = lots.chance(500);
                    self.disk_is(State::Locked);
                    if let Some(process) = &self.process {
                        process.disk().order(Mischief::LoseTrack { kept, sentence: "the line broke".to_owned() });
                    }
                }
            },
            Fault::DatabaseSlow => self.wrong.database_slow = true,
            Fault::DatabaseFull => self.disk_is(State::Full),
            Fault::AgentCrash => {
                if let Some(process) = &mut self.process {
                    process.agents.crash_next();
                }
            }
            Fault::DeployKill => {
                if let Some(process) = &self.process {
                    self.admin.begin_deploy(process, &mut self.ledger, self.world.now_ns(), &mut self.trace);
                }
            }
            Fault::ClientGone => self.wrong.client_gone = true,
        }
        Ok(())
    }

    fn end(&mut self, fault: Fault) -> Result<(), String> {
        match fault {
            Fault::Kill | Fault::ReplicaCrash | Fault::ClockForward | Fault::ClockBack | Fault::AgentCrash => {}
            Fault::ReplicaStop => {
                if let (Some(replica), Some(process)) = (self.wrong.stopped.take(), &self.process) {
                    process.order(replica, Control::StartReplica(Arc::clone(&process.code)));
                }
            }
            Fault::Pause => self.wrong.paused.fill(false),
            Fault::Slow => self.wrong.slow.fill(false),
            Fault::RingFull => self.wrong.rings_slow = false,
            Fault::RingStalled => self.wrong.stalled.fill(false),
            Fault::DatabaseDown => {
                self.wrong.database_down = false;
                self.disk_is(State::Up);
            }
            Fault::DatabaseSlow => self.wrong.database_slow = false,
            Fault::DatabaseFull => self.disk_is(State::Up),
            Fault::DeployKill => self.kill(),
            Fault::ClientGone => self.wrong.client_gone = false,
        }
        Ok(())
    }

    fn disk_is(&mut self, state: State) {
        let left = self.left.as_ref().map(|(disk, _)| &**disk);
        if let Some(disk) = self.process.as_ref().map(Process::disk).or(left) {
            disk.set_state(state);
        }
    }

    fn kill(&mut self) {
        let Some(process) = self.process.take() else { return };
        self.trace.line(|| "the process is killed".to_owned());
        let again_ns = self.world.now_ns() + self.random.below(DOWN_NS_MAX);
        let disk = process.kill(&self.world);
        if disk.state() != State::Full {
            disk.set_state(State::Up);
        }
        self.left = Some((disk, again_ns));
        self.ledger.killed();
        self.admin.forget();
        self.relays_ns.fill(None);
        self.database_ns = None;
        // A new process has all its replicas, and a disk that has been cleared.
        self.wrong.stopped = None;
    }

    fn start(&mut self) -> Result<(), String> {
        let Some((disk, _)) = self.left.take() else { return Ok(()) };
        match disk.state() {
            State::Up | State::Slow | State::Full => {}
            // The program refuses to start, and whoever watches over it tries again.
            State::Down | State::Locked => {
                self.trace.line(|| "the process does not start: its database is out of reach".to_owned());
                let again_ns = self.world.now_ns() + 1 + self.random.below(DOWN_NS_MAX);
                self.left = Some((disk, again_ns));
                return Ok(());
            }
        }
        self.lives += 1;
        let process = Process::start(&self.shape, &self.world, &self.wall, disk, self.lives)?;
        let version = process.code.version;
        self.trace.line(|| format!("the process starts again, with version {version}"));
        if version < self.ledger.deployed {
            return Err(format!("starts with version {version}, and {} was deployed", self.ledger.deployed));
        }
        self.process = Some(process);
        Ok(())
    }

    /// One actor acts.
    fn step(&mut self) -> Result<(), String> {
        self.steps += 1;
        self.gather();
        let now = self.world.now_ns();
        let ready = self.due.iter().filter(|(_, at)| *at <= now).count();
        let actor = if ready > 0 {
            let place = self.random.size(ready);
            self.due.iter().filter(|(_, at)| *at <= now).nth(place).map(|(actor, _)| *actor)
        } else {
            let next = self.due.iter().min_by_key(|(_, at)| *at).copied();
            if let Some((_, at)) = next.filter(|(_, at)| *at < u64::MAX) {
                self.world.advance(at - now);
            } else {
                self.world.advance(MS);
            }
            next.map(|(actor, _)| actor)
        };
        self.trace.now_ns = self.world.now_ns();
        self.trace.step = self.steps;
        actor.map_or(Ok(()), |actor| self.act(actor))
    }

    /// Who has something to do, and when.
    fn gather(&mut self) {
        let now = self.world.now_ns();
        self.due.clear();
        for (index, browser) in self.browsers.iter().enumerate() {
            self.due.push((Actor::Browser(index), browser.due_ns(&self.world)));
        }
        self.due.push((Actor::Backend, self.backend.due_ns(&self.world)));
        let Some(process) = &mut self.process else {
            let again_ns = self.left.as_ref().map_or(u64::MAX, |(_, at)| *at);
            return self.due.push((Actor::Restart, again_ns));
        };
        for index in 0..process.workers.len() {
            if !self.wrong.paused[index] {
                self.due.push((Actor::Worker(index), process.due_ns(index)));
            }
        }
        for (index, relay) in process.relays.iter_mut().enumerate() {
            if self.wrong.stalled[index] || !relay.can_pump() {
                self.relays_ns[index] = None;
                continue;
            }
            let wait_ns = if self.wrong.rings_slow { 200_000 } else { 10_000 };
            let at = *self.relays_ns[index].get_or_insert_with(|| now + self.random.below(wait_ns));
            self.due.push((Actor::Relay(index), at));
        }
        if process.client.waiting() > 0 && !self.wrong.database_down {
            let wait_ns = if self.wrong.database_slow { 200 * MS } else { MS };
            let at = *self.database_ns.get_or_insert_with(|| now + self.random.below(wait_ns));
            self.due.push((Actor::Database, at));
        }
        self.due.push((Actor::Agents, process.agents.due_ns()));
        self.due.push((Actor::Admin, self.admin.due_ns()));
    }

    fn act(&mut self, actor: Actor) -> Result<(), String> {
        match actor {
            Actor::Browser(index) => {
                let (browser, gone) = (&mut self.browsers[index], self.wrong.client_gone);
                return browser.step(
                    &self.world,
                    &self.address,
                    &mut self.random,
                    &mut self.ledger,
                    gone,
                    &mut self.trace,
                );
            }
            Actor::Backend => return self.backend.step(&self.world, &mut self.random, &mut self.trace),
            Actor::Restart => return self.start(),
            Actor::Worker(_) | Actor::Relay(_) | Actor::Database | Actor::Agents | Actor::Admin => {}
        }
        let Some(process) = &mut self.process else { return Ok(()) };
        match actor {
            Actor::Worker(index) => {
                process.turn(index)?;
                let now = self.world.now_ns();
                let running = &mut process.workers[index];
                // A worker's turn takes some microseconds, and here a hundred times as many.
                running.busy_until_ns = if self.wrong.slow[index] { now + self.random.below(2 * MS) } else { now };
                checks::worker(&running.worker)?;
            }
            Actor::Relay(index) => {
                self.relays_ns[index] = None;
                process.relays[index].pump(if self.wrong.rings_slow { 1 } else { usize::MAX });
            }
            Actor::Database => {
                self.database_ns = None;
                process.serve_database();
                checks::database_books(process)?;
            }
            Actor::Agents => {
                process.turn_agents();
                checks::agents(process)?;
            }
            Actor::Admin => self.admin.step(process, &mut self.ledger, self.world.now_ns(), &mut self.trace),
            Actor::Browser(_) | Actor::Backend | Actor::Restart => {}
        }
        Ok(())
    }

    /// All troubles end, and what was asked is answered.
    fn heal(&mut self) -> Result<(), String> {
        self.trace.line(|| "all troubles are over".to_owned());
        for fault in Fault::ALL {
            if fault != Fault::DeployKill {
                self.end(fault)?;
            }
        }
        self.backend.fair = true;
        self.start()?;
        for browser in &mut self.browsers {
            browser.ending = true;
        }
        let begun = self.steps;
        while self.browsers.iter().any(Browser::is_busy) || self.admin.is_busy() || self.database_waits() {
            self.step()?;
            if self.steps - begun > END_STEPS_MAX {
                return Err("there is no end to it".to_owned());
            }
        }
        Ok(())
    }

    fn database_waits(&self) -> bool {
        self.process.as_ref().is_some_and(|process| process.client.waiting() > 0)
    }

    /// Lets time pass.
    fn pass(&mut self, ns: u64) -> Result<(), String> {
        let until_ns = self.world.now_ns() + ns;
        while self.world.now_ns() < until_ns {
            self.step()?;
        }
        Ok(())
    }

    /// What must hold when nobody asks any more and every replica has swept.
    fn finish(&mut self) -> Result<(), String> {
        let replicas = self.shape.replicas() as u64;
        self.pass((2 * replicas * SWEEP_MS + 450) * MS)?;
        self.trace.line(|| "everything is at rest".to_owned());
        let Some(process) = &self.process else { return Err("no process at the end".to_owned()) };
        checks::credits(process)?;
        checks::agreement(process)?;
        checks::contents(process, &mut self.ledger, true)
    }

    /// A last kill: what is durable is there again, and the agents finish what they were told.
    fn recover(&mut self) -> Result<(), String> {
        self.kill();
        self.start()?;
        let begun = self.steps;
        loop {
            self.pass(100 * MS)?;
            let Some(process) = &self.process else { return Err("no process at the end".to_owned()) };
            match checks::work(process, &self.ledger, &self.backend) {
                Ok(()) => break,
                Err(wrong) if self.steps - begun > END_STEPS_MAX => return Err(wrong),
                Err(_) => {}
            }
        }
        let Some(process) = &self.process else { return Err("no process at the end".to_owned()) };
        checks::agreement(process)?;
        checks::contents(process, &mut self.ledger, false)
    }
}
