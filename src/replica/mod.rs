//! A second server: executes code tables on data tables for the jobs that fronts dispatch to it.
//!
//! Architecture invariant: a replica never sees a socket, a clock or the database; it is handed jobs, batches and
//! replies, and its orders leave through [`contract::Output`].

pub mod contract;
pub mod handlers;
pub mod job;
pub mod parked;
pub mod server;
pub mod unconfirmed;

#[cfg(test)]
mod tests;
