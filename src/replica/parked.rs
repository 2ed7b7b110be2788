//! Jobs that wait: for the database, for the other replicas, for a password check, or behind a write of the same row.

use std::cmp::Reverse;
use std::collections::hash_map::Entry;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::sync::Arc;

use crate::tables::code::CodeVersion;
use crate::tables::{TableId, Update};

use super::handlers::After;
use super::job::Job;

/// A row by table and key.
pub type RowKey = (TableId, Box<str>);

/// What a parked job waits for.
#[derive(Debug)]
pub enum Stage {
    /// The database: the updates are applied once it has committed them.
    Committing { updates: Vec<Update>, after: Box<After> },
    /// Every live replica has to hold the own update with this number.
    Replicating { after: Box<After> },
    /// The password thread.
    Verifying { user: Box<str>, known: bool },
    /// The commit of another job that writes the same row; then it is executed again.
    Waiting,
}

/// A job that waits, with the code version it began with.
#[derive(Debug)]
pub struct Parked {
    /// `None` once the job has been answered because its time was over; its commit may still come.
    pub job: Option<Box<Job>>,
    pub code: Arc<CodeVersion>,
    pub stage: Stage,
    /// Times that the database refused its commit.
    pub conflicts: u32,
}

/// What a job whose time is over leaves behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Left {
    Nothing,
    /// A commit on its way.
    Committing,
    /// Rows that are written, and not yet held by every live replica.
    Written,
}

/// All parked jobs of a replica by token, the rows that are being written, and the deadlines.
#[derive(Debug, Default)]
pub struct ParkedJobs {
    next_token: u64,
    jobs: HashMap<u64, Parked>,
    /// Rows with a commit on its way, each with the jobs that wait to write it, in order of arrival.
    writing: HashMap<RowKey, VecDeque<u64>>,
    deadlines: BinaryHeap<Reverse<(u64, u64)>>,
    /// Own update number and token of jobs in [`Stage::Replicating`].
    replicating: BinaryHeap<Reverse<(u64, u64)>>,
}

impl ParkedJobs {
    pub fn count(&self) -> usize {
        self.jobs.len()
    }

    pub fn rows_writing(&self) -> usize {
        self.writing.len()
    }

    /// The next token comes after this one.
    pub fn number_after(&mut self, token: u64) {
        self.next_token = self.next_token.max(token);
    }

    /// A token that no other request of this replica has.
    pub fn token(&mut self) -> u64 {
        self.next_token += 1;
        self.next_token
    }

    pub fn park(&mut self, token: u64, parked: Parked) {
        if let Some(job) = parked.job.as_ref().filter(|job| job.deadline_ns > 0) {
            self.deadlines.push(Reverse((job.deadline_ns, token)));
        }
        self.jobs.insert(token, parked);
    }

    /// The first of the rows that another commit is writing.
    pub fn busy<'k>(&self, rows: impl Iterator<Item = (TableId, &'k str)>) -> Option<RowKey> {
        let mut rows = rows.map(|(table, key)| (table, Box::from(key)));
        rows.find(|row| self.writing.contains_key(row))
    }

    /// Marks rows as being written, before their commit is ordered.
    pub fn begin(&mut self, updates: &[Update]) {
        for update in updates {
            self.writing.entry((update.table, update.key.clone())).or_default();
        }
    }

    /// Puts a parked job behind the commit of a row.
    pub fn wait_for(&mut self, row: RowKey, token: u64) {
        self.writing.entry(row).or_default().push_back(token);
    }

    /// The rows are written, or not; gives back who waited for them, in order.
    pub fn end(&mut self, updates: &[Update]) -> VecDeque<(RowKey, VecDeque<u64>)> {
        let rows = updates.iter().map(|update| (update.table, update.key.clone()));
        rows.filter_map(|row| self.writing.remove(&row).filter(|queue| !queue.is_empty()).map(|queue| (row, queue)))
            .collect()
    }

    /// Puts the rest of a queue before those who came meanwhile, if the row is being written again.
    pub fn requeue(&mut self, row: RowKey, queue: VecDeque<u64>) -> Option<(RowKey, VecDeque<u64>)> {
        match self.writing.entry(row) {
            Entry::Occupied(mut entry) => {
                let later = std::mem::replace(entry.get_mut(), queue);
                entry.get_mut().extend(later);
                None
            }
            Entry::Vacant(entry) => Some((entry.into_key(), queue)),
        }
    }

    pub fn await_replicas(&mut self, position: u64, token: u64) {
        self.replicating.push(Reverse((position, token)));
    }

    /// The next job whose updates every live replica holds.
    pub fn replicated(&mut self, acknowledged: u64) -> Option<(u64, Parked)> {
        while let Some(Reverse((position, token))) = self.replicating.peek().copied() {
            if position > acknowledged {
                return None;
            }
            self.replicating.pop();
            if let Some(parked) = self.jobs.remove(&token) {
                return Some((token, parked));
            }
        }
        None
    }

    pub fn take(&mut self, token: u64) -> Option<Parked> {
        self.jobs.remove(&token)
    }

    /// The next job whose time is over. One whose commit is on its way stays parked without its job.
    pub fn expired(&mut self, now_ns: u64) -> Option<(Box<Job>, Left)> {
        while let Some(Reverse((deadline_ns, token))) = self.deadlines.peek().copied() {
            if deadline_ns > now_ns {
                return None;
            }
            self.deadlines.pop();
            // A token that is parked again has a deadline entry for each time.
            let Some(parked) = self.jobs.get_mut(&token) else { continue };
            let left = match parked.stage {
                Stage::Committing { .. } => Left::Committing,
                Stage::Replicating { .. } => Left::Written,
                Stage::Verifying { .. } | Stage::Waiting => Left::Nothing,
            };
            let job = match left {
                Left::Committing => parked.job.take(),
                Left::Written | Left::Nothing => self.jobs.remove(&token).and_then(|parked| parked.job),
            };
            if let Some(job) = job {
                return Some((job, left));
            }
        }
        None
    }

    /// When the next job's time is over, in monotonic nanoseconds; it may have been answered before.
    pub fn next_deadline_ns(&self) -> Option<u64> {
        self.deadlines.peek().map(|Reverse((deadline_ns, _))| *deadline_ns)
    }
}
