//! Jobs: requests for the replica cluster, from the body's first byte to the answer.

use std::sync::Arc;

use crate::dispatch::requests::Pick;
use crate::engine::{Conn, Engine};
use crate::http1::form;
use crate::http1::head::Known;
use crate::replica::job::{Accept, Job, Origin};
use crate::tables::ServerId;

use super::FrontServer;
use super::connection::Downstream;
use super::exchange::State;
use super::respond::{self, Context, Timing};
use super::server::Ticket;

/// Jobs kept for reuse.
const JOBS_KEPT_MAX: usize = 1024;

impl FrontServer {
    /// Fills a job from the request and collects its body.
    pub(super) fn begin_job<E: Engine>(
        &mut self,
        engine: &mut E,
        down: &mut Downstream,
        application: &Arc<str>,
        path: &str,
        mount: usize,
    ) {
        let mut job = self.jobs.pop().unwrap_or_default();
        let exchange = &mut down.exchange;
        let head = &exchange.head;
        let bytes = exchange.head_bytes.as_slice();
        job.origin = Origin {
            worker: self.worker,
            slot: down.conn.slot,
            generation: down.conn.generation,
            exchange: exchange.number,
        };
        job.application = Arc::clone(application);
        job.method = head.method;
        job.mount.push_str(&path[..mount]);
        let below = path.get(mount..).unwrap_or("");
        job.path.push_str(if below.is_empty() { "/" } else { below });
        push_text(&mut job.query, head.query.of(bytes));
        job.accept =
            if form::find(&job.query, "format").as_deref() == Some("json") { Accept::Json } else { Accept::Html };
        for header in &head.headers {
            let value = header.value.of(bytes);
            match header.known {
                // A browser that takes both is shown the page.
                Known::Accept if contains(value, b"application/json") && !contains(value, b"text/html") => {
                    job.accept = Accept::Json;
                }
                Known::IfNoneMatch => push_text(&mut job.if_none_match, value),
                Known::XCsrfToken => push_text(&mut job.csrf_header, value),
                Known::ContentType => {
                    push_text(
                        &mut job.content_type,
                        value.split(|&byte| byte == b';').next().unwrap_or(b"").trim_ascii(),
                    );
                    job.content_type.make_ascii_lowercase();
                }
                _ => {}
            }
        }
        self.sessions.identify(head, bytes, self.now.unix_ms, &mut job.identity);
        job.taken_ns = exchange.taken_ns;
        job.deadline_ns = exchange.taken_ns + self.settings.job_ns;
        exchange.job = Some(job);
        exchange.state = State::Collect;
        self.expect_continue(engine, down);
    }

    /// Collects the body; true when the exchange moved on.
    pub(super) fn collect<E: Engine>(&mut self, engine: &mut E, down: &mut Downstream) -> bool {
        while !down.exchange.body_done {
            if down.input.is_empty() {
                return false;
            }
            match down.exchange.body.read(down.input.front()) {
                Ok(step) => {
                    if let Some(job) = down.exchange.job.as_mut() {
                        job.body.extend_from_slice(&down.input.front()[step.data]);
                    }
                    down.exchange.body_done = step.done;
                    if step.consumed == 0 && !step.done && !down.input.gather() {
                        return false;
                    }
                    down.input.skip(step.consumed);
                }
                Err(reject) => {
                    self.reject(engine, down, &reject);
                    return true;
                }
            }
        }
        self.dispatch(engine, down);
        true
    }

    /// Asks the second dispatcher for a replica.
    fn dispatch<E: Engine>(&mut self, engine: &mut E, down: &mut Downstream) {
        let Some(mut job) = down.exchange.job.take() else { return };
        down.exchange.state = State::Queued;
        down.exchange.forget_head_bytes();
        down.deadline_ns = job.deadline_ns;
        self.counters.to_replicas += 1;
        let now = engine.now_ns();
        match self.dispatcher.pick(now, self.local_replica) {
            Pick::Replica(replica, _) => {
                job.dispatched_ns = now;
                self.outbox.push((replica, job));
            }
            Pick::Wait => {
                let ticket = Ticket { conn: down.conn, exchange: down.exchange.number };
                down.exchange.job = Some(job);
                if self.dispatcher.enqueue(ticket, now, now + self.settings.queue_ns).is_err() {
                    self.counters.queue_refused += 1;
                    self.refuse(engine, down, 503, "every replica is busy and the queue is full");
                }
            }
        }
    }

    /// A job came back from `replica`.
    pub fn on_reply<E: Engine>(&mut self, engine: &mut E, job: Box<Job>) {
        self.dispatcher.returned(job.response.replica);
        let conn = Conn { slot: job.origin.slot, generation: job.origin.generation };
        if let Some(mut down) = self.take_downstream(conn) {
            if down.exchange.state == State::Queued && down.exchange.number == job.origin.exchange {
                self.answer(engine, &mut down, &job);
                self.advance(engine, &mut down);
                self.hold_back(engine, &mut down);
            }
            self.put_downstream(down);
        }
        self.recycle(job);
        self.pump(engine);
    }

    /// A job could not be handed to its replica: the ring was full or the replica went away.
    pub fn on_undelivered<E: Engine>(&mut self, engine: &mut E, replica: ServerId, mut job: Box<Job>) {
        job.response.clear();
        job.response.status = 503;
        job.response.replica = replica;
        job.response.content_type = "text/plain; charset=utf-8";
        job.response.retry_after_s = 1;
        job.response.body.extend_from_slice(b"the replica could not take the request");
        self.on_reply(engine, job);
    }

    /// A stopped replica gave the job back untouched: it goes to another one.
    pub fn on_unclaimed<E: Engine>(&mut self, engine: &mut E, replica: ServerId, job: Box<Job>) {
        self.dispatcher.returned(replica);
        self.dispatcher.set_available(replica, false);
        let conn = Conn { slot: job.origin.slot, generation: job.origin.generation };
        let Some(mut down) = self.take_downstream(conn) else { return self.recycle(job) };
        if down.exchange.state == State::Queued && down.exchange.number == job.origin.exchange {
            down.exchange.job = Some(job);
            self.dispatch(engine, &mut down);
        } else {
            self.recycle(job);
        }
        self.put_downstream(down);
    }

    /// Gives waiting requests to replicas that have become free, and refuses those that waited too long.
    pub fn pump<E: Engine>(&mut self, engine: &mut E) {
        let now = engine.now_ns();
        while let Some(ticket) = self.dispatcher.expired(now) {
            if let Some(mut down) = self.waiting(ticket) {
                self.counters.queue_expired += 1;
                self.refuse(engine, &mut down, 503, "no replica became free in time");
                self.advance(engine, &mut down);
                self.put_downstream(down);
            }
        }
        while let Some((ticket, replica)) = self.dispatcher.next_ready(now, self.local_replica) {
            if let Some(mut down) = self.waiting(ticket) {
                if let Some(mut job) = down.exchange.job.take() {
                    job.dispatched_ns = now;
                    self.outbox.push((replica, job));
                } else {
                    self.dispatcher.returned(replica);
                }
                self.put_downstream(down);
            } else {
                // Its browser has left: the work is dropped before it costs anything.
                self.dispatcher.returned(replica);
            }
        }
    }

    fn waiting(&mut self, ticket: Ticket) -> Option<Box<Downstream>> {
        let down = self.take_downstream(ticket.conn)?;
        if down.exchange.number == ticket.exchange && down.exchange.state == State::Queued {
            return Some(down);
        }
        self.put_downstream(down);
        None
    }

    pub(super) fn recycle(&mut self, mut job: Box<Job>) {
        if self.jobs.len() < JOBS_KEPT_MAX {
            job.clear();
            self.jobs.push(job);
        }
    }

    fn answer<E: Engine>(&mut self, engine: &mut E, down: &mut Downstream, job: &Job) {
        let cookie = self.sessions.set_cookie(&job.response.session, self.now.unix_ms);
        let exchange = &mut down.exchange;
        if self.admission.is_draining() {
            exchange.keep_alive = false;
        }
        exchange.answered = true;
        let context = Context::of(&exchange.head, exchange.keep_alive);
        let timing = self.settings.forwarding.server_timing.then(|| {
            Timing::between(job.taken_ns, job.dispatched_ns, job.started_ns.max(job.dispatched_ns), engine.now_ns())
        });
        let bytes = respond::from_replica(engine, down.conn, context, &job.response, &cookie, timing, &mut self.now);
        self.given(engine, down, bytes);
        self.counters.status(job.response.status);
        self.counters.requests_answered += 1;
        self.finish_exchange(engine, down);
    }
}

fn push_text(to: &mut String, bytes: &[u8]) {
    match std::str::from_utf8(bytes) {
        Ok(text) => to.push_str(text),
        Err(_) => to.push_str(&String::from_utf8_lossy(bytes)),
    }
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window.eq_ignore_ascii_case(needle))
}
