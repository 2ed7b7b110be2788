//! The inbox: threads that are no workers give work to a worker that falls asleep over its port. The queue itself is
//! another's, and so is its proof; here it is in its weakest form, and what is pinned is what we put around it.

use loom::sync::Arc;
use loom::thread;

use crate::grid_tests::{Worker, explore, workers};
use crate::inbox::{Inbox, Sender, inbox};
use crate::sync::{AtomicBool, Ordering};

/// Receives until `count` messages came, sleeping as a worker does.
fn receive(worker: &mut Worker<u32>, inbox: &Inbox<u32>, count: usize) -> Vec<u32> {
    let mut seen = Vec::new();
    while seen.len() < count {
        inbox.receive(8, |message| seen.push(message));
        if seen.len() < count && worker.port.prepare_sleep() && inbox.is_empty() {
            worker.event.sleep();
        }
        worker.port.awake();
    }
    seen
}

/// Pins the shared bell: `send` rings after the message is in, and the worker looks at its inbox after `prepare_sleep`.
/// Without either SeqCst fence of the doorbell the message lies there and the worker sleeps.
#[test]
fn a_message_wakes_the_worker_of_its_port() {
    explore(|| {
        let mut worker = workers::<u32>(1, 2).pop().unwrap();
        let (sender, inbox) = inbox(2, worker.port.bell());
        let thread = thread::spawn(move || sender.send(7).unwrap());
        assert_eq!(receive(&mut worker, &inbox, 1), [7]);
        thread.join().unwrap();
    });
}

/// Pins that one bell serves both: a ring and an inbox wake the same sleep, and nothing of either is left behind.
#[test]
fn an_inbox_and_a_ring_share_one_sleep() {
    explore(|| {
        let mut workers = workers::<u32>(2, 2);
        let mut peer = workers.pop().unwrap();
        let mut worker = workers.pop().unwrap();
        let (sender, inbox) = inbox(2, worker.port.bell());
        let thread = thread::spawn(move || {
            peer.port.send(0, 1).unwrap();
            peer.port.flush();
            sender.send(2).unwrap();
        });
        let mut seen = Vec::new();
        while seen.len() < 2 {
            worker.port.receive(8, |_, message| seen.push(message));
            inbox.receive(8, |message| seen.push(message));
            if seen.len() < 2 && worker.port.prepare_sleep() && inbox.is_empty() {
                worker.event.sleep();
            }
            worker.port.awake();
        }
        seen.sort_unstable();
        assert_eq!(seen, [1, 2]);
        thread.join().unwrap();
    });
}

/// Pins the bound: a full inbox gives the message back, and what was accepted arrives once.
#[test]
fn a_full_inbox_gives_the_message_back() {
    explore(|| {
        let mut worker = workers::<u32>(1, 2).pop().unwrap();
        let (sender, inbox) = inbox(2, worker.port.bell());
        let thread =
            thread::spawn(move || (1..=3).filter(|message| sender.send(*message).is_ok()).collect::<Vec<u32>>());
        let mut seen = receive(&mut worker, &inbox, 2);
        let accepted = thread.join().unwrap();
        inbox.receive(8, |message| seen.push(message));
        assert!(accepted.starts_with(&[1, 2]), "{accepted:?}");
        assert_eq!(seen, accepted);
    });
}

/// Pins that `closed` needs no order: a message sent to a dropped inbox is dropped with the queue (loom fails a leak), and
/// a sender that keeps asking learns of the end.
#[test]
fn a_dropped_inbox_is_noticed_and_leaks_nothing() {
    explore(|| {
        let worker = workers::<Box<u32>>(1, 2).pop().unwrap();
        let (sender, inbox): (Sender<Box<u32>, _>, Inbox<Box<u32>>) = inbox(2, worker.port.bell());
        let told = Arc::new(AtomicBool::new(false));
        let its_told = Arc::clone(&told);
        let thread = thread::spawn(move || {
            drop(inbox);
            its_told.store(true, Ordering::Release);
        });
        drop(sender.send(Box::new(1)));
        if told.load(Ordering::Acquire) {
            assert!(sender.is_closed());
        }
        thread.join().unwrap();
    });
}
