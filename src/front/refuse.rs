//! Answers of the front's own, and the end of every exchange.

use crate::engine::{Close, Engine};
use crate::http1::head::Framing;
use crate::http1::parse::Reject;

use super::FrontServer;
use super::connection::{Downstream, Input};
use super::exchange::{Exchange, State};
use super::notice::Notice;
use super::reason::Reason;
use super::rejects::Part;
use super::respond::{self, Context};
use super::trace::Ending;

/// Bodies up to this size are read and dropped so that a connection survives an early answer.
const DISCARD_BYTES_MAX: u64 = 64 * 1024;

impl FrontServer {
    pub(super) fn short<E: Engine>(
        &mut self,
        engine: &mut E,
        down: &mut Downstream,
        status: u16,
        extra: &[(&[u8], &[u8])],
        text: &str,
    ) {
        let exchange = &mut down.exchange;
        discard(exchange, &mut down.input);
        if !exchange.body_done {
            exchange.keep_alive = false;
        }
        exchange.answered = true;
        let context = Context::of(&exchange.head, exchange.keep_alive);
        let is_page = status >= 400 && exchange.asks_for_pages(down.input.front());
        let notice = Notice { status, text, is_safe: exchange.is_safe(), is_page };
        let body_bytes = notice.bytes();
        let bytes = respond::short(engine, down.conn, context, &notice, body_bytes, extra, &mut self.now);
        self.given(engine, down, bytes);
        down.exchange.trace.body_bytes = if context.head_only { 0 } else { body_bytes as u64 };
        self.note_status(engine, down, status);
    }

    /// Answers with an error of the front's own; the reason says with which status.
    pub(super) fn refuse<E: Engine>(&mut self, engine: &mut E, down: &mut Downstream, reason: Reason, text: &str) {
        self.refuse_with(engine, down, reason, "", text);
    }

    /// The same with the parser's own words for the log.
    pub(super) fn refuse_with<E: Engine>(
        &mut self,
        engine: &mut E,
        down: &mut Downstream,
        reason: Reason,
        words: &'static str,
        text: &str,
    ) {
        let status = reason.status();
        down.exchange.trace.blame(reason, words);
        if let Some(job) = down.exchange.job.take() {
            self.recycle(job);
        }
        let extra: &[(&[u8], &[u8])] = if status == 503 { &[(b"retry-after", b"1")] } else { &[] };
        self.short(engine, down, status, extra, text);
        self.note_end(engine, down, Ending::Refused);
        self.end_early(engine, down);
    }

    /// Refuses a message that is not sound: answers and closes (RFC 9112 section 2.2).
    pub(super) fn reject<E: Engine>(&mut self, engine: &mut E, down: &mut Downstream, reject: &Reject) {
        self.reject_for(engine, down, Reason::of_reject(reject), reject);
    }

    /// The same for a reason of its own; `reject.offset` counts in the input at hand.
    pub(super) fn reject_for<E: Engine>(
        &mut self,
        engine: &mut E,
        down: &mut Downstream,
        reason: Reason,
        reject: &Reject,
    ) {
        down.exchange.trace.blame(reason, reject.reason);
        let in_head = matches!(down.exchange.state, State::Idle | State::Head);
        let part = if in_head { Part::Head } else { Part::Body };
        self.note_reject(engine, down, down.input.front(), part, reject);
        self.reject_noted(engine, down, reject);
    }

    /// The same for a head that was whole; `reject.offset` counts in the head.
    pub(super) fn reject_head<E: Engine>(&mut self, engine: &mut E, down: &mut Downstream, reject: &Reject) {
        down.exchange.trace.blame(Reason::of_reject(reject), reject.reason);
        self.note_reject(engine, down, &down.exchange.head_bytes, Part::Head, reject);
        self.reject_noted(engine, down, reject);
    }

    fn reject_noted<E: Engine>(&mut self, engine: &mut E, down: &mut Downstream, reject: &Reject) {
        self.counters.malformed += 1;
        if let Some(job) = down.exchange.job.take() {
            self.recycle(job);
        }
        down.exchange.keep_alive = false;
        down.exchange.body_done = true;
        if down.exchange.answered {
            // An answer is under way already: a second one would be taken for a part of it.
            return self.abort(engine, down);
        }
        self.short(engine, down, reject.status, &[], reject.reason);
        self.note_end(engine, down, Ending::Refused);
        self.finish_exchange(engine, down);
    }

    /// The answer broke off: the browser sees a reset instead of a whole message.
    pub(super) fn abort<E: Engine>(&mut self, engine: &mut E, down: &mut Downstream) {
        self.note_end(engine, down, Ending::Aborted);
        down.exchange.state = State::Closing;
        engine.close(down.conn, Close::Reset);
    }

    /// The answer is out, perhaps before the whole request was read.
    pub(super) fn end_early<E: Engine>(&mut self, engine: &mut E, down: &mut Downstream) {
        if !down.exchange.body_done {
            down.exchange.keep_alive = false;
        }
        self.finish_exchange(engine, down);
    }

    /// The answer is in the engine's hands: the connection is ready for its next request, or closes.
    pub(super) fn finish_exchange<E: Engine>(&mut self, engine: &mut E, down: &mut Downstream) {
        let keep_alive =
            down.exchange.keep_alive && !self.admission.is_draining() && !(down.eof && down.input.is_empty());
        down.exchange.reset();
        if keep_alive {
            down.deadline_ns = engine.now_ns() + self.settings.idle_ns;
            if down.paused && down.input.bytes() <= self.settings.buffer_bytes_max {
                down.paused = false;
                engine.receive(down.conn, true);
            }
        } else {
            down.exchange.state = State::Closing;
            down.deadline_ns = engine.now_ns() + self.settings.idle_ns;
            down.input.clear();
            engine.close(down.conn, Close::Flush);
        }
    }
}

/// Reads past a small body that has arrived already, so that its connection can stay open.
fn discard(exchange: &mut Exchange, input: &mut Input) {
    let small = matches!(exchange.head.framing, Framing::Length(bytes) if bytes <= DISCARD_BYTES_MAX);
    while small && !exchange.body_done && !input.is_empty() {
        let Ok(step) = exchange.body.read(input.front()) else { return };
        exchange.body_done = step.done;
        input.skip(step.consumed);
        if step.consumed == 0 {
            return;
        }
    }
}
