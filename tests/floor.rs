//! The origin and the forwarder over real sockets.
#![cfg(feature = "appliance")]

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use twintier::engine::{Address, EngineChoice, Waker};
use twintier::floor::forward::{self, ForwardOptions};
use twintier::floor::origin::{self, OriginOptions};

const PATIENCE: Duration = Duration::from_secs(20);

/// A floor that runs in a thread until it is dropped, on a Unix socket: its address is known beforehand.
struct Floor {
    path: PathBuf,
    stop: Arc<AtomicBool>,
    waker: Waker,
    thread: Option<JoinHandle<()>>,
}

fn fresh_path() -> PathBuf {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    std::env::temp_dir().join(format!("twintier-floor-{}-{number}", std::process::id()))
}

impl Floor {
    fn run(body: impl FnOnce(Address, Arc<AtomicBool>, Waker) + Send + 'static) -> Self {
        let (path, stop, waker) = (fresh_path(), Arc::new(AtomicBool::new(false)), Waker::new().unwrap());
        let options = (Address::Unix(path.clone()), Arc::clone(&stop), waker.clone());
        let thread = Some(thread::spawn(move || body(options.0, options.1, options.2)));
        Self { path, stop, waker, thread }
    }

    fn origin(body_bytes: usize, delay_us: u64) -> Self {
        Self::run(move |listen, stop, waker| {
            origin::run(OriginOptions {
                listen,
                core: None,
                engine: EngineChoice::Auto,
                body_bytes,
                body_file: None,
                content_type: "text/plain".into(),
                fields: Vec::new(),
                delay_us,
                burn_ns: 0,
                stop,
                waker,
            })
            .unwrap();
        })
    }

    /// An origin that answers a file of `body`.
    fn page(body: &'static str, content_type: &'static str, field: &'static str) -> Self {
        Self::run(move |listen, stop, waker| {
            let file = fresh_path();
            std::fs::write(&file, body).unwrap();
            origin::run(OriginOptions {
                listen,
                core: None,
                engine: EngineChoice::Auto,
                body_bytes: 0,
                body_file: Some(file.clone()),
                content_type: content_type.into(),
                fields: vec![field.into()],
                delay_us: 0,
                burn_ns: 0,
                stop,
                waker,
            })
            .unwrap();
            std::fs::remove_file(file).unwrap();
        })
    }

    fn forward(to: &Path) -> Self {
        let to = Address::Unix(to.into());
        Self::run(move |listen, stop, waker| {
            forward::run(ForwardOptions { listen, to, core: None, engine: EngineChoice::Auto, stop, waker }).unwrap();
        })
    }

    fn connect(&self) -> UnixStream {
        let start = Instant::now();
        loop {
            match UnixStream::connect(&self.path) {
                Ok(stream) => {
                    stream.set_read_timeout(Some(PATIENCE)).unwrap();
                    stream.set_write_timeout(Some(PATIENCE)).unwrap();
                    return stream;
                }
                // It is just starting.
                Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => {
                    assert!(start.elapsed() < PATIENCE, "{error}");
                    thread::yield_now();
                }
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// Sends `request`, ends the input, and returns everything that comes back.
    fn ask(&self, request: &[u8]) -> String {
        let mut stream = self.connect();
        stream.write_all(request).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }
}

impl Drop for Floor {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        self.waker.wake();
        let ended = self.thread.take().unwrap().join();
        std::fs::remove_file(&self.path).ok();
        assert!(ended.is_ok() || thread::panicking());
    }
}

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: origin\r\n\r\n";
const ANSWER: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\ntwint";

#[test]
fn the_origin_answers_a_file_with_the_fields_it_is_given() {
    let origin = Floor::page("{\"a\":1}", "application/json", "Vary: cookie");
    let expected =
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nVary: cookie\r\nContent-Length: 7\r\n\r\n{\"a\":1}";
    assert_eq!(origin.ask(GET), expected);
}

#[test]
fn the_origin_refuses_what_it_cannot_answer() {
    let run = |body_file: Option<PathBuf>, field: &str| {
        origin::run(OriginOptions {
            listen: Address::Unix(fresh_path()),
            core: None,
            engine: EngineChoice::Auto,
            body_bytes: 1,
            body_file,
            content_type: "text/plain".into(),
            fields: vec![field.into()],
            delay_us: 0,
            burn_ns: 0,
            stop: Arc::new(AtomicBool::new(true)),
            waker: Waker::new().unwrap(),
        })
        .unwrap_err()
        .to_string()
    };
    assert!(run(Some(fresh_path()), "A: b").contains("name a file to answer with"));
    for field in ["no colon", ": b", "A: b\r\nC: d"] {
        assert!(run(None, field).contains("write it as"), "{field:?}");
    }
}

#[test]
fn the_origin_answers_pipelined_requests_in_order() {
    let origin = Floor::origin(5, 0);
    let post = [&b"POST / HTTP/1.1\r\nContent-Length: 10000\r\n\r\n"[..], &[b'x'; 10_000]].concat();
    let head = b"HEAD / HTTP/1.1\r\n\r\n";
    let answers = origin.ask(&[GET, &post, head, GET].concat());
    let headers = ANSWER.strip_suffix("twint").unwrap();
    assert_eq!(answers, [ANSWER, ANSWER, headers, ANSWER].concat());
}

#[test]
fn a_request_may_come_byte_by_byte() {
    let origin = Floor::origin(5, 0);
    let mut stream = origin.connect();
    for byte in [GET, b"POST / HTTP/1.1\r\nContent-Length: 2\r\n\r\nab"].concat() {
        stream.write_all(&[byte]).unwrap();
        thread::yield_now();
    }
    let mut answer = vec![0; 2 * ANSWER.len()];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(answer, [ANSWER, ANSWER].concat().as_bytes());
}

#[test]
fn the_origin_keeps_and_closes_connections_as_asked() {
    let origin = Floor::origin(0, 0);
    let mut stream = origin.connect();
    stream
        .write_all(
            b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\nGET / HTTP/1.1\r\nConnection: close\r\n\r\nGET / ignored",
        )
        .unwrap();
    let mut answers = String::new();
    stream.read_to_string(&mut answers).unwrap();
    assert_eq!(answers.matches("200 OK").count(), 2);
    assert!(
        answers.contains("Connection: keep-alive\r\n") && answers.ends_with("Connection: close\r\n\r\n"),
        "{answers}"
    );
}

#[test]
fn what_the_origin_cannot_delimit_it_refuses() {
    let origin = Floor::origin(5, 0);
    assert!(origin.ask(b"hello\r\n\r\n").starts_with("HTTP/1.1 400 "));
    assert!(origin.ask(b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n").starts_with("HTTP/1.1 411 "));
    let long = [&b"GET / HTTP/1.1\r\nCookie: "[..], &vec![b'c'; 100_000]].concat();
    assert!(origin.ask(&long).starts_with("HTTP/1.1 431 "));
}

#[test]
fn a_delayed_answer_takes_its_time_and_stays_in_order() {
    let origin = Floor::origin(5, 30_000);
    drop(origin.connect());
    let start = Instant::now();
    assert_eq!(origin.ask(&[GET, GET, GET].concat()), ANSWER.repeat(3));
    assert!(start.elapsed() >= Duration::from_millis(30));
}

#[test]
fn the_forwarder_moves_bytes_both_ways_and_both_ends() {
    let origin = Floor::origin(5, 0);
    drop(origin.connect());
    let forward = Floor::forward(&origin.path);
    for _ in 0..50 {
        assert_eq!(forward.ask(&GET.repeat(100)), ANSWER.repeat(100));
    }
}

#[test]
fn the_forwarder_holds_back_a_fast_sender() {
    const TOTAL: usize = 64 << 20;
    let path = fresh_path();
    let listener = UnixListener::bind(&path).unwrap();
    let forward = Floor::forward(&path);
    let mut downstream = forward.connect();
    let (mut upstream, _) = listener.accept().unwrap();
    let writer = thread::spawn(move || {
        let bytes: Vec<u8> = (0..=250).cycle().take(TOTAL).collect();
        downstream.write_all(&bytes).unwrap();
        downstream.shutdown(Shutdown::Write).unwrap();
        let mut answer = String::new();
        downstream.read_to_string(&mut answer).unwrap();
        assert_eq!(answer, "got it");
    });
    // Nobody reads: what is on the way is bounded, so the writer cannot finish.
    thread::sleep(Duration::from_millis(100));
    assert!(!writer.is_finished());
    let mut got = Vec::with_capacity(TOTAL);
    upstream.read_to_end(&mut got).unwrap();
    assert!(got.len() == TOTAL && got.chunks(251).all(|chunk| chunk.iter().copied().eq((0..=250).take(chunk.len()))));
    upstream.write_all(b"got it").unwrap();
    drop(upstream);
    writer.join().unwrap();
    std::fs::remove_file(path).unwrap();
}

#[test]
fn without_an_upstream_the_downstream_is_cut_off() {
    let forward = Floor::forward(&fresh_path());
    let mut stream = forward.connect();
    assert!(matches!(stream.read(&mut [0; 8]), Ok(0) | Err(_)));
}

/// The program itself: the last line is printed when it ends. Three answers that burn 2 ms each take 6 ms at least.
#[test]
fn the_origin_says_at_its_end_how_many_requests_it_answered() {
    let mut origin = Command::new(env!("CARGO_BIN_EXE_twintier"))
        .args(["origin", "--listen", "127.0.0.1:0", "--body-bytes", "5", "--burn-ns", "2000000"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(origin.stdout.take().unwrap()).lines();
    let ready = lines.next().unwrap().unwrap();
    let address = ready.split_whitespace().find_map(|word| word.strip_prefix("origin=")).unwrap();
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let begun = Instant::now();
    for _ in 0..3 {
        stream.write_all(GET).unwrap();
        let mut answer = vec![0; ANSWER.len()];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(answer, ANSWER.as_bytes());
    }
    assert!(begun.elapsed() >= Duration::from_millis(6), "{:?}", begun.elapsed());
    assert!(Command::new("kill").arg(origin.id().to_string()).status().unwrap().success());
    assert_eq!(lines.next().unwrap().unwrap(), "ended origin requests=3");
    assert!(origin.wait().unwrap().success());
}
