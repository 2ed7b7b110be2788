//! From orders to system calls: what a slot wants, done as far as the kernel lets it without waiting.

use std::io;
use std::os::fd::AsFd;

use super::slots::{Connect, Socket};
use super::watch::Side;
use super::{Due, Kind, Monoio, Retired, call};
use crate::engine::life::{Phase, Shutdown};
use crate::engine::socket::{self, Name};
use crate::engine::{CloseReason, Conn, Event};

/// Sends of one connection in a pass: a long queue leaves room for the others.
const SENDS_MAX: usize = 16;

/// How long a connect waits for room in a Unix listener's queue.
const CONNECT_REST_NS: u64 = 1_000_000;

impl<K: Kind> Monoio<K> {
    /// Lets those connections try again that found no buffer, as many as there are buffers now.
    pub(super) fn feed_starved(&mut self) {
        let mut buffers = self.receive_pool.available();
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

    /// Settles every slot that orders or readiness touched.
    pub(super) fn settle_listed(&mut self) {
        for _ in 0..self.slots.listed() {
            let Some(index) = self.slots.next_listed() else { return };
            self.settle(index);
        }
    }

    /// Does what the slot's phase calls for.
    pub(super) fn settle(&mut self, index: u32) {
        match self.slots.at(index).phase {
            Phase::Free => return,
            Phase::Connecting => self.go_on_connecting(index),
            Phase::Open => {
                self.send_queued(index);
                self.end_sending(index);
                self.want_input(index);
            }
            Phase::Flushing => {
                self.send_queued(index);
                self.begin_linger(index);
                self.want_input(index);
            }
            Phase::Lingering => self.want_input(index),
            Phase::Closing => {}
        }
        if self.slots.at(index).phase == Phase::Closing {
            self.finish(index);
        }
    }

    fn go_on_connecting(&mut self, index: u32) {
        let slot = self.slots.at_mut(index);
        match slot.connect {
            Connect::Resting => {}
            Connect::Running => self.arm(index, Side::Write),
            Connect::Ended(0) => {
                self.statistics.connected += 1;
                if slot.flush_ordered {
                    slot.phase = Phase::Flushing;
                    slot.wants_receive = true;
                } else {
                    slot.phase = Phase::Open;
                    let conn = self.slots.conn(index);
                    self.pending.push_back(Event::Connected { conn, result: Ok(()) });
                }
                self.slots.list(index);
            }
            Connect::Ended(errno) => {
                slot.failure = Some(errno);
                slot.phase = Phase::Closing;
                if !slot.flush_ordered {
                    let result = Err(io::Error::from_raw_os_error(errno));
                    let conn = self.slots.conn(index);
                    self.pending.push_back(Event::Connected { conn, result });
                }
            }
        }
    }

    /// Begins the connect of a new slot, or tries it again.
    pub(super) fn begin_connect(&mut self, conn: Conn, name: &Name) {
        let Some(slot) = self.slots.get_mut(conn) else { return };
        slot.connect = match call::connect(slot.socket(), name) {
            Ok(()) => Connect::Ended(0),
            Err(error) => match error.raw_os_error() {
                Some(libc::EINPROGRESS | libc::EINTR) => Connect::Running,
                Some(libc::EAGAIN) => {
                    slot.name = Some(Box::new(*name));
                    self.wheel.insert(self.now_ns.saturating_add(CONNECT_REST_NS), Due::Connect(conn));
                    Connect::Resting
                }
                Some(errno) => Connect::Ended(errno),
                None => Connect::Ended(libc::EIO),
            },
        };
        self.slots.list(conn.slot);
    }

    /// A connect that found a full queue is tried again.
    pub(super) fn connect_again(&mut self, conn: Conn) {
        let waiting = self.slots.get_mut(conn).filter(|slot| slot.phase == Phase::Connecting);
        if let Some(name) = waiting.and_then(|slot| slot.name.take()) {
            self.begin_connect(conn, &name);
        }
    }

    /// Sends what is queued until the kernel takes no more.
    fn send_queued(&mut self, index: u32) {
        let slot = self.slots.at_mut(index);
        if slot.queue.is_empty() || slot.output.armed {
            return;
        }
        for _ in 0..SENDS_MAX {
            match call::send(slot.socket(), slot.queue.iter()) {
                // A send that takes none of some bytes cannot make progress.
                Ok(0) => return self.fail(index, libc::EPIPE),
                Ok(count) => {
                    slot.consume(count);
                    self.statistics.sent_bytes += u64::try_from(count).unwrap_or(0);
                    if slot.queue.is_empty() {
                        if slot.phase == Phase::Open {
                            let conn = self.slots.conn(index);
                            self.pending.push_back(Event::Sent { conn });
                        }
                        return;
                    }
                }
                Err(error) => match error.raw_os_error() {
                    Some(libc::EAGAIN) => return self.arm(index, Side::Write),
                    Some(libc::EINTR) => {}
                    Some(errno) => return self.fail(index, errno),
                    None => return self.fail(index, libc::EIO),
                },
            }
        }
        self.slots.list(index);
    }

    /// Sends FIN if it was ordered and the queue is empty.
    fn end_sending(&mut self, index: u32) {
        let slot = self.slots.at_mut(index);
        if slot.phase == Phase::Open && slot.shutdown == Shutdown::Ordered && slot.queue.is_empty() {
            slot.shutdown = Shutdown::Done;
            socket::shutdown_send(slot.socket());
        }
    }

    /// Once everything ordered is out: FIN, and time for the peer to read it.
    fn begin_linger(&mut self, index: u32) {
        let slot = self.slots.at_mut(index);
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
            socket::shutdown_send(slot.socket());
        }
        slot.phase = Phase::Lingering;
        let conn = self.slots.conn(index);
        self.wheel.insert(self.now_ns.saturating_add(self.linger_ns), Due::Linger(conn));
    }

    /// Reads on if there may be something to read, else asks to be told when there is. A pause leaves the watch as it
    /// is: what it tells is kept until reading goes on.
    fn want_input(&mut self, index: u32) {
        let conn = self.slots.conn(index);
        let slot = self.slots.at_mut(index);
        if slot.phase == Phase::Closing || !slot.wants_receive || slot.ended || slot.starved || slot.readable {
            return;
        }
        if slot.input.ready {
            slot.readable = true;
            self.readable.push_back(conn);
        } else {
            self.arm(index, Side::Read);
        }
    }

    /// Has a direction watched from the next pass on.
    fn arm(&mut self, index: u32, side: Side) {
        let conn = self.slots.conn(index);
        let direction = self.slots.at_mut(index).direction_mut(side);
        if !direction.armed {
            direction.armed = true;
            direction.ready = false;
            self.statistics.submissions += 1;
            self.arming.push((conn, side));
        }
    }

    /// The connection broke. While we are closing anyway, that is what was ordered once everything is out.
    pub(super) fn fail(&mut self, index: u32, errno: i32) {
        let slot = self.slots.at_mut(index);
        match slot.phase {
            Phase::Open | Phase::Flushing => {
                slot.failure = Some(errno);
                slot.phase = Phase::Closing;
            }
            Phase::Lingering => slot.phase = Phase::Closing,
            Phase::Connecting => slot.connect = Connect::Ended(errno),
            Phase::Free | Phase::Closing => {}
        }
        self.slots.list(index);
    }

    /// Ends the watches, closes the socket and frees the slot.
    fn finish(&mut self, index: u32) {
        let conn = self.slots.conn(index);
        let slot = self.slots.at_mut(index);
        if slot.reset && slot.socket.is_some() {
            socket::reset_on_close(slot.socket());
        }
        let reason = slot.failure.map_or(CloseReason::Ordered, CloseReason::Failed);
        let (input, output) = (slot.input.watch.take(), slot.output.watch.take());
        match slot.socket.take() {
            Some(socket @ Socket::Watched(_)) => {
                // The kernel may hold the descriptor for a watch some moments longer: the peer need not wait for that.
                if slot.reset {
                    call::abort(socket.as_fd());
                } else {
                    call::shutdown(socket.as_fd());
                }
                self.retiring.push(Retired { socket, input, output });
            }
            // Closed at once.
            Some(Socket::Plain(_)) | None => {}
        }
        self.slots.forget(index);
        self.statistics.closed += 1;
        self.pending.push_back(Event::Closed { conn, reason });
    }
}
