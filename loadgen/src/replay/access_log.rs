//! A line of an access log in the common or the combined format, as Apache, nginx and many others write it.
//!
//! ```text
//!   127.0.0.1 - frank [10/Oct/2000:13:55:36 -0700] "GET /index.html HTTP/1.0" 200 2326 "referer" "user agent"
//! ```
//! Only the time and the request are read; what follows the request is of no concern.

use chrono::DateTime;

/// What a line says about its request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'l> {
    pub unix_s: i64,
    pub method: &'l str,
    /// Path and query, starting with `/`.
    pub path: &'l str,
}

/// Reads one line.
///
/// # Errors
/// What is wrong with it, in a few words.
pub fn parse(line: &str) -> Result<Entry<'_>, &'static str> {
    let (_, rest) = line.split_once('[').ok_or("no time in brackets, such as [10/Oct/2000:13:55:36 -0700]")?;
    let (time, rest) = rest.split_once(']').ok_or("the bracket of the time is not closed")?;
    let unix_s = DateTime::parse_from_str(time, "%d/%b/%Y:%H:%M:%S %z")
        .map_err(|_| "the time is not of the form 10/Oct/2000:13:55:36 -0700")?
        .timestamp();
    let (_, rest) = rest.split_once('"').ok_or("no request in quotes, such as \"GET / HTTP/1.1\"")?;
    let (request, _) = rest.split_once('"').ok_or("the quote of the request is not closed")?;
    let mut words = request.split(' ');
    let method = words.next().unwrap_or("");
    if method.is_empty() || !method.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'-') || method == "-" {
        return Err("no method at the beginning of the request");
    }
    let path = origin_form(words.next().ok_or("the request has no path")?).ok_or("the path does not begin with /")?;
    if !path.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\') {
        return Err("the path has characters that a request may not have");
    }
    match (words.next(), words.next()) {
        (None, _) => Ok(Entry { unix_s, method, path }),
        (Some(version), None) if version.starts_with("HTTP/") => Ok(Entry { unix_s, method, path }),
        (Some(_), _) => Err("the request is not of the form METHOD PATH HTTP/1.1"),
    }
}

/// Path and query of a target; a forward proxy logs whole URLs.
fn origin_form(target: &str) -> Option<&str> {
    if target.starts_with('/') {
        return Some(target);
    }
    let rest = target.strip_prefix("http://").or_else(|| target.strip_prefix("https://"))?;
    Some(rest.find('/').map_or("/", |at| &rest[at..]))
}

#[cfg(test)]
mod tests {
    use super::{Entry, parse};

    #[test]
    fn common_and_combined_lines_are_read() {
        let common =
            r#"127.0.0.1 user-identifier frank [10/Oct/2000:13:55:36 -0700] "GET /apache_pb.gif HTTP/1.0" 200 2326"#;
        assert_eq!(parse(common), Ok(Entry { unix_s: 971_211_336, method: "GET", path: "/apache_pb.gif" }));
        let combined =
            r#"::1 - - [01/Jan/2026:00:00:00 +0000] "HEAD /a?b=[c]&d HTTP/1.1" 304 - "http://x/\"y" "curl/8 [z]""#;
        assert_eq!(parse(combined), Ok(Entry { unix_s: 1_767_225_600, method: "HEAD", path: "/a?b=[c]&d" }));
        let proxied = r#"::1 - - [01/Jan/2026:01:00:00 +0100] "GET http://host:80/x HTTP/1.1" 200 1"#;
        assert_eq!(parse(proxied), Ok(Entry { unix_s: 1_767_225_600, method: "GET", path: "/x" }));
        let old = r#"::1 - - [01/Jan/2026:00:00:00 +0000] "GET /" 200 1"#;
        assert_eq!(parse(old).unwrap().path, "/");
    }

    #[test]
    fn every_wrong_line_has_its_reason() {
        let stamp = "h - - [01/Jan/2026:00:00:00 +0000]";
        let cases = [
            (String::new(), "no time"),
            ("h - - [01/Jan/2026:00:00:00 +0000".into(), "not closed"),
            ("h - - [2026-01-01T00:00:00Z] \"GET / HTTP/1.1\"".into(), "the time"),
            (format!("{stamp} GET /"), "no request"),
            (format!("{stamp} \"GET /"), "not closed"),
            (format!("{stamp} \"-\" 408 0"), "no method"),
            (format!(r#"{stamp} "\x16\x03\x01" 400 0"#), "no method"),
            (format!("{stamp} \"GET\" 400 0"), "no path"),
            (format!("{stamp} \"OPTIONS * HTTP/1.1\" 200 0"), "does not begin"),
            (format!("{stamp} \"GET /a b HTTP/1.1\" 200 0"), "not of the form"),
            (format!("{stamp} \"GET /é HTTP/1.1\" 200 0"), "characters"),
            (format!(r#"{stamp} "GET /\x22 HTTP/1.1" 200 0"#), "characters"),
        ];
        for (line, reason) in cases {
            let found = parse(&line).unwrap_err();
            assert!(found.contains(reason), "{line}: {found}");
        }
    }
}
