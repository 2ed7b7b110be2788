//! Errors in what people wrote: each names the place, what is wrong, and what would be right.

use std::fmt;
use std::path::{Path, PathBuf};

/// A mistake in a profile, statement file, code table or supplier file. Shown as
/// `file:line:column: what is wrong, what would be right`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    pub file: PathBuf,
    /// From 1; 0 where the mistake is the whole file.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
    pub wrong: String,
    pub cure: String,
}

impl Fault {
    pub fn new(file: &Path, line: usize, column: usize, wrong: impl Into<String>, cure: impl Into<String>) -> Self {
        Self { file: file.to_path_buf(), line, column, wrong: wrong.into(), cure: cure.into() }
    }

    /// The same at a byte offset of the file's text.
    pub fn at(file: &Path, text: &str, offset: usize, wrong: impl Into<String>, cure: impl Into<String>) -> Self {
        let before = &text[..text.floor_char_boundary(offset)];
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().map_or(0, |last| last.chars().count()) + 1;
        Self::new(file, line, column, wrong, cure)
    }

    /// What `toml` found, with its position.
    pub fn toml(file: &Path, text: &str, error: &toml::de::Error) -> Self {
        let offset = error.span().map_or(0, |span| span.start);
        Self::at(
            file,
            text,
            offset,
            error.message().replace('\n', " "),
            "see the README.md beside the profiles for every key",
        )
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(out, "{}: {}", self.file.display(), self.wrong)?,
            line => write!(out, "{}:{line}:{}: {}", self.file.display(), self.column, self.wrong)?,
        }
        if !self.cure.is_empty() {
            write!(out, "; {}", self.cure)?;
        }
        Ok(())
    }
}

impl std::error::Error for Fault {}
