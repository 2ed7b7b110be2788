//! Statements and commands that lead to other HTTP servers.

use std::net::SocketAddr;
use std::sync::{Mutex, mpsc};
use std::thread;

use crate::support::appliance::Setup;
use crate::support::eventually;
use crate::support::origin::{Asked, Origin, Said};
use crate::support::program::{Program, twintier};
use crate::support::site::Folder;
use crate::support::wire::Wire;

/// 5 MB without a pattern that a lost or doubled piece could hide in.
fn large() -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = Vec::with_capacity(5_000_000);
    while bytes.len() < 5_000_000 {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        bytes.extend_from_slice(&(state >> 32).to_le_bytes()[..4]);
    }
    bytes
}

/// Answers with what it was sent, or with what the path asks for.
fn echo(asked: &Asked) -> Said {
    let name = asked.path.rsplit('/').next().unwrap();
    match name.split('?').next().unwrap() {
        "large" => Said::ok(large()),
        "large-chunked" => Said::chunked(large().chunks(70_001)),
        "until-close" => Said::last([b"HTTP/1.1 200 OK\r\n\r\n".to_vec(), large()].concat()),
        "cut" => Said::last("HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\nonly this"),
        "cut-chunked" => Said::last("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n64\r\nonly this"),
        "nonsense" => Said::last("HELLO\r\n\r\n"),
        "no-content" => Said { bytes: b"HTTP/1.1 204 No Content\r\n\r\n".to_vec(), close: false },
        _ => Said::ok(if asked.body.is_empty() { asked.path.clone().into_bytes() } else { asked.body.clone() }),
    }
}

/// What holds of every relay: through a statement of the appliance or through `twintier proxy`.
fn relays(address: SocketAddr, prefix: &str, origin: &Origin) {
    let mut wire = Wire::open(address);
    let large = large();
    let answer = wire.get(&format!("{prefix}small?a=b%20c"));
    assert_eq!((answer.status, answer.text()), (200, format!("{prefix}small?a=b%20c")));
    assert_eq!(answer.header("via"), Some("1.1 twintier"));
    let seen = origin.asked().pop().unwrap();
    assert_eq!(seen.header("host"), Some("test"));
    assert_eq!(seen.header("x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(seen.header("via"), Some("1.1 twintier"));
    for path in ["large", "large-chunked"] {
        let answer = wire.get(&format!("{prefix}{path}"));
        assert!(answer.status == 200 && answer.whole && answer.body == large, "{path}: {} bytes", answer.body.len());
    }
    wire.send(format!("HEAD {prefix}head HTTP/1.1\r\nhost: test\r\n\r\n"));
    // The test's server answers HEAD with a body that a server must not send; the relay drops that connection.
    assert_eq!(wire.answer_to("HEAD").unwrap().status, 200);
    assert_eq!(wire.get(&format!("{prefix}no-content")).status, 204);

    // Uploads: counted and chunked, echoed back. The answer comes after the whole request was read.
    wire.send(format!("POST {prefix}echo HTTP/1.1\r\nhost: test\r\ncontent-length: {}\r\n\r\n", large.len()));
    wire.send(&large);
    assert!(wire.answer().body == large, "a counted upload");
    wire.send(format!("PUT {prefix}echo HTTP/1.1\r\nhost: test\r\ntransfer-encoding: chunked\r\n\r\n"));
    for chunk in large.chunks(99_991) {
        wire.send(format!("{:x}\r\n", chunk.len()));
        wire.send(chunk);
        wire.send("\r\n");
    }
    wire.send("0\r\n\r\n");
    assert!(wire.answer().body == large, "a chunked upload");

    // Hop-by-hop fields end here.
    wire.send(format!("GET {prefix}hop HTTP/1.1\r\nhost: test\r\nconnection: x-mine\r\nx-mine: 1\r\nx-yours: 2\r\nkeep-alive: 5\r\n\r\n"));
    assert_eq!(wire.answer().status, 200);
    let seen = origin.asked().pop().unwrap();
    assert_eq!((seen.header("x-mine"), seen.header("keep-alive"), seen.header("x-yours")), (None, None, Some("2")));

    // Answers that end with the connection, and answers that break off.
    let answer = wire.get(&format!("{prefix}until-close"));
    assert!(answer.body == large && answer.whole, "{} bytes", answer.body.len());
    for path in ["cut", "cut-chunked"] {
        let mut wire = Wire::open(address);
        wire.send(format!("GET {prefix}{path} HTTP/1.1\r\nhost: test\r\n\r\n"));
        // The reset may overtake what was sent before it; a whole answer it must not be.
        let whole = wire.answer_to("GET").is_some_and(|answer| answer.whole);
        assert!(!whole, "{path} must be seen as cut");
    }
    let mut wire = Wire::open(address);
    assert_eq!(wire.get(&format!("{prefix}nonsense")).status, 502);
    // HTTP/1.0 knows no chunks: it gets the bytes and the end of the connection.
    let mut wire = Wire::open(address);
    wire.send(format!("GET {prefix}large-chunked HTTP/1.0\r\nhost: test\r\nconnection: keep-alive\r\n\r\n"));
    let answer = wire.answer();
    assert!(answer.header("transfer-encoding").is_none() && answer.body == large, "{} bytes", answer.body.len());
    wire.assert_closed();
}

#[test]
fn a_statement_relays_to_tcp_and_unix_sockets() {
    let setup = Setup::shipped().set("limits.body_bytes_max", "8000000");
    let tcp = Origin::tcp(echo);
    let unix = Origin::unix(&setup.folder.path("up.sock"), echo);
    let appliance = setup
        .statements(&format!("proxy /tcp/* upstream {}\nproxy /unix/* upstream {}", tcp.address, unix.address))
        .start();
    relays(appliance.http, "/tcp/", &tcp);
    relays(appliance.http, "/unix/", &unix);
}

#[test]
fn the_proxy_command_relays_and_drains() {
    let origin = Origin::tcp(echo);
    let mut proxy = Program::start(twintier().args(["proxy", "--listen", "127.0.0.1:0", "--to", &origin.address]));
    let address: SocketAddr = proxy.ready("proxy").parse().unwrap();
    let mut wire = Wire::open(address);
    assert_eq!(wire.get("/a").text(), "/a");
    assert_eq!(wire.get("/b").text(), "/b");
    let asked = origin.asked();
    assert_eq!(asked[0].connection, asked[1].connection, "the connection is used again");
    drop(wire);
    proxy.signal("TERM");
    assert_eq!(proxy.status().code(), Some(0), "{}", proxy.stderr());
}

#[test]
fn upstream_connections_are_used_again_and_the_least_busy_server_is_asked() {
    let (release, gate) = mpsc::channel::<()>();
    let gate = Mutex::new(gate);
    let (told, busy) = mpsc::channel::<()>();
    let first = Origin::tcp(move |asked| {
        if asked.path.ends_with("/hold") {
            told.send(()).unwrap();
            gate.lock().unwrap().recv().unwrap();
        }
        Said::ok("first")
    });
    let setup = Setup::shipped();
    let second = Origin::unix(&setup.folder.path("b.sock"), |_| Said::ok("second"));
    let appliance = setup
        .statements(&format!(
            "proxy /x/* upstream {} {}\nproxy /one/* upstream {}",
            first.address, second.address, first.address
        ))
        .start();

    let mut wire = appliance.wire();
    for _ in 0..20 {
        assert_eq!(wire.get("/one/").text(), "first");
    }
    assert!(first.asked().iter().all(|asked| asked.connection == 0), "one connection serves them all");
    let mut answers: Vec<String> = (0..20).map(|_| wire.get("/x/").text()).collect();
    answers.sort();
    assert_eq!(answers.iter().filter(|answer| *answer == "first").count(), 10, "idle servers take turns");

    // While the first server is busy the second one gets everything. A front knows what it has asked for itself, so the
    // two connections have to be on one front: of three connections two are, when there are two fronts.
    let fronts_asked = || -> Vec<u64> {
        let status = appliance.status();
        let workers = status["workers"].as_array().unwrap();
        workers.iter().map(|worker| worker["front"]["counters"]["requests_taken"].as_u64().unwrap()).collect()
    };
    let mut by_front: Vec<Vec<Wire>> = fronts_asked().iter().map(|_| Vec::new()).collect();
    while by_front.iter().all(|wires| wires.len() < 2) {
        let before = fronts_asked();
        let mut wire = appliance.wire();
        wire.get("/");
        let front = fronts_asked().iter().zip(&before).position(|(after, before)| after > before).unwrap();
        by_front[front].push(wire);
    }
    let mut pair = by_front.into_iter().find(|wires| wires.len() == 2).unwrap();
    let (mut holding, mut beside) = (pair.pop().unwrap(), pair.pop().unwrap());
    holding.send("GET /one/hold HTTP/1.1\r\nhost: test\r\n\r\n");
    busy.recv_timeout(crate::support::PATIENCE).unwrap();
    for _ in 0..10 {
        assert_eq!(beside.get("/x/").text(), "second");
    }
    release.send(()).unwrap();
    assert_eq!(holding.answer().text(), "first");
}

#[test]
fn a_server_that_is_down_is_passed_over_and_all_down_is_502() {
    let setup = Setup::shipped();
    let (down, up) = (setup.folder.path("down.sock"), setup.folder.path("up.sock"));
    let alive = Origin::unix(&up, echo);
    let down = format!("unix:{}", down.display());
    let appliance = setup
        .statements(&format!("proxy /x/* upstream {down} {}\nproxy /down/* upstream {down}", alive.address))
        .start();
    let mut wire = appliance.wire();
    for number in 0..20 {
        let answer = wire.get(&format!("/x/{number}"));
        assert_eq!((answer.status, answer.text()), (200, format!("/x/{number}")));
    }
    let answer = wire.get("/down/");
    assert_eq!(answer.status, 502);
    assert!(!answer.closes(), "the browser's connection goes on");
    // The last one goes down, too, with connections in the pool; then it comes back.
    drop(alive);
    assert_eq!(wire.get("/x/").status, 502);
    let _alive = Origin::unix(&up, echo);
    eventually("the server's return", || (wire.get("/x/again").status == 200).then_some(()));
}

#[test]
fn a_pooled_connection_that_the_server_closed_costs_no_request() {
    // Closes every connection after its answer without saying so: the race that RFC 9112 section 9.3.1 is about.
    let origin = Origin::tcp(|asked| Said { close: true, ..echo(asked) });
    let appliance = Setup::shipped().statements(&format!("proxy /x/* upstream {}", origin.address)).start();
    let mut wire = appliance.wire();
    for number in 0..50 {
        let answer = wire.get(&format!("/x/{number}"));
        assert_eq!((answer.status, answer.text()), (200, format!("/x/{number}")));
    }
}

#[test]
fn many_browsers_at_once_get_their_own_answers() {
    let first = Origin::tcp(echo);
    let second = Origin::tcp(echo);
    let appliance =
        Setup::shipped().statements(&format!("proxy /x/* upstream {} {}", first.address, second.address)).start();
    let address = appliance.http;
    let browsers: Vec<_> = (0..16)
        .map(|browser| {
            thread::spawn(move || {
                let mut wire = Wire::open(address);
                for number in 0..100 {
                    let path = format!("/x/{browser}/{number}");
                    assert_eq!(wire.get(&path).text(), path);
                }
            })
        })
        .collect();
    for browser in browsers {
        browser.join().unwrap();
    }
}

#[test]
fn origin_and_forward_serve_as_the_floor() {
    let folder = Folder::new();
    let mut origin = Program::start(twintier().args(["origin", "--listen", "127.0.0.1:0", "--body-bytes", "300"]));
    let address = origin.ready("origin");
    let mut forward = Program::start(twintier().args(["forward", "--listen", "127.0.0.1:0", "--to", &address]));
    let through: SocketAddr = forward.ready("forward").parse().unwrap();
    let mut wire = Wire::open(through);
    for _ in 0..3 {
        assert_eq!(wire.get("/").body.len(), 300);
    }
    drop(wire);
    for program in [&mut forward, &mut origin] {
        program.signal("TERM");
        assert_eq!(program.status().code(), Some(0), "{}", program.stderr());
    }
    drop(folder);
}
