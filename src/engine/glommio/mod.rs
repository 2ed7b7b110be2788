//! The engine on glommio, for comparison: the same machines on a runtime that speaks io_uring.
//!
//! ```text
//!   orders ─▶ slots ─ listed ─▶ the turn's task ─▶ glommio's sockets ─ recv, send ─▶ kernel
//!                        ▲            │                    │ poll, accept, connect
//!                        │            ▼                    ▼
//!                      board ◀─bells─ reactor ◀──────── three rings
//! ```
//! glommio owns its loop, and the contract wants to be turned: so each turn runs the executor with one task, which
//! looks at every connection that an order or a bell has listed and ends when it has an event, or when its time is
//! over. A socket is tried first and polled when it would block; that is glommio's way, and what is compared.
//!
//! What glommio keeps over turns are polls, accepts, connects and one read of the doorbell: none of them knows a buffer
//! of ours, so nothing that was leased or queued is ever in the kernel's hands when a turn has ended.
//!
//! glommio 0.9 may go to sleep although its task can run (see [`timers`]).

mod board;
mod flow;
mod listeners;
mod slots;
mod timers;

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, FromRawFd, IntoRawFd, OwnedFd};
use std::pin::Pin;
use std::task::{Context, Poll};

use glommio::io::BufferedFile;
use glommio::net::TcpStream;
use glommio::{LocalExecutor, LocalExecutorBuilder, Placement, PoolPlacement};

use self::board::{Board, Place};
use self::listeners::Listener;
use self::slots::{Connect, Slots, Socket};
use self::timers::Timers;
use super::life::{Phase, Shutdown};
use super::wheel::Wheel;
use super::{
    Address, Chunk, Close, Config, Conn, Engine, Event, Lease, ListenerId, Pool, Statistics, Waker, clock_monotonic_ns,
    socket,
};

/// Entries of each of glommio's rings at least: it links entries and needs room for its own timers.
const RING_DEPTH_MIN: u32 = 128;
/// Input that nobody wants is read into this much memory.
const SCRATCH_BYTES: usize = 16 * 1024;
/// Passes that the engine's end may take; each one finds what the one before has cancelled.
const FAREWELL_PASSES: u32 = 64;

/// The engine on glommio. One thread makes it, uses it and drops it; that thread runs no other glommio executor.
pub struct Glommio {
    core: Core,
    executor: LocalExecutor,
}

/// Everything but the executor, which runs a task that borrows this.
struct Core {
    board: Board,
    /// Places that rang, while they are dealt with.
    rung: Vec<Place>,
    slots: Slots,
    listeners: Vec<Listener>,
    receive_pool: Pool,
    send_pool: Pool,
    /// Connections whose receive found no buffer, in the order in which they will be tried again.
    starved: VecDeque<Conn>,
    /// Connections that may have more at once: it waits until the others have had their turn.
    again: Vec<u32>,
    scratch: Box<[u8]>,
    wheel: Wheel<Due>,
    timers: Timers,
    waker: Waker,
    doorbell: Option<Doorbell>,
    now_ns: u64,
    linger_ns: u64,
    events_max: usize,
    statistics: Statistics,
    /// Completions that had been counted when the last pass began.
    entered_at: u64,
}

/// A read of the waker's counter that glommio works on.
type Doorbell = Pin<Box<dyn Future<Output = io::Result<()>>>>;

/// What a timer is for.
#[derive(Clone, Copy, Debug)]
enum Due {
    /// A machine's timer.
    Machine(u64),
    /// The linger time of a connection is over.
    Linger(Conn),
    /// A listener may try again.
    Accept(usize),
}

impl Core {
    /// One pass: everything that was listed or rung. Ready when there are events, or when the time is over.
    fn pass(&mut self, task: &mut Context<'_>, until_ns: u64, events: &mut Vec<Event>, length_max: usize) -> Poll<()> {
        let before = events.len();
        self.statistics.count_enter(&mut self.entered_at);
        self.board.attend(task.waker());
        for index in std::mem::take(&mut self.again) {
            self.slots.list(index);
        }
        self.answer_bells(events, length_max);
        self.accept(events, length_max);
        while events.len() < length_max
            && let Some(index) = self.slots.next_listed()
        {
            self.step(index, events);
        }
        let now_ns = clock_monotonic_ns();
        if events.len() > before || now_ns >= until_ns {
            self.timers.turn_ends(events.len() > before);
            self.board.leave();
            return Poll::Ready(());
        }
        if self.again.is_empty() && self.slots.is_idle() {
            self.timers.sleep(until_ns - now_ns);
        } else {
            task.waker().wake_by_ref();
        }
        Poll::Pending
    }

    fn answer_bells(&mut self, events: &mut Vec<Event>, length_max: usize) {
        let mut rung = std::mem::take(&mut self.rung);
        self.board.take(&mut rung);
        // The doorbell's first read is nobody's to ring for.
        let mut doorbell = self.doorbell.is_none();
        for place in rung.drain(..) {
            match place {
                Place::Slot(index) => self.slots.list(index),
                Place::Listener(number) => self.listeners[number].listed = true,
                Place::Doorbell => doorbell = true,
                Place::Timer => {}
            }
        }
        self.rung = rung;
        if doorbell {
            self.answer_doorbell(events, length_max);
        }
    }

    /// Keeps a read of the waker's counter in flight.
    fn answer_doorbell(&mut self, events: &mut Vec<Event>, length_max: usize) {
        let bell = self.board.bell(Place::Doorbell);
        let mut context = Context::from_waker(&bell);
        loop {
            if events.len() >= length_max {
                bell.wake_by_ref();
                return;
            }
            let waker = &self.waker;
            let read = self.doorbell.get_or_insert_with(|| Box::pin(read_counter(waker.clone())));
            match read.as_mut().poll(&mut context) {
                Poll::Pending => return,
                Poll::Ready(Ok(())) => {
                    self.doorbell = None;
                    self.statistics.completions += 1;
                    self.statistics.wakes += 1;
                    events.push(Event::Woken);
                }
                // The next pass tries again.
                Poll::Ready(Err(_)) => {
                    self.doorbell = None;
                    return;
                }
            }
        }
    }

    /// Lets those connections try again that found no buffer, as many as there are buffers now.
    fn feed_starved(&mut self) {
        for _ in 0..self.receive_pool.available() {
            let Some(conn) = self.starved.pop_front() else { return };
            if let Some(slot) = self.slots.get_mut(conn) {
                slot.starved = false;
                self.statistics.rearms += 1;
                self.slots.list(conn.slot);
            }
        }
    }

    /// Events that sockets leave to timers that are due: without it, a flood of input would hold them up.
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
                Some(Due::Accept(number)) => self.listeners[number].end_rest(),
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

    /// The end: sockets are closed, accepts end, and the doorbell's read with them. Ready when nothing is left.
    fn farewell(&mut self, task: &mut Context<'_>, passes: &mut u32) -> Poll<()> {
        self.board.attend(task.waker());
        for index in self.slots.used() {
            drop(self.slots.release(index, false));
        }
        let mut unseen = Vec::new();
        self.answer_bells(&mut unseen, usize::MAX);
        self.accept(&mut unseen, usize::MAX);
        *passes += 1;
        let left = self.listeners.iter().any(|listener| !listener.is_closed());
        // One more pass submits the cancellations.
        if *passes >= FAREWELL_PASSES || (!left && unseen.is_empty() && *passes > 2) {
            self.board.leave();
            return Poll::Ready(());
        }
        task.waker().wake_by_ref();
        Poll::Pending
    }
}

/// Reads the counter of the engine's own waker once.
async fn read_counter(waker: Waker) -> io::Result<()> {
    let descriptor = waker.try_clone_descriptor()?;
    // SAFETY: the descriptor is a fresh copy that nobody else owns.
    let counter = unsafe { BufferedFile::from_raw_fd(descriptor.into_raw_fd()) };
    counter.read_at(0, 8).await?;
    counter.close().await?;
    Ok(())
}

/// Opens a connection; the socket is made when the executor runs.
async fn open(to: Address) -> io::Result<TcpStream> {
    match to {
        Address::Tcp(address) => {
            let stream = TcpStream::connect(address).await.map_err(io::Error::from)?;
            stream.set_nodelay(true).map_err(io::Error::from)?;
            Ok(stream)
        }
        // A plain connect on glommio's thread for blocking calls: its own Unix streams do not show their descriptor.
        Address::Unix(path) => {
            let connect = move || std::os::unix::net::UnixStream::connect(path);
            let stream = glommio::executor().spawn_blocking(connect).await?;
            Ok(slots::adopt(stream.into()))
        }
    }
}

fn no_slot() -> io::Error {
    io::Error::new(io::ErrorKind::QuotaExceeded, "every connection slot is taken; raise connections_max")
}

impl Engine for Glommio {
    const NAME: &'static str = "glommio";

    fn new(config: &Config, waker: Waker) -> io::Result<Self> {
        // glommio asserts where the kernel refuses it a ring; this asks first and has the cure in its error.
        super::uring::available()?;
        let executor = LocalExecutorBuilder::new(Placement::Unbound)
            .name("engine")
            .ring_depth(usize::try_from(config.submission_entries.max(RING_DEPTH_MIN)).unwrap_or(usize::MAX))
            // Only for files: the least that it takes, because it counts against the memlock limit three times.
            .io_memory(0)
            .blocking_thread_pool_placement(PoolPlacement::Unbound(1))
            .make()
            .map_err(|error| {
                let error = io::Error::from(error);
                let cure = "it needs io_uring and a memlock limit of 1 MiB (`ulimit -l`)";
                io::Error::new(error.kind(), format!("glommio's executor cannot start: {error}; {cure}"))
            })?;
        let board = Board::default();
        let slots = Slots::new(config.connections_max, &board);
        let now_ns = clock_monotonic_ns();
        let core = Core {
            rung: Vec::new(),
            slots,
            listeners: Vec::new(),
            receive_pool: Pool::new(u32::from(config.receive_buffers), config.receive_buffer_bytes)?,
            send_pool: Pool::new(config.send_buffers, config.send_buffer_bytes)?,
            starved: VecDeque::new(),
            again: Vec::new(),
            scratch: vec![0; SCRATCH_BYTES].into(),
            wheel: Wheel::new(now_ns, 64),
            timers: Timers::new(board.bell(Place::Timer)),
            board,
            waker,
            doorbell: None,
            now_ns,
            linger_ns: u64::from(config.linger_ms) * 1_000_000,
            events_max: config.events_max.max(1),
            statistics: Statistics::default(),
            entered_at: 0,
        };
        Ok(Self { core, executor })
    }

    fn listen(&mut self, socket: OwnedFd) -> io::Result<ListenerId> {
        socket::set_blocking(socket.as_fd())?;
        let id = u32::try_from(self.core.listeners.len()).expect("invariant: fewer than 2^32 listeners");
        let bell = self.core.board.bell(Place::Listener(self.core.listeners.len()));
        self.core.listeners.push(Listener::new(socket, bell));
        Ok(ListenerId(id))
    }

    fn stop_listening(&mut self) {
        for listener in &mut self.core.listeners {
            listener.stop();
        }
    }

    fn connect(&mut self, to: &Address) -> io::Result<Conn> {
        // A path that no socket can have is told at once.
        socket::Name::of(to)?;
        if self.core.slots.is_full() {
            return Err(no_slot());
        }
        let connect: Connect = Box::pin(open(to.clone()));
        let conn = self.core.slots.claim(Socket::Connecting(connect), Phase::Connecting).map_err(|_| no_slot())?;
        self.core.statistics.submissions += 1;
        self.core.slots.list(conn.slot);
        Ok(conn)
    }

    fn adopt(&mut self, socket: OwnedFd) -> io::Result<Conn> {
        socket::set_blocking(socket.as_fd())?;
        self.core.slots.claim(Socket::Plain(socket), Phase::Open).map_err(|_| no_slot())
    }

    fn detach(&mut self, conn: Conn) -> Option<OwnedFd> {
        let slot = self.core.slots.get_mut(conn)?;
        if slot.phase != Phase::Open
            || slot.wants_receive
            || slot.receiving
            || !slot.queue.is_empty()
            || slot.shutdown != Shutdown::Open
        {
            return None;
        }
        // glommio keeps what it owns: what leaves is a copy of its descriptor.
        let copy = slot.socket.descriptor()?.try_clone_to_owned().ok()?;
        drop(self.core.slots.release(conn.slot, false));
        Some(copy)
    }

    fn receive(&mut self, conn: Conn, on: bool) {
        let Some(slot) = self.core.slots.get_mut(conn) else { return };
        let ordered = match slot.phase {
            Phase::Connecting | Phase::Open => slot.wants_receive != on,
            Phase::Free | Phase::Flushing | Phase::Lingering | Phase::Closing => false,
        };
        if ordered {
            slot.wants_receive = on;
            self.core.slots.list(conn.slot);
        }
    }

    fn send(&mut self, conn: Conn, chunk: Chunk) {
        let Some(slot) = self.core.slots.get_mut(conn) else { return };
        let takes = match slot.phase {
            Phase::Connecting | Phase::Open => slot.shutdown == Shutdown::Open && !slot.flush_ordered,
            Phase::Free | Phase::Flushing | Phase::Lingering | Phase::Closing => false,
        };
        let bytes = chunk.as_slice().len();
        if takes && bytes > 0 {
            slot.queued_bytes += bytes;
            slot.queue.push_back(chunk);
            self.core.slots.list(conn.slot);
        }
    }

    fn reclaim(&mut self, conn: Conn, bytes: usize) -> Option<Lease> {
        let slot = self.core.slots.get_mut(conn)?;
        if slot.phase != Phase::Open || slot.shutdown != Shutdown::Open {
            return None;
        }
        // Between turns the kernel holds nothing of the queue, so its last chunk is ours whatever became of the others.
        match slot.queue.back() {
            Some(Chunk::Lease(lease)) if lease.capacity_left() >= bytes => {}
            Some(_) | None => return None,
        }
        let Some(Chunk::Lease(lease)) = slot.queue.pop_back() else { return None };
        slot.queued_bytes -= lease.len();
        Some(lease)
    }

    fn queued_bytes(&self, conn: Conn) -> usize {
        self.core.slots.get(conn).map_or(0, |slot| slot.queued_bytes)
    }

    fn shutdown_send(&mut self, conn: Conn) {
        if let Some(slot) = self.core.slots.get_mut(conn)
            && slot.shutdown == Shutdown::Open
        {
            slot.shutdown = Shutdown::Ordered;
            self.core.slots.list(conn.slot);
        }
    }

    fn close(&mut self, conn: Conn, how: Close) {
        let Some(slot) = self.core.slots.get_mut(conn) else { return };
        match (slot.phase, how) {
            (Phase::Free, _) | (Phase::Flushing | Phase::Lingering | Phase::Closing, Close::Flush) => return,
            (Phase::Open, Close::Flush) => slot.phase = Phase::Flushing,
            // Goes on when the outcome of the connect is known.
            (Phase::Connecting, Close::Flush) => slot.flush_ordered = true,
            (Phase::Connecting | Phase::Open | Phase::Flushing | Phase::Lingering | Phase::Closing, Close::Reset) => {
                slot.phase = Phase::Closing;
                slot.reset = true;
            }
        }
        self.core.slots.list(conn.slot);
    }

    fn lease(&mut self) -> Option<Lease> {
        self.core.send_pool.lease()
    }

    fn timer(&mut self, at_ns: u64, token: u64) {
        self.core.wheel.insert(at_ns, Due::Machine(token));
    }

    fn now_ns(&self) -> u64 {
        self.core.now_ns
    }

    fn peer(&self, conn: Conn) -> Option<SocketAddr> {
        let slot = self.core.slots.get(conn)?;
        let descriptor = slot.socket.descriptor()?;
        *slot.peer.get_or_init(|| socket::peer_address(descriptor))
    }

    fn turn(&mut self, until_ns: u64, events: &mut Vec<Event>) -> io::Result<()> {
        let Self { core, executor } = self;
        let length_max = events.len().saturating_add(core.events_max);
        core.statistics.turns += 1;
        core.slots.free_handed();
        core.feed_starved();
        let deadline_ns = core.wheel.deadline_ns().map_or(until_ns, |timer| timer.min(until_ns));
        let sockets_max = length_max - core.room_for_timers();
        executor.run(poll_fn(|task| core.pass(task, deadline_ns, events, sockets_max)));
        core.now_ns = clock_monotonic_ns();
        core.fire_timers(events, length_max);
        Ok(())
    }

    fn statistics(&self) -> Statistics {
        self.core.statistics
    }
}

impl Drop for Glommio {
    fn drop(&mut self) {
        let Self { core, executor } = self;
        for listener in &mut core.listeners {
            listener.stop();
        }
        // Ends the read of the counter, which nobody shall do in our place any more.
        core.waker.wake();
        let mut passes = 0;
        executor.run(poll_fn(|task| core.farewell(task, &mut passes)));
    }
}
