//! Turns an engine until something happens, or fails with the name of what did not happen.

use std::collections::VecDeque;
use std::time::Duration;

use twintier::engine::{Address, CloseReason, Config, Conn, Event, Waker};

use crate::subject::Subject;

/// How long anything may take before a test fails: far more than it ever needs.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// An engine that listens on a port of the kernel's choice.
pub struct Driver<E> {
    pub engine: E,
    pub waker: Waker,
    pub address: Address,
    seen: VecDeque<Event>,
    events: Vec<Event>,
}

/// Few connections and small pools: a test sees their ends.
pub fn small() -> Config {
    Config {
        connections_max: 64,
        receive_buffers: 64,
        receive_buffer_bytes: 4096,
        send_buffers: 64,
        send_buffer_bytes: 4096,
        linger_ms: 200,
        ..Config::default()
    }
}

impl<E: Subject> Driver<E> {
    pub fn new(config: &Config) -> Self {
        Self::on(config, &"127.0.0.1:0".parse().unwrap())
    }

    pub fn on(config: &Config, address: &Address) -> Self {
        let waker = Waker::new().unwrap();
        let mut engine = E::new(config, waker.clone()).unwrap();
        let address = engine.listen_near(address);
        Self { engine, waker, address, seen: VecDeque::new(), events: Vec::new() }
    }

    /// Hands events to `pick` until it returns something.
    pub fn wait<T>(&mut self, what: &str, mut pick: impl FnMut(&mut E, Event) -> Option<T>) -> T {
        let deadline_ns = E::clock_ns() + u64::try_from(PATIENCE.as_nanos()).unwrap();
        loop {
            while let Some(event) = self.seen.pop_front() {
                if let Some(found) = pick(&mut self.engine, event) {
                    return found;
                }
            }
            let now_ns = E::clock_ns();
            assert!(now_ns < deadline_ns, "{}: waited in vain for {what}; {:?}", E::NAME, self.engine.statistics());
            self.engine.turn((now_ns + 20_000_000).min(deadline_ns), &mut self.events).unwrap();
            E::after_turn();
            self.seen.extend(self.events.drain(..));
        }
    }

    /// Everything that happens within a time.
    pub fn during(&mut self, time: Duration) -> Vec<Event> {
        let end_ns = E::clock_ns() + u64::try_from(time.as_nanos()).unwrap();
        let mut all: Vec<Event> = self.seen.drain(..).collect();
        while E::clock_ns() < end_ns {
            self.engine.turn(end_ns, &mut all).unwrap();
            E::after_turn();
        }
        all
    }

    /// Drops what was handed over already: only later events count.
    pub fn forget(&mut self) {
        self.seen.clear();
    }

    pub fn accepted(&mut self) -> Conn {
        self.wait("a connection", |_, event| match event {
            Event::Accepted { conn, .. } => Some(conn),
            _ => None,
        })
    }

    /// Waits for the end of a connection and checks that it is its only end.
    pub fn closed(&mut self, conn: Conn) -> CloseReason {
        let reason = self.wait("the end of a connection", |_, event| match event {
            Event::Closed { conn: which, reason } if which == conn => Some(reason),
            _ => None,
        });
        let after = self.during(Duration::from_millis(20));
        assert!(!after.iter().any(|event| concerns(event, conn)), "nothing follows the end: {after:?}");
        reason
    }

    /// A peer and the engine's end of its connection.
    pub fn peer(&mut self) -> (E::Peer, Conn) {
        let peer = E::peer_to(&self.address).unwrap();
        (peer, self.accepted())
    }
}

/// Whether an event is one of `conn`.
pub fn concerns(event: &Event, conn: Conn) -> bool {
    match event {
        Event::Accepted { conn: which, .. }
        | Event::Connected { conn: which, .. }
        | Event::Data { conn: which, .. }
        | Event::Eof { conn: which }
        | Event::Sent { conn: which }
        | Event::Closed { conn: which, .. } => *which == conn,
        Event::Timer { .. } | Event::Woken => false,
    }
}

/// Bytes that differ from place to place, so that loss and exchange show.
pub fn pattern(length: usize) -> Vec<u8> {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    (0..length)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()[0]
        })
        .collect()
}
