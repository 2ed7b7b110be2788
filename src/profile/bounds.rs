//! Bounds of requests and connections, in bytes, numbers and time.

use serde::Deserialize;

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
