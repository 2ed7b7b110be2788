//! Reload, drain, kill and restart while browsers ask without a pause: no `GET` may fail that could have been sent again.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};

use crate::support::appliance::{Appliance, Setup};
use crate::support::eventually;
use crate::support::origin::{Origin, Said};
use crate::support::site::Folder;
use crate::support::wire::Wire;

const BROWSERS: usize = 6;

/// Browsers in closed loops. Each answer must be 200, whole and its own.
struct Load {
    stop: Arc<AtomicBool>,
    answers: Arc<AtomicU64>,
    browsers: Vec<JoinHandle<()>>,
}

impl Load {
    fn start(address: SocketAddr) -> Self {
        let (stop, answers) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let browser = |browser: usize| {
            let (stop, answers) = (Arc::clone(&stop), Arc::clone(&answers));
            thread::spawn(move || {
                let mut wire = Wire::open(address);
                for number in 0u64.. {
                    if stop.load(Ordering::Acquire) {
                        return;
                    }
                    let path = format!("/x/{browser}/{number}");
                    let answer = wire.get(&path);
                    assert_eq!((answer.status, answer.text()), (200, path));
                    assert!(answer.whole);
                    answers.fetch_add(1, Ordering::Relaxed);
                    if answer.closes() {
                        wire = Wire::open(address);
                    }
                }
            })
        };
        let browsers = (0..BROWSERS).map(browser).collect();
        Self { stop, answers, browsers }
    }

    /// Waits until every browser may have had some more answers.
    #[track_caller]
    fn go_on(&self) {
        let until = self.answers.load(Ordering::Relaxed) + 30 * BROWSERS as u64;
        eventually("more answers", || {
            assert!(!self.browsers.iter().any(JoinHandle::is_finished), "a browser has given up");
            (self.answers.load(Ordering::Relaxed) >= until).then_some(())
        });
    }

    fn end(self) {
        self.stop.store(true, Ordering::Release);
        for browser in self.browsers {
            browser.join().expect("a request failed");
        }
    }
}

fn echo(folder: &Folder, name: &str) -> Origin {
    Origin::unix(&folder.path(name), |asked| Said::ok(&asked.path))
}

/// Publishes statements and waits until they are in force on the front that a new connection meets.
fn publish(appliance: &Appliance, statements: &str, number: u32) {
    let folder = &appliance.setup.folder;
    folder.replace("site.statements", format!("redirect /version /{number} 302\n{statements}\n"));
    let expected = format!("/{number}");
    eventually("the statements in force everywhere", || {
        let fresh = || appliance.wire().get("/version").location() == expected;
        // New connections take turns among the fronts.
        (0..8).all(|_| fresh()).then_some(())
    });
}

fn start(folder: &Folder) -> (Appliance, String, String) {
    let address = |name: &str| format!("unix:{}", folder.path(name).display());
    let (first, second) = (address("first.sock"), address("second.sock"));
    let appliance = Setup::shipped().statements(&format!("proxy /x/* upstream {first} {second}")).start();
    (appliance, first, second)
}

#[test]
fn statements_are_changed_again_and_again_and_no_request_fails() {
    let folder = Folder::new();
    let _servers = [echo(&folder, "first.sock"), echo(&folder, "second.sock")];
    let (appliance, first, second) = start(&folder);
    let load = Load::start(appliance.http);
    for number in 0..8 {
        let servers = match number % 4 {
            0 => format!("{first} {second}"),
            1 => second.clone(),
            2 => format!("{second} {first}"),
            _ => first.clone(),
        };
        publish(&appliance, &format!("proxy /x/* upstream {servers}"), number);
        load.go_on();
    }
    load.end();
}

#[test]
fn a_server_is_drained_and_comes_back_and_no_request_fails() {
    let folder = Folder::new();
    let (one, other) = (echo(&folder, "first.sock"), echo(&folder, "second.sock"));
    let (appliance, first, second) = start(&folder);
    let load = Load::start(appliance.http);
    load.go_on();
    for round in 0..2 {
        publish(&appliance, &format!("proxy /x/* upstream {first} drain {second}"), 2 * round);
        load.go_on();
        let (drained, others) = (one.asked().len(), other.asked().len());
        load.go_on();
        assert_eq!(one.asked().len(), drained, "a drained server gets no requests");
        assert!(other.asked().len() > others, "the other one does the work");
        publish(&appliance, &format!("proxy /x/* upstream {first} {second}"), 2 * round + 1);
        eventually("requests for the server that came back", || (one.asked().len() > drained).then_some(()));
    }
    load.end();
}

#[test]
fn servers_are_killed_and_restarted_and_no_request_fails() {
    let folder = Folder::new();
    let mut first = echo(&folder, "first.sock");
    let mut second = echo(&folder, "second.sock");
    let (appliance, _, _) = start(&folder);
    let load = Load::start(appliance.http);
    for _ in 0..2 {
        for (server, name) in [(&mut first, "first.sock"), (&mut second, "second.sock")] {
            load.go_on();
            // The old server ends, with requests in its hands, before the new one begins.
            let stand_in = Origin::tcp(|_| Said::ok(""));
            drop(std::mem::replace(server, stand_in));
            load.go_on();
            *server = echo(&folder, name);
            eventually("requests for the restarted server", || (!server.asked().is_empty()).then_some(()));
        }
    }
    load.end();
}

#[test]
fn slow_browsers_hold_their_connections_and_disturb_nobody() {
    let folder = Folder::new();
    let _servers = [echo(&folder, "first.sock"), echo(&folder, "second.sock")];
    let (appliance, _, _) = start(&folder);
    let mut slow: Vec<Wire> = (0..200)
        .map(|number| {
            let mut wire = appliance.wire();
            wire.send(format!("GET /x/slow/{number} HTTP/1.1\r\nhost: te"));
            wire
        })
        .collect();
    let load = Load::start(appliance.http);
    for _ in 0..3 {
        load.go_on();
        slow.iter_mut().for_each(|wire| wire.send("s"));
    }
    load.end();
    for (number, wire) in slow.iter_mut().enumerate() {
        wire.send("t\r\n\r\n");
        let answer = wire.answer();
        assert_eq!((answer.status, answer.text()), (200, format!("/x/slow/{number}")));
    }
}
