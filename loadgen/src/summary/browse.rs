//! What `summary.json` says about browsers: sessions, pages, caches.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use super::{Quantiles, duration_text, quantiles_text};
use crate::recorder::histogram;

/// What a browser run has on top. Sessions count over the whole run; pages and assets by the planned start of the page
/// or request, which leaves out those of the warm-up.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct BrowseSummary {
    pub scenario: String,
    pub sessions_started: u64,
    pub sessions_completed: u64,
    pub sessions_failed: u64,
    /// Sessions that found every user slot taken.
    pub sessions_shed: u64,
    /// Pages that were loaded.
    pub pages: u64,
    /// From the planned start of a page to the last byte of its last asset.
    pub page_load_ns: Quantiles,
    /// Assets that were fresh in a user's cache and cost no request.
    pub cache_fresh: u64,
    /// Assets that were answered 304.
    pub cache_revalidated: u64,
    /// Assets on other hosts, which are never loaded.
    pub foreign_assets: u64,
    /// Failed sessions by the step that failed.
    pub failed_steps: BTreeMap<String, u64>,
    /// Sessions that were under way when the run ended.
    pub sessions_unfinished: u64,
    /// Pages that a failed session wanted and did not get.
    pub pages_failed: u64,
    /// Pages that were being loaded when the run ended.
    pub pages_unfinished: u64,
    /// Loaded pages of which an asset failed.
    pub pages_incomplete: u64,
    /// The time within which pages shall load.
    pub page_slo_ns: Option<u64>,
    /// Pages that loaded within it with all their assets.
    pub pages_within: u64,
    /// Pages that took longer, up to four times as long.
    pub pages_tolerated: u64,
    /// Pages within of all that were wanted: loaded, failed or unfinished.
    pub pages_within_share: Option<f64>,
    /// (pages within + half of the tolerated ones) of all that were wanted.
    pub apdex: Option<f64>,
    /// Responses for assets, 304 among them.
    pub asset_responses: u64,
    /// Assets that cost no request, of all that pages needed.
    pub cache_hit_share: Option<f64>,
    pub steps: BTreeMap<String, StepSummary>,
    /// Why sessions failed, most frequent first.
    pub failures: Vec<StepFailure>,
}

/// The figures of one step.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepSummary {
    pub pages: u64,
    /// Sessions that it ended.
    pub failed: u64,
    pub page_load_ns: Quantiles,
}

/// Sessions that one step ended for one reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepFailure {
    pub step: String,
    pub why: String,
    pub count: u64,
}

impl BrowseSummary {
    /// Sets what follows from the counts.
    pub fn set_shares(&mut self) {
        let wanted = self.pages + self.pages_failed + self.pages_unfinished;
        let share = |part: f64, whole: u64| (whole > 0).then(|| part / whole as f64);
        let slo = self.page_slo_ns;
        self.pages_within_share = slo.and_then(|_| share(self.pages_within as f64, wanted));
        let satisfied = self.pages_within as f64 + self.pages_tolerated as f64 / 2.0;
        self.apdex = slo.and_then(|_| share(satisfied, wanted));
        self.cache_hit_share = share(self.cache_fresh as f64, self.cache_fresh + self.asset_responses);
    }

    /// Sets the load times from the histogram of each step's pages.
    pub fn set_page_loads<'h>(&mut self, of_step: impl Fn(&str) -> Option<&'h Histogram<u64>>) {
        let mut all = histogram();
        for (name, step) in &mut self.steps {
            if let Some(pages) = of_step(name) {
                step.page_load_ns = Quantiles::of(pages);
                all.add(pages).expect("invariant: all histograms have the same bounds");
            }
        }
        self.page_load_ns = Quantiles::of(&all);
    }

    /// Adds another run of the same scenario; load times are set from the histograms afterwards.
    pub fn add(&mut self, other: &Self) {
        self.sessions_started += other.sessions_started;
        self.sessions_completed += other.sessions_completed;
        self.sessions_failed += other.sessions_failed;
        self.sessions_shed += other.sessions_shed;
        self.pages += other.pages;
        self.cache_fresh += other.cache_fresh;
        self.cache_revalidated += other.cache_revalidated;
        self.foreign_assets += other.foreign_assets;
        self.sessions_unfinished += other.sessions_unfinished;
        self.pages_failed += other.pages_failed;
        self.pages_unfinished += other.pages_unfinished;
        self.pages_incomplete += other.pages_incomplete;
        self.pages_within += other.pages_within;
        self.pages_tolerated += other.pages_tolerated;
        self.asset_responses += other.asset_responses;
        if self.page_slo_ns != other.page_slo_ns {
            // Counts against different limits do not add up.
            self.page_slo_ns = None;
            (self.pages_within, self.pages_tolerated) = (0, 0);
        }
        for (step, count) in &other.failed_steps {
            *self.failed_steps.entry(step.clone()).or_default() += count;
        }
        for (name, step) in &other.steps {
            let sum = self.steps.entry(name.clone()).or_default();
            sum.pages += step.pages;
            sum.failed += step.failed;
        }
        for failure in &other.failures {
            let known =
                self.failures.iter_mut().find(|known| (&known.step, &known.why) == (&failure.step, &failure.why));
            match known {
                Some(known) => known.count += failure.count,
                None => self.failures.push(failure.clone()),
            }
        }
        self.failures.sort_by_key(|failure| std::cmp::Reverse(failure.count));
        self.set_shares();
    }

    /// Why sessions failed, for people.
    pub fn failures_text(&self) -> String {
        const LINES_MAX: usize = 10;
        let mut out = String::new();
        for StepFailure { step, why, count } in self.failures.iter().take(LINES_MAX) {
            let _ = writeln!(out, "           {count} sessions at step {step}: {why}");
        }
        out
    }

    /// Figures for people.
    pub fn text(&self) -> String {
        let mut out = String::new();
        let _ = writeln!(
            out,
            "sessions   {} started, {} completed, {} failed, {} unfinished, {} shed",
            self.sessions_started,
            self.sessions_completed,
            self.sessions_failed,
            self.sessions_unfinished,
            self.sessions_shed
        );
        let _ = writeln!(
            out,
            "pages      {} loaded, {} of them incomplete, {} failed, {} unfinished",
            self.pages, self.pages_incomplete, self.pages_failed, self.pages_unfinished
        );
        let _ = writeln!(out, "page load  {}", quantiles_text(&self.page_load_ns));
        if let (Some(limit_ns), Some(share), Some(apdex)) = (self.page_slo_ns, self.pages_within_share, self.apdex) {
            let limit = duration_text(limit_ns);
            let _ = writeln!(out, "           {:.2} % of all pages within {limit}, Apdex {apdex:.2}", share * 100.0);
        }
        if let Some(share) = self.cache_hit_share {
            let _ = writeln!(
                out,
                "assets     {:.1} % from the cache, {} answered, {} of them not changed, {} on other hosts left out",
                share * 100.0,
                self.asset_responses,
                self.cache_revalidated,
                self.foreign_assets
            );
        }
        out
    }
}
