//! Plays one vector and compares what happened with what it says.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use super::client::{Client, Cut};
use super::eventually;
use super::message::{self, Response, latin1, values};
use super::origin::{Origin, Seen};
use super::vector::{Answer, Fate, Field, Rule, Step, Upstream, Vector};

/// How long the server's reader may need for what has arrived.
const LATE: Duration = Duration::from_secs(5);
const PROBE: &[u8] = b"GET /probe HTTP/1.1\r\nHost: probe\r\n\r\n";

/// Plays `vector`. `late` says that a vector before may have left a part of a request on its way.
///
/// # Errors
/// What was not as it should be.
pub fn play(proxy: SocketAddr, origin: &Origin, vector: &Vector, cut: Cut, late: bool) -> Result<(), String> {
    origin.begin(&vector.scripts);
    let mut client = Client::open(proxy);
    let heads = methods(vector);
    let waits = vector
        .steps
        .iter()
        .any(|step| matches!(step, Step::Send(bytes) if latin1(bytes).to_ascii_lowercase().contains("100-continue")));
    let mut finals = 0;
    let mut last = None;
    for step in &vector.steps {
        match step {
            Step::Send(bytes) => client.send(bytes, cut),
            Step::HalfClose => client.half_close(),
            Step::Answer(expected) => {
                let to_head = heads.get(finals).is_some_and(|is_head| *is_head);
                let mut response = client.answer(to_head)?;
                // The proxy may have had no time to see that this client does not wait.
                if waits
                    && response.as_ref().is_some_and(|found| found.status == 100 && !expected.statuses.contains(&100))
                {
                    response = client.answer(to_head)?;
                }
                check_answer(expected, response.as_ref())?;
                let Some(response) = response else { break };
                finals += usize::from(response.status >= 200);
                last = Some(response);
            }
            Step::Raw(expected) => {
                let found = client.raw(expected.len())?;
                if found != *expected {
                    return Err(format!("got {:?} instead of {:?}", latin1(&found), latin1(expected)));
                }
            }
        }
    }
    check_fate(vector, &mut client, last.as_ref())?;
    if vector.partial || vector.upstream_kept.is_some() {
        // The proxy has taken leave of its server before it takes a new request.
        probe(&mut Client::open(proxy))?;
        eventually("the end of the request that never becomes whole", || (!origin.is_unfinished()).then_some(()));
    }
    check_upstream(vector, origin, late)
}

/// Which of the vector's requests are HEAD, by the lines that begin with a method; enough for sound requests.
fn methods(vector: &Vector) -> Vec<bool> {
    let mut heads = Vec::new();
    for step in &vector.steps {
        if let Step::Send(bytes) = step {
            let text = latin1(bytes);
            heads.extend(
                text.split("\r\n").filter(|line| line.contains(" HTTP/1.")).map(|line| line.starts_with("HEAD ")),
            );
        }
    }
    heads
}

fn probe(client: &mut Client) -> Result<(), String> {
    client.send(PROBE, Cut::Whole);
    match client.answer(false)? {
        Some(response) if response.status == 200 && response.body == b"ok" => Ok(()),
        other => Err(format!("the next request got {other:?}")),
    }
}

fn check_answer(expected: &Answer, found: Option<&Response>) -> Result<(), String> {
    let Some(found) = found else {
        return if expected.cut { Ok(()) } else { Err(format!("no answer instead of {:?}", expected.statuses)) };
    };
    if !expected.statuses.contains(&found.status) {
        return Err(format!("{} {:?} instead of {:?}", found.head.line, latin1(&found.body), expected.statuses));
    }
    if found.whole == expected.cut {
        return Err(format!("an answer {} of {} bytes", if found.whole { "whole" } else { "cut" }, found.body.len()));
    }
    if let Some(body) = &expected.body
        && *body != found.body
    {
        return Err(format!("the body {:?} instead of {:?}", latin1(&found.body), latin1(body)));
    }
    check_fields(&expected.fields, &found.head.fields, &found.trailers)
}

fn check_fields(expected: &[Field], fields: &[(String, String)], trailers: &[(String, String)]) -> Result<(), String> {
    for field in expected {
        let mut found = values(fields, &field.name);
        found.extend(values(trailers, &field.name));
        let holds = match &field.rule {
            Rule::Absent => found.is_empty(),
            Rule::Present => !found.is_empty(),
            Rule::Value(value) => found == [value.as_str()],
        };
        if !holds {
            return Err(format!("the field {}: {found:?} instead of {:?}", field.name, field.rule));
        }
    }
    Ok(())
}

fn check_fate(vector: &Vector, client: &mut Client, last: Option<&Response>) -> Result<(), String> {
    let says_close = last.is_some_and(|answer| {
        values(&answer.head.fields, "connection").iter().any(|value| value.eq_ignore_ascii_case("close"))
    });
    match vector.fate {
        Fate::Kept if says_close => Err("the answer says close".into()),
        Fate::Kept => probe(client).map_err(|wrong| format!("the connection is not kept: {wrong}")),
        Fate::Closed => client.end().map_err(|wrong| format!("the connection is not closed: {wrong}")),
    }
}

fn check_upstream(vector: &Vector, origin: &Origin, late: bool) -> Result<(), String> {
    let wholes = |seen: &[Seen]| {
        let requests = seen.iter().filter_map(|seen| match seen {
            Seen::Whole(connection, request) => Some((*connection, request.clone())),
            Seen::Partial(_) | Seen::Nonsense(_) => None,
        });
        requests.partition::<Vec<_>, _>(|(_, request)| request.target.starts_with("/probe"))
    };
    let deadline = Instant::now() + LATE;
    let mut seen = origin.seen();
    // What the client has an answer to has arrived; only its reader may need a moment more.
    while wholes(&seen).1.len() < vector.upstream.len() && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(1));
        seen = origin.seen();
    }
    for seen in &seen {
        match seen {
            Seen::Nonsense(why) => return Err(format!("the server got nonsense: {why}")),
            Seen::Partial(bytes) if !vector.partial && !is_of_another(bytes, vector, late) => {
                return Err(format!("the server got a part of a request: {:?}", latin1(bytes)));
            }
            Seen::Whole(..) | Seen::Partial(_) => {}
        }
    }
    let (probes, requests) = wholes(&seen);
    if requests.len() != vector.upstream.len() {
        let lines: Vec<&str> = requests.iter().map(|(_, request)| request.head.line.as_str()).collect();
        return Err(format!(
            "the server got {} requests instead of {}: {lines:?}",
            requests.len(),
            vector.upstream.len()
        ));
    }
    for (expected, (_, found)) in vector.upstream.iter().zip(&requests) {
        check_request(expected, found)?;
    }
    if let Some(kept) = vector.upstream_kept {
        let used: HashSet<usize> = requests.iter().map(|(connection, _)| *connection).collect();
        let again = probes.iter().any(|(connection, _)| used.contains(connection));
        if kept != again {
            return Err(format!("the upstream connection was {}used again", if again { "" } else { "not " }));
        }
    }
    Ok(())
}

/// A part of a request that an earlier vector left: its target is not of this vector, or such a vector was played
/// lately.
fn is_of_another(bytes: &[u8], vector: &Vector, late: bool) -> bool {
    let text = latin1(bytes);
    let Some(target) = text.split(' ').nth(1).filter(|_| text.contains(" HTTP/1.1\r\n")) else { return late };
    let ours = vector
        .steps
        .iter()
        .any(|step| matches!(step, Step::Send(bytes) if latin1(bytes).contains(&format!(" {target} HTTP/"))));
    !ours || late
}

fn check_request(expected: &Upstream, found: &message::Request) -> Result<(), String> {
    let hosts = values(&found.head.fields, "host");
    let [host] = hosts[..] else { return Err(format!("the server got these hosts: {hosts:?}")) };
    let same = expected.method == found.method
        && expected.target == found.target
        && expected.host.as_ref().is_none_or(|expected| expected == host)
        && expected.framing == found.framing;
    if !same {
        return Err(format!(
            "the server got `{} {} {host} {}` instead of {expected:?}",
            found.method, found.target, found.framing
        ));
    }
    if expected.body != found.body {
        return Err(format!(
            "the server got the body {:?} instead of {:?}",
            latin1(&found.body),
            latin1(&expected.body)
        ));
    }
    check_fields(&expected.fields, &found.head.fields, &found.trailers)
        .map_err(|wrong| format!("to the server, {wrong}"))
}
