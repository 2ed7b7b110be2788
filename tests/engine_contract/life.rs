//! Lives of connections: each ends exactly once, whatever ends it.

use std::collections::HashMap;
use std::io::{ErrorKind, Read, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::driver::{Driver, PATIENCE, concerns, pattern, small};
use crate::subject::Subject;
use twintier::engine::{Chunk, Close, CloseReason, Config, Conn, Event, Lease};

pub fn a_refused_connect_is_told_and_closed<E: Subject>() {
    let mut driver = Driver::<E>::new(&small());
    let conn = driver.engine.connect(&E::nobody()).unwrap();
    let error = driver.wait("the outcome", |_, event| match event {
        Event::Connected { conn: which, result } => Some((which, result.unwrap_err())),
        other => panic!("the outcome comes first, not {other:?}"),
    });
    assert_eq!((error.0, error.1.kind()), (conn, ErrorKind::ConnectionRefused));
    assert!(matches!(driver.closed(conn), CloseReason::Failed(_)));
    assert_eq!(driver.engine.statistics().connected, 0);
}

/// A peer that closes while it has unread input makes its kernel send a reset.
fn reset_by_peer(mut peer: impl Read) {
    peer.read_exact(&mut [0]).unwrap();
    drop(peer);
}

pub fn a_reset_ends_the_connection_once<E: Subject>() {
    let mut driver = Driver::<E>::new(&small());
    let (peer, conn) = driver.peer();
    driver.engine.receive(conn, true);
    driver.engine.send(conn, Chunk::Static(b"two or more bytes"));
    let peer = E::spawn(move || reset_by_peer(peer));
    match driver.closed(conn) {
        CloseReason::Failed(_) => {}
        CloseReason::Ordered => panic!("nobody ordered it"),
    }
    E::join(peer);
}

pub fn a_reset_while_nothing_is_armed_shows_at_the_next_send<E: Subject>() {
    let mut driver = Driver::<E>::new(&small());
    let (peer, conn) = driver.peer();
    driver.engine.send(conn, Chunk::Static(b"two or more bytes"));
    let peer = E::spawn(move || reset_by_peer(peer));
    driver.wait("the first send", |_, event| matches!(event, Event::Sent { .. }).then_some(()));
    E::join(peer);
    // The reset takes its way.
    driver.during(Duration::from_millis(10));
    driver.engine.send(conn, Chunk::Static(b"anybody there?"));
    assert!(matches!(driver.closed(conn), CloseReason::Failed(_)));
}

pub fn our_reset_drops_what_is_queued<E: Subject>() {
    let mut driver = Driver::<E>::new(&small());
    let (mut peer, conn) = driver.peer();
    driver.engine.receive(conn, true);
    let bytes: Arc<[u8]> = pattern(E::AMPLE_BYTES).into();
    driver.engine.send(conn, Chunk::Shared(Arc::clone(&bytes), 0..bytes.len()));
    driver.during(Duration::from_millis(20));
    driver.engine.close(conn, Close::Reset);
    driver.engine.close(conn, Close::Reset);
    assert_eq!(driver.closed(conn), CloseReason::Ordered);
    assert_eq!(Arc::strong_count(&bytes), 1, "the queue is dropped");
    let error = peer.read_to_end(&mut Vec::new()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}

pub fn a_reset_after_a_flush_escalates<E: Subject>() {
    let mut driver = Driver::<E>::new(&Config { linger_ms: 60_000, ..small() });
    let (peer, conn) = driver.peer();
    let bytes: Arc<[u8]> = pattern(E::AMPLE_BYTES).into();
    driver.engine.send(conn, Chunk::Shared(Arc::clone(&bytes), 0..bytes.len()));
    driver.engine.close(conn, Close::Flush);
    let events = driver.during(Duration::from_millis(30));
    assert!(events.is_empty(), "the peer reads nothing, so nothing can end: {events:?}");
    driver.engine.close(conn, Close::Reset);
    driver.engine.close(conn, Close::Flush);
    assert_eq!(driver.closed(conn), CloseReason::Ordered);
    drop(peer);
}

/// A peer that never closes holds a flushed connection for the linger time and no longer.
pub fn lingering_ends_in_time<E: Subject>() {
    let mut driver = Driver::<E>::new(&Config { linger_ms: 50, ..small() });
    let (mut peer, conn) = driver.peer();
    driver.engine.send(conn, Chunk::Static(b"bye"));
    let start_ns = E::clock_ns();
    driver.engine.close(conn, Close::Flush);
    assert_eq!(driver.closed(conn), CloseReason::Ordered);
    assert!(E::clock_ns() - start_ns >= 50_000_000, "the peer had its time");
    let mut got = Vec::new();
    peer.read_to_end(&mut got).unwrap();
    assert_eq!(got, b"bye");
}

/// A connect that is taken back has one end and no outcome, also when it has succeeded meanwhile.
pub fn a_cancelled_connect_ends_without_an_outcome<E: Subject>() {
    let mut driver = Driver::<E>::new(&small());
    for turns in 0..3 {
        let address = driver.address.clone();
        let conn = driver.engine.connect(&address).unwrap();
        driver.engine.send(conn, Chunk::Static(b"never to be sent"));
        let (mut before, mut told) = (Vec::new(), false);
        for _ in 0..turns {
            driver.engine.turn(0, &mut before).unwrap();
        }
        for event in before {
            told |= matches!(event, Event::Connected { conn: which, .. } if which == conn);
        }
        driver.engine.close(conn, Close::Reset);
        let reason = driver.wait("the end of the connect", |_, event| match event {
            Event::Connected { conn: which, .. } if which == conn => panic!("told {told}, and again after the close"),
            Event::Closed { conn: which, reason } if which == conn => Some(reason),
            _ => None,
        });
        assert_eq!(reason, CloseReason::Ordered);
    }
}

/// With one slot, what the kernel still has to say of an old connection meets the new one in its place: the old peer
/// sends all the time, is reset in the middle, and nothing of its bytes may show.
pub fn a_late_completion_meets_no_stranger<E: Subject>() {
    let mut driver = Driver::<E>::new(&Config { connections_max: 1, ..small() });
    for round in 0..60_u8 {
        let (mut peer, conn) = driver.peer();
        driver.engine.receive(conn, true);
        driver.engine.send(conn, Chunk::Static(b"welcome"));
        peer.write_all(&[round; 3000]).unwrap();
        driver.wait("the first bytes", |_, event| match event {
            Event::Data { conn: which, bytes } => {
                assert!(which == conn && bytes.iter().all(|&byte| byte == round), "bytes of another life");
                Some(())
            }
            _ => None,
        });
        // More is on its way, a receive is armed, and the order comes in the middle of it.
        peer.write_all(&[round; 100]).unwrap();
        driver.forget();
        driver.engine.close(conn, Close::Reset);
        driver.wait("the end", |_, event| match event {
            Event::Closed { conn: which, .. } => {
                assert_eq!(which, conn);
                Some(())
            }
            Event::Sent { .. } | Event::Data { .. } => panic!("nothing follows the close but its end"),
            _ => None,
        });
    }
    assert_eq!(driver.engine.statistics().closed, 60);
}

pub fn a_connection_moves_between_engines<E: Subject>() {
    let mut first = Driver::<E>::new(&small());
    let mut second = Driver::<E>::new(&small());
    let (mut peer, old) = first.peer();
    peer.write_all(b"sent before the move").unwrap();
    let address = first.engine.peer(old);
    assert_eq!(address, Some(E::address_of(&peer)));
    let socket = first.engine.detach(old).expect("nothing is in flight");
    assert_eq!(first.engine.peer(old), None);
    first.engine.send(old, Chunk::Static(b"wrong engine"));
    let new = second.engine.adopt(socket).unwrap();
    assert_eq!(second.engine.peer(new), address);
    second.engine.receive(new, true);
    second.wait("the bytes after the move", |engine, event| match event {
        Event::Data { conn, bytes } => {
            assert_eq!((conn, &bytes[..]), (new, &b"sent before the move"[..]));
            engine.send(conn, Chunk::Lease(bytes));
            engine.close(conn, Close::Flush);
            Some(())
        }
        other => panic!("unexpected {other:?}"),
    });
    let reader = E::spawn(move || {
        let mut got = Vec::new();
        peer.read_to_end(&mut got).unwrap();
        assert_eq!(got, b"sent before the move");
    });
    assert_eq!(second.closed(new), CloseReason::Ordered);
    E::join(reader);
    let events = first.during(Duration::from_millis(20));
    assert!(!events.iter().any(|event| concerns(event, old)), "a detached connection is silent: {events:?}");
}

pub fn a_busy_connection_does_not_detach<E: Subject>() {
    let mut driver = Driver::<E>::new(&small());
    let (mut peer, conn) = driver.peer();
    driver.engine.send(conn, Chunk::Static(b"queued"));
    assert!(driver.engine.detach(conn).is_none(), "bytes are queued");
    driver.wait("the send", |_, event| matches!(event, Event::Sent { .. }).then_some(()));
    driver.engine.receive(conn, true);
    driver.during(Duration::from_millis(10));
    assert!(driver.engine.detach(conn).is_none(), "a receive is in flight");
    driver.engine.receive(conn, false);
    // A pause takes effect in one of the next turns.
    let deadline_ns = E::clock_ns() + 10_000_000_000;
    let socket = loop {
        driver.during(Duration::from_millis(10));
        if let Some(socket) = driver.engine.detach(conn) {
            break socket;
        }
        assert!(E::clock_ns() < deadline_ns, "idle once paused");
    };
    let mut socket = E::taken_over(socket);
    socket.write_all(b" and free").unwrap();
    let mut got = [0; 15];
    peer.read_exact(&mut got).unwrap();
    assert_eq!(&got, b"queued and free");
}

pub fn orders_for_an_old_generation_are_ignored<E: Subject>() {
    let mut driver = Driver::<E>::new(&Config { connections_max: 1, ..small() });
    let (peer, old) = driver.peer();
    driver.engine.close(old, Close::Reset);
    assert_eq!(driver.closed(old), CloseReason::Ordered);
    drop(peer);
    let (mut peer, new) = driver.peer();
    assert_eq!(old.slot, new.slot, "the only slot is used again");
    assert_ne!(old.generation, new.generation);
    driver.engine.send(old, Chunk::Static(b"ghost"));
    driver.engine.receive(old, true);
    driver.engine.shutdown_send(old);
    driver.engine.close(old, Close::Reset);
    assert_eq!((driver.engine.queued_bytes(old), driver.engine.peer(old)), (0, None));
    assert!(driver.engine.detach(old).is_none());
    driver.engine.close(Conn { slot: u32::MAX, generation: 0 }, Close::Reset);
    driver.engine.send(new, Chunk::Static(b"alive"));
    driver.wait("the send", |_, event| matches!(event, Event::Sent { .. }).then_some(()));
    let mut got = [0; 5];
    peer.read_exact(&mut got).unwrap();
    assert_eq!(&got, b"alive");
}

/// Both ends of every connection belong to the engine. Three of four are reset, which leaves no TIME-WAIT behind.
pub fn ten_thousand_connections_come_and_go<E: Subject>() {
    const TOTAL: usize = 10_000;
    const AT_ONCE: usize = 100;
    // Both ends of all of them, and as many again that begin while the ends of the old ones are handed over.
    let mut driver = Driver::<E>::new(&Config { connections_max: 4 * 100, ..small() });
    let address = driver.address.clone();
    let mut alive: HashMap<Conn, bool> = HashMap::new();
    let (mut started, mut ended) = (0, 0);
    while started < AT_ONCE {
        alive.insert(driver.engine.connect(&address).unwrap(), true);
        started += 1;
    }
    driver.wait("every connection's end", |engine, event| {
        match event {
            Event::Accepted { conn, .. } => {
                assert!(alive.insert(conn, false).is_none(), "a slot is given out once");
                engine.receive(conn, true);
            }
            Event::Connected { conn, result } => {
                result.unwrap();
                engine.send(conn, Chunk::Static(b"hello"));
                engine.receive(conn, true);
            }
            Event::Data { conn, bytes } => {
                // The accepted end answers; the connecting end has heard enough and closes.
                match alive.get(&conn) {
                    Some(false) => engine.send(conn, Chunk::Lease(bytes)),
                    Some(true) => {
                        engine.close(conn, if conn.generation.is_multiple_of(4) { Close::Flush } else { Close::Reset })
                    }
                    None => panic!("data of a connection that is gone"),
                }
            }
            Event::Eof { conn } => engine.close(conn, Close::Flush),
            Event::Closed { conn, .. } => {
                let ours = alive.remove(&conn).expect("a connection ends once");
                ended += 1;
                if ours && started < TOTAL {
                    alive.insert(engine.connect(&address).unwrap(), true);
                    started += 1;
                }
            }
            Event::Sent { .. } => {}
            Event::Timer { .. } | Event::Woken => panic!("nobody asked"),
        }
        (ended == 2 * TOTAL).then_some(())
    });
    assert!(alive.is_empty());
    let statistics = driver.engine.statistics();
    let total = u64::try_from(TOTAL).unwrap();
    assert_eq!((statistics.accepted, statistics.connected, statistics.closed), (total, total, 2 * total));
    let leases: Vec<Lease> = std::iter::from_fn(|| driver.engine.lease()).collect();
    assert_eq!(leases.len(), 64);
}

pub fn a_full_engine_refuses_and_recovers<E: Subject>() {
    let mut driver = Driver::<E>::new(&Config { connections_max: 2, ..small() });
    let (_first, one) = driver.peer();
    let (_second, _) = driver.peer();
    let mut third = E::peer_to(&driver.address).unwrap();
    let events = driver.during(Duration::from_millis(30));
    assert!(events.is_empty(), "nobody hears of the third: {events:?}");
    assert_eq!(driver.engine.statistics().refused, 1);
    // Closed at once, by FIN or reset.
    assert!(matches!(third.read(&mut [0; 8]), Ok(0) | Err(_)));
    let address = driver.address.clone();
    assert!(driver.engine.connect(&address).is_err());
    driver.engine.close(one, Close::Reset);
    driver.closed(one);
    let (_fourth, _) = driver.peer();
}

pub fn stopping_to_listen_keeps_what_is_open<E: Subject>() {
    let mut driver = Driver::<E>::new(&small());
    let (mut peer, conn) = driver.peer();
    driver.engine.receive(conn, true);
    driver.engine.stop_listening();
    driver.during(Duration::from_millis(20));
    let refused = E::peer_to(&driver.address).err().map(|error| error.kind());
    assert_eq!(refused, Some(ErrorKind::ConnectionRefused));
    peer.write_all(b"still here").unwrap();
    let bytes = driver.wait("data of the open connection", |_, event| match event {
        Event::Data { bytes, .. } => Some(bytes),
        _ => None,
    });
    assert_eq!(&bytes[..], b"still here");
}

/// Operations of every kind are in flight when the engine goes; a lease that it handed out stays readable.
pub fn a_dropped_engine_leaves_leases_alone<E: Subject>() {
    let mut driver = Driver::<E>::new(&small());
    let (mut peer, conn) = driver.peer();
    driver.engine.receive(conn, true);
    peer.write_all(b"to be kept").unwrap();
    let kept = driver.wait("data", |_, event| match event {
        Event::Data { bytes, .. } => Some(bytes),
        _ => None,
    });
    let bytes: Arc<[u8]> = pattern(E::AMPLE_BYTES).into();
    driver.engine.send(conn, Chunk::Shared(Arc::clone(&bytes), 0..bytes.len()));
    driver.engine.connect(&E::nobody()).unwrap();
    driver.during(Duration::from_millis(5));
    let filled = driver.engine.lease().unwrap();
    let start = Instant::now();
    // Accepted by the kernel, perhaps, but by no machine: it must be closed all the same.
    let mut unseen = E::peer_to(&driver.address).unwrap();
    drop(driver);
    assert!(matches!(unseen.read(&mut [0; 8]), Ok(0) | Err(_)) && start.elapsed() < PATIENCE / 2, "closed");
    assert!(start.elapsed() < Duration::from_secs(5), "everything is cancelled, nothing waited for");
    peer.write_all(b"into the void").ok();
    assert_eq!(&kept[..], b"to be kept");
    assert!(filled.is_empty());
    assert_eq!(Arc::strong_count(&bytes), 1);
}

/// What the machine of [`random_orders_keep_every_promise`] knows about a connection.
#[derive(Default)]
struct Known {
    sent: usize,
    received: usize,
    ended: bool,
    close_ordered: bool,
}

/// Orders drawn by a seed, both ends in one engine: bytes arrive in order, nothing happens after the end, every
/// connection ends once, and every buffer comes back.
pub fn random_orders_keep_every_promise<E: Subject>() {
    for seed in 1..=20_u64 {
        random_orders::<E>(seed);
    }
}

fn random_orders<E: Subject>(seed: u64) {
    const TOTAL: usize = 300;
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let mut draw = move |bound: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state >> 33).unwrap() % bound
    };
    let bytes: Arc<[u8]> = pattern(1 << 20).into();
    let config = Config {
        connections_max: 48,
        receive_buffers: 8,
        receive_buffer_bytes: 1024,
        submission_entries: 16,
        completion_entries: 32,
        linger_ms: 20,
        events_max: 16,
        ..small()
    };
    let mut driver = Driver::<E>::new(&config);
    let address = driver.address.clone();
    let mut known: HashMap<Conn, Known> = HashMap::new();
    let mut held: Vec<Lease> = Vec::new();
    let mut started = 0;
    driver.engine.timer(0, 0);
    driver.wait(&format!("the end of every connection of seed {seed}"), |engine, event| {
        match event {
            Event::Accepted { conn, .. } => {
                assert!(known.insert(conn, Known::default()).is_none(), "seed {seed}");
                engine.receive(conn, true);
            }
            Event::Connected { conn, result } => {
                assert!(known.contains_key(&conn), "seed {seed}");
                if result.is_ok() {
                    engine.receive(conn, true);
                }
            }
            Event::Data { conn, bytes: data } => {
                let known = known.get_mut(&conn).expect("no data after the end");
                assert!(!known.ended, "seed {seed}: no data after its end");
                assert!(data[..] == bytes[known.received..][..data.len()], "seed {seed}: bytes arrive in order");
                known.received += data.len();
                if draw(3) == 0 && held.len() < 6 {
                    held.push(data);
                }
            }
            Event::Eof { conn } => {
                let known = known.get_mut(&conn).expect("no Eof after the end");
                assert!(!std::mem::replace(&mut known.ended, true), "seed {seed}: input ends once");
            }
            Event::Sent { conn } => assert!(known.contains_key(&conn), "seed {seed}"),
            Event::Closed { conn, reason } => {
                let known = known.remove(&conn).expect("one end");
                assert!(known.close_ordered || reason != CloseReason::Ordered, "seed {seed}");
            }
            // The beat: a few random orders every millisecond.
            Event::Timer { .. } => {
                for _ in 0..20 {
                    if started < TOTAL
                        && draw(4) == 0
                        && let Ok(conn) = engine.connect(&address)
                    {
                        known.insert(conn, Known::default());
                        started += 1;
                    }
                    let mut conns: Vec<Conn> = known.keys().copied().collect();
                    conns.sort_unstable_by_key(|conn| conn.slot);
                    if conns.is_empty() {
                        continue;
                    }
                    let conn = conns[draw(conns.len())];
                    let entry = known.get_mut(&conn).unwrap();
                    match draw(12) {
                        0..=4 => {
                            let length = draw(20_000).min(bytes.len() - entry.sent);
                            engine.send(conn, Chunk::Shared(Arc::clone(&bytes), entry.sent..entry.sent + length));
                            entry.sent += length;
                        }
                        5 => engine.receive(conn, false),
                        6 | 7 => engine.receive(conn, true),
                        8 => engine.shutdown_send(conn),
                        9 => held.clear(),
                        10 => {
                            engine.close(conn, Close::Flush);
                            entry.close_ordered = true;
                        }
                        _ if draw(3) == 0 => {
                            engine.close(conn, Close::Reset);
                            entry.close_ordered = true;
                        }
                        _ => {
                            if let Some(socket) = engine.detach(conn) {
                                let old = known.remove(&conn).unwrap();
                                let conn = engine.adopt(socket).unwrap();
                                engine.receive(conn, true);
                                // The new owner is told of the end of input again.
                                known.insert(conn, Known { ended: false, ..old });
                            }
                        }
                    }
                }
                if started == TOTAL {
                    // Everybody goes home.
                    for (&conn, entry) in &mut known {
                        engine.close(conn, Close::Reset);
                        entry.close_ordered = true;
                    }
                }
                engine.timer(engine.now_ns() + 1_000_000, 0);
            }
            Event::Woken => panic!("nobody wakes"),
        }
        (started == TOTAL && known.is_empty()).then_some(())
    });
    assert_eq!(Arc::strong_count(&bytes), 1, "seed {seed}: every chunk is dropped");
}
