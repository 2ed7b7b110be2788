//! The access log's thread: takes lines from every front server's queue, writes them to a file or standard output.
//!
//! Architecture invariant: no worker waits for this thread, and none wakes it. It looks into the queues every few
//! milliseconds; what does not fit a queue is dropped and counted by the front. At an orderly end it empties the
//! queues before it goes.
//!
//! The file is looked at once a second: when its name leads elsewhere (logrotate has moved it), it is opened anew.
//! `copytruncate` works, too, because lines are appended.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::front::log::{Log, Queue};

/// Lines that wait for the thread, for each front server: at a million requests a second, eight milliseconds.
pub const QUEUE_LINES_MAX: usize = 8192;
/// Lines that are formatted before they are written.
const BATCH_LINES_MAX: usize = 1024;
/// Between two looks into the queues: while lines come, and after a while without any.
const PAUSE_BUSY: Duration = Duration::from_millis(2);
const PAUSE_IDLE: Duration = Duration::from_millis(20);
/// Between two looks at the file's name.
const ROTATION: Duration = Duration::from_secs(1);

/// What the thread counts; it is the single writer.
#[derive(Debug, Default)]
pub struct Statistics {
    written_lines: AtomicU64,
    written_bytes: AtomicU64,
    lost_lines: AtomicU64,
    errors: AtomicU64,
    reopened: AtomicU64,
}

/// A reading of [`Statistics`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Written {
    pub written_lines: u64,
    pub written_bytes: u64,
    /// Lines that could not be written: disk full, a reader of the pipe that left.
    pub lost_lines: u64,
    /// Writes that failed.
    pub errors: u64,
    /// Times the file was opened anew because its name led elsewhere.
    pub reopened: u64,
}

impl Statistics {
    pub fn read(&self) -> Written {
        // ORDERING: counters for people; each is read for itself.
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Written {
            written_lines: of(&self.written_lines),
            written_bytes: of(&self.written_bytes),
            lost_lines: of(&self.lost_lines),
            errors: of(&self.errors),
            reopened: of(&self.reopened),
        }
    }
}

/// Where lines go.
enum Sink {
    Stdout,
    File { file: File, path: PathBuf, looked: Instant },
}

impl Sink {
    fn open(path: &Path) -> io::Result<Self> {
        if path.as_os_str() == "-" {
            return Ok(Self::Stdout);
        }
        let file = OpenOptions::new().append(true).create(true).open(path)?;
        Ok(Self::File { file, path: path.to_path_buf(), looked: Instant::now() })
    }

    /// Writes as much as can be: how much, and what stopped it.
    fn write(&mut self, mut bytes: &[u8]) -> (usize, Option<io::Error>) {
        let whole = bytes.len();
        while !bytes.is_empty() {
            let outcome = match self {
                Self::Stdout => io::stdout().lock().write(bytes),
                Self::File { file, .. } => file.write(bytes),
            };
            match outcome {
                Ok(0) => return (whole - bytes.len(), Some(io::ErrorKind::WriteZero.into())),
                Ok(count) => bytes = &bytes[count..],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return (whole - bytes.len(), Some(error)),
            }
        }
        let flushed = match self {
            Self::Stdout => io::stdout().lock().flush(),
            Self::File { .. } => Ok(()),
        };
        (whole, flushed.err())
    }

    /// Opens the file anew if its name leads elsewhere; true if it did.
    fn follow_name(&mut self) -> io::Result<bool> {
        let Self::File { file, path, looked } = self else { return Ok(false) };
        if looked.elapsed() < ROTATION {
            return Ok(false);
        }
        *looked = Instant::now();
        let own = file.metadata()?;
        let same = std::fs::metadata(&*path).is_ok_and(|named| named.ino() == own.ino() && named.dev() == own.dev());
        if same {
            return Ok(false);
        }
        *file = OpenOptions::new().append(true).create(true).open(path)?;
        Ok(true)
    }

    fn name(&self) -> String {
        match self {
            Self::Stdout => "standard output".into(),
            Self::File { path, .. } => path.display().to_string(),
        }
    }
}

/// The thread's work.
struct Writer {
    sink: Sink,
    queues: Vec<Arc<Queue>>,
    statistics: Arc<Statistics>,
    bytes: Vec<u8>,
    lines: u64,
    /// The last write ended inside a line.
    broken: bool,
    /// Writing fails, and that was said.
    failing: bool,
}

impl Writer {
    fn run(mut self, stop: &AtomicBool) {
        let mut quiet = 0_u32;
        loop {
            // ORDERING: pairs with the Release in `Handle::stop`, which comes after the last line was queued.
            let last = stop.load(Ordering::Acquire);
            let found = self.sweep();
            if last && found == 0 {
                return;
            }
            match self.sink.follow_name() {
                Ok(true) => count(&self.statistics.reopened, 1),
                Ok(false) => {}
                Err(error) => self.complain(&error),
            }
            quiet = if found == 0 { quiet.saturating_add(1) } else { 0 };
            if found < BATCH_LINES_MAX && !last {
                std::thread::sleep(if quiet > 50 { PAUSE_IDLE } else { PAUSE_BUSY });
            }
        }
    }

    /// Writes what the queues hold, at most a batch of each; how many lines that were.
    fn sweep(&mut self) -> usize {
        let mut found = 0;
        for index in 0..self.queues.len() {
            for _ in 0..BATCH_LINES_MAX {
                let Some(line) = self.queues[index].pop() else { break };
                line.write(&mut self.bytes);
                self.lines += 1;
                found += 1;
            }
            self.flush();
        }
        found
    }

    fn flush(&mut self) {
        if self.bytes.is_empty() {
            return;
        }
        if self.broken {
            self.bytes.insert(0, b'\n');
        }
        let (written, error) = self.sink.write(&self.bytes);
        let whole = self.bytes[..written].iter().filter(|&&byte| byte == b'\n').count() as u64;
        let whole = whole.saturating_sub(u64::from(self.broken && written > 0));
        count(&self.statistics.written_lines, whole);
        count(&self.statistics.written_bytes, written as u64);
        count(&self.statistics.lost_lines, self.lines.saturating_sub(whole));
        if written > 0 {
            self.broken = self.bytes[written - 1] != b'\n';
        }
        match error {
            Some(error) => self.complain(&error),
            None if self.failing => {
                self.failing = false;
                log::info!(file:% = self.sink.name(), lost_lines = self.statistics.read().lost_lines; "the access log is written again");
            }
            None => {}
        }
        self.bytes.clear();
        self.lines = 0;
    }

    /// Says once that lines are lost.
    fn complain(&mut self, error: &io::Error) {
        count(&self.statistics.errors, 1);
        if !self.failing {
            self.failing = true;
            log::error!(
                file:% = self.sink.name(), error:%;
                "the access log cannot be written: requests go on, and lost lines are counted until it can"
            );
        }
    }
}

fn count(counter: &AtomicU64, more: u64) {
    // ORDERING: a counter for people, written by this thread alone.
    counter.fetch_add(more, Ordering::Relaxed);
}

/// The running thread.
pub struct Handle {
    statistics: Arc<Statistics>,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Handle {
    pub fn statistics(&self) -> &Arc<Statistics> {
        &self.statistics
    }

    /// Writes what is queued and ends. To be called when no front serves any more.
    pub fn stop(self) {
        // ORDERING: pairs with the Acquire in `Writer::run`.
        self.stop.store(true, Ordering::Release);
        // A thread that panicked has said so itself.
        let _ = self.thread.join();
    }
}

/// Opens the log (`-`: standard output) and starts its thread; also gives each front server its end of it.
///
/// # Errors
/// One sentence with the cure.
pub fn spawn(path: &Path, fronts: u16) -> Result<(Handle, Vec<Log>), String> {
    let sink = Sink::open(path)
        .map_err(|error| format!("the access log {} cannot be opened: {error}; choose another file", path.display()))?;
    let queues: Vec<Arc<Queue>> = (0..fronts).map(|_| Arc::new(Queue::new(QUEUE_LINES_MAX))).collect();
    let logs = (0..fronts).zip(&queues).map(|(front, queue)| Log::new(front, Arc::clone(queue))).collect();
    let statistics = Arc::new(Statistics::default());
    let stop = Arc::new(AtomicBool::new(false));
    let writer = Writer {
        sink,
        queues,
        statistics: Arc::clone(&statistics),
        bytes: Vec::new(),
        lines: 0,
        broken: false,
        failing: false,
    };
    let flag = Arc::clone(&stop);
    let thread = std::thread::Builder::new()
        .name("access-log".into())
        .spawn(move || writer.run(&flag))
        .map_err(|error| format!("the access log's thread could not be started: {error}"))?;
    Ok((Handle { statistics, stop, thread }, logs))
}
