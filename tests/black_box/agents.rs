//! Agents: one effect at the back-end for each accepted request, whatever happens in between.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use serde_json::{Value, json};

use crate::journeys::row_when;
use crate::support::appliance::{Appliance, Setup};
use crate::support::browser::Browser;
use crate::support::origin::{Origin, Said};
use crate::support::{PATIENCE, eventually};

/// What the back-end server does with an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// Says nothing and does nothing.
    Deaf,
    /// Takes it, and says nothing.
    Mute,
    Taking,
    /// Refuses it for now.
    Busy,
}

#[derive(Debug)]
struct Ledger {
    mode: Mode,
    /// Bodies of orders taken by idempotency key: an order of a known key has no second effect.
    effects: BTreeMap<String, Vec<u8>>,
    /// Orders received by key.
    received: BTreeMap<String, usize>,
    /// Orders of a known key with another body.
    changed: usize,
}

/// A back-end server that knows orders by their idempotency keys.
struct Suppliers {
    origin: Origin,
    ledger: Arc<(Mutex<Ledger>, Condvar)>,
}

impl Suppliers {
    fn start(socket: &Path, mode: Mode) -> Self {
        let ledger = Ledger { mode, effects: BTreeMap::new(), received: BTreeMap::new(), changed: 0 };
        let ledger = Arc::new((Mutex::new(ledger), Condvar::new()));
        let shared = Arc::clone(&ledger);
        let origin = Origin::unix(socket, move |asked| {
            let (ledger, changed) = &*shared;
            let key = asked.header("idempotency-key").unwrap().to_owned();
            let mut ledger = ledger.lock().unwrap_or_else(PoisonError::into_inner);
            *ledger.received.entry(key.clone()).or_default() += 1;
            let mode = ledger.mode;
            if matches!(mode, Mode::Mute | Mode::Taking) {
                let body = ledger.effects.entry(key).or_insert_with(|| asked.body.clone()) == &asked.body;
                ledger.changed += usize::from(!body);
            }
            changed.notify_all();
            match mode {
                // The connection ends when its client is killed; the answer then reaches nobody.
                Mode::Deaf | Mode::Mute => {
                    let waited = changed.wait_timeout_while(ledger, PATIENCE, |ledger| ledger.mode == mode);
                    drop(waited);
                    Said::last("")
                }
                Mode::Taking => Said::ok("taken"),
                Mode::Busy => Said::last("HTTP/1.1 503 Busy\r\nretry-after: 60\r\ncontent-length: 0\r\n\r\n"),
            }
        });
        Self { origin, ledger }
    }

    fn set(&self, mode: Mode) {
        self.ledger.0.lock().unwrap().mode = mode;
        self.ledger.1.notify_all();
    }

    #[track_caller]
    fn until(&self, what: &str, is_so: impl Fn(&Ledger) -> bool) {
        eventually(what, || is_so(&self.ledger.0.lock().unwrap()).then_some(()));
    }
}

fn key(path: &str) -> String {
    format!("requisition/{}/requisition-submit", path.rsplit('/').next().unwrap())
}

fn submit(alice: &mut Browser) -> String {
    let path = alice.draft("item-10", "1");
    let answer = alice.post(&format!("{path}/submit"), &[]);
    assert_eq!(answer.status, 202, "{}", answer.text());
    path
}

/// `kill -9` and a new start; the session goes on.
fn restart(appliance: Appliance, alice: &Browser) -> (Appliance, Browser) {
    let cookies = alice.cookies.clone();
    let appliance = appliance.kill_and_restart();
    let mut alice = appliance.visitor();
    alice.cookies = cookies;
    assert_eq!(alice.page("/reqcat/requisitions").status, 200);
    (appliance, alice)
}

/// Agents' work as `/status` has it; the books balance whenever it is asked.
#[track_caller]
fn work(appliance: &Appliance) -> Value {
    let agents = appliance.status()["storage"]["agents"].clone();
    assert_eq!(agents["books"], 0, "{agents}");
    agents
}

fn setup(agent: &[(&str, &str)]) -> (Setup, std::path::PathBuf) {
    let setup = Setup::shipped();
    let socket = setup.folder.path("suppliers.sock");
    for (from, to) in agent {
        setup.folder.edit("reqcat/code/agents/requisition-submit.toml", from, to);
    }
    let setup = setup.set("backends.suppliers", &format!("unix:{}", socket.display()));
    (setup, socket)
}

#[test]
fn an_order_has_one_effect_wherever_the_process_is_killed() {
    let (setup, socket) = setup(&[("attempts = 6", "attempts = 30"), ("backoff_ms = 250", "backoff_ms = 5")]);
    let suppliers = Suppliers::start(&socket, Mode::Deaf);
    let appliance = setup.start();
    let mut alice = appliance.user("alice");

    // Killed while an attempt runs that the back-end server has not acted upon.
    let first = submit(&mut alice);
    suppliers.until("the first attempt", |ledger| ledger.received.contains_key(&key(&first)));
    assert_eq!((work(&appliance)["running"].clone(), work(&appliance)["waiting"].clone()), (json!(1), json!(0)));
    let (appliance, mut alice) = restart(appliance, &alice);
    suppliers.until("the attempt of the next life", |ledger| ledger.received[&key(&first)] >= 2);

    // Killed when the back-end server has it and the appliance does not know.
    suppliers.set(Mode::Mute);
    suppliers.until("the first effect", |ledger| ledger.effects.contains_key(&key(&first)));
    assert_ne!(alice.data(&first).json()["row"]["posting"], "posted");
    // Killed right after the answer, perhaps before an agent was ordered.
    let second = submit(&mut alice);
    let (appliance, mut alice) = restart(appliance, &alice);
    suppliers.set(Mode::Taking);
    for path in [&first, &second] {
        row_when(&mut alice, path, "the posted requisition", |row| row["posting"] == "posted");
    }

    // Killed when all is recorded: nothing is asked again.
    let received = suppliers.origin.asked().len();
    let (appliance, mut alice) = restart(appliance, &alice);
    let third = submit(&mut alice);
    row_when(&mut alice, &third, "the third requisition", |row| row["posting"] == "posted");
    assert_eq!(suppliers.origin.asked().len(), received + 1);
    let ledger = suppliers.ledger.0.lock().unwrap();
    let keys: Vec<&String> = ledger.effects.keys().collect();
    let mut expected = [key(&first), key(&second), key(&third)];
    expected.sort();
    assert_eq!(keys, expected.iter().collect::<Vec<_>>(), "one effect for each accepted request");
    assert_eq!(ledger.received.keys().collect::<Vec<_>>(), keys, "no other key was ever sent");
    assert!(ledger.received[&key(&first)] >= 3, "{:?}", ledger.received);
    assert_eq!(ledger.changed, 0, "an attempt says what the first one said");
    drop(ledger);
    let done = eventually("the end in the books", || Some(work(&appliance)).filter(|agents| agents["running"] == 0));
    assert_eq!((&done["failed"], &done["left"]), (&json!(0), &json!(0)), "{done}");
}

#[test]
fn orders_that_find_no_room_stay_in_the_journal_until_there_is_some() {
    let (setup, socket) = setup(&[]);
    let suppliers = Suppliers::start(&socket, Mode::Deaf);
    let appliance = setup.set("storage.agents_max", "1").set("storage.orders_max", "1").start();
    let mut alice = appliance.user("alice");
    let paths: Vec<String> = (0..8).map(|_| submit(&mut alice)).collect();
    // One runs, one waits at the desk, one in the inbox.
    let refused =
        eventually("refused orders", || Some(work(&appliance)).filter(|agents| agents["orders_refused"] != 0));
    assert!(refused["running"] == 1 && refused["queued"].as_u64().unwrap() <= 2, "{refused}");
    for path in &paths {
        let page = alice.page(path).text();
        assert!(page.contains("requisition-submit: queued") || page.contains("requisition-submit: running"), "{page}");
    }
    suppliers.set(Mode::Taking);
    for path in &paths {
        row_when(&mut alice, path, "the posted requisition", |row| row["posting"] == "posted");
        work(&appliance);
    }
    let ledger = suppliers.ledger.0.lock().unwrap();
    assert_eq!(ledger.effects.len(), paths.len());
    assert_eq!(ledger.changed, 0);
}

#[test]
fn work_that_waits_or_that_nobody_can_do_says_why() {
    let (setup, socket) = setup(&[("attempts = 6", "attempts = 30")]);
    let suppliers = Suppliers::start(&socket, Mode::Busy);
    let appliance = setup.start();
    let mut alice = appliance.user("alice");
    let path = submit(&mut alice);
    let waiting = eventually("the pause", || Some(work(&appliance)).filter(|agents| agents["waiting"] == 1));
    assert_eq!((&waiting["accepted"], &waiting["running"], &waiting["queued"]), (&json!(2), &json!(0), &json!(0)));
    let page = eventually("the reason on the page", || {
        Some(alice.page(&path).text()).filter(|page| page.contains("requisition-submit: waiting"))
    });
    assert!(page.contains("waiting, 1 attempt, suppliers answered 503"), "{page}");
    if waiting["files_shares"] != 0 {
        assert_eq!((&waiting["files_shares"], &waiting["agents_shares"]), (&json!(600), &json!(100)), "{waiting}");
    }

    // The code that comes next has no such agent.
    let folder = &appliance.setup.folder;
    folder.edit("reqcat/code/actions/requisition-submit.toml", "agent = \"requisition-submit\"", "");
    let rule = "[[allow]]\nrole = \"employee\"\ncode = \"agents/requisition-submit\"\nverbs = [\"run\"]\n";
    folder.edit("reqcat/code/authority.toml", rule, "");
    std::fs::remove_file(folder.path("reqcat/code/agents/requisition-submit.toml")).unwrap();
    let (appliance, mut alice) = restart(appliance, &alice);
    let reason = "requisition-submit: failed, 1 attempt, the code has no agent `requisition-submit` for this table";
    eventually("the end of work that nobody can do", || alice.page(&path).text().contains(reason).then_some(()));
    // The row is on the page before the storage thread has turned again and counted.
    eventually("the count of it", || (work(&appliance)["failed"] == 1).then_some(()));
    assert!(suppliers.ledger.0.lock().unwrap().effects.is_empty());
}
