//! What a front server counts. One writer, read through a status message.

use serde::Serialize;

/// Totals since the start of the front server. `taken = answered + refused + aborted + in progress` holds for requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counters {
    pub connections_accepted: u64,
    pub connections_adopted: u64,
    pub connections_handed_off: u64,
    /// Idle ones that went to another front server when load shifted. Not among the closed ones.
    pub connections_relocated: u64,
    pub connections_closed: u64,
    pub connections_shed: u64,
    /// Shed because their address had as many as it may have; these count as shed, too.
    pub connections_crowded: u64,
    /// Ended because the browser took its answer too slowly.
    pub connections_too_slow: u64,
    pub requests_taken: u64,
    /// Answered with what a replica, an upstream server, a static object or a statement gave.
    pub requests_answered: u64,
    /// Answered by the front itself because the request was malformed, too large or found no capacity.
    pub requests_refused: u64,
    /// The client left, or the answer could not be finished.
    pub requests_aborted: u64,
    pub status_2xx: u64,
    pub status_3xx: u64,
    pub status_4xx: u64,
    pub status_5xx: u64,
    pub to_replicas: u64,
    pub to_upstreams: u64,
    pub to_files: u64,
    pub malformed: u64,
    pub timed_out: u64,
    pub queue_refused: u64,
    pub queue_expired: u64,
    pub upstream_connects: u64,
    pub upstream_reuses: u64,
    pub upstream_failures: u64,
    pub upstream_retries: u64,
    /// Connections on which an upstream server has switched to another protocol.
    pub tunnels_opened: u64,
    pub tunnels_closed: u64,
}

impl Counters {
    /// Counts an answer's status class.
    pub fn status(&mut self, status: u16) {
        match status / 100 {
            2 => self.status_2xx += 1,
            3 => self.status_3xx += 1,
            4 => self.status_4xx += 1,
            5 => self.status_5xx += 1,
            0 | 1 | 6.. => {}
        }
    }

    /// Requests that were taken and not yet answered, refused or aborted.
    pub fn requests_in_progress(&self) -> u64 {
        self.requests_taken.saturating_sub(self.requests_answered + self.requests_refused + self.requests_aborted)
    }

    /// Adds the totals of another front server.
    pub fn add(&mut self, other: &Self) {
        let Self {
            connections_accepted,
            connections_adopted,
            connections_handed_off,
            connections_relocated,
            connections_closed,
            connections_shed,
            connections_crowded,
            connections_too_slow,
            requests_taken,
            requests_answered,
            requests_refused,
            requests_aborted,
            status_2xx,
            status_3xx,
            status_4xx,
            status_5xx,
            to_replicas,
            to_upstreams,
            to_files,
            malformed,
            timed_out,
            queue_refused,
            queue_expired,
            upstream_connects,
            upstream_reuses,
            upstream_failures,
            upstream_retries,
            tunnels_opened,
            tunnels_closed,
        } = other;
        self.connections_accepted += connections_accepted;
        self.connections_adopted += connections_adopted;
        self.connections_handed_off += connections_handed_off;
        self.connections_relocated += connections_relocated;
        self.connections_closed += connections_closed;
        self.connections_shed += connections_shed;
        self.connections_crowded += connections_crowded;
        self.connections_too_slow += connections_too_slow;
        self.requests_taken += requests_taken;
        self.requests_answered += requests_answered;
        self.requests_refused += requests_refused;
        self.requests_aborted += requests_aborted;
        self.status_2xx += status_2xx;
        self.status_3xx += status_3xx;
        self.status_4xx += status_4xx;
        self.status_5xx += status_5xx;
        self.to_replicas += to_replicas;
        self.to_upstreams += to_upstreams;
        self.to_files += to_files;
        self.malformed += malformed;
        self.timed_out += timed_out;
        self.queue_refused += queue_refused;
        self.queue_expired += queue_expired;
        self.upstream_connects += upstream_connects;
        self.upstream_reuses += upstream_reuses;
        self.upstream_failures += upstream_failures;
        self.upstream_retries += upstream_retries;
        self.tunnels_opened += tunnels_opened;
        self.tunnels_closed += tunnels_closed;
    }
}
