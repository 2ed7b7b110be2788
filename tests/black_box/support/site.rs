//! A folder of its own for every test: the shipped profiles, a small supplier file, a database.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// Items of the supplier's file.
pub const ITEMS: u64 = 60;
/// Items of it that the word `compiler` finds.
pub const COMPILERS: u64 = 20;

/// A folder that is removed when it is dropped.
#[derive(Debug)]
pub struct Folder(PathBuf);

impl Folder {
    /// A fresh, empty folder. Its path is short enough for Unix sockets.
    pub fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("twintier-bb-{}-{number}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub fn write(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    }

    /// Replaces a file in one step, as editors do.
    pub fn replace(&self, name: &str, text: impl AsRef<[u8]>) {
        let unfinished = self.write(&format!("{name}.new"), text);
        fs::rename(unfinished, self.path(name)).unwrap();
    }

    pub fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    /// Replaces `from`, which must be there, by `to` in a file.
    pub fn edit(&self, name: &str, from: &str, to: &str) {
        let text = self.read(name);
        assert!(text.contains(from), "`{from}` is not in {name}");
        self.replace(name, text.replacen(from, to, 1));
    }

    /// What a program says, with this folder's path taken out.
    pub fn neutral(&self, text: &str) -> String {
        text.replace(&format!("{}/", self.0.display()), "").replace(&self.0.display().to_string(), ".")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What is left behind is in the system's folder for such things.
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// The shipped profiles in a folder of their own, with `items.txt` for the catalog.
pub fn shipped() -> Folder {
    let folder = Folder::new();
    copy(&Path::new(env!("CARGO_MANIFEST_DIR")).join("profiles"), &folder.0);
    folder.write("items.txt", items());
    folder
}

/// The supplier's file: three sections in turn.
fn items() -> String {
    (0..ITEMS)
        .map(|number| {
            let (section, summary) = match number % 3 {
                0 => ("devel", "optimising compiler for machines"),
                1 => ("graphics", "viewer of <images> & \"films\""),
                _ => ("net", "tool that talks to other hosts"),
            };
            format!(
                "Package: item-{number:02}\nVersion: 1.{number}\nSection: {section}\nSize: {}\nMaintainer: Supplier {number} <s@example.com>\n\
                 Description: {summary}\nHomepage: https://example.com/{number}\n\n",
                1000 + number
            )
        })
        .collect()
}
