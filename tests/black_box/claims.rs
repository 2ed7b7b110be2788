//! The claim chart of a running appliance, `check`, and the admin interface around them.

use crate::support::appliance::{Setup, shared};
use crate::support::program::{run, twintier};

#[test]
fn every_element_of_the_claim_holds() {
    let appliance = shared();
    let chart = run(&mut appliance.ask("claim"));
    assert_eq!(chart.code, Some(0), "{chart:?}");
    assert!(!chart.stdout.contains("FAILS"), "{}", chart.stdout);
    assert!(chart.stdout.ends_with("Every element of the claim holds.\n"), "{}", chart.stdout);
    let chart = run(appliance.ask("claim").arg("--json"));
    assert_eq!(chart.code, Some(0));
    let chart: serde_json::Value = serde_json::from_str(&chart.stdout).unwrap();
    let elements = chart["elements"].as_array().unwrap();
    assert!(elements.len() >= 12, "{} elements", elements.len());
    for element in elements {
        assert_eq!(element["holds"], true, "{element}");
        assert!(!element["evidence"].as_array().unwrap().is_empty(), "{element}");
    }
}

#[test]
fn an_element_that_does_not_hold_exits_1() {
    let appliance = Setup::shipped().start();
    // With every replica stopped nothing can be executed or compared.
    for replica in 0..2 {
        assert_eq!(appliance.admin("POST", &format!("/servers/replica/{replica}/stop")).status, 200);
    }
    let mut browser = appliance.visitor();
    let answer = browser.page("/reqcat/");
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("1")));
    let chart = run(&mut appliance.ask("claim"));
    assert_eq!(chart.code, Some(1), "{chart:?}");
    assert!(chart.stdout.contains("FAILS"), "{}", chart.stdout);
    for replica in 0..2 {
        appliance.admin("POST", &format!("/servers/replica/{replica}/start"));
    }
    crate::support::eventually("the way back", || (appliance.visitor().page("/reqcat/").status == 200).then_some(()));
}

#[test]
fn nobody_to_ask_is_an_operating_failure() {
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let failed = run(twintier().args(["claim", "--admin", &address]));
    assert_eq!(failed.code, Some(1), "{failed:?}");
    assert!(failed.stderr.contains(&address) && failed.stderr.lines().count() == 1, "{failed:?}");
}

#[test]
fn check_finds_the_shipped_profiles_sound() {
    for profile in ["profiles/quickstart.toml", "profiles/bare-metal.toml"] {
        let checked = run(twintier().args(["check", "--profile", profile]));
        assert_eq!(checked.code, Some(0), "{checked:?}");
        assert!(checked.stdout.starts_with(&format!("profile {profile} is sound\nplacement: ")), "{}", checked.stdout);
        for part in ["\ncost\n", "\nstatements\n", "\ncode of reqcat (", "\n  authority\n", "  requisition ("] {
            assert!(checked.stdout.contains(part), "{part:?} is missing: {}", checked.stdout);
        }
    }
}

#[test]
fn the_admin_interface_answers() {
    let appliance = shared();
    let metrics = appliance.admin("GET", "/metrics");
    assert_eq!(metrics.header("content-type"), Some("text/plain; version=0.0.4"));
    for line in metrics.text().lines().filter(|line| !line.starts_with('#')) {
        let (name, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("no sample: {line}"));
        assert!(name.starts_with("twintier_") && value.parse::<f64>().is_ok(), "{line}");
    }
    let console = appliance.admin("GET", "/");
    assert!(console.status == 200 && console.text().starts_with("<!doctype html>"));
    assert_eq!(appliance.admin("GET", "/nowhere").status, 404);
    assert_eq!(appliance.admin("POST", "/status").status, 405);
    let status = appliance.status();
    let import = &status["storage"]["imports"][0];
    assert_eq!(
        (&import["state"], &import["read"], &import["rejected"]),
        (&"done".into(), &60.into(), &0.into()),
        "{import}"
    );
}

#[test]
fn a_token_guards_the_admin_interface() {
    let setup = Setup::shipped().set("listen.admin_token", "s3cret");
    let mut program = crate::support::program::Program::start(&mut setup.command("serve"));
    let admin = program.ready("admin");
    let refused = run(twintier().args(["claim", "--admin", &admin]));
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.stderr.contains("401"), "{refused:?}");
    let wrong = run(twintier().args(["claim", "--admin", &admin, "--token", "guess"]));
    assert_eq!(wrong.code, Some(1), "{wrong:?}");
    let right = run(twintier().args(["claim", "--admin", &admin, "--token", "s3cret", "--json"]));
    assert!(right.stdout.contains("\"elements\""), "{right:?}");
}
