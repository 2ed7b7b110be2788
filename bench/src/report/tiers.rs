//! Where the time of requests went, by what the systems themselves say, and what the slow ones are made of.

use std::collections::BTreeSet;

use super::document::{Block, Chapter, Figure};
use super::pictures::key;
use crate::evaluate::Tiers;
use crate::plot::Plot;
use crate::plot::bars::{Bar, Bars, Part};
use crate::plot::text::Unit;
use crate::table::duration_text;

/// Bars of single requests below the mean of all that were taken apart.
const SINGLE_MAX: usize = 8;
/// What no part accounts for.
const REST: &str = "rest";

/// The chapter; `None` where no system told.
pub fn chapter(tiers: &[Tiers]) -> Option<Chapter> {
    if tiers.is_empty() {
        return None;
    }
    let text = "From `Server-Timing` of every answer, in trials of their own. A part's p99 is no part of the p99: so the slowest requests \
                are taken apart one by one. Rest is what no part accounts for: network, kernel, the generator's loop.";
    let mut chapter = Chapter::of("Latency by tier", [Block::Text(text.to_owned())]);
    for own in tiers {
        chapter.push(Block::Heading(format!("{}, {}", own.system, own.case.title())));
        chapter.blocks.extend(figure(own).map(|figure| Block::Figure(Box::new(figure))));
        chapter.push(Block::Table(own.table()));
    }
    Some(chapter)
}

fn figure(tiers: &Tiers) -> Option<Figure> {
    let told: BTreeSet<&String> = tiers.exemplars.iter().flat_map(|one| one.parts.keys()).collect();
    let mut names: Vec<&str> = told.into_iter().map(String::as_str).collect();
    names.push(REST);
    let parts = names.iter().zip(0..).map(|(name, style)| {
        // The rest is grey, whatever the parts are.
        let style = if *name == REST { 5 } else { style + usize::from(style >= 5) };
        Part { name: (*name).to_owned(), style, hatched: *name == REST }
    });
    let mean = |name: &&str| tiers.slowest_mean_ns.get(*name).copied().unwrap_or(0.0);
    let lengths: Vec<f64> = names.iter().map(mean).collect();
    let mut bars = vec![Bar {
        label: format!("mean of the {} slowest", tiers.exemplars.len()),
        // Nanoseconds of a request.
        value: duration_text(lengths.iter().sum::<f64>().round() as u64),
        lengths,
    }];
    bars.extend(tiers.exemplars.iter().take(SINGLE_MAX).zip(1..).map(|(one, place)| {
        let all: u64 = one.parts.values().sum();
        let of = |name: &&str| match *name {
            REST => one.service_ns.saturating_sub(all) as f64,
            name => one.parts.get(name).copied().unwrap_or(0) as f64,
        };
        Bar {
            label: format!("slowest, {place}"),
            value: duration_text(one.service_ns),
            lengths: names.iter().map(of).collect(),
        }
    }));
    let plot = Bars {
        title: format!("{}: what the slowest requests are made of", tiers.system),
        description: "One bar for the mean of the slowest requests and one for each of the slowest few, by part."
            .to_owned(),
        label: "service time".to_owned(),
        unit: Unit::Duration,
        parts: parts.collect(),
        bars,
    };
    let key = key(&["tiers", &tiers.system, &tiers.case.key()]);
    let caption =
        "Parts of one request may overlap in time only if the server says so; their sum is at most the service time.";
    (!plot.is_empty()).then(|| Figure { key, plot: Plot::Bars(plot), caption: caption.to_owned(), table: None })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::{chapter, figure};
    use crate::case::{Case, Work};
    use crate::evaluate::{Exemplar, Tiers};
    use crate::latency::Quantiles;
    use crate::plot::Plot;

    #[test]
    fn a_bar_is_as_long_as_its_request() {
        let exemplar = |service_ns: u64| Exemplar {
            service_ns,
            response_ns: service_ns,
            parts: BTreeMap::from([("queue".to_owned(), 300_u64), ("app".to_owned(), 200)]),
        };
        let tiers = Tiers {
            system: "a".into(),
            case: Case::keep_alive(Work::App, 64, 128),
            blocks: 2,
            service_by_tier_ns: BTreeMap::from([("queue".to_owned(), Quantiles::default())]),
            exemplars: vec![exemplar(1000), exemplar(600)],
            slowest_mean_ns: [("app", 200.0), ("queue", 300.0), ("rest", 300.0)]
                .map(|(name, ns)| (name.to_owned(), ns))
                .into_iter()
                .collect(),
        };
        let Plot::Bars(bars) = figure(&tiers).unwrap().plot else { panic!("bars") };
        let sums: Vec<f64> = bars.bars.iter().map(|bar| bar.lengths.iter().sum()).collect();
        assert_eq!((sums, bars.bars[0].value.as_str()), (vec![800.0, 1000.0, 600.0], "800 ns"));
        assert_eq!(chapter(&[tiers]).unwrap().blocks.len(), 4);
        assert_eq!(chapter(&[]), None);
    }
}
