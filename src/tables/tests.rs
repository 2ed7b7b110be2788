//! Digests, and queries against a plain model. The rule of revisions is in `rule_tests`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use proptest::prelude::{ProptestConfig, any, prop};
use proptest::{prop_assert_eq, proptest};

use super::index::each_word;
use super::{
    Applied, DataTables, DocumentShape, Field, FieldKind, Query, Record, Row, ShapeSet, Stamp, TableId, Update, Value,
    VersionVector,
};

pub(super) const TABLE: TableId = TableId(0);

fn field(name: &str, kind: FieldKind, index: bool, words: bool) -> Field {
    Field { index, words, ..Field::new(name, kind, 1000) }
}

fn shapes(fields: Vec<Field>) -> Arc<ShapeSet> {
    let shape =
        DocumentShape { table: "item".into(), application: "test".into(), key: "item".into(), fields: fields.into() };
    Arc::new(ShapeSet { shapes: vec![Arc::new(shape)] })
}

pub(super) fn plain() -> DataTables {
    DataTables::new(shapes(vec![field("text", FieldKind::Text, false, false)]))
}

pub(super) fn record(text: &str) -> Option<Record> {
    Some(Record([Value::text(text)].into()))
}

/// Digests depend on contents, not on the way there.
#[test]
fn digests_follow_the_contents() {
    let (mut one, mut other) = (plain(), plain());
    let mut updates = Vec::new();
    for number in 0..500u64 {
        let update = one.edit(TABLE, &format!("key-{}", number % 200), record(&number.to_string()), 0, number);
        one.apply(&update);
        updates.push(update);
    }
    let gone = one.edit(TABLE, "key-7", None, 1, 1000);
    one.apply(&gone);
    updates.push(gone.clone());
    for update in updates.iter().rev() {
        other.apply(update);
    }
    assert_eq!(one.digest(TABLE), other.digest(TABLE));
    assert_eq!(one.bucket_digests(TABLE), other.bucket_digests(TABLE));
    assert_eq!(one.bucket_digests(TABLE).iter().fold(0, |total, bucket| total ^ bucket), one.digest(TABLE));
    assert_eq!(one.digest_with_stubs(TABLE), other.digest_with_stubs(TABLE));
    assert_ne!(one.digest_with_stubs(TABLE), one.digest(TABLE));
    assert!(other.purge(TABLE, "key-7", gone.stamp));
    assert_eq!(one.digest(TABLE), other.digest(TABLE), "a purged stub shows no difference");
    let more = other.edit(TABLE, "key-8", record("more"), 1, 2000);
    other.apply(&more);
    let differing =
        (0..256).filter(|bucket| one.bucket_digests(TABLE)[*bucket] != other.bucket_digests(TABLE)[*bucket]);
    assert_eq!(differing.count(), 1);
    let listed: usize = (0..=255).map(|bucket| one.rows_in_bucket(TABLE, bucket, None).count()).sum();
    assert_eq!(listed, 200);
}

fn catalog_fields() -> Vec<Field> {
    vec![
        field("section", FieldKind::Text, true, false),
        field("text", FieldKind::Text, false, true),
        field("size", FieldKind::Integer, true, false),
        field("note", FieldKind::Text, false, true),
    ]
}

fn catalog_record(section: u8, words: &[u8], size: i64) -> Option<Record> {
    const WORDS: [&str; 10] = ["lib", "Library", "libc", "zebra", "zero", "the", "The-Lib", "x", "compiler", "über"];
    let text: Vec<&str> = words.iter().map(|word| WORDS[usize::from(*word) % WORDS.len()]).collect();
    let section = if section.is_multiple_of(5) {
        Value::Null
    } else {
        Value::text(["libs", "devel", "net", "admin"][usize::from(section % 5) - 1])
    };
    let note = if words.len().is_multiple_of(2) { Value::Null } else { Value::text("common note") };
    Some(Record([section, Value::text(&text.join(", ")), Value::Integer(size % 7), note].into()))
}

fn words_in(text: &str) -> BTreeSet<String> {
    let mut words = BTreeSet::new();
    each_word(text, |word| {
        words.insert(word.to_owned());
    });
    words
}

/// How well a row fits what was typed, as a person would say it: less is better.
fn fit(row: &Row, typed: &str, wanted: &[String]) -> u8 {
    let typed = typed.to_lowercase().split_whitespace().collect::<Vec<_>>().join("-");
    let all_in = |text: &str| {
        let words = words_in(text);
        let (begun, whole) = wanted.split_last().unwrap();
        whole.iter().all(|word| words.contains(word)) && words.iter().any(|word| word.starts_with(begun))
    };
    if *row.key == *typed {
        0
    } else if row.key.starts_with(&typed) {
        1
    } else if all_in(&row.key) {
        2
    } else if all_in(row.get(1).as_text().unwrap_or("")) {
        3
    } else {
        4
    }
}

/// The same answer from a plain walk over all rows.
fn model<'a>(rows: &'a BTreeMap<String, Row>, query: &Query<'_>, keep: impl Fn(&Row) -> bool) -> (usize, Vec<&'a str>) {
    let mut wanted = Vec::new();
    each_word(query.words, |word| wanted.push(word.to_owned()));
    let matches = |row: &&Row| {
        let mut words = words_in(&row.key);
        for field in [1, 3] {
            words.append(&mut words_in(row.get(field).as_text().unwrap_or("")));
        }
        let whole = wanted.iter().rev().skip(1).all(|word| words.contains(word));
        let begun = wanted.last().is_none_or(|prefix| words.iter().any(|word| word.starts_with(prefix)));
        let equal = query.equal.iter().all(|(field, value)| **value != Value::Null && row.get(*field) == *value);
        whole && begun && equal && keep(row)
    };
    let mut found: Vec<&Row> = rows.values().filter(|row| row.is_live()).filter(matches).collect();
    if query.ranked && !wanted.is_empty() {
        found.sort_by_key(|row| fit(row, query.words, &wanted));
    } else if query.descending {
        found.reverse();
    }
    let found: Vec<&str> = found.into_iter().map(|row| &*row.key).collect();
    (found.len(), found.into_iter().skip(query.offset).take(query.limit).collect())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    /// Inserts, updates, deletions and purges in any order, then every kind of query.
    #[test]
    fn queries_agree_with_a_plain_walk(
        edits in prop::collection::vec((0u16..400, any::<bool>(), any::<u8>(), prop::collection::vec(any::<u8>(), 0..5), any::<i64>()), 0..900),
        offset in 0usize..60,
        limit in 0usize..40,
        texts in prop::collection::vec(prop::sample::select(vec!["", "lib", "li", "LIB z", "the lib", "zebra", "ze", "z", "nothing", "the nothing", "compiler über", "common", "common note l", "--", "item-1", "Item 2", "1", "item lib"]), 3),
    ) {
        let mut tables = DataTables::new(shapes(catalog_fields()));
        let mut rows: BTreeMap<String, Row> = BTreeMap::new();
        for (number, (key, delete, section, words, size)) in edits.iter().enumerate() {
            let record = if *delete { None } else { catalog_record(*section, words, *size) };
            let key = format!("item-{key}");
            let update = tables.edit(TABLE, &key, record, 0, u64::try_from(number).unwrap());
            tables.apply(&update);
            if *delete && section % 2 == 0 {
                tables.purge(TABLE, &key, update.stamp);
            }
            rows.insert(key.clone(), Row { key: key.into(), stamp: update.stamp, versions: update.versions, record: update.record });
        }
        let (libs, net, three, null) = (Value::text("libs"), Value::text("net"), Value::Integer(3), Value::Null);
        let common = Value::text("common note");
        let filters: [&[(usize, &Value)]; 7] = [&[], &[(0, &libs)], &[(0, &net), (2, &three)], &[(3, &common)], &[(0, &libs), (3, &common)], &[(0, &null)], &[(1, &libs)]];
        for equal in filters {
            for words in &texts {
                let counts = tables.count_values(TABLE, 0, &Query { equal, words, ..Query::default() }, 10_000).unwrap();
                let all = Query { equal, words, limit: usize::MAX, ..Query::default() };
                let mut counted: BTreeMap<&Value, usize> = BTreeMap::new();
                for key in model(&rows, &all, |_| true).1 {
                    *counted.entry(rows[key].get(0)).or_default() += 1;
                }
                counted.remove(&Value::Null);
                prop_assert_eq!(counts, counted, "{:?}", all);
                for (descending, ranked) in [(false, false), (true, false), (false, true)] {
                    let query = Query { equal, words, descending, ranked, offset, limit };
                    let found = tables.select(TABLE, &query);
                    let keys: Vec<&str> = found.rows.iter().map(|row| &*row.key).collect();
                    prop_assert_eq!((found.total, keys), model(&rows, &query, |_| true), "{:?}", query);
                    let query = Query { ranked: false, ..query };
                    let odd = |row: &Row| row.stamp.time % 2 == 1;
                    let found = tables.select_where(TABLE, &query, &mut |row| odd(row));
                    let keys: Vec<&str> = found.rows.iter().map(|row| &*row.key).collect();
                    prop_assert_eq!((found.total, keys), model(&rows, &query, odd), "{:?}", query);
                }
            }
        }
        for field in [0, 2] {
            let mut counts: BTreeMap<&Value, usize> = BTreeMap::new();
            for row in rows.values().filter(|row| row.is_live() && *row.get(field) != Value::Null) {
                *counts.entry(row.get(field)).or_default() += 1;
            }
            prop_assert_eq!(tables.facets(TABLE, field).collect::<Vec<_>>(), counts.into_iter().collect::<Vec<_>>());
        }
        let live: Vec<&str> = rows.values().filter(|row| row.is_live()).map(|row| &*row.key).collect();
        prop_assert_eq!(tables.live_count(TABLE), live.len());
        prop_assert_eq!(tables.scan(TABLE, offset).map(|row| &*row.key).collect::<Vec<_>>(), live[offset.min(live.len())..].to_vec());
        let after: Vec<&str> = live.iter().copied().filter(|key| *key > "item-2").collect();
        prop_assert_eq!(tables.scan_after(TABLE, Some("item-2")).map(|row| &*row.key).collect::<Vec<_>>(), after);
    }
}

#[test]
fn a_new_shape_indexes_what_is_there() {
    let mut tables = DataTables::new(shapes(vec![field("section", FieldKind::Text, false, false)]));
    for (key, section) in [("a", "libs"), ("b", "net"), ("c", "libs")] {
        let update = tables.edit(TABLE, key, record(section), 0, 1);
        tables.apply(&update);
    }
    let libs = Value::text("libs");
    assert_eq!(tables.by_index(TABLE, 0, &libs, 0, 10).total, 2, "slow, but right");
    assert_eq!(tables.facets(TABLE, 0).count(), 0);
    // The shape grows at its end, and its first field gets an index and words.
    tables.set_shapes(shapes(vec![
        field("section", FieldKind::Text, true, true),
        field("size", FieldKind::Integer, true, false),
    ]));
    assert_eq!(tables.by_index(TABLE, 0, &libs, 0, 10).total, 2);
    assert_eq!(tables.facets(TABLE, 0).map(|(_, count)| count).collect::<Vec<_>>(), [2, 1]);
    assert_eq!(tables.search(TABLE, "ne", 0, 10).rows[0].key, "b".into());
    assert_eq!(tables.get(TABLE, "a").unwrap().get(1), &Value::Null);
}

/// Updates may overtake the deploy that declares their table.
#[test]
fn rows_may_come_before_their_shape() {
    let mut tables = plain();
    let early = Update {
        table: TableId(3),
        key: "k".into(),
        stamp: Stamp { sequence: 1, time: 1, server: 1 },
        versions: VersionVector::default().edited_by(1, 1),
        base: Stamp::default(),
        record: record("hello"),
    };
    assert_eq!(tables.apply(&early), Applied::Inserted);
    assert_eq!((tables.table_count(), tables.live_count(TableId(3)), tables.live_count(TableId(9))), (4, 1, 0));
    let one = shapes(vec![field("text", FieldKind::Text, true, true)]);
    tables.set_shapes(Arc::new(ShapeSet { shapes: vec![one.shapes[0].clone(); 4] }));
    assert_eq!(tables.search(TableId(3), "hel", 0, 10).total, 1);
    assert!(tables.bytes_estimate() > 0);
}

/// More rows than are read to be put in order: what is called so goes first all the same, and no row is shown twice.
#[test]
fn a_search_that_finds_very_much_begins_with_what_is_called_so() {
    let mut tables = DataTables::new(shapes(vec![field("text", FieldKind::Text, false, true)]));
    let rows = super::rank::RANKED_MAX + 500;
    for number in 0..rows {
        let key = if number % 500 == 7 { format!("lib-{number:05}") } else { format!("a-{number:05}") };
        tables.apply(&tables.edit(TABLE, &key, record("a library"), 0, 1));
    }
    tables.apply(&tables.edit(TABLE, "lib", record("the very one"), 0, 1));
    tables.apply(&tables.edit(TABLE, "zlib", record("another"), 0, 1));
    let page = |offset: usize, limit: usize| {
        let found = tables.select(TABLE, &Query { words: "LIB", ranked: true, offset, limit, ..Query::default() });
        assert_eq!(found.total, rows + 1, "`zlib` has no word that begins so");
        found.rows.iter().map(|row| row.key.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(
        page(0, 8),
        ["lib", "lib-00007", "lib-00507", "lib-01007", "lib-01507", "lib-02007", "a-00000", "a-00001"]
    );
    assert_eq!(page(7, 2), ["a-00001", "a-00002"]);
    let all: BTreeSet<String> = (0..rows + 20).step_by(100).flat_map(|offset| page(offset, 100)).collect();
    assert_eq!(all.len(), rows + 1);
    let counts =
        |most| tables.count_values(TABLE, 0, &Query { words: "lib", ..Query::default() }, most).map(|it| it.len());
    assert_eq!((counts(rows), counts(rows + 1)), (None, Some(2)));
}
