//! What an exchange remembers of its own course, for its latencies and its line in the access log.

use super::reason::Reason;

/// How an exchange ended; [`Counters`](super::Counters) keeps the books by it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ending {
    /// With what a replica, an upstream server, a static object or a statement gave.
    #[default]
    Answered,
    /// With an answer of the front's own.
    Refused,
    /// Without a whole answer.
    Aborted,
}

impl Ending {
    pub fn word(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::Refused => "refused",
            Self::Aborted => "aborted",
        }
    }
}

/// Who served.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Served {
    /// The front itself, if anybody.
    #[default]
    Front,
    Replica(u8),
    /// Index into the front's upstream servers.
    Upstream(usize),
    File,
    Statement,
}

/// The course of one exchange. Times are the engine's, read once a turn; 0 means that it did not come to that.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Trace {
    pub reason: Reason,
    /// The parser's own words, where the reason has some.
    pub detail: &'static str,
    pub served: Served,
    pub status: u16,
    /// Bytes of the answer's body, framing not counted (for a relayed chunked body: counted).
    pub body_bytes: u64,
    /// The first byte of the head arrived.
    pub begun_ns: u64,
    /// The head was whole.
    pub taken_ns: u64,
    /// A replica or an upstream server was found.
    pub placed_ns: u64,
    /// The connection to the upstream server stood.
    pub connected_ns: u64,
    /// The first byte of the answer went to the engine.
    pub first_ns: u64,
}

impl Trace {
    /// A head is whole at `now_ns`; its first byte came at `begun_ns`.
    pub fn begin(begun_ns: u64, now_ns: u64) -> Self {
        Self { begun_ns, taken_ns: now_ns, ..Self::default() }
    }

    /// A server was chosen, for this reason.
    pub fn placed(&mut self, served: Served, reason: Reason, now_ns: u64) {
        self.served = served;
        self.reason = reason;
        if self.placed_ns == 0 {
            self.placed_ns = now_ns;
        }
    }

    /// Something went wrong: what went wrong last is what counts.
    pub fn blame(&mut self, reason: Reason, detail: &'static str) {
        self.reason = reason;
        self.detail = if reason.has_detail() { detail } else { "" };
    }

    /// Nanoseconds that the request waited for a server, if one was found.
    pub fn queue_ns(&self) -> u64 {
        self.placed_ns.saturating_sub(self.taken_ns)
    }
}
