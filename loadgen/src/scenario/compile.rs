//! From the text of a scenario file to its program, with the place of every mistake.

use std::collections::BTreeMap;
use std::ops::Range;

use toml::Spanned;

use super::raw::{From, Kind, RawExtract, RawScenario, RawSlo, RawStep};
use super::{Extract, FormStep, Operation, Part, PollStep, Scenario, Source, Template, User};
use crate::check::{Check, Checks};
use crate::page_slo::{PageSlo, share_of};
use crate::slo::duration_ns;

/// Times that a `repeat` step may be repeated.
const TIMES_MAX: u32 = 1_000_000;

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
        let compiled = compiler.whole(&raw).map_err(|(at, words)| format!("{}: {words}", place(at.start)))?;
        let Compiler { operations, step_names, variables, loop_count, checks, .. } = compiler;
        if step_names.is_empty() {
            return Err(format!(
                "{file}:1:1: no step makes a request; write at least one step of kind get, form or poll"
            ));
        }
        Ok(Self {
            name: raw.name,
            users: compiled.users,
            words: raw.words.into_values().map(Spanned::into_inner).collect(),
            assets: raw.assets,
            returning: raw.returning,
            page_slo: compiled.page_slo,
            operations,
            steps: step_names,
            variables,
            loop_count,
            checks,
        })
    }
}

/// An error and the bytes of the file that it is about.
type Wrong = (Range<usize>, String);

struct Compiler<'a> {
    words: &'a BTreeMap<String, Spanned<Vec<String>>>,
    operations: Vec<Operation>,
    step_names: Vec<String>,
    variables: Vec<String>,
    loop_count: usize,
    checks: Vec<Checks>,
}

/// What is not a step.
struct Frame {
    users: Vec<User>,
    page_slo: Option<PageSlo>,
}

impl<'a> Compiler<'a> {
    fn new(words: &'a BTreeMap<String, Spanned<Vec<String>>>) -> Self {
        Self {
            words,
            operations: Vec::new(),
            step_names: Vec::new(),
            variables: Vec::new(),
            loop_count: 0,
            checks: Vec::new(),
        }
    }

    fn whole(&mut self, raw: &RawScenario) -> Result<Frame, Wrong> {
        let visitor = || vec![User { name: "visitor".into(), password: String::new(), role: String::new() }];
        let users = raw.users.as_ref().map_or_else(visitor, |users| users.get_ref().clone());
        if let Some(list) = raw.users.as_ref().filter(|_| users.is_empty()) {
            return Err((list.span(), "the list of users is empty; name one, or leave `users` out".into()));
        }
        if let Some((name, list)) = raw.words.iter().find(|(_, list)| list.get_ref().is_empty()) {
            return Err((list.span(), format!("the word list `{name}` is empty; write at least one word")));
        }
        let page_slo = raw.slo.as_ref().map(page_slo).transpose()?;
        self.steps(&raw.steps)?;
        Ok(Frame { users, page_slo })
    }

    fn steps(&mut self, steps: &[RawStep]) -> Result<(), Wrong> {
        steps.iter().try_for_each(|step| self.step(step))
    }

    fn step(&mut self, raw: &RawStep) -> Result<(), Wrong> {
        if let Some(stray) = raw.stray_key() {
            return Err(stray);
        }
        let span = raw.kind.span();
        match raw.kind.get_ref() {
            Kind::Get => {
                let path = self.path(raw.path.as_ref(), &span, "a `get` step needs `path`")?;
                let step = self.name(raw, &path);
                let (expect, checks) = (expected(raw)?, self.checks(raw)?);
                let extract = self.extracts(raw)?;
                self.operations.push(Operation::Get { step, path, expect, checks, extract });
            }
            Kind::Form => self.form(raw)?,
            Kind::Poll => self.poll(raw, &span)?,
            Kind::Think => {
                let (seconds, constant) = match (&raw.mean_s, &raw.constant_s) {
                    (Some(seconds), None) => (seconds, false),
                    (None, Some(seconds)) => (seconds, true),
                    (Some(_), Some(_)) | (None, None) => {
                        return Err((
                            span,
                            "a `think` step needs one of `mean_s` (exponential) and `constant_s`".into(),
                        ));
                    }
                };
                self.operations.push(Operation::Think { mean_ns: nanoseconds(seconds)?, constant });
            }
            Kind::Choice => self.choice(raw, &span)?,
            Kind::Repeat => self.repeat(raw, &span)?,
        }
        Ok(())
    }

    fn form(&mut self, raw: &RawStep) -> Result<(), Wrong> {
        let path = raw.path.as_ref().map(|path| self.path_of(path)).transpose()?;
        let action = raw.action.as_ref().map(|action| self.template(action)).transpose()?.unwrap_or_default();
        let fields = raw.fields.iter().flat_map(|fields| fields.get_ref());
        let fields =
            fields.map(|(name, text)| Ok((name.clone(), self.template(text)?))).collect::<Result<_, Wrong>>()?;
        let step = self.name(raw, path.as_ref().unwrap_or(&action));
        let (expect, checks) = (expected(raw)?, self.checks(raw)?);
        let extract = self.extracts(raw)?;
        let form = FormStep { path, action, fields, expect, checks, extract };
        self.operations.push(Operation::Form { step, form });
        Ok(())
    }

    fn poll(&mut self, raw: &RawStep, span: &Range<usize>) -> Result<(), Wrong> {
        let path = self.path(raw.path.as_ref(), span, "a `poll` step needs `path`")?;
        let step = self.name(raw, &path);
        let needs = "a `poll` step needs `until`: the texts that end the wait, none of them empty";
        let until = match &raw.until {
            Some(texts) if texts.get_ref().is_empty() || texts.get_ref().iter().any(String::is_empty) => {
                return Err((texts.span(), needs.into()));
            }
            Some(texts) => texts.get_ref().clone(),
            None => return Err((span.clone(), needs.into())),
        };
        let pointer = raw.pointer.as_ref().map(pointer_of).transpose()?;
        let every_ns = raw.every_s.as_ref().map_or(Ok(200_000_000), nanoseconds)?.max(1_000_000);
        let timeout_ns = raw.timeout_s.as_ref().map_or(Ok(10_000_000_000), nanoseconds)?;
        self.operations.push(Operation::Poll { step, poll: PollStep { path, pointer, until, every_ns, timeout_ns } });
        Ok(())
    }

    fn repeat(&mut self, raw: &RawStep, span: &Range<usize>) -> Result<(), Wrong> {
        let wrong = format!("a `repeat` step needs `times = [least, most]`, at most {TIMES_MAX}");
        let times = match &raw.times {
            Some(times) => match *times.get_ref() {
                times @ [low, high] if low <= high && high <= TIMES_MAX => times,
                _ => return Err((times.span(), wrong)),
            },
            None => return Err((span.clone(), wrong)),
        };
        let steps = raw.steps.as_ref().map_or(&[][..], |steps| steps.get_ref());
        let counter = self.loop_count;
        self.loop_count += 1;
        self.operations.push(Operation::Begin { counter, times });
        let body = self.operations.len();
        // The jump to the end is tested first, so that zero times is possible.
        self.operations.push(Operation::Jump { to: 0 });
        self.steps(steps)?;
        let acts = |operation: &Operation| operation.step().is_some() || matches!(operation, Operation::Think { .. });
        if !self.operations[body..].iter().any(acts) {
            let words =
                "its steps neither request nor wait; give this `repeat` a step of kind get, form, poll or think";
            return Err((span.clone(), words.into()));
        }
        let test = self.operations.len();
        self.operations[body] = Operation::Jump { to: test };
        self.operations.push(Operation::Again { counter, to: body + 1 });
        Ok(())
    }

    fn choice(&mut self, raw: &RawStep, span: &Range<usize>) -> Result<(), Wrong> {
        let options = raw.options.as_ref().map_or(&[][..], |options| options.get_ref());
        if options.iter().all(|option| option.weight == 0) {
            return Err((span.clone(), "a `choice` step needs `options` with a weight above 0".into()));
        }
        let at = self.operations.len();
        self.operations.push(Operation::Choose { targets: Vec::new() });
        let (mut targets, mut ends, mut weight) = (Vec::new(), Vec::new(), 0);
        for option in options {
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
        let name = raw.name.as_ref().map_or_else(fallback, |name| name.get_ref().clone());
        position_or_push(&mut self.step_names, name)
    }

    fn path(&self, text: Option<&Spanned<String>>, span: &Range<usize>, words: &str) -> Result<Template, Wrong> {
        self.path_of(text.ok_or((span.clone(), words.to_owned()))?)
    }

    fn path_of(&self, text: &Spanned<String>) -> Result<Template, Wrong> {
        if !text.get_ref().starts_with('/') || text.get_ref().starts_with("//") {
            let words = format!("`{}` is no path; write one as in /items, without the host", text.get_ref());
            return Err((text.span(), words));
        }
        if let Some(found) = text.get_ref().chars().find(|c| !c.is_ascii_graphic() || *c == '#') {
            let words = format!("{found:?} in a path; write it percent-encoded, and no fragment");
            return Err((text.span(), words));
        }
        self.template(text)
    }

    /// The index of what the page must have that a step ends on.
    fn checks(&mut self, raw: &RawStep) -> Result<Option<usize>, Wrong> {
        let mut checks = Vec::new();
        let mut take = |text: &Spanned<String>, read: fn(&str) -> Result<Check, String>| {
            checks.push(read(text.get_ref()).map_err(|words| (text.span(), words))?);
            Ok::<_, Wrong>(())
        };
        for text in raw.expect_header.iter().flat_map(|list| list.get_ref()) {
            take(text, Check::header)?;
        }
        for text in raw.expect_body.iter().flat_map(|list| list.get_ref()) {
            take(text, Check::body_text)?;
        }
        if let Some(text) = &raw.expect_sha256 {
            take(text, Check::body_sha256)?;
        }
        checks.extend(raw.expect_body_bytes.as_ref().map(|bytes| Check::BodyBytes(*bytes.get_ref())));
        if checks.is_empty() {
            return Ok(None);
        }
        self.checks.push(Checks::new(checks).map_err(|words| (raw.kind.span(), words))?);
        Ok(Some(self.checks.len() - 1))
    }

    fn extracts(&mut self, raw: &RawStep) -> Result<Vec<Extract>, Wrong> {
        raw.extract.iter().flat_map(|list| list.get_ref()).map(|extract| self.extract(extract)).collect()
    }

    fn extract(&mut self, raw: &RawExtract) -> Result<Extract, Wrong> {
        let name = raw.name.get_ref();
        let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if name.is_empty() || !name.chars().all(word) || ["user", "password", "role"].contains(&name.as_str()) {
            let words =
                format!("`{name}` cannot name a value; write letters, digits and _, and not user, password or role");
            return Err((raw.name.span(), words));
        }
        let span = raw.from.span();
        let prefix = |compiler: &Self| {
            let words = "an extract from a link or address needs `prefix`";
            compiler.template(raw.prefix.as_ref().ok_or((span.clone(), words.to_owned()))?)
        };
        let from = match raw.from.get_ref() {
            From::Link => Source::Link { prefix: prefix(self)?, pick: raw.pick },
            From::Address => Source::Address { prefix: prefix(self)? },
            From::Json => match &raw.pointer {
                Some(pointer) => Source::Json { pointer: pointer_of(pointer)? },
                None => return Err((span, "an extract from JSON needs `pointer`, as in /row/state".to_owned())),
            },
        };
        Ok(Extract { variable: position_or_push(&mut self.variables, name.clone()), from, optional: raw.optional })
    }

    fn template(&self, text: &Spanned<String>) -> Result<Template, Wrong> {
        let wrong = |words: String| (text.span(), words);
        let mut parts = Vec::new();
        let mut rest = text.get_ref().as_str();
        while let Some((before, behind)) = rest.split_once('{') {
            if !before.is_empty() {
                parts.push(Part::Text(before.to_owned()));
            }
            if let Some(behind) = behind.strip_prefix('{') {
                parts.push(Part::Text("{".to_owned()));
                rest = behind;
                continue;
            }
            let (hole, behind) =
                behind.split_once('}').ok_or_else(|| wrong("a `{` without `}`; write {{ for a brace".into()))?;
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

fn page_slo(raw: &Spanned<RawSlo>) -> Result<PageSlo, Wrong> {
    let RawSlo { page, share } = raw.get_ref();
    let page = page.as_ref().ok_or((raw.span(), "objectives need `page`, a time as in \"1s\"".to_owned()))?;
    let wrong = |text: &Spanned<String>, what: &str| (text.span(), format!("`{}` is no {what}", text.get_ref()));
    let limit_ns = duration_ns(page.get_ref().trim());
    let limit_ns = limit_ns.ok_or_else(|| wrong(page, "time; write one as in \"800ms\" or \"1s\""))?;
    let share_min = share
        .as_ref()
        .map(|text| share_of(text.get_ref()).ok_or_else(|| wrong(text, "share; write one as in \"95%\"")))
        .transpose()?;
    Ok(PageSlo { limit_ns, share_min })
}

/// The statuses that are right.
fn expected(raw: &RawStep) -> Result<Vec<u16>, Wrong> {
    let Some(statuses) = &raw.expect else { return Ok(Vec::new()) };
    match statuses.get_ref().iter().find(|status| !(200..=599).contains(*status)) {
        Some(status) => {
            Err((statuses.span(), format!("{status} is no status of an answer; write one from 200 to 599")))
        }
        None => Ok(statuses.get_ref().clone()),
    }
}

fn pointer_of(pointer: &Spanned<String>) -> Result<String, Wrong> {
    let text = pointer.get_ref();
    if text.is_empty() || text.starts_with('/') {
        return Ok(text.clone());
    }
    Err((pointer.span(), format!("`{text}` is no JSON pointer; write one as in /row/state")))
}

fn nanoseconds(seconds: &Spanned<f64>) -> Result<u64, Wrong> {
    if !(0.0..=1e6).contains(seconds.get_ref()) {
        return Err((seconds.span(), "seconds must lie between 0 and 1000000".into()));
    }
    // The bounds were checked: below 2^53.
    Ok((seconds.get_ref() * 1e9).round() as u64)
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
    fn mistakes_are_named_with_their_place_and_cure() {
        let step = |lines: &str| format!("name = \"x\"\n[[steps]]\n{lines}\n");
        let cases = [
            (step("kind = \"dance\""), "3:8", "unknown variant `dance`, expected one of `get`, `form`"),
            (step("kind = \"get\""), "3:8", "needs `path`"),
            (step("kind = \"get\"\npath = \"/{item}\""), "4:8", "`{item}` is not known here"),
            (step("kind = \"get\"\npath = \"/{word:a}\""), "4:8", "no word list `a`; write it below [words]"),
            (step("kind = \"get\"\npath = \"items\""), "4:8", "`items` is no path; write one as in /items"),
            (step("kind = \"get\"\npath = \"http://h/\""), "4:8", "without the host"),
            (step("kind = \"get\"\npath = \"/a b\""), "4:8", "percent-encoded"),
            (step("kind = \"get\"\npath = \"/\"\npaht = \"/\""), "5:1", "unknown field `paht`, expected one of"),
            (
                step("kind = \"get\"\npath = \"/\"\nuntil = [\"x\"]"),
                "5:9",
                "`until` is no key of a `get` step; it may have `name`",
            ),
            (step("kind = \"get\"\npath = \"/\"\nexpect = [2000]"), "5:10", "2000 is no status of an answer"),
            (step("kind = \"get\"\npath = \"/\"\nexpect_header = [\"a b\"]"), "5:18", "write a field as"),
            (step("kind = \"get\"\npath = \"/\"\nexpect_sha256 = \"1\""), "5:17", "64 hexadecimal digits"),
            (
                step("kind = \"get\"\npath = \"/\"\nextract = [{ name = \"user\", from = \"link\", prefix = \"/\" }]"),
                "5:21",
                "`user` cannot name a value",
            ),
            (
                step("kind = \"get\"\npath = \"/\"\nextract = [{ name = \"a\", from = \"json\", pointer = \"row\" }]"),
                "5:51",
                "is no JSON pointer",
            ),
            (step("kind = \"poll\"\npath = \"/\""), "3:8", "needs `until`"),
            (step("kind = \"poll\"\npath = \"/\"\nuntil = [\"\"]"), "5:9", "none of them empty"),
            (
                step("kind = \"poll\"\npath = \"/\"\nuntil = [\"x\"]\ntimeout_s = -1"),
                "6:13",
                "seconds must lie between",
            ),
            (step("kind = \"choice\""), "3:8", "weight above 0"),
            (
                step("kind = \"choice\"\noptions = [{ weight = 0, steps = [] }, { weight = 0 }]"),
                "3:8",
                "weight above 0",
            ),
            (step("kind = \"think\"\nmean_s = 1"), "1:1", "no step makes a request"),
            (step("kind = \"think\"\nmean_s = 1\nconstant_s = 1"), "3:8", "one of `mean_s`"),
            (step("kind = \"repeat\"\ntimes = [3, 1]"), "4:9", "times = [least, most]"),
            (
                step(
                    "kind = \"repeat\"\ntimes = [1000000, 1000000]\nsteps = [{ kind = \"choice\", options = [{ weight = 1 }] }]",
                ),
                "3:8",
                "neither request nor wait",
            ),
            (
                "name = \"x\"\nusers = []\nsteps = [{ kind = \"get\", path = \"/\" }]\n".into(),
                "2:9",
                "the list of users is empty",
            ),
            (
                "name = \"x\"\nwords = { a = [] }\nsteps = [{ kind = \"get\", path = \"/\" }]\n".into(),
                "2:15",
                "the word list `a` is empty",
            ),
            (
                "name = \"x\"\nslo = { page = \"fast\" }\nsteps = [{ kind = \"get\", path = \"/\" }]\n".into(),
                "2:16",
                "`fast` is no time",
            ),
            (
                "name = \"x\"\nslo = { share = \"9%\" }\nsteps = [{ kind = \"get\", path = \"/\" }]\n".into(),
                "2:7",
                "objectives need `page`",
            ),
            ("name = \"x\"\nsteps = []\n".into(), "1:1", "no step makes a request"),
            ("name = \"x\n".into(), "1:", ""),
        ];
        for (text, place, words) in cases {
            let error = Scenario::parse("s.toml", &text).unwrap_err();
            assert!(error.starts_with(&format!("s.toml:{place}")) && error.contains(words), "{text}: {error}");
        }
    }

    #[test]
    fn objectives_of_pages_are_read() {
        let text = "name = 'x'\nslo = { page = '800ms', share = '95%' }\nsteps = [{ kind = 'get', path = '/' }]\n";
        let slo = Scenario::parse("s.toml", text).unwrap().page_slo.unwrap();
        assert_eq!((slo.limit_ns, slo.share_min), (800_000_000, Some(0.95)));
    }
}
