//! The doorbell: a lost wake leaves the consumer parked for good, which loom reports as a deadlock.

use loom::thread::{self, Thread};
use loom::{model, sync::Arc};

use crate::doorbell::Doorbell;
use crate::ring::{Consumer, ring};

/// Receives until `count` items came, sleeping as a worker does.
fn receive(door: &Doorbell, rings: &mut [Consumer<u32>], count: usize) -> Vec<u32> {
    let mut seen = Vec::new();
    loop {
        for ring in &mut *rings {
            seen.extend(std::iter::from_fn(|| ring.pop()));
            ring.release();
        }
        if seen.len() == count {
            return seen;
        }
        door.prepare_sleep();
        if rings.iter_mut().all(Consumer::is_empty) {
            thread::park();
        }
        door.cancel();
    }
}

fn ring_and_wake(door: &Doorbell, sleeper: &Thread) {
    if door.ring() {
        sleeper.unpark();
    }
}

/// Pins both SeqCst fences: without the one in `prepare_sleep` or the one in `published`, each side may miss the
/// other's store, and the consumer sleeps on an item.
#[test]
fn no_wake_is_lost() {
    model(|| {
        let door = Arc::new(Doorbell::new());
        let (mut producer, consumer) = ring(2);
        let (its_door, sleeper) = (Arc::clone(&door), thread::current());
        let thread = thread::spawn(move || {
            producer.push(1).unwrap();
            ring_and_wake(&its_door, &sleeper);
        });
        assert_eq!(receive(&door, &mut [consumer], 1), [1]);
        thread.join().unwrap();
    });
}

/// Pins the same for a consumer that sleeps, is woken and sleeps again: a ring that was answered once must not hide
/// the next one. Pins too the announcement as an exchange, which loom needs and C11 does not: see `prepare_sleep`.
#[test]
fn no_wake_is_lost_the_second_time() {
    model(|| {
        let door = Arc::new(Doorbell::new());
        let (mut producer, consumer) = ring(2);
        let (its_door, sleeper) = (Arc::clone(&door), thread::current());
        let thread = thread::spawn(move || {
            for item in 1..=2 {
                producer.push(item).unwrap();
                ring_and_wake(&its_door, &sleeper);
            }
        });
        assert_eq!(receive(&door, &mut [consumer], 2), [1, 2]);
        thread.join().unwrap();
    });
}

/// Pins that one producer may rely on another's wake: the exchange gives the wake to one of them, and the other's item
/// is still found, although nothing but the fences orders the two.
#[test]
fn two_producers_share_one_bell() {
    let mut builder = model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(|| {
        let door = Arc::new(Doorbell::new());
        let mut consumers = Vec::new();
        let threads: Vec<_> = (1..=2)
            .map(|item| {
                let (mut producer, consumer) = ring(1);
                consumers.push(consumer);
                let (its_door, sleeper) = (Arc::clone(&door), thread::current());
                thread::spawn(move || {
                    producer.push(item).unwrap();
                    ring_and_wake(&its_door, &sleeper);
                })
            })
            .collect();
        let mut seen = receive(&door, &mut consumers, 2);
        seen.sort_unstable();
        assert_eq!(seen, [1, 2]);
        for thread in threads {
            thread.join().unwrap();
        }
    });
}

/// Pins the exchange in `ring_after_fence` as one step: of two producers that see the sleeper, one wakes it.
#[test]
fn one_sleep_is_answered_by_one_wake() {
    model(|| {
        let door = Arc::new(Doorbell::new());
        door.prepare_sleep();
        let its_door = Arc::clone(&door);
        let thread = thread::spawn(move || its_door.ring());
        let here = door.ring();
        let there = thread.join().unwrap();
        assert!(here ^ there, "here {here}, there {there}");
    });
}
