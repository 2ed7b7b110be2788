//! The whole cluster in one thread and virtual time, by seed.
//!
//! ```text
//!   browsers ──▶ World ──▶ workers (fronts, dispatchers, replicas) ◀──relays──▶ workers
//!                              │            │            │
//!                              ▼            ▼            ▼
//!                        database server   agents ──▶ back-end server        all driven by `stage`, which breaks
//!                          (MemoryStore)   (desk)                            what `plan` says and asks `checks`
//! ```
//! The product's own code runs: the worker's turn, both dispatchers, the mesh's rings, replicas, replication, the
//! database server and the storage unit's desk. What is simulated is what they stand on: the engine and its network,
//! the clocks, the store, and the executor. See README.md beside this file.
//!
//! Architecture invariant: nothing here reads a clock, a file or a random source; a seed does the same every time.

mod admin;
mod application;
mod backend;
mod browser;
mod checks;
mod judge;
mod ledger;
mod operation;
pub mod plan;
mod process;
mod report;
mod stage;
mod trace;
mod wire;

pub use report::{Options, STEPS_DEFAULT, Summary, replay, run};
pub use stage::Outcome;
