//! Scripted browsers: what they send, and what they may see.

use std::collections::VecDeque;

use twintier::engine::Address;
use twintier::engine::sim::{Peer, Random, Read, World};

use super::message::{self, pattern};

/// Nothing may keep a browser waiting for longer than all timeouts together.
const PATIENCE_NS: u64 = 25_000_000_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Upstream,
    Replica,
    File,
    Redirect,
    Fail,
    Nowhere,
    Malformed,
    /// Offers another protocol, which the upstream server accepts: it sends everything back.
    Tunnel,
    /// The same, and the server answers as if it had not heard.
    Declined,
    /// The same, and the server switches to a protocol that was not offered.
    Betrayed,
}

#[derive(Clone, Debug)]
struct Expect {
    id: u64,
    kind: Kind,
    head_only: bool,
    /// Bytes of the answer's body.
    length: usize,
    /// Bytes of the request's body.
    body: usize,
    /// No further answer follows this one.
    last: bool,
    http10: bool,
    post: bool,
}

enum Do {
    Send(Vec<u8>),
    Wait(u64),
    Answers(usize),
    HalfClose,
    Abort,
}

pub struct Browser {
    pub number: usize,
    peer: Peer,
    script: VecDeque<Do>,
    until_ns: u64,
    expected: VecDeque<Expect>,
    asked: usize,
    answered: usize,
    input: Vec<u8>,
    fair: bool,
    slow_reader: bool,
    next_read_ns: u64,
    progress_ns: u64,
    half_closed: bool,
    /// The script's last request opens a tunnel.
    tunnels: bool,
    /// What must still come back through the tunnel, once it is open.
    tunnel: Option<Vec<u8>>,
    /// The tunnel did not open: what was sent into it is now taken for requests, and nothing is expected any more.
    lost: bool,
    pub closed: bool,
}

const MALFORMED: [&str; 14] = [
    "GET /s/a.txt HTTP/1.1\r\n\r\n",
    "GET /s/a.txt HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    "GET  /s/a.txt HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET /s/a.txt HTTP/1.1\r\nHost : a\r\n\r\n",
    "POST /u/1/1 HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
    "POST /u/1/1 HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\n",
    "POST /u/1/1 HTTP/1.1\r\nHost: a\r\nContent-Length: 1, 2\r\n\r\n",
    "POST /u/1/1 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n",
    "GET /u/1/1 HTTP/1.1\nHost: a\n\n",
    "GET /u/1/1 HTTP/1.1\r\nHost: a\r\n folded: b\r\n\r\n",
    "\x16\x03\x01\x02\x00\x01\r\n\r\n",
    "GET /u/1/1 HTTP/3.0\r\nHost: a\r\n\r\n",
    "GET /%zz HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET /u/1/1 HTTP/1.1\r\nHost: a\r\nx: \0\r\n\r\n",
];

impl Browser {
    pub fn new(number: usize, world: &World, to: &Address, random: &mut Random, fair: bool) -> Self {
        let mut browser = Self {
            number,
            peer: world.connect(to),
            script: VecDeque::new(),
            until_ns: 0,
            expected: VecDeque::new(),
            asked: 0,
            answered: 0,
            input: Vec::new(),
            fair,
            slow_reader: !fair && random.chance(80),
            next_read_ns: 0,
            progress_ns: world.now_ns(),
            half_closed: false,
            tunnels: false,
            tunnel: None,
            lost: false,
            closed: false,
        };
        browser.write_script(random);
        browser
    }

    fn write_script(&mut self, random: &mut Random) {
        let requests = 1 + random.size(8);
        let pipelined = random.chance(400);
        let mut wire = Vec::new();
        for _ in 0..requests {
            let last = self.request(&mut wire, random);
            if !self.fair && random.chance(20) {
                wire.truncate(random.size(wire.len() + 1));
                self.cut(&mut wire, random);
                self.script.push_back(if random.chance(500) { Do::Abort } else { Do::HalfClose });
                return;
            }
            if !pipelined {
                self.cut(&mut wire, random);
                self.script.push_back(Do::Answers(self.asked));
                if random.chance(200) {
                    self.script.push_back(Do::Wait(random.below(if self.fair { 300_000_000 } else { 5_000_000_000 })));
                }
            }
            if last {
                break;
            }
        }
        self.cut(&mut wire, random);
        if !self.fair && random.chance(50) {
            self.script.push_back(Do::Wait(random.below(100_000_000)));
            self.script.push_back(Do::Abort);
        } else if !self.fair && random.chance(100) {
            self.script.push_back(Do::HalfClose);
        }
        self.script.push_back(Do::Answers(self.asked));
        if self.tunnels || random.chance(500) {
            self.script.push_back(Do::HalfClose);
        }
    }

    /// Turns bytes into sends, now and then slow ones.
    fn cut(&mut self, wire: &mut Vec<u8>, random: &mut Random) {
        let pieces = if random.chance(250) { 1 + random.size(6) } else { 1 };
        for left in (1..=pieces).rev() {
            let end = if left == 1 { wire.len() } else { random.size(wire.len() + 1) };
            let rest = wire.split_off(end);
            self.script.push_back(Do::Send(std::mem::replace(wire, rest)));
            if left > 1 {
                let wait = if self.fair { 20_000_000 } else { [5_000_000, 50_000_000, 2_500_000_000][random.size(3)] };
                self.script.push_back(Do::Wait(random.below(wait)));
            }
        }
        wire.clear();
    }

    /// Appends one request; true if it is the connection's last.
    fn request(&mut self, wire: &mut Vec<u8>, random: &mut Random) -> bool {
        let id = (self.number as u64 + 1) * 100 + self.asked as u64;
        self.asked += 1;
        let kind = match random.below(20) {
            0..=8 => Kind::Upstream,
            9..=12 => Kind::Replica,
            13 | 14 => Kind::File,
            15 => Kind::Redirect,
            16 => Kind::Fail,
            17 => Kind::Nowhere,
            18 => Kind::Malformed,
            _ => [Kind::Tunnel, Kind::Tunnel, Kind::Declined, Kind::Betrayed][random.size(4)],
        };
        let mut expect =
            Expect { id, kind, head_only: false, length: 0, body: 0, last: false, http10: false, post: false };
        if kind == Kind::Malformed {
            expect.last = true;
            wire.extend_from_slice(MALFORMED[random.size(MALFORMED.len())].as_bytes());
            self.expected.push_back(expect);
            return true;
        }
        expect.length = match random.below(10) {
            0 => 0,
            1..=6 => random.size(2000),
            7 | 8 => random.size(20_000),
            _ => random.size(150_000),
        };
        if matches!(kind, Kind::Tunnel | Kind::Declined | Kind::Betrayed) {
            return self.offer(wire, expect);
        }
        let posts = matches!(kind, Kind::Upstream | Kind::Replica) && random.chance(400);
        expect.post = posts;
        expect.head_only = !posts && random.chance(150);
        expect.http10 = random.chance(120);
        let bytes_max = if random.chance(200) { 60_000 } else { 3000 };
        expect.body = if posts { random.size(bytes_max) } else { 0 };
        let target = match kind {
            Kind::Upstream => format!("/{}/{id}/{}", if random.chance(500) { "u" } else { "one" }, expect.length),
            Kind::Replica => format!("/app/{id}/{}", expect.length),
            Kind::File => "/s/a.txt".into(),
            Kind::Redirect => "/r".into(),
            Kind::Fail => format!("/f/{id}"),
            Kind::Nowhere | Kind::Malformed | Kind::Tunnel | Kind::Declined | Kind::Betrayed => {
                format!("/nowhere/{id}")
            }
        };
        let method = if posts {
            "POST"
        } else if expect.head_only {
            "HEAD"
        } else {
            "GET"
        };
        let version = if expect.http10 { "1.0" } else { "1.1" };
        let mut head = format!("{method} {target} HTTP/{version}\r\nHost: a\r\nX-Id: {id}\r\n");
        let keeps = if expect.http10 {
            let keeps = random.chance(500);
            if keeps {
                head.push_str("Connection: keep-alive\r\n");
            }
            keeps
        } else {
            let keeps = !random.chance(60);
            if !keeps {
                head.push_str("Connection: close\r\n");
            }
            keeps
        };
        if random.chance(100) {
            head.push_str(&format!("X-Long: {}\r\n", "y".repeat(random.size(6000))));
        }
        let body = pattern(id ^ 0xB0D, expect.body);
        let chunked = posts && !expect.http10 && random.chance(500);
        if posts {
            head.push_str(&format!("X-Body: {}\r\n", expect.body));
            if chunked {
                head.push_str("Transfer-Encoding: chunked\r\n");
            } else {
                head.push_str(&format!("Content-Length: {}\r\n", expect.body));
            }
            if random.chance(100) {
                head.push_str("Expect: 100-continue\r\n");
            }
        }
        expect.last = !keeps;
        wire.extend_from_slice(head.as_bytes());
        wire.extend_from_slice(b"\r\n");
        if chunked {
            let framed = message::chunked(&body, random, true);
            if !self.fair && random.chance(60) {
                // A poisoned body: no whole request.
                let good = random.size(body.len() + 1);
                let mut framed = Vec::new();
                if good > 0 {
                    framed.extend_from_slice(format!("{good:x}\r\n").as_bytes());
                    framed.extend_from_slice(&body[..good]);
                    framed.extend_from_slice(b"\r\n");
                }
                framed.extend_from_slice(b"zz\r\n\r\n");
                expect.kind = if kind == Kind::Replica { Kind::Malformed } else { kind };
                expect.last = true;
                wire.extend_from_slice(&framed);
                self.expected.push_back(expect);
                return true;
            }
            wire.extend_from_slice(&framed);
        } else {
            wire.extend_from_slice(&body);
        }
        self.expected.push_back(expect);
        !keeps
    }

    /// Appends a request that offers another protocol; what goes through the tunnel is sent at once, also before the
    /// server has agreed. True if it is the connection's last.
    fn offer(&mut self, wire: &mut Vec<u8>, mut expect: Expect) -> bool {
        let (id, length) = (expect.id, expect.length);
        let answer = match expect.kind {
            Kind::Tunnel => "accept",
            Kind::Declined => "decline",
            _ => "betray",
        };
        let head = format!(
            "GET /u/{id}/{length}/{answer} HTTP/1.1\r\nHost: a\r\nX-Id: {id}\r\nConnection: Upgrade\r\n\
             Upgrade: echo\r\n\r\n"
        );
        wire.extend_from_slice(head.as_bytes());
        expect.last = expect.kind == Kind::Tunnel;
        if expect.last {
            wire.extend_from_slice(&pattern(id ^ 0x7E, length));
            self.tunnels = true;
        }
        let last = expect.last;
        self.expected.push_back(expect);
        last
    }

    /// What has come through the tunnel is what was sent into it.
    fn read_tunnel(&mut self) -> Result<(), String> {
        let Some(rest) = self.tunnel.as_mut() else { return Ok(()) };
        if !rest.starts_with(&self.input) {
            return Err(format!("browser {}: a tunnel with other bytes", self.number));
        }
        rest.drain(..self.input.len());
        self.input.clear();
        Ok(())
    }

    pub fn waits(&self) -> bool {
        !self.closed
    }

    /// Everything that can be done now; says when there is more to do.
    pub fn step(&mut self, world: &World, random: &mut Random) -> Result<u64, String> {
        let now = world.now_ns();
        if self.closed {
            return Ok(u64::MAX);
        }
        match world.connected(self.peer) {
            None => return Ok(now + 300_000),
            Some(false) => {
                self.closed = true;
                return Ok(u64::MAX);
            }
            Some(true) => {}
        }
        if now > self.progress_ns + PATIENCE_NS {
            return Err(format!(
                "browser {} waits in vain: {} of {} answered, next {:?}",
                self.number,
                self.answered,
                self.asked,
                self.expected.front()
            ));
        }
        let mut next = self.read(world, random, now)?;
        if self.closed {
            return Ok(now);
        }
        while self.until_ns <= now {
            match self.script.front_mut() {
                None => {
                    if self.answered >= self.asked && self.expected.is_empty() && self.tunnel.is_none() {
                        world.close(self.peer);
                        self.closed = true;
                    }
                    return Ok(next);
                }
                Some(Do::Send(bytes)) => match world.write(self.peer, bytes) {
                    // What is still to be read is read all the same.
                    None => self.script.clear(),
                    Some(count) => {
                        bytes.drain(..count);
                        if count > 0 {
                            self.progress_ns = now;
                        }
                        if !bytes.is_empty() {
                            return Ok(next.min(now + 500_000));
                        }
                        self.script.pop_front();
                    }
                },
                Some(Do::Wait(ns)) => {
                    self.until_ns = now + *ns;
                    self.progress_ns = self.until_ns;
                    self.script.pop_front();
                }
                Some(Do::Answers(count)) => {
                    if self.answered < *count {
                        return Ok(next);
                    }
                    self.script.pop_front();
                }
                Some(Do::HalfClose) => {
                    world.shutdown(self.peer);
                    self.half_closed = true;
                    self.script.pop_front();
                }
                Some(Do::Abort) => {
                    world.reset(self.peer);
                    self.closed = true;
                    return Ok(now);
                }
            }
        }
        next = next.min(self.until_ns);
        Ok(next)
    }

    fn read(&mut self, world: &World, random: &mut Random, now: u64) -> Result<u64, String> {
        if now < self.next_read_ns {
            return Ok(self.next_read_ns);
        }
        if self.slow_reader {
            self.next_read_ns = now + random.below(300_000_000);
        }
        let room = if self.slow_reader { 1 + random.size(3000) } else { 1 + random.size(60_000) };
        match world.read(self.peer, room) {
            Read::Bytes(bytes) => {
                self.progress_ns = now;
                self.input.extend_from_slice(&bytes);
                while self.answer(false)? {}
                self.read_tunnel()?;
                Ok(now.max(self.next_read_ns))
            }
            Read::Pending => Ok(world.readable_at(self.peer).unwrap_or(u64::MAX)),
            end @ (Read::Eof | Read::Reset) => {
                while self.answer(end == Read::Eof)? {}
                self.read_tunnel()?;
                if self.fair && self.tunnel.as_ref().is_some_and(|rest| !rest.is_empty()) {
                    return Err(format!("browser {}: a fair tunnel ended ({end:?}) early", self.number));
                }
                if self.fair && !self.expected.is_empty() {
                    return Err(format!("a fair connection ended ({end:?}) before {:?}", self.expected.front()));
                }
                world.close(self.peer);
                self.closed = true;
                Ok(now)
            }
        }
    }

    /// Takes one answer from what has arrived.
    fn answer(&mut self, ended: bool) -> Result<bool, String> {
        if self.lost {
            self.input.clear();
        }
        if self.input.is_empty() || self.tunnel.is_some() {
            return Ok(false);
        }
        let Some(head) = message::head(&self.input)? else { return Ok(false) };
        let status: u16 = head.line.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
        if !head.line.starts_with("HTTP/1.1 ") || status < 100 {
            return Err(format!("browser {}: status line {:?}", self.number, head.line));
        }
        if status < 200 {
            if head.field("x-hop").is_some() {
                return Err(format!("browser {}: a field of another hop in {}", self.number, head.line));
            }
            self.input.drain(..head.bytes);
            if status == 101 {
                let expect = self.expected.pop_front().filter(|expect| expect.kind == Kind::Tunnel);
                let expect = expect.ok_or("a 101 that nobody asked for")?;
                if head.field("upgrade") != Some("echo") || head.field("connection") != Some("upgrade") {
                    return Err(format!("a 101 without its fields: {:?}", head.fields));
                }
                self.answered += 1;
                self.tunnel = Some(pattern(expect.id ^ 0x7E, expect.length));
                return Ok(false);
            }
            return Ok(true);
        }
        let Some(expect) = self.expected.front().cloned() else {
            if !self.half_closed || status != 408 {
                return Err(format!("browser {}: an answer to nothing: {}", self.number, head.line));
            }
            self.input.clear();
            return Ok(false);
        };
        let wrong = |what: &str| {
            Err(format!("request {} {:?}: {what} ({} {:?})", expect.id, expect.kind, head.line, head.fields))
        };
        // A front that gives up on an incomplete request may answer it as if it knew nothing of its method.
        let bodyless = status == 304 || status == 204 || (expect.head_only && status != 408 && status != 400);
        let rest = &self.input[head.bytes..];
        let says = |word: &str| head.field("connection").is_some_and(|value| value.eq_ignore_ascii_case(word));
        let closes = says("close") || (expect.http10 && !says("keep-alive"));
        let (payload, used) = if bodyless {
            (Vec::new(), Some(0))
        } else if head.chunked() {
            if expect.http10 {
                return wrong("chunked to HTTP/1.0");
            }
            message::dechunk(rest)?
        } else if let Some(length) = head.length() {
            (rest[..rest.len().min(length)].to_vec(), (rest.len() >= length).then_some(length))
        } else {
            if !closes && !expect.http10 {
                return wrong("neither length nor close");
            }
            (rest.to_vec(), ended.then_some(rest.len()))
        };
        if status == 200 {
            let expected = match expect.kind {
                Kind::Upstream | Kind::Replica | Kind::Declined => {
                    if head.field("x-id").is_some_and(|id| id != expect.id.to_string()) {
                        return wrong("another request's answer");
                    }
                    if expect.kind != Kind::Replica && head.field("x-id").is_none() {
                        return wrong("an answer from nowhere");
                    }
                    pattern(expect.id, expect.length)
                }
                Kind::File => super::stage::file(),
                Kind::Redirect | Kind::Fail | Kind::Nowhere | Kind::Malformed | Kind::Tunnel | Kind::Betrayed => {
                    return wrong("200");
                }
            };
            if !expected.starts_with(&payload) {
                return wrong("a body of something else");
            }
            let delimited = head.chunked() || head.length().is_some();
            if used.is_some() && !bodyless && delimited && payload.len() != expected.len() {
                return wrong("a body that is not whole looks whole");
            }
            if used.is_some() && !bodyless && self.fair && payload.len() != expected.len() {
                return wrong("a body that is not whole");
            }
        }
        let good = match expect.kind {
            Kind::Tunnel => !self.fair && matches!(status, 408 | 502 | 503 | 504),
            Kind::Betrayed => status == 502 || (!self.fair && matches!(status, 408 | 503 | 504)),
            Kind::Upstream | Kind::Declined => {
                status == 200 || (!self.fair && matches!(status, 400 | 408 | 413 | 502 | 503 | 504))
            }
            Kind::Replica => status == 200 || (!self.fair && matches!(status, 400 | 408 | 413 | 503 | 504)),
            Kind::File => status == 200 || (!self.fair && status == 408),
            Kind::Redirect => status == 302 || (!self.fair && status == 408),
            Kind::Fail => status == 410 || (!self.fair && status == 408),
            Kind::Nowhere => status == 404 || (!self.fair && status == 408),
            Kind::Malformed => (400..=505).contains(&status),
        };
        if !good {
            return wrong("an unexpected status");
        }
        if expect.kind == Kind::Tunnel {
            self.lost = true;
            self.expected.clear();
            self.answered = self.asked;
            self.script.clear();
            return Ok(true);
        }
        let Some(used) = used else { return Ok(false) };
        self.input.drain(..head.bytes + used);
        self.expected.pop_front();
        self.answered += 1;
        if expect.last || closes {
            if !closes && expect.kind != Kind::Malformed {
                return wrong("the last answer does not say so");
            }
            if !self.input.is_empty() {
                return wrong("bytes after the last answer");
            }
            if self.fair && !self.expected.is_empty() && !expect.last && status != 200 {
                return wrong("a fair connection was closed early");
            }
            // The rest is not answered; waits for the end.
            self.answered = self.asked;
            self.expected.clear();
            self.script.retain(|act| matches!(act, Do::Answers(_)));
        }
        Ok(true)
    }
}
