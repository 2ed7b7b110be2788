//! What a browser run counts beside its requests: sessions, pages, and what the caches spared.

use std::collections::BTreeMap;

use crate::browser::Ending;
use crate::page_slo::PageSlo;
use crate::scenario::Scenario;
use crate::schedule::Window;
use crate::summary::{BrowseSummary, StepFailure, StepSummary};

/// Reasons that are told apart; failed sessions of further ones are counted as `other reasons`.
const REASONS_MAX: usize = 64;

/// The counts of one run. Sessions count over the whole run, pages by their planned start: those of the warm-up do not.
#[derive(Debug)]
pub struct Figures {
    window: Window,
    slo: Option<PageSlo>,
    pub summary: BrowseSummary,
    /// By step.
    steps: Vec<StepSummary>,
    /// By step and reason.
    failures: BTreeMap<(usize, String), u64>,
}

impl Figures {
    pub fn new(scenario: &Scenario, window: Window, slo: Option<PageSlo>) -> Self {
        Self {
            window,
            slo,
            summary: BrowseSummary { scenario: scenario.name.clone(), ..BrowseSummary::default() },
            steps: scenario.steps.iter().map(|_| StepSummary::default()).collect(),
            failures: BTreeMap::new(),
        }
    }

    /// A session that found every slot taken.
    pub fn shed(&mut self, planned_ns: u64) {
        self.summary.sessions_shed += u64::from(self.window.measures(planned_ns));
    }

    /// A page and its assets are complete; `whole` if none of them failed.
    pub fn loaded(&mut self, step: usize, started_ns: u64, now_ns: u64, whole: bool) {
        if !self.window.measures(started_ns) {
            return;
        }
        self.summary.pages += 1;
        self.steps[step].pages += 1;
        self.summary.pages_incomplete += u64::from(!whole);
        if let Some(slo) = self.slo.filter(|_| whole) {
            let load_ns = now_ns.saturating_sub(started_ns);
            self.summary.pages_within += u64::from(slo.satisfies(load_ns));
            self.summary.pages_tolerated += u64::from(slo.tolerates(load_ns));
        }
    }

    /// A session has ended.
    pub fn ended(&mut self, ending: &Ending) {
        match ending {
            Ending::Completed => self.summary.sessions_completed += 1,
            Ending::Failed { step, started_ns, why } => {
                self.summary.sessions_failed += 1;
                self.steps[*step].failed += 1;
                self.summary.pages_failed += u64::from(self.window.measures(*started_ns));
                let known = self.failures.len() < REASONS_MAX || self.failures.contains_key(&(*step, why.clone()));
                let why = if known { why.as_str() } else { "other reasons" };
                *self.failures.entry((*step, why.to_owned())).or_default() += 1;
            }
        }
    }

    /// The page that a session was at when the run ended.
    pub fn unfinished(&mut self, started_ns: u64) {
        self.summary.pages_unfinished += u64::from(self.window.measures(started_ns));
    }

    /// An asset was fresh in a cache.
    pub fn spared(&mut self, planned_ns: u64) {
        self.summary.cache_fresh += u64::from(self.window.measures(planned_ns));
    }

    /// An asset was asked for and came, or was not changed.
    pub fn asset(&mut self, planned_ns: u64, status: u16) {
        let measured = u64::from(self.window.measures(planned_ns));
        self.summary.asset_responses += measured;
        self.summary.cache_revalidated += if status == 304 { measured } else { 0 };
    }

    pub fn end(self, scenario: &Scenario) -> BrowseSummary {
        let mut summary = self.summary;
        let ended = summary.sessions_completed + summary.sessions_failed;
        summary.sessions_unfinished = summary.sessions_started.saturating_sub(ended);
        for (name, step) in scenario.steps.iter().zip(self.steps) {
            if step.failed > 0 {
                summary.failed_steps.insert(name.clone(), step.failed);
            }
            summary.steps.insert(name.clone(), step);
        }
        let failure = |((step, why), count): ((usize, String), u64)| StepFailure {
            step: scenario.steps[step].clone(),
            why,
            count,
        };
        summary.failures = self.failures.into_iter().map(failure).collect();
        summary.failures.sort_by_key(|failure| std::cmp::Reverse(failure.count));
        summary.page_slo_ns = self.slo.map(|slo| slo.limit_ns);
        summary.set_shares();
        summary
    }
}

#[cfg(test)]
mod tests {
    use super::{Figures, REASONS_MAX};
    use crate::browser::Ending;
    use crate::scenario::Scenario;
    use crate::schedule::Window;

    fn figures(slo: &str) -> (Figures, Scenario) {
        let text = "name = 'x'\nsteps = [{ kind = 'get', path = '/a' }, { kind = 'get', path = '/b' }]\n";
        let scenario = Scenario::parse("s.toml", text).unwrap();
        (Figures::new(&scenario, Window::new(0, 1_000, 1_000_000), Some(slo.parse().unwrap())), scenario)
    }

    #[test]
    fn failed_incomplete_and_unfinished_pages_are_not_within() {
        let (mut figures, scenario) = figures("load<100ns");
        figures.loaded(0, 0, 10, true);
        for (load_ns, whole) in [(99, true), (100, true), (399, true), (400, true), (10, false)] {
            figures.loaded(0, 2_000, 2_000 + load_ns, whole);
        }
        figures.ended(&Ending::Failed { step: 1, started_ns: 2_000, why: "status 500".into() });
        figures.ended(&Ending::Failed { step: 1, started_ns: 0, why: "status 500".into() });
        figures.unfinished(3_000);
        let summary = figures.end(&scenario);
        assert_eq!((summary.pages, summary.pages_failed, summary.pages_unfinished), (5, 1, 1));
        assert_eq!((summary.pages_incomplete, summary.pages_within, summary.pages_tolerated), (1, 1, 2));
        assert_eq!(summary.pages_within_share, Some(1.0 / 7.0));
        assert_eq!(summary.apdex, Some((1.0 + 2.0 / 2.0) / 7.0));
        assert_eq!((summary.steps["/a"].pages, summary.steps["/b"].failed), (5, 2));
        assert_eq!(summary.failures[0].count, 2);
    }

    #[test]
    fn caches_are_counted_in_the_measured_window() {
        let (mut figures, scenario) = figures("load<1s");
        figures.spared(0);
        figures.asset(0, 304);
        for _ in 0..3 {
            figures.spared(1_000);
        }
        for status in [200, 304, 404] {
            figures.asset(1_000, status);
        }
        let summary = figures.end(&scenario);
        assert_eq!((summary.cache_fresh, summary.cache_revalidated, summary.asset_responses), (3, 1, 3));
        assert_eq!((summary.cache_hit_share, summary.pages_within_share), (Some(0.5), None));
    }

    #[test]
    fn reasons_are_bounded() {
        let (mut figures, scenario) = figures("load<1s");
        for number in 0..REASONS_MAX + 10 {
            figures.ended(&Ending::Failed { step: 0, started_ns: 0, why: format!("reason {number}") });
        }
        let summary = figures.end(&scenario);
        assert_eq!(summary.failures.len(), REASONS_MAX + 1);
        assert_eq!((summary.failures[0].why.as_str(), summary.failures[0].count), ("other reasons", 10));
    }
}
