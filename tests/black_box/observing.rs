//! What a running program tells about itself: access log, reasons, rejected requests, metrics.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::support::appliance::{Appliance, Setup};
use crate::support::eventually;
use crate::support::exposition::Scrape;
use crate::support::origin::{Asked, Origin, Said};
use crate::support::program::{Program, twintier};
use crate::support::site::Folder;
use crate::support::wire::Wire;

/// `key=value` pairs of one line; a value in quotes may hold everything.
#[track_caller]
fn pairs(line: &str) -> BTreeMap<String, String> {
    let mut pairs = BTreeMap::new();
    let mut rest = line;
    while !rest.is_empty() {
        let (key, value) = rest.split_once('=').unwrap_or_else(|| panic!("no pair in `{rest}` of {line}"));
        let end = if let Some(quoted) = value.strip_prefix('"') {
            let mut escaped = false;
            let close = quoted.find(|letter| {
                let found = letter == '"' && !escaped;
                escaped = letter == '\\' && !escaped;
                found
            });
            close.unwrap_or_else(|| panic!("no end of the quotes: {line}")) + 2
        } else {
            value.find(' ').unwrap_or(value.len())
        };
        assert!(pairs.insert(key.to_owned(), value[..end].trim_matches('"').to_owned()).is_none(), "twice: {line}");
        rest = value[end..].strip_prefix(' ').unwrap_or("");
    }
    pairs
}

const KEYS: [&str; 17] = [
    "time",
    "client",
    "front",
    "method",
    "host",
    "path",
    "status",
    "bytes",
    "head_us",
    "queue_us",
    "connect_us",
    "first_us",
    "total_us",
    "target",
    "attempts",
    "end",
    "reason",
];

#[track_caller]
fn lines(text: &str) -> Vec<BTreeMap<String, String>> {
    assert!(text.is_empty() || text.ends_with('\n'), "the last line is not whole: {text}");
    let keys = |line: &str| line.split(' ').filter_map(|word| Some(word.split_once('=')?.0.to_owned())).collect();
    for line in text.lines().filter(|line| !line.contains('"')) {
        let keys: Vec<String> = keys(line);
        assert_eq!(keys, KEYS, "{line}");
    }
    text.lines().map(pairs).collect()
}

fn front_counters(status: &Value, key: &str) -> u64 {
    let workers = status["workers"].as_array().unwrap();
    workers.iter().filter_map(|worker| worker["front"]["counters"][key].as_u64()).sum()
}

fn scrape(appliance: &Appliance) -> Scrape {
    Scrape::read(&appliance.admin("GET", "/metrics").text())
}

#[test]
fn every_request_has_one_line_that_says_why() {
    let setup = Setup::shipped();
    let log = setup.folder.path("access.log");
    let mut appliance = setup
        .set("log.access", &log.display().to_string())
        .set("timeouts.head_ms", "200")
        .statements("fail /gone 410")
        .start();
    let mut wire = appliance.wire();
    assert_eq!(wire.get("/reqcat/?words=secret").status, 200);
    assert_eq!(wire.get("/gone").status, 410);
    assert_eq!(wire.get("/reqcat/static/none").status, 404);
    assert_eq!(wire.get("/nowhere/at/all").status, 404);
    wire.send("GET /bad HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n");
    assert_eq!(wire.answer().status, 400);
    let mut slow = appliance.wire();
    slow.send("GET /slow HTTP/1.1\r\n");
    assert_eq!(slow.answer().status, 408);
    let taken = front_counters(&appliance.status(), "requests_taken");
    appliance.program.signal("TERM");
    assert!(appliance.program.status().success());
    let lines = lines(&std::fs::read_to_string(&log).unwrap());
    assert_eq!(lines.len() as u64, taken, "one line for each request");
    let find = |key: &str, value: &str| {
        let mut found = lines.iter().filter(|line| line[key] == value);
        found.next_back().unwrap_or_else(|| panic!("no line with {key}={value}: {lines:#?}"))
    };
    let page = find("path", "/reqcat/");
    assert_eq!((page["status"].as_str(), page["end"].as_str(), page["method"].as_str()), ("200", "answered", "GET"));
    assert!(page["target"].starts_with("replica:") && ["local", "most-credit"].contains(&page["reason"].as_str()));
    assert!(page["bytes"].parse::<u64>().unwrap() > 100 && page["total_us"].parse::<u64>().unwrap() > 0, "{page:?}");
    let gone = find("path", "/gone");
    assert_eq!(
        (gone["target"].as_str(), gone["reason"].as_str(), gone["end"].as_str()),
        ("statement", "statement", "answered")
    );
    let none = find("path", "/reqcat/static/none");
    assert_eq!((none["reason"].as_str(), none["status"].as_str(), none["end"].as_str()), ("no-file", "404", "refused"));
    assert_eq!(find("path", "/nowhere/at/all")["reason"], "no-route");
    let bad = find("status", "400");
    assert_eq!((bad["reason"].as_str(), bad["path"].as_str()), ("bad-request:host-is-repeated", "-"));
    assert_eq!(find("status", "408")["reason"], "head-timeout");
    assert!(!std::fs::read_to_string(&log).unwrap().contains("secret"), "queries are left out");
}

#[test]
fn a_log_that_was_moved_away_is_opened_anew() {
    let setup = Setup::shipped();
    let log = setup.folder.path("access.log");
    let appliance = setup.set("log.access", &log.display().to_string()).start();
    let mut wire = appliance.wire();
    wire.get("/first");
    let holds = |path: &std::path::Path, text: &str| std::fs::read_to_string(path).is_ok_and(|log| log.contains(text));
    eventually("the first line", || holds(&log, "path=/first ").then_some(()));
    let moved = log.with_extension("1");
    std::fs::rename(&log, &moved).unwrap();
    eventually("a new file", || log.exists().then_some(()));
    wire.get("/second");
    eventually("the second line", || holds(&log, "path=/second ").then_some(()));
    assert!(holds(&moved, "path=/first ") && !holds(&moved, "path=/second "));
    assert_eq!(scrape(&appliance).sum("twintier_access_log_reopened_total"), 1.0);
}

#[test]
fn a_full_disk_costs_lines_and_no_requests() {
    let appliance = Setup::shipped().set("log.access", "/dev/full").start();
    let mut wire = appliance.wire();
    for _ in 0..100 {
        assert_eq!(wire.get("/nowhere").status, 404);
    }
    let said = appliance.says("the access log cannot be written");
    eventually("lost lines in the metrics", || {
        (scrape(&appliance).sum("twintier_access_log_lost_lines_total") >= 100.0).then_some(())
    });
    assert_eq!(said.matches("file=/dev/full").count(), 1, "said once: {said}");
}

fn by_path(asked: &Asked) -> Said {
    match asked.path.as_str() {
        "/cut" => Said::last("HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\nonly this"),
        "/nonsense" => Said::last("HELLO\r\n\r\n"),
        "/silent" => Said::last(""),
        _ => Said::ok("twelve bytes"),
    }
}

#[test]
fn a_proxy_logs_which_server_and_why() {
    let origin = Origin::tcp(by_path);
    let folder = Folder::new();
    let log = folder.path("proxy.log");
    let mut proxy = Program::start(
        twintier().args(["proxy", "--listen", "127.0.0.1:0", "--to", &origin.address]).arg("--access-log").arg(&log),
    );
    let address = proxy.ready("proxy").parse().unwrap();
    for (path, status) in [("/fine", Some(200)), ("/nonsense", Some(502)), ("/silent", Some(502)), ("/cut", None)] {
        let mut wire = Wire::open(address);
        wire.send(format!("GET {path} HTTP/1.1\r\nhost: test\r\n\r\n"));
        if let Some(answer) = wire.answer_to("GET")
            && let Some(status) = status
        {
            assert_eq!(answer.status, status, "{path}");
        }
    }
    proxy.signal("TERM");
    assert!(proxy.status().success());
    let lines = lines(&std::fs::read_to_string(&log).unwrap());
    let of =
        |path: &str| lines.iter().find(|line| line["path"] == path).unwrap_or_else(|| panic!("{path}: {lines:#?}"));
    let fine = of("/fine");
    assert_eq!(fine["target"], format!("upstream:{}", origin.address));
    assert_eq!(
        (fine["reason"].as_str(), fine["bytes"].as_str(), fine["attempts"].as_str()),
        ("upstream-least", "12", "1")
    );
    assert!(of("/nonsense")["reason"].starts_with("upstream-bad:"), "{:?}", of("/nonsense"));
    assert_eq!(of("/silent")["reason"], "upstream-reset");
    assert_eq!((of("/cut")["reason"].as_str(), of("/cut")["end"].as_str()), ("upstream-cut", "aborted"));
    assert_eq!(lines.len(), 4);
}

#[test]
fn rejected_requests_show_the_offending_byte_and_no_secret() {
    let appliance = Setup::shipped().start();
    let mut wire = appliance.wire();
    wire.send("GET /x HTTP/1.1\r\nhost: a\r\ncookie: twintier_session=SECRET\r\nx y: 1\r\n\r\n");
    assert_eq!(wire.answer().status, 400);
    let rejects = appliance.admin("GET", "/rejects").json();
    let fronts = rejects["fronts"].as_array().unwrap();
    let entries: Vec<&Value> = fronts.iter().flat_map(|front| front["rejects"].as_array().unwrap()).collect();
    assert_eq!(entries.len(), 1, "{rejects}");
    let entry = entries[0];
    assert_eq!(
        (&entry["status"], &entry["byte"], &entry["part"]),
        (&400.into(), &" ".into(), &"head".into()),
        "{entry}"
    );
    assert!(entry["before"].as_str().unwrap().ends_with("\\x0d\\x0ax"), "{entry}");
    assert!(entry["after"].as_str().unwrap().starts_with("y: 1"), "{entry}");
    assert!(entry["reason"].as_str().unwrap().starts_with("bad-request:"), "{entry}");
    assert!(!rejects.to_string().contains("SECRET"), "{rejects}");
    let text = appliance.admin("GET", "/rejects/text").text();
    assert!(text.contains("^\n") && text.contains("*") && !text.contains("SECRET"), "{text}");
    // Many more than are kept, on many connections: the memory is bounded, the count goes on.
    for _ in 0..200 {
        let mut wire = appliance.wire();
        wire.send("GET /\x01 HTTP/1.1\r\nhost: a\r\n\r\n");
        assert_eq!(wire.answer().status, 400);
    }
    let rejects = appliance.admin("GET", "/rejects").json();
    let count = |front: &Value| front["rejects"].as_array().unwrap().len();
    assert!(rejects["fronts"].as_array().unwrap().iter().all(|front| count(front) <= 64));
    assert_eq!(scrape(&appliance).sum("twintier_front_rejected_total"), 201.0);
}

/// Metric names that hold a number of the status report: as a counter, as a gauge, in seconds.
fn names(base: &str) -> Vec<String> {
    let mut names = vec![format!("twintier_{base}"), format!("twintier_{base}_total")];
    for unit in ["_ns", "_us", "_ms"] {
        if let Some(stem) = base.strip_suffix(unit) {
            names.extend([format!("twintier_{stem}_seconds"), format!("twintier_{stem}_seconds_total")]);
        }
    }
    names
}

#[test]
fn every_counter_is_exported_and_the_books_balance() {
    let appliance = Setup::shipped().start();
    let mut browser = appliance.wire();
    for path in ["/reqcat/", "/directory/", "/nowhere", "/reqcat/?words=compiler"] {
        browser.get(path);
    }
    let mut left = appliance.wire();
    left.send("POST /reqcat/requisitions HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\nhalf");
    drop(left);
    eventually("the end of the request whose browser left", || {
        (front_counters(&appliance.status(), "requests_aborted") == 1).then_some(())
    });
    let text = appliance.admin("GET", "/metrics").text();
    let scrape = Scrape::read(&text);
    // Every field of every counter struct: the status report is made from them by serde.
    let status = appliance.status();
    let worker = &status["workers"][0];
    let mut checked = 0;
    for (base, object) in [
        ("engine", &worker["engine"]),
        ("mesh", &worker["mesh"]),
        ("front", &worker["front"]["counters"]),
        ("front_dispatch", &worker["front"]["dispatch"]),
        ("front_placement", &worker["front"]["placement"]),
        ("front", &worker["front"]),
        ("replica", &worker["replica"]),
        ("replica_table", &worker["replica"]["tables"][0]),
        ("replica_peer", &worker["replica"]["peers"][0]),
        ("database", &status["database"]),
        ("storage", &status["storage"]),
        ("storage_agents", &status["storage"]["agents"]),
        ("worker", worker),
    ] {
        let fields = object.as_object().unwrap_or_else(|| panic!("{base} is no object"));
        for (key, _) in fields.iter().filter(|(_, value)| value.is_number() || value.is_boolean()) {
            let elsewhere =
                ["front", "replica", "worker", "peer"].contains(&key.as_str()) || key.starts_with("dispatched_");
            let names = names(&format!("{base}_{key}"));
            let found = scrape.samples.iter().any(|sample| names.contains(&sample.name));
            assert!(found || elsewhere, "{base}.{key} is not in /metrics");
            checked += 1;
        }
    }
    assert!(checked > 80, "{checked}");
    let workers = status["workers"].as_array().unwrap();
    assert!(workers.iter().all(|worker| worker["front"]["books"] == 0), "{status}");
    assert!(scrape.of("twintier_front_books").all(|sample| sample.value == 0.0));
    let books: Vec<&str> = scrape
        .of("twintier_books")
        .filter(|sample| sample.value == 0.0)
        .filter_map(|sample| sample.labels.get("of"))
        .map(String::as_str)
        .collect();
    assert!(["requests", "writes", "replication", "agents"].iter().all(|of| books.contains(of)), "{status}");
    let endings = scrape.sum("twintier_front_endings_total");
    let ended =
        ["answered", "refused", "aborted"].map(|end| scrape.sum(&format!("twintier_front_requests_{end}_total")));
    assert_eq!(endings, ended.iter().sum::<f64>(), "each ended request has one reason");
    assert_eq!(scrape.sum("twintier_front_request_seconds_count"), ended[0], "each answered request was timed");
    assert!(scrape.sum("twintier_front_request_seconds_sum") > 0.0);
    assert!(status["latency"]["total"]["p99_ns"].as_u64().unwrap() > 0);
    foreign_reader(&text);
}

/// The reader that Prometheus' own client library brings along, where it is installed.
fn foreign_reader(text: &str) {
    let program = "import sys\nfrom prometheus_client.parser import text_string_to_metric_families as read\n\
                   print(sum(len(family.samples) for family in read(sys.stdin.read())))";
    let python = Command::new("python3")
        .args(["-c", program])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut python) = python else {
        eprintln!("python3 is absent: its reader of the metrics was not asked");
        return;
    };
    // A program that ends early says why on stderr.
    let _ = python.stdin.take().unwrap().write_all(text.as_bytes());
    let ended = python.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&ended.stderr);
    if said.contains("No module named") {
        eprintln!("prometheus_client is absent: its reader of the metrics was not asked");
        return;
    }
    assert!(ended.status.success(), "{said}");
    let samples = text.lines().filter(|line| !line.starts_with('#')).count();
    assert_eq!(String::from_utf8_lossy(&ended.stdout).trim(), samples.to_string());
}
