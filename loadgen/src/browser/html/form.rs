//! Forms: which controls belong to them, and what they would send (section 4.10.21 of the HTML standard).

use super::tag::{Tag, Tags};
use crate::browser::url::{Base, encode_form};

/// How a form's fields are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Encoding {
    /// `application/x-www-form-urlencoded`.
    #[default]
    Url,
    /// `multipart/form-data`.
    Multipart,
    /// `text/plain`, which nothing but a browser speaks.
    Plain,
}

/// A form as the page offers it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Form {
    /// `None` leads to another host.
    pub action: Option<String>,
    pub post: bool,
    pub encoding: Encoding,
    pub fields: Vec<Field>,
}

/// A control with a name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Field {
    pub name: String,
    pub value: String,
    /// A button that sends the form: its value goes along if it was pressed.
    pub button: bool,
    /// A file to be chosen.
    pub file: bool,
}

impl Form {
    /// The fields as the form sends them after the scenario filled it. A name that the page does not have is
    /// added. Of the buttons the one goes along that was filled; otherwise the first, as when a user presses Enter.
    pub fn filled(&self, values: &[(&str, String)]) -> Vec<Field> {
        let wanted = |field: &Field| values.iter().any(|(name, _)| *name == field.name);
        let pressed = self.fields.iter().position(|field| field.button && wanted(field));
        let pressed = pressed.or_else(|| self.fields.iter().position(|field| field.button));
        let mut used = vec![false; values.len()];
        let mut out = Vec::with_capacity(self.fields.len() + values.len());
        for (place, field) in self.fields.iter().enumerate() {
            if field.button && pressed != Some(place) {
                continue;
            }
            // Of several controls of a name the first is filled: one value goes to one place.
            let index = values.iter().zip(&used).position(|((name, _), used)| *name == field.name && !used);
            let value = match index {
                Some(index) => {
                    used[index] = true;
                    values[index].1.clone()
                }
                None => field.value.clone(),
            };
            out.push(Field { value, ..field.clone() });
        }
        let added = values.iter().zip(&used).filter(|(_, used)| !**used).map(|(value, _)| value);
        let field = |(name, value): &(&str, String)| Field {
            name: (*name).to_owned(),
            value: value.clone(),
            ..Field::default()
        };
        out.extend(added.map(field));
        out
    }
}

/// The path that a form with method `get` asks for.
pub fn get_path(action: &str, fields: &[Field]) -> String {
    format!("{}?{}", action.split('?').next().unwrap_or("/"), encode_form(fields))
}

/// What a control is to the form.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Value,
    Button,
    File,
}

/// Which form a control belongs to.
#[derive(Clone)]
enum Owner {
    None,
    /// The form that it stands in.
    Place(usize),
    /// The form with this `id`.
    Id(String),
}

/// Collects forms while a page is read.
#[derive(Default)]
pub struct Forms {
    forms: Vec<(Option<String>, Form)>,
    /// The form that is open.
    open: Option<usize>,
    fields: Vec<(Owner, Field)>,
    select: Option<Select>,
    /// How many `<fieldset>` are open, and at which of them the disabled ones began.
    fieldsets: usize,
    disabled_from: Option<usize>,
}

/// The `<select>` that is open.
struct Select {
    owner: Owner,
    name: String,
    multiple: bool,
    disabled: bool,
    optgroup_disabled: bool,
    /// Of a single choice the first option that could be chosen, or the last one that is.
    chosen: Vec<String>,
    explicit: bool,
}

impl Forms {
    /// Takes a tag that has to do with forms; others are passed over. `behind` stands at what follows it.
    pub fn take(&mut self, tag: &Tag<'_>, behind: &Tags<'_>, base: &Base, authority: &str, page: &str) {
        match (&*tag.name, tag.closing) {
            ("form", false) => self.form(tag, base, authority, page),
            ("form", true) => self.open = None,
            ("input", false) => self.input(tag),
            ("button", false) => self.button(tag),
            ("textarea", false) => {
                // A line end right behind the tag is not part of the value.
                let raw = tag.raw.strip_prefix("\r\n").or(tag.raw.strip_prefix('\n')).unwrap_or(tag.raw);
                self.field(tag, htmlize::unescape(raw).into_owned(), Kind::Value);
            }
            ("select", false) => self.select = self.new_select(tag),
            ("select", true) => self.end_select(),
            ("option", false) => self.option(tag, behind),
            ("optgroup", closing) => {
                if let Some(select) = &mut self.select {
                    select.optgroup_disabled = !closing && tag.has("disabled");
                }
            }
            ("fieldset", false) => {
                self.fieldsets += 1;
                if tag.has("disabled") && self.disabled_from.is_none() {
                    self.disabled_from = Some(self.fieldsets);
                }
            }
            ("fieldset", true) => {
                if self.disabled_from == Some(self.fieldsets) {
                    self.disabled_from = None;
                }
                self.fieldsets = self.fieldsets.saturating_sub(1);
            }
            _ => {}
        }
    }

    /// All forms of the page with the fields that they own.
    pub fn end(mut self) -> Vec<Form> {
        self.end_select();
        for (owner, field) in self.fields {
            let place = match owner {
                Owner::None => None,
                Owner::Place(place) => Some(place),
                Owner::Id(wanted) => self.forms.iter().position(|(id, _)| id.as_ref() == Some(&wanted)),
            };
            if let Some(place) = place {
                self.forms[place].1.fields.push(field);
            }
        }
        self.forms.into_iter().map(|(_, form)| form).collect()
    }

    /// A form within a form is passed over.
    fn form(&mut self, tag: &Tag<'_>, base: &Base, authority: &str, page: &str) {
        if self.open.is_some() {
            return;
        }
        let action = match tag.get("action").filter(|action| !action.trim().is_empty()) {
            Some(action) => base.resolve(authority, &action),
            None => Some(page.to_owned()),
        };
        let is = |name: &str, wanted: &str| tag.get(name).is_some_and(|value| value.eq_ignore_ascii_case(wanted));
        let encoding = if is("enctype", "multipart/form-data") {
            Encoding::Multipart
        } else if is("enctype", "text/plain") {
            Encoding::Plain
        } else {
            Encoding::Url
        };
        self.open = Some(self.forms.len());
        let id = tag.get("id").map(|id| id.into_owned());
        self.forms.push((id, Form { action, post: is("method", "post"), encoding, fields: Vec::new() }));
    }

    fn owner(&self, tag: &Tag<'_>) -> Owner {
        match (tag.get("form"), self.open) {
            (Some(id), _) => Owner::Id(id.into_owned()),
            (None, Some(place)) => Owner::Place(place),
            (None, None) => Owner::None,
        }
    }

    fn disabled(&self, tag: &Tag<'_>) -> bool {
        self.disabled_from.is_some() || tag.has("disabled")
    }

    fn field(&mut self, tag: &Tag<'_>, value: String, kind: Kind) {
        let Some(name) = tag.get("name").filter(|name| !name.is_empty()) else { return };
        if !self.disabled(tag) {
            let (button, file) = (kind == Kind::Button, kind == Kind::File);
            let field = Field { name: name.into_owned(), value, button, file };
            self.fields.push((self.owner(tag), field));
        }
    }

    fn input(&mut self, tag: &Tag<'_>) {
        let kind = tag.get("type").map_or("text".to_owned(), |kind| kind.to_ascii_lowercase());
        let value = tag.get("value").map(|value| value.into_owned());
        match kind.as_str() {
            "button" | "reset" | "image" => {}
            "submit" => self.field(tag, value.unwrap_or_default(), Kind::Button),
            "checkbox" | "radio" => {
                if tag.has("checked") {
                    self.field(tag, value.unwrap_or_else(|| "on".to_owned()), Kind::Value);
                }
            }
            // No file is chosen.
            "file" => self.field(tag, String::new(), Kind::File),
            // A value that is typed in has no line ends.
            "hidden" => self.field(tag, value.unwrap_or_default(), Kind::Value),
            _ => self.field(tag, value.unwrap_or_default().replace(['\r', '\n'], ""), Kind::Value),
        }
    }

    fn button(&mut self, tag: &Tag<'_>) {
        let kind = tag.get("type").map(|kind| kind.to_ascii_lowercase());
        if !matches!(kind.as_deref(), Some("button" | "reset")) {
            self.field(tag, tag.get("value").map_or_else(String::new, |value| value.into_owned()), Kind::Button);
        }
    }

    fn new_select(&mut self, tag: &Tag<'_>) -> Option<Select> {
        self.end_select();
        Some(Select {
            owner: self.owner(tag),
            name: tag.get("name")?.into_owned(),
            multiple: tag.has("multiple"),
            disabled: self.disabled(tag),
            optgroup_disabled: false,
            chosen: Vec::new(),
            explicit: false,
        })
    }

    fn option(&mut self, tag: &Tag<'_>, behind: &Tags<'_>) {
        let Some(select) = &mut self.select else { return };
        let selected = tag.has("selected");
        let usable = !(tag.has("disabled") || select.optgroup_disabled);
        let text = || behind.text().split_ascii_whitespace().collect::<Vec<_>>().join(" ");
        let value = || tag.get("value").map_or_else(text, |value| value.into_owned());
        if select.multiple {
            if selected && usable {
                select.chosen.push(value());
            }
        } else if selected {
            // A disabled one that is selected is shown but not sent.
            select.chosen = if usable { vec![value()] } else { Vec::new() };
            select.explicit = true;
        } else if usable && select.chosen.is_empty() && !select.explicit {
            select.chosen.push(value());
        }
    }

    fn end_select(&mut self) {
        let Some(select) = self.select.take().filter(|select| !select.disabled) else { return };
        for value in select.chosen {
            let field = Field { name: select.name.clone(), value, ..Field::default() };
            self.fields.push((select.owner.clone(), field));
        }
    }
}
