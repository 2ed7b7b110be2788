//! Percent-encoding: form fields, queries and paths.

use std::borrow::Cow;

use super::parse::Reject;

/// The fields of an `application/x-www-form-urlencoded` body or a query, in order, decoded as the URL standard says:
/// `+` is a space, a broken escape stands for itself, bytes that are no UTF-8 become U+FFFD. Borrows what needs no
/// decoding.
pub fn pairs(text: &str) -> impl Iterator<Item = (Cow<'_, str>, Cow<'_, str>)> {
    raw_pairs(text).map(|(name, value)| (decode(name), decode(value)))
}

/// The value of the first field of this name.
pub fn find<'t>(text: &'t str, name: &str) -> Option<Cow<'t, str>> {
    raw_pairs(text).find(|(each, _)| decode(each) == name).map(|(_, value)| decode(value))
}

/// The same, not decoded. Queries are short: a look at each byte is cheaper than a search that pays off for long ones.
fn raw_pairs(text: &str) -> impl Iterator<Item = (&str, &str)> {
    let cut = |text: &'_ str, at: u8| text.bytes().position(|byte| byte == at);
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        loop {
            let text = rest?;
            let pair = match cut(text, b'&') {
                Some(end) => {
                    rest = Some(&text[end + 1..]);
                    &text[..end]
                }
                None => rest.take()?,
            };
            if !pair.is_empty() {
                return Some(cut(pair, b'=').map_or((pair, ""), |end| (&pair[..end], &pair[end + 1..])));
            }
        }
    })
}

/// One name or value of a form.
pub fn decode(text: &str) -> Cow<'_, str> {
    if !text.bytes().any(|byte| matches!(byte, b'%' | b'+')) {
        return Cow::Borrowed(text);
    }
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        match (byte, escape(bytes, at)) {
            (b'+', _) => decoded.push(b' '),
            (b'%', Some(value)) => {
                decoded.push(value);
                at += 2;
            }
            (other, _) => decoded.push(*other),
        }
        at += 1;
    }
    Cow::Owned(
        String::from_utf8(decoded).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()),
    )
}

/// The byte that `%XX` at this offset stands for.
fn escape(bytes: &[u8], at: usize) -> Option<u8> {
    let [b'%', high, low] = bytes.get(at..at + 3)? else { return None };
    let digit = |byte: u8| char::from(byte).to_digit(16);
    u8::try_from(digit(*high)? << 4 | digit(*low)?).ok()
}

/// Appends the text with everything but unreserved characters (RFC 3986 section 2.3) escaped.
pub fn encode(text: &str, out: &mut String) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            out.push(char::from(byte));
        } else {
            let digit = |value: u8| char::from_digit(u32::from(value), 16).unwrap_or('0').to_ascii_uppercase();
            out.push('%');
            out.push(digit(byte >> 4));
            out.push(digit(byte & 15));
        }
    }
}

/// Writes the decoded path into `path`, replacing what is there. The result begins with `/` and is what routing,
/// authorization and handlers see, so it must have one reading only:
///
/// * Slashes in a row become one, as servers behind us may merge them.
/// * Refused with 400: a broken escape, an escaped `/` or `\`, a control character or NUL (escaped or not), bytes
///   that are no UTF-8, and the segments `.` and `..`, escaped or not, also with parameters behind `;`. Browsers
///   resolve these before they ask (RFC 3986 section 5.2.4), so a path that has them was made to mislead.
///
/// # Errors
/// As listed; the offset counts from the start of `bytes`.
pub fn decode_path(bytes: &[u8], path: &mut String) -> Result<(), Reject> {
    path.clear();
    if bytes.first() != Some(&b'/') {
        return Err(Reject::new(400, "path does not begin with a slash", 0));
    }
    if is_decoded(bytes)
        && let Ok(text) = std::str::from_utf8(bytes)
    {
        path.push_str(text);
        return Ok(());
    }
    let mut decoded = std::mem::take(path).into_bytes();
    let verdict = decode_segments(bytes, &mut decoded);
    match String::from_utf8(decoded) {
        Ok(text) => *path = text,
        Err(_) if verdict.is_ok() => return Err(Reject::new(400, "path is no UTF-8", 0)),
        Err(_) => {}
    }
    verdict
}

/// Whether a path stands for itself, as nearly every one does: nothing to decode, to refuse or to merge. A segment that
/// begins with a dot is looked at more closely, whatever follows.
fn is_decoded(bytes: &[u8]) -> bool {
    let mut before = 0;
    bytes.iter().all(|&byte| {
        let plain =
            byte >= b' ' && !matches!(byte, b'%' | b'\\' | 0x7f) && !(before == b'/' && matches!(byte, b'/' | b'.'));
        before = byte;
        plain
    })
}

fn decode_segments(bytes: &[u8], decoded: &mut Vec<u8>) -> Result<(), Reject> {
    let mut at = 0;
    let mut segment_start = 0;
    while let Some(byte) = bytes.get(at) {
        let offset = at;
        let value = match byte {
            b'%' => {
                let value = escape(bytes, at).ok_or(Reject::new(400, "broken escape in the path", at))?;
                if matches!(value, b'/' | b'\\') {
                    return Err(Reject::new(400, "escaped slash in the path", at));
                }
                at += 2;
                value
            }
            b'\\' => return Err(Reject::new(400, "backslash in the path", at)),
            other => *other,
        };
        at += 1;
        if value < b' ' || value == 0x7f {
            return Err(Reject::new(400, "control character in the path", offset));
        }
        if value != b'/' {
            decoded.push(value);
            continue;
        }
        check_segment(&decoded[segment_start..], offset)?;
        if decoded.last() != Some(&b'/') {
            decoded.push(b'/');
        }
        segment_start = decoded.len();
    }
    check_segment(&decoded[segment_start..], bytes.len())
}

/// `segment` is decoded and ends before `offset`.
fn check_segment(segment: &[u8], offset: usize) -> Result<(), Reject> {
    let name = segment.split(|byte| *byte == b';').next().unwrap_or(segment);
    if matches!(name, b"." | b"..") {
        return Err(Reject::new(400, "dot segment in the path", offset.saturating_sub(1)));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{decode, decode_path, encode, find, pairs};

    #[test]
    fn decodes_forms_as_the_url_standard_does() {
        let all = |text: &str| pairs(text).map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("|");
        assert_eq!(all("a=1&b=two+words&c=%C3%A4&d"), "a=1|b=two words|c=ä|d=");
        assert_eq!(all("&&a==b&=c"), "a==b|=c");
        assert_eq!(all("a=%&b=%4&c=%zz&d=%25"), "a=%|b=%4|c=%zz|d=%");
        assert_eq!(decode("%ff"), "\u{fffd}");
        assert_eq!(find("a=1&b=2&b=3", "b").as_deref(), Some("2"));
        assert_eq!(find("a=1", "b"), None);
        let mut out = String::new();
        encode("a b/ä~", &mut out);
        assert_eq!(out, "a%20b%2F%C3%A4~");
    }

    #[test]
    fn paths_have_one_reading() {
        let mut path = "old".to_owned();
        for (raw, expected) in [
            ("/", Some("/")),
            ("/a/b", Some("/a/b")),
            ("/a%20b/%C3%A4", Some("/a b/ä")),
            ("//a///b//", Some("/a/b/")),
            ("/...", Some("/...")),
            ("/.well-known", Some("/.well-known")),
            ("/a+b", Some("/a+b")),
            ("/a%3Fb", Some("/a?b")),
            ("", None),
            ("a", None),
            ("*", None),
            ("/..", None),
            ("/a/../b", None),
            ("/a/./b", None),
            ("/.", None),
            ("/%2e%2E/b", None),
            ("/..;x/b", None),
            ("/a%2fb", None),
            ("/a%5Cb", None),
            ("/a\\b", None),
            ("/a%00", None),
            ("/a%0d%0a", None),
            ("/a%7f", None),
            ("/a%", None),
            ("/a%2", None),
            ("/a%zz", None),
            ("/a%+1", None),
            ("/%ff", None),
            ("/%c0%af", None),
        ] {
            let found = decode_path(raw.as_bytes(), &mut path).is_ok().then_some(path.as_str());
            assert_eq!(found, expected, "{raw}");
        }
    }
}
