//! Scripted upstream servers, from well-behaved to hostile.

use std::collections::{HashMap, VecDeque};

use twintier::engine::Address;
use twintier::engine::sim::{Peer, Random, Read, World};

use super::message::{self, pattern};

enum Act {
    Write(Vec<u8>),
    Shutdown,
    Reset,
    Close,
}

struct Connection {
    peer: Peer,
    input: Vec<u8>,
    /// What is still to do, and when.
    acts: VecDeque<(u64, Act)>,
    /// The request in hand was answered (or its answer planned).
    planned: bool,
    /// The bytes of this request are all read.
    whole: bool,
    /// After such an answer nothing is expected any more.
    last: bool,
    gone: bool,
    /// Sends back what comes, once its 101 is written.
    echoes: bool,
    paused_until: u64,
}

/// What a server is up to as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mood {
    Well,
    /// Its process has died: nobody listens, every connection is reset.
    Dead,
    /// It takes connections and says nothing.
    Hung,
}

pub struct Upstream {
    address: Address,
    listener: usize,
    mood: Mood,
    mood_until_ns: u64,
    /// It dies, hangs and comes back.
    pub moody: bool,
    connections: Vec<Connection>,
    /// Every request behaves well.
    pub fair: bool,
    /// Safe requests may come before the answers to earlier ones are written.
    pub pipelined: bool,
    /// Times that each request with a body arrived whole.
    pub arrived: HashMap<u64, u32>,
}

impl Upstream {
    pub fn new(world: &World, address: Address, fair: bool, pipelined: bool) -> Self {
        let listener = world.listen(&address);
        Self {
            address,
            listener,
            mood: Mood::Well,
            mood_until_ns: 0,
            moody: false,
            connections: Vec::new(),
            fair,
            pipelined,
            arrived: HashMap::new(),
        }
    }

    fn change_mood(&mut self, world: &World, random: &mut Random) {
        self.mood_until_ns = world.now_ns() + random.below(4_000_000_000);
        let before = self.mood;
        self.mood = match random.below(10) {
            0..=5 => Mood::Well,
            6 | 7 => Mood::Dead,
            _ => Mood::Hung,
        };
        if self.mood == Mood::Dead && before != Mood::Dead {
            world.stop(self.listener);
            for connection in self.connections.drain(..) {
                world.reset(connection.peer);
            }
        } else if self.mood != Mood::Dead && before == Mood::Dead {
            self.listener = world.listen(&self.address);
        }
    }

    /// Everything that can be done now; says when there is more to do.
    pub fn step(&mut self, world: &World, random: &mut Random) -> Result<u64, String> {
        let now = world.now_ns();
        if self.moody && now >= self.mood_until_ns {
            self.change_mood(world, random);
        }
        match self.mood {
            Mood::Well => {}
            Mood::Dead | Mood::Hung => return Ok(self.mood_until_ns),
        }
        while let Some(peer) = world.accept(self.listener) {
            let paused_until = if !self.fair && random.chance(50) { now + random.below(3_000_000_000) } else { 0 };
            self.connections.push(Connection {
                peer,
                input: Vec::new(),
                acts: VecDeque::new(),
                planned: false,
                whole: false,
                last: false,
                gone: false,
                echoes: false,
                paused_until,
            });
        }
        let mut next = if self.moody { self.mood_until_ns } else { u64::MAX };
        for index in 0..self.connections.len() {
            next = next.min(self.step_one(index, world, random)?);
        }
        self.connections.retain(|connection| !connection.gone);
        Ok(next)
    }

    fn step_one(&mut self, index: usize, world: &World, random: &mut Random) -> Result<u64, String> {
        let now = world.now_ns();
        let connection = &mut self.connections[index];
        let peer = connection.peer;
        if now < connection.paused_until {
            return Ok(connection.paused_until);
        }
        let mut next = u64::MAX;
        match world.read(peer, 1 + random.size(20_000)) {
            Read::Bytes(bytes) => {
                connection.input.extend_from_slice(&bytes);
                next = now;
            }
            Read::Pending => next = next.min(world.readable_at(peer).unwrap_or(u64::MAX)),
            Read::Eof => {
                if connection.acts.is_empty() {
                    world.close(peer);
                    connection.gone = true;
                    return Ok(now);
                }
            }
            Read::Reset => {
                world.close(peer);
                connection.gone = true;
                return Ok(now);
            }
        }
        self.understand(index, now, random)?;
        let connection = &mut self.connections[index];
        while let Some((at, act)) = connection.acts.front_mut() {
            if *at > now {
                next = next.min(*at);
                break;
            }
            match act {
                Act::Write(bytes) => match world.write(peer, bytes) {
                    None => {
                        world.close(peer);
                        connection.gone = true;
                        return Ok(now);
                    }
                    Some(count) => {
                        bytes.drain(..count);
                        if !bytes.is_empty() {
                            next = next.min(now + 500_000);
                            break;
                        }
                    }
                },
                Act::Shutdown => world.shutdown(peer),
                Act::Reset => {
                    world.reset(peer);
                    connection.gone = true;
                }
                Act::Close => {
                    world.close(peer);
                    connection.gone = true;
                }
            }
            connection.acts.pop_front();
            next = now;
        }
        if connection.echoes && connection.planned && connection.acts.is_empty() {
            connection.planned = false;
        }
        if connection.acts.is_empty() && connection.planned && connection.whole && !connection.last {
            connection.planned = false;
            connection.whole = false;
            if !connection.input.is_empty() {
                next = now;
            }
        }
        Ok(next)
    }

    fn understand(&mut self, index: usize, now: u64, random: &mut Random) -> Result<(), String> {
        let fair = self.fair;
        let connection = &mut self.connections[index];
        if connection.echoes {
            if connection.input.is_empty() {
                return Ok(());
            }
            if connection.planned {
                return Err("bytes before the 101 was written".into());
            }
            connection.acts.push_back((now, Act::Write(std::mem::take(&mut connection.input))));
            return Ok(());
        }
        if connection.last {
            if connection.whole && !connection.input.is_empty() && !self.pipelined {
                return Err(format!(
                    "an upstream connection that was to end carries {:?}",
                    String::from_utf8_lossy(&connection.input[..connection.input.len().min(60)])
                ));
            }
            if connection.whole {
                return Ok(());
            }
        }
        if connection.whole {
            let answering = connection.acts.iter().any(|(_, act)| matches!(act, Act::Write(_)));
            if !connection.input.is_empty() && answering && !self.pipelined {
                return Err("a second request before the first one's answer was written".into());
            }
            return Ok(());
        }
        let Some(head) = message::head(&connection.input)? else { return Ok(()) };
        let mut words = head.line.split(' ');
        let (method, target) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
        let mut parts = target.split('/').skip(2);
        let id: u64 = parts.next().and_then(|id| id.parse().ok()).ok_or_else(|| format!("line {:?}", head.line))?;
        let length: usize = parts.next().and_then(|text| text.parse().ok()).unwrap_or(0);
        if head.field("x-id") != Some(&id.to_string()) {
            return Err(format!("request {id} carries the id {:?}", head.field("x-id")));
        }
        let answer = parts.next();
        if answer.is_some_and(|answer| answer != "decline") {
            if head.field("upgrade") != Some("echo") || head.field("connection") != Some("upgrade") {
                return Err(format!("an offer without its fields: {:?}", head.fields));
            }
            connection.input.drain(..head.bytes);
            if !connection.input.is_empty() {
                return Err("bytes of a tunnel that is not open".into());
            }
            let protocol = if answer == Some("accept") { "echo" } else { "other" };
            let reply = format!(
                "HTTP/1.1 101 Switching Protocols\r\nConnection: x-hop, Upgrade\r\nX-Hop: 1\r\nUpgrade: {protocol}\r\n\r\n"
            );
            connection.acts.push_back((now + random.below(20_000_000), Act::Write(reply.into_bytes())));
            connection.echoes = true;
            connection.planned = true;
            return Ok(());
        }
        if !connection.planned && !fair && random.chance(40) {
            // Answers before it has read the body.
            connection.planned = true;
            let ends = random.chance(500);
            let reply = good(method, id, length, if ends { 2 } else { 0 }, random);
            connection.acts.push_back((now, Act::Write(reply)));
            if ends {
                connection.last = true;
                connection.acts.push_back((now + random.below(5_000_000), Act::Shutdown));
            }
        }
        let rest = &connection.input[head.bytes..];
        let (payload, used) = if head.chunked() {
            message::dechunk(rest)?
        } else {
            let length = head.length().unwrap_or(0);
            (rest[..rest.len().min(length)].to_vec(), (rest.len() >= length).then_some(length))
        };
        let bytes: usize = head.field("x-body").and_then(|text| text.parse().ok()).unwrap_or(0);
        let expected = pattern(id ^ 0xB0D, bytes);
        if !expected.starts_with(&payload) {
            return Err(format!("request {id}: the body was changed on its way"));
        }
        let Some(used) = used else { return Ok(()) };
        if payload.len() != bytes {
            return Err(format!("request {id}: {} of {bytes} bytes of body look whole", payload.len()));
        }
        connection.input.drain(..head.bytes + used);
        connection.whole = true;
        if method == "POST" {
            let times = self.arrived.entry(id).or_default();
            *times += 1;
            if *times > 1 {
                return Err(format!("POST {id} arrived twice"));
            }
        }
        if !connection.planned {
            connection.planned = true;
            plan(connection, fair, method, id, length, now, random);
        }
        Ok(())
    }
}

fn good(method: &str, id: u64, length: usize, kind: u64, random: &mut Random) -> Vec<u8> {
    let body = pattern(id, length);
    let mut out = Vec::new();
    match kind {
        0 => out
            .extend_from_slice(format!("HTTP/1.1 200 OK\r\nx-id: {id}\r\ncontent-length: {length}\r\n\r\n").as_bytes()),
        1 => out.extend_from_slice(
            format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nx-id: {id}\r\n\r\n").as_bytes(),
        ),
        2 => out.extend_from_slice(format!("HTTP/1.1 200 OK\r\nx-id: {id}\r\nconnection: close\r\n\r\n").as_bytes()),
        _ => out
            .extend_from_slice(format!("HTTP/1.0 200 OK\r\nx-id: {id}\r\ncontent-length: {length}\r\n\r\n").as_bytes()),
    }
    if method != "HEAD" {
        if kind == 1 { out.extend(message::chunked(&body, random, true)) } else { out.extend(body) }
    }
    out
}

fn plan(connection: &mut Connection, fair: bool, method: &str, id: u64, length: usize, now: u64, random: &mut Random) {
    let kind = random.below(4);
    let mut reply = good(method, id, length, kind, random);
    let mut at = now + if random.chance(300) { random.below(50_000_000) } else { 0 };
    if random.chance(100) {
        let mut interim = b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\nconnection: x-hop\r\nx-hop: 1\r\n\r\n".to_vec();
        interim.append(&mut reply);
        reply = interim;
    }
    let ends = kind >= 2;
    let fault = if fair { 99 } else { random.below(24) };
    connection.last = ends;
    match fault {
        0 => return connection.last = true,
        1 => {
            reply = pattern(id ^ 7, 1 + random.size(3000));
            connection.last = true;
        }
        // Too much: the connection must not be used again, unless it was before the rest arrived.
        2 if kind == 0 => {
            reply.extend_from_slice(b"\0garbage");
            connection.last = true;
            connection.whole = false;
            connection.acts.push_back((at, Act::Write(reply)));
            return;
        }
        3 | 4 => {
            reply.truncate(random.size(reply.len()));
            let act = if fault == 3 { Act::Reset } else { Act::Close };
            connection.acts.push_back((at, Act::Write(reply)));
            connection.acts.push_back((at + random.below(5_000_000), act));
            connection.last = true;
            return;
        }
        5 => {
            // Stops in the middle and stays.
            reply.truncate(random.size(reply.len()));
            connection.last = true;
            connection.acts.push_back((at, Act::Write(reply)));
            return;
        }
        6 => {
            at += random.below(4_000_000_000);
        }
        7 => {
            connection.acts.push_back((at, Act::Reset));
            return;
        }
        _ => {}
    }
    let pieces = if random.chance(300) { 1 + random.below(8) } else { 1 };
    let gap = if fair { 3_000_000 } else { [1_000_000, 100_000_000, 1_500_000_000][random.size(3)] };
    for left in (1..=pieces).rev() {
        let end = if left == 1 { reply.len() } else { random.size(reply.len() + 1) };
        let rest = reply.split_off(end);
        if !reply.is_empty() {
            connection.acts.push_back((at, Act::Write(std::mem::replace(&mut reply, rest))));
        } else {
            reply = rest;
        }
        at += random.below(gap);
    }
    if ends {
        // Closing at once with a pipelined request unread is a reset, which can overtake the answer: a fair server ends
        // its direction and reads on (RFC 9112 section 9.6).
        let lingers = random.chance(500) || fair;
        connection.acts.push_back((at, if lingers { Act::Shutdown } else { Act::Close }));
    } else if !fair && random.chance(100) {
        connection.acts.push_back((at + random.below(20_000_000), Act::Close));
        connection.last = false;
    }
}
