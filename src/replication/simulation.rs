//! Replicas under a seeded network that loses, repeats and reorders messages, fills rings, and kills replicas; then
//! the network heals, and they must agree.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use proptest::prelude::{ProptestConfig, any};
use proptest::proptest;

use super::{Event, Message, Replicator, Settings};
use crate::tables::{
    Batch, DataTables, DocumentShape, Field, FieldKind, Record, Row, ShapeSet, Stamp, TableId, Update, Value,
};

const INTERVAL_NS: u64 = 1_000;
const TABLES: [TableId; 2] = [TableId(0), TableId(1)];

fn shapes() -> Arc<ShapeSet> {
    let field = Field { index: true, words: true, ..Field::new("text", FieldKind::Text, 100) };
    let shape = |table: &str| {
        Arc::new(DocumentShape {
            table: table.into(),
            application: "test".into(),
            key: "key".into(),
            fields: [field.clone()].into(),
        })
    };
    Arc::new(ShapeSet { shapes: vec![shape("one"), shape("two")] })
}

/// What goes wrong, in percent.
#[derive(Clone, Copy, Debug, Default)]
struct Trouble {
    loss: u64,
    repeat: u64,
    reorder: u64,
    kill: u64,
    /// Messages that a ring takes.
    ring_slots: usize,
    log_updates_max: usize,
}

struct Node {
    tables: DataTables,
    replicator: Replicator,
    up: bool,
}

struct Net {
    trouble: Trouble,
    random: u64,
    now_ns: u64,
    time: u64,
    nodes: Vec<Node>,
    rings: HashMap<(u8, u8), VecDeque<Message>>,
    /// Batches of the application server on their way to each replica.
    inboxes: Vec<VecDeque<Arc<Batch>>>,
    database: DataTables,
    external_head: u64,
    /// Every update, with its origin and number.
    made: Vec<(u8, u64, Update)>,
    /// Updates that every live replica once held.
    held_by_all: Vec<Update>,
    /// Every deletion, also of replicas that died.
    deletions: Vec<Update>,
}

impl Net {
    fn new(replicas: u8, seed: u64, trouble: Trouble) -> Self {
        let nodes = (0..replicas).map(|me| Node {
            tables: DataTables::new(shapes()),
            replicator: Replicator::new(settings(me, replicas, trouble)),
            up: true,
        });
        Self {
            trouble,
            random: seed | 1,
            now_ns: 0,
            time: 0,
            nodes: nodes.collect(),
            rings: HashMap::new(),
            inboxes: vec![VecDeque::new(); usize::from(replicas)],
            database: DataTables::new(shapes()),
            external_head: 0,
            made: Vec::new(),
            held_by_all: Vec::new(),
            deletions: Vec::new(),
        }
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 11) % bound
    }

    fn happens(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    fn replicas(&self) -> u8 {
        u8::try_from(self.nodes.len()).unwrap()
    }

    fn some_node(&mut self) -> u8 {
        u8::try_from(self.below(u64::from(self.replicas()))).unwrap()
    }

    fn some_edit(&mut self, server: u8) -> Update {
        let table = TABLES[usize::try_from(self.below(2)).unwrap()];
        let key = format!("key-{}", self.below(6));
        let record = (self.below(3) > 0).then(|| Record([Value::text(&format!("text {}", self.time))].into()));
        // Clocks differ by up to 20.
        self.time += 1;
        let time = self.time + self.below(20);
        let tables = self.nodes.get(usize::from(server)).map_or(&self.database, |node| &node.tables);
        tables.edit(table, &key, record, server, time)
    }

    fn step(&mut self) {
        self.now_ns += 1 + self.below(100);
        match self.below(10) {
            0..=2 => {
                let node = self.some_node();
                self.edit(node);
            }
            3 => self.commit_external(),
            4..=5 => {
                let node = self.some_node();
                self.tick(node);
            }
            6 => {
                let node = self.some_node();
                if self.happens(self.trouble.kill) {
                    self.kill_or_start(node);
                }
            }
            _ => {
                for _ in 0..4 {
                    let (from, to) = (self.some_node(), self.some_node());
                    self.deliver(from, to);
                }
                let node = self.some_node();
                self.deliver_external(node);
            }
        }
    }

    /// An edit by a replica. Deletions, and some others, are committed by the database first, which is the arbiter:
    /// it refuses what was not made on its revision, and its answer comes behind all that it has published.
    fn edit(&mut self, node: u8) {
        let state = &self.nodes[usize::from(node)];
        if !state.up || !state.replicator.is_ready() {
            return;
        }
        let mut update = self.some_edit(node);
        if update.record.is_none() || self.happens(50) {
            while !self.inboxes[usize::from(node)].is_empty() {
                self.deliver_external(node);
            }
            let stored = self.database.get_any(update.table, &update.key).map(|row| row.stamp);
            let state = &self.nodes[usize::from(node)];
            update = state.tables.edit(update.table, &update.key, update.record, node, update.stamp.time);
            let missed = state.replicator.positions().get(self.replicas()) < self.external_head;
            if missed || stored.unwrap_or_default() != update.base {
                return;
            }
            self.database.apply(&update);
        }
        let Node { tables, replicator, .. } = &mut self.nodes[usize::from(node)];
        let (id, _) = replicator.local_update(update.clone(), tables);
        self.deletions.extend(Some(&update).filter(|update| update.record.is_none()).cloned());
        self.made.push((node, id, update));
    }

    fn commit_external(&mut self) {
        let server = self.replicas();
        // The database has taken over what some replica committed.
        let node = self.some_node();
        for table in TABLES {
            let rows: Vec<Update> =
                self.nodes[usize::from(node)].tables.scan(table, 0).map(|row| row.to_update(table)).collect();
            for row in rows {
                self.database.apply(&row);
            }
        }
        let first = self.external_head + 1;
        let mut updates = Vec::new();
        for _ in 0..=self.below(2) {
            let update = self.some_edit(server);
            self.database.apply(&update);
            self.external_head += 1;
            self.made.push((server, self.external_head, update.clone()));
            self.deletions.extend(Some(&update).filter(|update| update.record.is_none()).cloned());
            updates.push(update);
        }
        let batch = Arc::new(Batch { origin: server, first, updates });
        for node in 0..self.nodes.len() {
            if self.nodes[node].up && !self.happens(self.trouble.loss) {
                self.inboxes[node].push_back(batch.clone());
            }
        }
    }

    fn deliver_external(&mut self, to: u8) {
        let Some(batch) = self.inboxes[usize::from(to)].pop_front() else { return };
        let Node { tables, replicator, up } = &mut self.nodes[usize::from(to)];
        if *up {
            replicator.receive_external(&batch, tables);
        }
        self.collect(to);
    }

    fn tick(&mut self, node: u8) {
        let Node { tables, replicator, up } = &mut self.nodes[usize::from(node)];
        if *up {
            replicator.tick(self.now_ns, tables);
        }
        self.collect(node);
    }

    /// Moves what a replica wants sent into the rings.
    fn collect(&mut self, from: u8) {
        while let Some((to, message)) = self.nodes[usize::from(from)].replicator.outgoing() {
            assert_ne!(from, to);
            let slots = self.trouble.ring_slots;
            let ring = self.rings.entry((from, to)).or_default();
            if ring.len() >= slots {
                self.nodes[usize::from(from)].replicator.undelivered(to, &message);
                continue;
            }
            ring.push_back(message);
        }
        while let Some(event) = self.nodes[usize::from(from)].replicator.event() {
            assert!(!matches!(event, Event::CodeBehind { .. } | Event::CodeWanted { .. }), "{event:?}");
        }
        let acknowledged = self.nodes[usize::from(from)].replicator.acknowledged();
        for (_, _, update) in self.made.extract_if(.., |(origin, id, _)| *origin == from && *id <= acknowledged) {
            self.held_by_all.push(update);
        }
    }

    fn deliver(&mut self, from: u8, to: u8) {
        if self.happens(self.trouble.reorder) {
            let place = self.below(4);
            if let Some(ring) = self.rings.get_mut(&(from, to)) {
                let place = usize::try_from(place).unwrap();
                if place < ring.len() {
                    ring.swap(0, place);
                }
            }
        }
        let Some(message) = self.rings.get_mut(&(from, to)).and_then(VecDeque::pop_front) else { return };
        if self.happens(self.trouble.repeat) {
            self.rings.entry((from, to)).or_default().push_back(message.clone());
        }
        if self.happens(self.trouble.loss) {
            return;
        }
        let Node { tables, replicator, up } = &mut self.nodes[usize::from(to)];
        if *up {
            replicator.receive(from, message, tables);
        }
        self.collect(to);
    }

    /// Stops a replica that is up, if another one stays ready, or starts one that is down.
    fn kill_or_start(&mut self, node: u8) {
        let other_ready = self
            .nodes
            .iter()
            .enumerate()
            .any(|(other, state)| other != usize::from(node) && state.up && state.replicator.is_ready());
        if self.nodes[usize::from(node)].up && !other_ready {
            return;
        }
        if self.nodes[usize::from(node)].up {
            self.nodes[usize::from(node)].up = false;
            self.nodes[usize::from(node)].tables = DataTables::new(shapes());
            // What only this replica had is lost: `local` writes promise no more.
            self.made.retain(|(origin, _, _)| *origin != node);
            self.rings.retain(|(from, to), _| *from != node && *to != node);
            self.inboxes[usize::from(node)].clear();
            for (other, state) in self.nodes.iter_mut().enumerate() {
                if other != usize::from(node) {
                    state.replicator.peer_down(node);
                }
            }
        } else {
            self.start(node);
        }
        for other in 0..self.replicas() {
            self.collect(other);
        }
    }

    fn start(&mut self, node: u8) {
        let live: Vec<u8> = (0..self.replicas()).filter(|other| self.nodes[usize::from(*other)].up).collect();
        self.nodes[usize::from(node)] = Node {
            tables: DataTables::new(shapes()),
            replicator: Replicator::joining(settings(node, self.replicas(), self.trouble), &live),
            up: true,
        };
        for other in live {
            self.nodes[usize::from(other)].replicator.peer_up(node);
        }
    }

    /// No more trouble: every replica is started, everything is delivered, time passes.
    fn heal(&mut self) {
        self.trouble =
            Trouble { ring_slots: 10_000, log_updates_max: self.trouble.log_updates_max, ..Trouble::default() };
        for node in 0..self.replicas() {
            if !self.nodes[usize::from(node)].up {
                self.start(node);
            }
        }
        for round in 0..60 {
            self.now_ns += INTERVAL_NS;
            for node in 0..self.replicas() {
                while !self.inboxes[usize::from(node)].is_empty() {
                    self.deliver_external(node);
                }
                self.tick(node);
            }
            while let Some(pair) = self.rings.iter().find(|(_, ring)| !ring.is_empty()).map(|(pair, _)| *pair) {
                self.deliver(pair.0, pair.1);
            }
            if round == 5 {
                self.reload_external();
            }
        }
    }

    /// A batch of the application server that no replica got is read from the database.
    fn reload_external(&mut self) {
        let (external, head) = (self.replicas(), self.external_head);
        if self.nodes.iter().any(|node| node.replicator.positions().get(external) >= head) {
            return;
        }
        let Node { tables, replicator, .. } = &mut self.nodes[0];
        let rows =
            TABLES.into_iter().flat_map(|table| every_row(&self.database, table).map(move |row| row.to_update(table)));
        let rows: Vec<Update> = rows.collect();
        replicator.reload_external(&rows, head, tables);
    }

    fn check_agreement(&self) {
        let reports: Vec<_> = self.nodes.iter().map(|node| node.replicator.report()).collect();
        let first = &self.nodes[0].tables;
        for (node, report) in self.nodes.iter().zip(&reports) {
            assert!(report.ready, "{report:#?}");
            assert_eq!(report.positions, reports[0].positions, "{reports:#?}");
            assert_eq!(report.acknowledged, report.positions.get(report.me), "{report:#?}");
            assert_eq!((report.stubs, report.external_gap), (0, None), "{report:#?}");
            assert!(report.peers.iter().all(|peer| peer.live && peer.lag == 0 && !peer.dirty), "{report:#?}");
            for table in TABLES {
                assert_eq!(contents(&node.tables, table), contents(first, table), "{table:?} of {} and 0", report.me);
                assert_eq!(node.tables.digest(table), first.digest(table), "{table:?} of {}", report.me);
                assert_eq!(node.tables.digest_with_stubs(table), first.digest_with_stubs(table));
                assert_eq!(node.tables.loser_count(table), first.loser_count(table));
                assert!(
                    node.tables
                        .scan(table, 0)
                        .map(|row| (&row.key, row.stamp, &row.record))
                        .eq(first.scan(table, 0).map(|row| (&row.key, row.stamp, &row.record)))
                );
                let facets: usize = node.tables.facets(table, 0).map(|(_, count)| count).sum();
                assert_eq!(facets, node.tables.live_count(table));
            }
        }
    }

    /// The rows are those that applying every update once would give, and every other revision is known to be
    /// superseded or kept.
    fn check_nothing_lost(&self) {
        let mut oracle = DataTables::new(shapes());
        let all: Vec<&Update> = self.made.iter().map(|(_, _, update)| update).chain(&self.held_by_all).collect();
        for update in &all {
            oracle.apply(update);
        }
        let tables = &self.nodes[0].tables;
        for table in TABLES {
            let rows = |tables: &DataTables| -> Vec<(String, Stamp)> {
                tables.scan(table, 0).map(|row| (row.key.to_string(), row.stamp)).collect()
            };
            assert_eq!(rows(tables), rows(&oracle));
        }
    }

    /// What every live replica held is not forgotten, and no deletion that they held is undone.
    fn check_promises(&self) {
        let tables = &self.nodes[0].tables;
        for update in &self.held_by_all {
            match tables.get(update.table, &update.key) {
                Some(row) => assert!(row.stamp >= update.stamp, "{row:?} is older than {update:?}"),
                None => {
                    let mut deletions =
                        self.deletions.iter().filter(|other| (other.table, &other.key) == (update.table, &update.key));
                    assert!(deletions.any(|deletion| deletion.stamp >= update.stamp), "{update:?} is gone");
                }
            }
        }
    }
}

/// Rows and stubs with the stamps of their losers.
fn contents(tables: &DataTables, table: TableId) -> Vec<(String, Stamp, bool, Vec<Stamp>)> {
    let state = |row: &Row| {
        let losers = tables.losers(table, &row.key).map(|loser| loser.stamp).collect();
        (row.key.to_string(), row.stamp, row.is_live(), losers)
    };
    every_row(tables, table).map(state).collect()
}

fn every_row(tables: &DataTables, table: TableId) -> impl Iterator<Item = &Row> {
    (0..=u8::MAX).flat_map(move |bucket| tables.rows_in_bucket(table, bucket, None))
}

fn settings(me: u8, replicas: u8, trouble: Trouble) -> Settings {
    Settings {
        me,
        replicas,
        sweep_interval_ns: INTERVAL_NS,
        retry_ns: INTERVAL_NS / 4,
        log_updates_max: trouble.log_updates_max,
    }
}

fn run(replicas: u8, seed: u64, steps: usize, trouble: Trouble) -> Net {
    let mut net = Net::new(replicas, seed, trouble);
    for _ in 0..steps {
        net.step();
    }
    net.heal();
    net.check_agreement();
    net
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, max_shrink_iters: 0, ..ProptestConfig::default() })]

    /// A ring neither loses nor reorders, but it can be full, and then the log may be too short.
    #[test]
    fn full_rings_and_short_logs(seed in any::<u64>(), replicas in 2u8..5, ring_slots in 1usize..6, log_updates_max in 1usize..40) {
        run(replicas, seed, 600, Trouble { ring_slots, log_updates_max, ..Trouble::default() }).check_nothing_lost();
    }

    /// Losing messages on top.
    #[test]
    fn lost_messages(seed in any::<u64>(), replicas in 2u8..4, log_updates_max in 1usize..40) {
        run(replicas, seed, 600, Trouble { loss: 20, ring_slots: 50, log_updates_max, ..Trouble::default() }).check_nothing_lost();
    }

    /// Loss, repetition and reordering: the rows still agree.
    #[test]
    fn a_cruel_network(seed in any::<u64>(), replicas in 2u8..4, log_updates_max in 1usize..40) {
        run(replicas, seed, 600, Trouble { loss: 20, repeat: 20, reorder: 40, ring_slots: 50, log_updates_max, ..Trouble::default() });
    }

    /// Replicas die and come back empty.
    #[test]
    fn replicas_come_and_go(seed in any::<u64>(), replicas in 2u8..5, log_updates_max in 1usize..40, loss in 0u64..10) {
        run(replicas, seed, 900, Trouble { kill: 30, loss, ring_slots: 20, log_updates_max, ..Trouble::default() }).check_promises();
    }
}
