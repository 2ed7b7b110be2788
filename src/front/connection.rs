//! One browser connection: what has arrived and is not yet parsed, and the exchange in progress.

use std::collections::VecDeque;

use crate::engine::{Conn, Lease};

use super::exchange::Exchange;

/// Bytes that arrived, in order. The common case is one lease with one whole request, parsed where the kernel put it;
/// only a head that came in pieces is copied together.
#[derive(Debug, Default)]
pub struct Input {
    /// Pieces of a head that did not fit one lease. When not empty it comes before `lease`.
    spill: Vec<u8>,
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
        if self.spill.is_empty() { self.lease.as_deref().unwrap_or(&[]) } else { &self.spill }
    }

    /// Copies what has arrived into one piece, giving the kernel its buffers back; true if `front` grew.
    pub fn gather(&mut self) -> bool {
        let before = self.front().len();
        if let Some(lease) = self.lease.take() {
            self.spill.extend_from_slice(&lease);
        }
        for lease in self.later.drain(..) {
            self.spill.extend_from_slice(&lease);
        }
        self.spill.len() > before
    }

    /// Cuts `count` bytes off the front.
    pub fn take(&mut self, count: usize) -> Piece {
        debug_assert!(count <= self.front().len());
        self.bytes -= count;
        if count == 0 {
            return Piece::Empty;
        }
        if !self.spill.is_empty() {
            let rest = self.spill.split_off(count);
            let piece = std::mem::replace(&mut self.spill, rest);
            self.refill();
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
        if self.spill.is_empty() {
            if let Some(lease) = self.lease.as_mut() {
                lease.advance(count);
                if lease.is_empty() {
                    self.lease = None;
                }
            }
        } else {
            self.spill.drain(..count);
        }
        self.refill();
    }

    pub fn clear(&mut self) {
        self.spill.clear();
        self.lease = None;
        self.later.clear();
        self.bytes = 0;
    }

    fn refill(&mut self) {
        if self.spill.is_empty() {
            if self.spill.capacity() > 4096 {
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
    /// Bytes on their way to the browser when its deadline last passed.
    pub queued_seen: usize,
}

impl Downstream {
    pub fn new(conn: Conn, deadline_ns: u64) -> Self {
        Self {
            conn,
            input: Input::default(),
            exchange: Exchange::default(),
            deadline_ns,
            requests: 0,
            eof: false,
            paused: false,
            leaving: false,
            queued_seen: 0,
        }
    }
}
