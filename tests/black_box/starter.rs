//! `twintier init`: the site that it writes is sound, works from the first start, and is never written over another.

use crate::support::browser::Browser;
use crate::support::program::{Program, run, twintier};
use crate::support::site::Folder;

#[test]
fn a_new_site_is_sound_and_works() {
    let folder = Folder::new();
    let site = folder.path("my-site");
    let written = run(twintier().arg("init").arg(&site));
    assert_eq!(written.code, Some(0), "{written:?}");
    assert!(written.stdout.contains("twintier serve --profile twintier.toml"), "{}", written.stdout);

    // From inside the directory, as the text says.
    let mut serve = twintier();
    serve.current_dir(&site).args(["serve", "--profile", "twintier.toml"]);
    serve.args(["--set", "listen.http=127.0.0.1:0", "--set", "listen.admin=127.0.0.1:0"]);
    let mut program = Program::start(&mut serve);
    let http = program.ready("http").parse().unwrap();
    let admin = program.ready("admin");

    let mut writer = Browser::visitor(http);
    assert_eq!(writer.page("/").location(), "/notes/");
    assert_eq!(writer.page("/static/style.css").status, 200);
    assert!(writer.page("/notes/").text().contains("No notes yet."));
    // Only authors write.
    assert_eq!(writer.page("/notes/write").status, 303);
    assert_eq!(writer.page("/notes/sign-in").status, 200);
    assert_eq!(writer.post("/notes/sign-in", &[("user", "writer"), ("password", "writer-password")]).status, 303);
    assert_eq!(writer.page("/notes/write").status, 200);
    let wrong = writer.post("/notes/write", &[("title", ""), ("text", "kept")]);
    assert!(wrong.status == 422 && wrong.text().contains("kept"), "{}", wrong.text());
    let saved = writer.post("/notes/write", &[("title", "Buy <tea>"), ("text", "green")]);
    assert_eq!(saved.status, 303, "{}", saved.text());
    assert!(writer.page(saved.location()).text().contains("<h1>Buy &lt;tea&gt;</h1>"));
    assert_eq!(writer.data("/notes/?words=tea").json()["total"], 1);

    // A change of the code tables, published as the text says.
    let template = site.join("notes/code/templates/start.html");
    let text = std::fs::read_to_string(&template).unwrap();
    std::fs::write(&template, text.replace("<h1>Notes</h1>", "<h1>My notes</h1>")).unwrap();
    let deployed = run(twintier().current_dir(&site).args(["deploy", "--admin", &admin, "notes/code"]));
    assert_eq!(deployed.code, Some(0), "{deployed:?}");
    assert!(writer.page("/notes/").text().contains("<h1>My notes</h1>"));

    program.signal("TERM");
    assert!(program.status().success());
}

#[test]
fn a_file_that_is_there_stays() {
    let folder = Folder::new();
    folder.write("site.statements", "mine");
    let refused = run(twintier().arg("init").arg(folder.path("")));
    assert_eq!(refused.code, Some(2), "{refused:?}");
    assert!(refused.stderr.contains("site.statements is there already, and nothing was written"), "{}", refused.stderr);
    assert_eq!(folder.read("site.statements"), "mine");
    assert!(!folder.path("twintier.toml").exists());
}

#[test]
fn completions_and_manual_pages_know_every_command() {
    let folder = Folder::new();
    let help = run(twintier().arg("--help")).stdout;
    let commands: Vec<&str> = help
        .lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1)
        .map_while(|line| line.strip_prefix("  ")?.split_whitespace().next())
        .collect();
    assert!(commands.len() > 8, "{help}");
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let text = run(twintier().args(["completions", shell])).stdout;
        assert!(commands.iter().all(|command| text.contains(command)), "{shell}");
    }
    assert_eq!(run(twintier().arg("man").arg(folder.path("man1"))).code, Some(0));
    for command in commands {
        let page = folder.read(&format!("man1/twintier-{command}.1"));
        assert!(page.contains(".SH SYNOPSIS"), "{page}");
    }
}
