//! The objective of pages, as in `load<1s,share>95%`: how fast they shall load, and how many of them.

use std::str::FromStr;

use crate::slo::{Finding, duration_ns};
use crate::summary::BrowseSummary;

/// How many times the limit a page may take until its user gives up: the T and 4T of Apdex.
const TOLERANCE: u64 = 4;

/// What is wanted of pages.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PageSlo {
    /// A page loads in less than this.
    pub limit_ns: u64,
    /// The share of pages above which the objective is met; without one the share is only reported.
    pub share_min: Option<f64>,
}

impl FromStr for PageSlo {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is no objective of pages: write load<1s, or load<1s,share>95%");
        let (load, share) = text.split_once(',').map_or((text, None), |(load, share)| (load, Some(share)));
        let load = load.trim().strip_prefix("load").and_then(|rest| rest.trim().strip_prefix('<')).ok_or_else(wrong)?;
        let share_min = share
            .map(|share| {
                let value = share.trim().strip_prefix("share").and_then(|rest| rest.trim().strip_prefix('>'));
                value.and_then(share_of).ok_or_else(wrong)
            })
            .transpose()?;
        Ok(Self { limit_ns: duration_ns(load.trim()).ok_or_else(wrong)?, share_min })
    }
}

/// A percentage below 100 as a share.
pub fn share_of(text: &str) -> Option<f64> {
    let percent: f64 = text.trim().strip_suffix('%')?.trim().parse().ok()?;
    (0.0..100.0).contains(&percent).then_some(percent / 100.0)
}

impl PageSlo {
    pub fn satisfies(&self, load_ns: u64) -> bool {
        load_ns < self.limit_ns
    }

    /// Slower than wanted, and not yet too slow to wait for.
    pub fn tolerates(&self, load_ns: u64) -> bool {
        !self.satisfies(load_ns) && load_ns < self.limit_ns.saturating_mul(TOLERANCE)
    }

    /// Holds the pages of a run against the wanted share, if there is one. No page is no success.
    pub fn check(&self, browse: &BrowseSummary) -> Option<Finding> {
        let share_min = self.share_min?;
        let limit = crate::summary::duration_text(self.limit_ns);
        let found = browse.pages_within_share;
        Some(Finding {
            objective: format!("pages<{limit}>{}%", share_min * 100.0),
            found: found.map_or("no page".to_owned(), |share| format!("{:.2}%", share * 100.0)),
            met: found.is_some_and(|share| share > share_min),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::PageSlo;
    use crate::summary::BrowseSummary;

    #[test]
    fn objectives_have_a_time_and_perhaps_a_share() {
        let slo = |limit_ns, share_min| Ok(PageSlo { limit_ns, share_min });
        assert_eq!("load<1s".parse(), slo(1_000_000_000, None));
        assert_eq!(" load < 800ms , share > 99.5% ".parse(), slo(800_000_000, Some(0.995)));
        for text in ["", "1s", "load<1", "load>1s", "load<1s,95%", "load<1s,share>100%", "load<1s,share>0.9", "load<0s"]
        {
            assert!(text.parse::<PageSlo>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_share_is_met_or_missed_and_no_page_is_no_success() {
        let slo: PageSlo = "load<1s,share>95%".parse().unwrap();
        let met =
            |share| slo.check(&BrowseSummary { pages_within_share: share, ..BrowseSummary::default() }).unwrap().met;
        assert!(met(Some(0.96)) && !met(Some(0.95)) && !met(None));
    }
}
