//! One request and its response on a browser connection.

use std::rc::Rc;

use crate::engine::Conn;
use crate::http1::body::BodyReader;
use crate::http1::head::{Known, Method, RequestHead, Version};
use crate::replica::job::Job;

use super::notice;
use super::record::Record;
use super::server::Published;
use super::trace::Trace;
use super::upstream::course::Course;

/// Bytes of memory for heads that an idle connection keeps.
const HEAD_BYTES_KEPT: usize = 1024;

/// Where the exchange stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum State {
    /// Between requests: the connection may be closed or handed off without harm.
    #[default]
    Idle,
    /// A part of a head has arrived.
    Head,
    /// The body of a request for a replica is being collected.
    Collect,
    /// A job is with a replica, or waits for one.
    Queued,
    /// The request waits until an upstream server has room.
    Waiting,
    /// The request goes to an upstream server and its response comes back.
    Relay,
    /// The browser and an upstream server speak another protocol, whose bytes pass through.
    Tunnel,
    /// The last answer is on its way out; nothing that arrives is read.
    Closing,
}

/// The exchange in progress; its parts keep their memory from request to request.
#[derive(Debug, Default)]
pub struct Exchange {
    pub state: State,
    /// Counts the requests of the connection: a late reply of an earlier one is told apart by it.
    pub number: u32,
    pub head: RequestHead,
    /// The bytes that the head's spans point into.
    pub head_bytes: Vec<u8>,
    pub body: BodyReader,
    pub body_done: bool,
    /// Whether the connection stays open after this exchange.
    pub keep_alive: bool,
    /// Whether the browser asks for pages: said when the head's bytes go before the answer is known.
    pub reads_pages: bool,
    /// The job while it is collected or waits for a free replica.
    pub job: Option<Box<Job>>,
    /// The job's way to a replica, while it is out.
    pub flight: Option<u32>,
    /// Times that a replica was given the job because the one before had begun it and hung.
    pub repeats: u8,
    /// The statements that the request for a replica began with: its job may have to be made again.
    pub(super) site: Option<Rc<Published>>,
    /// The upstream connection of a relay.
    pub upstream: Option<Conn>,
    /// What the exchange holds of its upstream servers.
    pub course: Course,
    /// Index into the routes of the statement that matched.
    pub route: usize,
    /// Times the request was sent upstream.
    pub attempts: u32,
    /// Whether a part of the response has been sent.
    pub answered: bool,
    /// The exchange's course: times, reason, who served.
    pub trace: Trace,
    /// What the access log keeps of the head, when there is a log.
    pub line: Option<Box<Record>>,
    /// The browser's offer to change the protocol is passed on.
    pub upgrade: bool,
    /// The browser was told to send its body.
    pub continued: bool,
    /// Interim responses of the upstream server.
    pub interims: u8,
    /// When the upstream server was chosen, and when the request's head was sent to it.
    pub picked_ns: u64,
    pub sent_ns: u64,
}

impl Exchange {
    /// HTTP/1.0 knows neither chunked bodies nor persistent connections unless it asks.
    pub fn is_http10(&self) -> bool {
        self.head.version == Version::Http10
    }

    /// Whether it does no harm to execute it twice (RFC 9110 section 9.2.1), and all of it is in the head.
    pub fn is_safe(&self) -> bool {
        matches!(self.head.method, Method::Get | Method::Head) && !self.head.framing.has_body()
    }

    /// Whether the browser asks for pages; `unsound` is what came of a head that is not sound, which has no fields.
    pub fn asks_for_pages(&self, unsound: &[u8]) -> bool {
        if !self.head_bytes.is_empty() {
            return self.head.value(&self.head_bytes, Known::Accept).is_some_and(notice::asks_for_pages);
        }
        match self.state {
            State::Idle | State::Head => notice::asks_for_pages(unsound),
            State::Collect | State::Queued | State::Waiting | State::Relay | State::Tunnel | State::Closing => {
                self.reads_pages
            }
        }
    }

    /// Lets the head's bytes go, but for the memory that the next head will want.
    pub fn forget_head_bytes(&mut self) {
        self.head_bytes.clear();
        self.head_bytes.shrink_to(HEAD_BYTES_KEPT);
    }

    /// Makes ready for the next request.
    pub fn reset(&mut self) {
        self.state = State::Idle;
        self.head.clear();
        self.forget_head_bytes();
        self.reads_pages = false;
        self.body_done = false;
        self.upstream = None;
        self.flight = None;
        self.repeats = 0;
        self.site = None;
        self.course = Course::default();
        self.attempts = 0;
        self.answered = false;
        self.upgrade = false;
        self.continued = false;
        self.interims = 0;
    }
}
