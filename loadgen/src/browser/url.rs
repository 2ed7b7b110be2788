//! Addresses within pages, and text within addresses: the parts of the URL standard that pages on one host need.

use std::borrow::Cow;

use super::html::Field;

/// What references on a page count from: the page's own address, or what its `<base href>` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Base {
    /// A path and query of the host under test.
    Local(String),
    /// Another host: a reference is foreign unless it names the host under test.
    Foreign,
}

impl Base {
    /// The base that a `<base href>` on a page with this base makes.
    pub fn with(&self, authority: &str, reference: &str) -> Self {
        self.resolve(authority, reference).map_or(Self::Foreign, Self::Local)
    }

    /// See [`resolve`].
    pub fn resolve(&self, authority: &str, reference: &str) -> Option<String> {
        match self {
            Self::Local(path) => resolve(authority, path, reference),
            Self::Foreign => match Reference::read(reference) {
                Reference::Authority { host, rest } => local(authority, host, rest),
                Reference::Relative(_) | Reference::OtherScheme => None,
            },
        }
    }
}

/// The path and query that `reference` means on the page at `path`, or `None` if it leads to another host or is no
/// address that a browser loads. Fragments are dropped.
pub fn resolve(authority: &str, path: &str, reference: &str) -> Option<String> {
    let cleaned = cleaned(reference);
    match Reference::read(&cleaned) {
        Reference::Authority { host, rest } => local(authority, host, rest),
        Reference::OtherScheme => None,
        Reference::Relative(relative) => {
            let (page, query) = split_query(path);
            let (wanted, wanted_query) = split_query(relative);
            let slashes = wanted.replace('\\', "/");
            Some(match slashes.as_bytes().first() {
                // Nothing but perhaps a query: the page itself.
                None => join(page, wanted_query.or(query)),
                Some(b'/') => join(&slashes, wanted_query),
                Some(_) => {
                    let folder = page.rsplit_once('/').map_or("", |(folder, _)| folder);
                    join(&format!("{folder}/{slashes}"), wanted_query)
                }
            })
        }
    }
}

/// Without what browsers drop: blanks and control characters around, tabs and line ends within, the fragment.
fn cleaned(reference: &str) -> Cow<'_, str> {
    let reference = reference.trim_matches(|c: char| c <= ' ');
    let reference = reference.split('#').next().unwrap_or("");
    if reference.contains(['\t', '\n', '\r']) {
        Cow::Owned(reference.replace(['\t', '\n', '\r'], ""))
    } else {
        Cow::Borrowed(reference)
    }
}

/// The kinds of reference on a page that was loaded over `http`.
enum Reference<'a> {
    /// It names a host.
    Authority { host: &'a str, rest: &'a str },
    /// It counts from the page.
    Relative(&'a str),
    /// `https`, `mailto`, `data` and so on.
    OtherScheme,
}

impl<'a> Reference<'a> {
    fn read(reference: &'a str) -> Self {
        let slash = |c: char| c == '/' || c == '\\';
        let scheme_end = reference.find(|c: char| !(c.is_ascii_alphanumeric() || "+-.".contains(c)));
        let scheme = scheme_end.filter(|&end| {
            reference[end..].starts_with(':') && reference.starts_with(|c: char| c.is_ascii_alphabetic())
        });
        let behind = match scheme {
            Some(end) if reference[..end].eq_ignore_ascii_case("http") => {
                let behind = &reference[end + 1..];
                // `http:x` counts from the page, and `http:/x` too; anything with two slashes names a host.
                if behind.chars().take(2).filter(|&c| slash(c)).count() < 2 {
                    return Self::Relative(behind);
                }
                behind
            }
            Some(_) => return Self::OtherScheme,
            None if reference.chars().take(2).filter(|&c| slash(c)).count() == 2 => reference,
            None => return Self::Relative(reference),
        };
        let behind = behind.trim_start_matches(slash);
        let end = behind.find(|c: char| slash(c) || c == '?').unwrap_or(behind.len());
        let (host, rest) = behind.split_at(end);
        Self::Authority { host, rest }
    }
}

/// The address behind a host, if it is the host under test.
fn local(authority: &str, host: &str, rest: &str) -> Option<String> {
    if !without_port(host).eq_ignore_ascii_case(without_port(authority)) {
        return None;
    }
    let (path, query) = split_query(rest);
    Some(join(&format!("/{}", path.replace('\\', "/").trim_start_matches('/')), query))
}

/// Without the port that `http` has anyway.
fn without_port(authority: &str) -> &str {
    authority.strip_suffix(":80").or(authority.strip_suffix(':')).unwrap_or(authority)
}

/// Path and query; `Some("")` is a `?` with nothing behind it.
fn split_query(text: &str) -> (&str, Option<&str>) {
    text.split_once('?').map_or((text, None), |(path, query)| (path, Some(query)))
}

fn join(path: &str, query: Option<&str>) -> String {
    let mut out = String::with_capacity(path.len() + 8);
    push_escaped(&mut out, &without_dots(path), b"\"<>`{}");
    if let Some(query) = query {
        out.push('?');
        push_escaped(&mut out, query, b"\"<>'");
    }
    out
}

fn without_dots(path: &str) -> Cow<'_, str> {
    if !path.contains("/.") && !path.contains("/%2") {
        return Cow::Borrowed(path);
    }
    let mut kept: Vec<&str> = Vec::new();
    let segments: Vec<&str> = path.split('/').skip(1).collect();
    for (index, segment) in segments.iter().enumerate() {
        let last = index + 1 == segments.len();
        match segment.to_ascii_lowercase().replace("%2e", ".").as_str() {
            "." if !last => {}
            "." => kept.push(""),
            ".." => {
                kept.pop();
                if last {
                    kept.push("");
                }
            }
            _ => kept.push(segment),
        }
    }
    Cow::Owned(format!("/{}", kept.join("/")))
}

/// Encodes what would break a request line and what browsers encode there; text that is encoded already stays.
fn push_escaped(out: &mut String, text: &str, reserved: &[u8]) {
    for byte in text.bytes() {
        if byte.is_ascii_graphic() && !reserved.contains(&byte) {
            out.push(char::from(byte));
        } else {
            push_encoded(out, byte);
        }
    }
}

/// Text as one path segment or query value.
pub fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    push_unless(&mut out, text, b"-._~");
    out
}

/// Fields as `application/x-www-form-urlencoded`. Line ends are CRLF, whichever the page or the scenario has.
pub fn encode_form(fields: &[Field]) -> String {
    let mut out = String::new();
    for Field { name, value, .. } in fields {
        if !out.is_empty() {
            out.push('&');
        }
        push_form_text(&mut out, name);
        out.push('=');
        push_form_text(&mut out, value);
    }
    out
}

fn push_form_text(out: &mut String, text: &str) {
    for (index, word) in with_crlf(text).split(' ').enumerate() {
        if index > 0 {
            out.push('+');
        }
        push_unless(out, word, b"*-._");
    }
}

/// Text with every line end as CRLF.
pub fn with_crlf(text: &str) -> Cow<'_, str> {
    if text.contains(['\r', '\n']) {
        Cow::Owned(text.replace("\r\n", "\n").replace('\r', "\n").replace('\n', "\r\n"))
    } else {
        Cow::Borrowed(text)
    }
}

fn push_unless(out: &mut String, text: &str, kept: &[u8]) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || kept.contains(&byte) {
            out.push(char::from(byte));
        } else {
            push_encoded(out, byte);
        }
    }
}

fn push_encoded(out: &mut String, byte: u8) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    out.push('%');
    out.push(char::from(DIGITS[usize::from(byte >> 4)]));
    out.push(char::from(DIGITS[usize::from(byte & 15)]));
}

#[cfg(test)]
mod tests {
    use super::{Base, encode, encode_form, resolve};
    use crate::browser::html::Field;

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
            ("p/.", Some("/a/b/p/")),
            ("%2e%2E/p", Some("/a/p")),
            ("/a//b/../c", Some("/a//c")),
            ("?y=2", Some("/a/b/c?y=2")),
            ("?", Some("/a/b/c?")),
            ("", Some("/a/b/c?x=1")),
            ("#top", Some("/a/b/c?x=1")),
            ("http://h:80/z", Some("/z")),
            ("http://h/z", Some("/z")),
            ("HTTP://H", Some("/")),
            ("//H:80", Some("/")),
            ("//h?q", Some("/?q")),
            ("http:z", Some("/a/b/z")),
            ("http:/z", Some("/z")),
            ("\\z\\y", Some("/z/y")),
            (" \n z \t", Some("/a/b/z")),
            ("z\ny", Some("/a/b/zy")),
            ("a b\"ü?<'>", Some("/a/b/a%20b%22%C3%BC?%3C%27%3E")),
            ("x/a:b", Some("/a/b/x/a:b")),
            ("http://other/z", None),
            ("http://h:81/z", None),
            ("https://h:80/z", None),
            ("mailto:a@b", None),
            ("javascript:void(0)", None),
            ("data:text/plain,x", None),
        ];
        for (reference, expected) in cases {
            assert_eq!(from(reference).as_deref(), expected, "{reference}");
        }
    }

    #[test]
    fn a_base_moves_what_is_relative() {
        let page = Base::Local("/a/b".into());
        let base = page.with("h", "/deep/er/");
        assert_eq!(base.resolve("h", "x.css").as_deref(), Some("/deep/er/x.css"));
        let foreign = page.with("h", "//cdn.example/");
        assert_eq!(foreign, Base::Foreign);
        assert_eq!((foreign.resolve("h", "x.css"), foreign.resolve("h", "/x.css")), (None, None));
        assert_eq!(foreign.resolve("h", "http://h/x.css").as_deref(), Some("/x.css"));
    }

    #[test]
    fn text_is_encoded_for_where_it_goes() {
        assert_eq!(encode("a b/ü&~"), "a%20b%2F%C3%BC%26~");
        let field = |name: &str, value: &str| Field { name: name.into(), value: value.into(), ..Field::default() };
        let fields = [field("a b", "1+1 = 2&"), field("x", "~*\n")];
        assert_eq!(encode_form(&fields), "a+b=1%2B1+%3D+2%26&x=%7E*%0D%0A");
    }
}
