//! PostgreSQL that is killed, cut off, slow or full under a running database server: what was answered holds, and the
//! server goes on without a restart.

use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use twintier::database::contract::{ABSENT, CommitMode, Outcome};
use twintier::database::health::State;
use twintier::database::postgres::Settings;
use twintier::database::server::{Client, Handle};
use twintier::tables::Update;

use crate::postgres_server::{self, Cluster};
use crate::support::{
    ITEMS, PATIENCE, commit, committed, item, loaded, postgres_of, postgres_settings, read, scratch, shapes,
    start_postgres, update,
};

fn one(key: &str) -> Vec<Update> {
    vec![update(key, 1, 0, ABSENT, Some(item(key, 1, true)))]
}

fn state(handle: &Handle) -> State {
    handle.statistics().board.read(0).state
}

/// Writes until it is taken: a database that was away is asked again at intervals.
fn commits_again(client: &Client, key: &str) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match commit(client, one(key), CommitMode::Arbitrated) {
            Outcome::Committed { .. } => return,
            outcome => assert!(Instant::now() < deadline, "it never works again: {outcome:?}"),
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Kills of [`a_server_killed_in_the_middle_of_commits_keeps_all_that_was_answered`].
const KILLS_MIN: u32 = 3;
const KILLS_MAX: u32 = 12;

#[test]
fn a_server_killed_in_the_middle_of_commits_keeps_all_that_was_answered() {
    let Some(server) = Cluster::start(&[]) else { return };
    let place = postgres_of(&server, "killed");
    let (handle, _, _) = start_postgres(&place, &shapes());
    let stop = AtomicBool::new(false);
    let answers: Mutex<Vec<(String, &str)>> = Mutex::default();
    std::thread::scope(|scope| {
        for writer in 0..4 {
            let (client, stop, answers) = (handle.client().clone(), &stop, &answers);
            scope.spawn(move || {
                for number in 0.. {
                    if stop.load(Ordering::Relaxed) {
                        return;
                    }
                    let key = format!("{writer}-{number}");
                    let kind = match commit(&client, one(&key), CommitMode::Arbitrated) {
                        Outcome::Committed { .. } => "committed",
                        Outcome::Failed(_) => "failed",
                        Outcome::Unknown(_) => "unknown",
                        other => panic!("{other:?}"),
                    };
                    answers.lock().unwrap().push((key, kind));
                }
            });
        }
        let counted = |kind: &str| answers.lock().unwrap().iter().filter(|(_, one)| *one == kind).count();
        // A kill within COMMIT may end as committed, once the server is back and says so: then nobody notices it.
        let noticed = || counted("failed") + counted("unknown") > 0;
        for kill in 0.. {
            if kill >= KILLS_MIN && noticed() {
                break;
            }
            assert!(kill < KILLS_MAX, "none of the kills was noticed");
            // Under way again after each start.
            let (before, deadline) = (counted("committed"), Instant::now() + PATIENCE);
            while counted("committed") < before + 20 {
                assert!(Instant::now() < deadline, "{:?}", handle.statistics().board.read(0));
                std::thread::sleep(Duration::from_millis(5));
            }
            server.stop_at_once();
            server.start_again();
        }
        stop.store(true, Ordering::Relaxed);
    });
    commits_again(handle.client(), "afterwards");
    assert_eq!(state(&handle), State::Up);
    let rows = loaded(handle.client(), ITEMS);
    let there = |key: &str| rows.iter().any(|row| &*row.key == key);
    let answers = answers.into_inner().unwrap();
    for (key, kind) in &answers {
        match *kind {
            "committed" => assert!(there(key), "{key} was answered and is lost"),
            "failed" => assert!(!there(key), "{key} was called failed and is there"),
            _nobody_knows => {}
        }
    }
    assert_eq!(handle.statistics().board.read(0).writes.books(), 0);
    handle.stop().unwrap();
}

/// What a [`Cutter`] does with the next COMMIT.
const PASS: u8 = 0;
/// Cuts the connection instead of passing it on.
const BEFORE: u8 = 1;
/// Passes it on, and cuts the connection instead of passing the answer on.
const AFTER: u8 = 2;
/// The same, and lets nobody in from then on.
const AFTER_AND_CLOSED: u8 = 3;
const CLOSED: u8 = 4;

/// Stands between a store and the server.
struct Cutter {
    folder: PathBuf,
    mode: Arc<AtomicU8>,
}

impl Cutter {
    fn before(server: &Cluster) -> Self {
        let folder = scratch("cut");
        std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o755)).unwrap();
        let listener = UnixListener::bind(folder.join(".s.PGSQL.5432")).unwrap();
        let (mode, target) = (Arc::new(AtomicU8::new(PASS)), server.folder().join(".s.PGSQL.5432"));
        let shared = mode.clone();
        // It ends with the process.
        std::thread::spawn(move || {
            for browser in listener.incoming() {
                let (Ok(browser), mode, target) = (browser, shared.clone(), target.clone()) else { return };
                if mode.load(Ordering::SeqCst) != CLOSED {
                    std::thread::spawn(move || Self::carry(browser, &target, &mode));
                }
            }
        });
        Self { folder, mode }
    }

    fn carry(mut browser: UnixStream, target: &Path, mode: &AtomicU8) {
        let mut server = UnixStream::connect(target).unwrap();
        let (mut answers, mut back) = (server.try_clone().unwrap(), browser.try_clone().unwrap());
        let swallow = Arc::new(AtomicBool::new(false));
        let swallows = swallow.clone();
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(count) = answers.read(&mut bytes) {
                if count == 0 || swallows.load(Ordering::SeqCst) || back.write_all(&bytes[..count]).is_err() {
                    break;
                }
            }
            let _ = back.shutdown(std::net::Shutdown::Both);
        });
        let mut bytes = [0; 4096];
        while let Ok(count) = browser.read(&mut bytes) {
            let commits = bytes[..count].windows(7).any(|window| window == b"COMMIT\0");
            let now = if commits { mode.load(Ordering::SeqCst) } else { PASS };
            // Once only, and noted before anybody can see an effect of it.
            match now {
                BEFORE => mode.store(PASS, Ordering::SeqCst),
                AFTER => {
                    swallow.store(true, Ordering::SeqCst);
                    mode.store(PASS, Ordering::SeqCst);
                }
                AFTER_AND_CLOSED => {
                    swallow.store(true, Ordering::SeqCst);
                    mode.store(CLOSED, Ordering::SeqCst);
                }
                _passes => {}
            }
            if count == 0 || now == BEFORE || server.write_all(&bytes[..count]).is_err() {
                break;
            }
        }
        let _ = browser.shutdown(std::net::Shutdown::Both);
        let _ = server.shutdown(std::net::Shutdown::Both);
    }

    fn place(&self, schema: &str) -> Settings {
        let url = format!("host={} user=twintier dbname=twintier", self.folder.display());
        Settings::parse(&url, None).unwrap().with_schema(schema).unwrap()
    }
}

impl Drop for Cutter {
    fn drop(&mut self) {
        // What is left behind is in the system's folder for such things.
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

#[test]
fn a_connection_that_is_cut_in_commit_is_told_as_it_ended() {
    let Some(server) = postgres_server::shared() else { return };
    let cutter = Cutter::before(server);
    let place = cutter.place(&postgres_server::unique("cut"));
    let (handle, _, published) = start_postgres(&place, &shapes());
    let client = handle.client();
    committed(client, one("first"));

    cutter.mode.store(AFTER, Ordering::SeqCst);
    let outcome = commit(client, one("answer lost"), CommitMode::Arbitrated);
    assert!(matches!(outcome, Outcome::Committed { .. }), "the server is asked, and knows: {outcome:?}");
    assert!(read(client, "answer lost").is_some());

    cutter.mode.store(BEFORE, Ordering::SeqCst);
    let outcome = commit(client, one("never sent"), CommitMode::Arbitrated);
    assert!(matches!(outcome, Outcome::Failed(_)), "the server is asked, and knows: {outcome:?}");
    assert_eq!(read(client, "never sent"), None);
    commits_again(client, "in between");

    // Nobody can be asked: nobody is told that it failed. Once the server is back, the replicas get what it has.
    cutter.mode.store(AFTER_AND_CLOSED, Ordering::SeqCst);
    let outcome = commit(client, one("unknown"), CommitMode::Arbitrated);
    assert!(matches!(outcome, Outcome::Unknown(_)), "{outcome:?}");
    cutter.mode.store(PASS, Ordering::SeqCst);
    commits_again(client, "afterwards");
    assert!(read(client, "unknown").is_some());
    let told = published.lock().unwrap().iter().any(|batch| batch.updates.iter().any(|row| &*row.key == "unknown"));
    assert!(told, "the replicas are told");
    handle.stop().unwrap();
}

#[test]
fn an_idle_connection_that_was_ended_is_opened_again_unnoticed() {
    let Some(place) = postgres_settings("idle") else { return };
    let (handle, _, _) = start_postgres(&place, &shapes());
    committed(handle.client(), one("before"));
    let mut admin = postgres_server::shared().unwrap().client("twintier");
    // Its last statement names its schema only at the start: all that may be idle here are found by their lock's name.
    let end = "SELECT count(pg_terminate_backend(l.pid)) FROM pg_locks l JOIN pg_stat_activity a USING (pid) \
               WHERE l.locktype = 'advisory' AND l.mode = 'ShareLock' AND a.datname = 'twintier' \
               AND (l.classid::bigint << 32) | l.objid::bigint = hashtextextended($1, 0)";
    let ended: i64 = admin.query_one(end, &[&format!("twintier.open.{}", place.schema)]).unwrap().get(0);
    assert_eq!(ended, 1);
    committed(handle.client(), one("after"));
    assert!(read(handle.client(), "after").is_some());
    assert_eq!((state(&handle), handle.statistics().board.read(0).last_error), (State::Up, None));
    handle.stop().unwrap();
}

#[test]
fn a_statement_that_takes_too_long_is_undone_and_the_next_one_works() {
    let Some(place) = postgres_settings("slow") else { return };
    let place = place.with_timeouts(Duration::from_secs(30), Duration::from_secs(3));
    let (handle, _, _) = start_postgres(&place, &shapes());
    let mut other = postgres_server::shared().unwrap().client("twintier");
    // Another program of the same site holds what everybody needs.
    let lock = format!("hashtextextended('twintier.{}', 0)", place.schema);
    other.batch_execute(&format!("SELECT pg_advisory_lock({lock})")).unwrap();
    let outcome = commit(handle.client(), one("late"), CommitMode::Arbitrated);
    assert!(matches!(&outcome, Outcome::Failed(said) if said.contains("statement_timeout_ms")), "{outcome:?}");
    other.batch_execute(&format!("SELECT pg_advisory_unlock({lock})")).unwrap();
    assert_ne!(state(&handle), State::Down);
    commits_again(handle.client(), "late");
    handle.stop().unwrap();
}

#[test]
fn a_full_disk_refuses_writes_until_there_is_room() {
    let Some(place) = postgres_settings("full") else { return };
    let (handle, _, _) = start_postgres(&place, &shapes());
    committed(handle.client(), one("before"));
    let mut admin = postgres_server::shared().unwrap().client("twintier");
    // PostgreSQL's own code for it, raised where a page would be added.
    admin
        .batch_execute(&format!(
            "SET search_path = \"{}\"; CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS \
             $$ BEGIN RAISE EXCEPTION 'could not extend file' USING ERRCODE = 'disk_full'; END $$; \
             CREATE TRIGGER full_disk BEFORE INSERT ON item FOR EACH STATEMENT EXECUTE FUNCTION full_disk()",
            place.schema
        ))
        .unwrap();
    let outcome = commit(handle.client(), one("no room"), CommitMode::Arbitrated);
    assert!(matches!(&outcome, Outcome::Failed(said) if said.contains("is full; free some space")), "{outcome:?}");
    assert_eq!(state(&handle), State::Full);
    assert!(read(handle.client(), "before").is_some(), "reads go on");
    admin.batch_execute("DROP TRIGGER full_disk ON item").unwrap();
    commits_again(handle.client(), "no room");
    assert_eq!(state(&handle), State::Up);
    handle.stop().unwrap();
}

#[test]
fn a_database_that_was_set_back_is_not_written_to() {
    let Some(server) = Cluster::start(&[]) else { return };
    let place = postgres_of(&server, "restored");
    let (handle, _, _) = start_postgres(&place, &shapes());
    committed(handle.client(), one("known to the replicas"));
    server.client("twintier").batch_execute("DELETE FROM restored.change_log; DELETE FROM restored.item").unwrap();
    server.stop();
    server.start_again();
    let outcome = commit(handle.client(), one("after"), CommitMode::Arbitrated);
    assert!(matches!(&outcome, Outcome::Failed(said) if said.contains("restart the appliance")), "{outcome:?}");
    assert_eq!(state(&handle), State::Down);
    handle.stop().unwrap();
}

/// Processes that are stopped, and go on when this is dropped, whatever has happened.
struct Stopped(Vec<String>);

impl Stopped {
    fn stop(processes: Vec<String>) -> Self {
        let stopped = Self(processes);
        stopped.signal("-STOP");
        stopped
    }

    fn signal(&self, name: &str) -> bool {
        Command::new("kill").arg(name).args(&self.0).status().is_ok_and(|status| status.success())
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        self.signal("-CONT");
    }
}

/// A server that is stopped is there and says nothing: no end of a connection, no statement's time limit.
#[test]
fn a_server_that_is_stopped_is_down_in_time_and_comes_back() {
    let Some(server) = Cluster::start(&[]) else { return };
    let place = postgres_of(&server, "stopped").with_timeouts(Duration::from_secs(3), Duration::from_secs(3));
    let (handle, _, _) = start_postgres(&place, &shapes());
    let client = handle.client();
    commits_again(client, "before");
    let processes = || -> Vec<String> {
        let asked = "SELECT pid::text FROM pg_stat_activity WHERE backend_type = 'client backend' \
                     AND pid <> pg_backend_pid()";
        server.client("twintier").query(asked, &[]).unwrap().iter().map(|row| row.get(0)).collect()
    };
    let backends = processes();
    assert_eq!(backends.len(), 1, "the store's");

    // The process of one connection: another connection does.
    let stopped = Stopped::stop(backends);
    commits_again(client, "over another connection");
    drop(stopped);

    // All of it: nobody can be asked.
    let postmaster = std::fs::read_to_string(server.folder().join("data/postmaster.pid")).unwrap();
    let mut all = processes();
    all.push(postmaster.lines().next().unwrap().to_owned());
    let stopped = Stopped::stop(all);
    let outcome = commit(client, one("nobody there"), CommitMode::Arbitrated);
    assert!(matches!(&outcome, Outcome::Failed(said) if said.contains("look whether it is stopped")), "{outcome:?}");
    assert_eq!(state(&handle), State::Down);
    drop(stopped);
    commits_again(client, "it goes on");
    assert_eq!(state(&handle), State::Up);
    assert_eq!((read(client, "nobody there"), handle.statistics().board.read(0).writes.books()), (None, 0));
    handle.stop().unwrap();
}
