//! A tree of elements for pages and pictures: every element is closed and every text is escaped, so that nothing which
//! a system under test says can become markup.

/// An element with its attributes and children.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Element {
    name: &'static str,
    attributes: Vec<(&'static str, String)>,
    children: Vec<Node>,
    /// Closed in its own tag; it has no children.
    leaf: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Node {
    Element(Element),
    Text(String),
    /// Of a style or script element, in which HTML knows no escapes.
    Raw(String),
}

/// An element that may have children.
pub fn element(name: &'static str) -> Element {
    Element { name, ..Element::default() }
}

/// An element that has none.
pub fn leaf(name: &'static str) -> Element {
    Element { name, leaf: true, ..Element::default() }
}

impl Element {
    pub fn set(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.attributes.push((name, value.into()));
        self
    }

    pub fn class(self, value: impl Into<String>) -> Self {
        self.set("class", value)
    }

    /// A coordinate or length; see [`number`].
    pub fn at(self, name: &'static str, value: f64) -> Self {
        self.set(name, number(value))
    }

    pub fn text(mut self, text: impl Into<String>) -> Self {
        self.children.push(Node::Text(text.into()));
        self
    }

    /// Text as it is, for style and script elements: the caller has made sure that it does not end them.
    pub fn raw(mut self, text: impl Into<String>) -> Self {
        self.children.push(Node::Raw(text.into()));
        self
    }

    pub fn child(mut self, child: Self) -> Self {
        self.children.push(Node::Element(child));
        self
    }

    pub fn children(mut self, children: impl IntoIterator<Item = Self>) -> Self {
        self.children.extend(children.into_iter().map(Node::Element));
        self
    }

    /// Writes the element and everything in it.
    pub fn write(&self, out: &mut String) {
        out.push('<');
        out.push_str(self.name);
        for (name, value) in &self.attributes {
            out.push(' ');
            out.push_str(name);
            out.push_str("=\"");
            escape(value, out);
            out.push('"');
        }
        if self.leaf {
            out.push_str("/>");
            return;
        }
        out.push('>');
        for child in &self.children {
            match child {
                Node::Element(element) => element.write(out),
                Node::Text(text) => escape(text, out),
                Node::Raw(text) => out.push_str(text),
            }
        }
        out.push_str("</");
        out.push_str(self.name);
        out.push('>');
    }

    pub fn markup(&self) -> String {
        let mut out = String::new();
        self.write(&mut out);
        out
    }
}

fn escape(text: &str, out: &mut String) {
    for letter in text.chars() {
        match letter {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            // A control character has no place in a page, and none in XML at all.
            letter if letter.is_control() && letter != '\n' && letter != '\t' => out.push('\u{fffd}'),
            letter => out.push(letter),
        }
    }
}

/// A coordinate with at most one decimal, the same on every machine.
pub fn number(value: f64) -> String {
    let text = format!("{value:.1}");
    let text = text.strip_suffix(".0").unwrap_or(&text);
    if text == "-0" { "0".to_owned() } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::{element, leaf, number};

    #[test]
    fn what_a_system_says_is_no_markup() {
        let said = element("p").set("title", "a\"b").text("<script>alert(1)</script> & more\u{7}");
        assert_eq!(said.markup(), "<p title=\"a&quot;b\">&lt;script&gt;alert(1)&lt;/script&gt; &amp; more\u{fffd}</p>");
        assert_eq!(element("g").child(leaf("path").at("x", 1.25)).markup(), "<g><path x=\"1.2\"/></g>");
    }

    #[test]
    fn coordinates_have_one_form() {
        assert_eq!([0.0, -0.01, 12.0, 12.34, -3.06].map(number), ["0", "0", "12", "12.3", "-3.1"]);
    }
}
