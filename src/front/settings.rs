//! What a front server takes from the profile.

use crate::http1::parse::ParseLimits;
use crate::profile::Profile;
use crate::profile::forwarding::Forwarding;

use super::pace::Allowance;

/// What a front server takes from the profile. Times are nanoseconds.
#[derive(Clone, Debug)]
pub struct Settings {
    pub parse: ParseLimits,
    pub body_bytes_max: u64,
    pub connection_requests_max: u32,
    pub buffer_bytes_max: usize,
    /// Receive buffers that may wait in send queues, of all that the engine has.
    pub leases_out_max: u32,
    pub connections_max: u32,
    pub connections_per_address_max: u32,
    pub forwarding: Forwarding,
    /// Requests that ride together on an upstream connection; below 2 none do.
    pub pipeline_max: usize,
    pub head_ns: u64,
    /// What a request's body may take.
    pub body: Allowance,
    /// What a browser may take for reading.
    pub send: Allowance,
    /// What an upstream server's answer may take as a whole.
    pub answer: Allowance,
    pub tunnel_idle_ns: u64,
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
        let allowance =
            |ms: u64| Allowance { base_ns: ms * MS, bytes_per_s_min: profile.limits.transfer_bytes_per_s_min };
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
            connections_per_address_max: profile.limits.connections_per_address_max,
            // The other half stays for reading.
            leases_out_max: u32::from(profile.engine.receive_buffers / 2),
            forwarding: profile.forwarding.clone(),
            pipeline_max: profile.limits.upstream_pipeline_max,
            head_ns: times.head_ms * MS,
            body: allowance(times.body_ms),
            send: allowance(times.send_ms),
            answer: allowance(times.upstream_answer_ms),
            tunnel_idle_ns: times.tunnel_idle_ms * MS,
            idle_ns: times.idle_ms * MS,
            queue_ns: times.queue_ms * MS,
            job_ns: times.job_ms * MS,
            upstream_connect_ns: times.upstream_connect_ms * MS,
            upstream_first_byte_ns: times.upstream_first_byte_ms * MS,
            upstream_idle_ns: times.upstream_idle_ms * MS,
        }
    }
}
