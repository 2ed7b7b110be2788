//! A user against a scripted server: no connection, no clock.

use super::{Browser, Effect, Ending, Fetch, Incoming, Reading, Role, World};
use crate::failure::Failure;
use crate::response::Sink;
use crate::scenario::Scenario;

/// A response of the script.
struct Answer {
    status: u16,
    fields: Vec<(&'static str, String)>,
    body: String,
}

fn answer(status: u16, fields: &[(&'static str, &str)], body: &str) -> Answer {
    Answer {
        status,
        fields: fields.iter().map(|(name, value)| (*name, (*value).to_owned())).collect(),
        body: body.to_owned(),
    }
}

fn html(body: &str) -> Answer {
    answer(200, &[("Content-Type", "text/html; charset=utf-8")], body)
}

/// Runs one session; every fetch is answered by `server`, one at a time, a millisecond apart.
struct Outcome {
    log: Vec<String>,
    failures: Vec<Failure>,
    ending: Option<Ending>,
    cache_hits: u32,
    pages: u32,
    whole_pages: u32,
}

fn session(
    browser: &mut Browser,
    scenario: &Scenario,
    number: u64,
    mut server: impl FnMut(&Fetch, Option<String>) -> Answer,
) -> Outcome {
    let world = World { scenario, authority: "h:80", seed: 1, unix_offset_ns: 1_000_000_000 };
    let mut outcome =
        Outcome { log: Vec::new(), failures: Vec::new(), ending: None, cache_hits: 0, pages: 0, whole_pages: 0 };
    let (mut now_ns, mut effects) = (1_000_000, Vec::new());
    browser.begin(&world, number, now_ns, &mut effects);
    let mut incoming = Incoming::default();
    for _ in 0..1000 {
        if effects.is_empty() {
            break;
        }
        now_ns += 1_000_000;
        match effects.remove(0) {
            Effect::Fetch(fetch) => {
                let cookie = browser.cookie(&world, &fetch.path, now_ns);
                let condition =
                    fetch.condition.as_ref().map_or(String::new(), |(name, value)| format!(" {name}={value}"));
                outcome.log.push(match &fetch.post {
                    Some((_, body)) => format!("POST {} {body}", fetch.path),
                    None => format!("GET {}{condition}", fetch.path),
                });
                let answer = server(&fetch, cookie);
                let checks = fetch.checks.map(|checks| &scenario.checks[checks]);
                incoming.expect(&fetch, checks, false);
                let mut reading = Reading { incoming: &mut incoming, checks };
                for (name, value) in &answer.fields {
                    reading.header(name.as_bytes(), value.as_bytes());
                }
                reading.body(answer.body.as_bytes());
                if let Err(failure) =
                    browser.answered(&world, &fetch, answer.status, &mut incoming, now_ns, &mut effects)
                {
                    outcome.failures.push(failure);
                }
            }
            Effect::Wait { until_ns } => {
                // The wait was ordered a millisecond ago, when the last effect was performed.
                outcome.log.push(format!("wait {}", (until_ns + 1_000_000 - now_ns) / 1_000_000));
                now_ns = now_ns.max(until_ns);
                browser.woken(&world, now_ns, &mut effects);
            }
            Effect::PageLoaded { whole, .. } => {
                outcome.pages += 1;
                outcome.whole_pages += u32::from(whole);
            }
            Effect::CacheHit { .. } => outcome.cache_hits += 1,
            Effect::End(ending) => outcome.ending = Some(ending),
        }
    }
    outcome
}

/// The step that a session failed at, and why.
fn failed_at(outcome: &Outcome) -> Option<(usize, &str)> {
    match outcome.ending.as_ref()? {
        Ending::Failed { step, why, .. } => Some((*step, why)),
        Ending::Completed => None,
    }
}

const SCENARIO: &str = r#"
    name = "shop"
    users = [{ name = "alice", password = "p&1" }, { name = "bob" }]
    words = { search = ["key ring"] }
    [[steps]]
    name = "sign-in"
    kind = "form"
    path = "/sign-in"
    fields = { user = "{user}", password = "{password}" }
    expect = [303]
    [[steps]]
    name = "search"
    kind = "get"
    path = "/items?words={word:search}"
    extract = [{ name = "item", from = "link", prefix = "/items/" }]
    [[steps]]
    name = "order"
    kind = "form"
    path = "/new?item={item}"
    action = "/orders"
    fields = { quantity = "3" }
    extract = [{ name = "order", from = "address", prefix = "/orders/" }]
    [[steps]]
    name = "submit"
    kind = "form"
    action = "/orders/{order}/submit"
    expect = [202]
    [[steps]]
    name = "wait"
    kind = "poll"
    path = "/orders/{order}?format=json"
    pointer = "/row/posting"
    until = ["posted", "failed"]
    every_s = 0.5
    timeout_s = 2
"#;

/// A small shop that is posted after `polls` questions.
fn shop(polls: usize) -> impl FnMut(&Fetch, Option<String>) -> Answer {
    let mut asked = 0;
    move |fetch, cookie| {
        let signed_in = cookie.as_deref() == Some("s=1");
        match (fetch.post.is_some(), fetch.path.as_str()) {
            (false, "/sign-in") => html(
                r#"<link rel=stylesheet href=/a.css><form method=post action=/sign-in><input type=hidden name=csrf value=c1><input name=user><input name=password></form>"#,
            ),
            (true, "/sign-in") => answer(303, &[("Location", "/"), ("Set-Cookie", "s=1; Path=/")], ""),
            (false, "/a.css") if fetch.condition.is_some() => answer(304, &[("Cache-Control", "max-age=60")], ""),
            (false, "/a.css") => answer(200, &[("ETag", "\"e\""), ("Cache-Control", "max-age=0")], "body{}"),
            _ if !signed_in => answer(403, &[], ""),
            (false, "/") => html("<link rel=stylesheet href=a.css>welcome"),
            (false, "/items?words=key%20ring") => {
                html("<link rel=stylesheet href=a.css><a href='/items/x%2F7?from=list'>one</a>")
            }
            (false, "/new?item=x%2F7") => html(
                r#"<form method=post action="/logout"></form><form method=post action="/orders"><input type=hidden name=csrf value=c2><input name=quantity value=1></form>"#,
            ),
            (true, "/orders") => answer(303, &[("Location", "http://h:80/orders/R9")], ""),
            (false, "/orders/R9") => {
                html(r#"<form method=post action="/orders/R9/submit"><input type=hidden name=csrf value=c3></form>"#)
            }
            (true, "/orders/R9/submit") => answer(202, &[("Content-Type", "text/html")], "queued"),
            (false, "/orders/R9?format=json") => {
                asked += 1;
                let posting = if asked > polls { "posted" } else { "queued" };
                answer(200, &[("Content-Type", "application/json")], &format!(r#"{{"row":{{"posting":"{posting}"}}}}"#))
            }
            _ => answer(404, &[], ""),
        }
    }
}

#[test]
fn a_whole_session_signs_in_orders_and_waits() {
    let scenario = Scenario::parse("s.toml", SCENARIO).unwrap();
    let outcome = session(&mut Browser::new(&scenario), &scenario, 0, shop(2));
    let expected = [
        "GET /sign-in",
        "GET /a.css",
        "POST /sign-in csrf=c1&user=alice&password=p%261",
        "GET /",
        "GET /a.css If-None-Match=\"e\"",
        "GET /items?words=key%20ring",
        "GET /new?item=x%2F7",
        "POST /orders csrf=c2&quantity=3",
        "GET /orders/R9",
        "POST /orders/R9/submit csrf=c3",
        "GET /orders/R9?format=json",
        "wait 500",
        "GET /orders/R9?format=json",
        "wait 500",
        "GET /orders/R9?format=json",
    ];
    assert_eq!(outcome.log, expected);
    assert_eq!(
        (outcome.ending, outcome.failures.len(), outcome.cache_hits, outcome.pages),
        (Some(Ending::Completed), 0, 1, 7)
    );
}

#[test]
fn a_poll_that_never_ends_fails_its_session() {
    let scenario = Scenario::parse("s.toml", SCENARIO).unwrap();
    let outcome = session(&mut Browser::new(&scenario), &scenario, 0, shop(usize::MAX));
    assert_eq!(outcome.failures, [Failure::Validation]);
    assert_eq!(failed_at(&outcome), Some((4, "still not `posted` or `failed` when its `timeout_s` was over")));
}

#[test]
fn statuses_redirect_circles_and_missing_links_fail_the_step() {
    let scenario = Scenario::parse("s.toml", SCENARIO).unwrap();
    let run = |server: fn(&Fetch, Option<String>) -> Answer| {
        let outcome = session(&mut Browser::new(&scenario), &scenario, 0, server);
        let (step, why) = failed_at(&outcome).unwrap();
        (step, why.to_owned(), outcome.failures, outcome.log.len())
    };
    assert_eq!(run(|_, _| answer(503, &[], "")), (0, "status 503".into(), vec![Failure::Status], 1));
    let why = "more than 20 redirects, the last one to /again".to_owned();
    assert_eq!(run(|_, _| answer(302, &[("Location", "/again")], "")), (0, why, vec![Failure::RedirectCircle], 21));
    assert_eq!(run(|_, _| answer(302, &[("Location", "http://elsewhere/")], "")).2, [Failure::Validation]);
    assert_eq!(run(|_, _| html("no form")), (0, "no form on the page".into(), vec![], 1));
    let wrong_answer = |fetch: &Fetch, _| {
        if fetch.post.is_some() { html("wrong password") } else { html("<form method=post></form>") }
    };
    assert_eq!(run(wrong_answer), (0, "status 200".into(), vec![Failure::Status], 2));
}

#[test]
fn a_missing_asset_leaves_the_page_and_a_lost_document_ends_the_session() {
    let scenario = Scenario::parse("s.toml", "name = 'x'\nsteps = [{ kind = 'get', path = '/' }]\n").unwrap();
    let world = World { scenario: &scenario, authority: "h", seed: 1, unix_offset_ns: 0 };
    let mut browser = Browser::new(&scenario);
    let outcome = session(&mut browser, &scenario, 0, |fetch, _| match fetch.role {
        Role::Document => html("<img src=/a><img src=/b>"),
        Role::Asset | Role::Sheet => answer(404, &[], ""),
    });
    assert_eq!((outcome.ending, outcome.failures), (Some(Ending::Completed), vec![Failure::Status, Failure::Status]));
    let mut effects = Vec::new();
    browser.begin(&world, 1, 5, &mut effects);
    let Some(Effect::Fetch(fetch)) = effects.pop() else { panic!("a fetch") };
    browser.failed(&world, &fetch, Failure::Reset, 6, &mut effects);
    assert_eq!(effects, [Effect::End(Ending::Failed { step: 0, started_ns: 5, why: "reset".into() })]);
}

#[test]
fn sessions_depend_on_their_number_and_the_seed_alone() {
    let scenario = Scenario::parse("s.toml", "name = 'x'\nsteps = [{ kind = 'repeat', times = [0, 9], steps = [{ kind = 'get', path = '/{number:1-1000000}' }] }]\n").unwrap();
    let mut reused = Browser::new(&scenario);
    for number in 0..20 {
        let log = |browser: &mut Browser| session(browser, &scenario, number, |_, _| html("")).log;
        assert_eq!(log(&mut reused), log(&mut Browser::new(&scenario)), "session {number}");
    }
}

/// The requests of a session of one `get`, and whether its page was whole.
fn one_page(server: impl FnMut(&Fetch, Option<String>) -> Answer) -> (Vec<String>, Outcome) {
    let scenario = Scenario::parse("s.toml", "name = 'x'\nsteps = [{ kind = 'get', path = '/' }]\n").unwrap();
    let mut outcome = session(&mut Browser::new(&scenario), &scenario, 0, server);
    (std::mem::take(&mut outcome.log), outcome)
}

#[test]
fn a_style_sheet_asks_for_more_once_it_is_there() {
    let sheet = |text: &str| answer(200, &[("Content-Type", "text/css")], text);
    let (log, outcome) = one_page(|fetch, _| match fetch.path.as_str() {
        "/" => html("<link rel=stylesheet href=/css/a.css><img src=/x.png>"),
        "/css/a.css" => sheet("@import 'b.css'; p { background: url(/x.png) } q { background: url(//cdn/y.png) }"),
        "/css/b.css" => sheet("@import 'a.css'; p { background: url(c.png) }"),
        _ => answer(200, &[], ""),
    });
    assert_eq!(log, ["GET /", "GET /css/a.css", "GET /x.png", "GET /css/b.css", "GET /css/c.png"]);
    assert_eq!((outcome.pages, outcome.ending), (1, Some(Ending::Completed)));
}

#[test]
fn a_sheet_from_the_cache_still_leads_to_its_images() {
    let text = "name = 'x'\nsteps = [{ kind = 'get', path = '/' }, { kind = 'get', path = '/' }]\n";
    let scenario = Scenario::parse("s.toml", text).unwrap();
    let outcome = session(&mut Browser::new(&scenario), &scenario, 0, |fetch, _| match fetch.path.as_str() {
        "/" => html("<link rel=stylesheet href=/a.css>"),
        "/a.css" => answer(200, &[("Cache-Control", "max-age=60")], "p { background: url(b.png) }"),
        _ => answer(200, &[("ETag", "e")], ""),
    });
    assert_eq!(outcome.log, ["GET /", "GET /a.css", "GET /b.png", "GET /", "GET /b.png If-None-Match=e"]);
    assert_eq!((outcome.cache_hits, outcome.pages), (1, 2));
}

#[test]
fn assets_follow_redirects_and_their_circle_costs_the_page_its_wholeness() {
    let (log, outcome) = one_page(|fetch, _| match fetch.path.as_str() {
        "/" => html("<img src=/moved><img src=/away>"),
        "/moved" => answer(302, &[("Location", "/there")], ""),
        "/away" => answer(302, &[("Location", "https://cdn/x")], ""),
        _ => answer(200, &[], ""),
    });
    assert_eq!(log, ["GET /", "GET /moved", "GET /away", "GET /there"]);
    assert_eq!((outcome.pages, outcome.whole_pages, outcome.failures), (1, 1, vec![]));
    let (log, outcome) = one_page(|fetch, _| match fetch.path.as_str() {
        "/" => html("<img src=/round>"),
        _ => answer(301, &[("Location", "/round")], ""),
    });
    assert_eq!((log.len(), outcome.pages, outcome.whole_pages), (22, 1, 0));
    assert_eq!((outcome.failures, outcome.ending), (vec![Failure::RedirectCircle], Some(Ending::Completed)));
}

#[test]
fn redirects_keep_the_method_that_the_standard_says() {
    let text = "name = 'x'\nsteps = [{ kind = 'form', path = '/form' }]\n";
    let scenario = Scenario::parse("s.toml", text).unwrap();
    for (status, kept) in [(301, false), (302, false), (303, false), (307, true), (308, true)] {
        let outcome = session(&mut Browser::new(&scenario), &scenario, 0, |fetch, _| match fetch.path.as_str() {
            "/form" => html("<form method=post action=/a><input name=x value=1></form>"),
            "/a" => answer(status, &[("Location", "b")], ""),
            _ => html(""),
        });
        let last = if kept { "POST /b x=1" } else { "GET /b" };
        assert_eq!(outcome.log, ["GET /form", "POST /a x=1", last], "{status}");
    }
}

#[test]
fn a_page_that_does_not_meet_its_checks_fails_its_step() {
    let text = r#"
        name = "x"
        [[steps]]
        name = "home"
        kind = "get"
        path = "/"
        expect = [200]
        expect_header = ["Content-Type: text/html", "ETag"]
        expect_body = ["welcome"]
        expect_body_bytes = 11
    "#;
    let scenario = Scenario::parse("s.toml", text).unwrap();
    let run = |etag: bool, body: &str| {
        let outcome = session(&mut Browser::new(&scenario), &scenario, 0, |fetch, _| match fetch.path.as_str() {
            // What comes before the page is not checked.
            "/" => answer(302, &[("Location", "/home")], ""),
            _ => answer(200, &[("Content-Type", "text/html"), ("ETag", "e")][..1 + usize::from(etag)], body),
        });
        (failed_at(&outcome).map(|(_, why)| why.to_owned()), outcome.failures)
    };
    let failed = |why: &str| (Some(why.to_owned()), vec![Failure::Validation]);
    assert_eq!(run(true, "welcome! 1<"), (None, vec![]));
    assert_eq!(run(false, "welcome! 1<"), failed("no header ETag"));
    assert_eq!(run(true, "welcom_! 1<"), failed("no body text welcome"));
    assert_eq!(run(true, "welcome! 1"), failed("no body bytes 11"));
}

#[test]
fn forms_are_sent_as_they_say() {
    let text = "name = 'x'\nsteps = [{ kind = 'form', path = '/form', fields = { a = 'x y' } }]\n";
    let scenario = Scenario::parse("s.toml", text).unwrap();
    let run = |form: &str| {
        let outcome = session(&mut Browser::new(&scenario), &scenario, 0, |fetch, _| match fetch.path.as_str() {
            "/form" => html(form),
            _ => html(""),
        });
        (outcome.log.get(1).cloned(), failed_at(&outcome).map(|(_, why)| why.to_owned()))
    };
    assert_eq!(run("<form action=/s?old=1><input name=a></form>").0.unwrap(), "GET /s?a=x+y");
    let multipart = run("<form action=/s method=post enctype=multipart/form-data><input name=a></form>").0.unwrap();
    assert!(multipart.contains("form-data; name=\"a\"\r\n\r\nx y\r\n"), "{multipart}");
    assert_eq!(run("<form action=//cdn/s><input name=a></form>").1.unwrap(), "the form leads to another host");
    assert!(run("<form method=post enctype=text/plain></form>").1.unwrap().contains("text/plain"));
}
