//! Two pinned threads with a queue between them: the same code for every queue.

use std::hint;
use std::io;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use twintier::engine::thread::pin_to_core;

use super::link::{Link, Message};
use crate::failure::Failure;

/// Vain looks at a queue between two yields of the core.
const LOOKS_PER_YIELD: u32 = 200;
/// Of a trial: runs in before it counts.
const WARM_UP_DIVISOR: u32 = 8;
/// Receives between two looks at the clock.
const RECEIVES_PER_LOOK: u32 = 64;

/// Waits for the other side.
#[derive(Default)]
struct Patience(u32);

impl Patience {
    fn wait(&mut self) {
        self.0 += 1;
        if self.0.is_multiple_of(LOOKS_PER_YIELD) {
            thread::yield_now();
        } else {
            hint::spin_loop();
        }
    }
}

/// Round trips of one trial.
#[derive(Clone, Copy, Debug)]
pub struct RoundTrips {
    pub mean_ns: f64,
    pub p50_ns: f64,
    pub p99_ns: f64,
}

/// Messages a second that arrive, sent and received in batches of `batch`.
///
/// # Errors
/// A thread cannot be pinned, or a message is lost or out of order.
pub fn throughput<L: Link, M: Message>(cores: [usize; 2], batch: usize, duration: Duration) -> Result<f64, Failure> {
    // Each end moves to its own thread, as in the mesh: side by side they would share a cache line.
    let (producer, consumer) = L::make::<M>();
    let (stop, start) = (&AtomicBool::new(false), &Barrier::new(2));
    let (sent, received) = thread::scope(|scope| {
        let sending = scope.spawn(move || {
            let mut producer = producer;
            let pinned = pin_to_core(cores[0]);
            start.wait();
            let (mut next, mut patience) = (0, Patience::default());
            // ORDERING: Relaxed: the flag carries no data.
            while !stop.load(Ordering::Relaxed) {
                match L::send::<M>(&mut producer, next, batch) {
                    0 => patience.wait(),
                    sent => next += count(sent),
                }
            }
            pinned.map(|()| next)
        });
        let receiving = scope.spawn(move || {
            let mut consumer = consumer;
            let pinned = pin_to_core(cores[1]);
            start.wait();
            let outcome = receive_for::<L, M>(&mut consumer, batch, duration);
            stop.store(true, Ordering::Relaxed);
            pinned.map(|()| outcome)
        });
        (joined(sending), joined(receiving))
    });
    let (sent, received) = (pinned(sent)?, pinned(received)??);
    assert!(received.total <= sent, "invariant: nothing arrives that was not sent");
    Ok(received.per_s)
}

struct Received {
    per_s: f64,
    total: u64,
}

fn receive_for<L: Link, M: Message>(
    consumer: &mut L::Consumer<M>,
    batch: usize,
    duration: Duration,
) -> Result<Received, Failure> {
    let (mut expected, mut in_order) = (0_u64, true);
    let mut patience = Patience::default();
    let began = Instant::now();
    let mut window: Option<(Instant, u64)> = None;
    loop {
        for _ in 0..RECEIVES_PER_LOOK {
            let received = L::receive::<M>(consumer, batch, |message| {
                in_order &= message.number() == expected;
                expected += 1;
            });
            if received == 0 {
                patience.wait();
            }
        }
        let now = Instant::now();
        match window {
            None if now - began >= duration / WARM_UP_DIVISOR => window = Some((now, expected)),
            Some((from, before)) if now - from >= duration => {
                if !in_order {
                    return Err(Failure::Invalid("a queue lost or reordered a message".to_owned()));
                }
                let per_s = (expected - before) as f64 / (now - from).as_secs_f64();
                return Ok(Received { per_s, total: expected });
            }
            None | Some(_) => {}
        }
    }
}

/// One message there and back, over and over. Each is timed by itself: one look at the clock is part of it.
///
/// # Errors
/// A thread cannot be pinned, or an answer is not what was asked for.
pub fn round_trip<L: Link, M: Message>(cores: [usize; 2], duration: Duration) -> Result<RoundTrips, Failure> {
    let ((ask, asked), (answer, answered)) = (L::make::<M>(), L::make::<M>());
    let (stop, start) = (&AtomicBool::new(false), &Barrier::new(2));
    let (pinned_pong, outcome) = thread::scope(|scope| {
        let pong = scope.spawn(move || {
            let (mut asked, mut answer) = (asked, answer);
            let pinned = pin_to_core(cores[1]);
            start.wait();
            let mut patience = Patience::default();
            let mut number = None;
            // ORDERING: Relaxed: the flag carries no data.
            while !stop.load(Ordering::Relaxed) {
                if L::receive::<M>(&mut asked, 1, |message| number = Some(message.number())) == 0 {
                    patience.wait();
                } else if let Some(number) = number.take() {
                    L::send::<M>(&mut answer, number, 1);
                }
            }
            pinned
        });
        let ping = scope.spawn(move || {
            let (mut ask, mut answered) = (ask, answered);
            let pinned = pin_to_core(cores[0]);
            start.wait();
            let outcome = ping_for::<L, M>(&mut ask, &mut answered, duration);
            stop.store(true, Ordering::Relaxed);
            pinned.map(|()| outcome)
        });
        (joined(pong), joined(ping))
    });
    pinned(pinned_pong)?;
    pinned(outcome)?
}

fn ping_for<L: Link, M: Message>(
    ask: &mut L::Producer<M>,
    answered: &mut L::Consumer<M>,
    duration: Duration,
) -> Result<RoundTrips, Failure> {
    let mut times = Histogram::<u64>::new_with_bounds(1, 10_000_000_000, 3).expect("invariant: constant bounds");
    let mut patience = Patience::default();
    let began = Instant::now();
    let (mut before, mut from, mut rounds) = (began, None, 0_u64);
    for number in 0.. {
        L::send::<M>(ask, number, 1);
        let mut back = None;
        while L::receive::<M>(answered, 1, |message| back = Some(message.number())) == 0 {
            patience.wait();
        }
        if back != Some(number) {
            return Err(Failure::Invalid("a queue lost or reordered a message".to_owned()));
        }
        let now = Instant::now();
        match from {
            None if now - began >= duration / WARM_UP_DIVISOR => from = Some(now),
            None => {}
            Some(from) => {
                rounds += 1;
                times.saturating_record(u64::try_from((now - before).as_nanos()).unwrap_or(u64::MAX));
                if now - from >= duration {
                    let mean_ns = (now - from).as_nanos() as f64 / rounds as f64;
                    let quantile = |share: f64| times.value_at_quantile(share) as f64;
                    return Ok(RoundTrips { mean_ns, p50_ns: quantile(0.5), p99_ns: quantile(0.99) });
                }
            }
        }
        before = now;
    }
    Err(Failure::Failed("the numbers of messages ran out".to_owned()))
}

fn joined<T>(handle: thread::ScopedJoinHandle<'_, T>) -> T {
    handle.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

fn pinned<T>(outcome: io::Result<T>) -> Result<T, Failure> {
    outcome.map_err(|error| Failure::Failed(error.to_string()))
}

fn count(messages: usize) -> u64 {
    u64::try_from(messages).unwrap_or(u64::MAX)
}
