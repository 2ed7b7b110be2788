//! A file that grows by whole pieces: what does not fit any more leaves no torn line behind.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Collects what is written; a flush appends all of it to the file or nothing.
#[derive(Debug)]
pub struct Appending {
    file: File,
    path: PathBuf,
    piece: Vec<u8>,
    /// Bytes of the file that are whole pieces.
    whole_bytes: u64,
}

impl Appending {
    /// Makes the file, or empties it.
    ///
    /// # Errors
    /// What the file system says, with the path.
    pub fn create(path: &Path) -> io::Result<Self> {
        let file = File::create(path).map_err(|error| told(path, &error))?;
        Ok(Self { file, path: path.to_owned(), piece: Vec::new(), whole_bytes: 0 })
    }
}

impl Write for Appending {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.piece.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let written = self.file.write_all(&self.piece);
        let bytes = self.piece.len() as u64;
        self.piece.clear();
        match written {
            Ok(()) => {
                self.whole_bytes += bytes;
                Ok(())
            }
            Err(error) => {
                // If even this fails, the reader finds a torn last line; the first error is the one to tell.
                let _ = self.file.set_len(self.whole_bytes);
                Err(told(&self.path, &error))
            }
        }
    }
}

/// An error with its place, and with its cure where there is one.
pub fn told(path: &Path, error: &io::Error) -> io::Error {
    let cure = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "; free some space or give another --out",
        io::ErrorKind::FileTooLarge => "; raise `ulimit -f` or give another --out",
        _ => "",
    };
    io::Error::new(error.kind(), format!("{}: {error}{cure}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::io::{self, Write};

    use super::Appending;

    #[test]
    fn only_what_was_flushed_is_in_the_file() {
        let path = std::env::temp_dir().join(format!("loadgen-appending-{}", std::process::id()));
        let mut file = Appending::create(&path).unwrap();
        file.write_all(b"one\n").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"");
        file.flush().unwrap();
        file.write_all(b"torn").unwrap();
        drop(file);
        assert_eq!(std::fs::read(&path).unwrap(), b"one\n");
        std::fs::remove_file(&path).unwrap();
    }

    /// The device that is always full.
    #[test]
    fn a_full_disk_is_named_with_its_cure() {
        let mut file = Appending::create("/dev/full".as_ref()).unwrap();
        file.write_all(b"x").unwrap();
        let error = file.flush().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        assert!(
            error.to_string().starts_with("/dev/full: ") && error.to_string().contains("free some space"),
            "{error}"
        );
    }
}
