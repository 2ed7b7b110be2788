//! HTTP archives: a session that Chromium recorded becomes a scenario that asks for the same, and what our browsers did
//! is an archive by the rules of somebody else.

use std::net::TcpStream;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Mutex;

use serde_json::Value;

use crate::support::{Request, Scratch, assert_balanced, loadgen, number, respond, serve, summary};

const HTML: &str = "Content-Type: text/html; charset=utf-8\r\nCache-Control: no-store\r\n";
const HERE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/black_box/foreign");

/// Pages that are written as pages should not be.
const NASTY: &str = r#"<!DOCTYPE html><html><head><title><img src=/no-title.png></title>
<link rel=stylesheet href="/css/site.css?v=1&amp;w=2"><link rel="stylesheet" media=print href=/css/print.css>
<link rel=stylesheet type=text/less href=/no.less><LINK REL=preload AS=image HREF=/img/preload.png>
<link rel=modulepreload href=/js/module.js><script src=/js/a.js></script><script type=application/json src=/no.json></script>
<script nomodule src=/no-module.js></script><script>if (1 < 2) { "<img src=/no-script.png>" }</script>
<!-- <img src=/no-comment.png> --><style>@import "/css/imported.css"; body { background: url(/img/back.png) }</style>
<base href=/img/></head><body><p id=p style="background-image:url('&#105;nline.png')">text</p>
<img src=one.png><img src="one.png"><img alt="a>b" src='t&amp;wo.png?x=1&copy=2'><img src=" sp ace.png "><img src="../up.png">
<img src=fallback.png srcset="x2.png 2x, x1.png 1x"><img srcset="small.png 640w, large.png 1280w, huge.png 2560w" sizes="(max-width: 600px) 10px, 50vw">
<picture><source media="(max-width: 100px)" srcset=no-narrow.png><source type=image/x-unknown srcset=no-type.png>
<source type=image/webp srcset="p1.webp, p2.webp 2x"><img src=no-picture.png></picture>
<svg width=9 height=9><image href=svg.png width=9 height=9 /></svg><input type=image src=button.png><video poster=poster.png></video>
<noscript><img src=no-noscript.png></noscript><template><img src=no-template.png><form action=/no><input name=x></form></template>
<a href="/items/1?x=1&lt=2">one</a>
<form id=f method=post action="/order?keep=1"><input type=hidden name=csrf value="{csrf}"><input type=hidden name=ref value="&eacute;&amp;&notin;x&notit;">
<textarea name=note>
 old</textarea><select name=size><option value=s>S<option value=l>L</select><select name=many multiple><option selected>a<option>b<option selected> c  d </select>
<input name=disabled value=1 disabled><fieldset disabled><input name=within value=1></fieldset><input type=checkbox name=yes checked>
<input type=radio name=r value=1><input type=radio name=r value=2 checked><input type=file name=upload><input type=reset name=no value=1>
<form action=/inner><input name=inner value="~*-._ +"></form><input form=f name=outside value=2><button name=go value=now>Go</button>
<button form=f name=go value="then">Go</button></body></html>"#;

/// Who asked for what, in order.
#[derive(Default)]
struct Site {
    seen: Mutex<Vec<(String, Asked)>>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Asked {
    what: String,
    cookie: String,
    body: String,
}

impl Site {
    fn answer(&self, request: &Request, stream: &mut TcpStream) -> bool {
        let agent = request.field("user-agent").unwrap_or("");
        let agent = if agent.starts_with("loadgen/") { "loadgen" } else { "chromium" };
        // Each page has a token of its own, which its form has to send.
        let token = format!("t{}", request.number);
        let order = |path: &str| match path.strip_prefix("/orders/") {
            Some(rest) => format!("/orders/N{}", rest.trim_start_matches(|c: char| c.is_ascii_digit())),
            None => path.to_owned(),
        };
        let asked = Asked {
            what: format!("{} {}", request.method, order(&request.path)),
            cookie: request.field("cookie").unwrap_or("").to_owned(),
            body: request.body.split_once('&').map_or(String::new(), |(_, fields)| fields.to_owned()),
        };
        self.seen.lock().unwrap().push((agent.to_owned(), asked));
        let path = request.path.split('?').next().unwrap_or("");
        // As frameworks do against forged forms.
        let host = format!("http://{}", request.field("host").unwrap_or(""));
        let page = match path {
            "/order" => "/nasty?a=1",
            "/sign-in" => "/sign-in",
            _ => path.trim_end_matches("/pay"),
        };
        if request.method == "POST"
            && (request.field("origin") != Some(&host) || request.field("referer") != Some(&format!("{host}{page}")))
        {
            return respond(stream, 403, HTML, "forged");
        }
        match (request.method.as_str(), path) {
            ("GET", "/sign-in") => {
                let form = "<link rel=stylesheet href=/css/site.css?v=1&w=2><form method=post action=sign-in><input type=hidden name=csrf value=";
                let rest =
                    "><input name=user><input type=password name=password><button id=sign-in>Sign in</button></form>";
                let cookies = "Set-Cookie: visit=1; Path=/; Max-Age=600\r\nSet-Cookie: away=1; Path=/elsewhere\r\n";
                respond(stream, 200, &format!("{HTML}{cookies}"), &format!("{form}{token}{rest}"))
            }
            ("POST", "/sign-in")
                if request.body.ends_with("&user=alice&password=geheim") && request.body.starts_with("csrf=t") =>
            {
                // No `Secure` one: Chromium takes loopback for secure.
                let cookies = "Set-Cookie: session=s; Path=/; HttpOnly; SameSite=Lax\r\nSet-Cookie: visit=; Path=/; Max-Age=0\r\n\
                               Set-Cookie: deep=1; Path=/css\r\n";
                respond(stream, 303, &format!("Location: /old-home#top\r\n{cookies}"), "")
            }
            ("GET", "/old-home") => respond(stream, 302, "Location: home\r\n", ""),
            ("GET", "/home") => respond(stream, 200, HTML, "welcome<img src=/img/up.png>"),
            ("GET", "/nasty") => respond(stream, 200, HTML, &NASTY.replace("{csrf}", &token)),
            ("POST", "/order") if request.body.starts_with("csrf=t") => {
                // Every order has a number of its own.
                respond(stream, 303, &format!("Location: /orders/{}\r\n", request.number), "")
            }
            ("GET", _) if path.starts_with("/orders/") => {
                let form = format!(
                    "<form action={path}/pay method=post><input type=hidden name=csrf value={token}><button>Pay"
                );
                respond(stream, 200, HTML, &form)
            }
            ("POST", _) if path.ends_with("/pay") => respond(stream, 303, "Location: /thanks\r\n", ""),
            ("GET", "/thanks") => respond(stream, 200, HTML, "thanks"),
            ("GET", _) if path.ends_with(".css") => {
                let text = if path == "/css/site.css" {
                    "@import url(more.css);\nhtml::before { content: url(content.png) }\nbody { border-image: url( \"bor\\64 er.png\" ) 1 }"
                } else {
                    ""
                };
                respond(stream, 200, "Content-Type: text/css\r\nCache-Control: max-age=600\r\n", text)
            }
            ("GET", _) => {
                respond(stream, 200, "Content-Type: application/octet-stream\r\nCache-Control: max-age=600\r\n", "")
            }
            _ => respond(stream, 400, HTML, "no"),
        }
    }

    /// What the first session of one of them asked for: documents in order, and everything, sorted.
    fn first_session(&self, who: &str) -> (Vec<Asked>, Vec<Asked>) {
        let seen = self.seen.lock().unwrap();
        let mut own: Vec<Asked> =
            seen.iter().filter(|(agent, _)| agent == who).map(|(_, asked)| asked.clone()).collect();
        own.retain(|asked| !asked.what.ends_with("/favicon.ico"));
        let next = own.iter().skip(1).position(|asked| asked.what == "GET /sign-in");
        own.truncate(next.map_or(own.len(), |next| next + 1));
        let pages = ["/sign-in", "/old-home", "/home", "/nasty?a=1", "/order?keep=1", "/orders/N", "/pay", "/thanks"];
        let is_page = |asked: &&Asked| pages.iter().any(|page| asked.what.ends_with(page));
        let documents = own.iter().filter(is_page).cloned().collect();
        own.sort();
        (documents, own)
    }
}

/// Packages of node, at the versions that `.ci/run` installs; `None`, and a line that says so, where one is missing.
fn node(packages: &[&str]) -> Option<PathBuf> {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache")));
    let usual = cache.unwrap_or_default().join("twintier/node/node_modules");
    let modules = std::env::var_os("LOADGEN_NODE_MODULES").map_or(usual, PathBuf::from);
    let there = |package: &&str| modules.join(package.split('@').next().unwrap_or(package)).is_dir();
    if !packages.iter().all(there) || Command::new("node").arg("--version").output().is_err() {
        let wanted = packages.join(" ");
        eprintln!(
            "skipped: no {wanted} for node; `apt-get install nodejs npm` and `npm install --prefix ~/.cache/twintier/node {wanted}`"
        );
        return None;
    }
    Some(modules)
}

fn run_node(modules: &PathBuf, script: &str, arguments: &[&str]) {
    let mut command = Command::new("timeout");
    command.args(["120", "node", &format!("{HERE}/{script}")]).args(arguments);
    let output = command.env("NODE_PATH", modules).env("CHROMIUM", chromium().unwrap_or_default()).output().unwrap();
    assert!(
        output.status.success(),
        "{script}: {}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Where Chromium is.
fn chromium() -> Option<String> {
    let found = Command::new("sh").args(["-c", "command -v chromium"]).output().ok()?;
    let path = String::from_utf8(found.stdout).ok()?.trim().to_owned();
    (!path.is_empty()).then_some(path)
}

fn site() -> (&'static Site, String) {
    let site: &'static Site = Box::leak(Box::default());
    let (address, _) = serve(|request: &Request, stream: &mut TcpStream| site.answer(request, stream));
    (site, format!("http://{address}"))
}

#[test]
fn a_session_of_chromium_becomes_a_scenario_that_asks_for_the_same() {
    let Some(modules) = node(&["playwright-core@1.65.1"]) else { return };
    if chromium().is_none() {
        eprintln!("skipped: no chromium (apt-get install chromium)");
        return;
    }
    let (site, url) = site();
    let out = Scratch::new();
    let (har, file) = (out.join("recorded.har"), out.join("scenario.toml"));
    run_node(&modules, "session.js", &[&url, &har]);
    let made = loadgen(&["scenario", "from-har", &har, "--out", &file]);
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let scenario = std::fs::read_to_string(&file).unwrap();
    assert!(!scenario.contains("geheim") && scenario.contains("kind = \"think\""), "{scenario}");
    // The password is for people to fill in, and the test has no time to think.
    let scenario = scenario.replace("password = \"\"", "password = \"geheim\"");
    let hasty = |line: &str| if line.starts_with("mean_s") { "mean_s = 0.01".to_owned() } else { line.to_owned() };
    std::fs::write(&file, scenario.lines().map(hasty).collect::<Vec<_>>().join("\n")).unwrap();
    let (summary, _) = summary(&out, &["browse", &file, &url, "--users", "1", "--duration", "2"]);
    assert_balanced(&summary);
    let browse = &summary["browse"];
    assert_eq!(number(browse, "/sessions_failed"), 0, "{browse}\n{scenario}");
    assert!(number(browse, "/sessions_completed") > 0, "{browse}\n{scenario}");
    let (theirs, ours) = (site.first_session("chromium"), site.first_session("loadgen"));
    assert_eq!(theirs.0, ours.0, "documents\n{scenario}");
    let only =
        |one: &[Asked], two: &[Asked]| one.iter().filter(|asked| !two.contains(asked)).cloned().collect::<Vec<_>>();
    let (missing, added) = (only(&theirs.1, &ours.1), only(&ours.1, &theirs.1));
    assert_eq!((missing, added), (vec![], vec![]), "Chromium alone, loadgen alone");
    assert_eq!(theirs.1.len(), ours.1.len(), "each as often");
}

#[test]
fn recorded_sessions_are_an_archive_with_timings_that_add_up() {
    let (_, url) = site();
    let out = Scratch::new();
    let (har, file) = (out.join("written.har"), out.join("scenario.toml"));
    let text = "name = 'x'\nusers = [{ name = 'alice', password = 'geheim' }]\n\
        [[steps]]\nkind = 'form'\npath = '/sign-in'\nfields = { user = '{user}', password = '{password}' }\n\
        [[steps]]\nkind = 'get'\npath = '/nasty?a=1'\n[[steps]]\nkind = 'get'\npath = '/nasty?a=1'\n";
    std::fs::write(&file, text).unwrap();
    let (summary, _) = summary(
        &out,
        &["browse", &file, &url, "--users", "2", "--duration", "2", "--har", &har, "--har-sessions", "2"],
    );
    assert_eq!(number(&summary, "/browse/sessions_failed"), 0, "{}", summary["browse"]);
    let archive: Value = serde_json::from_str(&std::fs::read_to_string(&har).unwrap()).unwrap();
    let list = |pointer: &str| archive.pointer(pointer).and_then(Value::as_array).unwrap().clone();
    let (pages, entries) = (list("/log/pages"), list("/log/entries"));
    // Sign-in form, its answer, and two nasty pages, of two sessions.
    assert_eq!(pages.len(), 8);
    assert!(pages.iter().all(|page| page["pageTimings"]["onLoad"].as_f64().unwrap() > 0.0), "{pages:?}");
    for entry in &entries {
        let timing = |name: &str| entry["timings"][name].as_f64().unwrap().max(0.0);
        let sum: f64 = ["blocked", "dns", "connect", "send", "wait", "receive"].map(timing).iter().sum();
        assert!((entry["time"].as_f64().unwrap() - sum).abs() < 1e-6, "{entry}");
    }
    let count = |of: &dyn Fn(&Value) -> bool| entries.iter().filter(|entry| of(entry)).count();
    assert_eq!(count(&|entry| entry["response"]["redirectURL"] == "/old-home#top"), 2);
    assert_eq!(count(&|entry| entry["request"]["postData"]["params"][1]["value"] == "alice"), 2);
    assert_eq!(
        count(&|entry| entry["request"]["cookies"][0]["name"] == "visit" && entry["request"]["method"] == "POST"),
        2
    );
    assert!(count(&|entry| entry["timings"]["connect"].as_f64().unwrap() > 0.0) > 2);
    // The second of two equal pages came out of the cache, its document apart.
    let cached = count(&|entry| entry["_fromCache"] == "memory" && entry["cache"]["beforeRequest"].is_object());
    assert!(cached > 30, "{cached} of {}", entries.len());

    // It is a recording like any other.
    let again = loadgen(&["scenario", "from-har", &har]);
    let text = String::from_utf8(again.stdout).unwrap();
    assert!(again.status.success() && text.contains("{password}") && text.contains("/nasty?a=1"), "{text}");
    let Some(modules) = node(&["har-validator@5.1.5"]) else { return };
    run_node(&modules, "validate_har.js", &[&har]);
}

#[test]
fn archives_that_are_none_are_bad_usage_with_their_place() {
    let out = Scratch::new();
    let refused = |text: &str, words: &str| {
        let file = out.join("x.har");
        std::fs::write(&file, text).unwrap();
        let output = loadgen(&["scenario", "from-har", &file]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!((output.status.code(), said.contains(words)), (Some(2), true), "{said}");
    };
    refused("{\n \"log\": nothing }", "x.har:2:");
    refused("{\n \"log\": {} }", "missing field `entries`");
    refused("{ \"log\": { \"entries\": [] } }", "record a session with its documents");
    let output = loadgen(&["scenario", "from-har", &out.join("missing.har")]);
    assert_eq!(output.status.code(), Some(2));
    let output =
        loadgen(&["scenario", "check", concat!(env!("CARGO_MANIFEST_DIR"), "/../profiles/reqcat/browse.toml")]);
    assert!(
        output.status.success() && String::from_utf8_lossy(&output.stdout).contains("reqcat: 3 users, steps sign-in")
    );
    let output = loadgen(&["browse", "x.toml", "http://127.0.0.1:1", "--har-sessions", "2"]);
    assert_eq!(output.status.code(), Some(2));
}
