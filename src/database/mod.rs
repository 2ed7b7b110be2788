//! The relational database and the database server, the only owner of a connection to it.
//!
//! Architecture invariant: a front never opens the database; replicas and agents send [`contract::Request`]s.

pub mod contract;
pub mod duckdb;
pub mod server;
