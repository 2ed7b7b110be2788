//! The generator as a black box: the binary against servers that tests script on std sockets.

mod accounting;
mod archives;
mod bad_input;
mod bad_sites;
mod browsing;
mod capacity;
mod checks;
mod foreign_readers;
mod holding;
mod manual;
mod memory;
mod merging;
mod nginx;
mod plans;
mod portability;
mod schema;
mod server_timing;
mod stall;
mod stolen_time;
mod stopped_server;
mod support;
