//! What an operator reads: one line an event on standard error, with a level, a place and named values.
//!
//! ```text
//!   any thread ── log::warn!(…) ──▶ bounded queue ──▶ the log's thread ──▶ standard error
//!                     │ full: the line is dropped and counted
//! ```
//! Code says what happened by the macros of the crate `log`; the place is the room of the module, the message a sentence
//! that is always the same, and what varies are named values behind it:
//!
//! ```
//! let (address, error) = ("127.0.0.1:9000", std::io::Error::other("refused"));
//! log::warn!(address, error:% = error; "the upstream server is down");
//! // level=warn … place=front message="the upstream server is down" address=127.0.0.1:9000 error=refused
//! ```
//! In a module that has a neighbour named `log`, write `::log::warn!`. `profiles/OBSERVING.md` names the fields.
//!
//! Architecture invariant: who logs never waits, and nothing is logged for a request. A program that has not called
//! [`install`] (a simulation, a unit test) logs nothing.

pub mod filter;
mod journal;
pub mod line;
mod repeats;
pub mod text;
mod writer;

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam::queue::ArrayQueue;
use serde::Serialize;

use crate::clock;
pub use filter::Filter;
pub use line::{Format, Line};
pub use writer::Handle;

/// Lines that wait for the log's thread: some seconds of a bad day.
pub const QUEUE_LINES_MAX: usize = 1024;

/// What is written, and how.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    pub filter: Filter,
    pub format: Format,
}

/// Since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counters {
    pub written_lines: u64,
    /// Dropped because the queue was full: whoever reads standard error is slow.
    pub dropped_lines: u64,
    /// Left out because the same was said too often; a line with `repeated` told how often.
    pub repeated_lines: u64,
    /// Could not be written.
    pub lost_lines: u64,
}

/// The same, as the threads count it.
#[derive(Debug, Default)]
struct Statistics {
    written: AtomicU64,
    dropped: AtomicU64,
    repeated: AtomicU64,
    lost: AtomicU64,
}

/// The receiving end of the macros.
#[derive(Debug)]
struct Logger {
    filter: Filter,
    queue: ArrayQueue<Line>,
    statistics: Statistics,
    /// The log's thread, to be woken.
    writer: OnceLock<std::thread::Thread>,
}

static LOGGER: OnceLock<Logger> = OnceLock::new();

impl log::Log for Logger {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        self.filter.takes(metadata.level(), metadata.target())
    }

    fn log(&self, record: &log::Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        match self.queue.push(Line::of(record, clock::unix_ms())) {
            Ok(()) => self.wake(),
            Err(_) => count(&self.statistics.dropped, 1),
        }
    }

    fn flush(&self) {
        self.wake();
    }
}

impl Logger {
    fn wake(&self) {
        if let Some(writer) = self.writer.get() {
            writer.unpark();
        }
    }
}

/// Takes in the lines of this process from now on. To be called once, by the program.
///
/// # Errors
/// The log's thread could not be started, or somebody else takes the lines in already; one sentence.
pub fn install(settings: &Settings) -> Result<Handle, String> {
    let mut fresh = false;
    let logger = LOGGER.get_or_init(|| {
        fresh = true;
        Logger {
            filter: settings.filter.clone(),
            queue: ArrayQueue::new(QUEUE_LINES_MAX),
            statistics: Statistics::default(),
            writer: OnceLock::new(),
        }
    });
    if !fresh || log::set_logger(logger).is_err() {
        return Err("the log was installed before".into());
    }
    let handle = writer::spawn(logger, settings.format, journal::is_journal())?;
    log::set_max_level(settings.filter.most());
    log_panics();
    Ok(handle)
}

/// What the log counts; none if it is not installed.
pub fn counters() -> Option<Counters> {
    let statistics = &LOGGER.get()?.statistics;
    // ORDERING: counters for people; each is read for itself.
    let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    Some(Counters {
        written_lines: of(&statistics.written),
        dropped_lines: of(&statistics.dropped),
        repeated_lines: of(&statistics.repeated),
        lost_lines: of(&statistics.lost),
    })
}

fn count(counter: &AtomicU64, more: u64) {
    // ORDERING: a counter for people.
    counter.fetch_add(more, Ordering::Relaxed);
}

/// A panic becomes a line; with `RUST_BACKTRACE=1` it has the way that led there.
fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let payload = panic.payload();
        let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
        let text = text.or_else(|| payload.downcast_ref::<String>().cloned()).unwrap_or_default();
        let location = panic.location().map_or_else(String::new, ToString::to_string);
        let backtrace = std::backtrace::Backtrace::capture();
        let backtrace = match backtrace.status() {
            std::backtrace::BacktraceStatus::Captured => backtrace.to_string(),
            _ => String::new(),
        };
        log::error!(target: "twintier::panic", error:% = text, location:% = location, backtrace:% = backtrace; "a thread panicked");
    }));
}
