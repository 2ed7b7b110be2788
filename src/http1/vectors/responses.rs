//! Heads of responses.

use super::Vector;

/// The response to `GET` unless the name says HEAD: `status version framing`, and then `close`.
pub(super) const RESPONSES: &[Vector] = &[
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
