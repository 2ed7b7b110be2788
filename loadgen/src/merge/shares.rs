//! Whether runs belong together: generators that shared a plan must have had the same one, and each part once.

use crate::summary::{Shares, Summary};

/// Starts further apart than this are not the same moment on two clocks that agree.
const APART_MS_MAX: u64 = 1000;

/// What the shares of some runs make together.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Together {
    /// `None` if no plan was shared.
    pub shares: Option<Shares>,
    /// What keeps the sum from being the whole plan.
    pub doubts: Vec<String>,
}

/// Looks at the runs that ended, each with its name.
///
/// # Errors
/// The runs are no parts of one plan, or one part is there twice.
pub fn together(runs: &[(String, &Summary)]) -> Result<Together, String> {
    let Some((first_name, first, count)) =
        runs.iter().find_map(|(name, summary)| Some((name, summary, summary.share.as_ref()?.count)))
    else {
        return Ok(Together::default());
    };
    let mut owners: Vec<(u64, &str)> = Vec::new();
    for (name, summary) in runs {
        let Some(shares) = &summary.share else {
            return Err(format!("{name} is a whole plan and {first_name} a share of one: they do not add up"));
        };
        let differences = [
            ("a number of shares", shares.count.to_string(), count.to_string()),
            ("a seed", summary.seed.to_string(), first.seed.to_string()),
            ("arrivals", format!("{:?}", summary.arrivals), format!("{:?}", first.arrivals)),
            ("a warm-up", format!("{} s", summary.warmup_s), format!("{} s", first.warmup_s)),
        ];
        if let Some((what, its, other)) = differences.iter().find(|(_, its, other)| its != other) {
            return Err(format!(
                "{name} and {first_name} are no parts of one plan: {what} of {its} here and of {other} there (the seed, \
                 the arrivals and the warm-up must be the same for all)"
            ));
        }
        for &number in &shares.numbers {
            if let Some((_, owner)) = owners.iter().find(|(known, _)| *known == number) {
                return Err(format!(
                    "share {number} of {count} is in {owner} and in {name}: its requests would count twice; leave one out"
                ));
            }
            owners.push((number, name));
        }
    }
    let mut doubts: Vec<String> = (1..=count)
        .filter(|number| !owners.iter().any(|(known, _)| known == number))
        .map(|number| format!("share {number} of {count} is missing: what was offered is not the whole plan"))
        .collect();
    let starts = || runs.iter().map(|(_, summary)| summary.started_unix_ms);
    let apart_ms = starts().max().unwrap_or(0) - starts().min().unwrap_or(0);
    if apart_ms > APART_MS_MAX {
        doubts.push(format!(
            "the shares began {:.1} s apart: the plan was not offered as one; --start-at lets them begin together",
            apart_ms as f64 / 1e3
        ));
    }
    let mut numbers: Vec<u64> = owners.iter().map(|(number, _)| *number).collect();
    numbers.sort_unstable();
    Ok(Together { shares: Some(Shares { count, numbers }), doubts })
}
