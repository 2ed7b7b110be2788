//! Text with names in braces (`/items/{item}`), and the expressions of code tables.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashSet};
use std::fmt;
use std::ops::Range;
use std::sync::{Arc, LazyLock};

use minijinja::Environment;
use toml::Spanned;

use crate::error::Fault;

use super::names::unknown_role;
use super::source::{Source, choose};
use super::{scan, template};

/// Text with places for values, such as `/requisitions/{key}`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pattern {
    pub parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    Literal(Box<str>),
    /// A value's name: a path parameter, `key`, an input, a field, or `user.name`.
    Name(Box<str>),
}

impl Pattern {
    /// Splits text at its braces; every name must be one of `known`.
    pub(super) fn compile<'a>(
        source: &Source,
        text: &Spanned<String>,
        known: impl IntoIterator<Item = &'a str>,
        faults: &mut Vec<Fault>,
    ) -> Self {
        let known: Vec<&str> = known.into_iter().collect();
        let at = text.span();
        match Self::split(text.get_ref()) {
            Ok(pattern) => {
                for name in pattern.names() {
                    if !known.contains(&name) {
                        let wrong = format!("nothing here is called `{name}`");
                        faults.push(source.fault(&at, wrong, choose(name, known.iter().copied())));
                    }
                }
                pattern
            }
            Err(wrong) => {
                faults.push(source.fault(&at, wrong, "write a name between braces, as in `/items/{item}`"));
                Self::default()
            }
        }
    }

    pub(super) fn split(text: &str) -> Result<Self, &'static str> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some(open) = rest.find(['{', '}']) {
            if rest[open..].starts_with('}') {
                return Err("a `}` closes nothing");
            }
            if open > 0 {
                parts.push(Part::Literal(rest[..open].into()));
            }
            let close = rest[open..].find('}').ok_or("a `{` is not closed")? + open;
            let name = &rest[open + 1..close];
            if name.is_empty() || name.contains('{') {
                return Err("a `{` is followed by no name");
            }
            parts.push(Part::Name(name.into()));
            rest = &rest[close + 1..];
        }
        if !rest.is_empty() {
            parts.push(Part::Literal(rest.into()));
        }
        Ok(Self { parts })
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().filter_map(|part| match part {
            Part::Name(name) => Some(&**name),
            Part::Literal(_) => None,
        })
    }

    /// The text with values in place of names; `None` where a name has no value. What is one name is its value.
    pub fn fill<'a>(&self, mut value: impl FnMut(&str) -> Option<Cow<'a, str>>) -> Option<Cow<'a, str>> {
        if let [Part::Name(name)] = &*self.parts {
            return value(name);
        }
        let mut text = String::new();
        for part in &self.parts {
            match part {
                Part::Literal(literal) => text.push_str(literal),
                Part::Name(name) => text.push_str(&value(name)?),
            }
        }
        Some(Cow::Owned(text))
    }
}

/// Expressions need no templates, so one environment serves them all and outlives every code version.
static ENVIRONMENT: LazyLock<Environment<'static>> = LazyLock::new(|| template::environment(template::FUEL_EXPRESSION));

/// A compiled expression of a code table, such as `row.state == 'draft'`.
#[derive(Clone)]
pub struct Expression {
    text: Arc<str>,
    compiled: Arc<minijinja::Expression<'static, 'static>>,
}

/// What an expression may name: variables, and the attributes of some of them.
pub(super) struct Scope<'a> {
    /// Roles that the authority tables name.
    pub roles: &'a BTreeSet<String>,
    pub variables: Vec<(&'static str, Option<Vec<&'a str>>)>,
}

impl Expression {
    /// Compiles, and checks every variable and attribute against `scope`.
    pub(super) fn compile(
        source: &Source,
        text: &Spanned<String>,
        scope: &Scope<'_>,
        faults: &mut Vec<Fault>,
    ) -> Option<Self> {
        let at = text.span();
        let found = faults.len();
        let scan = scan::scan_expression(text.get_ref());
        faults.extend(template::too_much(source, &scan, source.content(&at)));
        if faults.len() > found {
            return None;
        }
        match ENVIRONMENT.compile_expression_owned(text.get_ref().clone()) {
            Ok(compiled) => {
                Self::check(source, &at, &compiled.undeclared_variables(true), scope, faults);
                let begin = source.content(&at);
                for (name, place) in scan.filters {
                    if !template::is_filter(&name) {
                        faults.push(template::unknown_filter(source, &(begin + place.start..at.end), &name));
                    }
                }
                for (role, place) in scan.roles {
                    faults.extend(unknown_role(source, &(begin + place.start..at.end), &role, scope.roles));
                }
                (faults.len() == found)
                    .then(|| Self { text: text.get_ref().as_str().into(), compiled: Arc::new(compiled) })
            }
            Err(error) => {
                let shown = text.get_ref().split_whitespace().collect::<Vec<_>>().join(" ");
                let mut fault = source.fault(
                    &(source.content(&at)..at.end),
                    format!("`{shown}` is no expression: {}", template::reason(&error)),
                    "compare as in `row.state == 'draft' and row.owner == user.name`",
                );
                if let Some(below) = error.line().and_then(|line| line.checked_sub(1)).filter(|below| *below > 0) {
                    fault.line += below;
                    fault.column = 1;
                }
                faults.push(fault);
                None
            }
        }
    }

    fn check(source: &Source, at: &Range<usize>, used: &HashSet<String>, scope: &Scope<'_>, faults: &mut Vec<Fault>) {
        let mut used: Vec<&String> = used.iter().collect();
        used.sort_unstable();
        for name in used {
            let (variable, attribute) = name.split_once('.').map_or((name.as_str(), None), |(v, a)| (v, Some(a)));
            let Some((_, attributes)) = scope.variables.iter().find(|(known, _)| *known == variable) else {
                if template::is_function(variable) {
                    continue;
                }
                let wrong = format!("the expression names `{variable}`, which is not known here");
                faults.push(source.fault(at, wrong, choose(variable, scope.variables.iter().map(|(known, _)| *known))));
                continue;
            };
            let (Some(attribute), Some(attributes)) = (attribute, attributes) else { continue };
            let attribute = attribute.split('.').next().unwrap_or(attribute);
            if !attributes.contains(&attribute) {
                let wrong = format!("`{variable}` has no `{attribute}`");
                faults.push(source.fault(at, wrong, choose(attribute, attributes.iter().copied())));
            }
        }
    }

    /// The value in a context.
    ///
    /// # Errors
    /// What the template engine says: an operation that the values do not have, or out of fuel.
    pub fn eval(&self, context: &minijinja::Value) -> Result<minijinja::Value, minijinja::Error> {
        self.compiled.eval(context.clone())
    }

    pub fn text(&self) -> &str {
        &self.text
    }
}

impl fmt::Debug for Expression {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Expression({:?})", self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::{Part, Pattern};

    #[test]
    fn splits_and_fills() {
        let pattern = Pattern::split("/a/{b}/c{d}").expect("well-formed");
        assert_eq!(pattern.parts[1], Part::Name("b".into()));
        let filled = pattern.fill(|name| (name != "x").then(|| name.to_uppercase().into()));
        assert_eq!(filled.as_deref(), Some("/a/B/cD"));
        assert_eq!(pattern.fill(|_| None), None);
        for wrong in ["{", "}", "{}", "{a{b}}", "a}b"] {
            assert!(Pattern::split(wrong).is_err(), "{wrong}");
        }
    }
}
