//! A file system of a few MiB in a mount namespace of its own: it exists for those who enter, and goes with them.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::eventually;
use super::program::Program;

pub struct SmallDisk {
    /// Keeps the namespace; its root is the way in from outside.
    keeper: Program,
    with_users: bool,
}

impl SmallDisk {
    /// Mounts it over `folder`, which is made; `None` where this is not permitted.
    pub fn mount(folder: &Path, mib: u32) -> Option<Self> {
        std::fs::create_dir_all(folder).unwrap();
        // Root needs a namespace of mounts, others also one of users in which they are root.
        [false, true].into_iter().find_map(|with_users| {
            let script =
                format!("mount -t tmpfs -o size={mib}m tmpfs '{}' && echo mounted && exec cat", folder.display());
            let mut keep = Command::new("unshare");
            keep.args(if with_users { &["-U", "-r", "-m"][..] } else { &["-m"] }).args(["sh", "-c", &script]);
            // It ends when this process does: the other end of its input is closed then.
            keep.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
            let mut keeper = Program::try_start(&mut keep)?;
            eventually("the small file system, or why not", || {
                if keeper.stdout().contains("mounted") {
                    return Some(true);
                }
                (!keeper.is_running()).then_some(false)
            })
            .then_some(Self { keeper, with_users })
        })
    }

    /// The words before a command that is to run where the file system is mounted.
    pub fn enter(&self) -> Vec<String> {
        let mut words: Vec<String> = ["nsenter", "-m", "-t"].map(String::from).to_vec();
        words.push(self.keeper.id().to_string());
        if self.with_users {
            words.extend(["-U", "--preserve-credentials"].map(String::from));
        }
        words
    }

    /// A path on it, as it is reached from outside.
    pub fn outside(&self, path: &Path) -> PathBuf {
        Path::new(&format!("/proc/{}/root", self.keeper.id())).join(path.strip_prefix("/").unwrap())
    }
}
