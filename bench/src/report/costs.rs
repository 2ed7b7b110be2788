//! What a request costs, by tier.

use std::collections::BTreeMap;

use super::document::Figure;
use super::pictures::case_key;
use crate::case::Case;
use crate::evaluate::Measured;
use crate::plot::Plot;
use crate::plot::bars::{Bar, Bars, Part};
use crate::plot::text::Unit;
use crate::table::Table;

/// A group below this share of its system's time is shown in the table alone.
const SHARE_MIN: f64 = 0.02;

/// The one group of a system that does all its work in threads of one name.
const WHOLE: &str = "one kind of thread";
/// Groups beyond these are small, and shown as one.
const GROUPS_MAX: usize = 5;
const OTHERS: &str = "others";

/// User and system time of one request, in microseconds.
type Cost = (f64, f64);

/// Processor time for one request of every system in a case, by thread group, user and system apart; without the
/// groups where the run has none.
pub fn cpu_bars(measured: &[Measured], case: &Case) -> Option<Figure> {
    let systems: Vec<&Measured> =
        measured.iter().filter(|system| system.case == *case && system.verdict != "invalid").collect();
    let names = group_names(&systems);
    let by_group = !names.is_empty();
    let parts = if by_group {
        let pair = |(style, name): (usize, &String)| {
            let part = |mode: &str, hatched| Part { name: format!("{name}, {mode}"), style, hatched };
            [part("user", false), part("kernel", true)]
        };
        names.iter().enumerate().flat_map(pair).collect()
    } else {
        vec![Part { name: "all threads".to_owned(), style: 0, hatched: false }]
    };
    let bars = systems.iter().map(|system| {
        let own = grouped(system, &names);
        let of = |name: &String| own.get(name).copied().unwrap_or_default();
        let lengths = if by_group {
            names.iter().map(of).flat_map(|(user, kernel)| [user, kernel]).collect()
        } else {
            vec![system.cpu_us_per_request]
        };
        Bar { label: system.name.clone(), value: format!("{:.2} µs", system.cpu_us_per_request), lengths }
    });
    let plot = Bars {
        title: format!("CPU per request{}, {}", if by_group { " by thread group" } else { "" }, case.title()),
        description: format!("One bar a system, {}. Shorter is cheaper.", case.title()),
        label: "CPU µs per request".to_owned(),
        unit: Unit::Microseconds,
        parts,
        bars: bars.collect(),
    };
    let caption = if by_group {
        "Full colour: in user mode; pale: in the kernel. Groups are names of threads."
    } else {
        "This run did not record thread groups: the bar is the time of all threads of the system."
    };
    (!plot.is_empty()).then(|| Figure {
        key: case_key("cpu", case),
        plot: Plot::Bars(plot),
        caption: caption.to_owned(),
        table: Some(group_table(&systems)),
    })
}

/// The groups that are shown, those with the most time first; empty where no system has any.
fn group_names(systems: &[&Measured]) -> Vec<String> {
    let mut sums: BTreeMap<String, f64> = BTreeMap::new();
    let mut whole = false;
    for system in systems {
        let own = large_groups(system);
        whole |= own.len() == 1;
        for (name, time_us) in own.iter().filter(|_| own.len() > 1) {
            *sums.entry((*name).clone()).or_default() += time_us;
        }
    }
    let mut ranked: Vec<(String, f64)> = sums.into_iter().collect();
    ranked.sort_by(|a, b| b.1.total_cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    let small = |system: &&Measured| {
        let large = large_groups(system).len();
        large > 1 && large < system.cpu_by_group.len()
    };
    let more = ranked.len() > GROUPS_MAX || systems.iter().any(small);
    let largest = ranked.into_iter().take(GROUPS_MAX).map(|(name, _)| name);
    let whole = whole.then(|| WHOLE.to_owned());
    let others = more.then(|| OTHERS.to_owned());
    whole.into_iter().chain(largest).chain(others).collect()
}

/// Groups that do a part of the work that can be seen, with their time.
fn large_groups(system: &Measured) -> Vec<(&String, f64)> {
    let times = system.cpu_by_group.iter().map(|(name, used)| (name, used.user_us + used.system_us));
    let all: f64 = times.clone().map(|(_, time_us)| time_us).sum();
    times.filter(|(_, time_us)| *time_us >= all * SHARE_MIN).collect()
}

/// A system's time under the shown names.
fn grouped(system: &Measured, names: &[String]) -> BTreeMap<String, Cost> {
    let mut sums: BTreeMap<String, Cost> = BTreeMap::new();
    let alone = large_groups(system).len() == 1;
    for (name, used) in &system.cpu_by_group {
        let shown = match (alone, names.contains(name)) {
            (true, _) => WHOLE,
            (false, true) => name,
            (false, false) => OTHERS,
        };
        let sum = sums.entry(shown.to_owned()).or_default();
        sum.0 += used.user_us;
        sum.1 += used.system_us;
    }
    sums
}

/// Every group of every system.
fn group_table(systems: &[&Measured]) -> Table {
    let mut table = Table::new(&["system", "thread group", "user, µs", "kernel, µs", "sum, µs"]).with_words(&[1]);
    for system in systems {
        for (name, used) in &system.cpu_by_group {
            let (user, kernel) = (used.user_us, used.system_us);
            let figures = [user, kernel, user + kernel].map(|us| format!("{us:.2}"));
            table.push([system.name.clone(), name.clone()].into_iter().chain(figures).collect());
        }
        let all = format!("{:.2}", system.cpu_us_per_request);
        table.push(vec![system.name.clone(), "all".to_owned(), String::new(), String::new(), all]);
    }
    table
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::cpu_bars;
    use crate::case::{Case, Work};
    use crate::evaluate::Measured;
    use crate::plot::Plot;
    use crate::threads::CpuUse;

    fn measured(name: &str, groups: &[(&str, f64, f64)]) -> Measured {
        let case = Case::keep_alive(Work::App, 64, 128);
        let of = |&(name, user_us, system_us): &(&str, f64, f64)| (name.to_owned(), CpuUse { user_us, system_us });
        let cpu_by_group: BTreeMap<String, CpuUse> = groups.iter().map(of).collect();
        let cpu_us_per_request = cpu_by_group.values().map(|used| used.user_us + used.system_us).sum();
        let verdict = "valid".to_owned();
        Measured { name: name.into(), cpu_by_group, cpu_us_per_request, verdict, ..Measured::none(case) }
    }

    /// A program of one kind of thread has one colour whatever its threads are called; small groups share one.
    #[test]
    fn bars_are_made_of_thread_groups() {
        let many: Vec<(String, f64, f64)> = (1..=8).map(|n| (format!("t{n}"), f64::from(n), 1.0)).collect();
        let many: Vec<(&str, f64, f64)> =
            many.iter().map(|(name, user, system)| (name.as_str(), *user, *system)).collect();
        let systems = [
            measured("nginx", &[("nginx: master", 0.0, 0.01), ("nginx: worker", 3.0, 4.0)]),
            measured("appliance", &many),
        ];
        let figure = cpu_bars(&systems, &systems[0].case).unwrap();
        let Plot::Bars(bars) = &figure.plot else { panic!("bars") };
        let names: Vec<&str> = bars.parts.iter().map(|part| part.name.as_str()).collect();
        assert_eq!((names[0], names[2], names[12]), ("one kind of thread, user", "t8, user", "others, user"));
        for (bar, system) in bars.bars.iter().zip(&systems) {
            assert!((bar.lengths.iter().sum::<f64>() - system.cpu_us_per_request).abs() < 1e-9);
        }
        let older = [measured("nginx", &[])];
        assert_eq!(cpu_bars(&older, &older[0].case), None);
    }
}
