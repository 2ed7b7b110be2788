//! The ring: wrap, full, batches, closing. Loom also fails a test that leaks, and one in which a slot is written and
//! read without an order between the two.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use loom::{model, thread};

use crate::ring::{Consumer, ring, ring_at};

/// Takes what is there now and releases it as one batch.
fn batch<T>(consumer: &mut Consumer<T>) -> Vec<T> {
    let items = std::iter::from_fn(|| consumer.pop()).collect();
    consumer.release();
    items
}

/// Counts its own drops. The counter is outside the model on purpose: it must not order anything.
struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// Pins `tail`: Release in `publish`, Acquire in `refresh`. Without either, the slot is read before it is written.
#[test]
fn a_published_item_is_complete() {
    model(|| {
        let (mut producer, mut consumer) = ring(2);
        let thread = thread::spawn(move || producer.push(Box::new(7)).unwrap());
        if let Some(item) = consumer.pop() {
            assert_eq!(*item, 7);
        }
        thread.join().unwrap();
    });
}

/// Pins one store of `tail` for a batch: the consumer sees all of it or nothing.
#[test]
fn a_batch_becomes_visible_at_once() {
    model(|| {
        let (mut producer, mut consumer) = ring(4);
        let thread = thread::spawn(move || {
            producer.stage(1).unwrap();
            producer.stage(2).unwrap();
            producer.stage(3).unwrap();
            assert!(producer.publish());
        });
        let seen = batch(&mut consumer);
        assert!(seen.is_empty() || seen == [1, 2, 3], "{seen:?}");
        thread.join().unwrap();
    });
}

/// Pins the same for a whole batch at once: `stage_all` writes and `drain` reads slots on both sides of the ring's end,
/// all of them ordered by one store of `tail`.
#[test]
fn a_drained_batch_is_complete() {
    model(|| {
        let (mut producer, mut consumer) = ring_at(4, usize::MAX - 1);
        let thread = thread::spawn(move || {
            assert_eq!(producer.stage_all([1, 2, 3].map(Box::new).into_iter()), 3);
            producer.publish();
        });
        let mut seen = Vec::new();
        consumer.drain(2, |item| seen.push(*item));
        assert!(seen.is_empty() || seen == [1, 2], "{seen:?}");
        thread.join().unwrap();
        consumer.drain(4, |item| seen.push(*item));
        assert_eq!(seen, [1, 2, 3]);
    });
}

/// Pins `head` for batches: `stage_all` takes no slot that `drain` is still reading, and takes all that it released.
#[test]
fn a_batch_takes_only_slots_that_were_read() {
    model(|| {
        let (mut producer, mut consumer) = ring_at(2, usize::MAX);
        assert_eq!(producer.stage_all([1, 2].map(Box::new).into_iter()), 2);
        producer.publish();
        let thread = thread::spawn(move || {
            let mut seen = Vec::new();
            consumer.drain(2, |item| seen.push(*item));
            (consumer, seen)
        });
        let staged = producer.stage_all([3, 4].map(Box::new).into_iter());
        producer.publish();
        let (mut consumer, mut seen) = thread.join().unwrap();
        consumer.drain(2, |item| seen.push(*item));
        assert!(staged == 0 || staged == 2, "a drain gives back all or nothing: {staged}");
        assert_eq!(seen, (1..=2 + staged).collect::<Vec<_>>());
    });
}

/// Pins `head`: Release in `release`, Acquire in `free`. Without either, the producer writes a slot that is still
/// being read. The indices overflow on the way, and the ring is full in between.
#[test]
fn a_slot_is_written_again_only_after_it_was_read() {
    model(|| {
        let (mut producer, mut consumer) = ring_at(1, usize::MAX);
        producer.push(Box::new(1)).unwrap();
        let thread = thread::spawn(move || {
            assert_eq!(consumer.pop().as_deref(), Some(&1));
            consumer.release();
            consumer
        });
        let pushed = producer.push(Box::new(2)).is_ok();
        let mut consumer = thread.join().unwrap();
        assert_eq!(consumer.pop().as_deref(), pushed.then_some(&2));
    });
}

/// Pins the order of items over wrap, full and partial batches: whatever was accepted arrives, once, in order.
#[test]
fn accepted_items_arrive_once_and_in_order() {
    model(|| {
        let (mut producer, mut consumer) = ring_at(2, usize::MAX);
        let thread = thread::spawn(move || {
            let mut accepted = Vec::new();
            for item in 1..=4 {
                if producer.push(item).is_ok() {
                    accepted.push(item);
                }
            }
            accepted
        });
        let mut seen = batch(&mut consumer);
        seen.extend(batch(&mut consumer));
        let accepted = thread.join().unwrap();
        seen.extend(batch(&mut consumer));
        assert!(accepted.len() >= 2);
        assert_eq!(seen, accepted);
    });
}

/// Pins `release` as the only thing that frees a slot: a popped, unreleased one refuses the next item.
#[test]
fn a_full_ring_stays_full_until_release() {
    model(|| {
        let (mut producer, mut consumer) = ring(2);
        producer.push(1).unwrap();
        producer.push(2).unwrap();
        let thread = thread::spawn(move || {
            assert_eq!(consumer.pop(), Some(1));
            consumer
        });
        assert_eq!(producer.push(3), Err(3));
        let mut consumer = thread.join().unwrap();
        consumer.release();
        assert_eq!(producer.push(3), Ok(()));
        assert_eq!(batch(&mut consumer), [2, 3]);
    });
}

/// Pins `producer_gone`: Release in `Producer::drop`, Acquire in `is_closed`. Without either, the consumer sees the
/// producer gone with an old `tail` and leaves items behind.
#[test]
fn a_closed_ring_has_no_items_left() {
    model(|| {
        let (mut producer, mut consumer) = ring(4);
        let thread = thread::spawn(move || {
            producer.push(1).unwrap();
            producer.stage(2).unwrap();
        });
        let mut seen = batch(&mut consumer);
        if consumer.is_closed() {
            assert_eq!(seen, [1, 2]);
        }
        thread.join().unwrap();
        seen.extend(batch(&mut consumer));
        assert!(consumer.is_closed());
        assert_eq!(seen, [1, 2]);
    });
}

/// Pins `consumer_gone`: Release in `Consumer::drop`, Acquire in `Producer::is_closed`. Without either, the producer
/// sees the consumer gone and counts items as unread that were taken.
#[test]
fn a_producer_that_sees_the_consumer_gone_counts_exactly() {
    model(|| {
        let (mut producer, mut consumer) = ring(4);
        producer.push(1).unwrap();
        producer.push(2).unwrap();
        let thread = thread::spawn(move || assert_eq!(consumer.pop(), Some(1)));
        if producer.is_closed() {
            assert_eq!(producer.free(), 3);
        }
        thread.join().unwrap();
        assert!(producer.is_closed());
    });
}

/// Pins the Relaxed loads in the ring's own drop: whichever side goes last, every item is dropped once: taken,
/// published, and staged ones.
#[test]
fn whichever_side_goes_last_every_item_is_dropped_once() {
    model(|| {
        let drops = Arc::new(AtomicUsize::new(0));
        let (mut producer, mut consumer) = ring_at(4, usize::MAX);
        producer.push(Counted(Arc::clone(&drops))).ok().unwrap();
        let staged = Counted(Arc::clone(&drops));
        let thread = thread::spawn(move || {
            producer.push(Counted(Arc::clone(&staged.0))).ok().unwrap();
            producer.stage(staged).ok().unwrap();
        });
        drop(consumer.pop());
        drop(consumer);
        thread.join().unwrap();
        assert_eq!(drops.load(Ordering::Relaxed), 3);
    });
}
