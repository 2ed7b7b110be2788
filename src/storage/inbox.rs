//! The way into the storage thread: orders from workers, admin and supervisor, replies from the database server.
//!
//! Nobody who sends ever blocks, and the executor sleeps until somebody sends: the first sender after a sleep wakes
//! the desk's task through a waker that the executor made for other threads. What glommio makes of it in rare cases, and
//! the remedy: `HEARTBEATS_MS` in `executor/glommio.rs`.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use crossbeam::queue::ArrayQueue;

use super::unit::Order;
use crate::database::contract::Reply;

/// Requests that the storage thread may have with the database server at a time; the queue of replies has as many
/// slots, so that a reply always finds one.
pub(super) const REPLIES_MAX: usize = 256;

pub(super) struct Inbox {
    orders: ArrayQueue<Order>,
    replies: ArrayQueue<Reply>,
    stopping: AtomicBool,
    /// Something was sent since the desk last looked, and the desk was woken for it.
    rung: AtomicBool,
    waker: Mutex<Option<Waker>>,
}

impl Inbox {
    pub fn new(orders_max: usize) -> Self {
        Self {
            orders: ArrayQueue::new(orders_max.max(1)),
            replies: ArrayQueue::new(REPLIES_MAX),
            stopping: AtomicBool::new(false),
            rung: AtomicBool::new(false),
            waker: Mutex::new(None),
        }
    }

    /// Gives the order back if the queue is full or the unit stops. Whoever pushes rings afterwards.
    pub fn push(&self, order: Order) -> Result<(), Order> {
        if self.is_stopping() { Err(order) } else { self.orders.push(order) }
    }

    /// Takes a reply of the database server.
    pub fn reply(&self, reply: Reply) {
        // A reply without a slot answers no request of ours, see REPLIES_MAX; nobody waits for it.
        if self.replies.push(reply).is_ok() {
            self.ring();
        }
    }

    pub fn stop(&self) {
        self.stopping.store(true, Ordering::SeqCst);
        self.ring();
    }

    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::SeqCst)
    }

    /// Wakes the desk unless that has happened since it last looked.
    ///
    /// No wake is lost: what is sent before the desk's `rung.swap(false)` in [`Self::listen`] is seen by that look,
    /// because both swaps are ordered; what is sent after it finds `rung` false and wakes.
    pub fn ring(&self) {
        if !self.rung.swap(true, Ordering::AcqRel)
            && let Some(waker) = self.waker().as_ref()
        {
            waker.wake_by_ref();
        }
    }

    /// Says whom to wake. The desk looks into the queues after this call.
    pub fn listen(&self, waker: &Waker) {
        let mut slot = self.waker();
        if !slot.as_ref().is_some_and(|known| known.will_wake(waker)) {
            *slot = Some(waker.clone());
        }
        drop(slot);
        self.rung.swap(false, Ordering::AcqRel);
    }

    /// The executor ends: from here on nobody touches its tasks.
    pub fn close(&self) {
        self.stop();
        *self.waker() = None;
    }

    pub fn next_order(&self) -> Option<Order> {
        self.orders.pop()
    }

    pub fn next_reply(&self) -> Option<Reply> {
        self.replies.pop()
    }

    pub fn orders_waiting(&self) -> usize {
        self.orders.len()
    }

    fn waker(&self) -> MutexGuard<'_, Option<Waker>> {
        self.waker.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
