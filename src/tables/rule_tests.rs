//! The rule of revisions: Domino's table line by line, every small history in every order of delivery, and the laws of a
//! semilattice over large histories.

use std::collections::BTreeSet;

use proptest::prelude::{Just, ProptestConfig, Strategy, any, prop};
use proptest::{prop_assert, prop_assert_eq, proptest};

use super::data::LOSERS_MAX;
use super::tests::{TABLE, plain, record};
use super::{Applied, DataTables, Record, Stamp, Update};

/// What a replica holds of a key: the row, and the losers.
type Held = (Option<(Stamp, Option<Record>)>, BTreeSet<Stamp>);

fn state(tables: &DataTables, key: &str) -> Held {
    let row = tables.get_any(TABLE, key).map(|row| (row.stamp, row.record.clone()));
    (row, tables.losers(TABLE, key).map(|loser| loser.stamp).collect())
}

/// What must be held of a set of revisions of one row, straight from the rule: those that no other one settles.
fn expected<'a>(updates: impl IntoIterator<Item = &'a Update> + Clone) -> Held {
    let settled = |one: &Update| {
        let mut others = updates.clone().into_iter();
        others.any(|other| other.versions.settles(other.stamp, one.stamp, &one.versions))
    };
    let winner = updates.clone().into_iter().max_by_key(|update| update.stamp);
    let kept = updates.clone().into_iter().filter(|update| !settled(update)).map(|update| update.stamp);
    let losers = kept.filter(|stamp| winner.is_none_or(|winner| winner.stamp != *stamp)).collect();
    (winner.map(|winner| (winner.stamp, winner.record.clone())), losers)
}

/// The published rule, each line under its name: of two edits the document with more edits wins, then the one saved later;
/// a deletion wins unless the document was edited more than once, or after the deletion. Kept from Domino: the loser is
/// not dropped. Beyond Domino: ties are decided by the server's number, and a losing deletion is kept like any loser.
#[test]
fn dominos_truth_table() {
    // What server 1 does while server 2 does something else, both knowing revision 1, and who wins.
    // (edits, then delete, time of the last step) for each side.
    type Side = (u32, bool, u64);
    let lines: [(&str, Side, Side, u8); 12] = [
        ("edit against edit, one each: the later wins", (1, false, 20), (1, false, 30), 2),
        ("edit against edit, one each: the later wins, mirrored", (1, false, 30), (1, false, 20), 1),
        ("edit against edit at the same time: the server number decides", (1, false, 20), (1, false, 20), 2),
        ("edit against edit: more edits win, although earlier", (2, false, 20), (1, false, 30), 1),
        ("edit against edit: more edits win, although earlier, mirrored", (1, false, 30), (2, false, 20), 2),
        ("edit against delete: edited once, before the deletion: the deletion wins", (1, false, 20), (0, true, 30), 2),
        ("edit against delete: edited once, after the deletion: the edit wins", (1, false, 30), (0, true, 20), 1),
        ("edit against delete: edited twice, before the deletion: the edits win", (2, false, 20), (0, true, 30), 1),
        ("edit against delete: edited twice, after the deletion: the edits win", (2, false, 30), (0, true, 20), 1),
        ("edit against delete at the same time: the server number decides", (1, false, 20), (0, true, 20), 2),
        ("edited and deleted against one edit: more steps win", (1, true, 20), (1, false, 30), 1),
        ("delete against delete: the later", (0, true, 20), (0, true, 30), 2),
    ];
    for (name, one, other, winner) in lines {
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
        assert_eq!(state(&forward, "k"), state(&backward, "k"), "{name}");
        let losers: Vec<u8> = forward.losers(TABLE, "k").map(|loser| loser.stamp.server).collect();
        assert_eq!(losers, [3 - winner], "{name}: the other side's last step is kept");
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
    assert_eq!((tables.loser_count(TABLE), tables.get(TABLE, "k").unwrap().versions), (1, second.versions));
    // Who edits now has seen the loser: it is settled, and nobody finds a conflict with it again.
    let third = tables.edit(TABLE, "k", record("3"), 0, 12);
    assert!(third.versions.covers(&blind.versions));
    assert_eq!(tables.apply(&third), Applied::Replaced);
    assert_eq!((tables.loser_count(TABLE), tables.apply(&blind)), (0, Applied::Obsolete));
    let mut other = plain();
    other.apply(&blind);
    assert_eq!(other.apply(&third), Applied::Replaced);
    assert_eq!(other.digest(TABLE), tables.digest(TABLE));
    // A deletion is an edit; a stub with a loser is not forgotten.
    let delete = tables.edit(TABLE, "k", None, 0, 20);
    assert_eq!(tables.apply(&delete), Applied::Replaced);
    assert_eq!((tables.get(TABLE, "k"), tables.live_count(TABLE), tables.stub_count(TABLE)), (None, 0, 1));
    let late = other.edit(TABLE, "k", record("late"), 1, 5);
    assert_eq!(tables.apply(&late), Applied::Conflict { loser: Box::new(late.clone()) });
    assert!(!tables.purge(TABLE, "k", delete.stamp), "the loser hangs on it");
    // What was deleted can begin anew, on the stub or behind it, and never with a sequence that was used before.
    let mut clean = plain();
    clean.apply(&first);
    clean.apply(&delete);
    assert!(!clean.purge(TABLE, "k", first.stamp));
    assert!(clean.purge(TABLE, "k", delete.stamp));
    assert_eq!((clean.digest_with_stubs(TABLE), clean.stub_count(TABLE)), (0, 0));
    let anew = clean.edit(TABLE, "k", record("anew"), 0, 14);
    assert_eq!((anew.stamp.sequence, anew.base, anew.versions.0[0]), (5, Stamp::default(), 5));
    assert!(anew.stamp > delete.stamp && !delete.versions.covers(&anew.versions));
}

/// A successor of the winner is no conflict with it, although the row has a loser that the successor does not know.
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

/// An owner's decision: an edit that has seen the losers settles them on every replica, in whatever order it and they
/// come; one that has not seen them all leaves the others. Digests agree, and the memory is given back.
#[test]
fn an_edit_that_knew_the_losers_settles_them_everywhere() {
    let base = plain().edit(TABLE, "k", record("base"), 0, 1);
    let concurrent: Vec<Update> = (0..4)
        .map(|server| {
            let mut side = plain();
            side.apply(&base);
            side.edit(TABLE, "k", record(&format!("by {server}")), server, 10 + u64::from(server))
        })
        .collect();
    // The owner has seen all but the edit of server 0, and of the rest the greatest is the row.
    let mut owner = plain();
    for update in concurrent[1..].iter().chain([&base]) {
        owner.apply(update);
    }
    assert_eq!(owner.loser_count(TABLE), 2);
    let with_losers = owner.bytes_estimate();
    let decision = owner.edit(TABLE, "k", record("decided"), 5, 50);
    assert_eq!(owner.apply(&decision), Applied::Replaced);
    assert_eq!(owner.loser_count(TABLE), 0);
    assert!(owner.bytes_estimate() < with_losers);
    let all: Vec<&Update> = [&base, &decision].into_iter().chain(&concurrent).collect();
    owner.apply(&concurrent[0]);
    for order in permutations(all.len()) {
        let mut tables = plain();
        for place in &order {
            tables.apply(all[*place]);
        }
        assert_eq!(state(&tables, "k"), state(&owner, "k"), "{order:?}");
        assert_eq!(state(&tables, "k").1, BTreeSet::from([concurrent[0].stamp]), "what was not seen stays");
        assert_eq!(tables.digest_with_stubs(TABLE), owner.digest_with_stubs(TABLE), "{order:?}");
        assert_eq!(tables.bytes_estimate(), owner.bytes_estimate(), "{order:?}");
    }
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

/// All orders in which `count` updates come, each of them twice.
fn doubled(count: usize) -> Vec<Vec<usize>> {
    let mut orders: Vec<Vec<usize>> = permutations(2 * count)
        .into_iter()
        .map(|order| order.into_iter().map(|place| place % count).collect())
        .collect();
    orders.sort();
    orders.dedup();
    orders
}

/// Every history of up to four edits (puts and deletions, concurrent or not) by three servers, in every order of
/// delivery: the row is the greatest stamp, the losers are those that nobody settled, on every replica alike, without a
/// sweep; what comes again changes nothing; who deleted last stays deleted.
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

/// The same of up to three edits, each of which comes twice, in every order of all deliveries.
#[test]
fn every_small_history_converges_whatever_comes_twice() {
    let mut checked = 0;
    for count in 1..=3 {
        let orders = doubled(count);
        histories(count, &mut |steps| {
            check_history(steps, &orders, false);
            checked += orders.len();
        });
    }
    assert_eq!(checked, 14_474, "histories in every order of double delivery");
}

fn check_history(steps: &[Step], orders: &[Vec<usize>], same_times: bool) {
    // Keys stand for replicas: what belongs to one key never touches another's. Servers are `s0` to `s2`.
    let mut tables = plain();
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
    let expected = expected(&updates);
    let winner = updates.iter().max_by_key(|update| update.stamp).unwrap();
    for (number, order) in orders.iter().enumerate() {
        let name = format!("o{number}");
        for place in order {
            tables.apply(&at(&updates[*place], &name));
        }
        assert_eq!(state(&tables, &name), expected, "{steps:?} in order {order:?}");
        assert_eq!(tables.get(TABLE, &name).is_some(), winner.record.is_some(), "{steps:?} in order {order:?}");
        for place in order {
            let again = tables.apply(&at(&updates[*place], &name));
            let nothing = matches!(again, Applied::Duplicate | Applied::Obsolete);
            assert!(nothing, "{steps:?} in order {order:?}: {again:?}");
        }
        assert_eq!(state(&tables, &name), expected, "{steps:?} in order {order:?}");
    }
    for update in &updates {
        let held = expected.1.contains(&update.stamp) || update.stamp == winner.stamp;
        let known = updates.iter().any(|other| other.stamp != update.stamp && other.versions.covers(&update.versions));
        assert!(held || known, "{steps:?}: {update:?} is gone although nobody knew it");
    }
}

const KEYS: [&str; 3] = ["a", "b", "c"];
const SERVERS: u8 = 5;

/// A large history: edits by five servers on three keys, with deliveries of anything to anyone between them.
fn large_history() -> impl Strategy<Value = Vec<Update>> {
    let act =
        (0..SERVERS, 0..KEYS.len(), any::<bool>(), prop::collection::vec(any::<prop::sample::Index>(), 0..3), 0u64..20);
    prop::collection::vec(act, 1..40).prop_map(|acts| {
        let mut nodes: Vec<DataTables> = (0..SERVERS).map(|_| plain()).collect();
        let mut updates: Vec<Update> = Vec::new();
        for (number, (server, key, delete, seen, late)) in acts.into_iter().enumerate() {
            let node = &mut nodes[usize::from(server)];
            for index in seen.iter().filter(|_| !updates.is_empty()) {
                node.apply(index.get(&updates));
            }
            // Clocks differ.
            let time = u64::try_from(number).unwrap() + late;
            let record = if delete { None } else { record(&number.to_string()) };
            let update = node.edit(TABLE, KEYS[key], record, server, time);
            node.apply(&update);
            updates.push(update);
        }
        updates
    })
}

fn applied<'a>(updates: impl IntoIterator<Item = &'a Update>) -> DataTables {
    let mut tables = plain();
    updates.into_iter().for_each(|update| drop(tables.apply(update)));
    tables
}

/// What replicas do to each other in a sweep: all rows, stubs and losers of one go into the other.
fn joined(into: &DataTables, from: &DataTables) -> DataTables {
    let held = |tables: &DataTables| -> Vec<Update> {
        let rows = KEYS.iter().filter_map(|key| tables.get_any(TABLE, key)).map(|row| row.to_update(TABLE));
        let losers = KEYS.iter().flat_map(|key| tables.losers(TABLE, key).cloned());
        rows.chain(losers).collect()
    };
    applied(held(into).iter().chain(&held(from)))
}

fn whole(tables: &DataTables) -> (Vec<Held>, u128, usize) {
    let states = KEYS.iter().map(|key| state(tables, key)).collect();
    (states, tables.digest_with_stubs(TABLE), tables.loser_count(TABLE))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Commutative, associative, idempotent: large histories in any order and grouping, and nothing but the rule.
    #[test]
    fn joining_is_a_semilattice(
        (updates, shuffled) in large_history().prop_flat_map(|updates| (Just(updates.clone()), Just(updates).prop_shuffle())),
        cuts in (any::<prop::sample::Index>(), any::<prop::sample::Index>()),
    ) {
        let all = whole(&applied(&updates));
        prop_assert_eq!(&whole(&applied(&shuffled)), &all);
        prop_assert_eq!(&whole(&applied(shuffled.iter().chain(&updates))), &all, "what comes twice changes nothing");
        for (key, held) in KEYS.iter().zip(&all.0) {
            let own: Vec<&Update> = updates.iter().filter(|update| &*update.key == *key).collect();
            prop_assert_eq!(held, &expected(own.iter().copied()));
            prop_assert!(held.1.len() < usize::from(SERVERS) && held.1.len() <= LOSERS_MAX, "one of each origin");
        }
        let (one, other) = (cuts.0.index(shuffled.len() + 1), cuts.1.index(shuffled.len() + 1));
        let (first, second) = (one.min(other), one.max(other));
        let [a, b, c] = [&shuffled[..first], &shuffled[first..second], &shuffled[second..]].map(applied);
        prop_assert_eq!(whole(&joined(&a, &b)), whole(&joined(&b, &a)), "commutative");
        prop_assert_eq!(whole(&joined(&a, &a)), whole(&a), "idempotent");
        prop_assert_eq!(whole(&joined(&joined(&a, &b), &c)), whole(&joined(&a, &joined(&b, &c))), "associative");
        prop_assert_eq!(&whole(&joined(&joined(&a, &b), &c)), &all, "a join knows what applying knows");
    }
}
