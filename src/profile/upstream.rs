//! What holds for upstream servers.

use serde::Deserialize;

use super::Wrong;

/// More fronts than any machine has: each must have a share of an upstream server's cap.
const FRONTS_MAX: u32 = 256;

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

impl Upstream {
    pub(super) fn validate(&self) -> Result<(), Wrong> {
        if self.outstanding_max < FRONTS_MAX {
            let wrong = format!("{} requests at a time", self.outstanding_max);
            let cure = "write 256 or more, so that every front has a share; max= in a statement may be lower";
            return Err(("outstanding_max", wrong, cure));
        }
        for (key, value, most, cure) in
            [("retries", self.retries, 5, "at most 5"), ("retry_percent", self.retry_percent, 100, "at most 100")]
        {
            if value > most {
                return Err((key, format!("{value} is too much"), cure));
            }
        }
        for (key, value) in
            [("eject_failures", self.eject_failures), ("check_rise", self.check_rise), ("check_fall", self.check_fall)]
        {
            if value == 0 {
                return Err((key, "0 of them decide nothing".into(), "write 1 or more"));
            }
        }
        Ok(())
    }
}
