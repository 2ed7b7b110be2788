//! `twintier db migrate`: there and back, refusals, all or nothing.

use std::path::Path;
use std::sync::Arc;

use twintier::database::contract::{ABSENT, Change, CommitMode, Mutation, Outcome, Request};
use twintier::database::duckdb::{self, DuckStore};
use twintier::database::migrate::{Counted, count};
use twintier::database::postgres::PostgresStore;
use twintier::supervisor::moving;
use twintier::tables::{Record, TableId, Update, Value};

use crate::postgres_server;
use crate::support::{
    ITEMS, PATIENCE, commit, committed, item, loaded, mutated, postgres_of, scratch, shapes, start, start_postgres,
    update,
};

/// A file with something of everything; gives its session key.
fn fill(file: &Path) -> [u8; 32] {
    let (handle, opened, _) = start(file, &shapes());
    let client = handle.client();
    let awkward = "Ünï \u{1F600} \"q\" \t\\N \n\0 \u{fdd0}1";
    let nulls = Some(Record(Box::new([Value::text(awkward), Value::Null, Value::Null])));
    committed(client, vec![update(awkward, 7, 1, ABSENT, nulls), update("gone", 3, 2, ABSENT, None)]);
    let put = |number: usize| Mutation {
        table: TableId(0),
        key: format!("user{number}").into(),
        change: Change::Put(Record(Box::new([Value::text(awkward), Value::Null, Value::text("")]))),
    };
    assert_eq!(mutated(client, (0..5000).map(put).collect()).len(), 5000);
    let left = update("twice", 2, 0, ABSENT, Some(item(awkward, i64::MIN, true)));
    for update in [update("twice", 2, 1, ABSENT, Some(item("right", i64::MAX, false))), left] {
        let outcome = commit(client, vec![update], CommitMode::Merged);
        assert!(matches!(outcome, Outcome::Committed { .. }), "{outcome:?}");
    }
    for (version, text) in [(2, "old"), (3, awkward)] {
        let outcome = client.ask(PATIENCE, |reply| Request::Deploy {
            token: 1,
            version,
            application: "reqcat".into(),
            sources: vec![("a.toml".into(), text.into())],
            reply,
        });
        assert!(matches!(outcome, Ok(Outcome::Committed { .. })), "{outcome:?}");
    }
    handle.stop().unwrap();
    opened.session_key
}

fn counted(file: &Path) -> Vec<Counted> {
    count(&mut DuckStore::open_as_it_is(&duckdb::Settings::new(file)).unwrap()).unwrap()
}

#[test]
fn everything_comes_back_from_postgresql_as_it_was() {
    let Some(server) = postgres_server::shared() else { return };
    let (folder, schema) = (scratch("migrate"), postgres_server::unique("migrate"));
    let (first, last) = (folder.join("first.duckdb"), folder.join("last.duckdb"));
    let (url, name) = (server.url("twintier"), |path: &Path| path.to_str().unwrap().to_owned());
    let key = fill(&first);
    let before = counted(&first);
    let table = moving::run(&name(&first), &url, &schema).unwrap();
    assert!(table.contains("user_profile") && table.contains("5000") && table.contains("moved from"), "{table}");
    // A server on it finds all that one on the file finds, and the same session key.
    let place = postgres_of(server, &schema);
    let all = |client: &twintier::database::server::Client| (loaded(client, TableId(0)), loaded(client, ITEMS));
    let (there, there_opened, _) = start_postgres(&place, &shapes());
    let (here, here_opened, _) = start(&first, &shapes());
    assert_eq!(all(there.client()), all(here.client()));
    assert_eq!((there_opened.session_key, here_opened.session_key), (key, key));
    assert_eq!((there_opened.deployed, there_opened.rows), (here_opened.deployed, here_opened.rows));
    // While an appliance has either open, nothing is moved.
    let wrong = moving::run(&url, &name(&last), &schema).unwrap_err();
    assert!(wrong.contains("in use: an appliance has it open"), "{wrong}");
    here.stop().unwrap();
    there.stop().unwrap();
    moving::run(&url, &name(&last), &schema).unwrap();
    assert_eq!(counted(&last), before);
    let (handle, opened, _) = start(&last, &shapes());
    assert_eq!((opened.session_key, opened.rows), (key, 5003));
    // And it goes on from there.
    let twice: Update = loaded(handle.client(), ITEMS).into_iter().find(|row| &*row.key == "twice").unwrap();
    committed(handle.client(), vec![update("twice", 3, 0, twice.stamp, None)]);
    handle.stop().unwrap();
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn what_cannot_be_moved_is_refused_and_leaves_nothing() {
    let Some(server) = postgres_server::shared() else { return };
    let (folder, schema) = (scratch("unmoved"), postgres_server::unique("unmoved"));
    let (file, url) = (folder.join("data.duckdb"), server.url("twintier"));
    let path = file.to_str().unwrap();
    let run = |from: &str, to: &str| moving::run(from, to, &schema).unwrap_err();
    assert!(run(path, &url).contains("there is no DuckDB file"));
    fill(&file);
    assert!(run(path, path).contains("both are DuckDB files"));
    assert!(run(&url, &url).contains("both are PostgreSQL"));
    // What PostgreSQL cannot hold stops it in the middle: nothing of it is there, and the next attempt may come.
    let (handle, _, _) = start(&file, &shapes());
    // Without a pattern, so that no compression helps.
    let mut noise = 1_u64;
    let mut next = |_| {
        noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        char::from(b'!' + u8::try_from((noise >> 33) % 89).unwrap())
    };
    let long: String = (0..9_000).map(&mut next).collect();
    committed(handle.client(), vec![update(&long, 1, 0, ABSENT, Some(item("x", 1, true)))]);
    handle.stop().unwrap();
    let wrong = run(path, &url);
    assert!(wrong.contains("refused (54000)"), "{wrong}");
    let place = postgres_of(server, &schema);
    let empty = count(&mut PostgresStore::open_as_it_is(&place).unwrap()).unwrap();
    assert!(empty.iter().all(|counted| counted.rows == 0), "{empty:?}");
    // A target that holds something stays as it is.
    let (handle, _, _) = start_postgres(&place, &shapes());
    committed(handle.client(), vec![update("mine", 1, 0, ABSENT, Some(item("x", 1, true)))]);
    handle.stop().unwrap();
    assert!(run(path, &url).contains("is not empty"));
    assert!(run(&url, path).contains("exists already"));
    let mut store = PostgresStore::open(&place, Arc::clone(&shapes())).unwrap();
    assert!(twintier::database::contract::Store::row(&mut store, ITEMS, "mine").unwrap().is_some());
    std::fs::remove_dir_all(folder).unwrap();
}
