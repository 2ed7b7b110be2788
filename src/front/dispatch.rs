//! Jobs: requests for the replica cluster, from the body's first byte to the answer, also by way of a second replica
//! when the first one stops or hangs.

use std::rc::Rc;
use std::sync::Arc;

use crate::dispatch::requests::Pick;
use crate::engine::Engine;
use crate::http1::form;
use crate::http1::form::decode_path;
use crate::http1::head::Known;
use crate::replica::job::{Accept, Job, Origin};
use crate::storage::site::Target;
use crate::tables::ServerId;

use super::FrontServer;
use super::connection::Downstream;
use super::exchange::State;
use super::flights::Course;
use super::reason::Reason;
use super::respond::{self, Context, Timing};
use super::server::Ticket;
use super::trace::{Ending, Served};

/// Jobs kept for reuse.
const JOBS_KEPT_MAX: usize = 1024;
/// Times that a safe request is executed again because its replica hung: a request that hangs every replica that
/// executes it must not be given to all of them.
const REPEATS_MAX: u8 = 1;

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
        down.exchange.site = Some(Rc::clone(&self.site));
        let job = self.fill_job(down, application, path, mount);
        down.exchange.job = Some(job);
        down.exchange.state = State::Collect;
        self.expect_continue(engine, down);
    }

    fn fill_job(&mut self, down: &Downstream, application: &Arc<str>, path: &str, mount: usize) -> Box<Job> {
        let mut job = self.jobs.pop().unwrap_or_default();
        let exchange = &down.exchange;
        let head = &exchange.head;
        let bytes = exchange.head_bytes.as_slice();
        job.origin = Origin {
            worker: self.worker,
            slot: down.conn.slot,
            generation: down.conn.generation,
            exchange: exchange.number,
            flight: 0,
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
        job.taken_ns = exchange.trace.taken_ns;
        job.deadline_ns = exchange.trace.taken_ns + self.settings.job_ns;
        job
    }

    /// The same job once more, from the request's head; only for requests that are safe.
    fn refill_job(&mut self, down: &Downstream) -> Option<Box<Job>> {
        let site = Rc::clone(down.exchange.site.as_ref()?);
        let route = site.0.table.routes().get(down.exchange.route)?;
        let Target::Cluster { application } = site.0.targets.get(route.index)? else { return None };
        let mut path = std::mem::take(&mut self.path);
        let decoded = decode_path(down.exchange.head.path.of(&down.exchange.head_bytes), &mut path);
        let job = decoded.is_ok().then(|| self.fill_job(down, application, &path, route.mount.len()));
        self.path = path;
        job
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

    /// The request is whole: a job for the second dispatcher.
    fn dispatch<E: Engine>(&mut self, engine: &mut E, down: &mut Downstream) {
        let Some(job) = down.exchange.job.take() else { return };
        down.exchange.state = State::Queued;
        // The job of a safe request can be made again.
        if !down.exchange.is_safe() {
            down.exchange.reads_pages = down.exchange.asks_for_pages(&[]);
            down.exchange.forget_head_bytes();
        }
        down.deadline_ns = job.deadline_ns;
        self.counters.to_replicas += 1;
        self.place(engine, down, job, None);
    }

    /// Asks the second dispatcher for a replica; `reason` is why, if not the dispatcher's own.
    fn place<E: Engine>(&mut self, engine: &mut E, down: &mut Downstream, job: Box<Job>, reason: Option<Reason>) {
        let now = engine.now_ns();
        match self.dispatcher.pick(now, self.local_replica) {
            Pick::Replica(replica, picked) => {
                self.send_out(down, replica, job, reason.unwrap_or(Reason::of_pick(picked)), now);
            }
            Pick::Wait => {
                let ticket = Ticket { conn: down.conn, exchange: down.exchange.number };
                down.exchange.job = Some(job);
                if self.dispatcher.enqueue(ticket, now, now + self.settings.queue_ns).is_err() {
                    self.counters.queue_refused += 1;
                    self.refuse(engine, down, Reason::QueueFull, "every replica is busy and the queue is full");
                }
            }
        }
    }

    fn send_out(&mut self, down: &mut Downstream, replica: ServerId, mut job: Box<Job>, reason: Reason, now: u64) {
        let ticket = Ticket { conn: down.conn, exchange: down.exchange.number };
        let flight = self.flights.begin(ticket, replica);
        down.exchange.flight = Some(flight);
        down.exchange.trace.placed(Served::Replica(replica), reason, now);
        job.dispatched_ns = now;
        job.origin.flight = flight;
        self.outbox.push((replica, job));
    }

    /// A job came back from its replica.
    ///
    /// # Panics
    /// If it was not out: it would have come back twice.
    pub fn on_reply<E: Engine>(&mut self, engine: &mut E, job: Box<Job>) {
        let flight = self.flights.end(job.origin.flight);
        self.dispatcher.returned(flight.replica);
        match flight.course {
            Course::UnderWay => self.flights.counters.replied += 1,
            Course::Withdrawn | Course::Abandoned => self.flights.counters.late_replies += 1,
        }
        if let Some(mut down) = self.waiting(flight.ticket) {
            if down.exchange.flight == Some(job.origin.flight) {
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

    /// A replica that takes no jobs gave this one back untouched: it goes to another one. The caller has told the
    /// dispatcher what it knows of the replica's standing, so that the job does not come to the same one again.
    ///
    /// # Panics
    /// If it was not out: it would have come back twice.
    pub fn on_unclaimed<E: Engine>(&mut self, engine: &mut E, job: Box<Job>) {
        let flight = self.flights.end(job.origin.flight);
        self.dispatcher.returned(flight.replica);
        self.flights.counters.returned += 1;
        if flight.course == Course::UnderWay {
            self.move_on(engine, flight.ticket, job);
        } else {
            self.recycle(job);
        }
        self.pump(engine);
    }

    /// A replica found the slip of this flight empty: the job was taken back, and now its credit is free.
    ///
    /// # Panics
    /// If the flight was not withdrawn.
    pub fn on_withdrawn<E: Engine>(&mut self, engine: &mut E, flight: u32) {
        let flight = self.flights.end(flight);
        assert_eq!(flight.course, Course::Withdrawn, "an empty slip, but nobody took the job back");
        self.dispatcher.returned(flight.replica);
        self.flights.counters.withdrawn += 1;
        self.pump(engine);
    }

    /// A replica hangs. What it has not begun is taken back and goes to another one; what it has begun is executed
    /// again if that does no harm; for the rest its answer is waited for. The caller has told the dispatcher that the
    /// replica is not available.
    pub fn take_out<E: Engine>(&mut self, engine: &mut E, replica: ServerId) {
        let mut from = 0;
        while let Some((flight, ticket)) = self.flights.next_under_way(replica, from) {
            from = flight + 1;
            if let Some(job) = self.flights.slip(flight).take() {
                self.flights.set_course(flight, Course::Withdrawn);
                self.flights.counters.retracted += 1;
                self.move_on(engine, ticket, job);
            } else {
                self.repeat(engine, flight, ticket);
            }
        }
    }

    fn repeat<E: Engine>(&mut self, engine: &mut E, flight: u32, ticket: Ticket) {
        let Some(mut down) = self.waiting(ticket) else { return };
        let repeats = down.exchange.repeats;
        if down.exchange.flight == Some(flight)
            && down.exchange.is_safe()
            && repeats < REPEATS_MAX
            && let Some(job) = self.refill_job(&down)
        {
            down.exchange.repeats = repeats + 1;
            down.exchange.flight = None;
            self.flights.set_course(flight, Course::Abandoned);
            self.flights.counters.reexecuted += 1;
            self.place(engine, &mut down, job, Some(Reason::Moved));
            self.advance(engine, &mut down);
        }
        self.put_downstream(down);
    }

    /// Gives a job that nobody has begun to another replica, if its browser still waits.
    fn move_on<E: Engine>(&mut self, engine: &mut E, ticket: Ticket, job: Box<Job>) {
        let Some(mut down) = self.waiting(ticket) else { return self.recycle(job) };
        down.exchange.flight = None;
        self.place(engine, &mut down, job, Some(Reason::Moved));
        self.advance(engine, &mut down);
        self.put_downstream(down);
    }

    /// Gives waiting requests to replicas that have become free, and refuses those that waited too long.
    pub fn pump<E: Engine>(&mut self, engine: &mut E) {
        let now = engine.now_ns();
        while let Some(ticket) = self.dispatcher.expired(now) {
            if let Some(mut down) = self.waiting(ticket) {
                self.counters.queue_expired += 1;
                self.refuse(engine, &mut down, Reason::QueueExpired, "no replica became free in time");
                self.advance(engine, &mut down);
                self.put_downstream(down);
            }
        }
        while let Some((ticket, replica)) = self.dispatcher.next_ready(now, self.local_replica) {
            if let Some(mut down) = self.waiting(ticket) {
                if let Some(job) = down.exchange.job.take() {
                    self.send_out(&mut down, replica, job, Reason::Waited, now);
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
        down.exchange.trace.body_bytes = if context.head_only { 0 } else { job.response.body.len() as u64 };
        self.note_status(engine, down, job.response.status);
        self.note_end(engine, down, Ending::Answered);
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
