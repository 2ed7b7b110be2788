//! `run.json`: where a run's numbers come from. The report is made from it and the files beside it, and from nothing
//! else, so that it can be made again byte for byte.

use std::fs;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::case::Case;
use crate::clock;
use crate::doctor::{Checkup, examine};
use crate::failure::Failure;
use crate::machine::{CoreMap, Jiffies, Machine, Settings};
use crate::process::{ask, find_program};
use crate::trial::Role;

/// The provenance of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunRecord {
    /// `quick` or `compare`.
    pub kind: String,
    pub argv: Vec<String>,
    /// The source's commit, with `+` behind it where files differed from it; empty outside a repository.
    pub commit: String,
    pub bench_version: String,
    pub started_unix_s: u64,
    pub machine: Machine,
    pub cores: CoreMap,
    /// Asked of the load generator; empty before it is needed.
    pub generator: String,
    pub plan: Option<PlanRecord>,
    /// Systems that were looked at before the first trial.
    pub systems: Vec<Surveyed>,
    pub absent: Vec<Absent>,
    /// False while the run lasts and for ever where it was cut short.
    pub finished: bool,
    /// What the doctor said before the run; `null` in runs of before it was asked.
    #[serde(default)]
    pub doctor: Option<Checkup>,
}

/// What a comparison set out to do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlanRecord {
    pub job: String,
    /// In the order of the report.
    pub cases: Vec<Case>,
    pub blocks: u32,
    pub duration_s: f64,
    pub warmup_s: f64,
    /// Of the order within blocks and of the generator.
    pub seed: u64,
}

/// One system as it answered before it was measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Surveyed {
    pub name: String,
    pub description: String,
    /// Asked of the running program.
    pub version: String,
    /// Of the running program's file; empty where `sha256sum` is missing.
    pub program_sha256: String,
    pub answer_head_bytes: usize,
    pub answer_body_bytes: usize,
    pub answer_fields: Vec<String>,
    /// What it is in the comparison for.
    #[serde(default)]
    pub role: Role,
}

/// A system that does not take part.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Absent {
    pub name: String,
    /// Why, and what would help.
    pub reason: String,
}

impl RunRecord {
    /// Everything that is known before the first measurement.
    pub fn begin(kind: &str, root: &Path) -> Self {
        let machine = Machine::watch(Path::new("/"));
        let checkup = Checkup::of(examine(&machine));
        Self {
            kind: kind.to_owned(),
            argv: argv(),
            commit: commit(root),
            bench_version: env!("CARGO_PKG_VERSION").to_owned(),
            started_unix_s: clock::unix_ns() / 1_000_000_000,
            cores: machine.core_map(),
            machine,
            generator: String::new(),
            plan: None,
            systems: Vec::new(),
            absent: Vec::new(),
            finished: false,
            doctor: Some(checkup),
        }
    }

    /// # Errors
    /// The file is missing or is no record.
    pub fn read(folder: &Path) -> Result<Self, Failure> {
        read_json(&folder.join("run.json"))
    }

    /// # Errors
    /// What the file system says.
    pub fn write(&self, folder: &Path) -> Result<(), Failure> {
        write_json(&folder.join("run.json"), self)
    }

    /// Marks the run as complete; `before` is the processor time at its beginning.
    pub fn finish(&mut self, before: Option<Jiffies>) {
        let now = Jiffies::read(Path::new("/"));
        self.machine.steal_share_in_run = before.zip(now).map(|(before, now)| now.steal_share_since(before));
        let settings = Settings::read(Path::new("/"), &self.cores);
        self.machine.throttles_in_run = settings.throttles_since(&self.machine.settings);
        self.finished = true;
    }
}

/// The command line with the program's name in place of its path, which differs between machines.
fn argv() -> Vec<String> {
    let mut words: Vec<String> = std::env::args().collect();
    if let Some(first) = words.first_mut() {
        "bench".clone_into(first);
    }
    words
}

fn commit(root: &Path) -> String {
    let Some(git) = find_program("git") else { return String::new() };
    let folder = root.to_string_lossy().into_owned();
    let hash = ask(&git, &["-C", &folder, "rev-parse", "--short=12", "HEAD"]).unwrap_or_default();
    let changed = ask(&git, &["-C", &folder, "status", "--porcelain", "--untracked-files=no"])
        .is_some_and(|text| !text.trim().is_empty());
    let mark = if changed && !hash.is_empty() { "+" } else { "" };
    format!("{}{mark}", hash.trim())
}

/// Makes a new folder for a run: the given one, or `results/KIND-TIME`.
///
/// # Errors
/// The folder holds a run already, or cannot be made.
pub fn make_folder(kind: &str, given: Option<PathBuf>) -> Result<PathBuf, Failure> {
    let stamp = || Path::new("results").join(format!("{kind}-{}", clock::utc_stamp(clock::unix_ns() / 1_000_000_000)));
    let folder = given.unwrap_or_else(stamp);
    if folder.join("run.json").exists() {
        return Err(Failure::Usage(format!("{} holds a run already; name another --out", folder.display())));
    }
    fs::create_dir_all(&folder).map_err(|error| Failure::file(&folder, &error))?;
    Ok(folder)
}

/// # Errors
/// The file cannot be read, or does not hold a `T`.
pub fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T, Failure> {
    let bytes = fs::read(path).map_err(|error| Failure::file(path, &error))?;
    serde_json::from_slice(&bytes).map_err(|error| Failure::Failed(format!("{}: {error}", path.display())))
}

/// Writes beside and renames: whoever sees the file sees all of it.
///
/// # Errors
/// What the file system says.
pub fn write_json<T: Serialize>(path: &Path, value: &T) -> Result<(), Failure> {
    let mut text =
        serde_json::to_string_pretty(value).map_err(|error| Failure::Failed(format!("{}: {error}", path.display())))?;
    text.push('\n');
    let partial = path.with_extension("json.partial");
    fs::write(&partial, text).map_err(|error| Failure::file(&partial, &error))?;
    fs::rename(&partial, path).map_err(|error| Failure::file(path, &error))
}
