//! Several generators make one report.

use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use crate::support::{Request, Scratch, assert_balanced, loadgen, number, respond, serve, summary};

#[test]
fn histograms_add_and_percentiles_are_never_averaged() {
    let (fast, _) = serve(|_: &Request, stream: &mut TcpStream| respond(stream, 200, "", "fast"));
    let (slow, _) = serve(|_: &Request, stream: &mut TcpStream| {
        // A slow server.
        thread::sleep(Duration::from_millis(60));
        respond(stream, 201, "", "slow")
    });
    let runs = [Scratch::new(), Scratch::new()];
    let arguments = |url: &str, rate: &'static str| {
        [
            "run".to_owned(),
            format!("http://{url}/"),
            "--rate".into(),
            rate.into(),
            "--duration".into(),
            "1.2".into(),
            "--warmup".into(),
            "0.3".into(),
        ]
    };
    // One sample in ten is slow: the 0.9 quantile is fast and the 0.99 quantile is slow.
    let summaries: Vec<_> = [arguments(&fast, "450"), arguments(&slow, "50")]
        .iter()
        .zip(&runs)
        .map(|(arguments, out)| summary(out, &arguments.iter().map(String::as_str).collect::<Vec<_>>()).0)
        .collect();
    let out = Scratch::new();
    let names = [runs[0].join(""), runs[1].join(""), out.join("merged")];
    let output = loadgen(&["merge", &names[0], &names[1], "--out", &names[2]]);
    assert!(matches!(output.status.code(), Some(0 | 4)), "{}", String::from_utf8_lossy(&output.stderr));
    let read = |name: &str| std::fs::read_to_string(out.path().join("merged").join(name)).unwrap();
    let merged: serde_json::Value = serde_json::from_str(&read("summary.json")).unwrap();
    assert_eq!(assert_balanced(&merged), 600);
    for term in [
        "/completed",
        "/response_ns/count",
        "/service_ns/count",
        "/generator_lag_ns/count",
        "/status_counts/201",
        "/warmup_requests",
    ] {
        assert_eq!(number(&merged, term), summaries.iter().map(|summary| number(summary, term)).sum::<u64>(), "{term}");
    }
    assert!(number(&merged, "/response_ns/p99") >= 60_000_000);
    assert_eq!(
        number(&merged, "/response_ns/max"),
        summaries.iter().map(|summary| number(summary, "/response_ns/max")).max().unwrap()
    );
    assert_eq!(number(&merged, "/tags/status_201/response_ns/count"), 60);
    assert_eq!(number(&merged, "/merged"), 2);
    let planned: u64 =
        read("intervals.csv").lines().skip(1).map(|line| line.split(',').nth(3).unwrap().parse::<u64>().unwrap()).sum();
    assert_eq!(planned, 600);
    // A merged run is a run: it merges again.
    let again = loadgen(&["merge", &names[2], "--out", &out.join("again")]);
    assert_eq!(again.status.code(), output.status.code(), "{}", String::from_utf8_lossy(&again.stderr));
}

#[test]
fn what_is_no_run_is_refused() {
    let out = Scratch::new();
    let output = loadgen(&["merge", &out.join(""), "--out", &out.join("merged")]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("summary.json"));
}

#[test]
fn a_killed_generator_counts_with_what_it_wrote_down() {
    let (address, _) = serve(|_: &Request, stream: &mut TcpStream| respond(stream, 200, "", "fine"));
    let (url, scratch) = (format!("http://{address}/"), Scratch::new());
    let whole = Scratch::new();
    let (complete, _) = summary(&whole, &["run", &url, "--rate", "100", "--duration", "1"]);
    let killed = scratch.join("killed");
    let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_loadgen"))
        .args(["run", &url, "--rate", "100", "--duration", "60", "--quiet", "--out", &killed])
        .spawn()
        .unwrap();
    let table = scratch.path().join("killed/intervals.csv");
    let deadline = Instant::now() + Duration::from_secs(30);
    while std::fs::read_to_string(&table).map_or(0, |text| text.lines().count()) < 3 {
        assert!(Instant::now() < deadline, "no interval came");
        thread::sleep(Duration::from_millis(20));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    // What a kill in the middle of a write leaves.
    for name in ["killed/latency.hlog", "killed/intervals.csv"] {
        let path = scratch.path().join(name);
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, text + "9.000,1.0").unwrap();
    }
    let output = loadgen(&["merge", &killed, &whole.join(""), "--out", &scratch.join("merged")]);
    assert!(matches!(output.status.code(), Some(0 | 4)), "{}", String::from_utf8_lossy(&output.stderr));
    let text = std::fs::read_to_string(scratch.path().join("merged/summary.json")).unwrap();
    let merged: serde_json::Value = serde_json::from_str(&text).unwrap();
    let planned = number(&merged, "/planned");
    assert!(planned >= 100 + number(&complete, "/planned"), "{planned}");
    assert_eq!(
        planned,
        ["/completed", "/errors", "/timed_out", "/shed", "/in_flight_at_end"]
            .iter()
            .map(|term| number(&merged, term))
            .sum::<u64>()
    );
    assert!(merged["reasons"].to_string().contains("did not end"), "{}", merged["reasons"]);
    let alone = loadgen(&["merge", &killed, "--out", &scratch.join("alone")]);
    assert_eq!(alone.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&alone.stderr).contains("none of these runs ended"));
}
