//! The simulated network: virtual time, listeners, and connections as pairs of pipes.

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::rc::Rc;

use crate::engine::Address;

/// How cruel the network is. Chances are in a thousand.
#[derive(Clone, Debug)]
pub struct Faults {
    /// A piece takes up to so long.
    pub latency_ns_max: u64,
    /// A connection is passed over in a turn although something is there for it.
    pub late: u64,
    /// A send or receive is cut at a random place.
    pub cut: u64,
    /// A connect is refused.
    pub refuse: u64,
    /// A connect takes a second and more.
    pub slow_connect: u64,
    /// A connection is reset at a receive or send.
    pub reset: u64,
    /// No buffer is found although there are some.
    pub exhaust: u64,
    /// Bytes that a connection holds in one direction.
    pub window: usize,
    /// The slot that has been free for the longest is used next. Otherwise it is the one freed last, as the kernel's
    /// engine does it: from the turn after its `Closed` on a slot is soon another connection's.
    pub slots_rest: bool,
}

impl Default for Faults {
    fn default() -> Self {
        Self {
            latency_ns_max: 3_000_000,
            late: 200,
            cut: 400,
            refuse: 0,
            slow_connect: 0,
            reset: 0,
            exhaust: 50,
            window: 32 * 1024,
            slots_rest: false,
        }
    }
}

/// A seeded generator (splitmix64).
#[derive(Clone, Debug)]
pub struct Random(pub u64);

impl Random {
    #[expect(clippy::should_implement_trait, reason = "a generator has no end")]
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Below `end`; 0 if that is 0.
    pub fn below(&mut self, end: u64) -> u64 {
        if end == 0 { 0 } else { self.next() % end }
    }

    /// Below `end`, for sizes.
    pub fn size(&mut self, end: usize) -> usize {
        if end == 0 { 0 } else { usize::try_from(self.next() % end as u64).unwrap_or(0) }
    }

    /// True `thousandths` times in a thousand.
    pub fn chance(&mut self, thousandths: u64) -> bool {
        self.below(1000) < thousandths
    }
}

#[derive(Debug)]
pub(super) enum Segment {
    Bytes(VecDeque<u8>),
    Fin,
}

/// One direction of a connection.
#[derive(Debug, Default)]
pub(super) struct Pipe {
    /// What is on its way, with the time when it arrives; times rise.
    pub segments: VecDeque<(u64, Segment)>,
    pub bytes: usize,
    pub fin: bool,
}

#[derive(Debug)]
pub(super) struct Link {
    /// `pipes[side]` carries what `side` sends.
    pub pipes: [Pipe; 2],
    /// A side that has closed or was reset.
    pub gone: [bool; 2],
    /// The other side reset: known here from this time on.
    pub reset_at: [Option<u64>; 2],
    /// When the connect completes; `None` as the outcome means refused.
    pub connect_at: u64,
    pub refused: bool,
    pub to: Address,
}

#[derive(Debug)]
pub(super) struct Listening {
    pub address: Address,
    pub backlog: VecDeque<usize>,
    pub open: bool,
}

/// What a scripted peer finds when it reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Read {
    Bytes(Vec<u8>),
    Pending,
    Eof,
    Reset,
}

/// One end of a connection, held by a scripted peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Peer {
    pub(super) link: usize,
    pub(super) side: usize,
}

#[derive(Debug)]
pub(super) struct Net {
    pub now_ns: u64,
    pub random: Random,
    pub faults: Faults,
    pub listeners: Vec<Listening>,
    pub links: Vec<Link>,
    /// Connections between engines, by the number of the descriptor that stands for them.
    pub handed_over: HashMap<i32, Peer>,
    /// A turn does not sleep past this.
    pub alarm_ns: u64,
}

/// A simulated network that engines and scripted peers share.
#[derive(Clone, Debug)]
pub struct World {
    pub(super) net: Rc<RefCell<Net>>,
}

thread_local! {
    static CURRENT: RefCell<Option<World>> = const { RefCell::new(None) };
}

impl World {
    pub fn new(seed: u64, faults: Faults) -> Self {
        let net = Net {
            now_ns: 1_000_000_000,
            random: Random(seed),
            faults,
            listeners: Vec::new(),
            links: Vec::new(),
            handed_over: HashMap::new(),
            alarm_ns: u64::MAX,
        };
        Self { net: Rc::new(RefCell::new(net)) }
    }

    /// Engines that are made on this thread from now on belong to this world.
    pub fn enter(&self) {
        CURRENT.with(|current| *current.borrow_mut() = Some(self.clone()));
    }

    /// The world that this thread has entered last.
    pub fn current() -> Option<Self> {
        CURRENT.with(|current| current.borrow().clone())
    }

    /// Takes over a connection that an engine gave away with [`Engine::detach`](crate::engine::Engine::detach).
    pub fn take_over(&self, socket: &OwnedFd) -> Option<Peer> {
        self.net.borrow_mut().handed_over.remove(&socket.as_raw_fd())
    }

    /// Resets every connection that an engine gave away and nobody took over: its descriptor was closed.
    pub fn reset_handed_over(&self) {
        let mut net = self.net.borrow_mut();
        let lost = std::mem::take(&mut net.handed_over);
        let mut lost: Vec<Peer> = lost.into_values().collect();
        lost.sort_by_key(|peer| (peer.link, peer.side));
        for peer in lost {
            net.reset(peer);
        }
    }

    pub fn now_ns(&self) -> u64 {
        self.net.borrow().now_ns
    }

    pub fn set_faults(&self, faults: Faults) {
        self.net.borrow_mut().faults = faults;
    }

    /// Engines do not sleep past `at_ns`: a script has something to do then.
    pub fn set_alarm(&self, at_ns: u64) {
        self.net.borrow_mut().alarm_ns = at_ns;
    }

    /// Lets time pass.
    pub fn advance(&self, ns: u64) {
        self.net.borrow_mut().now_ns += ns;
    }

    /// A scripted server listens.
    pub fn listen(&self, address: &Address) -> usize {
        self.net.borrow_mut().listen(address)
    }

    /// Stops a scripted server; connections that wait are reset.
    pub fn stop(&self, listener: usize) {
        self.net.borrow_mut().stop(listener);
    }

    /// The next connection of a scripted server.
    pub fn accept(&self, listener: usize) -> Option<Peer> {
        self.net.borrow_mut().accept(listener)
    }

    /// When the next connection of a scripted server can be accepted.
    pub fn acceptable_at(&self, listener: usize) -> Option<u64> {
        let net = self.net.borrow();
        net.listeners[listener].backlog.front().map(|&link| net.links[link].connect_at)
    }

    /// A scripted browser connects.
    pub fn connect(&self, to: &Address) -> Peer {
        self.net.borrow_mut().connect(to)
    }

    /// Whether the connect has been decided, and how.
    pub fn connected(&self, peer: Peer) -> Option<bool> {
        self.net.borrow().connected(peer)
    }

    /// When the connect is decided.
    pub fn connecting_until(&self, peer: Peer) -> Option<u64> {
        self.net.borrow().links.get(peer.link).map(|link| link.connect_at)
    }

    /// When a read could find something, if that is known.
    pub fn readable_at(&self, peer: Peer) -> Option<u64> {
        self.net.borrow().readable_at(peer)
    }

    pub fn read(&self, peer: Peer, bytes_max: usize) -> Read {
        self.net.borrow_mut().read(peer, bytes_max)
    }

    /// Sends what fits and says how much that was; `None` if the connection is broken.
    pub fn write(&self, peer: Peer, bytes: &[u8]) -> Option<usize> {
        self.net.borrow_mut().write(peer, bytes)
    }

    pub fn shutdown(&self, peer: Peer) {
        self.net.borrow_mut().shutdown(peer);
    }

    pub fn reset(&self, peer: Peer) {
        self.net.borrow_mut().reset(peer);
    }

    /// Closes as a kernel does: with a reset if bytes were not read.
    pub fn close(&self, peer: Peer) {
        self.net.borrow_mut().close(peer);
    }
}

impl Net {
    pub fn listen(&mut self, address: &Address) -> usize {
        self.listeners.push(Listening { address: address.clone(), backlog: VecDeque::new(), open: true });
        self.listeners.len() - 1
    }

    pub fn stop(&mut self, listener: usize) {
        self.listeners[listener].open = false;
        for link in std::mem::take(&mut self.listeners[listener].backlog) {
            self.reset(Peer { link, side: 1 });
        }
    }

    pub fn accept(&mut self, listener: usize) -> Option<Peer> {
        let link = *self.listeners[listener].backlog.front()?;
        if self.links[link].connect_at > self.now_ns {
            return None;
        }
        self.listeners[listener].backlog.pop_front();
        Some(Peer { link, side: 1 })
    }

    pub fn connect(&mut self, to: &Address) -> Peer {
        let mut wait = self.random.below(self.faults.latency_ns_max + 1);
        if self.random.chance(self.faults.slow_connect) {
            wait += 1_000_000_000 + self.random.below(4_000_000_000);
        }
        let listener = self.choose_listener(to);
        let refused = listener.is_none() || self.random.chance(self.faults.refuse);
        let link = self.links.len();
        self.links.push(Link {
            pipes: [Pipe::default(), Pipe::default()],
            gone: [false, refused],
            reset_at: [None; 2],
            connect_at: self.now_ns + wait,
            refused,
            to: to.clone(),
        });
        if let Some(listener) = listener.filter(|_| !refused) {
            self.listeners[listener].backlog.push_back(link);
        }
        Peer { link, side: 0 }
    }

    /// One of the listeners that share the address, as the kernel deals them.
    fn choose_listener(&mut self, to: &Address) -> Option<usize> {
        let listens = |listener: &Listening| listener.open && listener.address == *to;
        let count = self.listeners.iter().filter(|listener| listens(listener)).count();
        let place = if count > 1 { self.random.size(count) } else { 0 };
        let mut open = self.listeners.iter().enumerate().filter(|(_, listener)| listens(listener));
        open.nth(place).map(|(index, _)| index)
    }

    pub fn connected(&self, peer: Peer) -> Option<bool> {
        let link = &self.links[peer.link];
        (link.connect_at <= self.now_ns).then_some(!link.refused)
    }

    /// Whether the peer's reset has arrived.
    pub fn is_reset(&self, peer: Peer) -> bool {
        self.links[peer.link].reset_at[peer.side].is_some_and(|at| at <= self.now_ns)
    }

    /// Whether a read would find something.
    pub fn readable(&self, peer: Peer) -> bool {
        self.is_reset(peer)
            || self.links[peer.link].pipes[1 - peer.side].segments.front().is_some_and(|&(at, _)| at <= self.now_ns)
    }

    /// When a read could find something, if that is known.
    pub fn readable_at(&self, peer: Peer) -> Option<u64> {
        let link = &self.links[peer.link];
        let first = link.pipes[1 - peer.side].segments.front().map(|&(at, _)| at);
        first.into_iter().chain(link.reset_at[peer.side]).min()
    }

    pub fn read(&mut self, peer: Peer, bytes_max: usize) -> Read {
        let now_ns = self.now_ns;
        let link = &mut self.links[peer.link];
        let pipe = &mut link.pipes[1 - peer.side];
        let mut bytes = Vec::new();
        while bytes.len() < bytes_max
            && let Some((at, segment)) = pipe.segments.front_mut()
            && *at <= now_ns
        {
            match segment {
                Segment::Bytes(waiting) => {
                    let count = waiting.len().min(bytes_max - bytes.len());
                    bytes.extend(waiting.drain(..count));
                    pipe.bytes -= count;
                    if waiting.is_empty() {
                        pipe.segments.pop_front();
                    }
                }
                Segment::Fin if bytes.is_empty() => return Read::Eof,
                Segment::Fin => break,
            }
        }
        if !bytes.is_empty() {
            return Read::Bytes(bytes);
        }
        if self.is_reset(peer) { Read::Reset } else { Read::Pending }
    }

    pub fn write(&mut self, peer: Peer, bytes: &[u8]) -> Option<usize> {
        let at = self.now_ns + self.random.below(self.faults.latency_ns_max + 1);
        if self.is_reset(peer) || self.links[peer.link].gone[peer.side] {
            return None;
        }
        let window = self.faults.window;
        let link = &mut self.links[peer.link];
        if link.gone[1 - peer.side] {
            // Nobody is there any more: the kernel answers with a reset.
            link.reset_at[peer.side].get_or_insert(at);
            return Some(bytes.len());
        }
        let pipe = &mut link.pipes[peer.side];
        let count = bytes.len().min(window.saturating_sub(pipe.bytes));
        if count > 0 && !pipe.fin {
            let at = at.max(pipe.segments.back().map_or(0, |&(at, _)| at));
            pipe.segments.push_back((at, Segment::Bytes(bytes[..count].iter().copied().collect())));
            pipe.bytes += count;
        }
        Some(count)
    }

    pub fn shutdown(&mut self, peer: Peer) {
        let at = self.now_ns + self.random.below(self.faults.latency_ns_max + 1);
        let pipe = &mut self.links[peer.link].pipes[peer.side];
        if !pipe.fin {
            pipe.fin = true;
            let at = at.max(pipe.segments.back().map_or(0, |&(at, _)| at));
            pipe.segments.push_back((at, Segment::Fin));
        }
    }

    pub fn reset(&mut self, peer: Peer) {
        let at = self.now_ns + self.random.below(self.faults.latency_ns_max + 1);
        let overtakes = self.random.chance(500);
        let link = &mut self.links[peer.link];
        if link.gone[peer.side] {
            return;
        }
        link.gone[peer.side] = true;
        let pipe = &mut link.pipes[peer.side];
        let after = pipe.segments.back().map_or(0, |&(at, _)| at);
        if overtakes {
            pipe.segments.clear();
            pipe.bytes = 0;
        }
        link.reset_at[1 - peer.side] = Some(if overtakes { at } else { at.max(after) });
        // What the other side sent to us is lost.
        link.pipes[1 - peer.side].segments.clear();
        link.pipes[1 - peer.side].bytes = 0;
    }

    /// Something between the two ends drops the connection: both see a reset.
    pub fn cut(&mut self, link: usize) {
        let now_ns = self.now_ns;
        let link = &mut self.links[link];
        for side in 0..2 {
            link.reset_at[side].get_or_insert(now_ns);
            link.pipes[side].segments.clear();
            link.pipes[side].bytes = 0;
        }
    }

    pub fn close(&mut self, peer: Peer) {
        let unread = self.links[peer.link].pipes[1 - peer.side].bytes > 0;
        if unread {
            return self.reset(peer);
        }
        self.shutdown(peer);
        self.links[peer.link].gone[peer.side] = true;
    }
}
