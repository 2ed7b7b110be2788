//! The server behind the proxy: writes down all that it receives, and answers as a vector's scripts say.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use super::PATIENCE;
use super::message::{self, Request};
use super::vector::Act;

/// How long [`Act::Quiet`] listens for a byte that must not come.
const QUIET: Duration = Duration::from_millis(25);
const USUAL: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const USUAL_TO_HEAD: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n";

/// What arrived.
#[derive(Clone, Debug)]
pub enum Seen {
    /// A whole request, and the number of its connection.
    Whole(usize, Box<Request>),
    /// The connection ended within a request.
    Partial(Vec<u8>),
    /// Bytes that are no request, or that came when none may.
    Nonsense(String),
}

#[derive(Default)]
struct State {
    seen: Vec<Seen>,
    scripts: Vec<Vec<Act>>,
    /// Requests of the vector so far.
    requests: usize,
    /// Connections that hold the beginning of a request.
    unfinished: usize,
}

/// A running server. Its threads end with the connections of the proxy.
pub struct Origin {
    pub address: SocketAddr,
    state: Arc<Mutex<State>>,
}

impl Origin {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(Mutex::new(State::default()));
        let serving = Arc::clone(&state);
        thread::spawn(move || {
            for (number, stream) in listener.incoming().enumerate() {
                let Ok(stream) = stream else { return };
                let state = Arc::clone(&serving);
                thread::spawn(move || Serving { state, stream, number, input: Vec::new(), early: false }.run());
            }
        });
        Self { address, state }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets what was seen and takes the scripts of the next vector.
    pub fn begin(&self, scripts: &[Vec<Act>]) {
        let mut state = self.lock();
        state.seen.clear();
        state.scripts = scripts.to_vec();
        state.requests = 0;
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.lock().seen.clone()
    }

    /// Whether a connection holds the beginning of a request.
    pub fn is_unfinished(&self) -> bool {
        self.lock().unfinished > 0
    }
}

/// One connection of the proxy.
struct Serving {
    state: Arc<Mutex<State>>,
    stream: TcpStream,
    number: usize,
    input: Vec<u8>,
    /// The request whose body is still coming has its answer already.
    early: bool,
}

impl Serving {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(mut self) {
        self.stream.set_nodelay(true).unwrap();
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let read = self.stream.read(&mut buffer).unwrap_or(0);
            if read == 0 {
                if !self.input.is_empty() {
                    let bytes = std::mem::take(&mut self.input);
                    let mut state = self.lock();
                    state.unfinished -= 1;
                    state.seen.push(Seen::Partial(bytes));
                }
                return;
            }
            if self.input.is_empty() {
                self.lock().unfinished += 1;
            }
            self.input.extend_from_slice(&buffer[..read]);
            let goes_on = self.take_requests();
            if !goes_on || self.input.is_empty() {
                self.lock().unfinished -= 1;
            }
            if !goes_on {
                return;
            }
        }
    }

    /// Answers every request that is whole; false when the connection is done with.
    fn take_requests(&mut self) -> bool {
        while !self.input.is_empty() {
            match message::request(&self.input) {
                Ok(Some((request, taken))) => {
                    self.input.drain(..taken);
                    let answered = std::mem::take(&mut self.early);
                    let to_head = request.method == "HEAD";
                    let probe = request.target.starts_with("/probe");
                    self.lock().seen.push(Seen::Whole(self.number, Box::new(request)));
                    if !answered && !self.answer(probe, to_head) {
                        return false;
                    }
                }
                Ok(None) => {
                    if !self.early && self.is_answered_early() {
                        self.early = true;
                        return self.answer(false, false);
                    }
                    return true;
                }
                Err(why) => {
                    self.lock().seen.push(Seen::Nonsense(why));
                    let _ = self.stream.shutdown(Shutdown::Both);
                    return false;
                }
            }
        }
        true
    }

    fn is_answered_early(&self) -> bool {
        let state = self.lock();
        let script = state.scripts.get(state.requests.min(state.scripts.len().saturating_sub(1)));
        matches!(script.and_then(|script| script.first()), Some(Act::Early))
            && matches!(message::head(&self.input), Ok(Some(_)))
    }

    fn answer(&mut self, probe: bool, to_head: bool) -> bool {
        let script = {
            let mut state = self.lock();
            let at = state.requests.min(state.scripts.len().saturating_sub(1));
            let script = if probe { None } else { state.scripts.get(at).cloned() };
            state.requests += usize::from(!probe);
            script.unwrap_or_else(|| vec![Act::Usual])
        };
        for act in script {
            match act {
                Act::Send(bytes) => {
                    if self.stream.write_all(&bytes).is_err() {
                        return false;
                    }
                }
                Act::Usual => {
                    if self.stream.write_all(if to_head { USUAL_TO_HEAD } else { USUAL }).is_err() {
                        return false;
                    }
                }
                Act::Early => {}
                Act::Quiet => self.quiet(),
                Act::Echo => return self.echo(),
                Act::Close => {
                    let _ = self.stream.shutdown(Shutdown::Both);
                    return false;
                }
            }
        }
        true
    }

    /// A proof that nothing comes needs some time.
    fn quiet(&mut self) {
        let mut byte = [0; 64];
        self.stream.set_read_timeout(Some(QUIET)).unwrap();
        let read = if self.input.is_empty() { self.stream.read(&mut byte) } else { Ok(self.input.len()) };
        match read {
            Ok(0) => {}
            Ok(_) => self.lock().seen.push(Seen::Nonsense("bytes before the answer that they wait for".into())),
            Err(error) => assert!(matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "{error}"),
        }
        self.stream.set_read_timeout(None).unwrap();
    }

    fn echo(&mut self) -> bool {
        self.stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut bytes = std::mem::take(&mut self.input);
        let mut buffer = vec![0; 4096];
        loop {
            if self.stream.write_all(&bytes).is_err() {
                return false;
            }
            match self.stream.read(&mut buffer) {
                Ok(0) | Err(_) => {
                    let _ = self.stream.shutdown(Shutdown::Both);
                    return false;
                }
                Ok(read) => bytes = buffer[..read].to_vec(),
            }
        }
    }
}
