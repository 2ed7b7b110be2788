//! Who may do what: roles, sessions, CSRF tokens, passwords.

use super::fixture::{DECOY, Rig, UNIX_MS, body, identity, session_key};
use crate::authority::session::Identity;
use crate::http1::Method;
use crate::replica::job::{Accept, SessionChange};

/// Every role × code table × verb, by what the answer's status tells: `+` allowed, `-` not.
#[test]
fn every_role_and_code_table() {
    let codes: [(Method, &str); 13] = [
        (Method::Get, "/items"),
        (Method::Get, "/items/bolt"),
        (Method::Get, "/help"),
        (Method::Get, "/mine"),
        (Method::Get, "/orders/none"),
        (Method::Get, "/sign-in"),
        (Method::Get, "/items/bolt/order"),
        (Method::Post, "/sign-in"),
        (Method::Post, "/orders"),
        (Method::Post, "/orders/none/submit"),
        (Method::Post, "/orders/none/approve"),
        (Method::Post, "/items/none/local"),
        (Method::Post, "/sign-out"),
    ];
    for (user, expected) in [
        ("", "+++--+-+-----"),
        ("dan", "++++-+-+----+"),
        ("ann", "++++++++++--+"),
        ("bob", "+++++++++++-+"),
        ("cat", "++++-+-+---++"),
        ("eve", "+++--+-+-----"),
        ("nobody", "+++--+-+-----"),
    ] {
        let mut rig = Rig::new();
        let visitor = matches!(user, "" | "eve" | "nobody");
        for (accept, refused) in
            [(Accept::Html, if visitor { 303 } else { 403 }), (Accept::Json, if visitor { 401 } else { 403 })]
        {
            for ((method, target), expected) in codes.iter().zip(expected.chars()) {
                // A session for each, since signing out ends it.
                let who = identity(user, 5 + u128::from(accept == Accept::Json));
                let mut job = Rig::post(target, &who, "");
                (job.method, job.accept) = (*method, accept);
                let job = rig.run(job);
                let status = job.response.status;
                let allowed = match (status, accept) {
                    (401 | 403, _) => false,
                    (303, Accept::Html) => !job.response.location.starts_with("/shop/sign-in?next="),
                    (_, _) => true,
                };
                assert_eq!(allowed, expected == '+', "{user:?} {method:?} {target} {accept:?}: {status}");
                assert!(allowed || status == refused, "{user:?} {method:?} {target} {accept:?}: {status}");
            }
        }
    }
}

#[test]
fn visitors_are_sent_to_sign_in_and_back() {
    let mut rig = Rig::new();
    let page = rig.get("/orders/a b?x=1&y=%20", &Identity::default());
    assert_eq!(page.response.location, "/shop/sign-in?next=%2Fshop%2Forders%2Fa%2520b%3Fx%3D1%26y%3D%2520");
    let page = rig.run(Rig::post("/orders", &identity("", 4), ""));
    assert_eq!(page.response.location, "/shop/sign-in?next=%2Fshop%2F");
}

#[test]
fn csrf_tokens() {
    let ann = identity("ann", 1);
    let other = identity("ann", 2);
    let mut rig = Rig::new();
    let fields = "item=bolt&quantity=1";
    for (token, header, status) in [
        (ann.csrf.as_str(), "", 303),
        ("", ann.csrf.as_str(), 303),
        ("", "", 403),
        (other.csrf.as_str(), "", 403),
        (other.csrf.as_str(), ann.csrf.as_str(), 403),
        ("x", "", 403),
    ] {
        let mut job = Rig::post("/orders", &ann, fields);
        job.body = if token.is_empty() { fields.into() } else { format!("csrf={token}&{fields}").into_bytes() };
        job.csrf_header = header.to_owned();
        assert_eq!(rig.run(job).response.status, status, "{token} {header}");
    }
    // A visitor without a session cannot sign in: the form gives a session first.
    let job = rig.run(Rig::post("/sign-in", &Identity::default(), "user=ann&password=password"));
    assert_eq!(job.response.status, 403);
    let mut job = Rig::post("/orders", &ann, "");
    job.content_type = "text/plain".into();
    assert_eq!(rig.run(job).response.status, 415);
}

#[test]
fn signing_in() {
    let visitor = identity("", 9);
    let mut rig = Rig::new();
    for (next, location) in [
        ("", "/shop/items"),
        ("/shop/mine?page=2", "/shop/mine?page=2"),
        ("//evil.example", "/shop/items"),
        ("https://evil.example/", "/shop/items"),
        ("/\\evil", "/shop/items"),
    ] {
        let mut fields = String::from("user=+ann+&password=password&next=");
        crate::http1::form::encode(next, &mut fields);
        let job = rig.run(Rig::post("/sign-in", &visitor, &fields));
        assert_eq!((job.response.status, job.response.location.as_str()), (303, location), "{next}");
        assert_eq!(job.response.session, SessionChange::Begin { user: "ann".into() });
    }
    let mut job = Rig::post("/sign-in", &visitor, "");
    job.content_type = "application/json".into();
    job.csrf_header = visitor.csrf.clone();
    job.body = br#"{"user":"ann","password":"password"}"#.to_vec();
    job.accept = Accept::Json;
    let job = rig.run(job);
    assert_eq!((job.response.status, body(&job)), (200, r#"{"user":"ann","location":"/shop/items"}"#));
}

#[test]
fn wrong_passwords_and_unknown_users_look_alike() {
    let visitor = identity("", 9);
    let mut rig = Rig::new();
    let mut answers = Vec::new();
    for user in ["ann", "nobody", "eve"] {
        let password = if user == "ann" { "wrong" } else { "password" };
        rig.start(Rig::post("/sign-in", &visitor, &format!("user={user}&password={password}&next=/shop/mine")));
        let hash = rig.passwords[0].1.to_string();
        assert_eq!(hash, if user == "ann" { "hash of ann" } else { DECOY }, "a check happens for {user} too");
        rig.settle();
        let job = rig.finished.pop_front().expect("answered");
        assert_eq!((job.response.status, &job.response.session), (422, &SessionChange::None));
        answers.push(body(&job).replace(user, "USER"));
    }
    assert!(answers[0].contains("!password: The name or the password is wrong."), "{}", answers[0]);
    assert!(answers[0].contains("next=/shop/mine") && !answers[0].contains("wrong;"), "{}", answers[0]);
    assert!(answers.iter().all(|answer| *answer == answers[0]));
    let job = rig.run(Rig::post("/sign-in", &visitor, "user=ann"));
    assert!(body(&job).contains("!password: This is needed."));
}

#[test]
fn signing_out_refuses_the_old_cookie() {
    let mut rig = Rig::new();
    let ann = identity("ann", 1);
    assert_eq!(rig.get("/mine", &ann).response.status, 200);
    let job = rig.run(Rig::post("/sign-out", &ann, ""));
    assert_eq!((job.response.status, &job.response.session), (303, &SessionChange::End));
    let page = rig.get("/mine", &ann);
    assert_eq!((page.response.status, page.response.location.as_str()), (303, "/shop/sign-in?next=%2Fshop%2Fmine"));
    assert_eq!(rig.run(Rig::post("/orders", &ann, "item=bolt&quantity=1")).response.status, 303);
    assert_eq!(rig.get("/mine", &identity("ann", 2)).response.status, 200, "another session of the same user goes on");
    let ended = rig.stored.values().find(|row| *row.key == *ann.session).expect("stored");
    let expires = ended.record.as_ref().map(|record| record.get(0).clone());
    assert_eq!(expires, Some(crate::tables::Value::Integer(i64::try_from(UNIX_MS + 3_600_000).expect("fits"))));
    let forged = session_key().verify("v1.0.0.0.0", UNIX_MS);
    assert!(forged.is_err());
}
