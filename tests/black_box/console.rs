//! The operator's console: its events, who may ask, its script, and the page in a real browser.

use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::support::appliance::{Appliance, Setup, shared};
use crate::support::eventually;
use crate::support::program::{Program, run};
use crate::support::webdriver::Browser;
use crate::support::wire::{Answer, Wire};

/// Places for consoles, as `src/admin/feed.rs` has them.
const LISTENERS_MAX: usize = 16;

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/admin/console");

/// One console's stream of events.
struct Events(Wire);

/// One event: its number and its object.
#[derive(Clone, Debug, PartialEq)]
struct Event {
    id: u64,
    data: Value,
}

impl Events {
    /// Asks for events; gives the status of the answer where there are none.
    #[track_caller]
    fn open(admin: std::net::SocketAddr, fields: &str) -> Result<Self, u16> {
        let mut wire = Wire::open(admin);
        wire.send(format!("GET /events HTTP/1.1\r\nhost: {admin}\r\n{fields}\r\n"));
        let mut line = || wire.line().expect("an answer");
        let status: u16 = line().split(' ').nth(1).unwrap().parse().unwrap();
        let mut head = Vec::new();
        loop {
            match line() {
                end if end.is_empty() => break,
                field => head.push(field),
            }
        }
        if status != 200 {
            return Err(status);
        }
        for field in ["content-type: text/event-stream", "cache-control: no-store", "x-content-type-options: nosniff"] {
            assert!(head.iter().any(|known| known == field), "{field}: {head:?}");
        }
        Ok(Self(wire))
    }

    /// The next event; `None` when the stream has ended as it should.
    #[track_caller]
    fn next(&mut self) -> Option<Event> {
        let first = self.0.line().expect("an event, or the end of the stream");
        if first == "event: end" {
            assert_eq!(self.0.line().as_deref(), Some("data: {}"));
            assert_eq!(self.0.line().as_deref(), Some(""));
            assert_eq!(self.0.line(), None, "nothing follows the end");
            return None;
        }
        let id = first.strip_prefix("id: ").unwrap_or_else(|| panic!("no id: {first}")).parse().unwrap();
        let data = self.0.line().unwrap();
        let data = data.strip_prefix("data: ").unwrap_or_else(|| panic!("no data: {data}"));
        assert_eq!(self.0.line().as_deref(), Some(""));
        Some(Event { id, data: serde_json::from_str(data).unwrap() })
    }
}

#[test]
fn events_come_once_a_second_to_all_who_listen_and_end_with_the_appliance() {
    let mut appliance = Setup::shipped().start();
    let mut first = Events::open(appliance.admin, "").unwrap_or_else(|status| panic!("{status}"));
    let mut second = Events::open(appliance.admin, "").unwrap_or_else(|status| panic!("{status}"));
    let mut event = first.next().unwrap();
    let began = (event.id, event.data["at_ms"].as_u64().unwrap());
    for count in 1..=3 {
        event = first.next().unwrap();
        assert_eq!(event.id, began.0 + count, "none is left out");
    }
    // One look may take longer than another; three beats are not shorter for it by more than a look may take.
    let elapsed_ms = event.data["at_ms"].as_u64().unwrap() - began.1;
    assert!(elapsed_ms >= 2_200, "three events in {elapsed_ms} ms");
    assert_eq!(event.data["fronts"].as_array().unwrap().len(), event.data["replicas"].as_array().unwrap().len());
    for replica in event.data["replicas"].as_array().unwrap() {
        assert_eq!((&replica["state"], &replica["code_version"]), (&"running".into(), &1.into()), "{replica}");
    }
    assert_eq!(event.data["books"]["requests"], 0);
    assert_eq!(event.data["applications"], serde_json::json!(["directory", "reqcat"]));
    assert!(event.data.to_string().len() < 8 * 1024, "an event is small: {}", event.data.to_string().len());

    // The other console gets the same, not its own.
    let same = loop {
        let other = second.next().unwrap();
        if other.id == event.id {
            break other;
        }
    };
    assert_eq!(same, event);

    // What browsers do shows.
    let mut visitor = appliance.visitor();
    let busy = |event: &Event| event.data["total"]["rate_per_s"].as_f64().unwrap() > 0.0;
    let shown = eventually("an event with requests in it", || {
        visitor.page("/reqcat/");
        let event = first.next().unwrap();
        busy(&event).then_some(event)
    });
    let total = &shown.data["total"];
    assert!(total["p50_us"].as_f64().unwrap() > 0.0 && total["p99_us"].as_f64() >= total["p50_us"].as_f64(), "{total}");

    appliance.program.signal("TERM");
    while first.next().is_some() {}
    while second.next().is_some() {}
    assert_eq!(appliance.program.status().code(), Some(0), "{}", appliance.program.stderr());
}

#[test]
fn so_many_consoles_may_listen_and_one_that_closes_makes_room() {
    let appliance = Setup::shipped().start();
    let mut consoles: Vec<Events> = (0..LISTENERS_MAX)
        .map(|_| Events::open(appliance.admin, "").unwrap_or_else(|status| panic!("{status}")))
        .collect();
    assert_eq!(Events::open(appliance.admin, "").err(), Some(503), "one too many");
    assert_eq!(appliance.admin("GET", "/status").status, 200, "everything else is answered");
    assert!(consoles[0].next().is_some(), "the others go on");
    consoles.pop();
    // That it is gone shows when an event cannot be written.
    eventually("a free place", || Events::open(appliance.admin, "").ok());
}

/// Connections to the admin interface at the same time, as `src/admin/incoming.rs` has them.
const CONNECTIONS_MAX: usize = 128;

#[test]
fn who_asks_for_nothing_does_not_keep_others_out() {
    let appliance = Setup::shipped().start();
    let mut half = Wire::open(appliance.admin);
    half.send("GET /status HTTP/1.1\r\nhost: localhost\r\n");
    // These take all places, so the last of them are told so. Who has sent nothing at all is closed without a word.
    let silent: Vec<Wire> = (0..CONNECTIONS_MAX + 4).map(|_| Wire::open(appliance.admin)).collect();
    let ends: Vec<Option<Answer>> = silent.into_iter().map(|mut wire| wire.answer_to("GET")).collect();
    let refused: Vec<&Answer> = ends.iter().flatten().collect();
    assert!((4..16).contains(&refused.len()), "{refused:?}");
    for answer in refused {
        assert!(answer.status == 503 && answer.text().contains("128 connections"), "{answer:?}");
    }
    assert_eq!(half.answer().status, 408, "who stopped in the middle is told why");
    let history = appliance.admin("GET", "/history").json();
    assert!(history["rows"].as_array().unwrap().len() > 5, "the seconds went on: {history}");
}

#[test]
fn a_token_guards_the_events_and_not_the_page_that_asks_for_it() {
    let setup = Setup::shipped().set("listen.admin_token", "s3cret");
    let mut program = Program::start(&mut setup.command("serve"));
    let admin = program.ready("admin").parse().unwrap();
    let refused = |fields| Events::open(admin, fields).err();
    assert_eq!(refused(""), Some(401));
    assert_eq!(refused("authorization: Bearer guess\r\n"), Some(401));
    assert_eq!(refused("authorization: s3cret\r\n"), Some(401));
    let mut events =
        Events::open(admin, "authorization: Bearer s3cret\r\n").unwrap_or_else(|status| panic!("{status}"));
    assert!(events.next().is_some());
    let page = Wire::open(admin).get("/");
    assert_eq!(page.status, 200);
    assert!(!page.text().contains("quickstart"), "the page itself tells nothing");
    assert_eq!(Wire::open(admin).get("/console/main.mjs").status, 200);
    for path in ["/status", "/console", "/console/../status", "/rejects", "/claim", "/history"] {
        assert_eq!(Wire::open(admin).get(path).status, 401, "{path}");
    }
}

#[track_caller]
fn ask(appliance: &Appliance, method: &str, path: &str, fields: &[(&str, &str)]) -> Answer {
    let mut wire = Wire::open(appliance.admin);
    let own = appliance.admin.to_string();
    let host = fields.iter().find(|(name, _)| *name == "host").map_or(own.as_str(), |(_, host)| *host);
    let mut head = format!("{method} {path} HTTP/1.1\r\nhost: {host}\r\ncontent-length: 0\r\n");
    for (name, value) in fields.iter().filter(|(name, _)| *name != "host") {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    wire.send(head + "\r\n");
    wire.answer_to(method).expect("an answer")
}

#[test]
fn pages_of_other_sites_can_neither_order_nor_read() {
    let appliance = shared();
    let own = format!("http://{}", appliance.admin);
    // It serves already: the order changes nothing for the tests beside this one.
    let order = "/servers/front/0/start";
    let status = |method, path, fields: &[(&str, &str)]| ask(&appliance, method, path, fields).status;
    for (fields, expected) in [
        (&[][..], 200),
        (&[("origin", own.as_str())], 200),
        (&[("origin", &own), ("sec-fetch-site", "same-origin")], 200),
        (&[("origin", "http://evil.example")], 403),
        (&[("origin", "null")], 403),
        (&[("origin", "http://evil.example"), ("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "no-cors")], 403),
        (&[("sec-fetch-site", "same-site"), ("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "document")], 403),
        (&[("host", "rebound.example:8081")], 403),
        (&[("host", "rebound.example:8081"), ("origin", "http://rebound.example:8081")], 403),
        (&[("host", "localhost:1234")], 200),
    ] {
        assert_eq!(status("POST", order, fields), expected, "{fields:?}");
    }
    let foreign = [("origin", "http://evil.example"), ("content-type", "text/plain")];
    assert_eq!(status("POST", "/deploy", &foreign), 403, "a deploy by a form");
    let image = [("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "no-cors"), ("sec-fetch-dest", "image")];
    for path in ["/claim", "/events", "/status", "/"] {
        assert_eq!(status("GET", path, &image), 403, "{path}");
        assert_eq!(status("GET", path, &[("host", "rebound.example")]), 403, "{path}");
    }
    let link = [("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "document")];
    assert_eq!(status("GET", "/", &link), 200, "a link to the console");
}

#[test]
fn the_page_may_run_its_own_files_only() {
    let appliance = shared();
    let page = ask(&appliance, "GET", "/", &[]);
    let policy = page.header("content-security-policy").unwrap();
    for part in
        ["default-src 'none'", "script-src 'self'", "style-src 'self'", "connect-src 'self'", "frame-ancestors 'none'"]
    {
        assert!(policy.split("; ").any(|known| known.trim() == part), "{part}: {policy}");
    }
    assert!(!policy.contains("unsafe"), "{policy}");
    assert_eq!(page.header("x-content-type-options"), Some("nosniff"));
    let text = page.text();
    for forbidden in [" style=", " onclick=", "javascript:", "http://", "https://"] {
        assert!(!text.contains(forbidden), "{forbidden} in the page");
    }
    // Every file that the page or its script names is there, with a type that browsers take.
    let mut todo = vec!["/console/main.mjs".to_owned(), "/console/style.css".to_owned()];
    let mut seen = Vec::new();
    while let Some(path) = todo.pop() {
        let file = ask(&appliance, "GET", &path, &[]);
        let expected =
            if path.ends_with(".mjs") { "text/javascript; charset=utf-8" } else { "text/css; charset=utf-8" };
        assert_eq!((file.status, file.header("content-type")), (200, Some(expected)), "{path}");
        let text = file.text();
        for (_, rest) in text.match_indices("from \"./").map(|(at, found)| text.split_at(at + found.len())) {
            let name = format!("/console/{}", rest.split('"').next().unwrap());
            if !seen.contains(&name) && !todo.contains(&name) {
                todo.push(name);
            }
        }
        seen.push(path);
    }
    let scripts = std::fs::read_dir(SCRIPT)
        .unwrap()
        .filter(|entry| entry.as_ref().unwrap().path().extension().is_some_and(|end| end == "mjs"));
    assert_eq!(seen.len(), scripts.count() + 1, "every script is used: {seen:?}");
    // What follows the head of an answer to HEAD is the next answer.
    let mut wire = Wire::open(appliance.admin);
    wire.send(format!(
        "HEAD / HTTP/1.1\r\nhost: {0}\r\n\r\nGET /nowhere HTTP/1.1\r\nhost: {0}\r\n\r\n",
        appliance.admin
    ));
    let head = wire.answer_to("HEAD").expect("an answer");
    assert_eq!((head.status, head.header("content-length")), (200, Some(page.body.len().to_string().as_str())));
    assert_eq!(wire.answer().status, 404);
}

#[test]
fn the_script_does_what_it_says_without_a_browser() {
    let mut node = Command::new("node");
    node.arg("--version").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    if node.status().is_err() {
        println!("node is absent: this test is left out (apt-get install nodejs)");
        return;
    }
    let node = |arguments: &[&str]| {
        let mut node = Command::new("node");
        run(node.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()))
    };
    for entry in std::fs::read_dir(SCRIPT).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|end| end == "mjs") {
            let checked = node(&["--check", path.to_str().unwrap()]);
            assert_eq!(checked.code, Some(0), "{}: {}", path.display(), checked.stderr);
        }
    }
    let units = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/black_box/console/units.mjs");
    let ended = node(&[units.to_str().unwrap(), SCRIPT]);
    assert_eq!(ended.code, Some(0), "{}{}", ended.stdout, ended.stderr);
    assert!(ended.stdout.lines().count() >= 10, "{}", ended.stdout);
}

/// What is in the page and what its script keeps.
const SIZES: &str =
    "document.getElementsByTagName('*').length + ' nodes, ' + page.history.samples().length + ' samples'";

#[test]
fn a_browser_shows_a_replica_stopped_and_started_and_a_day_of_events() {
    let Some(browser) = Browser::start() else { return };
    let appliance = Setup::shipped().start();
    browser.open(&format!("http://{}/", appliance.admin));
    browser.until("live data", "document.getElementById('connection').dataset.state === 'live'");
    let row = "document.getElementById('server-replica-1')";
    let box_says = |word: &str| {
        format!(
            "document.querySelector('#picture a[href=\"#server-replica-1\"]').getAttribute('aria-label').includes('{word}')"
        )
    };
    browser.until("a running replica", &format!("{row}?.textContent.includes('running') && {}", box_says("running")));

    // Who asks and then thinks better of it has changed nothing.
    browser.click("#server-replica-1 button");
    browser.until("the question", "document.getElementById('confirm').open");
    let question = browser.run("return document.getElementById('confirm').textContent");
    assert!(question.as_str().unwrap().contains("Stop replica 1?"), "{question}");
    browser.click("#confirm button[autofocus]");
    browser.until("no question", "!document.getElementById('confirm').open");
    assert_eq!(appliance.replication()["replicas"][1]["running"], true);

    browser.click("#server-replica-1 button");
    browser.click("#confirm-yes");
    browser.until("a stopped replica", &format!("{row}.textContent.includes('stopped') && {}", box_says("stopped")));
    assert_eq!(appliance.replication()["replicas"][1]["running"], false);
    browser.until("the outcome", "document.getElementById('outcomes').textContent.includes('stopped')");
    browser.until("what can be ordered", &format!("{row}.querySelector('button').textContent === 'Start…'"));
    browser.click("#server-replica-1 button");
    browser.click("#confirm-yes");
    browser.until("a running replica", &format!("{row}.textContent.includes('running') && {}", box_says("running")));

    // A deploy by the folder of one application.
    let code = appliance.setup.folder.path("reqcat/code");
    browser.click("#deploy-open");
    browser.fill("#deploy-folder", code.to_str().unwrap());
    browser.until("what would be deployed", "document.getElementById('deploy-yes').textContent === 'Deploy reqcat'");
    browser.click("#deploy-yes");
    browser.until("the new version", "document.getElementById('deployed-facts').textContent.includes('v2 on 2 of 2')");
    assert_eq!(appliance.status()["code_version"], 2);

    // A rejected request is shown as text, whatever is in it.
    let mut wire = appliance.wire();
    wire.send("GET / HTTP/1.1\r\nhost: a\r\nX <b>: 1\r\n\r\n");
    assert_eq!(wire.answer().status, 400);
    browser.until("the rejected request", "document.getElementById('rejects').textContent.includes('<b>')");

    appliances_on_one_database(&browser);
    a_day(&browser);
    assert_eq!(browser.errors(), Vec::<String>::new());
}

#[test]
fn a_browser_is_asked_for_the_token_once_in_a_tab() {
    let Some(browser) = Browser::start() else { return };
    let setup = Setup::shipped().set("listen.admin_token", "s3cret");
    let mut program = Program::start(&mut setup.command("serve"));
    let live = "document.getElementById('connection').dataset.state === 'live'";
    let asks = "document.getElementById('token-dialog').open";
    browser.open(&format!("http://{}/", program.ready("admin")));
    for token in ["guess", "s3cret"] {
        browser.until("the question for the token", asks);
        browser.fill("#token", token);
        browser.click("#token-form .primary");
    }
    browser.until("live data", live);
    let samples = "import(location.origin + '/console/main.mjs').then(({ page }) => done(page.history.length))";
    let count = || browser.run_async(samples).as_u64().unwrap();
    eventually("three events", || (count() >= 3).then_some(()));
    let kept = browser.run_async(
        "fetch('/history', { headers: { authorization: 'Bearer s3cret' } }).then((answer) => answer.json()).then(done)",
    );
    let began = kept["rows"][0][0].as_u64();
    assert!(began.is_some(), "{kept}");
    browser.reload();
    // With the token, and with what the server has kept of the time before.
    eventually("the samples of before", || {
        (browser.run(&format!("return {live}")) == true && count() >= 4).then_some(())
    });
    let oldest = "import(location.origin + '/console/main.mjs').then(({ page }) => done(page.history.at('at_ms', 0)))";
    assert_eq!(browser.run_async(oldest).as_u64(), began, "from the beginning");
    assert_eq!(browser.run(&format!("return {asks}")), false);
}

/// Who is alone sees nothing of it; of several, who is there and how far each has read.
fn appliances_on_one_database(browser: &Browser) {
    let shown = |members: &str| {
        browser.run_async(&format!(
            "import(location.origin + '/console/main.mjs').then(({{ page }}) => {{
                const event = structuredClone(page.last());
                const member = (member, name, alive, position, before_ms) =>
                    ({{ member, name, alive, position, started_ms: event.at_ms - before_ms }});
                const members = {members};
                event.appliances = members && {{
                    me: 3, members, alive: members.filter((one) => one.alive).length, position: 1200, head: 1234,
                    behind: 34, level_age_ms: 2000, updates: 7, reloads: 0, taken_over: 1, refused_code: null,
                }};
                page.take(event);
                page.draw();
                const rows = [...document.getElementById('appliances-rows').children];
                const words = rows.map((row) => [...row.children].map((cell) => cell.textContent).join('|'));
                done([document.getElementById('appliances').hidden, words, document.getElementById('appliances-note').textContent]);
            }}).catch((error) => done(['failed', String(error)]));"
        ))
    };
    assert_eq!(shown("null")[0], true);
    assert_eq!(shown("[member(1, 'old', false, 5, 90000), member(3, 'north', true, 1100, 60000)]")[0], true, "alone");
    let several = shown(
        "[member(1, 'old', false, 5, 90000), member(3, 'north', true, 1100, 60000), \
          member(4, 'south', true, 1230, 30000), member(5, 'west', false, 9, 20000)]",
    );
    assert_eq!(several[0], false, "{several}");
    let rows = ["north (3), this one|●up|34|1,200|1 min 0 s", "south (4)|●up|4|1,230|30 s", "west (5)|■ended|–|9|–"];
    assert_eq!(several[1], serde_json::json!(rows));
    let note = several[2].as_str().unwrap();
    assert!(note.contains("2 appliances alive") && note.contains("took over 1 piece of work"), "{note}");
}

/// Feeds the page a day of events, and draws between them as frames would.
fn a_day(browser: &Browser) {
    let day = format!(
        "import(location.origin + '/console/main.mjs').then(({{ page }}) => {{
            const event = structuredClone(page.last());
            const begin_ms = event.at_ms;
            const sizes = () => {SIZES};
            const second = (n) => {{
                event.at_ms = begin_ms + n * 1000;
                Object.assign(event.total, {{ rate_per_s: n % 997, p50_us: 100 + n % 50, p99_us: n % 7 ? n : null, waiting: n % 3 }});
                event.replicas[1].state = ['running', 'stopping', 'stopped', 'joining', 'hung'][n % 5];
                event.fronts[0].state = ['serving', 'draining', 'silent'][n % 3];
                page.take(event);
            }};
            let n = 0;
            for (; n < 1200; n++) second(n);
            page.draw();
            const before = sizes();
            for (; n < 86400; n++) {{ second(n); if (n % 150 === 0) page.draw(); }}
            page.draw();
            done([before, sizes()]);
        }}).catch((error) => done(['failed', String(error)]));"
    );
    let sizes = browser.run_async(&day);
    let before = sizes[0].as_str().unwrap();
    assert!(before.ends_with(" 600 samples"), "{sizes}");
    assert_eq!(sizes[0], sizes[1], "a day leaves nothing behind");
}
