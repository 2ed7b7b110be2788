//! What a comparison says, chapter by chapter, on its page and in its section of RESULTS.md.

use serde_json::json;

use super::costs::cpu_bars;
use super::courses::{load_curve, over_blocks};
use super::document::{Block, Card, Chapter, Figure, Tone};
use super::generator::course_over_seconds;
use super::histograms::{Latencies, encode};
use super::page::capitalised;
use super::pictures::{Grouping, Named, case_key, forest, omission, spectrum};
use super::run::Run;
use super::tables::{
    appliance_table, bound_text, cases, floor_table, job, notes, ratio_table, system_table, systems_table, target_table,
};
use super::tiers;
use crate::case::{Case, Load};
use crate::evaluate::{RatioRow, equal_work_text, metric_words};
use crate::faults::Faults;
use crate::html::Verdict;
use crate::statistics::Verdict as Finding;
use crate::table::Table;
use crate::target::BEST;

/// Reasons that the head of a page names; all of them are beside the tables.
const REASONS_MAX: usize = 4;
/// Cards in the first chapter.
const CARDS_MAX: usize = 6;
/// Connections of the case that stands for the others.
const USUAL_CONNECTIONS: u32 = 64;

/// `Proxy job: twintier against nginx, haproxy`.
pub fn title(run: &Run) -> String {
    let first = protagonist(run);
    let floor = run.material.floor.as_deref();
    let others: Vec<&str> = run
        .material
        .systems
        .iter()
        .map(String::as_str)
        .filter(|name| Some(*name) != first.as_deref() && Some(*name) != floor)
        .collect();
    let job = capitalised(job(&run.record));
    match (first, others.is_empty()) {
        (Some(first), false) => format!("{job} job: {first} against {}", others.join(", ")),
        (Some(first), true) => format!("{job} job: {first}"),
        (None, _) => format!("{job} job"),
    }
}

/// The system that the ratios are about.
fn protagonist(run: &Run) -> Option<String> {
    run.comparison.ratios.first().map(|row| row.a.clone()).or_else(|| run.material.systems.first().cloned())
}

/// What may be quoted.
pub fn verdict(run: &Run) -> Verdict {
    let of = |word: &str| run.comparison.systems.iter().filter(|system| system.verdict == word).collect::<Vec<_>>();
    let (invalid, suspect) = (of("invalid"), of("suspect"));
    let all = run.comparison.systems.len();
    let mut reasons: Vec<String> = invalid
        .iter()
        .chain(&suspect)
        .map(|system| {
            let reason = system.reasons.first().map_or("no reason given", String::as_str);
            format!("{} at {} is {}: {reason}", system.name, system.case.title(), system.verdict)
        })
        .collect();
    let more = reasons.len().saturating_sub(REASONS_MAX);
    reasons.truncate(REASONS_MAX);
    if more > 0 {
        reasons.push(format!("and {more} more, in the tables below"));
    }
    if let Some(appliance) = &run.appliance
        && appliance.browse.verdict != "valid"
    {
        reasons.push(format!("browser load is {}: {}", appliance.browse.verdict, appliance.browse.reasons.join("; ")));
    }
    if !run.record.finished {
        reasons.insert(0, "the run was cut short: this is what was complete".to_owned());
    }
    let (word, text) = match (invalid.len(), suspect.len()) {
        (0, 0) => ("valid", format!("{all} measurements, none of them limited by the generator")),
        (0, count) => ("suspect", format!("in part: {count} of {all} measurements are marked with `*`")),
        (count, 0) => ("invalid", format!("in part: {count} of {all} measurements have no figures")),
        (count, marked) => {
            ("invalid", format!("in part: {count} of {all} measurements have no figures, {marked} are marked with `*`"))
        }
    };
    let text = text.replace('`', "");
    Verdict { word: word.to_owned(), text, reasons }
}

/// The chapters of the page, but for the machine.
pub fn page_chapters(run: &Run) -> Vec<Chapter> {
    let mut chapters = vec![summary(run), null_chapter(run), results(run), latency(run)];
    chapters.extend(load_chapter(run));
    chapters.push(time_chapter(run));
    chapters.push(cost_chapter(run));
    chapters.extend(tiers::chapter(&run.comparison.tiers));
    chapters.push(floor_chapter(run));
    chapters.extend(equal_work_chapter(run));
    chapters.extend(appliance_chapter(run));
    chapters.push(systems_chapter(run));
    let rules = RULES.iter().map(|rule| (*rule).to_owned()).collect();
    chapters.push(Chapter::of("By which rules", [Block::Notes(rules)]));
    chapters
}

/// The chapters of the section in RESULTS.md.
pub fn section_chapters(run: &Run) -> Vec<Chapter> {
    let mut chapters = Vec::new();
    if !run.comparison.null.is_empty() {
        chapters.push(null_chapter(run));
    }
    if let Some(table) = target_table(&run.comparison) {
        chapters.push(Chapter::of("Targets", [Block::Table(table)]));
    }
    for case in cases(&run.record) {
        let title = format!("{} job, {}", capitalised(job(&run.record)), case.title());
        chapters.push(Chapter::of(title, case_blocks(run, case)));
    }
    let mut beside = Chapter::of("What to know", [Block::Notes(notes(&run.record, &run.comparison))]);
    let mut figures = Vec::new();
    figures.extend(reference(run).and_then(|case| cpu_bars(&run.comparison.systems, &case)));
    figures.extend(load_figure(run));
    beside.blocks.extend(figures.into_iter().map(|figure| Block::Figure(Box::new(figure))));
    if !run.comparison.ratios.is_empty() {
        let table = Block::Table(ratio_table(&run.comparison.ratios));
        beside.push(Block::More(format!("All {} ratios", run.comparison.ratios.len()), vec![table]));
    }
    chapters.push(beside);
    chapters.extend(tiers::chapter(&run.comparison.tiers));
    if !run.comparison.floor.is_empty() {
        chapters.push(floor_chapter(run));
    }
    chapters.extend(equal_work_chapter(run));
    chapters.extend(appliance_chapter(run));
    chapters.push(systems_chapter(run));
    chapters
}

/// The case that stands for the others: the usual connections, or else the first.
fn reference(run: &Run) -> Option<Case> {
    let cases = cases(&run.record);
    let usual = |case: &&Case| case.load == Load::KeepAlive && case.connections == USUAL_CONNECTIONS;
    cases.iter().find(usual).or(cases.first()).copied()
}

fn figure_block(figure: Figure) -> Block {
    Block::Figure(Box::new(figure))
}

fn summary(run: &Run) -> Chapter {
    let mut chapter = Chapter::of("What it says", []);
    let cards = cards(run);
    if !cards.is_empty() {
        chapter.push(Block::Cards(cards));
    }
    if cases(&run.record).len() > 1
        && let Some(figure) = overview(run)
    {
        chapter.push(figure_block(figure));
    }
    if let Some(table) = target_table(&run.comparison) {
        chapter.push(Block::Heading("What the project promises, and what was found".to_owned()));
        chapter.push(Block::Table(table));
    }
    chapter.push(Block::Notes(notes(&run.record, &run.comparison)));
    chapter
}

/// The first system's figures against the others where all have the usual load.
fn cards(run: &Run) -> Vec<Card> {
    let (Some(case), Some(first)) = (reference(run), protagonist(run)) else { return Vec::new() };
    let rows = |metric: &'static str| {
        let own = run.comparison.ratios.iter().filter(move |row| row.metric == metric);
        own.filter(|row| row.case == case && row.a == first && row.b != BEST)
    };
    let mut cards: Vec<Card> =
        run.comparison.null.iter().filter(|row| row.metric == "cpu_us_per_request").map(null_card).collect();
    cards.extend(rows("cpu_us_per_request").map(card));
    cards.truncate(CARDS_MAX);
    cards
}

/// The same system twice: no difference is what is hoped for.
fn null_card(row: &RatioRow) -> Card {
    let tone = if row.excludes_one() { Tone::Bad } else { Tone::Plain };
    let said = if row.excludes_one() { "excludes 1" } else { "contains 1" };
    let interval = row.ci_low.zip(row.ci_high);
    let detail = interval.map_or_else(
        || "too few blocks".to_owned(),
        |(low, high)| format!("{} to {} · {said} · {} blocks", bound_text(low, 2), bound_text(high, 2), row.blocks),
    );
    Card { label: format!("A/A: {}, {} twice", metric_words(&row.metric), row.a), detail, tone, ..card(row) }
}

fn card(row: &RatioRow) -> Card {
    let interval = row.ci_low.zip(row.ci_high);
    Card {
        label: format!("{}: {} ÷ {}", metric_words(&row.metric), row.a, row.b),
        value: row.ratio.map_or_else(|| "n/a".to_owned(), |ratio| format!("{ratio:.2} ×")),
        detail: interval.map_or_else(
            || row.verdict.name().to_owned(),
            |(low, high)| {
                let (low, high) = (bound_text(low, 2), bound_text(high, 2));
                format!("{low} to {high} · {} · {} blocks", row.verdict.name(), row.blocks)
            },
        ),
        tone: match row.verdict {
            Finding::Faster => Tone::Good,
            Finding::Slower => Tone::Bad,
            Finding::Equivalent | Finding::Underpowered => Tone::Plain,
        },
    }
}

/// CPU per request over all cases.
fn overview(run: &Run) -> Option<Figure> {
    let cpu: Vec<&RatioRow> = run.comparison.ratios.iter().filter(|row| row.metric == "cpu_us_per_request").collect();
    let best: Vec<&RatioRow> = cpu.iter().filter(|row| row.b == BEST).copied().collect();
    let first = protagonist(run)?;
    let shown = if best.is_empty() { cpu.into_iter().filter(|row| row.a == first).collect() } else { best };
    forest("overview".to_owned(), "CPU per request in every case".to_owned(), Grouping::Pairs, &shown)
}

/// Whether the comparison can say "no difference".
fn null_chapter(run: &Run) -> Chapter {
    let rows = &run.comparison.null;
    let title = "The same system twice (A/A)";
    if rows.is_empty() {
        let text = "This run did not compare a system with itself, so it does not show how often its intervals miss a \
                    ratio of 1 that is true. `bench compare` does so first of all.";
        return Chapter::of(title, [Block::Text(text.to_owned())]);
    }
    let shown: Vec<&RatioRow> = rows.iter().collect();
    let outside = rows.iter().filter(|row| row.excludes_one()).count();
    let text = format!(
        "One program under two names, in the same blocks as everything else: the true ratio is 1. Of {} intervals here {outside} \
         exclude it; about one in twenty does so by chance.",
        rows.len()
    );
    let mut chapter = Chapter::of(title, [Block::Text(text)]);
    let figure = forest("null".to_owned(), "The same system twice".to_owned(), Grouping::Metrics, &shown);
    chapter.blocks.extend(figure.map(figure_block));
    chapter
}

/// Table and pictures of one case.
fn case_blocks(run: &Run, case: &Case) -> Vec<Block> {
    let mut blocks = vec![Block::Table(system_table(&run.record, &run.comparison, case))];
    let merged = shown(run, case);
    blocks.extend(case_spectrum(case, &merged).map(figure_block));
    blocks.extend(case_forest(run, case).map(figure_block));
    blocks
}

/// Latencies of the systems of a case that may be quoted, and of the floor.
fn shown(run: &Run, case: &Case) -> Vec<(String, usize, Latencies)> {
    let invalid = |name: &str| {
        run.comparison.systems.iter().any(|row| row.case == *case && row.name == name && row.verdict == "invalid")
    };
    run.material.merged(case).into_iter().filter(|(name, ..)| !invalid(name)).collect()
}

fn case_forest(run: &Run, case: &Case) -> Option<Figure> {
    let first = protagonist(run)?;
    let rows = run.comparison.ratios.iter().filter(|row| row.case == *case && (row.a == first || row.b == first));
    let rows: Vec<&RatioRow> = rows.collect();
    forest(case_key("ratios", case), format!("Ratios, {}", case.title()), Grouping::Metrics, &rows)
}

fn case_spectrum(case: &Case, merged: &[(String, usize, Latencies)]) -> Option<Figure> {
    let clock = match case.load {
        Load::Rate => "response time, from the planned arrival",
        Load::KeepAlive | Load::NewConnections | Load::Idle => "service time (closed loop)",
    };
    let named: Vec<Named<'_>> =
        merged.iter().map(|(name, style, latencies)| (name.clone(), *style, latencies)).collect();
    spectrum(case_key("latency", case), format!("Latency by percentile, {}", case.title()), clock, &named)
}

fn results(run: &Run) -> Chapter {
    let mut chapter = Chapter::of("Figures and ratios", []);
    for case in cases(&run.record) {
        chapter.push(Block::Heading(capitalised(&case.title())));
        chapter.push(Block::Table(system_table(&run.record, &run.comparison, case)));
        chapter.blocks.extend(case_forest(run, case).map(figure_block));
    }
    if !run.comparison.ratios.is_empty() {
        let table = Block::Table(ratio_table(&run.comparison.ratios));
        chapter.push(Block::More(format!("All {} ratios in digits", run.comparison.ratios.len()), vec![table]));
    }
    chapter
}

fn latency(run: &Run) -> Chapter {
    let mut chapter = Chapter::of("Latency", []);
    let mut open = Vec::new();
    for case in cases(&run.record) {
        let merged = shown(run, case);
        chapter.blocks.extend(case_spectrum(case, &merged).map(figure_block));
        if case.load == Load::Rate {
            for (name, style, latencies) in &merged {
                let key = format!("{}-{style}", case_key("omission", case));
                open.extend(omission(key, name, *style, latencies).map(figure_block));
            }
        }
    }
    chapter.push(Block::Heading("Corrected and uncorrected".to_owned()));
    if open.is_empty() {
        let text = "This run has closed loops only. They measure service time alone, which leaves out what users wait while \
                    the system does not take their request; no correction can bring it back. `--rate-share` adds an open loop.";
        chapter.push(Block::Text(text.to_owned()));
        return chapter;
    }
    let rest = open.split_off(1);
    chapter.blocks.append(&mut open);
    if !rest.is_empty() {
        chapter.push(Block::More(format!("The other {} systems", rest.len()), rest));
    }
    chapter
}

fn load_figure(run: &Run) -> Option<Figure> {
    load_curve(&run.material, &run.comparison.systems, cases(&run.record))
}

fn load_chapter(run: &Run) -> Option<Chapter> {
    Some(Chapter::of("Latency against load", [figure_block(load_figure(run)?)]))
}

fn time_chapter(run: &Run) -> Chapter {
    let mut chapter = Chapter::of("Over time", []);
    let reference = reference(run);
    for case in cases(&run.record) {
        let figures: Vec<Block> = over_blocks(&run.material, case).into_iter().map(figure_block).collect();
        if figures.is_empty() {
            continue;
        }
        if Some(*case) == reference {
            chapter.blocks.insert(0, Block::Heading(capitalised(&case.title())));
            chapter.blocks.splice(1..1, figures);
        } else {
            chapter.push(Block::More(capitalised(&case.title()), figures));
        }
    }
    if chapter.blocks.is_empty() {
        chapter.push(Block::Text("The run directory has no `intervals.csv`.".to_owned()));
    }
    chapter
}

fn cost_chapter(run: &Run) -> Chapter {
    let mut chapter = Chapter::of("CPU cost", []);
    let reference = reference(run);
    let mut others = Vec::new();
    for case in cases(&run.record) {
        let Some(figure) = cpu_bars(&run.comparison.systems, case) else { continue };
        if Some(*case) == reference { chapter.push(figure_block(figure)) } else { others.push(figure_block(figure)) }
    }
    if !others.is_empty() {
        chapter.push(Block::More(format!("The other {} cases", others.len()), others));
    }
    if chapter.blocks.is_empty() {
        chapter.push(Block::Text("No trial of this run has a figure.".to_owned()));
    }
    chapter
}

/// What the generator measures when there is next to nothing to measure.
fn floor_chapter(run: &Run) -> Chapter {
    if run.comparison.floor.is_empty() {
        let text = "This run did not measure the generator against `twintier origin` on the system's core, so the tool's share of \
                    the figures above is not known.";
        return Chapter::of("Tool floor", [Block::Text(text.to_owned())]);
    }
    let text = "The same generator on the same cores against `twintier origin` in the system's place: what is left when there is \
                next to nothing to measure. A figure near its floor says more about the tool than about the system.";
    Chapter::of("Tool floor", [Block::Text(text.to_owned()), Block::Table(floor_table(&run.comparison.floor))])
}

/// Where the work of the systems differs, and that nobody answered for the origin.
fn equal_work_chapter(run: &Run) -> Option<Chapter> {
    let lines = equal_work_text(&run.comparison.equal_work);
    (!lines.is_empty()).then(|| Chapter::of("Equal work", [Block::Notes(lines)]))
}

fn appliance_chapter(run: &Run) -> Option<Chapter> {
    let appliance = run.appliance.as_ref()?;
    let browse = &appliance.browse;
    let reasons = if browse.reasons.is_empty() { String::new() } else { format!(": {}", browse.reasons.join("; ")) };
    let mut chapter = Chapter::of("Appliance under browser load", [Block::Table(appliance_table(appliance))]);
    chapter.push(Block::Text(format!(
        "Supplier file: `{}`. Generator: {}{reasons}",
        appliance.import.file, browse.verdict
    )));
    chapter.blocks.extend(course_over_seconds("browse", &run.intervals).into_iter().map(figure_block));
    Some(chapter)
}

/// Of `bench faults`.
pub fn faults_chapter(run: &Run, faults: &Faults) -> Chapter {
    let reasons = if faults.reasons.is_empty() { String::new() } else { format!(": {}", faults.reasons.join("; ")) };
    let mut chapter = Chapter::of("Deploys and replica kills under load", [Block::Table(faults.table())]);
    chapter.push(Block::Text(format!("Generator: {}{reasons}", faults.verdict)));
    chapter.blocks.extend(course_over_seconds("faults", &run.intervals).into_iter().map(figure_block));
    chapter
}

/// What ran, what was left out, and by which rules.
fn systems_chapter(run: &Run) -> Chapter {
    let record = &run.record;
    let mut chapter = Chapter::of("What ran", [Block::Table(systems_table(record, &run.comparison.systems))]);
    chapter.blocks.extend(super::tables::method_text(record).map(Block::Text));
    if !record.absent.is_empty() {
        let mut table = Table::new(&["absent", "why, and what would help"]).with_words(&[1]);
        for absent in &record.absent {
            table.push(vec![absent.name.clone(), absent.reason.clone()]);
        }
        chapter.push(Block::Table(table));
    }
    let files = run.configurations.iter().map(|configuration| {
        Block::File(format!("{}: {}", configuration.system, configuration.name), configuration.text.clone())
    });
    chapter.blocks.extend(files);
    chapter
}

/// By which rules systems are compared, in brief.
const RULES: [&str; 7] = [
    "**Paired, interleaved, random**: each block measures every system once, in an order drawn from the seed; each is started afresh.",
    "**Same cores**: the proxy has one core, origin and generator have others; on two cores these share one. The kernel is asked where the threads may run.",
    "**Equal work**: before the first trial each system answers; its body must be the origin's to the byte and its connection must stay open.",
    "**Equal configuration**: one worker or thread, no access log, keep-alive on both sides; the rest is each program's default. The files as rendered are above.",
    "**Versions are asked of the running program**, and the digest of its file is kept.",
    "**The generator may be the limit**: its verdict on itself is part of each trial; what is suspect has a `*`, what is invalid has no figures.",
    "**The comparison can say “no difference”**: it compares a system with itself first.",
];

/// The raw histograms for other programs: of every trial response times, and service times where there are some.
pub fn data(run: &Run) -> Vec<(String, String)> {
    let shown = run.material.trials.iter().filter(|files| !files.latencies.response.is_empty());
    let trials: Vec<serde_json::Value> = shown
        .map(|files| {
            let service = &files.latencies.service;
            json!({
                "trial": files.trial.folder,
                "system": files.trial.system,
                "case": files.trial.case.key(),
                "block": files.trial.block,
                "verdict": files.trial.verdict,
                "response_ns": encode(&files.latencies.response),
                "service_ns": (!service.is_empty()).then(|| encode(service)),
            })
        })
        .collect();
    if trials.is_empty() {
        return Vec::new();
    }
    vec![(
        "histograms".to_owned(),
        json!({ "format": "HdrHistogram V2 compressed, base64", "unit": "ns", "trials": trials }).to_string(),
    )]
}

/// How to read [`data`].
pub fn data_chapter() -> Chapter {
    Chapter::of(
        "Raw data",
        [
            Block::Text(
                "This file holds the histogram of every trial: in the element `script#histograms`, as JSON. `response_ns` and \
                 `service_ns` are histograms of nanoseconds in HdrHistogram's V2 compressed format, in base64. Any HdrHistogram \
                 library reads them, such as the JavaScript one:"
                    .to_owned(),
            ),
            Block::File(
                "Read a histogram from this file".to_owned(),
                "const data = JSON.parse(document.getElementById(\"histograms\").textContent);\n\
                 const histogram = hdr.decodeFromCompressedBase64(data.trials[0].response_ns);\n\
                 histogram.getValueAtPercentile(99); // nanoseconds\n"
                    .to_owned(),
            ),
            Block::Text("Histograms of several trials may be added; their percentiles may not be averaged.".to_owned()),
        ],
    )
}
