//! What a front says by itself: pages for browsers, lines for programs, with the same head.

use crate::support::appliance::Setup;
use crate::support::program::{Program, twintier};
use crate::support::wire::{Answer, Wire};

const PAGES: &str = "Accept: text/html,application/xhtml+xml;q=0.9,*/*;q=0.8\r\n";

/// The answers to the same request of a browser and of a program, which must be a page and a line.
#[track_caller]
fn both(open: impl Fn() -> Wire, line: &str, rest: &str) -> Answer {
    let ask = |accept: &str| {
        let mut wire = open();
        wire.send(format!("{line} HTTP/1.1\r\nHost: a\r\n{accept}{rest}"));
        wire.answer()
    };
    let (page, text) = (ask(PAGES), ask("Accept: */*\r\n"));
    assert_eq!(page.status, text.status);
    assert_eq!(page.header("content-type"), Some("text/html; charset=utf-8"), "{}", page.text());
    assert_eq!(text.header("content-type"), Some("text/plain; charset=utf-8"), "{}", text.text());
    for same in ["retry-after", "vary", "allow", "connection"] {
        assert_eq!(page.header(same), text.header(same), "{same} of {line}");
    }
    assert_eq!(page.header("vary"), Some("accept"));
    let why = text.text();
    let why = why.strip_suffix('\n').expect("a whole line");
    assert!(!why.contains('\n') && page.text().contains(why), "{why} is not in {}", page.text());
    page
}

#[test]
fn a_browser_is_shown_a_page_where_no_application_answers() {
    let setup = Setup::shipped().set("cluster.fronts", "2").set("cluster.replicas", "2");
    let appliance = setup.set("timeouts.queue_ms", "100").set("limits.head_bytes_max", "8192").start();
    let open = || appliance.wire();
    let page = both(open, "GET /nowhere", "\r\n");
    assert_eq!(page.status, 404);
    assert!(page.text().contains("<title>Not found</title>"), "{}", page.text());
    assert_eq!(both(open, "TRACE /", "\r\n").status, 405);
    // Heads that are not sound, or too long: what a browser reads is among what came of them.
    assert_eq!(both(open, "GET /reqcat/", "X Y: 1\r\n\r\n").status, 400);
    let cookie = format!("Cookie: a={}\r\n\r\n", "x".repeat(9000));
    assert_eq!(both(open, "GET /reqcat/", &cookie).status, 431);
    assert_eq!(both(open, "POST /reqcat/cart/add", "Content-Length: 99999999\r\n\r\n").status, 413);

    for replica in 0..2 {
        assert_eq!(appliance.admin("POST", &format!("/servers/replica/{replica}/stop")).status, 200);
    }
    let page = both(open, "GET /reqcat/", "\r\n");
    assert_eq!((page.status, page.header("retry-after")), (503, Some("1")));
    assert!(page.text().contains("<a href=\"\">Try again</a>"), "{}", page.text());
    let mut wire = open();
    wire.send(format!("HEAD /reqcat/ HTTP/1.1\r\nHost: a\r\n{PAGES}\r\n"));
    let head = wire.answer_to("HEAD").expect("an answer");
    assert_eq!((head.status, head.header("content-length")), (503, page.header("content-length")));
    // What the head asked for is still known when the body has come and the head's bytes are gone.
    let page = both(open, "POST /directory/sign-in", "Content-Length: 3\r\n\r\na=b");
    assert_eq!(page.status, 503);
    assert!(!page.text().contains("<a"), "{}", page.text());
}

#[test]
fn a_proxy_says_so_too_where_no_server_answers() {
    let mut serve = twintier();
    // Nobody listens on a port that the kernel gave out a moment ago.
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    serve.args(["proxy", "--listen", "127.0.0.1:0", "--to", &nobody.to_string()]);
    let mut program = Program::start(&mut serve);
    let address = program.ready("proxy").parse().unwrap();
    let page = both(|| Wire::open(address), "GET /", "\r\n");
    assert_eq!(page.status, 502);
    assert!(page.text().contains("Try again in a moment"), "{}", page.text());
    let page = both(|| Wire::open(address), "POST /", "Content-Length: 0\r\n\r\n");
    assert!(page.status == 502 && page.text().contains("It is not known"), "{} {}", page.status, page.text());
}
