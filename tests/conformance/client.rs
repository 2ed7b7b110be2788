//! The client's end of one connection.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::thread;
use std::time::Duration;

use super::PATIENCE;
use super::message::{self, Response};

/// How what is sent is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    Whole,
    /// In two, behind so many bytes of all that the vector sends.
    At(usize),
    Bytes,
}

/// A connection to the proxy.
pub struct Client {
    stream: TcpStream,
    input: Vec<u8>,
    ended: bool,
    sent: usize,
}

impl Client {
    pub fn open(address: SocketAddr) -> Self {
        let stream = TcpStream::connect_timeout(&address, PATIENCE).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, input: Vec::new(), ended: false, sent: 0 }
    }

    /// The proxy may have refused and closed already: what it has said is read afterwards.
    pub fn send(&mut self, bytes: &[u8], cut: Cut) {
        let piece = match cut {
            Cut::Whole => bytes.len(),
            Cut::At(place) => place.saturating_sub(self.sent).clamp(1, bytes.len()),
            Cut::Bytes => 1,
        };
        let mut rest = bytes;
        let mut piece = piece;
        while !rest.is_empty() {
            let (now, later) = rest.split_at(piece.min(rest.len()));
            if self.stream.write_all(now).is_err() {
                break;
            }
            rest = later;
            if !rest.is_empty() {
                // Time for the proxy to take this piece before the next one joins it in the kernel.
                thread::sleep(Duration::from_micros(if cut == Cut::Bytes { 20 } else { 400 }));
            }
            if cut != Cut::Bytes {
                piece = rest.len();
            }
        }
        self.sent += bytes.len();
    }

    pub fn half_close(&mut self) {
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// False when the connection has ended.
    fn read(&mut self) -> Result<bool, String> {
        if self.ended {
            return Ok(false);
        }
        let mut buffer = [0; 16 * 1024];
        match self.stream.read(&mut buffer) {
            Ok(0) => self.ended = true,
            Ok(read) => self.input.extend_from_slice(&buffer[..read]),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                return Err(format!("hangs: nothing for {PATIENCE:?}"));
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => self.ended = true,
        }
        Ok(!self.ended)
    }

    /// The next response; `None` if the connection ended before its head was whole.
    pub fn answer(&mut self, to_head: bool) -> Result<Option<Response>, String> {
        loop {
            if let Some((response, taken)) = message::response(&self.input, to_head, self.ended)? {
                self.input.drain(..taken);
                return Ok(Some(response));
            }
            if !self.read()? && message::head(&self.input)?.is_none() {
                return Ok(None);
            }
        }
    }

    /// So many bytes, or fewer if the connection ends.
    pub fn raw(&mut self, count: usize) -> Result<Vec<u8>, String> {
        while self.input.len() < count && self.read()? {}
        let count = count.min(self.input.len());
        Ok(self.input.drain(..count).collect())
    }

    /// Waits for the end of the connection; bytes before it are an error.
    pub fn end(&mut self) -> Result<(), String> {
        while self.read()? {}
        if self.input.is_empty() {
            return Ok(());
        }
        Err(format!("bytes behind the last answer: {:?}", message::latin1(&self.input)))
    }
}
