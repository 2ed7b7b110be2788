//! One line of the access log: fixed in size while it waits for the log's thread, `key=value` text afterwards.
//!
//! ```text
//! time=2026-11-27T16:30:13.123Z client=127.0.0.1:40000 front=0 method=GET host=127.0.0.1:8080 path=/reqcat/ status=200
//! bytes=5120 head_us=0 queue_us=0 connect_us=0 first_us=210 total_us=230 target=replica:1 attempts=1 end=answered
//! reason=most-credit
//! ```
//! Keys and their order are stable; new ones are added at the end. README.md explains each.

use std::io::Write as _;
use std::net::SocketAddr;

use super::reason::Reason;
use super::trace::{Ending, Served, Trace};
use crate::clock::stamp;

/// Text of at most `N` bytes; what exceeds them is cut.
#[derive(Clone, Copy)]
pub struct Text<const N: usize> {
    bytes: [u8; N],
    used: u16,
    cut: bool,
}

impl<const N: usize> Text<N> {
    pub const EMPTY: Self = Self { bytes: [0; N], used: 0, cut: false };

    pub fn set(&mut self, text: &[u8]) {
        let used = text.len().min(N);
        self.bytes[..used].copy_from_slice(&text[..used]);
        self.used = u16::try_from(used).unwrap_or(u16::MAX);
        self.cut = used < text.len();
    }

    pub fn as_slice(&self) -> &[u8] {
        &self.bytes[..usize::from(self.used)]
    }

    pub fn is_cut(&self) -> bool {
        self.cut
    }
}

impl<const N: usize> Default for Text<N> {
    fn default() -> Self {
        Self::EMPTY
    }
}

impl<const N: usize> std::fmt::Debug for Text<N> {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{:?}", String::from_utf8_lossy(self.as_slice()))
    }
}

/// Bytes that a line keeps of a method, a host, a path, and the name of an upstream server.
const METHOD_BYTES_MAX: usize = 16;
const HOST_BYTES_MAX: usize = 64;
const PATH_BYTES_MAX: usize = 200;
pub(super) const UPSTREAM_BYTES_MAX: usize = 56;

/// What one line says.
#[derive(Clone, Debug, Default)]
pub struct Record {
    /// When the head was whole.
    pub unix_ms: u64,
    pub front: u16,
    /// `None` for a Unix socket.
    pub client: Option<SocketAddr>,
    pub method: Text<METHOD_BYTES_MAX>,
    pub host: Text<HOST_BYTES_MAX>,
    /// As received, without the query, which may hold secrets.
    pub path: Text<PATH_BYTES_MAX>,
    pub upstream: Text<UPSTREAM_BYTES_MAX>,
    pub trace: Trace,
    pub attempts: u32,
    pub ending: Ending,
    pub ended_ns: u64,
}

impl Record {
    /// Makes it ready for another request.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// Appends the line with its end.
    pub fn write(&self, out: &mut Vec<u8>) {
        let trace = &self.trace;
        let micros = |from: u64, to: u64| if to == 0 { 0 } else { to.saturating_sub(from) / 1000 };
        out.extend_from_slice(b"time=");
        out.extend_from_slice(&stamp(self.unix_ms));
        out.extend_from_slice(b" client=");
        match self.client {
            Some(client) => write_to(out, format_args!("{client}")),
            None => out.extend_from_slice(b"unix"),
        }
        write_to(out, format_args!(" front={}", self.front));
        text(out, b" method=", &self.method);
        text(out, b" host=", &self.host);
        text(out, b" path=", &self.path);
        write_to(
            out,
            format_args!(
                " status={} bytes={} head_us={} queue_us={} connect_us={} first_us={} total_us={} target=",
                trace.status,
                trace.body_bytes,
                micros(trace.begun_ns, trace.taken_ns),
                micros(trace.taken_ns, trace.placed_ns),
                micros(trace.placed_ns, trace.connected_ns),
                micros(trace.taken_ns, trace.first_ns),
                micros(trace.taken_ns, self.ended_ns),
            ),
        );
        match trace.served {
            Served::Front => out.extend_from_slice(b"front"),
            Served::Replica(replica) => write_to(out, format_args!("replica:{replica}")),
            Served::Upstream(_) => {
                out.extend_from_slice(b"upstream:");
                escape(out, self.upstream.as_slice());
            }
            Served::File => out.extend_from_slice(b"file"),
            Served::Statement => out.extend_from_slice(b"statement"),
        }
        write_to(out, format_args!(" attempts={} end={} reason=", self.attempts, self.ending.word()));
        write_reason(out, trace.reason, trace.detail);
        out.push(b'\n');
    }
}

/// The reason's word, and behind a colon the parser's own ones, joined by dashes: `bad-request:host-is-repeated`.
pub fn write_reason(out: &mut Vec<u8>, reason: Reason, detail: &str) {
    out.extend_from_slice(reason.word().as_bytes());
    if detail.is_empty() {
        return;
    }
    out.push(b':');
    let mut joined = true;
    for byte in detail.bytes() {
        if byte.is_ascii_alphanumeric() {
            out.push(byte.to_ascii_lowercase());
            joined = false;
        } else if !joined {
            out.push(b'-');
            joined = true;
        }
    }
    if joined {
        out.pop();
    }
}

fn write_to(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    // Memory takes every byte.
    let _ = out.write_fmt(text);
}

/// A value from the wire: `-` if empty, in quotes if a reader could take its bytes for something else, with `…` if cut.
fn text<const N: usize>(out: &mut Vec<u8>, key: &[u8], text: &Text<N>) {
    out.extend_from_slice(key);
    let bytes = text.as_slice();
    if bytes.is_empty() {
        return out.push(b'-');
    }
    let plain = |byte: &u8| byte.is_ascii_graphic() && !b"\"\\=".contains(byte);
    if bytes.iter().all(plain) && !text.is_cut() && bytes != b"-" {
        return out.extend_from_slice(bytes);
    }
    out.push(b'"');
    escape(out, bytes);
    if text.is_cut() {
        out.extend_from_slice("…".as_bytes());
    }
    out.push(b'"');
}

/// Printable ASCII as it is, but for quotes and backslashes; all else as `\xNN`.
pub fn escape(out: &mut Vec<u8>, bytes: &[u8]) {
    for &byte in bytes {
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
            b' '..=b'~' => out.push(byte),
            _ => write_to(out, format_args!("\\x{byte:02x}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(record: &Record) -> String {
        let mut out = Vec::new();
        record.write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_line_has_every_key_in_its_order() {
        let mut record = Record { unix_ms: 1_795_797_013_123, front: 3, ..Record::default() };
        record.client = Some("[::1]:9".parse().unwrap());
        record.method.set(b"GET");
        record.host.set(b"example.org:80");
        record.path.set(b"/a/b");
        record.upstream.set(b"127.0.0.1:9000");
        record.attempts = 2;
        record.trace = Trace {
            reason: Reason::Retry,
            served: Served::Upstream(0),
            status: 200,
            body_bytes: 12,
            begun_ns: 1_000_000,
            taken_ns: 2_000_000,
            placed_ns: 5_000_000,
            connected_ns: 9_000_000,
            first_ns: 18_000_000,
            ..Trace::default()
        };
        record.ended_ns = 34_000_000;
        assert_eq!(
            line(&record),
            "time=2026-11-27T16:30:13.123Z client=[::1]:9 front=3 method=GET host=example.org:80 path=/a/b status=200 \
             bytes=12 head_us=1000 queue_us=3000 connect_us=4000 first_us=16000 total_us=32000 \
             target=upstream:127.0.0.1:9000 attempts=2 end=answered reason=retry\n"
        );
    }

    #[test]
    fn nothing_from_the_wire_can_forge_a_line_or_a_key() {
        let mut record = Record::default();
        record.path.set(b"/x status=200\n\"\xff\\");
        record.method.set(b"-");
        record.trace.blame(Reason::BadRequest, "Content-Length beside Transfer-Encoding");
        let line = line(&record);
        assert!(line.contains(r#" path="/x status=200\x0a\"\xff\\" status=0 "#), "{line}");
        assert!(line.contains(" method=\"-\" host=- "), "{line}");
        assert!(line.ends_with(" reason=bad-request:content-length-beside-transfer-encoding\n"), "{line}");
        assert_eq!(line.matches('\n').count(), 1);
        record.path.set(&[b'a'; PATH_BYTES_MAX + 1]);
        assert!(super::tests::line(&record).contains("aaa…\" status"), "a cut path says so");
    }
}
