//! What a worker reports of itself to the admin thread.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::dispatch::{connections, requests};
use crate::engine::Statistics;
use crate::front::Counters;
use crate::front::flights;
use crate::front::latency::Latency;
use crate::front::rejects::Rejects;
use crate::mesh::grid;
use crate::mesh::lives::Life;
use crate::replica;
use crate::replica::server::ReplicaServer;
use crate::replication;

use super::replica_life::LifeCounters;
use super::replica_role::ReplicaRole;
use super::watch;

/// One worker's report.
#[derive(Clone, Debug, Serialize)]
pub struct WorkerStatus {
    pub worker: usize,
    pub core: usize,
    pub cpu_ns: u64,
    pub engine: Statistics,
    pub mesh: MeshStatus,
    /// What this worker saw of the others' beats.
    pub watch: watch::Counters,
    pub front: Option<FrontStatus>,
    pub replica: Option<ReplicaStatus>,
}

/// A worker's end of the mesh.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct MeshStatus {
    pub sent: u64,
    pub full: u64,
    pub received: u64,
}

impl From<grid::Counters> for MeshStatus {
    fn from(counters: grid::Counters) -> Self {
        let grid::Counters { sent, full, received } = counters;
        Self { sent, full, received }
    }
}

/// The rejected requests of one front server.
#[derive(Clone, Debug)]
pub struct FrontRejects {
    pub front: u16,
    pub rejects: Rejects,
}

/// A front server's report.
#[derive(Clone, Debug, Serialize)]
pub struct FrontStatus {
    pub front: u16,
    pub listen: String,
    pub load: u32,
    pub open_connections: u32,
    pub requests_in_progress: u64,
    pub draining: bool,
    pub site_version: u64,
    pub counters: Counters,
    /// Ended requests by reason, those that there were.
    pub endings: BTreeMap<&'static str, u64>,
    /// Requests taken, less those ended, less those in progress by a count of the connections: 0, or the accounting is
    /// wrong.
    pub books: i64,
    pub latency: Latency,
    /// Requests rejected for their content.
    pub rejected: u64,
    /// Access log lines given to the log's thread, and those dropped because its queue was full.
    pub log_lines: u64,
    pub log_dropped: u64,
    /// The second and the first dispatcher.
    pub dispatch: requests::Counters,
    pub placement: connections::Counters,
    /// Jobs on their way to replicas and back.
    pub flights: flights::Counters,
    /// Jobs dispatched, less those that came back in any way, less those that are out: 0, or the accounting is wrong.
    pub flights_books: i64,
    /// Jobs that this front has outstanding at each replica.
    pub outstanding: Vec<u32>,
    pub waiting: usize,
    pub dispatched_local: u64,
    pub dispatched_remote: u64,
    pub dispatched_after_wait: u64,
    /// The last decisions of the second dispatcher, newest last.
    pub request_decisions: Vec<String>,
    /// The last decisions of the first dispatcher, newest last.
    pub connection_decisions: Vec<String>,
    pub upstreams: Vec<UpstreamStatus>,
    pub upstream_groups: Vec<UpstreamGroupStatus>,
}

/// An upstream server as one front sees it.
#[derive(Clone, Debug, Serialize)]
pub struct UpstreamStatus {
    pub address: String,
    /// `up`, `down` (by checks), `ejected` (by failed requests), or `leaving` (no statement names it any more).
    pub state: &'static str,
    pub outstanding: u32,
    /// This front's share of the server's cap.
    pub outstanding_max: u32,
    pub connections: u32,
    pub idle_connections: usize,
    pub requests: u64,
    /// Failures in a row.
    pub failures: u32,
    pub requests_failed: u64,
    pub ejections: u64,
    /// Milliseconds until the next probe; 0 if it is not ejected.
    pub ejected_for_ms: u64,
    pub checks_passed: u64,
    pub checks_failed: u64,
    /// Why the last check ended as it did.
    pub last_check: &'static str,
}

/// The servers of one statement as one front sees them.
#[derive(Clone, Debug, Serialize)]
pub struct UpstreamGroupStatus {
    pub pattern: String,
    /// Requests that wait for a server with room, now and since the start.
    pub waiting: usize,
    pub waited: u64,
    /// Requests that found the queue full, or waited in vain.
    pub queue_refused: u64,
    pub queue_expired: u64,
    pub retries: u64,
    /// Retries that the budget did not have.
    pub retries_denied: u64,
    /// Retries that may begin now.
    pub retries_left: u32,
}

/// A replica server's report.
#[derive(Clone, Debug, Serialize)]
pub struct ReplicaStatus {
    pub replica: u8,
    /// `running`, `stopping`, `stopped`, `joining` or `fenced`.
    pub state: &'static str,
    pub running: bool,
    /// Counts its lives, from 0.
    pub incarnation: u16,
    /// Jobs begun, less those answered, less those in progress: 0, or the accounting is wrong. The same of commits,
    /// and of messages to other replicas.
    pub books: i64,
    pub write_books: i64,
    pub message_books: i64,
    /// Batches of changes taken, less those whose end is known: 0, or the accounting is wrong.
    pub batch_books: i64,
    pub code_version: u64,
    pub code_digest: String,
    pub tables: Vec<TableStatus>,
    /// What the tables hold, by origin; the application server's origin comes after the last replica.
    pub applied: Vec<u64>,
    /// Own updates that each peer has not acknowledged.
    pub peers: Vec<PeerStatus>,
    /// From an own update until every live replica is known to hold it, since the start: median, 99th percentile, longest.
    pub lag_p50_ns: u64,
    pub lag_p99_ns: u64,
    pub lag_max_ns: u64,
    /// Jobs that wait now.
    pub parked_now: usize,
    /// Commits on their way.
    pub commits_waiting: usize,
    /// Updates acknowledged with `local` or `all` that the database has not committed yet: what the end of the process
    /// would lose.
    pub unconfirmed_now: u64,
    #[serde(flatten)]
    pub life: LifeCounters,
    #[serde(flatten)]
    pub counters: replica::contract::Counters,
    #[serde(flatten)]
    pub replication: replication::Counters,
}

/// One table of one replica. Equal on all replicas once writes stop.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TableStatus {
    pub table: String,
    pub rows: usize,
    pub stubs: usize,
    pub conflicts: usize,
    pub digest: String,
}

/// Another replica as this one sees it.
#[derive(Clone, Debug, Serialize)]
pub struct PeerStatus {
    pub peer: u8,
    pub live: bool,
    pub lag: u64,
    pub dirty: bool,
}

impl ReplicaStatus {
    pub fn new(role: &ReplicaRole) -> Self {
        let status = role.server.as_ref().map(ReplicaServer::status);
        let (counters, replication) = role.totals();
        let report = status.as_ref().map(|status| &status.replication);
        let tables = status.iter().flat_map(|status| &status.tables).map(|table| TableStatus {
            table: table.table.to_string(),
            rows: table.rows,
            stubs: table.stubs,
            conflicts: table.losers,
            digest: format!("{:032x}", table.digest),
        });
        let applied = report.map_or(&[][..], |report| {
            let origins = report.peers.len() + 2;
            &report.positions.0[..origins.min(report.positions.0.len())]
        });
        let lag = report.map_or_else(Default::default, |report| report.lag);
        let peers = report.iter().flat_map(|report| &report.peers).map(|peer| PeerStatus {
            peer: peer.peer,
            live: peer.live,
            lag: peer.lag,
            dirty: peer.dirty,
        });
        Self {
            replica: role.replica,
            state: role.standing.life.as_str(),
            running: role.standing.life == Life::Running,
            incarnation: role.standing.incarnation,
            books: role.books(),
            write_books: role.write_books(),
            message_books: role.message_books(),
            batch_books: replication.books(),
            code_version: role.code.version,
            code_digest: format!("{:032x}", role.code.digest),
            tables: tables.collect(),
            applied: applied.to_vec(),
            peers: peers.collect(),
            lag_p50_ns: lag.p50_ns,
            lag_p99_ns: lag.p99_ns,
            lag_max_ns: lag.max_ns,
            parked_now: status.as_ref().map_or(0, |status| status.parked),
            commits_waiting: status.as_ref().map_or(0, |status| status.commits_waiting),
            unconfirmed_now: status.as_ref().map_or(0, |status| status.unconfirmed),
            life: role.counters,
            counters,
            replication,
        }
    }
}
