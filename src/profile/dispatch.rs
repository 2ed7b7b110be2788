//! The two dispatchers.

use serde::Deserialize;

/// The two dispatchers.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Dispatch {
    /// Policy of the second dispatcher.
    pub policy: String,
    /// Jobs that one front may have at one replica under `jbsq`: its n.
    pub credit: u32,
    /// The same under every other policy.
    pub outstanding_max: u32,
    /// Jobs waiting at one front for a free replica.
    pub queue_max: usize,
    /// A new connection moves when its front has this much more work than the least loaded one.
    pub handoff_threshold: u32,
}

impl Default for Dispatch {
    fn default() -> Self {
        Self { policy: "jbsq".into(), credit: 4, outstanding_max: 16, queue_max: 4096, handoff_threshold: 2 }
    }
}
