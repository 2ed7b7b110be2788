//! Servers that a test scripts on std sockets, and the generator as a black box.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

/// What a scripted server does with a request: answers go to the stream; `false` closes the connection.
pub trait Script: Send + Sync + 'static {
    fn answer(&self, request: &Request, stream: &mut TcpStream) -> bool;
}

impl<F: Fn(&Request, &mut TcpStream) -> bool + Send + Sync + 'static> Script for F {
    fn answer(&self, request: &Request, stream: &mut TcpStream) -> bool {
        self(request, stream)
    }
}

/// A request as a test wants to see it.
#[derive(Debug)]
pub struct Request {
    /// Counts all requests of the server from 0.
    pub number: u64,
    pub method: String,
    pub path: String,
    /// In lower case, with values.
    pub fields: Vec<(String, String)>,
    pub body: String,
}

impl Request {
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// Starts a server on a port of the kernel's choice; its address, and the count of requests so far. Its threads end
/// with the test process.
pub fn serve(script: impl Script) -> (String, Arc<AtomicU64>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (script, count) = (Arc::new(script), Arc::new(AtomicU64::new(0)));
    let counted = Arc::clone(&count);
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let (script, count) = (Arc::clone(&script), Arc::clone(&counted));
            thread::spawn(move || converse(stream, &*script, &count));
        }
    });
    (address, count)
}

fn converse(mut stream: TcpStream, script: &impl Script, count: &AtomicU64) {
    stream.set_nodelay(true).unwrap();
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    while let Some(mut request) = read_request(&mut reader) {
        request.number = count.fetch_add(1, Ordering::Relaxed);
        if !script.answer(&request, &mut stream) {
            return;
        }
    }
}

fn read_request(reader: &mut impl BufRead) -> Option<Request> {
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|length| *length > 0)?;
    let mut words = line.split_ascii_whitespace().map(str::to_owned);
    let (method, path) = (words.next()?, words.next()?);
    let mut fields = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.split_once(':') else { break };
        fields.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let mut request = Request { number: 0, method, path, fields, body: String::new() };
    let length = request.field("content-length").map_or(0, |text| text.parse().unwrap());
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    request.body = String::from_utf8(body).unwrap();
    Some(request)
}

/// Writes a whole response; `fields` end with CRLF each. A peer that has gone is no concern of the server's.
pub fn respond(stream: &mut TcpStream, status: u16, fields: &str, body: &str) -> bool {
    let text = format!("HTTP/1.1 {status} X\r\n{fields}Content-Length: {}\r\n\r\n{body}", body.len());
    stream.write_all(text.as_bytes()).is_ok()
}

/// A directory that is new for each call and removed with the value.
pub struct Scratch(PathBuf);

impl Scratch {
    pub fn new() -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let name = format!("loadgen-test-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    pub fn join(&self, name: &str) -> String {
        self.0.join(name).display().to_string()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// One generator at a time: two would be each other's noise.
static ALONE: Mutex<()> = Mutex::new(());

/// Runs the generator to its end.
pub fn loadgen(arguments: &[&str]) -> Output {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    Command::new(env!("CARGO_BIN_EXE_loadgen")).args(arguments).output().unwrap()
}

/// Runs the generator with `--out` and returns its summary and exit code.
pub fn summary(out: &Scratch, arguments: &[&str]) -> (serde_json::Value, i32) {
    let directory = out.path().display().to_string();
    let mut all = arguments.to_vec();
    all.extend(["--out", &directory, "--quiet"]);
    let output = loadgen(&all);
    let text = std::fs::read_to_string(out.path().join("summary.json")).unwrap_or_else(|error| {
        panic!("{error}: {}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
    });
    (serde_json::from_str(&text).unwrap(), output.status.code().unwrap())
}

/// A number of the summary by JSON pointer; 0 where there is none.
pub fn number(summary: &serde_json::Value, pointer: &str) -> u64 {
    summary.pointer(pointer).and_then(serde_json::Value::as_u64).unwrap_or(0)
}

/// Asserts the accounting identity and returns what was planned.
pub fn assert_balanced(summary: &serde_json::Value) -> u64 {
    let terms = ["/completed", "/errors", "/timed_out", "/shed", "/in_flight_at_end"].map(|term| number(summary, term));
    let planned = number(summary, "/planned");
    assert_eq!(
        planned,
        terms.iter().sum::<u64>(),
        "planned = completed + errors + timed out + shed + in flight: {terms:?}"
    );
    let failures = number(summary, "/errors") + number(summary, "/timed_out") + number(summary, "/shed");
    let by_kind: u64 =
        summary["errors_by_kind"].as_object().unwrap().values().map(|count| count.as_u64().unwrap()).sum();
    assert_eq!(failures, by_kind, "{}", summary["errors_by_kind"]);
    assert_eq!(number(summary, "/response_ns/count"), number(summary, "/completed") + number(summary, "/censored"));
    assert_eq!(number(summary, "/censored"), number(summary, "/timed_out") + number(summary, "/in_flight_at_end"));
    planned
}
