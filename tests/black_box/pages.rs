//! Every kind of page that the shipped applications, the starter and the console have, in a real browser: accessible by
//! the rules of somebody else (axe-core), and as pictures for people.

use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use crate::catalog::torn;
use crate::journeys::row_when;
use crate::support::appliance::{Appliance, Setup, deadline};
use crate::support::browser::Browser as Visitor;
use crate::support::eventually;
use crate::support::origin::{Origin, Said};
use crate::support::program::{Program, run, twintier};
use crate::support::site::Folder;
use crate::support::webdriver::Browser;

/// What `.ci/run` installs.
const AXE: &str = "axe-core@4.14.1";
const LIGHT: (&str, &str) = ("prefers-color-scheme", "light");
const DARK: (&str, &str) = ("prefers-color-scheme", "dark");

/// Gives a browser the cookies of somebody who has signed in, or of nobody.
fn become_user(browser: &Browser, url: &str, user: Option<&Visitor>) {
    browser.devtools("Network.clearBrowserCookies", &json!({}));
    for (name, value) in user.iter().flat_map(|user| &user.cookies) {
        browser.devtools("Network.setCookie", &json!({ "name": name, "value": value, "url": url }));
    }
}

/// Sends a form with a value that the browser itself would not send, so that the page says what is wrong.
fn send_wrong(browser: &Browser, form: &str, field: &str, value: &str) {
    browser.run(&format!(
        "const form = document.querySelector('{form}'); form.noValidate = true; form.elements['{field}'].value = '{value}';"
    ));
    browser.click(&format!("{form} button:not(.quiet)"));
    browser.until("what is wrong", "document.activeElement.getAttribute('aria-invalid') === 'true'");
}

/// Shows every kind of page of both applications to `look`, which is given its name.
fn catalog_pages(browser: &Browser, look: &mut dyn FnMut(&str)) {
    let suppliers = Origin::tcp(|_| Said::ok("taken"));
    let setup = Setup::shipped().set("cluster.fronts", "2").set("cluster.replicas", "3");
    let setup = setup.set("dispatch.policy", "round-robin").set("backends.suppliers", &suppliers.address);
    let appliance = setup.start();
    let [mut alice, mut bob, carol] = ["alice", "bob", "carol"].map(|name| appliance.user(name));
    let site = format!("http://{}", appliance.http);
    let draft = alice.draft("item-02", "3");
    let conflict = alice.draft("item-08", "1");
    torn(&appliance, &mut alice, &conflict);
    for (item, quantity) in [("item-03", "4"), ("item-07", "12"), ("item-11", "1")] {
        assert_eq!(alice.post("/reqcat/cart/add", &[("item", item), ("quantity", quantity)]).status, 303);
    }
    let ordered = alice.post("/reqcat/cart/order", &[("cart", "alice"), ("reason", "for the workshop")]);
    let ordered = ordered.location().to_owned();
    for (item, quantity) in [("item-04", "2"), ("item-09", "10000")] {
        assert_eq!(alice.post("/reqcat/cart/add", &[("item", item), ("quantity", quantity)]).status, 303);
    }
    let [submitted, approved] = ["item-05", "item-06"].map(|item| {
        let path = alice.draft(item, "2");
        assert_eq!(alice.post(&format!("{path}/submit"), &[]).status, 202);
        row_when(&mut alice, &path, "the posted requisition", |row| row["posting"] == "posted");
        path
    });
    let remark = "Take the larger size next time; it costs the same.";
    assert_eq!(bob.post(&format!("{approved}/approve"), &[("remark", remark)]).status, 303);

    let mut show = |name: &str, user: Option<&Visitor>, path: &str| {
        become_user(browser, &site, user);
        browser.open(&format!("{site}{path}"));
        look(name);
    };
    show("catalog", None, "/reqcat/");
    show("search", None, "/reqcat/?words=compiler");
    show("search-nothing", None, "/reqcat/?words=nothing+at+all&section=net");
    show("page-beyond", None, "/reqcat/?page=77");
    show("item-visitor", None, "/reqcat/items/item-01");
    show("sign-in", None, "/directory/sign-in");
    show("error-404", None, "/reqcat/items/none-such");
    show("error-404-front", None, "/nowhere");
    show("item", Some(&alice), "/reqcat/items/item-01");
    show("cart", Some(&alice), "/reqcat/cart");
    show("cart-empty", Some(&carol), "/reqcat/cart");
    show("order", Some(&alice), "/reqcat/cart/order");
    show("requisition-new", Some(&alice), "/reqcat/requisitions/new?item=item-09");
    show("requisition-draft", Some(&alice), &draft);
    show("requisition-edit", Some(&alice), &format!("{draft}/edit"));
    show("requisition-lines", Some(&alice), &ordered);
    show("requisition-lines-edit", Some(&alice), &format!("{ordered}/edit"));
    show("requisition-conflict", Some(&alice), &conflict);
    show("requisition-approved", Some(&alice), &approved);
    show("requisitions", Some(&alice), "/reqcat/requisitions");
    show("requisitions-none", Some(&carol), "/reqcat/requisitions");
    show("error-403", Some(&alice), "/reqcat/approvals");
    show("queue", Some(&bob), "/reqcat/approvals");
    show("requisition-decide", Some(&bob), &submitted);
    show("requisitions-all", Some(&bob), "/reqcat/requisitions");
    show("directory", Some(&bob), "/directory/");
    show("employee", Some(&carol), "/directory/employees/bob");
    show("employee-edit", Some(&carol), "/directory/employees/bob/edit");

    // Where something is wrong.
    become_user(browser, &site, None);
    browser.open(&format!("{site}/directory/sign-in"));
    browser.fill("#user", "alice");
    send_wrong(browser, "form.card", "password", "guess");
    look("sign-in-wrong");
    become_user(browser, &site, Some(&alice));
    browser.open(&format!("{site}/reqcat/items/item-01"));
    send_wrong(browser, "form.order", "quantity", "0");
    look("cart-add-wrong");
    browser.open(&format!("{site}/reqcat/requisitions/new?item=item-9999"));
    send_wrong(browser, ".card form", "quantity", "0");
    look("requisition-new-wrong");
    become_user(browser, &site, Some(&carol));
    browser.open(&format!("{site}/directory/employees/bob/edit"));
    send_wrong(browser, "form.card", "name", "");
    look("employee-edit-wrong");

    for replica in 0..3 {
        assert_eq!(appliance.admin("POST", &format!("/servers/replica/{replica}/stop")).status, 200);
    }
    become_user(browser, &site, None);
    browser.open(&format!("{site}/reqcat/"));
    look("error-503");
}

/// Shows the console in the states that an operator sees.
fn console_pages(browser: &Browser, look: &mut dyn FnMut(&str)) {
    let appliance = Setup::shipped().set("cluster.fronts", "2").set("cluster.replicas", "3").start();
    browser.open(&format!("http://{}/", appliance.admin));
    browser.until("live data", "document.getElementById('connection').dataset.state === 'live'");
    browser.until("two replicas", "document.getElementById('server-replica-2') !== null");
    look("console-idle");
    busy(&appliance, || {
        browser.until("a rate", "parseFloat(document.querySelector('#tile-rate .value').textContent) > 50");
        eventually("some seconds under load", || {
            (appliance.admin("GET", "/history").json()["rows"].as_array().unwrap().len() > 15).then_some(())
        });
        look("console-busy");
    });
    browser.click("#server-replica-1 button");
    browser.until("the question", "document.getElementById('confirm').open");
    look("console-confirm");
    browser.click("#confirm-yes");
    let row = "document.getElementById('server-replica-1').textContent";
    browser.until("a stopped replica", &format!("{row}.includes('stopped')"));
    let mut wire = appliance.wire();
    wire.send("GET /reqcat/ HTTP/1.1\r\nhost: a\r\nX <b>: 1\r\n\r\n");
    assert_eq!(wire.answer().status, 400);
    browser.until("the rejected request", "document.getElementById('rejects').textContent.includes('<b>')");
    browser.click("#claim-ask");
    browser.until("the claim chart", "document.querySelectorAll('#claim li').length > 3");
    look("console-stopped");
    browser.click("#deploy-open");
    browser.fill("#deploy-folder", appliance.setup.folder.path("reqcat/code").to_str().unwrap());
    browser.until("what would be deployed", "document.getElementById('deploy-yes').textContent === 'Deploy reqcat'");
    look("console-deploy");
    browser.click("#deploy [data-close]");
    drop(appliance);
    browser.until("the end", "document.getElementById('connection').dataset.state === 'waiting'");
    look("console-disconnected");

    let setup = Setup::shipped().set("listen.admin_token", "s3cret");
    let mut program = Program::start(&mut setup.command("serve"));
    browser.open(&format!("http://{}/", program.ready("admin")));
    browser.until("the question for the token", "document.getElementById('token-dialog').open");
    look("console-token");
}

/// Does something while visitors ask.
fn busy(appliance: &Appliance, what: impl FnOnce()) {
    let until = deadline();
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let mut visitor = appliance.visitor();
                while !done.load(std::sync::atomic::Ordering::Relaxed) && std::time::Instant::now() < until {
                    visitor.page("/reqcat/items/item-01");
                    visitor.page("/reqcat/?words=compiler");
                }
            });
        }
        what();
        done.store(true, std::sync::atomic::Ordering::Relaxed);
    });
}

/// Shows the pages of the site that `twintier init` writes.
fn starter_pages(browser: &Browser, look: &mut dyn FnMut(&str)) {
    let folder = Folder::new();
    let site = folder.path("my-site");
    assert_eq!(run(twintier().arg("init").arg(&site)).code, Some(0));
    let mut serve = twintier();
    serve.current_dir(&site).args(["serve", "--profile", "twintier.toml"]);
    serve.args(["--set", "listen.http=127.0.0.1:0", "--set", "listen.admin=127.0.0.1:0"]);
    let mut program = Program::start(&mut serve);
    let address = program.ready("http");
    let http = format!("http://{address}");
    let mut writer = Visitor::visitor(address.parse().unwrap());
    become_user(browser, &http, None);
    for (name, path) in [("starter-empty", "/notes/"), ("starter-sign-in", "/notes/sign-in")] {
        browser.open(&format!("{http}{path}"));
        look(name);
    }
    writer.page("/notes/sign-in");
    assert_eq!(writer.post("/notes/sign-in", &[("user", "writer"), ("password", "writer-password")]).status, 303);
    writer.page("/notes/write");
    let saved = writer.post("/notes/write", &[("title", "Buy tea"), ("text", "green, and some bread")]);
    assert_eq!(saved.status, 303, "{}", saved.text());
    become_user(browser, &http, Some(&writer));
    let note = saved.location().to_owned();
    for (name, path) in [
        ("starter", "/notes/"),
        ("starter-write", "/notes/write"),
        ("starter-note", note.as_str()),
        ("starter-404", "/notes/read/none"),
    ] {
        browser.open(&format!("{http}{path}"));
        look(name);
    }
    browser.open(&format!("{http}/notes/write"));
    send_wrong(browser, "main form", "title", "");
    look("starter-wrong");
}

/// axe-core's source; `None`, and a word about it, if it is absent.
fn axe() -> Option<String> {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache")));
    let source = cache.unwrap_or_default().join("twintier/node/node_modules/axe-core/axe.min.js");
    let source = std::fs::read_to_string(source).ok();
    if source.is_none() {
        println!("axe-core is absent: this test is left out (npm install --prefix ~/.cache/twintier/node {AXE})");
    }
    source
}

/// What axe-core finds against WCAG 2.2, levels A and AA, on the page as it is.
const FIND: &str = "axe.run(document, { resultTypes: ['violations'], \
    runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa'] }).then((found) => done(found.violations.flatMap((rule) => \
    rule.nodes.map((node) => `${rule.id} (${rule.help}) at ${node.target}: ${node.html} ${node.failureSummary}`))))\
    .catch((error) => done([String(error)]))";

/// Shows pages to axe-core in both schemes, and gives all that it finds.
fn violations(pages: fn(&Browser, &mut dyn FnMut(&str))) -> Option<Vec<String>> {
    let axe = axe()?;
    let browser = Browser::start()?;
    let mut found = Vec::new();
    let mut seen = 0;
    pages(&browser, &mut |name| {
        browser.run(&axe);
        for scheme in [LIGHT, DARK] {
            browser.emulate(1280, &[scheme, ("prefers-reduced-motion", "reduce")]);
            let violations = browser.run_async(FIND);
            let lines = violations.as_array().unwrap().iter();
            found.extend(lines.map(|line| format!("{name}, {}: {}", scheme.1, line.as_str().unwrap())));
            seen += 1;
        }
    });
    assert!(seen >= 12, "{seen} pages were looked at");
    Some(found)
}

#[test]
fn the_catalog_and_the_directory_are_accessible_in_both_schemes() {
    let Some(found) = violations(catalog_pages) else { return };
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn the_console_is_accessible_in_both_schemes() {
    let Some(found) = violations(console_pages) else { return };
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn the_starter_is_accessible_in_both_schemes() {
    let Some(found) = violations(starter_pages) else { return };
    assert!(found.is_empty(), "{}", found.join("\n"));
}

/// Whatever is wider than the window, or cut off in it.
const OVERFLOW: &str = "const wide = document.documentElement.scrollWidth - innerWidth; \
    return wide > 0 ? `${wide} px too wide` : ''";

/// Pictures into the folder that `PICTURES` names; `PICTURES_OF` is the beginning of the names of pages, `PICTURES_URL`
/// any other page besides.
#[test]
#[ignore = "writes pictures for people to look at"]
fn pictures_of_every_kind_of_page() {
    let folder = PathBuf::from(std::env::var_os("PICTURES").expect("PICTURES=FOLDER"));
    let wanted = std::env::var("PICTURES_OF").unwrap_or_default();
    std::fs::create_dir_all(&folder).unwrap();
    let browser = Browser::start().expect("a browser");
    let forced = ("forced-colors", "active");
    let media: [(&str, u32, &[(&str, &str)]); 5] = [
        ("light", 1280, &[LIGHT]),
        ("dark", 1280, &[DARK]),
        ("phone", 390, &[LIGHT]),
        ("phone-dark", 390, &[DARK]),
        ("forced", 1280, &[forced]),
    ];
    let mut look = |name: &str| {
        if !name.starts_with(&wanted) {
            return;
        }
        for (kind, width_px, features) in media {
            browser.emulate(width_px, features);
            // The next frame has the new size.
            browser.run_async("requestAnimationFrame(() => requestAnimationFrame(() => done(null)))");
            let wide = browser.run(OVERFLOW);
            println!("{name} {kind} {}", wide.as_str().unwrap_or_default());
            let picture = STANDARD.decode(browser.picture()).unwrap();
            std::fs::write(folder.join(format!("{name}-{kind}.png")), picture).unwrap();
        }
        browser.emulate(1280, &[LIGHT]);
    };
    if let Ok(url) = std::env::var("PICTURES_URL") {
        browser.open(&url);
        look("other");
        return;
    }
    catalog_pages(&browser, &mut look);
    console_pages(&browser, &mut look);
    starter_pages(&browser, &mut look);
    let said: Vec<String> = browser.errors();
    // Error pages are among those, and a console whose appliance has ended.
    let expected = ["the server responded with", "/events - Failed to load resource: net::ERR_CONNECTION_REFUSED"];
    let unexpected: Vec<&String> =
        said.iter().filter(|line| !expected.iter().any(|text| line.contains(text))).collect();
    assert_eq!(unexpected, Vec::<&String>::new());
}
