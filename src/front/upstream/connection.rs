//! One connection to an upstream server and the requests that it carries.
//!
//! ```text
//!   requests  ──▶ │ ride 3 │ ride 2 │ ride 1 │ ride 0 │ ──▶ server      responses come back in this order:
//!                                              ▲ its response is being read (RFC 9112 section 9.3.2)
//! ```
//! Without pipelining a connection carries one request at a time. With it, requests of several browsers ride on one
//! connection, which saves most of the system calls and TCP messages of the upstream side; the price is that a slow
//! response holds up those behind it. Only safe methods without a body ride together, because all but the first must
//! be sent again when the connection ends.

use std::collections::VecDeque;

use crate::engine::Conn;
use crate::http1::body::BodyReader;
use crate::http1::head::{Method, ResponseHead};

use crate::front::connection::Input;
use crate::front::flow::Queue;

use super::server::Grant;

/// Where an upstream connection stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpstreamState {
    /// The request waits for the connection.
    Connecting,
    /// In its server's pool.
    Idle,
    /// Carries at least one request.
    Exchanging,
    /// Carries the bytes of another protocol.
    Tunnel,
    /// Being closed; what it still says is dropped.
    Closing,
}

/// One request on an upstream connection, from its first byte to the end of its response.
#[derive(Clone, Copy, Debug)]
pub struct Ride {
    /// The browser's connection.
    pub down: Conn,
    /// What the framing of the response depends on (RFC 9112 section 6.3).
    pub method: Method,
    /// Its place at the server.
    pub grant: Grant,
    /// The browser left, or its request went another way: the response is read and dropped.
    pub abandoned: bool,
}

/// A connection to an upstream server.
#[derive(Debug)]
pub struct UpstreamConnection {
    pub conn: Conn,
    pub server: usize,
    pub state: UpstreamState,
    /// Requests in the order in which they were sent.
    pub rides: VecDeque<Ride>,
    pub input: Input,
    /// The head of the first ride's response.
    pub head: ResponseHead,
    pub head_done: bool,
    pub body: BodyReader,
    /// The body is passed on without its chunk framing, to an HTTP/1.0 browser.
    pub unchunk: bool,
    /// Responses that were read to their end.
    pub responses: u64,
    /// Whether it had served a request before: then a failure may be a keep-alive race, and the server has shown that
    /// its connections persist, without which nothing may be pipelined.
    pub reused: bool,
    /// Carries only requests that may ride together.
    pub shared: bool,
    /// Is among those that take more riders.
    pub offered: bool,
    /// Receiving was paused because the browser reads slowly.
    pub paused: bool,
    /// Since when.
    pub paused_ns: u64,
    pub queue: Queue,
    /// In a tunnel: the server sends no more.
    pub eof: bool,
    /// In a tunnel: the server was told that the browser sends no more.
    pub told_end: bool,
    pub deadline_ns: u64,
    /// How long the server may be silent, in nanoseconds.
    pub first_byte_ns: u64,
    /// How long the connection may be idle, in nanoseconds.
    pub idle_ns: u64,
}

impl UpstreamConnection {
    pub fn new(conn: Conn, server: usize) -> Self {
        Self {
            conn,
            server,
            state: UpstreamState::Connecting,
            rides: VecDeque::new(),
            input: Input::default(),
            head: ResponseHead::default(),
            head_done: false,
            body: BodyReader::default(),
            unchunk: false,
            responses: 0,
            reused: false,
            shared: false,
            offered: false,
            paused: false,
            paused_ns: 0,
            queue: Queue::default(),
            eof: false,
            told_end: false,
            deadline_ns: u64::MAX,
            first_byte_ns: 0,
            idle_ns: 0,
        }
    }

    /// The browser whose response is being read, if it still wants it.
    pub fn downstream(&self) -> Option<Conn> {
        self.rides.front().filter(|ride| !ride.abandoned).map(|ride| ride.down)
    }

    /// Makes ready for the next response.
    pub fn end_response(&mut self) {
        self.head.clear();
        self.head_done = false;
        self.unchunk = false;
        self.responses += 1;
        self.reused = true;
    }

    /// Whether one more request may ride on this connection, on which `rides_max` may at most.
    pub fn takes_more(&self, rides_max: usize) -> bool {
        self.state == UpstreamState::Exchanging
            && self.shared
            && self.reused
            && !self.paused
            && self.rides.len() < rides_max
    }
}
