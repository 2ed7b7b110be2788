//! A connection to an upstream server and the exchange that it carries.

use crate::engine::{Chunk, Conn};
use crate::front::connection::Input;
use crate::http1::body::BodyReader;
use crate::http1::head::ResponseHead;

/// Where an upstream connection stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpstreamState {
    /// The request waits in `pending` for the connection.
    Connecting,
    /// In its server's pool.
    Idle,
    /// Carries an exchange.
    Exchanging,
    /// Being closed; what it still says is dropped.
    Closing,
}

/// A connection to an upstream server.
#[derive(Debug)]
pub struct UpstreamConnection {
    pub conn: Conn,
    pub server: usize,
    pub state: UpstreamState,
    /// The browser connection that it serves.
    pub downstream: Option<Conn>,
    pub input: Input,
    pub head: ResponseHead,
    pub head_done: bool,
    pub body: BodyReader,
    /// The body is passed on without its chunk framing, to an HTTP/1.0 browser.
    pub unchunk: bool,
    /// Whether it had served a request before this one: then a failure may be a keep-alive race.
    pub reused: bool,
    /// Receiving was paused because the browser reads slowly.
    pub paused: bool,
    pub pending: Vec<Chunk>,
    pub deadline_ns: u64,
}

impl UpstreamConnection {
    pub fn new(conn: Conn, server: usize) -> Self {
        Self {
            conn,
            server,
            state: UpstreamState::Connecting,
            downstream: None,
            input: Input::default(),
            head: ResponseHead::default(),
            head_done: false,
            body: BodyReader::default(),
            unchunk: false,
            reused: false,
            paused: false,
            pending: Vec::new(),
            deadline_ns: u64::MAX,
        }
    }
}
