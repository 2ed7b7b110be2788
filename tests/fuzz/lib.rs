//! The sources under test, compiled by themselves: instrumentation of the whole appliance would slow every input down.
#![allow(dead_code)]

pub use twintier::engine;

#[path = "../../src/error.rs"]
pub mod error;
#[path = "../../src/http1/mod.rs"]
pub mod http1;
#[path = "../../src/limits.rs"]
pub mod limits;
#[path = "../../src/statements/mod.rs"]
pub mod statements;

pub mod subject {
    pub use crate::{http1, statements};
}
pub mod targets;
