//! Code tables that cannot be: refused at the start, by `check` and by `deploy` in the same words, and nothing changes.

use crate::support::appliance::Setup;
use crate::support::program::run;
use crate::support::site::shipped;

/// File below the code folder, what to replace, by what, and the fault behind `reqcat/code/`.
const WRONG: [(&str, &str, &str, &str); 13] = [
    ("views/item.toml", "kind = \"row\"", "kind = row", "views/item.toml:2:8: "),
    (
        "views/item.toml",
        "table = \"item\"",
        "table = \"itm\"",
        "views/item.toml:3:9: there is no data table `itm`; did you mean `item`?",
    ),
    (
        "templates/layout.html",
        "<footer>",
        "<footer>{% include 'browse.html' %}",
        "templates/browse.html:1:13: `browse.html` leads back to itself by way of `layout.html`; name a template here that does not lead back",
    ),
    (
        "templates/item.html",
        "<h1>",
        "{% include 'item.html' %}<h1>",
        "templates/item.html:5:15: `item.html` leads back to itself; name a template here that does not lead back",
    ),
    (
        "templates/item.html",
        "{{ row.summary }}",
        "{{ row.summary | safe }}",
        "templates/item.html:6:36: the filter `safe` would show text as HTML; remove it: everything is escaped where it is shown",
    ),
    ("views/item.toml", "item.html", "itme.html", "views/item.toml:"),
    (
        "views/requisition.toml",
        "'approver' in",
        "'aprover' in",
        "views/requisition.toml:6:37: no rule of an authority table names the role `aprover`; did you mean `approver`?",
    ),
    (
        "authority.toml",
        "views/browse",
        "views/brwse",
        "authority.toml:6:8: no code table is called `views/brwse`; did you mean `views/browse`?",
    ),
    (
        "actions/requisition-submit.toml",
        "agent = \"requisition-submit\"",
        "agent = \"requisition-sbmit\"",
        "actions/requisition-submit.toml:8:9: there is no agent `requisition-sbmit`; did you mean `requisition-submit`?",
    ),
    (
        "actions/requisition-submit.toml",
        "location = \"/requisitions/{key}\"",
        "location = \"/requisitons/{key}\"",
        "actions/requisition-submit.toml:10:12: no view or form has the path of the location `/requisitons/{key}`; did you mean `/requisitions/new`?",
    ),
    (
        "actions/requisition-submit.toml",
        "location = \"/requisitions/{key}\"",
        "location = \"/requisitions/{key}/submit\"",
        "actions/requisition-submit.toml:10:12: no view or form has the path of the location `/requisitions/{key}/submit`; ",
    ),
    (
        "application.toml",
        "sign_in = \"/directory/sign-in\"",
        "sign_in = \"/reqcat/requisitions\"",
        "application.toml:3:1: visitors are sent to `/reqcat/requisitions` to sign in, and `reqcat` does not show it to them; name a form or view whose authority table allows `anonymous`",
    ),
    (
        "agents/requisition-submit.toml",
        "backend = \"suppliers\"",
        "backend = \"supplers\"",
        "agents/requisition-submit.toml:4:1: the profile names no back-end server `supplers`; add `supplers = \"ADDRESS\"` to [backends] of the profile, or name another",
    ),
];

#[test]
fn code_that_cannot_be_is_refused_everywhere_and_changes_nothing() {
    let appliance = Setup::shipped().start();
    let before = appliance.settle();
    let status = appliance.status();
    for (file, from, to, fault) in WRONG {
        let spoilt = Setup::shipped();
        spoilt.folder.edit(&format!("reqcat/code/{file}"), from, to);
        let checked = run(&mut spoilt.command("check"));
        assert_eq!(checked.code, Some(2), "{file} {to}: {checked:?}");
        let said = spoilt.folder.neutral(&checked.stderr);
        assert!(said.lines().any(|line| line.starts_with(&format!("reqcat/code/{fault}"))), "{file} {to}: {said}");
        let served = run(&mut spoilt.command("serve"));
        assert_eq!((served.code, served.stderr), (Some(2), checked.stderr), "{file} {to}");

        let deployed = run(appliance.ask("deploy").arg(spoilt.folder.path("reqcat/code")));
        assert_eq!(deployed.code, Some(2), "{file} {to}: {deployed:?}");
        let (told, faults) = deployed.stderr.split_once('\n').unwrap();
        assert_eq!(told, "the deploy was refused, nothing has changed:");
        assert!(faults.lines().any(|line| line.starts_with(&format!("reqcat/{fault}"))), "{file} {to}: {faults}");
    }
    let after = appliance.settle();
    for (before, after) in before["replicas"].as_array().unwrap().iter().zip(after["replicas"].as_array().unwrap()) {
        for what in ["code_version", "code_digest"] {
            assert_eq!(before[what], after[what], "{what}");
        }
        // The agent that filled the catalog may have closed its row meanwhile.
        let tables = |replica: &serde_json::Value| {
            let tables = replica["tables"].as_array().unwrap().iter();
            tables.filter(|table| table["table"] != "agent_work").cloned().collect::<Vec<_>>()
        };
        assert_eq!(tables(before), tables(after));
    }
    assert_eq!(appliance.status()["code_version"], status["code_version"]);
    // Nothing of it was recorded either: a restart runs what ran before, and the next deploy is the second version.
    let appliance = appliance.kill_and_restart();
    assert_eq!(appliance.settle()["replicas"][0]["code_digest"], before["replicas"][0]["code_digest"]);
    let next = shipped();
    let done = run(appliance.ask("deploy").arg(next.path("reqcat/code")));
    assert!(done.code == Some(0) && done.stdout.contains("\"version\": 2"), "{done:?}");
}

#[test]
fn a_page_without_end_answers_500_and_harms_no_other() {
    let setup = Setup::shipped();
    setup.folder.edit(
        "reqcat/code/templates/item.html",
        "<h1>",
        "{% if query.endless %}{% for a in range(100000) %}{% for b in range(100000) %}{{ b }}{% endfor %}{% endfor %}{% endif %}<h1>",
    );
    setup.folder.edit(
        "reqcat/code/templates/browse.html",
        "<h1>",
        "{% if query.again %}{% include query.again %}{% endif %}<h1>",
    );
    let appliance = setup.start();
    let mut visitor = appliance.visitor();
    for path in ["/reqcat/items/item-01?endless=1", "/reqcat/?again=browse.html", "/reqcat/?again=nowhere.html"] {
        let answer = visitor.page(path);
        assert_eq!(answer.status, 500, "{path}: {}", answer.text());
        assert!(!answer.text().contains("item-00"), "no half of a page: {}", answer.text());
        assert_eq!(visitor.page("/reqcat/items/item-01").status, 200, "on the same connection");
    }
    assert_eq!(visitor.page("/reqcat/").status, 200);
    appliance.settle();
}
