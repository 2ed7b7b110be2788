//! The relational database and the database server, the only owner of a connection to it.
//!
//! Architecture invariant: a front never opens the database; replicas and agents send [`contract::Request`]s.
//!
//! A commit is one append to the change log and one `fsync` for everything that was queued; the rows reach their data
//! tables in batches ([`revisions`] knows which have not yet). That is what makes a durable form cheap on a columnar
//! store, where a single upsert costs as much as appending a thousand rows.

pub mod contract;
mod dialect;
pub mod duckdb;
pub mod follow;
pub mod health;
mod log_tail;
mod logged;
pub mod memory;
pub mod migrate;
mod orders;
pub mod postgres;
pub mod queue;
mod revisions;
pub mod seed;
pub mod server;
