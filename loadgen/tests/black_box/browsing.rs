//! The shipped scenario against a small requisition catalogue that answers as the real one does.

use std::collections::HashMap;
use std::net::TcpStream;
use std::sync::{Condvar, Mutex};
use std::time::Duration;

use crate::support::{Request, Scratch, assert_balanced, loadgen, number, respond, serve, summary};

const SCENARIO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../profiles/reqcat/browse.toml");
const HTML: &str = "Content-Type: text/html; charset=utf-8\r\nCache-Control: private, no-store\r\n";

/// A catalogue of a few items; requisitions are posted when they are asked for the third time.
#[derive(Default)]
struct Catalogue {
    asked: Mutex<HashMap<String, u32>>,
    complaints: Mutex<Vec<String>>,
}

impl Catalogue {
    fn complain(&self, stream: &mut TcpStream, request: &Request) -> bool {
        self.complaints.lock().unwrap().push(format!("{request:?}"));
        respond(stream, 400, HTML, "no")
    }

    fn answer(&self, request: &Request, stream: &mut TcpStream) -> bool {
        let page = |stream: &mut TcpStream, body: &str| {
            let body = format!(
                "<!doctype html><head><link rel=\"stylesheet\" href=\"/static/site.css\"></head><img src=\"/static/logo.svg\">{body}<button>Sign out</button>"
            );
            respond(stream, 200, HTML, &body)
        };
        let user = request.field("cookie").and_then(|cookie| cookie.strip_prefix("session="));
        let (path, query) = request.path.split_once('?').unwrap_or((&request.path, ""));
        if path.starts_with("/static/") {
            let (etag, fields) = ("\"v1\"", "ETag: \"v1\"\r\nCache-Control: max-age=0\r\n");
            return match request.field("if-none-match") {
                Some(known) if known == etag && path.ends_with("css") => stream_304(stream),
                _ if path.ends_with("svg") => respond(stream, 200, "Cache-Control: max-age=600\r\n", "<svg/>"),
                _ => respond(stream, 200, fields, "body{}"),
            };
        }
        let Some(user) = user else {
            return match (request.method.as_str(), path) {
                ("GET", "/directory/sign-in") => page(
                    stream,
                    "<form method=\"post\" action=\"/directory/sign-in\"><input type=\"hidden\" name=\"csrf\" value=\"visitor&amp;1\">\
                     <input name=\"user\"><input type=\"password\" name=\"password\"><button>Sign in</button></form>",
                ),
                ("POST", "/directory/sign-in") if request.body.starts_with("csrf=visitor%261&") => {
                    let name = request.body.split("user=").nth(1).unwrap().split('&').next().unwrap();
                    if !request.body.ends_with(&format!("password={name}-password")) {
                        return self.complain(stream, request);
                    }
                    let fields = format!("Location: /reqcat/\r\nSet-Cookie: session={name}; Path=/; HttpOnly\r\n");
                    respond(stream, 303, &fields, "")
                }
                _ => self.complain(stream, request),
            };
        };
        match (request.method.as_str(), path) {
            ("GET", "/reqcat/") if query.starts_with("words=nothing") => page(stream, "nothing found"),
            ("GET", "/reqcat/") => {
                page(stream, "<a href=\"/reqcat/items/adduser\">a</a><a href=\"/reqcat/items/zsh%2B\">z</a>")
            }
            ("GET", "/reqcat/items/adduser" | "/reqcat/items/zsh%2B") => page(stream, "an item"),
            ("GET", "/reqcat/requisitions/new") => {
                let form = format!(
                    "<form method=\"post\" action=\"/directory/sign-out\"></form><form method=\"post\" action=\"/reqcat/requisitions\">\
                     <input type=\"hidden\" name=\"csrf\" value=\"c-{user}\"><input name=\"item\"><input name=\"quantity\" value=\"1\">\
                     <textarea name=\"reason\"></textarea></form>"
                );
                page(stream, &form)
            }
            ("POST", "/reqcat/requisitions") if request.body.starts_with(&format!("csrf=c-{user}&item=")) => {
                respond(stream, 303, &format!("Location: /reqcat/requisitions/R{}\r\n", request.number), "")
            }
            ("POST", path) if path.ends_with("/submit") && request.body == format!("csrf=s-{user}") => {
                respond(stream, 202, HTML, "being posted")
            }
            ("GET", path) if path.starts_with("/reqcat/requisitions/R") && query == "format=json" => {
                let mut asked = self.asked.lock().unwrap();
                let times = asked.entry(path.to_owned()).or_default();
                *times += 1;
                let posting = if *times >= 3 { "posted" } else { "waiting" };
                respond(
                    stream,
                    200,
                    "Content-Type: application/json\r\n",
                    &format!("{{\"row\":{{\"posting\":\"{posting}\"}}}}"),
                )
            }
            ("GET", path) if path.starts_with("/reqcat/requisitions/R") => page(
                stream,
                &format!(
                    "<form method=\"post\" action=\"{path}/submit\"><input type=\"hidden\" name=\"csrf\" value=\"s-{user}\"><button>Submit</button></form>"
                ),
            ),
            _ => self.complain(stream, request),
        }
    }
}

fn stream_304(stream: &mut TcpStream) -> bool {
    use std::io::Write;
    stream.write_all(b"HTTP/1.1 304 Not Modified\r\nETag: \"v1\"\r\n\r\n").is_ok()
}

#[test]
fn users_walk_the_shipped_scenario() {
    let catalogue: &'static Catalogue = Box::leak(Box::default());
    let (address, _) = serve(|request: &Request, stream: &mut TcpStream| catalogue.answer(request, stream));
    let out = Scratch::new();
    let url = format!("http://{address}");
    let (summary, _) =
        summary(&out, &["browse", SCENARIO, &url, "--rate", "12", "--arrivals", "poisson", "--duration", "7"]);
    assert_balanced(&summary);
    assert_eq!(*catalogue.complaints.lock().unwrap(), Vec::<String>::new());
    assert_eq!((number(&summary, "/errors"), number(&summary, "/timed_out")), (0, 0), "{}", summary["errors_by_kind"]);
    assert_eq!(number(&summary, "/browse/sessions_failed"), 0, "{}", summary["browse"]);
    assert!(number(&summary, "/browse/sessions_completed") > 10, "{}", summary["browse"]);
    for step in ["sign-in", "list", "search", "item", "page", "draft", "submit", "status"] {
        assert!(number(&summary, &format!("/tags/{step}/response_ns/count")) > 0, "no request of {step}");
        assert!(number(&summary, &format!("/tags/{step}.page/response_ns/count")) > 0, "no page of {step}");
    }
    // One style sheet is asked about each time, one picture is fresh once it is there.
    assert!(
        number(&summary, "/browse/cache_fresh") > 50 && number(&summary, "/browse/cache_revalidated") > 50,
        "{}",
        summary["browse"]
    );
    assert_eq!(number(&summary, "/browse/page_load_ns/count"), number(&summary, "/browse/pages"));
}

#[test]
fn a_step_that_fails_ends_its_session_and_is_named() {
    let (address, _) = serve(|request: &Request, stream: &mut TcpStream| match request.path.as_str() {
        "/broken" => respond(stream, 500, HTML, "sorry"),
        "/circle" => respond(stream, 302, "Location: /circle\r\n", ""),
        _ => respond(stream, 200, HTML, "welcome"),
    });
    let out = Scratch::new();
    let file = out.join("scenario.toml");
    let text = "name = 'x'\n[[steps]]\nkind = 'get'\nname = 'home'\npath = '/'\n[[steps]]\nkind = 'choice'\noptions = [{ weight = 1, steps = [{ kind = 'get', path = '/broken' }] }, { weight = 1, steps = [{ kind = 'get', path = '/circle' }] }]\n";
    std::fs::write(&file, text).unwrap();
    let (summary, _) =
        summary(&out, &["browse", &file, &format!("http://{address}"), "--users", "4", "--duration", "2"]);
    assert_balanced(&summary);
    let failed = number(&summary, "/browse/sessions_failed");
    let (broken, circle) =
        (&summary["browse"]["failed_steps"]["/broken"], &summary["browse"]["failed_steps"]["/circle"]);
    assert_eq!(broken.as_u64().unwrap() + circle.as_u64().unwrap(), failed);
    assert_eq!(number(&summary, "/errors_by_kind/status"), broken.as_u64().unwrap());
    assert_eq!(number(&summary, "/errors_by_kind/redirect_circle"), circle.as_u64().unwrap());
    let why = |step: &str| {
        let failures = summary["browse"]["failures"].as_array().unwrap().iter();
        failures.filter(|failure| failure["step"] == step).map(|failure| failure["why"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(why("/broken"), ["status 500"]);
    assert_eq!(why("/circle"), ["more than 20 redirects, the last one to /circle"]);
    assert_eq!(number(&summary, "/browse/sessions_completed"), 0);
}

#[test]
fn a_page_that_fails_its_check_or_its_objective_is_told() {
    let (address, _) = serve(|request: &Request, stream: &mut TcpStream| match request.path.as_str() {
        "/" => respond(stream, 200, HTML, "<img src=/a.png>welcome"),
        "/other" => respond(stream, 200, HTML, "this is not what was asked for"),
        _ => respond(stream, 200, "Cache-Control: max-age=60\r\n", "a"),
    });
    let out = Scratch::new();
    let file = out.join("scenario.toml");
    let text = "name = 'x'\nreturning = true\nslo = { page = '1ns', share = '50%' }\n[[steps]]\nkind = 'get'\nname = 'home'\npath = '/'\n\
                expect_body = ['welcome']\nexpect_header = ['Content-Type: text/html; charset=utf-8']\n\
                [[steps]]\nkind = 'get'\npath = '/other'\nexpect_body = ['welcome']\n";
    std::fs::write(&file, text).unwrap();
    let url = format!("http://{address}");
    let (summary, code) = summary(&out, &["browse", &file, &url, "--users", "2", "--duration", "1"]);
    assert_balanced(&summary);
    let browse = &summary["browse"];
    let (failed, pages) = (number(browse, "/sessions_failed"), number(browse, "/pages"));
    assert!(failed > 1 && pages > 1, "{browse}");
    assert_eq!(browse["failures"].as_array().unwrap().len(), 1, "{browse}");
    assert_eq!(
        (&browse["failures"][0]["step"], &browse["failures"][0]["why"]),
        (&"/other".into(), &"no body text welcome".into())
    );
    assert_eq!(number(&summary, "/errors_by_kind/validation"), failed);
    // Each user asked for the picture once and had it from then on.
    assert_eq!((number(browse, "/asset_responses"), number(browse, "/cache_fresh")), (2, pages - 2));
    assert_eq!(number(browse, "/page_load_ns/count"), pages);
    assert_eq!(number(browse, "/steps/home/page_load_ns/count"), pages);
    // No session went the whole way, which is worse than a missed objective.
    assert_eq!((code, browse["pages_within_share"].as_f64()), (4, Some(0.0)));
    let objective = &summary["slo"][0];
    assert_eq!((&objective["objective"], &objective["met"]), (&"pages<1.00 ns>50%".into(), &false.into()));
    assert_eq!(browse["apdex"].as_f64(), Some(0.0));
}

#[test]
fn mistakes_in_a_scenario_are_bad_usage_with_their_place() {
    let out = Scratch::new();
    let file = out.join("scenario.toml");
    std::fs::write(&file, "name = 'x'\n[[steps]]\nkind = 'dance'\n").unwrap();
    let output = loadgen(&["browse", &file, "http://127.0.0.1:1"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(
        String::from_utf8_lossy(&output.stderr).contains("scenario.toml:3:8: unknown variant `dance`"),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Microseconds since 1970 of a date of an archive.
fn unix_us(date: &str) -> i64 {
    chrono::DateTime::parse_from_rfc3339(date).unwrap().timestamp_micros()
}

/// A busy machine makes the generator late, and no planned time moves with it.
#[test]
fn pages_are_planned_from_what_they_wait_for_and_not_from_when_the_generator_woke() {
    let (address, _) = serve(|_: &Request, stream: &mut TcpStream| respond(stream, 200, HTML, "fine"));
    let out = Scratch::new();
    let (file, har) = (out.join("scenario.toml"), out.join("sessions.har"));
    let text = "name = 'x'\n[[steps]]\nkind = 'get'\npath = '/first'\n[[steps]]\nkind = 'think'\nconstant_s = 0.25\n\
                [[steps]]\nkind = 'get'\npath = '/second'\n";
    std::fs::write(&file, text).unwrap();
    let url = format!("http://{address}");
    let load = ["--rate", "10", "--duration", "2", "--timeout", "60", "--har", &har, "--har-sessions", "10"];
    let (summary, _) = summary(&out, &[&["browse", &file, &url][..], &load].concat());
    assert_balanced(&summary);
    let archive: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(&har).unwrap()).unwrap();
    let pages: Vec<(String, i64, f64)> = archive["log"]["pages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|page| {
            let title = page["title"].as_str().unwrap().to_owned();
            let started = unix_us(page["startedDateTime"].as_str().unwrap());
            (title, started, page["pageTimings"]["onLoad"].as_f64().unwrap() * 1e3)
        })
        .collect();
    let page =
        |session: usize, path: &str| pages.iter().find(|(title, ..)| *title == format!("session {session}: {path}"));
    let first_us = page(1, "/first").unwrap().1;
    for session in 1..=10 {
        // Sessions arrive by plan: every tenth of a second, whatever comes back. Dates have whole microseconds.
        let (_, started_us, load_us) = page(session, "/first").unwrap();
        let planned_us = i64::try_from(session - 1).unwrap() * 100_000;
        assert!((started_us - first_us - planned_us).abs() <= 1, "session {session} at {started_us} after {first_us}");
        // The second page is wanted when the time to think is over that began with the end of the first.
        let Some((_, second_us, _)) = page(session, "/second") else { continue };
        let wanted_us = *started_us as f64 + load_us + 250_000.0;
        assert!((*second_us as f64 - wanted_us).abs() <= 2.0, "session {session}: {second_us}, not {wanted_us}");
    }
    assert!(pages.iter().any(|(title, ..)| title.ends_with("/second")), "{pages:?}");
}

/// Requests that are being answered now, at most so far, and were so far.
#[derive(Default)]
struct Parallel {
    now: Mutex<(u32, u32, u32)>,
    changed: Condvar,
}

impl Parallel {
    /// Holds assets until six of them are there, for so long that fewer would be noticed, and the first of them a little
    /// longer, for a seventh.
    fn answer(&self, request: &Request, stream: &mut TcpStream) -> bool {
        if request.path == "/" {
            let images: String = (0..24).map(|number| format!("<img src=/{number}.png>")).collect();
            return respond(stream, 200, HTML, &images);
        }
        let mut now = self.now.lock().unwrap();
        now.0 += 1;
        now.1 = now.1.max(now.0);
        self.changed.notify_all();
        now.2 += 1;
        let first = now.2 <= 6;
        let (now, _) = self.changed.wait_timeout_while(now, Duration::from_secs(5), |now| now.1 < 6).unwrap();
        let longer = Duration::from_millis(if first { 500 } else { 0 });
        let (mut now, _) = self.changed.wait_timeout_while(now, longer, |now| now.1 < 7).unwrap();
        now.0 -= 1;
        drop(now);
        respond(stream, 200, "Cache-Control: no-store\r\n", "x")
    }
}

#[test]
fn a_user_has_six_connections_and_no_more() {
    let parallel: &'static Parallel = Box::leak(Box::default());
    let (address, _) = serve(|request: &Request, stream: &mut TcpStream| parallel.answer(request, stream));
    let out = Scratch::new();
    let file = out.join("scenario.toml");
    std::fs::write(&file, "name = 'x'\nsteps = [{ kind = 'get', path = '/' }]\n").unwrap();
    let url = format!("http://{address}");
    let (summary, _) = summary(&out, &["browse", &file, &url, "--users", "1", "--duration", "1", "--timeout", "60"]);
    assert_balanced(&summary);
    assert_eq!(parallel.now.lock().unwrap().1, 6);
    let (pages, assets) = (number(&summary, "/browse/pages"), number(&summary, "/browse/asset_responses"));
    assert_eq!((assets, number(&summary, "/browse/pages_incomplete")), (pages * 24, 0));
}
