//! Timers that keep glommio's executor from sleeping too long.
//!
//! Three things end a sleep in time: the turn's own deadline, a guard, and heartbeats. The last two are there because
//! glommio 0.9 may go to sleep although a task can run: its loop skips the task queues if a completion without a waiter
//! is in its latency ring at the wrong moment, takes the skipping for idleness, and parks until the next completion,
//! which may never come (one wake in some 40,000 under load). The guard ends such a sleep soon after a turn that had
//! events; the heartbeats, of which there are three because one may ring at the very same wrong moment, end it in any
//! case. What they cost an idle engine is some 14 wakes a second.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Waker};
use std::time::Duration;

use glommio::timer::Timer;

/// Periods without a common divisor, so that they do not fall together.
const HEARTBEATS: [Duration; 3] = [Duration::from_millis(199), Duration::from_millis(211), Duration::from_millis(223)];
/// How soon a sleep by mistake ends on a busy engine.
const GUARD: Duration = Duration::from_millis(2);

/// All timers of one engine; made in the first turn, because glommio makes them only while its executor runs.
pub(super) struct Timers {
    bell: Waker,
    deadline: Option<Timer>,
    guard: Option<Timer>,
    heartbeats: Option<[Timer; 3]>,
}

impl Timers {
    /// Timers that ring `bell`.
    pub(super) fn new(bell: Waker) -> Self {
        Self { bell, deadline: None, guard: None, heartbeats: None }
    }

    /// The turn's task is about to wait for `for_ns` at most.
    pub(super) fn sleep(&mut self, for_ns: u64) {
        self.beat();
        let mut deadline = Timer::new(Duration::from_nanos(for_ns).min(HEARTBEATS[0]));
        // A deadline that is over already rings at once.
        if charge(&mut deadline, &self.bell) {
            self.bell.wake_by_ref();
        }
        self.deadline = Some(deadline);
    }

    /// The turn ends; the next one begins with a task that may be passed over.
    pub(super) fn turn_ends(&mut self, had_events: bool) {
        self.deadline = None;
        self.beat();
        if had_events {
            let mut guard = Timer::new(GUARD);
            charge(&mut guard, &self.bell);
            self.guard = Some(guard);
        }
    }

    /// Charges every heartbeat that has rung.
    fn beat(&mut self) {
        let bell = &self.bell;
        let heartbeats = self.heartbeats.get_or_insert_with(|| HEARTBEATS.map(Timer::new));
        for (heartbeat, period) in heartbeats.iter_mut().zip(HEARTBEATS) {
            if charge(heartbeat, bell) {
                *heartbeat = Timer::new(period);
                charge(heartbeat, bell);
            }
        }
    }
}

/// Has glommio ring `bell` when the timer is due; true if it is due already.
fn charge(timer: &mut Timer, bell: &Waker) -> bool {
    Pin::new(timer).poll(&mut Context::from_waker(bell)).is_ready()
}
