//! Several database servers on one database: what one commits reaches the replicas of the others.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};

use crossbeam::channel::{Receiver, Sender, unbounded};
use twintier::database::contract::{
    ABSENT, Change, CommitMode, Deployed, Follow, Loaded, Mutation, Outcome, Place, Publisher, Reply, ReplySink,
    Request, Store,
};
use twintier::database::memory::{Disk, MemoryStore};
use twintier::database::postgres::{self, PostgresStore};
use twintier::database::seed::SeedUser;
use twintier::database::server::{Client, Limits, Now, Opened, Server};
use twintier::replication::{self, Message, Replicator};
use twintier::tables::code::{AGENT_WORK, agent_work, system_shapes};
use twintier::tables::stamp::HybridClock;
use twintier::tables::{Batch, DataTables, FieldKind, Record, ShapeSet, Stamp, TableId, Update, Value};

use crate::postgres_server;
use crate::support::{ITEMS, SERVER, field, item, postgres_settings, settings, shape, shapes};

/// Every clock stands at this: stamps are told apart by their counters alone.
const NOW: Now = Now { monotonic_ns: 1, unix_ms: 1_000 };
/// Replicas of each appliance; `SERVER`, which comes after them, is the application server's number.
const REPLICAS: u8 = SERVER;
const KEYS: [&str; 6] = ["a", "b", "c", "d", "e", "f"];

/// A small generator of numbers (xorshift64*), so that a seed says everything.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let number = self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33;
        usize::try_from(number).unwrap() % end
    }
}

struct Replica {
    tables: DataTables,
    replicator: Replicator,
    clock: HybridClock,
    /// Batches of the application server that it has not applied.
    published: VecDeque<Arc<Batch>>,
    /// Messages of other replicas that it has not taken.
    messages: VecDeque<(u8, Message)>,
}

/// One appliance: its database server, and two replicas that are loaded from it.
struct Appliance<S> {
    server: Server<S>,
    client: Client,
    opened: Opened,
    place: Place,
    sink: Arc<Mutex<Vec<Arc<Batch>>>>,
    replies: (Sender<Outcome>, Receiver<Outcome>),
    replicas: Vec<Replica>,
}

impl<S: Store> Appliance<S> {
    fn start(store: S) -> Self {
        Self::start_with(store, Vec::new())
    }

    fn start_with(store: S, users: Vec<SeedUser>) -> Self {
        let sink = Arc::<Mutex<Vec<Arc<Batch>>>>::default();
        let published = sink.clone();
        let publisher: Publisher = Arc::new(move |batch| published.lock().unwrap().push(batch));
        let (mut server, client, opened) =
            Server::without_thread(settings(users), store, Limits::default(), publisher, NOW).unwrap();
        let place = opened.place.expect("a store that may be shared");
        let shapes = server.store().shapes().clone();
        let mut rows = Vec::new();
        let (sender, loads) = unbounded();
        for index in 0..u16::try_from(shapes.shapes.len()).unwrap() {
            let sender = sender.clone();
            let reply = Box::new(move |loaded: Result<Loaded, String>| sender.send(loaded.unwrap()).unwrap());
            client.try_send(Request::Load { table: TableId(index), reply }, 0).map_err(|_| ()).unwrap();
            server.serve_waiting(NOW);
            rows.extend(loads.recv().unwrap().rows);
        }
        let replica = |me| {
            let settings = replication::Settings {
                me,
                replicas: REPLICAS,
                sweep_interval_ns: u64::MAX / 2,
                retry_ns: 1,
                log_updates_max: 1 << 16,
            };
            let mut loaded = DataTables::new(shapes.clone());
            rows.iter().for_each(|row| drop(loaded.apply(row)));
            Replica {
                tables: loaded,
                replicator: Replicator::new(settings),
                clock: HybridClock::of_slot(place.slot),
                published: VecDeque::new(),
                messages: VecDeque::new(),
            }
        };
        let replicas = (0..REPLICAS).map(replica).collect();
        Self { server, client, opened, place, sink, replies: unbounded(), replicas }
    }

    fn ask(&mut self, make: impl FnOnce(ReplySink) -> Request) -> Outcome {
        let sender = self.replies.0.clone();
        let reply: ReplySink = Arc::new(move |reply: Reply| sender.send(reply.outcome).unwrap());
        self.client.try_send(make(reply), 0).map_err(|_| ()).unwrap();
        self.server.serve_waiting(NOW);
        self.deal();
        self.replies.1.try_recv().expect("an answer")
    }

    fn follow(&mut self, updates_max: usize) -> Follow {
        let (sender, told) = unbounded();
        let reply = Box::new(move |follow| sender.send(follow).unwrap());
        self.client.try_send(Request::Follow { updates_max, members: true, reply }, 0).map_err(|_| ()).unwrap();
        self.server.serve_waiting(NOW);
        self.deal();
        told.try_recv().expect("an answer").unwrap()
    }

    fn follow_all(&mut self) -> Vec<Deployed> {
        let mut deployed = Vec::new();
        loop {
            let told = self.follow(3);
            deployed.extend(told.deployed);
            if !told.more {
                return deployed;
            }
        }
    }

    /// What was published goes to every replica's queue.
    fn deal(&mut self) {
        for batch in self.sink.lock().unwrap().drain(..) {
            for replica in &mut self.replicas {
                replica.published.push_back(batch.clone());
            }
        }
    }

    /// An edit of a browser at one replica, arbitrated by the database. The committed update, if there is one.
    fn edit(&mut self, replica: usize, key: &str, record: Option<Record>) -> Option<Update> {
        let at = &mut self.replicas[replica];
        at.clock.see(at.replicator.time_seen());
        let time = at.clock.tick(NOW.unix_ms);
        let update = at.tables.edit(ITEMS, key, record, u8::try_from(replica).unwrap(), time);
        let updates = vec![update.clone()];
        let mode = CommitMode::Arbitrated;
        match self.ask(|reply| Request::Commit { token: 1, updates, mode, deadline_ns: 0, reply }) {
            Outcome::Committed { .. } => {
                let at = &mut self.replicas[replica];
                at.replicator.local_update(update.clone(), &mut at.tables);
                Some(update)
            }
            Outcome::Conflict { current } => {
                let at = &mut self.replicas[replica];
                for row in current {
                    at.clock.see(row.stamp.time);
                    at.tables.apply(&row);
                }
                None
            }
            other => panic!("{other:?}"),
        }
    }

    /// One thing that a replica may do on its own.
    fn step(&mut self, replica: usize, what: usize, now_ns: u64) {
        let at = &mut self.replicas[replica];
        match what {
            0 => {
                if let Some(batch) = at.published.pop_front() {
                    at.replicator.receive_external(&batch, &mut at.tables);
                }
                at.replicator.set_external_waits(!at.published.is_empty());
            }
            1 => {
                if let Some((from, message)) = at.messages.pop_front() {
                    at.replicator.receive(from, message, &mut at.tables);
                }
            }
            _ => {
                at.replicator.set_external_waits(!at.published.is_empty());
                at.replicator.tick(now_ns, &mut at.tables);
                let mut sent = Vec::new();
                while let Some(message) = at.replicator.outgoing() {
                    sent.push(message);
                }
                for (to, message) in sent {
                    let from = u8::try_from(replica).unwrap();
                    self.replicas[usize::from(to)].messages.push_back((from, message));
                }
            }
        }
    }

    /// Reads what is there to read, and lets the replicas come to rest.
    fn settle(&mut self, now_ns: &mut u64) {
        self.follow_all();
        for _ in 0..64 {
            for replica in 0..self.replicas.len() {
                *now_ns += 10;
                for _ in 0..1 + self.replicas[replica].published.len() {
                    self.step(replica, 0, *now_ns);
                }
                for _ in 0..1 + self.replicas[replica].messages.len() {
                    self.step(replica, 1, *now_ns);
                }
                self.step(replica, 2, *now_ns);
            }
        }
    }

    fn digests(&self) -> Vec<u128> {
        self.replicas.iter().map(|replica| replica.tables.digest(ITEMS)).collect()
    }
}

/// Two or three appliances edit the same six rows, browsers and agents alike, while news of each other comes when it
/// likes and the change log may be trimmed under them.
fn converge<S: Store>(seed: u64, join: &dyn Fn(&str) -> S, trim: &dyn Fn(), steps: usize) {
    let mut dice = Dice(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
    let mut now_ns = 1;
    let mut appliances: Vec<Appliance<S>> =
        (0..2 + dice.below(2)).map(|number| Appliance::start(join(&format!("number {number}")))).collect();
    // What each row's last committed revision is: every commit must have been made from it.
    let mut last: BTreeMap<String, Stamp> = BTreeMap::new();
    let (mut committed, mut refused) = (0, 0);
    for step in 0..steps {
        now_ns += 10;
        let which = dice.below(appliances.len());
        let (replica, key) = (dice.below(usize::from(REPLICAS)), KEYS[dice.below(KEYS.len())]);
        let appliance = &mut appliances[which];
        let value = item(&format!("{seed}-{step}"), i64::try_from(step).unwrap(), true);
        match dice.below(16) {
            0..=3 => {
                let record = (dice.below(4) > 0).then_some(value);
                match appliance.edit(replica, key, record) {
                    Some(update) => {
                        let base = last.insert(key.to_owned(), update.stamp).unwrap_or(ABSENT);
                        assert_eq!(update.base, base, "seed {seed}, step {step}: an edit of `{key}` was lost");
                        committed += 1;
                    }
                    None => refused += 1,
                }
            }
            4 => {
                let change = if dice.below(3) > 0 { Change::Put(value) } else { Change::Delete };
                let mutations = vec![Mutation { table: ITEMS, key: key.into(), change }];
                match appliance.ask(|reply| Request::Mutate { token: 1, mutations, reply }) {
                    Outcome::Committed { updates } => {
                        for update in updates {
                            let base = last.insert(key.to_owned(), update.stamp).unwrap_or(ABSENT);
                            assert_eq!(update.base, base, "seed {seed}, step {step}: an edit of `{key}` was lost");
                        }
                    }
                    other => panic!("seed {seed}, step {step}: {other:?}"),
                }
            }
            5 | 6 => drop(appliance.follow(1 + dice.below(4))),
            7 if dice.below(8) == 0 => trim(),
            _ => appliance.step(replica, dice.below(3), now_ns),
        }
    }
    appliances.iter_mut().for_each(|appliance| appliance.settle(&mut now_ns));
    // A store that begins now reads what is on disk.
    let fresh = Appliance::start(join("fresh"));
    let expected = fresh.digests()[0];
    for (number, appliance) in appliances.iter().enumerate() {
        for (replica, digest) in appliance.digests().into_iter().enumerate() {
            assert_eq!(digest, expected, "seed {seed}: replica {replica} of appliance {number} holds something else");
            let losers: usize = appliance.replicas.iter().map(|replica| replica.tables.loser_count(ITEMS)).sum();
            assert_eq!(losers, 0, "seed {seed}: the database is the arbiter, so nothing is in conflict");
        }
    }
    assert!(committed > 0 && refused > 0, "seed {seed}: {committed} committed, {refused} refused: nothing was tried");
}

#[test]
fn replicas_of_all_appliances_converge_and_no_edit_is_lost() {
    for seed in 1..=100 {
        let disk = Arc::<Disk>::default();
        let trimmed = disk.clone();
        converge(seed, &|name| MemoryStore::join(shapes(), disk.clone(), name), &|| trimmed.trim(), 600);
    }
}

fn user(name: &str) -> SeedUser {
    SeedUser {
        user: name.into(),
        full_name: name.to_uppercase(),
        password: "secret-word".into(),
        ..SeedUser::default()
    }
}

/// All of what is no feed, on any store that may be shared.
pub fn share_one_database<S: Store>(join: &dyn Fn(&str, Arc<ShapeSet>) -> S) {
    let plain = || join("plain", shapes());
    let mut one = Appliance::start_with(plain(), vec![user("alice")]);
    let mut other = Appliance::start_with(plain(), vec![user("alice"), user("bob")]);
    assert_eq!(one.opened.session_key, other.opened.session_key, "a session of one counts at the other");
    assert_eq!((one.opened.users_seeded, other.opened.users_seeded), (1, 1));
    assert_ne!(one.place.appliance, other.place.appliance);
    assert_ne!(one.place.slot, other.place.slot);

    // Numbers: one row for all, above what each has seen.
    let number = |at: &mut Appliance<S>, above| match at.ask(|reply| Request::Number {
        token: 1,
        name: "requisition REQ-".into(),
        above,
        reply,
    }) {
        Outcome::Number(number) => number,
        other => panic!("{other:?}"),
    };
    assert_eq!(number(&mut one, 122), 123);
    assert_eq!(number(&mut other, 7), 124);
    assert_eq!(number(&mut one, 122), 125);
    assert_eq!(number(&mut other, 500), 501);

    // Own updates do not come back, others' come once and in order.
    one.edit(0, "x", Some(item("first", 1, true))).expect("committed");
    one.edit(0, "x", Some(item("second", 2, true))).expect("committed");
    assert_eq!(one.follow_all(), []);
    let items = |at: &Appliance<S>| -> Vec<u32> {
        let updates = at.replicas[0].published.iter().flat_map(|batch| batch.updates.clone());
        updates.filter(|update| update.table == ITEMS).map(|update| update.stamp.sequence).collect()
    };
    assert_eq!(items(&one), [0; 0], "its own");
    other.follow_all();
    // A store may hand out the last revision only, and repeatedly.
    assert!(items(&other).is_sorted() && items(&other).last() == Some(&2), "{:?}", items(&other));

    // Deploys: numbered by all together.
    let deploy = |at: &mut Appliance<S>, version| {
        let sources = vec![("views/a.toml".to_owned(), format!("version {version}"))];
        at.ask(|reply| Request::Deploy { token: 1, version, application: "reqcat".into(), sources, reply })
    };
    assert!(matches!(deploy(&mut one, 2), Outcome::Committed { .. }));
    let refused = deploy(&mut other, 2);
    assert!(matches!(&refused, Outcome::Failed(wrong) if wrong.contains("version 2")), "{refused:?}");
    let deployed = other.follow_all();
    assert_eq!(deployed.iter().map(|deployed| deployed.version).collect::<Vec<_>>(), [2]);
    assert_eq!(deployed[0].sources[0].1, "version 2");
    assert_eq!(other.follow_all(), [], "once");
    assert_eq!(one.follow_all(), [], "its own");
    assert!(matches!(deploy(&mut other, 3), Outcome::Committed { .. }));

    // Two at once, each with a table of its own: who is refused takes its table back, and the other's in its place.
    let grown = |table: &str, name: &str| {
        let mut grown = ShapeSet::clone(&shapes());
        grown.shapes.push(Arc::new(shape(table, "key", vec![field(name, FieldKind::Text)])));
        Arc::new(grown)
    };
    let (winner, loser) = (grown("of the winner", "text"), grown("of the loser", "word"));
    let reshape = |at: &mut Appliance<S>, to: &Arc<ShapeSet>| {
        let shapes = to.clone();
        at.ask(|reply| Request::Reshape { token: 1, shapes, reply })
    };
    assert_eq!(one.follow_all().len(), 1);
    assert!(matches!(reshape(&mut one, &winner), Outcome::Committed { .. }));
    assert!(matches!(reshape(&mut other, &loser), Outcome::Committed { .. }));
    assert!(matches!(deploy(&mut one, 4), Outcome::Committed { .. }));
    assert!(matches!(deploy(&mut other, 4), Outcome::Failed(_)));
    let withdrawn = other.ask(|reply| Request::Withdraw { token: 1, shapes: shapes(), reply });
    assert!(matches!(withdrawn, Outcome::Committed { .. }), "{withdrawn:?}");
    let put = |key: &str| {
        let change = Change::Put(Record(Box::new([Value::text(key)])));
        vec![Mutation { table: TableId(2), key: key.into(), change }]
    };
    let mutations = put("first");
    assert!(matches!(one.ask(|reply| Request::Mutate { token: 1, mutations, reply }), Outcome::Committed { .. }));
    assert_eq!(other.follow_all().iter().map(|deployed| deployed.version).collect::<Vec<_>>(), [4]);
    let adopted = reshape(&mut other, &winner);
    assert!(matches!(adopted, Outcome::Committed { .. }), "without a restart: {adopted:?}");
    let mutations = put("second");
    let written = other.ask(|reply| Request::Mutate { token: 1, mutations, reply });
    assert!(matches!(written, Outcome::Committed { .. }), "{written:?}");
    let row = one.ask(|reply| Request::Read { token: 1, table: TableId(2), key: "second".into(), reply });
    assert!(matches!(row, Outcome::Row(Some(_))), "both write to one table: {row:?}");
}

/// A work row of an appliance.
fn work(state: &str, appliance: Option<u64>) -> Record {
    let mut values = vec![Value::Null; agent_work::APPLIANCE + 1];
    values[agent_work::AGENT] = Value::text("submit");
    values[agent_work::STATE] = Value::text(state);
    values[agent_work::APPLIANCE] = appliance.map_or(Value::Null, |number| Value::Integer(number.cast_signed()));
    Record(values.into())
}

/// Work is taken from the dead and from nobody else, and by one only.
pub fn take_over_from_the_dead<S: Store>(join: &dyn Fn(&str, Arc<ShapeSet>) -> S, kill: &dyn Fn(u64, S)) {
    let shapes = Arc::new(system_shapes());
    let start = |name: &str| Appliance::start(join(name, shapes.clone()));
    let (mut one, mut other, third) = (start("one"), start("other"), start("third"));
    let (mine, theirs, dead) = (one.place.appliance, other.place.appliance, third.place.appliance);
    let rows = [
        ("a", "queued", Some(dead)),
        ("b", "running", Some(dead)),
        ("c", "done", Some(dead)),
        ("d", "waiting", Some(theirs)),
        ("e", "queued", None),
        ("f", "running", Some(mine)),
    ];
    let put = |(key, state, owner): (&str, &str, Option<u64>)| Mutation {
        table: AGENT_WORK,
        key: key.into(),
        change: Change::Put(work(state, owner)),
    };
    let mutations = rows.into_iter().map(put).collect::<Vec<_>>();
    one.ask(|reply| Request::Mutate { token: 1, mutations, reply });
    let taken = |at: &mut Appliance<S>| match at.ask(|reply| Request::TakeOver { token: 1, reply }) {
        Outcome::Committed { updates } => {
            let mut keys: Vec<String> = updates.iter().map(|update| update.key.to_string()).collect();
            keys.sort();
            keys
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(taken(&mut one), ["e"], "that which belongs to nobody; everybody is alive");
    kill(dead, third.server.into_store());
    assert!(one.follow(1).members.iter().any(|member| member.appliance == dead && !member.alive));
    assert_eq!(taken(&mut other), ["a", "b"], "also the second to ask finds what the dead one has left");
    assert_eq!(taken(&mut one), [""; 0], "what is taken is taken");

    // Whoever comes back and goes on with work that was taken over changes nothing of it, and nothing beside it.
    let go_on = |at: &mut Appliance<S>, key: &str| {
        let step = Mutation {
            table: AGENT_WORK,
            key: key.into(),
            change: Change::Set(vec![(agent_work::STATE, Value::text("running"))]),
        };
        let beside = put(("beside", "queued", None));
        at.ask(|reply| Request::Mutate { token: 1, mutations: vec![beside, step], reply })
    };
    match go_on(&mut one, "a") {
        Outcome::Failed(sentence) => {
            assert!(sentence.contains(&format!("belongs to appliance {theirs}")), "{sentence}");
        }
        other => panic!("{other:?}"),
    }
    let (table, key) = (AGENT_WORK, Box::from("beside"));
    assert!(matches!(one.ask(|reply| Request::Read { token: 1, table, key, reply }), Outcome::Row(None)));
    assert!(matches!(go_on(&mut other, "a"), Outcome::Committed { .. }));
    assert!(matches!(go_on(&mut one, "f"), Outcome::Committed { .. }), "its own");
    // What is done may be ordered again, by anybody.
    let again = vec![put(("c", "running", Some(mine)))];
    assert!(matches!(
        one.ask(|reply| Request::Mutate { token: 1, mutations: again, reply }),
        Outcome::Committed { .. }
    ));
}

#[test]
fn one_database_makes_one_site_of_several_appliances() {
    let disk = Arc::<Disk>::default();
    share_one_database(&|name, shapes| MemoryStore::join(shapes, disk.clone(), name));
}

#[test]
fn work_of_the_dead_is_taken_over_once() {
    let disk = Arc::<Disk>::default();
    take_over_from_the_dead(&|name, shapes| MemoryStore::join(shapes, disk.clone(), name), &|appliance, _store| {
        disk.set_alive(appliance, false)
    });
}

/// The same on a server, where the store has a connection for each appliance.
#[test]
fn replicas_converge_over_postgresql() {
    for seed in 1..=3 {
        let Some(place) = postgres_settings("converge") else { return };
        let schema = place.schema.clone();
        // The last line stays, as a trim leaves lines: whoever is further behind finds that some are gone.
        let trim = move || {
            let mut client = postgres_server::shared().unwrap().client("twintier");
            let log = format!("\"{schema}\".change_log");
            let delete = format!("DELETE FROM {log} WHERE position < (SELECT max(position) FROM {log})");
            client.batch_execute(&delete).unwrap();
        };
        converge(seed, &|name| member(&place, name, shapes()), &trim, 300);
    }
}

/// Stores of a schema are told apart by the run that the change log names.
fn member(place: &postgres::Settings, name: &str, shapes: Arc<ShapeSet>) -> PostgresStore {
    let run = postgres_server::unique(name);
    PostgresStore::open(&place.clone().with_appliance(&run).as_member(name), shapes).unwrap()
}

#[test]
fn one_postgresql_makes_one_site_of_several_appliances() {
    let Some(place) = postgres_settings("site") else { return };
    share_one_database(&|name, shapes| member(&place, name, shapes));
}

#[test]
fn work_of_the_dead_is_taken_over_once_on_postgresql() {
    let Some(place) = postgres_settings("takeover") else { return };
    // The end of the connection is the death of the appliance; the server may take a moment to notice.
    let kill = |appliance: u64, store: PostgresStore| {
        drop(store);
        let mut watcher = member(&place, "watcher", Arc::new(system_shapes()));
        let deadline = std::time::Instant::now() + crate::support::PATIENCE;
        let is_alive = |watcher: &mut PostgresStore| {
            let members = watcher.members().unwrap();
            members.iter().any(|member| member.appliance == appliance && member.alive)
        };
        while is_alive(&mut watcher) {
            assert!(std::time::Instant::now() < deadline, "the server still sees appliance {appliance}");
            std::thread::yield_now();
        }
    };
    take_over_from_the_dead(&|name, shapes| member(&place, name, shapes), &kill);
}

/// A bulk write is in the log without its records, and a table that the reader's code does not have waits for it.
#[test]
fn imports_and_new_tables_are_followed_on_postgresql() {
    let Some(place) = postgres_settings("import") else { return };
    let mut reader = member(&place, "reader", shapes());
    let mut larger = ShapeSet { shapes: shapes().shapes.clone() };
    larger.shapes.push(Arc::new(shape("later", "key", vec![field("text", FieldKind::Text)])));
    let larger = Arc::new(larger);
    let mut writer = Appliance::start(member(&place, "writer", larger.clone()));
    let put = |number: usize| Mutation {
        table: ITEMS,
        key: format!("item {number:03}").into(),
        change: Change::Put(item("imported", 1, true)),
    };
    let mutations = (0..100).map(put).collect::<Vec<_>>();
    assert!(matches!(writer.ask(|reply| Request::Mutate { token: 1, mutations, reply }), Outcome::Committed { .. }));
    let record = Record(Box::new([Value::text("new")]));
    let mutations = vec![Mutation { table: TableId(2), key: "row".into(), change: Change::Put(record) }];
    assert!(matches!(writer.ask(|reply| Request::Mutate { token: 1, mutations, reply }), Outcome::Committed { .. }));

    let mut got = Vec::new();
    for _ in 0..8 {
        got.extend(reader.follow(30).unwrap().updates);
    }
    assert_eq!(got.len(), 100, "each row once, and nothing of the table that is not known");
    assert!(got.iter().all(|update| update.table == ITEMS && update.record == Some(item("imported", 1, true))));
    let stuck = reader.follow(30).unwrap();
    assert!(!stuck.more && stuck.position < stuck.head, "{stuck:?}");
    reader.reshape(larger).unwrap();
    let last = reader.follow(30).unwrap();
    assert_eq!(last.updates.iter().map(|update| &*update.key).collect::<Vec<_>>(), ["row"]);
    assert_eq!((last.more, last.position), (false, last.head));
}
