//! Requests from a grammar, and requests that were damaged in one or two places.

use twintier::engine::sim::Random;

/// Methods that all readers know.
pub const METHODS: [&str; 8] = ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "PROPFIND"];
/// Fields that some readers refuse when they come twice.
pub const SINGLE: [&str; 8] =
    ["referer", "if-match", "authorization", "range", "user-agent", "accept-language", "if-range", "content-type"];
const SEGMENTS: [&str; 16] = [
    "a",
    "items",
    "%20",
    "a%2Cb",
    "~x",
    "a;b=c",
    "a:b",
    "@",
    "-._~!$&'()*+,;=",
    "x.y",
    "%C3%A4",
    "0",
    "%7e",
    "A-Z",
    "a=b",
    "long-segment-of-some-bytes",
];
const QUERIES: [&str; 10] = ["a=b", "a", "", "?", "a=b&c=d", "%00", "../..", "a=http://b/c", "[]", "a%20b+c"];
const NAMES: [&str; 14] = [
    "Accept",
    "X-A",
    "x_b",
    "X-Long-Name-Of-Some-Bytes",
    "Cookie",
    "User-Agent",
    "X.C",
    "X!D",
    "Referer",
    "If-Match",
    "Authorization",
    "X-1",
    "ACCEPT-LANGUAGE",
    "Range",
];
const VALUES: [&[u8]; 14] = [
    b"",
    b"a",
    b"a, b",
    b"text/html;q=0.5",
    b"\"a\\\"b\"",
    b"a\tb",
    b"\xc3\xa4",
    b"\xff\xfe",
    b"a: b",
    b"()<>@,;:[]?={}",
    b"*/*",
    b"  padded\t ",
    b"bytes=0-1",
    b"x=y; z=\"1, 2\"",
];
const HOSTS: [&str; 8] =
    ["a", "a:80", "shop.example.com", "127.0.0.1:8080", "[::1]", "[2001:db8::1]:443", "x-y.z", "A.B"];
/// Bytes that parsers have disagreed about.
const DAMAGE: [&[u8]; 26] = [
    b"\r",
    b"\n",
    b"\r\n",
    b" ",
    b"\t",
    b"\0",
    b"\x0b",
    b"\x0c",
    b":",
    b";",
    b",",
    b"\x7f",
    b"\xa0",
    b"+",
    b"-",
    b"0",
    b"_",
    b"\\",
    b"\"",
    b"/",
    b"\r\n ",
    b"\r\n\r\n",
    b"Content-Length: 1\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Host: b\r\n",
    b"%",
];

fn pick<T: Copy>(random: &mut Random, from: &[T]) -> T {
    from[random.size(from.len())]
}

/// One request, sound seven times in ten.
pub fn request(random: &mut Random) -> Vec<u8> {
    let mut bytes = sound(random);
    if random.chance(300) {
        for _ in 0..=random.size(2) {
            damage(random, &mut bytes);
        }
    }
    bytes
}

fn target(random: &mut Random, out: &mut Vec<u8>) {
    let absolute = random.chance(60);
    if absolute {
        out.extend_from_slice(b"http://a");
    }
    for _ in 0..=random.size(4) {
        out.push(b'/');
        out.extend_from_slice(pick(random, &SEGMENTS).as_bytes());
    }
    if random.chance(400) {
        out.push(b'?');
        out.extend_from_slice(pick(random, &QUERIES).as_bytes());
    }
}

fn sound(random: &mut Random) -> Vec<u8> {
    let mut out = pick(random, &METHODS).as_bytes().to_vec();
    out.push(b' ');
    let start = out.len();
    target(random, &mut out);
    let absolute = out[start..].starts_with(b"http");
    out.extend_from_slice(b" HTTP/1.1\r\n");
    let body: Vec<u8> = (0..random.size(300)).map(|_| u8::try_from(random.below(256)).unwrap_or(0)).collect();
    let framing = random.size(5);
    let mut lines: Vec<Vec<u8>> = Vec::new();
    let host = if absolute { "a" } else { pick(random, &HOSTS) };
    let name: &[u8] = pick(random, &[&b"Host"[..], b"host", b"HOST"]);
    lines.push([name, b": ", host.as_bytes()].concat());
    for _ in 0..random.size(8) {
        let colon: &[u8] = pick(random, &[&b": "[..], b":", b":  ", b":\t"]);
        lines.push([pick(random, &NAMES).as_bytes(), colon, pick(random, &VALUES)].concat());
    }
    match framing {
        0 | 1 => lines.push(format!("Content-Length: {}", body.len()).into_bytes()),
        2 | 3 => lines.push(pick(random, &[&b"Transfer-Encoding: chunked"[..], b"transfer-encoding:Chunked"]).to_vec()),
        _ => {}
    }
    if random.chance(200) {
        lines.push(
            pick(random, &[&b"Connection: keep-alive"[..], b"Connection: X-A", b"TE: trailers", b"Keep-Alive: 5"])
                .to_vec(),
        );
    }
    let at = random.size(lines.len());
    lines.rotate_left(at);
    for line in lines {
        out.extend_from_slice(&line);
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"\r\n");
    match framing {
        0 | 1 => out.extend_from_slice(&body),
        2 | 3 => chunks(random, &body, &mut out),
        _ => {}
    }
    out
}

fn chunks(random: &mut Random, body: &[u8], out: &mut Vec<u8>) {
    let mut rest = body;
    while !rest.is_empty() {
        let (now, later) = rest.split_at(1 + random.size(rest.len()));
        let extension = pick(random, &["", "", "", ";a", ";a=b", ";a=\"b;c\""]);
        let size = if random.chance(500) { format!("{:x}", now.len()) } else { format!("{:02X}", now.len()) };
        out.extend_from_slice(format!("{size}{extension}\r\n").as_bytes());
        out.extend_from_slice(now);
        out.extend_from_slice(b"\r\n");
        rest = later;
    }
    out.extend_from_slice(pick(random, &[&b"0\r\n"[..], b"00\r\n", b"0;a=b\r\n"]));
    if random.chance(200) {
        out.extend_from_slice(b"X-Trailer: a\r\n");
    }
    out.extend_from_slice(b"\r\n");
}

fn damage(random: &mut Random, bytes: &mut Vec<u8>) {
    // Heads are more worth damaging than bodies.
    let head = bytes.windows(4).position(|window| window == b"\r\n\r\n").map_or(bytes.len(), |end| end + 4);
    let end = if random.chance(700) { head.min(bytes.len()) } else { bytes.len() };
    let at = random.size(end);
    match random.size(6) {
        0 | 1 => {
            let piece = pick(random, &DAMAGE);
            bytes.splice(at..at, piece.iter().copied());
        }
        2 => {
            bytes.remove(at);
        }
        3 => bytes[at] = pick(random, &DAMAGE)[0],
        4 => bytes[at] ^= 0x20,
        _ => {
            // A line comes twice.
            let start = bytes[..at].windows(2).rposition(|window| window == b"\r\n").map_or(0, |place| place + 2);
            let end =
                bytes[at..].windows(2).position(|window| window == b"\r\n").map_or(bytes.len(), |place| at + place + 2);
            let line = bytes[start..end].to_vec();
            bytes.splice(end..end, line);
        }
    }
}
