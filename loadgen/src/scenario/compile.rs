//! From the text of a scenario file to its program, with the place of every mistake.

use std::collections::BTreeMap;
use std::ops::Range;

use serde::Deserialize;
use toml::Spanned;

use super::{Extract, FormStep, Operation, Part, Pick, PollStep, Scenario, Source, Template, User};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawScenario {
    name: String,
    #[serde(default)]
    users: Vec<User>,
    #[serde(default)]
    words: BTreeMap<String, Vec<String>>,
    #[serde(default = "yes")]
    assets: bool,
    #[serde(default)]
    returning: bool,
    steps: Vec<RawStep>,
}

fn yes() -> bool {
    true
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Get,
    Form,
    Poll,
    Think,
    Choice,
    Repeat,
}

/// Every key of every kind, so that a key which is unknown is found with its place in the file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawStep {
    kind: Spanned<Kind>,
    name: Option<String>,
    path: Option<Spanned<String>>,
    action: Option<Spanned<String>>,
    #[serde(default)]
    fields: BTreeMap<String, Spanned<String>>,
    #[serde(default)]
    expect: Vec<u16>,
    #[serde(default)]
    extract: Vec<RawExtract>,
    pointer: Option<String>,
    #[serde(default)]
    until: Vec<String>,
    every_s: Option<f64>,
    timeout_s: Option<f64>,
    mean_s: Option<f64>,
    constant_s: Option<f64>,
    times: Option<[u32; 2]>,
    #[serde(default)]
    steps: Vec<RawStep>,
    #[serde(default)]
    options: Vec<RawOption>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawOption {
    weight: u32,
    #[serde(default)]
    steps: Vec<RawStep>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawExtract {
    name: String,
    from: Spanned<From>,
    prefix: Option<Spanned<String>>,
    pointer: Option<String>,
    #[serde(default)]
    pick: Pick,
    #[serde(default)]
    optional: bool,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum From {
    Link,
    Address,
    Json,
}

impl Scenario {
    /// Reads a scenario; `file` is its name in messages.
    ///
    /// # Errors
    /// `file:line:column: what is wrong, what would be right`.
    pub fn parse(file: &str, text: &str) -> Result<Self, String> {
        let place = |at: usize| {
            let before = &text[..at.min(text.len())];
            let column = before.chars().rev().take_while(|&c| c != '\n').count() + 1;
            format!("{file}:{}:{column}", before.matches('\n').count() + 1)
        };
        let raw: RawScenario = toml::from_str(text).map_err(|error| {
            format!("{}: {}", place(error.span().map_or(0, |span| span.start)), error.message().trim())
        })?;
        let mut compiler = Compiler::new(&raw.words);
        compiler.steps(&raw.steps).map_err(|(at, words)| format!("{}: {words}", place(at.start)))?;
        let users = if raw.users.is_empty() {
            vec![User { name: "visitor".into(), password: String::new(), role: String::new() }]
        } else {
            raw.users
        };
        let Compiler { operations, step_names, variables, loop_count, .. } = compiler;
        if step_names.is_empty() {
            return Err(format!(
                "{file}:1:1: no step makes a request; write at least one step of kind get, form or poll"
            ));
        }
        if let Some((name, words)) = raw.words.iter().find(|(_, words)| words.is_empty()) {
            return Err(format!("{file}:1:1: the word list `{name}` has {} words; write at least one", words.len()));
        }
        Ok(Self {
            name: raw.name,
            users,
            words: raw.words.into_values().collect(),
            assets: raw.assets,
            returning: raw.returning,
            operations,
            steps: step_names,
            variable_count: variables.len(),
            loop_count,
        })
    }
}

/// An error and the bytes of the file that it is about.
type Wrong = (Range<usize>, String);

struct Compiler<'a> {
    words: &'a BTreeMap<String, Vec<String>>,
    operations: Vec<Operation>,
    step_names: Vec<String>,
    variables: Vec<String>,
    loop_count: usize,
}

impl<'a> Compiler<'a> {
    fn new(words: &'a BTreeMap<String, Vec<String>>) -> Self {
        Self { words, operations: Vec::new(), step_names: Vec::new(), variables: Vec::new(), loop_count: 0 }
    }

    fn steps(&mut self, steps: &[RawStep]) -> Result<(), Wrong> {
        steps.iter().try_for_each(|step| self.step(step))
    }

    fn step(&mut self, raw: &RawStep) -> Result<(), Wrong> {
        let span = raw.kind.span();
        match raw.kind.get_ref() {
            Kind::Get => {
                let path = self.required(raw.path.as_ref(), &span, "a `get` step needs `path`")?;
                let step = self.name(raw, &path);
                let extract = self.extracts(&raw.extract)?;
                self.operations.push(Operation::Get { step, path, expect: raw.expect.clone(), extract });
            }
            Kind::Form => {
                let path = raw.path.as_ref().map(|path| self.template(path)).transpose()?;
                let action = raw.action.as_ref().map(|action| self.template(action)).transpose()?.unwrap_or_default();
                let fields = raw
                    .fields
                    .iter()
                    .map(|(name, text)| Ok((name.clone(), self.template(text)?)))
                    .collect::<Result<_, Wrong>>()?;
                let step = self.name(raw, path.as_ref().unwrap_or(&action));
                let extract = self.extracts(&raw.extract)?;
                self.operations.push(Operation::Form {
                    step,
                    form: FormStep { path, action, fields, expect: raw.expect.clone(), extract },
                });
            }
            Kind::Poll => {
                let path = self.required(raw.path.as_ref(), &span, "a `poll` step needs `path`")?;
                let step = self.name(raw, &path);
                if raw.until.is_empty() {
                    return Err((span, "a `poll` step needs `until`: the texts that end the wait".into()));
                }
                let every_ns = nanoseconds(raw.every_s.unwrap_or(0.2), &span)?.max(1_000_000);
                let timeout_ns = nanoseconds(raw.timeout_s.unwrap_or(10.0), &span)?;
                let poll =
                    PollStep { path, pointer: raw.pointer.clone(), until: raw.until.clone(), every_ns, timeout_ns };
                self.operations.push(Operation::Poll { step, poll });
            }
            Kind::Think => match (raw.mean_s, raw.constant_s) {
                (Some(seconds), None) => {
                    self.operations.push(Operation::Think { mean_ns: nanoseconds(seconds, &span)?, constant: false })
                }
                (None, Some(seconds)) => {
                    self.operations.push(Operation::Think { mean_ns: nanoseconds(seconds, &span)?, constant: true })
                }
                (Some(_), Some(_)) | (None, None) => {
                    return Err((span, "a `think` step needs one of `mean_s` (exponential) and `constant_s`".into()));
                }
            },
            Kind::Choice => self.choice(raw, &span)?,
            Kind::Repeat => {
                let times = raw.times.filter(|[low, high]| low <= high && *high <= 1_000_000);
                let times = times.ok_or((span, "a `repeat` step needs `times = [least, most]`".to_owned()))?;
                let counter = self.loop_count;
                self.loop_count += 1;
                self.operations.push(Operation::Begin { counter, times });
                let body = self.operations.len();
                // The jump to the end is tested first, so that zero times is possible.
                self.operations.push(Operation::Jump { to: 0 });
                self.steps(&raw.steps)?;
                let test = self.operations.len();
                self.operations[body] = Operation::Jump { to: test };
                self.operations.push(Operation::Again { counter, to: body + 1 });
            }
        }
        Ok(())
    }

    fn choice(&mut self, raw: &RawStep, span: &Range<usize>) -> Result<(), Wrong> {
        if raw.options.iter().all(|option| option.weight == 0) {
            return Err((span.clone(), "a `choice` step needs `options` with a weight above 0".into()));
        }
        let at = self.operations.len();
        self.operations.push(Operation::Choose { targets: Vec::new() });
        let (mut targets, mut ends, mut weight) = (Vec::new(), Vec::new(), 0);
        for option in &raw.options {
            weight += u64::from(option.weight);
            targets.push((weight, self.operations.len()));
            self.steps(&option.steps)?;
            ends.push(self.operations.len());
            self.operations.push(Operation::Jump { to: 0 });
        }
        let behind = self.operations.len();
        for end in ends {
            self.operations[end] = Operation::Jump { to: behind };
        }
        self.operations[at] = Operation::Choose { targets };
        Ok(())
    }

    /// The index of a step's name; steps of the same name share their figures.
    fn name(&mut self, raw: &RawStep, path: &Template) -> usize {
        let fallback = || match path.parts.first() {
            Some(Part::Text(text)) => text.clone(),
            _ => "step".to_owned(),
        };
        let name = raw.name.clone().unwrap_or_else(fallback);
        position_or_push(&mut self.step_names, name)
    }

    fn required(
        &mut self,
        text: Option<&Spanned<String>>,
        span: &Range<usize>,
        words: &str,
    ) -> Result<Template, Wrong> {
        self.template(text.ok_or((span.clone(), words.to_owned()))?)
    }

    fn extracts(&mut self, raw: &[RawExtract]) -> Result<Vec<Extract>, Wrong> {
        raw.iter()
            .map(|extract| {
                let span = extract.from.span();
                let prefix = "an extract from a link or address needs `prefix`";
                let from = match extract.from.get_ref() {
                    From::Link => Source::Link {
                        prefix: self.required(extract.prefix.as_ref(), &span, prefix)?,
                        pick: extract.pick,
                    },
                    From::Address => Source::Address { prefix: self.required(extract.prefix.as_ref(), &span, prefix)? },
                    From::Json => {
                        let pointer = extract.pointer.clone();
                        Source::Json {
                            pointer: pointer
                                .ok_or((span, "an extract from JSON needs `pointer`, as in /row/state".to_owned()))?,
                        }
                    }
                };
                Ok(Extract {
                    variable: position_or_push(&mut self.variables, extract.name.clone()),
                    from,
                    optional: extract.optional,
                })
            })
            .collect()
    }

    fn template(&self, text: &Spanned<String>) -> Result<Template, Wrong> {
        let wrong = |words: String| (text.span(), words);
        let mut parts = Vec::new();
        let mut rest = text.get_ref().as_str();
        while let Some((before, behind)) = rest.split_once('{') {
            let (hole, behind) = behind.split_once('}').ok_or_else(|| wrong("a `{` without `}`".into()))?;
            if !before.is_empty() {
                parts.push(Part::Text(before.to_owned()));
            }
            parts.push(self.hole(hole).map_err(wrong)?);
            rest = behind;
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.to_owned()));
        }
        Ok(Template { parts })
    }

    fn hole(&self, hole: &str) -> Result<Part, String> {
        if let Some(list) = hole.strip_prefix("word:") {
            let index = self.words.keys().position(|name| name == list);
            return index.map(Part::Word).ok_or_else(|| format!("no word list `{list}`; write it below [words]"));
        }
        if let Some(range) = hole.strip_prefix("number:") {
            let bounds = range.split_once('-').and_then(|(low, high)| Some((low.parse().ok()?, high.parse().ok()?)));
            let ordered = bounds.filter(|(low, high): &(u64, u64)| low <= high && high - low < 1 << 32);
            return ordered
                .map(|(low, high)| Part::Number(low, high))
                .ok_or_else(|| format!("`{{{hole}}}`: write {{number:1-9}}"));
        }
        match hole {
            "user" => Ok(Part::UserName),
            "password" => Ok(Part::Password),
            "role" => Ok(Part::Role),
            name => self.variables.iter().position(|known| known == name).map(Part::Variable).ok_or_else(|| {
                format!("`{{{name}}}` is not known here: extract it in an earlier step, or write {{user}}, {{password}}, {{role}}, {{word:LIST}} or {{number:1-9}}")
            }),
        }
    }
}

fn position_or_push(names: &mut Vec<String>, name: String) -> usize {
    names.iter().position(|known| *known == name).unwrap_or_else(|| {
        names.push(name);
        names.len() - 1
    })
}

fn nanoseconds(seconds: f64, span: &Range<usize>) -> Result<u64, Wrong> {
    if !(0.0..=1e6).contains(&seconds) {
        return Err((span.clone(), "seconds must lie between 0 and 1000000".into()));
    }
    // The bounds were checked: below 2^53.
    Ok((seconds * 1e9).round() as u64)
}

#[cfg(test)]
mod tests {
    use crate::scenario::{Operation, Part, Scenario};

    fn operations(text: &str) -> Vec<String> {
        let scenario = Scenario::parse("s.toml", text).unwrap();
        scenario
            .operations
            .iter()
            .map(|operation| match operation {
                Operation::Get { step, .. } => format!("get {}", scenario.steps[*step]),
                Operation::Form { step, .. } => format!("form {}", scenario.steps[*step]),
                Operation::Poll { step, .. } => format!("poll {}", scenario.steps[*step]),
                Operation::Think { mean_ns, constant } => format!("think {mean_ns} {constant}"),
                Operation::Choose { targets } => format!("choose {targets:?}"),
                Operation::Jump { to } => format!("jump {to}"),
                Operation::Begin { counter, times } => format!("begin {counter} {times:?}"),
                Operation::Again { counter, to } => format!("again {counter} {to}"),
            })
            .collect()
    }

    #[test]
    fn repeats_and_choices_become_jumps() {
        let text = r#"
            name = "x"
            [[steps]]
            kind = "repeat"
            times = [1, 3]
            [[steps.steps]]
            kind = "choice"
            options = [
                { weight = 2, steps = [{ kind = "get", path = "/a" }] },
                { weight = 1, steps = [{ kind = "get", name = "bee", path = "/b" }, { kind = "think", mean_s = 0.5 }] },
            ]
            [[steps]]
            kind = "think"
            constant_s = 1
        "#;
        let expected = [
            "begin 0 [1, 3]",
            "jump 8",
            "choose [(2, 3), (3, 5)]",
            "get /a",
            "jump 8",
            "get bee",
            "think 500000000 false",
            "jump 8",
            "again 0 2",
            "think 1000000000 true",
        ];
        assert_eq!(operations(text), expected);
    }

    #[test]
    fn templates_know_users_words_numbers_and_earlier_values() {
        let text = r#"
            name = "x"
            words = { search = ["a"] }
            [[steps]]
            kind = "get"
            path = "/?words={word:search}&n={number:1-9}"
            extract = [{ name = "item", from = "link", prefix = "/items/" }]
            [[steps]]
            kind = "get"
            path = "/items/{item}?by={user}"
        "#;
        let scenario = Scenario::parse("s.toml", text).unwrap();
        let Operation::Get { path, .. } = &scenario.operations[1] else { panic!("a get") };
        let text = |text: &str| Part::Text(text.into());
        assert_eq!(path.parts, [text("/items/"), Part::Variable(0), text("?by="), Part::UserName]);
        assert_eq!(scenario.users[0].name, "visitor");
    }

    #[test]
    fn mistakes_are_named_with_their_place() {
        let cases = [
            ("name = \"x\"\n[[steps]]\nkind = \"dance\"\n", "s.toml:3:8: ", "unknown variant `dance`"),
            ("name = \"x\"\n[[steps]]\nkind = \"get\"\n", "s.toml:3:8: ", "needs `path`"),
            (
                "name = \"x\"\n[[steps]]\nkind = \"get\"\npath = \"/{item}\"\n",
                "s.toml:4:8: ",
                "`{item}` is not known here",
            ),
            (
                "name = \"x\"\n[[steps]]\nkind = \"get\"\npath = \"/\"\npaht = \"/\"\n",
                "s.toml:5:1: ",
                "unknown field `paht`",
            ),
            ("name = \"x\"\n[[steps]]\nkind = \"poll\"\npath = \"/\"\n", "s.toml:3:8: ", "needs `until`"),
            ("name = \"x\"\n[[steps]]\nkind = \"choice\"\n", "s.toml:3:8: ", "weight above 0"),
            ("name = \"x\"\n[[steps]]\nkind = \"think\"\nmean_s = 1\n", "s.toml:1:1: ", "no step makes a request"),
            ("name = \"x\"\n[[steps]]\nkind = \"repeat\"\ntimes = [3, 1]\n", "s.toml:3:8: ", "times = [least, most]"),
        ];
        for (text, place, words) in cases {
            let error = Scenario::parse("s.toml", text).unwrap_err();
            assert!(error.starts_with(place) && error.contains(words), "{error}");
        }
    }
}
