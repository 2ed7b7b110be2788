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
use std::ptr::NonNull;
use std::slice;

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

/// Where the slots are. Each side keeps a copy beside its indices: the way by [`Shared`] costs two more reads an item.
struct Slots<T> {
    first: NonNull<UnsafeCell<MaybeUninit<T>>>,
    /// One less than their number, which is a power of two.
    mask: usize,
}

// SAFETY: a `Slots` only finds slots; what may be done to one of them is argued at each access, and needs `T: Send`.
unsafe impl<T: Send> Send for Slots<T> {}

impl<T> Slots<T> {
    fn of(shared: &Shared<T>) -> Self {
        let slots = NonNull::from(&*shared.slots);
        Self { first: slots.cast(), mask: slots.len() - 1 }
    }

    /// The slot of an index.
    ///
    /// # Safety
    /// The [`Shared`] that the slots are of is alive.
    #[inline]
    unsafe fn of_index(&self, index: usize) -> &UnsafeCell<MaybeUninit<T>> {
        // SAFETY: the caller keeps the slots alive, where they never move, and the mask is the greatest place.
        unsafe { self.first.add(index & self.mask).as_ref() }
    }

    /// The slots of `count` indices as two runs of neighbours: to the end of the ring, and on from its beginning.
    ///
    /// # Safety
    /// The [`Shared`] that the slots are of is alive for `'a`, and `count` is at most their number.
    #[inline]
    unsafe fn runs<'a>(&self, index: usize, count: usize) -> [&'a [UnsafeCell<MaybeUninit<T>>]; 2] {
        let start = index & self.mask;
        let to_end = count.min(self.mask + 1 - start);
        // SAFETY: the caller keeps the slots alive; `start + to_end` and `count - to_end` are at most their number.
        unsafe {
            let run = |from: usize, len: usize| slice::from_raw_parts(self.first.add(from).as_ptr(), len);
            [run(start, to_end), run(0, count - to_end)]
        }
    }
}

impl<T> Drop for Shared<T> {
    fn drop(&mut self) {
        // ORDERING: both Relaxed: the reference count of `Arc` ordered every access of both sides before this drop.
        let (mut head, tail) = (self.head.load(Ordering::Relaxed), self.tail.load(Ordering::Relaxed));
        while head != tail {
            // SAFETY: both sides stored their indices when they were dropped, so `head..tail` are exactly the items
            // that were written and not taken; `&mut self` excludes any other access.
            self.slots[head & (self.slots.len() - 1)].with_mut(|slot| unsafe { (*slot).assume_init_drop() });
            head = head.wrapping_add(1);
        }
    }
}

/// The writing side. Dropping it publishes what is staged and closes the ring.
pub struct Producer<T> {
    slots: Slots<T>,
    shared: Arc<Shared<T>>,
    /// Where the next item is written; runs ahead of `published` by what is staged.
    staged: usize,
    /// The value of `tail`, always in sync because nobody else writes it.
    published: usize,
    /// Where the ring is full: the last `head` that was read and one round further. It may be stale, and then shows too
    /// few free slots, never too many.
    full_at: usize,
}

/// The reading side. Dropping it releases what was popped and closes the ring.
pub struct Consumer<T> {
    slots: Slots<T>,
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
    let full_at = start.wrapping_add(capacity);
    let slots = Slots::of(&shared);
    let producer = Producer { slots, shared: Arc::clone(&shared), staged: start, published: start, full_at };
    let slots = Slots::of(&shared);
    (producer, Consumer { slots, shared, next: start, released: start, tail_seen: start })
}

impl<T> Producer<T> {
    /// Writes an item behind the others without showing it to the consumer yet; see [`Producer::publish`].
    ///
    /// # Errors
    /// Gives the item back if every slot is taken. Staged items stay staged: publish them, so that the consumer can
    /// make room.
    #[inline]
    pub fn stage(&mut self, item: T) -> Result<(), T> {
        if self.staged == self.full_at && self.free() == 0 {
            return Err(item);
        }
        // SAFETY: `staged` is outside `head..tail`, because fewer than `capacity` slots lie between the consumer's
        // head and it (`full_at` is at most one round behind that head), and only this producer writes outside
        // `head..tail`. `shared` keeps the slots alive.
        unsafe { self.slots.of_index(self.staged).with_mut(|slot| (*slot).write(item)) };
        self.staged = self.staged.wrapping_add(1);
        Ok(())
    }

    /// Stages as many of the items as there is room for; how many. The others are never asked for.
    #[inline]
    pub fn stage_all(&mut self, items: impl ExactSizeIterator<Item = T>) -> usize {
        if self.full_at.wrapping_sub(self.staged) < items.len() {
            self.free();
        }
        let before = self.staged;
        let count = items.len().min(self.full_at.wrapping_sub(before));
        let mut items = items.take(count);
        // SAFETY: `shared` keeps the slots alive.
        for run in unsafe { self.slots.runs(before, count) } {
            for (slot, item) in run.iter().zip(&mut items) {
                // SAFETY: as in `stage`: `count` slots from `staged` on are free, and each is written once.
                slot.with_mut(|slot| unsafe { (*slot).write(item) });
                self.staged = self.staged.wrapping_add(1);
            }
        }
        self.staged.wrapping_sub(before)
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
        self.full_at = self.shared.head.load(Ordering::Acquire).wrapping_add(self.capacity());
        self.full_at.wrapping_sub(self.staged)
    }

    /// Items that are staged and not yet published.
    #[inline]
    pub fn staged(&self) -> usize {
        self.staged.wrapping_sub(self.published)
    }

    /// Slots of the ring.
    pub fn capacity(&self) -> usize {
        self.slots.mask + 1
    }

    /// Whether the consumer is gone: what is staged or pushed from now on is read by nobody.
    pub fn is_closed(&self) -> bool {
        // ORDERING: Acquire, pairs with the Release store in `Consumer::drop`: a producer that sees the consumer gone
        // also sees its last `head`, so `free` is exact from then on.
        self.shared.consumer_gone.load(Ordering::Acquire)
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
        // `drop` of the ring begins at the released head. `shared` keeps the slots alive.
        let item = unsafe { self.slots.of_index(self.next).with(|slot| (*slot).assume_init_read()) };
        self.next = self.next.wrapping_add(1);
        Some(item)
    }

    /// Takes at most `limit` items, gives each to `each` and releases their slots together. Returns how many there were.
    /// The other index is read once, and not at all if enough is known to be there.
    #[inline]
    pub fn drain(&mut self, limit: usize, mut each: impl FnMut(T)) -> usize {
        if self.tail_seen.wrapping_sub(self.next) < limit {
            self.refresh();
        }
        let count = limit.min(self.tail_seen.wrapping_sub(self.next));
        // SAFETY: `shared` keeps the slots alive.
        for run in unsafe { self.slots.runs(self.next, count) } {
            for slot in run {
                // Should `each` panic, what it was given is gone and the rest stays: `next` moves on first.
                self.next = self.next.wrapping_add(1);
                // SAFETY: as in `pop`: `count` items lie between `next` and a `tail` that was loaded with Acquire.
                each(slot.with(|slot| unsafe { (*slot).assume_init_read() }));
            }
        }
        self.release();
        count
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
