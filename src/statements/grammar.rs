//! The text of a statement file.
//!
//! ```text
//! # comment
//! host shop.example.com            # what follows holds for this host only; `host *` ends that
//! pass     /static/reqcat/*   files reqcat/static
//! proxy    /reqcat/*          cluster reqcat
//! proxy    /legacy/*          upstream 127.0.0.1:9000 weight=3 unix:/run/app.sock check=tcp
//! redirect /                  /reqcat/ 302
//! fail     /internal/*        404
//! ```
//! One statement a line, words apart by blanks, `#` at the start of a word opens a comment. A pattern is a decoded
//! path, or a path and `/*` for that path and everything below it.

use std::fmt;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use super::upstream::{self, Upstream};
use crate::error::Fault;
use crate::http1::form;

const VERBS: [&str; 5] = ["host", "pass", "proxy", "redirect", "fail"];
const REDIRECTS: [u16; 5] = [301, 302, 303, 307, 308];

/// One line's meaning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    pub file: Arc<Path>,
    /// From 1.
    pub line: usize,
    /// Of the pattern, from 1, in characters.
    pub column: usize,
    /// Lower case without port; `None` holds for every host.
    pub host: Option<Box<str>>,
    pub pattern: Pattern,
    pub action: Action,
}

/// Which paths a statement is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    /// The path, without `/*`: empty for `/*` itself.
    pub base: Box<str>,
    /// The pattern ends in `/*`: everything below `base` matches too.
    pub below: bool,
}

/// What happens with a request that matches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// The replicas of an application serve it, mounted at the pattern's base.
    Cluster { application: Arc<str> },
    /// One of these servers does, with the path unchanged.
    Upstream(Arc<Upstream>),
    /// A static object from this folder, relative to the profile's.
    Files { folder: PathBuf },
    /// It is answered with this error, 400 to 599.
    Fail { status: u16 },
    /// It is sent elsewhere with a 3xx.
    Redirect { location: Box<str>, status: u16 },
}

impl Pattern {
    /// Every path that `other` matches is matched by this one.
    pub fn covers(&self, other: &Self) -> bool {
        if self.below {
            self.matches(&other.base) || other.base == self.base
        } else {
            !other.below && self.base == other.base
        }
    }

    /// What [`super::table::RouteTable::lookup`] does at once for all patterns.
    pub fn matches(&self, path: &str) -> bool {
        match path.strip_prefix(&*self.base) {
            Some("") => true,
            Some(rest) => self.below && rest.starts_with('/'),
            None => false,
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}{}", self.base, if self.below { "/*" } else { "" })
    }
}

impl fmt::Display for Action {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cluster { application } => write!(out, "cluster {application}"),
            Self::Upstream(upstream) => write!(out, "{upstream}"),
            Self::Files { folder } => write!(out, "files {}", folder.display()),
            Self::Fail { status } => write!(out, "fail {status}"),
            Self::Redirect { location, status } => write!(out, "redirect {location} {status}"),
        }
    }
}

/// Reads a statement file.
///
/// # Errors
/// One [`Fault`] for each line that is wrong, in the order of the file.
pub fn parse(file: &Path, text: &str) -> Result<Vec<Statement>, Vec<Fault>> {
    let file: Arc<Path> = file.into();
    let (mut statements, mut faults) = (Vec::new(), Vec::new());
    let mut host = None;
    // Some editors begin a file with a byte order mark.
    for (index, text) in text.strip_prefix('\u{feff}').unwrap_or(text).lines().enumerate() {
        let mut line = Line { file: &file, number: index + 1, text, offset: 0 };
        match line.statement(&mut host) {
            Ok(Some(statement)) => statements.push(statement),
            Ok(None) => {}
            Err(fault) => faults.push(fault),
        }
    }
    faults.extend(disagreements(&statements));
    if faults.is_empty() { Ok(statements) } else { Err(faults) }
}

/// Statements that name the same upstream server share its cap and its check: two that write different ones are at odds.
fn disagreements(statements: &[Statement]) -> Vec<Fault> {
    let named = |statement: &Statement| match &statement.action {
        Action::Upstream(upstream) => Some(Arc::clone(upstream)),
        Action::Cluster { .. } | Action::Files { .. } | Action::Fail { .. } | Action::Redirect { .. } => None,
    };
    let mut faults = Vec::new();
    let mut seen: Vec<(usize, Arc<Upstream>)> = Vec::new();
    for statement in statements {
        let Some(upstream) = named(statement) else { continue };
        let at_odds = seen.iter().find_map(|(line, earlier)| Some((line, earlier.disagrees(&upstream)?)));
        if let Some((line, (server, key))) = at_odds {
            let wrong = format!("`{server}` has another {key} in line {line}");
            let cure = format!("a server has one {key}: write the same in both statements, or in one of them only");
            faults.push(Fault::new(&statement.file, statement.line, statement.column, wrong, cure));
        }
        seen.push((statement.line, upstream));
    }
    faults
}

/// A word and where it begins.
#[derive(Clone, Copy)]
struct Word<'t> {
    text: &'t str,
    /// From 1, in characters.
    column: usize,
}

/// A line that is read word by word.
struct Line<'t> {
    file: &'t Arc<Path>,
    number: usize,
    text: &'t str,
    /// Bytes that were read.
    offset: usize,
}

impl<'t> Line<'t> {
    fn statement(&mut self, host: &mut Option<Box<str>>) -> Result<Option<Statement>, Fault> {
        let Some(verb) = self.next_word() else { return Ok(None) };
        if verb.text == "host" {
            *host = self.host()?;
            self.end()?;
            return Ok(None);
        }
        if !VERBS.contains(&verb.text) {
            let wrong = format!("`{}` is no statement", verb.text);
            return Err(self.fault(verb, wrong, suggest(verb.text, &VERBS)));
        }
        let word = self.expect("a path such as /reqcat/*")?;
        let pattern = self.pattern(word)?;
        let action = match verb.text {
            "pass" => self.files()?,
            "proxy" => self.proxied()?,
            "redirect" => self.redirect()?,
            _ => self.fail()?,
        };
        self.end()?;
        let statement = Statement {
            file: Arc::clone(self.file),
            line: self.number,
            column: word.column,
            host: host.clone(),
            pattern,
            action,
        };
        Ok(Some(statement))
    }

    fn host(&mut self) -> Result<Option<Box<str>>, Fault> {
        let word = self.expect("a host name such as shop.example.com, or * for every host")?;
        if word.text == "*" {
            return Ok(None);
        }
        let name = word.text.strip_suffix('.').unwrap_or(word.text);
        let label = |label: &str| {
            !label.is_empty()
                && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
                && !label.starts_with('-')
                && !label.ends_with('-')
        };
        let address = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        let address = address.is_some_and(|text| text.parse::<std::net::Ipv6Addr>().is_ok());
        if !address && !name.split('.').all(label) {
            let wrong = format!("`{}` is no host name", word.text);
            return Err(self.fault(word, wrong, "write a name without scheme, port or path, such as shop.example.com"));
        }
        Ok(Some(name.to_ascii_lowercase().into()))
    }

    fn pattern(&self, word: Word<'_>) -> Result<Pattern, Fault> {
        let (base, below) = match word.text.strip_suffix("/*") {
            Some(base) => (base, true),
            None => (word.text, false),
        };
        let path = if base.is_empty() && below { "/" } else { base };
        if !path.starts_with('/') {
            return Err(self.fault(
                word,
                format!("pattern `{}` does not begin with /", word.text),
                format!("write /{}", word.text),
            ));
        }
        if base.contains('*') {
            return Err(self.fault(
                word,
                "`*` in the middle of a pattern",
                "a pattern may end in /* and has no other *",
            ));
        }
        if let Some(at) = path.find(['?', '#', '%']) {
            let wrong = format!("`{}` in a pattern", &path[at..=at]);
            return Err(self.fault(word, wrong, "write the decoded path alone, without query or escapes"));
        }
        let mut decoded = String::new();
        if let Err(reject) = form::decode_path(path.as_bytes(), &mut decoded) {
            return Err(self.fault(word, reject.reason, "no request with such a path gets as far as the statements"));
        }
        if decoded != path || (below && base.ends_with('/')) {
            return Err(self.fault(word, "two slashes in a row", "write one: paths of requests are matched with one"));
        }
        Ok(Pattern { base: base.into(), below })
    }

    fn files(&mut self) -> Result<Action, Fault> {
        self.keyword(&["files"], "pass")?;
        let word = self.expect("a folder such as reqcat/static")?;
        let folder = PathBuf::from(word.text);
        let inside = folder.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
        if !inside {
            let wrong = format!("folder `{}` leads out of the profile's folder", word.text);
            return Err(self.fault(word, wrong, "write a path below it, without .. and without / at its front"));
        }
        Ok(Action::Files { folder })
    }

    fn proxied(&mut self) -> Result<Action, Fault> {
        if self.keyword(&["cluster", "upstream"], "proxy")?.text == "cluster" {
            let word = self.expect("the name of an application, such as reqcat")?;
            let name = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_');
            if !word.text.bytes().all(name) {
                let wrong = format!("`{}` is no application name", word.text);
                return Err(self.fault(word, wrong, "names have lower-case letters, digits, - and _"));
            }
            return Ok(Action::Cluster { application: word.text.into() });
        }
        let verb = Word { text: "upstream", column: self.column_here() };
        let mut upstream = Upstream::default();
        let mut next = Some(self.expect("an address such as 127.0.0.1:9000 or unix:/run/app.sock")?);
        while let Some(word) = next {
            let taken =
                if upstream::is_option(word.text) { upstream.option(word.text) } else { upstream.add(word.text) };
            taken.map_err(|(wrong, cure)| self.fault(word, wrong, cure))?;
            next = self.next_word();
        }
        if upstream.servers.is_empty() {
            return Err(self.fault(verb, "no server", "add an address such as 127.0.0.1:9000 or unix:/run/app.sock"));
        }
        upstream.finish().map_err(|(wrong, cure)| self.fault(verb, wrong, cure))?;
        Ok(Action::Upstream(Arc::new(upstream)))
    }

    fn redirect(&mut self) -> Result<Action, Fault> {
        let word = self.expect("where to, such as /reqcat/")?;
        let known = ["/", "http://", "https://"].iter().any(|start| word.text.starts_with(start));
        if !known || !word.text.bytes().all(|byte| byte.is_ascii_graphic()) {
            let wrong = format!("`{}` is no place to redirect to", word.text);
            return Err(self.fault(word, wrong, "write an escaped path such as /reqcat/, or an http or https URI"));
        }
        let status = self.status("a status: 301, 302, 303, 307 or 308", |status| REDIRECTS.contains(&status))?;
        Ok(Action::Redirect { location: word.text.into(), status })
    }

    fn fail(&mut self) -> Result<Action, Fault> {
        Ok(Action::Fail { status: self.status("a status from 400 to 599", |status| (400..=599).contains(&status))? })
    }

    fn status(&mut self, what: &str, fits: impl Fn(u16) -> bool) -> Result<u16, Fault> {
        let word = self.expect(what)?;
        word.text
            .parse()
            .ok()
            .filter(|status| fits(*status))
            .ok_or_else(|| self.fault(word, format!("`{}` does not fit here", word.text), format!("write {what}")))
    }

    fn keyword(&mut self, keywords: &[&str], verb: &str) -> Result<Word<'t>, Fault> {
        let word = self.expect(&keywords.join(" or "))?;
        if keywords.contains(&word.text) {
            return Ok(word);
        }
        let cure = match word.text {
            "files" => "folders are for `pass`".to_owned(),
            "cluster" | "upstream" => "servers are for `proxy`".to_owned(),
            other => suggest(other, keywords),
        };
        Err(self.fault(word, format!("`{}` is nothing to {verb} to", word.text), cure))
    }

    /// The next word, which must be there.
    fn expect(&mut self, what: &str) -> Result<Word<'t>, Fault> {
        let column = self.text.trim_end().chars().count() + 1;
        self.next_word()
            .ok_or_else(|| self.fault(Word { text: "", column }, "the line ends too early", format!("add {what}")))
    }

    /// Where the next word begins, in characters from 1.
    fn column_here(&self) -> usize {
        let rest = &self.text[self.offset..];
        self.text[..self.offset + (rest.len() - rest.trim_start().len())].chars().count() + 1
    }

    fn end(&mut self) -> Result<(), Fault> {
        match self.next_word() {
            None => Ok(()),
            Some(word) => {
                let wrong = format!("`{}` is one word too many", word.text);
                Err(self.fault(word, wrong, "one statement a line; a comment begins with #"))
            }
        }
    }

    fn next_word(&mut self) -> Option<Word<'t>> {
        let rest = &self.text[self.offset..];
        let start = self.offset + (rest.len() - rest.trim_start().len());
        let word = self.text[start..].split_whitespace().next()?;
        if word.starts_with('#') {
            return None;
        }
        self.offset = start + word.len();
        Some(Word { text: word, column: self.text[..start].chars().count() + 1 })
    }

    fn fault(&self, word: Word<'_>, wrong: impl Into<String>, cure: impl Into<String>) -> Fault {
        Fault::new(self.file, self.number, word.column, wrong, cure)
    }
}

/// The cure for a word that is none of the known ones.
fn suggest(word: &str, known: &[&str]) -> String {
    match nearest(word, known) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("write one of {}", known.join(", ")),
    }
}

/// The known word with the fewest edits from this one, if they are few enough to be a slip.
pub fn nearest<'k>(word: &str, known: &[&'k str]) -> Option<&'k str> {
    let word = word.to_lowercase();
    let near = known.iter().min_by_key(|each| edits(&word, each))?;
    (edits(&word, near) <= near.len().div_ceil(3)).then_some(*near)
}

/// Levenshtein's distance.
fn edits(one: &str, other: &str) -> usize {
    let mut row: Vec<usize> = (0..=other.chars().count()).collect();
    for (index, left) in one.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], index + 1);
        for (column, right) in other.chars().enumerate() {
            let kept = diagonal + usize::from(left != right);
            diagonal = row[column + 1];
            row[column + 1] = kept.min(row[column] + 1).min(diagonal + 1);
        }
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{Action, nearest, parse};

    const FILE: &str = "\u{feff}# comment\n\
        redirect /  /reqcat/ 302   # behind a statement\n\
        \n\
        host Shop.Example.COM.\n\
        pass     /static/reqcat/*   files reqcat/static\n\
        \tproxy /reqcat/* cluster reqcat\r\n\
        host *\n\
        proxy /legacy/* upstream 127.0.0.1:9000 unix:/run/app.sock\n\
        fail /* 404\n";

    #[test]
    fn reads_every_statement() {
        let statements = parse(Path::new("x.statements"), FILE).unwrap();
        let text: Vec<String> = statements
            .iter()
            .map(|each| {
                format!("{} {} {} {}", each.line, each.host.as_deref().unwrap_or("*"), each.pattern, each.action)
            })
            .collect();
        assert_eq!(
            text,
            [
                "2 * / redirect /reqcat/ 302",
                "5 shop.example.com /static/reqcat/* files reqcat/static",
                "6 shop.example.com /reqcat/* cluster reqcat",
                "8 * /legacy/* upstream 127.0.0.1:9000 unix:/run/app.sock",
                "9 * /* fail 404",
            ]
        );
        let Action::Upstream(upstream) = &statements[3].action else { panic!("{:?}", statements[3]) };
        let addresses: Vec<_> = upstream.servers.iter().map(|server| server.address.clone()).collect();
        assert_eq!(addresses, ["127.0.0.1:9000".parse().unwrap(), "unix:/run/app.sock".parse().unwrap()]);
        assert_eq!(&*statements[4].pattern.base, "");
    }

    #[test]
    fn faults_name_place_and_cure() {
        for (line, expected) in [
            ("porxy /a cluster a", "x:1:1: `porxy` is no statement; did you mean `proxy`?"),
            ("serve /a cluster a", "x:1:1: `serve` is no statement; write one of host, pass, proxy, redirect, fail"),
            ("  proxy /a clutser a", "x:1:12: `clutser` is nothing to proxy to; did you mean `cluster`?"),
            ("pass /a cluster a", "x:1:9: `cluster` is nothing to pass to; servers are for `proxy`"),
            ("proxy /a files a", "x:1:10: `files` is nothing to proxy to; folders are for `pass`"),
            ("proxy", "x:1:6: the line ends too early; add a path such as /reqcat/*"),
            ("proxy /a # c", "x:1:13: the line ends too early; add cluster or upstream"),
            ("proxy /a cluster a b", "x:1:20: `b` is one word too many; one statement a line; a comment begins with #"),
            ("proxy a/* cluster a", "x:1:7: pattern `a/*` does not begin with /; write /a/*"),
            (
                "proxy /a* cluster a",
                "x:1:7: `*` in the middle of a pattern; a pattern may end in /* and has no other *",
            ),
            ("proxy /a?b cluster a", "x:1:7: `?` in a pattern; write the decoded path alone, without query or escapes"),
            (
                "fail /a/../b 404",
                "x:1:6: dot segment in the path; no request with such a path gets as far as the statements",
            ),
            ("fail //a 404", "x:1:6: two slashes in a row; write one: paths of requests are matched with one"),
            ("fail /a//* 404", "x:1:6: two slashes in a row; write one: paths of requests are matched with one"),
            ("fail /a 200", "x:1:9: `200` does not fit here; write a status from 400 to 599"),
            ("redirect / /b 304", "x:1:15: `304` does not fit here; write a status: 301, 302, 303, 307 or 308"),
            (
                "redirect / b 302",
                "x:1:12: `b` is no place to redirect to; write an escaped path such as /reqcat/, or an http or https URI",
            ),
            (
                "pass /ä files ../b",
                "x:1:15: folder `../b` leads out of the profile's folder; write a path below it, without .. and without / at its front",
            ),
            (
                "proxy /a cluster A",
                "x:1:18: `A` is no application name; names have lower-case letters, digits, - and _",
            ),
            (
                "proxy /a upstream localhost:1",
                "x:1:19: `localhost:1` is no address: write 127.0.0.1:8080, [::1]:8080 or unix:/run/app.sock; separate addresses by blanks",
            ),
            (
                "proxy /a upstream 127.0.0.1:1 127.0.0.1:1",
                "x:1:31: `127.0.0.1:1` stands here twice; name each server once",
            ),
            (
                "host a:80",
                "x:1:6: `a:80` is no host name; write a name without scheme, port or path, such as shop.example.com",
            ),
        ] {
            let faults = parse(Path::new("x"), line).unwrap_err();
            assert_eq!(faults.iter().map(ToString::to_string).collect::<Vec<_>>(), [expected], "{line}");
        }
        assert_eq!(parse(Path::new("x"), "a\nfail / 404\nb\n").unwrap_err().len(), 2);
    }

    #[test]
    fn nearest_words() {
        assert_eq!(nearest("FAIL", &["pass", "fail"]), Some("fail"));
        assert_eq!(nearest("fial", &["pass", "fail"]), Some("fail"));
        assert_eq!(nearest("", &["pass", "fail"]), None);
        assert_eq!(nearest("x", &[]), None);
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics(text in "([a-z/*.:#%=\u{e4} \t\n]|proxy |fail |host |upstream |/a/\\* |1.1.1.1:1 |max=|check=http:|drain |wait=9){0,40}") {
            let _ = parse(Path::new("x"), &text);
        }
    }
}
