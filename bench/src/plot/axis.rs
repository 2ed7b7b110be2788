//! The frame of a chart: grid, ticks, names of the axes.

use super::scale::Scale;
use super::text::{LETTERS, Unit, width, wrap};
use crate::markup::{Element, element, leaf};

/// What an axis shows.
#[derive(Clone, Debug, PartialEq)]
pub struct Axis {
    /// With the unit where the ticks do not say it.
    pub label: String,
    pub unit: Unit,
}

/// The field in which values are drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Field {
    pub left: f64,
    pub right: f64,
    pub top: f64,
    pub bottom: f64,
}

impl Axis {
    /// The values that the axis names, about as many as wanted.
    pub fn ticks(&self, scale: &Scale, wanted: usize) -> Vec<f64> {
        match self.unit {
            // Decades, and the median, as everybody speaks of them.
            Unit::Tail => {
                let known = [1.0, 2.0, 10.0, 100.0, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8];
                known.into_iter().filter(|tail| scale.contains(*tail)).collect()
            }
            Unit::Number => scale.ticks(wanted).into_iter().filter(|tick| (tick - tick.round()).abs() < 1e-9).collect(),
            Unit::Duration | Unit::Count | Unit::Ratio | Unit::Seconds | Unit::Microseconds => scale.ticks(wanted),
        }
    }
}

/// Room for the texts of a vertical axis.
pub fn tick_room(unit: Unit, ticks: &[f64]) -> f64 {
    ticks.iter().map(|tick| width(&unit.tick(*tick), LETTERS)).fold(0.0, f64::max) + 14.0
}

/// Room below the field for ticks and label.
pub const BELOW: f64 = 46.0;

/// Horizontal lines of the grid with their values at the left.
pub fn vertical(axis: &Axis, scale: &Scale, ticks: &[f64], field: &Field) -> Element {
    let mut group = element("g").class("axis").set("aria-hidden", "true");
    for tick in ticks {
        let y = scale.at(*tick);
        group =
            group.child(leaf("line").class("grid").at("x1", field.left).at("x2", field.right).at("y1", y).at("y2", y));
        group = group
            .child(element("text").class("end").at("x", field.left - 8.0).at("y", y + 4.0).text(axis.unit.tick(*tick)));
    }
    group
}

/// Ticks below the field, those that have room, and the axis's name below them.
pub fn horizontal(axis: &Axis, scale: &Scale, ticks: &[f64], field: &Field) -> Element {
    let mut group = element("g").class("axis").set("aria-hidden", "true");
    let mut taken = f64::NEG_INFINITY;
    for tick in ticks {
        let x = scale.at(*tick);
        let text = axis.unit.tick(*tick);
        let half = width(&text, LETTERS) / 2.0;
        group =
            group.child(leaf("line").class("grid").at("x1", x).at("x2", x).at("y1", field.top).at("y2", field.bottom));
        if x - half < taken {
            continue;
        }
        taken = x + half + 8.0;
        group = group.child(element("text").class("middle").at("x", x).at("y", field.bottom + 18.0).text(text));
    }
    let middle = f64::midpoint(field.left, field.right);
    let room = field.right - field.left + 40.0;
    let label = wrap(&axis.label, room, LETTERS).into_iter().next().unwrap_or_default();
    group
        .child(
            leaf("line")
                .class("base")
                .at("x1", field.left)
                .at("x2", field.right)
                .at("y1", field.bottom)
                .at("y2", field.bottom),
        )
        .child(element("text").class("middle label").at("x", middle).at("y", field.bottom + 38.0).text(label))
}
