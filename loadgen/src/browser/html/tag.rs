//! The tags of a page, one after the other, as the tokenizer of the HTML standard sees them (section 13.2.5), with
//! what it drops already dropped: comments, declarations, and the insides of elements that hold raw text.
//!
//! Own code and not a tree builder, because every document goes through it on the timing thread.

use std::borrow::Cow;

use htmlize::{unescape, unescape_attribute};

/// Elements whose content is text. With scripts switched on, `noscript` is one of them.
const RAW: [&str; 9] = ["script", "style", "textarea", "title", "noscript", "iframe", "xmp", "noembed", "noframes"];

/// One tag.
pub struct Tag<'a> {
    /// In lower case.
    pub name: Cow<'a, str>,
    pub closing: bool,
    /// Names as written, and values with their character references.
    attributes: Vec<(&'a str, &'a str)>,
    /// The text within, if the element holds raw text.
    pub raw: &'a str,
}

impl<'a> Tag<'a> {
    /// The value of an attribute, of which the first of its name counts.
    pub fn get(&self, name: &str) -> Option<Cow<'a, str>> {
        let found = self.attributes.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, value)| unescape_attribute(*value))
    }

    pub fn has(&self, name: &str) -> bool {
        self.attributes.iter().any(|(known, _)| known.eq_ignore_ascii_case(name))
    }
}

/// The tags of a text.
pub struct Tags<'a> {
    rest: &'a str,
}

impl<'a> Tags<'a> {
    pub fn new(text: &'a str) -> Self {
        Self { rest: text }
    }

    /// Text up to the next tag, with its character references resolved.
    pub fn text(&self) -> Cow<'a, str> {
        unescape(&self.rest[..self.rest.find('<').unwrap_or(self.rest.len())])
    }

    /// Reads a tag whose `<` or `</` was taken; `None` if the text ends within it, which drops it.
    fn tag(&mut self, closing: bool) -> Option<Tag<'a>> {
        let end = self.rest.find(|c: char| c.is_ascii_whitespace() || c == '/' || c == '>')?;
        let (name, mut rest) = self.rest.split_at(end);
        let name = match name.bytes().any(|byte| byte.is_ascii_uppercase()) {
            true => Cow::Owned(name.to_ascii_lowercase()),
            false => Cow::Borrowed(name),
        };
        let mut attributes = Vec::new();
        loop {
            rest = rest.trim_start_matches(|c: char| c.is_ascii_whitespace() || c == '/');
            if let Some(behind) = rest.strip_prefix('>') {
                self.rest = behind;
                let raw = if closing { "" } else { self.raw(&name) };
                return Some(Tag { name, closing, attributes, raw });
            }
            // An equals sign at the beginning belongs to the name.
            let first = rest.chars().next()?.len_utf8();
            let end = first + rest[first..].find(|c: char| c.is_ascii_whitespace() || matches!(c, '=' | '>' | '/'))?;
            let (attribute, behind) = rest.split_at(end);
            rest = behind.trim_start_matches(|c: char| c.is_ascii_whitespace());
            let mut value = "";
            if let Some(behind) = rest.strip_prefix('=') {
                (value, rest) = attribute_value(behind.trim_start_matches(|c: char| c.is_ascii_whitespace()))?;
            }
            attributes.push((attribute, value));
        }
    }

    /// Takes the content of an element that holds raw text.
    fn raw(&mut self, name: &str) -> &'a str {
        if name == "plaintext" {
            return std::mem::take(&mut self.rest);
        }
        if !RAW.contains(&name) {
            return "";
        }
        let end = if name == "script" { script_end(self.rest) } else { closing_tag(self.rest, name) };
        let (raw, rest) = self.rest.split_at(end.unwrap_or(self.rest.len()));
        self.rest = rest;
        raw
    }
}

impl<'a> Iterator for Tags<'a> {
    type Item = Tag<'a>;

    fn next(&mut self) -> Option<Tag<'a>> {
        loop {
            self.rest = &self.rest[self.rest.find('<')? + 1..];
            let (closing, behind) = match self.rest.strip_prefix('/') {
                Some(behind) => (true, behind),
                None => (false, self.rest),
            };
            match behind.bytes().next()? {
                byte if byte.is_ascii_alphabetic() => {
                    self.rest = behind;
                    let tag = self.tag(closing);
                    if tag.is_none() {
                        self.rest = "";
                    }
                    return tag;
                }
                b'!' if !closing && behind.starts_with("!--") => self.rest = behind_comment(&behind[3..]),
                b'!' | b'?' if !closing => self.rest = behind_bracket(behind),
                _ if closing => self.rest = behind_bracket(behind),
                // A lone `<` is text.
                _ => {}
            }
        }
    }
}

/// The value and what is behind it; `None` if the text ends within it.
fn attribute_value(text: &str) -> Option<(&str, &str)> {
    for quote in ['"', '\''] {
        if let Some(quoted) = text.strip_prefix(quote) {
            let end = quoted.find(quote)?;
            return Some((&quoted[..end], &quoted[end + 1..]));
        }
    }
    let end = text.find(|c: char| c.is_ascii_whitespace() || c == '>')?;
    Some(text.split_at(end))
}

fn behind_bracket(text: &str) -> &str {
    text.find('>').map_or("", |end| &text[end + 1..])
}

/// What follows a comment whose `<!--` was taken. `<!-->` and `<!--->` are whole comments.
fn behind_comment(text: &str) -> &str {
    for short in [">", "->"] {
        if let Some(behind) = text.strip_prefix(short) {
            return behind;
        }
    }
    let ends = [("-->", 3), ("--!>", 4)];
    let end = ends.iter().filter_map(|(end, length)| Some(text.find(end)? + length)).min();
    end.map_or("", |end| &text[end..])
}

/// The place of the `</name` that ends an element of raw text.
fn closing_tag(text: &str, name: &str) -> Option<usize> {
    let mut from = 0;
    loop {
        let at = from + text[from..].find("</")?;
        if is_tag(&text[at + 2..], name) {
            return Some(at);
        }
        from = at + 2;
    }
}

/// Whether a tag of that name begins here.
fn is_tag(text: &str, name: &str) -> bool {
    let behind = text.get(..name.len()).filter(|start| start.eq_ignore_ascii_case(name)).map(|_| &text[name.len()..]);
    behind.is_some_and(|behind| behind.starts_with(|c: char| c.is_ascii_whitespace() || c == '/' || c == '>'))
}

/// The place of the `</script` that ends a script. Within `<!-- <script>` one does not, because old pages hide their
/// scripts from older browsers in comments.
fn script_end(text: &str) -> Option<usize> {
    let (mut from, mut commented, mut nested) = (0, false, false);
    loop {
        let at = from + text[from..].find(['<', '-'])?;
        let rest = &text[at..];
        from = at + 1;
        if let Some(behind) = rest.strip_prefix("<!--") {
            if !commented {
                commented = true;
                // The dashes may end the comment at once.
                from = at + if behind.starts_with('>') || behind.starts_with("->") { 2 } else { 4 };
            }
        } else if rest.starts_with("-->") {
            (commented, nested) = (false, false);
        } else if let Some(behind) = rest.strip_prefix("</") {
            if is_tag(behind, "script") {
                if !nested {
                    return Some(at);
                }
                nested = false;
            }
        } else if commented && rest.strip_prefix('<').is_some_and(|behind| is_tag(behind, "script")) {
            nested = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Tags;

    fn names(text: &str) -> Vec<String> {
        Tags::new(text).map(|tag| format!("{}{}", if tag.closing { "/" } else { "" }, tag.name)).collect()
    }

    #[test]
    fn what_is_no_tag_is_passed_over() {
        assert_eq!(names("a < b <1 <> </> </ x> <!x> <?x <a> ?> <b/>"), ["b"]);
        assert_eq!(names("<!--><a>--><b><!--- --!><c><!-- <d> -- > --><e><!--->"), ["a", "b", "c", "e"]);
        assert_eq!(names("<A\n><my-element><Br/></A >"), ["a", "my-element", "br", "/a"]);
        assert_eq!(names("<a><b x=\"<c>\"><d x='"), ["a", "b"]);
    }

    #[test]
    fn raw_text_ends_with_its_own_tag() {
        assert_eq!(names("<title><a></titles></TITLE><b>"), ["title", "/title", "b"]);
        assert_eq!(
            names("<noscript><img></noscript><script>'</scripty>'</script><b>"),
            ["noscript", "/noscript", "script", "/script", "b"]
        );
        assert_eq!(names("<script><!-- <script> </script> --></script><b>"), ["script", "/script", "b"]);
        assert_eq!(names("<script><!-- </script><b>"), ["script", "/script", "b"]);
        assert_eq!(names("<script><!--><script></script><b>"), ["script", "/script", "b"]);
        assert_eq!(names("<plaintext><b></plaintext>"), ["plaintext"]);
        let raw: Vec<&str> = Tags::new("<style>a{}</style><p>").map(|tag| tag.raw).collect();
        assert_eq!(raw, ["a{}", "", ""]);
    }

    #[test]
    fn attributes_have_quotes_or_not_and_the_first_counts() {
        let tag = Tags::new("<a HREF = 'x&amp;y' b=1/2 c d=\"&copy=1 &copy;\" href=z =e==f g=>").next().unwrap();
        let get = |name| tag.get(name).map(|value| value.into_owned());
        assert_eq!(get("href").unwrap(), "x&y");
        assert_eq!((get("b").unwrap(), get("c").unwrap()), ("1/2".into(), String::new()));
        assert_eq!(get("d").unwrap(), "&copy=1 \u{a9}");
        assert_eq!((get("=e").unwrap(), get("g").unwrap(), get("x")), ("=f".into(), String::new(), None));
        assert!(tag.has("C") && !tag.has("x"));
    }
}
