//! From orders to submissions: what a slot wants against what is in flight.

use std::os::fd::{AsRawFd, IntoRawFd};

use io_uring::types::{CancelBuilder, Fd};
use io_uring::{opcode, squeue};

use super::operation::{Kind, Operation};
use super::slots::InFlight;
use super::vectors::PARTS_MAX;
use super::{Uring, receive};
use crate::engine::life::{Phase, Shutdown};
use crate::engine::{CloseReason, Conn, Event, socket};

/// Entries that settling one slot needs at most: a send, and a receive or its cancellation.
const ENTRIES_PER_SLOT: usize = 2;

impl Uring {
    /// Lets those connections try again that found no buffer, as many as there are buffers now. A connection that is
    /// armed again too early goes back to the end of the line, so this neither spins nor starves anybody.
    pub(super) fn feed_starved(&mut self) {
        let mut buffers = self.receive_ring.published();
        while buffers > 0
            && let Some(conn) = self.starved.pop_front()
        {
            if let Some(slot) = self.slots.get_mut(conn) {
                slot.starved = false;
                self.slots.list(conn.slot);
                buffers -= 1;
            }
        }
    }

    /// Keeps a read of the waker's counter in flight.
    pub(super) fn arm_waker(&mut self) {
        if self.wake_armed || !self.reserve(1) {
            return;
        }
        let target = (&raw mut *self.wake_count).cast::<u8>();
        let entry = opcode::Read::new(Fd(self.waker.descriptor()), target, 8).build();
        let operation = Operation::new(Kind::Wake, 0, 0);
        // SAFETY: the counter is boxed and lives until everything was cancelled.
        unsafe { self.push(&entry.user_data(operation.encode())) };
        self.wake_armed = true;
    }

    /// Keeps a multishot accept in flight on every listener, or ends it.
    pub(super) fn arm_listeners(&mut self) {
        for number in 0..self.listeners.len() {
            let listener = &self.listeners[number];
            let arm = !listener.stopping && !listener.armed && !listener.resting;
            let cancel = listener.stopping && listener.armed && !listener.cancelled;
            let close = listener.stopping && !listener.armed;
            let Some(socket) = &listener.socket else { continue };
            let descriptor = Fd(socket.as_raw_fd());
            if close {
                self.listeners[number].socket = None;
            } else if arm && self.reserve(1) {
                let slot = u32::try_from(number).expect("invariant: fewer than 2^32 listeners");
                let entry = opcode::AcceptMulti::new(descriptor).flags(libc::SOCK_CLOEXEC).build();
                // SAFETY: the entry points to no memory.
                unsafe { self.push(&entry.user_data(Operation::new(Kind::Accept, slot, 0).encode())) };
                self.listeners[number].armed = true;
            } else if cancel && self.reserve(1) {
                self.push_cancel(CancelBuilder::fd(descriptor).all(), u32::MAX, 0);
                self.listeners[number].cancelled = true;
            }
        }
    }

    /// Settles every slot that orders or completions touched since the last turn.
    pub(super) fn settle_listed(&mut self) {
        for _ in 0..self.slots.listed() {
            if !self.reserve(ENTRIES_PER_SLOT) {
                // The rest stays listed until completions have made room.
                return;
            }
            let Some(index) = self.slots.next_listed() else { return };
            self.settle(index);
        }
    }

    fn settle(&mut self, index: u32) {
        match self.slots.at(index).phase {
            Phase::Free | Phase::Connecting => {}
            Phase::Open => {
                self.send_next(index);
                self.end_sending(index);
                self.arm_or_pause(index);
            }
            Phase::Flushing => {
                self.send_next(index);
                self.begin_linger(index);
                self.arm_or_pause(index);
            }
            Phase::Lingering => self.arm_or_pause(index),
            Phase::Closing => {}
        }
        if self.slots.at(index).phase == Phase::Closing {
            self.finish(index);
        }
    }

    /// Submits what is queued, up to sixteen chunks in one operation.
    fn send_next(&mut self, index: u32) {
        let slot = self.slots.at_mut(index);
        if slot.queue.is_empty() || slot.in_flight.has(InFlight::SEND) {
            return;
        }
        slot.in_flight.add(InFlight::SEND);
        let operation = Operation::new(Kind::Send, index, slot.generation);
        let descriptor = slot.descriptor();
        // The kernel itself goes on after a short send, and a broken connection is an error, not a signal.
        let flags = libc::MSG_NOSIGNAL | libc::MSG_WAITALL;
        let entry = if slot.queue.len() == 1 {
            let bytes = slot.queue[0].as_slice();
            // A longer chunk goes out in two operations.
            let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
            opcode::Send::new(descriptor, bytes.as_ptr(), length).flags(flags).build()
        } else {
            let message = self.vectors.message(slot.queue.iter().take(PARTS_MAX));
            let flags = u32::try_from(flags).expect("invariant: the flags are positive");
            opcode::SendMsg::new(descriptor, message).flags(flags).build()
        };
        // SAFETY: the bytes belong to chunks that stay in the queue until this send completes (`consume` and
        // `drop_queue` run only then), and the message lies in `vectors` until the next enter.
        unsafe { self.push(&entry.user_data(operation.encode())) };
    }

    /// Sends FIN if it was ordered and the queue is empty.
    fn end_sending(&mut self, index: u32) {
        let slot = self.slots.at_mut(index);
        if slot.shutdown == Shutdown::Ordered && slot.queue.is_empty() {
            slot.shutdown = Shutdown::Done;
            // A plain call: the ring would hand a shutdown to a kernel worker thread, which costs far more.
            socket::shutdown_send(slot.socket());
        }
    }

    /// Once everything ordered is out: FIN, and time for the peer to read it.
    fn begin_linger(&mut self, index: u32) {
        let slot = self.slots.at_mut(index);
        if !slot.queue.is_empty() {
            return;
        }
        if slot.ended {
            // The peer has sent its FIN already: closing sends ours.
            slot.phase = Phase::Closing;
            return;
        }
        if slot.shutdown != Shutdown::Done {
            slot.shutdown = Shutdown::Done;
            socket::shutdown_send(slot.socket());
        }
        slot.phase = Phase::Lingering;
        let conn = Conn { slot: index, generation: slot.generation };
        self.wheel.insert(self.now_ns.saturating_add(self.linger_ns), super::Due::Linger(conn));
    }

    /// Arms the receive that is wanted, or cancels the one that is not.
    fn arm_or_pause(&mut self, index: u32) {
        let buffers = self.receive_ring.published();
        let slot = self.slots.at_mut(index);
        let armed = slot.in_flight.has(InFlight::RECEIVE);
        let operation = Operation::new(Kind::Receive, index, slot.generation).encode();
        if slot.wants_receive && !armed && !slot.ended && !slot.starved {
            if buffers == 0 {
                // It would fail at once: better to stand in line.
                slot.starved = true;
                self.starved.push_back(Conn { slot: index, generation: slot.generation });
                self.statistics.exhaustions += 1;
                return;
            }
            slot.in_flight.add(InFlight::RECEIVE);
            let again = std::mem::replace(&mut slot.armed_before, true);
            let entry = opcode::RecvMulti::new(slot.descriptor(), receive::GROUP).build();
            self.statistics.rearms += u64::from(again);
            // SAFETY: the entry points to no memory; the buffers are those of the registered group.
            unsafe { self.push(&entry.user_data(operation)) };
        } else if !slot.wants_receive && armed && !slot.receive_cancelled {
            slot.receive_cancelled = true;
            let generation = slot.generation;
            self.push_cancel(CancelBuilder::user_data(operation), index, generation);
        }
    }

    /// Cancels what is in flight; when nothing is, closes and frees the slot.
    fn finish(&mut self, index: u32) {
        let slot = self.slots.at_mut(index);
        let generation = slot.generation;
        if !slot.in_flight.is_empty() {
            if !slot.all_cancelled {
                slot.all_cancelled = true;
                let everything = CancelBuilder::fd(slot.descriptor()).all();
                self.push_cancel(everything, index, generation);
            }
            return;
        }
        if slot.reset {
            socket::reset_on_close(slot.socket());
        }
        let reason = slot.failure.map_or(CloseReason::Ordered, CloseReason::Failed);
        let socket = slot.socket.take().expect("invariant: a slot that is not free has a socket");
        self.slots.forget(index);
        self.statistics.closed += 1;
        self.pending.push_back(Event::Closed { conn: Conn { slot: index, generation }, reason });
        let operation = Operation::new(Kind::Close, index, generation);
        let entry = opcode::Close::new(Fd(socket.into_raw_fd())).build().flags(squeue::Flags::SKIP_SUCCESS);
        // SAFETY: the entry points to no memory, and the descriptor is nobody's any more: the number cannot name
        // another file before this entry has run.
        unsafe { self.push(&entry.user_data(operation.encode())) };
    }

    /// Queues a cancellation that completes visibly only if it finds nothing.
    fn push_cancel(&mut self, what: CancelBuilder, index: u32, generation: u32) {
        let operation = Operation::new(Kind::Cancel, index, generation);
        let entry = opcode::AsyncCancel2::new(what).build().flags(squeue::Flags::SKIP_SUCCESS);
        // SAFETY: the entry points to no memory.
        unsafe { self.push(&entry.user_data(operation.encode())) };
    }
}
