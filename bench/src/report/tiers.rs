//! Where the time of requests went, by what the systems themselves say, and what the slow ones are made of.

use std::collections::BTreeMap;

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
    let text = "From `Server-Timing`, in trials of their own. The quantiles of the parts do not add up; the means on the right do: they are \
                of the requests from each block's p99 on. What no part accounts for is network, kernel, waiting in the generator and \
                the rest of the system.";
    let mut chapter = Chapter::of("Latency by tier", [Block::Text(text.to_owned())]);
    for own in tiers {
        chapter.push(Block::Heading(format!("{}, {}", own.system, own.case.title())));
        chapter.blocks.extend(figure(own).map(|figure| Block::Figure(Box::new(figure))));
        chapter.push(Block::Table(own.table()));
    }
    Some(chapter)
}

fn figure(tiers: &Tiers) -> Option<Figure> {
    let mut names: Vec<&str> = tiers.service_by_tier_ns.keys().map(String::as_str).collect();
    names.push(REST);
    let parts = names.iter().zip(0..).map(|(name, style)| {
        // The rest is grey, whatever the parts are.
        let style = if *name == REST { 5 } else { style + usize::from(style >= 5) };
        Part { name: (*name).to_owned(), style, hatched: *name == REST }
    });
    let bar = |label: String, response_ns: u64, own: &BTreeMap<String, u64>| {
        let of = |name: &&str| own.get(*name).copied().unwrap_or(0);
        let told: u64 = names.iter().filter(|name| **name != REST).map(of).sum();
        let length = |name: &&str| match *name {
            REST => response_ns.saturating_sub(told) as f64,
            _ => of(name) as f64,
        };
        Bar { label, value: duration_text(response_ns), lengths: names.iter().map(length).collect() }
    };
    let slow = &tiers.slow;
    let mut bars = vec![bar(format!("mean of the {} slowest", slow.requests), slow.response_ns, &slow.parts_ns)];
    let single = tiers.exemplars.iter().take(SINGLE_MAX).zip(1..);
    bars.extend(single.map(|(one, place)| bar(format!("slowest, {place}"), one.response_ns, &one.by_tier_ns)));
    let plot = Bars {
        title: format!("{}: what the slowest requests are made of", tiers.system),
        description: "One bar for the mean of the slowest requests and one for each of the slowest few, by part."
            .to_owned(),
        label: "response time".to_owned(),
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
    use crate::evaluate::{Exemplar, SlowRequests, Tiers};
    use crate::latency::Quantiles;
    use crate::plot::Plot;

    #[test]
    fn a_bar_is_as_long_as_its_request() {
        let parts = || BTreeMap::from([("queue".to_owned(), 300_u64), ("app".to_owned(), 200)]);
        let exemplar = |response_ns: u64| Exemplar { response_ns, by_tier_ns: parts(), ..Exemplar::default() };
        let quantiles = ["app", "queue"].map(|name| (name.to_owned(), Quantiles::default()));
        let tiers = Tiers {
            system: "a".into(),
            case: Case::keep_alive(Work::App, 64, 128),
            blocks: 2,
            service_by_tier_ns: quantiles.into_iter().collect(),
            slow: SlowRequests { from_ns: 600, requests: 2, response_ns: 800, parts_ns: parts() },
            exemplars: vec![exemplar(1000), exemplar(600)],
        };
        let Plot::Bars(bars) = figure(&tiers).unwrap().plot else { panic!("bars") };
        let sums: Vec<f64> = bars.bars.iter().map(|bar| bar.lengths.iter().sum()).collect();
        assert_eq!((sums, bars.bars[0].value.as_str()), (vec![800.0, 1000.0, 600.0], "800 ns"));
        assert_eq!(chapter(&[tiers]).unwrap().blocks.len(), 4);
        assert_eq!(chapter(&[]), None);
    }
}
