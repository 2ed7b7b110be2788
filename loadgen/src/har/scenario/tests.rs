//! Recordings as Chromium, Firefox and others write them.

use serde_json::{Value, json};

use super::{Choices, Made, scenario};
use crate::har::Archive;
use crate::scenario::{Operation, Scenario};

fn entry(second: f64, method: &str, url: &str, status: u16) -> Value {
    let at = format!("2026-11-27T10:00:{second:06.3}Z");
    json!({
        "startedDateTime": at, "time": 100.0,
        "request": { "method": method, "url": url, "httpVersion": "HTTP/1.1", "headers": [], "cookies": [], "queryString": [], "headersSize": -1, "bodySize": 0 },
        "response": { "status": status, "statusText": "", "httpVersion": "HTTP/1.1", "headers": [], "cookies": [], "redirectURL": "", "headersSize": -1, "bodySize": 0,
            "content": { "size": 0, "mimeType": "text/html" } },
        "cache": {}, "timings": { "send": 0, "wait": 100, "receive": 0 }
    })
}

fn with(mut entry: Value, changes: &[(&str, Value)]) -> Value {
    for (pointer, value) in changes {
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        entry.pointer_mut(parent).unwrap()[key] = value.clone();
    }
    entry
}

fn made(entries: Vec<Value>, choices: &Choices) -> Result<Made, String> {
    let archive =
        json!({ "log": { "version": "1.2", "creator": { "name": "test", "version": "1" }, "entries": entries } });
    let archive: Archive = serde_json::from_value(archive).unwrap();
    scenario(&archive, choices)
}

/// The steps of a recording, which must be a scenario without mistakes.
fn steps(entries: Vec<Value>, choices: &Choices) -> (Vec<String>, String) {
    let made = made(entries, choices).unwrap();
    let scenario = Scenario::parse("made.toml", &made.toml).unwrap_or_else(|error| panic!("{error}\n{}", made.toml));
    let steps = scenario.operations.iter().map(|operation| match operation {
        Operation::Get { step, expect, .. } => format!("get {} {expect:?}", scenario.steps[*step]),
        Operation::Form { step, form } => {
            format!(
                "form {} {:?} {:?}",
                scenario.steps[*step],
                form.fields.iter().map(|(name, _)| name).collect::<Vec<_>>(),
                form.expect
            )
        }
        Operation::Think { mean_ns, constant } => format!("think {mean_ns} {constant}"),
        other => format!("{other:?}"),
    });
    (steps.collect(), made.toml)
}

fn login_page() -> Value {
    let html = "<form method=post action=/login><input type=hidden name=csrf value=c1><input name=user><input name=password type=password>\
                <input name=lang value=en><select name=size><option>s<option>m</select></form>";
    with(entry(1.0, "GET", "http://shop.test/login?next=%2F", 200), &[("/response/content/text", json!(html))])
}

fn login(params: Value) -> Value {
    let data = json!({ "mimeType": "application/x-www-form-urlencoded", "params": params, "text": "" });
    with(
        entry(4.0, "POST", "http://shop.test/login", 303),
        &[("/request/postData", data), ("/response/redirectURL", json!("http://shop.test/home"))],
    )
}

#[test]
fn navigations_become_steps_and_the_gaps_between_them_thinking() {
    let params = json!([
        { "name": "csrf", "value": "c1" }, { "name": "user", "value": "alice" }, { "name": "password", "value": "geheim" },
        { "name": "lang", "value": "en" }, { "name": "size", "value": "m" }
    ]);
    let (found, toml) = steps(
        vec![
            login_page(),
            with(
                entry(1.05, "GET", "http://shop.test/a.css", 200),
                &[("/response/content/mimeType", json!("text/css"))],
            ),
            entry(4.2, "GET", "http://shop.test/home", 200),
            login(params),
            entry(9.0, "GET", "http://shop.test/items/1?q=a%20b&r={x}", 404),
        ],
        &Choices::default(),
    );
    assert_eq!(
        found,
        [
            "get /login?next=%2F [200]",
            "think 2850000000 false",
            "form /login [\"password\", \"size\", \"user\"] [303]",
            "think 4700000000 false",
            "get /items/1?q=a%20b&r=%7Bx%7D [404]",
        ]
    );
    assert!(!toml.contains("geheim") && toml.contains("\"{password}\"") && toml.contains("name = \"alice\""), "{toml}");
    assert!(toml.contains("# passwords are not taken from recordings"), "{toml}");
}

#[test]
fn without_the_page_fields_are_told_apart_by_name() {
    let params = json!([
        { "name": "authenticity_token", "value": "x%2By" }, { "name": "e-mail", "value": "a%40b" }, { "name": "pwd", "value": "geheim" },
        { "name": "note", "value": "50%25+{brace}" }
    ]);
    let (found, toml) = steps(vec![entry(1.0, "GET", "http://shop.test/", 200), login(params)], &Choices::default());
    assert_eq!(found[2], "form /login [\"e-mail\", \"note\", \"pwd\"] [303]");
    assert!(toml.contains("\"50% {{brace}\"") && toml.contains("name = \"a@b\""), "{toml}");
    assert!(toml.contains("is not in the recording"), "{toml}");
}

#[test]
fn what_is_left_out_is_said() {
    let kind = |kind: &str| [("/_resourceType", json!(kind))];
    let json_post = json!({ "mimeType": "application/json", "text": "{}" });
    let upload = json!({ "mimeType": "multipart/form-data; boundary=x", "params": [{ "name": "scan", "fileName": "a.png" }, { "name": "a", "value": "1+1" }] });
    let entries = vec![
        with(entry(1.0, "GET", "https://shop.test/", 200), &kind("document")),
        with(entry(1.1, "GET", "https://cdn.test/x.js", 200), &kind("script")),
        with(entry(1.2, "GET", "https://cdn.test/y.js", 200), &kind("script")),
        with(entry(1.3, "GET", "https://shop.test/api?x", 200), &kind("xhr")),
        with(entry(1.4, "POST", "https://shop.test/api", 200), &kind("fetch")),
        with(entry(1.5, "GET", "wss://shop.test/live", 101), &kind("websocket")),
        with(entry(1.6, "GET", "data:text/css,x", 200), &kind("stylesheet")),
        with(
            entry(1.7, "GET", "https://shop.test/frame", 200),
            &[("/request/headers", json!([{ "name": "Sec-Fetch-Dest", "value": "iframe" }]))],
        ),
        with(entry(1.8, "PUT", "https://shop.test/thing", 200), &kind("document")),
        with(
            entry(2.0, "POST", "https://shop.test/json", 200),
            &[("/request/postData", json_post), ("/_resourceType", json!("document"))],
        ),
        with(
            entry(3.0, "POST", "https://shop.test/upload", 200),
            &[
                ("/request/postData", upload),
                ("/_resourceType", json!("document")),
                ("/request/headers", json!([{ "name": "Authorization", "value": "Basic x" }])),
            ],
        ),
    ];
    let (found, toml) = steps(entries.clone(), &Choices::default());
    assert_eq!(
        found.iter().filter(|step| !step.starts_with("think")).collect::<Vec<_>>(),
        ["get / [200]", "form /upload [\"a\"] [200]"]
    );
    for words in [
        "requests to other hosts: cdn.test (2)",
        "--scripted): GET /api (1), POST /api (1)",
        "no http or https URL: data (1), wss (1)",
        "frames: /frame (1)",
        "methods other than GET and POST: PUT /thing (1)",
        "POST bodies that no form sends: application/json /json (1)",
        "files that a form sent: scan (1)",
        "`Authorization`",
    ] {
        assert!(toml.contains(words), "{words}: {toml}");
    }
    assert!(toml.contains("a = \"1+1\"") || toml.contains("\"a\" = \"1+1\""), "{toml}");
    let (found, _) = steps(entries, &Choices { scripted: true, ..Choices::default() });
    assert!(found.contains(&"get /api?x [200]".to_owned()), "{found:?}");
}

#[test]
fn redirects_belong_to_the_step_that_they_follow() {
    let to = |location: &str| [("/response/headers", json!([{ "name": "location", "value": location }]))];
    let entries = vec![
        with(entry(1.0, "GET", "http://shop.test/", 301), &to("/en")),
        with(entry(1.1, "GET", "http://shop.test/en", 302), &to("http://shop.test/en/?a=1#top")),
        entry(1.2, "GET", "http://shop.test/en/?a=1", 200),
        entry(2.0, "GET", "http://shop.test/en", 304),
    ];
    let (found, _) = steps(entries, &Choices::default());
    assert_eq!(found, ["get / [200]", "think 700000000 false", "get /en [200]"]);
}

#[test]
fn recordings_that_hold_no_page_are_refused_with_the_cure() {
    let wrong = |entries: Vec<Value>, choices: &Choices| made(entries, choices).unwrap_err();
    assert!(wrong(vec![], &Choices::default()).contains("record a session with its documents"));
    let elsewhere = Choices { host: Some("other.test".into()), scripted: false };
    assert!(wrong(vec![login_page()], &elsewhere).contains("choose another host with --host"));
    let late = with(login_page(), &[("/startedDateTime", json!("yesterday"))]);
    assert!(wrong(vec![late], &Choices::default()).contains("`yesterday` is no date"));
}

/// Firefox says what an entry is by the request's fields alone, and keeps a page for each document.
#[test]
fn an_archive_of_firefox_is_read_by_its_fields() {
    let asks = |destination: &str, mode: &str| {
        let fields =
            json!([{ "name": "Sec-Fetch-Dest", "value": destination }, { "name": "Sec-Fetch-Mode", "value": mode }]);
        [("/request/headers", fields), ("/response/content/mimeType", json!("text/html"))]
    };
    let post = json!({ "mimeType": "application/x-www-form-urlencoded", "params": [{ "name": "q", "value": "a b" }], "text": "q=a+b%25" });
    let entries = vec![
        with(entry(1.0, "GET", "http://shop.test/", 200), &asks("document", "navigate")),
        with(entry(1.1, "GET", "http://shop.test/part.html", 200), &asks("empty", "cors")),
        with(entry(1.2, "GET", "http://shop.test/inner.html", 200), &asks("iframe", "navigate")),
        with(entry(1.3, "GET", "http://shop.test/x.svg", 200), &asks("image", "no-cors")),
        with(
            with(entry(2.0, "POST", "http://shop.test/find", 200), &asks("document", "navigate")),
            &[("/request/postData", post)],
        ),
    ];
    let (found, toml) = steps(entries, &Choices::default());
    assert_eq!(found, ["get / [200]", "think 600000000 false", "form /find [\"q\"] [200]"]);
    assert!(toml.contains("\"q\" = \"a b%\""), "{toml}");
    assert!(toml.contains("frames: /inner.html (1)") && toml.contains("GET /part.html (1)"), "{toml}");
}
