//! Nothing is lost and nothing is invented, however badly the server behaves.

use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use crate::support::{Request, Scratch, assert_balanced, loadgen, number, respond, serve, summary};

fn ok(_: &Request, stream: &mut TcpStream) -> bool {
    respond(stream, 200, "", "fine")
}

#[test]
fn every_misbehaviour_has_its_kind_and_the_terms_add_up() {
    let (address, _) = serve(|request: &Request, stream: &mut TcpStream| match request.number % 10 {
        0 => respond(stream, 503, "", "no"),
        1 => {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort");
            false
        }
        2 => {
            let _ = stream.write_all(b"220 mail.example ESMTP\r\n");
            false
        }
        // Never answers: the timeout comes.
        3 => true,
        4 => {
            // Half a body, and no more.
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort").is_ok()
        }
        5 => {
            // Slow, but in time.
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nsl");
            thread::sleep(Duration::from_millis(20));
            stream.write_all(b"ow\r\n0\r\n\r\n").is_ok()
        }
        6 => {
            respond(stream, 200, "Connection: close\r\n", "bye");
            false
        }
        _ => respond(stream, 200, "", "fine"),
    });
    let out = Scratch::new();
    let url = format!("http://{address}/");
    let (summary, _) =
        summary(&out, &["run", &url, "--rate", "300", "--duration", "1.5", "--timeout", "0.3", "--connections", "64"]);
    assert_eq!(assert_balanced(&summary), 450);
    for kind in ["status", "eof_mid_response", "parse", "header_timeout", "body_timeout"] {
        assert!(number(&summary, &format!("/errors_by_kind/{kind}")) > 10, "{kind}: {}", summary["errors_by_kind"]);
    }
    assert!(number(&summary, "/completed") > 150);
    assert!(number(&summary, "/response_ns/max") >= 300_000_000, "timeouts are samples");
    assert_eq!(number(&summary, "/failed_ns/count"), number(&summary, "/errors"));
}

#[test]
fn a_dead_target_is_refused_and_the_run_ends_as_planned() {
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let out = Scratch::new();
    let url = format!("http://{address}/");
    let (open, code) = summary(&out, &["run", &url, "--rate", "200", "--duration", "0.5"]);
    assert_eq!((assert_balanced(&open), number(&open, "/errors_by_kind/refused"), code), (100, 100, 4));
    let (closed, code) = summary(&out, &["run", &url, "--closed", "--duration", "0.3", "--connections", "2"]);
    let planned = assert_balanced(&closed);
    assert_eq!((number(&closed, "/errors_by_kind/refused"), code), (planned, 4));
    assert!(planned < 100, "a dead target is not hammered: {planned}");
}

#[test]
fn a_black_hole_is_no_zero() {
    let (address, _) = serve(|_: &Request, _: &mut TcpStream| true);
    let out = Scratch::new();
    let (summary, code) = summary(
        &out,
        &[
            "run",
            &format!("http://{address}/"),
            "--rate",
            "1000",
            "--duration",
            "1",
            "--timeout",
            "0.2",
            "--connections",
            "4",
        ],
    );
    assert_eq!((assert_balanced(&summary), number(&summary, "/timed_out"), code), (1000, 1000, 4));
    assert!(number(&summary, "/response_ns/p50") >= 200_000_000 * 999 / 1000);
    let kinds = &summary["errors_by_kind"];
    assert!(number(kinds, "/header_timeout") > 0 && number(kinds, "/queue_timeout") > 0, "{kinds}");
    let text = loadgen(&[
        "run",
        &format!("http://{address}/"),
        "--rate",
        "50",
        "--duration",
        "0.2",
        "--timeout",
        "0.1",
        "--quiet",
    ]);
    let text = String::from_utf8(text.stdout).unwrap();
    assert!(text.starts_with("invalid") && text.contains("no headline") && !text.contains("p99"), "{text}");
}

#[test]
fn the_server_saw_exactly_what_was_sent() {
    for mode in [&["--rate", "2000", "--arrivals", "poisson", "--seed", "7"][..], &["--closed"][..]] {
        let (address, count) = serve(ok);
        let out = Scratch::new();
        let url = format!("http://{address}/");
        let mut arguments = vec!["run", &url, "--duration", "0.6", "--warmup", "0.2", "--connections", "8"];
        arguments.extend(mode);
        let (summary, _) = summary(&out, &arguments);
        let planned = assert_balanced(&summary);
        assert_eq!(number(&summary, "/completed"), planned, "{}", summary["errors_by_kind"]);
        assert_eq!(planned + number(&summary, "/warmup_requests"), count.load(Ordering::Relaxed));
        assert_eq!(number(&summary, "/status_counts/200"), planned);
    }
}

#[test]
fn the_same_seed_plans_the_same_number_and_another_seed_another() {
    let (address, _) = serve(ok);
    let url = format!("http://{address}/");
    let planned = |seed: &str| {
        let out = Scratch::new();
        let (summary, _) = summary(
            &out,
            &["run", &url, "--rate", "1000", "--arrivals", "poisson", "--duration", "0.5", "--seed", seed],
        );
        number(&summary, "/planned")
    };
    assert_eq!(planned("3"), planned("3"));
    assert!(["4", "5", "6"].iter().any(|seed| planned(seed) != planned("3")));
}

#[test]
fn a_signal_ends_the_run_in_order() {
    let (address, count) = serve(|_: &Request, _: &mut TcpStream| true);
    let out = Scratch::new();
    let mut child = Command::new(env!("CARGO_BIN_EXE_loadgen"))
        .args([
            "run",
            &format!("http://{address}/"),
            "--rate",
            "100",
            "--duration",
            "60",
            "--connections",
            "4",
            "--quiet",
            "--out",
            &out.join("run"),
        ])
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    // Four wait for an answer by then, and the others of the first second for a connection.
    let rows = || std::fs::read_to_string(out.path().join("run/intervals.csv")).unwrap_or_default().lines().count();
    while count.load(Ordering::Relaxed) < 4 || rows() < 2 {
        assert!(Instant::now() < deadline, "no request came");
        thread::sleep(Duration::from_millis(10));
    }
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    assert_eq!(child.wait().unwrap().code(), Some(4));
    let text = std::fs::read_to_string(out.path().join("run/summary.json")).unwrap();
    let summary: serde_json::Value = serde_json::from_str(&text).unwrap();
    let planned = assert_balanced(&summary);
    assert!(planned >= 100);
    assert_eq!(number(&summary, "/in_flight_at_end"), planned, "on connections and in the queue");
    assert!(number(&summary, "/response_ns/max") > 500_000_000, "as lower bounds");
    assert!(summary["reasons"].to_string().contains("signal"));
}

#[test]
fn a_closed_loop_says_what_it_is() {
    let (address, _) = serve(ok);
    let out = Scratch::new();
    let arguments = ["run", &format!("http://{address}/"), "--closed", "--connections", "2", "--duration", "0.3"];
    let output = loadgen(&[&arguments[..], &["--quiet", "--out", &out.join("run")]].concat());
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains("closed loop, service time only: not comparable with open-loop percentiles"), "{text}");
    assert!(text.contains("\nservice ") && !text.contains("\nresponse ") && !text.contains("offered"), "{text}");
    let summary = std::fs::read_to_string(out.path().join("run/summary.json")).unwrap();
    let summary: serde_json::Value = serde_json::from_str(&summary).unwrap();
    assert_eq!((&summary["mode"], &summary["offered_rate"]), (&"closed".into(), &serde_json::Value::Null));
    let meaning = summary["definitions"]["response_ns"].as_str().unwrap();
    assert!(meaning.contains("not comparable") && meaning.contains("not corrected"), "{meaning}");
}

/// The ceiling is what the generator can do; a closed loop that keeps its core busy comes near it.
#[test]
fn a_calibrated_run_knows_its_ceiling() {
    let (address, _) = serve(ok);
    let url = format!("http://{address}/");
    let arguments = ["run", &url, "--rate", "50", "--duration", "0.3", "--connections", "2", "--calibrate"];
    let (summary, _) = summary(&Scratch::new(), &arguments);
    assert_eq!(assert_balanced(&summary), 15, "the calibration is no part of the run");
    let ceiling = summary["ceiling_rate"].as_f64().unwrap();
    assert!(ceiling > 100.0, "{ceiling} requests for a second of a core");
    assert!(!summary["reasons"].to_string().contains("more than half"), "{}", summary["reasons"]);
}

/// It is measured against a server of the generator's own, and knows nothing of the one under test.
#[test]
fn the_ceiling_does_not_depend_on_the_target() {
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let url = format!("http://{address}/");
    let arguments = ["run", &url, "--rate", "50", "--duration", "0.3", "--connections", "2", "--calibrate"];
    let (summary, code) = summary(&Scratch::new(), &arguments);
    assert_eq!((number(&summary, "/errors_by_kind/refused"), code), (15, 4));
    let ceiling = summary["ceiling_rate"].as_f64().unwrap();
    assert!(ceiling > 100.0, "{ceiling} requests for a second of a core");
}

#[test]
fn a_missed_objective_has_its_exit_code() {
    let (address, _) = serve(ok);
    let out = Scratch::new();
    let url = format!("http://{address}/");
    let run = |slo: &'static str| {
        summary(&out, &["run", &url, "--closed", "--connections", "2", "--duration", "0.3", "--slo", slo])
    };
    let (met, code) = run("p99<10s,errors<1%");
    assert_eq!((met["slo"][0]["met"].as_bool(), code), (Some(true), 0), "{}", met["slo"]);
    let (missed, code) = run("errors<1%,p50<1ns");
    assert_eq!((missed["slo"][1]["met"].as_bool(), code), (Some(false), 3), "{}", missed["slo"]);
}

#[test]
fn bad_usage_is_told_before_anything_is_sent() {
    let cases: [&[&str]; 9] = [
        &["run", "http://127.0.0.1:1/", "--closed", "--slo", "p98<1ms"],
        &["run", "http://127.0.0.1:1/"],
        &["run", "http://127.0.0.1:1/", "--rate", "0"],
        &["run", "http://127.0.0.1:1/", "--rate", "5", "--closed"],
        &["run", "https://127.0.0.1:1/", "--closed"],
        &["run", "http://127.0.0.1:1/", "--closed", "--duration", "0"],
        &["run", "http://127.0.0.1:1/", "--closed", "--header", "no colon"],
        &["run", "http://127.0.0.1:1/", "--closed", "--body-file", "/does/not/exist"],
        &["browse", "/does/not/exist.toml", "http://127.0.0.1:1/"],
    ];
    for arguments in cases {
        let output = loadgen(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(!output.stderr.is_empty());
    }
}

#[test]
fn a_run_directory_that_cannot_be_written_fails_after_the_report() {
    let (address, _) = serve(ok);
    let output = loadgen(&[
        "run",
        &format!("http://{address}/"),
        "--rate",
        "50",
        "--duration",
        "0.2",
        "--quiet",
        "--out",
        "/proc/nowhere",
    ]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stdout).contains("requests   10 planned"));
    assert!(String::from_utf8_lossy(&output.stderr).contains("/proc/nowhere"));
}
