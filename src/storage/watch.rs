//! Watches a handful of files (statements, code tables) and announces those that changed.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::work::{Shared, count};

/// Takes the path of a changed file; called on the storage thread, must not block.
pub type Notify = Arc<dyn Fn(PathBuf) + Send + Sync>;

/// What tells one version of a file from another without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Version {
    modified: SystemTime,
    bytes: u64,
}

/// Looks at the files every `interval` until the task is dropped.
pub(super) async fn run(shared: &Shared, mut files: Vec<Watched>, interval: Duration, notify: Notify) {
    loop {
        glommio::timer::sleep(interval).await;
        for file in &mut files {
            if file.look() {
                count(&shared.counters.files_changed);
                notify(file.path.clone());
            }
        }
    }
}

/// One watched file.
#[derive(Debug)]
pub(super) struct Watched {
    path: PathBuf,
    /// The version last seen; `None` if it was never there.
    known: Option<Version>,
}

impl Watched {
    pub fn new(path: PathBuf) -> Self {
        let known = version(&path);
        Self { path, known }
    }

    /// Whether the file is another one than before. A file that is gone is no change: editors and deploy tools remove
    /// a file for a moment before they put the new one in place.
    fn look(&mut self) -> bool {
        let Some(now) = version(&self.path) else { return false };
        self.known.replace(now) != Some(now)
    }
}

/// One `stat`, which for a handful of files in the page cache is cheaper than a trip to another thread.
fn version(path: &Path) -> Option<Version> {
    let metadata = std::fs::metadata(path).ok()?;
    Some(Version { modified: metadata.modified().ok()?, bytes: metadata.len() })
}
