//! Charts of one quantity over another: lines, steps, fields between two lines, points.

use super::axis::{Axis, BELOW, Field, horizontal, tick_room, vertical};
use super::scale::{Scale, Spread};
use super::{Drawing, Key, LINE_HEIGHT, Width, dashes, heading, legend, marker, style_class};
use crate::markup::{Element, element, leaf, number};

/// A chart that is not drawn yet.
#[derive(Clone, Debug, PartialEq)]
pub struct Chart {
    pub title: String,
    /// For those who do not see it: what is drawn and how to read it.
    pub description: String,
    pub x: Axis,
    pub x_spread: Spread,
    pub y: Axis,
    pub y_spread: Spread,
    /// The vertical axis begins at zero; of linear ones only.
    pub y_from_zero: bool,
    pub series: Vec<Series>,
    pub marks: Vec<Mark>,
    /// The least that the horizontal axis spans.
    pub x_span: Option<(f64, f64)>,
}

/// One line, or what else its [`Shape`] makes of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    pub name: String,
    pub style: usize,
    pub shape: Shape,
    /// Unbroken stretches, each in the order of x.
    pub stretches: Vec<Vec<(f64, f64)>>,
}

/// How a series is drawn.
#[derive(Clone, Debug, PartialEq)]
pub enum Shape {
    Line,
    /// A thin line that belongs to a main one of the same style.
    Faint,
    /// A value holds from its x to the next one.
    Step,
    Points,
    /// The field between the series and these lower values, point by point.
    Above(Vec<Vec<(f64, f64)>>),
}

/// A line across the chart.
#[derive(Clone, Debug, PartialEq)]
pub struct Mark {
    pub x: f64,
    pub text: String,
}

const HEIGHT_WIDE: f64 = 300.0;
const HEIGHT_NARROW: f64 = 240.0;
/// Fewer points than this are marked each.
const MARKED_MAX: usize = 24;

impl Chart {
    fn points(&self) -> impl Iterator<Item = (f64, f64)> + '_ {
        let lower = self.series.iter().filter_map(|series| match &series.shape {
            Shape::Above(lower) => Some(lower),
            Shape::Line | Shape::Faint | Shape::Step | Shape::Points => None,
        });
        let all = self.series.iter().map(|series| &series.stretches).chain(lower);
        all.flatten().flatten().copied().filter(|point| self.shows(*point))
    }

    /// A logarithmic axis has no place for zero.
    fn shows(&self, (x, y): (f64, f64)) -> bool {
        let fits = |spread: Spread, value: f64| value.is_finite() && (spread == Spread::Linear || value > 0.0);
        fits(self.x_spread, x) && fits(self.y_spread, y)
    }

    /// Whether there is anything to draw.
    pub fn is_empty(&self) -> bool {
        self.points().next().is_none()
    }

    fn bounds(&self) -> ((f64, f64), (f64, f64)) {
        let around = |(low, high): (f64, f64), value: f64| (low.min(value), high.max(value));
        let none = (f64::INFINITY, f64::NEG_INFINITY);
        let (x, y) = self.points().fold((none, none), |(x, y), point| (around(x, point.0), around(y, point.1)));
        let x = self.marks.iter().fold(x, |x, mark| around(x, mark.x));
        let x = self.x_span.map_or(x, |span| around(around(x, span.0), span.1));
        let y = if self.y_from_zero && self.y_spread == Spread::Linear { around(y, 0.0) } else { y };
        let usable = |(low, high): (f64, f64)| if low <= high { (low, high) } else { (1.0, 10.0) };
        (usable(x), usable(y))
    }

    pub fn draw(&self, width: Width) -> Drawing {
        let (units, height) = match width {
            Width::Desktop => (width.units(), HEIGHT_WIDE),
            Width::Phone => (width.units(), HEIGHT_NARROW),
        };
        let (x_ticks_wanted, y_ticks_wanted) = match width {
            Width::Desktop => (8, 5),
            Width::Phone => (4, 4),
        };
        let (title, top) = heading(&self.title, units);
        let (keys, top) = legend(&self.keys(), 12.0, units - 12.0, top);
        let y_name = element("text").class("label").at("x", 12.0).at("y", top + 12.0).text(self.y.label.clone());
        let top = top + LINE_HEIGHT + if self.marks.is_empty() { 8.0 } else { 22.0 };
        let (x_bounds, y_bounds) = self.bounds();
        let bottom = top + height;
        let y = Scale::new(self.y_spread, y_bounds, (bottom, top)).rounded(y_ticks_wanted);
        let y_ticks = self.y.ticks(&y, y_ticks_wanted);
        let left = tick_room(self.y.unit, &y_ticks).max(44.0);
        let field = Field { left, right: units - 22.0, top, bottom };
        let x = Scale::new(self.x_spread, x_bounds, (field.left, field.right));
        let x_ticks = self.x.ticks(&x, x_ticks_wanted);

        let mut body = vec![title, keys, y_name];
        body.push(vertical(&self.y, &y, &y_ticks, &field));
        body.push(horizontal(&self.x, &x, &x_ticks, &field));
        body.extend(self.marks.iter().map(|mark| mark_line(mark, &x, &field)));
        let fields = self.series.iter().filter(|series| matches!(series.shape, Shape::Above(_)));
        let lines = self.series.iter().filter(|series| !matches!(series.shape, Shape::Above(_)));
        body.extend(fields.chain(lines).map(|series| self.draw_series(series, &x, &y)));
        Drawing {
            width: units,
            height: bottom + BELOW,
            title: self.title.clone(),
            description: self.description.clone(),
            body,
        }
    }

    fn keys(&self) -> Vec<Key> {
        let named = self.series.iter().filter(|series| !series.name.is_empty());
        let keys: Vec<Key> = named
            .map(|series| Key {
                name: series.name.clone(),
                style: series.style,
                field: matches!(series.shape, Shape::Above(_)),
                faint: matches!(series.shape, Shape::Faint | Shape::Above(_)),
            })
            .collect();
        keys
    }

    fn draw_series(&self, series: &Series, x: &Scale, y: &Scale) -> Element {
        let place = |point: &(f64, f64)| (x.at(point.0), y.at(point.1));
        let places = |stretch: &[(f64, f64)]| -> Vec<(f64, f64)> {
            stretch.iter().filter(|point| self.shows(**point)).map(place).collect()
        };
        let mut group = element("g").class(style_class(series.style));
        if !series.name.is_empty() {
            group = group.child(element("title").text(series.name.clone()));
        }
        let stretches: Vec<Vec<(f64, f64)>> = series.stretches.iter().map(|stretch| places(stretch)).collect();
        let path = |class: &str, d: String| leaf("path").class(class).set("d", d);
        match &series.shape {
            Shape::Above(lower) => {
                for (upper, lower) in stretches.iter().zip(lower) {
                    let mut lower = places(lower);
                    lower.reverse();
                    let outline: Vec<(f64, f64)> = upper.iter().chain(&lower).copied().collect();
                    group = group.child(path("gap", format!("{}Z", moves(&outline))));
                }
                return group;
            }
            Shape::Faint => {
                let lines: String = stretches.iter().map(|stretch| moves(stretch)).collect();
                return group.child(path("line faint", lines));
            }
            Shape::Line | Shape::Step => {
                let corners = |stretch: &Vec<(f64, f64)>| match series.shape {
                    Shape::Step => moves(&steps(stretch)),
                    Shape::Line | Shape::Faint | Shape::Points | Shape::Above(_) => moves(stretch),
                };
                let line = path("line", stretches.iter().map(corners).collect());
                group = group.child(match dashes(series.style) {
                    Some(dashes) => line.set("stroke-dasharray", dashes),
                    None => line,
                });
            }
            Shape::Points => {}
        }
        let count: usize = stretches.iter().map(Vec::len).sum();
        let every = if series.shape == Shape::Points || count <= MARKED_MAX { 1 } else { count.div_ceil(6) };
        // Markers of long lines are few, and stand where those of other series do not.
        let first = if every == 1 { 0 } else { (series.style % 4) * every / 4 };
        let marked = stretches.iter().flatten().skip(first).step_by(every);
        group.children(marked.map(|&(x, y)| marker(series.style, x, y)))
    }
}

/// `M10 20L30 40`; a single point becomes a dot through the round ends of the line.
fn moves(points: &[(f64, f64)]) -> String {
    let mut out = String::new();
    for (index, (x, y)) in points.iter().enumerate() {
        out.push(if index == 0 { 'M' } else { 'L' });
        out.push_str(&number(*x));
        out.push(' ');
        out.push_str(&number(*y));
    }
    if points.len() == 1 {
        out.push_str("h0");
    }
    out
}

fn steps(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let mut corners = Vec::new();
    for pair in points.windows(2) {
        corners.extend([pair[0], (pair[1].0, pair[0].1)]);
    }
    corners.extend(points.last());
    corners
}

fn mark_line(mark: &Mark, x: &Scale, field: &Field) -> Element {
    let at = x.at(mark.x);
    let (class, shift) = if at > f64::midpoint(field.left, field.right) { ("end", -2.0) } else { ("", 2.0) };
    element("g")
        .class("mark")
        .child(leaf("line").at("x1", at).at("x2", at).at("y1", field.top - 6.0).at("y2", field.bottom))
        .child(element("text").class(class).at("x", at + shift).at("y", field.top - 10.0).text(mark.text.clone()))
}
