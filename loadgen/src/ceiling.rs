//! What this generator can do at most on this machine: its own closed loop for a second, against a server that does
//! next to nothing.
//!
//! The server is a thread of this process on the same engine; whatever it is sent that ends like a request, it answers
//! with the same few bytes. The ceiling is requests ÷ processor time of the timing thread, so that a server that is slow
//! because it has no core of its own does not make the generator look slow.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use twintier::clock::{SystemClocks, monotonic_ns};
use twintier::engine::thread::pin_to_core;
use twintier::engine::{Address, Chunk, Close, Config, Engine, Event, Uring, Waker, socket};

use crate::check::Checks;
use crate::live::Live;
use crate::report::collect;
use crate::run::{self, Request, Variant};
use crate::stage::{Ready, Stage};

/// Connections of the measurement: enough for whole batches.
const CONNECTIONS: u32 = 64;
const DURATION_NS: u64 = 1_000_000_000;
const WARMUP_NS: u64 = 200_000_000;
const TIMEOUT_NS: u64 = 5_000_000_000;
/// How often the server looks whether it is wanted.
const LOOK_NS: u64 = 20_000_000;

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: null\r\n\r\n";
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// Requests for a second of the timing thread's processor, with the timing thread on `core`.
///
/// # Errors
/// No engine, no thread, no such core, or nothing was answered.
pub fn measure(core: Option<usize>) -> io::Result<f64> {
    let socket = socket::listen(&Address::Tcp(SocketAddr::from(([127, 0, 0, 1], 0))), 1024, false)?;
    let address = socket::local_address(&socket)?;
    let stage = Stage {
        connections: CONNECTIONS,
        duration_ns: DURATION_NS,
        warmup_ns: WARMUP_NS,
        timeout_ns: TIMEOUT_NS,
        tag_names: run::tag_names(),
        ..Stage::default()
    };
    let request = Request {
        address,
        variants: vec![Variant { bytes: REQUEST, closing_bytes: REQUEST, head: false }],
        connection_requests_max: u32::MAX,
        expected: Vec::new(),
        checks: Checks::default(),
        check_every: 1,
        server_timing: false,
    };
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let server = thread::Builder::new().name("null server".into()).spawn_scoped(scope, || serve(socket, &stop))?;
        let (ready, started) = Ready::new(&stage, None);
        let (stage, request) = (&stage, &request);
        let timing = thread::Builder::new().name("ceiling".into()).spawn_scoped(scope, move || {
            core.map_or(Ok(()), pin_to_core)?;
            run::run::<Uring>(stage, request, &ready, &SystemClocks)
        });
        let measured = timing.and_then(|timing| {
            let totals = started
                .recv()
                .ok()
                .map(|(window, exchange)| collect(&exchange, &window, &stage.tag_names, None, &mut Live::silent()).0);
            let finished = timing.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
            let completed = totals.map_or(0, |totals| totals.completed_in_window);
            // Counts and nanoseconds of a second are far below 2^53.
            Ok((completed as f64, finished.cost.cpu_ns.max(1) as f64 / 1e9))
        });
        stop.store(true, Ordering::Relaxed);
        server.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        match measured? {
            (completed, _) if completed < 1.0 => Err(io::Error::other("the null server answered nothing")),
            (completed, cpu_s) => Ok(completed / cpu_s),
        }
    })
}

/// Answers until it is told to stop.
fn serve(listener: std::os::fd::OwnedFd, stop: &AtomicBool) -> io::Result<()> {
    let config = Config {
        connections_max: CONNECTIONS * 4,
        receive_buffers: 512,
        receive_buffer_bytes: 4096,
        send_buffers: 1,
        send_buffer_bytes: 4096,
        submission_entries: 256,
        completion_entries: 2048,
        linger_ms: 50,
        events_max: 1024,
    };
    let mut engine = Uring::new(&config, Waker::new()?)?;
    engine.listen(listener)?;
    let mut events = Vec::with_capacity(1024);
    while !stop.load(Ordering::Relaxed) {
        engine.turn(monotonic_ns() + LOOK_NS, &mut events)?;
        for event in events.drain(..) {
            match event {
                Event::Accepted { conn, .. } => engine.receive(conn, true),
                Event::Data { conn, bytes } if bytes.ends_with(b"\r\n\r\n") => engine.send(conn, Chunk::Static(ANSWER)),
                Event::Eof { conn } => engine.close(conn, Close::Flush),
                Event::Data { .. }
                | Event::Connected { .. }
                | Event::Closed { .. }
                | Event::Sent { .. }
                | Event::Timer { .. }
                | Event::Woken => {}
            }
        }
    }
    Ok(())
}
