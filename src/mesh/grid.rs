//! The mesh of workers: a ring for every ordered pair, and a port for every worker.
//!
//! ```text
//!   worker 0 ── send ─▶ ring 0→1 ── receive ─▶ worker 1        one turn of a worker:
//!            ◀─ receive ─ ring 1→0 ◀── send ──                 receive … send … flush … prepare_sleep
//! ```
//! Sent messages are staged and leave together at [`Port::flush`]: one index store per ring, one fence per turn, and
//! a wake only for workers that sleep.

use super::doorbell::Doorbell;
use super::ring::{Consumer, Producer, ring};
use super::sync::Arc;

/// How a sleeping thread is woken from another one. A wake that comes before the sleep must end that sleep at once.
pub trait Wake: Clone + Send {
    fn wake(&self);
}

impl Wake for crate::engine::Waker {
    fn wake(&self) {
        crate::engine::Waker::wake(self);
    }
}

/// For consumers that sleep in [`std::thread::park`].
impl Wake for std::thread::Thread {
    fn wake(&self) {
        self.unpark();
    }
}

/// The doorbell of one worker with the waker behind it. All who give work to the worker share one bell: the ports of
/// the other workers and the senders of its inboxes.
#[derive(Clone)]
pub struct Bell<W> {
    door: Arc<Doorbell>,
    waker: W,
}

impl<W: Wake> Bell<W> {
    pub fn new(waker: W) -> Self {
        Self { door: Arc::new(Doorbell::new()), waker }
    }

    /// After work was made visible: wakes the worker if it sleeps.
    #[inline]
    pub fn ring(&self) {
        if self.door.ring() {
            self.waker.wake();
        }
    }

    fn ring_after_fence(&self) {
        if self.door.ring_after_fence() {
            self.waker.wake();
        }
    }
}

/// The rings to and from one other worker.
struct Peer<T> {
    outgoing: Producer<T>,
    incoming: Consumer<T>,
}

/// Messages since the start, by the port's own worker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    pub sent: u64,
    /// Messages that found their ring full and were given back.
    pub full: u64,
    pub received: u64,
}

/// One worker's access to the mesh. It moves to the worker's thread and stays there.
pub struct Port<T, W> {
    id: usize,
    /// By worker; `None` at the own place: a worker calls itself directly.
    peers: Box<[Option<Peer<T>>]>,
    /// By worker, the own one included.
    bells: Box<[Bell<W>]>,
    /// Peers with staged messages, each once.
    touched: Vec<usize>,
    /// Where the next [`Port::receive`] begins, so that no peer is always served last.
    start: usize,
    counters: Counters,
}

/// Makes the ports of `workers` workers, joined by rings of `slots` slots; `wakers` are theirs, in order.
///
/// # Panics
/// If `wakers` are not as many as `workers`, or `slots` is no power of two.
pub fn grid<T, W: Wake>(workers: usize, slots: usize, wakers: Vec<W>) -> Vec<Port<T, W>> {
    joined(workers, wakers, |_, _, _| ring(slots))
}

/// The same with rings made by `join`, which is given the number of the sender, that of the receiver, and the
/// receiver's bell. What the producer is given must come out of the consumer, in order, at some time.
pub(super) fn joined<T, W: Wake>(
    workers: usize,
    wakers: Vec<W>,
    mut join: impl FnMut(usize, usize, &Bell<W>) -> (Producer<T>, Consumer<T>),
) -> Vec<Port<T, W>> {
    assert_eq!(wakers.len(), workers, "each worker needs one waker");
    let bells: Box<[Bell<W>]> = wakers.into_iter().map(Bell::new).collect();
    let mut ports: Vec<Port<T, W>> = (0..workers)
        .map(|id| Port {
            id,
            peers: (0..workers).map(|_| None).collect(),
            bells: bells.clone(),
            touched: Vec::with_capacity(workers),
            start: 0,
            counters: Counters::default(),
        })
        .collect();
    for one in 0..workers {
        for other in one + 1..workers {
            let (there, arrives_there) = join(one, other, &bells[other]);
            let (back, arrives_back) = join(other, one, &bells[one]);
            ports[one].peers[other] = Some(Peer { outgoing: there, incoming: arrives_back });
            ports[other].peers[one] = Some(Peer { outgoing: back, incoming: arrives_there });
        }
    }
    ports
}

impl<T, W: Wake> Port<T, W> {
    /// The number of this worker.
    pub fn id(&self) -> usize {
        self.id
    }

    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Workers in the mesh, this one included.
    pub fn workers(&self) -> usize {
        self.peers.len()
    }

    /// This worker's bell, for its inboxes.
    pub fn bell(&self) -> Bell<W> {
        self.bells[self.id].clone()
    }

    /// Stages a message to another worker; it leaves at the next [`Port::flush`].
    ///
    /// # Errors
    /// Gives the message back if the ring is full. The sender keeps it and stops taking what would produce more.
    ///
    /// # Panics
    /// If `to` is this worker or no worker.
    #[inline]
    pub fn send(&mut self, to: usize, message: T) -> Result<(), T> {
        let peer = self.peers[to].as_mut().expect("invariant: a worker sends to others and calls itself directly");
        let first = peer.outgoing.staged() == 0;
        if let Err(message) = peer.outgoing.stage(message) {
            self.counters.full += 1;
            return Err(message);
        }
        self.counters.sent += 1;
        if first {
            self.touched.push(to);
        }
        Ok(())
    }

    /// Messages that surely can be sent to `to` now; 0 for the own number. Reads the other worker's cache line.
    pub fn free(&mut self, to: usize) -> usize {
        self.peers[to].as_mut().map_or(0, |peer| peer.outgoing.free())
    }

    /// Publishes everything sent since the last flush, and wakes those receivers that sleep.
    pub fn flush(&mut self) {
        if self.touched.is_empty() {
            return;
        }
        for &to in &self.touched {
            if let Some(peer) = &mut self.peers[to] {
                peer.outgoing.publish();
            }
        }
        Doorbell::published();
        for &to in &self.touched {
            self.bells[to].ring_after_fence();
        }
        self.touched.clear();
    }

    /// Takes at most `limit` messages and hands each with its sender to `handle`; the peer to begin with changes from
    /// call to call. Returns how many were taken. To answer from the handler, collect first and send afterwards.
    pub fn receive(&mut self, limit: usize, mut handle: impl FnMut(usize, T)) -> usize {
        let workers = self.peers.len();
        let mut left = limit;
        for offset in 0..workers {
            let from = (self.start + offset) % workers;
            let Some(peer) = &mut self.peers[from] else { continue };
            left -= peer.incoming.drain(left, |message| handle(from, message));
        }
        self.start = (self.start + 1) % workers;
        self.counters.received += (limit - left) as u64;
        limit - left
    }

    /// Whether a message waits to be received.
    pub fn has_pending(&mut self) -> bool {
        self.peers.iter_mut().flatten().any(|peer| !peer.incoming.is_empty())
    }

    /// Flushes and announces sleep. False if something arrived: do not sleep. After true, the worker looks at its
    /// inboxes too (they share the bell), and sleeps only if they are empty; [`Port::awake`] follows in any case.
    #[must_use = "a worker with pending messages must not sleep"]
    pub fn prepare_sleep(&mut self) -> bool {
        self.flush();
        self.bells[self.id].door.prepare_sleep();
        if self.has_pending() {
            self.awake();
            return false;
        }
        true
    }

    /// The worker is awake: senders need not wake it. To be called after every sleep, whatever ended it.
    pub fn awake(&self) {
        self.bells[self.id].door.cancel();
    }

    /// Whether the other worker has dropped its port: messages to it are read by nobody.
    pub fn is_gone(&self, worker: usize) -> bool {
        self.peers[worker].as_ref().is_some_and(|peer| peer.outgoing.is_closed())
    }
}
