//! How far an import has come, readable from any thread while it runs.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value as Json, json};

use super::agents::WorkState;
use super::rfc822::Wrong;

/// Rejected records, and repeated keys, that are kept with line and reason; all are counted.
pub const REJECTED_KEPT_MAX: usize = 1000;
/// Rejected records that the work row's result shows.
const REJECTED_SHOWN_MAX: usize = 5;

/// An import's report. The storage thread is the only writer; the counters are exact once [`Self::outcome`] is set.
#[derive(Debug)]
pub struct ImportProgress {
    pub file: PathBuf,
    /// Bytes of the file as opened, and those read so far.
    pub bytes_total: AtomicU64,
    pub bytes: AtomicU64,
    /// Records cut out of the file, good and bad.
    pub read: AtomicU64,
    /// Rows that the database server inserted or replaced.
    pub taken: AtomicU64,
    /// Rows that were in the table already, equal in every field.
    pub unchanged: AtomicU64,
    /// Records whose key an earlier record of the file had. The later record wins.
    pub duplicate: AtomicU64,
    /// Records that no row was made of.
    pub rejected: AtomicU64,
    rejections: Mutex<Vec<Wrong>>,
    repetitions: Mutex<Vec<Wrong>>,
    started: OnceLock<Instant>,
    ended: OnceLock<(Duration, Result<(), String>)>,
}

impl ImportProgress {
    pub fn new(file: &Path) -> Self {
        Self {
            file: file.to_path_buf(),
            bytes_total: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            read: AtomicU64::new(0),
            taken: AtomicU64::new(0),
            unchanged: AtomicU64::new(0),
            duplicate: AtomicU64::new(0),
            rejected: AtomicU64::new(0),
            rejections: Mutex::new(Vec::new()),
            repetitions: Mutex::new(Vec::new()),
            started: OnceLock::new(),
            ended: OnceLock::new(),
        }
    }

    /// `None` while it waits or runs; then how it ended, with the reason of a failure.
    pub fn outcome(&self) -> Option<Result<(), String>> {
        self.ended.get().map(|(_, outcome)| outcome.clone())
    }

    /// Time since it began, or that it took.
    pub fn elapsed(&self) -> Duration {
        match (self.ended.get(), self.started.get()) {
            (Some((took, _)), _) => *took,
            (None, Some(started)) => started.elapsed(),
            (None, None) => Duration::ZERO,
        }
    }

    /// Records read per second.
    pub fn rate(&self) -> u64 {
        let elapsed_us = u64::try_from(self.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.read.load(Ordering::Relaxed).saturating_mul(1_000_000).checked_div(elapsed_us).unwrap_or(0)
    }

    /// The first [`REJECTED_KEPT_MAX`] rejected records.
    pub fn rejections(&self) -> Vec<Wrong> {
        kept(&self.rejections).clone()
    }

    /// The first [`REJECTED_KEPT_MAX`] records whose key an earlier one had.
    pub fn repetitions(&self) -> Vec<Wrong> {
        kept(&self.repetitions).clone()
    }

    /// The report as the admin interface shows it, with up to `shown` rejected records.
    pub fn to_json(&self, shown: usize) -> Json {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let listed = |list: &Mutex<Vec<Wrong>>| -> Vec<Json> {
            kept(list).iter().take(shown).map(|one| json!({ "line": one.line, "reason": one.reason })).collect()
        };
        let (state, reason) = match self.ended.get() {
            None if self.started.get().is_none() => (WorkState::Queued, ""),
            None => (WorkState::Running, ""),
            Some((_, Ok(()))) => (WorkState::Done, ""),
            Some((_, Err(reason))) => (WorkState::Failed, reason.as_str()),
        };
        json!({
            "file": self.file.display().to_string(),
            "state": state.as_str(),
            "reason": reason,
            "bytes": of(&self.bytes),
            "bytes_total": of(&self.bytes_total),
            "read": of(&self.read),
            "taken": of(&self.taken),
            "unchanged": of(&self.unchanged),
            "duplicate": of(&self.duplicate),
            "rejected": of(&self.rejected),
            "rejections": listed(&self.rejections),
            "repetitions": listed(&self.repetitions),
            "elapsed_ms": u64::try_from(self.elapsed().as_millis()).unwrap_or(u64::MAX),
            "records_per_s": self.rate(),
        })
    }

    /// The report for the work row, short enough for `bytes_max` bytes: rejected records are left out until it is.
    pub(super) fn result(&self, bytes_max: usize) -> String {
        let mut shown = REJECTED_SHOWN_MAX;
        loop {
            let text = self.to_json(shown).to_string();
            if text.len() <= bytes_max || shown == 0 {
                return text;
            }
            shown -= 1;
        }
    }

    pub(super) fn begin(&self) {
        // A second order with the same report would mix two runs; the first one's start stays.
        let _ = self.started.set(Instant::now());
    }

    pub(super) fn end(&self, outcome: Result<(), String>) {
        let _ = self.ended.set((self.started.get().map_or(Duration::ZERO, Instant::elapsed), outcome));
    }

    pub(super) fn reject(&self, wrong: Wrong) {
        self.rejected.fetch_add(1, Ordering::Relaxed);
        keep(&self.rejections, wrong);
    }

    pub(super) fn repeat(&self, wrong: Wrong) {
        self.duplicate.fetch_add(1, Ordering::Relaxed);
        keep(&self.repetitions, wrong);
    }
}

fn keep(list: &Mutex<Vec<Wrong>>, wrong: Wrong) {
    let mut list = kept(list);
    if list.len() < REJECTED_KEPT_MAX {
        list.push(wrong);
    }
}

fn kept(list: &Mutex<Vec<Wrong>>) -> MutexGuard<'_, Vec<Wrong>> {
    list.lock().unwrap_or_else(PoisonError::into_inner)
}
