//! Code tables replaced at run time.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::appliance::{Appliance, Setup, deadline};
use crate::support::browser::Browser;
use crate::support::eventually;
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

/// A page of version N carries the mark N from two templates; visitors may see it in odd versions only.
fn edition(next: &Folder, shipped: &[(&str, String); 3], number: u64) {
    let [(layout, layout_text), (item, item_text), (authority, authority_text)] = shipped;
    next.write(layout, layout_text.replace("<footer>", &format!("<footer>outer={number}; ")));
    next.write(item, item_text.replace("<h1>", &format!("<h1>inner={number}; ")));
    let allowed = "[[allow]]\nrole = \"anonymous\"\ncode = \"views/item\"\nverbs = [\"read\"]\n";
    assert!(authority_text.contains(allowed));
    let (none, all) = (authority_text.replace(allowed, ""), authority_text.clone());
    next.write(authority, if number.is_multiple_of(2) { none } else { all });
}

fn marked(page: &str, mark: &str) -> u64 {
    let (_, rest) = page.split_once(mark).unwrap_or_else(|| panic!("no {mark} in {page}"));
    rest.split(';').next().unwrap().parse().unwrap()
}

#[test]
fn a_hundred_deploys_under_load_have_no_window() {
    let appliance = Setup::shipped().start();
    let next = crate::support::site::shipped();
    let shipped =
        ["reqcat/code/templates/layout.html", "reqcat/code/templates/item.html", "reqcat/code/authority.toml"]
            .map(|path| (path, next.read(path)));
    // The version of the last deploy that has returned, and of the last that has begun.
    let (returned, begun) = (AtomicU64::new(1), AtomicU64::new(1));
    let (ended, pages, end) = (AtomicBool::new(false), AtomicU64::new(0), deadline() + Duration::from_secs(60));
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut visitor = Browser::visitor(appliance.http);
                while !ended.load(Ordering::Acquire) && Instant::now() < end {
                    let least = returned.load(Ordering::Acquire);
                    let answer = visitor.page("/reqcat/items/item-01");
                    let most = begun.load(Ordering::Acquire);
                    if answer.status == 200 {
                        let text = answer.text();
                        // What the profile names has no marks.
                        let version = if text.contains("Code version 1<") { 1 } else { marked(&text, "outer=") };
                        assert!(version == 1 || version == marked(&text, "inner="), "two versions in one page: {text}");
                        assert!(text.contains(&format!("Code version {version}<")), "not version {version}: {text}");
                        assert!(version % 2 == 1, "code of version {version} under the role table of another");
                        assert!((least..=most).contains(&version), "version {version}, not {least} to {most}");
                    } else {
                        // Sent to the sign-in page.
                        assert_eq!((answer.status, most > 1), (303, true), "{}", answer.text());
                        assert!(least.is_multiple_of(2) || most > least, "version {least} lets visitors in");
                    }
                    pages.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        for number in 2..=101 {
            edition(&next, &shipped, number);
            let before = pages.load(Ordering::Relaxed);
            begun.store(number, Ordering::Release);
            let done = deploy(&appliance, &next);
            assert_eq!(done.code, Some(0), "{done:?}");
            returned.store(number, Ordering::Release);
            eventually("a page since the deploy", || (pages.load(Ordering::Relaxed) > before).then_some(()));
        }
        ended.store(true, Ordering::Release);
    });
    let replication = appliance.settle();
    assert!(replication["replicas"].as_array().unwrap().iter().all(|replica| replica["code_version"] == 101));
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
