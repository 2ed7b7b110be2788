//! The names of `src/mesh/sync.rs` for loom's primitives.

use std::mem::MaybeUninit;
use std::ops::Deref;

use loom::thread;

pub use loom::cell::UnsafeCell;
pub use loom::sync::Arc;
pub use loom::sync::atomic::{AtomicBool, AtomicUsize, Ordering, fence};

/// Padding means nothing to a model.
pub struct CachePadded<T>(T);

impl<T> CachePadded<T> {
    pub fn new(value: T) -> Self {
        Self(value)
    }
}

impl<T> Deref for CachePadded<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

/// Stands in for `crossbeam::queue::ArrayQueue`, which is not written over loom: the same algorithm (Dmitry Vyukov's
/// bounded queue) with the weakest orderings that it allows. What is proven over it holds over crossbeam's, whose indices
/// are SeqCst.
pub struct ArrayQueue<T> {
    head: AtomicUsize,
    tail: AtomicUsize,
    slots: Box<[Slot<T>]>,
}

/// Its turn says whose it is: the push with that number, or one more, the pop.
struct Slot<T> {
    turn: AtomicUsize,
    value: UnsafeCell<MaybeUninit<T>>,
}

// SAFETY: a slot's turn gives it to one push and then to one pop, so its value is never touched by two at once.
unsafe impl<T: Send> Send for ArrayQueue<T> {}
// SAFETY: as for `Send`.
unsafe impl<T: Send> Sync for ArrayQueue<T> {}

impl<T> ArrayQueue<T> {
    pub fn new(capacity: usize) -> Self {
        assert!(capacity > 1, "turns of a push and a pop would be the same");
        let slot = |turn| Slot { turn: AtomicUsize::new(turn), value: UnsafeCell::new(MaybeUninit::uninit()) };
        Self { head: AtomicUsize::new(0), tail: AtomicUsize::new(0), slots: (0..capacity).map(slot).collect() }
    }

    pub fn push(&self, value: T) -> Result<(), T> {
        loop {
            let tail = self.tail.load(Ordering::Relaxed);
            let slot = &self.slots[tail % self.slots.len()];
            let turn = slot.turn.load(Ordering::Acquire);
            if turn == tail {
                if self.tail.compare_exchange(tail, tail + 1, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
                    // SAFETY: the exchange gave this push the slot until it stores the next turn.
                    slot.value.with_mut(|place| unsafe { (*place).write(value) });
                    slot.turn.store(tail + 1, Ordering::Release);
                    return Ok(());
                }
            } else if turn + self.slots.len() == tail + 1 {
                return Err(value);
            }
            thread::yield_now();
        }
    }

    pub fn pop(&self) -> Option<T> {
        loop {
            let head = self.head.load(Ordering::Relaxed);
            let slot = &self.slots[head % self.slots.len()];
            let turn = slot.turn.load(Ordering::Acquire);
            if turn == head + 1 {
                if self.head.compare_exchange(head, head + 1, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
                    // SAFETY: the exchange gave this pop the slot, which the push of this turn has written.
                    let value = slot.value.with(|value| unsafe { (*value).assume_init_read() });
                    slot.turn.store(head + self.slots.len(), Ordering::Release);
                    return Some(value);
                }
            } else if self.tail.load(Ordering::Relaxed) == head {
                return None;
            }
            thread::yield_now();
        }
    }

    pub fn is_empty(&self) -> bool {
        self.head.load(Ordering::Relaxed) == self.tail.load(Ordering::Relaxed)
    }
}

impl<T> Drop for ArrayQueue<T> {
    fn drop(&mut self) {
        while self.pop().is_some() {}
    }
}
