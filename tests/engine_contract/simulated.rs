//! The simulated network as a place for scenarios: the peers' threads and the engine take turns in virtual time.
//!
//! ```text
//!   peer 1 ── read ──▶ ┐                      ┌─▶ the world
//!   peer 2 ── write ─▶ ├─ desk (on the engine's thread, after each turn)
//!   peer 3 ── … ─────▶ ┘
//! ```
//! The world belongs to the engine's thread. Peers on other threads send their deeds there and wait; a deed that would
//! block stays at the desk until a later turn. The desk acts only when every peer waits, and in the order of their
//! numbers: so the outcome depends on the world's seed and not on the threads.

use std::cell::RefCell;
use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};

use twintier::engine::sim::{self, Faults, Sim, World};
use twintier::engine::{Address, Waker};

use crate::driver::PATIENCE;
use crate::subject::{Peer, Subject};

const SEED: u64 = 7;
const MS: u64 = 1_000_000;
/// What a deed on the engine's own thread may wait for before it would wait for ever.
const WAITS_MAX: u32 = 10_000;

enum Deed {
    Connect(Address),
    Connected(sim::Peer),
    Read(sim::Peer, usize),
    Write(sim::Peer, Vec<u8>),
    EndSending(sim::Peer),
    Close(sim::Peer),
}

enum Done {
    Peer(sim::Peer),
    Bytes(Vec<u8>),
    Count(usize),
    Failed(ErrorKind),
}

/// A message of a peer's thread.
enum Message {
    Deed { peer: u32, deed: Deed, reply: Sender<Done> },
    Gone,
}

struct Desk {
    messages: Receiver<Message>,
    sender: Sender<Message>,
    /// Threads that were started and have not ended.
    living: usize,
    started: u32,
    /// Deeds that would block.
    waiting: Vec<(u32, Deed, Sender<Done>)>,
    listeners: u16,
}

thread_local! {
    /// On the engine's thread.
    static DESK: RefCell<Option<Desk>> = const { RefCell::new(None) };
    /// On a peer's thread.
    static LINE: RefCell<Option<(u32, Sender<Message>)>> = const { RefCell::new(None) };
}

fn with_desk<T>(act: impl FnOnce(&mut Desk) -> T) -> T {
    DESK.with(|desk| act(desk.borrow_mut().as_mut().expect("a scenario has begun")))
}

fn world() -> World {
    World::current().expect("a scenario has begun")
}

/// Does a deed if it does not block.
fn attempt(world: &World, deed: &mut Deed) -> Option<Done> {
    match deed {
        Deed::Connect(address) => {
            let peer = world.connect(address);
            *deed = Deed::Connected(peer);
            attempt(world, deed)
        }
        Deed::Connected(peer) => match world.connected(*peer)? {
            true => Some(Done::Peer(*peer)),
            false => Some(Done::Failed(ErrorKind::ConnectionRefused)),
        },
        Deed::Read(peer, bytes_max) => match world.read(*peer, *bytes_max) {
            sim::Read::Bytes(bytes) => Some(Done::Bytes(bytes)),
            sim::Read::Pending => None,
            sim::Read::Eof => Some(Done::Bytes(Vec::new())),
            sim::Read::Reset => Some(Done::Failed(ErrorKind::ConnectionReset)),
        },
        Deed::Write(peer, bytes) => match world.write(*peer, bytes) {
            Some(0) if !bytes.is_empty() => None,
            Some(count) => Some(Done::Count(count)),
            None => Some(Done::Failed(ErrorKind::BrokenPipe)),
        },
        Deed::EndSending(peer) => {
            world.shutdown(*peer);
            Some(Done::Count(0))
        }
        Deed::Close(peer) => {
            world.close(*peer);
            Some(Done::Count(0))
        }
    }
}

/// Does a deed, wherever it is called.
fn act(mut deed: Deed) -> Done {
    if let Some((peer, line)) = LINE.with(|line| line.borrow().clone()) {
        let (reply, answer) = channel();
        line.send(Message::Deed { peer, deed, reply }).expect("the engine's thread waits for its peers");
        return answer.recv().expect("the engine's thread answers");
    }
    let world = world();
    for _ in 0..WAITS_MAX {
        if let Some(done) = attempt(&world, &mut deed) {
            return done;
        }
        // As a kernel's, it has what was sent to it already, once that has arrived.
        world.advance(MS);
    }
    Done::Failed(ErrorKind::TimedOut)
}

/// Lets peers act until all of them wait for the engine.
fn serve() {
    let world = world();
    with_desk(|desk| {
        loop {
            while desk.waiting.len() < desk.living {
                match desk.messages.recv_timeout(PATIENCE).expect("peers act or end") {
                    Message::Deed { peer, deed, reply } => desk.waiting.push((peer, deed, reply)),
                    Message::Gone => desk.living -= 1,
                }
            }
            desk.waiting.sort_by_key(|(peer, ..)| *peer);
            let before = desk.waiting.len();
            desk.waiting.retain_mut(|(_, deed, reply)| match attempt(&world, deed) {
                Some(done) => {
                    // A peer that has failed meanwhile is noticed when it is joined.
                    reply.send(done).ok();
                    false
                }
                None => true,
            });
            if desk.waiting.len() == before {
                return;
            }
        }
    });
}

/// A peer in the simulated world.
pub struct SimPeer(sim::Peer);

impl Read for SimPeer {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        match act(Deed::Read(self.0, bytes.len())) {
            Done::Bytes(found) => {
                bytes[..found.len()].copy_from_slice(&found);
                Ok(found.len())
            }
            Done::Failed(kind) => Err(kind.into()),
            Done::Peer(_) | Done::Count(_) => panic!("a read yields bytes"),
        }
    }
}

impl Write for SimPeer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // No more than any window takes.
        match act(Deed::Write(self.0, bytes[..bytes.len().min(1 << 16)].to_vec())) {
            Done::Count(count) => Ok(count),
            Done::Failed(kind) => Err(kind.into()),
            Done::Peer(_) | Done::Bytes(_) => panic!("a write yields a count"),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Peer for SimPeer {
    fn end_sending(&self) {
        act(Deed::EndSending(self.0));
    }
}

impl Drop for SimPeer {
    fn drop(&mut self) {
        // A scenario that fails has no engine's thread any more.
        if !thread::panicking() {
            act(Deed::Close(self.0));
        }
    }
}

/// Tells the desk of a thread's end, whatever ends it.
struct Farewell(Sender<Message>);

impl Drop for Farewell {
    fn drop(&mut self) {
        self.0.send(Message::Gone).ok();
    }
}

impl Subject for Sim {
    type Peer = SimPeer;

    const AMPLE_BYTES: usize = 1 << 20;

    fn begin() {
        // Buffers run out when they are used up and not by chance: scenarios count them.
        World::new(SEED, Faults { exhaust: 0, ..Faults::default() }).enter();
        let (sender, messages) = channel();
        let desk = Desk { messages, sender, living: 0, started: 0, waiting: Vec::new(), listeners: 0 };
        DESK.with(|place| *place.borrow_mut() = Some(desk));
    }

    fn listen_near(&mut self, address: &Address) -> Address {
        let address = match address {
            Address::Tcp(_) => {
                let port = with_desk(|desk| {
                    desk.listeners += 1;
                    desk.listeners
                });
                Address::Tcp(SocketAddr::from(([10, 0, 0, 1], port)))
            }
            Address::Unix(path) => Address::Unix(path.clone()),
        };
        self.listen_at(&address);
        address
    }

    fn clock_ns() -> u64 {
        world().now_ns()
    }

    fn peer_to(address: &Address) -> io::Result<SimPeer> {
        match act(Deed::Connect(address.clone())) {
            Done::Peer(peer) => Ok(SimPeer(peer)),
            Done::Failed(kind) => Err(kind.into()),
            Done::Bytes(_) | Done::Count(_) => panic!("a connect yields a peer"),
        }
    }

    fn address_of(_: &SimPeer) -> SocketAddr {
        // What this world shows of every peer.
        SocketAddr::from(([10, 0, 0, 1], 40_000))
    }

    fn taken_over(socket: OwnedFd) -> SimPeer {
        SimPeer(world().take_over(&socket).expect("a connection of this world"))
    }

    fn nobody() -> Address {
        Address::Tcp(SocketAddr::from(([10, 9, 9, 9], 9)))
    }

    fn spawn<T: Send + 'static>(play: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
        let (number, sender) = with_desk(|desk| {
            desk.living += 1;
            desk.started += 1;
            (desk.started, desk.sender.clone())
        });
        thread::spawn(move || {
            let farewell = Farewell(sender.clone());
            LINE.with(|line| *line.borrow_mut() = Some((number, sender)));
            let outcome = play();
            drop(farewell);
            outcome
        })
    }

    fn join<T>(play: JoinHandle<T>) -> T {
        for _ in 0..WAITS_MAX {
            serve();
            if with_desk(|desk| desk.living == 0) || play.is_finished() {
                return play.join().unwrap();
            }
            world().advance(MS);
        }
        panic!("a peer waits in vain");
    }

    fn after_turn() {
        serve();
    }

    fn wake_soon(waker: Waker) -> JoinHandle<()> {
        // Virtual time does not wait for other threads: the call itself is what a turn has to notice.
        waker.wake();
        thread::spawn(|| {})
    }
}
