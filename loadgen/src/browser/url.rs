//! Addresses within pages, and text within addresses.

/// The path and query that `reference` means on the page at `path`, or `None` if it leads to another host or is no
/// address that a browser loads (RFC 3986 section 5.2, without fragments).
pub fn resolve(authority: &str, path: &str, reference: &str) -> Option<String> {
    let reference = reference.trim().split('#').next().unwrap_or("");
    let local = if let Some(rest) = reference.strip_prefix("http://").or_else(|| reference.strip_prefix("//")) {
        let split = rest.find(['/', '?']).unwrap_or(rest.len());
        let (host, local) = rest.split_at(split);
        if !host.eq_ignore_ascii_case(authority) {
            return None;
        }
        if local.starts_with('/') { local.to_owned() } else { format!("/{local}") }
    } else if has_scheme(reference) {
        return None;
    } else {
        let page = path.split('?').next().unwrap_or("/");
        match reference.as_bytes().first() {
            None => path.to_owned(),
            Some(b'/') => reference.to_owned(),
            Some(b'?') => format!("{page}{reference}"),
            Some(_) => format!("{}/{reference}", page.rsplit_once('/').map_or("", |(folder, _)| folder)),
        }
    };
    Some(safe(&without_dots(&local)))
}

fn has_scheme(reference: &str) -> bool {
    let end = reference.find([':', '/', '?']).unwrap_or(reference.len());
    reference[end..].starts_with(':') && reference.bytes().next().is_some_and(|byte| byte.is_ascii_alphabetic())
}

fn without_dots(local: &str) -> String {
    let (path, query) = local.find('?').map_or((local, ""), |split| local.split_at(split));
    if !path.contains("/.") {
        return local.to_owned();
    }
    let mut kept: Vec<&str> = Vec::new();
    let segments: Vec<&str> = path.split('/').skip(1).collect();
    for (index, segment) in segments.iter().enumerate() {
        let last = index + 1 == segments.len();
        match *segment {
            "." | ".." => {
                if *segment == ".." {
                    kept.pop();
                }
                if last {
                    kept.push("");
                }
            }
            other => kept.push(other),
        }
    }
    format!("/{}{query}", kept.join("/"))
}

/// Encodes what would break a request line; text that is encoded already stays.
fn safe(local: &str) -> String {
    let mut out = String::with_capacity(local.len());
    for byte in local.bytes() {
        if byte.is_ascii_graphic() { out.push(char::from(byte)) } else { push_encoded(&mut out, byte) }
    }
    out
}

/// Text as one path segment or query value.
pub fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte))
        } else {
            push_encoded(&mut out, byte)
        }
    }
    out
}

/// Fields as `application/x-www-form-urlencoded`.
pub fn encode_form(fields: &[(String, String)]) -> String {
    let pairs: Vec<String> = fields.iter().map(|(name, value)| format!("{}={}", encode(name), encode(value))).collect();
    pairs.join("&").replace("%20", "+")
}

fn push_encoded(out: &mut String, byte: u8) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    out.push('%');
    out.push(char::from(DIGITS[usize::from(byte >> 4)]));
    out.push(char::from(DIGITS[usize::from(byte & 15)]));
}

#[cfg(test)]
mod tests {
    use super::{encode, encode_form, resolve};

    #[test]
    fn references_resolve_like_a_browsers() {
        let from = |reference| resolve("h:80", "/a/b/c?x=1", reference);
        let cases = [
            ("/p?q#f", Some("/p?q")),
            ("p", Some("/a/b/p")),
            ("./p", Some("/a/b/p")),
            ("../p/", Some("/a/p/")),
            ("../../../p", Some("/p")),
            ("..", Some("/a/")),
            ("?y=2", Some("/a/b/c?y=2")),
            ("", Some("/a/b/c?x=1")),
            ("#top", Some("/a/b/c?x=1")),
            ("http://h:80/z", Some("/z")),
            ("//H:80", Some("/")),
            ("http://other/z", None),
            ("https://h:80/z", None),
            ("mailto:a@b", None),
            ("a b", Some("/a/b/a%20b")),
        ];
        for (reference, expected) in cases {
            assert_eq!(from(reference).as_deref(), expected, "{reference}");
        }
    }

    #[test]
    fn text_is_encoded_for_where_it_goes() {
        assert_eq!(encode("a b/ü&~"), "a%20b%2F%C3%BC%26~");
        let fields = [("a b".to_owned(), "1+1 = 2&".to_owned()), ("x".to_owned(), String::new())];
        assert_eq!(encode_form(&fields), "a+b=1%2B1+%3D+2%26&x=");
    }
}
