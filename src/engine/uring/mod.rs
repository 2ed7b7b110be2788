//! The engine on a raw io_uring: the data plane of every worker.
//!
//! ```text
//!   orders ─▶ slots ─┐                                   ┌─▶ events
//!                    ▼ settle                            │ complete
//!              submission queue ──▶ io_uring_enter ──▶ completion queue
//!                                   (once a turn)
//! ```
//! A turn: publish the buffers that came back → arm receives that starved → settle the slots that orders or
//! completions touched → enter → turn completions into events → fire timers. Orders only change slots; `settle`
//! compares what a slot wants with what is in flight and submits the difference, so a pause that is taken back within
//! a turn costs nothing.
//!
//! Architecture invariant: the kernel holds pointers only to chunks in the queue of a slot with a send in flight, to
//! pool buffers, and to memory of this struct; all of it outlives the operations, because dropping the engine first
//! cancels everything.

mod alarms;
mod complete;
mod operation;
mod receive;
mod ring;
mod slots;
mod submit;
mod vectors;

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use io_uring::{opcode, types::Fd};

use self::alarms::Alarms;
use self::operation::{Kind, Operation};
use self::receive::ReceiveRing;
#[cfg(feature = "appliance")]
pub(super) use self::ring::explain;
use self::ring::{Ring, Wait};
use self::slots::{InFlight, Slots};
use self::vectors::Vectors;
use super::life::{Phase, Shutdown};
use super::wheel::Wheel;
use super::{
    Address, Chunk, Close, Config, Conn, Engine, Event, Lease, ListenerId, Pool, Statistics, Waker, clock_monotonic_ns,
    socket,
};

/// Whether this thread may have a ring at all.
///
/// # Errors
/// What the kernel refused, as one sentence with the cure.
#[cfg(feature = "appliance")]
pub(super) fn ring_works() -> io::Result<()> {
    Ring::new(8, 16).map(drop)
}

/// The engine on io_uring. One thread makes it, uses it and drops it.
pub struct Uring {
    ring: Ring,
    vectors: Vectors,
    alarms: Alarms,
    slots: Slots,
    listeners: Vec<Listener>,
    receive_ring: ReceiveRing,
    send_pool: Pool,
    /// Connections whose receive found no buffer, in the order in which they will be armed again.
    starved: VecDeque<Conn>,
    /// Events that did not come from a completion, waiting for the next turn's end.
    pending: VecDeque<Event>,
    wheel: Wheel<Due>,
    waker: Waker,
    wake_armed: bool,
    /// Where the read of the waker's counter goes.
    wake_count: Box<u64>,
    now_ns: u64,
    linger_ns: u64,
    events_max: usize,
    statistics: Statistics,
    /// Completions that had been reaped when the last enter began.
    entered_at: u64,
}

/// A listening socket that the ring accepts on.
struct Listener {
    /// `None` once it is closed.
    socket: Option<OwnedFd>,
    armed: bool,
    /// An accept failed for want of descriptors or memory: a timer arms it again.
    resting: bool,
    stopping: bool,
    cancelled: bool,
}

/// What a timer is for.
#[derive(Clone, Copy, Debug)]
enum Due {
    /// A machine's timer.
    Machine(u64),
    /// The linger time of a connection is over.
    Linger(Conn),
    /// A listener may try again.
    Accept(u32),
}

/// How long a listener rests after an accept failed for want of descriptors or memory: long enough not to spin,
/// short enough to go unnoticed.
const ACCEPT_REST_NS: u64 = 10_000_000;

/// Whether this kernel makes a ring, for an engine that would not say why it has none.
///
/// # Errors
/// One sentence with the cure.
#[cfg(feature = "appliance")]
pub(super) fn available() -> io::Result<()> {
    Ring::new(8, 16).map(drop)
}

impl Uring {
    /// Makes room in the submission queue for `count` entries. Only when more is ordered in a turn than fits does this
    /// cost an enter; `false` says that the kernel took nothing because completions have to be reaped first.
    fn reserve(&mut self, count: usize) -> bool {
        if self.ring.capacity() - self.ring.unsubmitted() < count {
            self.count_enter();
            let taken = self.ring.enter(Wait::Not).unwrap_or(0);
            self.count_submissions(taken);
        }
        self.ring.capacity() - self.ring.unsubmitted() >= count
    }

    /// Queues an entry, for which [`Uring::reserve`] made room.
    ///
    /// # Safety
    /// See [`Ring::push`].
    unsafe fn push(&mut self, entry: &io_uring::squeue::Entry) {
        // SAFETY: the caller's promise.
        let pushed = unsafe { self.ring.push(entry) };
        assert!(pushed, "invariant: room was reserved");
        self.vectors.advance();
    }

    /// Closes the sockets in completions that nobody will read any more.
    fn drop_accepted(&mut self) {
        while self.ring.sync_completions() {
            while let Some(completion) = self.ring.completion() {
                let operation = Operation::decode(completion.user_data());
                if operation.is_some_and(|operation| operation.kind == Kind::Accept) {
                    // SAFETY: this is the completion of an accept, and taking it off the queue makes it ours alone.
                    drop(unsafe { complete::accepted_socket(completion.result()) });
                }
            }
            if self.ring.overflown() {
                self.ring.enter(Wait::Not).ok();
            }
        }
    }

    fn count_enter(&mut self) {
        self.statistics.count_enter(&mut self.entered_at);
        self.statistics.overflows += u64::from(self.ring.overflown());
    }

    fn count_submissions(&mut self, taken: usize) {
        self.statistics.submissions += u64::try_from(taken).unwrap_or(0);
    }

    /// One enter, unless there is nothing that it would do.
    fn enter(&mut self, until_ns: u64, busy: bool) -> io::Result<()> {
        let deadline = self.wheel.deadline_ns().map_or(until_ns, |timer| timer.min(until_ns));
        let wait = if busy || deadline <= self.now_ns || self.ring.overflown() {
            Wait::Not
        } else if self.alarm(deadline) {
            Wait::UntilNs(u64::MAX)
        } else {
            Wait::UntilNs(deadline)
        };
        if wait == Wait::Not && self.ring.unsubmitted() == 0 && !self.ring.needs_enter() {
            return Ok(());
        }
        self.count_enter();
        let taken = self.ring.enter(wait)?;
        self.count_submissions(taken);
        Ok(())
    }

    /// Makes sure that an alarm goes off at `at_ns` or before; false if the wait needs a time of its own.
    fn alarm(&mut self, at_ns: u64) -> bool {
        if at_ns == u64::MAX || self.alarms.cover(at_ns) {
            return true;
        }
        if !self.reserve(1) {
            return false;
        }
        let Some((entry, number)) = self.alarms.set(at_ns) else { return false };
        // SAFETY: the time lies in `alarms`, which lives as long as the ring.
        unsafe { self.push(&entry.user_data(Operation::new(Kind::Alarm, number, 0).encode())) };
        true
    }

    /// Events that completions leave to timers that are due: without it, a flood of completions would hold them up.
    fn room_for_timers(&self) -> usize {
        match self.wheel.deadline_ns() {
            Some(deadline_ns) if deadline_ns <= self.now_ns => self.events_max.div_ceil(8),
            Some(_) | None => 0,
        }
    }

    fn fire_timers(&mut self, events: &mut Vec<Event>, length_max: usize) {
        while events.len() < length_max {
            match self.wheel.pop(self.now_ns) {
                Some(Due::Machine(token)) => events.push(Event::Timer { token }),
                Some(Due::Linger(conn)) => self.end_linger(conn),
                Some(Due::Accept(listener)) => self.listeners[listener_position(listener)].resting = false,
                None => return,
            }
        }
    }

    /// The linger time is over: closes even if the peer still sends.
    fn end_linger(&mut self, conn: Conn) {
        if let Some(slot) = self.slots.get_mut(conn)
            && slot.phase == Phase::Lingering
        {
            slot.phase = Phase::Closing;
            self.slots.list(conn.slot);
        }
    }
}

impl Engine for Uring {
    const NAME: &'static str = "uring";

    fn new(config: &Config, waker: Waker) -> io::Result<Self> {
        let ring = Ring::new(config.submission_entries, config.completion_entries)?;
        let receive_ring = ReceiveRing::new(ring.submitter(), config.receive_buffers, config.receive_buffer_bytes)?;
        let send_pool = Pool::new(config.send_buffers, config.send_buffer_bytes)?;
        let slots = Slots::new(config.connections_max);
        let now_ns = clock_monotonic_ns();
        Ok(Self {
            vectors: Vectors::new(ring.capacity()),
            alarms: Alarms::new(),
            ring,
            listeners: Vec::new(),
            receive_ring,
            send_pool,
            starved: VecDeque::with_capacity(slots.len()),
            pending: VecDeque::with_capacity(slots.len()),
            wheel: Wheel::new(now_ns, slots.len() * 2),
            slots,
            waker,
            wake_armed: false,
            wake_count: Box::new(0),
            now_ns,
            linger_ns: u64::from(config.linger_ms) * 1_000_000,
            events_max: config.events_max.max(1),
            statistics: Statistics::default(),
            entered_at: 0,
        })
    }

    fn listen(&mut self, socket: OwnedFd) -> io::Result<ListenerId> {
        socket::set_blocking(socket.as_fd())?;
        let id = u32::try_from(self.listeners.len()).expect("invariant: fewer than 2^32 listeners");
        self.listeners.push(Listener {
            socket: Some(socket),
            armed: false,
            resting: false,
            stopping: false,
            cancelled: false,
        });
        Ok(ListenerId(id))
    }

    fn stop_listening(&mut self) {
        for listener in &mut self.listeners {
            listener.stopping = true;
        }
    }

    fn connect(&mut self, to: &Address) -> io::Result<Conn> {
        let name = socket::Name::of(to)?;
        let socket = socket::for_connection(to).map_err(|error| cannot_connect(to, &error))?;
        if !self.reserve(1) {
            return Err(io::Error::new(
                io::ErrorKind::WouldBlock,
                "the submission queue is full; connect in the next turn",
            ));
        }
        let descriptor = Fd(socket.as_raw_fd());
        let Ok(conn) = self.slots.claim(socket, Phase::Connecting) else {
            return Err(io::Error::new(
                io::ErrorKind::QuotaExceeded,
                "every connection slot is taken; raise connections_max",
            ));
        };
        self.slots.at_mut(conn.slot).in_flight.add(InFlight::CONNECT);
        let name = self.vectors.name(name);
        let entry = opcode::Connect::new(descriptor, name.pointer(), name.length).build();
        let operation = Operation::new(Kind::Connect, conn.slot, conn.generation);
        // SAFETY: the name lies in `vectors` until the next enter.
        unsafe { self.push(&entry.user_data(operation.encode())) };
        Ok(conn)
    }

    fn adopt(&mut self, socket: OwnedFd) -> io::Result<Conn> {
        socket::set_blocking(socket.as_fd())?;
        self.slots.claim(socket, Phase::Open).map_err(|_| {
            io::Error::new(io::ErrorKind::QuotaExceeded, "every connection slot is taken; raise connections_max")
        })
    }

    fn detach(&mut self, conn: Conn) -> Option<OwnedFd> {
        let slot = self.slots.get_mut(conn)?;
        if slot.phase != Phase::Open
            || !slot.in_flight.is_empty()
            || !slot.queue.is_empty()
            || slot.shutdown != Shutdown::Open
        {
            return None;
        }
        let socket = slot.socket.take();
        self.slots.release(conn.slot);
        socket
    }

    fn receive(&mut self, conn: Conn, on: bool) {
        let Some(slot) = self.slots.get_mut(conn) else { return };
        let ordered = match slot.phase {
            Phase::Connecting | Phase::Open => slot.wants_receive != on,
            Phase::Free | Phase::Flushing | Phase::Lingering | Phase::Closing => false,
        };
        if ordered {
            slot.wants_receive = on;
            self.slots.list(conn.slot);
        }
    }

    fn send(&mut self, conn: Conn, chunk: Chunk) {
        let Some(slot) = self.slots.get_mut(conn) else { return };
        let takes = match slot.phase {
            Phase::Connecting | Phase::Open => slot.shutdown == Shutdown::Open && !slot.flush_ordered,
            Phase::Free | Phase::Flushing | Phase::Lingering | Phase::Closing => false,
        };
        let bytes = chunk.as_slice().len();
        if takes && bytes > 0 {
            slot.queued_bytes += bytes;
            slot.queue.push_back(chunk);
            self.slots.list(conn.slot);
        }
    }

    fn reclaim(&mut self, conn: Conn, bytes: usize) -> Option<Lease> {
        let slot = self.slots.get_mut(conn)?;
        if slot.in_flight.has(InFlight::SEND) || slot.phase != Phase::Open || slot.shutdown != Shutdown::Open {
            return None;
        }
        match slot.queue.back() {
            Some(Chunk::Lease(lease)) if lease.capacity_left() >= bytes => {}
            Some(_) | None => return None,
        }
        let Some(Chunk::Lease(lease)) = slot.queue.pop_back() else { return None };
        slot.queued_bytes -= lease.len();
        Some(lease)
    }

    fn queued_bytes(&self, conn: Conn) -> usize {
        self.slots.get(conn).map_or(0, |slot| slot.queued_bytes)
    }

    fn shutdown_send(&mut self, conn: Conn) {
        if let Some(slot) = self.slots.get_mut(conn)
            && slot.shutdown == Shutdown::Open
        {
            slot.shutdown = Shutdown::Ordered;
            self.slots.list(conn.slot);
        }
    }

    fn close(&mut self, conn: Conn, how: Close) {
        let Some(slot) = self.slots.get_mut(conn) else { return };
        match (slot.phase, how) {
            (Phase::Free, _) => return,
            (Phase::Open, Close::Flush) => {
                slot.phase = Phase::Flushing;
                slot.wants_receive = true;
            }
            (Phase::Flushing | Phase::Lingering | Phase::Closing, Close::Flush) => return,
            // Goes on when the outcome of the connect is known.
            (Phase::Connecting, Close::Flush) => slot.flush_ordered = true,
            (Phase::Connecting | Phase::Open | Phase::Flushing | Phase::Lingering | Phase::Closing, Close::Reset) => {
                slot.phase = Phase::Closing;
                slot.reset = true;
            }
        }
        self.slots.list(conn.slot);
    }

    fn lease(&mut self) -> Option<Lease> {
        self.send_pool.lease()
    }

    fn timer(&mut self, at_ns: u64, token: u64) {
        self.wheel.insert(at_ns, Due::Machine(token));
    }

    fn now_ns(&self) -> u64 {
        self.now_ns
    }

    fn peer(&self, conn: Conn) -> Option<SocketAddr> {
        let slot = self.slots.get(conn)?;
        *slot.peer.get_or_init(|| socket::peer_address(slot.socket()))
    }

    fn turn(&mut self, until_ns: u64, events: &mut Vec<Event>) -> io::Result<()> {
        let length_max = events.len().saturating_add(self.events_max);
        self.statistics.turns += 1;
        self.slots.free_handed();
        self.receive_ring.publish();
        self.feed_starved();
        self.arm_waker();
        self.arm_listeners();
        self.settle_listed();
        let ready = !self.pending.is_empty() || self.slots.listed() > 0 || self.ring.sync_completions();
        self.enter(until_ns, ready)?;
        self.now_ns = clock_monotonic_ns();
        while events.len() < length_max
            && let Some(event) = self.pending.pop_front()
        {
            if let Event::Closed { conn, .. } = &event {
                self.slots.hand_over(conn.slot);
            }
            events.push(event);
        }
        self.reap(events, length_max - self.room_for_timers());
        self.fire_timers(events, length_max);
        Ok(())
    }

    fn statistics(&self) -> Statistics {
        self.statistics
    }
}

impl Drop for Uring {
    fn drop(&mut self) {
        // Descriptors that wait to be closed go with this last enter, and those that were accepted meanwhile below.
        self.ring.enter(Wait::Not).ok();
        self.ring.cancel_everything();
        self.drop_accepted();
        // The kernel must forget the buffers before they are unmapped. It cannot fail for a group that exists.
        self.ring.submitter().unregister_buf_ring(receive::GROUP).ok();
    }
}

fn cannot_connect(to: &Address, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("no socket to connect to {to}: {error}; raise `ulimit -n`"))
}

fn listener_position(listener: u32) -> usize {
    usize::try_from(listener).expect("invariant: pointers have at least 32 bits")
}
