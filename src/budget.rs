//! What a profile costs before the first accept: bytes, descriptors, ring entries.

use std::fmt::Write as _;

use crate::limits;
use crate::profile::Profile;
use crate::worker::placement::Placement;

/// The price of a profile on a placement. Bytes of pools are address space until first use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Budget {
    pub workers: u64,
    pub receive_pool_bytes: u64,
    pub send_pool_bytes: u64,
    /// Submission, completion and provided-buffer rings, which count against the memlock limit.
    pub ring_bytes: u64,
    pub mesh_bytes: u64,
    pub database_bytes: u64,
    pub descriptors: u64,
    pub submission_entries: u64,
    pub completion_entries: u64,
    pub mesh_rings: u64,
}

/// Bytes of a submission entry, a completion entry and a provided-buffer entry (Linux uapi `io_uring.h`).
const SUBMISSION_BYTES: u64 = 64;
const COMPLETION_BYTES: u64 = 16;
const PROVIDED_BUFFER_BYTES: u64 = 16;
/// Bytes of a mesh message: the enum is a tag and a few words.
const MESH_SLOT_BYTES: u64 = 64;
/// Descriptors of the other threads, files and listeners.
const DESCRIPTORS_BASE: u64 = 64;

impl Budget {
    /// Sums the price.
    pub fn of(profile: &Profile, placement: &Placement) -> Self {
        let workers = placement.workers.len() as u64;
        let sizes = &profile.engine;
        let slots = limits::MESH_RING_SLOTS as u64;
        let rings = workers * workers.saturating_sub(1);
        Self {
            workers,
            receive_pool_bytes: workers * u64::from(sizes.receive_buffers) * u64::from(sizes.receive_buffer_bytes),
            send_pool_bytes: workers * u64::from(sizes.send_buffers) * u64::from(sizes.send_buffer_bytes),
            ring_bytes: workers
                * (u64::from(sizes.submission_entries) * SUBMISSION_BYTES
                    + u64::from(sizes.completion_entries) * COMPLETION_BYTES
                    + u64::from(sizes.receive_buffers) * PROVIDED_BUFFER_BYTES),
            mesh_bytes: rings * slots * MESH_SLOT_BYTES,
            database_bytes: profile.database.memory_mb as u64 * 1024 * 1024,
            descriptors: DESCRIPTORS_BASE + workers * (u64::from(sizes.connections_max) + 4),
            submission_entries: workers * u64::from(sizes.submission_entries),
            completion_entries: workers * u64::from(sizes.completion_entries),
            mesh_rings: rings,
        }
    }

    /// Bytes in all.
    pub fn bytes(&self) -> u64 {
        self.receive_pool_bytes + self.send_pool_bytes + self.ring_bytes + self.mesh_bytes + self.database_bytes
    }

    /// The table that `twintier check` prints.
    pub fn describe(&self) -> String {
        let mut out = String::new();
        let mut line = |name: &str, value: String| {
            let _ = writeln!(out, "  {name:<34} {value:>12}");
        };
        line("receive buffers", mebibytes(self.receive_pool_bytes));
        line("send buffers", mebibytes(self.send_pool_bytes));
        line("io_uring rings (memlock)", mebibytes(self.ring_bytes));
        line("mesh rings", mebibytes(self.mesh_bytes));
        line("database memory limit", mebibytes(self.database_bytes));
        line("bytes in all, without rows", mebibytes(self.bytes()));
        line("descriptors at most", self.descriptors.to_string());
        line("submission queue entries", self.submission_entries.to_string());
        line("completion queue entries", self.completion_entries.to_string());
        line("mesh rings", self.mesh_rings.to_string());
        out
    }
}

fn mebibytes(bytes: u64) -> String {
    let tenths = (bytes * 10).div_ceil(1024 * 1024);
    format!("{}.{} MiB", tenths / 10, tenths % 10)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::worker::placement::{Topology, place};

    #[test]
    fn two_workers_cost_what_their_sizes_say() {
        let profile: Profile = toml::from_str("[cluster]\nname = \"t\"\n[storage]\nstatements = \"s\"\n").unwrap();
        let placement = place(&profile, &Topology::read(&[0, 1])).unwrap();
        let budget = Budget::of(&profile, &placement);
        assert_eq!(budget.receive_pool_bytes, 2 * 1024 * 8192);
        assert_eq!(budget.mesh_rings, 2);
        assert_eq!(budget.submission_entries, 1024);
        assert!(budget.describe().contains("16.0 MiB"));
    }
}
