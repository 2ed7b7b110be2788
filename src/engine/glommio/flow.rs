//! One look at a connection: what can be connected, sent, received or ended now, up to its next event.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use futures_lite::{AsyncRead, AsyncWrite};

use super::slots::{Slot, Socket};
use super::{Core, Due};
use crate::engine::life::{Phase, Shutdown};
use crate::engine::{CloseReason, Conn, Event, socket};

/// Chunks that one look sends before others have their turn.
const CHUNKS_PER_LOOK: usize = 16;
/// Reads of unwanted input in one look.
const DROPS_PER_LOOK: usize = 8;

/// What a try to send has reached.
enum Sending {
    /// The last byte of the queue is out.
    Done,
    /// There was nothing, or the kernel takes no more now, or the connection broke.
    Waits,
    /// The look is over, the kernel may take more.
    More,
}

impl Core {
    /// Does what can be done for one connection. It makes one event at most; if there may be more to do, it lists the
    /// slot again.
    pub(super) fn step(&mut self, index: u32, events: &mut Vec<Event>) {
        let (slot, bell) = self.slots.with_bell(index);
        let conn = Conn { slot: index, generation: slot.generation };
        let emitted = match slot.phase {
            Phase::Free => return,
            Phase::Connecting => self.step_connect(conn, &bell, events),
            Phase::Open => {
                self.send_and_tell(conn, &bell, events) || {
                    self.end_sending(index);
                    self.receive_some(conn, &bell, events)
                }
            }
            Phase::Flushing => {
                if let Sending::More = self.send_some(index, &bell) {
                    self.again.push(index);
                }
                self.begin_linger(conn);
                self.drop_input(index, &bell);
                false
            }
            Phase::Lingering => {
                self.drop_input(index, &bell);
                false
            }
            Phase::Closing => false,
        };
        if emitted {
            self.slots.list(index);
        } else if self.slots.at_mut(index).phase == Phase::Closing {
            self.finish(conn, events);
        }
    }

    fn step_connect(&mut self, conn: Conn, bell: &Waker, events: &mut Vec<Event>) -> bool {
        let slot = self.slots.at_mut(conn.slot);
        let Socket::Connecting(connect) = &mut slot.socket else { return false };
        let Poll::Ready(outcome) = connect.as_mut().poll(&mut Context::from_waker(bell)) else { return false };
        self.statistics.completions += 1;
        let result = match outcome {
            Ok(stream) => {
                self.statistics.connected += 1;
                slot.socket = Socket::Stream(stream);
                slot.phase = if slot.flush_ordered { Phase::Flushing } else { Phase::Open };
                Ok(())
            }
            Err(error) => {
                slot.failure = Some(error.raw_os_error().unwrap_or(libc::EIO));
                slot.phase = Phase::Closing;
                Err(error)
            }
        };
        if slot.flush_ordered {
            self.slots.list(conn.slot);
            return false;
        }
        events.push(Event::Connected { conn, result });
        true
    }

    fn send_and_tell(&mut self, conn: Conn, bell: &Waker, events: &mut Vec<Event>) -> bool {
        match self.send_some(conn.slot, bell) {
            Sending::Done => {
                events.push(Event::Sent { conn });
                true
            }
            Sending::Waits => false,
            Sending::More => {
                self.again.push(conn.slot);
                false
            }
        }
    }

    /// Hands chunks to the kernel until it takes no more.
    fn send_some(&mut self, index: u32, bell: &Waker) -> Sending {
        let slot = self.slots.at_mut(index);
        let mut context = Context::from_waker(bell);
        for _ in 0..CHUNKS_PER_LOOK {
            let Slot { queue, socket, .. } = slot;
            let Some(chunk) = queue.front() else { return Sending::Waits };
            self.statistics.submissions += 1;
            match Pin::new(socket.stream()).poll_write(&mut context, chunk.as_slice()) {
                Poll::Pending => return Sending::Waits,
                // A send that takes none of some bytes cannot make progress.
                Poll::Ready(Ok(0)) => {
                    slot.fail(libc::EPIPE);
                    return Sending::Waits;
                }
                Poll::Ready(Ok(count)) => {
                    slot.consume(count);
                    self.statistics.completions += 1;
                    self.statistics.sent_bytes += u64::try_from(count).unwrap_or(0);
                    if slot.queue.is_empty() {
                        return Sending::Done;
                    }
                }
                Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Poll::Ready(Err(error)) => {
                    slot.fail(error.raw_os_error().unwrap_or(libc::EIO));
                    return Sending::Waits;
                }
            }
        }
        Sending::More
    }

    /// Sends FIN if it was ordered and the queue is empty.
    fn end_sending(&mut self, index: u32) {
        let slot = self.slots.at_mut(index);
        if slot.phase == Phase::Open && slot.shutdown == Shutdown::Ordered && slot.queue.is_empty() {
            slot.shutdown = Shutdown::Done;
            if let Some(descriptor) = slot.socket.descriptor() {
                socket::shutdown_send(descriptor);
            }
        }
    }

    /// Once everything ordered is out: FIN, and time for the peer to read it.
    fn begin_linger(&mut self, conn: Conn) {
        let slot = self.slots.at_mut(conn.slot);
        if slot.phase != Phase::Flushing || !slot.queue.is_empty() {
            return;
        }
        if slot.ended {
            // The peer has sent its FIN already: closing sends ours.
            slot.phase = Phase::Closing;
            return;
        }
        if slot.shutdown != Shutdown::Done {
            slot.shutdown = Shutdown::Done;
            if let Some(descriptor) = slot.socket.descriptor() {
                socket::shutdown_send(descriptor);
            }
        }
        slot.phase = Phase::Lingering;
        self.wheel.insert(self.now_ns.saturating_add(self.linger_ns), Due::Linger(conn));
    }

    /// Reads one buffer of wanted input; true if there is an event.
    fn receive_some(&mut self, conn: Conn, bell: &Waker, events: &mut Vec<Event>) -> bool {
        let slot = self.slots.at_mut(conn.slot);
        if slot.phase != Phase::Open {
            return false;
        }
        if !slot.wants_receive || slot.ended {
            // The reactor may still look for input; nobody is told of it.
            slot.receiving = false;
            return false;
        }
        if slot.starved {
            return false;
        }
        let Some(mut lease) = self.receive_pool.lease() else {
            slot.starved = true;
            self.starved.push_back(conn);
            self.statistics.exhaustions += 1;
            return false;
        };
        slot.receiving = true;
        self.statistics.submissions += 1;
        loop {
            match Pin::new(slot.socket.stream()).poll_read(&mut Context::from_waker(bell), lease.spare_mut()) {
                Poll::Pending => {
                    self.statistics.rearms += u64::from(std::mem::replace(&mut slot.armed_before, true));
                    return false;
                }
                Poll::Ready(Ok(0)) => {
                    slot.ended = true;
                    slot.receiving = false;
                    self.statistics.completions += 1;
                    events.push(Event::Eof { conn });
                    return true;
                }
                Poll::Ready(Ok(count)) => {
                    self.statistics.completions += 1;
                    self.statistics.received_bytes += u64::try_from(count).unwrap_or(0);
                    lease.grow(count);
                    let full = lease.capacity_left() == 0;
                    events.push(Event::Data { conn, bytes: lease });
                    if full {
                        // There may be more, but others come first.
                        self.again.push(conn.slot);
                        return false;
                    }
                    return true;
                }
                Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Poll::Ready(Err(error)) => {
                    self.statistics.completions += 1;
                    slot.fail(error.raw_os_error().unwrap_or(libc::EIO));
                    return false;
                }
            }
        }
    }

    /// Reads what nobody wants any more, so that the peer is not met by a reset.
    fn drop_input(&mut self, index: u32, bell: &Waker) {
        let slot = self.slots.at_mut(index);
        let drops = match slot.phase {
            Phase::Flushing | Phase::Lingering => !slot.ended,
            Phase::Free | Phase::Connecting | Phase::Open | Phase::Closing => false,
        };
        if !drops {
            return;
        }
        for _ in 0..DROPS_PER_LOOK {
            match Pin::new(slot.socket.stream()).poll_read(&mut Context::from_waker(bell), &mut self.scratch) {
                Poll::Pending => return,
                Poll::Ready(Ok(0)) => {
                    slot.ended = true;
                    if slot.phase == Phase::Lingering {
                        slot.phase = Phase::Closing;
                    }
                    return;
                }
                Poll::Ready(Ok(count)) => {
                    self.statistics.received_bytes += u64::try_from(count).unwrap_or(0);
                }
                Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Poll::Ready(Err(error)) => {
                    slot.fail(error.raw_os_error().unwrap_or(libc::EIO));
                    return;
                }
            }
        }
        self.again.push(index);
    }

    /// Closes the socket and tells of the end.
    fn finish(&mut self, conn: Conn, events: &mut Vec<Event>) {
        let slot = self.slots.at_mut(conn.slot);
        if slot.reset
            && let Some(descriptor) = slot.socket.descriptor()
        {
            socket::reset_on_close(descriptor);
        }
        let reason = slot.failure.map_or(CloseReason::Ordered, CloseReason::Failed);
        drop(self.slots.release(conn.slot, true));
        self.statistics.closed += 1;
        events.push(Event::Closed { conn, reason });
    }
}
