//! The report: made from the files of run directories and from nothing else, so that the same files give the same
//! bytes.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use crate::case::{Case, Load};
use crate::clock::utc_text;
use crate::compare::read_trials;
use crate::evaluate::{Bound, Comparison, Measured, RatioRow, evaluate};
use crate::failure::Failure;
use crate::faults::Faults;
use crate::figures;
use crate::job::dispatch;
use crate::quick::Appliance;
use crate::record::{RunRecord, read_json};
use crate::statistics::Verdict;
use crate::table::{Table, count_text, duration_text, quantile_text, rate_text};

use sections::Sections;

/// Fewer blocks than this give intervals that lean on the assumption of normal logarithms.
const BLOCKS_RECOMMENDED: u32 = 10;
/// With fewer cores the parties of a comparison share some.
const CORES_RECOMMENDED: usize = 4;

/// Everything that the report knows of a run.
struct Run {
    name: String,
    record: RunRecord,
    comparison: Comparison,
    appliance: Option<Appliance>,
    /// Of a dispatch comparison, which has no trials of its own kind.
    dispatch: Option<dispatch::Outcome>,
    /// Of a job of figures, which has none either.
    figures: Option<figures::Outcome>,
    faults: Option<Faults>,
}

impl Run {
    /// Reads a run directory and computes its ratios again from the trials.
    fn read(folder: &Path) -> Result<Self, Failure> {
        let record = RunRecord::read(folder)?;
        let trials = read_trials(folder)?;
        let figures = figures::Outcome::read(folder, &record)?;
        if !record.finished && trials.is_empty() && figures.is_none() {
            return Err(Failure::Usage(format!(
                "{}: the run was cut short before its first trial; there is nothing to report",
                folder.display()
            )));
        }
        let comparison = evaluate(folder, &record, &trials)?;
        let quick = folder.join("quick.json");
        let appliance = if quick.is_file() { Some(read_json(&quick)?) } else { None };
        let faults = folder.join("faults.json");
        let faults = if faults.is_file() { Some(read_json(&faults)?) } else { None };
        let name = folder.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let dispatch = dispatch::Outcome::read(folder, &record)?;
        Ok(Self { name, record, comparison, appliance, dispatch, figures, faults })
    }
}

/// Writes the report of some run directories. With `keep`, sections of other runs that `out` has already stay as they
/// are: each says when, on what and from which commit it was measured.
///
/// # Errors
/// A run was cut short before its first trial, or a file cannot be read or written.
pub fn write(folders: &[PathBuf], out: &Path, keep: bool) -> Result<(), Failure> {
    let runs: Vec<Run> = folders.iter().map(|folder| Run::read(folder)).collect::<Result<_, _>>()?;
    let mut sections = Sections::default();
    if keep && out.is_file() {
        let text = fs::read_to_string(out).map_err(|error| Failure::file(out, &error))?;
        sections = Sections::parse(&text);
    }
    for run in &runs {
        let mut section = String::new();
        run_markdown(&mut section, run);
        sections.put(&run.name, section);
    }
    fs::write(out, sections.markdown()).map_err(|error| Failure::file(out, &error))?;
    println!("{}", out.display());
    Ok(())
}

/// An invalid run has no headline, and the command that made it does not end well.
///
/// # Errors
/// [`Failure::Invalid`], naming the systems.
pub fn refuse_invalid(comparison: &Comparison) -> Result<(), Failure> {
    let invalid: Vec<String> = comparison
        .systems
        .iter()
        .filter(|system| system.verdict == "invalid")
        .map(|system| format!("{} ({})", system.name, system.reasons.join("; ")))
        .collect();
    if invalid.is_empty() { Ok(()) } else { Err(Failure::Invalid(format!("invalid: {}", invalid.join(", ")))) }
}

/// What a run prints at its end.
pub fn terminal(record: &RunRecord, comparison: &Comparison, appliance: Option<&Appliance>) -> String {
    let mut out = String::new();
    for case in cases(record) {
        let _ = writeln!(out, "{} job, {}\n", job(record), case.title());
        let _ = writeln!(out, "{}", system_table(record, comparison, case).text());
    }
    if let Some(table) = target_table(comparison) {
        let _ = writeln!(out, "targets\n\n{}", table.text());
    }
    for note in notes(record, comparison) {
        let _ = writeln!(out, "· {note}");
    }
    if let Some(appliance) = appliance {
        let _ = writeln!(out, "\nappliance under browser load\n\n{}", appliance_table(appliance).text().trim_end());
        for reason in &appliance.browse.reasons {
            let _ = writeln!(out, "· browser load {}: {reason}", appliance.browse.verdict);
        }
    }
    out
}

fn cases(record: &RunRecord) -> &[Case] {
    record.plan.as_ref().map_or(&[], |plan| plan.cases.as_slice())
}

fn job(record: &RunRecord) -> &str {
    record.plan.as_ref().map_or("no", |plan| plan.job.as_str())
}

/// One line a system, with the first system's ratios to each.
fn system_table(record: &RunRecord, comparison: &Comparison, case: &Case) -> Table {
    let ratios: Vec<&RatioRow> = comparison.ratios.iter().filter(|row| row.case == *case).collect();
    let first = ratios.first().map_or("twintier", |ratio| ratio.a.as_str());
    let rate_header = format!("{first}'s rate ÷ this");
    let cpu_header = format!("{first}'s CPU ÷ this");
    let mut header = vec!["system", "requests/s", "p50", "p99", "p99.9", "CPU µs/request", &cpu_header, &rate_header];
    if case.load == Load::Idle {
        header.push("B/idle connection");
    }
    let mut table = Table::new(&header);
    for system in comparison.systems.iter().filter(|system| system.case == *case) {
        let ratio = |metric: &str| {
            let row = ratios.iter().find(|row| row.a == first && row.b == system.name && row.metric == metric);
            let itself = if system.name == first { "1" } else { "" };
            row.map_or_else(|| itself.to_owned(), |row| ratio_text(row))
        };
        let mark = if system.verdict == "valid" { "" } else { "*" };
        table.push(match system.verdict.as_str() {
            "invalid" => vec![system.name.clone(), "invalid*".to_owned()],
            _ => vec![
                system.name.clone(),
                format!("{}{mark}", rate_text(system.throughput_per_s)),
                quantile_text(system.p50_ns),
                quantile_text(system.p99_ns),
                quantile_text(system.p999_ns),
                format!("{:.2}", system.cpu_us_per_request),
                ratio("cpu_us_per_request"),
                ratio("throughput_per_s"),
                system.user_bytes_per_connection.map_or_else(String::new, |bytes| format!("{bytes:.0}")),
            ],
        });
    }
    for absent in &record.absent {
        table.push(vec![absent.name.clone(), "absent".to_owned()]);
    }
    table
}

/// What the project promises, beside what was found, whichever way it went.
fn target_table(comparison: &Comparison) -> Option<Table> {
    let mut table = Table::new(&["figure", "measured in", "found", "95 % interval", "blocks", "target", "verdict"]);
    let mut any = false;
    let interval = |low: Option<f64>, high: Option<f64>, digits: usize| {
        low.zip(high).map_or_else(|| "n/a".to_owned(), |(low, high)| format!("{low:.digits$} to {high:.digits$}"))
    };
    let value =
        |value: Option<f64>, digits: usize| value.map_or_else(|| "n/a".to_owned(), |value| format!("{value:.digits$}"));
    for row in &comparison.ratios {
        let (Some(target), Some(holds)) = (row.target, row.holds) else { continue };
        any = true;
        table.push(vec![
            format!("{} ÷ {}, {}", row.a, row.b, metric_text(&row.metric)),
            row.case.title(),
            value(row.ratio, 3),
            interval(row.ci_low, row.ci_high, 3),
            row.blocks.to_string(),
            target.text(),
            holds.name().to_owned(),
        ]);
    }
    for Bound { system, metric, of, value: found, ci_low, ci_high, target, holds } in &comparison.bounds {
        any = true;
        table.push(vec![
            format!("{system}, {}", metric_text(metric)),
            of.clone(),
            value(*found, 0),
            interval(*ci_low, *ci_high, 0),
            String::new(),
            target.text(),
            holds.name().to_owned(),
        ]);
    }
    any.then_some(table)
}

/// A metric in words.
fn metric_text(metric: &str) -> &str {
    match metric {
        "cpu_us_per_request" => "CPU per request",
        "throughput_per_s" => "requests per second",
        "p50_ns" => "p50",
        "p99_ns" => "p99",
        "p999_ns" => "p99.9",
        "user_bytes_per_idle_connection" => "user memory of an idle connection, B",
        "rss_growth_bytes_per_million_requests" => "growth of RSS, B per million requests",
        other => other,
    }
}

/// `0.71 [0.68, 0.75]`, with a question mark where the interval is too wide to say anything.
fn ratio_text(row: &RatioRow) -> String {
    match (row.ratio, row.ci_low, row.ci_high) {
        (Some(ratio), Some(low), Some(high)) => {
            let mark = if row.verdict == Verdict::Underpowered { " ?" } else { "" };
            format!("{ratio:.2} [{low:.2}, {high:.2}]{mark}")
        }
        _ => "n/a ?".to_owned(),
    }
}

/// What a reader must know beside the table.
fn notes(record: &RunRecord, comparison: &Comparison) -> Vec<String> {
    let loads: Vec<Load> = cases(record).iter().map(|case| case.load).collect();
    let mut notes = Vec::new();
    if loads.iter().any(|load| *load != Load::Rate) {
        notes.push(
            "closed loop: latency is service time plus generator lag, not comparable with open-loop percentiles"
                .to_owned(),
        );
    }
    if loads.contains(&Load::Rate) {
        notes.push(
            "open loop: one rate for all, a share of the smallest capacity of twintier, nginx and haproxy in the block; slower systems are left out"
                .to_owned(),
        );
    }
    if loads.contains(&Load::Idle) {
        notes.push(
            "idle connections: anonymous memory (Pss) of the system's processes with them, less that without them, ÷ connections; memory of the kernel is not counted"
                .to_owned(),
        );
    }
    notes.push(
        "ratios: geometric mean over paired blocks, 95 % interval from Student's t on log-ratios; `?` is underpowered"
            .to_owned(),
    );
    if !record.finished {
        notes.push("the run was cut short: this is what was complete".to_owned());
    }
    let blocks = record.plan.as_ref().map_or(0, |plan| plan.blocks);
    if blocks < BLOCKS_RECOMMENDED {
        let needed = comparison.ratios.iter().filter_map(|row| row.blocks_to_decide).max();
        let needed = needed.map(|blocks| format!(", and {blocks} would decide what is open here")).unwrap_or_default();
        notes.push(format!("{blocks} blocks are few: for numbers to quote use `bench compare` with {BLOCKS_RECOMMENDED} or more{needed}"));
    }
    for absent in &record.absent {
        notes.push(format!("{} is absent: {}", absent.name, absent.reason));
    }
    notes.extend(comparison.systems.iter().filter_map(|system| {
        let reason = system.reasons.first()?;
        let more = if system.reasons.len() > 1 {
            format!(" (and {} more, in compare.json)", system.reasons.len() - 1)
        } else {
            String::new()
        };
        Some(format!("* {} at {} is {}: {reason}{more}", system.name, system.case.title(), system.verdict))
    }));
    notes.push(machine_caveat(record));
    notes
}

fn machine_caveat(record: &RunRecord) -> String {
    let machine = &record.machine;
    let small = machine.cores.len() < CORES_RECOMMENDED;
    if small || machine.virtualised {
        let what = match (small, machine.virtualised) {
            (true, true) => format!("{} virtual cores", machine.cores.len()),
            (true, false) => format!("{} cores", machine.cores.len()),
            (false, _) => "a virtual machine".to_owned(),
        };
        format!(
            "{what}: this shows that the plumbing works; compare only ratios within one run, never figures of two machines or two runs"
        )
    } else {
        "compare ratios within one run; figures of two machines do not compare".to_owned()
    }
}

fn appliance_table(appliance: &Appliance) -> Table {
    let mut table = Table::new(&["figure", "value"]);
    let mut row = |name: &str, value: String| table.push(vec![name.to_owned(), value]);
    let (import, browse) = (&appliance.import, &appliance.browse);
    row("version, engine, workers", format!("{}, {}, {}", appliance.version, appliance.engine, appliance.workers));
    row(
        "catalog records read / taken / rejected",
        format!("{} / {} / {}", count_text(import.read), count_text(import.taken), count_text(import.rejected)),
    );
    row("import", format!("{:.1} s, {} records/s", import.elapsed_ms as f64 / 1e3, count_text(import.records_per_s)));
    row("users, seconds", format!("{}, {:.1}", browse.users, browse.duration_s));
    row("requests completed / failed", format!("{} / {}", count_text(browse.completed), count_text(browse.failed)));
    let quotable = browse.verdict != "invalid";
    if quotable {
        row("requests/s", rate_text(browse.requests_per_s));
        let latency = &browse.response_ns;
        row("request p50 / p99 / p99.9", [latency.p50, latency.p99, latency.p999].map(quantile_text).join(" / "));
    }
    if let Some(browsers) = &browse.browsers {
        row(
            "sessions started / completed / failed",
            [browsers.sessions_started, browsers.sessions_completed, browsers.sessions_failed]
                .map(count_text)
                .join(" / "),
        );
        let failed = browsers.failed_steps.iter().map(|(step, count)| format!("{step} {}", count_text(*count)));
        let failed = failed.collect::<Vec<_>>().join(", ");
        if !failed.is_empty() {
            row("failed steps", failed);
        }
        row("pages", count_text(browsers.pages));
        if quotable {
            let load = &browsers.page_load_ns;
            row("page load p50 / p99", [load.p50, load.p99].map(quantile_text).join(" / "));
        }
    }
    let cpu = |value: Option<f64>| value.map_or_else(|| "n/a".to_owned(), |us| format!("{us:.1} µs"));
    row("CPU/request of the workers", cpu(browse.worker_cpu_us_per_request));
    row("CPU/request of the process (storage, database, password hashes)", cpu(browse.process_cpu_us_per_request));
    if let Some(claim) = appliance.claim {
        row("elements of the claim that hold", format!("{} of {}", claim.holding, claim.elements));
    }
    table
}

/// A run's section.
fn run_markdown(out: &mut String, run: &Run) {
    let record = &run.record;
    let _ = writeln!(out, "\n## `{}`\n", run.name);
    let commit = if record.commit.is_empty() {
        "outside a repository".to_owned()
    } else {
        format!("commit `{}`", record.commit)
    };
    let _ = writeln!(
        out,
        "{} · `{}` · {commit} · bench {}\n",
        utc_text(record.started_unix_s),
        record.argv.join(" "),
        record.bench_version
    );
    if let Some(outcome) = &run.dispatch {
        out.push_str(&dispatch::text::markdown(outcome));
        return machine_section(out, record);
    }
    if let Some(outcome) = &run.figures {
        if !record.finished {
            out.push_str("The run was cut short: these are the blocks that were complete.\n\n");
        }
        out.push_str(&figures::text::markdown(outcome));
        let _ = writeln!(out, "\n{}.", machine_caveat(record));
        return machine_section(out, record);
    }
    if let Some(faults) = &run.faults {
        let _ = writeln!(out, "### Deploys and replica kills under load\n\n{}", faults.table().markdown());
        let _ = writeln!(out, "Generator: {}{}", faults.verdict, joined(&faults.reasons));
        return machine_section(out, record);
    }
    if let Some(table) = target_table(&run.comparison) {
        let _ = writeln!(out, "### Targets\n\n{}", table.markdown());
    }
    for case in cases(record) {
        let _ = writeln!(out, "### {}, {}\n", job_title(job(record)), case.title());
        let _ = writeln!(out, "{}", system_table(record, &run.comparison, case).markdown());
    }
    for note in notes(record, &run.comparison) {
        let _ = writeln!(out, "- {note}");
    }
    if let Some(appliance) = &run.appliance {
        let _ = writeln!(out, "\n### Appliance under browser load\n\n{}", appliance_table(appliance).markdown());
        let _ = writeln!(
            out,
            "Supplier file: `{}`. Generator: {}{}",
            appliance.import.file,
            appliance.browse.verdict,
            joined(&appliance.browse.reasons)
        );
    }
    if !run.comparison.ratios.is_empty() {
        let _ = writeln!(out, "\n### Ratios\n\n{}", ratio_table(&run.comparison).markdown().trim_end());
    }
    provenance(out, record, &run.comparison.systems);
}

/// For headings.
fn job_title(job: &str) -> String {
    let mut letters = job.chars();
    letters.next().map_or_else(String::new, |first| format!("{}{} job", first.to_uppercase(), letters.as_str()))
}

/// `: one; two`, or nothing.
fn joined(reasons: &[String]) -> String {
    if reasons.is_empty() { String::new() } else { format!(": {}", reasons.join("; ")) }
}

fn ratio_table(comparison: &Comparison) -> Table {
    let mut table = Table::new(&["a ÷ b", "metric", "measured in", "ratio", "95 % interval", "blocks", "verdict on a"]);
    for row in &comparison.ratios {
        let interval = row
            .ci_low
            .zip(row.ci_high)
            .map_or_else(|| "n/a".to_owned(), |(low, high)| format!("{low:.3} to {high:.3}"));
        let verdict = match row.blocks_to_decide {
            Some(blocks) => format!("{}, {blocks} blocks would decide", row.verdict.name()),
            None => row.verdict.name().to_owned(),
        };
        table.push(vec![
            format!("{} ÷ {}", row.a, row.b),
            row.metric.clone(),
            row.case.title(),
            row.ratio.map_or_else(|| "n/a".to_owned(), |ratio| format!("{ratio:.3}")),
            interval,
            row.blocks.to_string(),
            verdict,
        ]);
    }
    table
}

/// What ran, on what, and how the work was equal.
fn provenance(out: &mut String, record: &RunRecord, measured: &[Measured]) {
    if let Some(plan) = &record.plan {
        let mut table =
            Table::new(&["system", "version", "requests", "failed", "longest", "answer's fields", "head + body bytes"]);
        for system in &record.systems {
            let own: Vec<&Measured> = measured.iter().filter(|measured| measured.name == system.name).collect();
            table.push(vec![
                format!("{}: {}", system.name, system.description),
                system.version.clone(),
                count_text(own.iter().map(|measured| measured.requests).sum()),
                count_text(own.iter().map(|measured| measured.failed).sum()),
                own.iter().filter_map(|measured| measured.max_ns).max().map_or_else(|| "n/a".to_owned(), duration_text),
                system.answer_fields.join(", "),
                format!("{} + {}", system.answer_head_bytes, system.answer_body_bytes),
            ]);
        }
        let _ = writeln!(out, "\n### What ran\n\n{}", table.markdown());
        let _ = writeln!(
            out,
            "Generator: {}. {} blocks of {} s after {} s of warm-up, seed {}; {}.",
            record.generator,
            plan.blocks,
            plan.duration_s,
            plan.warmup_s,
            plan.seed,
            record.cores.text()
        );
    }
    machine_section(out, record);
}

fn machine_section(out: &mut String, record: &RunRecord) {
    let machine = &record.machine;
    let mut table = Table::new(&["machine", ""]);
    let mut row = |name: &str, value: String| table.push(vec![name.to_owned(), value]);
    let unknown = || "not shown".to_owned();
    row("processor", machine.cpu_model.clone());
    row(
        "cores",
        format!(
            "{} usable{}",
            machine.cores.len(),
            if machine.siblings.is_empty() { "" } else { ", with SMT siblings" }
        ),
    );
    row("virtual machine", if machine.virtualised { "yes" } else { "no" }.to_owned());
    row("memory", format!("{} MiB", machine.memory_kib / 1024));
    row("kernel", machine.kernel.clone());
    row(
        "governor, turbo",
        format!(
            "{}, {}",
            machine.governor.clone().unwrap_or_else(unknown),
            machine.turbo.map_or_else(unknown, |on| if on { "on" } else { "off" }.to_owned())
        ),
    );
    row("clock source", machine.clock_source.clone());
    let active = machine.mitigations.iter().filter(|(_, text)| text.starts_with("Mitigation"));
    row("mitigations active", active.map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(", "));
    let steal = machine.steal_share_in_run.map_or_else(unknown, |share| format!("{:.2} %", share * 100.0));
    row("steal in the run, load before it", format!("{steal}, {:.2}", machine.load_average_1m));
    let _ = writeln!(out, "\n### Machine\n\n{}", table.markdown().trim_end());
}

mod sections;

#[cfg(test)]
pub mod fixture;
#[cfg(test)]
mod tests;
