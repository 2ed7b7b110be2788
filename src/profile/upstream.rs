//! What holds for upstream servers.

use serde::Deserialize;

/// What holds for upstream servers where a statement does not say otherwise.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Upstream {
    /// Requests that one server may have under way, over all fronts.
    pub outstanding_max: u32,
    /// Requests of one statement that wait at one front for a server with room.
    pub queue_max: u32,
    /// Times that a request may be sent again.
    pub retries: u32,
    /// Retries for a hundred requests.
    pub retry_percent: u32,
    /// Failures in a row that eject a server.
    pub eject_failures: u32,
    pub check_interval_ms: u64,
    pub check_timeout_ms: u64,
    pub check_rise: u32,
    pub check_fall: u32,
}

impl Default for Upstream {
    fn default() -> Self {
        Self {
            outstanding_max: 1024,
            queue_max: 1024,
            retries: 2,
            retry_percent: 20,
            eject_failures: 3,
            check_interval_ms: 2_000,
            check_timeout_ms: 1_000,
            check_rise: 2,
            check_fall: 3,
        }
    }
}
