//! The replica server as a whole, without sockets: a mini database answers its commits.

mod access;
mod fixture;
mod lives;
mod pages;
mod versions;
mod writes;
