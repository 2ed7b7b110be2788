//! Which engine each worker has, and its sizes.

use serde::Deserialize;

use super::Wrong;
use crate::engine::{self, EngineChoice};

/// Sizes of one worker's engine.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EngineSizes {
    /// What `EngineChoice` reads: `auto`, or the name of an engine.
    pub kind: String,
    pub connections_max: u32,
    pub receive_buffers: u16,
    pub receive_buffer_bytes: u32,
    pub send_buffers: u32,
    pub send_buffer_bytes: u32,
    pub submission_entries: u32,
    pub completion_entries: u32,
}

impl Default for EngineSizes {
    fn default() -> Self {
        let sizes = engine::Config::default();
        Self {
            kind: "auto".into(),
            connections_max: sizes.connections_max,
            receive_buffers: sizes.receive_buffers,
            receive_buffer_bytes: sizes.receive_buffer_bytes,
            send_buffers: sizes.send_buffers,
            send_buffer_bytes: sizes.send_buffer_bytes,
            submission_entries: sizes.submission_entries,
            completion_entries: sizes.completion_entries,
        }
    }
}

impl EngineSizes {
    /// Which engine is asked for; a profile that was read names one that exists.
    pub fn choice(&self) -> EngineChoice {
        self.kind.parse().unwrap_or_default()
    }

    /// The engine's own form of these sizes.
    pub fn config(&self) -> engine::Config {
        engine::Config {
            connections_max: self.connections_max,
            receive_buffers: self.receive_buffers,
            receive_buffer_bytes: self.receive_buffer_bytes,
            send_buffers: self.send_buffers,
            send_buffer_bytes: self.send_buffer_bytes,
            submission_entries: self.submission_entries,
            completion_entries: self.completion_entries,
            ..engine::Config::default()
        }
    }
}

impl EngineSizes {
    /// `head_bytes_max` is that of `[limits]`: an answer's head takes up to four buffers.
    pub(super) fn validate(&self, head_bytes_max: usize) -> Result<(), Wrong> {
        self.kind.parse::<EngineChoice>().map_err(|wrong| ("kind", wrong, ""))?;
        if !self.receive_buffers.is_power_of_two() || self.receive_buffers > 32768 {
            let wrong = format!("{} receive buffers", self.receive_buffers);
            return Err(("receive_buffers", wrong, "a power of two up to 32768"));
        }
        for (key, entries) in
            [("submission_entries", self.submission_entries), ("completion_entries", self.completion_entries)]
        {
            if !entries.is_power_of_two() || entries > 65536 {
                return Err((key, format!("{entries} entries"), "a power of two up to 65536"));
            }
        }
        if self.send_buffer_bytes < 4096 || (self.send_buffer_bytes as usize) < head_bytes_max / 4 {
            let wrong = format!("{} bytes cannot hold an answer's head", self.send_buffer_bytes);
            return Err(("send_buffer_bytes", wrong, "at least 4096 and a quarter of limits.head_bytes_max"));
        }
        Ok(())
    }
}
