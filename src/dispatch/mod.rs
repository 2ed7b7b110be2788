//! The two network dispatchers: connections over front servers, requests over replica servers.
//!
//! Pure: choices are made from counts that the caller passes in; time and seed are arguments.
//!
//! Architecture invariant: a dispatcher belongs to one front server and shares nothing. It never holds a connection
//! or a job, only their tickets and counts.

pub mod connections;
pub mod decisions;
pub mod policy;
pub mod relocation;
pub mod requests;

pub use connections::{ConnectionDispatcher, Load};
pub use policy::PolicyName;
pub use relocation::Relocator;
pub use requests::{Pick, ReplicaId, RequestDispatcher};
