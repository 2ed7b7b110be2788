//! A browser: one keep-alive connection, a cookie jar, forms with their CSRF token.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use super::wire::{Answer, Wire};

pub struct Browser {
    address: SocketAddr,
    wire: Option<Wire>,
    pub cookies: BTreeMap<String, String>,
    csrf: String,
}

fn encode(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    text.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

impl Browser {
    /// Somebody who has not been here before.
    pub fn visitor(address: SocketAddr) -> Self {
        Self { address, wire: None, cookies: BTreeMap::new(), csrf: String::new() }
    }

    /// Somebody who has signed in; the shipped passwords are `NAME-password`.
    #[track_caller]
    pub fn signed_in(address: SocketAddr, user: &str) -> Self {
        let mut browser = Self::visitor(address);
        let answer = browser.sign_in(user, &format!("{user}-password"));
        assert_eq!(answer.status, 303, "{user} cannot sign in: {}", answer.text());
        // Any page carries the token of the new session.
        browser.page("/directory/");
        browser
    }

    /// The session's token, as the page seen last had it.
    pub fn csrf(&self) -> &str {
        &self.csrf
    }

    /// The same session over a connection of its own, as browsers have several.
    pub fn another_connection(&self) -> Self {
        Self { address: self.address, wire: None, cookies: self.cookies.clone(), csrf: self.csrf.clone() }
    }

    #[track_caller]
    pub fn sign_in(&mut self, user: &str, password: &str) -> Answer {
        let form = self.page("/directory/sign-in");
        assert_eq!(form.status, 200);
        self.post("/directory/sign-in", &[("user", user), ("password", password)])
    }

    /// Sends a request as it is given, with cookies, and takes what the answer says about them.
    #[track_caller]
    pub fn ask(&mut self, method: &str, path: &str, fields: &[(&str, &str)], body: &[u8]) -> Answer {
        let mut head = format!("{method} {path} HTTP/1.1\r\nhost: {}\r\n", self.address);
        for (name, value) in fields {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        if !self.cookies.is_empty() {
            let cookies: Vec<String> = self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
            head.push_str(&format!("cookie: {}\r\n", cookies.join("; ")));
        }
        if !body.is_empty() || method == "POST" {
            head.push_str(&format!("content-length: {}\r\n", body.len()));
        }
        head.push_str("\r\n");
        let mut bytes = head.into_bytes();
        bytes.extend_from_slice(body);
        let wire = self.wire.get_or_insert_with(|| Wire::open(self.address));
        wire.send(&bytes);
        let answer = wire.answer_to(method).unwrap_or_else(|| panic!("no answer to {method} {path}"));
        assert!(answer.whole, "{method} {path}: the answer is cut");
        if answer.closes() {
            self.wire = None;
        }
        if let Some(set) = answer.header("set-cookie") {
            let (pair, attributes) = set.split_once(';').unwrap();
            let (name, value) = pair.split_once('=').unwrap();
            if attributes.contains("Max-Age=0") {
                self.cookies.remove(name);
            } else {
                self.cookies.insert(name.to_owned(), value.to_owned());
            }
        }
        answer
    }

    /// A page as HTML; a redirect to the same page with a new cookie is followed once.
    #[track_caller]
    pub fn page(&mut self, path: &str) -> Answer {
        let mut answer = self.ask("GET", path, &[("accept", "text/html")], b"");
        if answer.status == 303 && answer.location() == path {
            answer = self.ask("GET", path, &[("accept", "text/html")], b"");
        }
        if let Some((_, rest)) = answer.text().split_once("name=\"csrf\" value=\"") {
            self.csrf = rest.split('"').next().unwrap().to_owned();
        }
        answer
    }

    /// The same page as JSON.
    #[track_caller]
    pub fn data(&mut self, path: &str) -> Answer {
        self.ask("GET", path, &[("accept", "application/json")], b"")
    }

    /// Sends a form with the token of the page seen last.
    #[track_caller]
    pub fn post(&mut self, path: &str, values: &[(&str, &str)]) -> Answer {
        let csrf = self.csrf.clone();
        let mut values = values.to_vec();
        values.push(("csrf", &csrf));
        self.post_as_is(path, &values)
    }

    /// Sends a form with these values only.
    #[track_caller]
    pub fn post_as_is(&mut self, path: &str, values: &[(&str, &str)]) -> Answer {
        let pairs: Vec<String> = values.iter().map(|(name, value)| format!("{name}={}", encode(value))).collect();
        let fields = [("accept", "text/html"), ("content-type", "application/x-www-form-urlencoded")];
        self.ask("POST", path, &fields, pairs.join("&").as_bytes())
    }

    /// Sends a JSON object with the token in its header.
    #[track_caller]
    pub fn post_json(&mut self, path: &str, body: &serde_json::Value) -> Answer {
        let csrf = self.csrf.clone();
        let fields = [("accept", "application/json"), ("content-type", "application/json"), ("x-csrf-token", &csrf)];
        self.ask("POST", path, &fields, body.to_string().as_bytes())
    }

    /// Drafts a requisition and returns its path.
    #[track_caller]
    pub fn draft(&mut self, item: &str, quantity: &str) -> String {
        let answer = self.post("/reqcat/requisitions", &[("item", item), ("quantity", quantity), ("reason", "test")]);
        assert_eq!(answer.status, 303, "{}", answer.text());
        answer.location().to_owned()
    }
}
