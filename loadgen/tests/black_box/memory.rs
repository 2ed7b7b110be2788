//! Measures what the generator's resident memory does while requests go by. No test asserts on it: pages of histograms
//! are touched as values come, and how many is the machine's affair. That nothing is taken after the start is asserted
//! by `the_same_intervals_circulate_and_none_grows`.

use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::{Request, respond, serve};

/// Resident kilobytes of a process.
fn resident_kb(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_ascii_whitespace().nth(1).unwrap().parse().unwrap()
}

fn wait_until(count: &AtomicU64, wanted: u64) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while count.load(Ordering::Relaxed) < wanted {
        assert!(Instant::now() < deadline, "the server got {} of {wanted} requests", count.load(Ordering::Relaxed));
        thread::yield_now();
    }
}

#[test]
#[ignore = "a measurement: prints one line of JSON"]
fn resident_memory_over_twice_the_requests() {
    let (address, count) = serve(|_: &Request, stream: &mut TcpStream| respond(stream, 200, "", "fine"));
    let mut child = Command::new(env!("CARGO_BIN_EXE_loadgen"))
        .args(["run", &format!("http://{address}/"), "--closed", "--connections", "4", "--duration", "60", "--quiet"])
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    // Every interval buffer has been through its first use by then.
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(5) {
        thread::yield_now();
        thread::park_timeout(Duration::from_millis(50));
    }
    let (early_count, early_kb) = (count.load(Ordering::Relaxed), resident_kb(child.id()));
    wait_until(&count, early_count * 2);
    let late_kb = resident_kb(child.id());
    assert!(Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap().success());
    child.wait().unwrap();
    println!(
        r#"{{"requests":{early_count},"resident_kb":{early_kb},"requests_later":{},"resident_kb_later":{late_kb}}}"#,
        early_count * 2
    );
}
