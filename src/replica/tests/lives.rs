//! What a replica leaves behind when it ends, and what its next life makes of it.

use super::fixture::{Rig, identity};
use crate::http1::Method;
use crate::replica::job::Accept;
use crate::tables::{Record, Update, Value};

#[test]
fn what_the_end_of_the_process_would_lose_is_counted() {
    let mut rig = Rig::new();
    let clerk = identity("cat", 1);
    rig.start(Rig::post("/items/bolt/local", &clerk, "price=1.5"));
    assert_eq!(rig.finished.len(), 1, "it is answered before it is committed");
    assert_eq!((rig.replica.unconfirmed(), rig.replica.at_risk()), (1, 1));
    assert!(rig.replica.is_busy());
    rig.settle();
    assert_eq!((rig.replica.unconfirmed(), rig.replica.at_risk(), rig.replica.is_busy()), (0, 0, false));
}

#[test]
fn a_new_life_takes_over_what_was_not_heard_but_no_deleted_row() {
    let mut old = Rig::new();
    let clerk = identity("cat", 1);
    let item = old.replica.code().shapes.id("item").expect("table");
    old.start(Rig::post("/items/bolt/local", &clerk, "price=1.5"));
    let written = old.replica.tables().get(item, "bolt").expect("row").to_update(item);

    let mut new = Rig::new();
    let bolt = new.replica.tables().get(item, "bolt").expect("row").to_update(item);
    let unknown = |sequence: u32| {
        let mut update: Update = bolt.clone();
        update.key = "gone".into();
        update.stamp.sequence = sequence;
        update.record = Some(Record([Value::text("Gone"), Value::text("metal"), Value::Integer(1)].into()));
        update
    };
    // A row that another replica deleted while this one was dead, and whose stub is forgotten.
    new.replica.tables_mut().raise_purged_sequence(item, 5);
    assert_eq!(new.replica.take_over(&[written.clone(), unknown(5), unknown(6)]), 1);
    assert_eq!(new.replica.tables().get(item, "bolt").map(|row| row.stamp), Some(written.stamp));
    assert_eq!(new.replica.tables().get(item, "gone").map(|row| row.stamp.sequence), Some(6));
}

#[test]
fn answers_to_an_earlier_life_are_not_taken_for_ones_own() {
    let mut rig = Rig::new();
    let ann = identity("ann", 1);
    rig.start(Rig::post("/orders", &ann, "item=bolt&quantity=3"));
    let (old, ..) = rig.commits.pop_front().expect("a commit");
    let mut rig = Rig::new();
    rig.replica = rig.replica.with_tokens_after(old);
    rig.start(Rig::post("/orders", &ann, "item=nut&quantity=1"));
    assert!(rig.commits[0].0 > old);
    rig.replica.committed(old, crate::database::contract::Outcome::Committed { updates: Vec::new() }, rig.now);
    rig.collect();
    assert_eq!((rig.finished.len(), rig.replica.commits_waiting(), rig.replica.books()), (0, 1, 0));
    rig.settle();
    assert_eq!(rig.finished.len(), 1);
}

#[test]
fn a_drill_panics_once() {
    let mut rig = Rig::new();
    let ann = identity("ann", 1);
    rig.replica.panic_next();
    let statuses = [0; 2].map(|_| rig.run(Rig::job(Method::Get, "/items/bolt", Accept::Html, &ann)).response.status);
    assert_eq!((statuses, rig.replica.counters().panicked), ([500, 200], 1));
}
