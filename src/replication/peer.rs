//! What a replica knows about another one.

use super::Positions;

/// One other replica.
#[derive(Debug, Default)]
pub(super) struct Peer {
    /// Counts: gets updates, and its acknowledgement is waited for.
    pub live: bool,
    /// Has told its positions since it came up.
    pub heard: bool,
    /// Takes traffic, and can be copied from.
    pub ready: bool,
    /// What it has reported to hold. For its own origin: the last number that it has given.
    pub view: Positions,
    /// The last own update that was handed to its ring.
    pub sent: u64,
    /// Its ring was full in this turn.
    pub blocked: bool,
    /// It misses own updates that the log no longer holds: no batches until a repair has brought it forward.
    pub needs_repair: bool,
    /// It asked for updates that cannot be sent: one repair is due.
    pub repair_due: bool,
    /// When the last repair was offered.
    pub repair_offered_ns: u64,
    pub ack_due: bool,
    /// The last [`super::Message::Resend`] to it: origin, position, time.
    pub resend_asked: Option<(u8, u64, u64)>,
    /// A round of the sweep in which this side asks.
    pub round: Option<Round>,
}

/// A round that is under way.
#[derive(Debug)]
pub(super) struct Round {
    /// The asked side's positions when it began.
    pub positions: Positions,
    pub repair: bool,
    /// Questions without an answer.
    pub open: Vec<u32>,
    pub progress_ns: u64,
}
