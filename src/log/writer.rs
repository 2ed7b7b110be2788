//! The log's thread: takes lines from the queue, leaves out what repeats, writes the rest to standard error.

use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crossbeam::channel::{Receiver, Sender, bounded};

use super::line::{Field, Format, Line};
use super::repeats::Repeats;
use super::{Logger, count};
use crate::clock;

/// Lines that are written at once.
const BATCH_LINES_MAX: usize = 128;
/// What an orderly end waits for a reader of standard error.
const PATIENCE: Duration = Duration::from_secs(1);
/// Asleep for so long at most: a window that ends late harms nobody.
const SLEEP_NS_MAX: u64 = 1_000_000_000;

/// The running thread.
#[derive(Debug)]
pub struct Handle {
    logger: &'static Logger,
    stop: Arc<AtomicBool>,
    ended: Receiver<()>,
}

impl Handle {
    /// Writes what was logged until now and ends, within a second if nobody reads.
    pub fn stop(self) {
        // ORDERING: pairs with the Acquire in `Writer::run`: what was queued before is seen.
        self.stop.store(true, Ordering::Release);
        self.logger.wake();
        // A timeout leaves the rest to the end of the process.
        let _ = self.ended.recv_timeout(PATIENCE);
    }
}

struct Writer {
    logger: &'static Logger,
    format: Format,
    journal: bool,
    repeats: Repeats,
    text: String,
    lines: u64,
    /// Dropped lines that were told of.
    told_dropped: u64,
}

pub(super) fn spawn(logger: &'static Logger, format: Format, journal: bool) -> Result<Handle, String> {
    let stop = Arc::new(AtomicBool::new(false));
    let (end, ended): (Sender<()>, Receiver<()>) = bounded(1);
    let flag = Arc::clone(&stop);
    let writer =
        Writer { logger, format, journal, repeats: Repeats::default(), text: String::new(), lines: 0, told_dropped: 0 };
    let thread = std::thread::Builder::new()
        .name("log".into())
        .spawn(move || {
            writer.run(&flag);
            // Nobody waits any more if this fails.
            let _ = end.try_send(());
        })
        .map_err(|error| format!("the log's thread could not be started: {error}"))?;
    // Set once: there is one logger, and one call of this.
    let _ = logger.writer.set(thread.thread().clone());
    Ok(Handle { logger, stop, ended })
}

impl Writer {
    fn run(mut self, stop: &AtomicBool) {
        loop {
            // ORDERING: pairs with the Release in `Handle::stop`.
            let last = stop.load(Ordering::Acquire);
            while self.sweep() {}
            let now = clock::monotonic_ns();
            self.end_repeats(if last { u64::MAX } else { now });
            self.tell_dropped();
            self.flush();
            if last {
                return;
            }
            let next_ns = self.repeats.next_ns().map_or(SLEEP_NS_MAX, |at| at.saturating_sub(now));
            std::thread::park_timeout(Duration::from_nanos(next_ns.min(SLEEP_NS_MAX)));
        }
    }

    /// Writes a batch; false if the queue was empty.
    fn sweep(&mut self) -> bool {
        let mut found = 0;
        while found < BATCH_LINES_MAX
            && let Some(line) = self.logger.queue.pop()
        {
            found += 1;
            if let Some(line) = self.repeats.admit(line, clock::monotonic_ns()) {
                self.add(&line);
            }
        }
        self.flush();
        found > 0
    }

    fn add(&mut self, line: &Line) {
        line.write(&mut self.text, self.format, self.journal);
        self.lines += 1;
    }

    fn end_repeats(&mut self, now_ns: u64) {
        let (lines, all) = self.repeats.end(now_ns);
        lines.iter().for_each(|line| self.add(line));
        count(&self.logger.statistics.repeated, all);
    }

    fn tell_dropped(&mut self) {
        let dropped = self.logger.statistics.dropped.load(Ordering::Relaxed);
        if dropped > self.told_dropped {
            let line = Line {
                level: log::Level::Warn,
                unix_ms: clock::unix_ms(),
                thread: "log".into(),
                place: "log".into(),
                message: "lines were dropped: whoever reads standard error is too slow".into(),
                fields: vec![("lines".into(), Field::Count(dropped - self.told_dropped))],
            };
            self.told_dropped = dropped;
            self.add(&line);
        }
    }

    fn flush(&mut self) {
        if self.text.is_empty() {
            return;
        }
        let written = std::io::stderr().lock().write_all(self.text.as_bytes());
        // There is nowhere left to say that it failed, but in the counters.
        let counter = if written.is_ok() { &self.logger.statistics.written } else { &self.logger.statistics.lost };
        count(counter, self.lines);
        self.text.clear();
        self.lines = 0;
    }
}
