//! Bytes: none is lost, doubled or exchanged, and back-pressure works.

use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::driver::{Driver, pattern, small};
use crate::subject::{Peer, Subject};
use twintier::engine::{Address, Chunk, Close, CloseReason, Config, Conn, Event};

/// Sends everything back until every one of `count` connections has closed.
fn echo<E: Subject>(driver: &mut Driver<E>, count: usize) {
    let mut closed = 0;
    driver.wait("the end of every echo", |engine, event| {
        match event {
            Event::Accepted { conn, .. } => engine.receive(conn, true),
            Event::Data { conn, bytes } => engine.send(conn, Chunk::Lease(bytes)),
            Event::Eof { conn } => engine.close(conn, Close::Flush),
            Event::Closed { reason, .. } => {
                assert_eq!(reason, CloseReason::Ordered);
                closed += 1;
            }
            Event::Connected { .. } | Event::Sent { .. } | Event::Timer { .. } | Event::Woken => {}
        }
        (closed == count).then_some(())
    });
}

/// Plays ping-pong with messages of growing length.
fn ping_pong(mut stream: impl Read + Write) {
    let bytes = pattern(20_000);
    for length in [1, 2, 100, 4095, 4096, 4097, 20_000] {
        stream.write_all(&bytes[..length]).unwrap();
        let mut answer = vec![0; length];
        stream.read_exact(&mut answer).unwrap();
        assert!(answer == bytes[..length]);
    }
}

pub fn echoes_every_byte<E: Subject>() {
    let mut driver = Driver::<E>::new(&small());
    let peers: Vec<_> = (0..8)
        .map(|_| {
            let address = driver.address.clone();
            E::spawn(move || ping_pong(E::peer_to(&address).unwrap()))
        })
        .collect();
    echo(&mut driver, peers.len());
    for peer in peers {
        E::join(peer);
    }
    let statistics = driver.engine.statistics();
    assert_eq!((statistics.accepted, statistics.closed), (8, 8));
    assert_eq!(statistics.received_bytes, statistics.sent_bytes);
    assert!(statistics.completions >= 8 && statistics.enters > 0 && statistics.turns > 0, "{statistics:?}");
    let sorted: u64 = statistics.completions_per_enter.iter().sum();
    assert_eq!(sorted, statistics.enters - 1, "every enter but the last is in the histogram");
}

pub fn echoes_over_a_unix_socket<E: Subject>() {
    let path = std::env::temp_dir().join(format!("twintier-{}-{}", E::NAME, std::process::id()));
    let mut driver = Driver::<E>::on(&small(), &Address::Unix(path.clone()));
    let address = driver.address.clone();
    let peer = E::spawn(move || ping_pong(E::peer_to(&address).unwrap()));
    echo(&mut driver, 1);
    E::join(peer);
    // The engine's own connect reaches the same address.
    let ours = driver.engine.connect(&Address::Unix(path.clone())).unwrap();
    driver
        .wait("a Unix connect", |_, event| match event {
            Event::Connected { conn, result } if conn == ours => Some(result),
            _ => None,
        })
        .unwrap();
    assert_eq!(driver.engine.peer(ours), None, "Unix sockets have no address to show");
    // A simulated network leaves no file behind.
    std::fs::remove_file(path).ok();
}

/// Queues of four and eight entries overflow all the time, which may cost speed but no byte.
pub fn tiny_queues_lose_nothing<E: Subject>() {
    let mut driver =
        Driver::<E>::new(&Config { submission_entries: 4, completion_entries: 8, receive_buffers: 16, ..small() });
    let peers: Vec<_> = (0..4)
        .map(|_| {
            let address = driver.address.clone();
            E::spawn(move || {
                let mut streams: Vec<_> = (0..12).map(|_| E::peer_to(&address).unwrap()).collect();
                let bytes = pattern(3_000);
                for _ in 0..20 {
                    for stream in &mut streams {
                        stream.write_all(&bytes).unwrap();
                    }
                    for stream in &mut streams {
                        let mut answer = vec![0; bytes.len()];
                        stream.read_exact(&mut answer).unwrap();
                        assert!(answer == bytes);
                    }
                }
            })
        })
        .collect();
    echo(&mut driver, 48);
    for peer in peers {
        E::join(peer);
    }
}

/// 4 MiB in chunks of all kinds fill the socket's buffers many times over.
pub fn sends_everything_to_a_peer_that_reads_late<E: Subject>() {
    let mut driver = Driver::<E>::new(&small());
    let (mut peer, conn) = driver.peer();
    let bytes: Arc<[u8]> = pattern(4 << 20).into();
    let mut at = 0;
    for length in (1_000..).step_by(777) {
        let end = (at + length).min(bytes.len());
        driver.engine.send(conn, Chunk::Shared(Arc::clone(&bytes), at..end));
        at = end;
        if at == bytes.len() {
            break;
        }
    }
    assert_eq!(driver.engine.queued_bytes(conn), bytes.len());
    let early = driver.during(Duration::from_millis(50));
    assert!(early.is_empty(), "the peer has read nothing, so the queue cannot be empty: {early:?}");
    assert!(driver.engine.queued_bytes(conn) > 0);
    let expected = Arc::clone(&bytes);
    let reader = E::spawn(move || {
        let mut got = vec![0; expected.len()];
        let mut at = 0;
        while at < got.len() {
            // Odd sizes, so that windows open in odd steps.
            let end = (at + 12_345).min(got.len());
            peer.read_exact(&mut got[at..end]).unwrap();
            at = end;
        }
        assert!(got[..] == expected[..]);
        peer
    });
    let sent = driver.wait("everything to be sent", |_, event| match event {
        Event::Sent { conn } => Some(conn),
        other => panic!("unexpected {other:?}"),
    });
    assert_eq!(sent, conn);
    assert_eq!(driver.engine.queued_bytes(conn), 0);
    E::join(reader);
}

pub fn keeps_the_order_of_chunks_of_every_kind<E: Subject>() {
    let mut driver = Driver::<E>::new(&small());
    let (mut peer, conn) = driver.peer();
    let shared: Arc<[u8]> = Arc::from(&b"....shared...."[..]);
    let mut expected = Vec::new();
    for round in 0..50_u8 {
        let mut lease = driver.engine.lease().unwrap();
        lease.extend_from_slice(&[b'<', round, b'|', round, b'>']);
        let front = lease.split_to(2);
        expected.extend_from_slice(&[b'<', round]);
        driver.engine.send(conn, Chunk::Lease(front));
        expected.extend_from_slice(b"static");
        driver.engine.send(conn, Chunk::Static(b"static"));
        driver.engine.send(conn, Chunk::Static(b""));
        expected.extend_from_slice(b"shared");
        driver.engine.send(conn, Chunk::Shared(Arc::clone(&shared), 4..10));
        expected.extend_from_slice(&[b'|', round, b'>']);
        driver.engine.send(conn, Chunk::Lease(lease));
    }
    driver.engine.close(conn, Close::Flush);
    let reader = E::spawn(move || {
        let mut got = Vec::new();
        peer.read_to_end(&mut got).unwrap();
        got
    });
    assert_eq!(driver.closed(conn), CloseReason::Ordered);
    assert_eq!(E::join(reader), expected);
    let leases: Vec<_> = std::iter::from_fn(|| driver.engine.lease()).collect();
    assert_eq!(leases.len(), 64, "every buffer came back");
}

fn data_then_eof<E: Subject>(driver: &mut Driver<E>, conn: Conn) -> Vec<u8> {
    let mut got = Vec::new();
    driver.wait("data and its end", |_, event| match event {
        Event::Data { conn: which, bytes } if which == conn => {
            assert!(!bytes.is_empty());
            got.extend_from_slice(&bytes);
            None
        }
        Event::Eof { conn: which } if which == conn => Some(()),
        _ => None,
    });
    got
}

pub fn a_half_closed_peer_still_gets_its_answer<E: Subject>() {
    let mut driver = Driver::<E>::new(&small());
    let (mut peer, conn) = driver.peer();
    driver.engine.receive(conn, true);
    peer.write_all(b"question").unwrap();
    peer.end_sending();
    assert_eq!(data_then_eof(&mut driver, conn), b"question");
    driver.engine.send(conn, Chunk::Static(b"answer"));
    driver.engine.close(conn, Close::Flush);
    assert_eq!(driver.closed(conn), CloseReason::Ordered);
    let mut answer = Vec::new();
    peer.read_to_end(&mut answer).unwrap();
    assert_eq!(answer, b"answer");
}

pub fn our_half_close_leaves_the_input_open<E: Subject>() {
    let mut driver = Driver::<E>::new(&small());
    let (mut peer, conn) = driver.peer();
    driver.engine.receive(conn, true);
    driver.engine.send(conn, Chunk::Static(b"last words"));
    driver.engine.shutdown_send(conn);
    driver.engine.send(conn, Chunk::Static(b"too late"));
    let peer = E::spawn(move || {
        let mut got = Vec::new();
        peer.read_to_end(&mut got).unwrap();
        assert_eq!(got, b"last words");
        peer.write_all(b"reply").unwrap();
    });
    assert_eq!(data_then_eof(&mut driver, conn), b"reply");
    E::join(peer);
    driver.engine.close(conn, Close::Flush);
    assert_eq!(driver.closed(conn), CloseReason::Ordered);
}

/// The peer writes more than the sockets hold before it reads: only an engine that drops input lets it finish, and
/// only one that does not reset lets it read the answer.
pub fn a_flushing_close_delivers_everything_while_the_peer_sends<E: Subject>() {
    let mut driver = Driver::<E>::new(&Config { linger_ms: 10_000, ..small() });
    let (mut peer, conn) = driver.peer();
    let bytes: Arc<[u8]> = pattern(3 << 20).into();
    driver.engine.send(conn, Chunk::Shared(Arc::clone(&bytes), 0..bytes.len()));
    driver.engine.close(conn, Close::Flush);
    driver.engine.send(conn, Chunk::Static(b"ignored"));
    let peer = E::spawn(move || {
        peer.write_all(&vec![7; E::AMPLE_BYTES / 2]).unwrap();
        let mut got = Vec::new();
        peer.read_to_end(&mut got).unwrap();
        assert!(got[..] == bytes[..]);
    });
    assert_eq!(driver.closed(conn), CloseReason::Ordered);
    E::join(peer);
}

/// Four buffers for eight connections, all of them held until nothing moves any more.
pub fn buffers_that_come_back_feed_starved_connections<E: Subject>() {
    let mut driver = Driver::<E>::new(&Config { receive_buffers: 4, receive_buffer_bytes: 512, ..small() });
    let bytes = pattern(40_000);
    let peers: Vec<_> = (0..8)
        .map(|_| {
            let (address, bytes) = (driver.address.clone(), bytes.clone());
            E::spawn(move || E::peer_to(&address).unwrap().write_all(&bytes).unwrap())
        })
        .collect();
    let mut held = Vec::new();
    let mut got = 0;
    for _ in 0..5 {
        for event in driver.during(Duration::from_millis(30)) {
            match event {
                Event::Accepted { conn, .. } => driver.engine.receive(conn, true),
                Event::Data { bytes, .. } => {
                    got += bytes.len();
                    held.push(bytes);
                }
                Event::Eof { .. } | Event::Closed { .. } => panic!("nobody can be through with four buffers"),
                Event::Connected { .. } | Event::Sent { .. } | Event::Timer { .. } | Event::Woken => {}
            }
        }
    }
    assert!(held.len() <= 4, "the pool has four buffers, {} are out", held.len());
    held.clear();
    let mut ended = 0;
    driver.wait("every byte after the buffers came back", |engine, event| {
        match event {
            Event::Accepted { conn, .. } => engine.receive(conn, true),
            Event::Data { bytes, .. } => got += bytes.len(),
            Event::Eof { .. } => ended += 1,
            Event::Connected { .. }
            | Event::Sent { .. }
            | Event::Closed { .. }
            | Event::Timer { .. }
            | Event::Woken => {}
        }
        (ended == 8).then_some(())
    });
    assert_eq!(got, 8 * bytes.len());
    let statistics = driver.engine.statistics();
    assert!(statistics.exhaustions > 0 && statistics.rearms > 0, "{statistics:?}");
    for peer in peers {
        E::join(peer);
    }
}

pub fn a_pause_holds_the_peer_and_a_resume_frees_it<E: Subject>() {
    let total = E::AMPLE_BYTES;
    let mut driver = Driver::<E>::new(&small());
    let (mut peer, conn) = driver.peer();
    let bytes = pattern(1 << 16);
    let written = Arc::new(AtomicUsize::new(0));
    let writer = E::spawn({
        let (bytes, written) = (bytes.clone(), Arc::clone(&written));
        move || {
            for _ in 0..total / bytes.len() {
                peer.write_all(&bytes).unwrap();
                written.fetch_add(bytes.len(), Ordering::Relaxed);
            }
        }
    });
    driver.engine.receive(conn, true);
    let mut got = Vec::with_capacity(total);
    for _ in 0..3 {
        driver.wait("some data", |engine, event| match event {
            Event::Data { bytes, .. } => {
                got.extend_from_slice(&bytes);
                engine.receive(conn, false);
                Some(())
            }
            _ => None,
        });
        // What the kernel had delivered before the pause.
        for event in driver.during(Duration::from_millis(100)) {
            if let Event::Data { bytes, .. } = event {
                got.extend_from_slice(&bytes);
            }
        }
        let before = written.load(Ordering::Relaxed);
        let silence = driver.during(Duration::from_millis(100));
        assert!(silence.is_empty(), "paused, yet {silence:?}");
        assert!(before < total && written.load(Ordering::Relaxed) == before, "the peer is held");
        driver.engine.receive(conn, true);
    }
    driver.wait("the rest", |_, event| match event {
        Event::Data { bytes, .. } => {
            got.extend_from_slice(&bytes);
            None
        }
        Event::Eof { .. } => Some(()),
        _ => None,
    });
    E::join(writer);
    assert!(got.len() == total && got.chunks(bytes.len()).all(|chunk| chunk == bytes));
}

pub fn a_pause_taken_back_loses_nothing<E: Subject>() {
    const TOTAL: usize = 4 << 20;
    let mut driver = Driver::<E>::new(&small());
    let (mut peer, conn) = driver.peer();
    let bytes = pattern(TOTAL);
    let writer = E::spawn({
        let bytes = bytes.clone();
        move || peer.write_all(&bytes).unwrap()
    });
    driver.engine.receive(conn, true);
    let (mut got, mut events) = (Vec::new(), 0_u32);
    driver.wait("all data in spite of pauses", |engine, event| match event {
        Event::Data { bytes, .. } => {
            got.extend_from_slice(&bytes);
            events += 1;
            // Within a turn, and every so often across turns: a timer takes the pause back.
            engine.receive(conn, false);
            if events.is_multiple_of(7) {
                engine.timer(engine.now_ns() + 1_000_000, 1);
            } else {
                engine.receive(conn, true);
            }
            None
        }
        Event::Timer { .. } => {
            engine.receive(conn, true);
            None
        }
        Event::Eof { .. } => Some(()),
        _ => None,
    });
    E::join(writer);
    assert!(got == bytes);
}

pub fn what_was_sent_before_the_connect_finished_goes_out<E: Subject>() {
    let mut driver = Driver::<E>::new(&small());
    let address = driver.address.clone();
    let ours = driver.engine.connect(&address).unwrap();
    driver.engine.send(ours, Chunk::Static(b"early "));
    driver.engine.send(ours, Chunk::Static(b"bird"));
    driver.engine.shutdown_send(ours);
    let mut got = Vec::new();
    driver.wait("the early bytes", |engine, event| match event {
        Event::Accepted { conn, .. } => {
            engine.receive(conn, true);
            None
        }
        Event::Data { conn, bytes } => {
            assert_ne!(conn, ours);
            got.extend_from_slice(&bytes);
            None
        }
        Event::Eof { .. } => Some(()),
        _ => None,
    });
    assert_eq!(got, b"early bird");
    assert_eq!(driver.engine.statistics().connected, 1);
}

pub fn a_flushing_close_during_the_connect_still_delivers<E: Subject>() {
    let mut driver = Driver::<E>::new(&small());
    let address = driver.address.clone();
    let ours = driver.engine.connect(&address).unwrap();
    driver.engine.send(ours, Chunk::Static(b"fire and forget"));
    driver.engine.close(ours, Close::Flush);
    driver.engine.send(ours, Chunk::Static(b"too late"));
    let (mut got, mut closed) = (Vec::new(), 0);
    driver.wait("the bytes and both ends", |engine, event| {
        match event {
            Event::Accepted { conn, .. } => engine.receive(conn, true),
            Event::Data { bytes, .. } => got.extend_from_slice(&bytes),
            Event::Eof { conn } => engine.close(conn, Close::Flush),
            Event::Closed { reason, .. } => {
                assert_eq!(reason, CloseReason::Ordered);
                closed += 1;
            }
            other => panic!("unexpected {other:?}"),
        }
        (closed == 2).then_some(())
    });
    assert_eq!(got, b"fire and forget");
}

/// What a machine takes back to write on goes out once, and where it stood. An engine may give nothing back.
pub fn what_is_reclaimed_goes_out_once_and_in_its_place<E: Subject>() {
    let mut driver = Driver::<E>::new(&small());
    let address = driver.address.clone();
    let peer = E::spawn(move || {
        let mut stream = E::peer_to(&address).unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    });
    driver.wait("the end of the answer", |engine, event| {
        match event {
            Event::Accepted { conn, .. } => {
                engine.send(conn, Chunk::Static(b"first "));
                assert!(engine.reclaim(conn, 1).is_none(), "constant bytes cannot be written on");
                let mut lease = engine.lease().unwrap();
                lease.extend_from_slice(b"second ");
                engine.send(conn, Chunk::Lease(lease));
                assert!(engine.reclaim(conn, usize::MAX).is_none(), "there is not so much room");
                let mut lease = engine.reclaim(conn, 5).or_else(|| engine.lease()).unwrap();
                lease.extend_from_slice(b"third");
                engine.send(conn, Chunk::Lease(lease));
                engine.shutdown_send(conn);
                assert!(engine.reclaim(conn, 1).is_none(), "nothing may follow a FIN");
                engine.close(conn, Close::Flush);
            }
            Event::Closed { .. } => return Some(()),
            Event::Data { .. }
            | Event::Eof { .. }
            | Event::Connected { .. }
            | Event::Sent { .. }
            | Event::Timer { .. }
            | Event::Woken => {}
        }
        None
    });
    assert_eq!(E::join(peer), "first second third");
}
