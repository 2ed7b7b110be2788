//! A database that is slow, full, locked or down: what waits, what is refused, what is told, and the books of writes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam::channel::unbounded;
use twintier::database::contract::{ABSENT, CommitMode, Outcome, Publisher, Reply, ReplySink, Request};
use twintier::database::health::State;
use twintier::database::memory::{Disk, MemoryStore, Mischief};
use twintier::database::server::{Client, Limits, Now, RETRY_NS, Server};
use twintier::tables::Update;

use crate::support::{
    ITEMS, PATIENCE, Published, commit, committed, hold, item, loaded, read, settings, shapes, start_memory, update,
};

const MS: u64 = 1_000_000;

/// A server without a thread, in a time of its own.
struct Bench {
    disk: Arc<Disk>,
    server: Server<MemoryStore>,
    client: Client,
    now: Now,
    replies: crossbeam::channel::Receiver<Reply>,
    sink: ReplySink,
    published: Published,
}

impl Bench {
    fn new(limits: Limits) -> Self {
        Self::on(Arc::default(), limits)
    }

    fn on(disk: Arc<Disk>, limits: Limits) -> Self {
        let now = Now { monotonic_ns: 1_000 * MS, unix_ms: 1_000_000 };
        let store = MemoryStore::on(shapes(), disk.clone());
        let published = Published::default();
        let batches = published.clone();
        let publisher: Publisher = Arc::new(move |batch| batches.lock().unwrap().push(batch));
        let (server, client, _) = Server::without_thread(settings(Vec::new()), store, limits, publisher, now).unwrap();
        let (sender, replies) = unbounded();
        let sink: ReplySink = Arc::new(move |reply| sender.send(reply).unwrap());
        Self { disk, server, client, now, replies, sink, published }
    }

    fn ask(&self, token: u64, key: &str, deadline_ns: u64) -> bool {
        let updates = vec![update(key, 1, 0, ABSENT, Some(item(key, 1, true)))];
        let reply = self.sink.clone();
        let request = Request::Commit { token, updates, mode: CommitMode::Arbitrated, deadline_ns, reply };
        self.client.try_send(request, self.now.monotonic_ns).is_ok()
    }

    fn after(&mut self, pause_ns: u64) {
        self.now.monotonic_ns += pause_ns;
        self.now.unix_ms += pause_ns / MS;
    }

    /// Serves what is queued; token and kind of each answer.
    fn turn(&mut self) -> Vec<(u64, &'static str)> {
        self.server.serve_waiting(self.now);
        assert_eq!(self.server.statistics().board.read(0).writes.books(), 0);
        let kind = |outcome: &Outcome| match outcome {
            Outcome::Committed { .. } => "committed",
            Outcome::Conflict { .. } => "conflict",
            Outcome::Row(_) => "row",
            Outcome::Number(_) => "number",
            Outcome::Failed(_) => "failed",
            Outcome::Unknown(_) => "unknown",
        };
        self.replies.try_iter().map(|reply| (reply.token, kind(&reply.outcome))).collect()
    }

    fn keys(&self) -> Vec<String> {
        self.disk.rows().into_iter().filter(|row| row.table == ITEMS).map(|row| row.key.into()).collect()
    }

    /// Writes refused without asking the store.
    fn early(&self) -> u64 {
        self.server.statistics().board.read(0).refused_early
    }

    fn state(&self) -> State {
        self.server.statistics().board.read(self.now.monotonic_ns).state
    }
}

#[test]
fn the_queue_is_bounded_by_requests_and_by_bytes() {
    let mut bench = Bench::new(Limits { requests_max: 3, bytes_max: 1 << 20 });
    assert_eq!([1, 2, 3, 4].map(|token| bench.ask(token, &token.to_string(), 0)), [true, true, true, false]);
    assert_eq!((bench.client.waiting(), bench.client.refused()), (3, 1));
    assert_eq!(bench.turn().len(), 3);
    assert_eq!((bench.client.waiting(), bench.client.waiting_bytes()), (0, 0));

    let mut bench = Bench::new(Limits { requests_max: 100, bytes_max: 10_000 });
    let large = "k".repeat(6_000);
    assert!(bench.ask(1, "small", 0));
    assert!(!bench.ask(2, &large, 0), "with its copy in the record it is larger than the rest of the queue");
    assert!(bench.client.waiting_bytes() < 1_000, "what was refused costs nothing");
    assert_eq!(bench.turn(), [(1, "committed")]);
    assert!(bench.ask(3, &large, 0), "alone it may be larger than the queue");
    assert!(!bench.ask(4, "small", 0));
    assert_eq!(bench.turn(), [(3, "committed")]);
    assert_eq!(bench.client.waiting_bytes(), 0);
}

#[test]
fn what_waited_beyond_its_deadline_is_not_written() {
    let mut bench = Bench::new(Limits::default());
    let deadline_ns = bench.now.monotonic_ns + 50 * MS;
    assert!(bench.ask(1, "late", deadline_ns) && bench.ask(2, "patient", 0) && bench.ask(3, "early", deadline_ns + 1));
    bench.after(50 * MS);
    assert_eq!(bench.turn(), [(1, "failed"), (2, "committed"), (3, "committed")]);
    assert_eq!(bench.keys(), ["early", "patient"]);
}

#[test]
fn a_database_that_refuses_everybody_is_spared_and_asked_again() {
    for state in [State::Full, State::Down, State::Locked] {
        let mut bench = Bench::new(Limits::default());
        assert!(bench.ask(0, "before", 0));
        assert_eq!(bench.turn(), [(0, "committed")]);
        bench.disk.set_state(state);
        assert!(bench.ask(1, "a", 0) && bench.ask(2, "b", 0));
        assert_eq!(bench.turn(), [(1, "failed"), (2, "failed")]);
        // One that does not even begin is not asked for each order of the group.
        let early = bench.early();
        assert_eq!(early, u64::from(state != State::Full));
        let health = bench.server.statistics().board.read(bench.now.monotonic_ns);
        assert_eq!((health.state, health.since_ms), (state, bench.now.unix_ms));
        assert!(health.last_error.is_some_and(|(sentence, _)| sentence.contains(state.name())));
        // Room was made, but nobody looks before the pause is over: refused at once, and not written later either.
        bench.disk.set_state(State::Up);
        bench.after(RETRY_NS - 1);
        assert!(bench.ask(3, "c", 0));
        assert_eq!((bench.turn(), bench.state()), (vec![(3, "failed")], state));
        assert_eq!(bench.early(), early + 1);
        bench.after(1);
        assert!(bench.ask(4, "d", 0));
        assert_eq!((bench.turn(), bench.state()), (vec![(4, "committed")], State::Up));
        assert_eq!(bench.keys(), ["before", "d"]);
        // Refused for long, it is asked at growing intervals, and never later than the longest one.
        bench.disk.set_state(state);
        let mut refusals = 0;
        for token in 0..2_000 {
            assert!(bench.ask(token, "e", 0));
            assert_eq!(bench.turn(), [(token, "failed")]);
            bench.after(10 * MS);
            refusals += 1;
        }
        let asked = refusals - (bench.early() - early - 1);
        assert!((12..=20).contains(&asked), "asked {asked} times in 20 s");
    }
}

#[test]
fn an_unknown_end_is_told_as_such() {
    for kept in [true, false] {
        let mut bench = Bench::new(Limits::default());
        bench.disk.order(Mischief::LoseTrack { kept, sentence: "the disk went away".into() });
        assert!(bench.ask(1, "a", 0));
        assert_eq!(bench.turn(), [(1, "unknown")]);
        assert_eq!(bench.keys().len(), usize::from(kept));
        assert!(bench.published.lock().unwrap().is_empty());
        // Once the store works again, the replicas are told of what it has.
        assert!(bench.ask(2, "b", 0));
        assert_eq!(bench.turn(), [(2, "committed")]);
        let published: Vec<String> = bench
            .published
            .lock()
            .unwrap()
            .iter()
            .flat_map(|batch| &batch.updates)
            .map(|row| row.key.to_string())
            .collect();
        assert_eq!(published, if kept { vec!["a"] } else { vec![] });
        // Sent again, the same update is taken either way.
        assert!(bench.ask(3, "a", 0));
        assert_eq!((bench.turn(), bench.keys()), (vec![(3, "committed")], vec!["a".to_owned(), "b".to_owned()]));
    }
}

#[test]
fn what_was_answered_is_on_the_disk_when_the_answer_comes() {
    let disk: Arc<Disk> = Arc::default();
    let server = start_memory(&disk, Limits::default());
    let (sender, replies) = unbounded();
    for token in 0..200_u64 {
        let (disk, sender) = (disk.clone(), sender.clone());
        let key = format!("k{token}");
        let updates = vec![update(&key, 1, 0, ABSENT, Some(item("x", 1, true)))];
        // Looks at the disk in the moment of the answer.
        let reply: ReplySink = Arc::new(move |reply: Reply| {
            let there = disk.rows().iter().any(|row| *row.key == *key);
            sender.send((matches!(reply.outcome, Outcome::Committed { .. }), there)).unwrap();
        });
        let request = Request::Commit { token, updates, mode: CommitMode::Arbitrated, deadline_ns: 0, reply };
        server.client().try_send(request, 0).map_err(|_| ()).unwrap();
    }
    for _ in 0..200 {
        assert_eq!(replies.recv_timeout(PATIENCE).unwrap(), (true, true));
    }
    server.stop().unwrap();
}

#[test]
fn a_kill_keeps_what_was_committed_and_nothing_else() {
    let mut bench = Bench::new(Limits::default());
    assert!(bench.ask(1, "a", 0));
    assert_eq!(bench.turn(), [(1, "committed")]);
    assert!(bench.ask(2, "b", 0));
    // Killed with an order in the queue.
    let disk = bench.disk.clone();
    drop(bench);
    let mut bench = Bench::on(disk, Limits::default());
    assert_eq!(bench.keys(), ["a"]);
    assert!(bench.ask(3, "a", 0), "the same update");
    assert_eq!(bench.turn(), [(3, "committed")]);
}

#[test]
fn seconds_of_slowness_lose_nothing_and_show() {
    let disk: Arc<Disk> = Arc::default();
    let handle = start_memory(&disk, Limits { requests_max: 50, ..Limits::default() });
    let client = handle.client();
    let board = || handle.statistics().board.read(twintier::clock::monotonic_ns());
    disk.order(Mischief::Stall(Duration::from_millis(1_500)));
    let (sender, replies) = unbounded();
    let sink: ReplySink = Arc::new(move |reply| sender.send(reply).unwrap());
    let mut sent: Vec<Update> = Vec::new();
    let mut refused = 0;
    let mut slow = None;
    let deadline = Instant::now() + PATIENCE;
    while slow.is_none() {
        assert!(Instant::now() < deadline, "never slow: {:?}", board());
        let row = update(&format!("k{:04}", sent.len()), 1, 0, ABSENT, Some(item("x", 1, true)));
        let (updates, reply) = (vec![row.clone()], sink.clone());
        let token = u64::try_from(sent.len()).unwrap();
        let request = Request::Commit { token, updates, mode: CommitMode::Arbitrated, deadline_ns: 0, reply };
        match client.try_send(request, twintier::clock::monotonic_ns()) {
            Ok(()) => sent.push(row),
            Err(_) => refused += 1,
        }
        slow = Some(board()).filter(|health| health.state == State::Slow);
        assert_eq!(board().writes.books(), 0, "at any instant");
        std::thread::sleep(Duration::from_millis(2));
    }
    let health = slow.unwrap();
    assert!(health.oldest_waiting_ns > 1_000_000_000 && refused > 0 && client.waiting() > 0, "{health:?}");
    for _ in 0..sent.len() {
        let reply = replies.recv_timeout(PATIENCE).unwrap();
        assert!(matches!(reply.outcome, Outcome::Committed { .. }), "{reply:?}");
    }
    assert_eq!(loaded(client, ITEMS).len(), sent.len());
    assert_eq!((board().state, board().writes.waiting, client.waiting()), (State::Up, 0, 0));
    handle.stop().unwrap();
}

#[test]
fn the_books_count_every_kind_of_end() {
    let disk: Arc<Disk> = Arc::default();
    let handle = start_memory(&disk, Limits::default());
    let client = handle.client();
    let one = |key: &str, server| vec![update(key, 1, server, ABSENT, Some(item(key, 1, true)))];
    committed(client, one("a", 0));
    assert!(matches!(commit(client, one("a", 1), CommitMode::Arbitrated), Outcome::Conflict { .. }));
    disk.order(Mischief::FailCommit("no".into()));
    assert!(matches!(commit(client, one("b", 0), CommitMode::Arbitrated), Outcome::Failed(_)));
    disk.order(Mischief::LoseTrack { kept: false, sentence: "no".into() });
    assert!(matches!(commit(client, one("b", 0), CommitMode::Arbitrated), Outcome::Unknown(_)));
    assert!(read(client, "a").is_some(), "a read is no write");
    let board = || handle.statistics().board.read(0).writes;
    let ended = board();
    assert_eq!((ended.committed, ended.conflicted, ended.failed, ended.unknown), (1, 1, 1, 1));
    assert_eq!((ended.taken, ended.waiting, ended.books()), (4, 0, 0));
    // In the server's hands while an earlier answer holds it.
    let gate = hold(client);
    gate.send(()).unwrap();
    committed(client, one("c", 0));
    assert_eq!((board().taken, board().books()), (5, 0));
    handle.stop().unwrap();
}
