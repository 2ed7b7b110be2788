//! From completions to events.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

use io_uring::cqueue;

use super::operation::{Kind, Operation};
use super::slots::{InFlight, Slot};
use super::{ACCEPT_REST_NS, Due, Uring, listener_position};
use crate::engine::life::Phase;
use crate::engine::{Conn, Event, Lease, ListenerId};

/// The socket that an accept's completion carries, unless it failed.
///
/// # Safety
/// `result` comes from the completion of an accept and is used once.
pub(super) unsafe fn accepted_socket(result: RawFd) -> Option<OwnedFd> {
    // SAFETY: the kernel made this descriptor for this accept, and the caller promises that nobody else owns it.
    (result >= 0).then(|| unsafe { OwnedFd::from_raw_fd(result) })
}

impl Uring {
    /// Turns completions into events until there is no more room for them; the rest waits for the next turn.
    pub(super) fn reap(&mut self, events: &mut Vec<Event>, length_max: usize) {
        self.ring.sync_completions();
        while events.len() < length_max
            && let Some(completion) = self.ring.completion()
        {
            self.statistics.completions += 1;
            self.complete(&completion, events);
        }
        self.ring.sync_completions();
    }

    fn complete(&mut self, completion: &cqueue::Entry, events: &mut Vec<Event>) {
        let result = completion.result();
        let more = cqueue::more(completion.flags());
        let operation =
            Operation::decode(completion.user_data()).expect("invariant: the kernel returns what we submitted");
        match operation.kind {
            Kind::Accept => self.complete_accept(operation.slot, result, more, events),
            Kind::Connect => self.complete_connect(operation, result, events),
            Kind::Receive => self.complete_receive(operation, completion, events),
            Kind::Send => self.complete_send(operation, result, events),
            Kind::Cancel => self.complete_cancel(operation, result),
            // Only failures are visible, and closing a descriptor frees it in every case.
            Kind::Close => {}
            Kind::Alarm => self.alarms.gone(operation.slot),
            Kind::Wake => {
                self.wake_armed = false;
                if result > 0 {
                    self.statistics.wakes += 1;
                    events.push(Event::Woken);
                }
            }
        }
    }

    /// The connection of a completion; `None` would be a stale one.
    fn conn_of(&self, operation: Operation) -> Option<Conn> {
        let slot = self.slots.at(operation.slot);
        let same = slot.generation & Operation::GENERATION_MASK == operation.generation && slot.phase != Phase::Free;
        debug_assert!(same, "a slot outlives its operations");
        same.then_some(Conn { slot: operation.slot, generation: slot.generation })
    }

    fn complete_accept(&mut self, number: u32, result: i32, more: bool, events: &mut Vec<Event>) {
        // SAFETY: this is the completion of an accept, and it is looked at here only.
        if let Some(socket) = unsafe { accepted_socket(result) } {
            match self.slots.claim(socket, Phase::Open) {
                Ok(conn) => {
                    self.statistics.accepted += 1;
                    events.push(Event::Accepted { listener: ListenerId(number), conn });
                }
                // Dropping the socket closes it.
                Err(_) => self.statistics.refused += 1,
            }
        }
        if more {
            return;
        }
        let listener = &mut self.listeners[listener_position(number)];
        listener.armed = false;
        let transient =
            result >= 0 || matches!(-result, libc::ECONNABORTED | libc::EINTR | libc::EAGAIN | libc::ECANCELED);
        if !transient {
            self.statistics.accept_failures += 1;
            listener.resting = true;
            self.wheel.insert(self.now_ns.saturating_add(ACCEPT_REST_NS), Due::Accept(number));
        }
    }

    fn complete_connect(&mut self, operation: Operation, result: i32, events: &mut Vec<Event>) {
        let Some(conn) = self.conn_of(operation) else { return };
        self.slots.list(conn.slot);
        let slot = self.slots.at_mut(conn.slot);
        slot.in_flight.remove(InFlight::CONNECT);
        if slot.phase != Phase::Connecting {
            return;
        }
        let result = if result < 0 {
            slot.failure = Some(-result);
            slot.phase = Phase::Closing;
            if slot.flush_ordered {
                return;
            }
            Err(io::Error::from_raw_os_error(-result))
        } else {
            self.statistics.connected += 1;
            if slot.flush_ordered {
                slot.phase = Phase::Flushing;
                slot.wants_receive = true;
                return;
            }
            slot.phase = Phase::Open;
            Ok(())
        };
        events.push(Event::Connected { conn, result });
    }

    fn complete_receive(&mut self, operation: Operation, completion: &cqueue::Entry, events: &mut Vec<Event>) {
        let result = completion.result();
        let more = cqueue::more(completion.flags());
        // The buffer is ours whatever else happened, and goes back to the pool if nobody takes the lease.
        let bytes = cqueue::buffer_select(completion.flags())
            .map(|buffer| self.receive_ring.taken(buffer, u32::try_from(result).unwrap_or(0)));
        let Some(conn) = self.conn_of(operation) else { return };
        let slot = self.slots.at_mut(conn.slot);
        if !more {
            slot.in_flight.remove(InFlight::RECEIVE);
            slot.receive_cancelled = false;
        }
        let unwanted = !slot.wants_receive || slot.phase == Phase::Closing;
        if !more || unwanted {
            self.slots.list(conn.slot);
        }
        match result {
            1.. => self.received(conn, bytes, events),
            0 => self.input_ended(conn, events),
            _ => self.receive_failed(conn, -result),
        }
    }

    fn received(&mut self, conn: Conn, bytes: Option<Lease>, events: &mut Vec<Event>) {
        let Some(bytes) = bytes else { return };
        self.statistics.received_bytes += u64::try_from(bytes.len()).unwrap_or(0);
        if self.slots.at(conn.slot).phase == Phase::Open {
            events.push(Event::Data { conn, bytes });
        }
    }

    fn input_ended(&mut self, conn: Conn, events: &mut Vec<Event>) {
        let slot = self.slots.at_mut(conn.slot);
        slot.ended = true;
        match slot.phase {
            Phase::Open => events.push(Event::Eof { conn }),
            Phase::Lingering => slot.phase = Phase::Closing,
            Phase::Free | Phase::Connecting | Phase::Flushing | Phase::Closing => {}
        }
    }

    fn receive_failed(&mut self, conn: Conn, errno: i32) {
        match errno {
            // Paused, closing, or nothing happened: settling does what is left to do.
            libc::ECANCELED | libc::EINTR | libc::EAGAIN => {}
            libc::ENOBUFS => {
                self.statistics.exhaustions += 1;
                let slot = self.slots.at_mut(conn.slot);
                if !slot.starved {
                    slot.starved = true;
                    self.starved.push_back(conn);
                }
            }
            errno => self.fail(conn, errno),
        }
    }

    fn complete_send(&mut self, operation: Operation, result: i32, events: &mut Vec<Event>) {
        let Some(conn) = self.conn_of(operation) else { return };
        self.slots.list(conn.slot);
        let slot = self.slots.at_mut(conn.slot);
        slot.in_flight.remove(InFlight::SEND);
        match result {
            1.. => {
                let count = usize::try_from(result).expect("invariant: positive");
                slot.consume(count);
                self.statistics.sent_bytes += u64::try_from(count).unwrap_or(0);
                if slot.queue.is_empty() && slot.phase == Phase::Open {
                    events.push(Event::Sent { conn });
                }
            }
            // A send that takes none of some bytes cannot make progress.
            0 => self.fail(conn, libc::EPIPE),
            _ => match -result {
                libc::ECANCELED | libc::EINTR | libc::EAGAIN => {}
                errno => self.fail(conn, errno),
            },
        }
    }

    /// A cancellation that found nothing came too late, which the operation's own completion shows, or while the
    /// kernel was between two steps of a multishot: then it is tried again.
    fn complete_cancel(&mut self, operation: Operation, result: i32) {
        if result != -libc::ENOENT {
            return;
        }
        if operation.slot == u32::MAX {
            for listener in &mut self.listeners {
                listener.cancelled = false;
            }
            return;
        }
        let slot = self.slots.at_mut(operation.slot);
        if slot.generation & Operation::GENERATION_MASK == operation.generation && slot.phase != Phase::Free {
            slot.receive_cancelled = false;
            slot.all_cancelled = false;
            self.slots.list(operation.slot);
        }
    }

    /// The connection broke. While we are closing anyway, that is what was ordered once everything is out.
    fn fail(&mut self, conn: Conn, errno: i32) {
        self.slots.list(conn.slot);
        let slot: &mut Slot = self.slots.at_mut(conn.slot);
        match slot.phase {
            Phase::Open | Phase::Flushing => {
                slot.failure = Some(errno);
                slot.phase = Phase::Closing;
            }
            Phase::Lingering => slot.phase = Phase::Closing,
            Phase::Free | Phase::Connecting | Phase::Closing => {}
        }
    }
}
