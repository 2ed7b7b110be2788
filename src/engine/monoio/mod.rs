//! The engine on monoio, on io_uring or on epoll: the fallback where raw io_uring does not work.
//!
//! ```text
//!   orders ─▶ slots ─ settle ─▶ send, shutdown, close          accept, receive ─▶ events
//!                        │                                            ▲
//!                        ▼ arm                                        │ ready
//!                     watches ──▶ monoio: one pass of its driver ──▶ board
//!                                 (readiness of sockets, waker and timer)
//! ```
//! monoio tells what is ready, and the engine moves the bytes with calls that do not wait. That way both kinds run the
//! same code, an idle connection holds no buffer, a pause needs no cancellation, and nothing depends on what monoio 0.2
//! does with a read that is given up. The price is a system call for each receive and send.
//!
//! A turn: settle the slots that orders or readiness touched → one pass of the driver, which waits for the first
//! readiness, the waker's eventfd, or the timer's descriptor → accept, read, fire timers. It repeats until there is an
//! event or its time is over.
//!
//! Architecture invariant: wakers and descriptors of monoio are touched inside [`Monoio::pass`] only, because they work
//! within its `block_on` only. No other thread ever wakes a task, so that monoio's cross-thread wakes are not needed.

mod call;
mod ready;
mod settle;
mod slots;
mod watch;

use std::collections::VecDeque;
use std::io;
use std::net::{SocketAddr, TcpStream as StdStream};
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;

use ::monoio::net::TcpStream;
use ::monoio::{Driver, IoUringDriver, LegacyDriver, Runtime, RuntimeBuilder};

use self::slots::{Direction, Slot, Slots, Socket};
use self::watch::{Board, Key, Pulse, Side, Watch};
use super::life::{Phase, Shutdown};
use super::socket::Name;
use super::wheel::Wheel;
use super::{
    Address, Chunk, Close, Config, Conn, Engine, Event, Lease, ListenerId, Pool, Statistics, Waker, clock_monotonic_ns,
    socket, uring,
};

/// What monoio stands on.
pub trait Kind: 'static {
    /// The engine's name.
    const NAME: &'static str;
    /// monoio's driver.
    type Driver: Driver;

    /// Builds the runtime on the calling thread.
    ///
    /// # Errors
    /// What the kernel refused, as one sentence with the cure.
    fn build(config: &Config) -> io::Result<Runtime<Self::Driver>>;
}

/// monoio on io_uring.
pub struct OnUring;

/// monoio on epoll, its legacy driver.
pub struct OnEpoll;

/// The engine on monoio's io_uring driver.
pub type MonoioUring = Monoio<OnUring>;

/// The engine on monoio's epoll driver.
pub type MonoioEpoll = Monoio<OnEpoll>;

/// Entries of a ring that monoio makes at least, and at most here.
const RING_ENTRIES_MIN: u32 = 256;
const RING_ENTRIES_MAX: u32 = 16_384;

/// Readiness that one call of epoll reports at most.
const EPOLL_EVENTS: u32 = 1024;

impl Kind for OnUring {
    const NAME: &'static str = "monoio";
    type Driver = IoUringDriver;

    fn build(config: &Config) -> io::Result<Runtime<IoUringDriver>> {
        // Every connection's readiness must fit into the completion queue, which has twice as many entries: monoio does
        // not reap when an enter fails because of completions that did not fit.
        let wanted = config.connections_max.next_power_of_two();
        let mut entries = wanted.clamp(RING_ENTRIES_MIN, RING_ENTRIES_MAX);
        loop {
            match RuntimeBuilder::<IoUringDriver>::new().with_entries(entries).build() {
                Err(error) if error.raw_os_error() == Some(libc::ENOMEM) && entries > RING_ENTRIES_MIN => entries /= 2,
                result => return result.map_err(uring::explain),
            }
        }
    }
}

impl Kind for OnEpoll {
    const NAME: &'static str = "monoio-epoll";
    type Driver = LegacyDriver;

    fn build(_: &Config) -> io::Result<Runtime<LegacyDriver>> {
        RuntimeBuilder::<LegacyDriver>::new()
            .with_entries(EPOLL_EVENTS)
            .build()
            .map_err(|error| io::Error::new(error.kind(), format!("cannot set up epoll: {error}; raise `ulimit -n`")))
    }
}

/// The engine on monoio. One thread makes it, uses it and drops it.
pub struct Monoio<K: Kind> {
    slots: Slots,
    listeners: Vec<Listener>,
    receive_pool: Pool,
    send_pool: Pool,
    /// Connections that found no buffer, in the order in which they will read again.
    starved: VecDeque<Conn>,
    /// Connections to read from.
    readable: VecDeque<Conn>,
    /// Events that wait to be handed over.
    pending: VecDeque<Event>,
    /// Directions to be watched from the next pass on.
    arming: Vec<(Conn, Side)>,
    /// Sockets to be closed in the next pass.
    retiring: Vec<Retired>,
    wheel: Wheel<Due>,
    waker: Waker,
    /// The waker's eventfd, watched.
    bell: Watched,
    /// The timer that ends a wait, watched.
    clock: Watched,
    /// When it will.
    alarm_ns: u64,
    /// Where input goes that nobody wants.
    dropped: Box<[u8]>,
    board: Rc<Board>,
    pulse: Pulse,
    now_ns: u64,
    linger_ns: u64,
    events_max: usize,
    statistics: Statistics,
    /// Completions at the last pass.
    entered_at: u64,
    runtime: Runtime<K::Driver>,
}

/// A listening socket.
struct Listener {
    own: Watched,
    /// An accept failed for want of descriptors or memory: a timer looks again.
    resting: bool,
}

/// A descriptor of the engine's own.
struct Watched {
    /// `None` once it is closed.
    socket: Option<Socket>,
    direction: Direction,
}

/// A socket that nobody needs any more, with the watches that still hold it.
struct Retired {
    socket: Socket,
    input: Option<Rc<Watch>>,
    output: Option<Rc<Watch>>,
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
    /// A connect may try again.
    Connect(Conn),
}

/// How long a listener rests after an accept failed for want of descriptors or memory.
const ACCEPT_REST_NS: u64 = 10_000_000;

/// Passes in which the tasks of an engine that is dropped must have ended.
const LAST_PASSES: usize = 8;

impl Watched {
    fn new(descriptor: OwnedFd) -> Self {
        Self { socket: Some(Socket::Plain(descriptor)), direction: Direction::default() }
    }

    /// Within the runtime only. A descriptor that monoio refuses is closed, which only a lack of memory does.
    fn keep_armed(&mut self, board: &Rc<Board>, key: Key) {
        if self.socket.is_some() && !self.direction.armed && !self.direction.ready {
            self.direction.armed = watch(&mut self.socket, &mut self.direction, board, Side::Read, key).is_ok();
        }
    }

    fn retired(&mut self) -> Option<Retired> {
        let input = self.direction.watch.take();
        self.socket.take().map(|socket| Retired { socket, input, output: None })
    }
}

/// Has a direction watched once more; from the first time on, monoio knows the socket. Within the runtime only.
///
/// # Errors
/// epoll has no memory for another descriptor; the socket is closed.
fn watch(
    socket: &mut Option<Socket>,
    direction: &mut Direction,
    board: &Rc<Board>,
    side: Side,
    key: Key,
) -> io::Result<()> {
    let stream = match socket.take() {
        Some(Socket::Watched(stream)) => stream,
        Some(Socket::Plain(plain)) => Rc::new(TcpStream::from_std(StdStream::from(plain))?),
        None => return Err(io::Error::from_raw_os_error(libc::EBADF)),
    };
    match &direction.watch {
        Some(watch) => watch.arm(),
        None => direction.watch = Some(Watch::spawn(board, Rc::clone(&stream), side, key)),
    }
    *socket = Some(Socket::Watched(stream));
    Ok(())
}

impl<K: Kind> Monoio<K> {
    /// Everything that is done with monoio's objects, and one look of its driver, which waits for readiness if `wait`.
    fn pass(&mut self, wait: bool) {
        let Self { runtime, slots, listeners, arming, retiring, bell, clock, board, pulse, .. } = self;
        self.statistics.count_enter(&mut self.entered_at);
        runtime.block_on(async {
            for Retired { socket, input, output } in retiring.drain(..) {
                for watch in [input, output].into_iter().flatten() {
                    watch.end();
                }
                drop(socket);
            }
            bell.keep_armed(board, Key::Waker);
            clock.keep_armed(board, Key::Timer);
            for (number, listener) in (0..).zip(listeners) {
                if !listener.resting {
                    listener.own.keep_armed(board, Key::Listener(number));
                }
            }
            for (conn, side) in arming.drain(..) {
                let Some(slot) = slots.get_mut(conn) else { continue };
                let Slot { socket, input, output, .. } = slot;
                let direction = match side {
                    Side::Read => input,
                    Side::Write => output,
                };
                if let Err(error) = watch(socket, direction, board, side, Key::Conn(conn, side)) {
                    slot.failure = Some(error.raw_os_error().unwrap_or(libc::ENOMEM));
                    slot.phase = Phase::Closing;
                    slots.list(conn.slot);
                }
            }
        });
        // The tasks run at the start of this one, so that everything armed goes to the driver with its only look.
        runtime.block_on(watch::pass(board, pulse, wait));
    }

    /// True if there is something to do without waiting for the kernel.
    fn is_busy(&self) -> bool {
        !self.pending.is_empty()
            || !self.readable.is_empty()
            || self.slots.listed() > 0
            || self.listeners.iter().any(|listener| listener.own.direction.ready)
    }

    /// Sets the timer that ends the wait. One that is set earlier stays: it costs one wake, and setting it a call.
    fn set_alarm(&mut self, deadline_ns: u64) {
        if deadline_ns < self.alarm_ns
            && let Some(clock) = &self.clock.socket
        {
            self.alarm_ns = deadline_ns;
            call::set_timer(clock.as_fd(), deadline_ns.max(1));
        }
    }

    /// Events that readiness leaves to timers that are due: without it, a flood would hold them up.
    fn room_for_timers(&self) -> usize {
        match self.wheel.deadline_ns() {
            Some(deadline_ns) if deadline_ns <= self.now_ns => self.events_max.div_ceil(8),
            Some(_) | None => 0,
        }
    }

    fn hand_over(&mut self, events: &mut Vec<Event>, length_max: usize) {
        while events.len() < length_max
            && let Some(event) = self.pending.pop_front()
        {
            if let Event::Closed { conn, .. } = &event {
                self.slots.hand_over(conn.slot);
            }
            events.push(event);
        }
    }

    fn fire_timers(&mut self, events: &mut Vec<Event>, length_max: usize) {
        while events.len() < length_max {
            match self.wheel.pop(self.now_ns) {
                Some(Due::Machine(token)) => events.push(Event::Timer { token }),
                Some(Due::Linger(conn)) => self.end_linger(conn),
                Some(Due::Accept(listener)) => self.listeners[position(listener)].resting = false,
                Some(Due::Connect(conn)) => self.connect_again(conn),
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

impl<K: Kind> Engine for Monoio<K> {
    const NAME: &'static str = K::NAME;

    fn new(config: &Config, waker: Waker) -> io::Result<Self> {
        let mut runtime = K::build(config)?;
        let slots = Slots::new(config.connections_max);
        // A watch for each direction, and the engine's own.
        let board = Board::new(slots.len() * 2 + 16);
        let bell = Watched::new(waker.try_clone_descriptor()?);
        let clock = Watched::new(call::timer()?);
        let pulse = runtime.block_on(async { Pulse::spawn(&board) });
        let now_ns = clock_monotonic_ns();
        Ok(Self {
            listeners: Vec::new(),
            receive_pool: Pool::new(u32::from(config.receive_buffers), config.receive_buffer_bytes)?,
            send_pool: Pool::new(config.send_buffers, config.send_buffer_bytes)?,
            starved: VecDeque::with_capacity(slots.len()),
            readable: VecDeque::with_capacity(slots.len()),
            pending: VecDeque::with_capacity(slots.len()),
            arming: Vec::with_capacity(slots.len()),
            retiring: Vec::with_capacity(slots.len()),
            wheel: Wheel::new(now_ns, slots.len() * 2),
            waker,
            bell,
            clock,
            alarm_ns: u64::MAX,
            dropped: vec![0; ready::DROPPED_BYTES].into(),
            board,
            pulse,
            now_ns,
            linger_ns: u64::from(config.linger_ms) * 1_000_000,
            events_max: config.events_max.max(1),
            statistics: Statistics::default(),
            entered_at: 0,
            slots,
            runtime,
        })
    }

    fn listen(&mut self, socket: OwnedFd) -> io::Result<ListenerId> {
        call::set_nonblocking(socket.as_fd())?;
        let id = u32::try_from(self.listeners.len()).expect("invariant: fewer than 2^32 listeners");
        self.listeners.push(Listener { own: Watched::new(socket), resting: false });
        Ok(ListenerId(id))
    }

    fn stop_listening(&mut self) {
        for listener in &mut self.listeners {
            if let Some(retired) = listener.own.retired() {
                // The kernel refuses connections from now on, however long a watch holds the descriptor.
                call::shutdown(retired.socket.as_fd());
                self.retiring.push(retired);
            }
        }
    }

    fn connect(&mut self, to: &Address) -> io::Result<Conn> {
        let name = Name::of(to)?;
        let socket = socket::for_connection(to).map_err(|error| {
            io::Error::new(error.kind(), format!("no socket to connect to {to}: {error}; raise `ulimit -n`"))
        })?;
        call::set_nonblocking(socket.as_fd())?;
        let conn = self.slots.claim(socket, Phase::Connecting).map_err(|_| full())?;
        self.begin_connect(conn, &name);
        Ok(conn)
    }

    fn adopt(&mut self, socket: OwnedFd) -> io::Result<Conn> {
        self.slots.claim(socket, Phase::Open).map_err(|_| full())
    }

    fn detach(&mut self, conn: Conn) -> Option<OwnedFd> {
        let slot = self.slots.get_mut(conn)?;
        let idle = slot.phase == Phase::Open
            && !slot.wants_receive
            && !slot.output.armed
            && slot.queue.is_empty()
            && slot.shutdown == Shutdown::Open;
        if !idle || self.pending.iter().any(|event| conn_of(event) == Some(conn)) {
            return None;
        }
        let slot = self.slots.get_mut(conn)?;
        let (input, output) = (slot.input.watch.take(), slot.output.watch.take());
        let socket = match slot.socket.take()? {
            Socket::Plain(socket) => socket,
            watched @ Socket::Watched(_) => {
                // A watch may hold the old descriptor for some moments; the new one is free of it.
                let Ok(copy) = watched.as_fd().try_clone_to_owned() else {
                    slot.socket = Some(watched);
                    (slot.input.watch, slot.output.watch) = (input, output);
                    return None;
                };
                self.retiring.push(Retired { socket: watched, input, output });
                copy
            }
        };
        self.slots.release(conn.slot);
        Some(socket)
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
        if slot.phase != Phase::Open || slot.shutdown != Shutdown::Open || slot.output.armed {
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
        let socket = slot.socket.as_ref()?;
        *slot.peer.get_or_init(|| socket::peer_address(socket.as_fd()))
    }

    fn turn(&mut self, until_ns: u64, events: &mut Vec<Event>) -> io::Result<()> {
        let before = events.len();
        let length_max = before.saturating_add(self.events_max);
        self.statistics.turns += 1;
        self.slots.free_handed();
        loop {
            self.feed_starved();
            self.settle_listed();
            let deadline_ns = self.wheel.deadline_ns().map_or(until_ns, |timer_ns| timer_ns.min(until_ns));
            let wait = !self.is_busy() && deadline_ns > self.now_ns;
            if wait {
                self.set_alarm(deadline_ns);
            }
            self.pass(wait);
            self.now_ns = clock_monotonic_ns();
            self.take_ready();
            let room = length_max - self.room_for_timers();
            self.accept_waiting(room.saturating_sub(events.len() + self.pending.len()));
            self.hand_over(events, room);
            self.read_readable(events, room);
            self.fire_timers(events, length_max);
            if events.len() > before || self.now_ns >= until_ns {
                return Ok(());
            }
        }
    }

    fn statistics(&self) -> Statistics {
        self.statistics
    }
}

impl<K: Kind> Drop for Monoio<K> {
    /// The tasks hold the driver, and the driver holds the tasks: they have to be ended.
    fn drop(&mut self) {
        for (socket, input, output) in self.slots.take_all() {
            self.retiring.push(Retired { socket, input: input.watch, output: output.watch });
        }
        self.stop_listening();
        self.retiring.extend([self.bell.retired(), self.clock.retired()].into_iter().flatten());
        for _ in 0..LAST_PASSES {
            self.pass(false);
            if self.board.tasks() == 1 {
                break;
            }
        }
        let pulse = &self.pulse;
        self.runtime.block_on(async { pulse.end() });
        self.runtime.block_on(async {});
    }
}

/// The connection that an event is about.
fn conn_of(event: &Event) -> Option<Conn> {
    match event {
        Event::Accepted { conn, .. }
        | Event::Connected { conn, .. }
        | Event::Data { conn, .. }
        | Event::Eof { conn }
        | Event::Sent { conn }
        | Event::Closed { conn, .. } => Some(*conn),
        Event::Timer { .. } | Event::Woken => None,
    }
}

fn full() -> io::Error {
    io::Error::new(io::ErrorKind::QuotaExceeded, "every connection slot is taken; raise connections_max")
}

fn position(index: u32) -> usize {
    usize::try_from(index).expect("invariant: pointers have at least 32 bits")
}
