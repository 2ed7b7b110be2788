//! HTTP/1.1 over real sockets, byte by byte.

use std::sync::Arc;

use crate::support::appliance::{Appliance, Setup, shared};
use crate::support::wire::Wire;

const STYLE: &str = "/reqcat/static/style.css";

fn style() -> Vec<u8> {
    std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/profiles/reqcat/static/style.css")).unwrap()
}

fn connection() -> (Arc<Appliance>, Wire) {
    let appliance = shared();
    let wire = appliance.wire();
    (appliance, wire)
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let (_appliance, mut wire) = connection();
    let paths: Vec<String> = (0..40)
        .map(|number| match number % 4 {
            0 => format!("/reqcat/items/item-{number:02}?format=json"),
            1 => STYLE.to_owned(),
            2 => "/".to_owned(),
            _ => "/nowhere".to_owned(),
        })
        .collect();
    wire.send(paths.iter().map(|path| format!("GET {path} HTTP/1.1\r\nhost: test\r\n\r\n")).collect::<String>());
    for (number, path) in paths.iter().enumerate() {
        let answer = wire.answer();
        match number % 4 {
            0 => assert_eq!(answer.json()["row"]["item"], format!("item-{number:02}"), "{path}"),
            1 => assert_eq!(answer.body, style()),
            2 => assert_eq!(answer.status, 302),
            _ => assert_eq!(answer.status, 404),
        }
    }
}

#[test]
fn a_head_may_arrive_byte_by_byte() {
    let (_appliance, mut wire) = connection();
    for byte in b"GET /reqcat/items/item-02?format=json HTTP/1.1\r\nHost: test\r\nAccept:\t*/*  \r\n\r\n" {
        wire.send([*byte]);
    }
    assert_eq!(wire.answer().json()["row"]["item"], "item-02");
}

#[test]
fn a_poisoned_pipelined_request_does_not_disturb_the_answer_before_it() {
    let (_appliance, mut wire) = connection();
    wire.send(
        "GET /reqcat/items/item-01?format=json HTTP/1.1\r\nhost: test\r\n\r\n\
         GET /reqcat/ HTTP/1.1\r\nhost: test\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n\
         GET /smuggled HTTP/1.1\r\nhost: test\r\n\r\n",
    );
    let first = wire.answer();
    assert_eq!((first.status, &first.json()["row"]["item"]), (200, &serde_json::json!("item-01")));
    let second = wire.answer();
    assert_eq!(second.status, 400);
    assert!(second.closes());
    wire.assert_closed();
}

#[test]
fn what_is_malformed_gets_400_and_the_end() {
    let appliance = shared();
    for poison in [
        "GET\r\n\r\n",
        "GET /\r\n\r\n",
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n",
        "GET / HTTP/1.1\r\nhost : a\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a\r\n folded: b\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a\r\nx: a\0b\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a\r\ncontent-length: -1\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a\r\ncontent-length: 1, 2\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a\r\ncontent-length: 99999999999999999999\r\n\r\n",
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked, chunked\r\n\r\n",
        "GET /%zz HTTP/1.1\r\nhost: a\r\n\r\n",
        "GET /reqcat/%00 HTTP/1.1\r\nhost: a\r\n\r\n",
        "GET /\u{7f} HTTP/1.1\r\nhost: a\r\n\r\n",
        "\x16\x03\x01\x02\x00\x01\x00\x01\u{fc}\x03\r\n\r\n",
    ] {
        let mut wire = appliance.wire();
        wire.send(poison);
        let answer = wire.answer();
        assert!(answer.status == 400 || answer.status == 501, "{} to {poison:?}", answer.status);
        assert!(answer.closes(), "{poison:?}");
        wire.assert_closed();
    }
    let mut wire = appliance.wire();
    wire.send("GET / HTTP/2.0\r\nhost: a\r\n\r\n");
    assert_eq!(wire.answer().status, 505);
    wire.assert_closed();
    // A chunk that lies.
    let mut wire = appliance.wire();
    wire.send("POST /directory/sign-in HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n");
    assert_eq!(wire.answer().status, 400);
    wire.assert_closed();
    assert_eq!(appliance.visitor().page("/reqcat/").status, 200, "others are not disturbed");
}

#[test]
fn an_oversized_head_gets_431() {
    let appliance = shared();
    for field in ["x".repeat(20_000), "x: y\r\n".repeat(200) + "z"] {
        let mut wire = appliance.wire();
        // The server may answer and close before it has taken everything.
        wire.try_send(format!("GET / HTTP/1.1\r\nhost: test\r\nx-long: {field}\r\n\r\n"));
        let answer = wire.answer();
        assert_eq!(answer.status, 431);
        assert!(answer.closes());
    }
}

#[test]
fn paths_and_methods_that_are_not_there() {
    let (appliance, mut wire) = connection();
    for path in ["/nowhere", "/reqcat/nowhere/at/all", "/internal/secret", "/reqcat/static/none.css"] {
        assert_eq!(wire.get(path).status, 404, "{path}");
    }
    // A file that exists, but not below the folder of static objects: such a path is not sound.
    for path in ["/reqcat/static/../code/authority.toml", "/reqcat/static/%2e%2e/code/authority.toml"] {
        assert_eq!(appliance.wire().get(path).status, 400, "{path}");
    }
    let mut visitor = appliance.visitor();
    for (method, path, allow) in [
        ("POST", "/reqcat/items/item-01", "GET, HEAD"),
        ("DELETE", "/reqcat/items/item-01", "GET, HEAD"),
        ("GET", "/directory/sign-out", "POST"),
        ("PUT", "/directory/sign-in", "GET, HEAD, POST"),
        ("POST", STYLE, "GET, HEAD"),
    ] {
        let answer = visitor.ask(method, path, &[], b"");
        assert_eq!((answer.status, answer.header("allow")), (405, Some(allow)), "{method} {path}");
    }
}

#[test]
fn head_says_what_get_would() {
    let (_appliance, mut wire) = connection();
    for path in [STYLE, "/reqcat/items/item-01", "/reqcat/?format=json", "/", "/nowhere"] {
        let get = wire.get(path);
        wire.send(format!("HEAD {path} HTTP/1.1\r\nhost: test\r\n\r\n"));
        let head = wire.answer_to("HEAD").unwrap();
        assert_eq!(head.status, get.status, "{path}");
        for field in ["content-type", "content-length", "etag", "location"] {
            assert_eq!(head.header(field), get.header(field), "{path} {field}");
        }
        assert_eq!(get.header("content-length"), Some(get.body.len().to_string().as_str()), "{path}");
    }
}

#[test]
fn static_objects_have_validators_and_ranges() {
    let (_appliance, mut wire) = connection();
    let bytes = style();
    let whole = wire.get(STYLE);
    assert_eq!((whole.status, &whole.body), (200, &bytes));
    assert_eq!(whole.header("content-type"), Some("text/css; charset=utf-8"));
    assert_eq!(whole.header("accept-ranges"), Some("bytes"));
    let (etag, modified) =
        (whole.header("etag").unwrap().to_owned(), whole.header("last-modified").unwrap().to_owned());
    let mut ask = |fields: &str| {
        wire.send(format!("GET {STYLE} HTTP/1.1\r\nhost: test\r\n{fields}\r\n"));
        wire.answer()
    };
    for fields in [
        format!("If-None-Match: {etag}\r\n"),
        format!("If-None-Match: \"x\", W/{etag}\r\n"),
        format!("If-Modified-Since: {modified}\r\n"),
    ] {
        let answer = ask(&fields);
        assert_eq!(answer.status, 304, "{fields}");
        assert_eq!(answer.header("etag"), Some(etag.as_str()));
    }
    assert_eq!(ask("If-None-Match: \"another\"\r\n").status, 200);
    assert_eq!(ask(&format!("If-None-Match: \"another\"\r\nIf-Modified-Since: {modified}\r\n")).status, 200);

    let total = bytes.len();
    for (range, wanted) in [("0-9", 0..10), ("10-", 10..total), ("-7", total - 7..total), ("5-999999", 5..total)] {
        let answer = ask(&format!("Range: bytes={range}\r\n"));
        assert_eq!((answer.status, &answer.body[..]), (206, &bytes[wanted.clone()]), "{range}");
        let expected = format!("bytes {}-{}/{total}", wanted.start, wanted.end - 1);
        assert_eq!(answer.header("content-range"), Some(expected.as_str()));
    }
    let beyond = ask("Range: bytes=999999-\r\n");
    assert_eq!((beyond.status, beyond.header("content-range")), (416, Some(format!("bytes */{total}").as_str())));
    assert_eq!(ask("Range: lines=1-2\r\n").status, 200);
    assert_eq!(ask(&format!("Range: bytes=0-9\r\nIf-Range: {etag}\r\n")).status, 206);
    assert_eq!(ask("Range: bytes=0-9\r\nIf-Range: \"old\"\r\n").status, 200);
}

#[test]
fn uploads_chunked_or_counted_are_taken_up_to_the_limit() {
    let appliance = shared();
    let mut alice = appliance.user("alice");
    let page = alice.page("/reqcat/requisitions/new").text();
    let csrf = page.split("name=\"csrf\" value=\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
    let cookie = format!("twintier_session={}", alice.cookies["twintier_session"]);
    let head = |more: &str| {
        format!(
            "POST /reqcat/requisitions HTTP/1.1\r\nhost: test\r\ncookie: {cookie}\r\naccept: text/html\r\n\
             content-type: application/x-www-form-urlencoded\r\n{more}\r\n"
        )
    };
    let body = format!("item=item-20&quantity=2&reason=chunked&csrf={csrf}");

    // Chunks of three bytes with extensions and a trailer.
    let mut wire = appliance.wire();
    let mut bytes = head("transfer-encoding: chunked\r\n");
    for chunk in body.as_bytes().chunks(3) {
        bytes.push_str(&format!("{:X};ext=\"1\"\r\n{}\r\n", chunk.len(), std::str::from_utf8(chunk).unwrap()));
    }
    bytes.push_str("0\r\nx-trailer: 1\r\n\r\n");
    wire.send(&bytes);
    let answer = wire.answer();
    assert_eq!(answer.status, 303, "{}", answer.text());
    // The connection goes on.
    wire.send(format!(
        "GET {} HTTP/1.1\r\nhost: test\r\ncookie: {cookie}\r\naccept: application/json\r\n\r\n",
        answer.location()
    ));
    assert_eq!(wire.answer().json()["row"]["reason"], "chunked");

    // Under the limit of 1 MiB, though no form wants so much.
    let long = format!("{body}&more={}", "x".repeat(1_000_000));
    wire.send(head(&format!("content-length: {}\r\n", long.len())));
    wire.send(&long);
    let answer = wire.answer();
    assert!(answer.status == 303 || answer.status == 422, "{} {}", answer.status, answer.text());

    // Over the limit, announced or not.
    let mut wire = appliance.wire();
    wire.send(head("content-length: 1048577\r\n"));
    let answer = wire.answer();
    assert_eq!(answer.status, 413);
    assert!(answer.closes());
    let mut wire = appliance.wire();
    wire.send(head("transfer-encoding: chunked\r\n"));
    let chunk = format!("10000\r\n{}\r\n", "x".repeat(65_536));
    for _ in 0..17 {
        // The server may have answered and closed.
        if !wire.try_send(&chunk) {
            break;
        }
    }
    let answer = wire.answer();
    assert_eq!(answer.status, 413);
    assert!(answer.closes());
}

#[test]
fn expect_100_continue() {
    let (_appliance, mut wire) = connection();
    wire.send(
        "POST /directory/sign-in HTTP/1.1\r\nhost: test\r\naccept: application/json\r\nexpect: 100-continue\r\n\
         content-type: application/json\r\ncontent-length: 2\r\n\r\n",
    );
    assert_eq!(wire.answer().status, 100);
    wire.send("{}");
    assert_eq!(wire.answer().status, 403, "no token");
    // A body that would be refused is not asked for.
    let mut wire = shared().wire();
    wire.send(
        "POST /directory/sign-in HTTP/1.1\r\nhost: test\r\nexpect: 100-continue\r\ncontent-length: 9999999\r\n\r\n",
    );
    assert_eq!(wire.answer().status, 413);
}

#[test]
fn http_1_0_closes_unless_asked_to_stay() {
    let appliance = shared();
    let mut wire = appliance.wire();
    for _ in 0..2 {
        wire.send(format!("GET {STYLE} HTTP/1.0\r\nconnection: keep-alive\r\n\r\n"));
        let answer = wire.answer();
        assert_eq!(answer.status, 200);
        assert!(
            answer.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("keep-alive")),
            "{:?}",
            answer.headers
        );
    }
    wire.send(format!("GET {STYLE} HTTP/1.0\r\n\r\n"));
    assert_eq!(wire.answer().body, style());
    wire.assert_closed();
    let mut wire = appliance.wire();
    wire.send(format!("GET {STYLE} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n"));
    assert!(wire.answer().closes());
    wire.assert_closed();
}

#[test]
fn a_half_closed_browser_still_gets_its_answer() {
    let (_appliance, mut wire) = connection();
    wire.send("GET /reqcat/items/item-01?format=json HTTP/1.1\r\nhost: test\r\n\r\n");
    wire.end_of_sending();
    assert_eq!(wire.answer().json()["row"]["item"], "item-01");
    wire.assert_closed();
}

#[test]
fn slow_requests_get_408_and_idle_connections_end() {
    let setup =
        Setup::shipped().set("timeouts.head_ms", "150").set("timeouts.body_ms", "150").set("timeouts.idle_ms", "400");
    let appliance = setup.start();
    let mut wire = appliance.wire();
    wire.send("GET / HTTP/1.1\r\nhost: te");
    let answer = wire.answer();
    assert_eq!(answer.status, 408);
    assert!(answer.closes());
    wire.assert_closed();
    let mut wire = appliance.wire();
    wire.send("POST /directory/sign-in HTTP/1.1\r\nhost: test\r\ncontent-length: 10\r\n\r\nabc");
    assert_eq!(wire.answer().status, 408);
    wire.assert_closed();
    let mut wire = appliance.wire();
    assert_eq!(wire.get(STYLE).status, 200);
    wire.assert_closed();
}

#[test]
fn a_connection_carries_as_many_requests_as_the_profile_says() {
    let appliance = Setup::shipped().set("limits.connection_requests_max", "3").start();
    let mut wire = appliance.wire();
    assert!(!wire.get(STYLE).closes());
    assert!(!wire.get(STYLE).closes());
    assert!(wire.get(STYLE).closes());
    wire.assert_closed();
}
