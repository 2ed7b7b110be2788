//! Connections that are held beside a load, and connections that are given up by count.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{IpAddr, TcpListener};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use super::support::{Request, Scratch, assert_balanced, loadgen, number, respond, serve, summary};

/// With three requests a connection, every third one asks to close, whether the server says so in its answer or not.
#[test]
fn a_connection_is_given_up_after_its_last_request() {
    let closing = Arc::new(AtomicU64::new(0));
    let seen = Arc::clone(&closing);
    let (address, requests) = serve(move |request: &Request, stream: &mut std::net::TcpStream| {
        let close = request.field("connection") == Some("close");
        seen.fetch_add(u64::from(close), Ordering::Relaxed);
        respond(stream, 200, "", "x")
    });
    let (out, url) = (Scratch::new(), format!("http://{address}/"));
    let (summary, code) = summary(
        &out,
        &["run", &url, "--closed", "--connections", "2", "--duration", "0.5", "--connection-requests", "3"],
    );
    assert_eq!(code, 0, "{summary}");
    assert!(assert_balanced(&summary) > 0);
    let (all, closing) = (requests.load(Ordering::Relaxed), closing.load(Ordering::Relaxed));
    assert_eq!(number(&summary, "/errors"), 0, "{summary}");
    assert!(closing >= all / 3 - 2 && closing <= all / 3, "{closing} of {all} requests asked to close");
    let opened = number(&summary, "/connections_opened");
    assert!(opened >= closing && opened <= closing + 2, "{opened} connections for {closing} closes");
}

/// A server that keeps what it reads of each connection, and the addresses that they come from.
type Seen = Arc<Mutex<Vec<(IpAddr, Vec<u8>)>>>;

/// Answers each whole head; closes the connection with the number `closes` once its slow head has got a byte.
fn listen(closes: Option<usize>) -> (String, Seen) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let seen = Seen::default();
    let kept = Arc::clone(&seen);
    thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let index = {
                let mut all = kept.lock().unwrap();
                all.push((stream.peer_addr().unwrap().ip(), Vec::new()));
                all.len() - 1
            };
            let kept = Arc::clone(&kept);
            thread::spawn(move || {
                let mut bytes = [0; 1024];
                while let Ok(count) = stream.read(&mut bytes) {
                    kept.lock().unwrap()[index].1.extend_from_slice(&bytes[..count]);
                    if count == 0 || (closes == Some(index) && bytes[..count].ends_with(b"x")) {
                        return;
                    }
                    if bytes[..count].ends_with(b"\r\n\r\n") {
                        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx");
                    }
                }
            });
        }
    });
    (address, seen)
}

#[test]
fn idle_connections_ask_once_and_stay() {
    let (address, seen) = listen(None);
    let url = format!("http://{address}/idle");
    let output = loadgen(&["hold", &url, "--connections", "20", "--source-addresses", "4", "--duration", "0.3"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(text, "ready held=20\nended held=20 closed=0 reopened=0 refused=0\n");
    let seen = seen.lock().unwrap();
    let expected = format!("GET /idle HTTP/1.1\r\nHost: {address}\r\n\r\n");
    assert!(seen.iter().all(|(_, bytes)| bytes == expected.as_bytes()), "{seen:?}");
    let sources: BTreeSet<IpAddr> = seen.iter().map(|(source, _)| *source).collect();
    assert_eq!(sources.len(), 4, "{sources:?}");
}

#[test]
fn slow_heads_never_end_and_are_begun_again() {
    let (address, seen) = listen(Some(1));
    let url = format!("http://{address}/");
    let output = loadgen(&["hold", &url, "--connections", "3", "--drip-ms", "20", "--duration", "0.6"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(text, "ready held=3\nended held=3 closed=1 reopened=1 refused=0\n");
    let seen = seen.lock().unwrap();
    assert_eq!(seen.len(), 4, "three connections, and one again");
    for (index, (_, bytes)) in seen.iter().enumerate().filter(|(index, _)| *index != 1) {
        let text = String::from_utf8_lossy(bytes);
        assert!(!text.contains("\r\n\r\n") && text.contains("X-Slow: xx"), "connection {index}: {text}");
    }
}

#[test]
fn a_server_that_is_not_there_ends_it() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    drop(listener);
    let url = format!("http://{address}/");
    let output = loadgen(&["hold", &url, "--connections", "100", "--duration", "5"]);
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("connection 50 of 100") && text.contains(&address), "{text}");
}
