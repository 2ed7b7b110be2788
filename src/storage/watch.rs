//! Watches statement files and folders of static objects and announces those that changed.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::executor;
use super::files::Watch;
use super::work::{Shared, count};

/// Takes the path of a changed file or folder; called on the storage thread, must not block.
pub type Notify = Arc<dyn Fn(PathBuf) + Send + Sync>;

/// Looks at the files every `interval` until the task is dropped. A file that is gone is no change: editors and deploy
/// tools remove a file for a moment before they put the new one in place.
pub(super) async fn run(shared: &Shared, mut watch: Watch, interval: Duration, notify: Notify) {
    loop {
        executor::sleep(interval).await;
        for path in watch.changed().into_iter().filter(|path| path.exists()) {
            count(&shared.counters.files_changed);
            notify(path);
        }
    }
}
