//! The page: one file that needs nothing else, no network, no font, no script.
//!
//! Its own security policy forbids whatever would reach out of it, so that a browser refuses what a mistake in here
//! would load.

mod blocks;

use crate::markup::{Element, element, leaf};
use crate::plot::STYLE;
use crate::report::document::Chapter;

const PAGE_STYLE: &str = include_str!("html/page.css");
/// Nothing is loaded; the page's own style is all that is applied.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'";

/// A page before it is written.
#[derive(Clone, Debug)]
pub struct Page {
    pub title: String,
    /// Below the title: when, what, from which commit.
    pub subtitle: Vec<String>,
    pub verdict: Verdict,
    pub chapters: Vec<Chapter>,
    /// Data for other programs: the element's name, and JSON.
    pub data: Vec<(String, String)>,
}

/// Whether the run may be quoted, in the page's head.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// `valid`, `suspect`, `invalid`, or another word.
    pub word: String,
    pub text: String,
    pub reasons: Vec<String>,
}

impl Page {
    /// The whole file.
    pub fn html(&self) -> String {
        let mut out = "<!DOCTYPE html>\n".to_owned();
        element("html").set("lang", "en").child(self.head()).child(self.body()).write(&mut out);
        out.push('\n');
        out
    }

    fn head(&self) -> Element {
        let meta = |name: &'static str, content: &str| leaf("meta").set("name", name).set("content", content);
        element("head")
            .child(leaf("meta").set("charset", "utf-8"))
            .child(leaf("meta").set("http-equiv", "Content-Security-Policy").set("content", POLICY))
            .child(meta("viewport", "width=device-width, initial-scale=1"))
            .child(meta("color-scheme", "light dark"))
            .child(element("title").text(self.title.clone()))
            .child(element("style").raw(PAGE_STYLE).raw(STYLE))
    }

    fn body(&self) -> Element {
        let subtitle = self.subtitle.iter().map(|line| blocks::rich("p", line).class("soft"));
        let header = element("header")
            .child(element("h1").text(self.title.clone()))
            .children(subtitle)
            .child(self.verdict.element());
        let chapters = self.chapters.iter().enumerate();
        let links = chapters.clone().map(|(index, chapter)| {
            element("li").child(element("a").set("href", format!("#{}", anchor(index))).text(chapter.title.clone()))
        });
        let nav = element("nav").set("aria-label", "Chapters").child(element("ul").children(links));
        let main = element("main").children(chapters.map(|(index, chapter)| {
            element("section")
                .set("id", anchor(index))
                .set("aria-labelledby", format!("{}-title", anchor(index)))
                .child(element("h2").set("id", format!("{}-title", anchor(index))).text(chapter.title.clone()))
                .children(blocks::elements(&chapter.blocks, &format!("c{}", index + 1)))
        }));
        let data = self.data.iter().map(|(id, json)| {
            // In JSON a `<` can only stand in a string, where an escape means the same and ends no element.
            let json = json.replace('<', "\\u003c");
            element("script").set("type", "application/json").set("id", id.clone()).raw(json)
        });
        element("body")
            .child(element("a").class("skip").set("href", "#chapter-1").text("To the figures"))
            .child(header)
            .child(nav)
            .child(main)
            .children(data)
    }
}

impl Verdict {
    fn element(&self) -> Element {
        let class = match self.word.as_str() {
            "valid" => "verdict good",
            "invalid" => "verdict bad",
            _ => "verdict mind",
        };
        let mut banner = element("div").class(class).set("role", "status");
        let line = element("p").child(element("strong").text(self.word.clone()));
        banner = banner.child(line.text(format!(" {}", self.text)));
        if self.reasons.is_empty() {
            return banner;
        }
        banner.child(element("ul").children(self.reasons.iter().map(|reason| blocks::rich("li", reason))))
    }
}

fn anchor(index: usize) -> String {
    format!("chapter-{}", index + 1)
}
