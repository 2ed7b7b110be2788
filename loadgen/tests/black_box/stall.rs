//! No coordinated omission: a server that stops for a while has the percentiles that arithmetic says.
//!
//! With a stall of S seconds in a run of T, arrivals that are planned within it wait until its end, so the quantile q
//! of response time is S - (1 - q) T as long as (1 - q) T < S. This is the run of 30 s with a server that stands still
//! for 2 s; `src/run/tests.rs` has the same, and a stall of half the run, in virtual time.

use std::net::TcpStream;
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

use crate::support::{Request, Scratch, assert_balanced, number, respond, serve, summary};

const STALL: Duration = Duration::from_secs(2);
const RUN_S: f64 = 30.0;
const CONNECTIONS: u64 = 64;

#[test]
fn a_stall_shows_in_the_percentiles_in_closed_form() {
    let first: OnceLock<Instant> = OnceLock::new();
    let (address, _) = serve(move |_: &Request, stream: &mut TcpStream| {
        let begin = *first.get_or_init(Instant::now) + Duration::from_secs(10);
        let now = Instant::now();
        if now >= begin && now < begin + STALL {
            // The whole server stands still: every connection answers when the stall is over.
            thread::sleep(begin + STALL - now);
        }
        respond(stream, 200, "", "fine")
    });
    let out = Scratch::new();
    let url = format!("http://{address}/");
    let (summary, _) = summary(&out, &["run", &url, "--rate", "100", "--duration", "30", "--connections", "64"]);
    assert_eq!(assert_balanced(&summary), 3000, "arrivals depend on the clock only");
    assert_eq!(number(&summary, "/completed"), 3000);
    // What the machine itself took from a thread in this run may be in the figures twice: here and in the server.
    let hiccup_s = number(&summary, "/hiccup_ns/max") as f64 / 1e9;
    for (pointer, quantile) in [("/response_ns/p99", 0.99), ("/response_ns/p95", 0.95)] {
        let expected_s = STALL.as_secs_f64() - (1.0 - quantile) * RUN_S;
        let found_s = match pointer {
            // The summary has no p95: the text of the percentiles has.
            "/response_ns/p95" => percentile(&out, quantile),
            _ => number(&summary, pointer) as f64 / 1e9,
        };
        let tolerance_s = 0.05 * expected_s + 2.0 * hiccup_s;
        assert!(
            (found_s - expected_s).abs() < tolerance_s,
            "p{}: {found_s} s, and arithmetic says {expected_s} ± {tolerance_s} s",
            quantile * 100.0
        );
    }
    // Below the stall's share, times are those of a healthy server.
    assert!(number(&summary, "/response_ns/p50") < 50_000_000 + number(&summary, "/hiccup_ns/max"));
    // What was on the wire when it stopped is all that service time shows: omission, had it been the headline. 64 of
    // 3000 are above the 97.8th percentile.
    assert!(number(&summary, "/service_ns/p90") < 500_000_000);
    assert!(number(&summary, "/client_queue_ns/p99") > 500_000_000, "the rest waited for a connection");
    const { assert!(CONNECTIONS * 100 < 3000 * 3, "fewer connections than the highest three percent") };
}

/// A percentile of `latency.hgrm` in seconds: the first row at or above it.
fn percentile(out: &Scratch, quantile: f64) -> f64 {
    let text = std::fs::read_to_string(out.path().join("latency.hgrm")).unwrap();
    let rows = text.lines().filter_map(|line| {
        let mut words = line.split_ascii_whitespace();
        Some((words.next()?.parse::<f64>().ok()?, words.next()?.parse::<f64>().ok()?))
    });
    let (value_ms, _) = rows.into_iter().find(|(_, at)| *at >= quantile).unwrap();
    value_ms / 1e3
}
