//! From a supplier's record to a row: fields by the agent's map, text to the kinds of the table's fields.

use std::time::UNIX_EPOCH;

use super::agents::{ImportAgent, Mapped, Target, clip};
use super::rfc822::{self, RECORD_BYTES_MAX, RawRecord, Wrong};
use crate::tables::{FieldKind, Record, Value};

/// Bytes of a key: it stands in URLs and in the key of a piece of work.
const KEY_BYTES_MAX: usize = 200;

/// Makes a row of a record, or says with its line why there is none.
pub(super) fn row(agent: &ImportAgent, record: RawRecord<'_>) -> Result<(Box<str>, Record), Wrong> {
    let Some(bytes) = record.bytes else {
        return Err(Wrong { line: record.line, reason: format!("longer than {RECORD_BYTES_MAX} bytes") });
    };
    let mut key = None;
    let mut values = vec![Value::Null; agent.width];
    let mut seen = 0u64;
    rfc822::fields(bytes, record.line, |name, raw, line| {
        let place = agent.map.iter().position(|mapped| name.eq_ignore_ascii_case(&mapped.from));
        let Some((place, mapped)) = place.and_then(|place| Some((place, agent.map.get(place)?))) else { return Ok(()) };
        let bit = u32::try_from(place).ok().and_then(|place| 1u64.checked_shl(place)).unwrap_or(0);
        if seen & bit != 0 {
            return Err(Wrong { line, reason: format!("field `{}` appears twice", mapped.from) });
        }
        seen |= bit;
        // Two fields of the table may come from the same field of the supplier.
        for mapped in agent.map.iter().filter(|mapped| name.eq_ignore_ascii_case(&mapped.from)) {
            let text = rfc822::text(raw);
            if text.is_empty() {
                continue;
            }
            let wrong = |reason| Wrong { line, reason: format!("`{}` {reason}", mapped.from) };
            match mapped.to {
                Target::Key => key = Some(key_of(text).map_err(wrong)?),
                Target::Field { field, kind, bytes_max } => {
                    let value = value_of(text, kind, bytes_max).map_err(wrong)?;
                    if let Some(slot) = values.get_mut(field) {
                        *slot = value;
                    }
                }
            }
        }
        Ok(())
    })?;
    for mapped in agent.map.iter().filter(|mapped| mapped.required) {
        if is_missing(mapped, key.as_deref(), &values) {
            return Err(Wrong { line: record.line, reason: format!("required field `{}` is missing", mapped.from) });
        }
    }
    let Some(key) = key else {
        return Err(Wrong { line: record.line, reason: "the record has no key".to_owned() });
    };
    Ok((key, Record(values.into())))
}

fn is_missing(mapped: &Mapped, key: Option<&str>, values: &[Value]) -> bool {
    match mapped.to {
        Target::Key => key.is_none(),
        Target::Field { field, .. } => values.get(field).is_none_or(|value| *value == Value::Null),
    }
}

fn key_of(text: String) -> Result<Box<str>, String> {
    if text.len() > KEY_BYTES_MAX {
        return Err(format!("has {} bytes, a key has at most {KEY_BYTES_MAX}", text.len()));
    }
    if text.chars().any(char::is_control) {
        return Err("has a control character, which no key may have".to_owned());
    }
    Ok(text.into())
}

/// The value of a non-empty text.
fn value_of(text: String, kind: FieldKind, bytes_max: usize) -> Result<Value, String> {
    match kind {
        FieldKind::Text if text.len() > bytes_max => Err(format!("has {} bytes, at most {bytes_max} fit", text.len())),
        FieldKind::Text if text.contains('\0') => Err("has a NUL character".to_owned()),
        FieldKind::Text => Ok(Value::Text(text.into())),
        FieldKind::Integer => text.parse().map(Value::Integer).map_err(|_| format!("{} is no integer", quoted(&text))),
        FieldKind::Boolean => match text.to_ascii_lowercase().as_str() {
            "yes" | "true" | "1" => Ok(Value::Boolean(true)),
            "no" | "false" | "0" => Ok(Value::Boolean(false)),
            _ => Err(format!("{} is neither yes nor no", quoted(&text))),
        },
        FieldKind::Money => {
            cents(&text).map(Value::Integer).ok_or_else(|| format!("{} is no amount such as 12.34", quoted(&text)))
        }
        FieldKind::Time => time_ms(&text)
            .map(Value::Integer)
            .ok_or_else(|| format!("{} is neither Unix milliseconds nor an HTTP date", quoted(&text))),
    }
}

/// `12`, `12.3`, `12.34`, with a sign if need be.
fn cents(text: &str) -> Option<i64> {
    let (negative, amount) = match text.strip_prefix('-') {
        Some(amount) => (true, amount),
        None => (false, text),
    };
    let (whole, part) = amount.split_once('.').unwrap_or((amount, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(part) || part.len() > 2 {
        return None;
    }
    let part = part.parse::<i64>().ok()? * if part.len() == 1 { 10 } else { 1 };
    let cents = whole.parse::<i64>().ok()?.checked_mul(100)?.checked_add(part)?;
    Some(if negative { -cents } else { cents })
}

fn time_ms(text: &str) -> Option<i64> {
    if let Ok(ms) = text.parse() {
        return Some(ms);
    }
    let time = httpdate::parse_http_date(text).ok()?;
    i64::try_from(time.duration_since(UNIX_EPOCH).ok()?.as_millis()).ok()
}

fn quoted(text: &str) -> String {
    format!("{:?}", clip(text, 40))
}

#[cfg(test)]
mod tests {
    use super::{cents, time_ms, value_of};
    use crate::tables::{FieldKind, Value};

    #[test]
    fn amounts_are_exact() {
        for (text, expected) in [
            ("12", Some(1200)),
            ("12.3", Some(1230)),
            ("-0.05", Some(-5)),
            ("92233720368547758.07", Some(i64::MAX)),
            ("92233720368547758.08", None),
            ("1.234", None),
            ("1.", None),
            (".5", None),
            ("1,5", None),
            ("--1", None),
        ] {
            assert_eq!(cents(text), expected, "{text}");
        }
    }

    #[test]
    fn kinds_take_their_texts_only() {
        let value = |text: &str, kind| value_of(text.to_owned(), kind, 5);
        assert_eq!(value("abcde", FieldKind::Text), Ok(Value::text("abcde")));
        assert_eq!(value("abcdef", FieldKind::Text), Err("has 6 bytes, at most 5 fit".into()));
        assert_eq!(value("a\0", FieldKind::Text), Err("has a NUL character".into()));
        assert_eq!(value("-7", FieldKind::Integer), Ok(Value::Integer(-7)));
        assert_eq!(value("7 kB", FieldKind::Integer), Err("\"7 kB\" is no integer".into()));
        assert_eq!(value("Yes", FieldKind::Boolean), Ok(Value::Boolean(true)));
        assert_eq!(value("ja", FieldKind::Boolean), Err("\"ja\" is neither yes nor no".into()));
        assert_eq!(time_ms("Thu, 01 Jan 1970 00:00:01 GMT"), Some(1000));
        assert_eq!(time_ms("yesterday"), None);
    }
}
