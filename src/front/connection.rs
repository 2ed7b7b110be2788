//! One browser connection: what has arrived and is not yet parsed, and the exchange in progress.

use std::collections::VecDeque;
use std::net::IpAddr;

use crate::engine::{Conn, Lease};
use crate::http1::parse::HeadScan;

use super::exchange::Exchange;
use super::flow::Queue;
use super::pace::Pace;

/// Bytes of memory for copied input that a connection keeps.
const SPILL_BYTES_KEPT: usize = 4096;

/// Bytes that arrived, in order. The common case is one lease with one whole request, parsed where the kernel put it;
/// only a head that came in pieces is copied together.
#[derive(Debug, Default)]
pub struct Input {
    /// Bytes that were copied together, from `spill_at` on. When there are any they come before `lease`.
    spill: Vec<u8>,
    /// Bytes of `spill` that are used up: cutting them off for each small request would move the rest each time.
    spill_at: usize,
    lease: Option<Lease>,
    later: VecDeque<Lease>,
    bytes: usize,
}

/// Bytes cut off the front of an [`Input`].
#[derive(Debug, Default)]
pub enum Piece {
    #[default]
    Empty,
    Lease(Lease),
    Heap(Vec<u8>),
}

impl Piece {
    pub fn as_slice(&self) -> &[u8] {
        match self {
            Self::Empty => &[],
            Self::Lease(lease) => lease,
            Self::Heap(bytes) => bytes,
        }
    }
}

impl Input {
    pub fn push(&mut self, lease: Lease) {
        self.bytes += lease.len();
        if self.spill.is_empty() && self.lease.is_none() {
            self.lease = Some(lease);
        } else {
            self.later.push_back(lease);
        }
    }

    /// Bytes waiting, parsed or not.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    pub fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// The bytes to look at now: a whole spill, or one lease.
    pub fn front(&self) -> &[u8] {
        if self.spill.is_empty() { self.lease.as_deref().unwrap_or(&[]) } else { &self.spill[self.spill_at..] }
    }

    /// Copies what has arrived into one piece, giving the kernel its buffers back; true if `front` grew.
    pub fn gather(&mut self) -> bool {
        if self.lease.is_none() && self.later.is_empty() {
            return false;
        }
        let before = self.front().len();
        if self.spill_at > 0 && self.spill_at >= self.spill.len() / 2 {
            self.spill.drain(..self.spill_at);
            self.spill_at = 0;
        }
        if let Some(lease) = self.lease.take() {
            self.spill.extend_from_slice(&lease);
        }
        for lease in self.later.drain(..) {
            self.spill.extend_from_slice(&lease);
        }
        self.front().len() > before
    }

    /// Cuts `count` bytes off the front.
    pub fn take(&mut self, count: usize) -> Piece {
        debug_assert!(count <= self.front().len());
        if count == 0 {
            return Piece::Empty;
        }
        self.bytes -= count;
        if !self.spill.is_empty() {
            if self.spill_at == 0 && count == self.spill.len() {
                let piece = std::mem::take(&mut self.spill);
                self.refill();
                return Piece::Heap(piece);
            }
            let piece = self.spill[self.spill_at..self.spill_at + count].to_vec();
            self.use_up(count);
            return Piece::Heap(piece);
        }
        let Some(lease) = self.lease.as_mut() else { return Piece::Empty };
        let piece = lease.split_to(count);
        if lease.is_empty() {
            self.lease = None;
            self.refill();
        }
        Piece::Lease(piece)
    }

    /// Drops `count` bytes from the front.
    pub fn skip(&mut self, count: usize) {
        debug_assert!(count <= self.front().len());
        self.bytes -= count;
        if !self.spill.is_empty() {
            return self.use_up(count);
        }
        if let Some(lease) = self.lease.as_mut() {
            lease.advance(count);
            if lease.is_empty() {
                self.lease = None;
            }
        }
        self.refill();
    }

    pub fn clear(&mut self) {
        self.spill.clear();
        self.spill_at = 0;
        self.lease = None;
        self.later.clear();
        self.bytes = 0;
    }

    fn use_up(&mut self, count: usize) {
        self.spill_at += count;
        if self.spill_at >= self.spill.len() {
            self.spill.clear();
            self.spill_at = 0;
            self.refill();
        }
    }

    fn refill(&mut self) {
        if self.spill.is_empty() {
            if self.spill.capacity() > SPILL_BYTES_KEPT {
                self.spill = Vec::new();
            }
            if self.lease.is_none() {
                self.lease = self.later.pop_front();
            }
        }
    }
}

/// A browser's connection.
#[derive(Debug)]
pub struct Downstream {
    pub conn: Conn,
    pub input: Input,
    pub exchange: Exchange,
    /// How far a head that comes in pieces was parsed.
    pub scan: HeadScan,
    /// When this state has lasted too long, in monotonic nanoseconds.
    pub deadline_ns: u64,
    /// Requests taken on this connection.
    pub requests: u32,
    /// The peer sends no more.
    pub eof: bool,
    /// Receiving was paused because the peer is ahead of us.
    pub paused: bool,
    /// Is being handed over to another front server, and not read meanwhile.
    pub leaving: bool,
    pub queue: Queue,
    /// Bytes that were ever put into the send queue.
    pub given_bytes: u64,
    pub pace: Pace,
    /// The address that this connection counts for.
    pub address: Option<IpAddr>,
}

impl Downstream {
    pub fn new(conn: Conn, deadline_ns: u64) -> Self {
        Self {
            conn,
            input: Input::default(),
            exchange: Exchange::default(),
            scan: HeadScan::default(),
            deadline_ns,
            requests: 0,
            eof: false,
            paused: false,
            leaving: false,
            queue: Queue::default(),
            given_bytes: 0,
            pace: Pace::default(),
            address: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Input;
    use crate::engine::Pool;

    #[test]
    fn bytes_come_out_in_order_whatever_was_copied_when() {
        let pool = Pool::new(64, 64).unwrap();
        // A plain generator, so that a failure repeats.
        let mut state = 7u32;
        let mut next = |below: usize| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            usize::try_from(state >> 16).unwrap() % below
        };
        let mut input = Input::default();
        let (mut sent, mut taken) = (0u8, 0u8);
        for _ in 0..5000 {
            match next(5) {
                0 | 1 if input.bytes() < 600 => {
                    let Some(mut lease) = pool.lease() else { continue };
                    let bytes: Vec<u8> = (0..=next(20))
                        .map(|_| {
                            sent = sent.wrapping_add(1);
                            sent
                        })
                        .collect();
                    lease.extend_from_slice(&bytes);
                    input.push(lease);
                }
                2 => {
                    let before = input.front().len();
                    assert_eq!(input.gather(), input.front().len() > before);
                    assert_eq!(pool.available(), 64, "what was copied holds no buffer");
                    assert_eq!(input.front().len(), input.bytes());
                }
                3 => {
                    let count = next(input.front().len() + 1);
                    for byte in input.take(count).as_slice() {
                        taken = taken.wrapping_add(1);
                        assert_eq!(*byte, taken);
                    }
                }
                _ => {
                    let count = next(input.front().len() + 1);
                    let skipped: Vec<u8> = input.front()[..count].to_vec();
                    input.skip(count);
                    for byte in skipped {
                        taken = taken.wrapping_add(1);
                        assert_eq!(byte, taken);
                    }
                }
            }
            assert!(input.is_empty() || !input.front().is_empty(), "waiting bytes can be looked at");
        }
    }
}
