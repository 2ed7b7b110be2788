//! Which cores serve.

use serde::Deserialize;

use super::Wrong;
use crate::dispatch::requests::REPLICAS_MAX;
use crate::tables::stamp::SERVERS_MAX;

// The last server number is the application server's.
const _: () = assert!(SERVERS_MAX - 1 <= REPLICAS_MAX);

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

impl Cluster {
    pub(super) fn validate(&self) -> Result<(), Wrong> {
        for (key, servers) in [("fronts", self.fronts), ("replicas", self.replicas)] {
            if servers == 1 {
                let cure = "write 2 or more, or 0 to derive it from the cores";
                return Err((key, "a cluster of one server".into(), cure));
            }
        }
        if self.replicas >= SERVERS_MAX {
            let wrong = format!("{} replicas", self.replicas);
            return Err(("replicas", wrong, "at most 15: the application server is the 16th origin"));
        }
        Ok(())
    }
}
