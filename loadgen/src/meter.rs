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

/// The second word of `schedstat`: nanoseconds spent waiting on a run queue.
fn run_queue_wait_ns() -> u64 {
    let text = fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    text.split_whitespace().nth(1).and_then(|word| word.parse().ok()).unwrap_or(0)
}
