//! Messages into bytes, without allocation. The writer's caller decides what to say; these helpers say it correctly.

use std::io::Write;
use std::time::{Duration, UNIX_EPOCH};

use super::head::Version;

/// Where encoded bytes go: a vector, or an engine's buffer.
pub trait Sink {
    fn put(&mut self, bytes: &[u8]);
}

impl Sink for Vec<u8> {
    #[inline]
    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}

/// `HTTP/1.1 200 OK` with the usual reason. A server answers with its own version (RFC 9110 section 6.2).
pub fn status_line(sink: &mut impl Sink, status: u16) {
    if status == 200 {
        // Nearly every answer: one piece instead of five.
        return sink.put(b"HTTP/1.1 200 OK\r\n");
    }
    status_line_with(sink, status, reason(status).as_bytes());
}

/// The same with an upstream's reason phrase, which the parser has found sound.
pub fn status_line_with(sink: &mut impl Sink, status: u16, reason: &[u8]) {
    sink.put(b"HTTP/1.1 ");
    integer(sink, u64::from(status));
    sink.put(b" ");
    sink.put(reason);
    sink.put(b"\r\n");
}

/// `GET /path?query HTTP/1.1` from parts that a parser has found sound. `query` is without `?`; an empty one is not
/// the same as none.
pub fn request_line(sink: &mut impl Sink, method: &[u8], path: &[u8], query: Option<&[u8]>) {
    sink.put(method);
    sink.put(b" ");
    sink.put(path);
    if let Some(query) = query {
        sink.put(b"?");
        sink.put(query);
    }
    sink.put(b" HTTP/1.1\r\n");
}

/// One field line. Neither part may hold CR, LF or NUL: values from outside come from the parser or through
/// [`header_safe`].
#[inline]
pub fn header(sink: &mut impl Sink, name: &[u8], value: &[u8]) {
    sink.put(name);
    sink.put(b": ");
    sink.put(value);
    sink.put(b"\r\n");
}

/// One field line whose value was computed: bytes that a field value may not have are written as spaces, so that no
/// value can end its line (RFC 9110 section 5.5).
pub fn header_safe(sink: &mut impl Sink, name: &[u8], value: &[u8]) {
    sink.put(name);
    sink.put(b": ");
    let mut rest = value;
    loop {
        let end = super::scan::value_end(rest, 0);
        sink.put(&rest[..end]);
        let Some(behind) = rest.get(end + 1..) else { break };
        sink.put(b" ");
        rest = behind;
    }
    sink.put(b"\r\n");
}

/// One field line with a number.
pub fn header_integer(sink: &mut impl Sink, name: &[u8], value: u64) {
    sink.put(name);
    sink.put(b": ");
    integer(sink, value);
    sink.put(b"\r\n");
}

pub fn content_length(sink: &mut impl Sink, length: u64) {
    header_integer(sink, b"content-length", length);
}

/// What must be said about the connection's life; nothing where the version's default holds (RFC 9112 section 9.3).
pub fn connection(sink: &mut impl Sink, version: Version, keep_alive: bool) {
    match (version, keep_alive) {
        (Version::Http11, true) | (Version::Http10, false) => {}
        (Version::Http11, false) => sink.put(b"connection: close\r\n"),
        (Version::Http10, true) => sink.put(b"connection: keep-alive\r\n"),
    }
}

/// The empty line.
pub fn end(sink: &mut impl Sink) {
    sink.put(b"\r\n");
}

/// Decimal digits.
pub fn integer(sink: &mut impl Sink, value: u64) {
    let mut digits = [0u8; 20];
    let mut at = digits.len();
    let mut rest = value;
    loop {
        at -= 1;
        digits[at] = b"0123456789"[usize::try_from(rest % 10).expect("invariant: a digit is below 10")];
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    sink.put(&digits[at..]);
}

/// The size line of a chunk (RFC 9112 section 7.1). `length` must not be zero: that is [`last_chunk`].
pub fn chunk_head(sink: &mut impl Sink, length: u64) {
    let mut digits = [0u8; 16];
    let mut at = digits.len();
    let mut rest = length;
    loop {
        at -= 1;
        digits[at] = b"0123456789abcdef"[usize::try_from(rest % 16).expect("invariant: a digit is below 16")];
        rest /= 16;
        if rest == 0 {
            break;
        }
    }
    sink.put(&digits[at..]);
    sink.put(b"\r\n");
}

/// What follows the data of every chunk.
pub fn chunk_end(sink: &mut impl Sink) {
    sink.put(b"\r\n");
}

/// The end of a chunked body without trailers.
pub fn last_chunk(sink: &mut impl Sink) {
    sink.put(b"0\r\n\r\n");
}

/// Bytes of an IMF-fixdate.
pub const DATE_BYTES: usize = 29;

/// The current date as `Date` wants it (RFC 9110 sections 5.6.7 and 6.6.1), formatted at most once a second.
#[derive(Clone, Debug)]
pub struct DateCache {
    second: u64,
    text: [u8; DATE_BYTES],
}

impl Default for DateCache {
    fn default() -> Self {
        Self { second: 0, text: date(0) }
    }
}

impl DateCache {
    pub fn at(&mut self, unix_ms: u64) -> &[u8; DATE_BYTES] {
        let second = unix_ms / 1000;
        if second != self.second {
            self.second = second;
            self.text = date(second);
        }
        &self.text
    }
}

/// IMF-fixdate (RFC 9110 section 5.6.7) of a Unix time in seconds; the year 9999 is the format's last.
pub fn date(unix_s: u64) -> [u8; DATE_BYTES] {
    const YEAR_9999_END_S: u64 = 253_402_300_799;
    let mut text = *b"Thu, 01 Jan 1970 00:00:00 GMT";
    let time = UNIX_EPOCH + Duration::from_secs(unix_s.min(YEAR_9999_END_S));
    write!(&mut text[..], "{}", httpdate::HttpDate::from(time)).expect("invariant: an IMF-fixdate has 29 bytes");
    text
}

/// The reason phrase of RFC 9110 section 15 and the registry; empty for unknown codes, which is allowed.
pub const fn reason(status: u16) -> &'static str {
    match status {
        100 => "Continue",
        101 => "Switching Protocols",
        103 => "Early Hints",
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        204 => "No Content",
        206 => "Partial Content",
        301 => "Moved Permanently",
        302 => "Found",
        303 => "See Other",
        304 => "Not Modified",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        406 => "Not Acceptable",
        408 => "Request Timeout",
        409 => "Conflict",
        410 => "Gone",
        411 => "Length Required",
        412 => "Precondition Failed",
        413 => "Content Too Large",
        414 => "URI Too Long",
        415 => "Unsupported Media Type",
        416 => "Range Not Satisfiable",
        417 => "Expectation Failed",
        421 => "Misdirected Request",
        422 => "Unprocessable Content",
        426 => "Upgrade Required",
        428 => "Precondition Required",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        507 => "Insufficient Storage",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::{DateCache, chunk_head, connection, date, header_safe, integer, request_line, status_line};
    use crate::http1::head::Version;

    fn text(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn numbers() {
        for value in [0, 1, 9, 10, 99, 100, 12345, u64::MAX] {
            assert_eq!(text(|out| integer(out, value)), value.to_string());
            assert_eq!(text(|out| chunk_head(out, value)), format!("{value:x}\r\n"));
        }
    }

    #[test]
    fn lines() {
        assert_eq!(text(|out| status_line(out, 200)), "HTTP/1.1 200 OK\r\n");
        assert_eq!(text(|out| status_line(out, 404)), "HTTP/1.1 404 Not Found\r\n");
        assert_eq!(text(|out| status_line(out, 299)), "HTTP/1.1 299 \r\n");
        assert_eq!(text(|out| request_line(out, b"GET", b"/a", Some(b"b=c"))), "GET /a?b=c HTTP/1.1\r\n");
        assert_eq!(text(|out| request_line(out, b"GET", b"/a", Some(b""))), "GET /a? HTTP/1.1\r\n");
        assert_eq!(text(|out| request_line(out, b"GET", b"/a", None)), "GET /a HTTP/1.1\r\n");
        assert_eq!(text(|out| header_safe(out, b"x", b"a\r\nb: c\0")), "x: a  b: c \r\n");
        assert_eq!(text(|out| header_safe(out, b"x", b"")), "x: \r\n");
        assert_eq!(text(|out| connection(out, Version::Http11, false)), "connection: close\r\n");
        assert_eq!(text(|out| connection(out, Version::Http10, true)), "connection: keep-alive\r\n");
    }

    #[test]
    fn dates() {
        assert_eq!(&date(784_111_777), b"Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(&date(u64::MAX), b"Fri, 31 Dec 9999 23:59:59 GMT");
        let mut cache = DateCache::default();
        assert_eq!(cache.at(999), b"Thu, 01 Jan 1970 00:00:00 GMT");
        assert_eq!(cache.at(784_111_777_999), b"Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(cache.at(784_111_777_000), b"Sun, 06 Nov 1994 08:49:37 GMT");
    }
}
