//! A scenario file as TOML has it: every key of every kind of step, so that a key which is unknown, or known and in the
//! wrong kind of step, is found with its place in the file.

use std::collections::BTreeMap;
use std::ops::Range;

use serde::Deserialize;
use toml::Spanned;

use super::{Pick, User};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawScenario {
    pub name: String,
    pub users: Option<Spanned<Vec<User>>>,
    #[serde(default)]
    pub words: BTreeMap<String, Spanned<Vec<String>>>,
    #[serde(default = "yes")]
    pub assets: bool,
    #[serde(default)]
    pub returning: bool,
    pub slo: Option<Spanned<RawSlo>>,
    pub steps: Vec<RawStep>,
}

fn yes() -> bool {
    true
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawSlo {
    pub page: Option<Spanned<String>>,
    pub share: Option<Spanned<String>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    Get,
    Form,
    Poll,
    Think,
    Choice,
    Repeat,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::Form => "form",
            Self::Poll => "poll",
            Self::Think => "think",
            Self::Choice => "choice",
            Self::Repeat => "repeat",
        }
    }

    /// The keys that a step of this kind may have beside `kind`.
    fn keys(self) -> &'static [&'static str] {
        match self {
            Self::Get => &[
                "name",
                "path",
                "expect",
                "expect_header",
                "expect_body",
                "expect_body_bytes",
                "expect_sha256",
                "extract",
            ],
            Self::Form => &[
                "name",
                "path",
                "action",
                "fields",
                "expect",
                "expect_header",
                "expect_body",
                "expect_body_bytes",
                "expect_sha256",
                "extract",
            ],
            Self::Poll => &["name", "path", "until", "pointer", "every_s", "timeout_s"],
            Self::Think => &["mean_s", "constant_s"],
            Self::Choice => &["options"],
            Self::Repeat => &["times", "steps"],
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawStep {
    pub kind: Spanned<Kind>,
    pub name: Option<Spanned<String>>,
    pub path: Option<Spanned<String>>,
    pub action: Option<Spanned<String>>,
    pub fields: Option<Spanned<BTreeMap<String, Spanned<String>>>>,
    pub expect: Option<Spanned<Vec<u16>>>,
    pub expect_header: Option<Spanned<Vec<Spanned<String>>>>,
    pub expect_body: Option<Spanned<Vec<Spanned<String>>>>,
    pub expect_body_bytes: Option<Spanned<u64>>,
    pub expect_sha256: Option<Spanned<String>>,
    pub extract: Option<Spanned<Vec<RawExtract>>>,
    pub pointer: Option<Spanned<String>>,
    pub until: Option<Spanned<Vec<String>>>,
    pub every_s: Option<Spanned<f64>>,
    pub timeout_s: Option<Spanned<f64>>,
    pub mean_s: Option<Spanned<f64>>,
    pub constant_s: Option<Spanned<f64>>,
    pub times: Option<Spanned<[u32; 2]>>,
    pub steps: Option<Spanned<Vec<RawStep>>>,
    pub options: Option<Spanned<Vec<RawOption>>>,
}

impl RawStep {
    /// The first key that a step of this kind cannot have, with its value's place, in words.
    pub fn stray_key(&self) -> Option<(Range<usize>, String)> {
        let kind = *self.kind.get_ref();
        let present = [
            ("name", span(&self.name)),
            ("path", span(&self.path)),
            ("action", span(&self.action)),
            ("fields", span(&self.fields)),
            ("expect", span(&self.expect)),
            ("expect_header", span(&self.expect_header)),
            ("expect_body", span(&self.expect_body)),
            ("expect_body_bytes", span(&self.expect_body_bytes)),
            ("expect_sha256", span(&self.expect_sha256)),
            ("extract", span(&self.extract)),
            ("pointer", span(&self.pointer)),
            ("until", span(&self.until)),
            ("every_s", span(&self.every_s)),
            ("timeout_s", span(&self.timeout_s)),
            ("mean_s", span(&self.mean_s)),
            ("constant_s", span(&self.constant_s)),
            ("times", span(&self.times)),
            ("steps", span(&self.steps)),
            ("options", span(&self.options)),
        ];
        let stray = present.into_iter().find(|(key, place)| place.is_some() && !kind.keys().contains(key));
        stray.and_then(|(key, place)| {
            let keys = kind.keys().join("`, `");
            let words = format!("`{key}` is no key of a `{}` step; it may have `{keys}`", kind.name());
            Some((place?, words))
        })
    }
}

fn span<T>(value: &Option<Spanned<T>>) -> Option<Range<usize>> {
    value.as_ref().map(Spanned::span)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawOption {
    pub weight: u32,
    #[serde(default)]
    pub steps: Vec<RawStep>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawExtract {
    pub name: Spanned<String>,
    pub from: Spanned<From>,
    pub prefix: Option<Spanned<String>>,
    pub pointer: Option<Spanned<String>>,
    #[serde(default)]
    pub pick: Pick,
    #[serde(default)]
    pub optional: bool,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum From {
    Link,
    Address,
    Json,
}
