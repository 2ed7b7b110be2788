//! Options about HTTP archives, and `loadgen scenario`.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};

use crate::har::Archive;
use crate::har::scenario::{Choices, scenario};
use crate::scenario::Scenario;

/// Bytes of an archive that is read.
const ARCHIVE_BYTES_MAX: u64 = 512 << 20;

/// What `browse` writes down.
#[derive(Args, Clone, Debug)]
pub struct ArchiveOptions {
    /// Write the first sessions to this file as an HTTP archive (HAR 1.2), which browsers' tools open.
    #[arg(long, value_name = "FILE")]
    har: Option<PathBuf>,
    /// With --har: how many sessions.
    #[arg(long, value_name = "N", default_value = "1", requires = "har", value_parser = clap::value_parser!(u16).range(1..=1000))]
    har_sessions: u16,
}

impl ArchiveOptions {
    pub fn recorded_sessions(&self) -> usize {
        if self.har.is_some() { usize::from(self.har_sessions) } else { 0 }
    }

    /// Writes what was recorded, if anything was to be.
    ///
    /// # Errors
    /// What the file system says.
    pub fn write(&self, archive: Option<&Archive>) -> io::Result<()> {
        let (Some(path), Some(archive)) = (&self.har, archive) else { return Ok(()) };
        let text = serde_json::to_string_pretty(archive)?;
        fs::write(path, text).map_err(|error| with_path(path, &error))
    }
}

#[derive(Args, Clone, Debug)]
pub struct ScenarioOptions {
    #[command(subcommand)]
    command: ScenarioCommand,
}

#[derive(Subcommand, Clone, Debug)]
enum ScenarioCommand {
    /// Look for mistakes in a scenario file.
    Check { file: PathBuf },
    /// Make a scenario out of a session that a browser recorded as an HTTP archive (HAR 1.2).
    FromHar {
        file: PathBuf,
        /// The host under test, as the archive has it; without it that of the first page.
        #[arg(long, value_name = "HOST")]
        host: Option<String>,
        /// Make steps of the GET requests of scripts, too.
        #[arg(long)]
        scripted: bool,
        /// Where the scenario goes; without it to standard output.
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
}

/// Performs `loadgen scenario`.
///
/// # Errors
/// A file that is wrong (invalid input), or cannot be written.
pub fn perform(options: &ScenarioOptions) -> io::Result<()> {
    match &options.command {
        ScenarioCommand::Check { file } => {
            let text = fs::read_to_string(file).map_err(|error| invalid(with_path(file, &error).to_string()))?;
            let scenario = Scenario::parse(&file.display().to_string(), &text).map_err(invalid)?;
            println!("{}: {} users, steps {}", scenario.name, scenario.users.len(), scenario.steps.join(", "));
            Ok(())
        }
        ScenarioCommand::FromHar { file, host, scripted, out } => {
            let archive = read(file)?;
            let choices = Choices { host: host.clone(), scripted: *scripted };
            let made = scenario(&archive, &choices).map_err(|words| invalid(format!("{}: {words}", file.display())))?;
            for note in &made.notes {
                eprintln!("{}: {note}", file.display());
            }
            // A scenario that this program writes it can read, too.
            Scenario::parse("scenario", &made.toml)
                .map_err(|words| io::Error::other(format!("made a wrong scenario: {words}")))?;
            match out {
                Some(path) => fs::write(path, &made.toml).map_err(|error| with_path(path, &error)),
                None => {
                    print!("{}", made.toml);
                    Ok(())
                }
            }
        }
    }
}

fn read(file: &Path) -> io::Result<Archive> {
    let told = |error: io::Error| invalid(with_path(file, &error).to_string());
    let bytes = fs::metadata(file).map_err(told)?.len();
    if bytes > ARCHIVE_BYTES_MAX {
        let words =
            format!("{}: {bytes} bytes; archives of at most {ARCHIVE_BYTES_MAX} bytes are read", file.display());
        return Err(invalid(words));
    }
    let text = fs::read_to_string(file).map_err(told)?;
    // Some tools begin with a byte order mark.
    serde_json::from_str(text.strip_prefix('\u{feff}').unwrap_or(&text)).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        let words = error.to_string();
        let words = words.split(" at line ").next().unwrap_or("").to_owned();
        invalid(format!(
            "{}:{line}:{column}: {words}; write an HTTP archive (HAR 1.2) as browsers export it",
            file.display()
        ))
    })
}

fn invalid(words: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, words)
}

fn with_path(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}
