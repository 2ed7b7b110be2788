//! What the storage and execution unit serves and does.

use std::path::PathBuf;

use serde::Deserialize;

/// The storage and execution unit.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Storage {
    /// The statement file, relative to the profile.
    pub statements: PathBuf,
    #[serde(default = "default_watch_ms")]
    pub watch_ms: u64,
    #[serde(default = "default_agents_max")]
    pub agents_max: usize,
    /// Orders that wait in memory; more stay in the database until there is room.
    #[serde(default = "default_orders_max")]
    pub orders_max: usize,
    #[serde(default = "default_object_bytes_max")]
    pub object_bytes_max: u64,
    #[serde(default)]
    pub import: Option<Import>,
}

/// A supplier's file that is imported when its table is empty at start.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Import {
    pub application: String,
    pub agent: String,
    /// `apt` takes the machine's package index, or the generator where there is none; otherwise a file.
    pub source: String,
}

fn default_watch_ms() -> u64 {
    250
}

fn default_agents_max() -> usize {
    16
}

fn default_orders_max() -> usize {
    4096
}

fn default_object_bytes_max() -> u64 {
    64 * 1024 * 1024
}
