//! Scripted browsers: each has a user, asks one thing after another, and holds the cluster to its answers.
//!
//! ```text
//!   Resting ──▶ Connecting ──▶ Sending ──▶ Waiting ──answer──▶ judged ──▶ Resting
//!                   │refused       └─broken────┴──▶ nobody knows ─────────▶ Resting
//! ```

use crate::authority::session::SessionKey;
use crate::engine::Address;
use crate::engine::sim::{Peer, Random, Read, World};

use super::application;
use super::judge;
use super::ledger::{Ledger, Level};
use super::operation::{Kind, Operation};
use super::trace::Trace;
use super::wire::Message;

/// Nothing may keep a browser waiting for longer, once all troubles are over.
pub const PATIENCE_NS: u64 = 20_000_000_000;
/// Between two looks at a connection that tells nothing.
const LOOK_NS: u64 = 1_000_000;
/// After a refused connection.
const AGAIN_NS: u64 = 5_000_000;
/// Bytes of one read.
const PIECE_BYTES: usize = 8192;
/// When sessions end, in Unix milliseconds: long after every clock of a seed.
const EXPIRES_MS: u64 = 4_000_000_000_000;

#[derive(Debug)]
enum State {
    Resting { until_ns: u64 },
    Connecting { operation: Operation, since_ns: u64 },
    Sending { operation: Operation, bytes: Vec<u8>, sent: usize, look_ns: u64 },
    Waiting { operation: Operation, since_ns: u64 },
}

/// One browser.
#[derive(Debug)]
pub struct Browser {
    number: usize,
    user: String,
    cookie: String,
    csrf: String,
    connection: Option<Peer>,
    input: Vec<u8>,
    state: State,
    /// The notes that it writes now, by level; a new one begins where an outcome is unknown.
    notes: [u64; 4],
    orders: u64,
    /// What it rests at most between an answer and the next request, mostly.
    pace_ns: u64,
    /// What it looks at next, at once: the note that it has just written.
    next: Option<(Level, String)>,
    /// It asks nothing more.
    pub ending: bool,
}

impl Browser {
    pub fn new(number: usize, user: String, key: &SessionKey, pace_ns: u64, now_ns: u64) -> Self {
        let cookie = key.sign(number as u128 + 1, &user, EXPIRES_MS);
        let csrf = key.verify(&cookie, 0).expect("invariant: our own cookie").csrf;
        Self {
            number,
            user,
            cookie,
            csrf,
            connection: None,
            input: Vec::new(),
            state: State::Resting { until_ns: now_ns },
            notes: [0; 4],
            orders: 0,
            pace_ns,
            next: None,
            ending: false,
        }
    }

    /// Whether an answer is still to come.
    pub fn is_busy(&self) -> bool {
        !matches!(self.state, State::Resting { .. })
    }

    /// When a step has something to do, as far as is known.
    pub fn due_ns(&self, world: &World) -> u64 {
        match &self.state {
            State::Resting { .. } if self.ending => u64::MAX,
            State::Resting { until_ns } => *until_ns,
            State::Connecting { .. } => {
                self.connection.and_then(|peer| world.connecting_until(peer)).unwrap_or_else(|| world.now_ns())
            }
            State::Sending { look_ns, .. } => *look_ns,
            State::Waiting { since_ns, .. } => {
                let readable = self.connection.and_then(|peer| world.readable_at(peer));
                readable.unwrap_or(u64::MAX).min(since_ns + PATIENCE_NS)
            }
        }
    }

    /// Does what is due. `gone` lets it leave in the middle of a body.
    ///
    /// # Errors
    /// What the cluster did wrong; one sentence.
    pub fn step(
        &mut self,
        world: &World,
        to: &Address,
        random: &mut Random,
        ledger: &mut Ledger,
        gone: bool,
        trace: &mut Trace,
    ) -> Result<(), String> {
        let now = world.now_ns();
        match std::mem::replace(&mut self.state, State::Resting { until_ns: now }) {
            State::Resting { .. } if self.ending => Ok(()),
            State::Resting { until_ns } if until_ns > now => {
                self.state = State::Resting { until_ns };
                Ok(())
            }
            State::Resting { .. } => {
                let operation = self.choose(random, ledger);
                // Connections are used again, and now and then not: the first dispatcher has something to do.
                let elsewhere = if matches!(operation.kind, Kind::Get(_)) { 500 } else { 150 };
                if self.connection.is_none() || random.chance(elsewhere) {
                    self.hang_up(world);
                    self.connection = Some(world.connect(to));
                }
                self.state = State::Connecting { operation, since_ns: now };
                Ok(())
            }
            State::Connecting { operation, since_ns } => {
                match self.connection.and_then(|peer| world.connected(peer)) {
                    Some(true) => {
                        let operation = operation.sent(ledger, &self.user);
                        trace.line(|| format!("browser {}: {operation}", self.number));
                        let bytes = operation.encode(&self.cookie, &self.csrf);
                        self.state = State::Sending { operation, bytes, sent: 0, look_ns: now };
                    }
                    Some(false) => self.rest(world, now + AGAIN_NS, true),
                    None => self.state = State::Connecting { operation, since_ns },
                }
                Ok(())
            }
            State::Sending { operation, bytes, sent, .. } => {
                self.send(world, random, ledger, gone, trace, operation, bytes, sent);
                Ok(())
            }
            State::Waiting { operation, since_ns } => self.wait(world, random, ledger, trace, operation, since_ns),
        }
    }

    #[allow(clippy::too_many_arguments)]
    fn send(
        &mut self,
        world: &World,
        random: &mut Random,
        ledger: &mut Ledger,
        gone: bool,
        trace: &mut Trace,
        operation: Operation,
        bytes: Vec<u8>,
        sent: usize,
    ) {
        let now = world.now_ns();
        let Some(peer) = self.connection else { return };
        let leaves = gone && operation.is_write() && random.chance(300);
        let end = if leaves { sent + random.size(bytes.len() - sent) } else { bytes.len() };
        let Some(count) = world.write(peer, &bytes[sent..end]) else {
            return self.lose(world, ledger, trace, &operation);
        };
        if leaves {
            trace.line(|| format!("browser {}: leaves after {} of {} bytes", self.number, sent + count, bytes.len()));
            if random.chance(500) {
                world.reset(peer);
            } else {
                world.shutdown(peer);
                world.close(peer);
            }
            self.connection = None;
            return self.lose(world, ledger, trace, &operation);
        }
        self.state = if sent + count == bytes.len() {
            State::Waiting { operation, since_ns: now }
        } else {
            State::Sending { operation, bytes, sent: sent + count, look_ns: now + LOOK_NS }
        };
    }

    fn wait(
        &mut self,
        world: &World,
        random: &mut Random,
        ledger: &mut Ledger,
        trace: &mut Trace,
        operation: Operation,
        since_ns: u64,
    ) -> Result<(), String> {
        let now = world.now_ns();
        let Some(peer) = self.connection else { return Ok(()) };
        match world.read(peer, PIECE_BYTES) {
            Read::Bytes(bytes) => self.input.extend_from_slice(&bytes),
            Read::Pending if now >= since_ns + PATIENCE_NS => {
                if self.ending {
                    return Err(format!("browser {} waits for {operation} since {since_ns} ns", self.number));
                }
                self.lose(world, ledger, trace, &operation);
                return Ok(());
            }
            Read::Pending => {}
            Read::Eof | Read::Reset => {
                self.lose(world, ledger, trace, &operation);
                return Ok(());
            }
        }
        let Some(answer) = Message::take(&mut self.input)? else {
            self.state = State::Waiting { operation, since_ns };
            return Ok(());
        };
        trace.line(|| format!("browser {}: {} to {operation}: {}", self.number, answer.line, answer.text()));
        ledger.answers += 1;
        let closes = answer.field("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
        let known = judge::answer(&operation, &answer, &self.user, self.number, ledger)
            .map_err(|wrong| format!("browser {}, {operation}: {wrong}", self.number))?;
        if !known {
            self.begin_anew(&operation);
        }
        let written = match operation.kind {
            Kind::Put(level) if known => Some(level),
            Kind::Show if known => Some(Level::Durable),
            Kind::Put(_)
            | Kind::Show
            | Kind::Get(_)
            | Kind::Remove
            | Kind::Count
            | Kind::Share(_)
            | Kind::Order
            | Kind::Gate
            | Kind::Guarded
            | Kind::Grant(_) => None,
        };
        if let Some(level) = written.filter(|_| random.chance(500)) {
            self.next = Some((level, operation.key));
            self.rest(world, now, closes);
            return Ok(());
        }
        let pause_max = if random.chance(100) { 10 * self.pace_ns } else { self.pace_ns };
        let pause = random.below(pause_max);
        self.rest(world, now + pause, closes);
        Ok(())
    }

    /// The connection broke: nobody knows what became of the request.
    fn lose(&mut self, world: &World, ledger: &mut Ledger, trace: &mut Trace, operation: &Operation) {
        trace.line(|| format!("browser {}: never hears of {operation}", self.number));
        judge::lost(operation, ledger);
        self.begin_anew(operation);
        self.rest(world, world.now_ns() + AGAIN_NS, true);
    }

    fn rest(&mut self, world: &World, until_ns: u64, hang_up: bool) {
        if hang_up {
            self.hang_up(world);
        }
        self.state = State::Resting { until_ns };
    }

    fn hang_up(&mut self, world: &World) {
        self.input.clear();
        if let Some(peer) = self.connection.take() {
            world.close(peer);
        }
    }

    /// A note whose last write has no known outcome is written no more.
    fn begin_anew(&mut self, operation: &Operation) {
        match operation.kind {
            Kind::Put(Level::Durable) | Kind::Show => self.notes[0] += 1,
            Kind::Put(Level::All) => self.notes[1] += 1,
            Kind::Put(Level::Local) => self.notes[2] += 1,
            Kind::Guarded => self.notes[3] += 1,
            Kind::Remove => self.notes[0] += 1,
            Kind::Get(_) | Kind::Count | Kind::Share(_) | Kind::Order | Kind::Gate | Kind::Grant(_) => {}
        }
    }

    fn note(&self, level: Level) -> String {
        let (letter, number) = match level {
            Level::Durable => ('d', self.notes[0]),
            Level::All => ('a', self.notes[1]),
            Level::Local => ('l', self.notes[2]),
        };
        format!("{letter}-{}-{number}", self.number)
    }

    fn choose(&mut self, random: &mut Random, ledger: &Ledger) -> Operation {
        let value = format!("{}-{}", self.number, ledger.answers + ledger.unknown);
        let of = |kind: Kind, key: String| Operation::new(kind, key, value.clone());
        if let Some((level, key)) = self.next.take() {
            return of(Kind::Get(level), key);
        }
        if self.user == application::CHIEF {
            let (number, on) = (random.size(2), random.chance(500));
            return Operation::new(Kind::Grant(on), application::user(number), application::roles(number, on));
        }
        let level = [Level::Durable, Level::Durable, Level::Durable, Level::All, Level::Local][random.size(5)];
        match random.below(100) {
            0..=19 => of(Kind::Put(level), self.note(level)),
            20..=27 => of(Kind::Show, self.note(Level::Durable)),
            28..=41 => of(Kind::Get(level), self.note(level)),
            42..=51 => of(Kind::Remove, self.note(Level::Durable)),
            52..=61 => of(Kind::Count, format!("c-{}", random.below(2))),
            62..=74 => {
                let level = if random.chance(500) { Level::All } else { Level::Local };
                of(Kind::Share(level), format!("s-{}", random.below(2)))
            }
            75..=80 => {
                self.orders += 1;
                of(Kind::Order, format!("o-{}-{}", self.number, self.orders))
            }
            81..=89 => of(Kind::Gate, String::new()),
            _ => of(Kind::Guarded, format!("g-{}-{}", self.number, self.notes[3])),
        }
    }
}
