//! Targets that misbehave: each has its named kind of failure, the run ends when it should, and the terms add up.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::thread;
use std::time::Duration;

use rustix::net::sockopt::set_socket_linger;

use crate::support::{Request, Scratch, assert_balanced, loadgen, number, respond, serve, summary};

/// Offers 100 requests in half a second and returns the summary and the exit code.
fn offer(address: &str) -> (serde_json::Value, i32) {
    let url = format!("http://{address}/");
    let run = ["--rate", "200", "--duration", "0.5", "--timeout", "0.3", "--connections", "8"];
    let (summary, code) = summary(&Scratch::new(), &[&["run", &url][..], &run].concat());
    assert_eq!(assert_balanced(&summary), 100, "arrivals depend on the clock only");
    (summary, code)
}

fn kind(summary: &serde_json::Value, name: &str) -> u64 {
    number(summary, &format!("/errors_by_kind/{name}"))
}

/// Writes what there is of an answer and closes.
fn cut(part: &'static str) -> (serde_json::Value, i32) {
    let (address, _) = serve(move |_: &Request, stream: &mut TcpStream| {
        let _ = stream.write_all(part.as_bytes());
        false
    });
    offer(&address)
}

#[test]
fn a_target_that_closes_early_ends_in_the_middle_of_a_response() {
    for part in [
        "",
        "HTTP/1.1 200 OK\r\nContent-Le",
        "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhalf",
    ] {
        let (summary, code) = cut(part);
        assert_eq!((kind(&summary, "eof_mid_response"), code), (100, 4), "{part:?}: {}", summary["errors_by_kind"]);
    }
}

#[test]
fn a_target_that_resets_is_no_end_of_file() {
    let (address, _) = serve(|_: &Request, stream: &mut TcpStream| {
        // Closing with this resets the connection.
        set_socket_linger(&*stream, Some(Duration::ZERO)).unwrap();
        false
    });
    let (summary, code) = offer(&address);
    assert_eq!((kind(&summary, "reset"), code), (100, 4), "{}", summary["errors_by_kind"]);
}

#[test]
fn a_target_that_sends_garbage_is_no_http() {
    for garbage in
        ["220 smtp.example ESMTP\r\n\r\n", "HTTP/1.1 2000 OK\r\n\r\n", "\0\0\0\0\r\n\r\n", "{\"ok\":true}\r\n\r\n"]
    {
        let (summary, code) = cut(garbage);
        assert_eq!((kind(&summary, "parse"), code), (100, 4), "{garbage:?}: {}", summary["errors_by_kind"]);
    }
}

#[test]
fn a_target_that_does_not_accept_is_a_connect_that_takes_too_long() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    // One connection may wait, and two do: for the next ones the kernel drops the handshake.
    rustix::net::listen(&listener, 0).unwrap();
    let (summary, code) = offer(&listener.local_addr().unwrap().to_string());
    let connect = kind(&summary, "connect_timeout");
    assert!(connect > 0 && code == 4, "{}", summary["errors_by_kind"]);
    assert_eq!(number(&summary, "/timed_out"), 100, "{}", summary["errors_by_kind"]);
    assert!(number(&summary, "/response_ns/p50") >= 299_000_000, "a connect that never ends is no fast one");
}

#[test]
fn a_target_that_is_slow_is_named_by_what_was_slow() {
    for (before, name) in
        [("HTTP/1.1 200 OK\r\n", "header_timeout"), ("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nh", "body_timeout")]
    {
        let (address, _) =
            serve(move |_: &Request, stream: &mut TcpStream| stream.write_all(before.as_bytes()).is_ok());
        let (summary, code) = offer(&address);
        assert!(kind(&summary, name) > 0 && code == 4, "{name}: {}", summary["errors_by_kind"]);
        // Those who found every connection busy waited in vain, or got one too late for it to say anything.
        assert_eq!(number(&summary, "/timed_out"), 100, "{name}: {}", summary["errors_by_kind"]);
    }
}

/// A server that speaks before it is asked: what it says is nobody's answer.
#[test]
fn an_answer_that_nobody_asked_for_is_none() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            thread::spawn(move || {
                respond(&mut stream, 200, "", "hello");
                // Until the generator gives the connection up.
                let _ = stream.read_to_end(&mut Vec::new());
            });
        }
    });
    let (summary, _) = offer(&address);
    assert!(number(&summary, "/unasked") > 0);
    assert_ne!(summary["verdict"], "valid");
    assert!(summary["reasons"].to_string().contains("no request had asked for"), "{}", summary["reasons"]);
}

/// A second answer behind each first one.
#[test]
fn an_answer_too_many_is_told() {
    let (address, _) = serve(|_: &Request, stream: &mut TcpStream| {
        respond(stream, 200, "", "one");
        // Not in the same read as the first.
        thread::sleep(Duration::from_millis(20));
        respond(stream, 200, "", "two")
    });
    let (summary, _) = offer(&address);
    let told = number(&summary, "/unasked") + kind(&summary, "parse");
    assert!(told > 0 && summary["verdict"] != "valid", "{} {}", summary["reasons"], summary["errors_by_kind"]);
}

#[test]
fn a_name_that_cannot_be_looked_up_is_told_before_anything_is_sent() {
    let output = loadgen(&["run", "http://no..name/", "--closed"]);
    assert_eq!(output.status.code(), Some(2));
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(error.contains("no address for `no..name`"), "{error}");
}

#[test]
fn a_rate_that_is_none_is_told() {
    for rate in ["0", "-1", "NaN", "inf", "fast", ""] {
        let output = loadgen(&["run", "http://127.0.0.1:1/", &format!("--rate={rate}")]);
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{rate}: {error}");
        assert!(error.contains("--rate"), "{rate}: {error}");
    }
}

/// The run goes on to its end, tells what it measured, names the file and the cure, and leaves whole lines only.
#[test]
fn a_disk_that_fills_ends_the_files_and_not_the_run() {
    // A limit on the size of a file is a full disk that needs no permission: 64 KiB are some seconds of a log.
    let (address, count) = serve(|_: &Request, stream: &mut TcpStream| respond(stream, 200, "", "fine"));
    let out = Scratch::new();
    let directory = out.join("run");
    // Statuses make tags, and tags make the log grow: a few KiB a second.
    let command = format!(
        "trap '' XFSZ; ulimit -f 8; exec '{}' run http://{address}/ --rate 400 --arrivals poisson --duration 4 --quiet --out '{directory}'",
        env!("CARGO_BIN_EXE_loadgen")
    );
    let output = Command::new("bash").args(["-c", &command]).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(
        error.contains("incomplete") && error.contains("latency-parts.hlog") && error.contains("ulimit"),
        "{error}"
    );
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains("requests ") && text.contains(" completed"), "{text}");
    assert!(count.load(std::sync::atomic::Ordering::Relaxed) > 1200, "the run went on to its end");
    for file in ["latency.hlog", "latency-parts.hlog", "intervals.csv", "summary.json"] {
        let bytes = std::fs::read(out.path().join("run").join(file)).unwrap();
        assert!(bytes.ends_with(b"\n") && bytes.len() <= 8192, "{file}: {} bytes", bytes.len());
    }
    let rows = std::fs::read_to_string(out.path().join("run/intervals.csv")).unwrap();
    assert!(rows.lines().count() >= 2, "what was measured before is there: {rows}");
}
