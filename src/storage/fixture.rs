//! Shapes and agents that the storage thread's tests share.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::agents::{ImportAgent, PostAgent};
use super::orders;
use super::unit::Database;
use crate::database::contract::{Change, Mutation, Outcome, Reply, Request};
use crate::tables::code::{CodeSource, CodeVersion};
use crate::tables::{Record, ShapeSet, Stamp, TableId, Update, Value, VersionVector};

/// The same tests on each executor.
macro_rules! on_both {
    ($($name:ident),* $(,)?) => {
        mod on_glommio {
            $(
                #[test]
                fn $name() {
                    super::$name(super::ExecutorKind::Glommio);
                }
            )*
        }
        mod on_epoll {
            $(
                #[test]
                fn $name() {
                    super::$name(super::ExecutorKind::Local);
                }
            )*
        }
    };
}
pub(super) use on_both;

/// The code tables of the tests' application.
const CODE: &[(&str, &str)] = &[
    ("application.toml", "name = \"test\"\ntitle = \"Test\"\nsign_in = \"/test/sign-in\"\n"),
    ("authority.toml", "allow = []\n"),
    (
        "documents/item.toml",
        "key = \"item\"\nfields = [\n  { name = \"version\", kind = \"text\", required = true, length_max = 20 },\n  \
         { name = \"section\", kind = \"text\", length_max = 20 },\n  { name = \"size\", kind = \"integer\" },\n  \
         { name = \"summary\", kind = \"text\", length_max = 1000 },\n]\n",
    ),
    (
        "documents/requisition.toml",
        "key = \"requisition\"\nfields = [\n  { name = \"item\", kind = \"text\", required = true },\n  \
         { name = \"quantity\", kind = \"integer\", required = true },\n  { name = \"price\", kind = \"money\" },\n  \
         { name = \"number\", kind = \"text\" },\n  { name = \"posting\", kind = \"text\" },\n]\n",
    ),
    (
        "agents/requisition-submit.toml",
        "kind = \"post\"\ntable = \"requisition\"\nbackend = \"suppliers\"\npath = \"/orders\"\nattempts = 3\n\
         backoff_ms = 2\nnumber_field = \"number\"\nnumber_prefix = \"REQ-\"\noutcome_field = \"posting\"\n\
         fields = [\"item\", \"quantity\", \"price\"]\n",
    ),
    (
        "agents/catalog-import.toml",
        "kind = \"import\"\ntable = \"item\"\nformat = \"rfc822\"\nrequired = [\"Section\"]\nmap = [\n  \
         { from = \"Package\", to = \"item\" },\n  { from = \"Version\", to = \"version\" },\n  \
         { from = \"Section\", to = \"section\" },\n  { from = \"Size\", to = \"size\" },\n  \
         { from = \"Description\", to = \"summary\" },\n]\n",
    ),
];

/// The application, compiled.
pub fn code() -> CodeVersion {
    let source = |(path, text): &(&str, &str)| CodeSource {
        application: "test".into(),
        path: (*path).into(),
        text: (*text).into(),
    };
    let sources: Vec<CodeSource> = CODE.iter().map(source).collect();
    CodeVersion::from_sources(&sources, 1).unwrap_or_else(|faults| panic!("{faults:?}"))
}

/// The three system tables, `item` and `requisition`.
pub fn shapes() -> ShapeSet {
    (*code().shapes).clone()
}

pub const NUMBER: usize = 3;
pub const POSTING: usize = 4;

pub fn post_agent() -> PostAgent {
    let code = code();
    let application = code.application("test").expect("there is one");
    let agent = application.agent("requisition-submit").expect("there is one");
    orders::post_of(application, agent, &code.shapes).expect("a post agent")
}

pub fn import_agent() -> ImportAgent {
    let code = code();
    let application = code.application("test").expect("there is one");
    let agent = application.agent("catalog-import").expect("there is one");
    orders::import_of(application, agent, &code.shapes).expect("an import agent")
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
    /// Sets `held` when so many batches of items are there.
    pub hold_at: usize,
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
                    | Request::Withdraw { .. }
                    | Request::Load { .. }
                    | Request::Follow { .. }
                    | Request::Number { .. }
                    | Request::TakeOver { .. }
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
            self.held |= self.batches.len() == self.hold_at;
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
