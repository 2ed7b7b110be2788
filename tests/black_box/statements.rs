//! Statements that change while the site is serving.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::appliance::{Appliance, Setup, deadline};
use crate::support::eventually;
use crate::support::wire::Wire;

/// Browsers that ask without a pause until they are stopped; no answer but 200 is allowed.
struct Load {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
    browsers: Vec<thread::JoinHandle<()>>,
}

impl Load {
    fn on(appliance: &Appliance) -> Self {
        let (stop, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let browsers = (0..4)
            .map(|browser| {
                let (stop, answered, address) = (Arc::clone(&stop), Arc::clone(&answered), appliance.http);
                thread::spawn(move || {
                    let mut wire = Wire::open(address);
                    let path = if browser % 2 == 0 { "/reqcat/items/item-01" } else { "/reqcat/static/style.css" };
                    while !stop.load(Ordering::Acquire) {
                        let answer = wire.get(path);
                        assert_eq!((answer.status, answer.closes()), (200, false), "{path}");
                        answered.fetch_add(1, Ordering::Relaxed);
                    }
                })
            })
            .collect();
        Self { stop, answered, browsers }
    }

    /// Goes on until that many more answers have come.
    fn go_on(&self, answers: u64) {
        let (until, end) = (self.answered.load(Ordering::Relaxed) + answers, deadline());
        while self.answered.load(Ordering::Relaxed) < until
            && self.browsers.iter().all(|browser| !browser.is_finished())
        {
            assert!(Instant::now() < end, "the load stands still");
            thread::yield_now();
        }
    }

    fn end(self) {
        self.stop.store(true, Ordering::Release);
        for browser in self.browsers {
            browser.join().unwrap();
        }
    }
}

#[test]
fn a_changed_file_is_in_force_without_a_failed_request_and_a_wrong_one_is_refused() {
    let appliance = Setup::shipped().start();
    let folder = &appliance.setup.folder;
    let load = Load::on(&appliance);
    load.go_on(100);
    let mut wires: Vec<Wire> = (0..4).map(|_| appliance.wire()).collect();
    for wire in &mut wires {
        assert_eq!(wire.get("/new/").status, 404);
    }

    let shipped = folder.read("site.statements");
    let changed = Instant::now();
    folder.replace("site.statements", format!("{shipped}redirect /new/* /reqcat/ 302\n"));
    for wire in &mut wires {
        eventually("the new route on every front", || (wire.get("/new/").status == 302).then_some(()));
    }
    assert!(changed.elapsed() < Duration::from_secs(2), "the new route took {:?}", changed.elapsed());
    load.go_on(100);

    // Wrong in its last line: refused whole, the old table stays.
    folder.replace("site.statements", format!("{shipped}fail /reqcat/* 404\npass /x/* flies here\n"));
    let line = shipped.lines().count() + 2;
    let said = appliance.says("the statements are refused, the old ones stay");
    let refused = said.lines().find(|line| line.contains("are refused")).unwrap();
    assert!(refused.contains(&format!("site.statements:{line}:")), "{refused}");
    for wire in &mut wires {
        assert_eq!(wire.get("/new/").status, 302);
        assert_eq!(wire.get("/reqcat/").status, 200);
    }
    load.go_on(100);

    // Right again.
    folder.replace("site.statements", shipped);
    for wire in &mut wires {
        eventually("the old table on every front", || (wire.get("/new/").status == 404).then_some(()));
    }
    load.go_on(100);
    load.end();
    assert_eq!(appliance.status()["site_version"], 3);
}

#[test]
fn host_blocks_and_first_match_decide() {
    let appliance = Setup::shipped()
        .statements("redirect /where /common 302\nhost shop.example.com\nredirect /here /shop 302\nfail /closed/* 403")
        .start();
    let mut wire = appliance.wire();
    let mut ask = |host: &str, path: &str| {
        wire.send(format!("GET {path} HTTP/1.1\r\nhost: {host}\r\n\r\n"));
        wire.answer()
    };
    assert_eq!(ask("other.example.com", "/where").location(), "/common");
    assert_eq!(ask("shop.example.com", "/where").location(), "/common");
    assert_eq!(ask("shop.example.com", "/here").location(), "/shop");
    assert_eq!(ask("SHOP.example.com:8080", "/closed/x").status, 403);
    assert_eq!(ask("other.example.com", "/closed/x").status, 404);
}

#[test]
fn a_changed_static_file_is_served_with_a_new_validator() {
    let appliance = Setup::shipped().start();
    let mut wire = appliance.wire();
    let before = wire.get("/reqcat/static/style.css");
    appliance.setup.folder.replace("reqcat/static/style.css", "body { color: teal }\n");
    let after = eventually("the new file", || {
        let answer = wire.get("/reqcat/static/style.css");
        (answer.text() == "body { color: teal }\n").then_some(answer)
    });
    assert_ne!(before.header("etag"), after.header("etag"));
}
