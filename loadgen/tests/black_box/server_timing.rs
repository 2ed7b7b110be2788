//! What the server says of its parts, and what the slow requests are made of.

use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use crate::support::{Request, Scratch, assert_balanced, number, respond, serve, summary};

#[test]
fn the_slow_requests_are_made_of_what_the_server_says() {
    let (address, _) = serve(|request: &Request, stream: &mut TcpStream| {
        let slow = request.number % 20 == 19;
        if slow {
            // Storage plays slowness.
            thread::sleep(Duration::from_millis(200));
        }
        let storage_ms = if slow { 200.0 } else { 0.1 };
        let field = format!("Server-Timing: queue;dur=0.02, storage;dur={storage_ms}\r\nserver-timing: cache\r\n");
        respond(stream, 200, &field, "fine")
    });
    let out = Scratch::new();
    let url = format!("http://{address}/");
    let arguments =
        ["run", &url, "--rate", "200", "--duration", "2", "--warmup", "0.2", "--connections", "32", "--server-timing"];
    let (summary, _) = summary(&out, &arguments);
    assert_eq!(assert_balanced(&summary), 400);
    let tiers = &summary["service_by_tier_ns"];
    assert_eq!((number(tiers, "/queue/count"), number(tiers, "/storage/count")), (400, 400), "{tiers}");
    assert_eq!(number(tiers, "/queue/p50"), 20_000 + 15, "the highest value of its bucket");
    assert!(number(tiers, "/storage/max") >= 200_000_000 && tiers.get("cache").is_none(), "{tiers}");
    let slow = &summary["slow"];
    let (requests, response_ns) = (number(slow, "/requests"), number(slow, "/response_ns"));
    assert!((4..=30).contains(&requests) && response_ns >= 200_000_000, "{slow}");
    let parts = slow["parts_ns"].as_object().unwrap();
    let sum: u64 = parts.values().map(|ns| ns.as_u64().unwrap()).sum();
    assert!(sum.abs_diff(response_ns) < 10, "the parts are the whole: {slow}");
    assert!(parts["storage"].as_u64().unwrap() > 100_000_000, "{slow}");
    let exemplars = summary["exemplars"].as_array().unwrap();
    assert_eq!(exemplars.len(), 20);
    assert!(exemplars[0]["response_ns"].as_u64() >= exemplars[19]["response_ns"].as_u64());
    assert_eq!(
        number(&exemplars[0], "/response_ns"),
        number(&exemplars[0], "/client_queue_ns")
            + number(&exemplars[0], "/generator_lag_ns")
            + number(&exemplars[0], "/service_ns")
    );
}
