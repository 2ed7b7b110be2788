//! `loadgen browse`: many users on one engine loop.
//!
//! ```text
//!   sessions arrive (open: by plan; closed: as the last one ends)
//!        ▼
//!   user ─ effects ─▶ its fetch queue ─▶ one of its six lines ─▶ response ─▶ user
//!     ▲                                                                       │
//!     └──────────── waits, earliest first ◀───────────────────────────────────┘
//! ```
//! Every fetch is a request of the accounting identity: planned when the page wants it, which for the first page of a
//! session is the session's planned arrival and behind a think time is the time at which that was over.

mod figures;
mod notes;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::io;
use std::sync::Arc;

use twintier::clock::{monotonic_ns, unix_ms};
use twintier::engine::{Address, Chunk, Engine, Event};

use self::figures::Figures;
use crate::browser::{Browser, Effect, Ending, Fetch, Incoming, Reading, Role, World};
use crate::connection::{Lines, Progress, State, position};
use crate::failure::Failure;
use crate::har::Archive;
use crate::har::record::{Recording, SessionId};
use crate::meter::{Cost, Sample};
use crate::recorder::{Outcome, Recorder, Stamps};
use crate::scenario::Scenario;
use crate::schedule::{Schedule, Window};
use crate::stage::{Finished, Ready, Stage};
use crate::target::write_request;

/// Connections that a browser opens to one origin over HTTP/1.1.
pub const LINES_PER_USER: u32 = 6;
/// Users of a closed run start within this time, evenly spread.
const RAMP_NS: u64 = 1_000_000_000;
/// A user whose session failed waits before the next one, so that a broken system is not hammered.
const REST_NS: u64 = 100_000_000;
/// The tag of all assets.
const TAG_ASSETS: usize = 0;

/// The names of the tags by index: the assets, then each step's requests and pages.
pub fn tag_names(scenario: &Scenario) -> Vec<String> {
    let steps = scenario.steps.iter().flat_map(|step| [step.clone(), format!("{step}.page")]);
    std::iter::once("assets".to_owned()).chain(steps).collect()
}

fn tag_of(step: usize) -> usize {
    1 + step * 2
}

fn page_tag_of(step: usize) -> usize {
    2 + step * 2
}

/// What is browsed.
#[derive(Clone, Debug)]
pub struct Site {
    pub address: Address,
    pub authority: String,
    /// User slots: all users of a closed run, or the sessions at the same time of an open one.
    pub users: u32,
    /// How many sessions are recorded for an HTTP archive.
    pub recorded_sessions: usize,
}

/// Performs a run on the calling thread.
///
/// With it comes the archive of the first sessions, of as many as are to be recorded.
///
/// # Errors
/// The engine failed.
pub fn run<E: Engine>(
    stage: &Stage,
    site: &Site,
    scenario: &Scenario,
    ready: &Ready,
) -> io::Result<(Finished, Option<Archive>)> {
    let lines = Lines::<E>::new(site.users * LINES_PER_USER, site.address.clone())?;
    let (window, recorder) = ready.begin(monotonic_ns())?;
    let schedule = stage.plan.as_ref().map(|plan| Schedule::new(plan.arrivals(), window));
    let world = World {
        scenario,
        authority: &site.authority,
        seed: stage.seed,
        unix_offset_ns: (unix_ms() * 1_000_000).saturating_sub(monotonic_ns()),
    };
    let mut driver = Driver {
        world,
        window,
        recorder,
        lines,
        slots: (0..site.users)
            .map(|_| Slot { browser: Browser::new(scenario), queue: VecDeque::new(), active: false, recorded: None })
            .collect(),
        jobs: (0..site.users * LINES_PER_USER)
            .map(|_| Line { job: None, incoming: Incoming::default(), free_ns: 0 })
            .collect(),
        away: if schedule.is_some() { (0..site.users).rev().collect() } else { Vec::new() },
        schedule,
        waits: BinaryHeap::new(),
        effects: Vec::new(),
        fresh: Vec::new(),
        sessions: 0,
        outstanding: 0,
        submitted: 0,
        timeout_ns: stage.timeout_ns,
        tick_ns: (stage.timeout_ns / 20).clamp(1_000_000, 10_000_000),
        next_tick_ns: 0,
        figures: Figures::new(scenario, window, stage.page_slo),
        recording: (site.recorded_sessions > 0).then(|| Recording::new(site.recorded_sessions)),
        start_sample: None,
        end_sample: None,
    };
    if driver.schedule.is_none() {
        for user in 0..site.users {
            let offset_ns = RAMP_NS / u64::from(site.users) * u64::from(user);
            driver.waits.push(Reverse((window.start_ns + offset_ns, user)));
        }
    }
    let interrupted = driver.drive(ready)?;
    Ok(driver.finish(interrupted))
}

/// A user and the fetches that wait for one of its lines.
struct Slot {
    browser: Browser,
    /// With planned and noticed time.
    queue: VecDeque<Job>,
    /// A session is under way.
    active: bool,
    /// It is written down under this number.
    recorded: Option<SessionId>,
}

/// What a line is busy with.
struct Line {
    job: Option<Job>,
    incoming: Incoming,
    free_ns: u64,
}

struct Job {
    fetch: Fetch,
    stamps: Stamps,
    /// When the connect that it needed was done; 0 if it needed none.
    connected_ns: u64,
    /// Its entry in the recording.
    entry: Option<usize>,
}

struct Driver<'w, E: Engine> {
    world: World<'w>,
    window: Window,
    recorder: Recorder,
    lines: Lines<E>,
    slots: Vec<Slot>,
    /// By line: user times six, plus 0 to 5.
    jobs: Vec<Line>,
    /// `None` in a closed loop.
    schedule: Option<Schedule>,
    /// Slots without a session, in an open loop.
    away: Vec<u32>,
    /// When a user is due again: a think time, a poll, or the next session of a closed loop.
    waits: BinaryHeap<Reverse<(u64, u32)>>,
    effects: Vec<Effect>,
    /// Lines that get their t3 just before the kernel gets their request.
    fresh: Vec<u32>,
    sessions: u64,
    /// Fetches on lines and in queues.
    outstanding: u64,
    submitted: u64,
    timeout_ns: u64,
    tick_ns: u64,
    next_tick_ns: u64,
    figures: Figures,
    recording: Option<Recording>,
    start_sample: Option<Sample>,
    end_sample: Option<Sample>,
}

impl<E: Engine> Driver<'_, E> {
    fn drive(&mut self, ready: &Ready) -> io::Result<bool> {
        let mut events = Vec::with_capacity(2048);
        loop {
            let now_ns = monotonic_ns();
            self.recorder.roll(now_ns);
            self.sample(now_ns);
            self.start_sessions(now_ns);
            self.wake_users(now_ns);
            self.expire(now_ns);
            if now_ns >= self.window.end_ns && self.outstanding == 0 {
                return Ok(false);
            }
            if ready.stopping() {
                return Ok(true);
            }
            self.stamp_submissions();
            let until_ns = self.next_ns(now_ns);
            self.lines.turn(until_ns, &mut events)?;
            let now_ns = monotonic_ns();
            for event in events.drain(..) {
                if let Some(index) = self.lines.owner(&event) {
                    self.handle(index, event, now_ns);
                }
            }
        }
    }

    fn next_ns(&self, now_ns: u64) -> u64 {
        let arrival_ns = self.schedule.as_ref().and_then(Schedule::next_ns);
        let wait_ns = self.waits.peek().map(|Reverse((due_ns, _))| *due_ns).filter(|_| now_ns < self.window.end_ns);
        let end_ns = Some(self.window.end_ns).filter(|&end_ns| end_ns > now_ns);
        let fixed = [self.next_tick_ns, self.recorder.roll_ns()].into_iter();
        fixed.chain(arrival_ns).chain(wait_ns).chain(end_ns).min().expect("invariant: two are always there")
    }

    fn sample(&mut self, now_ns: u64) {
        if self.start_sample.is_none() && now_ns >= self.window.measure_ns {
            self.start_sample = Some(Sample::take(now_ns, 0, &self.lines.engine().statistics()));
        }
        if self.end_sample.is_none() && now_ns >= self.window.end_ns {
            self.end_sample = Some(Sample::take(now_ns, 0, &self.lines.engine().statistics()));
        }
    }

    /// Open loop: gives planned sessions to free slots.
    fn start_sessions(&mut self, now_ns: u64) {
        while let Some(due) = self.schedule.as_mut().and_then(|schedule| schedule.take_due(now_ns)) {
            match self.away.pop() {
                // The number in the whole plan, so that generators which share it play different users.
                Some(user) => self.begin(user, due.number, due.planned_ns, now_ns),
                None => self.figures.shed(due.planned_ns),
            }
        }
    }

    fn begin(&mut self, user: u32, number: u64, due_ns: u64, now_ns: u64) {
        self.sessions += 1;
        self.figures.summary.sessions_started += 1;
        let slot = &mut self.slots[position(user)];
        slot.active = true;
        slot.recorded = self.recording.as_mut().and_then(Recording::begin_session);
        slot.browser.begin(&self.world, number, due_ns, &mut self.effects);
        self.perform(user, due_ns, now_ns);
    }

    /// Nobody does anything new after the window: what is under way ends with its page.
    fn wake_users(&mut self, now_ns: u64) {
        if now_ns >= self.window.end_ns {
            return;
        }
        while let Some(&Reverse((due_ns, user))) = self.waits.peek()
            && due_ns <= now_ns
        {
            self.waits.pop();
            if self.slots[position(user)].active {
                self.slots[position(user)].browser.woken(&self.world, due_ns, &mut self.effects);
                self.perform(user, due_ns, now_ns);
            } else {
                self.begin(user, self.sessions, due_ns, now_ns);
            }
        }
    }

    /// Does what a user wants. `due_ns` is when it wanted it, which is the planned time of its requests.
    fn perform(&mut self, user: u32, due_ns: u64, now_ns: u64) {
        let mut effects = std::mem::take(&mut self.effects);
        for effect in effects.drain(..) {
            match effect {
                Effect::Fetch(fetch) => {
                    self.recorder.plan(due_ns);
                    self.outstanding += 1;
                    let stamps = Stamps { planned_ns: due_ns, noticed_ns: now_ns, ..Stamps::default() };
                    let entry = self.note_wanted(user, &fetch, due_ns);
                    self.slots[position(user)].queue.push_back(Job { fetch, stamps, connected_ns: 0, entry });
                }
                Effect::Wait { until_ns } => self.waits.push(Reverse((until_ns, user))),
                Effect::PageLoaded { step, started_ns, whole } => {
                    self.figures.loaded(step, started_ns, now_ns, whole);
                    self.note(user, |recording, session| recording.page_reached(session, now_ns, true));
                    self.recorder.tagged(started_ns, now_ns.saturating_sub(started_ns), page_tag_of(step));
                }
                Effect::CacheHit { path } => {
                    self.figures.spared(due_ns);
                    self.note(user, |recording, session| recording.spared(session, &path, due_ns));
                }
                Effect::End(ending) => self.end_session(user, &ending, now_ns),
            }
        }
        self.effects = effects;
        self.dispatch(user, now_ns);
    }

    fn end_session(&mut self, user: u32, ending: &Ending, now_ns: u64) {
        self.figures.ended(ending);
        let rest_ns = match ending {
            Ending::Completed => 0,
            Ending::Failed { .. } => REST_NS,
        };
        for index in user_lines(user) {
            assert!(self.jobs[position(index)].job.is_none(), "invariant: a session ends without fetches");
            self.lines.give_up(index);
        }
        self.slots[position(user)].active = false;
        if self.schedule.is_some() {
            self.away.push(user);
        } else {
            self.waits.push(Reverse((now_ns + rest_ns, user)));
        }
    }

    /// Gives a user's waiting fetches to its free lines: open ones first.
    fn dispatch(&mut self, user: u32, now_ns: u64) {
        while !self.slots[position(user)].queue.is_empty() {
            let free = |wanted: State| {
                user_lines(user)
                    .find(|&index| self.jobs[position(index)].job.is_none() && self.lines.line(index).state == wanted)
            };
            let Some(index) = free(State::Idle).or_else(|| free(State::Vacant)) else { return };
            let Some(mut job) = self.slots[position(user)].queue.pop_front() else { return };
            let line = &mut self.jobs[position(index)];
            job.stamps.free_ns = line.free_ns.max(job.stamps.noticed_ns);
            let checks = job.fetch.checks.map(|checks| &self.world.scenario.checks[checks]);
            line.incoming.expect(&job.fetch, checks, job.entry.is_some());
            line.job = Some(job);
            self.fresh.push(index);
            match self.lines.line(index).state {
                State::Idle => self.send(index, now_ns),
                State::Vacant => {
                    if let Err(why) = self.lines.open(index) {
                        self.fail(index, why, now_ns);
                    }
                }
                State::Connecting | State::Busy => unreachable!("invariant: a free line is idle or vacant"),
            }
        }
    }

    fn send(&mut self, index: u32, now_ns: u64) {
        let Some(job) = &self.jobs[position(index)].job else { return };
        let fetch = &job.fetch;
        let browser = &self.slots[position(index / LINES_PER_USER)].browser;
        let cookie = browser.cookie(&self.world, &fetch.path, now_ns);
        let accept = match fetch.role {
            Role::Document => "text/html,application/json;q=0.9,*/*;q=0.8",
            Role::Sheet => "text/css,*/*;q=0.1",
            Role::Asset => "*/*",
        };
        let authority = self.world.authority;
        let referer = browser.referer(fetch).map(|page| format!("http://{authority}{page}"));
        let form = fetch.post.as_ref().map(|(kind, _)| ("Content-Type", *kind));
        let origin = form.map(|_| format!("http://{authority}"));
        let condition = fetch.condition.as_ref().map(|(name, value)| (*name, value.as_str()));
        let fields = [("User-Agent", concat!("loadgen/", env!("CARGO_PKG_VERSION"))), ("Accept", accept)];
        let optional = [
            origin.as_deref().map(|origin| ("Origin", origin)),
            form,
            referer.as_deref().map(|referer| ("Referer", referer)),
            cookie.as_deref().map(|cookie| ("Cookie", cookie)),
            condition,
        ];
        let mut bytes = Vec::with_capacity(512);
        let (method, body) = fetch.post.as_ref().map_or(("GET", ""), |(_, body)| ("POST", body));
        write_request(
            &mut bytes,
            method,
            &fetch.path,
            self.world.authority,
            fields.into_iter().chain(optional.into_iter().flatten()),
            body.as_bytes(),
        );
        if let Some((recording, entry)) = self.recording.as_mut().zip(job.entry) {
            recording.sent(entry, &bytes);
        }
        let length = bytes.len();
        self.lines.send(index, Chunk::Shared(Arc::from(bytes), 0..length), false);
    }

    fn stamp_submissions(&mut self) {
        if self.fresh.is_empty() {
            return;
        }
        let now_ns = monotonic_ns();
        while let Some(index) = self.fresh.pop() {
            if let Some(job) = &mut self.jobs[position(index)].job
                && job.stamps.submitted_ns == 0
            {
                job.stamps.submitted_ns = now_ns;
                // What a page asks for after the window has no time to be late in.
                let in_time = now_ns < self.window.end_ns || job.stamps.planned_ns >= self.window.end_ns;
                self.submitted += u64::from(in_time && self.window.measures(job.stamps.planned_ns));
            }
        }
    }

    fn handle(&mut self, index: u32, event: Event, now_ns: u64) {
        let line = &mut self.jobs[position(index)];
        let checks = line.job.as_ref().and_then(|job| job.fetch.checks);
        let checks = checks.map(|checks| &self.world.scenario.checks[checks]);
        let progress = self.lines.take(index, event, &mut Reading { incoming: &mut line.incoming, checks });
        if let Some(job) = &mut line.job
            && job.stamps.first_byte_ns == 0
            && job.stamps.submitted_ns != 0
            && self.lines.line(index).first_byte_seen
        {
            job.stamps.first_byte_ns = now_ns;
        }
        match progress {
            Progress::Nothing | Progress::Lost => {}
            Progress::Connected => {
                if let Some(job) = &mut self.jobs[position(index)].job {
                    job.connected_ns = now_ns;
                }
                self.send(index, now_ns);
            }
            Progress::Complete => self.complete(index, now_ns),
            Progress::Failed(why) => self.fail(index, why, now_ns),
        }
    }

    /// A response is complete: the user judges it, and that judgement is the outcome of the request.
    fn complete(&mut self, index: u32, now_ns: u64) {
        let line = &mut self.jobs[position(index)];
        let Some(job) = line.job.take() else { return };
        line.free_ns = now_ns;
        let reader = &self.lines.line(index).reader;
        let status = reader.status().expect("invariant: a complete response has a status");
        let body_bytes = reader.body_bytes();
        let user = index / LINES_PER_USER;
        let browser = &mut self.slots[position(user)].browser;
        let judged = browser.answered(&self.world, &job.fetch, status, &mut line.incoming, now_ns, &mut self.effects);
        let outcome = match judged {
            Ok(()) => Outcome::Completed { status },
            Err(why) => Outcome::Failed { why, status: Some(status) },
        };
        if job.fetch.role != Role::Document {
            self.figures.asset(job.stamps.planned_ns, status);
        }
        self.record(&job, now_ns, outcome, body_bytes);
        self.note_ended(index, &job, now_ns, outcome, body_bytes);
        if job.fetch.role == Role::Document && !(300..400).contains(&status) {
            self.note(user, |recording, session| recording.page_reached(session, now_ns, false));
        }
        self.perform(user, now_ns, now_ns);
    }

    fn fail(&mut self, index: u32, why: Failure, now_ns: u64) {
        let line = &mut self.jobs[position(index)];
        let Some(job) = line.job.take() else { return };
        line.free_ns = now_ns;
        let status = self.lines.line(index).reader.status();
        self.record(&job, now_ns, Outcome::Failed { why, status }, 0);
        self.note_ended(index, &job, now_ns, Outcome::Failed { why, status }, 0);
        self.tell_failed(index / LINES_PER_USER, &job, why, now_ns);
    }

    fn tell_failed(&mut self, user: u32, job: &Job, why: Failure, now_ns: u64) {
        self.slots[position(user)].browser.failed(&self.world, &job.fetch, why, now_ns, &mut self.effects);
        self.perform(user, now_ns, now_ns);
    }

    fn record(&mut self, job: &Job, now_ns: u64, outcome: Outcome, body_bytes: u64) {
        self.outstanding -= 1;
        let tag = match job.fetch.role {
            Role::Document => tag_of(job.fetch.step),
            Role::Asset | Role::Sheet => TAG_ASSETS,
        };
        self.recorder.finish(&job.stamps, now_ns, outcome, tag, body_bytes);
    }

    /// Ends fetches whose timeout, counted from their planned time, is over.
    fn expire(&mut self, now_ns: u64) {
        if now_ns < self.next_tick_ns {
            return;
        }
        self.next_tick_ns = now_ns + self.tick_ns;
        for index in (0..).take(self.jobs.len()) {
            let expired = self.jobs[position(index)]
                .job
                .as_ref()
                .is_some_and(|job| job.stamps.planned_ns + self.timeout_ns <= now_ns);
            if expired {
                let why = self.lines.line(index).timeout_kind();
                self.lines.give_up(index);
                self.fail(index, why, now_ns);
            }
        }
        for user in (0..).take(self.slots.len()) {
            while let Some(job) = self.slots[position(user)].queue.front()
                && job.stamps.planned_ns + self.timeout_ns <= now_ns
                && let Some(job) = self.slots[position(user)].queue.pop_front()
            {
                self.record(&job, now_ns, Outcome::Failed { why: Failure::QueueTimeout, status: None }, 0);
                self.tell_failed(user, &job, Failure::QueueTimeout, now_ns);
            }
        }
    }

    fn finish(mut self, interrupted: bool) -> (Finished, Option<Archive>) {
        let now_ns = monotonic_ns();
        let on_lines: Vec<Job> = self.jobs.iter_mut().filter_map(|line| line.job.take()).collect();
        let queued: Vec<Job> = self.slots.iter_mut().flat_map(|slot| slot.queue.drain(..)).collect();
        for job in on_lines.iter().chain(&queued) {
            self.record(job, now_ns, Outcome::InFlight, 0);
        }
        let last = Sample::take(now_ns, 0, &self.lines.engine().statistics());
        let cost = Cost::between(&self.start_sample.unwrap_or(last), &self.end_sample.unwrap_or(last));
        for slot in &self.slots {
            self.figures.summary.foreign_assets += slot.browser.foreign_assets;
            if let Some(started_ns) = slot.browser.loading_since_ns() {
                self.figures.unfinished(started_ns);
            }
        }
        // A user's lines are not meant to carry the same.
        let (requests_per_connection, _) = self.lines.spread();
        let late_intervals = self.recorder.late_rolls();
        let (counts, warm_up) = self.recorder.end(now_ns);
        assert!(
            counts.balances() && warm_up.balances(),
            "invariant: every planned request is accounted for once: {counts:?}"
        );
        let archive =
            self.recording.as_ref().map(|recording| recording.archive(self.world.authority, self.world.unix_offset_ns));
        let finished = Finished {
            counts,
            warm_up,
            submitted: self.submitted,
            cost,
            measured_ns: now_ns.min(self.window.end_ns).saturating_sub(self.window.measure_ns),
            late_intervals,
            interrupted,
            connections_opened: self.lines.opened(),
            requests_per_connection,
            unasked: self.lines.unasked(),
            browse: Some(self.figures.end(self.world.scenario)),
            ..Finished::default()
        };
        (finished, archive)
    }
}

fn user_lines(user: u32) -> impl Iterator<Item = u32> {
    let first = user * LINES_PER_USER;
    first..first + LINES_PER_USER
}
