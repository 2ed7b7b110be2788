//! The front server itself: events in, orders to the engine and jobs for replicas out.

use std::rc::Rc;
use std::sync::Arc;

use crate::authority::session::SessionKey;
use crate::dispatch::requests::{Pick, RequestDispatcher};
use crate::engine::{Chunk, Close, CloseReason, Conn, Engine, Event};
use crate::http1::body::BodyReader;
use crate::http1::encode::reason;
use crate::http1::form;
use crate::http1::head::{Framing, Known, Method};
use crate::http1::parse::{self, ParseLimits, Progress, Reject};
use crate::profile::Profile;
use crate::replica::job::{Accept, Job, Origin, SessionChange};
use crate::storage::files;
use crate::storage::site::{Site, Target};
use crate::tables::ServerId;

use super::admit::Admission;
use super::authorize;
use super::connection::{Downstream, Piece};
use super::counters::Counters;
use super::exchange::State;
use super::respond::{self, Context, Now};
use super::upstream::{Pools, UpstreamConnection, UpstreamState};

/// How often deadlines of connections are looked at, in nanoseconds.
pub const TICK_NS: u64 = 100_000_000;
/// Bodies up to this size are read and dropped so that a connection survives an early answer.
const DISCARD_BYTES_MAX: u64 = 64 * 1024;
/// Jobs kept for reuse.
const JOBS_KEPT_MAX: usize = 1024;

/// What a front server takes from the profile. Times are nanoseconds.
#[derive(Clone, Debug)]
pub struct Settings {
    pub parse: ParseLimits,
    pub body_bytes_max: u64,
    pub connection_requests_max: u32,
    pub buffer_bytes_max: usize,
    pub connections_max: u32,
    pub head_ns: u64,
    pub body_ns: u64,
    pub idle_ns: u64,
    pub queue_ns: u64,
    pub job_ns: u64,
    pub upstream_connect_ns: u64,
    pub upstream_first_byte_ns: u64,
    pub upstream_idle_ns: u64,
}

impl Settings {
    pub fn of(profile: &Profile) -> Self {
        const MS: u64 = 1_000_000;
        let times = &profile.timeouts;
        Self {
            parse: ParseLimits { head_bytes_max: profile.limits.head_bytes_max, header_count_max: profile.limits.header_count_max },
            body_bytes_max: profile.limits.body_bytes_max as u64,
            connection_requests_max: profile.limits.connection_requests_max,
            buffer_bytes_max: profile.limits.connection_buffer_bytes_max,
            // The other half of the slots is for connections to upstream servers.
            connections_max: profile.engine.connections_max / 2,
            head_ns: times.head_ms * MS,
            body_ns: times.body_ms * MS,
            idle_ns: times.idle_ms * MS,
            queue_ns: times.queue_ms * MS,
            job_ns: times.job_ms * MS,
            upstream_connect_ns: times.upstream_connect_ms * MS,
            upstream_first_byte_ns: times.upstream_first_byte_ms * MS,
            upstream_idle_ns: times.upstream_idle_ms * MS,
        }
    }
}

/// A request that waits for a free replica: the connection and its exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket {
    pub conn: Conn,
    pub exchange: u32,
}

#[derive(Debug, Default)]
enum Slot {
    #[default]
    Free,
    Downstream(Box<Downstream>),
    Upstream(Box<UpstreamConnection>),
}

/// One front server.
pub struct FrontServer {
    pub(super) settings: Settings,
    pub(super) counters: Counters,
    pub(super) pools: Pools,
    /// Upstream servers of each route, by the route's index.
    pub(super) upstream_indexes: Vec<Vec<usize>>,
    worker: u16,
    local_replica: Option<ServerId>,
    admission: Admission,
    site: Rc<Arc<Site>>,
    slots: Vec<Slot>,
    dispatcher: RequestDispatcher<Ticket>,
    outbox: Vec<(ServerId, Box<Job>)>,
    jobs: Vec<Box<Job>>,
    session_key: SessionKey,
    session_seed: u128,
    session_ms: u64,
    now: Now,
    path: String,
}

/// How long a session lasts, in milliseconds.
const SESSION_MS: u64 = 12 * 3600 * 1000;

impl FrontServer {
    pub fn new(
        settings: Settings,
        worker: u16,
        local_replica: Option<ServerId>,
        dispatcher: RequestDispatcher<Ticket>,
        session_key: SessionKey,
        session_seed: u128,
        site: Arc<Site>,
        slots: u32,
    ) -> Self {
        let mut front = Self {
            admission: Admission::new(settings.connections_max),
            settings,
            counters: Counters::default(),
            pools: Pools::default(),
            upstream_indexes: Vec::new(),
            worker,
            local_replica,
            site: Rc::new(Arc::clone(&site)),
            slots: std::iter::repeat_with(Slot::default).take(slots as usize).collect(),
            dispatcher,
            outbox: Vec::new(),
            jobs: Vec::new(),
            session_key,
            session_seed,
            session_ms: SESSION_MS,
            now: Now::default(),
            path: String::new(),
        };
        front.publish(site);
        front
    }

    /// Puts a new version of the statements in force for requests that begin from now on.
    pub fn publish(&mut self, site: Arc<Site>) {
        self.upstream_indexes = site.targets.iter().map(|target| self.indexes_of(target)).collect();
        self.site = Rc::new(site);
    }

    pub fn site_version(&self) -> u64 {
        self.site.version
    }

    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    pub fn upstreams(&self) -> &Pools {
        &self.pools
    }

    pub fn dispatcher(&self) -> &RequestDispatcher<Ticket> {
        &self.dispatcher
    }

    pub fn dispatcher_mut(&mut self) -> &mut RequestDispatcher<Ticket> {
        &mut self.dispatcher
    }

    /// Work in hand: open connections and requests in progress, what the first dispatcher goes by.
    pub fn load(&self) -> u32 {
        self.admission.open().saturating_add(u32::try_from(self.counters.requests_in_progress()).unwrap_or(u32::MAX))
    }

    pub fn open_connections(&self) -> u32 {
        self.admission.open()
    }

    pub fn is_draining(&self) -> bool {
        self.admission.is_draining()
    }

    /// Starts or ends a drain: idle connections are closed, busy ones after their answer.
    pub fn drain<E: Engine>(&mut self, engine: &mut E, on: bool) {
        self.admission.drain(on);
        if !on {
            return;
        }
        for slot in &mut self.slots {
            if let Slot::Downstream(down) = slot
                && down.exchange.state == State::Idle
            {
                down.exchange.state = State::Closing;
                engine.close(down.conn, Close::Flush);
            }
        }
    }

    /// Jobs on their way out, with the replica that each goes to.
    pub fn outbox_mut(&mut self) -> &mut Vec<(ServerId, Box<Job>)> {
        &mut self.outbox
    }

    /// Gives the emptied vector of [`Self::outbox_mut`] back, for its memory.
    pub fn return_outbox(&mut self, outbox: Vec<(ServerId, Box<Job>)>) {
        debug_assert!(outbox.is_empty());
        if self.outbox.is_empty() {
            self.outbox = outbox;
        }
    }

    pub fn has_outbox(&self) -> bool {
        !self.outbox.is_empty()
    }

    /// Wall clock of this turn, for dates and session expiry.
    pub fn set_unix_ms(&mut self, unix_ms: u64) {
        self.now.unix_ms = unix_ms;
    }

    pub(super) fn take_downstream(&mut self, conn: Conn) -> Option<Box<Downstream>> {
        let slot = self.slots.get_mut(conn.slot as usize)?;
        match std::mem::take(slot) {
            Slot::Downstream(down) if down.conn == conn => Some(down),
            other => {
                *slot = other;
                None
            }
        }
    }

    pub(super) fn put_downstream(&mut self, down: Box<Downstream>) {
        let slot = down.conn.slot as usize;
        self.slots[slot] = Slot::Downstream(down);
    }

    pub(super) fn take_upstream(&mut self, conn: Conn) -> Option<Box<UpstreamConnection>> {
        let slot = self.slots.get_mut(conn.slot as usize)?;
        match std::mem::take(slot) {
            Slot::Upstream(up) if up.conn == conn => Some(up),
            other => {
                *slot = other;
                None
            }
        }
    }

    pub(super) fn put_upstream(&mut self, up: Box<UpstreamConnection>) {
        let slot = up.conn.slot as usize;
        self.slots[slot] = Slot::Upstream(up);
    }

    pub(super) fn has_upstream(&self, conn: Conn) -> bool {
        matches!(self.slots.get(conn.slot as usize), Some(Slot::Upstream(up)) if up.conn == conn)
    }

    /// Takes in a connection that was accepted here or handed over by another front.
    pub fn begin_connection<E: Engine>(&mut self, engine: &mut E, conn: Conn, adopted: bool) {
        if adopted {
            self.counters.connections_adopted += 1;
        } else {
            self.counters.connections_accepted += 1;
        }
        if !self.admission.admit(conn) {
            self.counters.connections_shed += 1;
            engine.close(conn, Close::Reset);
            return;
        }
        let deadline = engine.now_ns() + self.settings.idle_ns;
        self.put_downstream(Box::new(Downstream::new(conn, deadline)));
        engine.receive(conn, true);
    }

    /// Counts a connection that went to another front.
    pub fn handed_off(&mut self) {
        self.counters.connections_accepted += 1;
        self.counters.connections_handed_off += 1;
    }

    /// One event of the engine about a connection of this front.
    pub fn on_event<E: Engine>(&mut self, engine: &mut E, event: Event) {
        match event {
            Event::Accepted { conn, .. } => self.begin_connection(engine, conn, false),
            Event::Connected { conn, result } => self.on_connected(engine, conn, result),
            Event::Data { conn, bytes } => self.on_data(engine, conn, bytes),
            Event::Eof { conn } => {
                if let Some(mut down) = self.take_downstream(conn) {
                    down.eof = true;
                    self.advance(engine, &mut down);
                    self.put_downstream(down);
                } else if let Some(up) = self.take_upstream(conn) {
                    self.on_upstream_end(engine, up, true);
                }
            }
            Event::Sent { conn } => self.on_sent(engine, conn),
            Event::Closed { conn, reason } => self.on_closed(engine, conn, reason),
            Event::Timer { .. } | Event::Woken => {}
        }
    }

    fn on_data<E: Engine>(&mut self, engine: &mut E, conn: Conn, bytes: crate::engine::Lease) {
        if let Some(mut down) = self.take_downstream(conn) {
            down.input.push(bytes);
            self.advance(engine, &mut down);
            self.hold_back(engine, &mut down);
            self.put_downstream(down);
        } else if let Some(mut up) = self.take_upstream(conn) {
            up.input.push(bytes);
            self.on_upstream_data(engine, up);
        }
    }

    /// Back-pressure: a browser that sends ahead of what can be used is no longer read.
    fn hold_back<E: Engine>(&self, engine: &mut E, down: &mut Downstream) {
        if !down.paused && down.input.bytes() > self.settings.buffer_bytes_max {
            down.paused = true;
            engine.receive(down.conn, false);
        } else if down.paused && down.input.bytes() == 0 && down.exchange.state != State::Relay {
            down.paused = false;
            engine.receive(down.conn, true);
        }
    }

    fn on_sent<E: Engine>(&mut self, engine: &mut E, conn: Conn) {
        if let Some(mut down) = self.take_downstream(conn) {
            if let Some(mut up) = down.exchange.upstream.and_then(|conn| self.take_upstream(conn)) {
                if up.paused {
                    up.paused = false;
                    engine.receive(up.conn, true);
                }
                self.put_upstream(up);
            }
            self.advance(engine, &mut down);
            self.hold_back(engine, &mut down);
            self.put_downstream(down);
        } else if let Some(up) = self.take_upstream(conn) {
            self.on_upstream_sent(engine, &up);
            self.put_upstream(up);
        }
    }

    fn on_closed<E: Engine>(&mut self, engine: &mut E, conn: Conn, _reason: CloseReason) {
        if let Some(mut down) = self.take_downstream(conn) {
            self.leave(engine, &mut down);
            self.admission.left();
            self.counters.connections_closed += 1;
        } else if let Some(up) = self.take_upstream(conn) {
            self.on_upstream_end(engine, up, false);
            self.slots[conn.slot as usize] = Slot::Free;
        }
    }

    /// The browser is gone: what was under way for it is given up.
    fn leave<E: Engine>(&mut self, engine: &mut E, down: &mut Downstream) {
        match down.exchange.state {
            State::Idle | State::Head | State::Closing => {}
            State::Collect | State::Queued => self.counters.requests_aborted += 1,
            State::Relay => {
                self.counters.requests_aborted += 1;
                self.drop_upstream(engine, down);
            }
        }
        if let Some(job) = down.exchange.job.take() {
            self.recycle(job);
        }
        down.exchange.state = State::Closing;
    }

    fn drop_upstream<E: Engine>(&mut self, engine: &mut E, down: &mut Downstream) {
        if let Some(mut up) = down.exchange.upstream.take().and_then(|conn| self.take_upstream(conn)) {
            up.state = UpstreamState::Closing;
            up.downstream = None;
            up.input.clear();
            self.release_server(up.server);
            engine.close(up.conn, Close::Reset);
            self.put_upstream(up);
        }
    }

    /// Goes as far as the bytes at hand allow.
    pub(super) fn advance<E: Engine>(&mut self, engine: &mut E, down: &mut Downstream) {
        loop {
            match down.exchange.state {
                State::Idle | State::Head => {
                    // An answer that the browser does not read holds back its next request.
                    if engine.queued_bytes(down.conn) > self.settings.buffer_bytes_max || !self.next_head(engine, down) {
                        break;
                    }
                }
                State::Collect => {
                    if !self.collect(engine, down) {
                        break;
                    }
                }
                State::Relay => {
                    if let Some(mut up) = down.exchange.upstream.and_then(|conn| self.take_upstream(conn)) {
                        self.relay_request_body(engine, down, &mut up);
                        self.put_upstream(up);
                    }
                    break;
                }
                State::Queued => break,
                State::Closing => {
                    down.input.clear();
                    return;
                }
            }
        }
        if down.eof {
            self.on_browser_eof(engine, down);
        }
    }

    /// The browser sends no more: idle connections close; an answer under way is still given.
    fn on_browser_eof<E: Engine>(&mut self, engine: &mut E, down: &mut Downstream) {
        match down.exchange.state {
            State::Idle | State::Head => {
                down.exchange.state = State::Closing;
                engine.close(down.conn, Close::Flush);
            }
            State::Collect => {
                self.counters.requests_aborted += 1;
                if let Some(job) = down.exchange.job.take() {
                    self.recycle(job);
                }
                down.exchange.state = State::Closing;
                engine.close(down.conn, Close::Reset);
            }
            State::Relay if !down.exchange.body_done => {
                self.counters.requests_aborted += 1;
                self.drop_upstream(engine, down);
                down.exchange.state = State::Closing;
                engine.close(down.conn, Close::Reset);
            }
            State::Queued | State::Relay => down.exchange.keep_alive = false,
            State::Closing => {}
        }
    }

    /// Parses the next head; false when more bytes are needed.
    fn next_head<E: Engine>(&mut self, engine: &mut E, down: &mut Downstream) -> bool {
        if down.input.is_empty() {
            return false;
        }
        match parse::parse_request(down.input.front(), &self.settings.parse, &mut down.exchange.head) {
            Ok(Progress::Incomplete) => {
                if down.exchange.state == State::Idle {
                    down.exchange.state = State::Head;
                    down.deadline_ns = engine.now_ns() + self.settings.head_ns;
                }
                down.input.gather()
            }
            Ok(Progress::Complete) => {
                self.begin_exchange(engine, down);
                true
            }
            Err(reject) => {
                self.begin_counting(engine, down);
                self.reject(engine, down, &reject);
                true
            }
        }
    }

    fn begin_counting<E: Engine>(&mut self, engine: &mut E, down: &mut Downstream) {
        self.counters.requests_taken += 1;
        down.requests += 1;
        down.exchange.number = down.exchange.number.wrapping_add(1);
        down.exchange.taken_ns = engine.now_ns();
    }

    /// A whole head is there: routes it.
    fn begin_exchange<E: Engine>(&mut self, engine: &mut E, down: &mut Downstream) {
        self.begin_counting(engine, down);
        let exchange = &mut down.exchange;
        exchange.keep_alive =
            exchange.head.keep_alive && !self.admission.is_draining() && down.requests < self.settings.connection_requests_max;
        exchange.head_bytes = down.input.take(exchange.head.head_bytes);
        exchange.body = BodyReader::new(exchange.head.framing, self.settings.body_bytes_max);
        exchange.body_done = !exchange.head.framing.has_body();
        down.deadline_ns = engine.now_ns() + self.settings.body_ns;
        if let Framing::Length(bytes) = exchange.head.framing
            && bytes > self.settings.body_bytes_max
        {
            return self.refuse(engine, down, 413, "the body is larger than limits.body_bytes_max");
        }
        let bytes = exchange.head_bytes.as_slice();
        let mut path = std::mem::take(&mut self.path);
        let decoded = form::decode_path(exchange.head.path.of(bytes), &mut path);
        if let Err(reject) = decoded {
            self.path = path;
            return self.reject(engine, down, &reject);
        }
        let site = Rc::clone(&self.site);
        let route = site.table.lookup(exchange.head.host.of(bytes), &path);
        let found = route.map(|route| (route.index, route.mount.len()));
        match found {
            None => self.refuse(engine, down, 404, "no statement maps this host and path"),
            Some((index, mount)) => {
                down.exchange.route = index;
                self.follow(engine, down, &site.targets[index], &path, mount);
            }
        }
        self.path = path;
    }

    fn follow<E: Engine>(&mut self, engine: &mut E, down: &mut Downstream, target: &Target, path: &str, mount: usize) {
        match target {
            Target::Cluster { application } => self.begin_job(engine, down, application, path, mount),
            Target::Upstream { .. } => {
                self.expect_continue(engine, down);
                self.begin_relay(engine, down);
            }
            Target::Files { objects } => self.send_object(engine, down, objects, path.get(mount..).unwrap_or("")),
            Target::Fail { status } => {
                self.short(engine, down, *status, &[], reason(*status));
                self.counters.requests_answered += 1;
                self.end_early(engine, down);
            }
            Target::Redirect { location, status } => {
                self.short(engine, down, *status, &[(b"location", location.as_bytes())], reason(*status));
                self.counters.requests_answered += 1;
                self.end_early(engine, down);
            }
        }
    }

    fn expect_continue<E: Engine>(&self, engine: &mut E, down: &Downstream) {
        if down.exchange.head.expect_continue && !down.exchange.body_done && !down.exchange.is_http10() && down.input.is_empty() {
            engine.send(down.conn, Chunk::Static(b"HTTP/1.1 100 Continue\r\n\r\n"));
        }
    }

    fn send_object<E: Engine>(&mut self, engine: &mut E, down: &mut Downstream, objects: &files::ObjectStore, path: &str) {
        self.counters.to_files += 1;
        let exchange = &down.exchange;
        let Some(object) = objects.get(path) else {
            return self.refuse(engine, down, 404, "there is no such file");
        };
        if !matches!(exchange.head.method, Method::Get | Method::Head) {
            self.short(engine, down, 405, &[(b"allow", b"GET, HEAD")], "files can be read only");
            self.counters.requests_refused += 1;
            return self.end_early(engine, down);
        }
        let bytes = exchange.head_bytes.as_slice();
        let value = |known| exchange.head.value(bytes, known);
        let plan = files::plan(
            object,
            exchange.head.method,
            value(Known::IfNoneMatch),
            value(Known::IfModifiedSince),
            value(Known::Range),
            value(Known::IfRange),
        );
        let context = Context::of(&exchange.head, exchange.keep_alive && exchange.body_done);
        respond::object(engine, down.conn, context, object, &plan, &mut self.now);
        self.counters.status(plan.status());
        self.counters.requests_answered += 1;
        self.end_early(engine, down);
    }

    /// Fills a job from the request and collects its body.
    fn begin_job<E: Engine>(&mut self, engine: &mut E, down: &mut Downstream, application: &Arc<str>, path: &str, mount: usize) {
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
        job.accept = Accept::Html;
        for header in &head.headers {
            let value = header.value.of(bytes);
            match header.known {
                Known::Accept if contains(value, b"application/json") => job.accept = Accept::Json,
                Known::IfNoneMatch => push_text(&mut job.if_none_match, value),
                Known::XCsrfToken => push_text(&mut job.csrf_header, value),
                Known::ContentType => {
                    push_text(&mut job.content_type, value.split(|&byte| byte == b';').next().unwrap_or(b"").trim_ascii());
                    job.content_type.make_ascii_lowercase();
                }
                _ => {}
            }
        }
        authorize::identify(head, bytes, &self.session_key, self.now.unix_ms, &mut job.identity);
        job.taken_ns = exchange.taken_ns;
        job.deadline_ns = exchange.taken_ns + self.settings.job_ns;
        exchange.job = Some(job);
        exchange.state = State::Collect;
        self.expect_continue(engine, down);
    }

    /// Collects the body; true when the exchange moved on.
    fn collect<E: Engine>(&mut self, engine: &mut E, down: &mut Downstream) -> bool {
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
        let Some(job) = down.exchange.job.take() else { return };
        down.exchange.state = State::Queued;
        down.exchange.head_bytes = Piece::Empty;
        down.deadline_ns = job.deadline_ns;
        self.counters.to_replicas += 1;
        match self.dispatcher.pick(self.local_replica) {
            Pick::Replica(replica, _) => self.outbox.push((replica, job)),
            Pick::Wait => {
                let ticket = Ticket { conn: down.conn, exchange: down.exchange.number };
                let now = engine.now_ns();
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
                if let Some(job) = down.exchange.job.take() {
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

    fn recycle(&mut self, mut job: Box<Job>) {
        if self.jobs.len() < JOBS_KEPT_MAX {
            job.clear();
            self.jobs.push(job);
        }
    }

    fn answer<E: Engine>(&mut self, engine: &mut E, down: &mut Downstream, job: &Job) {
        let cookie = match &job.response.session {
            SessionChange::None => String::new(),
            SessionChange::Begin { user } => self.new_session(user),
            SessionChange::End => format!("{}=; Path=/; Max-Age=0; HttpOnly; SameSite=Lax", authorize::COOKIE),
        };
        let exchange = &mut down.exchange;
        if self.admission.is_draining() {
            exchange.keep_alive = false;
        }
        exchange.answered = true;
        let context = Context::of(&exchange.head, exchange.keep_alive);
        respond::from_replica(engine, down.conn, context, &job.response, &cookie, &mut self.now);
        self.counters.status(job.response.status);
        self.counters.requests_answered += 1;
        self.finish_exchange(engine, down);
    }

    fn new_session(&mut self, user: &str) -> String {
        // Session numbers are unguessable: the seed came from the system's random source and passes through a hash.
        let hash = blake3::hash(&[self.session_seed.to_le_bytes(), u128::from(self.counters.requests_taken).to_le_bytes()].concat());
        let mut number = [0; 16];
        number.copy_from_slice(&hash.as_bytes()[..16]);
        self.session_seed = self.session_seed.wrapping_add(u128::from_le_bytes(number) | 1);
        let expires_ms = self.now.unix_ms + self.session_ms;
        let value = self.session_key.sign(u128::from_le_bytes(number), user, expires_ms);
        format!("{}={value}; Path=/; Max-Age={}; HttpOnly; SameSite=Lax", authorize::COOKIE, self.session_ms / 1000)
    }

    fn short<E: Engine>(&mut self, engine: &mut E, down: &mut Downstream, status: u16, extra: &[(&[u8], &[u8])], text: &str) {
        let exchange = &mut down.exchange;
        self.discard(exchange, &mut down.input);
        if !exchange.body_done {
            exchange.keep_alive = false;
        }
        exchange.answered = true;
        let context = Context::of(&exchange.head, exchange.keep_alive);
        let mut body = String::with_capacity(text.len() + 1);
        body.push_str(text);
        body.push('\n');
        respond::short(engine, down.conn, context, status, extra, &body, &mut self.now);
        self.counters.status(status);
    }

    /// Reads past a small body that has arrived already, so that its connection can stay open.
    #[allow(clippy::unused_self)]
    fn discard(&self, exchange: &mut super::exchange::Exchange, input: &mut super::connection::Input) {
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

    /// Answers with an error of the front's own.
    pub(super) fn refuse<E: Engine>(&mut self, engine: &mut E, down: &mut Downstream, status: u16, text: &str) {
        if let Some(job) = down.exchange.job.take() {
            self.recycle(job);
        }
        let extra: &[(&[u8], &[u8])] = if status == 503 { &[(b"retry-after", b"1")] } else { &[] };
        self.short(engine, down, status, extra, text);
        self.counters.requests_refused += 1;
        self.end_early(engine, down);
    }

    /// Refuses a message that is not sound: answers and closes (RFC 9112 section 2.2).
    pub(super) fn reject<E: Engine>(&mut self, engine: &mut E, down: &mut Downstream, reject: &Reject) {
        self.counters.malformed += 1;
        if let Some(job) = down.exchange.job.take() {
            self.recycle(job);
        }
        down.exchange.keep_alive = false;
        down.exchange.body_done = true;
        self.short(engine, down, reject.status, &[], reject.reason);
        self.counters.requests_refused += 1;
        self.finish_exchange(engine, down);
    }

    /// The answer broke off: the browser sees a reset instead of a whole message.
    pub(super) fn abort<E: Engine>(&mut self, engine: &mut E, down: &mut Downstream) {
        self.counters.requests_aborted += 1;
        down.exchange.state = State::Closing;
        engine.close(down.conn, Close::Reset);
    }

    /// The answer is out, perhaps before the whole request was read.
    fn end_early<E: Engine>(&mut self, engine: &mut E, down: &mut Downstream) {
        if !down.exchange.body_done {
            down.exchange.keep_alive = false;
        }
        self.finish_exchange(engine, down);
    }

    /// The answer is in the engine's hands: the connection is ready for its next request, or closes.
    pub(super) fn finish_exchange<E: Engine>(&mut self, engine: &mut E, down: &mut Downstream) {
        let keep_alive = down.exchange.keep_alive && !(down.eof && down.input.is_empty());
        down.exchange.reset();
        if keep_alive {
            down.deadline_ns = engine.now_ns() + self.settings.idle_ns;
            if down.paused && down.input.bytes() <= self.settings.buffer_bytes_max {
                down.paused = false;
                engine.receive(down.conn, true);
            }
        } else {
            down.exchange.state = State::Closing;
            down.input.clear();
            engine.close(down.conn, Close::Flush);
        }
    }

    /// Looks at every connection's deadline; called each [`TICK_NS`].
    pub fn tick<E: Engine>(&mut self, engine: &mut E) {
        let now = engine.now_ns();
        for index in 0..self.slots.len() {
            let due = match &self.slots[index] {
                Slot::Free => None,
                Slot::Downstream(down) => (down.deadline_ns <= now).then_some(down.conn),
                Slot::Upstream(up) => (up.deadline_ns <= now).then_some(up.conn),
            };
            let Some(conn) = due else { continue };
            if let Some(mut down) = self.take_downstream(conn) {
                self.overdue(engine, &mut down, now);
                self.put_downstream(down);
            } else if let Some(mut up) = self.take_upstream(conn) {
                up.deadline_ns = u64::MAX;
                self.counters.timed_out += u64::from(up.state != UpstreamState::Idle);
                self.on_upstream_end(engine, up, false);
            }
        }
    }

    fn overdue<E: Engine>(&mut self, engine: &mut E, down: &mut Downstream, now: u64) {
        down.deadline_ns = now + self.settings.idle_ns;
        match down.exchange.state {
            State::Idle => {
                down.exchange.state = State::Closing;
                engine.close(down.conn, Close::Flush);
            }
            State::Head => {
                self.counters.timed_out += 1;
                self.begin_counting(engine, down);
                down.exchange.head.clear();
                self.reject(engine, down, &Reject { status: 408, reason: "the request's head took too long", offset: 0 });
            }
            State::Collect => {
                self.counters.timed_out += 1;
                self.reject(engine, down, &Reject { status: 408, reason: "the request's body took too long", offset: 0 });
            }
            State::Queued => {
                self.counters.timed_out += 1;
                self.refuse(engine, down, 503, "the replica did not answer in time");
            }
            // The upstream connection has deadlines of its own; a closing one is bounded by the engine's linger, or
            // by this when the browser does not read.
            State::Relay => {}
            State::Closing => engine.close(down.conn, Close::Reset),
        }
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
