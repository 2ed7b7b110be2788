//! Named heads with the clause that decides them: what they mean, or the status that refuses them. Every vector is
//! also fed byte by byte, and must come out the same.

use proptest::prelude::{Strategy, any, prop, proptest};

use super::head::{Framing, Known, Method, RequestHead, ResponseHead, Version};
use super::parse::{HeadScan, ParseLimits, Progress, Reject, parse_request, parse_response};

const LIMITS: ParseLimits = ParseLimits { head_bytes_max: 512, header_count_max: 8 };

/// RFC and clause with what the vector shows; the head; its meaning (see [`describe`]) or status.
type Vector = (&'static str, &'static [u8], Result<&'static str, u16>);

/// `METHOD path?query host version framing`, and then `close`, `continue`, `upgrade` where they hold.
fn describe(bytes: &[u8], head: &RequestHead) -> String {
    let text = |span: super::head::Span| String::from_utf8_lossy(span.of(bytes)).into_owned();
    let mut out = format!("{} {}", text(head.method_text), text(head.path));
    if let Some(query) = head.query_text(bytes) {
        out += &format!("?{}", String::from_utf8_lossy(query));
    }
    out += &format!(" {}", text(head.host));
    out += if head.version == Version::Http11 { " 1.1" } else { " 1.0" };
    out += &framing(head.framing);
    for (flag, word) in [(!head.keep_alive, " close"), (head.expect_continue, " continue"), (head.upgrade, " upgrade")]
    {
        out += if flag { word } else { "" };
    }
    out
}

fn framing(framing: Framing) -> String {
    match framing {
        Framing::None => " none".into(),
        Framing::Length(length) => format!(" length={length}"),
        Framing::Chunked => " chunked".into(),
        Framing::UntilClose => " until-close".into(),
    }
}

fn request(bytes: &[u8]) -> Result<Option<String>, Reject> {
    let mut head = RequestHead::default();
    Ok(match parse_request(bytes, &LIMITS, &mut head)? {
        Progress::Incomplete => None,
        Progress::Complete => Some(describe(&bytes[..head.head_bytes], &head)),
    })
}

const REQUESTS: &[Vector] = &[
    // The request line.
    ("9112 3 a request", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", Ok("GET / a 1.1 none")),
    ("9112 3.2.1 path and query", b"GET /a/b?c=d&e HTTP/1.1\r\nHost: a\r\n\r\n", Ok("GET /a/b?c=d&e a 1.1 none")),
    ("9112 3.2.1 question marks in a query", b"GET /?a?b HTTP/1.1\r\nHost: a\r\n\r\n", Ok("GET /?a?b a 1.1 none")),
    ("9112 3.2.1 empty query", b"GET /a? HTTP/1.1\r\nHost: a\r\n\r\n", Ok("GET /a? a 1.1 none")),
    (
        "9112 3.2 bytes that browsers leave alone",
        b"GET /{a|b}^`?\\ HTTP/1.1\r\nHost: a\r\n\r\n",
        Ok("GET /{a|b}^`?\\ a 1.1 none"),
    ),
    ("9110 9.1 methods are case-sensitive", b"get / HTTP/1.1\r\nHost: a\r\n\r\n", Ok("get / a 1.1 none")),
    ("9110 9.1 unknown method is a token", b"M-SEARCH / HTTP/1.1\r\nHost: a\r\n\r\n", Ok("M-SEARCH / a 1.1 none")),
    ("9112 3 method beyond any known", b"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA / HTTP/1.1\r\nHost: a\r\n\r\n", Err(501)),
    ("9110 9.3.6 CONNECT is refused", b"CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n", Err(501)),
    ("9112 3.2.3 authority form for another method", b"GET a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n", Err(400)),
    ("9112 2.2 one empty line before", b"\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", Ok("GET / a 1.1 none")),
    ("9112 2.2 two empty lines before", b"\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", Err(400)),
    ("9112 2.2 bare LF before", b"\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", Err(400)),
    ("9112 2.2 bare CR before", b"\rGET / HTTP/1.1\r\nHost: a\r\n\r\n", Err(400)),
    ("9112 3 space before the method", b" GET / HTTP/1.1\r\nHost: a\r\n\r\n", Err(400)),
    ("9112 3 two spaces before the target", b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n", Err(400)),
    ("9112 3 tab before the target", b"GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n", Err(400)),
    ("9112 3 two spaces before the version", b"GET /  HTTP/1.1\r\nHost: a\r\n\r\n", Err(400)),
    ("9112 3 space behind the version", b"GET / HTTP/1.1 \r\nHost: a\r\n\r\n", Err(400)),
    ("9112 3 word behind the version", b"GET / HTTP/1.1 x\r\nHost: a\r\n\r\n", Err(400)),
    ("9112 3 byte that no token has", b"GE(T / HTTP/1.1\r\nHost: a\r\n\r\n", Err(400)),
    ("9112 3 NUL in the method", b"G\0T / HTTP/1.1\r\nHost: a\r\n\r\n", Err(400)),
    ("9112 3 no target", b"GET HTTP/1.1\r\nHost: a\r\n\r\n", Err(400)),
    ("9112 3.2 target is a word", b"GET a HTTP/1.1\r\nHost: a\r\n\r\n", Err(400)),
    ("9112 3.2 vertical tab in the target", b"GET /\x0b HTTP/1.1\r\nHost: a\r\n\r\n", Err(400)),
    ("9112 3.2 NUL in the target", b"GET /\0 HTTP/1.1\r\nHost: a\r\n\r\n", Err(400)),
    ("9112 3.2 DEL in the query", b"GET /?\x7f HTTP/1.1\r\nHost: a\r\n\r\n", Err(400)),
    ("9112 3.2 byte beyond ASCII in the target", b"GET /\xe4 HTTP/1.1\r\nHost: a\r\n\r\n", Err(400)),
    ("9112 3.2.1 fragment in the target", b"GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n", Err(400)),
    ("9112 3.2.1 fragment in the query", b"GET /?a#b HTTP/1.1\r\nHost: a\r\n\r\n", Err(400)),
    ("3986 3.3 backslash in the path", b"GET /a\\b HTTP/1.1\r\nHost: a\r\n\r\n", Err(400)),
    ("3986 3.3 quote in the path", b"GET /\" HTTP/1.1\r\nHost: a\r\n\r\n", Err(400)),
    ("9112 2.2 bare LF behind the request line", b"GET / HTTP/1.1\nHost: a\r\n\r\n", Err(400)),
    ("9112 2.2 bare CR behind the request line", b"GET / HTTP/1.1\rHost: a\r\n\r\n", Err(400)),
    ("9112 2.2 CR CR LF behind the request line", b"GET / HTTP/1.1\r\r\nHost: a\r\n\r\n", Err(400)),
    ("9112 2.2 CRLF inside the request line", b"GET /\r\nHTTP/1.1\r\nHost: a\r\n\r\n", Err(400)),
    // Versions.
    ("9112 2.3 HTTP/0.9 has no version", b"GET /\r\n", Err(400)),
    ("9112 2.3 HTTP/1.0 without Host", b"GET / HTTP/1.0\r\n\r\n", Ok("GET /  1.0 none close")),
    ("9110 2.5 later minor version", b"GET / HTTP/1.9\r\nHost: a\r\n\r\n", Ok("GET / a 1.1 none")),
    ("9110 15.6.6 HTTP/2.0", b"GET / HTTP/2.0\r\nHost: a\r\n\r\n", Err(505)),
    ("9113 3.4 preface of HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Err(400)),
    ("9112 2.3 HTTP/0.9 written out", b"GET / HTTP/0.9\r\nHost: a\r\n\r\n", Err(505)),
    ("9112 2.3 the name is case-sensitive", b"GET / http/1.1\r\nHost: a\r\n\r\n", Err(400)),
    ("9112 2.3 two digits", b"GET / HTTP/1.10\r\nHost: a\r\n\r\n", Err(400)),
    ("9112 2.3 comma", b"GET / HTTP/1,1\r\nHost: a\r\n\r\n", Err(400)),
    ("9112 2.3 no minor version", b"GET / HTTP/1\r\nHost: a\r\n\r\n", Err(400)),
    ("9112 2.3 another protocol", b"GET / ICAP/1.0\r\nHost: a\r\n\r\n", Err(400)),
    ("8446 5.1 TLS record on a plain port", b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03", Err(400)),
    // Absolute and asterisk form.
    ("9112 3.2.2 absolute form", b"GET http://a/b?c HTTP/1.1\r\nHost: a\r\n\r\n", Ok("GET /b?c a 1.1 none")),
    ("9112 3.2.2 scheme in upper case", b"GET HTTP://a:8/b HTTP/1.1\r\nHost: A:8\r\n\r\n", Ok("GET /b a:8 1.1 none")),
    ("9110 7.4 https without TLS", b"GET https://a/b HTTP/1.1\r\nHost: a\r\n\r\n", Err(421)),
    ("9110 4.2.3 absolute form without path", b"GET http://a HTTP/1.1\r\nHost: a\r\n\r\n", Ok("GET / a 1.1 none")),
    (
        "9110 4.2.3 absolute form with query only",
        b"GET http://a?b HTTP/1.1\r\nHost: a\r\n\r\n",
        Ok("GET /?b a 1.1 none"),
    ),
    (
        "9112 3.2.2 the absolute form overrules Host",
        b"GET http://a/ HTTP/1.1\r\nHost: b\r\n\r\n",
        Ok("GET / a 1.1 none"),
    ),
    ("9112 3.2 absolute form, malformed Host", b"GET http://a/ HTTP/1.1\r\nHost: b c\r\n\r\n", Err(400)),
    ("9112 3.2 absolute form, empty Host", b"GET http://a/ HTTP/1.1\r\nHost:\r\n\r\n", Err(400)),
    ("9112 3.2 absolute form does not replace Host", b"GET http://a/ HTTP/1.1\r\n\r\n", Err(400)),
    ("9112 3.2.2 absolute form in HTTP/1.0", b"GET http://a/ HTTP/1.0\r\n\r\n", Ok("GET / a 1.0 none close")),
    ("9110 4.2.4 userinfo in the target", b"GET http://u:p@a/ HTTP/1.1\r\nHost: a\r\n\r\n", Err(400)),
    ("9110 4.2.1 empty authority", b"GET http:///b HTTP/1.1\r\nHost: a\r\n\r\n", Err(400)),
    ("9110 4.2 another scheme", b"GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n", Err(400)),
    ("9110 4.2 scheme without slashes", b"GET http:/a HTTP/1.1\r\nHost: a\r\n\r\n", Err(400)),
    ("9112 3.2.4 asterisk form", b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", Ok("OPTIONS * a 1.1 none")),
    ("9112 3.2.4 asterisk with GET", b"GET * HTTP/1.1\r\nHost: a\r\n\r\n", Err(400)),
    ("9112 3.2.4 asterisk and more", b"OPTIONS */ HTTP/1.1\r\nHost: a\r\n\r\n", Err(400)),
    ("9112 3.2.4 OPTIONS of a path", b"OPTIONS /a HTTP/1.1\r\nHost: a\r\n\r\n", Ok("OPTIONS /a a 1.1 none")),
    // Host.
    ("9112 3.2 Host is missing", b"GET / HTTP/1.1\r\n\r\n", Err(400)),
    ("9112 3.2 Host is repeated", b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", Err(400)),
    ("9112 3.2 Host is repeated, equal", b"GET / HTTP/1.1\r\nHost: a\r\nHOST: a\r\n\r\n", Err(400)),
    ("9112 3.2 Host is repeated in HTTP/1.0", b"GET / HTTP/1.0\r\nHost: a\r\nHost: a\r\n\r\n", Err(400)),
    ("9110 4.2.1 Host is empty", b"GET / HTTP/1.1\r\nHost:\r\n\r\n", Err(400)),
    ("9110 4.2.1 Host is blank", b"GET / HTTP/1.1\r\nHost: \t \r\n\r\n", Err(400)),
    (
        "9110 7.2 Host with port",
        b"GET / HTTP/1.1\r\nHost: shop.example.com:8080\r\n\r\n",
        Ok("GET / shop.example.com:8080 1.1 none"),
    ),
    ("3986 3.2.3 Host with empty port", b"GET / HTTP/1.1\r\nHost: a:\r\n\r\n", Ok("GET / a: 1.1 none")),
    ("3986 3.2.2 Host is IPv4", b"GET / HTTP/1.1\r\nHost: 127.0.0.1:80\r\n\r\n", Ok("GET / 127.0.0.1:80 1.1 none")),
    ("3986 3.2.2 Host is IPv6", b"GET / HTTP/1.1\r\nHost: [::1]:80\r\n\r\n", Ok("GET / [::1]:80 1.1 none")),
    ("3986 3.2.2 Host is a bad IPv6", b"GET / HTTP/1.1\r\nHost: [::g]\r\n\r\n", Err(400)),
    ("3986 3.2.2 Host is IPv6 without end", b"GET / HTTP/1.1\r\nHost: [::1\r\n\r\n", Err(400)),
    ("3986 3.2.2 Host is IPv6 without brackets", b"GET / HTTP/1.1\r\nHost: ::1\r\n\r\n", Err(400)),
    ("3986 3.2.2 text behind the bracket", b"GET / HTTP/1.1\r\nHost: [::1]a\r\n\r\n", Err(400)),
    ("9110 7.2 Host is a port only", b"GET / HTTP/1.1\r\nHost: :80\r\n\r\n", Err(400)),
    ("3986 3.2.3 port is no number", b"GET / HTTP/1.1\r\nHost: a:b\r\n\r\n", Err(400)),
    ("3986 3.2.3 port 0", b"GET / HTTP/1.1\r\nHost: a:0\r\n\r\n", Err(400)),
    ("3986 3.2.3 port 65536", b"GET / HTTP/1.1\r\nHost: a:65536\r\n\r\n", Err(400)),
    ("3986 3.2.3 two ports", b"GET / HTTP/1.1\r\nHost: a:1:2\r\n\r\n", Err(400)),
    ("9110 7.2 Host with userinfo", b"GET / HTTP/1.1\r\nHost: u@a\r\n\r\n", Err(400)),
    ("9110 7.2 Host with path", b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", Err(400)),
    ("9110 7.2 Host is a URI", b"GET / HTTP/1.1\r\nHost: http://a\r\n\r\n", Err(400)),
    ("9110 5.3 Host is a list", b"GET / HTTP/1.1\r\nHost: a, b\r\n\r\n", Err(400)),
    ("9110 7.2 Host with percent-encoding", b"GET / HTTP/1.1\r\nHost: a%2eb\r\n\r\n", Err(400)),
    ("9110 7.2 Host with space", b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n", Err(400)),
    // Field lines.
    ("9112 5 no space behind the colon", b"GET / HTTP/1.1\r\nHost:a\r\n\r\n", Ok("GET / a 1.1 none")),
    ("9112 5 white space around the value", b"GET / HTTP/1.1\r\nHost: \t a\t \r\n\r\n", Ok("GET / a 1.1 none")),
    ("9112 5.1 space before the colon", b"GET / HTTP/1.1\r\nHost : a\r\n\r\n", Err(400)),
    ("9112 5.1 tab before the colon", b"GET / HTTP/1.1\r\nHost\t: a\r\n\r\n", Err(400)),
    ("9112 5.1 space in the name", b"GET / HTTP/1.1\r\nHost: a\r\nX Y: 1\r\n\r\n", Err(400)),
    ("9112 5 empty name", b"GET / HTTP/1.1\r\nHost: a\r\n: 1\r\n\r\n", Err(400)),
    ("9112 5 line without colon", b"GET / HTTP/1.1\r\nHost: a\r\nX\r\n\r\n", Err(400)),
    ("9110 5.1 name is no token", b"GET / HTTP/1.1\r\nHost: a\r\nX(: 1\r\n\r\n", Err(400)),
    ("9110 5.1 name beyond ASCII", b"GET / HTTP/1.1\r\nHost: a\r\nX\xe4: 1\r\n\r\n", Err(400)),
    ("9110 5.1 NUL in a name", b"GET / HTTP/1.1\r\nHost: a\r\nX\0: 1\r\n\r\n", Err(400)),
    ("9112 5.2 folded with space", b"GET / HTTP/1.1\r\nHost: a\r\nX: 1\r\n 2\r\n\r\n", Err(400)),
    ("9112 5.2 folded with tab", b"GET / HTTP/1.1\r\nHost: a\r\nX: 1\r\n\t2\r\n\r\n", Err(400)),
    ("9112 2.2 white space before the first field", b"GET / HTTP/1.1\r\n Host: a\r\n\r\n", Err(400)),
    ("9112 2.2 line of white space as the end", b"GET / HTTP/1.1\r\nHost: a\r\n \r\n\r\n", Err(400)),
    ("9112 2.2 bare LF behind a field", b"GET / HTTP/1.1\r\nHost: a\nX: 1\r\n\r\n", Err(400)),
    ("9112 2.2 bare CR in a value", b"GET / HTTP/1.1\r\nHost: a\r\nX: 1\rY: 2\r\n\r\n", Err(400)),
    ("9112 2.2 bare LF as the end", b"GET / HTTP/1.1\r\nHost: a\r\n\n", Err(400)),
    ("9112 2.2 CR CR LF as the end", b"GET / HTTP/1.1\r\nHost: a\r\n\r\r\n", Err(400)),
    ("9110 5.5 NUL in a value", b"GET / HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n", Err(400)),
    ("9110 5.5 control byte in a value", b"GET / HTTP/1.1\r\nHost: a\r\nX: a\x08b\r\n\r\n", Err(400)),
    ("9110 5.5 DEL in a value", b"GET / HTTP/1.1\r\nHost: a\r\nX: a\x7fb\r\n\r\n", Err(400)),
    ("9110 5.5 tab in a value", b"GET / HTTP/1.1\r\nHost: a\r\nX: aaaaaa\tb\tcccccccc\r\n\r\n", Ok("GET / a 1.1 none")),
    ("9110 5.5 obs-text in a value", b"GET / HTTP/1.1\r\nHost: a\r\nX: \xc3\xa4\xff\r\n\r\n", Ok("GET / a 1.1 none")),
    ("9110 5.5 empty value", b"GET / HTTP/1.1\r\nHost: a\r\nX:\r\nY: \r\n\r\n", Ok("GET / a 1.1 none")),
    (
        "6585 5 as many fields as the limit",
        b"GET / HTTP/1.1\r\nHost: a\r\n1:\r\n2:\r\n3:\r\n4:\r\n5:\r\n6:\r\n7:\r\n\r\n",
        Ok("GET / a 1.1 none"),
    ),
    (
        "6585 5 one field too many",
        b"GET / HTTP/1.1\r\nHost: a\r\n1:\r\n2:\r\n3:\r\n4:\r\n5:\r\n6:\r\n7:\r\n8:\r\n\r\n",
        Err(431),
    ),
    // Framing.
    ("9112 6.3 length", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n", Ok("POST / a 1.1 length=5")),
    ("9112 6.3 length zero", b"POST / HTTP/1.1\r\nHost: a\r\ncontent-length: 0\r\n\r\n", Ok("POST / a 1.1 length=0")),
    (
        "9112 6.3 GET with a body is framed alike",
        b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n",
        Ok("GET / a 1.1 length=5"),
    ),
    ("9112 6.3 no length means no body", b"POST / HTTP/1.1\r\nHost: a\r\n\r\n", Ok("POST / a 1.1 none")),
    ("9112 6.3 no length in HTTP/1.0 either", b"POST / HTTP/1.0\r\n\r\n", Ok("POST /  1.0 none close")),
    (
        "1945 8.3 a body without length ends HTTP/1.0",
        b"POST / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
        Ok("POST /  1.0 none close"),
    ),
    (
        "9110 8.6 leading zeros",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0005\r\n\r\n",
        Ok("POST / a 1.1 length=5"),
    ),
    (
        "9110 8.6 the largest length",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 18446744073709551615\r\n\r\n",
        Ok("POST / a 1.1 length=18446744073709551615"),
    ),
    ("9110 8.6 overflow", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 18446744073709551616\r\n\r\n", Err(400)),
    (
        "9110 8.6 overflow by a digit",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 184467440737095516150\r\n\r\n",
        Err(400),
    ),
    ("9110 8.6 plus sign", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +5\r\n\r\n", Err(400)),
    ("9110 8.6 minus sign", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -5\r\n\r\n", Err(400)),
    ("9110 8.6 space between digits", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5 5\r\n\r\n", Err(400)),
    ("9110 8.6 hexadecimal", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0x5\r\n\r\n", Err(400)),
    ("9110 8.6 fraction", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5.0\r\n\r\n", Err(400)),
    ("9110 8.6 underscore", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1_0\r\n\r\n", Err(400)),
    ("9110 8.6 quoted", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: \"5\"\r\n\r\n", Err(400)),
    ("9110 8.6 empty", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n\r\n", Err(400)),
    ("9112 6.3 list of equal lengths", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5, 5\r\n\r\n", Err(400)),
    (
        "9112 6.3 repeated, equal",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n",
        Err(400),
    ),
    (
        "9112 6.3 repeated, different",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
        Err(400),
    ),
    (
        "9112 6.1 chunked",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
        Ok("POST / a 1.1 chunked"),
    ),
    (
        "9112 7 codings are case-insensitive",
        b"POST / HTTP/1.1\r\nHost: a\r\nTRANSFER-ENCODING: Chunked\r\n\r\n",
        Ok("POST / a 1.1 chunked"),
    ),
    (
        "9112 6.3 both, length first",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        Err(400),
    ),
    (
        "9112 6.3 both, length last",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n",
        Err(400),
    ),
    (
        "9112 11.2 both, coding unknown",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: x\r\nContent-Length: 5\r\n\r\n",
        Err(400),
    ),
    ("9112 6.1 chunked in HTTP/1.0", b"POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", Err(400)),
    (
        "9112 6.3 chunked is not the last",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, gzip\r\n\r\n",
        Err(400),
    ),
    ("9112 6.3 chunked is absent", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n", Err(400)),
    ("9112 6.3 identity is no coding", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity\r\n\r\n", Err(400)),
    ("9112 7.1 chunked twice", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, chunked\r\n\r\n", Err(400)),
    (
        "9112 6.1 chunked on two lines",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
        Err(400),
    ),
    (
        "9112 6.1 chunked and identity on two lines",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n",
        Err(400),
    ),
    (
        "9112 6.1 coding that is not implemented",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
        Err(501),
    ),
    (
        "9112 7 chunked has no parameters",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked;q=1\r\n\r\n",
        Err(400),
    ),
    ("9112 7 chunked in quotes", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \"chunked\"\r\n\r\n", Err(400)),
    ("9112 6.1 empty coding", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\r\n\r\n", Err(400)),
    (
        "9110 5.6.1 empty element before chunked",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: , chunked\r\n\r\n",
        Err(400),
    ),
    (
        "9110 5.6.1 empty element behind chunked",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked,\r\n\r\n",
        Err(400),
    ),
    (
        "9110 5.5 vertical tab before chunked",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \x0bchunked\r\n\r\n",
        Err(400),
    ),
    (
        "9112 5.1 Transfer-Encoding with space",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding : chunked\r\n\r\n",
        Err(400),
    ),
    (
        "9112 5.2 Transfer-Encoding folded",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\r\n chunked\r\n\r\n",
        Err(400),
    ),
    ("3875 4.1.18 Transfer_Encoding", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer_Encoding: chunked\r\n\r\n", Err(400)),
    ("3875 4.1.18 Content_Length", b"POST / HTTP/1.1\r\nHost: a\r\nContent_length: 5\r\n\r\n", Err(400)),
    (
        "9110 5.1 another name with underscore",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent_Lengths: 5\r\nX_Y: 1\r\n\r\n",
        Ok("POST / a 1.1 none"),
    ),
    ("9110 9.3.8 TRACE with a body", b"TRACE / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n", Err(400)),
    ("9110 9.3.8 TRACE without a body", b"TRACE / HTTP/1.1\r\nHost: a\r\n\r\n", Ok("TRACE / a 1.1 none")),
    // Connection, Expect, Upgrade.
    ("9112 9.3 close", b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", Ok("GET / a 1.1 none close")),
    (
        "9112 9.3 close wins",
        b"GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, CLOSE\r\n\r\n",
        Ok("GET / a 1.1 none close"),
    ),
    (
        "9112 9.3 close on a second line",
        b"GET / HTTP/1.1\r\nHost: a\r\nConnection: x\r\nConnection: close\r\n\r\n",
        Ok("GET / a 1.1 none close"),
    ),
    (
        "9112 9.3 close as a part of a word",
        b"GET / HTTP/1.1\r\nHost: a\r\nConnection: closed\r\n\r\n",
        Ok("GET / a 1.1 none"),
    ),
    (
        "9112 9.3 keep-alive in HTTP/1.0",
        b"GET / HTTP/1.0\r\nHost: a\r\nConnection: Keep-Alive\r\n\r\n",
        Ok("GET / a 1.0 none"),
    ),
    (
        "9110 5.6.1 empty options",
        b"GET / HTTP/1.1\r\nHost: a\r\nConnection: ,, close ,\r\n\r\n",
        Ok("GET / a 1.1 none close"),
    ),
    ("9110 7.6.1 option is no token", b"GET / HTTP/1.1\r\nHost: a\r\nConnection: a b\r\n\r\n", Err(400)),
    (
        "9110 7.6.1 Connection names as many fields as the limit",
        b"GET / HTTP/1.1\r\nHost: a\r\nConnection: a,b,c,d,e,f,g,h,i,j,k,l,m,n,o,p\r\n\r\n",
        Ok("GET / a 1.1 none"),
    ),
    (
        "9110 7.6.1 Connection names one field too many",
        b"GET / HTTP/1.1\r\nHost: a\r\nConnection: a,b,c,d,e,f,g,h\r\nConnection: i,j,k,l,m,n,o,p,q\r\n\r\n",
        Err(400),
    ),
    ("9110 7.6.1 Connection names Host", b"GET / HTTP/1.1\r\nHost: a\r\nConnection: host\r\n\r\n", Err(400)),
    (
        "9110 7.6.1 Connection names Content-Length",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nConnection: Content-Length\r\n\r\n",
        Err(400),
    ),
    (
        "9110 10.1.1 waits for 100",
        b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-Continue\r\n\r\n",
        Ok("PUT / a 1.1 length=5 continue"),
    ),
    (
        "9110 10.1.1 nothing to wait for",
        b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nExpect: 100-continue\r\n\r\n",
        Ok("PUT / a 1.1 length=0"),
    ),
    (
        "9110 10.1.1 ignored in HTTP/1.0",
        b"PUT / HTTP/1.0\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n",
        Ok("PUT / a 1.0 length=5 close"),
    ),
    (
        "9110 10.1.1 unknown expectation before a known one",
        b"PUT / HTTP/1.1\r\nHost: a\r\nExpect: wonders\r\nExpect: 100-continue\r\n\r\n",
        Err(417),
    ),
    ("9110 10.1.1 unknown expectation", b"PUT / HTTP/1.1\r\nHost: a\r\nExpect: wonders\r\n\r\n", Err(417)),
    (
        "9110 7.8 upgrade",
        b"GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\r\n",
        Ok("GET / a 1.1 none upgrade"),
    ),
    (
        "9110 7.8 upgrade without its option",
        b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n\r\n",
        Ok("GET / a 1.1 none"),
    ),
    (
        "9110 7.8 option without upgrade",
        b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\n\r\n",
        Ok("GET / a 1.1 none"),
    ),
    (
        "9110 7.8 ignored in HTTP/1.0",
        b"GET / HTTP/1.0\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n",
        Ok("GET / a 1.0 none close"),
    ),
    // Pipelining: what follows is not looked at.
    ("9112 9.3.2 pipelined poison", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n\0\0\0", Ok("GET / a 1.1 none")),
];

/// The response to `GET` unless the name says HEAD: `status version framing`, and then `close`.
const RESPONSES: &[Vector] = &[
    ("9112 4 a response", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", Ok("200 1.1 length=5")),
    ("9112 4 empty reason", b"HTTP/1.1 200 \r\nContent-Length: 5\r\n\r\n", Ok("200 1.1 length=5")),
    ("9112 4 no space, no reason", b"HTTP/1.1 200\r\nContent-Length: 5\r\n\r\n", Ok("200 1.1 length=5")),
    (
        "9112 4 reason of words and obs-text",
        b"HTTP/1.1 200 tr\xe8s bien\r\nContent-Length: 5\r\n\r\n",
        Ok("200 1.1 length=5"),
    ),
    ("9112 6.3 until close", b"HTTP/1.1 200 OK\r\n\r\n", Ok("200 1.1 until-close close")),
    (
        "9112 6.3 until close in HTTP/1.0",
        b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n\r\n",
        Ok("200 1.0 until-close close"),
    ),
    (
        "9112 9.3 HTTP/1.0 keeps alive if it says so",
        b"HTTP/1.0 200 OK\r\nContent-Length: 1\r\nConnection: keep-alive\r\n\r\n",
        Ok("200 1.0 length=1"),
    ),
    ("9112 9.3 HTTP/1.0 closes", b"HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\n", Ok("200 1.0 length=1 close")),
    ("9112 6.3 chunked", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", Ok("200 1.1 chunked")),
    ("9112 6.3 HEAD has no body", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", Ok("200 1.1 none")),
    (
        "9112 6.3 HEAD has no body, chunked",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        Ok("200 1.1 none"),
    ),
    ("9112 6.3 HEAD has no body, no length", b"HTTP/1.1 200 OK\r\n\r\n", Ok("200 1.1 none")),
    ("9112 6.3 100 has no body", b"HTTP/1.1 100 Continue\r\n\r\n", Ok("100 1.1 none")),
    ("8297 2 103 has no body", b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n", Ok("103 1.1 none")),
    (
        "9110 15.2.2 101 ends our exchanges",
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
        Ok("101 1.1 none close"),
    ),
    ("9112 6.3 204 has no body", b"HTTP/1.1 204 No Content\r\n\r\n", Ok("204 1.1 none")),
    (
        "9112 6.3 304 has no body but a length",
        b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n",
        Ok("304 1.1 none"),
    ),
    ("9110 8.6 204 with a length", b"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n", Err(502)),
    ("9110 8.6 204 with length 0", b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n", Ok("204 1.1 none")),
    ("9110 8.6 103 with a length", b"HTTP/1.1 103 Early Hints\r\nContent-Length: 5\r\n\r\n", Err(502)),
    ("9112 6.1 204 with chunked", b"HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n", Err(502)),
    ("9112 6.1 100 with chunked", b"HTTP/1.1 100 Continue\r\nTransfer-Encoding: chunked\r\n\r\n", Err(502)),
    ("9112 6.3 both", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", Err(502)),
    ("9112 6.3 repeated length", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n", Err(502)),
    ("9112 6.3 invalid length", b"HTTP/1.1 200 OK\r\nContent-Length: 5x\r\n\r\n", Err(502)),
    ("9112 6.3 unknown coding", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n", Err(502)),
    (
        "9112 6.3 unknown coding before chunked",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
        Err(502),
    ),
    ("9112 6.1 chunked in HTTP/1.0", b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", Err(502)),
    ("9110 15 status of two digits", b"HTTP/1.1 20 OK\r\n\r\n", Err(502)),
    ("9110 15 status of four digits", b"HTTP/1.1 2000 OK\r\n\r\n", Err(502)),
    ("9110 15 status 099", b"HTTP/1.1 099 OK\r\n\r\n", Err(502)),
    ("9110 15 status 600", b"HTTP/1.1 600 OK\r\n\r\n", Err(502)),
    ("9112 4 HTTP/2", b"HTTP/2 200\r\n\r\n", Err(502)),
    ("9112 4 no protocol", b"<html>\r\n", Err(502)),
    ("9112 4 empty line before", b"\r\nHTTP/1.1 200 OK\r\n\r\n", Err(502)),
    ("9112 2.2 bare LF", b"HTTP/1.1 200 OK\n\n", Err(502)),
    ("9112 5.2 folded", b"HTTP/1.1 200 OK\r\nX: 1\r\n 2\r\n\r\n", Err(502)),
    ("9112 5.1 space before the colon", b"HTTP/1.1 200 OK\r\nX : 1\r\n\r\n", Err(502)),
    ("9110 5.5 NUL in the reason", b"HTTP/1.1 200 O\0K\r\n\r\n", Err(502)),
];

fn response(name: &str, bytes: &[u8]) -> Result<Option<String>, Reject> {
    let method = if name.contains("HEAD") { Method::Head } else { Method::Get };
    let mut head = ResponseHead::default();
    if parse_response(bytes, method, &LIMITS, &mut head)? == Progress::Incomplete {
        return Ok(None);
    }
    let version = if head.version == Version::Http11 { "1.1" } else { "1.0" };
    let close = if head.keep_alive { "" } else { " close" };
    Ok(Some(format!("{} {version}{}{close}", head.status, framing(head.framing))))
}

/// The verdict on the whole, after checking that every way to it agrees: each proper prefix is incomplete or already
/// has the same verdict.
fn verdict(name: &str, bytes: &[u8], parse: impl Fn(&[u8]) -> Result<Option<String>, Reject>) -> Result<String, u16> {
    let whole = parse(bytes);
    for end in 0..bytes.len() {
        let part = parse(&bytes[..end]);
        assert!(part == Ok(None) || part == whole, "{name}: after {end} bytes {part:?}, in the end {whole:?}");
    }
    match whole {
        Ok(Some(text)) => Ok(text),
        Ok(None) => panic!("{name}: incomplete"),
        Err(reject) => {
            assert!(reject.offset <= bytes.len(), "{name}: offset {} is outside", reject.offset);
            Err(reject.status)
        }
    }
}

#[test]
fn request_vectors() {
    for (name, bytes, expected) in REQUESTS {
        let found = verdict(name, bytes, request);
        assert_eq!(found.as_deref().map_err(|status| *status), *expected, "{name}");
    }
    assert!(REQUESTS.len() >= 120, "{} request vectors", REQUESTS.len());
}

#[test]
fn response_vectors() {
    for (name, bytes, expected) in RESPONSES {
        let found = verdict(name, bytes, |bytes| response(name, bytes));
        assert_eq!(found.as_deref().map_err(|status| *status), *expected, "{name}");
    }
}

#[test]
fn vector_names_are_unique() {
    for vectors in [REQUESTS, RESPONSES] {
        let mut names: Vec<_> = vectors.iter().map(|(name, _, _)| name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), vectors.len());
    }
}

#[test]
fn limits_do_not_depend_on_what_arrived_at_once() {
    let head_of =
        |filler: usize| format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(filler)).into_bytes();
    let overhead = head_of(0).len();
    assert!(verdict("at the limit", &head_of(512 - overhead), request).is_ok());
    // RFC 6585 section 5.
    assert_eq!(verdict("beyond the limit", &head_of(513 - overhead), request), Err(431));
    // RFC 9112 section 3.
    let long = format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(600));
    assert_eq!(verdict("long target", long.as_bytes(), request), Err(414));
}

#[test]
fn a_head_is_used_again_without_traces() {
    let mut head = RequestHead::default();
    let first = b"POST http://b/x?y HTTP/1.0\r\nHost: b\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n";
    let second = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: x-secret\r\nX-Secret: 1\r\nX: 2\r\nTE: trailers\r\n\r\n";
    assert_eq!(parse_request(first, &LIMITS, &mut head), Ok(Progress::Complete));
    assert_eq!(parse_request(second, &LIMITS, &mut head), Ok(Progress::Complete));
    assert_eq!(describe(second, &head), "GET / a 1.1 none");
    assert_eq!(head.head_bytes, second.len());
    assert_eq!(head.value(second, Known::Te), Some(&b"trailers"[..]));
    // RFC 9110 section 7.6.1.
    let hops: Vec<bool> = head.headers.iter().map(|header| head.is_hop_by_hop(second, header)).collect();
    assert_eq!(hops, [false, true, true, false, true]);
}

#[test]
fn dripped_heads_are_parsed_once_a_line() {
    let bytes = b"GET / HTTP/1.1\r\nHost: a\r\nX: yyyyyyyyyyyyyyyyyy\r\n\r\n";
    let mut scan = HeadScan::default();
    let parses = (1..=bytes.len()).filter(|end| scan.is_worth_parsing(&bytes[..*end], &LIMITS)).count();
    assert_eq!(parses, 5);
}

/// Pieces that heads are made of, sound and unsound.
fn fragments() -> impl Strategy<Value = Vec<u8>> {
    let pieces: Vec<&'static [u8]> = vec![
        b"GET",
        b"POST",
        b" ",
        b"/",
        b"a",
        b"?",
        b"http://",
        b"HTTP/1.1",
        b"HTTP/1.0",
        b"\r\n",
        b"\n",
        b"\r",
        b"\0",
        b":",
        b"Host: a\r\n",
        b"Content-Length: 5\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"Connection: close\r\n",
        b"\t",
        b"\xff",
        b"HTTP/1.1 200 OK\r\n",
        b"GET / HTTP/1.1\r\n",
        b"\r\n\r\n",
        b"[",
        b"]",
        b"5\r\nhello\r\n",
        b"0\r\n\r\n",
        b";",
        b"\"",
    ];
    prop::collection::vec(prop::sample::select(pieces), 0..24).prop_map(|parts| parts.concat())
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..700)) {
        let _ = request(&bytes);
        let _ = response("GET", &bytes);
        let _ = super::form::decode_path(&bytes, &mut String::new());
        let _ = super::cookie::find(&bytes, b"session");
        let _ = super::body::BodyReader::new(Framing::Chunked, 64).relay(&bytes);
    }

    #[test]
    fn pieces_of_heads_have_one_verdict(bytes in fragments()) {
        for parse in [request as fn(&[u8]) -> _, |bytes: &[u8]| response("GET", bytes)] {
            let whole = parse(&bytes);
            for end in 0..bytes.len() {
                let part = parse(&bytes[..end]);
                assert!(part == Ok(None) || part == whole, "after {end} bytes {part:?}, in the end {whole:?}");
            }
        }
    }

    #[test]
    fn bodies_have_one_verdict(bytes in fragments(), cut in 0..64usize) {
        let cut = cut.min(bytes.len());
        let passed = |parts: [&[u8]; 2]| {
            let mut reader = super::body::BodyReader::new(Framing::Chunked, 64);
            let (mut passed, mut behind) = (Vec::new(), 0);
            for part in parts {
                let mut at = 0;
                while at < part.len() && !reader.is_done() {
                    let step = reader.relay(&part[at..]).map_err(|reject| reject.status)?;
                    passed.extend_from_slice(&part[at..at + step.pass]);
                    at += step.pass + step.skip;
                }
                behind += part.len() - at;
            }
            Ok::<_, u16>((passed, behind, reader.is_done()))
        };
        assert_eq!(passed([&bytes, b""]), passed([&bytes[..cut], &bytes[cut..]]));
    }
}

#[test]
fn known_names_are_found_in_any_case() {
    let names = "te via host date etag range allow accept cookie expect server origin upgrade trailer if-range if-match \
        location forwarded x-real-ip connection user-agent keep-alive set-cookie retry-after content-type x-csrf-token \
        max-forwards authorization cache-control content-range if-none-match last-modified server-timing content-length \
        accept-encoding x-forwarded-for content-encoding x-forwarded-host proxy-connection transfer-encoding \
        if-modified-since x-forwarded-proto proxy-authenticate if-unmodified-since proxy-authorization";
    let mut found = Vec::new();
    for name in names.split_whitespace() {
        let known = Known::from_name(name.as_bytes());
        assert!(known != Known::Other && !found.contains(&known), "{name}");
        assert_eq!(Known::from_name(name.to_ascii_uppercase().as_bytes()), known, "{name}");
        assert_eq!(Known::from_name(format!("{name}x").as_bytes()), Known::Other, "{name}");
        found.push(known);
    }
    assert_eq!(Known::from_name(b""), Known::Other);
    assert_eq!(Known::from_name(b"x"), Known::Other);
}
