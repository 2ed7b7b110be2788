//! How a producer knows that the consumer sleeps and must be woken, with no system call while it is awake.
//!
//! ```text
//!   consumer                          producer
//!   sleeping = true                   publish the items
//!   fence(SeqCst)          ◀──▶       fence(SeqCst)
//!   queues empty? sleep : cancel      sleeping? take it and wake
//! ```
//! This is Dekker's protocol: the two fences are ordered one way or the other, so at least one side sees the other's
//! store. Either the consumer sees the items and does not sleep, or the producer sees the sleeper and wakes it.
//!
//! Why a producer that finds `sleeping` already taken may go without a wake: if the consumer missed its items, the
//! consumer's fence came first, so the producer sees this announcement or a later value. A later value is the taking
//! of this very sleep by another producer, which wakes the consumer after it.

use super::sync::{AtomicBool, CachePadded, Ordering, fence};

/// The bell at one consumer's door. Any number of producers may ring it.
pub struct Doorbell {
    /// Set by the consumer before it sleeps; taken by the producer that will wake it, so that one wake is enough.
    sleeping: CachePadded<AtomicBool>,
}

impl Default for Doorbell {
    fn default() -> Self {
        Self::new()
    }
}

impl Doorbell {
    /// A bell whose consumer is awake.
    pub fn new() -> Self {
        Self { sleeping: CachePadded::new(AtomicBool::new(false)) }
    }

    /// Consumer: announces sleep. It must look at all its queues after this call and before it sleeps, and
    /// [`cancel`](Self::cancel) if one of them holds something.
    #[inline]
    pub fn prepare_sleep(&self) {
        // ORDERING: Relaxed, pairs with the exchange in `ring_after_fence`; the fence below orders it before the look at
        // the queues. An exchange and not a store, so that it reads the taking that it follows: C11 orders the two
        // without that, loom does not model it, and a proof by machine is worth one locked instruction per sleep.
        self.sleeping.swap(true, Ordering::Relaxed);
        // ORDERING: SeqCst, pairs with the fence in `published`: the store above and the look at the queues that
        // follows may not change places.
        fence(Ordering::SeqCst);
    }

    /// Consumer: is awake again, or did not sleep. A wake may still be on its way; it is harmless.
    #[inline]
    pub fn cancel(&self) {
        // ORDERING: both Relaxed: a producer that still sees the old value wakes a consumer that is awake, no more. The load
        // comes first because most turns did not sleep and leave the line as it is; an exchange and not a store for the
        // reason given in `prepare_sleep`.
        if self.sleeping.load(Ordering::Relaxed) {
            self.sleeping.swap(false, Ordering::Relaxed);
        }
    }

    /// Producer: after its items are visible. Whether the caller must wake the consumer; true for one producer only.
    #[inline]
    #[must_use = "the consumer sleeps on unless it is woken"]
    pub fn ring(&self) -> bool {
        Self::published();
        self.ring_after_fence()
    }

    /// Producer: the fence of [`ring`](Self::ring) alone, once for items published to several consumers.
    #[inline]
    pub fn published() {
        // ORDERING: SeqCst, pairs with the fence in `prepare_sleep`: the publication before it and the look at
        // `sleeping` after it may not change places.
        fence(Ordering::SeqCst);
    }

    /// Producer: [`ring`](Self::ring) for a caller that has called [`published`](Self::published) since it published.
    #[inline]
    #[must_use = "the consumer sleeps on unless it is woken"]
    pub fn ring_after_fence(&self) -> bool {
        // ORDERING: both Relaxed, pair with the exchange in `prepare_sleep`: the fence in `published` orders them, the
        // items travel by their own queue, and of several producers the exchange picks one. The load comes first to
        // keep the line shared while the consumer is awake.
        self.sleeping.load(Ordering::Relaxed) && self.sleeping.swap(false, Ordering::Relaxed)
    }
}
