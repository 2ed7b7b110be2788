//! The tokens of templates and expressions: which filters, tests, templates and variables they name.

use std::ops::Range;

/// Reads an expression; places are offsets in it.
pub(super) fn scan_expression(expression: &str) -> Scan {
    let mut scan = Scan::default();
    scan.code(expression, 0);
    scan
}

/// Names, signs and texts of one tag or expression. The template engine reads and compiles an expression by recursion,
/// and a thread's stack has an end.
pub(super) const TOKENS_MAX: usize = 500;
/// Blocks within each other, and branches of them, for the same reason.
pub(super) const DEPTH_MAX: usize = 50;

/// Names that a template uses, with their places.
#[derive(Debug, Default)]
pub(super) struct Scan {
    pub filters: Vec<(String, Range<usize>)>,
    pub tests: Vec<(String, Range<usize>)>,
    /// Included, extended and imported templates that are named by a literal.
    pub templates: Vec<(String, Range<usize>)>,
    /// Variables that the template sets for itself and those it includes or extends.
    pub set: Vec<String>,
    pub words: Vec<(String, Range<usize>)>,
    /// Roles that are looked for among the user's, as in `'approver' in user.roles`.
    pub roles: Vec<(String, Range<usize>)>,
    /// Tags that change what is escaped.
    pub autoescapes: Vec<Range<usize>>,
    /// The first tag with more than [`TOKENS_MAX`] tokens.
    pub long: Option<Range<usize>>,
    /// The first tag deeper than [`DEPTH_MAX`].
    pub deep: Option<Range<usize>>,
    /// Blocks that are open, each with its branches so far.
    open: Vec<usize>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token<'a> {
    Word(&'a str),
    Text(&'a str),
    Sign(char),
}

/// Reads the tags of a template.
pub(super) fn scan(text: &str) -> Scan {
    let mut scan = Scan::default();
    let mut at = 0;
    while let Some(open) = text[at..].find('{').map(|open| open + at) {
        let (inner, close) = match text.as_bytes().get(open + 1) {
            Some(b'{') => (open + 2, "}}"),
            Some(b'%') => (open + 2, "%}"),
            Some(b'#') => (open + 2, "#}"),
            Some(_) | None => {
                at = open + 1;
                continue;
            }
        };
        let end = text[inner..].find(close).map_or(text.len(), |end| end + inner);
        let code = &text[inner..end];
        at = (end + 2).min(text.len());
        if close == "#}" {
            continue;
        }
        if close == "%}" && code.trim_matches(['-', '+', ' ']).trim() == "raw" {
            at = text[at..].find("endraw").map_or(text.len(), |end| end + at);
            continue;
        }
        scan.code(code, inner);
    }
    scan
}

impl Scan {
    fn code(&mut self, code: &str, offset: usize) {
        let tokens = tokens(code);
        let place = |token: &Token<'_>, at: usize| {
            let length = match token {
                Token::Word(text) | Token::Text(text) => text.len(),
                Token::Sign(_) => 1,
            };
            offset + at..offset + at + length
        };
        if tokens.len() > TOKENS_MAX {
            self.long.get_or_insert(offset..offset + code.len());
        }
        let statement = match tokens.first() {
            Some((Token::Word(word), _)) => *word,
            Some((Token::Text(_) | Token::Sign(_), _)) | None => "",
        };
        match statement {
            "if" | "for" | "block" | "with" | "macro" | "filter" | "call" | "autoescape" => self.open.push(1),
            "elif" => self.open.last_mut().into_iter().for_each(|branches| *branches += 1),
            "endif" | "endfor" | "endblock" | "endwith" | "endmacro" | "endfilter" | "endcall" | "endautoescape" => {
                self.open.pop();
            }
            _ => {}
        }
        if self.open.iter().sum::<usize>() > DEPTH_MAX {
            self.deep.get_or_insert(offset..offset + code.len());
        }
        for (index, (token, at)) in tokens.iter().enumerate() {
            let before = |back: usize| index.checked_sub(back).map(|index| &tokens[index].0);
            match token {
                Token::Word(word) => {
                    self.words.push(((*word).to_owned(), place(token, *at)));
                    if index == 0 && *word == "autoescape" {
                        self.autoescapes.push(place(token, *at));
                    }
                    let negated = before(1) == Some(&Token::Word("not")) && before(2) == Some(&Token::Word("is"));
                    if before(1) == Some(&Token::Sign('|')) || (index == 1 && statement == "filter") {
                        self.filters.push(((*word).to_owned(), place(token, *at)));
                    } else if (before(1) == Some(&Token::Word("is")) && *word != "not") || negated {
                        self.tests.push(((*word).to_owned(), place(token, *at)));
                    }
                    let next = tokens.get(index + 1).map(|(token, _)| token);
                    let ends = |stop: &Token<'_>| tokens[1..index].iter().all(|(token, _)| token != stop);
                    let binds = match statement {
                        "set" => index > 0 && ends(&Token::Sign('=')),
                        "for" => index > 0 && *word != "in" && ends(&Token::Word("in")),
                        "with" => next == Some(&Token::Sign('=')),
                        _ => false,
                    };
                    if binds {
                        self.set.push((*word).to_owned());
                    }
                }
                Token::Text(text) => {
                    if index == 1 && matches!(statement, "include" | "extends" | "import" | "from") {
                        self.templates.push(((*text).to_owned(), place(token, *at)));
                    }
                    let after = |ahead: usize| tokens.get(index + ahead).map(|(token, _)| token);
                    let inward = usize::from(after(1) == Some(&Token::Word("not")));
                    let asked = [Token::Word("in"), Token::Word("user"), Token::Sign('.'), Token::Word("roles")];
                    if asked.iter().enumerate().all(|(step, token)| after(1 + inward + step) == Some(token)) {
                        self.roles.push(((*text).to_owned(), place(token, *at)));
                    }
                }
                Token::Sign(_) => {}
            }
        }
    }

    pub fn first_use(&self, variable: &str) -> Range<usize> {
        self.words.iter().find(|(word, _)| word == variable).map_or(0..0, |(_, at)| at.clone())
    }
}

fn tokens(code: &str) -> Vec<(Token<'_>, usize)> {
    let mut tokens = Vec::new();
    let mut characters = code.char_indices().peekable();
    while let Some((at, character)) = characters.next() {
        if character == '"' || character == '\'' {
            let mut end = code.len();
            while let Some((next, inner)) = characters.next() {
                if inner == '\\' {
                    characters.next();
                } else if inner == character {
                    end = next;
                    break;
                }
            }
            tokens.push((Token::Text(&code[at + 1..end]), at + 1));
        } else if character.is_alphabetic() || character == '_' {
            let mut end = at + character.len_utf8();
            while let Some((next, inner)) = characters.next_if(|(_, inner)| inner.is_alphanumeric() || *inner == '_') {
                end = next + inner.len_utf8();
            }
            tokens.push((Token::Word(&code[at..end]), at));
        } else if !(character.is_whitespace() || at == 0 && matches!(character, '-' | '+')) {
            tokens.push((Token::Sign(character), at));
        }
    }
    tokens
}

#[cfg(test)]
mod tests {
    use super::{scan, scan_expression};

    #[test]
    fn scans_names() {
        let text = "{% extends 'base.html' %}{# {{ x|no }} #}{% raw %}{{ y|no }}{% endraw %}\
            {% set active, other = 'a|b', 1 %}{% for a, b in rows|batch(2) %}{{ a.price | money }}{% endfor %}\
            {% include \"part.html\" %}{% if x is not defined or y is odd %}{% endif %}{% with z=1 %}{% endwith %}";
        let scan = scan(text);
        let names = |list: &[(String, std::ops::Range<usize>)]| -> Vec<String> {
            list.iter()
                .map(|(name, at)| {
                    assert_eq!(&text[at.clone()], name);
                    name.clone()
                })
                .collect()
        };
        assert_eq!(names(&scan.templates), ["base.html", "part.html"]);
        assert_eq!(names(&scan.filters), ["batch", "money"]);
        assert_eq!(names(&scan.tests), ["defined", "odd"]);
        assert_eq!(scan.set, ["active", "other", "a", "b", "z"]);
        let scan =
            scan_expression("a|lower == 'x|y' or 'buyer' in user.roles and 'b' not in user.roles and 'c' in row.d");
        assert_eq!(scan.filters, [("lower".to_owned(), 2..7)]);
        let roles: Vec<&str> = scan.roles.iter().map(|(role, _)| role.as_str()).collect();
        assert_eq!(roles, ["buyer", "b"]);
    }
}
