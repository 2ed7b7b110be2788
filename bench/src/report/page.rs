//! A run as a page, and as a section of RESULTS.md.

use std::fmt::Write as _;

use super::comparison;
use super::document::{Block, Chapter, Picture, markdown};
use super::run::Run;
use super::tables::{machine_caveat, machine_table, method_text};
use crate::clock::utc_text;
use crate::doctor::{Finding, Weight};
use crate::failure::Failure;
use crate::figures;
use crate::html::{Page, Verdict};
use crate::job::dispatch;
use crate::table::Table;

/// The page of a run.
///
/// # Errors
/// A file cannot be read.
pub fn page(run: &Run) -> Result<Page, Failure> {
    let mut chapters = Vec::new();
    let (title, verdict) = if let Some(outcome) = &run.dispatch {
        chapters.extend(dispatch::text::chapters(outcome));
        ("Dispatch policies".to_owned(), Verdict { word: "valid".into(), ..Verdict::default() })
    } else if let Some(outcome) = &run.experiments {
        chapters.extend(outcome.chapters());
        let (text, reasons) = (machine_caveat(&run.record), outcome.faults());
        let word = if reasons.is_empty() { "valid" } else { "suspect" };
        let title = if outcome.job == "null" {
            "Many comparisons of a system with itself"
        } else {
            "Many comparisons with a handicap"
        };
        (title.to_owned(), Verdict { word: word.into(), text, reasons })
    } else if let Some(outcome) = &run.figures {
        chapters.extend(figures::text::chapters(outcome));
        let word = if outcome.invalid.is_empty() { "valid" } else { "invalid" };
        let text = machine_caveat(&run.record);
        (capitalised(&outcome.job), Verdict { word: word.into(), text, reasons: outcome.invalid.clone() })
    } else if let Some(faults) = &run.faults {
        chapters.push(comparison::faults_chapter(run, faults));
        let text = machine_caveat(&run.record);
        let verdict = Verdict { word: faults.verdict.clone(), text, reasons: faults.reasons.clone() };
        ("Deploys and replica kills under load".to_owned(), verdict)
    } else {
        chapters.extend(comparison::page_chapters(run));
        (comparison::title(run), comparison::verdict(run))
    };
    chapters.push(machine_chapter(run));
    let data = comparison::data(run);
    if !data.is_empty() {
        chapters.push(comparison::data_chapter());
    }
    Ok(Page { title, subtitle: subtitle(run), verdict, chapters, data })
}

fn subtitle(run: &Run) -> Vec<String> {
    let record = &run.record;
    let method = method_text(record).filter(|_| !record.systems.is_empty());
    [Some(format!("`{}` · {}", run.name, provenance(run))), method].into_iter().flatten().collect()
}

/// When, with what command, from which source.
fn provenance(run: &Run) -> String {
    let record = &run.record;
    let commit = if record.commit.is_empty() {
        "outside a repository".to_owned()
    } else {
        format!("commit `{}`", record.commit)
    };
    format!(
        "{} · `{}` · {commit} · bench {}",
        utc_text(record.started_unix_s),
        record.argv.join(" "),
        record.bench_version
    )
}

/// A run's section of RESULTS.md with its pictures, which lie in `folder`.
///
/// # Errors
/// A file cannot be read.
pub fn section(run: &Run, folder: &str) -> Result<(String, Vec<Picture>), Failure> {
    let mut out = format!("\n## `{}`\n\n{}\n", run.name, provenance(run));
    let mut chapters = if let Some(outcome) = &run.dispatch {
        dispatch::text::chapters(outcome)
    } else if let Some(outcome) = &run.experiments {
        outcome.chapters()
    } else if let Some(outcome) = &run.figures {
        if !run.record.finished {
            out.push_str("\nThe run was cut short: these are the blocks that were complete.\n");
        }
        let mut chapters = figures::text::chapters(outcome);
        if let Some(last) = chapters.last_mut() {
            last.push(Block::Text(format!("{}.", machine_caveat(&run.record))));
        }
        chapters
    } else if let Some(faults) = &run.faults {
        vec![comparison::faults_chapter(run, faults)]
    } else {
        comparison::section_chapters(run)
    };
    chapters.push(Chapter::of("Machine", [Block::Table(machine_table(&run.record))]));
    let mut pictures = Vec::new();
    for chapter in &chapters {
        let blocks = markdown(&chapter.blocks, folder, &mut pictures);
        let _ = write!(out, "\n### {}\n\n{}", chapter.title, blocks.trim_end());
        out.push('\n');
    }
    Ok((out, pictures))
}

/// The machine's card, and what the doctor said about it before the run.
fn machine_chapter(run: &Run) -> Chapter {
    let record = &run.record;
    let caveat = format!("{}.", machine_caveat(record));
    let mut chapter = Chapter::of("Machine", [Block::Text(caveat), Block::Table(machine_table(record))]);
    let Some(checkup) = &record.doctor else {
        chapter.push(Block::Text("The run does not say what the doctor found: it is older than that.".to_owned()));
        return chapter;
    };
    let mut table = Table::new(&["subject", "", "found", "cure", "points"]).with_words(&[1, 2, 3]);
    for Finding { weight, subject, found, cure, points } in &checkup.findings {
        let points = if *points == 0 { String::new() } else { format!("−{points}") };
        table.push(vec![subject.clone(), weight_text(*weight).to_owned(), found.clone(), cure.clone(), points]);
    }
    chapter.push(Block::Heading(format!("The doctor's score: {} of 100", checkup.score)));
    chapter.push(Block::Table(table));
    chapter
}

fn weight_text(weight: Weight) -> &'static str {
    match weight {
        Weight::Fine => "fine",
        Weight::Mind => "keep in mind",
        Weight::Wrong => "wrong",
    }
}

/// For headings.
pub fn capitalised(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map_or_else(String::new, |first| format!("{}{}", first.to_uppercase(), letters.as_str()))
}
