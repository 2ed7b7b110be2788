//! Which cores serve.

use serde::Deserialize;

/// Which cores serve, and as what.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cluster {
    pub name: String,
    /// `auto`, or a list such as `0-7,16`.
    #[serde(default = "auto")]
    pub cores: String,
    /// `shared`: every worker is a front and a replica; `separate`: each server has a core of its own.
    #[serde(default)]
    pub placement: PlacementKind,
    /// Front servers; 0 derives the number from the cores.
    #[serde(default)]
    pub fronts: usize,
    /// Replica servers; 0 derives the number from the cores.
    #[serde(default)]
    pub replicas: usize,
    /// Core of the storage, database and admin threads: `auto`, `none`, or a number.
    #[serde(default = "auto")]
    pub housekeeping: String,
    /// Use both hardware threads of a core.
    #[serde(default)]
    pub smt: bool,
}

/// How servers share cores.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PlacementKind {
    #[default]
    Shared,
    Separate,
}

fn auto() -> String {
    "auto".into()
}
