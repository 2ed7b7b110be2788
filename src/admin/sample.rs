//! What one event of the console tells: the present state, and rates and quantiles of the time since the event before.
//!
//! Rates come from two reports of the same server and the time between them. A server that does not report (it hangs,
//! or the machine is busy) keeps its last counts, has no rates, and is called `silent`.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::clock;
use crate::front::latency::Histogram;
use crate::worker::WorkerStatus;
use crate::worker::status::{FrontStatus, ReplicaStatus};

use super::{Cluster, api, servers};

/// Upstream servers that an event names at most; a picture of more could not be read.
const UPSTREAMS_MAX: usize = 16;

/// What a server that does not report has not.
const RATES: [&str; 5] = ["rate_per_s", "failed_per_s", "p50_us", "p99_us", "cpu_percent"];

/// The last report of one worker, what it showed, and when it came.
#[derive(Debug)]
struct Known {
    at_ns: u64,
    status: WorkerStatus,
    shown_front: Option<Value>,
    shown_replica: Option<Value>,
}

/// Remembers the reports behind the last event.
#[derive(Debug, Default)]
pub struct Sampler {
    workers: BTreeMap<usize, Known>,
    commits: Option<Counted>,
}

/// A counter and when it was read.
#[derive(Clone, Copy, Debug)]
struct Counted {
    at_ns: u64,
    commits: u64,
    updates: u64,
}

/// Sums over all servers.
#[derive(Debug, Default)]
struct Total {
    latency: Histogram,
    rate_per_s: Option<f64>,
    refused_per_s: Option<f64>,
    failed_per_s: Option<f64>,
    /// `None` if no front reports.
    held: Option<Held>,
    lag_updates: u64,
    lag_p99_ns: u64,
}

/// What the fronts that report hold, and what they have rejected.
#[derive(Clone, Copy, Debug, Default)]
struct Held {
    connections: u64,
    in_progress: u64,
    waiting: u64,
    rejected: u64,
}

/// Events a second between two readings; `None` if there is no earlier one.
fn rate(now: u64, before: Option<u64>, elapsed_ns: u64) -> Option<f64> {
    let before = before?;
    // Counters are far below 2^53.
    (elapsed_ns > 0).then(|| now.saturating_sub(before) as f64 * 1e9 / elapsed_ns as f64)
}

/// To a tenth: an event is read by people.
fn rounded(value: Option<f64>) -> Value {
    value.map_or(Value::Null, |value| json!((value * 10.0).round() / 10.0))
}

fn add(sum: &mut Option<f64>, rate: Option<f64>) {
    if let Some(rate) = rate {
        *sum = Some(sum.unwrap_or_default() + rate);
    }
}

/// A quantile in microseconds; null if nothing was counted.
fn quantile_us(histogram: &Histogram, share: f64) -> Value {
    if histogram.count() == 0 { Value::Null } else { rounded(Some(histogram.quantile_ns(share) as f64 / 1e3)) }
}

impl Sampler {
    /// The next event, from what the workers said at `now_ns`.
    pub fn take(&mut self, cluster: &Cluster, workers: Vec<WorkerStatus>, now_ns: u64) -> Value {
        let books = api::books(cluster, &workers);
        let reporting: Vec<usize> = workers.iter().map(|worker| worker.worker).collect();
        let mut total = Total::default();
        for status in workers {
            self.note(status, now_ns, &mut total);
        }
        let (fronts, replicas) = self.shown(cluster, &reporting);
        let database = self.database(cluster, now_ns);
        let storage = &cluster.storage;
        let imports: Vec<Value> = storage.imports().iter().map(|import| import.to_json(0)).collect();
        let code = cluster.code();
        json!({
            "at_ms": clock::unix_ms(),
            "started_ms": cluster.started_unix_ms,
            "name": cluster.profile.cluster.name,
            "version": env!("CARGO_PKG_VERSION"),
            "engine": cluster.engine.kind.name(),
            "http": cluster.http.to_string(),
            "applications": code.applications.iter().map(|application| &*application.name).collect::<Vec<_>>(),
            "code_version": code.version,
            "site_version": cluster.site().version,
            "total": {
                "rate_per_s": rounded(total.rate_per_s),
                "refused_per_s": rounded(total.refused_per_s),
                "failed_per_s": rounded(total.failed_per_s),
                "p50_us": quantile_us(&total.latency, 0.5),
                "p99_us": quantile_us(&total.latency, 0.99),
                "connections": total.held.map(|held| held.connections),
                "in_progress": total.held.map(|held| held.in_progress),
                "waiting": total.held.map(|held| held.waiting),
                "rejected": total.held.map(|held| held.rejected),
                "lag_updates": total.lag_updates,
                "lag_p99_us": rounded(Some(total.lag_p99_ns as f64 / 1e3)),
            },
            "books": books,
            "fronts": fronts,
            "replicas": replicas,
            "upstreams": self.upstreams(),
            "database": database,
            "appliances": api::neighbors(cluster),
            "agents": storage.agents_json(),
            "storage": { "executor": storage.executor().name(), "orders_waiting": storage.waiting() },
            "imports": imports.iter().map(import).collect::<Vec<_>>(),
        })
    }

    /// Compares a worker's report with its last one.
    fn note(&mut self, status: WorkerStatus, now_ns: u64, total: &mut Total) {
        let before = self.workers.get(&status.worker);
        let elapsed_ns = before.map_or(0, |known| now_ns.saturating_sub(known.at_ns));
        let cpu_percent =
            rate(status.cpu_ns, before.map(|known| known.status.cpu_ns), elapsed_ns).map(|ns_per_s| ns_per_s / 1e7);
        let machine = json!({ "worker": status.worker, "core": status.core, "cpu_percent": rounded(cpu_percent) });
        let shown_front = status.front.as_ref().map(|now| {
            let earlier = before.and_then(|known| known.status.front.as_ref());
            merged(&machine, front(now, earlier, elapsed_ns, total))
        });
        let shown_replica = status.replica.as_ref().map(|now| {
            let earlier = before.and_then(|known| known.status.replica.as_ref());
            merged(&machine, replica(now, earlier, elapsed_ns, total))
        });
        self.workers.insert(status.worker, Known { at_ns: now_ns, status, shown_front, shown_replica });
    }

    /// The servers in the order of their numbers.
    fn shown(&self, cluster: &Cluster, reporting: &[usize]) -> (Vec<Value>, Vec<Value>) {
        let fronts = cluster.layout.front_workers.iter().enumerate().map(|(number, worker)| {
            let known = self.workers.get(worker).and_then(|known| known.shown_front.clone());
            let mut shown = known.unwrap_or_else(|| json!({ "front": number, "worker": worker }));
            if !reporting.contains(worker) {
                shown["state"] = json!("silent");
                forget_rates(&mut shown);
            }
            shown
        });
        let outstanding = |replica: usize| -> u64 {
            let fronts = self.workers.values().filter_map(|known| known.status.front.as_ref());
            fronts.filter_map(|front| front.outstanding.get(replica)).map(|jobs| u64::from(*jobs)).sum()
        };
        let lives = servers::lives(cluster);
        let replicas = cluster.layout.replica_workers.iter().enumerate().map(|(number, worker)| {
            let known = self.workers.get(worker).and_then(|known| known.shown_replica.clone());
            let mut shown = known.unwrap_or_else(|| json!({ "replica": number, "worker": worker }));
            // The board knows better than a report how it stands: also of one that hangs.
            shown["state"] = lives[number]["state"].clone();
            shown["incarnation"] = lives[number]["incarnation"].clone();
            let silent = !reporting.contains(worker);
            shown["silent"] = json!(silent);
            if silent {
                forget_rates(&mut shown);
            }
            shown["outstanding"] = json!(outstanding(number));
            shown
        });
        (fronts.collect(), replicas.collect())
    }

    fn database(&mut self, cluster: &Cluster, now_ns: u64) -> Value {
        let health = cluster.database_statistics.board.read(now_ns);
        let updates = cluster.database_statistics.updates.load(std::sync::atomic::Ordering::Relaxed);
        let now = Counted { at_ns: now_ns, commits: health.writes.committed, updates };
        let before = self.commits.replace(now);
        let elapsed_ns = before.map_or(0, |before| now_ns.saturating_sub(before.at_ns));
        json!({
            "kind": cluster.profile.database.kind.name(),
            "path": cluster.database_place,
            "state": health.state.name(),
            "last_error": health.last_error.as_ref().map(|(sentence, _)| sentence),
            "waiting": cluster.database.waiting(),
            "oldest_waiting_us": health.oldest_waiting_ns / 1000,
            "refused": cluster.database.refused() + health.refused_early,
            "commits_per_s": rounded(rate(now.commits, before.map(|before| before.commits), elapsed_ns)),
            "updates_per_s": rounded(rate(now.updates, before.map(|before| before.updates), elapsed_ns)),
            "committed": health.writes.committed,
            "conflicted": health.writes.conflicted,
            "failed": health.writes.failed,
            "unknown": health.writes.unknown,
        })
    }

    /// Upstream servers of proxy statements, each once for all fronts. The worst state that a front sees counts.
    fn upstreams(&self) -> Vec<Value> {
        let mut servers: BTreeMap<&str, (&str, u64, u64)> = BTreeMap::new();
        let fronts = self.workers.values().filter_map(|known| known.status.front.as_ref());
        for upstream in fronts.flat_map(|front| &front.upstreams) {
            let entry = servers.entry(&upstream.address).or_insert(("up", 0, 0));
            if upstream.state != "up" {
                entry.0 = upstream.state;
            }
            entry.1 += u64::from(upstream.outstanding);
            entry.2 += upstream.requests;
        }
        let show = |(address, (state, outstanding, requests)): (&str, (&str, u64, u64))| json!({ "address": address, "state": state, "outstanding": outstanding, "requests": requests });
        servers.into_iter().take(UPSTREAMS_MAX).map(show).collect()
    }
}

fn front(now: &FrontStatus, before: Option<&FrontStatus>, elapsed_ns: u64, total: &mut Total) -> Value {
    let counters = before.map(|before| before.counters);
    let taken = rate(now.counters.requests_taken, counters.map(|counters| counters.requests_taken), elapsed_ns);
    let refused = rate(now.counters.requests_refused, counters.map(|counters| counters.requests_refused), elapsed_ns);
    let failed = rate(now.counters.status_5xx, counters.map(|counters| counters.status_5xx), elapsed_ns);
    let latency = before.map(|before| now.latency.total.since(&before.latency.total)).unwrap_or_default();
    add(&mut total.rate_per_s, taken);
    add(&mut total.refused_per_s, refused);
    add(&mut total.failed_per_s, failed);
    total.latency.merge(&latency);
    let held = total.held.get_or_insert_default();
    held.connections += u64::from(now.open_connections);
    held.in_progress += now.requests_in_progress;
    held.waiting += now.waiting as u64;
    held.rejected += now.rejected;
    json!({
        "front": now.front,
        "state": if now.draining { "draining" } else { "serving" },
        "connections": now.open_connections,
        "in_progress": now.requests_in_progress,
        "waiting": now.waiting,
        "rate_per_s": rounded(taken),
        "failed_per_s": rounded(failed),
        "p50_us": quantile_us(&latency, 0.5),
        "p99_us": quantile_us(&latency, 0.99),
        "site_version": now.site_version,
    })
}

fn replica(now: &ReplicaStatus, before: Option<&ReplicaStatus>, elapsed_ns: u64, total: &mut Total) -> Value {
    let executed = |status: &ReplicaStatus| status.counters.executed;
    let lag_updates = now.peers.iter().filter(|peer| peer.live).map(|peer| peer.lag).max().unwrap_or(0);
    total.lag_updates = total.lag_updates.max(lag_updates);
    total.lag_p99_ns = total.lag_p99_ns.max(now.lag_p99_ns);
    json!({
        "replica": now.replica,
        "rate_per_s": rounded(rate(executed(now), before.map(executed), elapsed_ns)),
        "parked": now.parked_now,
        "commits_waiting": now.commits_waiting,
        "unconfirmed": now.unconfirmed_now,
        "lag_updates": lag_updates,
        "lag_p99_us": rounded(Some(now.lag_p99_ns as f64 / 1e3)),
        "rows": now.tables.iter().map(|table| table.rows).sum::<usize>(),
        "conflicts": now.tables.iter().map(|table| table.conflicts).sum::<usize>(),
        "code_version": now.code_version,
        "code_digest": now.code_digest.get(..12),
    })
}

fn forget_rates(shown: &mut Value) {
    for rate in RATES {
        shown[rate] = Value::Null;
    }
}

/// `machine` and `server` in one object.
fn merged(machine: &Value, server: Value) -> Value {
    let mut merged = machine.clone();
    if let (Some(into), Value::Object(server)) = (merged.as_object_mut(), server) {
        into.extend(server);
    }
    merged
}

/// What the page shows of an import.
fn import(import: &Value) -> Value {
    let keys = ["file", "state", "reason", "taken", "rejected", "bytes", "bytes_total", "records_per_s"];
    Value::Object(keys.iter().map(|key| ((*key).to_owned(), import[*key].clone())).collect())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{Histogram, import, merged, quantile_us, rate, rounded};

    #[test]
    fn a_rate_needs_two_readings_and_time_between_them() {
        assert_eq!(rate(100, Some(50), 500_000_000), Some(100.0));
        assert_eq!(rate(100, None, 500_000_000), None);
        assert_eq!(rate(100, Some(50), 0), None);
        assert_eq!(rate(10, Some(50), 1_000_000_000), Some(0.0), "a server began anew");
        assert_eq!((rounded(Some(1.26)), rounded(None)), (json!(1.3), Value::Null));
    }

    #[test]
    fn no_requests_have_no_quantile() {
        let mut histogram = Histogram::default();
        assert_eq!(quantile_us(&histogram, 0.5), Value::Null);
        histogram.record(1_500_000);
        assert_eq!(quantile_us(&histogram, 0.5), json!(1500.0));
    }

    #[test]
    fn servers_are_shown_with_their_machine_and_imports_without_their_lines() {
        assert_eq!(merged(&json!({ "core": 1 }), json!({ "front": 0 })), json!({ "core": 1, "front": 0 }));
        let shown = import(&json!({ "file": "a", "state": "done", "taken": 3, "rejections": [{ "line": 1 }] }));
        assert_eq!((&shown["file"], &shown["taken"], shown.get("rejections")), (&json!("a"), &json!(3), None));
    }
}
