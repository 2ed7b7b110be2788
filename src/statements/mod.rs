//! The file server's configuration: statements that map hosts and paths to clusters, upstream servers and files.

pub mod grammar;
pub mod table;
pub mod upstream;
