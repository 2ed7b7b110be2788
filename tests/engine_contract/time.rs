//! Timers, waits and wakes.

use std::time::Duration;

use crate::driver::{Driver, small};
use crate::subject::Subject;
use twintier::engine::{Config, Event};

const MS: u64 = 1_000_000;

pub fn timers_fire_in_order_and_never_early<E: Subject>() {
    let mut driver = Driver::<E>::new(&small());
    let start_ns = E::clock_ns();
    let after_ms = [30, 10, 20, 70, 10, 0, 130];
    for (token, after) in (0..).zip(after_ms) {
        driver.engine.timer(start_ns + after * MS, token);
    }
    driver.engine.timer(0, 99);
    let mut fired = Vec::new();
    driver.wait("every timer", |engine, event| {
        if let Event::Timer { token } = event {
            fired.push((token, engine.now_ns()));
        }
        (fired.len() == after_ms.len() + 1).then_some(())
    });
    let mut tokens: Vec<u64> = fired.iter().map(|&(token, _)| token).collect();
    tokens[..2].sort_unstable();
    assert_eq!(tokens, [5, 99, 1, 4, 2, 0, 3, 6]);
    for (token, at_ns) in fired {
        if let Some(after) = usize::try_from(token).ok().and_then(|token| after_ms.get(token)) {
            assert!(at_ns >= start_ns + after * MS, "timer {token} fired early");
        }
    }
}

pub fn a_turn_waits_until_its_time<E: Subject>() {
    let mut driver = Driver::<E>::new(&small());
    driver.during(Duration::from_millis(5));
    // One of many tries: a busy machine may be late often, but not always.
    let deadline_ns = E::clock_ns() + 20_000 * MS;
    loop {
        let until_ns = E::clock_ns() + 2 * MS;
        let mut events = Vec::new();
        driver.engine.turn(until_ns, &mut events).unwrap();
        assert!(events.is_empty(), "{events:?}");
        let now_ns = E::clock_ns();
        let late_ns = now_ns.checked_sub(until_ns).expect("the turn waits");
        if late_ns < 300_000 {
            return;
        }
        assert!(now_ns < deadline_ns, "every quiet turn ended late, the last one by {late_ns} ns");
    }
}

pub fn a_turn_without_time_does_not_wait<E: Subject>() {
    let mut driver = Driver::<E>::new(&small());
    let start_ns = E::clock_ns();
    let mut events = Vec::new();
    for _ in 0..1_000 {
        driver.engine.turn(0, &mut events).unwrap();
    }
    assert!(events.is_empty());
    assert!(E::clock_ns() - start_ns < 1_000 * MS, "a turn without time takes far less than a millisecond");
}

pub fn a_wake_ends_the_wait<E: Subject>() {
    let mut driver = Driver::<E>::new(&small());
    driver.during(Duration::from_millis(5));
    for _ in 0..3 {
        let sleeper = E::wake_soon(driver.waker.clone());
        let start_ns = E::clock_ns();
        let mut events = Vec::new();
        driver.engine.turn(start_ns + 10_000 * MS, &mut events).unwrap();
        assert!(matches!(events[..], [Event::Woken]), "{events:?}");
        assert!(E::clock_ns() - start_ns < 5_000 * MS);
        sleeper.join().unwrap();
    }
}

pub fn a_wake_before_the_turn_is_not_lost<E: Subject>() {
    let mut driver = Driver::<E>::new(&small());
    driver.waker.wake();
    driver.wait("the early wake", |_, event| matches!(event, Event::Woken).then_some(()));
    for _ in 0..100 {
        // Directly after a wake the engine has no read in flight.
        driver.waker.wake();
        driver.wait("the next wake", |_, event| matches!(event, Event::Woken).then_some(()));
    }
}

pub fn many_wakes_are_few_events<E: Subject>() {
    let mut driver = Driver::<E>::new(&small());
    for _ in 0..1_000 {
        driver.waker.wake();
    }
    let woken = driver.during(Duration::from_millis(20)).iter().filter(|event| matches!(event, Event::Woken)).count();
    assert!((1..=2).contains(&woken), "{woken}");
}

pub fn a_turn_hands_over_no_more_than_its_limit<E: Subject>() {
    let mut driver = Driver::<E>::new(&Config { events_max: 3, ..small() });
    let peers: Vec<_> = (0..20).map(|_| E::peer_to(&driver.address).unwrap()).collect();
    for token in 0..20 {
        driver.engine.timer(0, token);
    }
    let (mut accepted, mut fired, mut events) = (0, 0, Vec::new());
    let deadline_ns = E::clock_ns() + 10_000 * MS;
    while accepted < 20 || fired < 20 {
        assert!(E::clock_ns() < deadline_ns, "{accepted} accepted, {fired} fired");
        driver.engine.turn(deadline_ns, &mut events).unwrap();
        assert!(events.len() <= 3, "{events:?}");
        for event in events.drain(..) {
            match event {
                Event::Accepted { .. } => accepted += 1,
                Event::Timer { .. } => fired += 1,
                other => panic!("unexpected {other:?}"),
            }
        }
    }
    drop(peers);
}
