//! What is written: validation, acknowledgement levels, conflicts, rows that are being written, deadlines.

use std::sync::Arc;

use super::fixture::{Rig, SHOP, body, identity, shop, sources};
use crate::database::contract::{CommitMode, Outcome};
use crate::replica::job::Accept;
use crate::replica::server::Settings;
use crate::replication::{Ack, Message, Positions};
use crate::tables::Value;
use crate::tables::code::CodeVersion;

#[test]
fn a_form_makes_a_row_once_the_database_has_it() {
    let mut rig = Rig::new();
    let ann = identity("ann", 1);
    rig.start(Rig::post("/orders", &ann, "item=bolt&quantity=3&note=%C3%A4"));
    let orders = rig.replica.code().shapes.id("orders").expect("table");
    assert_eq!((rig.commits.len(), rig.finished.len(), rig.replica.tables().live_count(orders)), (1, 0, 0));
    assert_eq!(rig.commits[0].2, CommitMode::Arbitrated);
    rig.settle();
    let job = rig.finished.pop_front().expect("answered");
    assert_eq!(job.response.status, 303);
    let key = job.response.location.strip_prefix("/shop/orders/O").expect("its page");
    assert_eq!(key.len(), 13);
    let row = rig.get_json(&format!("/orders/O{key}"), &ann);
    let expected = serde_json::json!({
        "order": format!("O{key}"), "owner": "ann", "item": "bolt", "quantity": 3, "total": 0.15, "state": "draft", "note": "ä",
    });
    assert_eq!(row["row"], expected);
    let mut job = Rig::post("/orders", &ann, "item=nut&quantity=1");
    job.accept = Accept::Json;
    let job = rig.run(job);
    assert_eq!(job.response.status, 201);
    let json: serde_json::Value = serde_json::from_slice(&job.response.body).expect("JSON");
    assert_eq!((&json["action"], &json["row"]["item"]), (&"actions/order-new".into(), &"nut".into()));
    assert_eq!(json["location"], format!("/shop/orders/{}", json["key"].as_str().expect("key")));
}

#[test]
fn wrong_input_is_shown_again() {
    let mut rig = Rig::new();
    let ann = identity("ann", 1);
    for (fields, shown) in [
        ("item=bolt", "!quantity: This is needed."),
        ("item=bolt&quantity=x", "!quantity: A whole number, please."),
        ("item=bolt&quantity=10", "!quantity: 9 at most, please."),
        ("item=none&quantity=1", "!item: There is no `none`."),
        ("item=bolt&quantity=1&note=01234567890", "!note: At most 10 bytes, please."),
    ] {
        let mut job = Rig::post("/orders", &ann, fields);
        let mut same = Rig::post("/orders", &ann, fields);
        let page = {
            job.accept = Accept::Json;
            rig.run(job)
        };
        let json: serde_json::Value = serde_json::from_slice(&page.response.body).expect("JSON");
        let (name, message) = shown[1..].split_once(": ").expect("name");
        assert_eq!((page.response.status, &json["errors"][name]), (422, &message.into()), "{fields}");
        same.accept = Accept::Html;
        let page = rig.run(same);
        if fields.contains("none") {
            // The form edits a row that is missing.
            assert_eq!(page.response.status, 404, "{fields}");
            continue;
        }
        assert_eq!(page.response.status, 422, "{fields}");
        assert!(body(&page).contains(shown), "{fields}: {}", body(&page));
        assert!(body(&page).contains("item=bolt;"), "values are shown again: {}", body(&page));
    }
    assert!(rig.commits.is_empty());
}

#[test]
fn submitting_queues_an_agent_in_the_same_commit() {
    let mut rig = Rig::new();
    let order = rig.order();
    let target = format!("/orders/{order}/submit");
    let refused = rig.run(Rig::post(&target, &identity("bob", 2), ""));
    assert_eq!((refused.response.status, body(&refused)), (409, "error 409 Only your own drafts can be submitted."));
    let ann = identity("ann", 1);
    rig.start(Rig::post(&target, &ann, ""));
    assert_eq!((rig.commits.len(), rig.commits[0].1.len(), rig.agents.len()), (1, 2, 0));
    rig.settle();
    let job = rig.finished.pop_front().expect("answered");
    assert_eq!((job.response.status, job.response.location.as_str()), (202, format!("/shop/orders/{order}").as_str()));
    assert_eq!(body(&job), format!("order {order} submitted refresh 2 <queued>Bolt small"));
    assert_eq!(&*rig.agents[0].work, format!("orders/{order}/post"));
    assert_eq!((&*rig.agents[0].agent, &*rig.agents[0].application), ("post", "shop"));
    assert_eq!(rig.run(Rig::post(&target, &ann, "")).response.status, 409, "it is no draft any more");
    assert_eq!(rig.run(Rig::post("/orders/none/submit", &ann, "")).response.status, 404);
}

#[test]
fn deleting() {
    let mut rig = Rig::new();
    let order = rig.order();
    let target = format!("/orders/{order}/delete");
    assert_eq!(rig.run(Rig::post(&target, &identity("bob", 2), "")).response.status, 409);
    let job = rig.run(Rig::post(&target, &identity("ann", 1), ""));
    assert_eq!((job.response.status, job.response.location.as_str()), (303, "/shop/mine"));
    assert_eq!(rig.get(&format!("/orders/{order}"), &identity("ann", 1)).response.status, 404);
}

/// Gives the row a revision that the replica does not know, as another replica's commit would.
fn edited_elsewhere(rig: &mut Rig, order: &str) {
    let row = rig.stored.values_mut().find(|row| *row.key == *order).expect("stored");
    row.base = row.stamp;
    row.stamp.sequence += 1;
    row.versions = row.versions.edited_by(1, row.stamp.sequence);
    let mut values = row.record.as_ref().expect("live").0.to_vec();
    values[5] = Value::text("elsewhere");
    row.record = Some(crate::tables::Record(values.into()));
}

#[test]
fn a_conflict_is_executed_again_on_the_newer_row() {
    let mut rig = Rig::new();
    let order = rig.order();
    edited_elsewhere(&mut rig, &order);
    let job = rig.run(Rig::post(&format!("/orders/{order}/approve"), &identity("bob", 2), ""));
    assert_eq!(job.response.status, 303);
    assert_eq!(rig.replica.counters().conflicts_retried, 1);
    let row = &rig.get_json(&format!("/orders/{order}"), &identity("ann", 1))["row"];
    assert_eq!((&row["state"], &row["note"]), (&"approved".into(), &"elsewhere".into()), "neither edit is lost");
    // Somebody who always wins ends in 409 after five repetitions.
    rig.start(Rig::post(&format!("/orders/{order}/approve"), &identity("bob", 2), ""));
    for _ in 0..6 {
        edited_elsewhere(&mut rig, &order);
        assert!(rig.commit_next());
    }
    let job = rig.finished.pop_front().expect("answered");
    assert_eq!(job.response.status, 409);
    assert_eq!((rig.replica.counters().conflicts_lost, rig.replica.parked_count()), (1, 0));
}

#[test]
fn a_conflict_may_end_the_action() {
    let mut rig = Rig::new();
    let order = rig.order();
    rig.start(Rig::post(&format!("/orders/{order}/submit"), &identity("ann", 1), ""));
    let row = rig.stored.values_mut().find(|row| *row.key == *order).expect("stored");
    row.stamp.sequence += 1;
    let mut values = row.record.as_ref().expect("live").0.to_vec();
    values[4] = Value::text("rejected");
    row.record = Some(crate::tables::Record(values.into()));
    rig.settle();
    assert_eq!(rig.finished.pop_front().expect("answered").response.status, 409, "`when` is asked again");
    assert!(rig.agents.is_empty());
}

#[test]
fn writes_of_one_row_wait_for_each_other() {
    let mut rig = Rig::new();
    let order = rig.order();
    let (ann, bob) = (identity("ann", 1), identity("bob", 2));
    let submit = format!("/orders/{order}/submit");
    rig.start(Rig::post(&submit, &ann, ""));
    rig.start(Rig::post(&submit, &ann, ""));
    rig.start(Rig::post(&format!("/orders/{order}/approve"), &bob, ""));
    rig.start(Rig::post(&format!("/orders/{order}/approve"), &bob, ""));
    assert_eq!((rig.commits.len(), rig.replica.parked_count(), rig.replica.counters().waited), (1, 4, 3));
    assert!(rig.commit_next());
    // The second submission finds no draft and is answered at once; the first approval commits, the second waits.
    let statuses: Vec<u16> = rig.finished.iter().map(|job| job.response.status).collect();
    // The first is answered when the turn's end has brought it to every replica.
    assert_eq!((statuses, rig.commits.len()), (vec![409], 1));
    rig.settle();
    let statuses: Vec<u16> = rig.finished.drain(..).map(|job| job.response.status).collect();
    assert_eq!(statuses, [409, 202, 303, 303]);
    assert_eq!((rig.replica.parked_count(), rig.replica.status().rows_writing), (0, 0));
    assert_eq!(rig.replica.counters().conflicts_retried, 0);
}

#[test]
fn time_and_room_are_limited() {
    let settings = Settings { parked_max: 2, ..Settings::default() };
    let mut rig = Rig::with(shop(), settings, 1);
    let order = rig.order();
    let approve = |deadline_ns: u64| {
        let mut job = Rig::post(&format!("/orders/{order}/approve"), &identity("bob", 2), "");
        job.deadline_ns = deadline_ns;
        job
    };
    rig.start(approve(5_000));
    rig.start(approve(6_000));
    rig.start(approve(7_000));
    let shed = rig.finished.pop_front().expect("answered");
    assert_eq!((shed.response.status, shed.response.retry_after_s), (503, 1));
    assert_eq!(rig.replica.next_tick_ns().min(5_000), 5_000);
    rig.now.monotonic_ns = 6_000;
    rig.replica.tick(rig.now);
    rig.collect();
    let statuses: Vec<u16> = rig.finished.drain(..).map(|job| job.response.status).collect();
    assert_eq!(statuses, [504, 503], "of the first it is not known whether it is written, of the second it is");
    assert_eq!((rig.replica.books(), rig.replica.status().commits_waiting), (0, 1));
    // The commit was on its way: it counts although nobody waits for it.
    rig.settle();
    let row = &rig.get_json(&format!("/orders/{order}"), &identity("ann", 1))["row"];
    assert_eq!(row["state"], "approved");
    assert_eq!((rig.replica.parked_count(), rig.finished.len()), (0, 0));
    rig.start(approve(6_000));
    assert_eq!(rig.finished.pop_front().expect("answered").response.status, 503, "too late to begin");
    let counters = *rig.replica.counters();
    assert_eq!((counters.shed, counters.expired), (1, 3));
    assert_eq!(counters.executed, counters.finished);
}

#[test]
fn a_database_that_refuses() {
    let mut rig = Rig::new();
    rig.start(Rig::post("/orders", &identity("ann", 1), "item=bolt&quantity=3"));
    let (token, _, _) = rig.commits.pop_front().expect("ordered");
    rig.replica.committed(token, Outcome::Failed("the disk is full".into()), rig.now);
    rig.collect();
    assert_eq!(rig.finished.pop_front().expect("answered").response.status, 503);
    assert_eq!(rig.faults, ["a commit failed: the disk is full"]);
    assert_eq!(rig.get_json("/mine", &identity("ann", 1))["total"], 0);
    assert_eq!((rig.replica.books(), rig.replica.counters().commits_failed), (0, 1));
}

#[test]
fn an_unknown_end_is_no_failure() {
    let mut rig = Rig::new();
    rig.start(Rig::post("/orders", &identity("ann", 1), "item=bolt&quantity=3"));
    let (token, _, _) = rig.commits.pop_front().expect("ordered");
    rig.replica.committed(token, Outcome::Unknown("the disk went away".into()), rig.now);
    rig.collect();
    let job = rig.finished.pop_front().expect("answered");
    assert_eq!((job.response.status, job.response.retry_after_s), (504, 0));
    assert!(body(&job).contains("It is not known whether this was written"), "{}", body(&job));
    assert_eq!((rig.replica.books(), rig.replica.counters().commits_unknown), (0, 1));
    assert_eq!(rig.replica.status().rows_writing, 0);
}

#[test]
fn the_other_levels_of_acknowledgement() {
    let mut rig = Rig::with(shop(), Settings::default(), 2);
    let clerk = identity("cat", 1);
    rig.start(Rig::post("/items/bolt/local", &clerk, "price=1.5"));
    assert_eq!(rig.finished.pop_front().expect("answered at once").response.status, 303);
    assert_eq!(rig.commits[0].2, CommitMode::Merged);
    rig.settle();
    assert_eq!(rig.get_json("/items/bolt", &clerk)["row"]["price"], 1.5);
    rig.start(Rig::post("/items/new/all", &clerk, "name=New"));
    assert_eq!(rig.get_json("/items/new", &clerk)["row"]["name"], "New", "applied before it is acknowledged");
    rig.settle();
    assert_eq!(rig.finished.len(), 0, "the other replica has not acknowledged it");
    let mut positions = Positions::default();
    positions.raise(0, 2);
    let ack = Message::Ack(Arc::new(Ack { positions, ready: true }));
    rig.replica.receive_replication(1, ack, rig.now);
    rig.replica.tick(rig.now);
    rig.collect();
    assert_eq!(rig.finished.pop_front().expect("answered").response.status, 303);
    assert_eq!(rig.replica.parked_count(), 0);
}

#[test]
fn what_was_acknowledged_before_is_ordered_until_the_database_takes_it() {
    let mut rig = Rig::with(shop(), Settings::default(), 1);
    let clerk = identity("cat", 1);
    rig.start(Rig::post("/items/bolt/local", &clerk, "price=1.5"));
    assert_eq!(rig.finished.pop_front().expect("answered at once").response.status, 303);
    let mut first = None;
    for outcome in [Outcome::Failed("the disk is full".into()), Outcome::Unknown("the disk went away".into())] {
        let (token, updates, mode) = rig.commits.pop_front().expect("ordered");
        assert_eq!(mode, CommitMode::Merged);
        assert_eq!(first.get_or_insert_with(|| updates.clone()), &updates, "the same again");
        rig.replica.committed(token, outcome, rig.now);
        rig.replica.tick(rig.now);
        rig.collect();
        assert_eq!((rig.commits.len(), rig.replica.unconfirmed()), (0, 1), "not at once");
        rig.now.monotonic_ns = rig.replica.next_tick_ns().max(rig.now.monotonic_ns + 1_000_000_000);
        rig.replica.tick(rig.now);
        rig.collect();
    }
    assert_eq!((rig.commits.len(), rig.replica.counters().commits_repeated, rig.replica.books()), (1, 2, 0));
    rig.settle();
    assert_eq!((rig.replica.unconfirmed(), rig.replica.books(), rig.replica.counters().committed), (0, 0, 1));
    assert_eq!(rig.get_json("/items/bolt", &clerk)["row"]["price"], 1.5);
}

#[test]
fn a_parked_job_keeps_its_code_version() {
    let mut rig = Rig::new();
    let order = rig.order();
    rig.start(Rig::post(&format!("/orders/{order}/approve"), &identity("bob", 2), ""));
    let files: Vec<(&str, &str)> = SHOP
        .iter()
        .filter(|(path, _)| *path != "actions/approve.toml" && *path != "authority.toml")
        .copied()
        .chain([("authority.toml", "[[allow]]\nrole = \"approver\"\ncode = \"views/*\"\nverbs = [\"read\"]\n")])
        .collect();
    let second = CodeVersion::from_sources(&sources("shop", &files), 2).expect("code");
    assert!(second.compatible_with(&shop()).is_empty());
    assert!(rig.replica.set_code(Arc::new(second)));
    assert!(!rig.replica.set_code(shop()), "an older version does not come back");
    rig.settle();
    let job = rig.finished.pop_front().expect("answered");
    assert_eq!((job.response.status, job.response.code_version), (303, 1));
    let job = rig.run(Rig::post(&format!("/orders/{order}/approve"), &identity("bob", 2), ""));
    assert_eq!((job.response.status, job.response.code_version), (404, 2));
}
