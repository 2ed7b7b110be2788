//! User memory of a system: what its processes hold, as the kernel's page tables say.
//!
//! Counted is the proportional share of anonymous pages (`Pss_Anon`): heaps, stacks, buffers, also those that an
//! io_uring reads from. Not counted is what the kernel keeps for a connection (socket, buffers, epoll items, ring
//! entries): it is much the same for every server, and no process owns it.

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::statistics::slope;

/// Memory of all processes of a system at a moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// Resident pages, shared ones in full.
    pub rss_bytes: u64,
    /// Anonymous pages, each divided by the number of processes that share it.
    pub anonymous_bytes: u64,
}

impl Memory {
    /// The sum over processes; a process that is gone counts nothing.
    pub fn read(proc_folder: &Path, processes: &[u32]) -> Self {
        let texts = processes
            .iter()
            .filter_map(|id| fs::read_to_string(proc_folder.join(id.to_string()).join("smaps_rollup")).ok());
        texts.map(|text| Self::parse(&text)).fold(Self::default(), |sum, one| Self {
            rss_bytes: sum.rss_bytes + one.rss_bytes,
            anonymous_bytes: sum.anonymous_bytes + one.anonymous_bytes,
        })
    }

    fn parse(text: &str) -> Self {
        let bytes = |name: &str| {
            let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            value.and_then(|value| value.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0) * 1024
        };
        Self { rss_bytes: bytes("Rss"), anonymous_bytes: bytes("Pss_Anon") }
    }
}

/// What held connections did to a system; a part of `trial.json`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Held {
    /// Connections that were open when the load began.
    pub held: u32,
    /// Closed by the system until the load ended, and opened again by the holder.
    pub closed: u64,
    pub reopened: u64,
    /// After a load, without held connections; for idle ones of a process that was not made for them.
    pub before: Memory,
    /// With all of them open, before the load.
    pub after: Memory,
    /// With all of them open, after the load.
    pub loaded: Memory,
}

impl Held {
    /// User memory for each held connection.
    pub fn user_bytes_per_connection(&self) -> f64 {
        let grown = self.after.anonymous_bytes.saturating_sub(self.before.anonymous_bytes);
        grown as f64 / f64::from(self.held.max(1))
    }
}

/// One look at a system during a long run.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// Since the measured window began.
    pub at_s: f64,
    pub memory: Memory,
}

/// `soak.json`: a long run and what became of the memory.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Soak {
    pub system: String,
    pub connections: u32,
    pub body_bytes: usize,
    pub requests_wanted: u64,
    pub requests: u64,
    pub failed: u64,
    pub window_s: f64,
    pub verdict: String,
    pub reasons: Vec<String>,
    pub samples: Vec<Sample>,
}

/// The start of a long run in which pools fill; not part of the slope.
const SETTLING_SHARE: f64 = 0.1;
/// Neighbouring samples are not independent of each other: the rest of the run is averaged into so many parts.
const PARTS: usize = 20;

impl Soak {
    /// Growth of the resident memory in bytes a million requests with its 95 % interval; `None` with too few samples.
    pub fn growth_bytes_per_million(&self) -> Option<(f64, f64, f64)> {
        let requests_per_s = self.requests as f64 / self.window_s.max(1e-9);
        let settled: Vec<&Sample> =
            self.samples.iter().filter(|sample| sample.at_s >= self.window_s * SETTLING_SHARE).collect();
        let size = settled.len().div_ceil(PARTS).max(1);
        let mean = |part: &[&Sample], of: fn(&Sample) -> f64| {
            part.iter().map(|sample| of(sample)).sum::<f64>() / part.len().max(1) as f64
        };
        let points: Vec<(f64, f64)> = settled
            .chunks_exact(size)
            .map(|part| {
                let millions = mean(part, |sample| sample.at_s) * requests_per_s / 1e6;
                (millions, mean(part, |sample| sample.memory.rss_bytes as f64))
            })
            .collect();
        slope(&points)
    }
}

#[cfg(test)]
mod tests {
    use super::{Held, Memory, Sample, Soak};

    #[test]
    fn a_rollup_is_read_by_its_names() {
        let text = "55a0-7ffe ---p 00000000 00:00 0 [rollup]\nRss:  2048 kB\nPss:  1024 kB\nPss_Dirty: 1 kB\nPss_Anon:  512 kB\nPss_File: 7 kB\n";
        assert_eq!(Memory::parse(text), Memory { rss_bytes: 2048 * 1024, anonymous_bytes: 512 * 1024 });
        assert_eq!(Memory::parse(""), Memory::default());
    }

    #[test]
    fn the_memory_of_a_connection_is_what_was_added() {
        let memory = |anonymous_bytes| Memory { rss_bytes: 0, anonymous_bytes };
        let held = Held {
            held: 1000,
            closed: 0,
            reopened: 0,
            before: memory(1_000_000),
            after: memory(3_000_000),
            loaded: memory(3_500_000),
        };
        assert!((held.user_bytes_per_connection() - 2000.0).abs() < 1e-9);
    }

    fn soak(rss: impl Fn(u32) -> u64) -> Soak {
        let sample = |second: u32| Sample {
            at_s: f64::from(second),
            memory: Memory { rss_bytes: rss(second), anonymous_bytes: 0 },
        };
        Soak {
            system: "twintier".into(),
            connections: 64,
            body_bytes: 128,
            requests_wanted: 10_000_000,
            requests: 10_000_000,
            failed: 0,
            window_s: 200.0,
            verdict: "valid".into(),
            reasons: vec![],
            samples: (0..=200).map(sample).collect(),
        }
    }

    /// 50,000 requests a second: 20 seconds are a million.
    #[test]
    fn growth_is_by_requests_and_leaves_the_start_out() {
        let leaking = soak(|second| 10_000_000 + u64::from(second) * 50);
        let (growth, low, high) = leaking.growth_bytes_per_million().unwrap();
        assert!((growth - 1000.0).abs() < 1.0 && low <= growth && growth <= high, "{low} {growth} {high}");
        let flat =
            soak(|second| if second < 20 { u64::from(second) } else { 5_000_000 + u64::from(second % 2) * 4096 });
        let (growth, low, high) = flat.growth_bytes_per_million().unwrap();
        assert!(low <= 0.0 && high >= 0.0, "{low} {growth} {high}");
        assert_eq!(Soak { samples: vec![], ..flat }.growth_bytes_per_million(), None);
    }
}
