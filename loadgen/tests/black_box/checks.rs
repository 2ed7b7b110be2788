//! A response that is complete and wrong is an error, counted under what it lacked.

use std::io::Write;
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use crate::support::{Request, Scratch, assert_balanced, loadgen, number, respond, serve, summary};

/// `printf 'all is fine' | sha256sum`
const DIGEST: &str = "89e301c621981090acf5a30ccdf5ad3181b35c7b5f9bb17293cc783703f70d1b";

#[test]
fn each_unmet_check_is_an_error_of_its_own() {
    let (address, _) = serve(|request: &Request, stream: &mut TcpStream| match request.number % 5 {
        0 => respond(stream, 200, "", "all is fine"),
        1 => respond(stream, 200, "X-Kind: plain\r\n", "all is fin"),
        2 => respond(stream, 200, "X-Kind: plain\r\n", "all if fine"),
        3 => respond(stream, 503, "", "not an unmet check"),
        _ => {
            // The text lies across two reads.
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nx-kind: plain\r\nContent-Length: 11\r\n\r\nall i");
            thread::sleep(Duration::from_millis(5));
            stream.write_all(b"s fine").is_ok()
        }
    });
    let out = Scratch::new();
    let url = format!("http://{address}/");
    let checks = ["--expect-header", "X-Kind: plain", "--expect-body-bytes", "11", "--expect-body", "is fine"];
    let mut arguments = vec!["run", &url, "--rate", "200", "--duration", "1", "--connections", "4"];
    arguments.extend(checks);
    let (summary, _) = summary(&out, &arguments);
    assert_eq!(assert_balanced(&summary), 200);
    let failed = &summary["checks"]["failed"];
    let counts = [("header X-Kind: plain", 40), ("body bytes 11", 40), ("body text is fine", 40)];
    for (name, count) in counts {
        assert_eq!(failed[name].as_u64(), Some(count), "{name}: {failed}");
    }
    assert_eq!((number(&summary, "/checks/responses"), number(&summary, "/completed")), (160, 40));
    let kinds = &summary["errors_by_kind"];
    assert_eq!((number(kinds, "/validation"), number(kinds, "/status")), (120, 40), "{kinds}");
    assert_eq!(number(&summary, "/failed_ns/count"), 160, "errors flatter no percentile");
    assert_eq!(number(&summary, "/response_ns/count"), 40);
}

#[test]
fn a_digest_is_checked_for_every_response_or_for_one_in_some() {
    // The third response is wrong, and no other.
    let (address, _) = serve(|request: &Request, stream: &mut TcpStream| {
        respond(stream, 200, "", if request.number == 3 { "all if fine" } else { "all is fine" })
    });
    let url = format!("http://{address}/");
    let run = |every: &str| {
        let out = Scratch::new();
        let arguments = ["run", &url, "--rate", "100", "--duration", "0.5", "--connections", "1"];
        summary(&out, &[&arguments[..], &["--expect-sha256", DIGEST, "--check-every", every]].concat()).0
    };
    let all = run("1");
    assert_eq!((number(&all, "/checks/responses"), number(&all, "/errors_by_kind/validation")), (50, 1));
    assert_eq!(all["checks"]["failed"][format!("body sha256 {DIGEST}")], 1);
    let some = run("7");
    assert_eq!((number(&some, "/checks/responses"), number(&some, "/completed")), (8, 50), "the first, and each 7th");
}

#[test]
fn what_is_no_check_is_told_before_anything_is_sent() {
    let cases: [&[&str]; 5] = [
        &["--expect-header", ": value"],
        &["--expect-body", ""],
        &["--expect-sha256", "abc"],
        &["--expect-body-bytes", "many"],
        &["--expect-body", "a", "--check-every", "0"],
    ];
    for case in cases {
        let output = loadgen(&[&["run", "http://127.0.0.1:1/", "--closed"], case].concat());
        assert_eq!(output.status.code(), Some(2), "{case:?}: {}", String::from_utf8_lossy(&output.stderr));
        assert!(String::from_utf8_lossy(&output.stderr).contains(case[case.len() - 2]), "{case:?}");
    }
}
