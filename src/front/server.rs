//! The front server itself: events in, orders to the engine and jobs for replicas out.

use std::rc::Rc;
use std::sync::Arc;

use crate::dispatch::requests::RequestDispatcher;
use crate::engine::{Close, CloseReason, Conn, Engine, Event};
use crate::http1::parse::{self, HeadScan, Progress, Reject};
use crate::replica::job::Job;
use crate::storage::site::Site;
use crate::tables::ServerId;

use super::admit::{Admission, Verdict};
use super::authorize::Sessions;
use super::connection::Downstream;
use super::counters::Counters;
use super::exchange::State;
use super::flights::Flights;
use super::note::Notes;
use super::pace::Pace;
use super::part::End;
use super::reason::Reason;
use super::respond::Now;
use super::settings::Settings;
use super::trace::Ending;
use super::upstream::{Offers, Pools, UpstreamConnection, UpstreamState};

/// How often deadlines of connections are looked at, in nanoseconds.
pub const TICK_NS: u64 = 100_000_000;

/// A request that waits for a free replica: the connection and its exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket {
    pub conn: Conn,
    pub exchange: u32,
}

/// The statements in force. A request pins them by a count of this core's own, so that no core writes another's line.
pub(super) struct Published(pub Arc<Site>);

impl std::fmt::Debug for Published {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "Published({})", self.0.version)
    }
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
    pub(super) notes: Notes,
    pub(super) pools: Pools,
    /// Checks of upstream servers under way.
    pub(super) checks_running: u32,
    /// Upstream connections that take more riders.
    pub(super) offers: Offers,
    pub(super) worker: u16,
    pub(super) local_replica: Option<ServerId>,
    pub(super) admission: Admission,
    pub(super) site: Rc<Published>,
    pub(super) dispatcher: RequestDispatcher<Ticket>,
    pub(super) flights: Flights,
    pub(super) outbox: Vec<(ServerId, Box<Job>)>,
    /// Jobs to be used again, in the boxes that travel.
    #[allow(clippy::vec_box)]
    pub(super) jobs: Vec<Box<Job>>,
    pub(super) sessions: Sessions,
    pub(super) now: Now,
    /// The decoded path of the request in hand; kept for its memory.
    pub(super) path: String,
    /// Receive buffers in send queues, see [`super::flow`].
    pub(super) leases_out: u32,
    slots: Vec<Slot>,
}

impl FrontServer {
    pub fn new(
        settings: Settings,
        worker: u16,
        local_replica: Option<ServerId>,
        dispatcher: RequestDispatcher<Ticket>,
        sessions: Sessions,
        site: Arc<Site>,
        slots: u32,
    ) -> Self {
        let mut front = Self {
            admission: Admission::new(settings.connections_max, settings.connections_per_address_max),
            settings,
            counters: Counters::default(),
            notes: Notes::default(),
            pools: Pools::default(),
            checks_running: 0,
            offers: Offers::default(),
            worker,
            local_replica,
            site: Rc::new(Published(Arc::clone(&site))),
            slots: std::iter::repeat_with(Slot::default).take(slots as usize).collect(),
            dispatcher,
            flights: Flights::default(),
            outbox: Vec::new(),
            jobs: Vec::new(),
            sessions,
            now: Now::default(),
            path: String::new(),
            leases_out: 0,
        };
        front.publish(site);
        front
    }

    /// Puts a new version of the statements in force for requests that begin from now on.
    pub fn publish(&mut self, site: Arc<Site>) {
        self.pools.publish(site.upstreams(), &self.settings.upstream, self.sessions.key());
        self.site = Rc::new(Published(site));
    }

    pub fn site_version(&self) -> u64 {
        self.site.0.version
    }

    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    pub fn upstreams(&self) -> &Pools {
        &self.pools
    }

    /// Requests that upstream servers still work on although nobody wants their answers.
    pub fn abandoned_rides(&self) -> usize {
        let abandoned = |up: &UpstreamConnection| up.rides.iter().filter(|ride| ride.abandoned).count();
        let of_slot = |slot: &Slot| match slot {
            Slot::Upstream(up) => abandoned(up),
            Slot::Free | Slot::Downstream(_) => 0,
        };
        self.slots.iter().map(of_slot).sum()
    }

    pub fn dispatcher(&self) -> &RequestDispatcher<Ticket> {
        &self.dispatcher
    }

    pub fn dispatcher_mut(&mut self) -> &mut RequestDispatcher<Ticket> {
        &mut self.dispatcher
    }

    pub fn flights(&self) -> &Flights {
        &self.flights
    }

    /// Requests taken, less those ended, less those in progress by a count of the connections: 0, or the accounting is
    /// wrong.
    pub fn books(&self) -> i64 {
        let in_progress = self.slots.iter().filter(|slot| match slot {
            Slot::Downstream(down) => match down.exchange.state {
                State::Collect | State::Queued | State::Waiting | State::Relay | State::Tunnel => true,
                State::Idle | State::Head | State::Closing => false,
            },
            Slot::Free | Slot::Upstream(_) => false,
        });
        let Counters { requests_taken, requests_answered, requests_refused, requests_aborted, .. } = self.counters;
        let ended = requests_answered + requests_refused + requests_aborted + in_progress.count() as u64;
        requests_taken.cast_signed() - ended.cast_signed()
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
        self.abandon_checks(engine);
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

    pub(super) fn slot_count(&self) -> usize {
        self.slots.len()
    }

    pub(super) fn downstream_at(&self, slot: usize) -> Option<&Downstream> {
        match self.slots.get(slot)? {
            Slot::Downstream(down) => Some(down),
            Slot::Free | Slot::Upstream(_) => None,
        }
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

    /// Whether the ticket's exchange waits for an upstream server.
    pub(super) fn is_waiting(&self, ticket: Ticket) -> bool {
        matches!(self.slots.get(ticket.conn.slot as usize),
            Some(Slot::Downstream(down)) if down.conn == ticket.conn
                && down.exchange.number == ticket.exchange
                && down.exchange.state == State::Waiting)
    }

    /// Takes in a connection that was accepted here or handed over by another front.
    pub fn begin_connection<E: Engine>(&mut self, engine: &mut E, conn: Conn, adopted: bool) {
        if adopted {
            self.counters.connections_adopted += 1;
        } else {
            self.counters.connections_accepted += 1;
        }
        // A trusted peer speaks for many clients.
        let peer = engine.peer(conn).map(|address| address.ip());
        let address = peer.filter(|_| !self.settings.forwarding.trusts(peer));
        match self.admission.admit(address) {
            Verdict::Admitted => {}
            verdict @ (Verdict::Full | Verdict::Crowded) => {
                self.counters.connections_shed += 1;
                self.counters.connections_crowded += u64::from(verdict == Verdict::Crowded);
                engine.close(conn, Close::Reset);
                return;
            }
        }
        let deadline = engine.now_ns() + self.settings.idle_ns;
        let mut down = Box::new(Downstream::new(conn, deadline));
        down.address = address;
        self.put_downstream(down);
        engine.receive(conn, true);
    }

    /// Counts a connection that went to another front.
    pub fn handed_off(&mut self) {
        self.counters.connections_accepted += 1;
        self.counters.connections_handed_off += 1;
    }

    /// One event of the engine about a connection of this front.
    pub fn on_event<E: Engine>(&mut self, engine: &mut E, event: Event) {
        let Some(event) = self.on_check_event(engine, event) else { return };
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
                    self.on_upstream_end(engine, up, End::Orderly);
                }
            }
            Event::Sent { conn } => self.on_sent(engine, conn),
            Event::Closed { conn, reason } => self.on_closed(engine, conn, reason),
            Event::Timer { .. } | Event::Woken => {}
        }
        if self.pools.take_freed() {
            self.serve_waiting(engine);
        }
    }

    fn on_data<E: Engine>(&mut self, engine: &mut E, conn: Conn, bytes: crate::engine::Lease) {
        if let Some(mut down) = self.take_downstream(conn) {
            down.input.push(bytes);
            self.advance(engine, &mut down);
            // What must wait does so in memory of its own: receive buffers are for reading.
            down.input.gather();
            self.hold_back(engine, &mut down);
            self.put_downstream(down);
        } else if let Some(up) = self.take_upstream(conn) {
            self.on_upstream_data(engine, up, bytes);
        }
    }

    /// Back-pressure: a browser that sends ahead of what can be used is no longer read.
    pub(super) fn hold_back<E: Engine>(&self, engine: &mut E, down: &mut Downstream) {
        if down.leaving {
            return;
        }
        // A head that is not whole yet must be able to become so.
        let bytes_max = self.settings.buffer_bytes_max.max(self.settings.parse.head_bytes_max);
        if !down.paused && down.input.bytes() > bytes_max {
            down.paused = true;
            engine.receive(down.conn, false);
        } else if down.paused
            && down.input.bytes() <= bytes_max
            && !matches!(down.exchange.state, State::Relay | State::Tunnel)
        {
            down.paused = false;
            engine.receive(down.conn, true);
        }
    }

    fn on_sent<E: Engine>(&mut self, engine: &mut E, conn: Conn) {
        if let Some(mut down) = self.take_downstream(conn) {
            self.emptied(&mut down.queue);
            // Only what waits without a break is measured: a trickle that is taken at once is not slow.
            down.pace = Pace::default();
            if let Some(mut up) = down.exchange.upstream.and_then(|conn| self.take_upstream(conn)) {
                if up.paused && up.downstream() == Some(conn) {
                    up.paused = false;
                    if up.state == UpstreamState::Exchanging {
                        up.deadline_ns = self.answer_deadline_ns(engine.now_ns(), &down.exchange, &up);
                    }
                    engine.receive(up.conn, true);
                }
                self.put_upstream(up);
            }
            self.advance(engine, &mut down);
            self.hold_back(engine, &mut down);
            self.put_downstream(down);
        } else if let Some(mut up) = self.take_upstream(conn) {
            self.emptied(&mut up.queue);
            self.on_upstream_sent(engine, &up);
            self.put_upstream(up);
        }
    }

    fn on_closed<E: Engine>(&mut self, engine: &mut E, conn: Conn, _reason: CloseReason) {
        if let Some(mut down) = self.take_downstream(conn) {
            self.leave(engine, &mut down);
            self.emptied(&mut down.queue);
            self.admission.left(down.address);
            self.counters.connections_closed += 1;
        } else if let Some(mut up) = self.take_upstream(conn) {
            self.emptied(&mut up.queue);
            self.on_upstream_end(engine, up, End::Closed);
        }
    }

    /// The browser is gone: what was under way for it is given up.
    fn leave<E: Engine>(&mut self, engine: &mut E, down: &mut Downstream) {
        match down.exchange.state {
            State::Idle | State::Head | State::Closing => {}
            State::Collect | State::Queued | State::Waiting => self.note_left(engine, down),
            State::Relay => {
                self.note_left(engine, down);
                self.drop_upstream(engine, down);
            }
            State::Tunnel => {
                self.note_end(engine, down, Ending::Answered);
                self.counters.tunnels_closed += 1;
                self.drop_upstream(engine, down);
            }
        }
        if let Some(job) = down.exchange.job.take() {
            self.recycle(job);
        }
        down.exchange.state = State::Closing;
    }

    /// Goes as far as the bytes at hand allow.
    pub(super) fn advance<E: Engine>(&mut self, engine: &mut E, down: &mut Downstream) {
        loop {
            match down.exchange.state {
                State::Idle | State::Head => {
                    // An answer that the browser does not read holds back its next request.
                    if engine.queued_bytes(down.conn) > self.settings.buffer_bytes_max || !self.next_head(engine, down)
                    {
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
                State::Tunnel => {
                    if let Some(mut up) = down.exchange.upstream.and_then(|conn| self.take_upstream(conn)) {
                        self.tunnel_up(engine, down, &mut up);
                        self.put_upstream(up);
                    }
                    break;
                }
                State::Queued | State::Waiting => break,
                State::Closing => {
                    down.input.clear();
                    return;
                }
            }
        }
        if down.eof {
            self.on_browser_eof(engine, down);
        }
        if down.exchange.state != State::Closing {
            self.hold_back(engine, down);
        }
    }

    fn is_connecting(&self, down: &Downstream) -> bool {
        down.exchange.upstream.is_some_and(|conn| {
            matches!(self.slots.get(conn.slot as usize),
                Some(Slot::Upstream(up)) if up.conn == conn && up.state == UpstreamState::Connecting)
        })
    }

    /// The browser sends no more: idle connections close; an answer under way is still given.
    fn on_browser_eof<E: Engine>(&mut self, engine: &mut E, down: &mut Downstream) {
        match down.exchange.state {
            // Requests that wait until earlier answers are out are still answered.
            State::Idle | State::Head
                if !down.input.is_empty() && engine.queued_bytes(down.conn) > self.settings.buffer_bytes_max => {}
            State::Idle | State::Head => {
                down.exchange.state = State::Closing;
                engine.close(down.conn, Close::Flush);
            }
            State::Collect => {
                self.note_left(engine, down);
                if let Some(job) = down.exchange.job.take() {
                    self.recycle(job);
                }
                down.exchange.state = State::Closing;
                engine.close(down.conn, Close::Reset);
            }
            // What has arrived of the body goes out once the connection stands; it may well be all of it.
            State::Relay if !down.exchange.body_done && self.is_connecting(down) => {}
            State::Waiting if !down.exchange.body_done => {}
            State::Relay if !down.exchange.body_done => {
                self.note_left(engine, down);
                self.drop_upstream(engine, down);
                down.exchange.state = State::Closing;
                engine.close(down.conn, Close::Reset);
            }
            State::Queued | State::Waiting | State::Relay => down.exchange.keep_alive &= !down.input.is_empty(),
            // The tunnel has passed the end on.
            State::Tunnel | State::Closing => {}
        }
    }

    /// Parses the next head; false when more bytes are needed.
    fn next_head<E: Engine>(&mut self, engine: &mut E, down: &mut Downstream) -> bool {
        if down.input.is_empty() {
            return false;
        }
        if down.exchange.state == State::Head {
            // A head that comes in drops is parsed once a line, not once a drop.
            down.input.gather();
            if !down.scan.is_worth_parsing(down.input.front(), &self.settings.parse) {
                return false;
            }
        }
        match parse::parse_request(down.input.front(), &self.settings.parse, &mut down.exchange.head) {
            Ok(Progress::Incomplete) => {
                if down.exchange.state == State::Idle {
                    down.exchange.state = State::Head;
                    down.exchange.trace.begun_ns = engine.now_ns();
                    down.deadline_ns = engine.now_ns() + self.settings.head_ns;
                }
                down.scan = HeadScan::after(down.input.front().len());
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

    pub(super) fn begin_counting<E: Engine>(&mut self, engine: &mut E, down: &mut Downstream) {
        self.counters.requests_taken += 1;
        down.requests += 1;
        down.exchange.number = down.exchange.number.wrapping_add(1);
        self.note_taken(engine, down);
    }

    /// Looks at every connection's deadline; called each [`TICK_NS`].
    pub fn tick<E: Engine>(&mut self, engine: &mut E) {
        let now = engine.now_ns();
        for index in 0..self.slots.len() {
            let due = match &self.slots[index] {
                Slot::Free => None,
                Slot::Downstream(down) => (down.deadline_ns <= now || down.pace.is_due(now)).then_some(down.conn),
                Slot::Upstream(up) => (up.deadline_ns <= now || up.paused).then_some(up.conn),
            };
            let Some(conn) = due else { continue };
            if let Some(mut down) = self.take_downstream(conn) {
                if down.pace.is_due(now) && self.is_too_slow(engine, &mut down, now) {
                    self.counters.connections_too_slow += 1;
                    // `Closed` follows, and gives up what is under way.
                    engine.close(down.conn, Close::Reset);
                } else if down.deadline_ns <= now {
                    self.overdue(engine, &mut down, now);
                }
                self.put_downstream(down);
            } else if let Some(mut up) = self.take_upstream(conn) {
                if up.deadline_ns > now {
                    self.free_stalled_riders(engine, &mut up);
                    self.put_upstream(up);
                    continue;
                }
                up.deadline_ns = u64::MAX;
                self.counters.timed_out += u64::from(up.state != UpstreamState::Idle);
                self.on_upstream_end(engine, up, End::Overdue);
            }
        }
        self.tend_upstreams(engine);
    }

    /// Checks, queues, and what the last change of statements left behind.
    fn tend_upstreams<E: Engine>(&mut self, engine: &mut E) {
        self.check_upstreams(engine);
        while let Some(conn) = self.pools.surplus() {
            if let Some(mut up) = self.take_upstream(conn) {
                up.state = UpstreamState::Closing;
                engine.close(conn, Close::Reset);
                self.put_upstream(up);
            }
        }
        self.serve_waiting(engine);
        self.pools.forget_groups();
    }

    fn overdue<E: Engine>(&mut self, engine: &mut E, down: &mut Downstream, now: u64) {
        down.deadline_ns = now + self.settings.idle_ns;
        if matches!(down.exchange.state, State::Idle | State::Closing) && engine.queued_bytes(down.conn) > 0 {
            // A browser that still reads an answer is not idle; its pace says when it is too slow.
            return;
        }
        if matches!(down.exchange.state, State::Collect | State::Relay) && !down.exchange.body_done {
            // Each byte of the body has earned it time; and it is not the browser's fault when the server takes none.
            let until_ns = down.exchange.trace.taken_ns + self.settings.body.ns(down.exchange.body.payload_bytes());
            if now < until_ns || down.paused {
                down.deadline_ns = until_ns.max(now + self.settings.body.base_ns / 8);
                return;
            }
        }
        match down.exchange.state {
            State::Idle => {
                down.exchange.state = State::Closing;
                engine.close(down.conn, Close::Flush);
            }
            State::Head => {
                self.counters.timed_out += 1;
                self.begin_counting(engine, down);
                down.exchange.head.clear();
                let offset = down.input.front().len();
                let late = Reject { status: 408, reason: "the request's head took too long", offset };
                self.reject_for(engine, down, Reason::HeadTimeout, &late);
            }
            State::Collect => {
                self.counters.timed_out += 1;
                let late = Reject { status: 408, reason: "the request's body took too long", offset: 0 };
                self.reject_for(engine, down, Reason::BodyTimeout, &late);
            }
            State::Queued => {
                self.counters.timed_out += 1;
                if down.exchange.flight.is_some() && !down.exchange.is_safe() {
                    let text = "the replica did not answer in time; whether it did what was asked is not known";
                    self.refuse(engine, down, Reason::OutcomeUnknown, text);
                } else {
                    self.refuse(engine, down, Reason::ReplicaTimeout, "the replica did not answer in time");
                }
            }
            // The upstream connection has deadlines of its own; a closing one is bounded by the engine's linger, or
            // by this when the browser does not read.
            State::Relay if !down.exchange.body_done => {
                self.counters.timed_out += 1;
                self.drop_upstream(engine, down);
                let late = Reject { status: 408, reason: "the request's body took too long", offset: 0 };
                self.reject_for(engine, down, Reason::BodyTimeout, &late);
            }
            // The queue has a deadline of its own.
            State::Relay | State::Waiting => {}
            State::Tunnel => {
                self.counters.timed_out += 1;
                if let Some(mut up) = down.exchange.upstream.and_then(|conn| self.take_upstream(conn)) {
                    self.end_tunnel(engine, down, &mut up, Close::Flush);
                    self.put_upstream(up);
                }
            }
            State::Closing => engine.close(down.conn, Close::Reset),
        }
    }
}
