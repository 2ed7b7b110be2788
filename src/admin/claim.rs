//! The claim chart: each element of claim 1 of US 6,965,938, what it is here, live evidence, and whether it holds.
//!
//! Evidence is taken from the running process: the admin thread first plays a browser for a moment, so that every
//! dispatcher has decided something, and then reads what the servers report.

use std::time::Duration;

use serde_json::{Value, json};

use crate::authority::table::{Verb, roles_of};
use crate::http1::head::Method;
use crate::profile::DatabaseKind;
use crate::storage::site::Target;
use crate::tables::code::{CodeKind, CodeVersion};

use super::{Cluster, api, client};

/// Requests that the chart's own browser sends to each application.
const PROBES: usize = 8;

/// Makes the chart.
pub async fn chart(cluster: &Cluster) -> Value {
    let probes = probe(cluster).await;
    let replication = settled(cluster).await;
    let status = api::status(cluster).await;
    let elements = elements(cluster, &status, &replication, &probes);
    let holds = elements.iter().all(|element| element["holds"] == true);
    json!({ "claim": "US 6,965,938 claim 1", "holds": holds, "elements": elements })
}

/// Whether every element holds.
pub fn holds(chart: &Value) -> bool {
    chart["holds"] == true
}

/// The chart as text.
pub fn render(chart: &Value) -> String {
    let mut out = String::new();
    for element in chart["elements"].as_array().into_iter().flatten() {
        let mark = if element["holds"] == true { "holds" } else { "FAILS" };
        let text = |key: &str| element[key].as_str().unwrap_or("").to_string();
        out.push_str(&format!("{mark}  {}\n       here: {}\n", text("element"), text("here")));
        for line in element["evidence"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            out.push_str(&format!("       - {line}\n"));
        }
    }
    out.push_str(if holds(chart) {
        "Every element of the claim holds.\n"
    } else {
        "Not every element of the claim holds.\n"
    });
    out
}

/// What the chart's browser saw: path and status of each request.
struct Probe {
    path: String,
    statuses: Vec<u16>,
}

/// Plays a browser: a few connections to every application's start page, from a thread of its own so that the admin
/// thread stays free.
async fn probe(cluster: &Cluster) -> Vec<Probe> {
    let site = cluster.site();
    let mounts =
        site.table.routes().iter().zip(&site.targets).filter(|(_, target)| matches!(target, Target::Cluster { .. }));
    let paths: Vec<String> = mounts.map(|(route, _)| format!("{}/", route.mount)).collect();
    let http = cluster.http.clone();
    let (sender, receiver) = crossbeam::channel::bounded(1);
    let browse = move || {
        let visit = |path: &String| {
            let ask =
                || client::request(&http, Method::Get, path, &[("accept", "text/html")], b"", Duration::from_secs(5));
            Probe {
                path: path.clone(),
                statuses: (0..PROBES).filter_map(|_| ask().ok()).map(|answer| answer.status).collect(),
            }
        };
        let _ = sender.send(paths.iter().map(visit).collect::<Vec<_>>());
    };
    if std::thread::Builder::new().name("claim-browser".into()).spawn(browse).is_err() {
        return Vec::new();
    }
    for _ in 0..10_000 {
        if let Ok(probes) = receiver.try_recv() {
            return probes;
        }
        monoio::time::sleep(Duration::from_millis(2)).await;
    }
    Vec::new()
}

/// Replication, given a moment to settle: writes may be under way, and a new process has yet to do its first sweep.
async fn settled(cluster: &Cluster) -> Value {
    let swept = |replication: &Value| {
        let mut replicas = replication["replicas"].as_array().into_iter().flatten();
        replicas.all(|replica| replica["sweeps"].as_u64().unwrap_or(0) > 0)
    };
    let mut replication = api::replication(cluster).await;
    let patience_ms = 2_000 + 2 * cluster.profile.replication.sweep_ms;
    for _ in 0..patience_ms / 10 {
        if replication["equal"] == true && swept(&replication) {
            break;
        }
        monoio::time::sleep(Duration::from_millis(10)).await;
        replication = api::replication(cluster).await;
    }
    replication
}

fn element(name: &str, here: &str, evidence: Vec<String>, holds: bool) -> Value {
    json!({ "element": name, "here": here, "evidence": evidence, "holds": holds })
}

fn elements(cluster: &Cluster, status: &Value, replication: &Value, probes: &[Probe]) -> Vec<Value> {
    let workers: Vec<&Value> = status["workers"].as_array().into_iter().flatten().collect();
    let fronts: Vec<&Value> = workers.iter().map(|worker| &worker["front"]).filter(|front| front.is_object()).collect();
    let replicas: Vec<&Value> =
        workers.iter().map(|worker| &worker["replica"]).filter(|replica| replica.is_object()).collect();
    let mut chart = first_tier(cluster, &fronts, probes);
    chart.extend(storage_unit(cluster, status, &fronts, &replicas, replication));
    chart.extend(database(cluster, status));
    chart
}

fn sum(servers: &[&Value], path: &str) -> u64 {
    servers.iter().filter_map(|server| server.pointer(path)?.as_u64()).sum()
}

fn last(servers: &[&Value], key: &str) -> String {
    let decisions = servers.iter().filter_map(|server| server[key].as_array()?.last()?.as_str());
    decisions.fold("none yet", |_, decision| decision).to_string()
}

fn first_tier(cluster: &Cluster, fronts: &[&Value], probes: &[Probe]) -> Vec<Value> {
    let taken = sum(fronts, "/counters/requests_taken");
    let answered = probes.iter().flat_map(|probe| &probe.statuses).filter(|status| **status < 500).count();
    let seen =
        probes.iter().map(|probe| format!("a browser of this chart asked for {}: {:?}", probe.path, probe.statuses));
    let site = cluster.site();
    let applications: Vec<&str> =
        cluster.profile.applications.iter().map(|application| application.name.as_str()).collect();
    let per_front = |key: &str| {
        fronts
            .iter()
            .map(|front| front.pointer(key).cloned().unwrap_or_default().to_string())
            .collect::<Vec<_>>()
            .join(", ")
    };
    let same_site = fronts.iter().all(|front| front["site_version"] == json!(site.version));
    vec![
        element(
            "browsers that send requests",
            "loadgen, any browser",
            std::iter::once(format!("{taken} requests taken over {}", cluster.http)).chain(seen).collect(),
            taken > 0 && answered > 0,
        ),
        element(
            "a first cluster of identical first servers",
            "front servers",
            vec![
                format!(
                    "{} front servers in one process, all with version {} of the statements",
                    fronts.len(),
                    site.version
                ),
                format!("requests taken by each: {}", per_front("/counters/requests_taken")),
            ],
            fronts.len() >= 2 && same_site,
        ),
        element(
            "a first network dispatcher that spreads requests by current workload",
            "dispatch/connections: new connections go to the front with the least work",
            vec![
                format!("work now, by front: {}", per_front("/load")),
                format!(
                    "connections accepted {}, handed to another front {}",
                    sum(fronts, "/counters/connections_accepted"),
                    sum(fronts, "/counters/connections_handed_off")
                ),
                format!("last decision: {}", last(fronts, "connection_decisions")),
            ],
            fronts
                .iter()
                .any(|front| front["connection_decisions"].as_array().is_some_and(|decisions| !decisions.is_empty())),
        ),
        element(
            "the first servers route requests among several enterprise applications",
            "front/, statements/",
            vec![format!("applications: {}", applications.join(", "))],
            applications.len() >= 2 && probes.iter().all(|probe| !probe.statuses.is_empty()) && probes.len() >= 2,
        ),
    ]
}

fn storage_unit(
    cluster: &Cluster,
    status: &Value,
    fronts: &[&Value],
    replicas: &[&Value],
    replication: &Value,
) -> Vec<Value> {
    let site = cluster.site();
    let code = cluster.code();
    let proxies =
        site.targets.iter().filter(|target| matches!(target, Target::Cluster { .. } | Target::Upstream { .. })).count();
    let statements = site.table.routes().iter().map(|route| format!("line {}: {}", route.line, route.pattern));
    let same_code = replicas.iter().all(|replica| {
        replica["code_version"] == json!(code.version) && replica["code_digest"] == replicas[0]["code_digest"]
    });
    let tables = replicas.first().and_then(|replica| replica["tables"].as_array().cloned()).unwrap_or_default();
    let rows: u64 = tables.iter().filter_map(|table| table["rows"].as_u64()).sum();
    let code_tables: usize = code.applications.iter().map(|application| application.code_tables.len()).sum();
    let rules: usize = code.applications.iter().map(|application| application.authority.rules().len()).sum();
    let (decisions, allowed) = ask_authority(&code);
    let executed = sum(replicas, "/executed");
    let agents = &status["storage"]["agents"];
    let imports = status["storage"]["imports"].as_array().map_or(0, Vec::len);
    let picked = sum(fronts, "/dispatched_local") + sum(fronts, "/dispatched_remote");
    vec![
        element(
            "a storage and execution unit that stores and runs an application of code tables and data",
            "storage/, replica/, tables/",
            vec![
                format!(
                    "{code_tables} code tables in version {}, {} data tables with {rows} rows",
                    code.version,
                    tables.len()
                ),
                format!("{executed} jobs executed"),
            ],
            code_tables > 0 && executed > 0,
        ),
        element(
            "a file server whose configuration-file proxy statements map requests to the second cluster",
            "storage/files, statements/",
            std::iter::once(format!(
                "{} statements of {}",
                site.targets.len(),
                cluster.profile.storage.statements.display()
            ))
            .chain(statements)
            .collect(),
            proxies > 0,
        ),
        element(
            "a second cluster of identical second servers",
            "replica servers",
            vec![
                format!(
                    "{} replica servers, code version {}, digest {}",
                    replicas.len(),
                    code.version,
                    replicas.first().map_or(Value::Null, |replica| replica["code_digest"].clone())
                ),
                format!(
                    "jobs executed by each: {:?}",
                    replicas.iter().map(|replica| replica["executed"].as_u64().unwrap_or(0)).collect::<Vec<_>>()
                ),
            ],
            replicas.len() >= 2 && same_code,
        ),
        element(
            "a second network dispatcher that spreads requests by current workload",
            "dispatch/requests: local-first JBSQ by queue depth",
            vec![
                format!(
                    "{picked} requests dispatched, {} to the own core, {} to another",
                    sum(fronts, "/dispatched_local"),
                    sum(fronts, "/dispatched_remote")
                ),
                format!("last decision: {}", last(fronts, "request_decisions")),
            ],
            picked > 0,
        ),
        element(
            "the second servers periodically replicate code tables and data to each other",
            "replication/: delta logs over the mesh and a periodic digest sweep",
            vec![
                format!(
                    "sweeps done by each: {:?}",
                    replicas.iter().map(|replica| replica["sweeps"].as_u64().unwrap_or(0)).collect::<Vec<_>>()
                ),
                format!("digests of all tables and of the code equal on every replica: {}", replication["equal"]),
            ],
            replication["equal"] == true && replicas.iter().all(|replica| replica["sweeps"].as_u64().unwrap_or(0) > 0),
        ),
        element(
            "a first code table that authorizes access to the other code tables by role",
            "the authority code table of every application",
            vec![format!("{rules} rules, no default allow"), format!("asked now, {}", decisions.join("; "))],
            rules > 0 && allowed > 0 && allowed < decisions.len(),
        ),
        element(
            "an application server that runs agents asynchronously and bridges to the database server and back-end servers",
            "storage/agents on the storage thread",
            vec![
                format!("agents done {}, failed {}, running {}", agents["done"], agents["failed"], agents["running"]),
                format!(
                    "imports ordered since the start: {imports}, requests to back-end servers: {}",
                    agents["backend_requests"]
                ),
                format!("back-end servers: {:?}", cluster.profile.backends),
            ],
            agents.is_object() && !cluster.profile.backends.is_empty(),
        ),
    ]
}

/// Asks the authority tables in force about a visitor and every code table.
fn ask_authority(code: &CodeVersion) -> (Vec<String>, usize) {
    let (mut lines, mut allowed) = (Vec::new(), 0);
    for application in &code.applications {
        for table in &application.code_tables {
            let verb = match table.kind {
                CodeKind::View => Verb::Read,
                CodeKind::Form => Verb::Open,
                CodeKind::Action => Verb::Run,
                CodeKind::Application
                | CodeKind::Authority
                | CodeKind::Document
                | CodeKind::Agent
                | CodeKind::Template => continue,
            };
            let decision = application.authority.decide(roles_of(None), &table.name, verb);
            allowed += usize::from(decision.is_allow());
            let word = if decision.is_allow() { "may" } else { "may not" };
            lines.push(format!("a visitor {word} {} {}/{}", verb.name(), application.name, table.name));
        }
    }
    (lines, allowed)
}

fn database(cluster: &Cluster, status: &Value) -> Vec<Value> {
    let database = &status["database"];
    let replica = status["workers"].as_array().into_iter().flatten().find(|worker| worker["replica"].is_object());
    let tables = replica.and_then(|worker| worker["replica"]["tables"].as_array().cloned()).unwrap_or_default();
    let rows = |name: &str| {
        tables.iter().find(|table| table["table"] == name).and_then(|table| table["rows"].as_u64()).unwrap_or(0)
    };
    vec![
        element(
            "a relational database that holds data tables and user profiles with roles",
            match cluster.profile.database.kind {
                DatabaseKind::Duckdb => "DuckDB, embedded",
                DatabaseKind::Postgres => "PostgreSQL, which other appliances may share",
            },
            vec![
                format!("{} at {}", cluster.profile.database.kind.name(), cluster.database_place),
                format!("user profiles: {}, data tables: {}", rows("user_profile"), tables.len()),
            ],
            rows("user_profile") > 0,
        ),
        element(
            "a database server between the database and everyone else",
            "database/server, the only owner of a connection",
            vec![
                format!(
                    "{} orders in {} group commits, {} conflicts sent back, {} failures, {} waiting",
                    database["orders"],
                    database["groups"],
                    database["conflicts"],
                    database["failures"],
                    database["waiting"]
                ),
                match database["last_error"].as_str() {
                    Some(error) => format!("the database is {}; its last error: {error}", database["state"]),
                    None => format!("the database is {}", database["state"]),
                },
            ],
            database["groups"].is_u64(),
        ),
    ]
}
