//! The generator's own HTTP/1.1 response reader (RFC 9112), fed with bytes as they arrive.
//!
//! Architecture invariant: it shares no line with the server's parser, so that a mistake in one shows in the other.
//! It is strict where a sender MUST: bare LF, folded lines, `Transfer-Encoding` beside `Content-Length`, and bytes
//! after the response are defects, because a harness that forgives them hides them.

use std::fmt;

/// The largest response head.
const HEAD_BYTES_MAX: usize = 65_536;
/// The longest chunk-size line and the longest trailer section.
const CHUNK_LINE_BYTES_MAX: u32 = 16_384;
/// Interim (1xx) responses before the final one.
const INTERIM_MAX: u8 = 8;

/// What is wrong with the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Defect(pub &'static str);

impl fmt::Display for Defect {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.0)
    }
}

/// Takes what the reader finds. The unit type ignores everything.
pub trait Sink {
    /// A field of the final response's head.
    fn header(&mut self, _name: &[u8], _value: &[u8]) {}
    /// Some bytes of the body, without its framing.
    fn body(&mut self, _bytes: &[u8]) {}
}

impl Sink for () {}

/// Reads one response after the other on a connection.
#[derive(Debug)]
pub struct ResponseReader {
    state: State,
    /// The start of a head that came in several pieces; its memory is kept for the next time.
    carry: Vec<u8>,
    to_head_request: bool,
    interim_count: u8,
    status: u16,
    keep_alive: bool,
    body_bytes: u64,
}

/// Where in a response the reader is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Before the end of the head.
    Head,
    /// Within a body of known length: bytes to come.
    Length(u64),
    /// Within a chunked body.
    Chunked(Chunk),
    /// Within a body that ends with the connection.
    UntilClose,
    /// The response is complete.
    Done,
}

/// Where in a chunked body the reader is (RFC 9112 section 7.1). Lines carry the bytes they have taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Chunk {
    Size { value: u64, digits: u8 },
    Extension { value: u64, taken: u32 },
    SizeLf { value: u64 },
    Data { left: u64 },
    DataCr,
    DataLf,
    TrailerStart { taken: u32 },
    Trailer { taken: u32 },
    TrailerLf { taken: u32 },
    EndLf,
}

impl ResponseReader {
    pub fn new() -> Self {
        Self {
            state: State::Done,
            carry: Vec::new(),
            to_head_request: false,
            interim_count: 0,
            status: 0,
            keep_alive: true,
            body_bytes: 0,
        }
    }

    /// A request was sent; `head` says whether its method was HEAD, whose response has no body.
    pub fn expect(&mut self, head: bool) {
        self.state = State::Head;
        self.carry.clear();
        self.to_head_request = head;
        self.interim_count = 0;
        self.status = 0;
        self.keep_alive = true;
        self.body_bytes = 0;
    }

    /// The status, once the head is complete.
    pub fn status(&self) -> Option<u16> {
        (self.status != 0).then_some(self.status)
    }

    /// Whether the connection may carry another request after this response.
    pub fn keep_alive(&self) -> bool {
        self.keep_alive
    }

    /// Bytes of the body so far, without its framing.
    pub fn body_bytes(&self) -> u64 {
        self.body_bytes
    }

    /// Takes the next bytes; `true` when the response is complete.
    ///
    /// # Errors
    /// The bytes are no response, or go on after its end.
    pub fn feed(&mut self, mut bytes: &[u8], sink: &mut impl Sink) -> Result<bool, Defect> {
        while !bytes.is_empty() {
            match self.state {
                State::Head => bytes = self.feed_head(bytes, sink)?,
                State::Length(left) => {
                    let taken = usize::try_from(left).map_or(bytes.len(), |left| left.min(bytes.len()));
                    self.take_body(&bytes[..taken], sink);
                    let left = left - taken as u64;
                    self.state = if left == 0 { State::Done } else { State::Length(left) };
                    bytes = &bytes[taken..];
                }
                State::Chunked(chunk) => bytes = self.feed_chunk(chunk, bytes, sink)?,
                State::UntilClose => {
                    self.take_body(bytes, sink);
                    bytes = &[];
                }
                State::Done => return Err(Defect("bytes after the end of the response")),
            }
        }
        Ok(self.state == State::Done)
    }

    /// The peer closed: `true` if that completes the response.
    pub fn eof(&mut self) -> bool {
        if self.state == State::UntilClose {
            self.state = State::Done;
        }
        self.state == State::Done
    }

    fn take_body(&mut self, bytes: &[u8], sink: &mut impl Sink) {
        self.body_bytes += bytes.len() as u64;
        sink.body(bytes);
    }

    /// Takes bytes of the head and returns those behind it.
    fn feed_head<'a>(&mut self, bytes: &'a [u8], sink: &mut impl Sink) -> Result<&'a [u8], Defect> {
        if self.carry.is_empty() {
            check_start(bytes)?;
            if let Some(length) = head_length(bytes, 0) {
                self.take_head(&bytes[..length], sink)?;
                return Ok(&bytes[length..]);
            }
            self.carry.extend_from_slice(bytes);
        } else {
            let before = self.carry.len();
            self.carry.extend_from_slice(bytes);
            check_start(&self.carry)?;
            // The terminator may have begun up to three bytes before the new ones.
            if let Some(length) = head_length(&self.carry, before.saturating_sub(3)) {
                let carry = std::mem::take(&mut self.carry);
                let outcome = self.take_head(&carry[..length], sink);
                self.carry = carry;
                self.carry.clear();
                outcome?;
                return Ok(&bytes[length - before..]);
            }
        }
        if self.carry.len() > HEAD_BYTES_MAX {
            return Err(Defect("a response head above 64 KiB"));
        }
        Ok(&[])
    }

    /// Takes a complete head, with its empty line.
    fn take_head(&mut self, head: &[u8], sink: &mut impl Sink) -> Result<(), Defect> {
        let mut lines = Lines { rest: head };
        let status_line = lines.next().ok_or(Defect("an empty response head"))??;
        let (minor, status) = parse_status_line(status_line)?;
        let interim = status < 200;
        let mut fields = Fields::default();
        for line in lines {
            let line = line?;
            if line.is_empty() {
                break;
            }
            let (name, value) = split_field(line)?;
            fields.take(name, value)?;
            if !interim {
                sink.header(name, value);
            }
        }
        if interim {
            self.interim_count += 1;
            if status == 101 || self.interim_count > INTERIM_MAX {
                return Err(Defect("an interim response that nobody asked for"));
            }
            return Ok(());
        }
        self.status = status;
        self.keep_alive = if minor == 0 { fields.keep_alive && !fields.close } else { !fields.close };
        self.state = self.framing(status, &fields)?;
        if self.state == State::UntilClose {
            self.keep_alive = false;
        }
        Ok(())
    }

    /// How the end of the body is known (RFC 9112 section 6.3).
    fn framing(&self, status: u16, fields: &Fields) -> Result<State, Defect> {
        if fields.chunked && fields.length.is_some() {
            return Err(Defect("Transfer-Encoding beside Content-Length"));
        }
        if self.to_head_request || status == 204 || status == 304 {
            return Ok(State::Done);
        }
        if fields.chunked {
            return Ok(State::Chunked(Chunk::Size { value: 0, digits: 0 }));
        }
        Ok(match fields.length {
            Some(0) => State::Done,
            Some(length) => State::Length(length),
            None => State::UntilClose,
        })
    }

    /// Takes bytes of a chunked body and returns the rest: a whole piece of data, or one byte of framing.
    fn feed_chunk<'a>(&mut self, chunk: Chunk, bytes: &'a [u8], sink: &mut impl Sink) -> Result<&'a [u8], Defect> {
        if let Chunk::Data { left } = chunk {
            let taken = usize::try_from(left).map_or(bytes.len(), |left| left.min(bytes.len()));
            self.take_body(&bytes[..taken], sink);
            let left = left - taken as u64;
            self.state = State::Chunked(if left == 0 { Chunk::DataCr } else { Chunk::Data { left } });
            return Ok(&bytes[taken..]);
        }
        self.state = match chunk.step(bytes[0])? {
            Some(next) => State::Chunked(next),
            None => State::Done,
        };
        Ok(&bytes[1..])
    }
}

impl Chunk {
    /// The state after one byte of framing; `None` at the end of the body.
    fn step(self, byte: u8) -> Result<Option<Self>, Defect> {
        let long = Err(Defect("a chunk line or trailer above 16 KiB"));
        Ok(Some(match (self, byte) {
            (Self::Size { value, digits }, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => {
                let digit = char::from(byte).to_digit(16).expect("invariant: a hexadecimal digit");
                if digits == 15 {
                    return Err(Defect("a chunk size above 15 digits"));
                }
                Self::Size { value: value * 16 + u64::from(digit), digits: digits + 1 }
            }
            (Self::Size { value, digits: 1.. }, b'\r') => Self::SizeLf { value },
            (Self::Size { value, digits: 1.. }, b';' | b' ' | b'\t') => Self::Extension { value, taken: 0 },
            (Self::Size { .. }, _) => return Err(Defect("no chunk size")),
            (Self::Extension { value, .. }, b'\r') => Self::SizeLf { value },
            (Self::Extension { .. } | Self::Trailer { .. }, b'\n') => return Err(Defect("a line ended by LF alone")),
            (Self::Extension { taken: CHUNK_LINE_BYTES_MAX.., .. }, _) => return long,
            (Self::Extension { value, taken }, _) => Self::Extension { value, taken: taken + 1 },
            (Self::SizeLf { value: 0 }, b'\n') => Self::TrailerStart { taken: 0 },
            (Self::SizeLf { value }, b'\n') => Self::Data { left: value },
            (Self::DataCr, b'\r') => Self::DataLf,
            (Self::DataLf, b'\n') => Self::Size { value: 0, digits: 0 },
            (Self::TrailerStart { .. }, b'\r') => Self::EndLf,
            (Self::Trailer { taken }, b'\r') => Self::TrailerLf { taken },
            (
                Self::TrailerStart { taken: CHUNK_LINE_BYTES_MAX.. } | Self::Trailer { taken: CHUNK_LINE_BYTES_MAX.. },
                _,
            ) => return long,
            (Self::TrailerStart { taken } | Self::Trailer { taken }, _) => Self::Trailer { taken: taken + 1 },
            (Self::TrailerLf { taken }, b'\n') => Self::TrailerStart { taken },
            (Self::EndLf, b'\n') => return Ok(None),
            (Self::SizeLf { .. } | Self::DataCr | Self::DataLf | Self::TrailerLf { .. } | Self::EndLf, _) => {
                return Err(Defect("a chunk without its CRLF"));
            }
            (Self::Data { .. }, _) => unreachable!("invariant: data is taken in pieces, not by byte"),
        }))
    }
}

/// What a head says about framing.
#[derive(Debug, Default)]
struct Fields {
    length: Option<u64>,
    chunked: bool,
    close: bool,
    keep_alive: bool,
}

impl Fields {
    fn take(&mut self, name: &[u8], value: &[u8]) -> Result<(), Defect> {
        if name.eq_ignore_ascii_case(b"content-length") {
            let length = parse_length(value).ok_or(Defect("a Content-Length that is no number"))?;
            if self.length.is_some_and(|before| before != length) {
                return Err(Defect("two different Content-Length fields"));
            }
            self.length = Some(length);
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            if self.chunked || !value.eq_ignore_ascii_case(b"chunked") {
                return Err(Defect("a transfer coding other than chunked"));
            }
            self.chunked = true;
        } else if name.eq_ignore_ascii_case(b"connection") {
            for option in value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii) {
                self.close |= option.eq_ignore_ascii_case(b"close");
                self.keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
            }
        }
        Ok(())
    }
}

/// Lines of a head, without their CRLF.
struct Lines<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Lines<'a> {
    type Item = Result<&'a [u8], Defect>;

    fn next(&mut self) -> Option<Self::Item> {
        let end = self.rest.iter().position(|&byte| byte == b'\n')?;
        let line = &self.rest[..end];
        self.rest = &self.rest[end + 1..];
        Some(line.strip_suffix(b"\r").ok_or(Defect("a line ended by LF alone")))
    }
}

/// Fails early on bytes that cannot be the start of a response.
fn check_start(bytes: &[u8]) -> Result<(), Defect> {
    const START: &[u8] = b"HTTP/1.";
    let length = START.len().min(bytes.len());
    if bytes[..length] == START[..length] { Ok(()) } else { Err(Defect("no HTTP/1 status line")) }
}

/// The length of the head with its empty line, looking for the terminator from `from`.
fn head_length(bytes: &[u8], from: usize) -> Option<usize> {
    let mut at = from;
    while let Some(step) = bytes[at..].iter().position(|&byte| byte == b'\n') {
        at += step + 1;
        match bytes[at..] {
            [b'\r', b'\n', ..] => return Some(at + 2),
            // Two bare LF end what some would take for a head; the line reader then says what is wrong with it.
            [b'\n', ..] => return Some(at + 1),
            _ => {}
        }
    }
    None
}

fn parse_status_line(line: &[u8]) -> Result<(u8, u16), Defect> {
    let wrong = Defect("a malformed status line");
    match line {
        [
            b'H',
            b'T',
            b'T',
            b'P',
            b'/',
            b'1',
            b'.',
            minor @ (b'0' | b'1'),
            b' ',
            a @ b'1'..=b'5',
            b @ b'0'..=b'9',
            c @ b'0'..=b'9',
            rest @ ..,
        ] if rest.is_empty() || rest[0] == b' ' => {
            let digit = |byte: u8| u16::from(byte - b'0');
            Ok((minor - b'0', digit(*a) * 100 + digit(*b) * 10 + digit(*c)))
        }
        _ => Err(wrong),
    }
}

fn split_field(line: &[u8]) -> Result<(&[u8], &[u8]), Defect> {
    let colon = line.iter().position(|&byte| byte == b':').ok_or(Defect("a field without a colon"))?;
    let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
    if name.is_empty() || !name.iter().all(|&byte| is_token(byte)) {
        return Err(Defect("a malformed field name"));
    }
    if value.iter().any(|&byte| byte == 0 || byte == b'\r') {
        return Err(Defect("a control character in a field value"));
    }
    Ok((name, value))
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

fn parse_length(value: &[u8]) -> Option<u64> {
    if value.is_empty() || value.len() > 18 || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(value.iter().fold(0, |sum, &byte| sum * 10 + u64::from(byte - b'0')))
}

#[cfg(test)]
mod tests {
    use super::{Defect, ResponseReader, Sink};
    use proptest::prelude::*;

    #[derive(Default)]
    struct Kept {
        headers: Vec<(String, String)>,
        body: Vec<u8>,
    }

    impl Sink for Kept {
        fn header(&mut self, name: &[u8], value: &[u8]) {
            self.headers.push((String::from_utf8_lossy(name).into(), String::from_utf8_lossy(value).into()));
        }
        fn body(&mut self, bytes: &[u8]) {
            self.body.extend_from_slice(bytes);
        }
    }

    /// Feeds the bytes in pieces of `step`; the outcome, the reader and what it found.
    fn read(text: &[u8], step: usize, head: bool) -> (Result<bool, Defect>, ResponseReader, Kept) {
        let (mut reader, mut kept) = (ResponseReader::new(), Kept::default());
        reader.expect(head);
        let mut outcome = Ok(false);
        for piece in text.chunks(step) {
            outcome = reader.feed(piece, &mut kept);
            if outcome.is_err() {
                break;
            }
        }
        (outcome, reader, kept)
    }

    #[test]
    fn complete_responses_in_pieces_of_every_size() {
        let vectors: [(&str, u16, &str, bool); 7] = [
            ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", 200, "hello", true),
            ("HTTP/1.1 204 No Content\r\n\r\n", 204, "", true),
            ("HTTP/1.1 304\r\nETag: \"x\"\r\nContent-Length: 5\r\n\r\n", 304, "", true),
            (
                "HTTP/1.1 303 See Other\r\nlocation: /x\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
                303,
                "",
                false,
            ),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0a;x=y\r\n, world!!!\r\n0\r\nTrailer: t\r\n\r\n",
                200,
                "hello, world!!!",
                true,
            ),
            (
                "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
                200,
                "ok",
                true,
            ),
            (
                "HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok",
                200,
                "ok",
                true,
            ),
        ];
        for (text, status, body, keep_alive) in vectors {
            for step in 1..=text.len() {
                let (outcome, reader, kept) = read(text.as_bytes(), step, false);
                assert_eq!(outcome, Ok(true), "{text:?} by {step}");
                assert_eq!((reader.status(), reader.keep_alive()), (Some(status), keep_alive), "{text:?} by {step}");
                assert_eq!(kept.body, body.as_bytes(), "{text:?} by {step}");
                assert_eq!(reader.body_bytes(), body.len() as u64);
                assert!(!kept.headers.iter().any(|(name, _)| name == "Link"), "an interim field was handed on");
            }
        }
    }

    #[test]
    fn a_body_until_close_ends_with_it_and_a_cut_body_does_not() {
        let (outcome, mut reader, kept) = read(b"HTTP/1.1 200 OK\r\n\r\nsome", 3, false);
        assert_eq!((outcome, kept.body), (Ok(false), b"some".to_vec()));
        assert!(!reader.keep_alive());
        assert!(reader.eof());
        let (_, mut reader, _) = read(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nsome", 3, false);
        assert!(!reader.eof());
        let (_, mut reader, _) = read(b"HTTP/1.1 2", 3, false);
        assert!(!reader.eof());
    }

    #[test]
    fn a_response_to_head_has_no_body() {
        let (outcome, ..) = read(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", 7, true);
        assert_eq!(outcome, Ok(true));
    }

    #[test]
    fn defects_are_named_however_they_arrive() {
        let vectors: [(&str, &str); 18] = [
            ("garbage", "no HTTP/1 status line"),
            ("HTTP/2.0 200 OK\r\n\r\n", "no HTTP/1 status line"),
            ("HTTP/1.1 99 Low\r\n\r\n", "a malformed status line"),
            ("HTTP/1.1 2000 OK\r\n\r\n", "a malformed status line"),
            ("HTTP/1.1 200 OK\nContent-Length: 0\n\n", "a line ended by LF alone"),
            ("HTTP/1.1 200 OK\r\nContent-Length: 1\nX: y\r\n\r\n", "a line ended by LF alone"),
            ("HTTP/1.1 200 OK\r\nContent-Length : 1\r\n\r\n", "a malformed field name"),
            ("HTTP/1.1 200 OK\r\n folded\r\n\r\n", "a field without a colon"),
            ("HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", "a Content-Length that is no number"),
            ("HTTP/1.1 200 OK\r\nContent-Length: 1, 1\r\n\r\n", "a Content-Length that is no number"),
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
                "two different Content-Length fields",
            ),
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
                "Transfer-Encoding beside Content-Length",
            ),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", "a transfer coding other than chunked"),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", "no chunk size"),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1000000000000000\r\n",
                "a chunk size above 15 digits",
            ),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nabc", "a chunk without its CRLF"),
            ("HTTP/1.1 101 Switching Protocols\r\n\r\n", "an interim response that nobody asked for"),
            ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1", "bytes after the end of the response"),
        ];
        for (text, defect) in vectors {
            for step in 1..=text.len() {
                assert_eq!(read(text.as_bytes(), step, false).0.unwrap_err().0, defect, "{text:?} by {step}");
            }
        }
    }

    #[test]
    fn a_head_without_end_is_refused() {
        let mut text = b"HTTP/1.1 200 OK\r\n".to_vec();
        text.extend(std::iter::repeat_n(b'x', 70_000));
        assert_eq!(read(&text, 1000, false).0, Err(Defect("a response head above 64 KiB")));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(tail in proptest::collection::vec(any::<u8>(), 0..200), chunked in any::<bool>(), step in 1_usize..50) {
            let mut text = b"HTTP/1.1 200 OK\r\n".to_vec();
            if chunked {
                text.extend_from_slice(b"Transfer-Encoding: chunked\r\n\r\n");
            }
            text.extend_from_slice(&tail);
            let _ = read(&text, step, false);
            let _ = read(&tail, step, false);
        }
    }
}
