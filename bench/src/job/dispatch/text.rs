//! Tables of a dispatch comparison, for the terminal and for the report.

use std::fmt::Write as _;

use super::Outcome;
use super::live::{Live, LiveRatio};
use super::study::{IDEAL, SimulatedRatio};
use super::trace::Service;
use crate::report::document::{Block, Chapter};
use crate::statistics::Verdict;
use crate::table::{Table, count_text, duration_text, quantile_text};

/// The condition that the terminal shows: the most servers and the highest load.
pub fn terminal(outcome: &Outcome) -> String {
    let mut out = String::new();
    for service in Service::ALL {
        let Some((servers, load)) = hardest(outcome, service) else { continue };
        let _ = writeln!(out, "simulated, {} service, {servers} servers at {load} %\n", service.name());
        out.push_str(&condition_table(outcome, service, servers, load).text());
        out.push('\n');
    }
    let _ = writeln!(out, "largest load with p99 ≤ 10 mean service times, as a share of the ideal queue's\n");
    out.push_str(&capacity_table(outcome).text());
    let _ = writeln!(out, "\nn of JBSQ(n) by hand-off time: p99 ÷ ideal\n");
    out.push_str(&credit_table(outcome).text());
    if let Some(live) = &outcome.live {
        let _ = writeln!(out, "\nlive, {} workers, {} + {} requests/s\n", live.workers, live.rate, live.slow_rate);
        out.push_str(&live_table(live).text());
    }
    for note in notes(outcome) {
        let _ = writeln!(out, "· {note}");
    }
    out
}

/// The chapters of the report.
pub fn chapters(outcome: &Outcome) -> Vec<Chapter> {
    let table = |title: String, table: Table| Chapter::of(title, [Block::Table(table)]);
    let mut chapters = Vec::new();
    for service in Service::ALL {
        for (servers, load) in conditions(outcome, service) {
            let title = format!("Dispatch, simulated: {} service, {servers} servers, load {load} %", service.name());
            chapters.push(table(title, condition_table(outcome, service, servers, load)));
        }
    }
    chapters.push(table(
        "Largest load with p99 ≤ 10 mean service times, as a share of the ideal queue's".to_owned(),
        capacity_table(outcome),
    ));
    chapters.push(table(
        "n of JBSQ(n) by hand-off time: p99 ÷ ideal, bimodal service, 4 servers at 80 %".to_owned(),
        credit_table(outcome),
    ));
    chapters.push(table("Length of the queue at 120 % load, patience 10 ms".to_owned(), queue_table(outcome)));
    if let Some(live) = &outcome.live {
        let title = format!(
            "Dispatch, live: {} workers, {}/s of `{}` with {}/s of `{}`",
            live.workers, live.rate, live.cheap_path, live.slow_rate, live.slow_path
        );
        chapters.push(table(title, live_table(live)));
    }
    if let Some(last) = chapters.last_mut() {
        last.push(Block::Notes(notes(outcome)));
    }
    chapters
}

fn conditions(outcome: &Outcome, service: Service) -> Vec<(usize, u32)> {
    let mut found: Vec<(usize, u32)> = Vec::new();
    for system in outcome.study.systems.iter().filter(|system| system.service == service) {
        let condition = (system.servers, system.load_percent);
        if !found.contains(&condition) {
            found.push(condition);
        }
    }
    found
}

fn hardest(outcome: &Outcome, service: Service) -> Option<(usize, u32)> {
    conditions(outcome, service).into_iter().max()
}

fn condition_table(outcome: &Outcome, service: Service, servers: usize, load: u32) -> Table {
    let mut table = Table::new(&[
        "policy",
        "mean",
        "p50",
        "p99",
        "p99.9",
        "mean ÷ ideal",
        "p99 ÷ ideal",
        "p99.9 ÷ ideal",
        "most at one",
    ]);
    let of_condition = |ratio: &&SimulatedRatio| {
        ratio.service == service && ratio.servers == servers && ratio.load_percent == load && ratio.b == IDEAL
    };
    for system in &outcome.study.systems {
        if (system.service, system.servers, system.load_percent) != (service, servers, load) {
            continue;
        }
        let ratio = |metric: &str| {
            let rows = outcome.study.ratios.iter().filter(of_condition);
            let row = rows.into_iter().find(|row| row.a == system.name && row.metric == metric);
            row.map_or_else(|| "1".to_owned(), |row| ratio_text(row.ratio, row.ci_low, row.ci_high, row.verdict))
        };
        table.push(vec![
            system.name.clone(),
            duration_text(system.mean_ns as u64),
            duration_text(system.p50_ns),
            duration_text(system.p99_ns),
            duration_text(system.p999_ns),
            ratio("mean_ns"),
            ratio("p99_ns"),
            ratio("p999_ns"),
            if system.name == IDEAL { String::new() } else { system.outstanding_seen.to_string() },
        ]);
    }
    table
}

/// `1.21 [1.18, 1.24]`, with a question mark where the interval is too wide to say anything.
fn ratio_text(ratio: Option<f64>, low: Option<f64>, high: Option<f64>, verdict: Verdict) -> String {
    match (ratio, low, high) {
        (Some(ratio), Some(low), Some(high)) => {
            let mark = if verdict == Verdict::Underpowered { " ?" } else { "" };
            format!("{ratio:.2} [{low:.2}, {high:.2}]{mark}")
        }
        _ => "n/a ?".to_owned(),
    }
}

fn capacity_table(outcome: &Outcome) -> Table {
    let capacities = &outcome.study.capacities;
    let mut columns: Vec<(Service, usize)> = Vec::new();
    let mut names: Vec<&str> = Vec::new();
    for capacity in capacities {
        if !columns.contains(&(capacity.service, capacity.servers)) {
            columns.push((capacity.service, capacity.servers));
        }
        if !names.contains(&capacity.name.as_str()) {
            names.push(&capacity.name);
        }
    }
    let mut header = vec!["service, servers"];
    header.extend(&names);
    let mut table = Table::new(&header);
    for (service, servers) in columns {
        let mut row = vec![format!("{}, {servers}", service.name())];
        row.extend(names.iter().map(|name| {
            let own = capacities.iter().find(|c| (c.service, c.servers, c.name.as_str()) == (service, servers, *name));
            match own {
                Some(capacity) if capacity.name == IDEAL => format!("load {:.0} %", capacity.load_percent),
                Some(capacity) => {
                    capacity.share_of_ideal.map_or_else(|| "n/a".to_owned(), |share| format!("{share:.2}"))
                }
                None => String::new(),
            }
        }));
        table.push(row);
    }
    table
}

fn credit_table(outcome: &Outcome) -> Table {
    let rows = &outcome.sizing.credits;
    let credits: Vec<String> =
        rows.first().map(|row| row.by_credit.iter().map(|(n, ..)| format!("n = {n}")).collect()).unwrap_or_default();
    let mut header = vec!["hand-off, one way", "recommended n"];
    header.extend(credits.iter().map(String::as_str));
    let mut table = Table::new(&header);
    for row in rows {
        let mut cells = vec![duration_text(row.handoff_ns), row.recommended.to_string()];
        cells.extend(row.by_credit.iter().map(|(_, _, p99)| format!("{p99:.2}")));
        table.push(cells);
    }
    table
}

fn queue_table(outcome: &Outcome) -> Table {
    let mut table = Table::new(&["may wait at each front", "served", "refused", "expired", "p99 of the served"]);
    for row in &outcome.sizing.queues {
        let percent = |part: f64| format!("{:.1} %", part * 100.0);
        table.push(vec![
            row.queue_max.to_string(),
            percent(row.served),
            percent(row.refused),
            percent(row.expired),
            duration_text(row.p99_ns),
        ]);
    }
    table
}

fn live_table(live: &Live) -> Table {
    let first = live.ratios.first().map_or("jbsq", |ratio| ratio.a.as_str());
    let header = format!("{first}'s p99 ÷ this");
    let mut table = Table::new(&[
        "policy",
        "requests",
        "failed",
        "p50",
        "p99",
        "slow p50",
        "CPU µs/request",
        "to another core",
        "waited",
        &header,
    ]);
    let mut names: Vec<&str> = live.trials.iter().map(|trial| trial.policy.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    for name in names {
        let own: Vec<_> = live.trials.iter().filter(|trial| trial.policy == name).collect();
        // Of the blocks, since a table has one line a policy: the median of their quantiles.
        let median = |of: &dyn Fn(&super::live::LiveTrial) -> Option<u64>| {
            let mut values: Vec<u64> = own.iter().filter_map(|trial| of(trial)).collect();
            values.sort_unstable();
            quantile_text(values.get(values.len() / 2).copied())
        };
        let sum = |of: &dyn Fn(&super::live::LiveTrial) -> u64| own.iter().map(|trial| of(trial)).sum::<u64>();
        let remote = sum(&|trial| trial.dispatched_remote);
        let all = remote + sum(&|trial| trial.dispatched_local);
        let ratio = live.ratios.iter().find(|ratio: &&LiveRatio| ratio.b == name && ratio.metric == "p99_ns");
        let valid = own.iter().filter(|trial| trial.verdict == "valid").count();
        table.push(vec![
            format!("{name}{}", if valid == own.len() { "" } else { "*" }),
            count_text(sum(&|trial| trial.requests)),
            count_text(sum(&|trial| trial.failed + trial.slow_failed)),
            median(&|trial| trial.response_ns.p50),
            median(&|trial| trial.response_ns.p99),
            median(&|trial| trial.slow_response_ns.p50),
            format!("{:.1}", own.iter().map(|trial| trial.cpu_us_per_request).sum::<f64>() / own.len().max(1) as f64),
            format!("{:.1} %", 100.0 * remote as f64 / all.max(1) as f64),
            count_text(sum(&|trial| trial.dispatched_after_wait)),
            ratio.map_or_else(|| "1".to_owned(), |row| ratio_text(row.ratio, row.ci_low, row.ci_high, row.verdict)),
        ]);
    }
    table
}

fn notes(outcome: &Outcome) -> Vec<String> {
    let mut notes = vec![
        format!(
            "simulation: the library's dispatchers in virtual time, {} blocks, the same arrivals and service times for every \
             policy, mean service {}, hand-off {} one way, JBSQ({}), seed {}",
            outcome.blocks,
            duration_text(outcome.mean_service_ns),
            duration_text(outcome.handoff_ns),
            outcome.credit,
            outcome.seed
        ),
        "ideal: one line before all replicas, first come first served, no hand-off".to_owned(),
        "ratios: geometric mean over paired blocks, 95 % interval from Student's t; `?` is underpowered".to_owned(),
    ];
    let worst = outcome.study.erlang_check.iter().map(|(.., check)| check).max_by(|a, b| {
        let distance = |check: &f64| (check - 1.0).abs();
        distance(a).total_cmp(&distance(b))
    });
    if let Some(worst) = worst {
        notes.push(format!(
            "check: the simulated M/M/k queue's mean ÷ Erlang's formula is {worst:.3} where it is worst"
        ));
    }
    if let Some(live) = &outcome.live {
        let poor = live.trials.iter().filter(|trial| trial.verdict != "valid").collect::<Vec<_>>();
        if let Some(trial) = poor.first() {
            notes.push(format!(
                "* {} of {} live trials are not valid; {}: {}",
                poor.len(),
                live.trials.len(),
                trial.policy,
                trial.reasons.join("; ")
            ));
        }
    }
    notes
}

#[cfg(test)]
mod tests {
    use super::{Outcome, chapters, terminal};
    use crate::job::dispatch::live::Live;
    use crate::job::dispatch::sizing::{CreditRow, QueueRow, Sizing};
    use crate::job::dispatch::study::{Capacity, IDEAL, Simulated, SimulatedRatio, Study};
    use crate::job::dispatch::trace::Service;
    use crate::report::document::markdown;
    use crate::statistics::Verdict;

    fn simulated(name: &str, p99_ns: u64) -> Simulated {
        Simulated {
            name: name.into(),
            service: Service::Bimodal,
            servers: 4,
            load_percent: 80,
            requests: 1000,
            mean_ns: 30_000.0,
            p50_ns: 20_000,
            p99_ns,
            p999_ns: 300_000,
            outstanding_seen: 2,
            depth_seen: 5,
        }
    }

    fn outcome() -> Outcome {
        let ratio = SimulatedRatio {
            a: "jbsq".into(),
            b: IDEAL.into(),
            metric: "p99_ns".into(),
            service: Service::Bimodal,
            servers: 4,
            load_percent: 80,
            ratio: Some(1.25),
            ci_low: Some(1.2),
            ci_high: Some(1.3),
            blocks: 10,
            verdict: Verdict::Slower,
        };
        let capacity = |name: &str, share| Capacity {
            name: name.into(),
            service: Service::Bimodal,
            servers: 4,
            load_percent: 90.0,
            share_of_ideal: Some(share),
            ci_low: None,
            ci_high: None,
        };
        Outcome {
            study: Study {
                systems: vec![simulated(IDEAL, 100_000), simulated("jbsq", 125_000)],
                ratios: vec![ratio],
                capacities: vec![capacity(IDEAL, 1.0), capacity("jbsq", 0.95)],
                erlang_check: vec![(4, 80, 1.004), (4, 90, 0.97)],
            },
            sizing: Sizing {
                credits: vec![CreditRow {
                    handoff_ns: 1000,
                    recommended: 2,
                    by_credit: vec![(1, 1.3, 1.4), (2, 1.1, 1.2)],
                }],
                queues: vec![QueueRow { queue_max: 16, served: 0.8, refused: 0.2, expired: 0.0, p99_ns: 900_000 }],
            },
            live: Some(Live::default()),
            ..Outcome::default()
        }
    }

    #[test]
    fn the_tables_hold_what_was_found() {
        let text = terminal(&outcome());
        for expected in
            ["bimodal service, 4 servers at 80 %", "1.25 [1.20, 1.30]", "load 90 %", "0.95", "0.970 where it is worst"]
        {
            assert!(text.contains(expected), "{expected} is not in\n{text}");
        }
        let report: String =
            chapters(&outcome()).iter().map(|chapter| markdown(&chapter.blocks, "", &mut Vec::new())).collect();
        for expected in
            ["| jbsq | 30.0 µs |", "| 1.00 µs | 2 | 1.40 | 1.20 |", "| 16 | 80.0 % | 20.0 % | 0.0 % | 900 µs |"]
        {
            assert!(report.contains(expected), "{expected} is not in\n{report}");
        }
    }

    #[test]
    fn the_file_comes_back_as_it_was() {
        let json = serde_json::to_string(&outcome()).unwrap();
        assert_eq!(serde_json::from_str::<Outcome>(&json).unwrap(), outcome());
        let value: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(value["systems"][1]["name"], "jbsq");
        assert_eq!(value["ratios"][0]["verdict"], "slower");
    }
}
