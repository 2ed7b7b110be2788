//! The plot of ratios: a point with its interval for each, on one logarithmic axis around 1, and the band in which a
//! difference is none.

use super::axis::{Axis, BELOW, Field, horizontal};
use super::scale::{Scale, Spread};
use super::text::{LETTERS, Unit, width, wrap};
use super::{Drawing, LINE_HEIGHT, Width, heading};
use crate::markup::{Element, element, leaf, number};

/// A plot of ratios that is not drawn yet.
#[derive(Clone, Debug, PartialEq)]
pub struct Forest {
    pub title: String,
    pub description: String,
    /// What stands to the left and to the right of 1.
    pub label: String,
    /// Ratios from its inverse to this are equivalent.
    pub margin: f64,
    pub groups: Vec<Group>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Group {
    /// Empty for none.
    pub heading: String,
    pub rows: Vec<Row>,
}

/// One ratio.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    pub label: String,
    /// The ratio in digits.
    pub value: String,
    /// Ratio, lower and upper end; `None` where there is no interval.
    pub interval: Option<(f64, f64, f64)>,
    pub finding: Finding,
    /// A promised bound.
    pub target: Option<f64>,
}

/// What a ratio says, which decides its colour and its marker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finding {
    Better,
    Worse,
    Equal,
    Open,
}

impl Finding {
    fn class(self) -> &'static str {
        match self {
            Self::Better => "better",
            Self::Worse => "worse",
            Self::Equal => "equal",
            Self::Open => "open",
        }
    }
}

/// Ratios beyond these do not widen the axis: their intervals end in arrows.
const LOW_MIN: f64 = 0.1;
const HIGH_MAX: f64 = 10.0;
/// An interval counts for the width of the axis at most to this factor beyond the ratios themselves.
const INTERVAL_FACTOR: f64 = 2.0;
/// Both ends of the axis lie at least so far from 1.
const HALF_MIN: f64 = 1.15;

/// Places of columns and rows for one width.
struct Layout {
    units: f64,
    row_height: f64,
    left: f64,
    right: f64,
}

impl Forest {
    fn rows(&self) -> impl Iterator<Item = &Row> {
        self.groups.iter().flat_map(|group| &group.rows)
    }

    /// Whether no row has an interval.
    pub fn is_empty(&self) -> bool {
        self.rows().all(|row| row.interval.is_none())
    }

    fn layout(&self, size: Width) -> Layout {
        let units = size.units();
        match size {
            Width::Desktop => {
                let widest = |of: fn(&Row) -> &str| self.rows().map(|row| width(of(row), LETTERS)).fold(0.0, f64::max);
                let labels = widest(|row| &row.label).clamp(90.0, 290.0);
                let values = widest(|row| &row.value).clamp(60.0, 190.0);
                Layout { units, row_height: 26.0, left: labels + 38.0, right: units - values - 34.0 }
            }
            // Texts stand above their interval.
            Width::Phone => Layout { units, row_height: 44.0, left: 16.0, right: units - 16.0 },
        }
    }

    fn bounds(&self) -> (f64, f64) {
        let (mut low, mut high) = (1.0 / HALF_MIN, HALF_MIN);
        for row in self.rows() {
            if let Some((ratio, from, to)) = row.interval {
                low = low.min(from.max(ratio / INTERVAL_FACTOR));
                high = high.max(to.min(ratio * INTERVAL_FACTOR));
            }
            if let Some(target) = row.target {
                low = low.min(target / 1.02);
                high = high.max(target * 1.02);
            }
        }
        ((low / 1.03).max(LOW_MIN), (high * 1.03).min(HIGH_MAX))
    }

    pub fn draw(&self, size: Width) -> Drawing {
        let layout = self.layout(size);
        let (title, top) = heading(&self.title, layout.units);
        let top = top + 10.0;
        let groups = |group: &Group| if group.heading.is_empty() { 0.0 } else { LINE_HEIGHT + 12.0 };
        let height: f64 = self.groups.iter().map(|group| groups(group) + count(&group.rows) * layout.row_height).sum();
        let field = Field { left: layout.left, right: layout.right, top, bottom: top + height + 4.0 };
        let ticks_wanted = match size {
            Width::Desktop => 6,
            Width::Phone => 5,
        };
        let scale = Scale::new(Spread::Log, self.bounds(), (field.left, field.right));
        let axis = Axis { label: self.label.clone(), unit: Unit::Ratio };

        let mut body = vec![title, self.band(&scale, &field)];
        body.push(horizontal(&axis, &scale, &scale.ticks(ticks_wanted), &field));
        let one = scale.at(1.0);
        body.push(leaf("line").class("one").at("x1", one).at("x2", one).at("y1", field.top).at("y2", field.bottom));
        let mut y = top;
        for group in &self.groups {
            if !group.heading.is_empty() {
                y += LINE_HEIGHT + 6.0;
                body.push(element("text").class("group").at("x", 12.0).at("y", y - 4.0).text(group.heading.clone()));
                y += 6.0;
            }
            for row in &group.rows {
                body.push(draw_row(row, &scale, &layout, size, y));
                y += layout.row_height;
            }
        }
        Drawing {
            width: layout.units,
            height: field.bottom + BELOW,
            title: self.title.clone(),
            description: self.description.clone(),
            body,
        }
    }

    fn band(&self, scale: &Scale, field: &Field) -> Element {
        let (from, to) = (scale.at(1.0 / self.margin), scale.at(self.margin));
        let band = leaf("rect").class("band").at("x", from).at("y", field.top).at("width", to - from);
        band.at("height", field.bottom - field.top)
    }
}

fn count(rows: &[Row]) -> f64 {
    // Rows of a picture: far below 2^53.
    rows.len() as f64
}

fn draw_row(row: &Row, scale: &Scale, layout: &Layout, size: Width, top: f64) -> Element {
    let (text_y, y) = match size {
        Width::Desktop => (top + layout.row_height / 2.0 + 4.0, top + layout.row_height / 2.0),
        Width::Phone => (top + 16.0, top + 30.0),
    };
    let mut group = element("g").class(format!("ratio {}", row.finding.class()));
    let room = match size {
        Width::Desktop => layout.left - 24.0,
        Width::Phone => layout.units - 64.0 - width(&row.value, LETTERS),
    };
    group = group.child(element("text").class("name").at("x", 12.0).at("y", text_y).text(clip(&row.label, room)));
    group = group
        .child(element("text").class("end value").at("x", layout.units - 12.0).at("y", text_y).text(row.value.clone()));
    if let Some(target) = row.target {
        let x = scale.at(target);
        group = group.child(leaf("line").class("target").at("x1", x).at("x2", x).at("y1", y - 9.0).at("y2", y + 9.0));
    }
    let Some((ratio, low, high)) = row.interval else { return group };
    let (x, from, to) = (scale.at(ratio), scale.at(low), scale.at(high));
    group = group.child(leaf("line").class("whisker").at("x1", from).at("x2", to).at("y1", y).at("y2", y));
    for (value, place, side) in [(low, from, -1.0), (high, to, 1.0)] {
        let end = if scale.contains(value) {
            leaf("line").class("whisker").at("x1", place).at("x2", place).at("y1", y - 4.0).at("y2", y + 4.0)
        } else {
            let tip = |dx: f64, dy: f64| format!("{},{}", number(place + dx), number(y + dy));
            let points = [tip(0.0, 0.0), tip(-7.0 * side, -4.0), tip(-7.0 * side, 4.0)].join(" ");
            leaf("polygon").class("arrow").set("points", points)
        };
        group = group.child(end);
    }
    group.child(point(row.finding, x, y))
}

/// Filled where something is decided, hollow where not.
fn point(finding: Finding, x: f64, y: f64) -> Element {
    let square =
        |half: f64| leaf("rect").at("x", x - half).at("y", y - half).at("width", 2.0 * half).at("height", 2.0 * half);
    match finding {
        Finding::Better => leaf("circle").class("point").at("cx", x).at("cy", y).at("r", 5.0),
        Finding::Worse => square(4.6).class("point"),
        Finding::Equal => {
            square(4.2).class("point").set("transform", format!("rotate(45 {} {})", number(x), number(y)))
        }
        Finding::Open => leaf("circle").class("point hollow").at("cx", x).at("cy", y).at("r", 4.4),
    }
}

/// A label that is too long for its room ends in an ellipsis.
fn clip(text: &str, room: f64) -> String {
    if width(text, LETTERS) <= room {
        return text.to_owned();
    }
    let mut out = String::new();
    for letter in text.chars() {
        if width(&out, LETTERS) + 2.0 * LETTERS * 0.57 > room {
            break;
        }
        out.push(letter);
    }
    // What is cut in the middle of a word ends there: the table beside the picture has all of it.
    wrap(&out, f64::INFINITY, LETTERS).join(" ") + "…"
}
