//! The supplier's file: this machine's Debian package index where there is one, otherwise a generated file of the same
//! kind. Both are RFC 822 records as [`super::rfc822`] reads them.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use super::random::SplitMix;

/// Records of a generated file: as many as Debian 12 has packages, roughly.
pub const GENERATED_RECORDS: u64 = 60_000;
/// Seed of a generated file.
pub const GENERATED_SEED: u64 = 6_965_938;
/// A package index with fewer records is not worth an import.
const RECORDS_MIN: u64 = 1000;

/// Where a supplier file came from, with its records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The file was there already.
    Existing(u64),
    /// `apt-cache dumpavail`.
    PackageIndex(u64),
    /// The generator.
    Generated(u64),
}

impl std::fmt::Display for Source {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Existing(count) => write!(out, "{count} records of the file that was there"),
            Self::PackageIndex(count) => write!(out, "{count} records of this machine's package index"),
            Self::Generated(count) => write!(out, "{count} records of the generator"),
        }
    }
}

/// Makes `target` a supplier file: keeps one that is there, else asks `apt-cache`, else generates one. The file
/// appears under its name only when it is complete. Takes a second or two; to be called before serving.
///
/// # Errors
/// What the file system says; a missing or failing `apt-cache` is no error.
pub fn supplier_file(target: &Path) -> io::Result<Source> {
    find_or_generate(target, GENERATED_SEED, GENERATED_RECORDS)
}

/// The same with the generator's seed and number of records.
pub fn find_or_generate(target: &Path, seed: u64, records: u64) -> io::Result<Source> {
    if target.exists() {
        return Ok(Source::Existing(count_records(target)?));
    }
    let mut unfinished = target.as_os_str().to_owned();
    unfinished.push(format!(".{}.part", std::process::id()));
    let unfinished = Path::new(&unfinished);
    let made = dump_package_index(unfinished).and_then(|found| match found {
        Some(found) => Ok(Source::PackageIndex(found)),
        None => {
            write_generated(&mut BufWriter::new(File::create(unfinished)?), seed, records)?;
            Ok(Source::Generated(records))
        }
    });
    match made.and_then(|source| fs::rename(unfinished, target).map(|()| source)) {
        Ok(source) => Ok(source),
        Err(error) => {
            // What matters is the first error.
            let _ = fs::remove_file(unfinished);
            Err(error)
        }
    }
}

/// Writes `apt-cache dumpavail` to the file; `None` if there is no such command or it has little to say.
fn dump_package_index(target: &Path) -> io::Result<Option<u64>> {
    let output = File::create(target)?;
    let status =
        Command::new("apt-cache").arg("dumpavail").stdin(Stdio::null()).stdout(output).stderr(Stdio::null()).status();
    if !status.is_ok_and(|status| status.success()) {
        return Ok(None);
    }
    let records = count_records(target)?;
    Ok((records >= RECORDS_MIN).then_some(records))
}

/// Lines that begin a package's record.
fn count_records(path: &Path) -> io::Result<u64> {
    let mut reader = BufReader::with_capacity(128 * 1024, File::open(path)?);
    let mut line = Vec::new();
    let mut records = 0;
    while reader.read_until(b'\n', &mut line)? > 0 {
        records += u64::from(line.starts_with(b"Package:"));
        line.clear();
    }
    Ok(records)
}

/// Writes the records of a seed.
pub fn write_generated(out: &mut impl Write, seed: u64, records: u64) -> io::Result<()> {
    for record in Generator::new(seed).take(usize::try_from(records).unwrap_or(usize::MAX)) {
        out.write_all(record.as_bytes())?;
    }
    out.flush()
}

/// Makes records without end; the same seed makes the same records. Keys never repeat.
#[derive(Clone, Debug)]
pub struct Generator {
    random: SplitMix,
    made: u64,
}

impl Generator {
    pub const fn new(seed: u64) -> Self {
        Self { random: SplitMix::new(seed), made: 0 }
    }

    fn word(&mut self, words: &'static [&'static str]) -> &'static str {
        self.random.pick(words).copied().unwrap_or("")
    }

    /// The bit length of a size is uniform, so that there are small and large items as on a real shelf.
    fn size(&mut self) -> u64 {
        let bits = 10 + self.random.below(18);
        (1 << bits) + self.random.below(1 << bits)
    }
}

const SECTIONS: &[&str] = &[
    "admin",
    "comm",
    "database",
    "devel",
    "doc",
    "editors",
    "electronics",
    "fonts",
    "games",
    "graphics",
    "httpd",
    "interpreters",
    "libs",
    "mail",
    "math",
    "misc",
    "net",
    "news",
    "oldlibs",
    "perl",
    "python",
    "science",
    "sound",
    "tex",
    "text",
    "utils",
    "video",
    "web",
    "x11",
];
const SUBJECTS: &[&str] = &[
    "archive",
    "audio",
    "backup",
    "calendar",
    "cluster",
    "compiler",
    "console",
    "crypto",
    "desktop",
    "diagram",
    "disk",
    "document",
    "editor",
    "event",
    "firewall",
    "font",
    "gateway",
    "graph",
    "image",
    "index",
    "kernel",
    "ledger",
    "log",
    "matrix",
    "memory",
    "message",
    "metric",
    "monitor",
    "network",
    "package",
    "parser",
    "photo",
    "printer",
    "protocol",
    "queue",
    "report",
    "router",
    "scanner",
    "scheduler",
    "search",
    "session",
    "shell",
    "signal",
    "spreadsheet",
    "storage",
    "stream",
    "table",
    "terminal",
    "theme",
    "video",
    "wiki",
    "window",
];
const ROLES: &[&str] =
    &["browser", "client", "converter", "daemon", "library", "manager", "reader", "server", "toolkit", "viewer"];
const QUALITIES: &[&str] = &[
    "compact",
    "distributed",
    "fast",
    "flexible",
    "graphical",
    "lightweight",
    "modular",
    "portable",
    "secure",
    "simple",
];
const SUFFIXES: &[&str] = &["", "-bin", "-common", "-data", "-dev", "-doc", "-extra", "-tools", "-utils"];

impl Iterator for Generator {
    type Item = String;

    fn next(&mut self) -> Option<String> {
        let subject = self.word(SUBJECTS);
        let role = self.word(ROLES);
        let quality = self.word(QUALITIES);
        let suffix = self.word(SUFFIXES);
        let section = self.word(SECTIONS);
        let number = self.made;
        self.made += 1;
        let size = self.size();
        let (major, minor, revision) = (self.random.below(12), self.random.below(30), 1 + self.random.below(9));
        let mut record = format!(
            "Package: {subject}-{role}{number}{suffix}\nVersion: {major}.{minor}-{revision}\nInstalled-Size: {}\n\
             Maintainer: Maintainers of {subject} <{subject}@packages.example>\nArchitecture: all\nSection: {section}\n\
             Priority: optional\nSize: {size}\nDescription: {quality} {subject} {role}\n",
            size / 300
        );
        for _ in 0..self.random.below(4) {
            let (other, purpose) = (self.word(SUBJECTS), self.word(ROLES));
            record.push_str(&format!(" It works with every {other} {purpose} and keeps a {subject} in order.\n"));
        }
        record.push('\n');
        Some(record)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::fs;

    use super::{GENERATED_SEED, Generator, Source, find_or_generate};
    use crate::storage::rfc822;

    #[test]
    fn a_seed_makes_the_same_sound_records_with_keys_of_their_own() {
        let records: Vec<String> = Generator::new(GENERATED_SEED).take(2000).collect();
        assert_eq!(records, Generator::new(GENERATED_SEED).take(2000).collect::<Vec<_>>());
        assert_ne!(records, Generator::new(GENERATED_SEED + 1).take(2000).collect::<Vec<_>>());
        let mut keys = HashSet::new();
        for record in &records {
            let mut names = Vec::new();
            rfc822::fields(record.trim_end().as_bytes(), 1, |name, raw, _| {
                names.push(name.to_owned());
                if name == "Package" {
                    keys.insert(rfc822::text(raw));
                }
                Ok(())
            })
            .expect("a sound record");
            assert!(
                ["Package", "Version", "Section", "Size", "Description"]
                    .iter()
                    .all(|name| names.contains(&(*name).to_owned()))
            );
        }
        assert_eq!(keys.len(), records.len());
    }

    #[test]
    fn a_file_that_is_there_is_kept() {
        let path = std::env::temp_dir().join(format!("twintier-supplier-{}", std::process::id()));
        fs::write(&path, "Package: a\n\nPackage: b\n").expect("a temporary file");
        assert_eq!(find_or_generate(&path, 1, 10).expect("found"), Source::Existing(2));
        fs::remove_file(&path).expect("removed");
        let source = find_or_generate(&path, 1, 1500).expect("made");
        let lines =
            fs::read_to_string(&path).expect("text").lines().filter(|line| line.starts_with("Package:")).count();
        fs::remove_file(&path).expect("removed");
        match source {
            Source::PackageIndex(records) | Source::Generated(records) => assert_eq!(u64::try_from(lines), Ok(records)),
            Source::Existing(_) => panic!("it was not there"),
        }
    }
}
