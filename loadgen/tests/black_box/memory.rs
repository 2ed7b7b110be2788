//! Memory does not grow with the number of requests.

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
fn resident_memory_is_flat() {
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
    assert!(late_kb <= early_kb + 1024, "{early_kb} kB after {early_count} requests, {late_kb} kB after twice as many");
}
