//! Where an engine under test lives: how its peers reach it, and by which clock. Scenarios are written once and run in
//! the kernel's network with real sockets, or in a simulated one.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use twintier::engine::socket::{listen, local_address};
use twintier::engine::{Address, Engine, Waker, clock_monotonic_ns};

use crate::driver::PATIENCE;

/// An engine and the network around it. Peers are blocking: they run on threads of their own ([`Subject::spawn`]), or
/// on the engine's thread for what cannot block.
pub trait Subject: Engine {
    type Peer: Peer;

    /// More bytes than a connection holds while its other end reads nothing.
    const AMPLE_BYTES: usize;

    /// A scenario begins.
    fn begin() {}

    /// Listens at `address`, or near it if it is taken, and says where.
    fn listen_near(&mut self, address: &Address) -> Address;

    /// The engine's clock.
    fn clock_ns() -> u64 {
        clock_monotonic_ns()
    }

    /// Connects as a peer.
    fn peer_to(address: &Address) -> io::Result<Self::Peer>;

    /// The peer's own end, as the engine sees it.
    fn address_of(peer: &Self::Peer) -> SocketAddr;

    /// A connection that an engine has given away.
    fn taken_over(socket: OwnedFd) -> Self::Peer;

    /// An address where nobody listens.
    fn nobody() -> Address;

    /// Runs peers beside the engine.
    fn spawn<T: Send + 'static>(play: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
        thread::spawn(play)
    }

    /// Waits for peers whose last deeds need no engine any more.
    fn join<T>(play: JoinHandle<T>) -> T {
        play.join().unwrap()
    }

    /// The engine had its turn: peers may go on.
    fn after_turn() {}

    /// Wakes the engine while its next turn waits.
    fn wake_soon(waker: Waker) -> JoinHandle<()> {
        thread::spawn(move || {
            // Plays a thread that has something to tell while the engine sleeps.
            thread::sleep(Duration::from_millis(20));
            waker.wake();
        })
    }
}

/// The other end of a connection. Dropping it closes it as a kernel does: with a reset if input is unread.
pub trait Peer: Read + Write + Send + 'static {
    /// Sends FIN; reading goes on.
    fn end_sending(&self);
}

/// A peer over a real socket.
pub enum SocketPeer {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Read for SocketPeer {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(bytes),
            Self::Unix(stream) => stream.read(bytes),
        }
    }
}

impl Write for SocketPeer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.write(bytes),
            Self::Unix(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Peer for SocketPeer {
    fn end_sending(&self) {
        match self {
            Self::Tcp(stream) => stream.shutdown(Shutdown::Write).unwrap(),
            Self::Unix(stream) => stream.shutdown(Shutdown::Write).unwrap(),
        }
    }
}

/// Connects over the kernel's network; no read or write waits for longer than [`PATIENCE`].
pub fn connect(address: &Address) -> io::Result<SocketPeer> {
    match address {
        Address::Tcp(address) => {
            let stream = TcpStream::connect(address)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.set_write_timeout(Some(PATIENCE))?;
            Ok(SocketPeer::Tcp(stream))
        }
        Address::Unix(path) => {
            let stream = UnixStream::connect(path)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.set_write_timeout(Some(PATIENCE))?;
            Ok(SocketPeer::Unix(stream))
        }
    }
}

/// Listens with a real socket.
pub fn listen_on<E: Engine>(engine: &mut E, address: &Address) -> Address {
    let socket = listen(address, 1024, false).unwrap();
    let address = local_address(&socket).unwrap();
    engine.listen(socket).unwrap();
    address
}

pub fn local_end(peer: &SocketPeer) -> SocketAddr {
    match peer {
        SocketPeer::Tcp(stream) => stream.local_addr().unwrap(),
        SocketPeer::Unix(_) => panic!("a Unix socket has no such address"),
    }
}

/// A port that was free a moment ago; nobody listens there now.
pub fn free_port() -> Address {
    Address::Tcp(TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap())
}

/// An engine whose network is the kernel's.
macro_rules! on_sockets {
    ($engine:ty) => {
        impl crate::subject::Subject for $engine {
            type Peer = crate::subject::SocketPeer;

            const AMPLE_BYTES: usize = 32 << 20;

            fn listen_near(&mut self, address: &twintier::engine::Address) -> twintier::engine::Address {
                crate::subject::listen_on(self, address)
            }

            fn peer_to(address: &twintier::engine::Address) -> std::io::Result<Self::Peer> {
                crate::subject::connect(address)
            }

            fn address_of(peer: &Self::Peer) -> std::net::SocketAddr {
                crate::subject::local_end(peer)
            }

            fn taken_over(socket: std::os::fd::OwnedFd) -> Self::Peer {
                crate::subject::SocketPeer::Tcp(socket.into())
            }

            fn nobody() -> twintier::engine::Address {
                crate::subject::free_port()
            }
        }
    };
}

pub(crate) use on_sockets;
