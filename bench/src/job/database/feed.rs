//! How long a write on one appliance takes to be seen on another one of the same database.
//!
//! ```text
//!   appliance 1:  POST ──▶ 202 ┊
//!   appliance 2:               ┊ GET 404, GET 404, …, GET 200 ┊
//!                              └────────── delay ─────────────┘
//! ```
//! The lab itself asks, one request at a time over one connection to each: a probe, no load. The first look takes its own
//! time, which is kept beside the delays: nothing shorter can be seen.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use super::measure::Figures;
use crate::failure::Failure;
use crate::http::{Answer, Connection};
use crate::latency::{Quantiles, histogram};
use crate::process::Interrupt;

/// The slowest that a change may come; more is a failure of the feed.
const DELAY_MAX: Duration = Duration::from_secs(30);
/// More probes say nothing more.
const PROBES_MAX: u32 = 2000;

/// Writes entries on one appliance and looks for each on the other, for so many seconds.
///
/// # Errors
/// An appliance refuses a request, a change does not come within [`DELAY_MAX`], or a signal arrives.
pub fn measure(interrupt: &Interrupt, from: &str, to: &str, name: &str, duration_s: f64) -> Result<Figures, Failure> {
    let mut writer = Writer::begin(from)?;
    let mut reader = Connection::open(to)?;
    let (mut delays, mut looks) = (histogram(), histogram());
    let begun = Instant::now();
    for probe in 0..PROBES_MAX {
        interrupt.check()?;
        if begun.elapsed().as_secs_f64() >= duration_s {
            break;
        }
        let entry = format!("{name}-{probe}");
        writer.write(&entry)?;
        let written = Instant::now();
        let path = format!("/writes/entries/{entry}?format=json");
        let mut asked = written;
        loop {
            let answer = reader.ask("GET", &path, "", "")?;
            let now = Instant::now();
            record(&mut looks, now - asked);
            match answer.status {
                200 => {
                    record(&mut delays, now - written);
                    break;
                }
                404 if now - written < DELAY_MAX => asked = now,
                404 => {
                    let seconds = DELAY_MAX.as_secs();
                    return Err(Failure::Failed(format!(
                        "http://{to}{path}: not there {seconds} s after it was written"
                    )));
                }
                status => return Err(Failure::Failed(format!("http://{to}{path}: status {status}"))),
            }
        }
    }
    Ok(figures(&delays, &looks))
}

fn record(times: &mut Histogram<u64>, time: Duration) {
    // `saturating_record` would clip instead of growing.
    let ns = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    times.record(ns).expect("invariant: a histogram that grows holds any time");
}

/// Delays of one block; a quantile that its samples do not support is left out.
fn figures(delays: &Histogram<u64>, looks: &Histogram<u64>) -> Figures {
    let (delay, look) = (Quantiles::of(delays), Quantiles::of(looks));
    let named = [
        ("delay_p50_ns", delay.p50),
        ("delay_p90_ns", delay.p90),
        ("delay_p99_ns", delay.p99),
        ("longest_ns", delay.max),
        ("one_look_p50_ns", look.p50),
        ("probes", Some(delay.count)),
    ];
    // Times and counts of a trial: far below 2^53.
    named.into_iter().filter_map(|(name, value)| Some((name, value? as f64))).collect()
}

/// A browser's session that posts one form.
struct Writer {
    connection: Connection,
    cookie: String,
    token: String,
}

impl Writer {
    fn begin(address: &str) -> Result<Self, Failure> {
        let mut connection = Connection::open(address)?;
        // A browser without a session is given one and sent to the same page again.
        let wrong = |what: &str| Failure::Failed(format!("http://{address}/writes/begin has no {what}"));
        let cookie = cookie(&connection.ask("GET", "/writes/begin", "", "")?).ok_or_else(|| wrong("session"))?;
        let page = connection.ask("GET", "/writes/begin", &format!("Cookie: {cookie}\r\n"), "")?;
        let token = token(&page).ok_or_else(|| wrong("form"))?;
        Ok(Self { connection, cookie, token })
    }

    fn write(&mut self, entry: &str) -> Result<(), Failure> {
        let body = format!("csrf={}&entry={entry}&note=seen+from+elsewhere", self.token);
        let fields = format!(
            "Cookie: {}\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n",
            self.cookie,
            body.len()
        );
        let answer = self.connection.ask("POST", "/writes/write/durable", &fields, &body)?;
        match answer.status {
            202 => Ok(()),
            status => Err(Failure::Failed(format!("a write was answered with status {status}:\n{}", answer.head))),
        }
    }
}

/// The session's cookie that an answer sets.
fn cookie(answer: &Answer) -> Option<String> {
    Some(answer.field("set-cookie")?.split(';').next()?.trim().to_owned())
}

/// The token of a page with a form; without a session it is empty.
fn token(page: &Answer) -> Option<String> {
    const BEFORE: &str = "name=\"csrf\" value=\"";
    let text = String::from_utf8_lossy(&page.body);
    let token = text[text.find(BEFORE)? + BEFORE.len()..].split('"').next()?;
    (!token.is_empty()).then(|| token.to_owned())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{cookie, figures, record, token};
    use crate::http::Answer;
    use crate::latency::histogram;

    #[test]
    fn a_session_is_its_cookie_and_the_token_of_the_form() {
        let answer = |head: &str, body: &str| Answer { status: 200, head: head.into(), body: body.into() };
        let form =
            |token: &str| format!("<input type=\"hidden\" name=\"csrf\" value=\"{token}\"><input name=\"entry\">");
        let sent_again = answer("HTTP/1.1 303 See Other\r\nSet-Cookie: s=1; Path=/; HttpOnly", "");
        assert_eq!(cookie(&sent_again), Some("s=1".into()));
        assert_eq!(cookie(&answer("HTTP/1.1 200 OK\r\nServer: x", "")), None);
        assert_eq!(token(&answer("HTTP/1.1 200 OK", &form("a.b"))), Some("a.b".into()));
        assert_eq!(token(&answer("HTTP/1.1 200 OK", &form(""))), None, "the page of somebody without a session");
        assert_eq!(token(&sent_again), None);
    }

    /// Twenty probes support a median and a longest delay, and no more.
    #[test]
    fn delays_are_told_as_far_as_the_probes_support_them() {
        let (mut delays, mut looks) = (histogram(), histogram());
        (1..=20).for_each(|ms| record(&mut delays, Duration::from_millis(ms)));
        (0..80).for_each(|_| record(&mut looks, Duration::from_micros(100)));
        let found = figures(&delays, &looks);
        let names: Vec<&str> = found.iter().map(|(name, _)| *name).collect();
        assert_eq!(names, ["delay_p50_ns", "longest_ns", "one_look_p50_ns", "probes"]);
        let of = |name: &str| found.iter().find(|(found, _)| *found == name).unwrap().1;
        assert!((of("delay_p50_ns") / 10e6 - 1.0).abs() < 0.01 && (of("longest_ns") / 20e6 - 1.0).abs() < 0.01);
        assert_eq!(of("probes"), 20.0);
    }
}
