//! Upstream servers that die, come back, are sick, full or drained.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;

use serde_json::Value;

use crate::support::appliance::{Appliance, Setup};
use crate::support::origin::{Origin, Said};
use crate::support::program::{Program, twintier};
use crate::support::site::Folder;
use crate::support::wire::{Answer, Wire};
use crate::support::{PATIENCE, eventually};

/// `twintier proxy` to these servers, and its address.
#[track_caller]
fn proxy(to: &[&str], options: &[&str]) -> (Program, SocketAddr) {
    let mut command = twintier();
    command.args(["proxy", "--listen", "127.0.0.1:0", "--to", &to.join(",")]).args(options);
    let mut program = Program::start(&mut command);
    let address = program.ready("proxy").parse().unwrap();
    (program, address)
}

/// A server that answers with its name.
fn named(folder: &Folder, name: &'static str) -> Origin {
    Origin::unix(&folder.path(name), move |_| Said::ok(name))
}

#[track_caller]
fn ask(wire: &mut Wire, cookie: &str) -> Answer {
    wire.send(format!("GET / HTTP/1.1\r\nhost: test\r\ncookie: {cookie}\r\n\r\n"));
    wire.answer()
}

#[test]
fn a_server_that_is_killed_and_restarted_costs_no_request() {
    let folder = Folder::new();
    let (mut first, second) = (named(&folder, "first"), named(&folder, "second"));
    let (_proxy, address) =
        proxy(&[&first.address, &second.address], &["--check", "tcp", "--option", "interval=100ms"]);
    let stop = Arc::new(AtomicBool::new(false));
    let answers: Arc<[AtomicU64; 2]> = Arc::default();
    let browsers: Vec<_> = (0..4)
        .map(|_| {
            let (stop, answers) = (Arc::clone(&stop), Arc::clone(&answers));
            thread::spawn(move || {
                let mut wire = Wire::open(address);
                while !stop.load(Ordering::Acquire) {
                    let answer = wire.get("/");
                    assert_eq!((answer.status, answer.closes()), (200, false), "{}", answer.text());
                    answers[usize::from(answer.text() == "second")].fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    let more = |server: usize, count: u64| {
        let until = answers[server].load(Ordering::Relaxed) + count;
        eventually("answers", || {
            assert!(browsers.iter().all(|browser| !browser.is_finished()), "a browser got no answer");
            (answers[server].load(Ordering::Relaxed) >= until).then_some(())
        });
    };
    for _ in 0..3 {
        more(0, 20);
        drop(first);
        more(1, 50);
        first = named(&folder, "first");
    }
    more(0, 20);
    stop.store(true, Ordering::Release);
    for browser in browsers {
        browser.join().unwrap();
    }
}

#[test]
fn checks_take_a_sick_server_out_and_bring_it_back() {
    let folder = Folder::new();
    let well = Arc::new(AtomicBool::new(true));
    let says = Arc::clone(&well);
    let first = Origin::tcp(move |asked| match (&*asked.path, says.load(Ordering::Acquire)) {
        ("/health", false) => Said { bytes: b"HTTP/1.1 503 Sick\r\ncontent-length: 0\r\n\r\n".to_vec(), close: false },
        ("/health", true) | (_, _) => Said::ok("first"),
    });
    let second = named(&folder, "second");
    let words = ["--check", "http:/health", "--option", "interval=100ms", "--option", "rise=2", "--option", "fall=2"];
    let (proxy, address) = proxy(&[&first.address, &second.address], &words);
    let mut wire = Wire::open(address);
    let mut ten = || -> usize { (0..10).filter(|_| wire.get("/").text() == "first").count() };
    assert_eq!(ten(), 5);
    well.store(false, Ordering::Release);
    eventually("the sick server's rest", || (ten() == 0).then_some(()));
    assert_eq!(ten(), 0);
    let says = |what: &str| {
        let line = format!("message=\"the upstream server is {what}\" address={}", first.address);
        eventually("a word about it", || proxy.stderr().contains(&line).then_some(()));
    };
    says("down");
    well.store(true, Ordering::Release);
    eventually("the server's return", || (ten() == 5).then_some(()));
    says("up");
    assert!(second.asked().iter().any(|asked| asked.path == "/health"), "the healthy server is checked, too");
}

#[test]
fn a_cookie_keeps_a_browser_with_its_server() {
    let folder = Folder::new();
    let (first, second) = (named(&folder, "first"), named(&folder, "second"));
    let to = [first.address.clone(), second.address.clone()];
    let to: Vec<&str> = to.iter().map(String::as_str).collect();
    let (program, address) = proxy(&to, &["--affinity", "srv"]);
    let mut wire = Wire::open(address);
    let answer = wire.get("/");
    let set = answer.header("set-cookie").unwrap().to_owned();
    let (cookie, attributes) = set.split_once("; ").unwrap();
    assert_eq!(attributes, "Path=/; HttpOnly; SameSite=Lax");
    assert!(cookie.starts_with("srv=") && !cookie.contains("first") && !cookie.contains("second"), "{cookie}");
    let name = answer.text();
    for _ in 0..10 {
        let answer = ask(&mut wire, &format!("a=b; {cookie}"));
        assert_eq!((answer.text(), answer.header("set-cookie")), (name.clone(), None));
    }
    // Also after a restart of the proxy.
    drop(program);
    let (_program, address) = proxy(&to, &["--affinity", "srv"]);
    let mut wire = Wire::open(address);
    for _ in 0..10 {
        assert_eq!(ask(&mut wire, cookie).text(), name);
    }
    // Nobody's cookie is as good as none, and a dead server's leads to another one with a cookie of its own.
    assert!(ask(&mut wire, "srv=0123456789abcdef").header("set-cookie").is_some());
    let (mine, other) = if name == "first" { (first, second) } else { (second, first) };
    drop(mine);
    let answer = ask(&mut wire, cookie);
    assert_ne!(answer.text(), name);
    let moved = answer.header("set-cookie").unwrap().split(';').next().unwrap().to_owned();
    assert_ne!(moved, cookie);
    assert_eq!(ask(&mut wire, &moved).header("set-cookie"), None);
    drop(other);
}

#[test]
fn a_full_server_lets_requests_wait_for_a_while() {
    let (release, gate) = mpsc::channel::<()>();
    let gate = Mutex::new(gate);
    let (told, taken) = mpsc::channel::<()>();
    let under_way = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&under_way);
    let origin = Origin::tcp(move |asked| {
        assert_eq!(counted.fetch_add(1, Ordering::AcqRel), 0, "two at a time");
        if asked.path == "/hold" {
            told.send(()).unwrap();
            gate.lock().unwrap().recv().unwrap();
        }
        counted.fetch_sub(1, Ordering::AcqRel);
        Said::ok("served")
    });
    let options = ["--max", "1", "--option", "queue=1", "--option", "wait=20s"];
    let (_proxy, address) = proxy(&[&origin.address], &options);
    let mut holding = Wire::open(address);
    holding.send("GET /hold HTTP/1.1\r\nhost: test\r\n\r\n");
    taken.recv_timeout(PATIENCE).unwrap();
    // One waits, and the next one finds the queue full; which of two is which is decided by their order of arrival.
    let (sender, answers) = mpsc::channel();
    for number in 0..2 {
        let sender = sender.clone();
        thread::spawn(move || sender.send((number, Wire::open(address).get("/"))).unwrap());
    }
    let (refused, answer) = answers.recv_timeout(PATIENCE).unwrap();
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("1")));
    assert!(answer.text().contains("queue is full"), "{}", answer.text());
    release.send(()).unwrap();
    assert_eq!(holding.answer().text(), "served");
    let (waited, answer) = answers.recv_timeout(PATIENCE).unwrap();
    assert_eq!((answer.status, answer.text()), (200, "served".into()));
    assert_ne!(refused, waited);
    drop(holding);
}

#[test]
fn a_request_waits_no_longer_than_it_may_and_not_for_a_browser_that_left() {
    let (release, gate) = mpsc::channel::<()>();
    let gate = Mutex::new(gate);
    let (told, taken) = mpsc::channel::<()>();
    let origin = Origin::tcp(move |asked| {
        if asked.path == "/hold" {
            told.send(()).unwrap();
            gate.lock().unwrap().recv().unwrap();
        }
        Said::ok("served")
    });
    let (_proxy, address) = proxy(&[&origin.address], &["--max", "1", "--option", "wait=300ms"]);
    let mut holding = Wire::open(address);
    holding.send("GET /hold HTTP/1.1\r\nhost: test\r\n\r\n");
    taken.recv_timeout(PATIENCE).unwrap();
    let mut late = Wire::open(address);
    let answer = late.get("/late");
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("1")));
    assert!(!answer.closes(), "the browser's connection goes on");
    let mut leaving = Wire::open(address);
    leaving.send("GET /left HTTP/1.1\r\nhost: test\r\n\r\n");
    drop(leaving);
    // The answer to a request that came later shows that the one before it was seen.
    assert_eq!(late.get("/late").status, 503);
    release.send(()).unwrap();
    assert_eq!(holding.answer().text(), "served");
    assert_eq!(late.get("/now").text(), "served");
    let paths: Vec<String> = origin.asked().into_iter().map(|asked| asked.path).collect();
    assert_eq!(paths, ["/hold", "/now"]);
}

/// One figure of a server, over all fronts.
fn figure(appliance: &Appliance, address: &str, name: &str) -> Vec<Value> {
    let status = appliance.status();
    let fronts = status["workers"].as_array().unwrap().iter().filter_map(|worker| worker["front"].as_object().cloned());
    let upstreams = fronts.flat_map(|front| front["upstreams"].as_array().unwrap().clone());
    upstreams.filter(|upstream| upstream["address"] == address).map(|upstream| upstream[name].clone()).collect()
}

fn sum(figures: &[Value]) -> u64 {
    figures.iter().map(|figure| figure.as_u64().unwrap()).sum()
}

#[test]
fn a_reload_keeps_what_is_known_of_servers_and_drains_those_that_leave() {
    let setup = Setup::shipped();
    let (first, second) = (named(&setup.folder, "first"), named(&setup.folder, "second"));
    let shipped = setup.folder.read("site.statements");
    let (one, two) = (first.address.clone(), second.address.clone());
    let appliance = setup.statements(&format!("proxy /x/* upstream {one} {two}")).start();
    let mut wire = appliance.wire();
    for _ in 0..10 {
        assert_eq!(wire.get("/x/").status, 200);
    }
    let change = |statement: &str| {
        let before = appliance.status()["site_version"].as_u64().unwrap();
        appliance.setup.folder.replace("site.statements", format!("{shipped}{statement}\n"));
        eventually("the new statements", || {
            (appliance.status()["site_version"].as_u64().unwrap() > before).then_some(())
        });
    };
    // Weights and a cap: counts and connections stay, on the front that the browser has.
    change(&format!("proxy /x/* upstream {one} weight=3 max=64 {two}"));
    assert_eq!(sum(&figure(&appliance, &one, "requests")) + sum(&figure(&appliance, &two, "requests")), 10);
    assert_eq!(sum(&figure(&appliance, &one, "outstanding_max")), 64, "the fronts' shares are the cap");
    let connections = second.asked().last().unwrap().connection;
    let of_first = (0..40).filter(|_| wire.get("/x/").text() == "first").count();
    assert_eq!(of_first, 30, "three of four");
    assert_eq!(second.asked().last().unwrap().connection, connections, "its idle connection stays");
    // Drained: nothing new.
    change(&format!("proxy /x/* upstream {one} drain {two}"));
    let before = first.asked().len();
    assert!((0..20).all(|_| wire.get("/x/").text() == "second"));
    assert_eq!(first.asked().len(), before);
    // No longer named: its connections close.
    change(&format!("proxy /x/* upstream {two}"));
    eventually("the end of its connections", || {
        let leaving = figure(&appliance, &one, "state").iter().all(|state| state == "leaving");
        (leaving && sum(&figure(&appliance, &one, "connections")) == 0).then_some(())
    });
    assert_eq!(wire.get("/x/").text(), "second");
}
