//! The page of a load generator's run directory, and the course of any such run over its seconds.

use std::path::Path;

use serde_json::{Value, json};

use super::capacity;
use super::document::{Block, Card, Chapter, Figure, Tone};
use super::histograms::{Latencies, encode, quantile_table, read_log, tags};
use super::intervals::{self, Interval};
use super::pictures::{figure, omission, spectrum};
use super::run::run_name;
use crate::clock::utc_text;
use crate::failure::Failure;
use crate::html::{Page, Verdict};
use crate::plot::axis::Axis;
use crate::plot::line::{Chart, Mark, Series, Shape};
use crate::plot::scale::Spread;
use crate::plot::text::Unit;
use crate::record::read_json;
use crate::table::{Table, count_text, duration_text, rate_text};

/// Whether a directory is the load generator's own, and no comparison's.
pub fn is_run(folder: &Path) -> bool {
    let has = |name: &str| folder.join(name).is_file();
    !has("run.json") && (has("summary.json") || has(capacity::FILE))
}

/// The page of such a directory.
///
/// # Errors
/// A file cannot be read.
pub fn page(folder: &Path) -> Result<Page, Failure> {
    if !folder.join("summary.json").is_file() {
        return capacity::page(folder);
    }
    let summary: Value = read_json(&folder.join("summary.json"))?;
    let latencies = Latencies::read(folder)?;
    let intervals = intervals::read(&folder.join("intervals.csv"))?;
    let open = summary["mode"] == "open";
    let mut chapters = vec![what_it_says(&summary), latency(&latencies, open)];
    let course: Vec<Block> =
        course_over_seconds("run", &intervals).into_iter().map(|figure| Block::Figure(Box::new(figure))).collect();
    if !course.is_empty() {
        chapters.push(Chapter::of("Over time", course));
    }
    chapters.extend(browsers(&summary));
    chapters.push(parts(folder, &summary)?);
    chapters.push(definitions(&summary));
    let data = json!({
        "format": "HdrHistogram V2 compressed, base64",
        "unit": "ns",
        "trials": [{
            "response_ns": encode(&latencies.response),
            "service_ns": (!latencies.service.is_empty()).then(|| encode(&latencies.service)),
        }],
    });
    chapters.push(super::comparison::data_chapter());
    Ok(Page {
        title: format!("Load on {}", text(&summary["url"])),
        subtitle: subtitle(folder, &summary),
        verdict: verdict(&summary),
        chapters,
        data: vec![("histograms".to_owned(), data.to_string())],
    })
}

/// A value in words; a string without its quotes.
fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "n/a".to_owned(),
        other => other.to_string(),
    }
}

fn subtitle(folder: &Path, summary: &Value) -> Vec<String> {
    let when = utc_text(summary["started_unix_ms"].as_u64().unwrap_or(0) / 1000);
    vec![
        format!("`{}` · {when} · loadgen {}", run_name(folder), text(&summary["version"])),
        format!("`{}`", command_line(&strings(&summary["argv"]))),
    ]
}

/// A command line with the program's name in place of its path, which differs between machines.
pub fn command_line(words: &[String]) -> String {
    let name = |word: &String| {
        Path::new(word).file_name().map_or_else(|| word.clone(), |name| name.to_string_lossy().into_owned())
    };
    let program = words.first().map(name);
    program.into_iter().chain(words.iter().skip(1).cloned()).collect::<Vec<_>>().join(" ")
}

fn strings(value: &Value) -> Vec<String> {
    value.as_array().map(|items| items.iter().map(text).collect()).unwrap_or_default()
}

fn verdict(summary: &Value) -> Verdict {
    let count = |name: &str| count_text(summary[name].as_u64().unwrap_or(0));
    let text = format!(
        "{} planned = {} completed + {} errors + {} timed out + {} shed + {} in flight at the end",
        count("planned"),
        count("completed"),
        count("errors"),
        count("timed_out"),
        count("shed"),
        count("in_flight_at_end")
    );
    Verdict { word: self::text(&summary["verdict"]), text, reasons: strings(&summary["reasons"]) }
}

fn what_it_says(summary: &Value) -> Chapter {
    let mut chapter = Chapter::of("What it says", []);
    if summary["verdict"] == "invalid" {
        let text = "The run is invalid: it has no headline. What was measured is shown below all the same.";
        chapter.push(Block::Text(text.to_owned()));
    } else {
        chapter.push(Block::Cards(cards(summary)));
    }
    if summary["mode"] == "closed" {
        let text = "Closed loop: service time only, not comparable with open-loop percentiles, and never corrected.";
        chapter.push(Block::Text(text.to_owned()));
    }
    let mut table = Table::new(&["objective", "found", "verdict"]).with_words(&[1, 2]);
    let objectives = summary["slo"].as_array().cloned().unwrap_or_default();
    for finding in &objectives {
        let verdict = if finding["met"] == true { "met" } else { "missed" };
        table.push(vec![text(&finding["objective"]), text(&finding["found"]), verdict.to_owned()]);
    }
    if !objectives.is_empty() {
        chapter.push(Block::Table(table));
    }
    chapter
}

fn cards(summary: &Value) -> Vec<Card> {
    let open = summary["mode"] == "open";
    let clock = if open { "response" } else { "service" };
    let quantile = |name: &str| {
        let value = &summary[format!("{clock}_ns")][name];
        value.as_u64().map_or_else(|| "n/a".to_owned(), duration_text)
    };
    let card = |label: &str, value: String, detail: String, tone| Card { label: label.to_owned(), value, detail, tone };
    let failed: u64 = ["errors", "timed_out", "shed"].iter().filter_map(|name| summary[*name].as_u64()).sum();
    let offered = summary["offered_rate"].as_f64();
    let kinds = summary["errors_by_kind"].as_object().cloned().unwrap_or_default();
    let kinds: Vec<String> = kinds.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
    vec![
        card(
            "requests per second",
            rate_text(summary["achieved_rate"].as_f64().unwrap_or(0.0)),
            offered.map_or_else(|| "closed loop".to_owned(), |rate| format!("of {} offered", rate_text(rate))),
            Tone::Plain,
        ),
        card(&format!("p50 of {clock} time"), quantile("p50"), String::new(), Tone::Plain),
        card(&format!("p99 of {clock} time"), quantile("p99"), String::new(), Tone::Plain),
        card(&format!("p99.9 of {clock} time"), quantile("p999"), String::new(), Tone::Plain),
        card("failed", count_text(failed), kinds.join(", "), if failed == 0 { Tone::Good } else { Tone::Bad }),
    ]
}

fn latency(latencies: &Latencies, open: bool) -> Chapter {
    let mut chapter = Chapter::of("Latency", []);
    if open {
        chapter.blocks.extend(
            omission("omission".to_owned(), "Latency by percentile", 0, latencies)
                .map(|figure| Block::Figure(Box::new(figure))),
        );
    }
    if chapter.blocks.is_empty() {
        let clock = if open { "response time, from the planned arrival" } else { "service time (closed loop)" };
        let named = [(clock.to_owned(), 0, latencies)];
        let figure = spectrum("latency".to_owned(), "Latency by percentile".to_owned(), clock, &named);
        chapter.blocks.extend(figure.map(|figure| Block::Figure(Box::new(figure))));
    }
    if chapter.blocks.is_empty() {
        chapter.push(Block::Text("No request was answered, so there is no latency.".to_owned()));
    }
    chapter
}

/// The other clocks and the tags, in digits.
fn parts(folder: &Path, summary: &Value) -> Result<Chapter, Failure> {
    let mut chapter = Chapter::of("Where the time went", []);
    for (title, name) in [("By clock", "latency-parts.hlog"), ("By tag", "latency-tags.hlog")] {
        let path = folder.join(name);
        if !path.is_file() {
            continue;
        }
        let mut rows = Vec::new();
        for tag in tags(&path)? {
            let histogram = read_log(&path, Some(&tag))?;
            if !histogram.is_empty() {
                rows.push((tag.replace('_', " "), histogram));
            }
        }
        if rows.is_empty() {
            continue;
        }
        let table = quantile_table(rows.iter().map(|(name, histogram)| (name.clone(), histogram)));
        chapter.push(Block::Heading(title.to_owned()));
        chapter.push(Block::Table(table));
    }
    let tiers = quantiles_table(&summary["service_by_tier_ns"]);
    if !tiers.rows().is_empty() {
        chapter.push(Block::Heading("By tier, as the server says in `Server-Timing`".to_owned()));
        chapter.push(Block::Table(tiers));
    }
    let hiccups = quantiles_table(&json!({ "of a thread that only sleeps": summary["hiccup_ns"] }));
    if !hiccups.rows().is_empty() {
        chapter.push(Block::Heading("Hiccups of the machine beside the generator".to_owned()));
        chapter.push(Block::Table(hiccups));
    }
    let mut table = Table::new(&["generator", ""]).with_words(&[1]);
    let share =
        |name: &str| summary[name].as_f64().map_or_else(|| "n/a".to_owned(), |share| format!("{:.1} %", share * 100.0));
    let cpu = summary["generator_cpu_us_per_request"].as_f64();
    for (name, value) in [
        ("CPU per request", cpu.map_or_else(|| "n/a".to_owned(), |us| format!("{us:.2} µs"))),
        ("its core was used", share("generator_cpu_share")),
        ("waited for its core", share("generator_wait_share")),
        ("connections", text(&summary["connections"])),
        ("arrivals", text(&summary["arrivals"])),
        ("seed", text(&summary["seed"])),
    ] {
        table.push(vec![name.to_owned(), value]);
    }
    chapter.push(Block::Heading("The generator itself".to_owned()));
    chapter.push(Block::Table(table));
    Ok(chapter)
}

/// A row for each member that is a set of quantiles in nanoseconds.
fn quantiles_table(sets: &Value) -> Table {
    let mut table = Table::new(&["", "p50", "p90", "p99", "p99.9", "longest", "samples"]);
    for (name, set) in sets.as_object().into_iter().flatten().filter(|(_, set)| set["count"].as_u64().is_some()) {
        let at = |name: &str| set[name].as_u64().map_or_else(|| "n/a".to_owned(), duration_text);
        let cells = ["p50", "p90", "p99", "p999", "max"].map(at);
        let count = count_text(set["count"].as_u64().unwrap_or(0));
        table.push(std::iter::once(name.clone()).chain(cells).chain([count]).collect());
    }
    table
}

/// Sessions and pages of a browser run.
fn browsers(summary: &Value) -> Option<Chapter> {
    let browse = summary["browse"].as_object()?;
    let mut table = Table::new(&["figure", "value"]);
    for (name, value) in browse.iter().filter(|(_, value)| value.is_number()) {
        let text = match (name.strip_suffix("_ns"), value.as_u64(), value.as_f64()) {
            (Some(_), Some(ns), _) => duration_text(ns),
            (None, Some(count), _) => count_text(count),
            (_, None, Some(share)) if name.ends_with("_share") => format!("{:.1} %", share * 100.0),
            (_, None, Some(figure)) => format!("{figure:.2}"),
            (_, None, None) => self::text(value),
        };
        table.push(vec![name.trim_end_matches("_ns").trim_end_matches("_share").replace('_', " "), text]);
    }
    let mut chapter = Chapter::of("Sessions and pages", [Block::Table(table)]);
    let steps = browse.get("steps").and_then(Value::as_object).into_iter().flatten();
    let mut sets: serde_json::Map<String, Value> =
        steps.map(|(name, step)| (format!("page load of step {name}"), step["page_load_ns"].clone())).collect();
    sets.insert("page load, all".to_owned(), summary["browse"]["page_load_ns"].clone());
    let pages = quantiles_table(&Value::Object(sets));
    if !pages.rows().is_empty() {
        chapter.push(Block::Table(pages));
    }
    let mut failures = Table::new(&["failed step", "why", "times"]).with_words(&[1]);
    for failure in summary["browse"]["failures"].as_array().into_iter().flatten() {
        failures.push(["step", "why", "count"].map(|name| self::text(&failure[name])).to_vec());
    }
    if !failures.rows().is_empty() {
        chapter.push(Block::Table(failures));
    }
    Some(chapter)
}

fn definitions(summary: &Value) -> Chapter {
    let mut table = Table::new(&["figure", "what it is"]).with_words(&[1]);
    for (name, words) in summary["definitions"].as_object().cloned().unwrap_or_default() {
        table.push(vec![name, text(&words)]);
    }
    Chapter::of("Definitions", [Block::Table(table)])
}

/// Requests a second, latency and failures over the seconds of one run, with the start of the measurement marked.
pub fn course_over_seconds(key: &str, intervals: &[Interval]) -> Vec<Figure> {
    let warm_up = intervals.iter().any(|interval| interval.start_s < 0.0);
    let marks = if warm_up { vec![Mark { x: 0.0, text: "measurement begins".to_owned() }] } else { Vec::new() };
    let series = |name: &str, style: usize, shape: Shape, of: &dyn Fn(&Interval) -> Option<f64>| Series {
        name: name.to_owned(),
        style,
        shape,
        stretches: stretches(intervals, of),
    };
    let chart = |title: &str, label: &str, (spread, unit), series| Chart {
        title: title.to_owned(),
        description: format!("{label} over the seconds of the run; warm-up has negative seconds."),
        x: Axis { label: "seconds from the start of the measurement".to_owned(), unit: Unit::Seconds },
        x_spread: Spread::Linear,
        y: Axis { label: label.to_owned(), unit },
        y_spread: spread,
        y_from_zero: true,
        series,
        marks: marks.clone(),
        x_span: None,
    };
    let linear = (Spread::Linear, Unit::Count);
    let mut charts = vec![
        (
            "rate",
            chart(
                "Requests per second",
                "requests/s",
                linear,
                vec![series("completed", 0, Shape::Line, &|interval| Some(interval.completed_per_s))],
            ),
        ),
        (
            "latency-over-time",
            chart(
                "Latency over time",
                "time to last byte",
                (Spread::Log, Unit::Duration),
                vec![
                    series("p50", 0, Shape::Line, &|interval| interval.p50_ns),
                    series("p99", 1, Shape::Line, &|interval| interval.p99_ns),
                ],
            ),
        ),
    ];
    if intervals.iter().any(|interval| interval.failed_per_s > 0.0) {
        let failed = vec![series("failed", 1, Shape::Step, &|interval| Some(interval.failed_per_s))];
        charts.push(("failed", chart("Failed requests per second", "failed/s", linear, failed)));
    }
    let caption = "One point an interval of about a second. Percentiles of intervals show when it happened; they do not add up to those of the run.";
    charts.into_iter().filter_map(|(name, chart)| figure(format!("{key}-{name}"), chart, caption, None)).collect()
}

/// The points of a run, broken where an interval has no value: nothing was answered in it.
fn stretches(intervals: &[Interval], of: &dyn Fn(&Interval) -> Option<f64>) -> Vec<Vec<(f64, f64)>> {
    let mut stretches = vec![Vec::new()];
    for interval in intervals.iter().filter(|interval| interval.phase != "drain") {
        match (of(interval), stretches.last_mut()) {
            (Some(value), Some(last)) => last.push((interval.start_s + interval.length_s / 2.0, value)),
            (Some(_) | None, _) => stretches.push(Vec::new()),
        }
    }
    stretches.retain(|stretch| !stretch.is_empty());
    stretches
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::{Path, PathBuf};

    use hdrhistogram::serialization::interval_log::Tag;
    use serde_json::json;

    use super::{Interval, course_over_seconds, is_run, page};
    use crate::latency::histogram;
    use crate::plot::Plot;
    use crate::report::tests::write_log;
    use crate::report::{Options, PAGE, write};

    /// A directory as `loadgen run` leaves it: response times of 1 to 3000 µs, service times of a third of that.
    fn directory(name: &str, mode: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("bench-generator-{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let (mut response, mut service) = (histogram(), histogram());
        for us in 1..=3000_u64 {
            response.record(us * 1000).unwrap();
            service.record(us * 333).unwrap();
        }
        write_log(&folder.join("latency.hlog"), &response, None);
        write_log(&folder.join("latency-parts.hlog"), &service, Tag::new("service"));
        let quantiles =
            json!({ "p50": 1_500_000, "p99": 2_970_000, "p999": 2_997_000, "max": 3_000_000, "count": 3000 });
        let summary = json!({
            "mode": mode, "verdict": "valid", "reasons": [], "url": "http://127.0.0.1:1/<x>", "version": "0.1.0",
            "argv": ["loadgen", "run"], "started_unix_ms": 1_795_441_620_000_u64, "planned": 3000, "completed": 3000,
            "errors": 0, "achieved_rate": 300.4, "offered_rate": 300.0, "response_ns": quantiles, "service_ns": quantiles,
            "hiccup_ns": quantiles, "definitions": { "response_ns": "planned time to last byte" },
            "browse": { "pages": 12, "page_load_ns": quantiles, "cache_hit_share": 0.5 },
        });
        fs::write(folder.join("summary.json"), summary.to_string()).unwrap();
        folder
    }

    #[test]
    fn a_generators_directory_has_a_page_alone() {
        let folder = directory("open", "open");
        assert!(is_run(&folder) && !is_run(Path::new("/nowhere")));
        let out = folder.join("RESULTS.md");
        let options = Options { out: out.clone(), keep: false, html: None, plots: "plots".into() };
        write(std::slice::from_ref(&folder), &options).unwrap();
        assert!(!out.exists());
        let html = fs::read_to_string(folder.join(PAGE)).unwrap();
        for expected in [
            "Load on http://127.0.0.1:1/&lt;x&gt;",
            "omitted by the uncorrected clock",
            ">2.97 ms<",
            "Hiccups of the machine",
            "Sessions and pages",
            ">50.0 %<",
            "id=\"histograms\"",
            "planned time to last byte",
        ] {
            assert!(html.contains(expected), "{expected} is not in the page");
        }
        fs::remove_dir_all(folder).unwrap();
    }

    /// A closed loop is labelled, and nothing in its page is corrected.
    #[test]
    fn a_closed_loop_is_labelled_and_not_corrected() {
        let folder = directory("closed", "closed");
        let html = page(&folder).unwrap().html();
        assert!(html.contains("Closed loop: service time only") && !html.contains("omitted by"), "{html}");
        fs::remove_dir_all(folder).unwrap();
    }

    /// Seconds without an answer leave a hole in the line, and the start of the measurement is marked.
    #[test]
    fn a_silent_second_is_a_hole() {
        let interval = |start_s: f64, p50_ns| Interval {
            start_s,
            length_s: 1.0,
            phase: if start_s < 0.0 { "warm-up" } else { "measure" }.into(),
            p50_ns,
            ..Interval::default()
        };
        let seconds = [-1.0, 0.0, 1.0, 2.0, 3.0];
        let intervals = seconds.map(|start| interval(start, (start != 1.0).then_some(1e6)));
        let figures = course_over_seconds("run", &intervals);
        let latency = figures.iter().find(|figure| figure.key == "run-latency-over-time").unwrap();
        let Plot::Chart(chart) = &latency.plot else { panic!("a chart") };
        assert_eq!(chart.series[0].stretches.iter().map(Vec::len).collect::<Vec<_>>(), [2, 2]);
        assert_eq!((chart.marks[0].x, chart.marks[0].text.as_str()), (0.0, "measurement begins"));
    }
}
