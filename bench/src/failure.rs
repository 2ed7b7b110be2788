//! Why the lab ended early, and the exit code that goes with it.

use std::fmt;
use std::io;
use std::path::Path;

/// One sentence for the user, with the cure where there is one.
#[derive(Debug)]
pub enum Failure {
    /// Something did not work: exit code 1.
    Failed(String),
    /// The command line or a file is wrong: exit code 2.
    Usage(String),
    /// What was measured may not be quoted: exit code 4.
    Invalid(String),
    /// SIGINT or SIGTERM arrived: exit code 1.
    Interrupted,
}

impl Failure {
    /// The exit code that other programs rely on.
    pub fn code(&self) -> u8 {
        match self {
            Self::Failed(_) | Self::Interrupted => 1,
            Self::Usage(_) => 2,
            Self::Invalid(_) => 4,
        }
    }

    /// What the file system said about `path`.
    pub fn file(path: &Path, error: &io::Error) -> Self {
        Self::Failed(format!("{}: {error}", path.display()))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(message) | Self::Usage(message) | Self::Invalid(message) => out.write_str(message),
            Self::Interrupted => out.write_str("stopped by a signal; what was measured so far is in the run directory"),
        }
    }
}
