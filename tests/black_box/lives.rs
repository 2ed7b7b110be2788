//! Replicas that stop, hang, panic and crash while browsers ask: who is served, what is counted, and how they come back.
//!
//! Replica 2 has a worker of its own, without a front server: nobody's connection hangs with it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use serde_json::Value;

use crate::support::appliance::{Appliance, Setup, rows};
use crate::support::eventually;
use crate::support::wire::Wire;

const REQUEST: &str = "/reqcat/items/item-01?format=json";

/// Two front servers and three replicas, which get their jobs in turn.
fn setup() -> Setup {
    Setup::shipped().set("cluster.fronts", "2").set("cluster.replicas", "3").set("dispatch.policy", "round-robin")
}

/// The same where nobody hangs: a panic prints where it came from, which may take longer than a turn's patience, and
/// then what is safe is done elsewhere.
fn patient() -> Setup {
    setup().set("timeouts.hung_ms", "60000").set("timeouts.dead_ms", "60000")
}

#[track_caller]
fn order(appliance: &Appliance, order: &str) -> Value {
    let answer = appliance.admin("POST", &format!("/servers/replica/{order}"));
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()
}

/// How a replica fares, as the boards say.
#[track_caller]
fn state(appliance: &Appliance, replica: usize) -> String {
    appliance.status()["servers"][replica]["state"].as_str().unwrap().to_owned()
}

/// A number of every worker's report, added up.
#[track_caller]
fn sum(appliance: &Appliance, place: &str) -> u64 {
    let status = appliance.status();
    status["workers"].as_array().unwrap().iter().filter_map(|worker| worker.pointer(place)?.as_u64()).sum()
}

/// Waits until a replica runs in this life or a later one, and all replicas hold the same.
#[track_caller]
fn back(appliance: &Appliance, replica: usize, incarnation: u64) -> Value {
    eventually("the replica's return with equal digests", || {
        let replication = appliance.replication();
        let mine = replication["replicas"].as_array()?.iter().find(|known| known["replica"] == replica)?;
        let is_back = mine["running"] == true && mine["incarnation"].as_u64()? >= incarnation;
        (is_back && replication["equal"] == true).then_some(replication)
    })
}

/// Every account of every server is even, once nothing is under way.
#[track_caller]
fn books_balance(appliance: &Appliance) {
    eventually("even books", || {
        let status = appliance.status();
        let even = |place: &str| {
            let workers = status["workers"].as_array().unwrap();
            workers.iter().filter_map(|worker| worker.pointer(place)?.as_i64()).all(|off| off == 0)
        };
        let places = [
            "/front/books",
            "/front/flights_books",
            "/replica/books",
            "/replica/write_books",
            "/replica/message_books",
        ];
        // What was offered to rings and not given back has arrived, once nothing is on its way.
        let total = |key: &str| sum(appliance, &format!("/replica/messages_{key}"));
        let arrived = total("handed") == total("undelivered") + total("received");
        (places.iter().all(|place| even(place)) && arrived).then_some(())
    });
}

#[test]
fn a_hung_replica_is_taken_out_and_its_work_is_done_elsewhere() {
    // It is not declared dead: what it has begun comes back late.
    let appliance = setup().set("timeouts.dead_ms", "60000").start();
    let mut wires: Vec<Wire> = (0..12).map(|_| appliance.wire()).collect();
    let mut burst = || {
        for wire in &mut wires {
            wire.send(format!("GET {REQUEST} HTTP/1.1\r\nhost: test\r\n\r\n"));
        }
        for wire in &mut wires {
            assert_eq!(wire.answer().status, 200);
        }
    };
    // Its ring holds jobs that it has not begun.
    eventually("jobs taken back from a hung replica", || {
        order(&appliance, "2/hang?ms=500");
        burst();
        (sum(&appliance, "/front/flights/retracted") > 0).then_some(())
    });
    // And it stands still in the middle of one.
    eventually("a safe request that was executed again", || {
        order(&appliance, "2/hang-job?ms=500");
        burst();
        (sum(&appliance, "/front/flights/reexecuted") > 0).then_some(())
    });
    let status = appliance.status();
    for worker in status["workers"].as_array().unwrap() {
        let (watch, last_ns) = (&worker["watch"], worker["watch"]["take_out_last_ns"].as_u64().unwrap());
        println!(
            "worker {}: taken out {} times, last {} µs after the missed beat",
            worker["worker"],
            watch["taken_out"],
            last_ns / 1000
        );
    }
    eventually("late answers thrown away, and empty slips found", || {
        let status = appliance.status();
        let flights: Vec<&Value> =
            status["workers"].as_array()?.iter().filter_map(|worker| worker.pointer("/front/flights")).collect();
        let total = |key: &str| flights.iter().map(|flights| flights[key].as_u64().unwrap()).sum::<u64>();
        let all = total("late_replies") == total("reexecuted") && total("withdrawn") == total("retracted");
        all.then_some(())
    });
    // It is back in without having missed anything, and works again.
    let replication = back(&appliance, 2, 0);
    assert_eq!(replication["replicas"][2]["incarnation"], 0, "{replication}");
    let before = replication["replicas"][2]["executed"].as_u64().unwrap();
    eventually("another job for the replica", || {
        burst();
        let replication = back(&appliance, 2, 0);
        (replication["replicas"][2]["executed"].as_u64().unwrap() > before).then_some(())
    });
    books_balance(&appliance);
}

#[test]
fn a_replica_that_hangs_too_long_is_not_waited_for_and_joins_again() {
    let appliance = setup().set("timeouts.dead_ms", "2500").start();
    let mut alice = appliance.user("alice");
    alice.draft("item-01", "1");
    order(&appliance, "2/hang?ms=6000");
    eventually("a missed beat", || (state(&appliance, 2) == "hung").then_some(()));
    // A durable write is answered when every live replica has it: one that is dead is not among them.
    alice.draft("item-02", "2");
    let drafts = 2;
    let status = appliance.status();
    let fenced = status["workers"].as_array().unwrap().iter().map(|worker| worker["watch"]["fenced"].as_u64().unwrap());
    assert_eq!((fenced.sum::<u64>(), &status["servers"][2]["state"]), (1, &"hung".into()), "{status}");
    let replication = back(&appliance, 2, 1);
    assert_eq!(rows(&replication, "requisition"), drafts);
    let two = &replication["replicas"][2];
    assert_eq!((&two["fenced"], &two["rejoined"], &two["local_lost"]), (&1.into(), &1.into(), &0.into()), "{two}");
    assert!(two["snapshot_rows"].as_u64().unwrap() > 0, "{two}");
    books_balance(&appliance);
}

#[test]
fn a_write_that_a_hung_replica_began_is_not_repeated() {
    let settings = [("timeouts.job_ms", "2000"), ("timeouts.dead_ms", "60000")];
    let appliance = settings.iter().fold(setup(), |setup, (key, value)| setup.set(key, value)).start();
    let mut alice = appliance.user("alice");
    order(&appliance, "2/hang-job?ms=5000");
    let draft = [("item", "item-01"), ("quantity", "1"), ("reason", "test")];
    let answer = eventually("a write that its replica does not answer", || {
        let answer = alice.post("/reqcat/requisitions", &draft);
        (answer.status != 303).then_some(answer)
    });
    assert_eq!((answer.status, answer.header("retry-after")), (504, None), "{}", answer.text());
    assert!(answer.text().contains("is not known"), "{}", answer.text());
    assert_eq!(sum(&appliance, "/front/flights/reexecuted"), 0);
    back(&appliance, 2, 0);
    books_balance(&appliance);
}

#[test]
fn a_handler_that_panics_answers_500_and_harms_nobody() {
    let appliance = patient().start();
    let mut wires: Vec<Wire> = (0..4).map(|_| appliance.wire()).collect();
    order(&appliance, "2/panic");
    let mut statuses = Vec::new();
    for _ in 0..6 {
        statuses.extend(wires.iter_mut().map(|wire| wire.get(REQUEST).status));
    }
    assert_eq!(statuses.iter().filter(|status| **status == 500).count(), 1, "{statuses:?}");
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 23, "{statuses:?}");
    let replication = back(&appliance, 2, 0);
    let two = &replication["replicas"][2];
    assert_eq!((&two["panicked"], &two["crashes"], &two["incarnation"]), (&1.into(), &0.into(), &0.into()));
    appliance.says("\"a handler panicked, the answer is 500\"");
    books_balance(&appliance);
}

#[test]
fn a_replica_that_crashes_joins_again() {
    let appliance = patient().start();
    let mut alice = appliance.user("alice");
    alice.draft("item-01", "1");
    let mut wires: Vec<Wire> = (0..4).map(|_| appliance.wire()).collect();
    order(&appliance, "2/crash");
    let mut statuses = Vec::new();
    for _ in 0..6 {
        statuses.extend(wires.iter_mut().map(|wire| wire.get(REQUEST).status));
    }
    assert_eq!(
        statuses.iter().filter(|status| **status == 500).count(),
        1,
        "only the one that it had begun: {statuses:?}"
    );
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 23, "{statuses:?}");
    let replication = back(&appliance, 2, 1);
    let two = &replication["replicas"][2];
    assert_eq!((&two["crashes"], &two["jobs_lost"], &two["rejoined"]), (&1.into(), &1.into(), &1.into()), "{two}");
    assert_eq!(rows(&replication, "requisition"), 1);
    books_balance(&appliance);
}

#[test]
fn a_stopped_replica_holds_nothing_and_comes_back_with_what_it_missed() {
    let appliance = setup().start();
    let mut alice = appliance.user("alice");
    alice.draft("item-01", "1");
    assert_eq!(order(&appliance, "1/stop")["state"], "stopped");
    let stopped = &appliance.replication()["replicas"][1];
    assert_eq!((&stopped["state"], &stopped["tables"]), (&"stopped".into(), &Value::Array(Vec::new())), "{stopped}");
    let paths: Vec<String> = (0..5).map(|_| alice.draft("item-02", "2")).collect();
    assert_eq!(order(&appliance, "1/start")["state"], "running");
    let replication = back(&appliance, 1, 1);
    let one = &replication["replicas"][1];
    assert_eq!((&one["stops"], &one["rejoined"], &one["reloaded"]), (&1.into(), &1.into(), &0.into()), "{one}");
    assert_eq!(rows(&replication, "requisition"), 6);

    // The last one has nobody to copy from: it reads the database.
    for replica in 0..3 {
        assert_eq!(order(&appliance, &format!("{replica}/stop"))["state"], "stopped");
    }
    assert_eq!(appliance.replication()["equal"], false, "nobody holds anything");
    for replica in [2, 0, 1] {
        assert_eq!(order(&appliance, &format!("{replica}/start"))["state"], "running");
    }
    let replication = back(&appliance, 2, 1);
    let reloaded: Vec<u64> =
        (0..3).map(|replica| replication["replicas"][replica]["reloaded"].as_u64().unwrap()).collect();
    assert_eq!(reloaded, [0, 0, 1], "{replication}");
    assert_eq!(rows(&replication, "requisition"), 6);
    for path in &paths {
        assert_eq!(alice.data(path).json()["row"]["quantity"], 2);
    }
    books_balance(&appliance);
}

#[test]
fn twenty_stops_and_starts_under_load_cost_no_request() {
    // On a busy machine a commit that was begun may take its time; a stop waits for it.
    let appliance = setup().set("timeouts.stop_ms", "60000").start();
    let alice = appliance.user("alice");
    let (over, asked, drafted) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for _ in 0..3 {
            let mut wire = appliance.wire();
            let (over, asked) = (&over, &asked);
            scope.spawn(move || {
                while !over.load(Ordering::Relaxed) {
                    let answer = wire.get(REQUEST);
                    assert_eq!(answer.status, 200, "{}", answer.text());
                    asked.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let mut writer = alice.another_connection();
        let (over, drafted) = (&over, &drafted);
        scope.spawn(move || {
            while !over.load(Ordering::Relaxed) {
                writer.draft("item-03", "3");
                drafted.fetch_add(1, Ordering::Relaxed);
            }
        });
        // However it ends, the others end, too.
        struct End<'a>(&'a AtomicBool);
        impl Drop for End<'_> {
            fn drop(&mut self) {
                self.0.store(true, Ordering::Relaxed);
            }
        }
        let end = End(over);
        for round in 0..20 {
            let replica = round % 3;
            let begun = std::time::Instant::now();
            // An order is answered after a while even if the replica is still on its way; the same order may be repeated.
            let ordered = |word: &str, state: &str| {
                eventually(&format!("replica {replica} {state}"), || {
                    (order(&appliance, &format!("{replica}/{word}"))["state"] == state).then_some(())
                });
            };
            ordered("stop", "stopped");
            let stopped = begun.elapsed();
            ordered("start", "running");
            println!("replica {replica}: stopped in {stopped:?}, back after {:?}", begun.elapsed() - stopped);
        }
        drop(end);
    });
    let (asked, drafted) = (asked.into_inner(), drafted.into_inner());
    println!("{asked} pages and {drafted} writes during 20 stops and starts");
    assert!(asked > 0 && drafted > 0);
    let replication = appliance.settle();
    assert_eq!(rows(&replication, "requisition"), drafted);
    let total = |key: &str| -> u64 {
        replication["replicas"].as_array().unwrap().iter().map(|replica| replica[key].as_u64().unwrap()).sum()
    };
    assert_eq!((total("stops"), total("local_lost"), total("jobs_lost")), (20, 0, 0), "{replication}");
    books_balance(&appliance);
}

#[test]
fn a_drill_that_makes_no_sense_is_refused() {
    let appliance = crate::support::appliance::shared();
    for (path, status, says) in [
        ("/servers/replica/0/hang", 400, "?ms=N"),
        ("/servers/replica/0/hang?ms=999999", 400, "1 to 60000"),
        ("/servers/replica/0/explode", 404, "crash"),
        ("/servers/replica/9/panic", 404, "count from 0"),
    ] {
        let answer = appliance.admin("POST", path);
        assert_eq!(answer.status, status, "{path}: {}", answer.text());
        assert!(answer.text().contains(says), "{path}: {}", answer.text());
    }
}
