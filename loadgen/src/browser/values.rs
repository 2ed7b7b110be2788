//! Values on their way through a session: out of pages, into paths and forms.

use super::url::encode;
use super::{Browser, Purpose, World, Wrong, wrong};
use crate::arrivals::{below, index_below};
use crate::failure::Failure;
use crate::scenario::{Extract, Part, Pick, Source, Template};

impl Browser {
    /// Takes the values that the step wants from the page it ended on.
    pub(super) fn extract(&mut self, world: &World<'_>, purpose: Purpose) -> Result<(), Wrong> {
        let extracts: &[Extract] = match purpose {
            Purpose::Get | Purpose::FormAnswer | Purpose::FormRedirect => world.scenario.operations[self.at].extract(),
            Purpose::FormPage | Purpose::Poll => &[],
        };
        for extract in extracts {
            let value = match &extract.from {
                Source::Link { prefix, pick } => {
                    let prefix = self.fill(world, prefix, true);
                    let found: Vec<&str> = self.page.links.iter().filter_map(|link| behind(link, &prefix)).collect();
                    let index = match pick {
                        Pick::First => 0,
                        Pick::Last => found.len().saturating_sub(1),
                        Pick::Random => index_below(&mut self.random, found.len().max(1)),
                    };
                    found.get(index).map(|value| percent_decoded(value))
                }
                Source::Address { prefix } => {
                    let prefix = self.fill(world, prefix, true);
                    behind(&self.address, &prefix).map(percent_decoded)
                }
                Source::Json { pointer } => json_text(&String::from_utf8_lossy(&self.body), pointer),
            };
            match value {
                Some(value) => self.variables[extract.variable] = value,
                None if extract.optional => {}
                None => {
                    let name = world.scenario.variables[extract.variable].as_str();
                    return Err(wrong(Failure::Validation, format!("no value for `{name}` on the page")));
                }
            }
        }
        Ok(())
    }

    /// The text of a template; `encoded` for a place within a path.
    pub(super) fn fill(&mut self, world: &World<'_>, template: &Template, encoded: bool) -> String {
        let mut out = String::new();
        for part in &template.parts {
            let user = &world.scenario.users[self.user];
            let number;
            let text = match part {
                Part::Text(text) => {
                    out.push_str(text);
                    continue;
                }
                Part::UserName => &user.name,
                Part::Password => &user.password,
                Part::Role => &user.role,
                Part::Word(list) => {
                    let words = &world.scenario.words[*list];
                    &words[index_below(&mut self.random, words.len())]
                }
                Part::Number(low, high) => {
                    number = (low + below(&mut self.random, high - low + 1)).to_string();
                    &number
                }
                Part::Variable(index) => &self.variables[*index],
            };
            if encoded { out.push_str(&encode(text)) } else { out.push_str(text) }
        }
        out
    }
}

/// The part of an address behind a prefix, up to the next `/` or `?`; `None` if there is none.
fn behind<'a>(address: &'a str, prefix: &str) -> Option<&'a str> {
    let rest = address.strip_prefix(prefix)?;
    let value = &rest[..rest.find(['/', '?']).unwrap_or(rest.len())];
    (!value.is_empty()).then_some(value)
}

/// Text without percent-encoding.
pub fn percent_decoded(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, behind)) = rest.split_first() {
        let decoded = match behind {
            [high, low, ..] if byte == b'%' => char::from(*high).to_digit(16).zip(char::from(*low).to_digit(16)),
            _ => None,
        };
        match decoded.and_then(|(high, low)| u8::try_from(high * 16 + low).ok()) {
            Some(decoded) => {
                out.push(decoded);
                rest = &behind[2..];
            }
            None => {
                out.push(byte);
                rest = behind;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// The string, number or boolean at a JSON pointer.
pub(super) fn json_text(text: &str, pointer: &str) -> Option<String> {
    let value: serde_json::Value = serde_json::from_str(text).ok()?;
    match value.pointer(pointer)? {
        serde_json::Value::String(text) => Some(text.clone()),
        value @ (serde_json::Value::Number(_) | serde_json::Value::Bool(_)) => Some(value.to_string()),
        serde_json::Value::Null | serde_json::Value::Array(_) | serde_json::Value::Object(_) => None,
    }
}
