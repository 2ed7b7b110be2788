//! Replicas hold the same, also after one of them was away.

use crate::journeys::row_when;
use crate::support::appliance::{Setup, rows};
use crate::support::browser::Browser;
use crate::support::eventually;

#[test]
fn writes_through_every_front_end_in_equal_digests() {
    let appliance = Setup::shipped().start();
    let alice = appliance.user("alice");
    let mut connections: Vec<Browser> = (0..6).map(|_| alice.another_connection()).collect();
    let mut paths = Vec::new();
    for round in 1..=5 {
        for connection in &mut connections {
            paths.push((connection.draft("item-01", &round.to_string()), round));
        }
    }
    let replication = appliance.settle();
    assert_eq!(rows(&replication, "requisition"), 30);
    let replicas = replication["replicas"].as_array().unwrap();
    assert!(replicas.len() >= 2);
    assert!(
        replicas.iter().all(|replica| replica["committed"].as_u64().unwrap() > 0),
        "every replica takes writes: {replication}"
    );
    // Every row through every connection.
    for (path, quantity) in &paths {
        for connection in &mut connections {
            assert_eq!(connection.data(path).json()["row"]["quantity"], *quantity);
        }
    }
    // The periodic sweep looks at them, too.
    let swept = |replication: &serde_json::Value| replication["replicas"][0]["sweeps"].as_u64().unwrap();
    let before = swept(&replication);
    eventually("another sweep", || (swept(&appliance.replication()) > before).then_some(()));
    assert_eq!(appliance.replication()["replicas"][0]["rows_swept"], 0, "a sweep finds nothing to repair");
}

#[test]
fn a_stopped_replica_is_not_missed_and_catches_up() {
    let appliance = Setup::shipped().start();
    let alice = appliance.user("alice");
    let mut connections: Vec<Browser> = (0..6).map(|_| alice.another_connection()).collect();
    for connection in &mut connections {
        assert_eq!(connection.data("/reqcat/requisitions").status, 200);
    }

    let answer = appliance.admin("POST", "/servers/replica/1/stop");
    assert_eq!((answer.status, &answer.json()["running"]), (200, &serde_json::json!(false)));
    let mut paths = Vec::new();
    for round in 1..=5 {
        for connection in &mut connections {
            assert_eq!(connection.page("/reqcat/items/item-01").status, 200);
            paths.push(connection.draft("item-01", &round.to_string()));
        }
    }
    let replication = appliance.replication();
    assert_eq!(replication["replicas"][1]["running"], false);

    assert_eq!(appliance.admin("POST", "/servers/replica/1/start").status, 200);
    let replication = eventually("the replica's return with equal digests", || {
        let replication = appliance.replication();
        let back = replication["equal"] == true && replication["replicas"][1]["running"] == true;
        back.then_some(replication)
    });
    assert_eq!(rows(&replication, "requisition"), 30);
    let before = appliance.executed()[1];
    for path in &paths {
        for connection in &mut connections {
            row_when(connection, path, "the row", |row| row["item"] == "item-01");
        }
    }
    assert!(appliance.executed()[1] > before, "the replica works again");
    assert_eq!(appliance.admin("POST", "/servers/replica/9/stop").status, 404);
    assert_eq!(appliance.admin("GET", "/servers/replica/1/stop").status, 405);
}

#[test]
fn a_drained_front_takes_no_connections_until_it_is_started() {
    let appliance = Setup::shipped().start();
    assert_eq!(appliance.admin("POST", "/servers/front/1/drain").status, 200);
    let draining = |wanted: bool| {
        eventually("the front's state", || {
            (appliance.status()["workers"][1]["front"]["draining"] == wanted).then_some(())
        });
    };
    draining(true);
    for _ in 0..12 {
        assert_eq!(appliance.visitor().page("/reqcat/").status, 200);
    }
    assert_eq!(appliance.admin("POST", "/servers/front/1/start").status, 200);
    draining(false);
    assert_eq!(appliance.visitor().page("/reqcat/").status, 200);
}

#[test]
fn concurrent_writers_of_one_row_lose_no_update() {
    let appliance = Setup::shipped().start();
    let carol = appliance.user("carol");
    let writers: Vec<_> = (0..4)
        .map(|writer| {
            let mut connection = carol.another_connection();
            std::thread::spawn(move || {
                for round in 0..10 {
                    let department = format!("D{writer}-{round}");
                    let edit = [
                        ("name", "Bob Baker"),
                        ("department", department.as_str()),
                        ("roles", "employee approver"),
                        ("active", "true"),
                    ];
                    let answer = connection.post("/directory/employees/bob", &edit);
                    assert!(answer.status == 303 || answer.status == 409, "{} {}", answer.status, answer.text());
                }
            })
        })
        .collect();
    for writer in writers {
        writer.join().unwrap();
    }
    let replication = appliance.settle();
    assert_eq!(
        replication["replicas"][0]["tables"][0]["conflicts"], 0,
        "the database arbitrates, nothing is lost: {replication}"
    );
}
