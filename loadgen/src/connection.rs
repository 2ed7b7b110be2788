//! Connections of the generator: one request at a time on each, and what every engine event means for it.
//!
//! ```text
//!   Vacant ──open──▶ Connecting ──▶ Idle ◀──────────────┐
//!     ▲                  │            │ send             │ complete, reusable
//!     └── refused, reset, eof, ◀──────┴──▶ Busy ─────────┘
//!         timeout, not reusable
//! ```
//! Whoever gives a line up makes it vacant at once; the engine's slot closes in its own time, and what it still says
//! about the old connection is ignored by the generation.

use std::io;

use twintier::engine::{Address, Chunk, Close, CloseReason, Config, Conn, Engine, Event, Waker};

use crate::failure::Failure;
use crate::response::{ResponseReader, Sink};

/// Requests of a line in the mean, below which their spread is that of chance.
const SPREAD_REQUESTS_MIN: f64 = 1000.0;

/// What a line is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// No connection.
    Vacant,
    /// The connect is in flight.
    Connecting,
    /// Open, without a request.
    Idle,
    /// A request was sent and its response is not complete.
    Busy,
}

/// What came of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    Nothing,
    /// The connection is open: a request may be sent.
    Connected,
    /// The response is complete; the line is idle if it can be used again, vacant if not.
    Complete,
    /// The request (or the connect for it) failed; the line is vacant.
    Failed(Failure),
    /// The peer closed an idle connection; the line is vacant.
    Lost,
}

/// A place for one connection after the other.
#[derive(Debug)]
pub struct Line {
    pub state: State,
    /// Present unless vacant.
    conn: Option<Conn>,
    pub reader: ResponseReader,
    /// A byte of the current response has come.
    pub first_byte_seen: bool,
    /// Requests that were sent on this line.
    pub request_count: u64,
    /// The same, on its present connection.
    connection_request_count: u32,
    /// The turn after which its request was ordered: no event of that turn can answer it.
    sent_in_turn: u64,
}

/// All lines of one thread, on one engine.
pub struct Lines<E: Engine> {
    engine: E,
    address: Address,
    lines: Vec<Line>,
    /// Which life of an engine slot belongs to which line.
    owners: Vec<Option<(u32, u32)>>,
    opened: u64,
    connection_requests_max: u32,
    turn_count: u64,
    unasked: u64,
}

impl<E: Engine> Lines<E> {
    /// Vacant lines to `address`.
    ///
    /// # Errors
    /// What the engine says about the kernel.
    pub fn new(count: u32, address: Address) -> io::Result<Self> {
        let config = engine_config(count);
        let engine = E::new(&config, Waker::new()?)?;
        let line = || Line {
            state: State::Vacant,
            conn: None,
            reader: ResponseReader::new(),
            first_byte_seen: false,
            request_count: 0,
            connection_request_count: 0,
            sent_in_turn: 0,
        };
        Ok(Self {
            engine,
            address,
            lines: (0..count).map(|_| line()).collect(),
            owners: vec![None; usize::try_from(config.connections_max).expect("invariant: a u32 fits")],
            opened: 0,
            connection_requests_max: u32::MAX,
            turn_count: 0,
            unasked: 0,
        })
    }

    /// Gives every connection up after so many requests.
    pub fn limit_requests(&mut self, connection_requests_max: u32) {
        self.connection_requests_max = connection_requests_max;
    }

    /// Whether the next request of a line is the last one on its connection.
    pub fn at_last_request(&self, index: u32) -> bool {
        self.lines[position(index)].connection_request_count + 1 >= self.connection_requests_max
    }

    pub fn line(&self, index: u32) -> &Line {
        &self.lines[position(index)]
    }

    /// The numbers of all lines.
    pub fn indexes(&self) -> std::ops::Range<u32> {
        0..u32::try_from(self.lines.len()).expect("invariant: made from a u32")
    }

    pub fn iter(&self) -> impl Iterator<Item = &Line> {
        self.lines.iter()
    }

    pub fn engine(&self) -> &E {
        &self.engine
    }

    /// Connections that were established.
    pub fn opened(&self) -> u64 {
        self.opened
    }

    /// Times that a connection brought bytes without a request to answer.
    pub fn unasked(&self) -> u64 {
        self.unasked
    }

    /// Fewest and most requests of a line, and how far the further of the two is from the mean, as a share of it;
    /// without the latter if the mean is too small to tell chance from choice.
    pub fn spread(&self) -> ([u64; 2], Option<f64>) {
        spread(self.lines.iter().map(|line| line.request_count))
    }

    /// Submits and waits; see [`Engine::turn`].
    ///
    /// # Errors
    /// The engine itself failed.
    pub fn turn(&mut self, until_ns: u64, events: &mut Vec<Event>) -> io::Result<()> {
        self.turn_count += 1;
        self.engine.turn(until_ns, events)
    }

    /// Starts to connect a vacant line.
    ///
    /// # Errors
    /// The failure of the request that wanted it.
    pub fn open(&mut self, index: u32) -> Result<(), Failure> {
        let conn = self.engine.connect(&self.address).map_err(|error| Failure::of_io(&error, true))?;
        self.engine.receive(conn, true);
        self.owners[position(conn.slot)] = Some((conn.generation, index));
        let line = &mut self.lines[position(index)];
        assert!(line.state == State::Vacant, "invariant: only a vacant line connects");
        line.conn = Some(conn);
        line.state = State::Connecting;
        line.connection_request_count = 0;
        // What the last connection left behind says nothing about this one.
        line.first_byte_seen = false;
        line.reader.expect(false);
        Ok(())
    }

    /// Sends a request on an idle line; `head` tells that its method is HEAD.
    pub fn send(&mut self, index: u32, request: Chunk, head: bool) {
        let line = &mut self.lines[position(index)];
        assert!(line.state == State::Idle, "invariant: only an idle line takes a request");
        line.state = State::Busy;
        line.first_byte_seen = false;
        line.sent_in_turn = self.turn_count;
        line.request_count += 1;
        line.connection_request_count = line.connection_request_count.saturating_add(1);
        line.reader.expect(head);
        let conn = line.conn.expect("invariant: an idle line has a connection");
        self.engine.send(conn, request);
    }

    /// Makes a line vacant. A connection in the middle of something is reset; an idle one is closed in order.
    pub fn give_up(&mut self, index: u32) {
        let line = &mut self.lines[position(index)];
        if let Some(conn) = line.conn.take() {
            let how = if line.state == State::Idle { Close::Flush } else { Close::Reset };
            self.engine.close(conn, how);
            self.owners[position(conn.slot)] = None;
        }
        line.state = State::Vacant;
    }

    /// The line that an event is about, if it is about one that is still in use.
    pub fn owner(&self, event: &Event) -> Option<u32> {
        let conn = match event {
            Event::Connected { conn, .. }
            | Event::Data { conn, .. }
            | Event::Eof { conn }
            | Event::Closed { conn, .. } => conn,
            Event::Accepted { .. } | Event::Sent { .. } | Event::Timer { .. } | Event::Woken => return None,
        };
        let (generation, index) = self.owners[position(conn.slot)]?;
        (generation == conn.generation).then_some(index)
    }

    /// Takes an event of a line; the body and the fields of its response go to `sink`.
    pub fn take(&mut self, index: u32, event: Event, sink: &mut impl Sink) -> Progress {
        let line = &mut self.lines[position(index)];
        let progress = match event {
            Event::Connected { result: Ok(()), .. } => {
                line.state = State::Idle;
                self.opened += 1;
                return Progress::Connected;
            }
            Event::Connected { result: Err(error), .. } => Progress::Failed(Failure::of_io(&error, true)),
            Event::Data { bytes, .. } => {
                let asked = line.state == State::Busy && line.sent_in_turn < self.turn_count;
                self.unasked += u64::from(!asked);
                line.data(&bytes, asked, sink)
            }
            Event::Eof { .. } => line.eof(),
            Event::Closed { reason, .. } => line.closed(reason),
            Event::Accepted { .. } | Event::Sent { .. } | Event::Timer { .. } | Event::Woken => Progress::Nothing,
        };
        match progress {
            Progress::Nothing | Progress::Connected => {}
            Progress::Complete if self.may_stay(index) => {}
            Progress::Complete | Progress::Failed(_) | Progress::Lost => self.give_up(index),
        }
        progress
    }

    /// The connection of a complete response serves for another request.
    fn may_stay(&self, index: u32) -> bool {
        let line = &self.lines[position(index)];
        line.reader.keep_alive() && line.connection_request_count < self.connection_requests_max
    }
}

impl Line {
    fn data(&mut self, bytes: &[u8], asked: bool, sink: &mut impl Sink) -> Progress {
        match self.state {
            // An answer that came before its request: it is the answer to something else.
            State::Busy if !asked => Progress::Failed(Failure::Parse),
            State::Busy => {
                self.first_byte_seen = true;
                match self.reader.feed(bytes, sink) {
                    Ok(true) => self.complete(),
                    Ok(false) => Progress::Nothing,
                    Err(_) => Progress::Failed(Failure::Parse),
                }
            }
            State::Connecting => Progress::Failed(Failure::Parse),
            // Bytes that nobody asked for: the connection cannot be trusted with another request.
            State::Idle | State::Vacant => Progress::Lost,
        }
    }

    fn eof(&mut self) -> Progress {
        match self.state {
            State::Busy if self.reader.eof() => self.complete(),
            State::Busy | State::Connecting => Progress::Failed(Failure::EofMidResponse),
            State::Idle | State::Vacant => Progress::Lost,
        }
    }

    fn closed(&mut self, reason: CloseReason) -> Progress {
        let failure = |connecting| match reason {
            CloseReason::Failed(errno) => Failure::of_io(&io::Error::from_raw_os_error(errno), connecting),
            CloseReason::Ordered => Failure::Reset,
        };
        match self.state {
            State::Connecting => Progress::Failed(failure(true)),
            State::Busy => Progress::Failed(failure(false)),
            State::Idle | State::Vacant => Progress::Lost,
        }
    }

    fn complete(&mut self) -> Progress {
        self.state = State::Idle;
        Progress::Complete
    }

    /// What a timeout now is called.
    pub fn timeout_kind(&self) -> Failure {
        match self.state {
            State::Connecting => Failure::ConnectTimeout,
            State::Busy if self.reader.status().is_some() => Failure::BodyTimeout,
            State::Busy | State::Idle | State::Vacant => Failure::HeaderTimeout,
        }
    }
}

/// See [`Lines::spread`].
fn spread(counts: impl ExactSizeIterator<Item = u64> + Clone) -> ([u64; 2], Option<f64>) {
    let (fewest, most) = (counts.clone().min().unwrap_or(0), counts.clone().max().unwrap_or(0));
    // Counts of one run are far below 2^53.
    let mean = counts.clone().sum::<u64>() as f64 / counts.len().max(1) as f64;
    let distance = (most as f64 - mean).max(mean - fewest as f64);
    ([fewest, most], (mean >= SPREAD_REQUESTS_MIN).then_some(distance / mean))
}

/// An engine for `count` lines: as many slots again for connections on their way out, no send buffers to speak of
/// (requests are constant or shared bytes), and two receive buffers a line.
fn engine_config(count: u32) -> Config {
    let buffers = (count.saturating_mul(2)).clamp(256, 32_768).next_power_of_two();
    let entries = count.clamp(64, 2048).next_power_of_two();
    Config {
        connections_max: count.saturating_mul(2).saturating_add(64),
        receive_buffers: u16::try_from(buffers).expect("invariant: at most 32768"),
        receive_buffer_bytes: 8192,
        send_buffers: 1,
        send_buffer_bytes: 4096,
        submission_entries: entries,
        completion_entries: entries * 8,
        linger_ms: 200,
        events_max: 1024,
    }
}

/// A slot or line number as a place in a vector.
pub fn position(index: u32) -> usize {
    usize::try_from(index).expect("invariant: pointers have at least 32 bits")
}

#[cfg(test)]
mod tests {
    use super::spread;

    /// Rule 27: a connection that carries too little is as far from the mean as one that carries too much.
    #[test]
    fn the_spread_is_that_of_the_furthest_connection() {
        let of = |counts: &[u64]| spread(counts.iter().copied());
        assert_eq!(of(&[1000, 1000]), ([1000, 1000], Some(0.0)));
        assert_eq!(of(&[1300, 900, 900, 900]), ([900, 1300], Some(0.3)));
        assert_eq!(of(&[700, 1100, 1100, 1100]), ([700, 1100], Some(0.3)));
        assert_eq!(of(&[900, 1000]), ([900, 1000], None), "too few to tell chance from choice");
        assert_eq!(of(&[]), ([0, 0], None));
    }
}
