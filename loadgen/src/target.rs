//! What is requested: the URL of the system under test, and the bytes of a request to it.

use std::fmt::Write as _;
use std::net::{SocketAddr, ToSocketAddrs};
use std::str::FromStr;

/// An `http://` URL with its address looked up once, before any clock runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    pub address: SocketAddr,
    /// The value of `Host`: as written in the URL.
    pub authority: String,
    /// Path and query, starting with `/`.
    pub path: String,
}

impl FromStr for Target {
    type Err = String;

    fn from_str(url: &str) -> Result<Self, String> {
        let Some(rest) = url.strip_prefix("http://") else {
            return Err(format!("`{url}`: only http:// is spoken here, as in http://127.0.0.1:8080/path"));
        };
        let split = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(split);
        let path = path.split('#').next().unwrap_or("");
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        if authority.is_empty() || authority.contains('@') || !authority.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(format!("`{url}`: write a host, as in http://127.0.0.1:8080/path"));
        }
        if !path.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(format!("`{url}`: write spaces and other special characters of the path as %20 and so on"));
        }
        let has_port = authority.rsplit_once(':').is_some_and(|(_, port)| !port.ends_with(']'));
        let with_port = if has_port { authority.to_owned() } else { format!("{authority}:80") };
        let address = with_port
            .to_socket_addrs()
            .map_err(|error| format!("`{url}`: no address for `{authority}`: {error}"))?
            .next()
            .ok_or_else(|| format!("`{url}`: no address for `{authority}`"))?;
        Ok(Self { address, authority: authority.to_owned(), path })
    }
}

/// A field of a request, `Name: value` on the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    pub name: String,
    pub value: String,
}

impl FromStr for Field {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is no field: write it as \"Name: value\"");
        let (name, value) = text.split_once(':').ok_or_else(wrong)?;
        let value = value.trim();
        let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        if name.is_empty() || !name.bytes().all(token) || value.bytes().any(|byte| byte < b' ' && byte != b'\t') {
            return Err(wrong());
        }
        Ok(Self { name: name.to_owned(), value: value.to_owned() })
    }
}

/// Writes a request into `out` (RFC 9112 section 3). `Host` is the target's unless `fields` has one;
/// `Content-Length` is written when there is a body or the method expects one.
pub fn write_request<'a>(
    out: &mut Vec<u8>,
    method: &str,
    path: &str,
    authority: &str,
    fields: impl Iterator<Item = (&'a str, &'a str)> + Clone,
    body: &[u8],
) {
    let mut head = String::with_capacity(256);
    let _ = write!(head, "{method} {path} HTTP/1.1\r\n");
    if !fields.clone().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
        let _ = write!(head, "Host: {authority}\r\n");
    }
    for (name, value) in fields {
        let _ = write!(head, "{name}: {value}\r\n");
    }
    if !body.is_empty() || matches!(method, "POST" | "PUT" | "PATCH") {
        let _ = write!(head, "Content-Length: {}\r\n", body.len());
    }
    head.push_str("\r\n");
    out.extend_from_slice(head.as_bytes());
    out.extend_from_slice(body);
}

#[cfg(test)]
mod tests {
    use super::{Field, Target, write_request};

    #[test]
    fn urls_split_into_address_host_and_path() {
        let parsed = |url: &str| {
            let target: Target = url.parse().unwrap();
            (target.address.to_string(), target.authority, target.path)
        };
        let expect =
            |address: &str, authority: &str, path: &str| (address.to_owned(), authority.to_owned(), path.to_owned());
        assert_eq!(parsed("http://127.0.0.1:8080/a/b?c=d#e"), expect("127.0.0.1:8080", "127.0.0.1:8080", "/a/b?c=d"));
        assert_eq!(parsed("http://127.0.0.1"), expect("127.0.0.1:80", "127.0.0.1", "/"));
        assert_eq!(parsed("http://[::1]:81?x"), expect("[::1]:81", "[::1]:81", "/?x"));
        assert_eq!(parsed("http://[::1]/"), expect("[::1]:80", "[::1]", "/"));
        for url in [
            "https://127.0.0.1/",
            "127.0.0.1:80",
            "http://",
            "http:///x",
            "http://u@127.0.0.1/",
            "http://127.0.0.1/a b",
            "http://127.0.0.1:99999/",
        ] {
            assert!(url.parse::<Target>().is_err(), "{url}");
        }
    }

    #[test]
    fn a_request_has_one_host_and_a_length_where_it_must() {
        let text = |method, fields: &[(&'static str, &'static str)], body: &[u8]| {
            let mut out = Vec::new();
            write_request(&mut out, method, "/x", "h", fields.iter().copied(), body);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(text("GET", &[], b""), "GET /x HTTP/1.1\r\nHost: h\r\n\r\n");
        assert_eq!(
            text("POST", &[("host", "other")], b""),
            "POST /x HTTP/1.1\r\nhost: other\r\nContent-Length: 0\r\n\r\n"
        );
        assert!(text("PUT", &[("A", "b")], b"body").ends_with("A: b\r\nContent-Length: 4\r\n\r\nbody"));
    }

    #[test]
    fn fields_need_a_name_and_no_line_break() {
        let field: Field = "X-Thing:  a: b ".parse().unwrap();
        assert_eq!((field.name.as_str(), field.value.as_str()), ("X-Thing", "a: b"));
        for text in ["x", ": y", "a b: c", "a: b\r\nc: d"] {
            assert!(text.parse::<Field>().is_err(), "{text:?}");
        }
    }
}
