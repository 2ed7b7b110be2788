//! The jar by the RFC's rules, and beside curl's.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;

use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::SeedableRng;

use super::Jar;
use crate::arrivals::{below, index_below};

const NOW: u64 = 1_760_000_000;
const HOST: &str = "shop.example.com:8080";

#[test]
fn cookies_go_back_where_they_belong() {
    let mut jar = Jar::default();
    jar.set("session=abc=; Path=/; HttpOnly; SameSite=Lax", HOST, "/directory/sign-in", NOW);
    jar.set("view = list ", HOST, "/reqcat/items/1?x", NOW);
    jar.set("deep=1; path=/reqcat", HOST, "/x", NOW);
    assert_eq!(jar.field("/reqcat/items/2", NOW).unwrap(), "view=list; deep=1; session=abc=");
    assert_eq!(jar.field("/reqcatalog", NOW).unwrap(), "session=abc=");
    assert_eq!(jar.field("/reqcat?page=2", NOW).unwrap(), "deep=1; session=abc=");
}

#[test]
fn cookies_are_replaced_in_place_expire_and_are_deleted() {
    let mut jar = Jar::default();
    jar.set("a=1", HOST, "/", NOW);
    jar.set("b=1", HOST, "/", NOW);
    jar.set("a=2; Max-Age=10", HOST, "/", NOW);
    assert_eq!(jar.field("/", NOW + 9).unwrap(), "a=2; b=1");
    assert_eq!(jar.field("/", NOW + 10).unwrap(), "b=1");
    jar.set("b=; max-age=0", HOST, "/", NOW);
    for gone in [
        "a=; Max-Age=0",
        "a=; Expires=Thu, 01 Jan 1970 00:00:00 GMT",
        "a=; Max-Age=-5; Expires=Fri, 01 Jan 2100 00:00:00 GMT",
    ] {
        jar.set("a=1", HOST, "/", NOW);
        jar.set(gone, HOST, "/", NOW);
        assert_eq!(jar.field("/", NOW), None, "{gone}");
    }
    jar.set("nonsense", HOST, "/", NOW);
    jar.set("=x", HOST, "/", NOW);
    jar.set("a=\u{1}", HOST, "/", NOW);
    assert_eq!(jar.field("/", NOW), None);
}

#[test]
fn the_last_attribute_counts_and_what_is_none_is_passed_over() {
    let sent = |field: &str| {
        let mut jar = Jar::default();
        jar.set(field, HOST, "/a/b", NOW);
        (jar.field("/a/b", NOW).is_some(), jar.field("/c", NOW).is_some(), jar.field("/a/b", NOW + 60).is_some())
    };
    assert_eq!(sent("x=1; Path=/c; Path=/"), (true, true, true));
    assert_eq!(sent("x=1; Path=/c; Path=c"), (true, false, true));
    assert_eq!(sent("x=1; Path="), (true, false, true));
    assert_eq!(sent("x=1; Max-Age=+60; Path=/"), (true, true, true));
    assert_eq!(sent("x=1; Max-Age=60; Path=/"), (true, true, false));
    assert_eq!(sent("x=1; Max-Age=99999999999999999999; Path=/"), (true, true, true));
    assert_eq!(sent("x=1; Expires=soon; Path=/"), (true, true, true));
}

#[test]
fn domains_must_be_the_hosts_own_and_plain_http_is_not_secure() {
    let taken = |host: &str, field: &str| {
        let mut jar = Jar::default();
        jar.set(field, host, "/", NOW);
        jar.field("/", NOW).is_some()
    };
    for domain in ["shop.example.com", ".shop.example.com", "example.com", "EXAMPLE.com", ""] {
        assert!(taken(HOST, &format!("x=1; Domain={domain}")), "{domain}");
    }
    for domain in ["com", "other.com", "xample.com", "a.shop.example.com", "shop.example.com:8080"] {
        assert!(!taken(HOST, &format!("x=1; Domain={domain}")), "{domain}");
    }
    assert!(taken("127.0.0.1:1", "x=1; Domain=127.0.0.1") && !taken("127.0.0.1:1", "x=1; Domain=0.0.1"));
    assert!(taken("[::1]:80", "x=1; Domain=[::1]"));
    for field in ["x=1; Secure", "__Secure-x=1", "__Host-x=1; Path=/", "x=1; SameSite=None", "x=1; secure=no"] {
        assert!(!taken(HOST, field), "{field}");
    }
    // A secure cookie does not push out the one that is there.
    let mut jar = Jar::default();
    jar.set("x=1", HOST, "/", NOW);
    jar.set("x=2; Secure", HOST, "/", NOW);
    assert_eq!(jar.field("/", NOW).unwrap(), "x=1");
}

#[test]
fn a_full_jar_gives_up_its_earliest_cookie() {
    let mut jar = Jar::default();
    for number in 0..=super::COOKIES_MAX {
        jar.set(&format!("c{number}=1"), HOST, "/", NOW);
    }
    let field = jar.field("/", NOW).unwrap();
    assert!(field.starts_with("c1=1; ") && field.ends_with(&format!("c{}=1", super::COOKIES_MAX)));
}

/// Answers every request: `/set/…` with the fields of `cookies`, anything else with the `Cookie` that came.
fn serve(listener: &TcpListener, cookies: &[String]) {
    while let Ok((stream, _)) = listener.accept() {
        if converse(stream, cookies).is_none() {
            return;
        }
    }
}

/// `None` when the request was to stop.
fn converse(mut stream: TcpStream, cookies: &[String]) -> Option<()> {
    let mut lines = BufReader::new(stream.try_clone().ok()?);
    loop {
        let (mut line, mut cookie) = (String::new(), String::from("-"));
        if lines.read_line(&mut line).is_err() || line.is_empty() {
            return Some(());
        }
        let path = line.split(' ').nth(1)?.to_owned();
        while lines.read_line(&mut line).is_ok_and(|length| length > 2) {
            let last = line.lines().last().unwrap_or("");
            if let Some(value) = last.strip_prefix("Cookie: ") {
                cookie = value.to_owned();
            }
        }
        if path == "/stop" {
            return None;
        }
        let fields: String = match path.contains("/set/") {
            true => cookies.iter().map(|field| format!("Set-Cookie: {field}\r\n")).collect(),
            false => String::new(),
        };
        cookie.push('\n');
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n{fields}\r\n{cookie}", cookie.len());
        if stream.write_all(answer.as_bytes()).is_err() {
            return Some(());
        }
    }
}

fn random_cookie(random: &mut Xoshiro256PlusPlus) -> String {
    let mut pick = |texts: &[&str]| texts[index_below(random, texts.len())].to_owned();
    let mut field = format!(
        "{}{}{}",
        pick(&["a", "b", "c", " d ", "__Secure-e"]),
        pick(&["=", "=", "=", " = "]),
        pick(&["1", "2", "x y", "\"q\"", "", "a=b", "ü"])
    );
    for _ in 0..below(random, 4) {
        let mut pick = |texts: &[&str]| texts[index_below(random, texts.len())].to_owned();
        field.push_str(&pick(&[
            "; Path=/",
            "; path=/one",
            ";Path=/one/two",
            "; Domain=shop.example.com",
            "; domain=.example.com",
            "; Domain=elsewhere.org",
            "; Max-Age=600",
            "; Max-Age=0",
            "; Max-Age=-1",
            "; Expires=Thu, 01 Jan 1970 00:00:01 GMT",
            "; expires=Fri, 31-Dec-2099 23:59:59 GMT",
            "; HttpOnly",
            "; SameSite=Strict",
            "; Secure",
            "; unknown=1",
            ";",
        ]));
    }
    field
}

/// A well-known implementation gets the same cookies and must send the same ones back. Two kinds of `Path` are not among
/// them: without a slash at the beginning curl takes the root and RFC 6265 (section 5.2.4) the default path, and a slash at
/// the end is dropped by curl and is part of the path in section 5.1.4.
#[test]
fn curl_sends_the_same_cookies() {
    if Command::new("curl").arg("--version").output().is_err() {
        eprintln!("no curl here (apt-get install curl): its cookies are not compared");
        return;
    }
    const PATHS: [&str; 5] = ["/", "/one", "/one/two", "/one/two/three", "/onetwo"];
    let mut random = Xoshiro256PlusPlus::seed_from_u64(7);
    for round in 0..40 {
        let cookies: Vec<String> = (0..=below(&mut random, 6)).map(|_| random_cookie(&mut random)).collect();
        let set_path = ["/set/", "/one/set/x", "/one/two/set/y?q=/z/"][index_below(&mut random, 3)];
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let host = format!("shop.example.com:{port}");
        let said = std::thread::scope(|scope| {
            scope.spawn(|| serve(&listener, &cookies));
            let resolve = format!("shop.example.com:{port}:127.0.0.1");
            let mut command = Command::new("curl");
            command.args(["-sS", "--max-time", "20", "--noproxy", "*", "--resolve", &resolve, "-b", ""]);
            for path in std::iter::once(&set_path).chain(&PATHS) {
                command.arg(format!("http://{host}{path}"));
            }
            let said = command.output();
            TcpStream::connect(("127.0.0.1", port)).unwrap().write_all(b"GET /stop HTTP/1.1\r\n\r\n").unwrap();
            String::from_utf8(said.unwrap().stdout).unwrap()
        });
        let mut jar = Jar::default();
        for field in &cookies {
            jar.set(field, &host, set_path, NOW);
        }
        let expected: Vec<String> = PATHS.iter().map(|path| jar.field(path, NOW).unwrap_or("-".into())).collect();
        let found: Vec<&str> = said.lines().skip(1).collect();
        assert_eq!(found, expected, "round {round}: {cookies:?} set at {set_path}");
    }
}
