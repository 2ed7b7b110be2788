//! Chunked bodies by clause, in pieces of every size.

use super::{BodyReader, EXTENSION_BYTES_MAX};
use crate::http1::head::Framing;

/// Payload and trailing bytes, or the status of the refusal; fed in pieces of `piece` bytes.
fn read(framing: Framing, max: u64, bytes: &[u8], piece: usize) -> Result<(Vec<u8>, usize, bool), u16> {
    let mut reader = BodyReader::new(framing, max);
    let (mut payload, mut consumed) = (Vec::new(), 0);
    for part in bytes.chunks(piece) {
        let mut at = 0;
        while at < part.len() && !reader.is_done() {
            let step = reader.read(&part[at..]).map_err(|reject| reject.status)?;
            payload.extend_from_slice(&part[at..][step.data.clone()]);
            assert!(step.consumed > 0 || step.done, "a step that takes nothing would hang its caller");
            at += step.consumed;
        }
        consumed += at;
    }
    Ok((payload, consumed, reader.is_done()))
}

/// Name with its RFC 9112 clause, body, expected payload and rest, or status.
type Vector = (&'static str, &'static [u8], Result<(&'static [u8], &'static [u8]), u16>);

const CHUNKED: &[Vector] = &[
    ("7.1 one chunk", b"5\r\nhello\r\n0\r\n\r\n", Ok((b"hello", b""))),
    ("7.1 two chunks, next message behind", b"1\r\na\r\n2\r\nbc\r\n0\r\n\r\nGET", Ok((b"abc", b"GET"))),
    ("7.1 empty body", b"0\r\n\r\n", Ok((b"", b""))),
    ("7.1 last chunk is 1*(\"0\")", b"000\r\n\r\n", Ok((b"", b""))),
    (
        "7.1 upper and lower case digits",
        b"A\r\n0123456789\r\na\r\n0123456789\r\n0\r\n\r\n",
        Ok((b"01234567890123456789", b"")),
    ),
    ("7.1 leading zeros", b"0005\r\nhello\r\n0\r\n\r\n", Ok((b"hello", b""))),
    ("7.1 CRLF inside the data is data", b"4\r\n\r\n\r\n\r\n0\r\n\r\n", Ok((b"\r\n\r\n", b""))),
    ("7.1 no size", b"\r\nhello\r\n0\r\n\r\n", Err(400)),
    ("7.1 hexadecimal prefix", b"0x5\r\nhello\r\n0\r\n\r\n", Err(400)),
    ("7.1 sign plus", b"+5\r\nhello\r\n0\r\n\r\n", Err(400)),
    ("7.1 sign minus", b"-5\r\nhello\r\n0\r\n\r\n", Err(400)),
    ("7.1 underscore", b"1_0\r\n", Err(400)),
    ("7.1 space before the size", b" 5\r\nhello\r\n0\r\n\r\n", Err(400)),
    ("7.1 space behind the size", b"5 \r\nhello\r\n0\r\n\r\n", Err(400)),
    ("7.1 letter that is no digit", b"g\r\n", Err(400)),
    ("7.1 seventeen digits overflow", b"10000000000000000\r\n", Err(400)),
    ("7.1 zeros are digits too", b"00000000000000005\r\nhello\r\n", Err(400)),
    ("7.1 sixteen digits, beyond the limit", b"ffffffffffffffff\r\n", Err(413)),
    ("7.1 chunk beyond the limit", b"401\r\n", Err(413)),
    ("7.1 bare LF behind the size", b"5\nhello\r\n0\r\n\r\n", Err(400)),
    ("7.1 CR without LF behind the size", b"5\rXhello", Err(400)),
    ("7.1 chunk longer than its size", b"5\r\nhelloX\r\n0\r\n\r\n", Err(400)),
    ("7.1 chunk shorter than its size", b"6\r\nhello\r\n0\r\n\r\n", Err(400)),
    ("7.1 bare LF behind the data", b"5\r\nhello\n0\r\n\r\n", Err(400)),
    ("7.1 two bytes of anything behind the data", b"5\r\nhelloXX0\r\n\r\n", Err(400)),
    ("7.1 CR without LF behind the data", b"5\r\nhello\rX0\r\n\r\n", Err(400)),
    ("7.1 bare LF at the very end", b"0\r\n\n", Err(400)),
    ("7.1 bare LF behind the last size", b"0\n\r\n", Err(400)),
    ("7.1 CR without LF at the very end", b"0\r\n\rX", Err(400)),
    ("7.1.1 extension without value", b"5;a\r\nhello\r\n0\r\n\r\n", Ok((b"hello", b""))),
    ("7.1.1 extension with token", b"5;a=b;c\r\nhello\r\n0;d=e\r\n\r\n", Ok((b"hello", b""))),
    ("7.1.1 extension with quoted string", b"5;a=\"b;\\\"c\"\r\nhello\r\n0\r\n\r\n", Ok((b"hello", b""))),
    ("7.1.1 bad white space around ; and =", b"5 ; a = b ; c = \"d\" ;e\r\nhello\r\n0\r\n\r\n", Ok((b"hello", b""))),
    ("7.1.1 bare semicolon", b"5;\r\nhello\r\n0\r\n\r\n", Err(400)),
    ("7.1.1 two semicolons", b"5;;a\r\nhello\r\n0\r\n\r\n", Err(400)),
    ("7.1.1 equals without value", b"5;a=\r\nhello\r\n0\r\n\r\n", Err(400)),
    ("7.1.1 value without name", b"5;=a\r\nhello\r\n0\r\n\r\n", Err(400)),
    ("7.1.1 control byte", b"5;a\x01\r\nhello\r\n0\r\n\r\n", Err(400)),
    ("7.1.1 LF in an extension", b"5;a\nhello\r\n0\r\n\r\n", Err(400)),
    ("7.1.1 LF in a quoted string", b"5;a=\"\n\"\r\nhello\r\n0\r\n\r\n", Err(400)),
    ("7.1.1 CR in a quoted string", b"5;a=\"\r\n\"\r\nhello\r\n0\r\n\r\n", Err(400)),
    ("7.1.1 unterminated quoted string", b"5;a=\"b\r\nhello\r\n0\r\n\r\n", Err(400)),
    ("7.1.1 token behind a quoted string", b"5;a=\"b\"c\r\nhello\r\n0\r\n\r\n", Err(400)),
    ("7.1.1 byte beyond ASCII in a token", b"5;\xe4\r\nhello\r\n0\r\n\r\n", Err(400)),
    ("7.1.2 trailers", b"0\r\nX-Digest: 1\r\nY:\r\n\r\nNEXT", Ok((b"", b"NEXT"))),
    ("7.1.2 trailer without colon", b"0\r\nX\r\n\r\n", Err(400)),
    ("7.1.2 space before the colon", b"0\r\nX : 1\r\n\r\n", Err(400)),
    ("7.1.2 folded trailer", b"0\r\nX: 1\r\n y\r\n\r\n", Err(400)),
    ("7.1.2 NUL in a trailer", b"0\r\nX: \0\r\n\r\n", Err(400)),
    ("7.1.2 bare LF in a trailer", b"0\r\nX: 1\nY: 2\r\n\r\n", Err(400)),
    ("9110 6.5.1 Content-Length as trailer", b"0\r\nContent-length: 5\r\n\r\n", Err(400)),
    ("9110 6.5.1 Transfer-Encoding as trailer", b"0\r\nTRANSFER-ENCODING: chunked\r\n\r\n", Err(400)),
    ("9110 6.5.1 Host as trailer", b"0\r\nHost: a\r\n\r\n", Err(400)),
    ("9110 6.5.1 longest forbidden name", b"0\r\nProxy-Authorization: a\r\n\r\n", Err(400)),
    ("9110 6.5.1 Content_Length as trailer", b"0\r\nContent_length: 5\r\n\r\n", Err(400)),
    ("9110 6.5.1 X-Forwarded-For as trailer", b"0\r\nX-Forwarded-For: 5\r\n\r\n", Err(400)),
    ("9110 6.5.1 a name that only begins so", b"0\r\nProxy-Authorizations: a\r\n\r\n", Ok((b"", b""))),
];

#[test]
fn chunked_vectors_whatever_the_pieces() {
    for (name, bytes, expected) in CHUNKED {
        for piece in 1..=bytes.len() {
            match (read(Framing::Chunked, 1024, bytes, piece), expected) {
                (Ok((payload, consumed, done)), Ok((data, rest))) => {
                    assert_eq!(&payload, data, "{name}, pieces of {piece}");
                    assert_eq!(&&bytes[consumed..], rest, "{name}, pieces of {piece}");
                    assert!(done, "{name}, pieces of {piece}");
                }
                (Err(status), Err(expected)) => assert_eq!(status, *expected, "{name}, pieces of {piece}"),
                (found, _) => panic!("{name}, pieces of {piece}: {found:?}"),
            }
        }
    }
}

#[test]
fn relays_whole_chunked_bodies_and_no_more() {
    for (name, bytes, expected) in CHUNKED {
        for piece in 1..=bytes.len() {
            match (relay(bytes, piece), expected) {
                (Ok((passed, consumed)), Ok((data, rest))) => {
                    assert_eq!(&&bytes[consumed..], rest, "{name}, pieces of {piece}");
                    // What was passed on is the same body, and nothing in it is an extension.
                    let again = read(Framing::Chunked, 1024, &passed, passed.len());
                    assert_eq!(again, Ok((data.to_vec(), passed.len(), true)), "{name}, pieces of {piece}");
                    let bare = !name.starts_with("7.1.1") || !passed.contains(&b';');
                    assert!(bare, "{name}: {:?}", String::from_utf8_lossy(&passed));
                }
                (Err(status), Err(expected)) => assert_eq!(status, *expected, "{name}, pieces of {piece}"),
                (found, _) => panic!("{name}, pieces of {piece}: {found:?}"),
            }
        }
    }
}

/// What a proxy passes on, and how much of `bytes` it has dealt with; or the status of the refusal.
fn relay(bytes: &[u8], piece: usize) -> Result<(Vec<u8>, usize), u16> {
    let mut reader = BodyReader::new(Framing::Chunked, 1024);
    let (mut passed, mut consumed) = (Vec::new(), 0);
    for part in bytes.chunks(piece) {
        let mut at = 0;
        while at < part.len() && !reader.is_done() {
            let step = reader.relay(&part[at..]).map_err(|reject| reject.status)?;
            assert!(step.pass + step.skip > 0 || step.done, "a step that takes nothing would hang its caller");
            passed.extend_from_slice(&part[at..at + step.pass]);
            at += step.pass + step.skip;
        }
        consumed += at;
    }
    assert!(reader.is_done());
    Ok((passed, consumed))
}

#[test]
fn counts_and_ends_by_close() {
    for piece in 1..8 {
        assert_eq!(read(Framing::Length(5), 5, b"helloGET", piece), Ok((b"hello".to_vec(), 5, true)));
        assert_eq!(read(Framing::UntilClose, 8, b"hello", piece), Ok((b"hello".to_vec(), 5, false)));
        assert_eq!(read(Framing::UntilClose, 4, b"hello", piece), Err(413));
        assert_eq!(read(Framing::None, 4, b"hello", piece), Ok((vec![], 0, true)));
    }
    let mut reader = BodyReader::new(Framing::Length(6), 5);
    assert_eq!(reader.check().map_err(|reject| reject.status), Err(413));
    assert_eq!(reader.read(b"").map_err(|reject| reject.status), Err(413));
    assert!(BodyReader::new(Framing::Length(u64::MAX), u64::MAX).read(b"x").is_ok_and(|step| step.consumed == 1));
}

#[test]
fn end_of_input_tells_whole_from_cut_bodies() {
    let mut reader = BodyReader::new(Framing::UntilClose, 9);
    assert!(reader.read(b"abc").is_ok() && reader.end_of_input().is_ok() && reader.is_done());
    let mut reader = BodyReader::new(Framing::Length(4), 9);
    assert!(reader.read(b"abc").is_ok() && reader.end_of_input().is_err());
    let mut reader = BodyReader::new(Framing::Chunked, 9);
    assert!(reader.read(b"3\r\nabc\r\n0\r\n").is_ok() && reader.end_of_input().is_err());
}

#[test]
fn framing_overhead_is_bounded() {
    let chunk = b"1;aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\nx\r\n";
    let many = chunk.repeat(usize::try_from(EXTENSION_BYTES_MAX).unwrap() / 32 + 1);
    assert_eq!(read(Framing::Chunked, 1 << 20, &many, many.len()), Err(400));
    let mut trailers = b"0\r\n".to_vec();
    trailers.extend_from_slice(&b"X: aaaaaaaaaaaaaaaa\r\n".repeat(1000));
    assert_eq!(read(Framing::Chunked, 1 << 20, &trailers, trailers.len()), Err(431));
}
