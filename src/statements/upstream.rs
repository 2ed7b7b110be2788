//! What a `proxy … upstream` statement says about its servers, and its options in words.
//!
//! ```text
//! proxy /api/* upstream max=64 10.0.0.1:80 weight=3 10.0.0.2:80 drain check=http:/health interval=2s affinity=srv
//! ```
//! `weight`, `max` and `drain` behind an address are that server's; `max` before the first address holds for every
//! server that has none of its own. All other options are the statement's, wherever they stand.

use std::fmt;

use crate::engine::Address;

/// Servers of one statement at most: a pick looks at each of them.
pub const SERVERS_MAX: usize = 64;
/// A server's weight at most.
pub const WEIGHT_MAX: u32 = 256;
/// What `max=` and `queue=` may say at most.
pub const COUNT_MAX: u32 = 65_535;
/// Times that `retries=` lets a request be sent again at most.
pub const RETRIES_MAX: u32 = 5;
/// What `rise=`, `fall=` and `eject=` may say at most.
pub const ROW_MAX: u32 = 100;
/// The longest time that an option may have: an hour, in milliseconds.
pub const TIME_MS_MAX: u64 = 3_600_000;
/// Bytes of a cookie's name at most.
const COOKIE_BYTES_MAX: usize = 64;

/// Keys of all options, for suggestions.
const KEYS: [&str; 18] = [
    "weight",
    "max",
    "drain",
    "check",
    "interval",
    "timeout",
    "rise",
    "fall",
    "eject",
    "observe",
    "retries",
    "budget",
    "queue",
    "wait",
    "connect",
    "first-byte",
    "idle",
    "affinity",
];

/// The servers of one statement and how requests are spread over them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Upstream {
    /// In the order of the statement; at least one, at most [`SERVERS_MAX`].
    pub servers: Vec<Server>,
    pub options: Options,
}

/// One upstream server as a statement names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    pub address: Address,
    /// Its share of requests against the other servers' weights, 1 to [`WEIGHT_MAX`].
    pub weight: u32,
    /// Requests that it may have under way at a time, over all fronts; the profile's where it is not written.
    pub max: Option<u32>,
    /// It gets no new requests, except those that bring its affinity cookie.
    pub drain: bool,
}

/// Options of the whole statement; the profile's where they are not written. Times are milliseconds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// `max=` before the first address.
    pub max: Option<u32>,
    pub check: Option<Check>,
    pub interval_ms: Option<u64>,
    pub timeout_ms: Option<u64>,
    pub rise: Option<u32>,
    pub fall: Option<u32>,
    /// Failures in a row that eject a server.
    pub eject: Option<u32>,
    pub observe: Observe,
    pub retries: Option<u32>,
    pub budget_percent: Option<u32>,
    pub queue: Option<u32>,
    pub wait_ms: Option<u64>,
    pub connect_ms: Option<u64>,
    pub first_byte_ms: Option<u64>,
    pub idle_ms: Option<u64>,
    /// Name of the affinity cookie.
    pub affinity: Option<Box<str>>,
}

/// What an active check asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Check {
    /// A connection can be opened.
    Tcp,
    /// `GET` of this path is answered with a status from 200 to 399.
    Http { path: Box<str> },
}

/// What counts as a server's failure.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Observe {
    /// No connection, no answer in time, an answer that is none or is not whole.
    #[default]
    Connection,
    /// Besides, an answer with status 500, 502, 503 or 504.
    Answers,
}

/// What is wrong with an option and what would be right.
pub type Wrong = (String, String);

/// Whether a word is an option: `drain`, or a key of letters and dashes with `=` behind it. `unix:/run/a=b` is none.
pub fn is_option(word: &str) -> bool {
    word == "drain"
        || word.split_once('=').is_some_and(|(key, _)| {
            !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-')
        })
}

impl Upstream {
    /// Appends a server.
    ///
    /// # Errors
    /// No address, one that stands here already, or one too many.
    pub fn add(&mut self, word: &str) -> Result<(), Wrong> {
        let address: Address = word.parse().map_err(|wrong: String| (wrong, "separate addresses by blanks".into()))?;
        if self.servers.iter().any(|server| server.address == address) {
            return Err((format!("`{word}` stands here twice"), "name each server once".into()));
        }
        if self.servers.len() == SERVERS_MAX {
            return Err((format!("more than {SERVERS_MAX} servers"), "split the paths over several statements".into()));
        }
        self.servers.push(Server { address, weight: 1, max: None, drain: false });
        Ok(())
    }

    /// Takes one option.
    ///
    /// # Errors
    /// An unknown key, a value that does not fit, an option of a server without a server before it.
    pub fn option(&mut self, word: &str) -> Result<(), Wrong> {
        let (key, value) = word.split_once('=').unwrap_or((word, ""));
        let options = &mut self.options;
        match (key, self.servers.last_mut()) {
            ("drain", Some(server)) if word == "drain" => server.drain = true,
            ("drain", _) if word != "drain" => return Err((format!("`{word}`"), "write drain alone".into())),
            ("weight", Some(server)) => {
                let weight = number(word, value, 0, WEIGHT_MAX)?;
                server.drain |= weight == 0;
                server.weight = weight.max(1);
            }
            ("weight" | "drain", _) => {
                let wrong = format!("`{word}` has no server before it");
                return Err((wrong, "write it behind the address that it is about".into()));
            }
            ("max", Some(server)) => server.max = Some(number(word, value, 1, COUNT_MAX)?),
            ("max", None) => options.max = Some(number(word, value, 1, COUNT_MAX)?),
            ("check", _) => options.check = Some(check(word, value)?),
            ("interval", _) => options.interval_ms = Some(time(word, value, 100)?),
            ("timeout", _) => options.timeout_ms = Some(time(word, value, 10)?),
            ("rise", _) => options.rise = Some(number(word, value, 1, ROW_MAX)?),
            ("fall", _) => options.fall = Some(number(word, value, 1, ROW_MAX)?),
            ("eject", _) => options.eject = Some(number(word, value, 1, ROW_MAX)?),
            ("observe", _) => options.observe = observe(word, value)?,
            ("retries", _) => options.retries = Some(number(word, value, 0, RETRIES_MAX)?),
            ("budget", _) => {
                let percent = value.strip_suffix('%').unwrap_or(value);
                options.budget_percent = Some(number(word, percent, 0, 100)?);
            }
            ("queue", _) => options.queue = Some(number(word, value, 0, COUNT_MAX)?),
            ("wait", _) => options.wait_ms = Some(time(word, value, 1)?),
            ("connect", _) => options.connect_ms = Some(time(word, value, 1)?),
            ("first-byte", _) => options.first_byte_ms = Some(time(word, value, 1)?),
            ("idle", _) => options.idle_ms = Some(time(word, value, 1)?),
            ("affinity", _) => options.affinity = Some(cookie(word, value)?),
            (unknown, _) => {
                let cure = super::grammar::nearest(unknown, &KEYS).map_or_else(
                    || "profiles/README.md lists the options of `upstream`".to_owned(),
                    |near| format!("did you mean `{near}`?"),
                );
                return Err((format!("`{unknown}` is no option of `upstream`"), cure));
            }
        }
        Ok(())
    }

    /// What must hold once the line was read.
    ///
    /// # Errors
    /// Options of checks without a check.
    pub fn finish(&self) -> Result<(), Wrong> {
        let Options { check, interval_ms, timeout_ms, rise, fall, .. } = &self.options;
        let written = [
            ("interval", interval_ms.is_some()),
            ("timeout", timeout_ms.is_some()),
            ("rise", rise.is_some()),
            ("fall", fall.is_some()),
        ];
        match written.iter().find(|(_, written)| check.is_none() && *written) {
            Some((key, _)) => Err((
                format!("`{key}=` without a check"),
                "add check=tcp or check=http:/PATH; failures of requests are counted by eject=".into(),
            )),
            None => Ok(()),
        }
    }

    /// A server that both statements name with different caps or different checks, and which of them it is. What one
    /// of them leaves open is no disagreement.
    pub fn disagrees(&self, other: &Self) -> Option<(Address, &'static str)> {
        let checks = |upstream: &Self| {
            let Options { check, interval_ms, timeout_ms, rise, fall, .. } = &upstream.options;
            check.clone().map(|check| (check, *interval_ms, *timeout_ms, *rise, *fall))
        };
        let differ = |one: Option<u32>, two: Option<u32>| one.zip(two).is_some_and(|(one, two)| one != two);
        let check = checks(self).zip(checks(other)).is_some_and(|(one, two)| one != two);
        self.servers.iter().find_map(|server| {
            let twin = other.servers.iter().find(|twin| twin.address == server.address)?;
            let max = differ(self.max_of(server), other.max_of(twin));
            let key = if max { Some("max") } else { check.then_some("check") }?;
            Some((server.address.clone(), key))
        })
    }

    /// The cap that a server was given, its own or the statement's.
    pub fn max_of(&self, server: &Server) -> Option<u32> {
        server.max.or(self.options.max)
    }
}

fn number(word: &str, value: &str, least: u32, most: u32) -> Result<u32, Wrong> {
    let plain = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
    let number = if plain { value.parse().ok() } else { None };
    number
        .filter(|number| (least..=most).contains(number))
        .ok_or_else(|| (format!("`{word}` does not fit"), format!("write a number from {least} to {most}")))
}

/// A time with its unit, in milliseconds.
fn time(word: &str, value: &str, least_ms: u64) -> Result<u64, Wrong> {
    let split = value.bytes().position(|byte| !byte.is_ascii_digit()).unwrap_or(value.len());
    let (digits, unit) = value.split_at(split);
    let factor = match unit {
        "ms" => Some(1),
        "s" => Some(1000),
        "m" => Some(60_000),
        _ => None,
    };
    digits
        .parse::<u64>()
        .ok()
        .and_then(|count| count.checked_mul(factor?))
        .filter(|ms| (least_ms..=TIME_MS_MAX).contains(ms))
        .ok_or_else(|| {
            (format!("`{word}` is no time from {least_ms}ms to 60m"), "write a unit, as in 500ms, 2s or 1m".into())
        })
}

fn check(word: &str, value: &str) -> Result<Check, Wrong> {
    if value == "tcp" {
        return Ok(Check::Tcp);
    }
    match value.strip_prefix("http:") {
        Some(path) if path.starts_with('/') && path.bytes().all(|byte| byte.is_ascii_graphic()) => {
            Ok(Check::Http { path: path.into() })
        }
        Some(_) | None => Err((format!("`{word}` is no check"), "write check=tcp or check=http:/PATH".into())),
    }
}

fn observe(word: &str, value: &str) -> Result<Observe, Wrong> {
    match value {
        "connection" => Ok(Observe::Connection),
        "answers" => Ok(Observe::Answers),
        _ => Err((
            format!("`{word}` does not fit"),
            "write observe=connection, or observe=answers to count 500, 502, 503 and 504 as failures".into(),
        )),
    }
}

/// A token (RFC 9110 section 5.6.2), which is what a cookie's name is.
fn cookie(word: &str, value: &str) -> Result<Box<str>, Wrong> {
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if value.is_empty() || value.len() > COOKIE_BYTES_MAX || !value.bytes().all(token) {
        return Err((format!("`{word}` names no cookie"), "write letters, digits, - and _, as in affinity=srv".into()));
    }
    Ok(value.into())
}

/// A time as it is written, in its largest whole unit.
struct Time(u64);

impl fmt::Display for Time {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            ms if ms % 60_000 == 0 => write!(out, "{}m", ms / 60_000),
            ms if ms % 1000 == 0 => write!(out, "{}s", ms / 1000),
            ms => write!(out, "{ms}ms"),
        }
    }
}

impl fmt::Display for Check {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp => out.write_str("tcp"),
            Self::Http { path } => write!(out, "http:{path}"),
        }
    }
}

impl fmt::Display for Upstream {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { servers, options } = self;
        out.write_str("upstream")?;
        if let Some(max) = options.max {
            write!(out, " max={max}")?;
        }
        for server in servers {
            write!(out, " {}", server.address)?;
            if server.weight != 1 {
                write!(out, " weight={}", server.weight)?;
            }
            if let Some(max) = server.max {
                write!(out, " max={max}")?;
            }
            if server.drain {
                out.write_str(" drain")?;
            }
        }
        if let Some(check) = &options.check {
            write!(out, " check={check}")?;
        }
        let time = |out: &mut fmt::Formatter<'_>, key: &str, ms: Option<u64>| match ms {
            Some(ms) => write!(out, " {key}={}", Time(ms)),
            None => Ok(()),
        };
        let count = |out: &mut fmt::Formatter<'_>, key: &str, count: Option<u32>, unit: &str| match count {
            Some(count) => write!(out, " {key}={count}{unit}"),
            None => Ok(()),
        };
        time(out, "interval", options.interval_ms)?;
        time(out, "timeout", options.timeout_ms)?;
        count(out, "rise", options.rise, "")?;
        count(out, "fall", options.fall, "")?;
        count(out, "eject", options.eject, "")?;
        if options.observe == Observe::Answers {
            out.write_str(" observe=answers")?;
        }
        count(out, "retries", options.retries, "")?;
        count(out, "budget", options.budget_percent, "%")?;
        count(out, "queue", options.queue, "")?;
        time(out, "wait", options.wait_ms)?;
        time(out, "connect", options.connect_ms)?;
        time(out, "first-byte", options.first_byte_ms)?;
        time(out, "idle", options.idle_ms)?;
        match &options.affinity {
            Some(cookie) => write!(out, " affinity={cookie}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use proptest::prelude::{prop, proptest};

    use super::{Observe, Upstream, is_option};
    use crate::statements::grammar::{self, Action};

    fn read(words: &str) -> Result<Upstream, String> {
        let line = format!("proxy /a upstream {words}");
        let statements = grammar::parse(Path::new("x"), &line);
        let mut statements = statements.map_err(|faults| faults[0].to_string())?;
        match statements.remove(0).action {
            Action::Upstream(upstream) => Ok((*upstream).clone()),
            other => panic!("{other}"),
        }
    }

    #[test]
    fn options_stand_behind_their_server_or_anywhere() {
        let text = "upstream max=9 10.0.0.1:80 weight=3 max=64 10.0.0.2:80 drain unix:/run/a=b check=http:/health?x interval=2s \
                    timeout=500ms rise=2 fall=3 eject=5 observe=answers retries=1 budget=10% queue=7 wait=1m connect=1s \
                    first-byte=90s idle=1500ms affinity=srv";
        let upstream = read(&text["upstream ".len()..]).unwrap();
        assert_eq!(upstream.to_string(), text);
        let caps: Vec<_> = upstream.servers.iter().map(|server| upstream.max_of(server)).collect();
        assert_eq!(caps, [Some(64), Some(9), Some(9)]);
        assert_eq!(upstream.options.observe, Observe::Answers);
        assert_eq!(read("check=tcp 10.0.0.1:80 weight=0").unwrap().to_string(), "upstream 10.0.0.1:80 drain check=tcp");
        assert_eq!(read("10.0.0.1:80").unwrap().options, super::Options::default());
        assert!(is_option("drain") && is_option("first-byte=") && !is_option("unix:/a=b") && !is_option("draining"));
    }

    #[test]
    fn mistakes_name_their_place_and_cure() {
        for (words, expected) in [
            (
                "weight=3 1.1.1.1:1",
                "x:1:19: `weight=3` has no server before it; write it behind the address that it is about",
            ),
            (
                "drain 1.1.1.1:1",
                "x:1:19: `drain` has no server before it; write it behind the address that it is about",
            ),
            ("1.1.1.1:1 drain=1", "x:1:29: `drain=1`; write drain alone"),
            ("1.1.1.1:1 weight=257", "x:1:29: `weight=257` does not fit; write a number from 0 to 256"),
            ("1.1.1.1:1 max=0", "x:1:29: `max=0` does not fit; write a number from 1 to 65535"),
            ("1.1.1.1:1 max=+5", "x:1:29: `max=+5` does not fit; write a number from 1 to 65535"),
            ("1.1.1.1:1 wieght=2", "x:1:29: `wieght` is no option of `upstream`; did you mean `weight`?"),
            (
                "1.1.1.1:1 colour=2",
                "x:1:29: `colour` is no option of `upstream`; profiles/README.md lists the options of `upstream`",
            ),
            ("1.1.1.1:1 wait=2", "x:1:29: `wait=2` is no time from 1ms to 60m; write a unit, as in 500ms, 2s or 1m"),
            (
                "1.1.1.1:1 check=tcp interval=1ms",
                "x:1:39: `interval=1ms` is no time from 100ms to 60m; write a unit, as in 500ms, 2s or 1m",
            ),
            (
                "1.1.1.1:1 wait=99999999999999999999s",
                "x:1:29: `wait=99999999999999999999s` is no time from 1ms to 60m; write a unit, as in 500ms, 2s or 1m",
            ),
            ("1.1.1.1:1 check=udp", "x:1:29: `check=udp` is no check; write check=tcp or check=http:/PATH"),
            (
                "1.1.1.1:1 rise=2",
                "x:1:19: `rise=` without a check; add check=tcp or check=http:/PATH; failures of requests are counted by eject=",
            ),
            (
                "1.1.1.1:1 affinity=a;b",
                "x:1:29: `affinity=a;b` names no cookie; write letters, digits, - and _, as in affinity=srv",
            ),
            ("max=3", "x:1:19: no server; add an address such as 127.0.0.1:9000 or unix:/run/app.sock"),
        ] {
            assert_eq!(read(words).unwrap_err(), expected);
        }
        let many: String = (1..=65).map(|port| format!("1.1.1.1:{port} ")).collect();
        assert!(read(&many).unwrap_err().contains("more than 64 servers"));
    }

    #[test]
    fn a_server_has_one_cap_and_one_check() {
        let faults = |text: &str| match grammar::parse(Path::new("x"), text) {
            Ok(_) => Vec::new(),
            Err(faults) => faults.iter().map(ToString::to_string).collect::<Vec<_>>(),
        };
        assert_eq!(
            faults("proxy /a upstream 1.1.1.1:1 max=3\nproxy /b upstream 1.1.1.1:1 max=4"),
            [
                "x:2:7: `1.1.1.1:1` has another max in line 1; a server has one max: write the same in both statements, or in one of them only"
            ]
        );
        assert_eq!(
            faults("proxy /a upstream 1.1.1.1:1 check=tcp\nfail /c 404\nproxy /b upstream 1.1.1.1:1 check=http:/x")
                .len(),
            1
        );
        assert!(faults("proxy /a upstream 1.1.1.1:1 max=3 check=tcp\nproxy /b upstream 1.1.1.1:1 weight=4").is_empty());
    }

    proptest! {
        /// Whatever is accepted is printed in words that mean the same.
        #[test]
        fn printing_and_reading_agree(words in prop::collection::vec(
            "(10\\.0\\.0\\.[1-4]:80|unix:/[a=]{1,3}|weight=[0-9]{1,3}|max=[1-9]{1,4}|drain|check=(tcp|http:/[a-z]{0,3})|interval=[1-9][0-9]{2}ms|rise=[1-9]|retries=[0-6]|budget=[0-9]{1,3}%?|wait=[0-9]{1,4}(ms|s|m)|affinity=[a-z]{0,3}|observe=answers)", 0..8)) {
            if let Ok(upstream) = read(&words.join(" ")) {
                let printed = upstream.to_string();
                let again = read(printed.strip_prefix("upstream ").unwrap()).unwrap();
                assert_eq!(again, upstream);
            }
        }
    }
}
