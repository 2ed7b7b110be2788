//! The second network dispatcher: gives each request to a replica server, or lets it wait.
//!
//! ```text
//!   pick ──▶ Replica ───────────────────────────────▶ (served) ──▶ returned
//!     └────▶ Wait ──▶ enqueue ──▶ next_ready ───────▶ (served) ──▶ returned
//!                        │   └──▶ expired  (503 with Retry-After)
//!                        │   └──▶ remove   (the client left)
//!                        └──▶ Full         (503 with Retry-After)
//! ```
//! Each front server has one. A replica's *credit* is the cap minus the dispatcher's own count of unreturned requests,
//! so choosing reads nothing that another core writes. A request that waits is served in the order of arrival; none
//! that arrives later overtakes it. Every ticket leaves by exactly one of the exits above.

use std::collections::VecDeque;

use super::decisions::Decisions;
use super::policy::{Policy, PolicyName, Reason, Replica, View};

/// The number of a replica server.
pub type ReplicaId = u8;

/// Replica servers at most: a row's version vector has room for so many origins.
pub const REPLICAS_MAX: usize = 16;

/// How one dispatcher works, from the profile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Replica servers, at most [`REPLICAS_MAX`].
    pub replicas: usize,
    pub policy: PolicyName,
    /// The n of JBSQ(n): requests that this front server may have outstanding at one replica. 1 keeps a replica idle
    /// for the time of a hand-off; 2 hides it.
    pub credit: u32,
    /// The same for the other policies, which hold nothing back: keep it below the slots of a mesh ring.
    pub outstanding_max: u32,
    /// Requests that may wait.
    pub queue_max: usize,
    /// For the policies that draw lots.
    pub seed: u64,
}

impl Settings {
    /// What the chosen policy may have outstanding at one replica.
    pub fn cap(&self) -> u32 {
        match self.policy {
            PolicyName::Jbsq => self.credit,
            PolicyName::RoundRobin
            | PolicyName::Random
            | PolicyName::PowerOfTwo
            | PolicyName::JoinShortest
            | PolicyName::LeastConnection
            | PolicyName::Weighted => self.outstanding_max,
        }
    }
}

/// What to do with a request that just arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pick {
    /// Send it there; the credit is taken.
    Replica(ReplicaId, Reason),
    /// No replica has credit, or others wait already: [`RequestDispatcher::enqueue`] it.
    Wait,
}

/// The queue is full: answer 503 with `Retry-After`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

/// One dispatched request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    pub replica: ReplicaId,
    pub reason: Reason,
    /// Nanoseconds in the queue; `None` if it was sent at once.
    pub waited_ns: Option<u64>,
    /// Requests of this front server at the replica, this one included.
    pub outstanding: u32,
    /// The replica's depth as known here, this one included.
    pub depth: u32,
}

/// Counts since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Counters {
    /// Sent to the replica of the own core.
    pub picked_local: u64,
    /// Sent to another core.
    pub picked_remote: u64,
    /// Entered the queue.
    pub waited: u64,
    /// Left the queue because the deadline passed.
    pub expired: u64,
    /// Found the queue full.
    pub refused: u64,
    /// Left the queue because the client did.
    pub abandoned: u64,
}

#[derive(Clone, Copy, Debug)]
struct Waiting<T> {
    ticket: T,
    since_ns: u64,
    deadline_ns: u64,
}

/// The second dispatcher of one front server. `T` is the ticket by which the front knows a waiting exchange.
#[derive(Clone, Debug)]
pub struct RequestDispatcher<T> {
    replicas: Box<[Replica]>,
    cap: u32,
    policy: Policy,
    reads_depths: bool,
    waiting: VecDeque<Waiting<T>>,
    queue_max: usize,
    /// No waiting deadline is earlier; it may have left the queue since.
    earliest_ns: u64,
    counters: Counters,
    decisions: Decisions<Decision>,
}

impl<T: Copy + PartialEq> RequestDispatcher<T> {
    /// A dispatcher with every replica available. All memory is taken here.
    ///
    /// # Panics
    /// If there are more than [`REPLICAS_MAX`] replicas, or the cap is 0.
    pub fn new(settings: &Settings) -> Self {
        assert!(settings.replicas <= REPLICAS_MAX, "at most {REPLICAS_MAX} replicas, not {}", settings.replicas);
        assert!(settings.cap() > 0, "a cap of 0 would let every request wait for ever");
        Self {
            replicas: vec![Replica { outstanding: 0, depth: 0, available: true }; settings.replicas].into(),
            cap: settings.cap(),
            reads_depths: settings.policy.reads_depths(),
            policy: Policy::new(settings.policy, settings.seed, settings.replicas),
            waiting: VecDeque::with_capacity(settings.queue_max),
            queue_max: settings.queue_max,
            earliest_ns: u64::MAX,
            counters: Counters::default(),
            decisions: Decisions::default(),
        }
    }

    /// Chooses for a request that just arrived. `local` is the replica on the caller's core, if there is one.
    pub fn pick(&mut self, now_ns: u64, local: Option<ReplicaId>) -> Pick {
        if !self.waiting.is_empty() {
            return Pick::Wait;
        }
        self.take(now_ns, local, None).map_or(Pick::Wait, |(replica, reason)| Pick::Replica(replica, reason))
    }

    /// Lets a request wait behind the others from now until `deadline_ns`. One whose deadline has passed is taken too, and
    /// leaves by [`expired`](Self::expired).
    ///
    /// # Errors
    /// [`Full`] if as many wait as may.
    pub fn enqueue(&mut self, ticket: T, now_ns: u64, deadline_ns: u64) -> Result<(), Full> {
        if self.waiting.len() >= self.queue_max {
            self.counters.refused += 1;
            return Err(Full);
        }
        self.counters.waited += 1;
        self.earliest_ns = self.earliest_ns.min(deadline_ns);
        self.waiting.push_back(Waiting { ticket, since_ns: now_ns, deadline_ns });
        Ok(())
    }

    /// A request came back from the replica, served or not: its credit is free again.
    ///
    /// # Panics
    /// If the replica has none outstanding: a request would have come back twice.
    pub fn returned(&mut self, replica: ReplicaId) {
        let replica = &mut self.replicas[usize::from(replica)];
        assert!(replica.outstanding > 0, "a request returned that was not outstanding");
        replica.outstanding -= 1;
        replica.depth = replica.depth.saturating_sub(1);
    }

    /// The first waiting request that is still worth serving, with the replica to send it to; the credit is taken.
    /// Call it until `None` whenever a credit came back or a replica became available. Expired requests stay for
    /// [`expired`](Self::expired).
    pub fn next_ready(&mut self, now_ns: u64, local: Option<ReplicaId>) -> Option<(T, ReplicaId)> {
        let first = self.waiting.iter().position(|waiting| waiting.deadline_ns > now_ns)?;
        let waited_ns = now_ns.saturating_sub(self.waiting[first].since_ns);
        let (replica, _) = self.take(now_ns, local, Some(waited_ns))?;
        let waiting = self.waiting.remove(first).expect("invariant: the position was found above");
        Some((waiting.ticket, replica))
    }

    /// A waiting request whose deadline has passed, first come first. Call it until `None`.
    pub fn expired(&mut self, now_ns: u64) -> Option<T> {
        if now_ns < self.earliest_ns {
            return None;
        }
        let Some(index) = self.waiting.iter().position(|waiting| waiting.deadline_ns <= now_ns) else {
            self.earliest_ns = self.waiting.iter().map(|waiting| waiting.deadline_ns).min().unwrap_or(u64::MAX);
            return None;
        };
        self.counters.expired += 1;
        self.waiting.remove(index).map(|waiting| waiting.ticket)
    }

    /// The client of a waiting request left. False if the ticket does not wait (any more).
    pub fn remove(&mut self, ticket: T) -> bool {
        let Some(index) = self.waiting.iter().position(|waiting| waiting.ticket == ticket) else { return false };
        self.waiting.remove(index);
        self.counters.abandoned += 1;
        true
    }

    /// A replica stopped or came back. Requests outstanding at one that stopped still count until they return.
    pub fn set_available(&mut self, replica: ReplicaId, available: bool) {
        self.replicas[usize::from(replica)].available = available;
    }

    /// Whether the policy goes by what [`observe`](Self::observe) brings.
    pub fn reads_depths(&self) -> bool {
        self.reads_depths
    }

    /// Takes the published depths, by replica, once per turn. What this dispatcher itself has there is known better:
    /// it may still be on its way.
    pub fn observe(&mut self, depths: &[u32]) {
        for (replica, &depth) in self.replicas.iter_mut().zip(depths) {
            replica.depth = depth.max(replica.outstanding);
        }
    }

    /// When [`expired`](Self::expired) is worth a call: no waiting deadline is earlier.
    pub fn next_deadline_ns(&self) -> Option<u64> {
        (!self.waiting.is_empty()).then_some(self.earliest_ns)
    }

    /// Requests that wait.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// The replicas as this dispatcher sees them.
    pub fn replicas(&self) -> &[Replica] {
        &self.replicas
    }

    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// The last dispatched requests, for the claim chart.
    pub fn decisions(&self) -> &Decisions<Decision> {
        &self.decisions
    }

    /// Chooses a replica and takes a credit of it.
    fn take(&mut self, now_ns: u64, local: Option<ReplicaId>, waited_ns: Option<u64>) -> Option<(ReplicaId, Reason)> {
        let view = View { replicas: &self.replicas, local, cap: self.cap, now_ns };
        let (index, reason) = self.policy.choose(&view)?;
        let id = ReplicaId::try_from(index).expect("invariant: there are at most REPLICAS_MAX replicas");
        let replica = &mut self.replicas[index];
        // The cap of outstanding work, held in every build wherever a job is about to be sent.
        assert!(replica.available, "a policy chose replica {id}, which is not available");
        assert!(replica.outstanding < self.cap, "replica {id} has {} of {} jobs", replica.outstanding, self.cap);
        replica.outstanding += 1;
        replica.depth = replica.depth.saturating_add(1);
        if local == Some(id) {
            self.counters.picked_local += 1;
        } else {
            self.counters.picked_remote += 1;
        }
        let (outstanding, depth) = (replica.outstanding, replica.depth);
        self.decisions.record(Decision { replica: id, reason, waited_ns, outstanding, depth });
        Some((id, reason))
    }
}

#[cfg(test)]
#[path = "requests_tests.rs"]
mod tests;
