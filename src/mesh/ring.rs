//! A bounded ring between one producer and one consumer, made for batches.
//!
//! ```text
//!            head                 tail          staged
//!             │ published, unread  │ written,     │
//!   ──────────┼────────────────────┼──────────────┼───────── indices only grow; slot = index & mask
//!     free    │ a batch's pops     │ unpublished  │   free
//!             └──▶ next            └──────────────┘
//!             consumer's line      producer's line
//! ```
//! The producer *stages* items and then *publishes* them with one store of `tail`; the consumer *pops* items and then
//! *releases* their slots with one store of `head`. Each side keeps a copy of the other's index and reads the
//! other's cache line only when the copy says full or empty, so a batch costs one line transfer each way.
//!
//! Architecture invariant: an item is owned by exactly one of producer, ring and consumer; nothing blocks, nothing is
//! allocated after [`ring`]. All primitives come from `super::sync`, so that loom can check this very file.

use std::mem::MaybeUninit;

use super::sync::{Arc, AtomicBool, AtomicUsize, CachePadded, Ordering, UnsafeCell};

/// What both sides share.
struct Shared<T> {
    /// Index of the first slot that is not released. Written by the consumer only.
    head: CachePadded<AtomicUsize>,
    /// Index behind the last published item. Written by the producer only.
    tail: CachePadded<AtomicUsize>,
    /// Set once, when the producer is dropped, after its last store of `tail`.
    producer_gone: AtomicBool,
    /// Set once, when the consumer is dropped, after its last store of `head`.
    consumer_gone: AtomicBool,
    /// A power of two of slots. The producer alone touches those outside `head..tail`, the consumer those inside.
    slots: Box<[UnsafeCell<MaybeUninit<T>>]>,
}

// SAFETY: the ring hands each item from one thread to another exactly once (hence `T: Send`), and the protocol of
// `head` and `tail` gives every slot to one side at a time, so a shared `Shared` never allows two accesses at once.
unsafe impl<T: Send> Send for Shared<T> {}
// SAFETY: as for `Send`; no `&T` is ever shared between threads, so `T: Sync` is not needed.
unsafe impl<T: Send> Sync for Shared<T> {}

impl<T> Shared<T> {
    fn slot(&self, index: usize) -> &UnsafeCell<MaybeUninit<T>> {
        &self.slots[index & (self.slots.len() - 1)]
    }
}

impl<T> Drop for Shared<T> {
    fn drop(&mut self) {
        // ORDERING: both Relaxed: the reference count of `Arc` ordered every access of both sides before this drop.
        let (mut head, tail) = (self.head.load(Ordering::Relaxed), self.tail.load(Ordering::Relaxed));
        while head != tail {
            // SAFETY: both sides stored their indices when they were dropped, so `head..tail` are exactly the items
            // that were written and not taken; `&mut self` excludes any other access.
            self.slot(head).with_mut(|slot| unsafe { (*slot).assume_init_drop() });
            head = head.wrapping_add(1);
        }
    }
}

/// The writing side. Dropping it publishes what is staged and closes the ring.
pub struct Producer<T> {
    shared: Arc<Shared<T>>,
    /// Where the next item is written; runs ahead of `published` by what is staged.
    staged: usize,
    /// The value of `tail`, always in sync because nobody else writes it.
    published: usize,
    /// The last `head` that was read: may be stale, and then shows too few free slots, never too many.
    head_seen: usize,
}

/// The reading side. Dropping it releases what was popped and closes the ring.
pub struct Consumer<T> {
    shared: Arc<Shared<T>>,
    /// Where the next item is read; runs ahead of `released` by what was popped in this batch.
    next: usize,
    /// The value of `head`, always in sync because nobody else writes it.
    released: usize,
    /// The last `tail` that was read: may be stale, and then shows too few items, never too many.
    tail_seen: usize,
}

/// Makes a ring of `capacity` slots, all memory taken at once.
///
/// # Panics
/// If `capacity` is no power of two.
pub fn ring<T>(capacity: usize) -> (Producer<T>, Consumer<T>) {
    ring_at(capacity, 0)
}

/// The same with indices that start anywhere: how tests reach the overflow of the indices.
pub(super) fn ring_at<T>(capacity: usize, start: usize) -> (Producer<T>, Consumer<T>) {
    assert!(capacity.is_power_of_two(), "a ring needs a power of two of slots, not {capacity}");
    let shared = Arc::new(Shared {
        head: CachePadded::new(AtomicUsize::new(start)),
        tail: CachePadded::new(AtomicUsize::new(start)),
        producer_gone: AtomicBool::new(false),
        consumer_gone: AtomicBool::new(false),
        slots: (0..capacity).map(|_| UnsafeCell::new(MaybeUninit::uninit())).collect(),
    });
    let producer = Producer { shared: Arc::clone(&shared), staged: start, published: start, head_seen: start };
    (producer, Consumer { shared, next: start, released: start, tail_seen: start })
}

impl<T> Producer<T> {
    /// Writes an item behind the others without showing it to the consumer yet; see [`Producer::publish`].
    ///
    /// # Errors
    /// Gives the item back if every slot is taken. Staged items stay staged: publish them, so that the consumer can
    /// make room.
    #[inline]
    pub fn stage(&mut self, item: T) -> Result<(), T> {
        if self.free_seen() == 0 && self.free() == 0 {
            return Err(item);
        }
        // SAFETY: `staged` is outside `head..tail`, because fewer than `capacity` slots lie between the consumer's
        // head and it (`head_seen` is at most that head), and only this producer writes outside `head..tail`.
        self.shared.slot(self.staged).with_mut(|slot| unsafe { (*slot).write(item) });
        self.staged = self.staged.wrapping_add(1);
        Ok(())
    }

    /// Shows everything staged to the consumer, with one store. Returns whether something became visible.
    #[inline]
    pub fn publish(&mut self) -> bool {
        if self.staged == self.published {
            return false;
        }
        // ORDERING: Release, pairs with the Acquire load of `tail` in `Consumer::refresh`: a consumer that sees the
        // index sees the items in the slots before it.
        self.shared.tail.store(self.staged, Ordering::Release);
        self.published = self.staged;
        true
    }

    /// Stages one item and publishes.
    ///
    /// # Errors
    /// Gives the item back if every slot is taken; what was staged before is published all the same.
    #[inline]
    pub fn push(&mut self, item: T) -> Result<(), T> {
        let outcome = self.stage(item);
        self.publish();
        outcome
    }

    /// Free slots now, at least: the consumer may release more at any time. Reads the consumer's cache line.
    #[inline]
    pub fn free(&mut self) -> usize {
        // ORDERING: Acquire, pairs with the Release store of `head` in `Consumer::release`: the consumer's reads of
        // the released slots happened before this producer writes them again.
        self.head_seen = self.shared.head.load(Ordering::Acquire);
        self.free_seen()
    }

    /// Items that are staged and not yet published.
    #[inline]
    pub fn staged(&self) -> usize {
        self.staged.wrapping_sub(self.published)
    }

    /// Slots of the ring.
    pub fn capacity(&self) -> usize {
        self.shared.slots.len()
    }

    /// Whether the consumer is gone: what is staged or pushed from now on is read by nobody.
    pub fn is_closed(&self) -> bool {
        // ORDERING: Acquire, pairs with the Release store in `Consumer::drop`: a producer that sees the consumer gone
        // also sees its last `head`, so `free` is exact from then on.
        self.shared.consumer_gone.load(Ordering::Acquire)
    }

    fn free_seen(&self) -> usize {
        self.shared.slots.len() - self.staged.wrapping_sub(self.head_seen)
    }
}

impl<T> Drop for Producer<T> {
    fn drop(&mut self) {
        self.publish();
        // ORDERING: Release, pairs with the Acquire load in `Consumer::is_closed`: a consumer that sees the producer
        // gone also sees its last `tail`, so no item is left behind.
        self.shared.producer_gone.store(true, Ordering::Release);
    }
}

impl<T> Consumer<T> {
    /// Takes the next item. Its slot stays taken until [`Consumer::release`], so that a batch costs one store.
    #[inline]
    pub fn pop(&mut self) -> Option<T> {
        if self.next == self.tail_seen && !self.refresh() {
            return None;
        }
        // SAFETY: `next` lies before a `tail` that was loaded with Acquire, so its item is written and visible; it is
        // not before `released`, so the producer leaves the slot alone; it is read once, because `next` moves on and
        // `drop` of the ring begins at the released head.
        let item = self.shared.slot(self.next).with(|slot| unsafe { (*slot).assume_init_read() });
        self.next = self.next.wrapping_add(1);
        Some(item)
    }

    /// Gives the slots of all popped items back to the producer, with one store.
    #[inline]
    pub fn release(&mut self) {
        if self.next == self.released {
            return;
        }
        // ORDERING: Release, pairs with the Acquire load of `head` in `Producer::free`: the reads of the popped slots
        // happened before the producer may write them again.
        self.shared.head.store(self.next, Ordering::Release);
        self.released = self.next;
    }

    /// Whether nothing is published that was not popped. Reads the producer's cache line when in doubt.
    #[inline]
    pub fn is_empty(&mut self) -> bool {
        self.next == self.tail_seen && !self.refresh()
    }

    /// Whether the producer is gone and everything it published has been popped: nothing comes any more.
    pub fn is_closed(&mut self) -> bool {
        // ORDERING: Acquire, pairs with the Release store in `Producer::drop`; the `tail` read after it is the last.
        self.shared.producer_gone.load(Ordering::Acquire) && self.is_empty()
    }

    /// Reads the producer's index again; whether it shows more items than were popped.
    fn refresh(&mut self) -> bool {
        // ORDERING: Acquire, pairs with the Release store of `tail` in `Producer::publish`: the items before the index
        // are visible.
        self.tail_seen = self.shared.tail.load(Ordering::Acquire);
        self.next != self.tail_seen
    }
}

impl<T> Drop for Consumer<T> {
    fn drop(&mut self) {
        self.release();
        // ORDERING: Release, pairs with the Acquire load in `Producer::is_closed`: the last `head` comes before.
        self.shared.consumer_gone.store(true, Ordering::Release);
    }
}
