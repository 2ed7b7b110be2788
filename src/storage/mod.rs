//! The storage and execution unit's own thread: the file server's objects and the application server's agents, on a
//! glommio executor whose shares keep agents from starving file work.

pub mod agents;
pub mod backend;
pub mod files;
pub mod passwords;
