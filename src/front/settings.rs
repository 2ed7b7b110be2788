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
    pub upstream: UpstreamSettings,
}

/// What holds for upstream servers where their statement does not say otherwise. Times are nanoseconds.
#[derive(Clone, Debug)]
pub struct UpstreamSettings {
    /// Requests that one server may have under way, over all fronts.
    pub outstanding_max: u32,
    pub queue_max: u32,
    pub retries_max: u32,
    pub retry_percent: u32,
    pub eject_failures: u32,
    pub connect_ns: u64,
    pub first_byte_ns: u64,
    pub idle_ns: u64,
    /// How long a request waits for a server with room.
    pub wait_ns: u64,
    pub check_interval_ns: u64,
    pub check_timeout_ns: u64,
    pub check_rise: u32,
    pub check_fall: u32,
    /// This front's number and how many there are: a server's cap is dealt among them.
    pub front: u32,
    pub fronts: u32,
}

impl UpstreamSettings {
    /// This front's share of a server's cap; the shares of all fronts add up to it.
    pub fn share(&self, max: u32) -> u32 {
        max / self.fronts + u32::from(self.front < max % self.fronts)
    }
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
            upstream: UpstreamSettings {
                outstanding_max: profile.upstream.outstanding_max,
                queue_max: profile.upstream.queue_max,
                retries_max: profile.upstream.retries,
                retry_percent: profile.upstream.retry_percent,
                eject_failures: profile.upstream.eject_failures,
                connect_ns: times.upstream_connect_ms * MS,
                first_byte_ns: times.upstream_first_byte_ms * MS,
                idle_ns: times.upstream_idle_ms * MS,
                wait_ns: times.queue_ms * MS,
                check_interval_ns: profile.upstream.check_interval_ms * MS,
                check_timeout_ns: profile.upstream.check_timeout_ms * MS,
                check_rise: profile.upstream.check_rise,
                check_fall: profile.upstream.check_fall,
                front: 0,
                fronts: 1,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Settings;

    #[test]
    fn shares_add_up_to_the_cap() {
        let profile = toml::from_str("[cluster]\nname = \"t\"\n[storage]\nstatements = \"-\"\n").unwrap();
        let mut settings = Settings::of(&profile).upstream;
        for fronts in 1..=16 {
            settings.fronts = fronts;
            for max in fronts..100 {
                let mut sum = 0;
                for front in 0..fronts {
                    settings.front = front;
                    assert!(settings.share(max) > 0);
                    sum += settings.share(max);
                }
                assert_eq!(sum, max);
            }
        }
    }
}
