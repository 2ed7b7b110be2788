//! What to answer a conditional or range request with (RFC 9110 sections 13 and 14). Pure.

use std::ops::Range;
use std::time::UNIX_EPOCH;

use super::Object;
use crate::http1::Method;
use crate::http1::encode::{self, Sink};
use crate::http1::head::trim;

/// The answer's shape. A HEAD request gets the same head without the bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Plan {
    /// 200 with all bytes.
    Full,
    /// 304 without bytes.
    NotModified,
    /// 206 with these bytes, never none.
    Partial { range: Range<usize> },
    /// 416 without bytes.
    Unsatisfiable,
}

impl Plan {
    pub const fn status(&self) -> u16 {
        match self {
            Self::Full => 200,
            Self::NotModified => 304,
            Self::Partial { .. } => 206,
            Self::Unsatisfiable => 416,
        }
    }

    /// The bytes of the object that the answer carries.
    pub fn body(&self, object: &Object) -> Range<usize> {
        match self {
            Self::Full => 0..object.bytes.len(),
            Self::NotModified | Self::Unsatisfiable => 0..0,
            Self::Partial { range } => range.clone(),
        }
    }

    /// Writes `Content-Range` where the status wants one (RFC 9110 section 14.4).
    pub fn content_range(&self, object: &Object, sink: &mut impl Sink) {
        let number = |value: usize| u64::try_from(value).unwrap_or(u64::MAX);
        match self {
            Self::Full | Self::NotModified => return,
            Self::Unsatisfiable => sink.put(b"content-range: bytes */"),
            Self::Partial { range } => {
                sink.put(b"content-range: bytes ");
                encode::integer(sink, number(range.start));
                sink.put(b"-");
                encode::integer(sink, number(range.end.saturating_sub(1)));
                sink.put(b"/");
            }
        }
        encode::integer(sink, number(object.bytes.len()));
        sink.put(b"\r\n");
    }
}

/// Evaluates the preconditions in the order of RFC 9110 section 13.2.2. The arguments are field values as received.
/// Fields that make no sense are ignored, as the RFC wants it; several ranges get the whole object.
pub fn plan(
    object: &Object,
    method: Method,
    if_none_match: Option<&[u8]>,
    if_modified_since: Option<&[u8]>,
    range: Option<&[u8]>,
    if_range: Option<&[u8]>,
) -> Plan {
    // Section 13.2.1: conditions concern methods that select a representation.
    if !matches!(method, Method::Get | Method::Head) {
        return Plan::Full;
    }
    // Section 13.1.3: If-Modified-Since is ignored where If-None-Match is present.
    let unchanged = match (if_none_match, if_modified_since) {
        (Some(tags), _) => any_tag_matches(tags, &object.etag),
        (None, Some(date)) => seconds(date).is_some_and(|since| object.modified_s <= since),
        (None, None) => false,
    };
    if unchanged {
        return Plan::NotModified;
    }
    match range {
        // Section 14.2: Range is for GET only; section 13.1.5: a false If-Range means the whole object.
        Some(range) if method == Method::Get && if_range.is_none_or(|validator| is_current(object, validator)) => {
            select(range, object.bytes.len())
        }
        Some(_) | None => Plan::Full,
    }
}

/// `*` or a list of entity tags, compared weakly (section 13.1.2). A tag may contain commas.
fn any_tag_matches(value: &[u8], etag: &str) -> bool {
    let mut rest = trim(value);
    if rest == b"*" {
        return true;
    }
    loop {
        while let [b',' | b' ' | b'\t', tail @ ..] = rest {
            rest = tail;
        }
        let tag = rest.strip_prefix(b"W/").unwrap_or(rest);
        let Some(end) = tag.strip_prefix(b"\"").and_then(|inner| inner.iter().position(|byte| *byte == b'"')) else {
            return false;
        };
        let (tag, behind) = tag.split_at(end + 2);
        if tag == etag.as_bytes() {
            return true;
        }
        rest = behind;
    }
}

/// `If-Range`: a strong tag, or the exact date if that identifies the content (section 13.1.5).
fn is_current(object: &Object, validator: &[u8]) -> bool {
    let validator = trim(validator);
    if validator.starts_with(b"\"") || validator.starts_with(b"W/") {
        return validator == object.etag.as_bytes();
    }
    object.date_is_strong && seconds(validator) == Some(object.modified_s)
}

/// An HTTP date in any of its three formats (section 5.6.7) as Unix time.
fn seconds(date: &[u8]) -> Option<u64> {
    let time = httpdate::parse_http_date(std::str::from_utf8(date).ok()?).ok()?;
    Some(time.duration_since(UNIX_EPOCH).ok()?.as_secs())
}

/// `bytes=first-last`, `bytes=first-` or `bytes=-suffix` (section 14.1.2).
fn select(value: &[u8], length: usize) -> Plan {
    let Some(spec) = trim(value).split_at_checked(6).filter(|(unit, _)| unit.eq_ignore_ascii_case(b"bytes=")) else {
        return Plan::Full;
    };
    let spec = trim(spec.1);
    let Some(dash) = spec.iter().position(|byte| *byte == b'-') else { return Plan::Full };
    let (first, last) = (&spec[..dash], &spec[dash + 1..]);
    match (position(first), position(last)) {
        (None, Some(0)) if first.is_empty() => Plan::Unsatisfiable,
        (None, Some(suffix)) if first.is_empty() && length > 0 => {
            Plan::Partial { range: length.saturating_sub(suffix)..length }
        }
        (Some(first), None) if last.is_empty() => from(first, length, length),
        (Some(first), Some(last)) if first <= last => from(first, last.saturating_add(1).min(length), length),
        _ => Plan::Full,
    }
}

fn from(first: usize, end: usize, length: usize) -> Plan {
    if first < length { Plan::Partial { range: first..end } } else { Plan::Unsatisfiable }
}

/// `1*DIGIT`; a number beyond all objects is as good as the largest.
fn position(digits: &[u8]) -> Option<usize> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0usize, |number, byte| {
        byte.is_ascii_digit().then(|| number.saturating_mul(10).saturating_add(usize::from(byte - b'0')))
    })
}

#[cfg(test)]
mod tests {
    use super::{Plan, plan};
    use crate::http1::Method;
    use crate::storage::files::Object;

    const MODIFIED: &str = "Sun, 06 Nov 1994 08:49:37 GMT";

    fn object(length: usize) -> Object {
        Object {
            bytes: vec![b'x'; length].into(),
            content_type: "text/plain; charset=utf-8",
            etag: "\"a,b\"".into(),
            modified_s: 784_111_777,
            last_modified: *b"Sun, 06 Nov 1994 08:49:37 GMT",
            date_is_strong: true,
        }
    }

    #[test]
    fn conditions() {
        for (clause, none_match, since, expected) in [
            ("13.2.1 no condition", None, None, 200),
            ("13.1.2 the tag", Some("\"a,b\""), None, 304),
            ("13.1.2 weak comparison", Some("W/\"a,b\""), None, 304),
            ("13.1.2 among others", Some("\"x\", W/\"y,\" ,, \"a,b\""), None, 304),
            ("13.1.2 another tag", Some("\"a\", \"b\""), None, 200),
            ("13.1.2 any", Some(" * "), None, 304),
            ("13.1.2 without quotes", Some("a,b"), None, 200),
            ("13.1.2 unterminated", Some("\"a,b"), None, 200),
            ("13.1.2 empty", Some(""), None, 200),
            ("13.1.3 the date", None, Some(MODIFIED), 304),
            ("13.1.3 later", None, Some("Sun, 06 Nov 1994 08:49:38 GMT"), 304),
            ("13.1.3 earlier", None, Some("Sun, 06 Nov 1994 08:49:36 GMT"), 200),
            ("5.6.7 asctime", None, Some("Sun Nov  6 08:49:37 1994"), 304),
            ("13.1.3 no date", None, Some("yesterday"), 200),
            ("13.1.3 ignored beside a tag", Some("\"x\""), Some(MODIFIED), 200),
        ] {
            for method in [Method::Get, Method::Head] {
                let found =
                    plan(&object(9), method, none_match.map(str::as_bytes), since.map(str::as_bytes), None, None);
                assert_eq!(found.status(), expected, "{clause}");
            }
            let found =
                plan(&object(9), Method::Post, none_match.map(str::as_bytes), since.map(str::as_bytes), None, None);
            assert_eq!(found, Plan::Full, "{clause}");
        }
    }

    #[test]
    fn ranges() {
        let partial = |range| Plan::Partial { range };
        for (value, expected) in [
            ("bytes=0-0", partial(0..1)),
            ("bytes=2-4", partial(2..5)),
            ("Bytes= 2-4 ", partial(2..5)),
            ("bytes=2-", partial(2..9)),
            ("bytes=-3", partial(6..9)),
            ("bytes=-99", partial(0..9)),
            ("bytes=8-99999999999999999999999", partial(8..9)),
            ("bytes=9-", Plan::Unsatisfiable),
            ("bytes=99999999999999999999999-", Plan::Unsatisfiable),
            ("bytes=-0", Plan::Unsatisfiable),
            ("bytes=4-2", Plan::Full),
            ("bytes=0-1,3-4", Plan::Full),
            ("bytes=-", Plan::Full),
            ("bytes=", Plan::Full),
            ("bytes=a-b", Plan::Full),
            ("bytes=+1-2", Plan::Full),
            ("bytes=1--2", Plan::Full),
            ("lines=0-1", Plan::Full),
            ("bytes 0-1", Plan::Full),
            ("", Plan::Full),
        ] {
            let value = Some(value.as_bytes());
            assert_eq!(plan(&object(9), Method::Get, None, None, value, None), expected, "{value:?}");
            assert_eq!(plan(&object(9), Method::Head, None, None, value, None), Plan::Full, "{value:?}");
        }
        assert_eq!(plan(&object(0), Method::Get, None, None, Some(b"bytes=-5"), None), Plan::Full);
        assert_eq!(plan(&object(0), Method::Get, None, None, Some(b"bytes=0-"), None), Plan::Unsatisfiable);
        assert_eq!(plan(&object(9), Method::Get, Some(b"*"), None, Some(b"bytes=0-0"), None), Plan::NotModified);
    }

    #[test]
    fn range_conditions() {
        let found = |if_range: &str, strong| {
            let object = Object { date_is_strong: strong, ..object(9) };
            plan(&object, Method::Get, None, None, Some(b"bytes=0-0"), Some(if_range.as_bytes())).status()
        };
        assert_eq!(found("\"a,b\"", true), 206);
        assert_eq!(found("W/\"a,b\"", true), 200);
        assert_eq!(found("\"x\"", true), 200);
        assert_eq!(found(MODIFIED, true), 206);
        assert_eq!(found(MODIFIED, false), 200);
        assert_eq!(found("Sun, 06 Nov 1994 08:49:38 GMT", true), 200);
        assert_eq!(found("", true), 200);
    }

    #[test]
    fn answers_carry_what_they_say() {
        let object = object(9);
        let text = |plan: Plan| {
            let mut out = Vec::new();
            plan.content_range(&object, &mut out);
            (plan.status(), plan.body(&object), String::from_utf8(out).unwrap())
        };
        assert_eq!(text(Plan::Full), (200, 0..9, String::new()));
        assert_eq!(text(Plan::NotModified), (304, 0..0, String::new()));
        assert_eq!(text(Plan::Partial { range: 2..5 }), (206, 2..5, "content-range: bytes 2-4/9\r\n".into()));
        assert_eq!(text(Plan::Unsatisfiable), (416, 0..0, "content-range: bytes */9\r\n".into()));
    }
}
