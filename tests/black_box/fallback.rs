//! Where io_uring is blocked, as container runtimes block it: the same programs on epoll.
//!
//! How: a small C program installs the seccomp filter and becomes the program under test (`support/without_uring.c`);
//! the project needs a C compiler anyway.

use serde_json::json;

use crate::journeys::row_when;
use crate::support::appliance::Setup;
use crate::support::blocked::blocked;
use crate::support::origin::{Origin, Said};
use crate::support::program::{Program, twintier};
use crate::support::site::{COMPILERS, Folder};
use crate::support::wire::Wire;

#[test]
fn the_appliance_does_its_main_job_on_epoll() {
    let suppliers = Origin::tcp(|_| Said::ok("taken"));
    let setup = Setup::shipped().set("backends.suppliers", &suppliers.address);
    // The catalog was imported by the storage thread's second executor when this returns.
    let mut appliance = setup.without_uring().start();
    assert_eq!(appliance.program.ready("engine"), "monoio-epoll");
    let status = appliance.status();
    assert_eq!((&status["engine"], &status["storage"]["executor"]), (&json!("monoio-epoll"), &json!("monoio-epoll")));
    let reason = status["engine_reason"].as_str().unwrap();
    assert!(reason.starts_with("the engine is `monoio-epoll`, because `uring` and `monoio` fail: "), "{reason}");
    assert!(reason.contains("kernel.io_uring_disabled=0"), "the cure is named: {reason}");
    let said = appliance.program.stderr();
    assert!(said.contains(&format!("engine=monoio-epoll reason=\"{reason}\"")), "{said}");
    assert!(said.contains("the storage thread runs on epoll"), "{said}");

    let mut alice = appliance.user("alice");
    assert_eq!(alice.data("/reqcat/?words=compiler%20optimi").json()["total"], json!(COMPILERS));
    let path = alice.draft("item-03", "7");
    assert_eq!(alice.post(&format!("{path}/submit"), &[]).status, 202);
    row_when(&mut alice, &path, "the posted requisition", |row| row["posting"] == "posted");
    assert_eq!(suppliers.asked().len(), 1);
    let mut bob = appliance.user("bob");
    row_when(&mut bob, &path, "the requisition for the approver", |row| row["posting"] == "posted");
    assert_eq!(bob.post(&format!("{path}/approve"), &[]).status, 303);
    row_when(&mut alice, &path, "the approval", |row| row["state"] == "approved");
    appliance.settle();

    // The file server watches and publishes.
    let statements = appliance.setup.folder.read("site.statements");
    appliance.setup.folder.replace("site.statements", format!("{statements}\n# changed\n"));
    appliance.says("\"the statements are in force\" version=2");

    let workers = appliance.status()["workers"].clone();
    for worker in workers.as_array().unwrap() {
        let engine = &worker["engine"];
        assert!(engine["turns"].as_u64() > Some(0) && engine["enters"].as_u64() > Some(0), "{engine}");
    }
    appliance.program.signal("TERM");
    let ended = appliance.program.ended();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
}

#[test]
fn the_proxy_relays_on_epoll_and_says_why() {
    let origin = Origin::tcp(|asked| Said::ok(asked.path.clone()));
    let folder = Folder::new();
    let mut command = blocked(&folder, &twintier());
    command.args(["proxy", "--listen", "127.0.0.1:0", "--to", &origin.address]);
    let mut proxy = Program::start(&mut command);
    let address = proxy.ready("proxy").parse().unwrap();
    assert_eq!(proxy.ready("engine"), "monoio-epoll");
    let mut wire = Wire::open(address);
    for path in ["/one", "/two", "/three"] {
        let answer = wire.get(path);
        assert_eq!((answer.status, answer.text()), (200, path.to_owned()));
    }
    assert!(proxy.stderr().contains("allow io_uring_setup"), "{}", proxy.stderr());
    proxy.signal("TERM");
    assert_eq!(proxy.ended().code, Some(0));
}

#[test]
fn an_engine_that_is_asked_for_is_taken_or_refused() {
    let folder = Folder::new();
    let origin = Origin::tcp(|_| Said::ok("here"));
    for engine in ["uring", "monoio", "monoio-epoll"] {
        let mut command = twintier();
        command.args(["proxy", "--listen", "127.0.0.1:0", "--engine", engine, "--to", &origin.address]);
        let mut proxy = Program::start(&mut command);
        let address = proxy.ready("proxy").parse().unwrap();
        assert_eq!(proxy.ready("engine"), engine);
        assert_eq!(Wire::open(address).get("/").text(), "here");
    }
    let mut command = blocked(&folder, &twintier());
    command.args(["forward", "--listen", "127.0.0.1:0", "--engine", "uring", "--to", &origin.address]);
    let ended = Program::start(&mut command).ended();
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(1), ""));
    assert!(ended.stderr.contains("io_uring is blocked here"), "{}", ended.stderr);
    let mut command = twintier();
    command.args(["origin", "--listen", "127.0.0.1:0", "--engine", "epoll"]);
    let ended = Program::start(&mut command).ended();
    assert_eq!(ended.code, Some(2));
    assert!(ended.stderr.contains("`epoll` is no engine: write auto, uring, monoio"), "{}", ended.stderr);
}
