//! What a replicator is told, and what it tells its caller.

use super::replicator::Replicator;
use super::{LagReport, Positions};
use crate::tables::{ServerId, Update};

/// How a replicator works.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// This replica.
    pub me: ServerId,
    /// Replicas; their ids count from 0, and the application server's id is this number.
    pub replicas: u8,
    /// Between two sweeps begun by this replica; each goes to the next peer in turn.
    pub sweep_interval_ns: u64,
    /// After this long without an answer a question is asked again.
    pub retry_ns: u64,
    /// Updates that the log keeps for peers that are behind.
    pub log_updates_max: usize,
}

/// What the caller should know or do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Two revisions did not know each other; this one lost and is kept.
    Conflict(Box<Update>),
    /// The peer runs an older code version: send it the present one.
    CodeWanted { peer: ServerId, have: u64 },
    /// The peer runs a later code version; it has been asked for it.
    CodeBehind { peer: ServerId, version: u64 },
    /// A joining replica has caught up and may take traffic.
    Ready,
}

/// Since the replicator was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Counters {
    pub batches_sent: u64,
    /// Batches that were taken, from peers and from the application server, and what became of them: applied, known
    /// already, held or asked for again because others before them were missing, or too early for a replica that joins.
    pub batches_received: u64,
    pub batches_applied: u64,
    pub batches_repeated: u64,
    pub batches_ahead: u64,
    pub batches_early: u64,
    pub updates_received: u64,
    pub gaps: u64,
    pub undelivered: u64,
    pub sweeps: u64,
    /// Rounds in which something differed.
    pub rounds: u64,
    pub repairs: u64,
    pub rows_swept: u64,
    pub conflicts: u64,
    pub stubs_purged: u64,
    pub snapshot_rows: u64,
}

impl Counters {
    /// Batches taken, less those whose end is known: 0, or the accounting is wrong.
    pub fn books(&self) -> i64 {
        let Self { batches_received, batches_applied, batches_repeated, batches_ahead, batches_early, .. } = self;
        let ended = batches_applied + batches_repeated + batches_ahead + batches_early;
        batches_received.cast_signed() - ended.cast_signed()
    }

    /// Adds those of an earlier life.
    pub fn add(&mut self, other: &Self) {
        let Self {
            batches_sent,
            batches_received,
            batches_applied,
            batches_repeated,
            batches_ahead,
            batches_early,
            updates_received,
            gaps,
            undelivered,
            sweeps,
            rounds,
            repairs,
            rows_swept,
            conflicts,
            stubs_purged,
            snapshot_rows,
        } = other;
        self.batches_sent += batches_sent;
        self.batches_received += batches_received;
        self.batches_applied += batches_applied;
        self.batches_repeated += batches_repeated;
        self.batches_ahead += batches_ahead;
        self.batches_early += batches_early;
        self.updates_received += updates_received;
        self.gaps += gaps;
        self.undelivered += undelivered;
        self.sweeps += sweeps;
        self.rounds += rounds;
        self.repairs += repairs;
        self.rows_swept += rows_swept;
        self.conflicts += conflicts;
        self.stubs_purged += stubs_purged;
        self.snapshot_rows += snapshot_rows;
    }
}

/// For `GET /replication`.
#[derive(Clone, Debug)]
pub struct Report {
    pub me: ServerId,
    /// Takes traffic.
    pub ready: bool,
    pub code_version: u64,
    /// What the tables hold, by origin; the own number is the last one given.
    pub positions: Positions,
    /// Own updates up to here are held by every live replica.
    pub acknowledged: u64,
    /// Updates kept for peers.
    pub log_updates: usize,
    /// Stubs that wait for acknowledgements.
    pub stubs: usize,
    /// Application server's updates that are missing before others that have come: position and first one held.
    pub external_gap: Option<(u64, u64)>,
    pub counters: Counters,
    pub lag: LagReport,
    pub peers: Vec<PeerReport>,
}

#[derive(Clone, Debug)]
pub struct PeerReport {
    pub peer: ServerId,
    pub live: bool,
    /// What it holds, as last reported.
    pub positions: Positions,
    /// Own updates that it has not acknowledged.
    pub lag: u64,
    /// It fell behind the log and is being repaired by a sweep.
    pub dirty: bool,
}

impl Replicator {
    pub fn report(&self) -> Report {
        let peers = (0..self.settings.replicas).filter(|peer| *peer != self.settings.me).map(|id| {
            let peer = &self.peers[usize::from(id)];
            let lag = self.log.beyond(peer.view.get(self.settings.me));
            PeerReport { peer: id, live: peer.live, positions: peer.view, lag, dirty: peer.needs_repair }
        });
        Report {
            me: self.settings.me,
            ready: self.is_ready(),
            code_version: self.code_version,
            positions: self.positions(),
            acknowledged: self.acknowledged,
            log_updates: self.log.held(),
            stubs: self.stubs.iter().map(|stubs| stubs.rows.len()).sum::<usize>() + self.stubs_open.len(),
            external_gap: self
                .held
                .front()
                .map(|held| (self.receiver.applied().get(self.settings.replicas), held.first)),
            counters: self.counters,
            lag: self.lag.report(),
            peers: peers.collect(),
        }
    }
}
