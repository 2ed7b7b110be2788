//! The way in for threads that are no workers: a bounded queue from many senders into one worker.
//!
//! An inbox shares the bell of its worker's [`Port`](super::grid::Port), so the worker sleeps once for all its
//! sources: [`prepare_sleep`](super::grid::Port::prepare_sleep), then [`Inbox::is_empty`], then the wait.

use super::grid::{Bell, Wake};
use super::sync::{Arc, ArrayQueue, AtomicBool, Ordering};

struct Shared<T> {
    queue: ArrayQueue<T>,
    /// Set once, when the inbox is dropped.
    closed: AtomicBool,
}

/// Gives messages to one worker, from any thread.
pub struct Sender<T, W> {
    shared: Arc<Shared<T>>,
    bell: Bell<W>,
}

impl<T, W: Wake> Clone for Sender<T, W> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared), bell: self.bell.clone() }
    }
}

/// What a worker receives from other threads.
pub struct Inbox<T> {
    shared: Arc<Shared<T>>,
}

/// Makes an inbox of `slots` messages behind a worker's bell ([`Port::bell`](super::grid::Port::bell)).
///
/// # Panics
/// If `slots` is 0.
pub fn inbox<T, W: Wake>(slots: usize, bell: Bell<W>) -> (Sender<T, W>, Inbox<T>) {
    let shared = Arc::new(Shared { queue: ArrayQueue::new(slots), closed: AtomicBool::new(false) });
    (Sender { shared: Arc::clone(&shared), bell }, Inbox { shared })
}

impl<T, W: Wake> Sender<T, W> {
    /// Puts a message in and wakes the worker if it sleeps.
    ///
    /// # Errors
    /// Gives the message back if the inbox is full.
    pub fn send(&self, message: T) -> Result<(), T> {
        self.shared.queue.push(message)?;
        self.bell.ring();
        Ok(())
    }

    /// Whether the worker has dropped its inbox: messages are read by nobody.
    pub fn is_closed(&self) -> bool {
        // ORDERING: Relaxed, pairs with the store in `Inbox::drop`: the flag carries no data, and a message that slips
        // in before it is dropped with the queue.
        self.shared.closed.load(Ordering::Relaxed)
    }
}

impl<T> Inbox<T> {
    /// Takes at most `limit` messages, oldest first. Returns how many were taken.
    pub fn receive(&self, limit: usize, mut handle: impl FnMut(T)) -> usize {
        let mut taken = 0;
        while taken < limit {
            let Some(message) = self.shared.queue.pop() else { break };
            taken += 1;
            handle(message);
        }
        taken
    }

    /// Whether nothing waits. Meaningful for sleeping only after the port's `prepare_sleep`.
    pub fn is_empty(&self) -> bool {
        self.shared.queue.is_empty()
    }
}

impl<T> Drop for Inbox<T> {
    fn drop(&mut self) {
        // ORDERING: Relaxed, pairs with the load in `Sender::is_closed`.
        self.shared.closed.store(true, Ordering::Relaxed);
    }
}
