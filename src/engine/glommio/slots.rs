//! The connections of one engine; the phases are those of the engine on io_uring.

use std::cell::OnceCell;
use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd};
use std::pin::Pin;
use std::task::Waker;

use glommio::net::TcpStream;

use super::board::{Board, Place};
use crate::engine::life::{Phase, Shutdown};
use crate::engine::{Chunk, Conn};

/// A connect that glommio works on.
pub(super) type Connect = Pin<Box<dyn Future<Output = io::Result<TcpStream>>>>;

/// What a slot holds of its connection. glommio's TCP stream stands for Unix sockets as well: all it does with a
/// descriptor is poll, `recv`, `send` and `shutdown`.
pub(super) enum Socket {
    None,
    Connecting(Connect),
    /// Not known to glommio's reactor yet.
    Plain(OwnedFd),
    Stream(TcpStream),
}

impl Socket {
    pub(super) fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Self::None | Self::Connecting(_) => None,
            Self::Plain(socket) => Some(socket.as_fd()),
            // SAFETY: the stream owns the descriptor and is borrowed for as long as this borrow of it lives.
            Self::Stream(stream) => Some(unsafe { BorrowedFd::borrow_raw(stream.as_raw_fd()) }),
        }
    }

    /// The stream, made now if the socket is still plain. Only while the executor runs.
    pub(super) fn stream(&mut self) -> &mut TcpStream {
        if let Self::Plain(_) = self
            && let Self::Plain(socket) = std::mem::replace(self, Self::None)
        {
            *self = Self::Stream(adopt(socket));
        }
        match self {
            Self::Stream(stream) => stream,
            Self::None | Self::Connecting(_) | Self::Plain(_) => panic!("invariant: an open slot has a socket"),
        }
    }
}

/// Gives a socket to glommio's reactor. Only while the executor runs.
pub(super) fn adopt(socket: OwnedFd) -> TcpStream {
    // SAFETY: the descriptor is a socket's and nobody else owns it.
    unsafe { TcpStream::from_raw_fd(socket.into_raw_fd()) }
}

/// One connection, or the place for one.
pub(super) struct Slot {
    pub(super) generation: u32,
    pub(super) phase: Phase,
    pub(super) socket: Socket,
    pub(super) shutdown: Shutdown,
    /// What the machine wants.
    pub(super) wants_receive: bool,
    /// What is so: the reactor may be looking for input.
    pub(super) receiving: bool,
    /// A receive was armed before: the next one counts as a re-arm.
    pub(super) armed_before: bool,
    /// Waits in the queue of those that found no buffer.
    pub(super) starved: bool,
    /// The peer sends no more.
    pub(super) ended: bool,
    /// A flushing close was ordered before the connect had finished.
    pub(super) flush_ordered: bool,
    /// `close` shall send a reset.
    pub(super) reset: bool,
    /// Is in the list of slots to be looked at.
    pub(super) listed: bool,
    /// The error that ended the connection.
    pub(super) failure: Option<i32>,
    pub(super) queued_bytes: usize,
    pub(super) queue: VecDeque<Chunk>,
    pub(super) peer: OnceCell<Option<SocketAddr>>,
    /// Rung by the reactor; made when the slot is used first, and kept over its lives.
    bell: OnceCell<Waker>,
}

impl Slot {
    fn free(generation: u32, queue: VecDeque<Chunk>, bell: OnceCell<Waker>) -> Self {
        Self {
            generation,
            phase: Phase::Free,
            socket: Socket::None,
            shutdown: Shutdown::Open,
            wants_receive: false,
            receiving: false,
            armed_before: false,
            starved: false,
            ended: false,
            flush_ordered: false,
            reset: false,
            listed: false,
            failure: None,
            queued_bytes: 0,
            queue,
            peer: OnceCell::new(),
            bell,
        }
    }

    /// Drops `count` bytes from the front of the queue, because the kernel has them.
    pub(super) fn consume(&mut self, count: usize) {
        self.queued_bytes -= count.min(self.queued_bytes);
        let Some(chunk) = self.queue.front_mut() else { return };
        if count >= chunk.as_slice().len() {
            self.queue.pop_front();
            return;
        }
        match chunk {
            Chunk::Lease(lease) => lease.advance(count),
            Chunk::Shared(_, range) => range.start += count,
            Chunk::Static(bytes) => *bytes = &bytes[count..],
        }
    }

    /// The connection broke. While we are closing anyway, that is what was ordered once everything is out.
    pub(super) fn fail(&mut self, errno: i32) {
        match self.phase {
            Phase::Open | Phase::Flushing => {
                self.failure = Some(errno);
                self.phase = Phase::Closing;
            }
            Phase::Lingering => self.phase = Phase::Closing,
            Phase::Free | Phase::Connecting | Phase::Closing => {}
        }
    }
}

/// All slots, those that are free, and those that need a look.
pub(super) struct Slots {
    slots: Box<[Slot]>,
    free: Vec<u32>,
    /// Slots whose `Closed` went to the caller in this turn: free from the next turn on.
    handed: Vec<u32>,
    listed: VecDeque<u32>,
    board: Board,
}

impl Slots {
    pub(super) fn new(count: u32, board: &Board) -> Self {
        let slots = (0..count).map(|_| Slot::free(0, VecDeque::new(), OnceCell::new())).collect();
        let free = (0..count).rev().collect();
        Self { slots, free, handed: Vec::new(), listed: VecDeque::new(), board: board.clone() }
    }

    /// Puts a socket into a free slot, or gives it back.
    pub(super) fn claim(&mut self, socket: Socket, phase: Phase) -> Result<Conn, Socket> {
        let Some(index) = self.free.pop() else { return Err(socket) };
        let slot = self.at_mut(index);
        slot.phase = phase;
        slot.socket = socket;
        Ok(Conn { slot: index, generation: slot.generation })
    }

    pub(super) fn is_full(&self) -> bool {
        self.free.is_empty()
    }

    /// Makes the connection unknown and gives its socket back. The slot is used again after [`Self::free_handed`] if
    /// its end is told, at once otherwise.
    pub(super) fn release(&mut self, index: u32, told: bool) -> Socket {
        let slot = self.at_mut(index);
        let (mut queue, bell) = (std::mem::take(&mut slot.queue), std::mem::take(&mut slot.bell));
        queue.clear();
        let next = Slot { listed: slot.listed, ..Slot::free(slot.generation.wrapping_add(1), queue, bell) };
        let old = std::mem::replace(slot, next);
        if told { &mut self.handed } else { &mut self.free }.push(index);
        old.socket
    }

    /// A new turn: the caller has dealt with all that was handed over.
    pub(super) fn free_handed(&mut self) {
        self.free.append(&mut self.handed);
    }

    /// The slot of a connection that is not gone.
    pub(super) fn get(&self, conn: Conn) -> Option<&Slot> {
        let slot = self.slots.get(position(conn.slot))?;
        (slot.generation == conn.generation && slot.phase != Phase::Free).then_some(slot)
    }

    pub(super) fn get_mut(&mut self, conn: Conn) -> Option<&mut Slot> {
        let slot = self.slots.get_mut(position(conn.slot))?;
        (slot.generation == conn.generation && slot.phase != Phase::Free).then_some(slot)
    }

    pub(super) fn at_mut(&mut self, index: u32) -> &mut Slot {
        &mut self.slots[position(index)]
    }

    /// The slot and the bell that the reactor rings for it.
    pub(super) fn with_bell(&mut self, index: u32) -> (&mut Slot, Waker) {
        let slot = &mut self.slots[position(index)];
        let bell = slot.bell.get_or_init(|| self.board.bell(Place::Slot(index))).clone();
        (slot, bell)
    }

    /// Has the slot looked at.
    pub(super) fn list(&mut self, index: u32) {
        let slot = &mut self.slots[position(index)];
        if !slot.listed {
            slot.listed = true;
            self.listed.push_back(index);
        }
    }

    /// Takes the next slot off the list.
    pub(super) fn next_listed(&mut self) -> Option<u32> {
        let index = self.listed.pop_front()?;
        self.at_mut(index).listed = false;
        Some(index)
    }

    pub(super) fn is_idle(&self) -> bool {
        self.listed.is_empty()
    }

    /// Slots in use, for the engine's end.
    pub(super) fn used(&self) -> Vec<u32> {
        (0..).zip(&self.slots).filter(|(_, slot)| slot.phase != Phase::Free).map(|(index, _)| index).collect()
    }
}

fn position(index: u32) -> usize {
    usize::try_from(index).expect("invariant: pointers have at least 32 bits")
}
