//! Requests that find no free replica: they wait, bounded in number and time, and nobody is turned away early.

use crate::support::appliance::{Appliance, Setup};
use crate::support::eventually;
use crate::support::wire::Wire;

const REQUEST: &str = "GET /reqcat/items/item-01?format=json HTTP/1.1\r\nhost: test\r\n\r\n";

/// Two front servers and two replicas. On a busy machine one may seem to hang for a moment, and what was given to it
/// waits once more: these tests count, so nobody is that impatient.
fn appliance(settings: &[(&str, &str)]) -> Appliance {
    let setup = Setup::shipped().set("cluster.fronts", "2").set("cluster.replicas", "2");
    let setup = setup.set("timeouts.hung_ms", "60000").set("timeouts.dead_ms", "60000");
    settings.iter().fold(setup, |setup, (key, value)| setup.set(key, value)).start()
}

/// The same with no replica running.
fn without_replicas(settings: &[(&str, &str)]) -> Appliance {
    let appliance = appliance(settings);
    switch(&appliance, "stop");
    appliance
}

#[track_caller]
fn switch(appliance: &Appliance, order: &str) {
    for replica in 0..2 {
        assert_eq!(appliance.admin("POST", &format!("/servers/replica/{replica}/{order}")).status, 200);
    }
}

fn sum(appliance: &Appliance, place: &str) -> u64 {
    let status = appliance.status();
    status["workers"].as_array().unwrap().iter().filter_map(|worker| worker.pointer(place)?.as_u64()).sum()
}

#[track_caller]
fn waiting(appliance: &Appliance, count: u64) {
    eventually(&format!("{count} waiting requests"), || (sum(appliance, "/front/waiting") == count).then_some(()));
}

#[test]
fn a_request_waits_until_a_replica_is_free() {
    let appliance = without_replicas(&[("timeouts.queue_ms", "60000"), ("timeouts.job_ms", "60000")]);
    let mut wires: Vec<Wire> = (0..6).map(|_| appliance.wire()).collect();
    for wire in &mut wires {
        wire.send(REQUEST);
    }
    waiting(&appliance, 6);
    switch(&appliance, "start");
    for wire in &mut wires {
        assert_eq!(wire.answer().status, 200);
    }
    assert_eq!(sum(&appliance, "/front/dispatched_after_wait"), 6);
}

#[test]
fn a_request_that_waited_too_long_is_told_when_to_come_back() {
    let appliance = without_replicas(&[("timeouts.queue_ms", "100")]);
    let answer = appliance.wire().get("/reqcat/items/item-01?format=json");
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("1")));
    assert!(answer.text().contains("no replica became free in time"), "{}", answer.text());
    assert_eq!(sum(&appliance, "/front/counters/queue_expired"), 1);
}

#[test]
fn a_full_queue_refuses_at_once() {
    let settings = [("timeouts.queue_ms", "60000"), ("timeouts.job_ms", "60000"), ("dispatch.queue_max", "1")];
    let appliance = without_replicas(&settings);
    // Each of the two front servers lets one wait.
    let mut wires: Vec<Wire> = (0..8).map(|_| appliance.wire()).collect();
    for wire in &mut wires {
        wire.send(REQUEST);
    }
    eventually("all but one of each front server refused", || {
        let (refused, waits) = (sum(&appliance, "/front/counters/queue_refused"), sum(&appliance, "/front/waiting"));
        (refused + waits == 8 && (1..=2).contains(&waits)).then_some(())
    });
    switch(&appliance, "start");
    let statuses: Vec<(u16, bool)> = wires
        .iter_mut()
        .map(|wire| {
            let answer = wire.answer();
            (answer.status, answer.header("retry-after") == Some("1"))
        })
        .collect();
    let served = statuses.iter().filter(|&&found| found == (200, false)).count();
    let refused = statuses.iter().filter(|&&found| found == (503, true)).count();
    assert!((1..=2).contains(&served) && served + refused == 8, "{statuses:?}");
}

#[test]
fn nobody_works_for_a_browser_that_left() {
    let appliance = appliance(&[("timeouts.queue_ms", "60000"), ("timeouts.job_ms", "60000")]);
    let executed = || appliance.executed().iter().sum::<u64>();
    let before = executed();
    let mut gone: Vec<Wire> = (0..4).map(|_| appliance.wire()).collect();
    for wire in &mut gone {
        wire.send(REQUEST);
    }
    eventually("four answers", || (executed() == before + 4).then_some(()));
    switch(&appliance, "stop");
    // The second request of each waits. Closing with the first answer unread resets the connection.
    for wire in &mut gone {
        wire.send(REQUEST);
    }
    let mut stays = appliance.wire();
    stays.send(REQUEST);
    waiting(&appliance, 5);
    drop(gone);
    eventually("the browsers' end", || (sum(&appliance, "/front/open_connections") == 1).then_some(()));
    switch(&appliance, "start");
    assert_eq!(stays.answer().status, 200);
    waiting(&appliance, 0);
    assert_eq!(executed() - before, 5, "only the one that stayed is served");
}
