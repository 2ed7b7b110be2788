//! What each path of the admin interface answers (DESIGN section 6).

use std::sync::Arc;
use std::sync::atomic::Ordering;

use serde_json::{Value, json};

use crate::clock;
use crate::front::latency::Latency;
use crate::http1::head::Method;
use crate::mesh::lives::Life;
use crate::worker::WorkerStatus;

use super::history::History;
use super::server::{Asked, Reply};
use super::{Cluster, claim, console, metrics, rejects, servers};

/// Answers one request.
pub async fn answer(cluster: &Arc<Cluster>, history: &History, asked: Asked) -> Reply {
    let parts: Vec<&str> = asked.path.trim_matches('/').split('/').collect();
    match (asked.method, parts.as_slice()) {
        (Method::Get | Method::Head, [] | [""] | ["console", ..]) => {
            console::file(&asked.path).unwrap_or_else(|| Reply::text(404, "the console has no such file"))
        }
        (Method::Get | Method::Head, ["status"]) => Reply::json(&status(cluster).await),
        (Method::Get | Method::Head, ["history"]) => Reply::json(&history.to_json(cluster.started_unix_ms)),
        (Method::Get | Method::Head, ["metrics"]) => Reply {
            status: 200,
            content_type: "text/plain; version=0.0.4",
            body: {
                let workers = cluster.statuses().await;
                metrics::render(&report(cluster, &workers), &workers).into_bytes()
            },
        },
        (Method::Get | Method::Head, ["replication"]) => Reply::json(&replication(cluster).await),
        (Method::Get | Method::Head, ["rejects"]) => Reply::json(&rejects::to_json(&cluster.rejects().await)),
        (Method::Get | Method::Head, ["rejects", "text"]) => {
            Reply::text(200, rejects::to_text(&cluster.rejects().await))
        }
        (Method::Get | Method::Head, ["claim"]) => Reply::json(&claim::chart(cluster).await),
        (Method::Post, ["servers", "replica", number, order]) => {
            servers::replica(cluster, number, order, &asked.query).await
        }
        (Method::Post, ["servers", "front", number, order @ ("drain" | "start")]) => {
            servers::front(cluster, number, order)
        }
        (Method::Post, ["deploy"]) => deploy(cluster, &asked.body).await,
        (
            _,
            ["" | "events" | "history" | "status" | "metrics" | "replication" | "rejects" | "claim"]
            | ["rejects", "text"]
            | ["console", ..],
        ) => Reply::text(405, "this can only be read (GET)"),
        (_, ["deploy"] | ["servers", _, _, _]) => Reply::text(405, "this is an order (POST)"),
        (_, _) => Reply::text(
            404,
            "there are /events /history /status /metrics /rejects /claim /replication /deploy /servers/replica/N/stop|start|hang|hang-job|panic|crash /servers/front/N/drain|start",
        ),
    }
}

/// The whole status as JSON.
pub async fn status(cluster: &Cluster) -> Value {
    report(cluster, &cluster.statuses().await)
}

/// The same from what the workers said.
fn report(cluster: &Cluster, workers: &[WorkerStatus]) -> Value {
    let database = &cluster.database_statistics;
    let health = database.board.read(clock::monotonic_ns());
    let count = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
    let imports: Vec<Value> = cluster.storage.imports().iter().map(|import| import.to_json(20)).collect();
    let mut latency = Latency::default();
    workers.iter().filter_map(|worker| worker.front.as_ref()).for_each(|front| latency.merge(&front.latency));
    json!({
        "name": cluster.profile.cluster.name,
        "profile": cluster.profile.file,
        "version": env!("CARGO_PKG_VERSION"),
        "engine": cluster.engine.kind.name(),
        "engine_reason": cluster.engine.reason,
        "http": cluster.http.to_string(),
        "admin": cluster.admin.to_string(),
        "uptime_ms": clock::unix_ms().saturating_sub(cluster.started_unix_ms),
        "code_version": cluster.code().version,
        "site_version": cluster.site().version,
        "latency": latency,
        "books": books(cluster, workers),
        "servers": servers::lives(cluster),
        "workers": workers,
        "database": {
            "kind": cluster.profile.database.kind.name(),
            "path": cluster.database_place,
            "state": health.state.name(),
            "state_since_ms": if health.since_ms == 0 { cluster.started_unix_ms } else { health.since_ms },
            "last_error": health.last_error.as_ref().map(|(sentence, _)| sentence),
            "last_error_ms": health.last_error.as_ref().map(|(_, unix_ms)| unix_ms),
            "waiting": cluster.database.waiting(),
            "waiting_bytes": cluster.database.waiting_bytes(),
            "oldest_waiting_ns": health.oldest_waiting_ns,
            "queue_refused": cluster.database.refused(),
            "refused_early": health.refused_early,
            "torn_bytes": health.torn_bytes,
            "writes": {
                "taken": health.writes.taken,
                "committed": health.writes.committed,
                "conflicted": health.writes.conflicted,
                "failed": health.writes.failed,
                "unknown": health.writes.unknown,
                "waiting": health.writes.waiting,
            },
            "groups": count(&database.groups),
            "orders": count(&database.orders),
            "updates": count(&database.updates),
            "conflicts": count(&database.conflicts),
            "failures": count(&database.failures),
            "group_max": count(&database.group_max),
            "group_ns": count(&database.group_ns),
        },
        "log": crate::log::counters(),
        "appliances": neighbors(cluster),
        "access_log": cluster.access_log.as_ref().map(|log| log.read()),
        "storage": {
            "executor": cluster.storage.executor().name(),
            "orders_waiting": cluster.storage.waiting(),
            "agents": cluster.storage.agents_json(),
            "imports": imports,
        },
    })
}

/// The appliances that share the database, and how far this one follows the others; null for one that is alone.
pub fn neighbors(cluster: &Cluster) -> Value {
    let Some(neighbors) = &cluster.neighbors else { return Value::Null };
    let seen = neighbors.read();
    let level_ns = clock::monotonic_ns().saturating_sub(seen.level_ns);
    let members = seen.members.iter().map(|member| {
        json!({
            "member": member.appliance,
            "name": member.name,
            "started_ms": member.started_ms,
            "alive": member.alive,
            "position": member.position,
        })
    });
    json!({
        "me": neighbors.me.appliance,
        "members": members.collect::<Vec<_>>(),
        "alive": seen.members.iter().filter(|member| member.alive).count(),
        "position": seen.position,
        "head": seen.head,
        "behind": seen.behind(),
        "level_age_ms": (seen.level_ns > 0).then_some(level_ns / 1_000_000),
        "updates": seen.updates,
        "reloads": seen.reloads,
        "taken_over": seen.taken_over,
        "refused_code": seen.refused,
    })
}

/// What was taken, less what was answered, refused, aborted and is in progress: by kind, each server's error counted
/// whatever its sign. Each entry is 0, or something was lost or counted twice.
pub fn books(cluster: &Cluster, workers: &[WorkerStatus]) -> Value {
    let database = cluster.database_statistics.board.read(clock::monotonic_ns()).writes.books();
    let agents = cluster.storage.books().books();
    let sum = |entries: &mut dyn Iterator<Item = i64>| entries.map(i64::unsigned_abs).sum::<u64>();
    let fronts = || workers.iter().filter_map(|worker| worker.front.as_ref());
    let replicas = || workers.iter().filter_map(|worker| worker.replica.as_ref());
    let requests = fronts().flat_map(|front| [front.books, front.flights_books]);
    json!({
        "requests": sum(&mut requests.chain(replicas().map(|replica| replica.books))),
        "writes": sum(&mut replicas().map(|replica| replica.write_books).chain([database])),
        "replication": sum(&mut replicas().map(|replica| replica.batch_books)),
        "agents": agents.unsigned_abs(),
    })
}

/// Per replica: digest of every table, applied positions, lag. `equal` says that all that hold anything hold the same;
/// one that is stopped holds nothing, and one that does not report is not known to.
pub async fn replication(cluster: &Cluster) -> Value {
    let statuses = cluster.statuses().await;
    let replicas: Vec<_> = statuses.iter().filter_map(|status| status.replica.as_ref()).collect();
    let holding: Vec<_> = replicas.iter().filter(|replica| replica.state != Life::Stopped.as_str()).collect();
    let equal =
        holding.windows(2).all(|pair| pair[0].tables == pair[1].tables && pair[0].code_digest == pair[1].code_digest);
    let all_report = replicas.len() == cluster.layout.replica_workers.len();
    json!({
        "equal": equal && all_report && !holding.is_empty(),
        "servers": servers::lives(cluster),
        "replicas": replicas,
    })
}

/// What `twintier deploy` sends.
#[derive(serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Deploy {
    pub application: String,
    /// Path and text of every code table.
    pub sources: Vec<(String, String)>,
}

async fn deploy(cluster: &Cluster, body: &[u8]) -> Reply {
    let deploy: Deploy = match serde_json::from_slice(body) {
        Ok(deploy) => deploy,
        Err(error) => {
            return Reply::text(400, format!("the body is no deploy: {error}; send it with `twintier deploy`"));
        }
    };
    let tables = deploy.sources.len();
    match cluster.deploy(&deploy.application, deploy.sources).await {
        Ok(version) => {
            Reply::json(&json!({ "application": deploy.application, "code_tables": tables, "version": version }))
        }
        Err(wrong) => {
            let (first, faults) = (wrong.lines().next().unwrap_or(""), wrong.lines().count());
            log::warn!(application = deploy.application.as_str(), error = first, faults; "the deploy has failed");
            Reply::text(422, wrong)
        }
    }
}
