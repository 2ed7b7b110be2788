//! How replicas agree: per-origin delta logs with dense numbers, cumulative acknowledgements, a periodic digest sweep.

pub mod apply;
pub mod catch_up;
pub mod log;
pub mod sweep;
