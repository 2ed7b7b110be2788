//! The storage and execution unit's own thread: the file server's objects and the application server's agents, on a
//! glommio executor whose shares keep agents from starving file work, or on epoll where io_uring is blocked.
//!
//! Architecture invariant: an agent never sees a browser and never opens the database; it reads and writes rows
//! through the database server, and every write is stamped there.

pub mod agents;
pub mod backend;
pub mod books;
mod bridge;
mod convert;
mod desk;
pub mod executor;
pub mod files;
pub mod import;
mod inbox;
pub mod numbers;
pub mod orders;
pub mod passwords;
pub mod random;
pub mod report;
pub mod rfc822;
pub mod site;
mod submit;
pub mod supplier;
pub mod unit;
mod watch;
mod work;

#[cfg(test)]
mod fixture;
#[cfg(test)]
mod import_tests;
#[cfg(test)]
mod tests;
