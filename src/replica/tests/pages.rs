//! What is shown: views and forms as HTML and JSON, and everything that is not found.

use super::fixture::{Rig, body, identity};
use crate::authority::session::Identity;
use crate::http1::Method;
use crate::replica::job::{Accept, SessionChange};

#[test]
fn a_list_in_pages() {
    let mut rig = Rig::new();
    let visitor = Identity::default();
    let page = rig.get("/items", &visitor);
    assert_eq!((page.response.status, page.response.content_type), (200, "text/html; charset=utf-8"));
    let expected = "<title>Items - The &lt;Shop&gt;</title>[a&amp;b Apple &amp; &lt;pear&gt; 2.50][bolt Bolt small 0.05]1/2 of 3(fruit 1)(metal 2)";
    assert_eq!(body(&page), expected);
    for (target, shown) in [
        ("/items?page=2", "[nut Nut small 0.07]2/2 of 3"),
        ("/items?page=9", "</title>9/2 of 3"),
        ("/items?page=-1", "1/2 of 3"),
        ("/items?page=18446744073709551615", "of 3"),
        ("/items?section=metal", "1/1 of 2"),
        ("/items?section=", "1/2 of 3"),
        ("/items?words=small+b", "[bolt Bolt small 0.05]1/1 of 1"),
        ("/items?words=%3Cscript%3E", "1/0 of 0"),
    ] {
        let page = rig.get(target, &visitor);
        assert!(body(&page).contains(shown), "{target}: {}", body(&page));
    }
    assert_eq!(rig.get("/items?format=json", &visitor).response.content_type, "application/json");
    let json = rig.get_json("/items?section=metal&page=1", &visitor);
    let expected = serde_json::json!({
        "view": "views/items", "total": 2, "page": 1, "size": 2,
        "rows": [
            {"item": "bolt", "name": "Bolt small", "section": "metal", "price": 0.05},
            {"item": "nut", "name": "Nut small", "section": "metal", "price": 0.07},
        ],
    });
    assert_eq!(json, expected);
}

#[test]
fn a_row_and_its_entity_tag() {
    let mut rig = Rig::new();
    let ann = identity("ann", 1);
    let page = rig.get("/items/a&b", &ann);
    assert_eq!(body(&page), "<title>Item - The &lt;Shop&gt;</title>Apple &amp; &lt;pear&gt; 2.50 ANN &lt;ann&gt;");
    let etag = page.response.etag.clone();
    assert!(etag.starts_with("W/\""));
    let with_tag = |target: &str, tag: &str, identity: &Identity| {
        let mut job = Rig::job(Method::Get, target, Accept::Html, identity);
        job.if_none_match = tag.to_owned();
        job
    };
    for tag in [etag.clone(), etag[2..].to_owned(), format!("\"x\", {etag}"), "*".to_owned()] {
        let page = rig.run(with_tag("/items/a&b", &tag, &ann));
        assert_eq!((page.response.status, body(&page)), (304, ""), "{tag}");
        assert_eq!(page.response.etag, etag);
    }
    assert_eq!(rig.run(with_tag("/items/a&b", &etag, &identity("bob", 2))).response.status, 200, "another user");
    assert_eq!(rig.run(with_tag("/items/bolt", &etag, &ann)).response.status, 200, "another row");
    let clerk = identity("cat", 3);
    assert_eq!(
        rig.run(Rig::post("/items/a%26b/local".replace("%26", "&").as_str(), &clerk, "price=9")).response.status,
        303
    );
    assert_eq!(rig.run(with_tag("/items/a&b", &etag, &ann)).response.status, 200, "the row changed");
    let json = rig.get_json("/items/a&b", &ann);
    let row = serde_json::json!({"item": "a&b", "name": "Apple & <pear>", "section": "fruit", "price": 9.00});
    assert_eq!(json, serde_json::json!({"view": "views/item", "row": row}));
}

#[test]
fn related_rows_and_guards() {
    let mut rig = Rig::new();
    let order = rig.order();
    let target = format!("/orders/{order}");
    let page = rig.get(&target, &identity("ann", 1));
    assert_eq!(body(&page), format!("order {order} draft refresh 2 Bolt small"));
    assert_eq!(rig.get(&target, &identity("bob", 1)).response.status, 200, "an approver sees every order");
    rig.stored.clear();
    let json = rig.get_json(&target, &identity("ann", 1));
    assert_eq!(
        (&json["row"]["total"], &json["what"][0]["item"], &json["work"]),
        (&0.15.into(), &"bolt".into(), &serde_json::json!([]))
    );
    // The list keeps to its owner whatever the query says; `mine` has no template, so HTML gets JSON too.
    let mine = rig.get_json("/mine?owner=bob", &identity("ann", 1));
    assert_eq!(mine["total"], 1);
    assert_eq!(rig.get_json("/mine", &identity("bob", 1))["total"], 0);
    assert_eq!(rig.get("/mine", &identity("ann", 1)).response.content_type, "application/json");
}

#[test]
fn not_found_and_wrong_method() {
    let mut rig = Rig::new();
    let ann = identity("ann", 1);
    for target in ["/nowhere", "/items/none", "/items/", "/orders/none", "/items/none/order"] {
        let page = rig.get(target, &ann);
        assert_eq!((page.response.status, body(&page)), (404, "error 404 There is no such page."), "{target}");
    }
    for (method, target, allow) in [
        (Method::Post, "/items", "GET, HEAD"),
        (Method::Get, "/orders", "POST"),
        (Method::Delete, "/sign-in", "GET, HEAD, POST"),
        (Method::Put, "/orders", "POST"),
        (Method::Options, "/items", "GET, HEAD"),
        (Method::Other, "/items", "GET, HEAD"),
    ] {
        let page = rig.run(Rig::job(method, target, Accept::Html, &ann));
        assert_eq!((page.response.status, page.response.allow), (405, allow), "{method:?} {target}");
    }
    let mut job = Rig::job(Method::Get, "/items", Accept::Json, &ann);
    job.application = "none".into();
    let page = rig.run(job);
    assert_eq!((page.response.status, body(&page)), (404, "{\"status\":404,\"error\":\"There is no such page.\"}"));
    assert_eq!(rig.run(Rig::job(Method::Head, "/items", Accept::Html, &ann)).response.status, 200);
}

#[test]
fn a_form_needs_a_session_and_shows_values() {
    let mut rig = Rig::new();
    let page = rig.get("/sign-in?next=/shop/mine", &Identity::default());
    assert_eq!((page.response.status, page.response.location.as_str()), (303, "/shop/sign-in?next=/shop/mine"));
    assert_eq!(page.response.session, SessionChange::Begin { user: String::new() });
    let visitor = identity("", 9);
    let page = rig.get("/sign-in?next=/shop/mine&user=ann", &visitor);
    assert_eq!(page.response.status, 200);
    assert!(body(&page).starts_with(&format!("<form action=\"/shop/sign-in\">{}", visitor.csrf)), "{}", body(&page));
    assert!(body(&page).contains("user=ann;") && body(&page).ends_with("next=/shop/mine</form>"), "{}", body(&page));
    let ann = identity("ann", 1);
    let json = rig.get_json("/items/bolt/order?quantity=2", &ann);
    assert_eq!(json["csrf"], ann.csrf.as_str());
    assert_eq!(json["action"], "/shop/orders");
    assert_eq!(json["values"], serde_json::json!({"item": "", "quantity": "2", "note": ""}));
}

#[test]
fn a_page_and_a_template_that_never_ends() {
    let mut rig = Rig::new();
    assert_eq!(body(&rig.get("/help", &Identity::default())), "help for a visitor at /shop/help");
    let page = rig.get("/endless", &Identity::default());
    assert_eq!((page.response.status, body(&page)), (500, "error 500 The page could not be made."));
    assert_eq!(rig.replica.counters().faults, 1);
    assert!(rig.faults[0].contains("fuel"), "{:?}", rig.faults);
}
