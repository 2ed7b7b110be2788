//! The first code table: which role may do what with which of the others.

use serde::Deserialize;
use toml::Spanned;

use crate::authority::table::{AuthorityTable, Verb};
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
    verbs: Spanned<Vec<Spanned<RawVerb>>>,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum RawVerb {
    Read,
    Open,
    Run,
}

/// The verb that a folder's code tables have.
fn verb_of(name: &str) -> Option<(RawVerb, &'static str)> {
    match name.split('/').next()? {
        "views" => Some((RawVerb::Read, "read")),
        "forms" => Some((RawVerb::Open, "open")),
        "actions" | "agents" => Some((RawVerb::Run, "run")),
        _ => None,
    }
}

/// `names` are the names of all code tables that can be authorized, such as `views/browse`.
pub(super) fn compile(source: &Source, names: &[String], faults: &mut Vec<Fault>) -> AuthorityTable {
    let mut table = AuthorityTable::default();
    let raw: Raw = match source.parse() {
        Ok(raw) => raw,
        Err(fault) => {
            faults.push(fault);
            return table;
        }
    };
    for allow in &raw.allow {
        let role = allow.role.get_ref();
        if role.is_empty() || !role.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-') {
            let cure = "write lower-case letters, digits and -, such as \"employee\"; `anonymous` is everyone, `member` who signed in";
            faults.push(source.fault(&allow.role.span(), format!("`{role}` is no name for a role"), cure));
        }
        let code = allow.code.get_ref();
        let matching = |name: &&String| match code.strip_suffix('*') {
            Some(prefix) => name.starts_with(prefix),
            None => *name == code,
        };
        let matched: Vec<&String> = names.iter().filter(matching).collect();
        if matched.is_empty() {
            let wrong = format!("no code table is called `{code}`");
            let known = names.iter().map(String::as_str).chain(["views/*", "forms/*", "actions/*", "agents/*"]);
            faults.push(source.fault(&allow.code.span(), wrong, choose(code, known)));
        }
        if allow.verbs.get_ref().is_empty() {
            let cure = "name some of \"read\" (views), \"open\" (forms), \"run\" (actions, agents)";
            faults.push(source.fault(&allow.verbs.span(), "nothing is allowed here", cure));
        }
        for verb in allow.verbs.get_ref() {
            let fits = matched.iter().any(|name| verb_of(name).is_some_and(|(known, _)| known == *verb.get_ref()));
            if !fits && let Some((_, right)) = matched.first().and_then(|name| verb_of(name)) {
                let wrong = format!("`{code}` does not have this verb");
                faults.push(source.fault(&verb.span(), wrong, format!("write \"{right}\"")));
            }
            table.allow(role, code, match verb.get_ref() {
                RawVerb::Read => Verb::Read,
                RawVerb::Open => Verb::Open,
                RawVerb::Run => Verb::Run,
            });
        }
    }
    table
}
