//! What was answered stays, whatever happens to the process.

use std::sync::mpsc;
use std::sync::{Arc, Mutex};

use serde_json::json;

use crate::journeys::row_when;
use crate::support::appliance::Setup;
use crate::support::eventually;
use crate::support::origin::{Origin, Said};

#[test]
fn kill_9_loses_nothing_that_was_answered_and_agents_go_on() {
    // The back-end server is down at first. Its address is a Unix socket, which nobody else can take meanwhile.
    let setup = Setup::shipped();
    let socket = setup.folder.path("suppliers.sock");
    let setup = setup.set("backends.suppliers", &format!("unix:{}", socket.display()));
    // Attempts for the time that four lives take; the pause before the next one doubles.
    let code = "reqcat/code/agents/requisition-submit.toml";
    setup.folder.edit(code, "attempts = 6", "attempts = 30");
    setup.folder.edit(code, "backoff_ms = 250", "backoff_ms = 5");
    let mut appliance = setup.start();
    let mut alice = appliance.user("alice");
    let mut submitted: Vec<String> = Vec::new();
    let mut drafted: Vec<(String, u64)> = Vec::new();

    // Several lives, each killed right after an answer: a draft's 303 or a submission's 202.
    for life in 0..4u64 {
        for number in 0..3u64 {
            let quantity = 1 + life * 10 + number;
            let path = alice.draft("item-10", &quantity.to_string());
            drafted.push((path, quantity));
        }
        if life % 2 == 1 {
            let path = drafted.last().unwrap().0.clone();
            let answer = alice.post(&format!("{path}/submit"), &[]);
            assert_eq!(answer.status, 202, "{}", answer.text());
            submitted.push(path);
        }
        appliance = appliance.kill_and_restart();
        // The session is still good: its key and its end are in the database.
        let cookies = alice.cookies.clone();
        alice = appliance.visitor();
        alice.cookies = cookies;
        assert_eq!(alice.page("/reqcat/requisitions").status, 200);
        for (path, quantity) in &drafted {
            let row = alice.data(path).json()["row"].clone();
            assert_eq!(row["quantity"], json!(quantity), "life {life}: {path} {row}");
            let state = if submitted.contains(path) { "submitted" } else { "draft" };
            assert_eq!(row["state"], state, "life {life}: {path}");
        }
    }

    // The back-end server comes up: the agents of all lives post, once for each key.
    let suppliers = Origin::unix(&socket, |_| Said::ok("taken"));
    let mut numbers = Vec::new();
    for path in &submitted {
        let row = row_when(&mut alice, path, "the end of the agent", |row| row["posting"] == "posted");
        numbers.push(row["number"].as_str().unwrap().to_owned());
    }
    numbers.sort();
    numbers.dedup();
    assert_eq!(numbers.len(), submitted.len(), "numbers are given once");
    let mut keys: Vec<String> =
        suppliers.asked().iter().map(|asked| asked.header("idempotency-key").unwrap().to_owned()).collect();
    keys.sort();
    let mut expected: Vec<String> = submitted
        .iter()
        .map(|path| format!("requisition/{}/requisition-submit", path.rsplit('/').next().unwrap()))
        .collect();
    expected.sort();
    assert_eq!(keys, expected, "one order for each requisition");

    // Numbers are kept, and what is done is not done again.
    let appliance = appliance.kill_and_restart();
    let cookies = alice.cookies.clone();
    alice = appliance.visitor();
    alice.cookies = cookies;
    let kept: Vec<String> =
        submitted.iter().map(|path| alice.data(path).json()["row"]["number"].as_str().unwrap().to_owned()).collect();
    assert!(kept.iter().all(|number| numbers.contains(number)), "{kept:?} {numbers:?}");
    assert_eq!(suppliers.asked().len(), submitted.len());
}

#[test]
fn a_dead_backend_server_ends_in_a_state_that_says_so() {
    let setup = Setup::shipped();
    let code = "reqcat/code/agents/requisition-submit.toml";
    setup.folder.edit(code, "attempts = 6", "attempts = 2");
    setup.folder.edit(code, "backoff_ms = 250", "backoff_ms = 10");
    let appliance = setup.start();
    let mut alice = appliance.user("alice");
    let path = alice.draft("item-10", "1");
    assert_eq!(alice.post(&format!("{path}/submit"), &[]).status, 202);
    row_when(&mut alice, &path, "the failed posting", |row| row["posting"] == "failed");
    let page = alice.page(&path).text();
    assert!(page.contains("failed, 2 attempts") && page.contains("given up after attempt 2"), "{page}");
}

#[test]
fn a_backend_server_that_stumbles_is_asked_again_with_the_same_key() {
    let count = Arc::new(Mutex::new(0));
    let counted = Arc::clone(&count);
    let suppliers = Origin::tcp(move |_| {
        let mut count = counted.lock().unwrap();
        *count += 1;
        match *count {
            1 => Said::last("HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n"),
            2 => Said::last(""),
            _ => Said::ok("taken"),
        }
    });
    let setup = Setup::shipped().set("backends.suppliers", &suppliers.address);
    setup.folder.edit("reqcat/code/agents/requisition-submit.toml", "backoff_ms = 250", "backoff_ms = 10");
    let appliance = setup.start();
    let mut alice = appliance.user("alice");
    let path = alice.draft("item-10", "1");
    assert_eq!(alice.post(&format!("{path}/submit"), &[]).status, 202);
    row_when(&mut alice, &path, "the posted requisition", |row| row["posting"] == "posted");
    let asked = suppliers.asked();
    assert_eq!(asked.len(), 3);
    assert!(asked.iter().all(|one| one.header("idempotency-key") == asked[0].header("idempotency-key")));
    assert!(asked.iter().all(|one| one.body == asked[0].body));
}

#[test]
fn sigterm_answers_what_is_in_progress_and_exits_0() {
    // An upstream server that answers when the test lets it.
    let (release, gate) = mpsc::channel::<()>();
    let gate = Mutex::new(gate);
    let slow = Origin::tcp(move |asked| {
        if asked.path == "/x/slow" {
            gate.lock().unwrap().recv().unwrap();
        }
        Said::ok("late")
    });
    let mut appliance = Setup::shipped().statements(&format!("proxy /x/* upstream {}", slow.address)).start();
    let mut idle = appliance.wire();
    assert_eq!(idle.get("/reqcat/").status, 200);
    let mut busy = appliance.wire();
    busy.send("GET /x/slow HTTP/1.1\r\nhost: test\r\n\r\n");
    eventually("the slow request at its server", || (slow.asked().len() == 1).then_some(()));

    appliance.program.signal("TERM");
    // An idle connection is closed at once, and nobody listens any more.
    idle.assert_closed();
    let address = appliance.http;
    eventually("the closed port", || std::net::TcpStream::connect(address).err().map(|_| ()));
    assert!(appliance.program.is_running(), "it waits for the request");
    release.send(()).unwrap();
    let answer = busy.answer();
    assert_eq!((answer.status, answer.text().as_str(), answer.whole), (200, "late", true));
    assert!(answer.closes());
    busy.assert_closed();
    assert_eq!(appliance.program.status().code(), Some(0), "{}", appliance.program.stderr());
}

#[test]
fn sigint_drains_too_and_the_next_start_has_everything() {
    let mut appliance = Setup::shipped().start();
    let mut alice = appliance.user("alice");
    let path = alice.draft("item-11", "3");
    appliance.program.signal("INT");
    assert_eq!(appliance.program.status().code(), Some(0), "{}", appliance.program.stderr());
    let appliance = appliance.kill_and_restart();
    assert_eq!(appliance.user("alice").data(&path).json()["row"]["quantity"], 3);
}

#[test]
fn a_drain_is_bounded_by_its_timeout() {
    let stuck = Origin::tcp(|_| {
        // Never answers: the connection ends when the appliance cuts it.
        std::thread::park_timeout(crate::support::PATIENCE);
        Said::last("")
    });
    let setup = Setup::shipped().set("timeouts.drain_ms", "100");
    let mut appliance = setup.statements(&format!("proxy /x/* upstream {}", stuck.address)).start();
    let mut busy = appliance.wire();
    busy.send("GET /x/ HTTP/1.1\r\nhost: test\r\n\r\n");
    eventually("the request at its server", || (stuck.asked().len() == 1).then_some(()));
    appliance.program.signal("TERM");
    assert_eq!(appliance.program.status().code(), Some(0));
    appliance.says("connections were still open after timeouts.drain_ms and are cut\" drain_ms=100 connections=1");
}
