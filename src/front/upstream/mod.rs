//! Upstream servers of one front: who is asked, who waits, what is sent again.
//!
//! ```text
//!   request ──▶ choose ─┬─ Server ──▶ acquire (never beyond the cap) ──▶ … ──▶ release (Served, Failed, Unknown)
//!                       ├─ Wait ────▶ queue ──▶ choose again, 503 after a time, or the browser left
//!                       └─ Nobody ──▶ 503
//!   a loss ──▶ renew the connection, or retry within the budget, or 502 and 504
//! ```
//! Everything here is told the time and touches no socket; `front/forward.rs` and `front/checks.rs` do.
//!
//! Architecture invariants: no pool crosses cores; what a server has under way never exceeds its cap, which `acquire`
//! asserts in every build.

pub mod affinity;
pub mod budget;
pub mod check;
pub mod connection;
pub mod course;
pub mod group;
pub mod health;
pub mod offers;
pub mod pick;
pub mod pool;
pub mod queue;
pub mod retry;
pub mod server;

pub use connection::{Ride, UpstreamConnection, UpstreamState};
pub use offers::Offers;
pub use pool::Pools;
