//! Sends generated requests through the proxy and keeps what comes out behind it, request by request.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use twintier::engine::sim::Random;

use super::program::{Program, twintier};
use super::{PATIENCE, generator, message};

/// What came out.
pub struct Capture {
    /// The bytes of each whole request that the server received.
    pub passed: Vec<Vec<u8>>,
    /// Requests that the proxy answered with an error of its own.
    pub refused: u64,
}

type Passed = Arc<Mutex<Vec<Vec<u8>>>>;

impl Capture {
    pub fn of(random: &mut Random, requests: u64) -> Self {
        let passed = Passed::default();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let to = listener.local_addr().unwrap().to_string();
        let keeping = Arc::clone(&passed);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (Ok(stream), passed) = (stream, Arc::clone(&keeping)) else { return };
                thread::spawn(move || keep(stream, &passed));
            }
        });
        let mut proxy = Program::start(twintier().args(["proxy", "--listen", "127.0.0.1:0", "--to", &to]));
        let address: SocketAddr = proxy.ready("proxy").parse().unwrap();
        let mut refused = 0;
        for _ in 0..requests {
            let bytes = generator::request(random);
            refused += u64::from(exchange(address, &bytes));
            assert!(proxy.is_running(), "the proxy has ended by {}: {}", bytes.escape_ascii(), proxy.stderr());
        }
        proxy.signal("TERM");
        assert_eq!(proxy.status().code(), Some(0), "{}", proxy.stderr());
        let passed = std::mem::take(&mut *passed.lock().unwrap_or_else(PoisonError::into_inner));
        Self { passed, refused }
    }
}

/// Sends one request and the end of sending; true if the first answer is an error.
fn exchange(address: SocketAddr, bytes: &[u8]) -> bool {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    // It may have been refused and closed before it was sent whole.
    let _ = stream.write_all(bytes);
    let _ = stream.shutdown(Shutdown::Write);
    let mut answer = Vec::new();
    match stream.read_to_end(&mut answer) {
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => {}
        Err(error) => panic!("the proxy hangs ({error}) with {}", bytes.escape_ascii()),
    }
    !answer.starts_with(b"HTTP/1.1 200")
}

/// A server that answers 200 to everything.
fn keep(mut stream: TcpStream, passed: &Mutex<Vec<Vec<u8>>>) {
    stream.set_read_timeout(Some(Duration::from_secs(600))).unwrap();
    let (mut input, mut buffer) = (Vec::new(), vec![0; 64 * 1024]);
    loop {
        while let Ok(Some((request, taken))) = message::request(&input) {
            passed.lock().unwrap_or_else(PoisonError::into_inner).push(input.drain(..taken).collect());
            let body: &[u8] = if request.method == "HEAD" { b"" } else { b"ok" };
            if stream.write_all(&[b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n", body].concat()).is_err() {
                return;
            }
        }
        // What is no request to our plain reader must not have been passed on.
        if let Err(wrong) = message::request(&input) {
            passed.lock().unwrap_or_else(PoisonError::into_inner).push(input.clone());
            return eprintln!("the server got no request: {wrong}");
        }
        match stream.read(&mut buffer) {
            Ok(0) | Err(_) => return,
            Ok(read) => input.extend_from_slice(&buffer[..read]),
        }
    }
}
