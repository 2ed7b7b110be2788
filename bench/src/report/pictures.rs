//! The pictures of a comparison.

use crate::case::Case;
use crate::evaluate::RatioRow;
use crate::plot::Plot;
use crate::plot::axis::Axis;
use crate::plot::forest::{Finding, Forest, Group, Row};
use crate::plot::line::{Chart, Series, Shape};
use crate::plot::scale::Spread;
use crate::plot::text::Unit;
use crate::report::histograms::{Latencies, quantile_table, tail};
use crate::statistics::{EQUIVALENCE_FACTOR, Verdict};
use crate::table::Table;

use super::document::Figure;
use super::tables::{ratio_table, ratio_text};
use crate::evaluate::metric_words;

/// How percentile curves are read.
const TAIL_CAPTION: &str = "Each step to the right has ten times fewer requests beyond it. A curve ends where its samples no longer support a quantile (n ≥ ln 0.05 ÷ ln q).";

fn tail_axis() -> Axis {
    Axis { label: "percentile of requests, logarithmic in 1 ÷ (1 − q)".to_owned(), unit: Unit::Tail }
}

/// A series' name, its style and what was measured.
pub type Named<'a> = (String, usize, &'a Latencies);

/// The percentile spectrum of some systems.
pub fn spectrum(key: String, title: String, clock: &str, systems: &[Named<'_>]) -> Option<Figure> {
    let series = systems.iter().map(|(name, style, latencies)| Series {
        name: name.clone(),
        style: *style,
        shape: Shape::Line,
        stretches: vec![tail(&latencies.response)],
    });
    let chart = Chart {
        title,
        description: format!(
            "Lines of {clock} over percentiles for {}; lower is better.",
            systems.iter().map(|system| system.0.as_str()).collect::<Vec<_>>().join(", ")
        ),
        x: tail_axis(),
        x_spread: Spread::Log,
        y: Axis { label: clock.to_owned(), unit: Unit::Duration },
        y_spread: Spread::Log,
        y_from_zero: false,
        series: series.collect(),
        marks: Vec::new(),
        x_span: None,
    };
    let table = quantile_table(systems.iter().map(|(name, _, latencies)| (name.clone(), &latencies.response)));
    figure(key, chart, TAIL_CAPTION, Some(table))
}

/// Response time against service time of one system in an open loop, with what the latter leaves out.
pub fn omission(key: String, name: &str, style: usize, latencies: &Latencies) -> Option<Figure> {
    if latencies.service.is_empty() {
        return None;
    }
    // Point by point, as far as both go.
    let (mut response, mut service) = (tail(&latencies.response), tail(&latencies.service));
    let common = response.len().min(service.len());
    response.truncate(common);
    service.truncate(common);
    let series = |name: &str, shape, points| Series { name: name.to_owned(), style, shape, stretches: vec![points] };
    let chart = Chart {
        title: format!("{name}: what a stopwatch at the socket does not see"),
        description: format!(
            "Two lines over percentiles for {name}: response time from the planned arrival, and service time from the \
             submission, with the field between them shaded."
        ),
        x: tail_axis(),
        x_spread: Spread::Log,
        y: Axis { label: "time to last byte".to_owned(), unit: Unit::Duration },
        y_spread: Spread::Log,
        y_from_zero: false,
        series: vec![
            series("response time, from the planned arrival", Shape::Line, response.clone()),
            series("service time, from submission (uncorrected)", Shape::Faint, service.clone()),
            series("omitted by the uncorrected clock", Shape::Above(vec![service]), response),
        ],
        marks: Vec::new(),
        x_span: None,
    };
    let table = quantile_table([
        ("response time".to_owned(), &latencies.response),
        ("service time".to_owned(), &latencies.service),
    ]);
    let caption = "Users wait from the moment they wanted something. Where the lines part, requests waited for a free connection before they were sent.";
    figure(key, chart, caption, Some(table))
}

/// A chart with its table, unless there is nothing on it.
pub fn figure(key: String, chart: Chart, caption: &str, table: Option<Table>) -> Option<Figure> {
    (!chart.is_empty()).then(|| Figure { key, plot: Plot::Chart(chart), caption: caption.to_owned(), table })
}

/// What rows of a forest stand for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grouping {
    /// One group a metric, one row a pair.
    Metrics,
    /// One group a pair, one row a case.
    Pairs,
}

/// The ratio plot of some rows, in their order.
pub fn forest(key: String, title: String, grouping: Grouping, rows: &[&RatioRow]) -> Option<Figure> {
    let mut groups: Vec<Group> = Vec::new();
    for row in rows {
        let pair = format!("{} ÷ {}", row.a, row.b);
        let (heading, label) = match grouping {
            Grouping::Metrics => (metric_words(&row.metric).to_owned(), pair),
            Grouping::Pairs => (pair, row.case.label()),
        };
        let drawn = Row {
            label,
            value: ratio_text(row),
            interval: row.ratio.zip(row.ci_low).zip(row.ci_high).map(|((ratio, low), high)| (ratio, low, high)),
            finding: finding(row.verdict),
            target: row.target.map(|target| target.limit),
        };
        match groups.iter_mut().find(|group| group.heading == heading) {
            Some(group) => group.rows.push(drawn),
            None => groups.push(Group { heading, rows: vec![drawn] }),
        }
    }
    let targets = rows.iter().any(|row| row.target.is_some());
    let forest = Forest {
        title,
        description: format!(
            "{} ratios with their 95 % intervals on a logarithmic axis around 1; the table has them in digits.",
            rows.len()
        ),
        label: "ratio, logarithmic".to_owned(),
        margin: EQUIVALENCE_FACTOR,
        groups,
    };
    let caption = format!(
        "Point: geometric mean over paired blocks; line: 95 % interval. Blue disc: faster, cheaper; orange square: slower, dearer; \
         green diamond: equivalent, the whole interval lies within the grey band (1 ÷ {EQUIVALENCE_FACTOR} to {EQUIVALENCE_FACTOR}); \
         hollow: undecided, with `?`{}.",
        if targets { "; dashed: the promised bound" } else { "" }
    );
    let table = ratio_table(rows.iter().copied());
    (!forest.is_empty()).then_some(Figure { key, plot: Plot::Forest(forest), caption, table: Some(table) })
}

fn finding(verdict: Verdict) -> Finding {
    match verdict {
        Verdict::Faster => Finding::Better,
        Verdict::Slower => Finding::Worse,
        Verdict::Equivalent => Finding::Equal,
        Verdict::Underpowered => Finding::Open,
    }
}

/// A name for files and places: letters, digits and dashes.
pub fn key(parts: &[&str]) -> String {
    let joined = parts.join("-");
    joined.chars().map(|letter| if letter.is_ascii_alphanumeric() || letter == '.' { letter } else { '-' }).collect()
}

/// The key of a case's picture.
pub fn case_key(what: &str, case: &Case) -> String {
    key(&[what, &case.key()])
}
