//! Templates that lead back to themselves by `extends`, `include` and `import`: such a page would never end.

use std::collections::{BTreeMap, BTreeSet};

use crate::error::Fault;

use super::scan::Scan;
use super::source::Source;

/// One fault for each circle, in its first template by name.
pub(super) fn find(sources: &BTreeMap<String, Source>, scans: &BTreeMap<&str, Scan>, faults: &mut Vec<Fault>) {
    for (name, source) in sources {
        let Some(scan) = scans.get(name.as_str()) else { continue };
        let circle = scan.templates.iter().find_map(|(to, at)| Some((way(scans, to, name)?, at)));
        let Some((way, at)) = circle else { continue };
        if way.iter().any(|step| *step < name.as_str()) {
            continue;
        }
        let by = match &way[..way.len() - 1] {
            [] => String::new(),
            between => {
                let between: Vec<String> = between.iter().map(|step| format!("`{step}`")).collect();
                format!(" by way of {}", between.join(", "))
            }
        };
        let cure = "name a template here that does not lead back";
        faults.push(source.fault(at, format!("`{name}` leads back to itself{by}"), cure));
    }
}

/// The templates from one to another, both included, if it leads there; the shortest way.
fn way<'s>(scans: &'s BTreeMap<&str, Scan>, from: &'s str, to: &str) -> Option<Vec<&'s str>> {
    let mut known = BTreeSet::from([from]);
    let mut ways = vec![vec![from]];
    while !ways.is_empty() {
        let mut longer = Vec::new();
        for way in ways {
            let last = *way.last()?;
            if last == to {
                return Some(way);
            }
            for (next, _) in scans.get(last).iter().flat_map(|scan| &scan.templates) {
                if known.insert(next) {
                    longer.push(way.iter().copied().chain([next.as_str()]).collect());
                }
            }
        }
        ways = longer;
    }
    None
}
