//! What one hop owes the next: offers of other protocols, interim responses, the way of a request, and an end to
//! everything that takes too long.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::support::appliance::{Appliance, Setup};
use crate::support::origin::{Origin, Said};
use crate::support::program::{Program, twintier};
use crate::support::wire::Wire;
use crate::support::{PATIENCE, eventually};

/// How long a server listens for what must not come.
const QUIET: Duration = Duration::from_millis(100);

/// An upstream server that does exactly what a test says, one connection after the other.
struct Script {
    address: String,
    thread: JoinHandle<()>,
}

impl Script {
    fn new(connections: usize, play: impl Fn(usize, &mut Peer) + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let thread = thread::spawn(move || {
            for number in 0..connections {
                let (stream, _) = listener.accept().unwrap();
                stream.set_read_timeout(Some(PATIENCE)).unwrap();
                stream.set_nodelay(true).unwrap();
                play(number, &mut Peer { stream, input: Vec::new() });
            }
        });
        Self { address, thread }
    }

    /// Waits for the end of the play, whose assertions count.
    #[track_caller]
    fn end(self) {
        self.thread.join().unwrap();
    }
}

/// The proxy's end of a connection.
struct Peer {
    stream: TcpStream,
    input: Vec<u8>,
}

impl Peer {
    fn say(&mut self, text: &str) {
        self.stream.write_all(text.as_bytes()).unwrap();
    }

    fn more(&mut self) -> bool {
        let mut bytes = [0; 4096];
        let count = self.stream.read(&mut bytes).unwrap();
        self.input.extend_from_slice(&bytes[..count]);
        count > 0
    }

    /// The next head, with lower-case letters.
    fn head(&mut self) -> String {
        loop {
            if let Some(end) = self.input.windows(4).position(|window| window == b"\r\n\r\n") {
                let head: Vec<u8> = self.input.drain(..end + 4).collect();
                return String::from_utf8(head).unwrap().to_ascii_lowercase();
            }
            assert!(self.more(), "the proxy ended the connection");
        }
    }

    fn bytes(&mut self, count: usize) -> Vec<u8> {
        while self.input.len() < count {
            assert!(self.more(), "the proxy ended the connection");
        }
        self.input.drain(..count).collect()
    }

    /// Nothing has come and nothing comes.
    fn assert_quiet(&mut self) {
        assert_eq!(self.input, b"");
        self.stream.set_read_timeout(Some(QUIET)).unwrap();
        let error = self.stream.read(&mut [0; 1]).expect_err("bytes that must not come");
        assert!(matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "{error}");
        self.stream.set_read_timeout(Some(PATIENCE)).unwrap();
    }
}

fn proxy(to: &str) -> (Program, SocketAddr) {
    let mut program = Program::start(twintier().args(["proxy", "--listen", "127.0.0.1:0", "--to", to]));
    let address = program.ready("proxy").parse().unwrap();
    (program, address)
}

const OFFER: &str = "GET /chat HTTP/1.1\r\nhost: test\r\nconnection: keep-alive, Upgrade\r\nupgrade: websocket\r\n\
    sec-websocket-key: a\r\n\r\n";

#[test]
fn a_tunnel_opens_with_the_101_and_not_before() {
    let script = Script::new(1, |_, peer| {
        let head = peer.head();
        assert!(head.contains("\r\nconnection: upgrade\r\nupgrade: websocket\r\n"), "{head}");
        assert!(head.contains("\r\nsec-websocket-key: a\r\n"), "{head}");
        peer.assert_quiet();
        peer.say("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade, x-hop\r\nX-Hop: 1\r\nUpgrade: websocket\r\n\r\nhello");
        assert_eq!(peer.bytes(5), b"early");
        for round in 0..3u8 {
            let bytes = peer.bytes(70_000);
            assert!(bytes.iter().all(|byte| *byte == round));
            peer.stream.write_all(&bytes).unwrap();
        }
        // The browser has ended, this side has not.
        assert!(!peer.more());
        peer.say("last words");
    });
    let (_proxy, address) = proxy(&script.address);
    let mut wire = Wire::open(address);
    wire.send(OFFER);
    wire.send("early");
    let answer = wire.answer();
    assert_eq!(answer.status, 101);
    assert_eq!((answer.header("connection"), answer.header("upgrade")), (Some("upgrade"), Some("websocket")));
    assert_eq!(answer.header("x-hop"), None);
    assert_eq!(wire.bytes(5), b"hello");
    for round in 0..3u8 {
        wire.send([round; 70_000]);
        assert!(wire.bytes(70_000).iter().all(|byte| *byte == round));
    }
    wire.end_of_sending();
    assert_eq!(wire.bytes(10), b"last words");
    wire.assert_closed();
    script.end();
}

#[test]
fn an_offer_may_be_declined_and_must_not_be_betrayed() {
    let script = Script::new(3, |number, peer| match number {
        0 => {
            assert!(peer.head().contains("upgrade: websocket"));
            peer.say("HTTP/1.1 426 Upgrade Required\r\ncontent-length: 2\r\n\r\nno");
            // The connection goes on as an ordinary one, also for another protocol that would hide requests.
            let head = peer.head();
            assert!(!head.contains("upgrade"), "{head}");
            peer.say("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
            assert!(peer.head().contains("upgrade: websocket"));
            peer.say("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: other\r\n\r\n");
        }
        1 => {
            assert!(peer.head().contains("upgrade: websocket"));
            peer.say("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n");
        }
        _ => {
            peer.head();
            peer.say("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n");
        }
    });
    let (_proxy, address) = proxy(&script.address);
    let mut wire = Wire::open(address);
    wire.send(OFFER);
    let answer = wire.answer();
    assert_eq!((answer.status, answer.text().as_str()), (426, "no"));
    wire.send("GET / HTTP/1.1\r\nhost: test\r\nconnection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: a\r\n\r\n");
    assert_eq!(wire.answer().text(), "ok");
    wire.send(OFFER);
    assert_eq!(wire.answer().status, 502, "another protocol");
    wire.send(OFFER);
    assert_eq!(wire.answer().status, 502, "a 101 whose Connection says nothing");
    assert_eq!(wire.get("/").status, 502, "a 101 that nobody asked for");
    script.end();
}

#[test]
fn interim_responses_are_cleaned_and_bounded() {
    let interim = "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\nconnection: x-hop\r\nx-hop: 1\r\nkeep-alive: 5\r\n\r\n";
    let script = Script::new(1, move |_, peer| {
        for _ in 0..2 {
            peer.head();
            peer.say(interim);
            peer.say("HTTP/1.1 100 Continue\r\n\r\n");
            peer.say("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
        }
        peer.head();
        peer.say(&interim.repeat(17));
    });
    let (_proxy, address) = proxy(&script.address);
    let mut wire = Wire::open(address);
    wire.send("GET / HTTP/1.1\r\nhost: test\r\n\r\n");
    let hints = wire.answer();
    assert_eq!((hints.status, hints.header("link")), (103, Some("</a>")));
    for field in ["connection", "x-hop", "keep-alive"] {
        assert_eq!(hints.header(field), None);
    }
    assert_eq!(wire.answer().text(), "ok");
    let mut old = Wire::open(address);
    old.send("GET / HTTP/1.0\r\n\r\n");
    assert_eq!(old.answer().text(), "ok");
    wire.send("GET / HTTP/1.1\r\nhost: test\r\n\r\n");
    let answers: Vec<u16> = (0..17).map(|_| wire.answer().status).collect();
    assert_eq!((&answers[..16], answers[16]), (&[103; 16][..], 502));
    script.end();
}

#[test]
fn a_body_is_asked_for_once_and_an_early_answer_ends_the_connection() {
    let script = Script::new(2, |number, peer| {
        let head = peer.head();
        assert!(!head.contains("expect"), "{head}");
        if number == 0 {
            peer.say("HTTP/1.1 100 Continue\r\n\r\n");
            assert_eq!(peer.bytes(2), b"hi");
            peer.say("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok");
        } else {
            peer.say("HTTP/1.1 401 Unauthorized\r\ncontent-length: 2\r\n\r\nno");
        }
    });
    let (_proxy, address) = proxy(&script.address);
    let mut wire = Wire::open(address);
    let request = "POST / HTTP/1.1\r\nhost: test\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\n";
    wire.send(request);
    assert_eq!(wire.answer().status, 100);
    wire.send("hi");
    assert_eq!(wire.answer().status, 200, "no second 100");
    wire.send(request);
    assert_eq!(wire.answer().status, 100);
    let answer = wire.answer();
    assert_eq!((answer.status, answer.text().as_str()), (401, "no"));
    assert!(answer.closes(), "where the next request would begin is unknown");
    wire.assert_closed();
    script.end();
    // Nobody to ask: the body is not asked for either.
    let (_proxy, address) = proxy("unix:/nowhere/at/all.sock");
    let mut wire = Wire::open(address);
    wire.send(request);
    assert!(wire.answer().status >= 502);
}

#[test]
fn requests_go_on_in_one_reading() {
    let script = Script::new(1, |_, peer| {
        let head = peer.head();
        assert!(head.starts_with("get /p? http/1.1\r\nhost: target:8\r\n"), "{head}");
        assert_eq!(head.matches("host:").count(), 2, "Host and X-Forwarded-Host: {head}");
        peer.say("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
        let head = peer.head();
        assert!(head.contains("\r\ntransfer-encoding: chunked\r\n"), "{head}");
        let body = b"5\r\nhello\r\n0\r\nx-digest: 1\r\n\r\n";
        assert_eq!(peer.bytes(body.len()), body, "without extensions");
        peer.say("HTTP/1.1 204 No Content\r\ncontent-length: 0\r\n\r\n");
        assert!(peer.head().contains("\r\nmax-forwards: 0\r\n"));
        peer.say("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
    });
    let (_proxy, address) = proxy(&script.address);
    let mut wire = Wire::open(address);
    wire.send("GET http://target:8/p? HTTP/1.1\r\nHost: other\r\n\r\n");
    assert_eq!(wire.answer().status, 200);
    wire.send("POST / HTTP/1.1\r\nhost: test\r\ntransfer-encoding: chunked\r\n\r\n5;a=\"b;c\" ; d\r\nhello\r\n0;e\r\nx-digest: 1\r\n\r\n");
    let answer = wire.answer();
    assert_eq!((answer.status, answer.header("content-length")), (204, None));
    wire.send("OPTIONS /a HTTP/1.1\r\nhost: test\r\nmax-forwards: 1\r\n\r\n");
    assert_eq!(wire.answer().status, 200);
    // These end here.
    for (request, status) in [
        ("OPTIONS * HTTP/1.1\r\nhost: test\r\n\r\n", 200),
        ("OPTIONS /a HTTP/1.1\r\nhost: test\r\nmax-forwards: 0\r\n\r\n", 200),
        ("TRACE / HTTP/1.1\r\nhost: test\r\n\r\n", 405),
    ] {
        wire.send(request);
        let answer = wire.answer();
        assert_eq!(answer.status, status, "{request}");
        assert!(answer.header("allow").is_some_and(|allow| !allow.contains("TRACE")));
    }
    wire.send("OPTIONS /a HTTP/1.1\r\nhost: test\r\nmax-forwards: -1\r\n\r\n");
    assert_eq!(wire.answer().status, 400);
    wire.assert_closed();
    let mut wire = Wire::open(address);
    wire.send("CONNECT test:443 HTTP/1.1\r\nhost: test:443\r\n\r\n");
    assert_eq!(wire.answer().status, 501);
    wire.assert_closed();
    script.end();
}

#[test]
fn a_profile_says_whose_word_counts_and_where_the_time_went() {
    let origin = Origin::tcp(|_| Said::ok("ok"));
    let spoofed = "GET /x/ HTTP/1.1\r\nhost: test\r\nx-forwarded-for: 1.1.1.1\r\nforwarded: for=2.2.2.2\r\n\
        x-forwarded-proto: https\r\n\r\n";
    let appliance = Setup::shipped()
        .set("forwarding.trusted", "[\"127.0.0.0/8\"]")
        .set("forwarding.headers", "both")
        .set("forwarding.server_timing", "true")
        .statements(&format!("proxy /x/* upstream {}", origin.address))
        .start();
    let mut wire = appliance.wire();
    wire.send(spoofed);
    let answer = wire.answer();
    let parts = |timing: Option<&str>| timing.unwrap_or("").matches(";dur=").count();
    assert_eq!(parts(answer.header("server-timing")), 3, "{:?}", answer.headers);
    let seen = origin.asked().pop().unwrap();
    assert_eq!(seen.header("x-forwarded-for"), Some("1.1.1.1, 127.0.0.1"));
    assert_eq!(seen.header("x-forwarded-proto"), Some("https"));
    assert_eq!(seen.header("forwarded"), Some("for=2.2.2.2, for=127.0.0.1;host=\"test\";proto=http"));
    assert_eq!(parts(wire.get("/reqcat/").header("server-timing")), 3, "jobs, too");
    drop(appliance);

    let appliance = Setup::shipped().statements(&format!("proxy /x/* upstream {}", origin.address)).start();
    let mut wire = appliance.wire();
    wire.send(spoofed);
    assert_eq!(wire.answer().header("server-timing"), None);
    let seen = origin.asked().pop().unwrap();
    assert_eq!((seen.header("x-forwarded-for"), seen.header("forwarded")), (Some("127.0.0.1"), None));
    assert_eq!((seen.header("x-forwarded-proto"), seen.header("x-forwarded-host")), (Some("http"), Some("test")));
}

/// The sum of a counter over all fronts.
fn counter(appliance: &Appliance, name: &str) -> u64 {
    let status = appliance.status();
    let workers = status["workers"].as_array().unwrap();
    workers.iter().map(|worker| worker["front"]["counters"][name].as_u64().unwrap()).sum()
}

#[test]
fn nobody_may_take_for_ever_or_take_it_all() {
    let script = Script::new(1, |_, peer| {
        peer.head();
        peer.say("HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n");
        // Drips until the proxy has had enough.
        while peer.stream.write_all(b"x").is_ok() {
            thread::sleep(Duration::from_millis(20));
        }
    });
    let large = Origin::tcp(|_| Said::ok(vec![b'y'; 20_000_000]));
    let appliance = Setup::shipped()
        .set("limits.connections_per_address_max", "4")
        .set("limits.transfer_bytes_per_s_min", "1000000")
        .set("timeouts.send_ms", "300")
        .set("timeouts.body_ms", "300")
        .set("timeouts.upstream_answer_ms", "3000")
        .statements(&format!("proxy /drip upstream {}\nproxy /large upstream {}", script.address, large.address))
        .start();

    // An upstream server that drips.
    let mut wire = appliance.wire();
    wire.send("GET /drip HTTP/1.1\r\nhost: test\r\n\r\n");
    assert!(wire.answer_to("GET").is_none_or(|answer| !answer.whole), "a dripping answer is cut");
    script.end();

    // A browser that does not read; on a slow machine the answer itself may take too long before it stalls.
    let ended = || counter(&appliance, "connections_too_slow") + counter(&appliance, "requests_aborted");
    let before = ended();
    let mut wire = appliance.wire();
    wire.send("GET /large HTTP/1.1\r\nhost: test\r\n\r\n");
    eventually("the end of a browser that does not read", || (ended() > before).then_some(()));
    assert!(wire.answer_to("GET").is_none_or(|answer| !answer.whole));

    // A body that drips: faster than idle, slower than it must be.
    let mut wire = appliance.wire();
    wire.send("POST /directory/sign-in HTTP/1.1\r\nhost: test\r\ncontent-length: 1000\r\n\r\n");
    for _ in 0..1000 {
        if !wire.try_send("x") {
            break;
        }
        // Plays a browser that drips.
        thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(wire.answer_to("GET").map_or(408, |answer| answer.status), 408);
    drop(wire);

    // An address that wants all connections: each front has four for it.
    let fronts = appliance.status()["workers"].as_array().unwrap().len();
    let wires: Vec<TcpStream> = (0..fronts * 12).map(|_| TcpStream::connect(appliance.http).unwrap()).collect();
    eventually("the end of what is too much", || (counter(&appliance, "connections_crowded") > 0).then_some(()));
    drop(wires);
    eventually("room for others", || {
        let mut wire = appliance.wire();
        wire.try_send("GET / HTTP/1.1\r\nhost: test\r\n\r\n");
        wire.answer_to("GET").filter(|answer| answer.status == 302).map(|_| ())
    });
}
