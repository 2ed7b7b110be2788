//! The connections of one engine: their life is drawn in [`life`](crate::engine::life). A slot becomes free only when all
//! its operations have completed, so no completion ever meets a stranger.

use std::cell::OnceCell;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use io_uring::types::Fd;

use crate::engine::life::{Phase, Shutdown};
use crate::engine::{Chunk, Conn};

/// A set of operations in flight; each kind at most once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct InFlight(u8);

impl InFlight {
    pub(super) const CONNECT: u8 = 1;
    pub(super) const RECEIVE: u8 = 2;
    pub(super) const SEND: u8 = 4;

    pub(super) fn add(&mut self, kind: u8) {
        debug_assert!(!self.has(kind), "one operation of a kind at a time");
        self.0 |= kind;
    }

    pub(super) fn remove(&mut self, kind: u8) {
        self.0 &= !kind;
    }

    pub(super) fn has(self, kind: u8) -> bool {
        self.0 & kind != 0
    }

    pub(super) fn is_empty(self) -> bool {
        self.0 == 0
    }
}

/// One connection, or the place for one.
pub(super) struct Slot {
    pub(super) generation: u32,
    pub(super) phase: Phase,
    pub(super) in_flight: InFlight,
    pub(super) shutdown: Shutdown,
    /// What the machine wants; what is so is in `in_flight`.
    pub(super) wants_receive: bool,
    /// A receive was armed before: the next one counts as a re-arm.
    pub(super) armed_before: bool,
    /// The receive in flight is being cancelled.
    pub(super) receive_cancelled: bool,
    /// Everything in flight is being cancelled.
    pub(super) all_cancelled: bool,
    /// Waits in the queue of those that found no buffer.
    pub(super) starved: bool,
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
    pub(super) socket: Option<OwnedFd>,
    pub(super) peer: OnceCell<Option<SocketAddr>>,
}

impl Slot {
    fn free(generation: u32, queue: VecDeque<Chunk>) -> Self {
        Self {
            generation,
            phase: Phase::Free,
            in_flight: InFlight::default(),
            shutdown: Shutdown::Open,
            wants_receive: false,
            armed_before: false,
            receive_cancelled: false,
            all_cancelled: false,
            starved: false,
            ended: false,
            flush_ordered: false,
            reset: false,
            listed: false,
            failure: None,
            queued_bytes: 0,
            queue,
            socket: None,
            peer: OnceCell::new(),
        }
    }

    /// The socket as operations name it.
    pub(super) fn descriptor(&self) -> Fd {
        Fd(self.socket().as_raw_fd())
    }

    pub(super) fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_ref().expect("invariant: a slot that is not free has a socket").as_fd()
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

    /// Drops what is queued. Only while no send is in flight, which reads it.
    pub(super) fn drop_queue(&mut self) {
        debug_assert!(!self.in_flight.has(InFlight::SEND), "the kernel reads what is queued");
        self.queue.clear();
        self.queued_bytes = 0;
    }
}

/// Chunks that a queue takes before it grows: a head, a body and a few pipelined answers.
const QUEUE_CAPACITY: usize = 8;

/// All slots, those that are free, and those that need a look at the next turn's start.
pub(super) struct Slots {
    slots: Box<[Slot]>,
    /// The one freed last is used next: its memory is warm.
    free: Vec<u32>,
    /// Slots whose last event has been handed over: free from the next turn on, when the caller has dealt with it.
    handed: Vec<u32>,
    listed: Vec<u32>,
}

impl Slots {
    pub(super) fn new(count: u32) -> Self {
        let capacity = usize::try_from(count).expect("invariant: pointers have at least 32 bits");
        let slots = (0..count).map(|_| Slot::free(0, VecDeque::with_capacity(QUEUE_CAPACITY))).collect();
        Self { slots, free: (0..count).rev().collect(), handed: Vec::new(), listed: Vec::with_capacity(capacity) }
    }

    /// Puts a socket into a free slot, or gives it back.
    pub(super) fn claim(&mut self, socket: OwnedFd, phase: Phase) -> Result<Conn, OwnedFd> {
        let Some(index) = self.free.pop() else { return Err(socket) };
        let slot = self.at_mut(index);
        slot.phase = phase;
        slot.socket = Some(socket);
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

    /// Makes the slot's old connection unknown. Its place is taken again only when [`Self::hand_over`] has told the
    /// caller, who may open connections while it still has events of old ones before it.
    pub(super) fn forget(&mut self, index: u32) {
        let slot = self.at_mut(index);
        assert!(slot.in_flight.is_empty(), "invariant: a slot outlives its operations");
        slot.drop_queue();
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

    /// The number of slots, free or not.
    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    /// Has the slot settled at the next turn's start.
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
}

fn position(index: u32) -> usize {
    usize::try_from(index).expect("invariant: pointers have at least 32 bits")
}
