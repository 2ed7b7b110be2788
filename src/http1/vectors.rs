//! Named heads with the clause that decides them: what they mean, or the status that refuses them. Every vector is
//! also fed byte by byte, and must come out the same.

mod requests;
mod responses;

use proptest::prelude::{Strategy, any, prop, proptest};

use self::requests::REQUESTS;
use self::responses::RESPONSES;
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
