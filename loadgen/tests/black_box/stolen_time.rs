//! Time that the machine takes from the generator: it must show, and must not move the plan.

use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use crate::support::{Request, Scratch, assert_balanced, number, respond, serve};

/// The generator is stopped for 0.3 s in the middle of its run.
#[test]
fn a_stopped_generator_sees_its_own_stop() {
    let (address, count) = serve(|_: &Request, stream: &mut TcpStream| respond(stream, 200, "", "fine"));
    let out = Scratch::new();
    let url = format!("http://{address}/");
    let mut child = Command::new(env!("CARGO_BIN_EXE_loadgen"))
        .args(["run", &url, "--rate", "200", "--duration", "3", "--quiet", "--out", &out.join("run")])
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    while count.load(Ordering::Relaxed) < 100 {
        assert!(Instant::now() < deadline, "no request came");
        thread::yield_now();
    }
    let signal =
        |name: &str| assert!(Command::new("kill").args([name, &child.id().to_string()]).status().unwrap().success());
    signal("-STOP");
    // The stop itself is what is tested.
    thread::sleep(Duration::from_millis(300));
    signal("-CONT");
    child.wait().unwrap();
    let text = std::fs::read_to_string(out.path().join("run/summary.json")).unwrap();
    let summary: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(assert_balanced(&summary), 600, "nothing is skipped and nothing is moved");
    for name in ["hiccup_ns", "generator_lag_ns", "response_ns"] {
        let max_ns = number(&summary, &format!("/{name}/max"));
        assert!(max_ns > 250_000_000, "{name}: {max_ns} ns");
    }
    // A tick a millisecond from one meter, and a request each five.
    assert!(number(&summary, "/hiccup_ns/count") >= 2990, "{}", summary["hiccup_ns"]);
    let late = ["/hiccup_ns/p99", "/generator_lag_ns/p99"].map(|pointer| number(&summary, pointer));
    assert!(late.iter().all(|&ns| ns > 100_000_000), "every millisecond of the stop counts: {late:?}");
    assert_ne!(summary["verdict"], "valid", "{}", summary["reasons"]);
}

#[test]
fn the_meter_can_be_left_out() {
    let (address, _) = serve(|_: &Request, stream: &mut TcpStream| respond(stream, 200, "", "fine"));
    let out = Scratch::new();
    let url = format!("http://{address}/");
    let arguments = ["run", &url, "--rate", "50", "--duration", "0.3", "--no-hiccup-meter"];
    let (summary, _) = crate::support::summary(&out, &arguments);
    assert!(summary.get("hiccup_ns").is_none());
}
