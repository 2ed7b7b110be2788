//! What the timing thread itself costs, read at both ends of the measured window.

use std::fs;

use twintier::engine::Statistics;
use twintier::engine::thread::thread_cpu_ns;

/// Counters of the calling thread and its engine at one moment.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sample {
    at_ns: u64,
    cpu_ns: u64,
    /// Runnable without a core; stays 0 where the kernel does not say.
    wait_ns: u64,
    spin_ns: u64,
    received_bytes: u64,
    sent_bytes: u64,
}

impl Sample {
    pub fn take(at_ns: u64, spin_ns: u64, engine: &Statistics) -> Self {
        Self {
            at_ns,
            cpu_ns: thread_cpu_ns(),
            wait_ns: run_queue_wait_ns(),
            spin_ns,
            received_bytes: engine.received_bytes,
            sent_bytes: engine.sent_bytes,
        }
    }
}

/// The difference of two samples.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cost {
    pub wall_ns: u64,
    /// Processor time without spinning.
    pub cpu_ns: u64,
    pub wait_ns: u64,
    pub spin_ns: u64,
    pub received_bytes: u64,
    pub sent_bytes: u64,
}

impl Cost {
    pub fn between(start: &Sample, end: &Sample) -> Self {
        let spin_ns = end.spin_ns.saturating_sub(start.spin_ns);
        Self {
            wall_ns: end.at_ns.saturating_sub(start.at_ns),
            cpu_ns: end.cpu_ns.saturating_sub(start.cpu_ns).saturating_sub(spin_ns),
            wait_ns: end.wait_ns.saturating_sub(start.wait_ns),
            spin_ns,
            received_bytes: end.received_bytes - start.received_bytes,
            sent_bytes: end.sent_bytes - start.sent_bytes,
        }
    }

    /// A part of the window as a share of it.
    pub fn share(&self, part_ns: u64) -> f64 {
        part_ns as f64 / self.wall_ns.max(1) as f64
    }
}

/// Nanoseconds that the calling thread spent waiting on a run queue.
fn run_queue_wait_ns() -> u64 {
    wait_ns(&fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default())
}

/// The second word of `schedstat`: time on a processor, time waiting for one, time slices.
fn wait_ns(schedstat: &str) -> u64 {
    schedstat.split_whitespace().nth(1).and_then(|word| word.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::{Cost, Sample, wait_ns};

    #[test]
    fn polling_is_no_work_and_what_was_before_the_window_is_no_cost() {
        let start = Sample { at_ns: 1_000, cpu_ns: 500, wait_ns: 40, spin_ns: 100, received_bytes: 7, sent_bytes: 3 };
        let end = Sample { at_ns: 2_000, cpu_ns: 1_400, wait_ns: 90, spin_ns: 700, received_bytes: 17, sent_bytes: 6 };
        let cost = Cost::between(&start, &end);
        assert_eq!((cost.wall_ns, cost.cpu_ns, cost.spin_ns, cost.wait_ns), (1_000, 300, 600, 50));
        assert_eq!((cost.received_bytes, cost.sent_bytes), (10, 3));
        assert!((cost.share(cost.cpu_ns) - 0.3).abs() < 1e-9);
    }

    #[test]
    fn waiting_is_the_second_word_of_schedstat() {
        assert_eq!((wait_ns("3500 1200 9\n"), wait_ns("")), (1_200, 0));
    }
}
