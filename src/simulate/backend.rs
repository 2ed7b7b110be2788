//! The scripted back-end server: takes orders by their idempotency keys, and is as unreliable as such servers are.

use std::collections::BTreeMap;

use crate::engine::Address;
use crate::engine::sim::{Peer, Random, Read, World};

use super::trace::Trace;
use super::wire::Message;

/// Where it listens.
pub const ADDRESS: &str = "10.9.9.9:80";

/// Bytes of one read.
const PIECE_BYTES: usize = 4096;

struct Connection {
    peer: Peer,
    input: Vec<u8>,
    /// When the answer is sent, and what it is.
    answer: Option<(u64, &'static str)>,
}

/// The server and what it has done.
pub struct Backend {
    listener: usize,
    connections: Vec<Connection>,
    /// What was ordered under each key: the one time that it took effect.
    pub effects: BTreeMap<String, String>,
    pub repeated: u64,
    /// From here on everything works.
    pub fair: bool,
}

impl Backend {
    pub fn new(world: &World) -> Self {
        Self {
            listener: world.listen(&address()),
            connections: Vec::new(),
            effects: BTreeMap::new(),
            repeated: 0,
            fair: false,
        }
    }

    /// When a step has something to do, as far as is known.
    pub fn due_ns(&self, world: &World) -> u64 {
        let accept = world.acceptable_at(self.listener).unwrap_or(u64::MAX);
        let due = |connection: &Connection| match connection.answer {
            Some((at, _)) => at,
            None => world.readable_at(connection.peer).unwrap_or(u64::MAX),
        };
        self.connections.iter().map(due).min().unwrap_or(u64::MAX).min(accept)
    }

    /// Does what is due.
    ///
    /// # Errors
    /// A key that comes again with another order; one sentence.
    pub fn step(&mut self, world: &World, random: &mut Random, trace: &mut Trace) -> Result<(), String> {
        while let Some(peer) = world.accept(self.listener) {
            self.connections.push(Connection { peer, input: Vec::new(), answer: None });
        }
        let mut index = 0;
        while index < self.connections.len() {
            if self.serve(index, world, random, trace)? {
                index += 1;
            } else {
                self.connections.swap_remove(index);
            }
        }
        Ok(())
    }

    /// One connection; false when it is over.
    fn serve(&mut self, index: usize, world: &World, random: &mut Random, trace: &mut Trace) -> Result<bool, String> {
        let connection = &mut self.connections[index];
        let peer = connection.peer;
        if let Some((at, text)) = connection.answer {
            if at > world.now_ns() {
                return Ok(true);
            }
            // An answer fits every window, and a broken connection is the asker's matter.
            let _ = world.write(peer, text.as_bytes());
            world.close(peer);
            return Ok(false);
        }
        match world.read(peer, PIECE_BYTES) {
            Read::Bytes(bytes) => connection.input.extend_from_slice(&bytes),
            Read::Pending => return Ok(true),
            Read::Eof | Read::Reset => {
                world.close(peer);
                return Ok(false);
            }
        }
        let Some(request) = Message::take(&mut connection.input)? else { return Ok(true) };
        let key = request.field("idempotency-key").ok_or("an order without idempotency key")?.to_owned();
        let mood = if self.fair { 0 } else { random.below(100) };
        let (effect, wait_ns, text) = match mood {
            0..=69 => (true, random.below(300_000), "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"),
            70..=79 => (false, 0, "HTTP/1.1 500 Broken\r\nContent-Length: 0\r\n\r\n"),
            80..=84 => (true, 0, "HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n"),
            85..=89 => (true, random.below(300_000_000), "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"),
            90..=94 => (true, 0, ""),
            _ => (false, 0, ""),
        };
        trace.line(|| format!("back-end: {key}: effect {effect}, answers {:?}", text.lines().next().unwrap_or("")));
        if effect {
            let order = request.text();
            match self.effects.get(&key) {
                Some(known) if *known != order => {
                    return Err(format!("the key `{key}` came with {known} and then with {order}"));
                }
                Some(_) => self.repeated += 1,
                None => drop(self.effects.insert(key, order)),
            }
        }
        connection.answer = Some((world.now_ns() + wait_ns, text));
        Ok(true)
    }
}

/// [`ADDRESS`].
pub fn address() -> Address {
    ADDRESS.parse().expect("invariant: a constant address")
}
