//! The help texts of `twintier` and its commands.

use crate::snapshot::assert_text;
use crate::support::program::{run, twintier};

#[test]
fn help_texts() {
    let mut text = String::new();
    for command in [
        "",
        "serve",
        "check",
        "claim",
        "deploy",
        "proxy",
        "origin",
        "forward",
        "db migrate",
        "init",
        "completions",
        "man",
    ] {
        let mut program = twintier();
        program.args(command.split_whitespace());
        let help = run(program.arg("--help"));
        assert_eq!((help.code, help.stderr.as_str()), (Some(0), ""), "{command}");
        text.push_str(
            &format!("$ twintier {command} --help\n{}\n", help.stdout).replace("twintier  --help", "twintier --help"),
        );
    }
    assert_text("help", &text);
}

#[test]
fn bad_usage_exits_2() {
    for arguments in [
        &["surf"][..],
        &["serve"],
        &["serve", "--profil", "x"],
        &["proxy", "--listen", "here", "--to", "127.0.0.1:1"],
        &[],
    ] {
        let wrong = run(twintier().args(arguments));
        assert_eq!(wrong.code, Some(2), "{arguments:?} {wrong:?}");
        assert!(wrong.stderr.contains("Usage:") || wrong.stderr.contains("--help"), "{wrong:?}");
    }
    let version = run(twintier().arg("--version"));
    assert_eq!(version.stdout, format!("twintier {}\n", env!("CARGO_PKG_VERSION")));
}
