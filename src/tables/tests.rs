//! The rule in a small world exhaustively, and queries against a plain model.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use proptest::prelude::{ProptestConfig, any, prop};
use proptest::{prop_assert_eq, proptest};

use super::index::each_word;
use super::{
    Applied, DataTables, DocumentShape, Field, FieldKind, Query, Record, Row, ShapeSet, Stamp, TableId, Update, Value,
    VersionVector,
};

const TABLE: TableId = TableId(0);

fn field(name: &str, kind: FieldKind, index: bool, words: bool) -> Field {
    Field { name: name.into(), kind, required: false, length_max: 1000, secret: false, index, words }
}

fn shapes(fields: Vec<Field>) -> Arc<ShapeSet> {
    let shape =
        DocumentShape { table: "item".into(), application: "test".into(), key: "item".into(), fields: fields.into() };
    Arc::new(ShapeSet { shapes: vec![Arc::new(shape)] })
}

fn plain() -> DataTables {
    DataTables::new(shapes(vec![field("text", FieldKind::Text, false, false)]))
}

fn record(text: &str) -> Option<Record> {
    Some(Record([Value::text(text)].into()))
}

/// What a replica holds of a key, for comparison.
fn state(tables: &DataTables, key: &str) -> (Option<(Stamp, Option<Record>)>, BTreeSet<Stamp>) {
    let row = tables.get_any(TABLE, key).map(|row| (row.stamp, row.record.clone()));
    (row, tables.losers(TABLE, key).map(|loser| loser.stamp).collect())
}

/// The published rule: deletion wins unless the document was edited more than once, or after the deletion; of two
/// edits the one with more edits wins, then the later one; the loser is kept.
#[test]
fn dominos_truth_table() {
    // What server 1 does while server 2 does something else, both knowing revision 1, and who wins.
    // (edits, then delete, time of the last step) for each side.
    type Side = (u32, bool, u64);
    let cases: [(&str, Side, Side, u8); 9] = [
        ("one edit each: the later wins", (1, false, 20), (1, false, 30), 2),
        ("one edit each: the later wins, mirrored", (1, false, 30), (1, false, 20), 1),
        ("one edit each at the same time: the server number decides", (1, false, 20), (1, false, 20), 2),
        ("more edits win, although earlier", (2, false, 20), (1, false, 30), 1),
        ("deleted after one edit: the deletion wins", (1, false, 20), (0, true, 30), 2),
        ("edited once after the deletion: the edit wins", (1, false, 30), (0, true, 20), 1),
        ("edited twice before the deletion: the edits win", (2, false, 20), (0, true, 30), 1),
        ("edited and deleted against one edit: more steps win", (1, true, 20), (1, false, 30), 1),
        ("two deletions: the later", (0, true, 20), (0, true, 30), 2),
    ];
    for (name, one, other, winner) in cases {
        let mut origin = plain();
        let base = origin.edit(TABLE, "k", record("base"), 0, 1);
        origin.apply(&base);
        let mut updates = vec![base.clone()];
        for (server, (edits, delete, time)) in [(1, one), (2, other)] {
            let mut side = plain();
            side.apply(&base);
            let steps = edits + u32::from(delete);
            for step in 1..=steps {
                let record = if delete && step == steps { None } else { record(&format!("{server} {step}")) };
                let time = if step == steps { time } else { time - u64::from(steps - step) };
                let update = side.edit(TABLE, "k", record, server, time);
                assert_eq!(side.apply(&update), Applied::Replaced);
                updates.push(update);
            }
        }
        let (mut forward, mut backward) = (plain(), plain());
        updates.iter().for_each(|update| drop(forward.apply(update)));
        updates.iter().rev().for_each(|update| drop(backward.apply(update)));
        assert_eq!(forward.get_any(TABLE, "k").unwrap().stamp.server, winner, "{name}");
        assert_eq!(state(&forward, "k").0, state(&backward, "k").0, "{name}");
        for tables in [&forward, &backward] {
            let losers: Vec<u8> = tables.losers(TABLE, "k").map(|loser| loser.stamp.server).collect();
            assert!(losers.contains(&(3 - winner)), "{name}: the loser is kept, not {losers:?}");
            assert!(!losers.contains(&winner) && !losers.contains(&0), "{name}: {losers:?}");
        }
    }
}

#[test]
fn says_what_an_update_did() {
    let mut tables = plain();
    let first = tables.edit(TABLE, "k", record("1"), 0, 10);
    assert_eq!((first.stamp.sequence, first.base, first.versions.0[0]), (1, Stamp::default(), 1));
    assert_eq!(tables.apply(&first), Applied::Inserted);
    assert_eq!(tables.apply(&first), Applied::Duplicate);
    let blind = plain().edit(TABLE, "k", record("blind"), 1, 5);
    let second = tables.edit(TABLE, "k", record("2"), 0, 11);
    assert_eq!(second.base, first.stamp);
    assert_eq!(tables.apply(&second), Applied::Replaced);
    assert_eq!(tables.apply(&first), Applied::Obsolete);
    assert_eq!(tables.apply(&blind), Applied::Conflict { loser: Box::new(blind.clone()) });
    assert_eq!(tables.apply(&blind), Applied::Duplicate);
    assert_eq!(tables.loser_count(TABLE), 1);
    // Who edits now has seen the loser, so nobody finds a conflict with it again.
    let third = tables.edit(TABLE, "k", record("3"), 0, 12);
    assert!(third.versions.covers(&blind.versions));
    assert_eq!(tables.apply(&third), Applied::Replaced);
    let mut other = plain();
    other.apply(&blind);
    assert_eq!(other.apply(&third), Applied::Replaced);
    // A deletion is an edit; what was deleted can begin anew, on the stub or behind it.
    let delete = tables.edit(TABLE, "k", None, 0, 13);
    assert_eq!(tables.apply(&delete), Applied::Replaced);
    assert_eq!((tables.get(TABLE, "k"), tables.live_count(TABLE), tables.stub_count(TABLE)), (None, 0, 1));
    assert!(!tables.purge(TABLE, "k", delete.stamp), "the loser hangs on it");
    let mut clean = plain();
    clean.apply(&first);
    clean.apply(&delete);
    assert!(!clean.purge(TABLE, "k", first.stamp));
    assert!(clean.purge(TABLE, "k", delete.stamp));
    assert_eq!((clean.digest_with_stubs(TABLE), clean.stub_count(TABLE)), (0, 0));
    let anew = clean.edit(TABLE, "k", record("anew"), 0, 14);
    assert_eq!((anew.stamp.sequence, anew.base), (5, Stamp::default()));
    assert!(anew.stamp > delete.stamp);
}

/// A successor of the winner is no conflict with it, although the row knows the loser and the successor does not.
#[test]
fn a_direct_successor_is_no_conflict() {
    let (mut a, b, mut c) = (plain(), plain(), plain());
    let one = a.edit(TABLE, "k", record("one"), 0, 10);
    let two = b.edit(TABLE, "k", record("two"), 1, 20);
    c.apply(&two);
    let three = c.edit(TABLE, "k", record("three"), 2, 30);
    c.apply(&three);
    let four = c.edit(TABLE, "k", record("four"), 2, 40);
    for update in [&one, &two] {
        a.apply(update);
    }
    assert_eq!(a.apply(&four), Applied::Replaced);
    assert_eq!(a.apply(&three), Applied::Obsolete);
    assert_eq!(a.losers(TABLE, "k").map(|loser| loser.stamp).collect::<Vec<_>>(), [one.stamp]);
}

/// One edit in the small world: who makes it, which earlier edits have reached it, and whether it deletes.
#[derive(Clone, Copy, Debug)]
struct Step {
    server: u8,
    /// Bit i: edit i has come.
    seen: usize,
    delete: bool,
}

/// Runs all histories of `count` edits by three servers, with all deliveries between them.
fn histories(count: usize, each: &mut impl FnMut(&[Step])) {
    fn extend(steps: &mut Vec<Step>, count: usize, each: &mut impl FnMut(&[Step])) {
        if steps.len() == count {
            return each(steps);
        }
        // Servers are the same but for their order, so a new one is only the next one.
        let servers = steps.iter().map(|step| step.server + 1).max().unwrap_or(0).min(2);
        for server in 0..=servers {
            let own: usize = (0..steps.len()).filter(|step| steps[*step].server == server).map(|step| 1 << step).sum();
            let before = steps
                .iter()
                .filter(|step| step.server == server)
                .map(|step| step.seen)
                .fold(own, |all, seen| all | seen);
            // What has come stays; anything else may have come since.
            for seen in (0..1 << steps.len()).filter(|seen| seen & before == before) {
                for delete in [false, true] {
                    steps.push(Step { server, seen, delete });
                    extend(steps, count, each);
                    steps.pop();
                }
            }
        }
    }
    extend(&mut Vec::new(), count, each);
}

fn permutations(count: usize) -> Vec<Vec<usize>> {
    if count == 0 {
        return vec![Vec::new()];
    }
    let shorter = permutations(count - 1);
    shorter
        .iter()
        .flat_map(|order| {
            (0..count).map(|place| {
                let mut longer = order.clone();
                longer.insert(place, count - 1);
                longer
            })
        })
        .collect()
}

/// Every history of up to four edits by three servers, in every order of delivery and with everything delivered
/// twice: the rows agree, nothing is lost, and after uniting the losers the replicas are the same.
#[test]
fn every_small_history_converges() {
    let mut checked = 0;
    for count in 1..=4 {
        let orders = permutations(count);
        for same_times in [false, true] {
            histories(count, &mut |steps| {
                check_history(steps, &orders, same_times);
                checked += orders.len();
            });
        }
    }
    assert_eq!(checked, 172_468, "histories in every order of delivery");
}

fn check_history(steps: &[Step], orders: &[Vec<usize>], same_times: bool) {
    // Keys stand for replicas: what belongs to one key never touches another's. Servers are `s0` to `s2`.
    thread_local! { static TABLES: std::cell::RefCell<DataTables> = std::cell::RefCell::new(plain()); }
    TABLES.with_borrow_mut(|tables| {
        *tables = plain();
        let mut updates: Vec<Update> = Vec::new();
        let at = |update: &Update, key: &str| Update { key: key.into(), ..update.clone() };
        for (number, step) in steps.iter().enumerate() {
            let me = format!("s{}", step.server);
            for earlier in (0..number).filter(|earlier| step.seen >> earlier & 1 == 1) {
                tables.apply(&at(&updates[earlier], &me));
            }
            let record = if step.delete { None } else { record(&number.to_string()) };
            let time = if same_times { 7 } else { u64::try_from(number).unwrap() };
            let update = tables.edit(TABLE, &me, record, step.server, time);
            tables.apply(&update);
            updates.push(update);
        }
        let winner = updates.iter().max_by_key(|update| update.stamp).unwrap();
        let names: Vec<String> = (0..orders.len()).map(|order| format!("o{order}")).collect();
        for (order, name) in orders.iter().zip(&names) {
            for number in order {
                tables.apply(&at(&updates[*number], name));
            }
            let once = state(tables, name);
            assert_eq!(once.0, Some((winner.stamp, winner.record.clone())), "{steps:?} in order {order:?}");
            for number in order {
                let again = tables.apply(&at(&updates[*number], name));
                assert!(
                    matches!(again, Applied::Duplicate | Applied::Obsolete),
                    "{steps:?} in order {order:?}: {again:?}"
                );
            }
            assert_eq!(state(tables, name), once, "{steps:?} in order {order:?}");
        }
        // A sweep unites the losers.
        let everyone: Vec<String> = names.iter().cloned().chain(["s0", "s1", "s2"].map(String::from)).collect();
        let mut losers: BTreeMap<Stamp, Update> = BTreeMap::new();
        for name in &everyone {
            losers.extend(tables.losers(TABLE, name).map(|loser| (loser.stamp, loser.clone())));
        }
        for update in &updates {
            let built_on = updates.iter().any(|other| other.base == update.stamp);
            let kept = update.stamp == winner.stamp || built_on || losers.contains_key(&update.stamp);
            assert!(kept, "{steps:?}: nobody has {update:?}");
        }
        for name in &names {
            for loser in losers.values() {
                tables.apply_loser(&at(loser, name));
            }
            assert_eq!(
                state(tables, name),
                (Some((winner.stamp, winner.record.clone())), losers.keys().copied().collect()),
                "{steps:?}"
            );
        }
    });
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

/// The same answer from a plain walk over all rows.
fn model<'a>(rows: &'a BTreeMap<String, Row>, query: &Query<'_>, keep: impl Fn(&Row) -> bool) -> (usize, Vec<&'a str>) {
    let mut wanted = Vec::new();
    each_word(query.words, |word| wanted.push(word.to_owned()));
    let matches = |row: &&Row| {
        let mut words = BTreeSet::new();
        for field in [1, 3] {
            each_word(row.get(field).as_text().unwrap_or(""), |word| {
                words.insert(word.to_owned());
            });
        }
        let whole = wanted.iter().rev().skip(1).all(|word| words.contains(word));
        let begun = wanted.last().is_none_or(|prefix| words.iter().any(|word| word.starts_with(prefix)));
        let equal = query.equal.iter().all(|(field, value)| **value != Value::Null && row.get(*field) == *value);
        whole && begun && equal && keep(row)
    };
    let mut found: Vec<&str> = rows.values().filter(|row| row.is_live()).filter(matches).map(|row| &*row.key).collect();
    if query.descending {
        found.reverse();
    }
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
        texts in prop::collection::vec(prop::sample::select(vec!["", "lib", "li", "LIB z", "the lib", "zebra", "ze", "z", "nothing", "the nothing", "compiler über", "common", "common note l", "--"]), 3),
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
                for descending in [false, true] {
                    let query = Query { equal, words, descending, offset, limit };
                    let found = tables.select(TABLE, &query);
                    let keys: Vec<&str> = found.rows.iter().map(|row| &*row.key).collect();
                    prop_assert_eq!((found.total, keys), model(&rows, &query, |_| true), "{:?}", query);
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
        versions: VersionVector::default().edited_by(1),
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
