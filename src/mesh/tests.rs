//! What the mesh promises on one thread, and a stress run on real ones; `tests/loom` covers the interleavings.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use super::depth::DepthBoard;
use super::doorbell::Doorbell;
use super::grid::{Port, Wake, grid};
use super::ring::{ring, ring_at};

/// Counts wakes instead of waking.
#[derive(Clone, Default)]
struct Count(Arc<AtomicUsize>);

impl Wake for Count {
    fn wake(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl Count {
    fn get(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

fn ports(workers: usize, slots: usize) -> (Vec<Port<u32, Count>>, Vec<Count>) {
    let counts: Vec<Count> = (0..workers).map(|_| Count::default()).collect();
    (grid(workers, slots, counts.clone()), counts)
}

fn received(port: &mut Port<u32, Count>, limit: usize) -> Vec<(usize, u32)> {
    let mut all = Vec::new();
    port.receive(limit, |from, message| all.push((from, message)));
    all
}

#[test]
fn staged_items_are_invisible_until_published() {
    let (mut producer, mut consumer) = ring(4);
    producer.stage(1).unwrap();
    producer.stage(2).unwrap();
    assert_eq!(producer.staged(), 2);
    assert!(consumer.is_empty());
    assert!(producer.publish());
    assert!(!producer.publish(), "nothing new became visible");
    assert_eq!((consumer.pop(), consumer.pop(), consumer.pop()), (Some(1), Some(2), None));
}

#[test]
fn a_slot_is_free_again_only_after_release() {
    let (mut producer, mut consumer) = ring(2);
    producer.push(1).unwrap();
    producer.push(2).unwrap();
    assert_eq!(producer.push(3), Err(3));
    assert_eq!(consumer.pop(), Some(1));
    assert_eq!(producer.push(3), Err(3), "popped, not released");
    consumer.release();
    assert_eq!(producer.free(), 1);
    producer.push(3).unwrap();
    assert_eq!((consumer.pop(), consumer.pop(), consumer.pop()), (Some(2), Some(3), None));
}

#[test]
fn a_failed_push_publishes_what_was_staged() {
    let (mut producer, mut consumer) = ring(1);
    producer.stage(1).unwrap();
    assert_eq!(producer.push(2), Err(2));
    assert_eq!(consumer.pop(), Some(1));
}

#[test]
fn order_survives_the_overflow_of_the_indices() {
    let (mut producer, mut consumer) = ring_at(4, usize::MAX - 5);
    for item in 0..100 {
        producer.push(item).unwrap();
        producer.push(item + 1000).unwrap();
        assert_eq!(consumer.pop(), Some(item));
        assert_eq!(consumer.pop(), Some(item + 1000));
        consumer.release();
        assert_eq!(producer.free(), 4);
    }
}

#[test]
fn batches_go_round_the_end_of_the_ring_and_stop_where_it_is_full() {
    let (mut producer, mut consumer) = ring_at(8, usize::MAX - 5);
    let mut next = 0;
    let mut seen = Vec::new();
    for (offered, limit) in [(5, 2), (8, 3), (8, 8), (1, 100), (8, 0), (3, 100)] {
        let mut asked = 0;
        let free = producer.free();
        let staged = producer.stage_all((0..offered).map(|item| {
            asked += 1;
            next + item
        }));
        assert_eq!((staged, asked), (offered.min(free), staged), "no item is asked for that has no room");
        next += staged;
        producer.publish();
        let waiting = next - seen.len();
        assert_eq!(consumer.drain(limit, |item| seen.push(item)), limit.min(waiting));
        assert_eq!(producer.free(), 8 - (next - seen.len()), "what was drained is released");
    }
    assert_eq!(consumer.drain(100, |item| seen.push(item)), next - seen.len());
    assert_eq!(seen, (0..next).collect::<Vec<_>>());
}

/// What a panic was given is gone, the rest stays, and nothing is dropped twice.
#[test]
fn a_drain_that_panics_loses_one_item() {
    let item = Arc::new(());
    let (mut producer, mut consumer) = ring(4);
    assert_eq!(producer.stage_all((0..4).map(|_| Arc::clone(&item))), 4);
    producer.publish();
    let mut left = 2;
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        consumer.drain(4, |_| {
            left -= 1;
            assert!(left > 0, "the second one");
        })
    }));
    assert!(outcome.is_err());
    assert_eq!(Arc::strong_count(&item), 3);
    assert_eq!(consumer.drain(4, drop), 2);
    drop((producer, consumer));
    assert_eq!(Arc::strong_count(&item), 1);
}

#[test]
fn either_side_sees_the_other_go() {
    let (mut producer, mut consumer) = ring(4);
    producer.push(1).unwrap();
    producer.stage(2).unwrap();
    assert!(!producer.is_closed());
    drop(producer);
    assert!(!consumer.is_closed(), "items are left, the staged one too");
    assert_eq!((consumer.pop(), consumer.pop()), (Some(1), Some(2)));
    assert!(consumer.is_closed());

    let (producer, consumer) = ring::<u8>(4);
    drop(consumer);
    assert!(producer.is_closed());
}

#[test]
fn every_item_is_dropped_once() {
    let item = Arc::new(());
    let (mut producer, mut consumer) = ring_at(4, usize::MAX);
    for _ in 0..4 {
        producer.push(Arc::clone(&item)).unwrap();
    }
    drop((consumer.pop(), consumer.pop()));
    assert_eq!(Arc::strong_count(&item), 3);
    // The two slots are not released yet: the ring must not drop them again.
    drop(consumer);
    producer.stage(Arc::clone(&item)).unwrap();
    drop(producer);
    assert_eq!(Arc::strong_count(&item), 1);
}

#[test]
#[should_panic(expected = "a power of two")]
fn an_odd_capacity_is_refused() {
    let _ = ring::<u8>(3);
}

#[test]
fn a_doorbell_wakes_a_sleeper_once() {
    let door = Doorbell::new();
    assert!(!door.ring(), "awake");
    door.prepare_sleep();
    assert!(door.ring());
    assert!(!door.ring(), "the first ring wakes it already");
    door.prepare_sleep();
    door.cancel();
    assert!(!door.ring(), "did not sleep");
}

#[test]
fn messages_leave_at_flush_and_know_their_sender() {
    let (mut ports, _) = ports(3, 4);
    ports[0].send(2, 10).unwrap();
    ports[1].send(2, 20).unwrap();
    assert!(!ports[2].has_pending());
    ports[0].flush();
    ports[1].flush();
    assert!(ports[2].has_pending());
    let mut all = received(&mut ports[2], 10);
    all.sort_unstable();
    assert_eq!(all, [(0, 10), (1, 20)]);
    assert_eq!((ports[2].id(), ports[2].workers()), (2, 3));
}

#[test]
fn a_full_ring_gives_the_message_back_and_frees_up() {
    let (mut ports, _) = ports(2, 2);
    ports[0].send(1, 1).unwrap();
    ports[0].send(1, 2).unwrap();
    assert_eq!(ports[0].send(1, 3), Err(3));
    ports[0].flush();
    assert_eq!(received(&mut ports[1], 1), [(0, 1)]);
    assert_eq!(ports[0].free(1), 1);
    ports[0].send(1, 3).unwrap();
    ports[0].flush();
    assert_eq!(received(&mut ports[1], 9), [(0, 2), (0, 3)]);
}

#[test]
fn receive_keeps_its_limit_and_begins_with_another_peer_each_time() {
    let (mut ports, _) = ports(3, 8);
    for from in 1..3u32 {
        let port = &mut ports[from as usize];
        for _ in 0..4 {
            port.send(0, from).unwrap();
        }
        port.flush();
    }
    let firsts: Vec<usize> = (0..3).map(|_| received(&mut ports[0], 1)[0].0).collect();
    assert!(firsts.contains(&1) && firsts.contains(&2), "{firsts:?}");
}

#[test]
fn only_sleepers_are_woken_and_only_once() {
    let (mut ports, wakes) = ports(3, 8);
    ports[0].send(1, 1).unwrap();
    ports[0].flush();
    assert_eq!(wakes[1].get(), 0, "worker 1 is awake");
    assert!(!ports[1].prepare_sleep(), "a message waits");
    received(&mut ports[1], 8);
    assert!(ports[1].prepare_sleep());
    ports[0].send(1, 2).unwrap();
    ports[2].send(1, 3).unwrap();
    ports[0].flush();
    ports[2].flush();
    assert_eq!(wakes[1].get(), 1);
    ports[1].awake();
    assert_eq!(received(&mut ports[1], 8).len(), 2);
}

#[test]
fn prepare_sleep_flushes() {
    let (mut ports, _) = ports(2, 8);
    ports[0].send(1, 7).unwrap();
    assert!(ports[0].prepare_sleep());
    assert_eq!(received(&mut ports[1], 8), [(0, 7)]);
}

#[test]
fn a_dropped_port_is_noticed() {
    let (mut ports, _) = ports(2, 8);
    assert!(!ports[0].is_gone(1));
    ports.pop();
    assert!(ports[0].is_gone(1));
    assert!(!ports[0].is_gone(0));
}

#[test]
fn a_lone_worker_has_nobody_to_hear() {
    let (mut ports, _) = ports(1, 8);
    assert!(!ports[0].has_pending());
    assert_eq!(received(&mut ports[0], 8), []);
    assert!(ports[0].prepare_sleep());
}

#[test]
fn the_depth_board_keeps_the_last_value_of_each_worker() {
    let board = DepthBoard::new(3);
    board.publish(1, 5);
    board.publish(2, 9);
    board.publish(2, 7);
    let mut copy = [u32::MAX; 2];
    board.snapshot(&mut copy);
    assert_eq!(copy, [0, 5]);
    assert_eq!((board.read(2), board.workers()), (7, 3));
}

#[cfg(feature = "appliance")]
#[test]
fn an_inbox_is_bounded_and_shares_the_bell_of_its_port() {
    use super::inbox::inbox;
    let (mut ports, wakes) = ports(2, 8);
    let (sender, inbox) = inbox(2, ports[1].bell());
    assert!(ports[1].prepare_sleep() && inbox.is_empty());
    sender.clone().send(1).unwrap();
    assert_eq!(wakes[1].get(), 1);
    sender.send(2).unwrap();
    assert_eq!(sender.send(3), Err(3));
    assert!(!inbox.is_empty());
    let mut all = Vec::new();
    assert_eq!(inbox.receive(1, |message| all.push(message)), 1);
    assert_eq!(inbox.receive(9, |message| all.push(message)), 1);
    assert_eq!(all, [1, 2]);
    assert_eq!(wakes[1].get(), 1, "the bell was taken by the first send");
    assert!(!sender.is_closed());
    drop(inbox);
    assert!(sender.is_closed());
}

/// Pins the whole chain on real threads: a token goes round three parked workers; a lost wake would hang the run.
#[test]
fn tokens_go_round_parked_workers() {
    const ROUNDS: u32 = 3_000;
    let (send_ports, handles): (Vec<_>, Vec<_>) = (0..3usize)
        .map(|_| {
            let (send_port, receive_port) = std::sync::mpsc::channel::<Port<u32, thread::Thread>>();
            let handle = thread::spawn(move || {
                let mut port = receive_port.recv().unwrap();
                let next = (port.id() + 1) % 3;
                if port.id() == 0 {
                    port.send(next, 0).unwrap();
                }
                let mut last = 0;
                while last < ROUNDS {
                    let mut arrived = None;
                    port.receive(8, |_, message| arrived = Some(message));
                    if let Some(hops) = arrived {
                        last = hops;
                        port.send(next, hops + 1).unwrap();
                    }
                    if arrived.is_none() && port.prepare_sleep() {
                        thread::park();
                    }
                    port.awake();
                    port.flush();
                }
            });
            (send_port, handle)
        })
        .unzip();
    let wakers = handles.iter().map(|handle| handle.thread().clone()).collect();
    for (port, send_port) in grid(3, 8, wakers).into_iter().zip(send_ports) {
        send_port.send(port).unwrap();
    }
    for handle in handles {
        handle.join().unwrap();
    }
}
