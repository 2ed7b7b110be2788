//! Whether standard error leads to the journal of systemd, which has a time of its own and wants a priority.

use std::fs::File;
use std::os::fd::AsFd as _;
use std::os::unix::fs::MetadataExt as _;

/// `JOURNAL_STREAM` names device and inode of the journal's socket (systemd.exec(5)); a program whose standard error was
/// led elsewhere since has another one.
pub(super) fn is_journal() -> bool {
    let named = std::env::var("JOURNAL_STREAM").unwrap_or_default();
    let Ok(own) = std::io::stderr().as_fd().try_clone_to_owned().map(File::from).and_then(|file| file.metadata())
    else {
        return false;
    };
    is_named(&named, own.dev(), own.ino())
}

fn is_named(stream: &str, device: u64, inode: u64) -> bool {
    stream.split_once(':').is_some_and(|(left, right)| left.parse() == Ok(device) && right.parse() == Ok(inode))
}

#[cfg(test)]
mod tests {
    use super::is_named;

    #[test]
    fn the_stream_is_known_by_device_and_inode() {
        assert!(is_named("8:12345", 8, 12345));
        for other in ["8:12346", "9:12345", "", "8", "8:x"] {
            assert!(!is_named(other, 8, 12345), "{other}");
        }
    }
}
