//! What the machine itself does to a thread that only wants to run: a meter in the manner of jHiccup.
//!
//! A thread wakes at every millisecond of an absolute schedule and records how late it is, less the shortest lateness
//! that it has seen, which is the timer's own. A stop of 20 ms is twenty ticks that are 20, 19, … 1 ms late: each
//! millisecond of it counts, as it would for requests. With `--core` one thread runs on the timing thread's core (in an
//! open loop: in a closed one the timing thread itself keeps that core busy) and one wherever the process may run.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use hdrhistogram::Histogram;
use twintier::clock::monotonic_ns;
use twintier::engine::thread::pin_to_core;

use crate::recorder::histogram;
use crate::schedule::Window;

/// Time between two looks at the clock.
const PERIOD_NS: u64 = 1_000_000;

/// Threads that measure until they are asked for what they found.
pub struct HiccupMeter {
    stop: Arc<AtomicBool>,
    threads: Vec<thread::JoinHandle<Histogram<u64>>>,
}

impl HiccupMeter {
    /// Measures within the window. `core` is where the timing thread is pinned and sleeps between arrivals.
    pub fn start(window: Window, core: Option<usize>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let mut threads = Vec::new();
        for place in [None].into_iter().chain(core.map(Some)) {
            let stop = Arc::clone(&stop);
            let measure = move || {
                if let Some(core) = place {
                    // The timing thread was pinned there before, so the core exists; a meter elsewhere does no harm.
                    let _ = pin_to_core(core);
                }
                measure(&window, &stop)
            };
            // Without threads to spare there is nothing to say about hiccups.
            threads.extend(thread::Builder::new().name("hiccup".into()).spawn(measure));
        }
        Self { stop, threads }
    }

    /// What all threads have recorded.
    pub fn finish(self) -> Histogram<u64> {
        self.stop.store(true, Ordering::Relaxed);
        let mut sum = histogram();
        for thread in self.threads {
            let found = thread.join().expect("invariant: a meter does not panic");
            sum.add(found).expect("invariant: all histograms have the same bounds");
        }
        sum
    }
}

fn measure(window: &Window, stop: &AtomicBool) -> Histogram<u64> {
    let mut ticks = Ticks::new(window.measure_ns, window.end_ns);
    while ticks.due_ns < window.end_ns && !stop.load(Ordering::Relaxed) {
        let wait_ns = ticks.due_ns.saturating_sub(monotonic_ns());
        if wait_ns > 0 {
            thread::sleep(Duration::from_nanos(wait_ns.min(PERIOD_NS)));
        }
        ticks.look(monotonic_ns());
    }
    ticks.found
}

/// The schedule of one thread and what came of it.
struct Ticks {
    due_ns: u64,
    end_ns: u64,
    shortest_ns: u64,
    found: Histogram<u64>,
}

impl Ticks {
    fn new(start_ns: u64, end_ns: u64) -> Self {
        Self { due_ns: start_ns, end_ns, shortest_ns: u64::MAX, found: histogram() }
    }

    /// Records every tick of the window that is due.
    fn look(&mut self, now_ns: u64) {
        while self.due_ns <= now_ns && self.due_ns < self.end_ns {
            let late_ns = now_ns - self.due_ns;
            self.shortest_ns = self.shortest_ns.min(late_ns);
            self.found.saturating_record(late_ns - self.shortest_ns);
            self.due_ns += PERIOD_NS;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{HiccupMeter, PERIOD_NS, Ticks};
    use crate::schedule::Window;

    #[test]
    fn an_injected_hiccup_of_20_ms_is_twenty_late_ticks() {
        let mut ticks = Ticks::new(0, 3_000 * PERIOD_NS);
        let mut now_ns = 0;
        for _ in 0..1000 {
            ticks.look(now_ns + 55_000);
            now_ns += PERIOD_NS;
        }
        assert_eq!((ticks.found.len(), ticks.found.max()), (1000, 0), "the timer's own lateness is none");
        now_ns += 20 * PERIOD_NS;
        ticks.look(now_ns + 55_000);
        assert_eq!(ticks.found.len(), 1021);
        assert!(ticks.found.max().abs_diff(20 * PERIOD_NS) < 20_000, "{}", ticks.found.max());
        assert_eq!(ticks.found.count_between(PERIOD_NS / 2, 21 * PERIOD_NS), 20);
    }

    #[test]
    fn the_meter_sees_every_millisecond_of_the_window() {
        let start_ns = twintier::clock::monotonic_ns();
        let window = Window::new(start_ns, 5_000_000, 50_000_000);
        let meter = HiccupMeter::start(window, None);
        let deadline_ns = start_ns + 10_000_000_000;
        while !meter.threads.iter().all(std::thread::JoinHandle::is_finished) {
            assert!(twintier::clock::monotonic_ns() < deadline_ns, "the meter ends with the window");
            std::thread::yield_now();
        }
        assert_eq!(meter.finish().len(), 50, "a tick a millisecond, however late");
    }
}
