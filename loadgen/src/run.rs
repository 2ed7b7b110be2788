//! `loadgen run`: one fixed request, offered on plan (open loop) or back to back (closed loop).
//!
//! ```text
//!   a turn:  roll interval → take arrivals → give requests to free lines → expire → [t3] submit and wait → events
//!   a request:  due ─▶ client queue ─▶ line ─▶ response          timeout from t0, wherever it is
//! ```
//! Nothing is allocated per request: stamps live beside the lines, the queue is sized for all that can wait before it
//! times out, and the request is constant bytes.

#[cfg(test)]
pub mod simulation;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::io;

use twintier::clock::Clocks;
use twintier::engine::{Address, Chunk, Engine, Event};

use crate::arrivals::Plan;
use crate::check::{Checker, Checking, Checks};
use crate::connection::{Lines, Progress, State, position};
use crate::failure::Failure;
use crate::meter::{Cost, Sample};
use crate::recorder::{Outcome, Recorder, STATUS_MIN, Stamps};
use crate::response::Sink;
use crate::schedule::{Due, Schedule, Window};
use crate::stage::{Finished, Ready, Stage};
use crate::summary::CheckSummary;
use crate::tiers::{Durations, Names, Tiers};

/// Requests that may wait for a connection; more are shed. 96 MiB, touched only if they do wait.
const QUEUE_MAX: usize = 4 << 20;
/// How long the connections of the start may take before the run begins without the missing ones.
const PRECONNECT_NS_MAX: u64 = 3_000_000_000;
/// In a closed loop a line whose connection failed rests, so that a dead target is not hammered.
const REST_NS: u64 = 10_000_000;
/// The tag of requests without a status.
pub const TAG_NONE: usize = 0;

/// What is sent and what is expected.
#[derive(Clone, Debug)]
pub struct Request {
    pub address: Address,
    /// What may be sent, by the request number of an arrival: one, or the different ones of a replayed log.
    pub variants: Vec<Variant>,
    /// Requests on one connection.
    pub connection_requests_max: u32,
    /// Statuses that count as completed; empty for every one below 400.
    pub expected: Vec<u16>,
    /// What else a response must have, ...
    pub checks: Checks,
    /// ... checked for one in so many.
    pub check_every: u64,
    /// Read what the server says of its parts.
    pub server_timing: bool,
}

/// One request, made once and kept for the life of the process.
#[derive(Clone, Copy, Debug)]
pub struct Variant {
    pub bytes: &'static [u8],
    /// The same with `Connection: close`, for the last request of a connection.
    pub closing_bytes: &'static [u8],
    pub head: bool,
}

/// Performs a run on the calling thread.
///
/// # Errors
/// The engine failed.
pub fn run<E: Engine>(stage: &Stage, request: &Request, ready: &Ready, clocks: &impl Clocks) -> io::Result<Finished> {
    let mut lines = Lines::<E>::new(stage.connections, request.address.clone())?;
    lines.limit_requests(request.connection_requests_max);
    let mut events = Vec::with_capacity(2048);
    let patience_ns = stage.timeout_ns.min(PRECONNECT_NS_MAX);
    preconnect(&mut lines, clocks, clocks.monotonic_ns() + patience_ns, &mut events)?;
    let (window, recorder) = ready.begin(clocks.monotonic_ns())?;
    let schedule = stage.plan.as_ref().map(|plan| Schedule::new(plan.arrivals(), window));
    // All that can wait: what arrives within a timeout, and some room for the variance of a Poisson process.
    let peak_per_s = stage.plan.as_ref().map(Plan::peak_per_s);
    let waiting = peak_per_s.map_or(0.0, |peak_per_s| peak_per_s * stage.timeout_ns as f64 / 1e9 * 1.2 + 1024.0);
    let queue_max = if waiting < QUEUE_MAX as f64 { waiting as usize } else { QUEUE_MAX };
    let count = position(stage.connections);
    let mut driver = Driver {
        request,
        clocks,
        window,
        recorder,
        schedule,
        queue: VecDeque::with_capacity(queue_max),
        queue_max,
        idle: VecDeque::with_capacity(count * 2),
        vacant: Vec::with_capacity(count * 2),
        resting: VecDeque::with_capacity(count * 2),
        fresh: Vec::with_capacity(count),
        exchanges: vec![
            Exchange {
                stamps: Stamps::default(),
                free_ns: window.start_ns,
                outstanding: false,
                checked: false,
                variant: 0,
            };
            count
        ],
        checkers: (0..count).map(|_| Checker::default()).collect(),
        durations: vec![Durations::default(); count],
        tiers: request.server_timing.then(Tiers::new),
        checked: CheckCounts::of(&request.checks),
        until_check: 1,
        outstanding: 0,
        submitted: 0,
        timeout_ns: stage.timeout_ns,
        tick_ns: (stage.timeout_ns / 20).clamp(1_000_000, 10_000_000),
        next_tick_ns: 0,
        spin_window_ns: stage.spin_ns,
        spin_ns: 0,
        lines,
        start_sample: None,
        end_sample: None,
    };
    for index in 0..stage.connections {
        driver.park(index);
    }
    let interrupted = driver.drive(ready, &mut events)?;
    Ok(driver.finish(interrupted))
}

/// Opens every line and waits until each is open or has failed.
fn preconnect<E: Engine>(
    lines: &mut Lines<E>,
    clocks: &impl Clocks,
    deadline_ns: u64,
    events: &mut Vec<Event>,
) -> io::Result<()> {
    for index in lines.indexes() {
        // The submission queue takes a limited number a turn; a line that cannot connect now does so when it is used.
        if lines.open(index).is_err() {
            settle(lines, events, clocks.monotonic_ns())?;
            let _ = lines.open(index);
        }
    }
    while clocks.monotonic_ns() < deadline_ns && lines.iter().any(|line| line.state == State::Connecting) {
        settle(lines, events, deadline_ns)?;
    }
    for index in lines.indexes() {
        if lines.line(index).state == State::Connecting {
            lines.give_up(index);
        }
    }
    Ok(())
}

fn settle<E: Engine>(lines: &mut Lines<E>, events: &mut Vec<Event>, until_ns: u64) -> io::Result<()> {
    lines.turn(until_ns, events)?;
    for event in events.drain(..) {
        if let Some(index) = lines.owner(&event) {
            lines.take(index, event, &mut ());
        }
    }
    Ok(())
}

/// The request of a line, and since when the line has been free.
#[derive(Clone, Copy, Debug)]
struct Exchange {
    stamps: Stamps,
    free_ns: u64,
    /// A request belongs to the line: it connects for it, or waits for its response.
    outstanding: bool,
    /// Its response is one of those that are checked.
    checked: bool,
    /// Which of the variants it is.
    variant: u32,
}

/// A request without a line.
#[derive(Clone, Copy, Debug)]
struct Waiting {
    /// t0 and t1.
    planned_ns: u64,
    noticed_ns: u64,
    variant: u32,
}

struct Driver<'r, E: Engine, C: Clocks> {
    request: &'r Request,
    clocks: &'r C,
    window: Window,
    recorder: Recorder,
    /// `None` in a closed loop.
    schedule: Option<Schedule>,
    /// Oldest first.
    queue: VecDeque<Waiting>,
    queue_max: usize,
    lines: Lines<E>,
    /// Open lines without a request, longest idle first, so that load spreads evenly. An entry whose line has changed
    /// its state since is skipped.
    idle: VecDeque<u32>,
    /// Lines without a connection: a request that takes one connects first.
    vacant: Vec<u32>,
    /// Vacant lines that wait until a time.
    resting: VecDeque<(u64, u32)>,
    /// Lines whose request was ordered in this turn and gets its t3 just before the kernel does.
    fresh: Vec<u32>,
    exchanges: Vec<Exchange>,
    /// What is known about the response of each line.
    checkers: Vec<Checker>,
    /// What the server says of it, likewise.
    durations: Vec<Durations>,
    tiers: Option<Tiers>,
    checked: CheckCounts,
    /// Requests until the next one whose response is checked.
    until_check: u64,
    outstanding: u64,
    submitted: u64,
    timeout_ns: u64,
    tick_ns: u64,
    next_tick_ns: u64,
    spin_window_ns: u64,
    /// Time spent polling without an event.
    spin_ns: u64,
    start_sample: Option<Sample>,
    end_sample: Option<Sample>,
}

impl<E: Engine, C: Clocks> Driver<'_, E, C> {
    /// Turns until every planned request has ended; `true` if a signal ended it before.
    fn drive(&mut self, ready: &Ready, events: &mut Vec<Event>) -> io::Result<bool> {
        loop {
            let now_ns = self.clocks.monotonic_ns();
            self.recorder.roll(now_ns);
            self.sample(now_ns);
            self.take_arrivals(now_ns);
            self.start_requests(now_ns);
            self.expire(now_ns);
            if now_ns >= self.window.end_ns && self.outstanding == 0 && self.queue.is_empty() {
                return Ok(false);
            }
            if ready.stopping() {
                return Ok(true);
            }
            self.stamp_submissions();
            self.turn(events)?;
            let now_ns = self.clocks.monotonic_ns();
            for event in events.drain(..) {
                if let Some(index) = self.lines.owner(&event) {
                    self.handle(index, event, now_ns);
                }
            }
        }
    }

    fn sample(&mut self, now_ns: u64) {
        if self.start_sample.is_none() && now_ns >= self.window.measure_ns {
            self.start_sample = Some(Sample::take(now_ns, self.spin_ns, &self.lines.engine().statistics()));
        }
        if self.end_sample.is_none() && now_ns >= self.window.end_ns {
            self.end_sample = Some(Sample::take(now_ns, self.spin_ns, &self.lines.engine().statistics()));
        }
    }

    /// Moves what is due from the plan to the client queue.
    fn take_arrivals(&mut self, now_ns: u64) {
        let Some(schedule) = &mut self.schedule else { return };
        while let Some(Due { planned_ns, request, .. }) = schedule.take_due(now_ns) {
            self.recorder.plan(planned_ns);
            if self.queue.len() < self.queue_max {
                self.queue.push_back(Waiting { planned_ns, noticed_ns: now_ns, variant: request });
            } else {
                let stamps = Stamps { planned_ns, noticed_ns: now_ns, ..Stamps::default() };
                self.recorder.finish(&stamps, now_ns, failed(Failure::Shed, None), TAG_NONE, 0);
            }
        }
    }

    /// Gives waiting requests to free lines; in a closed loop every free line gets one.
    fn start_requests(&mut self, now_ns: u64) {
        while self.resting.front().is_some_and(|&(until_ns, _)| until_ns <= now_ns) {
            self.vacant.extend(self.resting.pop_front().map(|(_, index)| index));
        }
        let closed = self.schedule.is_none();
        if closed && !(self.window.start_ns..self.window.end_ns).contains(&now_ns) {
            return;
        }
        while closed || !self.queue.is_empty() {
            let Some(index) = self.free_line() else { return };
            let free_ns = self.exchanges[position(index)].free_ns;
            let Waiting { planned_ns, noticed_ns, variant } = match self.queue.pop_front() {
                Some(waiting) => waiting,
                None => {
                    let from_ns = free_ns.max(self.window.start_ns);
                    self.recorder.plan(from_ns);
                    Waiting { planned_ns: from_ns, noticed_ns: from_ns, variant: 0 }
                }
            };
            self.start(
                index,
                variant,
                Stamps { planned_ns, noticed_ns, free_ns: free_ns.max(noticed_ns), ..Stamps::default() },
                now_ns,
            );
        }
    }

    fn free_line(&mut self) -> Option<u32> {
        while let Some(index) = self.idle.pop_front() {
            if self.lines.line(index).state == State::Idle && !self.exchanges[position(index)].outstanding {
                return Some(index);
            }
        }
        self.vacant.pop()
    }

    fn start(&mut self, index: u32, variant: u32, stamps: Stamps, now_ns: u64) {
        let checked = self.next_is_checked();
        let free_ns = stamps.free_ns;
        self.exchanges[position(index)] = Exchange { stamps, free_ns, outstanding: true, checked, variant };
        self.outstanding += 1;
        self.fresh.push(index);
        match self.lines.line(index).state {
            State::Idle => self.send(index),
            State::Vacant => {
                if let Err(why) = self.lines.open(index) {
                    self.end(index, now_ns, failed(why, None));
                }
            }
            State::Connecting | State::Busy => unreachable!("invariant: a free line is idle or vacant"),
        }
    }

    fn next_is_checked(&mut self) -> bool {
        if self.request.checks.is_empty() {
            return false;
        }
        self.until_check -= 1;
        if self.until_check > 0 {
            return false;
        }
        self.until_check = self.request.check_every;
        true
    }

    fn send(&mut self, index: u32) {
        if self.exchanges[position(index)].checked {
            self.checkers[position(index)].begin(&self.request.checks);
        }
        self.durations[position(index)] = Durations::default();
        let variant = self.request.variants[position(self.exchanges[position(index)].variant)];
        let bytes = if self.lines.at_last_request(index) { variant.closing_bytes } else { variant.bytes };
        self.lines.send(index, Chunk::Static(bytes), variant.head);
    }

    /// One clock reading is the t3 of all requests that the next enter submits.
    fn stamp_submissions(&mut self) {
        if self.fresh.is_empty() {
            return;
        }
        let now_ns = self.clocks.monotonic_ns();
        while let Some(index) = self.fresh.pop() {
            let exchange = &mut self.exchanges[position(index)];
            if exchange.outstanding && exchange.stamps.submitted_ns == 0 {
                exchange.stamps.submitted_ns = now_ns;
                self.submitted +=
                    u64::from(now_ns < self.window.end_ns && self.window.measures(exchange.stamps.planned_ns));
            }
        }
    }

    /// Submits and waits until the next thing to do. With a core of its own the thread wakes a little before the next
    /// arrival and polls, because the kernel's timer and the wake-up behind it are late by tens of microseconds.
    fn turn(&mut self, events: &mut Vec<Event>) -> io::Result<()> {
        let arrival_ns = self.schedule.as_ref().and_then(Schedule::next_ns).unwrap_or(u64::MAX);
        let other_ns = self.next_tick_ns.min(self.recorder.roll_ns()).min(self.edge_ns());
        if self.spin_window_ns == 0 || other_ns <= arrival_ns {
            return self.lines.turn(arrival_ns.min(other_ns), events);
        }
        self.lines.turn(arrival_ns.saturating_sub(self.spin_window_ns), events)?;
        let mut before_ns = self.clocks.monotonic_ns();
        while events.is_empty() && before_ns < arrival_ns && before_ns + self.spin_window_ns >= arrival_ns {
            std::hint::spin_loop();
            self.lines.turn(0, events)?;
            let now_ns = self.clocks.monotonic_ns();
            if events.is_empty() {
                self.spin_ns += now_ns - before_ns;
            }
            before_ns = now_ns;
        }
        Ok(())
    }

    /// The next boundary of the window, or the end of a line's rest.
    fn edge_ns(&self) -> u64 {
        let now_ns = self.lines.engine().now_ns();
        let edges = [self.window.start_ns, self.window.end_ns].into_iter().filter(|&edge_ns| edge_ns > now_ns);
        edges.chain(self.resting.front().map(|&(until_ns, _)| until_ns)).min().unwrap_or(u64::MAX)
    }

    fn handle(&mut self, index: u32, event: Event, now_ns: u64) {
        let place = position(index);
        let checked = self.exchanges[place].checked;
        let progress = if checked || self.tiers.is_some() {
            let mut sink = Watching {
                checking: checked
                    .then_some(Checking { checks: &self.request.checks, checker: &mut self.checkers[place] }),
                timing: self.tiers.as_mut().map(|tiers| (&mut tiers.names, &mut self.durations[place])),
            };
            self.lines.take(index, event, &mut sink)
        } else {
            self.lines.take(index, event, &mut ())
        };
        let exchange = &mut self.exchanges[position(index)];
        if exchange.stamps.first_byte_ns == 0 && exchange.outstanding && self.lines.line(index).first_byte_seen {
            exchange.stamps.first_byte_ns = now_ns;
        }
        match progress {
            Progress::Nothing => {}
            Progress::Connected if exchange.outstanding => self.send(index),
            Progress::Connected => self.park(index),
            Progress::Complete => {
                let status =
                    self.lines.line(index).reader.status().expect("invariant: a complete response has a status");
                let expected = if self.request.expected.is_empty() {
                    status < 400
                } else {
                    self.request.expected.contains(&status)
                };
                let outcome = if !expected {
                    failed(Failure::Status, Some(status))
                } else if self.passes(index) {
                    Outcome::Completed { status }
                } else {
                    failed(Failure::Validation, Some(status))
                };
                self.end(index, now_ns, outcome);
            }
            Progress::Failed(why) => {
                let status = self.lines.line(index).reader.status();
                self.end(index, now_ns, failed(why, status));
            }
            Progress::Lost => self.park(index),
        }
    }

    /// Whether the complete response of a line meets its checks.
    fn passes(&mut self, index: u32) -> bool {
        let exchange = &self.exchanges[position(index)];
        if !exchange.checked {
            return true;
        }
        let unmet = self.checkers[position(index)].first_unmet(&self.request.checks);
        if self.window.measures(exchange.stamps.planned_ns) {
            self.checked.count(unmet);
        }
        unmet.is_none()
    }

    /// The request of a line has ended.
    fn end(&mut self, index: u32, now_ns: u64, outcome: Outcome) {
        let exchange = &mut self.exchanges[position(index)];
        exchange.outstanding = false;
        exchange.free_ns = now_ns;
        self.outstanding -= 1;
        let reader = &self.lines.line(index).reader;
        let (tag, lost) = match outcome {
            Outcome::Completed { status } | Outcome::Failed { status: Some(status), .. } => (tag_of(status), false),
            Outcome::Failed { status: None, .. } | Outcome::InFlight => (TAG_NONE, true),
        };
        self.recorder.finish(&exchange.stamps, now_ns, outcome, tag, reader.body_bytes());
        if let (Some(tiers), Outcome::Completed { status }) = (&mut self.tiers, outcome)
            && self.window.measures(exchange.stamps.planned_ns)
        {
            tiers.record(&exchange.stamps, now_ns, index, status, &self.durations[position(index)]);
        }
        if lost && self.schedule.is_none() && self.lines.line(index).state == State::Vacant {
            self.resting.push_back((now_ns + REST_NS, index));
            exchange.free_ns = now_ns + REST_NS;
        } else {
            self.park(index);
        }
    }

    /// Puts a line without a request where free lines are looked for.
    fn park(&mut self, index: u32) {
        match self.lines.line(index).state {
            State::Idle => self.idle.push_back(index),
            State::Vacant => self.vacant.push(index),
            State::Connecting | State::Busy => unreachable!("invariant: a parked line has no request"),
        }
    }

    /// Ends requests whose timeout, counted from their planned time, is over.
    fn expire(&mut self, now_ns: u64) {
        while let Some(&Waiting { planned_ns, noticed_ns, .. }) = self.queue.front()
            && planned_ns + self.timeout_ns <= now_ns
        {
            self.queue.pop_front();
            let stamps = Stamps { planned_ns, noticed_ns, ..Stamps::default() };
            self.recorder.finish(&stamps, now_ns, failed(Failure::QueueTimeout, None), TAG_NONE, 0);
        }
        if now_ns < self.next_tick_ns {
            return;
        }
        self.next_tick_ns = now_ns + self.tick_ns;
        for index in (0..).take(self.exchanges.len()) {
            let exchange = self.exchanges[position(index)];
            if exchange.outstanding && exchange.stamps.planned_ns + self.timeout_ns <= now_ns {
                let line = self.lines.line(index);
                let outcome = failed(line.timeout_kind(), line.reader.status());
                self.lines.give_up(index);
                self.end(index, now_ns, outcome);
            }
        }
    }

    /// Accounts for what has not ended and hands over the last interval.
    fn finish(mut self, interrupted: bool) -> Finished {
        let now_ns = self.clocks.monotonic_ns();
        for exchange in self.exchanges.iter().filter(|exchange| exchange.outstanding) {
            self.recorder.finish(&exchange.stamps, now_ns, Outcome::InFlight, TAG_NONE, 0);
        }
        for &Waiting { planned_ns, noticed_ns, .. } in &self.queue {
            let stamps = Stamps { planned_ns, noticed_ns, ..Stamps::default() };
            self.recorder.finish(&stamps, now_ns, Outcome::InFlight, TAG_NONE, 0);
        }
        let last = Sample::take(now_ns, self.spin_ns, &self.lines.engine().statistics());
        let cost = Cost::between(&self.start_sample.unwrap_or(last), &self.end_sample.unwrap_or(last));
        let (requests_per_connection, connection_imbalance) = self.lines.spread();
        let late_intervals = self.recorder.late_rolls();
        let (counts, warm_up) = self.recorder.end(now_ns);
        assert!(
            counts.balances() && warm_up.balances(),
            "invariant: every planned request is accounted for once: {counts:?}"
        );
        Finished {
            counts,
            warm_up,
            submitted: self.submitted,
            cost,
            measured_ns: now_ns.min(self.window.end_ns).saturating_sub(self.window.measure_ns),
            late_intervals,
            interrupted,
            connections_opened: self.lines.opened(),
            requests_per_connection,
            connection_imbalance,
            unasked: self.lines.unasked(),
            checks: (!self.request.checks.is_empty()).then(|| self.checked.summary(self.request)),
            tiers: self.tiers.map(|tiers| tiers.report(self.window.measure_ns)),
            ..Finished::default()
        }
    }
}

/// What looks at a response while it is read.
struct Watching<'a> {
    checking: Option<Checking<'a>>,
    timing: Option<(&'a mut Names, &'a mut Durations)>,
}

impl Sink for Watching<'_> {
    fn header(&mut self, name: &[u8], value: &[u8]) {
        if let Some(checking) = &mut self.checking {
            checking.header(name, value);
        }
        if let Some((names, durations)) = &mut self.timing
            && name.eq_ignore_ascii_case(b"server-timing")
        {
            names.read(value, durations);
        }
    }

    fn body(&mut self, bytes: &[u8]) {
        if let Some(checking) = &mut self.checking {
            checking.body(bytes);
        }
    }
}

/// What came of the checks of the measured cohort.
#[derive(Debug)]
struct CheckCounts {
    responses: u64,
    /// Responses by the first check that they did not meet.
    failed: Vec<u64>,
}

impl CheckCounts {
    fn of(checks: &Checks) -> Self {
        Self { responses: 0, failed: vec![0; checks.len()] }
    }

    fn count(&mut self, unmet: Option<usize>) {
        self.responses += 1;
        if let Some(index) = unmet {
            self.failed[index] += 1;
        }
    }

    fn summary(&self, request: &Request) -> CheckSummary {
        let mut failed = BTreeMap::new();
        for (name, count) in request.checks.names().zip(&self.failed) {
            // A check that was given twice fails under its first index only.
            *failed.entry(name).or_default() += count;
        }
        CheckSummary { every: request.check_every, responses: self.responses, failed }
    }
}

fn failed(why: Failure, status: Option<u16>) -> Outcome {
    Outcome::Failed { why, status }
}

/// Tags of a run are statuses; index 0 is for requests without one.
fn tag_of(status: u16) -> usize {
    usize::from(status.saturating_sub(STATUS_MIN)) + 1
}

/// The names of the tags by index.
pub fn tag_names() -> Vec<String> {
    std::iter::once("no_status".to_owned()).chain(crate::recorder::status_tags()).collect()
}
