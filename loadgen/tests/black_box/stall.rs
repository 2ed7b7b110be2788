//! No coordinated omission: a server that stops for a while has the percentiles that arithmetic says.
//!
//! With a stall of S seconds in a run of T, arrivals that are planned within it wait until its end, so the quantile q
//! of response time is S - (1 - q) T as long as (1 - q) T < S.

use std::net::TcpStream;
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

use crate::support::{Request, Scratch, assert_balanced, number, respond, serve, summary};

const STALL: Duration = Duration::from_millis(400);
const RUN_S: f64 = 4.0;

#[test]
fn a_stall_shows_in_the_percentiles_in_closed_form() {
    let first: OnceLock<Instant> = OnceLock::new();
    let (address, _) = serve(move |_: &Request, stream: &mut TcpStream| {
        let begin = *first.get_or_init(Instant::now) + Duration::from_millis(1500);
        let now = Instant::now();
        if now >= begin && now < begin + STALL {
            // The whole server stands still: every connection answers when the stall is over.
            thread::sleep(begin + STALL - now);
        }
        respond(stream, 200, "", "fine")
    });
    let out = Scratch::new();
    let url = format!("http://{address}/");
    let (summary, _) = summary(&out, &["run", &url, "--rate", "500", "--duration", "4", "--connections", "16"]);
    assert_eq!(assert_balanced(&summary), 2000, "arrivals depend on the clock only");
    assert_eq!(number(&summary, "/completed"), 2000);
    for (pointer, quantile) in [("/response_ns/p99", 0.99), ("/response_ns/p999", 0.999)] {
        let expected_s = STALL.as_secs_f64() - (1.0 - quantile) * RUN_S;
        let found_s = number(&summary, pointer) as f64 / 1e9;
        assert!((found_s / expected_s - 1.0).abs() < 0.1, "{pointer}: {found_s} s, and arithmetic says {expected_s} s");
    }
    // The stall covers just the highest tenth: below it, times are those of a healthy server.
    assert!(number(&summary, "/response_ns/p50") < 50_000_000);
    // What was on the wire when it stopped is all that service time shows: omission, had it been the headline.
    let parts = std::fs::read_to_string(out.path().join("latency-parts.hlog")).unwrap();
    assert!(parts.contains("Tag=service,"));
    assert!(number(&summary, "/service_ns/p90") < 50_000_000);
    assert!(number(&summary, "/client_queue_ns/p99") > 200_000_000, "the rest waited for a connection");
}
