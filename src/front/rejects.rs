//! The last requests that a front server rejected, with the offending byte marked, for `GET /rejects`.
//!
//! What a browser sent is kept only in part, and without secrets: values of credential fields and the content of
//! bodies are masked before they are stored.

use std::net::SocketAddr;

use super::reason::Reason;

/// Rejected requests that one front server remembers.
pub const REJECTS_MAX: usize = 64;
/// Bytes kept before the offending one, and from it on.
const BEFORE_BYTES_MAX: usize = 96;
const AFTER_BYTES_MAX: usize = 64;
const EXCERPT_BYTES_MAX: usize = BEFORE_BYTES_MAX + AFTER_BYTES_MAX;
/// Stands for a masked byte.
const MASK: u8 = b'*';
/// A field whose name contains one of these, letters only, has a value that nobody else should read.
const SECRETS: [&[u8]; 6] = [b"cookie", b"authorization", b"token", b"secret", b"password", b"apikey"];

/// What the bytes belong to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    Head,
    /// Content before the offending byte is masked: only framing is of interest.
    Body,
}

/// One rejected request.
#[derive(Clone, Debug)]
pub struct Rejected {
    pub unix_ms: u64,
    /// `None` for a Unix socket.
    pub client: Option<SocketAddr>,
    pub status: u16,
    pub reason: Reason,
    /// The parser's own words.
    pub words: &'static str,
    pub part: Part,
    /// Where the offending byte is, from the first byte of the head, or of what was at hand of the body.
    pub offset: usize,
    excerpt: [u8; EXCERPT_BYTES_MAX],
    excerpt_bytes: usize,
    /// Place of the offending byte in the excerpt; its end if that byte had not arrived.
    mark: usize,
}

impl Rejected {
    /// The bytes around the offending one, masked.
    pub fn excerpt(&self) -> &[u8] {
        &self.excerpt[..self.excerpt_bytes]
    }

    /// Place of the offending byte in the excerpt; its length if that byte had not arrived.
    pub fn mark(&self) -> usize {
        self.mark
    }

    /// Copies what is kept of `window`, in which the offending byte is at `offset`.
    pub fn look(&mut self, window: &[u8], offset: usize, part: Part) {
        let offset = offset.min(window.len());
        let from = offset.saturating_sub(BEFORE_BYTES_MAX);
        let to = window.len().min(offset + AFTER_BYTES_MAX);
        self.offset = offset;
        self.part = part;
        self.mark = offset - from;
        self.excerpt_bytes = to - from;
        self.excerpt[..self.excerpt_bytes].copy_from_slice(&window[from..to]);
        match part {
            Part::Head => mask_fields(&window[..to], from, &mut self.excerpt[..self.excerpt_bytes]),
            Part::Body => mask(&mut self.excerpt[..self.mark]),
        }
    }
}

impl Default for Rejected {
    fn default() -> Self {
        Self {
            unix_ms: 0,
            client: None,
            status: 0,
            reason: Reason::default(),
            words: "",
            part: Part::Head,
            offset: 0,
            excerpt: [0; EXCERPT_BYTES_MAX],
            excerpt_bytes: 0,
            mark: 0,
        }
    }
}

fn mask(bytes: &mut [u8]) {
    for byte in bytes.iter_mut().filter(|byte| byte.is_ascii_graphic() || !byte.is_ascii()) {
        *byte = MASK;
    }
}

/// Masks values of credential fields: the excerpt is `head[from..]`. The head may be broken in any way, so that every
/// CR and every LF counts as the end of a line, and a line that begins with white space continues the one before.
fn mask_fields(head: &[u8], from: usize, excerpt: &mut [u8]) {
    let mut start = 0;
    let mut secret = false;
    for line in head.split_inclusive(|byte| matches!(byte, b'\r' | b'\n')) {
        let end = start + line.len();
        let continues = matches!(line.first(), Some(b' ' | b'\t')) && start > 0;
        let value = if continues { secret.then_some(0) } else { secret_value(line) };
        // The LF of a CRLF is a line of its own here, and ends nothing.
        if line != b"\n" {
            secret = value.is_some();
        }
        if let Some(value) = value {
            let (first, last) = ((start + value).max(from) - from, end.max(from) - from);
            mask(&mut excerpt[first..last]);
        }
        start = end;
    }
}

/// Where the value of a credential field begins in its line; the request line has a colon in its target at most.
fn secret_value(line: &[u8]) -> Option<usize> {
    let colon = line.iter().position(|&byte| byte == b':');
    let name = &line[..colon.unwrap_or(line.len())];
    // A name without its colon, or with bytes in it that no name may have, is still recognized.
    let mut letters = [0; 64];
    let mut count = 0;
    let mut ends = [0; 64];
    for (place, byte) in name.iter().enumerate().filter(|(_, byte)| byte.is_ascii_alphabetic()) {
        if count == letters.len() {
            break;
        }
        letters[count] = byte.to_ascii_lowercase();
        ends[count] = place + 1;
        count += 1;
    }
    let found = SECRETS.iter().filter_map(|secret| {
        letters[..count].windows(secret.len()).position(|window| window == *secret).map(|at| at + secret.len() - 1)
    });
    let last = found.min()?;
    Some(colon.map_or(ends[last], |colon| colon + 1))
}

/// The last [`REJECTS_MAX`] rejected requests of one front server. All memory is taken at start.
#[derive(Clone, Debug)]
pub struct Rejects {
    ring: Box<[Rejected]>,
    /// Rejected since the start.
    total: u64,
    next: usize,
}

impl Default for Rejects {
    fn default() -> Self {
        Self { ring: vec![Rejected::default(); REJECTS_MAX].into(), total: 0, next: 0 }
    }
}

impl Rejects {
    /// The place of the next one, with what the oldest left in it.
    #[expect(clippy::should_implement_trait, reason = "a ring has no end")]
    pub fn next(&mut self) -> &mut Rejected {
        let place = self.next;
        self.next = (place + 1) % self.ring.len();
        self.total += 1;
        &mut self.ring[place]
    }

    pub fn total(&self) -> u64 {
        self.total
    }

    /// What is remembered, newest first.
    pub fn newest_first(&self) -> impl Iterator<Item = &Rejected> {
        let count = usize::try_from(self.total).map_or(REJECTS_MAX, |total| total.min(REJECTS_MAX));
        (1..=count).map(move |back| &self.ring[(self.next + REJECTS_MAX - back) % REJECTS_MAX])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(head: &[u8], offset: usize, part: Part) -> (String, usize) {
        let mut rejected = Rejected::default();
        rejected.look(head, offset, part);
        (String::from_utf8_lossy(rejected.excerpt()).into_owned(), rejected.mark())
    }

    #[test]
    fn the_mark_is_on_the_offending_byte() {
        let head = [b"GET / HTTP/1.1\r\nhost: a\r\n".as_slice(), &[b'x'; 300], b"!", &[b'y'; 300]].concat();
        let offset = head.iter().position(|&byte| byte == b'!').unwrap();
        let (excerpt, mark) = look(&head, offset, Part::Head);
        assert_eq!(excerpt.as_bytes()[mark], b'!');
        assert_eq!(excerpt.len(), EXCERPT_BYTES_MAX);
        let (excerpt, mark) = look(b"GET", 7, Part::Head);
        assert_eq!((excerpt.as_str(), mark), ("GET", 3), "a byte that did not arrive is marked at the end");
        assert_eq!(look(b"", 0, Part::Head), (String::new(), 0));
    }

    #[test]
    fn credentials_are_masked_however_broken_the_head_is() {
        for head in [
            "GET / HTTP/1.1\r\nCookie: SECRET=SECRET\r\nx: 1\r\n",
            "GET / HTTP/1.1\r\ncookie : SECRET\r\nx: 1\r\n",
            "GET / HTTP/1.1\nCOOKIE:SECRET\nx: 1\n",
            "GET / HTTP/1.1\rcookie:SECRET\rx: 1\r",
            "GET / HTTP/1.1\r\nProxy-Authorization: Basic SECRET\r\nx: 1\r\n",
            "GET / HTTP/1.1\r\nAuthorization: Bearer\r\n SECRET\r\n\tSECRET\r\nx: 1\r\n",
            "GET / HTTP/1.1\r\nAuthorization SECRET\r\nx: 1\r\n",
            "GET / HTTP/1.1\r\nCo\0okie: SECRET\r\nx: 1\r\n",
            "GET / HTTP/1.1\r\nX-Api-Key: SECRET\r\nx: 1\r\n",
        ] {
            for offset in 0..=head.len() {
                let (excerpt, _) = look(head.as_bytes(), offset, Part::Head);
                assert!(!excerpt.contains("SEC"), "{excerpt:?}");
                assert!(
                    offset < head.len() - 60
                        || excerpt.ends_with("x: 1\r\n")
                        || excerpt.ends_with("x: 1\n")
                        || excerpt.ends_with("x: 1\r"),
                    "other fields stay: {excerpt:?}"
                );
            }
        }
        let long = format!("GET / HTTP/1.1\r\nCookie: {}\r\n\0", "SECRET".repeat(100));
        let (excerpt, mark) = look(long.as_bytes(), long.len() - 1, Part::Head);
        assert!(!excerpt.contains("SEC") && excerpt.as_bytes()[mark] == 0, "cut inside the value: {excerpt:?}");
    }

    #[test]
    fn content_is_masked_and_framing_is_not() {
        let (excerpt, mark) = look(b"9\r\npassword=1\r\nzz\r\n", 15, Part::Body);
        assert_eq!((&excerpt[mark..], mark), ("zz\r\n", 15));
        assert!(!excerpt.contains("pass"), "{excerpt}");
    }

    #[test]
    fn the_oldest_gives_way() {
        let mut rejects = Rejects::default();
        assert_eq!(rejects.newest_first().count(), 0);
        for number in 0..100 {
            *rejects.next() = Rejected { unix_ms: number, ..Rejected::default() };
        }
        let times: Vec<u64> = rejects.newest_first().map(|rejected| rejected.unix_ms).collect();
        assert_eq!(times, (36..100).rev().collect::<Vec<_>>());
        assert_eq!(rejects.total(), 100);
    }
}
