//! What a browser needs to see in a page: links, assets, and forms with the values that they would send.
//!
//! Scripts are loaded and not run, frames are not entered, and what a `<template>` holds is not there. Nothing in a
//! page can make it fail; what it cannot read is not there.

mod form;
mod image;
mod tag;
#[cfg(test)]
mod tests;

use self::form::Forms;
pub use self::form::{Encoding, Field, Form, get_path};
use self::tag::{Tag, Tags};
use super::css;
use super::url::Base;

/// Assets of one page, with those of its style sheets; more are not loaded.
pub const ASSETS_MAX: usize = 1000;

/// The parts of a page, with every address resolved to a path on the page's own host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// Targets of `<a href>` and `<area href>`, in order.
    pub links: Vec<String>,
    /// What the page loads, each once, in order.
    pub assets: Vec<Asset>,
    /// Assets on other hosts.
    pub foreign_assets: u64,
    pub forms: Vec<Form>,
}

/// A file that a page loads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asset {
    pub path: String,
    /// A style sheet, which may ask for more.
    pub sheet: bool,
}

impl Page {
    /// Reads a page that was found at `path` of `authority`.
    pub fn read(html: &str, authority: &str, path: &str) -> Self {
        let mut reader = Reader {
            page: Self::default(),
            forms: Forms::default(),
            authority,
            path,
            base: Base::Local(path.to_owned()),
            based: false,
            templates: 0,
            picture: None,
        };
        let mut tags = Tags::new(html);
        while let Some(tag) = tags.next() {
            reader.take(&tag, &tags);
        }
        reader.page.forms = reader.forms.end();
        reader.page
    }

    /// Adds assets that a style sheet at `path` asks for; those that are new are returned.
    pub fn add_references(&mut self, authority: &str, path: &str, references: &css::References) -> Vec<Asset> {
        let base = Base::Local(path.to_owned());
        let before = self.assets.len();
        for (list, sheet) in [(&references.sheets, true), (&references.files, false)] {
            for address in list {
                self.add(authority, &base, address, sheet);
            }
        }
        self.assets[before..].to_vec()
    }

    fn add(&mut self, authority: &str, base: &Base, address: &str, sheet: bool) {
        let address = address.trim();
        if address.is_empty() || is_inline(address) {
            return;
        }
        match base.resolve(authority, address) {
            Some(path) => match self.assets.iter().position(|asset| asset.path == path) {
                Some(place) => self.assets[place].sheet |= sheet,
                None if self.assets.len() < ASSETS_MAX => self.assets.push(Asset { path, sheet }),
                None => {}
            },
            None => self.foreign_assets += 1,
        }
    }
}

/// Addresses that carry their content.
fn is_inline(address: &str) -> bool {
    let scheme = address.split(':').next().unwrap_or("");
    ["data", "blob", "about", "javascript"].iter().any(|inline| scheme.eq_ignore_ascii_case(inline))
}

struct Reader<'a> {
    page: Page,
    forms: Forms,
    authority: &'a str,
    path: &'a str,
    base: Base,
    /// A `<base href>` was seen; further ones do not count.
    based: bool,
    /// `<template>` elements that are open.
    templates: u32,
    /// Within `<picture>`: the sources so far, the first of which that fits is taken.
    picture: Option<Option<String>>,
}

impl Reader<'_> {
    fn take(&mut self, tag: &Tag<'_>, behind: &Tags<'_>) {
        if tag.name == "template" {
            self.templates = if tag.closing { self.templates.saturating_sub(1) } else { self.templates + 1 };
        }
        if self.templates > 0 {
            return;
        }
        self.forms.take(tag, behind, &self.base, self.authority, self.path);
        if let Some(style) = tag.get("style").filter(|style| style.contains("url")) {
            self.style(&style);
        }
        match (&*tag.name, tag.closing) {
            ("base", false) => {
                if let Some(href) = tag.get("href").filter(|_| !self.based) {
                    self.base = self.base.with(self.authority, &href);
                    self.based = true;
                }
            }
            ("a" | "area", false) => {
                let link = tag.get("href").and_then(|href| self.base.resolve(self.authority, &href));
                self.page.links.extend(link);
            }
            ("link", false) => self.link(tag),
            ("script", false) => self.script(tag),
            ("style", false) => self.style(tag.raw),
            ("img", false) => self.image(tag),
            ("image", false) => {
                // In a drawing an image has `href`; elsewhere browsers read `image` as `img`.
                match tag.get("href").or_else(|| tag.get("xlink:href")) {
                    Some(href) => self.asset(&href, false),
                    None => self.image(tag),
                }
            }
            ("picture", closing) => self.picture = if closing { None } else { Some(None) },
            ("source", false) => self.source(tag),
            ("video", false) => self.attribute(tag, "poster"),
            ("input", false) if tag.get("type").is_some_and(|kind| kind.eq_ignore_ascii_case("image")) => {
                self.attribute(tag, "src");
            }
            _ => {}
        }
    }

    fn link(&mut self, tag: &Tag<'_>) {
        let Some(rel) = tag.get("rel") else { return };
        let has = |wanted: &str| rel.split_ascii_whitespace().any(|word| word.eq_ignore_ascii_case(wanted));
        let kind = tag.get("type").unwrap_or_default();
        let as_what = tag.get("as").unwrap_or_default();
        let css = kind.trim().is_empty() || kind.trim().eq_ignore_ascii_case("text/css");
        let media = tag.get("media").unwrap_or_default();
        if has("stylesheet") && css && !tag.has("disabled") {
            self.attribute_as(tag, "href", true);
        } else if has("icon") || has("modulepreload") {
            self.attribute(tag, "href");
        } else if has("preload") && !as_what.is_empty() && image::media_holds(&media) {
            match tag.get("imagesrcset").filter(|_| as_what.eq_ignore_ascii_case("image")) {
                Some(set) => {
                    let chosen = image::select(tag.get("href").as_deref(), &set, tag.get("imagesizes").as_deref());
                    if let Some(address) = chosen {
                        self.asset(&address, false);
                    }
                }
                None => self.attribute_as(tag, "href", as_what.eq_ignore_ascii_case("style")),
            }
        }
    }

    /// Scripts of types that browsers do not run are data, and `nomodule` ones are for browsers of the past.
    fn script(&mut self, tag: &Tag<'_>) {
        const RUN: [&str; 5] = ["", "module", "text/javascript", "application/javascript", "application/x-javascript"];
        let kind = tag.get("type").unwrap_or_default();
        let kind = kind.split(';').next().unwrap_or("").trim();
        let is = |wanted: &&str| wanted.eq_ignore_ascii_case(kind) || kind.eq_ignore_ascii_case("text/ecmascript");
        if RUN.iter().any(is) && !tag.has("nomodule") {
            self.attribute(tag, "src");
        }
    }

    fn image(&mut self, tag: &Tag<'_>) {
        let source = self.picture.as_mut().and_then(Option::take);
        let src = tag.get("src");
        let set = tag.get("srcset").unwrap_or_default();
        if let Some(address) = source.or_else(|| image::select(src.as_deref(), &set, tag.get("sizes").as_deref())) {
            self.asset(&address, false);
        }
    }

    fn source(&mut self, tag: &Tag<'_>) {
        let Some(chosen @ None) = &mut self.picture else { return };
        let Some(set) = tag.get("srcset") else { return };
        let (media, kind) = (tag.get("media").unwrap_or_default(), tag.get("type").unwrap_or_default());
        if image::media_holds(&media) && image::type_is_shown(&kind) {
            *chosen = image::select(None, &set, tag.get("sizes").as_deref());
        }
    }

    fn style(&mut self, text: &str) {
        let references = css::references(text);
        for address in &references.sheets {
            self.asset(address, true);
        }
        for address in &references.files {
            self.asset(address, false);
        }
    }

    fn attribute(&mut self, tag: &Tag<'_>, name: &str) {
        self.attribute_as(tag, name, false);
    }

    fn attribute_as(&mut self, tag: &Tag<'_>, name: &str, sheet: bool) {
        if let Some(address) = tag.get(name) {
            self.asset(&address, sheet);
        }
    }

    fn asset(&mut self, address: &str, sheet: bool) {
        self.page.add(self.authority, &self.base, address, sheet);
    }
}
