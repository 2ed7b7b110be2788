//! The cross-core fabric: one bounded single-producer single-consumer ring per ordered pair of workers, doorbells to
//! wake a sleeper, inboxes for threads that are no workers, slips that can be taken back, and the boards on which workers
//! publish their depth, their beats and the lives of their replica servers.
//!
//! Architecture invariant: a mesh message owns its bytes; nobody locks; a full ring is the sender's problem.

pub mod beats;
pub mod depth;
pub mod doorbell;
pub mod grid;
#[cfg(feature = "appliance")]
pub mod inbox;
pub mod lives;
pub mod relay;
pub mod ring;
#[cfg(feature = "appliance")]
pub mod slip;
pub mod sync;

#[cfg(test)]
mod tests;
