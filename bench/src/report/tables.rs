//! The tables of a run and the notes beside them, for the terminal, the page and RESULTS.md.

use std::fmt::Write as _;

use crate::case::{Case, Load};
use crate::evaluate::{Bound, Comparison, Floor, Measured, RatioRow, metric_words};
use crate::quick::Appliance;
use crate::record::RunRecord;
use crate::statistics::Verdict;
use crate::table::{Table, count_text, duration_text, quantile_text, rate_text};

/// Fewer blocks than this give intervals that lean on the assumption of normal logarithms.
const BLOCKS_RECOMMENDED: u32 = 10;
/// Larger ends of ratios' intervals are not written out.
const RATIO_SHOWN_MAX: f64 = 100.0;
/// With fewer cores the parties of a comparison share some.
const CORES_RECOMMENDED: usize = 4;

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

pub fn cases(record: &RunRecord) -> &[Case] {
    record.plan.as_ref().map_or(&[], |plan| plan.cases.as_slice())
}

pub fn job(record: &RunRecord) -> &str {
    record.plan.as_ref().map_or("no", |plan| plan.job.as_str())
}

/// One line a system, with the first system's ratios to each.
pub fn system_table(record: &RunRecord, comparison: &Comparison, case: &Case) -> Table {
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
pub fn target_table(comparison: &Comparison) -> Option<Table> {
    let mut table = Table::new(&["figure", "measured in", "found", "95 % interval", "blocks", "target", "verdict"])
        .with_words(&[1, 6]);
    let mut any = false;
    let interval = |low: Option<f64>, high: Option<f64>, digits: usize| {
        low.zip(high).map_or_else(
            || "n/a".to_owned(),
            |(low, high)| match digits {
                0 => format!("{low:.0} to {high:.0}"),
                _ => format!("{} to {}", bound_text(low, digits), bound_text(high, digits)),
            },
        )
    };
    let value =
        |value: Option<f64>, digits: usize| value.map_or_else(|| "n/a".to_owned(), |value| format!("{value:.digits$}"));
    for row in &comparison.ratios {
        let (Some(target), Some(holds)) = (row.target, row.holds) else { continue };
        any = true;
        table.push(vec![
            format!("{} ÷ {}, {}", row.a, row.b, metric_words(&row.metric)),
            row.case.label(),
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
            format!("{system}, {}", metric_words(metric)),
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

/// `0.71 [0.68, 0.75]`, with a question mark where the interval is too wide to say anything.
pub fn ratio_text(row: &RatioRow) -> String {
    match (row.ratio, row.ci_low, row.ci_high) {
        (Some(ratio), Some(low), Some(high)) => {
            let mark = if row.verdict == Verdict::Underpowered { " ?" } else { "" };
            format!("{ratio:.2} [{}, {}]{mark}", bound_text(low, 2), bound_text(high, 2))
        }
        _ => "n/a ?".to_owned(),
    }
}

/// What a reader must know beside the table.
pub fn notes(record: &RunRecord, comparison: &Comparison) -> Vec<String> {
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

pub fn machine_caveat(record: &RunRecord) -> String {
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

pub fn appliance_table(appliance: &Appliance) -> Table {
    let mut table = Table::new(&["figure", "value"]).with_words(&[1]);
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

/// An end of a ratio's interval; one so far out that digits mean nothing is shown as beyond.
pub fn bound_text(value: f64, digits: usize) -> String {
    if value >= RATIO_SHOWN_MAX { format!("> {RATIO_SHOWN_MAX:.0}") } else { format!("{value:.digits$}") }
}

/// Ratios in digits.
pub fn ratio_table<'a>(rows: impl IntoIterator<Item = &'a RatioRow>) -> Table {
    let mut table = Table::new(&["a ÷ b", "metric", "measured in", "ratio", "95 % interval", "blocks", "verdict on a"])
        .with_words(&[1, 2, 6]);
    for row in rows {
        let interval = row.ci_low.zip(row.ci_high).map_or_else(
            || "n/a".to_owned(),
            |(low, high)| format!("{} to {}", bound_text(low, 3), bound_text(high, 3)),
        );
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

/// The machine's card.
pub fn machine_table(record: &RunRecord) -> Table {
    let machine = &record.machine;
    let mut table = Table::new(&["machine", ""]).with_words(&[1]);
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
    table
}

/// What ran, and how the work was equal.
pub fn systems_table(record: &RunRecord, measured: &[Measured]) -> Table {
    let mut table =
        Table::new(&["system", "version", "requests", "failed", "longest", "answer's fields", "head + body bytes"])
            .with_words(&[1, 5]);
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
    table
}

/// How it was measured, in one line.
pub fn method_text(record: &RunRecord) -> Option<String> {
    let plan = record.plan.as_ref()?;
    Some(format!(
        "Generator: {}. {} blocks of {} s after {} s of warm-up, seed {}; {}.",
        record.generator,
        plan.blocks,
        plan.duration_s,
        plan.warmup_s,
        plan.seed,
        record.cores.text()
    ))
}

/// What the generator measures by itself.
pub fn floor_table(floors: &[Floor]) -> Table {
    let mut table = Table::new(&[
        "measured in",
        "requests/s",
        "p50",
        "p99",
        "CPU µs/request of the null server",
        "of the generator",
        "throughput ÷ fastest system's",
    ]);
    for floor in floors {
        let measured = &floor.measured;
        let ceiling = floor.ceiling_ratio.zip(floor.fastest.as_ref()).map_or_else(
            || "n/a".to_owned(),
            |(ratio, fastest)| {
                let low = if floor.is_high_enough() == Some(false) { ", low" } else { "" };
                format!("{ratio:.2} ({fastest}){low}")
            },
        );
        table.push(vec![
            measured.case.title(),
            rate_text(measured.throughput_per_s),
            quantile_text(measured.p50_ns),
            quantile_text(measured.p99_ns),
            format!("{:.2}", measured.cpu_us_per_request),
            floor.generator_cpu_us_per_request.map_or_else(|| "n/a".to_owned(), |us| format!("{us:.2}")),
            ceiling,
        ]);
    }
    table
}
