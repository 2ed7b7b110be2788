//! What a browser needs to see in a page: links, assets, and forms with the values that they would send.
//!
//! A scanner of tags, not a parser of documents: it knows attributes, character references, comments and the raw text
//! of scripts and styles. Nothing in a page can make it fail; what it cannot read is not there.

use super::url::resolve;

/// The parts of a page, with every address resolved to a path on the page's own host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// Targets of `<a href>`, in order.
    pub links: Vec<String>,
    /// Style sheets, scripts and images on the same host, each once, in order.
    pub assets: Vec<String>,
    /// Assets on other hosts.
    pub foreign_assets: u64,
    pub forms: Vec<Form>,
}

/// A form as the page offers it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Form {
    pub action: String,
    pub post: bool,
    /// Names and values that would be sent if nobody touched the form.
    pub fields: Vec<(String, String)>,
}

impl Form {
    /// Fills a field, or adds it if the page does not have it.
    pub fn fill(&mut self, name: &str, value: String) {
        match self.fields.iter_mut().find(|(known, _)| known == name) {
            Some((_, old)) => *old = value,
            None => self.fields.push((name.to_owned(), value)),
        }
    }
}

impl Page {
    /// Reads a page that was found at `path` of `authority`.
    pub fn read(html: &str, authority: &str, path: &str) -> Self {
        let mut reader = Reader { page: Self::default(), authority, path, form: None, select: None };
        let mut rest = html;
        while let Some(start) = rest.find('<') {
            rest = &rest[start + 1..];
            if let Some(comment) = rest.strip_prefix("!--") {
                rest = comment.find("-->").map_or("", |end| &comment[end + 3..]);
                continue;
            }
            let Some((tag, behind)) = Tag::read(rest) else { continue };
            rest = behind;
            let raw_end = match (tag.closing, tag.name.as_str()) {
                (false, "script") => "</script",
                (false, "style") => "</style",
                (false, "textarea") => "</textarea",
                _ => "",
            };
            let mut raw = "";
            if !raw_end.is_empty() {
                let end = find_ignoring_case(rest, raw_end).unwrap_or(rest.len());
                (raw, rest) = rest.split_at(end);
            }
            reader.take(&tag, raw, rest);
        }
        reader.end_form();
        reader.page
    }
}

struct Reader<'a> {
    page: Page,
    authority: &'a str,
    path: &'a str,
    form: Option<Form>,
    /// Name of the open `<select>`, and the value chosen so far: its first option, or the selected one.
    select: Option<(String, Option<String>)>,
}

impl Reader<'_> {
    fn take(&mut self, tag: &Tag, raw: &str, behind: &str) {
        match (tag.name.as_str(), tag.closing) {
            ("a", false) => {
                if let Some(link) = tag.get("href").and_then(|href| resolve(self.authority, self.path, href)) {
                    self.page.links.push(link);
                }
            }
            ("link", false) => {
                let sheet = tag.get("rel").is_some_and(|rel| {
                    rel.split_ascii_whitespace().any(|word| word.eq_ignore_ascii_case("stylesheet"))
                });
                if sheet {
                    self.asset(tag.get("href"));
                }
            }
            ("script" | "img", false) => self.asset(tag.get("src")),
            ("form", false) => {
                self.end_form();
                let action = resolve(self.authority, self.path, tag.get("action").unwrap_or(""))
                    .unwrap_or_else(|| self.path.to_owned());
                let post = tag.get("method").is_some_and(|method| method.eq_ignore_ascii_case("post"));
                self.form = Some(Form { action, post, fields: Vec::new() });
            }
            ("form", true) => self.end_form(),
            ("input", false) => self.input(tag),
            ("textarea", false) => {
                if let Some(name) = tag.get("name") {
                    // A newline right behind the tag is not part of the value.
                    let value = decode(raw.strip_prefix("\r\n").or(raw.strip_prefix('\n')).unwrap_or(raw));
                    self.field(name, value);
                }
            }
            ("select", false) => self.select = tag.get("name").map(|name| (name.to_owned(), None)),
            ("option", false) => self.option(tag, behind),
            ("select", true) => {
                if let Some((name, Some(value))) = self.select.take() {
                    self.field(&name, value);
                }
            }
            _ => {}
        }
    }

    fn asset(&mut self, address: Option<&str>) {
        let Some(address) = address.filter(|address| !address.is_empty() && !address.starts_with("data:")) else {
            return;
        };
        match resolve(self.authority, self.path, address) {
            Some(path) if self.page.assets.contains(&path) => {}
            Some(path) => self.page.assets.push(path),
            None => self.page.foreign_assets += 1,
        }
    }

    fn input(&mut self, tag: &Tag) {
        let Some(name) = tag.get("name") else { return };
        let kind = tag.get("type").unwrap_or("text").to_ascii_lowercase();
        let value = tag.get("value");
        match kind.as_str() {
            "submit" | "button" | "image" | "reset" | "file" => {}
            "checkbox" | "radio" => {
                if tag.get("checked").is_some() {
                    self.field(name, value.unwrap_or("on").to_owned());
                }
            }
            _ => self.field(name, value.unwrap_or("").to_owned()),
        }
    }

    fn option(&mut self, tag: &Tag, behind: &str) {
        let text = || decode(behind[..behind.find('<').unwrap_or(behind.len())].trim());
        if let Some((_, chosen)) = &mut self.select
            && (chosen.is_none() || tag.get("selected").is_some())
        {
            *chosen = Some(tag.get("value").map_or_else(text, str::to_owned));
        }
    }

    fn field(&mut self, name: &str, value: String) {
        if let Some(form) = &mut self.form {
            form.fields.push((name.to_owned(), value));
        }
    }

    fn end_form(&mut self) {
        self.page.forms.extend(self.form.take());
    }
}

/// One tag: its name in lower case, and its attributes with character references decoded.
struct Tag {
    name: String,
    closing: bool,
    attributes: Vec<(String, String)>,
}

impl Tag {
    /// Reads a tag whose `<` was taken, and returns what is behind its `>`.
    fn read(text: &str) -> Option<(Self, &str)> {
        let (closing, text) = text.strip_prefix('/').map_or((false, text), |text| (true, text));
        let end = text.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(text.len());
        if end == 0 {
            return None;
        }
        let (name, mut rest) = text.split_at(end);
        let mut attributes = Vec::new();
        loop {
            rest = rest.trim_start_matches(|c: char| c.is_ascii_whitespace() || c == '/');
            if let Some(behind) = rest.strip_prefix('>') {
                return Some((Self { name: name.to_ascii_lowercase(), closing, attributes }, behind));
            }
            let end = rest.find(|c: char| c.is_ascii_whitespace() || matches!(c, '=' | '>' | '/'))?;
            // A stray `=` counts as a name, so that every round takes something.
            let end = end.max(1);
            let (attribute, behind) = rest.split_at_checked(end)?;
            rest = behind.trim_start();
            let mut value = "";
            if let Some(behind) = rest.strip_prefix('=') {
                (value, rest) = attribute_value(behind.trim_start())?;
            }
            attributes.push((attribute.to_ascii_lowercase(), decode(value)));
        }
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.attributes.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

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

fn find_ignoring_case(text: &str, needle: &str) -> Option<usize> {
    text.as_bytes().windows(needle.len()).position(|window| window.eq_ignore_ascii_case(needle.as_bytes()))
}

/// Character references as templates write them: the five names, decimal and hexadecimal numbers.
pub fn decode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find('&') {
        out.push_str(&rest[..start]);
        rest = &rest[start + 1..];
        let reference = rest.find(';').filter(|&end| end <= 10).map(|end| &rest[..end]);
        let decoded = reference.and_then(|name| match name {
            "amp" => Some('&'),
            "lt" => Some('<'),
            "gt" => Some('>'),
            "quot" => Some('"'),
            "apos" => Some('\''),
            "nbsp" => Some('\u{a0}'),
            _ => {
                let number = name.strip_prefix('#')?;
                let code = match number.strip_prefix(['x', 'X']) {
                    Some(digits) => u32::from_str_radix(digits, 16),
                    None => number.parse(),
                };
                char::from_u32(code.ok()?)
            }
        });
        match (decoded, reference) {
            (Some(character), Some(name)) => {
                out.push(character);
                rest = &rest[name.len() + 1..];
            }
            _ => out.push('&'),
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::{Form, Page, decode};
    use proptest::prelude::*;

    const PAGE: &str = r#"<!doctype html><html><head>
        <link rel="stylesheet" href="/static/site.css"><LINK REL='icon' HREF=/favicon.ico>
        <link rel="preload stylesheet" href="more.css?v=1&amp;w=2"><script src="//cdn.example/x.js"></script>
        <script>if (a < b) document.write("<a href='/never'>");</script></head>
        <body><!-- <a href="/hidden">x</a> --><img src="/static/logo.svg" alt=""><img src='/static/logo.svg'>
        <a class=x href=/items/42>one</a> <a href="43?a=b#c">two</a> <a href="mailto:x@y">mail</a>
        <form action="/directory/sign-in" method="POST">
          <input type="hidden" name="csrf" value="a&quot;b"><input name=user><input type=password name="password" required>
          <input type=checkbox name=keep checked><input type="checkbox" name="other"><input type="submit" name="go" value="Go">
          <select name="size"><option value="s">S</option><option selected> M &amp; L </option></select>
          <textarea name="reason">
 because &lt;x&gt;</textarea>
        </form>
        <form action="?q"><input name="words" value="ring"></form></body>"#;

    #[test]
    fn a_page_gives_links_assets_and_forms() {
        let page = Page::read(PAGE, "h:80", "/items/list");
        assert_eq!(page.links, ["/items/42", "/items/43?a=b"]);
        assert_eq!(page.assets, ["/static/site.css", "/items/more.css?v=1&w=2", "/static/logo.svg"]);
        assert_eq!(page.foreign_assets, 1);
        let text = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let fields = vec![
            text("csrf", "a\"b"),
            text("user", ""),
            text("password", ""),
            text("keep", "on"),
            text("size", "M & L"),
            text("reason", " because <x>"),
        ];
        assert_eq!(page.forms[0], Form { action: "/directory/sign-in".into(), post: true, fields });
        assert_eq!(
            page.forms[1],
            Form { action: "/items/list?q".into(), post: false, fields: vec![text("words", "ring")] }
        );
    }

    #[test]
    fn filling_replaces_or_adds() {
        let mut form = Page::read(PAGE, "h", "/").forms.swap_remove(0);
        form.fill("user", "alice".into());
        form.fill("extra", "1".into());
        assert!(form.fields.contains(&("user".into(), "alice".into())));
        assert!(form.fields.contains(&("extra".into(), "1".into())));
    }

    #[test]
    fn references_decode_and_lone_ampersands_stay() {
        assert_eq!(decode("a&#65;&#x42;&unknown;&amp&;& b"), "aAB&unknown;&amp&;& b");
    }

    proptest! {
        #[test]
        fn no_page_makes_it_panic(text in "[<>/=\"' a-z&;#!é-]{0,120}") {
            Page::read(&text, "h", "/");
        }
    }
}
