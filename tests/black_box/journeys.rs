//! What people do with the two applications.

use serde_json::{Value, json};

use crate::support::appliance::{Appliance, Setup, shared};
use crate::support::browser::Browser;
use crate::support::eventually;
use crate::support::origin::{Origin, Said};
use crate::support::site::{COMPILERS, ITEMS};

/// Asks for a row until `wanted` holds of it.
#[track_caller]
pub fn row_when(browser: &mut Browser, path: &str, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    eventually(what, || {
        let answer = browser.data(path);
        let row = (answer.status == 200).then(|| answer.json()["row"].clone());
        row.filter(|row| wanted(row))
    })
}

/// An appliance with a back-end server that takes every order.
fn with_suppliers() -> (Appliance, Origin) {
    let suppliers = Origin::tcp(|_| Said::ok("taken"));
    let appliance = Setup::shipped().set("backends.suppliers", &suppliers.address).start();
    (appliance, suppliers)
}

#[test]
fn a_visitor_browses_searches_and_reads_items() {
    let appliance = shared();
    let mut visitor = appliance.visitor();

    let start = visitor.page("/");
    assert_eq!((start.status, start.location()), (302, "/reqcat/"));
    let catalog = visitor.page("/reqcat/");
    assert_eq!(catalog.status, 200);
    assert_eq!(catalog.header("content-type"), Some("text/html; charset=utf-8"));
    assert!(catalog.text().contains(&format!("{ITEMS} items, page 1 of 3")), "{}", catalog.text());

    let found = visitor.data("/reqcat/?words=compiler%20optimi").json();
    assert_eq!((&found["view"], &found["total"]), (&json!("views/browse"), &json!(COMPILERS)));
    assert_eq!(found["rows"].as_array().unwrap().len(), 20);
    assert!(found["rows"].as_array().unwrap().iter().all(|row| row["section"] == "devel"));
    let nothing = visitor.data("/reqcat/?words=compiler&section=net").json();
    assert_eq!(nothing["total"], 0);
    let second = visitor.data("/reqcat/?section=net&page=1").json();
    assert_eq!(second["total"], ITEMS / 3);
    let third = visitor.data("/reqcat/?page=3").json();
    assert_eq!(third["rows"].as_array().unwrap().len(), 10);
    assert_eq!(third["rows"][9]["item"], "item-59");

    let item = visitor.page("/reqcat/items/item-01");
    assert_eq!(item.status, 200);
    assert!(item.text().contains("<h1>item-01</h1>"));
    // What suppliers write is shown, not interpreted.
    assert!(item.text().contains("viewer of &lt;images&gt; &amp; &quot;films&quot;"), "{}", item.text());
    let row = visitor.data("/reqcat/items/item-01").json()["row"].clone();
    assert_eq!(row["summary"], "viewer of <images> & \"films\"");
    assert_eq!((&row["version"], &row["size"]), (&json!("1.1"), &json!(1001)));
    assert_eq!(visitor.page("/reqcat/items/item-01?format=json").json()["row"], row);

    assert_eq!(visitor.page("/reqcat/items/no-such-item").status, 404);
    assert_eq!(visitor.data("/reqcat/items/no-such-item").json()["status"], 404);
}

#[test]
fn a_requisition_from_draft_to_order() {
    let (appliance, suppliers) = with_suppliers();
    let mut alice = appliance.user("alice");

    let form = alice.page("/reqcat/requisitions/new?item=item-03");
    assert_eq!(form.status, 200);
    assert!(form.text().contains("value=\"item-03\""));

    // Wrong input: the form again with what was wrong; nothing is written.
    let wrong =
        alice.post("/reqcat/requisitions", &[("item", "no-such-item"), ("quantity", "2"), ("reason", "why not")]);
    assert_eq!(wrong.status, 422);
    assert!(
        wrong.text().contains("There is no `no-such-item`.") && wrong.text().contains("why not"),
        "{}",
        wrong.text()
    );
    let wrong = alice.post_json("/reqcat/requisitions", &json!({ "item": "item-03", "quantity": 0 }));
    assert_eq!(wrong.status, 422);
    assert!(wrong.text().contains("quantity"), "{}", wrong.text());

    let path = alice.draft("item-03", "7");
    assert!(path.starts_with("/reqcat/requisitions/R"), "{path}");
    let key = path.rsplit('/').next().unwrap().to_owned();
    let row = alice.data(&path).json()["row"].clone();
    assert_eq!((&row["state"], &row["quantity"], &row["owner"]), (&json!("draft"), &json!(7), &json!("alice")));
    assert!(alice.page(&path).text().contains(&format!("action=\"{path}/submit\"")));

    // 202: taken, and done later. The answer is the status page.
    let submitted = alice.post(&format!("{path}/submit"), &[]);
    assert_eq!(submitted.status, 202, "{}", submitted.text());
    let row = row_when(&mut alice, &path, "the posted requisition", |row| row["posting"] == "posted");
    assert_eq!(row["state"], "submitted");
    let number = row["number"].as_str().unwrap().to_owned();
    assert!(number.starts_with("REQ-"), "{number}");
    let page = alice.page(&path).text();
    assert!(page.contains(&format!("Requisition {number}")) && page.contains("requisition-submit: done"), "{page}");
    assert_eq!(alice.post(&format!("{path}/submit"), &[]).status, 409, "it can be submitted once");

    let asked = suppliers.asked();
    assert_eq!(asked.len(), 1, "{asked:?}");
    assert_eq!((asked[0].method.as_str(), asked[0].path.as_str()), ("POST", "/orders"));
    assert_eq!(asked[0].header("idempotency-key"), Some(format!("requisition/{key}/requisition-submit").as_str()));
    let order: Value = serde_json::from_slice(&asked[0].body).unwrap();
    assert_eq!((&order["item"], &order["quantity"], &order["owner"]), (&json!("item-03"), &json!(7), &json!("alice")));
    assert_eq!(order["number"], json!(number));

    // Another role decides; the owner cannot.
    assert_eq!(alice.post(&format!("{path}/approve"), &[]).status, 403);
    let mut bob = appliance.user("bob");
    row_when(&mut bob, &path, "the requisition for the approver", |row| row["posting"] == "posted");
    assert!(bob.page(&path).text().contains("Approve"));
    let approved = bob.post(&format!("{path}/approve"), &[("remark", "fine")]);
    assert_eq!((approved.status, approved.location()), (303, path.as_str()), "{}", approved.text());
    let row = row_when(&mut alice, &path, "the approval", |row| row["state"] == "approved");
    assert_eq!((&row["approver"], &row["remark"], &row["number"]), (&json!("bob"), &json!("fine"), &json!(number)));
    assert_eq!(bob.post(&format!("{path}/reject"), &[]).status, 409, "it is decided");
    assert_eq!(suppliers.asked().len(), 1, "one order, however often it is looked at");

    // An approver's own requisition needs another approver.
    let own = bob.draft("item-04", "1");
    assert_eq!(bob.post(&format!("{own}/submit"), &[]).status, 202);
    assert_eq!(bob.post(&format!("{own}/approve"), &[]).status, 409);

    // Lists: one's own, or all for approvers.
    let mine = alice.data("/reqcat/requisitions").json();
    assert_eq!(mine["total"], 1);
    eventually("both requisitions in the approver's list", || {
        (bob.data("/reqcat/requisitions").json()["total"] == 2).then_some(())
    });
    assert_eq!(alice.page(&own).status, 404, "somebody else's requisition is not there");
}

#[test]
fn a_requisition_by_json_alone() {
    let (appliance, _suppliers) = with_suppliers();
    let mut alice = appliance.user("alice");
    let drafted = alice.post_json("/reqcat/requisitions", &json!({ "item": "item-05", "quantity": 2, "reason": "ö" }));
    assert!(drafted.status == 201 || drafted.status == 200, "{} {}", drafted.status, drafted.text());
    let path = drafted.location().to_owned();
    assert!(path.starts_with("/reqcat/requisitions/R"), "{:?} {}", drafted.headers, drafted.text());
    assert_eq!(alice.data(&path).json()["row"]["reason"], "ö");
    let submitted = alice.post_json(&format!("{path}/submit"), &json!({}));
    assert_eq!(submitted.status, 202, "{}", submitted.text());
    row_when(&mut alice, &path, "the posted requisition", |row| row["posting"] == "posted");
    let again = alice.post_json(&format!("{path}/submit"), &json!({}));
    assert_eq!(again.status, 409);
    assert!(again.json()["error"].as_str().unwrap().contains("while it is a draft"), "{}", again.text());
}

#[test]
fn who_is_not_signed_in_or_has_no_role_is_refused() {
    let appliance = shared();
    let mut visitor = appliance.visitor();
    for path in ["/reqcat/requisitions", "/reqcat/requisitions/new", "/directory/", "/directory/employees/alice/edit"] {
        let html = visitor.page(path);
        assert_eq!(html.status, 303, "{path}");
        let next = path.replace('/', "%2F");
        assert!(
            [format!("/directory/sign-in?next={path}"), format!("/directory/sign-in?next={next}")]
                .contains(&html.location().to_owned()),
            "{}",
            html.location()
        );
        let data = visitor.data(path);
        assert_eq!((data.status, &data.json()["status"]), (401, &json!(401)), "{path}");
    }
    assert_eq!(visitor.post_json("/reqcat/requisitions", &json!({})).status, 401);

    let mut alice = appliance.user("alice");
    assert_eq!(alice.page("/directory/employees/bob/edit").status, 403);
    assert_eq!(alice.data("/directory/employees/bob/edit").status, 403);
    let edit = alice
        .post("/directory/employees/alice", &[("name", "Alice"), ("roles", "directory_admin"), ("active", "true")]);
    assert_eq!(edit.status, 403);
    assert!(edit.text().contains("None of your roles may run actions/employee-edit"), "{}", edit.text());
    let row = alice.data("/directory/employees/alice").json()["row"].clone();
    assert_eq!(row["roles"], "employee");
    assert!(row.get("password_hash").is_none_or(Value::is_null), "a secret is shown: {row}");
    assert!(!alice.page("/directory/employees/alice").text().contains("argon2"));
}

#[test]
fn forged_forms_and_cookies_are_refused() {
    let appliance = shared();
    let mut alice = appliance.user("alice");
    let order = [("item", "item-01"), ("quantity", "1")];
    for token in [None, Some(""), Some("0000000000000000000000000000000000000000000000000000000000000000")] {
        let mut values = order.to_vec();
        values.extend(token.map(|token| ("csrf", token)));
        assert_eq!(alice.post_as_is("/reqcat/requisitions", &values).status, 403, "{token:?}");
    }
    // Somebody else's token is none.
    let mut bob = appliance.user("bob");
    let page = bob.page("/reqcat/requisitions/new").text();
    let foreign = page.split("name=\"csrf\" value=\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
    assert_eq!(alice.post_as_is("/reqcat/requisitions", &[order[0], order[1], ("csrf", &foreign)]).status, 403);

    let (name, value) = alice.cookies.iter().next().map(|(name, value)| (name.clone(), value.clone())).unwrap();
    assert_eq!(name, "twintier_session");
    let last = if value.ends_with('0') { '1' } else { '0' };
    let forged = format!("{}{last}", &value[..value.len() - 1]);
    let mut parts: Vec<&str> = value.split('.').collect();
    // carol in base64: another user under the same signature.
    parts[2] = "Y2Fyb2w";
    for cookie in [forged, parts.join("."), String::new(), "v1....".into(), "x".repeat(2000)] {
        let mut thief = appliance.visitor();
        thief.cookies.insert(name.clone(), cookie.clone());
        assert_eq!(thief.data("/reqcat/requisitions").status, 401, "{cookie}");
        assert_eq!(thief.data("/reqcat/").status, 200, "a visitor may still look");
    }
    assert_eq!(alice.data("/reqcat/requisitions").status, 200);
}

#[test]
fn sessions_begin_with_the_password_and_end_with_sign_out() {
    let appliance = shared();
    let mut alice = appliance.visitor();
    for (user, password) in [("alice", "wrong"), ("nobody", "alice-password"), ("alice", "")] {
        let answer = alice.sign_in(user, password);
        assert_eq!(answer.status, 422, "{user} {password}: {}", answer.text());
        assert_eq!(alice.data("/reqcat/requisitions").status, 401);
    }
    let answer = alice.sign_in("alice", "alice-password");
    assert_eq!((answer.status, answer.location()), (303, "/directory/"));
    assert_eq!(alice.data("/reqcat/requisitions").status, 200, "one session for both applications");

    let cookies = alice.cookies.clone();
    alice.page("/directory/");
    let out = alice.post("/directory/sign-out", &[]);
    assert_eq!((out.status, out.location()), (303, "/directory/sign-in"));
    assert!(alice.cookies.is_empty());
    assert_eq!(alice.data("/reqcat/requisitions").status, 401);
    // Whoever kept the cookie has nothing: over no connection, that is at no replica.
    for _ in 0..6 {
        let mut kept = appliance.visitor();
        kept.cookies = cookies.clone();
        assert_eq!(kept.data("/reqcat/requisitions").status, 401);
    }

    // A wish for a page after signing in is fulfilled on this site only.
    let mut bob = appliance.visitor();
    bob.page("/directory/sign-in?next=/reqcat/requisitions");
    let answer = bob
        .post("/directory/sign-in", &[("user", "bob"), ("password", "bob-password"), ("next", "/reqcat/requisitions")]);
    assert_eq!((answer.status, answer.location()), (303, "/reqcat/requisitions"));
    let mut bob = appliance.visitor();
    bob.page("/directory/sign-in");
    let answer = bob
        .post("/directory/sign-in", &[("user", "bob"), ("password", "bob-password"), ("next", "//evil.example.com/")]);
    assert_eq!((answer.status, answer.location()), (303, "/directory/"));
}

#[test]
fn a_revoked_role_counts_at_once_at_every_replica() {
    let appliance = Setup::shipped().start();
    let alice = appliance.user("alice");
    let mut connections: Vec<Browser> = (0..8).map(|_| alice.another_connection()).collect();
    let before = appliance.executed();
    for connection in &mut connections {
        assert_eq!(connection.data("/reqcat/requisitions").status, 200);
    }
    let after = appliance.executed();
    assert!(
        before.iter().zip(&after).all(|(before, after)| before < after),
        "some replica was not asked: {before:?} {after:?}"
    );

    let mut carol = appliance.user("carol");
    let form = carol.page("/directory/employees/alice/edit");
    assert!(form.text().contains("value=\"Alice Archer\""), "{}", form.text());
    for round in 0..5 {
        for (roles, status) in [("guest", 403), ("employee", 200)] {
            let edit = [
                ("name", "Alice Archer"),
                ("department", "Research"),
                ("email", ""),
                ("roles", roles),
                ("active", "true"),
            ];
            let edited = carol.post("/directory/employees/alice", &edit);
            assert_eq!((edited.status, edited.location()), (303, "/directory/employees/alice"), "{}", edited.text());
            for connection in &mut connections {
                assert_eq!(connection.data("/reqcat/requisitions").status, status, "round {round}, roles `{roles}`");
            }
        }
    }

    // An inactive user is nobody, signed in or not.
    let edit = [("name", "Alice Archer"), ("roles", "employee"), ("active", "false")];
    assert_eq!(carol.post("/directory/employees/alice", &edit).status, 303);
    for connection in &mut connections {
        assert_eq!(connection.data("/reqcat/requisitions").status, 401);
    }
    assert_eq!(appliance.visitor().sign_in("alice", "alice-password").status, 422);
    appliance.settle();
}
