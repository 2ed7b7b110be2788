//! The page of a search for the highest rate that keeps an objective: `max.json` of `loadgen max`.

use std::path::Path;

use serde::Deserialize;
use serde_json::json;

use super::document::{Block, Card, Chapter, Figure, Tone};
use super::generator::command_line;
use super::pictures::figure;
use super::run::run_name;
use crate::clock::utc_text;
use crate::failure::Failure;
use crate::html::{Page, Verdict};
use crate::plot::axis::Axis;
use crate::plot::line::{Chart, Mark, Series, Shape};
use crate::plot::scale::Spread;
use crate::plot::text::Unit;
use crate::record::read_json;
use crate::table::{Table, quantile_text, rate_text};

/// The file's name.
pub const FILE: &str = "max.json";

/// What the page needs of it.
#[derive(Clone, Debug, Deserialize)]
struct Search {
    outcome: String,
    capacity_per_s: Option<f64>,
    ci_low: Option<f64>,
    ci_high: Option<f64>,
    slo: String,
    url: String,
    #[serde(default)]
    started_unix_ms: u64,
    #[serde(default)]
    version: String,
    #[serde(default)]
    argv: Vec<String>,
    #[serde(default)]
    definition: String,
    probes: Vec<Probe>,
}

#[derive(Clone, Debug, Deserialize)]
struct Probe {
    rate: f64,
    achieved: f64,
    p50_ns: Option<u64>,
    p99_ns: Option<u64>,
    #[serde(default)]
    failed_share: f64,
    /// `null` where the probe says nothing about the system.
    kept: Option<bool>,
    verdict: String,
    phase: String,
}

/// The page of a directory with a `max.json`.
///
/// # Errors
/// The file cannot be read.
pub fn page(folder: &Path) -> Result<Page, Failure> {
    let search: Search = read_json(&folder.join(FILE))?;
    let mut answer = Chapter::of("What it says", [Block::Cards(cards(&search))]);
    if !search.definition.is_empty() {
        answer.push(Block::Text(format!("Capacity: {}.", search.definition)));
    }
    answer.blocks.extend(curve(&search).map(|figure| Block::Figure(Box::new(figure))));
    let probes: Vec<serde_json::Value> = search
        .probes
        .iter()
        .map(|probe| json!({ "rate": probe.rate, "achieved": probe.achieved, "p50_ns": probe.p50_ns, "p99_ns": probe.p99_ns, "kept": probe.kept }))
        .collect();
    Ok(Page {
        title: format!("Capacity of {} for {}", search.url, search.slo),
        subtitle: vec![
            format!(
                "`{}` · {} · loadgen {}",
                run_name(folder),
                utc_text(search.started_unix_ms / 1000),
                search.version
            ),
            format!("`{}`", command_line(&search.argv)),
        ],
        verdict: verdict(&search),
        chapters: vec![answer, Chapter::of("Every probe", [Block::Table(probe_table(&search))])],
        data: vec![("probes".to_owned(), json!(probes).to_string())],
    })
}

fn verdict(search: &Search) -> Verdict {
    let (word, text) = match search.outcome.as_str() {
        "found" => ("valid", "the search found where the objective begins to be missed"),
        "below" => ("suspect", "the lowest rate missed the objective already: there is no capacity to name"),
        "above" => ("suspect", "the highest rate kept the objective: the capacity is at least that"),
        "generator-limited" => ("invalid", "the generator was the limit, and not the system"),
        _ => ("suspect", "the search did not come to its end"),
    };
    Verdict { word: word.to_owned(), text: text.to_owned(), reasons: Vec::new() }
}

fn cards(search: &Search) -> Vec<Card> {
    let rate = |value: Option<f64>| value.map_or_else(|| "n/a".to_owned(), rate_text);
    let interval = search.ci_low.zip(search.ci_high);
    let counted = |kept: Option<bool>| search.probes.iter().filter(|probe| probe.kept == kept).count();
    vec![
        Card {
            label: format!("capacity, requests/s, for {}", search.slo),
            value: rate(search.capacity_per_s),
            detail: interval.map_or_else(
                || search.outcome.clone(),
                |(low, high)| format!("{} to {}, 95 % interval", rate_text(low), rate_text(high)),
            ),
            tone: if search.capacity_per_s.is_some() { Tone::Good } else { Tone::Plain },
        },
        Card {
            label: "probes".to_owned(),
            value: search.probes.len().to_string(),
            detail: format!(
                "{} kept it, {} missed it, {} not judged",
                counted(Some(true)),
                counted(Some(false)),
                counted(None)
            ),
            tone: Tone::Plain,
        },
    ]
}

/// Latency against the planned rate, with the knee.
fn curve(search: &Search) -> Option<Figure> {
    let points = |kept: Option<bool>, of: fn(&Probe) -> Option<u64>| -> Vec<(f64, f64)> {
        let own = search.probes.iter().filter(|probe| probe.kept == kept);
        let mut points: Vec<(f64, f64)> = own.filter_map(|probe| Some((probe.rate, of(probe)? as f64))).collect();
        points.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1)));
        points
    };
    let series = |name: &str, style, points| Series {
        name: name.to_owned(),
        style,
        shape: Shape::Points,
        stretches: vec![points],
    };
    let candidates = [
        series("p99, objective kept", 0, points(Some(true), |probe| probe.p99_ns)),
        series("p99, objective missed", 1, points(Some(false), |probe| probe.p99_ns)),
        series("p99, not judged", 5, points(None, |probe| probe.p99_ns)),
        series("p50, objective kept", 2, points(Some(true), |probe| probe.p50_ns)),
        series("p50, objective missed", 3, points(Some(false), |probe| probe.p50_ns)),
    ];
    let found = search.capacity_per_s.map(|rate| Mark { x: rate, text: format!("capacity {}/s", rate_text(rate)) });
    let edge = |rate: Option<f64>| rate.map(|x| Mark { x, text: String::new() });
    let chart = Chart {
        title: "Latency against load".to_owned(),
        description: "Points of p99 and p50 over the planned rate, one of each for every probe, with a line at the capacity and one at each end of its interval.".to_owned(),
        x: Axis { label: "requests/s planned".to_owned(), unit: Unit::Count },
        x_spread: Spread::Linear,
        y: Axis { label: "response time".to_owned(), unit: Unit::Duration },
        y_spread: Spread::Log,
        y_from_zero: false,
        series: candidates.into_iter().filter(|series| !series.stretches[0].is_empty()).collect(),
        marks: edge(search.ci_low).into_iter().chain(edge(search.ci_high)).chain(found).collect(),
        x_span: Some((0.0, 0.0)),
    };
    let caption = "The knee is where waiting begins to grow faster than the rate. The lines around the capacity are the ends of its 95 % interval.";
    figure("capacity".to_owned(), chart, caption, None)
}

fn probe_table(search: &Search) -> Table {
    let mut table = Table::new(&["phase", "planned/s", "achieved/s", "p50", "p99", "failed", "objective", "run"])
        .with_words(&[6, 7]);
    for probe in &search.probes {
        let objective = match probe.kept {
            Some(true) => "kept",
            Some(false) => "missed",
            None => "not judged",
        };
        table.push(vec![
            probe.phase.clone(),
            rate_text(probe.rate),
            rate_text(probe.achieved),
            quantile_text(probe.p50_ns),
            quantile_text(probe.p99_ns),
            format!("{:.2} %", probe.failed_share * 100.0),
            objective.to_owned(),
            probe.verdict.clone(),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::{FILE, page};

    #[test]
    fn a_search_has_its_curve_and_its_capacity() {
        let folder = std::env::temp_dir().join(format!("bench-capacity-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let probe = |rate: u32, kept: &str| {
            format!(
                r#"{{"rate":{rate},"achieved":{rate},"p50_ns":200000,"p99_ns":{},"kept":{kept},"verdict":"valid","phase":"bisect"}}"#,
                rate * 1000
            )
        };
        let text = format!(
            r#"{{"outcome":"found","capacity_per_s":1500.0,"ci_low":1400.0,"ci_high":1600.0,"slo":"p99<5ms","url":"http://a/","probes":[{},{},{}]}}"#,
            probe(1000, "true"),
            probe(2000, "false"),
            probe(1500, "null")
        );
        std::fs::write(folder.join(FILE), text).unwrap();
        let html = page(&folder).unwrap().html();
        for expected in [
            "capacity 1,500/s",
            "1,400 to 1,600, 95 % interval",
            "1 kept it, 1 missed it, 1 not judged",
            "p99, not judged",
        ] {
            assert!(html.contains(expected), "{expected} is not in the page");
        }
        std::fs::remove_dir_all(folder).unwrap();
    }
}
