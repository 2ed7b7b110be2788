//! The admin thread on monoio: status, counters, claim chart, deploys, and the switches of single servers.
//!
//! Architecture invariant: nothing here is on a request's way; the admin thread asks workers by their inboxes and
//! waits, workers never wait for it.

pub mod api;
pub mod claim;
pub mod client;
pub mod cluster;
pub mod console;
pub mod feed;
pub mod guard;
pub mod help;
pub mod history;
pub mod incoming;
pub mod metrics;
pub mod rejects;
pub mod sample;
pub mod server;
pub mod servers;

pub use cluster::Cluster;
