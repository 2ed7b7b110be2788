//! From readiness to events: accepting, reading, and the outcome of connects.

use std::io;
use std::os::fd::AsFd;

use super::slots::Connect;
use super::watch::{Key, Side};
use super::{ACCEPT_REST_NS, Due, Kind, Monoio, call, position};
use crate::engine::life::Phase;
use crate::engine::{Conn, Event, ListenerId};

/// Bytes that are dropped at once.
pub(super) const DROPPED_BYTES: usize = 64 * 1024;

impl<K: Kind> Monoio<K> {
    /// Notes everything that the tasks have told since the last pass.
    pub(super) fn take_ready(&mut self) {
        for _ in 0..self.board.len() {
            let Some(key) = self.board.next() else { return };
            self.statistics.completions += 1;
            match key {
                Key::Waker => {
                    self.bell.direction.armed = false;
                    if self.waker.take() {
                        self.statistics.wakes += 1;
                        self.pending.push_back(Event::Woken);
                    }
                }
                Key::Timer => {
                    self.clock.direction.armed = false;
                    self.alarm_ns = u64::MAX;
                    if let Some(clock) = &self.clock.socket {
                        call::clear_timer(clock.as_fd());
                    }
                }
                Key::Listener(number) => {
                    let direction = &mut self.listeners[position(number)].own.direction;
                    direction.armed = false;
                    direction.ready = true;
                }
                Key::Conn(conn, side) => self.note_ready(conn, side),
            }
        }
    }

    fn note_ready(&mut self, conn: Conn, side: Side) {
        let Some(slot) = self.slots.get_mut(conn) else { return };
        let direction = slot.direction_mut(side);
        direction.armed = false;
        direction.ready = true;
        if slot.phase == Phase::Connecting
            && side == Side::Write
            && let Some(errno) = call::connect_outcome(slot.socket())
        {
            slot.connect = Connect::Ended(errno);
        }
        self.settle(conn.slot);
    }

    /// Accepts what waits, at most `room` connections.
    pub(super) fn accept_waiting(&mut self, mut room: usize) {
        for number in 0..self.listeners.len() {
            while room > 0 && self.listeners[number].own.direction.ready {
                if self.accept_one(number) {
                    room -= 1;
                }
            }
        }
    }

    /// True if there is a new connection to tell of.
    fn accept_one(&mut self, number: usize) -> bool {
        let listener = &mut self.listeners[number];
        let Some(socket) = &listener.own.socket else {
            listener.own.direction.ready = false;
            return false;
        };
        let id = u32::try_from(number).expect("invariant: fewer than 2^32 listeners");
        match call::accept(socket.as_fd()) {
            Ok(socket) => match self.slots.claim(socket, Phase::Open) {
                Ok(conn) => {
                    self.statistics.accepted += 1;
                    self.pending.push_back(Event::Accepted { listener: ListenerId(id), conn });
                    true
                }
                // Dropping the socket closes it.
                Err(_) => {
                    self.statistics.refused += 1;
                    false
                }
            },
            Err(error) => {
                match error.raw_os_error() {
                    Some(libc::EINTR | libc::ECONNABORTED) => {}
                    Some(libc::EAGAIN) => listener.own.direction.ready = false,
                    // No descriptors or no memory: look again a moment later.
                    Some(_) | None => {
                        listener.own.direction.ready = false;
                        listener.resting = true;
                        self.statistics.accept_failures += 1;
                        self.wheel.insert(self.now_ns.saturating_add(ACCEPT_REST_NS), Due::Accept(id));
                    }
                }
                false
            }
        }
    }

    /// Reads once from each connection that has something, until there is no more room for events.
    pub(super) fn read_readable(&mut self, events: &mut Vec<Event>, length_max: usize) {
        for _ in 0..self.readable.len() {
            if events.len() >= length_max {
                return;
            }
            let Some(conn) = self.readable.pop_front() else { return };
            let Some(slot) = self.slots.get_mut(conn) else { continue };
            slot.readable = false;
            if !slot.wants_receive || slot.ended {
                continue;
            }
            match slot.phase {
                Phase::Open => self.read_one(conn, events),
                Phase::Flushing | Phase::Lingering => self.drop_input(conn.slot),
                Phase::Free | Phase::Connecting | Phase::Closing => {}
            }
        }
    }

    fn read_one(&mut self, conn: Conn, events: &mut Vec<Event>) {
        let slot = self.slots.at_mut(conn.slot);
        let Some(mut bytes) = self.receive_pool.lease() else {
            slot.starved = true;
            self.starved.push_back(conn);
            self.statistics.exhaustions += 1;
            return;
        };
        let outcome = call::receive(slot.socket(), bytes.spare_mut());
        if let Ok(count) = outcome
            && count > 0
        {
            bytes.grow(count);
            // A buffer that is not full says that the kernel had no more. What came since shows in the next watch.
            slot.input.ready = bytes.capacity_left() == 0;
            self.statistics.received_bytes += u64::try_from(count).unwrap_or(0);
            self.statistics.rearms += u64::from(!slot.input.ready);
            self.slots.list(conn.slot);
            events.push(Event::Data { conn, bytes });
            return;
        }
        if self.input_ended(conn.slot, outcome) {
            events.push(Event::Eof { conn });
        }
    }

    /// Reads and forgets: the answer is out, and the peer shall not meet a reset for what it still sends.
    fn drop_input(&mut self, index: u32) {
        let Self { slots, dropped, .. } = self;
        let outcome = call::receive(slots.at(index).socket(), dropped);
        match outcome {
            Ok(1..) => self.slots.list(index),
            Ok(0) | Err(_) => {
                self.input_ended(index, outcome);
            }
        }
    }

    /// What a receive without bytes means; true if it is the end of input.
    fn input_ended(&mut self, index: u32, outcome: io::Result<usize>) -> bool {
        let slot = self.slots.at_mut(index);
        match outcome {
            Ok(_) => {
                slot.ended = true;
                if slot.phase == Phase::Lingering {
                    slot.phase = Phase::Closing;
                }
                self.slots.list(index);
                true
            }
            Err(error) => {
                match error.raw_os_error() {
                    Some(libc::EAGAIN) => slot.input.ready = false,
                    Some(libc::EINTR) => {}
                    Some(errno) => self.fail(index, errno),
                    None => self.fail(index, libc::EIO),
                }
                self.slots.list(index);
                false
            }
        }
    }
}
