//! Two appliances on one PostgreSQL: one site.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use serde_json::Value;

use crate::journeys::row_when;
use crate::postgres_server::{self, Cluster};
use crate::support::appliance::{Appliance, Setup, deadline};
use crate::support::browser::Browser;
use crate::support::eventually;
use crate::support::origin::{Origin, Said};
use crate::support::program::{Program, run, twintier};

/// A back-end server that counts orders by idempotency key, and does not answer while it is told so.
struct Suppliers {
    origin: Origin,
    orders: Arc<Mutex<BTreeMap<String, (usize, String)>>>,
    silent: Arc<Mutex<bool>>,
}

impl Suppliers {
    fn start() -> Self {
        let orders = Arc::<Mutex<BTreeMap<String, (usize, String)>>>::default();
        let silent = Arc::<Mutex<bool>>::default();
        let (known, quiet) = (orders.clone(), silent.clone());
        let origin = Origin::tcp(move |asked| {
            let key = asked.header("idempotency-key").unwrap().to_owned();
            let body = String::from_utf8_lossy(&asked.body).into_owned();
            {
                let mut orders = known.lock().unwrap();
                let order = orders.entry(key).or_insert_with(|| (0, body.clone()));
                order.0 += 1;
                assert_eq!(order.1, body, "the same key, another order");
            }
            if *quiet.lock().unwrap() { Said::last("") } else { Said::ok("taken") }
        });
        Self { origin, orders, silent }
    }

    fn orders(&self, key: &str) -> usize {
        self.orders.lock().unwrap().get(key).map_or(0, |(times, _)| *times)
    }
}

/// The key of a requisition's order.
fn key(path: &str) -> String {
    format!("requisition/{}/requisition-submit", path.rsplit('/').next().unwrap())
}

fn setup(server: &Cluster, schema: &str, name: &str, suppliers: &Suppliers) -> Setup {
    Setup::shipped()
        .set("cluster.name", name)
        .set("database.kind", "postgres")
        .set("database.url", &server.url("twintier"))
        .set("database.schema", schema)
        .set("backends.suppliers", &suppliers.origin.address)
}

/// Both at once on an empty database.
fn start_both(server: &Cluster, schema: &str, suppliers: &Suppliers) -> (Appliance, Appliance) {
    std::thread::scope(|scope| {
        let [one, other] =
            ["north", "south"].map(|name| scope.spawn(move || setup(server, schema, name, suppliers).start()));
        (one.join().unwrap(), other.join().unwrap())
    })
}

/// The same person at another appliance.
fn at(appliance: &Appliance, browser: &Browser) -> Browser {
    let mut there = appliance.visitor();
    there.cookies = browser.cookies.clone();
    assert_eq!(there.page("/reqcat/requisitions").status, 200, "the session counts here as well");
    there
}

fn digests(appliance: &Appliance) -> BTreeMap<String, Value> {
    let replication = appliance.settle();
    let tables = replication["replicas"][0]["tables"].as_array().unwrap().clone();
    tables.iter().map(|table| (table["table"].as_str().unwrap().to_owned(), table["digest"].clone())).collect()
}

#[track_caller]
fn agree(one: &Appliance, other: &Appliance) {
    eventually("the same rows at both", || (digests(one) == digests(other)).then_some(()));
}

#[test]
fn two_appliances_on_one_database_are_one_site() {
    let Some(server) = postgres_server::shared() else { return };
    let schema = postgres_server::unique("site");
    let suppliers = Suppliers::start();
    let (one, other) = start_both(server, &schema, &suppliers);
    let imports = || [&one, &other].map(|appliance| appliance.status()["storage"]["imports"].as_array().unwrap().len());
    assert_eq!(imports().iter().sum::<usize>(), 1, "one fills the catalog for both");
    agree(&one, &other);

    // A session and a row of one are the other's.
    let mut alice = one.user("alice");
    let path = alice.draft("item-03", "2");
    let mut alice_there = at(&other, &alice);
    let row = row_when(&mut alice_there, &path, "the draft at the other", |_| true);
    assert_eq!(row["quantity"], 2);

    // Both edit one row as fast as they can, twenty times and until one edit came through: none that was answered is lost.
    let change = |mut browser: Browser, who: &'static str| {
        let path = path.clone();
        move || -> BTreeSet<String> {
            let mut accepted = BTreeSet::new();
            let until = deadline();
            let mut number = 0;
            while number < 20 || accepted.is_empty() {
                assert!(Instant::now() < until, "no edit {who} came through");
                number += 1;
                let reason = format!("edit {number} {who}");
                let answer = browser.post(&format!("{path}/edit"), &[("quantity", "2"), ("reason", &reason)]);
                assert!([303, 409].contains(&answer.status), "{}", answer.text());
                if answer.status == 303 {
                    accepted.insert(reason);
                }
            }
            accepted
        }
    };
    let edit = alice.another_connection();
    let mut edit_there = alice_there.another_connection();
    edit_there.page(&format!("{path}/edit"));
    let (here, there) = std::thread::scope(|scope| {
        let (here, there) = (scope.spawn(change(edit, "here")), scope.spawn(change(edit_there, "there")));
        (here.join().unwrap(), there.join().unwrap())
    });
    agree(&one, &other);
    let last = alice.data(&path).json()["row"]["reason"].as_str().unwrap().to_owned();
    assert!(here.contains(&last) || there.contains(&last), "`{last}` was acknowledged");
    let mut client = server.client("twintier");
    let lines = format!(
        "SELECT count(*) FROM \"{schema}\".change_log WHERE table_name = 'requisition' AND key = $1 AND record LIKE '%edit %'"
    );
    let written: i64 = client.query_one(&lines, &[&path.rsplit('/').next().unwrap()]).unwrap().get(0);
    assert_eq!(usize::try_from(written).unwrap(), here.len() + there.len(), "each acknowledged edit is a commit");

    // Submits at both: every requisition has a number of its own.
    let submit = |mut browser: Browser| {
        move || -> Vec<String> {
            let submitted = (0..10).map(|_| {
                let path = browser.draft("item-10", "1");
                assert_eq!(browser.post(&format!("{path}/submit"), &[]).status, 202);
                path
            });
            submitted.collect()
        }
    };
    let (submit_here, submit_there) = (alice.another_connection(), alice_there.another_connection());
    let paths = std::thread::scope(|scope| {
        let (here, there) = (scope.spawn(submit(submit_here)), scope.spawn(submit(submit_there)));
        [here.join().unwrap(), there.join().unwrap()].concat()
    });
    let numbers: BTreeSet<String> = paths
        .iter()
        .map(|path| {
            let row = row_when(&mut alice_there, path, "a posted requisition", |row| row["posting"] == "posted");
            row["number"].as_str().unwrap().to_owned()
        })
        .collect();
    assert_eq!(numbers.len(), paths.len(), "{numbers:?}");
    paths.iter().for_each(|path| assert_eq!(suppliers.orders(&key(path)), 1, "{path}"));

    // A deploy of one is served by the other, under the same version.
    let next = crate::support::site::shipped();
    next.edit("reqcat/code/templates/browse.html", "<h1>", "<h1>Newest: ");
    let done = run(one.ask("deploy").arg(next.path("reqcat/code")));
    assert_eq!(done.code, Some(0), "{done:?}");
    eventually("the deploy at the other", || {
        let page = other.visitor().page("/reqcat/").text();
        (page.contains("<h1>Newest: Catalog") && page.contains("Code version 2")).then_some(())
    });
    // And the other's next one counts on.
    eventually("the other has taken note of it", || (other.status()["code_version"] == 2).then_some(()));
    let done = run(other.ask("deploy").arg(next.path("reqcat/code")));
    assert!(done.stdout.contains("\"version\": 3"), "{done:?}");
    eventually("the next deploy at the first", || (one.status()["code_version"] == 3).then_some(()));

    // Each says who is there and how far it is.
    let appliances = eventually("two alive", || {
        let appliances = one.status()["appliances"].clone();
        (appliances["alive"] == 2 && appliances["behind"] == 0).then_some(appliances)
    });
    let names: BTreeSet<&str> =
        appliances["members"].as_array().unwrap().iter().map(|member| member["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["north", "south"].into());

    // One balancer in front, and whoever is behind it.
    let to = format!("{},{}", one.http, other.http);
    let mut balancer = Program::start(twintier().args(["proxy", "--listen", "127.0.0.1:0", "--to", &to]));
    let front = balancer.ready("proxy").parse().unwrap();
    let mut carol = Browser::signed_in(front, "carol");
    for _ in 0..8 {
        assert_eq!(carol.page("/directory/").status, 200);
    }
    assert!(executed(&one) > 0 && executed(&other) > 0);
    assert_eq!(imports().iter().sum::<usize>(), 1, "also whoever was late");
}

fn executed(appliance: &Appliance) -> u64 {
    appliance.executed().iter().sum()
}

#[test]
fn the_work_of_an_appliance_that_is_killed_is_finished_by_the_other() {
    let Some(server) = postgres_server::shared() else { return };
    let schema = postgres_server::unique("heir");
    let suppliers = Suppliers::start();
    let (one, other) = start_both(server, &schema, &suppliers);
    let mut alice = one.user("alice");
    *suppliers.silent.lock().unwrap() = true;
    let paths: Vec<String> = (0..3)
        .map(|_| {
            let path = alice.draft("item-10", "1");
            assert_eq!(alice.post(&format!("{path}/submit"), &[]).status, 202);
            path
        })
        .collect();
    eventually("orders at the back-end server", || {
        paths.iter().all(|path| suppliers.orders(&key(path)) > 0).then_some(())
    });
    let mut alice_there = at(&other, &alice);
    let mut one = one;
    one.program.kill();
    *suppliers.silent.lock().unwrap() = false;
    for path in &paths {
        let row = row_when(&mut alice_there, path, "posted by the heir", |row| row["posting"] == "posted");
        assert!(row["number"].as_str().is_some_and(|number| number.starts_with("REQ-")), "{row}");
    }
    // It is counted after it is ordered.
    eventually("what was taken over", || (other.status()["appliances"]["taken_over"] == 3).then_some(()));
    let orders = suppliers.orders.lock().unwrap().len();
    assert_eq!(orders, paths.len(), "no order under another key");

    // It comes back, takes nothing a second time, and agrees.
    let edited = alice_there.draft("item-11", "1");
    let one = one.again();
    agree(&one, &other);
    let mut alice = at(&one, &alice_there);
    row_when(&mut alice, &edited, "what was written meanwhile", |_| true);
    assert_eq!(one.status()["appliances"]["taken_over"], 0, "{}", one.program.stderr());

    // A role that is revoked at one is revoked at the other before long.
    let mut carol = other.user("carol");
    let mut bob = one.user("bob");
    assert_eq!(bob.page("/reqcat/approvals").status, 200);
    let fields =
        [("name", "Bob"), ("department", "IT"), ("email", "bob@example.com"), ("roles", "employee"), ("active", "yes")];
    let answer = carol.post("/directory/employees/bob", &fields);
    assert_eq!(answer.status, 303, "{}", answer.text());
    eventually("the revocation at the other", || (bob.page("/reqcat/approvals").status == 403).then_some(()));

    // The database away and back again: both go on, and both are seen alive.
    let closed = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'twintier' AND pid <> pg_backend_pid()";
    server.client("postgres").batch_execute(closed).unwrap();
    let path = eventually("a write after the connections were ended", || {
        let fields = [("item", "item-12"), ("quantity", "1"), ("reason", "after")];
        let answer = alice.post("/reqcat/requisitions", &fields);
        (answer.status == 303).then(|| answer.location().to_owned())
    });
    row_when(&mut alice_there, &path, "the feed goes on", |_| true);
    eventually("both alive again", || (one.status()["appliances"]["alive"] == 2).then_some(()));
}
