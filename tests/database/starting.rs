//! What a start finds: what was answered before an abort, another process, other files, grown shapes, users, deploys.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use twintier::database::contract::{ABSENT, Change, Deployed, Mutation, Outcome, Request};
use twintier::database::duckdb::{self, DuckStore};
use twintier::database::seed::SeedUser;
use twintier::database::server::{self, Limits};
use twintier::storage::passwords;
use twintier::tables::{FieldKind, Record, ShapeSet, TableId, Update, Value};

use crate::support::{
    ITEMS, PATIENCE, USERS, bare, committed, execute, field, grown, item, loaded, mutated, query, quiet, read, reshape,
    scratch, settings, shape, shapes, start, update,
};

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
        .args(["--exact", "starting::what_was_answered_survives_an_abort"])
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
        .args(["--exact", "starting::a_second_process_is_refused_with_the_cure", "--nocapture"])
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
