//! The first code table: which role may use which other code table, and how.
//!
//! A list of rules, each allowing something; the first that fits decides, and what no rule allows is denied. The
//! rules are compiled against the code tables of a version, so that a decision is one hash lookup and a short list.

use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;

/// The role of everyone, signed in or not.
pub const ANONYMOUS: &str = "anonymous";
/// The role of everyone who is signed in.
pub const MEMBER: &str = "member";

/// What is done with a code table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verb {
    /// A view is shown.
    Read,
    /// A form is shown.
    Open,
    /// An action or an agent is run.
    Run,
}

impl Verb {
    pub const ALL: [Self; 3] = [Self::Read, Self::Open, Self::Run];

    pub fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Open => "open",
            Self::Run => "run",
        }
    }

    fn index(self) -> usize {
        match self {
            Self::Read => 0,
            Self::Open => 1,
            Self::Run => 2,
        }
    }
}

impl FromStr for Verb {
    type Err = RuleFault;

    fn from_str(word: &str) -> Result<Self, RuleFault> {
        Self::ALL.into_iter().find(|verb| verb.name() == word).ok_or_else(|| RuleFault::Verb(word.to_owned()))
    }
}

/// What is wrong with a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RuleFault {
    Verb(String),
    NoVerbs,
    Role(String),
    Code(String),
}

impl fmt::Display for RuleFault {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Verb(word) => write!(out, "unknown verb {word:?}, expected one of read, open, run"),
            Self::NoVerbs => write!(out, "a rule without verbs allows nothing, expected some of read, open, run"),
            Self::Role(role) => write!(out, "role {role:?} is no role, expected one word without spaces"),
            Self::Code(code) => write!(
                out,
                "code {code:?} names no code table, expected views/NAME, forms/NAME, actions/NAME or agents/NAME, or the beginning of one with * at its end"
            ),
        }
    }
}

impl std::error::Error for RuleFault {}

/// Folders of the code tables that rules are about.
const FOLDERS: [&str; 4] = ["views/", "forms/", "actions/", "agents/"];

/// One line of the authority table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    role: Box<str>,
    /// A name, or a prefix if `prefix` is set.
    code: Box<str>,
    prefix: bool,
    verbs: [bool; Verb::ALL.len()],
}

impl Rule {
    /// A rule as people write it.
    ///
    /// # Errors
    /// A role that is not one word, a code that cannot name a code table, an unknown verb, no verb at all.
    pub fn new<S: AsRef<str>>(role: &str, code: &str, verbs: &[S]) -> Result<Self, RuleFault> {
        if role.is_empty() || role.contains(char::is_whitespace) {
            return Err(RuleFault::Role(role.to_owned()));
        }
        let (name, prefix) = code.strip_suffix('*').map_or((code, false), |name| (name, true));
        let in_folder = FOLDERS.iter().any(|folder| {
            let below = name.strip_prefix(folder);
            below.is_some_and(|below| prefix || !below.is_empty()) || (prefix && folder.starts_with(name))
        });
        if !in_folder || name.contains('*') {
            return Err(RuleFault::Code(code.to_owned()));
        }
        let mut rule = Self { role: role.into(), code: name.into(), prefix, verbs: [false; Verb::ALL.len()] };
        for verb in verbs {
            rule.verbs[verb.as_ref().parse::<Verb>()?.index()] = true;
        }
        if rule.verbs.contains(&true) { Ok(rule) } else { Err(RuleFault::NoVerbs) }
    }

    pub fn role(&self) -> &str {
        &self.role
    }

    pub fn allows(&self, verb: Verb) -> bool {
        self.verbs[verb.index()]
    }

    /// Whether the rule is about this code table.
    pub fn covers(&self, code: &str) -> bool {
        if self.prefix { code.starts_with(&*self.code) } else { *code == *self.code }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let star = if self.prefix { "*" } else { "" };
        write!(out, "{} may", self.role)?;
        for (place, verb) in Verb::ALL.into_iter().filter(|verb| self.allows(*verb)).enumerate() {
            write!(out, "{} {}", if place == 0 { "" } else { "," }, verb.name())?;
        }
        write!(out, " {}{star}", self.code)
    }
}

/// The answer of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision<'t> {
    /// By the rule with this number, counted from 0, which `role` fits.
    Allow {
        rule: usize,
        role: &'t str,
    },
    Deny,
}

impl Decision<'_> {
    pub fn is_allow(&self) -> bool {
        match self {
            Self::Allow { .. } => true,
            Self::Deny => false,
        }
    }
}

/// The compiled table of one code version.
#[derive(Clone, Debug, Default)]
pub struct AuthorityTable {
    rules: Vec<Rule>,
    /// For every code table of the version and every verb, the rules that allow it, in order.
    by_code: HashMap<Box<str>, [Box<[usize]>; Verb::ALL.len()]>,
}

impl AuthorityTable {
    /// Compiles rules for the code tables with these names (`views/NAME`, …).
    pub fn new<'a>(rules: Vec<Rule>, codes: impl IntoIterator<Item = &'a str>) -> Self {
        let allowing = |code: &str, verb: Verb| -> Box<[usize]> {
            let fits = |(_, rule): &(usize, &Rule)| rule.covers(code) && rule.allows(verb);
            rules.iter().enumerate().filter(fits).map(|(number, _)| number).collect()
        };
        let by_code = codes.into_iter().map(|code| (code.into(), Verb::ALL.map(|verb| allowing(code, verb)))).collect();
        Self { rules, by_code }
    }

    /// Decides what somebody with these roles may do with a code table. A code table that the version does not have
    /// is denied. Allocates nothing.
    pub fn decide<'r>(&self, roles: impl Iterator<Item = &'r str> + Clone, code: &str, verb: Verb) -> Decision<'_> {
        let Some(verbs) = self.by_code.get(code) else { return Decision::Deny };
        let fitting = verbs[verb.index()].iter().find(|rule| {
            let wanted = self.rules[**rule].role();
            roles.clone().any(|role| role == wanted)
        });
        match fitting {
            Some(&rule) => Decision::Allow { rule, role: self.rules[rule].role() },
            None => Decision::Deny,
        }
    }

    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// Code tables that the table decides about.
    pub fn codes(&self) -> impl Iterator<Item = &str> {
        self.by_code.keys().map(AsRef::as_ref)
    }

    /// A decision in words, for the claim chart: who, what, and by which rule.
    pub fn explain<'r>(&self, roles: impl Iterator<Item = &'r str> + Clone, code: &str, verb: Verb) -> String {
        let who = roles.clone().collect::<Vec<_>>().join("+");
        match self.decide(roles, code, verb) {
            Decision::Allow { rule, .. } => {
                format!("{who} {} {code}: allow, rule {}: {}", verb.name(), rule + 1, self.rules[rule])
            }
            Decision::Deny => {
                format!("{who} {} {code}: deny, none of {} rules allows it", verb.name(), self.rules.len())
            }
        }
    }
}

/// The roles of a user, with those that everyone has: `None` for a visitor, otherwise the words of the profile's
/// `roles`, separated by spaces.
pub fn roles_of(profile: Option<&str>) -> impl Iterator<Item = &str> + Clone {
    let implied = if profile.is_some() { &[ANONYMOUS, MEMBER][..] } else { &[ANONYMOUS][..] };
    // A profile cannot make its owner a visitor or a member; whether somebody signed in decides that.
    let own = profile.unwrap_or("").split_ascii_whitespace().filter(|role| ![ANONYMOUS, MEMBER].contains(role));
    implied.iter().copied().chain(own)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(role: &str, code: &str, verbs: &[&str]) -> Rule {
        Rule::new(role, code, verbs).unwrap()
    }

    fn rules() -> Vec<Rule> {
        vec![
            rule("anonymous", "views/item*", &["read"]),
            rule("anonymous", "actions/sign-in", &["run"]),
            rule("member", "views/*", &["read"]),
            rule("employee", "forms/requisition", &["open"]),
            rule("employee", "actions/requisition-*", &["run"]),
            rule("approver", "actions/approve", &["run"]),
            rule("approver", "forms/*", &["open"]),
            rule("administrator", "*", &["read", "open", "run"]),
        ]
    }

    const CODES: [&str; 10] = [
        "views/items",
        "views/item",
        "views/requisitions",
        "forms/requisition",
        "forms/profile",
        "actions/sign-in",
        "actions/requisition-submit",
        "actions/approve",
        "agents/catalog-import",
        "agents/requisition-submit",
    ];

    /// Every role × code table × verb, written out: `r` read, `o` open, `x` run, one column for each code table.
    #[test]
    fn every_role_code_table_and_verb() {
        let table = AuthorityTable::new(rules(), CODES);
        let expected: [(Option<&str>, [&str; 10]); 6] = [
            (None, ["r", "r", "", "", "", "x", "", "", "", ""]),
            (Some(""), ["r", "r", "r", "", "", "x", "", "", "", ""]),
            (Some("employee"), ["r", "r", "r", "o", "", "x", "x", "", "", ""]),
            (Some("approver"), ["r", "r", "r", "o", "o", "x", "", "x", "", ""]),
            (Some("employee approver"), ["r", "r", "r", "o", "o", "x", "x", "x", "", ""]),
            (Some("administrator"), ["rox"; 10]),
        ];
        let mut cells = 0;
        for (profile, columns) in expected {
            for (code, allowed) in CODES.iter().zip(columns) {
                for (verb, letter) in Verb::ALL.into_iter().zip(["r", "o", "x"]) {
                    let decision = table.decide(roles_of(profile), code, verb);
                    assert_eq!(decision.is_allow(), allowed.contains(letter), "{profile:?} {code} {verb:?}");
                    // The compiled answer is the first rule that fits, read line by line.
                    let by_hand = table.rules().iter().position(|rule| {
                        rule.covers(code) && rule.allows(verb) && roles_of(profile).any(|role| role == rule.role())
                    });
                    assert_eq!(
                        decision,
                        by_hand
                            .map_or(Decision::Deny, |rule| Decision::Allow { rule, role: table.rules()[rule].role() })
                    );
                    cells += 1;
                }
            }
        }
        assert_eq!(cells, 180);
    }

    #[test]
    fn nothing_is_allowed_by_default() {
        let empty = AuthorityTable::new(Vec::new(), CODES);
        let table = AuthorityTable::new(rules(), CODES);
        for verb in Verb::ALL {
            assert_eq!(empty.decide(roles_of(Some("administrator")), "views/items", verb), Decision::Deny);
            assert_eq!(table.decide(roles_of(Some("administrator")), "views/missing", verb), Decision::Deny);
            assert_eq!(table.decide(std::iter::empty(), "views/items", verb), Decision::Deny);
        }
        let table = AuthorityTable::new(vec![rule("member", "views/*", &["read"])], CODES);
        assert_eq!(table.decide(roles_of(None), "views/items", Verb::Read), Decision::Deny);
    }

    #[test]
    fn a_profile_grants_no_implied_roles() {
        assert_eq!(roles_of(None).collect::<Vec<_>>(), ["anonymous"]);
        assert_eq!(roles_of(Some(" clerk  member ")).collect::<Vec<_>>(), ["anonymous", "member", "clerk"]);
    }

    #[test]
    fn wrong_rules_are_refused() {
        assert_eq!(Rule::new("two words", "views/*", &["read"]), Err(RuleFault::Role("two words".into())));
        assert_eq!(Rule::new("", "views/*", &["read"]), Err(RuleFault::Role(String::new())));
        for code in ["", "views", "views/", "view/x", "documents/x", "vi*ws/x", "views/*/x", "views/**"] {
            assert_eq!(Rule::new("member", code, &["read"]), Err(RuleFault::Code(code.into())), "{code}");
        }
        for code in ["*", "views/*", "v*", "agents/x", "views/re*"] {
            assert!(Rule::new("member", code, &["read"]).is_ok(), "{code}");
        }
        assert_eq!(Rule::new("member", "views/*", &["write"]), Err(RuleFault::Verb("write".into())));
        assert_eq!(Rule::new::<&str>("member", "views/*", &[]), Err(RuleFault::NoVerbs));
    }

    #[test]
    fn explains_itself() {
        let table = AuthorityTable::new(rules(), CODES);
        assert_eq!(
            table.explain(roles_of(Some("employee")), "actions/requisition-submit", Verb::Run),
            "anonymous+member+employee run actions/requisition-submit: allow, rule 5: employee may run actions/requisition-*"
        );
        assert_eq!(
            table.explain(roles_of(None), "actions/approve", Verb::Run),
            "anonymous run actions/approve: deny, none of 8 rules allows it"
        );
    }
}
