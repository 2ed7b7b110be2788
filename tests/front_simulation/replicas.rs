//! The replica servers of the simulation: they take jobs off their slips, answer late, give back what they do not take,
//! and stand still for a while, so that the front moves what is out at them.

use std::collections::VecDeque;
use std::sync::Arc;

use twintier::engine::sim::{Random, Sim};
use twintier::front::FrontServer;
use twintier::mesh::slip::Slip;
use twintier::replica::job::Job;

use super::message::pattern;
use super::stage::SECOND;

pub const REPLICAS: usize = 2;

#[derive(Default)]
struct Replica {
    /// Slips that it has not looked at.
    ring: VecDeque<Arc<Slip<Job>>>,
    /// Jobs that it has begun, and when they come back.
    jobs: Vec<(u64, Box<Job>)>,
    /// It stands still until then.
    hung_until_ns: u64,
    hangs: bool,
}

#[derive(Default)]
pub struct Replicas {
    replicas: [Replica; REPLICAS],
    /// Flights that were taken back or given up, to see that some were.
    pub moved: u64,
}

impl Replicas {
    /// When something happens here next.
    pub fn next_ns(&self) -> u64 {
        let of = |replica: &Replica| {
            let jobs = replica.jobs.iter().map(|(at_ns, _)| (*at_ns).max(replica.hung_until_ns));
            jobs.chain(replica.hangs.then_some(replica.hung_until_ns)).min()
        };
        self.replicas.iter().filter_map(of).min().unwrap_or(u64::MAX)
    }

    pub fn step(&mut self, engine: &mut Sim, front: &mut FrontServer, random: &mut Random, fair: bool, now: u64) {
        self.send(engine, front, random, fair);
        for number in 0..REPLICAS {
            self.hang(number, engine, front, random, fair, now);
            if !self.replicas[number].hangs {
                self.begin(number, engine, front, random, fair, now);
                self.answer(number, engine, front, now);
            }
        }
    }

    /// The front's jobs go on slips into the rings.
    fn send(&mut self, engine: &mut Sim, front: &mut FrontServer, random: &mut Random, fair: bool) {
        let mut outbox = std::mem::take(front.outbox_mut());
        for (replica, job) in outbox.drain(..) {
            let slip = Arc::clone(front.flights().slip(job.origin.flight));
            slip.put(job);
            if !fair && random.chance(25) {
                let job = slip.take().expect("nobody else has it");
                front.on_undelivered(engine, replica, job);
            } else {
                self.replicas[usize::from(replica)].ring.push_back(slip);
            }
        }
        front.return_outbox(outbox);
    }

    fn hang(
        &mut self,
        number: usize,
        engine: &mut Sim,
        front: &mut FrontServer,
        random: &mut Random,
        fair: bool,
        now: u64,
    ) {
        let id = u8::try_from(number).unwrap();
        let busy = !self.replicas[number].ring.is_empty() || !self.replicas[number].jobs.is_empty();
        // One of them stays, so that what is safe sees no error.
        let other_hangs = self.replicas.iter().any(|replica| replica.hangs);
        let replica = &mut self.replicas[number];
        if replica.hangs && now >= replica.hung_until_ns {
            replica.hangs = false;
            front.dispatcher_mut().set_available(id, true);
            front.pump(engine);
        } else if busy && !other_hangs && random.chance(60) {
            // Longer than a job's time only where requests may fail.
            let longest = if fair { SECOND / 2 } else { 3 * SECOND };
            replica.hangs = true;
            replica.hung_until_ns = now + 1 + random.below(longest);
            front.dispatcher_mut().set_available(id, false);
            let before = front.flights().counters;
            front.take_out(engine, id);
            let after = front.flights().counters;
            self.moved += after.retracted + after.reexecuted - before.retracted - before.reexecuted;
        }
    }

    fn begin(
        &mut self,
        number: usize,
        engine: &mut Sim,
        front: &mut FrontServer,
        random: &mut Random,
        fair: bool,
        now: u64,
    ) {
        let replica = &mut self.replicas[number];
        // Sometimes it looks at its ring a turn later.
        let looks = if random.chance(700) { replica.ring.len() } else { 0 };
        for slip in replica.ring.drain(..looks).collect::<Vec<_>>() {
            match slip.take() {
                None => front.on_withdrawn(engine, slip.number()),
                Some(job) if !fair && random.chance(25) => front.on_unclaimed(engine, job),
                Some(mut job) => {
                    let slow = !fair && random.chance(60);
                    let delay = if slow { random.below(3 * SECOND) } else { random.below(3_000_000) };
                    job.response.replica = u8::try_from(number).unwrap();
                    replica.jobs.push((now + delay, job));
                }
            }
        }
    }

    fn answer(&mut self, number: usize, engine: &mut Sim, front: &mut FrontServer, now: u64) {
        let due = self.replicas[number].jobs.extract_if(.., |(at_ns, _)| *at_ns <= now);
        for (_, mut job) in due.collect::<Vec<_>>() {
            let mut parts = job.path.split('/').skip(1);
            let id: u64 = parts.next().unwrap().parse().unwrap();
            let length: usize = parts.next().unwrap().parse().unwrap();
            assert!(pattern(id ^ 0xB0D, job.body.len()) == job.body, "job {id}: the body was changed");
            job.response.clear();
            job.response.status = 200;
            job.response.content_type = "text/plain; charset=utf-8";
            job.response.body.extend_from_slice(&pattern(id, length));
            front.on_reply(engine, job);
        }
    }
}

/// What holds after every step: every credit that is taken belongs to a flight.
pub fn check(front: &FrontServer) -> Result<(), String> {
    let flights = front.flights();
    let outstanding: u32 = front.dispatcher().replicas().iter().map(|replica| replica.outstanding).sum();
    if flights.books() != 0 || usize::try_from(outstanding) != Ok(flights.count()) {
        return Err(format!("{outstanding} credits are taken, {} flights: {:?}", flights.count(), flights.counters));
    }
    Ok(())
}
