//! Which engine runs, and why.

use super::kind::{EngineChoice, EngineKind};

/// The engine that runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chosen {
    pub kind: EngineKind,
    /// One sentence for people.
    pub reason: String,
}

/// Turns what the user asks for into an engine.
pub fn choose(choice: EngineChoice) -> Chosen {
    match choice {
        EngineChoice::Auto => Chosen { kind: EngineKind::Uring, reason: "auto takes raw io_uring first".into() },
        EngineChoice::Only(kind) => Chosen { kind, reason: format!("`{kind}` was asked for") },
    }
}
