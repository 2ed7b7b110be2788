//! What must hold: after every turn of a worker, and when all is over.

use crate::engine::sim::Sim;
use crate::replica::server::ReplicaServer;
use crate::storage::agents::WorkState;
use crate::tables::code::{AGENT_WORK, agent_work};
use crate::tables::record::Value;
use crate::tables::{TableId, Update};
use crate::worker::Worker;
use crate::worker::replica_role::ReplicaRole;

use super::application;
use super::backend::Backend;
use super::ledger::{Ledger, Level};
use super::process::Process;

/// Taken is answered, refused, aborted and in progress.
pub fn worker(worker: &Worker<Sim>) -> Result<(), String> {
    if let Some(front) = &worker.front {
        let books = front.server.books();
        if books != 0 {
            return Err(format!(
                "the books of front {} are off by {books}: {:?}",
                front.front,
                front.server.counters()
            ));
        }
        let flights = front.server.flights().books();
        if flights != 0 {
            return Err(format!("the flights of front {} are off by {flights}", front.front));
        }
    }
    if let Some(role) = &worker.replica {
        let jobs = role.books();
        let commits = role.server.as_ref().map_or(0, ReplicaServer::books);
        if jobs != 0 || commits != 0 {
            return Err(format!("the books of replica {} are off by {jobs} jobs and {commits} commits", role.replica));
        }
    }
    Ok(())
}

/// Accepted work is queued, running, waiting, done, failed or left.
pub fn agents(process: &Process) -> Result<(), String> {
    let entries = process.orders.books();
    if entries.books() == 0 { Ok(()) } else { Err(format!("the books of the agents are off: {entries:?}")) }
}

/// Writes taken are committed, conflicted, failed, unknown or waiting.
pub fn database_books(process: &Process) -> Result<(), String> {
    let writes = process.database.statistics().board.read(0).writes;
    if writes.books() == 0 { Ok(()) } else { Err(format!("the books of the database server are off: {writes:?}")) }
}

fn servers(process: &Process) -> Result<Vec<&ReplicaServer>, String> {
    let roles = process.workers.iter().filter_map(|running| running.worker.replica.as_ref());
    let server = |role: &'_ ReplicaRole| match &role.server {
        Some(_) if role.status().running => Ok(()),
        Some(_) | None => Err(format!("replica {} does not run: {:?}", role.replica, role.status())),
    };
    roles.clone().try_for_each(server)?;
    Ok(roles.filter_map(|role| role.server.as_ref()).collect())
}

/// Every replica is ready and holds the same.
pub fn agreement(process: &Process) -> Result<(), String> {
    let replicas = servers(process)?;
    let Some(first) = replicas.first() else { return Err("there is no replica".to_owned()) };
    for replica in &replicas {
        if !replica.is_ready() {
            return Err(format!("replica {} is not ready: {:?}", replica.id(), replica.replicator().report()));
        }
        if replica.code().version != first.code().version {
            return Err(format!(
                "replica {} runs version {}, replica {} version {}",
                replica.id(),
                replica.code().version,
                first.id(),
                first.code().version
            ));
        }
        for table in (0..replica.tables().table_count()).map(TableId) {
            if replica.tables().digest(table) != first.tables().digest(table) {
                return Err(format!(
                    "replicas {} and {} differ in table {}:\n{}\n{}",
                    first.id(),
                    replica.id(),
                    table.0,
                    listed(first, table),
                    listed(replica, table)
                ));
            }
        }
        if replica.parked_count() != 0 {
            return Err(format!("replica {}: {} jobs wait for nothing", replica.id(), replica.parked_count()));
        }
    }
    Ok(())
}

/// Every credit has come back: nothing is out at a replica, and nobody waits for one.
pub fn credits(process: &Process) -> Result<(), String> {
    for front in process.workers.iter().filter_map(|running| running.worker.front.as_ref()) {
        let dispatcher = front.server.dispatcher();
        let out: u32 = dispatcher.replicas().iter().map(|replica| replica.outstanding).sum();
        if out != 0 || dispatcher.waiting() != 0 {
            let waiting = dispatcher.waiting();
            return Err(format!("front {}: {out} requests are out for ever, and {waiting} wait", front.front));
        }
    }
    Ok(())
}

fn listed(replica: &ReplicaServer, table: TableId) -> String {
    let rows = replica.tables().scan(table, 0).map(|row| format!("{} {:?} {:?}", row.key, row.stamp, row.record));
    rows.collect::<Vec<_>>().join("; ")
}

/// The replicas hold what was acknowledged, and the database what was acknowledged as durable. `running` is false when
/// they have just been filled from the database.
pub fn contents(process: &Process, ledger: &mut Ledger, running: bool) -> Result<(), String> {
    let replicas = servers(process)?;
    let Some(replica) = replicas.first() else { return Err("there is no replica".to_owned()) };
    let note = process.code.shapes.id(application::NOTE).ok_or("no table of notes")?;
    let text = |key: &str| {
        let row = replica.tables().get(note, key);
        row.and_then(|row| row.get(0).as_text().map(str::to_owned))
    };
    let mut lost = 0;
    for (key, expected) in &ledger.notes {
        let found = text(key);
        if expected.may_be(found.as_deref()) {
            continue;
        }
        // After a kill only what is durable is promised.
        if !running && expected.level != Level::Durable {
            lost += 1;
            continue;
        }
        // Written on two replicas that did not hear of each other: the greater stamp stays, and the other is kept.
        let acknowledged = expected.acknowledged();
        let mut losers = replica.tables().losers(note, key).map(|loser| {
            let record = loser.record.as_ref();
            record.and_then(|record| record.get(0).as_text())
        });
        if expected.level == Level::Local && losers.any(|loser| loser == acknowledged) {
            continue;
        }
        return Err(format!("`{key}` is {found:?} at the end, and should be {expected:?}"));
    }
    ledger.local_lost += lost;
    for (key, counter) in &ledger.counters {
        let found = match replica.tables().get(note, key).map(|row| row.get(2)) {
            Some(Value::Integer(count)) => u64::try_from(*count).unwrap_or(0),
            Some(Value::Null | Value::Text(_) | Value::Boolean(_)) | None => 0,
        };
        if found < counter.acknowledged || found > counter.acknowledged + counter.unknown {
            return Err(format!("`{key}` counts {found}, and was told {counter:?}"));
        }
    }
    ledger.unseen += database(process, replica, running)?;
    if ledger.unseen > 0 && !ledger.doubts {
        return Err(format!("the database has {} rows that no replica shows", ledger.unseen));
    }
    Ok(())
}

/// The database and a replica hold the same, but for what was acknowledged without it. Returns the rows that are newer
/// in the database: of commits of which no replica was told.
fn database(process: &Process, replica: &ReplicaServer, running: bool) -> Result<u64, String> {
    let mut unseen = 0;
    for stored in &process.disk().rows() {
        let held = replica.tables().get_any(stored.table, &stored.key);
        match held {
            Some(held) if held.stamp == stored.stamp => {}
            // A local write whose commit failed is newer here, until the process ends.
            Some(held) if running && held.stamp > stored.stamp && !is_durable(stored) => {}
            // A stub that every replica has seen is forgotten.
            None if stored.record.is_none() => {}
            None if running => unseen += 1,
            Some(held) if running && held.stamp < stored.stamp => unseen += 1,
            Some(_) | None => {
                let held = held.map(|row| (row.stamp, &row.record));
                return Err(format!("the database has {stored:?}, and replica {} has {held:?}", replica.id()));
            }
        }
    }
    Ok(unseen)
}

/// Whether a row is written by durable writes only, by its key.
fn is_durable(row: &Update) -> bool {
    !row.key.starts_with("a-") && !row.key.starts_with("l-") && !row.key.starts_with("s-")
}

/// Every order that was acknowledged is posted, or says why not; nothing was posted that was not ordered.
pub fn work(process: &Process, ledger: &Ledger, backend: &Backend) -> Result<(), String> {
    let mut done = 0;
    let mut rows: Vec<Update> = process.disk().rows();
    rows.retain(|row| row.table == AGENT_WORK);
    for row in &rows {
        let Some(record) = &row.record else { continue };
        let state = record.get(agent_work::STATE).as_text().unwrap_or("");
        let reason = record.get(agent_work::REASON).as_text().unwrap_or("");
        if !WorkState::is_finished(state) {
            return Err(format!("the work `{}` is {state} for ever", row.key));
        }
        if state == WorkState::Failed.as_str() && reason.is_empty() {
            return Err(format!("the work `{}` failed without a reason", row.key));
        }
        if state == WorkState::Done.as_str() {
            done += 1;
            if !backend.effects.contains_key(&*row.key) {
                return Err(format!("the work `{}` is done, and the back-end never heard of it", row.key));
            }
        }
    }
    let known = |key: &str| rows.iter().any(|row| &*row.key == key);
    for (order, acknowledged) in &ledger.orders {
        let work = format!("{}/{order}/post", application::ORDERS);
        if *acknowledged && !known(&work) {
            return Err(format!("the order `{order}` was accepted, and nobody works on it"));
        }
    }
    for key in backend.effects.keys() {
        if !known(key) {
            return Err(format!("the back-end has {key}, which nobody ordered"));
        }
    }
    if done > backend.effects.len() {
        return Err(format!("{done} pieces of work are done, and {} took effect", backend.effects.len()));
    }
    Ok(())
}
