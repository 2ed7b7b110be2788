//! What PostgreSQL as a store does beyond what every store does: restarts, what its schema holds, what it refuses.

use std::process::Command;
use std::sync::Arc;
use std::sync::mpsc::{TryRecvError, channel};
use std::time::{Duration, Instant};

use twintier::database::contract::{
    ABSENT, Change, CommitMode, Deployed, Mutation, Outcome, Reply, ReplySink, Request, Store,
};
use twintier::database::health::State;
use twintier::database::postgres::{PostgresStore, Settings};
use twintier::database::seed::SeedUser;
use twintier::database::server::{self, Limits, Now, Server};
use twintier::tables::{FieldKind, Record, ShapeSet, TableId, Update, Value};

use crate::postgres_server;
use crate::support::{
    ITEMS, PATIENCE, bare, commit, committed, field, grown, item, loaded, mutated, postgres_of, postgres_settings,
    quiet, read, reshape, settings, shape, shapes, sorted, start_postgres, update,
};

/// A question to the database behind a store's back, with its schema in force.
fn ask(place: &Settings, sql: &str) -> String {
    let server = postgres_server::shared().unwrap();
    let mut client = server.client("twintier");
    client.batch_execute(&format!("SET search_path = \"{}\"", place.schema)).unwrap();
    let rows = client.query(sql, &[]).unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    rows.first().map(|row| row.get::<_, String>(0)).unwrap_or_default()
}

fn execute(place: &Settings, sql: &str) {
    let mut client = postgres_server::shared().unwrap().client("twintier");
    client.batch_execute(&format!("SET search_path = \"{}\"; {sql}", place.schema)).unwrap();
}

fn refused(place: &Settings) -> String {
    PostgresStore::open(place, shapes()).map(|_| ()).unwrap_err()
}

#[test]
fn a_commit_is_there_after_a_restart() {
    let Some(place) = postgres_settings("restart") else { return };
    let shapes = shapes();
    let awkward = "Ünï \u{1F600} 'single' \"double\" ; DROP TABLE item -- \n\0 \u{fdd0}\t\\N end";
    let written = vec![
        update("plain", 1, 0, ABSENT, Some(item("a", 5, true))),
        update(awkward, 7, 1, ABSENT, Some(Record(Box::new([Value::text(awkward), Value::Null, Value::Null])))),
        update("gone", 1, 0, ABSENT, None),
        update("", 1, 0, ABSENT, Some(item("", i64::MIN, false))),
    ];
    let (handle, opened, _) = start_postgres(&place, &shapes);
    let key = opened.session_key;
    committed(handle.client(), written.clone());
    // The same texts by COPY.
    let awkward_at = |number: usize| Mutation {
        table: TableId(0),
        key: format!("{awkward}{number}").into(),
        change: Change::Put(Record(Box::new([Value::text(awkward)]))),
    };
    assert_eq!(mutated(handle.client(), (0..40).map(awkward_at).collect()).len(), 40);
    handle.stop().unwrap();
    let (handle, opened, _) = start_postgres(&place, &shapes);
    assert_eq!((opened.session_key, opened.rows), (key, 44));
    assert_eq!(loaded(handle.client(), ITEMS), sorted(written));
    let users = loaded(handle.client(), TableId(0));
    assert!(users.len() == 40 && users.iter().all(|row| row.key.starts_with(awkward)));
    assert!(users.iter().all(|row| row.record.as_ref().unwrap().get(0) == &Value::text(awkward)));
    let third = update("plain", 2, 1, read(handle.client(), "plain").unwrap().stamp, None);
    committed(handle.client(), vec![third.clone()]);
    assert_eq!(read(handle.client(), "plain"), Some(bare(&third)));
    handle.stop().unwrap();
    let log = "SELECT count(*) || ':' || count(DISTINCT position) || ':' || count(record) || ':' || min(appliance) \
               || ':' || bool_and(deleted OR stored OR record IS NOT NULL) FROM change_log";
    assert_eq!(ask(&place, log), "45:45:3:under-test:true");
}

#[test]
fn merged_commits_keep_the_loser() {
    let Some(place) = postgres_settings("merged") else { return };
    let (handle, _, _) = start_postgres(&place, &shapes());
    let left = update("a", 2, 0, ABSENT, Some(item("left", 1, true)));
    let right = update("a", 2, 1, ABSENT, Some(item("right", 1, true)));
    for updates in [&right, &left, &right] {
        let outcome = commit(handle.client(), vec![updates.clone()], CommitMode::Merged);
        assert!(matches!(outcome, Outcome::Committed { .. }), "{outcome:?}");
    }
    assert_eq!(read(handle.client(), "a"), Some(bare(&right)));
    handle.stop().unwrap();
    let conflicts = ask(&place, "SELECT count(*) || ':' || min(key) || min(record) FROM conflict");
    assert_eq!(conflicts, "1:a{\"name\":\"left\",\"price\":1,\"stocked\":true}");
}

#[test]
fn shapes_grow_and_names_are_compared_without_case() {
    let Some(place) = postgres_settings("grow") else { return };
    let (handle, _, _) = start_postgres(&place, &shapes());
    committed(handle.client(), vec![update("a", 1, 0, ABSENT, Some(item("one", 1, true)))]);
    let grown =
        grown(vec![field("Note\"", FieldKind::Text)], shape("order", "Select", vec![field("FROM", FieldKind::Time)]));
    assert!(matches!(reshape(handle.client(), &grown), Outcome::Committed { .. }));
    assert!(matches!(reshape(handle.client(), &Arc::default()), Outcome::Failed(_)), "tables are never dropped");
    let long = Record(Box::new([Value::text("b"), Value::Null, Value::Null, Value::text("noted")]));
    let record = Some(Record(Box::new([Value::Integer(7)])));
    let order = Update { table: TableId(2), ..update("o", 1, 0, ABSENT, record) };
    committed(handle.client(), vec![update("b", 1, 0, ABSENT, Some(long.clone())), order.clone()]);
    handle.stop().unwrap();
    let (handle, _, _) = start_postgres(&place, &grown);
    let rows = loaded(handle.client(), ITEMS);
    assert_eq!((rows[0].record.as_ref().unwrap().get(3), &rows[1].record), (&Value::Null, &Some(long)));
    assert_eq!(loaded(handle.client(), TableId(2)), [bare(&order)]);
    handle.stop().unwrap();
    let with = |table: &str, key: &str, kind| {
        let mut changed = ShapeSet::clone(&shapes());
        changed.shapes[1] = Arc::new(shape(table, key, vec![field("name", kind)]));
        PostgresStore::open(&place, Arc::new(changed)).map(|_| ())
    };
    assert!(with("ITEM", "Item", FieldKind::Text).is_ok(), "the same table");
    assert!(with("item", "item", FieldKind::Boolean).unwrap_err().contains("column `name` of table `item` is text"));
    assert!(with("item", "other", FieldKind::Text).unwrap_err().contains("has no key column `other`"));
    assert!(with(&"x".repeat(64), "key", FieldKind::Text).unwrap_err().contains("too long for PostgreSQL"));
}

#[test]
fn users_are_seeded_once_and_the_latest_deploys_are_found() {
    let Some(place) = postgres_settings("seed") else { return };
    let users = vec![SeedUser { user: "ann".into(), password: "secret".into(), ..SeedUser::default() }];
    let open = || {
        let place = place.clone();
        server::spawn(
            settings(users.clone()),
            move || PostgresStore::open(&place, shapes()),
            Limits::default(),
            quiet(),
        )
        .unwrap()
    };
    let (handle, opened) = open();
    assert_eq!((opened.users_seeded, opened.rows), (1, 1));
    let source = |text: &str| vec![("a.toml".to_owned(), text.to_owned()), ("b".to_owned(), "ä'\"\0".to_owned())];
    for (version, application, text) in [(2, "reqcat", "old"), (3, "directory", "d"), (4, "reqcat", "new")] {
        let outcome = handle.client().ask(PATIENCE, |reply| Request::Deploy {
            token: 1,
            version,
            application: application.into(),
            sources: source(text),
            reply,
        });
        assert!(matches!(outcome, Ok(Outcome::Committed { .. })), "{outcome:?}");
    }
    handle.stop().unwrap();
    let (handle, opened) = open();
    assert_eq!(opened.users_seeded, 0);
    let expected = |version, application: &str, base_digest: &str, text: &str| Deployed {
        version,
        application: application.into(),
        base_digest: base_digest.into(),
        sources: source(text),
    };
    assert_eq!(opened.deployed, [expected(3, "directory", "", "d"), expected(4, "reqcat", "digest-of-reqcat", "new")]);
    handle.stop().unwrap();
}

#[test]
fn two_that_start_at_once_make_one_schema_and_one_session_key() {
    let Some(place) = postgres_settings("twins") else { return };
    let starts: Vec<_> = (0..4)
        .map(|_| {
            let place = place.clone();
            std::thread::spawn(move || {
                let (handle, opened, _) = start_postgres(&place, &shapes());
                handle.stop().unwrap();
                opened.session_key
            })
        })
        .collect();
    let keys: Vec<_> = starts.into_iter().map(|start| start.join().unwrap()).collect();
    assert!(keys.iter().all(|key| *key == keys[0]));
}

/// Each order of both writers reads what the other has committed: an old base is refused whoever holds the newer row.
#[test]
fn two_writers_of_one_database_never_overwrite_each_other() {
    let Some(place) = postgres_settings("pair") else { return };
    let increments = 40_i64;
    let writers: Vec<_> = [0_u8, 1]
        .into_iter()
        .map(|server| {
            let place = place.clone();
            std::thread::spawn(move || {
                let (handle, _, _) = start_postgres(&place, &shapes());
                let (mut done, mut conflicts) = (0, 0);
                while done < increments {
                    let stored = read(handle.client(), "counter");
                    let (base, count) = stored.map_or((ABSENT, 0), |row| match row.record.unwrap().get(1) {
                        Value::Integer(count) => (row.stamp, *count),
                        other => panic!("{other:?}"),
                    });
                    let next = update("counter", base.sequence + 1, server, base, Some(item("c", count + 1, true)));
                    match commit(handle.client(), vec![next], CommitMode::Arbitrated) {
                        Outcome::Committed { .. } => done += 1,
                        Outcome::Conflict { .. } => conflicts += 1,
                        other => panic!("{other:?}"),
                    }
                }
                handle.stop().unwrap();
                conflicts
            })
        })
        .collect();
    let conflicts: u32 = writers.into_iter().map(|writer| writer.join().unwrap()).sum();
    let (handle, _, _) = start_postgres(&place, &shapes());
    let count = read(handle.client(), "counter").unwrap().record.unwrap().get(1).clone();
    assert_eq!(count, Value::Integer(2 * increments), "{conflicts} conflicts");
    handle.stop().unwrap();
    // Positions are in the order of commits: the sequence of the one row never goes back.
    let order = "SELECT count(*)::text FROM (SELECT sequence - lag(sequence) OVER (ORDER BY position) AS step \
                 FROM change_log) AS steps WHERE step <> 1";
    assert_eq!(ask(&place, order), "0");
}

/// The writers' lock, which the test above would not miss: who begins waits until the other has written.
#[test]
fn who_begins_while_another_is_writing_waits_for_its_commit() {
    let Some(place) = postgres_settings("turns") else { return };
    let mut first = PostgresStore::open(&place, shapes()).unwrap();
    let mut second = PostgresStore::open(&place, shapes()).unwrap();
    first.begin().unwrap();
    assert_eq!(first.stamps_of(&[(ITEMS, "row")]), Ok(vec![ABSENT]));
    let (began, begins) = channel();
    let waiting = std::thread::spawn(move || {
        second.begin().unwrap();
        began.send(()).unwrap();
        let stamps = second.stamps_of(&[(ITEMS, "row")]).unwrap();
        second.rollback();
        stamps
    });
    let asked = format!(
        "SELECT count(*)::text FROM pg_locks WHERE locktype = 'advisory' AND NOT granted \
         AND (classid::bigint << 32) | objid::bigint = hashtextextended('twintier.{}', 0)",
        place.schema
    );
    let deadline = Instant::now() + PATIENCE;
    while ask(&place, &asked) != "1" {
        assert_eq!(begins.try_recv(), Err(TryRecvError::Empty), "the second began while the first had not written");
        assert!(Instant::now() < deadline, "the second does not come to its lock");
    }
    let row = update("row", 1, 0, ABSENT, Some(item("first", 1, true)));
    first.upsert(std::slice::from_ref(&row)).unwrap();
    assert_eq!(begins.try_recv(), Err(TryRecvError::Empty), "the second began before the first had committed");
    first.commit().unwrap();
    assert_eq!(waiting.join().unwrap(), [row.stamp], "it reads what was committed while it waited");
}

#[test]
fn the_change_log_is_trimmed_to_its_bound() {
    let Some(mut place) = postgres_settings("trim") else { return };
    place.change_log_lines_max = 10;
    let mut store = PostgresStore::open(&place, shapes()).unwrap();
    for number in 0..5 {
        store.begin().unwrap();
        let rows = (0..5).map(|row| update(&format!("{number}-{row}"), 1, 0, ABSENT, None)).collect::<Vec<_>>();
        store.upsert(&rows).unwrap();
        store.commit().unwrap();
    }
    let again = store.maintain(Duration::from_millis(500)).unwrap();
    assert!(again.is_some_and(|wait| wait <= Duration::from_millis(1_500)), "not before it is idle: {again:?}");
    store.maintain(Duration::from_secs(2)).unwrap();
    assert_eq!(ask(&place, "SELECT count(*) || ' to ' || max(position) FROM change_log"), "10 to 25");
    assert_eq!(store.maintain(Duration::from_secs(9)).unwrap(), None);
    assert_eq!((store.extent().0, store.position()), (25, 25));
}

/// Who is alive and slow finds the lines that it has not read, up to a second bound.
#[test]
fn the_change_log_waits_for_a_slow_appliance() {
    let Some(mut place) = postgres_settings("slow_reader") else { return };
    place.change_log_lines_max = 10;
    let slow = place.clone().with_appliance("slow").as_member("slow");
    let mut reader = PostgresStore::open(&slow, shapes()).unwrap();
    let mut writer = PostgresStore::open(&place, shapes()).unwrap();
    let write = |writer: &mut PostgresStore, batch: &str| {
        writer.begin().unwrap();
        let rows = (0..15).map(|row| update(&format!("{batch}-{row}"), 1, 0, ABSENT, None)).collect::<Vec<_>>();
        writer.upsert(&rows).unwrap();
        writer.commit().unwrap();
    };
    let trim = |writer: &mut PostgresStore| {
        let again = writer.maintain(Duration::from_secs(9)).unwrap();
        (ask(&place, "SELECT min(position) || ' to ' || max(position) FROM change_log"), again.is_some())
    };
    write(&mut writer, "a");
    assert_eq!(trim(&mut writer), ("1 to 15".into(), true), "nothing that it has not read, and asked again");
    let read = reader.follow(7).unwrap();
    assert_eq!((read.updates.len(), read.missed), (7, false));
    reader.members().unwrap();
    assert_eq!(trim(&mut writer), ("6 to 15".into(), true), "no further than its bound, whatever was read");
    assert!(!trim(&mut writer).1, "as much as the bound");
    write(&mut writer, "b");
    assert_eq!(trim(&mut writer).0, "11 to 30", "no more than twice the bound for one that reads nothing");
    assert!(reader.follow(7).unwrap().missed);
    drop(reader);
    let deadline = Instant::now() + PATIENCE;
    while trim(&mut writer).0 != "21 to 30" {
        assert!(Instant::now() < deadline, "it waits for one that has ended");
    }
}

/// A group of orders asks for its stamps together, and its orders see each other's effects all the same.
#[test]
fn a_group_of_commits_takes_as_many_statements_as_one() {
    let Some(place) = postgres_settings("group") else { return };
    let now = Now { monotonic_ns: 1, unix_ms: 1_000 };
    let store = PostgresStore::open(&place, shapes()).unwrap();
    let (mut server, client, _) =
        Server::without_thread(settings(Vec::new()), store, Limits::default(), quiet(), now).unwrap();
    let mut run = |orders: Vec<Update>| {
        let (replies, answers) = channel();
        for order in orders {
            let (updates, mode, replies) = (vec![order], CommitMode::Arbitrated, replies.clone());
            let reply: ReplySink = Arc::new(move |reply: Reply| replies.send(reply.outcome).unwrap());
            let request = Request::Commit { token: 1, updates, mode, deadline_ns: 0, reply };
            client.try_send(request, 0).map_err(|_| ()).unwrap();
        }
        let before = server.store().statements();
        server.serve_waiting(now);
        (server.store().statements() - before, answers.try_iter().collect::<Vec<_>>())
    };
    let committed = |outcome: &Outcome| matches!(outcome, Outcome::Committed { .. });
    let row = |key: String| update(&key, 1, 0, ABSENT, Some(item("one", 1, true)));
    // BEGIN with the lock, stamps, rows, change log, COMMIT.
    let (statements, outcomes) = run(vec![row("alone".into())]);
    assert!(statements == 5 && outcomes.iter().all(committed), "{statements} {outcomes:?}");
    let (statements, outcomes) = run((0..100).map(|number| row(format!("row {number}"))).collect());
    assert!(outcomes.len() == 100 && outcomes.iter().all(committed), "{outcomes:?}");
    assert_eq!(statements, 5, "for 100 orders");

    // Three edits of a row that is there: the second does not know the first, the third does.
    let stored = row("row 7".into()).stamp;
    let first = update("row 7", 2, 0, stored, Some(item("first", 1, true)));
    let second = update("row 7", 2, 1, stored, Some(item("second", 1, true)));
    let third = update("row 7", 3, 1, first.stamp, Some(item("third", 1, true)));
    let unknown = Update { table: TableId(9), ..row("elsewhere".into()) };
    let (_, outcomes) = run(vec![first, second, third, unknown]);
    assert!(
        matches!(
            &outcomes[..],
            [Outcome::Committed { .. }, Outcome::Conflict { .. }, Outcome::Committed { .. }, Outcome::Failed(_)]
        ),
        "{outcomes:?}"
    );
    assert_eq!(server.into_store().row(ITEMS, "row 7").unwrap().unwrap().record, Some(item("third", 1, true)));
}

#[test]
fn what_is_not_ours_or_not_allowed_is_refused_with_the_cure() {
    let Some(place) = postgres_settings("refuse") else { return };
    let server = postgres_server::shared().unwrap();
    let at = |url: &str| Settings::parse(url, None).map(|settings| refused(&settings)).unwrap_or_else(|wrong| wrong);
    let folder = server.folder().display();
    let wrong = at(&format!("host={folder} user=twintier dbname=nowhere"));
    assert!(wrong.contains("database \"nowhere\" does not exist") && wrong.contains("createdb"), "{wrong}");
    let wrong = at(&format!("host={folder} user=locked dbname=twintier password=hush"));
    assert!(wrong.contains("password authentication failed") && wrong.contains("PGPASSWORD"), "{wrong}");
    assert!(!wrong.contains("hush"), "{wrong}");
    let wrong = at(&format!("host={folder} user=locked dbname=twintier"));
    assert!(wrong.contains("wants a password"), "{wrong}");
    let wrong = at(&format!("host={folder} user=locked dbname=twintier password=right"));
    assert!(wrong.contains("permission denied for database") && wrong.contains("grant it"), "{wrong}");
    let wrong = at(&format!("host={folder} user=nobody_here dbname=twintier"));
    assert!(wrong.contains("role \"nobody_here\" does not exist"), "{wrong}");
    let wrong = at(&format!("host={folder}/none user=twintier dbname=twintier"));
    assert!(wrong.contains("no PostgreSQL server at") && wrong.contains("start it"), "{wrong}");
    // A schema that is somebody else's, or of another program version.
    execute(&place, &format!("CREATE SCHEMA \"{0}\"; CREATE TABLE \"{0}\".somebody (x INT)", place.schema));
    assert!(refused(&place).contains("holds tables of another program"), "{}", refused(&place));
    execute(&place, "DROP TABLE somebody");
    drop(PostgresStore::open(&place, shapes()).unwrap());
    execute(&place, "UPDATE setting SET value = '7' WHERE name = 'schema_version'");
    assert!(refused(&place).contains("has version 7 and this program needs 1"), "{}", refused(&place));
}

#[test]
fn a_value_that_postgresql_cannot_take_fails_alone() {
    let Some(place) = postgres_settings("value") else { return };
    let (handle, _, _) = start_postgres(&place, &shapes());
    let one = |key: &str| vec![update(key, 1, 0, ABSENT, Some(item("x", 1, true)))];
    let outcome = commit(handle.client(), one(&"k".repeat(2_601)), CommitMode::Arbitrated);
    assert!(
        matches!(&outcome, Outcome::Failed(sentence) if sentence.contains("too long for PostgreSQL")),
        "{outcome:?}"
    );
    // As different as a key can be, so that no compression helps.
    let key: String = (0..2_600_u32).map(|at| char::from(b'!' + u8::try_from(at * at % 89).unwrap())).collect();
    committed(handle.client(), one(&key));
    assert_eq!(handle.statistics().board.read(0).state, State::Up);
    handle.stop().unwrap();
}

#[test]
fn what_was_answered_survives_an_abort() {
    const CHILD: &str = "TWINTIER_TEST_POSTGRES_ABORT";
    if let Ok(url) = std::env::var(CHILD) {
        let place = Settings::parse(&url, None).unwrap().with_schema("abort").unwrap();
        let (handle, _, _) = start_postgres(&place, &shapes());
        let first = update("a", 1, 0, ABSENT, Some(item("one", 1, true)));
        committed(handle.client(), vec![first.clone()]);
        committed(handle.client(), vec![update("a", 2, 0, first.stamp, Some(item("two", 2, true)))]);
        std::process::abort();
    }
    let Some(server) = postgres_server::shared() else { return };
    let url = server.database(&postgres_server::unique("abort"));
    let status = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "postgres::what_was_answered_survives_an_abort"])
        .env(CHILD, &url)
        .output()
        .unwrap()
        .status;
    assert!(!status.success(), "the child aborts");
    let place = Settings::parse(&url, None).unwrap().with_schema("abort").unwrap();
    let (handle, opened, _) = start_postgres(&place, &shapes());
    assert_eq!(opened.rows, 1);
    assert_eq!(read(handle.client(), "a").unwrap().record, Some(item("two", 2, true)));
    handle.stop().unwrap();
}

/// The server is there and new, but would lose what it calls committed.
#[test]
fn a_server_without_fsync_is_refused() {
    let Some(server) = postgres_server::Cluster::start(&["fsync=off"]) else { return };
    let wrong = refused(&postgres_of(&server, "unsafe_one"));
    assert!(wrong.contains("fsync = off") && wrong.contains("ALTER SYSTEM"), "{wrong}");
}
