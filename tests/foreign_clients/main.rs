//! Clients that we did not write, through `twintier proxy` to nginx: no request of theirs may fail.
//!
//! An absent program is named and its test passes; `.ci/run` installs them all.
#![cfg(feature = "appliance")]

mod nginx;
#[allow(dead_code)] // The black-box tests use all of it.
#[path = "../black_box/support/program.rs"]
mod program;
#[allow(dead_code)] // The black-box tests use all of it.
#[path = "../black_box/support/site.rs"]
mod site;
mod websocket;

use std::fmt::Write as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nginx::Nginx;
use program::{Ended, Program, run, twintier};

/// How long anything may take. Generous: the machine may be busy.
const PATIENCE: Duration = Duration::from_secs(60);

/// Asks again and again until there is an answer or [`PATIENCE`] is over.
#[track_caller]
fn eventually<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < deadline, "waited {PATIENCE:?} for this in vain: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// nginx and a proxy in front of it.
struct Site {
    proxy: Program,
    nginx: Nginx,
    /// Of the proxy, as `http://HOST:PORT`.
    url: String,
}

impl Site {
    /// `None`, and a word about it, if nginx or one of the programs is absent.
    fn start(programs: &[(&str, &str)]) -> Option<Self> {
        for (program, version) in [("nginx", "-v")].iter().chain(programs) {
            let mut command = Command::new(program);
            command.arg(version).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            if command.status().is_err() {
                println!("{program} is absent: this test is left out");
                return None;
            }
        }
        let nginx = Nginx::start();
        let to = nginx.address.to_string();
        let mut proxy = Program::start(twintier().args(["proxy", "--listen", "127.0.0.1:0", "--to", &to]));
        let url = format!("http://{}", proxy.ready("proxy"));
        Some(Self { proxy, nginx, url })
    }

    /// The proxy ends orderly.
    fn end(mut self) {
        self.proxy.signal("TERM");
        assert_eq!(self.proxy.status().code(), Some(0), "{}", self.proxy.stderr());
        drop(self.nginx);
    }
}

#[track_caller]
fn client(program: &str, arguments: &[&str]) -> Ended {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let ended = run(&mut command);
    assert_eq!(ended.code, Some(0), "{program} {arguments:?}: {}{}", ended.stdout, ended.stderr);
    ended
}

/// The number behind `name` in a line that begins with it.
#[track_caller]
fn count(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| line.trim_start().strip_prefix(name));
    let word = line.and_then(|rest| rest.split_whitespace().next());
    word.and_then(|word| word.parse().ok()).unwrap_or_else(|| panic!("no `{name}` in {text}"))
}

#[test]
fn curl() {
    let Some(site) = Site::start(&[("curl", "--version")]) else { return };
    let url = |path: &str| format!("{}{path}", site.url);
    let (small, large) = (url("/small.txt"), url("/large.bin"));
    assert_eq!(client("curl", &["-sSf", &small]).stdout, nginx::SMALL);
    // Two requests on one connection, a large body, a part of it, a head, and one that has not changed.
    let twice = client("curl", &["-sSf", "-w", "%{http_code} %{num_connects}\\n", &small, &small]).stdout;
    assert_eq!(twice, format!("{0}200 1\n{0}200 0\n", nginx::SMALL));
    let code = "%{http_code} %{size_download}";
    let ask =
        |arguments: &[&str]| client("curl", &[&["-sS", "-o", "/dev/null", "-w", code][..], arguments].concat()).stdout;
    assert_eq!(ask(&[&large]), format!("200 {}", nginx::LARGE_BYTES));
    assert_eq!(ask(&["-r", "100-199", &large]), "206 100");
    assert_eq!(ask(&["-I", &large]), "200 0");
    assert_eq!(ask(&["--http1.0", &large]), format!("200 {}", nginx::LARGE_BYTES));
    assert_eq!(ask(&["-H", "If-Modified-Since: Fri, 31 Dec 2100 23:59:59 GMT", &small]), "304 0");
    assert_eq!(ask(&[&url("/nowhere")]).split(' ').next(), Some("404"));
    // Bodies: counted, chunked, and one that waits for 100.
    let body = "x".repeat(100_000);
    let folder = site::Folder::new();
    let file = folder.write("body", &body);
    let data = format!("@{}", file.display());
    let echo = url("/length");
    assert_eq!(client("curl", &["-sSf", "--data-binary", &data, &echo]).stdout, "length 100000 chunked \n");
    let chunked = ["-sSf", "--data-binary", &data, "-H", "Transfer-Encoding: chunked", &echo];
    assert_eq!(client("curl", &chunked).stdout, "length  chunked chunked\n");
    let waits = ["-sSf", "--data-binary", &data, "-H", "Expect: 100-continue", &echo];
    assert_eq!(client("curl", &waits).stdout, "length 100000 chunked \n");
    site.end();
}

#[test]
fn wrk() {
    let Some(site) = Site::start(&[("wrk", "-v")]) else { return };
    for path in ["/small.txt", "/large.bin"] {
        let said = client("wrk", &["-t1", "-c8", "-d1s", &format!("{}{path}", site.url)]).stdout;
        assert!(!said.contains("Non-2xx") && !said.contains("Socket errors"), "{said}");
        let requests = said.lines().find(|line| line.contains(" requests in ")).expect("a count of requests");
        assert!(requests.split_whitespace().next().is_some_and(|count| count != "0"), "{said}");
    }
    site.end();
}

#[test]
fn ab() {
    let Some(site) = Site::start(&[("ab", "-V")]) else { return };
    for keep_alive in [&["-k"][..], &[]] {
        let url = format!("{}/small.txt", site.url);
        let said = client("ab", &[keep_alive, &["-n", "600", "-c", "8", &url]].concat()).stdout;
        assert_eq!(count(&said, "Complete requests:"), 600, "{said}");
        assert_eq!(count(&said, "Failed requests:"), 0, "{said}");
        assert!(!said.contains("Non-2xx"), "{said}");
    }
    site.end();
}

#[test]
fn h2load() {
    let Some(site) = Site::start(&[("h2load", "--version")]) else { return };
    // It pipelines: four requests at a time on each connection.
    for streams in ["1", "4"] {
        let url = format!("{}/small.txt", site.url);
        let said = client("h2load", &["--h1", "-n", "1000", "-c", "8", "-m", streams, &url]).stdout;
        assert!(said.contains("1000 succeeded, 0 failed, 0 errored, 0 timeout"), "{said}");
        assert!(said.contains("status codes: 1000 2xx, 0 3xx, 0 4xx, 0 5xx"), "{said}");
    }
    site.end();
}

#[test]
fn chromium() {
    let Some(site) = Site::start(&[("chromium", "--version")]) else { return };
    let folder = site::Folder::new();
    let mut profile = String::new();
    write!(profile, "--user-data-dir={}", folder.path("profile").display()).unwrap();
    let page = format!("{}/page.html", site.url);
    // The page asks for its style and for a text, and says so in itself.
    let arguments = [
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--no-first-run",
        "--disable-extensions",
        "--virtual-time-budget=10000",
        &profile,
        "--dump-dom",
        &page,
    ];
    let said = client("chromium", &arguments).stdout;
    assert!(said.contains("fetched: small text, posted: 5, colour: rgb(1, 2, 3)"), "{said}");
    site.end();
}
