//! What a front server takes from the profile.

use crate::http1::parse::ParseLimits;
use crate::profile::Profile;

/// What a front server takes from the profile. Times are nanoseconds.
#[derive(Clone, Debug)]
pub struct Settings {
    pub parse: ParseLimits,
    pub body_bytes_max: u64,
    pub connection_requests_max: u32,
    pub buffer_bytes_max: usize,
    pub connections_max: u32,
    /// Requests that ride together on an upstream connection; below 2 none do.
    pub pipeline_max: usize,
    pub head_ns: u64,
    pub body_ns: u64,
    pub idle_ns: u64,
    pub queue_ns: u64,
    pub job_ns: u64,
    pub upstream_connect_ns: u64,
    pub upstream_first_byte_ns: u64,
    pub upstream_idle_ns: u64,
}

impl Settings {
    pub fn of(profile: &Profile) -> Self {
        const MS: u64 = 1_000_000;
        let times = &profile.timeouts;
        Self {
            parse: ParseLimits {
                head_bytes_max: profile.limits.head_bytes_max,
                header_count_max: profile.limits.header_count_max,
            },
            body_bytes_max: profile.limits.body_bytes_max as u64,
            connection_requests_max: profile.limits.connection_requests_max,
            buffer_bytes_max: profile.limits.connection_buffer_bytes_max,
            // The other half of the slots is for connections to upstream servers.
            connections_max: profile.engine.connections_max / 2,
            pipeline_max: profile.limits.upstream_pipeline_max,
            head_ns: times.head_ms * MS,
            body_ns: times.body_ms * MS,
            idle_ns: times.idle_ms * MS,
            queue_ns: times.queue_ms * MS,
            job_ns: times.job_ms * MS,
            upstream_connect_ns: times.upstream_connect_ms * MS,
            upstream_first_byte_ns: times.upstream_first_byte_ms * MS,
            upstream_idle_ns: times.upstream_idle_ms * MS,
        }
    }
}
