//! Shapes, rows, stores and questions of these tests.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::postgres_server;
use crossbeam::channel::{Receiver, Sender, unbounded};
use twintier::database::contract::{ABSENT, CommitMode, Mutation, Outcome, Publisher, Reply, ReplySink, Request};
use twintier::database::duckdb::{self, DuckStore};
use twintier::database::memory::{Disk, MemoryStore};
use twintier::database::postgres::{self, PostgresStore};
use twintier::database::seed::SeedUser;
use twintier::database::server::{self, Client, Handle, Limits, Opened};
use twintier::tables::{
    Batch, DocumentShape, Field, FieldKind, Record, ShapeSet, Stamp, TableId, Update, Value, VersionVector,
};

pub const PATIENCE: Duration = Duration::from_secs(30);
pub const USERS: TableId = TableId(0);
pub const ITEMS: TableId = TableId(1);
/// The application server's id in these tests.
pub const SERVER: u8 = 2;

pub type Replies = (Sender<Reply>, Receiver<Reply>);

pub fn field(name: &str, kind: FieldKind) -> Field {
    Field::new(name, kind, 1000)
}

pub fn shape(table: &str, key: &str, fields: Vec<Field>) -> DocumentShape {
    DocumentShape { table: table.into(), application: "reqcat".into(), key: key.into(), fields: fields.into() }
}

/// [`shapes`] with more fields of the items, and a third table.
pub fn grown(fields: Vec<Field>, table: DocumentShape) -> Arc<ShapeSet> {
    let mut shapes = ShapeSet::clone(&shapes());
    let mut items = DocumentShape::clone(shapes.get(ITEMS));
    items.fields = items.fields.iter().cloned().chain(fields).collect();
    shapes.shapes[1] = Arc::new(items);
    shapes.shapes.push(Arc::new(table));
    Arc::new(shapes)
}

pub fn reshape(client: &Client, shapes: &Arc<ShapeSet>) -> Outcome {
    client.ask(PATIENCE, |reply| Request::Reshape { token: 0, shapes: shapes.clone(), reply }).unwrap()
}

pub fn shapes() -> Arc<ShapeSet> {
    let text = |name| field(name, FieldKind::Text);
    let users = vec![
        text("name"),
        text("department"),
        text("email"),
        text("roles"),
        field("active", FieldKind::Boolean),
        text("password_hash"),
    ];
    let items = vec![text("name"), field("price", FieldKind::Money), field("stocked", FieldKind::Boolean)];
    Arc::new(ShapeSet {
        shapes: vec![Arc::new(shape("user_profile", "user", users)), Arc::new(shape("item", "item", items))],
    })
}

pub fn item(name: &str, price: i64, stocked: bool) -> Record {
    Record(Box::new([Value::text(name), Value::Integer(price), Value::Boolean(stocked)]))
}

pub fn update(key: &str, sequence: u32, server: u8, base: Stamp, record: Option<Record>) -> Update {
    let stamp = Stamp { sequence, time: u64::from(sequence) << 16, server };
    Update {
        table: ITEMS,
        key: key.into(),
        stamp,
        versions: VersionVector::default().edited_by(server, sequence),
        base,
        record,
    }
}

/// As it comes out of the store.
pub fn bare(update: &Update) -> Update {
    Update { base: ABSENT, ..update.clone() }
}

pub fn sorted(updates: Vec<Update>) -> Vec<Update> {
    let mut updates: Vec<Update> = updates.iter().map(bare).collect();
    updates.sort_by(|one, other| one.key.cmp(&other.key));
    updates
}

pub fn settings(users: Vec<SeedUser>) -> server::Settings {
    server::Settings { server: SERVER, users, code_digests: vec![("reqcat".into(), "digest-of-reqcat".into())] }
}

pub fn quiet() -> Publisher {
    Arc::new(|_| {})
}

pub type Published = Arc<Mutex<Vec<Arc<Batch>>>>;

pub fn start(path: &Path, shapes: &Arc<ShapeSet>) -> (Handle, Opened, Published) {
    let published = Published::default();
    let sink = published.clone();
    let (path, shapes) = (path.to_path_buf(), shapes.clone());
    let publisher: Publisher = Arc::new(move |batch| sink.lock().unwrap().push(batch));
    let store = move || DuckStore::open(&duckdb::Settings::new(path), shapes);
    let (handle, opened) = server::spawn(settings(Vec::new()), store, Limits::default(), publisher).unwrap();
    (handle, opened, published)
}

pub fn start_memory(disk: &Arc<Disk>, limits: Limits) -> Handle {
    let disk = disk.clone();
    server::spawn(settings(Vec::new()), move || Ok(MemoryStore::on(shapes(), disk)), limits, quiet()).unwrap().0
}

pub fn scratch(name: &str) -> PathBuf {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let unique = format!("twintier-{}-{}-{name}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
    let path = std::env::temp_dir().join(unique);
    std::fs::create_dir_all(&path).unwrap();
    path
}

/// Runs a test in a file.
pub fn each_duck(test: impl Fn(&Path)) {
    let folder = scratch("duck");
    test(&folder.join("data.duckdb"));
    std::fs::remove_dir_all(folder).unwrap();
}

/// A schema of the test's own on the server that all tests share; `None` where PostgreSQL is not installed.
pub fn postgres_settings(name: &str) -> Option<postgres::Settings> {
    Some(postgres_of(postgres_server::shared()?, &postgres_server::unique(name)))
}

/// A schema of a server.
pub fn postgres_of(server: &postgres_server::Cluster, schema: &str) -> postgres::Settings {
    let settings = postgres::Settings::parse(&server.url("twintier"), None).unwrap();
    settings.with_schema(schema).unwrap().with_appliance("under-test")
}

pub fn start_postgres(place: &postgres::Settings, shapes: &Arc<ShapeSet>) -> (Handle, Opened, Published) {
    let published = Published::default();
    let sink = published.clone();
    let (place, shapes) = (place.clone(), shapes.clone());
    let publisher: Publisher = Arc::new(move |batch| sink.lock().unwrap().push(batch));
    let store = move || PostgresStore::open(&place, shapes);
    let (handle, opened) = server::spawn(settings(Vec::new()), store, Limits::default(), publisher).unwrap();
    (handle, opened, published)
}

/// Runs a test over a DuckDB file, DuckDB in memory, PostgreSQL where it is installed, and the store in plain memory.
pub fn each_store(test: impl Fn(&Client, &Replies)) {
    each_duck(|path| {
        let (handle, _, _) = start(path, &shapes());
        test(handle.client(), &unbounded());
        handle.stop().unwrap();
    });
    let (handle, _, _) = start(Path::new(":memory:"), &shapes());
    test(handle.client(), &unbounded());
    handle.stop().unwrap();
    if let Some(place) = postgres_settings("each") {
        let (handle, _, _) = start_postgres(&place, &shapes());
        test(handle.client(), &unbounded());
        handle.stop().unwrap();
    }
    let handle = start_memory(&Arc::default(), Limits::default());
    test(handle.client(), &unbounded());
    handle.stop().unwrap();
}

pub fn send(client: &Client, make: impl FnOnce(ReplySink) -> Request, replies: &Replies) {
    let sender = replies.0.clone();
    client.try_send(make(Arc::new(move |reply| sender.send(reply).unwrap())), 0).map_err(|_| ()).unwrap();
}

/// Holds the server's thread in a reply until something is sent: what is queued meanwhile becomes one group.
pub fn hold(client: &Client) -> Sender<()> {
    let (gate, opened) = unbounded::<()>();
    let (entered, held) = unbounded::<()>();
    let waiting: ReplySink = Arc::new(move |_| {
        entered.send(()).unwrap();
        opened.recv_timeout(PATIENCE).unwrap();
    });
    let request = Request::Read { token: 0, table: ITEMS, key: "held".into(), reply: waiting };
    client.try_send(request, 0).map_err(|_| ()).unwrap();
    held.recv_timeout(PATIENCE).unwrap();
    gate
}

pub fn commit(client: &Client, updates: Vec<Update>, mode: CommitMode) -> Outcome {
    client.ask(PATIENCE, |reply| Request::Commit { token: 1, updates, mode, deadline_ns: 0, reply }).unwrap()
}

pub fn committed(client: &Client, updates: Vec<Update>) {
    let outcome = commit(client, updates, CommitMode::Arbitrated);
    assert!(matches!(&outcome, Outcome::Committed { updates } if updates.is_empty()), "{outcome:?}");
}

pub fn mutated(client: &Client, mutations: Vec<Mutation>) -> Vec<Update> {
    match client.ask(PATIENCE, |reply| Request::Mutate { token: 1, mutations, reply }).unwrap() {
        Outcome::Committed { updates } => updates,
        other => panic!("{other:?}"),
    }
}

pub fn read(client: &Client, key: &str) -> Option<Update> {
    match client.ask(PATIENCE, |reply| Request::Read { token: 1, table: ITEMS, key: key.into(), reply }).unwrap() {
        Outcome::Row(row) => row,
        other => panic!("{other:?}"),
    }
}

pub fn loaded(client: &Client, table: TableId) -> Vec<Update> {
    sorted(client.load(table).unwrap().rows)
}

pub fn query(file: &Path, sql: &str) -> String {
    ::duckdb::Connection::open(file).unwrap().query_row(sql, [], |row| row.get(0)).unwrap()
}

pub fn execute(file: &Path, sql: &str) {
    ::duckdb::Connection::open(file).unwrap().execute_batch(sql).unwrap();
}
