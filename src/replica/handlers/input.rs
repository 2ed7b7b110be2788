//! What a form or a JSON object sends, and its way into typed values.

use minijinja::Value as Shown;

use crate::http1::form;
use crate::tables::FieldKind;
use crate::tables::code::{INPUTS_MAX, Input, civil};
use crate::tables::record::Value;

use super::{Refusal, render};

/// Fields of a body; those that no input asks for are allowed, but not without end.
const SENT_MAX: usize = 4 * INPUTS_MAX;

/// The fields of a body as text, in order.
#[derive(Debug, Default)]
pub struct Sent(Vec<(String, String)>);

/// What is wrong with the input: the input's name and a sentence.
pub type Errors = Vec<(Box<str>, String)>;

impl Sent {
    /// Reads `application/x-www-form-urlencoded` or a JSON object.
    pub fn parse(content_type: &str, body: &[u8]) -> Result<Self, Refusal> {
        let fields = match content_type {
            "application/x-www-form-urlencoded" => {
                let text = std::str::from_utf8(body).map_err(|_| Refusal::new(400, "The form is not UTF-8."))?;
                let pairs = form::pairs(text).take(SENT_MAX + 1);
                pairs.map(|(name, value)| (name.into_owned(), value.into_owned())).collect()
            }
            "application/json" => Self::parse_json(body)?,
            "" if body.is_empty() => Vec::new(),
            _ => {
                let reason = "Send the fields as application/x-www-form-urlencoded or as a JSON object.";
                return Err(Refusal::new(415, reason));
            }
        };
        if fields.len() > SENT_MAX {
            return Err(Refusal::new(400, "The form has too many fields."));
        }
        Ok(Self(fields))
    }

    fn parse_json(body: &[u8]) -> Result<Vec<(String, String)>, Refusal> {
        let object: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(body)
            .map_err(|error| Refusal::new(400, format!("The body is no JSON object: {error}.")))?;
        let mut fields = Vec::with_capacity(object.len());
        for (name, value) in object {
            let text = match value {
                serde_json::Value::Null => continue,
                serde_json::Value::Bool(boolean) => boolean.to_string(),
                serde_json::Value::Number(number) => number.to_string(),
                serde_json::Value::String(text) => text,
                serde_json::Value::Array(_) | serde_json::Value::Object(_) => {
                    return Err(Refusal::new(400, "A field is text, a number, true, false or null."));
                }
            };
            fields.push((name, text));
        }
        Ok(fields)
    }

    /// The first field of this name.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// What was typed, to be shown again; passwords are not.
    pub fn values(&self, inputs: &[Input]) -> Shown {
        let shown = inputs.iter().filter(|input| &*input.name != "password");
        Shown::from_pairs(
            shown.map(|input| (input.name.to_string(), Shown::from(self.text(&input.name).unwrap_or("")))),
        )
    }

    /// The inputs as typed values, in their order.
    pub fn check(&self, inputs: &[Input]) -> Result<Vec<Value>, Errors> {
        let mut values = Vec::with_capacity(inputs.len());
        let mut errors = Errors::new();
        for input in inputs {
            match check_one(input, self.text(&input.name).unwrap_or("")) {
                Ok(value) => values.push(value),
                Err(message) => errors.push((input.name.clone(), message)),
            }
        }
        if errors.is_empty() { Ok(values) } else { Err(errors) }
    }
}

fn check_one(input: &Input, text: &str) -> Result<Value, String> {
    if input.kind == FieldKind::Boolean {
        // A check box that is not set sends nothing.
        return if text.is_empty() {
            Ok(Value::Boolean(false))
        } else {
            typed(input.kind, text).ok_or_else(|| expected(input.kind))
        };
    }
    let text = if &*input.name == "password" { text } else { text.trim() };
    if text.is_empty() {
        return if input.required { Err("This is needed.".to_owned()) } else { Ok(Value::Null) };
    }
    let value = typed(input.kind, text).ok_or_else(|| expected(input.kind))?;
    if let Some(length_max) = input.length_max
        && text.chars().count() > length_max
    {
        return Err(format!("At most {length_max} characters, please."));
    }
    if let Value::Integer(number) = value {
        let shown = |number: i64| spelled(input.kind, &Value::Integer(number));
        if let Some(min) = input.min.filter(|min| number < *min) {
            return Err(format!("{} at least, please.", shown(min)));
        }
        if let Some(max) = input.max.filter(|max| number > *max) {
            return Err(format!("{} at most, please.", shown(max)));
        }
    }
    if !input.choices.is_empty() && !input.choices.iter().any(|choice| **choice == *text) {
        return Err(format!("One of {}, please.", input.choices.join(", ")));
    }
    Ok(value)
}

fn expected(kind: FieldKind) -> String {
    match kind {
        FieldKind::Text => "Text, please.",
        FieldKind::Integer => "A whole number, please.",
        FieldKind::Boolean => "Yes or no, please.",
        FieldKind::Money => "An amount such as 12.34, please.",
        FieldKind::Time => "A date such as 2026-11-23, or 2026-11-23T13:18, please.",
    }
    .to_owned()
}

/// Text as a value of a kind; `None` if it is none.
pub fn typed(kind: FieldKind, text: &str) -> Option<Value> {
    match kind {
        FieldKind::Text => Some(Value::text(text)),
        FieldKind::Integer => text.parse().ok().map(Value::Integer),
        FieldKind::Money => civil::parse_money(text).map(Value::Integer),
        FieldKind::Time => civil::parse_time(text).map(Value::Integer),
        FieldKind::Boolean => match text {
            "true" | "on" | "yes" | "1" => Some(Value::Boolean(true)),
            "false" | "off" | "no" | "0" => Some(Value::Boolean(false)),
            _ => None,
        },
    }
}

/// A value as people type it: [`typed`] gives it back, but for seconds.
pub fn spelled(kind: FieldKind, value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::Text(text) => text.to_string(),
        Value::Boolean(boolean) => boolean.to_string(),
        Value::Integer(number) => match kind {
            FieldKind::Money => civil::money(*number),
            FieldKind::Time => civil::date_time(*number).replace(' ', "T"),
            FieldKind::Text | FieldKind::Integer | FieldKind::Boolean => number.to_string(),
        },
    }
}

/// `errors` of templates.
pub fn shown_errors(errors: &Errors) -> Shown {
    Shown::from_pairs(errors.iter().map(|(name, message)| (name.to_string(), Shown::from(message.as_str()))))
}

/// `input` of expressions.
pub fn shown_inputs(inputs: &[Input], values: &[Value]) -> Shown {
    Shown::from_pairs(inputs.iter().zip(values).map(|(input, value)| (input.name.to_string(), render::shown(value))))
}

#[cfg(test)]
mod tests {
    use super::{Sent, check_one, spelled, typed};
    use crate::tables::FieldKind;
    use crate::tables::code::Input;
    use crate::tables::record::Value;

    fn input(kind: FieldKind) -> Input {
        Input { name: "x".into(), kind, required: true, length_max: None, min: None, max: None, choices: Vec::new() }
    }

    #[test]
    fn bodies() {
        let form = Sent::parse("application/x-www-form-urlencoded", b"a=1+2&b=%C3%A9&a=3").expect("form");
        assert_eq!((form.text("a"), form.text("b"), form.text("c")), (Some("1 2"), Some("é"), None));
        let json = Sent::parse("application/json", br#"{"a":12.30,"b":true,"c":null,"d":"x"}"#).expect("JSON");
        assert_eq!((json.text("b"), json.text("c"), json.text("d")), (Some("true"), None, Some("x")));
        assert_eq!(typed(FieldKind::Money, json.text("a").expect("a")), Some(Value::Integer(1230)));
        for (kind, body, status) in [
            ("application/json", &b"[1]"[..], 400),
            ("application/json", b"{\"a\":[]}", 400),
            ("application/json", b"{", 400),
            ("text/plain", b"a=1", 415),
            ("", b"a=1", 415),
            ("application/x-www-form-urlencoded", b"a=\xff", 400),
            ("application/x-www-form-urlencoded", &b"a=1&".repeat(300), 400),
        ] {
            assert_eq!(Sent::parse(kind, body).expect_err("refused").status, status);
        }
    }

    #[test]
    fn checks() {
        let text = Input { length_max: Some(3), choices: vec!["é1".into(), "long".into()], ..input(FieldKind::Text) };
        assert_eq!(check_one(&text, " é1 "), Ok(Value::text("é1")));
        assert_eq!(check_one(&text, "  "), Err("This is needed.".to_owned()));
        assert_eq!(check_one(&text, "long"), Err("At most 3 characters, please.".to_owned()));
        assert_eq!(check_one(&text, "no"), Err("One of é1, long, please.".to_owned()));
        let money = Input { min: Some(1), max: Some(1000), ..input(FieldKind::Money) };
        assert_eq!(check_one(&money, "9.99"), Ok(Value::Integer(999)));
        assert_eq!(check_one(&money, "0"), Err("0.01 at least, please.".to_owned()));
        assert_eq!(check_one(&money, "10.01"), Err("10.00 at most, please.".to_owned()));
        assert_eq!(check_one(&money, "ten"), Err("An amount such as 12.34, please.".to_owned()));
        assert_eq!(check_one(&input(FieldKind::Boolean), ""), Ok(Value::Boolean(false)));
        assert_eq!(check_one(&input(FieldKind::Boolean), "on"), Ok(Value::Boolean(true)));
        let optional = Input { required: false, ..input(FieldKind::Integer) };
        assert_eq!(check_one(&optional, ""), Ok(Value::Null));
    }

    #[test]
    fn spelled_and_typed() {
        for (kind, value) in [
            (FieldKind::Text, Value::text("a")),
            (FieldKind::Integer, Value::Integer(-7)),
            (FieldKind::Money, Value::Integer(1234)),
            (FieldKind::Boolean, Value::Boolean(true)),
            (FieldKind::Time, Value::Integer(1_795_440_180_000)),
        ] {
            assert_eq!(typed(kind, &spelled(kind, &value)), Some(value));
        }
    }
}
