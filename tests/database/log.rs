//! The change log: what a crash left in it reaches the right columns, whatever became of the code.

use std::path::Path;
use std::sync::Arc;

use twintier::database::contract::{ABSENT, Store};
use twintier::database::duckdb::{DuckStore, Settings};
use twintier::tables::{FieldKind, Record, ShapeSet, Update, Value};

use crate::support::{ITEMS, each_duck, execute, field, item, query, shape, shapes, update};

type Fields<'f> = &'f [(&'f str, FieldKind)];

const NAME: (&str, FieldKind) = ("name", FieldKind::Text);
const PRICE: (&str, FieldKind) = ("price", FieldKind::Money);
const STOCKED: (&str, FieldKind) = ("stocked", FieldKind::Boolean);
const SIZE: (&str, FieldKind) = ("size", FieldKind::Integer);

/// The table `item` with these fields, behind the users.
fn with(fields: Fields<'_>) -> Arc<ShapeSet> {
    let mut changed = ShapeSet::clone(&shapes());
    let fields = fields.iter().map(|(name, kind)| field(name, *kind)).collect();
    changed.shapes[1] = Arc::new(shape("item", "item", fields));
    Arc::new(changed)
}

fn open(path: &Path, shapes: &Arc<ShapeSet>) -> Result<DuckStore, String> {
    DuckStore::open(&Settings::new(path), shapes.clone())
}

/// Commits and ends without closing: the lines stay in the change log, as a crash leaves them.
fn commit_and_crash(path: &Path, shapes: &Arc<ShapeSet>, updates: &[Update]) {
    let mut store = open(path, shapes).unwrap();
    store.begin().unwrap();
    store.upsert(updates).unwrap();
    store.commit().unwrap();
}

fn rows(path: &Path, shapes: &Arc<ShapeSet>) -> Vec<(String, Option<Vec<Value>>)> {
    let mut store = open(path, shapes).unwrap();
    let mut rows = Vec::new();
    let table = shapes.id("item").unwrap();
    store
        .load_all(table, &mut |row| rows.push((row.key.into(), row.record.map(|record| record.0.into_vec()))))
        .unwrap();
    rows.sort_by(|one: &(String, _), other| one.0.cmp(&other.0));
    rows
}

fn written() -> Vec<Update> {
    let first = update("a", 1, 0, ABSENT, Some(item("one", 100, true)));
    let second = update("a", 2, 0, first.stamp, Some(item("two", 200, false)));
    vec![first, second, update("b", 1, 0, ABSENT, Some(item("b", 7, true))), update("gone", 1, 0, ABSENT, None)]
}

#[test]
fn a_crash_and_an_edit_of_the_code_put_nothing_into_the_wrong_column() {
    let (text, number, truth) = (Value::text("two"), Value::Integer(200), Value::Boolean(false));
    let null = || Value::Null;
    let cases: [(&str, Fields<'_>, Vec<Value>); 6] = [
        ("as it was", &[NAME, PRICE, STOCKED], vec![text.clone(), number.clone(), truth.clone()]),
        (
            "inserted in the middle",
            &[NAME, SIZE, PRICE, STOCKED],
            vec![text.clone(), null(), number.clone(), truth.clone()],
        ),
        ("removed", &[NAME, STOCKED], vec![text.clone(), truth.clone()]),
        (
            "renamed: one gone, one new",
            &[NAME, ("cost", FieldKind::Money), STOCKED],
            vec![text.clone(), null(), truth.clone()],
        ),
        ("turned round", &[STOCKED, PRICE, NAME], vec![truth.clone(), number.clone(), text.clone()]),
        ("another of the same kind before it", &[SIZE, PRICE], vec![null(), number.clone()]),
    ];
    for (how, fields, expected) in cases {
        each_duck(|path| {
            let before = with(&[NAME, PRICE, STOCKED]);
            commit_and_crash(path, &before, &written());
            let after = rows(path, &with(fields));
            let keys: Vec<&str> = after.iter().map(|(key, _)| key.as_str()).collect();
            assert_eq!(keys, ["a", "b", "gone"], "{how}");
            assert_eq!((after[0].1.as_ref(), &after[2].1), (Some(&expected), &None), "{how}");
            // What the code does not have now has stayed where it was.
            let back = rows(path, &before);
            assert_eq!(back[0].1, Some(vec![text.clone(), number.clone(), truth.clone()]), "{how}");
        });
    }
}

#[test]
fn a_table_that_the_code_no_longer_has_keeps_its_rows() {
    each_duck(|path| {
        commit_and_crash(path, &shapes(), &written());
        let users_only = Arc::new(ShapeSet { shapes: shapes().shapes[..1].to_vec() });
        drop(open(path, &users_only).unwrap());
        assert_eq!(rows(path, &shapes())[0].1, Some(item("two", 200, false).0.into_vec()));
    });
}

#[test]
fn a_field_that_changed_its_kind_is_refused_with_the_cure() {
    each_duck(|path| {
        commit_and_crash(path, &shapes(), &written());
        let wrong = open(path, &with(&[NAME, ("price", FieldKind::Text), STOCKED])).map(|_| ()).unwrap_err();
        assert!(wrong.contains("column `price` of table `item` is BIGINT"), "{wrong}");
        assert!(wrong.ends_with("give the new field a new name"), "{wrong}");
        assert_eq!(rows(path, &shapes())[0].1, Some(item("two", 200, false).0.into_vec()));
    });
}

/// A file of schema version 1 as its program left it in a crash: records are arrays in the shape's order.
fn of_version_1(path: &Path) {
    commit_and_crash(path, &shapes(), &written());
    execute(
        path,
        r#"UPDATE change_log SET record = '["two",200,false]' WHERE key = 'a';
           UPDATE change_log SET record = '["b",7]' WHERE key = 'b';
           UPDATE setting SET value = '1' WHERE name = 'schema_version'"#,
    );
}

#[test]
fn files_without_names_open_with_the_code_that_wrote_them() {
    each_duck(|path| {
        of_version_1(path);
        let there = rows(path, &shapes());
        assert_eq!(there[0].1, Some(item("two", 200, false).0.into_vec()));
        assert_eq!(there[1].1, Some(vec![Value::text("b"), Value::Integer(7), Value::Null]));
        assert_eq!(query(path, "SELECT value FROM setting WHERE name = 'schema_version'"), "2");
    });
    // A field at the end moves nothing.
    each_duck(|path| {
        of_version_1(path);
        let there = rows(path, &with(&[NAME, PRICE, STOCKED, SIZE]));
        assert_eq!(there[0].1.as_ref().unwrap()[..3], *item("two", 200, false).0);
    });
}

#[test]
fn files_without_names_are_refused_where_the_order_is_not_known() {
    each_duck(|path| {
        of_version_1(path);
        let edited = with(&[NAME, SIZE, PRICE, STOCKED]);
        let wrong = open(path, &edited).map(|_| ()).unwrap_err();
        assert!(wrong.contains("changes without the names of their fields"), "{wrong}");
        assert!(wrong.contains("start once with the code as it was"), "{wrong}");
        // The cure.
        let mut store = open(path, &shapes()).unwrap();
        store.close().unwrap();
        drop(store);
        let expected = vec![Value::text("two"), Value::Null, Value::Integer(200), Value::Boolean(false)];
        assert_eq!(rows(path, &edited)[0].1, Some(expected));
    });
}

#[test]
fn hostile_keys_and_values_reach_the_database_as_values_only() {
    let long = "x".repeat(1 << 20);
    let hostile = [
        "'; DROP TABLE item; --",
        "\"; DROP TABLE \"item\"; --",
        "') ; DELETE FROM change_log ; SELECT ('",
        "a\0b",
        "\\'; SELECT 1",
        "$1 ? :name {} [] %s",
        "{\"name\":\"json\"}",
        "[\"array\"]",
        "NULL",
        "\u{202e}\u{feff}\u{10ffff}",
        &long,
    ];
    each_duck(|path| {
        let mut base = ABSENT;
        // New rows, then the same rows replaced, each time through the log and into the table.
        for round in 1..=2 {
            let updates: Vec<Update> = hostile
                .iter()
                .map(|text| {
                    let record = Record(Box::new([Value::text(text), Value::Integer(round.into()), Value::Null]));
                    update(text, round, 0, base, Some(record))
                })
                .collect();
            base = updates[0].stamp;
            commit_and_crash(path, &shapes(), &updates);
            // Opening folds them; then one is read by its key, and compared and written in bulk.
            let mut store = open(path, &shapes()).unwrap();
            for update in &updates {
                let row = store.row(ITEMS, &update.key).unwrap().unwrap();
                assert_eq!((&row.key, &row.record), (&update.key, &update.record));
            }
            let records: Vec<(&str, &Record)> =
                updates.iter().map(|update| (&*update.key, update.record.as_ref().unwrap())).collect();
            let compared = store.compare_bulk(ITEMS, &records).unwrap();
            assert_eq!(compared.len(), hostile.len());
            store.begin().unwrap();
            store.keep_conflict(&updates[0], 1).unwrap();
            store.set_setting("'; DROP TABLE setting; --", hostile[0]).unwrap();
            store.commit().unwrap();
            assert_eq!(store.setting("'; DROP TABLE setting; --").unwrap().as_deref(), Some(hostile[0]));
            store.close().unwrap();
        }
        let count = query(path, "SELECT count(*) || ':' || max(price) FROM item");
        assert_eq!(count, format!("{}:2", hostile.len()));
    });
}
