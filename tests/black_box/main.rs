//! Black box: the real program over real sockets, from the browser to the database and back.
//!
//! One crate, because it links once. Every test starts what it needs in a folder of its own, with ports from the
//! kernel; nothing waits for a fixed time. `UPDATE_SNAPSHOTS=1` writes the expected texts anew.
#![cfg(feature = "appliance")]

mod agents;
mod balance;
mod catalog;
mod catalog_in_browser;
mod claims;
mod code_refusals;
mod console;
mod crash;
mod deploys;
mod disk;
mod durability;
mod escaping;
mod fallback;
mod help;
mod hops;
mod imports;
mod installing;
mod journeys;
mod lives;
mod logs;
mod neighbors;
mod notices;
mod observing;
mod pages;
#[path = "../support/postgres.rs"]
mod postgres_server;
mod protocol;
mod proxying;
mod queueing;
mod refusals;
mod replicas;
mod snapshot;
mod starter;
mod statements;
mod support;
mod under_load;
mod upstream_servers;
