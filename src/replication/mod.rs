//! How replicas agree: per-origin delta logs with dense numbers, cumulative acknowledgements, a periodic digest sweep.
//!
//! ```text
//!   local edit ─► log ──Batch──► receiver ─► tables        each turn, to every live peer
//!                  ▲ ◄──Ack────────┘                        positions of all origins, cumulative
//!                  └◄──Resend── gap                         the sender's cursor goes back
//!   log too short, or an interval has passed:
//!   Summary ─► (digests differ) Buckets ─► Keys ─► Wanted ─► Rows, and Rows back for what the sender lacks
//!   a replica that joins: SnapshotRequest ─► SnapshotChunk … then Resend for what happened meanwhile
//! ```
//!
//! Rows converge whatever is lost, repeated or late, because applying is a maximum. Positions are promises: a replica
//! reports position n of an origin only when its tables hold the effect of that origin's updates up to n.
//!
//! Architecture invariant: nothing here waits. A message that does not fit its ring comes back by
//! [`Replicator::undelivered`] and is made good later.

pub mod apply;
pub mod backlog;
pub mod catch_up;
pub mod external;
mod lag;
pub mod log;
pub mod peer;
pub mod replicator;
pub mod report;
pub mod rounds;
pub mod sweep;

use std::sync::Arc;

use crate::tables::stamp::SERVERS_MAX;
use crate::tables::{Batch, ServerId};

pub use apply::{Receiver, Verdict};
pub use backlog::{Backlog, Unapplied};
pub use lag::LagReport;
pub use log::DeltaLog;
pub use replicator::Replicator;
pub use report::{Counters, Event, PeerReport, Report, Settings};

/// Numbers of the last update of each origin; 0 for none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Positions(pub [u64; SERVERS_MAX]);

impl Positions {
    pub fn get(&self, origin: ServerId) -> u64 {
        self.0.get(usize::from(origin)).copied().unwrap_or(0)
    }

    /// Moves forward to `position`, never back.
    pub fn raise(&mut self, origin: ServerId, position: u64) {
        if let Some(mine) = self.0.get_mut(usize::from(origin)) {
            *mine = (*mine).max(position);
        }
    }

    pub fn raise_all(&mut self, other: &Self) {
        for (mine, theirs) in self.0.iter_mut().zip(other.0) {
            *mine = (*mine).max(theirs);
        }
    }

    /// Whether no position of `other` is greater.
    pub fn covers(&self, other: &Self) -> bool {
        self.0.iter().zip(&other.0).all(|(mine, theirs)| mine >= theirs)
    }
}

/// A cumulative acknowledgement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ack {
    /// What the sender's tables hold, its own updates included.
    pub positions: Positions,
    /// Whether it takes traffic.
    pub ready: bool,
}

/// What replicas send to each other. Small, so that it fits a ring slot; the bulk is behind a pointer.
#[derive(Clone, Debug)]
pub enum Message {
    /// New updates of the sender, or, answering a [`Message::Resend`], of the application server.
    Batch(Arc<Batch>),
    /// What the sender's tables hold.
    Ack(Arc<Ack>),
    /// The sender misses updates of `origin` after this number.
    Resend {
        origin: ServerId,
        after: u64,
    },
    /// Begins a round of the sweep: the digests of all tables.
    Summary(Box<sweep::Summary>),
    /// Asks which rows are in the buckets that differ.
    Buckets(Box<sweep::Buckets>),
    /// Answers with keys and stamps.
    Keys(Box<sweep::Keys>),
    /// Asks for rows.
    Wanted(Box<sweep::Wanted>),
    /// Rows that were asked for, or that the receiver turned out to lack.
    Rows(Box<sweep::SweptRows>),
    /// A joining replica asks for the next part of everything.
    SnapshotRequest(Box<catch_up::SnapshotRequest>),
    SnapshotChunk(Box<catch_up::SnapshotChunk>),
    /// The sender runs code version `have`, has seen that there is a later one, and asks for it.
    CodeWanted {
        have: u64,
    },
}

const _: () = assert!(size_of::<Message>() <= 24);

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
