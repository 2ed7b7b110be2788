//! The first code table: which role may do what with which of the others.

use serde::Deserialize;
use toml::Spanned;

use crate::authority::table::{AuthorityTable, Rule, RuleFault};
use crate::error::Fault;

use super::source::{Source, choose};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    #[serde(default)]
    allow: Vec<RawAllow>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawAllow {
    role: Spanned<String>,
    code: Spanned<String>,
    verbs: Spanned<Vec<Spanned<String>>>,
}

/// The verb that a folder's code tables have.
fn verb_of(name: &str) -> &'static str {
    match name.split('/').next() {
        Some("views") => "read",
        Some("forms") => "open",
        Some(_) | None => "run",
    }
}

/// Roles that a table's rules name, wanted by expressions before rules are compiled; `None` if it cannot be read.
pub(super) fn roles(source: &Source) -> Option<Vec<String>> {
    #[derive(Deserialize)]
    struct Part {
        #[serde(default)]
        allow: Vec<Role>,
    }
    #[derive(Deserialize)]
    struct Role {
        role: String,
    }
    let part: Part = toml::from_str(&source.text).ok()?;
    Some(part.allow.into_iter().map(|allow| allow.role).collect())
}

/// `names` are the names of all code tables that can be authorized, such as `views/browse`.
pub(super) fn compile(source: &Source, names: &[String], faults: &mut Vec<Fault>) -> AuthorityTable {
    let raw: Raw = match source.parse() {
        Ok(raw) => raw,
        Err(fault) => {
            faults.push(fault);
            return AuthorityTable::default();
        }
    };
    let mut rules = Vec::new();
    for allow in &raw.allow {
        let verbs: Vec<&str> = allow.verbs.get_ref().iter().map(|verb| verb.get_ref().as_str()).collect();
        let code = allow.code.get_ref();
        let rule = match Rule::new(allow.role.get_ref(), code, &verbs) {
            Ok(rule) => rule,
            Err(fault) => {
                faults.push(rule_fault(source, allow, fault, names));
                continue;
            }
        };
        let matched: Vec<&String> = names.iter().filter(|name| rule.covers(name)).collect();
        if matched.is_empty() {
            faults.push(no_code(source, allow, names));
        }
        for verb in allow.verbs.get_ref() {
            let fits = matched.iter().any(|name| verb_of(name) == verb.get_ref());
            if !fits && let Some(name) = matched.first() {
                let wrong = format!("nothing that `{code}` names has the verb `{}`", verb.get_ref());
                faults.push(source.fault(&verb.span(), wrong, format!("write \"{}\"", verb_of(name))));
            }
        }
        rules.push(rule);
    }
    AuthorityTable::new(rules, names.iter().map(String::as_str))
}

fn no_code(source: &Source, allow: &RawAllow, names: &[String]) -> Fault {
    let code = allow.code.get_ref();
    let known = names.iter().map(String::as_str).chain(["views/*", "forms/*", "actions/*", "agents/*"]);
    source.fault(&allow.code.span(), format!("no code table is called `{code}`"), choose(code, known))
}

/// A rule that says nothing, at the part that is wrong.
fn rule_fault(source: &Source, allow: &RawAllow, fault: RuleFault, names: &[String]) -> Fault {
    match fault {
        RuleFault::Role(role) => {
            let cure = "write one word, such as \"employee\"; `anonymous` is everyone, `member` whoever signed in";
            source.fault(&allow.role.span(), format!("`{role}` is no name for a role"), cure)
        }
        RuleFault::Code(_) => no_code(source, allow, names),
        RuleFault::NoVerbs => {
            let cure = "name some of \"read\" (views), \"open\" (forms), \"run\" (actions, agents)";
            source.fault(&allow.verbs.span(), "nothing is allowed here", cure)
        }
        RuleFault::Verb(word) => {
            let place = allow.verbs.get_ref().iter().find(|verb| *verb.get_ref() == word);
            let at = place.map_or_else(|| allow.verbs.span(), Spanned::span);
            source.fault(&at, format!("there is no verb `{word}`"), choose(&word, ["read", "open", "run"]))
        }
    }
}
