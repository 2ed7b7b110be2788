//! Where a request ends: the least that a fixed-response origin must know about HTTP/1.
//!
//! It does not validate. An origin that answers everything alike needs the boundaries of requests (RFC 9112 section
//! 6.3: `Content-Length`), whether a body is wanted (`HEAD`), and whether the connection stays (section 9.3).

/// What the head of a request says about its end and the answer's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    /// Bytes of the head with its empty line.
    pub(super) bytes: usize,
    /// Bytes of the body that follow.
    pub(super) body_bytes: u64,
    /// The answer shall have no body.
    pub(super) head_only: bool,
    pub(super) persistence: Persistence,
}

/// What happens to the connection after the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Persistence {
    /// HTTP/1.1 without a word about it.
    Stay,
    /// HTTP/1.0 whose sender asked to stay: the answer must confirm it.
    StayConfirmed,
    Close,
}

/// A head whose end cannot be known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unclear {
    /// No request line, or a length that is no number.
    Malformed,
    /// A transfer coding, whose boundaries this origin does not look for.
    Coding,
}

/// Reads the head at the start of `bytes`; `None` while it is incomplete.
pub(super) fn head(bytes: &[u8]) -> Result<Option<Head>, Unclear> {
    let mut lines = Lines { bytes, at: 0 };
    // Empty lines before a request are to be ignored (RFC 9112 section 2.2).
    let request = loop {
        match lines.next() {
            Some([]) => {}
            Some(line) => break line,
            None => return Ok(None),
        }
    };
    let old = match request.strip_suffix(b" HTTP/1.1") {
        Some(_) => false,
        None if request.ends_with(b" HTTP/1.0") => true,
        None => return Err(Unclear::Malformed),
    };
    let mut head = Head {
        bytes: 0,
        body_bytes: 0,
        head_only: request.starts_with(b"HEAD "),
        persistence: if old { Persistence::Close } else { Persistence::Stay },
    };
    while let Some(line) = lines.next() {
        if line.is_empty() {
            head.bytes = lines.at;
            return Ok(Some(head));
        }
        if let Some(value) = field(line, b"content-length") {
            head.body_bytes = number(value).ok_or(Unclear::Malformed)?;
        } else if field(line, b"transfer-encoding").is_some() {
            return Err(Unclear::Coding);
        } else if let Some(value) = field(line, b"connection") {
            if names(value, b"close") {
                head.persistence = Persistence::Close;
            } else if old && names(value, b"keep-alive") {
                head.persistence = Persistence::StayConfirmed;
            }
        }
    }
    Ok(None)
}

/// Complete lines, without their ends.
struct Lines<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Lines<'a> {
    fn next(&mut self) -> Option<&'a [u8]> {
        let rest = &self.bytes[self.at..];
        let end = rest.iter().position(|&byte| byte == b'\n')?;
        self.at += end + 1;
        let line = &rest[..end];
        Some(line.strip_suffix(b"\r").unwrap_or(line))
    }
}

/// The value of a header line if it is the field `name`, given in small letters.
fn field<'a>(line: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let (start, value) = line.split_at_checked(name.len())?;
    let value = value.strip_prefix(b":")?;
    start.eq_ignore_ascii_case(name).then(|| value.trim_ascii())
}

/// Whether a comma-separated list contains a word.
fn names(list: &[u8], word: &[u8]) -> bool {
    list.split(|&byte| byte == b',').any(|item| item.trim_ascii().eq_ignore_ascii_case(word))
}

fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0_u64, |sum, &digit| {
        let digit = digit.is_ascii_digit().then(|| u64::from(digit - b'0'))?;
        sum.checked_mul(10)?.checked_add(digit)
    })
}

#[cfg(test)]
mod tests {
    use super::{Head, Persistence, Unclear, head};

    #[test]
    fn heads_end_at_the_empty_line() {
        let text = b"GET / HTTP/1.1\r\nHost: a\r\n\r\nGET /next";
        let expected = Head { bytes: 27, body_bytes: 0, head_only: false, persistence: Persistence::Stay };
        assert_eq!(head(text), Ok(Some(expected)));
        for cut in 0..expected.bytes {
            assert_eq!(head(&text[..cut]), Ok(None), "cut at {cut}");
        }
    }

    #[test]
    fn lengths_are_numbers() {
        let with = |value: &str| {
            head(format!("POST / HTTP/1.1\r\nCONTENT-LENGTH: {value} \r\n\r\n").as_bytes())
                .map(|head| head.unwrap().body_bytes)
        };
        assert_eq!(with("0"), Ok(0));
        assert_eq!(with("18446744073709551615"), Ok(u64::MAX));
        for wrong in ["", "-1", "18446744073709551616", "1,1", "0x10", "1 1"] {
            assert_eq!(with(wrong), Err(Unclear::Malformed), "{wrong}");
        }
    }

    #[test]
    fn persistence_follows_version_and_connection() {
        let of = |version: &str, line: &str| {
            head(format!("GET / HTTP/{version}\r\n{line}\r\n").as_bytes()).unwrap().unwrap().persistence
        };
        assert_eq!(of("1.1", ""), Persistence::Stay);
        assert_eq!(of("1.1", "Connection: keep-alive\r\n"), Persistence::Stay);
        assert_eq!(of("1.1", "connection: upgrade, Close\r\n"), Persistence::Close);
        assert_eq!(of("1.1", "Connection: closely\r\n"), Persistence::Stay);
        assert_eq!(of("1.0", ""), Persistence::Close);
        assert_eq!(of("1.0", "Connection: Keep-Alive\r\n"), Persistence::StayConfirmed);
    }

    #[test]
    fn what_has_no_clear_end_is_refused() {
        assert_eq!(head(b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"), Err(Unclear::Coding));
        assert_eq!(head(b"\x16\x03\x01\n"), Err(Unclear::Malformed));
        assert_eq!(head(b"GET / HTTP/2.0\r\n\r\n"), Err(Unclear::Malformed));
    }

    #[test]
    fn head_requests_want_no_body() {
        assert!(head(b"\r\nHEAD / HTTP/1.1\n\n").unwrap().unwrap().head_only);
    }
}
