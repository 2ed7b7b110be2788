//! Shapes and agents that the storage thread's tests share.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::agents::{ImportAgent, ImportSource, PostAgent, PostSource};
use super::unit::Database;
use crate::database::contract::{Change, Mutation, Outcome, Reply, Request};
use crate::tables::{DocumentShape, Field, FieldKind, Record, ShapeSet, Stamp, TableId, Update, Value, VersionVector};

fn shape(table: &str, key: &str, fields: &[(&str, FieldKind, bool, usize)]) -> Arc<DocumentShape> {
    let fields = fields.iter().map(|(name, kind, required, length_max)| Field {
        name: (*name).into(),
        kind: *kind,
        required: *required,
        length_max: *length_max,
        secret: false,
        index: false,
        words: false,
    });
    Arc::new(DocumentShape {
        table: table.into(),
        application: "test".into(),
        key: key.into(),
        fields: fields.collect(),
    })
}

/// The three system tables, `item` and `requisition`.
pub fn shapes() -> ShapeSet {
    const TEXT: FieldKind = FieldKind::Text;
    let work: Vec<_> =
        ["agent", "subject_table", "subject_key", "state", "attempts", "reason", "requested_by", "updated", "result"]
            .into_iter()
            .map(|name| match name {
                "attempts" => (name, FieldKind::Integer, false, 0),
                "updated" => (name, FieldKind::Time, false, 0),
                _ => (name, TEXT, false, 1000),
            })
            .collect();
    let item = [
        ("version", TEXT, true, 20),
        ("section", TEXT, false, 20),
        ("size", FieldKind::Integer, false, 0),
        ("summary", TEXT, false, 1000),
    ];
    let requisition = [
        ("item", TEXT, true, 100),
        ("quantity", FieldKind::Integer, true, 0),
        ("price", FieldKind::Money, false, 0),
        ("number", TEXT, false, 40),
        ("posting", TEXT, false, 20),
    ];
    ShapeSet {
        shapes: vec![
            shape("user_profile", "user", &[]),
            shape("session_ended", "session", &[]),
            shape("agent_work", "work", &work),
            shape("item", "item", &item),
            shape("requisition", "requisition", &requisition),
        ],
    }
}

pub const NUMBER: usize = 3;
pub const POSTING: usize = 4;

pub fn post_source() -> PostSource<'static> {
    PostSource {
        application: "test",
        name: "requisition-submit",
        table: "requisition",
        backend: "suppliers",
        path: "/orders",
        attempts: 3,
        backoff_ms: 2,
        number_field: Some("number"),
        number_prefix: "REQ-",
        outcome_field: Some("posting"),
        fields: &["item", "quantity", "price"],
    }
}

pub fn post_agent(shapes: &ShapeSet) -> PostAgent {
    PostAgent::resolve(&post_source(), shapes).expect("a sound agent")
}

pub fn import_agent(shapes: &ShapeSet) -> ImportAgent {
    let source = ImportSource {
        application: "test",
        name: "catalog-import",
        table: "item",
        format: "rfc822",
        map: &[
            ("Package", "item"),
            ("Version", "version"),
            ("Section", "section"),
            ("Size", "size"),
            ("Description", "summary"),
        ],
        required: &["Section"],
    };
    ImportAgent::resolve(&source, shapes).expect("a sound agent")
}

/// Three pieces at 12.05 each.
pub fn requisition(number: Option<&str>) -> Record {
    let number = number.map_or(Value::Null, Value::text);
    Record(Box::new([Value::text("0ad"), Value::Integer(3), Value::Integer(1205), number, Value::Null]))
}

/// Looks until it is so; panics with the message after ten seconds.
pub fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !is_so() {
        assert!(Instant::now() < deadline, "not within ten seconds: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// A database server in a thread of its own, with a queue of four and its rows in a map.
#[derive(Clone)]
pub struct FakeDatabase {
    queue: SyncSender<Request>,
    pub rows: Arc<Mutex<Rows>>,
}

#[derive(Default)]
pub struct Rows {
    pub records: HashMap<(TableId, Box<str>), Record>,
    /// States of work rows in the order in which they were committed.
    pub states: Vec<(String, String)>,
    /// Rows of each transaction that put rows into `item`.
    pub batches: Vec<usize>,
    /// So many mutations fail before one succeeds.
    pub failures: usize,
    /// The next request panics in the agent that sends it.
    pub panic_next: bool,
    /// Requests wait while this is set.
    pub held: bool,
}

impl FakeDatabase {
    pub fn start() -> Self {
        let (queue, requests) = sync_channel(4);
        let rows: Arc<Mutex<Rows>> = Arc::default();
        let store = Arc::clone(&rows);
        std::thread::spawn(move || {
            while let Ok(request) = requests.recv() {
                until("the fake database is released", || !store.lock().expect("rows").held);
                let mut rows = store.lock().expect("rows");
                let (token, outcome, reply) = match request {
                    Request::Mutate { token, mutations, reply } => (token, rows.mutate(&mutations), reply),
                    Request::Read { token, table, key, reply } => {
                        let record = rows.records.get(&(table, key.clone())).cloned();
                        (token, Outcome::Row(record.map(|record| update(table, key, Some(record)))), reply)
                    }
                    Request::Commit { .. }
                    | Request::Deploy { .. }
                    | Request::Reshape { .. }
                    | Request::Load { .. }
                    | Request::Stop => continue,
                };
                drop(rows);
                reply(Reply { token, outcome });
            }
        });
        Self { queue, rows }
    }

    pub fn client(&self) -> Database {
        let Self { queue, rows } = self.clone();
        Arc::new(move |request| {
            if std::mem::take(&mut rows.lock().expect("rows").panic_next) {
                std::panic::resume_unwind(Box::new("a panic that a test ordered"));
            }
            queue.try_send(request).map_err(|error| match error {
                TrySendError::Full(request) | TrySendError::Disconnected(request) => request,
            })
        })
    }

    pub fn put(&self, table: u16, key: &str, record: Record) {
        self.rows.lock().expect("rows").records.insert((TableId(table), key.into()), record);
    }

    pub fn get(&self, table: u16, key: &str, field: usize) -> Value {
        let rows = self.rows.lock().expect("rows");
        rows.records.get(&(TableId(table), key.into())).map_or(Value::Null, |record| record.get(field).clone())
    }

    pub fn states(&self, work: &str) -> Vec<String> {
        let rows = self.rows.lock().expect("rows");
        rows.states.iter().filter(|(key, _)| key == work).map(|(_, state)| state.clone()).collect()
    }
}

impl Rows {
    fn mutate(&mut self, mutations: &[Mutation]) -> Outcome {
        if self.failures > 0 {
            self.failures -= 1;
            return Outcome::Failed("the disk is full".to_owned());
        }
        let place = |mutation: &Mutation| (mutation.table, mutation.key.clone());
        let is_missing = |mutation: &&Mutation| {
            matches!(mutation.change, Change::Set(_)) && !self.records.contains_key(&place(mutation))
        };
        if let Some(missing) = mutations.iter().find(is_missing) {
            return Outcome::Conflict { current: vec![update(missing.table, missing.key.clone(), None)] };
        }
        let items = mutations.iter().filter(|mutation| mutation.table == ITEM).count();
        if items > 0 {
            self.batches.push(items);
        }
        let mut updates = Vec::new();
        for mutation in mutations {
            let place = place(mutation);
            let before = self.records.get(&place).cloned();
            let after = match &mutation.change {
                Change::Put(record) => record.clone(),
                Change::Set(fields) => {
                    let mut record = before.clone().expect("checked above");
                    for (field, value) in fields {
                        record.0[*field] = value.clone();
                    }
                    record
                }
                Change::Delete => continue,
            };
            if mutation.table == WORK {
                let state = after.get(3).as_text().expect("a state").to_owned();
                self.states.push((mutation.key.to_string(), state));
            }
            if before.as_ref() != Some(&after) {
                updates.push(update(mutation.table, mutation.key.clone(), Some(after.clone())));
                self.records.insert(place, after);
            }
        }
        Outcome::Committed { updates }
    }
}

pub const WORK: TableId = TableId(2);
pub const ITEM: TableId = TableId(3);

fn update(table: TableId, key: Box<str>, record: Option<Record>) -> Update {
    Update { table, key, stamp: Stamp::default(), versions: VersionVector::default(), base: Stamp::default(), record }
}

/// What the fake back-end server does with a connection.
#[derive(Clone, Copy, Debug)]
pub enum Act {
    /// Reads the request, then writes these bytes and closes.
    Say(&'static str),
    /// Reads the request and says nothing until the peer closes.
    Hang,
}

/// A back-end server that does one act per connection, in order, and keeps what it was sent.
pub struct FakeBackend {
    pub address: SocketAddr,
    pub requests: Arc<Mutex<Vec<String>>>,
}

impl FakeBackend {
    pub fn start(acts: Vec<Act>) -> Self {
        Self::on(TcpListener::bind("127.0.0.1:0").expect("a port"), acts)
    }

    pub fn on(listener: TcpListener, acts: Vec<Act>) -> Self {
        let address = listener.local_addr().expect("bound");
        let requests: Arc<Mutex<Vec<String>>> = Arc::default();
        let kept = Arc::clone(&requests);
        std::thread::spawn(move || {
            for (act, stream) in acts.into_iter().zip(listener.incoming()) {
                serve(act, stream.expect("accepted"), &kept);
            }
        });
        Self { address, requests }
    }

    pub fn requests(&self) -> Vec<String> {
        self.requests.lock().expect("requests").clone()
    }
}

/// Serves one connection of a back-end server.
pub fn serve(act: Act, mut stream: impl Read + Write, kept: &Mutex<Vec<String>>) {
    let mut text = String::new();
    let mut piece = [0; 1024];
    loop {
        let bytes = stream.read(&mut piece).unwrap_or(0);
        text.push_str(std::str::from_utf8(&piece[..bytes]).expect("text"));
        let lower = text.to_ascii_lowercase();
        let length =
            lower.split("content-length: ").nth(1).and_then(|rest| rest.lines().next()?.parse().ok()).unwrap_or(0);
        let complete = text.split_once("\r\n\r\n").is_some_and(|(_, body)| body.len() >= length);
        if complete || bytes == 0 {
            break;
        }
    }
    kept.lock().expect("requests").push(text);
    match act {
        // The client may have left; what it made of it is what the test looks at.
        Act::Say(answer) => drop(stream.write_all(answer.as_bytes())),
        Act::Hang => while stream.read(&mut piece).is_ok_and(|bytes| bytes > 0) {},
    }
}
