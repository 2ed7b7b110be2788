//! The connections of one engine: their life is drawn in [`life`](crate::engine::life). What is in flight is at most a
//! watch for each direction, which moves no bytes.

use std::cell::OnceCell;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

use ::monoio::net::TcpStream;

use super::watch::{Side, Watch};
use crate::engine::life::{Phase, Shutdown};
use crate::engine::socket::Name;
use crate::engine::{Chunk, Conn};

/// How far a connect is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Connect {
    /// The kernel tells by making the socket writable.
    Running,
    /// A Unix listener's queue is full: a timer tries again.
    Resting,
    /// It has ended, with this error or zero.
    Ended(i32),
}

/// A socket, before and after monoio knows it.
pub(super) enum Socket {
    Plain(OwnedFd),
    /// monoio's stream is a descriptor that can be watched; nothing else of it is used, also for Unix sockets.
    Watched(Rc<TcpStream>),
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Plain(socket) => socket.as_fd(),
            // SAFETY: the stream owns the descriptor and lives as long as the borrow of `self`.
            Self::Watched(stream) => unsafe { BorrowedFd::borrow_raw(stream.as_raw_fd()) },
        }
    }
}

/// One direction as its watch sees it.
#[derive(Default)]
pub(super) struct Direction {
    pub(super) watch: Option<Rc<Watch>>,
    /// The watch will tell.
    pub(super) armed: bool,
    /// It has told, and the kernel has not said `WouldBlock` since.
    pub(super) ready: bool,
}

/// One connection, or the place for one.
pub(super) struct Slot {
    pub(super) generation: u32,
    pub(super) phase: Phase,
    pub(super) shutdown: Shutdown,
    pub(super) connect: Connect,
    /// Where a connect goes that has to be tried again.
    pub(super) name: Option<Box<Name>>,
    /// What the machine wants.
    pub(super) wants_receive: bool,
    /// Waits for a buffer.
    pub(super) starved: bool,
    /// Is in the list of those to be read.
    pub(super) readable: bool,
    /// The peer sends no more.
    pub(super) ended: bool,
    /// A flushing close was ordered before the connect had finished.
    pub(super) flush_ordered: bool,
    /// `close` shall send a reset.
    pub(super) reset: bool,
    /// Is in the list of slots to be settled.
    pub(super) listed: bool,
    /// The error that ended the connection.
    pub(super) failure: Option<i32>,
    pub(super) queued_bytes: usize,
    pub(super) queue: VecDeque<Chunk>,
    pub(super) input: Direction,
    pub(super) output: Direction,
    pub(super) socket: Option<Socket>,
    pub(super) peer: OnceCell<Option<SocketAddr>>,
}

impl Slot {
    fn free(generation: u32, queue: VecDeque<Chunk>) -> Self {
        Self {
            generation,
            phase: Phase::Free,
            shutdown: Shutdown::Open,
            connect: Connect::Running,
            name: None,
            wants_receive: false,
            starved: false,
            readable: false,
            ended: false,
            flush_ordered: false,
            reset: false,
            listed: false,
            failure: None,
            queued_bytes: 0,
            queue,
            input: Direction::default(),
            output: Direction::default(),
            socket: None,
            peer: OnceCell::new(),
        }
    }

    pub(super) fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_ref().expect("invariant: a slot that is not free has a socket").as_fd()
    }

    pub(super) fn direction_mut(&mut self, side: Side) -> &mut Direction {
        match side {
            Side::Read => &mut self.input,
            Side::Write => &mut self.output,
        }
    }

    /// Drops `count` bytes from the front of the queue, because the kernel has them.
    pub(super) fn consume(&mut self, count: usize) {
        self.queued_bytes -= count.min(self.queued_bytes);
        let mut left = count;
        while let Some(chunk) = self.queue.front_mut() {
            let length = chunk.as_slice().len();
            if length > left {
                match chunk {
                    Chunk::Lease(lease) => lease.advance(left),
                    Chunk::Shared(_, range) => range.start += left,
                    Chunk::Static(bytes) => *bytes = &bytes[left..],
                }
                return;
            }
            left -= length;
            self.queue.pop_front();
        }
    }
}

/// Chunks that a queue takes before it grows.
const QUEUE_CAPACITY: usize = 8;

/// All slots, those that are free, and those that need a look at the next turn's start.
pub(super) struct Slots {
    slots: Box<[Slot]>,
    /// The one freed last is used next: its memory is warm.
    free: Vec<u32>,
    /// Slots whose last event has been handed over: free from the next turn on.
    handed: Vec<u32>,
    listed: Vec<u32>,
}

impl Slots {
    pub(super) fn new(count: u32) -> Self {
        let capacity = position(count);
        let slots = (0..count).map(|_| Slot::free(0, VecDeque::with_capacity(QUEUE_CAPACITY))).collect();
        Self {
            slots,
            free: (0..count).rev().collect(),
            handed: Vec::with_capacity(capacity),
            listed: Vec::with_capacity(capacity),
        }
    }

    /// Puts a socket into a free slot, or gives it back.
    pub(super) fn claim(&mut self, socket: OwnedFd, phase: Phase) -> Result<Conn, OwnedFd> {
        let Some(index) = self.free.pop() else { return Err(socket) };
        let slot = self.at_mut(index);
        slot.phase = phase;
        slot.socket = Some(Socket::Plain(socket));
        Ok(Conn { slot: index, generation: slot.generation })
    }

    /// Makes a slot free that no event will tell of.
    pub(super) fn release(&mut self, index: u32) {
        self.forget(index);
        self.free.push(index);
    }

    /// The slot's `Closed` goes to the caller in this turn.
    pub(super) fn hand_over(&mut self, index: u32) {
        self.handed.push(index);
    }

    /// A new turn: the caller has dealt with all that was handed over.
    pub(super) fn free_handed(&mut self) {
        self.free.append(&mut self.handed);
    }

    /// Makes the slot's old connection unknown; [`Self::hand_over`] makes its place free.
    pub(super) fn forget(&mut self, index: u32) {
        let slot = self.at_mut(index);
        slot.queue.clear();
        let listed = slot.listed;
        *slot = Slot::free(slot.generation.wrapping_add(1), std::mem::take(&mut slot.queue));
        slot.listed = listed;
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

    pub(super) fn at(&self, index: u32) -> &Slot {
        &self.slots[position(index)]
    }

    pub(super) fn at_mut(&mut self, index: u32) -> &mut Slot {
        &mut self.slots[position(index)]
    }

    pub(super) fn conn(&self, index: u32) -> Conn {
        Conn { slot: index, generation: self.at(index).generation }
    }

    /// The number of slots, free or not.
    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    /// Has the slot settled at the next pass.
    pub(super) fn list(&mut self, index: u32) {
        let slot = &mut self.slots[position(index)];
        if !slot.listed {
            slot.listed = true;
            self.listed.push(index);
        }
    }

    /// How many slots wait to be settled.
    pub(super) fn listed(&self) -> usize {
        self.listed.len()
    }

    /// Takes a listed slot off the list's end.
    pub(super) fn next_listed(&mut self) -> Option<u32> {
        let index = self.listed.pop()?;
        self.at_mut(index).listed = false;
        Some(index)
    }

    /// Takes the sockets of all connections, with their watches: the engine ends.
    pub(super) fn take_all(&mut self) -> impl Iterator<Item = (Socket, Direction, Direction)> {
        self.slots.iter_mut().filter_map(|slot| {
            let (input, output) = (std::mem::take(&mut slot.input), std::mem::take(&mut slot.output));
            slot.socket.take().map(|socket| (socket, input, output))
        })
    }
}

fn position(index: u32) -> usize {
    usize::try_from(index).expect("invariant: pointers have at least 32 bits")
}
