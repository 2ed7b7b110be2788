//! The files of applications: read from folders, or sent by a deploy.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::error::Fault;

use super::CodeSource;
use super::source::Source;

/// Bytes of one code table.
const SOURCE_BYTES_MAX: u64 = 1024 * 1024;
/// Folders below a code folder: `views/browse.toml` has one.
const FOLDER_DEPTH_MAX: usize = 4;

/// The files of one application.
pub(super) struct Package {
    /// Shown in faults of files that are missing.
    pub folder: PathBuf,
    /// As a deploy names it; `application.toml` must say the same.
    pub name: Option<String>,
    pub sources: Vec<Source>,
}

/// The texts of a deploy by application.
pub(super) fn packages(sources: &[CodeSource]) -> Vec<Package> {
    let mut packages: BTreeMap<&str, Package> = BTreeMap::new();
    for source in sources {
        let name = &*source.application;
        let package = packages.entry(name).or_insert_with(|| Package {
            folder: PathBuf::from(name),
            name: Some(name.to_owned()),
            sources: Vec::new(),
        });
        package.sources.push(Source {
            file: Path::new(name).join(&*source.path),
            path: source.path.clone(),
            text: source.text.clone(),
        });
    }
    packages.into_values().collect()
}

/// All files of a code folder; what cannot be read is a fault.
pub(super) fn read_folder(folder: &Path, faults: &mut Vec<Fault>) -> Package {
    let mut package = Package { folder: folder.to_path_buf(), name: None, sources: Vec::new() };
    read_below(folder, "", 0, &mut package.sources, faults);
    package
}

fn read_below(folder: &Path, prefix: &str, depth: usize, sources: &mut Vec<Source>, faults: &mut Vec<Fault>) {
    let cannot = |path: &Path, error: &std::io::Error| {
        Fault::new(path, 1, 1, format!("cannot be read: {error}"), "name a folder of code tables that may be read")
    };
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) => return faults.push(cannot(folder, &error)),
    };
    let mut paths: Vec<PathBuf> = entries.filter_map(|entry| entry.ok().map(|entry| entry.path())).collect();
    paths.sort();
    for path in paths {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        // Editors leave hidden files and backups behind.
        if name.starts_with('.') || name.ends_with('~') {
            continue;
        }
        let below = format!("{prefix}{name}");
        let metadata = match fs::metadata(&path) {
            Ok(metadata) => metadata,
            Err(error) => {
                faults.push(cannot(&path, &error));
                continue;
            }
        };
        if metadata.is_dir() && depth < FOLDER_DEPTH_MAX {
            read_below(&path, &format!("{below}/"), depth + 1, sources, faults);
        } else if metadata.len() > SOURCE_BYTES_MAX {
            let wrong = format!("the file has {} bytes", metadata.len());
            faults.push(Fault::new(&path, 1, 1, wrong, format!("a code table has at most {SOURCE_BYTES_MAX}")));
        } else {
            match fs::read_to_string(&path) {
                Ok(text) => sources.push(Source { file: path, path: below.into(), text: text.into() }),
                Err(error) => faults.push(cannot(&path, &error)),
            }
        }
    }
}
