//! Twintier: the clustered two-tier web system of US 6,965,938 claim 1 as a benchmark appliance in one process.
//!
//! Modules in the order of a request's way: the [`worker`] turns, its [`engine`] hands bytes to the [`front`], which
//! parses them ([`http1`]), routes them ([`statements`]), knows the session ([`authority`]) and lets [`dispatch`]
//! pick a [`replica`], reached over the [`mesh`]. Replicas execute code [`tables`] on data tables, agree by
//! [`replication`], and commit through the [`database`] server; the [`storage`] thread keeps files and runs agents.
//!
//! With `default-features = false` only [`engine`], [`mesh`] and [`clock`] exist: what a load generator needs.
//! The feature `dispatch` adds the pure dispatchers, `manual` what makes completions and manual pages.

pub mod clock;
pub mod engine;
#[cfg(feature = "manual")]
pub mod manual;
pub mod mesh;

#[cfg(feature = "appliance")]
pub mod admin;
#[cfg(feature = "appliance")]
pub mod authority;
#[cfg(feature = "appliance")]
pub mod budget;
#[cfg(feature = "appliance")]
pub mod cli;
#[cfg(feature = "appliance")]
pub mod database;
#[cfg(feature = "dispatch")]
pub mod dispatch;
#[cfg(feature = "appliance")]
pub mod error;
#[cfg(feature = "appliance")]
pub mod floor;
#[cfg(feature = "appliance")]
pub mod front;
#[cfg(feature = "appliance")]
pub mod http1;
#[cfg(feature = "appliance")]
pub mod init;
#[cfg(feature = "appliance")]
pub mod limits;
#[cfg(feature = "appliance")]
pub mod log;
#[cfg(feature = "appliance")]
pub mod profile;
#[cfg(feature = "appliance")]
pub mod replica;
#[cfg(feature = "appliance")]
pub mod replication;
#[cfg(feature = "appliance")]
pub mod simulate;
#[cfg(feature = "appliance")]
pub mod statements;
#[cfg(feature = "appliance")]
pub mod storage;
#[cfg(feature = "appliance")]
pub mod supervisor;
#[cfg(feature = "appliance")]
pub mod tables;
#[cfg(feature = "appliance")]
pub mod worker;
