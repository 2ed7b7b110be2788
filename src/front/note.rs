//! Notes of every exchange: the books, its latencies, its line in the access log, and its place among the rejected.
//!
//! Architecture invariant: an exchange that was taken ends by exactly one [`FrontServer::note_end`]; nothing else
//! counts answered, refused and aborted requests.

use crate::engine::Engine;
use crate::http1::parse::Reject;

use super::FrontServer;
use super::connection::Downstream;
use super::exchange::State;
use super::latency::Latency;
use super::log::Log;
use super::reason::Reason;
use super::record::Record;
use super::rejects::{Part, Rejects};
use super::trace::{Ending, Served, Trace};

/// Exchanges of one turn whose end waits for the turn's end; more are timed at once.
const ENDED_MAX: usize = 1024;

/// An exchange that began and ended within one turn: how long it took is known at the turn's end.
#[derive(Debug)]
struct Ended {
    trace: Trace,
    ending: Ending,
    line: Option<Box<Record>>,
}

/// What a front server notes.
#[derive(Debug)]
pub struct Notes {
    pub latency: Latency,
    pub rejects: Rejects,
    /// Ended exchanges by reason, in the order of [`Reason::ALL`].
    pub endings: [u64; Reason::COUNT],
    log: Option<Log>,
    ended: Vec<Ended>,
}

impl Default for Notes {
    fn default() -> Self {
        Self {
            latency: Latency::default(),
            rejects: Rejects::default(),
            endings: [0; Reason::COUNT],
            log: None,
            ended: Vec::with_capacity(ENDED_MAX),
        }
    }
}

impl Notes {
    pub fn log(&self) -> Option<&Log> {
        self.log.as_ref()
    }

    fn finish(&mut self, mut trace: Trace, ending: Ending, line: Option<Box<Record>>, ended_ns: u64) {
        if trace.first_ns == trace.taken_ns {
            trace.first_ns = ended_ns;
        }
        if ending == Ending::Answered {
            self.latency.total.record(ended_ns.saturating_sub(trace.taken_ns));
            self.latency.first_byte.record(trace.first_ns.saturating_sub(trace.taken_ns));
            if trace.queue_ns() > 0 {
                self.latency.queue.record(trace.queue_ns());
            }
        }
        if let (Some(mut line), Some(log)) = (line, &mut self.log) {
            line.trace = trace;
            line.ending = ending;
            line.ended_ns = ended_ns;
            log.push(line);
        }
    }
}

impl FrontServer {
    /// Writes a line for every exchange from now on.
    pub fn log_to(&mut self, log: Log) {
        self.notes.log = Some(log);
    }

    pub fn notes(&self) -> &Notes {
        &self.notes
    }

    /// A request was taken: its course begins. Its head may turn out to be broken.
    pub(super) fn note_taken<E: Engine>(&mut self, engine: &E, down: &mut Downstream) {
        let now = engine.now_ns();
        let exchange = &mut down.exchange;
        let begun = if exchange.state == State::Head { exchange.trace.begun_ns } else { now };
        exchange.trace = Trace::begin(begun, now);
        if let Some(log) = &mut self.notes.log {
            let mut line = log.line();
            line.unix_ms = self.now.unix_ms;
            line.front = log.front;
            line.client = engine.peer(down.conn);
            exchange.line = Some(line);
        }
    }

    /// The head is whole and sound: what the log says of it is kept, for the head itself may be forgotten.
    pub(super) fn note_head(&mut self, down: &mut Downstream) {
        let exchange = &mut down.exchange;
        if let Some(line) = &mut exchange.line {
            let (head, bytes) = (&exchange.head, exchange.head_bytes.as_slice());
            line.method.set(head.method_text.of(bytes));
            line.host.set(head.host.of(bytes));
            line.path.set(head.path.of(bytes));
        }
    }

    /// An answer's head goes out, or the whole of a short one.
    pub(super) fn note_status<E: Engine>(&mut self, engine: &E, down: &mut Downstream, status: u16) {
        self.counters.status(status);
        let trace = &mut down.exchange.trace;
        trace.status = status;
        trace.first_ns = engine.now_ns();
    }

    /// The exchange has ended: the books, once and only here.
    pub(super) fn note_end<E: Engine>(&mut self, engine: &E, down: &mut Downstream, ending: Ending) {
        match ending {
            Ending::Answered => self.counters.requests_answered += 1,
            Ending::Refused => self.counters.requests_refused += 1,
            Ending::Aborted => self.counters.requests_aborted += 1,
        }
        let trace = down.exchange.trace;
        self.notes.endings[trace.reason.index()] += 1;
        let mut line = down.exchange.line.take();
        if let Some(line) = &mut line {
            line.attempts = down.exchange.attempts;
            if let Served::Upstream(server) = trace.served
                && let Some(log) = &mut self.notes.log
            {
                line.upstream = log.upstream(server, &self.pools.server(server).address);
            }
        }
        let now = engine.now_ns();
        if trace.taken_ns == now && self.notes.ended.len() < ENDED_MAX {
            self.notes.ended.push(Ended { trace, ending, line });
        } else {
            self.notes.finish(trace, ending, line, now);
        }
    }

    /// The browser left before its answer was whole.
    pub(super) fn note_left<E: Engine>(&mut self, engine: &E, down: &mut Downstream) {
        down.exchange.trace.blame(Reason::ClientLeft, "");
        self.note_end(engine, down, Ending::Aborted);
    }

    /// Whether exchanges ended in the turn in which they began: then [`Self::settle_notes`] is due at its end.
    pub fn has_ended(&self) -> bool {
        !self.notes.ended.is_empty()
    }

    /// The turn is over at `now_ns`, a fresh reading of the clock: what it answered leaves now.
    pub fn settle_notes(&mut self, now_ns: u64) {
        let mut ended = std::mem::take(&mut self.notes.ended);
        for Ended { trace, ending, line } in ended.drain(..) {
            self.notes.finish(trace, ending, line, now_ns);
        }
        self.notes.ended = ended;
    }

    /// A request is rejected for its content: keeps the bytes around the offending one. `part` says whether
    /// `reject.offset` counts in the head or in the body at hand.
    pub(super) fn note_reject<E: Engine>(
        &mut self,
        engine: &E,
        down: &Downstream,
        window: &[u8],
        part: Part,
        reject: &Reject,
    ) {
        let entry = self.notes.rejects.next();
        entry.unix_ms = self.now.unix_ms;
        entry.client = engine.peer(down.conn);
        entry.status = reject.status;
        entry.reason = down.exchange.trace.reason;
        entry.words = reject.reason;
        entry.look(window, reject.offset, part);
    }
}
