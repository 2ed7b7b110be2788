//! The few requests that the lab sends itself: the appliance's status, and one look at each system before it is
//! measured. Load comes from `loadgen`.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::failure::Failure;

const DEADLINE: Duration = Duration::from_secs(10);
/// An answer of the admin interface or of the origin is far smaller.
const ANSWER_BYTES_MAX: usize = 16 * 1024 * 1024;

/// One answer, as received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    /// Status line and fields.
    pub head: String,
    pub body: Vec<u8>,
}

impl Answer {
    /// The first value of a field.
    pub fn field(&self, name: &str) -> Option<&str> {
        let fields = self.head.lines().skip(1).filter_map(|line| line.split_once(':'));
        fields.filter(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim()).next()
    }

    /// The names of the fields in small letters, sorted.
    pub fn field_names(&self) -> Vec<String> {
        let fields = self.head.lines().skip(1).filter_map(|line| line.split_once(':'));
        let mut names: Vec<String> = fields.map(|(name, _)| name.to_ascii_lowercase()).collect();
        names.sort();
        names
    }
}

/// Sends `count` GET requests one after the other over one connection, which the server must therefore keep alive.
///
/// # Errors
/// The server cannot be reached, closes early, or answers without a `Content-Length`.
pub fn get_repeatedly(address: &str, path: &str, count: usize) -> Result<Vec<Answer>, Failure> {
    ask_repeatedly("GET", address, path, count)
}

/// Sends one POST request without a body.
///
/// # Errors
/// As [`get_repeatedly`], or another status than 200.
pub fn post(address: &str, path: &str) -> Result<Answer, Failure> {
    let answer = ask_repeatedly("POST", address, path, 1)?.remove(0);
    if answer.status == 200 {
        Ok(answer)
    } else {
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        Err(Failure::Failed(format!("POST http://{address}{path}: status {}: {}", answer.status, text.trim())))
    }
}

fn ask_repeatedly(method: &str, address: &str, path: &str, count: usize) -> Result<Vec<Answer>, Failure> {
    let length = if method == "POST" { "Content-Length: 0\r\n" } else { "" };
    let mut connection = Connection::open(address)?;
    (0..count).map(|_| connection.ask(method, path, length, "")).collect()
}

/// A connection that is kept alive.
#[derive(Debug)]
pub struct Connection {
    address: String,
    stream: TcpStream,
    received: Vec<u8>,
}

impl Connection {
    /// # Errors
    /// The server cannot be reached.
    pub fn open(address: &str) -> Result<Self, Failure> {
        let wrong = |error| Failure::Failed(format!("http://{address}: no connection: {error}"));
        let socket_address = address.parse().map_err(|_| Failure::Failed(format!("{address} is no address")))?;
        let stream = TcpStream::connect_timeout(&socket_address, DEADLINE).map_err(wrong)?;
        stream.set_read_timeout(Some(DEADLINE)).map_err(wrong)?;
        stream.set_nodelay(true).map_err(wrong)?;
        Ok(Self { address: address.to_owned(), stream, received: Vec::new() })
    }

    /// Sends one request with these fields, each of which ends in `\r\n`, and reads its answer.
    ///
    /// # Errors
    /// The server closes early, or answers without a `Content-Length`.
    pub fn ask(&mut self, method: &str, path: &str, fields: &str, body: &str) -> Result<Answer, Failure> {
        let address = &self.address;
        let wrong = |what: String| Failure::Failed(format!("http://{address}{path}: {what}"));
        let request = format!("{method} {path} HTTP/1.1\r\nHost: {address}\r\n{fields}\r\n{body}");
        self.stream.write_all(request.as_bytes()).map_err(|error| wrong(format!("not sent: {error}")))?;
        loop {
            if let Some((answer, used)) = take_answer(&self.received).map_err(wrong)? {
                self.received.drain(..used);
                return Ok(answer);
            }
            let mut part = [0; 16 * 1024];
            let length = self.stream.read(&mut part).map_err(|error| wrong(format!("no answer: {error}")))?;
            if length == 0 || self.received.len() > ANSWER_BYTES_MAX {
                return Err(wrong("the answer ended early or never ended".to_owned()));
            }
            self.received.extend_from_slice(&part[..length]);
        }
    }
}

/// The JSON document at a path of the admin interface.
///
/// # Errors
/// As [`get_repeatedly`], another status than 200, or no JSON.
pub fn get_json(address: &str, path: &str) -> Result<serde_json::Value, Failure> {
    let answer = get_repeatedly(address, path, 1)?.remove(0);
    if answer.status != 200 {
        return Err(Failure::Failed(format!("http://{address}{path}: status {}", answer.status)));
    }
    serde_json::from_slice(&answer.body)
        .map_err(|error| Failure::Failed(format!("http://{address}{path}: no JSON: {error}")))
}

/// The first complete answer and its length; `None` while bytes are missing.
fn take_answer(bytes: &[u8]) -> Result<Option<(Answer, usize)>, String> {
    let Some(head_end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else { return Ok(None) };
    let head = String::from_utf8_lossy(&bytes[..head_end]).into_owned();
    let status =
        head.split(' ').nth(1).and_then(|word| word.parse().ok()).ok_or_else(|| format!("no status in `{head}`"))?;
    let mut answer = Answer { status, head, body: Vec::new() };
    let length: usize = answer
        .field("content-length")
        .and_then(|value| value.parse().ok())
        .ok_or("the answer has no Content-Length")?;
    let end = length.checked_add(head_end + 4).ok_or("the answer's Content-Length is absurd")?;
    Ok((bytes.len() >= end).then(|| {
        answer.body = bytes[head_end + 4..end].to_vec();
        (answer, end)
    }))
}

#[cfg(test)]
mod tests {
    use super::take_answer;

    #[test]
    fn answers_are_cut_by_their_length() {
        let bytes = b"HTTP/1.1 200 OK\r\nServer: x\r\nContent-Length: 3\r\n\r\nabcHTTP/1.1";
        let (answer, used) = take_answer(bytes).unwrap().unwrap();
        assert_eq!((answer.status, answer.body.as_slice(), used), (200, &b"abc"[..], bytes.len() - 8));
        assert_eq!(answer.field_names(), ["content-length", "server"]);
        assert_eq!(take_answer(&bytes[..20]).unwrap(), None);
        assert_eq!(take_answer(&bytes[..used - 1]).unwrap(), None);
        assert!(take_answer(b"HTTP/1.1 200 OK\r\n\r\n").is_err());
    }
}
