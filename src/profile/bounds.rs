//! Bounds of requests and connections, in bytes, numbers and time.

use serde::Deserialize;

use super::Wrong;
use crate::limits;

/// Bounds of requests and connections.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    pub head_bytes_max: usize,
    pub header_count_max: usize,
    pub body_bytes_max: usize,
    pub connection_requests_max: u32,
    pub connection_buffer_bytes_max: usize,
    pub connections_per_address_max: u32,
    pub transfer_bytes_per_s_min: u64,
    /// Safe requests that may share an upstream connection at the same time; 0 or 1: none do.
    pub upstream_pipeline_max: usize,
    pub parked_jobs_max: usize,
}

/// How long things may take, in milliseconds.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Timeouts {
    pub head_ms: u64,
    pub body_ms: u64,
    pub send_ms: u64,
    pub idle_ms: u64,
    pub tunnel_idle_ms: u64,
    pub queue_ms: u64,
    pub job_ms: u64,
    pub upstream_connect_ms: u64,
    pub upstream_first_byte_ms: u64,
    pub upstream_answer_ms: u64,
    pub upstream_idle_ms: u64,
    pub drain_ms: u64,
    /// A worker's turn that takes longer is a missed beat.
    pub hung_ms: u64,
    /// A replica that has been hung for so long is declared dead.
    pub dead_ms: u64,
    /// What a stopped replica may take to finish.
    pub stop_ms: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            head_bytes_max: limits::HEAD_BYTES_MAX,
            header_count_max: limits::HEADER_COUNT_MAX,
            body_bytes_max: limits::BODY_BYTES_MAX,
            connection_requests_max: 1_000_000,
            connection_buffer_bytes_max: 256 * 1024,
            connections_per_address_max: limits::CONNECTIONS_PER_ADDRESS_MAX,
            transfer_bytes_per_s_min: limits::TRANSFER_BYTES_PER_S_MIN,
            upstream_pipeline_max: 0,
            parked_jobs_max: 4096,
        }
    }
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            head_ms: 10_000,
            body_ms: 30_000,
            send_ms: 30_000,
            idle_ms: 60_000,
            tunnel_idle_ms: 600_000,
            queue_ms: 1_000,
            job_ms: 10_000,
            upstream_connect_ms: 2_000,
            upstream_first_byte_ms: 30_000,
            upstream_answer_ms: 3_600_000,
            upstream_idle_ms: 55_000,
            drain_ms: 10_000,
            hung_ms: 10,
            dead_ms: 1_000,
            stop_ms: 2_000,
        }
    }
}

impl Limits {
    /// Every bound lets something through.
    pub(super) fn validate(&self) -> Result<(), Wrong> {
        for (key, is_zero) in [
            ("head_bytes_max", self.head_bytes_max == 0),
            ("header_count_max", self.header_count_max == 0),
            ("connection_requests_max", self.connection_requests_max == 0),
            ("connection_buffer_bytes_max", self.connection_buffer_bytes_max == 0),
            ("connections_per_address_max", self.connections_per_address_max == 0),
            ("transfer_bytes_per_s_min", self.transfer_bytes_per_s_min == 0),
            ("parked_jobs_max", self.parked_jobs_max == 0),
        ] {
            if is_zero {
                return Err((key, "0 lets nothing through".into(), "write 1 or more; no limit can be switched off"));
            }
        }
        Ok(())
    }
}

impl Timeouts {
    /// Every time is long enough for something, and none is endless.
    pub(super) fn validate(&self) -> Result<(), Wrong> {
        for (key, value) in [
            ("head_ms", self.head_ms),
            ("body_ms", self.body_ms),
            ("send_ms", self.send_ms),
            ("idle_ms", self.idle_ms),
            ("tunnel_idle_ms", self.tunnel_idle_ms),
            ("queue_ms", self.queue_ms),
            ("job_ms", self.job_ms),
            ("upstream_connect_ms", self.upstream_connect_ms),
            ("upstream_first_byte_ms", self.upstream_first_byte_ms),
            ("upstream_answer_ms", self.upstream_answer_ms),
            ("upstream_idle_ms", self.upstream_idle_ms),
            ("drain_ms", self.drain_ms),
            ("hung_ms", self.hung_ms),
            ("dead_ms", self.dead_ms),
            ("stop_ms", self.stop_ms),
        ] {
            if !(1..=limits::TIMEOUT_MS_MAX).contains(&value) {
                let cure = "1 to 2592000000, which is thirty days; no time can be switched off";
                return Err((key, format!("{value} milliseconds"), cure));
            }
        }
        Ok(())
    }
}
