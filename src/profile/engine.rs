//! Which engine each worker has, and its sizes.

use serde::Deserialize;

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
