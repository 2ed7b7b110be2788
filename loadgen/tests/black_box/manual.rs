//! Completions and manual pages, made from the same definition as the help.

use crate::support::{Scratch, loadgen};

#[test]
fn completions_and_manual_pages_know_every_command() {
    let text = loadgen(&["completions", "bash"]);
    let text = String::from_utf8(text.stdout).unwrap();
    let folder = Scratch::new();
    let pages = folder.path().join("man1");
    assert!(loadgen(&["man", &folder.join("man1")]).status.success());
    for command in ["run", "browse", "max", "hold", "merge", "scenario", "plan", "schema", "completions", "man"] {
        assert!(text.contains(command) && pages.join(format!("loadgen-{command}.1")).is_file(), "{command}");
    }
}
