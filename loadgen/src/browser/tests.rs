//! A user against a scripted server: no connection, no clock.

use super::{Browser, Effect, Ending, Fetch, Incoming, Role, World};
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
}

fn session(
    browser: &mut Browser,
    scenario: &Scenario,
    number: u64,
    mut server: impl FnMut(&Fetch, Option<String>) -> Answer,
) -> Outcome {
    let world = World { scenario, authority: "h:80", seed: 1, unix_offset_ns: 1_000_000_000 };
    let mut outcome = Outcome { log: Vec::new(), failures: Vec::new(), ending: None, cache_hits: 0, pages: 0 };
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
                let method = if fetch.post { "POST" } else { "GET" };
                outcome.log.push(format!(
                    "{method} {}{}{}{condition}",
                    fetch.path,
                    if fetch.body.is_empty() { "" } else { " " },
                    fetch.body
                ));
                let answer = server(&fetch, cookie);
                incoming.expect(fetch.role);
                for (name, value) in &answer.fields {
                    incoming.header(name.as_bytes(), value.as_bytes());
                }
                incoming.body(answer.body.as_bytes());
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
            Effect::PageLoaded { .. } => outcome.pages += 1,
            Effect::CacheHit => outcome.cache_hits += 1,
            Effect::End(ending) => outcome.ending = Some(ending),
        }
    }
    outcome
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
        match (fetch.post, fetch.path.as_str()) {
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
    assert_eq!(outcome.ending, Some(Ending::Failed { step: 4 }));
}

#[test]
fn statuses_redirect_circles_and_missing_links_fail_the_step() {
    let scenario = Scenario::parse("s.toml", SCENARIO).unwrap();
    let run = |server: fn(&Fetch, Option<String>) -> Answer| {
        let outcome = session(&mut Browser::new(&scenario), &scenario, 0, server);
        (outcome.ending, outcome.failures, outcome.log.len())
    };
    assert_eq!(run(|_, _| answer(503, &[], "")), (Some(Ending::Failed { step: 0 }), vec![Failure::Status], 1));
    assert_eq!(
        run(|_, _| answer(302, &[("Location", "/again")], "")),
        (Some(Ending::Failed { step: 0 }), vec![Failure::Validation], 11)
    );
    assert_eq!(run(|_, _| answer(302, &[("Location", "http://elsewhere/")], "")).1, [Failure::Validation]);
    assert_eq!(run(|_, _| html("no form")), (Some(Ending::Failed { step: 0 }), vec![], 1));
    let wrong_answer =
        |fetch: &Fetch, _| if fetch.post { html("wrong password") } else { html("<form method=post></form>") };
    assert_eq!(run(wrong_answer), (Some(Ending::Failed { step: 0 }), vec![Failure::Status], 2));
}

#[test]
fn a_missing_asset_leaves_the_page_and_a_lost_document_ends_the_session() {
    let scenario = Scenario::parse("s.toml", "name = 'x'\nsteps = [{ kind = 'get', path = '/' }]\n").unwrap();
    let world = World { scenario: &scenario, authority: "h", seed: 1, unix_offset_ns: 0 };
    let mut browser = Browser::new(&scenario);
    let outcome = session(&mut browser, &scenario, 0, |fetch, _| match fetch.role {
        Role::Document => html("<img src=/a><img src=/b>"),
        Role::Asset => answer(404, &[], ""),
    });
    assert_eq!((outcome.ending, outcome.failures), (Some(Ending::Completed), vec![Failure::Status, Failure::Status]));
    let mut effects = Vec::new();
    browser.begin(&world, 1, 5, &mut effects);
    let Some(Effect::Fetch(fetch)) = effects.pop() else { panic!("a fetch") };
    browser.failed(&world, &fetch, 6, &mut effects);
    assert_eq!(effects, [Effect::End(Ending::Failed { step: 0 })]);
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
