//! What a request costs, by tier.

use std::collections::{BTreeMap, BTreeSet};

use super::document::Figure;
use super::material::{CpuUse, Material};
use super::pictures::case_key;
use crate::case::Case;
use crate::plot::Plot;
use crate::plot::bars::{Bar, Bars, Part};
use crate::plot::text::Unit;
use crate::table::Table;

/// Processor time for one request of every system in a case, by thread group, user and system apart; without the
/// groups where the run has none.
pub fn cpu_bars(material: &Material, case: &Case) -> Option<Figure> {
    let systems: Vec<(&String, Cost)> =
        material.systems.iter().filter_map(|system| Some((system, Cost::of(material, case, system)?))).collect();
    let groups: BTreeSet<&String> = systems.iter().flat_map(|(_, cost)| cost.groups.keys()).collect();
    let groups: Vec<&String> = groups.into_iter().collect();
    let (parts, by_group) = if groups.is_empty() {
        (vec![Part { name: "all threads".to_owned(), style: 0, hatched: false }], false)
    } else {
        let pair = |(style, group): (usize, &&String)| {
            [("user", false), ("system", true)].map(|(mode, hatched)| Part {
                name: format!("{group}, {mode}"),
                style,
                hatched,
            })
        };
        (groups.iter().enumerate().flat_map(pair).collect(), true)
    };
    let header: Vec<String> = std::iter::once("system".to_owned())
        .chain(parts.iter().map(|part| format!("{}, µs", part.name)))
        .chain(["sum, µs".to_owned()])
        .collect();
    let mut table = Table::new(&header.iter().map(String::as_str).collect::<Vec<_>>());
    let mut bars = Vec::new();
    for (system, cost) in &systems {
        let lengths: Vec<f64> = if by_group {
            let of = |group: &&String| cost.groups.get(*group).copied().unwrap_or_default();
            groups.iter().map(of).flat_map(|used| [used.user_us, used.system_us]).collect()
        } else {
            vec![cost.whole_us]
        };
        let cells = lengths.iter().map(|us| format!("{us:.2}"));
        table.push(std::iter::once((*system).clone()).chain(cells).chain([format!("{:.2}", cost.whole_us)]).collect());
        bars.push(Bar { label: (*system).clone(), value: format!("{:.2} µs", cost.whole_us), lengths });
    }
    let plot = Bars {
        title: if by_group { "CPU per request by thread group" } else { "CPU per request" }.to_owned(),
        description: format!("One bar a system, {}. Shorter is cheaper.", case.title()),
        label: "CPU µs per request".to_owned(),
        unit: Unit::Microseconds,
        parts,
        bars,
    };
    let caption = if by_group {
        "Full colour: in user mode; pale: in the kernel. Groups are thread names of the appliance and processes of the others."
    } else {
        "This run did not record thread groups: the bar is the time of all threads of the system."
    };
    (!plot.is_empty()).then(|| Figure {
        key: case_key("cpu", case),
        plot: Plot::Bars(plot),
        caption: caption.to_owned(),
        table: Some(table),
    })
}

/// Of one system, all blocks together.
struct Cost {
    whole_us: f64,
    groups: BTreeMap<String, CpuUse>,
}

impl Cost {
    /// Each trial counts by its requests, as in the table of figures.
    fn of(material: &Material, case: &Case, system: &str) -> Option<Self> {
        let (mut requests, mut whole_us, mut groups) = (0.0, 0.0, BTreeMap::<String, CpuUse>::new());
        for files in material.of(case, system) {
            let own = files.trial.requests as f64;
            requests += own;
            whole_us += files.trial.cpu_ns as f64 / 1e3;
            for (name, used) in &files.detail.cpu_by_group {
                let sum = groups.entry(name.clone()).or_default();
                sum.user_us += used.user_us * own;
                sum.system_us += used.system_us * own;
            }
        }
        if requests <= 0.0 {
            return None;
        }
        for used in groups.values_mut() {
            used.user_us /= requests;
            used.system_us /= requests;
        }
        Some(Self { whole_us: whole_us / requests, groups })
    }
}
