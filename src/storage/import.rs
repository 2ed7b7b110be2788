//! The agent that loads a supplier's file into a table while the site is serving.
//!
//! The file is read in pieces, cut into records ([`super::rfc822`]), converted ([`super::convert`]), and committed in
//! batches through the database server. Memory is bounded whatever the file: one piece, one record, [`BATCHES_MAX`]
//! batches, 8 bytes for each key that was seen. A bad record costs itself only and is reported with its line.

use std::collections::hash_map::RandomState;
use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::agents::WorkState;
use super::bridge::{Mutated, Pending};
use super::convert;
use super::executor::{self, File};
use super::report::ImportProgress;
use super::rfc822::{Splitter, Wrong};
use super::unit::ImportRun;
use super::work::{End, Progress, Shared, Ticket};
use crate::database::contract::{Change, Mutation};
use crate::limits::UNAPPLIED_UPDATES_MAX;
use crate::tables::Record;

/// Rows of one transaction.
pub const BATCH_ROWS_MAX: usize = 2000;
/// Transactions under way at a time: one that is committed, one that is ready behind it.
pub const BATCHES_MAX: usize = 2;
/// Bytes of one read.
const PIECE_BYTES: usize = 128 * 1024;
/// How often the work row says how far it is.
const TELL_EVERY: Duration = Duration::from_secs(1);
/// Between two looks at what the replicas have to apply.
const PACE_STEP: Duration = Duration::from_millis(2);
/// Distinct keys that are remembered to count duplicates: 32 MiB of hashes.
const KEYS_SEEN_MAX: usize = 4 * 1024 * 1024;

impl ImportRun {
    fn ticket<'a>(&'a self, file: &'a str) -> Ticket<'a> {
        Ticket {
            work: &self.work,
            agent: &self.agent.name,
            subject_table: &self.agent.table_name,
            subject_key: file,
            requested_by: &self.requested_by,
        }
    }
}

/// Runs the agent to its end.
pub(super) async fn run(shared: &Shared, run: &ImportRun) -> End {
    let file = run.file.display().to_string();
    run.progress.begin();
    log::info!(agent = &*run.agent.name, table = &*run.agent.table_name, file = file.as_str(); "an import has begun");
    let begin = Progress { state: WorkState::Running, attempts: 1, reason: "", result: "" };
    let outcome = match shared.put(&run.ticket(&file), &begin).await {
        Ok(()) => load(shared, run).await,
        Err(reason) => Err(reason),
    };
    close(shared, run, outcome).await
}

/// Records how the import ended; also when it was given up from outside.
pub(super) async fn close(shared: &Shared, run: &ImportRun, outcome: Result<(), String>) -> End {
    let file = run.file.display().to_string();
    run.progress.end(outcome.clone());
    tell(run, &outcome);
    let result = run.progress.result(shared.work.result_bytes_max);
    let (state, reason) = match &outcome {
        Ok(()) => (WorkState::Done, ""),
        Err(reason) => (WorkState::Failed, reason.as_str()),
    };
    let progress = Progress { state, attempts: 1, reason, result: &result };
    match (shared.put(&run.ticket(&file), &progress).await, outcome) {
        (Err(_), _) => End::Left,
        (Ok(()), Ok(())) => End::Done,
        (Ok(()), Err(_)) => End::Failed,
    }
}

fn tell(run: &ImportRun, outcome: &Result<(), String>) {
    let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let progress = &*run.progress;
    let (read, taken, rejected) = (of(&progress.read), of(&progress.taken), of(&progress.rejected));
    let agent = &*run.agent.name;
    let elapsed_ms = u64::try_from(progress.elapsed().as_millis()).unwrap_or(u64::MAX);
    match outcome {
        Ok(()) => log::info!(agent, read, taken, rejected, elapsed_ms; "an import has ended"),
        Err(error) => {
            log::error!(agent, read, taken, rejected, elapsed_ms, error = error.as_str(); "an import has failed")
        }
    }
}

async fn load(shared: &Shared, run: &ImportRun) -> Result<(), String> {
    let unreadable = |error: std::io::Error| format!("cannot read {}: {error}", run.file.display());
    let file = File::open(&run.file).await.map_err(unreadable)?;
    let progress = &*run.progress;
    // What is added while it is read is not read: an import has an end.
    let length = file.length().await.map_err(unreadable)?;
    progress.bytes_total.store(length, Ordering::Relaxed);
    let mut splitter = Splitter::default();
    let mut loader = Loader::new(shared, run);
    let mut position = 0;
    let mut piece = Vec::with_capacity(PIECE_BYTES);
    while position < length {
        let wanted = usize::try_from(length - position).map_or(PIECE_BYTES, |left| left.min(PIECE_BYTES));
        file.read_at(position, wanted, &mut piece).await.map_err(unreadable)?;
        if piece.is_empty() {
            break;
        }
        let mut rest: &[u8] = if position == 0 { without_mark(&piece)? } else { &piece };
        while !rest.is_empty() {
            let (taken, ready) = splitter.take(rest);
            rest = rest.get(taken..).unwrap_or(&[]);
            if ready {
                loader.take(&splitter).await?;
                splitter.next();
            }
            executor::breathe().await;
        }
        let bytes = u64::try_from(piece.len()).expect("invariant: a piece is small");
        position += bytes;
        progress.bytes.fetch_add(bytes, Ordering::Relaxed);
    }
    let length_now = file.length().await.map_err(unreadable)?;
    let cut = splitter.is_in_line();
    if splitter.finish() {
        // Nothing is taken of which the rest may be missing.
        let doubt = if length_now != length || position < length {
            Some("the file changed while it was read: this record may be incomplete; import it again")
        } else if cut {
            Some("the file ends within a line: this record may be incomplete; end the file with a line break")
        } else {
            None
        };
        match doubt {
            Some(doubt) => loader.refuse(&splitter, doubt),
            None => loader.take(&splitter).await?,
        }
    }
    loader.finish().await?;
    file.close().await.map_err(unreadable)?;
    if position < length {
        return Err(format!("{} became shorter while it was read; import it again", run.file.display()));
    }
    Ok(())
}

/// The beginning of a file without the mark of its encoding (RFC 3629 section 6).
fn without_mark(begin: &[u8]) -> Result<&[u8], String> {
    if begin.starts_with(&[0xFF, 0xFE]) || begin.starts_with(&[0xFE, 0xFF]) {
        return Err("the file is UTF-16; convert it, as with `iconv -f UTF-16 -t UTF-8`".to_owned());
    }
    Ok(begin.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(begin))
}

/// Collects rows into batches and keeps at most [`BATCHES_MAX`] of them with the database server.
struct Loader<'a> {
    shared: &'a Shared,
    run: &'a ImportRun,
    batch: Vec<Mutation>,
    /// Where in the batch a key is: a transaction changes a row once.
    places: HashMap<Box<str>, usize>,
    /// Hashes of all keys so far.
    seen: HashSet<u64>,
    hasher: RandomState,
    /// Batches under way with their rows, oldest first.
    sent: VecDeque<(Pending, usize)>,
    /// When the work row was written last.
    told: Instant,
}

impl<'a> Loader<'a> {
    fn new(shared: &'a Shared, run: &'a ImportRun) -> Self {
        Self {
            shared,
            run,
            batch: Vec::new(),
            places: HashMap::new(),
            seen: HashSet::new(),
            hasher: RandomState::new(),
            sent: VecDeque::new(),
            told: Instant::now(),
        }
    }

    /// Takes the splitter's record.
    async fn take(&mut self, splitter: &Splitter) -> Result<(), String> {
        let progress = self.progress();
        add(&progress.read, 1);
        match convert::row(&self.run.agent, splitter.record()) {
            Ok((key, record)) => self.put(key, record, splitter.record().line),
            Err(wrong) => progress.reject(wrong),
        }
        if self.batch.len() >= BATCH_ROWS_MAX { self.send().await } else { Ok(()) }
    }

    /// Counts the splitter's record without taking it.
    fn refuse(&mut self, splitter: &Splitter, reason: &str) {
        add(&self.progress().read, 1);
        self.progress().reject(Wrong { line: splitter.record().line, reason: reason.to_owned() });
    }

    fn put(&mut self, key: Box<str>, record: Record, line: u64) {
        if !self.first_time(&key) {
            self.progress().repeat(Wrong { line, reason: format!("{key:?} came before; this record replaces it") });
        }
        if let Some(earlier) = self.places.get(&key).and_then(|place| self.batch.get_mut(*place)) {
            earlier.change = Change::Put(record);
            return;
        }
        self.places.insert(key.clone(), self.batch.len());
        self.batch.push(Mutation { table: self.run.agent.table, key, change: Change::Put(record) });
    }

    /// Whether no record of the file had this key before. Two keys of the same hash (one pair in 10^7 files of
    /// 60,000 records) count as duplicates and are loaded all the same.
    fn first_time(&mut self, key: &str) -> bool {
        let hash = self.hasher.hash_one(key);
        if self.seen.len() < KEYS_SEEN_MAX { self.seen.insert(hash) } else { !self.seen.contains(&hash) }
    }

    /// Hands the batch to the database server, after the oldest one is committed if too many are under way.
    async fn send(&mut self) -> Result<(), String> {
        while self.sent.len() >= BATCHES_MAX {
            self.settle().await?;
        }
        self.pace().await;
        let batch = std::mem::take(&mut self.batch);
        self.places.clear();
        let rows = batch.len();
        let pending = self.shared.bridge.begin_mutate(batch).await;
        self.sent.push_back((pending, rows));
        Ok(())
    }

    /// Waits while the replicas have much to apply: they take a little each turn, for the sake of the browsers, and
    /// what they have not taken is in memory. A replica that hangs does not hold the import up for ever.
    async fn pace(&self) {
        let max = UNAPPLIED_UPDATES_MAX.saturating_mul(self.shared.replicas.max(1));
        let mut waited = Duration::ZERO;
        while self.shared.backlog.updates() > max && waited < self.shared.pace_limit {
            executor::sleep(PACE_STEP).await;
            waited += PACE_STEP;
        }
    }

    /// Writes how far the import has come into its work row, every now and then.
    async fn tell(&mut self) {
        if self.told.elapsed() < TELL_EVERY {
            return;
        }
        self.told = Instant::now();
        let file = self.run.file.display().to_string();
        let result = self.progress().result(self.shared.work.result_bytes_max);
        let progress = Progress { state: WorkState::Running, attempts: 1, reason: "", result: &result };
        // The rows count, and whether they can be written shows soon enough.
        let _ = self.shared.put(&self.run.ticket(&file), &progress).await;
    }

    /// Waits for the oldest batch.
    async fn settle(&mut self) -> Result<(), String> {
        let Some((pending, rows)) = self.sent.pop_front() else { return Ok(()) };
        match pending.finish().await? {
            Mutated::Committed(updates) => {
                add(&self.progress().taken, updates.len());
                add(&self.progress().unchanged, rows.saturating_sub(updates.len()));
                self.tell().await;
                Ok(())
            }
            Mutated::Missing => Err("the database server found no row to insert into".to_owned()),
        }
    }

    async fn finish(mut self) -> Result<(), String> {
        if !self.batch.is_empty() {
            self.send().await?;
        }
        while !self.sent.is_empty() {
            self.settle().await?;
        }
        Ok(())
    }

    fn progress(&self) -> &'a ImportProgress {
        &self.run.progress
    }
}

fn add(counter: &AtomicU64, count: usize) {
    counter.fetch_add(u64::try_from(count).unwrap_or(u64::MAX), Ordering::Relaxed);
}
