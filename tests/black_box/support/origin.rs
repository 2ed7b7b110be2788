//! A server to stand behind the appliance: back-end of agents, upstream of proxy statements.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

/// A request as the server received it.
#[derive(Clone, Debug)]
pub struct Asked {
    pub method: String,
    pub path: String,
    pub headers: Vec<(String, String)>,
    /// Without the chunked coding.
    pub body: Vec<u8>,
    /// The number of its connection, from 0.
    pub connection: usize,
}

impl Asked {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }
}

/// What the server sends back: whole bytes, head included.
#[derive(Clone, Debug)]
pub struct Said {
    pub bytes: Vec<u8>,
    /// Close the connection afterwards.
    pub close: bool,
}

impl Said {
    pub fn ok(body: impl AsRef<[u8]>) -> Self {
        let body = body.as_ref();
        let mut bytes =
            format!("HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: {}\r\n\r\n", body.len())
                .into_bytes();
        bytes.extend_from_slice(body);
        Self { bytes, close: false }
    }

    pub fn chunked<'c>(chunks: impl IntoIterator<Item = &'c [u8]>) -> Self {
        let mut bytes = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
        for chunk in chunks {
            bytes.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
            bytes.extend_from_slice(chunk);
            bytes.extend_from_slice(b"\r\n");
        }
        bytes.extend_from_slice(b"0\r\n\r\n");
        Self { bytes, close: false }
    }

    /// These bytes, and then the end of the connection.
    pub fn last(bytes: impl AsRef<[u8]>) -> Self {
        Self { bytes: bytes.as_ref().to_vec(), close: true }
    }
}

trait Stream: Read + Write + Send {
    fn twin(&self) -> Box<dyn Stream>;
    fn end(&self);
}

impl Stream for TcpStream {
    fn twin(&self) -> Box<dyn Stream> {
        Box::new(self.try_clone().unwrap())
    }

    fn end(&self) {
        // The peer may have closed already.
        let _ = self.shutdown(Shutdown::Both);
    }
}

impl Stream for UnixStream {
    fn twin(&self) -> Box<dyn Stream> {
        Box::new(self.try_clone().unwrap())
    }

    fn end(&self) {
        let _ = self.shutdown(Shutdown::Both);
    }
}

type Handler = dyn Fn(&Asked) -> Said + Send + Sync;

struct Shared {
    handler: Box<Handler>,
    stop: AtomicBool,
    asked: Mutex<Vec<Asked>>,
    streams: Mutex<Vec<Box<dyn Stream>>>,
}

/// A running server; it stops when it is dropped.
pub struct Origin {
    /// As a profile writes it.
    pub address: String,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Origin {
    /// On a port that the kernel chooses.
    pub fn tcp(handler: impl Fn(&Asked) -> Said + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        Self::run(address, handler, move || Box::new(listener.accept().unwrap().0))
    }

    /// On a Unix socket, which can be down and come up later at the same address.
    pub fn unix(path: &Path, handler: impl Fn(&Asked) -> Said + Send + Sync + 'static) -> Self {
        let listener = UnixListener::bind(path).unwrap();
        Self::run(format!("unix:{}", path.display()), handler, move || Box::new(listener.accept().unwrap().0))
    }

    fn run(
        address: String,
        handler: impl Fn(&Asked) -> Said + Send + Sync + 'static,
        accept: impl Fn() -> Box<dyn Stream> + Send + 'static,
    ) -> Self {
        let shared = Arc::new(Shared {
            handler: Box::new(handler),
            stop: AtomicBool::new(false),
            asked: Mutex::default(),
            streams: Mutex::default(),
        });
        let serving = Arc::clone(&shared);
        let thread = thread::spawn(move || {
            for connection in 0.. {
                let stream = accept();
                if serving.stop.load(Ordering::Acquire) {
                    return;
                }
                serving.streams.lock().unwrap_or_else(PoisonError::into_inner).push(stream.twin());
                let serving = Arc::clone(&serving);
                thread::spawn(move || serve(&serving, stream, connection));
            }
        });
        Self { address, shared, thread: Some(thread) }
    }

    /// All requests so far, in the order of their arrival.
    pub fn asked(&self) -> Vec<Asked> {
        self.shared.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        // The thread waits in accept: one more connection wakes it. The folder of a Unix socket may be gone already,
        // and then the thread ends with the test's process.
        let woken = match self.address.strip_prefix("unix:") {
            Some(path) => UnixStream::connect(path).is_ok(),
            None => TcpStream::connect(&self.address).is_ok(),
        };
        for stream in &*self.shared.streams.lock().unwrap_or_else(PoisonError::into_inner) {
            stream.end();
        }
        if let Some(thread) = self.thread.take().filter(|_| woken) {
            let _ = thread.join();
        }
        if let Some(path) = self.address.strip_prefix("unix:") {
            let _ = std::fs::remove_file(path);
        }
    }
}

fn serve(shared: &Shared, stream: Box<dyn Stream>, connection: usize) {
    let mut out = stream.twin();
    let mut input = BufReader::new(stream);
    while let Some(asked) = read_request(&mut input, connection) {
        shared.asked.lock().unwrap_or_else(PoisonError::into_inner).push(asked.clone());
        let said = (shared.handler)(&asked);
        if out.write_all(&said.bytes).is_err() || said.close {
            break;
        }
    }
    out.end();
}

fn line(input: &mut impl BufRead) -> Option<String> {
    let mut line = String::new();
    input.read_line(&mut line).ok()?;
    line.strip_suffix("\r\n").map(str::to_owned)
}

fn read_request(input: &mut impl BufRead, connection: usize) -> Option<Asked> {
    let first = line(input)?;
    let mut words = first.split(' ');
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut headers = Vec::new();
    loop {
        let field = line(input)?;
        if field.is_empty() {
            break;
        }
        let (name, value) = field.split_once(':')?;
        headers.push((name.to_owned(), value.trim().to_owned()));
    }
    let mut asked = Asked { method, path, headers, body: Vec::new(), connection };
    if asked.header("transfer-encoding").is_some() {
        loop {
            let size = u64::from_str_radix(line(input)?.split(';').next()?, 16).ok()?;
            input.take(size).read_to_end(&mut asked.body).ok()?;
            line(input)?;
            if size == 0 {
                break;
            }
        }
    } else if let Some(length) = asked.header("content-length") {
        let length = length.parse().ok()?;
        input.take(length).read_to_end(&mut asked.body).ok()?;
    }
    Some(asked)
}
