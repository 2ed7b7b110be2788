//! Completions and manual pages of a program, made from the same definition as its help. All three programs use it.

use std::path::Path;

use clap::Command;
pub use clap_complete::Shell;

/// The text that a shell reads to complete the command line of `program`.
pub fn completions(shell: Shell, program: &str, mut command: Command) -> Vec<u8> {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut command, program, &mut text);
    text
}

/// Writes a page for the program and one for each of its commands.
///
/// # Errors
/// The directory or a page cannot be written; one sentence.
pub fn pages(command: Command, dir: &Path) -> Result<(), String> {
    let failed = |error: std::io::Error| format!("{}: {error}", dir.display());
    std::fs::create_dir_all(dir).map_err(failed)?;
    clap_mangen::generate_to(command, dir).map_err(failed)
}
