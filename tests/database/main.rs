//! The database server over each of its stores: group commit, arbitration, mutations, restart, refusals.
#![cfg(feature = "appliance")]

mod commits;
mod health;
mod log;
mod migrating;
mod neighbors;
mod postgres;
#[path = "../support/postgres.rs"]
mod postgres_server;
mod rates;
mod recovery;
mod starting;
mod support;
mod tail;
