//! `[log]`: the access log, and the log of the appliance itself.

use std::path::PathBuf;

use serde::Deserialize;

use super::Wrong;
use crate::log::{Filter, Format, Settings};

/// What is written about requests, and about the appliance itself.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    /// File of the access log, relative to the working directory; `-` is standard output, empty is no log.
    pub access: PathBuf,
    /// The most talkative level that is written to standard error, and of single places: `info,database=debug`.
    pub level: String,
    /// `logfmt` or `json`.
    pub format: String,
}

impl Log {
    /// The log's own form of these words; a profile that was read has sound ones.
    pub fn settings(&self) -> Settings {
        Settings { filter: self.level.parse().unwrap_or_default(), format: self.format.parse().unwrap_or_default() }
    }

    pub(super) fn validate(&self) -> Result<(), Wrong> {
        let level = self.level.parse::<Filter>();
        level.map_err(|wrong| ("level", wrong, "for instance info, or info,database=debug"))?;
        self.format.parse::<Format>().map(drop).map_err(|wrong| ("format", wrong, ""))
    }
}

impl Default for Log {
    fn default() -> Self {
        Self { access: PathBuf::new(), level: "info".into(), format: "logfmt".into() }
    }
}
