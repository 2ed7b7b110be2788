//! Bad input: each mistake is refused before anything starts, with its place and its cure, word for word.

use std::net::TcpListener;

use crate::snapshot::{assert_text, ended};
use crate::support::appliance::Setup;
use crate::support::program::{Program, run, twintier};

/// What `check` and `serve` say to a profile that was spoilt; both must say the same and exit with 2.
#[track_caller]
fn refused(name: &str, setup: &Setup) {
    let checked = run(&mut setup.command("check"));
    let served = run(&mut setup.command("serve"));
    assert_eq!((checked.code, served.code), (Some(2), Some(2)), "{name}: {checked:?} {served:?}");
    assert_eq!(checked.stderr, served.stderr, "{name}");
    assert_eq!(served.stdout, "", "{name}");
    assert_text(name, &setup.folder.neutral(&ended(&served)));
}

#[track_caller]
fn spoilt(name: &str, file: &str, from: &str, to: &str) {
    let setup = Setup::shipped();
    setup.folder.edit(file, from, to);
    refused(name, &setup);
}

#[test]
fn profiles() {
    spoilt("profile-unknown-key", "quickstart.toml", "placement =", "placment =");
    spoilt("profile-wrong-kind", "quickstart.toml", "memory_mb = 1024", "memory_mb = \"much\"");
    spoilt("profile-no-toml", "quickstart.toml", "[listen]", "[listen");
    refused("profile-wrong-address", &Setup::shipped().set("backends.suppliers", "at home"));
    spoilt("profile-wrong-policy", "quickstart.toml", "[storage]", "[dispatch]\npolicy = \"best\"\n\n[storage]");
    spoilt("profile-no-statements", "quickstart.toml", "site.statements", "nowhere.statements");
    spoilt("profile-wrong-application-name", "quickstart.toml", "name = \"directory\"", "name = \"phonebook\"");
    spoilt("profile-no-code", "quickstart.toml", "code = \"directory/code\"", "code = \"directory/cod\"");
    let missing = run(twintier().args(["serve", "--profile", "profiles/slow-start.toml"]));
    assert_text("profile-missing", &ended(&missing));
    refused("profile-open-admin", &Setup::shipped().set("listen.admin", "0.0.0.0:0"));
    refused("profile-setting", &Setup::shipped().set("timeouts.head_seconds", "3"));
    refused("profile-one-replica", &Setup::shipped().set("cluster.replicas", "1"));
}

#[test]
fn settings() {
    for (name, setting) in [("setting-no-value", "listen.http"), ("setting-no-section", "http=127.0.0.1:0")] {
        let wrong = run(twintier().args(["serve", "--profile", "profiles/quickstart.toml", "--set", setting]));
        assert_eq!(wrong.code, Some(2), "{wrong:?}");
        assert_text(name, &ended(&wrong));
    }
}

#[test]
fn statements() {
    for (name, statement) in [
        ("statement-unknown-word", "pas /x/* files reqcat/static"),
        ("statement-unknown-target", "proxy /x/* clusters reqcat"),
        ("statement-unknown-application", "proxy /x/* cluster reqcats"),
        ("statement-no-folder", "pass /x/* files reqcat/stat"),
        ("statement-wrong-upstream", "proxy /x/* upstream localhost"),
        ("statement-wrong-status", "redirect /x/ /y/ 200"),
        ("statement-no-path", "fail x 404"),
        ("statement-too-short", "proxy /x/*"),
    ] {
        let setup = Setup::shipped().statements(statement);
        refused(name, &setup);
    }
}

#[test]
fn code_tables() {
    spoilt("code-unknown-key", "reqcat/code/views/item.toml", "title = \"Item\"", "titel = \"Item\"");
    spoilt("code-unknown-table", "reqcat/code/views/item.toml", "table = \"item\"", "table = \"itm\"");
    spoilt("code-no-template", "reqcat/code/views/item.toml", "item.html", "itm.html");
    spoilt(
        "code-wrong-expression",
        "reqcat/code/actions/requisition-submit.toml",
        "row.state == 'draft' and",
        "row.state == 'draft' und",
    );
    spoilt("code-wrong-template", "reqcat/code/templates/item.html", "{% endblock %}", "{% endblok %}");
    spoilt("code-wrong-verb", "reqcat/code/authority.toml", "verbs = [\"read\"]", "verbs = [\"look\"]");
    spoilt("code-wrong-authority", "reqcat/code/authority.toml", "views/browse", "views/brows");
    spoilt(
        "code-unknown-field",
        "reqcat/code/actions/requisition-draft.toml",
        "owner = \"user.name\"",
        "ower = \"user.name\"",
    );
    let setup = Setup::shipped();
    std::fs::remove_file(setup.folder.path("reqcat/code/authority.toml")).unwrap();
    refused("code-no-authority", &setup);
}

#[test]
fn ports_in_use() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for (name, key) in [("port-http-in-use", "listen.http"), ("port-admin-in-use", "listen.admin")] {
        let setup = Setup::shipped().set(key, &address);
        let failed = run(&mut setup.command("serve"));
        assert_eq!(failed.code, Some(1), "{failed:?}");
        assert_text(name, &setup.folder.neutral(&ended(&failed)).replace(&address, "ADDRESS"));
    }
    for command in [&["proxy", "--to", "127.0.0.1:1"][..], &["origin"], &["forward", "--to", "127.0.0.1:1"]] {
        let failed = run(twintier().args(command).args(["--listen", &address]));
        assert_eq!(failed.code, Some(1), "{failed:?}");
        assert_text(&format!("port-{}-in-use", command[0]), &ended(&failed).replace(&address, "ADDRESS"));
    }
}

#[test]
fn databases() {
    // Locked by another process.
    let setup = Setup::shipped();
    let mut first = Program::start(&mut setup.command("serve"));
    first.ready("http");
    let second = run(&mut setup.command("serve"));
    assert!(second.code.is_some_and(|code| code == 1 || code == 2), "{second:?}");
    let process = format!("process {}", first.id());
    assert_text("database-locked", &setup.folder.neutral(&ended(&second)).replace(&process, "process NUMBER"));
    first.kill();

    // No database at all.
    setup.folder.write(
        "data.duckdb",
        "this is a text file, and long enough to be taken for a header of something else.\n".repeat(100),
    );
    let wrong = run(&mut setup.command("serve"));
    assert_text("database-no-database", &setup.folder.neutral(&ended(&wrong)));

    // Written by another version of this program, or by another program.
    let file = setup.folder.path("other.duckdb");
    let setup = setup.set("database.path", &file.display().to_string());
    let mut program = Program::start(&mut setup.command("serve"));
    program.ready("http");
    program.signal("TERM");
    program.status();
    let store = duckdb::Connection::open(&file).unwrap();
    store.execute_batch("UPDATE setting SET value = '99' WHERE name = 'schema_version'").unwrap();
    drop(store);
    let other = run(&mut setup.command("serve"));
    assert_text("database-other-version", &setup.folder.neutral(&ended(&other)));
    std::fs::remove_file(&file).unwrap();
    let store = duckdb::Connection::open(&file).unwrap();
    store.execute_batch("CREATE TABLE invoices (number INTEGER)").unwrap();
    drop(store);
    let other = run(&mut setup.command("serve"));
    assert_text("database-other-program", &setup.folder.neutral(&ended(&other)));

    // A folder that cannot be one.
    let setup = setup.set("database.path", "/dev/null/x.duckdb");
    let wrong = run(&mut setup.command("serve"));
    assert_text("database-no-folder", &setup.folder.neutral(&ended(&wrong)));
}

#[test]
fn cores_that_are_not_there() {
    let setup = Setup::shipped();
    let wrong = run(&mut setup.set("cluster.cores", "0,4095").command("serve"));
    assert_eq!(wrong.code, Some(2), "{wrong:?}");
    assert!(wrong.stderr.contains("[4095]") && wrong.stderr.contains("--set cluster.cores=auto"), "{wrong:?}");
    // The profile of a large machine, where the machine is not as large.
    if std::thread::available_parallelism().unwrap().get() < 16 {
        let wrong = run(twintier().args([
            "serve",
            "--profile",
            "profiles/bare-metal.toml",
            "--set",
            "listen.http=127.0.0.1:0",
        ]));
        assert_eq!(wrong.code, Some(2), "{wrong:?}");
        assert!(
            wrong.stderr.contains("run it with --set cluster.cores=auto --set cluster.placement=shared"),
            "{wrong:?}"
        );
    }
    let wrong = run(twintier().args(["origin", "--listen", "127.0.0.1:0", "--core", "4095"]));
    assert_eq!(wrong.code, Some(1), "{wrong:?}");
    assert!(wrong.stderr.contains("4095"), "{wrong:?}");
}

#[test]
fn a_supplier_file_with_wrong_records_loses_those_only() {
    let setup = Setup::shipped();
    let items = setup.folder.read("items.txt");
    setup.folder.write("items.txt", format!("Package: broken\n\nno field at all\n\n{items}"));
    let appliance = setup.start();
    let import = appliance.status()["storage"]["imports"][0].clone();
    assert_eq!(
        (&import["read"], &import["taken"], &import["rejected"]),
        (&62.into(), &60.into(), &2.into()),
        "{import}"
    );
    let rejections = import["rejections"].to_string();
    assert!(rejections.contains("Version") && rejections.contains('3'), "{rejections}");
}
