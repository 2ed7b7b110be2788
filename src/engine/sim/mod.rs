//! A deterministic engine on a simulated network: seeded, in virtual time, as cruel as the kernel.
//!
//! ```text
//!   machines ──▶ Sim ──▶ World ◀── Sim ◀── machines
//!                          ▲
//!                       scripted peers
//! ```
//! A turn passes over connections, cuts sends and receives at random places, mixes the order of connections, and lets
//! virtual time jump to the next thing that happens. It keeps every promise of [`Engine`], so what breaks above it
//! would break above the kernel as well.

mod world;

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd as _, OwnedFd};

use super::{Address, Chunk, Close, CloseReason, Config, Conn, Engine, Event, Lease, ListenerId, Pool, Statistics};
use super::{Waker, socket};

pub use world::{Faults, Peer, Random, Read, World};

const CONNECTION_REFUSED: i32 = 111;
const CONNECTION_RESET: i32 = 104;
const MS: u64 = 1_000_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Free,
    Connecting,
    Open,
    Flushing,
    Lingering(u64),
    Closing,
}

#[derive(Debug)]
struct Slot {
    generation: u32,
    phase: Phase,
    peer: Option<Peer>,
    receive: bool,
    received_ever: bool,
    /// The turn that handed over its last event: a caller may still have that before it.
    told_in: u64,
    ended: bool,
    flush: bool,
    reset: bool,
    failure: Option<i32>,
    queue: VecDeque<Chunk>,
    queued: usize,
    shutdown: bool,
    fin: bool,
    accepted: bool,
}

impl Slot {
    fn free(generation: u32) -> Self {
        Self {
            generation,
            phase: Phase::Free,
            peer: None,
            receive: false,
            received_ever: false,
            told_in: 0,
            ended: false,
            flush: false,
            reset: false,
            failure: None,
            queue: VecDeque::new(),
            queued: 0,
            shutdown: false,
            fin: false,
            accepted: false,
        }
    }
}

/// An engine of a [`World`].
#[derive(Debug)]
pub struct Sim {
    world: World,
    waker: Waker,
    /// The waker was rung, and no event has told of it.
    rung: bool,
    config: Config,
    slots: Vec<Slot>,
    free: Vec<u32>,
    /// Closed in this turn: used again from the next on, when everybody has heard of it, as the kernel's engine does.
    resting: Vec<u32>,
    listeners: Vec<usize>,
    receive_pool: Pool,
    send_pool: Pool,
    timers: BTreeMap<(u64, u64), u64>,
    timers_made: u64,
    now_ns: u64,
    statistics: Statistics,
    /// Completions that had been counted when the last pass began.
    entered_at: u64,
}

impl Sim {
    /// Listens without a real socket.
    pub fn listen_at(&mut self, address: &Address) -> ListenerId {
        let number = self.world.net.borrow_mut().listen(address);
        self.listeners.push(number);
        ListenerId(u32::try_from(self.listeners.len() - 1).unwrap_or(u32::MAX))
    }

    /// Buffers that nobody holds: for the kernel's side and for ours.
    pub fn buffers_available(&self) -> (usize, usize) {
        (self.receive_pool.available(), self.send_pool.available())
    }

    /// Connections that are not free.
    pub fn connections(&self) -> usize {
        self.slots.iter().filter(|slot| slot.phase != Phase::Free).count()
    }

    fn claim(&mut self, peer: Peer, phase: Phase) -> Option<Conn> {
        let index = if self.world.net.borrow().faults.slots_rest && !self.free.is_empty() {
            self.free.remove(0)
        } else {
            self.free.pop()?
        };
        let slot = &mut self.slots[index as usize];
        slot.phase = phase;
        slot.peer = Some(peer);
        Some(Conn { slot: index, generation: slot.generation })
    }

    fn slot(&mut self, conn: Conn) -> Option<&mut Slot> {
        let slot = self.slots.get_mut(conn.slot as usize)?;
        (slot.generation == conn.generation && slot.phase != Phase::Free).then_some(slot)
    }

    /// Makes a slot free: at once if no event tells of it, from the next turn on otherwise.
    fn release(&mut self, index: u32, told: bool) {
        let slot = &mut self.slots[index as usize];
        *slot = Slot::free(slot.generation.wrapping_add(1));
        if told { &mut self.resting } else { &mut self.free }.push(index);
    }

    /// When a turn could find something, as far as the network and the timers tell: where several engines share a
    /// world, whoever turns them asks each, and lets none sleep ([`World::set_alarm`] with a time that is over).
    pub fn due_ns(&self) -> u64 {
        let net = self.world.net.borrow();
        let mut next = u64::MAX;
        if let Some((&(at, _), _)) = self.timers.first_key_value() {
            next = next.min(at);
        }
        // Without a buffer nothing is received: time goes on until one comes back, as it does in the kernel.
        let fed = self.receive_pool.available() > 0;
        let readable_at = |peer| net.readable_at(peer).filter(|_| fed);
        for &listener in &self.listeners {
            if let Some(&link) = net.listeners[listener].backlog.front() {
                next = next.min(net.links[link].connect_at);
            }
        }
        for slot in &self.slots {
            let Some(peer) = slot.peer else { continue };
            let wants = match slot.phase {
                Phase::Free => continue,
                Phase::Connecting => Some(net.links[peer.link].connect_at),
                Phase::Open => {
                    if slot.shutdown && !slot.fin && slot.queued == 0 {
                        Some(0)
                    } else if slot.receive && !slot.ended {
                        readable_at(peer)
                    } else {
                        net.links[peer.link].reset_at[peer.side].filter(|_| slot.queued > 0)
                    }
                }
                Phase::Flushing if slot.queued == 0 => Some(0),
                // An end of input stays readable: it is no reason to look again.
                Phase::Flushing if slot.ended => None,
                Phase::Flushing => readable_at(peer),
                Phase::Lingering(until) => Some(readable_at(peer).map_or(until, |at| at.min(until))),
                Phase::Closing => Some(0),
            };
            if let Some(at) = wants {
                next = next.min(at);
            }
            let room = net.faults.window.saturating_sub(net.links[peer.link].pipes[peer.side].bytes);
            if slot.queued > 0 && room > 0 && slot.phase != Phase::Connecting {
                next = 0;
            }
        }
        next
    }

    fn chance(&self, thousandths: u64) -> bool {
        self.world.net.borrow_mut().random.chance(thousandths)
    }

    fn accept_some(&mut self, events: &mut Vec<Event>, length_max: usize) {
        for number in 0..self.listeners.len() {
            while events.len() < length_max {
                let Some(peer) = self.world.net.borrow_mut().accept(self.listeners[number]) else { break };
                if let Some(conn) = self.claim(peer, Phase::Open) {
                    self.slots[conn.slot as usize].accepted = true;
                    self.statistics.completions += 1;
                    self.statistics.accepted += 1;
                    let listener = ListenerId(u32::try_from(number).unwrap_or(u32::MAX));
                    events.push(Event::Accepted { listener, conn });
                } else {
                    self.statistics.completions += 1;
                    self.statistics.refused += 1;
                    self.world.net.borrow_mut().reset(peer);
                }
            }
        }
    }

    fn fail(&mut self, index: usize, errno: i32) {
        let slot = &mut self.slots[index];
        if matches!(slot.phase, Phase::Open | Phase::Flushing) {
            slot.failure = Some(errno);
        }
        slot.phase = Phase::Closing;
    }

    /// One step of one connection; at most two events.
    fn step(&mut self, index: usize, events: &mut Vec<Event>) {
        let Some(peer) = self.slots[index].peer else { return };
        let number = u32::try_from(index).unwrap_or(u32::MAX);
        let conn = Conn { slot: number, generation: self.slots[index].generation };
        match self.slots[index].phase {
            Phase::Free => {}
            Phase::Connecting => self.step_connect(index, conn, peer, events),
            Phase::Open | Phase::Flushing => {
                let sent = self.send_some(index, peer);
                if sent && self.slots[index].phase == Phase::Open {
                    events.push(Event::Sent { conn });
                }
                self.finish_output(index, peer);
                if matches!(self.slots[index].phase, Phase::Open | Phase::Flushing) {
                    self.receive_some(index, conn, peer, events);
                }
            }
            Phase::Lingering(until) => {
                self.receive_some(index, conn, peer, events);
                if self.now_ns >= until {
                    self.slots[index].phase = Phase::Closing;
                }
            }
            Phase::Closing => {
                let slot = &mut self.slots[index];
                let reason = slot.failure.map_or(CloseReason::Ordered, CloseReason::Failed);
                if slot.reset {
                    self.world.net.borrow_mut().reset(peer);
                } else {
                    self.world.net.borrow_mut().close(peer);
                }
                self.release(number, true);
                self.statistics.closed += 1;
                events.push(Event::Closed { conn, reason });
            }
        }
    }

    fn step_connect(&mut self, index: usize, conn: Conn, peer: Peer, events: &mut Vec<Event>) {
        let outcome = self.world.net.borrow().connected(peer);
        let Some(good) = outcome else { return };
        self.statistics.completions += 1;
        let slot = &mut self.slots[index];
        if good {
            self.statistics.connected += 1;
            slot.phase = if slot.flush { Phase::Flushing } else { Phase::Open };
        } else {
            slot.failure = Some(CONNECTION_REFUSED);
            slot.phase = Phase::Closing;
        }
        if !slot.flush {
            let result = if good { Ok(()) } else { Err(io::Error::from_raw_os_error(CONNECTION_REFUSED)) };
            events.push(Event::Connected { conn, result });
        }
    }

    /// Hands a part of the queue to the network; true if the queue became empty.
    fn send_some(&mut self, index: usize, peer: Peer) -> bool {
        let mut net = self.world.net.borrow_mut();
        let (cut, reset) = (net.faults.cut, net.faults.reset);
        let slot = &mut self.slots[index];
        if slot.queue.is_empty() {
            return false;
        }
        self.statistics.submissions += 1;
        self.statistics.completions += 1;
        if net.random.chance(reset) {
            net.cut(peer.link);
        }
        let mut budget = slot.queued;
        if net.random.chance(cut) {
            budget = 1 + net.random.size(budget);
        }
        while budget > 0
            && let Some(chunk) = slot.queue.front_mut()
        {
            let bytes = chunk.as_slice();
            let wanted = bytes.len().min(budget);
            let Some(count) = net.write(peer, &bytes[..wanted]) else {
                drop(net);
                self.fail(index, CONNECTION_RESET);
                return false;
            };
            self.statistics.sent_bytes += count as u64;
            slot.queued -= count;
            budget -= count;
            let whole = count == bytes.len();
            if whole {
                slot.queue.pop_front();
            } else {
                match chunk {
                    Chunk::Lease(lease) => lease.advance(count),
                    Chunk::Shared(_, range) => range.start += count,
                    Chunk::Static(bytes) => *bytes = &bytes[count..],
                }
            }
            if count < wanted {
                break;
            }
        }
        slot.queue.is_empty()
    }

    /// After the last byte: the FIN that was ordered, and the lingering.
    fn finish_output(&mut self, index: usize, peer: Peer) {
        let slot = &mut self.slots[index];
        let flushing = slot.phase == Phase::Flushing;
        if !slot.queue.is_empty() || slot.fin || !(slot.shutdown || flushing) {
            if flushing && slot.fin {
                slot.phase = Phase::Lingering(self.now_ns + u64::from(self.config.linger_ms) * MS);
            }
            return;
        }
        slot.fin = true;
        if flushing {
            slot.phase = if slot.ended {
                Phase::Closing
            } else {
                Phase::Lingering(self.now_ns + u64::from(self.config.linger_ms) * MS)
            };
        }
        self.world.net.borrow_mut().shutdown(peer);
    }

    fn receive_some(&mut self, index: usize, conn: Conn, peer: Peer, events: &mut Vec<Event>) {
        let slot = &self.slots[index];
        let drops = slot.phase != Phase::Open;
        if slot.ended || !(slot.receive || drops) || !self.world.net.borrow().readable(peer) {
            return;
        }
        self.statistics.completions += 1;
        let exhaust = self.world.net.borrow().faults.exhaust;
        let lease = self.receive_pool.lease().filter(|_| !self.chance(exhaust));
        let Some(mut lease) = lease else {
            self.statistics.exhaustions += 1;
            // It is armed again when it is passed over the next time.
            self.statistics.rearms += 1;
            self.statistics.submissions += 1;
            return;
        };
        let read = {
            let mut net = self.world.net.borrow_mut();
            let (cut, reset) = (net.faults.cut, net.faults.reset);
            if net.random.chance(reset) {
                net.cut(peer.link);
            }
            let mut wanted = lease.capacity_left();
            if net.random.chance(cut) {
                wanted = if net.random.chance(500) { 1 + net.random.size(8) } else { 1 + net.random.size(wanted) };
            }
            net.read(peer, wanted)
        };
        match read {
            Read::Bytes(bytes) => {
                self.statistics.received_bytes += bytes.len() as u64;
                lease.extend_from_slice(&bytes);
                if !drops {
                    events.push(Event::Data { conn, bytes: lease });
                }
            }
            Read::Pending => {}
            Read::Eof => {
                self.slots[index].ended = true;
                match self.slots[index].phase {
                    Phase::Open => events.push(Event::Eof { conn }),
                    Phase::Lingering(_) => self.slots[index].phase = Phase::Closing,
                    Phase::Free | Phase::Connecting | Phase::Flushing | Phase::Closing => {}
                }
            }
            Read::Reset => self.fail(index, CONNECTION_RESET),
        }
    }

    fn shuffled(&self) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.slots.len()).filter(|&at| self.slots[at].phase != Phase::Free).collect();
        let mut net = self.world.net.borrow_mut();
        for at in (1..order.len()).rev() {
            let other = net.random.size(at + 1);
            order.swap(at, other);
        }
        order
    }

    fn reap(&mut self, events: &mut Vec<Event>, length_max: usize) {
        let late = self.world.net.borrow().faults.late;
        if std::mem::take(&mut self.rung) {
            self.statistics.completions += 1;
            self.statistics.wakes += 1;
            events.push(Event::Woken);
        }
        while events.len() < length_max
            && let Some((&(at, made), &token)) = self.timers.first_key_value()
            && at <= self.now_ns
        {
            self.timers.remove(&(at, made));
            events.push(Event::Timer { token });
        }
        let rounds = 1 + self.world.net.borrow_mut().random.below(3);
        for round in 0..rounds {
            if round == 0 || self.chance(300) {
                self.accept_some(events, length_max);
            }
            for index in self.shuffled() {
                if events.len() + 2 > length_max && !(events.is_empty() && length_max < 2) {
                    return;
                }
                if !self.chance(late) {
                    let before = events.len();
                    self.step(index, events);
                    if events.len() > before {
                        self.slots[index].told_in = self.statistics.turns;
                    }
                }
            }
        }
    }
}

impl Engine for Sim {
    const NAME: &'static str = "sim";

    /// The engine belongs to the world that this thread has entered.
    fn new(config: &Config, waker: Waker) -> io::Result<Self> {
        let world = World::current().ok_or_else(|| io::Error::other("no world: call World::enter first"))?;
        let now_ns = world.now_ns();
        Ok(Self {
            world,
            waker,
            rung: false,
            config: config.clone(),
            slots: (0..config.connections_max).map(|_| Slot::free(0)).collect(),
            free: (0..config.connections_max).rev().collect(),
            resting: Vec::new(),
            listeners: Vec::new(),
            receive_pool: Pool::new(u32::from(config.receive_buffers), config.receive_buffer_bytes)?,
            send_pool: Pool::new(config.send_buffers, config.send_buffer_bytes)?,
            timers: BTreeMap::new(),
            timers_made: 0,
            now_ns,
            statistics: Statistics::default(),
            entered_at: 0,
        })
    }

    /// The socket's address becomes one of the world; the socket itself only keeps its place.
    fn listen(&mut self, socket: OwnedFd) -> io::Result<ListenerId> {
        let address = socket::local_address(&socket)?;
        Ok(self.listen_at(&address))
    }

    fn stop_listening(&mut self) {
        for &listener in &self.listeners {
            self.world.net.borrow_mut().stop(listener);
        }
    }

    fn connect(&mut self, to: &Address) -> io::Result<Conn> {
        if self.free.is_empty() {
            return Err(io::Error::other("no free slot"));
        }
        let peer = self.world.net.borrow_mut().connect(to);
        self.statistics.submissions += 1;
        self.claim(peer, Phase::Connecting).ok_or_else(|| io::Error::other("no free slot"))
    }

    fn adopt(&mut self, socket: OwnedFd) -> io::Result<Conn> {
        let peer = self.world.net.borrow_mut().handed_over.remove(&socket.as_raw_fd());
        let peer = peer.ok_or_else(|| io::Error::other("this socket is none of the simulated world"))?;
        let Some(conn) = self.claim(peer, Phase::Open) else {
            // The socket that was handed over is dropped, and that closes it.
            self.world.net.borrow_mut().close(peer);
            return Err(io::Error::other("no free slot"));
        };
        self.slots[conn.slot as usize].accepted = true;
        Ok(conn)
    }

    fn detach(&mut self, conn: Conn) -> Option<OwnedFd> {
        let slot = self.slot(conn)?;
        let quiet = slot.phase == Phase::Open && !slot.receive && slot.queued == 0 && !slot.shutdown && !slot.fin;
        let (told_in, received_ever) = (slot.told_in, slot.received_ever);
        // A pause takes effect when it does.
        if !quiet || told_in == self.statistics.turns || (received_ever && self.chance(300)) {
            return None;
        }
        let slot = self.slot(conn)?;
        let peer = slot.peer?;
        // A descriptor whose number stands for the connection.
        let token: OwnedFd = std::fs::File::open("/dev/null").ok()?.into();
        self.world.net.borrow_mut().handed_over.insert(token.as_raw_fd(), peer);
        self.release(conn.slot, false);
        Some(token)
    }

    fn receive(&mut self, conn: Conn, on: bool) {
        let Some(slot) = self.slot(conn) else { return };
        let (arms, again) = (on && !slot.receive, slot.received_ever);
        slot.receive = on;
        slot.received_ever |= on;
        self.statistics.submissions += u64::from(arms);
        self.statistics.rearms += u64::from(arms && again);
    }

    fn send(&mut self, conn: Conn, chunk: Chunk) {
        let Some(slot) = self.slot(conn) else { return };
        let open = matches!(slot.phase, Phase::Open | Phase::Connecting) && !slot.flush && !slot.shutdown;
        if open && !chunk.as_slice().is_empty() {
            slot.queued += chunk.as_slice().len();
            slot.queue.push_back(chunk);
        }
    }

    fn reclaim(&mut self, conn: Conn, bytes: usize) -> Option<Lease> {
        let slot = self.slot(conn)?;
        if slot.phase != Phase::Open || slot.flush || slot.shutdown {
            return None;
        }
        match slot.queue.back() {
            Some(Chunk::Lease(lease)) if lease.capacity_left() >= bytes => {}
            Some(_) | None => return None,
        }
        let Some(Chunk::Lease(lease)) = slot.queue.pop_back() else { return None };
        slot.queued -= lease.len();
        Some(lease)
    }

    fn queued_bytes(&self, conn: Conn) -> usize {
        let slot = self.slots.get(conn.slot as usize);
        slot.filter(|slot| slot.generation == conn.generation).map_or(0, |slot| slot.queued)
    }

    fn shutdown_send(&mut self, conn: Conn) {
        if let Some(slot) = self.slot(conn) {
            slot.shutdown = true;
        }
    }

    fn close(&mut self, conn: Conn, how: Close) {
        let Some(slot) = self.slot(conn) else { return };
        match how {
            Close::Flush if slot.phase == Phase::Connecting => slot.flush = true,
            Close::Flush if slot.phase == Phase::Open => slot.phase = Phase::Flushing,
            Close::Flush => {}
            Close::Reset => {
                slot.reset = true;
                slot.phase = Phase::Closing;
                slot.queue.clear();
                slot.queued = 0;
            }
        }
    }

    fn lease(&mut self) -> Option<Lease> {
        let exhaust = self.world.net.borrow().faults.exhaust;
        if self.chance(exhaust) {
            return None;
        }
        self.send_pool.lease()
    }

    fn timer(&mut self, at_ns: u64, token: u64) {
        self.timers_made += 1;
        self.timers.insert((at_ns.div_ceil(MS) * MS, self.timers_made), token);
    }

    fn now_ns(&self) -> u64 {
        self.now_ns
    }

    fn peer(&self, conn: Conn) -> Option<SocketAddr> {
        let slot = self.slots.get(conn.slot as usize)?;
        let peer = slot.peer.filter(|_| slot.generation == conn.generation)?;
        match &self.world.net.borrow().links[peer.link].to {
            Address::Tcp(address) if slot.accepted => Some(SocketAddr::new(address.ip(), 40_000)),
            Address::Tcp(address) => Some(*address),
            Address::Unix(_) => None,
        }
    }

    fn turn(&mut self, until_ns: u64, events: &mut Vec<Event>) -> io::Result<()> {
        self.statistics.turns += 1;
        self.free.append(&mut self.resting);
        let length_max = events.len().saturating_add(self.config.events_max);
        let before = events.len();
        loop {
            self.rung |= self.waker.take();
            let next_ns = if self.rung { 0 } else { self.due_ns().min(self.world.net.borrow().alarm_ns) };
            {
                let mut net = self.world.net.borrow_mut();
                // Running code takes time, too.
                let step = net.random.below(20_000);
                net.now_ns += step;
                let to_ns = next_ns.min(until_ns);
                if to_ns > net.now_ns {
                    net.now_ns = to_ns;
                }
                self.now_ns = net.now_ns;
            }
            self.statistics.count_enter(&mut self.entered_at);
            self.reap(events, length_max);
            let alarm_ns = self.world.net.borrow().alarm_ns;
            if events.len() > before || self.now_ns >= until_ns.min(alarm_ns) {
                return Ok(());
            }
        }
    }

    fn statistics(&self) -> Statistics {
        self.statistics
    }
}

impl Drop for Sim {
    fn drop(&mut self) {
        self.stop_listening();
        for slot in &self.slots {
            if let Some(peer) = slot.peer {
                self.world.net.borrow_mut().reset(peer);
            }
        }
    }
}
