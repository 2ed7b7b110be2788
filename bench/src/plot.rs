//! Pictures of figures, as SVG that is the same on every machine: [`line`] charts, [`forest`] plots of ratios, stacked
//! [`bars`]. Each draws itself for a desktop and for a phone, where letters would be too small if it were only scaled.
//!
//! Architecture invariants: pure; a picture depends on its figures alone; colours have names here and values in
//! `style.css`, in a light and a dark edition.

pub mod axis;
pub mod bars;
pub mod forest;
pub mod line;
pub mod scale;
pub mod text;

use crate::markup::{Element, element, leaf, number};

use self::bars::Bars;
use self::forest::Forest;
use self::line::Chart;
use self::text::{LETTERS, wrap};

/// The colours of pictures and what is drawn with them.
pub const STYLE: &str = include_str!("plot/style.css");
/// Styles of series, which differ in colour, dashes and marker; later series begin again.
pub const STYLES: usize = 8;

/// A picture that is not drawn yet.
#[derive(Clone, Debug, PartialEq)]
pub enum Plot {
    Chart(Chart),
    Forest(Forest),
    Bars(Bars),
}

/// For which width a picture is drawn, in its own units; it is scaled to the page's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Width {
    Desktop,
    Phone,
}

impl Width {
    pub fn units(self) -> f64 {
        match self {
            Self::Desktop => 760.0,
            Self::Phone => 360.0,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Desktop => "wide",
            Self::Phone => "narrow",
        }
    }
}

impl Plot {
    /// What the picture shows, in a few words.
    pub fn title(&self) -> &str {
        match self {
            Self::Chart(chart) => &chart.title,
            Self::Forest(forest) => &forest.title,
            Self::Bars(bars) => &bars.title,
        }
    }

    fn draw(&self, width: Width) -> Drawing {
        match self {
            Self::Chart(chart) => chart.draw(width),
            Self::Forest(forest) => forest.draw(width),
            Self::Bars(bars) => bars.draw(width),
        }
    }

    /// Part of a page, whose style sheet holds [`STYLE`]. `id` is unique within the page.
    pub fn inline(&self, width: Width, id: &str) -> Element {
        let id = format!("{id}-{}", width.name());
        let drawing = self.draw(width);
        drawing.frame(&id).class(format!("plot {}", width.name())).children(drawing.parts(&id))
    }

    /// A file of its own, with its style and a ground, for readers that show it on any colour.
    pub fn file(&self) -> String {
        let drawing = self.draw(Width::Desktop);
        let ground = leaf("rect").class("ground").set("width", "100%").set("height", "100%").set("rx", "6");
        let mut text = drawing
            .frame("plot")
            .set("xmlns", "http://www.w3.org/2000/svg")
            .class("plot")
            .child(element("style").raw(STYLE))
            .child(ground)
            .children(drawing.parts("plot"))
            .markup();
        text.push('\n');
        text
    }
}

/// A picture as it is drawn: what is in it, on a ground of so many units.
#[derive(Clone, Debug)]
pub struct Drawing {
    width: f64,
    height: f64,
    title: String,
    description: String,
    body: Vec<Element>,
}

impl Drawing {
    fn frame(&self, id: &str) -> Element {
        element("svg")
            .set("viewBox", format!("0 0 {} {}", number(self.width), number(self.height)))
            .set("role", "img")
            .set("aria-labelledby", format!("{id}-title {id}-text"))
    }

    fn parts(&self, id: &str) -> Vec<Element> {
        let name = |element: Element, part: &str, text: &str| element.set("id", format!("{id}-{part}")).text(text);
        [name(element("title"), "title", &self.title), name(element("desc"), "text", &self.description)]
            .into_iter()
            .chain(self.body.iter().cloned())
            .collect()
    }
}

/// The class of a series' colour.
pub fn style_class(style: usize) -> String {
    format!("s{}", style % STYLES)
}

/// The marker of a series around a place.
pub fn marker(style: usize, x: f64, y: f64) -> Element {
    let shape = |points: &[(f64, f64)]| {
        let text: Vec<String> =
            points.iter().map(|(dx, dy)| format!("{},{}", number(x + dx), number(y + dy))).collect();
        leaf("polygon").set("points", text.join(" "))
    };
    let drawn = match style % 4 {
        0 => leaf("circle").at("cx", x).at("cy", y).at("r", 3.6),
        1 => shape(&[(-3.3, -3.3), (3.3, -3.3), (3.3, 3.3), (-3.3, 3.3)]),
        2 => shape(&[(0.0, -4.4), (4.2, 3.2), (-4.2, 3.2)]),
        _ => shape(&[(0.0, -4.8), (4.8, 0.0), (0.0, 4.8), (-4.8, 0.0)]),
    };
    drawn.class(format!("marker {}", style_class(style)))
}

/// Dashes of a series' line; together with the marker they tell series apart where colours do not.
pub fn dashes(style: usize) -> Option<&'static str> {
    match style % STYLES {
        0..=3 => None,
        4 => Some("7 3"),
        5 => Some("2 3"),
        6 => Some("9 3 2 3"),
        _ => Some("12 4"),
    }
}

/// One entry of a legend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    pub name: String,
    pub style: usize,
    /// A filled field instead of a line with its marker.
    pub field: bool,
    /// Drawn faintly, as the uncorrected series of a pair.
    pub faint: bool,
}

const KEY_SAMPLE: f64 = 26.0;
const KEY_GAP: f64 = 24.0;
pub const LINE_HEIGHT: f64 = 18.0;

/// A legend in rows from `top`; also the place below it.
pub fn legend(keys: &[Key], left: f64, right: f64, top: f64) -> (Element, f64) {
    let (mut x, mut y) = (left, top + LINE_HEIGHT / 2.0);
    let mut group = element("g").class("legend").set("aria-hidden", "true");
    for key in keys {
        let width = KEY_SAMPLE + 6.0 + text::width(&key.name, LETTERS);
        if x > left && x + width > right {
            x = left;
            y += LINE_HEIGHT;
        }
        group = group.children(key_sample(key, x, y));
        group = group.child(element("text").at("x", x + KEY_SAMPLE + 6.0).at("y", y + 4.0).text(key.name.clone()));
        x += width + KEY_GAP;
    }
    let bottom = if keys.is_empty() { top } else { y + LINE_HEIGHT / 2.0 + 6.0 };
    (group, bottom)
}

fn key_sample(key: &Key, x: f64, y: f64) -> Vec<Element> {
    let class = style_class(key.style);
    if key.field {
        let field = leaf("rect").at("x", x + 6.0).at("y", y - 6.0).at("width", 14.0).at("height", 12.0);
        let faint = if key.faint { " faint" } else { "" };
        return vec![field.set("rx", "2").class(format!("field {class}{faint}"))];
    }
    let faint = if key.faint { " faint" } else { "" };
    let line = leaf("line").at("x1", x).at("x2", x + KEY_SAMPLE).at("y1", y).at("y2", y);
    let line = line.class(format!("line {class}{faint}"));
    let line = match dashes(key.style) {
        Some(dashes) => line.set("stroke-dasharray", dashes),
        None => line,
    };
    if key.faint { vec![line] } else { vec![line, marker(key.style, x + KEY_SAMPLE / 2.0, y)] }
}

/// The heading of a picture, in lines; also the place below it.
pub fn heading(title: &str, width: f64) -> (Element, f64) {
    let lines = wrap(title, width - 24.0, LETTERS + 1.5);
    let mut group = element("g").class("heading");
    let mut y = 22.0;
    for line in lines {
        group = group.child(element("text").at("x", 12.0).at("y", y).text(line));
        y += LINE_HEIGHT;
    }
    (group, y - 4.0)
}

#[cfg(test)]
mod tests;
