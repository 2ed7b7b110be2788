//! Several versions of a row after concurrent edits, and several rows in one commit.

use std::sync::Arc;

use super::fixture::{Rig, SHOP, UNIX_MS, body, identity, sources};
use crate::replica::server::Settings;
use crate::replication::Unapplied;
use crate::tables::code::CodeVersion;
use crate::tables::{Batch, Record, Stamp, Update, Value, VersionVector};

/// What this test's shop has more.
const MORE: &[(&str, &str)] = &[
    (
        "documents/step.toml",
        r#"
key = "step"
[[fields]]
name = "order"
kind = "text"
required = true
index = true
[[fields]]
name = "who"
kind = "text"
length_max = 8
"#,
    ),
    (
        "views/order-versions.toml",
        r#"
path = "/orders/{order}/versions"
kind = "row"
table = "orders"
key = "{order}"
where = "row.owner == user.name"
template = "versions.html"
related = [{ name = "steps", table = "step", field = "order", value = "{order}" }]
"#,
    ),
    (
        "templates/versions.html",
        "{{ row.note }} {{ version }}{% for each in conflicts %} [{{ each.row.note }} {{ each.version }}]{% endfor %}\
         {% for step in steps %} {{ step.who }}{% endfor %}",
    ),
    (
        "actions/order-note.toml",
        r#"
path = "/orders/{order}/note"
kind = "write"
table = "orders"
key = "{order}"
acknowledge = "local"
location = "/orders/{order}"
set = { note = "input.note" }
[[fields]]
name = "note"
kind = "text"
"#,
    ),
    (
        "actions/order-choose.toml",
        r#"
path = "/orders/{order}/choose"
kind = "write"
table = "orders"
key = "{order}"
chosen = "version"
when = "row.owner == user.name and chosen.owner == user.name"
location = "/orders/{order}"
set = { note = "chosen.note" }
[[fields]]
name = "version"
kind = "text"
required = true
"#,
    ),
    (
        "actions/order-hand-in.toml",
        r#"
path = "/orders/{order}/hand-in"
kind = "write"
table = "orders"
key = "{order}"
location = "/orders/{order}"
set = { state = "'in'" }
[[fields]]
name = "who"
kind = "text"
[[also]]
table = "step"
new = "S"
[also.set]
order = "key"
who = "input.who"
[[also]]
table = "step"
key = "last of {user.name}"
set = { order = "key", who = "row.state" }
[[also]]
table = "item"
key = "nut"
delete = true
"#,
    ),
    (
        "actions/order-twice.toml",
        r#"
path = "/orders/{order}/twice"
kind = "write"
table = "orders"
key = "{order}"
location = "/orders/{order}"
set = { state = "'in'" }
[[also]]
table = "orders"
key = "{key}"
delete = true
"#,
    ),
];

fn rig() -> Rig {
    let mut files = SHOP.to_vec();
    files.extend_from_slice(MORE);
    let code = CodeVersion::from_sources(&sources("shop", &files), 1).unwrap_or_else(|faults| panic!("{faults:?}"));
    Rig::with(Arc::new(code), Settings::default(), 1)
}

/// An edit of the order by another server that knew the row as it was when it was made. It wins, because it is later.
fn edited_elsewhere(rig: &mut Rig, order: &str, note: &str, owner: &str) {
    let table = rig.replica.code().shapes.id("orders").expect("table");
    let written = rig.stored.values().find(|row| *row.key == *order).expect("stored").clone();
    let known = VersionVector::default().edited_by(0, 1);
    let mut values = written.record.as_ref().expect("live").0.to_vec();
    (values[0], values[5]) = (Value::text(owner), Value::text(note));
    let update = Update {
        table,
        key: order.into(),
        stamp: Stamp { sequence: 2, time: (UNIX_MS + 1_000) << 16, server: 2 },
        versions: known.edited_by(2, 2),
        base: written.base,
        record: Some(Record(values.into())),
    };
    rig.stored.insert((table, order.into()), update.clone());
    let batch = Batch { origin: 1, first: 9, updates: vec![update] };
    rig.replica.receive_published(Arc::new(batch), Unapplied::default());
    rig.settle();
}

/// An order with Ann's note `mine`, and what another server made of it at the same time.
fn torn(rig: &mut Rig, owner: &str) -> String {
    let order = rig.order();
    let written = rig.run(Rig::post(&format!("/orders/{order}/note"), &identity("ann", 1), "note=mine"));
    assert_eq!(written.response.status, 303);
    edited_elsewhere(rig, &order, "theirs", owner);
    order
}

#[test]
fn the_owner_sees_both_versions_and_chooses_one() {
    for chooses in ["mine", "theirs"] {
        let mut rig = rig();
        let order = torn(&mut rig, "ann");
        let (ann, path) = (identity("ann", 1), format!("/orders/{order}/versions"));
        let page = rig.get(&path, &ann);
        let etag = page.response.etag.clone();
        let json = rig.get_json(&path, &ann);
        assert_eq!((&json["row"]["note"], &json["conflicts"][0]["row"]["note"]), (&"theirs".into(), &"mine".into()));
        let version = |of: &serde_json::Value| of["version"].as_str().expect("named").to_owned();
        let (theirs, mine) = (version(&json), version(&json["conflicts"][0]));
        assert_eq!(body(&page), format!("theirs {theirs} [mine {mine}]"));

        // Nobody else, nothing that is not there, and nothing without the token.
        let choose = format!("/orders/{order}/choose");
        assert_eq!(rig.run(Rig::post(&choose, &identity("bob", 2), &format!("version={mine}"))).response.status, 409);
        for wrong in ["1-1-1", "x"] {
            let refused = rig.run(Rig::post(&choose, &ann, &format!("version={wrong}")));
            assert_eq!(refused.response.status, 409);
            assert!(body(&refused).contains("This version is not there any more"), "{}", body(&refused));
        }
        assert_eq!(rig.run(Rig::post(&choose, &ann, "version=")).response.status, 422);
        let mut forged = Rig::post(&choose, &ann, "");
        forged.body = format!("csrf=0&version={mine}").into_bytes();
        assert_eq!(rig.run(forged).response.status, 403);

        let wish = if chooses == "mine" { &mine } else { &theirs };
        let done = rig.run(Rig::post(&choose, &ann, &format!("version={wish}")));
        assert_eq!(done.response.status, 303, "{}", body(&done));
        let after = rig.get(&path, &ann);
        assert_eq!(body(&after), format!("{chooses} "), "one version, and no name for it");
        assert_ne!(after.response.etag, etag);
        let table = rig.replica.code().shapes.id("orders").expect("table");
        assert_eq!(rig.replica.tables().loser_count(table), 0);
        assert_eq!(rig.run(Rig::post(&choose, &ann, &format!("version={mine}"))).response.status, 409, "it is settled");
    }
}

#[test]
fn a_version_that_the_guard_hides_is_not_shown() {
    let mut rig = rig();
    let order = torn(&mut rig, "bob");
    // Bob owns what won; what lost says that Ann does.
    let path = format!("/orders/{order}/versions");
    assert_eq!(rig.get(&path, &identity("ann", 1)).response.status, 404);
    let json = rig.get_json(&path, &identity("bob", 2));
    assert_eq!((&json["row"]["note"], json.get("conflicts")), (&"theirs".into(), None));
    assert_eq!(rig.faults, [""; 0]);
}

#[test]
fn further_rows_are_written_in_the_same_commit() {
    let mut rig = rig();
    let order = rig.order();
    let ann = identity("ann", 1);
    rig.start(Rig::post(&format!("/orders/{order}/hand-in"), &ann, "who=ann"));
    assert_eq!(rig.commits.len(), 1);
    let keys: Vec<&str> = rig.commits[0].1.iter().map(|update| &*update.key).collect();
    assert_eq!((keys.len(), keys[0], keys[2], keys[3]), (4, &*order, "last of ann", "nut"));
    assert!(keys[1].starts_with('S') && rig.commits[0].1[3].record.is_none(), "{keys:?}");
    rig.settle();
    assert_eq!(rig.finished.pop_front().expect("answered").response.status, 303);
    let page = rig.get(&format!("/orders/{order}/versions"), &ann);
    assert_eq!(body(&page), "  ann draft", "expressions see the row as it was");
    assert_eq!(rig.get("/items/nut", &ann).response.status, 404);

    // What a further row cannot hold is an error of the input, and nothing is written.
    let wrong = rig.run(Rig::post(&format!("/orders/{order}/hand-in"), &ann, "who=somebody+else"));
    assert_eq!(wrong.response.status, 422);
    assert!(body(&wrong).contains("who: At most 8 bytes"), "{}", body(&wrong));
    // To delete what is not there is no mistake, and a row that is there is edited.
    let again = rig.run(Rig::post(&format!("/orders/{order}/hand-in"), &ann, "who=again"));
    assert_eq!(again.response.status, 303);
    assert_eq!(body(&rig.get(&format!("/orders/{order}/versions"), &ann)), "  ann again in");

    let twice = rig.run(Rig::post(&format!("/orders/{order}/twice"), &ann, ""));
    assert_eq!(twice.response.status, 500);
    assert!(rig.faults[0].contains("actions/order-twice: two edits of the row"), "{:?}", rig.faults);
}

#[test]
fn an_edit_that_knew_the_other_leaves_nothing_to_choose() {
    let mut rig = rig();
    let order = rig.order();
    edited_elsewhere(&mut rig, &order, "theirs", "ann");
    let json = rig.get_json(&format!("/orders/{order}/versions"), &identity("ann", 1));
    assert_eq!((&json["row"]["note"], json.get("conflicts")), (&"theirs".into(), None));
}
