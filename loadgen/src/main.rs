//! The load generator. Latency counts from the planned send time; a generator that cannot keep its plan says so.
//!
//! In the order of a request's way: [`arrivals`] and [`schedule`] plan it, [`run`] or [`browse`] offers it on a
//! [`connection`], [`response`] reads the answer, which [`check`] judges, [`recorder`] keeps the six stamps, [`report`] writes them down, and
//! [`verdict`] says whether the numbers may be quoted. [`hold`] keeps connections open beside a load and measures nothing.

mod appending;
mod arrivals;
mod browse;
mod browser;
mod ceiling;
mod check;
mod cli;
mod connection;
mod failure;
mod har;
mod hgrm;
mod hiccup;
mod hlog;
mod hold;
mod live;
mod max;
mod merge;
mod meter;
mod page_slo;
mod quantile;
mod recorder;
mod replay;
mod report;
mod response;
mod run;
mod scenario;
mod schedule;
mod schema;
mod search;
mod slo;
mod stage;
mod start;
mod stationarity;
mod summary;
mod target;
mod tiers;
mod verdict;

use std::process::ExitCode;

// Tests count allocations, for which theirs is another one.
#[cfg(not(test))]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    cli::main()
}
