//! Stacked bars: what a figure is made of, one bar for each system.

use super::axis::{Axis, BELOW, Field, horizontal};
use super::scale::{Scale, Spread};
use super::text::{LETTERS, Unit, width};
use super::{Drawing, Key, Width, heading, legend, style_class};
use crate::markup::{Element, element};

/// Bars that are not drawn yet.
#[derive(Clone, Debug, PartialEq)]
pub struct Bars {
    pub title: String,
    pub description: String,
    /// With the unit.
    pub label: String,
    pub unit: Unit,
    /// Names of the parts, in the order in which they are stacked.
    pub parts: Vec<Part>,
    pub bars: Vec<Bar>,
}

/// A part of every bar.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    pub name: String,
    pub style: usize,
    /// Hatched: the second of two parts that belong together, as system time does to user time.
    pub hatched: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Bar {
    pub label: String,
    /// The sum in digits.
    pub value: String,
    /// One for each part, zero where it has none.
    pub lengths: Vec<f64>,
}

impl Bars {
    pub fn is_empty(&self) -> bool {
        self.bars.iter().all(|bar| bar.lengths.iter().sum::<f64>() <= 0.0)
    }

    pub fn draw(&self, size: Width) -> Drawing {
        let units = size.units();
        let (title, top) = heading(&self.title, units);
        let keys: Vec<Key> = self
            .parts
            .iter()
            .map(|part| Key { name: part.name.clone(), style: part.style, field: true, faint: part.hatched })
            .collect();
        let (keys, top) = legend(&keys, 12.0, units - 12.0, top);
        let widest = |of: fn(&Bar) -> &str| self.bars.iter().map(|bar| width(of(bar), LETTERS)).fold(0.0, f64::max);
        let (row_height, left, right) = match size {
            Width::Desktop => {
                (30.0, widest(|bar| &bar.label).clamp(60.0, 290.0) + 26.0, units - widest(|bar| &bar.value) - 28.0)
            }
            Width::Phone => (46.0, 16.0, units - 16.0),
        };
        let top = top + 4.0;
        // Bars of a picture: far below 2^53.
        let bottom = top + self.bars.len() as f64 * row_height + 4.0;
        let field = Field { left, right, top, bottom };
        let longest = self.bars.iter().map(|bar| bar.lengths.iter().sum::<f64>()).fold(0.0, f64::max);
        let ticks_wanted = match size {
            Width::Desktop => 6,
            Width::Phone => 4,
        };
        let scale = Scale::new(Spread::Linear, (0.0, longest), (left, right)).rounded(ticks_wanted);
        let axis = Axis { label: self.label.clone(), unit: self.unit };
        let mut body = vec![title, keys, horizontal(&axis, &scale, &scale.ticks(ticks_wanted), &field)];
        let mut y = top;
        for bar in &self.bars {
            body.push(self.draw_bar(bar, &scale, size, (y, row_height)));
            y += row_height;
        }
        Drawing {
            width: units,
            height: bottom + BELOW,
            title: self.title.clone(),
            description: self.description.clone(),
            body,
        }
    }

    fn draw_bar(&self, bar: &Bar, scale: &Scale, size: Width, (top, height): (f64, f64)) -> Element {
        let (text_y, bar_y, bar_height) = match size {
            Width::Desktop => (top + height / 2.0 + 4.0, top + 6.0, height - 12.0),
            Width::Phone => (top + 16.0, top + 22.0, 18.0),
        };
        let mut group = element("g").class("bar");
        group = group.child(element("text").class("name").at("x", 12.0).at("y", text_y).text(bar.label.clone()));
        group = group.child(
            element("text").class("end value").at("x", size.units() - 12.0).at("y", text_y).text(bar.value.clone()),
        );
        let mut sum = 0.0;
        for (part, length) in self.parts.iter().zip(&bar.lengths) {
            let (from, to) = (scale.at(sum), scale.at(sum + length));
            sum += length;
            if to - from < 0.05 {
                continue;
            }
            let faint = if part.hatched { " faint" } else { "" };
            let field = element("rect").class(format!("field {}{faint}", style_class(part.style)));
            let field = field.at("x", from).at("y", bar_y).at("width", to - from).at("height", bar_height);
            group = group.child(field.child(element("title").text(format!("{}: {}", bar.label, part.name))));
        }
        group
    }
}
