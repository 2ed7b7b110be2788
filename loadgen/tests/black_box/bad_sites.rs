//! Sites that no browser should meet: each failure has its kind, its step and its reason, and the run ends with its files.

use std::collections::BTreeMap;
use std::io::Write;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::support::{Request, Scratch, assert_balanced, number, respond, serve, summary};

const HTML: &str = "Content-Type: text/html\r\n";

/// Sends a body that never ends, a byte now and then or as fast as it is taken.
fn endless(stream: &mut TcpStream, pause: Duration, piece: &[u8]) -> bool {
    if stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n").is_err() {
        return false;
    }
    // The generator gives the connection up long before this.
    let end = Instant::now() + Duration::from_secs(60);
    while Instant::now() < end && stream.write_all(piece).is_ok() {
        std::thread::sleep(pause);
    }
    false
}

fn answer(request: &Request, stream: &mut TcpStream) -> bool {
    match request.path.as_str() {
        "/drip" => endless(stream, Duration::from_millis(20), b"<p>"),
        "/flood" => endless(stream, Duration::from_millis(5), &[b'<'; 16_384]),
        // Until the peer has gone, which the next read of this connection says.
        "/silent" => true,
        "/garbage" => {
            let _ = stream.write_all(b"220 smtp.example.com ESMTP\r\n");
            false
        }
        "/early" => {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf");
            false
        }
        "/circle" => respond(stream, 302, "Location: /circle?again\r\n", ""),
        "/circle?again" => respond(stream, 307, "Location: circle\r\n", ""),
        "/away" => respond(stream, 302, "Location: https://elsewhere.example/x\r\n", ""),
        "/formless" => respond(stream, 200, HTML, "<form action=/search></form>"),
        "/linkless" => respond(stream, 200, HTML, "<a href=/elsewhere>x</a>"),
        "/forbidden" => respond(stream, 403, HTML, "no"),
        "/poll" => respond(stream, 200, HTML, "waiting"),
        _ => respond(stream, 404, HTML, "what?"),
    }
}

/// A step, what ends its sessions in words, and the kind under which its request fails, if it does.
const CASES: [(&str, &str, &str, Option<&str>); 12] = [
    ("drip", "kind = 'get', path = '/drip'", "body_timeout", Some("body_timeout")),
    ("flood", "kind = 'get', path = '/flood'", "body_timeout", Some("body_timeout")),
    ("silent", "kind = 'get', path = '/silent'", "header_timeout", Some("header_timeout")),
    ("garbage", "kind = 'get', path = '/garbage'", "parse", Some("parse")),
    ("early", "kind = 'get', path = '/early'", "eof_mid_response", Some("eof_mid_response")),
    (
        "circle",
        "kind = 'get', path = '/circle'",
        "more than 20 redirects, the last one to /circle?again",
        Some("redirect_circle"),
    ),
    (
        "away",
        "kind = 'get', path = '/away'",
        "redirected to another host: https://elsewhere.example/x",
        Some("validation"),
    ),
    (
        "formless",
        "kind = 'form', path = '/formless', action = '/order'",
        "no form whose action contains `/order` on the page",
        None,
    ),
    (
        "linkless",
        "kind = 'get', path = '/linkless', extract = [{ name = 'item', from = 'link', prefix = '/items/' }]",
        "no value for `item` on the page",
        Some("validation"),
    ),
    ("forbidden", "kind = 'get', path = '/forbidden'", "status 403", Some("status")),
    (
        "unchecked",
        "kind = 'get', path = '/linkless', expect_header = ['X-Version: 2']",
        "no header X-Version: 2",
        Some("validation"),
    ),
    (
        "poll",
        "kind = 'poll', path = '/poll', until = ['done', 'failed'], every_s = 0.05, timeout_s = 0.2",
        "still not `done` or `failed` when its `timeout_s` was over",
        Some("validation"),
    ),
];

#[test]
fn each_way_to_fail_has_its_kind_its_step_and_its_reason() {
    let (address, _) = serve(answer);
    let out = Scratch::new();
    let options: Vec<String> = CASES
        .iter()
        .map(|(name, step, ..)| format!("{{ weight = 1, steps = [{{ name = '{name}', {step} }}] }}"))
        .collect();
    let file = out.join("scenario.toml");
    let choice = format!("name = 'x'\n[[steps]]\nkind = 'choice'\noptions = [{}]\n", options.join(", "));
    std::fs::write(&file, choice).unwrap();
    let began = Instant::now();
    // The seed draws every step at least once.
    let load = ["--rate", "15", "--duration", "3", "--timeout", "3", "--seed", "3"];
    let (summary, code) = summary(&out, &[&["browse", &file, &format!("http://{address}")][..], &load].concat());
    // The window, the timeout behind it, and room for a busy machine.
    assert!(began.elapsed() < Duration::from_secs(60), "{:?}", began.elapsed());
    assert_eq!((code, summary["verdict"].as_str()), (4, Some("invalid")));
    assert_balanced(&summary);
    let browse = &summary["browse"];
    assert_eq!(number(browse, "/sessions_completed"), 0, "{browse}");
    let found: BTreeMap<(&str, &str), u64> = browse["failures"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| ((one["step"].as_str().unwrap(), one["why"].as_str().unwrap()), one["count"].as_u64().unwrap()))
        .collect();
    let expected: Vec<(&str, &str)> = CASES.iter().map(|(name, _, why, _)| (*name, *why)).collect();
    for case in &expected {
        assert!(found.contains_key(case), "{case:?} is not among {found:?}");
    }
    assert!(found.keys().all(|case| expected.contains(case)), "{found:?}");
    assert_eq!(found.values().sum::<u64>(), number(browse, "/sessions_failed"));
    // Each failed request is counted under its kind, and a session that found no form failed without one.
    let mut kinds: BTreeMap<&str, u64> = BTreeMap::new();
    for (name, _, why, kind) in CASES {
        if let Some(kind) = kind {
            *kinds.entry(kind).or_default() += found[&(name, why)];
        }
    }
    for (kind, count) in &kinds {
        assert_eq!(
            number(&summary, &format!("/errors_by_kind/{kind}")),
            *count,
            "{kind}: {}",
            summary["errors_by_kind"]
        );
    }
    for name in ["latency.hlog", "latency-tags.hlog", "latency-parts.hlog", "latency.hgrm", "intervals.csv"] {
        assert!(out.path().join(name).metadata().unwrap().len() > 0, "{name}");
    }
}

#[test]
fn a_site_that_is_down_is_named_and_the_run_ends() {
    let out = Scratch::new();
    let file = out.join("scenario.toml");
    std::fs::write(&file, "name = 'x'\nsteps = [{ name = 'home', kind = 'get', path = '/' }]\n").unwrap();
    // A port that was free a moment ago.
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (summary, code) =
        summary(&out, &["browse", &file, &format!("http://{address}"), "--users", "2", "--duration", "1"]);
    assert_eq!(code, 4);
    assert_balanced(&summary);
    let failed = number(&summary, "/browse/sessions_failed");
    assert!(failed > 0);
    assert_eq!(number(&summary, "/errors_by_kind/refused"), failed);
    let failures = &summary["browse"]["failures"];
    assert_eq!(failures, &serde_json::json!([{ "step": "home", "why": "refused", "count": failed }]));
}
