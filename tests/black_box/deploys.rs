//! Code tables replaced at run time.

use crate::support::appliance::{Appliance, Setup};
use crate::support::browser::Browser;
use crate::support::program::{Ended, run};
use crate::support::site::Folder;

fn deploy(appliance: &Appliance, folder: &Folder) -> Ended {
    run(appliance.ask("deploy").arg(folder.path("reqcat/code")))
}

/// What browsers on every front see on the catalog page.
fn pages(appliance: &Appliance) -> Vec<String> {
    (0..8).map(|_| Browser::visitor(appliance.http).page("/reqcat/").text()).collect()
}

#[test]
fn a_deploy_is_on_every_replica_when_it_returns_and_survives_kill_9() {
    let appliance = Setup::shipped().start();
    // What is deployed lies elsewhere than what the profile names.
    let next = crate::support::site::shipped();
    next.edit("reqcat/code/templates/browse.html", "<h1>", "<h1>Newest: ");
    next.edit("reqcat/code/templates/layout.html", "<footer>", "<footer>Replica {{ replica }}. ");

    let before = appliance.executed();
    let done = deploy(&appliance, &next);
    assert_eq!(done.code, Some(0), "{done:?}");
    assert!(done.stdout.contains("\"version\": 2"), "{done:?}");
    let seen = pages(&appliance);
    assert!(
        seen.iter().all(|page| page.contains("<h1>Newest: Catalog") && page.contains("Code version 2")),
        "{seen:?}"
    );
    assert!(
        (0..before.len()).all(|replica| seen.iter().any(|page| page.contains(&format!("Replica {replica}.")))),
        "{seen:?}"
    );
    let replication = appliance.settle();
    assert!(replication["replicas"].as_array().unwrap().iter().all(|replica| replica["code_version"] == 2));

    // A broken one changes nothing, and says where it is broken.
    next.edit("reqcat/code/templates/browse.html", "{% block main %}", "{% block main %}{% if %}");
    next.edit("reqcat/code/views/item.toml", "kind = \"row\"", "kind = \"raw\"");
    let refused = deploy(&appliance, &next);
    assert_eq!(refused.code, Some(2), "{refused:?}");
    assert!(refused.stderr.starts_with("the deploy was refused, nothing has changed:\n"), "{refused:?}");
    assert!(
        refused.stderr.contains("templates/browse.html:") && refused.stderr.contains("views/item.toml:2:8:"),
        "{refused:?}"
    );
    assert!(
        pages(&appliance).iter().all(|page| page.contains("<h1>Newest: Catalog") && page.contains("Code version 2"))
    );

    let appliance = appliance.kill_and_restart();
    let seen = pages(&appliance);
    assert!(
        seen.iter().all(|page| page.contains("<h1>Newest: Catalog") && page.contains("Code version 2")),
        "{seen:?}"
    );

    // The next deploy counts on.
    next.edit("reqcat/code/templates/browse.html", "{% if %}", "");
    next.edit("reqcat/code/views/item.toml", "kind = \"raw\"", "kind = \"row\"");
    assert_eq!(deploy(&appliance, &next).code, Some(0));
    assert!(pages(&appliance).iter().all(|page| page.contains("Code version 3")));
}

#[test]
fn a_deploy_may_add_fields_and_tables_and_take_rights_away() {
    let appliance = Setup::shipped().start();
    let mut alice = appliance.user("alice");
    let path = alice.draft("item-01", "1");
    let next = crate::support::site::shipped();
    let document = next.read("reqcat/code/documents/requisition.toml");
    next.write(
        "reqcat/code/documents/requisition.toml",
        format!("{document}\n[[fields]]\nname = \"urgency\"\nkind = \"integer\"\n"),
    );
    next.edit("reqcat/code/actions/requisition-draft.toml", "changed = \"now\"", "changed = \"now\"\nurgency = \"5\"");
    // Employees may no longer submit.
    next.edit(
        "reqcat/code/authority.toml",
        "[[allow]]\nrole = \"employee\"\ncode = \"actions/requisition-submit\"\nverbs = [\"run\"]\n",
        "",
    );
    let done = deploy(&appliance, &next);
    assert_eq!(done.code, Some(0), "{done:?}");
    assert_eq!(alice.data(&path).json()["row"]["quantity"], 1, "old rows stay");
    assert_eq!(alice.post(&format!("{path}/submit"), &[]).status, 403);
    let newer = alice.draft("item-02", "2");
    assert_eq!(alice.data(&newer).json()["row"]["urgency"], 5);
    let appliance = appliance.kill_and_restart();
    let mut alice = appliance.user("alice");
    assert_eq!(alice.data(&newer).json()["row"]["urgency"], 5);
    assert_eq!(alice.data(&path).json()["row"]["quantity"], 1);
    appliance.settle();
}

#[test]
fn nobody_to_deploy_to_is_an_operating_failure() {
    let folder = crate::support::site::shipped();
    // The address of a listener that is gone.
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut program = crate::support::program::twintier();
    let failed = run(program.args(["deploy", "--admin", &address.to_string()]).arg(folder.path("reqcat/code")));
    assert_eq!(failed.code, Some(1), "{failed:?}");
    assert!(failed.stderr.contains(&address.to_string()), "{failed:?}");
    let mut program = crate::support::program::twintier();
    let wrong = run(program.args(["deploy", "--admin", &address.to_string()]).arg(folder.path("reqcat/nowhere")));
    assert_eq!(wrong.code, Some(2), "{wrong:?}");
}
