//! What the log says of a start and an end.

use signal_hook::consts::{SIGINT, SIGTERM};

use super::Failure;
use crate::admin::{self, Cluster};
use crate::budget::Budget;
use crate::clock;
use crate::engine::probe::Chosen;
use crate::engine::{self, Address, EngineKind};
use crate::profile::Profile;
use crate::worker::WorkerStatus;
use crate::worker::placement::Placement;

pub(super) fn tell_start(profile: &Profile, placement: &Placement) {
    log::info!(
        version = env!("CARGO_PKG_VERSION"), commit = option_env!("TWINTIER_COMMIT").unwrap_or(""),
        profile:% = profile.file.display(), workers = placement.workers.len(), fronts = placement.fronts(),
        replicas = placement.replicas(), cores:% = cores_of(placement), housekeeping = placement.housekeeping;
        "starting"
    );
    for remark in &placement.remarks {
        log::warn!(remark = remark.as_str(); "the placement is not what a measurement wants");
    }
}

pub(super) fn tell_engine(chosen: &Chosen) {
    let (engine, reason) = (chosen.kind.name(), chosen.reason.as_str());
    if chosen.fallback {
        log::warn!(engine, reason; "a better engine does not work here");
    } else {
        log::info!(engine, reason; "the engine is chosen");
    }
}

/// The one line on standard output. Scripts wait for it.
pub(super) fn tell_ready(http: &Address, admin: &Address, engine: EngineKind, workers: usize) -> String {
    let line = format!("http={http} admin={admin} engine={engine} workers={workers}");
    println!("ready {line}");
    log::info!(http:%, admin:%, engine = engine.name(), workers; "ready");
    line
}

/// Raises what can be raised, and tells what is too low.
pub(super) fn tell_limits(profile: &Profile, placement: &Placement) {
    let (descriptors, wanted) = (engine::thread::raise_descriptor_limit(), Budget::of(profile, placement).descriptors);
    if descriptors < wanted {
        log::warn!(
            descriptors, wanted, cure = "raise `ulimit -Hn`, LimitNOFILE= of the unit, or lower engine.connections_max";
            "the limit of descriptors is lower than what the profile may need"
        );
    } else {
        log::info!(descriptors, wanted; "the limit of descriptors is raised");
    }
}

/// `0,1,4`: the cores of the workers in their order.
fn cores_of(placement: &Placement) -> String {
    let cores: Vec<String> = placement.workers.iter().map(|worker| worker.cpu.number.to_string()).collect();
    cores.join(",")
}

/// Why the appliance ends, and that it drains now.
pub(super) fn tell_end(outcome: &Result<(), Failure>, signal: usize) {
    let name = [SIGTERM, SIGINT]
        .into_iter()
        .zip(["SIGTERM", "SIGINT"])
        .find(|(number, _)| usize::try_from(*number) == Ok(signal));
    match outcome {
        Ok(()) => log::info!(signal = name.map_or("", |(_, name)| name); "draining: no new connection is taken"),
        Err(failure) => log::error!(error = failure.message.as_str(); "a thread has ended, and with it the appliance"),
    }
}

/// The last line of an orderly end: what was served, and that nothing was lost or counted twice.
pub(super) fn tell_books(cluster: &Cluster, statuses: &[WorkerStatus]) {
    let books = admin::api::books(cluster, statuses);
    let of = |name: &str| books[name].as_u64().unwrap_or(0);
    let requests: u64 =
        statuses.iter().filter_map(|status| status.front.as_ref()).map(|front| front.counters.requests_taken).sum();
    let writes = cluster.database_statistics.board.read(clock::monotonic_ns()).writes.committed;
    let uptime_ms = clock::unix_ms().saturating_sub(cluster.started_unix_ms);
    let (books_requests, books_writes) = (of("requests"), of("writes"));
    let (books_replication, books_agents) = (of("replication"), of("agents"));
    let level = if books_requests + books_writes + books_replication + books_agents == 0 {
        log::Level::Info
    } else {
        log::Level::Error
    };
    log::log!(
        level, requests, writes, books_requests, books_writes, books_replication, books_agents, uptime_ms;
        "ended"
    );
}

pub(super) fn since_ms(begun_ns: u64) -> u64 {
    clock::monotonic_ns().saturating_sub(begun_ns) / 1_000_000
}
