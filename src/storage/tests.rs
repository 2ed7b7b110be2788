//! The storage thread with a database server and back-end servers that the tests play: real sockets, a real file. Every
//! test runs on both executors.

use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::agents::WorkTable;
use super::backend::{Address, Backend};
use super::fixture::{self, Act, FakeBackend, FakeDatabase, NUMBER, POSTING, on_both, until};
use super::unit::{AgentRun, ExecutorKind, Handle, Order, Settings, spawn};
use crate::tables::{Record, Value};

on_both!(
    a_submitted_row_is_numbered_posted_and_recorded,
    a_server_error_is_tried_again_with_the_same_key_and_number,
    attempts_end,
    a_refusal_is_final,
    a_back_end_server_that_comes_up_later_is_found,
    silence_is_a_failure_with_a_limit,
    an_agent_that_takes_too_long_is_given_up,
    a_panic_costs_one_agent,
    an_interrupted_agent_keeps_its_number,
    orders_for_what_is_not_there_fail,
    a_failing_database_is_asked_again,
    a_unix_socket_and_an_interim_answer,
    a_full_queue_gives_the_order_back_and_loses_none,
    stop_finishes_what_was_taken_and_leaves_what_rests,
    no_wake_is_lost_between_sleeps,
    a_changed_file_is_announced_and_a_missing_one_is_not,
);

const OK: Act = Act::Say("HTTP/1.1 201 Created\r\nContent-Length: 8\r\n\r\naccepted");
const ERROR: Act = Act::Say("HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n");
const REQUISITION: u16 = 4;

/// A unit with short limits, its database server, and the agent.
pub(super) struct Rig {
    pub handle: Handle,
    pub database: FakeDatabase,
    agent: Arc<super::agents::PostAgent>,
}

pub(super) fn rig(executor: ExecutorKind, address: Address, change: impl FnOnce(&mut Settings)) -> Rig {
    let shapes = fixture::shapes();
    let database = FakeDatabase::start();
    let mut backend = Backend::new("suppliers", address);
    backend.first_byte_limit = Duration::from_millis(100);
    let mut settings = Settings::new(WorkTable::resolve(&shapes).expect("system table"), vec![backend]);
    settings.executor = executor;
    change(&mut settings);
    let agent = Arc::new(fixture::post_agent());
    let handle = spawn(settings, database.client()).expect("the executor starts");
    Rig { handle, database, agent }
}

impl Rig {
    fn run(&self, key: &str) -> AgentRun {
        AgentRun {
            work: work(key).into(),
            agent: Arc::clone(&self.agent),
            subject_key: key.into(),
            requested_by: "ann".into(),
        }
    }

    /// Puts a requisition into the database and orders its agent.
    fn submit(&self, key: &str) {
        self.database.put(REQUISITION, key, fixture::requisition(None));
        assert!(self.handle.orders().try_send(Order::RunAgent(self.run(key))).is_ok());
    }

    fn work_text(&self, key: &str, field: usize) -> String {
        self.database.get(2, &work(key), field).as_text().unwrap_or("").to_owned()
    }

    fn until_finished(&self, key: &str) {
        until("the work is finished", || ["done", "failed"].contains(&self.work_text(key, 3).as_str()));
    }

    /// Stops the unit; nothing that it took may be missing then, nor at any moment before.
    pub(super) fn stop(self) {
        assert_eq!(self.handle.orders().books().books(), 0);
        let orders = self.handle.orders().clone();
        self.handle.stop().expect("stopped");
        let books = orders.books();
        assert_eq!(
            (books.books(), books.in_inbox + books.at_desk + books.running + books.waiting),
            (0, 0),
            "{books:?}"
        );
    }

    fn subject(&self, key: &str, field: usize) -> Value {
        self.database.get(REQUISITION, key, field)
    }
}

fn work(key: &str) -> String {
    format!("requisition/{key}/requisition-submit")
}

fn header<'a>(request: &'a str, name: &str) -> &'a str {
    let prefix = format!("{name}: ");
    request.lines().find_map(|line| line.strip_prefix(&prefix)).unwrap_or("")
}

fn a_submitted_row_is_numbered_posted_and_recorded(executor: ExecutorKind) {
    let backend = FakeBackend::start(vec![OK]);
    let rig = rig(executor, Address::Tcp(backend.address), |_| ());
    rig.submit("R1");
    rig.until_finished("R1");
    assert_eq!(rig.subject("R1", NUMBER), Value::text("REQ-000001"));
    assert_eq!(rig.subject("R1", POSTING), Value::text("posted"));
    assert_eq!(rig.database.states(&work("R1")), ["running", "running", "done"]);
    assert_eq!(rig.work_text("R1", 8), "201 accepted");
    assert_eq!((rig.work_text("R1", 0), rig.work_text("R1", 6)), ("requisition-submit".into(), "ann".into()));
    let requests = backend.requests();
    assert!(requests[0].starts_with("POST /orders HTTP/1.1\r\n"), "{}", requests[0]);
    assert_eq!(header(&requests[0], "Idempotency-Key"), work("R1"));
    assert!(
        requests[0]
            .ends_with(r#"{"item":"0ad","number":"REQ-000001","price":"12.05","quantity":3,"requisition":"R1"}"#)
    );
    // The same order again finds the work done.
    assert!(rig.handle.orders().try_send(Order::RunAgent(rig.run("R1"))).is_ok());
    until("both orders ended", || rig.handle.orders().books().done == 2);
    assert_eq!(backend.requests().len(), 1);
    rig.stop();
}

fn a_server_error_is_tried_again_with_the_same_key_and_number(executor: ExecutorKind) {
    let backend = FakeBackend::start(vec![ERROR, Act::Say("no HTTP at all\r\n\r\n"), OK]);
    let rig = rig(executor, Address::Tcp(backend.address), |_| ());
    rig.submit("R1");
    rig.until_finished("R1");
    assert_eq!(rig.subject("R1", POSTING), Value::text("posted"));
    assert_eq!(
        rig.database.states(&work("R1")),
        ["running", "running", "waiting", "running", "waiting", "running", "done"]
    );
    assert_eq!(rig.database.get(2, &work("R1"), 4), Value::Integer(3));
    let requests = backend.requests();
    assert_eq!(requests.len(), 3);
    assert!(requests.iter().all(|request| *request == requests[0]));
    assert_eq!(rig.handle.orders().counters().backend_retries.load(Ordering::Relaxed), 2);
    rig.stop();
}

fn attempts_end(executor: ExecutorKind) {
    let backend =
        FakeBackend::start(vec![ERROR, Act::Say("HTTP/1.1 429 Slow\r\nContent-Length: 0\r\n\r\n"), ERROR, OK]);
    let rig = rig(executor, Address::Tcp(backend.address), |_| ());
    rig.submit("R1");
    rig.until_finished("R1");
    assert_eq!(rig.subject("R1", POSTING), Value::text("failed"));
    assert_eq!(rig.work_text("R1", 5), "suppliers answered 500; given up after attempt 3");
    assert_eq!(backend.requests().len(), 3);
    rig.stop();
}

fn a_refusal_is_final(executor: ExecutorKind) {
    let backend = FakeBackend::start(vec![
        Act::Say("HTTP/1.1 400 Bad\r\nTransfer-Encoding: chunked\r\n\r\n7\r\nno such\r\n5\r\n item\r\n0\r\n\r\n"),
        OK,
    ]);
    let rig = rig(executor, Address::Tcp(backend.address), |_| ());
    rig.submit("R1");
    rig.until_finished("R1");
    assert_eq!(rig.work_text("R1", 3), "failed");
    assert_eq!(rig.work_text("R1", 5), "suppliers answered 400: no such item");
    assert_eq!(rig.subject("R1", POSTING), Value::text("failed"));
    assert_eq!(rig.subject("R1", NUMBER), Value::text("REQ-000001"));
    assert_eq!(backend.requests().len(), 1);
    rig.stop();
}

fn a_back_end_server_that_comes_up_later_is_found(executor: ExecutorKind) {
    let port = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("bound");
    let rig = rig(executor, Address::Tcp(port), |_| ());
    let mut run = rig.run("R1");
    let mut patient = (*rig.agent).clone();
    patient.attempts = 1000;
    run.agent = Arc::new(patient);
    rig.database.put(REQUISITION, "R1", fixture::requisition(None));
    assert!(rig.handle.orders().try_send(Order::RunAgent(run)).is_ok());
    until("an attempt was refused", || rig.work_text("R1", 5).contains("cannot connect"));
    let backend = FakeBackend::on(TcpListener::bind(port).expect("the port is still free"), vec![OK]);
    rig.until_finished("R1");
    assert_eq!(rig.work_text("R1", 3), "done");
    assert_eq!(header(&backend.requests()[0], "Idempotency-Key"), work("R1"));
    rig.stop();
}

fn silence_is_a_failure_with_a_limit(executor: ExecutorKind) {
    let backend = FakeBackend::start(vec![Act::Hang, OK, Act::Hang]);
    let rig = rig(executor, Address::Tcp(backend.address), |_| ());
    rig.submit("R1");
    rig.until_finished("R1");
    assert_eq!(rig.database.states(&work("R1")), ["running", "running", "waiting", "running", "done"]);
    let mut hasty = (*rig.agent).clone();
    hasty.attempts = 1;
    rig.database.put(REQUISITION, "R2", fixture::requisition(None));
    let run = AgentRun { agent: Arc::new(hasty), ..rig.run("R2") };
    assert!(rig.handle.orders().try_send(Order::RunAgent(run)).is_ok());
    rig.until_finished("R2");
    let reason = format!("suppliers at {}: no answer within 100ms; given up after attempt 1", backend.address);
    assert_eq!(rig.work_text("R2", 5), reason);
    rig.stop();
}

fn an_agent_that_takes_too_long_is_given_up(executor: ExecutorKind) {
    let backend = FakeBackend::start(vec![Act::Hang]);
    let rig = rig(executor, Address::Tcp(backend.address), |settings| settings.agent_limit = Duration::from_millis(40));
    rig.submit("R1");
    rig.until_finished("R1");
    assert_eq!((rig.work_text("R1", 3), rig.work_text("R1", 5)), ("failed".into(), "took longer than 40ms".into()));
    assert_eq!(rig.subject("R1", POSTING), Value::text("failed"));
    rig.stop();
}

fn a_panic_costs_one_agent(executor: ExecutorKind) {
    let backend = FakeBackend::start(vec![OK]);
    let rig = rig(executor, Address::Tcp(backend.address), |_| ());
    rig.database.rows.lock().expect("rows").panic_next = true;
    rig.submit("R1");
    rig.until_finished("R1");
    assert_eq!(rig.work_text("R1", 5), "the agent panicked, see the log");
    rig.submit("R2");
    rig.until_finished("R2");
    assert_eq!(rig.work_text("R2", 3), "done");
    rig.stop();
}

fn an_interrupted_agent_keeps_its_number(executor: ExecutorKind) {
    let backend = FakeBackend::start(vec![OK, OK]);
    let rig = rig(executor, Address::Tcp(backend.address), |_| ());
    // As a process left it that ended after its last attempt began.
    rig.database.put(REQUISITION, "R1", fixture::requisition(Some("REQ-000041")));
    let mut values = vec![Value::Null; 9];
    values[3] = Value::text("running");
    values[4] = Value::Integer(3);
    rig.database.put(2, &work("R1"), Record(values.into()));
    let number = rig.agent.number.clone().expect("numbered");
    let numbers = super::numbers::Numbers::default();
    numbers.see(rig.agent.table, &number, &fixture::requisition(Some("REQ-000041")));
    assert!(rig.handle.orders().try_send(Order::RunAgent(rig.run("R1"))).is_ok());
    rig.until_finished("R1");
    assert_eq!(rig.work_text("R1", 3), "done");
    assert_eq!(rig.database.get(2, &work("R1"), 4), Value::Integer(3));
    assert!(backend.requests()[0].contains("REQ-000041"));
    assert_eq!(numbers.next(rig.agent.table, &number), "REQ-000042");
    rig.stop();
}

fn orders_for_what_is_not_there_fail(executor: ExecutorKind) {
    let rig = rig(executor, "127.0.0.1:1".parse().expect("an address"), |settings| settings.backends.clear());
    assert!(rig.handle.orders().try_send(Order::RunAgent(rig.run("R1"))).is_ok());
    rig.until_finished("R1");
    assert_eq!(rig.work_text("R1", 5), "requisition `R1` does not exist");
    rig.submit("R2");
    rig.until_finished("R2");
    assert_eq!(rig.work_text("R2", 5), "the profile names no back-end server `suppliers`");
    rig.stop();
}

fn a_failing_database_is_asked_again(executor: ExecutorKind) {
    let backend = FakeBackend::start(vec![OK]);
    let rig = rig(executor, Address::Tcp(backend.address), |_| ());
    let mut values = vec![Value::Null; 9];
    values[3] = Value::text("queued");
    rig.database.put(2, &work("R1"), Record(values.into()));
    rig.database.rows.lock().expect("rows").failures = 2;
    rig.submit("R1");
    rig.until_finished("R1");
    assert_eq!(rig.work_text("R1", 3), "done");
    assert_eq!(rig.database.get(2, &work("R1"), 4), Value::Integer(1));
    rig.stop();
}

fn a_unix_socket_and_an_interim_answer(executor: ExecutorKind) {
    let path = temporary("socket");
    let listener = UnixListener::bind(&path).expect("bound");
    let kept: Arc<Mutex<Vec<String>>> = Arc::default();
    let requests = Arc::clone(&kept);
    let answer = Act::Say(
        "HTTP/1.1 103 Early Hints\r\nLink: </>\r\n\r\nHTTP/1.1 200 OK\r\nConnection: close\r\n\r\nuntil the end",
    );
    let server = std::thread::spawn(move || fixture::serve(answer, listener.accept().expect("accepted").0, &requests));
    let rig = rig(executor, Address::Unix(path.clone()), |_| ());
    rig.submit("R1");
    rig.until_finished("R1");
    assert_eq!(rig.work_text("R1", 8), "200 until the end");
    server.join().expect("served");
    assert_eq!(header(&kept.lock().expect("requests")[0], "Host"), "localhost");
    std::fs::remove_file(path).expect("removed");
    rig.stop();
}

fn a_full_queue_gives_the_order_back_and_loses_none(executor: ExecutorKind) {
    let backend = FakeBackend::start(vec![OK; 64]);
    let rig = rig(executor, Address::Tcp(backend.address), |settings| {
        settings.orders_max = 4;
        settings.agents_max = 2;
    });
    rig.database.rows.lock().expect("rows").held = true;
    let mut taken = Vec::new();
    let refused = (0..).map(|index| format!("R{index}")).find(|key| {
        rig.database.put(REQUISITION, key, fixture::requisition(None));
        match rig.handle.orders().try_send(Order::RunAgent(rig.run(key))) {
            Ok(()) => {
                taken.push(key.clone());
                false
            }
            Err(Order::RunAgent(run)) => {
                assert_eq!(*run.subject_key, **key);
                true
            }
            Err(Order::Import(_) | Order::GiveUp(_) | Order::WatchFiles { .. }) => panic!("another order came back"),
        }
    });
    assert!(taken.len() <= 2 + 4 + 4, "{} orders were taken", taken.len());
    assert_eq!(rig.handle.orders().counters().orders_refused.load(Ordering::Relaxed), 1);
    rig.database.rows.lock().expect("rows").held = false;
    for key in &taken {
        rig.until_finished(key);
    }
    let mut numbers: Vec<Value> = taken.iter().map(|key| rig.subject(key, NUMBER)).collect();
    numbers.sort();
    numbers.dedup();
    assert_eq!(numbers.len(), taken.len());
    assert_eq!(rig.subject(&refused.expect("the queue is bounded"), NUMBER), Value::Null);
    rig.stop();
}

fn stop_finishes_what_was_taken_and_leaves_what_rests(executor: ExecutorKind) {
    let backend = FakeBackend::start(vec![OK; 32]);
    let busy = rig(executor, Address::Tcp(backend.address), |_| ());
    for index in 0..32 {
        busy.submit(&format!("R{index}"));
    }
    let orders = busy.handle.orders().clone();
    let again = busy.run("R0");
    busy.stop();
    assert_eq!(orders.books().done, 32);
    assert!(orders.try_send(Order::RunAgent(again)).is_err());

    let backend = FakeBackend::start(vec![ERROR]);
    let rig = rig(executor, Address::Tcp(backend.address), |_| ());
    let mut slow = (*rig.agent).clone();
    slow.backoff_ms = 60_000;
    let run = AgentRun { agent: Arc::new(slow), ..rig.run("R1") };
    rig.database.put(REQUISITION, "R1", fixture::requisition(None));
    assert!(rig.handle.orders().try_send(Order::RunAgent(run)).is_ok());
    until("the agent rests", || rig.work_text("R1", 3) == "waiting");
    let orders = rig.handle.orders().clone();
    let begun = Instant::now();
    let database = rig.database.clone();
    rig.stop();
    assert!(begun.elapsed() < Duration::from_secs(4), "the pause was not cut short");
    assert_eq!(orders.books().left, 1);
    assert_eq!(database.get(2, &work("R1"), 3), Value::text("waiting"));
}

fn no_wake_is_lost_between_sleeps(executor: ExecutorKind) {
    let rig = rig(executor, "127.0.0.1:1".parse().expect("an address"), |_| ());
    let done = || rig.handle.orders().books().failed;
    let mut slowest = Duration::ZERO;
    for index in 0..500 {
        // Each order finds the thread asleep, and so does each of its replies.
        let begun = Instant::now();
        assert!(rig.handle.orders().try_send(Order::RunAgent(rig.run(&format!("R{index}")))).is_ok());
        until("the order was served", || done() == index + 1);
        slowest = slowest.max(begun.elapsed());
    }
    println!("slowest of 500 orders with four round trips each: {slowest:?}");
    assert!(slowest < Duration::from_secs(2));
    rig.stop();
}

pub(super) fn temporary(name: &str) -> PathBuf {
    let thread = std::thread::current();
    let test = thread.name().unwrap_or("test").replace("::", "-");
    std::env::temp_dir().join(format!("twintier-{}-{test}-{name}", std::process::id()))
}

fn a_changed_file_is_announced_and_a_missing_one_is_not(executor: ExecutorKind) {
    let path = temporary("watched");
    std::fs::write(&path, "one").expect("written");
    let rig = rig(executor, "127.0.0.1:1".parse().expect("an address"), |_| ());
    let seen: Arc<Mutex<Vec<PathBuf>>> = Arc::default();
    let kept = Arc::clone(&seen);
    let notify: super::unit::Notify = Arc::new(move |path| kept.lock().expect("seen").push(path));
    let order = Order::WatchFiles { paths: vec![path.clone(), temporary("none")], interval_ms: 2, notify };
    assert!(rig.handle.orders().try_send(order).is_ok());
    until("the order was taken", || rig.handle.orders().counters().files_watched.load(Ordering::Relaxed) == 1);
    std::fs::write(&path, "three").expect("written");
    until("the change was announced", || *seen.lock().expect("seen") == [path.clone()]);
    std::fs::remove_file(&path).expect("removed");
    std::fs::write(&path, "a fourth").expect("written");
    until("the new file was announced", || seen.lock().expect("seen").len() >= 2);
    std::fs::remove_file(&path).expect("removed");
    rig.stop();
    // Nothing is announced once the unit has stopped.
    let before = seen.lock().expect("seen").len();
    assert!(before <= 3, "{before} announcements of two changes");
}
