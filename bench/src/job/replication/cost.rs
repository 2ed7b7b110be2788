//! What one write costs as replicas become more: messages, their bytes, and processor time, of all replicas together.
//!
//! The library's own replicators and tables, on one thread, with queues between them that never fill: what is counted
//! depends on nothing but the protocol. Turns are in step: every replica writes, ticks, and gets what the others sent.

use std::collections::VecDeque;

use twintier::engine::thread::thread_cpu_ns;
use twintier::replication::{Message, Replicator, Settings};
use twintier::tables::{DataTables, ServerId, Update, Value};

use super::rows::Catalog;
use crate::failure::Failure;

/// Writes of one measurement, by all replicas together.
const WRITES: u64 = 4000;
/// Rows that each replica writes, over and over.
const ROWS: u64 = 500;
/// Turns after the last write in which everything has to be acknowledged.
const QUIET_TURNS: u64 = 100;

/// Of one write.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cost {
    pub messages: f64,
    /// An estimate from the contents: numbers by their width, texts by their length. Nothing is encoded: messages travel
    /// as pointers between threads.
    pub bytes: f64,
    pub cpu_ns: f64,
}

struct Node {
    tables: DataTables,
    replicator: Replicator,
}

/// Measures `replicas` replicas, each of which writes `writes_per_turn` rows a turn.
///
/// # Errors
/// The replicas do not agree at the end.
pub fn measure(catalog: &Catalog, replicas: u8, writes_per_turn: u64) -> Result<Cost, Failure> {
    let mut nodes: Vec<Node> = (0..replicas)
        .map(|me| Node { tables: catalog.tables(), replicator: Replicator::new(settings(me, replicas)) })
        .collect();
    let mut under_way: VecDeque<(ServerId, ServerId, Message)> = VecDeque::new();
    let (mut messages, mut bytes, mut written, mut now_ns) = (0_u64, 0_u64, 0_u64, 0_u64);
    let began_ns = thread_cpu_ns();
    let mut quiet_turns = 0;
    while quiet_turns < QUIET_TURNS {
        now_ns += 1_000_000;
        for (me, node) in (0..replicas).zip(&mut nodes) {
            for _ in 0..writes_per_turn {
                if written < WRITES {
                    let key = format!("replica-{me}-{}", written % ROWS);
                    let record = Some(catalog.record(written, now_ns));
                    let update = node.tables.edit(catalog.table, &key, record, me, now_ns);
                    node.replicator.local_update(update, &mut node.tables);
                    written += 1;
                }
            }
            node.replicator.tick(now_ns, &mut node.tables);
            while let Some((to, message)) = node.replicator.outgoing() {
                messages += 1;
                bytes += message_bytes(&message, replicas);
                under_way.push_back((me, to, message));
            }
        }
        if written == WRITES && under_way.is_empty() {
            quiet_turns += QUIET_TURNS;
        }
        for (from, to, message) in under_way.drain(..) {
            let node = &mut nodes[usize::from(to)];
            node.replicator.receive(from, message, &mut node.tables);
        }
        quiet_turns += u64::from(written == WRITES);
    }
    let cpu_ns = thread_cpu_ns() - began_ns;
    let digest = |node: &Node| node.tables.digest(catalog.table);
    let held =
        |node: &Node| node.replicator.acknowledged() == node.replicator.positions().get(node.replicator.report().me);
    if !nodes.iter().all(|node| digest(node) == digest(&nodes[0]) && held(node)) {
        return Err(Failure::Invalid(format!("{replicas} replicas do not agree after {WRITES} writes")));
    }
    let each = |count: u64| count as f64 / WRITES as f64;
    Ok(Cost { messages: each(messages), bytes: each(bytes), cpu_ns: each(cpu_ns) })
}

/// Nothing is lost, so no sweep is needed to repair anything: they are left out.
fn settings(me: ServerId, replicas: u8) -> Settings {
    Settings {
        me,
        replicas,
        sweep_interval_ns: u64::MAX,
        retry_ns: 1_000_000_000,
        log_updates_max: twintier::limits::LOG_UPDATES_MAX,
    }
}

/// Bytes of a message if its contents were written one after the other.
fn message_bytes(message: &Message, replicas: u8) -> u64 {
    // One byte says what it is. Positions are those of all replicas and of the application server.
    let positions = (u64::from(replicas) + 1) * 8;
    let contents = match message {
        Message::Batch(batch) => 9 + batch.updates.iter().map(update_bytes).sum::<u64>(),
        Message::Ack(_) => positions + 1,
        Message::Resend { .. } => 9,
        Message::CodeWanted { .. } => 8,
        // Of sweeps and snapshots, which do not occur here.
        Message::Summary(_)
        | Message::Buckets(_)
        | Message::Keys(_)
        | Message::Wanted(_)
        | Message::Rows(_)
        | Message::SnapshotRequest(_)
        | Message::SnapshotChunk(_) => 0,
    };
    1 + contents
}

fn update_bytes(update: &Update) -> u64 {
    const STAMP: u64 = 4 + 8 + 1;
    let mut versions = Vec::new();
    update.versions.encode(&mut versions);
    let value = |value: &Value| match value {
        Value::Null => 1,
        Value::Text(text) => 3 + text.len(),
        Value::Integer(_) => 9,
        Value::Boolean(_) => 2,
    };
    let record: usize = update.record.iter().flat_map(|record| record.0.iter()).map(value).sum();
    2 + STAMP + STAMP + count(2 + update.key.len() + 1 + versions.len() + record)
}

fn count(bytes: usize) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::{Catalog, measure};
    use crate::build::source_root;

    /// Every write goes to each other replica once, and is acknowledged; more writes in a turn share messages.
    #[test]
    fn a_write_costs_a_message_to_each_other_replica_and_its_acknowledgement() {
        let catalog = Catalog::read(&source_root().unwrap()).unwrap();
        let [two, four] = [2, 4].map(|replicas| measure(&catalog, replicas, 1).unwrap());
        assert!(two.messages >= 1.0 && two.messages < 3.0, "{two:?}");
        assert!(four.messages > 2.0 * two.messages && four.bytes > 2.0 * two.bytes, "{two:?} {four:?}");
        let shared = measure(&catalog, 4, 16).unwrap();
        assert!(shared.messages < four.messages / 8.0, "{shared:?} {four:?}");
        assert!(shared.bytes < four.bytes, "{shared:?} {four:?}");
    }
}
