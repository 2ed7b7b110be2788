//! Upstream servers of one front.
//!
//! Architecture invariant: no pool crosses cores.

pub mod connection;
pub mod pool;

pub use connection::{UpstreamConnection, UpstreamState};
pub use pool::Pools;
