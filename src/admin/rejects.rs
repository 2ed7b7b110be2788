//! `GET /rejects`: the last rejected requests of each front, with the offending byte marked.

use serde_json::{Value, json};

use crate::clock::stamp;
use crate::front::record::{escape, write_reason};
use crate::front::rejects::{Part, Rejected};
use crate::worker::FrontRejects;

fn text(write: impl FnOnce(&mut Vec<u8>)) -> String {
    let mut out = Vec::new();
    write(&mut out);
    // Escaped bytes are ASCII.
    String::from_utf8_lossy(&out).into_owned()
}

/// The excerpt in three parts: before the offending byte, that byte, after it; each escaped.
fn parts(rejected: &Rejected) -> [String; 3] {
    let (before, rest) = rejected.excerpt().split_at(rejected.mark());
    let (byte, after) = rest.split_at(rest.len().min(1));
    [before, byte, after].map(|bytes| text(|out| escape(out, bytes)))
}

fn part(part: Part) -> &'static str {
    match part {
        Part::Head => "head",
        Part::Body => "body",
    }
}

fn client(rejected: &Rejected) -> String {
    rejected.client.map_or_else(|| "unix".into(), |client| client.to_string())
}

fn time(rejected: &Rejected) -> String {
    text(|out| out.extend_from_slice(&stamp(rejected.unix_ms)))
}

/// As JSON.
pub fn to_json(fronts: &[FrontRejects]) -> Value {
    let front = |front: &FrontRejects| {
        let rejects: Vec<Value> = front.rejects.newest_first().map(|rejected| entry(front.front, rejected)).collect();
        json!({ "front": front.front, "rejected": front.rejects.total(), "rejects": rejects })
    };
    json!({ "fronts": fronts.iter().map(front).collect::<Vec<_>>() })
}

fn entry(front: u16, rejected: &Rejected) -> Value {
    let [before, byte, after] = parts(rejected);
    json!({
        "time": time(rejected),
        "client": client(rejected),
        "status": rejected.status,
        "reason": text(|out| write_reason(out, rejected.reason, if rejected.reason.has_detail() { rejected.words } else { "" })),
        "words": rejected.words,
        "part": part(rejected.part),
        "offset": rejected.offset,
        "before": before,
        "byte": byte,
        "after": after,
        "text": lines(front, rejected),
    })
}

/// For reading.
pub fn to_text(fronts: &[FrontRejects]) -> String {
    let mut out = String::new();
    for front in fronts {
        for rejected in front.rejects.newest_first() {
            out.push_str(&lines(front.front, rejected));
            out.push('\n');
        }
    }
    if out.is_empty() {
        out.push_str("no request was rejected\n");
    }
    out
}

/// Three lines: what happened, the bytes, the mark below the offending one.
fn lines(front: u16, rejected: &Rejected) -> String {
    let [before, byte, after] = parts(rejected);
    format!(
        "{} front {front} client {}: {} {} at byte {} of the {}: {}\n  {before}{byte}{after}\n  {}{}\n",
        time(rejected),
        client(rejected),
        rejected.status,
        rejected.reason.word(),
        rejected.offset,
        part(rejected.part),
        rejected.words,
        " ".repeat(before.len()),
        "^".repeat(byte.len().max(1)),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::front::reason::Reason;
    use crate::front::rejects::Rejects;

    #[test]
    fn the_mark_stands_below_the_offending_byte() {
        let mut rejects = Rejects::default();
        let rejected = rejects.next();
        rejected.unix_ms = 1_795_797_013_123;
        rejected.status = 400;
        rejected.reason = Reason::BadRequest;
        rejected.words = "NUL in a value";
        rejected.look(b"GET / HTTP/1.1\r\nCookie: abc\r\nX: \0\r\n", 32, Part::Head);
        let fronts = [FrontRejects { front: 1, rejects }];
        let text = to_text(&fronts);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines[0],
            "2026-11-27T16:30:13.123Z front 1 client unix: 400 bad-request at byte 32 of the head: NUL in a value"
        );
        assert_eq!(lines[1], r"  GET / HTTP/1.1\x0d\x0aCookie: ***\x0d\x0aX: \x00\x0d\x0a");
        assert_eq!(lines[2].trim(), "^^^^");
        assert_eq!(lines[2].find('^'), lines[1].find(r"\x00"), "{text}");
        let json = to_json(&fronts);
        let entry = &json["fronts"][0]["rejects"][0];
        assert_eq!(entry["byte"], "\\x00");
        assert_eq!(entry["reason"], "bad-request:nul-in-a-value");
        assert_eq!(entry["offset"], 32);
        assert_eq!(json["fronts"][0]["rejected"], 1);
    }
}
