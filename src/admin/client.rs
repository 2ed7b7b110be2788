//! A blocking HTTP client for the command line's questions to a running appliance, and for the probes of the claim.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use crate::engine::Address;
use crate::http1::body::BodyReader;
use crate::http1::head::{Method, ResponseHead};
use crate::http1::parse::{ParseLimits, Progress, parse_response};

/// Bytes of an answer at most.
const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;
const LIMITS: ParseLimits = ParseLimits { head_bytes_max: 64 * 1024, header_count_max: 200 };

/// An answer: status and body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

trait Stream: Read + Write {}
impl<T: Read + Write> Stream for T {}

/// Sends one request on a connection of its own and reads the whole answer.
///
/// # Errors
/// One sentence with the cure.
pub fn request(
    to: &Address,
    method: Method,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
    patience: Duration,
) -> Result<Answer, String> {
    let hint = "is the appliance running, and is this its address?";
    let mut stream: Box<dyn Stream> = match to {
        Address::Tcp(address) => {
            let stream =
                TcpStream::connect_timeout(address, patience).map_err(|error| format!("{to}: {error}; {hint}"))?;
            stream.set_read_timeout(Some(patience)).map_err(|error| error.to_string())?;
            Box::new(stream)
        }
        Address::Unix(path) => {
            let stream = UnixStream::connect(path).map_err(|error| format!("{to}: {error}; {hint}"))?;
            stream.set_read_timeout(Some(patience)).map_err(|error| error.to_string())?;
            Box::new(stream)
        }
    };
    let mut head = format!("{} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n", method.as_str());
    if !body.is_empty() || method == Method::Post {
        head.push_str(&format!("content-length: {}\r\n", body.len()));
    }
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("\r\n");
    let failed = |error: std::io::Error| match error.kind() {
        // What a read that waits no longer is called depends on the system.
        ErrorKind::WouldBlock | ErrorKind::TimedOut => {
            let s = patience.as_secs();
            format!("{to}: no answer within {s} s; the appliance is overloaded, hangs, or something else listens there")
        }
        _ => format!("{to}: {error}"),
    };
    stream.write_all(head.as_bytes()).map_err(failed)?;
    stream.write_all(body).map_err(failed)?;
    let mut bytes = Vec::new();
    stream.take(ANSWER_BYTES_MAX as u64).read_to_end(&mut bytes).map_err(failed)?;
    parse(&bytes, method).map_err(|wrong| format!("{to}: {wrong}"))
}

fn parse(bytes: &[u8], method: Method) -> Result<Answer, String> {
    let mut head = ResponseHead::default();
    match parse_response(bytes, method, &LIMITS, &mut head) {
        Ok(Progress::Complete) => {}
        Ok(Progress::Incomplete) => return Err("the answer broke off".into()),
        Err(reject) => return Err(format!("the answer is no HTTP: {}", reject.reason)),
    }
    let mut rest = &bytes[head.head_bytes..];
    let mut reader = BodyReader::new(head.framing, ANSWER_BYTES_MAX as u64);
    let mut body = Vec::new();
    while !reader.is_done() && !rest.is_empty() {
        let step = reader.read(rest).map_err(|reject| reject.reason.to_string())?;
        body.extend_from_slice(&rest[step.data]);
        rest = &rest[step.consumed..];
    }
    reader.end_of_input().map_err(|_| "the answer broke off".to_string())?;
    Ok(Answer { status: head.status, body })
}
