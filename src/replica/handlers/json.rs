//! Records as JSON (RFC 8259), written straight into the response.
//!
//! Money is a number with two decimals, a time a number of Unix milliseconds. Secret fields are left out.

use std::io::Write as _;

use crate::tables::record::Value;
use crate::tables::{DocumentShape, FieldKind, Row};

/// A row as an object: the key under its name, then the fields in the order of the document.
pub fn row(shape: &DocumentShape, row: &Row, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"");
    out.extend_from_slice(shape.key.as_bytes());
    out.extend_from_slice(b"\":");
    text(&row.key, out);
    for (index, field) in shape.fields.iter().enumerate() {
        if field.secret {
            continue;
        }
        // Names of fields are identifiers (the compiler of documents sees to it): nothing in them is escaped.
        out.extend_from_slice(b",\"");
        out.extend_from_slice(field.name.as_bytes());
        out.extend_from_slice(b"\":");
        value(field.kind, row.get(index), out);
    }
    out.push(b'}');
}

pub fn rows<'t>(shape: &DocumentShape, rows: impl IntoIterator<Item = &'t Row>, out: &mut Vec<u8>) {
    out.push(b'[');
    for (index, each) in rows.into_iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        row(shape, each, out);
    }
    out.push(b']');
}

fn value(kind: FieldKind, value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Null => out.extend_from_slice(b"null"),
        Value::Text(content) => text(content, out),
        Value::Boolean(true) => out.extend_from_slice(b"true"),
        Value::Boolean(false) => out.extend_from_slice(b"false"),
        Value::Integer(amount) => match kind {
            FieldKind::Money => {
                let sign = if *amount < 0 { "-" } else { "" };
                let cents = amount.unsigned_abs();
                append(out, format_args!("{sign}{}.{:02}", cents / 100, cents % 100));
            }
            FieldKind::Text | FieldKind::Integer | FieldKind::Boolean | FieldKind::Time => number(*amount, out),
        },
    }
}

pub fn number(number: impl std::fmt::Display, out: &mut Vec<u8>) {
    append(out, format_args!("{number}"));
}

fn append(out: &mut Vec<u8>, arguments: std::fmt::Arguments<'_>) {
    out.write_fmt(arguments).expect("invariant: writing to a vector cannot fail");
}

/// A string with its quotes. Runs without special characters are copied whole.
pub fn text(content: &str, out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    out.push(b'"');
    let bytes = content.as_bytes();
    let (mut begin, mut at) = (0, 0);
    while at < bytes.len() {
        at = plain_end(bytes, at);
        let Some(byte) = bytes.get(at) else { break };
        out.extend_from_slice(&bytes[begin..at]);
        at += 1;
        begin = at;
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            control => {
                out.extend_from_slice(b"\\u00");
                out.push(HEX[usize::from(control >> 4)]);
                out.push(HEX[usize::from(control & 15)]);
            }
        }
    }
    out.extend_from_slice(&bytes[begin..]);
    out.push(b'"');
}

/// Where the run of bytes ends that stand for themselves; looks at eight at a time.
fn plain_end(bytes: &[u8], start: usize) -> usize {
    const ONES: u64 = u64::MAX / 255;
    const HIGH: u64 = ONES << 7;
    // Sets the high bit of each byte that is zero; may set others above the first such byte only.
    let zeroes = |word: u64| word.wrapping_sub(ONES) & !word & HIGH;
    let word_at = |at: usize| bytes.get(at..at + 8).and_then(|eight| eight.try_into().ok()).map(u64::from_le_bytes);
    let is_plain = |word: u64| {
        let below_space = word.wrapping_sub(ONES * 0x20) & !word & HIGH;
        let found = below_space | zeroes(word ^ (ONES * u64::from(b'"'))) | zeroes(word ^ (ONES * u64::from(b'\\')));
        found == 0
    };
    let mut at = start;
    while word_at(at).is_some_and(is_plain) {
        at += 8;
    }
    // What is left after whole words: the last eight bytes once more, if they are all of this run.
    if bytes.len() - at < 8 && bytes.len() - start >= 8 && word_at(bytes.len() - 8).is_some_and(is_plain) {
        return bytes.len();
    }
    let special = |byte: &u8| *byte < 0x20 || matches!(byte, b'"' | b'\\');
    bytes[at..].iter().position(special).map_or(bytes.len(), |length| at + length)
}

/// `"name":` within an object; with a comma before it unless it is the first.
pub fn name(content: &str, out: &mut Vec<u8>) {
    if out.last().is_some_and(|last| *last != b'{') {
        out.push(b',');
    }
    text(content, out);
    out.push(b':');
}

#[cfg(test)]
mod tests {
    use super::{name, number, row, text};
    use crate::tables::record::Value;
    use crate::tables::{DocumentShape, Field, FieldKind, Record, Row};
    use proptest::prelude::any;
    use proptest::{prop_assert_eq, proptest};

    proptest! {
        /// Every string comes back from a JSON parser as it was.
        #[test]
        fn strings_survive(content in any::<String>()) {
            let mut out = Vec::new();
            text(&content, &mut out);
            let back: String = serde_json::from_slice(&out).expect("JSON");
            prop_assert_eq!(back, content);
        }
    }

    #[test]
    fn rows_hide_secrets() {
        let field = |name: &str, kind, secret| Field { secret, ..Field::new(name, kind, 10) };
        let shape = DocumentShape {
            table: "t".into(),
            application: "a".into(),
            key: "id".into(),
            fields: Box::new([
                field("a", FieldKind::Text, false),
                field("b", FieldKind::Text, true),
                field("c", FieldKind::Money, false),
                field("d", FieldKind::Time, false),
                field("e", FieldKind::Boolean, false),
                field("f", FieldKind::Money, false),
            ]),
        };
        let values = [
            Value::text("x\"\u{1}é"),
            Value::text("hidden"),
            Value::Integer(-5),
            Value::Integer(7),
            Value::Boolean(true),
            Value::Null,
        ];
        let it = Row { key: "k\n".into(), record: Some(Record(Box::new(values))), ..Row::default() };
        let mut out = Vec::new();
        row(&shape, &it, &mut out);
        let expected = r#"{"id":"k\n","a":"x\"\u0001é","c":-0.05,"d":7,"e":true,"f":null}"#;
        assert_eq!(String::from_utf8(out).expect("text"), expected);
    }

    #[test]
    fn names_and_commas() {
        let mut out = b"{".to_vec();
        name("a", &mut out);
        number(1, &mut out);
        name("b", &mut out);
        number(2, &mut out);
        assert_eq!(out, br#"{"a":1,"b":2"#);
    }
}
