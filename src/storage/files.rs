//! The file server's static objects, kept in memory: a request costs a look-up and no system call.
//!
//! Architecture invariant: a path that a browser sends is a key here and never reaches the file system, so no
//! spelling of it can leave the folder.

pub mod plan;
pub mod watch;

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

pub use plan::{Plan, plan};
pub use watch::Watch;

use crate::error::Fault;
use crate::http1::encode::{self, DATE_BYTES};

/// Folders inside folders; deeper than any site, and a bound for the recursion.
const DEPTH_MAX: usize = 32;

/// What a folder of static objects may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ObjectLimits {
    /// Bytes of one object.
    pub object_bytes_max: u64,
    /// Bytes of all objects together.
    pub total_bytes_max: u64,
    pub object_count_max: usize,
}

impl Default for ObjectLimits {
    fn default() -> Self {
        Self { object_bytes_max: 16 << 20, total_bytes_max: 256 << 20, object_count_max: 10_000 }
    }
}

/// One file, ready to be sent.
#[derive(Clone, Debug)]
pub struct Object {
    pub bytes: Arc<[u8]>,
    pub content_type: &'static str,
    /// Strong (RFC 9110 section 8.8.3), with its quotes: a hash of the bytes.
    pub etag: Box<str>,
    /// Unix time in seconds.
    pub modified_s: u64,
    /// The same as an IMF-fixdate.
    pub last_modified: [u8; DATE_BYTES],
    /// The file was at least a second old when it was read, so that no other content can have the same date: only
    /// then may `If-Range` compare dates (RFC 9110 section 8.8.2.2).
    pub date_is_strong: bool,
}

/// The objects of one folder.
#[derive(Clone, Debug, Default)]
pub struct ObjectStore {
    /// By path below the folder, with a slash in front.
    objects: HashMap<Box<str>, Object>,
    total_bytes: u64,
}

impl ObjectStore {
    /// Reads a folder and everything below it, except names that begin with a dot (`.well-known` is read). Blocks.
    ///
    /// # Errors
    /// A [`Fault`] that names the file: unreadable, too large, no plain file, a link out of the folder or to a
    /// folder, a name that is no UTF-8.
    pub fn load(root: &Path, limits: &ObjectLimits) -> Result<Self, Fault> {
        let canonical = fs::canonicalize(root).map_err(|error| unreadable(root, &error))?;
        let mut store = Self::default();
        let mut loader = Loader { root: &canonical, limits, now: SystemTime::now(), store: &mut store };
        loader.folder(root, "", 0)?;
        Ok(store)
    }

    /// The object at this decoded path below the folder's mount; of a path that ends in `/`, its `index.html`.
    pub fn get(&self, path: &str) -> Option<&Object> {
        self.objects.get(path)
    }

    /// Paths and objects in no particular order. A folder's index appears under both of its paths.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Object)> {
        self.objects.iter().map(|(path, object)| (&**path, object))
    }

    /// Paths that answer.
    pub fn path_count(&self) -> usize {
        self.objects.len()
    }

    /// Bytes of all objects.
    pub fn total_bytes(&self) -> u64 {
        self.total_bytes
    }
}

struct Loader<'l> {
    /// Canonical.
    root: &'l Path,
    limits: &'l ObjectLimits,
    now: SystemTime,
    store: &'l mut ObjectStore,
}

impl Loader<'_> {
    fn folder(&mut self, folder: &Path, prefix: &str, depth: usize) -> Result<(), Fault> {
        if depth > DEPTH_MAX {
            return Err(Fault::new(
                folder,
                0,
                0,
                "folders are nested too deeply",
                format!("at most {DEPTH_MAX} are read"),
            ));
        }
        for entry in fs::read_dir(folder).map_err(|error| unreadable(folder, &error))? {
            let entry = entry.map_err(|error| unreadable(folder, &error))?;
            let path = entry.path();
            let name = entry.file_name();
            let Some(name) = name.to_str() else {
                return Err(Fault::new(&path, 0, 0, "the name is no UTF-8", "no address can name it: rename it"));
            };
            if is_hidden(name) {
                continue;
            }
            let kind = entry.file_type().map_err(|error| unreadable(&path, &error))?;
            let below = format!("{prefix}/{name}");
            if kind.is_dir() {
                self.folder(&path, &below, depth + 1)?;
            } else if kind.is_symlink() {
                let target = self.follow(&path)?;
                self.object(&target, &path, below)?;
            } else {
                self.object(&path, &path, below)?;
            }
        }
        Ok(())
    }

    /// Where a link leads: a plain file inside the folder, or nowhere that we go.
    fn follow(&self, link: &Path) -> Result<PathBuf, Fault> {
        let target = fs::canonicalize(link).map_err(|error| unreadable(link, &error))?;
        if !target.starts_with(self.root) {
            let wrong = format!("the link leads out of the folder, to {}", target.display());
            return Err(Fault::new(link, 0, 0, wrong, "put a copy in its place"));
        }
        if target.is_dir() {
            return Err(Fault::new(
                link,
                0,
                0,
                "the link leads to a folder",
                "links to files are followed, links to folders are not",
            ));
        }
        Ok(target)
    }

    /// Reads `file`; `named` is how the person who made the folder knows it.
    fn object(&mut self, file: &Path, named: &Path, below: String) -> Result<(), Fault> {
        let metadata = fs::metadata(file).map_err(|error| unreadable(named, &error))?;
        if !metadata.is_file() {
            // Opening a pipe would wait for its writer.
            return Err(Fault::new(named, 0, 0, "neither a file nor a folder", "only these can be served"));
        }
        let limit = self.limits.object_bytes_max;
        let mut bytes = Vec::new();
        let mut reader = File::open(file).map_err(|error| unreadable(named, &error))?.take(limit.saturating_add(1));
        reader.read_to_end(&mut bytes).map_err(|error| unreadable(named, &error))?;
        let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        if length > limit {
            return Err(Fault::new(
                named,
                0,
                0,
                format!("larger than {limit} bytes"),
                "raise the limit of static objects, or serve it from an upstream",
            ));
        }
        self.store.total_bytes += length;
        if self.store.total_bytes > self.limits.total_bytes_max
            || self.store.objects.len() >= self.limits.object_count_max
        {
            let ObjectLimits { total_bytes_max, object_count_max, .. } = self.limits;
            let wrong =
                format!("with it, the folder has more than {total_bytes_max} bytes or {object_count_max} paths");
            return Err(Fault::new(
                named,
                0,
                0,
                wrong,
                "raise the limit of static objects, or serve some from an upstream",
            ));
        }
        let object = self.describe(bytes, metadata.modified().unwrap_or(UNIX_EPOCH), &below);
        if let Some(folder) = below.strip_suffix("index.html").filter(|folder| folder.ends_with('/')) {
            self.store.objects.insert(folder.into(), object.clone());
        }
        self.store.objects.insert(below.into(), object);
        Ok(())
    }

    fn describe(&self, bytes: Vec<u8>, modified: SystemTime, path: &str) -> Object {
        // A date in the future would be a lie that caches believe (RFC 9110 section 8.8.2.1).
        let modified = modified.min(self.now);
        let modified_s = modified.duration_since(UNIX_EPOCH).map_or(0, |age| age.as_secs());
        Object {
            etag: format!("\"{}\"", &blake3::hash(&bytes).to_hex()[..32]).into(),
            content_type: content_type(path),
            modified_s,
            last_modified: encode::date(modified_s),
            date_is_strong: self.now.duration_since(modified).is_ok_and(|age| age.as_secs() >= 1),
            bytes: bytes.into(),
        }
    }
}

/// Editors, version control and passwords live behind dots; RFC 8615 has the one exception.
fn is_hidden(name: &str) -> bool {
    name.starts_with('.') && name != ".well-known"
}

fn unreadable(path: &Path, error: &io::Error) -> Fault {
    Fault::new(path, 0, 0, format!("cannot be read: {error}"), "check that it exists and that this user may read it")
}

/// The media type of a file name's extension. Text is UTF-8.
pub fn content_type(path: &str) -> &'static str {
    let extension = Path::new(path).extension().and_then(|extension| extension.to_str()).unwrap_or("");
    match extension.to_ascii_lowercase().as_str() {
        "html" | "htm" => "text/html; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "txt" | "text" => "text/plain; charset=utf-8",
        "md" => "text/markdown; charset=utf-8",
        "csv" => "text/csv; charset=utf-8",
        "json" | "map" => "application/json",
        "webmanifest" => "application/manifest+json",
        "xml" => "application/xml",
        "pdf" => "application/pdf",
        "wasm" => "application/wasm",
        "zip" => "application/zip",
        "gz" => "application/gzip",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        "gif" => "image/gif",
        "webp" => "image/webp",
        "avif" => "image/avif",
        "ico" => "image/vnd.microsoft.icon",
        "woff" => "font/woff",
        "woff2" => "font/woff2",
        "ttf" => "font/ttf",
        "otf" => "font/otf",
        "mp3" => "audio/mpeg",
        "mp4" => "video/mp4",
        "webm" => "video/webm",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::path::{Path, PathBuf};
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::{ObjectLimits, ObjectStore};

    /// A folder of its own that is gone when the test ends.
    pub struct Folder(pub PathBuf);

    impl Folder {
        pub fn new() -> Self {
            static COUNT: AtomicU32 = AtomicU32::new(0);
            let count = COUNT.fetch_add(1, Ordering::Relaxed);
            let path = std::env::temp_dir().join(format!("twintier-files-{}-{count}", std::process::id()));
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }

        pub fn write(&self, name: &str, text: &str) -> PathBuf {
            let path = self.0.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, text).unwrap();
            path
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn fault(folder: &Path, limits: &ObjectLimits) -> String {
        ObjectStore::load(folder, limits).unwrap_err().wrong
    }

    #[test]
    fn loads_a_tree() {
        let folder = Folder::new();
        folder.write("a/b.CSS", "x");
        folder.write("a/index.html", "<p>");
        folder.write(".git/config", "secret");
        folder.write(".well-known/security.txt", "mail");
        symlink(folder.0.join("a/b.CSS"), folder.0.join("link.css")).unwrap();
        let store = ObjectStore::load(&folder.0, &ObjectLimits::default()).unwrap();
        let mut paths: Vec<&str> = store.iter().map(|(path, _)| path).collect();
        paths.sort_unstable();
        assert_eq!(paths, ["/.well-known/security.txt", "/a/", "/a/b.CSS", "/a/index.html", "/link.css"]);
        assert_eq!((store.path_count(), store.total_bytes()), (5, 9));
        let object = store.get("/a/b.CSS").unwrap();
        assert_eq!((&*object.bytes, object.content_type), (&b"x"[..], "text/css; charset=utf-8"));
        assert_eq!(object.etag.len(), 34);
        assert_eq!(object.etag, store.get("/link.css").unwrap().etag);
        assert_ne!(object.etag, store.get("/a/").unwrap().etag);
        assert!(store.get("/a").is_none() && store.get("a/b.CSS").is_none() && store.get("/a/../a/b.CSS").is_none());
    }

    #[test]
    fn refuses_what_it_must_not_serve() {
        let limits = ObjectLimits { object_bytes_max: 4, total_bytes_max: 6, object_count_max: 3 };
        let folder = Folder::new();
        assert!(fault(&folder.0.join("nothing"), &limits).starts_with("cannot be read"));
        symlink("/etc/hostname", folder.0.join("out")).unwrap();
        assert!(fault(&folder.0, &limits).starts_with("the link leads out of the folder"));
        fs::remove_file(folder.0.join("out")).unwrap();
        symlink(".", folder.0.join("round")).unwrap();
        assert_eq!(fault(&folder.0, &limits), "the link leads to a folder");
        fs::remove_file(folder.0.join("round")).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(folder.0.join("socket")).unwrap();
        assert_eq!(fault(&folder.0, &limits), "neither a file nor a folder");
        fs::remove_file(folder.0.join("socket")).unwrap();
        folder.write("a", "12345");
        assert_eq!(fault(&folder.0, &limits), "larger than 4 bytes");
        folder.write("a", "1234");
        assert!(ObjectStore::load(&folder.0, &limits).is_ok());
        folder.write("b", "123");
        assert_eq!(fault(&folder.0, &limits), "with it, the folder has more than 6 bytes or 3 paths");
    }
}
