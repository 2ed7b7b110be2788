//! The credit protocol: the second dispatcher's own count of unreturned work, jobs over one ring, answers over the other.
//!
//! ```text
//!   front   pick, take a credit ── Job ──▶ replica          cap 1 or 2, rings of one slot or two
//!           credit returned ◀── Reply or Unclaimed ──
//! ```
//! The dispatcher is the appliance's, the ports are the mesh's, and both sides sleep as workers do: a credit or a wake that
//! is lost leaves somebody asleep for ever, which loom reports as a deadlock.

use loom::model::Builder;
use loom::thread;
use twintier::dispatch::PolicyName;
use twintier::dispatch::requests::{Pick, RequestDispatcher, Settings};

use crate::grid_tests::{Worker, workers};

const REPLICA: u8 = 0;

#[derive(Debug)]
enum Said {
    Job(u32),
    Reply(u32),
    /// The replica is stopped: the job comes back untouched.
    Unclaimed(u32),
    Stop,
}

/// The front: offers requests, takes answers, and knows how each of them ended.
struct Front {
    worker: Worker<Said>,
    dispatcher: RequestDispatcher<u32>,
    answered: Vec<u32>,
    /// Jobs that found their ring full: answered by the front itself.
    undelivered: Vec<u32>,
}

impl Front {
    fn new(worker: Worker<Said>, cap: u32) -> Self {
        let dispatcher = RequestDispatcher::new(&Settings {
            replicas: 1,
            policy: PolicyName::Jbsq,
            credit: cap,
            outstanding_max: cap,
            queue_max: 4,
            seed: 1,
        });
        Self { worker, dispatcher, answered: Vec::new(), undelivered: Vec::new() }
    }

    fn offer(&mut self, request: u32) {
        match self.dispatcher.pick(0, None) {
            Pick::Replica(_, _) => self.send(request),
            Pick::Wait => self.dispatcher.enqueue(request, 0, u64::MAX).unwrap(),
        }
    }

    fn send(&mut self, request: u32) {
        if self.worker.port.send(1, Said::Job(request)).is_err() {
            self.dispatcher.returned(REPLICA);
            self.undelivered.push(request);
        }
    }

    fn ended(&self) -> u32 {
        u32::try_from(self.answered.len() + self.undelivered.len()).unwrap()
    }

    /// Offers so many requests and turns until each of them has ended, then stops the replica.
    fn run(&mut self, requests: u32) {
        (0..requests).for_each(|request| self.offer(request));
        while self.ended() < requests {
            let mut heard = Vec::new();
            self.worker.port.receive(8, |_, said| heard.push(said));
            for said in &heard {
                match said {
                    Said::Reply(request) => {
                        self.dispatcher.returned(REPLICA);
                        self.answered.push(*request);
                    }
                    Said::Unclaimed(request) => {
                        self.dispatcher.returned(REPLICA);
                        self.offer(*request);
                    }
                    Said::Job(_) | Said::Stop => panic!("not for a front: {said:?}"),
                }
            }
            while let Some((request, _)) = self.dispatcher.next_ready(0, None) {
                self.send(request);
            }
            let ended = self.ended() == requests;
            if !ended && heard.is_empty() && self.worker.port.prepare_sleep() {
                self.worker.event.sleep();
            }
            self.worker.port.awake();
            self.worker.port.flush();
        }
        assert_eq!(self.dispatcher.replicas()[0].outstanding, 0, "every credit came back");
        assert_eq!(self.dispatcher.waiting(), 0, "nothing waits");
        self.worker.port.send(1, Said::Stop).expect("all jobs were taken, so there is room");
        self.worker.port.flush();
        let mut ended: Vec<u32> = self.answered.iter().chain(&self.undelivered).copied().collect();
        ended.sort_unstable();
        assert_eq!(ended, (0..requests).collect::<Vec<_>>(), "each request ended once");
    }
}

/// The replica: answers every job, but gives those back that `unclaimed` names, once each.
fn serve(mut worker: Worker<Said>, cap: u32, mut unclaimed: Vec<u32>) {
    let mut held: Vec<Said> = Vec::new();
    loop {
        let mut stop = false;
        worker.port.receive(8, |_, said| match said {
            Said::Job(request) => match unclaimed.iter().position(|other| *other == request) {
                Some(place) => {
                    unclaimed.swap_remove(place);
                    held.push(Said::Unclaimed(request));
                }
                None => held.push(Said::Reply(request)),
            },
            Said::Stop => stop = true,
            Said::Reply(_) | Said::Unclaimed(_) => panic!("not for a replica: {said:?}"),
        });
        assert!(u32::try_from(held.len()).unwrap() <= cap, "the cap is exceeded: {held:?}");
        if stop {
            return assert!(held.is_empty(), "stopped over {held:?}");
        }
        while let Some(answer) = held.pop() {
            if let Err(answer) = worker.port.send(0, answer) {
                // The ring to the front is full: the answer waits for the next turn.
                held.push(answer);
                break;
            }
        }
        worker.port.flush();
        if !held.is_empty() {
            thread::yield_now();
        } else if worker.port.prepare_sleep() {
            worker.event.sleep();
        }
        worker.port.awake();
    }
}

/// Two threads that turn a few times each have more interleavings than can be run; of those with at most two preemptions
/// all are.
fn play(cap: u32, slots: usize, requests: u32, unclaimed: &'static [u32]) {
    let mut builder = Builder::new();
    builder.preemption_bound = Some(2);
    builder.check(move || {
        let mut workers = workers::<Said>(2, slots);
        let replica = workers.pop().unwrap();
        let mut front = Front::new(workers.pop().unwrap(), cap);
        let thread = thread::spawn(move || serve(replica, cap, unclaimed.to_vec()));
        front.run(requests);
        thread.join().unwrap();
    });
}

/// Pins that a reply brings its credit back and wakes the front: with more requests than the cap, the last one waits for a
/// credit, and the replica never holds more than the cap.
#[test]
fn the_cap_is_kept_and_every_credit_returns() {
    play(1, 2, 2, &[]);
}

/// Pins the same for a job that comes back unclaimed: its credit is free before it is offered again.
#[test]
fn an_unclaimed_job_returns_its_credit_and_is_offered_again() {
    play(1, 2, 1, &[0]);
}

/// Pins the same for a job that finds its ring full: the credit is returned at once, and the job has ended.
#[test]
fn an_undelivered_job_returns_its_credit() {
    play(2, 1, 2, &[]);
}
