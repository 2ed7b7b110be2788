//! Tables of figures, for the terminal and for the report.

use std::fmt::Write as _;

use super::{Figure, FigureRatio, Outcome};
use crate::report::document::{Block, Chapter};
use crate::statistics::Verdict;
use crate::table::{Table, count_text, duration_text, rate_text};
use crate::target::Holds;

/// What a run prints at its end.
pub fn terminal(outcome: &Outcome) -> String {
    let mut out = String::new();
    for case in cases(outcome) {
        let _ = writeln!(out, "{} job, {case}\n\n{}", outcome.job, case_table(outcome, case).text());
    }
    if let Some(table) = target_table(outcome) {
        let _ = writeln!(out, "targets\n\n{}", table.text());
    }
    for note in notes(outcome) {
        let _ = writeln!(out, "· {note}");
    }
    out
}

/// The chapters of the report.
pub fn chapters(outcome: &Outcome) -> Vec<Chapter> {
    let mut chapters = Vec::new();
    if let Some(table) = target_table(outcome) {
        chapters.push(Chapter::of("Targets", [Block::Table(table)]));
    }
    let mut of_cases = cases(outcome).into_iter().peekable();
    while let Some(case) = of_cases.next() {
        let mut chapter = Chapter::of(case, [Block::Table(case_table(outcome, case))]);
        if of_cases.peek().is_none() {
            chapter.push(Block::Notes(notes(outcome)));
        }
        chapters.push(chapter);
    }
    let mut table = Table::new(&["system", "version", "what"]).with_words(&[1, 2]);
    for system in &outcome.systems {
        table.push(vec![system.name.clone(), system.version.clone(), system.description.clone()]);
    }
    chapters.push(Chapter::of("What ran", [Block::Table(table)]));
    chapters
}

/// In the order in which they were measured first.
fn cases(outcome: &Outcome) -> Vec<&str> {
    let mut cases: Vec<&str> = Vec::new();
    for figure in &outcome.figures {
        if !cases.contains(&figure.case.as_str()) {
            cases.push(&figure.case);
        }
    }
    cases
}

/// One line a system, one column a metric, then the ratios of the first system to each.
fn case_table(outcome: &Outcome, case: &str) -> Table {
    let own: Vec<&Figure> = outcome.figures.iter().filter(|figure| figure.case == case).collect();
    let (mut systems, mut metrics): (Vec<&str>, Vec<&str>) = (Vec::new(), Vec::new());
    for figure in &own {
        if !systems.contains(&figure.system.as_str()) {
            systems.push(&figure.system);
        }
        if !metrics.contains(&figure.metric.as_str()) {
            metrics.push(&figure.metric);
        }
    }
    // The same lines in every case, whichever was measured first.
    let place = |name: &str| outcome.systems.iter().position(|system| system.name == name).unwrap_or(usize::MAX);
    systems.sort_by_key(|name| place(name));
    let ratios: Vec<&FigureRatio> = outcome.ratios.iter().filter(|ratio| ratio.case == case).collect();
    let compared: Vec<&str> =
        metrics.iter().copied().filter(|metric| ratios.iter().any(|ratio| ratio.metric == *metric)).collect();
    let header: Vec<String> = std::iter::once("system".to_owned())
        .chain(metrics.iter().map(|metric| metric_text(metric)))
        .chain(compared.iter().map(|metric| format!("first's {} ÷ this", metric_text(metric))))
        .collect();
    let mut table = Table::new(&header.iter().map(String::as_str).collect::<Vec<_>>());
    for system in systems {
        let mut row = vec![system.to_owned()];
        for metric in &metrics {
            let figure = own.iter().find(|figure| figure.system == system && figure.metric == **metric);
            row.push(figure.map_or_else(String::new, |figure| value_text(metric, figure.value)));
        }
        for metric in &compared {
            let ratio = ratios.iter().find(|ratio| ratio.b == system && ratio.metric == **metric);
            row.push(ratio.map_or_else(String::new, |ratio| ratio_text(ratio)));
        }
        table.push(row);
    }
    table
}

/// What the project promises, beside what was found.
fn target_table(outcome: &Outcome) -> Option<Table> {
    let mut table = Table::new(&["figure", "measured in", "found", "blocks", "target", "verdict"]).with_words(&[1, 5]);
    let mut any = false;
    for ratio in &outcome.ratios {
        let (Some(target), Some(holds)) = (ratio.target, ratio.holds) else { continue };
        any = true;
        table.push(vec![
            format!("{} ÷ {}, {}", ratio.a, ratio.b, metric_text(&ratio.metric)),
            ratio.case.clone(),
            ratio_text(ratio),
            ratio.blocks.to_string(),
            target.text(),
            Holds::name(holds).to_owned(),
        ]);
    }
    any.then_some(table)
}

fn notes(outcome: &Outcome) -> Vec<String> {
    let mut notes = vec![format!(
        "{} blocks in random order, {} s a trial, seed {}; figures are means over the blocks, ratios geometric means over \
         paired blocks with a 95 % interval from Student's t; `?` is underpowered",
        outcome.blocks, outcome.duration_s, outcome.seed
    )];
    notes.extend(outcome.notes.iter().cloned());
    notes.extend(outcome.invalid.iter().map(|reason| format!("**invalid**: {reason}")));
    notes
}

/// `0.71 [0.68, 0.75]`, with a question mark where the interval is too wide to say anything.
fn ratio_text(row: &FigureRatio) -> String {
    match (row.ratio, row.ci_low, row.ci_high) {
        (Some(ratio), Some(low), Some(high)) => {
            let mark = if row.verdict == Verdict::Underpowered { " ?" } else { "" };
            format!("{ratio:.2} [{low:.2}, {high:.2}]{mark}")
        }
        _ => "n/a ?".to_owned(),
    }
}

/// `messages_per_s` is `messages/s`, `lag_p99_ns` is `lag p99`: the unit stands with the value.
fn metric_text(metric: &str) -> String {
    let words = match (metric.strip_suffix("_per_s"), metric.strip_suffix("_ns")) {
        (Some(rate), _) => format!("{rate}/s"),
        (None, Some(time)) => time.to_owned(),
        (None, None) => metric.to_owned(),
    };
    words.replace('_', " ")
}

fn value_text(metric: &str, value: f64) -> String {
    if metric.ends_with("_per_s") {
        rate_text(value)
    } else if metric.ends_with("_ns") {
        // Durations of a trial: far below 2^53. A difference of two may be below nothing.
        let sign = if value.round() < 0.0 { "−" } else { "" };
        format!("{sign}{}", duration_text(value.abs().round() as u64))
    } else if value.abs() >= 1000.0 {
        count_text(value.round() as u64)
    } else {
        format!("{value:.2}")
    }
}

#[cfg(test)]
mod tests {
    use super::value_text;

    #[test]
    fn a_time_that_a_hop_saves_is_not_told_as_none() {
        assert_eq!(value_text("added_alone_p50_ns", 37_800.0), "37.8 µs");
        assert_eq!(value_text("added_alone_p50_ns", -37_800.0), "−37.8 µs");
        assert_eq!(value_text("added_alone_p50_ns", -0.2), "0.00 ns");
        assert_eq!(value_text("probes", 20.0), "20.00");
    }
}
