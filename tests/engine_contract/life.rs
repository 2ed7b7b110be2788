//! Lives of connections: each ends exactly once, whatever ends it.

use std::collections::HashMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crate::driver::{Driver, PATIENCE, concerns, pattern, small};
use twintier::engine::{Address, Chunk, Close, CloseReason, Config, Conn, Engine, Event, Lease};

pub fn a_refused_connect_is_told_and_closed<E: Engine>() {
    let mut driver = Driver::<E>::new(&small());
    // A port that was free a moment ago; nobody listens there now.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let conn = driver.engine.connect(&Address::Tcp(port)).unwrap();
    let error = driver.wait("the outcome", |_, event| match event {
        Event::Connected { conn: which, result } => Some((which, result.unwrap_err())),
        other => panic!("the outcome comes first, not {other:?}"),
    });
    assert_eq!((error.0, error.1.kind()), (conn, ErrorKind::ConnectionRefused));
    assert!(matches!(driver.closed(conn), CloseReason::Failed(_)));
    assert_eq!(driver.engine.statistics().connected, 0);
}

/// A peer that closes while it has unread input makes its kernel send a reset.
fn reset_by_peer(mut peer: TcpStream) {
    peer.read_exact(&mut [0]).unwrap();
    drop(peer);
}

pub fn a_reset_ends_the_connection_once<E: Engine>() {
    let mut driver = Driver::<E>::new(&small());
    let (peer, conn) = driver.peer();
    driver.engine.receive(conn, true);
    driver.engine.send(conn, Chunk::Static(b"two or more bytes"));
    let peer = thread::spawn(move || reset_by_peer(peer));
    match driver.closed(conn) {
        CloseReason::Failed(_) => {}
        CloseReason::Ordered => panic!("nobody ordered it"),
    }
    peer.join().unwrap();
}

pub fn a_reset_while_nothing_is_armed_shows_at_the_next_send<E: Engine>() {
    let mut driver = Driver::<E>::new(&small());
    let (peer, conn) = driver.peer();
    driver.engine.send(conn, Chunk::Static(b"two or more bytes"));
    let peer = thread::spawn(move || reset_by_peer(peer));
    driver.wait("the first send", |_, event| matches!(event, Event::Sent { .. }).then_some(()));
    peer.join().unwrap();
    driver.engine.send(conn, Chunk::Static(b"anybody there?"));
    assert!(matches!(driver.closed(conn), CloseReason::Failed(_)));
}

pub fn our_reset_drops_what_is_queued<E: Engine>() {
    let mut driver = Driver::<E>::new(&small());
    let (mut peer, conn) = driver.peer();
    driver.engine.receive(conn, true);
    let bytes: Arc<[u8]> = pattern(32 << 20).into();
    driver.engine.send(conn, Chunk::Shared(Arc::clone(&bytes), 0..bytes.len()));
    driver.during(Duration::from_millis(20));
    driver.engine.close(conn, Close::Reset);
    driver.engine.close(conn, Close::Reset);
    assert_eq!(driver.closed(conn), CloseReason::Ordered);
    assert_eq!(Arc::strong_count(&bytes), 1, "the queue is dropped");
    let error = peer.read_to_end(&mut Vec::new()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}

pub fn a_reset_after_a_flush_escalates<E: Engine>() {
    let mut driver = Driver::<E>::new(&Config { linger_ms: 60_000, ..small() });
    let (peer, conn) = driver.peer();
    let bytes: Arc<[u8]> = pattern(32 << 20).into();
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
pub fn lingering_ends_in_time<E: Engine>() {
    let mut driver = Driver::<E>::new(&Config { linger_ms: 50, ..small() });
    let (mut peer, conn) = driver.peer();
    driver.engine.send(conn, Chunk::Static(b"bye"));
    let start = Instant::now();
    driver.engine.close(conn, Close::Flush);
    assert_eq!(driver.closed(conn), CloseReason::Ordered);
    assert!(start.elapsed() >= Duration::from_millis(50), "the peer had its time");
    let mut got = Vec::new();
    peer.read_to_end(&mut got).unwrap();
    assert_eq!(got, b"bye");
}

pub fn a_connection_moves_between_engines<E: Engine>() {
    let mut first = Driver::<E>::new(&small());
    let mut second = Driver::<E>::new(&small());
    let (mut peer, old) = first.peer();
    peer.write_all(b"sent before the move").unwrap();
    let address = first.engine.peer(old);
    assert_eq!(address, Some(peer.local_addr().unwrap()));
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
    let reader = thread::spawn(move || {
        let mut got = Vec::new();
        peer.read_to_end(&mut got).unwrap();
        assert_eq!(got, b"sent before the move");
    });
    assert_eq!(second.closed(new), CloseReason::Ordered);
    reader.join().unwrap();
    let events = first.during(Duration::from_millis(20));
    assert!(!events.iter().any(|event| concerns(event, old)), "a detached connection is silent: {events:?}");
}

pub fn a_busy_connection_does_not_detach<E: Engine>() {
    let mut driver = Driver::<E>::new(&small());
    let (mut peer, conn) = driver.peer();
    driver.engine.send(conn, Chunk::Static(b"queued"));
    assert!(driver.engine.detach(conn).is_none(), "bytes are queued");
    driver.wait("the send", |_, event| matches!(event, Event::Sent { .. }).then_some(()));
    driver.engine.receive(conn, true);
    driver.during(Duration::from_millis(10));
    assert!(driver.engine.detach(conn).is_none(), "a receive is in flight");
    driver.engine.receive(conn, false);
    driver.during(Duration::from_millis(10));
    let mut socket = TcpStream::from(driver.engine.detach(conn).expect("idle once paused"));
    socket.write_all(b" and free").unwrap();
    let mut got = [0; 15];
    peer.read_exact(&mut got).unwrap();
    assert_eq!(&got, b"queued and free");
}

pub fn orders_for_an_old_generation_are_ignored<E: Engine>() {
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
pub fn ten_thousand_connections_come_and_go<E: Engine>() {
    const TOTAL: usize = 10_000;
    const AT_ONCE: usize = 100;
    let mut driver = Driver::<E>::new(&Config { connections_max: 256, ..small() });
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

pub fn a_full_engine_refuses_and_recovers<E: Engine>() {
    let mut driver = Driver::<E>::new(&Config { connections_max: 2, ..small() });
    let (_first, one) = driver.peer();
    let (_second, _) = driver.peer();
    let mut third = TcpStream::connect(driver.tcp()).unwrap();
    third.set_read_timeout(Some(PATIENCE)).unwrap();
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

pub fn stopping_to_listen_keeps_what_is_open<E: Engine>() {
    let mut driver = Driver::<E>::new(&small());
    let (mut peer, conn) = driver.peer();
    driver.engine.receive(conn, true);
    driver.engine.stop_listening();
    driver.during(Duration::from_millis(20));
    let refused = TcpStream::connect(driver.tcp()).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    peer.write_all(b"still here").unwrap();
    driver.wait("data of the open connection", |_, event| match event {
        Event::Data { bytes, .. } => Some(assert_eq!(&bytes[..], b"still here")),
        _ => None,
    });
}

/// Operations of every kind are in flight when the engine goes; a lease that it handed out stays readable.
pub fn a_dropped_engine_leaves_leases_alone<E: Engine>() {
    let mut driver = Driver::<E>::new(&small());
    let (mut peer, conn) = driver.peer();
    driver.engine.receive(conn, true);
    peer.write_all(b"to be kept").unwrap();
    let kept = driver.wait("data", |_, event| match event {
        Event::Data { bytes, .. } => Some(bytes),
        _ => None,
    });
    let bytes: Arc<[u8]> = pattern(32 << 20).into();
    driver.engine.send(conn, Chunk::Shared(Arc::clone(&bytes), 0..bytes.len()));
    driver.engine.connect(&"127.0.0.1:1".parse().unwrap()).unwrap();
    driver.during(Duration::from_millis(5));
    let filled = driver.engine.lease().unwrap();
    let start = Instant::now();
    drop(driver);
    assert!(start.elapsed() < Duration::from_secs(5), "everything is cancelled, nothing waited for");
    peer.write_all(b"into the void").ok();
    assert_eq!(&kept[..], b"to be kept");
    assert!(filled.is_empty());
    assert_eq!(Arc::strong_count(&bytes), 1);
}
