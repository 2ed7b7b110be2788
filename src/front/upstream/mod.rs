//! Upstream servers of one front.
//!
//! Architecture invariant: no pool crosses cores.

pub mod connection;
pub mod offers;
pub mod pool;

pub use connection::{Ride, UpstreamConnection, UpstreamState};
pub use offers::Offers;
pub use pool::Pools;
