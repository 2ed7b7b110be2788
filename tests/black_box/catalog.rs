//! The catalog as people use it, without scripts: searching, the cart, forms that say what is wrong, two edits at once.

use std::thread;

use serde_json::{Value, json};

use crate::journeys::row_when;
use crate::support::appliance::{Appliance, Setup, shared};
use crate::support::browser::Browser;
use crate::support::eventually;
use crate::support::origin::{Origin, Said};
use crate::support::site::ITEMS;

/// Names of a list's rows, in the order of the page.
fn names(browser: &mut Browser, path: &str) -> Vec<String> {
    let rows = browser.data(path).json()["rows"].clone();
    rows.as_array().unwrap().iter().map(|row| row["item"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_search_shows_what_is_called_so_first_and_counts_its_categories() {
    let setup = Setup::shipped();
    let named = [
        ("aa", "games", "a game", "Compiler Team"),
        ("bb", "doc", "how to write a compiler", "somebody"),
        ("my-compiler", "devel", "mine", "somebody"),
        ("compiler-doc", "doc", "what to read", "somebody"),
        ("compiler", "devel", "turns text into programs", "somebody"),
    ];
    let mut text: String = named
        .iter()
        .map(|(name, section, summary, supplier)| {
            format!(
                "Package: {name}\nVersion: 1\nSection: {section}\nMaintainer: {supplier}\nDescription: {summary}\n\n"
            )
        })
        .collect();
    for number in named.len()..usize::try_from(ITEMS).unwrap() {
        text += &format!("Package: plain-{number}\nVersion: 1\nSection: net\nDescription: a plain thing\n\n");
    }
    setup.folder.write("items.txt", text);
    let appliance = setup.start();
    let mut visitor = appliance.visitor();

    let ranked = ["compiler", "compiler-doc", "my-compiler", "bb", "aa"];
    assert_eq!(names(&mut visitor, "/reqcat/?words=Compiler"), ranked);
    assert_eq!(names(&mut visitor, "/reqcat/?words=compiler+doc"), ["compiler-doc"]);
    assert_eq!(names(&mut visitor, "/reqcat/?words=compiler&section=doc"), ["compiler-doc", "bb"]);
    let page = visitor.page("/reqcat/?words=compiler&section=doc").text();
    assert!(page.contains("value=\"compiler\"") && page.contains("2 items</p>"), "{page}");
    // Categories of what the words find, the chosen one among them.
    for (section, count) in [("devel", 2), ("doc", 2), ("games", 1)] {
        assert!(page.contains(&format!(">{section} <span>{count}</span>")), "{section}: {page}");
    }
    assert!(!page.contains(">net "), "{page}");
    assert!(page.contains("/reqcat/?section=games&amp;words=compiler"), "{page}");

    let nothing = visitor.page("/reqcat/?words=compiler&section=net").text();
    assert!(nothing.contains("Nothing was found") && nothing.contains("0 items"), "{nothing}");
    assert!(nothing.contains("href=\"/reqcat/?words=compiler\">Search all categories"), "{nothing}");

    // Pages of a search: each item once, and the words stay in the links.
    let mut seen: Vec<String> =
        (1..=3).flat_map(|page| names(&mut visitor, &format!("/reqcat/?words=plain&page={page}"))).collect();
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 55);
    let second = visitor.page("/reqcat/?words=plain&page=2").text();
    assert!(second.contains("55 items, page 2 of 3"), "{second}");
    for link in [
        "rel=\"prev\" href=\"/reqcat/?words=plain&amp;page=1\"",
        "rel=\"next\" href=\"/reqcat/?words=plain&amp;page=3\"",
        "page=2\" aria-current=\"page\"",
    ] {
        assert!(second.contains(link), "{link}: {second}");
    }
    let beyond = visitor.page("/reqcat/?words=plain&page=9").text();
    assert!(
        beyond.contains("There is no page 9") && beyond.contains("href=\"/reqcat/?words=plain&amp;page=1\""),
        "{beyond}"
    );
}

#[test]
fn a_cart_becomes_one_requisition_and_is_empty_then() {
    let suppliers = Origin::tcp(|_| Said::ok("taken"));
    let appliance = Setup::shipped().set("backends.suppliers", &suppliers.address).start();
    let mut alice = appliance.user("alice");
    let lines = |browser: &mut Browser| browser.data("/reqcat/cart").json()["cart"][0]["lines"].clone();

    assert!(alice.page("/reqcat/cart").text().contains("Your cart is empty"));
    let item = alice.page("/reqcat/items/item-07").text();
    assert!(item.contains("action=\"/reqcat/cart/add\"") && item.contains("name=\"item\" value=\"item-07\""), "{item}");
    for (name, quantity) in [("item-07", "2"), ("item-03", "1"), ("item-07", "3"), ("item-11", "4")] {
        let added = alice.post("/reqcat/cart/add", &[("item", name), ("quantity", quantity)]);
        assert_eq!((added.status, added.location()), (303, "/reqcat/cart"), "{}", added.text());
    }
    assert_eq!(lines(&mut alice), "item-03\t1\nitem-07\t5\nitem-11\t4");
    // Changed, taken out, and what is not there is not put in.
    for (name, quantity) in [("item-03", "9"), ("item-11", "0"), ("item-12", "3")] {
        assert_eq!(alice.post("/reqcat/cart/set", &[("item", name), ("quantity", quantity)]).status, 303);
    }
    assert_eq!(lines(&mut alice), "item-03\t9\nitem-07\t5");
    let page = alice.page("/reqcat/cart").text();
    assert!(page.contains("2 items, to be ordered") && page.contains("value=\"9\""), "{page}");

    // What is wrong stands beside the field, which keeps what was typed; the cart is as it was.
    let wrong = alice.post("/reqcat/cart/add", &[("item", "item-07"), ("quantity", "0")]);
    assert_eq!(wrong.status, 422);
    let text = wrong.text();
    assert!(
        text.contains("id=\"quantity-error\">1 at least, please.") && text.contains("required value=\"0\""),
        "{text}"
    );
    assert!(text.contains("value=\"item-07\"") && text.contains("aria-describedby=\"quantity-error\""), "{text}");
    assert_eq!(alice.post("/reqcat/cart/add", &[("item", "nothing"), ("quantity", "1")]).status, 422);
    assert_eq!(alice.post_as_is("/reqcat/cart/add", &[("item", "item-07"), ("quantity", "1")]).status, 403, "no token");

    // A cart is its owner's.
    let mut bob = appliance.user("bob");
    assert_eq!(lines(&mut bob), Value::Null);
    let foreign = bob.post_json("/reqcat/cart/order", &json!({ "cart": "alice", "reason": "mine now" }));
    assert_eq!((foreign.status, &foreign.json()["error"]), (409, &json!("Your cart is empty.")));
    assert_eq!(bob.page("/reqcat/cart/order").status, 404, "there is nothing to order");

    let form = alice.page("/reqcat/cart/order").text();
    assert!(form.contains("action=\"/reqcat/cart/order\"") && form.contains(">item-03</a>"), "{form}");
    let long = "x".repeat(1001);
    let wrong = alice.post("/reqcat/cart/order", &[("cart", "alice"), ("reason", &long)]);
    assert_eq!(wrong.status, 422);
    assert!(wrong.text().contains(&long) && wrong.text().contains("id=\"reason-error\""), "{}", wrong.text());
    let ordered = alice.post("/reqcat/cart/order", &[("cart", "alice"), ("reason", "for the workshop")]);
    assert_eq!(ordered.status, 303, "{}", ordered.text());
    let path = ordered.location().to_owned();
    let row = row_when(&mut alice, &path, "the draft", |_| true);
    let expected = json!(["item-03", 9, "item-03\t9\nitem-07\t5", "draft", "for the workshop", "alice"]);
    let fields = ["item", "quantity", "lines", "state", "reason", "owner"];
    assert_eq!(Value::from(fields.map(|field| row[field].clone()).to_vec()), expected);
    assert_eq!(lines(&mut alice), Value::Null);
    assert_eq!(alice.post_json("/reqcat/cart/order", &json!({ "cart": "alice" })).status, 422, "an empty cart");
    let list = alice.page("/reqcat/requisitions").text();
    assert!(list.contains("item-03 and 1 more"), "{list}");

    // As long as it is a draft its owner changes it line by line, and something is left in it.
    let form = alice.page(&format!("{path}/edit")).text();
    assert!(form.contains("for=\"quantity-2\">Quantity of item-07") && form.contains("value=\"9\""), "{form}");
    let change = |browser: &mut Browser, name: &str, quantity: &str| {
        browser.page(&path);
        let answer = browser.post(&format!("{path}/lines"), &[("item", name), ("quantity", quantity)]);
        (answer.status, answer.text())
    };
    for (name, quantity, expected) in [
        ("item-07", "8", json!(["item-03", 9, "item-03\t9\nitem-07\t8"])),
        ("item-03", "0", json!(["item-07", 8, "item-07\t8"])),
    ] {
        // Whichever replica is asked shall know what was before.
        appliance.settle();
        assert_eq!(change(&mut alice, name, quantity).0, 303);
        appliance.settle();
        let row = alice.data(&path).json()["row"].clone();
        assert_eq!(Value::from(["item", "quantity", "lines"].map(|field| row[field].clone()).to_vec()), expected);
    }
    let last = change(&mut alice, "item-07", "0");
    assert!(last.0 == 409 && last.1.contains("something must be left in it"), "{last:?}");
    assert_eq!(change(&mut alice, "item-03", "1").0, 409, "what is not in it is not put in");
    let wrong = change(&mut alice, "item-07", "10001");
    assert!(
        wrong.0 == 422 && wrong.1.contains("id=\"quantity-error\"") && wrong.1.contains("To the draft"),
        "{wrong:?}"
    );
    bob.page(&path);
    let foreign = bob.post_json(&format!("{path}/lines"), &json!({ "item": "item-07", "quantity": 1 }));
    assert_eq!(foreign.status, 409, "it is hers");
    assert_eq!(alice.data(&path).json()["row"]["lines"], "item-07\t8");

    // The supplier gets all lines, and the trail says who did what.
    alice.page(&path);
    assert_eq!(alice.post(&format!("{path}/submit"), &[]).status, 202);
    row_when(&mut alice, &path, "the posted requisition", |row| row["posting"] == "posted");
    let order: Value = serde_json::from_slice(&suppliers.asked()[0].body).unwrap();
    assert_eq!(order["lines"], "item-07\t8");
    appliance.settle();
    assert_eq!(change(&mut alice, "item-07", "7").0, 409, "it is no draft any more");
    let waiting = eventually("the requisition in the approver's queue", || {
        let queue = bob.data("/reqcat/approvals").json();
        (queue["total"] == 1).then_some(queue)
    });
    assert_eq!(waiting["rows"][0]["owner"], "alice");
    assert_eq!(alice.data("/reqcat/approvals").status, 403);
    let long = "y".repeat(1001);
    bob.page(&path);
    let wrong = bob.post(&format!("{path}/reject"), &[("remark", &long)]);
    assert_eq!(wrong.status, 422);
    assert!(wrong.text().contains(&long) && wrong.text().contains("id=\"remark-error\""), "{}", wrong.text());
    assert_eq!(bob.post(&format!("{path}/reject"), &[("remark", "not this year")]).status, 303);
    row_when(&mut alice, &path, "the rejection", |row| row["state"] == "rejected");
    let steps = alice.data(&path).json()["steps"].clone();
    let steps: Vec<Value> =
        steps.as_array().unwrap().iter().map(|step| json!([step["state"], step["actor"], step["remark"]])).collect();
    assert_eq!(
        steps,
        [
            json!(["draft", "alice", null]),
            json!(["submitted", "alice", null]),
            json!(["rejected", "bob", "not this year"])
        ]
    );
    let page = alice.page(&path).text();
    assert!(page.contains("<strong>rejected</strong> by bob") && page.contains("not this year"), "{page}");
    assert_eq!(bob.data("/reqcat/approvals").json()["total"], 0);
}

#[test]
fn forms_keep_what_was_typed_and_say_what_is_wrong_beside_it() {
    let appliance = shared();
    let mut alice = appliance.user("alice");
    let wrong =
        alice.post("/reqcat/requisitions", &[("item", "item-01"), ("quantity", "many"), ("reason", "because <b>")]);
    assert_eq!(wrong.status, 422);
    let page = wrong.text();
    for part in [
        "id=\"item\" name=\"item\" required maxlength=\"200\" value=\"item-01\"",
        "value=\"many\" autofocus aria-invalid=\"true\" aria-describedby=\"quantity-error\"",
        "id=\"quantity-error\">A whole number, please.",
        ">because &lt;b&gt;</textarea>",
        "<a href=\"#quantity\">Quantity</a>",
    ] {
        assert!(page.contains(part), "{part}: {page}");
    }
    // Every input has a label, and every error is named by its field.
    for name in ["item", "quantity", "reason"] {
        assert!(page.contains(&format!("<label for=\"{name}\">")), "{name}: {page}");
    }
    let mut carol = appliance.user("carol");
    let edit = [
        ("name", ""),
        ("department", "Kept"),
        ("email", "kept@example.com"),
        ("roles", "employee"),
        ("active", "false"),
    ];
    let wrong = carol.post("/directory/employees/bob", &edit);
    assert_eq!(wrong.status, 422);
    let page = wrong.text();
    for part in [
        "id=\"name-error\">This is needed.",
        "value=\"Kept\"",
        "value=\"kept@example.com\"",
        "<option value=\"false\" selected>",
    ] {
        assert!(page.contains(part), "{part}: {page}");
    }

    // A draft may be changed and given up by its owner, and by nobody else.
    let path = alice.draft("item-02", "2");
    let form = alice.page(&format!("{path}/edit")).text();
    assert!(form.contains("value=\"2\"") && form.contains(">test</textarea>"), "{form}");
    let edited = alice.post(&format!("{path}/edit"), &[("quantity", "5"), ("reason", "")]);
    assert_eq!((edited.status, edited.location()), (303, path.as_str()));
    let row = alice.data(&path).json()["row"].clone();
    assert_eq!((&row["quantity"], &row["reason"]), (&json!(5), &Value::Null));
    let mut bob = appliance.user("bob");
    assert_eq!(bob.page(&format!("{path}/edit")).status, 404);
    for what in ["edit", "withdraw"] {
        assert_eq!(bob.post_json(&format!("{path}/{what}"), &json!({ "quantity": 1 })).status, 409, "{what}");
    }
    assert_eq!(alice.post(&format!("{path}/withdraw"), &[]).status, 303);
    row_when(&mut alice, &path, "the withdrawal", |row| row["state"] == "withdrawn");
    assert_eq!(alice.post(&format!("{path}/submit"), &[]).status, 409);
}

/// Tears a draft of `owner`'s into two versions: one of three replicas stands still with an edit that it has taken, while
/// the others edit the same draft. Gives the draft with its conflicts.
#[track_caller]
pub fn torn(appliance: &Appliance, owner: &mut Browser, path: &str) -> Value {
    row_when(owner, path, "the draft", |row| row["state"] == "draft");
    let mut round = 0;
    let torn = eventually("two edits of one row that did not know each other", || {
        round += 1;
        assert_eq!(appliance.admin("POST", "/servers/replica/2/hang-job?ms=700").status, 200);
        thread::scope(|scope| {
            for number in 0..6 {
                let mut browser = owner.another_connection();
                scope.spawn(move || {
                    let reason = format!("round {round}, edit {number}");
                    let edited = browser.post(&format!("{path}/edit"), &[("quantity", "2"), ("reason", &reason)]);
                    assert_eq!(edited.status, 303, "{}", edited.text());
                });
            }
        });
        let data = owner.data(path).json();
        data.get("conflicts").is_some().then_some(data)
    });
    println!("conflict in round {round}: {torn}");
    torn
}

#[test]
fn of_two_edits_at_once_the_owner_sees_both_and_chooses() {
    let setup = Setup::shipped().set("cluster.fronts", "2").set("cluster.replicas", "3");
    let appliance = setup.set("dispatch.policy", "round-robin").start();
    let mut alice = appliance.user("alice");
    let path = alice.draft("item-08", "1");
    let torn = torn(&appliance, &mut alice, &path);
    let reason = |row: &Value| row["row"]["reason"].as_str().unwrap().to_owned();
    let lost = &torn["conflicts"][0];
    let page = alice.page(&path).text();
    assert!(page.contains("This draft was changed in two places at once"), "{page}");
    for version in [&torn, lost] {
        let field = format!("name=\"version\" value=\"{}\"", version["version"].as_str().unwrap());
        assert!(page.contains(&field) && page.contains(&reason(version)), "{field}: {page}");
    }

    // Nobody else is shown the versions or may choose, and not without the token.
    let version = lost["version"].as_str().unwrap();
    let choose = format!("{path}/choose");
    let mut bob = appliance.user("bob");
    assert!(!bob.page(&path).text().contains("in two places at once"), "an approver has nothing to choose");
    assert_eq!(bob.post(&choose, &[("version", version)]).status, 409);
    assert_eq!(alice.post_as_is(&choose, &[("version", version)]).status, 403);
    assert_eq!(appliance.visitor().post_as_is(&choose, &[("version", version)]).status, 303, "to sign in");
    assert_eq!(alice.post(&choose, &[("version", "1-1-1")]).status, 409);

    let chosen = alice.post(&choose, &[("version", version)]);
    assert_eq!((chosen.status, chosen.location()), (303, path.as_str()), "{}", chosen.text());
    for _ in 0..6 {
        let mut browser = alice.another_connection();
        let data = browser.data(&path).json();
        assert_eq!((reason(&data), data.get("conflicts")), (reason(lost), None));
    }
    assert_eq!(alice.post(&choose, &[("version", version)]).status, 409, "it is settled");
    appliance.settle();
}
