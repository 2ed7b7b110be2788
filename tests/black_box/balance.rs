//! Connections end evenly spread over the front servers, wherever the kernel put them first.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Instant;

use serde_json::Value;

use crate::support::appliance::{Appliance, Setup, deadline};
use crate::support::eventually;
use crate::support::wire::Wire;

const ITEM: &str = "/reqcat/items/item-01?format=json";

/// The shipped profile with two front servers, whatever the machine.
fn two_fronts() -> Appliance {
    Setup::shipped().set("cluster.fronts", "2").set("cluster.replicas", "2").start()
}

fn fronts(status: &Value) -> Vec<&Value> {
    status["workers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|worker| &worker["front"])
        .filter(|front| front.is_object())
        .collect()
}

fn open(status: &Value) -> Vec<u64> {
    fronts(status).iter().map(|front| front["open_connections"].as_u64().unwrap()).collect()
}

fn sum(status: &Value, counter: &str) -> u64 {
    fronts(status).iter().map(|front| front["counters"][counter].as_u64().unwrap()).sum()
}

/// Waits until the appliance has `count` connections, none of its front servers more than one off the even share.
#[track_caller]
fn even(appliance: &Appliance, count: usize) -> Value {
    eventually(&format!("{count} connections within one of even"), || {
        let status = appliance.status();
        let open = open(&status);
        let all = open.iter().sum::<u64>() == u64::try_from(count).unwrap();
        (all && open.len() == 2 && open[0].abs_diff(open[1]) <= 2).then_some(status)
    })
}

#[track_caller]
fn all_answer(wires: &mut [Wire]) {
    for wire in wires {
        assert_eq!(wire.get(ITEM).status, 200);
    }
}

#[test]
fn sixty_four_keep_alive_connections_end_within_one_of_even() {
    let appliance = two_fronts();
    // In bursts of sixteen, each used once.
    let mut wires: Vec<Wire> = Vec::new();
    for _ in 0..4 {
        let mut burst: Vec<Wire> = (0..16).map(|_| appliance.wire()).collect();
        all_answer(&mut burst);
        wires.extend(burst);
    }
    even(&appliance, 64);
    all_answer(&mut wires);
    // Every other one closes, then a half of what is left, from one end.
    let mut number = 0;
    wires.retain(|_| {
        number += 1;
        number % 2 == 0
    });
    even(&appliance, 32);
    wires.truncate(16);
    even(&appliance, 16);
    all_answer(&mut wires);
    // Those of one front server close, as far as can be told from outside: it drains, and comes back.
    assert_eq!(appliance.admin("POST", "/servers/front/0/drain").status, 200);
    eventually("an empty front server", || (open(&appliance.status())[0] == 0).then_some(()));
    assert_eq!(appliance.admin("POST", "/servers/front/0/start").status, 200);
    let left = usize::try_from(open(&appliance.status()).iter().sum::<u64>()).unwrap();
    let mut more: Vec<Wire> = (0..64 - left).map(|_| appliance.wire()).collect();
    all_answer(&mut more);
    let status = even(&appliance, 64);
    let (relocated, adopted) = (sum(&status, "connections_relocated"), sum(&status, "connections_adopted"));
    assert!(adopted >= relocated, "what leaves one front server comes to the other: {relocated} left, {adopted} came");
    all_answer(&mut more);
}

/// A connection moves between two requests only, and whoever sends while it moves loses nothing.
#[test]
fn requests_in_a_row_survive_moves() {
    let appliance = two_fronts();
    let mut idle: Vec<Wire> = Vec::new();
    let moved = AtomicBool::new(false);
    // Until some have moved: when, is a matter of how the kernel spreads connections and threads.
    let end = deadline();
    thread::scope(|scope| {
        let busy: Vec<_> = (0..8)
            .map(|_| {
                let (mut wire, moved) = (appliance.wire(), &moved);
                scope.spawn(move || {
                    let mut asked = 0;
                    while asked < 400 || !(moved.load(Ordering::Relaxed) || Instant::now() > end) {
                        assert_eq!(wire.get(ITEM).status, 200);
                        asked += 1;
                    }
                })
            })
            .collect();
        // Loads shift all the time.
        while busy.iter().any(|thread| !thread.is_finished()) {
            if idle.len() < 40 {
                idle.push(appliance.wire());
            } else {
                idle.drain(..25);
                let has_moved = sum(&appliance.status(), "connections_relocated") > 0;
                moved.store(has_moved, Ordering::Relaxed);
            }
            all_answer(&mut idle);
        }
    });
    let status = appliance.status();
    assert_eq!(sum(&status, "requests_aborted"), 0);
    assert!(sum(&status, "connections_relocated") > 0, "nothing moved in all that time: {status}");
}

#[test]
fn one_heavy_connection_does_not_starve_the_others() {
    let appliance = two_fronts();
    let mut heavy = appliance.wire();
    let batch = format!("GET {ITEM} HTTP/1.1\r\nhost: test\r\n\r\n").repeat(64);
    let mut others: Vec<Wire> = (0..24).map(|_| appliance.wire()).collect();
    thread::scope(|scope| {
        let (stop, stopped) = std::sync::mpsc::channel::<()>();
        // 64 requests are always under way on it.
        let flood = scope.spawn(move || {
            let mut answers = 0_u32;
            while stopped.try_recv().is_err() {
                heavy.send(&batch);
                for _ in 0..64 {
                    assert_eq!(heavy.answer().status, 200);
                    answers += 1;
                }
            }
            answers
        });
        for _ in 0..50 {
            all_answer(&mut others);
        }
        stop.send(()).unwrap();
        assert!(flood.join().unwrap() >= 64, "the heavy connection is served as well");
    });
    // New connections find their way, too.
    all_answer(&mut [appliance.wire(), appliance.wire()]);
    even(&appliance, 25 - 1);
}
