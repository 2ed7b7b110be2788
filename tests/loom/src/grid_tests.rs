//! The ports: ring and doorbell put together in the order in which workers use them.

use loom::model::Builder;
use loom::sync::{Arc, Condvar, Mutex};
use loom::thread;

use crate::grid::{Port, Wake, grid};

/// What an eventfd is to a real worker: a wake that comes early ends the next sleep at once.
#[derive(Clone)]
pub struct Event(Arc<(Mutex<bool>, Condvar)>);

impl Event {
    fn new() -> Self {
        Self(Arc::new((Mutex::new(false), Condvar::new())))
    }

    pub fn sleep(&self) {
        let mut woken = self.0.0.lock().unwrap();
        while !*woken {
            woken = self.0.1.wait(woken).unwrap();
        }
        *woken = false;
    }
}

impl Wake for Event {
    fn wake(&self) {
        *self.0.0.lock().unwrap() = true;
        self.0.1.notify_one();
    }
}

/// One worker that knows its own event.
pub struct Worker<T> {
    pub port: Port<T, Event>,
    pub event: Event,
}

/// As many workers as asked for, joined by rings of so many slots.
pub fn workers<T>(count: usize, slots: usize) -> Vec<Worker<T>> {
    let events: Vec<Event> = (0..count).map(|_| Event::new()).collect();
    let ports = grid(count, slots, events.clone());
    ports.into_iter().zip(events).map(|(port, event)| Worker { port, event }).collect()
}

impl Worker<u32> {
    /// Receives until `count` messages came, sleeping as a worker does.
    fn receive(&mut self, count: usize) -> Vec<u32> {
        let mut seen = Vec::new();
        while seen.len() < count {
            if self.port.receive(8, |_, message| seen.push(message)) == 0 && self.port.prepare_sleep() {
                self.event.sleep();
            }
            self.port.awake();
        }
        seen
    }
}

pub fn explore(check: impl Fn() + Sync + Send + 'static) {
    let mut builder = Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(check);
}

/// Pins the order in `flush`: publish, fence, look at the sleeper; and in `prepare_sleep`: announce, then look. Two
/// messages of one flush arrive together.
#[test]
fn a_flush_reaches_a_worker_that_falls_asleep() {
    explore(|| {
        let mut workers = workers(2, 2);
        let mut sender = workers.pop().unwrap();
        let thread = thread::spawn(move || {
            sender.port.send(0, 1).unwrap();
            sender.port.send(0, 2).unwrap();
            sender.port.flush();
        });
        assert_eq!(workers[0].receive(2), [1, 2]);
        thread.join().unwrap();
    });
}

/// Pins that `prepare_sleep` publishes what was staged: both workers fall asleep over a message that they have not
/// flushed themselves.
#[test]
fn two_workers_that_wait_for_each_other_both_hear() {
    explore(|| {
        let mut workers = workers(2, 2);
        let mut other = workers.pop().unwrap();
        let thread = thread::spawn(move || {
            other.port.send(0, 1).unwrap();
            assert_eq!(other.receive(1), [2]);
            other.port.flush();
        });
        workers[0].port.send(1, 2).unwrap();
        assert_eq!(workers[0].receive(1), [1]);
        workers[0].port.flush();
        thread.join().unwrap();
    });
}
