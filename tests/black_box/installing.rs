//! `scripts/install.sh`: what it installs runs from where it is, is known to shells, and goes again.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::program::{run, twintier};
use crate::support::site::Folder;

fn script(order: &str, root: &Path) {
    let built = Path::new(env!("CARGO_BIN_EXE_twintier")).parent().unwrap();
    let mut command = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/install.sh"));
    // The other programs need not be built for this test.
    command.arg(order).env("DESTDIR", root).env("PREFIX", "/opt/t").env("BUILT", built).env("PROGRAMS", "twintier");
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { files(&path, found) } else { found.push(path) }
    }
}

#[test]
fn what_is_installed_runs_and_goes_again() {
    let folder = Folder::new();
    let root = folder.path("root");
    fs::create_dir_all(&root).unwrap();
    script("install", &root);
    let prefix = root.join("opt/t");
    let mut program = Command::new(prefix.join("bin/twintier"));
    let site = folder.path("site");
    assert!(program.arg("init").arg(&site).output().unwrap().status.success());
    let mut check = Command::new(prefix.join("bin/twintier"));
    // A relative profile, from another working directory than the sources'.
    let checked = check.current_dir(&site).args(["check", "--profile", "twintier.toml"]).output().unwrap();
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
    let unit = fs::read_to_string(prefix.join("lib/systemd/system/twintier.service")).unwrap();
    assert!(unit.contains("ExecStart=/opt/t/bin/twintier serve") && !unit.contains("/usr/local"), "{unit}");
    for file in ["share/man/man1/twintier.1", "share/man/man1/twintier-serve.1", "share/zsh/site-functions/_twintier"] {
        assert!(prefix.join(file).is_file(), "{file}");
    }
    script("uninstall", &root);
    let mut left = Vec::new();
    files(&root, &mut left);
    assert!(left.is_empty(), "this stays: {left:?}");
}

/// A real shell completes by it.
#[test]
fn bash_completes_commands_and_options() {
    let folder = Folder::new();
    let text = run(twintier().args(["completions", "bash"])).stdout;
    folder.write("twintier.bash", text);
    let complete = |line: &str| {
        let words: Vec<&str> = line.split(' ').collect();
        let script = format!(
            "source '{}'; COMP_WORDS=({line}); COMP_CWORD={}; [ -n '{last}' ] || COMP_WORDS+=(''); \
             _twintier twintier '{last}' '{before}'; printf '%s\\n' \"${{COMPREPLY[@]}}\"",
            folder.path("twintier.bash").display(),
            words.len() - 1,
            last = words[words.len() - 1],
            before = words[words.len() - 2],
        );
        let output = Command::new("bash").args(["--norc", "-c", &script]).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(complete("twintier dep"), ["deploy"]);
    assert_eq!(complete("twintier serve --pro"), ["--profile"]);
    assert!(complete("twintier ").contains(&"simulate".to_owned()));
}
