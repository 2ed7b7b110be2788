//! A small HTTP/1.1 client on glommio's sockets: agents post to back-end servers with it, and health checks can ask.
//!
//! One connection carries one request. Back-end servers see a few requests a second, each of which must be safe to
//! repeat; a connection of its own never fails because the server closed it while it was idle.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use futures_lite::{AsyncReadExt, AsyncWriteExt};
use glommio::GlommioError;
use glommio::net::{TcpStream, UnixStream};

use super::bridge::within;
use crate::http1::Method;
use crate::http1::body::BodyReader;
use crate::http1::encode;
use crate::http1::head::{Known, ResponseHead};
use crate::http1::parse::{HeadScan, ParseLimits, Progress, parse_response};

/// Bytes of one read.
const PIECE_BYTES: usize = 16 * 1024;
/// Interim answers (RFC 9110 section 15.2) before the answer itself.
const INTERIM_MAX: usize = 8;
/// The longest pause that `Retry-After` is believed.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(3600);

/// Where a back-end server listens: `127.0.0.1:9000`, `[::1]:9000` or `unix:/run/app.sock`. Names are resolved when
/// the profile is read, not while the thread runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.strip_prefix("unix:") {
            Some(path) if path.starts_with('/') => Ok(Self::Unix(path.into())),
            Some(path) => Err(format!("socket path {path:?} must be absolute, such as `unix:/run/app.sock`")),
            None => text
                .parse()
                .map(Self::Tcp)
                .map_err(|_| format!("{text:?} is no address such as `127.0.0.1:9000` or `unix:/run/app.sock`")),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(out),
            Self::Unix(path) => write!(out, "unix:{}", path.display()),
        }
    }
}

/// A back-end server of the profile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backend {
    pub name: Box<str>,
    pub address: Address,
    /// What `Host` says.
    pub host: Box<str>,
    /// Until the connection stands.
    pub connect_limit: Duration,
    /// From then until the first byte of the answer.
    pub first_byte_limit: Duration,
    /// All of it.
    pub total_limit: Duration,
    /// Bytes of an answer's body.
    pub body_bytes_max: usize,
}

impl Backend {
    /// The usual limits.
    pub fn new(name: &str, address: Address) -> Self {
        let host = match &address {
            Address::Tcp(address) => address.to_string(),
            Address::Unix(_) => "localhost".to_owned(),
        };
        Self {
            name: name.into(),
            address,
            host: host.into(),
            connect_limit: Duration::from_secs(1),
            first_byte_limit: Duration::from_secs(5),
            total_limit: Duration::from_secs(10),
            body_bytes_max: 64 * 1024,
        }
    }

    /// One request and its answer.
    ///
    /// # Errors
    /// [`Failure`]; whether the back-end server acted on the request is unknown unless the connection was refused.
    pub async fn call(&self, call: &Call<'_>) -> Result<Answer, Failure> {
        let request = self.encode(call)?;
        let exchange = async {
            let mut stream = match within(self.connect_limit, Stream::connect(&self.address)).await {
                Some(stream) => stream.map_err(Failure::Connect)?,
                None => return Err(Failure::ConnectTimeout(self.connect_limit)),
            };
            stream.write_all(&request).await.map_err(Failure::Broken)?;
            self.answer(&mut stream, call.method).await
        };
        within(self.total_limit, exchange).await.unwrap_or(Err(Failure::TotalTimeout(self.total_limit)))
    }

    fn encode(&self, call: &Call<'_>) -> Result<Vec<u8>, Failure> {
        let visible = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
        if !visible(call.path) || !call.path.starts_with('/') {
            return Err(Failure::CannotAsk(format!("path {:?} cannot stand in a request", call.path)));
        }
        let mut bytes = Vec::with_capacity(512 + call.body.len());
        let (path, query) = call.path.split_once('?').map_or((call.path, None), |(path, query)| (path, Some(query)));
        encode::request_line(&mut bytes, call.method.as_str().as_bytes(), path.as_bytes(), query.map(str::as_bytes));
        encode::header(&mut bytes, b"Host", self.host.as_bytes());
        encode::header(&mut bytes, b"User-Agent", b"twintier");
        encode::header(&mut bytes, b"Accept", b"application/json");
        encode::header(&mut bytes, b"Connection", b"close");
        for (name, value) in &call.headers {
            // RFC 9110 section 5.5: no control characters in a value. A key with others is a key all the same.
            if !value.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ') {
                return Err(Failure::CannotAsk(format!("{value:?} cannot stand in the header field {name}")));
            }
            encode::header(&mut bytes, name.as_bytes(), value.as_bytes());
        }
        if !call.body.is_empty() || call.method == Method::Post {
            let length = u64::try_from(call.body.len()).expect("invariant: lengths have at most 64 bits");
            encode::content_length(&mut bytes, length);
        }
        encode::end(&mut bytes);
        bytes.extend_from_slice(call.body);
        Ok(bytes)
    }

    async fn answer(&self, stream: &mut Stream, method: Method) -> Result<Answer, Failure> {
        let limits = ParseLimits::default();
        let mut piece = vec![0; PIECE_BYTES];
        let mut held = match within(self.first_byte_limit, stream.read(&mut piece)).await {
            Some(Ok(bytes)) => piece[..bytes].to_vec(),
            Some(Err(error)) => return Err(Failure::Broken(error)),
            None => return Err(Failure::FirstByteTimeout(self.first_byte_limit)),
        };
        let mut head = ResponseHead::default();
        let mut interim = 0;
        let mut scan = HeadScan::default();
        loop {
            if held.is_empty() && interim == 0 {
                return Err(Failure::Malformed("closed without an answer"));
            }
            if scan.is_worth_parsing(&held, &limits) {
                let parsed = parse_response(&held, method, &limits, &mut head);
                match parsed.map_err(|reject| Failure::Malformed(reject.reason))? {
                    Progress::Complete if !head.is_interim() => break,
                    Progress::Complete if interim == INTERIM_MAX => {
                        return Err(Failure::Malformed("too many interim answers"));
                    }
                    Progress::Complete => {
                        interim += 1;
                        held.drain(..head.head_bytes);
                        scan = HeadScan::default();
                        if !held.is_empty() {
                            continue;
                        }
                    }
                    Progress::Incomplete => {}
                }
            }
            let bytes = stream.read(&mut piece).await.map_err(Failure::Broken)?;
            if bytes == 0 {
                return Err(Failure::Malformed("closed within the head"));
            }
            held.extend_from_slice(&piece[..bytes]);
        }
        let retry_after = head.value(&held, Known::RetryAfter).and_then(retry_after);
        let body_bytes_max = u64::try_from(self.body_bytes_max).unwrap_or(u64::MAX);
        let mut reader = BodyReader::new(head.framing, body_bytes_max);
        let mut answer = Answer { status: head.status, retry_after, body: Vec::new() };
        held.drain(..head.head_bytes);
        self.take_body(&mut reader, &held, &mut answer.body)?;
        while !reader.is_done() {
            let bytes = stream.read(&mut piece).await.map_err(Failure::Broken)?;
            if bytes == 0 {
                reader.end_of_input().map_err(|reject| Failure::Malformed(reject.reason))?;
            } else {
                self.take_body(&mut reader, &piece[..bytes], &mut answer.body)?;
            }
        }
        Ok(answer)
    }

    /// Takes the payload out of a piece of the body.
    fn take_body(&self, reader: &mut BodyReader, piece: &[u8], body: &mut Vec<u8>) -> Result<(), Failure> {
        let refused = |reject: crate::http1::parse::Reject| match reject.status {
            413 => Failure::TooLarge(self.body_bytes_max),
            _ => Failure::Malformed(reject.reason),
        };
        reader.check().map_err(refused)?;
        let mut rest = piece;
        while !rest.is_empty() && !reader.is_done() {
            let step = reader.read(rest).map_err(refused)?;
            body.extend_from_slice(rest.get(step.data).unwrap_or(&[]));
            rest = rest.get(step.consumed..).unwrap_or(&[]);
        }
        Ok(())
    }
}

/// A request.
#[derive(Clone, Debug)]
pub struct Call<'a> {
    pub method: Method,
    /// Path and query.
    pub path: &'a str,
    pub headers: Vec<(&'a str, &'a str)>,
    pub body: &'a [u8],
}

impl<'a> Call<'a> {
    /// JSON with a key by which the server knows a repetition (draft-ietf-httpapi-idempotency-key-header).
    pub fn post_json(path: &'a str, idempotency_key: &'a str, body: &'a [u8]) -> Self {
        let headers = vec![("Content-Type", "application/json"), ("Idempotency-Key", idempotency_key)];
        Self { method: Method::Post, path, headers, body }
    }

    pub fn get(path: &'a str) -> Self {
        Self { method: Method::Get, path, headers: Vec::new(), body: &[] }
    }
}

/// An answer, read to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    /// The pause that the server asks for, if it says so in seconds (RFC 9110 section 10.2.3).
    pub retry_after: Option<Duration>,
    pub body: Vec<u8>,
}

/// Why there is no answer.
#[derive(Debug)]
pub enum Failure {
    /// The request cannot be written; it never will.
    CannotAsk(String),
    Connect(io::Error),
    ConnectTimeout(Duration),
    /// The connection broke while the request or the answer was under way.
    Broken(io::Error),
    FirstByteTimeout(Duration),
    TotalTimeout(Duration),
    /// No HTTP/1.1.
    Malformed(&'static str),
    /// The answer's body has more bytes than this.
    TooLarge(usize),
}

impl fmt::Display for Failure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CannotAsk(reason) => out.write_str(reason),
            Self::Connect(error) => write!(out, "cannot connect: {error}"),
            Self::ConnectTimeout(limit) => write!(out, "no connection within {limit:?}"),
            Self::Broken(error) => write!(out, "the connection broke: {error}"),
            Self::FirstByteTimeout(limit) => write!(out, "no answer within {limit:?}"),
            Self::TotalTimeout(limit) => write!(out, "no complete answer within {limit:?}"),
            Self::Malformed(reason) => write!(out, "malformed answer: {reason}"),
            Self::TooLarge(bytes) => write!(out, "the answer has more than {bytes} bytes"),
        }
    }
}

impl std::error::Error for Failure {}

fn retry_after(value: &[u8]) -> Option<Duration> {
    let seconds = std::str::from_utf8(value).ok()?.parse().ok()?;
    Some(Duration::from_secs(seconds).min(RETRY_AFTER_MAX))
}

enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Stream {
    async fn connect(address: &Address) -> io::Result<Self> {
        match address {
            Address::Tcp(address) => {
                let stream = TcpStream::connect(address).await.map_err(plain)?;
                stream.set_nodelay(true).map_err(plain)?;
                Ok(Self::Tcp(stream))
            }
            Address::Unix(path) => UnixStream::connect(path).await.map(Self::Unix).map_err(plain),
        }
    }

    async fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(buffer).await,
            Self::Unix(stream) => stream.read(buffer).await,
        }
    }

    async fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.write_all(bytes).await,
            Self::Unix(stream) => stream.write_all(bytes).await,
        }
    }
}

fn plain(error: GlommioError<()>) -> io::Error {
    error.into()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Address, retry_after};

    #[test]
    fn addresses_are_written_as_they_are_read() {
        for text in ["127.0.0.1:9000", "[::1]:80", "unix:/run/app.sock"] {
            assert_eq!(text.parse::<Address>().expect("an address").to_string(), text);
        }
        assert!("localhost".parse::<Address>().is_err());
        assert!("unix:app.sock".parse::<Address>().expect_err("relative").contains("absolute"));
    }

    #[test]
    fn only_seconds_are_believed_and_not_too_many() {
        assert_eq!(retry_after(b"3"), Some(Duration::from_secs(3)));
        assert_eq!(retry_after(b"999999999"), Some(Duration::from_secs(3600)));
        assert_eq!(retry_after(b"Thu, 01 Jan 1970 00:00:00 GMT"), None);
    }
}
