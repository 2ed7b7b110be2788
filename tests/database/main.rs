//! The database server over each of its stores: group commit, arbitration, mutations, restart, refusals.
#![cfg(feature = "appliance")]

mod health;
mod log;
mod migrating;
mod neighbors;
mod postgres;
#[path = "../support/postgres.rs"]
mod postgres_server;
mod recovery;
mod support;
mod tail;

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::support::{
    ITEMS, PATIENCE, SERVER, USERS, bare, commit, committed, each_duck, each_store, execute, field, grown, hold, item,
    loaded, mutated, query, quiet, read, reshape, scratch, send, settings, shape, shapes, sorted, start, start_memory,
    update,
};
use crossbeam::channel::unbounded;
use twintier::database::contract::{
    ABSENT, Change, CommitMode, Deployed, Mutation, Outcome, Reply, ReplySink, Request,
};
use twintier::database::duckdb::{self, DuckStore};
use twintier::database::memory::{Disk, Mischief};
use twintier::database::seed::SeedUser;
use twintier::database::server::{self, Limits};
use twintier::storage::passwords;
use twintier::tables::{FieldKind, Record, ShapeSet, Stamp, TableId, Update, Value};

#[test]
fn a_commit_is_there_after_a_restart() {
    each_duck(|path| {
        let shapes = shapes();
        let awkward = "Ünï \u{1F600} 'single' \"double\" ; DROP TABLE item -- \n\0 end";
        let written = vec![
            update("plain", 1, 0, ABSENT, Some(item("a", 5, true))),
            update(awkward, 7, 1, ABSENT, Some(Record(Box::new([Value::text(awkward), Value::Null, Value::Null])))),
            update("gone", 1, 0, ABSENT, None),
            update("", 1, 0, ABSENT, Some(item("", i64::MIN, false))),
        ];
        let (handle, opened, _) = start(path, &shapes);
        let key = opened.session_key;
        assert_ne!(key, [0; 32]);
        committed(handle.client(), written.clone());
        handle.stop().unwrap();
        let (handle, opened, _) = start(path, &shapes);
        assert_eq!((opened.session_key, opened.rows), (key, 4));
        assert_eq!(loaded(handle.client(), ITEMS), sorted(written));
        handle.stop().unwrap();
    });
}

#[test]
fn replaced_rows_keep_their_latest_revision() {
    each_duck(|path| {
        let shapes = shapes();
        let (handle, _, _) = start(path, &shapes);
        let first = update("a", 1, 0, ABSENT, Some(item("one", 1, true)));
        let second = update("a", 2, 0, first.stamp, Some(item("two", 2, false)));
        committed(handle.client(), vec![first.clone()]);
        // Loading folds the first revision into its table; the second then replaces a stored row.
        assert_eq!(loaded(handle.client(), ITEMS), vec![bare(&first)]);
        committed(handle.client(), vec![second.clone()]);
        let third = update("a", 3, 1, second.stamp, None);
        committed(handle.client(), vec![third.clone()]);
        assert_eq!(loaded(handle.client(), ITEMS), vec![bare(&third)]);
        handle.stop().unwrap();
        let (handle, _, _) = start(path, &shapes);
        assert_eq!(loaded(handle.client(), ITEMS), vec![bare(&third)]);
        handle.stop().unwrap();
    });
}

#[test]
fn an_arbitrated_commit_on_an_old_base_gets_the_current_row() {
    each_store(|client, _| {
        let first = update("a", 1, 0, ABSENT, Some(item("one", 1, true)));
        committed(client, vec![first.clone()]);
        let stale = vec![
            update("b", 1, 1, ABSENT, Some(item("never", 1, true))),
            update("a", 1, 1, ABSENT, Some(item("late", 1, true))),
        ];
        let Outcome::Conflict { current } = commit(client, stale, CommitMode::Arbitrated) else {
            panic!("no conflict")
        };
        assert_eq!(current, vec![bare(&first)]);
        assert_eq!(read(client, "b"), None, "all or nothing");
        // The same update again is the same commit, not a conflict.
        committed(client, vec![first.clone()]);
        let missing = update("c", 4, 1, Stamp { sequence: 3, time: 9, server: 1 }, None);
        let Outcome::Conflict { current } = commit(client, vec![missing], CommitMode::Arbitrated) else {
            panic!("no conflict")
        };
        assert_eq!((current[0].stamp, &*current[0].key), (ABSENT, "c"));
    });
}

#[test]
fn one_group_takes_what_fits_and_refuses_the_rest() {
    each_store(|client, replies| {
        let updates =
            |key: &str, sequence, server, base| vec![update(key, sequence, server, base, Some(item(key, 1, true)))];
        let first = update("a", 1, 0, ABSENT, None);
        let orders = [
            updates("a", 1, 0, ABSENT),
            updates("a", 1, 1, ABSENT),
            updates("a", 2, 1, first.stamp),
            updates("b", 1, 0, ABSENT),
            vec![Update { table: TableId(99), ..first.clone() }],
            vec![Update { record: Some(Record(Box::new([Value::Integer(1)]))), ..update("w", 1, 0, ABSENT, None) }],
        ];
        let gate = hold(client);
        for (token, updates) in (0..).zip(orders) {
            send(
                client,
                |reply| Request::Commit { token, updates, mode: CommitMode::Arbitrated, deadline_ns: 0, reply },
                replies,
            );
        }
        gate.send(()).unwrap();
        let outcomes: Vec<Reply> = (0..6).map(|_| replies.1.recv_timeout(PATIENCE).unwrap()).collect();
        let kinds: Vec<&str> = outcomes
            .iter()
            .map(|reply| match &reply.outcome {
                Outcome::Committed { .. } => "committed",
                Outcome::Conflict { .. } => "conflict",
                Outcome::Failed(_) => "failed",
                Outcome::Unknown(_) => "unknown",
                Outcome::Row(_) => "row",
                Outcome::Number(_) => "number",
            })
            .collect();
        assert_eq!(kinds, ["committed", "conflict", "committed", "committed", "failed", "failed"]);
        assert_eq!(outcomes.iter().map(|reply| reply.token).collect::<Vec<_>>(), [0, 1, 2, 3, 4, 5]);
        assert_eq!(read(client, "a").unwrap().stamp.sequence, 2);
        assert!(read(client, "b").is_some());
    });
}

#[test]
fn merged_commits_converge_and_keep_the_loser() {
    let path = scratch("merged");
    let shapes = shapes();
    let file = path.join("data.duckdb");
    let (handle, _, _) = start(&file, &shapes);
    let client = handle.client();
    let left = update("a", 2, 0, ABSENT, Some(item("left", 1, true)));
    let right = update("a", 2, 1, ABSENT, Some(item("right", 1, true)));
    for updates in [&right, &left, &right, &left] {
        let outcome = commit(client, vec![updates.clone()], CommitMode::Merged);
        assert!(matches!(outcome, Outcome::Committed { .. }), "{outcome:?}");
    }
    let row = read(client, "a").unwrap();
    assert_eq!((row.stamp, row.record), (right.stamp, right.record.clone()), "the greater server breaks the tie");
    assert_eq!(row.versions, right.versions, "the row says what its writer knew, and no more");
    // An edit that knew both is no conflict.
    let versions = left.versions.merged(&right.versions).edited_by(0, 3);
    let next = Update { versions, ..update("a", 3, 0, ABSENT, None) };
    commit(client, vec![next.clone()], CommitMode::Merged);
    // One that arrives after it was superseded is old news.
    commit(client, vec![right.clone()], CommitMode::Merged);
    assert_eq!(read(client, "a"), Some(bare(&next)));
    handle.stop().unwrap();
    // A commit that comes again notes its loser again.
    let conflicts = query(
        &file,
        "SELECT count(*) || ':' || min(key) || min(record) FROM (SELECT DISTINCT key, record FROM conflict)",
    );
    assert_eq!(conflicts, "1:a{\"name\":\"left\",\"price\":1,\"stocked\":true}");
    std::fs::remove_dir_all(path).unwrap();
}

/// A write that was acknowledged before the database has it (`local`, `all`) is the base of a durable one elsewhere: the
/// arbiter sees that the writer knew what is stored. Such a write may come late, or never.
#[test]
fn a_durable_write_on_one_that_has_not_come_is_no_conflict() {
    each_store(|client, _| {
        let first = update("a", 1, 0, ABSENT, Some(item("first", 1, true)));
        committed(client, vec![first.clone()]);
        let on = |base: &Update, server: u8, name: &str| {
            let sequence = base.stamp.sequence + 1;
            let next = update("a", sequence, server, base.stamp, Some(item(name, 1, true)));
            Update { versions: base.versions.edited_by(server, sequence), ..next }
        };
        let local = on(&first, 1, "local");
        let durable = on(&local, 0, "durable");
        committed(client, vec![durable.clone()]);
        let outcome = commit(client, vec![local.clone()], CommitMode::Merged);
        assert!(matches!(outcome, Outcome::Committed { .. }), "{outcome:?}");
        assert_eq!(read(client, "a"), Some(bare(&durable)), "the late one is settled");
        // One that knew the local write but not the durable one is still refused, and so is a smaller stamp.
        let blind = on(&local, 2, "blind");
        let outcome = commit(client, vec![blind], CommitMode::Arbitrated);
        let Outcome::Conflict { current } = outcome else { panic!("{outcome:?}") };
        assert_eq!(current, [bare(&durable)]);
    });
}

#[test]
fn mutations_are_stamped_published_and_skipped_when_equal() {
    each_store(|client, _| {
        let put = |key: &str, record: Record| Mutation { table: ITEMS, key: key.into(), change: Change::Put(record) };
        let first = mutated(client, vec![put("a", item("one", 1, true)), put("b", item("two", 2, true))]);
        assert_eq!(
            first.iter().map(|update| (update.stamp.sequence, update.stamp.server)).collect::<Vec<_>>(),
            [(1, SERVER), (1, SERVER)]
        );
        assert!(first[1].stamp > first[0].stamp);
        assert_eq!(mutated(client, vec![put("a", item("one", 1, true))]), []);
        let set = |key: &str, field, value| Mutation {
            table: ITEMS,
            key: key.into(),
            change: Change::Set(vec![(field, value)]),
        };
        let second = mutated(
            client,
            vec![set("a", 1, Value::Integer(9)), set("a", 2, Value::Null), set("b", 1, Value::Integer(2))],
        );
        assert_eq!(second.len(), 2, "b had that value");
        assert_eq!((second[0].base, second[1].base), (first[0].stamp, second[0].stamp));
        assert_eq!(second[1].versions.0[usize::from(SERVER)], 3);
        assert_eq!(
            read(client, "a").unwrap().record,
            Some(Record(Box::new([Value::text("one"), Value::Integer(9), Value::Null])))
        );
        let outcome = client
            .ask(PATIENCE, |reply| Request::Mutate {
                token: 1,
                mutations: vec![put("c", item("three", 3, true)), set("nowhere", 0, Value::Null)],
                reply,
            })
            .unwrap();
        let Outcome::Conflict { current } = outcome else { panic!("{outcome:?}") };
        assert_eq!(&*current[0].key, "nowhere");
        assert_eq!(read(client, "c"), None, "all or nothing");
        let delete = |key: &str| Mutation { table: ITEMS, key: key.into(), change: Change::Delete };
        let third = mutated(client, vec![delete("a"), delete("a"), delete("nowhere")]);
        assert_eq!(third.len(), 1);
        assert_eq!(read(client, "a").unwrap().record, None, "the stub stays");
    });
}

#[test]
fn published_batches_are_dense_and_precede_their_reply() {
    let path = scratch("publish");
    let (handle, _, published) = start(&path.join("data.duckdb"), &shapes());
    let put = |number: usize, name: &str| Mutation {
        table: ITEMS,
        key: format!("k{number}").into(),
        change: Change::Put(item(name, 1, true)),
    };
    let mut next = server::FIRST_NUMBER;
    for count in [1, 40, 1500, 3] {
        let updates = mutated(handle.client(), (0..count).map(|number| put(number, &format!("n{count}"))).collect());
        assert_eq!(updates.len(), count);
        let batches = std::mem::take(&mut *published.lock().unwrap());
        for batch in &batches {
            assert_eq!((batch.origin, batch.first), (SERVER, next));
            next += u64::try_from(batch.updates.len()).unwrap();
        }
        let flat: Vec<Update> = batches.iter().flat_map(|batch| batch.updates.clone()).collect();
        assert_eq!(flat, updates, "published before the reply, in order");
    }
    handle.stop().unwrap();
    std::fs::remove_dir_all(path).unwrap();
}

#[test]
fn a_bulk_put_writes_what_differs_only() {
    each_store(|client, _| {
        let put = |number: usize, price: i64| Mutation {
            table: ITEMS,
            key: format!("k{number:03}").into(),
            change: Change::Put(item("same", price, true)),
        };
        let first = mutated(client, (0..100).map(|number| put(number, 1)).collect());
        assert_eq!(first.len(), 100);
        // Some of the rows change in the ordinary way in between, one is deleted.
        mutated(client, vec![put(0, 5), Mutation { table: ITEMS, key: "k001".into(), change: Change::Delete }]);
        let second = mutated(client, (0..110).map(|number| put(number, if number == 50 { 7 } else { 1 })).collect());
        let mut keys: Vec<&str> = second.iter().map(|update| &*update.key).collect();
        keys.sort_unstable();
        let mut expected: Vec<String> = ["k000", "k001", "k050"].map(String::from).to_vec();
        expected.extend((100..110).map(|number| format!("k{number}")));
        assert_eq!(keys, expected);
        let revived = second.iter().find(|update| &*update.key == "k001").unwrap();
        assert_eq!((revived.stamp.sequence, revived.versions.0[usize::from(SERVER)]), (3, 3));
        assert_eq!(mutated(client, (0..110).map(|number| put(number, if number == 50 { 7 } else { 1 })).collect()), []);
        assert_eq!(loaded(client, ITEMS).len(), 110);
    });
}

#[test]
fn a_failing_store_fails_the_guilty_and_keeps_serving() {
    let disk = Arc::new(Disk::default());
    let handle = start_memory(&disk, Limits::default());
    let client = handle.client();
    let one = |key: &str| vec![update(key, 1, 0, ABSENT, Some(item(key, 1, true)))];
    disk.order(Mischief::FailCommit("the disk is full; free some space and try again".into()));
    let outcome = commit(client, one("a"), CommitMode::Arbitrated);
    assert!(matches!(&outcome, Outcome::Failed(sentence) if sentence.contains("disk is full")), "{outcome:?}");
    assert_eq!(read(client, "a"), None);
    committed(client, one("a"));
    for wrong in [Mischief::FailWrite("bad".into(), "no".into()), Mischief::Panic("bad".into())] {
        // The order fails in its group, and again alone.
        disk.order(wrong.clone());
        disk.order(wrong);
        let (sender, replies) = unbounded();
        let sender = (sender, replies);
        let gate = hold(client);
        for (token, key) in (0..).zip(["x", "bad", "y"]) {
            let mutations =
                vec![Mutation { table: ITEMS, key: key.into(), change: Change::Put(item(key, token, true)) }];
            send(client, |reply| Request::Mutate { token: u64::try_from(token).unwrap(), mutations, reply }, &sender);
        }
        gate.send(()).unwrap();
        let mut answered: Vec<Reply> = (0..3).map(|_| sender.1.recv_timeout(PATIENCE).unwrap()).collect();
        answered.sort_by_key(|reply| reply.token);
        assert!(matches!(answered[0].outcome, Outcome::Committed { .. }));
        assert!(matches!(answered[2].outcome, Outcome::Committed { .. }));
        while disk.recall().is_some() {}
    }
    handle.stop().unwrap();
}

#[test]
fn what_was_answered_survives_an_abort() {
    const CHILD: &str = "TWINTIER_TEST_ABORT";
    if let Ok(path) = std::env::var(CHILD) {
        let (handle, _, _) = start(Path::new(&path), &shapes());
        let client = handle.client();
        let put = |number: usize| Mutation {
            table: ITEMS,
            key: format!("bulk{number}").into(),
            change: Change::Put(item("b", 1, true)),
        };
        mutated(client, (0..200).map(put).collect());
        let first = update("a", 1, 0, ABSENT, Some(item("one", 1, true)));
        committed(client, vec![first.clone()]);
        committed(client, vec![update("bulk7", 2, 0, read(client, "bulk7").unwrap().stamp, None)]);
        committed(client, vec![update("a", 2, 0, first.stamp, Some(item("two", 2, true)))]);
        std::process::abort();
    }
    let folder = scratch("abort");
    let file = folder.join("data.duckdb");
    let status = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "what_was_answered_survives_an_abort"])
        .env(CHILD, &file)
        .output()
        .unwrap()
        .status;
    assert!(!status.success(), "the child aborts");
    let (handle, opened, _) = start(&file, &shapes());
    assert_eq!(opened.rows, 201);
    assert_eq!(read(handle.client(), "a").unwrap().record, Some(item("two", 2, true)));
    assert_eq!(read(handle.client(), "bulk7").unwrap().record, None);
    assert_eq!(loaded(handle.client(), ITEMS).len(), 201);
    handle.stop().unwrap();
    assert_eq!(query(&file, "SELECT count(*) || ':' || max(number) FROM change_log"), "203:203");
    std::fs::remove_dir_all(folder).unwrap();
}

/// The kernel refuses to let the files grow (as a full disk does): commits fail with a sentence, the server goes on
/// answering, and afterwards exactly what was answered is there.
#[test]
fn a_disk_that_takes_no_more_fails_commits_and_loses_none() {
    const CHILD: &str = "TWINTIER_TEST_FULL";
    let rows_of = |round: u32| {
        (0..200).map(move |number| {
            update(&format!("{round}-{number}"), 1, 0, ABSENT, Some(item(&"x".repeat(500), 1, true)))
        })
    };
    if let Ok(path) = std::env::var(CHILD) {
        let (handle, _, _) = start(Path::new(&path), &shapes());
        let mut failed = 0;
        for round in 0..60 {
            match commit(handle.client(), rows_of(round).collect(), CommitMode::Arbitrated) {
                Outcome::Committed { .. } => println!("\ncommitted {round}"),
                Outcome::Failed(sentence) | Outcome::Unknown(sentence) => {
                    println!("\nfailed {round} {sentence}");
                    failed += 1;
                }
                other => panic!("{other:?}"),
            }
        }
        println!("\nfailures {failed}");
        std::process::exit(0);
    }
    let folder = scratch("full");
    let file = folder.join("data.duckdb");
    let (handle, _, _) = start(&file, &shapes());
    handle.stop().unwrap();
    // Blocks of 512 bytes; the signal that would end the process is ignored, so that writing fails instead.
    let output = Command::new("sh")
        .args(["-c", "trap '' XFSZ; ulimit -f 6000; exec \"$0\" --exact a_disk_that_takes_no_more_fails_commits_and_loses_none --nocapture"])
        .arg(std::env::current_exe().unwrap())
        .env(CHILD, &file)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let complaint = format!("{said}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && !said.contains("failures 0") && said.contains("failures "), "{complaint}");
    let rounds = |word: &str| -> Vec<u32> {
        said.lines().filter_map(|line| line.strip_prefix(word)?.split_whitespace().next()?.parse().ok()).collect()
    };
    let (handle, _, _) = start(&file, &shapes());
    let rows = loaded(handle.client(), ITEMS);
    let there = |round: u32| {
        rows_of(round).filter(|row| rows.binary_search_by(|found| found.key.cmp(&row.key)).is_ok()).count()
    };
    assert!(rounds("committed ").into_iter().all(|round| there(round) == 200), "{complaint}");
    // A commit that failed may be there (its fate was unknown when the disk refused), but never in part.
    assert!(rounds("failed ").into_iter().all(|round| [0, 200].contains(&there(round))), "{complaint}");
    assert!(!rounds("committed ").is_empty(), "{complaint}");
    assert!(said.contains("has reached the size that this process may write"), "{complaint}");
    handle.stop().unwrap();
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn a_second_process_is_refused_with_the_cure() {
    const CHILD: &str = "TWINTIER_TEST_SECOND";
    if let Ok(path) = std::env::var(CHILD) {
        let refused = DuckStore::open(&duckdb::Settings::new(path), shapes()).map(|_| ()).unwrap_err();
        println!("refused: {refused}");
        return;
    }
    let folder = scratch("second");
    let file = folder.join("data.duckdb");
    let (handle, _, _) = start(&file, &shapes());
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "a_second_process_is_refused_with_the_cure", "--nocapture"])
        .env(CHILD, &file)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let expected = format!(
        "refused: the database file {} is in use by another process (process {}); stop that process",
        file.display(),
        std::process::id()
    );
    assert!(said.contains(&expected), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    handle.stop().unwrap();
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn files_that_are_not_ours_are_refused() {
    let folder = scratch("refused");
    let open =
        |name: &str| DuckStore::open(&duckdb::Settings::new(folder.join(name)), shapes()).map(|_| ()).unwrap_err();
    std::fs::write(folder.join("text"), "hello, I am no database at all").unwrap();
    assert!(open("text").contains("is no DuckDB database"));
    assert!(open("no/such/folder").contains("does not exist"));
    execute(&folder.join("other"), "CREATE TABLE somebody (x INTEGER)");
    assert!(open("other").contains("of another program"));
    let (handle, _, _) = start(&folder.join("later"), &shapes());
    handle.stop().unwrap();
    execute(&folder.join("later"), "UPDATE setting SET value = '7' WHERE name = 'schema_version'");
    assert!(open("later").contains("has schema version 7 and this program needs 2"), "{}", open("later"));
    let spawned = server::spawn(
        settings(Vec::new()),
        {
            let path = folder.join("text");
            move || DuckStore::open(&duckdb::Settings::new(path), shapes())
        },
        Limits::default(),
        quiet(),
    );
    assert!(spawned.is_err_and(|wrong| wrong.contains("is no DuckDB database")));
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn shapes_grow_and_old_rows_have_nulls() {
    let folder = scratch("grow");
    let file = folder.join("data.duckdb");
    let (handle, _, _) = start(&file, &shapes());
    committed(handle.client(), vec![update("a", 1, 0, ABSENT, Some(item("one", 1, true)))]);
    let grown = grown(
        vec![field("note", FieldKind::Text), field("due", FieldKind::Time)],
        shape("order", "order", vec![field("from", FieldKind::Text)]),
    );
    assert!(matches!(reshape(handle.client(), &grown), Outcome::Committed { .. }));
    assert!(matches!(reshape(handle.client(), &Arc::default()), Outcome::Failed(_)), "tables are never dropped");
    let long = Record(Box::new([Value::text("b"), Value::Null, Value::Null, Value::text("noted"), Value::Integer(5)]));
    let order = Update { table: TableId(2), ..update("o", 1, 0, ABSENT, Some(Record(Box::new([Value::text("x")])))) };
    committed(handle.client(), vec![update("b", 1, 0, ABSENT, Some(long.clone())), order.clone()]);
    handle.stop().unwrap();
    let (handle, _, _) = start(&file, &grown);
    let rows = loaded(handle.client(), ITEMS);
    assert_eq!(rows[0].record.as_ref().unwrap().0.len(), 5);
    assert_eq!(rows[0].record.as_ref().unwrap().get(3), &Value::Null);
    assert_eq!(rows[1].record, Some(long));
    assert_eq!(loaded(handle.client(), TableId(2)), [bare(&order)]);
    handle.stop().unwrap();
    let changed = Arc::new({
        let mut shapes = ShapeSet::clone(&shapes());
        shapes.shapes[1] = Arc::new(shape("item", "item", vec![field("name", FieldKind::Boolean)]));
        shapes
    });
    let wrong = DuckStore::open(&duckdb::Settings::new(&file), changed).map(|_| ()).unwrap_err();
    assert!(wrong.contains("column `name` of table `item` is VARCHAR"), "{wrong}");
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn users_are_seeded_once() {
    let folder = scratch("seed");
    let file = folder.join("data.duckdb");
    let users = vec![SeedUser {
        user: "ann".into(),
        full_name: "Ann O'Nymous".into(),
        roles: "employee editor".into(),
        password: "secret".into(),
        ..SeedUser::default()
    }];
    let open = |users: Vec<SeedUser>| {
        let path = file.clone();
        server::spawn(
            settings(users),
            move || DuckStore::open(&duckdb::Settings::new(path), shapes()),
            Limits::default(),
            quiet(),
        )
        .unwrap()
    };
    let (handle, opened) = open(users.clone());
    assert_eq!(opened.users_seeded, 1);
    let rows = loaded(handle.client(), USERS);
    let record = rows[0].record.clone().unwrap();
    assert_eq!(
        (&*rows[0].key, record.get(0), record.get(3), record.get(4)),
        ("ann", &Value::text("Ann O'Nymous"), &Value::text("employee editor"), &Value::Boolean(true))
    );
    assert!(passwords::verify(record.get(5).as_text().unwrap(), "secret"));
    mutated(handle.client(), vec![Mutation { table: USERS, key: "ann".into(), change: Change::Delete }]);
    handle.stop().unwrap();
    let (handle, opened) = open(users);
    assert_eq!(opened.users_seeded, 0, "a deleted user stays deleted");
    handle.stop().unwrap();
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn a_restart_finds_the_latest_deploys() {
    let folder = scratch("deploy");
    let file = folder.join("data.duckdb");
    let (handle, opened, _) = start(&file, &shapes());
    assert_eq!(opened.deployed, []);
    let source = |text: &str| {
        vec![("authority.toml".to_owned(), text.to_owned()), ("templates/a.html".to_owned(), "<p>ä'\"</p>".to_owned())]
    };
    for (version, application, text) in [(2, "reqcat", "old"), (3, "directory", "d"), (4, "reqcat", "new")] {
        let outcome = handle.client().ask(PATIENCE, |reply| Request::Deploy {
            token: 1,
            version,
            application: application.into(),
            sources: source(text),
            reply,
        });
        assert!(matches!(outcome, Ok(Outcome::Committed { .. })));
    }
    handle.stop().unwrap();
    let (handle, opened, _) = start(&file, &shapes());
    let expected = |version, application: &str, base_digest: &str, text: &str| Deployed {
        version,
        application: application.into(),
        base_digest: base_digest.into(),
        sources: source(text),
    };
    assert_eq!(opened.deployed, [expected(3, "directory", "", "d"), expected(4, "reqcat", "digest-of-reqcat", "new")]);
    handle.stop().unwrap();
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn a_full_queue_gives_the_request_back_and_stop_serves_what_is_queued() {
    let handle = start_memory(&Arc::default(), Limits { requests_max: 4, ..Limits::default() });
    let client = handle.client().clone();
    let (sender, replies) = unbounded();
    let gate = hold(&client);
    let reply: ReplySink = Arc::new(move |reply: Reply| sender.send(reply.token).unwrap());
    let ask = |token| client.try_send(Request::Read { token, table: ITEMS, key: "a".into(), reply: reply.clone() }, 0);
    assert!((1..=4).all(|token| ask(token).is_ok()));
    let Err(Request::Read { token: 5, .. }) = ask(5) else { panic!("the queue has four places") };
    let stopper = std::thread::spawn(move || handle.stop());
    gate.send(()).unwrap();
    stopper.join().unwrap().unwrap();
    assert_eq!(replies.try_iter().collect::<Vec<_>>(), [1, 2, 3, 4]);
    assert!(client.load(ITEMS).is_err_and(|wrong| wrong.contains("has ended")));
}

/// Prints rates; asserts only that the work was done.
#[test]
#[ignore = "measurement: run with --ignored --nocapture on a quiet machine"]
fn rates_of_commits_and_bulk() {
    let folder = scratch("rates");
    let (handle, _, _) = start(&folder.join("data.duckdb"), &shapes());
    let client = handle.client();
    let put = |number: usize, price: i64| Mutation {
        table: ITEMS,
        key: format!("package-{number:06}").into(),
        change: Change::Put(item(
            &format!("a package with a name and a longer description, number {number}"),
            price,
            true,
        )),
    };
    for (name, price) in [("new", 1), ("equal", 1), ("changed", 2)] {
        let began = Instant::now();
        let mut written = 0;
        for part in 0..12 {
            written +=
                mutated(client, (part * 5000..(part + 1) * 5000).map(|number| put(number, price)).collect()).len();
        }
        println!(
            "bulk of 60000 records, {name}: {written} written, {:.0} records/s",
            60_000.0 / began.elapsed().as_secs_f64()
        );
    }
    for group in [1_usize, 10, 100] {
        for (kind, base) in [("new", None), ("replacing", Some(()))] {
            let rounds = 100;
            let mut spent = Duration::ZERO;
            for round in 0..rounds {
                let updates: Vec<Update> = (0..group)
                    .map(|number| {
                        let key = if base.is_some() {
                            format!("package-{:06}", round * group + number)
                        } else {
                            format!("new-{group}-{round}-{number}")
                        };
                        let base = base.map_or(ABSENT, |()| read(client, &key).unwrap().stamp);
                        update(
                            &key,
                            base.sequence + 1,
                            0,
                            base,
                            Some(item("a text of a usual length for a form field", 1, true)),
                        )
                    })
                    .collect();
                let began = Instant::now();
                committed(client, updates);
                spent += began.elapsed();
            }
            println!(
                "commit of {group} {kind}: {:.2} ms",
                spent.as_secs_f64() * 1000.0 / f64::from(u32::try_from(rounds).unwrap())
            );
        }
    }
    let (mut worst, began) = (Duration::ZERO, Instant::now());
    for round in 0..200 {
        let updates = (0..50)
            .map(|number| update(&format!("burst-{round}-{number}"), 1, 0, ABSENT, Some(item("burst", 1, true))))
            .collect();
        let each = Instant::now();
        committed(client, updates);
        worst = worst.max(each.elapsed());
    }
    println!(
        "burst of 200 commits of 50: {:.0} updates/s, worst commit with a fold in front {:.1} ms",
        10_000.0 / began.elapsed().as_secs_f64(),
        worst.as_secs_f64() * 1000.0
    );
    let began = Instant::now();
    let rows = loaded(client, ITEMS).len();
    println!("load of {rows} rows: {:.0} ms", began.elapsed().as_secs_f64() * 1000.0);
    let began = Instant::now();
    handle.stop().unwrap();
    println!("stop with checkpoint: {:.0} ms", began.elapsed().as_secs_f64() * 1000.0);
    let began = Instant::now();
    let (handle, _, _) = start(&folder.join("data.duckdb"), &shapes());
    println!("open of {rows} rows: {:.0} ms", began.elapsed().as_secs_f64() * 1000.0);
    handle.stop().unwrap();
    std::fs::remove_dir_all(folder).unwrap();
}
