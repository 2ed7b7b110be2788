//! Orders and what becomes of them: group commit, arbitration, mutations, stores that fail or are full.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use crossbeam::channel::unbounded;
use twintier::database::contract::{ABSENT, Change, CommitMode, Mutation, Outcome, Reply, ReplySink, Request};
use twintier::database::memory::{Disk, Mischief};
use twintier::database::server::{self, Limits};
use twintier::tables::{Record, Stamp, TableId, Update, Value};

use crate::support::{
    ITEMS, PATIENCE, SERVER, bare, commit, committed, each_duck, each_store, hold, item, loaded, mutated, query, read,
    scratch, send, shapes, sorted, start, start_memory, update,
};

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
        .args(["-c", "trap '' XFSZ; ulimit -f 6000; exec \"$0\" --exact commits::a_disk_that_takes_no_more_fails_commits_and_loses_none --nocapture"])
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
