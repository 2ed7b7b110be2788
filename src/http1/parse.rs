//! Bytes to message heads, strictly.
//!
//! ```text
//!   request-line / status-line ── field line* ── empty line ── semantics (host, framing, connection)
//! ```
//! The parser reads from the front to the back and decides on what it has seen, so the verdict on a message does not
//! depend on how the network cut it up. It keeps no state between calls: with more bytes, parse again from the first
//! one. [`HeadScan`] says when that is worth doing, so that a peer that drips bytes costs one parse a line.

use super::head::{Header, Known, Method, RequestHead, ResponseHead, Span, TargetForm, Version};
use super::scan;
use super::semantics;

/// Bounds of a head. An offset must fit a [`Span`], so more than 4 GiB count as 4 GiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParseLimits {
    /// Bytes of the head with its empty line.
    pub head_bytes_max: usize,
    pub header_count_max: usize,
}

impl Default for ParseLimits {
    fn default() -> Self {
        Self { head_bytes_max: crate::limits::HEAD_BYTES_MAX, header_count_max: crate::limits::HEADER_COUNT_MAX }
    }
}

/// How far the bytes reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Sound so far, but the head does not end here.
    Incomplete,
    /// The head is complete and sound; it has `head_bytes` bytes.
    Complete,
}

/// Why a message is refused. The connection must be closed after the answer: where the message ends is unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reject {
    /// What to answer: 4xx or 5xx for a request, always 502 for a response.
    pub status: u16,
    /// For the log and the list of rejects; says nothing that the peer did not send.
    pub reason: &'static str,
    /// Where the offending byte is, counted from the first byte given to the parser.
    pub offset: usize,
}

impl Reject {
    pub const fn new(status: u16, reason: &'static str, offset: usize) -> Self {
        Self { status, reason, offset }
    }
}

/// Why a step of the parser did not succeed.
enum Stop {
    Incomplete,
    Reject(Reject),
}

impl From<Reject> for Stop {
    fn from(reject: Reject) -> Self {
        Self::Reject(reject)
    }
}

type Step<T> = Result<T, Stop>;

/// Bytes of a method beyond which it is refused as unknown; the longest registered one has 17.
const METHOD_BYTES_MAX: usize = 32;

/// Parses a request head from its first byte on.
///
/// # Errors
/// A [`Reject`] with 400 (malformed or ambiguous), 414 or 431 (beyond `limits`), 417 (unknown expectation), 421 (an
/// https target), 501 (CONNECT, unknown transfer coding) or 505 (other major version). `head` is then unspecified.
pub fn parse_request(bytes: &[u8], limits: &ParseLimits, head: &mut RequestHead) -> Result<Progress, Reject> {
    head.clear();
    let window = window(bytes, limits);
    let mut in_request_line = true;
    match request(window, limits, head, &mut in_request_line) {
        Ok(()) => Ok(Progress::Complete),
        Err(Stop::Reject(reject)) => Err(reject),
        Err(Stop::Incomplete) if window.len() < limits.head_bytes_max => Ok(Progress::Incomplete),
        // RFC 9112 section 3 and RFC 9110 section 15.5.15: a target longer than the server wishes to parse.
        Err(Stop::Incomplete) if in_request_line => {
            Err(Reject::new(414, "request line exceeds the head limit", window.len()))
        }
        // RFC 6585 section 5.
        Err(Stop::Incomplete) => Err(Reject::new(431, "head exceeds the limit", window.len())),
    }
}

/// Parses a response head from its first byte on. `request_method` decides whether a body follows.
///
/// # Errors
/// A [`Reject`] with 502: what the client gets when its upstream server answers nonsense. `head` is then unspecified.
pub fn parse_response(
    bytes: &[u8],
    request_method: Method,
    limits: &ParseLimits,
    head: &mut ResponseHead,
) -> Result<Progress, Reject> {
    head.clear();
    let window = window(bytes, limits);
    match response(window, request_method, limits, head) {
        Ok(()) => Ok(Progress::Complete),
        Err(Stop::Reject(reject)) => Err(Reject { status: 502, ..reject }),
        Err(Stop::Incomplete) if window.len() < limits.head_bytes_max => Ok(Progress::Incomplete),
        Err(Stop::Incomplete) => Err(Reject::new(502, "response head exceeds the limit", window.len())),
    }
}

/// What may belong to the head: cutting here makes the limit independent of how much arrived at once.
fn window<'b>(bytes: &'b [u8], limits: &ParseLimits) -> &'b [u8] {
    let offset_max = usize::try_from(u32::MAX).unwrap_or(usize::MAX);
    &bytes[..bytes.len().min(limits.head_bytes_max).min(offset_max)]
}

fn request(bytes: &[u8], limits: &ParseLimits, head: &mut RequestHead, in_request_line: &mut bool) -> Step<()> {
    let at = request_line(bytes, head)?;
    *in_request_line = false;
    head.head_bytes = field_lines(bytes, at, limits, &mut head.headers)?;
    Ok(semantics::of_request(bytes, head)?)
}

fn response(bytes: &[u8], request_method: Method, limits: &ParseLimits, head: &mut ResponseHead) -> Step<()> {
    let at = status_line(bytes, head)?;
    head.head_bytes = field_lines(bytes, at, limits, &mut head.headers)?;
    Ok(semantics::of_response(bytes, request_method, head)?)
}

/// `method SP request-target SP HTTP-version CRLF` with exactly these spaces (RFC 9112 section 3).
fn request_line(bytes: &[u8], head: &mut RequestHead) -> Step<usize> {
    // RFC 9112 section 2.2: at least one empty line before the request-line should be ignored. One it is.
    let start = match byte(bytes, 0)? {
        b'\r' => line_end(bytes, 0)?,
        _ => 0,
    };
    let method_end = scan::token_end(bytes, start);
    if method_end - start > METHOD_BYTES_MAX {
        // RFC 9112 section 3: a method longer than any it implements gets 501.
        return reject(501, "method is longer than any known one", start + METHOD_BYTES_MAX);
    }
    match byte(bytes, method_end)? {
        b' ' if method_end > start => {}
        b'\r' | b'\n' if method_end == start => {
            return reject(400, "more than one CRLF before the request", method_end);
        }
        _ => return reject(400, "method is no token followed by one space", method_end),
    }
    head.method_text = Span::new(start, method_end);
    head.method = Method::from_bytes(&bytes[start..method_end]);
    if head.method == Method::Connect {
        // RFC 9110 section 9.3.6: tunnels are for proxies that clients choose; an origin's front is none.
        return reject(501, "CONNECT is not implemented", start);
    }
    let target_end = target(bytes, method_end + 1, head)?;
    let at = version(bytes, target_end + 1)?;
    head.version = at.1;
    line_end(bytes, at.0)
}

/// The request target up to the space behind it (RFC 9112 section 3.2).
fn target(bytes: &[u8], start: usize, head: &mut RequestHead) -> Step<usize> {
    let path_start = match byte(bytes, start)? {
        b'/' => start,
        b'*' => {
            // RFC 9112 section 3.2.4: the asterisk form is for a server-wide OPTIONS only.
            if head.method != Method::Options {
                return reject(400, "`*` is a target of OPTIONS only", start);
            }
            if byte(bytes, start + 1)? != b' ' {
                return reject(400, "target is neither a path nor an absolute URI", start + 1);
            }
            head.form = TargetForm::Asterisk;
            head.target = Span::new(start, start + 1);
            head.path = head.target;
            return Ok(start + 1);
        }
        _ => absolute(bytes, start, head)?,
    };
    let path_end = scan::path_end(bytes, path_start);
    let end = match byte(bytes, path_end)? {
        b'?' => {
            let query_end = scan::query_end(bytes, path_end + 1);
            head.query = Span::new(path_end + 1, query_end);
            query_end
        }
        _ => path_end,
    };
    if byte(bytes, end)? != b' ' {
        return reject(400, "byte that a request target may not have", end);
    }
    head.target = Span::new(start, end);
    head.path = Span::new(path_start, path_end);
    if path_start == path_end {
        empty_path(bytes, path_end, end, head);
    }
    Ok(end)
}

/// An absolute URI without a path stands for `/` (RFC 9110 section 4.2.3), or for `*` if it is the target of OPTIONS
/// and has no query either (RFC 9112 section 3.2.4). The slash is borrowed from `://`.
fn empty_path(bytes: &[u8], path_end: usize, end: usize, head: &mut RequestHead) {
    let slash = bytes[..path_end].iter().position(|byte| *byte == b'/').unwrap_or(path_end);
    head.path = Span::new(slash, slash + 1);
    if head.method == Method::Options && path_end == end {
        head.form = TargetForm::Asterisk;
    }
}

/// `http://authority`, of which the authority becomes the host (RFC 9112 section 3.2.2). Returns where the path is.
fn absolute(bytes: &[u8], start: usize, head: &mut RequestHead) -> Step<usize> {
    let mut at = start;
    for expected in b"http" {
        if !byte(bytes, at)?.eq_ignore_ascii_case(expected) {
            return reject(400, "target is neither a path nor an http URI", at);
        }
        at += 1;
    }
    let secure = byte(bytes, at)?.eq_ignore_ascii_case(&b's');
    if secure {
        at += 1;
    }
    for expected in b"://" {
        if byte(bytes, at)? != *expected {
            return reject(400, "target is neither a path nor an http URI", at);
        }
        at += 1;
    }
    if secure {
        // RFC 9110 section 7.4: an https resource must not be served over a connection that is not secured.
        return reject(421, "https target on a connection without TLS", start);
    }
    let mut end = at;
    loop {
        match byte(bytes, end)? {
            b'/' | b'?' | b' ' => break,
            b'[' | b']' | b':' => end += 1,
            other if scan::is_host(other) => end += 1,
            // RFC 9110 section 4.2.4: userinfo in an http URI from outside is an error.
            b'@' => return reject(400, "userinfo in the target's authority", end),
            _ => return reject(400, "byte that an authority may not have", end),
        }
    }
    semantics::check_host(&bytes[at..end], at, 400)?;
    head.form = TargetForm::Absolute;
    head.host = Span::new(at, end);
    Ok(end)
}

/// `HTTP/1.x` (RFC 9112 section 2.3); returns the offset behind it.
fn version(bytes: &[u8], start: usize) -> Step<(usize, Version)> {
    for (index, expected) in b"HTTP/".iter().enumerate() {
        // Case-sensitive by RFC 9112 section 2.3.
        if byte(bytes, start + index)? != *expected {
            return reject(400, "not followed by `HTTP/` and a version", start + index);
        }
    }
    let major = byte(bytes, start + 5)?;
    if !major.is_ascii_digit() {
        return reject(400, "version is not DIGIT . DIGIT", start + 5);
    }
    if byte(bytes, start + 6)? != b'.' {
        return reject(400, "version is not DIGIT . DIGIT", start + 6);
    }
    let minor = byte(bytes, start + 7)?;
    if !minor.is_ascii_digit() {
        return reject(400, "version is not DIGIT . DIGIT", start + 7);
    }
    match (major, minor) {
        (b'1', b'0') => Ok((start + 8, Version::Http10)),
        // RFC 9110 section 2.5: a higher minor version is processed as the highest that we know.
        (b'1', _) => Ok((start + 8, Version::Http11)),
        // RFC 9110 section 15.6.6.
        _ => reject(505, "major version is not 1", start + 5),
    }
}

/// `HTTP-version SP status-code SP [reason-phrase] CRLF` (RFC 9112 section 4). The space before an absent reason
/// may be absent too, as many servers have it; nothing else could be meant.
fn status_line(bytes: &[u8], head: &mut ResponseHead) -> Step<usize> {
    let (at, version) = version(bytes, 0)?;
    head.version = version;
    if byte(bytes, at)? != b' ' {
        return reject(502, "no space behind the version", at);
    }
    let mut status = 0u16;
    for index in 1..=3 {
        let digit = byte(bytes, at + index)?;
        // RFC 9110 section 15: three digits, the first of which is the class, 1 to 5.
        if !digit.is_ascii_digit() || (index == 1 && !matches!(digit, b'1'..=b'5')) {
            return reject(502, "status is not three digits from 100 to 599", at + index);
        }
        status = status * 10 + u16::from(digit - b'0');
    }
    head.status = status;
    let behind = at + 4;
    if byte(bytes, behind)? != b' ' {
        return line_end(bytes, behind);
    }
    let reason_end = scan::value_end(bytes, behind + 1);
    head.reason = Span::new(behind + 1, reason_end);
    line_end(bytes, reason_end)
}

/// Field lines up to and with the empty line (RFC 9112 section 5); returns the offset behind it.
fn field_lines(bytes: &[u8], start: usize, limits: &ParseLimits, headers: &mut Vec<Header>) -> Step<usize> {
    let mut at = start;
    loop {
        let first = byte(bytes, at)?;
        if first == b'\r' {
            return line_end(bytes, at);
        }
        if headers.len() >= limits.header_count_max {
            return reject(431, "more field lines than the limit", at);
        }
        let name_end = scan::token_end(bytes, at);
        match byte(bytes, name_end)? {
            b':' if name_end > at => {}
            // RFC 9112 section 5.2 (obs-fold) and section 2.2 (white space before the first field line).
            b' ' | b'\t' if name_end == at => return reject(400, "folded line or white space before a field", at),
            // RFC 9112 section 5.1: white space between name and colon has served smuggling.
            b' ' | b'\t' => return reject(400, "white space between field name and colon", name_end),
            _ => return reject(400, "field name is no token followed by a colon", name_end),
        }
        let (value, next) = field_value(bytes, name_end + 1)?;
        let known = Known::from_name(&bytes[at..name_end]);
        headers.push(Header { name: Span::new(at, name_end), value, known });
        at = next;
    }
}

/// `OWS field-value OWS CRLF` (RFC 9112 section 5, RFC 9110 section 5.5); returns the value and the next line.
fn field_value(bytes: &[u8], start: usize) -> Step<(Span, usize)> {
    let line = scan::value_end(bytes, start);
    let next = line_end(bytes, line)?;
    let is_space = |index: usize| matches!(bytes[index], b' ' | b'\t');
    let (mut value_start, mut value_end) = (start, line);
    while value_start < value_end && is_space(value_start) {
        value_start += 1;
    }
    while value_end > value_start && is_space(value_end - 1) {
        value_end -= 1;
    }
    Ok((Span::new(value_start, value_end), next))
}

/// CRLF and nothing else: a bare LF may be taken for a line end and a bare CR for a space (RFC 9112 section 2.2), so
/// both are refused, and every other byte here is one that its place may not have.
fn line_end(bytes: &[u8], at: usize) -> Step<usize> {
    match byte(bytes, at)? {
        b'\r' if byte(bytes, at + 1)? == b'\n' => Ok(at + 2),
        b'\r' => reject(400, "bare CR", at),
        b'\n' => reject(400, "bare LF", at),
        0 => reject(400, "NUL", at),
        _ => reject(400, "byte that this line may not have", at),
    }
}

fn byte(bytes: &[u8], at: usize) -> Step<u8> {
    bytes.get(at).copied().ok_or(Stop::Incomplete)
}

fn reject<T>(status: u16, reason: &'static str, offset: usize) -> Step<T> {
    Err(Stop::Reject(Reject::new(status, reason, offset)))
}

/// Says when a head that is still growing should be parsed again: with its first bytes, and then whenever a line
/// ended. Eight bytes of state for each connection whose head came in pieces.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HeadScan {
    /// Bytes that were looked at.
    seen: usize,
}

impl HeadScan {
    /// A parse has seen the first `bytes` and wants more.
    pub fn after(bytes: usize) -> Self {
        Self { seen: bytes }
    }

    /// `bytes` are all bytes of the head so far. True if [`parse_request`] may now say something new; a head at
    /// `limits.head_bytes_max` always is, so that it is refused.
    pub fn is_worth_parsing(&mut self, bytes: &[u8], limits: &ParseLimits) -> bool {
        let fresh = bytes.get(self.seen..).unwrap_or(bytes);
        let worth = self.seen == 0 || bytes.len() >= limits.head_bytes_max || fresh.contains(&b'\n');
        self.seen = bytes.len();
        worth
    }
}
