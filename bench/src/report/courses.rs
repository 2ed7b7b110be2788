//! Pictures of a comparison over time and over load.

use super::document::Figure;
use super::material::{Material, TrialFiles};
use super::pictures::{case_key, figure};
use crate::case::{Case, Load};
use crate::evaluate::Measured;
use crate::plot::axis::Axis;
use crate::plot::line::{Chart, Series, Shape};
use crate::plot::scale::Spread;
use crate::plot::text::Unit;
use crate::report::intervals::Interval;
use crate::table::{Table, quantile_text, rate_text};

/// Requests a second, p99 and failures of every system over the blocks of a case.
pub fn over_blocks(material: &Material, case: &Case) -> Vec<Figure> {
    let rate = |interval: &Interval| Some(interval.completed_per_s);
    let p50 = |interval: &Interval| interval.p50_ns;
    let p99 = |interval: &Interval| interval.p99_ns;
    let failed = |interval: &Interval| Some(interval.failed_per_s);
    let linear = (Spread::Linear, Unit::Count);
    let log = (Spread::Log, Unit::Duration);
    let mut figures = vec![
        course(material, case, ("rate", "Requests per second, block by block", "requests/s"), linear, &rate),
        course(material, case, ("p50", "p50, block by block", "p50 of each interval"), log, &p50),
        course(material, case, ("p99", "p99, block by block", "p99 of each interval"), log, &p99),
    ];
    let any_failed = material
        .trials
        .iter()
        .filter(|files| files.trial.case == *case)
        .flat_map(|files| &files.intervals)
        .any(|interval| interval.failed_per_s > 0.0);
    if any_failed {
        let name = ("failed", "Failed requests per second, block by block", "failed/s");
        figures.push(course(material, case, name, linear, &failed));
    }
    figures.into_iter().flatten().collect()
}

fn course(
    material: &Material,
    case: &Case,
    (name, title, label): (&str, &str, &str),
    (spread, unit): (Spread, Unit),
    of: &dyn Fn(&Interval) -> Option<f64>,
) -> Option<Figure> {
    let series = material.systems.iter().map(|system| Series {
        name: system.clone(),
        style: material.style(system),
        shape: Shape::Line,
        stretches: material.of(case, system).map(|files| stretch(files, of)).collect(),
    });
    let mut series: Vec<Series> =
        series.filter(|series| series.stretches.iter().any(|part| !part.is_empty())).collect();
    // Blocks of one interval each make one line over all of them.
    if series.iter().flat_map(|series| &series.stretches).all(|part| part.len() <= 1) {
        for series in &mut series {
            series.stretches = vec![series.stretches.concat()];
        }
    }
    let blocks = material.trials.iter().map(|files| files.trial.block + 1).max().unwrap_or(1);
    let chart = Chart {
        title: title.to_owned(),
        description: format!(
            "One line a system; each block's measured intervals lie around its number. {}.",
            case.title()
        ),
        x: Axis { label: "block".to_owned(), unit: Unit::Number },
        x_spread: Spread::Linear,
        y: Axis { label: label.to_owned(), unit },
        y_spread: spread,
        y_from_zero: true,
        series,
        marks: Vec::new(),
        x_span: Some((0.5, f64::from(blocks) + 0.5)),
    };
    let caption = "Every system is started afresh in each block, in random order; warm-up is left out. What moves for all systems together is the machine.";
    figure(case_key(name, case), chart, caption, None)
}

/// A trial's measured intervals around its block's number.
fn stretch(files: &TrialFiles, of: &dyn Fn(&Interval) -> Option<f64>) -> Vec<(f64, f64)> {
    let block = f64::from(files.trial.block) + 1.0;
    let measured = files.intervals.iter().filter(|interval| interval.phase == "measure");
    let place = |interval: &Interval| {
        let middle = (interval.start_s + interval.length_s / 2.0) / files.trial.window_s;
        block - 0.4 + 0.8 * middle.clamp(0.0, 1.0)
    };
    measured.filter_map(|interval| Some((place(interval), of(interval)?))).collect()
}

/// Latency against the rate that was reached, for the cases that differ in connections alone; `None` with fewer than
/// two of them.
pub fn load_curve(material: &Material, measured: &[Measured], cases: &[Case]) -> Option<Figure> {
    let first = cases.iter().find(|case| case.load == Load::KeepAlive)?;
    let ladder: Vec<&Case> = cases
        .iter()
        .filter(|case| case.load == Load::KeepAlive && case.body_bytes == first.body_bytes && case.work == first.work)
        .collect();
    if ladder.len() < 2 {
        return None;
    }
    let mut table = Table::new(&["system", "connections", "requests/s", "p50", "p99"]);
    let mut series = Vec::new();
    for system in &material.systems {
        let own = |case: &&Case| {
            measured.iter().find(|row| row.name == *system && row.case == **case && row.verdict != "invalid")
        };
        let rows: Vec<&Measured> = ladder.iter().filter_map(own).collect();
        if rows.is_empty() {
            continue;
        }
        let points = |of: fn(&Measured) -> Option<u64>| -> Vec<(f64, f64)> {
            rows.iter().filter_map(|row| Some((row.throughput_per_s, of(row)? as f64))).collect()
        };
        let style = material.style(system);
        let line = |name: &str, shape, points| Series { name: name.to_owned(), style, shape, stretches: vec![points] };
        series.push(line(system, Shape::Line, points(|row| row.p99_ns)));
        series.push(line("", Shape::Faint, points(|row| row.p50_ns)));
        for row in rows {
            table.push(vec![
                system.clone(),
                row.case.connections.to_string(),
                rate_text(row.throughput_per_s),
                quantile_text(row.p50_ns),
                quantile_text(row.p99_ns),
            ]);
        }
    }
    let connections: Vec<String> = ladder.iter().map(|case| case.connections.to_string()).collect();
    let chart = Chart {
        title: format!("Latency against load: closed loops of {} connections", connections.join(", ")),
        description: "A line a system from few to many connections: p99 over requests per second, and p50 as a thin line. Where a line turns upward or back is the knee.".to_owned(),
        x: Axis { label: "requests/s reached".to_owned(), unit: Unit::Count },
        x_spread: Spread::Linear,
        y: Axis { label: "p99 (thin: p50)".to_owned(), unit: Unit::Duration },
        y_spread: Spread::Log,
        y_from_zero: false,
        series,
        marks: Vec::new(),
        x_span: None,
    };
    let caption = "More connections bring more requests per second until the system is full; from there on they only wait longer. Closed loop: service time, not comparable with open-loop percentiles.";
    figure("load".to_owned(), chart, caption, Some(table))
}
