//! A PostgreSQL server of the lab's own, from the programs that are installed: in a folder of its own, on a Unix socket,
//! with its usual configuration, which waits for the disk.
//!
//! The server refuses to run as root: then it runs as the system user `postgres`.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::failure::Failure;
use crate::process::{Interrupt, Order, Process, ask, find_program};

/// What to do where it is not installed.
pub const INSTALL: &str = "apt-get install postgresql";
/// Where Debian keeps the programs of each major version.
const VERSIONS_FOLDER: &str = "/usr/lib/postgresql";
/// Who runs the server where the lab is root.
const SYSTEM_USER: &str = "postgres";
/// Role and database of the appliances: the first of the server.
const ROLE: &str = "postgres";
const START_DEADLINE: Duration = Duration::from_secs(30);

/// The programs of one installation.
#[derive(Clone, Debug)]
pub struct Programs {
    folder: PathBuf,
    /// Words before each command that make it another user's; empty where the lab is not root.
    user: Vec<String>,
}

impl Programs {
    /// The installation on `PATH`, or else the newest that Debian's folder has.
    ///
    /// # Errors
    /// In words: there is none, or nobody to run it.
    pub fn find() -> Result<Self, String> {
        // A link on `PATH` leads to the folder where all of them are.
        let on_path = find_program("initdb").and_then(|program| fs::canonicalize(program).ok());
        let on_path = on_path.and_then(|program| Some(program.parent()?.to_owned()));
        let folder =
            on_path.filter(|folder| folder.join("postgres").is_file()).or_else(|| newest(VERSIONS_FOLDER.as_ref()));
        let folder = folder.ok_or_else(|| format!("PostgreSQL's server is not installed: {INSTALL}"))?;
        if !rustix::process::geteuid().is_root() {
            return Ok(Self { folder, user: Vec::new() });
        }
        let known = find_program("id").and_then(|id| ask(&id, &["-u", SYSTEM_USER])).is_some();
        let Some(setpriv) = find_program("setpriv").filter(|_| known) else {
            return Err(format!(
                "PostgreSQL refuses to run as root, and there is no user `{SYSTEM_USER}` or no setpriv: {INSTALL} util-linux"
            ));
        };
        let words = ["--reuid", SYSTEM_USER, "--regid", SYSTEM_USER, "--init-groups", "--pdeathsig", "TERM", "--"];
        let user = std::iter::once(setpriv.to_string_lossy().into_owned()).chain(words.map(str::to_owned));
        Ok(Self { folder, user: user.collect() })
    }

    /// What the server says of itself, such as `PostgreSQL 15.14`.
    pub fn version(&self) -> String {
        let answer = ask(&self.folder.join("postgres"), &["--version"]).unwrap_or_default();
        answer.trim().replace("postgres (PostgreSQL)", "PostgreSQL")
    }

    /// Makes an empty database folder.
    ///
    /// # Errors
    /// `initdb` fails.
    pub fn create(&self, folder: &Path) -> Result<(), Failure> {
        fs::create_dir_all(folder).map_err(|error| Failure::file(folder, &error))?;
        if !self.user.is_empty() {
            run("chown", &[SYSTEM_USER, &folder.to_string_lossy()])?;
        }
        let arguments = ["--auth", "trust", "--username", ROLE, "--no-locale", "--encoding", "UTF8", "--pgdata"];
        let order = self.order("initdb", &arguments, folder, folder);
        let mut words = vec![order.program.to_string_lossy().into_owned()];
        words.extend(order.arguments);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        run(words[0], &words[1..])
    }

    /// Starts the server of a database folder; logs go to `logs`.
    ///
    /// # Errors
    /// It does not get ready.
    pub fn start(&self, folder: &Path, logs: &Path, core: usize, interrupt: &Interrupt) -> Result<Server, Failure> {
        let socket = format!("unix_socket_directories={}", folder.display());
        let arguments = ["-c", "listen_addresses=", "-c", &socket, "-D"];
        let mut process = Process::start(&self.order("postgres", &arguments, folder, logs).on_core(Some(core)))?;
        let asker = self.folder.join("pg_isready");
        let host = folder.to_string_lossy().into_owned();
        let ready = interrupt.wait_for(START_DEADLINE, || {
            process.still_running()?;
            Ok(ask(&asker, &["--quiet", "--host", &host]))
        })?;
        match ready {
            Some(_) => Ok(Server { process, url: format!("host={host} user={ROLE} dbname={ROLE}") }),
            None => Err(Failure::Failed(format!(
                "PostgreSQL accepted no connection within {} s{}",
                START_DEADLINE.as_secs(),
                process.quote()
            ))),
        }
    }

    /// A program of the installation, as the right user, with the database folder as its last word.
    fn order(&self, program: &str, arguments: &[&str], folder: &Path, logs: &Path) -> Order {
        let path = self.folder.join(program).to_string_lossy().into_owned();
        let all = self.user.iter().cloned().chain([path]).chain(arguments.iter().map(|&word| word.to_owned()));
        let mut words: Vec<String> = all.chain([folder.to_string_lossy().into_owned()]).collect();
        let first = words.remove(0);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        Order::new(program, Path::new(&first), &words, logs)
    }
}

/// A server that accepts connections.
#[derive(Debug)]
pub struct Server {
    pub process: Process,
    /// For `database.url` of a profile.
    pub url: String,
}

/// Runs a short command to its end.
///
/// # Errors
/// It fails.
pub fn run(program: &str, arguments: &[&str]) -> Result<(), Failure> {
    let path = find_program(program).unwrap_or_else(|| PathBuf::from(program));
    let failed = || Failure::Failed(format!("`{program} {}` failed", arguments.join(" ")));
    ask(&path, arguments).map(drop).ok_or_else(failed)
}

/// The programs of the highest version below a folder.
fn newest(folder: &Path) -> Option<PathBuf> {
    let entries = fs::read_dir(folder).ok()?.flatten();
    let numbered = entries.filter_map(|entry| Some((entry.file_name().to_str()?.parse::<u32>().ok()?, entry.path())));
    let complete =
        numbered.map(|(number, path)| (number, path.join("bin"))).filter(|(_, bin)| bin.join("postgres").is_file());
    complete.max().map(|(_, bin)| bin)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::newest;

    #[test]
    fn the_newest_version_that_is_complete_is_taken() {
        let folder = std::env::temp_dir().join(format!("bench-postgres-{}", std::process::id()));
        for (version, complete) in [("9", true), ("15", true), ("17", false), ("common", true)] {
            fs::create_dir_all(folder.join(version).join("bin")).unwrap();
            if complete {
                fs::write(folder.join(version).join("bin/postgres"), "").unwrap();
            }
        }
        assert_eq!(newest(&folder), Some(folder.join("15/bin")));
        assert_eq!(newest(&folder.join("none")), None);
        fs::remove_dir_all(folder).unwrap();
    }
}
