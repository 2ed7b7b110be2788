//! Notices that files have changed, by looking. Looking works on every file system, also where notifications get
//! lost, and its price is known: one `stat` for each file and look.

use std::collections::BTreeSet;
use std::fs::{self, Metadata};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::{DEPTH_MAX, is_hidden};

/// Files and folders with what they looked like last time. A folder stands for everything in it.
#[derive(Clone, Debug, Default)]
pub struct Watch {
    seen: Vec<(PathBuf, blake3::Hash)>,
}

impl Watch {
    /// Takes the first look. Paths that do not exist yet may be watched: their coming is a change. Blocks.
    pub fn new(paths: impl IntoIterator<Item = PathBuf>) -> Self {
        let paths: BTreeSet<PathBuf> = paths.into_iter().collect();
        Self {
            seen: paths
                .into_iter()
                .map(|path| {
                    let state = state(&path);
                    (path, state)
                })
                .collect(),
        }
    }

    /// Which of the watched paths differ from the last look, in their order. A file that is being written changes
    /// several times, and is named each time. Blocks.
    pub fn changed(&mut self) -> Vec<PathBuf> {
        let mut changed = Vec::new();
        for (path, before) in &mut self.seen {
            let now = state(path);
            if now != *before {
                *before = now;
                changed.push(path.clone());
            }
        }
        changed
    }

    /// Sorted, each once.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.seen.iter().map(|(path, _)| path.as_path())
    }
}

/// A hash over time, length and inode of the file, or of every file below the folder. The inode shows an editor that
/// writes a new file and renames it over the old one within the clock's resolution.
fn state(path: &Path) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new();
    look(path, &mut hasher, 0);
    hasher.finalize()
}

fn look(path: &Path, hasher: &mut blake3::Hasher, depth: usize) {
    // Follows links to files, as loading does.
    let Ok(metadata) = fs::metadata(path) else {
        hasher.update(b"absent");
        return;
    };
    let own = path.as_os_str().as_bytes();
    hasher.update(&own.len().to_le_bytes());
    hasher.update(own);
    if !metadata.is_dir() {
        file(&metadata, hasher);
        return;
    }
    let is_link = depth > 0 && path.is_symlink();
    if depth > DEPTH_MAX || is_link {
        return;
    }
    let Ok(entries) = fs::read_dir(path) else { return };
    let visible = |entry: &fs::DirEntry| !entry.file_name().to_str().is_some_and(is_hidden);
    let mut below: Vec<PathBuf> = entries.flatten().filter(visible).map(|entry| entry.path()).collect();
    // The order of a folder is not its content.
    below.sort_unstable();
    for path in below {
        look(&path, hasher, depth + 1);
    }
}

fn file(metadata: &Metadata, hasher: &mut blake3::Hasher) {
    hasher.update(&metadata.mtime().to_le_bytes());
    hasher.update(&metadata.mtime_nsec().to_le_bytes());
    hasher.update(&metadata.len().to_le_bytes());
    hasher.update(&metadata.ino().to_le_bytes());
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::Watch;
    use crate::storage::files::tests::Folder;

    #[test]
    fn names_what_changed_once() {
        let folder = Folder::new();
        let file = folder.write("routes.statements", "a");
        let tree = folder.0.join("static");
        folder.write("static/deep/er/x.css", "a");
        let later = folder.0.join("later");
        let mut watch = Watch::new([file.clone(), tree.clone(), later.clone(), file.clone()]);
        assert_eq!(watch.paths().count(), 3);
        assert!(watch.changed().is_empty());

        folder.write("routes.statements", "longer");
        assert_eq!(watch.changed(), std::slice::from_ref(&file));
        assert!(watch.changed().is_empty());

        folder.write("static/deep/er/x.css", "longer");
        folder.write("later", "");
        assert_eq!(watch.changed(), [later.clone(), tree.clone()]);

        folder.write("static/.x.css.swp", "hidden");
        assert!(watch.changed().is_empty());

        // The same length and time, but another file.
        let time = fs::metadata(&file).unwrap().modified().unwrap();
        let other = folder.write("other", "LONGER");
        fs::File::options().write(true).open(&other).unwrap().set_modified(time).unwrap();
        fs::rename(&other, &file).unwrap();
        assert_eq!(watch.changed(), [file]);

        fs::rename(tree.join("deep/er/x.css"), tree.join("deep/er/y.css")).unwrap();
        assert_eq!(watch.changed(), std::slice::from_ref(&tree));
        fs::remove_dir_all(&tree).unwrap();
        fs::remove_file(&later).unwrap();
        assert_eq!(watch.changed(), [later, tree]);
        assert!(watch.changed().is_empty());
    }
}
