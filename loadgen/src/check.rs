//! What a response must be beside complete: a field, a length, a text, a digest. Checked as the bytes arrive.
//!
//! ```text
//!   Checks (once a run or a step)       Checker (one a line)
//!   header, length, text, digest  ◀──── begin ── header … body … body ── first_unmet
//! ```
//! A checker keeps no bytes: a text is found by Knuth, Morris and Pratt's automaton, whose whole state is a number, so a
//! text that two reads split is found as well, and a digest is computed piece by piece. After [`Checker::begin`] has seen
//! as many checks before, it allocates nothing.

mod text;

use std::fmt;

use sha2::{Digest, Sha256};

use self::text::Needle;
use crate::response::Sink;

/// Checks of one response: as many as a word has bits.
pub const CHECKS_MAX: usize = 32;
/// Bytes of a text that is looked for.
pub const TEXT_BYTES_MAX: usize = 4096;

/// One thing that a response must have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Check {
    /// A field of this name; with this value, if one is given. Names compare without case, values with it.
    Header { name: String, value: Option<String> },
    /// A body of so many bytes, without its framing.
    BodyBytes(u64),
    /// The text somewhere in the body.
    BodyText(String),
    /// A body with this SHA-256.
    BodySha256([u8; 32]),
}

/// As reports name it.
impl fmt::Display for Check {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Header { name, value: None } => write!(out, "header {name}"),
            Self::Header { name, value: Some(value) } => write!(out, "header {name}: {value}"),
            Self::BodyBytes(bytes) => write!(out, "body bytes {bytes}"),
            Self::BodyText(text) => write!(out, "body text {text}"),
            Self::BodySha256(digest) => {
                out.write_str("body sha256 ")?;
                digest.iter().try_for_each(|byte| write!(out, "{byte:02x}"))
            }
        }
    }
}

impl Check {
    /// `NAME: VALUE`, or `NAME` for a field whose value does not matter.
    ///
    /// # Errors
    /// No field name, as a sentence with the cure.
    pub fn header(text: &str) -> Result<Self, String> {
        let (name, value) = match text.split_once(':') {
            Some((name, value)) => (name, Some(value.trim().to_owned())),
            None => (text, None),
        };
        let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        if name.is_empty() || !name.bytes().all(token) {
            return Err(format!("`{text}`: write a field as \"Name: value\", or its name alone"));
        }
        Ok(Self::Header { name: name.to_owned(), value })
    }

    /// A text of the body.
    ///
    /// # Errors
    /// An empty or very long one.
    pub fn body_text(text: &str) -> Result<Self, String> {
        match text.len() {
            1..=TEXT_BYTES_MAX => Ok(Self::BodyText(text.to_owned())),
            _ => Err(format!("write a text of 1 to {TEXT_BYTES_MAX} bytes")),
        }
    }

    /// A digest in 64 hexadecimal digits.
    ///
    /// # Errors
    /// Anything else.
    pub fn body_sha256(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}`: write the 64 hexadecimal digits that sha256sum prints");
        let mut digest = [0; 32];
        if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(wrong());
        }
        for (byte, place) in digest.iter_mut().zip((0..64).step_by(2)) {
            *byte = u8::from_str_radix(&text[place..place + 2], 16).map_err(|_| wrong())?;
        }
        Ok(Self::BodySha256(digest))
    }
}

/// All checks of a response, ready for use.
#[derive(Clone, Debug, Default)]
pub struct Checks {
    checks: Vec<Prepared>,
    /// One of them wants the body's digest.
    hashes: bool,
    /// One of them wants to see the body at all.
    reads_body: bool,
}

#[derive(Clone, Debug)]
struct Prepared {
    check: Check,
    /// Of a text.
    needle: Option<Needle>,
}

impl Checks {
    /// # Errors
    /// Too many.
    pub fn new(checks: Vec<Check>) -> Result<Self, String> {
        if checks.len() > CHECKS_MAX {
            return Err(format!("{} checks of one response: at most {CHECKS_MAX} are possible", checks.len()));
        }
        let hashes = checks.iter().any(|check| matches!(check, Check::BodySha256(_)));
        let reads_body = hashes || checks.iter().any(|check| matches!(check, Check::BodyText(_)));
        let prepare = |check| {
            let needle = match &check {
                Check::BodyText(text) => Some(Needle::new(text.as_bytes())),
                Check::Header { .. } | Check::BodyBytes(_) | Check::BodySha256(_) => None,
            };
            Prepared { check, needle }
        };
        Ok(Self { checks: checks.into_iter().map(prepare).collect(), hashes, reads_body })
    }

    pub fn is_empty(&self) -> bool {
        self.checks.is_empty()
    }

    pub fn len(&self) -> usize {
        self.checks.len()
    }

    /// What reports call them, by index.
    pub fn names(&self) -> impl Iterator<Item = String> {
        self.checks.iter().map(|prepared| prepared.check.to_string())
    }
}

/// What is known about the response that is being read.
#[derive(Debug, Default)]
pub struct Checker {
    /// A bit for each check that is met, by index; those of length and digest are decided at the end.
    met: u32,
    /// How much of each text the last bytes of the body are, by index.
    matched: Vec<usize>,
    hash: Option<Sha256>,
    body_bytes: u64,
}

impl Checker {
    /// A request was sent: forgets the last response.
    pub fn begin(&mut self, checks: &Checks) {
        self.met = 0;
        self.matched.clear();
        self.matched.resize(checks.len(), 0);
        self.hash = checks.hashes.then(Sha256::new);
        self.body_bytes = 0;
    }

    /// A field of the response's head.
    pub fn header(&mut self, checks: &Checks, name: &[u8], value: &[u8]) {
        for (bit, prepared) in bits().zip(&checks.checks) {
            if let Check::Header { name: wanted, value: wanted_value } = &prepared.check
                && name.eq_ignore_ascii_case(wanted.as_bytes())
                && wanted_value.as_ref().is_none_or(|wanted| value == wanted.as_bytes())
            {
                self.met |= bit;
            }
        }
    }

    /// Some bytes of its body.
    pub fn body(&mut self, checks: &Checks, bytes: &[u8]) {
        self.body_bytes += bytes.len() as u64;
        if !checks.reads_body {
            return;
        }
        if let Some(hash) = &mut self.hash {
            hash.update(bytes);
        }
        for ((bit, prepared), matched) in bits().zip(&checks.checks).zip(&mut self.matched) {
            if let Some(needle) = &prepared.needle
                && self.met & bit == 0
                && needle.found(matched, bytes)
            {
                self.met |= bit;
            }
        }
    }

    /// The response is complete: the index of the first check that it does not meet.
    pub fn first_unmet(&mut self, checks: &Checks) -> Option<usize> {
        let digest: Option<[u8; 32]> = self.hash.take().map(|hash| hash.finalize().into());
        bits().zip(&checks.checks).position(|(bit, prepared)| match &prepared.check {
            Check::Header { .. } | Check::BodyText(_) => self.met & bit == 0,
            Check::BodyBytes(bytes) => *bytes != self.body_bytes,
            Check::BodySha256(wanted) => digest.as_ref() != Some(wanted),
        })
    }
}

fn bits() -> impl Iterator<Item = u32> {
    (0..u32::BITS).map(|place| 1 << place)
}

/// A checker as the sink of a response.
pub struct Checking<'c> {
    pub checks: &'c Checks,
    pub checker: &'c mut Checker,
}

impl Sink for Checking<'_> {
    fn header(&mut self, name: &[u8], value: &[u8]) {
        self.checker.header(self.checks, name, value);
    }

    fn body(&mut self, bytes: &[u8]) {
        self.checker.body(self.checks, bytes);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{ProptestConfig, any, proptest};

    use super::{CHECKS_MAX, Check, Checker, Checking, Checks};
    use crate::response::ResponseReader;

    /// Reads a response in pieces and tells the first check that it does not meet.
    fn unmet(checks: &Checks, checker: &mut Checker, response: &[u8], piece: usize) -> Option<usize> {
        let mut reader = ResponseReader::new();
        reader.expect(false);
        checker.begin(checks);
        let mut complete = false;
        for bytes in response.chunks(piece) {
            complete = reader.feed(bytes, &mut Checking { checks, checker }).unwrap();
        }
        assert!(complete);
        checker.first_unmet(checks)
    }

    const RESPONSE: &[u8] =
        b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nETag: \"1\"\r\nContent-Length: 12\r\n\r\nhello aabaab";
    /// `printf 'hello aabaab' | sha256sum`
    const DIGEST: &str = "37fd8c6151d3d03e369d2433ed1abd325e52c00fb915fe0af79613648e1a503f";

    #[test]
    fn each_check_holds_or_fails_however_the_bytes_are_cut() {
        let cases: [(Check, bool); 12] = [
            (Check::header("content-type").unwrap(), true),
            (Check::header("Content-Type: text/plain").unwrap(), true),
            (Check::header("Content-Type: Text/plain").unwrap(), false),
            (Check::header("Content-Typ").unwrap(), false),
            (Check::header("X-Missing").unwrap(), false),
            (Check::BodyBytes(12), true),
            (Check::BodyBytes(11), false),
            (Check::body_text("lo aab").unwrap(), true),
            (Check::body_text("aabaab").unwrap(), true),
            (Check::body_text("aabaabx").unwrap(), false),
            (Check::body_sha256(DIGEST).unwrap(), true),
            (Check::body_sha256(&"0".repeat(64)).unwrap(), false),
        ];
        let mut checker = Checker::default();
        for piece in [1, 2, 3, 7, RESPONSE.len()] {
            for (check, holds) in &cases {
                let checks = Checks::new(vec![check.clone()]).unwrap();
                let found = unmet(&checks, &mut checker, RESPONSE, piece);
                assert_eq!(found.is_none(), *holds, "{check} in pieces of {piece}");
            }
            let all = Checks::new(cases.iter().map(|(check, _)| check.clone()).collect()).unwrap();
            assert_eq!(unmet(&all, &mut checker, RESPONSE, piece), Some(2), "the first one that fails");
        }
    }

    #[test]
    fn a_checker_forgets_the_last_response() {
        let checks = Checks::new(vec![Check::body_text("hello").unwrap(), Check::header("ETag").unwrap()]).unwrap();
        let mut checker = Checker::default();
        assert_eq!(unmet(&checks, &mut checker, RESPONSE, 5), None);
        assert_eq!(unmet(&checks, &mut checker, b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nlo", 5), Some(0));
    }

    #[test]
    fn what_is_no_check_is_refused() {
        assert!(Check::header("no colon but spaces").is_err() && Check::header(": x").is_err());
        assert!(Check::body_text("").is_err());
        for digest in ["", "abc", &"g".repeat(64), &"é".repeat(32)] {
            assert!(Check::body_sha256(digest).is_err(), "{digest}");
        }
        assert!(Checks::new(vec![Check::BodyBytes(1); CHECKS_MAX]).is_ok());
        assert!(Checks::new(vec![Check::BodyBytes(1); CHECKS_MAX + 1]).is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(400))]
        #[test]
        fn a_text_is_found_exactly_where_the_standard_library_finds_it(
            body in "[ab]{0,40}", text in "[ab]{1,6}", cut in any::<u8>()
        ) {
            let checks = Checks::new(vec![Check::body_text(&text).unwrap()]).unwrap();
            let mut checker = Checker::default();
            checker.begin(&checks);
            let cut = usize::from(cut) % (body.len() + 1);
            checker.body(&checks, &body.as_bytes()[..cut]);
            checker.body(&checks, &body.as_bytes()[cut..]);
            assert_eq!(checker.first_unmet(&checks).is_none(), body.contains(&text));
        }
    }
}
