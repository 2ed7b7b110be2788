//! One connection to an HTTP server, close to the bytes. It shares no code with the server that it tests.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use super::PATIENCE;

/// A response.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// The message ended as its framing says; false if the connection broke off before.
    pub whole: bool,
}

impl Answer {
    /// The value of a field, which occurs once at most.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut found = self.headers.iter().filter(|(known, _)| known.eq_ignore_ascii_case(name));
        let value = found.next().map(|(_, value)| value.as_str());
        assert!(found.next().is_none(), "{name} occurs twice: {:?}", self.headers);
        value
    }

    pub fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }

    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("no JSON ({error}): {} {}", self.status, self.text()))
    }

    pub fn location(&self) -> &str {
        self.header("location").unwrap_or("")
    }

    /// Whether the server will close the connection after it.
    pub fn closes(&self) -> bool {
        self.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"))
    }
}

/// A connection.
pub struct Wire {
    stream: BufReader<TcpStream>,
}

impl Wire {
    #[track_caller]
    pub fn open(address: SocketAddr) -> Self {
        Self::open_with(address, PATIENCE)
    }

    /// To a server that may take longer.
    #[track_caller]
    pub fn open_with(address: SocketAddr, patience: Duration) -> Self {
        let stream = TcpStream::connect_timeout(&address, patience).unwrap();
        stream.set_read_timeout(Some(patience)).unwrap();
        stream.set_write_timeout(Some(patience)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream: BufReader::new(stream) }
    }

    #[track_caller]
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.get_mut().write_all(bytes.as_ref()).unwrap();
    }

    /// The same where the server may have closed already.
    pub fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.stream.get_mut().write_all(bytes.as_ref()).is_ok()
    }

    pub fn end_of_sending(&mut self) {
        self.stream.get_mut().shutdown(Shutdown::Write).unwrap();
    }

    /// A request without a body and its answer.
    #[track_caller]
    pub fn get(&mut self, path: &str) -> Answer {
        self.send(format!("GET {path} HTTP/1.1\r\nhost: test\r\n\r\n"));
        self.answer()
    }

    /// The next answer to a request that was not HEAD.
    #[track_caller]
    pub fn answer(&mut self) -> Answer {
        self.answer_to("GET").expect("the connection ended without an answer")
    }

    /// The next answer, interim ones included; `None` if the connection ended before its first byte.
    #[track_caller]
    pub fn answer_to(&mut self, method: &str) -> Option<Answer> {
        let mut line = String::new();
        if self.stream.read_line(&mut line).unwrap_or(0) == 0 {
            return None;
        }
        let mut parts = line.trim_end_matches("\r\n").splitn(3, ' ');
        let version = parts.next().unwrap();
        assert!(line.ends_with("\r\n") && version.starts_with("HTTP/1."), "no status line: {line:?}");
        let status = parts.next().unwrap().parse().unwrap();
        assert!(parts.next().is_some_and(|reason| !reason.is_empty()), "no reason: {line:?}");
        let mut headers = Vec::new();
        loop {
            let mut line = String::new();
            self.stream.read_line(&mut line).unwrap();
            let field = line.strip_suffix("\r\n").unwrap_or_else(|| panic!("a field without its end: {line:?}"));
            if field.is_empty() {
                break;
            }
            let (name, value) = field.split_once(':').unwrap_or_else(|| panic!("no field: {line:?}"));
            headers.push((name.to_owned(), value.trim().to_owned()));
        }
        let mut answer = Answer { status, headers, body: Vec::new(), whole: true };
        if method == "HEAD" || status < 200 || status == 204 || status == 304 {
            return Some(answer);
        }
        let chunked = answer.header("transfer-encoding").is_some_and(|coding| coding.eq_ignore_ascii_case("chunked"));
        let length: Option<u64> = answer.header("content-length").map(|length| length.parse().unwrap());
        assert!(!(chunked && length.is_some()), "two framings: {:?}", answer.headers);
        answer.whole = match (chunked, length) {
            (true, _) => self.chunks(&mut answer.body).is_some(),
            (false, Some(length)) => self.take(length, &mut answer.body),
            (false, None) => self.stream.read_to_end(&mut answer.body).is_ok(),
        };
        Some(answer)
    }

    fn take(&mut self, length: u64, into: &mut Vec<u8>) -> bool {
        let before = into.len() as u64;
        let read = (&mut self.stream).take(length).read_to_end(into);
        read.is_ok() && into.len() as u64 - before == length
    }

    /// `None` if the connection ended before the last chunk.
    fn chunks(&mut self, into: &mut Vec<u8>) -> Option<()> {
        loop {
            let mut line = String::new();
            self.stream.read_line(&mut line).ok()?;
            let size = u64::from_str_radix(line.strip_suffix("\r\n")?.split(';').next()?, 16).ok()?;
            if size == 0 {
                break;
            }
            let mut end = Vec::new();
            if !self.take(size, into) || !self.take(2, &mut end) || end != b"\r\n" {
                return None;
            }
        }
        // Trailer fields up to the empty line.
        loop {
            let mut line = String::new();
            self.stream.read_line(&mut line).ok()?;
            if line == "\r\n" {
                return Some(());
            }
            line.strip_suffix("\r\n")?;
        }
    }

    /// One line of whatever follows, without its end; `None` at the end of the connection.
    pub fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        let bytes = self.stream.read_line(&mut line).unwrap_or(0);
        (bytes > 0).then(|| line.trim_end_matches(['\r', '\n']).to_owned())
    }

    /// So many bytes of whatever follows.
    #[track_caller]
    pub fn bytes(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        self.stream.read_exact(&mut bytes).unwrap();
        bytes
    }

    /// Waits until the server has closed; a byte that comes instead is an error.
    #[track_caller]
    pub fn assert_closed(&mut self) {
        let mut rest = Vec::new();
        match self.stream.read_to_end(&mut rest) {
            Ok(_) => assert!(rest.is_empty(), "bytes before the end: {:?}", String::from_utf8_lossy(&rest)),
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{error}"),
        }
    }
}
