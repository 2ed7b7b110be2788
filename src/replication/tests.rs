//! What the replicator promises, message by message. How it fares under trouble is in `simulation`.

use std::collections::VecDeque;
use std::sync::Arc;

use super::sweep::{Buckets, KEYS_MAX, Place, Summary, SweptRows};
use super::{Event, Message, Positions, Replicator, Settings};
use crate::tables::{Batch, DataTables, DocumentShape, Field, FieldKind, Record, ShapeSet, TableId, Update, Value};

const TABLE: TableId = TableId(0);
const INTERVAL_NS: u64 = 1_000;

struct Node {
    tables: DataTables,
    replicator: Replicator,
}

fn tables() -> DataTables {
    let field = Field::new("text", FieldKind::Text, 100);
    let shape = DocumentShape { table: "t".into(), application: "a".into(), key: "k".into(), fields: [field].into() };
    DataTables::new(Arc::new(ShapeSet { shapes: vec![Arc::new(shape)] }))
}

fn settings(me: u8, replicas: u8) -> Settings {
    Settings { me, replicas, sweep_interval_ns: INTERVAL_NS, retry_ns: 100, log_updates_max: 10_000 }
}

fn cluster(replicas: u8) -> Vec<Node> {
    (0..replicas).map(|me| Node { tables: tables(), replicator: Replicator::new(settings(me, replicas)) }).collect()
}

impl Node {
    fn write(&mut self, key: &str, text: Option<&str>) -> u64 {
        let record = text.map(|text| Record([Value::text(text)].into()));
        let me = self.replicator.report().me;
        let update = self.tables.edit(TABLE, key, record, me, self.replicator.time_seen() + 1);
        self.replicator.local_update(update, &mut self.tables).0
    }

    fn tick(&mut self, now_ns: u64) -> Vec<(u8, Message)> {
        self.replicator.tick(now_ns, &mut self.tables);
        self.sent()
    }

    fn receive(&mut self, from: u8, message: Message) {
        self.replicator.receive(from, message, &mut self.tables);
    }

    fn sent(&mut self) -> Vec<(u8, Message)> {
        std::iter::from_fn(|| self.replicator.outgoing()).collect()
    }

    fn events(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.replicator.event()).collect()
    }
}

/// Ticks everyone and delivers everything until nothing moves; returns the number of messages.
fn settle(nodes: &mut [Node], now_ns: u64) -> usize {
    let mut messages = 0;
    loop {
        let mut moving = Vec::new();
        for (node, from) in nodes.iter_mut().zip(0u8..) {
            moving.extend(node.tick(now_ns).into_iter().map(|(to, message)| (from, to, message)));
        }
        if moving.is_empty() {
            return messages;
        }
        while let Some((from, to, message)) = moving.pop() {
            messages += 1;
            assert!(messages < 100_000, "no end");
            nodes[usize::from(to)].receive(from, message);
            let answers = nodes[usize::from(to)].sent();
            moving.splice(0..0, answers.into_iter().rev().map(|(next, answer)| (to, next, answer)));
        }
    }
}

fn agree(nodes: &[Node]) -> bool {
    nodes.windows(2).all(|pair| pair[0].tables.digest(TABLE) == pair[1].tables.digest(TABLE))
}

#[test]
fn a_turn_is_one_shared_batch() {
    let mut nodes = cluster(3);
    for number in 0..5 {
        assert_eq!(nodes[0].write(&format!("key-{number}"), Some("text")), number + 1);
    }
    let sent = nodes[0].tick(1);
    let batches: Vec<(u8, &Arc<Batch>)> = sent
        .iter()
        .map(|(to, message)| match message {
            Message::Batch(batch) => (*to, batch),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(batches.iter().map(|(to, _)| *to).collect::<Vec<_>>(), [1, 2]);
    assert_eq!((batches[0].1.origin, batches[0].1.first, batches[0].1.updates.len()), (0, 1, 5));
    assert!(Arc::ptr_eq(batches[0].1, batches[1].1));
    assert!(nodes[0].tick(2).is_empty(), "nothing new, nothing sent");
}

#[test]
fn all_means_every_live_replica() {
    let mut nodes = cluster(3);
    let id = nodes[0].write("key", Some("text"));
    let sent = nodes[0].tick(1);
    assert!(!nodes[0].replicator.acknowledged_by_all(id));
    for (to, message) in sent {
        nodes[usize::from(to)].receive(0, message);
    }
    let ack_of = |node: &mut Node| node.tick(1).into_iter().find(|(to, _)| *to == 0).unwrap().1;
    let first = ack_of(&mut nodes[1]);
    nodes[0].receive(1, first);
    assert!(!nodes[0].replicator.acknowledged_by_all(id), "one is missing");
    let report = nodes[0].replicator.report();
    assert_eq!(report.peers.iter().map(|peer| (peer.peer, peer.lag)).collect::<Vec<_>>(), [(1, 0), (2, 1)]);
    let second = ack_of(&mut nodes[2]);
    nodes[0].receive(2, second);
    assert!(nodes[0].replicator.acknowledged_by_all(id));
    assert_eq!(nodes[0].replicator.report().log_updates, 0, "nobody needs it any more");
    // A peer that goes is not waited for.
    let id = nodes[0].write("key", Some("more"));
    nodes[0].tick(2);
    nodes[0].replicator.peer_down(1);
    assert!(!nodes[0].replicator.acknowledged_by_all(id));
    nodes[0].replicator.peer_down(2);
    assert!(nodes[0].replicator.acknowledged_by_all(id));
}

#[test]
fn a_full_ring_costs_a_turn() {
    let mut nodes = cluster(2);
    nodes[0].write("key", Some("text"));
    for (to, message) in nodes[0].tick(1) {
        nodes[0].replicator.undelivered(to, &message);
    }
    nodes[0].write("other", Some("text"));
    let numbers = |sent: Vec<(u8, Message)>| -> Vec<u64> {
        sent.into_iter()
            .filter_map(|(_, message)| match message {
                Message::Batch(batch) => Some(batch.first),
                _ => None,
            })
            .collect()
    };
    assert_eq!(numbers(nodes[0].tick(2)), [1, 2]);
    assert_eq!(nodes[0].replicator.report().counters.undelivered, 1);
}

#[test]
fn a_gap_is_asked_for_once_and_filled() {
    let mut nodes = cluster(2);
    nodes[0].write("one", Some("text"));
    let lost = nodes[0].tick(1);
    nodes[0].write("two", Some("text"));
    for (_, message) in nodes[0].tick(2) {
        nodes[1].receive(0, message.clone());
        nodes[1].receive(0, message);
    }
    assert_eq!(nodes[1].tables.live_count(TABLE), 0, "not before the one before it");
    let asked = nodes[1].sent();
    assert!(matches!(asked[..], [(0, Message::Resend { origin: 0, after: 0 })]), "{asked:?}");
    nodes[0].receive(1, asked[0].1.clone());
    for (_, message) in nodes[0].tick(3) {
        nodes[1].receive(0, message);
    }
    assert_eq!(nodes[1].tables.live_count(TABLE), 2);
    for (_, message) in lost {
        nodes[1].receive(0, message);
    }
    assert!(agree(&nodes));
    // Strangers and the dead are not listened to.
    nodes[1].replicator.peer_down(0);
    nodes[0].write("three", Some("text"));
    for (_, message) in nodes[0].tick(4) {
        nodes[1].receive(0, message.clone());
        nodes[1].receive(77, message.clone());
        nodes[1].receive(1, message);
    }
    assert_eq!(nodes[1].tables.live_count(TABLE), 2);
}

#[test]
fn deletions_are_forgotten_when_everyone_knows() {
    let mut nodes = cluster(3);
    nodes[0].write("key", Some("text"));
    settle(&mut nodes, 1);
    nodes[1].write("key", None);
    for (to, message) in nodes[1].tick(2) {
        if to == 0 {
            nodes[0].receive(1, message);
        }
    }
    nodes[0].tick(2);
    assert_eq!((nodes[0].tables.stub_count(TABLE), nodes[1].tables.stub_count(TABLE)), (1, 1), "one does not know yet");
    for now_ns in [INTERVAL_NS * 2, INTERVAL_NS * 4, INTERVAL_NS * 6, INTERVAL_NS * 8] {
        settle(&mut nodes, now_ns);
    }
    for node in &nodes {
        assert_eq!(
            (node.tables.live_count(TABLE), node.tables.stub_count(TABLE), node.replicator.report().stubs),
            (0, 0, 0)
        );
    }
}

/// One round converges both sides, also if it takes many messages.
#[test]
fn one_round_of_the_sweep_converges_two_replicas() {
    let rows = KEYS_MAX * 3;
    let mut nodes = cluster(2);
    for number in 0..rows {
        let node = &mut nodes[number % 2];
        let me = u8::try_from(number % 2).unwrap();
        // Written without telling anybody: as if both logs were lost.
        let update =
            node.tables.edit(TABLE, &format!("key-{number}"), Some(Record([Value::text("text")].into())), me, 1);
        node.tables.apply(&update);
    }
    for (number, node) in nodes.iter_mut().enumerate() {
        let me = u8::try_from(number).unwrap();
        let update = node.tables.edit(TABLE, "both", Some(Record([Value::Integer(1)].into())), me, 5);
        node.tables.apply(&update);
    }
    let summary = Summary::of(&nodes[0].tables, 0, Positions::default(), false);
    assert_eq!(summary.differing(&nodes[1].tables).collect::<Vec<_>>(), [TABLE]);
    nodes[1].receive(0, Message::Summary(Box::new(summary)));
    let messages = settle(&mut nodes, 1);
    assert!(messages < rows / 20, "{messages} messages for {rows} rows");
    for node in &nodes {
        assert_eq!(node.tables.live_count(TABLE), rows + 1);
    }
    assert_eq!(nodes[1].replicator.report().counters.rounds, 1);
    // Both wrote the same key blindly: the loser is known where the winner came last, and after one more round here.
    settle(&mut nodes, INTERVAL_NS * 2);
    settle(&mut nodes, INTERVAL_NS * 4);
    assert!(agree(&nodes));
    assert_eq!((nodes[0].tables.loser_count(TABLE), nodes[1].tables.loser_count(TABLE)), (1, 1));
}

#[test]
fn bucket_answers_are_bounded_and_complete() {
    let mut full = tables();
    for number in 0..KEYS_MAX * 2 + 10 {
        let update = full.edit(TABLE, &format!("key-{number}"), None, 0, 1);
        full.apply(&update);
    }
    let empty = tables();
    let (mut place, mut listed, mut parts) = (Some(Place::default()), Vec::new(), 0);
    while let Some(from) = place.take() {
        let keys = Buckets::of(&empty, TABLE, true, 1, from).answer(&full);
        let wanted = keys.compare(&empty).wanted;
        assert!(wanted.len() <= KEYS_MAX);
        listed.extend(wanted);
        place = keys.next;
        parts += 1;
    }
    listed.sort();
    listed.dedup();
    assert_eq!((listed.len(), parts), (KEYS_MAX * 2 + 10, 3));
    let nothing = Buckets::of(&full, TABLE, true, 1, Place::default()).answer(&full);
    assert!(nothing.buckets.is_empty() && nothing.next.is_none());
    let without_stubs = Buckets::of(&empty, TABLE, false, 1, Place::default()).answer(&full);
    assert!(without_stubs.buckets.is_empty(), "bare stubs show no difference");
    assert!(SweptRows::of(&full, TABLE, &["missing".into()], 0).rows.is_empty());
}

#[test]
fn a_joining_replica_copies_while_rows_change() {
    let mut nodes = cluster(3);
    for number in 0..3_000 {
        nodes[number % 2].write(&format!("key-{number}"), Some("text"));
    }
    nodes[0].write("gone", Some("text"));
    settle(&mut nodes, 1);
    nodes[0].write("gone", None);
    for node in [0, 1] {
        nodes[node].replicator.peer_down(2);
    }
    settle(&mut nodes[..2], 2);
    nodes[2] = Node { tables: tables(), replicator: Replicator::joining(settings(2, 3), &[0, 1]) };
    for node in [0, 1] {
        nodes[node].replicator.peer_up(2);
    }
    let mut now_ns = 10;
    let mut chunks = 0;
    while !nodes[2].replicator.is_ready() {
        now_ns += 1;
        assert!(now_ns < 500, "{:#?}", nodes[2].replicator.report());
        // Rows change before and behind the copy's cursor.
        nodes[0].write(&format!("key-{}", now_ns * 7 % 3_000), Some(&format!("changed at {now_ns}")));
        nodes[1].write(&format!("key-{}", now_ns * 11 % 3_000), None);
        for from in 0..3u8 {
            for (to, message) in nodes[usize::from(from)].tick(now_ns) {
                chunks += usize::from(matches!(message, Message::SnapshotChunk(_)));
                nodes[usize::from(to)].receive(from, message);
            }
        }
    }
    assert!(chunks >= 6, "{chunks}");
    assert!(nodes[2].events().contains(&Event::Ready));
    assert!(nodes[2].replicator.report().counters.snapshot_rows >= 2_900);
    for now_ns in [1_000, 3_000, 5_000, 7_000, 9_000] {
        settle(&mut nodes, now_ns);
    }
    assert!(agree(&nodes));
    let id = nodes[2].write("from the new one", Some("text"));
    settle(&mut nodes, 9_001);
    assert!(nodes[2].replicator.acknowledged_by_all(id));
    assert!(nodes[0].tables.get(TABLE, "from the new one").is_some());
}

#[test]
fn the_last_one_needs_nobody() {
    let mut alone = Node { tables: tables(), replicator: Replicator::joining(settings(0, 2), &[]) };
    alone.tick(1);
    assert_eq!(alone.events(), [Event::Ready]);
    let id = alone.write("key", Some("text"));
    alone.tick(2);
    assert!(alone.replicator.acknowledged_by_all(id));
}

#[test]
fn a_missed_deploy_is_noticed() {
    let mut nodes = cluster(2);
    nodes[0].replicator.set_code_version(7);
    nodes[1].replicator.set_code_version(6);
    nodes[0].tick(1);
    for (_, message) in nodes[0].tick(1 + INTERVAL_NS) {
        nodes[1].receive(0, message);
    }
    assert_eq!(nodes[1].events(), [Event::CodeBehind { peer: 0, version: 7 }]);
    for (_, message) in nodes[1].sent() {
        nodes[0].receive(1, message);
    }
    assert_eq!(nodes[0].events(), [Event::CodeWanted { peer: 1, have: 6 }]);
    // The other way round: who is ahead hears of it as well.
    nodes[1].tick(1);
    for (_, message) in nodes[1].tick(1 + INTERVAL_NS) {
        nodes[0].receive(1, message);
    }
    assert_eq!(nodes[0].events(), [Event::CodeWanted { peer: 1, have: 6 }]);
}

#[test]
fn batches_of_the_application_server_are_dense_too() {
    let mut nodes = cluster(2);
    let mut database = tables();
    let batches: Vec<Arc<Batch>> = (1..=3)
        .map(|first| {
            let update: Update =
                database.edit(TABLE, &format!("key-{first}"), Some(Record([Value::Integer(1)].into())), 2, first);
            database.apply(&update);
            Arc::new(Batch { origin: 2, first, updates: vec![update] })
        })
        .collect();
    for batch in &batches {
        let Node { tables, replicator } = &mut nodes[0];
        replicator.receive_external(batch, tables);
        replicator.receive_external(batch, tables);
    }
    assert_eq!(nodes[0].tables.live_count(TABLE), 3);
    // The other one missed the first two: it holds the third back and asks its peer.
    let Node { tables, replicator } = &mut nodes[1];
    replicator.receive_external(&batches[2], tables);
    assert_eq!(replicator.report().external_gap, Some((0, 3)));
    settle(&mut nodes, 1);
    assert_eq!(nodes[1].tables.live_count(TABLE), 3);
    let report = nodes[1].replicator.report();
    assert_eq!((report.external_gap, report.positions.get(2)), (None, 3));
    assert!(agree(&nodes));
}

#[test]
fn a_replica_that_reads_the_database_agrees_with_one_that_did_so_at_the_same_time() {
    let mut nodes = cluster(2);
    nodes[0].write("a", Some("of an earlier life"));
    let rows: Vec<Update> = nodes[0].tables.scan(TABLE, 0).map(|row| row.to_update(TABLE)).collect();
    // Both have lost everything and find nobody to copy from.
    for (node, me) in nodes.iter_mut().zip(0u8..) {
        node.tables = tables();
        rows.iter().for_each(|row| drop(node.tables.apply(row)));
        node.replicator = Replicator::reloaded(settings(me, 2), &[1 - me], 0, 1_000);
        assert!(node.replicator.is_ready());
        assert_eq!(node.events(), [Event::Ready]);
    }
    // Numbers of the earlier life do not come again.
    assert!(nodes[0].write("b", Some("text")) > 1_000);
    nodes[1].write("c", Some("text"));
    settle(&mut nodes, 1_001);
    settle(&mut nodes, 1_201);
    assert!(agree(&nodes));
    assert_eq!(nodes[0].tables.live_count(TABLE), 3);
}

#[test]
fn what_was_written_while_a_replica_copied_reaches_it_without_another_write() {
    let mut nodes = cluster(3);
    nodes[1].write("a", Some("text"));
    settle(&mut nodes, 1);
    nodes[2] = Node { tables: tables(), replicator: Replicator::joining(settings(2, 3), &[0, 1]) };
    nodes[0].replicator.peer_up(2);
    nodes[1].replicator.peer_up(2);
    // Its donor copies to it, and never hears of the write that its origin sends meanwhile.
    let id = nodes[0].write("b", Some("text"));
    let mut lost = false;
    let mut moving: VecDeque<(u8, u8, Message)> = VecDeque::new();
    for round in 0..40 {
        for (node, from) in nodes.iter_mut().zip(0u8..) {
            moving.extend(node.tick(2 + round).into_iter().map(|(to, message)| (from, to, message)));
        }
        while let Some((from, to, message)) = moving.pop_front() {
            if from == 0 && to == 1 && matches!(message, Message::Batch(_)) && !nodes[2].replicator.is_ready() {
                lost = true;
                continue;
            }
            nodes[usize::from(to)].receive(from, message);
            let answers = nodes[usize::from(to)].sent();
            moving.extend(answers.into_iter().map(|(next, answer)| (to, next, answer)));
        }
    }
    assert!(lost && nodes[2].replicator.is_ready());
    assert!(nodes[2].replicator.positions().get(0) >= id, "no sweep was due, and nothing else was written");
}

#[test]
fn what_not_everyone_holds_is_known() {
    let mut nodes = cluster(3);
    assert!(nodes[0].replicator.is_heard());
    let first = nodes[0].write("a", Some("text"));
    assert!(!nodes[0].replicator.is_heard());
    settle(&mut nodes, 1);
    assert!(nodes[0].replicator.is_heard());
    assert_eq!((nodes[0].replicator.held_by_another(), nodes[0].replicator.unheard().len()), (first, 0));
    // One of two hears of the second.
    let second = nodes[0].write("b", Some("text"));
    for (to, message) in nodes[0].tick(2) {
        if to == 1 {
            nodes[1].receive(0, message);
        }
    }
    for (_, message) in nodes[1].tick(2) {
        nodes[0].receive(1, message);
    }
    assert!(!nodes[0].replicator.is_heard());
    assert_eq!(nodes[0].replicator.held_by_another(), second);
    let unheard = nodes[0].replicator.unheard();
    assert_eq!(unheard.iter().map(|update| &*update.key).collect::<Vec<_>>(), ["b"]);
    // Nobody waits for the dead.
    nodes[0].replicator.peer_down(2);
    assert!(nodes[0].replicator.is_heard() && nodes[0].replicator.unheard().is_empty());
}
